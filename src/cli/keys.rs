//! `keys`: shows, certifies, rotates and erases keys, and says what is left to do.
//! It needs no daemon; what is done is the protect and backup rooms' business.

use std::fmt::Write as _;

use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use secrecy::SecretString;

use super::args::Output;
use super::confirm::confirm;
use super::console::{Console, Paint};
use super::error::CliError;
use super::human::counted;
use super::output;
use super::table::{Table, cell};
use crate::backup::{Identity, NodeStatement, PublicKey, Removal, RootKey};
use crate::daemon;
use crate::host::{clock, files};
use crate::layout::Layout;
use crate::node::{KeyFiles, NodeSettings, StoreSettings};
use crate::protect::{
    Erasure, ErasureStatus, KeyReport, Rotated, erase_keys, rotate_keys, show_keys,
};
use crate::tenant::TenantId;

/// Longest key, statement or identity file.
const LIMIT: u64 = 64 * 1024;

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Show this host's keys: root, node, epoch, and for whom each repository's keys are wrapped.
    #[command(after_help = "Examples:\n  tenantd keys show\n  \
                            tenantd keys show --json | jq '.erasures[] | select(.status == \"pending\")'")]
    Show(Output),
    /// Certify a node with the root key: makes what `tenantd init --certificate` takes.
    ///
    /// It is made where the root key is, away from all nodes, and asks nobody. Of two nodes that write to one
    /// repository, a restore believes the one of the higher epoch.
    #[command(after_help = "Examples:\n  \
                            tenantd keys certify --root-key root node.json > node.certificate\n  \
                            tenantd keys certify --root-key root node.pub --epoch 1800000000")]
    Certify(CertifyArgs),
    /// Wrap the keys of all repositories, or of some tenants', for the recipients of node.toml, and only them.
    ///
    /// First change `recipients` under [keys] in node.toml. Packs and snapshots stay as they are: one small object
    /// of each repository is replaced. Whoever has kept an old one can still open what was stored until now.
    #[command(
        after_help = "Examples:\n  tenantd keys rotate --identity key.txt --dry-run\n  \
                            tenantd keys rotate --identity key.txt --credentials admin.key --yes"
    )]
    Rotate(RotateArgs),
    /// Erase a tenant that was removed: delete what its backups can be read with, for ever.
    ///
    /// Nobody can read its snapshots then, with whatever key. What Object Lock holds, or the store's key may
    /// not delete, is shown as `erasure pending` by `tenantd keys show`; the same command goes on with it.
    #[command(after_help = "Examples:\n  tenantd keys erase acme --dry-run\n  \
                            tenantd keys erase acme --credentials admin.key --yes")]
    Erase(EraseArgs),
}

/// `keys certify`.
#[derive(Debug, Args)]
pub struct CertifyArgs {
    /// The node's statement (`node.json`, which `tenantd init` writes), or its public key: `ssh-ed25519 …`, or a
    /// file that holds it.
    #[arg(value_name = "NODE")]
    pub node: String,
    /// The file with the root key's private half.
    #[arg(long, value_name = "FILE")]
    pub root_key: Utf8PathBuf,
    /// The epoch; default: the statement's, or for a bare key the seconds since 1970, which is higher than
    /// that of any node that was made before.
    #[arg(long, value_name = "N")]
    pub epoch: Option<u32>,
    /// Write the certificate into this file instead of printing it.
    #[arg(long, value_name = "FILE")]
    pub to: Option<Utf8PathBuf>,
}

/// `keys rotate`.
#[derive(Debug, Args)]
pub struct RotateArgs {
    /// Only these tenants'; default: all, and the node's.
    #[arg(value_name = "TENANT")]
    pub tenants: Vec<TenantId>,
    /// A file with an identity that opens the keys as they are now; default: the one on this host.
    #[arg(long, value_name = "FILE")]
    pub identity: Option<Utf8PathBuf>,
    #[command(flatten)]
    pub how: Removing,
}

/// `keys erase`.
#[derive(Debug, Args)]
pub struct EraseArgs {
    /// The tenant's id.
    pub tenant: TenantId,
    #[command(flatten)]
    pub how: Removing,
}

/// How something is removed from the store.
#[derive(Debug, Args)]
pub struct Removing {
    /// A file with two lines: id and secret of a key that may delete; default: the host's own, which
    /// should not be able to.
    #[arg(long, value_name = "FILE")]
    pub credentials: Option<Utf8PathBuf>,
    /// Say what would be done, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub output: Output,
}

impl Removing {
    fn store(&self, settings: &NodeSettings) -> StoreSettings {
        let mut store = settings.store.clone();
        if self.credentials.is_some() {
            store.credentials.clone_from(&self.credentials);
        }
        store
    }

    fn confirm(&self, what: &str) -> Result<(), CliError> {
        if self.yes || self.dry_run {
            return Ok(());
        }
        confirm(what)
    }
}

/// Runs the command.
pub async fn run(console: Console, layout: &Layout, command: KeysCommand) -> Result<(), CliError> {
    match command {
        KeysCommand::Show(output) => {
            let report = show_keys(layout, &daemon::read_settings(layout)?)?;
            if output.json {
                return console.print(&output::json(&report));
            }
            console.print(&shown(&report, console.out))
        }
        KeysCommand::Certify(args) => certify(console, &args),
        KeysCommand::Rotate(args) => rotate(console, layout, args).await,
        KeysCommand::Erase(args) => erase(console, layout, args).await,
    }
}

fn certify(console: Console, args: &CertifyArgs) -> Result<(), CliError> {
    let root = SecretString::from(text(&args.root_key)?);
    let root = RootKey::from_openssh(&root).map_err(CliError::Signing)?;
    let (node, epoch) = node(&args.node, args.epoch, clock::now())?;
    let certificate = root.certify(&node, epoch).map_err(CliError::Signing)?;
    match &args.to {
        None => console.print(&certificate.to_text()),
        Some(path) => {
            files::write(path, certificate.to_text().as_bytes(), 0o644)?;
            console.tell(&format!(
                "Certified {} for epoch {epoch}. On the node: tenantd init --certificate {path}\n",
                node.fingerprint()
            ));
            Ok(())
        }
    }
}

/// The key that is to be certified, and for which epoch.
fn node(given: &str, epoch: Option<u32>, now: Timestamp) -> Result<(PublicKey, u32), CliError> {
    let text = if given.starts_with("ssh-") {
        given.to_owned()
    } else {
        text(Utf8Path::new(given))?
    };
    if let Ok(statement) = NodeStatement::from_line(&text) {
        let epoch = epoch.unwrap_or(statement.epoch);
        return Ok((statement.key, epoch));
    }
    let key: PublicKey = text.parse().map_err(CliError::Signing)?;
    let next = u32::try_from(now.as_second()).unwrap_or(1);
    Ok((key, epoch.unwrap_or(next)))
}

async fn rotate(console: Console, layout: &Layout, args: RotateArgs) -> Result<(), CliError> {
    let settings = daemon::read_settings(layout)?;
    let identity = match &args.identity {
        Some(path) => {
            let text = SecretString::from(text(path)?);
            Some(Identity::from_text(&text).map_err(CliError::Identity)?)
        }
        None => KeyFiles::new(layout).operator_identity(None)?,
    };
    let identity = identity.ok_or_else(|| {
        let wanted = "no identity is on this host; give --identity FILE, one that opens the keys as they are now";
        CliError::Usage(wanted.to_owned())
    })?;
    let recipients = settings.keys.recipients.join(", ");
    args.how.confirm(&format!(
        "This wraps the keys for {recipients}, and deletes those that are wrapped for others."
    ))?;
    let store = args.how.store(&settings);
    let dry_run = args.how.dry_run;
    let rotated = rotate_keys(layout, &settings, &store, &args.tenants, &identity, dry_run).await?;
    if args.how.output.json {
        return console.print(&output::json(&rotated));
    }
    console.print(&rotated_shown(&rotated, dry_run, console.out))
}

async fn erase(console: Console, layout: &Layout, args: EraseArgs) -> Result<(), CliError> {
    let settings = daemon::read_settings(layout)?;
    let (tenant, dry_run) = (&args.tenant, args.how.dry_run);
    args.how.confirm(&format!(
        "This makes all backups of {tenant} unreadable for ever, for everybody."
    ))?;
    let store = args.how.store(&settings);
    let erasure = erase_keys(layout, &store, tenant, dry_run).await?;
    if args.how.output.json {
        return console.print(&output::json(&erasure));
    }
    console.print(&erased(&erasure, dry_run))
}

fn text(path: &Utf8Path) -> Result<String, CliError> {
    let bytes = files::read(path, LIMIT)?;
    String::from_utf8(bytes).map_err(|_| CliError::NotText(path.to_string()))
}

fn shown(report: &KeyReport, paint: Paint) -> String {
    let mut text = format!("Root key    {}\n", report.root);
    match (&report.node, &report.fault) {
        (Some(node), _) => {
            let _ = writeln!(text, "Node key    {}", node.key);
            let _ = writeln!(
                text,
                "            {}, epoch {}",
                node.fingerprint, node.epoch
            );
        }
        (None, fault) => {
            let fault = fault.as_deref().unwrap_or("there is none");
            let _ = writeln!(text, "Node key    {}: {fault}", paint.bad("unusable"));
        }
    }
    for (at, recipient) in report.recipients.iter().enumerate() {
        let label = if at == 0 { "Recipients" } else { "" };
        let _ = writeln!(text, "{label:<12}{recipient}");
    }
    let identity = if report.identity_on_host {
        "on this host: it reads all backups"
    } else {
        "not on this host: a restore wants --identity FILE"
    };
    let _ = writeln!(text, "Identity    {identity}");
    for path in &report.operators_keys_on_host {
        let what = paint.warn("the operator's");
        let _ = writeln!(
            text,
            "            {what}: {path}; copy it elsewhere and remove it here"
        );
    }
    if !report.repositories.is_empty() {
        let mut table = Table::new(&["TENANT", "REPOSITORY", "WRAPPED FOR"], paint);
        for one in &report.repositories {
            let wrapped = match (&one.recipients, one.is_current) {
                (Some(_), true) => "the recipients".to_owned(),
                (Some(others), false) => {
                    format!("others: {}; `tenantd keys rotate`", others.join(", "))
                }
                (None, _) => "unknown: another node made it; `tenantd keys rotate`".to_owned(),
            };
            table.row(vec![cell(&one.tenant), cell(one.repository), cell(wrapped)]);
        }
        let _ = write!(text, "\n{}", table.render());
    }
    if !report.erasures.is_empty() {
        let mut table = Table::new(&["ERASED", "REPOSITORY", "ASKED", "STATUS"], paint);
        for one in &report.erasures {
            table.row(vec![
                cell(&one.tenant),
                cell(one.repository),
                cell(one.asked_at.strftime("%Y-%m-%d %H:%M UTC")),
                cell(format!("{}{}", one.status, left(one.last.as_ref()))),
            ]);
        }
        let _ = write!(text, "\n{}", table.render());
    }
    text
}

/// Why something is left, for the end of a sentence.
fn left(removal: Option<&Removal>) -> String {
    let Some(removal) = removal.filter(|removal| !removal.is_complete()) else {
        return String::new();
    };
    let mut why = Vec::new();
    if removal.denied {
        why.push("the store's key may not delete; give --credentials".to_owned());
    }
    if let Some(until) = removal.locked_until {
        why.push(format!(
            "locked until {}",
            until.strftime("%Y-%m-%d %H:%M UTC")
        ));
    }
    if why.is_empty() {
        why.push("the store holds it back".to_owned());
    }
    format!(": {}", why.join(", "))
}

fn rotated_shown(rotated: &[Rotated], dry_run: bool, paint: Paint) -> String {
    let mut table = Table::new(&["TENANT", "REPOSITORY", "KEYS"], paint);
    for one in rotated {
        let removed = counted(
            usize::try_from(one.old.removed).unwrap_or(usize::MAX),
            "object",
        );
        let keys = match (one.is_new, one.old.is_complete()) {
            (false, _) => "as they should be".to_owned(),
            (true, true) => format!("wrapped anew, {removed} of before removed"),
            (true, false) => format!(
                "wrapped anew, those of before still open them{}",
                left(Some(&one.old))
            ),
        };
        table.row(vec![cell(&one.tenant), cell(one.repository), cell(keys)]);
    }
    let mut text = table.render();
    if dry_run {
        text.push_str("Nothing was changed.\n");
    }
    text
}

fn erased(erasure: &Erasure, dry_run: bool) -> String {
    let tenant = &erasure.tenant;
    let removed = erasure.last.map_or(0, |last| last.removed);
    let removed = counted(usize::try_from(removed).unwrap_or(usize::MAX), "key object");
    if dry_run {
        return format!("{removed} of {tenant} would be deleted. Nothing was changed.\n");
    }
    match erasure.status {
        ErasureStatus::Erased => format!(
            "{tenant} is erased: nobody can read its backups any more ({removed} deleted).\n\
             What is left of them goes by the store's own rules, or by hand, below {}/.\n",
            erasure.repository
        ),
        ErasureStatus::Pending => format!(
            "{tenant}: erasure pending{}.\nDo the same again then; `tenantd keys show` remembers.\n",
            left(erasure.last.as_ref())
        ),
    }
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;

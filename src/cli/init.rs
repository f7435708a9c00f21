//! `init`: asks the node room to set the node up, and shows once what can be shown only once.

use std::fmt::Write;

use camino::Utf8Path;
use secrecy::ExposeSecret;
use tokio::runtime::{Builder, Runtime};

use super::args::InitArgs;
use super::console::Console;
use super::error::CliError;
use crate::daemon;
use crate::host::facts::Facts;
use crate::host::systemd::Systemd;
use crate::host::{clock, files, podman};
use crate::layout::Layout;
use crate::node::fitness::{self, Unfit};
use crate::node::{self, GivenRootKey, InitError, InitReport, InitRequest, StoreSettings};

/// Longest key or certificate file.
const LIMIT: u64 = 16 * 1024;

/// Runs the command.
pub fn run(console: Console, layout: &Layout, args: InitArgs) -> Result<(), CliError> {
    let is_set_up = layout.node_toml().exists();
    if let (true, Some(certificate)) = (is_set_up, &args.certificate) {
        return certify(console, layout, certificate);
    }
    if args.certificate.is_some() && args.root_key.is_none() {
        let wanted = "a new node takes a certificate only with --root-key, the key that signed it";
        return Err(CliError::Usage(wanted.to_owned()));
    }
    let root_key = args.root_key.map(|key| text_or_file(&key)).transpose()?;
    let root_key = root_key.map(GivenRootKey::Public);
    runtime()?.block_on(host_is_fit(layout))?;
    let request = InitRequest {
        name: args.name.unwrap_or_else(host_name),
        root_key,
        recipients: args.recipient,
        store: StoreSettings {
            credentials: args.credentials,
            ..args.store.settings()
        },
        allow_missing_controllers: args.allow_missing_controllers,
    };
    let report = node::init(layout, &request, clock::now())?;
    console.print(&shown(&report, layout))?;
    if let Some(certificate) = &args.certificate {
        certify(console, layout, certificate)?;
    }
    Ok(())
}

/// Refuses a host on which no tenant could run, before anything is written.
pub(super) async fn host_is_fit(layout: &Layout) -> Result<(), InitError> {
    fitness::judge(&Facts::gather(layout.root()))?;
    let systemd = Systemd::connect().await.map_err(Unfit::from)?;
    fitness::judge_systemd(&systemd.version().await.map_err(Unfit::from)?)?;
    podman::installed().await.map_err(Unfit::from)?;
    Ok(())
}

fn runtime() -> Result<Runtime, CliError> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(CliError::Runtime)
}

fn certify(console: Console, layout: &Layout, certificate: &Utf8Path) -> Result<(), CliError> {
    let settings = daemon::read_settings(layout)?;
    let bytes = files::read(certificate, LIMIT)?;
    node::install_certificate(layout, &settings, &String::from_utf8_lossy(&bytes))?;
    console.print("The node's key is certified.\n")
}

/// A key as it stands, or the first line of the file it names.
pub(super) fn text_or_file(key: &str) -> Result<String, CliError> {
    if key.starts_with("ssh-") {
        return Ok(key.to_owned());
    }
    let bytes = files::read(Utf8Path::new(key), LIMIT)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn host_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "node".to_owned())
}

fn shown(report: &InitReport, layout: &Layout) -> String {
    let mut text = format!(
        "Wrote {}\nThis node's key: {}\n",
        report.path, report.node_key
    );
    if let Some(root) = &report.root_key {
        let _ = write!(
            text,
            "\nThe operator's root key. Whoever has it can make nodes that yours trust.\n\
             Keep it elsewhere; it is shown only now.\n\n{}",
            root.expose_secret()
        );
    }
    if let Some(identity) = &report.identity {
        let _ = write!(
            text,
            "\nThe operator's identity. Whoever has it can read the backups, and nobody can \
             without.\nKeep it elsewhere; it is shown only now.\n\n{}\n",
            identity.expose_secret()
        );
    }
    if report.root_key.is_some() || report.identity.is_some() {
        let _ = write!(
            text,
            "\nCopies are in {} until you remove them; `tenantd status` reminds you.\n",
            layout.keys_dir()
        );
    }
    if let Some(statement) = &report.unsigned {
        let _ = write!(
            text,
            "\nBackups need your word for this node's key. Where the root key is:\n\
             \n    ssh-keygen -Y sign -f ROOT -n tenantd-node@v1 {statement}\n\
             \nand here:\n\n    tenantd init --certificate {statement}.sig\n"
        );
    }
    text.push_str(
        "\nNext: systemctl start tenantd tenantd-backup.timer tenantd-drill.timer \
         tenantd-prestop-backup tenantd-final-backup\n",
    );
    text
}

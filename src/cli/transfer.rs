//! `export`, `import`: a tenant as one file.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use super::apply::carry_out;
use super::args::{ExportArgs, ImportArgs};
use super::client::Client;
use super::console::Console;
use super::error::CliError;
use super::human::{bytes, counted};
use super::output;
use super::progress;
use crate::api::{ApplyPlan, ApplyRequest, Change, Document};
use crate::daemon;
use crate::layout::Layout;
use crate::protect::{self, Export, Wanted, check_vacant, import_state, read_archive};
use crate::tenant::TenantId;

/// `export`.
pub async fn export(
    client: &Client,
    console: Console,
    layout: &Layout,
    args: ExportArgs,
) -> Result<(), CliError> {
    let identity = args.identity.read()?;
    let settings = daemon::read_settings(layout)?;
    let path = format!("/v1/tenants/{}/spec", args.tenant);
    let spec: Document = client.get(&path).await?;
    let out: Box<dyn Write + Send> = match &args.file {
        Some(file) => Box::new(BufWriter::new(new_file(file)?)),
        None if io::stdout().is_terminal() => {
            return Err(CliError::Usage(
                "an archive is nothing for a terminal: give --file, or `> FILE`".to_owned(),
            ));
        }
        None => Box::new(BufWriter::new(io::stdout())),
    };
    let export = Export {
        tenant: args.tenant,
        spec: spec.text,
    };
    let wanted = Wanted {
        snapshot: args.snapshot,
        identity: identity.as_ref(),
        allow_old: args.allow_old,
    };
    let shown = progress::shown(console);
    let done = protect::export(layout, &settings, &export, wanted, out, shown).await;
    let report = match (done, &args.file) {
        (Ok(report), _) => report,
        (Err(error), None) => return Err(error.into()),
        (Err(error), Some(file)) => {
            // Half an archive is none. Why there is none is worth more than that it cannot be removed.
            let _ = std::fs::remove_file(file);
            return Err(error.into());
        }
    };
    console.tell(&format!(
        "exported snapshot {} of {} ({}): {}, {}\n",
        report.snapshot,
        export.tenant,
        report.taken_at,
        counted(usize::try_from(report.files).unwrap_or(usize::MAX), "file"),
        bytes(report.bytes),
    ));
    Ok(())
}

/// A file that did not exist, for nobody else to read.
fn new_file(path: &Utf8Path) -> Result<File, CliError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|source| CliError::Write {
            path: path.to_owned(),
            source,
        })
}

/// `import`.
pub async fn import(
    client: &Client,
    console: Console,
    layout: &Layout,
    args: ImportArgs,
) -> Result<(), CliError> {
    let (from, file, allow) = (layout.clone(), args.file.clone(), args.allow_special);
    let read = tokio::task::spawn_blocking(move || read_archive(&from, &file, allow)).await;
    let archive = read.map_err(|error| CliError::Input(io::Error::other(error)))??;
    let (tenant, text) = named(&archive.spec, args.tenant.as_ref(), &args.file)?;
    let mut request = ApplyRequest {
        documents: vec![Document {
            name: format!("{}: tenant.toml", args.file),
            text,
        }],
        dry_run: true,
        pull: false,
        force: false,
        message: Some(format!(
            "imported from {}, of {}",
            archive.about.host, archive.about.taken_at
        )),
    };
    // Everything is asked before the first file is written.
    let plans: Vec<ApplyPlan> = client.post("/v1/apply", &request).await?;
    if plans.iter().any(|plan| plan.change != Change::Create) {
        return Err(CliError::TenantExists(tenant));
    }
    check_vacant(layout, &tenant)?;
    let (files, size, left_out) = (archive.files, archive.bytes, archive.left_out);
    if args.dry_run {
        return console.print(&format!(
            "{tenant} would be created, with {files} files, {}\n",
            bytes(size)
        ));
    }
    let shown = progress::shown(console);
    let imported = import_state(layout, &tenant, archive, allow, shown).await?;
    console.tell(&format!(
        "{tenant}: {files} files, {} are in place\n",
        bytes(size)
    ));
    if left_out > 0 {
        console.tell(&format!(
            "{left_out} devices, FIFOs and the like were left out\n"
        ));
    }
    if imported.setuid_dropped > 0 {
        let dropped = imported.setuid_dropped;
        console.tell(&format!(
            "{dropped} files lost their setuid or setgid bit\n"
        ));
    }
    request.dry_run = false;
    let answer: Value = client.post("/v1/apply", &request).await?;
    carry_out(
        client,
        console,
        output::understood(answer)?,
        args.output.json,
    )
    .await
}

/// The tenant's id and its spec, under another name where one is given.
fn named(
    spec: &str,
    name: Option<&TenantId>,
    file: &Utf8PathBuf,
) -> Result<(TenantId, String), CliError> {
    let wrong = || CliError::Usage(format!("the tenant.toml in {file} has no valid `id`"));
    let mut table: toml::Table = spec.parse().map_err(|_| wrong())?;
    let own: TenantId = table
        .get("id")
        .and_then(toml::Value::as_str)
        .and_then(|id| id.parse().ok())
        .ok_or_else(wrong)?;
    match name {
        Some(name) if *name != own => {
            table.insert("id".to_owned(), name.to_string().into());
            Ok((name.clone(), table.to_string()))
        }
        _ => Ok((own, spec.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_is_kept_as_it_is_unless_it_gets_another_name() {
        let spec = "# mine\nid = \"acme\"\n[env]\nA = \"b\"\n";
        let file = Utf8PathBuf::from("t.tar.zst");
        let name = |text: &str| text.parse::<TenantId>().unwrap();
        let kept = named(spec, None, &file).unwrap();
        assert_eq!(kept, (name("acme"), spec.to_owned()));
        let (tenant, text) = named(spec, Some(&name("other")), &file).unwrap();
        assert_eq!(tenant, name("other"));
        assert!(
            text.contains("id = \"other\"") && text.contains("A = \"b\""),
            "{text}"
        );
        assert!(named("id = 3", None, &file).is_err());
    }
}

//! `node butane`: reads what a new machine is to be given, and prints it as Butane or Ignition.

use camino::{Utf8Path, Utf8PathBuf};
use secrecy::SecretString;
use sha2::{Digest as _, Sha512};

use super::args::{ButaneArgs, OsChoice, SpecChoice, SwapChoice};
use super::console::Console;
use super::error::CliError;
use super::init::text_or_file;
use crate::backup::{Identity, RootKey};
use crate::host::files;
use crate::node::AfterRestore;
use crate::node::ignition::{
    Binary, FirstBoot, Os, RootKeyHalf, Secrets, SizeLimit, Spec, split, to_butane, to_ignition,
};

/// Longest key, identity, certificate or spec.
const LIMIT: u64 = 64 * 1024;
/// Largest binary.
const BINARY_LIMIT: u64 = 256 * 1024 * 1024;

/// Runs the command.
pub fn run(console: Console, args: &ButaneArgs) -> Result<(), CliError> {
    let spec = match args.spec {
        SpecChoice::V3_3 => Spec::V3_3,
        SpecChoice::V3_4 => Spec::V3_4,
    };
    let first_boot = first_boot(args)?;
    let config = first_boot.config()?;
    if !args.ignition {
        return console.print(&to_butane(&config, spec));
    }
    let ignition = to_ignition(&config, spec);
    let Some(limit) = &args.max_size else {
        return console.print(&(ignition + "\n"));
    };
    let limit: SizeLimit =
        limit
            .parse()
            .map_err(|error: crate::node::ignition::SizeLimitError| {
                CliError::Usage(error.to_string())
            })?;
    let split = split(ignition, spec, limit, args.payload_url.as_deref())?;
    if let Some(payload) = split.payload {
        let path = args.payload.as_ref().ok_or_else(|| {
            CliError::Usage(
                "the config is larger than that; give --payload FILE as well".to_owned(),
            )
        })?;
        files::write(path, payload.as_bytes(), 0o600)?;
        console.tell(&format!(
            "{path} must be at {} before the machine boots, and not longer than that: it holds the keys\n",
            args.payload_url.as_deref().unwrap_or_default()
        ));
    }
    console.print(&(split.pointer + "\n"))
}

fn first_boot(args: &ButaneArgs) -> Result<FirstBoot, CliError> {
    let identity = args.identity.as_deref().map(secret).transpose()?;
    let mut recipients = args.recipient.clone();
    if let (true, Some(identity)) = (recipients.is_empty(), &identity) {
        let identity = Identity::from_text(identity).map_err(CliError::Identity)?;
        recipients.push(identity.recipient().to_string());
    }
    let ssh_keys = args.ssh_key.iter().map(|key| text_or_file(key));
    Ok(FirstBoot {
        name: args.host.clone(),
        os: match args.os {
            OsChoice::Fcos => Os::FedoraCoreOs,
            OsChoice::Ucore => Os::Ucore,
        },
        binary: binary(args)?,
        store: args.store.settings(),
        recipients,
        restore: args.restore,
        after_restore: if args.keep_identity {
            AfterRestore::Keep
        } else {
            AfterRestore::Erase
        },
        secrets: Secrets {
            root_key: root_key(args)?,
            identity,
            s3: args.credentials.as_deref().map(secret).transpose()?,
            tailscale: args.tailscale.as_deref().map(secret).transpose()?,
        },
        tenants: args
            .tenants
            .as_deref()
            .map(specs)
            .transpose()?
            .unwrap_or_default(),
        ssh_keys: ssh_keys.collect::<Result<_, _>>()?,
        allow_missing_controllers: args.allow_missing_controllers,
        zram: matches!(args.swap, SwapChoice::Zram),
        public_web: !args.no_public_web,
    })
}

/// The half of the root key that was given: what is not a private key is taken for a public one.
fn root_key(args: &ButaneArgs) -> Result<RootKeyHalf, CliError> {
    let Some(given) = &args.root_key else {
        let wanted = "give --root-key: the operator's public root key, or the private one for a node that certifies \
                      itself (`ssh-keygen -t ed25519 -f root` makes both)";
        return Err(CliError::Usage(wanted.to_owned()));
    };
    if !given.starts_with("ssh-") {
        let text = secret(Utf8Path::new(given))?;
        if RootKey::from_openssh(&text).is_ok() {
            return Ok(RootKeyHalf::Private(text));
        }
    }
    Ok(RootKeyHalf::Public(text_or_file(given)?))
}

fn binary(args: &ButaneArgs) -> Result<Binary, CliError> {
    let bytes = |path: &Utf8PathBuf| files::read(path, BINARY_LIMIT);
    match (&args.binary_url, &args.binary) {
        (Some(_), Some(path)) if is_compressed(path) => Err(CliError::Usage(format!(
            "give --binary the program itself, not {path}: Ignition takes the hash of what was decompressed"
        ))),
        (Some(url), Some(path)) => Ok(Binary::Remote {
            url: url.clone(),
            hash: format!("sha512-{}", hex::encode(Sha512::digest(bytes(path)?))),
        }),
        (Some(url), None) => Ok(Binary::Remote {
            url: url.clone(),
            hash: args.binary_hash.clone().unwrap_or_default(),
        }),
        (None, Some(path)) => Ok(Binary::Inline {
            bytes: bytes(path)?,
            gzip: is_compressed(path),
        }),
        (None, None) => Err(CliError::Usage("give --binary-url or --binary".to_owned())),
    }
}

fn is_compressed(path: &Utf8Path) -> bool {
    path.extension() == Some("gz")
}

/// Every spec of a directory, by name.
fn specs(directory: &Utf8Path) -> Result<Vec<(String, String)>, CliError> {
    let failed = |source| CliError::Directory {
        path: directory.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for entry in directory.read_dir_utf8().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.path().extension() != Some("toml") {
            continue;
        }
        let bytes = files::read(entry.path(), LIMIT)?;
        let text =
            String::from_utf8(bytes).map_err(|_| CliError::NotText(entry.path().to_string()))?;
        found.push((entry.file_name().to_owned(), text));
    }
    if found.is_empty() {
        return Err(CliError::NoSpecs(directory.to_owned()));
    }
    found.sort();
    Ok(found)
}

fn secret(path: &Utf8Path) -> Result<SecretString, CliError> {
    let bytes = files::read(path, LIMIT)?;
    let text = String::from_utf8(bytes).map_err(|_| CliError::NotText(path.to_string()))?;
    Ok(text.into())
}

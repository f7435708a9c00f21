//! The verb of `tenantd-endpoints@`: serves a tenant's endpoints with the keys that systemd has decrypted.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener as StdListener;
use std::os::fd::AsFd;
use std::sync::Arc;

use anyhow::Context;
use camino::{Utf8Path, Utf8PathBuf};
use rustls::RootCertStore;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::read_runtime;
use crate::gateway::egress::{Host, Month};
use crate::gateway::endpoints::{self, Book, Endpoints, Ledger, Settings, Write};
use crate::host::{addresses, clock, files};
use crate::tenant::{EndpointSettings, MAX_SECRET, SecretName};

/// Serves until nobody is there any more, or systemd says to end.
pub(super) async fn serve() -> anyhow::Result<()> {
    let listener = listener_on_stdin()?;
    let directory =
        |variable| {
            std::env::var(variable).map(Utf8PathBuf::from).with_context(|| {
            format!("no ${variable}: this door is started by its unit, tenantd-endpoints@.service")
        })
        };
    let credentials = directory("CREDENTIALS_DIRECTORY")?;
    let state = directory("STATE_DIRECTORY")?;
    let runtime = read_runtime(&credentials.join("runtime.json"))?;
    let settings = runtime.endpoints.unwrap_or_default();
    let keys = keys(&settings, &credentials)?;
    let now = clock::now();
    let book = read_book(&state, Month::of(now))?;
    let ledger = Arc::new(Ledger::new(settings.spending.clone(), book, now));
    let door = Endpoints::new(
        settings,
        keys,
        (Arc::new(Host::default()), roots(), addresses::own),
        ledger,
    );
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let stop = async move {
        terminate.recv().await;
    };
    endpoints::serve(
        listener,
        Arc::new(door),
        Settings::default(),
        write_to(state),
        stop,
    )
    .await
    .context("the last figures could not be written")
}

/// Standard input as the listening socket that `StandardInput=socket` makes it.
fn listener_on_stdin() -> anyhow::Result<TcpListener> {
    let why = "standard input is no TCP socket: this door is started by tenantd-endpoints@.socket";
    let descriptor = io::stdin().as_fd().try_clone_to_owned().context(why)?;
    let listener = StdListener::from(descriptor);
    listener.local_addr().context(why)?;
    listener.set_nonblocking(true).context(why)?;
    TcpListener::from_std(listener).context(why)
}

/// The keys that the settings name. Spaces around a key are of whoever typed it.
fn keys(
    settings: &EndpointSettings,
    credentials: &Utf8Path,
) -> anyhow::Result<BTreeMap<SecretName, SecretString>> {
    let names = settings
        .endpoints
        .values()
        .filter_map(|endpoint| endpoint.key.as_ref());
    names
        .map(|name| {
            let value = files::read(&credentials.join(name.as_str()), MAX_SECRET as u64)?;
            let text = String::from_utf8(value);
            // Not with its cause, which would print the key.
            let text = text.map(SecretString::from).ok();
            let text =
                text.with_context(|| format!("the secret {name} is no text and so no key"))?;
            Ok((name.clone(), trimmed(&text)))
        })
        .collect()
}

fn trimmed(key: &SecretString) -> SecretString {
    use secrecy::ExposeSecret as _;
    key.expose_secret().trim().into()
}

/// The authorities that the host trusts: an operator's own is added as the distribution says.
fn roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    for error in &found.errors {
        tracing::warn!("a certificate of the host is not readable: {error}");
    }
    if added == 0 {
        // Providers on a private network may need none.
        tracing::warn!(
            "this host trusts no certificate authority: install the package ca-certificates"
        );
    }
    roots
}

/// The figures of a month; none when it has none yet.
///
/// A book that is there and cannot be read is no empty one: the tenant's limit would begin anew.
fn read_book(directory: &Utf8Path, month: Month) -> anyhow::Result<Book> {
    let path = directory.join(format!("{month}.json"));
    let bytes = match files::read(&path, Book::LIMIT) {
        Ok(bytes) => bytes,
        Err(error) if error.is_absent() => return Ok(Book::default()),
        Err(error) => return Err(error.into()),
    };
    serde_json::from_slice(&bytes)
        .with_context(|| format!("{path} is broken; move it away to count the month from zero"))
}

fn write_to(directory: Utf8PathBuf) -> Write {
    Arc::new(move |books| {
        for (month, book) in books {
            let json = serde_json::to_vec(book).map_err(io::Error::other)?;
            let path = directory.join(format!("{month}.json"));
            files::write(&path, &json, 0o600).map_err(io::Error::other)?;
        }
        Ok(())
    })
}

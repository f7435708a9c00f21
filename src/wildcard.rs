//! Gets the wildcard certificate when it is due: by ACME, with records that the operator's program makes. It works
//! without the daemon. Each step can be cut short: what was begun is known and undone by the next attempt.

use camino::Utf8PathBuf;
use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failpoint;
use crate::front::{self, Attempt, Challenge, HookVerb, Trouble, Wildcard, Wish};
use crate::host::acme::{Account, AcmeError, Server};
use crate::host::dns_hook::{self, HookError};
use crate::host::files::{self, FileError};
use crate::host::{clock, dirs};
use crate::layout::Layout;
use crate::node::{FrontSettings, WildcardSettings};
use crate::tenant::PublicHost;

/// Largest file of these that is read, in bytes.
const LIMIT: u64 = 256 * 1024;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum WildcardError {
    /// The ACME server.
    #[error(transparent)]
    Acme(#[from] AcmeError),
    /// The operator's program.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// Its files.
    #[error("the files of the wildcard certificate cannot be read or written")]
    File(#[from] FileError),
    /// What the server has issued is none.
    #[error(
        "what the ACME server has issued is no certificate; see `acme-directory` under [front]"
    )]
    NoCertificate,
}

/// What there is in `/var/lib/tenantd-front/wildcard`.
#[derive(Debug, Clone)]
pub struct Store {
    directory: Utf8PathBuf,
}

impl Store {
    /// That of the host.
    pub fn new(layout: &Layout) -> Self {
        Self {
            directory: layout.front_wildcard_dir(),
        }
    }

    /// The certificate for a domain, and its key: the file's name has the domain, so that another one is never taken
    /// for it.
    pub fn bundle(&self, domain: &PublicHost) -> Utf8PathBuf {
        self.directory.join(format!("{domain}.pem"))
    }

    /// What there is for a wish. What cannot be read is not there.
    pub fn look(&self, wish: &Wish) -> Wildcard {
        let bundle = files::read(&self.bundle(&wish.domain), LIMIT).ok();
        Wildcard {
            certificate: bundle.and_then(|bundle| front::read_chain(&bundle)),
            attempt: self.json("attempt.json"),
        }
    }

    /// What Caddy shows itself when it asks for the certificate: the loopback is everybody's on the host, and the
    /// key must not be. Made once.
    pub fn password(&self) -> Result<secrecy::SecretString, FileError> {
        let path = self.directory.join("password");
        if let Ok(present) = files::read(&path, LIMIT)
            && let Ok(text) = String::from_utf8(present)
            && text.len() == 64
        {
            return Ok(text.into());
        }
        let random: [u8; 32] = crate::backup::id::random().map_err(|error| FileError::Io {
            verb: "make",
            path: path.clone(),
            source: std::io::Error::other(error),
        })?;
        let text = hex::encode(random);
        files::write(&path, text.as_bytes(), 0o600)?;
        Ok(text.into())
    }

    fn json<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let bytes = files::read(&self.directory.join(name), LIMIT).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    fn keep<T: Serialize>(&self, name: &str, value: &T) -> Result<(), FileError> {
        let bytes = serde_json::to_vec(value).unwrap_or_default();
        files::write(&self.directory.join(name), &bytes, 0o600)
    }

    fn note(&self, wish: &Wish, at: Timestamp, trouble: Option<Trouble>) -> Result<(), FileError> {
        let attempt = Attempt {
            wish: wish.clone(),
            at,
            trouble,
        };
        self.keep("attempt.json", &attempt)
    }
}

/// The records that may be there: written before the first is made.
const PRESENTED: &str = "presented.json";

/// Gets a certificate if one is due; says whether it did.
pub async fn renew(layout: &Layout, settings: &FrontSettings) -> Result<bool, WildcardError> {
    let (Some(wish), Some(wildcard)) = (Wish::of(settings), &settings.wildcard) else {
        return Ok(false);
    };
    let store = Store::new(layout);
    // systemd-tmpfiles makes it with the group that may read the certificate.
    dirs::make(&store.directory, 0o750)?;
    let began = clock::now();
    tidy(&store, wildcard).await;
    if !store.look(&wish).is_due(&wish, began) {
        return Ok(false);
    }
    let cut_short = Trouble {
        at: began,
        reason: "the attempt was cut short".to_owned(),
        remedy: REMEDY.to_owned(),
    };
    store.note(&wish, began, Some(cut_short))?;
    let got = obtain(&store, settings, wildcard, &wish).await;
    tidy(&store, wildcard).await;
    let trouble = got.as_ref().err().map(|error| Trouble {
        at: began,
        reason: reason(error),
        remedy: REMEDY.to_owned(),
    });
    store.note(&wish, began, trouble)?;
    got.map(|()| true)
}

/// What to do about any trouble, beside what its words say.
const REMEDY: &str = "mend it, then `systemctl start tenantd-wildcard`, or wait: it is tried again within the hour; \
                      `journalctl -u tenantd-wildcard` tells what the hook said";

/// Longest reason that is kept, in characters: it holds what others said.
const MOST: usize = 1000;

fn reason(error: &WildcardError) -> String {
    let mut said = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        said = format!("{said}: {cause}");
        source = cause.source();
    }
    let said = said.replace(char::is_control, " ");
    said.chars().take(MOST).collect()
}

async fn obtain(
    store: &Store,
    settings: &FrontSettings,
    wildcard: &WildcardSettings,
    wish: &Wish,
) -> Result<(), WildcardError> {
    let account = account(store, settings, wish).await?;
    let mut order = account.order(&wish.names()).await?;
    let challenges = order.challenges().await?;
    store.keep(PRESENTED, &challenges)?;
    for challenge in &challenges {
        dns_hook::call(&wildcard.hook, HookVerb::Present, challenge).await?;
        failpoint::hit("wildcard.presented");
    }
    if !challenges.is_empty() {
        tokio::time::sleep(wildcard.wait.into()).await;
    }
    let issued = order.finish().await?;
    let bundle = issued.bundle();
    let bundle = bundle.expose_secret().as_bytes();
    front::read_chain(bundle).ok_or(WildcardError::NoCertificate)?;
    // Caddy, whose group the directory has, reads it at the next handshake.
    files::write(&store.bundle(&wish.domain), bundle, 0o640)?;
    failpoint::hit("wildcard.stored");
    Ok(())
}

async fn account(
    store: &Store,
    settings: &FrontSettings,
    wish: &Wish,
) -> Result<Account, WildcardError> {
    let server = Server {
        directory: wish.directory.clone(),
        root: settings.acme_root.clone(),
    };
    let path = store.directory.join("account.json");
    let stored = match files::read(&path, LIMIT) {
        Ok(stored) => Account::load(&server, &stored).await?,
        Err(error) if error.is_absent() => None,
        Err(error) => return Err(error.into()),
    };
    if let Some(account) = stored {
        return Ok(account);
    }
    let (account, credentials) = Account::create(&server, settings.email.as_deref()).await?;
    files::write(&path, credentials.expose_secret().as_bytes(), 0o600)?;
    Ok(account)
}

/// Has the records removed that this attempt or one that was cut short has made. One that stays harms nobody, so a failure
/// is told and no more.
async fn tidy(store: &Store, wildcard: &WildcardSettings) {
    let presented: Vec<Challenge> = store.json(PRESENTED).unwrap_or_default();
    for challenge in &presented {
        if let Err(error) = dns_hook::call(&wildcard.hook, HookVerb::Cleanup, challenge).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a record of {} may still be there",
                challenge.domain
            );
        }
    }
    if let Err(error) = files::remove(&store.directory.join(PRESENTED)) {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the records are removed once more by the next attempt"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn layout() -> (tempfile::TempDir, Layout) {
        let guard = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(guard.path().to_owned()).unwrap();
        (guard, Layout::rooted(root))
    }

    /// A hook that notes its words, and an ACME server that nobody reaches.
    fn settings(layout: &Layout) -> FrontSettings {
        FrontSettings {
            domain: Some("example.org".parse().unwrap()),
            acme_directory: "https://127.0.0.1:1/directory".to_owned(),
            wildcard: Some(WildcardSettings {
                hook: layout.front_dir().join("hook"),
                wait: crate::tenant::Period::from_seconds(0),
            }),
            ..FrontSettings::default()
        }
    }

    #[tokio::test]
    async fn a_failure_is_noted_with_its_reason_and_does_not_end_what_is_there() {
        let (_guard, layout) = layout();
        let settings = settings(&layout);
        let wish = Wish::of(&settings).unwrap();
        let error = renew(&layout, &settings).await.unwrap_err();
        assert!(matches!(
            error,
            WildcardError::Acme(AcmeError::Account { .. })
        ));
        let seen = Store::new(&layout).look(&wish);
        let trouble = seen.attempt.clone().unwrap().trouble.unwrap();
        assert!(trouble.reason.contains("gives no account"), "{trouble:?}");
        assert!(!seen.wants_attempt(&wish, clock::now()));
    }

    #[tokio::test]
    async fn records_that_a_killed_attempt_has_left_are_removed_by_the_next() {
        let (_guard, layout) = layout();
        let settings = settings(&layout);
        let store = Store::new(&layout);
        std::fs::create_dir_all(&store.directory).unwrap();
        let left = Challenge {
            domain: "example.org".to_owned(),
            value: "left".to_owned(),
        };
        store.keep(PRESENTED, &vec![left]).unwrap();
        let hook = &settings.wildcard.as_ref().unwrap().hook;
        // By another process: who runs a file must not find it open for writing.
        let script =
            "printf '#!/bin/sh\\necho \"$@\" >>\"$0.said\"\\n' >\"$0\" && chmod 755 \"$0\"";
        let made = std::process::Command::new("sh")
            .args(["-c", script, hook.as_str()])
            .status();
        assert!(made.unwrap().success());
        renew(&layout, &settings).await.unwrap_err();
        let said = std::fs::read_to_string(format!("{hook}.said")).unwrap();
        assert_eq!(said, "cleanup _acme-challenge.example.org. left\n");
        assert!(!store.directory.join(PRESENTED).exists());
    }

    #[tokio::test]
    async fn nothing_is_done_where_nobody_wants_one() {
        let (_guard, layout) = layout();
        assert!(!renew(&layout, &FrontSettings::default()).await.unwrap());
        assert!(!layout.front_wildcard_dir().exists());
    }

    #[test]
    fn the_password_is_made_once_and_is_root_s_alone() {
        let (_guard, layout) = layout();
        let store = Store::new(&layout);
        std::fs::create_dir_all(&store.directory).unwrap();
        let first = store.password().unwrap();
        assert_eq!(
            first.expose_secret(),
            store.password().unwrap().expose_secret()
        );
        let mode = store
            .directory
            .join("password")
            .metadata()
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

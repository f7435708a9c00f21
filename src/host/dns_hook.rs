//! The operator's program that makes and removes TXT records. It is run, and what it says goes to the log; what it is to
//! do is decided elsewhere.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use tokio::process::Command;

use super::process::{self, ProcessError};
use crate::front::{Challenge, HookVerb};

/// Longest time for one record: some APIs of DNS providers are slow.
const TIMEOUT: Duration = Duration::from_mins(2);

/// Most that is read of what it says, in bytes.
const LIMIT: usize = 16 * 1024;

/// Most that of it goes into an error, in characters.
const MOST: usize = 400;

/// Why a record was not made, or not removed.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// The program did not come to its end.
    #[error("the DNS hook {path} cannot be run to its end; see `hook` under [front.wildcard]")]
    Process {
        /// The program.
        path: Utf8PathBuf,
        /// The cause.
        #[source]
        source: ProcessError,
    },
    /// It says that it failed.
    #[error(
        "`{path} {words}` failed ({status}): {said}; it can be tried by hand with the same words"
    )]
    Failed {
        /// The program.
        path: Utf8PathBuf,
        /// What it was told.
        words: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The end of what it said.
        said: String,
    },
}

/// Has the program at `path` make or remove a record.
pub async fn call(path: &Utf8Path, verb: HookVerb, challenge: &Challenge) -> Result<(), HookError> {
    let words = challenge.words(verb);
    let mut command = Command::new(path);
    command.args(&words).envs(challenge.variables());
    let ran = process::run(command, TIMEOUT, LIMIT).await;
    let output = ran.map_err(|source| HookError::Process {
        path: path.to_owned(),
        source,
    })?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    for line in said.lines().filter(|line| !line.trim().is_empty()) {
        let line = line.replace(char::is_control, " ");
        tracing::info!("the DNS hook says: {line}");
    }
    if output.status.success() {
        return Ok(());
    }
    Err(HookError::Failed {
        path: path.to_owned(),
        words: words.join(" "),
        status: output.status,
        said: end_of(&said),
    })
}

/// The last words, in one line.
fn end_of(said: &str) -> String {
    let words: Vec<_> = said.split_whitespace().collect();
    let line = words.join(" ").replace(char::is_control, " ");
    let skipped = line.chars().count().saturating_sub(MOST);
    line.chars().skip(skipped).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn challenge() -> Challenge {
        Challenge {
            domain: "example.org".to_owned(),
            value: "abc".to_owned(),
        }
    }

    fn hook(text: &str) -> (tempfile::TempDir, Utf8PathBuf) {
        let guard = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(guard.path().join("hook")).unwrap();
        // Written under another name and by another process, so that no descriptor for writing is open when it is run.
        let made = std::process::Command::new("sh")
            .args(["-c", "cat >\"$0\" && chmod 755 \"$0\"", path.as_str()])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .and_then(|mut child| {
                use std::io::Write;
                let mut stdin = child.stdin.take().unwrap();
                stdin.write_all(text.as_bytes())?;
                drop(stdin);
                child.wait()
            });
        assert!(made.unwrap().success());
        assert!(path.metadata().unwrap().permissions().mode() & 0o100 != 0);
        (guard, path)
    }

    #[tokio::test]
    async fn the_hook_is_told_the_record_by_words_and_by_variables() {
        let script = "#!/bin/sh\necho \"$@ $CERTBOT_DOMAIN $CERTBOT_VALIDATION\" >\"$0.said\"\n";
        let (_guard, path) = hook(script);
        call(&path, HookVerb::Present, &challenge()).await.unwrap();
        let said = std::fs::read_to_string(format!("{path}.said")).unwrap();
        assert_eq!(
            said,
            "present _acme-challenge.example.org. abc example.org abc\n"
        );
    }

    #[tokio::test]
    async fn a_hook_that_fails_is_told_with_its_last_words() {
        let (_guard, path) = hook("#!/bin/sh\necho no such zone >&2\nexit 3\n");
        let error = call(&path, HookVerb::Cleanup, &challenge())
            .await
            .unwrap_err();
        let said = error.to_string();
        assert!(said.contains("no such zone"), "{said}");
        assert!(
            said.contains("cleanup _acme-challenge.example.org. abc"),
            "{said}"
        );
        assert_eq!(end_of(&"x\n".repeat(1000)).chars().count(), MOST);
    }

    #[tokio::test]
    async fn a_hook_that_is_not_there_is_named() {
        let path = Utf8Path::new("/absent/dns-hook");
        let error = call(path, HookVerb::Present, &challenge())
            .await
            .unwrap_err();
        assert!(error.to_string().contains("/absent/dns-hook"), "{error}");
    }
}

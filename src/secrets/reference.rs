//! Asks for the values of references: one program each, run without a shell, bounded in time and output.
//! Which references a spec may use is the operator's word in `node.toml`; nothing is asked without it.

use std::ffi::OsString;
use std::time::Duration;

use camino::Utf8Path;
use secrecy::{ExposeSecret, SecretBox};
use tokio::process::Command;

use super::error::SecretError;
use super::vault::accept;
use crate::host::credentials::SecretValue;
use crate::host::process::{self, ProcessError};
use crate::tenant::{MAX_SECRET, Reference, SecretName};

/// Longest time for an answer: a service on the network may be asked.
const TIME: Duration = Duration::from_secs(30);

/// Most that is shown of what a program wrote to its standard error, in characters.
const SAID: usize = 400;

/// The credential of `tenantd.service` with the token of a 1Password service account.
const OP_TOKEN: &str = "tenantd.op-token";

/// The credential of `tenantd.service` with the age identity that opens `age:` and `sops:` files.
const IDENTITY: &str = "tenantd.secrets-identity";

/// Whether `allowed` has the reference, or how it begins: up to a `/`, `#` or blank.
pub fn allows(allowed: &[String], reference: &Reference) -> bool {
    let text = reference.to_string();
    allowed.iter().any(|allowed| {
        text.strip_prefix(allowed.as_str()).is_some_and(|rest| {
            let ends_a_part = allowed.ends_with(['/', '#', ' ']);
            !allowed.is_empty()
                && (rest.is_empty() || ends_a_part || rest.starts_with(['/', '#', ' ']))
        })
    })
}

/// What is run for a reference.
#[derive(Debug, PartialEq, Eq)]
struct Question {
    program: String,
    arguments: Vec<String>,
    /// A variable that has what is in this credential.
    token: Option<(&'static str, &'static str)>,
    /// A variable that names this credential's file.
    key_file: Option<(&'static str, &'static str)>,
    /// What to do when the program is not there.
    remedy: &'static str,
    /// The newline at the end is the program's, not the value's.
    trims: bool,
}

fn question(reference: &Reference, credentials: &Utf8Path) -> Question {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    match reference {
        Reference::OnePassword(url) => Question {
            program: "op".to_owned(),
            arguments: words(&["read", "--no-newline", "--cache=false", url]),
            token: Some(("OP_SERVICE_ACCOUNT_TOKEN", OP_TOKEN)),
            key_file: None,
            remedy: "install 1Password's command line tool, and give tenantd.service a service account's token as the \
                     credential tenantd.op-token",
            trims: false,
        },
        Reference::Sops { path, keys } => {
            let keys: Vec<_> = keys.iter().map(|key| format!("[\"{key}\"]")).collect();
            Question {
                program: "sops".to_owned(),
                arguments: words(&["--decrypt", "--extract", &keys.concat(), path.as_str()]),
                token: None,
                key_file: Some(("SOPS_AGE_KEY_FILE", IDENTITY)),
                remedy: "install sops, and give tenantd.service the age identity as the credential \
                         tenantd.secrets-identity",
                trims: false,
            }
        }
        Reference::Age(path) => Question {
            program: "age".to_owned(),
            arguments: words(&[
                "--decrypt",
                "--identity",
                credentials.join(IDENTITY).as_str(),
                path.as_str(),
            ]),
            token: None,
            key_file: None,
            remedy: "install age, and give tenantd.service the identity as the credential tenantd.secrets-identity",
            trims: false,
        },
        Reference::Exec(line) => Question {
            program: line.first().cloned().unwrap_or_default(),
            arguments: line.iter().skip(1).cloned().collect(),
            token: None,
            key_file: None,
            remedy: "put it there, where tenantd.service may read it (not below /home, /root or /tmp)",
            trims: true,
        },
    }
}

/// The value of a reference, now. `path` is where programs are looked for; `credentials` is the directory with
/// tenantd's own credentials.
pub async fn ask(
    name: &SecretName,
    reference: &Reference,
    allowed: &[String],
    path: Option<OsString>,
    credentials: &Utf8Path,
) -> Result<SecretValue, SecretError> {
    if !allows(allowed, reference) {
        return Err(SecretError::NotAllowed {
            name: name.clone(),
            reference: reference.clone(),
        });
    }
    let question = question(reference, credentials);
    let no_answer = |said: &str| SecretError::NoAnswer {
        name: name.clone(),
        reference: reference.clone(),
        said: said.trim().chars().take(SAID).collect(),
    };
    let mut command = Command::new(&question.program);
    command
        .args(&question.arguments)
        .env_clear()
        .env("HOME", credentials.as_str())
        .env("LC_ALL", "C.UTF-8");
    if let Some(path) = path {
        command.env("PATH", path);
    }
    if let Some((variable, credential)) = question.token {
        let token = crate::host::files::read(&credentials.join(credential), 64 * 1024);
        let token = token.map_err(|_| no_answer(question.remedy))?;
        command.env(variable, String::from_utf8_lossy(&token).trim());
    }
    if let Some((variable, credential)) = question.key_file {
        command.env(variable, credentials.join(credential));
    }
    // One byte more than a value may have, so that a longer one is seen.
    let output =
        process::run(command, TIME, MAX_SECRET + 1)
            .await
            .map_err(|source| match source {
                ProcessError::Start { .. } => SecretError::NoProgram {
                    name: name.clone(),
                    reference: reference.clone(),
                    program: question.program.clone(),
                    remedy: question.remedy,
                    source,
                },
                other => no_answer(&other.to_string()),
            })?;
    let mut value: SecretValue = SecretBox::new(Box::new(output.stdout));
    if !output.status.success() {
        return Err(no_answer(&String::from_utf8_lossy(&output.stderr)));
    }
    if question.trims && value.expose_secret().last() == Some(&b'\n') {
        let text = value.expose_secret();
        value = SecretBox::new(Box::new(text[..text.len() - 1].to_vec()));
    }
    accept(name, value)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(&[], "op://a/b/c", false)]
    #[case(&[""], "op://a/b/c", false)]
    #[case(&["op://a/"], "op://a/b/c", true)]
    #[case(&["op://a"], "op://ab/b/c", false)]
    #[case(&["op://b/", "op://a/b/c"], "op://a/b/c", true)]
    #[case(&["sops:/etc/s.yaml"], "sops:/etc/s.yaml#acme.key", true)]
    #[case(&["sops:/etc/s.yaml#acme"], "sops:/etc/s.yaml#acmex", false)]
    #[case(&["exec:/usr/local/bin/fetch"], "exec:/usr/local/bin/fetch acme", true)]
    #[case(&["exec:/usr/local/bin/fetch"], "exec:/usr/local/bin/fetch-all", false)]
    #[case(&["age:/etc/tenantd/"], "age:/etc/shadow", false)]
    fn only_what_the_operator_allows_is_asked(
        #[case] allowed: &[&str],
        #[case] reference: &str,
        #[case] expected: bool,
    ) {
        let allowed: Vec<_> = allowed.iter().map(ToString::to_string).collect();
        assert_eq!(allows(&allowed, &reference.parse().unwrap()), expected);
    }

    /// Asks a stand-in of this name and text, on a path of its own.
    async fn asked(program: &str, script: &str, reference: &str) -> Result<String, SecretError> {
        let guard = tempfile::tempdir().unwrap();
        let directory = Utf8Path::from_path(guard.path()).unwrap();
        let text = directory.join("text");
        std::fs::write(&text, format!("#!/bin/sh\n{script}\n")).unwrap();
        // Another process writes it: one that had it open for writing could not run it, nor could its children.
        let installed = std::process::Command::new("install")
            .args([
                "--mode=755",
                text.as_str(),
                directory.join(program).as_str(),
            ])
            .status();
        assert!(installed.unwrap().success());
        std::fs::write(directory.join(OP_TOKEN), "token-of-op\n").unwrap();
        let reference = reference.replace("DIR", directory.as_str());
        let path = format!("{directory}:/usr/bin:/bin");
        let value = ask(
            &"TOKEN".parse().unwrap(),
            &reference.parse().unwrap(),
            &["op://".to_owned(), "sops:/".to_owned(), "exec:/".to_owned()],
            Some(path.into()),
            directory,
        )
        .await?;
        Ok(String::from_utf8(value.expose_secret().clone()).unwrap())
    }

    #[tokio::test]
    async fn a_stand_in_for_op_gets_the_reference_and_the_token() {
        let script = r#"printf '%s' "$1 $4 $OP_SERVICE_ACCOUNT_TOKEN""#;
        let said = asked("op", script, "op://vault/item/field").await.unwrap();
        assert_eq!(said, "read op://vault/item/field token-of-op");
    }

    #[tokio::test]
    async fn a_stand_in_for_sops_gets_the_keys_as_a_path() {
        let script = r#"printf '%s' "$3 $4 ${SOPS_AGE_KEY_FILE##*/}""#;
        let said = asked("sops", script, "sops:/etc/s.yaml#acme.key").await;
        assert_eq!(
            said.unwrap(),
            r#"["acme"]["key"] /etc/s.yaml tenantd.secrets-identity"#
        );
    }

    #[tokio::test]
    async fn a_program_of_the_operator_is_run_without_a_shell_or_the_daemons_variables() {
        let script = r#"echo "$# $1 ${CARGO_MANIFEST_DIR:-none}""#;
        let said = asked("fetch", script, "exec:DIR/fetch $HOME")
            .await
            .unwrap();
        assert_eq!(said, "1 $HOME none");
    }

    #[rstest]
    #[case("exit 3", "gave no value")]
    #[case("echo 'no such item' >&2; exit 1", "no such item")]
    #[case("true", "0 bytes")]
    #[case("head -c 70000 /dev/zero", "65537 bytes")]
    #[tokio::test]
    async fn what_is_no_value_is_refused(#[case] script: &str, #[case] message: &str) {
        let error = asked("fetch", script, "exec:DIR/fetch").await.unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    }

    #[tokio::test]
    async fn a_missing_tool_is_named_with_its_remedy() {
        let error = asked("other", "true", "exec:DIR/fetch").await.unwrap_err();
        assert!(matches!(error, SecretError::NoProgram { .. }), "{error}");
        let error = asked("other", "true", "op://a/b/c").await.unwrap_err();
        assert!(error.to_string().contains("install 1Password"), "{error}");
    }

    #[tokio::test]
    async fn the_real_age_opens_a_file_with_tenantds_credential() {
        use std::io::Write as _;
        use std::process::{Command, Stdio};
        let guard = tempfile::tempdir().unwrap();
        let directory = Utf8Path::from_path(guard.path()).unwrap();
        let identity = crate::backup::Identity::generate();
        std::fs::write(directory.join(IDENTITY), identity.to_text().expose_secret()).unwrap();
        let file = directory.join("discord.age");
        let mut age = Command::new("age")
            .args(["--armor", "--output", file.as_str(), "--recipient"])
            .arg(identity.recipient().to_string())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        age.stdin.take().unwrap().write_all(b"of discord").unwrap();
        assert!(age.wait().unwrap().success());
        let value = ask(
            &"DISCORD".parse().unwrap(),
            &format!("age:{file}").parse().unwrap(),
            &[format!("age:{directory}/")],
            std::env::var_os("PATH"),
            directory,
        )
        .await
        .unwrap();
        assert_eq!(value.expose_secret(), b"of discord");
    }
}

//! Starts an agent with secrets as variables: `tenantd-entry VARIABLE=/file… -- PROGRAM ARGUMENTS…`
//!
//! It runs inside the container, in front of agents that read no files, so that no value is in the container's
//! configuration. tenantd's build script compiles this one file, statically and with nothing but the standard library,
//! since an image may have no shell and another C library; tenantd carries the result with it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// `EX_CONFIG` of sysexits(3): what it was asked to do cannot be done.
const BAD_CONFIG: u8 = 78;

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    match start(&words) {
        Ok(never) => match never {},
        Err(message) => {
            eprintln!("tenantd-entry: {message}");
            ExitCode::from(BAD_CONFIG)
        }
    }
}

/// Becomes the program; returns only when it cannot.
fn start(words: &[OsString]) -> Result<std::convert::Infallible, String> {
    let end = words.iter().position(|word| word == "--");
    let end = end.ok_or("no `--` before the program")?;
    let (program, arguments) = words[end + 1..]
        .split_first()
        .ok_or("no program after `--`")?;
    let mut command = Command::new(program);
    command.args(arguments);
    for word in &words[..end] {
        let (variable, value) = variable(word)?;
        command.env(variable, value);
    }
    let error = command.exec();
    Err(format!("cannot run {}: {error}", program.display()))
}

/// `VARIABLE=/file`, and what is in the file, without a newline at its end.
fn variable(word: &OsStr) -> Result<(&str, OsString), String> {
    let word = word.to_str().ok_or("a variable that is not UTF-8")?;
    let (variable, path) = word
        .split_once('=')
        .ok_or_else(|| format!("{word} is not VARIABLE=/file"))?;
    let mut value = fs::read(path).map_err(|error| format!("cannot read {path}: {error}"))?;
    if value.last() == Some(&b'\n') {
        value.pop();
    }
    if value.contains(&0) {
        return Err(format!("{path} has a NUL, which no variable can"));
    }
    Ok((variable, OsString::from_vec(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn a_variable_is_its_file_without_the_last_newline() {
        let path = std::env::temp_dir().join(format!("tenantd-entry-{}", std::process::id()));
        fs::write(&path, "two\nlines\n").unwrap();
        let word = OsString::from(format!("TOKEN={}", path.display()));
        assert_eq!(variable(&word), Ok(("TOKEN", "two\nlines".into())));
        fs::write(&path, "a\0b").unwrap();
        assert!(variable(&word).unwrap_err().contains("NUL"));
        fs::remove_file(&path).unwrap();
        assert!(variable(&word).unwrap_err().contains("cannot read"));
    }

    #[test]
    fn what_cannot_be_started_is_said() {
        for (text, message) in [
            ("TOKEN=/a", "no `--`"),
            ("--", "no program"),
            ("TOKEN -- /bin/true", "is not VARIABLE=/file"),
            ("-- /absent/program", "cannot run /absent/program"),
        ] {
            let error = start(&words(text)).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }
}

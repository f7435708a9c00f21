//! What a process does to the files below a directory, in order, as the kernel was asked for it: `strace` writes it down.
//! It knows nothing of disks.

use std::collections::HashMap;
use std::fs;
use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};

/// One effect on files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// A file is made, or emptied.
    Create(Utf8PathBuf),
    /// Bytes are added to a file's end.
    Append(Utf8PathBuf, Vec<u8>),
    /// A file or directory is synced.
    Sync(Utf8PathBuf),
    Rename(Utf8PathBuf, Utf8PathBuf),
    Remove(Utf8PathBuf),
    MakeDirectory(Utf8PathBuf),
}

/// All that changes files or their names; a call that is not known here and has an effect would be missed, so
/// [`effects`] refuses what it cannot read.
const CALLS: &str = "open,openat,creat,write,pwrite64,writev,pwritev,ftruncate,fsync,fdatasync,\
    rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,link,linkat,copy_file_range";

/// Runs a command to its good end, and gives what it did below `directory`.
pub fn record(command: &Command, directory: &Utf8Path) -> Vec<Effect> {
    let log = directory.join("strace");
    let output = Command::new("strace")
        .args(["-f", "-y", "-xx", "-s", "67108864", "-o", log.as_str()])
        .args(["-e", &format!("trace={CALLS}")])
        .arg(command.get_program())
        .args(command.get_args())
        .envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .output()
        .expect("strace is not installed: apt install strace");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let text = fs::read_to_string(&log).unwrap();
    fs::remove_file(log).unwrap();
    effects(&text, directory)
}

fn effects(text: &str, directory: &Utf8Path) -> Vec<Effect> {
    let mut unfinished = HashMap::new();
    let mut effects = Vec::new();
    for line in text.lines() {
        let (process, call) = line.split_once(' ').unwrap();
        let call = call.trim_start();
        // A call during which another thread's was written down comes in two pieces.
        if let Some(begin) = call.strip_suffix(" <unfinished ...>") {
            unfinished.insert(process, begin);
        } else if let Some(rest) = call.strip_prefix("<... ") {
            let begin = unfinished.remove(process).unwrap();
            let (_, end) = rest.split_once(" resumed>").unwrap();
            effects.extend(effect(&format!("{begin}{end}"), directory));
        } else {
            effects.extend(effect(call, directory));
        }
    }
    effects
}

/// Reads `name(arguments) = result`, in which every string and path is in hexadecimal.
fn effect(call: &str, directory: &Utf8Path) -> Option<Effect> {
    let (name, rest) = call.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(" = ")?;
    if result.starts_with('-') {
        return None;
    }
    let paths: Vec<_> = between(arguments, '"', '"')
        .filter_map(|text| String::from_utf8(text).ok())
        .map(Utf8PathBuf::from)
        .collect();
    let opened = between(arguments, '<', '>')
        .next()
        .and_then(|text| String::from_utf8(text).ok());
    let opened = opened.map(Utf8PathBuf::from);
    let is_ours = |path: &Utf8PathBuf| {
        path.starts_with(directory) && !path.starts_with(directory.join("clone"))
    };
    let own = |path: Option<Utf8PathBuf>| path.filter(is_ours);
    match name {
        "open" | "openat" | "creat" => {
            let path = own(paths.into_iter().next())?;
            let is_new = arguments.contains("O_CREAT") || name == "creat";
            let is_empty = arguments.contains("O_TRUNC") || name == "creat";
            assert!(is_new || !is_empty, "{call}");
            is_new.then_some(Effect::Create(path))
        }
        "write" => {
            let path = own(opened)?;
            let bytes = between(arguments, '"', '"').next().unwrap_or_default();
            assert_eq!(result.parse(), Ok(bytes.len()), "{path}: cut short");
            Some(Effect::Append(path, bytes))
        }
        "fsync" | "fdatasync" => own(opened).map(Effect::Sync),
        "rename" | "renameat" | "renameat2" => {
            let [from, to] = paths.try_into().ok()?;
            (is_ours(&from) || is_ours(&to)).then_some(Effect::Rename(from, to))
        }
        "unlink" | "unlinkat" => own(paths.into_iter().next()).map(Effect::Remove),
        "mkdir" | "mkdirat" => own(paths.into_iter().next()).map(Effect::MakeDirectory),
        _ => {
            let touched = opened.iter().chain(&paths).any(is_ours);
            assert!(!touched, "the recorder does not know {name}");
            None
        }
    }
}

/// What stands between two signs, decoded.
fn between(text: &str, open: char, close: char) -> impl Iterator<Item = Vec<u8>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once(open)?;
        let (inside, after) = after.split_once(close)?;
        rest = after;
        let digits = inside.replace("\\x", "");
        Some(hex::decode(digits).unwrap_or_default())
    })
}

#[test]
fn what_strace_writes_is_read() {
    let hex = |text: &str| -> String {
        let digits = hex::encode(text).into_bytes();
        let pairs = digits
            .chunks(2)
            .map(|pair| String::from_utf8_lossy(pair).into_owned());
        pairs.flat_map(|pair| ["\\x".to_owned(), pair]).collect()
    };
    let (directory, file, other) = ("/w", hex("/w/a b.new"), hex("/w/a b"));
    let log = format!(
        "7 openat(AT_FDCWD<{d}>, \"{file}\", O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC, 0600) = 3<{file}>\n\
         7 write(3<{file}>, \"{text}\", 4 <unfinished ...>\n\
         8 openat(AT_FDCWD<{d}>, \"{other}\", O_RDONLY|O_CLOEXEC) = -1 ENOENT (No such file or directory)\n\
         7 <... write resumed>) = 4\n\
         7 fsync(3<{file}>) = 0\n\
         7 rename(\"{file}\", \"{other}\") = 0\n\
         7 fsync(3<{d}>) = 0\n\
         7 write(2</dev/null>, \"{text}\", 4) = 4\n\
         7 +++ exited with 0 +++\n",
        d = hex(directory),
        text = hex("x\"\n<"),
    );
    let (new, old) = (Utf8PathBuf::from("/w/a b.new"), Utf8PathBuf::from("/w/a b"));
    let expected = [
        Effect::Create(new.clone()),
        Effect::Append(new.clone(), b"x\"\n<".to_vec()),
        Effect::Sync(new.clone()),
        Effect::Rename(new, old),
        Effect::Sync("/w".into()),
    ];
    assert_eq!(effects(&log, Utf8Path::new(directory)), expected);
}

//! What is at a path where a Unix socket is to be: nothing, a leftover, or somebody.
//! It looks and never removes; whose the place is, is decided elsewhere.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;

use camino::Utf8Path;
use tokio::net::UnixStream;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Occupant {
    /// Nothing.
    Nobody,
    /// A socket on which nobody listens: its process is gone and was killed.
    Leftover,
    /// A process that listens.
    Listener(Listener),
    /// Something that is no socket, such as `a directory`.
    NoSocket(&'static str),
}

/// A process that listens on a Unix socket, as the kernel knows it from the socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its number; unknown when it is outside this process's namespace.
    pub pid: Option<i32>,
    /// Its user.
    pub uid: u32,
    /// Its program's name, while it lives and may be looked at.
    pub program: Option<String>,
}

impl Listener {
    /// Who listens at the other end of a connection.
    pub fn of(stream: &UnixStream) -> io::Result<Self> {
        let peer = stream.peer_cred()?;
        let pid = peer.pid().filter(|pid| *pid > 0);
        let program = pid.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).ok());
        Ok(Self {
            pid,
            uid: peer.uid(),
            program: program.map(|name| name.trim_end().to_owned()),
        })
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.program, self.pid) {
            (Some(program), Some(pid)) => write!(f, "{program} (process {pid})"),
            (None, Some(pid)) => write!(f, "process {pid} of user {}", self.uid),
            (_, None) => write!(f, "a process of user {}", self.uid),
        }
    }
}

/// Looks at `path`. A process that listens there sees a connection that ends at once.
pub async fn look(path: &Utf8Path) -> io::Result<Occupant> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Occupant::Nobody),
        Err(error) => return Err(error),
    };
    if !kind.is_socket() {
        return Ok(Occupant::NoSocket(if kind.is_dir() {
            "a directory"
        } else if kind.is_symlink() {
            "a symbolic link"
        } else {
            "a file"
        }));
    }
    match UnixStream::connect(path).await {
        Ok(stream) => Ok(Occupant::Listener(Listener::of(&stream)?)),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(Occupant::Leftover),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Occupant::Nobody),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use camino::Utf8PathBuf;
    use tokio::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn each_kind_of_occupant_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(dir.path().join("s")).unwrap();
        assert_eq!(look(&path).await.unwrap(), Occupant::Nobody);
        fs::write(&path, "").unwrap();
        assert_eq!(look(&path).await.unwrap(), Occupant::NoSocket("a file"));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let found = look(&path).await.unwrap();
        assert_eq!(found, Occupant::NoSocket("a directory"));
        fs::remove_dir(&path).unwrap();

        let listener = UnixListener::bind(&path).unwrap();
        let Occupant::Listener(found) = look(&path).await.unwrap() else {
            panic!("nobody is said to listen");
        };
        assert_eq!(found.pid, i32::try_from(std::process::id()).ok());
        assert_eq!(found.uid, nix::unistd::geteuid().as_raw());
        assert!(found.to_string().contains(" (process "), "{found}");
        drop(listener);
        assert_eq!(look(&path).await.unwrap(), Occupant::Leftover);
    }
}

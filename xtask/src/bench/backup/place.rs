//! Where programs store: a fresh directory, or a bucket of an S3 server that counts requests. One at a time.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use clap::ValueEnum;

use crate::go_program::VERSITYGW;

/// Which kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A local directory.
    Dir,
    /// versitygw on the loopback interface.
    S3,
}

/// The key of a server that ends with the benchmark.
pub const ACCESS_KEY: &str = "bench";
/// Its secret half.
pub const SECRET_KEY: &str = "bench-secret";
const START_LIMIT: Duration = Duration::from_secs(20);

/// How many requests of each kind there were.
pub type Requests = BTreeMap<&'static str, u64>;

/// All stores of one benchmark.
#[derive(Debug)]
pub struct Place {
    directory: PathBuf,
    server: Option<Server>,
}

/// One store.
#[derive(Debug, Clone)]
pub struct Store {
    /// Its files on this host; of a bucket, those of the server.
    pub path: PathBuf,
    /// Its name; of a bucket.
    pub name: String,
    /// The server's address; none for a directory.
    pub endpoint: Option<String>,
}

#[derive(Debug)]
struct Server {
    child: Child,
    endpoint: String,
    log: PathBuf,
}

impl Place {
    /// Starts the server where one is wanted.
    pub fn new(kind: Kind, directory: PathBuf) -> anyhow::Result<Self> {
        remove(&directory)?;
        fs::create_dir_all(&directory)
            .with_context(|| format!("could not create {}", directory.display()))?;
        let server = match kind {
            Kind::Dir => None,
            Kind::S3 => Some(Server::start(&directory)?),
        };
        Ok(Self { directory, server })
    }

    /// An empty store; one of the same name is removed.
    pub fn store(&self, name: &str) -> anyhow::Result<Store> {
        let path = self.directory.join(name);
        remove(&path)?;
        // For the server, a directory is a bucket.
        fs::create_dir(&path).with_context(|| format!("could not create {}", path.display()))?;
        Ok(Store {
            path,
            name: name.to_owned(),
            endpoint: self.server.as_ref().map(|server| server.endpoint.clone()),
        })
    }

    /// How many requests of each kind were served so far; none for a directory.
    pub fn requests(&self) -> anyhow::Result<Option<Requests>> {
        let Some(server) = &self.server else {
            return Ok(None);
        };
        let log = fs::read_to_string(&server.log).context("the S3 server wrote no log")?;
        let mut counts = BTreeMap::new();
        for kind in log.lines().filter_map(kind) {
            *counts.entry(kind).or_default() += 1;
        }
        ensure!(
            !counts.is_empty(),
            "the S3 server's log names no operation in {}",
            server.log.display()
        );
        Ok(Some(counts))
    }

    /// Ends the server and removes what was stored.
    pub fn end(self) -> anyhow::Result<()> {
        let directory = self.directory.clone();
        drop(self);
        remove(&directory)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            // It is gone already, or goes now.
            let _ = server.child.kill();
            let _ = server.child.wait();
        }
    }
}

impl Server {
    fn start(directory: &Path) -> anyhow::Result<Self> {
        let program = VERSITYGW.ensure()?;
        // The port is free when it is let go, and nobody else is told of it.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let log = directory.with_extension("access-log");
        remove(&log)?;
        let child = Command::new(program)
            .args(["--port", &address.to_string()])
            .args(["--access", ACCESS_KEY, "--secret", SECRET_KEY, "--quiet"])
            .arg("--access-log")
            .arg(&log)
            .arg("posix")
            .arg(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("could not start the S3 server")?;
        let server = Self {
            child,
            endpoint: format!("http://{address}"),
            log,
        };
        let start = Instant::now();
        while std::net::TcpStream::connect(address).is_err() {
            if start.elapsed() > START_LIMIT {
                bail!("the S3 server does not answer at {address}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }
}

/// The kind of request in a line of the server's access log, which names its operation, such as `s3_PutObject`.
fn kind(line: &str) -> Option<&'static str> {
    let operation = line.split(' ').find_map(|word| word.strip_prefix("s3_"))?;
    let kinds = [
        ("Put", "PUT"),
        ("Get", "GET"),
        ("Head", "HEAD"),
        ("List", "LIST"),
    ];
    let known = kinds
        .iter()
        .find(|(prefix, _)| operation.starts_with(prefix));
    Some(known.map_or("other", |(_, kind)| kind))
}

/// The bytes of all files below a directory.
pub fn size(directory: &Path) -> anyhow::Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        total += if metadata.is_dir() {
            size(&entry.path())?
        } else {
            metadata.len()
        };
    }
    Ok(total)
}

/// Removes what may not be there.
pub fn remove(path: &Path) -> anyhow::Result<()> {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("could not remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::kind;

    #[test]
    fn the_kind_of_a_request_is_read_from_its_operation() {
        let line = "bench bucket [21/November/2026:17:52:27 +0000] 127.0.0.1 bench 78EA s3_PutObject packs/1 /bucket/packs/1 200";
        assert_eq!(kind(line), Some("PUT"));
        assert_eq!(kind("x s3_ListObjectsV2 y"), Some("LIST"));
        assert_eq!(kind("x s3_UploadPart y"), Some("other"));
        assert_eq!(kind("log starts 2026-11-21"), None);
    }
}

//! The backup engine without the daemon: one command per process, so that a benchmark sees what an operator
//! would, process start and fsync included. It also makes the data and measures processes, its own and others'.

mod data;
mod measure;
mod writer;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, Parser, Subcommand};
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use tenantd::backup::{
    CaptureReport, Identity, NobodyWrites, NodeKey, Pause, RemoteRepository, Repository,
    RestoreRequest, RootKey, Signer, Silent, SnapshotOutcome, SnapshotRequest, SystemClock, Trust,
};
use tenantd::object_store::{
    DirectoryStore, ObjectStore, RetryBudget, Retrying, S3Keys, S3Settings, S3Store, StoreUrl,
    Uploads,
};

use self::writer::Writer;

/// What the daemon gives to consolidation in an hourly backup.
const CONSOLIDATION: u64 = 32 << 20;
/// The daemon's workers.
const WORKERS: usize = 2;

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Where the repository is.
#[derive(Debug, Args)]
struct Place {
    /// The writer's directory: index, keys, head. Made by the first backup.
    #[arg(long)]
    home: Utf8PathBuf,
    /// `dir:/path` or `s3://bucket`; the latter needs an endpoint and keys.
    #[arg(long)]
    store: StoreUrl,
    /// Of an S3 store, such as `http://127.0.0.1:7070`.
    #[arg(long)]
    endpoint: Option<String>,
    /// Of a store that ends with the benchmark: a key on the command line is no secret.
    #[arg(long)]
    access_key: Option<String>,
    /// Its secret half.
    #[arg(long)]
    secret_key: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes a snapshot of a directory; says in JSON what it was.
    Backup(Backup),
    /// Restores the newest snapshot to a directory that is not there.
    Restore {
        #[command(flatten)]
        place: Place,
        /// The directory.
        target: Utf8PathBuf,
    },
    /// Makes the data of a benchmark.
    Data {
        /// What.
        kind: data::Kind,
        /// Where.
        to: Utf8PathBuf,
        /// Bytes, or how many files.
        size: u64,
    },
    /// Changes a share of a database's pages.
    ChangePages {
        /// The database.
        database: Utf8PathBuf,
        /// The share, 0–1.
        share: f64,
        /// Another seed changes others.
        seed: u64,
    },
    /// Changes mixed data as an hour of work would.
    ChangeHour {
        /// The directory.
        state: Utf8PathBuf,
        /// Which hour.
        hour: u64,
    },
    /// Runs a program and says in JSON what it cost.
    Measure {
        /// The program and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
}

#[derive(Debug, Args)]
struct Backup {
    #[command(flatten)]
    place: Place,
    /// The directory.
    state: Utf8PathBuf,
    /// zstd's level.
    #[arg(long, default_value_t = 3, allow_negative_numbers = true)]
    level: i32,
    /// Changes this share of the files at the last moment before the pause begins, as a busy agent would.
    #[arg(long, default_value_t = 0.0)]
    changing: f64,
}

/// What became of a backup.
#[derive(Debug, Serialize)]
struct BackupReport {
    /// Size of all packs and tree parts that the snapshot names, in bytes.
    stored: u64,
    /// What was newly stored, in bytes.
    added: u64,
    /// From the moment that nothing wrote any more until all may write again, in microseconds.
    paused_us: u64,
    capture: CaptureReport,
}

#[derive(Debug, Serialize)]
struct RestoreReport {
    files: u64,
    bytes: u64,
    fetched: u64,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Backup(options) => print(&blocking(backup(&options))?),
        Command::Restore { place, target } => print(&blocking(restore(&place, &target))?),
        Command::Data { kind, to, size } => data::make(kind, &to, size),
        Command::ChangePages {
            database,
            share,
            seed,
        } => data::change_pages(&database, share, seed),
        Command::ChangeHour { state, hour } => data::change_hour(&state, hour),
        Command::Measure { command } => print(&measure::measure(&command)?),
    }
}

fn blocking<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()?
        .block_on(work)
}

fn print(report: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(report)?);
    Ok(())
}

async fn backup(options: &Backup) -> anyhow::Result<BackupReport> {
    let place = &options.place;
    let recipients = [place.operator()?.recipient()];
    let local = place.home.join("repository");
    let mut repository =
        Repository::create(&local, place.open()?, &recipients, Timestamp::now()).await?;
    let writer = Arc::new(Writer::new(&options.state, options.changing)?);
    let pause: Arc<dyn Pause> = if options.changing > 0.0 {
        Arc::clone(&writer) as _
    } else {
        Arc::new(NobodyWrites)
    };
    let request = SnapshotRequest {
        root: options.state.clone(),
        clones: clones(&options.state)?,
        labels: [("kind".to_owned(), "tenant".to_owned())].into(),
        pause,
        clock: Arc::new(SystemClock),
        signer: signer()?,
        level: options.level,
        consolidation: CONSOLIDATION,
        progress: Arc::new(Silent),
    };
    Ok(match repository.snapshot(request).await? {
        SnapshotOutcome::Committed(record) => BackupReport {
            stored: record.stored,
            added: record.added,
            paused_us: writer.paused_us().unwrap_or(record.capture.pause_us),
            capture: record.capture,
        },
        SnapshotOutcome::Unchanged(capture) => BackupReport {
            stored: 0,
            added: 0,
            paused_us: writer.paused_us().unwrap_or(capture.pause_us),
            capture,
        },
    })
}

/// Beside the state, so that blocks can be shared.
fn clones(state: &Utf8Path) -> anyhow::Result<Utf8PathBuf> {
    let (parent, name) = state.parent().zip(state.file_name()).context("no parent")?;
    Ok(parent.join(format!(".{name}.clones")))
}

async fn restore(place: &Place, target: &Utf8Path) -> anyhow::Result<RestoreReport> {
    let store = place.open()?;
    let prefixes = RemoteRepository::find(store.as_ref()).await?;
    ensure!(
        prefixes.len() == 1,
        "the store holds {} repositories",
        prefixes.len()
    );
    let trust = Trust::root(root()?.public());
    let remote = RemoteRepository::open(store, prefixes[0], None, trust).await?;
    let snapshots = remote.snapshots().await?;
    let newest = snapshots.newest()?;
    let keys = remote.unlock(newest, &[place.operator()?]).await?;
    let request = RestoreRequest {
        target: target.to_owned(),
        only: None,
        ownership: true,
        keep_setuid: false,
        progress: Arc::new(Silent),
    };
    let report = remote.restore(newest, &keys, &request).await?;
    Ok(RestoreReport {
        files: report.files,
        bytes: report.bytes,
        fetched: report.fetched,
    })
}

/// Fixed: what is signed here is trusted nowhere else.
fn root() -> anyhow::Result<RootKey> {
    Ok(RootKey::from_seed(&[1; 32])?)
}

fn signer() -> anyhow::Result<Signer> {
    let key = NodeKey::from_seed(&[2; 32])?;
    let certificate = root()?.certify(&key.public(), 1)?;
    Ok(Signer { key, certificate })
}

impl Place {
    /// The operator's identity, kept in the writer's directory: here one host is both.
    fn operator(&self) -> anyhow::Result<Identity> {
        let file = self.home.join("operator.txt");
        if !Path::new(&file).exists() {
            fs::create_dir_all(&self.home)?;
            fs::write(&file, Identity::generate().to_text().expose_secret())?;
        }
        let text = SecretString::from(fs::read_to_string(&file)?);
        Ok(Identity::from_text(&text)?)
    }

    fn open(&self) -> anyhow::Result<Arc<dyn ObjectStore>> {
        Ok(match &self.store {
            StoreUrl::Directory(path) => Arc::new(DirectoryStore::new(path)),
            StoreUrl::S3 { bucket, prefix } => {
                let missing = "an S3 store needs --endpoint, --access-key and --secret-key";
                let settings = S3Settings {
                    bucket: bucket.clone(),
                    prefix: prefix.clone(),
                    endpoint: self.endpoint.as_deref().context(missing)?.parse()?,
                    region: "us-east-1".to_owned(),
                    path_style: true,
                    uploads: Uploads::default(),
                    answer_within: S3Settings::ANSWER_WITHIN,
                };
                let keys = S3Keys {
                    access_key: self.access_key.clone().context(missing)?.into(),
                    secret_key: self.secret_key.clone().context(missing)?.into(),
                };
                Arc::new(Retrying::new(
                    S3Store::new(&settings, &keys)?,
                    RetryBudget::default(),
                ))
            }
        })
    }
}

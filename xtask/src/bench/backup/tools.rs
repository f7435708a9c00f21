//! How each program is told to make a repository, to back up and to restore: what an operator would type.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use super::engine::Engine;
use super::peers::Peer;
use super::place::{ACCESS_KEY, SECRET_KEY, Store};
use crate::process;

const PASSWORD: &str = "bench";

/// A program that backs up.
#[derive(Debug, Clone)]
pub enum Tool {
    /// Ours.
    Tenantd,
    /// Another, and where it is.
    Peer(Peer, PathBuf),
}

/// A repository of one program.
#[derive(Debug)]
pub struct Repository<'a> {
    engine: &'a Engine,
    tool: Tool,
    store: Store,
    /// Caches, keys and settings of the program.
    home: PathBuf,
}

impl Tool {
    /// Its name, for directories.
    pub fn name(&self) -> String {
        match self {
            Self::Tenantd => "tenantd".to_owned(),
            Self::Peer(peer, _) => format!("{peer:?}").to_lowercase(),
        }
    }

    /// Its name, version and options.
    pub fn version(&self) -> anyhow::Result<String> {
        let (program, question, options) = match self {
            Self::Tenantd => return Ok("tenantd, zstd 3, packs ≤ 16 MiB, age".to_owned()),
            Self::Peer(Peer::Restic, program) => (program, "version", "defaults"),
            Self::Peer(Peer::Rustic, program) => (program, "--version", "defaults"),
            Self::Peer(Peer::Kopia, program) => (program, "--version", "--compression=zstd"),
            Self::Peer(Peer::Borg, program) => (
                program,
                "--version",
                "--encryption=repokey-blake2 --compression=zstd,3",
            ),
        };
        let said = process::output(Command::new(program).arg(question))?;
        let version = said.lines().next().unwrap_or_default();
        Ok(match version.split_once(" compiled with") {
            Some((version, _)) => format!("{version}, {options}"),
            None => format!("{} {version}, {options}", self.name()),
        })
    }

    /// Makes an empty repository.
    pub fn init<'a>(
        &self,
        engine: &'a Engine,
        store: Store,
        home: PathBuf,
    ) -> anyhow::Result<Repository<'a>> {
        super::place::remove(&home)?;
        fs::create_dir_all(&home)
            .with_context(|| format!("could not create {}", home.display()))?;
        let repository = Repository {
            engine,
            tool: self.clone(),
            store,
            home,
        };
        if let Some(mut command) = repository.init_command()? {
            process::run_logged(&mut command, &format!("{}-init", self.name()))?;
        }
        Ok(repository)
    }
}

impl Repository<'_> {
    /// Where it stores.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Backs a directory up.
    pub fn backup(&self, state: &Path) -> Command {
        let mut command = self.command();
        match &self.tool {
            Tool::Tenantd => command.arg("backup").args(self.place()).arg(state),
            Tool::Peer(Peer::Restic, _) => command.args(["backup", "--quiet"]).arg(state),
            Tool::Peer(Peer::Rustic, _) => command.arg("backup").arg(state),
            Tool::Peer(Peer::Kopia, _) => command.args(["snapshot", "create"]).arg(state),
            Tool::Peer(Peer::Borg, _) => command
                .args(["create", "--compression=zstd,3"])
                .arg(format!("{}::{{now:%s-%f}}", self.store.path.display()))
                .arg(state),
        };
        command
    }

    /// Restores the newest snapshot of `state` to `target`; gives also where its files are then.
    pub fn restore(&self, state: &Path, target: &Path) -> anyhow::Result<(Command, PathBuf)> {
        let mut command = self.command();
        let below = |path: &Path| target.join(path.strip_prefix("/").unwrap_or(path));
        let mut files = target.to_owned();
        match &self.tool {
            Tool::Tenantd => {
                command.arg("restore").args(self.place()).arg(target);
            }
            Tool::Peer(Peer::Restic, _) => {
                command
                    .args(["restore", "--quiet", "latest", "--target"])
                    .arg(target);
                files = below(state);
            }
            Tool::Peer(Peer::Rustic, _) => {
                let from = format!("latest:{}", state.display());
                command.arg("restore").arg(from).arg(target);
            }
            Tool::Peer(Peer::Kopia, _) => {
                command.args(["snapshot", "restore"]).arg(state).arg(target);
            }
            Tool::Peer(Peer::Borg, program) => {
                // It extracts to where it is.
                let newest = Command::new(program)
                    .envs(self.settings())
                    .args(["list", "--last=1", "--short"])
                    .arg(&self.store.path)
                    .output()?;
                let newest = String::from_utf8_lossy(&newest.stdout).trim().to_owned();
                fs::create_dir_all(target)?;
                command = Command::new("env");
                command
                    .envs(self.settings())
                    .arg(format!("--chdir={}", target.display()))
                    .arg(program)
                    .arg("extract")
                    .arg(format!("{}::{newest}", self.store.path.display()));
                files = below(state);
            }
        }
        Ok((command, files))
    }

    fn init_command(&self) -> anyhow::Result<Option<Command>> {
        let mut command = self.command();
        match (&self.tool, &self.store.endpoint) {
            (Tool::Tenantd, _) => return Ok(None),
            (Tool::Peer(Peer::Restic | Peer::Rustic, _), _) => {
                command.arg("init");
            }
            (Tool::Peer(Peer::Borg, _), None) => {
                command
                    .args(["init", "--encryption=repokey-blake2"])
                    .arg(&self.store.path);
            }
            (Tool::Peer(Peer::Borg, _), Some(_)) => bail!("borg stores in directories only"),
            (Tool::Peer(Peer::Kopia, _), None) => {
                command
                    .args(["repository", "create", "filesystem", "--path"])
                    .arg(&self.store.path);
            }
            (Tool::Peer(Peer::Kopia, _), Some(endpoint)) => {
                let host = endpoint.trim_start_matches("http://");
                command.args(["repository", "create", "s3", "--disable-tls"]);
                command.args(["--bucket", &self.store.name, "--endpoint", host]);
                command.args([
                    "--access-key",
                    ACCESS_KEY,
                    "--secret-access-key",
                    SECRET_KEY,
                ]);
            }
        }
        Ok(Some(command))
    }

    /// The program with its settings.
    fn command(&self) -> Command {
        let program = match &self.tool {
            Tool::Tenantd => self.engine.path(),
            Tool::Peer(_, program) => program,
        };
        let mut command = Command::new(program);
        command.envs(self.settings());
        command
    }

    /// Arguments by which our own program finds the repository.
    fn place(&self) -> Vec<String> {
        let store = match &self.store.endpoint {
            None => format!("dir:{}", self.store.path.display()),
            Some(_) => format!("s3://{}", self.store.name),
        };
        let mut arguments = vec![
            format!("--home={}", self.home.display()),
            format!("--store={store}"),
        ];
        if let Some(endpoint) = &self.store.endpoint {
            arguments.extend([
                format!("--endpoint={endpoint}"),
                format!("--access-key={ACCESS_KEY}"),
                format!("--secret-key={SECRET_KEY}"),
            ]);
        }
        arguments
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        let home = self.home.display();
        let mut settings = vec![
            ("HOME", home.to_string()),
            ("XDG_CACHE_HOME", format!("{home}/cache")),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
        ];
        let path = self.store.path.display();
        let url = |scheme: &str| match &self.store.endpoint {
            None => path.to_string(),
            Some(endpoint) => format!("{scheme}{endpoint}/{}", self.store.name),
        };
        match &self.tool {
            Tool::Tenantd => {}
            Tool::Peer(Peer::Restic, _) => settings.extend([
                ("RESTIC_PASSWORD", PASSWORD.to_owned()),
                ("RESTIC_REPOSITORY", url("s3:")),
            ]),
            Tool::Peer(Peer::Rustic, _) => {
                settings.push(("RUSTIC_PASSWORD", PASSWORD.to_owned()));
                match &self.store.endpoint {
                    None => settings.push(("RUSTIC_REPOSITORY", path.to_string())),
                    Some(endpoint) => settings.extend([
                        ("RUSTIC_REPOSITORY", "opendal:s3".to_owned()),
                        ("OPENDAL_BUCKET", self.store.name.clone()),
                        ("OPENDAL_ENDPOINT", endpoint.clone()),
                        ("OPENDAL_REGION", "us-east-1".to_owned()),
                    ]),
                }
            }
            Tool::Peer(Peer::Kopia, _) => settings.extend([
                ("KOPIA_PASSWORD", PASSWORD.to_owned()),
                ("KOPIA_CHECK_FOR_UPDATES", "false".to_owned()),
            ]),
            Tool::Peer(Peer::Borg, _) => settings.extend([
                ("BORG_PASSPHRASE", PASSWORD.to_owned()),
                ("BORG_BASE_DIR", home.to_string()),
            ]),
        }
        settings
    }
}

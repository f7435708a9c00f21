//! A real S3 server in a test machine, and what its owner sees of the bucket from outside.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use xtask::machine::{Machine, Output};

/// The region that requests must be signed for.
pub const REGION: &str = "eu-test-1";

/// A key pair as credentials are kept in files: two lines.
pub const KEYS: &str = "tenantd-test\nkeep-this-secret\n";

/// Where the server keeps its buckets, an object a file.
const DATA: &str = "/var/lib/s3-server";

const UNIT: &str = "s3-server";
const PROGRAM: &str = "/usr/local/bin/s3-server";

/// How long the server may take to listen.
const SOON: Duration = Duration::from_secs(10);

/// The server, whether it runs or not; it keeps its port and its data.
pub struct Server<'a> {
    machine: &'a Machine,
    port: String,
}

impl<'a> Server<'a> {
    /// Starts a server without any bucket, on a port that is free.
    pub fn start(machine: &'a Machine) -> anyhow::Result<Self> {
        machine.copy_in(xtask::go_program::VERSITYGW.ensure()?, PROGRAM)?;
        machine.run(["mkdir", "--parents", DATA])?;
        run(machine, "0")?;
        let port = machine.wait_until("the S3 server to listen", SOON, |machine| {
            let listening = machine.run(["ss", "--no-header", "-ltnp"])?;
            let line = listening.stdout.lines().find(|line| line.contains(UNIT));
            let port = line.and_then(|line| {
                let address = line.split_ascii_whitespace().nth(3)?;
                Some(address.rsplit_once(':')?.1.to_owned())
            });
            Ok(port.ok_or(listening.stdout))
        })?;
        Ok(Self { machine, port })
    }

    /// Its endpoint.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends the server; connections are refused from now on.
    pub fn stop(&self) -> anyhow::Result<()> {
        self.machine.run(["systemctl", "stop", UNIT])?;
        Ok(())
    }

    /// Starts the server again, where it was.
    pub fn start_again(&self) -> anyhow::Result<()> {
        run(self.machine, &self.port)?;
        self.machine
            .wait_for(["curl", "--silent", &self.endpoint()], SOON)?;
        Ok(())
    }

    /// Connections are accepted and nothing is answered, until [`Self::speak`].
    pub fn fall_silent(&self) -> anyhow::Result<()> {
        self.signal("STOP")
    }

    /// Ends a silence.
    pub fn speak(&self) -> anyhow::Result<()> {
        self.signal("CONT")
    }

    fn signal(&self, signal: &str) -> anyhow::Result<()> {
        let signal = format!("--signal={signal}");
        self.machine.run(["systemctl", "kill", &signal, UNIT])?;
        Ok(())
    }

    /// Makes a bucket, as its owner would.
    pub fn make_bucket(&self, bucket: &str) -> anyhow::Result<()> {
        self.ask(&["--request", "PUT"], bucket)?;
        Ok(())
    }

    /// The keys of a bucket's objects, by the server's word.
    pub fn keys(&self, bucket: &str) -> anyhow::Result<Vec<String>> {
        let page = self.ask(&[], &format!("{bucket}?list-type=2"))?.stdout;
        ensure!(
            page.contains("<IsTruncated>false</IsTruncated>"),
            "more than one page: {page}"
        );
        let keys = page.split("<Key>").skip(1);
        keys.map(|rest| {
            let (key, _) = rest.split_once("</Key>").context("a key without end")?;
            Ok(key.to_owned())
        })
        .collect()
    }

    /// Objects in which one of the words can be read.
    pub fn objects_with(&self, words: &[&str]) -> anyhow::Result<String> {
        let patterns = words.iter().flat_map(|word| ["-e", word]);
        let grep = ["grep", "--recursive", "--text", "--files-with-matches"];
        let argv = grep.into_iter().chain(patterns).chain([DATA]);
        let found = self.machine.attempt(argv)?;
        ensure!(matches!(found.code, Some(0 | 1)), "{found:?}");
        Ok(found.stdout)
    }

    /// A request that is signed with the server's keys.
    fn ask(&self, options: &[&str], what: &str) -> anyhow::Result<Output> {
        let signature = format!("aws:amz:{REGION}:s3");
        let user = KEYS.trim().replace('\n', ":");
        let url = format!("{}/{what}", self.endpoint());
        let curl = ["curl", "--silent", "--show-error", "--fail-with-body"];
        let signed = ["--aws-sigv4", &signature, "--user", &user];
        let unsigned_body = ["--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD"];
        let argv = curl.into_iter().chain(signed).chain(unsigned_body);
        self.machine
            .run(argv.chain(options.iter().copied()).chain([url.as_str()]))
    }
}

fn run(machine: &Machine, port: &str) -> anyhow::Result<()> {
    let (id, secret) = KEYS.trim().split_once('\n').context("keys are two lines")?;
    machine.run([
        "systemd-run",
        "--collect",
        &format!("--unit={UNIT}"),
        &format!("--setenv=ROOT_ACCESS_KEY={id}"),
        &format!("--setenv=ROOT_SECRET_KEY={secret}"),
        PROGRAM,
        &format!("--port=127.0.0.1:{port}"),
        &format!("--region={REGION}"),
        "posix",
        DATA,
    ])?;
    Ok(())
}

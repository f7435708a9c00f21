//! What is measured, in which order, and which row it becomes. Programs take turns, so that what else the host
//! does meets all of them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;
use serde::Deserialize;

use super::compare::assert_same;
use super::engine::{Engine, Usage, json};
use super::place::{self, Kind, Place, Requests};
use super::promise::{Beside, Promise, figures};
use super::scale::Scale;
use super::tools::{Repository, Tool};
use super::xfs::Xfs;
use crate::bench::{Measured, Report, Row, Target};
use crate::progress;

/// Runs of what takes a second or less.
const SHORT_RUNS: usize = 5;
/// The share of a database's pages, and of an agent's files, that changes.
const PAGES: f64 = 0.001;
const FILES: f64 = 0.01;
/// Everything that measuring needs.
#[derive(Debug)]
pub struct Bench {
    engine: Engine,
    tools: Vec<Tool>,
    versions: Vec<String>,
    place: Place,
    scale: Scale,
    data: PathBuf,
    work: PathBuf,
}

/// What tenantd says of a backup.
#[derive(Debug, Deserialize)]
struct Backup {
    paused_us: u64,
}

impl Bench {
    /// Prepares an empty place.
    pub fn new(
        engine: Engine,
        tools: Vec<Tool>,
        store: Kind,
        scale: Scale,
        directory: &Path,
    ) -> anyhow::Result<Self> {
        let work = directory.join("work");
        place::remove(&work)?;
        fs::create_dir_all(&work)
            .with_context(|| format!("could not create {}", work.display()))?;
        let versions = tools.iter().map(Tool::version);
        Ok(Self {
            versions: versions.collect::<anyhow::Result<_>>()?,
            place: Place::new(store, directory.join("store"))?,
            data: directory.join("data"),
            engine,
            tools,
            scale,
            work,
        })
    }

    /// Removes all but the data.
    pub fn end(self) -> anyhow::Result<()> {
        place::remove(&self.work)?;
        self.place.end()
    }

    /// D3: the first backup of a mixed state, and its restore.
    pub fn mixed(&self, report: &mut Report) -> anyhow::Result<()> {
        let state = self.data("mixed", self.scale.mixed)?;
        let bytes = place::size(&state)?;
        let (mut backups, mut restores) = (self.no_runs(), self.no_runs());
        let mut stored = self.no_runs();
        for turn in 0..self.scale.runs {
            for (at, tool) in self.tools.iter().enumerate() {
                let repository = self.repository(tool, "mixed")?;
                let title = format!("{}: first backup of D3", tool.name());
                backups[at].push(self.timed(title, &repository.backup(&state))?);
                stored[at].push(mebibytes(place::size(&repository.store().path)?));
                let check = (turn == 0).then_some(state.as_path());
                restores[at].push(self.restore(&repository, &state, check)?);
                place::remove(&repository.store().path)?;
            }
        }
        let name = format!("D3 ({:.0} MiB)", mebibytes(bytes));
        let rate = |usage: &Usage| mebibytes(bytes) / usage.seconds;
        let beside = self.beside();
        let per_gb = |usage: &Usage| usage.cpu * 1e9 / (mebibytes(bytes) * 1_048_576.0);
        Promise::of(format!("first backup of {name}"), "MiB/s")
            .restic(Target::AtLeastTimesPeer(2.0))
            .fastest(Target::AtLeastTimesPeer(1.2))
            .limits("the processor: see the next row")
            .report(&beside, &figures(&backups, rate), report)?;
        Promise::of("the same: processor per GB".to_owned(), "CPU-s")
            .restic(Target::TimesPeer(0.5))
            .limits("the compressor, then the cipher and two hashes")
            .report(&beside, &figures(&backups, per_gb), report)?;
        Promise::of("the same: stored".to_owned(), "MiB")
            .restic(Target::TimesPeer(1.05))
            .limits("the compressor's level")
            .report(&beside, &stored, report)?;
        Promise::of(format!("restore of {name}"), "MiB/s")
            .restic(Target::AtLeastTimesPeer(1.0))
            .limits("the processor and the target's file system")
            .report(&beside, &figures(&restores, rate), report)?;
        for (measure, runs, most) in [
            ("peak memory, backup of D3", &backups, 128.0),
            ("peak memory, restore of D3", &restores, 192.0),
        ] {
            let peaks = figures(runs, |usage| usage.peak_mib);
            Promise::of(measure.to_owned(), "MiB")
                .ours(Target::AtMost(most))
                .limits("packs on their way")
                .report(&beside, &peaks, report)?;
        }
        Ok(())
    }

    /// D1: the first backup of many small files, and one when nothing changed.
    pub fn files(&self, report: &mut Report) -> anyhow::Result<()> {
        let state = self.data("files", self.scale.files)?;
        let mut repositories = Vec::new();
        let (mut first, mut unchanged) = (self.no_runs(), self.no_runs());
        for (at, tool) in self.tools.iter().enumerate() {
            let repository = self.repository(tool, "files")?;
            let title = format!("{}: first backup of D1", tool.name());
            first[at].push(self.timed(title, &repository.backup(&state))?);
            repositories.push(repository);
        }
        // What was changed within the clock's last tick is looked at twice.
        self.run(&repositories[0], &state)?;
        let before = self.place.requests()?;
        self.run(&repositories[0], &state)?;
        self.requests_row(before, report)?;
        for _ in 0..SHORT_RUNS {
            for (at, repository) in repositories.iter().enumerate() {
                let title = format!("{}: nothing changed in D1", self.tools[at].name());
                unchanged[at].push(self.timed(title, &repository.backup(&state))?);
            }
        }
        let beside = self.beside();
        let name = format!("D1 ({} files)", self.scale.files);
        Promise::of(format!("first backup of {name}"), "s").report(
            &beside,
            &figures(&first, |usage| usage.seconds),
            report,
        )?;
        Promise::of(format!("no change, {name}"), "s")
            .ours(Target::AtMost(0.6))
            .fastest(Target::TimesPeer(1.0 / 3.0))
            .limits("looking at every file: see the next row")
            .report(&beside, &figures(&unchanged, |usage| usage.seconds), report)?;
        Promise::of("the same: processor".to_owned(), "CPU-s").report(
            &beside,
            &figures(&unchanged, |usage| usage.cpu),
            report,
        )
    }

    /// The requests of one backup when nothing changed; only a server counts them.
    fn requests_row(&self, before: Option<Requests>, report: &mut Report) -> anyhow::Result<()> {
        let Some((before, after)) = before.zip(self.place.requests()?) else {
            return Ok(());
        };
        for (kind, most) in [
            ("PUT", 1.0),
            ("LIST", 0.0),
            ("GET", 0.0),
            ("HEAD", 0.0),
            ("other", 0.0),
        ] {
            let count = |counts: &Requests| counts.get(kind).copied().unwrap_or_default();
            #[expect(clippy::cast_precision_loss, reason = "a few requests")]
            let sent = (count(&after) - count(&before)) as f64;
            report.add(Row {
                measure: format!("requests when nothing changed: {kind}"),
                ours: sent.into(),
                peer: None,
                unit: "",
                target: Target::AtMost(most),
                limits: "the writer's order of things".to_owned(),
            });
        }
        Ok(())
    }

    /// D2: few changed pages of a large database.
    pub fn database(&self, report: &mut Report) -> anyhow::Result<()> {
        let made = self.data("database", self.scale.database)?;
        let state = self.work.join("database");
        copy(&made, &state)?;
        let mut repositories = Vec::new();
        for tool in &self.tools {
            let repository = self.repository(tool, "database")?;
            self.run(&repository, &state)?;
            repositories.push(repository);
        }
        let file = state.join("memory.sqlite");
        let size = mebibytes(fs::metadata(&file)?.len());
        let change = ["change-pages".as_ref(), file.as_os_str()];
        let share = PAGES.to_string();
        self.engine
            .run(change.into_iter().chain([share.as_ref(), "99".as_ref()]))?;
        let mut added = self.no_runs();
        let mut usages = self.no_runs();
        for (at, repository) in repositories.iter().enumerate() {
            let before = place::size(&repository.store().path)?;
            let title = format!("{}: few pages of D2 changed", self.tools[at].name());
            usages[at].push(self.timed(title, &repository.backup(&state))?);
            let after = place::size(&repository.store().path)?;
            added[at].push(mebibytes(after.saturating_sub(before)));
        }
        let beside = self.beside();
        let name = format!(
            "{}% of the pages of D2 ({size:.0} MiB) changed",
            PAGES * 100.0
        );
        Promise::of(format!("{name}: stored"), "MiB")
            .ours(Target::AtMost(size * 0.02))
            .restic(Target::TimesPeer(0.1))
            .limits("the size of a block")
            .report(&beside, &added, report)?;
        Promise::of(format!("{name}: time"), "s").report(
            &beside,
            &figures(&usages, |usage| usage.seconds),
            report,
        )
    }

    /// Restore after many increments, beside that of a repository that was just made.
    pub fn increments(&self, report: &mut Report) -> anyhow::Result<()> {
        let made = self.data("mixed", self.scale.aged)?;
        let state = self.work.join("aged");
        copy(&made, &state)?;
        let tool = &self.tools[0];
        let aged = self.repository(tool, "aged")?;
        self.run(&aged, &state)?;
        let count = self.scale.increments;
        progress::step(format!("tenantd: {count} increments"), || {
            for hour in 0..count {
                let hour = hour.to_string();
                let change = ["change-hour".as_ref(), state.as_os_str(), hour.as_ref()];
                self.engine.run(change)?;
                self.run(&aged, &state)?;
            }
            Ok(())
        })?;
        let fresh = self.repository(tool, "fresh")?;
        self.run(&fresh, &state)?;
        let (mut old, mut new) = (Vec::new(), Vec::new());
        for turn in 0..SHORT_RUNS {
            let check = (turn == 0).then_some(state.as_path());
            old.push(self.restore(&aged, &state, check)?.seconds);
            new.push(self.restore(&fresh, &state, check)?.seconds);
        }
        report.add(Row {
            measure: format!("restore after {count} increments"),
            ours: Measured::of(old)?,
            peer: Some(crate::bench::Peer {
                measured: Measured::of(new)?,
                version: "tenantd, a repository just made of the same state".to_owned(),
            }),
            unit: "s",
            target: Target::TimesPeer(1.3),
            limits: "how many packs hold little of what is wanted".to_owned(),
        });
        Ok(())
    }

    /// How long an agent stands still that has just written to one file in a hundred.
    pub fn pause(&self, report: &mut Report) -> anyhow::Result<()> {
        let xfs = Xfs::mount(&self.work)?;
        let state = xfs.directory().join("state");
        let count = self.scale.paused_files;
        self.make("files", count, &state)?;
        let repository = self.repository(&self.tools[0], "paused")?;
        self.run(&repository, &state)?;
        let mut pauses = Vec::new();
        progress::step(format!("tenantd: {} pauses", self.scale.pauses), || {
            for turn in 0..self.scale.pauses {
                // Without any change there is no pause.
                fs::write(state.join("turn"), turn.to_string())?;
                let mut backup = repository.backup(&state);
                backup.arg(format!("--changing={FILES}"));
                let usage = self.engine.measure(&backup)?;
                let backup: Backup = json(&usage.output)?;
                #[expect(clippy::cast_precision_loss, reason = "microseconds of one pause")]
                pauses.push(backup.paused_us as f64 / 1000.0);
            }
            Ok(())
        })?;
        pauses.sort_by(f64::total_cmp);
        for (name, target, rank) in [
            ("median", Target::None, pauses.len() / 2),
            ("p99", Target::AtMost(400.0), pauses.len() * 99 / 100),
        ] {
            let value = pauses.get(rank).context("nothing was measured")?;
            report.add(Row {
                measure: format!(
                    "pause, {count} files on XFS, {}% just changed, {name} of {}",
                    FILES * 100.0,
                    pauses.len()
                ),
                ours: (*value).into(),
                peer: None,
                unit: "ms",
                target,
                limits: "looking at every file while nothing writes".to_owned(),
            });
        }
        drop(repository);
        xfs.unmount()
    }

    fn no_runs<T>(&self) -> Vec<Vec<T>> {
        self.tools.iter().map(|_| Vec::new()).collect()
    }

    fn beside(&self) -> Beside<'_> {
        Beside {
            tools: &self.tools,
            versions: &self.versions,
        }
    }

    fn repository(&self, tool: &Tool, name: &str) -> anyhow::Result<Repository<'_>> {
        let name = format!("{}-{name}", tool.name());
        let home = self.work.join(&name).with_extension("home");
        tool.init(&self.engine, self.place.store(&name)?, home)
    }

    fn timed(&self, title: String, command: &Command) -> anyhow::Result<Usage> {
        progress::step(title, || self.engine.measure(command))
    }

    /// Backs up without a word.
    fn run(&self, repository: &Repository<'_>, state: &Path) -> anyhow::Result<()> {
        self.engine.measure(&repository.backup(state)).map(drop)
    }

    /// Restores, perhaps compares, and removes.
    fn restore(
        &self,
        repository: &Repository<'_>,
        state: &Path,
        check: Option<&Path>,
    ) -> anyhow::Result<Usage> {
        let target = self.work.join("restored");
        let (command, files) = repository.restore(state, &target)?;
        let usage = self.timed("restore".to_owned(), &command)?;
        if let Some(original) = check {
            assert_same(&files, original)?;
        }
        place::remove(&target)?;
        Ok(usage)
    }

    /// The data of this kind and size, made once.
    fn data(&self, kind: &str, size: u64) -> anyhow::Result<PathBuf> {
        let to = self.data.join(format!("{kind}-{size}"));
        if !to.exists() {
            let unfinished = to.with_extension("unfinished");
            place::remove(&unfinished)?;
            self.make(kind, size, &unfinished)?;
            fs::rename(&unfinished, &to)?;
        }
        Ok(to)
    }

    fn make(&self, kind: &str, size: u64, to: &Path) -> anyhow::Result<()> {
        progress::step(format!("Making data: {kind}, {size}"), || {
            let size = size.to_string();
            let make = [
                "data".as_ref(),
                kind.as_ref(),
                to.as_os_str(),
                size.as_ref(),
            ];
            self.engine.run(make).map(drop)
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "sizes of files")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

/// Copies a directory with its times; blocks are shared where they can be.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let mut copy = Command::new("cp");
    copy.args(["--archive", "--reflink=auto"]).arg(from).arg(to);
    crate::process::run(&mut copy)
}

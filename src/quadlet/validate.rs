//! Asks the host's own generator and verifier whether they accept the units, before anything is installed.
//! Everything happens in a directory of its own; what is installed is read and never changed.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use super::complaint::{self, Complaint, Gate};
use super::unit_set::{UnitFile, UnitSet};
use crate::host::process::{self, Output, ProcessError};
use crate::layout::{Layout, UnitNames};
use crate::tenant::TenantId;

/// Longest time for each program. A hundred tenants take the two of them a second together; on
/// a host so busy that a minute is not enough, nothing should be installed either.
pub(super) const LIMIT: Duration = Duration::from_mins(1);

/// Most bytes of complaints that are read, thousands of lines.
const MOST_SAID: usize = 1 << 20;

/// The host's programs.
#[derive(Debug, Clone)]
pub struct Tools {
    /// Podman's generator for system units.
    pub generator: Utf8PathBuf,
    /// `systemd-analyze`.
    pub analyze: Utf8PathBuf,
}

impl Default for Tools {
    /// Where Fedora and Debian have them.
    fn default() -> Self {
        Self {
            generator: "/usr/lib/systemd/system-generators/podman-system-generator".into(),
            analyze: "/usr/bin/systemd-analyze".into(),
        }
    }
}

/// Why the units could not be checked at all.
#[derive(Debug, thiserror::Error)]
pub enum ValidateError {
    /// The staging directory could not be filled.
    #[error("staging units: {path}")]
    Stage {
        /// What was being read or written.
        path: Utf8PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A program could not be run.
    #[error("running {program}; install it with systemd 255 and Podman 5.4 or newer")]
    Run {
        /// The program.
        program: Utf8PathBuf,
        /// The cause.
        source: ProcessError,
    },
    /// A program did not come to its end.
    #[error(
        "{program} did not end within {} s and was killed; run it by hand to see where it hangs",
        limit.as_secs()
    )]
    Hung {
        /// The program.
        program: Utf8PathBuf,
        /// The time it was given.
        limit: Duration,
    },
    /// A program failed without saying which unit is at fault.
    #[error("{program} failed ({status}) and named no unit: {output}")]
    Unexplained {
        /// The program.
        program: Utf8PathBuf,
        /// How it ended.
        status: std::process::ExitStatus,
        /// All that it said.
        output: String,
    },
}

/// What both gates said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Every complaint, those about no single tenant included.
    pub complaints: Vec<Complaint>,
}

impl Report {
    /// The complaints that forbid installing the units of `tenant`: its own, and those about
    /// all of them, such as an ordering cycle. Another tenant's faults do not stand in its way.
    pub fn against(&self, tenant: &TenantId) -> Vec<&Complaint> {
        let concerns = |c: &&Complaint| c.tenant.as_ref().is_none_or(|named| named == tenant);
        self.complaints.iter().filter(concerns).collect()
    }
}

/// Checks the tree that installing `sets` would leave: all installed tenants with these in place of their own.
///
/// The generator runs once and the verifier once, however many tenants there are. It blocks; call it
/// from a blocking thread, and never while another generator runs in the same staging directory.
///
/// # Errors
/// The check itself could not be made; a refusal is a [`Report`] with complaints.
pub fn validate(
    tools: &Tools,
    layout: &Layout,
    sets: &BTreeMap<TenantId, UnitSet>,
) -> Result<Report, ValidateError> {
    let directory = tempfile::Builder::new()
        .prefix("tenantd-check-")
        .tempdir()
        .map_err(stage_error(Utf8Path::new("/tmp")))?;
    let root = Utf8PathBuf::try_from(directory.path().to_owned())
        .map_err(|error| stage_error(Utf8Path::new("/tmp"))(error.into_io_error()))?;
    let stage = Stage::fill(&root, layout, sets)?;

    let mut generator = Command::new(&tools.generator);
    generator
        .arg("-no-kmsg-log")
        .arg(stage.generated.as_str())
        .env("QUADLET_UNIT_DIRS", &stage.quadlets);
    let generator = run(generator, &tools.generator, LIMIT)?;
    let said = text(&generator);
    let mut complaints = complaint::of_generator(&said, &stage.tenants);
    if !generator.status.success() && complaints.is_empty() {
        return Err(ValidateError::Unexplained {
            program: tools.generator.clone(),
            status: generator.status,
            output: said,
        });
    }
    complaints.extend(stage.vanished());

    let mut verifier = Command::new(&tools.analyze);
    verifier
        // Without `--recursive-errors=`: `no` would leave out the dependencies, and with them
        // every ordering cycle; `yes` would fail for faults of units that are not ours.
        .args(["verify", "--man=no", "--generators=no"])
        .args(stage.generated_units()?)
        .arg("default.target")
        .env("SYSTEMD_LOG_LEVEL", "warning")
        .env("SYSTEMD_UNIT_PATH", stage.unit_path(layout));
    let verifier = run(verifier, &tools.analyze, LIMIT)?;
    let said = text(&verifier);
    let found = complaint::of_verifier(&said, &stage.tenants);
    if !verifier.status.success() && found.is_empty() && complaints.is_empty() {
        return Err(ValidateError::Unexplained {
            program: tools.analyze.clone(),
            status: verifier.status,
            output: said,
        });
    }
    complaints.extend(found);
    complaints.sort();
    complaints.dedup();
    Ok(Report { complaints })
}

/// A staged copy of what would be installed.
struct Stage {
    /// Quadlet files, one directory per tenant.
    quadlets: Utf8PathBuf,
    /// Unit files.
    units: Utf8PathBuf,
    /// What the generator makes.
    generated: Utf8PathBuf,
    /// Every tenant with staged units.
    tenants: Vec<TenantId>,
}

impl Stage {
    fn fill(
        root: &Utf8Path,
        layout: &Layout,
        sets: &BTreeMap<TenantId, UnitSet>,
    ) -> Result<Self, ValidateError> {
        let stage = Self {
            quadlets: root.join("quadlets"),
            units: root.join("units"),
            generated: root.join("generated"),
            tenants: Vec::new(),
        };
        for path in [&stage.quadlets, &stage.units, &stage.generated] {
            std::fs::create_dir(path).map_err(stage_error(path))?;
        }
        let mut tenants: Vec<TenantId> = sets.keys().cloned().collect();
        for tenant in installed(layout)? {
            if !sets.contains_key(&tenant) {
                copy_tree(
                    &layout.quadlet_dir(&tenant),
                    &stage.quadlets.join(tenant.as_str()),
                )?;
                tenants.push(tenant);
            }
        }
        for (path, file) in sets.values().flat_map(UnitSet::iter) {
            let below =
                |from: &Utf8Path, to: &Utf8Path| Some(to.join(path.strip_prefix(from).ok()?));
            let staged = below(&layout.quadlet_root(), &stage.quadlets)
                .or_else(|| below(&layout.unit_dir(), &stage.units));
            if let Some(staged) = staged {
                write(&staged, file)?;
            }
        }
        Ok(Self { tenants, ..stage })
    }

    /// The staged units before the host's. What the host's generators made at the last reload is
    /// part of the whole, and ordering cycles show only with it; running all of them again would
    /// take half of the check's time.
    fn unit_path(&self, layout: &Layout) -> String {
        [
            self.units.as_str(),
            "/run/systemd/generator.early",
            layout.unit_dir().as_str(),
            self.generated.as_str(),
            "/run/systemd/generator",
            // An empty last one stands for the host's own directories.
            "",
        ]
        .join(":")
    }

    /// Tenants whose unit the generator did not make, whatever it said.
    fn vanished(&self) -> Vec<Complaint> {
        let lost = |tenant: &&TenantId| !self.generated.join(UnitNames(tenant).service()).exists();
        let complain = |tenant: &TenantId| Complaint {
            tenant: Some(tenant.clone()),
            file: Some(UnitNames(tenant).quadlet_file()),
            gate: Gate::Generator,
            message: format!("no {} was made", UnitNames(tenant).service()),
        };
        self.tenants.iter().filter(lost).map(complain).collect()
    }

    fn generated_units(&self) -> Result<Vec<String>, ValidateError> {
        let made = |tenant: &&TenantId| self.generated.join(UnitNames(tenant).service()).exists();
        let service = |tenant: &TenantId| self.generated.join(UnitNames(tenant).service());
        let mut units: Vec<_> = self.tenants.iter().filter(made).map(service).collect();
        for entry in self
            .units
            .read_dir_utf8()
            .map_err(stage_error(&self.units))?
        {
            let path = entry.map_err(stage_error(&self.units))?.into_path();
            if path.is_file() {
                units.push(path);
            }
        }
        Ok(units.into_iter().map(Into::into).collect())
    }
}

/// The tenants that have Quadlet files now.
fn installed(layout: &Layout) -> Result<Vec<TenantId>, ValidateError> {
    let root = layout.quadlet_root();
    let entries = match root.read_dir_utf8() {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(stage_error(&root)(error)),
    };
    let mut tenants = Vec::new();
    for entry in entries {
        let entry = entry.map_err(stage_error(&root))?;
        tenants.extend(entry.file_name().parse::<TenantId>());
    }
    Ok(tenants)
}

/// Copies the plain files of a directory; a tenant's has no others.
fn copy_tree(from: &Utf8Path, to: &Utf8Path) -> Result<(), ValidateError> {
    std::fs::create_dir(to).map_err(stage_error(to))?;
    for entry in from.read_dir_utf8().map_err(stage_error(from))? {
        let entry = entry.map_err(stage_error(from))?;
        if entry.path().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name()))
                .map_err(stage_error(entry.path()))?;
        }
    }
    Ok(())
}

fn write(path: &Utf8Path, file: &UnitFile) -> Result<(), ValidateError> {
    let parent = path.parent().unwrap_or(path);
    std::fs::create_dir_all(parent).map_err(stage_error(parent))?;
    match file {
        UnitFile::Text(text) => std::fs::write(path, text),
        UnitFile::Link(target) => symlink(target, path),
    }
    .map_err(stage_error(path))
}

pub(super) fn stage_error(path: &Utf8Path) -> impl FnOnce(io::Error) -> ValidateError {
    let path = path.to_owned();
    |source| ValidateError::Stage { path, source }
}

pub(super) fn run(
    mut command: Command,
    program: &Utf8Path,
    limit: Duration,
) -> Result<Output, ValidateError> {
    command.env("LC_ALL", "C");
    process::run_blocking(command, limit, MOST_SAID).map_err(|error| {
        let program = program.to_owned();
        match error {
            ProcessError::Timeout { limit, .. } => ValidateError::Hung { program, limit },
            source => ValidateError::Run { program, source },
        }
    })
}

pub(super) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::HostFacts;
    use super::super::tests::{BACKUP, OPENCLAW, rendered, resolved};
    use super::*;

    fn check(generator: &str, specs: &[&str]) -> Result<Report, ValidateError> {
        let tools = Tools {
            generator: generator.into(),
            analyze: "/bin/true".into(),
        };
        let sets = specs.iter().map(|spec| {
            let set = rendered(spec, &HostFacts::complete()).unwrap();
            (resolved(spec).tenant, set)
        });
        let nowhere = Layout::rooted("/nonexistent");
        validate(&tools, &nowhere, &sets.collect())
    }

    #[test]
    fn a_unit_that_silently_vanishes_is_missed() {
        let report = check("/bin/true", &[OPENCLAW, BACKUP]).unwrap();
        let against = |id: &str| {
            let complaints = report.against(&id.parse().unwrap()).into_iter();
            complaints.map(ToString::to_string).collect::<Vec<_>>()
        };
        insta::assert_debug_snapshot!((against("acme"), against("backup"), against("other")));
    }

    #[test]
    fn a_gate_that_cannot_answer_lets_nothing_through() {
        let failed = check("/bin/false", &[OPENCLAW]).unwrap_err();
        assert!(
            matches!(failed, ValidateError::Unexplained { .. }),
            "{failed}"
        );
        let mut hanging = Command::new("sleep");
        hanging.arg("600");
        let hung = run(hanging, "sleep".into(), Duration::from_millis(50)).unwrap_err();
        assert!(matches!(hung, ValidateError::Hung { .. }), "{hung}");
        let missing = check("/nonexistent/generator", &[OPENCLAW]).unwrap_err();
        assert!(matches!(missing, ValidateError::Run { .. }), "{missing}");
    }
}

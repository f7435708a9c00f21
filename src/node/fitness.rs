//! What a host must be before tenantd touches it, and what rendering must know of it.
//! Pure: looking is the adapters' business, and the doctor's checks go further.

use crate::host::facts::{Facts, SeLinux, systemd_number};
use crate::host::podman::PodmanError;
use crate::host::systemd::SystemdError;
use crate::quadlet::{Controller, HostFacts};

/// Oldest systemd that has what the units need (`RestartMode=direct`, `ImportCredential=`).
pub const OLDEST_SYSTEMD: u32 = 255;

/// Why tenants cannot run on this host.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// The process is not root.
    #[error("this must be run as root")]
    NotRoot,
    /// Another init runs this host.
    #[error("this host is not run by systemd, and tenants are systemd units")]
    NoSystemd,
    /// The old cgroup hierarchy is mounted.
    #[error("this host runs cgroup v1; boot it with systemd.unified_cgroup_hierarchy=1")]
    CgroupV1,
    /// systemd is out of reach.
    #[error("systemd is out of reach")]
    Systemd(#[from] SystemdError),
    /// systemd is too old for the units.
    #[error("systemd {found} is too old; tenantd needs {OLDEST_SYSTEMD} or newer")]
    OldSystemd {
        /// The version that was found.
        found: u32,
    },
    /// Podman is not there, does not answer, or is too old.
    #[error("Podman cannot be used")]
    Podman(#[from] PodmanError),
}

/// Judges what is known without asking anybody.
pub fn judge(facts: &Facts) -> Result<(), Unfit> {
    if !facts.root {
        Err(Unfit::NotRoot)
    } else if !facts.systemd_booted {
        Err(Unfit::NoSystemd)
    } else if !facts.cgroup_v2 {
        Err(Unfit::CgroupV1)
    } else {
        Ok(())
    }
}

/// Judges the version that systemd tells. One that cannot be read is a development version.
pub fn judge_systemd(version: &str) -> Result<(), Unfit> {
    match systemd_number(version) {
        Some(found) if found < OLDEST_SYSTEMD => Err(Unfit::OldSystemd { found }),
        _ => Ok(()),
    }
}

/// What rendering must know of the host.
pub fn host_facts(facts: &Facts) -> HostFacts {
    let controllers: Vec<&str> = facts.controllers.iter().map(String::as_str).collect();
    HostFacts {
        controllers: Controller::parse_list(&controllers.join(" ")),
        allow_missing_controllers: false,
        project_quotas: facts.project_quotas,
        selinux: facts.selinux != SeLinux::Absent,
        tenantd: HostFacts::TENANTD.into(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn fit() -> Facts {
        Facts {
            systemd_booted: true,
            cgroup_v2: true,
            controllers: ["cpu", "memory", "rdma"].map(str::to_owned).into(),
            selinux: SeLinux::Permissive,
            project_quotas: false,
            root: true,
        }
    }

    #[test]
    fn a_host_as_it_should_be_passes() {
        assert!(judge(&fit()).is_ok());
        let facts = host_facts(&fit());
        assert_eq!(
            facts.missing_controllers(),
            [Controller::Io, Controller::Pids]
        );
        assert!(facts.selinux);
    }

    #[rstest]
    #[case(Facts { root: false, ..fit() }, "this must be run as root")]
    #[case(
        Facts { systemd_booted: false, ..fit() },
        "this host is not run by systemd, and tenants are systemd units"
    )]
    #[case(
        Facts { cgroup_v2: false, ..fit() },
        "this host runs cgroup v1; boot it with systemd.unified_cgroup_hierarchy=1"
    )]
    fn each_lack_is_named(#[case] facts: Facts, #[case] said: &str) {
        assert_eq!(judge(&facts).unwrap_err().to_string(), said);
    }

    #[rstest]
    #[case("255.4-1", None)]
    #[case("257.13-1~deb13u1", None)]
    #[case("rawhide", None)]
    #[case("254.26", Some("systemd 254 is too old; tenantd needs 255 or newer"))]
    #[case(
        "252.39-1~deb12u1",
        Some("systemd 252 is too old; tenantd needs 255 or newer")
    )]
    fn an_old_systemd_is_refused(#[case] version: &str, #[case] said: Option<&str>) {
        let judged = judge_systemd(version).err().map(|error| error.to_string());
        assert_eq!(judged.as_deref(), said);
    }
}

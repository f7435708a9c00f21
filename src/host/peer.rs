//! In which unit a process runs, by its control group, which it cannot choose.

use super::files;

/// Longest `/proc/PID/cgroup`.
const LIMIT: u64 = 4096;

/// The unit of a process: the last part of its control group that is one (`cgroups(7)`, `/proc/[pid]/cgroup`).
pub fn unit_of(pid: i32) -> Option<String> {
    let bytes = files::read(format!("/proc/{pid}/cgroup").as_ref(), LIMIT).ok()?;
    unit_in(&String::from_utf8_lossy(&bytes))
}

fn unit_in(cgroup: &str) -> Option<String> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut parts = path.rsplit('/');
    parts
        .find(|part| part.ends_with(".service"))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_unit() {
        let door =
            "0::/tenant.slice/tenant-foo\\x2dbar.slice/tenantd-ingress@foo\\x2dbar.service\n";
        assert_eq!(
            unit_in(door).as_deref(),
            Some("tenantd-ingress@foo\\x2dbar.service")
        );
        assert_eq!(unit_in("0::/user.slice\n"), None);
        assert_eq!(unit_in("1:name=systemd:/x.service\n"), None);
    }
}

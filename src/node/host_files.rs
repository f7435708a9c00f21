//! The files that tenantd puts on a host beside itself: units, and what belongs to them. They are part of the binary, so
//! that a binary that is updated brings its own. It says what belongs where, and writes nothing.

use std::borrow::Cow;

use rust_embed::Embed;

/// `systemd/` of the source.
#[derive(Embed)]
#[folder = "systemd/"]
struct Systemd;

/// What tenantd's containers need of Podman.
const CONTAINERS: &str = include_str!("../../packaging/containers.conf");

/// A file of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFile {
    /// Where it belongs.
    pub path: String,
    /// What is in it.
    pub contents: Cow<'static, [u8]>,
}

/// All of them, by path.
pub fn host_files() -> Vec<HostFile> {
    let mut files: Vec<_> = Systemd::iter()
        .filter_map(|name| {
            let contents = Systemd::get(&name)?.data;
            let path = place(&name);
            Some(HostFile { path, contents })
        })
        .collect();
    files.push(HostFile {
        path: "/etc/containers/containers.conf.d/50-tenantd.conf".to_owned(),
        contents: Cow::Borrowed(CONTAINERS.as_bytes()),
    });
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// The text of one unit of `systemd/`.
pub fn unit(name: &str) -> Option<String> {
    let data = Systemd::get(name)?.data;
    Some(String::from_utf8_lossy(&data).into_owned())
}

/// The units that are switched on, in the order of `tenantd.preset`.
pub fn enabled_units() -> Vec<String> {
    let preset = unit("tenantd.preset").unwrap_or_default();
    let named = preset
        .lines()
        .filter_map(|line| line.strip_prefix("enable "));
    named.map(|name| name.trim().to_owned()).collect()
}

/// Where a file of `systemd/` belongs: units as they are called, the others by what they are.
fn place(name: &str) -> String {
    match name {
        "tenantd.sysusers" => "/etc/sysusers.d/tenantd.conf".to_owned(),
        "tenantd.tmpfiles" => "/etc/tmpfiles.d/tenantd.conf".to_owned(),
        "tenantd.preset" => "/etc/systemd/system-preset/50-tenantd.preset".to_owned(),
        "journald-sync.conf" => {
            "/etc/systemd/system/systemd-journald-sync@.service.d/50-tenantd.conf".to_owned()
        }
        unit => format!("/etc/systemd/system/{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_has_its_place_and_every_enabled_unit_of_ours_is_there() {
        let files = host_files();
        let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        insta::assert_snapshot!(paths.join("\n"));
        assert!(files.iter().all(|file| !file.contents.is_empty()));
        let enabled = enabled_units();
        assert!(enabled.contains(&"tenantd.service".to_owned()));
        for name in enabled.iter().filter(|name| name.starts_with("tenantd")) {
            let text = unit(name).unwrap_or_else(|| panic!("{name} is not in systemd/"));
            assert!(text.contains("[Install]"), "{name} cannot be switched on");
        }
    }
}

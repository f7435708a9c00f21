//! What of a tenant is on the host: files, links, the held file.
//! It reads and compares; what to do about a difference is decided elsewhere.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use crate::layout::{Layout, UnitNames};
use crate::quadlet::{UnitFile, UnitSet};
use crate::tenant::TenantId;

/// How the installed files differ from a unit set.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// Files of the unit set that are missing or differ.
    pub differing: Vec<Utf8PathBuf>,
    /// Files in the tenant's places that the unit set does not have.
    pub surplus: Vec<Utf8PathBuf>,
}

impl Drift {
    /// Whether there is nothing to write and nothing to remove.
    pub fn is_none(&self) -> bool {
        self.differing.is_empty() && self.surplus.is_empty()
    }
}

/// Compares what is installed for `tenant` with `wanted`; an absent unit set wants no file.
pub fn drift(layout: &Layout, tenant: &TenantId, wanted: Option<&UnitSet>) -> io::Result<Drift> {
    UnitDir::read(layout)?.drift(layout, tenant, wanted)
}

/// The names in the directory of unit files, where all tenants' are: read once, for many tenants.
pub struct UnitDir {
    /// Its own entries.
    entries: Vec<String>,
    /// Its directories of links, with what is in each.
    links: Vec<(Utf8PathBuf, Vec<String>)>,
}

impl UnitDir {
    /// Reads the names.
    pub fn read(layout: &Layout) -> io::Result<Self> {
        let path = layout.unit_dir();
        let is_links = |name: &String| name.ends_with(".wants") || name.ends_with(".requires");
        let (directories, entries): (Vec<_>, _) = names(&path)?.into_iter().partition(is_links);
        let links = directories.into_iter().map(|name| {
            let directory = path.join(name);
            names(&directory).map(|names| (directory, names))
        });
        Ok(Self {
            entries,
            links: links.collect::<io::Result<_>>()?,
        })
    }

    /// As the function of that name.
    pub fn drift(
        &self,
        layout: &Layout,
        tenant: &TenantId,
        wanted: Option<&UnitSet>,
    ) -> io::Result<Drift> {
        let mut drift = Drift::default();
        let mut expected = BTreeSet::new();
        if let Some(wanted) = wanted {
            for (path, file) in wanted.iter() {
                expected.insert(path.to_owned());
                if !is_as_wanted(path, file)? {
                    drift.differing.push(path.to_owned());
                }
            }
        }
        let found = self.installed(layout, tenant)?;
        drift.surplus = found
            .into_iter()
            .filter(|path| !expected.contains(path))
            .collect();
        Ok(drift)
    }

    /// Every file that is in one of the places where a tenant's unit set can have files.
    fn installed(&self, layout: &Layout, tenant: &TenantId) -> io::Result<Vec<Utf8PathBuf>> {
        let mut found = files_below(&layout.quadlet_dir(tenant))?;
        let units = layout.unit_dir();
        let slice = UnitNames(tenant).slice();
        let instance = format!("@{}.", tenant.escaped());
        let is_ours = |name: &str| name.starts_with("tenantd-") && name.contains(instance.as_str());
        for (directory, names) in &self.links {
            let ours = names.iter().filter(|name| is_ours(name));
            found.extend(ours.map(|name| directory.join(name)));
        }
        for name in &self.entries {
            let path = units.join(name);
            if *name == slice {
                found.push(path);
            } else if is_ours(name) || *name == format!("{slice}.d") {
                found.extend(files_below(&path)?);
            }
        }
        let others = [
            layout.runtime_file(tenant),
            layout.journal_conf(tenant),
            layout.egress_file(tenant),
        ];
        found.extend(others.into_iter().filter(|path| path.exists()));
        found.sort();
        Ok(found)
    }
}

fn is_as_wanted(path: &Utf8Path, file: &UnitFile) -> io::Result<bool> {
    let found = match file {
        UnitFile::Text(text) => {
            // A link in a file's place is a difference, even when it leads to the same bytes.
            match fs::symlink_metadata(path) {
                Ok(metadata) if metadata.is_file() => fs::read(path).map(|b| b == text.as_bytes()),
                Ok(_) => Ok(false),
                Err(error) => Err(error),
            }
        }
        UnitFile::Link(target) => match path.read_link_utf8() {
            Ok(found) => Ok(found == *target),
            // Not a link, or not UTF-8.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
            Err(_) => Ok(false),
        },
    };
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        other => other,
    }
}

fn files_below(path: &Utf8Path) -> io::Result<Vec<Utf8PathBuf>> {
    if !fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
        return Ok(if path.exists() {
            vec![path.to_owned()]
        } else {
            Vec::new()
        });
    }
    let mut found = Vec::new();
    for name in names(path)? {
        found.extend(files_below(&path.join(name))?);
    }
    Ok(found)
}

fn names(directory: &Utf8Path) -> io::Result<Vec<String>> {
    let entries = match directory.read_dir_utf8() {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_owned();
        // A leftover of a write that a crash cut short; nobody reads it as a unit.
        if !(name.starts_with('.') && name.ends_with(".tmp")) {
            names.push(name);
        }
    }
    Ok(names)
}

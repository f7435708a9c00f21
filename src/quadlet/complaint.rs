//! What the generator and the verifier say, and whom it is about.
//! Pure: it reads their output and runs nothing.

use std::fmt;

use crate::layout::UnitNames;
use crate::tenant::TenantId;

/// Who complained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gate {
    /// Podman's generator.
    Generator,
    /// `systemd-analyze verify`.
    Verifier,
}

/// One complaint about the staged units.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Complaint {
    /// The tenant it is about; none when it is about no tenant's unit alone.
    pub tenant: Option<TenantId>,
    /// The file or unit it names.
    pub file: Option<String>,
    /// Who complained.
    pub gate: Gate,
    /// The complaint in the words of the host's program.
    pub message: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(tenant) = &self.tenant {
            write!(f, "tenant {tenant}: ")?;
        }
        let gate = match self.gate {
            Gate::Generator => "Podman's generator",
            Gate::Verifier => "systemd-analyze verify",
        };
        match &self.file {
            Some(file) => write!(f, "{gate} refuses {file}: {}", self.message),
            None => write!(f, "{gate}: {}", self.message),
        }
    }
}

/// Lines of the generator that only say what it does.
const CHATTER: [&str; 4] = [
    "Loading source unit file ",
    "No files parsed from ",
    "Starting quadlet-generator",
    "Warning: ",
];

/// The complaints in the generator's messages.
pub fn of_generator(output: &str, tenants: &[TenantId]) -> Vec<Complaint> {
    output
        .lines()
        .map(|line| match line.split_once("]: ") {
            Some((prefix, rest)) if prefix.starts_with("quadlet-generator[") => rest,
            _ => line,
        })
        .filter(|line| !line.trim().is_empty())
        .filter(|line| !CHATTER.iter().any(|chatter| line.starts_with(chatter)))
        .map(|line| complaint(line, Gate::Generator, tenants))
        .collect()
}

/// The complaints in the verifier's messages that concern tenants.
///
/// It also speaks about the host's other units, which are not ours to judge; an ordering
/// cycle is, wherever it goes through, since systemd breaks it by leaving out any unit of it.
pub fn of_verifier(output: &str, tenants: &[TenantId]) -> Vec<Complaint> {
    output
        .lines()
        .map(|line| complaint(line.trim(), Gate::Verifier, tenants))
        .filter(|c| c.tenant.is_some() || c.message.contains("ordering cycle"))
        .collect()
}

fn complaint(line: &str, gate: Gate, tenants: &[TenantId]) -> Complaint {
    let named = tenants.iter().find_map(|tenant| {
        let file = names_of(tenant)
            .into_iter()
            .find(|name| mentions(line, name))?;
        Some((tenant.clone(), file))
    });
    let (tenant, file) = named.unzip();
    Complaint {
        tenant,
        file,
        gate,
        message: line.to_owned(),
    }
}

/// Every name by which a unit of the tenant is spoken of.
fn names_of(tenant: &TenantId) -> Vec<String> {
    let names = UnitNames(tenant);
    let instance = |template| names.instance(template, "service");
    vec![
        names.quadlet_file(),
        names.service(),
        names.slice(),
        instance("net"),
        instance("restore"),
        instance("awake"),
        instance("ingress"),
        names.instance("ingress", "socket"),
    ]
}

/// Whether `line` has `name` as a whole: `tenant-a.slice` is not in `tenant-tenant-a.slice`.
fn mentions(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let part = |c: char| c.is_ascii_alphanumeric() || "-_\\@".contains(c);
        !line[..at].ends_with(part) && !line[at + name.len()..].starts_with(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenants() -> Vec<TenantId> {
        ["a", "tenant-a", "foo-bar"]
            .map(|id| id.parse().unwrap())
            .into()
    }

    fn shown(complaints: &[Complaint]) -> String {
        let lines: Vec<_> = complaints.iter().map(ToString::to_string).collect();
        lines.join("\n")
    }

    #[test]
    fn the_generator_names_files() {
        let output = "\
quadlet-generator[7]: Loading source unit file /tmp/x/foo-bar/tenant-foo-bar.container
quadlet-generator[7]: error loading \"/tmp/x/a/tenant-a.container\", file contains line 70: garbage
converting \"tenant-tenant-a.container\": unsupported key 'Pulll' in group 'Container'
";
        insta::assert_snapshot!(shown(&of_generator(output, &tenants())));
    }

    #[test]
    fn the_verifier_names_units_and_others_are_left_out() {
        let output = r"
/run/x/tenant-foo\x2dbar.slice:7: Unknown key name 'Memory' in section 'Slice', ignoring.
/usr/lib/systemd/system/other.service:3: Unknown key name 'X' in section 'Unit', ignoring.
tenant-foo-bar.service: Command /usr/local/bin/tenantd is not executable: No such file or directory
tenant-a.service: Failed to create tenant-a.service/start: Unit tenantd-net@a.service not found.
sockets.target: Found ordering cycle on other.socket/start
";
        insta::assert_snapshot!(shown(&of_verifier(output, &tenants())));
    }
}

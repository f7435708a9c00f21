//! Rendered units before the real generator and verifier.
//!
//! They need the Podman 5.4 and systemd 257 of the test machine, where they run with `--ignored`.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::reader::{expand, split, value};
use super::tests::{
    BACKUP, GENERIC, HOSTILE, OPENCLAW, SECRETS, SPACEBOT, image, resolved, versions,
};
use super::validate::{Tools, validate};
use super::{HostFacts, IdRange, UnitFile, UnitSet, render};
use crate::layout::Layout;
use crate::tenant::{ResolvedSpec, RevisionNumber, TenantId};

/// A host's directories with stand-ins for the templates and the program that units name.
struct Host {
    _directory: tempfile::TempDir,
    layout: Layout,
    facts: HostFacts,
}

impl Host {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::try_from(directory.path().to_owned()).unwrap();
        let layout = Layout::rooted(&root);
        let units = layout.unit_dir();
        std::fs::create_dir_all(&units).unwrap();
        let service =
            "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nExecStart=/bin/true\n";
        for name in [
            "net",
            "restore",
            "secrets",
            "ingress",
            "egress",
            "endpoints",
        ] {
            std::fs::write(units.join(format!("tenantd-{name}@.service")), service).unwrap();
        }
        let socket = "[Socket]\nListenStream=/run/tenantd-test/%i.sock\n";
        for door in ["ingress", "egress", "endpoints"] {
            std::fs::write(units.join(format!("tenantd-{door}@.socket")), socket).unwrap();
        }
        std::fs::write(units.join("tenantd-wake@.timer"), "[Timer]\n").unwrap();
        let facts = HostFacts {
            tenantd: "/bin/true".into(),
            ..HostFacts::complete()
        };
        Self {
            _directory: directory,
            layout,
            facts,
        }
    }

    fn render(&self, spec: &ResolvedSpec) -> UnitSet {
        let ids = IdRange::nth(1).unwrap();
        render(
            spec,
            RevisionNumber(1),
            &image(),
            &versions(),
            ids,
            &self.facts,
            &self.layout,
        )
        .unwrap()
    }

    fn complaints(&self, sets: &BTreeMap<TenantId, UnitSet>) -> Vec<String> {
        let report = validate(&Tools::default(), &self.layout, sets).unwrap();
        report.complaints.iter().map(ToString::to_string).collect()
    }

    /// Writes the Quadlet file as if it had been installed, with `from` replaced by `to`.
    fn install(&self, spec: &str, from: &str, to: &str) {
        let spec = resolved(spec);
        let directory = self.layout.quadlet_dir(&spec.tenant);
        std::fs::create_dir_all(&directory).unwrap();
        let (path, text) = quadlet(&self.render(&spec));
        assert!(text.contains(from));
        std::fs::write(path, text.replace(from, to)).unwrap();
    }
}

fn quadlet(set: &UnitSet) -> (Utf8PathBuf, String) {
    set.iter()
        .find_map(|(path, file)| match file {
            UnitFile::Text(text) if path.extension() == Some("container") => {
                Some((path.to_owned(), text.clone()))
            }
            _ => None,
        })
        .expect("every set has a Quadlet file")
}

fn sets(host: &Host, specs: &[&str]) -> BTreeMap<TenantId, UnitSet> {
    let rendered = |text: &&str| {
        let spec = resolved(text);
        let set = host.render(&spec);
        (spec.tenant, set)
    };
    specs.iter().map(rendered).collect()
}

#[test]
#[ignore = "needs the test machine's Podman and systemd"]
fn the_host_accepts_every_kind_of_unit_set() {
    let host = Host::new();
    let sets = sets(
        &host,
        &[OPENCLAW, BACKUP, SPACEBOT, GENERIC, HOSTILE, SECRETS],
    );
    assert_eq!(host.complaints(&sets), Vec::<String>::new());
}

#[test]
#[ignore = "needs the test machine's Podman and systemd"]
fn a_broken_tenant_is_named_and_stands_in_nobodys_way() {
    let host = Host::new();
    host.install(BACKUP, "Pull=never", "Pulll=never");
    let sets = sets(&host, &[OPENCLAW, GENERIC]);
    let report = validate(&Tools::default(), &host.layout, &sets).unwrap();
    for tenant in sets.keys() {
        assert!(report.against(tenant).is_empty(), "{report:?}");
    }
    let blamed = report.against(&"backup".parse().unwrap());
    assert!(
        blamed
            .iter()
            .any(|c| c.message.contains("unsupported key 'Pulll'")),
        "{report:?}"
    );
    assert!(
        blamed
            .iter()
            .any(|c| c.message.contains("no tenant-backup.service")),
        "{report:?}"
    );
}

#[test]
#[ignore = "needs the test machine's Podman and systemd"]
fn what_the_verifier_finds_is_the_tenants() {
    let host = Host::new();
    host.install(BACKUP, "KillMode=mixed", "KillMode=mixed\nRestartSecs=3");
    let sets = sets(&host, &[OPENCLAW]);
    let complaints = host.complaints(&sets);
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert!(
        complaints[0].contains("tenant backup") && complaints[0].contains("RestartSecs"),
        "{complaints:?}"
    );
}

#[test]
#[ignore = "needs the test machine's Podman and systemd"]
fn an_ordering_cycle_is_found() {
    let host = Host::new();
    let units = host.layout.unit_dir();
    let late = "[Unit]\nDefaultDependencies=no\nAfter=multi-user.target\n[Service]\nType=oneshot\nExecStart=/bin/true\n";
    std::fs::write(units.join("tenantd-net@.service"), late).unwrap();
    let complaints = host.complaints(&sets(&host, &[OPENCLAW]));
    assert!(
        complaints.iter().any(|c| c.contains("ordering cycle")),
        "{complaints:?}"
    );
}

/// Values reach the command line of the generated unit unchanged.
#[test]
#[ignore = "needs the test machine's Podman and systemd"]
fn the_generator_carries_every_value() {
    let host = Host::new();
    let base = resolved(GENERIC);
    let words = || prop::collection::vec(value(), 1..6);
    let mut runner = TestRunner::new(Config {
        cases: 200,
        failure_persistence: None,
        ..Config::default()
    });
    runner
        .run(&(words(), words(), words()), |(command, args, env)| {
            let args: Vec<_> = args
                .into_iter()
                .filter(|a| !a.is_empty() && a != ";")
                .collect();
            let mut spec = base.clone();
            spec.command = Some(command.clone());
            spec.args = Some(args.clone());
            spec.env = env
                .into_iter()
                .enumerate()
                .map(|(index, value)| (format!("V{index}"), value))
                .collect();
            let line = generated_command(&host, &host.render(&spec));
            // Quadlet's own words have specifiers that are meant; ours come after them.
            let own = |word: &String| !word.starts_with("--cidfile=");
            let words = split(&line).into_iter().filter(own);
            let line: Vec<_> = words.map(|word| expand(&word)).collect();
            let after = |flag: &str| {
                line.iter()
                    .zip(line.iter().skip(1))
                    .filter(|(word, _)| *word == flag)
                    .map(|(_, next)| next.clone())
                    .collect::<Vec<_>>()
            };
            let entry: Vec<String> = serde_json::from_str(&after("--entrypoint")[0]).unwrap();
            prop_assert_eq!(entry, command);
            let env: Vec<_> = spec.env.iter().map(|(k, v)| format!("{k}={v}")).collect();
            // The doors' own come beside them.
            let given = after("--env").into_iter();
            let given: Vec<_> = given.filter(|variable| variable.starts_with('V')).collect();
            prop_assert_eq!(given, env);
            let image = line.iter().position(|word| word == image().hex()).unwrap();
            prop_assert_eq!(&line[image + 1..], &args[..]);
            Ok(())
        })
        .unwrap();
}

/// `ExecStart=` of the unit that the generator makes of the set's Quadlet file.
fn generated_command(host: &Host, set: &UnitSet) -> String {
    let (path, text) = quadlet(set);
    let directory = path.parent().unwrap();
    std::fs::create_dir_all(directory).unwrap();
    std::fs::write(&path, text).unwrap();
    let output = std::process::Command::new(Tools::default().generator)
        .arg("-dryrun")
        .env("QUADLET_UNIT_DIRS", host.layout.quadlet_root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let unit = String::from_utf8(output.stdout).unwrap();
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="));
    line.expect("the unit has a command").to_owned()
}

//! Named points at which a test can have the process killed, to prove that a crash there loses
//! nothing. In release builds they are nothing; no decision may depend on them.
//!
//! A debug build kills itself with SIGKILL at the point that [`VARIABLE`] names, or once at
//! the point that the file [`ARMED`] names: the file is removed first, so that the next
//! process gets past it.

/// Every point there is. A test compares this list with the calls in the source.
pub const ALL: &[&str] = &[
    "adopt.emptied",
    "apply.current",
    "apply.directories",
    "apply.good",
    "apply.revision",
    "apply.rolling-back",
    "apply.row",
    "backup.after-commit-put",
    "backup.after-create-intent",
    "backup.after-create-put",
    "backup.after-create-texts-put",
    "backup.after-head",
    "backup.after-index",
    "backup.after-intent",
    "backup.after-pack-put",
    "backup.after-resume",
    "backup.after-tree-put",
    "backup.while-paused",
    "bootstrap.enabled",
    "bootstrap.node-back",
    "bootstrap.secrets-gone",
    "bootstrap.set-up",
    "bootstrap.tenants-back",
    "converge.agent-started",
    "converge.step",
    "drill.noted",
    "drill.restored",
    "drill.started",
    "egress.counted",
    "egress.named",
    "front.kept",
    "front.linked",
    "front.loaded",
    "heartbeat.recorded",
    "heartbeat.stored",
    "install.one-written",
    "install.reloaded",
    "install.written",
    "keys.erasing",
    "keys.noted",
    "keys.wrapped",
    "node.adopted",
    "node.placed",
    "node.restoring",
    "operation.done",
    "operation.recorded",
    "operation.restore-done",
    "operation.restore-ordered",
    "operation.wanted",
    "protect.adopted",
    "protect.discarding",
    "protect.exchanged",
    "protect.imported",
    "protect.kept-noted",
    "protect.quiesced",
    "protect.restored",
    "protect.undo-noted",
    "protect.undone",
    "reclaim.taken-back",
    "recover.counted",
    "release.cloned",
    "release.exchanged",
    "release.held",
    "release.moved",
    "release.noted",
    "release.taken",
    "remove.erasing",
    "remove.keys-gone",
    "remove.state-gone",
    "remove.terminated",
    "remove.units-gone",
    "restore.after-directories",
    "restore.after-first-pack",
    "restore.before-metadata",
    "rollback.current",
    "secret.forgetting",
    "secret.noted",
    "secret.stored",
    "sleep.closed",
    "sleep.frozen",
    "sleep.stopping",
    "sleep.thawed",
    "trial.begun",
    "trial.failed",
    "trial.promoted",
    "wildcard.presented",
    "wildcard.stored",
];

/// The file that arms one point for one process: its name, and nothing else.
pub const ARMED: &str = "/run/tenantd/failpoint";

/// The variable that arms one point for the process that has it.
pub const VARIABLE: &str = "TENANTD_FAILPOINT";

/// Kills this process if a test has armed the point `name`. Nothing is flushed and no
/// destructor runs, as in a crash.
#[cfg(debug_assertions)]
pub fn hit(name: &'static str) {
    debug_assert!(
        ALL.contains(&name),
        "{name} is not listed in failpoint::ALL"
    );
    let is_named = std::env::var(VARIABLE).is_ok_and(|armed| armed == name);
    let is_armed = || std::fs::read_to_string(ARMED).is_ok_and(|armed| armed.trim() == name);
    if is_named || (is_armed() && std::fs::remove_file(ARMED).is_ok()) {
        // It cannot fail for the own process, and there is nothing else to do if it did.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::SIGKILL);
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
#[inline]
pub fn hit(_name: &'static str) {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    fn calls(directory: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                calls(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let call = concat!("failpoint::", "hit(\"");
                let names = text.split(call).skip(1);
                found.extend(
                    names
                        .filter_map(|rest| rest.split('"').next())
                        .map(str::to_owned),
                );
            }
        }
    }

    #[test]
    fn the_list_is_what_the_source_calls() {
        let mut found = BTreeSet::new();
        calls(Path::new("src"), &mut found);
        let listed: BTreeSet<_> = super::ALL.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(found, listed);
    }
}

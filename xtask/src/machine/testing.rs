//! A machine for one test: fresh at its start, gone at its end, and talkative when the test fails.

use super::Machine;

/// Set to keep failed tests' machines for a look inside.
const KEEP: &str = "TENANTD_KEEP_MACHINES";

/// Runs a test in a fresh machine of its own. Tests that run side by side need different names.
///
/// # Panics
/// When the machine does not boot or the test returns an error; that is how a test fails.
pub fn in_machine(name: &str, test: impl FnOnce(&Machine) -> anyhow::Result<()>) {
    lease(Machine::named(&format!("test-{name}")), test);
}

/// The same in a virtual machine, which has what the container lacks: cgroup controllers, quotas, swap.
/// It has one processor and is slow at system calls; the seconds that it measures are not to be asserted.
///
/// # Panics
/// As [`in_machine`].
pub fn in_virtual_machine(name: &str, test: impl FnOnce(&Machine) -> anyhow::Result<()>) {
    lease(Machine::virtual_named(&format!("test-{name}")), test);
}

fn lease(machine: anyhow::Result<Machine>, test: impl FnOnce(&Machine) -> anyhow::Result<()>) {
    let result = machine.and_then(|machine| {
        let mut lease = Lease {
            machine,
            failed: true,
        };
        lease.machine.reset()?;
        lease.machine.boot()?;
        test(&lease.machine)?;
        lease.failed = false;
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error:#}");
    }
}

struct Lease {
    machine: Machine,
    failed: bool,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.failed {
            let name = self.machine.name();
            match self.machine.journal(["--lines=60"]) {
                Ok(journal) => eprintln!("--- journal of machine {name} ---\n{journal}"),
                Err(_) => eprintln!(
                    "--- console of machine {name} ---\n{}",
                    self.machine.console_tail()
                ),
            }
            if std::env::var_os(KEEP).is_some() {
                let task = self.machine.task();
                eprintln!("machine {name} is kept: {task} shell");
                return;
            }
            eprintln!("(set {KEEP}=1 to keep the machine of a failed test)");
        }
        if let Err(error) = self.machine.reset() {
            eprintln!(
                "could not remove machine {}: {error:#}",
                self.machine.name()
            );
        }
    }
}

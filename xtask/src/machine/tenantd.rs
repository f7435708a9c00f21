//! tenantd in a machine: installed, set up, started and asked the way that operators and users do it.
//! Only what the demo and the tests do alike.

use std::path::Path;

use super::{Machine, Output, REPOSITORY};

impl Machine {
    /// Installs a tenantd built on this host, the way a host is installed: by `packaging/install.sh`.
    pub fn install(&self, binary: impl AsRef<Path>) -> anyhow::Result<Output> {
        const BINARY: &str = "/var/tmp/tenantd";
        self.copy_in(binary, BINARY)?;
        let installer = format!("{REPOSITORY}/packaging/install.sh");
        let output = self.run([installer.as_str(), "--binary", BINARY])?;
        self.run(["rm", BINARY])?;
        Ok(output)
    }

    /// Sets the node up, with more options of `tenantd init`. The keys that this prints are of a machine that
    /// nobody depends on; they stay in it.
    pub fn set_up(&self, node: &str, options: &[String]) -> anyhow::Result<Output> {
        let mut argv = ["tenantd", "init", "--name", node]
            .map(str::to_owned)
            .to_vec();
        if !self.carrier.has_controllers() {
            argv.push("--allow-missing-controllers".to_owned());
        }
        argv.extend_from_slice(options);
        self.run(argv)
    }

    /// Starts the daemon and what goes with it.
    pub fn start_tenantd(&self) -> anyhow::Result<()> {
        self.run([
            "systemctl",
            "start",
            "tenantd.service",
            "tenantd-backup.timer",
            "tenantd-prestop-backup.service",
            "tenantd-final-backup.service",
        ])?;
        Ok(())
    }
}

/// The command that asks a tenant for `path` through its ingress socket; it fails when the answer does.
pub fn curl(tenant: &str, path: &str) -> Vec<String> {
    let socket = format!("/run/tenantd/ingress/{tenant}.sock");
    let url = format!("http://{tenant}{path}");
    // The door answers by itself within 55 s; what takes longer hangs.
    let fixed = "curl --silent --show-error --fail-with-body --max-time 60 --unix-socket";
    let fixed = fixed.split(' ').map(str::to_owned);
    fixed.chain([socket, url]).collect()
}

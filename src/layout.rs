//! Where everything is on the host: the one place that knows paths and unit names.
//! It builds names and never looks whether anything is there.

use camino::{Utf8Path, Utf8PathBuf};

use crate::tenant::{SecretName, SecretVersion, TenantId};

/// The directories of one host. Tests root them elsewhere.
#[derive(Debug, Clone)]
pub struct Layout {
    root: Utf8PathBuf,
}

impl Default for Layout {
    fn default() -> Self {
        Self::rooted("/")
    }
}

impl Layout {
    /// A layout below `root` instead of `/`.
    pub fn rooted(root: impl Into<Utf8PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn at(&self, path: &str) -> Utf8PathBuf {
        self.root.join(path)
    }

    /// Settings that the operator writes: `/etc/tenantd`.
    pub fn config_dir(&self) -> Utf8PathBuf {
        self.at("etc/tenantd")
    }

    /// `/etc/tenantd/node.toml`.
    pub fn node_toml(&self) -> Utf8PathBuf {
        self.config_dir().join("node.toml")
    }

    /// What a fresh host is to become: `/etc/tenantd/bootstrap.toml`.
    pub fn bootstrap_toml(&self) -> Utf8PathBuf {
        self.config_dir().join("bootstrap.toml")
    }

    /// The secrets for that: `/etc/tenantd/bootstrap` (0700).
    pub fn bootstrap_dir(&self) -> Utf8PathBuf {
        self.config_dir().join("bootstrap")
    }

    /// Specs that Ignition or the operator places: `/etc/tenantd/tenants.d`.
    pub fn specs_dir(&self) -> Utf8PathBuf {
        self.config_dir().join("tenants.d")
    }

    /// Templates that override or add to the embedded ones: `/etc/tenantd/templates.d`.
    pub fn templates_dir(&self) -> Utf8PathBuf {
        self.config_dir().join("templates.d")
    }

    /// The operator's price tables: `/etc/tenantd/prices.d`.
    pub fn prices_dir(&self) -> Utf8PathBuf {
        self.config_dir().join("prices.d")
    }

    /// Plans that override or add to the embedded ones: `/etc/tenantd/plans.d`.
    pub fn plans_dir(&self) -> Utf8PathBuf {
        self.config_dir().join("plans.d")
    }

    /// What must survive: `/var/lib/tenantd`.
    pub fn data_dir(&self) -> Utf8PathBuf {
        self.at("var/lib/tenantd")
    }

    /// The state database.
    pub fn database(&self) -> Utf8PathBuf {
        self.data_dir().join("state.db")
    }

    /// The node's private keys (0700).
    pub fn keys_dir(&self) -> Utf8PathBuf {
        self.data_dir().join("keys")
    }

    /// The default object store, `dir:/var/lib/tenantd/backups`.
    pub fn backups_dir(&self) -> Utf8PathBuf {
        self.data_dir().join("backups")
    }

    /// What the writer of a repository keeps locally: keys without the identity, head, index.
    /// `name` is a tenant's id, or `.node` for the node's own repository.
    pub fn repository_dir(&self, name: &str) -> Utf8PathBuf {
        self.data_dir().join("repositories").join(name)
    }

    /// Records of tenants whose keys were, or are to be, erased.
    pub fn erasures_dir(&self) -> Utf8PathBuf {
        self.data_dir().join("erasures")
    }

    /// All tenants' secrets, encrypted (0700).
    pub fn secrets_dir(&self) -> Utf8PathBuf {
        self.data_dir().join("secrets")
    }

    /// One tenant's secrets, encrypted: a directory for each, with its versions.
    pub fn tenant_secrets_dir(&self, tenant: &TenantId) -> Utf8PathBuf {
        self.secrets_dir().join(tenant.as_str())
    }

    /// The value of a secret's version, as a systemd credential that this host can decrypt.
    pub fn secret_credential(
        &self,
        tenant: &TenantId,
        name: &SecretName,
        version: SecretVersion,
    ) -> Utf8PathBuf {
        self.tenant_secrets_dir(tenant)
            .join(name.as_str())
            .join(format!("{version}.cred"))
    }

    /// The program that gives an agent its secrets as variables, as containers mount it.
    pub fn entry_program(&self) -> Utf8PathBuf {
        self.data_dir().join("entry")
    }

    /// Where the node's own snapshot is put together.
    pub fn node_staging_dir(&self) -> Utf8PathBuf {
        self.data_dir().join("node-snapshot")
    }

    /// Exists while the node is rebuilt from its own snapshot, and after that was cut short.
    pub fn node_restore_file(&self) -> Utf8PathBuf {
        self.data_dir().join("node-restore")
    }

    /// All tenants' directories (0700).
    pub fn tenants_dir(&self) -> Utf8PathBuf {
        self.data_dir().join("tenants")
    }

    /// One tenant's directory.
    pub fn tenant_dir(&self, tenant: &TenantId) -> Utf8PathBuf {
        self.tenants_dir().join(tenant.as_str())
    }

    /// The tenant's state, the only part that is backed up; one directory per mount.
    pub fn state_dir(&self, tenant: &TenantId) -> Utf8PathBuf {
        self.tenant_dir(tenant).join("state")
    }

    /// Rebuildable caches, never backed up; one directory per mount.
    pub fn cache_dir(&self, tenant: &TenantId) -> Utf8PathBuf {
        self.tenant_dir(tenant).join("cache")
    }

    /// Short-lived clones that a backup reads.
    pub fn clone_dir(&self, tenant: &TenantId) -> Utf8PathBuf {
        self.tenant_dir(tenant).join("clone")
    }

    /// A restore in progress; becomes `state/` by one exchange of names.
    pub fn restoring_dir(&self, tenant: &TenantId) -> Utf8PathBuf {
        self.tenant_dir(tenant).join("restoring")
    }

    /// The state that a restore is replacing, for an instant.
    pub fn replaced_dir(&self, tenant: &TenantId) -> Utf8PathBuf {
        self.tenant_dir(tenant).join("replaced")
    }

    /// The state that a restore has replaced, kept until the operator says otherwise.
    pub fn before_restore_dir(&self, tenant: &TenantId) -> Utf8PathBuf {
        self.tenant_dir(tenant).join("before-restore")
    }

    /// Clones of the state as revisions have left it, by their numbers: what a rollback brings back.
    pub fn releases_dir(&self, tenant: &TenantId) -> Utf8PathBuf {
        self.tenant_dir(tenant).join("releases")
    }

    /// The states that rollbacks have set aside, by their operations; kept until the operator says otherwise.
    pub fn set_aside_dir(&self, tenant: &TenantId) -> Utf8PathBuf {
        self.tenant_dir(tenant).join("set-aside")
    }

    /// What drills have made and not yet removed: one directory for each scratch tenant (0700).
    pub fn drills_dir(&self) -> Utf8PathBuf {
        self.data_dir().join("drill")
    }

    /// The scratch tenant of a drill of `tenant`.
    pub fn drill_dir(&self, tenant: &TenantId) -> Utf8PathBuf {
        self.drills_dir().join(tenant.as_str())
    }

    /// The state that a drill has restored; one directory per mount.
    pub fn drill_state_dir(&self, tenant: &TenantId) -> Utf8PathBuf {
        self.drill_dir(tenant).join("state")
    }

    /// The caches of a scratch tenant, which begin empty; one directory per mount.
    pub fn drill_cache_dir(&self, tenant: &TenantId) -> Utf8PathBuf {
        self.drill_dir(tenant).join("cache")
    }

    /// The network namespace of a scratch tenant.
    pub fn drill_netns(&self, tenant: &TenantId) -> Utf8PathBuf {
        self.netns_dir().join(UnitNames(tenant).drill())
    }

    /// The service of a scratch tenant, gone after a reboot.
    pub fn drill_unit(&self, tenant: &TenantId) -> Utf8PathBuf {
        self.at("run/systemd/system")
            .join(UnitNames(tenant).drill_service())
    }

    /// The lock that whoever makes or removes scratch tenants holds.
    pub fn drill_lock(&self) -> Utf8PathBuf {
        self.run_dir().join("drill.lock")
    }

    /// The lock that whoever writes secrets holds.
    pub fn secrets_lock(&self) -> Utf8PathBuf {
        self.run_dir().join("secrets.lock")
    }

    /// What is kept of a tenant outside its own directory: evidence of failed attempts, secrets, what its egress door
    /// counted, and what its endpoints have used.
    pub fn kept_beside(&self, tenant: &TenantId) -> [Utf8PathBuf; 6] {
        [
            self.attempts_dir(tenant),
            self.tenant_secrets_dir(tenant),
            self.egress_state_dir(tenant),
            // The links to it, and to the one below, that systemd makes.
            self.at("var/lib/tenantd-egress").join(tenant.as_str()),
            self.endpoints_dir(tenant),
            self.at("var/lib/tenantd-endpoints").join(tenant.as_str()),
        ]
    }

    /// Where journald keeps logs, each namespace's in `MACHINE-ID.NAMESPACE` below.
    pub fn journals(&self) -> [Utf8PathBuf; 2] {
        [self.at("var/log/journal"), self.at("run/log/journal")]
    }

    /// What is kept of a tenant's failed attempts, by their operations.
    pub fn attempts_dir(&self, tenant: &TenantId) -> Utf8PathBuf {
        self.data_dir().join("attempts").join(tenant.as_str())
    }

    /// Exists while the tenant is held (stopped or suspended on purpose).
    pub fn held_file(&self, tenant: &TenantId) -> Utf8PathBuf {
        self.tenant_dir(tenant).join("held")
    }

    /// [`crate::tenant::Runtime`] as JSON.
    pub fn runtime_file(&self, tenant: &TenantId) -> Utf8PathBuf {
        self.tenant_dir(tenant).join("runtime.json")
    }

    /// Sockets and locks, gone after a reboot: `/run/tenantd`.
    pub fn run_dir(&self) -> Utf8PathBuf {
        self.at("run/tenantd")
    }

    /// The API's socket.
    pub fn api_socket(&self) -> Utf8PathBuf {
        self.run_dir().join("api.sock")
    }

    /// All agents' decrypted secrets.
    pub fn secret_mounts(&self) -> Utf8PathBuf {
        self.run_dir().join("secrets")
    }

    /// A tenant's decrypted secrets, in memory, while its agent runs.
    pub fn secret_mount(&self, tenant: &TenantId) -> Utf8PathBuf {
        self.secret_mounts().join(tenant.as_str())
    }

    /// The decrypted secrets of all scratch tenants.
    pub fn drill_secret_mounts(&self) -> Utf8PathBuf {
        self.run_dir().join("drill-secrets")
    }

    /// The decrypted secrets of the scratch tenant of a drill.
    pub fn drill_secret_mount(&self, tenant: &TenantId) -> Utf8PathBuf {
        self.drill_secret_mounts().join(tenant.as_str())
    }

    /// [`crate::tenant::EgressRuntime`] as JSON. Its directory may be read by the unprivileged door.
    pub fn egress_file(&self, tenant: &TenantId) -> Utf8PathBuf {
        self.config_dir()
            .join("egress")
            .join(format!("{tenant}.json"))
    }

    /// What survives a tenant's egress door: addresses that stand for names, the months' figures.
    /// systemd keeps it there for a unit with `DynamicUser=` and `StateDirectory=tenantd-egress/<t>`.
    pub fn egress_state_dir(&self, tenant: &TenantId) -> Utf8PathBuf {
        self.at("var/lib/private/tenantd-egress")
            .join(tenant.as_str())
    }

    /// A tenant's ingress socket.
    pub fn ingress_socket(&self, tenant: &TenantId) -> Utf8PathBuf {
        self.run_dir()
            .join("ingress")
            .join(format!("{tenant}.sock"))
    }

    /// What the public front has and needs: `/var/lib/tenantd-front`. The certificates in it are Caddy's, the rest root's.
    pub fn front_dir(&self) -> Utf8PathBuf {
        self.at("var/lib/tenantd-front")
    }

    /// Caddy's configuration, as it was last loaded; exists while the front is Caddy.
    pub fn front_config(&self) -> Utf8PathBuf {
        self.front_dir().join("caddy.json")
    }

    /// The hosts that the public may ask for: each a link of its name to its tenant's ingress socket.
    pub fn front_hosts_dir(&self) -> Utf8PathBuf {
        self.front_dir().join("hosts")
    }

    /// Certificates, their keys, and accounts at the authority: Caddy's own directory.
    pub fn front_store_dir(&self) -> Utf8PathBuf {
        self.front_dir().join("store")
    }

    /// The wildcard certificate, the account that it is got with, and how the last attempt ended. Root's; Caddy may read
    /// the certificates.
    pub fn front_wildcard_dir(&self) -> Utf8PathBuf {
        self.front_dir().join("wildcard")
    }

    /// Where Caddy is told its configuration.
    pub fn front_admin_socket(&self) -> Utf8PathBuf {
        self.at("run/tenantd-front/admin.sock")
    }

    /// Access logs of all tenants, and the older ones beside it.
    pub fn front_log_dir(&self) -> Utf8PathBuf {
        self.at("var/log/tenantd-front")
    }

    /// Which port of the host's loopback `tenantd-loopback@` of the tenant listens on.
    pub fn loopback_drop_in(&self, tenant: &TenantId) -> Utf8PathBuf {
        let socket = UnitNames(tenant).instance("loopback", "socket");
        self.unit_dir()
            .join(format!("{socket}.d"))
            .join("50-tenantd.conf")
    }

    /// The lock that whoever freezes, wakes, restores or stops a tenant holds.
    pub fn lock_file(&self, tenant: &TenantId) -> Utf8PathBuf {
        self.run_dir().join("lock").join(tenant.as_str())
    }

    /// Who froze a tenant and why, as JSON; exists while it is frozen.
    pub fn freeze_file(&self, tenant: &TenantId) -> Utf8PathBuf {
        self.run_dir().join("frozen").join(tenant.as_str())
    }

    /// The record of an agent that was asked to keep its files in order for a backup.
    pub fn quiesce_file(&self, tenant: &TenantId) -> Utf8PathBuf {
        self.run_dir().join("quiesced").join(tenant.as_str())
    }

    /// Where doors and root talk to the sleep service.
    pub fn sleep_socket(&self) -> Utf8PathBuf {
        self.run_dir().join("sleep.sock")
    }

    /// Reports of agents that do not answer their live probes.
    pub fn health_dir(&self) -> Utf8PathBuf {
        self.run_dir().join("health")
    }

    /// The report of one agent; exists while it does not answer.
    pub fn health_file(&self, tenant: &TenantId) -> Utf8PathBuf {
        self.health_dir().join(tenant.as_str())
    }

    /// What an agent answered to its start probe when a start of it failed.
    pub fn start_answers_file(&self, tenant: &TenantId) -> Utf8PathBuf {
        self.run_dir().join("starts").join(tenant.as_str())
    }

    /// Where `ip netns` and tenantd keep network namespaces: `/run/netns`.
    pub fn netns_dir(&self) -> Utf8PathBuf {
        self.at("run/netns")
    }

    /// The tenant's network namespace.
    pub fn netns(&self, tenant: &TenantId) -> Utf8PathBuf {
        self.netns_dir().join(format!("tenant-{tenant}"))
    }

    /// Where all tenants' Quadlet files are: `/etc/containers/systemd/tenantd`.
    pub fn quadlet_root(&self) -> Utf8PathBuf {
        self.at("etc/containers/systemd/tenantd")
    }

    /// Where one tenant's Quadlet files are.
    pub fn quadlet_dir(&self, tenant: &TenantId) -> Utf8PathBuf {
        self.quadlet_root().join(tenant.as_str())
    }

    /// Where unit files are: `/etc/systemd/system`.
    pub fn unit_dir(&self) -> Utf8PathBuf {
        self.at("etc/systemd/system")
    }

    /// Which credentials `tenantd-secrets@` of the tenant loads.
    pub fn secrets_drop_in(&self, tenant: &TenantId) -> Utf8PathBuf {
        let service = UnitNames(tenant).instance("secrets", "service");
        self.unit_dir()
            .join(format!("{service}.d"))
            .join("50-tenantd.conf")
    }

    /// Which credentials `tenantd-endpoints@` of the tenant loads.
    pub fn endpoints_drop_in(&self, tenant: &TenantId) -> Utf8PathBuf {
        let service = UnitNames(tenant).instance("endpoints", "service");
        self.unit_dir()
            .join(format!("{service}.d"))
            .join("50-tenantd.conf")
    }

    /// What the tenant's endpoints have used, a file for each month: the door's `StateDirectory=`, which systemd keeps
    /// there for a service with a user of its own.
    pub fn endpoints_dir(&self, tenant: &TenantId) -> Utf8PathBuf {
        self.at("var/lib/private/tenantd-endpoints")
            .join(tenant.as_str())
    }

    /// Settings of the tenant's journal namespace.
    pub fn journal_conf(&self, tenant: &TenantId) -> Utf8PathBuf {
        let namespace = UnitNames(tenant).journal_namespace();
        self.at("etc/systemd")
            .join(format!("journald@{namespace}.conf"))
    }

    /// The root that this layout is below.
    pub fn root(&self) -> &Utf8Path {
        &self.root
    }
}

/// The names of one tenant's units and container.
///
/// `tenant-` and `tenantd-` keep a tenant called `backup` away from `tenantd-backup.service`.
#[derive(Debug, Clone, Copy)]
pub struct UnitNames<'a>(pub &'a TenantId);

impl UnitNames<'_> {
    /// The container's name, also the stem of its Quadlet file.
    pub fn container(&self) -> String {
        format!("tenant-{}", self.0)
    }

    /// The container, unit and namespace of a drill: no name of the tenant that it is a copy of.
    pub fn drill(&self) -> String {
        format!("drill-{}", self.0)
    }

    /// The service of a drill.
    pub fn drill_service(&self) -> String {
        format!("drill-{}.service", self.0)
    }

    /// The Quadlet file's name.
    pub fn quadlet_file(&self) -> String {
        format!("tenant-{}.container", self.0)
    }

    /// The agent's service, as Quadlet names it.
    pub fn service(&self) -> String {
        format!("tenant-{}.service", self.0)
    }

    /// The slice with the tenant's limits.
    pub fn slice(&self) -> String {
        format!("tenant-{}.slice", self.0.escaped())
    }

    /// The journal namespace: `journalctl --namespace=…` reads the tenant's log.
    pub fn journal_namespace(&self) -> String {
        format!("tenant-{}", self.0)
    }

    /// An instance of one of the static templates: `net`, `restore`, `secrets`, `awake`, `ingress`, `egress`, `endpoints`,
    /// `loopback`, `backup`.
    pub fn instance(&self, template: &str, suffix: &str) -> String {
        format!("tenantd-{template}@{}.{suffix}", self.0.escaped())
    }
}

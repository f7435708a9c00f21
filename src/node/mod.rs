//! The host itself: `node.toml`, its keys, `init`, `doctor`, and its first boot.
//! It never decides anything about a tenant.

mod api_settings;
mod backup_settings;
mod bootstrap;
pub mod capacity;
pub mod doctor;
mod failure_settings;
pub mod fitness;
mod front_settings;
mod host_amounts;
mod host_files;
pub mod ignition;
mod init;
mod keys;
mod restore_settings;
mod retention;
mod secret_settings;
mod settings;
pub mod subordinate_ids;
mod update_settings;

pub use api_settings::{ApiSettings, TlsFiles};
pub use backup_settings::BackupSettings;
pub use bootstrap::{AfterRestore, Bootstrap};
pub use capacity::{CapacitySettings, OnOvercommit};
pub use failure_settings::FailureSettings;
pub use front_settings::{FrontMode, FrontSettings, WildcardSettings};
pub use host_amounts::what_the_host_has;
pub use host_files::{HostFile, enabled_units, host_files, unit};
pub use init::{GivenRootKey, InitError, InitReport, InitRequest, init, install_certificate};
pub use keys::{KeyFiles, NodeKeyError};
pub use restore_settings::{Moment, RestoreSettings};
pub use retention::RetentionSettings;
pub use secret_settings::SecretSettings;
pub use settings::{
    KeySettings, NodeSettings, SettingsError, StoreSettings, StoreSettingsError, StoreTarget,
};
pub use update_settings::{CloneMode, UpdateSettings};

use crate::layout::Layout;

/// What `status` repeats until the operator's keys are gone.
pub const OPERATOR_KEYS_WARNING: &str = "operator's keys on host: copy them elsewhere, then remove /var/lib/tenantd/keys/root.key and \
     /var/lib/tenantd/keys/identity.txt";

/// What the doctor advises about them.
pub const OPERATOR_KEYS_REMEDY: &str =
    "copy /var/lib/tenantd/keys/root.key and identity.txt to a safe place, then remove them here";

/// Why a storage limit is not kept, where the file system cannot.
pub const NO_QUOTAS: &str =
    "/var/lib/tenantd is not on XFS mounted with `prjquota`, or xfsprogs is not installed";

/// Whether `init` made the operator's keys and they are still on this host.
pub fn operator_keys_on_host(layout: &Layout) -> bool {
    !KeyFiles::new(layout).operators().is_empty()
}

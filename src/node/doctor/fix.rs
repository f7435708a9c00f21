//! What `doctor --fix` can do: each is safe, can be repeated, and never touches what tenants have stored.
//! Values only; `mend` does them.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::tenant::TenantId;

/// One safe change of the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", tag = "fix")]
pub enum Fix {
    /// Take access to a directory or file of tenantd's from everybody but root.
    MakePrivate {
        /// The directory or file.
        path: String,
    },
    /// Write the files that belong to this binary anew, and have systemd read them.
    PlaceFiles,
    /// Switch units of tenantd on, and start them.
    EnableUnit {
        /// The unit.
        unit: String,
    },
    /// Reserve the tenants' user and group ids in `/etc/subuid` and `/etc/subgid`.
    ReserveIds,
    /// Remove the network namespace of a tenant that is no more.
    RemoveNamespace {
        /// The tenant that it is named after.
        #[schema(value_type = String)]
        tenant: TenantId,
    },
    /// Have the daemon put right every tenant that is not as recorded.
    Reload,
}

impl fmt::Display for Fix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MakePrivate { path } => write!(f, "chmod go= {path}"),
            Self::PlaceFiles => {
                f.write_str("write tenantd's own units anew, and have systemd read them")
            }
            Self::EnableUnit { unit } => write!(f, "systemctl enable --now {unit}"),
            Self::ReserveIds => {
                f.write_str("add the range of the tenants' ids to /etc/subuid and /etc/subgid")
            }
            Self::RemoveNamespace { tenant } => {
                write!(f, "remove the network namespace tenant-{tenant}")
            }
            Self::Reload => f.write_str("tenantd reload: have the daemon put tenants' units right"),
        }
    }
}

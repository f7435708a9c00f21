//! The grammar of an object store, for the commands by which a node learns of its own.

use clap::Args;

use crate::node::StoreSettings;

/// Which store.
#[derive(Debug, Clone, Args)]
pub struct StoreArgs {
    /// Where snapshots are kept: `dir:/path` or `s3://bucket/prefix`.
    #[arg(
        long,
        default_value = "dir:/var/lib/tenantd/backups",
        value_name = "URL"
    )]
    store: String,
    /// The S3 server, for an s3:// store.
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// The S3 region, for an s3:// store.
    #[arg(long)]
    region: Option<String>,
}

impl StoreArgs {
    /// The settings that they are, without keys.
    pub fn settings(&self) -> StoreSettings {
        StoreSettings {
            url: self.store.clone(),
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            ..StoreSettings::default()
        }
    }
}

//! `tenantd unit wildcard`: the certificate that all hosts below the node's domain share.

use crate::daemon;
use crate::layout::Layout;
use crate::wildcard;

/// Gets it if it is due.
pub(super) async fn renew(layout: &Layout) -> anyhow::Result<()> {
    let settings = daemon::read_settings(layout)?;
    if wildcard::renew(layout, &settings.front).await? {
        tracing::info!("the wildcard certificate is there");
    } else {
        tracing::info!("no wildcard certificate is due");
    }
    Ok(())
}

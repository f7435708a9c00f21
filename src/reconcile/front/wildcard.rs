//! The wildcard certificate, as the front uses it: Caddy is told of it while it is good, and its unit is started when it is
//! due. Getting it is that unit's work.

use std::sync::Arc;

use jiff::Timestamp;

use super::FrontError;
use super::look;
use crate::front::SharedCertificate;
use crate::host::clock;
use crate::layout::Layout;
use crate::node::FrontSettings;
use crate::reconcile::blocking;
use crate::reconcile::engine::Engine;
use crate::tenant::PublicHost;
use crate::wildcard::Store;

const UNIT: &str = "tenantd-wildcard.service";

/// What Caddy is told of it; none while each host has a certificate of its own. It stays the same when the certificate is
/// renewed, so that nothing is loaded then.
pub(super) async fn shared(
    layout: &Layout,
    settings: &FrontSettings,
) -> Result<Option<SharedCertificate>, FrontError> {
    let Some(domain) = covered(layout, settings, clock::now()).await else {
        return Ok(None);
    };
    let store = Store::new(layout);
    let shared = blocking(move || {
        store.password().map(|password| SharedCertificate {
            bundle: store.bundle(&domain),
            domain,
            password,
        })
    });
    Ok(Some(shared.await?))
}

/// The domain whose hosts need no certificate of their own, if there is one.
pub(super) async fn covered(
    layout: &Layout,
    settings: &FrontSettings,
    now: Timestamp,
) -> Option<PublicHost> {
    let (wish, seen) = look::wildcard(layout, settings).await?;
    seen.in_use(now).map(|_| wish.domain.clone())
}

/// Starts the unit if it is time, and has the front looked at when it has ended. The timer does so where no daemon runs.
pub(super) async fn renew_if_due(engine: &Arc<Engine>, settings: &FrontSettings) {
    let Some((wish, seen)) = look::wildcard(&engine.layout, settings).await else {
        return;
    };
    if !seen.wants_attempt(&wish, clock::now()) {
        return;
    }
    if std::mem::replace(&mut engine.front().getting_wildcard, true) {
        return;
    }
    let engine = Arc::clone(engine);
    tokio::spawn(async move {
        match engine.systemd.start(UNIT).await {
            Ok(result) if result.is_done() => {
                tracing::info!("*.{} has a certificate", wish.domain);
            }
            Ok(_) => tracing::error!(
                "*.{} has no new certificate; `tenantd front` tells why",
                wish.domain
            ),
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "*.{} has no new certificate: {UNIT} cannot be started",
                wish.domain
            ),
        }
        engine.front().getting_wildcard = false;
        engine.front_changed.notify_one();
    });
}

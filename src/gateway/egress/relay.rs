//! Carries bytes between a tenant and the outside, counts them as they pass, and ends when it is told to.
//! It looks at none of them.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio_util::io::InspectReader;
use tokio_util::sync::CancellationToken;

use super::meter::{Flow, Way};

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Both sides were done, or one broke.
    ByItself,
    /// It was cut: the volume is used up, or the policy no longer allows it.
    Cut,
}

/// Carries until both sides have ended or `cut` does. Each side's end is passed on while the other goes on.
pub async fn relay(
    tenant: impl AsyncRead + AsyncWrite + Unpin,
    outside: impl AsyncRead + AsyncWrite + Unpin,
    flow: &Flow,
    cut: &CancellationToken,
) -> Ended {
    let mut tenant = InspectReader::new(tenant, |bytes: &[u8]| flow.count(Way::Out, bytes.len()));
    let mut outside = InspectReader::new(outside, |bytes: &[u8]| flow.count(Way::In, bytes.len()));
    let carried: io::Result<_> = tokio::select! {
        carried = copy_bidirectional(&mut tenant, &mut outside) => carried,
        () = cut.cancelled() => return Ended::Cut,
    };
    if let Err(error) = carried {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "a connection broke"
        );
    }
    Ended::ByItself
}

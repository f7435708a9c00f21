//! A connection that the tenant encrypts itself: only its first message is read, for the name in it.
//! What is plain HTTP goes through `web`, request by request.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::client_hello::{self, Hello};
use super::decision::By;
use super::door::{Door, Goal, Reached};
use super::judge::Refusal;
use super::meter::Way;
use super::relay::{Ended, relay};
use super::web::{self, Aim};
use crate::tenant::EgressMode;

/// Longest time until the tenant has said its first message.
const HELLO_TIME: Duration = Duration::from_secs(15);

/// Whether what a tenant says first agrees with where it goes.
///
/// Without a name inside, a server that many share could be asked for anyone's pages, so a list of names
/// would mean little; where everything is open, it does not matter.
///
/// # Errors
/// It names another, or, where names count, none.
pub fn agrees(goal: &Goal, hello: &Hello, mode: EgressMode) -> Result<(), Refusal> {
    match (goal, hello) {
        (Goal::Name(name, _), Hello::Named(said)) if name == said => Ok(()),
        (Goal::Name(..), Hello::Named(_)) => Err(Refusal::Mismatch),
        (Goal::Name(..), Hello::Nameless | Hello::NotTls) if mode == EgressMode::Allowlist => {
            Err(Refusal::Mismatch)
        }
        _ => Ok(()),
    }
}

/// Carries a connection to the goal that was reached for it.
pub async fn carry(
    door: Arc<Door>,
    by: By,
    goal: Goal,
    mut tenant: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    mut reached: Reached,
) {
    if reached.any_protocol {
        reached.open.mark_unread();
        return pass_on(&goal, &[], tenant, &mut reached).await;
    }
    if goal.port() == 80 {
        // Each request has its own connection to judge; this one was only the proof that there is a server.
        drop(reached);
        return web::serve(door, by, Aim::Fixed(goal), tenant).await;
    }
    let Ok(Ok(first)) = timeout(HELLO_TIME, client_hello::read(&mut tenant)).await else {
        return;
    };
    if !matches!(first.hello, Hello::Named(_)) {
        // Before the mode is asked for, so that none that comes meanwhile is missed.
        reached.open.mark_unread();
    }
    match agrees(&goal, &first.hello, door.judge().mode()) {
        Ok(()) => pass_on(&goal, &first.bytes, tenant, &mut reached).await,
        Err(refusal) => door.refuse(by, &goal.to_string(), refusal),
    }
}

/// Carries a connection of which nobody knows where it goes but by the name in its first message.
pub async fn carry_by_hello(
    door: Arc<Door>,
    by: By,
    port: u16,
    mut tenant: impl AsyncRead + AsyncWrite + Unpin,
) {
    let Ok(Ok(first)) = timeout(HELLO_TIME, client_hello::read(&mut tenant)).await else {
        return;
    };
    let Hello::Named(name) = first.hello else {
        return door.refuse(by, &format!("(unknown):{port}"), Refusal::Unknown);
    };
    let goal = Goal::Name(name, port);
    if let Ok(mut reached) = door.reach(by, goal.clone()).await {
        pass_on(&goal, &first.bytes, tenant, &mut reached).await;
    }
}

/// Passes on what was read, and then everything.
async fn pass_on(
    goal: &Goal,
    read: &[u8],
    tenant: impl AsyncRead + AsyncWrite + Unpin,
    reached: &mut Reached,
) {
    reached.flow.count(Way::Out, read.len());
    if reached.stream.write_all(read).await.is_err() {
        return;
    }
    if relay(tenant, &mut reached.stream, &reached.flow, &reached.cut).await == Ended::Cut {
        tracing::warn!(destination = %goal, "cut: the policy or the volume no longer allow it");
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("a.example", Some("a.example"), EgressMode::Allowlist, true)]
    #[case("a.example", Some("b.example"), EgressMode::Allowlist, false)]
    #[case("a.example", Some("b.example"), EgressMode::Open, false)]
    #[case("a.example", None, EgressMode::Allowlist, false)]
    #[case("a.example", None, EgressMode::Observe, true)]
    fn names_inside(
        #[case] name: &str,
        #[case] said: Option<&str>,
        #[case] mode: EgressMode,
        #[case] expected: bool,
    ) {
        let goal = Goal::Name(name.parse().unwrap(), 443);
        let hello = said.map_or(Hello::Nameless, |said| Hello::Named(said.parse().unwrap()));
        assert_eq!(agrees(&goal, &hello, mode).is_ok(), expected);
    }
}

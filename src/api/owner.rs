//! What the owner of a tenant asks to be applied or returned to, held against what is installed.
//! What is the owner's to change is decided in `access`; this finds the two sides of it.

use axum::http::StatusCode;

use super::Problem;
use super::auth::Peer;
use super::error::ApiResult;
use super::precondition::IfRevision;
use crate::access::{refused_in_rollback, refused_in_spec};
use crate::api::ApplyRequest;
use crate::reconcile::check_revision;
use crate::state::{Database, StoredRevision};
use crate::tenant::{Source, Spec, TenantId};

/// Refuses what `peer` may not apply; for an owner, the operation is bound to the revision that was looked at, so that
/// what the operator changes meanwhile is not undone by it.
pub async fn bind_apply(
    database: &Database,
    peer: &Peer,
    request: &ApplyRequest,
    given: IfRevision,
) -> ApiResult<IfRevision> {
    let Some(own) = peer.owned() else {
        return Ok(given);
    };
    let [document] = request.documents.as_slice() else {
        return Err(forbidden(
            "the owner of a tenant applies one spec at a time",
            Vec::new(),
        )
        .into());
    };
    if request.force || request.pull {
        let title = "`force` and `pull` choose images, which are the operator's";
        return Err(forbidden(title, Vec::new()).into());
    }
    let invalid = |problems| crate::reconcile::OperationError::Spec(vec![problems]);
    let wanted = Spec::parse(&Source::new(&document.name, &document.text)).map_err(invalid)?;
    if wanted.id != *own {
        let title = format!("this token is for tenant {own} only");
        return Err(forbidden(title, vec!["id".to_owned()]).into());
    }
    let (number, stored) = installed(database, own, given).await?;
    let current = Source::new("the installed spec", &stored.revision.spec_text);
    let current = Spec::parse(&current).map_err(invalid)?;
    let refused = refused_in_spec(&current, &wanted);
    if refused.is_empty() {
        return Ok(IfRevision(Some(number)));
    }
    let title = "the operator decides this; the owner of a tenant changes its `env` and `secrets`";
    Err(forbidden(title, refused).into())
}

/// As [`bind_apply`], for a return to revision `to`.
pub async fn bind_rollback(
    database: &Database,
    peer: &Peer,
    to: u64,
    given: IfRevision,
) -> ApiResult<IfRevision> {
    let Some(own) = peer.owned() else {
        return Ok(given);
    };
    let (number, stored) = installed(database, own, given).await?;
    let row = database.tenant(own.clone()).await?;
    let target = database.revision(own.clone(), to).await?;
    // One from before was made for another tenant of this name, which was erased since.
    let target = target.filter(|target| target.revision.created_at >= row.created_at);
    let Some(target) = target else {
        return Err(forbidden(format!("tenant {own} has no revision {to}"), Vec::new()).into());
    };
    let refused = refused_in_rollback(&stored.revision.resolved, &target.revision.resolved);
    if refused.is_empty() {
        return Ok(IfRevision(Some(number)));
    }
    let title =
        format!("revision {to} differs in what the operator decides; ask them to return to it");
    Err(forbidden(title, refused).into())
}

/// The installed revision of an owner's tenant; refused where `given` names another. What is compared with this
/// one must not be bound to one that is yet to come.
async fn installed(
    database: &Database,
    own: &TenantId,
    given: IfRevision,
) -> ApiResult<(u64, StoredRevision)> {
    let row = database.tenant(own.clone()).await?;
    if let Some(expected) = given.0 {
        check_revision(own, expected, Some(&row))?;
    }
    if let Some(number) = row.current_revision
        && let Some(stored) = database.revision(own.clone(), number).await?
    {
        return Ok((number, stored));
    }
    Err(forbidden(format!("the operator makes tenant {own} first"), Vec::new()).into())
}

fn forbidden(title: impl Into<String>, faults: Vec<String>) -> Problem {
    let mut problem = Problem::new("forbidden", StatusCode::FORBIDDEN, title);
    problem.faults = faults;
    problem
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::access::{NewToken, Scope};
    use crate::api::Document;
    use crate::quadlet::UnitSet;
    use crate::state::{OperationId, TokenRow};
    use crate::tenant::{Catalog, Revision, RevisionNumber, SecretVersions};

    const SPEC: &str = "id = \"acme\"\nplan = \"starter\"\nimage = \"localhost/a:1\"\n\
                        env = { LANG = \"C\" }\n[ingress]\nport = 8080\n[probes.start]\npath = \"/\"\n";

    fn acme() -> TenantId {
        "acme".parse().unwrap()
    }

    /// The holder of a token.
    fn holder(scope: Scope) -> Peer {
        Peer::Holder(Arc::new(TokenRow {
            id: NewToken::make().unwrap().hash.id(),
            name: "phone".parse().unwrap(),
            scope,
            created_at: jiff::Timestamp::UNIX_EPOCH,
            created_by: "root".to_owned(),
            expires_at: None,
            last_used: None,
        }))
    }

    fn owner() -> Peer {
        holder(Scope::Tenant(acme()))
    }

    async fn store(database: &Database, number: u64, spec: &str) {
        let source = Source::new("acme.toml", spec);
        let (_, resolved) = Catalog::builtin().resolve(&source).unwrap();
        let revision = Revision {
            number: RevisionNumber(number),
            created_at: jiff::Timestamp::UNIX_EPOCH,
            actor: "root".to_owned(),
            message: String::new(),
            spec_text: spec.to_owned(),
            resolved,
            image: format!("sha256:{}", "a".repeat(64)).parse().unwrap(),
            secrets: SecretVersions::default(),
            unit_set_hash: UnitSet::default().hash(),
        };
        let stored = StoredRevision {
            revision,
            unit_set: UnitSet::default(),
        };
        let stored = database.store_revision(acme(), OperationId::now_v7(), stored);
        stored.await.unwrap();
    }

    #[tokio::test]
    async fn an_owner_returns_to_no_revision_of_another_who_had_the_name_before() {
        let database = node().await;
        let at = jiff::Timestamp::UNIX_EPOCH;
        let forgotten = database.forget_tenant(acme(), "root".to_owned(), None, at);
        forgotten.await.unwrap();
        let later = at + jiff::SignedDuration::from_hours(1);
        let made = database.create_tenant(acme(), None, "root".to_owned(), later);
        made.await.unwrap();
        let installed = database.set_current_revision(acme(), Some(3), false);
        installed.await.unwrap();
        let bound = bind_rollback(&database, &owner(), 2, IfRevision(None)).await;
        assert!(bound.is_err());
    }

    /// A node with tenant acme: once on the larger plan, now on the smaller one.
    async fn node() -> Database {
        let database = Database::in_memory();
        let at = jiff::Timestamp::UNIX_EPOCH;
        let made = database.create_tenant(acme(), None, "root".to_owned(), at);
        made.await.unwrap();
        store(&database, 1, &SPEC.replace("starter", "pro")).await;
        store(&database, 2, &SPEC.replace("a:1", "a:0")).await;
        store(&database, 3, SPEC).await;
        let installed = database.set_current_revision(acme(), Some(3), false);
        installed.await.unwrap();
        database
    }

    fn asks(spec: &str) -> ApplyRequest {
        let document = |text: &str| Document {
            name: "acme.toml".to_owned(),
            text: text.to_owned(),
        };
        ApplyRequest {
            documents: vec![document(spec)],
            dry_run: false,
            pull: false,
            message: None,
            force: false,
        }
    }

    #[tokio::test]
    async fn an_owner_changes_what_is_theirs_and_only_of_the_revision_that_was_looked_at() {
        let database = node().await;
        let wanted = asks(&SPEC.replace("\"C\"", "\"de\""));
        let owner = owner();
        let bind = |given| bind_apply(&database, &owner, &wanted, IfRevision(given));
        // The operation fails where the operator has brought in another one meanwhile.
        assert_eq!(bind(None).await.ok(), Some(IfRevision(Some(3))));
        assert_eq!(bind(Some(3)).await.ok(), Some(IfRevision(Some(3))));
        // Bound to the next one, it would be compared with this one and undo that one.
        for other in [2, 4] {
            assert!(bind(Some(other)).await.is_err(), "{other}");
            let back = bind_rollback(&database, &owner, 2, IfRevision(Some(other)));
            assert!(back.await.is_err(), "{other}");
        }
    }

    #[tokio::test]
    async fn an_owner_changes_nothing_else_and_nobody_elses_tenant() {
        let database = node().await;
        let forced = ApplyRequest {
            force: true,
            ..asks(SPEC)
        };
        let pulled = ApplyRequest {
            pull: true,
            ..asks(SPEC)
        };
        let mut two = asks(SPEC);
        two.documents.push(two.documents[0].clone());
        let none = ApplyRequest {
            documents: Vec::new(),
            ..asks(SPEC)
        };
        let elses = asks(&SPEC.replace("acme", "other"));
        let larger = asks(&SPEC.replace("starter", "pro"));
        for refused in [forced, pulled, two, none, elses, larger] {
            let bound = bind_apply(&database, &owner(), &refused, IfRevision(None)).await;
            assert!(bound.is_err(), "{refused:?}");
            let operator = holder(Scope::Operator);
            let bound = bind_apply(&database, &operator, &refused, IfRevision(None)).await;
            assert_eq!(bound.ok(), Some(IfRevision(None)), "{refused:?}");
        }
    }

    #[tokio::test]
    async fn an_owner_makes_no_tenant() {
        let database = Database::in_memory();
        let bound = bind_apply(&database, &owner(), &asks(SPEC), IfRevision(None)).await;
        assert!(bound.is_err());
    }

    #[tokio::test]
    async fn an_owner_returns_to_another_image_and_not_to_another_plan() {
        let database = node().await;
        let owner = owner();
        let bind = |to| bind_rollback(&database, &owner, to, IfRevision(None));
        assert_eq!(bind(2).await.ok(), Some(IfRevision(Some(3))));
        assert!(bind(1).await.is_err());
        assert!(bind(9).await.is_err());
    }
}

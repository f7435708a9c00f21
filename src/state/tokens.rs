//! API tokens: what is kept of each, by the hash of its text.
//! Whether one may do something is decided in `access`.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row};
use serde_json::Value;

use super::audit::{self, AuditEntry};
use super::database::without_sync;
use super::tenants::timestamp;
use super::{Database, StateError};
use crate::access::{Scope, TokenHash, TokenId, TokenName};

/// What is kept of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// By what it is listed and revoked.
    pub id: TokenId,
    /// What people call it.
    pub name: TokenName,
    /// What it is for.
    pub scope: Scope,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// From when it is no good; never when none.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to within an hour.
    pub last_used: Option<Timestamp>,
}

impl TokenRow {
    /// Whether it is no good any more.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

const COLUMNS: &str = "id, name, scope, created_at, created_by, expires_at, last_used";

impl Database {
    /// Keeps a new token, and that it was made.
    ///
    /// # Errors
    /// [`StateError::NoTenant`] where it is for a tenant that is not there: it would be good for whoever gets that name
    /// later.
    pub async fn create_token(&self, hash: TokenHash, token: TokenRow) -> Result<(), StateError> {
        self.call(move |connection| {
            let failed = || StateError::statement("keep a token");
            let transaction = connection.transaction().map_err(failed())?;
            if let Scope::Tenant(tenant) = &token.scope {
                let is_there: bool = transaction
                    .query_row(
                        "SELECT EXISTS (SELECT 1 FROM tenants WHERE id = ?1)",
                        [tenant.as_str()],
                        |row| row.get(0),
                    )
                    .map_err(failed())?;
                if !is_there {
                    return Err(StateError::NoTenant(tenant.clone()));
                }
            }
            transaction
                .execute(
                    "INSERT INTO tokens (hash, id, name, scope, created_at, created_by, expires_at)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    (
                        hash.as_str(),
                        token.id.as_str(),
                        token.name.as_str(),
                        token.scope.to_string(),
                        token.created_at.to_string(),
                        &token.created_by,
                        token.expires_at.map(|at| at.to_string()),
                    ),
                )
                .map_err(failed())?;
            let actor = token.created_by.clone();
            audit::insert(
                &transaction,
                &change(&token, actor, token.created_at, "token create"),
            )?;
            transaction.commit().map_err(failed())
        })
        .await
    }

    /// All tokens, the oldest first.
    pub async fn tokens(&self) -> Result<Vec<TokenRow>, StateError> {
        self.call(|connection| {
            let failed = || StateError::statement("read the tokens");
            let mut statement = connection
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM tokens ORDER BY created_at, id"
                ))
                .map_err(failed())?;
            let mut rows = statement.query(()).map_err(failed())?;
            let mut tokens = Vec::new();
            while let Some(row) = rows.next().map_err(failed())? {
                tokens.push(from_row(row)?);
            }
            Ok(tokens)
        })
        .await
    }

    /// The token with this hash, expired or not.
    pub async fn token_by_hash(&self, hash: TokenHash) -> Result<Option<TokenRow>, StateError> {
        self.call(move |connection| {
            let failed = || StateError::statement("find a token");
            let mut statement = connection
                .prepare_cached(&format!("SELECT {COLUMNS} FROM tokens WHERE hash = ?1"))
                .map_err(failed())?;
            let mut rows = statement.query([hash.as_str()]).map_err(failed())?;
            rows.next().map_err(failed())?.map(from_row).transpose()
        })
        .await
    }

    /// Forgets a token, and keeps that it was revoked; none when there is no such token.
    pub async fn revoke_token(
        &self,
        id: TokenId,
        actor: String,
        at: Timestamp,
    ) -> Result<Option<TokenRow>, StateError> {
        self.call(move |connection| {
            let failed = || StateError::statement("revoke a token");
            let transaction = connection.transaction().map_err(failed())?;
            let found = transaction
                .query_row(
                    &format!("SELECT {COLUMNS} FROM tokens WHERE id = ?1"),
                    [id.as_str()],
                    |row| Ok(from_row(row)),
                )
                .optional()
                .map_err(failed())?
                .transpose()?;
            if let Some(token) = &found {
                transaction
                    .execute("DELETE FROM tokens WHERE id = ?1", [id.as_str()])
                    .map_err(failed())?;
                audit::insert(&transaction, &change(token, actor, at, "token revoke"))?;
                transaction.commit().map_err(failed())?;
            }
            Ok(found)
        })
        .await
    }

    /// Keeps when a token was used. A power cut may undo it.
    pub async fn note_token_use(&self, id: TokenId, at: Timestamp) -> Result<(), StateError> {
        self.call(move |connection| {
            without_sync(connection, |connection| {
                connection.execute(
                    "UPDATE tokens SET last_used = ?2 WHERE id = ?1",
                    (id.as_str(), at.to_string()),
                )
            })
            .map_err(StateError::statement("keep that a token was used"))?;
            Ok(())
        })
        .await
    }
}

/// A line of the audit log about a token; a tenant's own history has those for its owner.
fn change(token: &TokenRow, actor: String, at: Timestamp, action: &str) -> AuditEntry {
    let tenant = match &token.scope {
        Scope::Tenant(tenant) => Some(tenant.clone()),
        _ => None,
    };
    AuditEntry {
        at,
        actor,
        tenant,
        action: action.to_owned(),
        detail: Some(format!(
            "{} ({}), scope {}",
            token.id, token.name, token.scope
        )),
    }
}

fn from_row(row: &Row<'_>) -> Result<TokenRow, StateError> {
    let failed = || StateError::statement("read a token");
    let text = |index: usize| row.get::<_, String>(index).map_err(failed());
    let named = |index: usize| Ok::<_, StateError>(Value::String(text(index)?));
    let document = |what: &'static str| StateError::document(what);
    let optional = |index: usize| {
        let is_there = row
            .get::<_, Option<String>>(index)
            .map_err(failed())?
            .is_some();
        is_there
            .then(|| timestamp(row, index))
            .transpose()
            .map_err(failed())
    };
    Ok(TokenRow {
        id: serde_json::from_value(named(0)?).map_err(document("a token's id"))?,
        name: serde_json::from_value(named(1)?).map_err(document("a token's name"))?,
        scope: serde_json::from_value(named(2)?).map_err(document("a token's scope"))?,
        created_at: timestamp(row, 3).map_err(failed())?,
        created_by: text(4)?,
        expires_at: optional(5)?,
        last_used: optional(6)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::NewToken;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    async fn create_tenant(database: &Database, tenant: &str) {
        let now = at("2026-11-21T09:00:00Z");
        let made = database.create_tenant(tenant.parse().unwrap(), None, "root".to_owned(), now);
        made.await.unwrap();
    }

    #[tokio::test]
    async fn a_token_is_found_by_its_hash_until_it_is_revoked_and_both_are_on_record() {
        let database = Database::in_memory();
        let hash = NewToken::make().unwrap().hash;
        let row = TokenRow {
            id: hash.id(),
            name: "phone".parse().unwrap(),
            scope: "tenant:acme".parse().unwrap(),
            created_at: at("2026-11-21T10:00:00Z"),
            created_by: "root".to_owned(),
            expires_at: Some(at("2026-11-22T10:00:00Z")),
            last_used: None,
        };
        // It would be good for whoever gets that name later.
        let early = database.create_token(hash.clone(), row.clone()).await;
        assert!(matches!(early, Err(StateError::NoTenant(_))));
        assert_eq!(database.tokens().await.unwrap(), []);
        create_tenant(&database, "acme").await;
        database
            .create_token(hash.clone(), row.clone())
            .await
            .unwrap();
        let used = at("2026-11-21T11:00:00Z");
        database.note_token_use(row.id.clone(), used).await.unwrap();
        let row = TokenRow {
            last_used: Some(used),
            ..row
        };
        assert_eq!(
            database.token_by_hash(hash.clone()).await.unwrap().as_ref(),
            Some(&row)
        );
        assert_eq!(database.tokens().await.unwrap(), std::slice::from_ref(&row));

        let revoke = || database.revoke_token(row.id.clone(), "root".to_owned(), used);
        assert_eq!(revoke().await.unwrap().as_ref(), Some(&row));
        assert_eq!(database.token_by_hash(hash).await.unwrap(), None);
        assert_eq!(revoke().await.unwrap(), None);

        let log = database
            .audit_log(Some("acme".parse().unwrap()), 10)
            .await
            .unwrap();
        let actions: Vec<_> = log.iter().map(|entry| entry.action.as_str()).collect();
        assert_eq!(actions, ["create", "token create", "token revoke"]);
    }

    #[tokio::test]
    async fn a_tenants_tokens_go_with_it_so_that_they_are_not_good_for_the_next_of_its_name() {
        let database = Database::in_memory();
        let now = at("2026-11-21T10:00:00Z");
        create_tenant(&database, "acme").await;
        create_tenant(&database, "acme-2").await;
        for scope in ["tenant:acme", "tenant:acme-2", "operator"] {
            let hash = NewToken::make().unwrap().hash;
            let row = TokenRow {
                id: hash.id(),
                name: "phone".parse().unwrap(),
                scope: scope.parse().unwrap(),
                created_at: now,
                created_by: "root".to_owned(),
                expires_at: None,
                last_used: None,
            };
            database.create_token(hash, row).await.unwrap();
        }
        database
            .forget_tenant("acme".parse().unwrap(), "root".to_owned(), None, now)
            .await
            .unwrap();
        let left = database.tokens().await.unwrap();
        let mut left: Vec<_> = left.iter().map(|token| token.scope.to_string()).collect();
        left.sort_unstable();
        assert_eq!(left, ["operator", "tenant:acme-2"]);
    }

    #[test]
    fn a_token_is_no_good_from_the_moment_it_expires() {
        let expiring = |expires_at| TokenRow {
            id: NewToken::make().unwrap().hash.id(),
            name: "x".parse().unwrap(),
            scope: Scope::Read,
            created_at: at("2026-11-21T10:00:00Z"),
            created_by: "root".to_owned(),
            expires_at,
            last_used: None,
        };
        let end = at("2026-11-22T10:00:00Z");
        assert!(!expiring(Some(end)).is_expired(at("2026-11-22T09:59:59Z")));
        assert!(expiring(Some(end)).is_expired(end));
        assert!(!expiring(None).is_expired(end));
    }
}

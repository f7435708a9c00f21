//! The table of all routes: which scope each asks for, and how it is known whose tenant it is about.
//! What is not in the table is refused; a test holds it against the API's contract.

use super::Scope;

/// The scopes that are not a tenant's, each with all that the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// `read`.
    Read,
    /// `operator`.
    Operator,
    /// `admin`.
    Admin,
}

/// How it is known whose tenant a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnBy {
    /// By `{tenant}` in the route's path.
    Path,
    /// By the operation whose id is in the path.
    Operation,
    /// By the query, which must be `tenant=ID` and nothing else.
    Query,
    /// By the documents in the body, which the route itself must look at.
    Documents,
    /// It is about no tenant, and harmless.
    Nobody,
}

/// Whether a request may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It may.
    Yes,
    /// It may if it is about the holder's own tenant.
    IfOwn(OwnBy),
    /// It may not.
    No,
}

/// Method, path as the router knows it, the lowest rank, and what makes it the business of a tenant's owner.
pub type Rule = (&'static str, &'static str, Rank, Option<OwnBy>);

use OwnBy::{Documents, Nobody, Operation, Path, Query};
use Rank::{Admin, Operator, Read};

/// All routes.
#[rustfmt::skip]
pub const RULES: &[Rule] = &[
    ("GET",    "/v1/version",                                 Read,     Some(Nobody)),
    ("GET",    "/v1/openapi.json",                            Read,     Some(Nobody)),

    ("GET",    "/v1/node",                                    Read,     None),
    ("GET",    "/v1/doctor",                                  Read,     None),
    ("POST",   "/v1/doctor/store",                            Operator, None),
    ("POST",   "/v1/reload",                                  Operator, None),
    ("GET",    "/v1/front",                                   Read,     None),
    ("GET",    "/v1/front/snippet",                           Read,     None),
    ("GET",    "/v1/templates",                               Read,     None),
    ("GET",    "/v1/plans",                                   Read,     None),
    ("GET",    "/v1/usage",                                   Read,     None),
    ("GET",    "/v1/egress",                                  Read,     Some(Query)),
    ("GET",    "/v1/spending",                                Read,     Some(Query)),

    ("GET",    "/v1/tokens",                                  Admin,    None),
    ("POST",   "/v1/tokens",                                  Admin,    None),
    ("DELETE", "/v1/tokens/{token}",                          Admin,    None),

    ("GET",    "/v1/tenants",                                 Read,     None),
    ("GET",    "/v1/tenants/{tenant}",                        Read,     Some(Path)),
    ("GET",    "/v1/tenants/{tenant}/spec",                   Operator, Some(Path)),
    ("GET",    "/v1/tenants/{tenant}/transitions",            Read,     Some(Path)),
    ("GET",    "/v1/tenants/{tenant}/revisions",              Operator, Some(Path)),
    // Rendered files are full of the host's paths.
    ("GET",    "/v1/tenants/{tenant}/revisions/{revision}",   Operator, None),
    ("GET",    "/v1/tenants/{tenant}/units",                  Operator, None),
    // What agents and visitors write is their owners' business.
    ("GET",    "/v1/tenants/{tenant}/logs",                   Operator, Some(Path)),
    ("GET",    "/v1/tenants/{tenant}/access",                 Operator, Some(Path)),
    ("GET",    "/v1/tenants/{tenant}/egress/decisions",       Operator, Some(Path)),
    ("GET",    "/v1/tenants/{tenant}/egress/test",            Operator, Some(Path)),

    ("POST",   "/v1/apply",                                   Operator, Some(Documents)),
    ("POST",   "/v1/tenants/{tenant}/start",                  Operator, Some(Path)),
    ("POST",   "/v1/tenants/{tenant}/stop",                   Operator, Some(Path)),
    ("POST",   "/v1/tenants/{tenant}/restart",                Operator, Some(Path)),
    ("POST",   "/v1/tenants/{tenant}/rollback",               Operator, Some(Path)),
    ("POST",   "/v1/tenants/{tenant}/sleep",                  Operator, Some(Path)),
    ("POST",   "/v1/tenants/{tenant}/wake",                   Operator, Some(Path)),
    // Suspending is what bills are collected with.
    ("POST",   "/v1/tenants/{tenant}/suspend",                Operator, None),
    ("POST",   "/v1/tenants/{tenant}/resume",                 Operator, None),
    ("POST",   "/v1/tenants/{tenant}/reclaim",                Operator, None),
    // What cannot be taken back, or is root inside a tenant.
    ("DELETE", "/v1/tenants/{tenant}",                        Admin,    None),
    ("POST",   "/v1/tenants/{tenant}/exec",                   Admin,    None),

    ("GET",    "/v1/secrets",                                 Operator, None),
    ("GET",    "/v1/tenants/{tenant}/secrets",                Operator, Some(Path)),
    ("PUT",    "/v1/tenants/{tenant}/secrets/{name}",         Operator, Some(Path)),
    ("DELETE", "/v1/tenants/{tenant}/secrets/{name}",         Operator, Some(Path)),
    ("POST",   "/v1/tenants/{tenant}/secrets/{name}/rotate",  Operator, Some(Path)),
    ("POST",   "/v1/tenants/{tenant}/secrets/{name}/reveal",  Admin,    None),

    ("POST",   "/v1/backups",                                 Operator, None),
    ("POST",   "/v1/tenants/{tenant}/backups",                Operator, Some(Path)),
    ("GET",    "/v1/snapshots",                               Read,     None),
    ("GET",    "/v1/tenants/{tenant}/snapshots",              Read,     Some(Path)),
    ("POST",   "/v1/tenants/{tenant}/restore",                Operator, None),
    ("POST",   "/v1/tenants/{tenant}/restore/undo",           Operator, None),
    ("POST",   "/v1/tenants/{tenant}/restore/accept",         Admin,    None),

    ("GET",    "/v1/operations",                              Operator, Some(Query)),
    ("GET",    "/v1/operations/{id}",                         Operator, Some(Operation)),
    // It has the agent's log.
    ("GET",    "/v1/operations/{id}/evidence",                Operator, None),
];

/// Whether a token of `scope` may ask for `method` at `path`, the route's path as the router knows it.
pub fn decide(scope: &Scope, method: &str, path: &str) -> Decision {
    // A HEAD is a GET whose body nobody wants (RFC 9110, section 9.3.2).
    let method = if method == "HEAD" { "GET" } else { method };
    let mut rules = RULES.iter();
    let Some((.., lowest, own)) = rules.find(|rule| (rule.0, rule.1) == (method, path)) else {
        return Decision::No;
    };
    let has = match scope {
        Scope::Admin => Admin,
        Scope::Operator => Operator,
        Scope::Read => Read,
        Scope::Tenant(_) => return own.map_or(Decision::No, Decision::IfOwn),
    };
    if has >= *lowest {
        Decision::Yes
    } else {
        Decision::No
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn nothing_that_is_not_in_the_table_may_be_asked_for() {
        for scope in [Scope::Admin, Scope::Operator, Scope::Read] {
            assert_eq!(decide(&scope, "GET", "/v1/new"), Decision::No);
            assert_eq!(decide(&scope, "PATCH", "/v1/version"), Decision::No);
        }
    }

    #[test]
    fn a_route_has_one_rule_and_an_owners_path_names_the_tenant() {
        let mut seen = BTreeSet::new();
        for (method, path, _, own) in RULES {
            assert!(seen.insert((method, path)), "{method} {path} twice");
            if *own == Some(Path) {
                assert!(path.starts_with("/v1/tenants/{tenant}"), "{path}");
            }
        }
    }

    #[test]
    fn to_read_changes_nothing() {
        for (method, path, lowest, _) in RULES {
            assert!(*lowest != Read || *method == "GET", "{method} {path}");
        }
    }
}

//! What the owner of a tenant may change of it: variables, and secrets whose values are given or made.
//! All else is compared and must be as it is, so that a field that is new to specs is the operator's until it is
//! decided otherwise here.

use serde_json::{Map, Value};

use crate::tenant::{ResolvedSpec, SecretSource, Spec};

/// Fields of a spec that are the owner's.
const OF_OWNER: [&str; 2] = ["env", "secrets"];

/// Also the owner's where an earlier release is returned to: the image ran here by the operator's decision.
const OF_RELEASE: [&str; 1] = ["image"];

/// Which fields of `wanted` differ from `current` and are not the owner's to change; none when it may be applied.
pub fn refused_in_spec(current: &Spec, wanted: &Spec) -> Vec<String> {
    let mut refused = differences(&document(current), &document(wanted), &OF_OWNER);
    for (name, secret) in &wanted.secrets {
        let now = current.secrets.get(name);
        // A reference is asked for by root, on the host.
        if secret.reference.is_some() && now.map(|now| &now.reference) != Some(&secret.reference) {
            refused.push(format!("secrets.{name}.ref"));
        }
    }
    refused
}

/// Which fields of an earlier release differ from the installed one and are not the owner's to bring back: limits that
/// the operator has lowered since, capabilities and references that were withdrawn.
pub fn refused_in_rollback(installed: &ResolvedSpec, target: &ResolvedSpec) -> Vec<String> {
    let own = [&OF_OWNER[..], &OF_RELEASE[..]].concat();
    let mut refused = differences(&document(installed), &document(target), &own);
    for (name, secret) in &target.secrets {
        let now = installed.secrets.get(name).map(|now| &now.source);
        if matches!(secret.source, SecretSource::Reference(_)) && now != Some(&secret.source) {
            refused.push(format!("secrets.{name}.ref"));
        }
    }
    refused
}

/// # Panics
/// Never: specs have text keys and no values that JSON lacks.
fn document(spec: &impl serde::Serialize) -> Map<String, Value> {
    match serde_json::to_value(spec) {
        Ok(Value::Object(members)) => members,
        other => unreachable!("a spec is a document, not {other:?}"),
    }
}

/// The fields in which two documents differ, those of their tables by `table.field`.
fn differences(a: &Map<String, Value>, b: &Map<String, Value>, except: &[&str]) -> Vec<String> {
    let mut keys: Vec<_> = a.keys().chain(b.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut different = Vec::new();
    for key in keys {
        if except.contains(&key.as_str()) || a.get(key) == b.get(key) {
            continue;
        }
        match (a.get(key), b.get(key)) {
            (Some(Value::Object(a)), Some(Value::Object(b))) => {
                let inner = differences(a, b, &[]).into_iter();
                different.extend(inner.map(|field| format!("{key}.{field}")));
            }
            _ => different.push(key.clone()),
        }
    }
    different
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::tenant::{Catalog, Source};

    const CURRENT: &str = r#"
        id = "acme"
        template = "generic"
        plan = "starter"
        image = "example.org/agent:1"
        env = { LANG = "C" }
        [container]
        user = { uid = 1000, gid = 1000 }
        [ingress]
        port = 8080
        [probes.start]
        path = "/"
        [state.data]
        path = "/data"
        [secrets.API_KEY]
        ref = "op://agents/acme/key"
    "#;

    fn spec(text: &str) -> Spec {
        Spec::parse(&Source::new("acme.toml", text)).unwrap()
    }

    fn refused(from: &str, to: &str) -> Vec<String> {
        assert!(CURRENT.contains(from), "{from}");
        refused_in_spec(&spec(CURRENT), &spec(&CURRENT.replace(from, to)))
    }

    #[rstest]
    #[case(r#"plan = "starter""#, r#"plan = "pro""#, "plan")]
    #[case(r#"template = "generic""#, r#"template = "openclaw""#, "template")]
    #[case("agent:1", "agent:2", "image")]
    #[case(r#"id = "acme""#, r#"id = "other""#, "id")]
    #[case("env =", "wake = \"scheduled\"\nenv =", "wake")]
    #[case("env =", "hosts = [\"bank.example\"]\nenv =", "hosts")]
    #[case("env =", "loopback-port = 9000\nenv =", "loopback-port")]
    #[case(
        "[container]",
        "[container]\ncapabilities = [\"NET_BIND_SERVICE\"]",
        "container.capabilities"
    )]
    #[case("[container]", "[container]\nread-only = false", "container.read-only")]
    #[case(
        "user = { uid = 1000, gid = 1000 }",
        "user = { uid = 0, gid = 1000 }",
        "container.user.uid"
    )]
    #[case("[container]", "[container]\ncommand = [\"sh\"]", "container.command")]
    #[case(
        "[container]",
        "[container]\nshm-size = \"1GiB\"",
        "container.shm-size"
    )]
    #[case("port = 8080", "port = 8081", "ingress.port")]
    #[case("path = \"/data\"", "path = \"/other\"", "state.data.path")]
    #[case(
        "[state.data]",
        "[state.more]\npath = \"/more\"\n[state.data]",
        "state.more"
    )]
    #[case("[ingress]", "[cache.big]\npath = \"/big\"\n[ingress]", "cache.big")]
    #[case(
        "[ingress]",
        "[backup.quiesce]\nrequired = true\n[ingress]",
        "backup.quiesce.required"
    )]
    #[case("[ingress]", "[sleep]\nafter = \"1d\"\n[ingress]", "sleep.after")]
    #[case("[ingress]", "[stop]\ntimeout = \"5min\"\n[ingress]", "stop.timeout")]
    #[case("acme/key", "other/key", "secrets.API_KEY.ref")]
    #[case(
        "ref = \"op://agents/acme/key\"",
        "ref = \"age:/etc/shadow\"",
        "secrets.API_KEY.ref"
    )]
    #[case(
        "[secrets.API_KEY]",
        "[secrets.B]\nref = \"exec:/bin/id\"\n[secrets.API_KEY]",
        "secrets.B.ref"
    )]
    fn an_owner_may_not_change(#[case] from: &str, #[case] to: &str, #[case] field: &str) {
        assert_eq!(refused(from, to), [field]);
    }

    #[rstest]
    #[case(r#"LANG = "C""#, r#"LANG = "de", MODEL = "large""#)]
    #[case(
        "[secrets.API_KEY]",
        "[secrets.B]\ngenerate = \"hex32\"\n[secrets.API_KEY]"
    )]
    #[case("[secrets.API_KEY]", "[secrets.C]\nenv = \"C\"\n[secrets.API_KEY]")]
    #[case("ref = \"op://agents/acme/key\"", "")]
    fn an_owner_may_change(#[case] from: &str, #[case] to: &str) {
        assert_eq!(refused(from, to), Vec::<String>::new());
    }

    fn resolved(text: &str) -> ResolvedSpec {
        let source = Source::new("acme.toml", text);
        Catalog::builtin().resolve(&source).unwrap().1
    }

    #[rstest]
    #[case(r#"plan = "starter""#, r#"plan = "pro""#, &["limits", "plan"])]
    #[case("acme/key", "other/key", &["secrets"])]
    #[case("path = \"/data\"", "path = \"/other\"", &["state"])]
    #[case("agent:1", "agent:2", &[])]
    #[case(r#"LANG = "C""#, r#"LANG = "de""#, &[])]
    fn an_owner_returns_to_no_release_that_was_allowed_more(
        #[case] from: &str,
        #[case] to: &str,
        #[case] expected: &[&str],
    ) {
        let refused =
            refused_in_rollback(&resolved(CURRENT), &resolved(&CURRENT.replace(from, to)));
        let mut tables: Vec<_> = refused
            .iter()
            .filter_map(|field| field.split('.').next())
            .collect();
        tables.dedup();
        assert_eq!(tables, expected);
    }
}

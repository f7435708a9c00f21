//! What a change of a tenant's spec asks of its agent while it runs.
//! Pure: it compares two resolved specs, field by field, and knows no image and no host.

use std::collections::BTreeMap;
use std::fmt;

use super::{EgressMode, EgressPolicy, Limits, ResolvedSecret, ResolvedSpec, SecretName};

/// How the change from one resolved spec to another comes into force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LiveChange {
    /// What comes into force under an agent that runs.
    pub live: Vec<ValueChange>,
    /// What only a start of the agent brings into force, by the spec's names.
    pub restart: Vec<&'static str>,
}

/// One value that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueChange {
    /// The plan's or the spec's name for it.
    pub name: &'static str,
    /// What it was.
    pub from: String,
    /// What it will be.
    pub to: String,
}

impl fmt::Display for ValueChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, from, to } = self;
        write!(f, "{name} from {from} to {to}")
    }
}

impl LiveChange {
    /// Whether an agent that runs can run on.
    pub fn is_live(&self) -> bool {
        self.restart.is_empty()
    }

    fn limit(&mut self, name: &'static str, from: impl fmt::Display, to: impl fmt::Display) {
        let (from, to) = (from.to_string(), to.to_string());
        if from != to {
            self.live.push(ValueChange { name, from, to });
        }
    }

    fn restart<T: PartialEq>(&mut self, name: &'static str, from: &T, to: &T) {
        if from != to {
            self.restart.push(name);
        }
    }
}

/// The entries of a list, for people.
fn list(entries: &[impl fmt::Display]) -> String {
    if entries.is_empty() {
        return "nothing".to_owned();
    }
    let entries: Vec<String> = entries.iter().map(ToString::to_string).collect();
    entries.join(", ")
}

/// Compares what a tenant is with what it is to be. Both are of the same tenant; that its image's
/// name means another image by now is for the caller to find out.
pub fn live_change(old: &ResolvedSpec, new: &ResolvedSpec) -> LiveChange {
    // Whole patterns: a new field does not compile until somebody has decided what it asks for.
    let ResolvedSpec {
        tenant: _,
        // Names for people; what they lead to is in the other fields.
        template: _,
        plan: _,
        image,
        // Read by helper processes each time, or not by anything of a running agent.
        wake,
        sleep: _,
        hosts: _,
        loopback_port: _,
        live_probe: _,
        idle_probe: _,
        quiesce: _,
        env,
        command,
        args,
        user,
        capabilities,
        read_only,
        init,
        tmpfs,
        workdir,
        shm_size,
        port,
        egress: policy,
        start_probe,
        secrets: _,
        endpoints: _,
        state,
        cache,
        stop,
        limits:
            Limits {
                cpus,
                memory,
                swap: _,
                storage,
                pids,
                io_weight,
                log_size,
                log_retention,
                egress,
                retention,
            },
    } = old;
    let mut change = LiveChange::default();
    change.limit("wake", wake, new.wake);
    change.limit("cpus", cpus, new.limits.cpus);
    change.limit("memory", memory, new.limits.memory);
    change.limit("swap", old.limits.swap(), new.limits.swap());
    change.limit("storage", storage, new.limits.storage);
    change.limit("pids", pids, new.limits.pids);
    change.limit("io-weight", io_weight, new.limits.io_weight);
    change.limit("log-size", log_size, new.limits.log_size);
    change.limit("log-retention", log_retention, new.limits.log_retention);
    change.limit("egress", egress, new.limits.egress);
    change.limit("retention", retention, new.limits.retention);

    let has_way_out = |policy: &EgressPolicy| policy.mode != EgressMode::None;
    if has_way_out(policy) == has_way_out(&new.egress) {
        change.limit("egress.mode", policy.mode, new.egress.mode);
        change.limit("egress.allow", list(&policy.allow), list(&new.egress.allow));
        change.limit("egress.ports", list(&policy.ports), list(&new.egress.ports));
        change.limit(
            "egress.private-networks",
            list(&policy.private_networks),
            list(&new.egress.private_networks),
        );
    } else {
        // The sockets and the variables that name them come and go with the container.
        change.restart.push("egress.mode");
    }

    change.restart("image", image, &new.image);
    change.restart("env", env, &new.env);
    change.restart("container.command", command, &new.command);
    change.restart("container.args", args, &new.args);
    change.restart("container.user", user, &new.user);
    change.restart("container.capabilities", capabilities, &new.capabilities);
    change.restart("container.read-only", read_only, &new.read_only);
    change.restart("container.init", init, &new.init);
    change.restart("container.tmpfs", tmpfs, &new.tmpfs);
    change.restart("container.workdir", workdir, &new.workdir);
    change.restart("container.shm-size", shm_size, &new.shm_size);
    change.restart("ingress.port", port, &new.port);
    change.restart("probes.start", start_probe, &new.start_probe);
    // Its own variables are in `env`, and keys are none of its secrets: only the first endpoint asks for a start,
    // which requires their socket.
    change.limit("endpoints", told(old), told(new));
    change.limit("spending", spent(old), spent(new));
    let has_any = |spec: &ResolvedSpec| !spec.endpoints.endpoints.is_empty();
    change.restart("endpoints", &has_any(old), &has_any(new));
    let agents = |spec: &ResolvedSpec| -> BTreeMap<SecretName, ResolvedSecret> {
        let secrets = spec.agent_secrets();
        secrets
            .map(|(name, secret)| (name.clone(), secret.clone()))
            .collect()
    };
    change.restart("secrets", &agents(old), &agents(new));
    change.restart("state", state, &new.state);
    change.restart("cache", cache, &new.cache);
    change.restart("stop", stop, &new.stop);
    change
}

/// The endpoints in a few words. Headers and prices are not told: they may be long.
fn told(spec: &ResolvedSpec) -> String {
    let endpoints = spec.endpoints.endpoints.iter();
    let told: Vec<_> = endpoints
        .map(|(name, endpoint)| format!("{name} ({})", endpoint.upstream))
        .collect();
    if told.is_empty() {
        "none".to_owned()
    } else {
        told.join(", ")
    }
}

/// The limits of spending in a few words.
fn spent(spec: &ResolvedSpec) -> String {
    let spending = &spec.endpoints.spending;
    let tokens = spending.tokens.map(|tokens| format!("{tokens} tokens"));
    let money = spending.money.map(|money| money.to_string());
    let limits: Vec<_> = tokens.into_iter().chain(money).collect();
    if limits.is_empty() {
        return "none".to_owned();
    }
    format!(
        "{} a {}",
        limits.join(", "),
        spending.period.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tenant::{Catalog, Cpus, Period, Size, Source};

    fn resolved(spec: &str) -> ResolvedSpec {
        let source = Source::new("test.toml", spec);
        Catalog::builtin().resolve(&source).unwrap().1
    }

    const SPEC: &str = "id = \"acme\"\nimage = \"localhost/a:1\"\ningress.port = 8080\n\
                        probes.start.path = \"/health\"\nstate.data.path = \"/data\"\n";

    #[test]
    fn another_plan_comes_into_force_under_a_running_agent() {
        let change = live_change(
            &resolved(&format!("plan = \"starter\"\n{SPEC}")),
            &resolved(&format!("plan = \"pro\"\n{SPEC}")),
        );
        assert!(change.is_live());
        let told: Vec<_> = change.live.iter().map(ToString::to_string).collect();
        insta::assert_debug_snapshot!(told, @r#"
        [
            "cpus from 0.5 to 1",
            "memory from 2GiB to 3GiB",
            "swap from 2GiB to 3GiB",
            "storage from 10GiB to 25GiB",
            "pids from 512 to 1024",
            "io-weight from 50 to 100",
            "log-size from 64MiB to 256MiB",
            "log-retention from 7d to 30d",
            "egress from 100GiB to 500GiB",
            "retention from 14d to 30d",
        ]
        "#);
    }

    #[test]
    fn where_an_agent_may_go_changes_while_it_runs() {
        let with = |table: &str| resolved(&format!("{SPEC}egress = {table}\n"));
        let change = live_change(
            &with("{ mode = \"open\", allow = [\"a.example\"] }"),
            &with(
                "{ mode = \"allowlist\", allow = [\"a.example\", \"b.example:22\"], private-networks = [\"10.1.0.0/16\"] }",
            ),
        );
        assert!(change.is_live());
        let told: Vec<_> = change.live.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "egress.mode from open to allowlist",
                "egress.allow from a.example to a.example, b.example:22",
                "egress.private-networks from nothing to 10.1.0.0/16",
            ]
        );
    }

    #[rstest::rstest]
    #[case("image = \"localhost/a:2\"\n", "image")]
    #[case("env.A = \"1\"\n", "env")]
    #[case("container.args = [\"x\"]\n", "container.args")]
    #[case("container.command = [\"x\"]\n", "container.command")]
    #[case("container.init = false\n", "container.init")]
    #[case("container.tmpfs = [\"/x\"]\n", "container.tmpfs")]
    #[case("container.workdir = \"/x\"\n", "container.workdir")]
    #[case("container.shm-size = \"64MiB\"\n", "container.shm-size")]
    #[case("container.user = { uid = 7, gid = 7 }\n", "container.user")]
    #[case("ingress.port = 8081\n", "ingress.port")]
    #[case("probes.start.path = \"/ready\"\n", "probes.start")]
    #[case("egress.mode = \"none\"\n", "egress.mode")]
    #[case("state.more.path = \"/more\"\n", "state")]
    #[case("cache.more.path = \"/more\"\n", "cache")]
    #[case("stop.timeout = \"3s\"\n", "stop")]
    fn everything_else_waits_for_a_start(#[case] line: &str, #[case] named: &'static str) {
        let key = line.split(" = ").next().unwrap();
        let kept = SPEC
            .lines()
            .filter(|old| !old.starts_with(&format!("{key} =")));
        let kept: Vec<_> = kept.collect();
        let new = format!("{}\n{line}", kept.join("\n"));
        let change = live_change(&resolved(SPEC), &resolved(&new));
        assert_eq!(change.restart, [named]);
        assert_eq!(change.live, []);
    }

    const KEY: &str =
        "secrets.KEY = {}\nendpoints.a = { upstream = \"https://a.example\", key = \"KEY\" }\n";

    #[rstest::rstest]
    #[case(
        "endpoints.b = { upstream = \"https://b.example\", auth = \"none\" }",
        "endpoints from a (https://a.example) to a (https://a.example), b (https://b.example)"
    )]
    #[case("spending.tokens = 5", "spending from none to 5 tokens a month")]
    #[case(
        "spending = { money = \"2.5\", period = \"day\" }",
        "spending from none to 2.50 a day"
    )]
    fn endpoints_change_under_a_running_agent(#[case] line: &str, #[case] told: &str) {
        let mut catalog = Catalog::builtin();
        let prices = "name = \"a\"\n[[models]]\nmodel = \"*\"\ninput = \"1\"\noutput = \"1\"\n";
        catalog.add_prices(&Source::new("a.toml", prices)).unwrap();
        let resolve = |spec: &str| catalog.resolve(&Source::new("test.toml", spec)).unwrap().1;
        let change = live_change(
            &resolve(&format!("{SPEC}{KEY}")),
            &resolve(&format!("{SPEC}{KEY}{line}\n")),
        );
        assert!(change.is_live(), "{change:?}");
        let live: Vec<_> = change.live.iter().map(ToString::to_string).collect();
        assert_eq!(live, [told]);
    }

    #[test]
    fn the_first_endpoint_waits_for_a_start() {
        let change = live_change(&resolved(SPEC), &resolved(&format!("{SPEC}{KEY}")));
        assert_eq!(change.restart, ["endpoints"]);
    }

    prop_compose! {
        fn any_limits()(
            millis in 10u32..64_000,
            memory in 16u32..1 << 20,
            swap in proptest::option::of(0u32..1 << 20),
            storage in 1u32..1 << 20,
            pids in 16u32..65_536,
            io_weight in 1u16..10_000,
            log_size in 4u32..1 << 20,
            seconds in 1u32..1 << 20,
        ) -> Limits {
            Limits {
                cpus: Cpus::from_millis(millis),
                memory: Size::from_mib(memory),
                swap: swap.map(Size::from_mib),
                storage: Size::from_mib(storage),
                pids,
                io_weight,
                log_size: Size::from_mib(log_size),
                log_retention: Period::from_seconds(seconds),
                egress: Size::from_mib(storage),
                retention: Period::from_seconds(seconds),
            }
        }
    }

    proptest! {
        #[test]
        fn limits_never_ask_for_a_restart_and_each_difference_is_told(
            from in any_limits(), to in any_limits(),
        ) {
            let old = ResolvedSpec { limits: from, ..resolved(SPEC) };
            let new = ResolvedSpec { limits: to, plan: "other".to_owned(), ..old.clone() };
            let there = live_change(&old, &new);
            let back = live_change(&new, &old);
            prop_assert!(there.is_live() && back.is_live());
            // As many changes on the way back, with their values exchanged.
            let turned: Vec<_> = back.live.into_iter().map(|change| ValueChange {
                from: change.to, to: change.from, ..change
            }).collect();
            prop_assert_eq!(&there.live, &turned);
            prop_assert_eq!(live_change(&old, &old), LiveChange::default());
            // No swap named is as much as memory.
            let named = |limits: &Limits| Limits { swap: Some(limits.swap()), ..limits.clone() };
            prop_assert_eq!(there.live.is_empty(), named(&new.limits) == named(&old.limits));
        }
    }
}

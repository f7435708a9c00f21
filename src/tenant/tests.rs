//! What operators read when a document is wrong, and what a good one becomes.

use rstest::rstest;

use super::{Catalog, Problems, QuiesceCall, QuiesceCalls, ResolvedSpec, Source, Template};

fn resolve(text: &str) -> Result<ResolvedSpec, Problems> {
    let source = Source::new("acme.toml", text);
    Catalog::builtin()
        .resolve(&source)
        .map(|(_, resolved)| resolved)
}

fn refusal(text: &str) -> String {
    resolve(text).expect_err("the spec is wrong").to_string()
}

/// A generic spec that is complete, with `more` added to it.
fn generic(more: &str) -> String {
    format!(
        "id = \"acme\"\nimage = \"localhost/a\"\ningress.port = 8080\nprobes.start.path = \"/\"\n{more}\n"
    )
}

#[test]
fn the_smallest_spec_of_a_known_agent() {
    let resolved = resolve("id = \"acme\"\ntemplate = \"openclaw\"\n").unwrap();
    insta::assert_json_snapshot!(resolved);
    let json = serde_json::to_string(&resolved).unwrap();
    assert_eq!(
        serde_json::from_str::<ResolvedSpec>(&json).unwrap(),
        resolved
    );
}

#[test]
fn a_spec_is_laid_over_its_template_field_by_field() {
    let resolved = resolve(
        r#"
        id = "acme"
        template = "openclaw"
        plan = "pro"
        image = "localhost/mine:1"
        env.TZ = "Europe/Berlin"
        [probes.start]
        timeout = "5min"
        [state.home]
        path = "/home/node/.other"
        [state.extra]
        path = "/extra"
        [container]
        command = ["mine"]
        "#,
    )
    .unwrap();
    assert_eq!(resolved.image.as_str(), "localhost/mine:1");
    assert_eq!(resolved.env["TZ"], "Europe/Berlin");
    assert_eq!(resolved.env["OPENCLAW_NO_RESPAWN"], "1");
    assert_eq!(resolved.start_probe.http.path, "/startupz");
    assert_eq!(resolved.start_probe.timeout.seconds(), 300);
    let state: Vec<_> = resolved.state.iter().map(|m| m.path.as_str()).collect();
    assert_eq!(
        state,
        ["/extra", "/home/node/.other", "/home/node/.config/openclaw"]
    );
    assert_eq!(resolved.limits.cpus.millis(), 1000);
}

#[test]
fn everything_wrong_is_said_at_once_and_in_order() {
    insta::assert_snapshot!(refusal(
        r#"id = "acme"
immage = "localhost/a"
plan = 3
[container]
user = { uid = 70000, gid = 1 }
comand = ["a"]
[ingress]
port = "8080"
[env]
"BAD-NAME" = "x"
NOTIFY_SOCKET = "/run/x"
KEY = "a\nb"
[state.home]
path = "relative"
"#
    ));
}

#[rstest]
#[case::not_toml("not_toml", "id = \"acme\nplan = [")]
#[case::no_id("no_id", "template = \"openclaw\"")]
#[case::slash_in_id("slash_in_id", "id = \"a/b\"")]
#[case::unknown_plan("unknown_plan", "id = \"a\"\ntemplate = \"openclaw\"\nplan = \"gold\"")]
#[case::unknown_both(
    "unknown_both",
    "id = \"a\"\ntemplate = \"openclaws\"\nplan = \"teams\""
)]
#[case::generic_needs("generic_needs", "id = \"a\"")]
#[case::unknown_choice("unknown_choice", "id = \"a\"\nstop.kill-mode = \"process\"")]
#[case::low_port("low_port", &generic("[ingress]\nport = 80").replace("ingress.port = 8080\n", ""))]
#[case::image_without_registry("image_without_registry", "id = \"a\"\nimage = \"alpine\"")]
#[case::size_without_unit("size_without_unit", &generic("container.shm-size = \"2G\""))]
#[case::size_as_number("size_as_number", &generic("container.shm-size = 512"))]
#[case::kernel_path("kernel_path", &generic("state.a.path = \"/proc/x\""))]
#[case::root_path("root_path", &generic("state.a.path = \"/\""))]
#[case::dotted_path("dotted_path", &generic("state.a.path = \"/data/../etc\""))]
#[case::percent_path("percent_path", &generic("state.a.path = \"/data%h\""))]
#[case::hiding_path("hiding_path", &generic("state.a.path = \"/usr\""))]
#[case::no_path("no_path", &generic("[state.a]"))]
#[case::bad_mount_name("bad_mount_name", &generic("state.\"../x\".path = \"/data\""))]
#[case::nested_state("nested_state", &generic("state.a.path = \"/data\"\ncache.b.path = \"/data/cache\""))]
#[case::tmpfs_in_state("tmpfs_in_state", &generic("state.a.path = \"/data\"\ncontainer.tmpfs = [\"/data/tmp\"]"))]
#[case::raised_capability("raised_capability", &generic("container.capabilities = [\"NET_ADMIN\"]"))]
#[case::unknown_capability("unknown_capability", &generic("container.capabilities = [\"NET_ADMN\"]"))]
#[case::writable_root("writable_root", &generic("container.read-only = false"))]
#[case::newline_in_argument("newline_in_argument", &generic("container.args = [\"a\", \"b\\u0000\"]"))]
#[case::lone_semicolon("lone_semicolon", &generic("container.args = [\";\"]"))]
#[case::empty_argument("empty_argument", &generic("container.args = [\"a\", \"\"]"))]
#[case::empty_command("empty_command", &generic("container.command = []"))]
#[case::odd_signal("odd_signal", &generic("stop.signal = \"TERM\""))]
#[case::probe_with_space("probe_with_space", &generic("probes.live.path = \"health check\""))]
#[case::own_variable("own_variable", &generic("env.TENANTD_TOKEN = \"x\""))]
fn a_wrong_spec_is_refused_in_plain_words(#[case] name: &str, #[case] text: &str) {
    insta::assert_snapshot!(name, refusal(text));
}

#[rstest]
#[case("1min", None)]
#[case("61s", Some("must be from 1s to 1min"))]
#[case("0s", Some("must be from 1s to 1d"))]
fn a_live_probe_is_answered_within_a_minute(#[case] timeout: &str, #[case] refused: Option<&str>) {
    let text = generic(&format!("probes.live.timeout = {timeout:?}"));
    match refused {
        None => assert!(resolve(&text).is_ok()),
        Some(why) => assert!(refusal(&text).contains(why)),
    }
}

#[test]
fn a_spec_says_how_its_agent_is_quiesced() {
    let asked = |more: &str| resolve(&generic(more)).unwrap().quiesce;
    assert_eq!(asked(""), None);
    assert_eq!(asked("backup.quiesce.end = \"/resume\"\n"), None);
    let calls = QuiesceCalls {
        begin: QuiesceCall::Request("/quiesce".to_owned()),
        end: Some(QuiesceCall::Request("/resume?now=1".to_owned())),
        timeout_seconds: 10,
        required: false,
    };
    let text = "[backup.quiesce]\nbegin = \"/quiesce\"\nend = \"/resume?now=1\"\n";
    assert_eq!(asked(text), Some(calls.clone()));
    let strict = QuiesceCalls {
        timeout_seconds: 60,
        required: true,
        ..calls.clone()
    };
    let command = QuiesceCalls {
        begin: QuiesceCall::Command(vec!["agent".to_owned(), "flush".to_owned()]),
        end: None,
        ..calls
    };
    let line = "backup.quiesce.begin = [\"agent\", \"flush\"]\n";
    assert_eq!(asked(line), Some(command));
    assert_eq!(
        asked(&format!("{text}timeout = \"1min\"\nrequired = true\n")),
        Some(strict)
    );
}

#[rstest]
#[case("begin = \"quiesce\"", "is not the path of a URL")]
#[case("end = \"/a b\"", "is not the path of a URL")]
#[case("begin = []", "must have a program")]
#[case("begin = [\"\"]", "must have a program")]
#[case("begin = 1", "the path of a URL, or the words of a command")]
#[case("timeout = \"2min\"", "must be from 1s to 1min")]
#[case("timeout = \"0s\"", "must be from 1s to 1min")]
fn what_an_agent_cannot_be_asked_is_refused(#[case] line: &str, #[case] why: &str) {
    let told = refusal(&generic(&format!("[backup.quiesce]\n{line}\n")));
    assert!(told.contains(why), "{told}");
}

#[test]
fn a_document_that_is_too_large_is_not_read() {
    let text = format!("id = \"acme\"\n# {}\n", "x".repeat(10 << 20));
    insta::assert_snapshot!(refusal(&text));
}

#[test]
fn two_specs_of_one_tenant_are_refused_with_every_other_problem() {
    let spec = |name: &str, more: &str| {
        Source::new(
            name,
            format!("template = \"openclaw\"\nid = \"acme\"\n{more}"),
        )
    };
    let sources = [
        spec("a.toml", ""),
        spec("b.toml", ""),
        spec("c.toml", "plan = \"gold\"\n"),
    ];
    let problems = Catalog::builtin().resolve_all(&sources).unwrap_err();
    insta::assert_snapshot!(problems);
    assert_eq!(
        Catalog::builtin().resolve_all(&sources[..1]).unwrap().len(),
        1
    );
}

#[test]
fn a_template_of_the_operator_grants_what_a_spec_cannot() {
    let mut catalog = Catalog::builtin();
    let template = "name = \"wide\"\ndescription = \"x\"\nimage = \"localhost/a\"\ningress.port = 8080\n\
                    probes.start.path = \"/\"\n[container]\ncapabilities = [\"CHOWN\", \"SETUID\"]\nread-only = false\n";
    catalog
        .add_template(&Source::new("wide.toml", template))
        .unwrap();
    let spec = "id = \"a\"\ntemplate = \"wide\"\ncontainer.capabilities = [\"CHOWN\"]\n";
    let (_, resolved) = catalog.resolve(&Source::new("a.toml", spec)).unwrap();
    let names: Vec<_> = resolved.capabilities.iter().map(|c| c.name()).collect();
    assert_eq!(names, ["CHOWN"]);
    assert!(!resolved.read_only);
}

#[test]
fn a_wrong_template_is_refused_with_its_places() {
    let text = "name = \"Bad Name\"\ndescription = \"x\"\n[probes.start]\ntimeout = \"0s\"\n[stop]\nfatal-exit-codes = [0]\n";
    let problems = Template::parse(&Source::new("bad.toml", text)).unwrap_err();
    insta::assert_snapshot!(problems);
}

#[test]
fn what_comes_with_the_program_is_readable() {
    let catalog = Catalog::builtin();
    let templates: Vec<_> = catalog.templates().map(|t| t.name.as_str()).collect();
    assert_eq!(templates, ["generic", "nanobot", "openclaw", "spacebot"]);
    let plans: Vec<_> = catalog.plans().map(|p| p.name.as_str()).collect();
    assert_eq!(plans, ["pro", "starter", "team"]);
    for template in ["nanobot", "openclaw", "spacebot"] {
        resolve(&format!("id = \"a\"\ntemplate = \"{template}\"")).unwrap();
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,80}") {
        let _ = resolve(&text);
    }

    /// Every problem has a place in the text, wherever a key was to blame.
    #[test]
    fn problems_of_keys_have_places(key in "[a-z]{1,8}", value in "[a-z0-9]{0,5}") {
        let text = format!("id = \"acme\"\ntemplate = \"openclaw\"\n[container]\n{key} = \"{value}\"\n");
        if let Err(Problems(problems)) = resolve(&text) {
            for problem in problems {
                proptest::prop_assert!(problem.place.is_some(), "{}", problem);
            }
        }
    }
}

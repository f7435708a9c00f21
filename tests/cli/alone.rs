//! What needs no daemon: wrong usage, an absent daemon, generated files.

use std::io::Read;
use std::process::Stdio;

use rstest::rstest;

use crate::fake::tenantd;

fn ends_with(arguments: &[&str], code: i32) -> String {
    let assert = tenantd(arguments).assert().code(code);
    String::from_utf8_lossy(&assert.get_output().stderr).into_owned()
}

#[rstest]
#[case(&[])]
#[case(&["frobnicate"])]
#[case(&["show"])]
#[case(&["show", "a/b"])]
#[case(&["show", "../etc"])]
#[case(&["exec", "acme"])]
#[case(&["restore"])]
#[case(&["restore", "acme", "--node"])]
#[case(&["restore", "acme", "--from", "another"])]
#[case(&["remove", "acme", "--yes"])]
#[case(&["logs", "acme", "-n", "many"])]
#[case(&["generate", "schema", "nothing"])]
fn wrong_usage_ends_with_2(#[case] arguments: &[&str]) {
    assert!(!ends_with(arguments, 2).is_empty());
}

#[test]
fn a_bad_tenant_id_is_explained() {
    let said = ends_with(&["show", "Acme"], 2);
    assert!(
        said.contains("must start with a lower-case letter"),
        "{said}"
    );
}

#[rstest]
#[case(&["list"])]
#[case(&["start", "acme"])]
#[case(&["status"])]
#[case(&["logs", "acme"])]
#[case(&["exec", "acme", "--", "true"])]
#[case(&["backup"])]
fn an_absent_daemon_ends_with_6(#[case] arguments: &[&str]) {
    insta::allow_duplicates! {
        insta::assert_snapshot!(ends_with(arguments, 6), @r"
        error: tenantd does not answer at /nonexistent/api.sock; start it with `systemctl start tenantd`
          because: No such file or directory (os error 2)
        ");
    }
}

/// The host that this runs on may be anything; only the findings on the daemon are sure.
#[test]
fn the_doctor_examines_the_host_without_the_daemon() {
    let said = ends_with(&["doctor"], 1);
    assert!(said.contains("of the checks failed"), "{said}");
    let assert = tenantd(&["doctor", "--json"]).assert().code(1);
    let checks: serde_json::Value = serde_json::from_slice(&assert.get_output().stdout).unwrap();
    let first = &checks[0];
    assert_eq!(first["check"], "daemon");
    assert_eq!(first["verdict"], "failed");
    let finding = first["finding"].as_str().unwrap();
    assert!(
        finding.starts_with(
            "tenantd is not running: tenantd does not answer at /nonexistent/api.sock"
        ),
        "{finding}"
    );
    assert!(checks.as_array().unwrap().len() > 10, "{checks}");
}

#[test]
fn the_socket_option_wins_over_the_variable() {
    let said = ends_with(&["list", "--socket", "/elsewhere.sock"], 6);
    assert!(said.contains("/elsewhere.sock"), "{said}");
}

#[test]
fn a_missing_spec_ends_with_4_and_names_it() {
    let said = ends_with(&["apply", "/nonexistent/acme.toml"], 4);
    assert!(said.contains("/nonexistent/acme.toml"), "{said}");
}

#[test]
fn a_directory_without_specs_ends_with_3() {
    let dir = tempfile::tempdir().unwrap();
    let said = ends_with(&["apply", dir.path().to_str().unwrap()], 3);
    assert!(said.contains("has no *.toml file in it"), "{said}");
}

#[test]
fn purging_without_a_terminal_wants_yes() {
    insta::assert_snapshot!(
        ends_with(&["remove", "acme", "--purge"], 2),
        @"error: --purge erases acme; without a terminal to ask on, give --yes as well"
    );
}

#[test]
fn a_terminal_is_not_promised_where_there_is_none() {
    insta::assert_snapshot!(
        ends_with(&["exec", "-it", "acme", "--", "sh"], 2),
        @"error: standard input is no terminal; leave out -t, or run this in one"
    );
}

#[test]
fn the_version_needs_no_daemon() {
    let version = concat!("tenantd ", env!("CARGO_PKG_VERSION"), "\n");
    tenantd(&["version"]).assert().success().stdout(version);
    tenantd(&["--version"]).assert().success().stdout(version);
}

#[rstest]
#[case("bash")]
#[case("zsh")]
#[case("fish")]
fn completions_name_the_commands(#[case] shell: &str) {
    let assert = tenantd(&["generate", "completions", shell])
        .assert()
        .success();
    let text = String::from_utf8_lossy(&assert.get_output().stdout);
    assert!(text.contains("snapshots") && text.contains("--dry-run") | text.contains("dry-run"));
}

#[test]
fn man_writes_a_page_per_command() {
    let dir = tempfile::tempdir().unwrap();
    tenantd(&["generate", "man", dir.path().to_str().unwrap()])
        .assert()
        .success();
    let page = std::fs::read_to_string(dir.path().join("tenantd-restore.1")).unwrap();
    assert!(page.contains("EXIT STATUS") && page.contains("FILES"));
    assert!(dir.path().join("tenantd.1").exists());
}

#[test]
fn openapi_and_schemas_are_json() {
    for arguments in [
        &["generate", "openapi"][..],
        &["generate", "schema", "spec"],
        &["generate", "schema", "template"],
        &["generate", "schema", "plan"],
        &["generate", "schema", "node"],
    ] {
        let assert = tenantd(arguments).assert().success();
        let document: serde_json::Value =
            serde_json::from_slice(&assert.get_output().stdout).unwrap();
        assert!(document.is_object());
        if arguments[1] == "openapi" {
            assert!(document["paths"]["/v1/tenants/{tenant}/exec"]["post"].is_object());
            assert!(document["paths"]["/v1/tenants/{tenant}/logs"]["get"].is_object());
        }
    }
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_tenantd"))
        .args(["generate", "openapi"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert!(child.wait().unwrap().success(), "{said}");
    assert_eq!(said, "");
}

//! A stranger with `ssh-keygen`, `age`, `zstd` and `jq` can check and restore, and an operator can certify.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use secrecy::ExposeSecret as _;
use tenantd::backup::{NODE_NAMESPACE, NodeCertificate, NodeStatement, RootKey, Signer, Trust};

use super::round_trip::fill;
use super::world::World;

/// Runs a shell script; a tool that is missing is a failure that says which.
fn sh(world: &World, script: &str) -> String {
    for tool in ["ssh-keygen", "age", "zstd", "jq", "sha256sum"] {
        let found = Command::new("sh")
            .args(["-c", &format!("command -v {tool}")])
            .output()
            .unwrap();
        assert!(
            found.status.success(),
            "{tool} is not installed: apt install age zstd jq openssh-client"
        );
    }
    let mut child = Command::new("bash")
        .args(["-eu", "-s"])
        .current_dir(&world.path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(script.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The commands of the format's page, as they stand there.
fn by_hand() -> String {
    let page = include_str!("../../docs/repository-format.md");
    let section = page.split("## By hand").nth(1).unwrap();
    section
        .split("```sh\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn the_commands_of_the_format_page_verify_and_decrypt() {
    let world = World::new();
    fill(&world);
    world.snapshot().await;
    fs::write(world.state().join("more"), b"second snapshot").unwrap();
    world.snapshot().await;
    let allowed = format!(
        "root namespaces=\"{NODE_NAMESPACE}\" {}\n",
        world.root.public()
    );
    fs::write(world.path.join("allowed"), allowed).unwrap();
    fs::write(
        world.path.join("operator.txt"),
        world.operator.to_text().expose_secret(),
    )
    .unwrap();

    // Every file with content but the sparse ones, byte for byte, by the tools alone.
    let script = format!(
        r#"K=$(dirname store/*/repository.json)
{}
mkdir out
jq -c 'select(.type=="file" and ((.chunks // []) | all(.[0] != "hole")))' tree | while read -r line; do
  path=$(jq -r .path <<< "$line"); path=$(printf '%b.' "${{path//%/\\x}}"); path=${{path%.}}
  mkdir -p "out/$(dirname "$path")"; : > "out/$path"
  jq -r '(.chunks // [])[] | @tsv' <<< "$line" | while read -r pack offset stored length id; do
    test "$(sha256sum < "$K/packs/$pack" | cut -c1-64)" = "$pack"
    test -e "$pack.plain" || age -d -i identity.txt "$K/packs/$pack" > "$pack.plain"
    tail -c +$((offset + 1)) "$pack.plain" | head -c "$stored" | zstd -dc >> "out/$path"
  done
  cmp "out/$path" "state/$path"
  echo "$path"
done
for pack in *.plain; do zstd -dc < "$pack" > /dev/null; done
"#,
        by_hand()
    );
    let output = sh(&world, &script);
    assert!(
        output.contains("Good \"tenantd-node@v1\" signature for root"),
        "{output}"
    );
    assert!(
        output.contains("Good \"tenantd-commit@v1\" signature for node"),
        "{output}"
    );
    assert!(
        output.contains("percent % back\\slash \n newline"),
        "{output}"
    );
    let files = output
        .lines()
        .filter(|line| world.state().join(line).is_file())
        .count();
    assert!(files >= 6, "{output}");
}

#[tokio::test]
async fn keys_and_certificates_made_by_ssh_keygen_are_taken() {
    let mut world = World::new();
    fill(&world);
    sh(
        &world,
        "ssh-keygen -q -t ed25519 -N '' -C 'the operator' -f root",
    );
    let text = fs::read_to_string(world.path.join("root")).unwrap();
    world.root = RootKey::from_openssh(&text.into()).unwrap();
    let public = fs::read_to_string(world.path.join("root.pub")).unwrap();
    assert_eq!(
        public.parse::<tenantd::backup::PublicKey>().unwrap(),
        world.root.public()
    );

    let Signer { key, .. } = world.signer();
    let statement = NodeStatement::new(key.public(), 7).to_line();
    fs::write(world.path.join("node.json"), &statement).unwrap();
    sh(
        &world,
        "ssh-keygen -q -Y sign -f root -n tenantd-node@v1 node.json",
    );
    let signature = fs::read_to_string(world.path.join("node.json.sig")).unwrap();
    let certificate = NodeCertificate::new(&statement, &signature).unwrap();
    let trust = Trust::root(world.root.public());
    assert_eq!(trust.certified(&certificate).unwrap().epoch, 7);

    let mut request = world.request();
    request.signer = Signer { key, certificate };
    world.repository().await.snapshot(request).await.unwrap();
    assert_eq!(world.snapshots().await.newest().unwrap().name.epoch, 7);

    let node = world.signer().key.to_openssh().unwrap();
    fs::write(world.path.join("node"), node.expose_secret()).unwrap();
    let printed = sh(&world, "chmod 600 node; ssh-keygen -y -f node");
    assert!(
        printed.starts_with(&world.signer().key.public().to_string()),
        "{printed}"
    );
}

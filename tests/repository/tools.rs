//! A stranger with `ssh-keygen`, `age`, `zstd` and `jq` can check and restore, and an operator can certify.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use secrecy::ExposeSecret as _;
use tenantd::backup::{NODE_NAMESPACE, NodeCertificate, NodeStatement, RootKey, Signer, Trust};

use super::round_trip::fill;
use super::world::{World, assert_same, nodes};

/// Runs a shell script; a tool that is missing is a failure that says which.
fn sh(world: &World, script: &str) -> String {
    let output = run(world, script);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn run(world: &World, script: &str) -> Output {
    for tool in ["ssh-keygen", "age", "zstd", "jq", "setfattr", "sha256sum"] {
        let found = Command::new("sh")
            .args(["-c", &format!("command -v {tool}")])
            .output()
            .unwrap();
        assert!(
            found.status.success(),
            "{tool} is not installed: apt install age attr zstd jq openssh-client"
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
    child.wait_with_output().unwrap()
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
  jq -r '(.chunks // [])[] | @tsv' <<< "$line" | while read -r pack offset stored length id skip take; do
    test "$(sha256sum < "$K/packs/$pack" | cut -c1-64)" = "$pack"
    test -e "$pack.plain" || age -d -i identity.txt "$K/packs/$pack" > "$pack.plain"
    tail -c +$((offset + 1)) "$pack.plain" | head -c "$stored" | zstd -dc |
      tail -c +$((${{skip:-0}} + 1)) | head -c "${{take:-$length}}" >> "out/$path"
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

/// What is needed besides the repository: its public root key and an identity; and the repository as
/// somebody has it who copied it from a bucket, alone in a directory.
fn carry_away(world: &World) {
    let root = format!("{} the operator\n", world.root.public());
    fs::write(world.path.join("root.pub"), root).unwrap();
    let identity = world.operator.to_text();
    fs::write(world.path.join("identity.txt"), identity.expose_secret()).unwrap();
    sh(
        world,
        "mkdir alone; cp -r store/*/ alone/repository; cp root.pub identity.txt alone",
    );
}

#[tokio::test]
async fn the_script_in_the_repository_restores_every_snapshot_whole_with_nothing_else() {
    let world = World::new();
    fill(&world);
    let first = world.snapshot().await;
    let before = nodes(&world.state());
    fs::create_dir_all(world.state().join("-dash/ two  blanks ")).unwrap();
    fs::write(world.state().join("-dash/ two  blanks /tail\n"), "x").unwrap();
    std::os::unix::fs::symlink("-n", world.state().join("-dash/link")).unwrap();
    fs::write(world.state().join("a/b/text"), "changed").unwrap();
    world.snapshot().await;
    carry_away(&world);

    // Only these programs are to be found.
    let said = sh(
        &world,
        r#"mkdir bin
for tool in age zstd jq ssh-keygen sha256sum bash setfattr sed grep sort cut tac head mktemp realpath rm ls mv mkdir \
    dd ln touch truncate chmod chown; do
  ! path=$(command -v $tool) || ln -s "$path" bin/$tool
done
tools=$PWD/bin
cd alone
restore() { env -i PATH="$tools" bash repository/restore.sh repository root.pub identity.txt "$@"; }
restore newest
restore first "$(ls repository/commits | sed -n 1p)""#,
    );
    assert!(said.contains(r#""tenant":"acme""#), "{said}");
    assert!(said.contains(&first.commit.to_string()), "{said}");
    let restored = |name: &str| nodes(&world.path.join("alone").join(name));
    assert_same(&restored("newest"), &nodes(&world.state()));
    assert_same(&restored("first"), &before);
}

#[tokio::test]
async fn the_script_believes_only_what_is_signed() {
    let world = World::new();
    fill(&world);
    world.snapshot().await;
    carry_away(&world);
    let restore = |what: &str| {
        let script = format!(
            "cd alone; {what}; bash repository/restore.sh repository root.pub identity.txt restored"
        );
        let output = run(&world, &script);
        let is_there = world.path.join("alone/restored/a/small").exists();
        let _ = fs::remove_dir_all(world.path.join("alone/restored"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success() && is_there, said)
    };
    // A newer commit that somebody else made, under the right digest: passed over.
    let (done, said) = restore(
        r#"sed 's/"sequence":1/"sequence":7/' repository/commits/* > forged
        mv forged "repository/commits/0000000001-0000000007-$(sha256sum < forged | cut -c1-64)""#,
    );
    assert!(done && said.contains("passed over"), "{said}");
    // A key object that somebody else made, for the operator's recipient but of another repository.
    let (done, said) =
        restore("cp repository/keys/*.age repository/keys/0.age; echo x >> repository/keys/0.age");
    assert!(done, "{said}");
    let (done, said) = restore(
        "cp root.pub real.pub; sed -i 's/AAAAC3NzaC1lZDI1NTE5AAAAI./AAAAC3NzaC1lZDI1NTE5AAAAIx/' root.pub",
    );
    assert!(!done && said.contains("no commit is signed"), "{said}");
    let (done, said) =
        restore("mv real.pub root.pub; for p in repository/packs/*; do printf x >> $p; done");
    assert!(!done && said.contains("is not what was signed"), "{said}");
}

#[tokio::test]
async fn a_repository_gets_the_texts_of_the_version_that_writes_it() {
    let world = World::new();
    fill(&world);
    world.snapshot().await;
    let script = world.object("restore.sh");
    let ours = fs::read_to_string(&script).unwrap();
    let (_, text) = tenantd::backup::without_us::FILES[1];
    assert_eq!(ours, text);
    assert!(world.object("RESTORE.md").is_file());

    fs::write(&script, "what somebody else made of it").unwrap();
    world.outcome().await;
    assert_ne!(
        fs::read_to_string(&script).unwrap(),
        ours,
        "nothing is read back"
    );
    // As after an upgrade: the version before stored other texts.
    fs::write(world.local().join("without-us"), "other").unwrap();
    world.outcome().await;
    assert_eq!(fs::read_to_string(&script).unwrap(), ours);
}

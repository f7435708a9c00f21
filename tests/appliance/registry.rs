//! Images from a registry: pulled with visible progress, pinned, and pulled again only when asked for.

use anyhow::{Context as _, ensure};

use crate::host::{Host, fake, on_host, refused};

/// Starts a registry and, on another port, a listener that never says a word; makes Podman talk to both
/// without TLS, as an operator would for a test. Prints the two ports.
const START: &str = r#"
cat >/root/registry.yml <<END
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: /srv/registry}}
http: {addr: 127.0.0.1:0}
END
systemd-run --quiet --unit=registry docker-registry serve /root/registry.yml
systemd-run --quiet --unit=silent socat TCP-LISTEN:0,fork,bind=127.0.0.1 EXEC:'sleep infinity'
port() {
    until pid=$(systemctl show --value --property=MainPID "$1.service") &&
        ss -Hltnp | grep "pid=$pid," | sed -n 's/.*127\.0\.0\.1:\([0-9]*\) .*/\1/p' | grep .; do :; done
}
registry=$(port registry) silent=$(port silent)
mkdir -p /etc/containers/registries.conf.d
for port in $registry $silent; do
    printf '[[registry]]\nlocation = "127.0.0.1:%s"\ninsecure = true\n' "$port"
done >/etc/containers/registries.conf.d/50-test.conf
systemctl restart podman.service
echo "$registry $silent"
"#;

/// Gives the registry an image of this tag which differs from others by its label, and forgets it here. Prints its id.
const PUSH: &str = r#"
printf 'FROM localhost/fake-agent:1\nLABEL variant=%s\n' "$2" | podman build --quiet --tag localhost/made - >/dev/null
podman push --quiet localhost/made "docker://$1"
podman image inspect --format '{{.Id}}' localhost/made
podman rmi localhost/made >/dev/null
"#;

#[test]
fn an_image_is_pulled_pinned_and_pulled_again_when_asked_for() {
    on_host("registry", |host| {
        let ports = host.machine.script(START)?;
        let (registry, silent) = ports.trim().split_once(' ').context("two ports")?;
        let image = format!("127.0.0.1:{registry}/fake-agent:1");
        let spec = |id: &str, image: &str| fake(id).replace("localhost/fake-agent:1", image);

        // A registry that says nothing: waited for in the background, while the rest goes on.
        let mute = spec("mute", &format!("127.0.0.1:{silent}/fake-agent:1"));
        host.machine.write("/root/mute.toml", mute)?;
        host.machine.script(
            "systemd-run --quiet --unit=mute --property=RemainAfterExit=yes \
                 --property=StandardError=file:/root/mute.err tenantd apply /root/mute.toml",
        )?;

        let first = push(host, &image, "one")?;
        let applied = host.apply(&spec("acme", &image))?;
        // A quick pull skips steps on its way to whoever watches.
        let steps: Vec<_> = applied
            .stderr
            .lines()
            .filter(|line| line.starts_with(&format!("acme: pull {image}")))
            .collect();
        ensure!(
            steps.last().is_some_and(|last| last.ends_with(" layers")),
            "no progress is visible: {}",
            applied.stderr
        );
        runs(host, &first)?;
        let run = host.run_of("acme")?;

        // What the registry lacks is said, and nothing changes.
        let absent = format!("127.0.0.1:{registry}/fake-agent:absent");
        refused(
            &host.try_apply(&spec("acme", &absent))?,
            3,
            &[
                &format!("tenant acme: image {absent} cannot be used"),
                "its registry has no such image; check name and tag",
                "manifest unknown",
            ],
        )?;
        refused(
            &host.try_apply(&spec("acme", "127.0.0.1:1/fake-agent:1"))?,
            3,
            &["its registry does not answer; check its name and the network"],
        )?;
        ensure!(host.run_of("acme")? == run, "the agent was restarted");
        runs(host, &first)?;

        // The tag moves: whoever does not ask keeps what he has, and is told how to ask.
        let second = push(host, &image, "two")?;
        ensure!(first != second);
        let same = host.apply(&spec("acme", &image))?;
        let told = format!(
            "acme keeps image {}; --pull asks its registry",
            &first[..12]
        );
        ensure!(same.stdout.contains(&told), "{}", same.stdout);
        host.tenantd(["restart", "acme"])?;
        runs(host, &first)?;
        // A host that has lost the name still has the image.
        host.machine.run(["podman", "untag", &first])?;
        let same = host.apply(&spec("acme", &image))?;
        ensure!(same.stdout.contains(&told), "{}", same.stdout);
        host.tenantd(["restart", "acme"])?;
        runs(host, &first)?;

        host.machine
            .write("/root/acme.toml", spec("acme", &image))?;
        host.tenantd(["apply", "--pull", "/root/acme.toml"])?;
        runs(host, &second)?;
        let run = host.run_of("acme")?;
        let again = host.tenantd(["apply", "--pull", "/root/acme.toml"])?;
        ensure!(again.stderr.contains("nothing newer"), "{}", again.stderr);
        ensure!(host.run_of("acme")? == run, "the agent was restarted");

        // The silent one has been given up.
        let limit = std::time::Duration::from_secs(150);
        host.machine
            .wait_until("the silent pull to end", limit, |_| {
                let state = host.property("mute.service", "SubState")?;
                Ok(if state == "running" {
                    Err(state)
                } else {
                    Ok(())
                })
            })?;
        let said = host.machine.read("/root/mute.err")?;
        ensure!(
            said.contains("its registry does not answer; try again when it does")
                && said.contains("nothing came from the registry of 127.0.0.1:"),
            "{said}"
        );
        let list = host.json(["list"])?;
        ensure!(
            !list.to_string().contains("mute"),
            "a refused apply is listed: {list}"
        );
        Ok(())
    });
}

#[test]
fn a_tenant_that_a_file_rules_is_pulled_again_on_reload() {
    on_host("registry-files", |host| {
        let ports = host.machine.script(START)?;
        let (registry, _) = ports.trim().split_once(' ').context("two ports")?;
        let image = format!("127.0.0.1:{registry}/fake-agent:1");
        let first = push(host, &image, "one")?;
        let spec = fake("acme").replace("localhost/fake-agent:1", &image);
        host.machine
            .write("/etc/tenantd/tenants.d/acme.toml", spec)?;
        host.tenantd(["reload"])?;
        runs(host, &first)?;
        let second = push(host, &image, "two")?;
        host.tenantd(["reload"])?;
        runs(host, &first)?;
        host.tenantd(["reload", "--pull"])?;
        runs(host, &second)
    });
}

fn push(host: &Host<'_>, image: &str, variant: &str) -> anyhow::Result<String> {
    let argv = [
        "bash", "-euo", "pipefail", "-c", PUSH, "push", image, variant,
    ];
    Ok(host.machine.run(argv)?.trim().to_owned())
}

/// The tenant is pinned to the image, its units name it, and it runs from it.
fn runs(host: &Host<'_>, id: &str) -> anyhow::Result<()> {
    let shown = host.json(["show", "acme"])?;
    let expected = format!("sha256:{id}");
    ensure!(
        shown["image-id"] == expected.as_str(),
        "{}",
        shown["image-id"]
    );
    let units = host.tenantd(["units", "acme"])?;
    ensure!(
        units.stdout.contains(&format!("Image={id}")),
        "{}",
        units.stdout
    );
    let container =
        host.machine
            .run(["podman", "inspect", "--format", "{{.Image}}", "tenant-acme"])?;
    ensure!(container.trim() == id, "{}", container.stdout);
    host.get("acme", "/healthz")?;
    Ok(())
}

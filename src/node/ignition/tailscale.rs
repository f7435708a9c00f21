//! Joining a tailnet at the first boot, with an auth key that is used once: by uCore's own Tailscale, or where the image
//! has none, by Tailscale's container.

use secrecy::SecretString;

use super::config::{Config, Contents, Directory, File, Unit};

/// Where the key lies until it has been used.
const DIRECTORY: &str = "/etc/tailscale-login";

/// Puts the key there.
fn add_key(config: &mut Config, key: &SecretString) {
    config.directories.push(Directory {
        path: DIRECTORY.to_owned(),
        mode: 0o700,
    });
    config.files.push(File {
        why: "The tailnet's auth key: give one that can be used once. It is removed after that."
            .to_owned(),
        path: format!("{DIRECTORY}/key"),
        mode: 0o600,
        contents: Contents::Secret(key.clone()),
        append: false,
    });
}

/// By the Tailscale that the image has.
pub(super) fn add_service(config: &mut Config, key: &SecretString) {
    add_key(config, key);
    config.units.push(Unit {
        why: String::new(),
        name: "tailscaled.service".to_owned(),
        enabled: Some(true),
        contents: None,
        drop_ins: vec![super::ucore::when_final()],
    });
    config.units.push(Unit {
        why: String::new(),
        name: "tailscale-login.service".to_owned(),
        enabled: Some(true),
        contents: Some(format!(
            "[Unit]\n\
             Description=Join the tailnet\n\
             ConditionPathExists={DIRECTORY}/key\n\
             Requires=tailscaled.service\n\
             After=tailscaled.service network-online.target\n\
             Wants=network-online.target\n\
             StartLimitIntervalSec=0\n\
             \n\
             [Service]\n\
             Type=oneshot\n\
             ExecStart=/usr/bin/tailscale up --auth-key=file:{DIRECTORY}/key --ssh\n\
             ExecStart=/usr/bin/rm {DIRECTORY}/key\n\
             Restart=on-failure\n\
             RestartSec=30s\n\
             \n\
             [Install]\n\
             WantedBy=multi-user.target\n"
        )),
        drop_ins: vec![super::ucore::when_final()],
    });
}

/// By Tailscale's container, as a Quadlet.
pub(super) fn add_container(config: &mut Config, key: &SecretString) {
    add_key(config, key);
    config.files.push(File {
        why: "Tailscale, which Fedora CoreOS does not bring.".to_owned(),
        path: "/etc/containers/systemd/tailscale.container".to_owned(),
        mode: 0o644,
        contents: Contents::Text(format!(
            "[Unit]\n\
             Description=Tailscale\n\
             After=network-online.target\n\
             Wants=network-online.target\n\
             \n\
             [Container]\n\
             Image=docker.io/tailscale/tailscale:stable\n\
             ContainerName=tailscale\n\
             Network=host\n\
             AddCapability=NET_ADMIN NET_RAW\n\
             AddDevice=/dev/net/tun\n\
             Volume=tailscale.volume:/var/lib/tailscale\n\
             Volume={DIRECTORY}:/login:ro,z\n\
             Environment=TS_STATE_DIR=/var/lib/tailscale TS_USERSPACE=false TS_AUTH_ONCE=true\n\
             Environment=TS_AUTHKEY=file:/login/key TS_HOSTNAME=%H\n\
             \n\
             [Service]\n\
             Restart=always\n\
             RestartSec=10s\n\
             TimeoutStartSec=15min\n\
             # The key is of no use any more once this host has an address in the tailnet.\n\
             ExecStartPost=/usr/bin/sh -c 'until podman exec tailscale tailscale ip; do sleep 2; done; rm -f {DIRECTORY}/key'\n\
             \n\
             [Install]\n\
             WantedBy=multi-user.target\n"
        )),
        append: false,
    });
    config.files.push(File {
        why: String::new(),
        path: "/etc/containers/systemd/tailscale.volume".to_owned(),
        mode: 0o644,
        contents: Contents::Text("[Volume]\n".to_owned()),
        append: false,
    });
}

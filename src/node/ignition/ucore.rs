//! Fedora CoreOS that becomes uCore: it rebases to uCore's image unsigned, because only that image brings the keys to
//! check signatures with, reboots, rebases to the signed one, and reboots again. Only then is it a node.

use super::config::{Config, Directory, DropIn, Unit};

/// uCore's image (its README, "Images and tag variants").
const IMAGE: &str = "ghcr.io/ublue-os/ucore:stable";

/// Where it is written down how far it is.
const STAMPS: &str = "/etc/ucore-autorebase";

/// Has the machine become uCore, and the node wait for it.
pub(super) fn add(config: &mut Config) {
    config.directories.push(Directory {
        path: STAMPS.to_owned(),
        mode: 0o755,
    });
    let unsigned = format!("ostree-unverified-registry:{IMAGE}");
    let signed = format!("ostree-image-signed:docker://{IMAGE}");
    for (stage, why, conditions, image) in [
        (
            "unsigned",
            "The first of two reboots into uCore: its image brings the keys that its signature is checked with.",
            format!(
                "ConditionPathExists=!{STAMPS}/unsigned\nConditionPathExists=!{STAMPS}/signed\n"
            ),
            unsigned,
        ),
        (
            "signed",
            "The second: from now on only signed images are taken.",
            format!(
                "ConditionPathExists={STAMPS}/unsigned\nConditionPathExists=!{STAMPS}/signed\n"
            ),
            signed,
        ),
    ] {
        config.units.push(Unit {
            why: why.to_owned(),
            name: format!("ucore-{stage}-autorebase.service"),
            enabled: Some(true),
            contents: Some(format!(
                "[Unit]\n\
                 Description=Rebase to uCore ({stage}) and reboot\n\
                 {conditions}\
                 After=network-online.target\n\
                 Wants=network-online.target\n\
                 StartLimitIntervalSec=0\n\
                 \n\
                 [Service]\n\
                 Type=oneshot\n\
                 StandardOutput=journal+console\n\
                 ExecStart=/usr/bin/rpm-ostree rebase --bypass-driver {image}\n\
                 ExecStart=/usr/bin/touch {STAMPS}/{stage}\n\
                 ExecStart=/usr/bin/systemctl reboot\n\
                 Restart=on-failure\n\
                 RestartSec=30s\n\
                 \n\
                 [Install]\n\
                 WantedBy=multi-user.target\n"
            )),
            drop_ins: Vec::new(),
        });
    }
}

/// What keeps a unit from running before the machine is what it is to be. The last stamp is made just before the last
/// reboot, long after the conditions of that boot were looked at.
pub(super) fn when_final() -> DropIn {
    DropIn {
        name: "10-ucore.conf".to_owned(),
        contents: format!(
            "[Unit]\n\
             ConditionPathExists={STAMPS}/signed\n"
        ),
    }
}

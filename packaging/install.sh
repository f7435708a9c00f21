#!/bin/sh
# Installs tenantd on a host, or takes it off again. Can be run again at any time.
set -eu

usage() {
    cat <<'USAGE'
usage: install.sh [--binary FILE]          install, or update what is installed
       install.sh --uninstall [--purge]    take tenantd off; --purge takes tenants' data too

  --binary FILE   the tenantd binary; the default is the one beside this script,
                  else the release build of this source tree
  --no-start      install only: enable and start nothing
USAGE
}

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
units=$here/../systemd
binary=
action=install
purge=no
start=yes

while [ $# -gt 0 ]; do
    case $1 in
    --binary) binary=${2:?--binary wants a file}; shift ;;
    --uninstall) action=uninstall ;;
    --purge) purge=yes ;;
    --no-start) start=no ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
    esac
    shift
done

fail() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }
say() { printf '%s\n' "$*"; }

# Is version $1 at least $2? Only major.minor are compared.
at_least() {
    [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

check_host() {
    [ "$(id -u)" = 0 ] || fail "run this as root"
    command -v systemctl >/dev/null || fail "this host has no systemd; tenantd needs version 255 or later"
    version=$(systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
    at_least "$version" 255 || fail "systemd is $version; tenantd needs 255 or later"
    command -v podman >/dev/null || fail "this host has no Podman; tenantd needs 5.4 or later (on Debian 13: apt install podman)"
    version=$(podman --version | sed 's/.* //')
    at_least "$version" 5.4 || fail "Podman is $version; tenantd needs 5.4 or later"
    command -v catatonit >/dev/null || [ -x /usr/libexec/podman/catatonit ] || [ -x /usr/libexec/catatonit/catatonit ] ||
        fail "catatonit is missing, the init process of containers (on Debian: apt install catatonit)"
    [ -e /sys/fs/cgroup/cgroup.controllers ] || fail "this host runs cgroup v1; boot with systemd.unified_cgroup_hierarchy=1"
}

find_binary() {
    [ -n "$binary" ] || for candidate in "$here/tenantd" "$here/../target/release/tenantd"; do
        [ -x "$candidate" ] && { binary=$candidate; break; }
    done
    [ -n "$binary" ] || fail "no tenantd binary found; name one with --binary, or run cargo build --release"
    "$binary" version >/dev/null || fail "$binary does not run on this host"
}

own_units() {
    for unit in "$units"/*.service "$units"/*.socket "$units"/*.timer "$units"/*.slice "$units"/*.target; do
        [ -e "$unit" ] && basename "$unit"
    done
    return 0
}

journald_sync=/etc/systemd/system/systemd-journald-sync@.service.d/50-tenantd.conf

# Of the units that are switched on, those that are tenantd's; the templates are pulled in by their tenants.
enabled=$(sed -n 's/^enable \(tenantd.*\)/\1/p' "$units/tenantd.preset")

install_all() {
    check_host
    find_binary
    # Through a temporary name, so that a running tenantd keeps its old file to the end.
    install -D -m 0755 "$binary" /usr/local/bin/tenantd.new
    mv -f /usr/local/bin/tenantd.new /usr/local/bin/tenantd
    if command -v restorecon >/dev/null; then
        restorecon -F /usr/local/bin/tenantd
    fi
    # The binary has its units, completions and manual pages with it.
    if [ "$start" = yes ]; then
        /usr/local/bin/tenantd node install
    else
        /usr/local/bin/tenantd node install --no-start
    fi
}

uninstall_all() {
    [ "$(id -u)" = 0 ] || fail "run this as root"
    if [ -x /usr/local/bin/tenantd ] && [ -e /etc/tenantd/node.toml ]; then
        for tenant in $(ls /etc/containers/systemd/tenantd 2>/dev/null); do
            instance=$(systemd-escape "$tenant")
            systemctl stop "tenantd-wake@$instance.timer" 2>/dev/null || true
            systemctl stop "tenantd-loopback@$instance.socket" "tenantd-loopback@$instance.service" \
                "tenantd-ingress@$instance.socket" "tenantd-ingress@$instance.service" \
                "tenantd-endpoints@$instance.socket" "tenantd-endpoints@$instance.service" \
                "tenant-$tenant.service" "tenantd-awake@$instance.service" \
                "tenantd-restore@$instance.service" "tenantd-secrets@$instance.service" \
                "tenantd-egress@$instance.socket" "tenantd-egress@$instance.service" \
                "tenantd-net@$instance.service" || true
            # Afterwards: an agent that loses its log while it stops does not stop well.
            systemctl stop "tenant-$instance.slice" "systemd-journald@tenant-$tenant.socket" \
                "systemd-journald-varlink@tenant-$tenant.socket" \
                "systemd-journald@tenant-$tenant.service" || true
            rm -f "/etc/systemd/system/tenant-$instance.slice" "/etc/systemd/journald@tenant-$tenant.conf"
            rm -f /etc/systemd/system/*.wants/tenantd-*@"$instance".*
            rm -rf "/etc/systemd/system/tenantd-"*"@$instance."*.d
        done
    fi
    # shellcheck disable=SC2086
    systemctl disable --quiet --now $enabled tenantd-bootstrap.service 2>/dev/null || true
    # Its ExecStopPost= removes the scratch tenant.
    systemctl stop tenantd-drill.service 2>/dev/null || true
    systemctl stop tenantd-sleep.socket tenantd-sleep.service 2>/dev/null || true
    rm -rf /etc/containers/systemd/tenantd /etc/systemd/system/tenantd-backup.timer.d /etc/tenantd/egress
    for unit in $(own_units); do
        rm -f "/etc/systemd/system/$unit"
    done
    rm -f "$journald_sync"
    rmdir --ignore-fail-on-non-empty "${journald_sync%/*}" 2>/dev/null || true
    rm -f /etc/sysusers.d/tenantd.conf /etc/tmpfiles.d/tenantd.conf /etc/systemd/system-preset/50-tenantd.preset \
        /etc/containers/containers.conf.d/50-tenantd.conf \
        /usr/local/bin/tenantd \
        /usr/local/share/bash-completion/completions/tenantd \
        /usr/local/share/zsh/site-functions/_tenantd \
        /usr/local/share/fish/vendor_completions.d/tenantd.fish \
        /usr/local/share/tenantd/RESTORE.md /usr/local/share/tenantd/restore.sh \
        /usr/local/share/man/man1/tenantd.1 /usr/local/share/man/man1/tenantd-*.1
    systemctl daemon-reload
    if [ "$purge" = yes ]; then
        rm -rf /var/lib/tenantd /var/lib/tenantd-front /var/log/tenantd-front /var/lib/tenantd-egress \
            /var/lib/private/tenantd-egress /var/lib/tenantd-endpoints /var/lib/private/tenantd-endpoints /etc/tenantd /run/tenantd
        say "tenantd and all tenants' data are gone"
    else
        say "tenantd is gone; data is kept in /var/lib/tenantd, settings in /etc/tenantd"
    fi
}

case $action in
install) install_all ;;
uninstall) uninstall_all ;;
esac

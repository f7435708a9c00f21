# Runs one test machine until it is off. In a mount namespace of its own, so that nothing stays mounted and no loop
# device stays bound, however it ends.
#
# usage: bash -c launch.sh launch DIRECTORY ROOT NAME CGROUP [NSPAWN-OPTION…]
set -euo pipefail
directory=$1 lower=$2 name=$3 cgroup=$4
shift 4

# Held as long as the machine is up: the only fact that says so. Whoever looks whether it is up holds it for a moment,
# and must not end a machine that is about to boot.
exec 9>"$directory/lock"
flock --timeout 5 9
rm -f "$directory/nspawn.pid"
echo $$ >"$directory/launcher.pid"

# Beside the machine's own cgroups, not above them: a cgroup that has processes cannot give controllers to its children.
mkdir -p "$cgroup/launcher"
echo $$ >"$cgroup/launcher/cgroup.procs"

cd "$directory"
mkdir -p disk root
if [ ! -e disk.xfs ]; then
	truncate --size=20G disk.xfs.new
	mkfs.xfs -q -m reflink=1 disk.xfs.new
	mv disk.xfs.new disk.xfs
fi
mount -o loop disk.xfs disk
mkdir -p disk/upper disk/work
if [ ! -e disk/var ]; then
	rm -rf disk/var.new
	cp -a "$lower/var" disk/var.new
	mv disk/var.new disk/var
fi
mount -t overlay overlay -o "lowerdir=$lower,upperdir=disk/upper,workdir=disk/work" root
mount --bind disk/var root/var
[ -s root/etc/machine-id ] || tr -d - </proc/sys/kernel/random/uuid >root/etc/machine-id

export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 SYSTEMD_SECCOMP=0
while true; do
	echo "launch: booting $name at $(date --iso-8601=ns)"
	(
		exec 9>&-
		echo $BASHPID >"$cgroup/cgroup.procs"
		exec systemd-nspawn --directory=root --machine="$name" --register=no --keep-unit --console=read-only \
			--private-network --resolv-conf=off --link-journal=no --kill-signal=SIGRTMIN+3 --capability=all \
			--system-call-filter='add_key keyctl bpf mount @module' --bind=/dev/fuse --setenv=TERM=dumb \
			"$@" /usr/local/sbin/machine-init </dev/null
	) &
	nspawn=$!
	echo $nspawn >nspawn.pid.new
	mv nspawn.pid.new nspawn.pid
	status=0
	wait $nspawn || status=$?
	rm -f nspawn.pid
	# What nspawn says when the machine asked for a reboot.
	[ $status = 133 ] || break
done
rmdir "/run/systemd/nspawn/propagate/$name" 2>/dev/null || true
echo "launch: $name is off (status $status)"

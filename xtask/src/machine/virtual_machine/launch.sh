# Runs one virtual machine until it is off: a kernel that is a process. In mount, network and process namespaces of its
# own, so that nothing stays mounted and nobody stays running, however it ends.
#
# usage: bash -c launch.sh launch DIRECTORY ROOT KERNEL REPOSITORY NAME MEMORY [--bind-ro=STORE:TARGET…]
set -euo pipefail
directory=$1 root=$2 kernel=$3 repository=$4 name=$5 memory=$6
shift 6

# Held as long as the machine is up: the only fact that says so. Whoever looks whether it is up holds it for a moment,
# and must not end a machine that is about to boot.
exec 9>"$directory/lock"
flock --timeout 5 9
# The host's /proc is still there, and says what this shell is called on the host.
read -r pid _ </proc/self/stat
cd "$directory"
# A kernel that was killed leaves its monitor's socket, and the next one would take it for in use.
rm -rf launcher.pid monitor

mkdir -p disk cage inbox
if [ ! -e disk.xfs ]; then
	truncate --size=20G disk.xfs.new
	mkfs.xfs -q -m reflink=1 disk.xfs.new
	mount -o loop disk.xfs.new disk
	mkdir disk/upper disk/work disk/images
	cp -a "$root/var" disk/var
	for store in "$@"; do
		store=${store#--bind-ro=}
		cp -a --no-target-directory "${store%%:*}" "disk/images/${store##*/}"
	done
	umount disk
	truncate --size=512M swap.img
	chmod 600 swap.img
	mkswap --quiet swap.img
	mv disk.xfs.new disk.xfs
fi

# What the kernel, and by way of it the machine, sees of the host. To the machine it is read-only.
mount -t tmpfs -o mode=0755 tmpfs cage
mkdir cage/{root,kernel,machine,repository,proc,dev,sys,run,tmp}
mount --bind "$root" cage/root
mount --bind "$kernel" cage/kernel
mount --bind "$directory" cage/machine
mount --bind "$repository" cage/repository
mount --rbind /dev cage/dev
mount -t proc proc cage/proc
# The machine's memory is a file in here.
mount -t tmpfs -o "mode=1777,size=$memory" tmpfs cage/tmp
for link in lib lib64; do ln -s kernel/usr/$link cage/$link; done

# The cable that the harness comes in by. It ends in this namespace: nothing else is to be reached by it.
ip tuntap add dev tap0 mode tap
ip address add 192.0.2.1/30 dev tap0
ip link set tap0 up

# Each file of the host that the machine has open is one.
ulimit -n "$(ulimit -H -n)"
echo "$pid" >launcher.pid.new
mv launcher.pid.new launcher.pid
# To reboot, the kernel executes its own name, and would find the cable taken by what it was: it is told another name.
printf '#!/root/usr/bin/busybox sh\nexit 133\n' >cage/reboot
chmod 755 cage/reboot
while true; do
	echo "launch: booting $name at $(date --iso-8601=ns)"
	status=0
	TMPDIR=/tmp setarch --addr-no-randomize chroot cage \
		/root/usr/bin/busybox sh -c 'exec -a /reboot /kernel/usr/bin/linux.uml "$@"' linux \
		umid=monitor uml_dir=/machine/ mem="$memory" ubd0=/machine/disk.xfs ubd1=/machine/swap.img \
		vec0:transport=tap,ifname=tap0,depth=128,gro=1 con=null con0=null,fd:1 ssl=null \
		root=/dev/root rootfstype=hostfs rootflags=/ ro init=/machine/init lsm=yama \
		systemd.hostname="$name" </dev/null || status=$?
	[ $status = 133 ] || break
done
echo "launch: $name is off (status $status)"

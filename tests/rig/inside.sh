#!/bin/sh
# Run a program in a copy of this machine: inside.sh PROGRAM ARGUMENT...
#
# To be started in new mount, network, pid, ipc, uts and cgroup namespaces. The machine's own root file system lies
# below, read-only: what is written goes to memory, and ends with the namespaces. So does every process.
set -eu
mount --make-rprivate /
old="$(mktemp -d)"
mount -t tmpfs -o size=75% world "$old"
mkdir "$old/upper" "$old/work" "$old/root"
mount -t overlay -o "lowerdir=/,upperdir=$old/upper,workdir=$old/work" world "$old/root"
cd "$old/root"
mount --rbind -o ro /dev dev
mount -t proc proc proc
mount -t sysfs sysfs sys
# Each hierarchy as it is mounted outside, but no higher than the world's own group.
groups="$(grep ' cgroup' /proc/self/mounts)"
[ "${groups#cgroup2 /sys/fs/cgroup }" != "$groups" ] || mount -t tmpfs -o mode=755 groups sys/fs/cgroup
echo "$groups" | while read -r _ place kind _; do
    case "$kind $place" in
        "cgroup2 /sys/fs/cgroup") mount -t cgroup2 cgroup2 ".$place" ;;
        cgroup2*) mkdir ".$place"; mount -t cgroup2 cgroup2 ".$place" ;;
        */systemd) mkdir ".$place"; mount -t cgroup -o none,name=systemd cgroup ".$place" ;;
        cgroup*) mkdir ".$place"; mount -t cgroup -o "${place##*/}" cgroup ".$place" ;;
    esac
done
mount -t tmpfs -o mode=1777 shm dev/shm
mkdir .project
mount --bind ".$WORLD_FOLDER" .project
for place in tmp run; do mount -t tmpfs -o mode=1777 "$place" "$place"; done
chmod 755 run
# A project that lies in one of them stays to be seen.
[ -d ".$WORLD_FOLDER" ] || { mkdir -p ".$WORLD_FOLDER"; mount --bind .project ".$WORLD_FOLDER"; }
umount .project
rmdir .project
mkdir .below
pivot_root . .below
umount -l /.below
rmdir /.below
ip link set lo up
cd "$WORLD_FOLDER"
exec "$WORLD_PYTHON" -I -S "$WORLD_FOLDER/tests/rig/init.py" "$@"

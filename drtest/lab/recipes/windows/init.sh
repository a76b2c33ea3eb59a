#!/bin/sh
# The first process of the stand-in: mounts, modules, network, who it is; then Python takes its place. All of it is in
# RAM, and nothing here touches a disk. Under TCG each process costs some 10 ms, hence the shell's own words.
export PATH=/bin:/sbin:/usr/bin PYTHONPATH=/usr/lib/drtest:/usr/lib/python3/dist-packages PYTHONDONTWRITEBYTECODE=1
echo "The lab's stand-in for Windows starts."
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs -o mode=0755 tmpfs /run
modprobe -a virtio_pci virtio_net fuse button evdev

# What the machine says in its SMBIOS tables: the board's asset tag is the instance id (as on Nitro), and the OEM
# strings (type 11) are "drtest.<name>=<value>". A string's end is a NUL, so the raw table can be read as lines.
told=/run/drtest
mkdir -m 0700 "$told"
hostname=localhost address=10.0.2.15/24
tr '\000' '\n' </sys/firmware/dmi/tables/DMI >"$told/.smbios"
while IFS= read -r line; do
    case $line in *drtest.*=*) ;; *) continue ;; esac
    line=${line#*drtest.}
    name=${line%%=*}
    case $name in '' | *[!a-z]*) continue ;; esac
    printf '%s' "${line#*=}" >"$told/$name"
    case $name in
    hostname) hostname=${line#*=} ;;
    address) address=${line#*=} ;;
    esac
done <"$told/.smbios"
read -r instance </sys/class/dmi/id/board_asset_tag
printf '%s' "$instance" >"$told/instance"
echo "$hostname" >/proc/sys/kernel/hostname

ip link set lo up
if [ -e /sys/class/net/eth0 ]; then
    ip address add "$address" dev eth0
    ip link set eth0 up
    ip route add 169.254.169.254 dev eth0
fi

exec python3 -m drtest.lab.standin

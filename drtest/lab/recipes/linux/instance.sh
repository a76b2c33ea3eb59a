#!/bin/sh
# What cloud-init does on AWS, from the same kind of source: who am I, what is my address, who may log in.
# The machine says it in its SMBIOS tables: the board's asset tag is the instance id (as on Nitro), and the OEM
# strings (type 11) are "drtest.<name>=<value>". A string's end is a NUL, so the raw table can be read as lines.
# Under TCG each process costs 30 ms or more, hence sh, and its own words wherever they do.
export PATH=/usr/sbin:/usr/bin
state=/var/lib/drtest-instance

id='' known='' hostname='' address=10.0.2.15/24 key='' userdata=''
while IFS= read -r line; do
    case $line in
    *drtest.hostname=*) hostname=${line#*drtest.hostname=} ;;
    *drtest.address=*) address=${line#*drtest.address=} ;;
    *drtest.key=*) key=${line#*drtest.key=} ;;
    *drtest.userdata=*) userdata=${line#*drtest.userdata=} ;;
    esac
done <<END
$(tr '\000' '\n' </sys/firmware/dmi/tables/DMI)
END
read -r id </sys/class/dmi/id/board_asset_tag
[ -e "$state/id" ] && read -r known <"$state/id"

identify() {
    # A new instance, or an old root on a new one. The id is remembered last: what was cut off in here is done again.
    rm -f /etc/ssh/ssh_host_*
    ssh-keygen -q -t ed25519 -N '' -C "root@${hostname:-localhost}" -f /etc/ssh/ssh_host_ed25519_key
    if [ -n "$hostname" ]; then
        echo "$hostname" >/etc/hostname
        printf '127.0.0.1 localhost\n127.0.1.1 %s\n::1 localhost\n' "$hostname" >/etc/hosts
    fi
    # Into the file as it is: its owner and mode are right.
    [ -n "$key" ] && echo "$key" >/home/admin/.ssh/authorized_keys
    if [ -n "$userdata" ]; then
        echo "$userdata" | base64 -d >"$state/user-data"
    else
        : >"$state/user-data"
    fi
    : >/run/drtest-new-instance
    # The kernel holds its tongue meanwhile: one of its messages in the middle of the key would make it useless.
    read -r public </etc/ssh/ssh_host_ed25519_key.pub
    read -r loglevel _ </proc/sys/kernel/printk
    echo 1 >/proc/sys/kernel/printk
    printf '\n%s\n%s\n%s\n' '-----BEGIN SSH HOST KEY KEYS-----' "$public" '-----END SSH HOST KEY KEYS-----' >/dev/console
    sleep 0.05
    echo "$loglevel" >/proc/sys/kernel/printk
    sync -f "$state"
    echo "$id" >"$state/id"
}

# The keys while the network card comes up.
[ -n "$id" ] && [ "$id" != "$known" ] && identify &

tries=0
until [ -e /sys/class/net/eth0 ] || [ "$tries" -ge 600 ]; do
    tries=$((tries + 1))
    sleep 0.05
done
ip -batch - <<END
link set lo up
address replace $address dev eth0
link set eth0 up
route replace 169.254.169.254 dev eth0
END
network=$?
wait
[ -s /etc/hostname ] && read -r hostname </etc/hostname && echo "$hostname" >/proc/sys/kernel/hostname
[ "$network" -eq 0 ] || echo 'there is no network card' >&2
exit "$network"

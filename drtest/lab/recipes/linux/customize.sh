#!/bin/sh
# Turns a fresh Debian tree into the lab's guest: customize.sh TREE RECIPE PARTUUID. Runs as root, or as what
# mmdebstrap makes look like it.
set -eu
tree=$1 recipe=$2 partuuid=$3

fill() { sed "s/@PARTUUID@/$partuuid/" "$recipe/$1"; }

# The login: as on Debian's AMIs, by key, root by sudo.
chroot "$tree" useradd --create-home --shell /bin/bash admin
chroot "$tree" install -d -m 0700 -o admin -g admin /home/admin/.ssh
chroot "$tree" install -m 0600 -o admin -g admin /dev/null /home/admin/.ssh/authorized_keys
echo 'admin ALL=(ALL) NOPASSWD: ALL' >"$tree/etc/sudoers.d/90-admin"
chmod 0440 "$tree/etc/sudoers.d/90-admin"
install -m 0644 "$recipe/sshd.conf" "$tree/etc/ssh/sshd_config.d/drtest.conf"
install -d "$tree/run/sshd"
chroot "$tree" sshd -t
rmdir "$tree/run/sshd"
rm -f "$tree"/etc/ssh/ssh_host_*

# Who it is: nothing until its first boot. An empty machine-id is made then; a missing one would count as systemd's
# "first boot" and run all presets.
: >"$tree/etc/machine-id"
rm -f "$tree/var/lib/dbus/machine-id" "$tree/etc/resolv.conf"
echo localhost >"$tree/etc/hostname"
printf '127.0.0.1 localhost\n::1 localhost\n' >"$tree/etc/hosts"
fill fstab.conf >"$tree/etc/fstab"

# Who it is, what it is told to do, and how it is switched off.
install -d "$tree/usr/lib/drtest" "$tree/var/lib/drtest-instance"
install -m 0755 "$recipe/instance.sh" "$tree/usr/lib/drtest/"
install -m 0644 "$recipe/instance.service" "$recipe/user-data.service" "$recipe/power-button@.service" \
    "$tree/etc/systemd/system/"
install -m 0644 "$recipe/udev.conf" "$tree/etc/udev/rules.d/90-drtest.rules"
install -m 0644 "$recipe/loaded.conf" "$tree/etc/modules-load.d/drtest.conf"
install -D -m 0644 "$recipe/coldplug.conf" "$tree/etc/systemd/system/systemd-udev-trigger.service.d/drtest.conf"
install -D -m 0644 "$recipe/ssh.conf" "$tree/etc/systemd/system/ssh.service.d/drtest.conf"
chroot "$tree" systemctl --quiet enable instance.service user-data.service serial-getty@ttyS0.service
chroot "$tree" systemctl --quiet set-default multi-user.target

# A helper must not assemble what is attached to it; a file system that spans devices is none of this image's.
ln -s /dev/null "$tree/etc/udev/rules.d/64-btrfs.rules"

# What this guest has no use for, and what would cost time at each boot.
install -d "$tree/etc/systemd/system-generators"
sed -e 's/#.*//' -e '/^$/d' "$recipe/masked.conf" | while read -r masked; do
    ln -sf /dev/null "$tree/etc/systemd/$masked"
done

# Kernel: out of the tree (the FAT partition has it), and only the modules that are used.
version=$(ls "$tree/lib/modules")
install -d "$tree/tmp/taken"
mv "$tree/boot/vmlinuz-$version" "$tree/tmp/taken/vmlinuz"
rm -rf "$tree"/boot/* "$tree"/vmlinuz "$tree"/vmlinuz.old "$tree"/initrd.img*
modules=$tree/usr/lib/modules/$version
sed -e 's/#.*//' "$recipe/modules.conf" | while read -r module; do
    [ -z "$module" ] && continue
    chroot "$tree" modprobe --set-version "$version" --show-depends "$module"
done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | sed 's|^/lib/|/usr/lib/|' | sort -u >"$tree/keep.txt"
find "$modules/kernel" -name '*.ko*' | sed "s|^$tree||" | sort >"$tree/all.txt"
comm -13 "$tree/keep.txt" "$tree/all.txt" | while read -r path; do rm "$tree$path"; done
find "$modules/kernel" -type d -empty -delete
rm "$tree/keep.txt" "$tree/all.txt"
chroot "$tree" depmod "$version"

# What is in it, for whoever has to explain a result.
chroot "$tree" dpkg-query --show --showformat='${Package} ${Version}\n' >"$tree/tmp/taken/packages"

# The build's own settings, a proxy's password perhaps among them.
rm -f "$tree"/etc/apt/apt.conf.d/99mmdebstrap "$tree"/etc/dpkg/dpkg.cfg.d/99mmdebstrap

# Weight that was not kept out by dpkg's path filters.
rm -rf "$tree"/var/cache/* "$tree"/var/lib/apt/lists/* "$tree"/var/log/*.log "$tree"/var/log/apt
rm -rf "$tree"/usr/lib/udev/hwdb.d "$tree"/usr/lib/udev/hwdb.bin "$tree"/etc/udev/hwdb.bin
rm -rf "$tree"/usr/lib/python3.11/test "$tree"/usr/lib/python3.11/idlelib "$tree"/usr/lib/python3.11/lib2to3
rm -rf "$tree"/usr/share/zoneinfo
install -d "$tree/var/log/journal"

# Nothing has changed since /usr was installed: systemd would else run what it runs after an update.
touch -r "$tree/usr" "$tree/etc/.updated" "$tree/var/.updated"

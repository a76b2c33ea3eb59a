#!/bin/sh
# Makes of unpacked packages what the stand-in runs in RAM: customize.sh TREE RECIPE. Runs as root, or as what
# mmdebstrap makes look like it. The tree itself is thrown away: what counts is what it leaves in tmp/taken.
set -eu
tree=$1 recipe=$2
taken=$tree/tmp/taken small=$tree/tmp/small

words() { sed -e 's/#.*//' -e '/^$/d' "$recipe/$1"; }
in_tree() { chroot "$tree" "$@"; }
install -d "$taken" "$small"

# The kernel, and the modules that are used, with what they depend on.
version=$(ls "$tree/lib/modules")
install -m 0644 "$tree/boot/vmlinuz-$version" "$taken/vmlinuz"
in_tree /sbin/depmod "$version"
words modules.conf | while read -r module; do
    in_tree /sbin/modprobe --set-version "$version" --show-depends "$module"
done | sed -n 's/^insmod \([^ ]*\).*/\1/p' >"$tree/tmp/files"

# Python's library without its sources, and what the standard library has not. It is compiled here: there is no
# time for that at a boot.
python=/usr/lib/python3.11
(cd "$tree$python" && words python.conf | while read -r pattern; do
    # shellcheck disable=SC2086 # patterns are meant
    rm -rf $pattern
done)
packages=/usr/lib/python3/dist-packages
in_tree /usr/bin/python3.11 -m compileall -q -b "$python" "$packages/cryptography"
find "$tree$python" "$tree$packages/cryptography" \( -name '*.py' -o -name '*.pyi' \) -delete
find "$tree$python" "$tree$packages" -name __pycache__ -prune -exec rm -r {} +
(cd "$tree" && find ".$python" ".$packages/cryptography" ".$packages"/_cffi_backend*.so -type f | sed 's/^\.//') \
    >>"$tree/tmp/files"

# Programs, and all that is linked to something.
loader=/lib64/ld-linux-x86-64.so.2
{ words programs.conf; grep '\.so$' "$tree/tmp/files"; } >"$tree/tmp/linked"
while read -r linked; do
    echo "$linked"
    in_tree "$loader" --list "$linked" | sed -n 's/.* => \(\/[^ ]*\) .*/\1/p'
done <"$tree/tmp/linked" >>"$tree/tmp/files"
printf '%s\n' "$loader" /bin/busybox >>"$tree/tmp/files"

# As they are called: symbolic links are followed, so that each file is there once, under the name that is looked for.
sort -u "$tree/tmp/files" | sed 's/^\///' | tar --create --dereference --directory="$tree" --files-from=- |
    tar --extract --directory="$small"
# Here and not in a process of its own: nothing is left to be done at a boot.
in_tree /sbin/depmod --basedir /tmp/small "$version"
rm -f "$small/lib/modules/$version"/*.bin "$small/lib/modules/$version"/modules.*map
ln -s ntfs-3g "$small/bin/mount.ntfs-3g"
ln -s ../bin/busybox "$small/sbin/modprobe"
in_tree /bin/busybox --list | while read -r applet; do
    [ -e "$small/bin/$applet" ] || ln -s busybox "$small/bin/$applet"
done
ln -s python3.11 "$small/usr/bin/python3"
ln -s mkntfs "$small/sbin/mkfs.ntfs"
install -d "$small/proc" "$small/sys" "$small/dev" "$small/run" "$small/tmp" "$small/c" "$small/etc" "$small/usr/lib"
ln -s /proc/self/mounts "$small/etc/mtab"

tar --create --directory="$small" --owner=0 --group=0 --numeric-owner --file="$taken/small.tar" .
# What is in it, for whoever has to explain a result: nothing was installed, so dpkg knows of nothing.
for package in "$tree"/var/cache/apt/archives/*.deb; do
    name=${package##*/}
    version=${name#*_}
    echo "${name%%_*} ${version%_*}"
done | sed 's/%3a/:/' >"$taken/packages"

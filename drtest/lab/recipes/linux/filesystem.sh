#!/bin/sh
# Puts a tar file's tree onto the root partition of a raw disk: filesystem.sh TAR TREE DISK, under fakeroot, with
# OFFSET (bytes), BLOCKS (of 4096) and FEATURES in the environment.
set -eu
tar --extract --file="$1" --directory="$2" --numeric-owner --preserve-permissions
# Nothing is left for the first mount to do: tables and journal are written now, into a file that stays sparse.
mke2fs -q -t ext4 -b 4096 -I 256 -m 1 -J size=32 -O "$FEATURES" -L root -d "$2" \
    -E "offset=$OFFSET,lazy_itable_init=0,lazy_journal_init=0,nodiscard" "$3" "$BLOCKS"

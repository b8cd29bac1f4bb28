#!/bin/sh
# What an iSCSI host goes through when the target dies under it. The host kills and restarts the
# target at the marks; this side only ever sees its sessions recover.
#   WRITER   path of the vm-writer program
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/iscsi-lib.sh"

CHAP=yes
RUN=$(date +%s%N)
STOP=/run/host/stop

# The streams of tests/iscsi_crash.rs: what vm-writer needs to know of each.
#   name     path              offset  slots  record bytes
streams() {
    echo "fsync $MNT/a 0 1024 4096"
    echo "direct $RAW 4194304 1024 4096"
}

writers_under_kills() {
    step "writers on ext4 and on the bare device while the target is killed"
    streams >/run/streams
    writers=
    while read -r name path offset slots bytes; do
        "$WRITER" write "$name" "$path" "$offset" "$slots" "$bytes" "$RUN" "$name" $STOP &
        writers="$writers $!"
    done </run/streams
    mark writers-running
    await_host stop 400
    for writer in $writers; do
        wait "$writer" || die "a writer ended with an error"
    done
}

# The writers have stopped; everything acknowledged must be there, read through new sessions.
check_everything() {
    step "what is left after the kills"
    need "umount" umount "$MNT"
    logout "$VOL_512" "$PORTAL_1"
    logout "$VOL_4K" "$PORTAL_1"
    login "$VOL_512" "$PORTAL_1"
    RAW=$DEV
    login "$VOL_4K" "$PORTAL_1"
    need "fsck.ext4" fsck.ext4 -f -n "$DEV"
    need "mount" mount -t ext4 "$DEV" "$MNT"
    streams >/run/streams
    while read -r name path offset slots bytes; do
        "$WRITER" check "$name" "$path" "$offset" "$slots" "$bytes" "$RUN" ||
            die "records of $name are missing"
    done </run/streams
    need "umount" umount "$MNT"
    logout "$VOL_512" "$PORTAL_1"
    logout "$VOL_4K" "$PORTAL_1"
    mark checked
}

start_iscsi
for volume in "$VOL_512" "$VOL_4K"; do
    # shellcheck disable=SC2086
    record "$volume" "$PORTAL_1" $MUTUAL_CHAP $DIGESTS
    login "$volume" "$PORTAL_1"
    [ "$volume" = "$VOL_512" ] && RAW=$DEV
done
need "mkfs.ext4" mkfs.ext4 -q -F "$DEV"
need "mount" mount -t ext4 "$DEV" "$MNT"
writers_under_kills
check_everything
at_least "lost connections" "$(losses)" 4
step "done"

#!/bin/sh
# What a host goes through when the target dies under it. The host kills and restarts the target at
# the marks; this side only ever sees the controller reconnect.
#   WRITER   path of the vm-writer program
. "$(dirname "$0")/lib.sh"

PATIENT="--ctrl-loss-tmo=120 --reconnect-delay=1"
RUN=$(date +%s%N)
STOP=/run/host/stop

# Says "mark live" at the start and whenever the controller $1 comes back after a loss.
watch_controller() {
    was=none
    while [ -e "/sys/class/nvme/$1" ]; do
        state=$(cat "/sys/class/nvme/$1/state" 2>/dev/null)
        [ "$state" = live ] && [ "$was" != live ] && {
            # Long enough for requests to be under way again when the next kill comes.
            sleep 1
            mark live
        }
        was=$state
        sleep 0.1
    done
}

fio_under_kills() {
    step "fio verify while the target is killed"
    export DEV SEED
    SEED=0
    mark fio-running
    watch_controller "$CTRL" &
    watcher=$!
    # At least one whole pass begins after the last kill.
    until [ "$last_pass" ]; do
        [ -e /run/host/fio-kills-done ] && last_pass=yes
        SEED=$((SEED + 1))
        need "fio pass $SEED" fio --output-format=terse --aux-path=/run \
            "$GUEST_DIR/../fio/crash.fio"
    done
    kill $watcher
    mark fio-verified
}

# The streams of tests/crash.rs: what vm-writer needs to know of each.
#   name     path              offset  slots  record bytes
streams() {
    echo "fsync-a $MNT/a 0 1024 4096"
    echo "fsync-b $MNT/b 0 1024 4096"
    echo "direct-cold $RAW 4194304 1024 4096"
    echo "direct-hot $RAW 67108864 8 65536"
}

how_of() {
    case $1 in
    fsync-*) echo fsync ;;
    *) echo direct ;;
    esac
}

writers_under_kills() {
    step "writers on ext4 and on the bare device while the target is killed"
    streams >/run/streams
    writers=
    while read -r name path offset slots bytes; do
        "$WRITER" write "$name" "$path" "$offset" "$slots" "$bytes" "$RUN" \
            "$(how_of "$name")" $STOP &
        writers="$writers $!"
    done </run/streams
    mark writers-running
    await_host stop 500
    for writer in $writers; do
        wait "$writer" || die "a writer ended with an error"
    done
}

# The writers have stopped; everything acknowledged must be there, read through new connections.
check_everything() {
    step "what is left after the kills"
    need "umount" umount "$MNT"
    disconnect
    NQN=$NQN_PREFIX$VOL_512
    disconnect
    connect "$VOL_512"
    RAW=$DEV
    connect "$VOL_4K"
    need "fsck.ext4" fsck.ext4 -f -n "$DEV"
    need "mount" mount -t ext4 "$DEV" "$MNT"
    streams >/run/streams
    while read -r name path offset slots bytes; do
        "$WRITER" check "$name" "$path" "$offset" "$slots" "$bytes" "$RUN" ||
            die "records of $name are missing"
    done </run/streams
    need "umount" umount "$MNT"
    disconnect
    NQN=$NQN_PREFIX$VOL_512
    disconnect
    mark checked
}

start
# shellcheck disable=SC2086
connect "$VOL_4K" $PATIENT
fio_under_kills

need "mkfs.ext4" mkfs.ext4 -q -F "$DEV"
need "mount" mount -t ext4 "$DEV" "$MNT"
# shellcheck disable=SC2086
connect "$VOL_512" $PATIENT
RAW=$DEV
NQN=$NQN_PREFIX$VOL_4K
writers_under_kills
check_everything
finish

#!/bin/sh
# What a card of drivers/rdma does, on soft RoCE: messages, one-sided work, endings.
#   CHECKS   the program that checks it
#   NAMES    which checks, with commas between them; all when empty
# shellcheck disable=SC1091
. "$(dirname "$0")/lib.sh"
. "$GUEST_DIR/rdma-lib.sh"

# A library that is there and is none.
no_library() {
    refuse "no library" 'libibverbs.so.1 cannot be loaded.*install rdma-core' \
        unshare -m sh -c "mount --bind /dev/null \$(ldconfig -p | sed -n 's/.*libibverbs.so.1 .*=> //p' |
            head -n 1) && exec $CHECKS $RDMA_ADDRESS:$PORT"
}

# Memory that is registered counts as locked.
no_locked_memory() {
    refuse "no locked memory" 'cannot be registered with rxe0.*raise the limit of locked memory' \
        setpriv --bounding-set=-ipc_lock --inh-caps=-ipc_lock \
        sh -c "ulimit -l 1024 && exec $CHECKS $RDMA_ADDRESS:$PORT"
}

no_device() {
    refuse "no device" "no RDMA device serves $RDMA_ADDRESS:$PORT" "$CHECKS" "$RDMA_ADDRESS:$PORT"
}

links() { rdma link show | wc -l; }

no_device
rdma_link
no_library
no_locked_memory
ulimit -l unlimited
step "checks"
# shellcheck disable=SC2046
"$CHECKS" "$RDMA_ADDRESS:$PORT" $(echo "$NAMES" | tr , ' ') >/run/checks 2>&1
code=$?
cat /run/checks
[ "$code" = 0 ] || die "a check failed"
step "the device is taken away"
need "removal" "$CHECKS" "$RDMA_ADDRESS:$PORT" removal
cat /run/need.out
await_equal "links" 0 20 links

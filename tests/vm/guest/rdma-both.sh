#!/bin/sh
# One volume by both transports at once, each with a block device of its own, and hosts in user
# space: what one writes the others read.
#   PYTHON   folder with nvmeof and ibverbs
#   PERF     path of bedplate-perf
. "$(dirname "$0")/lib.sh"

MIB=1048576
IPV6=yes
export PYTHONPATH="$PYTHON"
# Its own folder is of the machine, and read-only.
export PYTHONDONTWRITEBYTECODE=1

# device_by CONTROLLER: its block device, where paths are not joined.
device_by() {
    tries=0
    until [ -b "/dev/$1n1" ]; do
        [ "$tries" -lt 100 ] || die "no block device of $1 within 10 s of the connect"
        sleep 0.1
        tries=$((tries + 1))
    done
    echo "/dev/$1n1"
}

# across FROM TO OFFSET_MIB: written by one device and read by the other.
across() {
    random_file /run/data $((4 * MIB))
    need "write by $1" dd if=/run/data of="$1" bs=512k oflag=direct seek=$(($3 * 2))
    need "odd pieces by $1" dd if=/run/data of="$1" bs=12k oflag=direct,seek_bytes count=40 \
        seek=$((($3 + 4) * MIB))
    DEV=$2
    raw_read $(($3 * MIB)) $((4 * MIB)) /run/got
    need "$2 reads what $1 wrote" cmp /run/data /run/got
    raw_read $((($3 + 4) * MIB)) $((480 * 1024)) /run/got
    need "$2 reads the odd pieces" cmp -n $((480 * 1024)) /run/data /run/got
}

# Both devices are busy at once, each on a range of its own.
at_once() {
    workers=
    for by in "$RDMA_DEV 64m" "$TCP_DEV 128m"; do
        fio --name=at-once --filename="${by% *}" --offset="${by#* }" --size=12m --direct=1 \
            --ioengine=io_uring --iodepth=32 --rw=randwrite --bssplit=4k/50:32k/30:256k/20 \
            --serialize_overlap=1 --verify=crc32c --verify_fatal=1 --output-format=terse \
            --aux-path=/run >"/run/fio.${by#* }" 2>&1 &
        workers="$workers $!"
    done
    for worker in $workers; do
        wait "$worker" || { cat /run/fio.*m && die "fio found a fault"; }
    done
}

# deallocated FROM TO OFFSET_MIB: what one gives back the other reads as zeros.
deallocated() {
    need "discard by $1" blkdiscard -o $(($3 * MIB)) -l $((2 * MIB)) "$1"
    DEV=$2
    [ "$TARGET" = bedplate ] && zeros $(($3 * MIB)) $((2 * MIB))
}

both_transports_at_once() {
    step "the same volume by RDMA and by TCP"
    attach rdma "$VOL_4K" -i 2
    RDMA_CTRL=$CTRL
    attach tcp "$VOL_4K" -i 2
    TCP_CTRL=$CTRL
    RDMA_DEV=$(device_by "$RDMA_CTRL")
    TCP_DEV=$(device_by "$TCP_CTRL")
    across "$RDMA_DEV" "$TCP_DEV" 0
    across "$TCP_DEV" "$RDMA_DEV" 16
    step "both at work"
    at_once
    deallocated "$RDMA_DEV" "$TCP_DEV" 0
    deallocated "$TCP_DEV" "$RDMA_DEV" 16
    detach "$RDMA_CTRL"
}

# What was written over IPv4 is read over IPv6, and the other way round.
by_ipv6() {
    [ "$TARGET" = bedplate ] || return 0
    step "RDMA by IPv6"
    need "discover by IPv6" nvme discover -t rdma -a "$RDMA_ADDRESS6" -s "$PORT"
    grep -q "traddr: *$RDMA_ADDRESS6\$" /run/need.out ||
        die "no entry has $RDMA_ADDRESS6: $(cat /run/need.out)"
    ADDRESS=$RDMA_ADDRESS6
    attach rdma "$VOL_4K" -i 2
    ADDRESS=$RDMA_ADDRESS
    six=$(device_by "$CTRL")
    across "$six" "$TCP_DEV" 32
    across "$TCP_DEV" "$six" 48
    detach "$CTRL"
}

# The cable is out for two seconds under load. Both ends are on one link, so that their packets pass all
# the same; but the device says that its port is down, and nothing may end for that.
link_goes_down() {
    step "the link goes down and comes back"
    attach rdma "$VOL_4K" -i 2
    dev=$(device_by "$CTRL")
    need "pattern" dd if=/dev/urandom of=/run/link bs=$MIB count=32
    dd if=/run/link of="$dev" bs=64k oflag=direct conv=fsync 2>/run/link.out &
    load=$!
    need "link down" ip link set veth1 down
    await_equal "port without a cable" 1 20 port_is_down
    sleep 2
    need "link up" ip link set veth1 up
    await_equal "port with a cable" 0 20 port_is_down
    wait $load || die "a write failed while the link was down: $(cat /run/link.out)"
    need "read" dd if="$dev" of=/run/link.got bs=$MIB count=32 iflag=direct
    need "all of it is there" cmp /run/link /run/link.got
    detach "$CTRL"
    [ "$TARGET" = bedplate ] || return 0
    await_equal "links that went down" 1 10 status links_down
    grep -q 'the link is up' "$SERVE_LOG" || die "bedplate did not say that the link is up"
}

port_is_down() { rdma link show "$RDMA_LINK/1" | grep -c 'state DOWN'; }

# host WORD ARGUMENT...: one of the hosts of nvmeof-host.py.
host() {
    word=$1
    shift
    /usr/bin/python3 "$GUEST_DIR/nvmeof-host.py" "$word" "$ADDRESS" "$PORT" "$@"
}

other_makes() {
    step "a host in user space"
    need "nvmeof" host use "$NQN_PREFIX$VOL_4K" "$VOL_BYTES" /run/theirs
    DEV=$TCP_DEV
    raw_read 0 $((8 * MIB)) /run/got
    need "the kernel's host reads what nvmeof wrote" cmp /run/theirs /run/got
    detach "$TCP_CTRL"
}

# Our own host checks what it reads, and stops when anything is wrong with a response.
own_host() {
    for load in "randread 4k 1" "randwrite 4k 16" "mix 64k 16" "write 1m 2"; do
        step "bedplate-perf $load"
        # shellcheck disable=SC2086
        set -- $load
        need "bedplate-perf" "$PERF" run --connect "rdma://$ADDRESS:$PORT/$NQN_PREFIX$VOL_512" \
            --rw "$1" --bs "$2" --qd "$3" --span 32MiB --time 2s --ramp 0s --cores 1 --wait poll \
            --verify
    done
    tail -n 12 "$NEED_OUT"
}

# A host that breaks rules loses its own connections, and the target nothing.
bad_manners() {
    step "hosts without manners"
    before=$(resources)
    step "before: $before"
    opened=$(descriptors)
    need "rude hosts" host rude "$NQN_PREFIX$VOL_512"
    await_equal "RDMA objects after rude hosts" "$before" 30 resources
    await_equal "descriptors after rude hosts" "$opened" 30 descriptors
    [ "$TARGET" = bedplate ] || return 0
    step "a host that says nothing"
    # Not by the function: what is to be killed is the host and not a shell around it.
    /usr/bin/python3 "$GUEST_DIR/nvmeof-host.py" silent "$ADDRESS" "$PORT" >/run/silent 2>&1 &
    silent=$!
    await_equal "words of the silent host" silent 20 cat /run/silent
    [ "$(resources)" != "$before" ] || die "a connection is no RDMA object: $before"
    # Its connection ends although it stays.
    await_equal "RDMA objects beside a silent host" "$before" 60 resources
    kill -9 "$silent"
    wait "$silent" 2>/dev/null
}

# Hosts send more than there are receives for, and so again. Not the kernel's host: the RDMA link of
# 6.1 then registers its memory twice, refuses the second time, and the queue stands until it is lost
# ("rxe_reg_fast_mr: ... not free").
few_receives() {
    [ "$TARGET" = bedplate ] || return 0
    step "fewer receives than commands under way"
    serve_no_more
    QUEUE_DEPTH=32
    RECEIVES=32
    rdma_configuration >"$RESULTS/bedplate.toml"
    serve "$RESULTS/bedplate.toml" "$RESULTS/bedplate.log"
    loaders=
    for number in 1 2 3; do
        /usr/bin/python3 "$GUEST_DIR/nvmeof-host.py" load "$ADDRESS" "$PORT" \
            "$NQN_PREFIX$VOL_512" >"/run/load.$number" 2>&1 &
        loaders="$loaders $!"
    done
    need "nvmeof beside others" host use "$NQN_PREFIX$VOL_4K" "$VOL_BYTES" /run/theirs
    for number in 1 2 3; do
        await_equal "words of host $number" loaded 60 cat "/run/load.$number"
    done
    # shellcheck disable=SC2086
    kill -9 $loaders
    step "messages that came again for want of a receive: $(card_counter rcvd_rnr_err)"
}

need "paths apart" modprobe nvme-core multipath=N
start
both_transports_at_once
by_ipv6
link_goes_down
other_makes
equal "recoveries without a cause" "$(recoveries)" 0
own_host
bad_manners
few_receives
finish

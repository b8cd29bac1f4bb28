#!/bin/sh
# Connections that end under load, by paths that go and come and by hosts that leave or die: I/O goes
# on by what is left, and the target keeps nothing of them.
#   ROUNDS   how many connections end
#   PYTHON   folder with nvmeof and ibverbs
. "$(dirname "$0")/lib.sh"

export PYTHONPATH="$PYTHON"
export PYTHONDONTWRITEBYTECODE=1

# requests CONTROLLER: how many its path has carried, where paths are joined.
requests() { awk '{ print $1 + $5 }' "/sys/class/nvme/$1"/nvme*c*n*/stat; }

# Fio on the joined device until /run/paths-done.
verify_on_paths() {
    NEED_OUT=/run/need.paths
    SEED=0
    until [ -e /run/paths-done ]; do
        SEED=$((SEED + 1))
        export DEV SEED
        need "fio pass $SEED" fio --output-format=terse --aux-path=/run "$GUEST_DIR/../fio/crash.fio"
    done
}

paths() {
    step "one device by both transports"
    attach tcp "$VOL_4K" --ctrl-loss-tmo=120 --reconnect-delay=1
    tcp=$CTRL
    attach rdma "$VOL_4K" --ctrl-loss-tmo=120 --reconnect-delay=1
    rdma=$CTRL
    DEV=$(device_of "$NQN")
    [ -b "$DEV" ] || die "the paths have no joined device"
    for subsystem in /sys/class/nvme-subsystem/*; do
        [ "$(cat "$subsystem/subsysnqn")" = "$NQN" ] && echo round-robin >"$subsystem/iopolicy"
    done
    rm -f /run/paths-done
    verify_on_paths &
    verifier=$!
    carries "$rdma" && carries "$tcp"
    step "RDMA goes and comes"
    detach "$rdma"
    carries "$tcp"
    attach rdma "$VOL_4K"
    rdma=$CTRL
    carries "$rdma"
    step "TCP goes and comes"
    detach "$tcp"
    carries "$rdma"
    attach tcp "$VOL_4K"
    tcp=$CTRL
    carries "$tcp"
    touch /run/paths-done
    wait "$verifier" || die "fio found a fault while paths went and came"
    detach "$tcp"
    detach "$rdma"
}

# carries CONTROLLER: until it has carried 50 requests more.
carries() {
    tries=0
    goal=$(($(requests "$1") + 50))
    until [ "$(requests "$1")" -ge "$goal" ]; do
        [ "$tries" -lt 150 ] || die "$1 carries nothing"
        sleep 0.2
        tries=$((tries + 1))
    done
}

# A host that is there all the time and must not notice.
steady() {
    NEED_OUT=/run/need.steady
    while [ ! -e /run/rounds-done ]; do
        random_file /run/steady 262144
        need "steady write" dd if=/run/steady of="$1" bs=32k oflag=direct conv=fsync
        need "steady read" dd if="$1" of=/run/steady.got bs=16k iflag=direct count=16
        need "steady content" cmp /run/steady /run/steady.got
        sleep 1
    done
}

# burden ROUND: load for one connection; it ends with errors when the connection ends. A block of 4 MiB
# is many commands at once.
burden() {
    block_kib=$((16 + 4080 * ($1 % 2)))
    dd if=/dev/zero of="$DEV" bs=${block_kib}k oflag=direct conv=nocreat 2>/dev/null &
    load=$!
    dd if="$DEV" of=/dev/null bs=4M iflag=direct 2>/dev/null &
    load="$load $!"
}

# Whether there are requests under way on the path of $CTRL. Without a process of its own: those are slow
# to start in an emulated machine.
in_flight() {
    for disk in "/sys/class/nvme/$CTRL"/nvme*n*; do
        read -r reads writes <"$disk/inflight" || continue
        [ $((reads + writes)) -lt 4 ] || return 0
    done
    return 1
}

# One connection that ends under load, in the way of its number.
round() {
    [ $(($1 % 10)) = 5 ] && killed_host && return
    connect "$VOL_4K" -i $(($1 % 2 + 1)) -Q $((16 << ($1 % 4)))
    burden "$1"
    tries=0
    until in_flight || [ "$tries" -ge 40 ]; do
        sleep 0.02
        tries=$((tries + 1))
    done
    [ "$tries" -lt 40 ] && under_load=$((under_load + 1))
    case $(($1 % 10)) in
    2 | 7)
        need "reset" nvme reset "/dev/$CTRL"
        await_live 20
        ;;
    4)
        echo 1 >"/sys/class/nvme/$CTRL/delete_controller"
        ;;
    esac
    if [ -n "$(controller_of "$NQN")" ]; then
        disconnect
    fi
    await_equal "controllers of $NQN" "" 10 controller_of "$NQN"
    # shellcheck disable=SC2086
    wait $load
}

# A host in user space that is killed with a full queue: nothing of it says goodbye.
killed_host() {
    rm -f /run/load
    /usr/bin/python3 "$GUEST_DIR/nvmeof-host.py" load "$ADDRESS" "$PORT" "$NQN_PREFIX$VOL_4K" \
        >/run/load 2>&1 &
    loader=$!
    await_equal "words of the host in user space" loaded 60 cat /run/load
    kill -9 "$loader"
    wait "$loader" 2>/dev/null
    under_load=$((under_load + 1))
}

# count KIND: of it alone.
count() { resources | tr ' ' '\n' | sed -n "s/^$1=//p"; }

# What our process says of itself is what the kernel counts.
agreement() {
    [ "$TARGET" = bedplate ] || return 0
    # Of the steady host, which is connected.
    at_least "queue pairs" "$(count qp)" 2
    await_equal "queue pairs in our status" "$(count qp)" 10 status queue_pairs
    await_equal "memory regions in our status" "$(count mr)" 10 status memory_regions
}

# What there is of the target's, of every kind.
everything() { echo "$(resources) connections=$(connections) descriptors=$(descriptors)"; }

connections() {
    [ "$TARGET" = bedplate ] || { echo 0 && return; }
    status connections
}

memory_kib() { awk '$1 == "VmRSS:" { print $2 }' "/proc/$(cat /run/bedplate.pid)/status"; }

rounds() {
    step "$ROUNDS connections that end under load"
    NQN=$NQN_PREFIX$VOL_512
    connect "$VOL_512"
    steady_dev=$DEV
    rm -f /run/rounds-done
    steady "$steady_dev" &
    steady_pid=$!
    # What is made once and kept is made now.
    number=1
    under_load=0
    while [ "$number" -le 10 ]; do
        round "$number"
        number=$((number + 1))
    done
    sleep 2
    before=$(everything)
    [ "$TARGET" = bedplate ] && memory_before=$(memory_kib)
    step "before: $before"
    agreement
    under_load=0
    number=1
    while [ "$number" -le "$ROUNDS" ]; do
        round "$number"
        number=$((number + 1))
    done
    at_least "rounds that ended under load" "$under_load" $((ROUNDS * 3 / 4))
    step "$under_load of $ROUNDS ended under load"
    await_equal "what the target holds after the rounds" "$before" 20 everything
    agreement
    if [ "$TARGET" = bedplate ]; then
        step "memory: $memory_before KiB before, $(memory_kib) KiB after"
        at_least "KiB of memory before, and what may come to it in the rounds" \
            $((memory_before + 4096)) "$(memory_kib)"
    fi
    touch /run/rounds-done
    wait "$steady_pid" || die "the steady host noticed"
    NQN=$NQN_PREFIX$VOL_512
    disconnect
}

start
attach rdma "$VOL_4K"
detach "$CTRL"
none=$(everything)
paths
equal "recoveries without a cause" "$(recoveries)" 0
rounds
await_equal "what the target holds without a host" "$none" 20 everything
finish

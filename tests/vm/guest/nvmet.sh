# The kernel's own NVMe target inside the guest, with the same volumes the host's would have.
# Sourced by lib.sh; used with TARGET=nvmet, and by perf.sh for the target to compare with.

NVMET=/sys/kernel/config/nvmet

# nvmet_subsystem VOLUME UUID ANY_HOST BACKING
nvmet_subsystem() {
    subsystem=$NVMET/subsystems/$NQN_PREFIX$1
    mkdir -p "$subsystem/namespaces/1"
    echo "$3" >"$subsystem/attr_allow_any_host"
    echo "$4" >"$subsystem/namespaces/1/device_path"
    echo "$2" >"$subsystem/namespaces/1/device_uuid"
    echo "$2" >"$subsystem/namespaces/1/device_nguid"
    echo 1 >"$subsystem/namespaces/1/enable"
}

# nvmet_null_blk NAME BLOCK_BYTES: a null_blk that keeps its data. A file would do only with the
# page's block size, and on tmpfs without Write Zeroes; on overlayfs nvmet reports blocks of 1 byte.
nvmet_null_blk() {
    null=/sys/kernel/config/nullb/$1
    mkdir "$null"
    echo $((VOL_BYTES >> 20)) >"$null/size"
    echo "$2" >"$null/blocksize"
    echo 1 >"$null/memory_backed"
    echo 1 >"$null/discard"
    echo 1 >"$null/power"
}

nvmet_load() {
    no_huge_pages
    modprobe configfs 2>/dev/null
    mount -t configfs none /sys/kernel/config 2>/dev/null
    modprobe -a nvmet nvmet-tcp || die "this kernel has no nvmet"
}

# nvmet_port NUMBER TRANSPORT ADDRESS PORT: a port, which opens with nvmet_open.
nvmet_port() {
    port=$NVMET/ports/$1
    mkdir -p "$port"
    echo ipv4 >"$port/addr_adrfam"
    echo "$2" >"$port/addr_trtype"
    echo "$3" >"$port/addr_traddr"
    echo "$4" >"$port/addr_trsvcid"
}

# The volumes of the tests.
nvmet_volumes() {
    nvmet_load
    modprobe null_blk nr_devices=0 || die "this kernel has no null_blk"
    nvmet_null_blk vm4k 4096
    nvmet_null_blk vm512 512
    nvmet_null_blk vmclosed 4096
    nvmet_subsystem "$VOL_4K" 11111111-1111-4111-8111-111111111111 1 /dev/vm4k
    nvmet_subsystem "$VOL_512" 22222222-2222-4222-8222-222222222222 1 /dev/vm512
    nvmet_subsystem "$VOL_CLOSED" 33333333-3333-4333-8333-333333333333 0 /dev/vmclosed
}

nvmet_start() {
    nvmet_volumes
    nvmet_port 1 tcp 127.0.0.1 4420
    nvmet_open
}

nvmet_open() {
    for subsystem in "$NVMET"/subsystems/*; do
        for port in "$NVMET"/ports/*; do
            ln -s "$subsystem" "$port/subsystems/${subsystem##*/}" ||
                die "the kernel's target does not open port ${port##*/}"
        done
    done
}

# Cuts every connection and refuses new ones for a moment: as close to a restart as nvmet comes.
nvmet_bounce() {
    rm -f "$NVMET"/ports/*/subsystems/*
    sleep 1
    nvmet_open
}

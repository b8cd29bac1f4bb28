#!/bin/sh
# Bedplate and the kernel's own target, both in this guest, in alternating rounds: fio on the device
# that the kernel's initiator makes of each, then pgbench on ext4 on it. Which settings, and why it
# is set up like this: tests/vm/README.md. Measures with perf/fio/run.sh and perf/pgbench/run.sh.
#
#   BEDPLATE     path of the binary
#   TRANSPORT    tcp over loopback, or rdma on soft RoCE
#   ROUNDS       rounds, each with both targets right after one another
#   FIO_JOBS     jobs of perf/fio, with commas between them, or "none"
#   FIO_S        seconds of each job, after FIO_RAMP_S
#   FIO_THREADS  jobs of iops-read and iops-write, each with 32 in flight
#   PG_S         seconds of each pgbench, after PG_WARMUP_S; 0 for no pgbench
#   PG_SCALE PG_CLIENTS                        as pgbench means them
#   VOL_MIB      size of the volume, and of the part of the disk that nvmet exports
#   CORES        cores of bedplate, such as 0,1, or "default"
#   LOAD_CPUS    processors that fio and PostgreSQL may use, such as 0 or 0-1
#   SPIN         [reactor] spin, or "default"
#   PROFILE      yes: a profile of each turn, with perf (Debian: linux-perf)
#   SWAP         yes: bedplate takes the disk that nvmet takes otherwise
#
# Results: RESULTS/round-N/JOB/SIDE/, SIDE is "ours" or "nvmet", and "mark measured" once they are
# there.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/inside.sh"

PERF_DIR=$GUEST_DIR/../../../perf
# Seconds that our flusher may take after a turn; what it writes later is charged to nobody.
REST_S=60

choose_network() {
    ADDRESS=127.0.0.1
    [ "$TRANSPORT" = rdma ] || return 0
    # shellcheck disable=SC1091
    . "$GUEST_DIR/rdma-lib.sh"
    rdma_link
    modprobe nvmet-rdma || die "this kernel has no nvmet-rdma"
    ADDRESS=$RDMA_ADDRESS
}

choose_disks() {
    OURS_DISK=$(disk_of disk-a)
    NVMET_DISK=$(disk_of disk-b)
    [ "${SWAP:-no}" = yes ] || return 0
    swapped=$OURS_DISK
    OURS_DISK=$NVMET_DISK
    NVMET_DISK=$swapped
}

# The kernel's target exports as much as our volume has, so that both spread I/O over the same
# span: a partition that only the kernel knows of.
start_nvmet() {
    nvmet_load
    need "partition" addpart "$NVMET_DISK" 1 2048 $((VOL_MIB * 2048))
    nvmet_subsystem nvmet 44444444-4444-4444-8444-444444444444 1 "${NVMET_DISK}1"
    nvmet_port 1 "$TRANSPORT" "$ADDRESS" 4430
    nvmet_open
}

write_configuration() {
    echo "[reactor]"
    [ "$CORES" = default ] || echo "cores = [$CORES]"
    [ "$SPIN" = default ] || echo "spin = \"$SPIN\""
    printf '[[pool]]\nname = "perf"\npath = "%s"\n' "$OURS_DISK"
    printf '[[volume]]\nname = "ours"\npool = "perf"\nsize = "%sMiB"\n' "$VOL_MIB"
    printf '[nvme_%s]\nlisten = ["%s:4420"]\n' "$TRANSPORT" "$ADDRESS"
    printf '[control]\nsocket = "%s"\n' "$CONTROL_SOCKET"
}

start_ours() {
    write_configuration >"$RESULTS/bedplate.toml"
    need "pool" "$BEDPLATE" pool create --name perf "$OURS_DISK"
    serve "$RESULTS/bedplate.toml" "$RESULTS/bedplate.log"
}

# Both are attached at once and for the whole run; a side that has no turn does nothing.
attach_both() {
    PORT=4420 && connect ours -i 2 && OURS_DEV=$DEV
    PORT=4430 && connect nvmet -i 2 && NVMET_DEV=$DEV
    equal "sizes" "$(blockdev --getsize64 "$OURS_DEV")" "$(blockdev --getsize64 "$NVMET_DEV")"
    equal "block sizes" "$(blockdev --getss "$OURS_DEV")" "$(blockdev --getss "$NVMET_DEV")"
}

device() {
    case $1 in
    ours) echo "$OURS_DEV" ;;
    nvmet) echo "$NVMET_DEV" ;;
    esac
}

# Every block has been written before it is measured: neither side reads or makes up what is not there.
fill() {
    for side in nvmet ours; do
        step "fill $side"
        need "fill $side" fio --name=fill --filename="$(device $side)" --rw=write --bs=1m \
            --direct=1 --ioengine=io_uring --iodepth=4 --aux-path=/run
    done
    rest
}

# 4 KiB pages in our journal that are not in their place yet.
dirty_pages() {
    "$BEDPLATE" --socket "$CONTROL_SOCKET" --output json volume show ours |
        sed -n 's/.*"dirty_pages": \([0-9]*\).*/\1/p'
}

# Waits until our flusher has moved what is in the journal: else the other side's turn pays for it.
rest() {
    waited=0
    dirty=$(dirty_pages)
    [ "$dirty" ] || die "bedplate does not say how many pages are dirty"
    while [ "$dirty" != 0 ]; do
        [ "$waited" -lt "$REST_S" ] || die "$dirty pages are dirty after $REST_S s of rest"
        sleep 1
        waited=$((waited + 1))
        dirty=$(dirty_pages)
    done
}

# turn ROUND: the sides in the order of that round.
turn() {
    if [ $(($1 % 2)) = 1 ]; then echo ours nvmet; else echo nvmet ours; fi
}

# account DIRECTORY before|after: what the target counted, and what the processors did and the target
# used of them, in ticks. The difference explains a ratio.
account() {
    "$BEDPLATE" --socket "$CONTROL_SOCKET" --output json status >"$1/status.$2"
    cpu_ticks >"$1/cpu.$2"
}

cpu_ticks() {
    head -n 1 /proc/stat
    echo "cpus $(nproc)"
    echo "bedplate $(cut -d' ' -f14,15 "/proc/$(cat /run/bedplate.pid)/stat")"
}

start_profile() {
    perf record -q -a -e cpu-clock -F 999 -o /run/perf.data &
    PROFILER=$!
}

# keep_profile DIRECTORY: to be read on the machine with perf report --kallsyms DIRECTORY/kallsyms.
keep_profile() {
    kill -INT "$PROFILER"
    wait "$PROFILER"
    cp /proc/kallsyms "$1/"
    mv /run/perf.data "$1/"
}

# measured DIRECTORY COMMAND...
measured() {
    directory=$1
    shift
    mkdir -p "$directory"
    account "$directory" before
    [ "${PROFILE:-no}" = no ] || start_profile
    need "measurement" taskset -c "$LOAD_CPUS" "$@"
    [ "${PROFILE:-no}" = no ] || keep_profile "$directory"
    account "$directory" after
    mark measured
    rest
}

fio_round() {
    for job in $(echo "$FIO_JOBS" | tr ',' ' '); do
        for side in $(turn "$1"); do
            step "round $1: $job on $side"
            measured "$RESULTS/round-$1/$job/$side" env DESTROY=yes RUNTIME="$FIO_S" \
                RAMP="$FIO_RAMP_S" JOBS="$FIO_THREADS" \
                "$PERF_DIR/fio/run.sh" "$(device "$side")" "$RESULTS/round-$1/$job/$side" "$job"
        done
    done
}

# Everything the file system would do later in the background is done now, alike on both sides.
make_file_systems() {
    for side in nvmet ours; do
        step "ext4 on $side"
        need "mkfs.ext4" mkfs.ext4 -q -F -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 \
            "$(device $side)"
        mkdir -p "/run/$side"
        need "mount" mount -t ext4 -o noatime "$(device $side)" "/run/$side"
        chmod 755 "/run/$side"
    done
    rest
}

pgbench_round() {
    for side in $(turn "$1"); do
        step "round $1: pgbench on $side"
        measured "$RESULTS/round-$1/pgbench/$side" env KEEP=yes RUNTIME="$PG_S" \
            WARMUP="$PG_WARMUP_S" SCALE="$PG_SCALE" CLIENTS="$PG_CLIENTS" \
            "$PERF_DIR/pgbench/run.sh" "/run/$side" "$RESULTS/round-$1/pgbench/$side"
    done
}

rounds() {
    round=1
    while [ "$round" -le "$ROUNDS" ]; do
        "$1" "$round"
        round=$((round + 1))
    done
}

start_inside
equal "clock" "$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)" tsc
start_host
choose_network
choose_disks
start_nvmet
start_ours
attach_both
fill
[ "$FIO_JOBS" = none ] || rounds fio_round
if [ "$PG_S" != 0 ]; then
    make_file_systems
    rounds pgbench_round
    umount /run/ours /run/nvmet
fi
equal "recoveries without a cause" "$(recoveries)" 0
for NQN in "${NQN_PREFIX}ours" "${NQN_PREFIX}nvmet"; do disconnect; done
serve_no_more
step "done"

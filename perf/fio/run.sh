#!/bin/sh
# Runs fio jobs on a device that a kernel initiator attached, and keeps beside the results what
# they were measured on.
#
#   perf/fio/run.sh DEVICE RESULTS [JOB...]     JOB without .fio; default all of this folder
#
#   RUNTIME=30    seconds of each job, after RAMP=2 seconds that do not count
#   JOBS=4        jobs of iops-read and iops-write, each with 32 in flight
#   CONFIG=FILE   configuration of the target, copied into RESULTS
#   DESTROY=yes   needed for jobs that write: they overwrite DEVICE
#
# RESULTS gets one JSON file per job and environment.txt. A figure from a shared machine means
# nothing alone: run the same jobs on both things to compare, one right after the other.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
fail() {
    echo "perf/fio/run.sh: $*" >&2
    exit 2
}

[ $# -ge 2 ] || fail "needs DEVICE and RESULTS; the head of this file says more"
DEVICE=$1
results=$2
shift 2
[ -b "$DEVICE" ] || [ -f "$DEVICE" ] || fail "$DEVICE is neither a block device nor a file"
command -v fio >/dev/null || fail "needs fio: apt-get install fio"
RUNTIME=${RUNTIME:-30}
RAMP=${RAMP:-2}
JOBS=${JOBS:-4}
export DEVICE RUNTIME RAMP JOBS

[ $# -gt 0 ] || set -- $(cd "$here" && ls ./*.fio | sed 's,^\./,,; s,\.fio$,,')
for job; do
    [ -f "$here/$job.fio" ] || fail "no job $job in $here"
    if grep -q OVERWRITES "$here/$job.fio" && [ "${DESTROY:-}" != yes ]; then
        fail "$job overwrites $DEVICE: say DESTROY=yes, or name only jobs that read"
    fi
    # A device that is mounted, swapped to or part of an array is somebody's data.
    if grep -q OVERWRITES "$here/$job.fio" && [ -b "$DEVICE" ] &&
        [ -n "$(lsblk -nro MOUNTPOINTS "$DEVICE" | tr -d '[:space:]')" ]; then
        fail "$DEVICE is mounted: unmount it first"
    fi
done

mkdir -p "$results"
{
    echo "date: $(date -u +%Y-%m-%dT%H:%M:%SZ)"
    echo "kernel: $(uname -r)"
    echo "cpu: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores"
    echo "load: $(cut -d' ' -f1-3 /proc/loadavg)"
    for card in /sys/class/net/*/device; do
        [ -e "$card" ] || continue
        card=$(basename "$(dirname "$card")")
        echo "nic: $card $(cat "/sys/class/net/$card/speed" 2>/dev/null || echo unknown) Mbit/s"
    done
    if [ -b "$DEVICE" ]; then
        lsblk -dno NAME,SIZE,MODEL,LOG-SEC "$DEVICE" | sed 's/^/device: /'
        command -v nvme >/dev/null && nvme list-subsys "$DEVICE" 2>/dev/null || true
    else
        echo "device: file $DEVICE, $(stat -c %s "$DEVICE") bytes on $(stat -fc %T "$DEVICE")"
    fi
    echo "fio: $(fio --version), $RUNTIME s a job after $RAMP s, JOBS=$JOBS"
} >"$results/environment.txt"
if [ -n "${CONFIG:-}" ]; then
    cp "$CONFIG" "$results/target.toml"
fi

for job; do
    echo "$job: $(sed -n '1s/^# //p' "$here/$job.fio")"
    fio --output-format=json --output="$results/$job.json" "$here/$job.fio"
done
echo "results and environment.txt in $results"

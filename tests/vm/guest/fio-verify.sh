#!/bin/sh
# Runs every job file of tests/vm/fio whose name begins with "verify-" on both block sizes, with and
# without digests where the transport has them. A job fails on the first block that is not what was written.
. "$(dirname "$0")/lib.sh"

FIO_JOBS=$GUEST_DIR/../fio

# job NAME KIB: on $DEV; at least KIB must be read back. fio makes a
# regular file of a device that is not there, hence the check.
job() {
    step "fio $1 on $NQN"
    [ -b "$DEV" ] || die "$DEV is gone"
    export DEV
    need "fio $1" fio --output-format=terse --aux-path=/run "$FIO_JOBS/$1.fio"
    # Field 6 is what was read in KiB: a job that checks nothing would pass as well.
    read_kib=$(awk -F';' '{ sum += $6 } END { print sum + 0 }' /run/need.out)
    at_least "KiB that fio $1 read back" "$read_kib" "$2"
}

start
connect "$VOL_4K" -i 2
job verify-depth-1 6144
job verify-depth-128 32768
job verify-sizes 49152
disconnect

# shellcheck disable=SC2086
connect "$VOL_4K" $HEADER_DIGEST $DATA_DIGEST
job verify-sizes-uring 32768
job verify-trim 16384
disconnect

# shellcheck disable=SC2086
connect "$VOL_512" $HEADER_DIGEST $DATA_DIGEST
job verify-512 4096
disconnect
equal "recoveries without a cause" "$(recoveries)" 0
finish

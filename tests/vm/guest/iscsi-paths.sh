#!/bin/sh
# Two sessions with one unit, by two portals: dm-multipath follows the ALUA states of their groups,
# reservations hold between initiator ports, and between iSCSI and NVMe hosts.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/iscsi-lib.sh"

MIB=1048576
KEY_1=0x1111
KEY_2=0x2222
KEY_NVME=0x3333

# How many blocks of 512 bytes the disk $1 has written so far.
sectors_written() { awk '{ print $7 }' "/sys/block/$1/stat"; }

# write_through MAP: 4 MiB past every cache.
write_through() {
    need "write to $1" dd if=/run/data of="/dev/mapper/$1" bs=$MIB count=4 oflag=direct
}

# writes_go_to DISK OTHER: whether what is written to the map goes to DISK and nothing to OTHER.
writes_go_to() {
    to_disk=$(sectors_written "$1")
    to_other=$(sectors_written "$2")
    write_through unit
    to_disk=$(($(sectors_written "$1") - to_disk))
    to_other=$(($(sectors_written "$2") - to_other))
    [ "$to_disk" -ge 8192 ] && [ "$to_other" = 0 ]
}

start_multipath() {
    modprobe -a dm_multipath dm_service_time || die "a kernel module did not load"
    mkdir -p /etc/multipath /run/udev
    # udevadm would do nothing in a chroot, which this guest's root is.
    export SYSTEMD_IGNORE_CHROOT=1
    # Nothing of the machine below this guest is a path.
    cat >/etc/multipath.conf <<CONF
defaults {
    user_friendly_names yes
    find_multipaths no
    polling_interval 1
    max_polling_interval 1
}
overrides {
    path_grouping_policy group_by_prio
    prio alua
    path_checker tur
    failback immediate
    no_path_retry 60
}
multipaths {
    multipath {
        wwid $1
        alias unit
    }
}
CONF
    /lib/systemd/systemd-udevd --daemon || die "udevd does not start"
    udevadm trigger --action=add --subsystem-match=block
    udevadm settle --timeout=30
    multipathd -d >/run/multipathd.log 2>&1 &
    waited=0
    until [ -b /dev/mapper/unit ]; do
        [ "$waited" -lt 150 ] || {
            cat /run/multipathd.log
            multipath -v3 -d | tail -n 60
            die "no map of the two paths"
        }
        sleep 0.2
        waited=$((waited + 1))
    done
}

# is_active DISK: waits until the map sends what it gets to DISK, 10 s at most.
is_active() {
    major_minor=$(cat "/sys/block/$1/dev")
    waited=0
    # Of `dmsetup status`: groups with their state (A: in use), each with its paths.
    until dmsetup status unit | grep -q " A 0 1 2 $major_minor "; do
        [ "$waited" -lt 50 ] || return 1
        sleep 0.2
        waited=$((waited + 1))
    done
}

# writes_follow DISK OTHER SENDER GROUP STATE [GROUP STATE]: sets states through SENDER until the map
# uses DISK alone. The host sets states by itself when it changes groups, with what it knew of them
# before, and may do so right after us or in the middle of a write: then ours are said again.
writes_follow() {
    what="$4 $5 ${6:-} ${7:-}"
    to_disk=none
    to_other=none
    tries=0
    while :; do
        set_state "$3" "$4" "$5"
        [ $# -lt 7 ] || set_state "$3" "$6" "$7"
        is_active "$1" && writes_go_to "$1" "$2" && return
        tries=$((tries + 1))
        [ "$tries" -lt 6 ] || {
            dmsetup status unit
            multipathd show topology
            cat /run/multipathd.log
            die "states $what: of the last write $to_disk sectors went to $1 and $to_other to $2"
        }
    done
}

# set_state DISK GROUP STATE: optimized, nonoptimized or standby.
set_state() {
    case $3 in
    optimized) code=0 ;;
    nonoptimized) code=1 ;;
    standby) code=2 ;;
    esac
    need "group $2 to $3" sg_stpg --tp="$2" --state=$code "/dev/$1"
}

# The host may have set group 1 to something else meanwhile: then standby is said again.
refused_in_standby() {
    tries=0
    while try_write "$DISK_1" >/run/need.out 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 6 ] || die "a group in standby writes"
        set_state "$DISK_2" 1 standby
    done
    grep -Eqi "standby|not ready" /run/need.out || die "not for standby: $(cat /run/need.out)"
}

alua() {
    step "ALUA states and where writes go"
    need "report" sg_rtpg --decode "/dev/$DISK_1"
    equal "groups" "$(grep -c 'target port group id' /run/need.out)" 2
    writes_follow "$DISK_1" "$DISK_2" "$DISK_1" 1 optimized 2 nonoptimized
    writes_follow "$DISK_2" "$DISK_1" "$DISK_1" 2 optimized 1 nonoptimized
    writes_follow "$DISK_2" "$DISK_1" "$DISK_2" 1 standby
    refused_in_standby

    step "the state changes under a load"
    dd if=/dev/zero of=/dev/mapper/unit bs=64k count=600 oflag=direct >/run/load.out 2>&1 &
    load=$!
    sleep 1
    set_state "$DISK_2" 1 optimized
    set_state "$DISK_2" 2 standby
    wait $load || die "writes failed while the groups changed: $(cat /run/load.out)"
    writes_follow "$DISK_1" "$DISK_2" "$DISK_1" 1 optimized 2 standby
    set_state "$DISK_1" 2 optimized
}

a_path_goes() {
    step "a path goes away under a load and comes back"
    dd if=/dev/urandom of=/run/pattern bs=$MIB count=16 2>/dev/null
    (while [ ! -e /run/stop-load ]; do
        dd if=/run/pattern of=/dev/mapper/unit bs=256k oflag=direct 2>/dev/null || exit 1
    done) &
    load=$!
    sleep 1
    logout "$VOL_4K" "$PORTAL_1"
    sleep 1
    login "$VOL_4K" "$PORTAL_1"
    DISK_1=${DEV##*/}
    touch /run/stop-load
    wait $load || die "writes failed while a path was away"
    need "read back" dd if=/dev/mapper/unit of=/run/back bs=$MIB count=16 iflag=direct
    need "all of it is there" cmp /run/pattern /run/back
}

stop_multipath() {
    multipathd shutdown >/dev/null 2>&1 || multipathd -k"shutdown" >/dev/null 2>&1
    sleep 1
    need "no map is left" dmsetup remove --retry unit
    pids=$(cat /run/udev/control.pid 2>/dev/null)
    udevadm control --exit
    [ -z "$pids" ] || true
}

# persist DISK ARGUMENT...: PERSISTENT RESERVE OUT.
persist() {
    disk=$1
    shift
    sg_persist --out "$@" "/dev/$disk"
}

# try_write DISK, try_read DISK: one block, past the block layer; READ(10) raw, as sg_dd does not say
# why it cannot read.
try_write() { sg_dd if=/run/data "of=/dev/$1" bs=4096 count=1 seek=8 blk_sgio=1; }
try_read() { sg_raw -r 4096 "/dev/$1" 28 00 00 00 00 08 00 00 01 00; }

# take_attention DISK: what the unit wants to say first.
take_attention() { sg_turs -n 3 "/dev/$1" >/dev/null 2>&1 || true; }

between_sessions() {
    step "reservations between two iSCSI sessions"
    need "register 1" persist "$DISK_1" --register --param-sark=$KEY_1
    need "register 2" persist "$DISK_2" --register --param-sark=$KEY_2
    need "keys" sg_persist --in --read-keys "/dev/$DISK_2"
    grep -q $KEY_1 /run/need.out && grep -q $KEY_2 /run/need.out ||
        die "keys are missing: $(cat /run/need.out)"
    # Write Exclusive: others read only, registered or not.
    need "reserve" persist "$DISK_1" --reserve --param-rk=$KEY_1 --prout-type=1
    take_attention "$DISK_2"
    refuse "write by another" "reservation conflict" try_write "$DISK_2"
    need "read by another" try_read "$DISK_2"
    need "write by the holder" try_write "$DISK_1"
    if bedplate; then
        need "full status" sg_persist --in --read-full-status "/dev/$DISK_2"
        grep -q "$INITIATOR" /run/need.out || die "no name of a holder: $(cat /run/need.out)"
        refuse "release with another's key" "reservation conflict" \
            persist "$DISK_2" --release --param-rk=$KEY_1 --prout-type=1
    fi
    need "preempt" persist "$DISK_2" --preempt --param-rk=$KEY_2 --param-sark=$KEY_1 --prout-type=1
    take_attention "$DISK_1"
    refuse "write by the preempted" "reservation conflict" try_write "$DISK_1"
    need "write by the new holder" try_write "$DISK_2"
    need "clear" persist "$DISK_2" --clear --param-rk=$KEY_2
    take_attention "$DISK_1"
    take_attention "$DISK_2"
    need "write by both" try_write "$DISK_1"
    need "write by both" try_write "$DISK_2"
}

nvme_writes() { nvme write "$1" -s 8 -c 0 -z 4096 -d /run/data; }
nvme_reads() { nvme read "$1" -s 8 -c 0 -z 4096 -d /run/got; }

between_protocols() {
    step "reservations between iSCSI and NVMe hosts"
    connect "$VOL_4K"
    NVME=$DEV
    need "report" nvme resv-report "$NVME" -n 1 --eds -o json
    # An iSCSI host holds, an NVMe host is kept out.
    need "register" persist "$DISK_1" --register --param-sark=$KEY_1
    need "reserve" persist "$DISK_1" --reserve --param-rk=$KEY_1 --prout-type=1
    refuse "write by NVMe" "reservation conflict" nvme_writes "$NVME"
    need "read by NVMe" nvme_reads "$NVME"
    need "report" nvme resv-report "$NVME" -n 1 --eds -o json
    cp /run/need.out /run/report
    [ "$(sed -n 's/.*"rtype" *: *\([0-9]*\).*/\1/p' /run/report | head -n 1)" = 1 ] ||
        die "NVMe does not see a Write Exclusive reservation: $(cat /run/report)"
    # It registers, preempts, and keeps the iSCSI hosts out.
    need "register by NVMe" nvme resv-register "$NVME" -n 1 --nrkey=$KEY_NVME --rrega=0
    need "keys" sg_persist --in --read-keys "/dev/$DISK_2"
    grep -q $KEY_NVME /run/need.out || die "SCSI does not see the key: $(cat /run/need.out)"
    need "preempt by NVMe" nvme resv-acquire "$NVME" -n 1 --crkey=$KEY_NVME --prkey=$KEY_1 \
        --rtype=2 --racqa=1
    take_attention "$DISK_1"
    take_attention "$DISK_2"
    refuse "write by iSCSI" "reservation conflict" try_write "$DISK_1"
    refuse "read by iSCSI" "reservation conflict" try_read "$DISK_2"
    need "write by NVMe" nvme_writes "$NVME"
    need "reservation" sg_persist --in --read-reservation "/dev/$DISK_2"
    grep -qi 'exclusive access' /run/need.out || die "no reservation: $(cat /run/need.out)"
    # An iSCSI host clears away what the NVMe host left.
    need "register again" persist "$DISK_2" --register-ignore --param-sark=$KEY_2
    need "clear" persist "$DISK_2" --clear --param-rk=$KEY_2
    take_attention "$DISK_1"
    take_attention "$DISK_2"
    need "write by NVMe" nvme_writes "$NVME"
    need "write by iSCSI" try_write "$DISK_1"
    disconnect
}

persisted() {
    step "reservations over a restart of the target"
    need "register" persist "$DISK_1" --register --param-aptpl --param-sark=$KEY_1
    need "reserve" persist "$DISK_1" --reserve --param-rk=$KEY_1 --prout-type=3
    mark restart
    await_host restarted 60
    # Both sessions recover by themselves.
    for disk in "$DISK_1" "$DISK_2"; do
        take_attention "$disk"
        take_attention "$disk"
    done
    need "write by the holder" try_write "$DISK_1"
    refuse "read by another" "reservation conflict" try_read "$DISK_2"
    need "clear" persist "$DISK_1" --clear --param-rk=$KEY_1
    take_attention "$DISK_2"
    need "write by both" try_write "$DISK_2"
}

start_iscsi
# Before the first disk, so that it is attached to it.
modprobe -a scsi_dh_alua nvme-core nvme-fabrics nvme-tcp || die "a kernel module did not load"
mkdir -p /etc/nvme
echo "$HOST_NQN" >/etc/nvme/hostnqn
echo "$HOST_ID" >/etc/nvme/hostid
random_file /run/data $((4 * MIB))

step "two sessions"
record "$VOL_4K" "$PORTAL_1"
record "$VOL_4K" "$PORTAL_2"
login "$VOL_4K" "$PORTAL_1"
DISK_1=${DEV##*/}
login "$VOL_4K" "$PORTAL_2"
DISK_2=${DEV##*/}
WWID=$(sg_inq --id "/dev/$DISK_1" >/dev/null 2>&1; /lib/udev/scsi_id --whitelisted "/dev/$DISK_1")
equal "identity by both paths" "$(/lib/udev/scsi_id --whitelisted "/dev/$DISK_2")" "$WWID"
step "one map over both"
start_multipath "$WWID"
if bedplate; then alua; fi
a_path_goes
stop_multipath
between_sessions
if bedplate; then
    between_protocols
    persisted
fi
logout "$VOL_4K" "$PORTAL_1"
logout "$VOL_4K" "$PORTAL_2"
step "done"

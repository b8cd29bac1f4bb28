# Shared by the guest scripts. Source it first: `. "$(dirname "$0")/lib.sh"`.
#
# Arguments NAME=VALUE of the script become variables. What the scripts use:
#   TARGET        bedplate (on the machine, behind 10.0.2.2; with RDMA in this guest) or nvmet (the
#                 kernel's own target in this guest: a developer's aid that tells a wrong script from
#                 a wrong target)
#   TRANSPORT     tcp, or rdma: see rdma-lib.sh
#   PORT          TCP port of the target
#   VOL_4K VOL_512 VOL_CLOSED VOL_COPY   names of volumes: 4096 and 512 byte blocks, one that lists
#                 another host only, and one more of 4096 byte blocks to copy to
#   VOL_BYTES     size of each of them
#
# Words to the host, one line each on the console:
#   BEDPLATE-VM: step TEXT     what is being done, for the log
#   BEDPLATE-VM: mark NAME     the host may act now (kill, restart, look at results, ...)
#   BEDPLATE-VM: fail TEXT     the script gives up; details follow
#   BEDPLATE-VM: exit CODE     printed by init, last
# The host answers with lines that become files: NAME makes /run/host/NAME (see await_host).

for argument; do
    case $argument in
    *=*) export "${argument%%=*}=${argument#*=}" ;;
    esac
done

TARGET=${TARGET:-bedplate}
TRANSPORT=${TRANSPORT:-tcp}
# Options of "connect" that ask for digests. RDMA has none: every packet has a checksum there.
HEADER_DIGEST=-g
DATA_DIGEST=-G
[ "$TRANSPORT" = tcp ] || HEADER_DIGEST='' DATA_DIGEST=''
NQN_PREFIX=nqn.2026-11.io.bedplate:
HOST_NQN=nqn.2014-08.org.nvmexpress:uuid:0e5bd1a4-5a0c-4d53-9ee7-3c1d2b8f7a10
HOST_ID=0e5bd1a4-5a0c-4d53-9ee7-3c1d2b8f7a10
# Not /mnt: the repository itself may lie there.
MNT=/run/mnt
GUEST_DIR=$(cd "$(dirname "$0")" && pwd)

say() { echo "BEDPLATE-VM: $*"; }
step() { say "step $* (at $(cut -d' ' -f1 /proc/uptime) s)"; }
mark() { say "mark $*"; }

# Ends the run, with what a person needs to find out why.
die() {
    say "fail $*"
    echo "--- controllers"
    for controller in /sys/class/nvme/nvme*; do
        [ -e "$controller/state" ] || continue
        echo "$controller $(cat "$controller/subsysnqn") $(cat "$controller/state")"
    done
    for session in /sys/class/iscsi_session/session*; do
        [ -e "$session/state" ] || continue
        echo "${session##*/} $(cat "$session/targetname") $(cat "$session/state")"
    done
    tail -n 20 /run/iscsid.log 2>/dev/null
    echo "--- the kernel's last words"
    dmesg | tail -n 40
    exit 1
}

# need WHAT COMMAND...: the command must succeed; its output is shown only when it does not. What runs
# in the background sets NEED_OUT, to leave this one alone.
NEED_OUT=/run/need.out
need() {
    what=$1
    shift
    if ! "$@" >"$NEED_OUT" 2>&1; then
        cat "$NEED_OUT"
        die "$what: '$*' did not succeed"
    fi
}

# refuse WHAT PATTERN COMMAND...: the command must fail and say PATTERN (an extended regex).
refuse() {
    what=$1
    pattern=$2
    shift 2
    if "$@" >/run/need.out 2>&1; then
        cat /run/need.out
        die "$what: '$*' succeeded and must not"
    fi
    if ! grep -Eqi "$pattern" /run/need.out; then
        cat /run/need.out
        die "$what: '$*' failed, but not with /$pattern/"
    fi
}

# equal WHAT ACTUAL EXPECTED
equal() {
    [ "$2" = "$3" ] || die "$1 is '$2' and must be '$3'"
}

# at_least WHAT ACTUAL MINIMUM: decimal or 0x numbers.
at_least() {
    [ "$(($2))" -ge "$(($3))" ] || die "$1 is $2 and must be at least $3"
}

# bits WHAT ACTUAL WANTED: every bit of WANTED must be set.
bits() {
    [ "$(($2 & $3))" -eq "$(($3))" ] || die "$1 is $2 and must have the bits $3"
}

# Turns lines from the host into files below /run/host, and ends and starts a target in this guest
# when told so. Runs in the background.
listen_to_host() {
    mkdir -p /run/host
    while read -r line </dev/ttyS0; do
        case $line in
        "target-crash "*) target_crash "${line#* }" && mark target-back ;;
        target-restart) target_restart && mark target-back ;;
        "") ;;
        *) touch "/run/host/$line" ;;
        esac
    done
}

# await_host NAME SECONDS: until the host has sent NAME.
await_host() {
    waited=0
    while [ ! -e "/run/host/$1" ]; do
        [ "$waited" -lt $(($2 * 5)) ] || die "the host did not send '$1' within $2 s"
        sleep 0.2
        waited=$((waited + 1))
    done
}

# For every target in this guest: with huge pages in fio's buffers, host and target on one loopback
# trip over the kernel's own check of copies (usercopy_abort below nvmet_tcp_io_work and below
# tcp_recvmsg, seen on 6.1).
no_huge_pages() { echo never >/sys/kernel/mm/transparent_hugepage/enabled; }

# target_crash MILLISECONDS, target_restart: what inside.sh replaces for ours. A target of the kernel
# does not die alone.
target_crash() { nvmet_bounce; }
target_restart() { nvmet_bounce; }

# What every script needs of the host side: modules and the host's own name.
start_host() {
    mkdir -p /run/host /etc/nvme "$MNT"
    echo "$HOST_NQN" >/etc/nvme/hostnqn
    echo "$HOST_ID" >/etc/nvme/hostid
    modprobe -a nvme-core nvme-fabrics nvme-tcp ext4 xfs || die "a kernel module did not load"
    # shellcheck disable=SC1091
    . "$GUEST_DIR/nvmet.sh"
}

start() {
    start_host
    case $TRANSPORT.$TARGET in
    tcp.bedplate) ADDRESS=10.0.2.2 ;;
    tcp.nvmet)
        ADDRESS=127.0.0.1
        PORT=4420
        nvmet_start
        ;;
    rdma.*)
        # shellcheck disable=SC1091
        . "$GUEST_DIR/rdma-lib.sh"
        rdma_start
        ;;
    *) die "TRANSPORT is '$TRANSPORT' and TARGET '$TARGET'" ;;
    esac
    listen_to_host &
}

# The last step of a script.
finish() {
    [ "$TRANSPORT" = tcp ] || rdma_end
    step "done"
}

# The block device of the subsystem $1, or nothing. Not /dev/nvmeXnY by guess: Y is not the NSID on
# newer kernels, and with native multipath the per-path disks (nvmeXcYnZ) are hidden.
device_of() {
    for block in /sys/block/nvme*n*; do
        case ${block##*/} in
        nvme*c*n*) continue ;;
        esac
        [ "$(cat "$block/device/subsysnqn" 2>/dev/null)" = "$1" ] || continue
        [ -b "/dev/${block##*/}" ] && echo "/dev/${block##*/}" && return
    done
}

# The controller of the subsystem $1, such as nvme0, or nothing.
controller_of() {
    for controller in /sys/class/nvme/nvme*; do
        [ "$(cat "$controller/subsysnqn" 2>/dev/null)" = "$1" ] || continue
        echo "${controller##*/}" && return
    done
}

# connect VOLUME [OPTION...]: sets NQN, DEV (its block device) and CTRL (its controller).
connect() {
    NQN=$NQN_PREFIX$1
    shift
    need "connect" nvme connect -t "$TRANSPORT" -a "$ADDRESS" -s "$PORT" -n "$NQN" "$@"
    waited=0
    DEV=$(device_of "$NQN")
    while [ -z "$DEV" ]; do
        [ "$waited" -lt 100 ] || die "no block device for $NQN within 10 s of the connect"
        sleep 0.1
        waited=$((waited + 1))
        DEV=$(device_of "$NQN")
    done
    CTRL=$(controller_of "$NQN")
}

disconnect() {
    need "disconnect" nvme disconnect -n "$NQN"
    [ -z "$(controller_of "$NQN")" ] || die "a controller of $NQN is left after the disconnect"
}

# await_live SECONDS: until the controller of $NQN has reconnected.
await_live() {
    waited=0
    while [ "$(cat "/sys/class/nvme/$CTRL/state" 2>/dev/null)" != live ]; do
        [ "$waited" -lt $(($1 * 5)) ] || die "$CTRL is not live after $1 s"
        sleep 0.2
        waited=$((waited + 1))
    done
}

# How often the host lost a controller so far. A healthy target never causes one.
recoveries() {
    dmesg | grep -cE 'starting error recovery|keep.?alive.*(failed|fail)|timeout, aborting' || true
}

# random_file PATH BYTES
random_file() { head -c "$2" /dev/urandom >"$1" || die "cannot write $1"; }

# raw_read FROM_BYTE BYTES PATH: off the device, past the page cache. Offsets are whole blocks.
raw_read() {
    need "direct read" dd if="$DEV" of="$3" bs=4096 iflag=direct,skip_bytes,count_bytes \
        skip="$1" count="$2"
}

# zeros FROM_BYTE BYTES: that range of the device must read as zeros.
zeros() {
    raw_read "$1" "$2" /run/zeros.got
    need "bytes $1+$2 read as zeros" cmp -n "$2" /run/zeros.got /dev/zero
}

# Soft RoCE for the guest scripts, with TRANSPORT=rdma. lib.sh sources it.
#
# Only this guest's kernel has RDMA, so the target is in here as well, on a virtio disk of its own.
# Host and target share one link: a packet for the own address does not leave it, but every verb,
# the connection manager and the wire format are those of two machines.
#
# Arguments beside those of lib.sh and inside.sh:
#   MTU     of the network below; 9000 makes RoCE packets of 4096 bytes, 1500 of 1024
#   CORES   [reactor] cores of bedplate, with commas between them
#   IPV6    yes: there is RDMA by IPv6 as well
#   QUEUE_DEPTH RECEIVES   [nvme_rdma] queue_depth and receive_entries, if not the defaults
# shellcheck disable=SC1091
. "$GUEST_DIR/inside.sh"

RDMA_LINK=rxe0
RDMA_ADDRESS=10.9.0.1
RDMA_ADDRESS6=fd09::1
# The same number for both: RDMA's ports are not TCP's.
PORT=4420
TCP_PORT=4420
# The one host that may use VOL_CLOSED.
OTHER_HOST_NQN=nqn.2014-08.org.nvmexpress:uuid:11111111-2222-4333-8444-555555555555

rdma_start() {
    ADDRESS=$RDMA_ADDRESS
    start_inside
    rdma_link
    case $TARGET in
    bedplate)
        rdma_configuration >"$RESULTS/bedplate.toml"
        need "pool" "$BEDPLATE" pool create --name main "$(disk_of pool)"
        serve "$RESULTS/bedplate.toml" "$RESULTS/bedplate.log"
        target_crash() { kill_for "$1"; }
        target_restart() { serve_no_more && serve "$SERVE_CONFIGURATION" "$SERVE_LOG"; }
        ;;
    nvmet)
        modprobe nvmet-rdma || die "this kernel has no nvmet-rdma"
        nvmet_volumes
        nvmet_port 1 tcp "$ADDRESS" "$TCP_PORT"
        nvmet_port 2 rdma "$ADDRESS" "$PORT"
        nvmet_open
        ;;
    esac
}

# A network of one cable, and an RDMA link on it.
rdma_link() {
    modprobe -a crc32_generic veth rdma_rxe rdma_ucm nvme-rdma ||
        die "a kernel module of RDMA did not load"
    need "cable" ip link add veth0 mtu "${MTU:-9000}" type veth peer name veth1 mtu "${MTU:-9000}"
    need "address" ip addr add "$RDMA_ADDRESS/24" dev veth0
    need "veth0 up" ip link set veth0 up
    need "veth1 up" ip link set veth1 up
    [ "${IPV6:-no}" = no ] ||
        need "IPv6 address" ip -6 addr add "$RDMA_ADDRESS6/64" dev veth0 nodad
    need "rdma link" rdma link add "$RDMA_LINK" type rxe netdev veth0
    waited=0
    until rdma link show "$RDMA_LINK/1" | grep -q 'state ACTIVE' && roce_v2_gids; do
        if [ "$waited" -ge 50 ]; then
            rdma link show
            die "$RDMA_LINK has no active port with an address"
        fi
        sleep 0.1
        waited=$((waited + 1))
    done
    for node in uverbs0 rdma_cm; do
        [ -c "/dev/infiniband/$node" ] || die "there is no /dev/infiniband/$node"
    done
}

# Whether each of our addresses is a GID of the link, in RoCE v2.
roce_v2_gids() {
    port=/sys/class/infiniband/$RDMA_LINK/ports/1
    wanted=1
    [ "${IPV6:-no}" = no ] || wanted=2
    for gid in "$port"/gids/*; do
        case $(cat "$gid").$(cat "$port/gid_attrs/types/${gid##*/}" 2>/dev/null) in
        0000:0000:0000:0000:0000:ffff:0a09:0001."RoCE v2" | \
            fd09:0000:0000:0000:0000:0000:0000:0001."RoCE v2") wanted=$((wanted - 1)) ;;
        esac
        # There are a thousand places, and ours are among the first.
        [ "$wanted" -gt 0 ] || return 0
    done
    return 1
}

rdma_configuration() {
    printf '[reactor]\ncores = [%s]\n' "${CORES:-0}"
    printf '[[pool]]\nname = "main"\npath = "%s"\n' "$(disk_of pool)"
    rdma_volume "$VOL_4K" 4096
    rdma_volume "$VOL_512" 512
    rdma_volume "$VOL_CLOSED" 4096
    printf 'allow_hosts = ["%s"]\n' "$OTHER_HOST_NQN"
    printf '[nvme_tcp]\nlisten = ["%s:%s"]\n' "$RDMA_ADDRESS" "$TCP_PORT"
    also=
    [ "${IPV6:-no}" = no ] || also=", \"[$RDMA_ADDRESS6]:$PORT\""
    printf '[nvme_rdma]\nlisten = ["%s:%s"%s]\n' "$RDMA_ADDRESS" "$PORT" "$also"
    [ -z "$QUEUE_DEPTH" ] || echo "queue_depth = $QUEUE_DEPTH"
    [ -z "$RECEIVES" ] || echo "receive_entries = $RECEIVES"
    printf '[control]\nsocket = "%s"\n' "$CONTROL_SOCKET"
}

# rdma_volume NAME BLOCK_BYTES
rdma_volume() {
    printf '[[volume]]\nname = "%s"\npool = "main"\nsize = "%sMiB"\nblock_size = %s\n' \
        "$1" $((VOL_BYTES >> 20)) "$2"
}

# The last word of a script: the target ends in order and leaves a pool without a fault. Nothing of
# RDMA may be left of it.
rdma_end() {
    [ "$TARGET" = bedplate ] || return 0
    serve_no_more
    equal "RDMA objects of programs when none runs" "$(owned_by ' pid [0-9]+ ')" "$NOTHING"
    need "fsck" "$BEDPLATE" fsck "$(disk_of pool)"
    if grep -E ' ERROR |panicked' "$SERVE_LOG"; then
        die "bedplate wrote of errors"
    fi
}

# card_counter NAME: what the card has counted of both ends, such as rcvd_rnr_err: messages that found
# no receive and came again.
card_counter() { cat "/sys/class/infiniband/$RDMA_LINK/ports/1/hw_counters/$1"; }

# How many objects of each kind the target has in the kernel, on one line.
resources() {
    if [ "$TARGET" = bedplate ]; then
        # The kernel names the thread that made an object, and not its process.
        threads=$(ls "/proc/$(cat /run/bedplate.pid)/task" | tr '\n' '|')
        owned_by " pid (${threads%|}) "
    else
        owned_by ' comm \[nvmet_rdma\]'
    fi
}

# owned_by PATTERN: the same of the owners that match, an extended regex.
NOTHING="pd=0 cq=0 mr=0 qp=0 cm_id=0 srq=0"
owned_by() {
    line=
    for kind in pd cq mr qp cm_id srq; do
        count=$(rdma resource show "$kind" | sed 's/$/ /' | grep -Ec "$1")
        line="$line${line:+ }$kind=$count"
    done
    echo "$line"
}

# Descriptors that our process has open.
descriptors() {
    [ "$TARGET" = bedplate ] || { echo 0 && return; }
    find "/proc/$(cat /run/bedplate.pid)/fd" -type l | wc -l
}

# await_equal WHAT EXPECTED SECONDS COMMAND...: until the command prints just that.
await_equal() {
    what=$1
    expected=$2
    tries=$(($3 * 5))
    shift 3
    until [ "$("$@")" = "$expected" ]; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || die "$what is '$("$@")' and must be '$expected'"
        sleep 0.2
    done
}

# attach TRANSPORT VOLUME [OPTION...]: a controller of its own, beside others of the same volume. Sets
# CTRL; its block device is device_by of it where paths are not joined.
attach() {
    case $1 in
    rdma) number=$PORT ;;
    tcp) number=$TCP_PORT ;;
    esac
    transport=$1
    NQN=$NQN_PREFIX$2
    shift 2
    need "connect by $transport" nvme connect -t "$transport" -a "$ADDRESS" -s "$number" \
        -n "$NQN" -o json "$@"
    CTRL=$(sed -n 's/.*"device" *: *"\(nvme[0-9]*\)".*/\1/p' /run/need.out)
    [ -n "$CTRL" ] || die "nvme connect does not name a controller: $(cat /run/need.out)"
    equal "transport of $CTRL" "$(cat "/sys/class/nvme/$CTRL/transport")" "$transport"
}

# detach CONTROLLER
detach() {
    need "disconnect $1" nvme disconnect -d "$1"
    [ ! -e "/sys/class/nvme/$1" ] || die "$1 is left after its disconnect"
}

#!/bin/sh
# Every nvme-cli command a person would try on a new volume, both file systems, and what must still
# be there after a reconnect and after a clean restart of the target.
. "$(dirname "$0")/lib.sh"

MIB=1048576
bedplate() { [ "$TARGET" = bedplate ]; }
BEYOND='LBA Out of Range'
# nvmet passes on whatever the device below it says.
bedplate || BEYOND=.

# ctrl_field NAME / ns_field NAME: one value of Identify, as nvme-cli prints it.
ctrl_field() { nvme id-ctrl "$DEV" | sed -n "s/^$1 *: *//p" | sed 's/ *$//'; }
ns_field() { nvme id-ns "$DEV" | sed -n "s/^$1 *: *//p"; }

# effects_of OPCODE: its entry in the Commands Supported and Effects log. Read raw, because nvme-cli
# 2.3 prints nothing where it cannot tell the command set. I/O commands begin at byte 1024.
effects_of() {
    nvme get-log "/dev/$CTRL" -i 5 -l 4096 -b | od -An -tu4 -j $((1024 + 4 * $1)) -N 4 | tr -d ' '
}

discovery() {
    step "nvme discover"
    need "discover" nvme discover -t "$TRANSPORT" -a "$ADDRESS" -s "$PORT"
    cp /run/need.out /run/discovered
    for volume in "$VOL_4K" "$VOL_512"; do
        grep -q "subnqn: *$NQN_PREFIX$volume\$" /run/discovered ||
            die "discovery does not list $volume: $(cat /run/discovered)"
    done
    grep -q "subnqn: *$NQN_PREFIX$VOL_CLOSED\$" /run/discovered &&
        die "discovery shows $VOL_CLOSED to a host that may not use it"
    grep -q "trsvcid: *$PORT\$" /run/discovered || die "discovery does not name port $PORT"
    [ "$TRANSPORT" = tcp ] || both_transports
}

# What the log says of each entry, on one line: transport, address, port, subsystem and, of RDMA, how
# queue pairs are connected.
entries() {
    awk '
        { key = $1; value = $0; sub(/^[^:]*: */, "", value); sub(/ *$/, "", value) }
        key ~ /^trtype/ { type = value }
        key ~ /^trsvcid/ { port = value }
        key ~ /^subnqn/ { name = value }
        key ~ /^traddr/ { entry[++count] = type " " value " " port " " name }
        key ~ /^rdma_(qptype|cms)/ { entry[count] = entry[count] " " value }
        END { for (number = 1; number <= count; number++) print entry[number] }
    ' "$1"
}

# With RDMA either transport tells of both.
both_transports() {
    need "discover by TCP" nvme discover -t tcp -a "$ADDRESS" -s "$TCP_PORT"
    # nvmet tells of the port that was asked, and of no other.
    bedplate || return 0
    for log in /run/discovered /run/need.out; do
        entries "$log" >/run/entries
        for volume in "$VOL_4K" "$VOL_512"; do
            for entry in "tcp $ADDRESS $TCP_PORT $NQN_PREFIX$volume" \
                "rdma $ADDRESS $PORT $NQN_PREFIX$volume connected rdma-cm"; do
                grep -qx "$entry" /run/entries || die "no entry '$entry' in: $(cat "$log")"
            done
        done
    done
}

refusals() {
    step "connects that must be refused"
    # The kernel writes the reason to its log only; nvme-cli reports the errno of the connect.
    refuse "unknown subsystem" "failed|could not|error" \
        nvme connect -t "$TRANSPORT" -a "$ADDRESS" -s "$PORT" -n "${NQN_PREFIX}no-such-volume"
    refuse "host not on the list" "failed|could not|error" \
        nvme connect -t "$TRANSPORT" -a "$ADDRESS" -s "$PORT" -n "$NQN_PREFIX$VOL_CLOSED"
    dmesg | grep -q 'Connect for subsystem .* is not allowed' ||
        die "the refusal was not Connect Invalid Host"
}

controller_identity() {
    step "Identify Controller and the controller's logs and features"
    equal "subnqn" "$(ctrl_field subnqn)" "$NQN"
    [ -n "$(ctrl_field sn)" ] || die "the serial number is empty"
    [ -n "$(ctrl_field mn)" ] || die "the model number is empty"
    mdts=$(ctrl_field mdts)
    # In units of the smallest page (4 KiB); 0 means no limit.
    [ "$mdts" -eq 0 ] || at_least "mdts" "$mdts" 8
    bits "oncs (Dataset Management, Write Zeroes)" "$(ctrl_field oncs)" 0xc
    # Required to be 66h for the NVM command set: entries of 64 and 16 bytes.
    equal "sqes" "$(ctrl_field sqes)" 0x66
    equal "cqes" "$(ctrl_field cqes)" 0x44
    at_least "ver" "$(ctrl_field ver)" 0x10300
    if [ "$TRANSPORT" = rdma ]; then
        bits "sgls (keyed data blocks, offsets into the capsule)" "$(ctrl_field sgls)" 0x100004
        at_least "ioccsz (a command and some data)" "$(ctrl_field ioccsz)" 5
        equal "icdoff" "$(ctrl_field icdoff)" 0
    fi
    if bedplate; then
        bits "oncs (Compare, Verify)" "$(ctrl_field oncs)" 0x81
        bits "fuses (Compare and Write)" "$(ctrl_field fuses)" 0x1
        at_least "ver" "$(ctrl_field ver)" 0x20000
        case $(ctrl_field vwc) in
        0 | 0x[0-7]) ;;
        *) die "vwc is '$(ctrl_field vwc)'" ;;
        esac
    fi
    for log in smart-log error-log effects-log changed-ns-list-log; do
        need "$log" nvme $log "/dev/$CTRL"
    done
    if bedplate; then
        # nvmet has no such logs.
        need "fw-log" nvme fw-log "/dev/$CTRL"
        need "supported-log-pages" nvme supported-log-pages "/dev/$CTRL"
        # Flush, Write, Read, Compare, Write Zeroes, Dataset Management, Verify.
        for opcode in 0 1 2 5 8 9 12; do
            bits "effects of I/O opcode $opcode (supported)" "$(effects_of $opcode)" 1
        done
        equal "fw-log slot 1" "$(nvme fw-log "/dev/$CTRL" | grep -c frs1)" 1
    fi
    nvme smart-log "/dev/$CTRL" | grep -Eq '^critical_warning[[:space:]]*: *0$' ||
        die "SMART reports a critical warning: $(nvme smart-log "/dev/$CTRL")"
    # Number of Queues, Async Event Configuration, Keep Alive Timer.
    for feature in 0x07 0x0b 0x0f; do
        need "get-feature $feature" nvme get-feature "/dev/$CTRL" -f $feature
    done
    # CAP, VS, CC, CSTS one by one: show-regs of nvme-cli 2.3 asks for more than fabrics have.
    for property in 0x0 0x8 0x14 0x1c; do
        need "get-property $property" nvme get-property "/dev/$CTRL" -o $property
    done
    grep -Eq 'value: *1$' /run/need.out ||
        die "CSTS is not ready and nothing else: $(cat /run/need.out)"
}

# namespace_identity LBADS: checks it, and prints what must never change.
namespace_identity() {
    step "Identify Namespace"
    need "id-ns" nvme id-ns "$DEV"
    need "list" nvme list
    grep -q "^$DEV " /run/need.out || die "nvme list does not show $DEV"
    equal "list-ns" "$(nvme list-ns "/dev/$CTRL" | sed 's/.*://' | tr -d ' \n')" 0x1
    equal "size" "$(blockdev --getsize64 "$DEV")" "$VOL_BYTES"
    equal "nsze" "$(($(ns_field nsze)))" $((VOL_BYTES >> $1))
    equal "logical block" "$(blockdev --getss "$DEV")" $((1 << $1))
    nvme id-ns "$DEV" | grep -q "lbads:$1 .*in use" || die "the format in use is not lbads:$1"
    bedplate && bits "dlfeat (deallocated blocks read as zeros)" "$(ns_field dlfeat)" 1
    need "ns-descs" nvme ns-descs "$DEV"
    grep -Eq '^uuid *: *[0-9a-f-]{36}' /run/need.out || die "no UUID: $(cat /run/need.out)"
    at_least "max_hw_sectors_kb" "$(cat "/sys/block/${DEV##*/}/queue/max_hw_sectors_kb")" 1024
}

# What a Linux host compares over a reconnect, on one line.
identifiers() {
    echo "$(cat "/sys/block/${DEV##*/}/uuid") $(cat "/sys/block/${DEV##*/}/nguid")" \
        "$(cat "/sys/block/${DEV##*/}/wwid") $(ctrl_field sn) $(ctrl_field mn)"
}

# nvme_read WHAT OPTION...: into /run/got, which nvme-cli would not shorten if it were there.
nvme_read() {
    rm -f /run/got
    reading=$1
    shift
    need "$reading" nvme read "$DEV" "$@" -d /run/got
}

# Commands that the block layer does not send, or not in this form. Blocks of 4096 bytes.
commands() {
    step "single commands: write, read, flush, compare, verify, write-zeroes, dsm"
    random_file /run/a 32768
    random_file /run/b 32768
    need "write" nvme write "$DEV" -s 16 -c 7 -z 32768 -d /run/a
    nvme_read "read" -s 16 -c 7 -z 32768
    need "read what was written" cmp /run/a /run/got
    need "write with FUA" nvme write "$DEV" -s 24 -c 7 -z 32768 -d /run/b -f
    raw_read $((24 * 4096)) 32768 /run/got
    need "read what was written with FUA" cmp /run/b /run/got
    need "flush" nvme flush "$DEV" -n 1
    refuse "read beyond the end" "$BEYOND" \
        nvme read "$DEV" -s $((VOL_BYTES / 4096 - 4)) -c 7 -z 32768 -d /run/got
    refuse "write beyond the end" "$BEYOND" \
        nvme write "$DEV" -s $((VOL_BYTES / 4096)) -c 7 -z 32768 -d /run/a
    if bedplate; then
        need "compare, equal" nvme compare "$DEV" -s 16 -c 7 -z 32768 -d /run/a
        refuse "compare, different" 'Compare Failure' \
            nvme compare "$DEV" -s 16 -c 7 -z 32768 -d /run/b
        need "verify" nvme verify "$DEV" -s 16 -c 15
    fi
    need "write-zeroes" nvme write-zeroes "$DEV" -s 18 -c 1
    zeros $((18 * 4096)) 8192
    need "write-zeroes with deallocate" nvme write-zeroes "$DEV" -s 24 -c 3 -d
    zeros $((24 * 4096)) 16384
    need "dsm deallocate" nvme dsm "$DEV" -d -s 20,28 -b 2,2
    if bedplate; then
        zeros $((20 * 4096)) 8192
        zeros $((28 * 4096)) 8192
    fi
    neighbours
}

# The ranges around the zeroed and deallocated ones must be as they were.
neighbours() {
    raw_read $((16 * 4096)) 65536 /run/got
    for block in 0 1 6 7; do
        need "block $((16 + block)) is untouched" cmp -n 4096 -i $((block * 4096)) /run/a /run/got
    done
    for block in 6 7; do
        need "block $((24 + block)) is untouched" \
            cmp -n 4096 -i $((block * 4096)):$(((8 + block) * 4096)) /run/b /run/got
    done
}

large_transfers() {
    step "transfers of 1 MiB"
    random_file /run/large $((8 * MIB))
    need "write of 1 MiB in one command" nvme write "$DEV" -s 256 -c 255 -z $MIB -d /run/large
    nvme_read "read of 1 MiB in one command" -s 256 -c 255 -z $MIB
    need "1 MiB is what was written" cmp -n $MIB /run/large /run/got
    need "8 MiB direct" dd if=/run/large of="$DEV" bs=1M oflag=direct seek=32 conv=fsync
    raw_read $((32 * MIB)) $((8 * MIB)) /run/got
    need "8 MiB is what was written" cmp /run/large /run/got
    rm -f /run/got
}

# file_system TYPE: mkfs, files, trim, unmount, check.
file_system() {
    step "mkfs.$1, files, fstrim, fsck"
    case $1 in
    ext4) need "mkfs.ext4" mkfs.ext4 -q -F "$DEV" ;;
    xfs) need "mkfs.xfs" mkfs.xfs -q -f "$DEV" ;;
    esac
    need "mount $1" mount -t "$1" "$DEV" "$MNT"
    write_tree "$MNT/kept"
    write_tree "$MNT/deleted"
    rm -rf "$MNT/deleted"
    need "syncfs" sync -f "$MNT"
    need "fstrim" fstrim -v "$MNT"
    trimmed=$(sed -n 's/.*(\([0-9]*\) bytes).*/\1/p' /run/need.out)
    at_least "bytes given back by fstrim" "$trimmed" $((VOL_BYTES / 2))
    need "umount" umount "$MNT"
    check_file_system "$1"
    need "mount $1 again" mount -t "$1" "$DEV" "$MNT"
    check_tree "$MNT/kept"
    need "umount" umount "$MNT"
}

check_file_system() {
    case $1 in
    ext4) need "fsck.ext4" fsck.ext4 -f -n "$DEV" ;;
    xfs) need "xfs_repair" xfs_repair -n "$DEV" ;;
    esac
}

# write_tree FOLDER: small and larger files, and their hashes.
write_tree() {
    mkdir -p "$1/small"
    random_file "$1/large" $((6 * MIB))
    number=0
    while [ $number -lt 40 ]; do
        random_file "$1/small/$number" $((number * 997 + 1))
        number=$((number + 1))
    done
    (cd "$1" && find large small -type f -exec sha256sum {} + >/run/sums && cp /run/sums sums) ||
        die "cannot hash the files in $1"
    need "syncfs" sync -f "$1"
}

check_tree() { need "file contents" env -C "$1" sha256sum -c --quiet sums; }

# Odd ranges on 512-byte blocks, checked against a file that got the same writes.
small_blocks() {
    step "512-byte blocks"
    random_file /run/model $((2 * MIB))
    need "first content" dd if=/run/model of="$DEV" bs=64k oflag=direct
    for range in "1 1" "7 2" "8 8" "13 100" "511 3" "1000 1025" "4095 1"; do
        first=${range% *}
        count=${range#* }
        random_file /run/piece $((count * 512))
        dd if=/run/piece of=/run/model bs=512 seek="$first" conv=notrunc 2>/dev/null
        need "write of $count blocks at $first" \
            dd if=/run/piece of="$DEV" bs=$((count * 512)) count=1 oflag=direct,seek_bytes \
            seek=$((first * 512))
    done
    need "write-zeroes of 3 small blocks" nvme write-zeroes "$DEV" -s 2001 -c 2
    dd if=/dev/zero of=/run/model bs=512 seek=2001 count=3 conv=notrunc 2>/dev/null
    raw_read 0 $((2 * MIB)) /run/got
    need "small blocks are what was written" cmp /run/model /run/got
}

# variant [OPTION...]: connects with the options, moves data both ways, disconnects.
variant() {
    step "connect $*"
    connect "$VOL_4K" "$@"
    raw_read $((32 * MIB)) $((8 * MIB)) /run/got
    need "an earlier connection's data" cmp /run/large /run/got
    need "new data" dd if=/run/large of="$DEV" bs=256k count=16 oflag=direct seek=256
    raw_read $((64 * MIB)) $((4 * MIB)) /run/got
    need "data of this connection" cmp -n $((4 * MIB)) /run/large /run/got
    need "single blocks" dd if=/run/large of="$DEV" bs=4k count=64 oflag=direct seek=25600
    raw_read $((100 * MIB)) 262144 /run/got
    need "single blocks of this connection" cmp -n 262144 /run/large /run/got
}

clean_restart() {
    step "clean restart of the target under a mounted file system"
    connect "$VOL_4K" --ctrl-loss-tmo=120 --reconnect-delay=1
    before=$(identifiers)
    need "mount" mount -t xfs "$DEV" "$MNT"
    check_tree "$MNT/kept"
    mark restart
    await_host restarted 60
    await_live 60
    equal "identifiers over a restart" "$(identifiers)" "$before"
    write_tree "$MNT/after"
    need "umount" umount "$MNT"
    disconnect
    connect "$VOL_4K"
    check_file_system xfs
    need "mount" mount -t xfs -o ro "$DEV" "$MNT"
    check_tree "$MNT/kept"
    check_tree "$MNT/after"
    need "umount" umount "$MNT"
    disconnect
}

start
discovery
refusals

connect "$VOL_512"
namespace_identity 9
small_blocks
file_system ext4
disconnect

connect "$VOL_4K"
controller_identity
namespace_identity 12
first_identity=$(identifiers)
commands
large_transfers
disconnect

variant -i 2
equal "queues with -i 2" "$(cat "/sys/class/nvme/$CTRL/queue_count")" 3
equal "identifiers over a reconnect" "$(identifiers)" "$first_identity"
disconnect
# shellcheck disable=SC2086
{
    variant $HEADER_DIGEST && disconnect
    variant $DATA_DIGEST -Q 32 && disconnect
    variant $HEADER_DIGEST $DATA_DIGEST -i 2 -k 2
}
# Longer than the keep-alive time of 2 s: an idle host must not be dropped.
sleep 5
equal "state after idling" "$(cat "/sys/class/nvme/$CTRL/state")" live
disconnect

# shellcheck disable=SC2086
connect "$VOL_4K" $HEADER_DIGEST $DATA_DIGEST
file_system ext4
file_system xfs
disconnect
equal "recoveries without a cause" "$(recoveries)" 0

clean_restart
finish

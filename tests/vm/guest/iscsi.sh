#!/bin/sh
# The kernel's iSCSI initiator on a volume: discovery, CHAP both ways, digests, file systems, fio, and
# the commands that the block layer does not send, by sg3-utils.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/iscsi-lib.sh"

CHAP=yes
MIB=1048576

# What iscsiadm says at discovery comes from its configuration alone.
authenticate_discovery() {
    for setting in authmethod=CHAP "username=$CHAP_USER" "password=$CHAP_SECRET" \
        "username_in=$CHAP_TARGET_USER" "password_in=$CHAP_TARGET_SECRET"; do
        echo "discovery.sendtargets.auth.${setting%%=*} = ${setting#*=}"
    done >>/etc/iscsi/iscsid.conf
}

discovery() {
    step "discovery"
    if bedplate; then
        refuse "discovery without authentication" "authoriz" \
            iscsiadm -m discovery -t sendtargets -p "$ADDRESS:$PORTAL_1"
        authenticate_discovery
    fi
    need "discovery" iscsiadm -m discovery -t sendtargets -p "$ADDRESS:$PORTAL_1"
    for volume in "$VOL_4K" "$VOL_512"; do
        grep -q "$IQN_PREFIX$volume\$" /run/need.out ||
            die "discovery does not list $volume: $(cat /run/need.out)"
    done
    if bedplate; then
        for portal in "$PORTAL_1,1" "$PORTAL_2,2"; do
            grep -q ":$portal $IQN_PREFIX$VOL_4K\$" /run/need.out ||
                die "discovery does not name portal $portal: $(cat /run/need.out)"
        done
        grep -q "$IQN_PREFIX$VOL_CLOSED\$" /run/need.out &&
            die "discovery shows $VOL_CLOSED to a host that may not use it"
    fi
    rm -rf /etc/iscsi/nodes /etc/iscsi/send_targets
}

# denied WHAT VOLUME SETTING...: a login that must fail.
denied() {
    what=$1
    volume=$2
    shift 2
    record "$volume" "$PORTAL_1" "$@"
    refuse "$what" "authorization|rejected|could not login" node "$volume" "$PORTAL_1" --login
    need "delete record" node "$volume" "$PORTAL_1" -o delete
}

refusals() {
    step "logins that must be refused"
    denied "no authentication" "$VOL_4K" node.session.auth.authmethod=None
    # shellcheck disable=SC2086
    denied "a wrong secret" "$VOL_4K" $MUTUAL_CHAP node.session.auth.password=not-the-secret
    # shellcheck disable=SC2086
    denied "a target with a wrong secret" "$VOL_4K" $MUTUAL_CHAP \
        node.session.auth.password_in=not-the-secret
    bedplate || return 0
    # shellcheck disable=SC2086
    denied "not on the list" "$VOL_CLOSED" $MUTUAL_CHAP
}

identity() {
    step "identity"
    equal "size" "$(blockdev --getsize64 "$DEV")" "$VOL_BYTES"
    equal "logical block" "$(blockdev --getss "$DEV")" "$1"
    equal "physical block" "$(blockdev --getpbsz "$DEV")" 4096
    equal "header digest" "$(negotiated header_digest)" 1
    equal "data digest" "$(negotiated data_digest)" 1
    need "inquiry" sg_inq "$DEV"
    for page in $PAGES; do
        need "VPD page $page" sg_vpd -p "$page" "$DEV"
    done
    need "opcodes" sg_opcodes -n "$DEV"
    need "LUNs" sg_luns "$DEV"
    need "mode pages" sg_modes -a "$DEV"
    need "ready" sg_turs "$DEV"
    queue=/sys/block/${DEV##*/}/queue
    at_least "discard_max_bytes" "$(cat "$queue/discard_max_bytes")" $((MIB))
    if bedplate; then
        at_least "max_hw_sectors_kb" "$(cat "$queue/max_hw_sectors_kb")" 1024
        at_least "write_same or write_zeroes" "$(cat "$queue/write_zeroes_max_bytes")" $((MIB))
        grep -q 'write back' "$queue/write_cache" || die "no volatile write cache"
        equal "FUA" "$(cat "$queue/fua")" 1
        equal "zoned" "$(cat "$queue/zoned")" none
        equal "rotational" "$(cat "$queue/rotational")" 0
    fi
}

# file_system NAME MKFS...: files written, synced, found again after a new session, and trimmed.
file_system() {
    fs=$1
    shift
    step "$fs"
    need "mkfs.$fs" "$@" "$DEV"
    need "mount" mount -t "$fs" "$DEV" "$MNT"
    random_file /run/file $((8 * MIB))
    need "copy" cp /run/file "$MNT/file"
    need "sync" sync -f "$MNT/file"
    need "unmount" umount "$MNT"
    need "fsck" fsck."$fs" ${FSCK_OPTIONS:-} "$DEV"
    logout "$VOLUME" "$PORTAL_1"
    login "$VOLUME" "$PORTAL_1"
    need "mount" mount -t "$fs" "$DEV" "$MNT"
    need "the file is whole" cmp /run/file "$MNT/file"
    need "remove" rm "$MNT/file"
    need "fstrim" fstrim -v "$MNT"
    need "unmount" umount "$MNT"
}

fio_job() {
    step "fio $1"
    export DEV
    need "fio $1" fio --output-format=terse --aux-path=/run "$GUEST_DIR/../fio/$1.fio"
    read_kib=$(awk -F';' '{ sum += $6 } END { print sum + 0 }' /run/need.out)
    at_least "KiB that fio $1 read back" "$read_kib" "$2"
}

# filled FROM_BYTE BYTES FILE: that range of the device must be what the file is.
filled() {
    raw_read "$1" "$2" /run/filled.got
    need "bytes $1+$2 are those of $3" cmp -n "$2" /run/filled.got "$3"
}

# The block layer caches nothing here: all of this goes to the unit, and reads are direct.
# Blocks of 4096 bytes.
commands() {
    step "single commands"
    random_file /run/a $((16 * 4096))
    need "fill" dd if=/run/a of="$DEV" bs=4096 count=16 seek=256 oflag=direct
    need "verify" sg_verify --lba=256 --count=16 "$DEV"
    need "verify with data" sg_verify --lba=256 --count=16 --ebytchk=1 --ndo=65536 --in=/run/a "$DEV"
    random_file /run/b $((16 * 4096))
    refuse "verify with other data" "miscompare" \
        sg_verify --lba=256 --count=16 --ebytchk=1 --ndo=65536 --in=/run/b "$DEV"
    need "write and verify" sg_write_verify --lba=272 --num=16 --ilen=65536 --in=/run/b "$DEV"
    filled $((272 * 4096)) 65536 /run/b
    need "sync" sg_sync --lba=256 --count=32 "$DEV"

    head -c 4096 /run/b >/run/block
    need "write same" sg_write_same --16 --lba=300 --num=8 --in=/run/block --xferlen=4096 "$DEV"
    for number in 300 307; do filled $((number * 4096)) 4096 /run/block; done
    need "write same, unmap" sg_write_same --16 --unmap --lba=300 --num=4 --xferlen=4096 "$DEV"
    zeros $((300 * 4096)) $((4 * 4096))
    filled $((304 * 4096)) 4096 /run/block
    unmap --lba=304 --num=4 "$DEV"
    zeros $((304 * 4096)) $((4 * 4096))
}

# What Debian's tgt does not have.
more_commands() {
    step "compare and write, LBA status, extended copy, sanitize"
    refuse "verify beyond the end" "out of range" \
        sg_verify --16 --lba=$((VOL_BYTES / 4096)) --count=1 "$DEV"
    head -c 4096 /run/a >/run/old
    cat /run/old /run/block >/run/pair
    need "fill" dd if=/run/old of="$DEV" bs=4096 count=1 seek=320 oflag=direct
    need "compare and write" sg_compare_and_write --in=/run/pair --lba=320 --num=1 \
        --xferlen=8192 "$DEV"
    filled $((320 * 4096)) 4096 /run/block
    refuse "compare and write again" "miscompare" sg_compare_and_write --in=/run/pair --lba=320 \
        --num=1 --xferlen=8192 "$DEV"
    need "LBA status" sg_get_lba_status --lba=320 --brief "$DEV"
    need "LBA status of what was unmapped" sg_get_lba_status --lba=300 "$DEV"
    grep -qi 'deallocated' /run/need.out || die "not deallocated: $(cat /run/need.out)"

    need "extended copy" sg_xcopy "if=$(generic "$DEV")" "of=$(generic "$DEV")" bs=4096 \
        skip=256 seek=2048 count=32
    filled $((2048 * 4096)) 65536 /run/a
    need "copy parameters" sg_copy_results --params "$DEV"
    need "write atomic" sg_write_x --atomic=0 --16 --lba=2048 --num=16 --in=/run/b "$DEV"
    filled $((2048 * 4096)) 65536 /run/b
}

# unmap OPTION... DEVICE: without --force the tool first waits 20 s for somebody to stop it.
unmap() { need "unmap" sg_unmap --force "$@"; }

# generic DEVICE: its /dev/sgN, which sg_xcopy wants.
generic() { echo /dev/"$(ls "/sys/block/${1##*/}/device/scsi_generic")"; }

copy_between_units() {
    step "extended copy between two units"
    from=$DEV
    # shellcheck disable=SC2086
    record "$VOL_COPY" "$PORTAL_2" $MUTUAL_CHAP
    login "$VOL_COPY" "$PORTAL_2"
    random_file /run/c $((32 * 4096))
    need "fill" dd if=/run/c of="$from" bs=4096 count=32 seek=4096 oflag=direct
    for who in --on_src --on_dst; do
        unmap --lba=64 --num=32 "$DEV"
        need "extended copy $who" sg_xcopy $who "if=$(generic "$from")" "of=$(generic "$DEV")" \
            bs=4096 skip=4096 seek=64 count=32
        filled $((64 * 4096)) $((32 * 4096)) /run/c
    done
    zeros $((96 * 4096)) 65536
    logout "$VOL_COPY" "$PORTAL_2"
    DEV=$from
}

sanitize() {
    step "sanitize"
    need "sanitize" sg_sanitize --block --quick --wait "$DEV"
    zeros $((256 * 4096)) $((16 * 4096))
}

PAGES="sv sn di"
if bedplate; then PAGES="sv sn di ei bl bdc lbpv"; fi

start_iscsi
discovery
refusals

# Refused logins count as lost connections.
losses=$(losses)
VOLUME=$VOL_4K
# shellcheck disable=SC2086
record "$VOLUME" "$PORTAL_1" $MUTUAL_CHAP $DIGESTS
login "$VOLUME" "$PORTAL_1"
identity 4096
FSCK_OPTIONS="-f -n" file_system ext4 mkfs.ext4 -q -F
fio_job verify-sizes 49152
commands
if bedplate; then
    more_commands
    copy_between_units
fi
file_system xfs mkfs.xfs -q -f
bedplate && sanitize
logout "$VOLUME" "$PORTAL_1"
equal "lost connections" "$(losses)" "$losses"
step "done"

# Shared by the guest scripts that use iSCSI. Source it after lib.sh.
#
# Arguments beside those of lib.sh:
#   PORTAL_1 PORTAL_2   TCP ports of the portals; each is a target portal group of its own
# TARGET may also be tgt: Debian's tgtd inside this guest, which tells a wrong script from a wrong
# target as nvmet does. It has no ALUA, no EXTENDED COPY and no NVMe.

IQN_PREFIX=iqn.2026-11.io.bedplate:
INITIATOR=iqn.2026-11.io.bedplate.test:vm
# As tests/vm/src/session.rs writes them into the secrets of the target.
CHAP_USER=vm
CHAP_SECRET=open-sesame-17
CHAP_TARGET_USER=bedplate
CHAP_TARGET_SECRET=sesame-answers-18

bedplate() { [ "$TARGET" = bedplate ]; }

start_iscsi() {
    mkdir -p /run/host /run/lock/iscsi "$MNT"
    echo "InitiatorName=$INITIATOR" >/etc/iscsi/initiatorname.iscsi
    rm -rf /etc/iscsi/nodes /etc/iscsi/send_targets
    modprobe -a iscsi_tcp sd_mod sg ext4 xfs || die "a kernel module did not load"
    case $TARGET in
    bedplate) ADDRESS=10.0.2.2 ;;
    tgt)
        ADDRESS=127.0.0.1
        tgt_start
        ;;
    *) die "TARGET is '$TARGET' and must be bedplate or tgt" ;;
    esac
    # In the foreground it says on its output what it thinks.
    iscsid -f >/run/iscsid.log 2>&1 &
    sleep 1
    listen_to_host &
}

tgt() { need "tgtadm" tgtadm --lld iscsi "$@"; }

tgt_start() {
    PORTAL_1=3260
    PORTAL_2=3261
    tgtd --iscsi portal=127.0.0.1:9 || die "tgtd does not start"
    sleep 1
    tid=0
    for volume in "$VOL_4K" "$VOL_512"; do
        tid=$((tid + 1))
        truncate -s "$VOL_BYTES" "/run/$volume.img"
        block=4096
        [ "$volume" = "$VOL_512" ] && block=512
        tgt --op new --mode target --tid $tid -T "$IQN_PREFIX$volume"
        tgt --op new --mode logicalunit --tid $tid --lun 1 -b "/run/$volume.img" \
            --blocksize $block
        tgt --op update --mode logicalunit --tid $tid --lun 1 --params thin_provisioning=1
        tgt --op bind --mode target --tid $tid -I ALL
        for name in HeaderDigest DataDigest; do
            tgt --op update --mode target --tid $tid --name $name --value None,CRC32C
        done
    done
    if [ "$CHAP" ]; then
        tgt --op new --mode account --user $CHAP_USER --password $CHAP_SECRET
        tgt --op new --mode account --user $CHAP_TARGET_USER --password $CHAP_TARGET_SECRET
        for tid in 1 2; do
            tgt --op bind --mode account --tid $tid --user $CHAP_USER
            tgt --op bind --mode account --tid $tid --user $CHAP_TARGET_USER --outgoing
        done
    fi
    # Not before: a login that finds no target is not tried again.
    for port in $PORTAL_1 $PORTAL_2; do
        tgt --op new --mode portal --param portal=127.0.0.1:$port
    done
}

# Kills tgtd and starts it again, in place of what the host does to the real target.
nvmet_bounce() {
    pkill -9 -x tgtd
    sleep 1
    tgt_start
}

# Which portal group a port is.
group_of() {
    case $TARGET.$1 in
    bedplate."$PORTAL_2") echo 2 ;;
    *) echo 1 ;;
    esac
}

# node VOLUME PORT ARGUMENT...: iscsiadm on the record of a portal.
node() {
    node_target=$IQN_PREFIX$1
    node_portal=$ADDRESS:$2,$(group_of "$2")
    shift 2
    iscsiadm -m node -T "$node_target" -p "$node_portal" "$@"
}

# record VOLUME PORT [SETTING=VALUE...]: makes the record of a portal. The one that discovery makes
# has the address that the target knows of itself, its loopback, which is not this guest's.
record() {
    record_volume=$1
    record_port=$2
    shift 2
    need "new record" node "$record_volume" "$record_port" -o new
    for setting in node.session.timeo.replacement_timeout=120 "$@"; do
        need "$setting" node "$record_volume" "$record_port" -o update \
            -n "${setting%%=*}" -v "${setting#*=}"
    done
}

MUTUAL_CHAP="node.session.auth.authmethod=CHAP
    node.session.auth.username=$CHAP_USER node.session.auth.password=$CHAP_SECRET
    node.session.auth.username_in=$CHAP_TARGET_USER
    node.session.auth.password_in=$CHAP_TARGET_SECRET"
DIGESTS="node.conn[0].iscsi.HeaderDigest=CRC32C node.conn[0].iscsi.DataDigest=CRC32C"

# The session of VOLUME by PORT, such as session3, or nothing.
session_of() {
    for session in /sys/class/iscsi_session/session*; do
        [ "$(cat "$session/targetname" 2>/dev/null)" = "$IQN_PREFIX$1" ] || continue
        number=${session##*session}
        connection=/sys/class/iscsi_connection/connection$number:0
        [ "$(cat "$connection/persistent_port" 2>/dev/null)" = "$2" ] || continue
        echo "session$number" && return
    done
}

# The disk of a session, such as sda, or nothing.
disk_of() {
    for disk in /sys/class/iscsi_session/"$1"/device/target*/*/block/*; do
        [ -b "/dev/${disk##*/}" ] && echo "${disk##*/}" && return
    done
}

# login VOLUME PORT: sets SESSION and DEV (its block device).
login() {
    need "login" node "$1" "$2" --login
    SESSION=$(session_of "$1" "$2")
    [ "$SESSION" ] || die "no session with $1 by port $2"
    waited=0
    until DEV=$(disk_of "$SESSION") && [ "$DEV" ]; do
        [ "$waited" -lt 100 ] || die "no disk of $SESSION within 10 s of the login"
        sleep 0.1
        waited=$((waited + 1))
    done
    DEV=/dev/$DEV
}

logout() {
    need "logout" node "$1" "$2" --logout
    [ -z "$(session_of "$1" "$2")" ] || die "a session of $1 is left after the logout"
}

# What was negotiated for the connection of $SESSION.
negotiated() { cat "/sys/class/iscsi_connection/connection${SESSION#session}:0/$1"; }

# How often the initiator lost a connection so far.
losses() { dmesg | grep -c 'detected conn error' || true; }

# Bedplate in this guest, for what the machine cannot have: RDMA, and a fair comparison. Source it
# after lib.sh.
#   BEDPLATE   path of the binary
# What is to be kept goes to $RESULTS, a folder of the machine.

RESULTS=/run/results
CONTROL_SOCKET=/run/bedplate.sock

# Disks, and the folder for results.
start_inside() {
    no_huge_pages
    need "virtio_blk" modprobe virtio_blk
    mkdir -p "$RESULTS"
    need "results" mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=none \
        results "$RESULTS"
}

# disk_of SERIAL: the virtio disk with that serial.
disk_of() {
    for block in /sys/block/vd*; do
        [ "$(cat "$block/serial" 2>/dev/null)" = "$1" ] && echo "/dev/${block##*/}" && return
    done
    die "there is no disk $1"
}

# serve CONFIGURATION LOG: starts bedplate and waits until it is ready. Its process id is in
# /run/bedplate.pid, and how it ended will be in /run/bedplate.exit.
serve() {
    SERVE_CONFIGURATION=$1
    SERVE_LOG=$2
    touch "$SERVE_LOG"
    said=$(wc -l <"$SERVE_LOG")
    rm -f /run/bedplate.exit
    (
        # A shell of its own, as only that knows the process id of what it becomes.
        # shellcheck disable=SC2016
        sh -c 'echo $$ >/run/bedplate.pid; exec "$0" serve --config "$1"' \
            "$BEDPLATE" "$1" >>"$2" 2>&1
        echo $? >/run/bedplate.exit
    ) 2>/dev/null &
    waited=0
    # The control socket is what it announces last.
    until tail -n +$((said + 1)) "$2" | grep -q '^ready: control'; do
        if [ "$waited" -ge 300 ] || [ -e /run/bedplate.exit ]; then
            tail -n 40 "$2"
            die "bedplate is not ready"
        fi
        sleep 0.2
        waited=$((waited + 1))
    done
}

# gone SECONDS: until bedplate has ended.
gone() {
    waited=0
    until [ -s /run/bedplate.exit ]; do
        [ "$waited" -lt $(($1 * 10)) ] || die "bedplate has not ended after $1 s"
        sleep 0.1
        waited=$((waited + 1))
    done
}

# Ends it as an operator would: it must finish its work and say so by its exit code.
serve_no_more() {
    kill -TERM "$(cat /run/bedplate.pid)"
    gone 60
    equal "exit code of bedplate after SIGTERM" "$(cat /run/bedplate.exit)" 0
}

# kill_for MILLISECONDS: it dies, and is started again after that.
kill_for() {
    kill -9 "$(cat /run/bedplate.pid)"
    gone 60
    sleep "$(($1 / 1000)).$(printf %03d $(($1 % 1000)))"
    serve "$SERVE_CONFIGURATION" "$SERVE_LOG"
}

# status FIELD: a number of "bedplate status", the first of that name.
status() {
    "$BEDPLATE" --socket "$CONTROL_SOCKET" --output json status |
        sed -n "s/.*\"$1\": \([0-9]*\).*/\1/p" | head -n 1
}

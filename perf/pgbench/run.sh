#!/bin/sh
# How many transactions does PostgreSQL do on this file system, and are they all there?
#
#   perf/pgbench/run.sh DIRECTORY RESULTS
#
# DIRECTORY lies on the file system to measure (a volume that a kernel initiator attached); a new
# cluster is made in DIRECTORY/pgdata and removed afterwards. fsync is on: every commit waits for
# the device. Run it on both things to compare, one right after the other.
#
#   SCALE=10 CLIENTS=4 RUNTIME=60    as pgbench means them
#   WARMUP=0                         seconds of the same load before, which do not count
#   KEEP=yes                         leaves the cluster there, stopped, and the next run takes it:
#                                    rounds that alternate need not fill the tables each time
#
# RESULTS gets pgbench.txt (with the latency of each statement), settings.txt and environment.txt.
# Exit code 1 when the sums of the four tables differ, which means lost or torn transactions.
set -eu

fail() {
    echo "perf/pgbench/run.sh: $*" >&2
    exit 2
}

[ $# -eq 2 ] || fail "needs DIRECTORY and RESULTS; the head of this file says more"
mkdir -p "$2"
directory=$(cd "$1" && pwd) || fail "$1 is no directory"
results=$(cd "$2" && pwd)
SCALE=${SCALE:-10}
CLIENTS=${CLIENTS:-4}
RUNTIME=${RUNTIME:-60}
WARMUP=${WARMUP:-0}
KEEP=${KEEP:-no}
bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
[ -n "$bin" ] || fail "needs PostgreSQL: apt-get install postgresql"

# PostgreSQL refuses to run as root.
as_user() {
    if [ "$(id -u)" = 0 ]; then
        setpriv --reuid=postgres --regid=postgres --clear-groups env HOME="$data" "$@"
    else
        "$@"
    fi
}

data=$directory/pgdata
# Written once the tables are filled: a cluster that is somebody's, or half made, has none.
filled=$directory/pgdata.scale
if [ "$KEEP" = yes ] && [ -e "$filled" ]; then
    [ "$(cat "$filled")" = "$SCALE" ] || fail "$data is of scale $(cat "$filled"), not $SCALE"
else
    [ ! -e "$data" ] || fail "$data is there already: remove it, or choose another DIRECTORY"
    mkdir "$data"
    [ "$(id -u)" != 0 ] || chown postgres "$data"
    chmod 700 "$data"
fi
socket=$(mktemp -d)
chmod 777 "$socket"

finish() {
    as_user "$bin/pg_ctl" -D "$data" -m fast stop >/dev/null 2>&1 || true
    rm -rf "$socket"
    # A cluster that is to be kept and was never filled would be refused the next time.
    [ "$KEEP" = yes ] && [ -e "$filled" ] || rm -rf "$data" "$filled"
}
trap finish EXIT INT TERM

[ -e "$filled" ] || as_user "$bin/initdb" -D "$data" -A trust -N --data-checksums >/dev/null
# Nothing listens on the network; checkpoints come during the run, as they would in a long one.
as_user "$bin/pg_ctl" -D "$data" -w -l "$data/log" -o \
    "-c listen_addresses='' -c unix_socket_directories=$socket -c checkpoint_timeout=30s" \
    start >/dev/null || fail "the server does not start: $(tail -n 3 "$data/log")"

sql() { as_user "$bin/psql" -h "$socket" -d postgres -Atqc "$1"; }
[ "$(sql 'show fsync')" = on ] || fail "fsync is not on"
if [ ! -e "$filled" ]; then
    as_user "$bin/pgbench" -h "$socket" -i -q -s "$SCALE" postgres 2>/dev/null ||
        fail "the tables could not be filled"
    [ "$KEEP" != yes ] || echo "$SCALE" >"$filled"
fi
sql "select name || ' = ' || setting from pg_settings where source <> 'default'" \
    >"$results/settings.txt"
{
    echo "date: $(date -u +%Y-%m-%dT%H:%M:%SZ)"
    echo "kernel: $(uname -r)"
    echo "cpu: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores"
    echo "load: $(cut -d' ' -f1-3 /proc/loadavg)"
    echo "file system: $(df --output=source,fstype,size "$directory" | tail -n 1)"
    echo "postgresql: $(sql 'show server_version')"
    echo "pgbench: scale $SCALE, $CLIENTS clients, $RUNTIME s after $WARMUP s"
} >"$results/environment.txt"

# load SECONDS. -n: vacuuming first would empty pgbench_history, and the sums below would not agree.
load() {
    as_user "$bin/pgbench" -h "$socket" -n -r -c "$CLIENTS" -j "$CLIENTS" -T "$1" postgres \
        >"$results/pgbench.txt" 2>&1 || fail "pgbench failed: $(tail -n 3 "$results/pgbench.txt")"
}
[ "$WARMUP" = 0 ] || load "$WARMUP"
load "$RUNTIME"
grep -E '^(tps|latency average|number of failed)' "$results/pgbench.txt"

# Every transaction adds one amount to an account, a teller, a branch and the history.
sums=$(sql "select count(distinct sum) from (
    select sum(abalance) from pgbench_accounts union all
    select sum(tbalance) from pgbench_tellers union all
    select sum(bbalance) from pgbench_branches union all
    select coalesce(sum(delta), 0) from pgbench_history) sums")
if [ "$sums" != 1 ]; then
    echo "perf/pgbench/run.sh: the sums of the tables differ: transactions are lost or torn" >&2
    exit 1
fi
echo "sums agree; results and environment.txt in $results"

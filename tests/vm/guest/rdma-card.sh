#!/bin/sh
# The checks of drivers/rdma on a card of soft RoCE: messages, one-sided work, endings.
#   CHECKS   the program that makes them
#   NAMES    which of them; all when empty
# shellcheck disable=SC1091
. "$(dirname "$0")/lib.sh"

modprobe -a crc32_generic veth rdma_rxe rdma_ucm || die "a kernel module did not load"
need "cable" ip link add veth0 mtu 9000 type veth peer name veth1 mtu 9000
need "address" ip addr add 10.9.0.1/24 dev veth0
need "veth0 up" ip link set veth0 up
need "veth1 up" ip link set veth1 up
need "rdma link" rdma link add rxe0 type rxe netdev veth0
sleep 2
rdma link show
ulimit -l unlimited
step checks
code=0
for name in $(echo "$NAMES" | tr , ' '); do
    LOG=$LOG timeout 60 "$CHECKS" 10.9.0.1:4420 "$name" >/run/out 2>&1 && echo "ok $name" && continue
    echo "FAILED $name"
    tail -n 15 /run/out
    code=1
done
rdma resource show
dmesg | tail -5
exit $code

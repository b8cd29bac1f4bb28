#!/bin/sh
# What a card of drivers/rdma does, on soft RoCE: messages, one-sided work, endings.
#   CHECKS   the program that checks it
#   NAMES    which checks, with commas between them; all when empty
# shellcheck disable=SC1091
. "$(dirname "$0")/lib.sh"
. "$GUEST_DIR/rdma-lib.sh"

rdma_link
# Memory is registered, which counts as locked.
ulimit -l unlimited
step "checks"
# shellcheck disable=SC2046
"$CHECKS" "$RDMA_ADDRESS:$PORT" $(echo "$NAMES" | tr , ' ') >/run/checks 2>&1
code=$?
cat /run/checks
[ "$code" = 0 ] || die "a check failed"

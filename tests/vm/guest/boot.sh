#!/bin/sh
# The smallest guest script: proves the boot path and both directions of the console.
#   CODE   what to exit with        WAIT   seconds to wait for the host
. "$(dirname "$0")/lib.sh"

mkdir -p /run/host
listen_to_host &
mark ready
await_host go "${WAIT:-30}"
exit "${CODE:-0}"

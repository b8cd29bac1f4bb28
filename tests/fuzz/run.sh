#!/bin/sh
# Runs every fuzz target for FUZZ_SECONDS (5) each from its committed seeds, or the targets named
# as arguments. The stable toolchain does: the sanitizer is off, our code has no unsafe to check.
# A crash leaves its input in tests/fuzz/artifacts/TARGET and ends the run with its status.
set -eu
cd "$(dirname "$0")"
targets=${*:-$(cargo fuzz list --fuzz-dir .)}
for target in $targets; do
    echo "fuzz: $target for ${FUZZ_SECONDS:-5} s"
    # A slow input is a finding too, so the timeout is short.
    RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir . --sanitizer none "$target" -- \
        -max_total_time="${FUZZ_SECONDS:-5}" -max_len=8192 -timeout=5 -rss_limit_mb=1024 \
        -print_final_stats=1
done

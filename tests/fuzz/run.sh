#!/usr/bin/env bash
# Fuzzes the targets, one after the other, from their seeds and from what was found before.
#
#   run.sh [TARGET…]        all targets without a name
#   FUZZ_SECONDS=60         the time per target
#   SANITIZER=none          or address, which needs TOOLCHAIN=nightly
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "run.sh: cargo-fuzz is not installed: cargo install cargo-fuzz --locked" >&2
    exit 1
fi
fuzz=tests/fuzz
options=(--fuzz-dir "$fuzz" -s "${SANITIZER:-none}")
cargo=(cargo ${TOOLCHAIN:++$TOOLCHAIN} fuzz)
targets=("$@")
if ((${#targets[@]} == 0)); then
    for target in "$fuzz"/targets/*.rs; do targets+=("$(basename "$target" .rs)"); done
fi
for target in "${targets[@]}"; do
    mkdir -p "$fuzz/corpus/$target"
    "${cargo[@]}" run "${options[@]}" "$target" "$fuzz/corpus/$target" "$fuzz/seeds/$target" -- \
        -max_total_time="${FUZZ_SECONDS:-60}" -rss_limit_mb=2048 -malloc_limit_mb=1024 -timeout=120 -print_final_stats=1
done

#!/usr/bin/env bash
# Builds the runner for CUDA, on a machine with or without a GPU, and what the check on a card needs:
#
#   target/cuda/dist/embedrun         the runner
#   target/cuda/dist/encode           times a model
#   target/cuda/dist/tests/           the tests that run on a card
#
# `make cuda`. Where neither CUDA_HOME nor nvcc in the PATH names a toolkit, one is laid out in the cache.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/require.sh
require_toolchain
require_end

if [[ -z ${CUDA_HOME:-} ]]; then
    if command -v nvcc >/dev/null; then
        CUDA_HOME=$(dirname "$(dirname "$(readlink -f "$(command -v nvcc)")")")
    else
        CUDA_HOME=$(scripts/cuda-toolkit.sh)
    fi
fi
export CUDA_HOME PATH=$CUDA_HOME/bin:$PATH
# The driver's own library is found where the program runs.
export LIBRARY_PATH=$CUDA_HOME/lib/stubs:$CUDA_HOME/lib64/stubs:$CUDA_HOME/lib64${LIBRARY_PATH:+:$LIBRARY_PATH}
# candle's kernels are PTX, which every card from 8.0 on can compile; a newer one here would leave older cards out.
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-80}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/cuda

build=(cargo build --locked --release -p embedrun-runner --features cuda)
"${build[@]}" --bin embedrun --example encode
tests=$(cargo test --locked --release --no-run --message-format=json -p embedrun-runner --features cuda --test parity |
    python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["target"]["kind"] == ["test"]:
        print(message["target"]["name"], message["executable"])
')

dist=$CARGO_TARGET_DIR/dist
rm -rf "$dist"
mkdir -p "$dist/tests"
cp "$CARGO_TARGET_DIR/release/embedrun" "$CARGO_TARGET_DIR/release/examples/encode" "$dist/"
while read -r name path; do cp "$path" "$dist/tests/$name"; done <<<"$tests"
du -sh "$dist"/embedrun "$dist"/encode "$dist"/tests/*

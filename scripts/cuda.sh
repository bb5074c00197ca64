#!/usr/bin/env bash
# Builds the runner for CUDA, on a machine with or without a GPU, and the programs for the checks on a GPU:
#
#   target/cuda/dist/embedrun         the runner
#   target/cuda/dist/encode           measures the speed of a model
#   target/cuda/dist/tests/           the tests that run on a GPU
#
# Runs as `make cuda`. With the argument `runner` it builds the runner alone, for an image. If neither CUDA_HOME nor
# nvcc in the PATH names a toolkit, it installs one into the cache.
set -euo pipefail
case ${1:-all} in
all | runner) parts=${1:-all} ;;
*)
    echo "scripts/cuda.sh: unknown argument $1; known: runner, all (the default)" >&2
    exit 2
    ;;
esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/require.sh
require_toolchain
require_end
source scripts/cuda-env.sh

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/cuda

dist=$CARGO_TARGET_DIR/dist
build=(cargo build --locked --release -p embedrun-runner --features cuda --bin embedrun)
if [[ $parts == runner ]]; then
    "${build[@]}"
    rm -rf "$dist"
    install -D -t "$dist" "$CARGO_TARGET_DIR/release/embedrun"
    du -sh "$dist/embedrun"
    exit
fi
"${build[@]}" --example encode
# The tests of whole models, and the tests of the kernels on a GPU instead of the emulation.
compile=(cargo test --locked --release --no-run --message-format=json)
tests=$({
    "${compile[@]}" -p embedrun-runner --features cuda --test parity
    "${compile[@]}" -p embedrun-emulation --features card --tests
} | python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    name = message.get("target", {}).get("name")
    if message.get("executable") and message["target"]["kind"] == ["test"] and name != "emulation":
        print(name, message["executable"])
')

rm -rf "$dist"
mkdir -p "$dist/tests"
cp "$CARGO_TARGET_DIR/release/embedrun" "$CARGO_TARGET_DIR/release/examples/encode" "$dist/"
while read -r name path; do cp "$path" "$dist/tests/$name"; done <<<"$tests"
du -sh "$dist"/embedrun "$dist"/encode "$dist"/tests/*

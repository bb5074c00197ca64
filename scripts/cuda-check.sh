#!/usr/bin/env bash
# Keeps the build for CUDA from rotting, for a fraction of its cost: our kernels are compiled for every card, and the
# lints go over the code of the runner with the feature `cuda`. Nothing is linked.
#
#   cuda-check.sh    FLAGS of clippy may follow, e.g. -D warnings
#
# candle's own kernels are left out. Hence a target folder of its own, from which nothing that could run ever comes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/cuda-env.sh

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/cuda-check
export EMBEDRUN_CANDLE_KERNELS=none

cargo clippy --locked -p embedrun-runner --features cuda --lib --bins -- "$@"
cargo clippy --locked -p embedrun-emulation --features card --all-targets -- "$@"

#!/usr/bin/env bash
# Keeps the build for CUDA from rotting, for a fraction of its cost: our kernels are compiled for every card, and the
# lints go over the code of the runner with the feature `cuda`. Nothing is linked.
#
#   cuda-check.sh    FLAGS of clippy may follow, e.g. -D warnings
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export EMBEDRUN_CANDLE_KERNELS=none
source scripts/cuda-env.sh

# The selection of the other lints: what they share is checked once.
cargo clippy --locked --workspace --features embedrun-runner/cuda --lib --bins -- "$@"
cargo clippy --locked -p embedrun-emulation --features card --all-targets -- "$@"

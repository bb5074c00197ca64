#!/usr/bin/env bash
# Checks the CUDA build for a fraction of its cost: compiles our kernels for every supported GPU, and runs clippy on the
# runner with the feature `cuda`. Links nothing.
#
#   cuda-check.sh [FLAGS]    passes FLAGS to clippy, for example -D warnings
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export EMBEDRUN_CANDLE_KERNELS=none
source scripts/cuda-env.sh

# The same package selection as the other lints, so that shared dependencies are checked only once.
cargo clippy --locked --workspace --features embedrun-runner/cuda --lib --bins -- "$@"
cargo clippy --locked -p embedrun-emulation --features card --all-targets -- "$@"

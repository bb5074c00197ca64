#!/usr/bin/env bash
# Runs the CUDA program on a machine without a card: over an emulated driver and emulated kernels. Builds all
# of it, in a development build without candle's own kernels.
#
#   emulated.sh [DIST]    DIST, as `make cuda` lays it out, is run in place of that build
#
# It shows how the program uses the driver: with one card and with several, with little memory, with one that is lost.
# It does not show that kernels are right on a card, nor how fast they are.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source scripts/require.sh
require_toolchain
require_end

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
work=$target/emulated
rm -rf "$work"
mkdir -p "$work"
if [[ $# -gt 0 ]]; then
    program=$(realpath "$1")/embedrun
else
    # The selection of the other builds: what they share is compiled once.
    (
        source scripts/cuda-env.sh
        export NVCC=$PWD/scripts/candle-nvcc-none.sh
        cargo build --locked --workspace --bins --features embedrun-runner/cuda
    )
    # The next build puts one without CUDA in its place.
    program=$work/embedrun
    cp "$target/debug/embedrun" "$program"
fi
[[ -x $program ]] || {
    echo "emulated.sh: there is no $program; make cuda builds it" >&2
    exit 2
}
cargo build --locked --workspace --lib
for name in libcuda.so.1 libcublas.so.13 libcublasLt.so.13 libcurand.so.10 libnvidia-ml.so.1; do
    # One file under all its names is loaded once.
    ln -s "$target/debug/libemulated_driver.so" "$work/$name"
done
model=$(scripts/models.sh all-MiniLM-L6-v2)
EMBEDRUN_TEST_MODELS=$(dirname "$model") EMBEDRUN_TEST_CUDA_RUNNER=$program EMBEDRUN_TEST_DRIVER=$work \
    cargo test --locked --workspace --test cli -- --ignored cards::

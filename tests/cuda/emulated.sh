#!/usr/bin/env bash
# Tests the CUDA program on a machine without a card, over an emulated driver and emulated kernels. Builds a development
# build without candle's own kernels.
#
#   emulated.sh [DIST]             tests the build of `make cuda` in DIST instead
#   E2E=skip emulated.sh [DIST]    skips the pods, which need a control plane
#
# It shows how the program uses the driver: with one card and several, with little memory, with a card that fails. It
# does not show that kernels are correct on a card, nor how fast they are.
set -euo pipefail
dist=${1:+$(realpath "$1")}
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source scripts/require.sh
require_toolchain
if [[ ${E2E:-} != skip ]]; then
    require_bwrap
    [[ -n ${KUBEBUILDER_ASSETS:-} ]] || require go "install Go 1.26, or set KUBEBUILDER_ASSETS, or skip the end-to-end test with E2E=skip"
fi
require_end

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
work=$target/emulated
rm -rf "$work"
mkdir -p "$work"
if [[ $dist ]]; then
    program=$dist/embedrun
else
    # The same packages as in the other builds, so that shared crates are compiled once.
    (
        export EMBEDRUN_CANDLE_KERNELS=none
        source scripts/cuda-env.sh
        cargo build --locked --workspace --bins --features embedrun-runner/cuda
    )
    # The next build overwrites it with a program without CUDA.
    program=$work/embedrun
    cp "$target/debug/embedrun" "$program"
fi
[[ -x $program ]] || {
    echo "emulated.sh: $program is missing; make cuda builds it" >&2
    exit 2
}
cargo build --locked --workspace --lib
# One file with all names, so that it is loaded once.
mkdir "$work/driver"
cp "$target/debug/libemulated_driver.so" "$work/driver/libcuda.so.1"
for name in libcublas.so.13 libcublasLt.so.13 libcurand.so.10 libnvidia-ml.so.1; do
    ln "$work/driver/libcuda.so.1" "$work/driver/$name"
done
model=$(scripts/models.sh all-MiniLM-L6-v2)
EMBEDRUN_TEST_MODELS=$(dirname "$model")
export EMBEDRUN_TEST_MODELS EMBEDRUN_TEST_CUDA_RUNNER=$program EMBEDRUN_TEST_DRIVER=$work/driver
cargo test --locked --workspace --test cli -- --ignored cards::

if [[ ${E2E:-} == skip ]]; then
    echo "E2E=skip: PODS THAT HOLD CARDS ARE SKIPPED" >&2
    exit
fi
if [[ -z ${KUBEBUILDER_ASSETS:-} ]]; then
    KUBEBUILDER_ASSETS=$(tests/control-plane/build.sh)
    export KUBEBUILDER_ASSETS
fi
cargo build --locked --workspace --bins
cargo test --locked --workspace --test e2e -- pods_compute

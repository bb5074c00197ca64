#!/usr/bin/env bash
# Runs all tests: unit, contract, chart and end-to-end. Installs or builds the tools that they need into a cache, once.
#
#   E2E=skip scripts/test.sh    skips the tests that need a control plane, and reports them as skipped
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/require.sh

require_toolchain
require_bwrap
if [[ ${E2E:-} != skip && -z ${KUBEBUILDER_ASSETS:-} ]]; then
    require go "install Go 1.26, or set KUBEBUILDER_ASSETS; E2E=skip skips the end-to-end tests"
fi
require_end

for name in splade-tiny bge-small-en-v1.5-dq ms-marco-MiniLM-L12-v2-dq paraphrase-MiniLM-L3-v2; do
    scripts/models.sh "$name" >/dev/null
done
model=$(scripts/models.sh all-MiniLM-L6-v2)
export EMBEDRUN_TEST_MODELS=$(dirname "$model")
if [[ ${E2E:-} != skip ]]; then
    if [[ -z ${KUBEBUILDER_ASSETS:-} ]]; then
        KUBEBUILDER_ASSETS=$(tests/control-plane/build.sh)
        export KUBEBUILDER_ASSETS
    fi
fi

# The end-to-end tests run these binaries in pods.
cargo build --locked --workspace --bins
cargo test --locked --workspace "$@"

#!/usr/bin/env bash
# Everything: unit, contract, chart and end-to-end tests. Installs or builds what it needs, once, into a cache.
#
#   E2E=skip scripts/test.sh    leaves out what needs a control plane, and says so
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/require.sh

require_toolchain
require_bwrap
if [[ ${E2E:-} != skip && -z ${KUBEBUILDER_ASSETS:-} ]]; then
    require go "Go 1.26 builds the control plane of the end-to-end tests; or set KUBEBUILDER_ASSETS, or E2E=skip"
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

# The end-to-end tests run the binaries as a pod would.
cargo build --locked --workspace --bins
cargo test --locked --workspace "$@"

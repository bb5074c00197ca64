#!/usr/bin/env bash
# Runs a local control plane with a kubelet that uses this project's binaries as images, until Ctrl-C.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/require.sh

require_toolchain
require_bwrap
[[ -n ${KUBEBUILDER_ASSETS:-} ]] || require go "install Go 1.26, or set KUBEBUILDER_ASSETS"
require_end

cargo build --locked --workspace --bins
if [[ -z ${KUBEBUILDER_ASSETS:-} ]]; then
    KUBEBUILDER_ASSETS=$(tests/control-plane/build.sh)
    export KUBEBUILDER_ASSETS
fi
mkdir -p target/cluster
exec "$built"/devcluster --dir "$PWD/target/cluster" --gpus 8 \
    --image "embedrun.test/operator=$built/embedrun-operator:/usr/local/bin/embedrun-operator" \
    --image "embedrun.test/runner=$built/embedrun:/usr/local/bin/embedrun"

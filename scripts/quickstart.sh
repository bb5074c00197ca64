#!/usr/bin/env bash
# The whole pipeline from scratch: builds everything, starts a control plane, installs the chart, embeds docs/, shows
# the retrieval quality of every stage, and runs two searches.
#
#   CLUSTER=existing scripts/quickstart.sh    uses the cluster of KUBECONFIG; see docs/guides/quickstart.md
#
# OPERATOR_ROOT and RUNNER_ROOT name folders with unpacked images, which replace the programs that are built here.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/require.sh

namespace=embedrun-quickstart
system=embedrun-quickstart-system
work=$PWD/target/quickstart
manifest=docs/examples/quickstart.yaml
queries=docs/examples/quickstart-queries.yaml

say() { printf '\n== %s\n' "$*"; }
fail() {
    echo "quickstart: $*" >&2
    exit 1
}

existing=0
if [[ ${CLUSTER:-} == existing ]]; then
    existing=1
    [[ -n ${KUBECONFIG:-} ]] || fail "CLUSTER=existing needs KUBECONFIG"
    [[ -n ${OPERATOR_IMAGE:-} && -n ${RUNNER_IMAGE:-} ]] ||
        fail "CLUSTER=existing needs OPERATOR_IMAGE and RUNNER_IMAGE (repository:tag) that the nodes can pull"
    require kubectl "https://kubernetes.io/docs/tasks/tools"
    require helm "https://helm.sh/docs/intro/install"
else
    require_toolchain
    require_bwrap
    [[ -n ${KUBEBUILDER_ASSETS:-} ]] || require go "install Go 1.26, or set KUBEBUILDER_ASSETS"
fi
require_end
started=$SECONDS

cluster_pid=
finish() {
    [[ -n $cluster_pid ]] || return 0
    kill -TERM "$cluster_pid" 2>/dev/null || true
    wait "$cluster_pid" 2>/dev/null || true
}
trap finish EXIT

mkdir -p "$work"
if [[ $existing == 0 ]]; then
    say "building the operator and the runner"
    # The whole workspace, as the tests build it: another selection of packages would compile candle again.
    cargo build --locked --workspace --bins

    say "fetching the models"
    models=()
    for name in all-MiniLM-L6-v2 bge-small-en-v1.5-dq splade-tiny ms-marco-MiniLM-L12-v2-dq; do
        folder=$(scripts/models.sh "$name")
        echo "$folder"
        models+=("$folder")
    done

    say "starting a local control plane with a kubelet (8 simulated GPUs, loopback only)"
    if [[ -z ${KUBEBUILDER_ASSETS:-} ]]; then
        KUBEBUILDER_ASSETS=$(tests/control-plane/build.sh)
        export KUBEBUILDER_ASSETS
    fi
    rm -rf "$work/out" "$work/cluster" "$work/kubeconfig.path" && mkdir -p "$work/out"
    "$built"/devcluster --dir "$work/cluster" --gpus 8 \
        --image "embedrun.test/operator=${OPERATOR_ROOT:-$built/embedrun-operator}:/usr/local/bin/embedrun-operator" \
        --image "embedrun.test/runner=${RUNNER_ROOT:-$built/embedrun}:/usr/local/bin/embedrun" \
        >"$work/kubeconfig.path" 2>"$work/cluster.log" &
    cluster_pid=$!
    # It prints the path of the kubeconfig when everything is ready.
    for _ in $(seq 240); do
        [[ -s $work/kubeconfig.path ]] && break
        kill -0 "$cluster_pid" 2>/dev/null || fail "the control plane did not start: $(tail -5 "$work/cluster.log")"
        sleep 0.5
    done
    [[ -s $work/kubeconfig.path ]] || fail "the control plane is not ready after two minutes; see $work/cluster.log"
    KUBECONFIG=$(<"$work/kubeconfig.path")
    export KUBECONFIG
    PATH=$KUBEBUILDER_ASSETS:$PATH
    OPERATOR_IMAGE=embedrun.test/operator:dev
    RUNNER_IMAGE=embedrun.test/runner:dev
fi
kubectl version | sed 's/^/  /'

say "installing the chart"
values=(
    --set "operator.image.repository=${OPERATOR_IMAGE%:*}" --set "operator.image.tag=${OPERATOR_IMAGE##*:}"
    --set "runner.image.repository=${RUNNER_IMAGE%:*}" --set "runner.image.tag=${RUNNER_IMAGE##*:}"
)
if [[ $existing == 0 ]]; then
    # The pods of the local kubelet share the network of this machine.
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    values+=(--set operator.bindAddress=127.0.0.1 --set "service.port=$port")
fi
helm upgrade --install embedrun charts/embedrun --namespace "$system" --create-namespace "${values[@]}" >/dev/null
kubectl -n "$system" rollout status deployment/embedrun-operator --timeout=120s

say "creating the volume claims docs, models and vectors"
kubectl create namespace "$namespace" --dry-run=client -o yaml | kubectl apply -f - >/dev/null
if [[ $existing == 0 ]]; then
    kubectl label --overwrite namespace "$namespace" pod-security.kubernetes.io/enforce=restricted >/dev/null
    volume() { # volume NAME FOLDER: a claim that is bound to a folder of this machine
        kubectl apply -f - <<YAML
apiVersion: v1
kind: PersistentVolume
metadata: {name: quickstart-$1}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteMany]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: ""
  hostPath: {path: "$2"}
  claimRef: {namespace: $namespace, name: $1}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: $1, namespace: $namespace}
spec:
  accessModes: [ReadWriteMany]
  storageClassName: ""
  volumeName: quickstart-$1
  resources: {requests: {storage: 1Gi}}
YAML
    }
    rm -rf "$work/models" && mkdir -p "$work/models"
    for folder in "${models[@]}"; do
        cp -rL "$folder" "$work/models/"
    done
    volume docs "$PWD/docs"
    volume models "$work/models"
    volume vectors "$work/out"
else
    for claim in docs models vectors; do
        kubectl -n "$namespace" get pvc "$claim" >/dev/null 2>&1 ||
            fail "namespace $namespace has no claim $claim; create and fill it as docs/guides/quickstart.md describes"
    done
fi

say "kubectl apply -f $queries -f $manifest"
kubectl apply -f "$queries" -f "$manifest"
last=
phase=
for _ in $(seq 600); do
    line=$(kubectl -n "$namespace" get erun quickstart --no-headers 2>/dev/null | sed 's/ *[^ ]*$//') || true
    [[ $line == "$last" ]] || { echo "$line" && last=$line; }
    phase=$(kubectl -n "$namespace" get erun quickstart -o jsonpath='{.status.phase}')
    [[ $phase == Succeeded || $phase == Failed ]] && break
    sleep 0.5
done

say "status"
kubectl -n "$namespace" get erun quickstart -o wide
kubectl -n "$namespace" get erun quickstart \
    -o jsonpath='{range .status.conditions[?(@.status=="True")]}  {.type}: {.reason}: {.message}{"\n"}{end}'
if [[ $phase != Succeeded ]]; then
    kubectl -n "$namespace" get jobs,pods -o wide || true
    kubectl -n "$namespace" get events --sort-by=.lastTimestamp | tail -20 || true
    echo "EmbeddingRun quickstart: ${phase:-not started}"
    exit 1
fi
echo
echo "summary: $(kubectl -n "$namespace" get erun quickstart -o jsonpath='{.status.collections[0].summary.uri}')"
revision=$(kubectl -n "$namespace" get erun quickstart -o jsonpath='{.status.revision}')

if [[ $existing == 0 ]]; then
    echo "output:  target/quickstart/out/runs/$revision/docs/"
    ls "$work/out/runs/$revision/docs"
    say "embedrun summary show target/quickstart/out/runs/$revision/docs/processing_summary.json"
    "$built"/embedrun summary show "$work/out/runs/$revision/docs/processing_summary.json"
    for question in "Which pods hold a GPU?" "Is a shard that is committed computed again after a restart?"; do
        say "$question"
        "$built"/embedrun search -f "$manifest" --volume "models=$work/models" --volume "vectors=$work/out" \
            --collection docs -k 3 "$question"
    done
fi

echo
echo "took $((SECONDS - started)) s"
echo "EmbeddingRun quickstart: Succeeded"

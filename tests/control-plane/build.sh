#!/usr/bin/env bash
# Builds etcd, the Kubernetes servers, kubectl and helm from their Go modules, once per set of pinned versions.
#
#   build.sh [DEST]
#
# DEST defaults to ${EMBEDRUN_CACHE:-$HOME/.cache/embedrun}/control-plane/<digest of the pinned versions>.
# Prints DEST as its only line of standard output. A complete DEST is never changed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
helm_module=$here/../helm

key=$(cat "$here"/go.{mod,sum} "$helm_module"/go.{mod,sum} | sha256sum | cut -c1-16)
dest=${1:-${EMBEDRUN_CACHE:-$HOME/.cache/embedrun}/control-plane/$key}
dest=$(realpath -m "$dest")

mkdir -p "$(dirname "$dest")"
exec 9>"$dest.lock"
flock 9
if [[ -d $dest ]]; then
    echo "$dest"
    exit
fi

command -v go >/dev/null || {
    echo "cannot find go in PATH: install Go 1.26, or set KUBEBUILDER_ASSETS to a folder with the binaries" >&2
    exit 1
}

# Go 1.27 built an API server with a malformed /openapi/v2, so the pinned toolchain replaces every other minor version.
pinned=$(sed -n 's/^toolchain //p' "$here/go.mod")
[[ $(GOTOOLCHAIN=local go env GOVERSION) == "${pinned%.*}".* ]] && pinned=local
export GOTOOLCHAIN=$pinned GOWORK=off CGO_ENABLED=0

unfinished=$(mktemp -d "$dest.XXXXXX")
trap 'rm -rf "$unfinished"' EXIT
chmod 755 "$unfinished"

version_of() { go -C "$1" list -m -f '{{.Version}}' "$2"; }

echo "building the control plane into $dest (several minutes, once)" >&2

kubernetes=$(version_of "$here" k8s.io/kubernetes)
[[ $kubernetes =~ ^v([0-9]+)\.([0-9]+)\. ]]
stamp="-s -w"
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    stamp+=" -X $package.gitVersion=$kubernetes -X $package.gitTreeState=clean"
    stamp+=" -X $package.gitMajor=${BASH_REMATCH[1]} -X $package.gitMinor=${BASH_REMATCH[2]}"
done
go -C "$here" build -trimpath -ldflags "-s -w" -o "$unfinished/etcd" go.etcd.io/etcd/server/v3
go -C "$here" build -trimpath -ldflags "$stamp" -o "$unfinished/" \
    k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kube-scheduler,kubectl}

helm=$(version_of "$helm_module" helm.sh/helm/v4)
go -C "$helm_module" build -trimpath -ldflags "-s -w -X helm.sh/helm/v4/internal/version.version=$helm" \
    -o "$unfinished/helm" helm.sh/helm/v4/cmd/helm

mv "$unfinished" "$dest"
trap - EXIT
echo "$dest"

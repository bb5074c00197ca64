#!/usr/bin/env bash
# Installs a CUDA toolkit for building on a machine without a GPU into the cache, once, and prints its folder.
#
# The compiler comes from packages of the Python index, pinned by version and sha256. A machine with a toolkit of its
# own (CUDA_HOME, or nvcc in the PATH) does not need this. The version is 13.0 because a driver of that generation (580)
# rejects the PTX of a newer one. Linking does not need the libraries of the driver and of cuBLAS: lib/stubs has stubs
# with their names and symbols, and the program loads the real libraries at run time.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# The stubs have the symbols of the locked version of cudarc.
key=$({
    cat "$here/cuda-toolkit.sh" "$here/cuda_stubs.py"
    grep -A 3 -x 'name = "cudarc"' "$here/../Cargo.lock"
} | sha256sum | cut -c1-16)
root=${EMBEDRUN_CACHE:-$HOME/.cache/embedrun}/cuda
dest=$root/$key

if [[ ! -d $dest ]]; then
    mkdir -p "$root"
    work=$(mktemp -d "$root/.unfinished.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    cat >"$work/requirements.txt" <<'PINS'
nvidia-cuda-nvcc==13.0.88 --hash=sha256:56fe502eb77625a12f25172caa3cdddb4e4c8ba2c8c17dba44b164761b380f03
nvidia-cuda-crt==13.0.88 --hash=sha256:2c8043c7c9e02492716426e9919fc78d2c5b3b2a7a768a88e952676b08aa55a4
nvidia-nvvm==13.0.88 --hash=sha256:c5f41ffeb6466944a026dfa5317d7d85355c119bbec279205d22f1869d1054e0
nvidia-cuda-runtime==13.0.96 --hash=sha256:7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548
nvidia-cuda-cccl==13.0.85 --hash=sha256:e0da7ad981f3a8aff08241b5bfc1af868742a63e2762f53a5171c492ef242649
PINS
    echo "fetching the CUDA compiler (105 MB)" >&2
    python3 -m pip download -q --disable-pip-version-check --no-deps --require-hashes -d "$work/wheels" \
        -r "$work/requirements.txt" >&2
    for wheel in "$work/wheels"/*.whl; do python3 -m zipfile -e "$wheel" "$work/packages"; done
    toolkit=$work/packages/nvidia/cu13
    chmod +x "$toolkit"/bin/* "$toolkit"/nvvm/bin/*
    # Build scripts search for libraries in lib64.
    ln -s lib "$toolkit/lib64"
    ln -sf libcudart.so.13 "$toolkit/lib/libcudart.so"
    cargo fetch --locked --manifest-path "$here/../Cargo.toml" >&2
    python3 "$here/cuda_stubs.py" "$toolkit/lib/stubs"
    # Another script may have finished first; its folder has the same contents.
    mv -T "$toolkit" "$dest" 2>/dev/null || [[ -d $dest ]]
fi
echo "$dest"

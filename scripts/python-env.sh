#!/usr/bin/env bash
# Makes the Python environment of a folder of tests/, once, and prints its interpreter.
#
#   python-env.sh NAME        the packages of tests/NAME/requirements.txt, e.g. parity
#
# The requirements pin every package, so nothing is resolved: pip installs exactly these. The environment's folder is
# named by the digest of the requirements and the version of Python, so that a change of either makes a new one.
set -euo pipefail

name=${1:?usage: python-env.sh NAME}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
requirements=$here/../tests/$name/requirements.txt

fail() {
    echo "python-env.sh: $*" >&2
    exit 1
}

[[ -f $requirements ]] || fail "tests/$name has no requirements.txt"
version=$(python3 -c 'import platform; print(platform.python_version())') || fail "python3 is not there"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "Python 3.11 or newer is needed, this is $version"
key=$({ echo "$version"; cat "$requirements"; } | sha256sum | cut -c1-16)
root=${EMBEDRUN_CACHE:-$HOME/.cache/embedrun}/python
dest=$root/$key

mkdir -p "$root"
exec 9>"$root/.lock"
flock 9
# A virtual environment cannot be moved, so the last step of making it is a marker instead of a rename.
if [[ ! -e $dest/complete ]]; then
    rm -rf "$dest"
    echo "installing the packages of tests/$name (some gigabytes where PyTorch is among them)" >&2
    python3 -m venv "$dest" >&2
    "$dest/bin/python" -m pip install -q --no-deps --disable-pip-version-check -r "$requirements" >&2 ||
        fail "cannot install the packages of tests/$name"
    touch "$dest/complete"
fi
echo "$dest/bin/python"

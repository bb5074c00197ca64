#!/usr/bin/env bash
# Creates the Python environment of a folder of tests/, once, and prints the path of its interpreter.
#
#   python-env.sh NAME        installs tests/NAME/requirements.txt, for example for NAME=parity
#
# The requirements pin every package: pip installs exactly these and resolves nothing. The name of the environment is
# the digest of the requirements and the Python version, so a change of either creates a new environment.
set -euo pipefail

name=${1:?usage: python-env.sh NAME}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
requirements=$here/../tests/$name/requirements.txt

fail() {
    echo "python-env.sh: $*" >&2
    exit 1
}

[[ -f $requirements ]] || fail "tests/$name has no requirements.txt"
version=$(python3 -c 'import platform; print(platform.python_version())') || fail "python3 is not installed"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "needs Python 3.11 or newer, found $version"
key=$({ echo "$version"; cat "$requirements"; } | sha256sum | cut -c1-16)
root=${EMBEDRUN_CACHE:-$HOME/.cache/embedrun}/python
dest=$root/$key

mkdir -p "$root"
exec 9>"$root/.lock"
flock 9
# A virtual environment cannot be moved: a marker file instead of a rename shows that it is complete.
if [[ ! -e $dest/complete ]]; then
    rm -rf "$dest"
    echo "installing the packages of tests/$name (several gigabytes if they include PyTorch)" >&2
    python3 -m venv "$dest" >&2
    "$dest/bin/python" -m pip install -q --no-deps --disable-pip-version-check -r "$requirements" >&2 ||
        fail "cannot install the packages of tests/$name"
    touch "$dest/complete"
fi
echo "$dest/bin/python"

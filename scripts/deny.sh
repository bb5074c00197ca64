#!/usr/bin/env bash
# Checks licences, sources and duplicates of the dependencies, and advisories where their database can be had.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=0.20.2
root=${EMBEDRUN_CACHE:-$HOME/.cache/embedrun}/tools/cargo-deny-$version
if [[ ! -x $root/bin/cargo-deny ]]; then
    cargo install -q --locked --version "$version" --root "$root" cargo-deny
fi
"$root/bin/cargo-deny" --locked check bans licenses sources
if ! "$root/bin/cargo-deny" --locked check advisories; then
    if "$root/bin/cargo-deny" --locked fetch db 2>/dev/null; then
        exit 1
    fi
    echo "advisories: NOT CHECKED, the advisory database is out of reach" >&2
fi

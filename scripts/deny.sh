#!/usr/bin/env bash
# Checks licences, sources and versions of the dependencies; with ADVISORIES=1 also security advisories.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=0.20.2
root=${EMBEDRUN_CACHE:-$HOME/.cache/embedrun}/tools/cargo-deny-$version
if [[ ! -x $root/bin/cargo-deny ]]; then
    cargo install -q --locked --version "$version" --root "$root" cargo-deny
fi
checks=(bans licenses sources)
# The advisory database is a git repository: fetching it needs network access.
[[ ${ADVISORIES:-} == 1 ]] && checks+=(advisories)
"$root/bin/cargo-deny" --locked check "${checks[@]}"

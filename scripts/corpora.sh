#!/usr/bin/env bash
# Writes the test corpora as JSON Lines into the cache and prints their folder; scripts/corpora.py describes the files.
#
# The texts come from the Debian packages dict-gcide (GPL), wordnet-base (WordNet) and dict-foldoc (GFDL), which are
# unpacked but not installed. The output is pinned by sha256: GCIDE and WordNet are the same in Debian 12 and 13, FOLDOC
# is newer in 13. The name of the folder is the digest of the two scripts. A finished folder never changes.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/packages.sh"
key=$(cat "$here/corpora.sh" "$here/corpora.py" | sha256sum | cut -c1-16)
root=${EMBEDRUN_CACHE:-$HOME/.cache/embedrun}/corpora
dest=$root/$key

fail() {
    echo "corpora.sh: $*" >&2
    exit 1
}

pins() {
    cat <<SUMS
dbdc9b319b751015854d42d0a5a7567e6e9f8125937c7f78fbbc1bd55b1d0b5b  foldoc.jsonl
027e3294fbd8013893cb297503f5648d2d63259c21546e8c18824bf95268c32d  foldoc.jsonl
ab98261c22b9d20b376e77488fda3aea842d62fca159ce82a7bd7a72e7a4c5f2  gcide.jsonl
3d717010b7f1810e0d80a4c09d929209efd6c4534b75fa1673f18901d9d81743  mixed_1000.jsonl
56198ce0d3290afb27caf864ac1ebdf1c3e850cb0755db2709b839a16755f8d3  pairs_185.jsonl
ea6e2f41fe4abe0682231eead064c6631e93f4017fa9527b22eaee102378f9c5  wordnet.jsonl
2c504b8346eefd360aff265c3bb6b40a47e7e8c2c01ead89e4f0b88eb178f104  wordnet_queries.jsonl
SUMS
}

mkdir -p "$root"
exec 9>"$root/.lock"
flock 9
if [[ -d $dest ]]; then
    echo "$dest"
    exit
fi

for tool in apt-get dpkg-deb; do
    command -v "$tool" >/dev/null || fail "$tool is missing: the corpora come from Debian packages"
done
model=$("$here/models.sh" all-MiniLM-L6-v2)
packages=$(python_packages tokenizers==0.23.3) || fail "cannot install the Python package tokenizers"

unfinished=$(mktemp -d "$root/.corpora.XXXXXX")
trap 'rm -rf "$unfinished"' EXIT
chmod 755 "$unfinished"
for package in dict-gcide wordnet-base dict-foldoc; do
    echo "fetching $package" >&2
    (cd "$unfinished" && apt-get -qq download "$package" 2>apt.log) ||
        fail "cannot fetch $package ($(tail -n 1 "$unfinished/apt.log")); run apt-get update and try again"
    dpkg-deb -x "$unfinished/$package"_*.deb "$unfinished/files"
done
echo "writing the texts" >&2
mkdir "$unfinished/corpora"
PYTHONPATH=$packages python3 "$here/corpora.py" "$unfinished/files/usr/share" "$model/tokenizer.json" \
    "$unfinished/corpora"
for file in "$unfinished"/corpora/*.jsonl; do
    sum=$(sha256sum <"$file" | cut -d' ' -f1)
    pins | grep -qx "$sum  $(basename "$file")" ||
        fail "$(basename "$file") ($sum) does not match its pinned sha256: the packages of this system have other texts"
done
mv "$unfinished/corpora" "$dest"
echo "$dest"

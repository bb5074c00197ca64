# Sourced. Reports all missing tools, one line each, before anything is built.
#
#   require TOOL "how to get it"      an executable in the PATH
#   require_bwrap                     Debian's bubblewrap, installed automatically when running as root
#
# Sets `built` to the absolute path of the folder that `cargo build` writes to.

built=$(realpath -m "${CARGO_TARGET_DIR:-target}")/debug
missing=0
require() {
    command -v "$1" >/dev/null && return
    echo "missing: $1 ($2)" >&2
    missing=1
}

require_bwrap() {
    command -v bwrap >/dev/null && return
    if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        echo "installing bubblewrap" >&2
        apt-get -qq update >&2 && apt-get -qq install -y --no-install-recommends bubblewrap >&2 && return
    fi
    echo "missing: bwrap (apt-get install bubblewrap; the local kubelet isolates containers with it)" >&2
    missing=1
}

require_toolchain() {
    require cargo "install Rust with rustup, https://rustup.rs"
    require cc "install a C compiler, for example the package gcc"
    require python3 "install Python 3 with pip, for the test models"
}

require_end() {
    [[ $missing == 0 ]] || exit 2
}

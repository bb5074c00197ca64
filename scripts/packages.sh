# Sourced. Installs Python packages for a script of this folder, next to the system's packages, without a virtual
# environment.
#
#   python_packages NAME==VERSION…    installs exactly these into the cache, once; prints the folder for PYTHONPATH

python_packages() {
    local tools=${EMBEDRUN_CACHE:-$HOME/.cache/embedrun}/tools folder unfinished
    folder=$tools/python-$( (python3 --version && printf '%s\n' "$@") | sha256sum | cut -c1-16)
    if [[ ! -d $folder ]]; then
        mkdir -p "$tools"
        unfinished=$(mktemp -d "$tools/.python.XXXXXX")
        PIP_ROOT_USER_ACTION=ignore python3 -m pip install -q --no-deps --target "$unfinished" "$@" >&2 || {
            rm -rf "$unfinished"
            return 1
        }
        chmod 755 "$unfinished"
        # Another script may have finished first; its folder has the same contents.
        mv -T "$unfinished" "$folder" 2>/dev/null || rm -rf "$unfinished"
    fi
    echo "$folder"
}

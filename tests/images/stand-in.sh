#!/usr/bin/env bash
# Makes substitutes for the base images of the Dockerfiles, for machines without access to an image registry: of Debian
# 12's packages, of this machine's Rust and of the CUDA compiler of scripts/cuda-toolkit.sh.
#
#   tests/images/stand-in.sh rust|cc|static|cuda-devel|cuda-runtime…
#
# Each becomes embedrun-stand-in/NAME in the engine (ENGINE, as check.sh). Needs mmdebstrap and root, and for rust a
# toolchain of rustup. They contain no more than the images that they replace, so that missing files are noticed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
read -ra engine <<<"${ENGINE:-podman}"
prefix=localhost/embedrun-stand-in
rust=$(sed -n 's/^channel = "\(.*\)"$/\1/p' rust-toolchain.toml)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

import() { # NAME ROOT [CHANGE…]: imports the folder ROOT as an image
    local name=$1 root=$2 change
    shift 2
    local changes=()
    for change in "$@"; do changes+=(--change "$change"); done
    tar -C "$root" -c . | "${engine[@]}" import "${changes[@]}" - "$prefix/$name" >/dev/null
    echo "$prefix/$name"
}

debian() { # ROOT PACKAGE,…: installs Debian 12 with these packages
    mmdebstrap --quiet --variant=minbase --format=directory --include="$2" bookworm "$1"
}

packages() { # FROM ROOT PACKAGE…: copies the files of these packages of a Debian to an empty folder
    local from=$1 root=$2
    shift 2
    mkdir -p "$root"/{etc/ssl/certs,home/nonroot,root,tmp,usr/bin,usr/lib,usr/lib64,usr/local/bin,usr/sbin,var/tmp}
    chmod 1777 "$root/tmp" "$root/var/tmp"
    for folder in bin lib lib64 sbin; do ln -s "usr/$folder" "$root/$folder"; done
    printf 'root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n' \
        >"$root/etc/passwd"
    printf 'root:x:0:\nnonroot:x:65532:\n' >"$root/etc/group"
    cp "$from/etc/ssl/certs/ca-certificates.crt" "$root/etc/ssl/certs/"
    [[ $# == 0 ]] && return
    # Files only; a merged /usr has symbolic links.
    chroot "$from" dpkg -L "$@" | sort -u | while read -r path; do
        if [[ $path != /usr/share/* && ! -d $from$path ]]; then echo "${path#/}"; fi
    done >"$work/files"
    tar -C "$from" -c --files-from="$work/files" | tar -C "$root" -x --keep-directory-symlink
}

for name in "$@"; do
    root=$work/$name
    case $name in
    rust)
        # Like the official image: a C and C++ compiler, rustup's folders under /usr/local, the minimal profile.
        debian "$root" ca-certificates,g++,gcc,git,libc6-dev,make,pkg-config
        toolchain=$(rustup run "$rust" rustc --print sysroot)
        mkdir -p "$root/usr/local/cargo/bin" "$root/usr/local/rustup/toolchains"
        cp -r "$toolchain" "$root/usr/local/rustup/toolchains/"
        rm -rf "$root/usr/local/rustup/toolchains"/*/share
        cp -L "$(command -v rustup)" "$root/usr/local/cargo/bin/rustup"
        for proxy in cargo rustc rustdoc; do ln "$root/usr/local/cargo/bin/rustup" "$root/usr/local/cargo/bin/$proxy"; done
        chmod -R a+rwX "$root/usr/local/cargo" "$root/usr/local/rustup"
        import rust "$root" "ENV RUSTUP_HOME=/usr/local/rustup" "ENV CARGO_HOME=/usr/local/cargo" \
            "ENV PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        ;;
    cc)
        [[ -d $work/debian ]] || debian "$work/debian" ca-certificates,libstdc++6
        packages "$work/debian" "$root" libc6 libgcc-s1 libstdc++6
        import cc "$root" "USER 65532"
        ;;
    static)
        [[ -d $work/debian ]] || debian "$work/debian" ca-certificates,libstdc++6
        packages "$work/debian" "$root"
        import static "$root" "USER 65532"
        ;;
    cuda-devel | cuda-runtime)
        debian "$root" ca-certificates
        toolkit=$(scripts/cuda-toolkit.sh)
        if [[ $name == cuda-devel ]]; then
            mkdir -p "$root/usr/local"
            cp -r "$toolkit" "$root/usr/local/cuda"
        else
            # Names and symbols of cuBLAS and cuRAND, without code. No image has the driver's library.
            mkdir -p "$root/usr/local/cuda/lib64" "$root/etc/ld.so.conf.d"
            cp "$toolkit"/lib/stubs/*.so "$toolkit"/lib/libcudart.so.13 "$root/usr/local/cuda/lib64/"
            rm "$root/usr/local/cuda/lib64/libcuda.so"
            echo /usr/local/cuda/lib64 >"$root/etc/ld.so.conf.d/cuda.conf"
            chroot "$root" ldconfig
        fi
        import "$name" "$root" "ENV PATH=/usr/local/cuda/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        ;;
    *)
        echo "unknown stand-in $name; known: rust, cc, static, cuda-devel, cuda-runtime" >&2
        exit 2
        ;;
    esac
done

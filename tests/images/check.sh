#!/usr/bin/env bash
# Builds the images of the Dockerfiles and checks that they work: tests/images/README.md.
#
#   tests/images/check.sh [operator|runner|runner-cuda]…      without a name: operator and runner
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source scripts/require.sh
if [[ -z ${ENGINE:-} ]]; then
    ENGINE=docker
    docker info >/dev/null 2>&1 || ENGINE=podman
fi
export ENGINE
read -ra engine <<<"$ENGINE"
read -ra build_args <<<"${BUILD_ARGS:-}"
require "${engine[0]}" "a container engine: docker, podman, or the one that ENGINE names"
require_end

images=("$@")
[[ $# -gt 0 ]] || images=(operator runner)
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -1)
revision=$(git rev-parse HEAD)
prefix=localhost/embedrun-check
work=$PWD/target/images
failed=0
mkdir -p "$work"

verdict() { # STATUS WORDS…
    local status=$1
    shift
    if [[ $status == 0 ]]; then echo "ok    $*"; else failed=1 && echo "WRONG $*"; fi
}
expect() { # WORDS FOUND PATTERN
    local status=0
    # shellcheck disable=SC2053
    [[ $2 == $3 ]] || status=1
    verdict $status "$1: ${2:-nothing}"
}
config() { "${engine[@]}" inspect --type image --format "$2" "$prefix/$1"; }
# As a pod of the chart: a read-only root, no capabilities, no network.
run() { "${engine[@]}" run --rm --read-only --cap-drop all --security-opt no-new-privileges --network none "$@"; }

build() { # NAME FILE TARGET ARGUMENT=STAND-IN…: the arguments that name base images, and the substitute for each
    local name=$1 file=$2 arguments=(--build-arg "VERSION=$version" --build-arg "REVISION=$revision") pair image
    [[ -z $3 ]] || arguments+=(--target "$3")
    shift 3
    for pair in "$@"; do
        [[ ${STAND_IN:-} ]] || break
        image=localhost/embedrun-stand-in/${pair#*=}
        "${engine[@]}" inspect --type image "$image" >/dev/null 2>&1 || tests/images/stand-in.sh "${pair#*=}"
        arguments+=(--build-arg "${pair%%=*}=$image")
    done
    "${engine[@]}" build "${build_args[@]}" -f "$file" "${arguments[@]}" -t "$prefix/$name" . >"$work/$name.log" 2>&1 || {
        tail -20 "$work/$name.log" >&2
        echo "cannot build $name, see $work/$name.log" >&2
        exit 1
    }
}

described() { # NAME PROGRAM
    expect "$1, user" "$(config "$1" '{{.Config.User}}')" 65532:65532
    expect "$1, entrypoint" "$(config "$1" '{{join .Config.Entrypoint " "}}')" "/usr/local/bin/$2"
    expect "$1, title" "$(config "$1" '{{index .Config.Labels "org.opencontainers.image.title"}}')" "embedrun-$1"
    expect "$1, version" "$(config "$1" '{{index .Config.Labels "org.opencontainers.image.version"}}')" "$version"
    expect "$1, revision" "$(config "$1" '{{index .Config.Labels "org.opencontainers.image.revision"}}')" "$revision"
    echo "      $1, size: $(($(config "$1" '{{.Size}}') / 1000000)) MB"
}
without_shell() {
    local status=0
    ! run --entrypoint /bin/sh "$prefix/$1" -c true >/dev/null 2>&1 || status=1
    verdict $status "$1 has no shell"
}
unpack() { # NAME: exports its root for the local kubelet
    local container
    chmod -R u+w "$work/$1" 2>/dev/null || true
    rm -rf "${work:?}/$1"
    mkdir "$work/$1"
    container=$("${engine[@]}" create "$prefix/$1")
    "${engine[@]}" export "$container" | tar -C "$work/$1" -x --no-same-owner
    "${engine[@]}" rm "$container" >/dev/null
}

for image in "${images[@]}"; do
    echo "== $image"
    case $image in
    operator)
        build operator operator/Dockerfile "" RUST_IMAGE=rust BASE_IMAGE=static
        described operator embedrun-operator
        without_shell operator
        expect "operator, --version" "$(run "$prefix/operator" --version)" "embedrun-operator $version"
        status=0
        output=$(run "$prefix/operator" --runner-image runner:0 2>&1) || status=$?
        expect "operator, without a cluster, exit code" "$status" "[1-9]*"
        expect "operator, without a cluster" "$output" "*cannot find the API server*"
        ;;
    runner)
        build runner runner/Dockerfile cpu RUST_IMAGE=rust CPU_BASE_IMAGE=cc
        described runner embedrun
        without_shell runner
        expect "runner, --version" "$(run "$prefix/runner" --version)" "embedrun $version"
        models=$work/models
        out=$work/out
        rm -rf "$models" "$out"
        mkdir -p "$models" "$out" "$work/queries"
        sed -n 's/^ *{"id"/{"id"/p' docs/examples/quickstart-queries.yaml >"$work/queries/queries.jsonl"
        chmod 777 "$out"
        for name in all-MiniLM-L6-v2 bge-small-en-v1.5-dq splade-tiny ms-marco-MiniLM-L12-v2-dq; do
            cp -rL "$(scripts/models.sh "$name")" "$models/"
        done
        status=0
        run --tmpfs /tmp -v "$PWD/docs:/docs:ro" -v "$models:/models:ro" -v "$work/queries:/queries:ro" -v "$out:/out" \
            "$prefix/runner" run -f /docs/examples/quickstart.yaml --volume docs=/docs --volume models=/models \
            --volume configmap/quickstart-queries=/queries --volume vectors=/out >"$work/run.log" 2>&1 || status=$?
        verdict $status "runner embeds docs/ ($work/run.log)"
        ;;
    runner-cuda)
        build runner-cuda runner/Dockerfile cuda RUST_IMAGE=rust CUDA_DEVEL_IMAGE=cuda-devel \
            CUDA_BASE_IMAGE=cuda-runtime
        described runner-cuda embedrun
        status=0
        output=$(run "$prefix/runner-cuda" --version 2>&1) || status=$?
        expect "runner-cuda, without a driver, exit code" "$status" 127
        expect "runner-cuda, without a driver" "$output" "*libcuda.so.1*"
        # The stub of the driver satisfies the loader.
        driver=$(scripts/cuda-toolkit.sh)/lib/stubs/libcuda.so
        output=$(run -v "$driver:/driver/libcuda.so.1:ro" -e LD_LIBRARY_PATH=/driver "$prefix/runner-cuda" --version 2>&1) || true
        expect "runner-cuda, with a stub of the driver, --version" "$output" "embedrun $version"
        ;;
    *)
        echo "unknown image $image; known: operator, runner, runner-cuda" >&2
        exit 2
        ;;
    esac
done

if [[ " ${images[*]} " == *" operator "* && " ${images[*]} " == *" runner "* && ${QUICKSTART:-} != skip ]]; then
    echo "== quickstart"
    unpack operator
    unpack runner
    status=0
    OPERATOR_ROOT=$work/operator RUNNER_ROOT=$work/runner make quickstart >"$work/quickstart.log" 2>&1 || status=$?
    verdict $status "make quickstart, in the images ($work/quickstart.log): $(tail -1 "$work/quickstart.log")"
fi
exit $failed

#!/usr/bin/env bash
# Checks the build of `make cuda` on a machine with an NVIDIA card: correctness, then speed beside the card's own matrix
# products and beside a peer. It downloads nothing and takes less than eight minutes.
#
#   check.sh [--dry] DIST [MODELS]
#
# DIST is the folder that `make cuda` writes, MODELS a folder of model folders of scripts/models.sh. --dry runs the same
# steps with small inputs on a CPU, without a card. PYTHON names an interpreter that has PyTorch [python3].
#
# Exits 1 if a check fails. A missed goal of speed is only marked.
set -euo pipefail

dry=
if [[ ${1:-} == --dry ]]; then
    dry=--dry
    shift
fi
dist=$(realpath "${1:?usage: check.sh [--dry] DIST [MODELS]}")
models=${2:+$(realpath "$2")}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python3}

# Seconds of the parts; the speed gets the rest of the total.
total=${EMBEDRUN_CHECK_SECONDS:-470}
test_seconds=${EMBEDRUN_CHECK_TEST_SECONDS:-90}
memory_seconds=50

"$python" -c 'import torch' || {
    echo "check.sh: $python cannot import PyTorch; set PYTHON to an interpreter that can" >&2
    exit 2
}
if [[ ! $dry ]]; then
    command -v nvidia-smi >/dev/null || {
        echo "check.sh: nvidia-smi is missing; without a card use --dry" >&2
        exit 2
    }
    # The libraries of CUDA are PyTorch's; those of the driver are the machine's.
    libraries=$("$python" -c '
import pathlib, torch
root = pathlib.Path(torch.__file__).parents[1] / "nvidia"
print(":".join(str(path) for path in [root / "cu13/lib", *sorted(root.glob("*/lib"))] if path.is_dir()))')
    export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0 cut=0
print() { printf '%s\n' "$@"; }

# Parts run in parallel: none is timed, and each begins with seconds in which the card is idle.
names=()
start() { # NAME COMMAND...
    local log=$work/part-${#names[@]}
    names+=("$1")
    shift
    (
        began=$SECONDS status=0
        timeout -k 5 "$test_seconds" "$@" >"$log" 2>&1 || status=$?
        echo "$status $((SECONDS - began))" >"$log.ended"
    ) &
}
report() {
    local at status seconds log
    wait
    for at in "${!names[@]}"; do
        log=$work/part-$at
        read -r status seconds <"$log.ended"
        case $status in
        0) print "- ${names[at]}: ok, $seconds s" ;;
        124 | 137)
            cut=$((cut + 1))
            print "- ${names[at]}: cut after $test_seconds s, no result"
            ;;
        *)
            print "- ${names[at]}: FAILED with $status"
            tail -n 40 "$log" | cut -c -300 | sed 's/^/      /'
            failed=1
            ;;
        esac
        # The largest difference, of those that pass.
        sed -nE 's/^(.*): lowest cosine ([0-9.]+).*/\2 \1/p' "$log" | sort -n | head -n 1 | sed 's/^/      lowest cosine /'
    done
}

if [[ $dry ]]; then
    print "# Check of $(basename "$dist") on a CPU with small inputs: the numbers mean nothing"
else
    print "# Check on $(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader -i 0)"
fi
print "PyTorch $("$python" -c 'import torch; print(torch.__version__)')"

print "" "## Correctness"
some=0
for test in "$dist"/tests/*; do
    [[ -f $test && -x $test && $(basename "$test") != parity ]] || continue
    some=1
    name=$(basename "$test")
    start "$name" "$test"
    if command -v compute-sanitizer >/dev/null && [[ ! $dry ]]; then
        # Many times slower, so it may be cut.
        start "$name under compute-sanitizer" compute-sanitizer --error-exitcode 9 "$test"
    fi
done
[[ $some == 1 ]] || print "- $dist/tests has no tests of kernels: skipped"
command -v compute-sanitizer >/dev/null || print "- compute-sanitizer is not installed: skipped"

if [[ -x $dist/tests/parity ]]; then
    export EMBEDRUN_TEST_FIXTURES=$here/../../parity/fixtures
    if [[ $models ]]; then export EMBEDRUN_TEST_MODELS=$models; else unset EMBEDRUN_TEST_MODELS; fi
    export EMBEDRUN_TEST_DEVICE=cuda
    [[ ! $dry ]] || export EMBEDRUN_TEST_DEVICE=cpu
    for dtype in f32 f16 bf16; do start "parity, $dtype" env EMBEDRUN_TEST_DTYPE=$dtype "$dist/tests/parity"; done
else
    print "- $dist/tests/parity is missing: skipped"
fi
# Meanwhile, the models and texts of the speed are made.
start "models and texts" "$python" "$here/speed.py" "$dist" --work "$work" --prepare $dry
start "vectors" "$python" "$here/vectors.py" "$dist" --work "$work" $dry
report

status=0
timeout -k 5 $((memory_seconds + 30)) "$python" "$here/memory.py" "$dist" --work "$work" --budget $memory_seconds $dry \
    >"$work/log" 2>&1 || status=$?
if [[ $status != 0 ]]; then
    failed=1
    print "- memory: FAILED with $status"
fi
tail -n 20 "$work/log" | sed 's/^/- memory, /'

print "" "## Speed" ""
left=$((total - SECONDS))
# Ends a process that is stuck; the table up to it is printed already.
timeout -k 5 $((left + 5)) "$python" "$here/speed.py" "$dist" --work "$work" --budget "$left" $dry 2>"$work/log" || {
    print "" "The speed part was cut or failed: $(tail -n 3 "$work/log" | tr '\n' ' ')"
}

print ""
verdict="Correct."
[[ $cut == 0 ]] || verdict="Correct as far as checked: $cut of ${#names[@]} parts were cut."
[[ $failed == 0 ]] || verdict="Checks failed, see above."
print "$verdict Took $SECONDS s."
[[ $cut -lt ${#names[@]} ]] || failed=1
exit $failed

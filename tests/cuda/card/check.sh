#!/usr/bin/env bash
# Checks what `make cuda` built on a machine with an NVIDIA card: correctness, then speed beside the card's own matrix
# products and beside a peer. Nothing is fetched, and the whole takes less than eight minutes.
#
#   check.sh [--dry] DIST [MODELS]
#
# DIST is the folder that `make cuda` lays out, MODELS one of model folders as scripts/models.sh lays them out. --dry
# goes the same way in little on a CPU, without a card. PYTHON names an interpreter that has PyTorch [python3].
#
# Exits 1 where something is wrong; goals of speed that are missed are only marked.
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

# Seconds of the parts; the speed gets what is left of the whole.
total=${EMBEDRUN_CHECK_SECONDS:-470}
of_tests=${EMBEDRUN_CHECK_TEST_SECONDS:-90}
of_memory=50

"$python" -c 'import torch' || {
    echo "check.sh: $python has no PyTorch; PYTHON names another interpreter" >&2
    exit 2
}
if [[ ! $dry ]]; then
    command -v nvidia-smi >/dev/null || {
        echo "check.sh: there is no nvidia-smi; --dry needs no card" >&2
        exit 2
    }
    # PyTorch brings the libraries of CUDA; the driver's are the machine's.
    libraries=$("$python" -c '
import pathlib, torch
root = pathlib.Path(torch.__file__).parents[1] / "nvidia"
print(":".join(str(path) for path in [root / "cu13/lib", *sorted(root.glob("*/lib"))] if path.is_dir()))')
    export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0 cut=0
say() { printf '%s\n' "$@"; }

# Parts run side by side: none of them is timed, and each begins with seconds in which the card has nothing to do.
names=()
start() { # NAME COMMAND...
    local log=$work/part-${#names[@]}
    names+=("$1")
    shift
    (
        began=$SECONDS status=0
        timeout -k 5 "$of_tests" "$@" >"$log" 2>&1 || status=$?
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
        0) say "- ${names[at]}: ok, $seconds s" ;;
        124 | 137)
            cut=$((cut + 1))
            say "- ${names[at]}: cut after $of_tests s, not judged"
            ;;
        *)
            say "- ${names[at]}: FAILED with $status"
            tail -n 40 "$log" | cut -c -300 | sed 's/^/      /'
            failed=1
            ;;
        esac
        # What differs most, of those that pass.
        sed -nE 's/^(.*): lowest cosine ([0-9.]+).*/\2 \1/p' "$log" | sort -n | head -n 1 | sed 's/^/      lowest cosine /'
    done
}

if [[ $dry ]]; then
    say "# Check of $(basename "$dist") on a CPU, in little: the numbers say nothing"
else
    say "# Check on $(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader -i 0)"
fi
say "PyTorch $("$python" -c 'import torch; print(torch.__version__)')"

say "" "## Correctness"
some=0
for test in "$dist"/tests/*; do
    [[ -f $test && -x $test && $(basename "$test") != parity ]] || continue
    some=1
    name=$(basename "$test")
    start "$name" "$test"
    if command -v compute-sanitizer >/dev/null && [[ ! $dry ]]; then
        # Many times slower: what does not end in its time is cut.
        start "$name under compute-sanitizer" compute-sanitizer --error-exitcode 9 "$test"
    fi
done
[[ $some == 1 ]] || say "- no tests of kernels in $dist/tests: skipped"
command -v compute-sanitizer >/dev/null || say "- compute-sanitizer is not installed: skipped"

if [[ -x $dist/tests/parity ]]; then
    export EMBEDRUN_TEST_FIXTURES=$here/../../parity/fixtures
    if [[ $models ]]; then export EMBEDRUN_TEST_MODELS=$models; else unset EMBEDRUN_TEST_MODELS; fi
    export EMBEDRUN_TEST_DEVICE=cuda
    [[ ! $dry ]] || export EMBEDRUN_TEST_DEVICE=cpu
    for dtype in f32 f16 bf16; do start "parity, $dtype" env EMBEDRUN_TEST_DTYPE=$dtype "$dist/tests/parity"; done
else
    say "- no $dist/tests/parity: skipped"
fi
# The models and texts of the speed are made meanwhile.
start "models and texts" "$python" "$here/speed.py" "$dist" --work "$work" --prepare $dry
start "vectors" "$python" "$here/vectors.py" "$dist" --work "$work" $dry
report

status=0
timeout -k 5 $((of_memory + 30)) "$python" "$here/memory.py" "$dist" --work "$work" --budget $of_memory $dry \
    >"$work/log" 2>&1 || status=$?
if [[ $status != 0 ]]; then
    failed=1
    say "- memory: FAILED with $status"
fi
tail -n 20 "$work/log" | sed 's/^/- memory, /'

say "" "## Speed" ""
left=$((total - SECONDS))
# A process that is stuck is ended here; the table up to it has been printed.
timeout -k 5 $((left + 5)) "$python" "$here/speed.py" "$dist" --work "$work" --budget "$left" $dry 2>"$work/log" || {
    say "" "The speed was cut or failed: $(tail -n 3 "$work/log" | tr '\n' ' ')"
}

say ""
verdict="Correct."
[[ $cut == 0 ]] || verdict="Correct as far as it was judged: $cut of ${#names[@]} parts were cut."
[[ $failed == 0 ]] || verdict="Something is wrong, see above."
say "$verdict Took $SECONDS s."
[[ $cut -lt ${#names[@]} ]] || failed=1
exit $failed

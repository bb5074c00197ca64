#!/bin/sh
# The nvcc of candle's build script: the real one, but for the library of its quantised kernels, which is left empty.
# That is ten of the fourteen CPU minutes of a cold build, and the runner computes with none of them. Should code come
# to need one, linking fails by its name; then this file goes.
#
#   EMBEDRUN_CANDLE_KERNELS=none    makes no PTX either, where nothing of candle's runs on a card
out='' folder='' last=''
for word; do
    case $last in
    -o) out=$word ;;
    --output-directory) folder=$word ;;
    esac
    last=$word
done
case " $* " in
*" --lib "*) printf '!<arch>\n' >"$out" ;;
*" -c "*) : >"$out" ;;
*" --ptx "*)
    [ "${EMBEDRUN_CANDLE_KERNELS:-}" = none ] || exec "$CUDA_HOME/bin/nvcc" "$@"
    : >"$folder/$(basename "$last" .cu).ptx"
    ;;
*) exec "$CUDA_HOME/bin/nvcc" "$@" ;;
esac

#!/bin/sh
# The nvcc for candle's build script: runs the real nvcc, except for the library of quantized kernels, which it leaves
# empty. That library takes ten of the fourteen CPU minutes of a cold build, and the runner uses none of its kernels. If
# code comes to need one, linking fails with its name: then delete this script.
#
#   EMBEDRUN_CANDLE_KERNELS=none    also skips the PTX, for builds that run no kernel of candle on a GPU
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

#!/bin/sh
# candle-nvcc.sh without PTX: for builds in which nothing of candle's kernels runs on a card. A file of its own, because
# Cargo runs candle's build script anew when the compiler has another name, and only then.
EMBEDRUN_CANDLE_KERNELS=none exec "$(dirname "$0")/candle-nvcc.sh" "$@"

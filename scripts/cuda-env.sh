# Sourced. Where the CUDA compiler and the libraries to link with are: CUDA_HOME, or nvcc in the PATH, or what
# cuda-toolkit.sh lays out. From the root of the project.

if [[ -z ${CUDA_HOME:-} ]]; then
    if command -v nvcc >/dev/null; then
        CUDA_HOME=$(dirname "$(dirname "$(readlink -f "$(command -v nvcc)")")")
    else
        CUDA_HOME=$(scripts/cuda-toolkit.sh)
    fi
fi
if [[ ! -x $CUDA_HOME/bin/nvcc ]]; then
    echo "CUDA_HOME=$CUDA_HOME has no bin/nvcc; unset it, and a toolkit is laid out in the cache" >&2
    exit 2
fi
export CUDA_HOME PATH=$CUDA_HOME/bin:$PATH
# The driver's own library is found where the program runs.
export LIBRARY_PATH=$CUDA_HOME/lib/stubs:$CUDA_HOME/lib64/stubs:$CUDA_HOME/lib64${LIBRARY_PATH:+:$LIBRARY_PATH}
# candle's kernels are PTX, which every card from 8.0 on can compile; a newer one here would leave older cards out. Where
# they are left out, another number is what Cargo and candle's build script know those builds by.
if [[ ${EMBEDRUN_CANDLE_KERNELS:-} == none ]]; then CUDA_COMPUTE_CAP=90; fi
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-80}
NVCC=$PWD/scripts/candle-nvcc.sh
export NVCC

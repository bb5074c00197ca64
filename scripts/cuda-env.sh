# Sourced from the root of the project. Locates the CUDA compiler and the libraries to link with: CUDA_HOME, or nvcc in
# the PATH, or the toolkit that cuda-toolkit.sh installs into the cache.

if [[ -z ${CUDA_HOME:-} ]]; then
    if command -v nvcc >/dev/null; then
        CUDA_HOME=$(dirname "$(dirname "$(readlink -f "$(command -v nvcc)")")")
    else
        CUDA_HOME=$(scripts/cuda-toolkit.sh)
    fi
fi
if [[ ! -x $CUDA_HOME/bin/nvcc ]]; then
    echo "CUDA_HOME=$CUDA_HOME has no bin/nvcc; correct it, or unset it to install a toolkit into the cache" >&2
    exit 2
fi
export CUDA_HOME PATH=$CUDA_HOME/bin:$PATH
# The stubs are for linking only. The program loads the driver library of the machine that it runs on.
export LIBRARY_PATH=$CUDA_HOME/lib/stubs:$CUDA_HOME/lib64/stubs:$CUDA_HOME/lib64${LIBRARY_PATH:+:$LIBRARY_PATH}
# candle compiles its kernels to PTX of this capability. 8.0 is the oldest supported one: older GPUs cannot compile
# newer PTX. Builds without candle's kernels use another number, so that Cargo tells the two kinds of builds apart.
if [[ ${EMBEDRUN_CANDLE_KERNELS:-} == none ]]; then CUDA_COMPUTE_CAP=90; fi
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-80}
NVCC=$PWD/scripts/candle-nvcc.sh
export NVCC

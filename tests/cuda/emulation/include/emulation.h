// CUDA as a kernel sees it that is compiled as C++: one block at a time, its threads as fibers.
//
// A thread runs until it waits at a barrier or a warp collective; then the next one runs. The order of a block's threads
// differs from block to block, so that a missing barrier shows. A mistake ends the launch with an error instead of a
// hang: a collective that not all of its lanes reach, a barrier that some threads never reach. Shared memory is NaN at
// the start of every block.
#pragma once

#include "emulation/types.h"

#include "emulation/block.h"

#include "emulation/kernel.h"
#include "emulation/memory.h"
#include "emulation/warp.h"

#include "emulation/arithmetic.h"

// Stacks of fibers: how one is prepared, and the switch from one to another.
#pragma once

namespace emulation {

// Saves the registers that a function must preserve and the stack pointer in `*save`, and continues on the stack `load`.
extern "C" void switch_stacks(void** save, void* load) __asm__("embedrun_switch_stacks");

// A stack that ends at `end`; the first switch to it calls `entry`, which must not return.
void* new_stack(char* end, void (*entry)());

}  // namespace emulation

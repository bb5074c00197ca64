// Asynchronous copies to shared memory: the bytes arrive when the thread waits for them.

#include "executor.h"

#include <cstring>

namespace emulation {

void Copies::reset() {
    groups.resize(1);
    groups[0].clear();
}

void copy_async(void* to, const void* from, unsigned present) {
    check_aligned(to, 16);
    if (present) check_aligned(from, 16);
    Copies::Copy copy{to, {}};
    memcpy(copy.bytes, from, present);
    memset(to, 0xff, 16);
    current->copies->groups.back().push_back(copy);
}

void commit_copies() { current->copies->groups.emplace_back(); }

void wait_for_copies(unsigned pending) {
    auto& groups = current->copies->groups;
    while (groups.size() > pending + 1) {
        for (const auto& copy : groups.front()) memcpy(copy.to, copy.bytes, 16);
        groups.erase(groups.begin());
    }
}

}  // namespace emulation

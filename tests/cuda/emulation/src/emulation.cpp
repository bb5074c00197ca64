// The scheduler of the fibers.

#include "emulation.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

// switch_stacks(save, load): keeps what a function must preserve on the stack, saves the stack in `*save`, goes on at
// `load`.
extern "C" void switch_stacks(void** save, void* load) __asm__("embedrun_switch_stacks");

#if defined(__x86_64__)
__asm__(R"(
    .text
    .p2align 4
    .globl embedrun_switch_stacks
embedrun_switch_stacks:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");

static void* new_stack(char* end, void (*entry)()) {
    void** top = reinterpret_cast<void**>(end);
    top[-1] = nullptr;
    top[-2] = reinterpret_cast<void*>(entry);
    return top - 8;
}
#elif defined(__aarch64__)
__asm__(R"(
    .text
    .p2align 4
    .globl embedrun_switch_stacks
embedrun_switch_stacks:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
)");

static void* new_stack(char* end, void (*entry)()) {
    void** top = reinterpret_cast<void**>(end) - 20;
    memset(top, 0, 160);
    top[11] = reinterpret_cast<void*>(entry);
    return top;
}
#else
#error "no switch of stacks for this processor"
#endif

namespace emulation {

__thread Thread* current;

struct Copies {
    struct Copy {
        void* to;
        unsigned char bytes[16];
    };
    // The last group is open.
    std::vector<std::vector<Copy>> groups{1};
};

namespace {

constexpr size_t STACK = 128 * 1024;
constexpr size_t MOST_THREADS = 1024;
constexpr size_t MOST_SHARED = 227 * 1024;
constexpr size_t MOST_STATIC_SHARED = 48 * 1024;
constexpr size_t ZONE = 256;

enum class State { Ready, Barrier, Collective, Done };

struct Fiber : Thread {
    size_t number;
    void* stack;
    State state;
    unsigned mask;
    Resolver resolver;
    void* payload;
    Copies pending;
};

struct StaticArray {
    const void* key;
    size_t offset, bytes;
};

// What one thread of the host has to run kernels with.
struct Machine : Block {
    std::vector<std::unique_ptr<Fiber>> fibers;
    std::vector<char*> stacks;
    std::vector<unsigned> order, place;
    unsigned char* memory = nullptr;
    size_t dynamic_bytes = 0, static_end = 0;
    std::vector<StaticArray> arrays;
    size_t threads = 0, ready = 0, at_barrier = 0, done = 0;
    void* host_stack = nullptr;
    const Kernel* kernel = nullptr;
    const void* const* parameters = nullptr;
    std::string error;

    ~Machine() {
        for (char* stack : stacks) munmap(stack, STACK);
        free(memory);
    }
};

thread_local Machine machine;

// By pointer: the fibers of a machine stay on its thread.
Machine* of_block() { return static_cast<Machine*>(current->block); }
Fiber* this_fiber() { return static_cast<Fiber*>(current); }

Kernel*& kernels() {
    static Kernel* first = nullptr;
    return first;
}

// Runs the next thread that can run, or the host if there is none.
void switch_away() {
    Machine* m = of_block();
    Fiber* from = this_fiber();
    if (m->ready == 0) {
        switch_stacks(&from->stack, m->host_stack);
        return;
    }
    size_t at = m->place[from->number];
    Fiber* next;
    do {
        at = at + 1 == m->threads ? 0 : at + 1;
        next = m->fibers[m->order[at]].get();
    } while (next->state != State::Ready);
    if (next == from) return;
    current = next;
    switch_stacks(&from->stack, next->stack);
}

void wait_as(State state) {
    this_fiber()->state = state;
    of_block()->ready--;
    switch_away();
}

void run_fiber() {
    Machine* m = of_block();
    m->kernel->call(m->parameters);
    m->done++;
    wait_as(State::Done);
    abort();
}

void wake(Fiber* fiber) {
    fiber->state = State::Ready;
    of_block()->ready++;
}

std::string format(const char* form, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, form);
    vsnprintf(text, sizeof(text), form, arguments);
    va_end(arguments);
    return text;
}

void prepare(Machine& m, size_t threads) {
    while (m.fibers.size() < threads) {
        void* stack = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (stack == MAP_FAILED) abort();
        mprotect(stack, static_cast<size_t>(sysconf(_SC_PAGESIZE)), PROT_NONE);
        m.stacks.push_back(static_cast<char*>(stack));
        m.fibers.push_back(std::make_unique<Fiber>());
    }
    if (!m.memory) {
        m.memory = static_cast<unsigned char*>(aligned_alloc(1024, 1024 * 1024));
        if (!m.memory) abort();
    }
    m.threads = threads;
    m.order.resize(threads);
    m.place.resize(threads);
}

// Puts the threads in an order that depends on the `number` of the block: as they are, backwards, or shuffled.
void arrange(Machine& m, uint64_t number) {
    const size_t count = m.threads;
    for (size_t i = 0; i < count; i++) m.order[i] = static_cast<unsigned>(number % 3 == 0 ? i : count - 1 - i);
    if (number % 3 == 2) {
        uint64_t state = number * 0x9e3779b97f4a7c15u + 1;
        for (size_t i = count - 1; i > 0; i--) {
            state ^= state << 13, state ^= state >> 7, state ^= state << 17;
            std::swap(m.order[i], m.order[state % (i + 1)]);
        }
    }
    for (size_t i = 0; i < count; i++) m.place[m.order[i]] = static_cast<unsigned>(i);
}

bool whole(const unsigned char* zone) {
    for (size_t i = 0; i < ZONE; i++)
        if (zone[i] != 0xff) return false;
    return true;
}

void check_shared(Machine& m) {
    if (!whole(m.dynamic_shared + m.dynamic_bytes) || !whole(m.dynamic_shared - ZONE))
        m.error = "a write beyond the dynamic shared memory";
    for (const StaticArray& array : m.arrays)
        if (!whole(m.memory + array.offset + array.bytes)) m.error = "a write beyond an array in shared memory";
}

void run_block(Machine& m, uint64_t number) {
    m.dynamic_shared = m.memory + 1024;
    m.static_end = 1024 + (m.dynamic_bytes + ZONE + 127) / 128 * 128;
    m.arrays.clear();
    memset(m.memory, 0xff, m.static_end + MOST_STATIC_SHARED);
    m.done = m.at_barrier = 0;
    m.ready = m.threads;
    for (size_t i = 0; i < m.threads; i++) {
        Fiber& fiber = *m.fibers[i];
        fiber.index = {static_cast<unsigned>(i % m.size.x), static_cast<unsigned>(i / m.size.x % m.size.y),
                       static_cast<unsigned>(i / m.size.x / m.size.y)};
        fiber.number = i;
        fiber.lane = i % 32;
        fiber.block = &m;
        fiber.state = State::Ready;
        fiber.copies = &fiber.pending;
        fiber.pending.groups.resize(1);
        fiber.pending.groups[0].clear();
        fiber.stack = new_stack(m.stacks[i] + STACK, run_fiber);
    }
    arrange(m, number);
    Fiber* first = m.fibers[m.order[0]].get();
    current = first;
    switch_stacks(&m.host_stack, first->stack);
    if (!m.error.empty()) return;
    if (m.done < m.threads) {
        for (size_t i = 0; i < m.threads; i++) {
            const Fiber& fiber = *m.fibers[i];
            if (fiber.state == State::Collective) {
                m.error = format("thread %zu waits at a collective of the lanes %08x that not all of them reach", i,
                                 fiber.mask);
                return;
            }
        }
        m.error = format("%zu threads wait at a barrier, %zu ended before it", m.at_barrier, m.done);
        return;
    }
    for (size_t i = 0; i < m.threads; i++) {
        const auto& groups = m.fibers[i]->pending.groups;
        if (groups.size() > 1 || !groups[0].empty())
            m.error = format("thread %zu ends before its copies were waited for", i);
    }
    check_shared(m);
}

}  // namespace

void add(Kernel* kernel) {
    kernel->next = kernels();
    kernels() = kernel;
}

void fail(const char* message) {
    Machine* m = of_block();
    m->error = message;
    switch_stacks(&this_fiber()->stack, m->host_stack);
    abort();
}

void barrier() {
    Machine* m = of_block();
    if (++m->at_barrier < m->threads) {
        wait_as(State::Barrier);
        return;
    }
    m->at_barrier = 0;
    for (size_t i = 0; i < m->threads; i++)
        if (m->fibers[i]->state == State::Barrier) wake(m->fibers[i].get());
}

void collective(unsigned mask, Resolver resolver, void* payload) {
    Machine* m = of_block();
    Fiber* self = this_fiber();
    const size_t first = self->number / 32 * 32;
    if (!(mask >> self->lane & 1)) fail("a lane that a collective does not name takes part in it");
    if (m->threads - first < 32 && mask >> (m->threads - first))
        fail("a collective names lanes that the block does not have");
    self->mask = mask;
    self->resolver = resolver;
    self->payload = payload;
    void* payloads[32];
    for (unsigned lane = 0; lane < 32; lane++) {
        payloads[lane] = nullptr;
        if (!(mask >> lane & 1)) continue;
        const Fiber& fiber = *m->fibers[first + lane];
        const bool here = fiber.state == State::Collective && fiber.mask == mask && fiber.resolver == resolver;
        if (!here && &fiber != self) {
            wait_as(State::Collective);
            return;
        }
        payloads[lane] = fiber.payload;
    }
    resolver(payloads);
    for (unsigned lane = 0; lane < 32; lane++)
        if (mask >> lane & 1 && lane != self->lane) wake(m->fibers[first + lane].get());
}

void* shared(const void* key, size_t bytes, size_t alignment) {
    Machine* m = of_block();
    for (const StaticArray& array : m->arrays)
        if (array.key == key) return m->memory + array.offset;
    const size_t offset = (m->static_end + alignment - 1) / alignment * alignment;
    m->static_end = offset + bytes + ZONE;
    if (m->static_end > 1024 + m->dynamic_bytes + MOST_STATIC_SHARED) fail("too much static shared memory");
    m->arrays.push_back({key, offset, bytes});
    return m->memory + offset;
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

// Whether the path of a source ends with this name and `.cu`.
static bool is_of(const char* path, const std::string& source) {
    const char* slash = strrchr(path, '/');
    return (slash ? slash + 1 : path) == source + ".cu";
}

static const emulation::Kernel* kernel_named(const char* name) {
    const emulation::Kernel* kernel = emulation::kernels();
    while (kernel && strcmp(kernel->name, name)) kernel = kernel->next;
    return kernel;
}

// A letter per parameter of a kernel; null if there is no such kernel.
extern "C" const char* embedrun_emulation_signature(const char* name) {
    const emulation::Kernel* kernel = kernel_named(name);
    return kernel ? kernel->signature : nullptr;
}

// Runs a kernel; `kinds` has a letter per parameter. False with a `message` if that cannot be. Where the caller knows
// neither, as a driver does not, `source` and `kinds` are null.
extern "C" bool embedrun_emulation_run(const char* source, const char* name, const uint32_t* grid, const uint32_t* block,
                                       uint32_t shared_bytes, const void* const* parameters, const char* kinds,
                                       char* message, size_t capacity) {
    using namespace emulation;
    Machine& m = machine;
    m.error.clear();
    const Kernel* kernel = kernel_named(name);
    const uint64_t threads = uint64_t{block[0]} * block[1] * block[2];
    const uint64_t blocks = uint64_t{grid[0]} * grid[1] * grid[2];
    if (!kernel) {
        m.error = "there is no such kernel";
    } else if (source && !is_of(kernel->source, source)) {
        m.error = format("the kernel is in %s, not in %s.cu", kernel->source, source);
    } else if (kinds && strcmp(kernel->signature, kinds)) {
        m.error = format("arguments of the types %s for parameters of the types %s", kinds, kernel->signature);
    } else if (threads == 0 || threads > kernel->threads || threads > MOST_THREADS || block[2] > 64) {
        m.error = format("%llu threads in a block, which may have %u", (unsigned long long)threads, kernel->threads);
    } else if (blocks == 0 || grid[0] > 0x7fffffffu || grid[1] > 65535 || grid[2] > 65535) {
        m.error = format("a grid of %u, %u, %u blocks", grid[0], grid[1], grid[2]);
    } else if (shared_bytes > MOST_SHARED) {
        m.error = format("%u bytes of shared memory", shared_bytes);
    } else {
        prepare(m, threads);
        m.kernel = kernel;
        m.parameters = parameters;
        m.size = {block[0], block[1], block[2]};
        m.grid = {grid[0], grid[1], grid[2]};
        m.dynamic_bytes = shared_bytes;
        uint64_t number = 0;
        for (uint32_t z = 0; z < grid[2]; z++)
            for (uint32_t y = 0; y < grid[1]; y++)
                for (uint32_t x = 0; x < grid[0] && m.error.empty(); x++) {
                    m.index = {x, y, z};
                    run_block(m, number++);
                    if (!m.error.empty()) m.error += format(" (block %u, %u, %u)", x, y, z);
                }
    }
    if (m.error.empty()) return true;
    snprintf(message, capacity, "%s: %s", name, m.error.c_str());
    return false;
}

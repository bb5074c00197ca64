// The scheduler: runs the threads of a block as fibers, which switch where they wait for each other.

#include "executor.h"
#include "stack.h"

#include <sys/mman.h>
#include <unistd.h>

namespace emulation {

__thread Thread* current;

namespace {

constexpr size_t STACK = 128 * 1024;

// Runs the next thread that can run, or the host if there is none.
void switch_away() {
    Executor* e = executor();
    Fiber* from = this_fiber();
    if (e->ready == 0) {
        switch_stacks(&from->stack, e->host_stack);
        return;
    }
    size_t at = e->position[from->number];
    Fiber* next;
    do {
        at = at + 1 == e->threads ? 0 : at + 1;
        next = e->fibers[e->order[at]].get();
    } while (next->state != State::Ready);
    if (next == from) return;
    current = next;
    switch_stacks(&from->stack, next->stack);
}

void wait_as(State state) {
    this_fiber()->state = state;
    executor()->ready--;
    switch_away();
}

void wake(Fiber* fiber) {
    fiber->state = State::Ready;
    executor()->ready++;
}

void run_fiber() {
    Executor* e = executor();
    e->kernel->call(e->parameters);
    e->done++;
    wait_as(State::Done);
    abort();
}

// Orders the threads by the `number` of the block: ascending, descending or shuffled.
void arrange(Executor& e, uint64_t number) {
    const size_t count = e.threads;
    for (size_t i = 0; i < count; i++) e.order[i] = static_cast<unsigned>(number % 3 == 0 ? i : count - 1 - i);
    if (number % 3 == 2) {
        uint64_t state = number * 0x9e3779b97f4a7c15u + 1;
        for (size_t i = count - 1; i > 0; i--) {
            state ^= state << 13, state ^= state >> 7, state ^= state << 17;
            std::swap(e.order[i], e.order[state % (i + 1)]);
        }
    }
    for (size_t i = 0; i < count; i++) e.position[e.order[i]] = static_cast<unsigned>(i);
}

// Why the threads of a block stopped before all of them ended.
std::string deadlock(const Executor& e) {
    for (size_t i = 0; i < e.threads; i++) {
        const Fiber& fiber = *e.fibers[i];
        if (fiber.state == State::Collective)
            return format("thread %zu waits at a collective of the lanes %08x that not all of them reach", i,
                          fiber.mask);
    }
    return format("%zu threads wait at a barrier, %zu ended before it", e.at_barrier, e.done);
}

}  // namespace

Executor::~Executor() {
    for (char* stack : stacks) munmap(stack, STACK);
    free(memory);
}

void Executor::prepare(size_t count) {
    while (fibers.size() < count) {
        void* stack = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (stack == MAP_FAILED) abort();
        mprotect(stack, static_cast<size_t>(sysconf(_SC_PAGESIZE)), PROT_NONE);
        stacks.push_back(static_cast<char*>(stack));
        fibers.push_back(std::make_unique<Fiber>());
    }
    if (!memory) {
        memory = static_cast<unsigned char*>(aligned_alloc(1024, 1024 * 1024));
        if (!memory) abort();
    }
    threads = count;
    order.resize(count);
    position.resize(count);
}

void Executor::run_block(uint64_t number) {
    reset_shared();
    done = at_barrier = 0;
    ready = threads;
    for (size_t i = 0; i < threads; i++) {
        Fiber& fiber = *fibers[i];
        fiber.index = {static_cast<unsigned>(i % size.x), static_cast<unsigned>(i / size.x % size.y),
                       static_cast<unsigned>(i / size.x / size.y)};
        fiber.number = i;
        fiber.lane = i % 32;
        fiber.block = this;
        fiber.state = State::Ready;
        fiber.copies = &fiber.pending;
        fiber.pending.reset();
        fiber.stack = new_stack(stacks[i] + STACK, run_fiber);
    }
    arrange(*this, number);
    Fiber* first = fibers[order[0]].get();
    current = first;
    switch_stacks(&host_stack, first->stack);
    if (!error.empty()) return;
    if (done < threads) {
        error = deadlock(*this);
        return;
    }
    for (size_t i = 0; i < threads; i++)
        if (!fibers[i]->pending.are_complete()) error = format("thread %zu ends before its copies were waited for", i);
    check_shared();
}

void fail(const char* message) {
    Executor* e = executor();
    e->error = message;
    switch_stacks(&this_fiber()->stack, e->host_stack);
    abort();
}

void barrier() {
    Executor* e = executor();
    if (++e->at_barrier < e->threads) {
        wait_as(State::Barrier);
        return;
    }
    e->at_barrier = 0;
    for (size_t i = 0; i < e->threads; i++)
        if (e->fibers[i]->state == State::Barrier) wake(e->fibers[i].get());
}

void collective(unsigned mask, Resolver resolver, void* payload) {
    Executor* e = executor();
    Fiber* self = this_fiber();
    const size_t first = self->number / 32 * 32;
    if (!(mask >> self->lane & 1)) fail("a lane that a collective does not name takes part in it");
    if (e->threads - first < 32 && mask >> (e->threads - first))
        fail("a collective names lanes that the block does not have");
    self->mask = mask;
    self->resolver = resolver;
    self->payload = payload;
    void* payloads[32];
    for (unsigned lane = 0; lane < 32; lane++) {
        payloads[lane] = nullptr;
        if (!(mask >> lane & 1)) continue;
        const Fiber& fiber = *e->fibers[first + lane];
        const bool has_arrived = fiber.state == State::Collective && fiber.mask == mask && fiber.resolver == resolver;
        if (!has_arrived && &fiber != self) {
            wait_as(State::Collective);
            return;
        }
        payloads[lane] = fiber.payload;
    }
    resolver(payloads);
    for (unsigned lane = 0; lane < 32; lane++)
        if (mask >> lane & 1 && lane != self->lane) wake(e->fibers[first + lane].get());
}

}  // namespace emulation

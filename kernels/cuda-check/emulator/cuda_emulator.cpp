// The block's threads as fibers, and the checks of what they do to memory.
#include "cuda_emulator.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <deque>
#include <vector>

namespace emulator {

Thread* current;
uint3 block_index, block_extent, grid_extent;

namespace {

constexpr size_t kStackBytes = 512 << 10;
constexpr size_t kSharedMargin = 1 << 12;
constexpr unsigned char kPoison = 0xff;

enum class State { Ready, MeetsWarp, MeetsBlock, Waits, Ended };

struct Copy {
    char* to;
    const char* from;
    uint32_t bytes, source_bytes;
};

struct Warp {
    uint32_t live = 0;
    uint32_t waiting = 0;
    uint32_t met = 0;
    uint32_t epoch = 0;
    // A lane can be one meeting ahead of another that has not yet read what was brought.
    alignas(16) unsigned char data[2][32][64];
};

struct Fiber {
    Thread thread;
    uint32_t number;
    Warp* warp;
    State state;
    jmp_buf context;
    bool started;
    const char* operation;
    int line;
    uint32_t mask;
    uint32_t meetings;
    bool (*ready)(void*);
    void* ready_state;
    std::vector<Copy> uncommitted;
    std::deque<std::vector<Copy>> groups;
};

struct Arrival {
    void* barrier;
    std::vector<Copy> copies;
};

const Launch* launched;
void (*kernel_entry)(const Argument*);
std::vector<Fiber> fibers;
std::vector<Warp> warps;
Fiber* running;
char* stacks;
size_t stack_count;
jmp_buf scheduler;
jmp_buf failure;
uint32_t live_threads, waiting_block;
uint32_t block_epoch;
std::deque<Arrival> arrivals;
std::vector<char> shared_memory;
char* shared;
uint64_t random_state;

uint64_t draw() {
    random_state += 0x9e3779b97f4a7c15u;
    uint64_t z = random_state;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

// ---- Checks of memory.

// An access by one thread; two are in order if a barrier lies between them.
struct Access {
    uint32_t thread;  // of the whole launch, from 1; 0: none
    uint32_t block;
    uint32_t block_epoch;
    uint32_t warp_epoch;
};

struct Cell {
    Access write, read, other_read;
};

struct Region {
    char* begin;
    size_t bytes;
    size_t margin;
    // Counted as arguments are; -1: shared memory.
    int number;
    // Bytes that are watched together.
    size_t granule;
    std::vector<Cell> cells;
};

std::vector<Region> regions;
size_t last_region;
uint32_t block_number;

void describe(const Region& region, char* text, size_t bytes) {
    if (region.number < 0) {
        snprintf(text, bytes, "shared memory");
    } else {
        snprintf(text, bytes, "buffer %d", region.number);
    }
}

bool ordered(const Access& before, const Access& now) {
    if (before.thread == 0 || before.thread == now.thread) return true;
    if (before.block != now.block) return false;
    if (before.block_epoch < now.block_epoch) return true;
    uint32_t threads = fibers.size();
    uint32_t warp_before = (before.thread - 1) % threads / 32, warp = (now.thread - 1) % threads / 32;
    return warp_before == warp && before.warp_epoch < now.warp_epoch;
}

[[noreturn]] void report_race(const Region& region, size_t offset, const Access& before,
                              const char* verb_before, const char* verb) {
    char where[32];
    describe(region, where, sizeof(where));
    uint32_t threads = fibers.size();
    fail("%s byte %zu of %s, which thread %u of block %u %s with no barrier between", verb, offset,
         where, (before.thread - 1) % threads, before.block, verb_before);
}

// The region of an address, or else one that it lies beside.
Region* find_region(const char* address) {
    auto within = [&](const Region& region, size_t margin) {
        return address >= region.begin - margin && address < region.begin + region.bytes + margin;
    };
    if (last_region < regions.size() && within(regions[last_region], 0))
        return &regions[last_region];
    for (size_t i = 0; i < regions.size(); i++) {
        if (within(regions[i], 0)) {
            last_region = i;
            return &regions[i];
        }
    }
    for (Region& region : regions)
        if (within(region, region.margin)) return &region;
    return nullptr;
}

// ---- Fibers.

__attribute__((noinline)) void switch_to_scheduler() {
    Fiber* self = running;
    if (_setjmp(self->context) == 0) _longjmp(scheduler, 1);
}

void yield() { switch_to_scheduler(); }

void start_fiber() {
    kernel_entry(launched->arguments);
    Fiber& self = *running;
    self.state = State::Ended;
    Warp& warp = *self.warp;
    warp.live &= ~(1u << self.number % 32);
    live_threads--;
    _longjmp(scheduler, 1);
}

// Makes the context of a fiber that has not run. The first switch needs ucontext for its stack.
__attribute__((noinline)) void resume(Fiber& fiber) {
    running = &fiber;
    current = &fiber.thread;
    if (_setjmp(scheduler) != 0) return;
    if (fiber.started) _longjmp(fiber.context, 1);
    fiber.started = true;
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = stacks + kStackBytes * fiber.number;
    context.uc_stack.ss_size = kStackBytes;
    context.uc_link = nullptr;
    makecontext(&context, start_fiber, 0);
    setcontext(&context);
}

// Lets the lanes of a warp go on if all of them that still run wait for the same.
bool release_warp(Warp& warp, Fiber* lanes) {
    if (warp.waiting == 0 || warp.waiting != warp.live) return false;
    const Fiber* first = nullptr;
    for (int lane = 0; lane < 32; lane++) {
        if (!(warp.live >> lane & 1)) continue;
        const Fiber& fiber = lanes[lane];
        if (first == nullptr) first = &fiber;
        if (fiber.line != first->line || strcmp(fiber.operation, first->operation) != 0) return false;
    }
    for (int lane = 0; lane < 32; lane++)
        if (warp.live >> lane & 1) lanes[lane].state = State::Ready;
    warp.met = warp.waiting;
    warp.waiting = 0;
    return true;
}

bool release_block() {
    if (waiting_block == 0 || waiting_block != live_threads) return false;
    const Fiber* first = nullptr;
    for (const Fiber& fiber : fibers) {
        if (fiber.state != State::MeetsBlock) continue;
        if (first == nullptr) first = &fiber;
        if (fiber.line != first->line) return false;
    }
    for (Fiber& fiber : fibers)
        if (fiber.state == State::MeetsBlock) fiber.state = State::Ready;
    waiting_block = 0;
    block_epoch++;
    return true;
}

void write_copy(const Copy& copy) {
    memcpy(copy.to, copy.from, copy.source_bytes);
    memset(copy.to + copy.source_bytes, 0, copy.bytes - copy.source_bytes);
}

// Copies without a place in the program's order end as late as they may: when someone waits.
void complete_arrivals() {
    while (!arrivals.empty()) {
        Arrival arrival = std::move(arrivals.front());
        arrivals.pop_front();
        for (const Copy& copy : arrival.copies) write_copy(copy);
        static_cast<cuda::barrier<cuda::thread_scope_block>*>(arrival.barrier)->arrive();
    }
}

[[noreturn]] void report_deadlock() {
    char text[1024];
    size_t used = 0;
    const Fiber* previous = nullptr;
    for (const Fiber& fiber : fibers) {
        bool same = previous != nullptr && previous->state == fiber.state &&
                    (fiber.state == State::Ended || (previous->line == fiber.line &&
                                                     strcmp(previous->operation, fiber.operation) == 0));
        previous = &fiber;
        if (same || used + 128 > sizeof(text)) continue;
        if (fiber.state == State::Ended) {
            used += snprintf(text + used, sizeof(text) - used, " from thread %u: have left;",
                             fiber.number);
        } else {
            used += snprintf(text + used, sizeof(text) - used, " from thread %u: %s, line %d;",
                             fiber.number, fiber.operation, fiber.line);
        }
    }
    running = nullptr;
    fail("threads of block (%u, %u, %u) wait at different places:%s", block_index.x, block_index.y,
         block_index.z, text);
}

void run_block() {
    uint32_t threads = fibers.size();
    warps.assign((threads + 31) / 32, Warp());
    for (uint32_t number = 0; number < threads; number++) {
        Fiber& fiber = fibers[number];
        fiber.thread.index = {number % block_extent.x, number / block_extent.x % block_extent.y,
                              number / (block_extent.x * block_extent.y)};
        fiber.number = number;
        fiber.warp = &warps[number / 32];
        fiber.warp->live |= 1u << number % 32;
        fiber.state = State::Ready;
        fiber.started = false;
        fiber.operation = "";
        fiber.line = 0;
        fiber.meetings = 0;
        fiber.uncommitted.clear();
        fiber.groups.clear();
    }
    live_threads = threads;
    waiting_block = 0;
    block_epoch = 1;
    arrivals.clear();
    memset(shared_memory.data(), kPoison, shared_memory.size());
    for (Region& region : regions)
        if (region.number < 0) region.cells.assign(region.cells.size(), Cell());

    std::vector<uint32_t> turns(threads);
    for (uint32_t i = 0; i < threads; i++) turns[i] = launched->order == 1 ? threads - 1 - i : i;
    while (live_threads > 0) {
        if (launched->order == 2)
            for (uint32_t i = threads - 1; i > 0; i--) std::swap(turns[i], turns[draw() % (i + 1)]);
        bool moved = false;
        for (uint32_t turn : turns) {
            Fiber& fiber = fibers[turn];
            if (fiber.state == State::Waits) {
                complete_arrivals();
                if (fiber.ready(fiber.ready_state)) fiber.state = State::Ready;
            }
            if (fiber.state != State::Ready) continue;
            moved = true;
            resume(fiber);
            if (fiber.state == State::Ended || fiber.state == State::MeetsWarp)
                release_warp(*fiber.warp, &fibers[turn / 32 * 32]);
        }
        if (release_block()) moved = true;
        if (!moved && live_threads > 0) report_deadlock();
    }
}

void provide_stacks(size_t count) {
    if (count <= stack_count) return;
    if (stacks != nullptr) munmap(stacks, stack_count * kStackBytes);
    void* memory = mmap(nullptr, count * kStackBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        stacks = nullptr;
        stack_count = 0;
        fail("no memory for the stacks of %zu threads", count);
    }
    stacks = static_cast<char*>(memory);
    stack_count = count;
    // A page before each stack that no thread may touch.
    for (size_t i = 0; i < count; i++) mprotect(stacks + i * kStackBytes, 4096, PROT_NONE);
}

}  // namespace

void fail(const char* format, ...) {
    char text[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (running != nullptr) {
        uint3 thread = running->thread.index;
        snprintf(launched->message, launched->message_bytes,
                 "thread (%u, %u, %u) of block (%u, %u, %u): %s", thread.x, thread.y, thread.z,
                 block_index.x, block_index.y, block_index.z, text);
    } else {
        snprintf(launched->message, launched->message_bytes, "%s", text);
    }
    _longjmp(failure, 1);
}

uint32_t lane() { return running->number % 32; }
uint32_t live_lanes() { return running->warp->live; }

Meeting meet(const char* operation, int line, uint32_t mask, const void* data, size_t bytes) {
    Fiber& self = *running;
    Warp& warp = *self.warp;
    if (!(mask >> self.number % 32 & 1)) fail("%s without itself in the mask, line %d", operation, line);
    if ((mask & warp.live) != warp.live) fail("%s on a part of the warp, line %d", operation, line);
    uint32_t turn = self.meetings++ & 1;
    if (bytes > 64) fail("%s brings %zu bytes", operation, bytes);
    if (bytes > 0) memcpy(warp.data[turn][self.number % 32], data, bytes);
    self.operation = operation;
    self.line = line;
    self.state = State::MeetsWarp;
    warp.waiting |= 1u << self.number % 32;
    yield();
    return {warp.data[turn], warp.met};
}

void synchronize_warp(uint32_t mask, int line) {
    meet("__syncwarp", line, mask, nullptr, 0);
    // Every lane sets the same: all have been to as many meetings.
    running->warp->epoch = running->meetings;
}

void synchronize_block(int line) {
    Fiber& self = *running;
    self.operation = "__syncthreads";
    self.line = line;
    self.state = State::MeetsBlock;
    waiting_block++;
    yield();
}

void wait_until(const char* what, bool (*ready)(void*), void* state) {
    Fiber& self = *running;
    complete_arrivals();
    if (ready(state)) return;
    self.operation = what;
    self.line = 0;
    self.ready = ready;
    self.ready_state = state;
    self.state = State::Waits;
    yield();
}

void order_block() { block_epoch++; }

char* dynamic_shared(size_t alignment) {
    if (alignment > 1024) fail("shared memory aligned to %zu bytes", alignment);
    return shared;
}

uint32_t shared_address(const void* pointer) {
    auto address = static_cast<const char*>(pointer);
    if (address < shared || address >= shared + launched->shared_bytes)
        fail("__cvta_generic_to_shared of an address outside of the block's shared memory");
    return static_cast<uint32_t>(address - shared);
}

char* shared_pointer(const char* operation, uint32_t address, size_t bytes, size_t alignment) {
    if (address % alignment != 0)
        fail("%s at byte %u of shared memory, which is not aligned to %zu", operation, address,
             alignment);
    if (address + bytes > launched->shared_bytes)
        fail("%s at byte %u of %u bytes of shared memory", operation, address,
             launched->shared_bytes);
    return shared + address;
}

void copy_async(uint32_t to, const void* from, uint32_t bytes, uint32_t source_bytes) {
    if (source_bytes > bytes) fail("cp.async of %u bytes from %u", bytes, source_bytes);
    if (reinterpret_cast<uintptr_t>(from) % bytes != 0)
        fail("cp.async of %u bytes from an address that is not aligned to them", bytes);
    char* target = shared_pointer("cp.async", to, bytes, bytes);
    if (source_bytes > 0) accessed(from, source_bytes, false);
    accessed(target, bytes, true);
    // Neither what was there nor what comes can be relied on.
    memset(target, kPoison, bytes);
    running->uncommitted.push_back({target, static_cast<const char*>(from), bytes, source_bytes});
}

void copy_async_commit() {
    running->groups.push_back(std::move(running->uncommitted));
    running->uncommitted.clear();
}

void copy_async_wait(uint32_t groups_left) {
    while (running->groups.size() > groups_left) {
        for (const Copy& copy : running->groups.front()) write_copy(copy);
        running->groups.pop_front();
    }
}

void copy_async_wait_all() {
    copy_async_commit();
    copy_async_wait(0);
}

void copy_async_arrive(void* address, bool increment) {
    auto barrier = static_cast<cuda::barrier<cuda::thread_scope_block>*>(address);
    if (increment) barrier->pending++;
    // All copies of this thread so far, in groups or not.
    Arrival arrival{address, {}};
    for (auto& group : running->groups)
        arrival.copies.insert(arrival.copies.end(), group.begin(), group.end());
    running->groups.clear();
    arrival.copies.insert(arrival.copies.end(), running->uncommitted.begin(),
                          running->uncommitted.end());
    running->uncommitted.clear();
    arrivals.push_back(std::move(arrival));
}

void accessed(const void* pointer, size_t bytes, bool writes) {
    auto address = static_cast<char*>(const_cast<void*>(pointer));
    if (address >= stacks && address < stacks + stack_count * kStackBytes) return;
    Region* region = find_region(address);
    if (region == nullptr) return;
    if (address < region->begin || address + bytes > region->begin + region->bytes) {
        char where[32];
        describe(*region, where, sizeof(where));
        fail("%s %zu bytes at byte %lld of %s, which has %zu", writes ? "writes" : "reads", bytes,
             (long long)(address - region->begin), where, region->bytes);
    }
    Access now{block_number * static_cast<uint32_t>(fibers.size()) + running->number + 1,
               block_number, block_epoch, running->warp->epoch};
    size_t offset = address - region->begin;
    for (size_t i = offset / region->granule; i * region->granule < offset + bytes; i++) {
        Cell& cell = region->cells[i];
        if (!ordered(cell.write, now))
            report_race(*region, i * region->granule, cell.write, "has written", writes ? "writes" : "reads");
        if (writes) {
            if (!ordered(cell.read, now))
                report_race(*region, i * region->granule, cell.read, "has read", "writes");
            if (!ordered(cell.other_read, now))
                report_race(*region, i * region->granule, cell.other_read, "has read", "writes");
            cell.write = now;
        } else if (cell.read.thread != now.thread) {
            cell.other_read = cell.read;
            cell.read = now;
        } else {
            cell.read = now;
        }
    }
}

int launch(const Launch* launch, size_t parameters, const size_t* granules,
           void (*kernel)(const Argument*)) {
    launched = launch;
    kernel_entry = kernel;
    running = nullptr;
    if (_setjmp(failure) != 0) {
        running = nullptr;
        return 1;
    }
    if (parameters > launch->argument_count)
        fail("the kernel takes %zu arguments, the launch passes %llu", parameters,
             (unsigned long long)launch->argument_count);
    uint32_t threads = launch->block[0] * launch->block[1] * launch->block[2];
    provide_stacks(threads);
    fibers.resize(threads);
    block_extent = {launch->block[0], launch->block[1], launch->block[2]};
    grid_extent = {launch->grid[0], launch->grid[1], launch->grid[2]};
    random_state = launch->seed;
    shared_memory.resize(launch->shared_bytes + 2 * kSharedMargin + 1024);
    shared = shared_memory.data() + kSharedMargin;
    shared += (1024 - reinterpret_cast<uintptr_t>(shared) % 1024) % 1024;
    regions.clear();
    last_region = 0;
    regions.push_back({shared, launch->shared_bytes, kSharedMargin, -1, 1,
                       std::vector<Cell>(launch->shared_bytes)});
    for (uint64_t i = 0; i < launch->argument_count; i++) {
        const Argument& argument = launch->arguments[i];
        if (!argument.is_buffer) continue;
        size_t granule = i < parameters ? granules[i] : 1;
        regions.push_back({static_cast<char*>(argument.address), argument.size, argument.margin,
                           static_cast<int>(i), granule,
                           std::vector<Cell>((argument.size + granule - 1) / granule)});
    }
    block_number = 0;
    for (uint32_t z = 0; z < launch->grid[2]; z++)
        for (uint32_t y = 0; y < launch->grid[1]; y++)
            for (uint32_t x = 0; x < launch->grid[0]; x++) {
                block_index = {x, y, z};
                run_block();
                block_number++;
            }
    running = nullptr;
    return 0;
}

}  // namespace emulator

// ---- What the host's compiler calls before each access (-fsanitize=thread without its library).

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}

#define EMULATOR_ACCESS(bytes)                                                                   \
    void __tsan_read##bytes(void* address) { emulator::accessed(address, bytes, false); }        \
    void __tsan_write##bytes(void* address) { emulator::accessed(address, bytes, true); }        \
    void __tsan_unaligned_read##bytes(void* address) { emulator::accessed(address, bytes, false); } \
    void __tsan_unaligned_write##bytes(void* address) { emulator::accessed(address, bytes, true); } \
    void __tsan_volatile_read##bytes(void* address) { emulator::accessed(address, bytes, false); } \
    void __tsan_volatile_write##bytes(void* address) { emulator::accessed(address, bytes, true); }
EMULATOR_ACCESS(1)
EMULATOR_ACCESS(2)
EMULATOR_ACCESS(4)
EMULATOR_ACCESS(8)
EMULATOR_ACCESS(16)
#undef EMULATOR_ACCESS

void __tsan_read_range(void* address, size_t bytes) { emulator::accessed(address, bytes, false); }
void __tsan_write_range(void* address, size_t bytes) { emulator::accessed(address, bytes, true); }

}  // extern "C"

#include "heap.h"

#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <new>

#include "watcher.h"
#include "worker.h"

namespace gpunn_emulator {

Heap heap;

namespace {

// Between two allocations, so that who passes the end of one does not reach the next.
const std::size_t gap = 16;

char* aligned_up(char* address, std::size_t alignment) {
    return (char*)(((std::uintptr_t)address + alignment - 1) / alignment * alignment);
}

void* mapped(std::size_t bytes) {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? nullptr : memory;
}

// A child must not find the mutex locked by a thread that it has not.
const int fork_handlers = pthread_atfork([] { heap.mutex.lock(); }, [] { heap.mutex.unlock(); },
                                         [] { heap.mutex.unlock(); });

}  // namespace

bool Heap::map() {
    if (begin_) return true;
#ifdef GPUNN_EMULATOR_CHECK
    if (!written_ && !(written_ = (unsigned char*)mapped(capacity / 8))) return false;
#endif
    begin_ = next_ = (char*)mapped(capacity);
    return begin_;
}

// The first place from `from` on, or null. Allocations that were freed are room.
char* Heap::find_room(char* from, std::size_t bytes, std::size_t alignment) {
    char* place = aligned_up(from, alignment);
    for (auto each = allocations_.lower_bound(from); each != allocations_.end(); ++each) {
        if (!each->second.live) continue;
        if (place + bytes + gap <= each->first) break;
        place = aligned_up(each->first + each->second.bytes + gap, alignment);
    }
    char* end = begin_ + capacity;
    return place < end && bytes <= (std::size_t)(end - place) ? place : nullptr;
}

char* Heap::allocate(std::size_t bytes, std::size_t alignment) {
    if (!map() || bytes > capacity) return nullptr;
    char* place = find_room(next_, bytes, alignment);
    if (!place) place = find_room(begin_, bytes, alignment);
    if (!place) return nullptr;
    auto stale = allocations_.lower_bound(place);
    if (stale != allocations_.begin() && std::prev(stale)->first + std::prev(stale)->second.bytes > place) --stale;
    while (stale != allocations_.end() && stale->first < place + bytes + gap && !stale->second.live)
        stale = allocations_.erase(stale);
    allocations_[place] = {bytes, true};
    next_ = place + bytes + gap;
    return place;
}

bool Heap::free(char* memory) {
    auto found = allocations_.find(memory);
    if (found == allocations_.end() || !found->second.live) return false;
    found->second.live = false;
    return true;
}

const Heap::Allocation* Heap::at_or_before(const char* address, const char*& begin) {
    auto after = allocations_.upper_bound((char*)address);
    if (after == allocations_.begin()) return nullptr;
    --after;
    begin = after->first;
    return &after->second;
}

namespace {

void* allocate(std::size_t bytes, std::size_t alignment) {
    std::lock_guard<std::mutex> lock(heap.mutex);
    char* memory = nullptr;
    try {
        memory = heap.allocate(bytes, alignment);
    } catch (const std::bad_alloc&) {
    }
    if (!memory) return nullptr;
    std::memset(memory, 0xff, bytes);  // NaN in every floating-point format: who reads what nobody has written shows
#ifdef GPUNN_EMULATOR_CHECK
    checker.allocated(memory, bytes);
#endif
    return memory;
}

}  // namespace

}  // namespace gpunn_emulator

using namespace gpunn_emulator;

// --- what kernels call, see ../include/gpunn_emulator/heap.h ---------------------------------------------

#define GPUNN_API extern "C" __attribute__((visibility("default")))

GPUNN_API void* gpunn_emulator_malloc(std::size_t bytes) { return allocate(bytes, 16); }

GPUNN_API void* gpunn_emulator_aligned_malloc(std::size_t bytes, std::size_t alignment) {
    bool power = alignment && !(alignment & (alignment - 1));
    return power ? allocate(bytes, std::max<std::size_t>(alignment, 16)) : nullptr;
}

GPUNN_API void gpunn_emulator_free(char* memory) {
    if (!memory) return;
    {
        std::lock_guard<std::mutex> lock(heap.mutex);
        if (heap.free(memory)) return;
    }
    Report report = worker->describe(Kind::fault, __builtin_return_address(0));
    std::snprintf(report.message, sizeof report.message,
                  "free of %p, which malloc has not given, or which was freed before", (void*)memory);
    worker->fail(report);
}

// What Hopper's instructions do: mbarriers, bulk copies, tensor maps and products of warpgroups, after the PTX manual.
#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <new>

#include "cluster.h"

#ifdef GPUNN_EMULATOR_CHECK
#include "checker.h"
#endif
#ifdef GPUNN_EMULATOR_COUNT
#include "counter.h"
#endif

namespace gpunn_emulator {

namespace {

const unsigned most_arrivals = (1u << 20) - 1;  // and most bytes, of a phase
const unsigned shared_window = 1u << 18;        // what the address in a matrix descriptor reaches

unsigned bit(unsigned i) { return 1u << i; }

// What lies in the memory of an mbarrier. Its content is not documented; who changes it breaks the mbarrier.
std::uint64_t word_of(const Mbarrier& barrier) {
    return barrier.phase << 40 | (std::uint64_t)barrier.expected << 20 | barrier.pending;
}

float from_half(unsigned bits) {
    unsigned magnitude = bits & 0x7fff, exponent = magnitude >> 10, mantissa = magnitude & 0x3ff;
    float x = exponent == 31  ? (mantissa ? __builtin_nanf("") : __builtin_inff())
              : exponent == 0 ? (float)mantissa * 0x1p-24f
                              : __builtin_ldexpf((float)(mantissa | 0x400), (int)exponent - 25);
    return bits & 0x8000 ? -x : x;
}

float from_bits(unsigned bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

bool is_nan_of_ours(float x) {
    unsigned bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits == 0xffffffffu;
}

// --- tensor maps -----------------------------------------------------------------------------------------

// Calls visit(offset in the box, address in global memory or null, bytes) for each row of the box, the innermost
// dimension whole where it lies within the tensor, else element by element.
template <class Visit>
void each_row(const BulkCopy& copy, Visit visit) {
    const TensorMap& map = copy.map;
    unsigned counts[5] = {1, 1, 1, 1, 1};
    for (unsigned i = 0; i < map.rank; i++)
        counts[i] = (map.box[i] + map.element_strides[i] - 1u) / map.element_strides[i];
    counts[0] = map.box[0];  // the first dimension's stride is not looked at
    unsigned at[5] = {}, offset = 0;
    for (;;) {
        bool inside = true;
        char* row = copy.global;
        for (unsigned i = 1; i < map.rank; i++) {
            long long place = copy.coordinates[i] + (long long)at[i] * map.element_strides[i];
            inside = inside && place >= 0 && place < (long long)map.sizes[i];
            if (inside) row += place * (long long)map.strides[i - 1];
        }
        for (unsigned i = 0; i < counts[0]; i++, offset += map.element_bytes) {
            long long place = (long long)copy.coordinates[0] + i;
            bool here = inside && place >= 0 && place < (long long)map.sizes[0];
            visit(offset, here ? row + place * map.element_bytes : nullptr, (unsigned)map.element_bytes);
        }
        unsigned i = 1;
        while (i < map.rank && ++at[i] == counts[i]) at[i++] = 0;
        if (i >= map.rank) return;
    }
}

unsigned box_bytes(const TensorMap& map) {
    unsigned bytes = map.element_bytes * map.box[0];
    for (unsigned i = 1; i < map.rank; i++)
        bytes *= (map.box[i] + map.element_strides[i] - 1u) / map.element_strides[i];
    return bytes;
}

// Swaps pieces of 16 bytes within the width of the swizzle, by the number of the 128 bytes that they lie in.
std::uintptr_t swizzled(std::uintptr_t address, unsigned width, unsigned base_offset = 0) {
    return address ^ ((((address >> 7) - base_offset) & (width / 16 - 1)) << 4);
}

std::uintptr_t swizzled_or_not(std::uintptr_t address, unsigned width, unsigned base_offset = 0) {
    return width ? swizzled(address, width, base_offset) : address;
}

}  // namespace

// --- reports ---------------------------------------------------------------------------------------------

void Worker::tell(Kind kind, const void* caller, const char* format, ...) {
    Report report = describe(kind, caller);
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(report.message, sizeof report.message, format, arguments);
    va_end(arguments);
    add(report);
}

void Worker::misuse(const void* caller, const char* format, ...) {
    Report report = describe(Kind::misuse, caller);
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(report.message, sizeof report.message, format, arguments);
    va_end(arguments);
    fail(report);
}

// --- mbarriers -------------------------------------------------------------------------------------------

// Lets others run until something happens, or nothing else can run.
void Worker::poll(const void* caller) { wait_among(&Warp::polling, caller); }

bool Worker::resume_pollers() { return make_ready(&Warp::polling); }

// Tells of each place where threads wait for an mbarrier for ever, if there is one.
bool Worker::describe_waits() {
    std::vector<const void*> known;
    for (unsigned i = 0; i < thread_count_; i++) {
        const Fiber& fiber = fibers_[i];
        if (!(warps_[fiber.warp].polling >> fiber.lane & 1)) continue;
        if (std::find(known.begin(), known.end(), fiber.caller) != known.end()) continue;
        known.push_back(fiber.caller);
        fiber_ = &fibers_[i];
        const Mbarrier& barrier = *fiber.mbarrier;
        tell(
            Kind::deadlock, fiber.caller,
            "it waits for ever for phase %llu of an mbarrier, of parity %u, which lacks %u arrivals of %u and %d bytes",
            (unsigned long long)barrier.phase, (unsigned)(barrier.phase & 1), barrier.pending, barrier.expected,
            barrier.bytes);
    }
    return !known.empty();
}

void Worker::mbarrier_init(std::uint64_t* address, unsigned count, const void* caller) {
    check_aligned(address, 8, "an mbarrier", caller);
    if (!is_shared(address)) misuse(caller, "an mbarrier must lie in shared memory");
    if (!count || count > most_arrivals)
        misuse(caller, "an mbarrier expects from 1 to %u arrivals, not %u", most_arrivals, count);
    auto found =
        std::find_if(mbarriers_.begin(), mbarriers_.end(), [=](Mbarrier& each) { return each.address == address; });
    if (found == mbarriers_.end()) {
        bool room = true;
        try {
            mbarriers_.push_back({});
        } catch (const std::bad_alloc&) {
            room = false;
        }
        if (!room) fail_for_memory("an mbarrier", "no memory");
        found = mbarriers_.end() - 1;
        found->address = address;
#ifdef GPUNN_EMULATOR_CHECK
        found->column = checker.add_column("an asynchronous copy");
#endif
    }
    found->expected = found->pending = count;
    found->bytes = 0;
    found->phase = 0;
    found->initialiser = fiber_->number;
    found->fenced = false;
#ifdef GPUNN_EMULATOR_CHECK
    checker.access((const char*)address, sizeof *address, true, Manner::plain, caller);
#endif
    *address = word_of(*found);
    progress();
}

void Worker::mbarrier_inval(std::uint64_t* address, const void* caller) {
    Mbarrier& barrier = mbarrier(address, "inval", caller);
    barrier.address = nullptr;
#ifdef GPUNN_EMULATOR_CHECK
    checker.access((const char*)address, sizeof *address, true, Manner::plain, caller);
#endif
    *address = ~0ull;
}

// The worker of the block in whose shared memory that is.
Worker& Worker::home_of(const void* address) {
    unsigned rank = cluster_ && !holds_shared(address) ? cluster_->rank_of(address) : block_.cluster_rank;
    return cluster_ && rank < cluster_->size() ? cluster_->worker(rank) : *this;
}

Mbarrier& Worker::mbarrier(std::uint64_t* address, const char* operation, const void* caller) {
    check_aligned(address, 8, "an mbarrier", caller);
    std::deque<Mbarrier>& all = home_of(address).mbarriers_;
    auto found = std::find_if(all.begin(), all.end(), [=](Mbarrier& each) { return each.address == address; });
    if (found == all.end()) {
        Report report = describe(Kind::uninitialised, caller);
        std::snprintf(report.message, sizeof report.message, "%s of an mbarrier that is not initialised", operation);
        fail(report);
    }
    if (*address != word_of(*found))
        misuse(caller, "%s of an mbarrier whose memory was written by something else", operation);
#ifdef GPUNN_EMULATOR_CHECK
    checker.access((const char*)address, sizeof *address, true, Manner::atomic, caller);
#endif
    return *found;
}

void Worker::complete_if_due(Mbarrier& barrier) {
    progress();
    if (!barrier.pending && !barrier.bytes) {
        barrier.phase++;
        barrier.pending = barrier.expected;
#ifdef GPUNN_EMULATOR_CHECK
        checker.complete(*this, barrier.address, barrier.column);
#endif
        for (unsigned i = 0; i < thread_count_; i++) {
            Fiber& fiber = fibers_[i];
            Warp& warp = warps_[fiber.warp];
            if (fiber.mbarrier != &barrier || !(warp.polling & bit(fiber.lane))) continue;
            warp.polling &= ~bit(fiber.lane);
            warp.ready |= bit(fiber.lane);
            ready_warps_ |= bit(fiber.warp);
        }
    }
    *barrier.address = word_of(barrier);
}

void Worker::change_bytes(Mbarrier& barrier, std::int64_t change, const void* caller) {
    std::int64_t bytes = barrier.bytes + change;
    if (bytes > (std::int64_t)most_arrivals || bytes < -(std::int64_t)most_arrivals)
        misuse(caller, "an mbarrier counts %u bytes at most, not %lld", most_arrivals, (long long)bytes);
    barrier.bytes = (int)bytes;
}

std::uint64_t Worker::mbarrier_arrive(std::uint64_t* address, const MbarrierArrival& arrival, const void* caller) {
    leave_if_asked();
    Mbarrier& barrier = mbarrier(address, arrival.count ? "arrive" : "a change of the bytes", caller);
    Worker& home = home_of(address);
    std::uint64_t state = word_of(barrier);
    change_bytes(barrier, arrival.bytes, caller);
    if (arrival.count > barrier.pending)
        misuse(caller, "%u arrive at an mbarrier whose phase lacks %u arrivals", arrival.count, barrier.pending);
    if (arrival.drops) {
        if (arrival.count >= barrier.expected && barrier.pending != arrival.count)
            misuse(caller, "none would be left to arrive at the mbarrier");
        barrier.expected -= arrival.count;
    }
    barrier.pending -= arrival.count;
#ifdef GPUNN_EMULATOR_CHECK
    if (&home != this) checker.release_to(address);
    else if (arrival.count) checker.release(barrier.column);
#endif
    home.complete_if_due(barrier);
    return state;
}

bool Worker::mbarrier_wait(std::uint64_t* address, std::uint64_t state, bool is_parity, const void* caller) {
    leave_if_asked();
    if (&home_of(address) != this) misuse(caller, "a wait for an mbarrier of another block: it can only be told to arrive");
    Mbarrier* barrier = &mbarrier(address, "a wait", caller);
    std::uint64_t phase =
        is_parity ? (barrier->phase & 1) == (state & 1) ? barrier->phase : barrier->phase - 1 : state >> 40;
    if (barrier->phase - phase > 1) misuse(caller, "a wait for a phase of an mbarrier that is long past");
    auto complete = [&] {
        if (barrier->phase == phase) deliver(*barrier);
        return barrier->phase != phase;
    };
    bool is_complete = complete();
    if (!is_complete) {
        Fiber& fiber = *fiber_;
        fiber.mbarrier = barrier;
        poll(caller);
        fiber.mbarrier = nullptr;
        barrier = &mbarrier(address, "a wait", caller);
        is_complete = complete();
    }
#ifdef GPUNN_EMULATOR_CHECK
    if (is_complete) checker.acquire(address, barrier->column);
#endif
    return is_complete;
}

void Worker::fence_proxy(bool of_inits_only) {
    for (Mbarrier& barrier : mbarriers_)
        if (barrier.initialiser == fiber_->number) barrier.fenced = true;
#ifdef GPUNN_EMULATOR_CHECK
    checker.fence_of_cluster();
    if (!of_inits_only) checker.fence_proxy();
#else
    (void)of_inits_only;
#endif
}

// --- bulk copies -----------------------------------------------------------------------------------------

void Worker::prepare(BulkCopy& copy, const void* map, unsigned rank, const int* coordinates, const void* caller) {
    leave_if_asked();
    copy.thread = fiber_->number;
    copy.caller = caller;
    copy.is_tensor = map != nullptr;
    if (map) {
        check_aligned(map, 64, "a tensor map", caller);
        std::memcpy(&copy.map, map, sizeof copy.map);
        if (copy.map.magic != tensor_map_magic) misuse(caller, "what is given is no tensor map of emulator.tensor_map");
        if (copy.map.rank != rank)
            misuse(caller, "a copy of %u dimensions by a tensor map that has %u", rank, copy.map.rank);
        std::copy(coordinates, coordinates + rank, copy.coordinates);
        copy.global = copy.map.memory;
        copy.bytes = box_bytes(copy.map);
        check_aligned(copy.shared, 128, "a box in shared memory", caller);
    } else {
        check_aligned(copy.shared, 16, "the shared memory of a bulk copy", caller);
        check_aligned(copy.global, 16, "the global memory of a bulk copy", caller);
        if (!copy.bytes || copy.bytes % 16)
            misuse(caller, "a bulk copy of %u bytes, which is no multiple of 16", copy.bytes);
    }
    check_in_shared(copy, copy.shared, caller);
}

void Worker::check_in_shared(const BulkCopy& copy, const char* shared, const void* caller) {
    const char* last = shared + copy.bytes - 1;
    const BlockView& block = home_of(shared).block_;
    auto is_inside = [&](const char* memory, std::size_t bytes) { return shared >= memory && last < memory + bytes; };
    if (is_inside(block.static_shared, block.static_shared_bytes)) return;
    if (is_inside(block.dynamic_shared, block.dynamic_shared_bytes)) return;
    Report report = describe(Kind::out_of_bounds, caller);
    std::snprintf(report.message, sizeof report.message,
                  "a bulk copy of %u bytes, at %p of which is not all shared memory", copy.bytes, (const void*)shared);
    fail(report);
}

namespace {

// Brings the bytes of the copy from one memory to the other.
void move(const BulkCopy& copy) {
    if (!copy.sent.empty()) {
        std::memcpy(copy.shared, copy.sent.data(), copy.bytes);
        return;
    }
    if (!copy.is_tensor) {
        copy.barrier ? std::memcpy(copy.shared, copy.global, copy.bytes)
                     : std::memcpy(copy.global, copy.shared, copy.bytes);
        return;
    }
    each_row(copy, [&](unsigned offset, char* global, unsigned bytes) {
        char* shared = (char*)swizzled_or_not((std::uintptr_t)copy.shared + offset, copy.map.swizzle);
        if (!copy.barrier) {
            if (global) std::memcpy(global, shared, bytes);
        } else if (global) {
            std::memcpy(shared, global, bytes);
        } else {
            std::memset(shared, copy.map.fills_with_nan ? 0xff : 0, bytes);
        }
    });
}

#ifdef GPUNN_EMULATOR_CHECK
void check_global(const BulkCopy& copy, bool write) {
    if (!copy.is_tensor) return checker.access(copy.global, copy.bytes, write, Manner::plain, copy.caller);
    each_row(copy, [&](unsigned, char* global, unsigned bytes) {
        if (global) checker.access(global, bytes, write, Manner::plain, copy.caller);
    });
}
#endif

#ifdef GPUNN_EMULATOR_COUNT
// What the copies do to shared memory keeps no thread busy.
void count_global(const BulkCopy& copy, bool write) {
    if (!copy.is_tensor) return counter.bulk_access(copy.global, copy.bytes, write, copy.caller);
    const char *begin = nullptr, *end = nullptr;
    auto count = [&] { counter.bulk_access(begin, (std::size_t)(end - begin), write, copy.caller); };
    each_row(copy, [&](unsigned, char* global, unsigned bytes) {
        if (!global) return;
        if (global != end) {
            count();
            begin = global;
        }
        end = global + bytes;
    });
    count();
}
#endif

}  // namespace

void Worker::bulk_load(BulkCopy copy, const void* map, unsigned rank, const int* coordinates, unsigned blocks,
                       const void* caller) {
    prepare(copy, map, rank, coordinates, caller);
#ifdef GPUNN_EMULATOR_CHECK
    check_global(copy, false);
#endif
#ifdef GPUNN_EMULATOR_COUNT
    count_global(copy, false);
#endif
    if (!blocks) return begin_load(copy, true, caller);
    if ((blocks & 0xffff) >> block_.cluster_size)
        misuse(caller, "a copy to the blocks 0x%x of a cluster, which has %u", blocks & 0xffff, block_.cluster_size);
    char* shared = copy.shared;
    std::uint64_t* barrier = copy.barrier;
    for (unsigned to = 0; to < block_.cluster_size; to++) {
        if (!(blocks >> to & 1)) continue;
        copy.shared = (char*)cluster_map(shared, to);
        copy.barrier = (std::uint64_t*)cluster_map(barrier, to);
        begin_load(copy, true, caller);
    }
}

void Worker::begin_load(const BulkCopy& copy, bool by_proxy, const void* caller) {
    const Mbarrier& barrier = mbarrier(copy.barrier, "a copy", caller);
    if (&home_of(copy.barrier) != &home_of(copy.shared))
        misuse(caller, "a copy to the shared memory of one block and the mbarrier of another");
#ifdef GPUNN_EMULATOR_CHECK
    if (by_proxy && !barrier.fenced)
        tell(Kind::race, caller,
             "a copy is given an mbarrier that is initialised with no fence.mbarrier_init or fence.proxy.async after "
             "it");
    checker.bulk_copy_starts(copy.shared, copy.bytes, caller);
#else
    (void)barrier, (void)by_proxy;
#endif
    home_of(copy.barrier).start_load(copy);
}

// The source is read at once, which is as soon as it can be.
void Worker::bulk_send(BulkCopy copy, const void* caller) {
    leave_if_asked();
    copy.caller = caller;
    copy.thread = fiber_->number;
    check_aligned(copy.shared, 16, "the target of a bulk copy", caller);
    check_aligned(copy.global, 16, "the source of a bulk copy", caller);
    if (!copy.bytes || copy.bytes % 16) misuse(caller, "a bulk copy of %u bytes, which is no multiple of 16", copy.bytes);
    check_in_shared(copy, copy.global, caller);
    check_in_shared(copy, copy.shared, caller);
#ifdef GPUNN_EMULATOR_CHECK
    AsyncRead read = checker.begin_async_read(fiber_->number);
    checker.async_read(copy.global, copy.bytes, read, fiber_->number, caller);
    checker.learn(read);
#endif
    send(copy, copy.global, true, caller);
}

void Worker::async_store(BulkCopy copy, const void* value, const void* caller) {
    leave_if_asked();
    copy.caller = caller;
    copy.thread = fiber_->number;
    check_in_shared(copy, copy.shared, caller);
    check_aligned(copy.shared, copy.bytes, "the target of an asynchronous store", caller);
    send(copy, value, false, caller);
}

void Worker::send(BulkCopy copy, const void* value, bool by_proxy, const void* caller) {
    bool room = true;
    try {
        copy.sent.assign((const char*)value, (const char*)value + copy.bytes);
    } catch (const std::bad_alloc&) {
        room = false;
    }
    if (!room) fail_for_memory("an asynchronous store", "no memory");
    begin_load(copy, by_proxy, caller);
}

void Worker::start_load(const BulkCopy& copy) {
    std::memset(copy.shared, 0xff, copy.bytes);
    bool room = true;
    try {
        loads_.push_back(copy);
    } catch (const std::bad_alloc&) {
        room = false;
    }
    if (!room) fail_for_memory("a bulk copy", "no memory");
    progress();
}

// Of libcu++'s memcpy_async: the phase lacks the bytes from now on.
void Worker::async_barrier_copy(BulkCopy copy, const void* caller) {
    leave_if_asked();
    copy.thread = fiber_->number;
    copy.caller = caller;
    change_bytes(mbarrier(copy.barrier, "a copy", caller), copy.bytes, caller);
#ifdef GPUNN_EMULATOR_CHECK
    checker.access(copy.global, copy.bytes, false, Manner::plain, caller);
    checker.bulk_copy_starts(copy.shared, copy.bytes, caller);
#endif
#ifdef GPUNN_EMULATOR_COUNT
    note_access(copy.global, copy.bytes, false, caller);
    note_access(copy.shared, copy.bytes, true, caller);
#endif
    start_load(copy);
}

void Worker::check_copy(const void* to, const void* from, std::size_t bytes, unsigned alignment, unsigned multiple,
                        const void* caller) {
    check_aligned(to, alignment, "the target of an asynchronous copy", caller);
    check_aligned(from, alignment, "the source of an asynchronous copy", caller);
    if (bytes % multiple)
        misuse(caller, "an asynchronous copy of %zu bytes, said to be a multiple of %u", bytes, multiple);
}

// Lets the copies to an mbarrier arrive: as late as it can be, when a thread waits for them.
void Worker::deliver(Mbarrier& barrier) {
    for (std::size_t i = 0; i < loads_.size();) {
        if (loads_[i].barrier != barrier.address) {
            i++;
            continue;
        }
        BulkCopy copy = loads_[i];
        loads_.erase(loads_.begin() + (std::ptrdiff_t)i);
        move(copy);
#ifdef GPUNN_EMULATOR_CHECK
        checker.bulk_copy_arrives(copy.shared, copy.bytes, barrier.column);
#endif
        std::uint64_t phase = barrier.phase;
        change_bytes(barrier, -(std::int64_t)copy.bytes, copy.caller);
        complete_if_due(barrier);
        if (barrier.phase != phase) return;  // what is left belongs to the next phase
    }
}

void Worker::bulk_store(BulkCopy copy, const void* map, unsigned rank, const int* coordinates, const void* caller) {
    prepare(copy, map, rank, coordinates, caller);
    copy.barrier = nullptr;
    copy.group = fiber_->committed_stores;
#ifdef GPUNN_EMULATOR_CHECK
    copy.read = checker.begin_async_read(fiber_->number);
    checker.async_read(copy.shared, copy.bytes, copy.read, fiber_->number, caller);
    check_global(copy, true);
#endif
#ifdef GPUNN_EMULATOR_COUNT
    count_global(copy, true);
#endif
    bool room = true;
    try {
        fiber_->stores.push_back(copy);
    } catch (const std::bad_alloc&) {
        room = false;
    }
    if (!room) fail_for_memory("a bulk copy", "no memory");
}

// Shared memory is read as late as it can be, at the wait; then the copy has been made, in the order of the program.
void Worker::bulk_wait(unsigned newest, bool) {
    Fiber& fiber = *fiber_;
    auto copy = fiber.stores.begin();
    for (; copy != fiber.stores.end() && copy->group + newest < fiber.committed_stores; ++copy) {
        move(*copy);
#ifdef GPUNN_EMULATOR_CHECK
        checker.learn(copy->read);
#endif
    }
    fiber.stores.erase(fiber.stores.begin(), copy);
}

void Worker::finish_stores(Fiber& fiber) {
    for (const BulkCopy& copy : fiber.stores) {
        move(copy);
#ifdef GPUNN_EMULATOR_CHECK
        tell(Kind::race, copy.caller,
             "the thread returns while this bulk copy may still read shared memory: wait for it "
             "(cp.async.bulk.wait_group.read)");
#endif
    }
    fiber.stores.clear();
#ifdef GPUNN_EMULATOR_CHECK
    if (!fiber.products.empty())
        tell(Kind::race, fiber.products[0].caller,
             "the thread returns while wgmma is under way: wait for it (wgmma.wait_group)");
#endif
}

// --- products of warpgroups ------------------------------------------------------------------------------

namespace {

// A matrix of K columns in shared memory, as its descriptor tells. `row` counts along M or N.
struct Matrix {
    unsigned start, leading, stride, base_offset, width;  // of the swizzle, 0: none
    unsigned element_bytes;
    bool transposed;

    Matrix(unsigned long long descriptor, unsigned element_bytes, bool transposed)
        : start((unsigned)(descriptor & 0x3fff) << 4),
          leading((unsigned)(descriptor >> 16 & 0x3fff) << 4),
          stride((unsigned)(descriptor >> 32 & 0x3fff) << 4),
          base_offset((unsigned)(descriptor >> 49 & 7)),
          width(descriptor >> 62 ? 256u >> (descriptor >> 62) : 0),
          element_bytes(element_bytes),
          transposed(transposed) {}

    // Where an element lies. Matrices are made of 16-byte pieces; eight of them, 16 bytes or a swizzle's width apart,
    // repeat along the rows and the columns.
    unsigned place(unsigned row, unsigned k) const {
        unsigned along = (transposed ? row : k) * element_bytes, across = transposed ? k : row;
        unsigned piece = along / 16, offset = along % 16;
        if (!width) {
            offset += across % 8 * 16;
            offset += transposed ? piece * stride + across / 8 * leading : piece * leading + across / 8 * stride;
        } else {
            unsigned pieces = width / 16;
            offset += across % 8 * width + across / 8 * stride;
            offset += transposed ? piece % pieces * 16 + piece / pieces * leading : along / 16 * 16;
        }
        return (unsigned)swizzled_or_not(start + offset, width, base_offset);
    }
};

float element(WarpgroupProduct::Type type, unsigned bits) {
    switch (type) {
    case WarpgroupProduct::f16: return from_half(bits);
    case WarpgroupProduct::bf16: return from_bits(bits << 16);
    case WarpgroupProduct::tf32: break;
    }
    return from_bits(bits & ~0x1fffu);
}

std::vector<Accumulators>::iterator find_sum(std::vector<Accumulators>& sums, const float* first) {
    return std::find_if(sums.begin(), sums.end(), [=](const Accumulators& each) { return each.registers[0] == first; });
}

}  // namespace

void Worker::warpgroup_fence() {
    fiber_->has_fenced_registers = true;
    fiber_->arrived.clear();
}

void Worker::warpgroup_wait(unsigned newest) {
    Fiber& fiber = *fiber_;
    auto product = fiber.products.begin();
    for (; product != fiber.products.end() && product->group + newest < fiber.committed_products; ++product) {
        for (std::size_t i = 0; i < product->registers.size(); i++) *product->registers[i] = product->values[i];
#ifdef GPUNN_EMULATOR_CHECK
        auto old = find_sum(fiber.arrived, product->registers[0]);
        if (old != fiber.arrived.end()) fiber.arrived.erase(old);
        fiber.arrived.push_back(*product);
#endif
    }
    fiber.products.erase(fiber.products.begin(), product);
#ifdef GPUNN_EMULATOR_CHECK
    auto read = fiber.reads.begin();
    for (; read != fiber.reads.end() && read->group + newest < fiber.committed_products; ++read) checker.learn(*read);
    fiber.reads.erase(fiber.reads.begin(), read);
#endif
}

// Makes the accumulators the newest product of the fiber, and leaves NaN in the registers.
void Worker::begin_sum(Fiber& fiber, const WarpgroupProduct& product, const void* caller) {
    const unsigned count = product.n / 2;
    Accumulators sum;
    auto old = find_sum(fiber.products, product.d[0]);
    if (old != fiber.products.end()) {
        if (old->registers.size() != count)
            misuse(caller, "wgmma with n = %u of accumulators that one with n = %zu has not finished", product.n,
                   2 * old->registers.size());
#ifdef GPUNN_EMULATOR_CHECK
        for (unsigned i = 0; i < count; i++)
            if (!is_nan_of_ours(*product.d[i])) {
                tell(Kind::race, caller, "an accumulator was written while wgmma is under way: wait for it first");
                break;
            }
#endif
        sum = *old;
        fiber.products.erase(old);
    } else {
        sum.registers.assign(product.d, product.d + count);
        for (unsigned i = 0; i < count; i++) sum.values.push_back(*product.d[i]);
    }
    sum.group = fiber.committed_products;
    sum.caller = caller;
    fiber.products.push_back(sum);
    for (unsigned i = 0; i < count; i++) std::memset(product.d[i], 0xff, sizeof(float));
}

void Worker::warpgroup_product(WarpgroupProduct& product, const void* caller) {
    leave_if_asked();
    Fiber& fiber = *fiber_;
    unsigned first_warp = fiber.warp / warps_of_warpgroup * warps_of_warpgroup;
    if ((first_warp + warps_of_warpgroup) * warp_size > thread_count_)
        misuse(caller, "wgmma in a warpgroup of %u threads, it needs all 128", thread_count_ - first_warp * warp_size);
    if (product.type == WarpgroupProduct::tf32 && (product.transpose_a || product.transpose_b))
        misuse(caller, "wgmma of tf32 cannot transpose");
#ifdef GPUNN_EMULATOR_CHECK
    bool touched = !fiber.has_fenced_registers;
    auto old = find_sum(fiber.arrived, product.d[0]);
    if (old != fiber.arrived.end()) {
        for (unsigned i = 0; i < product.n / 2 && i < old->registers.size(); i++)
            touched = touched || std::memcmp(product.d[i], &old->values[i], sizeof(float));
        fiber.arrived.erase(old);
    }
    if (touched) tell(Kind::race, caller, "wgmma of registers that were touched with no wgmma.fence between");
#endif
    bool room = true;
    try {
        begin_sum(fiber, product, caller);
    } catch (const std::bad_alloc&) {
        room = false;
    }
    if (!room) fail_for_memory("the accumulators of wgmma", "no memory");
    fiber.payload = &product;
    fiber.caller = caller;
#ifdef GPUNN_EMULATOR_COUNT
    counter.collective(product.counted_as, caller);
#endif

    // The last one of the 128 threads multiplies.
    Warp& warp = warps_[fiber.warp];
    warp.ready &= ~bit(fiber.lane);
    warp.in_warpgroup |= bit(fiber.lane);
    for (unsigned w = 0; w < warps_of_warpgroup; w++)
        if (warps_[first_warp + w].in_warpgroup != ~0u) return wait(fiber);
    run_product(first_warp * warp_size);
    for (unsigned w = first_warp; w < first_warp + warps_of_warpgroup; w++) {
        warps_[w].ready = warps_[w].in_warpgroup;
        warps_[w].in_warpgroup = 0;
        ready_warps_ |= bit(w);
    }
    progress();
}

void Worker::run_product(unsigned first_fiber) {
    const WarpgroupProduct& product = *(const WarpgroupProduct*)fibers_[first_fiber].payload;
    const void* caller = fiber_->caller;
    const unsigned rows = 64, threads = 128;
    for (unsigned i = 0; i < threads; i++) {
        const WarpgroupProduct& other = *(const WarpgroupProduct*)fibers_[first_fiber + i].payload;
        bool same = other.type == product.type && other.n == product.n && other.b_matrix == product.b_matrix &&
                    other.scale_d == product.scale_d && other.a_in_registers == product.a_in_registers &&
                    (product.a_in_registers || other.a_matrix == product.a_matrix) &&
                    other.transpose_a == product.transpose_a && other.transpose_b == product.transpose_b;
        if (!same) misuse(caller, "threads %u and %u of a block meet in different wgmma", first_fiber, first_fiber + i);
    }
    unsigned end = block_.dynamic_shared_bytes ? block_.dynamic_window + (unsigned)block_.dynamic_shared_bytes
                                               : block_.static_window + (unsigned)block_.static_shared_bytes;
    if (end > shared_window)
        misuse(caller,
               "a descriptor reaches 256 KiB of shared memory; the kernels of this module have %u KiB together: "
               "put them into modules of their own",
               end / 1024);
    const unsigned element_bytes = product.type == WarpgroupProduct::tf32 ? 4 : 2, terms = 32 / element_bytes;
    float a[64][16], b[256][16];  // B by columns
#ifdef GPUNN_EMULATOR_CHECK
    AsyncRead read = checker.begin_async_read(max_threads + first_fiber / threads);
#endif
    auto load = [&](const Matrix& matrix, unsigned count, float (*to)[16], bool negate) {
        unsigned piece_elements = 16 / element_bytes;
        if (matrix.start % 16) misuse(caller, "a matrix at an address that is no multiple of 16");
        for (unsigned row = 0; row < count; row++)
            for (unsigned k = 0; k < terms; k++) {
                unsigned address = matrix.place(row, k);
                const char* memory = shared_pointer(address);
                if (!is_shared(memory) || !is_shared(memory + element_bytes - 1)) {
                    Report report = describe(Kind::out_of_bounds, caller);
                    std::snprintf(
                        report.message, sizeof report.message,
                        "wgmma reads shared address %u, element (%u, %u) of a matrix, where no shared memory is",
                        address, row, k);
                    fail(report);
                }
#ifdef GPUNN_EMULATOR_CHECK
                // Once for each piece of 16 bytes.
                if ((matrix.transposed ? row : k) % piece_elements == 0)
                    for (unsigned w = 0; w < warps_of_warpgroup; w++)
                        if (to == b || row / 16 == w || matrix.transposed)
                            checker.async_read(memory, 16, read, first_fiber + w * warp_size, caller);
#else
                (void)piece_elements;
#endif
                unsigned bits = 0;
                std::memcpy(&bits, memory, element_bytes);
                float value = element(product.type, bits);
                to[row][k] = negate ? -value : value;
            }
    };
    if (product.a_in_registers) {
        const unsigned each = 4 / element_bytes, half = terms / 2;  // elements of a register
        for (unsigned i = 0; i < threads; i++) {
            const unsigned* registers = ((const WarpgroupProduct*)fibers_[first_fiber + i].payload)->a;
            unsigned row = i / warp_size * 16 + i % warp_size / 4, k = i % 4 * each;
            for (unsigned r = 0; r < 4; r++)
                for (unsigned j = 0; j < each; j++) {
                    unsigned bits = each == 1 ? registers[r] : registers[r] >> 16 * j & 0xffff;
                    float value = element(product.type, bits);
                    a[row + r % 2 * 8][k + r / 2 * half + j] = product.negate_a ? -value : value;
                }
        }
    } else {
        load(Matrix(product.a_matrix, element_bytes, product.transpose_a), rows, a, product.negate_a);
    }
    load(Matrix(product.b_matrix, element_bytes, product.transpose_b), product.n, b, product.negate_b);

    // As in ptx.h, a sum is rounded once.
    for (unsigned i = 0; i < threads; i++) {
        Accumulators& sums = fibers_[first_fiber + i].products.back();
        unsigned first_row = i / warp_size * 16 + i % warp_size / 4, first_column = i % 4 * 2;
        for (unsigned j = 0; j < product.n / 2; j++) {
            const float *row = a[first_row + j / 2 % 2 * 8], *other = b[first_column + j / 4 * 8 + j % 2];
            double sum = product.scale_d ? sums.values[j] : 0.0;
            for (unsigned k = 0; k < terms; k++) sum += (double)row[k] * (double)other[k];
            sums.values[j] = (float)sum;
        }
#ifdef GPUNN_EMULATOR_CHECK
        read.group = sums.group;
        fibers_[first_fiber + i].reads.push_back(read);
#endif
    }
}

// --- what kernels call -----------------------------------------------------------------------------------

void mbarrier_init(void* barrier, unsigned count) {
    worker->mbarrier_init((std::uint64_t*)barrier, count, __builtin_return_address(0));
}
void mbarrier_inval(void* barrier) { worker->mbarrier_inval((std::uint64_t*)barrier, __builtin_return_address(0)); }
unsigned long long mbarrier_arrive(void* barrier, const MbarrierArrival& arrival) {
    return worker->mbarrier_arrive((std::uint64_t*)barrier, arrival, __builtin_return_address(0));
}
bool mbarrier_wait(void* barrier, unsigned long long state, bool is_parity) {
    return worker->mbarrier_wait((std::uint64_t*)barrier, state, is_parity, __builtin_return_address(0));
}
void fence_proxy(bool of_inits_only) { worker->fence_proxy(of_inits_only); }

void async_barrier_copy(void* shared, const void* from, std::size_t bytes, void* barrier) {
    BulkCopy copy{};
    copy.shared = (char*)shared;
    copy.global = (char*)from;
    copy.bytes = (unsigned)bytes;
    copy.barrier = (std::uint64_t*)barrier;
    worker->async_barrier_copy(copy, __builtin_return_address(0));
}

void check_copy(const void* to, const void* from, std::size_t bytes, unsigned alignment, unsigned multiple) {
    worker->check_copy(to, from, bytes, alignment, multiple, __builtin_return_address(0));
}

void bulk_load(void* shared, const void* global, unsigned bytes, void* barrier, unsigned blocks) {
    BulkCopy copy{};
    copy.shared = (char*)shared;
    copy.global = (char*)global;
    copy.bytes = bytes;
    copy.barrier = (std::uint64_t*)barrier;
    worker->bulk_load(copy, nullptr, 0, nullptr, blocks, __builtin_return_address(0));
}
void bulk_send(void* shared, const void* own, unsigned bytes, void* barrier) {
    BulkCopy copy{};
    copy.shared = (char*)shared;
    copy.global = (char*)own;
    copy.bytes = bytes;
    copy.barrier = (std::uint64_t*)barrier;
    worker->bulk_send(copy, __builtin_return_address(0));
}
void async_store(void* shared, const void* value, unsigned bytes, void* barrier) {
    BulkCopy copy{};
    copy.shared = (char*)shared;
    copy.bytes = bytes;
    copy.barrier = (std::uint64_t*)barrier;
    worker->async_store(copy, value, __builtin_return_address(0));
}
void bulk_store(void* global, const void* shared, unsigned bytes) {
    BulkCopy copy{};
    copy.shared = (char*)shared;
    copy.global = (char*)global;
    copy.bytes = bytes;
    worker->bulk_store(copy, nullptr, 0, nullptr, __builtin_return_address(0));
}
void tensor_load(void* shared, const void* map, unsigned rank, const int* coordinates, void* barrier, unsigned blocks) {
    BulkCopy copy{};
    copy.shared = (char*)shared;
    copy.barrier = (std::uint64_t*)barrier;
    worker->bulk_load(copy, map, rank, coordinates, blocks, __builtin_return_address(0));
}
void tensor_store(const void* map, unsigned rank, const int* coordinates, const void* shared) {
    BulkCopy copy{};
    copy.shared = (char*)shared;
    worker->bulk_store(copy, map, rank, coordinates, __builtin_return_address(0));
}
void bulk_commit() { worker->bulk_commit(); }
void bulk_wait(unsigned newest, bool of_reads) { worker->bulk_wait(newest, of_reads); }

void warpgroup_fence() { worker->warpgroup_fence(); }
void warpgroup_commit() { worker->warpgroup_commit(); }
void warpgroup_wait(unsigned newest) { worker->warpgroup_wait(newest); }
void warpgroup_product(WarpgroupProduct& product) { worker->warpgroup_product(product, __builtin_return_address(0)); }

}  // namespace gpunn_emulator

#include "checker.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <new>

namespace gpunn_emulator {

Checker checker;

namespace {

unsigned bit(unsigned i) { return 1u << i; }

// Zero pages that take no memory until they are touched: most of a large array never is.
Cell* map_cells(std::size_t count) {
    if (!count) return nullptr;
    void* memory = mmap(nullptr, count * sizeof(Cell), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    return (Cell*)memory;
}

bool is_shared(const Region& region) {
    return region.space == Space::static_shared || region.space == Space::dynamic_shared;
}

}  // namespace

// --- what the launch may touch ---------------------------------------------------------------------------

void Checker::begin_launch(const Launch& launch) {
    launch_ = &launch;
    interval_ = 0;
    turn_ = 0;
    const Request& request = launch.request;
    for (int i = 0; i < request.buffer_count; i++) {
        Buffer& buffer = request.buffers[i];
        // What is known of their bytes is mapped when one is touched: a device may have a thousand allocations.
        regions_.push_back(Region{Space::argument, buffer.memory, buffer.memory + buffer.bytes, nullptr, buffer.argument,
                                  (Access)buffer.access, &buffer, Span{buffer.bytes, 0}});
    }
    buffers_ = regions_.size();
    std::sort(regions_.begin(), regions_.end(), [](const Region& a, const Region& b) { return a.begin < b.begin; });
    const Library& library = *request.library;
    add_region(Space::device_variable, library.data_begin,
               (std::size_t)(library.data_end - library.data_begin), -1);
}

void Checker::end_launch() {
    for (const Region& region : regions_) {
        if (!region.cells) continue;
        if (region.buffer && region.buffer->touched) tell_touched(region);
        munmap(region.cells, (std::size_t)(region.end - region.begin) * sizeof(Cell));
    }
    regions_.clear();
    first_intervals_.clear();
    block_numbers_.clear();
    sync_points_.clear();
    suspects_.clear();
    compared_places_.clear();
    store_.bytes = 0;
    worker_ = nullptr;
}

void Checker::add_region(Space space, char* begin, std::size_t bytes, int argument) {
    regions_.push_back(Region{space, begin, begin + bytes, map_cells(bytes), argument, Access::write});
}

void Checker::begin_block(Worker& worker) {
    if (!worker_) {
        worker_ = &worker;
        const BlockView& block = worker.block();
        add_region(Space::dynamic_shared, block.dynamic_shared, block.dynamic_shared_bytes, -1);
        const Library& library = *launch_->request.library;
        add_region(Space::static_shared, worker.static_shared(), library.shared_bytes, -1);
        guards_ = library.shared_bytes ? guards_of(library.base) : std::vector<std::size_t>();
    }
    new_interval();
    block_interval_ = interval_;
    turn_ = (std::uint32_t)first_intervals_.size();
    first_intervals_.push_back(interval_);
    block_numbers_.push_back(worker.block_number());
    fenced_.reset();
    seen_threads_.clear();
    seen_blocks_.assign(turn_ + 1, false);
}

void Checker::new_interval() {
    settle_store();
    interval_++;
    for (unsigned w = 0; w < max_threads / warp_size; w++) {
        if (!syncs_[w]) continue;
        syncs_[w] = 0;
        std::memset(known_[w], 0, sizeof known_[w]);
    }
}

void Checker::block_barrier() { new_interval(); }

// Each lane learns what all lanes at the barrier knew.
void Checker::warp_barrier(unsigned warp, unsigned lanes) {
    if (syncs_[warp] == 0xffff)
        new_interval();  // the counter is full; this forgives races, it never invents one
    std::uint16_t now = ++syncs_[warp];
    std::uint16_t together[warp_size] = {};
    for (unsigned rest = lanes; rest; rest &= rest - 1) {
        const std::uint16_t* known = known_[warp][__builtin_ctz(rest)];
        for (unsigned i = 0; i < warp_size; i++) together[i] = std::max(together[i], known[i]);
    }
    for (unsigned i = 0; i < warp_size; i++)
        if (lanes >> i & 1) together[i] = now;
    for (unsigned rest = lanes; rest; rest &= rest - 1)
        std::memcpy(known_[warp][__builtin_ctz(rest)], together, sizeof together);
}

// --- collectives -----------------------------------------------------------------------------------------

// __syncwarp may name lanes that have returned, CUDA says. What the others bring a value to has none from
// such a lane.
void Checker::lane_joins_collective(Worker& worker, const Fiber& fiber, const Warp& warp) {
    unsigned missing = fiber.mask & ~warp.live;
    if (!fiber.operation || !missing) return;
    unsigned lane = (unsigned)__builtin_ctz(missing);
    bool exists = fiber.warp * warp_size + lane < worker.thread_count();
    Report report = worker.describe(Kind::warp_mask, fiber.caller);
    std::snprintf(report.message, sizeof report.message, "the mask 0x%08x names lane %u, which %s",
                  fiber.mask, lane, exists ? "has returned" : "does not exist");
    worker.add(report);
}

void Checker::lane_left_collective(Worker& worker, const Fiber& waiting, const Fiber& gone) {
    if (!waiting.operation) return;
    Report report = worker.describe(Kind::warp_mask, waiting.caller);
    std::memcpy(report.thread, &waiting.index, sizeof report.thread);
    std::snprintf(report.message, sizeof report.message,
                  "the mask 0x%08x names lane %u, which returns without coming here", waiting.mask,
                  gone.lane);
    worker.add(report);
}

// --- order through atomics -------------------------------------------------------------------------------

void Checker::fence() { fenced_.set(worker_->fiber()->number); }

// A thread that fences and then touches an atomic variable makes its writes visible to who touches it later.
// That is tracked by thread and by block, not by write, so a write after the fence is forgiven.
void Checker::atomic(const char* address, std::size_t bytes, const void* pc) {
    access(address, bytes, true, true, pc);
    unsigned thread = worker_->fiber()->number;
    auto found = sync_points_.find(address);
    if (found != sync_points_.end()) {
        SyncPoint& point = found->second;
        for (std::uint32_t turn : point.blocks) seen_blocks_[turn] = true;
        if (point.turn == turn_) seen_threads_[thread] |= point.threads;
    }
    if (!fenced_[thread]) return;
    SyncPoint& point = sync_points_[address];
    if (point.turn != turn_) point.threads.reset();
    point.turn = turn_;
    point.threads.set(thread);
    if (point.blocks.empty() || point.blocks.back() != turn_) point.blocks.push_back(turn_);
}

// Learns whose plain read has told the thread what to compare with.
void Checker::compare_and_swap(const char* address, std::size_t bytes, const void* compare) {
    if (!worker_ || !worker_->fiber()) return;
    Region* region = find(address, bytes);
    if (!region || !region->cells || std::memcmp(address, compare, bytes)) return;
    const Cell& cell = region->cells[address - region->begin];
    const Fiber& fiber = *worker_->fiber();
    if (cell.read_interval >= block_interval_ && cell.read_warp == fiber.warp && cell.read_lanes & bit(fiber.lane))
        compared_places_.insert(cell.read_place);
}

// --- one access ------------------------------------------------------------------------------------------

Region* Checker::find(const char* address, std::size_t bytes) {
    auto holds = [=](const Region& region) {
        return address >= region.begin && address < region.end && bytes <= (std::size_t)(region.end - address);
    };
    auto first = regions_.begin(), end_of_buffers = first + (std::ptrdiff_t)buffers_;
    auto after = std::upper_bound(first, end_of_buffers, address,
                                  [](const char* a, const Region& region) { return a < region.begin; });
    if (after != first && holds(*(after - 1))) {
        Region& region = *(after - 1);
        if (!region.cells) region.cells = map_cells((std::size_t)(region.end - region.begin));
        return &region;
    }
    for (auto region = end_of_buffers; region != regions_.end(); ++region)
        if (holds(*region)) return &*region;
    return nullptr;
}

// Keeps what outlives the launch: which bytes it touched, and which of the memory have ever been written.
void Checker::touch(Region& region, std::size_t offset, std::size_t bytes, bool write, const void* pc) {
    Buffer& buffer = *region.buffer;
    region.touched.begin = std::min(region.touched.begin, offset);
    region.touched.end = std::max(region.touched.end, offset + bytes);
    if (!buffer.written) return;
    std::size_t unwritten = 0;
    for (std::size_t i = offset; i < offset + bytes; i++) {
        unsigned char& eight = buffer.written[i / 8];
        if (write) eight |= (unsigned char)(1u << i % 8);
        else unwritten += !(eight >> i % 8 & 1);
    }
    if (!unwritten || unwritten < bytes) return;  // padding of a struct may be left as it was
    Report report = worker_->describe(Kind::uninitialised, pc);
    report.argument = buffer.argument;
    report.byte = (long long)offset;
    char what[80];
    name(what, sizeof what, region, offset);
    std::snprintf(report.message, sizeof report.message, "read of %s, which nobody has written", what);
    worker_->add(report);
}

// Reads before a write of the same bytes are not known any more: who is in order with the write is with them.
void Checker::tell_touched(const Region& region) const {
    auto add = [](std::vector<Span>& spans, std::size_t byte) {
        if (!spans.empty() && spans.back().end == byte) spans.back().end++;
        else spans.push_back({byte, byte + 1});
    };
    for (std::size_t i = region.touched.begin; i < region.touched.end; i++) {
        if (region.cells[i].write_interval) add(region.buffer->touched->wrote, i);
        if (region.cells[i].read_interval) add(region.buffer->touched->read, i);
    }
}

// The running thread's stack, the indices, and the constants of the library.
bool Checker::is_emulators_own(const char* address, std::size_t bytes) const {
    auto inside = [&](const void* begin, std::size_t size) {
        return address >= (const char*)begin && address + bytes <= (const char*)begin + size;
    };
    const Fiber& fiber = *worker_->fiber();
    const Library& library = *launch_->request.library;
    return inside(fiber.stack.low, (std::size_t)(fiber.stack.high - fiber.stack.low)) ||
           inside(&current, sizeof current) || inside(&fiber, sizeof(ThreadView)) ||
           inside(&worker_->block(), sizeof(BlockView)) ||
           inside(library.image_begin, (std::size_t)(library.image_end - library.image_begin));
}

void Checker::access(const char* address, std::size_t bytes, bool write, bool atomic, const void* pc) {
    if (!worker_ || !worker_->fiber() || !bytes) return;
    worker_->leave_if_asked();
    settle_store();
    Region* region = find(address, bytes);
    if (!region) {
        if (is_emulators_own(address, bytes)) return;
        report_out_of_bounds(address, bytes, write, pc);
    }
    worker_->take_turns_if_asked(pc);  // not within an atomic operation, which touches its own variables too
    std::uint32_t place = (std::uint32_t)((const char*)pc - launch_->request.library->base);
    Touch access{region, (std::size_t)(address - region->begin), bytes, write, atomic, pc, place};
    if (region->space == Space::static_shared && std::binary_search(guards_.begin(), guards_.end(), access.offset))
        return;
    if (region->allowed > Access::read) report_forbidden(access);
    if (write && region->allowed == Access::read) {
        Report report = worker_->describe(Kind::read_only_write, pc);
        report.argument = region->argument;
        report.byte = (long long)access.offset;
        std::snprintf(report.message, sizeof report.message,
                      "write to argument %d, whose parameter is a pointer to const", region->argument);
        worker_->add(report);
    }
    if (is_shared(*region) && !write) check_initialised(access);
    if (region->buffer) {
        if (atomic) touch(*region, access.offset, bytes, false, pc);
        touch(*region, access.offset, bytes, write, pc);
    }
    bool raced = false;
    for (std::size_t i = 0; i < bytes; i++)
        check_byte(access, region->cells[access.offset + i], access.offset + i, raced);
}

void Checker::check_byte(const Touch& access, Cell& cell, std::size_t byte, bool& raced) {
    // What an earlier block did in shared memory is gone.
    bool from_here = std::max(cell.write_interval, cell.read_interval) >= block_interval_;
    if (!from_here && is_shared(*access.region)) cell = Cell{};
    bool was_written = cell.write_interval, was_read = cell.read_interval;
    if (was_written && !raced && cell.copy_under_way) {
        raced = true;
        report_race(access, cell, byte, Earlier::copy, cell.write_thread);
    }
    if (was_written && !raced && !(access.atomic && cell.write_atomic) &&
        !ordered(cell.write_interval, cell.write_thread, cell.write_sync)) {
        raced = true;
        report_race(access, cell, byte, Earlier::write, cell.write_thread);
    }
    if (was_read && access.write && !raced && !read_is_ordered(cell)) {
        raced = true;
        // Of several readers, one that is not the writer.
        unsigned me = worker_->fiber()->number, lanes = cell.read_lanes;
        if (cell.read_warp == me / warp_size && cell.read_interval >= block_interval_ &&
            (lanes & (lanes - 1)))
            lanes &= ~bit(me % warp_size);
        report_race(access, cell, byte, Earlier::read, cell.read_warp * warp_size + (unsigned)__builtin_ctz(lanes));
    }
    if (access.write) record_write(cell, access.atomic, access.bytes, access.place);
    else record_read(cell, access.place);
}

// Whether an earlier access is certain to come before what the running thread does now.
bool Checker::ordered(std::uint32_t interval, unsigned thread, unsigned sync) const {
    if (interval < block_interval_) return seen_blocks_[turn_of(interval)];
    if (interval < interval_) return true;
    unsigned me = worker_->fiber()->number;
    if (thread == me) return true;
    unsigned warp = me / warp_size;
    if (thread / warp_size == warp && sync < known_[warp][me % warp_size][thread % warp_size]) return true;
    auto seen = seen_threads_.find(me);
    return seen != seen_threads_.end() && seen->second[thread];
}

bool Checker::read_is_ordered(const Cell& cell) const {
    if (cell.read_by_many_blocks &&
        std::find(seen_blocks_.begin(), seen_blocks_.end(), true) == seen_blocks_.end())
        return false;
    if (cell.read_interval >= interval_ && cell.read_by_many_warps) return false;
    for (unsigned rest = cell.read_lanes; rest; rest &= rest - 1)
        if (!ordered(cell.read_interval, cell.read_warp * warp_size + (unsigned)__builtin_ctz(rest),
                     cell.read_sync))
            return false;
    return true;
}

void Checker::record_write(Cell& cell, bool atomic, std::size_t bytes, std::uint32_t place) const {
    const Fiber& fiber = *worker_->fiber();
    cell = Cell{};  // later accesses that are ordered after this write are ordered after the reads before it
    cell.write_interval = interval_;
    cell.write_thread = (std::uint16_t)fiber.number;
    cell.write_sync = syncs_[fiber.warp];
    cell.write_atomic = atomic;
    cell.write_long = bytes >= 8;
    cell.write_place = place;
}

void Checker::record_read(Cell& cell, std::uint32_t place) const {
    const Fiber& fiber = *worker_->fiber();
    bool from_here = cell.read_interval == interval_;
    if (cell.read_interval && cell.read_interval < block_interval_) cell.read_by_many_blocks = true;
    if (!from_here) cell.read_by_many_warps = false;
    if (from_here && cell.read_warp != fiber.warp) {
        cell.read_by_many_warps = true;
    } else if (from_here) {
        // Who is ordered before this read needs not be kept: a write after this one is after those too.
        for (unsigned rest = cell.read_lanes; rest; rest &= rest - 1) {
            unsigned lane = (unsigned)__builtin_ctz(rest);
            if (cell.read_sync < known_[fiber.warp][fiber.lane][lane]) cell.read_lanes &= ~bit(lane);
        }
        cell.read_lanes |= bit(fiber.lane);
    }
    if (!from_here || cell.read_by_many_warps) cell.read_lanes = bit(fiber.lane);
    cell.read_interval = interval_;
    cell.read_warp = (std::uint16_t)fiber.warp;
    cell.read_sync = syncs_[fiber.warp];
    cell.read_place = place;
}

// A struct may have padding that nobody writes. So one written byte is enough for a word, one word for an access longer
// than any vector, and half of 16 bytes if it is one number: what is aligned to it may have a word of padding beside it.
// What is left: such padding beside two numbers of a word each is reported.
void Checker::check_initialised(const Touch& access) const {
    const std::size_t word = 4, half = 8, longest_vector = 16;
    const Cell* cells = access.region->cells + access.offset;
    auto written = [&](std::size_t i) { return cells[i].write_interval >= block_interval_; };
    std::size_t unwritten_words = 0, words = 0, first_unwritten = 0;
    for (std::size_t i = 0; i < access.bytes; words++) {
        bool any = false;
        std::size_t begin = i, end = std::min(access.bytes, i + word - (access.offset + i) % word);
        for (; i < end; i++) any |= written(i);
        if (!any && !unwritten_words++) first_unwritten = begin;
    }
    if (!unwritten_words || (access.bytes > longest_vector && unwritten_words < words)) return;
    auto is_number = [&](std::size_t begin) {
        for (std::size_t i = begin; i < begin + half; i++)
            if (!written(i) || !cells[i].write_long) return false;
        return true;
    };
    if (access.bytes == longest_vector && unwritten_words == 1 && is_number(first_unwritten < half ? half : 0)) return;
    Report report = worker_->describe(Kind::uninitialised, access.pc);
    report.byte = (long long)(access.offset + first_unwritten);
    char what[80];
    name(what, sizeof what, *access.region, access.offset + first_unwritten);
    std::snprintf(report.message, sizeof report.message, "read of %s, which no thread has written", what);
    worker_->add(report);
}

// --- reports ---------------------------------------------------------------------------------------------

std::uint32_t Checker::turn_of(std::uint32_t interval) const {
    auto after = std::upper_bound(first_intervals_.begin(), first_intervals_.end(), interval);
    return (std::uint32_t)(after - first_intervals_.begin()) - 1;
}

// The Python side puts the variable's own name in the place of "static shared memory"; see report.py.
void Checker::name(char* text, std::size_t capacity, const Region& region, std::size_t byte) const {
    switch (region.space) {
    case Space::argument:
        if (region.argument >= 0) std::snprintf(text, capacity, "argument %d byte %zu", region.argument, byte);
        else std::snprintf(text, capacity, "byte %zu of an allocation of %zu", byte, (std::size_t)(region.end - region.begin));
        break;
    case Space::static_shared: std::snprintf(text, capacity, "static shared memory byte %zu", byte); break;
    case Space::dynamic_shared: std::snprintf(text, capacity, "dynamic shared memory byte %zu", byte); break;
    case Space::device_variable: std::snprintf(text, capacity, "a __device__ variable"); break;
    }
}

void Checker::report_race(const Touch& access, const Cell& cell, std::size_t byte, Earlier earlier, unsigned thread) {
    std::uint32_t interval = earlier == Earlier::read ? cell.read_interval : cell.write_interval;
    std::uint32_t place = earlier == Earlier::read ? cell.read_place : cell.write_place;
    Report report = worker_->describe(Kind::race, access.pc);
    report.argument = access.region->argument;
    report.byte = access.region->space == Space::device_variable ? -1 : (long long)byte;
    std::uint64_t number = block_numbers_[turn_of(interval)];
    const unsigned* grid = launch_->request.grid;
    unsigned block[3] = {(unsigned)(number % grid[0]), (unsigned)(number / grid[0] % grid[1]),
                         (unsigned)(number / grid[0] / grid[1])};
    const uint3& other = worker_->fiber(thread).index;
    report.has_other = 1;
    std::memcpy(report.other_block, block, sizeof block);
    std::memcpy(report.other_thread, &other, sizeof report.other_thread);
    report.other_pc = place ? launch_->request.library->base + place : nullptr;

    char what[80], who[100];
    name(what, sizeof what, *access.region, byte);
    bool same_block = interval >= block_interval_;
    if (earlier == Earlier::copy)
        std::snprintf(who, sizeof who, "thread (%u,%u,%u), which has not waited for it", other.x, other.y,
                      other.z);
    else if (same_block)
        std::snprintf(who, sizeof who, "thread (%u,%u,%u) with no barrier between", other.x, other.y,
                      other.z);
    else
        std::snprintf(who, sizeof who, "block (%u,%u,%u) thread (%u,%u,%u), and nothing orders two blocks",
                      block[0], block[1], block[2], other.x, other.y, other.z);
    const char* verb = earlier == Earlier::copy    ? ", the target of an asynchronous copy"
                       : earlier == Earlier::write ? " written"
                                                   : " read";
    std::snprintf(report.message, sizeof report.message, "%s of %s%s by %s", access.write ? "write" : "read",
                  what, verb, who);
    if (earlier == Earlier::read && access.atomic) {
        suspect(report, place);
    } else if (earlier == Earlier::write && cell.write_atomic && !access.write) {
        suspect(report, access.place);
    } else if (earlier != Earlier::copy && access.write && !access.atomic && access.bytes <= sizeof store_.before) {
        store_.report = report;
        store_.address = access.region->begin + access.offset;
        store_.bytes = access.bytes;
        std::memcpy(store_.before, store_.address, access.bytes);
    } else {
        worker_->add(report);
    }
}

// A loop around atomicCAS begins with a plain read: if that was old, the loop goes round again. Which reads are of that
// kind is known when the launch is over.
void Checker::suspect(const Report& report, std::uint32_t read_place) {
    for (const Suspect& known : suspects_)
        if (known.report.pc == report.pc && known.read_place == read_place) return;
    suspects_.push_back({report, read_place});
}

void Checker::settle() {
    settle_store();
    for (Suspect& each : suspects_) {
        if (compared_places_.count(each.read_place)) each.report.harmless = (int)Harmless::compared_and_swapped;
        worker_->add(each.report);
    }
}

// Called before the next access, barrier or end: until then nothing but the store has changed its memory.
void Checker::settle_store() {
    if (!store_.bytes) return;
    if (!std::memcmp(store_.address, store_.before, store_.bytes)) store_.report.harmless = (int)Harmless::same_value;
    store_.bytes = 0;
    worker_->add(store_.report);
}

// The access itself must not happen, so the block ends here.
void Checker::report_out_of_bounds(const char* address, std::size_t bytes, bool write, const void* pc) {
    Report report = worker_->describe(Kind::out_of_bounds, pc);
    const Region* nearest = nullptr;
    const long long far_away = 1 << 20;
    long long smallest = far_away;
    for (const Region& region : regions_) {
        if (region.begin == region.end || region.space == Space::device_variable) continue;
        long long distance = address < region.begin ? region.begin - address : address + bytes - region.end;
        if (distance >= smallest) continue;
        smallest = distance;
        nearest = &region;
    }
    const char* access = write ? "write" : "read";
    if (!nearest) {
        std::snprintf(report.message, sizeof report.message,
                      "%s of %zu bytes at %p, which is in no argument and no shared memory", access, bytes,
                      (const void*)address);
        worker_->fail(report);
    }
    long long offset = address - nearest->begin;
    report.argument = nearest->argument;
    report.byte = offset >= 0 ? offset : -1;
    char what[80];
    if (nearest->space == Space::argument && nearest->argument >= 0)
        std::snprintf(what, sizeof what, "argument %d", nearest->argument);
    else if (nearest->space == Space::argument) std::snprintf(what, sizeof what, "an allocation");
    else
        std::snprintf(what, sizeof what, "the %s shared memory",
                      nearest->space == Space::static_shared ? "static" : "dynamic");
    std::snprintf(report.message, sizeof report.message,
                  "%s of %zu bytes at byte %lld of %s, which has %zu bytes", access, bytes, offset, what,
                  (std::size_t)(nearest->end - nearest->begin));
    worker_->fail(report);
}

// An allocation that the launch must not touch at all.
void Checker::report_forbidden(const Touch& access) {
    Report report = worker_->describe(Kind::out_of_bounds, access.pc);
    report.argument = access.region->argument;
    report.byte = (long long)access.offset;
    char what[80];
    name(what, sizeof what, *access.region, access.offset);
    std::snprintf(report.message, sizeof report.message, "%s of %s, %s", access.write ? "write" : "read", what,
                  access.region->allowed == Access::freed
                      ? "which was freed"
                      : "which is on another device, to which this one has no peer access");
    worker_->fail(report);
}

// --- asynchronous copies ---------------------------------------------------------------------------------

// Nobody may touch the target between start and arrival; for what comes after, the write counts at the arrival.
void Checker::async_copy_starts(const AsyncCopy& copy, const void* pc) {
    access(copy.global, copy.source_bytes, false, false, pc);
    access(copy.shared, copy.bytes, true, false, pc);
    Region *source = find(copy.global, copy.source_bytes), *target = find(copy.shared, copy.bytes);
    bool from_global = !copy.source_bytes || (source && !is_shared(*source));
    if (!from_global || !target || !is_shared(*target)) {
        Report report = worker_->describe(Kind::out_of_bounds, pc);
        std::snprintf(report.message, sizeof report.message,
                      "an asynchronous copy goes from global to shared memory, this one from %p to %p",
                      (const void*)copy.global, (const void*)copy.shared);
        worker_->fail(report);
    }
    for (unsigned i = 0; i < copy.bytes; i++)
        target->cells[copy.shared - target->begin + i].copy_under_way = true;
}

void Checker::async_copy_arrives(const AsyncCopy& copy) {
    Region* target = find(copy.shared, copy.bytes);
    for (unsigned i = 0; i < copy.bytes; i++)
        record_write(target->cells[copy.shared - target->begin + i], false, copy.bytes, 0);
}

void note_access(const void* address, std::size_t bytes, bool write, const void* caller) {
    checker.access((const char*)address, bytes, write, false, caller);
}

void note_atomic(const void* address, std::size_t bytes, const void* caller) {
    bool room = true;
    try {
        checker.atomic((const char*)address, bytes, caller);
    } catch (const std::bad_alloc&) {
        room = false;
    }
    if (!room) worker->fail_for_memory("what is known of the atomics", "no memory");
}

void note_compare_and_swap(const void* address, std::size_t bytes, const void* compare) {
    checker.compare_and_swap((const char*)address, bytes, compare);
}

void note_fence() { checker.fence(); }

}  // namespace gpunn_emulator

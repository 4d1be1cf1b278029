#include "checker.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <new>

#include "heap.h"

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

void unmap_cells(Cell* cells, std::size_t count) {
    if (cells) munmap(cells, count * sizeof(Cell));
}

bool is_shared(const Region& region) {
    return region.space == Space::static_shared || region.space == Space::dynamic_shared;
}

}  // namespace

// --- what the launch may touch ---------------------------------------------------------------------------

// Makes the cells small enough for an access to be some whole ones.
void Region::split_for(std::size_t offset, std::size_t bytes) {
    unsigned small = unit;
    while ((offset | bytes) % small) small /= 2;
    if (small == unit) return;
    unsigned parts = unit / small, old_unit = unit;
    std::size_t old_count = cell_count();
    Cell* old = cells;
    unit = small;
    cells = map_cells(cell_count());
    std::size_t first = buffer ? touched.begin / old_unit : 0;
    std::size_t last = buffer ? std::min(old_count, touched.end / old_unit + 1) : old_count;
    for (std::size_t i = first; i < last; i++)
        for (std::size_t k = i * parts; k < (i + 1) * parts && k < cell_count(); k++) cells[k] = old[i];
    unmap_cells(old, old_count);
}

void Region::free_cells() {
    unmap_cells(cells, cell_count());
    cells = nullptr;
}

void Checker::begin_launch(const Launch& launch) {
    launch_ = &launch;
    interval_ = 0;
    turn_ = 0;
    unset_was_read_ = false;
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
    for (Region& region : regions_) {
        if (!region.cells) continue;
        if (region.buffer && region.buffer->touched) tell_touched(region);
        region.free_cells();
    }
    regions_.clear();
    heap_region_.free_cells();
    first_intervals_.clear();
    block_numbers_.clear();
    sync_points_.clear();
    suspects_.clear();
    compared_places_.clear();
    store_.bytes = 0;
    worker_ = nullptr;
}

void Checker::add_region(Space space, char* begin, std::size_t bytes, int argument) {
    regions_.push_back(Region{space, begin, begin + bytes, nullptr, argument, Access::write});
    regions_.back().cells = map_cells(regions_.back().cell_count());
}

void Checker::begin_block(Worker& worker) {
    if (!worker_) {
        worker_ = &worker;
        const BlockView& block = worker.block();
        add_region(Space::dynamic_shared, block.dynamic_shared, block.dynamic_shared_bytes, -1);
        const Library& library = *launch_->request.library;
        add_region(Space::static_shared, worker.static_shared(), library.shared_bytes, -1);
        static const SharedLayout none;
        layout_ = library.shared_bytes ? &shared_layout_of(library.base) : &none;
    }
    new_interval();
    block_interval_ = interval_;
    turn_ = (std::uint32_t)first_intervals_.size();
    first_intervals_.push_back(interval_);
    block_numbers_.push_back(worker.block_number());
    fences_.clear();
    seen_threads_.clear();
    seen_blocks_.clear();
}

void Checker::new_interval() {
    settle_store();
    interval_++;
    sync_ = 0;
    for (; synced_warps_; synced_warps_ &= synced_warps_ - 1) {
        unsigned warp = (unsigned)__builtin_ctz(synced_warps_);
        std::memset(known_[warp], 0, sizeof known_[warp]);
        std::memset(known_warps_[warp], 0, sizeof known_warps_[warp]);
    }
}

void Checker::block_barrier() { new_interval(); }

std::uint16_t Checker::next_sync() {
    if (sync_ == 0xffff) new_interval();  // the counter is full; this forgives races, it never invents one
    return ++sync_;
}

// Each lane learns what all lanes at the barrier knew.
void Checker::warp_barrier(unsigned warp, unsigned lanes) {
    std::uint16_t now = next_sync();
    synced_warps_ |= bit(warp);
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

// Each warp learns what all warps at the barrier knew of others, and its lanes know of all that was before.
void Checker::tile_barrier(unsigned first_warp, unsigned warps) {
    if (warps * warp_size >= worker_->thread_count()) return new_interval();
    std::uint16_t now = next_sync();
    const unsigned most_warps = max_threads / warp_size;
    std::uint16_t together[most_warps] = {};
    for (unsigned w = first_warp; w < first_warp + warps; w++)
        for (unsigned v = 0; v < most_warps; v++) together[v] = std::max(together[v], known_warps_[w][v]);
    std::fill(together + first_warp, together + first_warp + warps, now);
    for (unsigned w = first_warp; w < first_warp + warps; w++) {
        synced_warps_ |= bit(w);
        std::memcpy(known_warps_[w], together, sizeof together);
        std::fill(&known_[w][0][0], &known_[w][0][0] + warp_size * warp_size, now);
    }
}

// Whether what a warp did when there were `sync` barriers comes before what the fiber does now.
bool Checker::knows_warp(const Fiber& fiber, unsigned warp, unsigned sync) const {
    if (warp != fiber.warp) return sync < known_warps_[fiber.warp][warp];
    const std::uint16_t* known = known_[warp][fiber.lane];
    return std::all_of(known, known + warp_size, [=](unsigned each) { return sync < each; });
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

// Called while the shuffle is done for all lanes of the warp, by the one that came last.
void Checker::lane_is_missing(unsigned lane, unsigned source, bool shifted) const {
    const Fiber& reader = worker_->fiber(worker_->fiber()->warp * warp_size + lane);
    Report report = worker_->describe(Kind::warp_mask, reader.caller);
    std::memcpy(report.thread, &reader.index, sizeof report.thread);
    if (shifted) report.harmless = (int)Harmless::if_unused;
    std::snprintf(report.message, sizeof report.message, "lane %u takes a value from lane %u, which is not in the mask 0x%08x",
                  lane, source, reader.mask);
    worker_->add(report);
}

// --- order through atomics -------------------------------------------------------------------------------

void Checker::Seen::add(unsigned thread, const Moment& fence) {
    interval = std::max(interval, fence.interval);
    std::uint32_t& time = times[thread];
    time = std::max(time, fence.time);
}

void Checker::Seen::add(const Seen& other) {
    for (const auto& [thread, time] : other.times) add(thread, {other.interval, time});
}

bool Checker::Seen::holds(std::uint32_t write_interval, unsigned thread, std::uint32_t time) const {
    auto found = times.find(thread);
    return write_interval < interval || (found != times.end() && time < found->second);
}

void Checker::fence() { fences_[worker_->fiber()->number] = {interval_, ++time_}; }

// Who touches an atomic variable after a fence shows to those who touch it later what was before the fence: its own
// writes, and those that a barrier of the block has ordered before. Fences that such a barrier came after count as well.
void Checker::synchronising(const char* address, std::size_t bytes, bool write, bool reads, Manner manner,
                            const void* pc) {
    Region* region = find(address, bytes);
    if (write && reads && region && is_shared(*region))
        check_initialised({region, (std::size_t)(address - region->begin), bytes, true, manner, pc, 0});
    access(address, bytes, write, manner, pc);
    unsigned thread = worker_->fiber()->number;
    auto found = sync_points_.find(address);
    if (found != sync_points_.end()) {
        SyncPoint& point = found->second;
        if (point.turn != turn_) point.taken = 0;
        point.turn = turn_;
        for (; point.taken < point.shown.size() && point.shown[point.taken].turn != turn_; point.taken++)
            seen_blocks_[point.shown[point.taken].turn].add(point.shown[point.taken].seen);
        if (point.shown.back().turn == turn_) seen_threads_[thread].add(point.shown.back().seen);
    }
    if (!write || fences_.empty()) return;
    std::vector<Shown>& shown = sync_points_[address].shown;
    if (shown.empty() || shown.back().turn != turn_) shown.push_back({turn_, {}, 0});
    Shown& own = shown.back();
    auto fence = fences_.find(thread);
    if (fence != fences_.end()) own.seen.add(thread, fence->second);
    if (own.interval == interval_) return;
    own.interval = interval_;
    for (const auto& [other, moment] : fences_)
        if (moment.interval < interval_) own.seen.add(other, moment);
}

// Learns whose plain read has told the thread what to compare with.
void Checker::compare_and_swap(const char* address, std::size_t bytes, const void* compare) {
    if (!worker_ || !worker_->fiber()) return;
    Region* region = find(address, bytes);
    if (!region || !region->cells || std::memcmp(address, compare, bytes)) return;
    const Fiber& fiber = *worker_->fiber();
    for (std::size_t i = 0; i < bytes; i += region->unit) {  // a pair of halves may have been read one by one
        const Cell& cell = region->cell_of((std::size_t)(address - region->begin) + i);
        if (cell.read_interval >= block_interval_ && was_read_by(cell, fiber)) compared_places_.insert(cell.read_place);
    }
}

bool Checker::was_read_by(const Cell& cell, const Fiber& fiber) const {
    if (cell.read_warp != fiber.warp) return false;
    return cell.read_by_many_warps ? cell.read_lane == fiber.lane : cell.read_lanes >> fiber.lane & 1;
}

// --- one access ------------------------------------------------------------------------------------------

Region* Checker::find(const char* address, std::size_t bytes) {
    if (heap.holds(address)) return find_on_heap(address, bytes);
    auto holds = [=](const Region& region) {
        return address >= region.begin && address < region.end && bytes <= (std::size_t)(region.end - address);
    };
    auto first = regions_.begin(), end_of_buffers = first + (std::ptrdiff_t)buffers_;
    auto after = std::upper_bound(first, end_of_buffers, address,
                                  [](const char* a, const Region& region) { return a < region.begin; });
    if (after != first && holds(*(after - 1))) {
        Region& region = *(after - 1);
        if (!region.cells) region.cells = map_cells(region.cell_count());
        return &region;
    }
    for (auto region = end_of_buffers; region != regions_.end(); ++region)
        if (holds(*region)) return &*region;
    return nullptr;
}

Region* Checker::find_on_heap(const char* address, std::size_t bytes) {
    const char* begin;
    const Heap::Allocation* found = heap.at_or_before(address, begin);
    if (!found || !found->live || address + bytes > begin + found->bytes) return nullptr;
    if (!heap_region_.cells) {
        heap_buffer_ = Buffer{heap.begin(), Heap::capacity, -1, (int)Access::write, heap.written(), nullptr};
        heap_region_ = Region{Space::heap,   heap.begin(),  heap.begin() + Heap::capacity, nullptr, -1,
                              Access::write, &heap_buffer_, Span{Heap::capacity, 0}};
        heap_region_.cells = map_cells(heap_region_.cell_count());
    }
    return &heap_region_;
}

// What others did where the memory was before came earlier, and nothing of it is left.
void Checker::allocated(char* memory, std::size_t bytes) {
    std::size_t begin = (std::size_t)(memory - heap.begin());
    for (std::size_t i = begin; i < begin + bytes; i++) heap.written()[i / 8] &= (unsigned char)~(1u << i % 8);
    for (std::size_t i = begin; heap_region_.cells && i < begin + bytes; i += heap_region_.unit)
        heap_region_.cell_of(i) = Cell{};
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
    if (region.space != Space::heap) report.byte = (long long)offset;
    char what[80];
    name(what, sizeof what, region, offset);
    std::snprintf(report.message, sizeof report.message, "read of %s, which nobody has written", what);
    worker_->add(report);
}

// Reads before a write of the same bytes are not known any more: who is in order with the write is with them.
void Checker::tell_touched(const Region& region) const {
    auto add = [&](std::vector<Span>& spans, std::size_t begin) {
        std::size_t end = std::min(begin + region.unit, region.bytes());
        if (!spans.empty() && spans.back().end == begin) spans.back().end = end;
        else spans.push_back({begin, end});
    };
    for (std::size_t i = region.touched.begin; i < region.touched.end; i += region.unit) {
        if (region.cell_of(i).write_interval) add(region.buffer->touched->wrote, i);
        if (region.cell_of(i).read_interval) add(region.buffer->touched->read, i);
    }
}

// The indices of the running thread, which kernels read more than any array.
bool Checker::is_threads_own(const char* address, std::size_t bytes) const {
    const Fiber& fiber = *worker_->fiber();
    auto inside = [&](const void* begin, const void* end) {
        return address >= (const char*)begin && address + bytes <= (const char*)end;
    };
    return inside((const ThreadView*)&fiber, (const ThreadView*)&fiber + 1) ||
           inside(&current, &current + 1) || inside(&worker_->block(), &worker_->block() + 1);
}

void Checker::access_memory(const char* address, std::size_t bytes, bool write, Manner manner, const void* pc) {
    if (!worker_ || !worker_->fiber() || !bytes) return;
    worker_->leave_if_asked();
    if (is_threads_own(address, bytes)) return;
    settle_store();
    Region* region = find(address, bytes);
    if (!region) {
        const Library& library = *launch_->request.library;
        if (address >= library.image_begin && address + bytes <= library.image_end) return;  // its constants
        report_out_of_bounds(address, bytes, write, pc);
    }
    region->split_for((std::size_t)(address - region->begin), bytes);
    std::uint32_t place = (std::uint32_t)((const char*)pc - launch_->request.library->base);
    Touch access{region, (std::size_t)(address - region->begin), bytes, write, manner, pc, place};
    time_++;
    if (region->space == Space::static_shared) {
        if (std::binary_search(layout_->guards.begin(), layout_->guards.end(), access.offset)) return;
        if (passes_a_variable(access)) report_beyond_variable(access);
    }
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
        if (manner == Manner::atomic) touch(*region, access.offset, bytes, false, pc);
        touch(*region, access.offset, bytes, write, pc);
    }
    if (!write) unset_was_read_ |= holds_unset(address, bytes);
    else if (manner == Manner::plain && bytes <= sizeof store_.before) begin_store(access);
    bool raced = false;
    for (std::size_t i = 0; i < bytes; i += region->unit)
        check_byte(access, region->cell_of(access.offset + i), access.offset + i, raced);
}

// Between two variables lies room that belongs to none, see ../assembly.py.
bool Checker::passes_a_variable(const Touch& access) const {
    const std::vector<Span>& variables = layout_->variables;
    auto after = std::upper_bound(variables.begin(), variables.end(), access.offset,
                                  [](std::size_t offset, const Span& variable) { return offset < variable.begin; });
    return !variables.empty() && (after == variables.begin() || access.offset + access.bytes > (after - 1)->end);
}

void Checker::fetch(const char* address, std::size_t bytes, const void* pc) {
    coherent(address, bytes, pc);
    access(address, bytes, false, Manner::plain, pc);
}

// The caches of textures and surfaces do not see writes of the launch they serve.
void Checker::coherent(const char* address, std::size_t bytes, const void* pc) {
    Region* region = find(address, bytes);
    if (!region) return;
    std::size_t offset = (std::size_t)(address - region->begin);
    for (std::size_t i = offset; i < offset + bytes; i += region->unit) {
        if (!region->cell_of(i).write_interval) continue;
        Report report = worker_->describe(Kind::texture, pc);
        report.argument = region->argument;
        report.byte = (long long)i;
        char what[80];
        name(what, sizeof what, *region, i);
        std::snprintf(report.message, sizeof report.message,
                      "read of %s, which this launch has written: a texture or surface may return what was there before",
                      what);
        worker_->add(report);
        return;
    }
}

void Checker::check_byte(const Touch& access, Cell& cell, std::size_t byte, bool& raced) {
    // What an earlier block did in shared memory is gone.
    bool from_here = std::max(cell.write_interval, cell.read_interval) >= block_interval_;
    if (!from_here && is_shared(*access.region)) cell = Cell{};
    bool was_written = cell.write_interval, was_read = cell.read_interval, strong = access.manner != Manner::plain;
    if (was_written && !raced && cell.copy_under_way) {
        raced = true;
        report_race(access, cell, byte, Earlier::copy, cell.write_thread);
    }
    if (was_written && !raced && !(strong && cell.write_strong) &&
        !ordered(cell.write_interval, cell.write_thread, cell.write_sync, cell.write_time)) {
        raced = true;
        report_race(access, cell, byte, Earlier::write, cell.write_thread);
    }
    if (was_read && access.write && !raced && !(strong && cell.read_strong) && !read_is_ordered(cell)) {
        raced = true;
        // Of several readers, one that is not the writer.
        unsigned me = worker_->fiber()->number;
        unsigned lanes = cell.read_by_many_warps ? bit(cell.read_lane) : cell.read_lanes;
        if (cell.read_warp == me / warp_size && cell.read_interval >= block_interval_ &&
            (lanes & (lanes - 1)))
            lanes &= ~bit(me % warp_size);
        report_race(access, cell, byte, Earlier::read, cell.read_warp * warp_size + (unsigned)__builtin_ctz(lanes));
    }
    if (access.write) record_write(cell, strong, access.bytes, access.place);
    else record_read(cell, strong, access.place);
}

// Whether an earlier access is certain to come before what the running thread does now.
bool Checker::ordered(std::uint32_t interval, unsigned thread, unsigned sync, std::uint32_t time) const {
    if (interval < block_interval_) {
        auto seen = seen_blocks_.find(turn_of(interval));
        return seen != seen_blocks_.end() && seen->second.holds(interval, thread, time);
    }
    if (interval < interval_) return true;
    unsigned me = worker_->fiber()->number;
    if (thread == me) return true;
    unsigned warp = me / warp_size;
    unsigned other = thread / warp_size;
    if (sync < (other == warp ? known_[warp][me % warp_size][thread % warp_size] : known_warps_[warp][other])) return true;
    auto seen = seen_threads_.find(me);
    return seen != seen_threads_.end() && seen->second.holds(interval, thread, time);
}

bool Checker::read_is_ordered(const Cell& cell) const {
    if (cell.read_by_many_blocks && seen_blocks_.empty()) return false;
    if (cell.read_interval >= interval_ && cell.read_by_many_warps) {
        for (unsigned rest = cell.read_lanes; rest; rest &= rest - 1)
            if (!knows_warp(*worker_->fiber(), (unsigned)__builtin_ctz(rest), cell.read_sync)) return false;
        return true;
    }
    for (unsigned rest = cell.read_lanes; rest; rest &= rest - 1)
        if (!ordered(cell.read_interval, cell.read_warp * warp_size + (unsigned)__builtin_ctz(rest), cell.read_sync, 0))
            return false;
    return true;
}

void Checker::record_write(Cell& cell, bool strong, std::size_t bytes, std::uint32_t place) const {
    const Fiber& fiber = *worker_->fiber();
    cell = Cell{};  // later accesses that are ordered after this write are ordered after the reads before it
    cell.write_interval = interval_;
    cell.write_thread = (std::uint16_t)fiber.number;
    cell.write_sync = sync_;
    cell.write_strong = strong;
    cell.write_long = bytes >= 8;
    cell.write_place = place;
    cell.write_time = time_;
}

void Checker::record_read(Cell& cell, bool strong, std::uint32_t place) const {
    const Fiber& fiber = *worker_->fiber();
    bool from_here = cell.read_interval == interval_;
    bool others_are_ordered = !from_here && cell.read_interval >= block_interval_ && !cell.read_by_many_blocks;
    cell.read_strong = strong && (!cell.read_interval || cell.read_strong || others_are_ordered);
    if (cell.read_interval && cell.read_interval < block_interval_) cell.read_by_many_blocks = true;
    if (!from_here) cell.read_by_many_warps = false;
    bool many = cell.read_by_many_warps;
    // Who is ordered before this read needs not be kept: a write after this one is after those too.
    if (from_here && (many || cell.read_warp != fiber.warp)) {
        unsigned warps = many ? cell.read_lanes : bit(cell.read_warp);
        for (unsigned rest = warps; rest; rest &= rest - 1) {
            unsigned warp = (unsigned)__builtin_ctz(rest);
            if (knows_warp(fiber, warp, cell.read_sync)) warps &= ~bit(warp);
        }
        cell.read_by_many_warps = warps;
        cell.read_lanes = warps ? warps | bit(fiber.warp) : bit(fiber.lane);
        cell.read_lane = (unsigned char)fiber.lane;
    } else if (from_here) {
        for (unsigned rest = cell.read_lanes; rest; rest &= rest - 1) {
            unsigned lane = (unsigned)__builtin_ctz(rest);
            if (cell.read_sync < known_[fiber.warp][fiber.lane][lane]) cell.read_lanes &= ~bit(lane);
        }
        cell.read_lanes |= bit(fiber.lane);
    } else {
        cell.read_lanes = bit(fiber.lane);
    }
    cell.read_interval = interval_;
    cell.read_warp = (std::uint16_t)fiber.warp;
    cell.read_sync = sync_;
    cell.read_place = place;
}

// A struct may have padding that nobody writes. So one written byte is enough for a word, one word for an access longer
// than any vector, and half of 16 bytes if it is one number: what is aligned to it may have a word of padding beside it.
// What is left: such padding beside two numbers of a word each is reported.
void Checker::check_initialised(const Touch& access) const {
    const std::size_t word = 4, half = 8, longest_vector = 16;
    auto cell = [&](std::size_t i) -> const Cell& { return access.region->cell_of(access.offset + i); };
    auto written = [&](std::size_t i) { return cell(i).write_interval >= block_interval_; };
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
            if (!written(i) || !cell(i).write_long) return false;
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
    case Space::heap:
        const char* begin;
        const Heap::Allocation* found = heap.at_or_before(region.begin + byte, begin);
        std::snprintf(text, capacity, "byte %zu of %zu from malloc", (std::size_t)(region.begin + byte - begin),
                      found->bytes);
        break;
    }
}

void Checker::report_race(const Touch& access, const Cell& cell, std::size_t byte, Earlier earlier, unsigned thread) {
    std::uint32_t interval = earlier == Earlier::read ? cell.read_interval : cell.write_interval;
    std::uint32_t place = earlier == Earlier::read ? cell.read_place : cell.write_place;
    Report report = worker_->describe(Kind::race, access.pc);
    report.argument = access.region->argument;
    bool is_array = access.region->space != Space::device_variable && access.region->space != Space::heap;
    report.byte = is_array ? (long long)byte : -1;
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
    if (earlier == Earlier::read && access.manner == Manner::atomic) {
        suspect(report, place);
    } else if (earlier == Earlier::write && cell.write_strong && !access.write) {
        suspect(report, access.place);
    } else if (earlier != Earlier::copy && access.write && access.manner == Manner::plain &&
               access.bytes <= sizeof store_.before) {
        store_.raced = true;
        store_.race = report;
        std::memcpy(store_.before, access.region->begin + access.offset, access.bytes);
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

void Checker::begin_store(const Touch& access) {
    store_.address = access.region->begin + access.offset;
    store_.bytes = access.bytes;
    store_.pc = access.pc;
    store_.block = worker_->block().index;
    store_.thread = worker_->fiber()->index;
    store_.raced = false;
}

// Called before the next access, barrier or end: until then nothing but the store has changed its memory.
void Checker::settle_store() {
    std::size_t bytes = store_.bytes;
    if (!bytes) return;
    store_.bytes = 0;
    if (store_.raced) {
        if (!std::memcmp(store_.address, store_.before, bytes)) store_.race.harmless = (int)Harmless::same_value;
        worker_->add(store_.race);
    }
    if (unset_was_read_ || !holds_unset(store_.address, bytes)) return;
    Report report = worker_->describe(Kind::uninitialised, store_.pc);
    std::memcpy(report.block, &store_.block, sizeof report.block);
    std::memcpy(report.thread, &store_.thread, sizeof report.thread);
    report.harmless = (int)Harmless::if_computed;
    std::snprintf(report.message, sizeof report.message,
                  "it writes the number that variables hold which nobody has set");
    worker_->add(report);
}

// The compiler fills variables that the source does not set with such bytes (../build.py); sums of floats keep them.
bool Checker::holds_unset(const char* address, std::size_t bytes) const {
#ifdef __clang__
    const std::uint32_t unset = 0xaaaaaaaa;
#else
    const std::uint32_t unset = 0xfefefefe;
#endif
    std::uint32_t word;
    for (std::size_t i = 0; i + sizeof word <= bytes; i += sizeof word) {
        std::memcpy(&word, address + i, sizeof word);
        if (word == unset) return true;
    }
    return false;
}

void Checker::report_beyond_allocation(const char* address, std::size_t bytes, bool write, const void* pc) {
    Report report = worker_->describe(Kind::out_of_bounds, pc);
    const char *begin, *access = write ? "write" : "read";
    const Heap::Allocation* found = heap.at_or_before(address, begin);
    if (!found)
        std::snprintf(report.message, sizeof report.message, "%s of %zu bytes at %p, which malloc has not given", access,
                      bytes, (const void*)address);
    else
        std::snprintf(report.message, sizeof report.message, "%s of %zu bytes at byte %zu of %zu from malloc%s", access,
                      bytes, (std::size_t)(address - begin), found->bytes, found->live ? "" : ", which were freed");
    worker_->fail(report);
}

// The access itself must not happen, so the block ends here.
void Checker::report_out_of_bounds(const char* address, std::size_t bytes, bool write, const void* pc) {
    if (heap.holds(address)) report_beyond_allocation(address, bytes, write, pc);
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

void Checker::report_beyond_variable(const Touch& access) {
    Report report = worker_->describe(Kind::out_of_bounds, access.pc);
    report.byte = (long long)access.offset;
    std::snprintf(report.message, sizeof report.message, "%s of %zu bytes at static shared memory byte %zu, beyond the end of a variable",
                  access.write ? "write" : "read", access.bytes, access.offset);
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
    access(copy.global, copy.source_bytes, false, Manner::plain, pc);
    access(copy.shared, copy.bytes, true, Manner::plain, pc);
    Region *source = find(copy.global, copy.source_bytes), *target = find(copy.shared, copy.bytes);
    bool from_global = !copy.source_bytes || (source && !is_shared(*source));
    if (!copy.anywhere && (!from_global || !target || !is_shared(*target))) {
        Report report = worker_->describe(Kind::out_of_bounds, pc);
        std::snprintf(report.message, sizeof report.message,
                      "an asynchronous copy goes from global to shared memory, this one from %p to %p",
                      (const void*)copy.global, (const void*)copy.shared);
        worker_->fail(report);
    }
    if (!target) return;
    target->split_for((std::size_t)(copy.shared - target->begin), copy.bytes);
    for (unsigned i = 0; i < copy.bytes; i += target->unit)
        target->cell_of((std::size_t)(copy.shared - target->begin) + i).copy_under_way = true;
}

void Checker::async_copy_arrives(const AsyncCopy& copy) {
    Region* target = find(copy.shared, copy.bytes);
    for (unsigned i = 0; target && i < copy.bytes; i += target->unit)
        record_write(target->cell_of((std::size_t)(copy.shared - target->begin) + i), false, copy.bytes, 0);
}

void note_access(const void* address, std::size_t bytes, bool write, const void* caller) {
    checker.access((const char*)address, bytes, write, Manner::plain, caller);
}

void note_missing_lane(unsigned lane, unsigned source, bool shifted) {
    checker.lane_is_missing(lane, source, shifted);
}

namespace {

void note_synchronising(const void* address, std::size_t bytes, bool write, bool reads, Manner manner,
                        const void* caller) {
    bool room = true;
    try {
        checker.synchronising((const char*)address, bytes, write, reads, manner, caller);
    } catch (const std::bad_alloc&) {
        room = false;
    }
    if (!room) worker->fail_for_memory("what is known of the atomics", "no memory");
}

}  // namespace

void note_atomic(const void* address, std::size_t bytes, const void* caller, bool reads) {
    note_synchronising(address, bytes, true, reads, Manner::atomic, caller);
}

void note_strong(const void* address, std::size_t bytes, bool write, const void* caller) {
    note_synchronising(address, bytes, write, false, Manner::strong, caller);
}

void note_compare_and_swap(const void* address, std::size_t bytes, const void* compare) {
    checker.compare_and_swap((const char*)address, bytes, compare);
}

void note_fence() { checker.fence(); }

}  // namespace gpunn_emulator

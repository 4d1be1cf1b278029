#include "checker.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <new>

#include "cluster.h"
#include "floats.h"
#include "heap.h"

// What each access goes through becomes one function.
#define GPUNN_INLINE [[gnu::always_inline]] inline

namespace gpunn_emulator {

Checker checker;

namespace {

const std::size_t gap_bytes = 64;  // behind a variable, see ../assembly.py

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

std::size_t bytes_of_rows(const Region& region) { return region.bytes() * region.row_length * sizeof(std::uint32_t); }

unsigned last_reader(const Cell& cell) {
    unsigned lane = cell.read_by_many_warps ? cell.read_lane
                    : cell.read_lanes       ? (unsigned)__builtin_ctz(cell.read_lanes)
                                            : 0;
    return cell.read_warp * warp_size + lane;
}

bool is_shared(const Region& region) {
    return region.space == Space::static_shared || region.space == Space::dynamic_shared;
}

}  // namespace

// --- what the launch may touch ---------------------------------------------------------------------------

void Region::split(unsigned bits) {
    std::size_t old_unit = unit(), parts = old_unit >> bits, old_count = cell_count();
    Cell* old = cells;
    unit_bits = bits;
    cells = map_cells(cell_count());
    std::size_t first = buffer ? touched.begin / old_unit : 0;
    std::size_t last = buffer ? std::min(old_count, touched.end / old_unit + 1) : old_count;
    for (std::size_t i = first; i < last; i++)
        for (std::size_t k = i * parts; k < (i + 1) * parts && k < cell_count(); k++) cells[k] = old[i];
    unmap_cells(old, old_count);
    for (std::size_t i = 0; rows && i < old_count; i++) {
        const std::uint32_t* row = row_of(i * old_unit);
        if (!std::any_of(row, row + Clocks::head, [](std::uint32_t word) { return word; })) continue;
        for (std::size_t k = i * old_unit + unit(); k < (i + 1) * old_unit && k < bytes(); k += unit())
            std::copy(row, row + row_length, row_of(k));
    }
}

void Region::free_cells() {
    unmap_cells(cells, cell_count());
    if (rows) munmap(rows, bytes_of_rows(*this));
    cells = nullptr;
    rows = nullptr;
}

void Checker::begin_launch(Launch& launch) {
    launch_ = &launch;
    base_ = launch.request.library->base;
    interval_ = last_interval_ = grid_interval_ = 0;
    turn_ = stint_ = 0;
    cluster_begin_ = cluster_interval_ = 0;
    cluster_number_ = -1;
    unset_was_read_ = false;
    const Request& request = launch.request;
    for (int i = 0; i < request.buffer_count; i++) {
        Buffer& buffer = request.buffers[i];
        // What is known of their bytes is mapped when one is touched: a device may have a thousand allocations.
        regions_.push_back(Region{Space::argument, buffer.memory, buffer.memory + buffer.bytes, nullptr, buffer.argument,
                                  (Access)buffer.access, nullptr, 0, &buffer, Span{buffer.bytes, 0}});
    }
    buffers_ = regions_.size();
    std::sort(regions_.begin(), regions_.end(), [](const Region& a, const Region& b) { return a.begin < b.begin; });
    const Library& library = *request.library;
    regions_.push_back(
        Region{Space::device_variable, library.data_begin, library.data_end, nullptr, -1, Access::write});
    regions_.back().cells = map_cells(regions_.back().cell_count());
}

void Checker::end_launch() {
    for (Region& region : regions_) {
        if (!region.cells) continue;
        if (region.buffer && region.buffer->touched) tell_touched(region);
        region.free_cells();
    }
    regions_.clear();
    heap_region_.free_cells();
    for (Region& region : shared()) region.free_cells();
    cluster_shared_.clear();
    for (auto& each : held_)
        for (Region& region : each.second.shared_) region.free_cells();
    held_.clear();
    remote_uses_.clear();
    brought_.clear();
    intervals_.clear();
    block_numbers_.clear();
    sync_points_.clear();
    suspects_.clear();
    compared_places_.clear();
    store_.bytes = 0;
    worker_ = nullptr;
    std::fill(std::begin(extents_), std::end(extents_), Extent{});
}

void Checker::begin_block(Worker& worker) {
    settle_store();
    if (worker.cluster()) begin_cluster(*worker.cluster());
    else if (!worker_) set_shared(shared_, worker);
    worker_ = &worker;
    variables_ = &variables_of(launch_->request.library->base);
    for (Region& region : shared())
        if (!region.cells) region.cells = map_cells(region.cell_count());
    if (!syncs_) syncs_.reset(new Syncs());
    asking_ = max_threads;
    clocks_.on = false;
    clocks_.readers.clear();
    proxy_fences_.assign(max_threads, 0);
    turn_ = (std::uint32_t)block_numbers_.size();
    block_numbers_.push_back(worker.block_number());
    stint_++;
    new_interval();
    block_interval_ = interval_;
    no_other_since_ = true;
    fences_.clear();
    seen_threads_.clear();
    seen_blocks_.clear();
}

void Checker::set_shared(Region* both, const Worker& worker) {
    const BlockView& block = worker.block();
    char *dynamic_begin = block.dynamic_shared, *static_begin = block.static_shared;
    both[0] = Region{Space::dynamic_shared, dynamic_begin, dynamic_begin + block.dynamic_shared_bytes, nullptr, -1,
                     Access::write};
    both[1] = Region{Space::static_shared, static_begin, static_begin + block.static_shared_bytes, nullptr, -1,
                     Access::write};
    both[0].owner = both[1].owner = &worker;
}

// Called by each of its blocks; the first one begins it.
void Checker::begin_cluster(const Cluster& cluster) {
    if (cluster.number() == cluster_number_) return;
    if (cluster_shared_.empty()) {
        cluster_shared_.resize(2 * cluster.size());
        for (unsigned rank = 0; rank < cluster.size(); rank++) set_shared(&cluster_shared_[2 * rank], cluster.worker(rank));
    }
    for (Region& region : cluster_shared_) {
        if (!region.rows) continue;
        munmap(region.rows, bytes_of_rows(region));
        region.rows = nullptr;
    }
    cluster_number_ = cluster.number();
    cluster_begin_ = last_interval_ + 1;
    cluster_turn_ = (std::uint32_t)block_numbers_.size();
    cluster_interval_ = 0;
    has_met_ = fenced_ = false;
    remote_uses_.clear();
    brought_.clear();
}

void Checker::cluster_barrier(bool releases) {
    has_met_ = true;
    if (releases || fenced_) {
        if (worker_->cluster()) cluster_interval_ = last_interval_ + 1;
        block_barrier();
    }
    fenced_ = false;
}

// What another block reads or writes here is to come before the end.
void Checker::end_block() {
    settle_store();
    for (const auto& [key, use] : remote_uses_) {
        if (use.region->owner != worker_ || is_past(use.interval)) continue;
        auto seen = seen_blocks_.find(use.turn);
        if (seen != seen_blocks_.end() && seen->second.holds(use.interval, use.thread, use.time)) continue;
        report_remote(use, "which may have returned by then: no barrier of the cluster comes after it");
    }
}

// Keeps that a thread accesses the shared memory of another block; returns false if it may not.
bool Checker::use_remotely(const Touch& access) {
    const Cluster& cluster = *worker_->cluster();
    const Fiber& fiber = *worker_->fiber();
    const Worker& owner = *access.region->owner;
    unsigned rank = owner.block().cluster_rank;
    RemoteUse use{access.region, access.offset, access.write, turn_, interval_, time_, fiber.number,
                  worker_->block().index, fiber.index, access.pc};
    if (cluster.stage(rank) == Cluster::Stage::ended) {
        report_remote(use, "which has returned: no barrier of the cluster comes after it");
        return false;
    }
    auto is_of_cluster = [this](const auto& seen) { return seen.first >= cluster_turn_; };
    if (!has_met_ && std::none_of(seen_blocks_.begin(), seen_blocks_.end(), is_of_cluster)) {
        report_remote(use, "which may not have begun: no barrier of the cluster comes before it");
        return false;
    }
    remote_uses_[(std::uint64_t)turn_ << 32 | rank << 16 | fiber.number] = use;
    return true;
}

void Checker::report_remote(const RemoteUse& use, const char* why) const {
    Report report = worker_->describe(Kind::out_of_bounds, use.pc);
    report.byte = (long long)use.byte;
    std::memcpy(report.block, &use.block, sizeof report.block);
    std::memcpy(report.thread, &use.index, sizeof report.thread);
    char what[100];
    name(what, sizeof what, *use.region, use.byte);
    const uint3& block = worker_->block().index;
    char where[40] = "";
    if (use.region->owner == worker_) std::snprintf(where, sizeof where, " of block (%u,%u,%u)", block.x, block.y, block.z);
    std::snprintf(report.message, sizeof report.message, "%s of %s%s, %s", use.write ? "write" : "read", what, where, why);
    worker_->add(report);
}

void Checker::hold_block() {
    settle_store();
    held_[worker_->block_number()] = std::move(static_cast<CheckedBlock&>(*this));
    for (Region& region : shared_) {
        region.cells = nullptr;
        region.rows = nullptr;
    }
}

void Checker::resume_block(Worker& worker) {
    settle_store();
    worker_ = &worker;
    for (Region& region : shared_) region.free_cells();
    auto found = held_.find(worker_->block_number());
    static_cast<CheckedBlock&>(*this) = std::move(found->second);
    held_.erase(found);
    stint_++;
    no_other_since_ = intervals_.back().turn == turn_ && intervals_.back().first == block_interval_;
    if (interval_ < cluster_interval_) block_barrier();
}

void Checker::new_interval() {
    settle_store();
    interval_ = ++last_interval_;
    if (intervals_.empty() || intervals_.back().turn != turn_) {
        intervals_.push_back({interval_, turn_});
        no_other_since_ = false;
    }
    forget_syncs();
}

void Checker::forget_syncs() {
    sync_ = 0;
    for (; synced_warps_; synced_warps_ &= synced_warps_ - 1) {
        unsigned warp = (unsigned)__builtin_ctz(synced_warps_);
        std::memset(syncs_->lanes[warp], 0, sizeof syncs_->lanes[warp]);
        std::memset(syncs_->warps[warp], 0, sizeof syncs_->warps[warp]);
    }
}

// What the threads did is ordered by the interval; what they know of others' asynchronous work, each of them learns.
void Checker::block_barrier() {
    new_interval();
    if (!clocks_.on) return;
    meet_by_clocks(0, (clocks_.threads + warp_size - 1) / warp_size, ~0u);
    clocks_.interval_begin = ++clocks_.now;
}

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
        const std::uint16_t* known = syncs_->lanes[warp][__builtin_ctz(rest)];
        for (unsigned i = 0; i < warp_size; i++) together[i] = std::max(together[i], known[i]);
    }
    for (unsigned i = 0; i < warp_size; i++)
        if (lanes >> i & 1) together[i] = now;
    for (unsigned rest = lanes; rest; rest &= rest - 1)
        std::memcpy(syncs_->lanes[warp][__builtin_ctz(rest)], together, sizeof together);
    if (clocks_.on) meet_by_clocks(warp, 1, lanes);
}

// --- order through mbarriers and waits for asynchronous work ---------------------------------------------

void Checker::start_clocks() {
    Clocks& clocks = clocks_;
    clocks.threads = worker_->thread_count();
    clocks.columns = (clocks.threads + 31) / 32 * 32 + Clocks::extra_columns;
    for (Region& region : shared()) {
        if (region.owner != worker_ || region.rows || region.begin == region.end) continue;
        region.row_length = clocks.row_length();
        void* memory = mmap(nullptr, bytes_of_rows(region), PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) throw std::bad_alloc();
        region.rows = (std::uint32_t*)memory;
    }
    clocks.used = clocks.columns - Clocks::extra_columns;
    clocks.block_begin = clocks.interval_begin = ++clocks.now;
    clocks.known.assign((std::size_t)clocks.threads * clocks.columns, clocks.block_begin);
    clocks.arriving.assign((std::size_t)Clocks::extra_columns * clocks.columns, 0);
    clocks.completed = clocks.arriving;
    clocks.proxy_fences.assign(clocks.threads, 0);
    clocks.what.clear();
    clocks.on = true;
}

// The lanes of each of the warps learn what all of them knew.
void Checker::meet_by_clocks(unsigned first_warp, unsigned warps, unsigned lanes) {
    clocks_.now++;
    std::vector<std::uint32_t> all(clocks_.columns);
    auto for_each = [&](auto visit) {
        for (unsigned w = first_warp; w < first_warp + warps; w++)
            for (unsigned rest = lanes; rest; rest &= rest - 1) {
                unsigned thread = w * warp_size + (unsigned)__builtin_ctz(rest);
                if (thread < clocks_.threads) visit(thread, clocks_.of(thread));
            }
    };
    for_each([&](unsigned thread, std::uint32_t* known) {
        known[thread] = clocks_.now;
        for (unsigned c = 0; c < clocks_.used; c++) all[c] = std::max(all[c], known[c]);
    });
    for_each([&](unsigned, std::uint32_t* known) { std::copy(all.begin(), all.end(), known); });
}

// The last column serves all that come after it, which forgives mistakes.
unsigned Checker::add_column(const char* what) {
    bool room = true;
    try {
        if (!clocks_.on) start_clocks();
        if (clocks_.used < clocks_.columns) {
            clocks_.what.push_back(what);
            clocks_.used++;
        }
    } catch (const std::bad_alloc&) {
        room = false;
    }
    if (!room) worker_->fail_for_memory("what is known of mbarriers", "no memory");
    return clocks_.used - 1;
}

void Checker::release(unsigned column) {
    unsigned thread = worker_->fiber()->number;
    std::uint32_t *known = clocks_.of(thread), *to = clocks_.arriving.data();
    to += (std::size_t)(column + Clocks::extra_columns - clocks_.columns) * clocks_.columns;
    known[thread] = ++clocks_.now;
    for (unsigned c = 0; c < clocks_.used; c++) to[c] = std::max(to[c], known[c]);
}

// Order by fences and atomics holds for what is ordered by stamps, too.
void Checker::learn_by_clocks(const Seen& seen) {
    std::uint32_t* known = clocks_.of(worker_->fiber()->number);
    for (const auto& [thread, fence] : seen.fences) known[thread] = std::max(known[thread], fence.stamp);
}

// The copies that the phase waited for are complete too.
void Checker::complete(const Worker& home, const void* barrier, unsigned column) {
    auto held = held_.find(home.block_number());
    if (&home != worker_ && held == held_.end()) return;  // it has returned
    Clocks& clocks = &home == worker_ ? clocks_ : held->second.clocks_;
    std::size_t at = (std::size_t)(column + Clocks::extra_columns - clocks.columns) * clocks.columns;
    clocks.arriving[at + column] = ++clocks.now;
    std::copy_n(clocks.arriving.begin() + (std::ptrdiff_t)at, clocks.columns,
                clocks.completed.begin() + (std::ptrdiff_t)at);
    auto brought = brought_.find(barrier);
    if (brought == brought_.end()) return;
    for (const auto& [turn, seen] : brought->second.arriving) brought->second.completed[turn].add(seen);
    brought->second.arriving.clear();
}

// With what other threads of its block have done before a barrier of a warp, a tile or an mbarrier that it was at: when
// exactly is not known, which forgives mistakes.
void Checker::release_to(const void* barrier) {
    bool room = true;
    try {
        const Fiber& fiber = *worker_->fiber();
        Seen& mine = brought_[barrier].arriving[turn_];
        Moment now{interval_, ++time_, 0};
        auto knows = [&](unsigned other) {
            unsigned warp = other / warp_size;
            if (other == fiber.number) return true;
            if (clocks_.on && clocks_.of(fiber.number)[other] > clocks_.interval_begin) return true;
            if (other >= worker_->thread_count()) return false;
            return warp == fiber.warp ? syncs_->lanes[warp][fiber.lane][other % warp_size] > 0 : syncs_->warps[fiber.warp][warp] > 0;
        };
        for (unsigned other = 0; other < (clocks_.on ? clocks_.used : worker_->thread_count()); other++)
            if (knows(other)) mine.add(other, now);
        for (const auto& [turn, seen] : seen_blocks_) brought_[barrier].arriving[turn].add(seen);
    } catch (const std::bad_alloc&) {
        room = false;
    }
    if (!room) worker_->fail_for_memory("what is known of an mbarrier", "no memory");
}

void Checker::acquire(const void* barrier, unsigned column) {
    auto brought = brought_.find(barrier);
    if (brought != brought_.end())
        for (const auto& [turn, seen] : brought->second.completed)
            if (turn != turn_) seen_blocks_[turn].add(seen);
    const std::uint32_t* from = clocks_.completed.data();
    from += (std::size_t)(column + Clocks::extra_columns - clocks_.columns) * clocks_.columns;
    std::uint32_t* known = clocks_.of(worker_->fiber()->number);
    for (unsigned c = 0; c < clocks_.used; c++) known[c] = std::max(known[c], from[c]);
}

void Checker::fence_proxy() {
    proxy_fences_[worker_->fiber()->number] = interval_;
    if (clocks_.on) clocks_.proxy_fences[worker_->fiber()->number] = ++clocks_.now;
}

AsyncRead Checker::begin_async_read(unsigned reader) {
    auto found = clocks_.readers.find(reader);
    unsigned column = found != clocks_.readers.end() ? found->second
                                                     : add_column(reader < max_threads ? "a bulk copy" : "wgmma");
    clocks_.readers[reader] = column;
    return {column, clocks_.now++, 0};
}

void Checker::learn(const AsyncRead& read) {
    std::uint32_t& known = clocks_.of(worker_->fiber()->number)[read.column];
    known = std::max(known, read.stamp + 1);
}

std::uint32_t* Checker::row(const Region& region, std::size_t byte) const {
    return clocks_.on && region.rows && region.owner == worker_ ? region.row_of(byte) : nullptr;
}

// Of a write by another thread. Of global memory nobody knows when it was written: who knows the thread is forgiven.
bool Checker::ordered_by_clocks(const Region& region, std::size_t byte, unsigned thread) const {
    if (!clocks_.on || thread >= clocks_.used) return false;
    const std::uint32_t* stamps = row(region, byte);
    std::uint32_t known = clocks_.of(me())[thread];
    return stamps ? stamps[2] < known : known > clocks_.block_begin;
}

// The column of a read that is not certain to come before what the thread does now, or -1.
int Checker::unordered_reader(const std::uint32_t* row) const {
    unsigned thread = me();
    const std::uint32_t* known = clocks_.of(thread);
    for (unsigned group = 0; group * 32 < clocks_.columns; group++) {
        if (!(row[group / 32] >> group % 32 & 1)) continue;
        for (unsigned c = group * 32; c < group * 32 + 32; c++) {
            std::uint32_t stamp = row[Clocks::head + c];
            bool is_thread = c < clocks_.columns - Clocks::extra_columns;
            if (stamp < clocks_.block_begin || c == thread || stamp < known[c]) continue;
            if (is_thread && stamp < clocks_.interval_begin) continue;
            return (int)c;
        }
    }
    return -1;
}

void Checker::mark_read(std::uint32_t* row, unsigned column) const {
    row[column / 32 / 32] |= bit(column / 32 % 32);
    row[Clocks::head + column] = clocks_.now;
}

void Checker::mark_write(std::uint32_t* row) const {
    for (unsigned group = 0; group * 32 < clocks_.columns; group++)
        if (row[group / 32] >> group % 32 & 1) std::memset(row + Clocks::head + group * 32, 0, 32 * sizeof *row);
    row[0] = row[1] = 0;
    row[2] = clocks_.now;
}

// Nobody may touch the target until the phase is complete that the copy belongs to.
void Checker::bulk_copy_starts(const char* shared, std::size_t bytes, const void* pc) {
    access(shared, bytes, true, Manner::plain, pc);
    Region* target = find(shared, bytes);
    std::size_t first = (std::size_t)(shared - target->begin);
    for (std::size_t i = first; i < first + bytes; i += target->unit()) target->cell_of(i).copy_under_way = true;
}

void Checker::bulk_copy_arrives(const char* shared, std::size_t bytes, unsigned column) {
    Region* target = find(shared, bytes);
    std::size_t first = (std::size_t)(shared - target->begin);
    for (std::size_t i = first; i < first + bytes; i += target->unit()) {
        Cell& cell = target->cell_of(i);
        record_write(cell, false, bytes, 0);
        cell.write_thread = column;
        cell.write_async = true;
        if (std::uint32_t* stamps = row(*target, i)) mark_write(stamps);
    }
}

// A read by what is asynchronous, on behalf of `thread`.
void Checker::async_read(const char* address, std::size_t bytes, const AsyncRead& read, unsigned thread,
                         const void* pc) {
    asking_ = thread;
    Region* region = find(address, bytes);
    if (!region) report_out_of_bounds(address, bytes, false, pc);
    std::uint32_t place = (std::uint32_t)((const char*)pc - base_);
    Touch access{region, (std::size_t)(address - region->begin), bytes, false, Manner::plain, pc, place};
    region->split_for(access.offset, bytes);
    if (!is_initialised(access)) report_unless_padding(access);
    bool raced = false;
    for (std::size_t i = access.offset; i < access.offset + bytes; i += region->unit()) {
        Cell& cell = region->cell_of(i);
        check_cell(access, cell, i, raced);
        std::uint32_t* stamps = row(*region, i);
        if (!stamps) continue;
        bool fenced = !is_here(cell.write_interval) || cell.write_async;
        for (unsigned who : {(unsigned)cell.write_thread, thread}) {
            if (fenced) break;
            fenced = stamps[2] < clocks_.block_begin ? cell.write_interval <= proxy_fences_[who]
                                                     : stamps[2] < clocks_.proxy_fences[who];
        }
        if (!fenced && !raced) {
            raced = true;
            report_race(access, cell, i, Earlier::unfenced_write, cell.write_thread);
        }
        stamps[Clocks::head + thread] = 0;
        mark_read(stamps, read.column);
        stamps[Clocks::head + read.column] = read.stamp;
    }
    asking_ = max_threads;
}

// Each warp learns what all warps at the barrier knew of others, and its lanes know of all that was before.
void Checker::tile_barrier(unsigned first_warp, unsigned warps) {
    if (warps * warp_size >= worker_->thread_count()) return block_barrier();
    std::uint16_t now = next_sync();
    const unsigned most_warps = max_threads / warp_size;
    std::uint16_t together[most_warps] = {};
    for (unsigned w = first_warp; w < first_warp + warps; w++)
        for (unsigned v = 0; v < most_warps; v++) together[v] = std::max(together[v], syncs_->warps[w][v]);
    std::fill(together + first_warp, together + first_warp + warps, now);
    for (unsigned w = first_warp; w < first_warp + warps; w++) {
        synced_warps_ |= bit(w);
        std::memcpy(syncs_->warps[w], together, sizeof together);
        std::fill(&syncs_->lanes[w][0][0], &syncs_->lanes[w][0][0] + warp_size * warp_size, now);
    }
    if (clocks_.on) meet_by_clocks(first_warp, warps, ~0u);
}

// Whether what a warp did when there were `sync` barriers comes before what the fiber does now.
bool Checker::knows_warp(const Fiber& fiber, unsigned warp, unsigned sync) const {
    if (warp != fiber.warp) return sync < syncs_->warps[fiber.warp][warp];
    const std::uint16_t* known = syncs_->lanes[warp][fiber.lane];
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

void Checker::shift_is_empty(unsigned delta, int width, const void* pc) const {
    Report report = worker_->describe(Kind::warp_mask, pc);
    report.harmless = (int)Harmless::if_unused;
    std::snprintf(report.message, sizeof report.message,
                  "no lane takes a value from another: a shift by %u in groups of %d lanes", delta, width);
    worker_->add(report);
}

// --- order through atomics -------------------------------------------------------------------------------

void Seen::add(unsigned thread, const Moment& fence) {
    interval = std::max(interval, fence.interval);
    Moment& known = fences[thread];
    known.time = std::max(known.time, fence.time);
    known.stamp = std::max(known.stamp, fence.stamp);
}

void Seen::add(const Seen& other) {
    for (const auto& [thread, fence] : other.fences) add(thread, {other.interval, fence.time, fence.stamp});
}

bool Seen::holds(std::uint32_t write_interval, unsigned thread, std::uint32_t time) const {
    auto found = fences.find(thread);
    return write_interval < interval || (found != fences.end() && time < found->second.time);
}

bool Seen::holds_warp(unsigned warp) const {
    return std::any_of(fences.begin(), fences.end(), [=](const auto& each) { return each.first / warp_size == warp; });
}

void Checker::fence() {
    fenced_ = true;
    fences_[worker_->fiber()->number] = {interval_, ++time_, clocks_.on ? ++clocks_.now : 0};
}

// Who touches an atomic variable after a fence shows to those who touch it later what was before the fence: its own
// writes, and those that a barrier of the block has ordered before. Fences that such a barrier came after count as well.
void Checker::synchronising(const char* address, std::size_t bytes, bool write, Manner manner, const void* pc) {
    access(address, bytes, write, manner, pc);
    unsigned thread = worker_->fiber()->number;
    auto found = sync_points_.find(address);
    if (found != sync_points_.end()) {
        SyncPoint& point = found->second;
        SyncPoint::Reader& reader = point.readers[turn_];
        for (; reader.taken < point.shown.size(); reader.taken++) {
            const Shown& shown = point.shown[reader.taken];
            if (shown.turn != turn_) seen_blocks_[shown.turn].add(shown.seen);
        }
        if (reader.own) {
            const Seen& own = point.shown[reader.own - 1].seen;
            seen_threads_[thread].add(own);
            if (clocks_.on) learn_by_clocks(own);
        }
    }
    if (!write || fences_.empty()) return;
    // What another block may have taken in stays as it is.
    SyncPoint& point = sync_points_[address];
    std::size_t& place = point.readers[turn_].own;
    if (!place) point.shown.push_back({turn_, stint_, {}, 0});
    else if (point.shown[place - 1].stint != stint_) point.shown.push_back(Shown(point.shown[place - 1]));
    if (!place || point.shown[place - 1].stint != stint_) place = point.shown.size();
    Shown& own = point.shown[place - 1];
    own.stint = stint_;
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
    for (std::size_t i = 0; i < bytes; i += region->unit()) {  // a pair of halves may have been read one by one
        const Cell& cell = region->cell_of((std::size_t)(address - region->begin) + i);
        if (is_here(cell.read_interval) && was_read_by(cell, fiber)) compared_places_.insert(cell.read_place);
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
    for (Region& region : shared())
        if (holds(region)) return &region;
    return holds(regions_[buffers_]) ? &regions_[buffers_] : nullptr;
}

Region* Checker::find_on_heap(const char* address, std::size_t bytes) {
    const char* begin;
    const Heap::Allocation* found = heap.at_or_before(address, begin);
    if (!found || !found->live || address + bytes > begin + found->bytes) return nullptr;
    if (!heap_region_.cells) {
        heap_buffer_ = Buffer{heap.begin(), Heap::capacity, -1, (int)Access::write, heap.written(), nullptr};
        heap_region_ = Region{Space::heap,   heap.begin(),  heap.begin() + Heap::capacity, nullptr, -1,
                              Access::write, nullptr, 0, &heap_buffer_, Span{Heap::capacity, 0}};
        heap_region_.cells = map_cells(heap_region_.cell_count());
    }
    return &heap_region_;
}

// What others did where the memory was before came earlier, and nothing of it is left.
void Checker::allocated(char* memory, std::size_t bytes) {
    std::size_t begin = (std::size_t)(memory - heap.begin());
    for (std::size_t i = begin; i < begin + bytes; i++) heap.written()[i / 8] &= (unsigned char)~(1u << i % 8);
    for (std::size_t i = begin; heap_region_.cells && i < begin + bytes; i += heap_region_.unit())
        heap_region_.cell_of(i) = Cell{};
}

// Keeps what outlives the launch: which bytes it touched, and which of the memory have ever been written.
inline void Checker::touch(const Touch& access, bool write) {
    Region& region = *access.region;
    region.touched.begin = std::min(region.touched.begin, access.offset);
    region.touched.end = std::max(region.touched.end, access.offset + access.bytes);
    if (region.buffer->written) note_written(access, write);
}

void Checker::note_written(const Touch& access, bool write) {
    const Region& region = *access.region;
    const Buffer& buffer = *region.buffer;
    std::size_t unwritten = 0, offset = access.offset, bytes = access.bytes;
    for (std::size_t i = offset; i < offset + bytes; i++) {
        unsigned char& eight = buffer.written[i / 8];
        if (write) eight |= (unsigned char)(1u << i % 8);
        else unwritten += !(eight >> i % 8 & 1);
    }
    if (!unwritten || unwritten < bytes) return;  // padding of a struct may be left as it was
    Report report = worker_->describe(Kind::uninitialised, access.pc);
    report.argument = buffer.argument;
    if (region.space != Space::heap) report.byte = (long long)offset;
    char what[100];
    name(what, sizeof what, region, offset);
    std::snprintf(report.message, sizeof report.message, "read of %s, which nobody has written", what);
    worker_->add(report);
}

// Reads before a write of the same bytes are not known any more: who is in order with the write is with them.
void Checker::tell_touched(const Region& region) const {
    auto add = [&](std::vector<Span>& spans, std::size_t begin) {
        std::size_t end = std::min(begin + region.unit(), region.bytes());
        if (!spans.empty() && spans.back().end == begin) spans.back().end = end;
        else spans.push_back({begin, end});
    };
    for (std::size_t i = region.touched.begin; i < region.touched.end; i += region.unit()) {
        if (region.cell_of(i).write_interval) add(region.buffer->touched->wrote, i);
        if (region.cell_of(i).read_interval) add(region.buffer->touched->read, i);
    }
}

// The stack and the indices of the running thread.
bool Checker::is_threads_own(const char* address, std::size_t bytes) const {
    const Fiber& fiber = *worker_->fiber();
    auto inside = [&](const void* begin, const void* end) {
        return address >= (const char*)begin && address + bytes <= (const char*)end;
    };
    const ThreadView* view = &fiber;
    return inside(fiber.stack.low, fiber.stack.high) || inside(view, view + 1) || inside(&current, &current + 1) ||
           inside(&worker_->block(), &worker_->block() + 1);
}

void Checker::access(const char* address, std::size_t bytes, bool write, Manner manner, const void* pc) {
    if (!worker_ || !worker_->fiber() || !bytes) return;
    worker_->leave_if_asked();
    if (floats_pass) watch_floats(launch_->request.floats);
    Extent& extent = extents_[(std::uintptr_t)pc % (sizeof extents_ / sizeof *extents_)];
    bool is_known = extent.holds(address, bytes);
    if (!is_known && is_threads_own(address, bytes)) return;
    settle_store();
    if (!is_known) extent = extent_of(address, bytes, write, pc);
    Region* region = extent.region;
    if (!region) return;
    worker_->take_turns_if_asked(pc);  // not within an atomic operation, which touches its own variables too
    std::uint32_t place = (std::uint32_t)((const char*)pc - base_);
    Touch access{region, (std::size_t)(address - region->begin), bytes, write, manner, pc, place};
    region->split_for(access.offset, bytes);
    if (write) {
        worker_->about_to_write(address, bytes);
        if (region->allowed == Access::read || is_constant(access)) report_read_only(access);
    }
    if (region->owner && region->owner != worker_ && !use_remotely(access)) return;
    if (is_shared(*region) && (!write || manner == Manner::atomic_update) && !is_initialised(access))
        report_unless_padding(access);
    if (region->buffer) {
        if (access.is_atomic()) touch(access, false);
        touch(access, write);
    }
    if (!write) unset_was_read_ |= holds_unset(address, bytes);
    else if (manner == Manner::plain && bytes <= sizeof store_.before) begin_store(access);
    bool raced = false;
    for (std::size_t i = 0; i < bytes; i += region->unit())
        check_cell(access, region->cell_of(access.offset + i), access.offset + i, raced);
}

// Where an access is. If it must not be there, the block ends here. Without a region: it is not to be watched.
Checker::Extent Checker::extent_of(const char* address, std::size_t bytes, bool write, const void* pc) {
    Region* region = find(address, bytes);
    if (!region) {
        const Library& library = *launch_->request.library;
        if (address >= library.image_begin && address + bytes <= library.image_end) return {};  // its constants
        report_out_of_bounds(address, bytes, write, pc);
    }
    Touch access{region, (std::size_t)(address - region->begin), bytes, write, Manner::plain, pc, 0};
    if (region->allowed > Access::read) report_forbidden(access);
    bool is_static = region->space == Space::static_shared;
    if (region->space == Space::heap) return {nullptr, 0, region};
    if (!is_static && region->space != Space::device_variable) return {region->begin, region->bytes(), region};
    if (is_static && std::binary_search(variables_->guards.begin(), variables_->guards.end(), access.offset)) return {};
    // Between two variables lies room that belongs to none, see ../assembly.py. What the compiler keeps of its own
    // among those of the device has no name, and does not begin in that room.
    std::size_t first = is_static ? 0 : in_library(*region, 0), at = first + access.offset;
    const std::vector<Span>& variables = is_static ? variables_->shared : variables_->device;
    const Span* variable = variable_before(variables, at);
    if (variable && at + bytes <= variable->end)
        return {region->begin + (variable->begin - first), variable->end - variable->begin, region};
    if (is_static ? !variables.empty() : variable && at < variable->end + gap_bytes) report_beyond_variable(access);
    return {nullptr, 0, region};
}

std::size_t Checker::in_library(const Region& region, std::size_t offset) const {
    return (std::size_t)(region.begin - base_) + offset;
}

bool Checker::is_constant(const Touch& access) const {
    if (access.region->space != Space::device_variable) return false;
    std::size_t offset = in_library(*access.region, access.offset);
    return offset >= variables_->constant.begin && offset < variables_->constant.end;
}

void Checker::fetch(const char* address, std::size_t bytes, const void* pc) {
    check_coherent(address, bytes, pc);
    access(address, bytes, false, Manner::plain, pc);
}

// The caches of textures and surfaces do not see writes of the launch they serve.
void Checker::check_coherent(const char* address, std::size_t bytes, const void* pc) {
    Region* region = find(address, bytes);
    if (!region) return;
    std::size_t offset = (std::size_t)(address - region->begin);
    for (std::size_t i = offset; i < offset + bytes; i += region->unit()) {
        if (!region->cell_of(i).write_interval) continue;
        Report report = worker_->describe(Kind::texture, pc);
        report.argument = region->argument;
        report.byte = (long long)i;
        char what[100];
        name(what, sizeof what, *region, i);
        std::snprintf(report.message, sizeof report.message,
                      "read of %s, which this launch has written: a texture or surface may return what was there before",
                      what);
        worker_->add(report);
        return;
    }
}

GPUNN_INLINE void Checker::check_cell(const Touch& access, Cell& cell, std::size_t byte, bool& raced) {
    // What an earlier block did in shared memory is gone.
    bool from_here = is_of_cluster(cell.write_interval) || is_of_cluster(cell.read_interval);
    if (is_shared(*access.region) && !from_here) cell = Cell{};
    std::uint32_t* stamps = row(*access.region, byte);
    if (!raced) raced = find_race(access, cell, byte, stamps);
    if (access.write) record_write(cell, access.is_strong(), access.bytes, access.place);
    else record_read(cell, access.is_strong(), access.place);
    if (stamps && access.write) mark_write(stamps);
    else if (stamps) mark_read(stamps, me());
}

// Reports the race that an access makes, if there is one.
GPUNN_INLINE bool Checker::find_race(const Touch& access, const Cell& cell, std::size_t byte, std::uint32_t* stamps) {
    bool strong = access.is_strong();
    if (cell.write_interval && cell.copy_under_way) {
        report_race(access, cell, byte, Earlier::copy, cell.write_thread);
        return true;
    }
    if (cell.write_interval && !(strong && cell.write_strong) &&
        !ordered(cell.write_interval, cell.write_thread, cell.write_sync, cell.write_time) &&
        !(is_here(cell.write_interval) && ordered_by_clocks(*access.region, byte, cell.write_thread))) {
        report_race(access, cell, byte, Earlier::write, cell.write_thread);
        return true;
    }
    if (!access.write) return false;
    int reader = stamps && !strong ? unordered_reader(stamps) : -1;
    if (reader >= 0) {
        report_race(access, cell, byte, Earlier::read, (unsigned)reader);
        return true;
    }
    bool by_clocks = clocks_.on && is_here(cell.read_interval) &&
                     (stamps || ordered_by_clocks(*access.region, byte, last_reader(cell)));
    if (!cell.read_interval || (strong && cell.read_strong) || by_clocks || read_is_ordered(cell)) return false;
    // Of several readers, one that is not the writer.
    unsigned me = this->me();
    unsigned lanes = cell.read_by_many_warps ? bit(cell.read_lane) : cell.read_lanes;
    if (cell.read_warp == me / warp_size && is_here(cell.read_interval) && (lanes & (lanes - 1)))
        lanes &= ~bit(me % warp_size);
    report_race(access, cell, byte, Earlier::read, cell.read_warp * warp_size + (unsigned)__builtin_ctz(lanes));
    return true;
}

// Whether an earlier access is certain to come before what the running thread does now.
inline bool Checker::ordered(std::uint32_t interval, unsigned thread, unsigned sync, std::uint32_t time) const {
    if (is_past(interval)) return true;
    if (is_here(interval)) return interval < interval_ || ordered_in_interval(thread, sync, time);
    auto seen = seen_blocks_.find(turn_of(interval));
    return seen != seen_blocks_.end() && seen->second.holds(interval, thread, time);
}

bool Checker::ordered_in_interval(unsigned thread, unsigned sync, std::uint32_t time) const {
    unsigned me = this->me();
    if (thread == me) return true;
    if (thread >= max_threads) return false;  // a column of Clocks
    unsigned warp = me / warp_size;
    unsigned other = thread / warp_size;
    const std::uint16_t* lanes = syncs_->lanes[warp][me % warp_size];
    if (sync < (other == warp ? lanes[thread % warp_size] : syncs_->warps[warp][other])) return true;
    auto seen = seen_threads_.find(me);
    return seen != seen_threads_.end() && seen->second.holds(interval_, thread, time);
}

bool Checker::read_is_ordered(const Cell& cell) const {
    if (is_past(cell.read_interval) && !cell.read_by_many_clusters) return true;
    if (cell.read_by_many_blocks && seen_blocks_.empty()) return false;
    if (!cell.read_by_many_blocks && cell.read_interval < interval_ && is_here(cell.read_interval)) return true;
    if (cell.read_interval == interval_ && cell.read_by_many_warps) {
        auto seen = seen_threads_.find(me());
        for (unsigned rest = cell.read_lanes; rest; rest &= rest - 1) {
            unsigned warp = (unsigned)__builtin_ctz(rest);
            if (knows_warp(*worker_->fiber(), warp, cell.read_sync)) continue;
            // Which of its lanes have read is not known: who has seen one of them is forgiven.
            if (seen == seen_threads_.end() || !seen->second.holds_warp(warp)) return false;
        }
        return true;
    }
    for (unsigned rest = cell.read_lanes; rest; rest &= rest - 1)
        if (!ordered(cell.read_interval, cell.read_warp * warp_size + (unsigned)__builtin_ctz(rest), cell.read_sync, 0))
            return false;
    return true;
}

GPUNN_INLINE void Checker::record_write(Cell& cell, bool strong, std::size_t bytes, std::uint32_t place) const {
    const Fiber& fiber = *worker_->fiber();
    cell = Cell{};  // later accesses that are ordered after this write are ordered after the reads before it
    cell.write_interval = interval_;
    cell.write_thread = fiber.number;
    cell.write_sync = sync_;
    cell.write_strong = strong;
    cell.write_long = bytes >= 8;
    cell.write_place = place;
    cell.write_time = time_;
}

GPUNN_INLINE void Checker::record_read(Cell& cell, bool strong, std::uint32_t place) const {
    const Fiber& fiber = *worker_->fiber();
    if (cell.read_interval && cell.read_interval < cluster_begin_) cell.read_by_many_clusters = true;
    if (is_past(cell.read_interval) && !cell.read_by_many_clusters) {
        cell.read_interval = 0;
        cell.read_by_many_blocks = false;
    }
    bool from_here = cell.read_interval == interval_;
    bool others_are_ordered = !from_here && is_here(cell.read_interval) && !cell.read_by_many_blocks;
    cell.read_strong = strong && (!cell.read_interval || cell.read_strong || others_are_ordered);
    if (cell.read_interval && !is_here(cell.read_interval)) cell.read_by_many_blocks = true;
    if (!from_here) cell.read_by_many_warps = false;
    bool many = cell.read_by_many_warps, synced = synced_warps_ >> fiber.warp & 1;
    // Who is ordered before this read needs not be kept: a write after this one is after those too.
    if (from_here && (many || cell.read_warp != fiber.warp)) {
        unsigned warps = many ? cell.read_lanes : bit(cell.read_warp);
        for (unsigned rest = synced ? warps : 0; rest; rest &= rest - 1) {
            unsigned warp = (unsigned)__builtin_ctz(rest);
            if (knows_warp(fiber, warp, cell.read_sync)) warps &= ~bit(warp);
        }
        cell.read_by_many_warps = warps;
        cell.read_lanes = warps ? warps | bit(fiber.warp) : bit(fiber.lane);
        cell.read_lane = fiber.lane;
    } else if (from_here) {
        for (unsigned rest = synced ? cell.read_lanes : 0; rest; rest &= rest - 1) {
            unsigned lane = (unsigned)__builtin_ctz(rest);
            if (cell.read_sync < syncs_->lanes[fiber.warp][fiber.lane][lane]) cell.read_lanes &= ~bit(lane);
        }
        cell.read_lanes |= bit(fiber.lane);
    } else {
        cell.read_lanes = bit(fiber.lane);
    }
    cell.read_interval = interval_;
    cell.read_warp = fiber.warp;
    cell.read_sync = sync_;
    cell.read_place = place;
}

GPUNN_INLINE bool Checker::is_initialised(const Touch& access) const {
    for (std::size_t i = access.offset; i < access.offset + access.bytes; i += access.region->unit())
        if (!is_of_cluster(access.region->cell_of(i).write_interval)) return false;
    return true;
}

// A struct may have padding that nobody writes. So one written byte is enough for a word, one word for an access longer
// than any vector, and half of 16 bytes if it is one number: what is aligned to it may have a word of padding beside it.
// What is left: such padding beside two numbers of a word each is reported.
void Checker::report_unless_padding(const Touch& access) const {
    const std::size_t word = 4, half = 8, longest_vector = 16;
    auto cell = [&](std::size_t i) -> const Cell& { return access.region->cell_of(access.offset + i); };
    auto written = [&](std::size_t i) { return is_of_cluster(cell(i).write_interval); };
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
    char what[100];
    name(what, sizeof what, *access.region, access.offset + first_unwritten);
    std::snprintf(report.message, sizeof report.message, "read of %s, which no thread has written", what);
    worker_->add(report);
}

// --- reports ---------------------------------------------------------------------------------------------

std::uint32_t Checker::turn_of(std::uint32_t interval) const {
    auto after = std::upper_bound(intervals_.begin(), intervals_.end(), interval,
                                  [](std::uint32_t one, const Intervals& each) { return one < each.first; });
    return (after - 1)->turn;
}

// Of a block of the cluster, which need not have begun.
uint3 Checker::index_of(const Worker& other) const {
    const BlockView &mine = worker_->block(), &its = other.block();
    return {mine.index.x - mine.cluster_index.x + its.cluster_index.x,
            mine.index.y - mine.cluster_index.y + its.cluster_index.y,
            mine.index.z - mine.cluster_index.z + its.cluster_index.z};
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
    if (!region.owner || region.owner == worker_) return;
    const uint3 block = index_of(*region.owner);
    std::size_t length = std::strlen(text);
    std::snprintf(text + length, capacity - length, " of block (%u,%u,%u)", block.x, block.y, block.z);
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
    const bool is_async = thread >= worker_->thread_count();
    const uint3 other = is_async ? uint3{} : worker_->fiber(thread).index;
    report.has_other = !is_async;
    std::memcpy(report.other_block, block, sizeof block);
    std::memcpy(report.other_thread, &other, sizeof report.other_thread);
    if (is_async && earlier == Earlier::write) place = 0;  // a copy that has arrived
    report.other_pc = place ? base_ + place : nullptr;

    char what[100], who[120];
    name(what, sizeof what, *access.region, byte);
    bool same_block = is_here(interval);
    if (is_async && !is_here(interval)) std::snprintf(who, sizeof who, "an asynchronous copy of another block");
    else if (is_async)
        std::snprintf(who, sizeof who, "%s, for which nobody has waited in between",
                      clocks_.what[thread - (clocks_.columns - Clocks::extra_columns)]);
    else if (earlier == Earlier::unfenced_write)
        std::snprintf(who, sizeof who, "thread (%u,%u,%u) with no fence.proxy.async between", other.x, other.y,
                      other.z);
    else if (earlier == Earlier::copy)
        std::snprintf(who, sizeof who, "thread (%u,%u,%u), which has not waited for it", other.x, other.y,
                      other.z);
    else if (earlier == Earlier::read && cell.read_by_many_blocks && same_block && seen_blocks_.empty())
        std::snprintf(who, sizeof who, "several blocks, and nothing orders two of them");
    else if (!same_block && access.region->owner)
        std::snprintf(who, sizeof who, "block (%u,%u,%u) thread (%u,%u,%u) with no barrier of the cluster between", block[0],
                      block[1], block[2], other.x, other.y, other.z);
    else if (same_block)
        std::snprintf(who, sizeof who, "thread (%u,%u,%u) with no barrier between", other.x, other.y,
                      other.z);
    else
        std::snprintf(who, sizeof who, "block (%u,%u,%u) thread (%u,%u,%u), and nothing orders two blocks",
                      block[0], block[1], block[2], other.x, other.y, other.z);
    const char* verb = earlier == Earlier::copy    ? ", the target of an asynchronous copy"
                       : earlier == Earlier::read ? " read"
                                                  : " written";
    std::snprintf(report.message, sizeof report.message, "%s of %s%s by %s", access.write ? "write" : "read",
                  what, verb, who);
    if (earlier == Earlier::read && access.is_atomic()) {
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
        launch_->add(each.report);  // the worker may have ended
    }
}

void Checker::begin_store(const Touch& access) {
    store_.address = access.region->begin + access.offset;
    store_.bytes = access.bytes;
    store_.pc = access.pc;
    store_.block = worker_->block().index;
    store_.thread = worker_->fiber()->index;
    store_.is_shared = is_shared(*access.region);
    store_.raced = false;
}

// Called before the next access, barrier or end: until then nothing but the store has changed its memory.
void Checker::end_store() {
    std::size_t bytes = store_.bytes;
    store_.bytes = 0;
    if (store_.raced) {
        if (!std::memcmp(store_.address, store_.before, bytes)) store_.race.harmless = (int)Harmless::same_value;
        worker_->add(store_.race);
    }
    if (!store_.is_shared && holds_shared_address(store_.address, bytes)) {
        Report report = describe_store(Kind::out_of_bounds, Harmless::if_own);
        std::snprintf(report.message, sizeof report.message,
                      "it writes an address of shared memory, which every block has of its own, to global memory");
        worker_->add(report);
    }
    if (unset_was_read_ || !holds_unset(store_.address, bytes)) return;
    Report report = describe_store(Kind::uninitialised, Harmless::if_computed);
    std::snprintf(report.message, sizeof report.message,
                  "it writes the number that variables hold which nobody has set");
    worker_->add(report);
}

Report Checker::describe_store(Kind kind, Harmless harmless) const {
    Report report = worker_->describe(kind, store_.pc);
    std::memcpy(report.block, &store_.block, sizeof report.block);
    std::memcpy(report.thread, &store_.thread, sizeof report.thread);
    report.harmless = (int)harmless;
    return report;
}

bool Checker::holds_shared_address(const char* address, std::size_t bytes) {
    const char* word;
    for (std::size_t i = 0; i + sizeof word <= bytes; i += sizeof word) {
        std::memcpy(&word, address + i, sizeof word);
        for (const Region& region : shared())
            if (word >= region.begin && word < region.end) return true;
    }
    return false;
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
    auto look_at = [&](const Region& region) {
        if (region.begin == region.end || region.space == Space::device_variable) return;
        long long distance = address < region.begin ? region.begin - address : address + bytes - region.end;
        if (distance >= smallest) return;
        smallest = distance;
        nearest = &region;
    };
    std::for_each(regions_.begin(), regions_.end(), look_at);
    std::for_each(shared().begin(), shared().end(), look_at);
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
    char what[100];
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
    bool shared = access.region->space == Space::static_shared;
    std::size_t byte = shared ? access.offset : in_library(*access.region, access.offset);
    report.byte = (long long)byte;
    const char* memory = shared ? "static shared memory" : "device memory";
    std::snprintf(report.message, sizeof report.message, "%s of %zu bytes at %s byte %zu, beyond the end of a variable",
                  access.write ? "write" : "read", access.bytes, memory, byte);
    worker_->fail(report);
}

void Checker::report_read_only(const Touch& access) const {
    Report report = worker_->describe(Kind::read_only_write, access.pc);
    report.argument = access.region->argument;
    if (access.region->space == Space::device_variable) {
        std::size_t byte = in_library(*access.region, access.offset);
        report.byte = (long long)byte;
        std::snprintf(report.message, sizeof report.message,
                      "write to device memory byte %zu, which is constant memory", byte);
    } else {
        report.byte = (long long)access.offset;
        std::snprintf(report.message, sizeof report.message,
                      "write to argument %d, whose parameter is a pointer to const", report.argument);
    }
    worker_->add(report);
}

// An allocation that the launch must not touch at all.
void Checker::report_forbidden(const Touch& access) {
    Report report = worker_->describe(Kind::out_of_bounds, access.pc);
    report.argument = access.region->argument;
    report.byte = (long long)access.offset;
    char what[100];
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
    for (unsigned i = 0; i < copy.bytes; i += target->unit())
        target->cell_of((std::size_t)(copy.shared - target->begin) + i).copy_under_way = true;
}

void Checker::async_copy_arrives(const AsyncCopy& copy) {
    Region* target = find(copy.shared, copy.bytes);
    for (unsigned i = 0; target && i < copy.bytes; i += target->unit()) {
        std::size_t byte = (std::size_t)(copy.shared - target->begin) + i;
        record_write(target->cell_of(byte), false, copy.bytes, 0);
        if (std::uint32_t* stamps = row(*target, byte)) mark_write(stamps);
    }
}

void note_access(const void* address, std::size_t bytes, bool write, const void* caller) {
    checker.access((const char*)address, bytes, write, Manner::plain, caller);
}

void note_missing_lane(unsigned lane, unsigned source, bool shifted) {
    checker.lane_is_missing(lane, source, shifted);
}

void note_empty_shift(unsigned delta, int width) {
    checker.shift_is_empty(delta, width, __builtin_return_address(0));
}

namespace {

void note_synchronising(const void* address, std::size_t bytes, bool write, Manner manner, const void* caller) {
    bool room = true;
    try {
        checker.synchronising((const char*)address, bytes, write, manner, caller);
    } catch (const std::bad_alloc&) {
        room = false;
    }
    if (!room) worker->fail_for_memory("what is known of the atomics", "no memory");
}

}  // namespace

void note_atomic(const void* address, std::size_t bytes, const void* caller, bool reads) {
    note_synchronising(address, bytes, true, reads ? Manner::atomic_update : Manner::atomic, caller);
}

void note_strong(const void* address, std::size_t bytes, bool write, const void* caller) {
    note_synchronising(address, bytes, write, Manner::strong, caller);
}

void note_compare_and_swap(const void* address, std::size_t bytes, const void* compare) {
    checker.compare_and_swap((const char*)address, bytes, compare);
}

void note_fence() { checker.fence(); }

}  // namespace gpunn_emulator

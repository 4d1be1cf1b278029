#include "counter.h"

#include "cluster.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <tuple>

namespace gpunn_emulator {

Counter counter;

namespace {

const unsigned sector_bytes = 32, sectors_of_line = 4, sectors_of_page = 128, banks = 32;

// A lane that is this many actions ahead lets the others of its warp run: what is known of actions that not all lanes
// have come to stays small.
const unsigned most_ahead = 512;
// What has waited for this many actions of its warp has no more lanes to come.
const std::uint64_t oldest = 16 * warp_size * most_ahead;
const std::size_t most_groups = 4096, most_logged = 1 << 20;

unsigned bit(unsigned i) { return 1u << i; }

unsigned count_bits(unsigned mask) { return (unsigned)__builtin_popcount(mask); }

std::uint64_t mixed(std::uint64_t x) {  // the finaliser of SplitMix64
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

// Runs `what` in a hook, which must not throw through the kernel's code.
template <class What> void without_exceptions(What what) {
    bool room = true;
    try {
        what();
    } catch (const std::bad_alloc&) {
        room = false;
    }
    if (!room) worker->fail_for_memory("what is counted", "no memory");
}

// The different numbers among the first `count`, which are sorted.
unsigned sort_unique(std::uint64_t* numbers, unsigned count) {
    std::sort(numbers, numbers + count);
    return (unsigned)(std::unique(numbers, numbers + count) - numbers);
}

}  // namespace

// --- the cache -------------------------------------------------------------------------------------------

void Cache::clear(std::uint64_t bytes) {
    capacity_ = bytes / (sector_bytes * sectors_of_line);
    lines_.clear();
    found_.clear();
}

bool Cache::touch(std::uint64_t sector, bool write, LaunchCount& count) {
    std::uint64_t number = sector / sectors_of_line;
    unsigned mine = bit(sector % sectors_of_line);
    auto place = found_.find(number);
    if (place != found_.end()) {
        lines_.splice(lines_.begin(), lines_, place->second);
    } else {
        if (lines_.size() >= capacity_ && !lines_.empty()) {
            count.written_back_sectors += count_bits(lines_.back().dirty);
            found_.erase(lines_.back().number);
            lines_.pop_back();
        }
        lines_.push_front(Line{number, 0, 0});
        found_[number] = lines_.begin();
    }
    Line& line = lines_.front();
    bool hit = line.valid & mine;
    if (!hit && !write) count.fetched_sectors++;
    line.valid |= mine;
    if (write) line.dirty |= mine;
    return hit;
}

void Cache::write_back(LaunchCount& count) {
    for (const Line& line : lines_) count.written_back_sectors += count_bits(line.dirty);
    clear(0);
}

// --- launches and blocks ---------------------------------------------------------------------------------

void Counter::begin_launch(const Launch& launch) {
    launch_ = &launch;
    settings_ = next_settings_;
    launch_count_ = LaunchCount{};
    places_.clear();
    found_.clear();
    cache_.clear(settings_.cache_bytes);
}

void Counter::begin_block(Worker& worker) {
    if (worker_) block_barrier();
    worker_ = &worker;
    for (unsigned i = 0; i < worker.thread_count(); i++) paths_[i] = Path{};
}

void Counter::exchange(Block& held) {
    std::swap_ranges(std::begin(warps_), std::end(warps_), held.warps);
    std::swap_ranges(held.paths.begin(), held.paths.end(), paths_);
    std::swap_ranges(std::begin(cache_log_), std::end(cache_log_), held.cache_log);
    std::swap(logged_, held.logged);
}

void Counter::hold_block() {
    Block& held = held_[worker_->block_number()];
    held.paths.resize(worker_->thread_count());
    exchange(held);
}

void Counter::resume_block(Worker& worker) {
    worker_ = &worker;
    block_barrier();
    auto held = held_.find(worker_->block_number());
    exchange(held->second);
    held_.erase(held);
}

void Counter::block_barrier() {
    for (unsigned w = 0; w * warp_size < worker_->thread_count(); w++) converge(w);
    use_cache();
}

void Counter::converge(unsigned warp) {
    WarpCount& mine = warps_[warp];
    for (unsigned place : mine.listed) {
        Pending& pending = mine.places[place];
        for (auto& each : pending.groups) retire(warp, place, each.second);
        pending = Pending{};
    }
    mine.listed.clear();
    mine.groups = 0;
    unsigned end = std::min((warp + 1) * warp_size, worker_->thread_count());
    std::uint64_t actions = 0;
    for (unsigned i = warp * warp_size; i < end; i++) actions = std::max(actions, paths_[i].actions);
    for (unsigned i = warp * warp_size; i < end; i++) {
        paths_[i].actions = actions;
        paths_[i].loops.clear();
        for (KnownLoop& loop : paths_[i].known) loop.iteration = 0;
        paths_[i].depths.assign(paths_[i].depths.size(), 0);
        paths_[i].context = 0;
        paths_[i].since_pause = 0;
    }
}

void Counter::settle() {
    if (worker_) block_barrier();
    cache_.write_back(launch_count_);
    for (const auto& each : pages_)
        for (unsigned half = 0; half < 2; half++) {
            launch_count_.read_sectors += (unsigned)__builtin_popcountll(each.second.read[half]);
            launch_count_.written_sectors += (unsigned)__builtin_popcountll(each.second.written[half]);
        }
}

void Counter::end_launch() {
    for (WarpCount& warp : warps_) warp = WarpCount{};
    for (Path& path : paths_) path = Path{};
    for (auto& log : cache_log_) log.clear();
    logged_ = 0;
    held_.clear();
    addresses_.clear();
    free_addresses_.clear();
    pages_.clear();
    suspended_ = false;
    worker_ = nullptr;
}

// --- where a thread is -----------------------------------------------------------------------------------

// The blocks of a function lie in the order of the source, so a step back is the next iteration of a loop, and a step
// beyond its last block leaves it.
void Counter::block(const void* pc) {
    if (!counts()) return;
    Path& path = paths_[worker_->fiber()->number];
    std::size_t depth = path.depths.empty() ? 0 : path.depths.back();
    std::size_t before = path.loops.size();
    while (path.loops.size() > depth && (pc < path.loops.back().first || pc > path.loops.back().last))
        path.loops.pop_back();
    if (before != path.loops.size()) path.find_context();
    if (path.previous && pc <= path.previous) {
        if (path.loops.size() > depth && path.loops.back().first == pc) path.loops.pop_back();
        path.turn_back(pc);
    }
    path.previous = pc;
    act(place_of(pc, Action::block, Space::none, 0, 0, nullptr), 0);
    pause_if_ahead(path, pc);
}

void Counter::Path::find_context() {
    context = 0;
    for (const Loop& loop : loops)
        context = mixed(context + (std::uint64_t)loop.first + ((std::uint64_t)loop.iteration << 32));
}

// The next iteration of the loop that begins there, also where a part of it that lies elsewhere was run meanwhile.
void Counter::Path::turn_back(const void* first) {
    find_context();
    auto loop = std::find_if(known.begin(), known.end(), [&](const KnownLoop& each) { return each.first == first; });
    if (loop == known.end()) loop = known.insert(loop, KnownLoop{first, previous, context, 0});
    if (loop->around != context) *loop = KnownLoop{first, loop->last, context, 0};
    loop->last = std::max(loop->last, previous);
    loops.push_back(Loop{first, loop->last, ++loop->iteration});
    find_context();
}

void Counter::enter_function(const void* caller) {
    if (!counts()) return;
    Path& path = paths_[worker_->fiber()->number];
    path.callers.push_back(path.previous);
    // The runtime starts a kernel from more than one place.
    const Library& library = *launch_->request.library;
    bool is_kernels = caller >= library.image_begin && caller < library.image_end;
    path.loops.push_back(Loop{is_kernels ? caller : nullptr, nullptr, 0});
    path.find_context();
    path.depths.push_back(path.loops.size());
    path.previous = nullptr;
}

void Counter::leave_function() {
    if (!counts()) return;
    Path& path = paths_[worker_->fiber()->number];
    if (path.callers.empty()) return;
    path.previous = path.callers.back();
    if (path.depths.back()) path.loops.resize(path.depths.back() - 1);
    path.find_context();
    path.callers.pop_back();
    path.depths.pop_back();
}

void Counter::name_callers(Report& report) const {
    const std::vector<const void*>& callers = paths_[worker_->fiber()->number].callers;
    int most = std::min((int)callers.size(), most_callers);
    std::copy(callers.rbegin(), callers.rbegin() + most, report.callers);
}

void Counter::pause_if_ahead(Path& path, const void* pc) {
    if (++path.since_pause < most_ahead) return;
    path.since_pause = 0;
    worker_->yield(pc);
}

unsigned Counter::place_of(const void* pc, Action action, Space space, unsigned bytes, unsigned part,
                           const void* operation) {
    const char* base = launch_->request.library->base;
    PlaceKey key{(std::uint64_t)((const char*)pc - base),
                 operation ? (std::uint64_t)((const char*)operation - base) : 0,
                 (unsigned)action * 4 + (unsigned)space + bytes * 64, part};
    auto found = found_.find(key);
    if (found != found_.end()) return found->second;
    unsigned number = (unsigned)places_.size();
    PlaceCount count{};
    count.place = key.place;
    count.operation = key.operation;
    count.action = (int)action;
    count.space = (int)space;
    count.bytes = bytes;
    count.part = part;
    places_.push_back(count);
    found_.emplace(key, number);
    return number;
}

// --- from lanes to warps ---------------------------------------------------------------------------------

void Counter::act(unsigned place, std::uint64_t address) {
    const Fiber& fiber = *worker_->fiber();
    WarpCount& warp = warps_[fiber.warp];
    if (warp.places.size() <= place) warp.places.resize(place + 1);
    Pending& pending = warp.places[place];
    if (!pending.listed) {
        pending.listed = true;
        warp.listed.push_back(place);
    }
    Path& path = paths_[fiber.number];
    path.actions++;
    std::vector<Key>& keys = pending.lanes[fiber.lane];
    if (keys.size() <= path.loops.size()) keys.resize(path.loops.size() + 1, Key{0, ~0u});
    Key& key = keys[path.loops.size()];
    key = key.context == path.context ? Key{path.context, key.repetition + 1} : Key{path.context, 0};

    auto entry = pending.groups.emplace(key, Group{});
    Group& group = entry.first->second;
    warp.actions++;
    if (entry.second) {
        group.began = warp.actions;
        warp.groups++;
        if (places_[place].space != (int)Space::none) {
            if (free_addresses_.empty()) {
                addresses_.emplace_back();
                free_addresses_.push_back((int)addresses_.size() - 1);
            }
            group.addresses = free_addresses_.back();
            free_addresses_.pop_back();
        }
    }
    group.mask |= bit(fiber.lane);
    group.turn = std::min(group.turn, path.actions);
    if (group.addresses >= 0) addresses_[(std::size_t)group.addresses].of[fiber.lane] = address;
    unsigned live = worker_->live_lanes(fiber.warp);
    if ((group.mask & live) == live) {
        retire(fiber.warp, place, group);
        pending.groups.erase(entry.first);
        warp.groups--;
    } else if (warp.groups > most_groups && warp.actions % most_groups == 0) {
        retire_old(fiber.warp);
    }
}

void Counter::retire_old(unsigned w) {
    WarpCount& warp = warps_[w];
    for (unsigned place : warp.listed) {
        auto& groups = warp.places[place].groups;
        for (auto each = groups.begin(); each != groups.end();) {
            if (each->second.began + oldest > warp.actions) {
                ++each;
                continue;
            }
            retire(w, place, each->second);
            each = groups.erase(each);
            warp.groups--;
        }
    }
}

// Counts one instruction of a warp.
void Counter::retire(unsigned warp, unsigned place, Group& group) {
    PlaceCount& count = places_[place];
    count.executions++;
    count.lanes += count_bits(group.mask);
    if (count.space == (int)Space::global) count_global(count, warp, place, group);
    if (count.space == (int)Space::shared && count.action != (int)Action::atomic) count_shared(count, group);
    if (count.action == (int)Action::atomic) count_collisions(count, group);
    if (group.addresses >= 0) free_addresses_.push_back(group.addresses);
}

void Counter::count_global(PlaceCount& count, unsigned warp, unsigned place, const Group& group) {
    const std::uint64_t* addresses = addresses_[(std::size_t)group.addresses].of;
    std::uint64_t starts[warp_size], sectors[2 * warp_size];
    unsigned n = 0, m = 0;
    for (unsigned rest = group.mask; rest; rest &= rest - 1) {
        std::uint64_t address = addresses[__builtin_ctz(rest)];
        starts[n++] = address;
        sectors[m++] = address / sector_bytes;
        sectors[m++] = (address + count.bytes - 1) / sector_bytes;
    }
    n = sort_unique(starts, n);
    m = sort_unique(sectors, m);
    std::uint64_t asked = 0, end = 0;  // bytes, each once
    for (unsigned i = 0; i < n; i++) {
        asked += starts[i] + count.bytes - std::max(starts[i], end);
        end = starts[i] + count.bytes;
    }
    count.sectors += m;
    count.least_sectors += (asked + sector_bytes - 1) / sector_bytes;
    bool is_store = count.action == (int)Action::store, reads = !is_store;
    bool writes = is_store || count.action == (int)Action::atomic;
    for (unsigned i = 0; i < m; i++) {
        Page& page = pages_[sectors[i] / sectors_of_page];
        unsigned at = sectors[i] % sectors_of_page;
        if (reads) page.read[at / 64] |= std::uint64_t(1) << at % 64;
        if (writes) page.written[at / 64] |= std::uint64_t(1) << at % 64;
        if (reads) cache_log_[warp].push_back(CacheAccess{group.turn, sectors[i], place, false});
        if (writes) cache_log_[warp].push_back(CacheAccess{group.turn, sectors[i], place, true});
    }
    logged_ += m;
    if (logged_ > most_logged) use_cache();
}

// Whether lanes whose numbers differ in one bit ask for one address, where both are on.
static bool agree(const std::uint64_t* addresses, unsigned lanes, unsigned bit) {
    for (unsigned rest = lanes; rest; rest &= rest - 1) {
        unsigned lane = (unsigned)__builtin_ctz(rest), other = lane ^ bit;
        if (lanes >> other & 1 && addresses[lane] != addresses[other]) return false;
    }
    return true;
}

// The hardware serves a warp at once, a half or a quarter of it where a lane asks for 8 or 16 bytes. Of loads it serves
// two of these parts together where lanes agree in pairs, those beside each other or those two apart: README.md has the
// source.
void Counter::count_shared(PlaceCount& count, const Group& group) const {
    const Addresses& addresses = addresses_[(std::size_t)group.addresses];
    if (count.bytes <= 4) return serve(count, addresses, group.mask);
    const unsigned lanes = count.bytes > 8 ? 8 : 16, part = (1u << lanes) - 1;
    for (unsigned first = 0; first < warp_size; first += 2 * lanes) {
        unsigned low = group.mask & part << first, high = group.mask & part << (first + lanes);
        bool together = count.action == (int)Action::load &&
                        (agree(addresses.of, low | high, 1) || agree(addresses.of, low | high, 2));
        serve(count, addresses, together ? low | high : low);
        if (!together) serve(count, addresses, high);
    }
}

// Each bank gives one word a turn, to all lanes that ask for it.
void Counter::serve(PlaceCount& count, const Addresses& addresses, unsigned lanes) const {
    if (!lanes) return;
    std::uint64_t words[4 * warp_size];
    unsigned n = 0;
    for (unsigned rest = lanes; rest; rest &= rest - 1) {
        std::uint64_t address = addresses.of[__builtin_ctz(rest)];
        for (std::uint64_t at = address / 4; at <= (address + count.bytes - 1) / 4; at++) words[n++] = at;
    }
    n = sort_unique(words, n);
    unsigned of_bank[banks] = {}, degree = 0;
    for (unsigned i = 0; i < n; i++) degree = std::max(degree, ++of_bank[words[i] % banks]);
    count.wavefronts += degree;
    count.least_wavefronts++;
    count.worst_degree = std::max<std::uint64_t>(count.worst_degree, degree);
}

void Counter::count_collisions(PlaceCount& count, const Group& group) const {
    const std::uint64_t* addresses = addresses_[(std::size_t)group.addresses].of;
    std::uint64_t different[warp_size];
    unsigned n = 0;
    for (unsigned rest = group.mask; rest; rest &= rest - 1) different[n++] = addresses[__builtin_ctz(rest)];
    count.collisions += n - sort_unique(different, n);
}

// Warps take turns on a GPU, in an order that nobody knows: here one follows the other between two barriers, whatever
// the order of this launch.
void Counter::use_cache() {
    for (auto& log : cache_log_) {
        std::sort(log.begin(), log.end(), [this](const CacheAccess& a, const CacheAccess& b) {
            auto rank = [this](const CacheAccess& each) {
                const PlaceCount& place = places_[each.place];
                return std::make_tuple(each.turn, place.place, place.part, each.sector, each.write);
            };
            return rank(a) < rank(b);
        });
        for (const CacheAccess& access : log) {
            bool hit = cache_.touch(access.sector, access.write, launch_count_);
            // An atomic is one access, though it reads and writes.
            if (places_[access.place].action != (int)Action::atomic || !access.write)
                places_[access.place].cache_hits += hit;
        }
        log.clear();
    }
    logged_ = 0;
}

// --- what kernels do -------------------------------------------------------------------------------------

// Local memory, constants, and what is the emulator's own are in none.
Space Counter::space_of(const char* address) const {
    auto inside = [&](const void* begin, std::size_t size) {
        return address >= (const char*)begin && address < (const char*)begin + size;
    };
    const Fiber& fiber = *worker_->fiber();
    const Library& library = *launch_->request.library;
    const BlockView& block = worker_->block();
    if (inside(block.dynamic_shared, block.dynamic_shared_bytes)) return Space::shared;
    if (library.shared_bytes && inside(worker_->static_shared(), library.shared_bytes)) return Space::shared;
    // That of the other blocks of a cluster counts as a block's own.
    if (worker_->cluster() && worker_->cluster()->rank_of(address) < worker_->cluster()->size()) return Space::shared;
    if (address >= settings_.constants_begin && address < settings_.constants_end) return Space::none;
    if (address >= library.data_begin && address < library.data_end) return Space::global;
    if (inside(fiber.stack.low, (std::size_t)(fiber.stack.high - fiber.stack.low)) ||
        inside(&current, sizeof current) || inside(&fiber, sizeof(ThreadView)) || inside(&block, sizeof(BlockView)) ||
        inside(launch_->request.arguments, 1) ||
        inside(library.image_begin, (std::size_t)(library.image_end - library.image_begin)))
        return Space::none;
    return Space::global;
}

void Counter::access(const char* address, std::size_t bytes, Action action, const void* pc) {
    if (!counts() || !bytes) return;
    worker_->leave_if_asked();
    Space space = space_of(address);
    if (space == Space::none) return;
    // A thread moves 1, 2, 4, 8 or 16 bytes at a time.
    std::size_t part_bytes = 16;
    while (bytes % part_bytes || (std::uintptr_t)address % part_bytes) part_bytes /= 2;
    for (std::size_t done = 0; done < bytes; done += part_bytes)
        access_part(address + done, (unsigned)part_bytes, (unsigned)(done / part_bytes), action, space, pc);
    pause_if_ahead(paths_[worker_->fiber()->number], pc);
    if (action == Action::store || action == Action::atomic) worker_->about_to_write(address, bytes);
}

// In sectors.
void Counter::bulk_access(const char* address, std::size_t bytes, bool write, const void* pc) {
    const char* end = address + bytes;
    without_exceptions([&] {
        for (const char* next; address < end; address = next) {
            next = std::min(end, address + sector_bytes - (std::uintptr_t)address % sector_bytes);
            access_part(address, (unsigned)(next - address), 0, write ? Action::store : Action::load, Space::global, pc);
        }
    });
}

void Counter::access_part(const char* address, unsigned bytes, unsigned part, Action action, Space space,
                          const void* pc) {
    act(place_of(pc, action, space, bytes, part, nullptr), (std::uint64_t)address);
}

void Counter::barrier(const void* pc) {
    if (!counts()) return;
    without_exceptions([&] { act(place_of(pc, Action::block_barrier, Space::none, 0, 0, nullptr), 0); });
}

void Counter::collective(WarpOperation operation, const void* pc) {
    if (!counts()) return;
    Action action = operation ? Action::collective : Action::warp_barrier;
    without_exceptions([&] { act(place_of(pc, action, Space::none, 0, 0, (const void*)operation), 0); });
}

void note_access(const void* address, std::size_t bytes, bool write, const void* caller) {
    without_exceptions(
        [&] { counter.access((const char*)address, bytes, write ? Action::store : Action::load, caller); });
}

void note_atomic(const void* address, std::size_t bytes, const void* caller, bool) {
    without_exceptions([&] { counter.access((const char*)address, bytes, Action::atomic, caller); });
}

void note_strong(const void* address, std::size_t bytes, bool write, const void* caller) {
    note_access(address, bytes, write, caller);
}

void note_compare_and_swap(const void*, std::size_t, const void*) {}

void note_matrix_row(const void* row) {
    const void* caller = __builtin_return_address(0);
    without_exceptions([&] { counter.access((const char*)row, 16, Action::matrix_row, caller); });
}

}  // namespace gpunn_emulator

using namespace gpunn_emulator;

#define GPUNN_HOOK extern "C" __attribute__((visibility("default")))

// What compiled code calls: -fsanitize=thread and -fsanitize-coverage=trace-pc ask for it.
#define GPUNN_PC __builtin_return_address(0)
#define GPUNN_ACCESS_HOOKS(bytes)                                                                           \
    GPUNN_HOOK void __tsan_read##bytes(char* p) { note_access(p, bytes, false, GPUNN_PC); }                 \
    GPUNN_HOOK void __tsan_write##bytes(char* p) { note_access(p, bytes, true, GPUNN_PC); }                 \
    GPUNN_HOOK void __tsan_unaligned_read##bytes(char* p) { note_access(p, bytes, false, GPUNN_PC); }       \
    GPUNN_HOOK void __tsan_unaligned_write##bytes(char* p) { note_access(p, bytes, true, GPUNN_PC); }

GPUNN_ACCESS_HOOKS(1)
GPUNN_ACCESS_HOOKS(2)
GPUNN_ACCESS_HOOKS(4)
GPUNN_ACCESS_HOOKS(8)
GPUNN_ACCESS_HOOKS(16)

GPUNN_HOOK void __tsan_read_range(char* p, std::size_t bytes) { note_access(p, bytes, false, GPUNN_PC); }
GPUNN_HOOK void __tsan_write_range(char* p, std::size_t bytes) { note_access(p, bytes, true, GPUNN_PC); }

#define GPUNN_COPY_HOOKS(prefix)                                                                   \
    GPUNN_HOOK void* prefix##memcpy(char* to, const char* from, std::size_t bytes) {               \
        note_access(from, bytes, false, GPUNN_PC);                                                 \
        note_access(to, bytes, true, GPUNN_PC);                                                    \
        return std::memcpy(to, from, bytes);                                                       \
    }                                                                                              \
    GPUNN_HOOK void* prefix##memmove(char* to, const char* from, std::size_t bytes) {              \
        note_access(from, bytes, false, GPUNN_PC);                                                 \
        note_access(to, bytes, true, GPUNN_PC);                                                    \
        return std::memmove(to, from, bytes);                                                      \
    }                                                                                              \
    GPUNN_HOOK void* prefix##memset(char* to, int value, std::size_t bytes) {                      \
        note_access(to, bytes, true, GPUNN_PC);                                                    \
        return std::memset(to, value, bytes);                                                      \
    }

GPUNN_COPY_HOOKS(__tsan_)
GPUNN_COPY_HOOKS(__wrap_)  // what clang's code calls in the place of memcpy, see ../build.py

GPUNN_HOOK void __tsan_vptr_update(char* p, void*) { note_access(p, sizeof p, true, GPUNN_PC); }
GPUNN_HOOK void __tsan_vptr_read(char* p) { note_access(p, sizeof p, false, GPUNN_PC); }
GPUNN_HOOK void __tsan_init() {}
GPUNN_HOOK void __tsan_func_entry(void* caller) {
    without_exceptions([&] { counter.enter_function(caller); });
}
GPUNN_HOOK void __tsan_func_exit() { counter.leave_function(); }
GPUNN_HOOK void __sanitizer_cov_trace_pc() {
    const void* pc = GPUNN_PC;
    without_exceptions([&] { counter.block(pc); });
}

// --- what Python asks ------------------------------------------------------------------------------------

// What the next launch is to know.
GPUNN_HOOK void gpunn_emulator_count_next(const CountSettings* settings) { counter.prepare(*settings); }

// What the last launch did, until the next one begins; returns the number of places.
GPUNN_HOOK int gpunn_emulator_counts(const PlaceCount** places, LaunchCount* launch) {
    *places = counter.places().data();
    *launch = counter.launch_count();
    return (int)counter.places().size();
}

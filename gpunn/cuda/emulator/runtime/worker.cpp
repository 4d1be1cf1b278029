#include "worker.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

#include <algorithm>
#include <atomic>
#include <cfenv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <new>

#include "cluster.h"
#include "floats.h"
#include "watcher.h"

namespace gpunn_emulator {

__thread Current current;
__thread Worker* worker;

namespace {

const std::size_t dynamic_shared_capacity = 256 * 1024;

// What is rounded up goes unseen when a kernel runs past the end in fast mode. A pattern of a swizzle has up to 1024
// bytes: where there is room for it, it is to begin with the memory.
std::size_t dynamic_shared_alignment(std::size_t bytes) {
    std::size_t alignment = 128;
    while (alignment < 1024 && 2 * alignment <= bytes) alignment *= 2;
    return alignment;
}

// After so many rounds nothing will happen any more, unless what a kernel does between its questions is an answer.
const unsigned most_polls_in_vain = 100;

unsigned bit(unsigned i) { return 1u << i; }

unsigned first(unsigned mask) { return (unsigned)__builtin_ctz(mask); }

// Memory whose content is a NaN in every floating-point format: a read of what no thread has written shows.
void fill(char* memory, std::size_t bytes) { std::memset(memory, 0xff, bytes); }

std::uint64_t mixed(std::uint64_t x) {  // the finaliser of SplitMix64
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

// Of the handler of faults. A signal's frame has all registers: 11 KiB on the largest processors.
const std::size_t signal_stack_bytes = 64 * 1024;

std::atomic<std::size_t> mapped_stacks{0};

const long short_turn = 25 * 1000;  // ns, of a thread that is known to wait in a loop

long page_faults() {
    rusage usage;
    return getrusage(RUSAGE_THREAD, &usage) ? 0 : usage.ru_minflt;
}

struct TlsIndex {
    unsigned long module, offset;
};

}  // namespace

extern "C" void* __tls_get_addr(TlsIndex*);

std::size_t most_stacks() {
    static const std::size_t most = [] {
        std::size_t mappings = 65530;
        if (std::FILE* file = std::fopen("/proc/sys/vm/max_map_count", "r")) {
            if (std::fscanf(file, "%zu", &mappings) != 1) mappings = 65530;
            std::fclose(file);
        }
        return mappings / 4;
    }();
    return most;
}

Worker::Worker() : signal_stack_(new char[signal_stack_bytes]) {
    fibers_.reset(new Fiber[max_threads]());
    fiber_room_ = max_threads;
    stacks_.reserve(max_threads);
    free_stacks_.reserve(max_threads);
    dynamic_end_ = map_dynamic_shared();
    if (!dynamic_end_) throw std::bad_alloc();
}

// Returns the end of it, which is the beginning of a page that must not be touched, or null.
char* Worker::map_dynamic_shared() {
    std::size_t page = (std::size_t)sysconf(_SC_PAGESIZE), bytes = dynamic_shared_capacity + page;
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    char* memory = (char*)mmap(nullptr, bytes, PROT_NONE, flags, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    if (mprotect(memory, dynamic_shared_capacity, PROT_READ | PROT_WRITE)) {
        munmap(memory, bytes);
        return nullptr;
    }
    return memory + dynamic_shared_capacity;
}

// CUDA keeps the first KiB. Addresses are what the pointers are modulo 1024: swizzles of both are the same.
void Worker::lay_out_window() {
    auto place_at = [](unsigned least, const char* memory) {
        return (least + 1023) / 1024 * 1024 + (unsigned)((std::uintptr_t)memory % 1024);
    };
    block_.static_window = place_at(1024, block_.static_shared);
    std::size_t behind_static = block_.static_window + block_.static_shared_bytes + 2 * window_margin;
    block_.dynamic_window = place_at((unsigned)behind_static, block_.dynamic_shared);
}

bool Worker::begin(Launch& launch, std::size_t expected_stacks, Cluster* cluster, unsigned rank) {
    while (stacks_.size() < expected_stacks)
        if ((stacks_.size() && mapped_stacks > most_stacks()) || !add_stack()) return false;
    const Request& request = launch.request;
    TlsIndex index{request.library->shared_module, 0};
    block_.static_shared_bytes = request.library->shared_bytes;
    block_.static_shared = block_.static_shared_bytes ? (char*)__tls_get_addr(&index) : nullptr;
    launch_ = &launch;
    worker = this;
    current.block = &block_;
    if (fiber_room_ < max_threads) {  // blocks were held in the last launch
        fibers_.reset(new (std::nothrow) Fiber[max_threads]());
        thread_count_ = 0;
        if (!fibers_) return false;
        fiber_room_ = max_threads;
    }
    sightings_.reset();
    lay_out_threads(dim3(request.block[0], request.block[1], request.block[2]));
    block_.is_cooperative = request.cooperative;
    block_.grid_dim = dim3(request.grid[0], request.grid[1], request.grid[2]);
    block_.is_explicit_cluster = request.cluster[0] != 0;
    block_.cluster_dim = dim3(1, 1, 1);
    if (block_.is_explicit_cluster) block_.cluster_dim = dim3(request.cluster[0], request.cluster[1], request.cluster[2]);
    block_.cluster_size = launch.cluster_size;
    block_.cluster_rank = rank;
    const dim3& size = block_.cluster_dim;
    block_.cluster_index = uint3{rank % size.x, rank / size.x % size.y, rank / size.x / size.y};
    cluster_ = cluster;
    pause_ = Pause::none;
    std::size_t alignment = dynamic_shared_alignment(request.dynamic_shared_bytes);
    std::size_t rounded = (request.dynamic_shared_bytes + alignment - 1) & ~(alignment - 1);
    block_.dynamic_shared = dynamic_end_ - rounded;
    block_.dynamic_shared_bytes = request.dynamic_shared_bytes;
    lay_out_window();
    stacks_needed_ = 0;
    was_put_aside_ = false;
    asked_to_leave_ = asked_to_take_turns_ = 0;
    takes_turns_ = false;
    written_ = nullptr;
    std::fegetenv(&floats_);
    launch.count_workers(1);
    if (cluster) cluster->join(rank, *this);
    stack_t stack{};
    stack.ss_sp = signal_stack_.get();
    stack.ss_size = signal_stack_bytes;
    sigaltstack(&stack, &previous_signal_stack_);
    return true;
}

void Worker::end() {
    sigaltstack(&previous_signal_stack_, nullptr);
    // Pages of stacks may be among those that this launch has touched first, if it touched many.
    if (stacks_needed_ > 1 && page_faults() - page_faults_ > 2 * (long)stacks_needed_)
        for (const Stack& stack : stacks_) trim_stack(stack);
    std::size_t kept = max_threads / launch_->cluster_size;
    for (; stacks_.size() > kept; stacks_.pop_back(), mapped_stacks--) unmap_stack(stacks_.back());
    drop_held();
    suspended_ = nullptr;
    cluster_ = nullptr;
    set_stuck(false);
    launch_->count_workers(-1);
    worker = nullptr;
    current = Current{};
    launch_ = nullptr;
}

void Worker::lay_out_threads(dim3 dim) {
    dim3 old = block_.block_dim;
    if (thread_count_ && old.x == dim.x && old.y == dim.y && old.z == dim.z) return;
    block_.block_dim = dim;
    thread_count_ = dim.x * dim.y * dim.z;
    lay_out_fibers();
}

void Worker::lay_out_fibers() {
    const dim3& dim = block_.block_dim;
    for (unsigned i = 0; i < thread_count_; i++) {
        Fiber& fiber = fibers_[i];
        fiber.index = uint3{i % dim.x, i / dim.x % dim.y, i / dim.x / dim.y};
        fiber.number = i;
        fiber.lane = i % warp_size;
        fiber.warp = i / warp_size;
    }
}

void Worker::fill_shared_memory() {
    if (block_.static_shared) fill(block_.static_shared, block_.static_shared_bytes);
    fill(block_.dynamic_shared, block_.dynamic_shared_bytes);
}

void Worker::set_block(std::uint64_t number) {
    const unsigned* grid = launch_->request.grid;
    block_number_ = number;
    block_.index.x = (unsigned)(number % grid[0]);
    block_.index.y = (unsigned)(number / grid[0] % grid[1]);
    block_.index.z = (unsigned)(number / grid[0] / grid[1]);
}

void Worker::start_block(std::uint64_t number) {
    const Request& request = launch_->request;
    set_block(number);
    fill_shared_memory();

    live_threads_ = thread_count_;
    waiting_at_barrier_ = waiting_at_grid_ = 0;
    pause_ = Pause::none;
    yes_ = no_ = 0;
    ready_warps_ = 0;
    for (unsigned w = 0; w * warp_size < thread_count_; w++) {
        unsigned lanes = thread_count_ - w * warp_size;
        unsigned mask = lanes >= warp_size ? ~0u : bit(lanes) - 1;
        warps_[w] = Warp{mask, mask, 0, 0, 0, 0, 0, 0};
        ready_warps_ |= bit(w);
    }
    for (unsigned i = 0; i < thread_count_; i++) {
        fibers_[i].started = false;
        fibers_[i].copies.clear();
        fibers_[i].committed_groups = 0;
        fibers_[i].mbarrier = nullptr;
        fibers_[i].stores.clear();
        fibers_[i].products.clear();
        fibers_[i].arrived.clear();
        fibers_[i].reads.clear();
        fibers_[i].committed_stores = fibers_[i].committed_products = 0;
        fibers_[i].has_fenced_registers = false;
        fibers_[i].has_arrived = false;
    }
    alone_ = ClusterBarrier{};
    alone_.threads = thread_count_;
    mbarriers_.clear();
    loads_.clear();
    if (held_.empty()) free_stacks_ = stacks_;
    in_operation_ = false;
    progress();
    // Seeded by the block's number, so that a shuffled launch does not depend on which worker runs which
    // block.
    random_ = mixed(request.seed * 0x9e3779b97f4a7c15u + number + 1) | 1;
    warp_turn_ = choose(ready_warps_, request.order == (int)Order::forward ? 31 : 0);
    lane_turn_ = request.order == (int)Order::forward ? 31 : 0;
#ifdef GPUNN_EMULATOR_WATCH
    watcher.begin_block(*this);
#endif

    make_current(*next_runnable());
    give_stack(*fiber_);
    suspended_ = fiber_;
}

// Runs the block to its end, or until it is suspended again.
void Worker::go_on() {
    make_current(*suspended_);
    suspended_ = nullptr;
#ifdef GPUNN_EMULATOR_CHECK
    if (launch_->request.floats) watch_floats(launch_->request.floats);
#endif
    switch_context(scheduler_, fiber_->context);
#ifdef GPUNN_EMULATOR_CHECK
    if (launch_->request.floats) watch_floats(0);
#endif
    fiber_ = nullptr;
}

// --- blocks that wait for others -------------------------------------------------------------------------

// Makes a block the one to go on with: a new one while those that were put aside wait for it, and else the one that has
// waited longest. Returns false if all have ended. None is made so if all wait for blocks of other workers.
bool Worker::next_block() {
    if (cluster_) return next_of_cluster();
    if (is_stopped()) drop_held();
    else if ((held_.empty() || was_put_aside_) && begin_next()) return true;
    else if (resume_next() || begin_next()) return true;
    if (held_.empty()) return false;
    wait_for_others();
    return true;
}

bool Worker::begin_next() {
    if (!held_.empty() && !has_room()) return false;
    std::int64_t block = launch_->take_block();
    if (block < 0) return false;
    start_block((std::uint64_t)block);
    return true;
}

// Whether a block may begin beside those that are held.
bool Worker::has_room() {
    if (held_.size() >= launch_->share() || !launch_->has_room() || !fibers_) return false;
    std::size_t missing = thread_count_ - std::min((std::size_t)thread_count_, free_stacks_.size());
    if (mapped_stacks + missing > most_stacks()) return false;
    try {
        std::size_t needed = stacks_.size() + missing;
        if (stacks_.capacity() < needed) stacks_.reserve(2 * needed);
        free_stacks_.reserve(stacks_.capacity());
    } catch (const std::bad_alloc&) {
        return false;
    }
    return !free_stacks_.empty() || add_stack();
}

bool Worker::resume_next() {
    auto next = std::find_if(held_.begin(), held_.end(), [&](const HeldBlock& held) {
        return held.run.pause_ == Pause::in_loops || held.run.grid_turn_ <= launch_->grid_turn();
    });
    if (next == held_.end()) return false;
    static_cast<BlockRun&>(*this) = std::move(next->run);
    set_block(block_number_);
#ifdef GPUNN_EMULATOR_WATCH
    watcher.resume_block(*this);
#endif
    std::copy(next->static_shared.begin(), next->static_shared.end(), block_.static_shared);
    std::copy(next->dynamic_shared.begin(), next->dynamic_shared.end(), block_.dynamic_shared);
    held_.erase(next);
    launch_->count_held(-1);
    if (pause_ == Pause::at_grid) {
        open_barrier();
        make_current(*next_runnable());
    } else {
        go_on_in_loops();
    }
    pause_ = Pause::none;
    if (!fiber_->started && free_stacks_.empty() && !add_stack()) {
        report_no_stacks(memory_failure());
        fiber_ = nullptr;
        return false;
    }
    if (!fiber_->started) give_stack(*fiber_);
    suspended_ = fiber_;
    fiber_ = nullptr;
    return true;
}

// Each of the threads looks whether its wait is over. The turn is that of the one that comes next.
void Worker::go_on_in_loops() {
    for (unsigned w = 0; w * warp_size < thread_count_; w++)
        turns_before_pause_ += (unsigned)__builtin_popcount(warps_[w].ready);
    make_current(fibers_[warp_turn_ * warp_size + lane_turn_]);
    tick_after(short_turn);
}

// After a block has ended, or has given its place away.
void Worker::end_turn() {
    turns_before_pause_ = 0;
    if (cluster_) return end_turn_in_cluster();
    was_put_aside_ = pause_ != Pause::none;
    if (was_put_aside_) return put_aside();
    if (block_.is_cooperative) launch_->note_ended(live_threads_ > 0);
    if (!held_.empty()) release_stacks();
}

void Worker::put_aside() {
    launch_->count_held(1);
    try {
        held_.emplace_back();
        HeldBlock& held = held_.back();
        held.static_shared.assign(block_.static_shared, block_.static_shared + block_.static_shared_bytes);
        held.dynamic_shared.assign(block_.dynamic_shared, block_.dynamic_shared + block_.dynamic_shared_bytes);
#ifdef GPUNN_EMULATOR_WATCH
        watcher.hold_block();
#endif
        held.run = std::move(static_cast<BlockRun&>(*this));
    } catch (const std::bad_alloc&) {
        report_no_stacks("no memory");
        return;
    }
    fibers_.reset(new (std::nothrow) Fiber[thread_count_]());  // without, no further block begins, see has_room()
    fiber_room_ = fibers_ ? thread_count_ : 0;
    if (fibers_) lay_out_fibers();
}

void Worker::drop_held() {
    launch_->count_held(-(int)held_.size());
    held_.clear();
}

// --- blocks of a cluster ---------------------------------------------------------------------------------

// Makes the block of the cluster the one to go on with, or a new one; returns false if there are none left. None is made
// so if it is another one's turn, or if nothing has come of what it waits for.
bool Worker::next_of_cluster() {
    const std::chrono::milliseconds most{5};
    if (!cluster_->wait_for_turn(block_.cluster_rank, most)) return true;
    happened_before_turn_ = happened_;
    if (!is_stopped() && cluster_->stage(block_.cluster_rank) == Cluster::Stage::begun) {
        if (!resume_in_cluster()) end_turn();
        return true;
    }
    std::int64_t number = is_stopped() ? -1 : cluster_->next_block(block_.cluster_rank);
    if (number < 0) return cluster_->leave(block_.cluster_rank), false;
    set_stuck(false);
    start_block((std::uint64_t)number);
    return true;
}

bool Worker::resume_in_cluster() {
    Pause before = pause_;
    pause_ = Pause::none;
    turns_before_pause_ = 0;
#ifdef GPUNN_EMULATOR_WATCH
    watcher.resume_block(*this);
#endif
    if (cluster_->is_hopeless()) {
        describe_cluster_wait();
        return false;
    }
    if (before == Pause::in_loops) {
        go_on_in_loops();
    } else {
        set_stuck(false);
        polls_in_vain_ = 0;
        Fiber* next = next_runnable();
        if (!next) return false;
        make_current(*next);
    }
    if (!fiber_->started) give_stack(*fiber_);
    suspended_ = fiber_;
    fiber_ = nullptr;
    return true;
}

void Worker::end_turn_in_cluster() {
    Cluster::Left left = pause_ != Pause::none ? Cluster::Left::to_go_on
                         : live_threads_       ? Cluster::Left::given_up
                                               : Cluster::Left::ended;
#ifdef GPUNN_EMULATOR_CHECK
    if (left == Cluster::Left::ended) checker.end_block();
    if (left == Cluster::Left::given_up) checker.settle_store();
#endif
#ifdef GPUNN_EMULATOR_WATCH
    if (left == Cluster::Left::to_go_on) watcher.hold_block();
#endif
    if (pause_ != Pause::in_loops) set_stuck(true);
    cluster_->pass_turn(block_.cluster_rank, left, happened_ != happened_before_turn_);
}

bool Worker::can_go_on(bool asks) const {
    if (pause_ == Pause::in_loops || ready_warps_) return true;
    for (unsigned w = 0; asks && w * warp_size < thread_count_; w++)
        if (warps_[w].polling) return true;
    return false;
}

// Whether other blocks may bring what threads wait for.
bool Worker::waits_for_cluster() const {
    for (unsigned w = 0; w * warp_size < thread_count_; w++)
        if (warps_[w].at_cluster | warps_[w].polling) return true;
    return false;
}

unsigned Worker::hanging() const {
    unsigned most = 0;
    for (unsigned w = 0; w * warp_size < thread_count_; w++) {
        const Warp& warp = warps_[w];
        most = std::max(most, warp.polling ? 2u : warp.at_barrier | warp.in_collective | warp.in_warpgroup ? 1u : 0u);
    }
    return most;
}

bool Worker::may_give_place() const {
    return cluster_ ? cluster_->others_are_there(block_.cluster_rank) : !held_.empty() || launch_->blocks_to_come();
}

bool Worker::holds_shared(const void* address) const {
    return (std::size_t)((const char*)address - block_.static_shared) < block_.static_shared_bytes ||
           (std::size_t)((const char*)address - block_.dynamic_shared) < block_.dynamic_shared_bytes;
}

// A pointer behind the last element may be mapped, and the begin of dynamic shared memory that has no bytes.
bool Worker::shared_ends_at(const void* address) const {
    return address == block_.dynamic_shared + block_.dynamic_shared_bytes ||
           (block_.static_shared_bytes && address == block_.static_shared + block_.static_shared_bytes);
}

ClusterBarrier& Worker::cluster_barrier() { return cluster_ ? cluster_->barrier : alone_; }

void Worker::cluster_arrive(bool releases, const void* caller) {
    leave_if_asked();
    if (fiber_->has_arrived) {
        Report report = describe(Kind::divergent_barrier, caller);
        std::snprintf(report.message, sizeof report.message,
                      "arrives twice at a barrier of the cluster, with no wait for it between");
        fail(report);
    }
    ClusterBarrier& barrier = cluster_barrier();
    fiber_->has_arrived = true;
    fiber_->cluster_turn = barrier.turn + 1;
    barrier.arrived++;
    barrier.releases |= releases;
    progress();
    complete_cluster_barrier();
}

void Worker::cluster_wait(const void* caller) {
    Fiber& fiber = *fiber_;
    if (!fiber.has_arrived) {
        Report report = describe(Kind::divergent_barrier, caller);
        std::snprintf(report.message, sizeof report.message,
                      "waits at a barrier of the cluster, at which it has not arrived");
        fail(report);
    }
#ifdef GPUNN_EMULATOR_COUNT
    counter.barrier(caller);
#endif
    fiber.has_arrived = false;
    if (fiber.cluster_turn <= cluster_barrier().turn) return leave_if_asked();
    wait_among(&Warp::at_cluster, caller);
}

// The running thread waits, and counts among those lanes of its warp.
void Worker::wait_among(unsigned Warp::*lanes, const void* caller) {
    Fiber& fiber = *fiber_;
    Warp& warp = warps_[fiber.warp];
    fiber.caller = caller;
    warp.ready &= ~bit(fiber.lane);
    warp.*lanes |= bit(fiber.lane);
    wait(fiber);
}

// Those lanes of all warps go on; returns whether there are any.
bool Worker::make_ready(unsigned Warp::*lanes) {
    bool any = false;
    for (unsigned w = 0; w * warp_size < thread_count_; w++) {
        Warp& warp = warps_[w];
        if (!(warp.*lanes)) continue;
        any = true;
        warp.ready |= warp.*lanes;
        warp.*lanes = 0;
        ready_warps_ |= bit(w);
    }
    return any;
}

// Opens the barrier if all threads of the cluster that have not returned have arrived, which is what CUDA waits for.
void Worker::complete_cluster_barrier() {
    ClusterBarrier& barrier = cluster_barrier();
    if (!barrier.arrived || barrier.arrived < barrier.threads) return;
    barrier.arrived = 0;
    barrier.turn++;
#ifdef GPUNN_EMULATOR_CHECK
    checker.cluster_barrier(barrier.releases);
#endif
    barrier.releases = false;
    if (!cluster_) return (void)make_ready(&Warp::at_cluster);
    for (unsigned rank = 0; rank < cluster_->size(); rank++)
        if (cluster_->stage(rank) == Cluster::Stage::begun) cluster_->worker(rank).make_ready(&Warp::at_cluster);
}

// Nothing that the cluster does can end the waits of this block.
void Worker::describe_cluster_wait() {
    if (describe_waits()) return;
    unsigned at_barrier = 0, in_collective = 0;
    const Fiber* example = nullptr;
    for (unsigned i = 0; i < thread_count_; i++) {
        const Warp& warp = warps_[i / warp_size];
        if (warp.at_cluster >> (i % warp_size) & 1 && !example) example = &fibers_[i];
        at_barrier += warp.at_barrier >> (i % warp_size) & 1;
        in_collective += warp.in_collective >> (i % warp_size) & 1;
    }
    if (!example) return;
    fiber_ = const_cast<Fiber*>(example);
    Report report = describe(Kind::deadlock, example->caller);
    const ClusterBarrier& barrier = cluster_barrier();
    std::snprintf(report.message, sizeof report.message,
                  "waits at a barrier of the cluster, at which %u of its %u threads have arrived; of this block %u wait at "
                  "a block barrier, %u in an operation of a warp or a tile",
                  barrier.arrived, barrier.threads, at_barrier, in_collective);
    fiber_ = nullptr;
    add(report);
}

// --- stacks ----------------------------------------------------------------------------------------------

// Those of a block that has ended: of its last thread, and of those that it was given up with.
void Worker::release_stacks() {
    for (unsigned i = 0; i < thread_count_; i++) {
        Fiber& fiber = fibers_[i];
        if (!fiber.started || !fiber.stack.low) continue;
        free_stacks_.push_back(fiber.stack);
        fiber.stack = Stack{};
    }
}

// All blocks of this worker are at a barrier across the grid.
void Worker::wait_for_others() {
    const std::chrono::milliseconds most{5};
    if (is_stopped()) return;
    if (launch_->blocks_to_come() && held_.size() < launch_->share())
        return report_no_stacks("a process may have so many mappings, see vm.max_map_count");
    if (launch_->grid_is_hopeless()) return report_grid_deadlock();
    set_stuck(true);
    launch_->wait_for_grid(held_.front().run.grid_turn_, most);
    if (held_.front().run.grid_turn_ <= launch_->grid_turn()) set_stuck(false);
}

void Worker::report_no_stacks(const char* why) {
    Report report = describe(Kind::resources, nullptr);
    std::snprintf(report.message, sizeof report.message,
                  "there is no room for more than %d of its %llu blocks at once: %s", launch_->held(),
                  (unsigned long long)launch_->block_count, why);
    add(report);
    launch_->stop();
}

// Returns when work() is called again; if the launch is stopped, gives the block up instead.
void Worker::leave() {
    asked_to_leave_ = 0;
    int rounding = std::fegetround();  // a kernel may have been interrupted where it rounds in another way
    std::fesetround(FE_TONEAREST);
    if (is_stopped()) stop_block();
    suspended_ = fiber_;
    switch_context(suspended_->context, scheduler_);
    std::fesetround(rounding);
}

bool Worker::runs_kernels_own_code(const void* pc) const {
    if (!runs_kernel()) return false;
    const Library& library = *launch_->request.library;
    return pc >= library.image_begin && pc < library.image_end;
}

// --- turns -----------------------------------------------------------------------------------------------

// Which of the candidates comes after `after` in the order of this launch.
unsigned Worker::choose(unsigned candidates, unsigned after) {
    switch ((Order)launch_->request.order) {
    case Order::forward: {
        unsigned later = candidates & ~(bit(after) | (bit(after) - 1));
        return first(later ? later : candidates);
    }
    case Order::reverse: {
        unsigned earlier = candidates & (bit(after) - 1);
        return 31 - (unsigned)__builtin_clz(earlier ? earlier : candidates);
    }
    case Order::shuffled: break;
    }
    random_ ^= random_ << 13;
    random_ ^= random_ >> 7;
    random_ ^= random_ << 17;
    unsigned turn = (unsigned)(random_ >> 40) & 31;
    unsigned rotated = candidates >> turn | candidates << ((32 - turn) & 31);
    return (first(rotated) + turn) & 31;
}

// The fiber to continue with, or null when the block is complete or cannot continue. A warp keeps its turn for as
// long as one of its lanes can run: neighbouring threads use neighbouring memory.
Fiber* Worker::next_runnable() {
    for (;;) {
        Warp& warp = warps_[warp_turn_];
        unsigned first_fiber = warp_turn_ * warp_size;
        if (warp.ready) {
            lane_turn_ = choose(warp.ready, lane_turn_);
            return &fibers_[first_fiber + lane_turn_];
        }
        if (warp.gathering) {
            resolve_active_mask(warp, first_fiber);
            continue;
        }
        ready_warps_ &= ~bit(warp_turn_);
        if (ready_warps_) {
            warp_turn_ = choose(ready_warps_, warp_turn_);
            lane_turn_ = launch_->request.order == (int)Order::forward ? 31 : 0;
        } else if (live_threads_ == 0) {
            return nullptr;
        } else if (waiting_at_barrier_ < live_threads_ && polls_in_vain_ < (cluster_ ? 2 : most_polls_in_vain) &&
                   resume_pollers()) {
            polls_in_vain_++;
        } else if (cluster_ && waits_for_cluster()) {
            pause_ = Pause::in_cluster;
            return nullptr;
        } else if (!release_barrier()) {
            return nullptr;
        }
    }
}

void Worker::make_current(Fiber& fiber) {
    fiber_ = &fiber;
    current.thread = &fiber;
}

// A thread gets a stack when it first runs and hands it on when it returns: where no thread ever waits, a
// single stack serves the block and stays in the cache.
void Worker::give_stack(Fiber& fiber) {
    if (free_stacks_.empty() && !add_stack()) fail_for_memory("the stacks of a block's threads", memory_failure());
    fiber.stack = free_stacks_.back();
    free_stacks_.pop_back();
    std::size_t in_use = stacks_.size() - free_stacks_.size();
    if (in_use == 2 && stacks_needed_ == 1) page_faults_ = page_faults();
    stacks_needed_ = std::max(stacks_needed_, in_use);
    fiber.started = true;
    start_context(fiber.context, fiber.stack, fiber_main);
}

bool Worker::add_stack() {
    Stack stack;
    if (!map_stack(stack, stacks_.size())) return false;
    mapped_stacks++;
    stacks_.push_back(stack);
    free_stacks_.push_back(stack);
    return true;
}

// Leaves a fiber for the next one, and returns when it is continued.
inline void Worker::change(Fiber& fiber, Fiber* next) {
    if (next == &fiber) return;
    if (!next) return switch_context(fiber.context, scheduler_);  // the block waits for others, or cannot go on
    make_current(*next);
    if (!next->started) give_stack(*next);
    switch_context(fiber.context, next->context);
}

// Runs other fibers until this one, which the caller has taken out of `ready`, may continue.
void Worker::wait(Fiber& fiber) {
    leave_if_asked();
    change(fiber, next_runnable());
}

void Worker::fiber_main() {
    Worker& self = *worker;
    for (;;) {
        self.launch_->request.entry(self.launch_->request.arguments);
        Fiber& finished = *self.fiber_;
        self.finish(finished);
        Fiber* next = self.next_runnable();
        if (!next) self.stop_block();
        self.make_current(*next);
        if (!next->started) {  // it can start right here
            next->stack = finished.stack;
            next->started = true;
            finished.stack = Stack{};
            continue;
        }
        self.free_stacks_.push_back(finished.stack);
        finished.stack = Stack{};
        switch_context(finished.context, next->context);
    }
}

void Worker::exit_thread() {
    Fiber& finished = *fiber_;
    finish(finished);
    Fiber* next = next_runnable();
    if (!next) stop_block();
    make_current(*next);
    if (!next->started) give_stack(*next);
    free_stacks_.push_back(finished.stack);
    finished.stack = Stack{};
    switch_context(finished.context, next->context);
    __builtin_unreachable();
}

void Worker::finish(Fiber& fiber) {
    Warp& warp = warps_[fiber.warp];
    unsigned first_fiber = fiber.warp * warp_size;
    warp.live &= ~bit(fiber.lane);
    warp.ready &= ~bit(fiber.lane);
    live_threads_--;
    progress();
    finish_stores(fiber);
    ClusterBarrier& barrier = cluster_barrier();
    barrier.threads--;
    if (fiber.has_arrived && fiber.cluster_turn > barrier.turn) barrier.arrived--;
    complete_cluster_barrier();
    // Lanes may be waiting for this one, which will not come any more.
    for (unsigned waiting = warp.in_collective; waiting; waiting &= waiting - 1) {
        const Fiber& other = fibers_[first_fiber + first(waiting)];
        if (!(other.mask >> fiber.lane & 1)) continue;
#ifdef GPUNN_EMULATOR_CHECK
        checker.lane_left_collective(*this, other, fiber);
#endif
        if (try_collective(warp, first_fiber, other)) break;
    }
}

void Worker::stop_block() {
    Context abandoned;
    switch_context(abandoned, scheduler_);
    __builtin_unreachable();
}

// The other lanes of the warp get a turn, and then the other warps: the thread that this one waits for may be anywhere.
void Worker::yield(const void* caller) {
    take_turns_if_asked(caller);
    Fiber& fiber = *fiber_;
    if (is_alone(fiber)) resume_pollers();
    unsigned ready = warps_[fiber.warp].ready, others = ready_warps_ & ~bit(fiber.warp), to_come = 0;
    switch ((Order)launch_->request.order) {
    case Order::forward: to_come = ready & ~(bit(fiber.lane) | (bit(fiber.lane) - 1)); break;
    case Order::reverse: to_come = ready & (bit(fiber.lane) - 1); break;
    case Order::shuffled: break;
    }
    lane_turn_ = fiber.lane;
    if (others && !to_come) {
        warp_turn_ = choose(others, fiber.warp);
        lane_turn_ = launch_->request.order == (int)Order::forward ? 31 : 0;
    }
    wait(fiber);
}

// Whether no other thread can run.
bool Worker::is_alone(const Fiber& fiber) const {
    for (unsigned w = 0; w * warp_size < thread_count_; w++)
        if (warps_[w].ready & ~(w == fiber.warp ? bit(fiber.lane) : 0)) return false;
    return true;
}

// The next one that can run, in the order of the launch or that of threads; the last one of all is the fiber itself.
Fiber* Worker::one_after(const Fiber& fiber) {
    unsigned step = launch_->request.order == (int)Order::reverse ? thread_count_ - 1 : 1, i = fiber.number;
    do i = (i + step) % thread_count_;
    while (!(warps_[i / warp_size].ready >> (i % warp_size) & 1));
    warp_turn_ = i / warp_size;
    lane_turn_ = i % warp_size;
    return &fibers_[i];
}

// --- threads that wait in a loop -------------------------------------------------------------------------

// A thread that waits in a loop gives others a turn at the next tick, every thread after a longer time: it may wait in
// a loop that counts. Only what waits is interrupted in that time, so what does not runs in the order of the launch.
const std::int64_t longest_turn = 2000 * 1000 * 1000ll, longest_wait = 5000 * 1000 * 1000ll,
                   look_every = 1000 * 1000;  // ns

bool Sightings::see(std::uint64_t state, std::uint64_t happened) {
    if (happened_ != happened) {
        happened_ = happened;
        count_ = 0;
        repeated_ = 0;
    }
    bool known = false;
    for (unsigned i = 0; i < std::min(count_, most) && !known; i++) known = states_[i] == state;
    if (!known) states_[count_++ % most] = state;
    repeated_ = std::min(std::max(0, repeated_ + (known ? 1 : -1)), 2 * enough);  // it may compute from now on
    showed_ |= known;
    return known;
}

Interruption interruption_of(const void* context) {
#if defined(__x86_64__)
    const greg_t* registers = ((const ucontext_t*)context)->uc_mcontext.gregs;
    return {(const void*)registers[REG_RIP], (const void*)registers[REG_RSP]};
#elif defined(__aarch64__)
    const mcontext_t& machine = ((const ucontext_t*)context)->uc_mcontext;
    return {(const void*)machine.pc, (const void*)machine.sp};
#else
    (void)context;
    return {nullptr, nullptr};
#endif
}

namespace {

std::int64_t now_in_nanoseconds() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

std::uint64_t hash_of(std::uint64_t hash, const void* memory, std::size_t bytes) {
    std::uint64_t word;
    for (std::size_t i = 0; i + sizeof word <= bytes; i += sizeof word) {
        std::memcpy(&word, (const char*)memory + i, sizeof word);
        hash = mixed(hash + word);
    }
    return hash;
}

// Of the variables of the functions that run: those on the stack's end.
std::uint64_t hash_of_stack(std::uint64_t hash, const Stack& stack, const char* end) {
    const std::size_t red_zone = 128, enough = 4096;
    const char *low = end - red_zone, *high = end + enough;
    if (low < stack.low || end >= stack.high) return hash;
    return hash_of(hash, low, (std::size_t)(std::min(high, (const char*)stack.high) - low));
}

#ifndef GPUNN_EMULATOR_WATCH
// Of everything but memory that the interrupted code goes on from.
std::uint64_t state_of(const void* context, const Stack& stack) {
    const mcontext_t& machine = ((const ucontext_t*)context)->uc_mcontext;
    std::uint64_t hash = 0;
#if defined(__x86_64__)
    hash = hash_of(hash, machine.gregs, (REG_RIP + 1) * sizeof machine.gregs[0]);
    if (machine.fpregs) hash = hash_of(hash, machine.fpregs->_xmm, sizeof machine.fpregs->_xmm);
#elif defined(__aarch64__)
    hash = hash_of(hash, machine.regs, sizeof machine.regs);
    hash = hash_of(hash, &machine.pc, sizeof machine.pc);
    hash = hash_of(hash, machine.__reserved, sizeof(fpsimd_context));  // which is there first
#else
    (void)machine;
#endif
    return hash_of_stack(hash, stack, (const char*)interruption_of(context).stack_pointer);
}
#endif

struct StateSearch {
    const Library& library;
    const Stack& stack;
    std::uint64_t hash;
};

_Unwind_Reason_Code look_at_frame(_Unwind_Context* frame, void* data) {
    StateSearch& search = *(StateSearch*)data;
    const void* pc = (const void*)_Unwind_GetIP(frame);
    if (pc < search.library.image_begin || pc >= search.library.image_end) return _URC_NO_REASON;
    search.hash = mixed((std::uint64_t)pc);
#if defined(__x86_64__)
    for (int i : {3, 6, 12, 13, 14, 15}) search.hash = mixed(search.hash + _Unwind_GetGR(frame, i));
#elif defined(__aarch64__)
    for (int i = 19; i <= 29; i++) search.hash = mixed(search.hash + _Unwind_GetGR(frame, i));
#endif
    // What the kernel has on its stack begins here, and below it is a call.
    search.hash = hash_of_stack(search.hash, search.stack, (const char*)_Unwind_GetCFA(frame) + 128);
    return _URC_END_OF_STACK;
}

// The same where the kernel has called: the registers that a call preserves, as they were then.
std::uint64_t state_of_caller(const Library& library, const Stack& stack) {
    StateSearch search{library, stack, 0};
    _Unwind_Backtrace(look_at_frame, &search);
    return search.hash;
}

}  // namespace

void Worker::tick(void* context, bool leaves) {
    const void* pc = interruption_of(context).instruction;
    bool interruptible = runs_kernels_own_code(pc);
    asked_to_take_turns_ = 1;
    if (runs_kernel() && happened_before_ != happened_) set_stuck(false);
    if (leaves || is_stopped()) {
        if (interruptible) leave();
        else asked_to_leave_ = 1;
    }
#ifndef GPUNN_EMULATOR_WATCH
    // Who watches lets turns change, so that an atomic operation and what is noted of it stay together.
    if (!interruptible || in_operation_) return;
    asked_to_take_turns_ = 0;
    Fiber& fiber = *fiber_;
    if (!watch(state_of(context, fiber.stack), (const char*)pc + 1)) return;
    std::fesetenv(&floats_);
    pass_on(fiber);
#endif
}

void Worker::settle_write() {
    if (written_ && std::memcmp(written_, before_, written_bytes_)) progress();
    written_ = nullptr;
}

void Worker::take_turns(const void* pc) {
    asked_to_take_turns_ = 0;
    settle_write();
    Fiber& fiber = *fiber_;
    if (watch(state_of_caller(*launch_->request.library, fiber.stack), pc)) pass_on(fiber);
}

// Gives a fiber a turn after this one, a short one if it is known to wait in a loop; where all of the block do, another
// block.
void Worker::pass_on(Fiber& fiber) {
    const long turn = 250 * 1000;
    // Who asked which lanes are active need not wait for one that is in a loop.
    for (unsigned w = 0; w * warp_size < thread_count_; w++)
        while (warps_[w].gathering) {
            resolve_active_mask(warps_[w], w * warp_size);
            ready_warps_ |= bit(w);
        }
    if (turns_before_pause_) {
        turns_before_pause_--;
    } else if (may_give_place() && only_waits_in_loops(*this, Sightings::once)) {
        one_after(fiber);
        pause_ = Pause::in_loops;
        return switch_context(fiber.context, scheduler_);
    }
    if (is_alone(fiber)) resume_pollers();
    Fiber* next = one_after(fiber);
    const Sightings* sightings = sightings_[next->number].get();
    tick_after(sightings && sightings->showed_waiting() ? short_turn : turn);
    change(fiber, next);
}

// Keeps in which state a tick has found the running thread; returns whether it is to give others a turn.
bool Worker::watch(std::uint64_t state, const void* pc) {
    Fiber& fiber = *fiber_;
    std::int64_t now = now_in_nanoseconds();
    if (happened_before_ != happened_ || watched_ != &fiber) {
        happened_before_ = happened_;
        watched_ = &fiber;
        watched_since_ = now;
    }
    if (!sightings_) sightings_.reset(new (std::nothrow) std::unique_ptr<Sightings>[thread_count_]);
    if (!sightings_) return false;
    std::unique_ptr<Sightings>& sightings = sightings_[fiber.number];
    if (!sightings) sightings.reset(new (std::nothrow) Sightings());
    bool waits = sightings && sightings->see(state, happened_);
    takes_turns_ |= waits || now - watched_since_ > longest_turn;
    if (now - looked_ > look_every) {
        looked_ = now;
        report_if_stuck(now, pc);
    }
    return takes_turns_;
}

// Whether each thread that can run was seen to wait, so many times more than not.
bool Worker::only_waits_in_loops(const BlockRun& run, int times) const {
    for (unsigned w = 0; w * warp_size < thread_count_; w++) {
        if (run.warps_[w].gathering) return false;
        for (unsigned rest = run.warps_[w].ready; rest; rest &= rest - 1) {
            const Sightings* sightings = run.sightings_ ? run.sightings_[w * warp_size + first(rest)].get() : nullptr;
            if (!sightings || !sightings->show_waiting(happened_, times)) return false;
        }
    }
    return true;
}

bool Worker::is_stuck() const {
    auto waits = [&](const HeldBlock& held) {
        if (held.run.pause_ == Pause::at_grid) return held.run.grid_turn_ > launch_->grid_turn();
        return only_waits_in_loops(held.run, Sightings::enough);
    };
    return only_waits_in_loops(*this, Sightings::enough) && std::all_of(held_.begin(), held_.end(), waits);
}

void Worker::set_stuck(bool stuck) {
    if (stuck_.exchange(stuck) != stuck) launch_->count_stuck(stuck ? 1 : -1);
}

// Ends the launch when nobody has done anything but wait for some time.
void Worker::report_if_stuck(std::int64_t now, const void* pc) {
    set_stuck(is_stuck());
    std::uint64_t changes = launch_->changes();
    if (!stuck_ || !launch_->all_are_stuck() || changes_ != changes) {
        changes_ = changes;
        stuck_since_ = now;
        return;
    }
    if (now - stuck_since_ < longest_wait) return;
    unsigned loops = 0, at_barrier = 0, in_collective = 0;
    for (unsigned w = 0; w * warp_size < thread_count_; w++) {
        loops += (unsigned)__builtin_popcount(warps_[w].ready);
        at_barrier += (unsigned)__builtin_popcount(warps_[w].at_barrier);
        in_collective += (unsigned)__builtin_popcount(warps_[w].in_collective);
    }
    Report report = describe(Kind::deadlock, pc);
#ifdef GPUNN_EMULATOR_COUNT
    counter.name_callers(report);
#endif
    int length = std::snprintf(report.message, sizeof report.message,
                               "waits in a loop for what nobody brings, for %d seconds: %u threads of the block wait in "
                               "loops, %u at a block barrier, %u in a warp operation, %u have returned",
                               (int)(longest_wait / 1000000000), loops, at_barrier, in_collective,
                               thread_count_ - live_threads_);
    if (std::uint64_t blocks = launch_->blocks_to_come())
        std::snprintf(report.message + length, sizeof report.message - (std::size_t)length,
                      "; %llu blocks begin when others end, a GPU has room for %llu", (unsigned long long)blocks,
                      (unsigned long long)launch_->request.blocks_at_once);
    add(report);
    launch_->stop();
    stop_block();
}

// --- barriers --------------------------------------------------------------------------------------------

#ifdef GPUNN_EMULATOR_CHECK
namespace {

// Calls visit() with the return addresses in the library, from the first one there on and the innermost first, until it
// says that this is enough. Every frame begins with the address of the one below it, and then the return address.
template <class Visit> void each_call(const Stack& stack, const void* frame, const Library& library, Visit visit) {
    bool there = false;
    while ((const char*)frame >= stack.low && (const char*)frame + 2 * sizeof(void*) <= stack.high) {
        const void* const* words = (const void* const*)frame;
        bool inside = words[1] >= library.image_begin && words[1] < library.image_end;
        if ((there && !inside) || (inside && !visit(words[1]))) break;
        there = inside;
        if (words[0] <= frame) break;  // the first frame, or code without frames
        frame = words[0];
    }
}

// Tells apart the calls that led to a barrier: a device function with a barrier in it may be called in two branches.
std::size_t hash_of_calls(const Stack& stack, const void* frame, const Library& library) {
    std::size_t hash = 0;
    each_call(stack, frame, library, [&](const void* to) {
        hash = (std::size_t)mixed(hash + (std::size_t)to);
        return true;
    });
    return hash;
}

// The calls of the library that led to `pc`.
void find_callers(const Stack& stack, const void* frame, const Library& library, Report& report) {
    bool beyond = false;
    int count = 0;
    each_call(stack, frame, library, [&](const void* to) {
        if (!beyond) return beyond = to == report.pc, true;
        report.callers[count++] = to;
        return count < most_callers;
    });
}

}  // namespace
#endif

__attribute__((always_inline)) inline void Worker::come_to_barrier(Barrier barrier, int site, const void* caller,
                                                                   const void* frame) {
    Fiber& fiber = *fiber_;
    Warp& warp = warps_[fiber.warp];
    fiber.barrier = barrier;
    fiber.site = site;
    fiber.caller = caller;
#ifdef GPUNN_EMULATOR_COUNT
    counter.barrier(caller);
#endif
#ifdef GPUNN_EMULATOR_CHECK
    fiber.call_path = hash_of_calls(fiber.stack, frame, *launch_->request.library);
#else
    (void)frame;
#endif
    warp.ready &= ~bit(fiber.lane);
    warp.at_barrier |= bit(fiber.lane);
    waiting_at_barrier_++;
    wait(fiber);
}

Vote Worker::block_barrier(int predicate, int site, const void* caller, const void* frame) {
    (predicate ? yes_ : no_)++;
    come_to_barrier(Barrier::block, site, caller, frame);
    return vote_;
}

void Worker::grid_barrier(Barrier barrier, int site, const void* caller, const void* frame) {
    if (!block_.is_cooperative) {
        Report report = describe(Kind::trap, caller);
        std::snprintf(report.message, sizeof report.message,
                      "a barrier across the grid in a launch that is not cooperative: make the kernel with "
                      "enable_cooperative_groups=True");
        fail(report);
    }
    waiting_at_grid_++;
    come_to_barrier(barrier, site, caller, frame);
}

// Lets the threads at the barrier continue if all that have not returned are there, which is what CUDA waits
// for.
bool Worker::release_barrier() {
    if (waiting_at_barrier_ != live_threads_) {
        if (!describe_waits()) add(describe_deadlock());
        return false;
    }
    if (!same_barrier()) return false;
#ifdef GPUNN_EMULATOR_CHECK
    if (live_threads_ < thread_count_) note_returned();
#endif
    if (waiting_at_grid_ && !pass_grid_barrier()) return false;
    open_barrier();
    return true;
}

// Returns false if other blocks are yet to come.
bool Worker::pass_grid_barrier() {
    Barrier barrier = one_at_barrier().barrier;
    if (barrier != Barrier::grid_wait) grid_turn_ = launch_->arrive_at_grid();
    bool over = grid_turn_ <= launch_->grid_turn();
#ifdef GPUNN_EMULATOR_CHECK
    if (over && barrier != Barrier::grid_wait) checker.grid_barrier();
#endif
    if (!over && barrier != Barrier::grid_arrival) pause_ = Pause::at_grid;
    return pause_ == Pause::none;
}

void Worker::open_barrier() {
    progress();
    vote_ = Vote{yes_ > 0, no_ == 0, yes_};
    yes_ = no_ = 0;
    waiting_at_barrier_ = waiting_at_grid_ = 0;
    for (unsigned w = 0; w * warp_size < thread_count_; w++) {
        Warp& warp = warps_[w];
        warp.ready = warp.at_barrier;
        warp.at_barrier = 0;
        if (warp.ready) ready_warps_ |= bit(w);
    }
    bool forward = launch_->request.order == (int)Order::forward;
    warp_turn_ = choose(ready_warps_, forward ? 31 : 0);
    lane_turn_ = forward ? 31 : 0;
#ifdef GPUNN_EMULATOR_WATCH
    watcher.block_barrier();
#endif
}

const Fiber& Worker::one_at_barrier() const {
    unsigned i = 0;
    while (!(warps_[i / warp_size].at_barrier >> (i % warp_size) & 1)) i++;
    return fibers_[i];
}

#ifdef GPUNN_EMULATOR_CHECK
// A barrier waits for those that have not returned; CUDA promises no more than that all may come to it.
void Worker::note_returned() {
    fiber_ = const_cast<Fiber*>(&one_at_barrier());
    Report report = describe(Kind::divergent_barrier, fiber_->caller);
    report.harmless = (int)Harmless::others_returned;
    std::snprintf(report.message, sizeof report.message, "%u threads of the block have returned before this barrier",
                  thread_count_ - live_threads_);
    add(report);
}
#endif

bool Worker::same_barrier() {
#ifndef GPUNN_EMULATOR_CHECK
    if (!waiting_at_grid_) return true;  // which barrier of the block it is matters to who checks
#endif
    const Fiber* one = nullptr;
    for (unsigned i = 0; i < thread_count_; i++) {
        Fiber& fiber = fibers_[i];
        if (!(warps_[fiber.warp].at_barrier >> fiber.lane & 1)) continue;
        if (!one) one = &fiber;
#ifdef GPUNN_EMULATOR_CHECK
        if (fiber.barrier == one->barrier && fiber.site == one->site && fiber.call_path == one->call_path) continue;
#else
        if (fiber.barrier == one->barrier) continue;
#endif
        fiber_ = &fiber;
        Report report = describe(Kind::divergent_barrier, fiber.caller);
        report.has_other = 1;
        std::memcpy(report.other_block, report.block, sizeof report.block);
        std::memcpy(report.other_thread, &one->index, sizeof report.other_thread);
        std::snprintf(report.message, sizeof report.message,
                      "waits at this barrier while other threads wait at another");
        add(report);
        return false;
    }
    return true;
}

// The barrier across the grid that a block is at will not open. Where a block was given up, its own report is enough.
void Worker::report_grid_deadlock() {
    launch_->stop();
    if (launch_->has_given_up()) return;
    BlockRun& run = held_.front().run;
    set_block(run.block_number_);
    std::swap(static_cast<BlockRun&>(*this), run);
    fiber_ = const_cast<Fiber*>(&one_at_barrier());
    Report report = describe(Kind::deadlock, fiber_->caller);
    std::snprintf(report.message, sizeof report.message,
                  "waits at a barrier across the grid, before which %llu of its %llu blocks have returned",
                  (unsigned long long)launch_->ended(), (unsigned long long)launch_->block_count);
    fiber_ = nullptr;
    add(report);
}

Report Worker::describe_deadlock() {
    unsigned at_barrier = 0, in_collective = 0, in_warpgroup = 0, at_mbarrier = 0, at_cluster = 0;
    const Fiber *example = nullptr, *in_example = nullptr;
    for (unsigned i = 0; i < thread_count_; i++) {
        const Fiber& fiber = fibers_[i];
        const Warp& warp = warps_[fiber.warp];
        bool collective = warp.in_collective >> fiber.lane & 1;
        at_barrier += warp.at_barrier >> fiber.lane & 1;
        at_mbarrier += warp.polling >> fiber.lane & 1;
        at_cluster += warp.at_cluster >> fiber.lane & 1;
        if (warp.in_warpgroup >> fiber.lane & 1 && !in_warpgroup++) in_example = &fiber;
        // The lanes that hang in a collective are the better lead: the others wait for them.
        if (collective && !in_collective++) example = &fiber;
    }
    if (!example) example = in_example;
    for (unsigned i = 0; i < thread_count_ && !example; i++) {
        const Warp& warp = warps_[i / warp_size];
        if ((warp.at_barrier | warp.polling | warp.at_cluster) >> (i % warp_size) & 1) example = &fibers_[i];
    }
    fiber_ = const_cast<Fiber*>(example);
    Report report = describe(Kind::deadlock, example->caller);
    char more[80] = "";
    if (at_cluster) std::snprintf(more, sizeof more, "%u at a barrier of the cluster, ", at_cluster);
    else if (at_mbarrier || in_warpgroup)
        std::snprintf(more, sizeof more, "%u for an mbarrier, %u in wgmma, ", at_mbarrier, in_warpgroup);
    std::snprintf(report.message, sizeof report.message,
                  "no thread of the block can go on: %u wait at a block barrier, %u in an operation of a warp or a tile, "
                  "%s%u have returned",
                  at_barrier, in_collective, more, thread_count_ - live_threads_);
    return report;
}

// --- warps -----------------------------------------------------------------------------------------------

void Worker::warp_collective(unsigned mask, void* payload, WarpOperation operation, const void* caller) {
    Fiber& fiber = *fiber_;
    Warp& warp = warps_[fiber.warp];
    if (!(mask >> fiber.lane & 1)) {
        Report report = describe(Kind::warp_mask, caller);
        std::snprintf(report.message, sizeof report.message, "lane %u is not in its own mask 0x%08x",
                      fiber.lane, mask);
        fail(report);
    }
    fiber.mask = mask;
    fiber.payload = payload;
    fiber.operation = operation;
    fiber.caller = caller;
#ifdef GPUNN_EMULATOR_COUNT
    counter.collective(operation, caller);
#endif
#ifdef GPUNN_EMULATOR_CHECK
    checker.lane_joins_collective(*this, fiber, warp);
#endif
    warp.ready &= ~bit(fiber.lane);
    warp.in_collective |= bit(fiber.lane);
    if (!try_collective(warp, fiber.warp * warp_size, fiber)) wait(fiber);
}

// Runs the operation that `asking` waits for if all lanes it needs are there. Lanes that have returned are
// not waited for, as in CUDA.
bool Worker::try_collective(Warp& warp, unsigned first_fiber, const Fiber& asking) {
    unsigned lanes = asking.mask & warp.live;
    if (lanes & ~warp.in_collective) return false;
    void* payloads[warp_size];
    for (unsigned rest = lanes; rest; rest &= rest - 1) {
        const Fiber& other = fibers_[first_fiber + first(rest)];
        if (other.mask != asking.mask) return false;
        if (other.operation != asking.operation) {
            Report report = describe(Kind::warp_mask, asking.caller);
            std::snprintf(report.message, sizeof report.message,
                          "lanes %u and %u of a warp meet in different operations", asking.lane, other.lane);
            fail(report);
        }
        payloads[first(rest)] = other.payload;
    }
    if (asking.operation) {
        in_operation_ = true;
#ifdef GPUNN_EMULATOR_COUNT
        counter.suspend(true);
#endif
        asking.operation(payloads, lanes);
#ifdef GPUNN_EMULATOR_COUNT
        counter.suspend(false);
#endif
        in_operation_ = false;
    }
    progress();
    warp.in_collective &= ~lanes;
    warp.ready |= lanes;
#ifdef GPUNN_EMULATOR_CHECK
    if (!asking.operation) checker.warp_barrier(asking.warp, lanes);
#endif
#ifdef GPUNN_EMULATOR_COUNT
    unsigned last = std::min(first_fiber + warp_size, thread_count_) - 1 - first_fiber;
    unsigned existing = ~0u >> (31 - last);
    if ((asking.mask & existing) == existing) counter.converge(asking.warp);
#endif
    return true;
}

// --- tiles of several warps ------------------------------------------------------------------------------

void Worker::tile_collective(unsigned threads, void* payload, TileOperation operation, const void* caller) {
    Fiber& fiber = *fiber_;
    Warp& warp = warps_[fiber.warp];
    fiber.mask = 0;  // which no warp operation has
    fiber.tile = threads;
    fiber.payload = payload;
    fiber.operation = operation;
    fiber.caller = caller;
    warp.ready &= ~bit(fiber.lane);
    warp.in_collective |= bit(fiber.lane);
    if (!try_tile(fiber)) wait(fiber);
}

// Runs the operation that `asking` waits for if all threads of its tile are there. A thread that has returned, or
// never existed, is waited for in vain, as in CUDA.
bool Worker::try_tile(const Fiber& asking) {
    unsigned warps = asking.tile / warp_size, first_warp = asking.warp / warps * warps;
    if ((first_warp + warps) * warp_size > thread_count_) return false;
    for (unsigned w = first_warp; w < first_warp + warps; w++)
        if (~warps_[w].in_collective) return false;
    const Fiber* members = &fibers_[first_warp * warp_size];
    for (unsigned i = 0; i < asking.tile; i++)
        if (members[i].mask || members[i].tile != asking.tile) return false;
    void* payloads[max_threads];
    for (unsigned i = 0; i < asking.tile; i++) {
        if (members[i].operation != asking.operation) {
            Report report = describe(Kind::warp_mask, asking.caller);
            std::snprintf(report.message, sizeof report.message,
                          "threads of a tile of %u meet in different operations, and thread (%u,%u,%u) is in another",
                          asking.tile, members[i].index.x, members[i].index.y, members[i].index.z);
            fail(report);
        }
        payloads[i] = members[i].payload;
    }
    if (asking.operation) {
        in_operation_ = true;
        asking.operation(payloads, asking.tile);
        in_operation_ = false;
    }
    progress();
    for (unsigned w = first_warp; w < first_warp + warps; w++) {
        warps_[w].in_collective = 0;
        warps_[w].ready = ~0u;
        ready_warps_ |= bit(w);
    }
#ifdef GPUNN_EMULATOR_CHECK
    if (!asking.operation) checker.tile_barrier(first_warp, warps);
#endif
    return true;
}

// The lanes that are "active" are not defined by CUDA; here they are those of the warp that come to the same
// place before any of them can continue.
unsigned Worker::active_mask(int site, const void* caller) {
    Fiber& fiber = *fiber_;
    fiber.site = site;
    wait_among(&Warp::gathering, caller);
    return fiber.mask;
}

void Worker::resolve_active_mask(Warp& warp, unsigned first_fiber) {
    const Fiber& one = fibers_[first_fiber + first(warp.gathering)];
    unsigned together = 0;
    for (unsigned rest = warp.gathering; rest; rest &= rest - 1) {
        const Fiber& other = fibers_[first_fiber + first(rest)];
        if (other.site == one.site && other.caller == one.caller) together |= bit(first(rest));
    }
    for (unsigned rest = together; rest; rest &= rest - 1) fibers_[first_fiber + first(rest)].mask = together;
    warp.gathering &= ~together;
    warp.ready |= together;
}

// --- asynchronous copies ---------------------------------------------------------------------------------

void Worker::check_aligned(const void* address, unsigned bytes, const char* what, const void* caller) {
    if ((std::uintptr_t)address % bytes == 0) return;
    Report report = describe(Kind::misaligned, caller);
    std::snprintf(report.message, sizeof report.message, "address %p of %s is not a multiple of %u", address,
                  what, bytes);
    fail(report);
}

// The target is unreadable until the wait: who forgets it gets NaN, whatever the order of the threads.
void Worker::async_copy(const AsyncCopy& copy, const void* caller) {
    if (!copy.anywhere) {
        check_aligned(copy.shared, copy.bytes, "the target of an asynchronous copy", caller);
        check_aligned(copy.global, copy.bytes, "the source of an asynchronous copy", caller);
    }
    if (copy.source_bytes > copy.bytes) {
        Report report = describe(Kind::out_of_bounds, caller);
        std::snprintf(report.message, sizeof report.message,
                      "an asynchronous copy of %u bytes is asked to read %d", copy.bytes, (int)copy.source_bytes);
        fail(report);
    }
    Fiber& fiber = *fiber_;
#ifdef GPUNN_EMULATOR_CHECK
    checker.async_copy_starts(copy, caller);
#endif
#ifdef GPUNN_EMULATOR_COUNT
    note_access(copy.global, copy.source_bytes, false, caller);
    note_access(copy.shared, copy.bytes, true, caller);
#endif
    fill(copy.shared, copy.bytes);
    bool room = true;
    try {
        fiber.copies.push_back(copy);
    } catch (const std::bad_alloc&) {
        room = false;
    }
    if (!room) fail_for_memory("a thread's asynchronous copies", "no memory");
    fiber.copies.back().group = fiber.committed_groups;
}

// Lets the copies of all committed groups but the newest ones arrive.
void Worker::async_wait(unsigned newest) {
    Fiber& fiber = *fiber_;
    auto copy = fiber.copies.begin();
    for (; copy != fiber.copies.end() && copy->group + newest < fiber.committed_groups; ++copy) {
        std::memcpy(copy->shared, copy->global, copy->source_bytes);
        std::memset(copy->shared + copy->source_bytes, 0, copy->bytes - copy->source_bytes);
#ifdef GPUNN_EMULATOR_CHECK
        checker.async_copy_arrives(*copy);
#endif
    }
    fiber.copies.erase(fiber.copies.begin(), copy);
}

// --- reports ---------------------------------------------------------------------------------------------

Report Worker::describe(Kind kind, const void* pc) const {
    Report report{};
    report.kind = (int)kind;
    report.argument = -1;
    report.byte = -1;
    report.pc = pc;
    std::memcpy(report.block, &block_.index, sizeof report.block);
    if (fiber_) std::memcpy(report.thread, &fiber_->index, sizeof report.thread);
#ifdef GPUNN_EMULATOR_CHECK
    if (fiber_ && pc) find_callers(fiber_->stack, __builtin_frame_address(0), *launch_->request.library, report);
#endif
    return report;
}

void Worker::add(const Report& report) { launch_->add(report); }

void Worker::fail(const Report& report) {
    add(report);
    stop_block();
}

void Worker::fail_for_memory(const char* what, const char* why) {
    Report report = describe(Kind::resources, nullptr);
    std::snprintf(report.message, sizeof report.message, "there is no room for %s: %s", what, why);
    fail(report);
}

// --- what kernels call -----------------------------------------------------------------------------------

Vote block_barrier(int predicate, int site) {
    return worker->block_barrier(predicate, site, __builtin_return_address(0), __builtin_frame_address(0));
}

void grid_barrier(Barrier barrier, int site) {
    worker->grid_barrier(barrier, site, __builtin_return_address(0), __builtin_frame_address(0));
}

void cluster_arrive(bool releases) { worker->cluster_arrive(releases, __builtin_return_address(0)); }

void cluster_wait() { worker->cluster_wait(__builtin_return_address(0)); }

namespace {

// The rank of the block in whose shared memory that is, with the block.
unsigned owner_of(const void* address, const char* what, const void* caller, const BlockView*& owner) {
    const Cluster* cluster = worker->cluster();
    unsigned rank = worker->block().cluster_rank, size = worker->block().cluster_size;
    owner = &worker->block();
    if (worker->holds_shared(address) || worker->shared_ends_at(address)) return rank;
    rank = cluster ? cluster->rank_of(address) : size;
    if (rank == size) {
        Report report = worker->describe(Kind::out_of_bounds, caller);
        std::snprintf(report.message, sizeof report.message, "%s of %p, which is in no shared memory of the cluster", what,
                      address);
        worker->fail(report);
    }
    owner = &cluster->worker(rank).block();
    return rank;
}

}  // namespace

unsigned cluster_rank_of(const void* address) {
    const BlockView* owner;
    return owner_of(address, "the rank", __builtin_return_address(0), owner);
}

bool is_cluster_shared(const void* address) {
    const Cluster* cluster = worker->cluster();
    return worker->holds_shared(address) || (cluster && cluster->rank_of(address) < cluster->size());
}

unsigned cluster_address(const void* address) {
    unsigned found = shared_address(address);
    const Cluster* cluster = worker->cluster();
    for (unsigned rank = 0; !found && cluster && rank < cluster->size(); rank++)
        if (unsigned there = address_in(cluster->worker(rank).block(), address))
            found = (rank + 1) * cluster_window + there;
    return found;
}

char* cluster_pointer(unsigned address) {
    unsigned rank = address / cluster_window - 1;
    if (address < cluster_window) return shared_pointer(address);
    if (!worker->cluster() || rank >= worker->cluster()->size()) return nullptr;
    return pointer_in(worker->cluster()->worker(rank).block(), address % cluster_window);
}

void* cluster_map(const void* address, unsigned rank) {
    const BlockView *from, *to = &worker->block();
    owner_of(address, "a mapping", __builtin_return_address(0), from);
    if (rank >= to->cluster_size) {
        Report report = worker->describe(Kind::out_of_bounds, __builtin_return_address(0));
        std::snprintf(report.message, sizeof report.message, "a mapping to block %u of a cluster, which has %u", rank,
                      to->cluster_size);
        worker->fail(report);
    }
    if (rank != to->cluster_rank) to = &worker->cluster()->worker(rank).block();
    std::size_t offset = (std::size_t)((const char*)address - from->static_shared), bytes = from->static_shared_bytes;
    if (bytes && offset <= bytes) return to->static_shared + offset;
    return to->dynamic_shared + ((const char*)address - from->dynamic_shared);
}

void check_barrier(unsigned threads) {
    if (threads == worker->thread_count()) return;
    Report report = worker->describe(Kind::divergent_barrier, __builtin_return_address(0));
    std::snprintf(report.message, sizeof report.message,
                  "waits for %u of the block's %u threads: a barrier of a part of a block is not emulated", threads,
                  worker->thread_count());
    worker->fail(report);
}

void warp_barrier(unsigned mask) {
    worker->warp_collective(mask, nullptr, nullptr, __builtin_return_address(0));
}

void warp_collective(unsigned mask, void* payload, WarpOperation operation) {
    worker->warp_collective(mask, payload, operation, __builtin_return_address(0));
}

void tile_collective(unsigned threads, void* payload, TileOperation operation) {
    worker->tile_collective(threads, payload, operation, __builtin_return_address(0));
}

unsigned active_mask(int site) { return worker->active_mask(site, __builtin_return_address(0)); }

void yield() { worker->yield(__builtin_return_address(0)); }

void exit_thread() { worker->exit_thread(); }

bool is_local(const void* address) {
    const Stack& stack = worker->fiber()->stack;
    return address >= stack.low && address < stack.high;
}

void async_copy(void* shared, const void* global, unsigned bytes, unsigned source_bytes) {
    AsyncCopy copy{(char*)shared, (const char*)global, bytes, source_bytes, 0, false};
    worker->async_copy(copy, __builtin_return_address(0));
}

void async_memory_copy(void* to, const void* from, std::size_t bytes) {
    AsyncCopy copy{(char*)to, (const char*)from, (unsigned)bytes, (unsigned)bytes, 0, true};
    worker->async_copy(copy, __builtin_return_address(0));
}

void async_commit() { worker->async_commit(); }

void async_wait(unsigned newest) { worker->async_wait(newest); }

void check_aligned(const void* address, unsigned bytes, const char* what) {
    worker->check_aligned(address, bytes, what, __builtin_return_address(0));
}

void assertion_failed(const char* expression, const char* file, int line) {
    Report report = worker->describe(Kind::assertion, nullptr);
    report.file = file;
    report.line = line;
    std::snprintf(report.message, sizeof report.message, "assertion failed: %s", expression);
    worker->fail(report);
}

void trap() {
    Report report = worker->describe(Kind::trap, __builtin_return_address(0));
    std::snprintf(report.message, sizeof report.message, "__trap() was called");
    worker->fail(report);
}

#ifndef GPUNN_EMULATOR_CHECK
void note_fence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
#endif

}  // namespace gpunn_emulator

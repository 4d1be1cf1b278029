// A worker runs the blocks it is given, one after the other, on one host thread. Every CUDA thread is a
// fiber: it runs until it has to wait, and the worker then continues with another one.
#pragma once
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cfenv>
#include <cstdint>
#include <cstring>
#include <deque>
#include <list>
#include <memory>
#include <vector>

#include "../include/gpunn_emulator/vector_types.h"
#include "../include/gpunn_emulator/interface.h"
#undef threadIdx
#undef blockIdx
#undef blockDim
#undef gridDim

#include "context.h"
#include "launch.h"
#include "tensor_map.h"

namespace gpunn_emulator {

const unsigned warp_size = 32, max_threads = 1024;

struct AsyncCopy {
    char* shared;
    const char* global;
    unsigned bytes, source_bytes;
    unsigned group;
    bool anywhere;  // not only from global to shared memory
};

// The states in which ticks have found a thread since something last happened. One that waits in a loop is found in few
// states, again and again; one that computes never is in the same state twice.
class Sightings {
public:
    // `happened` counts what has happened; returns whether the state was seen before.
    bool see(std::uint64_t state, std::uint64_t happened);
    bool show_waiting(std::uint64_t happened, int times) const { return happened == happened_ && repeated_ >= times; }
    bool showed_waiting() const { return showed_; }

    static const int once = 1, enough = 4;

private:
    static const unsigned most = 64;
    std::uint64_t states_[most];
    std::uint64_t happened_ = 0;
    unsigned count_ = 0;
    int repeated_ = 0;  // how many more were seen before than were not, of the last ones
    bool showed_ = false;
};

// A 64-bit object in shared memory whose phases threads and asynchronous copies complete; see hopper.cpp.
struct Mbarrier {
    std::uint64_t* address;
    unsigned expected, pending;  // arrivals of each phase, and those that this one lacks
    int bytes;                   // that it lacks
    std::uint64_t phase;         // how many are complete
    unsigned initialiser;
    bool fenced;      // since it was initialised
    unsigned column;  // of the checker's clocks
};

// A read of shared memory by what is asynchronous, as the checker knows it: who waits for it has it behind.
struct AsyncRead {
    unsigned column;
    std::uint32_t stamp;
    unsigned group;
};

// cp.async.bulk and cp.async.bulk.tensor.
struct BulkCopy {
    char *shared, *global;
    unsigned bytes;
    bool is_tensor;
    TensorMap map;
    int coordinates[5];
    std::uint64_t* barrier;  // of a copy to shared memory
    unsigned thread;
    unsigned group;  // of a copy from shared memory
    std::vector<char> sent;  // what it brings from the shared memory of another block, or from registers
    AsyncRead read;
    const void* caller;
};

// The accumulators of one thread, which hold their values from the wait on.
struct Accumulators {
    std::vector<float*> registers;
    std::vector<float> values;
    unsigned group;
    const void* caller;
};

class Cluster;

// A barrier of a cluster: how many threads of it have not returned, and how many of them have arrived in this turn.
struct ClusterBarrier {
    unsigned threads = 0, arrived = 0;
    std::uint64_t turn = 0;
    bool releases = false;  // somebody who has arrived shows what it has written
};

struct Fiber : ThreadView {
    unsigned number;  // in its block, x fastest
    unsigned warp;
    bool started;
    Barrier barrier;
    Stack stack;
    Context context;
    // What it waits for, if it does.
    const void* caller;
    std::size_t call_path;
    int site;
    unsigned mask;  // of lanes of its warp; 0: for the tile
    unsigned tile;  // of so many threads, more than a warp
    void* payload;
    WarpOperation operation;
    std::vector<AsyncCopy> copies;  // under way, oldest first
    unsigned committed_groups;
    const Mbarrier* mbarrier;  // it waits for
    std::vector<BulkCopy> stores;  // from shared memory, under way, oldest first
    unsigned committed_stores;
    std::vector<Accumulators> products;  // under way, oldest first
    std::vector<Accumulators> arrived;   // since the last wgmma.fence
    std::vector<AsyncRead> reads;        // of products under way
    unsigned committed_products;
    bool has_fenced_registers;
    bool has_arrived;  // at the barrier of the cluster, in this turn of it, and has not waited
    std::uint64_t cluster_turn;
};

// One bit per lane. A live lane is in exactly one of the last seven.
struct Warp {
    unsigned live;
    unsigned ready, at_barrier, in_collective, gathering, polling, in_warpgroup, at_cluster;
};

const unsigned warps_of_warpgroup = 4;

// Why a block gives its place on its worker to another one before its end.
enum class Pause { none, at_grid, in_loops, in_cluster };

// What each block has of its own.
struct BlockRun {
    std::unique_ptr<Fiber[]> fibers_;
    unsigned live_threads_ = 0, waiting_at_barrier_ = 0, waiting_at_grid_ = 0;
    unsigned ready_warps_ = 0, warp_turn_ = 0, lane_turn_ = 0;
    std::uint64_t random_ = 1;
    int yes_ = 0, no_ = 0;
    Vote vote_{};
    unsigned polls_in_vain_ = 0;  // rounds in which every thread that could run asked, and nothing else happened
    Warp warps_[max_threads / warp_size];
    std::deque<Mbarrier> mbarriers_;
    std::vector<BulkCopy> loads_;  // to shared memory, under way, oldest first
    std::uint64_t block_number_ = 0;
    unsigned fiber_room_ = 0;
    std::unique_ptr<std::unique_ptr<Sightings>[]> sightings_;  // of threads, once a tick has found one
    Pause pause_ = Pause::none;
    std::uint64_t grid_turn_ = 0;  // of the barrier across the grid, where its wait is over
    ClusterBarrier alone_;         // of a block that is alone in its cluster
};

// A block that waits for others. They find the addresses of its shared memory taken: what it holds is kept here.
struct HeldBlock {
    BlockRun run;
    std::vector<char> static_shared, dynamic_shared;
};

class Worker : BlockRun {
public:
    // Throws std::bad_alloc if there is no memory for it.
    Worker();
    Worker(const Worker&) = delete;  // nor is it destroyed: workers are kept for later launches, see launch.cpp

    // Between these two this host thread is the worker's. At least one stack is mapped at once, or as many as are
    // likely to be needed; false is returned if they cannot be had, or are more than the process should map.
    bool begin(Launch& launch, std::size_t expected_stacks, Cluster* cluster = nullptr, unsigned rank = 0);
    void end();

    // Takes blocks until there are none left; `after_block` is called after each, and when one waits for others.
    // Returns false if it was suspended: the next call continues there.
    template <class AfterBlock> bool work(AfterBlock after_block) {
        for (;;) {
            if (!suspended_) {
                if (asked_to_leave_) return asked_to_leave_ = 0, false;
                if (!next_block()) return true;
                if (!suspended_) continue;  // all wait for blocks of other workers
            }
            go_on();
            if (suspended_) return false;
            end_turn();
            after_block();
        }
    }
    // In the handler of a signal that comes now and then: lets another thread run if this one waits in a loop, and
    // leaves the kernel for the call of work() it runs in if `leaves`. A kernel can be interrupted where it runs its
    // own code, which holds no lock of anybody's; elsewhere it does that when it next calls.
    void tick(void* context, bool leaves);
    void leave_if_asked() {
        if (asked_to_leave_) leave();
    }
    // Where a thread that waits in a loop calls.
    void take_turns_if_asked(const void* pc) {
        if (asked_to_take_turns_) take_turns(pc);
    }
    // What changes memory does more than wait. Told by who watches, for their hooks do not see all registers.
    void about_to_write(const char* address, std::size_t bytes) {
        if (!takes_turns_) return;
        settle_write();
        written_ = address;
        written_bytes_ = std::min(bytes, sizeof before_);
        std::memcpy(before_, address, written_bytes_);
    }
    // Something happened that a thread may have waited for.
    void progress() { happened_++, polls_in_vain_ = 0; }
    void look_at_time() { happened_++; }

    // How many stacks a block has needed in this launch.
    std::size_t stacks_needed() const { return stacks_needed_; }

    Vote block_barrier(int predicate, int site, const void* caller, const void* frame);
    void warp_collective(unsigned mask, void* payload, WarpOperation operation, const void* caller);
    void grid_barrier(Barrier barrier, int site, const void* caller, const void* frame);
    void cluster_arrive(bool releases, const void* caller);
    void cluster_wait(const void* caller);
    void tile_collective(unsigned threads, void* payload, TileOperation operation, const void* caller);
    unsigned active_mask(int site, const void* caller);
    void yield(const void* caller);
    // Ends the running thread where it is.
    [[noreturn]] void exit_thread();

    void async_copy(const AsyncCopy& copy, const void* caller);
    void async_commit() { fiber_->committed_groups++; }
    void async_wait(unsigned newest);
    // Ends the block if the address is not a multiple of `bytes`: the hardware stops there too.
    void check_aligned(const void* address, unsigned bytes, const char* what, const void* caller);

    // Hopper's instructions, hopper.cpp.
    void mbarrier_init(std::uint64_t* address, unsigned count, const void* caller);
    void mbarrier_inval(std::uint64_t* address, const void* caller);
    std::uint64_t mbarrier_arrive(std::uint64_t* address, const MbarrierArrival& arrival, const void* caller);
    bool mbarrier_wait(std::uint64_t* address, std::uint64_t state, bool is_parity, const void* caller);
    void fence_proxy(bool of_inits_only);
    void bulk_load(BulkCopy copy, const void* map, unsigned rank, const int* coordinates, unsigned blocks,
                   const void* caller);
    void bulk_send(BulkCopy copy, const void* caller);
    void async_store(BulkCopy copy, const void* value, const void* caller);
    void async_barrier_copy(BulkCopy copy, const void* caller);
    void start_load(const BulkCopy& copy);
    void check_copy(const void* to, const void* from, std::size_t bytes, unsigned alignment, unsigned multiple,
                    const void* caller);
    void bulk_store(BulkCopy copy, const void* map, unsigned rank, const int* coordinates, const void* caller);
    void bulk_commit() { fiber_->committed_stores++; }
    void bulk_wait(unsigned newest, bool of_reads);
    void warpgroup_fence();
    void warpgroup_commit() { fiber_->committed_products++; }
    void warpgroup_wait(unsigned newest);
    void warpgroup_product(WarpgroupProduct& product, const void* caller);

    // A report about the running thread, with its block and thread filled in.
    Report describe(Kind kind, const void* pc) const;
    void add(const Report& report);
    [[noreturn]] void fail_for_memory(const char* what, const char* why);
    // Adds a report and gives the block up. Called on a fiber; does not return.
    [[noreturn]] void fail(const Report& report);
    [[noreturn]] void stop_block();
    bool is_stopped() const { return launch_ && launch_->is_stopped(); }
    bool runs_kernel() const { return fiber_ != nullptr; }
    bool runs_kernels_own_code(const void* pc) const;

    const Request& request() const { return launch_->request; }
    const Fiber* fiber() const { return fiber_; }
    const Fiber& fiber(unsigned number) const { return fibers_[number]; }
    unsigned live_lanes(unsigned warp) const { return warps_[warp].live; }
    unsigned thread_count() const { return thread_count_; }
    const BlockView& block() const { return block_; }
    std::uint64_t block_number() const { return block_number_; }
    char* static_shared() const { return block_.static_shared; }
    bool holds_shared(const void* address) const;
    bool shared_ends_at(const void* address) const;
    Cluster* cluster() const { return cluster_; }
    // Of a block of a cluster that has given its turn away; `asks` is whether threads that ask for an mbarrier may.
    bool can_go_on(bool asks) const;
    // Whether its threads hang in something else than the barrier of the cluster, which is the better lead.
    bool hangs_more_than(const Worker& other) const { return hanging() > other.hanging(); }

private:
    static void fiber_main();

    void lay_out_threads(dim3 block_dim);
    void lay_out_fibers();
    void start_block(std::uint64_t number);
    void set_block(std::uint64_t number);
    void go_on();

    bool next_block();
    bool begin_next();
    bool resume_next();
    void end_turn();
    bool next_of_cluster();
    bool resume_in_cluster();
    void end_turn_in_cluster();
    void go_on_in_loops();
    bool waits_for_cluster() const;
    unsigned hanging() const;
    void complete_cluster_barrier();
    void describe_cluster_wait();
    ClusterBarrier& cluster_barrier();
    void put_aside();
    void drop_held();
    void release_stacks();
    bool has_room();
    void wait_for_others();
    void report_no_stacks(const char* why);
    void report_grid_deadlock();
    bool is_stuck() const;
    bool add_stack();
    void fill_shared_memory();
    static char* map_dynamic_shared();
    void lay_out_window();

    Fiber* next_runnable();
    void make_current(Fiber& fiber);
    void give_stack(Fiber& fiber);
    void wait(Fiber& fiber);
    void wait_among(unsigned Warp::*lanes, const void* caller);
    bool make_ready(unsigned Warp::*lanes);
    void change(Fiber& fiber, Fiber* next);
    void leave();
    bool is_alone(const Fiber& fiber) const;
    Fiber* one_after(const Fiber& fiber);
    void take_turns(const void* pc);
    void settle_write();
    bool watch(std::uint64_t state, const void* pc);
    void pass_on(Fiber& fiber);
    bool may_give_place() const;
    bool only_waits_in_loops(const BlockRun& run, int times) const;
    void set_stuck(bool stuck);
    void report_if_stuck(std::int64_t now, const void* pc);
    void finish(Fiber& fiber);
    unsigned choose(unsigned candidates, unsigned after);

    void come_to_barrier(Barrier barrier, int site, const void* caller, const void* frame);
    bool release_barrier();
    bool pass_grid_barrier();
    void open_barrier();
    const Fiber& one_at_barrier() const;
    bool same_barrier();
    void note_returned();
    bool try_collective(Warp& warp, unsigned first_fiber, const Fiber& asking);
    bool try_tile(const Fiber& asking);
    void resolve_active_mask(Warp& warp, unsigned first_fiber);
    Report describe_deadlock();

    void poll(const void* caller);
    bool resume_pollers();
    bool describe_waits();
    Worker& home_of(const void* address);
    Mbarrier& mbarrier(std::uint64_t* address, const char* operation, const void* caller);
    void begin_load(const BulkCopy& copy, bool by_proxy, const void* caller);
    void send(BulkCopy copy, const void* value, bool by_proxy, const void* caller);
    void check_in_shared(const BulkCopy& copy, const char* shared, const void* caller);
    void change_bytes(Mbarrier& barrier, std::int64_t change, const void* caller);
    void complete_if_due(Mbarrier& barrier);
    void deliver(Mbarrier& barrier);
    void prepare(BulkCopy& copy, const void* map, unsigned rank, const int* coordinates, const void* caller);
    void finish_stores(Fiber& fiber);
    void begin_sum(Fiber& fiber, const WarpgroupProduct& product, const void* caller);
    void run_product(unsigned first_fiber);
    [[noreturn]] void misuse(const void* caller, const char* format, ...) __attribute__((format(printf, 3, 4)));
    void tell(Kind kind, const void* caller, const char* format, ...) __attribute__((format(printf, 4, 5)));

    Launch* launch_ = nullptr;
    BlockView block_{};
    char* dynamic_end_ = nullptr;  // dynamic shared memory ends at a page that must not be touched

    unsigned thread_count_ = 0;
    std::list<HeldBlock> held_;  // the one that has waited longest comes first
    bool was_put_aside_ = false;
    Cluster* cluster_ = nullptr;  // where there are several blocks in it
    std::uint64_t happened_before_turn_ = 0;
    unsigned turns_before_pause_ = 0;

    Fiber* fiber_ = nullptr;      // the one that runs, or null outside kernels
    Fiber* suspended_ = nullptr;  // the one that was left by leave()
    volatile sig_atomic_t asked_to_leave_ = 0, asked_to_take_turns_ = 0;
    bool in_operation_ = false;  // a warp's: the kernel's own code, which the runtime has called

    // What ticks have found.
    std::uint64_t happened_ = 0, happened_before_ = 0;
    const Fiber* watched_ = nullptr;
    std::int64_t watched_since_ = 0, looked_ = 0, stuck_since_ = 0;
    bool takes_turns_ = false;  // from when a thread was first found waiting in a loop, to the end of the launch
    std::atomic<bool> stuck_{false};
    std::uint64_t changes_ = 0;  // of who is stuck, when stuck_since_ was set
    const char* written_ = nullptr;  // what a thread was about to write, and what was there before
    std::size_t written_bytes_ = 0;
    char before_[16];
    std::fenv_t floats_;         // the host's: a signal handler has rounding modes of its own

    Context scheduler_;
    std::vector<Stack> stacks_, free_stacks_;
    std::size_t stacks_needed_ = 0;
    long page_faults_ = 0;
    stack_t previous_signal_stack_{};
    std::unique_ptr<char[]> signal_stack_;
};

// Each is two mappings, of which a process may have 65,530 by default; half of them are for others.
std::size_t most_stacks();

// When this host thread's worker is called by its timer: after so many nanoseconds, and often from then on.
void tick_after(long nanoseconds);

// Where a signal came.
struct Interruption {
    const void *instruction, *stack_pointer;
};
Interruption interruption_of(const void* context);

// The worker of this host thread, or null.
extern __thread Worker* worker __attribute__((tls_model("initial-exec")));

}  // namespace gpunn_emulator

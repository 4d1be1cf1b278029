// A worker runs the blocks it is given, one after the other, on one host thread. Every CUDA thread is a
// fiber: it runs until it has to wait, and the worker then continues with another one.
#pragma once
#include <signal.h>

#include <cstdint>
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

namespace gpunn_emulator {

const unsigned warp_size = 32, max_threads = 1024;

struct AsyncCopy {
    char* shared;
    const char* global;
    unsigned bytes, source_bytes;
    unsigned group;
    bool anywhere;  // not only from global to shared memory
};

struct Fiber : ThreadView {
    unsigned number;  // in its block, x fastest
    unsigned warp;
    bool started;
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
};

// One bit per lane. A live lane is in exactly one of the last four.
struct Warp {
    unsigned live;
    unsigned ready, at_barrier, in_collective, gathering;
};

class Worker {
public:
    // Throws std::bad_alloc if there is no memory for it.
    Worker();
    Worker(const Worker&) = delete;  // nor is it destroyed: workers are kept for later launches, see launch.cpp

    // Between these two this host thread is the worker's. At least one stack is mapped at once, or as many as are
    // likely to be needed; false is returned if they cannot be had, or are more than the process should map.
    bool begin(Launch& launch, std::size_t expected_stacks);
    void end();

    // Takes blocks until there are none left; `after_block` is called after each. Returns false if it was suspended:
    // the next call continues there.
    template <class AfterBlock> bool work(AfterBlock after_block) {
        for (;;) {
            if (!suspended_) {
                if (asked_to_leave_) return asked_to_leave_ = 0, false;
                std::int64_t block = launch_->take_block();
                if (block < 0) return true;
                start_block((std::uint64_t)block);
            }
            go_on();
            if (suspended_) return false;
            after_block();
        }
    }
    // Leaves the kernel for the call of work() it runs in, and returns when that is called again; if the launch is
    // stopped, gives the block up instead. Called where a kernel calls, or in a signal handler that has interrupted
    // the kernel's own code.
    void leave();
    // Has that done when the kernel next calls, or the block ends.
    void ask_to_leave() { asked_to_leave_ = 1; }
    void leave_if_asked() {
        if (asked_to_leave_) leave();
    }

    // How many stacks a block has needed in this launch.
    std::size_t stacks_needed() const { return stacks_needed_; }

    Vote block_barrier(int predicate, int site, const void* caller, const void* frame);
    void warp_collective(unsigned mask, void* payload, WarpOperation operation, const void* caller);
    void tile_collective(unsigned threads, void* payload, TileOperation operation, const void* caller);
    unsigned active_mask(int site, const void* caller);
    void yield();
    // Ends the running thread where it is.
    [[noreturn]] void exit_thread();

    void async_copy(const AsyncCopy& copy, const void* caller);
    void async_commit() { fiber_->committed_groups++; }
    void async_wait(unsigned newest);
    // Ends the block if the address is not a multiple of `bytes`: the hardware stops there too.
    void check_aligned(const void* address, unsigned bytes, const char* what, const void* caller);

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

private:
    static void fiber_main();

    void lay_out_threads(dim3 block_dim);
    void start_block(std::uint64_t number);
    void go_on();
    bool add_stack();
    void fill_shared_memory();
    static char* map_dynamic_shared();
    bool same_shared_addresses() const;

    Fiber* next_runnable();
    void make_current(Fiber& fiber);
    void give_stack(Fiber& fiber);
    void wait(Fiber& fiber);
    void finish(Fiber& fiber);
    unsigned choose(unsigned candidates, unsigned after);

    bool release_barrier();
    bool same_barrier();
    void note_returned();
    bool try_collective(Warp& warp, unsigned first_fiber, const Fiber& asking);
    bool try_tile(const Fiber& asking);
    void resolve_active_mask(Warp& warp, unsigned first_fiber);
    Report describe_deadlock();

    Launch* launch_ = nullptr;
    BlockView block_{};
    std::uint64_t block_number_ = 0;
    char* dynamic_end_ = nullptr;  // dynamic shared memory ends at a page that must not be touched

    std::unique_ptr<Fiber[]> fibers_;
    Warp warps_[max_threads / warp_size];
    unsigned thread_count_ = 0, live_threads_ = 0, waiting_at_barrier_ = 0;
    unsigned ready_warps_ = 0, warp_turn_ = 0, lane_turn_ = 0, yields_ = 0;
    std::uint64_t random_ = 1;
    int yes_ = 0, no_ = 0;
    Vote vote_{};

    Fiber* fiber_ = nullptr;      // the one that runs, or null outside kernels
    Fiber* suspended_ = nullptr;  // the one that was left by leave()
    volatile sig_atomic_t asked_to_leave_ = 0;
    Context scheduler_;
    std::vector<Stack> stacks_, free_stacks_;
    std::size_t stacks_needed_ = 0;
    long page_faults_ = 0;
    stack_t previous_signal_stack_{};
    std::unique_ptr<char[]> signal_stack_;
};

// The worker of this host thread, or null.
extern __thread Worker* worker __attribute__((tls_model("initial-exec")));

}  // namespace gpunn_emulator

// Watches every access of a kernel. Check mode only, and there one host thread runs all blocks.
#pragma once
#include <cstdint>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "shared_layout.h"
#include "worker.h"

namespace gpunn_emulator {

// What is known of one word, or of a part of it where parts are accessed by themselves. Time is counted in intervals: a
// new one begins with every block and at every block barrier, so two accesses of a block are ordered when their
// intervals differ. Inside an interval, lanes of a warp are ordered by __syncwarp, and warps by barriers of tiles: `sync`
// counts both.
struct Cell {
    std::uint32_t write_interval, read_interval;  // 0: never
    std::uint32_t read_lanes;  // of warp read_warp, in read_interval; of many warps: which warps
    std::uint32_t write_place, read_place;        // in the library, of the last one; 0: not known
    std::uint32_t write_time;
    std::uint16_t write_thread, read_warp;
    std::uint16_t write_sync, read_sync;
    bool write_strong : 1, write_long : 1;  // of 8 bytes or more
    bool read_by_many_warps : 1, read_by_many_blocks : 1, read_strong : 1;
    unsigned char read_lane : 5;  // of read_warp, the last one; of many warps only
    bool copy_under_way : 1;      // write_thread has started an asynchronous copy to here and has not waited for it
};

// How memory is accessed. Strong accesses (volatile, relaxed, acquire and release of PTX) and atomic operations do not race
// with each other.
enum class Manner { plain, strong, atomic };

enum class Space { argument, static_shared, dynamic_shared, device_variable, heap };

struct Region {
    Space space;
    char *begin, *end;
    Cell* cells;
    int argument;
    Access allowed;
    Buffer* buffer = nullptr;
    Span touched = {};  // in this launch
    unsigned unit = 4;  // the bytes that a cell is for

    std::size_t bytes() const { return (std::size_t)(end - begin); }
    std::size_t cell_count() const { return (bytes() + unit - 1) / unit; }
    Cell& cell_of(std::size_t offset) const { return cells[offset / unit]; }
    void split_for(std::size_t offset, std::size_t bytes);
    void free_cells();
};

class Checker {
public:
    void begin_launch(const Launch& launch);
    void settle();  // when all blocks have run
    void end_launch();
    void begin_block(Worker& worker);
    void block_barrier();
    void warp_barrier(unsigned warp, unsigned lanes);
    void tile_barrier(unsigned first_warp, unsigned warps);
    void lane_joins_collective(Worker& worker, const Fiber& fiber, const Warp& warp);
    void lane_left_collective(Worker& worker, const Fiber& waiting, const Fiber& gone);

    void access(const char* address, std::size_t bytes, bool write, Manner manner, const void* pc) {
        if (!is_on_stack(address)) access_memory(address, bytes, write, manner, pc);
    }
    // Of a texture; and that what a texture or a surface reads was not written by this launch.
    void fetch(const char* address, std::size_t bytes, const void* pc);
    void coherent(const char* address, std::size_t bytes, const void* pc);
    void async_copy_starts(const AsyncCopy& copy, const void* pc);
    void async_copy_arrives(const AsyncCopy& copy);
    void fence();
    // Who writes here after a fence shows what was before the fence to who reads or writes here later.
    void synchronising(const char* address, std::size_t bytes, bool write, bool reads, Manner manner, const void* pc);
    void lane_is_missing(unsigned lane, unsigned source, bool shifted) const;
    void compare_and_swap(const char* address, std::size_t bytes, const void* compare);
    void allocated(char* memory, std::size_t bytes);  // by malloc

private:
    // On that of the running thread, where most accesses go: this is what a hook does first.
    bool is_on_stack(const char* address) const {
        const Fiber* fiber = worker_ ? worker_->fiber() : nullptr;
        return fiber && (std::size_t)(address - fiber->stack.low) < (std::size_t)(fiber->stack.high - fiber->stack.low);
    }
    void access_memory(const char* address, std::size_t bytes, bool write, Manner manner, const void* pc);

    struct Touch {
        Region* region;
        std::size_t offset, bytes;
        bool write;
        Manner manner;
        const void* pc;
        std::uint32_t place;  // of pc in the library
    };

    // A plain read beside atomic operations, which is a race unless its value goes to atomicCAS.
    struct Suspect {
        Report report;
        std::uint32_t read_place;
    };

    // The store that is under way: its value is known when the next thing is told.
    struct Store {
        const char* address;
        std::size_t bytes;  // 0: there is none
        const void* pc;
        uint3 block, thread;
        bool raced;  // that does no harm if it leaves what was there
        Report race;
        char before[16];
    };

    struct Moment {
        std::uint32_t interval, time;
    };

    // What the threads of one block wrote that others are sure to see: all of earlier intervals, and of each thread what
    // was before its fence.
    struct Seen {
        std::uint32_t interval = 0;
        std::unordered_map<unsigned, std::uint32_t> times;

        void add(unsigned thread, const Moment& fence);
        void add(const Seen& other);
        bool holds(std::uint32_t write_interval, unsigned thread, std::uint32_t time) const;
    };

    // What a block has shown at an atomic variable, and up to which interval the fences of all its threads are in that.
    struct Shown {
        std::uint32_t turn;
        Seen seen;
        std::uint32_t interval;
    };

    struct SyncPoint {
        std::vector<Shown> shown;
        std::uint32_t turn = 0;  // of the block that has taken in the first `taken` of them
        std::size_t taken = 0;
    };

    void new_interval();
    void add_region(Space space, char* begin, std::size_t bytes, int argument);
    Region* find(const char* address, std::size_t bytes);
    Region* find_on_heap(const char* address, std::size_t bytes);
    void touch(Region& region, std::size_t offset, std::size_t bytes, bool write, const void* pc);
    void tell_touched(const Region& region) const;
    bool is_threads_own(const char* address, std::size_t bytes) const;

    bool ordered(std::uint32_t interval, unsigned thread, unsigned sync, std::uint32_t time) const;
    bool read_is_ordered(const Cell& cell) const;
    bool passes_a_variable(const Touch& access) const;
    void check_byte(const Touch& access, Cell& cell, std::size_t byte, bool& raced);
    void record_read(Cell& cell, bool strong, std::uint32_t place) const;
    void record_write(Cell& cell, bool strong, std::size_t bytes, std::uint32_t place) const;
    void check_initialised(const Touch& access) const;

    std::uint32_t turn_of(std::uint32_t interval) const;
    enum class Earlier { read, write, copy };
    void report_race(const Touch& access, const Cell& cell, std::size_t byte, Earlier earlier, unsigned thread);
    void suspect(const Report& report, std::uint32_t read_place);
    void begin_store(const Touch& access);
    void settle_store();
    bool holds_unset(const char* address, std::size_t bytes) const;
    [[noreturn]] void report_beyond_variable(const Touch& access);
    [[noreturn]] void report_forbidden(const Touch& access);
    [[noreturn]] void report_out_of_bounds(const char* address, std::size_t bytes, bool write,
                                           const void* pc);
    [[noreturn]] void report_beyond_allocation(const char* address, std::size_t bytes, bool write, const void* pc);
    void name(char* text, std::size_t capacity, const Region& region, std::size_t byte) const;

    Worker* worker_ = nullptr;
    const Launch* launch_ = nullptr;
    std::vector<Region> regions_;  // the buffers come first, by their addresses
    std::size_t buffers_ = 0;
    Buffer heap_buffer_{};
    Region heap_region_{};  // all of it; without cells as long as nothing of it is touched
    const SharedLayout* layout_ = nullptr;  // of the static shared memory
    std::uint32_t interval_ = 0, block_interval_ = 0, turn_ = 0;
    std::vector<std::uint32_t> first_intervals_;  // of the blocks run so far
    std::vector<std::uint64_t> block_numbers_;

    std::uint16_t next_sync();
    bool knows_warp(const Fiber& fiber, unsigned warp, unsigned sync) const;
    bool was_read_by(const Cell& cell, const Fiber& fiber) const;

    std::uint16_t sync_ = 0;        // how many there were in this interval
    std::uint32_t synced_warps_ = 0;  // those that took part in one
    // known_[w][a][b]: accesses of lane b with a smaller sync are ordered before what lane a does now.
    std::uint16_t known_[max_threads / warp_size][warp_size][warp_size];
    // known_warps_[w][v]: accesses of warp v with a smaller sync are ordered before what warp w does now.
    std::uint16_t known_warps_[max_threads / warp_size][max_threads / warp_size];

    std::vector<Suspect> suspects_;
    std::unordered_set<std::uint32_t> compared_places_;  // of reads whose value went to atomicCAS
    Store store_{};
    bool unset_was_read_ = false;  // memory holds, of its own, what marks variables that nobody has set

    std::unordered_map<const char*, SyncPoint> sync_points_;
    std::uint32_t time_ = 0;  // counts accesses
    std::unordered_map<unsigned, Moment> fences_;          // of each thread of this block, the last one
    std::unordered_map<std::uint32_t, Seen> seen_blocks_;  // by their turn
    std::unordered_map<unsigned, Seen> seen_threads_;      // of this block, by who sees them
};

extern Checker checker;

}  // namespace gpunn_emulator

// Watches every access of a kernel. Check mode only, and there one host thread runs all blocks.
#pragma once
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "variables.h"
#include "worker.h"

namespace gpunn_emulator {

// What is known of one word, or of a part of it where parts are accessed by themselves. Time is counted in intervals: a
// new one begins with every block and at every block barrier. So two accesses of a block are ordered when their
// intervals differ, and those of two blocks when a barrier across the grid lies between. Inside an interval, lanes of a
// warp are ordered by __syncwarp, and warps by barriers of tiles: `sync` counts both.
struct Cell {
    std::uint32_t write_interval, read_interval;  // 0: never
    std::uint32_t read_lanes;  // of warp read_warp, in read_interval; of many warps: which warps
    std::uint32_t write_place, read_place;        // in the library, of the last one; 0: not known
    std::uint32_t write_time;  // how many fences there were before
    std::uint16_t write_sync, read_sync;
    unsigned write_thread : 11;
    unsigned read_warp : 5;
    unsigned read_lane : 5;                 // of read_warp, the last one; of many warps only
    bool write_strong : 1, write_long : 1;  // of 8 bytes or more
    bool read_by_many_warps : 1, read_by_many_blocks : 1, read_by_many_clusters : 1, read_strong : 1;
    bool write_async : 1;     // write_thread is a column of Clocks
    bool copy_under_way : 1;  // write_thread has started an asynchronous copy to here and has not waited for it
};

static_assert(sizeof(Cell) == 32, "half a cache line");

// How memory is accessed. Strong accesses (volatile, relaxed, acquire and release of PTX) and atomic operations do not
// race with each other. An atomic update depends on what was there before; others, as atomicExch, need not.
enum class Manner { plain, strong, atomic, atomic_update };

enum class Space { argument, static_shared, dynamic_shared, device_variable, heap };

struct Region {
    Space space;
    char *begin, *end;
    Cell* cells;
    int argument;
    Access allowed;
    std::uint32_t* rows = nullptr;  // of shared memory, see Clocks; one for each cell, at the place of its first byte
    std::size_t row_length = 0;
    Buffer* buffer = nullptr;
    Span touched = {};       // in this launch
    unsigned unit_bits = 2;  // a cell is for 1 << unit_bits bytes
    const Worker* owner = nullptr;  // of shared memory

    std::size_t bytes() const { return (std::size_t)(end - begin); }
    std::size_t unit() const { return (std::size_t)1 << unit_bits; }
    std::size_t cell_count() const { return (bytes() + unit() - 1) >> unit_bits; }
    Cell& cell_of(std::size_t offset) const { return cells[offset >> unit_bits]; }
    std::uint32_t* row_of(std::size_t offset) const { return rows + (offset & ~(unit() - 1)) * row_length; }
    // Makes the cells small enough for an access to be some whole ones.
    void split_for(std::size_t offset, std::size_t bytes) {
        if ((offset | bytes) & (unit() - 1)) split((unsigned)__builtin_ctzll(offset | bytes));
    }
    void split(unsigned bits);  // makes it the new unit_bits
    void free_cells();
};

// Who is ordered after whom where mbarriers and asynchronous reads order threads one by one. Time is counted in stamps:
// each arrival begins a new one. For each cell of shared memory there is a row of stamps: when it was written, and when
// each column last read it since. Columns are the threads, then mbarriers, whose copies write, and what reads
// asynchronously. of(t)[c]: what column c did at smaller stamps is ordered before what thread t does now.
struct Clocks {
    static const unsigned extra_columns = 64;
    static const unsigned head = 3;  // of a row: two words with a bit for each 32 columns that have read, and the write

    bool on = false;
    unsigned threads = 0, columns = 0, used = 0;
    std::uint32_t now = 1, block_begin = 1, interval_begin = 1;
    std::vector<std::uint32_t> known, arriving, completed;  // of threads, and of columns after them
    std::vector<std::uint32_t> proxy_fences;                // of threads
    std::vector<const char*> what;                          // the columns after the threads are
    std::unordered_map<unsigned, unsigned> readers;         // their columns

    std::size_t row_length() const { return head + columns; }
    std::uint32_t* of(unsigned thread) { return known.data() + (std::size_t)thread * columns; }
    const std::uint32_t* of(unsigned thread) const { return known.data() + (std::size_t)thread * columns; }
};

struct Moment {
    std::uint32_t interval, time, stamp;  // stamp: of Clocks, 0 before they are on
};

// What the threads of one block wrote that others are sure to see: all of earlier intervals, and of each thread what
// was before its fence.
struct Seen {
    std::uint32_t interval = 0;
    std::unordered_map<unsigned, Moment> fences;

    void add(unsigned thread, const Moment& fence);
    void add(const Seen& other);
    bool holds(std::uint32_t write_interval, unsigned thread, std::uint32_t time) const;
    bool holds_warp(unsigned warp) const;
};

// What barriers of warps and of tiles order within an interval.
struct Syncs {
    // lanes[w][a][b]: accesses of lane b of warp w with a smaller sync are ordered before what lane a does now.
    std::uint16_t lanes[max_threads / warp_size][warp_size][warp_size];
    // warps[w][v]: accesses of warp v with a smaller sync are ordered before what warp w does now.
    std::uint16_t warps[max_threads / warp_size][max_threads / warp_size];
};

// What is known of the block that runs, or of one that is held: of its shared memory and of its threads.
struct CheckedBlock {
    Region shared_[2] = {};  // dynamic and static
    std::uint32_t interval_ = 0;
    std::uint32_t block_interval_ = 0, turn_ = 0;  // its first interval; how many blocks have begun before it
    std::uint16_t sync_ = 0;                       // how many there were in this interval
    std::uint32_t synced_warps_ = 0;               // those that took part in one
    std::unique_ptr<Syncs> syncs_;
    Clocks clocks_;
    std::vector<std::uint32_t> proxy_fences_;  // of threads: the interval, for writes from before the clocks
    std::unordered_map<unsigned, Moment> fences_;          // of each thread of this block, the last one
    std::unordered_map<std::uint32_t, Seen> seen_blocks_;  // by their turn
    std::unordered_map<unsigned, Seen> seen_threads_;      // of this block, by who sees them
};

class Checker : CheckedBlock {
public:
    void begin_launch(Launch& launch);
    void settle();  // when all blocks have run
    void settle_store() {
        if (store_.bytes) end_store();
    }
    void end_launch();
    void begin_block(Worker& worker);
    void hold_block();  // the one that runs, for another one to begin or go on
    void resume_block(Worker& worker);
    void block_barrier();
    void grid_barrier() { grid_interval_ = last_interval_ + 1; }  // opens, and has not yet opened in any block
    void cluster_barrier(bool releases);  // the same of the cluster of the block that runs
    void fence_of_cluster() { fenced_ = true; }
    void end_block();  // of a cluster, that runs
    void warp_barrier(unsigned warp, unsigned lanes);
    void tile_barrier(unsigned first_warp, unsigned warps);
    void lane_joins_collective(Worker& worker, const Fiber& fiber, const Warp& warp);
    void lane_left_collective(Worker& worker, const Fiber& waiting, const Fiber& gone);

    // Looks for all that can be wrong with an access, and keeps what later ones are to be compared with.
    void access(const char* address, std::size_t bytes, bool write, Manner manner, const void* pc);
    void fetch(const char* address, std::size_t bytes, const void* pc);  // of a texture
    // Reports a read by a texture or a surface of what this launch has written.
    void check_coherent(const char* address, std::size_t bytes, const void* pc);
    void async_copy_starts(const AsyncCopy& copy, const void* pc);
    void async_copy_arrives(const AsyncCopy& copy);

    // Of Hopper. A column is for one mbarrier or one asynchronous reader.
    unsigned add_column(const char* what);
    void release(unsigned column);
    // Of an mbarrier: at one of another block what the thread knows is kept by the barrier's address.
    void release_to(const void* barrier);
    void complete(const Worker& home, const void* barrier, unsigned column);
    void acquire(const void* barrier, unsigned column);
    void fence_proxy();
    void bulk_copy_starts(const char* shared, std::size_t bytes, const void* pc);
    void bulk_copy_arrives(const char* shared, std::size_t bytes, unsigned column);
    AsyncRead begin_async_read(unsigned reader);  // a thread, or max_threads + a warpgroup
    void async_read(const char* address, std::size_t bytes, const AsyncRead& read, unsigned thread, const void* pc);
    void learn(const AsyncRead& read);
    void fence();
    // Who writes here after a fence shows what was before the fence to who reads or writes here later.
    void synchronising(const char* address, std::size_t bytes, bool write, Manner manner, const void* pc);
    void lane_is_missing(unsigned lane, unsigned source, bool shifted) const;
    void shift_is_empty(unsigned delta, int width, const void* pc) const;
    void compare_and_swap(const char* address, std::size_t bytes, const void* compare);
    void allocated(char* memory, std::size_t bytes);  // by malloc

private:
    struct Touch {
        Region* region;
        std::size_t offset, bytes;
        bool write;
        Manner manner;
        const void* pc;
        std::uint32_t place;  // of pc in the library

        bool is_strong() const { return manner != Manner::plain; }
        bool is_atomic() const { return manner >= Manner::atomic; }
    };

    // A buffer or a variable that an access was in. Who finds the next one there need not look at the regions: it may
    // still race, read what nobody has written, or write what may only be read.
    struct Extent {
        const char* begin;
        std::size_t bytes;  // 0: look again
        Region* region;

        bool holds(const char* address, std::size_t count) const {
            return count <= bytes && (std::size_t)(address - begin) <= bytes - count;
        }
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
        bool is_shared;
        bool raced;  // that does no harm if it leaves what was there
        Report race;
        char before[16];
    };

    // What a block has shown at an atomic variable up to a stint of its own, and up to which interval the fences of all its
    // threads are in that.
    struct Shown {
        std::uint32_t turn, stint;
        Seen seen;
        std::uint32_t interval;
    };

    // What threads of other blocks have brought to an mbarrier, by the turns of their blocks.
    struct Brought {
        std::unordered_map<std::uint32_t, Seen> arriving, completed;
    };

    struct SyncPoint {
        // Of a block: what it has taken in of what others have shown, and its own place there, counted from 1.
        struct Reader {
            std::size_t taken = 0, own = 0;
        };
        std::vector<Shown> shown;
        std::unordered_map<std::uint32_t, Reader> readers;  // by their turns
    };

    // Intervals that a block began with none of another block between.
    struct Intervals {
        std::uint32_t first, turn;
    };

    // The last access of a thread to the shared memory of another block of its cluster.
    struct RemoteUse {
        const Region* region;
        std::size_t byte;
        bool write;
        std::uint32_t turn, interval, time;
        unsigned thread;
        uint3 block, index;
        const void* pc;
    };

    struct Regions {
        Region *first, *last;

        Region* begin() const { return first; }
        Region* end() const { return last; }
    };

    void new_interval();
    void forget_syncs();
    void set_shared(Region* both, const Worker& worker);
    // The shared memory that a thread may access: that of its block, or of all blocks of its cluster.
    Regions shared() {
        if (cluster_shared_.empty()) return {shared_, shared_ + 2};
        return {cluster_shared_.data(), cluster_shared_.data() + cluster_shared_.size()};
    }
    void begin_cluster(const Cluster& cluster);
    bool use_remotely(const Touch& access);
    void report_remote(const RemoteUse& use, const char* why) const;
    Region* find(const char* address, std::size_t bytes);
    Region* find_on_heap(const char* address, std::size_t bytes);
    Extent extent_of(const char* address, std::size_t bytes, bool write, const void* pc);
    void touch(const Touch& access, bool write);
    void note_written(const Touch& access, bool write);
    void tell_touched(const Region& region) const;
    bool is_threads_own(const char* address, std::size_t bytes) const;

    // Whether an interval is one of the block that runs.
    bool is_here(std::uint32_t interval) const {
        return interval >= block_interval_ && (no_other_since_ || turn_of(interval) == turn_);
    }
    // Or one of those of its cluster: one cluster runs at a time.
    bool is_of_cluster(std::uint32_t interval) const {
        return cluster_shared_.empty() ? is_here(interval) : interval >= cluster_begin_;
    }
    // Whether a barrier of the grid or the cluster has ordered what was then.
    bool is_past(std::uint32_t interval) const {
        return interval < grid_interval_ || (interval >= cluster_begin_ && interval < cluster_interval_);
    }
    bool ordered(std::uint32_t interval, unsigned thread, unsigned sync, std::uint32_t time) const;
    bool ordered_in_interval(unsigned thread, unsigned sync, std::uint32_t time) const;
    bool read_is_ordered(const Cell& cell) const;
    bool is_constant(const Touch& access) const;
    std::size_t in_library(const Region& region, std::size_t offset) const;
    void start_clocks();
    void learn_by_clocks(const Seen& seen);
    void meet_by_clocks(unsigned first_warp, unsigned warps, unsigned lanes);
    std::uint32_t* row(const Region& region, std::size_t byte) const;
    bool ordered_by_clocks(const Region& region, std::size_t byte, unsigned thread) const;
    int unordered_reader(const std::uint32_t* row) const;
    void mark_read(std::uint32_t* row, unsigned column) const;
    void mark_write(std::uint32_t* row) const;
    unsigned me() const { return asking_ < max_threads ? asking_ : worker_->fiber()->number; }
    void check_cell(const Touch& access, Cell& cell, std::size_t byte, bool& raced);
    bool find_race(const Touch& access, const Cell& cell, std::size_t byte, std::uint32_t* stamps);
    void record_read(Cell& cell, bool strong, std::uint32_t place) const;
    void record_write(Cell& cell, bool strong, std::size_t bytes, std::uint32_t place) const;
    bool is_initialised(const Touch& access) const;
    void report_unless_padding(const Touch& access) const;
    std::uint16_t next_sync();
    bool knows_warp(const Fiber& fiber, unsigned warp, unsigned sync) const;
    bool was_read_by(const Cell& cell, const Fiber& fiber) const;

    std::uint32_t turn_of(std::uint32_t interval) const;
    enum class Earlier { read, write, copy, unfenced_write };
    void report_race(const Touch& access, const Cell& cell, std::size_t byte, Earlier earlier, unsigned thread);
    void suspect(const Report& report, std::uint32_t read_place);
    void begin_store(const Touch& access);
    void end_store();
    Report describe_store(Kind kind, Harmless harmless) const;
    bool holds_unset(const char* address, std::size_t bytes) const;
    bool holds_shared_address(const char* address, std::size_t bytes);
    void report_read_only(const Touch& access) const;
    [[noreturn]] void report_beyond_variable(const Touch& access);
    [[noreturn]] void report_forbidden(const Touch& access);
    [[noreturn]] void report_out_of_bounds(const char* address, std::size_t bytes, bool write,
                                           const void* pc);
    [[noreturn]] void report_beyond_allocation(const char* address, std::size_t bytes, bool write, const void* pc);
    uint3 index_of(const Worker& other) const;
    void name(char* text, std::size_t capacity, const Region& region, std::size_t byte) const;

    unsigned asking_ = max_threads;  // the thread that the running one asks for, if it is another

    Worker* worker_ = nullptr;
    Launch* launch_ = nullptr;
    const char* base_ = nullptr;   // of its library
    std::vector<Region> regions_;  // the buffers by their addresses, then the variables of the device
    std::size_t buffers_ = 0;
    Buffer heap_buffer_{};
    Region heap_region_{};  // all of it; without cells as long as nothing of it is touched
    const Variables* variables_ = nullptr;
    Extent extents_[256] = {};         // where accesses were last, by their places in the kernel
    std::uint32_t last_interval_ = 0;  // of all blocks
    std::uint32_t grid_interval_ = 0;  // those before are ordered before what any thread does now
    // Of the cluster: its first interval, and that of its last barrier, which orders as that of the grid does.
    std::uint32_t cluster_begin_ = 0, cluster_interval_ = 0;
    std::uint32_t cluster_turn_ = 0;  // of the block that began first
    std::int64_t cluster_number_ = -1;
    std::vector<Region> cluster_shared_;  // dynamic and static, of each of its blocks
    bool has_met_ = false, fenced_ = false;  // since it began; since the last barrier
    std::unordered_map<std::uint64_t, RemoteUse> remote_uses_;
    std::unordered_map<const void*, Brought> brought_;
    std::uint32_t stint_ = 0;          // counts how often another block has begun or gone on
    std::vector<Intervals> intervals_;
    bool no_other_since_ = true;                // this block began
    std::vector<std::uint64_t> block_numbers_;  // by turns
    std::unordered_map<std::uint64_t, CheckedBlock> held_;

    std::vector<Suspect> suspects_;
    std::unordered_set<std::uint32_t> compared_places_;  // of reads whose value went to atomicCAS
    Store store_{};
    bool unset_was_read_ = false;  // memory holds, of its own, what marks variables that nobody has set

    std::unordered_map<const char*, SyncPoint> sync_points_;
    std::uint32_t time_ = 0;  // counts fences
};

extern Checker checker;

}  // namespace gpunn_emulator

// Watches every access of a kernel. Check mode only, and there one host thread runs all blocks.
#pragma once
#include <bitset>
#include <cstdint>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "guards.h"
#include "worker.h"

namespace gpunn_emulator {

// What is known of one byte. Time is counted in intervals: a new one begins with every block and at every
// block barrier, so two accesses of a block are ordered when their intervals differ. Inside an interval,
// lanes of a warp are ordered by __syncwarp, counted in `sync`.
struct Cell {
    std::uint32_t write_interval, read_interval;  // 0: never
    std::uint32_t read_lanes;                     // of warp read_warp, in read_interval
    std::uint32_t write_place, read_place;        // in the library, of the last one; 0: not known
    std::uint16_t write_thread, read_warp;
    std::uint16_t write_sync, read_sync;
    bool write_atomic : 1, write_long : 1;  // of 8 bytes or more
    bool read_by_many_warps : 1, read_by_many_blocks : 1;
    bool write_async : 1;     // write_thread is a column of Clocks
    bool copy_under_way : 1;  // write_thread has started an asynchronous copy to here and has not waited for it
};

enum class Space { argument, static_shared, dynamic_shared, device_variable };

struct Region {
    Space space;
    char *begin, *end;
    Cell* cells;
    int argument;
    Access allowed;
    std::uint32_t* rows = nullptr;  // of shared memory, see Clocks
    Buffer* buffer = nullptr;
    Span touched = {};  // in this launch
};

// Who is ordered after whom where mbarriers and asynchronous reads order threads one by one. Time is counted in stamps:
// each arrival begins a new one. For each byte of shared memory there is a row of stamps: when it was written, and when
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

class Checker {
public:
    void begin_launch(const Launch& launch);
    void settle();  // when all blocks have run
    void end_launch();
    void begin_block(Worker& worker);
    void block_barrier();
    void warp_barrier(unsigned warp, unsigned lanes);
    void lane_joins_collective(Worker& worker, const Fiber& fiber, const Warp& warp);
    void lane_left_collective(Worker& worker, const Fiber& waiting, const Fiber& gone);

    void access(const char* address, std::size_t bytes, bool write, bool atomic, const void* pc);
    void async_copy_starts(const AsyncCopy& copy, const void* pc);
    void async_copy_arrives(const AsyncCopy& copy);

    // Of Hopper. A column is for one mbarrier or one asynchronous reader.
    unsigned add_column(const char* what);
    void release(unsigned column);
    void complete(unsigned column);
    void acquire(unsigned column);
    void fence_proxy();
    void bulk_copy_starts(const char* shared, std::size_t bytes, const void* pc);
    void bulk_copy_arrives(const char* shared, std::size_t bytes, unsigned column);
    AsyncRead begin_async_read(unsigned reader);  // a thread, or max_threads + a warpgroup
    void async_read(const char* address, std::size_t bytes, const AsyncRead& read, unsigned thread, const void* pc);
    void learn(const AsyncRead& read);
    void fence();
    void atomic(const char* address, std::size_t bytes, const void* pc);
    void compare_and_swap(const char* address, std::size_t bytes, const void* compare);

private:
    struct Touch {
        Region* region;
        std::size_t offset, bytes;
        bool write, atomic;
        const void* pc;
        std::uint32_t place;  // of pc in the library
    };

    // A plain read beside atomic operations, which is a race unless its value goes to atomicCAS.
    struct Suspect {
        Report report;
        std::uint32_t read_place;
    };

    // A store that raced with others. It does no harm if it leaves what was there.
    struct Store {
        Report report;
        const char* address;
        std::size_t bytes;  // 0: there is none
        char before[16];
    };

    // The threads and blocks whose earlier writes a thread sees once it has touched an atomic variable after
    // them.
    struct SyncPoint {
        std::vector<std::uint32_t> blocks;  // by their turn
        std::uint32_t turn = 0;             // the block that `threads` belong to
        std::bitset<max_threads> threads;
    };

    void new_interval();
    void add_region(Space space, char* begin, std::size_t bytes, int argument);
    Region* find(const char* address, std::size_t bytes);
    void touch(Region& region, std::size_t offset, std::size_t bytes, bool write, const void* pc);
    void tell_touched(const Region& region) const;
    bool is_emulators_own(const char* address, std::size_t bytes) const;

    bool ordered(std::uint32_t interval, unsigned thread, unsigned sync) const;
    bool read_is_ordered(const Cell& cell) const;
    void start_clocks();
    std::uint32_t* row(const Region& region, std::size_t byte) const;
    bool ordered_by_clocks(const Region& region, std::size_t byte, unsigned thread) const;
    int unordered_reader(const std::uint32_t* row) const;
    void mark_read(std::uint32_t* row, unsigned column) const;
    void mark_write(std::uint32_t* row) const;
    unsigned me() const { return asking_ < max_threads ? asking_ : worker_->fiber()->number; }
    void check_byte(const Touch& access, Cell& cell, std::size_t byte, bool& raced);
    void record_read(Cell& cell, std::uint32_t place) const;
    void record_write(Cell& cell, bool atomic, std::size_t bytes, std::uint32_t place) const;
    void check_initialised(const Touch& access) const;

    std::uint32_t turn_of(std::uint32_t interval) const;
    enum class Earlier { read, write, copy, unfenced_write };
    void report_race(const Touch& access, const Cell& cell, std::size_t byte, Earlier earlier, unsigned thread);
    void suspect(const Report& report, std::uint32_t read_place);
    void settle_store();
    [[noreturn]] void report_forbidden(const Touch& access);
    [[noreturn]] void report_out_of_bounds(const char* address, std::size_t bytes, bool write,
                                           const void* pc);
    void name(char* text, std::size_t capacity, const Region& region, std::size_t byte) const;

    Clocks clocks_;
    std::vector<std::uint32_t> proxy_fences_;  // of threads: the interval, for writes from before the clocks
    unsigned asking_ = max_threads;  // the thread that the running one asks for, if it is another

    Worker* worker_ = nullptr;
    const Launch* launch_ = nullptr;
    std::vector<Region> regions_;  // the buffers come first, by their addresses
    std::size_t buffers_ = 0;
    std::vector<std::size_t> guards_;
    std::uint32_t interval_ = 0, block_interval_ = 0, turn_ = 0;
    std::vector<std::uint32_t> first_intervals_;  // of the blocks run so far
    std::vector<std::uint64_t> block_numbers_;

    // known_[w][a][b]: accesses of lane b with a smaller sync are ordered before what lane a does now.
    std::uint16_t known_[max_threads / warp_size][warp_size][warp_size];
    std::uint16_t syncs_[max_threads / warp_size];

    std::vector<Suspect> suspects_;
    std::unordered_set<std::uint32_t> compared_places_;  // of reads whose value went to atomicCAS
    Store store_{};

    std::unordered_map<const char*, SyncPoint> sync_points_;
    std::bitset<max_threads> fenced_;
    std::vector<bool> seen_blocks_;
    std::unordered_map<unsigned, std::bitset<max_threads>> seen_threads_;
};

extern Checker checker;

}  // namespace gpunn_emulator

// Counts what a kernel does, as the warps of a GPU would do it. Count mode only, and there one host thread runs all
// blocks.
//
// The lanes of a warp run one after the other. An action of theirs is one of the warp's if it is at the same place, in
// the same iteration of each loop around it, since they last came together at a barrier or a collective: there the
// lanes of a GPU's warp are converged.
#pragma once
#include <cstdint>
#include <list>
#include <unordered_map>
#include <vector>

#include "worker.h"

namespace gpunn_emulator {

// The order of these lists is that of ../counting.py.
enum class Action : int { block, load, store, atomic, block_barrier, warp_barrier, collective, matrix_row };
enum class Space : int { none, global, shared };

// What the warps of a launch did at one place. An action is one instruction of a warp.
struct PlaceCount {
    std::uint64_t place;      // the address after the call, in the library
    std::uint64_t operation;  // of a collective, in the library
    int action, space;
    unsigned bytes, part;  // of an access that is made as several, which one
    std::uint64_t executions, lanes;
    std::uint64_t sectors, least_sectors;      // of 32 bytes, in global memory
    std::uint64_t wavefronts, least_wavefronts;  // turns of the banks of shared memory
    std::uint64_t worst_degree;
    std::uint64_t collisions;  // lanes whose atomic waits for another lane's at the same address
    std::uint64_t cache_hits;  // sectors found in the model of the L2 cache
};

struct LaunchCount {
    std::uint64_t read_sectors, written_sectors;        // of global memory, each once
    std::uint64_t fetched_sectors, written_back_sectors;  // by the model of the L2 cache
};

struct CountSettings {
    std::uint64_t cache_bytes;
    const char *constants_begin, *constants_end;
};

static_assert(sizeof(PlaceCount) == 104 && sizeof(LaunchCount) == 32 && sizeof(CountSettings) == 24,
              "the Python side must follow");

// An L2 cache that holds the lines used last, whatever their addresses.
class Cache {
public:
    void clear(std::uint64_t bytes);
    // Returns whether the sector was there.
    bool touch(std::uint64_t sector, bool write, LaunchCount& count);
    void write_back(LaunchCount& count);

private:
    struct Line {
        std::uint64_t number;
        unsigned valid, dirty;  // one bit for each sector
    };

    std::uint64_t capacity_ = 0;
    std::list<Line> lines_;  // the one used last comes first
    std::unordered_map<std::uint64_t, std::list<Line>::iterator> found_;
};

class Counter {
public:
    void prepare(const CountSettings& settings) { next_settings_ = settings; }
    void begin_launch(const Launch& launch);
    void settle();  // when all blocks have run
    void end_launch();
    void begin_block(Worker& worker);
    void hold_block();  // that runs, for another one to begin or go on
    void resume_block(Worker& worker);
    void block_barrier();
    void converge(unsigned warp);  // all its lanes have come together

    void block(const void* pc);
    void enter_function(const void* caller);
    void leave_function();
    void access(const char* address, std::size_t bytes, Action action, const void* pc);
    void bulk_access(const char* address, std::size_t bytes, bool write, const void* pc);
    void barrier(const void* pc);
    void collective(WarpOperation operation, const void* pc);
    // Where the calls are that the running thread is in.
    void name_callers(Report& report) const;
    // While the runtime computes for several lanes at once, nothing is one lane's doing.
    void suspend(bool suspended) { suspended_ = suspended; }

    const std::vector<PlaceCount>& places() const { return places_; }
    const LaunchCount& launch_count() const { return launch_count_; }

private:
    struct Key {
        std::uint64_t context;
        std::uint32_t repetition;
        bool operator==(const Key& other) const {
            return context == other.context && repetition == other.repetition;
        }
    };
    struct KeyHash {
        std::size_t operator()(const Key& key) const { return (std::size_t)(key.context + key.repetition); }
    };
    struct PlaceKey {
        std::uint64_t place, operation;
        std::uint32_t kind, part;
        bool operator==(const PlaceKey& other) const {
            return place == other.place && operation == other.operation && kind == other.kind && part == other.part;
        }
    };
    struct PlaceHash {
        std::size_t operator()(const PlaceKey& key) const {
            return (std::size_t)(key.place * 0x9e3779b97f4a7c15u + key.operation * 31 + key.kind * 7 + key.part);
        }
    };
    struct Addresses {
        std::uint64_t of[warp_size];
    };
    // What some lanes of a warp have done together, as far as they have come.
    struct Group {
        unsigned mask = 0;
        std::uint64_t began = 0;
        std::uint64_t turn = ~std::uint64_t(0);  // of the lane that came here after the fewest actions of its own
        int addresses = -1;
    };
    struct Pending {
        bool listed = false;
        std::vector<Key> lanes[warp_size];  // the last one of each lane at each depth of loops
        std::unordered_map<Key, Group, KeyHash> groups;
    };
    struct WarpCount {
        std::vector<Pending> places;
        std::vector<unsigned> listed;  // those that something is known of
        std::uint64_t actions = 0;
        std::size_t groups = 0;
    };
    // A loop, or a call: that is an iteration 0.
    struct Loop {
        const void *first, *last;
        std::uint32_t iteration;
    };
    struct KnownLoop {
        const void* first;
        const void* last;
        std::uint64_t around;  // the context of the loops around it
        std::uint32_t iteration;
    };
    // Where a thread is among the loops of its kernel.
    struct Path {
        std::vector<Loop> loops;
        std::vector<KnownLoop> known;
        std::vector<const void*> callers;  // the last block before each call under way
        std::vector<std::size_t> depths;   // loops in each call under way begin there
        const void* previous = nullptr;
        std::uint64_t context = 0;
        unsigned since_pause = 0;
        std::uint64_t actions = 0;

        void turn_back(const void* first);
        void find_context();
    };
    struct CacheAccess {
        std::uint64_t turn, sector;
        unsigned place;
        bool write;
    };
    // What is known of a block, and not yet counted.
    struct Block {
        WarpCount warps[max_threads / warp_size];
        std::vector<Path> paths;
        std::vector<CacheAccess> cache_log[max_threads / warp_size];
        std::size_t logged = 0;
    };

    void exchange(Block& held);

    unsigned place_of(const void* pc, Action action, Space space, unsigned bytes, unsigned part,
                      const void* operation);
    void act(unsigned place, std::uint64_t address);
    void access_part(const char* address, unsigned bytes, unsigned part, Action action, Space space, const void* pc);
    void pause_if_ahead(Path& path, const void* pc);
    void retire(unsigned warp, unsigned place, Group& group);
    void retire_old(unsigned warp);
    void count_global(PlaceCount& count, unsigned warp, unsigned place, const Group& group);
    void count_shared(PlaceCount& count, const Group& group) const;
    void serve(PlaceCount& count, const Addresses& addresses, unsigned lanes) const;
    void count_collisions(PlaceCount& count, const Group& group) const;
    void use_cache();
    Space space_of(const char* address) const;
    bool counts() const { return worker_ && worker_->fiber() && !suspended_; }

    const Launch* launch_ = nullptr;
    Worker* worker_ = nullptr;
    bool suspended_ = false;
    CountSettings settings_{}, next_settings_{};
    std::vector<PlaceCount> places_;
    LaunchCount launch_count_{};
    std::unordered_map<PlaceKey, unsigned, PlaceHash> found_;
    WarpCount warps_[max_threads / warp_size];
    Path paths_[max_threads];
    std::vector<Addresses> addresses_;
    std::vector<int> free_addresses_;
    std::vector<CacheAccess> cache_log_[max_threads / warp_size];
    std::size_t logged_ = 0;
    std::unordered_map<std::uint64_t, Block> held_;
    Cache cache_;
    struct Page {
        std::uint64_t read[2], written[2];  // one bit for each sector of 4 KiB
    };
    std::unordered_map<std::uint64_t, Page> pages_;
};

extern Counter counter;

}  // namespace gpunn_emulator

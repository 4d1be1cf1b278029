// What a launch asks for, and what it found: the structures that the Python side shares (../module.py,
// ../report.py).
#pragma once
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

namespace gpunn_emulator {

// The order of this list is that of report.KINDS.
enum class Kind : int {
    race,
    out_of_bounds,
    uninitialised,
    misaligned,
    divergent_barrier,
    deadlock,
    read_only_write,
    integer_overflow,
    bounds,
    shift,
    division,
    warp_mask,
    assertion,
    trap,
    fault,
    resources,
    texture,
    misuse,
    nan,
    infinity,
};

// Why a mistake changes nothing. The order of this list is that of report.HARMLESS.
enum class Harmless : int {
    no,
    same_value,
    compared_and_swapped,
    if_unused,
    others_returned,
    if_computed,
    if_own,
    wraps,
    shifts_all,
};

const int most_callers = 6;

struct Report {
    int kind;
    int argument;    // its position, or -1
    long long byte;  // offset in the argument or the shared memory, or -1
    const void* pc;  // the address after the instruction, or null where file and line are known
    const char* file;
    int line;
    int harmless;  // an enum Harmless
    int has_other;
    unsigned block[3], thread[3], other_block[3], other_thread[3];
    const void* other_pc;  // of the access it collides with, or null
    const void* callers[most_callers];  // the calls that led there, the last one first; check mode only
    char message[240];
};

struct Span {
    std::size_t begin, end;
};

// The bytes of a buffer that a launch touched, as ranges that ascend.
struct Touched {
    std::vector<Span> read, wrote;
};

// What a kernel may do with memory, or why it may not touch it.
enum class Access : int { write, read, freed, of_another_device };

// An argument's memory, or an allocation of a device. In check mode nothing else may be touched.
struct Buffer {
    char* memory;
    std::size_t bytes;
    int argument;  // its position, or -1
    int access;    // an enum Access
    // Of memory that outlives the launch: a bit for each byte, whether it was ever written; null for an argument's copy.
    unsigned char* written;
    Touched* touched;  // filled in, unless it is null
};

// The part of the kernel library that the runtime has to know.
struct Library {
    const char* base;           // what to subtract from an address to find it in the file
    std::size_t shared_module;  // of its thread-local storage, which holds the static __shared__ variables
    std::size_t shared_bytes;
    char *data_begin, *data_end;          // its __device__ and __constant__ variables
    const char *image_begin, *image_end;  // all of it
};

// ../report.py and ../module.py lay these out once more.
static_assert(sizeof(Report) == 392 && sizeof(Buffer) == 40 && sizeof(Library) == 56,
              "the Python side must follow");

// Memory as a texture or a surface sees it. Sizes are in elements, of `channels` numbers; one that a shape lacks is 1.
struct Texture {
    std::uint64_t handle;  // what the kernel is given: its place in the table, and above that a number of its own
    char* memory;
    std::size_t row_pitch, slice_pitch;  // bytes from one row to the next; from one slice, layer or face to the next
    int shape;                           // an enum TextureShape of ../include/gpunn_emulator/interface.h
    unsigned width, height, depth;       // depth: of slices, layers or faces
    int channels, bits, kind;            // of an element; an enum TexelKind
    int address_modes[3], linear_filter, normalized_float, normalized_coordinates;  // numbers of CUDA's enums
    unsigned border[4];                  // as the channels of a texel
    int is_surface, may_gather;
};

const std::size_t texture_slots = 1 << 20;

enum class Order : int { forward, reverse, shuffled };

struct Request {
    void (*entry)(const char* arguments);
    const char* arguments;
    unsigned grid[3], block[3];
    std::size_t dynamic_shared_bytes;
    int order;
    int floats;  // what check mode watches of their operations, see floats.h
    std::uint64_t seed;
    const Library* library;
    Buffer* buffers;
    int buffer_count;
    int handles_signals;  // this host thread, so that the launch has to return now and then
    const Texture* const* textures;  // texture_slots of them, null where there is none; or null
    std::uint64_t blocks_at_once;    // how many a GPU has room for
    int cooperative;                 // all of them are there at once, and barriers across the grid work
    unsigned cluster[3];             // blocks of a cluster, or zeros: none was asked for
};

static_assert(sizeof(Request) == 120 && sizeof(Texture) == 112, "the Python side must follow");

// What gpunn_emulator_launch and gpunn_emulator_resume return instead of a number of reports.
enum class Outcome : int {
    suspended = -1,  // so that Python can act on signals; to be resumed or abandoned
    no_memory = -2,
    nested = -3,    // this host thread has a suspended launch
    forgotten = -4,  // the launch was suspended in the parent of this process
};

// One launch, seen by all the host threads that work on it.
class Launch {
public:
    explicit Launch(const Request& request);

    // The number of a block that nobody has taken yet, or of a cluster where blocks come in clusters; or -1.
    std::int64_t take_block();
    std::uint64_t blocks_to_come() const { return (taken_together_ - std::min(next_.load(), taken_together_)) * cluster_size; }
    void stop() { stopped_ = true; }
    bool is_stopped() const { return stopped_; }

    // The workers of the launch count themselves, and those of them whose threads only wait in loops.
    void count_workers(int more) { changes_++, workers_ += more; }
    void count_stuck(int more) { stuck_ += more, changes_++; }
    bool all_are_stuck() const { return stuck_ == workers_; }
    std::uint64_t changes() const { return changes_; }

    // Blocks that have begun, and wait for others while their workers run those.
    void count_held(int more) { held_ += more; }
    int held() const { return held_; }
    bool has_room() const {
        return request.cooperative || (std::uint64_t)(held_ + workers_) <= request.blocks_at_once;
    }
    // How many blocks of a cooperative launch a worker may hold: they are to be spread over the workers.
    std::size_t share() const { return share_; }
    void set_share(std::uint64_t blocks) { share_ = (std::size_t)blocks; }

    // The barrier across the grid. Who arrives is told at which turn of it the wait is over.
    std::uint64_t arrive_at_grid();
    std::uint64_t grid_turn() const { return grid_turn_; }
    void wait_for_grid(std::uint64_t turn, std::chrono::milliseconds most);
    // Of a cooperative launch: a block has ended, by a mistake if it was given up.
    void note_ended(bool given_up);
    // Of the blocks that have not come to the barrier all have ended.
    bool grid_is_hopeless();
    std::uint64_t ended() const { return ended_; }
    bool has_given_up() const { return given_up_; }

    void add(const Report& report);

    const Request& request;
    const unsigned cluster_size;  // 1: there are no clusters
    const std::uint64_t block_count;
    std::vector<Report> reports;

private:
    std::uint64_t place(std::uint64_t turn) const;

    std::atomic<std::uint64_t> next_{0};
    std::atomic<bool> stopped_{false};
    std::atomic<int> workers_{0}, stuck_{0};
    std::atomic<std::uint64_t> changes_{0};
    std::atomic<int> held_{0};
    std::atomic<std::size_t> share_{~std::size_t(0)};
    std::atomic<std::uint64_t> grid_turn_{0}, ended_{0};
    std::atomic<bool> given_up_{false};
    std::uint64_t arrived_ = 0;
    std::condition_variable grid_turns_;
    std::mutex mutex_;
    std::uint64_t taken_together_;  // how many blocks or clusters there are to take
    std::uint64_t stride_ = 1, offset_ = 0;
};

}  // namespace gpunn_emulator

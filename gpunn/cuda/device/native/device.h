// The emulated device, as all of the API sees it: memory, streams with what waits in them, events, captures, graphs.
//
// "Device memory" is memory of this process. A stream's work runs when it is enqueued (eager), or as late as CUDA's
// rules allow (late): then whoever forgot to wait for it sees old data. Either way the thread that asks for it runs it.
#pragma once
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#define GPUNN_API extern "C" __attribute__((visibility("default")))
#define GPUNN_SHARED __attribute__((visibility("default")))

struct _ts;

namespace gpunn_device {

// Numbers of cudaError_t; those of CUresult are the same wherever both have one.
enum Error : int {
    success = 0,
    invalid_value = 1,
    out_of_memory = 2,
    initialization_error = 3,
    no_device = 100,
    invalid_device = 101,
    invalid_image = 200,
    unsupported_limit = 215,
    no_binary = 209,
    peer_already_enabled = 704,
    peer_not_enabled = 705,
    invalid_source = 300,
    file_not_found = 301,
    invalid_handle = 400,
    illegal_state = 401,
    not_found = 500,
    not_ready = 600,
    illegal_address = 700,
    out_of_resources = 701,
    context_is_destroyed = 709,
    assertion_failed = 710,
    host_memory_registered = 712,
    host_memory_not_registered = 713,
    misaligned_address = 716,
    launch_failure = 719,
    cooperative_too_large = 720,
    not_permitted = 800,
    not_supported = 801,
    capture_unsupported = 900,
    capture_invalidated = 901,
    capture_merge = 902,
    capture_unmatched = 903,
    capture_unjoined = 904,
    capture_isolation = 905,
    capture_implicit = 906,
    captured_event = 907,
    capture_wrong_thread = 908,
    invalid_cluster_size = 912,
};

GPUNN_SHARED const char* error_name(int error);         // as "cudaErrorInvalidValue"
GPUNN_SHARED const char* driver_error_name(int error);  // as "CUDA_ERROR_INVALID_VALUE"
// As "invalid argument"; after it, for errors of a launch, what the emulator reported of the last one.
GPUNN_SHARED const char* error_text(int error);

// ---- settings -------------------------------------------------------------------------------------------------------

struct Settings {
    int devices = 1;
    std::size_t memory = (std::size_t)8 << 30;  // bytes of each device
    bool late = false, check = false;
    int compute_capability = 90;
    int version = 12090;  // of CUDA
};

extern GPUNN_SHARED Settings settings;

// ---- one call at a time -----------------------------------------------------------------------------------------

// Held during each call of the API. Work of a stream may call Python, so nobody waits for the device with Python's
// interpreter lock in hand: it is given back meanwhile.
class GPUNN_SHARED Lock {
public:
    Lock();
    ~Lock();
    Lock(const Lock&) = delete;

private:
    _ts* state_;
};

// The device was used in this process, so that a child of it cannot use it: what takes the lock has done so.
GPUNN_SHARED void note_use();

// ---- memory ---------------------------------------------------------------------------------------------------------

enum class Kind : int { unregistered, host, device, managed };  // numbers of cudaMemoryType
enum class Direction : int { host_to_host, host_to_device, device_to_host, device_to_device, any };

struct Pool;
struct Stream;

struct Span {
    std::size_t begin, end;
};

typedef std::vector<Span> Spans;  // that ascend, and have nothing in common

// Rows of `width` bytes, `pitch` apart.
struct Rows {
    std::size_t width, height = 1, pitch = 0;
    std::size_t extent() const { return width && height ? pitch * (height - 1) + width : 0; }
};

// What a stream's work did to bytes of an allocation, and when in the stream's own time; the node, if it was a graph.
struct Touch {
    const Stream* stream;
    std::int64_t time;
    int node;
    Spans spans;
    bool write;
    std::string what;
};

struct Block {
    char* begin;
    std::size_t bytes;
    Kind kind;
    int device;
    bool registered = false;  // memory of the host's own that was registered
    bool leaving = false;     // it will be freed by work that waits in a stream
    Pool* pool = nullptr;
    char* map = nullptr;  // what was mapped for it, with the pages that guard it
    std::size_t map_bytes = 0;
    // In check mode: a bit for each byte, whether it was written, and what touched it last.
    std::shared_ptr<unsigned char> written = nullptr;
    std::vector<Touch> touches = {};
};

struct GPUNN_SHARED Pool {
    int device;
    std::uint64_t threshold = 0, used = 0, used_high = 0, reserved = 0, reserved_high = 0;
    int reuse[3] = {1, 1, 1};

    void take(std::uint64_t bytes);
    void give_back(std::uint64_t keep);  // what is not in use, down to that many bytes
};

struct Device {
    std::size_t used = 0;
    Pool pool;                     // the default one
    Pool* current_pool = nullptr;  // the one that mallocAsync takes
    std::set<int> peers;           // devices whose memory it may touch
};

extern const std::size_t page;  // bytes

GPUNN_SHARED Device& device(int number);
GPUNN_SHARED int current_device();
GPUNN_SHARED bool has_context();  // whether this thread has had to do with the current device
GPUNN_SHARED void set_context(bool given);
GPUNN_SHARED int set_device(int number);

GPUNN_SHARED int allocate(void** out, std::size_t bytes, Kind kind, Pool* pool = nullptr);
GPUNN_SHARED int release(void* memory, Kind kind);
GPUNN_SHARED int register_host(void* memory, std::size_t bytes);
GPUNN_SHARED int unregister_host(void* memory);
// Takes in memory that is a module's variable.
GPUNN_SHARED void adopt(void* memory, std::size_t bytes);
// The block that an address lies in, or null.
GPUNN_SHARED Block* find_block(const void* address);
GPUNN_SHARED std::map<char*, Block>& all_blocks();
// In check mode memory that was freed stays mapped for a while, so that who touches it can be told.
GPUNN_SHARED const std::deque<Block>& freed_blocks();

// ---- streams --------------------------------------------------------------------------------------------------------

typedef std::function<int()> Work;  // returns an Error

struct Graph;

struct Node {
    std::string label;
    Work work;
    std::vector<int> after;  // numbers of nodes in the graph
};

struct Graph {
    std::vector<Node> nodes;
    // What is known of it while it is captured.
    struct Stream* origin = nullptr;
    int mode = 0;
    bool valid = true;
    std::size_t thread = 0;
};

// How far into each stream's work somebody knows to be done: what he was given came after it.
typedef std::map<const Stream*, std::int64_t> Knowledge;

struct Stream {
    int device = 0;
    unsigned flags = 0;
    int priority = 0;
    bool legacy = false;
    std::deque<Work> queue;
    std::int64_t enqueued = 0, done = 0;
    std::shared_ptr<Graph> graph;  // that it captures
    std::vector<int> last;         // the nodes that its next one comes after
    Knowledge knows;               // check mode
    std::int64_t time = 0;
    bool non_blocking() const { return flags & 1; }
};

struct Mark {
    std::chrono::steady_clock::time_point time;
    Stream* stream = nullptr;
    std::int64_t position = 0;
    Knowledge knows;
};

struct Event {
    int device = 0;
    unsigned flags = 0;
    std::shared_ptr<Mark> mark;  // of its last record
    std::shared_ptr<Graph> graph;
    std::vector<int> last;
};

// What a handle of the API names; null if it is none.
GPUNN_SHARED Stream* stream_of(std::intptr_t handle);
GPUNN_SHARED Event* event_of(std::intptr_t handle);

// Takes work for a stream: a node if it captures, else to run now or later. `label` names it in drawings of graphs.
GPUNN_SHARED int enqueue(std::intptr_t stream, const char* label, Work work);
// Calls a function of the host, as work of a stream: it must not call the device.
GPUNN_SHARED int call_host(const std::function<void()>& function);
// For what is no work of a graph: an error if the stream captures, or would wait for one that does.
GPUNN_SHARED int not_in_capture(std::intptr_t stream, int error);
// For what a capture in the modes "global" and "thread local" must not do.
GPUNN_SHARED int unsafe_in_capture();
// The error that a kernel has left the device with, which every later call returns, or that of any call now.
GPUNN_SHARED int broken();
GPUNN_SHARED bool is_broken();
GPUNN_SHARED void break_device(int error);
GPUNN_SHARED void set_report(const std::string& text);
const std::string& last_report();
bool is_of_launch(int error);

// The streams whose work so far comes before what a stream is given next: those that the legacy one waits for, or it.
void each_awaited(const Stream& stream, const std::function<void(Stream&)>& f);

// A copy between devices in the legacy stream comes after what both of them were given before, and before what they are
// given after it: what waits for legacy streams is ordered so.
void order_between_devices(Stream& stream, int other, bool before);

GPUNN_SHARED int run_until(Stream& stream, std::int64_t position);
GPUNN_SHARED int run_all();

GPUNN_SHARED int stream_create(std::intptr_t* out, unsigned flags, int priority);
GPUNN_SHARED int stream_destroy(std::intptr_t stream);
GPUNN_SHARED int stream_synchronize(std::intptr_t stream);
GPUNN_SHARED int stream_query(std::intptr_t stream);
GPUNN_SHARED int stream_wait(std::intptr_t stream, std::intptr_t event);
GPUNN_SHARED int device_synchronize();

GPUNN_SHARED int event_create(std::intptr_t* out, unsigned flags);
GPUNN_SHARED int event_destroy(std::intptr_t event);
GPUNN_SHARED int event_record(std::intptr_t event, std::intptr_t stream);
GPUNN_SHARED int event_synchronize(std::intptr_t event);
GPUNN_SHARED int event_query(std::intptr_t event);
GPUNN_SHARED int event_elapsed(float* milliseconds, std::intptr_t start, std::intptr_t end);

GPUNN_SHARED int capture_begin(std::intptr_t stream, int mode);
GPUNN_SHARED int capture_end(std::intptr_t stream, std::intptr_t* graph);
GPUNN_SHARED int capture_status(std::intptr_t stream, int* status);
GPUNN_SHARED int graph_instantiate(std::intptr_t graph, std::intptr_t* out);
GPUNN_SHARED int graph_launch(std::intptr_t executable, std::intptr_t stream);
GPUNN_SHARED int graph_upload(std::intptr_t executable, std::intptr_t stream);
GPUNN_SHARED int graph_destroy(std::intptr_t graph);
GPUNN_SHARED int graph_executable_destroy(std::intptr_t executable);
GPUNN_SHARED int graph_draw(std::intptr_t graph, const char* path, bool verbose);

// ---- check mode: the order of streams -------------------------------------------------------------------------------

// Work wrapped so that what it touches is compared with what came before it.
GPUNN_SHARED Work ordered(Stream& stream, const char* label, Work work);
// Both of them know what `from` knew.
void learn(Knowledge& into, const Knowledge& from);
extern Knowledge host_knowledge;
// The work of a node, while a graph is launched.
int run_node(const Graph& graph, int node);
// Tells that the running work touches memory; an Error if nothing orders it after another stream's work there.
GPUNN_SHARED int touch(const void* memory, Rows rows, bool write);
int touch(Block& block, const Spans& spans, bool write);
// Until the copy that is under way has run, the host must not write its pinned source, or touch its pinned target.
void guard(const void* memory, Rows rows, bool is_target);
// The copy runs now, and may touch it; other copies may be under way there, and are not to be forgotten after it.
void unguard(const void* memory, Rows rows, bool is_target);
void guard_others(const void* memory, Rows rows);
// For libraries whose statuses have no words: in check mode the next call tells of an error of a launch. What is wrong
// with an order only spoils nothing here, so that it is success.
GPUNN_SHARED int told_later(int error);
// What nobody was told of yet, the host's mistakes with pinned memory as well: an Error, with a report.
int untold();

// ---- work of libraries ----------------------------------------------------------------------------------------------

// Tells that a library's work for a device touches memory. illegal_address if that is out of the device's reach, which
// breaks it, as on a GPU, but in check mode; another Error as of touch(), for memory that is there.
GPUNN_SHARED int reach(const char* label, int device, const void* memory, Rows rows, bool write);

// ---- copies ---------------------------------------------------------------------------------------------------------

GPUNN_SHARED int copy(void* to, const void* from, std::size_t bytes, Direction direction, std::intptr_t stream,
                      bool asynchronous);
// Rows of `width` bytes that lie `to_pitch` and `from_pitch` apart.
GPUNN_SHARED int copy_rows(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch, std::size_t width,
                           std::size_t height, Direction direction, std::intptr_t stream, bool asynchronous);
GPUNN_SHARED int fill(void* memory, int value, std::size_t bytes, std::intptr_t stream, bool asynchronous);

// ---- attributes -------------------------------------------------------------------------------------------------

// What distinguishes cards of one compute capability from those of another, by the CUDA programming guide and the data
// sheets of a card of each.
struct Card {
    int capability, multiprocessors, threads_per_multiprocessor;
    int shared_per_multiprocessor, shared_per_block;  // bytes; of a block after it has asked for more than 48 KiB
    int blocks_per_multiprocessor, l2_bytes;
};

GPUNN_SHARED const Card& card();
std::vector<int> capabilities();  // of all cards
// The value of a cudaDeviceAttr, 0 for what the device does not have.
GPUNN_SHARED int attribute(int* value, int number, int device);

}  // namespace gpunn_device

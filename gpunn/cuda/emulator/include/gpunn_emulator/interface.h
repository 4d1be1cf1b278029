// What the headers and the runtime (../runtime) know of each other.
#pragma once

#pragma GCC visibility push(default)  // the kernel's library finds these in the runtime's

namespace gpunn_emulator {

// The CUDA thread that runs now, and its block, as far as a kernel can see them.
struct ThreadView {
    uint3 index;
    unsigned lane;
    mutable unsigned carry;  // the flag of PTX
};

struct BlockView {
    uint3 index;
    dim3 block_dim, grid_dim;
    char *static_shared, *dynamic_shared;
    size_t static_shared_bytes, dynamic_shared_bytes;
    unsigned static_window, dynamic_window;  // where they begin in the window of shared memory
    bool is_cooperative, is_explicit_cluster;
    dim3 cluster_dim;
    uint3 cluster_index;  // of the block in its cluster
    unsigned cluster_rank, cluster_size;
};

struct Current {
    const ThreadView* thread;
    const BlockView* block;
};

// Two pointers in the host thread's fixed block of thread-local storage: an index costs two loads, and the
// kernel library's own thread-local storage is left to hold __shared__ variables and nothing else.
extern __thread Current current __attribute__((tls_model("initial-exec")));

// The window of shared memory: its addresses have 32 bits, of which inline PTX and the descriptors of matrices hold all or
// a part. The static memory comes first, with `window_margin` bytes around it, as around the dynamic one. What lies outside
// of both has the address 0, where nothing is.
const size_t window_margin = 1023;
inline bool is_static_shared(const void* address) {
    const BlockView& block = *current.block;
    return (size_t)((const char*)address - block.static_shared) < block.static_shared_bytes;
}
inline bool is_shared(const void* address) {
    const BlockView& block = *current.block;
    return is_static_shared(address) || (size_t)((const char*)address - block.dynamic_shared) < block.dynamic_shared_bytes;
}
inline unsigned address_in(const BlockView& block, const void* address) {
    const char *p = (const char*)address, *from = block.static_shared - window_margin;
    if (block.static_shared_bytes && (size_t)(p - from) < block.static_shared_bytes + 2 * window_margin)
        return block.static_window + (unsigned)(p - block.static_shared);
    from = block.dynamic_shared - window_margin;
    bool is_dynamic = (size_t)(p - from) < block.dynamic_shared_bytes + 2 * window_margin;
    return is_dynamic ? block.dynamic_window + (unsigned)(p - block.dynamic_shared) : 0;
}
inline unsigned shared_address(const void* address) { return address_in(*current.block, address); }
// Of each block of a cluster there is a window. A block's own addresses are those of its window of shared memory, behind
// it lie those of all ranks.
const unsigned cluster_window = 1u << 24;
inline char* pointer_in(const BlockView& block, unsigned address) {
    if (!address || address >= cluster_window) return nullptr;
    return block.static_shared_bytes && address < block.dynamic_window - window_margin
               ? block.static_shared + (int)(address - block.static_window)
               : block.dynamic_shared + (int)(address - block.dynamic_window);
}
inline char* shared_pointer(unsigned address) { return pointer_in(*current.block, address); }

// Every lane of a warp brings the address of its own payload; the last one to arrive runs the operation on
// all of them. `lanes` are those that take part: the mask without lanes that have returned or never existed.
typedef void (*WarpOperation)(void** payloads, unsigned lanes);

// The same for a tile of several warps: `payloads` are those of its threads, all of which take part.
typedef void (*TileOperation)(void** payloads, unsigned threads);

// Calls of these must neither be merged nor copied, or they are no longer one for one those of the source.
// What GCC has for that are flags, as has clang for calls of functions that call these; see ../../build.py.
#ifdef __clang__
#define GPUNN_ONE_CALL __attribute__((nomerge, noduplicate))
#else
#define GPUNN_ONE_CALL
#endif

struct Vote {
    int any, all, count;
    inline __attribute__((always_inline)) void ignore() const {}
};

// `site` numbers the places in the source: two threads are at the same barrier only if both that and the
// calls that led there agree.
GPUNN_ONE_CALL Vote block_barrier(int predicate, int site);
// The same of all blocks of a cooperative launch, or a half of it: all threads of the block come to each half.
enum class Barrier : unsigned char { block, grid, grid_arrival, grid_wait };
GPUNN_ONE_CALL void grid_barrier(Barrier barrier, int site);
// Of the cluster: each thread arrives, and waits for those that have not returned. One that arrives without `releases`
// shows nothing of what it has written.
void cluster_arrive(bool releases);
void cluster_wait();
unsigned cluster_rank_of(const void* address);  // of shared memory
void* cluster_map(const void* address, unsigned rank);
bool is_cluster_shared(const void* address);
unsigned cluster_address(const void* address);
char* cluster_pointer(unsigned address);
void check_barrier(unsigned threads);  // ends the block if that is not all of it
void warp_barrier(unsigned mask);
void warp_collective(unsigned mask, void* payload, WarpOperation operation);
// `threads` neighbours, a power of two of more than a warp. Without an operation it is their barrier.
void tile_collective(unsigned threads, void* payload, TileOperation operation);
GPUNN_ONE_CALL unsigned active_mask(int site);
void yield();

// Asynchronous copies to shared memory; see ptx_instructions.h. The data arrives at the wait, and not before.
void async_copy(void* shared, const void* global, unsigned bytes, unsigned source_bytes);
// Any number of bytes, from anywhere to anywhere.
void async_memory_copy(void* to, const void* from, size_t bytes);
// The phase that an mbarrier is in is complete only after the copy.
void async_barrier_copy(void* shared, const void* from, size_t bytes, void* barrier);
void async_commit();
void async_wait(unsigned newest);
void check_aligned(const void* address, unsigned bytes, const char* what);
void check_copy(const void* to, const void* from, size_t bytes, unsigned alignment, unsigned multiple);

// Textures and surfaces; see texture.h. The order of the shapes is that of texture.SHAPES on the Python side.
enum class TextureShape : int { linear, one, two, three, one_layered, two_layered, cube, cube_layered };
enum class TexelKind : int { signed_integer, unsigned_integer, floating_point };  // numbers of cudaChannelFormatKind

struct TexelType {
    int channels, bits;
    TexelKind kind;
};

// The channels of a texel: integers of 32 bits, or the bits of floats.
struct Texel {
    unsigned x, y, z, w;
};

Texel fetch_linear(unsigned long long texture, int x, TexelType wanted);
Texel fetch(const char* function, unsigned long long texture, TextureShape shape, float x, float y, float z, int layer,
            TexelType wanted);
Texel gather(unsigned long long texture, float x, float y, int channel, TexelType wanted);
void* surface_address(const char* function, unsigned long long surface, TextureShape shape, int x, int y, int z,
                      size_t bytes, int boundary_mode, bool write);
// Hopper's instructions; see hopper.h. Barriers, copies and tensor maps are given by their addresses.
struct MbarrierArrival {
    unsigned count;   // 0: none arrives
    long long bytes;  // that copies are expected to bring, or have brought if it is negative
    bool drops;       // what arrives is not expected in later phases
};

// D = A B + D of a warpgroup, as one thread gives it.
struct WarpgroupProduct {
    enum Type { f16, bf16, tf32 } type;
    unsigned n;
    float* const* d;  // n / 2
    bool scale_d, negate_a, negate_b, transpose_a, transpose_b, a_in_registers;
    unsigned a[4];
    unsigned long long a_matrix, b_matrix;  // descriptors
#ifdef GPUNN_EMULATOR_COUNT
    WarpOperation counted_as;
#endif
};

void mbarrier_init(void* barrier, unsigned count);
void mbarrier_inval(void* barrier);
unsigned long long mbarrier_arrive(void* barrier, const MbarrierArrival& arrival);
bool mbarrier_wait(void* barrier, unsigned long long state, bool is_parity);
void fence_proxy(bool of_inits_only);
// To the shared memory at that place in each block of the mask, 0: in the block of the address; and from shared memory.
void bulk_load(void* shared, const void* global, unsigned bytes, void* barrier, unsigned blocks);
void bulk_send(void* shared, const void* own, unsigned bytes, void* barrier);
void async_store(void* shared, const void* value, unsigned bytes, void* barrier);
void bulk_store(void* global, const void* shared, unsigned bytes);
void tensor_load(void* shared, const void* map, unsigned rank, const int* coordinates, void* barrier, unsigned blocks);
void tensor_store(const void* map, unsigned rank, const int* coordinates, const void* shared);
void bulk_commit();
void bulk_wait(unsigned newest, bool of_reads);
void warpgroup_fence();
void warpgroup_commit();
void warpgroup_wait(unsigned newest);
void warpgroup_product(WarpgroupProduct& product);

// Accesses that the compiler does not report by itself. `caller` is the address in the kernel that a report
// names.
void note_access(const void* address, size_t bytes, bool write, const void* caller);
void note_atomic(const void* address, size_t bytes, const void* caller, bool reads = true);
void note_strong(const void* address, size_t bytes, bool write, const void* caller);
void note_missing_lane(unsigned lane, unsigned source, bool shifted);
void note_empty_shift(unsigned delta, int width);
void note_compare_and_swap(const void* address, size_t bytes, const void* compare);
void note_fence();
void note_shift(int bits);
#ifdef GPUNN_EMULATOR_COUNT
void note_matrix_row(const void* row);
#endif

[[noreturn]] void assertion_failed(const char* expression, const char* file, int line);
[[noreturn]] void trap();
[[noreturn]] void exit_thread();
bool is_local(const void* address);
unsigned long long nanoseconds_now();

}  // namespace gpunn_emulator

#pragma GCC visibility pop

#define threadIdx (::gpunn_emulator::current.thread->index)
#define blockIdx (::gpunn_emulator::current.block->index)
#define blockDim (::gpunn_emulator::current.block->block_dim)
#define gridDim (::gpunn_emulator::current.block->grid_dim)
constexpr int warpSize = 32;

// What the headers and the runtime (../runtime) know of each other.
#pragma once

#pragma GCC visibility push(default)  // the kernel's library finds these in the runtime's

namespace gpunn_emulator {

// The CUDA thread that runs now, and its block, as far as a kernel can see them.
struct ThreadView {
    uint3 index;
    unsigned lane;
};

struct BlockView {
    uint3 index;
    dim3 block_dim, grid_dim;
    char* dynamic_shared;
    size_t dynamic_shared_bytes;
};

struct Current {
    const ThreadView* thread;
    const BlockView* block;
};

// Two pointers in the host thread's fixed block of thread-local storage: an index costs two loads, and the
// kernel library's own thread-local storage is left to hold __shared__ variables and nothing else.
extern __thread Current current __attribute__((tls_model("initial-exec")));

// Every lane of a warp brings the address of its own payload; the last one to arrive runs the operation on
// all of them. `lanes` are those that take part: the mask without lanes that have returned or never existed.
typedef void (*WarpOperation)(void** payloads, unsigned lanes);

// Calls of these must neither be merged nor copied, or they are no longer one for one those of the source.
// What GCC has for that are flags, see ../../build.py.
#ifdef __clang__
#define GPUNN_ONE_CALL __attribute__((nomerge, noduplicate))
#else
#define GPUNN_ONE_CALL
#endif

struct Vote {
    int any, all, count;
};

// `site` numbers the places in the source: two threads are at the same barrier only if both that and the
// calls that led there agree.
GPUNN_ONE_CALL Vote block_barrier(int predicate, int site);
void warp_barrier(unsigned mask);
void warp_collective(unsigned mask, void* payload, WarpOperation operation);
GPUNN_ONE_CALL unsigned active_mask(int site);
void yield();

// Asynchronous copies to shared memory; see ptx.h. The data arrives at the wait, and not before.
void async_copy(void* shared, const void* global, unsigned bytes, unsigned source_bytes);
void async_commit();
void async_wait(unsigned newest);
void check_aligned(const void* address, unsigned bytes, const char* what);

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
};

unsigned shared_address(const void* address);
void* shared_pointer(unsigned address);
void mbarrier_init(void* barrier, unsigned count);
void mbarrier_inval(void* barrier);
unsigned long long mbarrier_arrive(void* barrier, const MbarrierArrival& arrival);
bool mbarrier_wait(void* barrier, unsigned long long state, bool is_parity);
void fence_proxy(bool of_inits_only);
void bulk_load(void* shared, const void* global, unsigned bytes, void* barrier);
void bulk_store(void* global, const void* shared, unsigned bytes);
void tensor_load(void* shared, const void* map, unsigned rank, const int* coordinates, void* barrier);
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
void note_atomic(const void* address, size_t bytes, const void* caller);
void note_compare_and_swap(const void* address, size_t bytes, const void* compare);
void note_fence();

[[noreturn]] void assertion_failed(const char* expression, const char* file, int line);
[[noreturn]] void trap();
unsigned long long nanoseconds_now();

}  // namespace gpunn_emulator

#pragma GCC visibility pop

#define threadIdx (::gpunn_emulator::current.thread->index)
#define blockIdx (::gpunn_emulator::current.block->index)
#define blockDim (::gpunn_emulator::current.block->block_dim)
#define gridDim (::gpunn_emulator::current.block->grid_dim)
#define warpSize 32

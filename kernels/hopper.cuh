// The instructions that sm_90 adds, as functions.
//
// An mbarrier is 8 bytes of shared memory. A phase of it is complete when as many threads have arrived as it was
// initialised for, and all bytes that it was told to expect have come; then the next phase begins. The first phase has the
// parity 0, the one before it counts as complete.
//   mbarrier_init(barrier, count), mbarrier_inval(barrier)
//   mbarrier_arrive(barrier, count = 1), mbarrier_arrive_drop(...)   give the state for test_wait; drop: for good
//   mbarrier_arrive_expect_tx(barrier, bytes)                        expects so many bytes in this phase, and arrives
//   mbarrier_expect_tx(barrier, bytes), mbarrier_complete_tx(...)    change the bytes alone
//   mbarrier_test_wait(barrier, state), mbarrier_try_wait(...)       whether that phase is complete; try_wait may pause
//   mbarrier_test_wait_parity(barrier, parity), mbarrier_try_wait_parity(...)
//   mbarrier_wait_parity(barrier, parity)                            returns when the phase of that parity is complete
//   fence_mbarrier_init()    before what is asynchronous uses an mbarrier
//   fence_proxy_async()      after plain writes to shared memory that bulk copies or wgmma are to read
//
// Bulk copies, which one thread starts: addresses and bytes are multiples of 16. A box of a tensor begins at a multiple
// of 128 in shared memory; a swizzle of 128, 64 or 32 bytes repeats every 1024, 512 or 256 bytes. The first coordinate is
// the innermost. The map is a kernel's parameter, `const __grid_constant__ CUtensorMap map`.
//   bulk_load(shared, global, bytes, barrier)     completes so many bytes of the barrier's phase
//   tensor_load(shared, &map, coordinates, barrier)
//   bulk_store(global, shared, bytes), tensor_store(&map, coordinates, shared)
//   bulk_commit()                                 closes a group: this thread's stores since the last commit
//   bulk_wait<N>(), bulk_wait_read<N>()           until at most N groups are under way, or still read shared memory
//
// wgmma: the 128 threads of four warps multiply, D = A B + D, of 64 x N, with K = 16, or 8 in tf32; N is 8, 16, 32, 64,
// 96, 128, 192 or 256. With g = lane / 4, t = lane % 4 and w the warp of the four, a thread holds d[N / 2], of which
// d[4j + 2h + i] is (16w + g + 8h, 8j + 2t + i). A in registers lies, 16 rows for each warp, as mma_m16n8k16_* and
// mma_m16n8k8_tf32 take it (ptx.cuh).
//   wgmma_fence()                          before the first product, and after registers of one were touched
//   wgmma_bf16(d, a, b, scale_d = 1), wgmma_f16, wgmma_tf32
//     a is a descriptor, or unsigned[4], b a descriptor of N rows of K; scale_d = 0: D = A B. As template arguments
//     <SCALE_A, SCALE_B, TRANSPOSE_A, TRANSPOSE_B>, or <SCALE_A, SCALE_B, TRANSPOSE_B> with A in registers: 1 or -1
//     times A and B; 1 for rows of M or N in the place of rows of K, which tf32 does not have.
//   wgmma_commit(), wgmma_wait<N>()        until at most N groups are under way; d holds nothing before
//   wgmma_matrix(shared, leading, stride, swizzle, base_offset = 0)    a descriptor. How many bytes lie between what:
//     swizzle 32, 64, 128    stride: from 8 rows to the next 8.
//              transposed    stride: from 8 of K to the next 8; leading: from one width of the swizzle to the next
//     swizzle 0              stride: from 8 rows to the next 8; leading: from 16 bytes of K to the next
//              transposed    stride: from 16 bytes of M or N to the next; leading: from 8 of K to the next 8
//   setmaxnreg_inc<R>(), setmaxnreg_dec<R>()
#pragma once

#if __CUDA_ARCH__ >= 900

#ifndef CUDA_VERSION  // of cuda.h, which has it too
struct __align__(64) CUtensorMap {
  unsigned long long opaque[16];
};
#endif

#define HOPPER_SHARED(pointer) ((unsigned)__cvta_generic_to_shared(pointer))

__device__ __forceinline__ void mbarrier_init(unsigned long long* barrier, unsigned count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(HOPPER_SHARED(barrier)), "r"(count) : "memory");
}

__device__ __forceinline__ void mbarrier_inval(unsigned long long* barrier) {
  asm volatile("mbarrier.inval.shared::cta.b64 [%0];" ::"r"(HOPPER_SHARED(barrier)) : "memory");
}

__device__ __forceinline__ unsigned long long mbarrier_arrive(unsigned long long* barrier, unsigned count = 1) {
  unsigned long long state;
  asm volatile("mbarrier.arrive.shared::cta.b64 %0, [%1], %2;"
               : "=l"(state)
               : "r"(HOPPER_SHARED(barrier)), "r"(count)
               : "memory");
  return state;
}

__device__ __forceinline__ unsigned long long mbarrier_arrive_expect_tx(unsigned long long* barrier, unsigned bytes) {
  unsigned long long state;
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 %0, [%1], %2;"
               : "=l"(state)
               : "r"(HOPPER_SHARED(barrier)), "r"(bytes)
               : "memory");
  return state;
}

__device__ __forceinline__ unsigned long long mbarrier_arrive_drop(unsigned long long* barrier, unsigned count = 1) {
  unsigned long long state;
  asm volatile("mbarrier.arrive_drop.shared::cta.b64 %0, [%1], %2;"
               : "=l"(state)
               : "r"(HOPPER_SHARED(barrier)), "r"(count)
               : "memory");
  return state;
}

__device__ __forceinline__ void mbarrier_expect_tx(unsigned long long* barrier, unsigned bytes) {
  asm volatile("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], %1;" ::"r"(HOPPER_SHARED(barrier)), "r"(bytes)
               : "memory");
}

__device__ __forceinline__ void mbarrier_complete_tx(unsigned long long* barrier, unsigned bytes) {
  asm volatile("mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%0], %1;" ::"r"(HOPPER_SHARED(barrier)), "r"(bytes)
               : "memory");
}

#define MBARRIER_WAIT(NAME, INSTRUCTION, TYPE, CONSTRAINT)                                                       \
  __device__ __forceinline__ bool NAME(unsigned long long* barrier, TYPE phase) {                                \
    unsigned complete;                                                                                           \
    asm volatile("{ .reg .pred p; mbarrier." INSTRUCTION ".shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }" \
                 : "=r"(complete)                                                                                \
                 : "r"(HOPPER_SHARED(barrier)), CONSTRAINT(phase)                                                \
                 : "memory");                                                                                    \
    return complete;                                                                                             \
  }

MBARRIER_WAIT(mbarrier_test_wait, "test_wait", unsigned long long, "l")
MBARRIER_WAIT(mbarrier_test_wait_parity, "test_wait.parity", unsigned, "r")
MBARRIER_WAIT(mbarrier_try_wait, "try_wait", unsigned long long, "l")
MBARRIER_WAIT(mbarrier_try_wait_parity, "try_wait.parity", unsigned, "r")

__device__ __forceinline__ void mbarrier_wait_parity(unsigned long long* barrier, unsigned parity) {
  while (!mbarrier_try_wait_parity(barrier, parity)) {
  }
}

__device__ __forceinline__ void fence_mbarrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void fence_proxy_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

__device__ __forceinline__ void bulk_load(void* shared, const void* global, unsigned bytes,
                                          unsigned long long* barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   HOPPER_SHARED(shared)),
               "l"(global), "r"(bytes), "r"(HOPPER_SHARED(barrier))
               : "memory");
}

__device__ __forceinline__ void bulk_store(void* global, const void* shared, unsigned bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(global), "r"(HOPPER_SHARED(shared)),
               "r"(bytes)
               : "memory");
}

__device__ __forceinline__ void bulk_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }

template <int NEWEST> __device__ __forceinline__ void bulk_wait() {
  asm volatile("cp.async.bulk.wait_group %0;" ::"n"(NEWEST) : "memory");
}

template <int NEWEST> __device__ __forceinline__ void bulk_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(NEWEST) : "memory");
}

#define TENSOR_COPIES(RANK, LOAD_PLACE, STORE_PLACE, ...)                                                              \
  __device__ __forceinline__ void tensor_load(void* shared, const CUtensorMap* map, const int (&at)[RANK],             \
                                              unsigned long long* barrier) {                                           \
    asm volatile("cp.async.bulk.tensor." #RANK                                                                         \
                 "d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {" LOAD_PLACE "}], [%2];" ::"r"(    \
                     HOPPER_SHARED(shared)),                                                                           \
                 "l"(map), "r"(HOPPER_SHARED(barrier)), __VA_ARGS__                                                    \
                 : "memory");                                                                                          \
  }                                                                                                                    \
  __device__ __forceinline__ void tensor_store(const CUtensorMap* map, const int (&at)[RANK], const void* shared) {    \
    asm volatile("cp.async.bulk.tensor." #RANK "d.global.shared::cta.bulk_group [%0, {" STORE_PLACE "}], [%1];" ::"l"( \
                     map),                                                                                             \
                 "r"(HOPPER_SHARED(shared)), __VA_ARGS__                                                               \
                 : "memory");                                                                                          \
  }

TENSOR_COPIES(1, "%3", "%2", "r"(at[0]))
TENSOR_COPIES(2, "%3, %4", "%2, %3", "r"(at[0]), "r"(at[1]))
TENSOR_COPIES(3, "%3, %4, %5", "%2, %3, %4", "r"(at[0]), "r"(at[1]), "r"(at[2]))
TENSOR_COPIES(4, "%3, %4, %5, %6", "%2, %3, %4, %5", "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]))
TENSOR_COPIES(5, "%3, %4, %5, %6, %7", "%2, %3, %4, %5, %6", "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]),
              "r"(at[4]))

__device__ __forceinline__ void tensor_prefetch(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL  // sm_90a

__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

template <int NEWEST> __device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(NEWEST) : "memory");
}

template <int REGISTERS> __device__ __forceinline__ void setmaxnreg_inc() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

template <int REGISTERS> __device__ __forceinline__ void setmaxnreg_dec() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

__device__ __forceinline__ unsigned long long wgmma_matrix(const void* shared, unsigned leading, unsigned stride,
                                                           int swizzle, unsigned base_offset = 0) {
  const unsigned long long mode = swizzle == 128 ? 1 : swizzle == 64 ? 2 : swizzle == 32 ? 3 : 0;
  return (unsigned long long)(HOPPER_SHARED(shared) >> 4 & 0x3fff) | (unsigned long long)(leading >> 4 & 0x3fff) << 16 |
         (unsigned long long)(stride >> 4 & 0x3fff) << 32 | (unsigned long long)(base_offset & 7) << 49 | mode << 62;
}

#define WGMMA_HAS(HALF) \
  (HALF == 4 || HALF == 8 || HALF == 16 || HALF == 32 || HALF == 48 || HALF == 64 || HALF == 96 || HALF == 128)

#define WGMMA_PLACES_4 \
  "%0, %1, %2, %3"
#define WGMMA_PLACES_8 \
  WGMMA_PLACES_4 ", %4, %5, %6, %7"
#define WGMMA_PLACES_16 \
  WGMMA_PLACES_8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define WGMMA_PLACES_32 \
  WGMMA_PLACES_16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define WGMMA_PLACES_48 \
  WGMMA_PLACES_32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define WGMMA_PLACES_64 \
  WGMMA_PLACES_48 ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define WGMMA_PLACES_96                                                                              \
  WGMMA_PLACES_64 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79" \
  ", %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define WGMMA_PLACES_128                                                                                         \
  WGMMA_PLACES_96 ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111" \
  ", %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

#define WGMMA_SUMS_4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define WGMMA_SUMS_8(i) WGMMA_SUMS_4(i), WGMMA_SUMS_4(i + 4)
#define WGMMA_SUMS_16(i) WGMMA_SUMS_8(i), WGMMA_SUMS_8(i + 8)
#define WGMMA_SUMS_32(i) WGMMA_SUMS_16(i), WGMMA_SUMS_16(i + 16)
#define WGMMA_SUMS_48(i) WGMMA_SUMS_32(i), WGMMA_SUMS_16(i + 32)
#define WGMMA_SUMS_64(i) WGMMA_SUMS_32(i), WGMMA_SUMS_32(i + 32)
#define WGMMA_SUMS_96(i) WGMMA_SUMS_64(i), WGMMA_SUMS_32(i + 64)
#define WGMMA_SUMS_128(i) WGMMA_SUMS_64(i), WGMMA_SUMS_64(i + 64)

// With A by a descriptor, or in registers: the numbers are those of the operands behind the accumulators. The last
// operands, of 16-bit types alone, say what is transposed.
#define WGMMA_BY_MATRIX(N, REGISTERS, SHAPE, A, B, SCALE, P, Q, TRANSPOSE_TEXT, ...)                        \
  if constexpr (N == 2 * REGISTERS)                                                                         \
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %" #SCALE ", 0; wgmma.mma_async.sync.aligned.m64n" SHAPE   \
                 " {" WGMMA_PLACES_##REGISTERS "}, %" #A ", %" #B ", p, %" #P ", %" #Q TRANSPOSE_TEXT "; }" \
                 : WGMMA_SUMS_##REGISTERS(0)                                                                \
                 : "l"(a), "l"(b), "r"(scale_d), "n"(SCALE_A), "n"(SCALE_B) __VA_ARGS__                     \
                 : "memory");
#define WGMMA_BY_REGISTERS(N, REGISTERS, SHAPE, A0, A1, A2, A3, B, SCALE, P, Q, TRANSPOSE_TEXT, ...)            \
  if constexpr (N == 2 * REGISTERS)                                                                             \
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %" #SCALE ", 0; wgmma.mma_async.sync.aligned.m64n" SHAPE       \
                 " {" WGMMA_PLACES_##REGISTERS "}, {%" #A0 ", %" #A1 ", %" #A2 ", %" #A3 "}, %" #B ", p, %" #P  \
                 ", %" #Q TRANSPOSE_TEXT "; }"                                                                  \
                 : WGMMA_SUMS_##REGISTERS(0)                                                                    \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(scale_d), "n"(SCALE_A), "n"(SCALE_B) \
                   __VA_ARGS__                                                                                  \
                 : "memory");

#define WGMMA_16_BITS(NAME, KIND)                                                                          \
  template <int SCALE_A = 1, int SCALE_B = 1, int TRANSPOSE_A = 0, int TRANSPOSE_B = 0, int HALF>          \
  __device__ __forceinline__ void NAME(float (&d)[HALF], unsigned long long a, unsigned long long b,       \
                                       int scale_d = 1) {                                                  \
    static_assert(WGMMA_HAS(HALF), "n must be 8, 16, 32, 64, 96, 128, 192 or 256");                        \
    WGMMA_BY_MATRIX(2 * HALF, 4, "8k16.f32." KIND "." KIND, 4, 5, 6, 7, 8, ", %9, %10", ,                  \
                    "n"(TRANSPOSE_A), "n"(TRANSPOSE_B))                                                    \
    WGMMA_BY_MATRIX(2 * HALF, 8, "16k16.f32." KIND "." KIND, 8, 9, 10, 11, 12, ", %13, %14", ,             \
                    "n"(TRANSPOSE_A), "n"(TRANSPOSE_B))                                                    \
    WGMMA_BY_MATRIX(2 * HALF, 16, "32k16.f32." KIND "." KIND, 16, 17, 18, 19, 20, ", %21, %22", ,          \
                    "n"(TRANSPOSE_A), "n"(TRANSPOSE_B))                                                    \
    WGMMA_BY_MATRIX(2 * HALF, 32, "64k16.f32." KIND "." KIND, 32, 33, 34, 35, 36, ", %37, %38", ,          \
                    "n"(TRANSPOSE_A), "n"(TRANSPOSE_B))                                                    \
    WGMMA_BY_MATRIX(2 * HALF, 48, "96k16.f32." KIND "." KIND, 48, 49, 50, 51, 52, ", %53, %54", ,          \
                    "n"(TRANSPOSE_A), "n"(TRANSPOSE_B))                                                    \
    WGMMA_BY_MATRIX(2 * HALF, 64, "128k16.f32." KIND "." KIND, 64, 65, 66, 67, 68, ", %69, %70", ,         \
                    "n"(TRANSPOSE_A), "n"(TRANSPOSE_B))                                                    \
    WGMMA_BY_MATRIX(2 * HALF, 96, "192k16.f32." KIND "." KIND, 96, 97, 98, 99, 100, ", %101, %102", ,      \
                    "n"(TRANSPOSE_A), "n"(TRANSPOSE_B))                                                    \
    WGMMA_BY_MATRIX(2 * HALF, 128, "256k16.f32." KIND "." KIND, 128, 129, 130, 131, 132, ", %133, %134", , \
                    "n"(TRANSPOSE_A), "n"(TRANSPOSE_B))                                                    \
  }                                                                                                        \
  template <int SCALE_A = 1, int SCALE_B = 1, int TRANSPOSE_B = 0, int HALF>                               \
  __device__ __forceinline__ void NAME(float (&d)[HALF], const unsigned (&a)[4], unsigned long long b,     \
                                       int scale_d = 1) {                                                  \
    static_assert(WGMMA_HAS(HALF), "n must be 8, 16, 32, 64, 96, 128, 192 or 256");                        \
    WGMMA_BY_REGISTERS(2 * HALF, 4, "8k16.f32." KIND "." KIND, 4, 5, 6, 7, 8, 9, 10, 11,                   \
                       ", %12", , "n"(TRANSPOSE_B))                                                        \
    WGMMA_BY_REGISTERS(2 * HALF, 8, "16k16.f32." KIND "." KIND, 8, 9, 10, 11, 12, 13, 14, 15,              \
                       ", %16", , "n"(TRANSPOSE_B))                                                        \
    WGMMA_BY_REGISTERS(2 * HALF, 16, "32k16.f32." KIND "." KIND, 16, 17, 18, 19, 20, 21, 22, 23,           \
                       ", %24", , "n"(TRANSPOSE_B))                                                        \
    WGMMA_BY_REGISTERS(2 * HALF, 32, "64k16.f32." KIND "." KIND, 32, 33, 34, 35, 36, 37, 38, 39,           \
                       ", %40", , "n"(TRANSPOSE_B))                                                        \
    WGMMA_BY_REGISTERS(2 * HALF, 48, "96k16.f32." KIND "." KIND, 48, 49, 50, 51, 52, 53, 54, 55,           \
                       ", %56", , "n"(TRANSPOSE_B))                                                        \
    WGMMA_BY_REGISTERS(2 * HALF, 64, "128k16.f32." KIND "." KIND, 64, 65, 66, 67, 68, 69, 70, 71,          \
                       ", %72", , "n"(TRANSPOSE_B))                                                        \
    WGMMA_BY_REGISTERS(2 * HALF, 96, "192k16.f32." KIND "." KIND, 96, 97, 98, 99, 100, 101, 102, 103,      \
                       ", %104", , "n"(TRANSPOSE_B))                                                       \
    WGMMA_BY_REGISTERS(2 * HALF, 128, "256k16.f32." KIND "." KIND, 128, 129, 130, 131, 132, 133, 134, 135, \
                       ", %136", , "n"(TRANSPOSE_B))                                                       \
  }

WGMMA_16_BITS(wgmma_bf16, "bf16")
WGMMA_16_BITS(wgmma_f16, "f16")

template <int SCALE_A = 1, int SCALE_B = 1, int HALF>
__device__ __forceinline__ void wgmma_tf32(float (&d)[HALF], unsigned long long a, unsigned long long b,
                                           int scale_d = 1) {
  static_assert(WGMMA_HAS(HALF), "n must be 8, 16, 32, 64, 96, 128, 192 or 256");
  WGMMA_BY_MATRIX(2 * HALF, 4, "8k8.f32.tf32.tf32", 4, 5, 6, 7, 8, "")
  WGMMA_BY_MATRIX(2 * HALF, 8, "16k8.f32.tf32.tf32", 8, 9, 10, 11, 12, "")
  WGMMA_BY_MATRIX(2 * HALF, 16, "32k8.f32.tf32.tf32", 16, 17, 18, 19, 20, "")
  WGMMA_BY_MATRIX(2 * HALF, 32, "64k8.f32.tf32.tf32", 32, 33, 34, 35, 36, "")
  WGMMA_BY_MATRIX(2 * HALF, 48, "96k8.f32.tf32.tf32", 48, 49, 50, 51, 52, "")
  WGMMA_BY_MATRIX(2 * HALF, 64, "128k8.f32.tf32.tf32", 64, 65, 66, 67, 68, "")
  WGMMA_BY_MATRIX(2 * HALF, 96, "192k8.f32.tf32.tf32", 96, 97, 98, 99, 100, "")
  WGMMA_BY_MATRIX(2 * HALF, 128, "256k8.f32.tf32.tf32", 128, 129, 130, 131, 132, "")
}

template <int SCALE_A = 1, int SCALE_B = 1, int HALF>
__device__ __forceinline__ void wgmma_tf32(float (&d)[HALF], const unsigned (&a)[4], unsigned long long b,
                                           int scale_d = 1) {
  static_assert(WGMMA_HAS(HALF), "n must be 8, 16, 32, 64, 96, 128, 192 or 256");
  WGMMA_BY_REGISTERS(2 * HALF, 4, "8k8.f32.tf32.tf32", 4, 5, 6, 7, 8, 9, 10, 11, "")
  WGMMA_BY_REGISTERS(2 * HALF, 8, "16k8.f32.tf32.tf32", 8, 9, 10, 11, 12, 13, 14, 15, "")
  WGMMA_BY_REGISTERS(2 * HALF, 16, "32k8.f32.tf32.tf32", 16, 17, 18, 19, 20, 21, 22, 23, "")
  WGMMA_BY_REGISTERS(2 * HALF, 32, "64k8.f32.tf32.tf32", 32, 33, 34, 35, 36, 37, 38, 39, "")
  WGMMA_BY_REGISTERS(2 * HALF, 48, "96k8.f32.tf32.tf32", 48, 49, 50, 51, 52, 53, 54, 55, "")
  WGMMA_BY_REGISTERS(2 * HALF, 64, "128k8.f32.tf32.tf32", 64, 65, 66, 67, 68, 69, 70, 71, "")
  WGMMA_BY_REGISTERS(2 * HALF, 96, "192k8.f32.tf32.tf32", 96, 97, 98, 99, 100, 101, 102, 103, "")
  WGMMA_BY_REGISTERS(2 * HALF, 128, "256k8.f32.tf32.tf32", 128, 129, 130, 131, 132, 133, 134, 135, "")
}

#endif
#endif

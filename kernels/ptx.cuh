// The instructions that CUDA C++ has no name for. This is the only file with inline PTX, but for hopper.cuh, which has
// those of sm_90.
//
// Asynchronous copies, global to shared memory (sm_80; before that the copy is made on the spot):
//   cp_async<4, 8 or 16>(shared, global)          starts a copy of so many bytes, both addresses a multiple of that
//   cp_async<...>(shared, global, source_bytes)   reads only so many of them and writes zeros for the rest
//   cp_async_commit()                             closes a group: this thread's copies since the last commit
//   cp_async_wait<N>()                            waits until at most N of this thread's groups are under way
// Other threads see what was copied after the wait *and* a barrier behind it.
//
// Tensor cores: a warp multiplies together. With g = lane / 4 and t = lane % 4, a lane holds of each matrix
//
//   D = A B + D        registers of A (row, column)            registers of B (row, column)    of D
//   mma_m16n8k8_tf32   (g,t) (g+8,t) (g,t+4) (g+8,t+4)         (t,g) (t+4,g)                   (g,2t) (g,2t+1)
//   mma_m16n8k16_*     (g,2t..) (g+8,2t..) (g,2t+8..)          (2t..,g) (2t+8..,g)             (g+8,2t) (g+8,2t+1)
//                      (g+8,2t+8..)
//
// where "2t.." are the two elements 2t and 2t+1, the first in the register's lower half.
//   to_tf32(x)                       x rounded to tf32's 10 bits of mantissa, to nearest, ties away from zero
//   to_f16(x), to_bf16(x)            the bits of x rounded to nearest, ties to even; from_f16(bits) is the way back
//   ldmatrix<1, 2 or 4>(out, row)    out[m]: 8 x 8 matrix m of 16-bit elements, two per lane: (g,2t) and (g,2t+1).
//                                    Lane 8m + r brings the address of row r of matrix m, a multiple of 16.
//   ldmatrix_transposed<...>         the same with (2t,g) and (2t+1,g)
#pragma once

#define SHARED_ADDRESS(pointer) ((unsigned)__cvta_generic_to_shared(pointer))

template <int BYTES>
__device__ __forceinline__ void cp_async(void* shared, const void* global, int source_bytes = BYTES) {
  static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "cp.async copies 4, 8 or 16 bytes");
#if __CUDA_ARCH__ >= 800
  if (BYTES == 16)  // past L1: what goes to shared memory is not read there again
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(SHARED_ADDRESS(shared)), "l"(global),
                 "r"(source_bytes)
                 : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(SHARED_ADDRESS(shared)), "l"(global), "n"(BYTES),
                 "r"(source_bytes)
                 : "memory");
#else
  if (source_bytes == BYTES) {
#pragma unroll
    for (int i = 0; i < BYTES / 4; i++) ((unsigned*)shared)[i] = ((const unsigned*)global)[i];
  } else {
    for (int i = 0; i < BYTES; i++) ((char*)shared)[i] = i < source_bytes ? ((const char*)global)[i] : 0;
  }
#endif
}

__device__ __forceinline__ void cp_async_commit() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

template <int NEWEST> __device__ __forceinline__ void cp_async_wait() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(NEWEST) : "memory");
#endif
}

__device__ __forceinline__ unsigned to_tf32(float x) {
#if __CUDA_ARCH__ >= 800
  unsigned bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
#else
  __trap();  // the launch code asks for tf32 from sm_80 on only
  return 0;
#endif
}

__device__ __forceinline__ unsigned short to_f16(float x) {
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
}

__device__ __forceinline__ float from_f16(unsigned short bits) {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
  return x;
}

__device__ __forceinline__ unsigned short to_bf16(float x) {
#if __CUDA_ARCH__ >= 800
  unsigned short bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
#else
  const unsigned bits = __float_as_uint(x);
  if (x != x) return 0x7fff;  // the NaN that the instruction gives
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
#endif
}

#define LDMATRIX(NAME, MODIFIER)                                                                             \
  template <int MATRICES> __device__ __forceinline__ void NAME(unsigned (&out)[MATRICES], const void* row) { \
    static_assert(MATRICES == 1 || MATRICES == 2 || MATRICES == 4, "ldmatrix loads 1, 2 or 4 matrices");     \
    if constexpr (MATRICES == 1)                                                                             \
      asm volatile("ldmatrix.sync.aligned.m8n8.x1" MODIFIER ".shared.b16 {%0}, [%1];"                        \
                   : "=r"(out[0])                                                                            \
                   : "r"(SHARED_ADDRESS(row))                                                                \
                   : "memory");                                                                              \
    else if constexpr (MATRICES == 2)                                                                        \
      asm volatile("ldmatrix.sync.aligned.m8n8.x2" MODIFIER ".shared.b16 {%0, %1}, [%2];"                    \
                   : "=r"(out[0]), "=r"(out[1])                                                              \
                   : "r"(SHARED_ADDRESS(row))                                                                \
                   : "memory");                                                                              \
    else                                                                                                     \
      asm volatile("ldmatrix.sync.aligned.m8n8.x4" MODIFIER ".shared.b16 {%0, %1, %2, %3}, [%4];"            \
                   : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])                                  \
                   : "r"(SHARED_ADDRESS(row))                                                                \
                   : "memory");                                                                              \
  }

LDMATRIX(ldmatrix, "")
LDMATRIX(ldmatrix_transposed, ".trans")

#define MMA(NAME, TYPES)                                                                                            \
  __device__ __forceinline__ void NAME(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {             \
    asm volatile("mma.sync.aligned." TYPES " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"       \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                                   \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                               \
  }

#if __CUDA_ARCH__ >= 800

MMA(mma_m16n8k8_tf32, "m16n8k8.row.col.f32.tf32.tf32.f32")
MMA(mma_m16n8k16_f16, "m16n8k16.row.col.f32.f16.f16.f32")
MMA(mma_m16n8k16_bf16, "m16n8k16.row.col.f32.bf16.bf16.f32")

#else

// The launch code asks for these from sm_80 on only.
#define NO_MMA(NAME) \
  __device__ __forceinline__ void NAME(float (&)[4], const unsigned (&)[4], const unsigned (&)[2]) { __trap(); }

NO_MMA(mma_m16n8k8_tf32)
NO_MMA(mma_m16n8k16_bf16)

// sm_75 multiplies halves too, eight terms at a time.
__device__ __forceinline__ void mma_m16n8k16_f16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#pragma unroll
  for (int half = 0; half < 2; half++)
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[2 * half]), "r"(a[2 * half + 1]), "r"(b[half]));
}

#endif

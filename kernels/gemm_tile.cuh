// One TILE_M x TILE_N tile of a matrix product C = A B per block, where B is made of elements of images (the windows
// of a convolution, say) that are gathered while the product runs: B is never written to memory.
//
// Both matrices are addressed by sums, so that no index is divided in the inner loop:
//   A[m, k]  lies at  m * a_stride + term(k).a
//   B[k, n]  lies at  term(k).offset + column(n).offset, at row term(k).h + column(n).h of an image and column
//            term(k).w + column(n).w of it; it is 0 where that is outside of the H x W image (padding).
// A column is looked up once per block; the terms of a step, TILE_K of them, by TILE_K threads in the step before.
//
// The block walks along K in steps of TILE_K. A step's pieces of A and B go to shared memory by asynchronous copies,
// with zeros for what is outside, STAGES - 1 steps before they are used; each staged element then serves TILE_N (of A)
// or TILE_M (of B) products. A thread owns REG x REG elements of C in registers, in quads of 4 x 4 that are TILE / 2
// apart where REG is 8: the 8 x 4 threads of a warp then read whole lines of shared memory, 16 bytes each.
// Each element of C is summed by one thread in ascending k: the same bits in every run.
#pragma once

#include "macros.cuh"
#ifndef TILE_K
#error "define TILE_K, the terms of a step"
#endif
#if !defined(TILE_M) || !defined(TILE_N) || !defined(REG)
#error "define TILE_M and TILE_N, the rows and columns of the product that one block computes, and REG, a thread's"
#endif
#ifndef STAGES
#error "define STAGES, the number of steps that shared memory holds"
#endif
#include "ptx.cuh"

typedef DTYPE T;

#define GEMM_THREADS ((TILE_M / REG) * (TILE_N / REG))
// So many blocks at once on a multiprocessor: at most 128 registers a thread, 80 for 4 x 4 sums of float.
#define GEMM_BLOCKS ((REG == 4 && sizeof(T) == 4 ? 768 : 512) / GEMM_THREADS)
// Neighbouring k fall 4 banks apart, so the 8 k x 4 rows that a warp stages at once go to 32 different banks.
#define TILE_PAD 4
#define QUADS (REG / 4)
#define OUTSIDE (-(1 << 30))  // plus any row of an image it is still negative

// All of 16 bytes or a multiple, so that one is read from shared memory at once.
struct alignas(16) Place {
  INDEX offset;
  int h, w;
};

struct alignas(16) Term {
  INDEX offset;
  int h, w;
  INDEX a;
};

struct alignas(16) Quad {
  T element[4];
};

struct Matrices {
  const T* a;  // at the first row of the tile
  INDEX a_stride;
  int rows;  // of A, from the first row of the tile on
  const T* b;
  int H, W;
};

__device__ __forceinline__ void stage_element(T* to, const T* from, INDEX offset, bool inside) {
  cp_async<sizeof(T)>(to, from + (inside ? offset : 0), inside ? (int)sizeof(T) : 0);
}

__device__ __forceinline__ void stage_gathered(T* to, const Matrices& z, const Term& term, const Place& column) {
  const bool inside = (unsigned)(term.h + column.h) < (unsigned)z.H && (unsigned)(term.w + column.w) < (unsigned)z.W;
  stage_element(to, z.b, term.offset + column.offset, inside);
}

// Sums the terms first <= k < last. term_of(k) and column_of(n) say where elements lie, n within the tile;
// output_of(n) is the address of C's element (0, n) of the tile, or null outside of C; finish(m, sum) is what is
// written, c_stride elements further for each m. The lanes of a warp copy elements of neighbouring columns, or, if
// LANES_ALONG_K, of neighbouring terms: whichever lie side by side in memory.
template <bool LANES_ALONG_K, class TermOf, class ColumnOf, class OutputOf, class Finish>
__device__ __forceinline__ void gemm_tile(const Matrices& z, INDEX first, INDEX last, TermOf term_of, ColumnOf column_of,
                                          OutputOf output_of, INDEX c_stride, Finish finish) {
  static_assert(REG == 4 || REG == 8, "a thread owns one or two quads each way");
  static_assert(TILE_M / REG % 4 == 0 && TILE_N / REG % 8 == 0, "a warp is 4 x 8 threads");
  static_assert(TILE_K == 2 * 8, "the lanes of two warps stand on the terms of a step, 8 each");
  static_assert(GEMM_THREADS % TILE_N == 0 && GEMM_THREADS % 64 == 0, "each thread stages whole lines");
  alignas(16) __shared__ T a_tile[STAGES][TILE_K][TILE_M + TILE_PAD];
  alignas(16) __shared__ T b_tile[STAGES][TILE_K][TILE_N + TILE_PAD];
  __shared__ Term terms[2][TILE_K];
  __shared__ Place columns[LANES_ALONG_K ? TILE_N : 1];
  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;

  // What this thread stages: term `own_k` of every LINES-th line of A (and of B, if lanes lie along k);
  // else column `own_column` of every KS-th term of B.
  constexpr int LINES = GEMM_THREADS / TILE_K, KS = GEMM_THREADS / TILE_N;
  const int own_k = lane % 8 + warp % 2 * 8, own_line = lane / 8 + warp / 2 * 4;
  const int own_column = thread % TILE_N;
  Place column = {};
  if (LANES_ALONG_K)
    for (int n = thread; n < TILE_N; n += GEMM_THREADS) columns[n] = column_of(n);
  else
    column = column_of(own_column);

  auto look_up_terms = [&](int step) {
    if (thread >= TILE_K) return;
    const INDEX k = first + (INDEX)step * TILE_K + thread;
    terms[step % 2][thread] = k < last ? term_of(k) : Term{0, OUTSIDE, 0, 0};
  };
  auto stage = [&](int step) {
    const Term own = terms[step % 2][own_k];
    const bool summed = own.h != OUTSIDE;
    const int slot = step % STAGES;
    INDEX at = own_line * z.a_stride + own.a;
#pragma unroll 8  // all 16 of the tile of 128 x 64 would spill registers
    for (int i = 0; i < TILE_M / LINES; i++, at += LINES * z.a_stride) {
      const int m = own_line + i * LINES;
      stage_element(&a_tile[slot][own_k][m], z.a, at, summed && m < z.rows);
    }
    if (LANES_ALONG_K) {
#pragma unroll
      for (int i = 0; i < TILE_N / LINES; i++) {
        const int n = own_line + i * LINES;
        const Place other = columns[n];
        stage_gathered(&b_tile[slot][own_k][n], z, own, other);
      }
    } else {
#pragma unroll
      for (int i = 0; i < TILE_K / KS; i++) {
        const int k = thread / TILE_N + i * KS;
        const Term term = terms[step % 2][k];
        stage_gathered(&b_tile[slot][k][own_column], z, term, column);
      }
    }
  };

  constexpr int WARPS_N = TILE_N / REG / 8;
  const int row = (warp / WARPS_N * 4 + lane / 8) * 4, first_column = (warp % WARPS_N * 8 + lane % 8) * 4;
  T sum[REG][REG] = {};
  auto multiply = [&](int slot) {
#pragma unroll
    for (int k = 0; k < TILE_K; k++) {
      Quad a[QUADS], b[QUADS];
#pragma unroll
      for (int q = 0; q < QUADS; q++) {
        a[q] = *(const Quad*)&a_tile[slot][k][row + q * (TILE_M / QUADS)];
        b[q] = *(const Quad*)&b_tile[slot][k][first_column + q * (TILE_N / QUADS)];
      }
#pragma unroll
      for (int i = 0; i < REG; i++)
#pragma unroll
        for (int j = 0; j < REG; j++) sum[i][j] += a[i / 4].element[i % 4] * b[j / 4].element[j % 4];
    }
  };

  const int steps = (int)((last - first + TILE_K - 1) / TILE_K);
  look_up_terms(0);
  for (int step = 0; step < steps + STAGES - 1; step++) {
    cp_async_wait<STAGES - 2>();  // the copies of step - (STAGES - 1) have landed,
    __syncthreads();              // every thread's, and the slot of the step before it may be overwritten
    if (step < steps) {
      stage(step);
      look_up_terms(step + 1);
    }
    cp_async_commit();
    if (step >= STAGES - 1) multiply((step - (STAGES - 1)) % STAGES);
  }

#pragma unroll
  for (int j = 0; j < REG; j++) {
    T* out = output_of(first_column + j / 4 * (TILE_N / QUADS) + j % 4);
    if (!out) continue;
#pragma unroll
    for (int i = 0; i < REG; i++) {
      const int m = row + i / 4 * (TILE_M / QUADS) + i % 4;
      if (m < z.rows) out[m * c_stride] = finish(m, sum[i][j]);
    }
  }
}

// One TILE_M x TILE_N tile of a matrix product C = A B per block, with A and B given by functions, so that an
// "implicit" matrix (the windows of an image, say) is never written to memory.
//
// A block owns one tile of C; a thread owns REG x REG neighbouring elements of it, kept in registers. The block
// walks along K in steps of TILE_K: it stages a TILE_M x TILE_K piece of A and a TILE_K x TILE_N piece of B in
// shared memory, and each staged element then serves TILE_N (of A) or TILE_M (of B) products.
// Each element of C is summed by one thread in ascending k: the same bits in every run.
#pragma once

#ifndef DTYPE
#error "define DTYPE, the element type: float or double"
#endif
#if !defined(TILE_M) || !defined(TILE_N)
#error "define TILE_M and TILE_N, the rows and columns of the product that one block computes"
#endif

typedef DTYPE T;

#define TILE_K 16
#define REG 4
#define GEMM_THREADS ((TILE_M / REG) * (TILE_N / REG))
// One more row of threads' width apart: neighbouring k of one row of A fall into different memory banks.
#define PAD_M 4

// The column of C (relative to the tile) whose element of B this thread stages: the same one for every k,
// so the caller works out once what the column stands for.
__device__ __forceinline__ int staged_column() { return threadIdx.x % TILE_N; }

// load_a(m, k), m within the tile; load_b(k), for the column staged_column(); both return 0 outside their matrix.
// store(m, n, value), m and n within the tile, skips what lies outside C.
template <class LoadA, class LoadB, class Store>
__device__ __forceinline__ void gemm_tile(int K, LoadA load_a, LoadB load_b, Store store) {
  static_assert(GEMM_THREADS % TILE_N == 0, "each thread must stage one column of B");
  __shared__ T a_tile[TILE_K][TILE_M + PAD_M];
  __shared__ T b_tile[TILE_K][TILE_N];
  const int thread = threadIdx.x;
  const int row = thread / (TILE_N / REG) * REG, column = thread % (TILE_N / REG) * REG;
  T sum[REG][REG] = {};

  for (int k0 = 0; k0 < K; k0 += TILE_K) {
    for (int i = thread; i < TILE_M * TILE_K; i += GEMM_THREADS)
      a_tile[i % TILE_K][i / TILE_K] = load_a(i / TILE_K, k0 + i % TILE_K);
    for (int k = thread / TILE_N; k < TILE_K; k += GEMM_THREADS / TILE_N)
      b_tile[k][staged_column()] = load_b(k0 + k);
    __syncthreads();

#pragma unroll
    for (int k = 0; k < TILE_K; k++) {
      T a[REG], b[REG];
#pragma unroll
      for (int i = 0; i < REG; i++) a[i] = a_tile[k][row + i];
#pragma unroll
      for (int j = 0; j < REG; j++) b[j] = b_tile[k][column + j];
#pragma unroll
      for (int i = 0; i < REG; i++)
#pragma unroll
        for (int j = 0; j < REG; j++) sum[i][j] += a[i] * b[j];
    }
    __syncthreads();  // the next step overwrites the tiles
  }

#pragma unroll
  for (int i = 0; i < REG; i++)
#pragma unroll
    for (int j = 0; j < REG; j++) store(row + i, column + j, sum[i][j]);
}

// Two-dimensional convolution in bf16 by the instructions of sm_90a, forward, sums in fp32:
//
//   y[n,k,oh,ow] = b[k] + sum over r, s, c of x[n, oh*sh - ph + r, ow*sw - pw + s, c] w[k,r,s,c]
//
// x and w lie with the channels last, as conv_mma_pack leaves them; y is NCHW. What is below 0 is cut off if `relu`.
//
// A block owns 8 x 16 pixels of an image and FILTERS filters. In each step of the sum it takes one tap of the window and
// 64 channels: a box of x, which begins outside the image where there is padding, and one of w, both in rows of 128 bytes
// that the swizzle spreads. The last warp has boxes copied into a ring of STAGES places; two warpgroups multiply, four
// rows of pixels each.
//   full[i]    the boxes of place i have arrived
//   empty[i]   both warpgroups have multiplied them
//
// Maps, in the order of NumPy's shapes:
//   x (N, H, W, C)        box (1, 8 sh, 16 sw, 64), element strides (1, sh, sw, 1), swizzle 128
//   w (K, KH * KW, C)     box (FILTERS, 1, 64), swizzle 128
// Blocks: (N tiles of rows tiles of columns, tiles of filters) of 9 warps, with STAGES * (128 + FILTERS) * 128 bytes
// of dynamic shared memory. Bytes moved: x once for each tap and tile of filters, w once for each tile of pixels, both
// from L2 but for the first time; y written once.
//
// Architecture: sm_90a
// Specialisation: DTYPE=float, FILTERS=128, STAGES=3, THREADS=288
// Specialisation: DTYPE=bfloat16_bits, FILTERS=64, STAGES=3, THREADS=288
#ifndef DTYPE
#error "define DTYPE, the type of b and y: float or bfloat16_bits"
#endif
#ifndef FILTERS
#error "define FILTERS, how many a block owns: 64 or 128"
#endif
#ifndef STAGES
#error "define STAGES, the places of the ring"
#endif
#ifndef THREADS
#error "define THREADS, of a block: 288"
#endif
#include "element.cuh"
#include "hopper.cuh"

typedef DTYPE T;

extern "C" __global__ void __launch_bounds__(THREADS)
    conv_hopper_forward(const __grid_constant__ CUtensorMap x, const __grid_constant__ CUtensorMap w,
                        const T* __restrict__ b, T* __restrict__ y, int has_bias, int relu, int C, int K, int KH, int KW,
                        int OH, int OW, int sh, int sw, int ph, int pw) {
  constexpr int ROWS = 8, COLUMNS = 16, DEPTH = 64, WARPS = THREADS / 32 - 1, PIXELS_BYTES = ROWS * COLUMNS * 128;
  constexpr int PLACE_BYTES = PIXELS_BYTES + FILTERS * 128;
  extern __shared__ __align__(1024) unsigned char boxes[];
  __shared__ unsigned long long full[STAGES], empty[STAGES];
  const int across = (OW + COLUMNS - 1) / COLUMNS, down = (OH + ROWS - 1) / ROWS;
  const int ow = blockIdx.x % across * COLUMNS, oh = blockIdx.x / across % down * ROWS, n = blockIdx.x / across / down;
  const int k = blockIdx.y * FILTERS, chunks = (C + DEPTH - 1) / DEPTH;
  const int steps = KH * KW * chunks, warp = threadIdx.x / 32, lane = threadIdx.x % 32;

  if (threadIdx.x == 0) {
    for (int i = 0; i < STAGES; i++) {
      mbarrier_init(&full[i], 1);
      mbarrier_init(&empty[i], WARPS / 4);
    }
    fence_mbarrier_init();
  }
  __syncthreads();

  if (warp == WARPS) {
    for (int step = 0; lane == 0 && step < steps; step++) {
      const int place = step % STAGES, tap = step / chunks, c = step % chunks * DEPTH;
      unsigned char* box = boxes + place * PLACE_BYTES;
      mbarrier_wait_parity(&empty[place], (step / STAGES & 1) ^ 1);
      mbarrier_arrive_expect_tx(&full[place], PLACE_BYTES);
      const int row = oh * sh - ph + tap / KW, column = ow * sw - pw + tap % KW;
      tensor_load(box, &x, {c, column, row, n}, &full[place]);
      tensor_load(box + PIXELS_BYTES, &w, {c, tap, k}, &full[place]);
    }
    return;
  }

  float sums[FILTERS / 2];
#pragma unroll
  for (int i = 0; i < FILTERS / 2; i++) sums[i] = 0;
  wgmma_fence();
  for (int step = 0; step < steps; step++) {
    const int place = step % STAGES;
    mbarrier_wait_parity(&full[place], step / STAGES & 1);
    const unsigned char* box = boxes + place * PLACE_BYTES;
    const unsigned long long pixels = wgmma_matrix(box + warp / 4 * 64 * 128, 0, 8 * 128, 128);
    const unsigned long long filters = wgmma_matrix(box + PIXELS_BYTES, 0, 8 * 128, 128);
#pragma unroll
    for (int i = 0; i < DEPTH / 16; i++) wgmma_bf16(sums, pixels + i * (32 >> 4), filters + i * (32 >> 4));
    wgmma_commit();
    wgmma_wait<1>();  // what the step before read is free
    if (step && threadIdx.x % 128 == 0) mbarrier_arrive(&empty[(step - 1) % STAGES]);
  }
  wgmma_wait<0>();

#pragma unroll
  for (int i = 0; i < FILTERS / 2; i++) {
    const int pixel = 16 * warp + lane / 4 + i / 2 % 2 * 8, filter = k + i / 4 * 8 + lane % 4 * 2 + i % 2;
    const int row = oh + pixel / COLUMNS, column = ow + pixel % COLUMNS;
    if (row >= OH || column >= OW || filter >= K) continue;
    float total = sums[i] + (has_bias ? widened(b[filter]) : 0);
    if (relu && total < 0) total = 0;
    y[(((long long)n * K + filter) * OH + row) * OW + column] = narrowed<T>(total);
  }
}

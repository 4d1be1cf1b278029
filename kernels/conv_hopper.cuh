// Two-dimensional convolution in bf16 on sm_90a, forward: y[n,oh,ow,k] = b[k] + sum over r, s, c of
// x[n, oh*sh - ph + r, ow*sw - pw + s, c] w[k,r,s,c], sums in fp32. Everything lies with the channels last.
//
// A block owns 8 x 8 pixels of an image and 64 filters. In each step of the sum it takes one tap of the window and 64
// channels: a box of x, which begins outside the image where there is padding, and one of w, both in rows of 128 bytes
// that the swizzle spreads. The fifth warp has boxes copied into a ring of STAGES places, the first four multiply.
//   full[i]    the boxes of place i have arrived
//   empty[i]   they have been multiplied
//
// Maps, in the order of NumPy's shapes:
//   x (N, H, W, C)        box (1, 8 sh, 8 sw, 64), element strides (1, sh, sw, 1), swizzle 128
//   w (K, KH * KW, C)     box (64, 1, 64), swizzle 128
// Blocks: (N tiles of rows tiles of columns, tiles of filters) of 160 threads, with CONV_HOPPER_SHARED dynamic memory.
#pragma once
#include "hopper.cuh"

#define CONV_HOPPER_STAGES 3
#define CONV_HOPPER_BOX (64 * 128)
#define CONV_HOPPER_SHARED (2 * CONV_HOPPER_STAGES * CONV_HOPPER_BOX)

struct ConvHopper {
  int C, K, KH, KW, OH, OW, sh, sw, ph, pw;
};

extern "C" __global__ void __launch_bounds__(160)
    conv_hopper_forward(const __grid_constant__ CUtensorMap x, const __grid_constant__ CUtensorMap w, const float* b,
                        float* y, ConvHopper size) {
  constexpr int STAGES = CONV_HOPPER_STAGES, BOX = CONV_HOPPER_BOX, TILE = 8, FILTERS = 64, DEPTH = 64;
  extern __shared__ __align__(1024) unsigned char boxes[];
  __shared__ unsigned long long full[STAGES], empty[STAGES];
  const int across = (size.OW + TILE - 1) / TILE, down = (size.OH + TILE - 1) / TILE;
  const int ow = blockIdx.x % across * TILE, oh = blockIdx.x / across % down * TILE, n = blockIdx.x / across / down;
  const int k = blockIdx.y * FILTERS, chunks = (size.C + DEPTH - 1) / DEPTH;
  const int steps = size.KH * size.KW * chunks, warp = threadIdx.x / 32, lane = threadIdx.x % 32;

  if (threadIdx.x == 0) {
    for (int i = 0; i < STAGES; i++) {
      mbarrier_init(&full[i], 1);
      mbarrier_init(&empty[i], 1);
    }
    fence_mbarrier_init();
  }
  __syncthreads();

  if (warp == 4) {
    for (int step = 0; lane == 0 && step < steps; step++) {
      const int place = step % STAGES, tap = step / chunks, c = step % chunks * DEPTH;
      mbarrier_wait_parity(&empty[place], (step / STAGES & 1) ^ 1);
      mbarrier_arrive_expect_tx(&full[place], 2 * BOX);
      const int row = oh * size.sh - size.ph + tap / size.KW, column = ow * size.sw - size.pw + tap % size.KW;
      tensor_load(boxes + 2 * place * BOX, &x, {c, column, row, n}, &full[place]);
      tensor_load(boxes + (2 * place + 1) * BOX, &w, {c, tap, k}, &full[place]);
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
    const unsigned char* box = boxes + 2 * place * BOX;
    const unsigned long long pixels = wgmma_matrix(box, 0, 8 * 128, 128);
    const unsigned long long filters = wgmma_matrix(box + BOX, 0, 8 * 128, 128);
#pragma unroll
    for (int i = 0; i < DEPTH / 16; i++) wgmma_bf16(sums, pixels + i * (32 >> 4), filters + i * (32 >> 4));
    wgmma_commit();
    wgmma_wait<1>();  // what the step before read is free
    if (step && threadIdx.x == 0) mbarrier_arrive(&empty[(step - 1) % STAGES]);
  }
  wgmma_wait<0>();

#pragma unroll
  for (int i = 0; i < FILTERS / 2; i++) {
    const int pixel = 16 * warp + lane / 4 + i / 2 % 2 * 8, filter = k + i / 4 * 8 + lane % 4 * 2 + i % 2;
    const int row = oh + pixel / TILE, column = ow + pixel % TILE;
    if (row < size.OH && column < size.OW && filter < size.K)
      y[(((long long)n * size.OH + row) * size.OW + column) * size.K + filter] = sums[i] + b[filter];
  }
}

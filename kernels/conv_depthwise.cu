// Depthwise two-dimensional convolution, NCHW: each of the C channels is a group, of M output channels.
//
//   y[n,k,oh,ow] = b[k] + sum_{r,s} w[k,r,s] x[n, k / M, oh*sh - ph + r*dh, ow*sw - pw + s*dw]
//
//   depthwise_forward      y; a block owns up to THREADS * PIXELS pixels of one plane (n, k)
//   depthwise_backward_x   gx[n,c,h,w] = sum of w gy over the M channels of c and the windows that hold (h, w);
//                          a block owns up to THREADS * PIXELS pixels of one plane (n, c)
//   depthwise_backward_w   gw[k,r,:] = sum_{n,oh,ow} gy x; a block owns one row r of one filter, and adds the sums of
//                          its threads in a tree
//
// A sum has KH*KW terms a channel, too few for a matrix product to pay: these kernels are bound by memory. Bytes moved
// at least (float): forward and backward_x 4 for each element of x and of y; backward_w the same, but KH blocks read
// them, which find them in the L2 cache. Every sum has its fixed order, and gradients are gathered: no atomics, the
// same bits in every run.
//
// The plain kernel, a thread for each element of y:
//
//   __global__ void plain_depthwise(const float* x, const float* w, const float* b, float* y, int N, int C, int H,
//                                   int W, int M, int KH, int KW, int OH, int OW, int sh, int sw, int ph, int pw,
//                                   int dh, int dw) {
//     const int i = blockIdx.x * blockDim.x + threadIdx.x, ow = i % OW, oh = i / OW % OH, k = i / OW / OH % (C * M);
//     const int n = i / OW / OH / (C * M);
//     if (n >= N) return;
//     float sum = b[k];
//     for (int r = 0; r < KH; r++)
//       for (int s = 0; s < KW; s++) {
//         const int row = oh * sh - ph + r * dh, column = ow * sw - pw + s * dw;
//         if (row >= 0 && row < H && column >= 0 && column < W)
//           sum += w[(k * KH + r) * KW + s] * x[((n * C + k / M) * H + row) * W + column];
//       }
//     y[i] = sum;
//   }
//
// Specialisation: DTYPE=float, INDEX=int, KH=3, KW=3, THREADS=128, PIXELS=4
// Specialisation: DTYPE=float, INDEX=long long, KH=5, KW=5, THREADS=128, PIXELS=4
// Specialisation: DTYPE=double, INDEX=int, KH=7, KW=7, THREADS=128, PIXELS=4
#include "macros.cuh"
#if !defined(KH) || !defined(KW)
#error "define KH and KW, the height and width of the filters"
#endif
#ifndef THREADS
#error "define THREADS, the threads of a block"
#endif
#ifndef PIXELS
#error "define PIXELS, of a thread, THREADS apart: they share one read of the filter"
#endif

typedef DTYPE T;

#define SHAPE_PARAMETERS \
  int N, int C, int H, int W, int M, int OH, int OW, int sh, int sw, int ph, int pw, int dh, int dw

__device__ __forceinline__ bool inside(int i, int size) { return (unsigned)i < (unsigned)size; }

// grid = (planes of y, parts of a plane); bias is not read unless has_bias.
extern "C" __global__ void __launch_bounds__(THREADS)
depthwise_forward(const T* __restrict__ x, const T* __restrict__ w, const T* __restrict__ bias, T* __restrict__ y,
                  int has_bias, int relu, SHAPE_PARAMETERS) {
  const int n = blockIdx.x / (C * M), k = blockIdx.x % (C * M), first = blockIdx.y * (THREADS * PIXELS) + threadIdx.x;
  const T* plane = x + ((INDEX)n * C + k / M) * H * W;
  T filter[KH * KW];
#pragma unroll
  for (int i = 0; i < KH * KW; i++) filter[i] = w[k * (KH * KW) + i];
  const T start = has_bias ? bias[k] : 0;

  for (int i = 0; i < PIXELS; i++) {
    const int p = first + i * THREADS;
    if (p >= OH * OW) return;
    const int top = p / OW * sh - ph, left = p % OW * sw - pw;
    T sum = start;
#pragma unroll
    for (int r = 0; r < KH; r++) {
      if (!inside(top + r * dh, H)) continue;
      const T* row = plane + (INDEX)(top + r * dh) * W;
#pragma unroll
      for (int s = 0; s < KW; s++)
        if (inside(left + s * dw, W)) sum += filter[r * KW + s] * row[left + s * dw];
    }
    y[(INDEX)blockIdx.x * OH * OW + p] = relu && sum < 0 ? 0 : sum;  // NaN stays NaN
  }
}

// The window along one axis whose element `tap` is the padded position `at`, or -1.
__device__ __forceinline__ int window_at(int at, int tap, int stride, int dilation, int count) {
  const int start = at - tap * dilation, o = start / stride;
  return start >= 0 && o * stride == start && o < count ? o : -1;
}

// grid = (planes of x, parts of a plane)
extern "C" __global__ void __launch_bounds__(THREADS)
depthwise_backward_x(const T* __restrict__ gy, const T* __restrict__ w, T* __restrict__ gx, SHAPE_PARAMETERS) {
  const int c = blockIdx.x % C, first = blockIdx.y * (THREADS * PIXELS) + threadIdx.x;
  for (int i = 0; i < PIXELS; i++) {
    const int p = first + i * THREADS;
    if (p >= H * W) return;
    int columns[KW];
#pragma unroll
    for (int s = 0; s < KW; s++) columns[s] = window_at(p % W + pw, s, sw, dw, OW);
    T sum = 0;
    for (int m = 0; m < M; m++) {
      const T* filter = w + (c * M + m) * (KH * KW);
      const T* plane = gy + ((INDEX)blockIdx.x * M + m) * OH * OW;
#pragma unroll
      for (int r = 0; r < KH; r++) {
        const int oh = window_at(p / W + ph, r, sh, dh, OH);
        if (oh < 0) continue;
#pragma unroll
        for (int s = 0; s < KW; s++)
          if (columns[s] >= 0) sum += filter[r * KW + s] * plane[(INDEX)oh * OW + columns[s]];
      }
    }
    gx[(INDEX)blockIdx.x * H * W + p] = sum;
  }
}

// grid = (K, KH)
extern "C" __global__ void __launch_bounds__(THREADS)
depthwise_backward_w(const T* __restrict__ gy, const T* __restrict__ x, T* __restrict__ gw, SHAPE_PARAMETERS) {
  __shared__ T sums[KW][THREADS];
  const int k = blockIdx.x, r = blockIdx.y;
  T sum[KW] = {};
  for (int n = 0; n < N; n++) {
    const T* gy_plane = gy + ((INDEX)n * C * M + k) * OH * OW;
    const T* plane = x + ((INDEX)n * C + k / M) * H * W;
    for (int p = threadIdx.x; p < OH * OW; p += THREADS) {
      const int h = p / OW * sh - ph + r * dh, left = p % OW * sw - pw;
      if (!inside(h, H)) continue;
      const T g = gy_plane[p];
#pragma unroll
      for (int s = 0; s < KW; s++)
        if (inside(left + s * dw, W)) sum[s] += g * plane[(INDEX)h * W + left + s * dw];
    }
  }
#pragma unroll
  for (int s = 0; s < KW; s++) sums[s][threadIdx.x] = sum[s];
  for (int half = THREADS / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half)
#pragma unroll
      for (int s = 0; s < KW; s++) sums[s][threadIdx.x] += sums[s][threadIdx.x + half];
  }
  if (threadIdx.x == 0)
    for (int s = 0; s < KW; s++) gw[(k * KH + r) * KW + s] = sums[s][0];
}

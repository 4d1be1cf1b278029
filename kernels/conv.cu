// Two-dimensional convolution (cross-correlation), NCHW, as implicit matrix products.
//
//   y[n,k,oh,ow] = b[k] + sum_{c,r,s} w[k,c,r,s] x[n, c, oh*sh - ph + r*dh, ow*sw - pw + s*dw]
//
// with c over the C/groups channels of the group of k. Three products, one group each (gridDim.z = groups):
//
//   kernel              rows (M)     columns (N)           summed over (K)         minimum bytes moved
//   conv2d_forward      K/groups     N*OH*OW pixels        C/groups*KH*KW          x, w, b read; y written
//   conv2d_backward_x   C/groups     N*H*W pixels          K/groups*KH*KW          gy, w read; gx written
//   conv2d_backward_w   K/groups     C/groups*KH*KW        N*OH*OW pixels          gy, x read; gw written
//
// A block owns a TILE_M x TILE_N tile of the product, a thread 4 x 4 elements of it (gemm_tile.cuh).
// grid = (column tiles, row tiles, groups). Every gradient is gathered: no atomics, the same bits in every run.
//
// Specialisation: DTYPE=float, INDEX=int, KH=3, KW=3, TILE_M=64, TILE_N=64
// Specialisation: DTYPE=float, INDEX=int, KH=5, KW=5, TILE_M=16, TILE_N=64
// Specialisation: DTYPE=double, INDEX=int, KH=3, KW=3, TILE_M=64, TILE_N=64
// Specialisation: DTYPE=float, INDEX=long long, KH=1, KW=1, TILE_M=64, TILE_N=64
#if !defined(KH) || !defined(KW)
#error "define KH and KW, the height and width of the filters"
#endif
#ifndef INDEX
#error "define INDEX, the integer type that can count the elements of every array: int or long long"
#endif
#include "gemm_tile.cuh"

#define TAPS (KH * KW)

struct Shape {
  int N, C, H, W, K, OH, OW;  // C and K over all groups
  int sh, sw, ph, pw, dh, dw;
};

#define SHAPE_PARAMETERS                                                                                     \
  int N, int C, int H, int W, int K, int OH, int OW, int sh, int sw, int ph, int pw, int dh, int dw
#define SHAPE Shape{N, C, H, W, K, OH, OW, sh, sw, ph, pw, dh, dw}

// x[n, c, oh*sh - ph + r*dh, ow*sw - pw + s*dw], or 0 where that is padding.
__device__ __forceinline__ T window_element(const T* x, const Shape& z, int n, int c, int top, int left, int tap) {
  const int h = top + tap / KW * z.dh, w = left + tap % KW * z.dw;
  if (h < 0 || h >= z.H || w < 0 || w >= z.W) return 0;
  return x[(((INDEX)n * z.C + c) * z.H + h) * z.W + w];
}

extern "C" __global__ void __launch_bounds__(GEMM_THREADS)
conv2d_forward(const T* __restrict__ x, const T* __restrict__ w, const T* __restrict__ bias, T* __restrict__ y,
               int has_bias, SHAPE_PARAMETERS) {
  const Shape z = SHAPE;
  const int groups = gridDim.z, group = blockIdx.z, group_c = C / groups, group_k = K / groups;
  const int m0 = blockIdx.y * TILE_M, terms = group_c * TAPS;
  const INDEX n0 = (INDEX)blockIdx.x * TILE_N, image = (INDEX)OH * OW, pixels = N * image;

  const INDEX staged = n0 + staged_column();
  const int n = staged / image, p = staged % image;
  const int top = p / OW * sh - ph, left = p % OW * sw - pw;

  gemm_tile(
      terms,
      [&](int m, int k) -> T {
        if (m0 + m >= group_k || k >= terms) return 0;
        return w[(INDEX)(group * group_k + m0 + m) * terms + k];
      },
      [&](int k) -> T {
        if (staged >= pixels || k >= terms) return 0;
        return window_element(x, z, n, group * group_c + k / TAPS, top, left, k % TAPS);
      },
      [&](int m, int column, T sum) {
        const INDEX pixel = n0 + column;
        if (m0 + m >= group_k || pixel >= pixels) return;
        const int k = group * group_k + m0 + m;
        y[(pixel / image * K + k) * image + pixel % image] = has_bias ? sum + bias[k] : sum;
      });
}

// gx[n,c,h,w] = sum_{k,r,s} w[k,c,r,s] gy[n,k,oh,ow], over the (oh, ow) whose window holds (h, w) at place (r, s).
extern "C" __global__ void __launch_bounds__(GEMM_THREADS)
conv2d_backward_x(const T* __restrict__ gy, const T* __restrict__ w, T* __restrict__ gx, SHAPE_PARAMETERS) {
  const int groups = gridDim.z, group = blockIdx.z, group_c = C / groups, group_k = K / groups;
  const int m0 = blockIdx.y * TILE_M, terms = group_k * TAPS;
  const INDEX n0 = (INDEX)blockIdx.x * TILE_N, image = (INDEX)H * W, pixels = N * image;

  const INDEX staged = n0 + staged_column();
  const int n = staged / image, p = staged % image;
  const int padded_h = p / W + ph, padded_w = p % W + pw;

  gemm_tile(
      terms,
      [&](int m, int k) -> T {
        if (m0 + m >= group_c || k >= terms) return 0;
        return w[((INDEX)(group * group_k + k / TAPS) * group_c + m0 + m) * TAPS + k % TAPS];
      },
      [&](int k) -> T {
        if (staged >= pixels || k >= terms) return 0;
        const int top = padded_h - k % TAPS / KW * dh, left = padded_w - k % KW * dw;
        if (top < 0 || left < 0 || top % sh || left % sw || top / sh >= OH || left / sw >= OW) return 0;
        return gy[(((INDEX)n * K + group * group_k + k / TAPS) * OH + top / sh) * OW + left / sw];
      },
      [&](int m, int column, T sum) {
        const INDEX pixel = n0 + column;
        if (m0 + m >= group_c || pixel >= pixels) return;
        gx[(pixel / image * C + group * group_c + m0 + m) * image + pixel % image] = sum;
      });
}

// gw[k,c,r,s] = sum_{n,oh,ow} gy[n,k,oh,ow] x[n, c, oh*sh - ph + r*dh, ow*sw - pw + s*dw]
extern "C" __global__ void __launch_bounds__(GEMM_THREADS)
conv2d_backward_w(const T* __restrict__ gy, const T* __restrict__ x, T* __restrict__ gw, SHAPE_PARAMETERS) {
  const Shape z = SHAPE;
  const int groups = gridDim.z, group = blockIdx.z, group_c = C / groups, group_k = K / groups;
  const int m0 = blockIdx.y * TILE_M, n0 = blockIdx.x * TILE_N, columns = group_c * TAPS;
  const int image = OH * OW, pixels = N * image;

  const int staged = n0 + staged_column();

  gemm_tile(
      pixels,
      [&](int m, int pixel) -> T {
        if (m0 + m >= group_k || pixel >= pixels) return 0;
        return gy[((INDEX)(pixel / image) * K + group * group_k + m0 + m) * image + pixel % image];
      },
      [&](int pixel) -> T {
        if (staged >= columns || pixel >= pixels) return 0;
        const int p = pixel % image, top = p / OW * sh - ph, left = p % OW * sw - pw;
        return window_element(x, z, pixel / image, group * group_c + staged / TAPS, top, left, staged % TAPS);
      },
      [&](int m, int column, T sum) {
        if (m0 + m >= group_k || n0 + column >= columns) return;
        gw[(INDEX)(group * group_k + m0 + m) * columns + n0 + column] = sum;
      });
}

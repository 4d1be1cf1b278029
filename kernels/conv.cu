// Two-dimensional convolution (cross-correlation), NCHW, as implicit matrix products.
//
//   y[n,k,oh,ow] = b[k] + sum_{c,r,s} w[k,c,r,s] x[n, c, oh*sh - ph + r*dh, ow*sw - pw + s*dw]
//
// with c over the C/groups channels of the group of k. Three products, one group each:
//
//   kernel              rows (M)     columns (N)           summed over (K)         minimum bytes moved
//   conv2d_forward      K/groups     N*OH*OW pixels        C/groups*KH*KW          x, w, b read; y written
//   conv2d_backward_x   C/groups     N*H*W pixels          K/groups*KH*KW          gy, w read; gx written
//   conv2d_backward_w   K/groups     C/groups*KH*KW        N*OH*OW pixels          gy, x read; gw written
//   conv2d_sum_splits   adds the `splits` partial gw that conv2d_backward_w leaves: (splits + 1) gw moved
//
// A block owns a TILE_M x TILE_N tile of the product, a thread REG x REG elements of it (gemm_tile.cuh).
// grid = (column tiles, row tiles, groups * parts); the parts are the sub-lattices of conv2d_backward_x, the splits of
// conv2d_backward_w. Every gradient is gathered and every sum has its fixed order: no atomics, the same bits in every
// run on devices with as many multiprocessors (which decide the number of splits).
//
// The plain kernel, a thread for each element of y; the fast one gives the same up to the rounding of its sums:
//
//   __global__ void plain_conv2d(const float* x, const float* w, const float* b, float* y, int groups, int N, int C,
//                                int H, int W, int K, int KH, int KW, int OH, int OW, int sh, int sw, int ph, int pw,
//                                int dh, int dw) {
//     const int i = blockIdx.x * blockDim.x + threadIdx.x, ow = i % OW, oh = i / OW % OH, k = i / OW / OH % K;
//     const int n = i / OW / OH / K, group_c = C / groups, first_c = k / (K / groups) * group_c;
//     if (n >= N) return;
//     float sum = b[k];
//     for (int c = 0; c < group_c; c++)
//       for (int r = 0; r < KH; r++)
//         for (int s = 0; s < KW; s++) {
//           const int row = oh * sh - ph + r * dh, column = ow * sw - pw + s * dw;
//           if (row >= 0 && row < H && column >= 0 && column < W)
//             sum += w[((k * group_c + c) * KH + r) * KW + s] * x[((n * C + first_c + c) * H + row) * W + column];
//         }
//     y[i] = sum;
//   }
//
// Specialisation: DTYPE=float, INDEX=int, TILE_M=128, TILE_N=128, REG=8, STAGES=2, TILE_K=16, SUM_THREADS=256
// Specialisation: DTYPE=float, INDEX=int, TILE_M=128, TILE_N=64, REG=8, STAGES=3, TILE_K=16, SUM_THREADS=256
// Specialisation: DTYPE=float, INDEX=int, TILE_M=64, TILE_N=128, REG=8, STAGES=3, TILE_K=16, SUM_THREADS=256
// Specialisation: DTYPE=float, INDEX=int, TILE_M=64, TILE_N=64, REG=4, STAGES=3, TILE_K=16, SUM_THREADS=256
// Specialisation: DTYPE=float, INDEX=int, TILE_M=32, TILE_N=64, REG=4, STAGES=3, TILE_K=16, SUM_THREADS=256
// Specialisation: DTYPE=float, INDEX=int, TILE_M=16, TILE_N=64, REG=4, STAGES=3, TILE_K=16, SUM_THREADS=256
// Specialisation: DTYPE=double, INDEX=int, TILE_M=64, TILE_N=64, REG=4, STAGES=2, TILE_K=16, SUM_THREADS=256
// Specialisation: DTYPE=float, INDEX=long long, TILE_M=64, TILE_N=64, REG=4, STAGES=3, TILE_K=16, SUM_THREADS=256
// Specialisation: DTYPE=double, INDEX=int, TILE_M=16, TILE_N=64, REG=4, STAGES=2, TILE_K=16, SUM_THREADS=256
#ifndef SUM_THREADS
#error "define SUM_THREADS, the threads of a block of conv2d_sum_splits"
#endif
#include "gemm_tile.cuh"

#define SHAPE_PARAMETERS                                                                                     \
  int groups, int N, int C, int H, int W, int K, int KH, int KW, int OH, int OW, int sh, int sw, int ph, int pw, \
      int dh, int dw

// y = b + w * x, cut off at 0 if relu; bias is not read unless has_bias.
extern "C" __global__ void __launch_bounds__(GEMM_THREADS, GEMM_BLOCKS)
conv2d_forward(const T* __restrict__ x, const T* __restrict__ w, const T* __restrict__ bias, T* __restrict__ y,
               int has_bias, int relu, SHAPE_PARAMETERS) {
  const int group = blockIdx.z, group_c = C / groups, group_k = K / groups;
  const int m0 = blockIdx.y * TILE_M, k0 = group * group_k + m0, taps = KH * KW, terms = group_c * taps;
  const INDEX n0 = (INDEX)blockIdx.x * TILE_N, image = (INDEX)OH * OW, pixels = N * image;

  gemm_tile<false>(
      Matrices{w + (INDEX)k0 * terms, terms, group_k - m0, x, H, W}, 0, terms,
      [&](INDEX k) {
        const int c = (int)k / taps, tap = (int)k % taps, h = tap / KW * dh, v = tap % KW * dw;
        return Term{((INDEX)c * H + h) * W + v, h, v, k};
      },
      [&](int column) {
        const INDEX pixel = n0 + column;
        if (pixel >= pixels) return Place{0, OUTSIDE, 0};
        const INDEX n = pixel / image, p = pixel % image;
        const int top = p / OW * sh - ph, left = p % OW * sw - pw;
        return Place{((n * C + group * group_c) * H + top) * W + left, top, left};
      },
      [&](int column) -> T* {
        const INDEX pixel = n0 + column;
        if (pixel >= pixels) return nullptr;
        return y + (pixel / image * K + k0) * image + pixel % image;
      },
      image,
      [&](int m, T sum) {
        if (has_bias) sum += bias[k0 + m];
        return relu && sum < 0 ? 0 : sum;  // NaN stays NaN
      });
}

// The pixels along one axis whose padded position leaves the remainder `a` when divided by the stride, and the taps
// that meet them: at position a + stride * q, tap `first + i * apart` meets window q - (back + i * reach).
struct SubLattice {
  int first, taps, apart, back, reach;
  int start, count;  // of q, for the pixels inside the image
};

__device__ SubLattice sub_lattice(int a, int size, int kernel, int stride, int padding, int dilation) {
  int apart = 1, first = 0;
  while (apart * dilation % stride) apart++;
  while (first < apart && first * dilation % stride != a) first++;
  const int taps = first < apart && first < kernel ? (kernel - first + apart - 1) / apart : 0;
  const int start = (padding - a + stride - 1) / stride, end = (size + padding - a + stride - 1) / stride;
  return SubLattice{first, taps, apart, (first * dilation - a) / stride, apart * dilation / stride, start, end - start};
}

// gx[n,c,h,w] = sum_{k,r,s} w[k,c,r,s] gy[n,k,oh,ow], over the (oh, ow) whose window holds (h, w) at place (r, s).
// Each of the sh * sw sub-lattices of pixels is met by its own taps only: a product of its own, with no zeros in it.
extern "C" __global__ void __launch_bounds__(GEMM_THREADS, GEMM_BLOCKS)
conv2d_backward_x(const T* __restrict__ gy, const T* __restrict__ w, T* __restrict__ gx, SHAPE_PARAMETERS) {
  const int group = blockIdx.z % groups, part = blockIdx.z / groups, group_c = C / groups, group_k = K / groups;
  __shared__ SubLattice v, u;  // vertical and horizontal
  if (threadIdx.x == 0) v = sub_lattice(part / sw, H, KH, sh, ph, dh);
  if (threadIdx.x == 32) u = sub_lattice(part % sw, W, KW, sw, pw, dw);
  __syncthreads();
  const int m0 = blockIdx.y * TILE_M, taps = v.taps * u.taps;
  const INDEX n0 = (INDEX)blockIdx.x * TILE_N, image = (INDEX)v.count * u.count, pixels = N * image;
  if (n0 >= pixels) return;

  gemm_tile<false>(
      Matrices{w + ((INDEX)group * group_k * group_c + m0) * KH * KW, KH * KW, group_c - m0, gy, OH, OW}, 0,
      group_k * taps,
      [&](INDEX term) {
        const int k = (int)term / taps, tap = (int)term % taps, i = tap / u.taps, j = tap % u.taps;
        const int h = -(v.back + i * v.reach), left = -(u.back + j * u.reach);
        const int r = v.first + i * v.apart, s = u.first + j * u.apart;
        return Term{((INDEX)k * OH + h) * OW + left, h, left, ((INDEX)k * group_c * KH + r) * KW + s};
      },
      [&](int column) {
        const INDEX pixel = n0 + column;
        if (pixel >= pixels) return Place{0, OUTSIDE, 0};
        const INDEX n = pixel / image, p = pixel % image;
        const int h = v.start + p / u.count, left = u.start + p % u.count;
        return Place{((n * K + group * group_k) * OH + h) * OW + left, h, left};
      },
      [&](int column) -> T* {
        const INDEX pixel = n0 + column;
        if (pixel >= pixels) return nullptr;
        const INDEX n = pixel / image, p = pixel % image;
        const int h = (v.start + p / u.count) * sh + part / sw - ph, left = (u.start + p % u.count) * sw + part % sw - pw;
        return gx + ((n * C + group * group_c + m0) * H + h) * W + left;
      },
      (INDEX)H * W, [](int, T sum) { return sum; });
}

// gw[k,c,r,s] = sum_{n,oh,ow} gy[n,k,oh,ow] x[n, c, oh*sh - ph + r*dh, ow*sw - pw + s*dw]
// Split p sums the pixels from p * chunk on, and writes its partial gw to partial[p].
extern "C" __global__ void __launch_bounds__(GEMM_THREADS, GEMM_BLOCKS)
conv2d_backward_w(const T* __restrict__ gy, const T* __restrict__ x, T* __restrict__ partial, INDEX chunk,
                  SHAPE_PARAMETERS) {
  const int group = blockIdx.z % groups, split = blockIdx.z / groups, group_c = C / groups, group_k = K / groups;
  const int m0 = blockIdx.y * TILE_M, n0 = blockIdx.x * TILE_N, k0 = group * group_k + m0, columns = group_c * KH * KW;
  const INDEX image = (INDEX)OH * OW, first = split * chunk, last = min(first + chunk, N * image);

  gemm_tile<true>(
      Matrices{gy + k0 * image, image, group_k - m0, x, H, W}, first, last,
      [&](INDEX pixel) {
        const INDEX n = pixel / image, p = pixel % image;
        const int h = p / OW * sh, left = p % OW * sw;
        return Term{(n * C * H + h) * W + left, h, left, n * K * image + p};
      },
      [&](int column) {
        if (n0 + column >= columns) return Place{0, OUTSIDE, 0};
        const int tap = (n0 + column) % (KH * KW), c = group * group_c + (n0 + column) / (KH * KW);
        const int h = tap / KW * dh - ph, left = tap % KW * dw - pw;
        return Place{((INDEX)c * H + h) * W + left, h, left};
      },
      [&](int column) -> T* {
        if (n0 + column >= columns) return nullptr;
        return partial + ((INDEX)split * K + k0) * columns + n0 + column;
      },
      columns, [](int, T sum) { return sum; });
}

// gw = partial[0] + partial[1] + ... in that order; a thread owns one element.
extern "C" __global__ void __launch_bounds__(SUM_THREADS)
conv2d_sum_splits(const T* __restrict__ partial, T* __restrict__ gw, INDEX size, int splits) {
  const INDEX i = (INDEX)blockIdx.x * SUM_THREADS + threadIdx.x;
  if (i >= size) return;
  T sum = partial[i];
  for (int split = 1; split < splits; split++) sum += partial[split * size + i];
  gw[i] = sum;
}

// Local response normalisation across channels, NCHW (Krizhevsky et al. 2012, section 3.3), forward and backward.
//
//   s[c] = k + a * sum_{j=c-LEFT}^{c+RIGHT} x[j]^2        y[c] = x[c] * s[c]^-beta
//   gx[i] = gy[i] * s[i]^-beta - 2 a beta x[i] * sum_{c: i in window(c)} gy[c] x[c] s[c]^(-beta-1)
//
// with LEFT = SIZE/2, RIGHT = (SIZE-1)/2, channels outside 0..C-1 taken as 0. A thread owns VECTOR neighbouring pixels
// of one image (16 bytes, where the image's size allows) and walks over the channels [part, part + 1) * per_part with
// the window in registers, so that x is read once: 2 accesses per element forward (8 bytes in float), 3 backward (12),
// neighbouring threads on neighbouring pixels. Where the pixels alone are too few threads, the channels are split over
// blockIdx.y; each part then reads SIZE-1 channels more forward, and twice that of x and of gy backward. 16 bytes a
// thread are always under way: AHEAD channels are loaded before they are needed.
// s is not stored: backward forms it again from x. The window is summed afresh at each channel: a running sum would
// subtract large squares from each other and lose the small ones. Each element is written by one thread in an order
// that depends on neither the grid nor VECTOR: the same bits in every run.
//
// The plain kernel, a thread for each element of y:
//
//   __global__ void plain_lrn(const float* x, float* y, int N, int C, int image, int size, float a, float beta,
//                             float k) {
//     const int i = blockIdx.x * blockDim.x + threadIdx.x, c = i / image % C;
//     if (i >= N * C * image) return;
//     float s = k;
//     for (int j = c - size / 2; j <= c + (size - 1) / 2; j++) {
//       if (j < 0 || j >= C) continue;
//       const float beside = x[i + (j - c) * image];
//       s += a * beside * beside;
//     }
//     y[i] = x[i] / powf(s, beta);
//   }
//
// Specialisation: DTYPE=float, INDEX=int, SIZE=5, BETA=75, VECTOR=4, THREADS=128
// Specialisation: DTYPE=float, INDEX=int, SIZE=5, BETA=75, VECTOR=1, THREADS=128
// Specialisation: DTYPE=float, INDEX=long long, SIZE=7, BETA=50, VECTOR=4, THREADS=128
// Specialisation: DTYPE=double, INDEX=int, SIZE=4, BETA=0, VECTOR=2, THREADS=128
#include "macros.cuh"
#ifndef THREADS
#error "define THREADS, the threads of a block"
#endif
#include "lrn_window.cuh"

typedef DTYPE T;

constexpr int AHEAD = 16 / (VECTOR * (int)sizeof(T));

// The offset of channel 0 at this thread's pixels, or -1 for a thread beyond the last pixel.
__device__ __forceinline__ INDEX first_channel(int N, int C, INDEX image) {
  const INDEX i = ((INDEX)blockIdx.x * THREADS + threadIdx.x) * VECTOR;
  return i < N * image ? i / image * C * image + i % image : -1;
}

extern "C" __global__ void __launch_bounds__(THREADS)
lrn_forward(const T* __restrict__ x, T* __restrict__ y, int N, int C, int per_part, INDEX image, T a, T beta, T k) {
  const INDEX pixel = first_channel(N, C, image);
  if (pixel < 0) return;
  const int first = blockIdx.y * per_part, last = min(first + per_part, C);  // the channels to write
  const int begin = max(first - LEFT, 0);
  Channels<T, AHEAD> xs(x + pixel, image, begin, C);
  Window<T, SIZE> window[VECTOR];  // x[c-LEFT] ... x[c+RIGHT]
  for (int newest = begin; newest < last + RIGHT; newest++) {
    const Pack<T> values = xs.pop();
    const int c = newest - RIGHT;
    Pack<T> out;
#pragma unroll
    for (int v = 0; v < VECTOR; v++) {
      window[v].push(values.v[v]);
      out.v[v] = window[v].v[LEFT] * scale_power(k + a * window[v].sum_of_squares(), beta);
    }
    if (c >= first) store(y + pixel + c * image, out);
  }
}

extern "C" __global__ void __launch_bounds__(THREADS)
lrn_backward(const T* __restrict__ gy, const T* __restrict__ x, T* __restrict__ gx, int N, int C, int per_part,
             INDEX image, T a, T beta, T k) {
  const INDEX pixel = first_channel(N, C, image);
  if (pixel < 0) return;
  const int first = blockIdx.y * per_part, last = min(first + per_part, C);  // the channels to write
  const int begin = max(first - RIGHT, 0);                                   // the first with a part in gx[first]
  Channels<T, AHEAD> xs(x + pixel, image, max(begin - LEFT, 0), C), gys(gy + pixel, image, begin, C);
  // At each step x of channel `newest` is read, s is complete for c = newest - RIGHT, and gx for i = c - LEFT.
  Window<T, SIZE> window[VECTOR];      // x[c-LEFT] = x[i] ... x[c+RIGHT]
  Window<T, SIZE> products[VECTOR];    // gy x s^(-beta-1) of channels i-RIGHT ... i+LEFT = c
  Window<T, LEFT + 1> direct[VECTOR];  // gy s^-beta of channels i ... c
  for (int newest = max(begin - LEFT, 0); newest < last + RIGHT + LEFT; newest++) {
    const Pack<T> values = xs.pop();
#pragma unroll
    for (int v = 0; v < VECTOR; v++) window[v].push(values.v[v]);
    const int c = newest - RIGHT, i = c - LEFT;
    if (c < begin) continue;
    const Pack<T> gradients = gys.pop();
    Pack<T> out;
#pragma unroll
    for (int v = 0; v < VECTOR; v++) {
      const T s = k + a * window[v].sum_of_squares();
      const T g = c < C ? gradients.v[v] * scale_power(s, beta) : 0;  // beyond C, s may be 0
      direct[v].push(g);
      products[v].push(c < C ? over_scale(g * window[v].v[LEFT], s) : 0);
      out.v[v] = direct[v].v[0] - 2 * a * beta * window[v].v[0] * products[v].sum();
    }
    if (i >= first) store(gx + pixel + i * image, out);
  }
}

// Local response normalisation across channels, NCHW (Krizhevsky et al. 2012, section 3.3), forward and backward.
//
//   s[c] = k + a * sum_{j=c-LEFT}^{c+RIGHT} x[j]^2        y[c] = x[c] * s[c]^-beta
//   gx[i] = gy[i] * s[i]^-beta - 2 a beta x[i] * sum_{c: i in window(c)} gy[c] x[c] s[c]^(-beta-1)
//
// with LEFT = SIZE/2, RIGHT = (SIZE-1)/2, channels outside 0..C-1 taken as 0. A thread owns one pixel of one image
// and walks over its channels with the window in registers, so that x is read once: 2 accesses per element forward
// (8 bytes in float), 3 backward (12), neighbouring threads on neighbouring pixels. s is not stored: backward forms it
// again from x. The window is summed afresh at each channel: a running sum would subtract large squares from each
// other and lose the small ones. Each element is written by one thread in a fixed order: the same bits in every run.
//
// Specialisation: DTYPE=float, INDEX=int, SIZE=5
// Specialisation: DTYPE=double, INDEX=int, SIZE=4
// Specialisation: DTYPE=float, INDEX=long long, SIZE=1
#ifndef DTYPE
#error "define DTYPE, the element type: float or double"
#endif
#ifndef SIZE
#error "define SIZE, the number of channels in the window"
#endif
#ifndef INDEX
#error "define INDEX, the integer type that can count the elements of every array: int or long long"
#endif

#define THREADS 128
#define LEFT (SIZE / 2)
#define RIGHT ((SIZE - 1) / 2)

typedef DTYPE T;

// A window of the last LENGTH values pushed, the newest at the end; unrolled, so that it lives in registers.
template <int LENGTH>
struct Window {
  T v[LENGTH] = {};

  __device__ __forceinline__ void push(T newest) {
#pragma unroll
    for (int i = 1; i < LENGTH; i++) v[i - 1] = v[i];
    v[LENGTH - 1] = newest;
  }

  __device__ __forceinline__ T sum() const {
    T total = 0;
#pragma unroll
    for (int i = 0; i < LENGTH; i++) total += v[i];
    return total;
  }

  __device__ __forceinline__ T sum_of_squares() const {
    T total = 0;
#pragma unroll
    for (int i = 0; i < LENGTH; i++) total += v[i] * v[i];
    return total;
  }
};

// The offset of channel 0 of this thread's pixel, or -1 for a thread beyond the last pixel.
__device__ __forceinline__ INDEX first_channel(int N, int C, INDEX image) {
  const INDEX i = (INDEX)blockIdx.x * THREADS + threadIdx.x;
  return i < N * image ? i / image * C * image + i % image : -1;
}

extern "C" __global__ void __launch_bounds__(THREADS)
lrn_forward(const T* __restrict__ x, T* __restrict__ y, int N, int C, INDEX image, T a, T beta, T k) {
  const INDEX first = first_channel(N, C, image);
  if (first < 0) return;
  Window<SIZE> xs;  // x[c-LEFT] ... x[c+RIGHT]
  for (int newest = 0; newest < C + RIGHT; newest++) {
    xs.push(newest < C ? x[first + newest * image] : 0);
    const int c = newest - RIGHT;
    if (c >= 0) y[first + c * image] = xs.v[LEFT] * pow(k + a * xs.sum_of_squares(), -beta);
  }
}

extern "C" __global__ void __launch_bounds__(THREADS)
lrn_backward(const T* __restrict__ gy, const T* __restrict__ x, T* __restrict__ gx, int N, int C, INDEX image, T a,
             T beta, T k) {
  const INDEX first = first_channel(N, C, image);
  if (first < 0) return;
  // At each step x of channel `newest` is read, s is complete for c = newest - RIGHT, and gx for i = c - LEFT.
  Window<SIZE> xs;             // x[c-LEFT] = x[i] ... x[c+RIGHT]
  Window<SIZE> products;       // gy x s^(-beta-1) of channels i-RIGHT ... i+LEFT = c
  Window<LEFT + 1> direct;     // gy s^-beta of channels i ... c
  for (int newest = 0; newest < C + RIGHT + LEFT; newest++) {
    xs.push(newest < C ? x[first + newest * image] : 0);
    const int c = newest - RIGHT, i = c - LEFT;
    if (c < 0) continue;
    const T s = k + a * xs.sum_of_squares();
    const T g = c < C ? gy[first + c * image] * pow(s, -beta) : 0;
    direct.push(g);
    products.push(c < C ? g * xs.v[LEFT] / s : 0);
    if (i >= 0) gx[first + i * image] = direct.v[0] - 2 * a * beta * xs.v[0] * products.sum();
  }
}

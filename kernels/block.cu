// What follows a convolution in AlexNet, fused: bias, ReLU, local response normalisation and max pooling over N images
// of C planes of H x W, in both orders, forward and backward. With r = max(x + b[c], 0) and lrn() as in lrn.cu:
//
//   bias_relu_pool_lrn   p = max of r over the window, place = where in the window it was found    y = lrn(p)
//   bias_relu_lrn_pool   y = max of lrn(r) over the window, place = where in the window it was found
//
// Backward gives gx, and sums of gx that a reduction over the last axis turns into gb. Every kernel walks over the
// channels [part, part + 1) * per_part, part = blockIdx.y, as in lrn.cu, and gathers: no atomics, the same bits in
// every run. A window lies in the image with one element at least; the first maximum wins a tie, NaN over any number.
// Bytes moved, for float, per element of x and of y (the halo of a block's tile is read again from the cache):
//
//   bias_relu_pool_lrn_forward   x: 4    y: 4 + 4 + 1 (p and place are kept)   a thread owns a pixel of y
//   bias_relu_pool_lrn_backward  x: 4    y: 4 + 4 + 1                          a block owns a tile of x and its windows
//   bias_relu_lrn_pool_forward   x: 4    y: 4 + 1 (place is kept)              a block owns a tile of y
//   bias_relu_lrn_pool_backward  x: 8    y: 4 + 1 (r is formed again from x)   a thread owns a pixel of x
//
// Specialisation: DTYPE=float, INDEX=int, SIZE=5, BETA=75, KH=3, KW=3, SH=2, SW=2, PLACE=unsigned char, THREADS=256, WINDOWS_H=8, WINDOWS_W=32, TILE_H=7, TILE_W=16
// Specialisation: DTYPE=double, INDEX=int, SIZE=4, BETA=75, KH=2, KW=2, SH=2, SW=2, PLACE=unsigned char, THREADS=256, WINDOWS_H=8, WINDOWS_W=32, TILE_H=7, TILE_W=16
// Specialisation: DTYPE=float, INDEX=long long, SIZE=3, BETA=50, KH=3, KW=2, SH=1, SW=3, PLACE=unsigned char, THREADS=256, WINDOWS_H=8, WINDOWS_W=32, TILE_H=7, TILE_W=16
#include "macros.cuh"
#if !defined(KH) || !defined(KW) || !defined(SH) || !defined(SW)
#error "define KH and KW, the height and width of the window, and SH and SW, its strides"
#endif
#ifndef PLACE
#error "define PLACE, the integer type that can count the elements of the window"
#endif
#ifndef THREADS
#error "define THREADS, the threads of a block"
#endif
#if !defined(WINDOWS_H) || !defined(WINDOWS_W)
#error "define WINDOWS_H and WINDOWS_W, the windows that a block of bias_relu_pool_lrn_backward visits"
#endif
#if !defined(TILE_H) || !defined(TILE_W)
#error "define TILE_H and TILE_W, the elements of y that a block of bias_relu_lrn_pool_forward owns"
#endif
#define VECTOR 1  // AlexNet's rows have odd lengths: no two of them start at a multiple of 16 bytes
#include "lrn_window.cuh"

#define AHEAD (8 / (int)sizeof(T))  // channels loaded before they are needed
#define ALL_LANES 0xffffffffu

typedef DTYPE T;

__device__ __forceinline__ T lowest() { return -(T)__int_as_float(0x7f800000); }  // -inf; NVRTC has no INFINITY

__device__ __forceinline__ T biased_relu(T x, T b) {
  const T v = x + b;
  return v > 0 || v != v ? v : 0;
}

// The walk of the backward pass over the channels of one pixel: see lrn_backward in lrn.cu.
struct BackwardWalk {
  Window<T, SIZE> xs, products;
  Window<T, LEFT + 1> direct;

  // The gradient of channel c - LEFT, from that of channel c, when xs reaches to c + RIGHT.
  __device__ __forceinline__ T step(T gy, bool exists, T a, T beta, T k) {
    const T s = k + a * xs.sum_of_squares();
    const T g = exists ? gy * scale_power(s, beta) : 0;  // beyond the last channel, s may be 0
    direct.push(g);
    products.push(exists ? over_scale(g * xs.v[LEFT], s) : 0);
    return direct.v[0] - 2 * a * beta * xs.v[0] * products.sum();
  }
};

// The sum over the lanes of a warp, in every lane, in an order that is the same in all.
__device__ __forceinline__ T warp_sum(T v) {
#pragma unroll
  for (int apart = 16; apart; apart /= 2) v += __shfl_xor_sync(ALL_LANES, v, apart);
  return v;
}

extern "C" __global__ void __launch_bounds__(THREADS)
bias_relu_pool_lrn_forward(const T* __restrict__ x, const T* __restrict__ b, T* __restrict__ y, T* __restrict__ pooled,
                           PLACE* __restrict__ place, int N, int C, int per_part, int H, int W, int OH, int OW, int ph,
                           int pw, T a, T beta, T k) {
  const INDEX i = (INDEX)blockIdx.x * THREADS + threadIdx.x, image = (INDEX)OH * OW;
  if (i >= N * image) return;
  const int p = i % image, top = p / OW * SH - ph, left = p % OW * SW - pw;
  const INDEX out = i / image * C * image + p;  // channel 0 of this pixel
  const T* images = x + i / image * C * H * W;

  const int first = blockIdx.y * per_part, last = min(first + per_part, C), begin = max(first - LEFT, 0);
  const int first_found = max(-top, 0) * KW + max(-left, 0);  // if every element is -inf, so is the maximum
  Window<T, SIZE> window;                                     // p of the channels c-LEFT ... c+RIGHT
  for (int newest = begin; newest < last + RIGHT; newest++) {
    T best = 0;
    if (newest < C) {
      const T* plane = images + (INDEX)newest * H * W;
      const T bias = b[newest];
      best = lowest();
      int found = first_found;
#pragma unroll
      for (int r = 0; r < KH; r++)
#pragma unroll
        for (int s = 0; s < KW; s++) {
          const int h = top + r, w = left + s;
          if (h < 0 || h >= H || w < 0 || w >= W) continue;
          const T v = biased_relu(plane[(INDEX)h * W + w], bias);
          if (v > best || v != v) {
            best = v;
            found = r * KW + s;
          }
        }
      if (newest >= first && newest < last) {
        pooled[out + newest * image] = best;
        place[out + newest * image] = found;
      }
    }
    window.push(best);
    const int c = newest - RIGHT;
    if (c >= first) y[out + c * image] = window.v[LEFT] * scale_power(k + a * window.sum_of_squares(), beta);
  }
}

// A block of bias_relu_pool_lrn_backward has a thread for each of WINDOWS_H x WINDOWS_W windows; the first BEFORE rows
// and columns of them belong to the blocks before it, but reach into the elements of x that it owns.
static_assert(WINDOWS_H * WINDOWS_W == THREADS, "a thread for each window");
#define BEFORE_H ((KH - 1) / SH)
#define BEFORE_W ((KW - 1) / SW)
#define OWN_H (WINDOWS_H - BEFORE_H)
#define OWN_W (WINDOWS_W - BEFORE_W)

extern "C" __global__ void __launch_bounds__(THREADS)
bias_relu_pool_lrn_backward(const T* __restrict__ gy, const T* __restrict__ pooled, const PLACE* __restrict__ place,
                            T* __restrict__ gx, T* __restrict__ bias_sums, int N, int C, int per_part, int H, int W,
                            int OH, int OW, int ph, int pw, T a, T beta, T k) {
  const int across = (W + pw + OWN_W * SW - 1) / (OWN_W * SW), down = (H + ph + OWN_H * SH - 1) / (OWN_H * SH);
  const int tile_row = blockIdx.x / across % down, tile_column = blockIdx.x % across, n = blockIdx.x / across / down;
  const int i = threadIdx.x / WINDOWS_W, j = threadIdx.x % WINDOWS_W;
  const int oh = tile_row * OWN_H - BEFORE_H + i, ow = tile_column * OWN_W - BEFORE_W + j;
  const bool exists = oh >= 0 && oh < OH && ow >= 0 && ow < OW;
  const bool owned = i >= BEFORE_H && j >= BEFORE_W;
  const INDEX image = (INDEX)OH * OW;
  const INDEX out = (INDEX)n * C * image + (exists ? (INDEX)oh * OW + ow : 0);

  // Two of each, used in turn: one barrier a channel, between its writing and its reading.
  __shared__ T gradients[2][THREADS];
  __shared__ PLACE places[2][THREADS];
  __shared__ T sums[2][THREADS / 32];

  const int first = blockIdx.y * per_part, last = min(first + per_part, C), begin = max(first - RIGHT, 0);
  const int start = max(begin - LEFT, 0);
  Channels<T, AHEAD> xs(pooled + out, image, start, exists ? C : 0), gys(gy + out, image, begin, exists ? C : 0);
  BackwardWalk walk;
  for (int newest = start; newest < last + RIGHT + LEFT; newest++) {
    walk.xs.push(xs.pop().v[0]);
    const int c = newest - RIGHT, channel = c - LEFT, turn = channel & 1;
    if (c < begin) continue;
    T g = walk.step(gys.pop().v[0], exists && c < C, a, beta, k);
    if (channel < first) continue;
    g *= walk.xs.v[0] > 0;  // the ReLU: a window of maximum 0 has its place where r is 0
    gradients[turn][threadIdx.x] = g;
    places[turn][threadIdx.x] = exists ? place[out + channel * image] : 0;
    const T sum = warp_sum(owned ? g : 0);
    if (threadIdx.x % 32 == 0) sums[turn][threadIdx.x / 32] = sum;
    __syncthreads();

    if (threadIdx.x == 0) {
      T total = 0;
      for (int warp = 0; warp < THREADS / 32; warp++) total += sums[turn][warp];
      bias_sums[(INDEX)channel * gridDim.x + blockIdx.x] = total;
    }
    T* plane = gx + ((INDEX)n * C + channel) * H * W;
    for (int q = threadIdx.x; q < OWN_H * SH * OWN_W * SW; q += THREADS) {
      const int row = q / (OWN_W * SW), column = q % (OWN_W * SW);  // in the tile
      const int h = tile_row * OWN_H * SH + row - ph, w = tile_column * OWN_W * SW + column - pw;
      if (h < 0 || h >= H || w < 0 || w >= W) continue;
      T total = 0;
#pragma unroll
      for (int up = BEFORE_H; up >= 0; up--)
#pragma unroll
        for (int back = BEFORE_W; back >= 0; back--) {
          const int r = row % SH + up * SH, s = column % SW + back * SW;
          const int holder = (row / SH + BEFORE_H - up) * WINDOWS_W + column / SW + BEFORE_W - back;
          if (r < KH && s < KW && places[turn][holder] == r * KW + s) total += gradients[turn][holder];
        }
      plane[(INDEX)h * W + w] = total;
    }
  }
}

// A block of bias_relu_lrn_pool_forward owns TILE_H x TILE_W elements of y, and normalises what their windows hold.
static_assert(TILE_H * TILE_W <= THREADS, "a thread for each element");
#define HELD_H ((TILE_H - 1) * SH + KH)
#define HELD_W ((TILE_W - 1) * SW + KW)
#define HELD (HELD_H * HELD_W)
#define PER_THREAD ((HELD + THREADS - 1) / THREADS)

extern "C" __global__ void __launch_bounds__(THREADS)
bias_relu_lrn_pool_forward(const T* __restrict__ x, const T* __restrict__ b, T* __restrict__ y,
                           PLACE* __restrict__ place, int N, int C, int per_part, int H, int W, int OH, int OW, int ph,
                           int pw, T a, T beta, T k) {
  const int across = (OW + TILE_W - 1) / TILE_W, down = (OH + TILE_H - 1) / TILE_H;
  const int n = blockIdx.x / across / down;
  const int first_oh = blockIdx.x / across % down * TILE_H, first_ow = blockIdx.x % across * TILE_W;
  const int top = first_oh * SH - ph, left = first_ow * SW - pw;
  const INDEX image = (INDEX)H * W;

  __shared__ T normalised[2][HELD];  // used in turn: one barrier a channel, between its writing and its reading

  const int first = blockIdx.y * per_part, last = min(first + per_part, C), begin = max(first - LEFT, 0);
  INDEX pixels[PER_THREAD];  // this thread's in the channel to load next, or -1 outside the image
  T ahead[PER_THREAD];       // x of channel `newest`, loaded a channel before it is needed
#pragma unroll
  for (int i = 0; i < PER_THREAD; i++) {
    const int q = i * THREADS + threadIdx.x, h = top + q / HELD_W, w = left + q % HELD_W;
    const bool inside = q < HELD && h >= 0 && h < H && w >= 0 && w < W;
    pixels[i] = inside ? ((INDEX)n * C + begin) * image + (INDEX)h * W + w : -1;
    ahead[i] = inside ? x[pixels[i]] : 0;
  }
  const int oh = first_oh + threadIdx.x / TILE_W, ow = first_ow + threadIdx.x % TILE_W;
  const bool owns = threadIdx.x < TILE_H * TILE_W && oh < OH && ow < OW;
  const int first_row = max(-(oh * SH - ph), 0), first_column = max(-(ow * SW - pw), 0);
  Window<T, SIZE> windows[PER_THREAD];  // r of the channels c-LEFT ... c+RIGHT
  for (int newest = begin; newest < last + RIGHT; newest++) {
    const int c = newest - RIGHT, turn = c & 1;
    const T bias = newest < C ? b[newest] : 0;
#pragma unroll
    for (int i = 0; i < PER_THREAD; i++) {
      const bool inside = pixels[i] >= 0;
      windows[i].push(newest < C && inside ? biased_relu(ahead[i], bias) : 0);
      if (inside) pixels[i] += image;
      if (inside && newest + 1 < C) ahead[i] = x[pixels[i]];
      const int q = i * THREADS + threadIdx.x;
      if (c >= first && q < HELD)
        normalised[turn][q] = windows[i].v[LEFT] * scale_power(k + a * windows[i].sum_of_squares(), beta);
    }
    if (c < first) continue;
    __syncthreads();

    if (!owns) continue;
    const int corner = threadIdx.x / TILE_W * SH * HELD_W + threadIdx.x % TILE_W * SW;
    T best = lowest();
    int found = first_row * KW + first_column;
#pragma unroll
    for (int r = 0; r < KH; r++)
#pragma unroll
      for (int s = 0; s < KW; s++) {
        if (r < first_row || oh * SH - ph + r >= H || s < first_column || ow * SW - pw + s >= W) continue;
        const T v = normalised[turn][corner + r * HELD_W + s];
        if (v > best || v != v) {
          best = v;
          found = r * KW + s;
        }
      }
    const INDEX o = (((INDEX)n * C + c) * OH + oh) * OW + ow;
    y[o] = best;
    place[o] = found;
  }
}

extern "C" __global__ void __launch_bounds__(THREADS)
bias_relu_lrn_pool_backward(const T* __restrict__ gy, const T* __restrict__ x, const T* __restrict__ b,
                            const PLACE* __restrict__ place, T* __restrict__ gx, T* __restrict__ bias_sums, int N,
                            int C, int per_part, int H, int W, int OH, int OW, int ph, int pw, T a, T beta, T k) {
  const INDEX i = (INDEX)blockIdx.x * THREADS + threadIdx.x, image = (INDEX)H * W, out_image = (INDEX)OH * OW;
  const bool exists = i < N * image;  // no early return: every lane takes part in the sums of its warp
  const INDEX n = exists ? i / image : 0;
  const int p = exists ? i % image : 0, padded_h = p / W + ph, padded_w = p % W + pw;
  const INDEX pixel = n * C * image + p;

  // The windows that hold this pixel: where their gy lies in channel 0, and the place that this pixel has in them.
  INDEX holders[BEFORE_H + 1][BEFORE_W + 1];
  int places[BEFORE_H + 1][BEFORE_W + 1];
#pragma unroll
  for (int up = 0; up <= BEFORE_H; up++)
#pragma unroll
    for (int back = 0; back <= BEFORE_W; back++) {
      const int oh = padded_h / SH - up, ow = padded_w / SW - back;
      const int r = padded_h - oh * SH, s = padded_w - ow * SW;
      const bool holds = exists && r < KH && s < KW && oh >= 0 && oh < OH && ow >= 0 && ow < OW;
      holders[up][back] = n * C * out_image + (INDEX)oh * OW + ow;
      places[up][back] = holds ? r * KW + s : -1;
    }

  const int first = blockIdx.y * per_part, last = min(first + per_part, C), begin = max(first - RIGHT, 0);
  const int start = max(begin - LEFT, 0);
  Channels<T, AHEAD> xs(x + pixel, image, start, exists ? C : 0);
  BackwardWalk walk;
  for (int newest = start; newest < last + RIGHT + LEFT; newest++) {
    const T v = xs.pop().v[0];
    walk.xs.push(newest < C ? biased_relu(v, b[newest]) : 0);
    const int c = newest - RIGHT, channel = c - LEFT;
    if (c < begin) continue;
    T g = 0;  // the gradient of lrn(r): of the windows, those of the upper rows first
    if (c < C)
#pragma unroll
      for (int up = BEFORE_H; up >= 0; up--)
#pragma unroll
        for (int back = BEFORE_W; back >= 0; back--) {
          if (places[up][back] < 0) continue;
          const INDEX o = holders[up][back] + c * out_image;
          if (place[o] == places[up][back]) g += gy[o];
        }
    g = walk.step(g, c < C, a, beta, k);
    if (channel < first) continue;
    g = exists ? g * (walk.xs.v[0] > 0) : 0;
    if (exists) gx[pixel + channel * image] = g;
    const T sum = warp_sum(g);
    const INDEX warps = (INDEX)gridDim.x * (THREADS / 32);
    if (threadIdx.x % 32 == 0) bias_sums[channel * warps + i / 32] = sum;
  }
}

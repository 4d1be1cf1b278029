// Batch normalisation of x (N, C, image), `image` elements side by side for each channel of each example.
//
//   mean = sum of x / m      var = sum of (x - mean)^2 / m      over the m = N image elements of each channel
//   y = act(scale (x - mean) + shift)      scale = weight / sqrt(var + eps), shift = bias, act: ReLU if RELU, else none
//   g = gy where act passes it      gx = scale (g - sum(g) / m - (x - mean) slope)
//   slope = sum(g (x - mean)) / (m (var + eps)) in training; in evaluation mean and var are constants: both sums are 0
//
// A block owns a slice of CHANNELS channels, 1/gridDim.y of their elements: with CHANNELS = 1 neighbouring threads
// stand on neighbouring elements of a channel, with CHANNELS = 32 (images of a few elements) on neighbouring channels.
// A thread takes every WORKERS-th pack of VECTOR elements of its slice. Statistics go by Welford's update a pack at a
// time, then by Chan's formula in a tree over the block; the slices are merged in a second kernel in the same way.
//
// Accesses per element (4 bytes in float): statistics 1, apply 2; backward sums 2, then gx 3. What else is read and
// written has C elements, or C for each slice. The partition follows from the shape and the alignment alone, every sum
// is formed in its fixed order, and there are no atomics: the same bits in every run.
//
// Specialisation: DTYPE=float, INDEX=int, CHANNELS=1, VECTOR=4, RELU=0, THREADS=256
// Specialisation: DTYPE=float, INDEX=long long, CHANNELS=32, VECTOR=1, RELU=1, THREADS=256
// Specialisation: DTYPE=double, INDEX=int, CHANNELS=1, VECTOR=1, RELU=1, THREADS=256
#include "macros.cuh"
#ifndef CHANNELS
#error "define CHANNELS, the channels that a block owns: 1 or 32"
#endif
#ifndef RELU
#error "define RELU, 1 if the output is max(., 0), else 0"
#endif
#ifndef THREADS
#error "define THREADS, the threads of a block"
#endif

#include "pack.cuh"

#define WORKERS (THREADS / CHANNELS)  // threads on one channel

typedef DTYPE T;

// ---- who owns what --------------------------------------------------------------------------------------------------

__device__ __forceinline__ int own_channel() { return blockIdx.x * CHANNELS + threadIdx.x % CHANNELS; }
__device__ __forceinline__ int own_worker() { return threadIdx.x / CHANNELS; }

// The packs [begin, end) of a channel, of `total`, that make up one of `slices`.
struct Slice {
  INDEX begin, end;
};

__device__ __forceinline__ Slice slice_of(INDEX total, int slice, int slices) {
  const INDEX share = (total + slices - 1) / slices, begin = slice * share;
  return {begin < total ? begin : total, begin + share < total ? begin + share : total};
}

// visit(offset) for each pack of this thread, without a division for each.
template <class Visit>
__device__ __forceinline__ void walk(int N, int C, INDEX image, Visit visit) {
  const INDEX packs = image / VECTOR;
  const Slice own = slice_of(N * packs, blockIdx.y, gridDim.y);
  const INDEX first = own.begin + own_worker();
  INDEX place = first % packs, offset = (first / packs * C + own_channel()) * image + place * VECTOR;
  const INDEX forth = WORKERS % packs, step = WORKERS / packs * C * image + forth * VECTOR;
  for (INDEX i = first; i < own.end; i += WORKERS) {
    visit(offset);
    place += forth;
    offset += step;
    if (place >= packs) {
      place -= packs;
      offset += (C - 1) * image;  // over the other channels to the next example
    }
  }
}

// ---- merging in a fixed order ---------------------------------------------------------------------------------------

// Mean and sum of squared distances from it, of n elements.
struct Moments {
  INDEX n;
  T mean, squares;
};

__device__ __forceinline__ void merge(Moments& a, const Moments& b) {
  if (b.n == 0) return;
  const INDEX n = a.n + b.n;
  const T share = (T)b.n / (T)n;  // first, while little else is held: a division is a call, which spills registers
  const T apart = b.mean - a.mean;
  a.mean += apart * share;
  a.squares += b.squares + apart * apart * (T)a.n * share;
  a.n = n;
}

struct __align__(2 * sizeof(T)) Sums {  // moved at once
  T g, gx;
};

__device__ __forceinline__ void merge(Sums& a, const Sums& b) {
  a.g += b.g;
  a.gx += b.gx;
}

// The values of all workers on each channel, merged into that of worker 0.
template <class V>
__device__ __forceinline__ V merge_block(V own) {
  __shared__ V values[THREADS];
  values[threadIdx.x] = own;
  for (int half = WORKERS / 2; half > 0; half /= 2) {
    __syncthreads();
    if (own_worker() < half) {
      const V other = values[threadIdx.x + half * CHANNELS];
      merge(own, other);
      values[threadIdx.x] = own;
    }
  }
  return own;
}

// ---- statistics -----------------------------------------------------------------------------------------------------

// mean and var are (slices, C), each those of its slice alone.
extern "C" __global__ void __launch_bounds__(THREADS)
batch_norm_statistics(const T* __restrict__ x, T* __restrict__ mean, T* __restrict__ var, int N, int C, INDEX image) {
  const int c = own_channel();
  Moments total = {};
  if (c < C)
    walk(N, C, image, [&](INDEX offset) {
      const Pack<T> values = load(x + offset);
      Moments pack = {VECTOR, 0, 0};
#pragma unroll
      for (int v = 0; v < VECTOR; v++) pack.mean += values.v[v] / VECTOR;
#pragma unroll
      for (int v = 0; v < VECTOR; v++) pack.squares += (values.v[v] - pack.mean) * (values.v[v] - pack.mean);
      merge(total, pack);
    });
  total = merge_block(total);
  if (c < C && own_worker() == 0) {
    mean[blockIdx.y * C + c] = total.mean;
    var[blockIdx.y * C + c] = total.squares / (T)total.n;  // NaN of an empty slice, which is merged as nothing
  }
}

// From the statistics of the slices (slices, C) to those of the channels (C,).
extern "C" __global__ void __launch_bounds__(THREADS)
batch_norm_statistics_merge(const T* __restrict__ slice_mean, const T* __restrict__ slice_var, T* __restrict__ mean,
                            T* __restrict__ var, int N, int C, INDEX image, int slices) {
  const int c = own_channel();
  Moments total = {};
  if (c < C)
    for (int s = own_worker(); s < slices; s += WORKERS) {
      const Slice slice = slice_of(N * (image / VECTOR), s, slices);
      const INDEX n = (slice.end - slice.begin) * VECTOR;
      merge(total, {n, slice_mean[s * C + c], slice_var[s * C + c] * (T)n});
    }
  total = merge_block(total);
  if (c < C && own_worker() == 0) {
    mean[c] = total.mean;
    var[c] = total.squares / (T)total.n;
  }
}

// ---- apply, and its gradient ----------------------------------------------------------------------------------------

// Forward and backward must agree on the sign to the last bit, so the one rounding is said, not left to the compiler.
__device__ __forceinline__ T affine(T distance, T scale, T shift) { return fma(distance, scale, shift); }

// gy, stopped where ReLU gave 0; NaN passes it on, or the gradient would hide it.
__device__ __forceinline__ T passed(T gy, T distance, T scale, T shift) {
  return RELU && affine(distance, scale, shift) <= 0 ? 0 : gy;
}

extern "C" __global__ void __launch_bounds__(THREADS)
batch_norm_apply(const T* __restrict__ x, T* __restrict__ y, const T* __restrict__ means, const T* __restrict__ scales,
                 const T* __restrict__ shifts, int N, int C, INDEX image) {
  const int c = own_channel();
  if (c >= C) return;
  const T mean = means[c], scale = scales[c], shift = shifts[c];
  walk(N, C, image, [&](INDEX offset) {
    Pack<T> values = load(x + offset);
#pragma unroll
    for (int v = 0; v < VECTOR; v++) {
      const T z = affine(values.v[v] - mean, scale, shift);
      values.v[v] = RELU && z < 0 ? 0 : z;  // NaN stays
    }
    store(y + offset, values);
  });
}

// sum(g) and sum(g (x - mean)) over each slice, (slices, C).
extern "C" __global__ void __launch_bounds__(THREADS)
batch_norm_sums(const T* __restrict__ gy, const T* __restrict__ x, const T* __restrict__ means,
                const T* __restrict__ scales, const T* __restrict__ shifts, T* __restrict__ sum_g,
                T* __restrict__ sum_gx, int N, int C, INDEX image) {
  const int c = own_channel();
  Sums total = {};
  if (c < C) {
    const T mean = means[c], scale = scales[c], shift = shifts[c];
    walk(N, C, image, [&](INDEX offset) {
      const Pack<T> values = load(x + offset), gradients = load(gy + offset);
#pragma unroll
      for (int v = 0; v < VECTOR; v++) {
        const T distance = values.v[v] - mean, g = passed(gradients.v[v], distance, scale, shift);
        merge(total, {g, g * distance});
      }
    });
  }
  total = merge_block(total);
  if (c < C && own_worker() == 0) {
    sum_g[blockIdx.y * C + c] = total.g;
    sum_gx[blockIdx.y * C + c] = total.gx;
  }
}

extern "C" __global__ void __launch_bounds__(THREADS)
batch_norm_sums_merge(const T* __restrict__ slice_g, const T* __restrict__ slice_gx, T* __restrict__ sum_g,
                      T* __restrict__ sum_gx, int N, int C, INDEX image, int slices) {
  const int c = own_channel();
  Sums total = {};
  if (c < C)
    for (int s = own_worker(); s < slices; s += WORKERS) merge(total, {slice_g[s * C + c], slice_gx[s * C + c]});
  total = merge_block(total);
  if (c < C && own_worker() == 0) {
    sum_g[c] = total.g;
    sum_gx[c] = total.gx;
  }
}

// mean_g = sum(g) / m and slope of each channel, or zeros in evaluation.
extern "C" __global__ void __launch_bounds__(THREADS)
batch_norm_backward_x(const T* __restrict__ gy, const T* __restrict__ x, T* __restrict__ gx,
                      const T* __restrict__ means, const T* __restrict__ scales, const T* __restrict__ shifts,
                      const T* __restrict__ mean_gs, const T* __restrict__ slopes, int N, int C, INDEX image) {
  const int c = own_channel();
  if (c >= C) return;
  const T mean = means[c], scale = scales[c], shift = shifts[c], mean_g = mean_gs[c], slope = slopes[c];
  walk(N, C, image, [&](INDEX offset) {
    const Pack<T> values = load(x + offset), gradients = load(gy + offset);
    Pack<T> out;
#pragma unroll
    for (int v = 0; v < VECTOR; v++) {
      const T distance = values.v[v] - mean, g = passed(gradients.v[v], distance, scale, shift);
      out.v[v] = scale * (g - mean_g - distance * slope);
    }
    store(gx + offset, out);
  });
}

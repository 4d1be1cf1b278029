// Average and maximum of whole planes (N*C images of H x W pixels), forward and backward.
//
//   global_avg_pool2d_forward    y = sum of the plane / pixels
//   global_avg_pool2d_backward   gx = gy * share everywhere in the plane, share = 1 / pixels
//   global_max_pool2d_forward    y = max of the plane; place = where in the plane it was found
//   global_max_pool2d_backward   gx = gy at place, 0 elsewhere
//
// A block owns a plane, a thread every blockDim.x-th vector of it (16 bytes where the plane's size allows); blockDim.x
// is a multiple of 32. Bytes moved, for float: 4 per element of x forward, 4 per element of gx backward; what belongs
// to a plane alone counts little. Partial results meet by shuffles within a warp and then in thread 0, in a fixed
// order: the same bits in every run. 16-bit elements are compared and summed in float. The first maximum wins a tie; NaN wins over any number, the last NaN over others.
//
// The plain kernel of both, a thread for each plane:
//
//   __global__ void plain_global_pool2d(const float* x, float* mean, float* most, int* place, int planes, int pixels) {
//     const int plane = blockIdx.x * blockDim.x + threadIdx.x;
//     if (plane >= planes) return;
//     const float* elements = x + plane * pixels;
//     float sum = 0;
//     int found = 0;
//     for (int i = 0; i < pixels; i++) {
//       sum += elements[i];
//       if (elements[i] > elements[found] || elements[i] != elements[i]) found = i;
//     }
//     mean[plane] = sum / pixels;
//     most[plane] = elements[found];
//     place[plane] = found;
//   }
//
// Specialisation: DTYPE=float, INDEX=int, VECTOR=4, MOST_THREADS=256
// Specialisation: DTYPE=double, INDEX=long long, VECTOR=1, MOST_THREADS=256
// Specialisation: DTYPE=float16_bits, INDEX=int, VECTOR=8, MOST_THREADS=256
// Specialisation: DTYPE=bfloat16_bits, INDEX=int, VECTOR=1, MOST_THREADS=256
#include "macros.cuh"
#ifndef MOST_THREADS
#error "define MOST_THREADS, the most threads that a block may have"
#endif
#include "pack.cuh"

#define ALL_LANES 0xffffffffu

typedef DTYPE T;
typedef Wide<T>::type A;  // in which elements are compared and summed

extern "C" __global__ void __launch_bounds__(MOST_THREADS)
global_avg_pool2d_forward(const T* __restrict__ x, T* __restrict__ y, int pixels) {
  const T* plane = x + (INDEX)blockIdx.x * pixels;
  A sum = 0;
  for (INDEX i = threadIdx.x * VECTOR; i < pixels; i += blockDim.x * VECTOR) {
    const Pack<A> values = widened(load(plane + i));
#pragma unroll
    for (int v = 0; v < VECTOR; v++) sum += values.v[v];
  }
  for (int apart = 16; apart; apart /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, apart);

  __shared__ A of_warps[MOST_THREADS / 32];
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x) return;
  for (int warp = 1; warp < blockDim.x / 32; warp++) sum += of_warps[warp];
  y[blockIdx.x] = narrowed<T>(sum / pixels);
}

extern "C" __global__ void __launch_bounds__(MOST_THREADS)
global_avg_pool2d_backward(const T* __restrict__ gy, T* __restrict__ gx, int pixels, A share) {
  T* plane = gx + (INDEX)blockIdx.x * pixels;
  Pack<T> out;
#pragma unroll
  for (int v = 0; v < VECTOR; v++) out.v[v] = narrowed<T>(widened(gy[blockIdx.x]) * share);
  for (INDEX i = threadIdx.x * VECTOR; i < pixels; i += blockDim.x * VECTOR) store(plane + i, out);
}

// A maximum and its place. `take` chooses by value and place alone, so any order of taking gives the same.
struct Best {
  A value;
  int place;

  __device__ __forceinline__ void take(A other, int other_place) {
    const bool nan = value != value, other_nan = other != other;
    const bool later = other_place > place;
    if (other_nan ? !nan || later : !nan && (other > value || (other == value && !later))) {
      value = other;
      place = other_place;
    }
  }
};

extern "C" __global__ void __launch_bounds__(MOST_THREADS)
global_max_pool2d_forward(const T* __restrict__ x, T* __restrict__ y, int* __restrict__ place, int pixels) {
  const T* plane = x + (INDEX)blockIdx.x * pixels;
  // -inf (NVRTC has no INFINITY) at a place behind all others: loses even against an element that is -inf.
  Best best = {-(A)__int_as_float(0x7f800000), 0x7fffffff};
  for (INDEX i = threadIdx.x * VECTOR; i < pixels; i += blockDim.x * VECTOR) {
    const Pack<A> values = widened(load(plane + i));
#pragma unroll
    for (int v = 0; v < VECTOR; v++) best.take(values.v[v], (int)i + v);
  }
  for (int apart = 16; apart; apart /= 2) {
    const A value = __shfl_xor_sync(ALL_LANES, best.value, apart);
    best.take(value, __shfl_xor_sync(ALL_LANES, best.place, apart));
  }

  __shared__ A values_of_warps[MOST_THREADS / 32];
  __shared__ int places_of_warps[MOST_THREADS / 32];
  if (threadIdx.x % 32 == 0) {
    values_of_warps[threadIdx.x / 32] = best.value;
    places_of_warps[threadIdx.x / 32] = best.place;
  }
  __syncthreads();
  if (threadIdx.x) return;
  for (int warp = 1; warp < blockDim.x / 32; warp++) best.take(values_of_warps[warp], places_of_warps[warp]);
  y[blockIdx.x] = narrowed<T>(best.value);
  place[blockIdx.x] = best.place;
}

extern "C" __global__ void __launch_bounds__(MOST_THREADS)
global_max_pool2d_backward(const T* __restrict__ gy, const int* __restrict__ place, T* __restrict__ gx, int pixels) {
  T* plane = gx + (INDEX)blockIdx.x * pixels;
  const T g = gy[blockIdx.x];
  const int found = place[blockIdx.x];
  for (INDEX i = threadIdx.x * VECTOR; i < pixels; i += blockDim.x * VECTOR) {
    Pack<T> out;
#pragma unroll
    for (int v = 0; v < VECTOR; v++) out.v[v] = i + v == found ? g : T{};
    store(plane + i, out);
  }
}

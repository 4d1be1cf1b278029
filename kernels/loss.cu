// Softmax and cross entropy in one, on rows of C logits.
//
//   loss[n] = log(sum_j exp(x[n,j] - max)) - (x[n,t] - max)      t = target[n]; 0 if t < 0: an ignored row
//   gx[n,j] = scale[n] (exp(x[n,j] - max) / sum - [j = t])       0 in an ignored row
//
// ROW threads own a row: a warp (ROW = 32, THREADS / 32 rows a block) or a block (ROW = THREADS, for long rows).
// Neighbouring threads stand on neighbouring logits. Maximum and sum come from one pass, the sum scaled down whenever
// the maximum grows. Nothing but the losses is stored: backward forms maximum and sum again, and finds the row in the
// cache when it goes over it the second time. So forward moves 1 access per logit (4 bytes in float), backward 2, or 3
// when the rows in flight are larger than the cache. A thread takes its logits in ascending order and the threads
// are merged in a fixed tree: the same bits in every run.
//
// Specialisation: DTYPE=float, INDEX=int, ROW=32, THREADS=256
// Specialisation: DTYPE=float, INDEX=long long, ROW=256, THREADS=256
// Specialisation: DTYPE=double, INDEX=int, ROW=32, THREADS=256
#include "macros.cuh"
#ifndef ROW
#error "define ROW, the threads that own a row: 32 or THREADS"
#endif
#ifndef THREADS
#error "define THREADS, the threads of a block"
#endif

typedef DTYPE T;

// Of some logits: their maximum, and the sum of exp(x - max). {-inf, 0} of none.
struct Softmax {
  T max, sum;
};

__device__ __forceinline__ T infinity() { return __int_as_float(0x7f800000); }  // NVRTC has no INFINITY

// exp(x - max), 0 for x = -inf even if the maximum so far is -inf as well.
__device__ __forceinline__ T share(T x, T max) { return x == -infinity() ? 0 : exp(x - max); }

__device__ __forceinline__ void add(Softmax& a, T x) {
  if (x > a.max) {
    a.sum = a.sum * share(a.max, x) + 1;
    a.max = x;
  } else {
    a.sum += share(x, a.max);  // NaN comes here, and stays in the sum
  }
}

__device__ __forceinline__ Softmax merged(const Softmax& a, const Softmax& b) {
  const T max = fmax(a.max, b.max);
  return {max, a.sum * share(a.max, max) + b.sum * share(b.max, max)};
}

// Those of a whole row of C logits, known to all its threads.
__device__ __forceinline__ Softmax softmax_of_row(const T* row, int C, int lane) {
  Softmax own = {-infinity(), 0};
  for (int j = lane; j < C; j += ROW) add(own, row[j]);
  for (int apart = 16; apart > 0; apart /= 2)
    own = merged(own, {__shfl_down_sync(0xffffffffu, own.max, apart), __shfl_down_sync(0xffffffffu, own.sum, apart)});
#if ROW > 32
  __shared__ Softmax warps[ROW / 32];
  if (lane % 32 == 0) warps[lane / 32] = own;
  __syncthreads();
  own = warps[0];
  for (int warp = 1; warp < ROW / 32; warp++) own = merged(own, warps[warp]);
  return own;
#else
  return {__shfl_sync(0xffffffffu, own.max, 0), __shfl_sync(0xffffffffu, own.sum, 0)};
#endif
}

extern "C" __global__ void __launch_bounds__(THREADS)
cross_entropy_forward(const T* __restrict__ x, const long long* __restrict__ target, T* __restrict__ loss, int N,
                      int C) {
  const int n = blockIdx.x * (THREADS / ROW) + threadIdx.x / ROW, lane = threadIdx.x % ROW;
  if (n >= N) return;  // the whole warp, and with ROW = THREADS no thread at all
  const T* row = x + (INDEX)n * C;
  const Softmax all = softmax_of_row(row, C, lane);
  const long long t = target[n];
  if (lane == 0) loss[n] = t < 0 ? 0 : log(all.sum) - (row[t] - all.max);
}

// scale is (N,), or one number for all rows (scales = 1).
extern "C" __global__ void __launch_bounds__(THREADS)
cross_entropy_backward(const T* __restrict__ scale, const T* __restrict__ x, const long long* __restrict__ target,
                       T* __restrict__ gx, int N, int C, int scales) {
  const int n = blockIdx.x * (THREADS / ROW) + threadIdx.x / ROW, lane = threadIdx.x % ROW;
  if (n >= N) return;
  const T* row = x + (INDEX)n * C;
  T* out = gx + (INDEX)n * C;
  const long long t = target[n];
  if (t < 0) {
    for (int j = lane; j < C; j += ROW) out[j] = 0;
    return;
  }
  const Softmax all = softmax_of_row(row, C, lane);
  const T own_scale = scale[scales == 1 ? 0 : n], inverse = 1 / all.sum;
  for (int j = lane; j < C; j += ROW) out[j] = own_scale * (exp(row[j] - all.max) * inverse - (j == t ? 1 : 0));
}

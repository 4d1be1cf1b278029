// One step of an optimizer over a flat buffer of n parameters, in place. With G = g + weight_decay p:
//
//   sgd       v = momentum v + G;  p -= lr v, or lr (G + momentum v) with nesterov; without momentum p -= lr G
//   adam      m = b1 m + (1 - b1) G;  v = b2 v + (1 - b2) G^2;  p -= decay p;
//             p -= (step m + look G) / (sqrt(v) / root + eps)
//   rmsprop   s = alpha s + (1 - alpha) G^2;  d = G / (sqrt(s) + eps), or G / (sqrt(s - m^2) + eps) with centered,
//             where m = alpha m + (1 - alpha) G;  with momentum v = momentum v + d and p -= lr v, else p -= lr d
//   adadelta  s = rho s + (1 - rho) G^2;  d = sqrt((u + eps) / (s + eps)) G;  u = rho u + (1 - rho) d^2;  p -= lr d
//
// The numbers of a rule are read from `now`, an array in the order of their use below: a CUDA graph repeats its launches
// with the same arguments, but finds in `now` what was written there since. For adam step = lr / (1 - b1^t) and
// root = sqrt(1 - b2^t); rest = 1 - alpha and the like are numbers of their own, as 1 - 0.999 in float is off by 5e-5.
// AdamW sets decay = lr weight_decay; NAdam sets look; RAdam changes step and root, to infinity where it must not divide.
// Adagrad is rmsprop with alpha = rest = 1.
// A thread owns VECTOR parameters, moved 16 bytes at a time; the `head` parameters before the first multiple of 16
// bytes and those behind the last have a thread each. Bytes moved a parameter (float): sgd 12, with momentum 20;
// adam and adadelta 28; rmsprop 20, and 8 more each for centered and for momentum. Each parameter is computed by one
// thread from its own values alone: the same bits in every run, wherever the buffer starts.
//
// Specialisation: DTYPE=float, INDEX=int, VECTOR=4, THREADS=256
// Specialisation: DTYPE=double, INDEX=int, VECTOR=2, THREADS=256
// Specialisation: DTYPE=float, INDEX=long long, VECTOR=4, THREADS=256
#include "macros.cuh"
#ifndef THREADS
#error "define THREADS, the threads of a block"
#endif

#include "pack.cuh"

typedef DTYPE T;

// VECTOR elements, or one and zeros behind it; zeros for a null address.
__device__ __forceinline__ Pack<T> take(const T* address, bool whole) {
  Pack<T> values = {};
  if (address && whole) values = load(address);
  else if (address) values.v[0] = *address;
  return values;
}

__device__ __forceinline__ void give(T* address, const Pack<T>& values, bool whole) {
  if (address && whole) store(address, values);
  else if (address) *address = values.v[0];
}

// Applies rule(p, g, a, b, c) to every parameter with its gradient and its states; a null state is neither read nor
// written, and 0 in the rule.
template <class Rule>
__device__ __forceinline__ void update(T* p, const T* g, T* a, T* b, T* c, INDEX n, INDEX head, INDEX packs, Rule rule) {
  const INDEX i = (INDEX)blockIdx.x * THREADS + threadIdx.x, single = i - packs;
  if (single >= n - packs * VECTOR) return;
  const bool whole = i < packs;
  const INDEX at = whole ? head + i * VECTOR : single < head ? single : single + packs * VECTOR;
  if (a) a += at;
  if (b) b += at;
  if (c) c += at;
  Pack<T> ps = take(p + at, whole), as = take(a, whole), bs = take(b, whole), cs = take(c, whole);
  const Pack<T> gs = take(g + at, whole);
#pragma unroll
  for (int j = 0; j < VECTOR; j++) rule(ps.v[j], gs.v[j], as.v[j], bs.v[j], cs.v[j]);
  give(p + at, ps, whole);
  give(a, as, whole);
  give(b, bs, whole);
  give(c, cs, whole);
}

extern "C" __global__ void __launch_bounds__(THREADS)
sgd(T* p, const T* g, T* velocity, INDEX n, INDEX head, INDEX packs, const T* now, int nesterov) {
  const T lr = now[0], momentum = now[1], weight_decay = now[2];
  T* const state = momentum != 0 ? velocity : nullptr;
  update(p, g, state, nullptr, nullptr, n, head, packs, [=](T& p, T g, T& v, T&, T&) {
    if (weight_decay != 0) g += weight_decay * p;
    v = momentum * v + g;
    p -= lr * (nesterov ? g + momentum * v : v);
  });
}

extern "C" __global__ void __launch_bounds__(THREADS)
adam(T* p, const T* g, T* mean, T* square, INDEX n, INDEX head, INDEX packs, const T* now) {
  const T step = now[0], look = now[1], root = now[2], b1 = now[3], rest1 = now[4], b2 = now[5], rest2 = now[6];
  const T eps = now[7], weight_decay = now[8], decay = now[9];
  update(p, g, mean, square, nullptr, n, head, packs, [=](T& p, T g, T& m, T& v, T&) {
    if (weight_decay != 0) g += weight_decay * p;
    m = b1 * m + rest1 * g;
    v = b2 * v + rest2 * g * g;
    if (decay != 0) p -= decay * p;
    p -= (step * m + look * g) / (sqrt(v) / root + eps);
  });
}

extern "C" __global__ void __launch_bounds__(THREADS)
rmsprop(T* p, const T* g, T* square, T* mean, T* velocity, INDEX n, INDEX head, INDEX packs, const T* now,
        int centered) {
  const T lr = now[0], alpha = now[1], rest = now[2], eps = now[3], weight_decay = now[4], momentum = now[5];
  T* const means = centered ? mean : nullptr;
  T* const velocities = momentum != 0 ? velocity : nullptr;
  update(p, g, square, means, velocities, n, head, packs, [=](T& p, T g, T& s, T& m, T& v) {
    if (weight_decay != 0) g += weight_decay * p;
    s = alpha * s + rest * g * g;
    if (centered) m = alpha * m + rest * g;
    T variance = s - m * m;
    if (variance < 0) variance = 0;  // by rounding; a NaN stays one
    v = momentum * v + g / (sqrt(variance) + eps);
    p -= lr * v;
  });
}

extern "C" __global__ void __launch_bounds__(THREADS)
adadelta(T* p, const T* g, T* square, T* change, INDEX n, INDEX head, INDEX packs, const T* now) {
  const T lr = now[0], rho = now[1], rest = now[2], eps = now[3], weight_decay = now[4];
  update(p, g, square, change, nullptr, n, head, packs, [=](T& p, T g, T& s, T& u, T&) {
    if (weight_decay != 0) g += weight_decay * p;
    s = rho * s + rest * g * g;
    const T d = sqrt((u + eps) / (s + eps)) * g;
    u = rho * u + rest * d * d;
    p -= lr * d;
  });
}

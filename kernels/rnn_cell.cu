// The pointwise part of a recurrent cell, forward and backward, for N rows of H hidden units. s is the logistic function.
//
//   lstm_forward      gates (N, 4H) = [i, f, g, o]:  c' = s(f) c + s(i) tanh(g);  h' = s(o) tanh(c')
//   gru_forward       x, h gates (N, 3H) = [r, z, n]:  r = s(xr + hr);  z = s(xz + hz);  n = tanh(xn + r hn);
//                     h' = (1 - z) n + z h
//   reset_forward     rz (N, 2H) = [r, z]:  q = s(r) h           (a product with q follows, and is added to n)
//   update_forward    h' = (1 - s(z)) tanh(n) + s(z) h           n (N, H)
//
// The *_backward kernels give the gradients of what was read, before the activations, which are formed again from
// what forward read: nothing is stored. A thread owns VECTOR neighbouring units of one row in every gate, moved 16
// bytes at a time. Bytes moved a unit (float): lstm 28 forward, 48 backward; gru 32 and 60; with the reset before the
// product: reset 12, update 16, their gradients 16 (of n) and 36 (of the rest). Each element is written by one thread
// from what it read alone, and sums of two products say which one is fused: the same bits in every run and VECTOR.
//
// Specialisation: DTYPE=float, INDEX=int, VECTOR=4, THREADS=128
// Specialisation: DTYPE=double, INDEX=int, VECTOR=2, THREADS=128
// Specialisation: DTYPE=float, INDEX=long long, VECTOR=1, THREADS=128
#include "macros.cuh"
#ifndef THREADS
#error "define THREADS, the threads of a block"
#endif

#include "pack.cuh"

#define EACH for (int j = 0; j < VECTOR; j++)

typedef DTYPE T;
typedef Pack<T> P;

__device__ __forceinline__ T logistic(T x) { return 1 / (1 + exp(-x)); }

// Where this thread's units lie: `row` is N or more for a thread behind the last; unit(k) is their place in gate k of
// an array with `gates` gates a row.
struct Place {
  INDEX row;
  int column, H;

  __device__ __forceinline__ explicit Place(int H) : H(H) {
    const INDEX i = (INDEX)blockIdx.x * THREADS + threadIdx.x;
    row = i / (H / VECTOR);
    column = i % (H / VECTOR) * VECTOR;
  }

  __device__ __forceinline__ INDEX unit(int gates = 1, int gate = 0) const { return (row * gates + gate) * H + column; }
};

extern "C" __global__ void __launch_bounds__(THREADS)
lstm_forward(const T* __restrict__ gates, const T* __restrict__ c, T* __restrict__ h_next, T* __restrict__ c_next, int N,
             int H) {
  const Place at(H);
  if (at.row >= N) return;
  const P i = load(gates + at.unit(4, 0)), f = load(gates + at.unit(4, 1)), g = load(gates + at.unit(4, 2));
  const P o = load(gates + at.unit(4, 3)), old = load(c + at.unit());
  P next, h;
#pragma unroll
  EACH {
    next.v[j] = fma(logistic(f.v[j]), old.v[j], logistic(i.v[j]) * tanh(g.v[j]));
    h.v[j] = logistic(o.v[j]) * tanh(next.v[j]);
  }
  store(h_next + at.unit(), h);
  store(c_next + at.unit(), next);
}

extern "C" __global__ void __launch_bounds__(THREADS)
lstm_backward(const T* __restrict__ gh_next, const T* __restrict__ gc_next, const T* __restrict__ gates,
              const T* __restrict__ c, T* __restrict__ ggates, T* __restrict__ gc, int N, int H) {
  const Place at(H);
  if (at.row >= N) return;
  P i = load(gates + at.unit(4, 0)), f = load(gates + at.unit(4, 1)), g = load(gates + at.unit(4, 2));
  P o = load(gates + at.unit(4, 3)), old = load(c + at.unit());
  const P gh = load(gh_next + at.unit()), gcell = load(gc_next + at.unit());
#pragma unroll
  EACH {
    const T in = logistic(i.v[j]), forget = logistic(f.v[j]), candidate = tanh(g.v[j]), out = logistic(o.v[j]);
    const T cell = tanh(fma(forget, old.v[j], in * candidate));
    const T gnext = gcell.v[j] + gh.v[j] * out * (1 - cell * cell);
    i.v[j] = gnext * candidate * in * (1 - in);
    f.v[j] = gnext * old.v[j] * forget * (1 - forget);
    g.v[j] = gnext * in * (1 - candidate * candidate);
    o.v[j] = gh.v[j] * cell * out * (1 - out);
    old.v[j] = gnext * forget;
  }
  store(ggates + at.unit(4, 0), i);
  store(ggates + at.unit(4, 1), f);
  store(ggates + at.unit(4, 2), g);
  store(ggates + at.unit(4, 3), o);
  store(gc + at.unit(), old);
}

extern "C" __global__ void __launch_bounds__(THREADS)
gru_forward(const T* __restrict__ x_gates, const T* __restrict__ h_gates, const T* __restrict__ h, T* __restrict__ h_next,
            int N, int H) {
  const Place at(H);
  if (at.row >= N) return;
  const P xr = load(x_gates + at.unit(3, 0)), xz = load(x_gates + at.unit(3, 1)), xn = load(x_gates + at.unit(3, 2));
  const P hr = load(h_gates + at.unit(3, 0)), hz = load(h_gates + at.unit(3, 1)), hn = load(h_gates + at.unit(3, 2));
  P y = load(h + at.unit());
#pragma unroll
  EACH {
    const T r = logistic(xr.v[j] + hr.v[j]), z = logistic(xz.v[j] + hz.v[j]), n = tanh(xn.v[j] + r * hn.v[j]);
    y.v[j] = n + z * (y.v[j] - n);
  }
  store(h_next + at.unit(), y);
}

extern "C" __global__ void __launch_bounds__(THREADS)
gru_backward(const T* __restrict__ gy, const T* __restrict__ x_gates, const T* __restrict__ h_gates,
             const T* __restrict__ h, T* __restrict__ gx_gates, T* __restrict__ gh_gates, T* __restrict__ gh, int N,
             int H) {
  const Place at(H);
  if (at.row >= N) return;
  P xr = load(x_gates + at.unit(3, 0)), xz = load(x_gates + at.unit(3, 1)), xn = load(x_gates + at.unit(3, 2));
  const P hr = load(h_gates + at.unit(3, 0)), hz = load(h_gates + at.unit(3, 1));
  P hn = load(h_gates + at.unit(3, 2)), state = load(h + at.unit());
  const P g = load(gy + at.unit());
#pragma unroll
  EACH {
    const T r = logistic(xr.v[j] + hr.v[j]), z = logistic(xz.v[j] + hz.v[j]), n = tanh(xn.v[j] + r * hn.v[j]);
    const T gn = g.v[j] * (1 - z) * (1 - n * n);
    xr.v[j] = gn * hn.v[j] * r * (1 - r);
    xz.v[j] = g.v[j] * (state.v[j] - n) * z * (1 - z);
    xn.v[j] = gn;
    hn.v[j] = gn * r;
    state.v[j] = g.v[j] * z;
  }
  store(gx_gates + at.unit(3, 0), xr);
  store(gx_gates + at.unit(3, 1), xz);
  store(gx_gates + at.unit(3, 2), xn);
  store(gh_gates + at.unit(3, 0), xr);
  store(gh_gates + at.unit(3, 1), xz);
  store(gh_gates + at.unit(3, 2), hn);
  store(gh + at.unit(), state);
}

extern "C" __global__ void __launch_bounds__(THREADS)
reset_forward(const T* __restrict__ rz, const T* __restrict__ h, T* __restrict__ q, int N, int H) {
  const Place at(H);
  if (at.row >= N) return;
  const P r = load(rz + at.unit(2, 0));
  P y = load(h + at.unit());
#pragma unroll
  EACH y.v[j] *= logistic(r.v[j]);
  store(q + at.unit(), y);
}

extern "C" __global__ void __launch_bounds__(THREADS)
update_forward(const T* __restrict__ rz, const T* __restrict__ n_gate, const T* __restrict__ h, T* __restrict__ h_next,
               int N, int H) {
  const Place at(H);
  if (at.row >= N) return;
  const P update = load(rz + at.unit(2, 1)), candidate = load(n_gate + at.unit());
  P y = load(h + at.unit());
#pragma unroll
  EACH {
    const T n = tanh(candidate.v[j]);
    y.v[j] = n + logistic(update.v[j]) * (y.v[j] - n);
  }
  store(h_next + at.unit(), y);
}

extern "C" __global__ void __launch_bounds__(THREADS)
update_backward_n(const T* __restrict__ gy, const T* __restrict__ rz, const T* __restrict__ n, T* __restrict__ gn, int N,
                  int H) {
  const Place at(H);
  if (at.row >= N) return;
  const P update = load(rz + at.unit(2, 1)), candidate = load(n + at.unit());
  P g = load(gy + at.unit());
#pragma unroll
  EACH {
    const T t = tanh(candidate.v[j]);
    g.v[j] *= (1 - logistic(update.v[j])) * (1 - t * t);
  }
  store(gn + at.unit(), g);
}

extern "C" __global__ void __launch_bounds__(THREADS)
reset_backward(const T* __restrict__ gy, const T* __restrict__ gq, const T* __restrict__ rz, const T* __restrict__ n,
               const T* __restrict__ h, T* __restrict__ grz, T* __restrict__ gh, int N, int H) {
  const Place at(H);
  if (at.row >= N) return;
  P reset = load(rz + at.unit(2, 0)), update = load(rz + at.unit(2, 1)), state = load(h + at.unit());
  const P candidate = load(n + at.unit()), g = load(gy + at.unit()), product = load(gq + at.unit());
#pragma unroll
  EACH {
    const T r = logistic(reset.v[j]), z = logistic(update.v[j]);
    reset.v[j] = product.v[j] * state.v[j] * r * (1 - r);
    update.v[j] = g.v[j] * (state.v[j] - tanh(candidate.v[j])) * z * (1 - z);
    state.v[j] = fma(g.v[j], z, product.v[j] * r);
  }
  store(grz + at.unit(2, 0), reset);
  store(grz + at.unit(2, 1), update);
  store(gh + at.unit(), state);
}

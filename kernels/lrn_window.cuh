// What local response normalisation needs while it walks over the channels of a pixel: their values, loaded ahead; a
// window of them in registers; and the powers of s = k + a * (sum of squares in the window).
#pragma once

#include "pack.cuh"

#ifndef SIZE
#error "define SIZE, the number of channels in the window"
#endif
#ifndef BETA
#error "define BETA, 75 or 50 for the exponents 0.75 and 0.5, 0 for any other"
#endif

#define LEFT (SIZE / 2)
#define RIGHT ((SIZE - 1) / 2)

// The values of one array at VECTOR neighbouring pixels, channel after channel, loaded AHEAD of their use; zeros from
// channel `end` on.
template <class T, int AHEAD>
struct Channels {
  const T* next;
  INDEX image;
  int left;  // channels still to load
  Pack<T> ahead[AHEAD];

  __device__ __forceinline__ Channels(const T* array, INDEX image, int begin, int end)
      : next(array + begin * image), image(image), left(end - begin) {
#pragma unroll
    for (int i = 0; i < AHEAD; i++) ahead[i] = fetch();
  }

  __device__ __forceinline__ Pack<T> fetch() {
    Pack<T> values = {};
    if (left > 0) values = load(next);
    next += image;
    left--;
    return values;
  }

  __device__ __forceinline__ Pack<T> pop() {
    const Pack<T> values = ahead[0];
#pragma unroll
    for (int i = 1; i < AHEAD; i++) ahead[i - 1] = ahead[i];
    ahead[AHEAD - 1] = fetch();
    return values;
  }
};

// The last LENGTH values pushed, the newest at the end; unrolled, so that it lives in registers.
template <class T, int LENGTH>
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

// s^-beta. The two exponents in use need roots alone: a power costs ten times as many instructions.
template <class T>
__device__ __forceinline__ T scale_power(T s, T beta) {
#if BETA == 75
  const T root = rsqrt(s);
  return root * sqrt(root);
#elif BETA == 50
  return rsqrt(s);
#else
  return pow(s, -beta);
#endif
}

// v / s, for s > 0 without a division: its slow path would be a function call, and registers saved around it.
// v is multiplied twice by 1 / sqrt(s), which stays finite where 1 / s of a tiny s does not.
template <class T>
__device__ __forceinline__ T over_scale(T v, T s) {
#if BETA
  const T root = rsqrt(s);
  return v * root * root;
#else
  return v / s;  // beta = 1 allows a negative s
#endif
}

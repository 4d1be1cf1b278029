// 16-bit elements: what memory holds, and the float that they are computed in.
//
//   Wide<T>::type   the type to compute in: float for float16_bits and bfloat16_bits, else T itself
//   widened(x)      the value of an element in it: exact
//   narrowed<T>(x)  the element of type T: rounded to nearest, ties to even
// pack.cuh has the same for packs of elements.
#pragma once
#include "ptx.cuh"

// Types of their own, to overload functions for.
struct float16_bits {
  unsigned short bits;
};
struct bfloat16_bits {
  unsigned short bits;
};

template <class T> struct Wide {
  typedef T type;
};
template <> struct Wide<float16_bits> {
  typedef float type;
};
template <> struct Wide<bfloat16_bits> {
  typedef float type;
};

template <class T> __device__ __forceinline__ T widened(T x) { return x; }
__device__ __forceinline__ float widened(float16_bits x) { return from_f16(x.bits); }
__device__ __forceinline__ float widened(bfloat16_bits x) { return __uint_as_float((unsigned)x.bits << 16); }

template <class T> struct Narrowing {
  static __device__ __forceinline__ T of(T x) { return x; }
};
template <> struct Narrowing<float16_bits> {
  static __device__ __forceinline__ float16_bits of(float x) { return {to_f16(x)}; }
};
template <> struct Narrowing<bfloat16_bits> {
  static __device__ __forceinline__ bfloat16_bits of(float x) { return {to_bf16(x)}; }
};
template <class T> __device__ __forceinline__ T narrowed(typename Wide<T>::type x) { return Narrowing<T>::of(x); }

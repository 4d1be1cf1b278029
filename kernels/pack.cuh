// VECTOR neighbouring elements in one access: 16 bytes where VECTOR * sizeof(T) is 16, the widest a thread can move.
// The address must be a multiple of those 16 bytes: gpunn/ops/shared/vector.py chooses VECTOR = 1 where it is not.
#pragma once
#include "element.cuh"

#ifndef VECTOR
#error "define VECTOR, the number of neighbouring elements that a thread moves at once: 16 bytes of them, or 1"
#endif

template <class T, int LENGTH = VECTOR>
struct __align__(sizeof(T) * LENGTH) Pack {
  T v[LENGTH];
};

template <class T>
__device__ __forceinline__ Pack<T> load(const T* address) {
  return *(const Pack<T>*)address;
}

template <class T>
__device__ __forceinline__ void store(T* address, const Pack<T>& values) {
  *(Pack<T>*)address = values;
}

template <class T, int LENGTH>
__device__ __forceinline__ Pack<typename Wide<T>::type, LENGTH> widened(const Pack<T, LENGTH>& values) {
  Pack<typename Wide<T>::type, LENGTH> wide;
#pragma unroll
  for (int i = 0; i < LENGTH; i++) wide.v[i] = widened(values.v[i]);
  return wide;
}

template <class T, int LENGTH>
__device__ __forceinline__ Pack<T, LENGTH> narrowed(const Pack<typename Wide<T>::type, LENGTH>& values) {
  Pack<T, LENGTH> narrow;
#pragma unroll
  for (int i = 0; i < LENGTH; i++) narrow.v[i] = narrowed<T>(values.v[i]);
  return narrow;
}

// VECTOR neighbouring elements in one access: 16 bytes where VECTOR * sizeof(T) is 16, the widest a thread can move.
// The address must be a multiple of those 16 bytes: gpunn/ops/vector.py chooses VECTOR = 1 where it is not.
#pragma once

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

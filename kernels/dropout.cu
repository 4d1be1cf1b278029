// Dropout with inverted scaling; the backward pass is the same kernel with gy for x.
//
//   y[i] = keep[d(i)] ? scale * x[i] : 0      keep[d] = (bits[d] >> 11) >= threshold
//
// bits is the stream of Philox4x64-10 under the key (*key, 0): draw d is word d % 4 of the block of counter
// first + d / 4. The key is read from memory: a CUDA graph repeats its launches with the same arguments, and must drop
// others each time. So keep[d] is numpy.random.Generator(Philox(*key, counter=first - 1)).random()[d] >= p for
// threshold = ceil(2^53 p). The mask is computed wherever it is needed and never stored: 2 accesses per element
// (8 bytes in float). Each element is written by one thread, from its own index: the same bits in every run.
//
//   dropout    d(i) = i. A thread owns the 4 neighbouring elements of one block of random words, VECTOR an access
//   dropout2d  d(i) = i / image, a whole plane at once. A block owns a plane; its threads draw the plane's word each
//              for itself, which needs no barrier
//
// Specialisation: DTYPE=float, INDEX=int, VECTOR=4, THREADS=128
// Specialisation: DTYPE=float, INDEX=long long, VECTOR=1, THREADS=128
// Specialisation: DTYPE=double, INDEX=int, VECTOR=2, THREADS=128
#include "macros.cuh"
#ifndef THREADS
#error "define THREADS, the threads of a block"
#endif

#include "pack.cuh"
#include "philox.cuh"

typedef DTYPE T;

__device__ __forceinline__ PhiloxBlock draws(unsigned long long key, unsigned long long counter) {
  return philox4x64({{counter, 0, 0, 0}}, key, 0);
}

extern "C" __global__ void __launch_bounds__(THREADS)
dropout(const T* __restrict__ x, T* __restrict__ y, INDEX size, const unsigned long long* key,
        unsigned long long first, unsigned long long threshold, T scale) {
  const INDEX group = (INDEX)blockIdx.x * THREADS + threadIdx.x, start = 4 * group;
  const PhiloxBlock bits = draws(*key, first + group);
#pragma unroll
  for (int j = 0; j < 4; j += VECTOR) {
    if (start + j >= size) return;
    Pack<T> values = load(x + start + j);
#pragma unroll
    for (int v = 0; v < VECTOR; v++) values.v[v] = bits.word[j + v] >> 11 >= threshold ? scale * values.v[v] : 0;
    store(y + start + j, values);
  }
}

extern "C" __global__ void __launch_bounds__(THREADS)
dropout2d(const T* __restrict__ x, T* __restrict__ y, INDEX image, const unsigned long long* key,
          unsigned long long first, unsigned long long threshold, T scale) {
  const PhiloxBlock bits = draws(*key, first + blockIdx.x / 4);
  const int j = blockIdx.x % 4;
  const unsigned long long word = j == 0 ? bits.word[0] : j == 1 ? bits.word[1] : j == 2 ? bits.word[2] : bits.word[3];
  const bool keep = word >> 11 >= threshold;
  const INDEX plane = blockIdx.x * image;
  for (INDEX i = threadIdx.x * VECTOR; i < image; i += THREADS * VECTOR) {
    Pack<T> values = load(x + plane + i);
#pragma unroll
    for (int v = 0; v < VECTOR; v++) values.v[v] = keep ? scale * values.v[v] : 0;
    store(y + plane + i, values);
  }
}

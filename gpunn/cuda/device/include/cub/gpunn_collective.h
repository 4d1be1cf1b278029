// What the classes of CUB that are served have in common. They are written anew, for blocks that the emulator runs.
#pragma once

// CUB brings the functors of libcu++ along. They take time to compile: they are there for sources that say "cuda".
#ifdef GPUNN_SOURCE_SAYS_CUDA
#include <cuda/functional>
#include <cuda/std/functional>
#endif

namespace cub {
namespace gpunn {

struct Plus {
    template <class T> __device__ T operator()(const T& a, const T& b) const { return a + b; }
};

template <int x, int y, int z> __device__ int thread_of_block() {
    return (int)threadIdx.x + x * ((int)threadIdx.y + y * (int)threadIdx.z);
}

// Room for one T of each thread, whether or not a T is made without arguments.
template <class T, int threads> struct Room {
    alignas(T) char bytes[sizeof(T) * threads];
    __device__ T* all() { return (T*)bytes; }
};

// The members' items from left to right, of the first `valid` members; only the first member gets what comes of it, as
// CUB promises it to that one alone. Everyone waits in `wait` before each step.
template <class T, int members, class Operation, class Wait>
__device__ T reduced(T* held, int member, T mine, Operation operation, int valid, Wait wait) {
    held[member] = mine;
    for (int step = 1; step < members; step *= 2) {
        wait();
        if (member % (2 * step) == 0 && member + step < members && member + step < valid)
            held[member] = operation(held[member], held[member + step]);
    }
    return member == 0 ? held[0] : mine;
}

}  // namespace gpunn
}  // namespace cub

// In place of CUB's header of this name.
#pragma once
#include "../gpunn_collective.h"

namespace cub {

template <class T, int lanes = 32, int = 0> class WarpReduce {
    static_assert(lanes >= 1 && lanes <= 32, "a warp has 32 lanes");

  public:
    struct TempStorage : gpunn::Room<T, lanes> {};

    __device__ explicit WarpReduce(TempStorage& storage) : held(storage.all()) {}

    template <class Operation> __device__ T Reduce(T mine, Operation operation, int valid = lanes) {
        int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z), lane = thread % 32 % lanes;
        int first = thread % 32 - lane;
        unsigned mask = lanes == 32 ? 0xffffffffu : ((1u << lanes % 32) - 1) << first;
        return gpunn::reduced<T, lanes>(held, lane, mine, operation, valid, [mask] { __syncwarp(mask); });
    }
    __device__ T Sum(T mine, int valid = lanes) { return Reduce(mine, gpunn::Plus(), valid); }

  private:
    T* held;
};

}  // namespace cub

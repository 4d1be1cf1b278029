// Stands for CUDA's header of this name.
#pragma once
#include "gpunn_emulator/lanes.h"
#include "gpunn_emulator/thread_group.h"
#include "gpunn_emulator/lane_groups.h"

namespace cooperative_groups {

class grid_group {
public:
    __forceinline__ static bool is_valid() { return ::gpunn_emulator::current.block->is_cooperative; }
    // Which lines they are called from tells barriers apart, as those of blocks.
    __forceinline__ void sync(int line = __builtin_LINE()) const {
        ::gpunn_emulator::grid_barrier(::gpunn_emulator::Barrier::grid, -line);
    }

    typedef unsigned arrival_token;
    __forceinline__ arrival_token barrier_arrive(int line = __builtin_LINE()) const {
        ::gpunn_emulator::grid_barrier(::gpunn_emulator::Barrier::grid_arrival, -line);
        return 0;
    }
    __forceinline__ void barrier_wait(arrival_token&&, int line = __builtin_LINE()) const {
        ::gpunn_emulator::grid_barrier(::gpunn_emulator::Barrier::grid_wait, -line);
    }

    __forceinline__ static unsigned long long block_rank() {
        return blockIdx.x + (unsigned long long)gridDim.x * (blockIdx.y + (unsigned long long)gridDim.y * blockIdx.z);
    }
    __forceinline__ static unsigned long long num_blocks() { return (unsigned long long)gridDim.x * gridDim.y * gridDim.z; }
    __forceinline__ static unsigned long long thread_rank() {
        return block_rank() * thread_block::num_threads() + thread_block::thread_rank();
    }
    __forceinline__ static unsigned long long num_threads() { return num_blocks() * thread_block::num_threads(); }
    __forceinline__ static unsigned long long size() { return num_threads(); }
    __forceinline__ static dim3 group_dim() { return gridDim; }
    __forceinline__ static dim3 dim_blocks() { return gridDim; }
    __forceinline__ static dim3 block_index() { return blockIdx; }
    __forceinline__ static dim3 dim_threads() {
        return dim3(gridDim.x * blockDim.x, gridDim.y * blockDim.y, gridDim.z * blockDim.z);
    }
    __forceinline__ static dim3 thread_index() {
        return dim3(blockIdx.x * blockDim.x + threadIdx.x, blockIdx.y * blockDim.y + threadIdx.y,
                    blockIdx.z * blockDim.z + threadIdx.z);
    }
};

__forceinline__ grid_group this_grid() { return grid_group(); }

}  // namespace cooperative_groups

#include "gpunn_emulator/group_partitions.h"

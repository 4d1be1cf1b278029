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
#if __CUDA_ARCH__ >= 900
    __forceinline__ static dim3 dim_clusters() { return __clusterGridDimInClusters(); }
    __forceinline__ static dim3 cluster_index() { return __clusterIdx(); }
    __forceinline__ static unsigned long long num_clusters() {
        dim3 size = dim_clusters();
        return (unsigned long long)size.x * size.y * size.z;
    }
    __forceinline__ static unsigned long long cluster_rank() {
        dim3 size = dim_clusters(), at = cluster_index();
        return at.x + (unsigned long long)size.x * (at.y + (unsigned long long)size.y * at.z);
    }
#endif
};

__forceinline__ grid_group this_grid() { return grid_group(); }

#if __CUDA_ARCH__ >= 900

class cluster_group {
public:
    __forceinline__ static void sync() {
        __cluster_barrier_arrive();
        __cluster_barrier_wait();
    }

    struct arrival_token {};
    __forceinline__ static arrival_token barrier_arrive() {
        __cluster_barrier_arrive();
        return arrival_token();
    }
    __forceinline__ static void barrier_wait() { __cluster_barrier_wait(); }
    __forceinline__ static void barrier_wait(arrival_token&&) { __cluster_barrier_wait(); }

    __forceinline__ static unsigned query_shared_rank(const void* address) { return __cluster_query_shared_rank(address); }
    template <class T> __forceinline__ static T* map_shared_rank(T* address, int rank) {
        return static_cast<T*>(__cluster_map_shared_rank(address, (unsigned)rank));
    }

    __forceinline__ static dim3 block_index() { return __clusterRelativeBlockIdx(); }
    __forceinline__ static unsigned block_rank() { return __clusterRelativeBlockRank(); }
    __forceinline__ static dim3 dim_blocks() { return __clusterDim(); }
    __forceinline__ static unsigned num_blocks() { return __clusterSizeInBlocks(); }
    __forceinline__ static dim3 thread_index() {
        dim3 at = block_index();
        return dim3(at.x * blockDim.x + threadIdx.x, at.y * blockDim.y + threadIdx.y, at.z * blockDim.z + threadIdx.z);
    }
    __forceinline__ static unsigned thread_rank() {
        return block_rank() * thread_block::num_threads() + thread_block::thread_rank();
    }
    __forceinline__ static dim3 dim_threads() {
        dim3 size = dim_blocks();
        return dim3(size.x * blockDim.x, size.y * blockDim.y, size.z * blockDim.z);
    }
    __forceinline__ static unsigned num_threads() { return num_blocks() * thread_block::num_threads(); }
    __forceinline__ static unsigned size() { return num_threads(); }

private:
    cluster_group() {}
    friend cluster_group this_cluster();
};

__forceinline__ cluster_group this_cluster() { return cluster_group(); }

#endif

}  // namespace cooperative_groups

#include "gpunn_emulator/group_partitions.h"

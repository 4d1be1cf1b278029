// Cooperative groups: the type that stands for any group of threads, and blocks.
#pragma once

namespace cooperative_groups {

class grid_group;
#if __CUDA_ARCH__ >= 900
class cluster_group;
#endif

// A block, or lanes of a warp: which of them is known when the kernel runs.
class thread_group {
public:
    thread_group(const thread_group&) = default;
    __attribute__((error("a thread_group that stands for a grid is not emulated"))) thread_group(const grid_group&);
#if __CUDA_ARCH__ >= 900
    __attribute__((error("a thread_group that stands for a cluster is not emulated"))) thread_group(const cluster_group&);
#endif
    thread_group& operator=(const thread_group&) = delete;  // nor has CUDA's

    __forceinline__ void sync(int line = __builtin_LINE()) const;
    __forceinline__ unsigned long long thread_rank() const;
    __forceinline__ unsigned long long size() const;

protected:
    thread_group() : is_block_(true), mask_(0), meta_rank_(0), meta_size_(1) {}
    thread_group(unsigned mask, unsigned meta_rank, unsigned meta_size)
        : is_block_(false), mask_(mask), meta_rank_(meta_rank), meta_size_(meta_size) {}

    friend struct group_maker;

    bool is_block_;
    unsigned mask_, meta_rank_, meta_size_;  // of lanes
};

// What the emulator needs of tiles of several warps is not in the kernel's memory.
template <unsigned MOST_THREADS = 1024> struct __align__(8) block_tile_memory {
private:
    char unused_[MOST_THREADS / 4];
};

class thread_block : public thread_group {
public:
    // The line of the call tells one barrier from another, see barriers.h; places of that kind are numbered from 0 up.
    __forceinline__ static void sync(int line = __builtin_LINE()) { ::gpunn_emulator::block_barrier(0, -line); }

    struct arrival_token {};
    __forceinline__ arrival_token barrier_arrive() const { return arrival_token(); }
    __forceinline__ void barrier_wait(arrival_token&&, int line = __builtin_LINE()) const { sync(line); }

    __forceinline__ static unsigned thread_rank() {
        return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    }
    __forceinline__ static unsigned num_threads() { return blockDim.x * blockDim.y * blockDim.z; }
    __forceinline__ static unsigned size() { return num_threads(); }
    __forceinline__ static dim3 group_index() { return blockIdx; }
    __forceinline__ static dim3 thread_index() { return threadIdx; }
    __forceinline__ static dim3 group_dim() { return blockDim; }
    __forceinline__ static dim3 dim_threads() { return blockDim; }

private:
    thread_block() {}
    friend struct group_maker;
};

__forceinline__ void thread_group::sync(int line) const {
    if (is_block_) thread_block::sync(line);
    else __syncwarp(mask_);
}

__forceinline__ unsigned long long thread_group::thread_rank() const {
    if (is_block_) return thread_block::thread_rank();
    return ::gpunn_emulator::rank_among(mask_);
}

__forceinline__ unsigned long long thread_group::size() const {
    return is_block_ ? thread_block::num_threads() : (unsigned)__popc(mask_);
}

}  // namespace cooperative_groups

// Stands for CUDA's header of this name: blocks, tiles of a warp, and the grid's indices.
#pragma once

namespace cooperative_groups {

class thread_block {
public:
    // The line of the call tells one barrier from another, see gpunn_emulator/barriers.h; places of that kind are
    // numbered from 0 up.
    __forceinline__ static void sync(int line = __builtin_LINE()) { ::gpunn_emulator::block_barrier(0, -line); }
    __forceinline__ static unsigned thread_rank() {
        return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    }
    __forceinline__ static unsigned num_threads() { return blockDim.x * blockDim.y * blockDim.z; }
    __forceinline__ static unsigned size() { return num_threads(); }
    __forceinline__ static dim3 group_index() { return blockIdx; }
    __forceinline__ static dim3 thread_index() { return threadIdx; }
    __forceinline__ static dim3 group_dim() { return blockDim; }
    __forceinline__ static dim3 dim_threads() { return blockDim; }
};

__forceinline__ thread_block this_thread_block() { return thread_block(); }

class grid_group {
public:
    __attribute__((error("barriers across the blocks of a grid are not emulated"))) void sync() const;
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
};

__forceinline__ grid_group this_grid() { return grid_group(); }

// `SIZE` neighbouring lanes of a warp.
template <unsigned SIZE, class Parent = void> class thread_block_tile {
    static_assert(SIZE && SIZE <= 32 && (SIZE & (SIZE - 1)) == 0, "tiles of more than a warp are not emulated");
    __forceinline__ static unsigned first() { return ::gpunn_emulator::current.thread->lane & ~(SIZE - 1); }
    __forceinline__ static unsigned mask() { return (SIZE == 32 ? ~0u : (1u << SIZE % 32) - 1) << first(); }

public:
    __forceinline__ static void sync() { __syncwarp(mask()); }
    __forceinline__ static unsigned thread_rank() { return ::gpunn_emulator::current.thread->lane % SIZE; }
    static constexpr unsigned num_threads() { return SIZE; }
    static constexpr unsigned size() { return SIZE; }
    __forceinline__ static unsigned meta_group_rank() { return thread_block::thread_rank() / SIZE; }
    __forceinline__ static unsigned meta_group_size() { return (thread_block::num_threads() + SIZE - 1) / SIZE; }

    template <class T> __forceinline__ static T shfl(T value, int rank) { return __shfl_sync(mask(), value, rank, SIZE); }
    template <class T> __forceinline__ static T shfl_up(T value, unsigned delta) {
        return __shfl_up_sync(mask(), value, delta, SIZE);
    }
    template <class T> __forceinline__ static T shfl_down(T value, unsigned delta) {
        return __shfl_down_sync(mask(), value, delta, SIZE);
    }
    template <class T> __forceinline__ static T shfl_xor(T value, unsigned lanes) {
        return __shfl_xor_sync(mask(), value, (int)lanes, SIZE);
    }
    __forceinline__ static unsigned ballot(int predicate) { return __ballot_sync(mask(), predicate) >> first(); }
    __forceinline__ static int any(int predicate) { return ballot(predicate) != 0; }
    __forceinline__ static int all(int predicate) { return ballot(!predicate) == 0; }
    template <class T> __forceinline__ static unsigned match_any(T value) {
        return __match_any_sync(mask(), value) >> first();
    }
};

// A tile of a tile counts its groups in that tile.
template <unsigned SIZE, unsigned OUTER, class Parent>
class thread_block_tile<SIZE, thread_block_tile<OUTER, Parent>> : public thread_block_tile<SIZE> {
    static_assert(SIZE <= OUTER, "a tile cannot be larger than the one it is a part of");

public:
    __forceinline__ static unsigned meta_group_rank() { return ::gpunn_emulator::current.thread->lane % OUTER / SIZE; }
    static constexpr unsigned meta_group_size() { return OUTER / SIZE; }
};

template <unsigned SIZE> __forceinline__ thread_block_tile<SIZE> tiled_partition(const thread_block&) { return {}; }
template <unsigned SIZE, unsigned OUTER, class Parent>
__forceinline__ thread_block_tile<SIZE, thread_block_tile<OUTER, Parent>> tiled_partition(
    const thread_block_tile<OUTER, Parent>&) {
    return {};
}

__forceinline__ void sync(const thread_block&, int line = __builtin_LINE()) { thread_block::sync(line); }
template <unsigned SIZE, class Parent> __forceinline__ void sync(const thread_block_tile<SIZE, Parent>& tile) {
    tile.sync();
}

}  // namespace cooperative_groups

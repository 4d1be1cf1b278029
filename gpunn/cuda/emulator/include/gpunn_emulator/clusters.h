// Clusters of blocks, and the shared memory of their other blocks.
#pragma once

#if __CUDA_ARCH__ >= 900

inline bool __clusterDimIsSpecified() { return ::gpunn_emulator::current.block->is_explicit_cluster; }
inline dim3 __clusterDim() { return ::gpunn_emulator::current.block->cluster_dim; }
inline dim3 __clusterRelativeBlockIdx() { return ::gpunn_emulator::current.block->cluster_index; }
inline unsigned __clusterRelativeBlockRank() { return ::gpunn_emulator::current.block->cluster_rank; }
inline unsigned __clusterSizeInBlocks() { return ::gpunn_emulator::current.block->cluster_size; }
inline dim3 __clusterGridDimInClusters() {
    const dim3 size = __clusterDim();
    return dim3(gridDim.x / size.x, gridDim.y / size.y, gridDim.z / size.z);
}
inline dim3 __clusterIdx() {
    const dim3 size = __clusterDim();
    return dim3(blockIdx.x / size.x, blockIdx.y / size.y, blockIdx.z / size.z);
}

// What a kernel calls last must come back to it, or a report would name no line of it.
__forceinline__ void __cluster_barrier_arrive() {
    ::gpunn_emulator::cluster_arrive(true);
    asm volatile("");
}
__forceinline__ void __cluster_barrier_arrive_relaxed() {
    ::gpunn_emulator::cluster_arrive(false);
    asm volatile("");
}
__forceinline__ void __cluster_barrier_wait() {
    ::gpunn_emulator::cluster_wait();
    asm volatile("");
}
__forceinline__ void __threadfence_cluster() { ::gpunn_emulator::note_fence(); }

__forceinline__ unsigned __cluster_query_shared_rank(const void* address) {
    return ::gpunn_emulator::cluster_rank_of(address);
}
__forceinline__ void* __cluster_map_shared_rank(const void* address, unsigned rank) {
    return ::gpunn_emulator::cluster_map(address, rank);
}
__attribute__((error("__cluster_map_shared_multicast is not emulated"))) uint2 __cluster_map_shared_multicast(const void*,
                                                                                                             unsigned);

#endif

// Stands for CUDA's header of this name.
#pragma once

__forceinline__ void __pipeline_memcpy_async(void* shared, const void* global, size_t bytes, size_t zeros = 0) {
    ::gpunn_emulator::async_copy(shared, global, (unsigned)bytes, (unsigned)(bytes - zeros));
}
__forceinline__ void __pipeline_commit() { ::gpunn_emulator::async_commit(); }
__forceinline__ void __pipeline_wait_prior(size_t newest) { ::gpunn_emulator::async_wait((unsigned)newest); }

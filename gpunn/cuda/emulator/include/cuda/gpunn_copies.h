// What memcpy_async of barriers and pipelines has in common.
#pragma once
#include "../gpunn_emulator/copies.h"
#include "gpunn_scopes.h"

namespace cuda {

enum class async_contract_fulfillment { none, async };

}  // namespace cuda

namespace gpunn_emulator {

struct one_thread {
    static constexpr unsigned size() { return 1; }
    static constexpr unsigned thread_rank() { return 0; }
};

// Which thread copies what is not told by CUDA: here the first one copies all. What does not go to shared memory is
// there at once, as CUDA allows.
template <class Size, class T, class Group>
__forceinline__ cuda::async_contract_fulfillment copy_for(const Group& group, void* to, const void* from, size_t bytes,
                                                          void* barrier) {
    check_copy(to, from, bytes, copy_size<Size, T>::alignment, copy_size<Size, T>::multiple);
    bool is_async = __isShared(to);
    if (group.thread_rank() == 0 && bytes) {
        if (is_async) async_barrier_copy(to, from, bytes, barrier);
        else memcpy((char*)to, (const char*)from, bytes);
    }
    return is_async ? cuda::async_contract_fulfillment::async : cuda::async_contract_fulfillment::none;
}

}  // namespace gpunn_emulator

namespace cuda {

// Completion is a barrier or a pipeline.
template <class Group, class T, class Size, class Completion, class = typename Completion::gpunn_completes_copies>
__forceinline__ async_contract_fulfillment memcpy_async(const Group& group, T* to, const T* from, const Size& size,
                                                        Completion& completion) {
    return completion.template gpunn_copy<Size, T>(group, to, from, (size_t)size);
}
template <class Group, class Size, class Completion, class = typename Completion::gpunn_completes_copies>
__forceinline__ async_contract_fulfillment memcpy_async(const Group& group, void* to, const void* from,
                                                        const Size& size, Completion& completion) {
    return completion.template gpunn_copy<Size, void>(group, to, from, (size_t)size);
}
template <class T, class Size, class Completion, class = typename Completion::gpunn_completes_copies>
__forceinline__ async_contract_fulfillment memcpy_async(T* to, const T* from, const Size& size,
                                                        Completion& completion) {
    return completion.template gpunn_copy<Size, T>(::gpunn_emulator::one_thread(), to, from, (size_t)size);
}
template <class Size, class Completion, class = typename Completion::gpunn_completes_copies>
__forceinline__ async_contract_fulfillment memcpy_async(void* to, const void* from, const Size& size,
                                                        Completion& completion) {
    return completion.template gpunn_copy<Size, void>(::gpunn_emulator::one_thread(), to, from, (size_t)size);
}

}  // namespace cuda

// Stands for CUDA's header of this name.
#pragma once
#include "../cooperative_groups.h"
#include "../gpunn_emulator/copies.h"

namespace gpunn_emulator {

template <class Group> struct can_copy { static constexpr bool value = exchanges<Group>::value; };
template <> struct can_copy<cooperative_groups::thread_block> { static constexpr bool value = true; };

// Of a size that is no multiple of the alignment, the rest is not copied, as in CUDA.
template <class Group>
__forceinline__ void copy_of_group(const Group& group, void* to, const void* from, size_t bytes, unsigned alignment) {
    static_assert(can_copy<Group>::value, "memcpy_async takes a thread_block, thread_block_tile or coalesced_group");
    check_copy(to, from, 0, alignment, 1);
    if (alignment >= 4) bytes -= bytes % alignment;
    copy_share(group, to, from, bytes);
    async_commit();
}

}  // namespace gpunn_emulator

namespace cooperative_groups {

template <class Group, class T, class Size>
__forceinline__ void memcpy_async(const Group& group, T* to, const T* from, const Size& bytes) {
    ::gpunn_emulator::copy_of_group(group, to, from, (size_t)bytes, ::gpunn_emulator::copy_size<Size, T>::alignment);
}

// Sizes in elements: the smaller one counts.
template <class Group, class T, class ToSize, class FromSize>
__forceinline__ void memcpy_async(const Group& group, T* to, const ToSize& to_size, const T* from,
                                  const FromSize& from_size) {
    size_t elements = (size_t)to_size < (size_t)from_size ? (size_t)to_size : (size_t)from_size;
    ::gpunn_emulator::copy_of_group(group, to, from, elements * sizeof(T), ::gpunn_emulator::copy_size<ToSize, T>::alignment);
}

// All but the newest copies of the thread have arrived.
template <unsigned NEWEST> __forceinline__ void wait_prior(const thread_block& block, int line = __builtin_LINE()) {
    ::gpunn_emulator::async_wait(NEWEST);
    block.sync(line);
}
template <unsigned NEWEST, class Group> __forceinline__ void wait_prior(const Group& group) {
    ::gpunn_emulator::async_wait(NEWEST);
    group.sync();
}

__forceinline__ void wait(const thread_block& block, int line = __builtin_LINE()) { wait_prior<0>(block, line); }
template <class Group> __forceinline__ void wait(const Group& group) { wait_prior<0>(group); }

}  // namespace cooperative_groups

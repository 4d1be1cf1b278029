// Stands for CUDA's header of this name.
#pragma once
#include "../cooperative_groups.h"
#include "../gpunn_emulator/group_operators.h"

namespace cooperative_groups {

template <class Group, class T, class Operator>
__forceinline__ auto reduce(const Group& group, T&& value, Operator&& operation) -> decltype(operation(value, value)) {
    typedef typename ::gpunn_emulator::can_be_combined<Group, T, decltype(operation(value, value))>::type Value;
    return ::gpunn_emulator::combined(group, (Value)value, operation);
}

// The store may come late in CUDA: who reads it waits for the group first.
template <class Group, class Target, class T, class Operator>
__forceinline__ void reduce_store_async(const Group& group, Target* target, T&& value, Operator&& operation) {
    static_assert(::gpunn_emulator::is_same<Target, ::gpunn_emulator::plain<T>>::value,
                  "the target must have the type of the value");
    Target result = reduce(group, value, operation);
    if (group.thread_rank() == 0) *target = result;
}

template <class Group, class Atomic, class T, class Operator>
__attribute__((error("reduce_store_async to an atomic is not emulated: call reduce, and store in one thread"))) void reduce_store_async(
    const Group&, Atomic&& target, T&& value, Operator&& operation);
template <class Group, class Atomic, class T, class Operator>
__attribute__((error("reduce_update_async is not emulated: call reduce, and an atomic function in one thread"))) void
reduce_update_async(const Group&, Atomic&& target, T&& value, Operator&& operation);

}  // namespace cooperative_groups

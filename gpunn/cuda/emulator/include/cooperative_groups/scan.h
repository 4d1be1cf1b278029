// Stands for CUDA's header of this name.
#pragma once
#include "../cooperative_groups.h"
#include "../gpunn_emulator/group_operators.h"

namespace cooperative_groups {

template <class Group, class T, class Operator>
__forceinline__ auto inclusive_scan(const Group& group, T&& value, Operator&& operation)
    -> decltype(operation(value, value)) {
    typedef typename ::gpunn_emulator::can_be_combined<Group, T, decltype(operation(value, value))>::type Value;
    return ::gpunn_emulator::up_to_here(group, (Value)value, operation);
}
template <class Group, class T>
__forceinline__ ::gpunn_emulator::plain<T> inclusive_scan(const Group& group, T&& value) {
    return inclusive_scan(group, value, plus<::gpunn_emulator::plain<T>>());
}

template <class Group, class T, class Operator>
__forceinline__ auto exclusive_scan(const Group& group, T&& value, Operator&& operation)
    -> decltype(operation(value, value)) {
    typedef typename ::gpunn_emulator::can_be_combined<Group, T, decltype(operation(value, value))>::type Value;
    return ::gpunn_emulator::before_here(group, (Value)value, operation);
}
template <class Group, class T>
__forceinline__ ::gpunn_emulator::plain<T> exclusive_scan(const Group& group, T&& value) {
    return exclusive_scan(group, value, plus<::gpunn_emulator::plain<T>>());
}

template <class Group, class Atomic, class T, class... Operator>
__attribute__((error("inclusive_scan_update is not emulated: call inclusive_scan, and an atomic function in one thread"))) ::gpunn_emulator::plain<T>
inclusive_scan_update(const Group&, Atomic&& target, T&& value, Operator&&... operation);
template <class Group, class Atomic, class T, class... Operator>
__attribute__((error("exclusive_scan_update is not emulated: call exclusive_scan, and an atomic function in one thread"))) ::gpunn_emulator::plain<T>
exclusive_scan_update(const Group&, Atomic&& target, T&& value, Operator&&... operation);

}  // namespace cooperative_groups

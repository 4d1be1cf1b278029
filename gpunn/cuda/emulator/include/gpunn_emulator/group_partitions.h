// Cooperative groups: parts of tiles and coalesced groups by what their lanes say, and calls by one thread.
#pragma once

namespace gpunn_emulator {

typedef cooperative_groups::coalesced_group coalesced_group;
typedef cooperative_groups::group_maker group_maker;

__forceinline__ unsigned lanes_of(const coalesced_group& group) { return group_maker::mask(group); }

// Where all say the same, there is one part.
template <class Group> __forceinline__ coalesced_group in_two(const Group& group, bool predicate) {
    unsigned mask = lanes_of(group), yes = __ballot_sync(mask, predicate);
    if (!yes || yes == mask) return group_maker::lanes(mask);
    return group_maker::lanes(predicate ? yes : mask & ~yes, predicate, 2);
}

template <class Group> __forceinline__ coalesced_group by_label(const Group& group, bool label) {
    return in_two(group, label);
}
// Parts are counted in the order of their first lanes.
template <class Group, class T> __forceinline__ coalesced_group by_label(const Group& group, T label) {
    unsigned mask = lanes_of(group), part = __match_any_sync(mask, label), first = part & (0 - part);
    unsigned firsts = __ballot_sync(mask, first == 1u << current.thread->lane);
    return group_maker::lanes(part, (unsigned)__popc(firsts & (first - 1)), (unsigned)__popc(firsts));
}

template <class T> struct label {
    static_assert(is_integer<T>::value, "labeled_partition takes an integer or a pointer");
    typedef T type;
};
template <class T> struct label<T*> { typedef unsigned long long type; };

// Every thread of the group must come here.
template <unsigned SIZE> __forceinline__ void meet(const warp_tile<SIZE>& tile) { tile.any(0); }
template <unsigned SIZE> __forceinline__ void meet(const large_tile<SIZE>& tile) { tile.any(0); }
__forceinline__ void meet(const coalesced_group& group) { group.any(0); }
__forceinline__ void meet(const cooperative_groups::thread_block&) {}
__forceinline__ void meet(const cooperative_groups::grid_group&) {}
#if __CUDA_ARCH__ >= 900
__forceinline__ void meet(const cooperative_groups::cluster_group&) {}
#endif

template <class Group> struct exchanges { static constexpr bool value = false; };
template <> struct exchanges<coalesced_group> { static constexpr bool value = true; };
template <unsigned SIZE, class Parent> struct exchanges<cooperative_groups::thread_block_tile<SIZE, Parent>> {
    static constexpr bool value = true;
};

}  // namespace gpunn_emulator

namespace cooperative_groups {

__forceinline__ coalesced_group binary_partition(const coalesced_group& group, bool predicate) {
    return ::gpunn_emulator::in_two(group, predicate);
}
template <unsigned SIZE, class Parent>
__forceinline__ coalesced_group binary_partition(const thread_block_tile<SIZE, Parent>& tile, bool predicate) {
    static_assert(SIZE <= 32, "binary_partition takes tiles of up to 32 threads");
    return ::gpunn_emulator::in_two(tile, predicate);
}

template <class T> __forceinline__ coalesced_group labeled_partition(const coalesced_group& group, T label) {
    return ::gpunn_emulator::by_label(group, (typename ::gpunn_emulator::label<T>::type)label);
}
template <class T, unsigned SIZE, class Parent>
__forceinline__ coalesced_group labeled_partition(const thread_block_tile<SIZE, Parent>& tile, T label) {
    static_assert(SIZE <= 32, "labeled_partition takes tiles of up to 32 threads");
    return ::gpunn_emulator::by_label(tile, (typename ::gpunn_emulator::label<T>::type)label);
}

// CUDA does not say which thread it is.
template <class Group, class Function, class... Arguments>
__forceinline__ void invoke_one(const Group& group, Function&& function, Arguments&&... arguments) {
    ::gpunn_emulator::meet(group);
    if (group.thread_rank() == 0) static_cast<Function&&>(function)(static_cast<Arguments&&>(arguments)...);
}

template <class Group, class Function, class... Arguments>
__forceinline__ auto invoke_one_broadcast(const Group& group, Function&& function, Arguments&&... arguments)
    -> ::gpunn_emulator::plain<decltype(function(static_cast<Arguments&&>(arguments)...))> {
    typedef ::gpunn_emulator::plain<decltype(function(static_cast<Arguments&&>(arguments)...))> Result;
    static_assert(::gpunn_emulator::exchanges<Group>::value,
                  "invoke_one_broadcast takes a thread_block_tile or a coalesced_group");
    static_assert(!::gpunn_emulator::is_same<Result, void>::value,
                  "the function returns nothing that could be broadcast: call invoke_one");
    Result result;
    if (group.thread_rank() == 0) result = static_cast<Function&&>(function)(static_cast<Arguments&&>(arguments)...);
    return group.shfl(result, 0);
}

}  // namespace cooperative_groups

// Cooperative groups: operators, and sums and the like over a group by them, in the order of CUDA's own.
#pragma once

namespace cooperative_groups {

template <class T> struct plus {
    T operator()(T a, T b) const { return a + b; }
};
template <class T> struct less {
    T operator()(T a, T b) const { return b < a ? b : a; }
};
template <class T> struct greater {
    T operator()(T a, T b) const { return a < b ? b : a; }
};
template <class T> struct bit_and {
    T operator()(T a, T b) const { return a & b; }
};
template <class T> struct bit_or {
    T operator()(T a, T b) const { return a | b; }
};
template <class T> struct bit_xor {
    T operator()(T a, T b) const { return a ^ b; }
};

}  // namespace cooperative_groups

namespace gpunn_emulator {

// What a value must be, and the operator's result with it.
template <class Group, class T, class Result> struct can_be_combined {
    static_assert(exchanges<Group>::value, "it takes a thread_block_tile or a coalesced_group");
    static_assert(is_same<plain<T>, plain<Result>>::value, "the operator must return the type of the value");
    typedef plain<T> type;
};

// --- one for all -----------------------------------------------------------------------------------------

// Every lane gets the same: partners combine the same two values.
template <unsigned SIZE, class T, class Operator>
__forceinline__ T combined(const warp_tile<SIZE>& tile, T value, Operator& operation) {
    for (unsigned distance = SIZE / 2; distance; distance /= 2) value = operation(value, tile.shfl_xor(value, distance));
    return value;
}

template <class Group, class T, class Operator>
__forceinline__ T running(const Group& group, T value, Operator& operation) {
    unsigned rank = group.thread_rank();
    for (unsigned distance = 1; distance < group.size(); distance *= 2) {
        T earlier = group.shfl_up(value, distance);
        if (distance <= rank) value = operation(value, earlier);
    }
    return value;
}

template <class T, class Operator>
__forceinline__ T combined(const coalesced_group& group, T value, Operator& operation) {
    if (group.size() == 32) return combined(warp_tile<32>(), value, operation);
    return group.shfl(running(group, value, operation), (int)group.size() - 1);
}

template <unsigned SIZE, class T, class Operator>
__forceinline__ T combined(const large_tile<SIZE>& tile, T value, Operator& operation) {
    typedef typename fits_large_tile<T>::type Value;
    const unsigned warps = SIZE / 32;
    WarpValues<Value, warps> values = values_of_warps<warps>(combined(warp_tile<32>(), value, operation));
    for (unsigned distance = warps / 2; distance; distance /= 2) {
        WarpValues<Value, warps> before = values;
        for (unsigned w = 0; w < warps; w++)
            values.of_warp[w] = operation(before.of_warp[w], before.of_warp[w ^ distance]);
    }
    return values.of_warp[tile.thread_rank() / 32];
}

// --- up to a thread --------------------------------------------------------------------------------------

template <unsigned SIZE, class T, class Operator>
__forceinline__ T up_to_here(const warp_tile<SIZE>& tile, T value, Operator& operation) {
    return running(tile, value, operation);
}
template <class T, class Operator>
__forceinline__ T up_to_here(const coalesced_group& group, T value, Operator& operation) {
    return running(group, value, operation);
}

// The first thread gets T().
template <class Group, class T> __forceinline__ T of_previous(const Group& group, T value) {
    T earlier = group.shfl_up(value, 1);
    return group.thread_rank() ? earlier : T();
}
template <unsigned SIZE, class T, class Operator>
__forceinline__ T before_here(const warp_tile<SIZE>& tile, T value, Operator& operation) {
    return of_previous(tile, running(tile, value, operation));
}
template <class T, class Operator>
__forceinline__ T before_here(const coalesced_group& group, T value, Operator& operation) {
    return of_previous(group, running(group, value, operation));
}

// Of the warps before that of the running thread, which is not the first.
template <unsigned SIZE, class T, class Operator>
__forceinline__ T earlier_warps(const large_tile<SIZE>& tile, T value, Operator& operation) {
    typedef typename fits_large_tile<T>::type Value;
    const unsigned warps = SIZE / 32;
    unsigned warp = tile.thread_rank() / 32;
    WarpValues<Value, warps> values = values_of_warps<warps>(value);
    for (unsigned distance = 1; distance < warps; distance *= 2) {
        WarpValues<Value, warps> before = values;
        for (unsigned w = distance; w < warps; w++)
            values.of_warp[w] = operation(before.of_warp[w], before.of_warp[w - distance]);
    }
    return warp ? values.of_warp[warp - 1] : T();
}

template <unsigned SIZE, class T, class Operator>
__forceinline__ T up_to_here(const large_tile<SIZE>& tile, T value, Operator& operation) {
    value = running(warp_tile<32>(), value, operation);
    T earlier = earlier_warps(tile, value, operation);
    return tile.thread_rank() < 32 ? value : operation(value, earlier);
}

template <unsigned SIZE, class T, class Operator>
__forceinline__ T before_here(const large_tile<SIZE>& tile, T value, Operator& operation) {
    value = running(warp_tile<32>(), value, operation);
    T earlier = earlier_warps(tile, value, operation), in_warp = warp_tile<32>().shfl_up(value, 1);
    if (tile.thread_rank() % 32 == 0) return earlier;
    return tile.thread_rank() < 32 ? in_warp : operation(in_warp, earlier);
}

}  // namespace gpunn_emulator

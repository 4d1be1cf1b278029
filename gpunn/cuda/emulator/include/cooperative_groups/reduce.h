// Stands for CUDA's header of this name.
#pragma once
#include "../cooperative_groups.h"

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

// Every lane gets the same: partners add the same two numbers.
template <unsigned SIZE, class Parent, class T, class Operation>
__forceinline__ T reduce(const thread_block_tile<SIZE, Parent>& tile, T value, Operation operation) {
    for (unsigned distance = SIZE / 2; distance; distance /= 2) value = operation(value, tile.shfl_xor(value, distance));
    return value;
}

}  // namespace cooperative_groups

// Shuffles, votes, matches and reductions of a warp.
//
// A new collective is a payload and an operation over the payloads of all lanes; see `warp_collective`.
#pragma once

namespace gpunn_emulator {

template <class T> struct Shuffle {
    T value, result;
    int source;
};

// A value from a lane that does not take part is undefined in CUDA: bytes of 0xff make it a NaN, or -1.
template <class T> GPUNN_UNWATCHED void shuffle_operation(void** payloads, unsigned lanes) {
    for (unsigned lane = 0; lane < 32; lane++) {
        if (!(lanes >> lane & 1)) continue;
        Shuffle<T>* shuffle = (Shuffle<T>*)payloads[lane];
        if (lanes >> shuffle->source & 1) shuffle->result = ((Shuffle<T>*)payloads[shuffle->source])->value;
        else __builtin_memset((void*)&shuffle->result, 0xff, sizeof(T));
    }
}

template <class T> __forceinline__ T shuffle(unsigned mask, T value, int source) {
    static_assert(sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8,
                  "shuffles take types of 2, 4 or 8 bytes");
    Shuffle<T> payload{value, value, source};
    warp_collective(mask, &payload, shuffle_operation<T>);
    return payload.result;
}

struct Ballot {
    int predicate;
    unsigned result;
};

inline GPUNN_UNWATCHED void ballot_operation(void** payloads, unsigned lanes) {
    unsigned ballot = 0;
    for (unsigned lane = 0; lane < 32; lane++)
        if ((lanes >> lane & 1) && ((Ballot*)payloads[lane])->predicate) ballot |= 1u << lane;
    for (unsigned lane = 0; lane < 32; lane++)
        if (lanes >> lane & 1) ((Ballot*)payloads[lane])->result = ballot;
}

template <class T> struct Match {
    T value;
    unsigned result;
};

template <class T> GPUNN_UNWATCHED void match_operation(void** payloads, unsigned lanes) {
    for (unsigned lane = 0; lane < 32; lane++) {
        if (!(lanes >> lane & 1)) continue;
        Match<T>* match = (Match<T>*)payloads[lane];
        match->result = 0;
        for (unsigned other = 0; other < 32; other++)
            if ((lanes >> other & 1) &&
                __builtin_memcmp(&((Match<T>*)payloads[other])->value, &match->value, sizeof(T)) == 0)
                match->result |= 1u << other;
    }
}

template <class T> struct Reduction { T value, result; };

struct Add {
    template <class T> static T of(T a, T b) { return a + b; }
};
struct Min {
    template <class T> static T of(T a, T b) { return a < b ? a : b; }
};
struct Max {
    template <class T> static T of(T a, T b) { return a > b ? a : b; }
};
struct And {
    template <class T> static T of(T a, T b) { return a & b; }
};
struct Or {
    template <class T> static T of(T a, T b) { return a | b; }
};
struct Xor {
    template <class T> static T of(T a, T b) { return a ^ b; }
};

template <class T, class Operator> GPUNN_UNWATCHED void reduce_operation(void** payloads, unsigned lanes) {
    unsigned rest = lanes & (lanes - 1);
    T total = ((Reduction<T>*)payloads[__builtin_ctz(lanes)])->value;
    for (; rest; rest &= rest - 1)
        total = Operator::of(total, ((Reduction<T>*)payloads[__builtin_ctz(rest)])->value);
    for (; lanes; lanes &= lanes - 1) ((Reduction<T>*)payloads[__builtin_ctz(lanes)])->result = total;
}

template <class Operator, class T> __forceinline__ T reduce(unsigned mask, T value) {
    Reduction<T> payload{value, value};
    warp_collective(mask, &payload, reduce_operation<T, Operator>);
    return payload.result;
}

// Lanes are counted inside segments of `width`, a power of two.
inline unsigned segment_start(unsigned lane, int width) { return lane & ~(unsigned)(width - 1); }
inline unsigned segment_end(unsigned lane, int width) { return lane | (unsigned)(width - 1); }

}  // namespace gpunn_emulator

template <class T> __forceinline__ T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
    unsigned lane = gpunn_emulator::current.thread->lane;
    unsigned from = gpunn_emulator::segment_start(lane, width) | ((unsigned)source & (unsigned)(width - 1));
    return gpunn_emulator::shuffle(mask, value, (int)from);
}

template <class T> __forceinline__ T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    unsigned lane = gpunn_emulator::current.thread->lane;
    unsigned inside = lane - gpunn_emulator::segment_start(lane, width);
    return gpunn_emulator::shuffle(mask, value, (int)(inside < delta ? lane : lane - delta));
}

template <class T>
__forceinline__ T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    unsigned lane = gpunn_emulator::current.thread->lane;
    unsigned rest = gpunn_emulator::segment_end(lane, width) - lane;
    return gpunn_emulator::shuffle(mask, value, (int)(delta > rest ? lane : lane + delta));
}

template <class T> __forceinline__ T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32) {
    unsigned lane = gpunn_emulator::current.thread->lane;
    unsigned from = lane ^ (unsigned)lane_mask;
    return gpunn_emulator::shuffle(mask, value,
                                   (int)(from > gpunn_emulator::segment_end(lane, width) ? lane : from));
}

__forceinline__ unsigned __ballot_sync(unsigned mask, int predicate) {
    gpunn_emulator::Ballot payload{predicate, 0};
    gpunn_emulator::warp_collective(mask, &payload, gpunn_emulator::ballot_operation);
    return payload.result;
}

__forceinline__ int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
__forceinline__ int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }
#define __activemask() \
    (::gpunn_emulator::active_mask(__COUNTER__))  // a macro for the reason told in barriers.h

template <class T> __forceinline__ unsigned __match_any_sync(unsigned mask, T value) {
    gpunn_emulator::Match<T> payload{value, 0};
    gpunn_emulator::warp_collective(mask, &payload, gpunn_emulator::match_operation<T>);
    return payload.result;
}

template <class T> __forceinline__ unsigned __match_all_sync(unsigned mask, T value, int* all_same) {
    unsigned matching = __match_any_sync(mask, value);
    *all_same = matching == mask;
    return *all_same ? mask : 0;
}

#define GPUNN_REDUCE(name, Operator)                                                 \
    __forceinline__ unsigned __reduce_##name##_sync(unsigned mask, unsigned value) { \
        return gpunn_emulator::reduce<gpunn_emulator::Operator>(mask, value);        \
    }

#define GPUNN_REDUCE_SIGNED(name, Operator)                                   \
    __forceinline__ int __reduce_##name##_sync(unsigned mask, int value) {    \
        return gpunn_emulator::reduce<gpunn_emulator::Operator>(mask, value); \
    }

GPUNN_REDUCE(add, Add)
GPUNN_REDUCE(min, Min)
GPUNN_REDUCE(max, Max)
GPUNN_REDUCE(and, And)
GPUNN_REDUCE(or, Or)
GPUNN_REDUCE(xor, Xor)
GPUNN_REDUCE_SIGNED(add, Add)
GPUNN_REDUCE_SIGNED(min, Min)
GPUNN_REDUCE_SIGNED(max, Max)

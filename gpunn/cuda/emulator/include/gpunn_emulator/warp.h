// Shuffles, votes, matches and reductions of a warp.
//
// A new collective is a payload and an operation over the payloads of all lanes; see `warp_collective`.
#pragma once

namespace gpunn_emulator {

template <class T> struct Shuffle {
    T value, result;
    unsigned source;
    bool shifted;  // up or down: lanes at the end take what nobody needs
};

// A value from a lane that does not take part is undefined in CUDA: bytes of 0xff make it a NaN, or -1.
template <class T> GPUNN_UNWATCHED void shuffle_operation(void** payloads, unsigned lanes) {
    for (unsigned lane = 0; lane < 32; lane++) {
        if (!(lanes >> lane & 1)) continue;
        Shuffle<T>* shuffle = (Shuffle<T>*)payloads[lane];
        if (lanes >> shuffle->source & 1) shuffle->result = ((Shuffle<T>*)payloads[shuffle->source])->value;
        else {
#ifdef GPUNN_EMULATOR_CHECK
            note_missing_lane(lane, shuffle->source, shuffle->shifted);
#endif
            __builtin_memset((void*)&shuffle->result, 0xff, sizeof(T));
        }
    }
}

// The value of the lane `source`.
template <class T> __forceinline__ T from_lane(unsigned mask, T value, unsigned source, bool shifted = false) {
    Shuffle<T> payload{value, value, source, shifted};
    warp_collective(mask, &payload, shuffle_operation<T>);
    return payload.result;
}

template <class T> __forceinline__ T shuffle(unsigned mask, T value, unsigned source, bool shifted = false) {
    static_assert(sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8 || is_integer<T>::value,
                  "shuffles take types of 2, 4 or 8 bytes");
    return from_lane(mask, value, source, shifted);
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

// Where a shuffle takes a lane's value from. Lanes are counted inside segments of `width`, a power of two; a lane whose
// source lies outside keeps its own.
inline unsigned segment_start(unsigned lane, int width) { return lane & ~(unsigned)(width - 1); }
inline unsigned segment_end(unsigned lane, int width) { return lane | (unsigned)(width - 1); }
inline unsigned source_at(int rank, int width) {
    return segment_start(current.thread->lane, width) | ((unsigned)rank & (unsigned)(width - 1));
}
inline unsigned source_up(unsigned delta, int width) {
    unsigned lane = current.thread->lane;
    return lane - segment_start(lane, width) < delta ? lane : lane - delta;
}
inline unsigned source_down(unsigned delta, int width) {
    unsigned lane = current.thread->lane;
    return delta > segment_end(lane, width) - lane ? lane : lane + delta;
}
inline unsigned source_xor(unsigned lanes, int width) {
    unsigned lane = current.thread->lane, from = lane ^ lanes;
    return from > segment_end(lane, width) ? lane : from;
}

template <class T> __forceinline__ T shift(unsigned mask, T value, unsigned source, unsigned delta, int width) {
#ifdef GPUNN_EMULATOR_CHECK
    if (delta >= (unsigned)width) note_empty_shift(delta, width);
#endif
    return shuffle(mask, value, source, true);
}

}  // namespace gpunn_emulator

template <class T> __forceinline__ T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
    return gpunn_emulator::shuffle(mask, value, gpunn_emulator::source_at(source, width));
}

template <class T> __forceinline__ T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    return gpunn_emulator::shift(mask, value, gpunn_emulator::source_up(delta, width), delta, width);
}

template <class T>
__forceinline__ T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    return gpunn_emulator::shift(mask, value, gpunn_emulator::source_down(delta, width), delta, width);
}

template <class T> __forceinline__ T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32) {
    return gpunn_emulator::shuffle(mask, value, gpunn_emulator::source_xor((unsigned)lane_mask, width));
}

__forceinline__ unsigned __ballot_sync(unsigned mask, int predicate) {
    gpunn_emulator::Ballot payload{predicate, 0};
    gpunn_emulator::warp_collective(mask, &payload, gpunn_emulator::ballot_operation);
    return payload.result;
}

__forceinline__ int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
__forceinline__ int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }
#define __activemask() gpunn_emulator::active_mask(__COUNTER__)  // a macro for the reason told in barriers.h

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

// Without a mask, of the lanes that happen to be there: CUDA has these for processors before sm_70 only.
#if __CUDA_ARCH__ < 700
#define __shfl(...) __shfl_sync(__activemask(), __VA_ARGS__)
#define __shfl_up(...) __shfl_up_sync(__activemask(), __VA_ARGS__)
#define __shfl_down(...) __shfl_down_sync(__activemask(), __VA_ARGS__)
#define __shfl_xor(...) __shfl_xor_sync(__activemask(), __VA_ARGS__)
#define __ballot(predicate) __ballot_sync(__activemask(), predicate)
#define __any(predicate) __any_sync(__activemask(), predicate)
#define __all(predicate) __all_sync(__activemask(), predicate)
#else
namespace gpunn_emulator {
struct AnyArgument {  // so that a function of the source's own comes first
    template <class T> AnyArgument(const T&) {}
};
}  // namespace gpunn_emulator
#define GPUNN_WITHOUT_MASK(name)                                                                           \
    __attribute__((error(#name " has no mask, which sm_70 and later need: use " #name "_sync"))) int name( \
        gpunn_emulator::AnyArgument, gpunn_emulator::AnyArgument = 0, gpunn_emulator::AnyArgument = 0);
GPUNN_WITHOUT_MASK(__shfl)
GPUNN_WITHOUT_MASK(__shfl_up)
GPUNN_WITHOUT_MASK(__shfl_down)
GPUNN_WITHOUT_MASK(__shfl_xor)
GPUNN_WITHOUT_MASK(__ballot)
GPUNN_WITHOUT_MASK(__any)
GPUNN_WITHOUT_MASK(__all)
#endif

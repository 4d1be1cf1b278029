// Atomic functions. They are atomic between host threads too, so blocks that run at the same time may share a
// counter.
#pragma once

namespace gpunn_emulator {

#ifdef GPUNN_EMULATOR_WATCH
#define GPUNN_NOTE_ATOMIC(address, reads) \
    ::gpunn_emulator::note_atomic(address, sizeof *(address), __builtin_return_address(0), reads)
#define GPUNN_NOTE_COMPARE(address, compare) \
    ::gpunn_emulator::note_compare_and_swap(address, sizeof *(address), &(compare))
#else
#define GPUNN_NOTE_ATOMIC(address, reads) ((void)0)
#define GPUNN_NOTE_COMPARE(address, compare) ((void)0)
#endif

// Replaces *address by change(*address) and returns what was there before.
template <bool reads = true, class T, class Change> GPUNN_UNWATCHED T change_word(T* address, Change change) {
    typedef typename word<sizeof(T)>::type Word;
    GPUNN_NOTE_ATOMIC(address, reads);
    Word before = __atomic_load_n((Word*)address, __ATOMIC_RELAXED);
    for (;;) {
        Word after = bit_cast<Word>(change(bit_cast<T>(before)));
        if (__atomic_compare_exchange_n((Word*)address, &before, after, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED))
            return bit_cast<T>(before);
    }
}

template <bool reads = true, class T, class Change> __forceinline__ T atomically(T* address, Change change) {
    static_assert(sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8,
                  "atomics take types of 2, 4 or 8 bytes");
    return change_word<reads>(address, change);
}

// Integers wrap, as they do on hardware.
template <class T, class N> inline T wrapping_sum(T a, N b) { return a + b; }
template <class T, class N> inline T wrapping_difference(T a, N b) { return a - b; }
template <class N> inline int wrapping_sum(int a, N b) { return (int)((unsigned)a + (unsigned)b); }
template <class N> inline int wrapping_difference(int a, N b) { return (int)((unsigned)a - (unsigned)b); }
template <class N> inline long long wrapping_sum(long long a, N b) {
    return (long long)((unsigned long long)a + (unsigned long long)b);
}
template <class N> inline long long wrapping_difference(long long a, N b) {
    return (long long)((unsigned long long)a - (unsigned long long)b);
}

template <class T> inline bool same_bits(const T& a, const T& b) { return !__builtin_memcmp(&a, &b, sizeof a); }

}  // namespace gpunn_emulator

// `identity` keeps the value out of type deduction, so that atomicAdd(&float_total, 1) means what it does in
// CUDA. Integer sums wrap on hardware: they are computed unsigned, where the language lets them.
#define GPUNN_ATOMIC(name, expression)                                                          \
    template <class T>                                                                          \
    __forceinline__ T name(T* address, typename gpunn_emulator::identity<T>::type value) {      \
        return gpunn_emulator::atomically(address, [value](T old) -> T { return expression; }); \
    }

GPUNN_ATOMIC(atomicMin, value < old ? value : old)
GPUNN_ATOMIC(atomicMax, value > old ? value : old)
GPUNN_ATOMIC(atomicAnd, (old)&value)
GPUNN_ATOMIC(atomicOr, old | value)
GPUNN_ATOMIC(atomicXor, old ^ value)
GPUNN_ATOMIC(atomicInc, old >= value ? 0 : old + 1)
GPUNN_ATOMIC(atomicDec, old == 0 || old > value ? value : old - 1)
GPUNN_ATOMIC(atomicAdd, old + value)
GPUNN_ATOMIC(atomicSub, old - value)

__forceinline__ int atomicAdd(int* address, int value) {
    return (int)atomicAdd((unsigned*)address, (unsigned)value);
}
__forceinline__ int atomicSub(int* address, int value) {
    return (int)atomicSub((unsigned*)address, (unsigned)value);
}
// Each element by itself, as CUDA promises.
__forceinline__ float2 atomicAdd(float2* address, float2 value) {
    return {atomicAdd(&address->x, value.x), atomicAdd(&address->y, value.y)};
}
__forceinline__ float4 atomicAdd(float4* address, float4 value) {
    return {atomicAdd(&address->x, value.x), atomicAdd(&address->y, value.y), atomicAdd(&address->z, value.z),
            atomicAdd(&address->w, value.w)};
}

template <class T> __forceinline__ T atomicExch(T* address, typename gpunn_emulator::identity<T>::type value) {
    return gpunn_emulator::atomically<false>(address, [value](T) -> T { return value; });
}

template <class T> __forceinline__ T atomicCAS(T* address, typename gpunn_emulator::identity<T>::type compare,
                                               typename gpunn_emulator::identity<T>::type value) {
    GPUNN_NOTE_COMPARE(address, compare);
    return gpunn_emulator::atomically(address, [=](T old) -> T { return old == compare ? value : old; });
}

// Of a block or of the whole system: atomic for all, here.
#define GPUNN_ATOMIC_SCOPES(name)                                                                                \
    template <class T> __forceinline__ T name##_block(T* address, typename gpunn_emulator::identity<T>::type value) {  \
        return name(address, value);                                                                             \
    }                                                                                                            \
    template <class T> __forceinline__ T name##_system(T* address, typename gpunn_emulator::identity<T>::type value) { \
        return name(address, value);                                                                             \
    }
GPUNN_ATOMIC_SCOPES(atomicAdd)
GPUNN_ATOMIC_SCOPES(atomicSub)
GPUNN_ATOMIC_SCOPES(atomicMin)
GPUNN_ATOMIC_SCOPES(atomicMax)
GPUNN_ATOMIC_SCOPES(atomicExch)
GPUNN_ATOMIC_SCOPES(atomicAnd)
GPUNN_ATOMIC_SCOPES(atomicOr)
GPUNN_ATOMIC_SCOPES(atomicXor)
GPUNN_ATOMIC_SCOPES(atomicInc)
GPUNN_ATOMIC_SCOPES(atomicDec)

template <class T> __forceinline__ T atomicCAS_block(T* address, typename gpunn_emulator::identity<T>::type compare,
                                                     typename gpunn_emulator::identity<T>::type value) {
    return atomicCAS(address, compare, value);
}
template <class T> __forceinline__ T atomicCAS_system(T* address, typename gpunn_emulator::identity<T>::type compare,
                                                      typename gpunn_emulator::identity<T>::type value) {
    return atomicCAS(address, compare, value);
}

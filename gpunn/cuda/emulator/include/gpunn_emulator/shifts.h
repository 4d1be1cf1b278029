// Shifts as a GPU does them: by as many bits as a number has, or more, all are shifted out. ../../shifts.py has the
// shifts of a kernel come here, `x << n` as `x << all_bits << n`, unless n is a plain number.
#pragma once

namespace gpunn_emulator {

struct AllBits {};
constexpr AllBits all_bits{};

template <class T> struct unsigned_of { typedef T type; };
template <> struct unsigned_of<int> { typedef unsigned type; };
template <> struct unsigned_of<long> { typedef unsigned long type; };
template <> struct unsigned_of<long long> { typedef unsigned long long type; };
template <> struct unsigned_of<__int128> { typedef unsigned __int128 type; };

#define GPUNN_SHIFT __attribute__((always_inline)) inline constexpr

template <class T> GPUNN_SHIFT T told(T result, unsigned n) {
#ifdef GPUNN_EMULATOR_CHECK
    return n < 8 * sizeof(T) ? result : (note_shift((int)n), result);
#else
    return (void)n, result;
#endif
}

// Without a branch: counts would see one.
template <class T> GPUNN_SHIFT T nothing_unless(bool some, T x) { return (T)(x & (T)(0 - (T)some)); }

template <class T> GPUNN_SHIFT T shifted_left(T x, unsigned n) {
    typedef typename unsigned_of<T>::type U;
    return told((T)nothing_unless<U>(n < 8 * sizeof(T), (U)((U)x << (n & (8 * sizeof(T) - 1)))), n);
}

// What is left of a number with a sign is its sign.
template <class T> GPUNN_SHIFT T shifted_right(T x, unsigned n) {
    typedef typename unsigned_of<T>::type U;
    return told((T)-1 < 0 ? (T)(x >> ((n | (0u - (unsigned)(n >= 8 * sizeof(T)))) & (8 * sizeof(T) - 1)))
                          : (T)nothing_unless<U>(n < 8 * sizeof(T), (U)((U)x >> (n & (8 * sizeof(T) - 1)))),
                n);
}

template <class T> T&& any_of();

// Whether the language shifts it: neither a class nor an enum class.
template <class T> struct is_number {
    template <class U> static constexpr bool test(decltype(+any_of<U>())*) { return true; }
    template <class U> static constexpr bool test(...) { return false; }
    static constexpr bool value = !__is_class(T) && !__is_union(T) && test<T>(nullptr);
};

template <bool> struct only_if {};
template <> struct only_if<true> { typedef int type; };
#define GPUNN_IF_NUMBER(T) class = typename only_if<is_number<T>::value>::type
#define GPUNN_IF_OTHER(T) typename only_if<!is_number<plain<T>>::value>::type = 0

template <class T> struct Number { T x; };    // promoted
template <class T> struct Other { T&& x; };   // with operators of its own
template <class N> struct ShiftBy { N n; };

#define GPUNN_SHIFT_OPERATOR(op, function)                                                                        \
    template <class T, GPUNN_IF_NUMBER(T), class P = decltype(+any_of<T>())>                                      \
    GPUNN_SHIFT Number<P> operator op(T x, AllBits) {                                                             \
        return {+x};                                                                                              \
    }                                                                                                             \
    template <class T, class N> GPUNN_SHIFT T operator op(Number<T> number, N n) {                                \
        return function(number.x, (unsigned)n);                                                                   \
    }                                                                                                             \
    template <class T, GPUNN_IF_OTHER(T)> GPUNN_SHIFT Other<T> operator op(T&& x, AllBits) {                      \
        return {static_cast<T&&>(x)};                                                                             \
    }                                                                                                             \
    template <class T, class N>                                                                                   \
    GPUNN_SHIFT auto operator op(Other<T> other, N&& n)->decltype(static_cast<T&&>(other.x) op static_cast<N&&>(n)) { \
        return static_cast<T&&>(other.x) op static_cast<N&&>(n);                                                  \
    }                                                                                                             \
    template <class N> GPUNN_SHIFT ShiftBy<N> operator op##=(AllBits, N n) {                                      \
        return {n};                                                                                               \
    }                                                                                                             \
    template <class T, class N, GPUNN_IF_NUMBER(T)> GPUNN_SHIFT T& operator op##=(T& x, ShiftBy<N> by) {          \
        return x = (plain<T>)function(+x, (unsigned)by.n);                                                        \
    }                                                                                                             \
    template <class T, class N, GPUNN_IF_OTHER(T)>                                                                \
    GPUNN_SHIFT auto operator op##=(T&& x, ShiftBy<N> by)->decltype(static_cast<T&&>(x) op##= by.n) {             \
        return static_cast<T&&>(x) op##= by.n;                                                                    \
    }
GPUNN_SHIFT_OPERATOR(<<, shifted_left)
GPUNN_SHIFT_OPERATOR(>>, shifted_right)

}  // namespace gpunn_emulator

// Integer functions on two halfwords or four bytes of a word, and on three numbers at once.
#pragma once

namespace gpunn_emulator {

// Each lane of the result is change(lane of a, lane of b), computed as an int and cut to the lane.
template <class Lane, class Change> inline unsigned by_lanes(unsigned a, unsigned b, Change change) {
    const unsigned bits = 8 * sizeof(Lane);
    unsigned result = 0;
    for (unsigned i = 0; i < 32; i += bits)
        result |= ((unsigned)change((int)(Lane)(a >> i), (int)(Lane)(b >> i)) & (0xffffffffu >> (32 - bits))) << i;
    return result;
}

template <class Lane> inline int saturated(int x) {
    const bool has_sign = (Lane)-1 < 0;
    const int most = (int)(0xffffffffu >> (32 - 8 * (int)sizeof(Lane) + has_sign)), least = has_sign ? -most - 1 : 0;
    return x < least ? least : x > most ? most : x;
}

inline int difference(int a, int b) { return a > b ? a - b : b - a; }

template <class Lane> inline unsigned sum_of_differences(unsigned a, unsigned b) {
    unsigned sum = 0;
    by_lanes<Lane>(a, b, [&](int x, int y) { return sum += (unsigned)difference(x, y), 0; });
    return sum;
}

}  // namespace gpunn_emulator

#define GPUNN_LANES(name, Lane, expression)                                                          \
    inline unsigned name(unsigned a, unsigned b) {                                                   \
        return gpunn_emulator::by_lanes<Lane>(a, b, [](int x, int y) -> int { return expression; }); \
    }
#define GPUNN_LANES_OF_ONE(name, Lane, expression)                                                 \
    inline unsigned name(unsigned a) {                                                             \
        return gpunn_emulator::by_lanes<Lane>(a, 0, [](int x, int) -> int { return expression; }); \
    }
#define GPUNN_COMPARE(name, Lane, relation)                \
    GPUNN_LANES(__vcmp##name, Lane, x relation y ? -1 : 0) \
    GPUNN_LANES(__vset##name, Lane, x relation y)

#define GPUNN_SIMD(n, Signed, Unsigned)                                                                             \
    GPUNN_LANES_OF_ONE(__vabs##n, Signed, x < 0 ? -x : x)                                                           \
    GPUNN_LANES_OF_ONE(__vabsss##n, Signed, gpunn_emulator::saturated<Signed>(x < 0 ? -x : x))                      \
    GPUNN_LANES_OF_ONE(__vneg##n, Signed, -x)                                                                       \
    GPUNN_LANES_OF_ONE(__vnegss##n, Signed, gpunn_emulator::saturated<Signed>(-x))                                  \
    GPUNN_LANES(__vadd##n, Unsigned, x + y)                                                                         \
    GPUNN_LANES(__vaddss##n, Signed, gpunn_emulator::saturated<Signed>(x + y))                                      \
    GPUNN_LANES(__vaddus##n, Unsigned, gpunn_emulator::saturated<Unsigned>(x + y))                                  \
    GPUNN_LANES(__vsub##n, Unsigned, x - y)                                                                         \
    GPUNN_LANES(__vsubss##n, Signed, gpunn_emulator::saturated<Signed>(x - y))                                      \
    GPUNN_LANES(__vsubus##n, Unsigned, gpunn_emulator::saturated<Unsigned>(x - y))                                  \
    GPUNN_LANES(__vabsdiffs##n, Signed, gpunn_emulator::difference(x, y))                                           \
    GPUNN_LANES(__vabsdiffu##n, Unsigned, gpunn_emulator::difference(x, y))                                         \
    GPUNN_LANES(__vavgs##n, Signed, (x + y + (x + y >= 0)) >> 1) /* halves away from 0 */                           \
    GPUNN_LANES(__vavgu##n, Unsigned, (x + y + 1) >> 1)                                                             \
    GPUNN_LANES(__vhaddu##n, Unsigned, (x + y) >> 1)                                                                \
    GPUNN_LANES(__vmaxs##n, Signed, x > y ? x : y)                                                                  \
    GPUNN_LANES(__vmaxu##n, Unsigned, x > y ? x : y)                                                                \
    GPUNN_LANES(__vmins##n, Signed, x < y ? x : y)                                                                  \
    GPUNN_LANES(__vminu##n, Unsigned, x < y ? x : y)                                                                \
    GPUNN_COMPARE(eq##n, Unsigned, ==)                                                                              \
    GPUNN_COMPARE(ne##n, Unsigned, !=)                                                                              \
    GPUNN_COMPARE(ges##n, Signed, >=)                                                                               \
    GPUNN_COMPARE(geu##n, Unsigned, >=)                                                                             \
    GPUNN_COMPARE(gts##n, Signed, >)                                                                                \
    GPUNN_COMPARE(gtu##n, Unsigned, >)                                                                              \
    GPUNN_COMPARE(les##n, Signed, <=)                                                                               \
    GPUNN_COMPARE(leu##n, Unsigned, <=)                                                                             \
    GPUNN_COMPARE(lts##n, Signed, <)                                                                                \
    GPUNN_COMPARE(ltu##n, Unsigned, <)                                                                              \
    inline unsigned __vsads##n(unsigned a, unsigned b) { return gpunn_emulator::sum_of_differences<Signed>(a, b); } \
    inline unsigned __vsadu##n(unsigned a, unsigned b) { return gpunn_emulator::sum_of_differences<Unsigned>(a, b); }

GPUNN_SIMD(2, short, unsigned short)
GPUNN_SIMD(4, signed char, unsigned char)

// --- of dynamic programming ----------------------------------------------------------------------------------------

namespace gpunn_emulator {

template <class T> inline T larger_of(T a, T b) { return a > b ? a : b; }
template <class T> inline T smaller_of(T a, T b) { return a < b ? a : b; }

}  // namespace gpunn_emulator

// For m = max and min, of numbers of one type: `chosen` of two is the larger or the smaller. Sums wrap.
#define GPUNN_OF_THREE(m, type, T, chosen, sum)                                   \
    inline T __vi##m##3_##type(T a, T b, T c) { return chosen(chosen(a, b), c); } \
    inline T __viadd##m##_##type(T a, T b, T c) { return chosen(sum(a, b), c); }
#define GPUNN_OF_THREE_RELU(m, type, T, chosen, positive)                                                \
    inline T __vi##m##_##type##_relu(T a, T b) { return positive(chosen(a, b), 0); }                     \
    inline T __vi##m##3_##type##_relu(T a, T b, T c) { return positive(__vi##m##3_##type(a, b, c), 0); } \
    inline T __viadd##m##_##type##_relu(T a, T b, T c) { return positive(__viadd##m##_##type(a, b, c), 0); }

#define GPUNN_WRAPPED(a, b) (int)((unsigned)(a) + (unsigned)(b))
#define GPUNN_SUM(a, b) ((a) + (b))
GPUNN_OF_THREE(max, s32, int, gpunn_emulator::larger_of, GPUNN_WRAPPED)
GPUNN_OF_THREE(min, s32, int, gpunn_emulator::smaller_of, GPUNN_WRAPPED)
GPUNN_OF_THREE(max, u32, unsigned, gpunn_emulator::larger_of, GPUNN_SUM)
GPUNN_OF_THREE(min, u32, unsigned, gpunn_emulator::smaller_of, GPUNN_SUM)
GPUNN_OF_THREE(max, s16x2, unsigned, __vmaxs2, __vadd2)
GPUNN_OF_THREE(min, s16x2, unsigned, __vmins2, __vadd2)
GPUNN_OF_THREE(max, u16x2, unsigned, __vmaxu2, __vadd2)
GPUNN_OF_THREE(min, u16x2, unsigned, __vminu2, __vadd2)
GPUNN_OF_THREE_RELU(max, s32, int, gpunn_emulator::larger_of, gpunn_emulator::larger_of)
GPUNN_OF_THREE_RELU(min, s32, int, gpunn_emulator::smaller_of, gpunn_emulator::larger_of)
GPUNN_OF_THREE_RELU(max, s16x2, unsigned, __vmaxs2, __vmaxs2)
GPUNN_OF_THREE_RELU(min, s16x2, unsigned, __vmins2, __vmaxs2)

// These say as well whether it was a that was chosen; also if both are the same.
#define GPUNN_WHICH(m, type, T, chosen, relation) \
    inline T __vib##m##_##type(T a, T b, bool* first) { return *first = a relation b, chosen(a, b); }
#define GPUNN_WHICH_OF_PAIRS(m, type, Lane, chosen, relation)                          \
    inline unsigned __vib##m##_##type(unsigned a, unsigned b, bool* high, bool* low) { \
        *high = (Lane)(a >> 16) relation (Lane)(b >> 16);                              \
        *low = (Lane)a relation (Lane)b;                                               \
        return chosen(a, b);                                                           \
    }
GPUNN_WHICH(max, s32, int, gpunn_emulator::larger_of, >=)
GPUNN_WHICH(min, s32, int, gpunn_emulator::smaller_of, <=)
GPUNN_WHICH(max, u32, unsigned, gpunn_emulator::larger_of, >=)
GPUNN_WHICH(min, u32, unsigned, gpunn_emulator::smaller_of, <=)
GPUNN_WHICH_OF_PAIRS(max, s16x2, short, __vmaxs2, >=)
GPUNN_WHICH_OF_PAIRS(min, s16x2, short, __vmins2, <=)
GPUNN_WHICH_OF_PAIRS(max, u16x2, unsigned short, __vmaxu2, >=)
GPUNN_WHICH_OF_PAIRS(min, u16x2, unsigned short, __vminu2, <=)

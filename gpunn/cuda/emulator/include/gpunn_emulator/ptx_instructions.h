// What inline PTX becomes: ../../ptx.py turns every instruction of an asm statement into a call of one of these, which
// have the names of the instructions. What they compute is told by the PTX ISA manual.
//
// A register is a variable of an unsigned type of its width, a predicate a bool. `read` takes a value of an
// instruction's type from it, `write` puts one in.
#pragma once
#include "half_bits.h"

namespace gpunn_emulator {
namespace ptx {

typedef bool pred;
typedef signed char s8;
typedef unsigned char u8, b8;
typedef short s16;
typedef unsigned short u16, b16;
typedef int s32;
typedef unsigned int u32, b32;
typedef long long s64;
typedef unsigned long long u64, b64;
typedef __int128 s128;
typedef unsigned __int128 u128;
typedef float f32;
typedef double f64;
struct f16 {
    u16 bits;
};
struct bf16 {
    u16 bits;
};
// Two elements, the first in the lower half.
template <class T> struct __attribute__((aligned(4))) Pair {
    T x, y;
};
typedef Pair<f16> f16x2;
typedef Pair<bf16> bf16x2;
typedef Pair<s16> s16x2;
typedef Pair<u16> u16x2;

template <class T, unsigned n> struct __attribute__((aligned(n * sizeof(T)))) Vector {
    T elements[n];
};
template <class T, unsigned n> struct List {
    T elements[n];
};
template <class First, class Second> struct Two {
    First first;
    Second second;
};

// --- registers -------------------------------------------------------------------------------------------

// The wider register of a narrow value has more bits: they are cut off here, and extended there.
template <class T, class Register> inline T read(Register from) {
    typedef typename word<sizeof(T)>::type Word;
    return bit_cast<T>((Word)from);
}
template <class T> struct is_signed_integer {
    static constexpr bool value = false;
};
template <> struct is_signed_integer<s8> {
    static constexpr bool value = true;
};
template <> struct is_signed_integer<s16> {
    static constexpr bool value = true;
};
template <> struct is_signed_integer<s32> {
    static constexpr bool value = true;
};
template <> struct is_signed_integer<s64> {
    static constexpr bool value = true;
};
template <class Register, class T> __forceinline__ void write(Register& to, T value) {
    const unsigned unused = 64 - 8 * sizeof(T);
    u64 bits = bit_cast<typename word<sizeof(T)>::type>(value);
    to = is_signed_integer<T>::value ? (Register)((s64)(bits << unused) >> unused) : (Register)bits;
}
inline void write(bool& to, bool value) { to = value; }
template <> inline bool read<bool, bool>(bool from) { return from; }

// What an asm statement takes and gives. An operand must have the size of its constraint, as CUDA asks.
template <unsigned bytes, bool fits> struct operand_of_size {};
template <unsigned bytes> struct operand_of_size<bytes, true> { typedef typename word<bytes>::type type; };
template <class T> struct is_float {
    static constexpr bool value = false;
};
template <> struct is_float<float> {
    static constexpr bool value = true;
};
template <> struct is_float<double> {
    static constexpr bool value = true;
};
#define GPUNN_PTX_CONSTRAINT(name, bytes, floating)                                                          \
    template <class T>                                                                                       \
    inline typename operand_of_size<bytes, sizeof(T) == bytes && is_float<T>::value == floating>::type       \
    operand_of_constraint_##name(T value) {                                                                  \
        return bit_cast<typename word<bytes>::type>(value);                                                  \
    }                                                                                                        \
    template <class T, class Register>                                                                       \
    __forceinline__ typename operand_of_size<bytes, sizeof(T) == bytes && is_float<T>::value == floating>::type \
    result_of_constraint_##name(T& to, Register from) {                                                      \
        to = bit_cast<T>(from);                                                                              \
        return from;                                                                                         \
    }
GPUNN_PTX_CONSTRAINT(h, 2, false)
GPUNN_PTX_CONSTRAINT(r, 4, false)
GPUNN_PTX_CONSTRAINT(l, 8, false)
GPUNN_PTX_CONSTRAINT(f, 4, true)
GPUNN_PTX_CONSTRAINT(d, 8, true)

template <class T> inline T mov(T a) { return a; }
template <class T, class From> inline T repack(From from) { return bit_cast<T>(from); }

// --- integers --------------------------------------------------------------------------------------------

template <class T> struct wider;
template <> struct wider<s16> { typedef s32 type; };
template <> struct wider<u16> { typedef u32 type; };
template <> struct wider<s32> { typedef s64 type; };
template <> struct wider<u32> { typedef u64 type; };
template <> struct wider<s64> { typedef s128 type; };
template <> struct wider<u64> { typedef u128 type; };

template <class T> struct limits {
    static constexpr unsigned bits = 8 * sizeof(T);
    static constexpr bool is_signed = is_signed_integer<T>::value;
    static constexpr T highest = (T)(~0ull >> (64 - bits + is_signed));
    static constexpr T lowest = is_signed ? (T)(-(s64)highest - 1) : (T)0;
};

// Sums and products wrap: they are computed unsigned, where C++ lets them.
template <class T> inline T add(T a, T b) { return (T)((u64)a + (u64)b); }
template <class T> inline T sub(T a, T b) { return (T)((u64)a - (u64)b); }
template <class T> inline T mul_lo(T a, T b) { return (T)((u64)a * (u64)b); }
template <class T> inline typename wider<T>::type mul_wide(T a, T b) {
    typedef typename wider<T>::type Wide;
    return (Wide)a * (Wide)b;
}
template <class T> inline T mul_hi(T a, T b) { return (T)(mul_wide(a, b) >> limits<T>::bits); }
template <class T> inline T mad_lo(T a, T b, T c) { return add(mul_lo(a, b), c); }
template <class T> inline T mad_hi(T a, T b, T c) { return add(mul_hi(a, b), c); }
template <class T> inline typename wider<T>::type mad_wide(T a, T b, typename wider<T>::type c) {
    return add(mul_wide(a, b), c);
}
inline s32 saturated(s64 x) { return x < -0x80000000ll ? -0x7fffffff - 1 : x > 0x7fffffff ? 0x7fffffff : (s32)x; }
inline s32 add_sat(s32 a, s32 b) { return saturated((s64)a + b); }
inline s32 sub_sat(s32 a, s32 b) { return saturated((s64)a - b); }
inline s32 mad_hi_sat(s32 a, s32 b, s32 c) { return saturated((s64)mul_hi(a, b) + c); }

// The low 24 bits of a and b; .hi has bits 16 to 47 of the product.
template <class T> inline s64 product24(T a, T b) {
    if (limits<T>::is_signed) return ((s64)(s32)((u32)a << 8) >> 8) * ((s64)(s32)((u32)b << 8) >> 8);
    return (s64)((u64)((u32)a & 0xffffffu) * ((u32)b & 0xffffffu));
}
template <class T> inline T mul24_lo(T a, T b) { return (T)(u32)product24(a, b); }
template <class T> inline T mul24_hi(T a, T b) { return (T)(u32)((u64)product24(a, b) >> 16); }
template <class T> inline T mad24_lo(T a, T b, T c) { return add(mul24_lo(a, b), c); }
template <class T> inline T mad24_hi(T a, T b, T c) { return add(mul24_hi(a, b), c); }
inline s32 mad24_hi_sat(s32 a, s32 b, s32 c) { return saturated((s64)mul24_hi(a, b) + c); }

template <class T> inline T sad(T a, T b, T c) { return add(c, a < b ? sub(b, a) : sub(a, b)); }
template <class T> inline T div(T a, T b) { return a / b; }
template <class T> inline T rem(T a, T b) { return a % b; }
template <class T> inline T abs(T a) { return a < 0 ? sub((T)0, a) : a; }
template <class T> inline T neg(T a) { return sub((T)0, a); }
template <class T> inline T min(T a, T b) { return b < a ? b : a; }
template <class T> inline T max(T a, T b) { return b > a ? b : a; }
template <class T> inline T relu(T a) { return a < 0 ? (T)0 : a; }

// The carry flag, which keeps its value from one asm statement to the next.
template <bool sets, class T> inline T add_carry(T a, T b, u32 carry) {
    u128 sum = (u128)a + b + carry;
    if (sets) current.thread->carry = (u32)(sum >> limits<T>::bits);
    return (T)sum;
}
template <bool sets, class T> inline T sub_borrow(T a, T b, u32 borrow) {
    u128 difference = (u128)a - b - borrow;
    if (sets) current.thread->carry = (u32)(difference >> limits<T>::bits) & 1;
    return (T)difference;
}
template <class T> inline T add_cc(T a, T b) { return add_carry<true>(a, b, 0); }
template <bool sets, class T> inline T addc(T a, T b) { return add_carry<sets>(a, b, current.thread->carry); }
template <class T> inline T sub_cc(T a, T b) { return sub_borrow<true>(a, b, 0); }
template <bool sets, class T> inline T subc(T a, T b) { return sub_borrow<sets>(a, b, current.thread->carry); }

template <class T> inline u32 popc(T a) { return (u32)__builtin_popcountll(a); }
template <class T> inline u32 clz(T a) { return a ? (u32)__builtin_clzll(a) - (64 - limits<T>::bits) : limits<T>::bits; }
inline u32 brev(u32 a) { return __brev(a); }
inline u64 brev(u64 a) { return __brevll(a); }

// Where the highest bit is that is not like the sign; what it must be shifted by to be the highest of all.
template <class T> inline u32 bfind(T a) {
    u64 bits = (u64)(limits<T>::is_signed && a < 0 ? (T)~a : a);
    return bits ? 63 - (u32)__builtin_clzll(bits) : 0xffffffffu;
}
template <class T> inline u32 bfind_shiftamt(T a) {
    u32 at = bfind(a);
    return at == 0xffffffffu ? at : limits<T>::bits - 1 - at;
}

template <class T> inline T bfe(T a, u32 position, u32 length) {
    const u32 bits = limits<T>::bits;
    u32 at = position & 0xff, count = length & 0xff;
    if (!count) return 0;
    u32 last = at + count - 1 < bits ? at + count - 1 : bits - 1;
    u64 field = at < bits ? (u64)(typename word<sizeof(T)>::type)a >> at : 0;
    if (count < 64) field &= (1ull << count) - 1;
    bool sign = limits<T>::is_signed && ((u64)a >> last & 1);
    u32 kept = at < bits ? last - at + 1 : 0;
    if (sign && kept < 64) field |= ~0ull << kept;
    return (T)field;
}
template <class T> inline T bfi(T from, T into, u32 position, u32 length) {
    u32 at = position & 0xff, count = length & 0xff;
    if (at >= limits<T>::bits || !count) return into;
    T mask = (T)((count < 64 ? (1ull << count) - 1 : ~0ull) << at);
    return (T)((into & ~mask) | ((T)((u64)from << at) & mask));
}
template <bool wraps> inline u32 bmsk(u32 position, u32 length) {
    u32 at = wraps ? position & 31 : position, count = wraps ? length & 31 : length;
    if (at >= 32) return 0;
    return (count < 32 ? (1u << count) - 1 : ~0u) << at;
}
template <class T, bool wraps> inline T szext(T a, u32 width) {
    u32 count = wraps ? width & 31 : width < 32 ? width : 32;
    if (!count) return 0;
    u32 shift = 32 - count;
    return (T)((T)((u32)a << shift) >> shift);
}
// The place of the n-th set bit from `base` on: upwards for n > 0, downwards for n < 0; of `base` itself for 0.
inline u32 fns(u32 mask, u32 base, s32 n) {
    if (base > 31) return 0xffffffffu;
    if (!n) return mask >> base & 1 ? base : 0xffffffffu;
    s32 step = n > 0 ? 1 : -1;
    u32 left = n > 0 ? (u32)n : 0u - (u32)n;
    for (s32 at = (s32)base; at >= 0 && at < 32; at += step)
        if ((mask >> at & 1) && !--left) return (u32)at;
    return 0xffffffffu;
}

template <class T> inline T lop3(T a, T b, T c, u32 table) {
    T result = 0;
    for (u32 i = 0; i < 8; i++)
        if (table >> i & 1) result |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
    return result;
}
template <class T> inline T and_(T a, T b) { return (T)(a & b); }
template <class T> inline T or_(T a, T b) { return (T)(a | b); }
template <class T> inline T xor_(T a, T b) { return (T)(a ^ b); }
template <class T> inline T not_(T a) { return (T)~a; }
inline bool not_(bool a) { return !a; }
template <class T> inline T cnot(T a) { return a == 0; }

// A number is shifted out as a whole by its width or more.
template <class T> inline T shl(T a, u32 count) { return count < limits<T>::bits ? (T)((u64)a << count) : (T)0; }
template <class T> inline T shr(T a, u32 count) {
    const u32 most = limits<T>::bits - 1;
    if (limits<T>::is_signed) return (T)(a >> (count < most ? count : most));
    return count <= most ? (T)(a >> count) : (T)0;
}
inline u32 shf_l_wrap(u32 a, u32 b, u32 count) { return __funnelshift_l(a, b, count); }
inline u32 shf_l_clamp(u32 a, u32 b, u32 count) { return __funnelshift_lc(a, b, count); }
inline u32 shf_r_wrap(u32 a, u32 b, u32 count) { return __funnelshift_r(a, b, count); }
inline u32 shf_r_clamp(u32 a, u32 b, u32 count) { return __funnelshift_rc(a, b, count); }

inline u32 prmt(u32 a, u32 b, u32 selector) { return __byte_perm(a, b, selector); }
enum class Permutation { f4e, b4e, rc8, ecl, ecr, rc16 };
template <Permutation mode> inline u32 prmt_mode(u32 a, u32 b, u32 selector) {
    u64 bytes = (u64)b << 32 | a;
    u32 n = selector & 3, result = 0;
    for (u32 i = 0; i < 4; i++) {
        u32 from = mode == Permutation::f4e   ? n + i
                   : mode == Permutation::b4e ? (n - i) & 7
                   : mode == Permutation::rc8 ? n
                   : mode == Permutation::ecl ? (i > n ? i : n)
                   : mode == Permutation::ecr ? (i < n ? i : n)
                                              : (n & 1) * 2 + (i & 1);
        result |= (u32)(bytes >> (8 * from) & 0xff) << (8 * i);
    }
    return result;
}

template <class T> inline T selp(T a, T b, bool c) { return c ? a : b; }
template <class T, class C> inline T slct(T a, T b, C c) { return c >= 0 ? a : b; }

// Sums of products of bytes; of two 16-bit numbers with two bytes.
template <class T> inline s64 byte_of(T a, u32 i) {
    return limits<T>::is_signed ? (s64)(s8)((u32)a >> 8 * i) : (s64)(u8)((u32)a >> 8 * i);
}
template <class T> inline s64 half_of(T a, u32 i) {
    return limits<T>::is_signed ? (s64)(s16)((u32)a >> 16 * i) : (s64)(u16)((u32)a >> 16 * i);
}
template <class A, class B> inline u32 dp4a(A a, B b, u32 c) {
    for (u32 i = 0; i < 4; i++) c += (u32)(byte_of(a, i) * byte_of(b, i));
    return c;
}
template <class A, class B, bool high> inline u32 dp2a(A a, B b, u32 c) {
    for (u32 i = 0; i < 2; i++) c += (u32)(half_of(a, i) * byte_of(b, i + 2 * high));
    return c;
}

// The same on each byte or each half of a word. `adds`: the results are summed, and c added to them.
enum class Video { add, sub, avrg, absdiff, min, max };
template <Video operation, u32 parts, class D, class A, class B, bool saturates, bool adds>
inline u32 video(A a, B b, u32 c) {
    const u32 bits = 32 / parts, mask = (u32)((1ull << bits) - 1);
    const s64 highest = limits<D>::is_signed ? mask >> 1 : mask, lowest = limits<D>::is_signed ? -highest - 1 : 0;
    u32 packed = 0, sum = c;
    for (u32 i = 0; i < parts; i++) {
        s64 x = parts == 4 ? byte_of(a, i) : half_of(a, i), y = parts == 4 ? byte_of(b, i) : half_of(b, i);
        s64 value = operation == Video::add       ? x + y
                    : operation == Video::sub     ? x - y
                    : operation == Video::avrg    ? (x + y + (x + y >= 0)) >> 1
                    : operation == Video::absdiff ? (x > y ? x - y : y - x)
                    : operation == Video::min     ? (x < y ? x : y)
                                                  : (x > y ? x : y);
        if (saturates) value = value < lowest ? lowest : value > highest ? highest : value;
        packed |= ((u32)value & mask) << (bits * i);
        sum += (u32)value;
    }
    return adds ? sum : packed;
}

// --- comparisons -----------------------------------------------------------------------------------------

enum class Comparison { eq, ne, lt, le, gt, ge, lo, ls, hi, hs, equ, neu, ltu, leu, gtu, geu, num, nan };

template <Comparison how, class T> inline bool compare(T a, T b) {
    bool ordered = a == a && b == b;
    switch (how) {
    case Comparison::eq: return ordered && a == b;
    case Comparison::ne: return ordered && a != b;
    case Comparison::lt:
    case Comparison::lo: return ordered && a < b;
    case Comparison::le:
    case Comparison::ls: return ordered && a <= b;
    case Comparison::gt:
    case Comparison::hi: return ordered && a > b;
    case Comparison::ge:
    case Comparison::hs: return ordered && a >= b;
    case Comparison::equ: return !ordered || a == b;
    case Comparison::neu: return !ordered || a != b;
    case Comparison::ltu: return !ordered || a < b;
    case Comparison::leu: return !ordered || a <= b;
    case Comparison::gtu: return !ordered || a > b;
    case Comparison::geu: return !ordered || a >= b;
    case Comparison::num: return ordered;
    case Comparison::nan: return !ordered;
    }
    return false;
}
template <Comparison how> inline bool compare(f16 a, f16 b) {
    return compare<how>(half_to_float(a.bits), half_to_float(b.bits));
}
template <Comparison how> inline bool compare(bf16 a, bf16 b) {
    return compare<how>(bfloat16_to_float(a.bits), bfloat16_to_float(b.bits));
}

enum class Logic { and_, or_, xor_ };
template <Logic how> inline bool combine(bool a, bool b) {
    return how == Logic::and_ ? a && b : how == Logic::or_ ? a || b : a != b;
}

template <bool flushes> inline f32 flush(f32 x);
template <bool flushes> inline f16 flush(f16 x);
template <bool flushes, class T> inline T flush(T x) { return x; }

template <Comparison how, bool ftz, class T> inline Two<bool, bool> setp(T a, T b) {
    bool is = compare<how>(flush<ftz>(a), flush<ftz>(b));
    return {is, !is};
}
template <Comparison how, Logic logic, bool ftz, class T> inline Two<bool, bool> setp_logic(T a, T b, bool c) {
    bool is = compare<how>(flush<ftz>(a), flush<ftz>(b));
    return {combine<logic>(is, c), combine<logic>(!is, c)};
}
template <Comparison how, bool ftz, class T> inline Two<bool, bool> setp_pair(Pair<T> a, Pair<T> b) {
    return {setp<how, ftz>(a.x, b.x).first, setp<how, ftz>(a.y, b.y).first};
}
template <class D> inline D truth(bool is);
template <> inline u32 truth<u32>(bool is) { return is ? 0xffffffffu : 0; }
template <> inline s32 truth<s32>(bool is) { return is ? -1 : 0; }
template <> inline f32 truth<f32>(bool is) { return is ? 1.0f : 0.0f; }
template <class D, Comparison how, bool ftz, class T> inline D set(T a, T b) {
    return truth<D>(setp<how, ftz>(a, b).first);
}
template <class D, Comparison how, Logic logic, bool ftz, class T> inline D set_logic(T a, T b, bool c) {
    return truth<D>(setp_logic<how, logic, ftz>(a, b, c).first);
}

// --- floating point --------------------------------------------------------------------------------------

template <bool flushes> inline f32 flush(f32 x) {
    return flushes && __builtin_fabsf(x) < __FLT_MIN__ ? __builtin_copysignf(0.0f, x) : x;
}
// float has one NaN on the hardware.
inline f32 canonical(f32 x) { return x != x ? bit_cast<f32>(0x7fffffffu) : x; }
inline f64 canonical(f64 x) { return x; }

template <bool saturates, class T> inline T saturate(T x) { return !saturates ? x : x > 0 ? (x < 1 ? x : (T)1) : (T)0; }
template <bool ftz, bool saturates, class T> inline T result(T x) {
    return canonical(saturate<saturates>(flush<ftz>(x)));
}

enum class Rounding { rn, rz, rm, rp, rni = rn, rzi = rz, rmi = rm, rpi = rp };

// Rounds by the host's floating-point unit. What is computed meanwhile must be volatile at both ends, or the compiler
// moves it out.
extern "C" int fesetround(int) noexcept;
template <Rounding mode> struct RoundingMode {
#ifdef __aarch64__
    static constexpr int up = 0x400000, down = 0x800000, to_zero = 0xc00000;
#else
    static constexpr int up = 0x800, down = 0x400, to_zero = 0xc00;
#endif
    RoundingMode() { fesetround(mode == Rounding::rz ? to_zero : mode == Rounding::rm ? down : up); }
    ~RoundingMode() { fesetround(0); }
};
template <> struct RoundingMode<Rounding::rn> {
    RoundingMode() {}
    ~RoundingMode() {}
};

struct Sum {
    template <class T> static T of(T a, T b, T) { return a + b; }
};
struct Difference {
    template <class T> static T of(T a, T b, T) { return a - b; }
};
struct MultipliedBy {
    template <class T> static T of(T a, T b, T) { return a * b; }
};
struct Quotient {
    template <class T> static T of(T a, T b, T) { return a / b; }
};
struct FusedSum {
    static f32 of(f32 a, f32 b, f32 c) { return fmaf(a, b, c); }
    static f64 of(f64 a, f64 b, f64 c) { return fma(a, b, c); }
};
struct Root {
    static f32 of(f32 a, f32, f32) { return sqrtf(a); }
    static f64 of(f64 a, f64, f64) { return sqrt(a); }
};

template <class Operation, Rounding mode, bool ftz, bool saturates, class T> inline T arithmetic(T a, T b, T c) {
    if (mode == Rounding::rn)
        return result<ftz, saturates>(rounded(Operation::of(flush<ftz>(a), flush<ftz>(b), flush<ftz>(c))));
    volatile T x = flush<ftz>(a), y = flush<ftz>(b), z = flush<ftz>(c), r;
    {
        RoundingMode<mode> here;
        r = Operation::of((T)x, (T)y, (T)z);
    }
    return result<ftz, saturates>((T)r);
}

// 16-bit formats: computed in double, in which products are exact, and a sum that is not gets an odd last bit, which
// says so to the rounding that follows.
inline f64 odd_sum(f64 a, f64 b) {
    f64 sum = rounded(a + b), part = rounded(sum - a);
    f64 error = rounded(rounded(a - rounded(sum - part)) + rounded(b - part));
    u64 bits = bit_cast<u64>(sum);
    if (error == 0 || error != error || bits & 1) return sum;
    return bit_cast<f64>((error > 0) == (sum > 0) ? bits + 1 : bits - 1);
}

template <int exponent_bits, int digits> inline u16 encode(f64 x, Rounding mode) {
    const int smallest = 2 - (1 << (exponent_bits - 1));
    const u32 infinity = ((1u << exponent_bits) - 1) << digits;
    if (x != x) return 0x7fff;
    bool negative = __builtin_signbit(x);
    u32 sign = negative ? 0x8000 : 0;
    f64 magnitude = fabs(x);
    if (__builtin_isinf(magnitude)) return (u16)(sign | infinity);
    int exponent = (int)(bit_cast<u64>(magnitude) >> 52) - 1023;
    if (exponent < smallest) exponent = smallest;
    f64 steps = ldexp(magnitude, digits - exponent), whole = floor(steps), rest = steps - whole;
    u64 n = (u64)whole;
    bool away = mode == Rounding::rn   ? rest > 0.5 || (rest == 0.5 && n & 1)
                : mode == Rounding::rz ? false
                                       : rest > 0 && negative == (mode == Rounding::rm);
    u64 bits = n + away + ((u64)(exponent - smallest) << digits);
    if (bits >= infinity) {
        bool to_infinity = mode == Rounding::rn || (mode != Rounding::rz && negative == (mode == Rounding::rm));
        bits = to_infinity ? infinity : infinity - 1;
    }
    return (u16)(sign | bits);
}

template <class T> struct format;
template <> struct format<f16> {
    static f16 of(f64 x, Rounding mode) { return {encode<5, 10>(x, mode)}; }
};
template <> struct format<bf16> {
    static bf16 of(f64 x, Rounding mode) { return {encode<8, 7>(x, mode)}; }
};
template <> struct format<f64> {
    static f64 of(f64 x, Rounding) { return x; }
};
template <> struct format<f32> {
    static f32 of(f64 x, Rounding mode) {
        volatile f64 from = x;
        volatile f32 to;
        if (mode == Rounding::rn) to = (f32)from;
        else if (mode == Rounding::rz) {
            RoundingMode<Rounding::rz> here;
            to = (f32)from;
        } else if (mode == Rounding::rm) {
            RoundingMode<Rounding::rm> here;
            to = (f32)from;
        } else {
            RoundingMode<Rounding::rp> here;
            to = (f32)from;
        }
        return canonical((f32)to);
    }
};
inline f64 number(f16 x) { return half_to_float(x.bits); }
inline f64 number(bf16 x) { return bfloat16_to_float(x.bits); }
inline f64 number(f32 x) { return x; }
inline f64 number(f64 x) { return x; }

// A denormal float16 becomes zero.
template <bool flushes> inline f16 flush(f16 x) { return flushes && !(x.bits & 0x7c00) ? f16{(u16)(x.bits & 0x8000)} : x; }
template <bool ftz, bool saturates, bool clips, class T> inline T narrow_result(f64 x) {
    if (clips && x <= 0) x = 0;
    return flush<ftz>(format<T>::of(saturate<saturates>(x), Rounding::rn));
}

template <bool ftz, bool saturates, class T> inline T add16(T a, T b) {
    return narrow_result<ftz, saturates, false, T>(odd_sum(number(flush<ftz>(a)), number(flush<ftz>(b))));
}
template <bool ftz, bool saturates, class T> inline T sub16(T a, T b) {
    return narrow_result<ftz, saturates, false, T>(odd_sum(number(flush<ftz>(a)), -number(flush<ftz>(b))));
}
template <bool ftz, bool saturates, class T> inline T mul16(T a, T b) {
    return narrow_result<ftz, saturates, false, T>(number(flush<ftz>(a)) * number(flush<ftz>(b)));
}
template <bool ftz, bool saturates, bool clips, class T> inline T fma16(T a, T b, T c) {
    f64 product = rounded(number(flush<ftz>(a)) * number(flush<ftz>(b)));
    return narrow_result<ftz, saturates, clips, T>(odd_sum(product, number(flush<ftz>(c))));
}
template <class T> inline T neg16(T a) { return {(u16)(a.bits ^ 0x8000)}; }
template <class T> inline T abs16(T a) { return {(u16)(a.bits & 0x7fff)}; }

// What is done to one element, done to both.
template <bool ftz, bool saturates, class T> inline Pair<T> add16(Pair<T> a, Pair<T> b) {
    return {add16<ftz, saturates>(a.x, b.x), add16<ftz, saturates>(a.y, b.y)};
}
template <bool ftz, bool saturates, class T> inline Pair<T> sub16(Pair<T> a, Pair<T> b) {
    return {sub16<ftz, saturates>(a.x, b.x), sub16<ftz, saturates>(a.y, b.y)};
}
template <bool ftz, bool saturates, class T> inline Pair<T> mul16(Pair<T> a, Pair<T> b) {
    return {mul16<ftz, saturates>(a.x, b.x), mul16<ftz, saturates>(a.y, b.y)};
}
template <bool ftz, bool saturates, bool clips, class T> inline Pair<T> fma16(Pair<T> a, Pair<T> b, Pair<T> c) {
    return {fma16<ftz, saturates, clips>(a.x, b.x, c.x), fma16<ftz, saturates, clips>(a.y, b.y, c.y)};
}
template <class T> inline Pair<T> neg16(Pair<T> a) { return {neg16(a.x), neg16(a.y)}; }
template <class T> inline Pair<T> abs16(Pair<T> a) { return {abs16(a.x), abs16(a.y)}; }

inline f32 with_sign(f32 x, bool negative) { return bit_cast<f32>((bit_cast<u32>(x) & 0x7fffffffu) | (u32)negative << 31); }
inline f64 with_sign(f64 x, bool negative) { return __builtin_copysign(x, negative ? -1.0 : 1.0); }
inline f16 with_sign(f16 x, bool negative) { return {(u16)((x.bits & 0x7fff) | negative << 15)}; }
inline bf16 with_sign(bf16 x, bool negative) { return {(u16)((x.bits & 0x7fff) | negative << 15)}; }
inline bool is_negative(f32 x) { return bit_cast<u32>(x) >> 31; }
inline bool is_negative(f64 x) { return bit_cast<u64>(x) >> 63; }
inline bool is_negative(f16 x) { return x.bits >> 15; }
inline bool is_negative(bf16 x) { return x.bits >> 15; }
template <class T> inline T not_a_number() { return format<T>::of(__builtin_nan(""), Rounding::rn); }

// A NaN loses against a number, or wins if `keeps_nan`; -0 is less than 0. `signs`: of magnitudes, with the exclusive
// or of the signs.
template <bool smallest, bool ftz, bool keeps_nan, bool signs, class T> inline T extreme(T a, T b) {
    T x = flush<ftz>(a), y = flush<ftz>(b);
    bool negative = is_negative(x) != is_negative(y);
    if (signs) x = with_sign(x, false), y = with_sign(y, false);
    bool no_x = number(x) != number(x), no_y = number(y) != number(y);
    if ((no_x && no_y) || (keeps_nan && (no_x || no_y))) return not_a_number<T>();
    T chosen;
    if (no_x || no_y) chosen = no_x ? y : x;
    else if (number(x) == number(y)) chosen = is_negative(x) == smallest ? x : y;
    else chosen = (number(x) < number(y)) == smallest ? x : y;
    return signs ? with_sign(chosen, negative) : chosen;
}
template <bool smallest, bool ftz, bool keeps_nan, bool signs, class T> inline Pair<T> extreme(Pair<T> a, Pair<T> b) {
    return {extreme<smallest, ftz, keeps_nan, signs>(a.x, b.x), extreme<smallest, ftz, keeps_nan, signs>(a.y, b.y)};
}

template <bool ftz, class T> inline T fabs_(T a) { return with_sign(flush<ftz>(a), false); }
template <bool ftz, class T> inline T fneg(T a) { return with_sign(flush<ftz>(a), !is_negative(flush<ftz>(a))); }
template <class T> inline T copysign(T sign, T of) { return with_sign(of, is_negative(sign)); }
template <bool ftz, class T> inline T fslct(T a, T b, f32 c) { return flush<ftz>(c) >= 0 ? a : b; }

enum class Test { finite, infinite, number, notanumber, normal, subnormal };
template <Test what, class T> inline bool testp(T a) {
    T smallest = sizeof(T) == 4 ? (T)__FLT_MIN__ : (T)__DBL_MIN__, size = a < 0 ? -a : a;
    bool finite = __builtin_isfinite(a);
    switch (what) {
    case Test::finite: return finite;
    case Test::infinite: return __builtin_isinf(a);
    case Test::number: return a == a;
    case Test::notanumber: return a != a;
    case Test::normal: return finite && size >= smallest;
    case Test::subnormal: return size < smallest && size > 0;
    }
    return false;
}

// The approximations, here at the full accuracy of the host's functions.
enum class Function { ex2, lg2, sin, cos, tanh, rcp, rsqrt, sqrt };
template <Function which> inline f64 evaluate(f64 x) {
    switch (which) {
    case Function::ex2: return exp2(x);
    case Function::lg2: return log2(x);
    case Function::sin: return sin(x);
    case Function::cos: return cos(x);
    case Function::tanh: return tanh(x);
    case Function::rcp: return 1 / x;
    case Function::rsqrt: return 1 / sqrt(x);
    case Function::sqrt: return sqrt(x);
    }
    return 0;
}
template <Function which, bool ftz, class T> inline T approximate(T a) {
    return flush<ftz>(format<T>::of(evaluate<which>(number(flush<ftz>(a))), Rounding::rn));
}
template <Function which, bool ftz, class T> inline Pair<T> approximate(Pair<T> a) {
    return {approximate<which, ftz>(a.x), approximate<which, ftz>(a.y)};
}

// --- conversions -----------------------------------------------------------------------------------------

template <class D, bool saturates, class A> inline D cvt_integer(A a) {
    s128 value = a;
    if (saturates) {
        if (value < (s128)limits<D>::lowest) return limits<D>::lowest;
        if (value > (s128)limits<D>::highest) return limits<D>::highest;
    }
    return (D)a;
}

// A 64-bit integer may have more digits than double: the last one kept is then made odd, for the rounding that follows.
template <class A> inline f64 odd_double(A a) {
    bool negative = a < 0;
    u64 size = negative ? 0 - (u64)a : (u64)a;
    if (size >> 53) size = (size & ~0xfffull) | (size & 0xfff ? 0x800 : 0);
    return negative ? -(f64)size : (f64)size;
}
template <class D, Rounding mode, bool saturates> struct FromInteger {
    template <class A> static D of(A a) { return format<D>::of(saturate<saturates>(odd_double(a)), mode); }
};
template <Rounding mode, bool saturates> struct FromInteger<f64, mode, saturates> {
    template <class A> static f64 of(A a) {
        volatile A from = a;
        volatile f64 to;
        {
            RoundingMode<mode> here;
            to = (f64)from;
        }
        return saturate<saturates>((f64)to);
    }
};

// Of a conversion, .ftz means float alone.
template <bool flushes> inline f32 flush_float(f32 x) { return flush<flushes>(x); }
template <bool flushes, class T> inline T flush_float(T x) { return x; }

inline f64 to_whole(f64 x, Rounding mode) {
    return mode == Rounding::rn ? rint(x) : mode == Rounding::rz ? trunc(x) : mode == Rounding::rm ? floor(x) : ceil(x);
}
template <class D, Rounding mode, bool ftz, class A> inline D cvt_to_integer(A a) {
    f64 x = number(flush_float<ftz>(a));
    if (x != x) {
        bool none = sizeof(A) < 8 && sizeof(D) < 8;
        return none ? (D)0 : (D)(1ull << (limits<D>::bits - 1));
    }
    x = to_whole(x, mode);
    if (x <= (f64)limits<D>::lowest) return limits<D>::lowest;
    return x >= (f64)limits<D>::highest ? limits<D>::highest : (D)x;
}
template <Rounding mode, bool ftz, bool saturates, class T> inline T cvt_to_whole(T a) {
    return flush_float<ftz>(format<T>::of(saturate<saturates>(to_whole(number(flush_float<ftz>(a)), mode)), Rounding::rn));
}
template <bool ftz, bool saturates, class T> inline T cvt_same(T a) {
    return flush_float<ftz>(format<T>::of(saturate<saturates>(number(flush_float<ftz>(a))), Rounding::rn));
}
template <class D, Rounding mode, bool ftz, bool saturates, bool clips, class A> inline D cvt_float(A a) {
    f64 x = saturate<saturates>(number(flush_float<ftz>(a)));
    if (clips && x <= 0) x = 0;
    return flush_float<ftz>(format<D>::of(x, mode));
}
// The first operand is for the upper half.
template <class D, Rounding mode, bool clips> inline Pair<D> cvt_pair(f32 a, f32 b) {
    return {cvt_float<D, mode, false, false, clips>(b), cvt_float<D, mode, false, false, clips>(a)};
}
// 10 bits of mantissa; a NaN becomes the one of the instruction. Half of the last place kept: ties go away from zero.
inline b32 cvt_rna_tf32(f32 x) {
    u32 bits = bit_cast<u32>(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fffffffu;
    return (bits + 0x1000u) & ~0x1fffu;
}

// --- memory ----------------------------------------------------------------------------------------------

inline char* shared_pointer(u64 address) {
    if (address >> 32) return (char*)(size_t)(u32)address;  // not of shared memory: nothing lies there
    return gpunn_emulator::shared_pointer((u32)address);
}
inline char* cluster_pointer(u64 address) {
    if (address >> 32) return (char*)(size_t)(u32)address;
    return gpunn_emulator::cluster_pointer((u32)address);
}
inline u64 cluster_to_generic(u64 address) { return (u64)cluster_pointer(address); }
inline u64 to_cluster(u64 address) { return gpunn_emulator::cluster_address((const void*)address); }
inline u64 to_generic(u64 address) { return (u64)shared_pointer(address); }
inline u64 to_shared(u64 address) { return shared_address((const void*)address); }
inline char* generic_pointer(u64 address) { return (char*)address; }
inline bool is_shared(u64 address) { return gpunn_emulator::is_shared((const void*)address); }
inline bool is_shared_cluster(u64 address) { return gpunn_emulator::is_cluster_shared((const void*)address); }
inline bool is_local(u64 address) { return gpunn_emulator::is_local((const void*)address); }
inline bool is_global(u64 address) { return !is_shared_cluster(address) && !is_local(address); }

template <class T> __forceinline__ T ld(const char* address) { return *(const T*)address; }
template <class T> __forceinline__ void st(char* address, T value) { *(T*)address = value; }

#ifdef GPUNN_EMULATOR_WATCH
#define GPUNN_NOTE_STRONG(address, bytes, write) note_strong(address, bytes, write, __builtin_return_address(0))
#else
#define GPUNN_NOTE_STRONG(address, bytes, write) ((void)0)
#endif

// Loads and stores that may meet others of their kind: volatile, relaxed, acquire, release.
template <class T> GPUNN_UNWATCHED T load_strong(const char* address) {
    const unsigned bytes = sizeof(T) > 8 ? 4 : sizeof(T);
    typedef typename word<bytes>::type Word;
    GPUNN_NOTE_STRONG(address, sizeof(T), false);
    Vector<Word, sizeof(T) / bytes> words;
    for (unsigned i = 0; i < sizeof(T) / bytes; i++)
        words.elements[i] = __atomic_load_n((const Word*)address + i, __ATOMIC_ACQUIRE);
    return bit_cast<T>(words);
}
template <class T> GPUNN_UNWATCHED void store_strong(char* address, T value) {
    const unsigned bytes = sizeof(T) > 8 ? 4 : sizeof(T);
    typedef typename word<bytes>::type Word;
    GPUNN_NOTE_STRONG(address, sizeof(T), true);
    Vector<Word, sizeof(T) / bytes> words = bit_cast<Vector<Word, sizeof(T) / bytes>>(value);
    for (unsigned i = 0; i < sizeof(T) / bytes; i++)
        __atomic_store_n((Word*)address + i, words.elements[i], __ATOMIC_RELEASE);
}
// Who loads so may wait for another thread, which has to run.
template <class T> __forceinline__ T ld_strong(const char* address) {
    check_aligned(address, sizeof(T), "a load");
    yield();
    return load_strong<T>(address);
}
template <bool releases, class T> __forceinline__ void st_strong(char* address, T value) {
    check_aligned(address, sizeof(T), "a store");
    if (releases) note_fence();
    store_strong(address, value);
}

enum class Change { add, min, max, inc, dec, and_, or_, xor_, exch };
template <Change how> struct Changed {
    template <class T> static T of(T old, T value) {
        switch (how) {
        case Change::add: return add(old, value);
        case Change::min: return min(old, value);
        case Change::max: return max(old, value);
        case Change::inc: return old >= value ? (T)0 : (T)(old + 1);
        case Change::dec: return old == 0 || old > value ? value : (T)(old - 1);
        case Change::and_: return (T)((u64)old & (u64)value);
        case Change::or_: return (T)((u64)old | (u64)value);
        case Change::xor_: return (T)((u64)old ^ (u64)value);
        case Change::exch: return value;
        }
        return old;
    }
    static f32 of(f32 old, f32 value) { return canonical(rounded(old + value)); }
    static f64 of(f64 old, f64 value) { return rounded(old + value); }
    static f16 of(f16 old, f16 value) { return float16(old, value); }
    static bf16 of(bf16 old, bf16 value) { return float16(old, value); }
    static f16x2 of(f16x2 old, f16x2 value) { return float16(old, value); }
    static bf16x2 of(bf16x2 old, bf16x2 value) { return float16(old, value); }

private:
    template <class T> static T float16(T old, T value) {
        return how == Change::min   ? extreme<true, false, false, false>(old, value)
               : how == Change::max ? extreme<false, false, false, false>(old, value)
                                    : add16<false, false>(old, value);
    }
};
template <Change how, bool releases, class T> __forceinline__ T atom(char* address, T value) {
    check_aligned(address, sizeof(T), "an atomic operation");
    if (releases) note_fence();
    return atomically((T*)address, [value](T old) -> T { return Changed<how>::of(old, value); });
}
template <bool releases, class T> __forceinline__ T atom_cas(char* address, T compare, T value) {
    check_aligned(address, sizeof(T), "an atomic operation");
    if (releases) note_fence();
    return atomicCAS((T*)address, compare, value);
}

// --- asynchronous copies ---------------------------------------------------------------------------------

__forceinline__ void cp_async(char* shared, const char* global, u32 bytes, u32 source_bytes) {
    async_copy(shared, global, bytes, source_bytes);
}
__forceinline__ void cp_async_unless(char* shared, const char* global, u32 bytes, bool ignored) {
    async_copy(shared, global, bytes, ignored ? 0 : bytes);
}
inline void cp_async_wait_all() {
    async_commit();
    async_wait(0);
}

// --- warps and blocks ------------------------------------------------------------------------------------

enum class Shuffling { up, down, bfly, idx };
template <Shuffling how> __forceinline__ Two<b32, bool> shfl(b32 a, u32 b, u32 c, u32 mask) {
    u32 lane = current.thread->lane, segment = c >> 8 & 31, clamp = c & 31, by = b & 31;
    u32 first = lane & segment, last = first | (clamp & ~segment);
    s32 from = how == Shuffling::up     ? (s32)lane - (s32)by
               : how == Shuffling::down ? (s32)(lane + by)
               : how == Shuffling::bfly ? (s32)(lane ^ by)
                                        : (s32)(first | (by & ~segment));
    bool inside = how == Shuffling::up ? from >= (s32)last : from <= (s32)last;
    bool shifted = how == Shuffling::up || how == Shuffling::down;
    return {shuffle(mask, a, inside ? (u32)from : lane, shifted), inside};
}
__forceinline__ bool vote_all(bool a, u32 mask) { return __all_sync(mask, a); }
__forceinline__ bool vote_any(bool a, u32 mask) { return __any_sync(mask, a); }
__forceinline__ bool vote_uni(bool a, u32 mask) { return __popc(__match_any_sync(mask, (u32)a)) == __popc(__ballot_sync(mask, 1)); }
__forceinline__ b32 vote_ballot(bool a, u32 mask) { return __ballot_sync(mask, a); }
template <class T> __forceinline__ b32 match_any(T a, u32 mask) { return __match_any_sync(mask, a); }
template <class T> __forceinline__ Two<b32, bool> match_all(T a, u32 mask) {
    int all = 0;
    b32 lanes = __match_all_sync(mask, a, &all);
    return {lanes, all != 0};
}
template <class Operator, class T> __forceinline__ T redux(T a, u32 mask) { return reduce<Operator>(mask, a); }
__forceinline__ Two<b32, bool> elect(u32 mask) {
    u32 leader = (u32)__builtin_ctz(__ballot_sync(mask, 1));
    return {leader, current.thread->lane == leader};
}

inline u32 threads_of_block() {
    const dim3& block = current.block->block_dim;
    return block.x * block.y * block.z;
}
// What a barrier is told: how many threads wait at it.
__forceinline__ int all_threads(u32 count) {
    check_barrier(count);
    return 0;
}
inline uint3 cluster_index() {
    const BlockView& block = *current.block;
    return {block.index.x / block.cluster_dim.x, block.index.y / block.cluster_dim.y, block.index.z / block.cluster_dim.z};
}
inline uint3 clusters_of_grid() {
    const BlockView& block = *current.block;
    return {block.grid_dim.x / block.cluster_dim.x, block.grid_dim.y / block.cluster_dim.y,
            block.grid_dim.z / block.cluster_dim.z};
}
inline u32 number_in_block() {
    const uint3& thread = current.thread->index;
    const dim3& block = current.block->block_dim;
    return (thread.z * block.y + thread.y) * block.x + thread.x;
}

}  // namespace ptx
}  // namespace gpunn_emulator

inline unsigned __isShared(const void* address) { return gpunn_emulator::ptx::is_shared((size_t)address); }
inline unsigned __isClusterShared(const void* address) { return gpunn_emulator::is_cluster_shared(address); }
inline unsigned __isLocal(const void* address) { return gpunn_emulator::ptx::is_local((size_t)address); }
__attribute__((error("__isConstant is not emulated"))) unsigned __isConstant(const void* address);
__attribute__((error("__isGridConstant is not emulated"))) unsigned __isGridConstant(const void* address);
inline unsigned __isGlobal(const void* address) { return gpunn_emulator::ptx::is_global((size_t)address); }

#include "hopper_instructions.h"
#include "tensor_cores.h"

// float16 and bfloat16 as bits, to and from float.
#pragma once

namespace gpunn_emulator {

// Whether the compiler knows _Float16 on this machine: on aarch64 g++ defines the macro before it does, in version 13.
#if defined(__FLT16_MANT_DIG__) && (defined(__x86_64__) || defined(__clang__) || __GNUC__ >= 13)

inline unsigned short float_to_half(float x) {
    return x != x ? 0x7fff : bit_cast<unsigned short>((_Float16)x);
}
inline float half_to_float(unsigned short bits) { return (float)bit_cast<_Float16>(bits); }

#else

inline unsigned short float_to_half(float x) {
    unsigned bits = bit_cast<unsigned>(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return 0x7fff;
    if (magnitude >= 0x477ff000) return (unsigned short)(sign | 0x7c00);  // rounds past 65504: infinity
    if (magnitude < 0x38800000) {
        // Denormal: adding 0.5 leaves the half's bits, rounded by the float unit, at the bottom of the sum.
        float shifted = bit_cast<float>(magnitude) + 0.5f;
        return (unsigned short)(sign | (bit_cast<unsigned>(shifted) - 0x3f000000));
    }
    unsigned odd = magnitude >> 13 & 1;
    return (unsigned short)(sign | (magnitude - 0x38000000 + 0xfff + odd) >> 13);
}

inline float half_to_float(unsigned short bits) {
    unsigned sign = (unsigned)(bits & 0x8000) << 16, magnitude = bits & 0x7fff;
    if (magnitude >= 0x7c00) return bit_cast<float>(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);
    // Multiplying by 2^112 sets the exponent right for normal and denormal numbers alike.
    const float factor = bit_cast<float>(0x77800000u);  // which C++11 has no literal for
    return bit_cast<float>(sign | bit_cast<unsigned>(bit_cast<float>(magnitude << 13) * factor));
}

#endif

inline unsigned short float_to_bfloat16(float x) {
    unsigned bits = bit_cast<unsigned>(x);
    if (x != x) return 0x7fff;
    return (unsigned short)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
inline float bfloat16_to_float(unsigned short bits) { return bit_cast<float>((unsigned)bits << 16); }

}  // namespace gpunn_emulator

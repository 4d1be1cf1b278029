// The functions of CUDA's mathematical library that the host's C library does not have, or not under CUDA's name. Those
// on float are computed in double: they agree with a GPU's to the last place or two, as the others do.
#pragma once

#define GPUNN_LIBM_BESSEL(name)                                                                                  \
    extern "C" double name(double) noexcept;                                                                     \
    inline float name##f(float x) { return (float)name((double)x); }                                             \
    inline float name(float x) { return name##f(x); }
#define GPUNN_LIBM_BESSEL_N(name)                                                                                \
    extern "C" double name(int, double) noexcept;                                                                \
    inline float name##f(int n, float x) { return (float)name(n, (double)x); }                                   \
    inline float name(int n, float x) { return name##f(n, x); }
GPUNN_LIBM_BESSEL(j0) GPUNN_LIBM_BESSEL(j1) GPUNN_LIBM_BESSEL(y0) GPUNN_LIBM_BESSEL(y1)
GPUNN_LIBM_BESSEL_N(jn) GPUNN_LIBM_BESSEL_N(yn)

extern "C" double scalbln(double, long) noexcept;
extern "C" float scalblnf(float, long) noexcept;
extern "C" double remquo(double, double, int*) noexcept;
extern "C" float remquof(float, float, int*) noexcept;
inline float scalbn(float x, int n) { return scalbnf(x, n); }
inline float scalbln(float x, long n) { return scalblnf(x, n); }
__forceinline__ float modf(float x, float* whole) { return modff(x, whole); }
__forceinline__ float remquo(float x, float y, int* quotient) { return remquof(x, y, quotient); }
inline int ilogb(float x) { return ilogbf(x); }
inline long lrint(float x) { return lrintf(x); }
inline long lround(float x) { return lroundf(x); }
inline long long llrint(float x) { return llrintf(x); }
inline long long llround(float x) { return llroundf(x); }

namespace gpunn_emulator {

constexpr double pi = 3.14159265358979323846, root_2 = 1.41421356237309504880, root_pi = 1.77245385090551602730;

// x less the nearest multiple of a half, which is exact, and which quarter of a turn that multiple is.
inline double half_turns(double x, int* quarter) {
    double turn = fmod(x, 2.0), halves = rint(2 * turn);
    *quarter = (int)halves & 3;
    return turn - halves / 2;
}

inline double sin_pi(double x) {
    if (!__builtin_isfinite(x)) return __builtin_nan("");
    int quarter;
    double rest = half_turns(x, &quarter);
    if (rest == 0 && quarter % 2 == 0) return copysign(0.0, x);
    double value = quarter % 2 ? cos(pi * rest) : sin(pi * rest);
    return quarter & 2 ? -value : value;
}

inline double cos_pi(double x) {
    if (!__builtin_isfinite(x)) return __builtin_nan("");
    int quarter;
    double rest = half_turns(x, &quarter);
    double value = quarter % 2 ? (rest == 0 ? 0.0 : -sin(pi * rest)) : cos(pi * rest);
    return (quarter & 2 ? -value : value) + 0.0;
}

// exp(x * x) * erfc(x).
inline double scaled_erfc(double x) {
    if (x != x) return x;
    if (x < 26) {
        double square = x * x, rest = fma(x, x, -square);
        double power = exp(square);
        return __builtin_isinf(power) ? power : fma(power, rest, power) * erfc(x);
    }
    double term = 1, sum = 1, step = 0.5 / x / x;
    for (int k = 1; k < 15; k += 2) sum += term *= -k * step;
    return sum / (x * root_pi);
}

inline double inverse_erfc(double y);

inline double inverse_erf(double x) {
    if (!(x >= -1 && x <= 1)) return __builtin_nan("");
    if (x > 0.5) return inverse_erfc(1 - x);
    if (x < -0.5) return -inverse_erfc(1 + x);
    double z = x * (root_pi / 2) * (1 + pi / 12 * x * x);
    for (int i = 0; i < 3; i++) {
        double error = (erf(z) - x) * (root_pi / 2) * exp(z * z);
        z -= error / (1 + z * error);
    }
    return z;
}

inline double inverse_erfc(double y) {
    if (!(y >= 0 && y <= 2)) return __builtin_nan("");
    if (y == 0) return __builtin_huge_val();
    if (y == 2) return -__builtin_huge_val();
    if (y > 1.5) return -inverse_erfc(2 - y);
    if (y >= 0.5) return inverse_erf(1 - y);
    double t = sqrt(-2 * log(y / 2));  // a first guess, good to three digits, each step then has thrice as many
    double z = (t - (2.515517 + t * (0.802853 + t * 0.010328)) / (1 + t * (1.432788 + t * (0.189269 + t * 0.001308))));
    z /= root_2;
    for (int i = 0; i < 3; i++) {
        double error = (1 - y / erfc(z)) * scaled_erfc(z) * (root_pi / 2);
        z += error / (1 - z * error);
    }
    return z;
}

// The modified Bessel functions of orders 0 and 1: their series, or, where that is long, what they come to far out.
inline double bessel_i(int order, double x) {
    double away = fabs(x), sum = 1, term = 1;
    if (away != away) return x;
    if (away < 30) {
        double square = x * x / 4;
        for (int k = 1; term > 1e-18 * sum; k++) sum += term *= square / ((double)k * (k + order));
        return order ? x / 2 * sum : sum;
    }
    if (away > 720) return order && x < 0 ? -__builtin_huge_val() : __builtin_huge_val();
    for (int k = 1; k < 60 && fabs(term) > 1e-18; k++) {
        double odd = 2 * k - 1;
        sum += term *= (odd * odd - 4 * order) / (8 * away * k);
    }
    double root = exp(away / 2), value = root * (sum / sqrt(2 * pi * away)) * root;
    return order && x < 0 ? -value : value;
}

// The root of a sum of squares, none of which overflows.
inline double length(int count, const double* x) {
    double largest = 0, sum = 0;
    for (int i = 0; i < count; i++) {
        if (__builtin_isinf(x[i])) return __builtin_huge_val();
        if (!(fabs(x[i]) <= largest)) largest = fabs(x[i]);
    }
    if (largest == 0 || largest != largest) return largest;
    int exponent = ilogb(largest);
    for (int i = 0; i < count; i++) {
        double part = scalbn(x[i], -exponent);
        sum += part * part;
    }
    return scalbn(sqrt(sum), exponent);
}

}  // namespace gpunn_emulator

#define GPUNN_SPECIAL(name, function)                                                                            \
    inline double name(double x) { return gpunn_emulator::function(x); }                                         \
    inline float name##f(float x) { return (float)gpunn_emulator::function((double)x); }                         \
    inline float name(float x) { return name##f(x); }
GPUNN_SPECIAL(sinpi, sin_pi)
GPUNN_SPECIAL(cospi, cos_pi)
GPUNN_SPECIAL(erfcx, scaled_erfc)
GPUNN_SPECIAL(erfinv, inverse_erf)
GPUNN_SPECIAL(erfcinv, inverse_erfc)

#define GPUNN_SPECIAL_OF(name, expression)                                                                       \
    inline double name(double x) { return expression; }                                                          \
    inline float name##f(float value) { return (float)name((double)value); }                                     \
    inline float name(float x) { return name##f(x); }
GPUNN_SPECIAL_OF(normcdf, 0.5 * erfc(-x / gpunn_emulator::root_2))
GPUNN_SPECIAL_OF(normcdfinv, -gpunn_emulator::root_2 * gpunn_emulator::inverse_erfc(2 * x))
GPUNN_SPECIAL_OF(cyl_bessel_i0, gpunn_emulator::bessel_i(0, x))
GPUNN_SPECIAL_OF(cyl_bessel_i1, gpunn_emulator::bessel_i(1, x))
GPUNN_SPECIAL_OF(rcbrt, 1 / cbrt(x))
GPUNN_SPECIAL_OF(exp10, pow(10.0, x))

__forceinline__ void sincospi(double x, double* sine, double* cosine) { *sine = sinpi(x); *cosine = cospi(x); }
__forceinline__ void sincospif(float x, float* sine, float* cosine) { *sine = sinpif(x); *cosine = cospif(x); }
__forceinline__ void sincospi(float x, float* sine, float* cosine) { sincospif(x, sine, cosine); }

inline double norm(int count, const double* x) { return gpunn_emulator::length(count, x); }
inline double norm3d(double x, double y, double z) {
    const double all[] = {x, y, z};
    return norm(3, all);
}
inline double norm4d(double x, double y, double z, double w) {
    const double all[] = {x, y, z, w};
    return norm(4, all);
}
inline float normf(int count, const float* x) {
    double sum = 0;  // no square of a float overflows a double, nor do their sums
    for (int i = 0; i < count; i++) {
        if (__builtin_isinf(x[i])) return __builtin_huge_valf();
        sum += (double)x[i] * x[i];
    }
    return (float)sqrt(sum);
}
inline float norm(int count, const float* x) { return normf(count, x); }
inline float norm3df(float x, float y, float z) { return (float)norm3d(x, y, z); }
inline float norm3d(float x, float y, float z) { return norm3df(x, y, z); }
inline float norm4df(float x, float y, float z, float w) { return (float)norm4d(x, y, z, w); }
inline float norm4d(float x, float y, float z, float w) { return norm4df(x, y, z, w); }
inline double rhypot(double x, double y) { return 1 / hypot(x, y); }
inline float rhypotf(float x, float y) { return (float)(1 / hypot((double)x, (double)y)); }
inline float rhypot(float x, float y) { return rhypotf(x, y); }
inline double rnorm(int count, const double* x) { return 1 / norm(count, x); }
inline float rnormf(int count, const float* x) { return 1 / normf(count, x); }
inline double rnorm3d(double x, double y, double z) { return 1 / norm3d(x, y, z); }
inline float rnorm3df(float x, float y, float z) { return (float)(1 / norm3d((double)x, (double)y, (double)z)); }
inline double rnorm4d(double x, double y, double z, double w) { return 1 / norm4d(x, y, z, w); }
inline float rnorm4df(float x, float y, float z, float w) {
    return (float)(1 / norm4d((double)x, (double)y, (double)z, (double)w));
}

// cuRAND's host API for pseudo-random numbers, as its documentation has it. The numbers are not those of a GPU, but
// have the same distributions, and the same seed and offset give the same ones.
//
// All generators are Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011), which turns a
// counter into numbers under a key: number i of a sequence is a function of the seed, the generator's type and i.
#include <cmath>
#include <set>

#include "device.h"

namespace gpunn_device {

namespace {

enum Status : int {
    done = 0,
    not_initialized = 101,
    allocation_failed = 102,
    type_error = 103,
    out_of_range = 104,
    length_not_multiple = 105,
    launch_failure = 201,
    preexisting_failure = 202,
};

enum Type { xorwow = 101, mrg32k3a = 121, mtgp32 = 141, mt19937 = 142, philox = 161 };
const int pseudo_default = 100;

// Where a generator has got to: known when its work is done, for that may be done again, by a graph.
struct Sequence {
    std::uint64_t seed = 0, position = 0;
};

struct Generator {
    int type = xorwow, device = 0;
    std::intptr_t stream = 0;
    std::uint64_t seed = 0, offset = 0;
    bool restarts = true;  // the next work begins at seed and offset
    std::shared_ptr<Sequence> sequence = std::make_shared<Sequence>();
};

std::set<Generator*> generators;

bool known(Generator* generator) { return generators.count(generator); }

// ---- Philox4x32-10 --------------------------------------------------------------------------------------------------

struct Words {
    std::uint32_t word[4];
    std::uint64_t low() const { return (std::uint64_t)word[1] << 32 | word[0]; }
    std::uint64_t high() const { return (std::uint64_t)word[3] << 32 | word[2]; }
};

Words philox_words(std::uint64_t key, std::uint64_t position, std::uint32_t draw, std::uint32_t type) {
    std::uint32_t a = (std::uint32_t)position, b = (std::uint32_t)(position >> 32), c = draw, d = type;
    std::uint32_t k = (std::uint32_t)key, l = (std::uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        const std::uint64_t p = (std::uint64_t)0xD2511F53u * a, q = (std::uint64_t)0xCD9E8D57u * c;
        a = (std::uint32_t)(q >> 32) ^ b ^ k;
        b = (std::uint32_t)q;
        c = (std::uint32_t)(p >> 32) ^ d ^ l;
        d = (std::uint32_t)p;
        k += 0x9E3779B9u;
        l += 0xBB67AE85u;
    }
    return {{a, b, c, d}};
}

// ---- distributions --------------------------------------------------------------------------------------------------

// In (0, 1].
float uniform(std::uint32_t bits) { return (float)(((double)bits + 1) * 0x1p-32); }
double uniform(std::uint64_t bits) { return (double)((bits >> 11) + 1) * 0x1p-53; }

// By Box and Muller, from two uniform numbers; the other number of the pair is left.
double normal(const Words& words) {
    return std::sqrt(-2 * std::log(uniform(words.low()))) * std::cos(2 * M_PI * uniform(words.high()));
}
float normal_float(const Words& words) {
    return std::sqrt(-2 * std::log(uniform(words.word[0]))) * std::cos((float)(2 * M_PI) * uniform(words.word[1]));
}

// By inversion; where the mean is large by transformed rejection (Hörmann, "The transformed rejection method for
// generating Poisson random variables", 1993, algorithm PTRS). draw(i) is the words of the i-th try.
template <class F> std::uint32_t poisson(double mean, F draw) {
    if (mean < 10) {
        const double u = uniform(draw(0).low());
        double chance = std::exp(-mean), below = chance;
        std::uint32_t k = 0;
        while (u > below && k < 1000) below += chance *= mean / ++k;
        return k;
    }
    const double root = std::sqrt(mean), b = 0.931 + 2.53 * root, a = -0.059 + 0.02483 * b;
    const double inverse_alpha = 1.1239 + 1.1328 / (b - 3.4), bound = 0.9277 - 3.6224 / (b - 2);
    const double log_mean = std::log(mean);
    for (std::uint32_t i = 0;; i++) {
        const Words words = draw(i);
        const double u = uniform(words.low()) - 0.5, v = uniform(words.high()), us = 0.5 - std::fabs(u);
        if (us <= 0) continue;
        const double k = std::floor((2 * a / us + b) * u + mean + 0.43);
        if (us >= 0.07 && v <= bound) return (std::uint32_t)k;
        if (k < 0 || (us < 0.013 && v > us)) continue;
        if (std::log(v * inverse_alpha / (a / (us * us) + b)) <= k * log_mean - mean - std::lgamma(k + 1))
            return (std::uint32_t)k;
    }
}

// ---- work -----------------------------------------------------------------------------------------------------------

// Has out[i] = number(draw) done for each i, where draw(t) are words of that number alone.
template <class T, class F> int generate(Generator* generator, T* out, std::size_t n, F number) {
    if (is_broken()) return preexisting_failure;
    if (!n) return done;
    const bool restarts = generator->restarts;
    generator->restarts = false;
    auto work = [=, sequence = generator->sequence, type = (std::uint32_t)generator->type, on = generator->device,
                 seed = generator->seed, offset = generator->offset]() -> int {
        if (restarts) *sequence = {seed, offset};
        const int error = reach("cuRAND", on, out, {n * sizeof(T)}, true);
        if (error == illegal_address) return error;
        const Sequence at = *sequence;
        for (std::size_t i = 0; i < n; i++)
            out[i] = number([&](std::uint32_t t) { return philox_words(at.seed, at.position + i, t, type); });
        sequence->position += n;
        return error;
    };
    return told_later(enqueue(generator->stream, "cuRAND", work)) ? launch_failure : done;
}

template <class T, bool logarithmic>
int generate_normal(Generator* generator, T* out, std::size_t n, T mean, T deviation) {
    Lock lock;
    if (!known(generator)) return not_initialized;
    if (n % 2) return length_not_multiple;  // a GPU makes them in pairs
    return generate(generator, out, n, [=](auto draw) -> T {
        T x;
        if constexpr (sizeof(T) == 4) x = mean + deviation * normal_float(draw(0));
        else x = mean + deviation * normal(draw(0));
        return logarithmic ? std::exp(x) : x;
    });
}

}  // namespace

}  // namespace gpunn_device

using namespace gpunn_device;

// ---- generators -----------------------------------------------------------------------------------------------------

// Quasi-random sequences and generators for the host's own memory are not there.
GPUNN_API int curandCreateGenerator(Generator** out, int type) {
    Lock lock;
    if (!out) return type_error;
    if (type == pseudo_default) type = xorwow;
    if (type != xorwow && type != mrg32k3a && type != mtgp32 && type != mt19937 && type != philox) return type_error;
    if (is_broken()) return preexisting_failure;
    if (unsafe_in_capture()) return allocation_failed;
    Generator* generator = new Generator;
    generator->type = type;
    generator->device = current_device();
    generators.insert(generator);
    *out = generator;
    return done;
}

GPUNN_API int curandDestroyGenerator(Generator* generator) {
    Lock lock;
    if (!known(generator)) return not_initialized;
    generators.erase(generator);
    delete generator;
    return done;
}

GPUNN_API int curandGetVersion(int* version) {
    if (!version) return out_of_range;
    *version = settings.version >= 13000 ? 10400 : 10310;
    return done;
}

GPUNN_API int curandSetStream(Generator* generator, std::intptr_t stream) {
    Lock lock;
    if (!known(generator)) return not_initialized;
    generator->stream = stream;
    return done;
}

GPUNN_API int curandSetPseudoRandomGeneratorSeed(Generator* generator, unsigned long long seed) {
    Lock lock;
    if (!known(generator)) return not_initialized;
    generator->seed = seed;
    generator->restarts = true;
    return done;
}

GPUNN_API int curandSetGeneratorOffset(Generator* generator, unsigned long long offset) {
    Lock lock;
    if (!known(generator)) return not_initialized;
    if (generator->type == mtgp32 || generator->type == mt19937) return type_error;
    generator->offset = offset;
    generator->restarts = true;
    return done;
}

// However they are ordered on a GPU, here they are in one order.
GPUNN_API int curandSetGeneratorOrdering(Generator* generator, int order) {
    Lock lock;
    if (!known(generator)) return not_initialized;
    const int first = 100, last = 104;  // those of pseudo-random numbers
    return order < first || order > last ? out_of_range : done;
}

// ---- numbers --------------------------------------------------------------------------------------------------------

GPUNN_API int curandGenerate(Generator* generator, std::uint32_t* out, std::size_t n) {
    Lock lock;
    if (!known(generator)) return not_initialized;
    return generate(generator, out, n, [](auto draw) { return draw(0).word[0]; });
}

// Only 64-bit quasi-random generators have them.
GPUNN_API int curandGenerateLongLong(Generator* generator, std::uint64_t*, std::size_t) {
    Lock lock;
    return known(generator) ? type_error : not_initialized;
}

GPUNN_API int curandGenerateUniform(Generator* generator, float* out, std::size_t n) {
    Lock lock;
    if (!known(generator)) return not_initialized;
    return generate(generator, out, n, [](auto draw) { return uniform(draw(0).word[0]); });
}

GPUNN_API int curandGenerateUniformDouble(Generator* generator, double* out, std::size_t n) {
    Lock lock;
    if (!known(generator)) return not_initialized;
    return generate(generator, out, n, [](auto draw) { return uniform(draw(0).low()); });
}

GPUNN_API int curandGenerateNormal(Generator* generator, float* out, std::size_t n, float mean, float deviation) {
    return generate_normal<float, false>(generator, out, n, mean, deviation);
}

GPUNN_API int curandGenerateNormalDouble(Generator* generator, double* out, std::size_t n, double mean,
                                         double deviation) {
    return generate_normal<double, false>(generator, out, n, mean, deviation);
}

GPUNN_API int curandGenerateLogNormal(Generator* generator, float* out, std::size_t n, float mean, float deviation) {
    return generate_normal<float, true>(generator, out, n, mean, deviation);
}

GPUNN_API int curandGenerateLogNormalDouble(Generator* generator, double* out, std::size_t n, double mean,
                                            double deviation) {
    return generate_normal<double, true>(generator, out, n, mean, deviation);
}

GPUNN_API int curandGeneratePoisson(Generator* generator, std::uint32_t* out, std::size_t n, double mean) {
    Lock lock;
    if (!known(generator)) return not_initialized;
    if (!(mean > 0) || mean > 0x1p31) return out_of_range;
    return generate(generator, out, n, [=](auto draw) { return poisson(mean, draw); });
}

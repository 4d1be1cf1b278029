// Sorts, reductions, scans and histograms of arrays that lie in one piece, in the order of a stream: what the modules
// of ours for cupy.cuda.thrust and cupy.cuda.cub compute with.
#include <algorithm>
#include <complex>
#include <cstring>
#include <limits>
#include <numeric>
#include <type_traits>
#include <utility>
#include <vector>

#include "device.h"

using namespace gpunn_device;

namespace {

// ---- types ----------------------------------------------------------------------------------------------------------

struct Half {
    std::uint16_t bits;
};

struct Brain {  // bfloat16
    std::uint16_t bits;
};

template <class To, class From> To bits_as(From from) {
    static_assert(sizeof(To) == sizeof(From), "as many bits");
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}

// The type that values are compared and added up in.
template <class T> T wide(T x) { return x; }

float wide(Brain x) { return bits_as<float>((std::uint32_t)x.bits << 16); }

float wide(Half x) {
    std::uint32_t sign = (x.bits & 0x8000u) << 16, exponent = x.bits >> 10 & 31u, fraction = x.bits & 0x3ffu;
    if (!exponent) return bits_as<float>(bits_as<std::uint32_t>((float)fraction * 0x1p-24f) | sign);
    return bits_as<float>(sign | (exponent == 31 ? 255u : exponent + 112u) << 23 | fraction << 13);
}

template <class T> using Wide = decltype(wide(T()));

template <class T> T narrow(Wide<T> x) { return x; }

template <> Half narrow<Half>(float x) {
    std::uint32_t bits = bits_as<std::uint32_t>(x), sign = bits >> 16 & 0x8000u;
    bits &= 0x7fffffffu;
    float size = bits_as<float>(bits);
    if (size != size) return {(std::uint16_t)(sign | 0x7e00u)};
    if (size >= 65520.0f) return {(std::uint16_t)(sign | 0x7c00u)};
    // Below the normal numbers, adding 0.5 leaves the fraction in the last bits, rounded to even.
    if (size < 0x1p-14f) return {(std::uint16_t)(sign | (bits_as<std::uint32_t>(size + 0.5f) - 0x3f000000u))};
    bits += 0xfffu + (bits >> 13 & 1u);
    return {(std::uint16_t)(sign | ((bits >> 13) - (112u << 10)))};
}

template <class T> struct is_complex : std::false_type {};
template <class T> struct is_complex<std::complex<T>> : std::true_type {};

template <class T> bool is_nan(T x) {
    if constexpr (is_complex<T>::value) return x.real() != x.real() || x.imag() != x.imag();
    else return x != x;
}

// Numbers of types, as modules/_algorithms.py has them. `f` is called with a value of the type.
template <class F> int each_type(int type, F f) {
    switch (type) {
        case 0: return f(std::uint8_t());  // bool
        case 1: return f(std::int8_t());
        case 2: return f(std::uint8_t());
        case 3: return f(std::int16_t());
        case 4: return f(std::uint16_t());
        case 5: return f(std::int32_t());
        case 6: return f(std::uint32_t());
        case 7: return f(std::int64_t());
        case 8: return f(std::uint64_t());
        case 9: return f(Half());
        case 10: return f(Brain());
        case 11: return f(float());
        case 12: return f(double());
        case 13: return f(std::complex<float>());
        case 14: return f(std::complex<double>());
    }
    return invalid_value;
}

// ---- sorts ----------------------------------------------------------------------------------------------------------

// NumPy's order of complex numbers: first those without NaN, then by which part is NaN.
template <class T> bool before(std::complex<T> a, std::complex<T> b) {
    auto missing = [](std::complex<T> x) { return 2 * (x.real() != x.real()) + (x.imag() != x.imag()); };
    int of_a = missing(a), of_b = missing(b);
    if (of_a != of_b) return of_a < of_b;
    if (of_a < 2 && a.real() != b.real()) return a.real() < b.real();
    return !(of_a & 1) && a.imag() < b.imag();
}

// As values without NaN compare; of 16 bits, the sign turned into that of a whole number, which is quicker.
template <class T> T key(T x) { return x; }

int sign_and_size(std::uint16_t bits) { return bits & 0x8000 ? -(bits & 0x7fff) : bits; }

int key(Half x) { return sign_and_size(x.bits); }

int key(Brain x) { return sign_and_size(x.bits); }

// A stable sort by `value(element)`. Those that are NaN are set apart first, for `<` alone is quick.
template <class It, class F> void stable(It begin, It end, F value) {
    if constexpr (is_complex<decltype(value(*begin))>::value) {
        std::stable_sort(begin, end, [=](const auto& a, const auto& b) { return before(value(a), value(b)); });
    } else {
        It numbers = std::stable_partition(begin, end, [=](const auto& x) { return !is_nan(wide(value(x))); });
        std::stable_sort(begin, numbers, [=](const auto& a, const auto& b) { return key(value(a)) < key(value(b)); });
    }
}

template <class T> void sort(T* data, std::size_t rows, std::size_t n) {
    for (std::size_t row = 0; row < rows; row++, data += n) stable(data, data + n, [](T x) { return x; });
}

template <class T> void sort_with_places(std::int64_t* places, T* data, std::size_t rows, std::size_t n) {
    std::vector<std::pair<T, std::int64_t>> pairs(n);
    for (std::size_t row = 0; row < rows; row++, places += n, data += n) {
        for (std::size_t i = 0; i < n; i++) pairs[i] = {data[i], (std::int64_t)i};
        stable(pairs.begin(), pairs.end(), [](const auto& pair) { return pair.first; });
        for (std::size_t i = 0; i < n; i++) {
            data[i] = pairs[i].first;
            places[i] = pairs[i].second;
        }
    }
}

// By the last key first, as numpy.lexsort.
template <class T> void sort_by_keys(std::int64_t* places, const T* keys, std::size_t k, std::size_t n) {
    std::iota(places, places + n, (std::int64_t)0);
    for (std::size_t key = 0; key < k; key++, keys += n)
        stable(places, places + n, [=](std::int64_t place) { return keys[place]; });
}

// ---- reductions -----------------------------------------------------------------------------------------------------

enum Operation { sum, least, greatest, place_of_least, place_of_greatest, running_sum, running_product, product };

// Whole numbers wrap around.
template <class T> T add(T a, T b) {
    if constexpr (std::is_integral<T>::value) return (T)((std::uint64_t)a + (std::uint64_t)b);
    else return a + b;
}

template <class T> T multiply(T a, T b) {
    if constexpr (std::is_integral<T>::value) return (T)((std::uint64_t)a * (std::uint64_t)b);
    else if constexpr (is_complex<T>::value)
        return {a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real()};
    else return a * b;
}

template <bool Greatest, class T> bool better(T x, T than) {
    if constexpr (is_complex<T>::value) {
        if (is_nan(than)) return false;
        if (is_nan(x)) return true;
        if (x.real() != than.real()) return Greatest ? x.real() > than.real() : x.real() < than.real();
        return Greatest ? x.imag() > than.imag() : x.imag() < than.imag();
    } else {
        return (Greatest ? x > than : x < than) || x != x;
    }
}

// In an order that depends on n alone, and loses little: lanes within blocks, and halves of blocks.
template <class T, class F> Wide<T> fold(const T* x, std::size_t n, Wide<T> first, F f) {
    const std::size_t block = 4096, lanes = 32;
    if (n > block) {
        std::size_t half = (n / block + 1) / 2 * block;
        return f(fold(x, half, first, f), fold(x + half, n - half, first, f));
    }
    Wide<T> lane[lanes];
    for (auto& each : lane) each = first;
    std::size_t i = 0;
    for (; i + lanes <= n; i += lanes)
        for (std::size_t j = 0; j < lanes; j++) lane[j] = f(lane[j], wide(x[i + j]));
    for (std::size_t j = 0; i + j < n; j++) lane[j] = f(lane[j], wide(x[i + j]));
    for (std::size_t width = lanes / 2; width; width /= 2)
        for (std::size_t j = 0; j < width; j++) lane[j] = f(lane[j], lane[j + width]);
    return lane[0];
}

// The first of the best, or of those that are NaN.
template <bool Greatest, class T> std::size_t best(const T* x, std::size_t n) {
    std::size_t place = 0;
    auto value = wide(x[0]);
    for (std::size_t i = 1; i < n && !is_nan(value); i++)
        if (better<Greatest>(wide(x[i]), value)) {
            place = i;
            value = wide(x[i]);
        }
    return place;
}

template <bool Greatest, class T> T extreme(const T* x, std::size_t n) {
    if constexpr (is_complex<T>::value) return x[best<Greatest>(x, n)];
    else
        return narrow<T>(fold(x, n, wide(x[0]), [](Wide<T> a, Wide<T> b) { return better<Greatest>(b, a) ? b : a; }));
}

template <class T> void reduce(int operation, const T* x, void* out, std::size_t rows, std::size_t n) {
    typedef Wide<T> W;
    for (std::size_t row = 0; row < rows; row++, x += n) {
        T& value = ((T*)out)[row];
        std::int64_t& place = ((std::int64_t*)out)[row];
        switch (operation) {
            case sum: value = narrow<T>(fold(x, n, W(0), [](W a, W b) { return add(a, b); })); break;
            case product: value = narrow<T>(fold(x, n, W(1), [](W a, W b) { return multiply(a, b); })); break;
            case least: value = extreme<false>(x, n); break;
            case greatest: value = extreme<true>(x, n); break;
            case place_of_least: place = (std::int64_t)best<false>(x, n); break;
            case place_of_greatest: place = (std::int64_t)best<true>(x, n); break;
        }
    }
}

template <class T, class F> void scan(T* x, std::size_t n, Wide<T> so_far, F f) {
    for (std::size_t i = 0; i < n; i++) {
        so_far = f(so_far, wide(x[i]));
        x[i] = narrow<T>(so_far);
    }
}

template <class T> void scan(int operation, T* x, std::size_t n) {
    typedef Wide<T> W;
    if (operation == running_sum) scan(x, n, W(0), [](W a, W b) { return add(a, b); });
    else scan(x, n, W(1), [](W a, W b) { return multiply(a, b); });
}

// ---- histograms -----------------------------------------------------------------------------------------------------

void write_counts(const std::vector<std::uint64_t>& counts, void* out, std::size_t bytes) {
    for (std::size_t i = 0; i < counts.size(); i++) {
        if (bytes == 4) ((std::uint32_t*)out)[i] = (std::uint32_t)counts[i];
        else ((std::uint64_t*)out)[i] = counts[i];
    }
}

// What edges of bins are given in.
template <class T> using Edge = std::conditional_t<std::is_integral<T>::value, double, T>;

// How many lie in each [edges[i], edges[i + 1]). Without edges, how many are equal to each i.
template <class T>
void count(const T* x, std::size_t n, const Edge<T>* edges, std::size_t bins, void* out, std::size_t count_bytes) {
    std::vector<std::uint64_t> counts(bins);
    if (edges) {
        std::vector<Wide<Edge<T>>> limits(bins + 1);
        for (std::size_t i = 0; i <= bins; i++) limits[i] = wide(edges[i]);
        for (std::size_t i = 0; i < n; i++) {
            auto value = (Wide<Edge<T>>)wide(x[i]);
            if (value >= limits.front() && value < limits.back())
                counts[(std::size_t)(std::upper_bound(limits.begin(), limits.end(), value) - limits.begin() - 1)]++;
        }
    } else if constexpr (std::is_integral<T>::value) {
        for (std::size_t i = 0; i < n; i++)
            if (x[i] >= 0 && (std::uint64_t)x[i] < bins) counts[(std::size_t)x[i]]++;
    }
    write_counts(counts, out, count_bytes);
}

// What an algorithm reads or writes, in one piece.
struct Piece {
    const void* memory;
    std::size_t count, bytes;  // bytes of each; none: of the type
    bool write;
};

template <class F>
int enqueue_for_type(std::intptr_t stream_handle, const char* label, int type, std::vector<Piece> pieces, F f) {
    Lock lock;
    const Stream* stream = stream_of(stream_handle);
    if (!stream) return invalid_handle;
    return each_type(type, [&](auto value) {
        return enqueue(stream_handle, label, [=, device = stream->device] {
            int error = success;
            for (const Piece& piece : pieces) {
                std::size_t bytes = piece.count * (piece.bytes ? piece.bytes : sizeof value);
                int wrong = reach(label, device, piece.memory, {bytes}, piece.write);
                if (wrong == illegal_address) return wrong;
                if (wrong) error = wrong;
            }
            f(value);
            return error;
        });
    });
}

const std::size_t place_bytes = sizeof(std::int64_t);

}  // namespace

// Each row of n elements on its own.
GPUNN_API int gpunn_algorithm_sort(std::intptr_t stream, int type, void* data, std::size_t rows, std::size_t n) {
    return enqueue_for_type(stream, "sort", type, {{data, rows * n, 0, true}},
                            [=](auto value) { sort((decltype(value)*)data, rows, n); });
}

// Sorts each row, and writes where each of its elements has been.
GPUNN_API int gpunn_algorithm_argsort(std::intptr_t stream, int type, std::int64_t* places, void* data,
                                      std::size_t rows, std::size_t n) {
    return enqueue_for_type(stream, "argsort", type,
                            {{data, rows * n, 0, true}, {places, rows * n, place_bytes, true}},
                            [=](auto value) { sort_with_places(places, (decltype(value)*)data, rows, n); });
}

GPUNN_API int gpunn_algorithm_lexsort(std::intptr_t stream, int type, std::int64_t* places, const void* keys,
                                      std::size_t k, std::size_t n) {
    return enqueue_for_type(stream, "lexsort", type, {{keys, k * n, 0, false}, {places, n, place_bytes, true}},
                            [=](auto value) { sort_by_keys(places, (const decltype(value)*)keys, k, n); });
}

// Each row of n elements to one: of its type, or its place.
GPUNN_API int gpunn_algorithm_reduce(std::intptr_t stream, int type, int operation, const void* x, void* out,
                                     std::size_t rows, std::size_t n) {
    if (operation == running_sum || operation == running_product || operation < sum || operation > product ||
        (!n && operation != sum && operation != product) || type == 10)
        return invalid_value;
    const std::size_t out_bytes = operation == place_of_least || operation == place_of_greatest ? place_bytes : 0;
    return enqueue_for_type(stream, "reduce", type, {{x, rows * n, 0, false}, {out, rows, out_bytes, true}},
                            [=](auto value) {
        if constexpr (!std::is_same<decltype(value), Brain>::value)
            reduce(operation, (const decltype(value)*)x, out, rows, n);
    });
}

GPUNN_API int gpunn_algorithm_scan(std::intptr_t stream, int type, int operation, void* x, std::size_t n) {
    if ((operation != running_sum && operation != running_product) || type == 10) return invalid_value;
    return enqueue_for_type(stream, "scan", type, {{x, n, 0, true}}, [=](auto value) {
        if constexpr (!std::is_same<decltype(value), Brain>::value) scan(operation, (decltype(value)*)x, n);
    });
}

GPUNN_API int gpunn_algorithm_histogram(std::intptr_t stream, int type, const void* x, std::size_t n, const void* edges,
                                        std::size_t bins, void* counts, std::size_t count_bytes) {
    if (type > 12 || (!edges && type > 8)) return invalid_value;
    const bool whole = type <= 8;  // then edges are float64
    const std::vector<Piece> pieces = {{x, n, 0, false},
                                       {edges, edges ? bins + 1 : 0, whole ? sizeof(double) : 0, false},
                                       {counts, bins, count_bytes, true}};
    return enqueue_for_type(stream, "histogram", type, pieces, [=](auto value) {
        typedef decltype(value) T;
        if constexpr (!is_complex<T>::value) count((const T*)x, n, (const Edge<T>*)edges, bins, counts, count_bytes);
    });
}

// The few type traits that are needed, without <type_traits>.
#pragma once

namespace gpunn_emulator {

template <class T> struct identity { typedef T type; };

template <class T> struct without_const {
    typedef T type;
    static constexpr bool was_const = false;
};
template <class T> struct without_const<const T> {
    typedef T type;
    static constexpr bool was_const = true;
};
template <class T> struct without_const<volatile T> {
    typedef T type;
    static constexpr bool was_const = false;
};
template <class T> struct without_const<const volatile T> {
    typedef T type;
    static constexpr bool was_const = true;
};

template <unsigned bytes> struct word;
template <> struct word<1> { typedef unsigned char type; };
template <> struct word<2> { typedef unsigned short type; };
template <> struct word<4> { typedef unsigned int type; };
template <> struct word<8> { typedef unsigned long long type; };

// The same bits as another type.
template <class To, class From> inline To bit_cast(const From& from) {
    static_assert(sizeof(To) == sizeof(From), "both types must have the same size");
    To to;
    __builtin_memcpy(&to, &from, sizeof to);
    return to;
}

template <unsigned... i> struct indices {};
template <unsigned n, unsigned... i> struct make_indices : make_indices<n - 1, n - 1, i...> {};
template <unsigned... i> struct make_indices<0, i...> { typedef indices<i...> type; };

}  // namespace gpunn_emulator

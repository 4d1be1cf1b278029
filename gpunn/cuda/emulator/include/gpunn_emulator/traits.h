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

template <class T> struct without_reference { typedef T type; };
template <class T> struct without_reference<T&> { typedef T type; };
template <class T> struct without_reference<T&&> { typedef T type; };
template <class T> using plain = typename without_const<typename without_reference<T>::type>::type;

template <class A, class B> struct is_same { static constexpr bool value = false; };
template <class A> struct is_same<A, A> { static constexpr bool value = true; };

template <class T> struct is_integer { static constexpr bool value = false; };
template <> struct is_integer<bool> { static constexpr bool value = true; };
template <> struct is_integer<char> { static constexpr bool value = true; };
template <> struct is_integer<signed char> { static constexpr bool value = true; };
template <> struct is_integer<unsigned char> { static constexpr bool value = true; };
template <> struct is_integer<short> { static constexpr bool value = true; };
template <> struct is_integer<unsigned short> { static constexpr bool value = true; };
template <> struct is_integer<int> { static constexpr bool value = true; };
template <> struct is_integer<unsigned> { static constexpr bool value = true; };
template <> struct is_integer<long> { static constexpr bool value = true; };
template <> struct is_integer<unsigned long> { static constexpr bool value = true; };
template <> struct is_integer<long long> { static constexpr bool value = true; };
template <> struct is_integer<unsigned long long> { static constexpr bool value = true; };

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

// From a packed argument buffer to a typed call, and the description of a kernel's parameters for the loader.
#pragma once

extern "C" int snprintf(char*, size_t, const char*, ...) noexcept;

namespace gpunn_emulator {

template <class T> constexpr auto known_size(int) -> decltype((int)sizeof(T)) { return (int)sizeof(T); }
template <class T> constexpr int known_size(...) { return 0; }

// What a scalar or an array element is: b(ool), i(nteger), u(nsigned), f(loat), a(ddress), or s: a struct, of which
// only the size is known. `void`, a struct that is not defined and plain `char` stand for bytes of any kind.
template <class T> struct kind {
    static constexpr char code = 's';
    static constexpr int bytes = known_size<T>(0);
};
template <> struct kind<void> {
    static constexpr char code = 's';
    static constexpr int bytes = 0;
};
template <> struct kind<bool> {
    static constexpr char code = 'b';
    static constexpr int bytes = 1;
};
template <class T> struct kind<T*> {
    static constexpr char code = 'a';
    static constexpr int bytes = sizeof(T*);
};
#define GPUNN_KIND(type, letter)                   \
    template <> struct kind<type> {                \
        static constexpr char code = letter;       \
        static constexpr int bytes = sizeof(type); \
    };
GPUNN_KIND(char, 'c')
GPUNN_KIND(signed char, 'i')
GPUNN_KIND(short, 'i')
GPUNN_KIND(int, 'i')
GPUNN_KIND(long, 'i')
GPUNN_KIND(long long, 'i')
GPUNN_KIND(unsigned char, 'u')
GPUNN_KIND(unsigned short, 'u')
GPUNN_KIND(unsigned int, 'u')
GPUNN_KIND(unsigned long, 'u')
GPUNN_KIND(unsigned long long, 'u')
GPUNN_KIND(float, 'f')
GPUNN_KIND(double, 'f')

template <class T> struct parameter {
    typedef typename without_const<T>::type plain;
    static constexpr bool is_pointer = false, writes = false;
    typedef kind<plain> described;
};
template <class T> struct parameter<T*> {
    typedef T* plain;
    static constexpr bool is_pointer = true, writes = !without_const<T>::was_const;
    typedef kind<typename without_const<T>::type> described;
};
template <class T> struct parameter<T* const> : parameter<T*> {};

// The byte where parameter i starts: each is aligned as its type asks, as in a struct.
template <class... Parameters> struct Layout {
    static constexpr unsigned count = sizeof...(Parameters);
    static constexpr unsigned sizes[count + 1] = {(unsigned)sizeof(typename parameter<Parameters>::plain)...,
                                                  0};
    static constexpr unsigned alignments[count + 1] = {
        (unsigned)alignof(typename parameter<Parameters>::plain)..., 1};
    static constexpr unsigned offset(unsigned i) { return rounded(i ? offset(i - 1) + sizes[i - 1] : 0, alignments[i]); }
    static constexpr unsigned rounded(unsigned at, unsigned to) { return (at + to - 1) / to * to; }
};

// Before C++17 the tables are to be defined out here too.
template <class... Parameters> constexpr unsigned Layout<Parameters...>::sizes[];
template <class... Parameters> constexpr unsigned Layout<Parameters...>::alignments[];

template <class... Parameters, unsigned... i>
GPUNN_UNWATCHED inline void call_with(void (*kernel)(Parameters...), const char* arguments, indices<i...>) {
    typedef Layout<Parameters...> Offsets;
    (void)arguments;
    kernel(*(const typename parameter<Parameters>::plain*)(arguments + Offsets::offset(i))...);
}

template <class... Parameters>
GPUNN_UNWATCHED inline void call_kernel(void (*kernel)(Parameters...), const char* arguments) {
    call_with(kernel, arguments, typename make_indices<sizeof...(Parameters)>::type());
}

// One word per parameter: `p` (pointer), `P` (pointer to const) or `v` (value), then kind, bytes, offset and
// alignment.
template <class... Parameters>
GPUNN_UNWATCHED inline int describe_kernel(void (*)(Parameters...), char* text, int capacity) {
    typedef Layout<Parameters...> Offsets;
    const char passing[] = {
        parameter<Parameters>::is_pointer ? (parameter<Parameters>::writes ? 'p' : 'P') : 'v' ..., 0};
    const char codes[] = {parameter<Parameters>::described::code..., 0};
    const int bytes[] = {parameter<Parameters>::described::bytes..., 0};
    int length = 0;
    for (unsigned i = 0; i < sizeof...(Parameters) && length < capacity; i++)
        length += snprintf(text + length, (size_t)(capacity - length), "%c%c,%d,%u,%u ", passing[i], codes[i],
                           bytes[i], Offsets::offset(i), Offsets::alignments[i]);
    return length;
}

}  // namespace gpunn_emulator

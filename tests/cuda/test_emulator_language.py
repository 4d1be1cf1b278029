"""What CUDA adds to C++ beside its functions: shifts, a heap, shared memory's words, numbers side by side in a word."""

import re
import warnings

import numpy as np
import pytest

from gpunn.cuda.emulator import CheckError, CheckWarning, RawModule, build, shifts
from gpunn.errors import CompileError, LaunchError

i32, u32 = np.int32, np.uint32
CLANG = "clang" in build.host_compiler().version

CODE = r"""
// --- shifts
template <class T> struct Box { T v; };
template <class T> __device__ __forceinline__ T unpacked(Box<Box<T>> x) { return x.v.v; }
template <int n> __device__ constexpr int power() { return 1 << n; }
enum Color { RED = 1 << 3, GREEN = RED << 1 };
constexpr int K = 5;
enum { LARGE = 1 << K, SMALL = LARGE >> K };
struct Fields { unsigned low : 5, high : 27; };
struct Word {
    unsigned v;
    __device__ Word operator<<(int n) const { return Word{v + n}; }
    __device__ Word& operator<<=(int n) { v += n; return *this; }
};
__device__ Word operator>>(Word w, Word n) { return Word{w.v - n.v}; }

template <class T> __global__ void shift(T* y, const T* x, const int* by, int n) {
    int t = threadIdx.x, b = by[t];
    T c = x[t], d = c;
    y[t] = c << b;
    y[n + t] = c >> b;
    c <<= b;
    y[2 * n + t] = c;
    d >>= b;
    y[3 * n + t] = d;
}

extern "C" __global__ void forms(unsigned* y, int b) {
    int k = 0;
    y[k++] = (1 << b) - 1;
    y[k++] = 1u << b << 1;
    y[k++] = 0xffffffffu >> (32 - b);
    y[k++] = unpacked<int>(Box<Box<int>>{Box<int>{3}}) >> b;
    y[k++] = b < 40 >> b;
    y[k++] = static_cast<int>(1.5f) << b;
    Fields fields{3, 5};
    y[k++] = fields.low << b;
    Word w{7};
    w <<= b;
    y[k++] = (w << b).v;
    y[k++] = (w >> w).v;
    y[k++] = LARGE + SMALL + GREEN + power<K>() + Box<int>{2}.v;
    __shared__ int room[1 << K];
    y[k++] = sizeof room;
    volatile int v = 1;
    v <<= b;
    y[k++] = v;
    y[k++] = true << b;
    y[k++] = (signed char)-1 >> b;
    y[k++] = RED << b;
    switch (b) { case 1 << K: y[k++] = 77; break; default: y[k++] = 78; }
    y[k++] = (unsigned)(1ull << b >> 32);
    y[k++] = b ? 1 << b : 2;
    y[k++] = b == 3 || b < 4 && b > 1 >> b;
}
extern "C" __global__ void below(int* y) {
    y[threadIdx.x] = __popc((1 << threadIdx.x) - 1);  // lane 31: the smallest int, less 1
}

// --- dynamic shared memory
volatile extern __shared__ int outer[];
extern "C" __global__ void words_1(int* y) { outer[threadIdx.x] = 2; y[threadIdx.x] = outer[threadIdx.x] + 68; }
extern volatile __shared__ int between[];
extern "C" __global__ void words_2(int* y) { between[threadIdx.x] = 2; y[threadIdx.x] = between[threadIdx.x] + 68; }
extern "C" __global__ void words_3(int* y) {
    __shared__ extern
        __align__(16) int turned[];
    turned[threadIdx.x] = 2;
    y[threadIdx.x] = turned[threadIdx.x] + __LINE__;
}
template <class T> __global__ void words_4(T* y) {
    volatile __shared__ extern unsigned char raw[];
    volatile T* t = reinterpret_cast<volatile T*>(raw);
    t[threadIdx.x] = 2;
    y[threadIdx.x] = t[threadIdx.x] + 68;
}

__shared__ extern int file_scope[];
extern __shared__ int held[];
template <int n> __device__ void fold(volatile int* file_scope, int t) { file_scope[t] += file_scope[t + n]; }
struct Row { int held; __device__ int get() { return held; } };
namespace inner {
struct Sum { __device__ int of(int t) const { return file_scope[t] + file_scope[0]; } };
}
extern "C" __global__ void names(int* y, int n) {
    int t = threadIdx.x;
    file_scope[t] = t;
    __syncthreads();
    if (t < 32) fold<32>(file_scope, t);
    __syncthreads();
    { int file_scope = 5; n += file_scope; }
    Row row{3};
    y[t] = file_scope[t % 32] + row.held + n + row.get() + inner::Sum().of(2) + held[0];
}
extern "C" {
__global__ void hides(int* y, int n) {
    __shared__ int file_scope[64];
    file_scope[threadIdx.x] = n;
    y[threadIdx.x] = file_scope[threadIdx.x];
}
}

// --- classes
struct Shape {
    int n;
    __device__ Shape(int n) : n(n) {}
    __device__ virtual ~Shape() {}
    __device__ virtual int area() const = 0;
    __device__ virtual int twice() const { return 2 * area(); }
};
struct Square : Shape {
    using Shape::Shape;
    __device__ int area() const override { return n * n; }
};
struct Line : Shape {
    using Shape::Shape;
    __device__ int area() const override;
    int twice() const override { return -1; }
};
__noinline__ int Line::area() const { return n; }
struct Unknown;
extern "C" __global__ void shapes(int* y, Unknown* u, cudaStream_t s, cudaExtent e, cudaError_t k, cudaPitchedPtr p) {
    __shared__ Shape* all[64];
    int t = threadIdx.x;
    Shape* mine = t % 2 ? (Shape*)new Square(t) : new Line(t);
    all[t] = mine;
    __syncthreads();
    Shape* other = all[63 - t];
    y[t] = other->area() + other->twice() + (s != nullptr) + (k != cudaSuccess) + e.width + p.pitch + (u == nullptr);
    __syncthreads();
    delete mine;
}
__forceinline__ __device__ int odd(int n);
__forceinline__ __device__ int even(int n) { return n ? odd(n - 1) : 1; }
__forceinline__ __device__ int odd(int n) { return n ? even(n - 1) : 0; }
extern "C" __global__ void calls_itself(int* y, int n) { y[0] = odd(n) + 2 * even(n); }

// --- the heap
struct Pair {
    int a, b;
    __device__ Pair(int a, int b) : a(a), b(b) {}
    __device__ ~Pair() { a = -1; }
    int sum() const;
};
__device__ __noinline__ int Pair::sum() const { return a + b; }
extern "C" __global__ void lists(int* y, int n) {
    int t = threadIdx.x, sum = 0;
    int* p = (int*)malloc(n * sizeof(int));
    for (int i = 0; i < n; i++) p[i] = t + i;
    for (int i = 0; i < n; i++) sum += p[i];
    free(p);
    free(nullptr);
    Pair* q = new Pair(sum, t);
    y[t] = q->sum();
    delete q;
    int* zeros = new int[n]();
    y[t] += zeros[n - 1];
    delete[] zeros;
    Pair* w = new Pair[2]{Pair(1, 2), Pair(3, 4)};
    y[t] += w[1].sum();
    delete[] w;
    void* aligned = __nv_aligned_device_malloc(24, 256);
    y[t] += (int)((size_t)aligned % 256);
    free(aligned);
}
extern "C" __global__ void placed(int* y) {
    alignas(Pair) char room[sizeof(Pair)];
    Pair* p = new (room) Pair(3, threadIdx.x);
    y[threadIdx.x] = p->sum();
    p->~Pair();
    __shared__ Box<int> more[64];
    Box<int>* q = new ((void*)(more + threadIdx.x)) Box<int>{5};
    y[threadIdx.x] += q->v;
}
extern "C" __global__ void exhausts(int* y) {
    char *p = (char*)malloc(7 << 20), *q = (char*)malloc(2 << 20);
    y[0] = p != nullptr;
    y[1] = q != nullptr;
    free(p);
    char* all = (char*)malloc(8 << 20);
    y[2] = all != nullptr;
#ifdef NEW_CHECKS
    y[3] = new Pair(1, 2) == nullptr;
#endif
    y[4] = malloc(0) == nullptr;
    free(all);
}
__device__ Pair* kept;
extern "C" __global__ void gives() { kept = new Pair(5, 6); }
extern "C" __global__ void takes(int* y) {
    y[0] = kept->sum();
    delete kept;
}
extern "C" __global__ void handed_on(int* y) {
    __shared__ int* p;
    if (threadIdx.x == 0) p = (int*)malloc(blockDim.x * sizeof(int));
    __syncthreads();
    p[threadIdx.x] = threadIdx.x;
    __syncthreads();
    y[threadIdx.x] = p[blockDim.x - 1 - threadIdx.x];
    __syncthreads();
    if (threadIdx.x == 0) free(p);
}
extern "C" __global__ void writes_beyond(int* y) { int* p = (int*)malloc(4 * gridDim.x); p[1] = 3; y[0] = p[1]; }
extern "C" __global__ void reads_freed(int* y) { int* p = (int*)malloc(4); p[0] = 3; free(p); y[0] = p[0]; }
extern "C" __global__ void frees_twice(int* y) { int* p = (int*)malloc(4); free(p); free(p); y[0] = 1; }
extern "C" __global__ void frees_inside(int* y) { char* p = (char*)malloc(4); free(p + 1); y[0] = 1; }
extern "C" __global__ void reads_unwritten(int* y) { int* p = (int*)malloc(4); y[0] = p[0]; }
extern "C" __global__ void races(int* y) {
    __shared__ int* p;
    if (threadIdx.x == 0) p = (int*)malloc(4);
    __syncthreads();
    *p = threadIdx.x;
    y[0] = 1;
}

// --- what compares first, by a cached load, and then swaps
#include <cuda_bf16.h>
extern "C" __global__ void swaps(__nv_bfloat162* n) {
    __nv_bfloat162 old = __ldcg(n);
    for (;;) {
        __nv_bfloat162 sum = __hadd2(old, __floats2bfloat162_rn(1, 2));
        unsigned compared = *(unsigned*)&old, seen = atomicCAS((unsigned*)n, compared, *(unsigned*)&sum);
        if (seen == compared) break;
        old = *(__nv_bfloat162*)&seen;
    }
}
"""
SHIFTED = {"int": i32, "unsigned": u32, "long long": np.int64, "unsigned long long": np.uint64, "short": np.int16,
           "unsigned char": np.uint8}  # fmt: skip
NAMES = [*(f"shift<{name}>" for name in SHIFTED), "words_4<long long>"]
MODES = {"fast": {}, "reverse": {"order": "reverse"}, "check": {"check": True}, "shuffled": {"check": True, "order": 3}}


@pytest.fixture(scope="module", params=MODES)
def module(request):
    options = () if CLANG else ("-DNEW_CHECKS",)  # of clang not before version 16
    return RawModule(CODE, options, NAMES, filename="k.cu", **MODES[request.param])


@pytest.fixture(scope="module")
def checked():
    return RawModule(CODE, () if CLANG else ("-DNEW_CHECKS",), NAMES, filename="k.cu", check=True)


@pytest.fixture
def run(module):
    def run(name, y, *args, threads=64, blocks=1, shared_mem=0):
        module.get_function(name)((blocks,), (threads,), (y, *args), shared_mem=shared_mem)
        return y

    return run


# --- shifts -----------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::gpunn.cuda.emulator.CheckWarning")
@pytest.mark.parametrize("name", SHIFTED)
def test_all_bits_are_shifted_out(run, name):
    dtype = SHIFTED[name]
    x = np.array([1, -1, 5, -7, 100, -128, 12345, 3] * 9).astype(dtype)
    by = np.repeat(np.array([0, 1, 7, 31, 32, 33, 63, 64, -1], i32), 8)
    y = run(f"shift<{name}>", np.zeros((4, 72), dtype), x, by, i32(72), threads=72)
    width, own = max(32, 8 * x.itemsize), 1 << 8 * x.itemsize

    def cut(numbers):
        return np.array([number % own for number in numbers], np.uint64).astype(f"u{x.itemsize}").view(dtype)

    pairs = [*zip(x.tolist(), by.tolist(), strict=True)]
    left = cut([a << b if 0 <= b < width else 0 for a, b in pairs])
    right = cut([a >> b if 0 <= b < width else -(a < 0) for a, b in pairs])
    np.testing.assert_array_equal(y, [left, right, left, right])


@pytest.mark.filterwarnings("ignore::gpunn.cuda.emulator.CheckWarning")
@pytest.mark.parametrize(
    ("by", "expected"),
    [
        (0, [0, 2, 0, 3, 1, 1, 3, 7, 0, 83, 128, 1, 1, 2**32 - 1, 8, 78, 0, 2, 0]),
        (3, [7, 16, 7, 0, 1, 8, 24, 13, 0, 83, 128, 8, 8, 2**32 - 1, 64, 78, 0, 8, 1]),
        (32, [2**32 - 1, 0, 2**32 - 1, 0, 0, 0, 0, 71, 0, 83, 128, 0, 0, 2**32 - 1, 0, 77, 1, 0, 0]),
    ],
)
def test_shifts_wherever_they_stand(run, by, expected):
    assert run("forms", np.zeros(19, u32), i32(by), threads=1).tolist() == expected


def test_shifts_and_sums_that_a_gpu_defines_are_a_warning(checked):
    y = np.zeros(32, i32)
    with pytest.warns(CheckWarning) as caught:
        checked.get_function("below")((1,), (32,), (y,))
    np.testing.assert_array_equal(y, np.arange(32))
    (told,) = caught
    assert re.fullmatch(
        r"below: integer-overflow: k.cu:\d+: block \(0,0,0\) thread \(31,0,0\): the result of - does not fit its "
        r"signed type; harmless: a GPU wraps around, which C\+\+ leaves undefined",
        str(told.message),
    )
    x = np.full(1, 3, i32)
    with pytest.warns(CheckWarning) as caught:
        checked.get_function("shift<int>")((1,), (1,), (np.zeros(4, i32), x, np.full(1, 40, i32), i32(1)))
    line = 1 + CODE[: CODE.index("y[t] = c << b;")].count("\n")
    assert str(caught[0].message) == (
        f"shift<int>: shift: k.cu:{line}: block (0,0,0) thread (0,0,0): shift by 40, which is not less than the type's "
        "bits; harmless: a GPU shifts all bits out, which C++ leaves undefined"
    )
    assert [each.message.args[0].split(":")[3] for each in caught] == [str(line + i) for i in (0, 1, 2, 4)]


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("1 << n", ["<<"]),
        ("1 << 31; x >> 0u; x >> 7ull; x <<= 5; x << (8); x >> ((31u)) | 1", []),
        ("1 << (32); x >> (3) + n; x << (3 + n)", ["<<", ">>", "<<"]),
        ("1 << 32; x >> 3 + n; x << 3.5; x << 1'0", ["<<", ">>", "<<", "<<"]),
        ("A<A<int>> x; A<A<A<int>>> y; f<A<int>>(n); B::template g<A<int>>(n)", []),
        ("f<(n >> k)>(x >> (k)); v[n >> k]; {a >> b;}", [">>", ">>", ">>", ">>"]),
        ("n < x >> k; n > x >> k; p->n >> k; n >= m >> k", [">>", ">>", ">>", ">>"]),
        ("static_cast<A<int>>(x) >> n", [">>"]),
        ("x operator<<(y); x operator >>=(y);", []),
        ("x <<= n; x >>= n;", ["<<=", ">>="]),
        ("a >> b >> c; A<a>> b;", [">>", ">>"]),
    ],
)
def test_which_words_are_shifts(code, found):
    header = "template <class T> struct A {}; template <class T> __attribute__((always_inline)) void f(T x);"
    assert re.findall(r"(\S+) ::gpunn_emulator::all_bits (?=\1)", shifts.rewrite(code, code, header)) == found


# --- dynamic shared memory --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["words_1", "words_2", "words_3", "words_4<long long>"])
def test_words_of_shared_memory_in_any_order(run, name):
    line = 1 + CODE[: CODE.index("+ __LINE__")].count("\n")
    y = run(name, np.zeros(64, np.int64 if "long" in name else i32), shared_mem=512)
    np.testing.assert_array_equal(y, 2 + line if name == "words_3" else 70)


def test_shared_memory_at_file_scope_is_hidden_as_other_names_are(run):
    t = np.arange(64)
    y = run("names", np.zeros(64, i32), i32(7), shared_mem=512)
    np.testing.assert_array_equal(y, 2 * (t % 32) + 32 + 3 + 12 + 3 + (2 + 34) + 32 + 32)
    np.testing.assert_array_equal(run("hides", np.zeros(64, i32), i32(7), shared_mem=512), 7)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "extern __shared__ int s[];\nnamespace a {\n__device__ int s[3];\n__device__ int f() { return s[0]; }\n}",
            "^k.cu:3: 's' is also the name of an extern __shared__ array",
        ),
        (
            "extern __shared__ int s[];\nstruct A { int* s; };\nstruct B : A { __device__ int f() { return s[0]; } };"
            "struct C {\n__device__ int f() { return s[0]; } };",
            "^k.cu:4: 's' was not declared in this scope|^k.cu:4: use of undeclared identifier 's'",
        ),
    ],
)
def test_what_shared_memory_at_file_scope_could_be_mistaken_for(code, message):
    with pytest.raises(CompileError, match=message):
        RawModule(code, filename="k.cu")


# --- classes ----------------------------------------------------------------------------------------------------------


def test_virtual_functions_and_types_of_the_runtime(run):
    t = 63 - np.arange(64)
    y = run("shapes", np.zeros(64, i32), None, None, np.void(bytes(24)), i32(0), np.void(bytes(32)))
    np.testing.assert_array_equal(y, np.where(t % 2, 3 * t * t, t - 1) + 1)


@pytest.mark.parametrize("n", [0, 5, 8])
def test_a_function_to_be_inlined_calls_itself(run, n):
    assert run("calls_itself", np.zeros(1, i32), i32(n), threads=1) == 2 - n % 2


# --- the heap ---------------------------------------------------------------------------------------------------------


def test_memory_that_kernels_take_and_give_back(run):
    t = np.arange(64)
    for _ in range(3):
        np.testing.assert_array_equal(run("lists", np.zeros(64, i32), i32(10)), 45 + 10 * t + t + 7)
    np.testing.assert_array_equal(run("handed_on", np.zeros(64, i32)), t[::-1])


def test_what_is_made_where_the_program_says(run):
    np.testing.assert_array_equal(run("placed", np.zeros(64, i32)), 8 + np.arange(64))


def test_memory_lives_longer_than_a_launch(run, module):
    module.get_function("gives")((1,), (1,), ())
    assert run("takes", np.zeros(1, i32), threads=1) == 11


def test_a_full_heap_gives_null(run):
    assert run("exhausts", np.zeros(5, i32), threads=1).tolist() == [1, 0, 1, 0 if CLANG else 1, 1]
    assert run("exhausts", np.zeros(5, i32), threads=1)[0] == 1  # all of it was given back


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("writes_beyond", "out-of-bounds", "write of 4 bytes at byte 4 of 4 from malloc"),
        ("reads_freed", "out-of-bounds", "read of 4 bytes at byte 0 of 4 from malloc, which were freed"),
        ("frees_twice", "fault", r"free of 0x\w+, which malloc has not given, or which was freed before"),
        ("frees_inside", "fault", r"free of 0x\w+, which malloc has not given, or which was freed before"),
        ("reads_unwritten", "uninitialised", "read of byte 0 of 4 from malloc, which nobody has written"),
        (
            "races",
            "race",
            r"write of byte 0 of 4 from malloc written at line \d+ by thread \(0,0,0\) with no barrier .*",
        ),
    ],
)
def test_mistakes_with_memory_of_malloc(checked, name, kind, message):
    with pytest.raises(CheckError) as caught:
        checked.get_function(name)((1,), (2 if name == "races" else 1,), (np.zeros(1, i32),))
    found = caught.value.reports[0]
    line = 1 + CODE[: CODE.index("*p = threadIdx.x" if name == "races" else f"void {name}(")].count("\n")
    assert (found.kind, found.line, found.byte) == (kind, line, None)
    assert re.fullmatch(message, found.message)


def test_memory_freed_twice_is_told_without_checks():
    module = RawModule(CODE, () if CLANG else ("-DNEW_CHECKS",), NAMES, filename="k.cu")
    with pytest.raises(LaunchError, match="free of 0x.* freed before"):
        module.get_function("frees_twice")((1,), (1,), (np.zeros(1, i32),))


# --- compare and swap -------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
def test_a_pair_read_by_a_cached_load_and_swapped(module):
    n = np.zeros(1, u32)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        module.get_function("swaps")((2,), (40,), (n,))
    assert n.view(np.uint16).tolist() == [0x42A0, 0x4320]  # 80 and 160
    assert all("the value read goes to atomicCAS" in str(each.message) for each in caught)


# --- numbers side by side ---------------------------------------------------------------------------------------------

LANES = {
    "vabs": (1, "s", lambda a: abs(a)),
    "vabsss": (1, "s", lambda a: limited("s", abs(a))),
    "vneg": (1, "s", lambda a: -a),
    "vnegss": (1, "s", lambda a: limited("s", -a)),
    "vadd": (2, "u", lambda a, b: a + b),
    "vaddss": (2, "s", lambda a, b: limited("s", a + b)),
    "vaddus": (2, "u", lambda a, b: limited("u", a + b)),
    "vsub": (2, "u", lambda a, b: a - b),
    "vsubss": (2, "s", lambda a, b: limited("s", a - b)),
    "vsubus": (2, "u", lambda a, b: limited("u", a - b)),
    "vabsdiffs": (2, "s", lambda a, b: abs(a - b)),
    "vabsdiffu": (2, "u", lambda a, b: abs(a - b)),
    "vavgs": (2, "s", lambda a, b: np.trunc((a + b) / 2 + 0.5 * np.sign(a + b)).astype(int)),
    "vavgu": (2, "u", lambda a, b: (a + b + 1) // 2),
    "vhaddu": (2, "u", lambda a, b: (a + b) // 2),
    "vmaxs": (2, "s", np.maximum),
    "vmaxu": (2, "u", np.maximum),
    "vmins": (2, "s", np.minimum),
    "vminu": (2, "u", np.minimum),
}
RELATIONS = {"eq": np.equal, "ne": np.not_equal, "ge": np.greater_equal, "gt": np.greater, "le": np.less_equal,
             "lt": np.less}  # fmt: skip
for relation, function in RELATIONS.items():
    for sign in ("u",) if relation in ("eq", "ne") else ("s", "u"):
        ending = "" if relation in ("eq", "ne") else sign
        LANES[f"vcmp{relation}{ending}"] = (2, sign, lambda a, b, f=function: -f(a, b).astype(int))
        LANES[f"vset{relation}{ending}"] = (2, sign, lambda a, b, f=function: f(a, b).astype(int))
SUMS = {"vsads": "s", "vsadu": "u"}
THREE = [f"__vi{m}3_{t}" for m in ("max", "min") for t in ("s32", "u32", "s16x2", "u16x2", "s32_relu", "s16x2_relu")]
THREE += [name.replace("__vi", "__viadd").replace("3_", "_") for name in THREE]
RELU = [f"__vi{m}_{t}_relu" for m in ("max", "min") for t in ("s32", "s16x2")]
WHICH = [f"__vib{m}_{t}" for m in ("max", "min") for t in ("s32", "u32", "s16x2", "u16x2")]

width = 0


def limited(sign, x):
    bits = 8 * width
    return np.clip(x, -(1 << bits - 1), (1 << bits - 1) - 1) if sign == "s" else np.clip(x, 0, (1 << bits) - 1)


def lanes_of(words, sign, size):
    return words.view({"s": "i", "u": "u"}[sign] + str(size)).astype(np.int64)


def words_of(lanes, size):
    return (lanes & (1 << 8 * size) - 1).astype(f"u{size}").view(u32)


def simd_code():
    lines = []
    for name, (count, _, _) in LANES.items():
        lines += [f"y[i++ * n + t] = __{name}{k}(a[t]{', b[t]' if count == 2 else ''});" for k in (2, 4)]
    lines += [f"y[i++ * n + t] = __{name}{k}(a[t], b[t]);" for name in SUMS for k in (2, 4)]
    lines += [f"y[i++ * n + t] = {name}(a[t], b[t], c[t]);" for name in THREE]
    lines += [f"y[i++ * n + t] = {name}(a[t], b[t]);" for name in RELU]
    for name in WHICH:
        told = "&p, &q" if "x2" in name else "&q"
        lines += [f"p = 0; y[i++ * n + t] = {name}(a[t], b[t], {told}); y[i++ * n + t] = 2 * p + q;"]
    return (
        """extern "C" __global__ void simd(unsigned* y, const unsigned* a, const unsigned* b, const unsigned* c) {
    int t = threadIdx.x, n = blockDim.x, i = 0;
    bool p, q;
    """
        + "\n    ".join(lines)
        + "\n}"
    )


@pytest.mark.filterwarnings("error", "ignore:.*it writes the number that")
@pytest.mark.parametrize("check", [False, True])
def test_numbers_side_by_side(check):
    global width
    n = 256
    a, b, c = np.random.default_rng(0).integers(0, 2**32, (3, n), dtype=u32)
    edges = np.array([0, 0x80008000, 0x80808080, 0x7FFE7FFF, 0x017F7F7F, 0xFFFFFFFF, 0x80000000, 0x00017FFF], u32)
    a[:64], b[:64], c[:64] = edges.repeat(8), np.tile(edges, 8), np.roll(np.tile(edges, 8), 3)
    b[64:96] = a[64:96]
    rows = len(LANES) * 2 + len(SUMS) * 2 + len(THREE) + len(RELU) + 2 * len(WHICH)
    y = np.zeros((rows, n), u32)
    RawModule(simd_code(), check=check).get_function("simd")((1,), (n,), (y, a, b, c))
    results = iter(y)

    def same(want, name):
        np.testing.assert_array_equal(next(results), want, err_msg=name)

    for name, (count, sign, function) in LANES.items():
        for lanes in (2, 4):
            width = 4 // lanes
            args = [lanes_of(x, sign, width) for x in (a, b)][:count]
            same(words_of(function(*args), width), f"{name}{lanes}")
    for name, sign in SUMS.items():
        for lanes in (2, 4):
            x, z = (lanes_of(each, sign, 4 // lanes) for each in (a, b))
            same(np.abs(x - z).reshape(n, lanes).sum(1), name)
    for name in [*THREE, *RELU]:
        m, size, sign = np.maximum if "max" in name else np.minimum, 2 if "x2" in name else 4, name.split("_")[3][0]
        x, z, w = (lanes_of(each, sign, size) for each in (a, b, c))
        if "add" in name:
            want = m(lanes_of(words_of(x + z, size), sign, size), w)
        else:
            want = m(m(x, z), w) if "3" in name.split("_")[2] else m(x, z)
        same(words_of(np.maximum(want, 0) if "relu" in name else want, size), name)
    for name in WHICH:
        size, sign = 2 if "x2" in name else 4, name.split("_")[3][0]
        x, z = (lanes_of(each, sign, size) for each in (a, b))
        same(words_of(np.maximum(x, z) if "max" in name else np.minimum(x, z), size), name)
        first = (x >= z if "max" in name else x <= z).reshape(n, -1)
        same(first @ [1, 2][: first.shape[1]], name)
    assert next(results, None) is None


# --- what is refused --------------------------------------------------------------------------------------------------


def test_dynamic_shared_memory_of_a_size_is_refused():
    with pytest.raises(CompileError, match=r"^k.cu:2: extern __shared__ must declare one array without a size"):
        RawModule('extern "C" __global__ void k() {\n  __shared__ extern int s[4];\n}', filename="k.cu")


# --- host code in the same file ---------------------------------------------------------------------------------------

HOST = r"""#include <cstdio>
#include <iostream>
#include <vector>
#include <memory>
#include <cuda_runtime.h>
#define CHECK(call) do { if ((call) != cudaSuccess) { fprintf(stderr, "%s {\n", cudaGetErrorString(call)); } } while (0)
const int N = 64;
static int verbose = 0;
std::vector<float> history;
typedef struct { float x, y; } Point;
enum Mode { FAST, SLOW } mode = FAST;
__constant__ float factor[2] = {1.5f, 2.0f};
__device__ int counter;
void launch(const float* x, float* y, int n);
template <typename T> struct Buffer {
    T* data;
    std::vector<T> host;
    Buffer(size_t n) : data(nullptr), host{n} { CHECK(cudaMalloc((void**)&data, n * sizeof(T))); }
    ~Buffer() { cudaFree(data); }
    __host__ __device__ T first() const { return data[0]; }
};
struct Vec { float v; __device__ Vec twice() const; float host_only() const; };
Vec Vec::twice() const { return Vec{2 * v}; }
float Vec::host_only() const { std::cout << v; return v; }
constexpr int square(int n) { return n * n; }
static __device__ __noinline__ float helper(float x) { return x * factor[1]; }
namespace detail {
float reference(float x) { return x * 2; }
template <class T> __global__ void scale(T* x, T by) { x[threadIdx.x] *= by; }
}
extern "C" __global__ void k(float* y, const float* x, int n) {
    int i = threadIdx.x;
    if (i < n) y[i] = helper(x[i]) + Vec{1}.twice().v + square(3) + __LINE__ + (1 << i);
    if (i == 0) atomicAdd(&counter, N);
}
void launch(const float* x, float* y, int n) {
    k<<<(n + 31) / 32, 32>>>(y, x, n);
    detail::scale<float><<<1, 32>>>(y, 2.0f);
}
int main(int argc, char** argv) {
    std::vector<float> x(N, 1.0f), y(N);
    auto p = std::make_unique<int>(3);
    std::cerr << "not {" << '}' << detail::reference(x[0]) << std::endl;
    return 0;
}
"""


@pytest.mark.parametrize("check", [False, True])
def test_host_code_is_left_out(check):
    module = RawModule(HOST, name_expressions=["detail::scale<float>"], filename="k.cu", check=check)
    x, y = np.arange(8, dtype=np.float32), np.zeros(8, np.float32)
    module.get_function("k")((1,), (32,), (y, x, i32(8)))
    module.get_function("detail::scale<float>")((1,), (8,), (y, np.float32(2)))
    line = 1 + HOST[: HOST.index("__LINE__")].count("\n")
    np.testing.assert_array_equal(y, 2 * (2 * x + 2 + 9 + line + 2.0 ** np.arange(8)))


def test_what_is_for_the_host_is_not_there_for_a_kernel():
    code = "int twice(int n) { return 2 * n; }\nint offset = 3;\n__global__ void k(int* y) {\n  y[0] = %s;\n}\n"
    code += "int main() { k<<<1, 1>>>(nullptr); }\n"
    for used, name in (("twice(1)", "twice"), ("offset", "offset")):
        with pytest.raises(CompileError, match=f"^k.cu:4: .*{name}"):
            RawModule(code % used, filename="k.cu")
    with pytest.raises(CompileError, match="^k.cu:2: launches from a kernel are not emulated"):
        RawModule('extern "C" __global__ void k(int* y) {\n  k<<<1, 1>>>(y);\n}', filename="k.cu")


@pytest.mark.parametrize("check", [False, True])
def test_what_nvrtc_knows_of_std_needs_no_header(check):
    code = """
template <class T> __device__ T last(std::initializer_list<T> of) { return *(of.end() - 1); }
template <class T> __device__ int taken(T&&) { return 1; }
template <class T> __device__ int taken(T&) { return 2; }
template <class T> __device__ int passed_on(T&& v) { return taken(std::forward<T>(v)); }
extern "C" __global__ void k(int* y) {
    int x = 4;
    y[0] = passed_on(x);
    y[1] = passed_on(std::move(x));
    y[2] = last({5, 6, 7});
}"""
    y = np.zeros(3, i32)
    RawModule(code, check=check).get_function("k")((1,), (1,), (y,))
    assert y.tolist() == [2, 1, 7]

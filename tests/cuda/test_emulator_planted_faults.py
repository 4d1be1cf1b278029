"""What check mode catches: a table of faults, each planted in a small kernel or in one line of ours in kernels/.

A row has the faulty source. In it `// fault` marks the line that is to be told, and `// right: CODE` the line that is
wrong: the control has CODE in its place, runs with the same arguments, and nothing is told of it. Where the mistake is
the launch and not the source, `wrong` is that launch. `escapes` says why a fault is not found: the row is an expected
failure, and fails the day it is found. What is to come: a thread that waits for a flag which nobody sets.
"""

import platform
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from gpunn.cuda import source as kernels
from gpunn.cuda.emulator import (
    CheckError,
    CheckWarning,
    RawKernel,
    RawModule,
    SurfaceObject,
    TextureObject,
    build,
    empty,
    reachable,
)
from gpunn.errors import LaunchError

f32, f64, i32 = np.float32, np.float64, np.int32
CLANG = build.host_compiler().is_clang


def zeros(*shape, dtype=f32):
    return np.zeros(shape, dtype)


def count(n, dtype=f32):
    return np.arange(n, dtype=dtype)


def ints(n=1):
    return np.zeros(n, i32)


@dataclass(frozen=True)
class Edit:
    """A line of a file in kernels/ with `old` replaced; `at` is a part of the line that is told, if it is another."""

    file: str
    macros: str
    old: str
    new: str
    at: str = ""


@dataclass(frozen=True)
class Row:
    fault: str
    kind: str  # of the report, or LaunchError
    source: str | Edit
    launch: Callable[[RawKernel], None]
    wrong: Callable[[RawKernel], None] | None = None
    name: str = ""  # of the kernel, if it is one of kernels/
    check: bool | str = True
    warns: bool = False  # that it is a CheckWarning
    says: str = ""
    escapes: str = ""
    escapes_clang: str = ""
    slow: bool = False

    @property
    def word(self) -> str:
        return re.sub(r"\W+", "_", self.fault)


ROWS: list[Row] = []


def row(fault, kind, source, launch, wrong=None, **more):
    ROWS.append(Row(fault, kind, source, launch, wrong, **more))


# --- global memory ----------------------------------------------------------------------------------------------------

row("a read beyond the end of an array", "out-of-bounds", """
__global__ void KERNEL(const float* x, float* y) {
    const int i = threadIdx.x;
    y[i] = x[i + 1];  // fault, right: y[i] = x[i];
}""", lambda k: k(1, 8, (count(8), zeros(8))))  # fmt: skip

row("a write beyond the end, <= for <", "out-of-bounds", """
__global__ void KERNEL(float* y, int n) {
    const int i = threadIdx.x;
    if (i <= n)  // right: if (i < n)
        y[i] = 1;  // fault
}""", lambda k: k(1, 32, (zeros(20), i32(20))))  # fmt: skip

row("a read before the beginning", "out-of-bounds", """
__global__ void KERNEL(const float* x, float* y, int n) {
    const int i = threadIdx.x;
    y[i] = x[i] - x[i - 1];  // fault, right: y[i] = x[i] - (i ? x[i - 1] : 0);
}""", lambda k: k(1, 8, (count(8), zeros(8), i32(8))))  # fmt: skip

row("the stride of the other matrix", "out-of-bounds", """
__global__ void KERNEL(const float* x, float* y, int rows, int columns) {
    const int row = threadIdx.y, column = threadIdx.x;
    y[column * rows + row] = x[row * columns + column];
    y[column * columns + row] += 1;  // fault, right: y[column * rows + row] += 1;
}""", lambda k: k(1, (5, 3), (zeros(3, 5), zeros(5, 3), i32(3), i32(5))))  # fmt: skip

row("a write beyond an array into the slice behind it", "out-of-bounds", """
__global__ void KERNEL(float* x, float* y) {
    const int i = threadIdx.x;
    y[i] = 2;
    x[i + 1] = 1;  // fault, right: x[i] = 1;
}""", lambda k: (lambda both: k(1, 8, (both[:8], both[8:])))(zeros(16)))  # fmt: skip

row("an address of one array computed from another", "out-of-bounds", """
__global__ void KERNEL(float* x, float* y) {
    const long long apart = y - x;
    x[threadIdx.x + apart] = 1;  // fault, right: y[threadIdx.x] = 1;
}""", lambda k: k(1, 8, (zeros(8), zeros(8))),
    escapes="memory is known by its addresses, and this one is in the other array")  # fmt: skip

row("an atomic operation beyond the end", "out-of-bounds", """
__global__ void KERNEL(const int* bins, int* counts) {
    atomicAdd(&counts[bins[threadIdx.x] + 1], 1);  // fault, right: atomicAdd(&counts[bins[threadIdx.x]], 1);
}""", lambda k: k(1, 32, (count(32, i32) % 4, ints(4))))  # fmt: skip

row("memcpy of too many bytes", "out-of-bounds", """
__global__ void KERNEL(const float* x, float* y, int n) {
    if (threadIdx.x == 0)
        memcpy(y, x, (n + 1) * sizeof(float));  // fault, right: memcpy(y, x, n * sizeof(float));
}""", lambda k: k(1, 1, (count(8), zeros(9), i32(8))))  # fmt: skip

row("a null pointer", "out-of-bounds", """
__global__ void KERNEL(const float* bias, float* y) {
    float more = 0;
    more = bias[threadIdx.x];  // fault, right: if (bias) more = bias[threadIdx.x];
    y[threadIdx.x] += more;
}""", lambda k: k(1, 8, (None, zeros(8))))  # fmt: skip


def rows_of(x):
    return np.array([x.ctypes.data], np.uint64)


def while_it_is_there(k):
    x = zeros(8)
    with reachable(x):
        k(1, 8, (rows_of(x),))


def after_it_was_freed(k):
    x = zeros(8)
    with reachable(x):
        rows = rows_of(x)
    k(1, 8, (rows,))


row("the use of an array that was freed", "out-of-bounds", """
__global__ void KERNEL(float** rows) {
    rows[0][threadIdx.x] += 1;  // fault
}""", while_it_is_there, after_it_was_freed)  # fmt: skip

row("four floats at an address that is no multiple of 16", "misaligned", """
__global__ void KERNEL(const float* x, float4* y) {
    const float* from = x + 2 * threadIdx.x;  // right: const float* from = x + 4 * threadIdx.x;
    y[threadIdx.x] = *(const float4*)from;  // fault
}""", lambda k: k(1, 4, (count(16), zeros(4, 4))),
    escapes_clang="clang says nothing of the alignment of a struct that is copied")  # fmt: skip

row("an int at an odd address", "misaligned", """
__global__ void KERNEL(const char* bytes, int* y) {
    const char* from = bytes + 5 * threadIdx.x;  // right: const char* from = bytes + 4 * threadIdx.x;
    y[threadIdx.x] = *(const int*)from;  // fault
}""", lambda k: k(1, 4, (np.zeros(20, np.int8), ints(4))))  # fmt: skip

row("scratch that nobody zeroed", "uninitialised", """
__global__ void KERNEL(float* sums, const float* x) {
    // right: sums[threadIdx.x] = 0;
    sums[threadIdx.x] += x[threadIdx.x];  // fault
}""", lambda k: k(1, 8, (empty(8), count(8))))  # fmt: skip

row("a counter that nobody zeroed", "uninitialised", """
__global__ void KERNEL(int* counter) {
    atomicAdd(counter, 1);  // fault
}""", lambda k: k(1, 8, (ints(),)), lambda k: k(1, 8, (empty(1, i32),)))  # fmt: skip

row("a write through a pointer to const", "read-only-write", """
__global__ void KERNEL(const float* x, float* y) {
    ((float*)x)[threadIdx.x] = 0;  // fault, right: y[threadIdx.x] = x[threadIdx.x];
}""", lambda k: k(1, 8, (count(8), zeros(8))))  # fmt: skip

row("a write to constant memory", "read-only-write", """
__constant__ float KERNEL_scale[4] = {1, 2, 3, 4};
__device__ float KERNEL_copy[4];
__global__ void KERNEL(float* y) {
    float* to = KERNEL_copy;
    to = (float*)KERNEL_scale;  // right:
    to[threadIdx.x] = 5;  // fault
    y[threadIdx.x] = KERNEL_scale[threadIdx.x];
}""", lambda k: k(1, 4, (zeros(4),)), says="_scale' byte 0, which is constant memory")  # fmt: skip

row("an index beyond constant memory", "bounds", """
__constant__ float KERNEL_scale[4] = {1, 2, 3, 4};
__global__ void KERNEL(float* y) {
    y[threadIdx.x] = KERNEL_scale[threadIdx.x + 1];  // fault, right: y[threadIdx.x] = KERNEL_scale[threadIdx.x];
}""", lambda k: k(1, 4, (zeros(4),)))  # fmt: skip

row("a pointer beyond a device variable", "out-of-bounds", """
__device__ float KERNEL_table[4] = {1, 2, 3, 4};
__device__ float KERNEL_next[4] = {5, 6, 7, 8};
__device__ __noinline__ float KERNEL_read(const float* table, int i) {
    return table[i];  // fault
}
__global__ void KERNEL(float* y) {
    const int i = threadIdx.x + 1;  // right: const int i = threadIdx.x;
    y[threadIdx.x] = KERNEL_next[0] + KERNEL_read(KERNEL_table, i);
}""", lambda k: k(1, 4, (zeros(4),)), says="_table' byte 16, beyond the end of a variable")  # fmt: skip

# --- shared memory ----------------------------------------------------------------------------------------------------

row("an index beyond a shared array", "bounds", """
__global__ void KERNEL(float* y) {
    __shared__ float s[32];
    s[threadIdx.x] = threadIdx.x;
    __syncthreads();
    y[threadIdx.x] = s[threadIdx.x + 1];  // fault, right: y[threadIdx.x] = s[31 - threadIdx.x];
}""", lambda k: k(1, 32, (zeros(32),)))  # fmt: skip

row("a pointer beyond a shared array, into the next one", "out-of-bounds", """
__device__ __noinline__ void KERNEL_set(float* s, int i, float value) {
    s[i] = value;  // fault
}
__global__ void KERNEL(float* y) {
    __shared__ float a[32], b[32];
    b[threadIdx.x] = 1;
    KERNEL_set(a, threadIdx.x + 1, 2);  // right: KERNEL_set(a, threadIdx.x, 2);
    y[threadIdx.x] = b[threadIdx.x] + a[threadIdx.x];
}""", lambda k: k(1, 32, (zeros(32),)))  # fmt: skip

row("too little dynamic shared memory", "out-of-bounds", """
__global__ void KERNEL(float* y) {
    extern __shared__ float KERNEL_s[];
    KERNEL_s[threadIdx.x] = threadIdx.x;  // fault
    __syncthreads();
    y[threadIdx.x] = KERNEL_s[31 - threadIdx.x];
}""", lambda k: k(1, 32, (zeros(32),), shared_mem=128), lambda k: k(1, 32, (zeros(32),), shared_mem=124))  # fmt: skip

row("shared memory that no thread has written", "uninitialised", """
__global__ void KERNEL(float* y) {
    __shared__ float s[32];
    if (threadIdx.x < 31)  // right:
        s[threadIdx.x] = threadIdx.x;
    __syncthreads();
    y[threadIdx.x] = s[31 - threadIdx.x];  // fault
}""", lambda k: k(1, 32, (zeros(32),)))  # fmt: skip

row("a block smaller than the kernel counts on", "uninitialised", """
__global__ void KERNEL(float* y) {
    __shared__ float s[64];
    s[threadIdx.x] = threadIdx.x;
    __syncthreads();
    y[threadIdx.x] = s[63 - threadIdx.x];  // fault
}""", lambda k: k(1, 64, (zeros(64),)), lambda k: k(1, 32, (zeros(64),)))  # fmt: skip

row("a sum of atomics in shared memory that nobody set", "uninitialised", """
__global__ void KERNEL(int* y) {
    __shared__ int sum;
    // right: if (threadIdx.x == 0) sum = 0;
    __syncthreads();
    atomicAdd(&sum, (int)threadIdx.x);  // fault
    __syncthreads();
    if (threadIdx.x == 0) y[0] = sum;
}""", lambda k: k(1, 32, (ints(),)))  # fmt: skip

# --- races ------------------------------------------------------------------------------------------------------------

row("no barrier between write and read", "race", """
__global__ void KERNEL(float* y) {
    __shared__ float s[64];
    s[threadIdx.x] = threadIdx.x;
    // right: __syncthreads();
    y[threadIdx.x] = s[63 - threadIdx.x];  // fault
}""", lambda k: k(1, 64, (zeros(64),)))  # fmt: skip

row("no barrier between a read and the next write", "race", """
__global__ void KERNEL(const float* x, float* y) {
    __shared__ float s[64];
    float sum = 0;
    for (int step = 0; step < 3; step++) {
        s[threadIdx.x] = x[step * 64 + threadIdx.x];  // fault
        __syncthreads();
        sum += s[63 - threadIdx.x];
        // right: __syncthreads();
    }
    y[threadIdx.x] = sum;
}""", lambda k: k(1, 64, (count(192), zeros(64))))  # fmt: skip

row("two threads that write one place of shared memory", "race", """
__global__ void KERNEL(float* y) {
    __shared__ float s[32];
    s[threadIdx.x / 2] = threadIdx.x;  // fault, right: if (threadIdx.x % 2) s[threadIdx.x / 2] = threadIdx.x;
    __syncthreads();
    y[threadIdx.x] = s[threadIdx.x / 2];
}""", lambda k: k(1, 64, (zeros(64),)))  # fmt: skip

row("no __syncwarp in a tree of a warp", "race", """
__global__ void KERNEL(float* y) {
    __shared__ float s[32];
    const int t = threadIdx.x;
    s[t] = t;
    __syncwarp();
    for (int half = 16; half; half /= 2) {
        if (t < half) s[t] += s[t + half];  // fault
        // right: __syncwarp();
    }
    if (t == 0) y[0] = s[0];
}""", lambda k: k(1, 32, (zeros(1),)))  # fmt: skip

row("__syncwarp where warps meet", "race", """
__global__ void KERNEL(float* y) {
    __shared__ float s[64];
    s[threadIdx.x] = threadIdx.x;
    __syncwarp();  // right: __syncthreads();
    y[threadIdx.x] = s[63 - threadIdx.x];  // fault
}""", lambda k: k(1, 64, (zeros(64),)))  # fmt: skip

row("a stencil in place", "race", """
__global__ void KERNEL(const float* x, float* y, int n) {
    const int i = threadIdx.x;
    y[i] = x[i] + (i + 1 < n ? x[i + 1] : 0);  // fault
}""", lambda k: k(1, 32, (count(32), zeros(32), i32(32))),
    lambda k: (lambda x: k(1, 32, (x, x, i32(32))))(count(32)))  # fmt: skip

row("arrays that overlap through __restrict__", "race", """
__global__ void KERNEL(const float* __restrict__ x, float* __restrict__ y) {
    y[threadIdx.x] = x[threadIdx.x] + 1;  // fault
}""", lambda k: k(1, 32, (count(32), zeros(32))),
    lambda k: (lambda x: k(1, 32, (x[:32], x[1:])))(count(33)))  # fmt: skip

row("two blocks that write one place", "race", """
__global__ void KERNEL(float* y) {
    y[threadIdx.x] = blockIdx.x;  // fault, right: y[blockIdx.x * blockDim.x + threadIdx.x] = blockIdx.x;
}""", lambda k: k(2, 32, (zeros(64),)))  # fmt: skip

row("a block that reads what another has written", "race", """
__global__ void KERNEL(float* x, float* y) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    x[i] = i;
    y[i] = x[63 - i];  // fault, right: y[i] = x[i];
}""", lambda k: k(2, 32, (zeros(64), zeros(64))))  # fmt: skip

row("a sum without atomics", "race", """
__global__ void KERNEL(const int* bins, int* counts) {
    counts[bins[threadIdx.x]] += 1;  // fault, right: atomicAdd(&counts[bins[threadIdx.x]], 1);
}""", lambda k: k(1, 32, (count(32, i32) % 4, ints(4))))  # fmt: skip

row("a plain read beside atomics", "race", """
__global__ void KERNEL(int* counter, int* y) {
    y[threadIdx.x] = *counter;  // fault, right: y[threadIdx.x] = atomicAdd(counter, 0);
    atomicAdd(counter, 1);
}""", lambda k: k(1, 32, (ints(), ints(32))))  # fmt: skip

row("a plain write beside atomics", "race", """
__global__ void KERNEL(int* counter) {
    atomicAdd(counter, 1);  // fault
    if (threadIdx.x == 5) *counter = 7;  // fault, right: if (threadIdx.x == 5) atomicExch(counter, 7);
}""", lambda k: k(1, 32, (ints(),)))  # fmt: skip

LAST_BLOCK = """
__global__ void KERNEL(float* parts, int* done, float* y) {
    __shared__ bool last;
    BEFORE
    parts[blockIdx.x * blockDim.x + threadIdx.x] = 1;
    AFTER
    __syncthreads();
    if (threadIdx.x == 0) last = atomicAdd(done, 1) == gridDim.x - 1;
    __syncthreads();
    float sum = 0;
    for (int i = 0; last && i < gridDim.x * blockDim.x; i++)
        sum += parts[i];  // fault
    if (last) y[threadIdx.x] = sum;
}"""

row("no __threadfence before a block says that it is done", "race",
    LAST_BLOCK.replace("BEFORE", "").replace("AFTER", "// right: __threadfence();"),
    lambda k: k(3, 32, (zeros(96), ints(), zeros(32))))  # fmt: skip

row("__threadfence before the write", "race",
    LAST_BLOCK.replace("BEFORE", "__threadfence();").replace("AFTER", "// right: __threadfence();"),
    lambda k: k(3, 32, (zeros(96), ints(), zeros(32))))  # fmt: skip

row("a lock that is opened by a plain write", "race", """
__global__ void KERNEL(int* lock, float* y) {
    for (bool done = false; !done;) {
        if (atomicCAS(lock, 0, 1) == 0) {  // fault
            y[0] += 1;
            __threadfence();
            *lock = 0;  // right: atomicExch(lock, 0);
            done = true;
        }
    }
}""", lambda k: k(2, 1, (ints(), zeros(1))))  # fmt: skip

row("a lock that is opened too early", "race", """
__global__ void KERNEL(int* lock, float* y) {
    for (bool done = false; !done;) {
        if (atomicCAS(lock, 0, 1) == 0) {
            const float old = y[0];  // fault
            __threadfence();
            atomicExch(lock, 0);  // right:
            y[0] = old + 1;
            __threadfence();  // right: __threadfence(), atomicExch(lock, 0);
            done = true;
        }
    }
}""", lambda k: k(2, 1, (ints(), zeros(1))))  # fmt: skip

# --- local memory -----------------------------------------------------------------------------------------------------

row("an index beyond a local array", "bounds", """
__global__ void KERNEL(float* y, int n) {
    float local[4] = {1, 2, 3, 4};
    for (int i = 0; i <= n; i++)  // right: for (int i = 0; i < n; i++)
        local[i] += threadIdx.x;  // fault
    for (int i = 0; i < 4; i++) y[4 * threadIdx.x + i] = local[i];
}""", lambda k: k(1, 8, (zeros(32), i32(4))))  # fmt: skip

row("a local array overrun through a pointer", "bounds", """
__device__ __forceinline__ float KERNEL_get(const float* x, int i) {
    return x[i];  // fault
}
__global__ void KERNEL(float* y, int n) {
    float a[4] = {1, 2, 3, 4}, b[4] = {5, 6, 7, 8};
    const int i = n;  // right: const int i = n - 1;
    y[threadIdx.x] = KERNEL_get(a, i) + KERNEL_get(b, 1);
}""", lambda k: k(1, 8, (zeros(8), i32(4))),
    escapes_clang="clang knows no variable behind a pointer")  # fmt: skip

row("a local array overrun by a function that is not inlined", "bounds", """
__device__ __noinline__ void KERNEL_set(float* x, int i) {
    x[i] = 7;  // fault
}
__global__ void KERNEL(float* y, int n) {
    float a[4] = {1, 2, 3, 4}, b[4] = {5, 6, 7, 8};
    KERNEL_set(a, n);  // right: KERNEL_set(a, n - 1);
    KERNEL_set(b, 0);
    for (int i = 0; i < 4; i++) y[4 * threadIdx.x + i] = a[i] + b[i];
}""", lambda k: k(1, 8, (zeros(32), i32(4))),
    escapes="a stack is the thread's own as a whole: nothing lies between its variables")  # fmt: skip

row("a local variable that nobody set", "uninitialised", """
__global__ void KERNEL(int* y, int n) {
    int local[4];
    for (int i = 0; i < n - 1; i++)  // right: for (int i = 0; i < n; i++)
        local[i] = i;
    y[threadIdx.x] = local[threadIdx.x];  // fault
}""", lambda k: k(1, 4, (ints(4), i32(4))), warns=True)  # fmt: skip

row("a sum that does not begin with 0", "uninitialised", """
__global__ void KERNEL(float* y, int n) {
    float sum;  // right: float sum = 0;
    for (int i = 0; i < n; i++) sum += i;
    y[threadIdx.x] = sum;  // fault
}""", lambda k: k(1, 4, (zeros(4), i32(4))), warns=True,
    escapes_clang="clang fills floats that nobody has set with NaN, which a kernel may store")  # fmt: skip

row("a product with what nobody set", "uninitialised", """
__global__ void KERNEL(int* y, int n) {
    int factor[2];
    factor[n % 2] = 3;
    y[threadIdx.x] = factor[(n + 1) % 2] * 3;  // fault, right: y[threadIdx.x] = factor[n % 2] * 3;
}""", lambda k: k(1, 4, (ints(4), i32(4))), warns=True,
    escapes="the mark of a variable that nobody set does not outlive a product")  # fmt: skip

row("the address of another thread's local variable", "out-of-bounds", """
__global__ void KERNEL(float* y) {
    __shared__ volatile float* of_first;
    volatile float local = threadIdx.x;
    if (threadIdx.x == 0) of_first = &local;
    __syncthreads();
    float seen = local;
    seen = *of_first;  // fault, right: seen += of_first != nullptr;
    __syncthreads();
    y[threadIdx.x] = seen;
}""", lambda k: k(1, 32, (zeros(32),)))  # fmt: skip

row("recursion without an end", "fault", """
__device__ int KERNEL_deep(volatile int* x, int n) {
    volatile int frame[64];  // fault
    frame[n % 64] = n;
    return n == 0 ? x[0] : KERNEL_deep(x, n - 1) + frame[n % 64];
}
__global__ void KERNEL(int* x, int n) {
    x[0] = KERNEL_deep(x, n);
}""", lambda k: k(1, 1, (ints(), i32(20))), lambda k: k(1, 1, (ints(), i32(1 << 30))),
    says="the stack is full")  # fmt: skip

# --- barriers ---------------------------------------------------------------------------------------------------------

row("a barrier in one branch only", "divergent-barrier", """
__global__ void KERNEL(float* y) {
    if (threadIdx.x < 32)  // right:
        __syncthreads();
    y[threadIdx.x] = 1;
    __syncthreads();  // fault
}""", lambda k: k(1, 64, (zeros(64),)))  # fmt: skip

row("a barrier in each of two branches", "divergent-barrier", """
__global__ void KERNEL(float* y) {
    if (threadIdx.x < 32) {
        y[threadIdx.x] = 1;
        __syncthreads();  // right:
    } else {
        y[threadIdx.x] = 2;
        __syncthreads();  // fault, right:
    }
    __syncthreads();
    y[threadIdx.x] += 1;
}""", lambda k: k(1, 64, (zeros(64),)))  # fmt: skip

row("a loop of barriers that threads leave at different times", "divergent-barrier", """
__global__ void KERNEL(float* y) {
    const int turns = 1 + threadIdx.x / 32;  // right: const int turns = 2;
    for (int i = 0; i < turns; i++) __syncthreads();  // fault
    y[threadIdx.x] = turns;
    __syncthreads();
}""", lambda k: k(1, 64, (zeros(64),)))  # fmt: skip

row("a barrier after threads have returned", "divergent-barrier", """
__global__ void KERNEL(float* y, int n) {
    if (threadIdx.x >= n) return;  // right:
    y[threadIdx.x] = 1;
    __syncthreads();  // fault
    y[threadIdx.x] += 1;
}""", lambda k: k(1, 64, (zeros(64), i32(40))), warns=True)  # fmt: skip

row("a barrier for more threads than there are", "divergent-barrier", """
__global__ void KERNEL(float* y) {
    y[threadIdx.x] = 1;
    asm volatile("bar.sync 0, 96;" ::: "memory");  // fault, right: asm volatile("bar.sync 0, 64;" ::: "memory");
}""", lambda k: k(1, 64, (zeros(64),)))  # fmt: skip

row("half a warp at a shuffle, the others at a barrier", "deadlock", """
__global__ void KERNEL(float* y) {
    float v = threadIdx.x;
    if (threadIdx.x < 16)  // right:
        v = __shfl_sync(0xffffffffu, v, 0);  // fault
    __syncthreads();
    y[threadIdx.x] = v;
}""", lambda k: k(1, 32, (zeros(32),)))  # fmt: skip

# --- warps ------------------------------------------------------------------------------------------------------------

row("a value from a lane outside the mask", "warp-mask", """
__global__ void KERNEL(int* y) {
    const int t = threadIdx.x, from = 16;  // right: const int t = threadIdx.x, from = 15;
    if (t < 16) y[t] = __shfl_sync(0xffffu, t, from);  // fault
}""", lambda k: k(1, 32, (ints(32),)))  # fmt: skip

row("a value from lanes that have returned", "warp-mask", """
__global__ void KERNEL(int* y) {
    if (threadIdx.x >= 16) return;  // right:
    y[threadIdx.x] = __shfl_xor_sync(0xffffffffu, (int)threadIdx.x, 16);  // fault
}""", lambda k: k(1, 32, (ints(32),)))  # fmt: skip

row("a block without the lanes that a mask names", "warp-mask", """
__global__ void KERNEL(int* y) {
    y[threadIdx.x] = __reduce_add_sync(0xffffffffu, (int)threadIdx.x);  // fault
}""", lambda k: k(1, 32, (ints(32),)), lambda k: k(1, 16, (ints(32),)))  # fmt: skip

row("a mask that does not name the caller", "warp-mask", """
__global__ void KERNEL(int* y) {
    const unsigned mask = 0x7fffffffu;  // right: const unsigned mask = 0xffffffffu;
    y[threadIdx.x] = __any_sync(mask, threadIdx.x == 3);  // fault
}""", lambda k: k(1, 32, (ints(32),)))  # fmt: skip

row("lanes of a warp in different operations", "warp-mask", """
__global__ void KERNEL(int* y) {
    const int t = threadIdx.x;
    if (t % 2)
        y[t] = __shfl_sync(0xffffffffu, t, 1);  // fault, right: y[t] = __shfl_sync(0xaaaaaaaau, t, 1);
    else
        y[t] = __ballot_sync(0xffffffffu, t);  // fault, right: y[t] = __ballot_sync(0x55555555u, t);
}""", lambda k: k(1, 32, (ints(32),)))  # fmt: skip

row("lanes of a warp with different masks", "warp-mask", """
__global__ void KERNEL(int* y) {
    const unsigned mask = threadIdx.x < 16 ? 0xffffffffu : 0xffff0000u;  // right: const unsigned mask = 0xffffffffu;
    y[threadIdx.x] = __shfl_sync(mask, (int)threadIdx.x, 16);  // fault
}""", lambda k: k(1, 32, (ints(32),)))  # fmt: skip

row("a reduction whose step is its width: no lane receives", "warp-mask", """
__global__ void KERNEL(float* y) {
    float sum = threadIdx.x;
    for (int step = 16; step; step /= 2)  // right: for (int step = 8; step; step /= 2)
        sum += __shfl_down_sync(0xffffffffu, sum, step, 16);  // fault
    if (threadIdx.x % 16 == 0) y[threadIdx.x / 16] = sum;
}""", lambda k: k(1, 32, (zeros(2),)), warns=True)  # fmt: skip

row("a reduction over half of the lanes", "warp-mask", """
__global__ void KERNEL(float* y) {
    float sum = threadIdx.x;
    for (int step = 8; step; step /= 2)  // right: for (int step = 16; step; step /= 2)
        sum += __shfl_down_sync(0xffffffffu, sum, step);  // fault
    if (threadIdx.x == 0) y[0] = sum;
}""", lambda k: k(1, 32, (zeros(1),)),
    escapes="each shuffle is right, and what their sum is for is not known")  # fmt: skip

# --- asynchronous copies ----------------------------------------------------------------------------------------------

COPY = """
__global__ void KERNEL(const float* x, float* y) {
    __shared__ float s[64];
    const int t = threadIdx.x;
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"((unsigned)__cvta_generic_to_shared(&s[t])), "l"(x + t)
                 : "memory");
    WAIT
    BARRIER
    y[t] = s[READ];  // fault
}"""

row("no wait for an asynchronous copy", "race",
    COPY.replace("WAIT", '// right: asm volatile("cp.async.wait_all;" ::: "memory");').replace("BARRIER", "")
    .replace("READ", "t"), lambda k: k(1, 64, (count(64), zeros(64))))  # fmt: skip

row("no barrier after the wait for an asynchronous copy", "race",
    COPY.replace("WAIT", 'asm volatile("cp.async.wait_all;" ::: "memory");')
    .replace("BARRIER", "// right: __syncthreads();").replace("READ", "63 - t"),
    lambda k: k(1, 64, (count(64), zeros(64))))  # fmt: skip

# --- numbers ----------------------------------------------------------------------------------------------------------

NUMBERS = lambda a, b: lambda k: k(1, 1, (np.array([a, b], i32), ints()))  # noqa: E731

row("integer division by zero", "division", """
__global__ void KERNEL(const int* x, int* y) {
    y[0] = x[0] / x[1];  // fault
}""", NUMBERS(7, 2), NUMBERS(7, 0))  # fmt: skip

row("a shift by as many bits as there are", "shift", """
__global__ void KERNEL(const int* x, int* y) {
    y[0] = x[0] << x[1];  // fault
}""", NUMBERS(7, 2), NUMBERS(7, 32), warns=True)  # fmt: skip

row("a signed overflow", "integer-overflow", """
__global__ void KERNEL(const int* x, int* y) {
    y[0] = x[0] * x[1];  // fault
}""", NUMBERS(70000, 2), NUMBERS(70000, 70000), warns=True)  # fmt: skip

row("a flag that nobody sets", "deadlock", """
__global__ void KERNEL(volatile int* flag, int* y) {
    if (threadIdx.x == 0)
        while (!flag[0]) {  // fault
        }
    y[threadIdx.x] = 1;
}""", lambda k: k(1, 32, (ints() + 1, ints(32))), lambda k: k(1, 32, (ints(), ints(32))), slow=True)  # fmt: skip

row("an assertion that fails", "assert", """
__global__ void KERNEL(const int* x, int* y) {
    assert(x[0] < x[1]);  // fault
    y[0] = x[0];
}""", NUMBERS(1, 2), NUMBERS(2, 1))  # fmt: skip

row("a call of __trap", "trap", """
__global__ void KERNEL(const int* x, int* y) {
    if (x[0] >= x[1])
        __trap();  // fault
    y[0] = x[0];
}""", NUMBERS(1, 2), NUMBERS(2, 1))  # fmt: skip

row("zero divided by zero", "nan", """
__global__ void KERNEL(const float* x, const int* counts, float* y) {
    const int i = threadIdx.x;
    y[i] = x[i] / counts[i];  // fault, right: y[i] = counts[i] ? x[i] / counts[i] : 0;
}""", lambda k: k(1, 4, (count(4), np.array([0, 1, 2, 3], i32), zeros(4))), check="nan")  # fmt: skip

row("a softmax that overflows", "nan", """
__global__ void KERNEL(const float* x, float* y) {
    float most = x[0], sum = 0;
    for (int i = 1; i < 4; i++) most = fmaxf(most, x[i]);
    most = 0;  // right:
    for (int i = 0; i < 4; i++) sum += expf(x[i] - most);
    y[threadIdx.x] = expf(x[threadIdx.x] - most) / sum;  // fault
}""", lambda k: k(1, 4, (100 * count(4), zeros(4))), check="nan")  # fmt: skip

row("a variance below zero, by rounding", "nan", """
__device__ float KERNEL_deviation(float squares, float mean) {
    float variance = squares - mean * mean;
    // right: variance = fmaxf(variance, 0);
    return sqrtf(variance);  // fault
}
__global__ void KERNEL(const float* x, float* y) {
    y[threadIdx.x] = KERNEL_deviation(x[0], x[1]);
}""", lambda k: k(1, 1, (np.array([1, 1.0001], f32), zeros(1))), check="nan")  # fmt: skip

# --- addresses of another space ---------------------------------------------------------------------------------------

row("the address of shared memory, kept for another block", "out-of-bounds", """
__global__ void KERNEL(float** kept, float* y) {
    __shared__ float s[32];
    s[threadIdx.x] = threadIdx.x;
    __syncthreads();
    if (threadIdx.x == 0) kept[blockIdx.x] = s;  // fault, right: if (threadIdx.x == 0) kept[blockIdx.x] = y;
}""", lambda k: k(2, 32, (np.zeros(2, np.uint64), zeros(32))), warns=True)  # fmt: skip

row("a global address where a shared one belongs", "out-of-bounds", """
__global__ void KERNEL(const float* x, float* y) {
    __shared__ float s[32];
    s[threadIdx.x] = threadIdx.x;
    const void* from = x + threadIdx.x;  // right: const void* from = s + threadIdx.x;
    float value;
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(value) : "r"((unsigned)__cvta_generic_to_shared(from)));  // fault
    y[threadIdx.x] = value;
}""", lambda k: k(1, 32, (count(32), zeros(32))))  # fmt: skip

# --- textures ---------------------------------------------------------------------------------------------------------


def texture_of(k):
    x = count(16).reshape(4, 4)
    k(1, 4, (TextureObject(x), SurfaceObject(x), zeros(4)))


row("a texture that reads what the launch has written", "texture", """
__global__ void KERNEL(cudaTextureObject_t image, cudaSurfaceObject_t out, float* y) {
    const int i = threadIdx.x;
    surf2Dwrite(1.0f, out, 4 * i, 0);
    y[i] = tex2D<float>(image, i, 0);  // fault, right: y[i] = tex2D<float>(image, i, 1);
}""", texture_of)  # fmt: skip

row("a handle of no texture", "texture", """
__global__ void KERNEL(cudaTextureObject_t image, float* y) {
    image++;  // right:
    y[threadIdx.x] = tex2D<float>(image, threadIdx.x, 0);  // fault
}""", lambda k: k(1, 4, (TextureObject(count(16).reshape(4, 4)), zeros(4))))  # fmt: skip

# --- launches ---------------------------------------------------------------------------------------------------------

SCALE = """
__global__ void KERNEL(float* x, float factor, int n) {
    if (threadIdx.x < n) x[threadIdx.x] *= factor;
}"""
RIGHT = lambda k: k(1, 8, (count(8), f32(2), i32(8)))  # noqa: E731
LAUNCHES = {
    "more than 1024 threads": (lambda k: k(1, 1025, (count(8), f32(2), i32(8))), r"from 1 to \(1024, 1024, 64\)"),
    "too many threads in three dimensions": (
        lambda k: k(1, (32, 32, 2), (count(8), f32(2), i32(8))), "at most 1024 threads, got (32, 32, 2)"),
    "a grid without blocks": (lambda k: k(0, 8, (count(8), f32(2), i32(8))), "grid must be"),
    "more dynamic shared memory than was asked for": (
        lambda k: k(1, 8, (count(8), f32(2), i32(8)), shared_mem=50_000), "max_dynamic_shared_size_bytes"),
    "an array of doubles for one of floats": (
        lambda k: k(1, 8, (count(8, f64), f32(2), i32(8))), "argument 0 must be an array of 4-byte floating-point"),
    "a Python float for a float32": (
        lambda k: k(1, 8, (count(8), 2.0, i32(8))), "argument 1 must be a 4-byte floating-point number"),
    "an argument too few": (lambda k: k(1, 8, (count(8), f32(2))), "takes 3 arguments, got 2"),
    "every other element of an array": (
        lambda k: k(1, 8, (count(16)[::2], f32(2), i32(8))), "argument 0 must be C-contiguous"),
    "an array that is not writeable": (
        lambda k: k(1, 8, (np.broadcast_to(f32(1), 8)[:1], f32(2), i32(1))), "argument 0 must be writeable"),
}  # fmt: skip
for fault, (wrong, says) in LAUNCHES.items():
    row(fault, "LaunchError", SCALE, RIGHT, wrong, says=says)

# --- our own kernels, with one line changed ---------------------------------------------------------------------------

LOSS = "DTYPE=float, INDEX=long long, ROW=256, THREADS=256"
POOL = "DTYPE=float, INDEX=int, VECTOR=4, MOST_THREADS=256"
WINDOWS = "DTYPE=float, INDEX=int, KH=2, KW=2, PLACE=unsigned char, VECTOR=4, SW=2, PW=0, THREADS=128, ROWS=1"
PACKS = "DTYPE=float, INDEX=int, VECTOR=4, THREADS=128"
LRN = "DTYPE=float, INDEX=int, SIZE=5, BETA=75, VECTOR=4, THREADS=128"


def losses(k):
    k(2, 256, (count(600), np.zeros(2, np.int64), zeros(2), i32(2), i32(300)))


def averages(k):
    k(2, 64, (count(512), zeros(2), i32(256)))


def responses(k):
    size = 2 * 3 * 16
    k(1, 128, (count(size), zeros(size), i32(2), i32(3), i32(3), i32(16), f32(1e-4), f32(0.75), f32(2)))


row("softmax of a row and the logit behind it", "out-of-bounds",
    Edit("loss.cu", LOSS, "j < C; j += ROW) add(own", "j <= C; j += ROW) add(own"),
    losses, name="cross_entropy_forward")  # fmt: skip
row("softmax without the barrier between warps", "race",
    Edit("loss.cu", LOSS, "  __syncthreads();", "", at="warps[lane / 32] = own;"),
    losses, name="cross_entropy_forward", slow=True)  # fmt: skip
row("a mean without the barrier between warps", "race",
    Edit("global_pool.cu", POOL, "  __syncthreads();\n  if (threadIdx.x) return;\n  for (int warp = 1; warp < "
         "blockDim.x / 32; warp++) sum", "\n  if (threadIdx.x) return;\n  for (int warp = 1; warp < "
         "blockDim.x / 32; warp++) sum", at="of_warps[threadIdx.x / 32] = sum;"),
    averages, name="global_avg_pool2d_forward")  # fmt: skip
row("a mean with a warp that is not there", "uninitialised",
    Edit("global_pool.cu", POOL, "warp < blockDim.x / 32; warp++) sum", "warp <= blockDim.x / 32; warp++) sum"),
    averages, name="global_avg_pool2d_forward", slow=True)  # fmt: skip
row("a mean whose shuffle names half a warp", "warp-mask",
    Edit("global_pool.cu", POOL, "sum += __shfl_xor_sync(ALL_LANES", "sum += __shfl_xor_sync(0xffffu"),
    averages, name="global_avg_pool2d_forward", slow=True)  # fmt: skip
row("response normalisation of a pixel behind the last", "out-of-bounds",
    Edit("lrn.cu", LRN, "return i < N * image ?", "return i <= N * image ?", at="Channels<T, AHEAD> xs(x + pixel"),
    responses, name="lrn_forward", slow=True)  # fmt: skip
row("dropout that writes a pack behind the end", "out-of-bounds",
    Edit("dropout.cu", PACKS, "if (start + j >= size)", "if (start + j > size)",
         at="Pack<T> values = load(x + start + j);"),
    lambda k: k(1, 128, (count(64), zeros(64), i32(64), np.zeros(1, np.uint64), np.uint64(1), np.uint64(1), f32(2))),
    name="dropout")  # fmt: skip
row("max pooling whose gradients do not begin at 0", "uninitialised",
    Edit("pool.cu", WINDOWS, "Pack<A> sums[ROWS] = {};", "Pack<A> sums[ROWS];", at="H) store(gx + (own.plane"),
    lambda k: k(1, 128, (zeros(8), np.zeros(8, np.uint8), zeros(32), *map(i32, (1, 4, 8, 2, 4, 2, 2, 0, 0, 1, 1)))),
    name="max_pool2d_backward", warns=True, slow=True,
    escapes_clang="clang fills floats that nobody has set with NaN, which a kernel may store")  # fmt: skip
row("an LSTM with the stride of another row", "out-of-bounds",
    Edit("rnn_cell.cu", PACKS, "(row * gates + gate) * H", "(row * gates + gate) * (H + 4)",
         at="const P i = load(gates"),
    lambda k: k(1, 128, (zeros(2, 32), zeros(2, 8), zeros(2, 8), zeros(2, 8), i32(2), i32(8))),
    name="lstm_forward", slow=True)  # fmt: skip
row("thinning that looks at the word behind a row", "out-of-bounds",
    Edit("skeleton.cu", "DTYPE=unsigned char, INDEX=int, THREADS=128", "k < K - 1 ?", "k < K ?"),
    lambda k: k(1, 128, (np.zeros(6, np.uint32), np.zeros(6, np.uint32), np.zeros(8, np.uint32), ints(), i32(6), i32(3),
                         i32(2))), name="skeleton_thin")  # fmt: skip


# --- clusters of blocks -----------------------------------------------------------------------------------------------

# What the rows begin and end with: the shared memory of the other one of two blocks, and a barrier of both.
PAIR = """
__global__ void KERNEL(int* y) {
    __shared__ int mine[32];
    const int i = threadIdx.x;
    int* its = (int*)__cluster_map_shared_rank(mine, __clusterRelativeBlockRank() ^ 1);
    mine[i] = i;
    __cluster_barrier_arrive(); __cluster_barrier_wait();"""
MEET = "__cluster_barrier_arrive(); __cluster_barrier_wait();"


def pairs(kernel):
    kernel(4, 32, (ints(128),), cluster=2)


row("a cell of the other block read with a barrier of the block alone between", "race", PAIR + f"""
    its[i] = 2 * i;
    __syncthreads();  // right: {MEET}
    y[32 * blockIdx.x + i] = mine[i];  // fault
    {MEET}
}}""", pairs, says="no barrier of the cluster between")  # fmt: skip

row("the end of a block whose shared memory is still read", "out-of-bounds", PAIR + f"""
    y[32 * blockIdx.x + i] = its[i];  // fault
      // right: {MEET}
}}""", pairs, says="no barrier of the cluster comes after it")  # fmt: skip

row("the end of a block that an earlier one reads, and not the other way round", "out-of-bounds", PAIR + f"""
    if (blockIdx.x == 1) y[i] = its[i];  // fault
      // right: {MEET}
}}""", pairs, says="no barrier of the cluster comes after it")  # fmt: skip

row("shared memory of a block that may not have begun", "out-of-bounds", f"""
__global__ void KERNEL(int* y) {{
    __shared__ int mine[32];
    const int i = threadIdx.x;
    int* its = (int*)__cluster_map_shared_rank(mine, __clusterRelativeBlockRank() ^ 1);
      // right: {MEET}
    its[i] = i;  // fault
    {MEET}
    y[32 * blockIdx.x + i] = mine[i];
}}""", pairs, says="may not have begun")  # fmt: skip

row("a read beyond the end of another block's array", "out-of-bounds", PAIR + f"""
    y[32 * blockIdx.x + i] = its[i + 1];  // fault, right: y[32 * blockIdx.x + i] = its[i];
    {MEET}
}}""", pairs)  # fmt: skip

row("a word of another block's array that it has not written", "uninitialised", f"""
__global__ void KERNEL(int* y) {{
    __shared__ int mine[33];
    const int i = threadIdx.x;
    mine[i] = i;
    {MEET}
    const int* its = (int*)__cluster_map_shared_rank(mine, __clusterRelativeBlockRank() ^ 1);
    y[32 * blockIdx.x + i] = its[i + 1];  // fault, right: y[32 * blockIdx.x + i] = its[i];
    {MEET}
}}""", pairs, says="of block")  # fmt: skip

row("a barrier of the cluster that half of the threads come to", "deadlock", PAIR + f"""
    y[32 * blockIdx.x + i] = its[i];
    if (i < 16) {{  // right:
        {MEET}  // fault
    }} else __syncthreads();  // right:
}}""", pairs, says="of this block 16 wait at a block barrier")  # fmt: skip

row("an arrival at the cluster's barrier with no wait for the last one", "divergent-barrier", PAIR + f"""
    y[32 * blockIdx.x + i] = its[i];
    __cluster_barrier_arrive();  // right:
    {MEET}  // fault
}}""", pairs, says="arrives twice")  # fmt: skip

row("data behind a barrier of the cluster that is relaxed", "race", PAIR + f"""
    its[i] = 2 * i;
    __cluster_barrier_arrive_relaxed();  // right: __cluster_barrier_arrive();
    __cluster_barrier_wait();
    y[32 * blockIdx.x + i] = mine[i];  // fault
    {MEET}
}}""", pairs)  # fmt: skip

row("a word that another cluster has read, before a barrier that orders this one alone", "race", f"""
__global__ void KERNEL(int* y) {{
    const bool first = threadIdx.x == 0;
    int sum = 0;
    if (first) sum = y[0];
    {MEET}
    if (first && blockIdx.x == 2) y[0] = sum + 1;  // fault, right: if (first && blockIdx.x == 2) y[100] = sum + 1;
    if (first) y[32 + blockIdx.x] = sum;
}}""", pairs)  # fmt: skip

row("shared memory of a block that may not have begun, after an atomic that another cluster did", "out-of-bounds", f"""
__global__ void KERNEL(int* y) {{
    __shared__ int mine;
    int* its = (int*)__cluster_map_shared_rank(&mine, __clusterRelativeBlockRank() ^ 1);
    __threadfence();
    if (threadIdx.x == 0) atomicAdd(y, 1);
      // right: {MEET}
    if (threadIdx.x == 0 && blockIdx.x >= 2) *its = 1;  // fault
    {MEET}
}}""", pairs, says="may not have begun")  # fmt: skip

row("a message to another block's mbarrier sent before its data", "race", f"""
__global__ void KERNEL(int* y) {{
    __shared__ int mine;
    __shared__ unsigned long long full;
    unsigned at = (unsigned)__cvta_generic_to_shared(&full), rank = __clusterRelativeBlockRank(), to, done = 0;
    int* its = (int*)__cluster_map_shared_rank(&mine, rank ^ 1);
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(to) : "r"(at), "r"(rank ^ 1));
    if (threadIdx.x == 0) asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" :: "r"(at) : "memory");
    {MEET}
    if (threadIdx.x == 0) {{
          // right: *its = 5;
        asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" :: "r"(to) : "memory");
        *its = 5;  // fault, right:
        while (!done)
            asm volatile("{{ .reg .pred p; mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], 0;"
                         "selp.u32 %0, 1, 0, p; }}" : "=r"(done) : "r"(at) : "memory");
        y[blockIdx.x] = mine;  // fault
    }}
    {MEET}
}}""", pairs)  # fmt: skip

row("a copy to all blocks before they have read the last one", "race", f"""
__global__ void KERNEL(int* y) {{
    __shared__ __align__(128) int mine[4];
    __shared__ unsigned long long full, empty;
    unsigned at = (unsigned)__cvta_generic_to_shared(&full), free = (unsigned)__cvta_generic_to_shared(&empty), to;
    if (threadIdx.x == 0) {{
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" :: "r"(at) : "memory");
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 2;" :: "r"(free) : "memory");
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }}
    {MEET}
    auto wait = [](unsigned barrier, unsigned parity) {{
        for (unsigned done = 0; !done;)
            asm volatile("{{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;"
                         "selp.u32 %0, 1, 0, p; }}" : "=r"(done) : "r"(barrier), "r"(parity) : "memory");
    }};
    for (int round = 0; round < 3; round++) {{
        if (threadIdx.x == 0) {{
            asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], 16;" :: "r"(at) : "memory");
              // right: if (round && blockIdx.x % 2 == 0) wait(free, (round - 1) & 1);
            if (blockIdx.x % 2 == 0)
                asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes"  // fault
                             ".multicast::cluster [%0], [%1], 16, [%2], %3;"
                             :: "r"((unsigned)__cvta_generic_to_shared(mine)), "l"(y + 64),
                             "r"(at), "h"((unsigned short)3) : "memory");
            wait(at, round & 1);
            y[2 * blockIdx.x + round % 2] = mine[round];
            asm("mapa.shared::cluster.u32 %0, %1, 0;" : "=r"(to) : "r"(free));
            asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" :: "r"(to) : "memory");
        }}
    }}
    {MEET}
}}""", pairs)  # fmt: skip


# --- the test ---------------------------------------------------------------------------------------------------------

_MARKS = re.compile(r"^(?P<code>.*?)\s*// (?P<fault>fault)?(?:, )?(?:right: ?(?P<right>.*))?$")


def texts(row):
    """The faulty source, the right one, and the places that may be told."""
    if isinstance(row.source, Edit):
        return edited(row.source)
    whole = row.source.replace("__global__ void KERNEL(", 'extern "C" __global__ void KERNEL(')
    faulty, right, told = [], [], set()
    for number, line in enumerate(whole.replace("KERNEL", row.word).strip().split("\n"), 1):
        marks = _MARKS.match(line)
        faulty.append(marks["code"] if marks else line)
        right.append(line if not marks else marks["code"] if marks["right"] is None else marks["right"])
        if marks and marks["fault"]:
            told.add((f"{row.word}.cu", number))
    named = f'#line 1 "{row.word}.cu"\n'
    return named + "\n".join(faulty), named + "\n".join(right), told


def edited(edit):
    right, own = kernels.flatten(edit.file), (kernels.kernels_folder() / edit.file).read_text()
    for text in (right, own):
        assert text.count(edit.old) >= 1, f"{edit.file} has no longer: {edit.old}"
    at = edit.at or edit.old
    told = {(edit.file, i) for i, line in enumerate(own.split("\n"), 1) if at.split("\n")[0] in line}
    assert told, f"{edit.file} has no longer a line with: {at}"
    return right.replace(edit.old, edit.new, 1), right, told


class Modules:
    """Each source compiled once, and those of small kernels together."""

    def __init__(self):
        self._made = {}

    def kernel(self, row, right):
        if isinstance(row.source, str):
            same = [each for each in ROWS if isinstance(each.source, str) and each.check == row.check]
            return self._module("\n".join(texts(each)[right] for each in same), (), row).get_function(row.word)
        macros = dict(each.split("=") for each in row.source.macros.split(", "))
        return self._module(texts(row)[right], kernels.options(macros), row).get_function(row.name)

    def _module(self, text, options, row):
        if text not in self._made:
            self._made[text] = RawModule(text, options, check=row.check)
        return self._made[text]


@pytest.fixture(scope="module")
def modules():
    return Modules()


def told_by(launch, kernel):
    """What a launch tells: of each mistake its kind, whether it is a warning, its place and who called, the words."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", CheckWarning)
        try:
            launch(kernel)
        except CheckError as error:
            return [(each.kind, each.harmless, places(str(each)), str(each)) for each in error.reports]
        except LaunchError as error:
            return [("LaunchError", False, set(), str(error))]
    return [(str(each.message).split(": ")[1], True, places(str(each.message)), str(each.message)) for each in warned]


def places(text):
    return {(file, int(line)) for file, line in re.findall(r"([\w.]+\.cuh?):(\d+)", text)}


def parameters():
    made = []
    for each in ROWS:
        marks = [pytest.mark.slow] if each.slow else []
        if each.check == "nan":
            marks.append(pytest.mark.skipif(platform.machine() != "x86_64", reason="the processor cannot stop there"))
        if why := each.escapes or (CLANG and each.escapes_clang):
            marks.append(pytest.mark.xfail(strict=True, reason=why))
        made.append(pytest.param(each, id=each.fault, marks=marks))
    return made


@pytest.mark.parametrize("row", parameters())
def test_a_planted_fault_is_told_with_its_line(row, modules):
    *_, expected = texts(row)
    assert told_by(row.launch, modules.kernel(row, right=True)) == []
    told = told_by(row.wrong or row.launch, modules.kernel(row, right=bool(row.wrong)))
    found = [
        words
        for kind, warns, at, words in told
        if (kind, warns) == (row.kind, row.warns) and (expected & at or not expected)
    ]
    assert found, told
    assert re.search(row.says, found[0]) or row.says in found[0]


def test_of_a_hundred_faults_at_most_five_escape():
    escaping = [row.fault for row in ROWS if row.escapes]
    assert len(ROWS) >= 36
    assert len(escaping) <= 0.05 * len(ROWS), escaping

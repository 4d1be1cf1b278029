"""The emulator: what stands in the place of libcu++."""

import numpy as np
import pytest

from gpunn.cuda.emulator import CheckError, RawKernel, RawModule

STD = r"""
#include <cuda/std/array>
#include <cuda/std/cmath>
#include <cuda/std/cstdint>
#include <cuda/std/limits>
#include <cuda/std/tuple>
#include <cuda/std/type_traits>
#include <cuda/std/utility>

template <class T, cuda::std::enable_if_t<cuda::std::is_integral<T>::value, int> = 0>
__device__ int kind(T) { return 1; }
template <class T, cuda::std::enable_if_t<cuda::std::is_floating_point<T>::value, int> = 0>
__device__ int kind(T) { return 2; }

extern "C" __global__ void of_std(double* y) {
  cuda::std::array<int, 3> a = {3, 1, 2};
  cuda::std::tuple<int, float> pair = cuda::std::make_tuple(7, 0.5f);
  cuda::std::uint16_t word = cuda::std::numeric_limits<cuda::std::uint16_t>::max();
  y[0] = kind(1) + 10 * kind(1.0f);
  y[1] = a[0] + 10 * a.size();
  y[2] = cuda::std::get<0>(pair) + cuda::std::get<1>(pair);
  y[3] = word;
  y[4] = cuda::std::is_same<cuda::std::remove_const<const int>::type, int>::value;
  y[5] = cuda::std::numeric_limits<float>::infinity();
  y[6] = cuda::std::abs(-2.5) + cuda::std::sqrt(16.0);
  int left = 1, right = 2;
  cuda::std::swap(left, right);
  y[7] = left;
}
"""

CODE = r"""
#include <cuda/atomic>
#include <cuda/std/atomic>

// Every operation once, of which each returns what was there.
extern "C" __global__ void operations(int* x, int* y) {
  cuda::atomic_ref<int, cuda::thread_scope_device> a(x[0]);
  int k = 0;
  y[k++] = a.fetch_add(5); y[k++] = a.fetch_sub(2, cuda::memory_order_relaxed); y[k++] = a.fetch_and(12);
  y[k++] = a.fetch_or(3); y[k++] = a.fetch_xor(6); y[k++] = a.fetch_min(4); y[k++] = a.fetch_max(20);
  y[k++] = a.exchange(2147483647); y[k++] = ++a; y[k++] = a--; y[k++] = a -= 7; y[k++] = a.load();
  int expected = 1;
  y[k++] = a.compare_exchange_strong(expected, 2); y[k++] = expected;
  y[k++] = a.compare_exchange_weak(expected, 30, cuda::memory_order_acq_rel, cuda::memory_order_relaxed);
  a.store(a | 1); y[k++] = a; a = 9; y[k++] = a.is_lock_free();
}

__device__ cuda::atomic<unsigned, cuda::thread_scope_device> tickets(100);

extern "C" __global__ void sums(int* x, float* f, unsigned char* bytes, unsigned* y) {
  __shared__ cuda::atomic<int, cuda::thread_scope_block> total;
  if (threadIdx.x == 0) total.store(0, cuda::memory_order_relaxed);
  __syncthreads();
  total += threadIdx.x;
  cuda::atomic_ref<float>(*f).fetch_add(0.5f);
  cuda::atomic_ref<unsigned char>(bytes[threadIdx.x % 4])++;
  y[blockIdx.x * blockDim.x + threadIdx.x] = tickets.fetch_add(1, cuda::std::memory_order_relaxed);
  __syncthreads();
  if (threadIdx.x == 0) x[blockIdx.x] = total;
}

// Which memory an address is of.
extern "C" __global__ void spaces(int* x, int* y) {
  __shared__ int shared;
  int local;
  int* all[] = {x, &shared, &local};
  for (int i = 0; i < 3; i++) y[i] = __isGlobal(all[i]) + 2 * __isShared(all[i]) + 4 * __isLocal(all[i]);
}

// One thread hands a number to the next: each waits for its turn.
extern "C" __global__ void relay(int* x) {
  __shared__ cuda::atomic<int, cuda::thread_scope_block> turn;
  __shared__ int held;
  if (threadIdx.x == 0) turn = 0;
  __syncthreads();
  while (turn.load(cuda::memory_order_acquire) != (int)threadIdx.x) {}
  held = threadIdx.x == 0 ? 1 : held + threadIdx.x;
  turn.store(threadIdx.x + 1, cuda::memory_order_release);
  if (threadIdx.x == blockDim.x - 1) x[0] = held;
}
"""


@pytest.fixture(scope="module", params=["forward", "reverse", 3, "check"])
def module(request):
    settings = {"check": True} if request.param == "check" else {"order": request.param}
    return RawModule(CODE, filename="atomic.cu", **settings)


def test_cuda_std_is_the_standard_library():
    y = np.zeros(8)
    RawKernel(STD, "of_std")((1,), (1,), (y,))
    np.testing.assert_array_equal(y, [21, 33, 7.5, 65535, 1, np.inf, 6.5, 2])


def test_operations_of_an_atomic_reference(module):
    x, y = np.array([10], np.int32), np.zeros(17, np.int32)
    module.get_function("operations")((1,), (1,), (x, y))
    low = -(2**31)
    expected = [10, 15, 13, 12, 15, 9, 4, 20, low, low, 2**31 - 1 - 7, 2**31 - 8, 0, 2**31 - 8, 1, 31, 1]
    assert (y.tolist(), x.tolist()) == (expected, [9])


def test_sums_of_atomics(module):
    x, f, counted, y = np.zeros(3, np.int32), np.zeros(1, np.float32), np.zeros(4, np.uint8), np.zeros(120, np.uint32)
    module.get_function("sums")((3,), (40,), (x, f, counted, y))
    assert (x.tolist(), f.tolist(), counted.tolist()) == ([780, 780, 780], [60], [30, 30, 30, 30])
    first = y.min()  # the variable lives on between launches
    np.testing.assert_array_equal(np.sort(y), np.arange(first, first + 120))


def test_memory_of_an_address(module):
    y = np.zeros(3, np.int32)
    module.get_function("spaces")((1,), (1,), (np.zeros(1, np.int32), y))
    assert y.tolist() == [1, 2, 4]


def test_who_waits_lets_the_others_run(module):
    x = np.zeros(1, np.int32)
    module.get_function("relay")((1,), (50,), (x,))
    assert x[0] == 1 + sum(range(50))


def test_a_relaxed_store_hands_nothing_over():
    code = CODE.replace("turn.store(threadIdx.x + 1, cuda::memory_order_release)", "turn.store(threadIdx.x + 1, {})")
    code = code.replace("{})", "cuda::memory_order_relaxed)").replace(
        "turn = 0", "turn.store(0, cuda::memory_order_relaxed)"
    )
    with pytest.raises(CheckError) as caught:
        RawKernel(code, "relay", check=True)((1,), (2,), (np.zeros(1, np.int32),))
    assert {report.kind for report in caught.value.reports} == {"race"}

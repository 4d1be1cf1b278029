"""kernels/hopper.cuh, emulated: mbarriers, bulk copies, tensor maps and wgmma against NumPy, and planted mistakes."""

import copy
import itertools
import re

import numpy as np
import pytest

from gpunn.cuda import compiler, source
from gpunn.cuda.emulator import CheckError, RawModule, tensor_map
from gpunn.cuda.emulator.module import _order_code
from gpunn.errors import ArgumentError, LaunchError

u16, i32, u32, f32, f64 = np.uint16, np.int32, np.uint32, np.float32, np.float64

INCLUDE = (f"-I{source.kernels_folder()}",)

MBARRIERS = r"""
#include "hopper.cuh"
typedef unsigned long long u64;

// Each thread writes and arrives; each reads what the others wrote, over several phases.
extern "C" __global__ void all_arrive(unsigned* y, int rounds) {
    __shared__ u64 full, empty;
    __shared__ int s[64];
    const int t = threadIdx.x, n = blockDim.x;
    if (t == 0) mbarrier_init(&full, n), mbarrier_init(&empty, n);
    __syncthreads();
    unsigned sum = 0;
    for (int round = 0; round < rounds; round++) {
        s[t] = t + round;
        const u64 state = mbarrier_arrive(&full);
        if (round % 2) while (!mbarrier_try_wait(&full, state)) {}
        else while (!mbarrier_test_wait_parity(&full, round & 1)) {}
        for (int i = 0; i < n; i++) sum = sum * 3 + s[i];
        mbarrier_arrive(&empty);
        mbarrier_wait_parity(&empty, round & 1);
    }
    y[t] = sum;
}

// One warp makes, another one uses: a ring of two places. Lane 0 alone tells that the warp is done.
extern "C" __global__ void ring(const int* x, int* y, int steps) {
    __shared__ u64 full[2], empty[2];
    __shared__ int s[2][32];
    const int lane = threadIdx.x % 32;
    if (threadIdx.x == 0)
        for (int i = 0; i < 2; i++) mbarrier_init(&full[i], 32), mbarrier_init(&empty[i], 1);
    __syncthreads();
    for (int step = 0; step < steps; step++) {
        const int place = step % 2, parity = step / 2 & 1;
        if (threadIdx.x < 32) {
            mbarrier_wait_parity(&empty[place], parity ^ 1);
            s[place][lane] = x[step * 32 + lane];
            mbarrier_arrive(&full[place]);
        } else {
            mbarrier_wait_parity(&full[place], parity);
            y[step * 32 + lane] = s[place][31 - lane];
            __syncwarp();
            if (lane == 0) mbarrier_arrive(&empty[place]);
        }
    }
}

// What the counts do: y gets whether phases are complete after each operation.
extern "C" __global__ void counts(int* y) {
    __shared__ u64 b;
    mbarrier_init(&b, 3);
    u64 state = mbarrier_arrive(&b, 2);
    y[0] = mbarrier_test_wait(&b, state);
    mbarrier_expect_tx(&b, 48);
    mbarrier_arrive(&b);
    y[1] = mbarrier_test_wait(&b, state);
    mbarrier_complete_tx(&b, 32);
    y[2] = mbarrier_test_wait(&b, state);
    mbarrier_complete_tx(&b, 16);
    y[3] = mbarrier_test_wait(&b, state);
    y[4] = mbarrier_test_wait_parity(&b, 0);  // the phase before this one
    y[5] = mbarrier_test_wait_parity(&b, 1);  // this one
    mbarrier_arrive_drop(&b, 2);
    mbarrier_arrive_expect_tx(&b, 0);
    y[6] = mbarrier_test_wait_parity(&b, 1);
    state = mbarrier_arrive(&b);  // the only one left
    y[7] = mbarrier_test_wait(&b, state);
    mbarrier_inval(&b);
    mbarrier_init(&b, 1);
    y[8] = mbarrier_test_wait_parity(&b, 0);
    mbarrier_complete_tx(&b, 16);  // before it is expected
    mbarrier_arrive_expect_tx(&b, 16);
    y[9] = mbarrier_test_wait_parity(&b, 0);
}

// Another thread waits by __nanosleep for what the one that polls does between its questions.
extern "C" __global__ void polls(volatile int* y) {
    __shared__ u64 b;
    __shared__ volatile int flag;
    if (threadIdx.x == 0) mbarrier_init(&b, 1), flag = 0;
    __syncthreads();
    if (threadIdx.x == 0) {
        while (!mbarrier_try_wait_parity(&b, 0)) atomicExch((int*)&flag, 1);
        y[0] = 7;
    } else {
        while (!atomicAdd((int*)&flag, 0)) __nanosleep(20);
        mbarrier_arrive(&b);
    }
}
"""

ORDERS = ["forward", "reverse", *range(18)]


@pytest.fixture(scope="module", params=[0, 1], ids=["check", "fast"])
def mbarriers(request):
    """The module in check mode, or in all orders."""
    return modules(MBARRIERS, checked=not request.param)


def modules(code, checked=False):
    """The module in check mode, or once for each order."""
    module = RawModule(code, INCLUDE, filename="m.cu", check=checked)
    if checked:
        return [module]
    each = [copy.copy(module) for _ in ORDERS]
    for one, order in zip(each, ORDERS, strict=True):
        one._order = _order_code(order)
    return each


def launch(module, name, grid, block, *args, shared=0):
    kernel = module.get_function(name)
    kernel.max_dynamic_shared_size_bytes = max(shared, 48 << 10)
    kernel((grid,), (block,), args, shared_mem=shared)


def test_phases_order_what_threads_write(mbarriers):
    expected = 0
    for round_ in range(5):
        for i in range(40):
            expected = (expected * 3 + i + round_) & 0xFFFFFFFF
    for module in mbarriers:
        y = np.zeros(40, u32)
        launch(module, "all_arrive", 1, 40, y, i32(5))
        np.testing.assert_array_equal(y, expected)


def test_a_ring_of_two_places(mbarriers):
    x = np.arange(7 * 32, dtype=i32)
    for module in mbarriers:
        y = np.zeros_like(x)
        launch(module, "ring", 1, 64, x, y, i32(7))
        np.testing.assert_array_equal(y.reshape(7, 32), x.reshape(7, 32)[:, ::-1])


def test_counts_of_arrivals_and_bytes(mbarriers):
    for module in mbarriers:
        y = np.full(10, -1, i32)
        launch(module, "counts", 1, 1, y)
        assert y.tolist() == [0, 0, 0, 1, 1, 0, 1, 1, 0, 1]


def test_a_poll_lets_others_run_that_sleep(mbarriers):
    for module in mbarriers:
        y = np.zeros(1, i32)
        launch(module, "polls", 1, 2, y)
        assert y[0] == 7

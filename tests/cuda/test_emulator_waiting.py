"""The emulator: threads that wait for others in a loop, and for what nobody brings."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from gpunn.cuda.emulator import CheckError, RawModule
from gpunn.errors import LaunchError

i32 = np.int32

CODE = r"""
extern "C" __global__ void waits_by_atomics(int* flag, const int* x, int* between, int* y) {
    int last = blockDim.x - 1;
    if (threadIdx.x == last) {
        between[0] = x[0] + 1;
        __threadfence();
        atomicExch(flag, 1);
    } else {
        while (atomicAdd(flag, 0) == 0);
        y[threadIdx.x] = between[0];
    }
}
extern "C" __global__ void waits_for_volatile(volatile int* flag, int* y) {
    if (threadIdx.x == blockDim.x - 1) *flag = 1;
    while (*flag == 0) {}
    y[threadIdx.x] = threadIdx.x;
}
extern "C" __global__ void waits_in_shared(int* y) {
    __shared__ int turn;
    if (threadIdx.x == 0) turn = 0;
    __syncthreads();
    int mine = blockDim.x - 1 - threadIdx.x;  // the last thread comes first
    while (atomicAdd(&turn, 0) != mine);
    y[threadIdx.x] = mine;
    __threadfence_block();
    atomicAdd(&turn, 1);
}
extern "C" __global__ void locks(int* lock, int* count, int times) {
    for (int i = 0; i < times; i++) {
        while (atomicCAS(lock, 0, 1) != 0);
        __threadfence();
        int before = count[0];
        __syncwarp(1u << threadIdx.x % 32);
        __nanosleep(1);  // the others find it locked
        count[0] = before + 1;
        __threadfence();
        atomicExch(lock, 0);
    }
}
extern "C" __global__ void counts_meanwhile(int* flag, int* y) {
    int turns = 0;
    if (threadIdx.x == 0) while (atomicAdd(flag, 0) == 0) turns++;
    else atomicExch(flag, 1);
    y[threadIdx.x] = turns > 0;
}
extern "C" __global__ void next_block(int* flag, int* y) {
    if (blockIdx.x == 0) while (atomicAdd(flag, 0) == 0);
    else atomicExch(flag, 1);
    y[blockIdx.x] = 1;
}
extern "C" __global__ void nobody_comes(int* flag, int* y) {
    if (threadIdx.x % 2 == 1)
        while (atomicAdd(flag, 0) == 0);
    __syncthreads();
    y[threadIdx.x] = 1;
}
extern "C" __global__ void naps(int* flag) {
    for (int ns = 1; atomicAdd(flag, 0) == 0; ns = ns < 64 ? 2 * ns : ns)
        __nanosleep(ns);
}
extern "C" __global__ void too_many(int* arrived) {
    __syncthreads();
    if (threadIdx.x) return;
    atomicAdd(arrived, 1);
    while (atomicAdd(arrived, 0) < gridDim.x);
}
extern "C" __global__ void waits_for_long(int* flag, int* y, long long turns) {
    if (threadIdx.x == blockDim.x - 1) {
        unsigned x = turns;
        for (long long i = 0; i < turns; i++) x = x * 1664525u + ((volatile int*)y)[32];
        atomicExch(flag, 1 + (x == 12345));
    }
    while (atomicAdd(flag, 0) == 0);
    if (threadIdx.x < blockDim.x - 1) y[threadIdx.x] = 1;
}
extern "C" __global__ void order_of_threads(int* next, int* y, int turns) {
    __shared__ int table[4];
    if (threadIdx.x < 4) table[threadIdx.x] = threadIdx.x;
    __syncthreads();
    unsigned x = threadIdx.x;
    for (int i = 0; i < turns; i++) x = x * 1664525u + ((volatile int*)table)[x >> 30];
    y[atomicAdd(next, 1)] = threadIdx.x + (x == 12345);
}
"""
LINE = {
    name: 1 + CODE[: CODE.index(text)].count("\n")
    for name, text in {
        "nobody_comes": "while (atomicAdd(flag, 0) == 0);\n    __syncthreads",
        "naps": "for (int ns = 1",
        "too_many": "while (atomicAdd(arrived, 0) < gridDim.x)",
    }.items()
}

ORDERS = ["forward", "reverse", 1]
MODES = {"fast": {}, "check": {"check": True}, "count": {"count": True}}


WAYS = [{"check": check, "order": order} for check in (False, True) for order in ORDERS] + [{"count": True}]


@pytest.fixture(scope="module", params=WAYS, ids=str)
def module(request):
    return RawModule(CODE, filename="k.cu", **request.param)


def test_a_thread_waits_in_a_loop_for_another(module):
    y = np.zeros(64, i32)
    module.get_function("waits_by_atomics")(1, 64, (np.zeros(1, i32), np.full(1, 41, i32), np.zeros(1, i32), y))
    np.testing.assert_array_equal(y, [42] * 63 + [0])


def test_a_thread_waits_for_a_volatile_variable(module):
    waits, y = module.get_function("waits_for_volatile"), np.zeros(48, i32)
    if module._source.mode.checks:  # nothing orders the two
        with pytest.raises(CheckError) as caught:
            waits(1, 48, (np.zeros(1, i32), y))
        assert {report.kind for report in caught.value.reports} == {"race"}
    else:
        waits(1, 48, (np.zeros(1, i32), y))
    np.testing.assert_array_equal(y, np.arange(48))


def test_every_thread_waits_for_its_turn(module):
    y = np.zeros(20, i32)
    module.get_function("waits_in_shared")(1, 20, (y,))
    np.testing.assert_array_equal(y, np.arange(20)[::-1])


def test_a_lock_that_threads_of_blocks_hold_while_others_run(module):
    count = np.zeros(1, i32)
    module.get_function("locks")(1, 24, (np.zeros(1, i32), count, i32(2)))
    assert count[0] == 24 * 2


def test_threads_that_wait_for_nobody_run_in_order_however_long(module):
    """Ticks of the timer, 20 ms apart, find each in the midst of its loop."""
    threads, rounds, seconds = np.arange(4), 250_000, 0.0
    while seconds < 2 * 4 * 0.02:
        rounds, y, begin = 2 * rounds, np.zeros(4, i32), time.monotonic()
        module.get_function("order_of_threads")(1, 4, (np.zeros(1, i32), y, i32(rounds)))
        seconds = time.monotonic() - begin
    again = np.zeros(4, i32)
    module.get_function("order_of_threads")(1, 4, (np.zeros(1, i32), again, i32(1)))
    np.testing.assert_array_equal(y, again)
    if module._order[0] < 2:
        np.testing.assert_array_equal(y, threads if module._order[0] == 0 else threads[::-1])


@pytest.mark.skipif(len(os.sched_getaffinity(0)) == 1, reason="needs two cores")
def test_a_block_waits_for_one_on_another_core():
    kernel = RawModule(CODE, filename="k.cu").get_function("next_block")
    y, z = np.zeros(2, i32), np.zeros(2, i32)
    kernel(2, 1, (np.zeros(1, i32), y))
    with ThreadPoolExecutor(1) as threads:  # where no Python signal is handled
        threads.submit(kernel, 2, 1, (np.zeros(1, i32), z)).result()
    np.testing.assert_array_equal([y, z], 1)


@pytest.fixture(scope="module")
def hopeless():
    """What kernels that wait for long end with, by name and mode: all at once, for it takes seconds."""
    modules = {mode: RawModule(CODE, filename="k.cu", arch=860, **how) for mode, how in MODES.items()}

    def run(launch):
        name, mode = launch
        args = (np.zeros(1, i32), np.zeros(40, i32))[: 1 + (name not in ("naps", "too_many"))]
        blocks, shared = (29, 99 << 10) if name == "too_many" else (2, 0)
        kernel = modules[mode].get_function(name)
        kernel.max_dynamic_shared_size_bytes = shared
        begin = time.monotonic()
        said = ""
        try:
            kernel(blocks, 40, args, shared_mem=shared)
        except (LaunchError, CheckError) as error:
            said = f"{type(error).__name__}: {error}"
        return said, time.monotonic() - begin

    launches = [("nobody_comes", mode) for mode in MODES]
    launches += [("naps", "fast"), ("counts_meanwhile", "fast"), ("too_many", "fast"), ("too_many", "check")]
    with ThreadPoolExecutor(len(launches)) as threads:
        return dict(zip(launches, threads.map(run, launches), strict=True))


def test_a_thread_that_counts_while_it_waits(hopeless):
    said, _ = hopeless["counts_meanwhile", "fast"]
    assert not said


@pytest.mark.parametrize("mode", MODES)
def test_a_flag_that_nobody_sets_is_told_with_its_line(hopeless, mode):
    said, seconds = hopeless["nobody_comes", mode]
    error = "CheckError" if mode == "check" else "LaunchError"
    assert said.startswith(f"{error}: nobody_comes: deadlock: k.cu:{LINE['nobody_comes']}: block (")
    assert "waits in a loop for what nobody brings, for 5 seconds" in said
    assert "begin when others end" not in said
    assert "20 threads of the block wait in loops, 20 at a block barrier, 0 in a warp operation, 0 have ret" in said
    assert 5 <= seconds < 20


@pytest.mark.parametrize("mode", ["fast", "check"])
def test_blocks_that_have_no_room_and_are_waited_for(hopeless, mode):
    said, _ = hopeless["too_many", mode]
    assert f"too_many: deadlock: k.cu:{LINE['too_many']}: block (" in said
    assert "; 1 blocks begin when others end, a GPU has room for 28" in said
    kernel = RawModule(CODE, filename="k.cu", arch=860, **MODES[mode]).get_function("too_many")
    kernel.max_dynamic_shared_size_bytes = 99 << 10
    arrived = np.zeros(1, i32)
    kernel(28, 40, (arrived,), shared_mem=99 << 10)
    assert arrived[0] == 28


def test_naps_for_what_nobody_brings_are_told_too(hopeless):
    said, _ = hopeless["naps", "fast"]
    line = int(said.split("k.cu:")[1].split(":")[0])
    assert said.startswith("LaunchError: naps: deadlock: ")
    assert line - LINE["naps"] in (0, 1)
    assert "40 threads of the block wait in loops, 0 at a block barrier" in said


@pytest.mark.slow
@pytest.mark.parametrize("check", [False, True], ids=["fast", "check"])
def test_who_waits_for_a_long_computation_is_not_told(check):
    kernel = RawModule(CODE, filename="k.cu", check=check).get_function("waits_for_long")

    def run(turns):
        y = np.zeros(33, i32)
        begin = time.monotonic()
        kernel(1, 2, (np.zeros(1, i32), y, np.int64(turns)))
        assert y[0] == 1
        return time.monotonic() - begin

    some = 2_000_000 if check else 200_000_000
    least = 6  # seconds: more than all may wait for nothing
    turns = int(some * 1.5 * least / run(some))
    while run(turns) <= least:  # the processor has become faster since
        turns *= 2

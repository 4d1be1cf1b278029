"""Calls of C functions with the stack at one of several places."""

import ctypes
import time

import pytest

from gpunn.cpu import stack
from gpunn.cpu.stack import Placed

POINTERS = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


@pytest.fixture(autouse=True)
def linux():
    if not stack._here.known:
        pytest.skip("the stack is looked at on Linux on x86-64")


def test_the_function_gets_its_arguments_wherever_the_stack_is():
    calls = []

    def takes(a, b, c, d):
        calls.append((a, b, c, d))
        return c + 1

    function, number = POINTERS(takes), stack._TRIALS * len(stack._MORE) + 2
    placed = Placed(function)
    assert [placed(1 << 40, 2, 3, 4) for _ in range(number)] == [4] * number
    assert calls == [(1 << 40, 2, 3, 4)] * number


def test_the_stack_moves_to_both_multiples_of_16_in_32():
    places, context = [], ctypes.create_string_buffer(stack._CONTEXT_BYTES)
    pointer = ctypes.c_uint64.from_buffer(context, stack._STACK_POINTER)
    for call, more in Placed(ctypes.CDLL(None).getcontext)._calls:  # it writes where the stack is
        call(ctypes.addressof(context), 0, 0, 0, *more)
        places.append(pointer.value)
    assert sorted(place % 32 for place in places) == [0, 0, 0, 16, 16, 16]
    assert all(abs(a - b) > 200 for a in places for b in places if a != b and a % 32 == b % 32)


@pytest.mark.parametrize("fast", range(6))
def test_the_fastest_place_is_kept(fast):
    used, placed = [], Placed(ctypes.CDLL(None).getcontext)

    def call(number):
        def called(*arguments):
            used.append(number)
            time.sleep(0.001 if number == fast else 0.003)
            return 0

        return called

    placed._calls = [(call(number), ()) for number in range(6)]
    for _ in range(6 * stack._TRIALS):
        placed(1, 2, 3, 4)
    assert used == [*range(6)] * stack._TRIALS
    used.clear()
    placed(1, 2, 3, 4)
    assert used == [fast]

"""Calls of C functions with the stack at one of two places."""

import ctypes
import time

import pytest

from gpunn.cpu.stack import Aligned

POINTERS = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


@pytest.mark.parametrize("wanted", [None, 0, 16])
def test_the_function_gets_its_arguments_wherever_the_stack_is(wanted):
    calls = []

    def takes(a, b, c, d):
        calls.append((a, b, c, d))
        return c + 1

    function = POINTERS(takes)
    aligned = Aligned(function)
    if not aligned._here.known:
        pytest.skip("the stack is looked at on Linux on x86-64")
    aligned._wanted = wanted
    assert aligned(1 << 40, 2, 3, 4) == 4
    assert calls == [(1 << 40, 2, 3, 4)]


def test_one_of_two_places_is_asked_for():
    """Each place is the other one for one of the two ways to call."""
    aligned = Aligned(POINTERS(lambda *arguments: 0))
    if not aligned._here.known:
        pytest.skip("the stack is looked at on Linux on x86-64")
    used = []
    aligned._plain, aligned._moved = lambda *a: used.append("plain"), lambda *a: used.append("moved")
    for aligned._wanted in (0, 16):
        aligned(1, 2, 3, 4)
    assert sorted(used) == ["moved", "plain"]


@pytest.mark.parametrize(("slow", "chosen"), [(0, 16), (16, 0), (None, None)])
def test_the_faster_place_is_chosen(slow, chosen):
    aligned = Aligned(POINTERS(lambda *arguments: 0))
    if not aligned._here.known:
        pytest.skip("the stack is looked at on Linux on x86-64")
    aligned.choose(lambda: time.sleep(0.004 if aligned._wanted == slow else 0.002))
    assert aligned._wanted == chosen

"""How many threads there are: what variables ask for, and what small products take where none does."""

import os
import subprocess
import sys

import numpy as np
import pytest

from gpunn.cpu import blas, library, number
from gpunn.errors import ArgumentError

needs_openblas = pytest.mark.skipif(blas._functions() is None, reason="NumPy's BLAS is not OpenBLAS")
VARIABLES = ["GPUNN_NUM_THREADS", "OMP_NUM_THREADS", *number._OF_BLAS]
CASES = {  # variables, on three CPUs: own(), count(), is_free()
    "nothing": ({}, None, 3, True),
    "OpenMP's": ({"OMP_NUM_THREADS": "2,1"}, None, 2, False),
    "gpunn's": ({"GPUNN_NUM_THREADS": " 4 "}, 4, 4, False),
    "both": ({"GPUNN_NUM_THREADS": "1", "OMP_NUM_THREADS": "2"}, 1, 1, False),
    "BLAS's": ({"OPENBLAS_NUM_THREADS": "2"}, None, 3, False),
    "empty": ({"GPUNN_NUM_THREADS": "", "OMP_NUM_THREADS": "many"}, None, 3, True),
}


@pytest.fixture
def variables(monkeypatch):
    """Set variables, as if the process began with them on three CPUs."""

    def set_to(given):
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        forget()

    def forget():
        for each in (number.own, number.count, number.is_free, blas._is_free):
            each.cache_clear()

    monkeypatch.setattr(number, "_cpus", lambda: 3)
    yield set_to
    monkeypatch.undo()
    forget()


@pytest.mark.parametrize("name", CASES)
def test_who_is_obeyed(name, variables):
    given, *wanted = CASES[name]
    variables(given)
    assert [number.own(), number.count(), number.is_free()] == wanted


@pytest.mark.parametrize("text", ["0", "two", "-1", "1.5"])
def test_what_is_no_number_of_threads(text, variables, monkeypatch):
    monkeypatch.setattr(library, "_found", (None, "off"))
    variables({"GPUNN_NUM_THREADS": text})
    message = f"^threads: GPUNN_NUM_THREADS must be an integer of at least 1, got GPUNN_NUM_THREADS='{text}'$"
    with pytest.raises(ArgumentError, match=message):
        number.count()
    with pytest.raises(ArgumentError, match=message):
        blas.matmul(np, np.ones((300, 100)), np.ones((100, 300)))


ASKED = {"free": ({}, [1, 1, 2]), "asked": ({"OMP_NUM_THREADS": "2"}, [2, 2, 2])}


@needs_openblas
@pytest.mark.parametrize("name", ASKED)
def test_small_products_take_one_thread_unless_more_are_asked_for(name, variables, monkeypatch):
    given, wanted = ASKED[name]
    variables(given)
    monkeypatch.setattr(library, "_found", (None, "off"))
    (threads, change), had, multiply = blas._functions(), [], np.matmul
    monkeypatch.setattr(np, "matmul", lambda *a, **k: had.append(threads()) or multiply(*a, **k))
    before = threads()
    change(2)
    try:
        x = np.ones((100, 260), np.float32)
        blas.matmul(np, x, x.T)
        blas.matmul(np, x, x[0])
        monkeypatch.setattr(blas, "_SMALL", 1000)
        blas.matmul(np, x, x.T)
        assert had == wanted
        assert threads() == 2
    finally:
        change(before)


@needs_openblas
@pytest.mark.parametrize(("engine", "wanted"), [("off", "3 3 None"), ("", "3 3")])
def test_all_have_the_threads_that_are_asked_for(engine, wanted):
    program = """
import numpy as np
from gpunn import functional as F
from gpunn.cpu import blas, library, threads
F.matmul(np.ones((300, 300)), np.ones((300, 300)))
found = library.usable()
print(threads.count(), *([found.threads()] if found else [blas._functions()[0](), None]))
"""
    if engine != "off" and library.usable() is None:
        pytest.skip("oneDNN is not installed")
    environment = os.environ | {"GPUNN_NUM_THREADS": "3", "OMP_NUM_THREADS": "1", "GPUNN_ONEDNN": engine}
    ended = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout == f"{wanted}\n"

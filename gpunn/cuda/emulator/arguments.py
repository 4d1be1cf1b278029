"""Arguments of a kernel, written as text on a command line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from gpunn.cuda.emulator.unwritten import empty
from gpunn.errors import ArgumentError, fail

FORMS = "TYPE=VALUE, TYPE[SHAPE]=zeros|ones|arange|random|empty|VALUE, FILE.npy or null"

_TEXT = re.compile(r"(?P<type>[a-z]\w*)(?:\[(?P<shape>[\d, x]*)\])?(?:=(?P<value>.+))?")


def parse(text: str, position: int = 0) -> Any:
    """The argument that ``text`` describes; ``position`` seeds random numbers.

    >>> parse("int32=5"), parse("float32[2,3]=arange").tolist()
    (np.int32(5), [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]])

    Random numbers are from the standard normal distribution, or integers from 0 to 99. Raises ArgumentError for a text
    of another form, a file that NumPy cannot read, and a number that the type does not hold.
    """
    if text == "null":
        return None
    if text.endswith(".npy"):
        return _read(text)
    found = _TEXT.fullmatch(text)
    dtype = _dtype(found["type"]) if found else None
    if not found or dtype is None:
        fail(ArgumentError, "kernel argument", f"it must be {FORMS}", argument=text)
    if found["shape"] is None:
        if found["value"] is None:
            fail(ArgumentError, "kernel argument", "a number needs a value: TYPE=VALUE", argument=text)
        return _number(text, found["value"], dtype)
    shape = tuple(int(size) for size in re.findall(r"\d+", found["shape"]))
    return _array(text, found["value"] or "zeros", shape, dtype, position)


def _array(text: str, value: str, shape: tuple[int, ...], dtype: np.dtype[Any], position: int) -> np.ndarray[Any, Any]:
    if value == "empty":
        return empty(shape, dtype)
    if value == "arange":
        return np.arange(np.prod(shape, dtype=int)).astype(dtype).reshape(shape)
    if value == "random":
        rng = np.random.default_rng(position)
        drawn = rng.standard_normal(shape) if dtype.kind in "fc" else rng.integers(0, 100, shape)
        return np.ascontiguousarray(drawn, dtype)
    fills = {"zeros": "0", "ones": "1"}
    return np.full(shape, _number(text, fills.get(value, value), dtype), dtype)


def _number(text: str, value: str, dtype: np.dtype[Any]) -> Any:
    try:
        number: Any = complex(value) if dtype.kind == "c" else float(value) if dtype.kind == "f" else int(value, 0)
        return dtype.type(number)
    except (ValueError, OverflowError) as error:
        fail(ArgumentError, "kernel argument", f"{dtype} does not hold that ({error})", argument=text)


def _dtype(name: str) -> np.dtype[Any] | None:
    try:
        dtype = np.dtype(name)
    except TypeError:
        return None
    return dtype if dtype.kind in "biufc" else None


def _read(name: str) -> np.ndarray[Any, Any]:
    try:
        return np.ascontiguousarray(np.load(Path(name), allow_pickle=False))
    except (OSError, ValueError) as error:
        fail(ArgumentError, "kernel argument", f"NumPy cannot read the file ({error})", file=name)

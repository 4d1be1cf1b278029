"""In place of cupy.random._generator_api, whose device code cannot run here: NumPy draws, in stream order.

The numbers are others than those of a GPU, from the same distributions. The same seed gives the same ones, and the
state lies where CuPy keeps that of cuRAND: who copies it, copies the generator.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from typing import Any

import cupy
import numpy
from cupy import _core

from gpunn.cuda.device import host

Array = Any
Size = int | Sequence[int] | None
Draw = Callable[..., Any]

_UINT32_MAX = 2**32 - 1
_UINT64_MAX = 2**64 - 1

# ---- the state ------------------------------------------------------------------------------------------------------

_MARK = int.from_bytes(b"gpunnPCG", "little")
_WORDS = 6  # of PCG64: two of its state, two of its increment, half a word that is left over, and the mark


def _write(place: int, bit_generator: numpy.random.PCG64) -> None:
    state = bit_generator.state
    low = [state["state"][name] >> shift & _UINT64_MAX for name in ("state", "inc") for shift in (0, 64)]
    words = [*low, state["has_uint32"] << 32 | state["uinteger"], _MARK]
    host.array(place, _WORDS, numpy.uint64, write=True)[:] = words


def _read(place: int) -> numpy.random.PCG64:
    *words, left, mark = map(int, host.array(place, _WORDS, numpy.uint64))
    if mark != _MARK:
        raise RuntimeError("the state of this bit generator is not one that the emulated device has written")
    bit_generator = numpy.random.PCG64(0)
    bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": words[0] | words[1] << 64, "inc": words[2] | words[3] << 64},
        "has_uint32": left >> 32,
        "uinteger": left & _UINT32_MAX,
    }
    return bit_generator


def init_curand(generator: int, state: int, seed: int, size: int) -> None:
    """Seed the state of a bit generator of kind ``generator``."""
    if size < 1:
        raise ValueError("a bit generator needs room for the state of one at least")
    seeds = numpy.random.SeedSequence([int(seed), int(generator)])
    host.enqueue(lambda: _write(state, numpy.random.PCG64(seeds)))


def random_raw(generator: Any, out: Array) -> None:
    """Fill ``out`` with 32 random bits each."""
    _launch(generator, out, lambda draws, shape: draws.integers(0, 2**32, shape, numpy.uint32).view(out.dtype))


# ---- drawing --------------------------------------------------------------------------------------------------------


def _view(array: Array, shape: tuple[int, ...], write: bool = False) -> Callable[[], Any]:
    """The elements of an array that lies in one piece, to be read or written when the stream comes to it."""
    place, dtype = array.data.ptr, array.dtype
    return lambda: host.array(place, shape, dtype, write=write)


def _later(parameter: Any) -> Callable[[], Any]:
    if isinstance(parameter, cupy.ndarray):
        return _view(cupy.ascontiguousarray(parameter), parameter.shape)
    return lambda: parameter


def _launch(bit_generator: Any, out: Array, draw: Draw, *parameters: Any) -> None:
    """Have ``draw(generator, *parameters, shape)`` fill ``out``, any order of whose elements is as good."""
    bit_generator._check_device()
    if not out.size:
        return
    read, shape, target = list(map(_later, parameters)), out.shape, _view(out, (out.size,), write=True)
    state = int(bit_generator.state())

    def work() -> None:
        result = target()
        try:
            generator = _read(state)
            result[:] = numpy.asarray(
                draw(numpy.random.Generator(generator), *(each() for each in read), shape)
            ).ravel()
            _write(state, generator)
        except BaseException:
            # Who does not hear of it shall not take what lay there for random numbers.
            result[:] = numpy.nan if result.dtype.kind == "f" else numpy.iinfo(result.dtype).min
            raise

    with bit_generator.lock:
        host.enqueue(work)


def _shape(size: Size, parameters: Sequence[Any]) -> tuple[int, ...]:
    shapes = [each.shape for each in parameters if isinstance(each, cupy.ndarray)]
    if size is None:
        return numpy.broadcast_shapes(*shapes)
    shape = tuple(map(int, size)) if isinstance(size, Sequence) else (int(size),)
    if min(shape, default=0) >= 0 and numpy.broadcast_shapes(shape, *shapes) != shape:
        raise ValueError(f"parameters of shapes {shapes} cannot be broadcast to the size {shape}")
    return shape


def _checked(name: str, value: Any) -> Any:
    if isinstance(value, (cupy.ndarray, numbers.Number, numpy.bool_)):
        return value
    raise TypeError(f"{name} is required to be a cupy.ndarray or a scalar")


def _array_like(value: Any) -> Any:
    return cupy.asarray(value) if isinstance(value, (list, tuple, numpy.ndarray)) else value


def _whole(name: str, value: Any) -> Any:
    """Whole numbers, of which the rest is cut off."""
    value = _checked(name, value)
    return value.astype(numpy.int64) if isinstance(value, cupy.ndarray) else int(value)


def _floating(dtype: Any, name: str) -> Any:
    dtype = numpy.dtype(dtype)
    if dtype not in (numpy.float32, numpy.float64):
        raise TypeError(f"Unsupported dtype {dtype} for {name}")
    return dtype


class Generator:
    """Random numbers of many distributions, drawn with a bit generator of CuPy."""

    def __init__(self, bit_generator: Any) -> None:
        self.bit_generator = bit_generator

    def _check_output_array(self, dtype: Any, size: Size, out: Array, check_only_c_cont: bool = False) -> None:
        if out is None:
            return
        if not isinstance(out, cupy.ndarray):
            raise TypeError(f"Unsupported type {type(out)}")
        if out.dtype != numpy.dtype(dtype):
            raise TypeError(
                f"Supplied output array has the wrong type. Expected {numpy.dtype(dtype).name}, got {out.dtype}"
            )
        if not (out.flags.c_contiguous or (out.flags.f_contiguous and not check_only_c_cont)):
            raise ValueError("Supplied output array is not contiguous, writable or aligned.")
        if size is not None and _shape(size, ()) != out.shape:
            raise ValueError("size must match out.shape when used together")

    def _drawn(self, draw: Draw, parameters: Sequence[Any], size: Size, dtype: Any, out: Array = None) -> Array:
        if not any(isinstance(each, cupy.ndarray) for each in parameters):
            draw(numpy.random.Generator(numpy.random.PCG64(0)), *parameters, 0)  # raises if they are wrong
        if out is None:
            out = cupy.empty(_shape(size, parameters), dtype)
        elif _shape(out.shape, parameters) != out.shape:
            raise ValueError("the parameters cannot be broadcast to the output")
        _launch(self.bit_generator, out, draw, *parameters)
        return out

    def random(self, size: Size = None, dtype: Any = numpy.float64, out: Array = None) -> Array:
        """Floats of [0, 1)."""
        dtype = _floating(dtype, "random")
        self._check_output_array(dtype, size, out)
        return self._drawn(lambda draws, shape: draws.random(shape, dtype), (), size, dtype, out)

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Size = None, dtype: Any = numpy.float64) -> Array:
        """Floats of [low, high)."""
        dtype = _floating(dtype, "uniform")

        def draw(draws: numpy.random.Generator, low: Any, high: Any, shape: Any) -> Any:
            return low + (high - low) * draws.random(shape, dtype)

        return self._drawn(draw, [_array_like(low), _array_like(high)], size, dtype)

    def integers(
        self, low: int, high: int | None = None, size: Size = None, dtype: Any = numpy.int64, endpoint: bool = False
    ) -> Array:
        """Whole numbers of [low, high), or of [low, high] with ``endpoint``; of [0, low) without ``high``."""
        dtype = numpy.dtype(dtype)
        if dtype.kind not in "iu":
            raise ValueError(f"Invalid integer data type '{dtype.kind}'.")
        first, last = (0, int(low)) if high is None else (int(low), int(high))
        last -= not endpoint
        if first > last:
            raise ValueError("low >= high")
        if first < numpy.iinfo(dtype).min:
            raise ValueError(f"low is out of bounds for {dtype}")
        if last > numpy.iinfo(dtype).max:
            raise ValueError(f"high is out of bounds for {dtype}")
        return self._drawn(
            lambda draws, shape: draws.integers(first, last, shape, dtype, endpoint=True), (), size, dtype
        )

    def beta(self, a: Any, b: Any, size: Size = None, dtype: Any = numpy.float64) -> Array:
        parameters = [_checked("a", a), _checked("b", b)]
        dtype = _floating(dtype, "beta")
        return self._drawn(lambda draws, a, b, shape: draws.beta(a, b, shape), parameters, size, dtype)

    def chisquare(self, df: Any, size: Size = None) -> Array:
        parameters = [_checked("df", df)]
        return self._drawn(lambda draws, df, shape: draws.chisquare(df, shape), parameters, size, numpy.float64)

    def dirichlet(self, alpha: Array, size: Size = None) -> Array:
        """Samples that add up to 1 along the last axis, one for each row of ``alpha``."""
        _checked("alpha", alpha)
        alpha, lead = cupy.asarray(alpha), () if size is None else _shape(size, ())
        if not alpha.ndim:  # the last axis of ``size`` is that of the samples
            _core.internal._normalize_axis_index(-1, len(lead))  # raises if it has no dimensions
            alpha, lead = cupy.broadcast_to(alpha, lead[-1:]), lead[:-1]

        def draw(draws: numpy.random.Generator, alpha: numpy.ndarray, shape: tuple[int, ...]) -> numpy.ndarray:
            result = numpy.empty(shape)
            for row in numpy.ndindex(alpha.shape[:-1]):
                result[(..., *row, slice(None))] = draws.dirichlet(alpha[row], lead)
            return result

        return self._drawn(draw, [alpha], (*lead, *alpha.shape), numpy.float64)

    def exponential(self, scale: Any = 1.0, size: Size = None) -> Array:
        parameters = [_checked("scale", _array_like(scale))]
        return self._drawn(lambda draws, scale, shape: draws.exponential(scale, shape), parameters, size, numpy.float64)

    def f(self, dfnum: Any, dfden: Any, size: Size = None) -> Array:
        parameters = [_checked("dfnum", dfnum), _checked("dfden", dfden)]
        return self._drawn(lambda draws, a, b, shape: draws.f(a, b, shape), parameters, size, numpy.float64)

    def geometric(self, p: Any, size: Size = None) -> Array:
        parameters = [_checked("p", p)]
        return self._drawn(lambda draws, p, shape: draws.geometric(p, shape), parameters, size, numpy.int64)

    def hypergeometric(self, ngood: Any, nbad: Any, nsample: Any, size: Size = None) -> Array:
        parameters = [_whole("ngood", ngood), _whole("nbad", nbad), _whole("nsample", nsample)]
        return self._drawn(
            lambda draws, good, bad, taken, shape: draws.hypergeometric(
                good, bad, numpy.minimum(taken, good + bad), shape
            ),
            parameters,
            size,
            numpy.int64,
        )

    def logseries(self, p: Any, size: Size = None) -> Array:
        parameters = [_checked("p", p)]
        return self._drawn(lambda draws, p, shape: draws.logseries(p, shape), parameters, size, numpy.int64)

    def standard_exponential(
        self, size: Size = None, dtype: Any = numpy.float64, method: str = "inv", out: Array = None
    ) -> Array:
        if method == "zig":
            raise NotImplementedError("Ziggurat method is not supported")
        if method != "inv":
            raise ValueError(f"there is no method {method!r}, only 'inv'")
        dtype = _floating(dtype, "standard_exponential")
        self._check_output_array(dtype, size, out)
        return self._drawn(lambda draws, shape: draws.standard_exponential(shape, dtype, "inv"), (), size, dtype, out)

    def poisson(self, lam: Any = 1.0, size: Size = None) -> Array:
        parameters = [_checked("lam", lam)]
        return self._drawn(lambda draws, lam, shape: draws.poisson(lam, shape), parameters, size, numpy.int64)

    def power(self, a: Any, size: Size = None) -> Array:
        parameters = [_checked("a", a)]
        return self._drawn(lambda draws, a, shape: draws.power(a, shape), parameters, size, numpy.float64)

    def standard_normal(self, size: Size = None, dtype: Any = numpy.float64, out: Array = None) -> Array:
        dtype = _floating(dtype, "standard_normal")
        self._check_output_array(dtype, size, out)
        return self._drawn(lambda draws, shape: draws.standard_normal(shape, dtype), (), size, dtype, out)

    def gamma(self, shape: Any, scale: Any = 1.0, size: Size = None) -> Array:
        parameters = [_checked("shape", shape), _checked("scale", _array_like(scale))]
        return self._drawn(lambda draws, a, scale, shape: draws.gamma(a, scale, shape), parameters, size, numpy.float64)

    def standard_gamma(self, shape: Any, size: Size = None, dtype: Any = numpy.float64, out: Array = None) -> Array:
        parameters = [_checked("shape", shape)]
        dtype = _floating(dtype, "standard_gamma")
        self._check_output_array(dtype, size, out, True)
        return self._drawn(lambda draws, a, shape: draws.standard_gamma(a, shape), parameters, size, dtype, out)

    def binomial(self, n: Any, p: Any, size: Size = None) -> Array:
        parameters = [_whole("n", n), _checked("p", p)]
        return self._drawn(lambda draws, n, p, shape: draws.binomial(n, p, shape), parameters, size, numpy.int64)


# ---- permutations ---------------------------------------------------------------------------------------------------


class FeistelBijection:
    """A random order of the numbers below ``num_elements``, without a list of them all if they are many."""

    num_rounds = 24

    def __init__(self, num_elements: int, keys_array: numpy.ndarray) -> None:
        self._count = int(num_elements)
        self._keys = numpy.ascontiguousarray(keys_array, numpy.uint32)
        assert self._keys.shape == (self.num_rounds,)

    def __call__(self, size: int) -> Array:
        """The first ``size`` of them."""
        if not 0 <= size <= self._count:
            raise ValueError(f"{size} numbers of {self._count} cannot be taken")
        if self._count <= 2**20:
            order = numpy.random.Generator(numpy.random.PCG64(self._keys)).permutation(self._count)[:size]
        else:
            order = self._shuffled(numpy.arange(size, dtype=numpy.uint64))
            while (beyond := order >= self._count).any():
                order[beyond] = self._shuffled(order[beyond])
        return cupy.asarray(order.astype(numpy.int64))

    def _shuffled(self, values: numpy.ndarray) -> numpy.ndarray:
        """Where the numbers below the next power of 4 come to lie."""
        bits = numpy.uint64(((self._count - 1).bit_length() + 1) // 2)
        mask = (numpy.uint64(1) << bits) - numpy.uint64(1)
        left, right = values >> bits, values & mask
        for key in self._keys:
            mixed = (right + key) * numpy.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ mixed >> numpy.uint64(32)) * numpy.uint64(0xD6E8FEB86659FD93)
            left, right = right, left ^ (mixed >> numpy.uint64(32)) & mask
        return left << bits | right

"""``cupy.cuda.cufft``: cuFFT's plans, by NumPy on the host.

Served are ``Plan1d`` and ``PlanNd`` of one device, complex and real, single and double, with batches and with the
strides and embedding that cuFFT has, so that ``cupy.fft``, ``cupyx.scipy.fft`` and the cache of plans work. As
cuFFT's, transforms are not normalised. Plans over more than one device, ``XtPlanNd`` with its half precision, and
callbacks are refused.
"""

from __future__ import annotations

import itertools
import math
import threading
import weakref
from typing import Any

import numpy as np

from gpunn.cuda.device import host

CUFFT_C2C, CUFFT_R2C, CUFFT_C2R = 0x29, 0x2A, 0x2C
CUFFT_Z2Z, CUFFT_D2Z, CUFFT_Z2D = 0x69, 0x6A, 0x6C
CUFFT_FORWARD, CUFFT_INVERSE = -1, 1
CUFFT_CB_LD_COMPLEX, CUFFT_CB_LD_COMPLEX_DOUBLE, CUFFT_CB_LD_REAL, CUFFT_CB_LD_REAL_DOUBLE = range(4)
CUFFT_CB_ST_COMPLEX, CUFFT_CB_ST_COMPLEX_DOUBLE, CUFFT_CB_ST_REAL, CUFFT_CB_ST_REAL_DOUBLE = range(4, 8)

_TYPES = {  # dtypes of the input and of the output
    CUFFT_C2C: ("F", "F"),
    CUFFT_R2C: ("f", "F"),
    CUFFT_C2R: ("F", "f"),
    CUFFT_Z2Z: ("D", "D"),
    CUFFT_D2Z: ("d", "D"),
    CUFFT_Z2D: ("D", "d"),
}
_REAL_TO_COMPLEX, _COMPLEX_TO_REAL = (CUFFT_R2C, CUFFT_D2Z), (CUFFT_C2R, CUFFT_Z2D)

_RESULT = (
    "SUCCESS",
    "INVALID_PLAN",
    "ALLOC_FAILED",
    "INVALID_TYPE",
    "INVALID_VALUE",
    "INTERNAL_ERROR",
    "EXEC_FAILED",
    "SETUP_FAILED",
    "INVALID_SIZE",
    "UNALIGNED_DATA",
    "INCOMPLETE_PARAMETER_LIST",
    "INVALID_DEVICE",
    "PARSE_ERROR",
    "NO_WORKSPACE",
    "NOT_IMPLEMENTED",
    "LICENSE_ERROR",
    "NOT_SUPPORTED",
)
_INVALID_PLAN, _INVALID_TYPE, _INVALID_VALUE, _INVALID_SIZE = 1, 3, 4, 8


class CuFFTError(RuntimeError):
    """What a function of cuFFT returned instead of success."""

    def __init__(self, result: int) -> None:
        self.result = result
        super().__init__(f"CUFFT_{_RESULT[result]}")

    def __reduce__(self) -> Any:
        return type(self), (self.result,)


def check_result(result: int) -> None:
    """Raise CuFFTError unless ``result`` is success."""
    if result:
        raise CuFFTError(result)


def getVersion() -> int:
    """The version of cuFFT that stands with this version of CUDA."""
    from cupy_backends.cuda.api import runtime

    return 11401 if runtime.runtimeGetVersion() < 13000 else 12000


_current = threading.local()


def get_current_plan() -> Any:
    """The plan whose ``with`` this thread is in, or None."""
    return getattr(_current, "plan", None)


_numbers = itertools.count(1)
_plans: weakref.WeakValueDictionary[int, _Plan] = weakref.WeakValueDictionary()


class _Plan:
    """What both plans are made of: how the numbers of a batch of transforms lie, and what is done with them."""

    handle: int
    fft_type: int
    work_area: Any
    gpus: list[int] | None = None

    def _make(
        self,
        shape: tuple[int, ...],
        embedded: tuple[Any, Any],
        strides: tuple[int, int],
        distances: tuple[int, int],
        fft_type: int,
        batch: int,
    ) -> None:
        import cupy

        if fft_type not in _TYPES:
            raise CuFFTError(_INVALID_TYPE)
        if not 1 <= len(shape) <= 3 or batch < 0 or min(shape) < 1:
            raise CuFFTError(_INVALID_SIZE)
        self.fft_type, self._transformed, self._batch = fft_type, shape, batch
        self._embedded = None
        if embedded[0] is not None and embedded[1] is not None:
            pairs = zip(embedded, self._sides(), strict=True)
            self._embedded = tuple(tuple(int(size) for size in sizes) for sizes, _ in pairs)
            for sizes, side in zip(self._embedded, self._sides(), strict=True):
                # The first of the sizes that numbers are embedded in is not looked at.
                if len(sizes) != len(shape) or any(a < b for a, b in zip(sizes[1:], side[1:], strict=True)):
                    raise CuFFTError(_INVALID_SIZE)
            if min(strides) < 1 or (batch > 1 and min(distances) < 0):
                raise CuFFTError(_INVALID_VALUE)
        self._strides, self._distances = strides, distances
        number = np.dtype(_TYPES[fft_type][0].upper())
        self.work_area = cupy.cuda.alloc(batch * math.prod(shape) * number.itemsize)
        self.handle = next(_numbers)
        _plans[self.handle] = self

    def _sides(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The shapes of the input and the output of one transform."""
        half = (*self._transformed[:-1], self._transformed[-1] // 2 + 1)
        if self.fft_type in _REAL_TO_COMPLEX:
            return self._transformed, half
        return (half, self._transformed) if self.fft_type in _COMPLEX_TO_REAL else (self._transformed,) * 2

    def _view(self, pointer: int, side: int, in_place: bool) -> np.ndarray:
        """The numbers at ``pointer``, the batch in front."""
        shape, dtype = self._sides()[side], np.dtype(_TYPES[self.fft_type][side])
        if self._embedded is not None:
            sizes, step, distance = self._embedded[side], self._strides[side], self._distances[side]
        else:
            # Numbers lie together; real ones in the place of complex ones have room for those in each row.
            last = shape[-1]
            if in_place and dtype.kind == "f":
                last = 2 * (self._transformed[-1] // 2 + 1)
            sizes, step = (*shape[:-1], last), 1
            distance = math.prod(sizes)
        steps = [step]
        for size in reversed(sizes[1:]):
            steps.append(steps[-1] * size)
        items = (distance, *reversed(steps))
        strides = tuple(item * dtype.itemsize for item in items)
        return host.array(pointer, (self._batch, *shape), dtype, strides, write=side == 1)

    def _execute(self, source: int, target: int, direction: int) -> None:
        if direction not in (CUFFT_FORWARD, CUFFT_INVERSE):
            raise CuFFTError(_INVALID_VALUE)
        if not self._batch:
            return

        def transform() -> None:
            a = self._view(source, 0, source == target)
            out = self._view(target, 1, source == target)
            axes = tuple(range(1, a.ndim))
            if self.fft_type in _REAL_TO_COMPLEX:
                out[...] = np.fft.rfftn(a, axes=axes)
            elif self.fft_type in _COMPLEX_TO_REAL:
                out[...] = np.fft.irfftn(a, self._transformed, axes=axes, norm="forward")
            elif direction == CUFFT_FORWARD:
                out[...] = np.fft.fftn(a, axes=axes)
            else:
                out[...] = np.fft.ifftn(a, axes=axes, norm="forward")

        host.enqueue(transform)

    def fft(self, a: Any, out: Any, direction: int) -> None:
        """Transform ``a`` into ``out``."""
        self._execute(a.data.ptr, out.data.ptr, direction)

    def __enter__(self) -> _Plan:
        _current.plan = self
        return self

    def __exit__(self, *raised: object) -> None:
        _current.plan = None


def _shaped(shape: Any, fft_type: int, axis: int, size: int | None) -> tuple[tuple[int, ...], np.dtype]:
    shape = list(shape)
    if size is not None:
        shape[axis] = size
    return tuple(shape), np.dtype(_TYPES[fft_type][1])


class Plan1d(_Plan):
    """A batch of transforms of one dimension, whose numbers lie together."""

    def __init__(
        self, nx: int, fft_type: int, batch: int, *, devices: Any = None, out: Any = None, prealloc_plan: int = 0
    ) -> None:
        if devices is not None:
            raise NotImplementedError("cuFFT: plans over several devices are not served by the emulated device")
        if prealloc_plan:
            raise NotImplementedError("cuFFT: plans with callbacks are not served by the emulated device")
        self.nx, self.batch = int(nx), int(batch)
        self._make((self.nx,), (None, None), (1, 1), (self.nx, self.nx), int(fft_type), self.batch)

    def _output_dtype_and_shape(self, a: Any) -> tuple[tuple[int, ...], np.dtype]:
        size = None
        if self.fft_type in _REAL_TO_COMPLEX:
            size = a.shape[-1] // 2 + 1
        elif self.fft_type in _COMPLEX_TO_REAL:
            size = self.nx
        return _shaped(a.shape, self.fft_type, -1, size)

    def get_output_array(self, a: Any) -> Any:
        """An array for the transform of ``a``."""
        import cupy

        return cupy.empty(*self._output_dtype_and_shape(a))

    def check_output_array(self, a: Any, out: Any) -> None:
        """Raise ValueError unless the transform of ``a`` fits ``out``."""
        shape, dtype = self._output_dtype_and_shape(a)
        if out.shape != shape:
            raise ValueError(f"out must have shape {shape}.")
        if out.dtype != dtype:
            raise ValueError(f"out dtype mismatch: found {out.dtype}, expected {dtype}")


class PlanNd(_Plan):
    """A batch of transforms of up to three dimensions, whose numbers lie as the plan says."""

    def __init__(
        self,
        shape: Any,
        inembed: Any,
        istride: int,
        idist: int,
        onembed: Any,
        ostride: int,
        odist: int,
        fft_type: int,
        batch: int,
        order: str,
        last_axis: int,
        last_size: int | None,
        *,
        prealloc_plan: int = 0,
    ) -> None:
        if prealloc_plan:
            raise NotImplementedError("cuFFT: plans with callbacks are not served by the emulated device")
        self.shape, self.order = tuple(int(size) for size in shape), order
        self.last_axis, self.last_size = last_axis, last_size
        strides, distances = (int(istride), int(ostride)), (int(idist), int(odist))
        self._make(self.shape, (inembed, onembed), strides, distances, int(fft_type), int(batch))

    def _output_dtype_and_shape(self, a: Any) -> tuple[tuple[int, ...], np.dtype]:
        size = None if self.fft_type in (CUFFT_C2C, CUFFT_Z2Z) else self.last_size
        return _shaped(a.shape, self.fft_type, self.last_axis, size)

    def get_output_array(self, a: Any, order: str = "C") -> Any:
        """An array for the transform of ``a``."""
        import cupy

        return cupy.empty(*self._output_dtype_and_shape(a), order=order)

    def check_output_array(self, a: Any, out: Any) -> None:
        """Raise ValueError unless the transform of ``a`` fits ``out``."""
        if out is a:
            return
        shape, dtype = self._output_dtype_and_shape(a)
        if out.shape != shape:
            raise ValueError(f"output shape mismatch: found {out.shape}, expected {shape}")
        if out.dtype != dtype:
            raise ValueError(f"output dtype mismatch: found {out.dtype}, expected {dtype}")
        flags = (array.flags for array in (a, out))
        if len({(flag.c_contiguous, flag.f_contiguous) for flag in flags}) > 1:
            raise ValueError("output contiguity mismatch")


class XtPlanNd:
    """Not served: transforms in half precision, and those of more than 2**31 numbers."""

    def __init__(self, *arguments: object, **settings: object) -> None:
        raise NotImplementedError("cuFFT: XtPlanNd is not served by the emulated device")


def _exec(plan: int, source: int, target: int, direction: int, fft_type: int) -> None:
    found = _plans.get(plan)
    if found is None:
        raise CuFFTError(_INVALID_PLAN)
    if found.fft_type != fft_type:
        raise CuFFTError(_INVALID_TYPE)
    found._execute(source, target, direction)


def execC2C(plan: int, idata: int, odata: int, direction: int) -> None:
    """Transform complex numbers."""
    _exec(plan, idata, odata, direction, CUFFT_C2C)


def execZ2Z(plan: int, idata: int, odata: int, direction: int) -> None:
    """Transform complex numbers in double precision."""
    _exec(plan, idata, odata, direction, CUFFT_Z2Z)


def execR2C(plan: int, idata: int, odata: int) -> None:
    """Transform real numbers."""
    _exec(plan, idata, odata, CUFFT_FORWARD, CUFFT_R2C)


def execD2Z(plan: int, idata: int, odata: int) -> None:
    """Transform real numbers in double precision."""
    _exec(plan, idata, odata, CUFFT_FORWARD, CUFFT_D2Z)


def execC2R(plan: int, idata: int, odata: int) -> None:
    """Transform the half of complex numbers that real ones have."""
    _exec(plan, idata, odata, CUFFT_INVERSE, CUFFT_C2R)


def execZ2D(plan: int, idata: int, odata: int) -> None:
    """Transform the half of complex numbers that real ones have, in double precision."""
    _exec(plan, idata, odata, CUFFT_INVERSE, CUFFT_Z2D)


_NOT_SERVED = (
    "create",
    "setAutoAllocation",
    "setCallback",
    "setJITCallback",
    "XtExec",
    "multi_gpu_execC2C",
    "multi_gpu_execZ2Z",
)

for _name in _NOT_SERVED:
    globals()[_name] = host.refusing("cuFFT", _name)

"""The ``xp`` shim: one code for NumPy and CuPy arrays, devices, dtypes and random numbers.

CuPy is imported only when a GPU is asked for, or when the caller already works with CuPy arrays.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import pickle
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, NoReturn, TypeAlias

import numpy as np

from gpunn.context import Setting, context
from gpunn.errors import (
    ArgumentError,
    DeviceError,
    DtypeError,
    ExportError,
    GpunnError,
    PackageError,
    ShapeError,
    check,
    fail,
    install_command,
)

Array: TypeAlias = Any
"""A ``numpy.ndarray`` or a ``cupy.ndarray``; static types cannot tell them apart without importing CuPy."""

_FLOATING = (np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64))
_NATIVE = frozenset(_FLOATING)  # a dtype of another byte order is not in it


# ---- modules -------------------------------------------------------------------------------------------------------


def _is_cupy(x: object) -> bool:
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(x, cupy.ndarray)


def is_array(x: object) -> bool:
    """True for a NumPy or a CuPy array (NumPy scalars are not arrays)."""
    return isinstance(x, np.ndarray) or _is_cupy(x)


def get_array_module(*arrays: object) -> Any:
    """Return ``cupy`` if the arrays are CuPy's, else ``numpy``; other values among them are ignored.

    >>> get_array_module(np.zeros(3), 2.0).__name__
    'numpy'

    Raises DeviceError when NumPy and CuPy arrays are mixed: nothing is ever copied between devices unasked.
    """
    cupy = sys.modules.get("cupy")
    if cupy is None:
        return np
    found = None
    for a in arrays:
        kind = np if isinstance(a, np.ndarray) else cupy if isinstance(a, cupy.ndarray) else None
        if found is None:
            found = kind
        elif kind is not None and kind is not found:
            kinds = ["CuPy" if _is_cupy(each) else "NumPy" for each in arrays if is_array(each)]
            fail(DeviceError, "get_array_module", "arrays must be on one device; use to_gpu or to_cpu", arrays=kinds)
    return found or np


def plain(x: Any) -> Any:
    """``x``; an ndarray's subclass as the ndarray that it is, and another byte order in this machine's.

    Subclasses give operators other meanings (a matrix), and kernels read the bytes as they lie.

    >>> plain(np.array([1, 2], ">f4")).dtype
    dtype('float32')

    Raises DtypeError for a masked array: some of its elements have no value.
    """
    if not isinstance(x, np.ndarray) or (type(x) is np.ndarray and x.dtype.isnative):
        return x
    check_not_masked(x)
    x = np.asarray(x)
    return x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))


def check_not_masked(x: Any) -> None:
    """Check that ``x`` is no masked array."""
    if isinstance(x, np.ma.MaskedArray):
        fail(DtypeError, "array", "a masked array must be filled first: x.filled(value)", shape=x.shape)


def _holds_numbers(dtype: np.dtype[Any]) -> bool:
    return dtype.kind not in "OSUmM" and dtype.type is not np.void  # objects, texts, times; records and bare bytes


def check_holds_array(op: str, name: str, x: Any) -> None:
    """Check that ``x``, of a saved state, has a shape and a dtype of NumPy's, as arrays of any library may.

    >>> check_holds_array("load_state_dict", "weight", [1.0])
    Traceback (most recent call last):
    gpunn.errors.DtypeError: load_state_dict: weight must be an array, got type='list'
    """
    if not isinstance(getattr(x, "dtype", None), np.dtype) or not isinstance(getattr(x, "shape", None), tuple):
        fail_on_type(DtypeError, op, f"{name} must be an array", x)


def check_array(op: str, /, **named: Any) -> None:
    """Check that each of the named values is a NumPy or CuPy array of numbers.

    >>> check_array("abs", x=[1.0, 2.0])
    Traceback (most recent call last):
    gpunn.errors.DtypeError: abs: x must be a NumPy or CuPy array, got type='list'
    """
    for name, x in named.items():
        if type(x) is np.ndarray and x.dtype in _NATIVE:
            continue
        if not is_array(x):
            fail_on_type(DtypeError, op, f"{name} must be a NumPy or CuPy array", x)
        if not _holds_numbers(x.dtype):
            fail(DtypeError, op, f"{name} must hold numbers", dtype=str(x.dtype))
        if type(x) is not np.ndarray and isinstance(x, np.matrix | np.ma.MaskedArray):
            fail(DtypeError, op, f"{name} must be a plain array", type=type(x).__name__)
        if not x.dtype.isnative:
            rule = f"{name} must have this machine's byte order: {name}.astype({x.dtype.name!r})"
            fail(DtypeError, op, rule, dtype=x.dtype.str)


def fail_on_type(kind: type[GpunnError], op: str, rule: str, x: object) -> NoReturn:
    """Raise ``kind`` for the type of ``x``; for an array of another library with the way to take it.

    >>> fail_on_type(DtypeError, "abs", "x must be an array", "1.0")
    Traceback (most recent call last):
    gpunn.errors.DtypeError: abs: x must be an array, got type='str'
    """
    library, name = type(x).__module__.partition(".")[0], type(x).__name__
    if not hasattr(x, "__dlpack__") or library == "gpunn":
        fail(kind, op, rule, type=name)
    fail(kind, op, f"{rule}; gpunn.from_dlpack takes those of other libraries", type=f"{library}.{name}")


def operands(op: str, optional: Mapping[str, Array | None] | None = None, /, **arrays: Array) -> Any:
    """Check that the named arrays can be computed with together, and return their array module.

    They must be arrays of one module and of one floating dtype; in ``optional`` None stands for one left out.

    >>> operands("linear", x=np.ones((2, 3), np.float32), w=np.ones((4, 3), np.float32)).__name__
    'numpy'
    >>> operands("linear", x=np.ones((2, 3), np.int64))
    Traceback (most recent call last):
    gpunn.errors.DtypeError: linear: x must be a floating array, got dtype='int64'
    """
    if optional is not None:
        arrays |= {name: a for name, a in optional.items() if a is not None}
    kind = dtype = None
    for a in arrays.values():
        if type(a) is not kind:
            if kind is not None or not (type(a) is np.ndarray or _is_cupy(a)):
                break
            kind, dtype = type(a), a.dtype
        elif a.dtype is not dtype:
            break
    else:
        if dtype in _NATIVE:  # of arrays of one kind, and one of NumPy's own floats, nothing is refused
            return np if kind is np.ndarray else sys.modules["cupy"]
    check_array(op, **arrays)
    for name, a in arrays.items():
        if not is_floating(a.dtype):
            fail(DtypeError, op, f"{name} must be a floating array", dtype=str(a.dtype))
    modules = {name: "CuPy" if _is_cupy(a) else "NumPy" for name, a in arrays.items()}
    check(len(set(modules.values())) < 2, DeviceError, op, "arrays must all be NumPy's or all be CuPy's", **modules)
    if len({a.dtype for a in arrays.values()}) > 1:
        dtypes = {name: str(a.dtype) for name, a in arrays.items()}
        fail(DtypeError, op, "arrays must have one dtype", **dtypes)
    return np if "NumPy" in modules.values() else sys.modules["cupy"]


# ---- dtypes --------------------------------------------------------------------------------------------------------


@lru_cache(64)
def dtype_name(dtype: np.dtype[Any]) -> str:
    """``dtype.name``, for which NumPy takes longer than for a small sum.

    >>> dtype_name(np.dtype(np.float32))
    'float32'
    """
    return dtype.name


def is_floating(dtype: Any) -> bool:
    """True for the dtypes in which networks compute: float16, float32, float64, and bfloat16 of ``ml_dtypes``.

    >>> is_floating(np.dtype(np.float32)), is_floating(np.dtype(np.int32))
    (True, False)
    """
    # NumPy counts bfloat16 among the kinds that it does not know, "V".
    return dtype in _FLOATING or (dtype.kind == "V" and dtype_name(dtype) == "bfloat16")


_HALF_TYPES = ("bf16", "fp16")


def half_dtype(op: str, name: str) -> np.dtype[Any]:
    """The dtype that ``"bf16"`` or ``"fp16"`` names: bfloat16 (8 bits of exponent, 7 of mantissa) or float16 (5, 10).

    >>> half_dtype("half_dtype", "fp16")
    dtype('float16')

    Raises ArgumentError for another name, PackageError for ``"bf16"`` without the package ``ml_dtypes``.
    """
    rule = f"the half type must be one of {', '.join(_HALF_TYPES)}"
    check(name in _HALF_TYPES, ArgumentError, op, rule, name=name)
    if name == "fp16":
        return np.dtype(np.float16)
    try:
        from ml_dtypes import bfloat16
    except ImportError as error:
        raise PackageError(f"{op}: bf16 needs ml_dtypes ({error}): {install_command('train')}") from error
    dtype: np.dtype[Any] = np.dtype(bfloat16)
    return dtype


def dtype_of(op: str, dtype: Any) -> np.dtype[Any]:
    """``dtype`` as one of NumPy's, of numbers.

    >>> dtype_of("astype", "float32")
    dtype('float32')

    Raises DtypeError for what is none, or holds no numbers.
    """
    rule = "a dtype must be one of NumPy's, of numbers"
    try:
        found: np.dtype[Any] = np.dtype(dtype)
    except (TypeError, ValueError):
        fail(DtypeError, op, rule, dtype=dtype)
    check(_holds_numbers(found), DtypeError, op, rule, dtype=dtype)
    return found


@contextmanager
def _on_cupy(op: str, dtype: Any) -> Iterator[None]:
    """A context that says so where CuPy turns out not to take ``dtype``: not every one of them has bfloat16."""
    try:
        yield
    except (TypeError, ValueError) as error:
        rule = f"this CuPy does not take the dtype ({error}); compute in float16 or float32"
        raise DtypeError(f"{op}: {rule}, got dtype={str(np.dtype(dtype))!r}") from error


def cast(x: Array, dtype: Any, copy: bool = False) -> Array:
    """``x.astype(dtype)``; raises DtypeError, which says so, if this CuPy does not take the dtype."""
    if not _is_cupy(x):
        return x.astype(dtype, copy=copy)
    with x.device, _on_cupy("cast", dtype):  # CuPy computes on the current device
        return x.astype(dtype, copy=copy)


def where(condition: Array, a: Any, b: Any) -> Array:
    """``xp.where``, which keeps the dtype of ``a`` and ``b``, arrays of one or a number: CuPy's widens bfloat16.

    >>> where(np.array([True, False]), np.float32([1, 2]), 0)
    array([1., 0.], dtype=float32)
    """
    xp = get_array_module(condition)
    y = xp.asarray(xp.where(condition, a, b))
    return y if xp is np else cast(y, (a if is_array(a) else b).dtype)


def accumulation_dtype(dtype: Any) -> np.dtype[Any]:
    """The dtype in which sums over arrays of ``dtype`` are formed: float32 for float16 and bfloat16, else itself.

    >>> accumulation_dtype(np.float16)
    dtype('float32')
    """
    return _accumulated(dtype)


@lru_cache(32)
def _accumulated(dtype: Any) -> np.dtype[Any]:
    return np.promote_types(dtype, np.float32)


_matmul_precision: Setting[str] = Setting("matmul_precision", "fp32")
_MATMUL_PRECISIONS = ("fp32", "tf32", "bf16", "fp16")


@context
def matmul_precision(name: str) -> Iterator[None]:
    """Within this context products of float32 arrays on a GPU may round their operands, for speed, to ``name``.

    ``"fp32"`` is the default: no rounding. ``"tf32"`` keeps 10 bits of mantissa and float32's range, ``"bf16"`` 7 bits
    and that range, ``"fp16"`` 10 bits and a range up to 65504. Sums stay float32. Convolutions follow it; what has
    no such kernel computes in float32. A backward pass follows the precision where it runs.

    >>> with matmul_precision("tf32"):
    ...     chosen_matmul_precision()
    'tf32'

    Raises ArgumentError for a name that is none of them.
    """
    rule = f"the precision must be one of {', '.join(_MATMUL_PRECISIONS)}"
    check(name in _MATMUL_PRECISIONS, ArgumentError, "matmul_precision", rule, name=name)
    with _matmul_precision.using(name):
        yield


def chosen_matmul_precision() -> str:
    """The precision of the innermost :func:`matmul_precision`, or ``"fp32"``."""
    return _matmul_precision.get()


# ---- devices -------------------------------------------------------------------------------------------------------

_DEVICE = re.compile(r"cpu|(?:gpu|cuda)(?::(\d+))?")


def _cupy_or_reason() -> tuple[Any, str]:
    """CuPy and "" if it can reach a GPU; None and what is wrong, with the command that mends it, if it cannot."""
    if importlib.util.find_spec("cupy") is None:
        return None, f"CuPy is not installed: {install_command('cuda13')}, or cuda12 for a driver of CUDA 12"
    try:
        import cupy
    except ImportError as error:
        return None, f"CuPy does not import ({error}): {install_command('cuda13', '--force-reinstall')}"
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        if "NoDevice" in str(error):
            return None, _no_device_visible()
        return None, (
            f"NVIDIA's driver is missing or too old ({error}): "
            "install the package nvidia-driver of your system, then check with nvidia-smi"
        )
    return (cupy, "") if count else (None, _no_device_visible())


def _no_device_visible() -> str:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return "no CUDA device is visible: check with nvidia-smi -L"
    return f"no CUDA device is visible with CUDA_VISIBLE_DEVICES={visible!r}: unset CUDA_VISIBLE_DEVICES"


def gpu_count() -> int:
    """The number of GPUs that CuPy can reach; 0 without CuPy."""
    cupy, _ = _cupy_or_reason()
    return int(cupy.cuda.runtime.getDeviceCount()) if cupy else 0


def why_no_gpu() -> str:
    """Why no GPU can be used, and the command that mends it; an empty string where one can."""
    return _cupy_or_reason()[1]


def _parse(device: str) -> int | None:
    """The index of a GPU, or None for the CPU."""
    match = _DEVICE.fullmatch(device) if isinstance(device, str) else None
    if match is None:
        fail(ArgumentError, "device", 'a device is "cpu", "gpu" or "gpu:N"', device=device)
    return None if device == "cpu" else int(match[1] or 0)


def is_device(name: str) -> bool:
    """Whether ``name`` is that of a device, which may be missing.

    >>> is_device("cuda:1"), is_device("float32")
    (True, False)
    """
    return _DEVICE.fullmatch(name) is not None


def check_device(device: str) -> str:
    """Return ``device`` in its full form (``"gpu"`` becomes ``"gpu:0"``) if it can be used here.

    ``"cuda"``, PyTorch's name, is ``"gpu"``, and ``"cuda:1"`` is ``"gpu:1"``.

    >>> check_device("cpu")
    'cpu'

    Raises ArgumentError for a name that is none, DeviceError for a GPU that cannot be reached.
    """
    index = _parse(device)
    if index is None:
        return "cpu"
    cupy, reason = _cupy_or_reason()
    if cupy is None:
        raise DeviceError(f"device {device!r}: {reason}")
    count = cupy.cuda.runtime.getDeviceCount()
    check(index < count, DeviceError, "device", f"there are {count} GPUs, counted from 0", device=device)
    return f"gpu:{index}"


def default_device() -> str:
    """The device for new arrays: the environment variable ``GPUNN_DEVICE``, or ``"cpu"``."""
    return check_device(os.environ.get("GPUNN_DEVICE") or "cpu")


def device_of(x: Array) -> str:
    """``"cpu"`` or ``"gpu:N"``.

    >>> device_of(np.zeros(2))
    'cpu'
    """
    return f"gpu:{x.device.id}" if _is_cupy(x) else "cpu"


def to_cpu(x: Array) -> np.ndarray[Any, Any]:
    """``x`` as a NumPy array; a NumPy array is returned as it is."""
    return sys.modules["cupy"].asnumpy(x) if _is_cupy(x) else np.asarray(x)


def to_gpu(x: Array, device: str = "gpu") -> Array:
    """``x`` as a CuPy array on ``device``; an array that is there already is returned as it is.

    From another GPU it is copied in turn with the work of the current stream of each.
    """
    index = _parse(check_device(device))
    check(index is not None, ArgumentError, "to_gpu", "device must be a GPU", device=device)
    cupy = sys.modules["cupy"]
    with cupy.cuda.Device(index), _on_cupy("to_gpu", x.dtype):
        return _from_other_gpu(cupy, x) if _is_cupy(x) and x.device.id != index else cupy.asarray(x)


def _from_other_gpu(cupy: Any, x: Array) -> Array:
    """A copy on the current device: in turn with the work of that device's current stream, and of that of ``x``."""
    stream = cupy.cuda.get_current_stream()
    with x.device:
        if not (x.flags.c_contiguous or x.flags.f_contiguous):
            x = x.copy()  # CuPy copies no other arrays between devices
        home = cupy.cuda.get_current_stream()
        stream.wait_event(home.record())
    y = x.copy("A")
    home.wait_event(stream.record())  # the memory of x may be given to others there
    return y


def use_device(device: str) -> AbstractContextManager[Any]:
    """A context in which ``device`` is the current one: where CuPy puts new arrays, and where kernels run.

    >>> with use_device("cpu"):
    ...     pass
    """
    index = _parse(check_device(device))
    return nullcontext() if index is None else sys.modules["cupy"].cuda.Device(index)


_HERE = nullcontext()


def device_context(x: Array) -> AbstractContextManager[Any]:
    """A context in which the device of ``x`` is the current one.

    >>> with device_context(np.zeros(2)):
    ...     pass
    """
    return _HERE if type(x) is np.ndarray or not _is_cupy(x) else x.device


def asarray(x: Any, device: str | None = None, dtype: Any = None) -> Array:
    """``x`` (array, list, number) as an array on ``device``.

    Without ``device`` an array stays where it is, anything else goes to the default device. Python floats
    become float32; arrays keep their dtype unless ``dtype`` says otherwise.

    >>> asarray([1.0, 2.0]).dtype, asarray([1, 2]).dtype, asarray(np.ones(2)).dtype
    (dtype('float32'), dtype('int64'), dtype('float64'))

    Raises DtypeError for what holds no numbers, ShapeError for nested lists of different lengths.
    """
    x = plain(x)
    if not is_array(x) and _lies_on_gpu(x):
        x = from_dlpack(x)
    if not is_array(x):
        bare = not isinstance(x, np.generic) and not hasattr(x, "__dlpack__")
        try:
            given, x = x, np.asarray(x)
        except ValueError as error:
            fail(ShapeError, "asarray", "lists within a list must have one length", error=str(error))
        except (TypeError, RuntimeError) as error:  # PyTorch's for tensors that have a graph, or no dtype of NumPy's
            fail(DtypeError, "asarray", "data must be what NumPy takes", type=type(x).__name__, error=str(error))
        if bare and dtype is None and x.dtype == np.float64:
            dtype = np.float32
        device = device or default_device()
        if not _holds_numbers(x.dtype):
            fail(DtypeError, "asarray", "data must be numbers", data=given)
    elif not _holds_numbers(x.dtype):
        fail(DtypeError, "asarray", "data must be numbers", dtype=str(x.dtype))
    if device is not None:
        x = to_cpu(x) if check_device(device) == "cpu" else to_gpu(x, device)
    return x if dtype is None else cast(x, dtype_of("asarray", dtype).newbyteorder("="))


_ON_CPU, _ON_GPU = (1, 3), (2, 13)
"""DLPack's device types: memory of the CPU, ordinary or pinned; of a GPU, its own or managed."""


def _lies_on_gpu(x: Any) -> bool:
    return hasattr(x, "__dlpack_device__") and _dlpack_device("asarray", x)[0] in _ON_GPU


def _dlpack_device(op: str, x: Any) -> tuple[int, int]:
    try:
        kind, index = x.__dlpack_device__()
    except (BufferError, RuntimeError, TypeError, ValueError) as error:  # PyTorch's of a device without memory
        raise DeviceError(f"{op}: the device of {type(x).__name__} is not known: {error}") from error
    return kind, index


def from_dlpack(x: Any) -> Array:
    """The array of another library as NumPy's or CuPy's, in the same memory, by the protocol DLPack.

    CuPy's current stream waits for what that library has under way. Arrays that are read-only there are so here.

    >>> x = np.arange(3.0)
    >>> bool(np.shares_memory(from_dlpack(x), x))
    True

    Raises DtypeError for what has no ``__dlpack__``, ExportError where the library refuses, as PyTorch does for tensors
    that require a gradient, DeviceError for memory of other devices, or of a GPU without CuPy. Source:
    https://data-apis.org/array-api/latest/design_topics/data_interchange.html
    """
    op = "from_dlpack"
    taken = hasattr(x, "__dlpack__") and hasattr(x, "__dlpack_device__")
    check(taken, DtypeError, op, "x must have __dlpack__ and __dlpack_device__", type=type(x).__name__)
    check_not_masked(x)
    kind, index = _dlpack_device(op, x)
    known = kind in _ON_CPU or kind in _ON_GPU
    check(known, DeviceError, op, "x must lie in the memory of the CPU or of a CUDA device", device=(int(kind), index))
    library: Any = np
    if kind in _ON_GPU:
        library, reason = _cupy_or_reason()
        check(library is not None, DeviceError, op, f"x lies on a GPU: {reason}")
    try:
        array = library.from_dlpack(x)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, ExportError):
            raise
        raise ExportError(f"{op}: {type(x).__name__} cannot be taken as it is: {error}") from error
    if not _holds_numbers(array.dtype):
        fail(DtypeError, op, "x must hold numbers", dtype=str(array.dtype))
    return array


# ---- random numbers ------------------------------------------------------------------------------------------------


def random_generator(seed: int) -> np.random.Generator:
    """A generator over Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).

    Philox is counter-based, so a CUDA thread can compute its own numbers of the same stream.

    >>> float(random_generator(0).random()) == float(random_generator(0).random())
    True
    """
    valid = isinstance(seed, (int, np.integer)) and seed >= 0
    check(valid, ArgumentError, "random_generator", "seed must be an integer of at least 0", seed=seed)
    return np.random.Generator(np.random.Philox(int(seed)))


_default_generator: np.random.Generator | None = None
_used_generator: Setting[list[np.random.Generator]] = Setting("used_generator", [])
"""One, in a list that a forked child changes for all who see it; none outside of :func:`use_generator`."""


@context
def use_generator(generator: np.random.Generator) -> Iterator[None]:
    """Within this context ``generator`` is the default one, whatever :func:`manual_seed` says; in this thread alone.

    >>> with use_generator(random_generator(0)):
    ...     first = default_generator().random()
    >>> first == random_generator(0).random()
    True
    """
    with _used_generator.using([generator]):
        yield


def default_generator() -> np.random.Generator:
    """The generator used where none is passed: of :func:`use_generator`, or seeded by :func:`manual_seed`, or new.

    A forked child has another, which neither its parent nor another child has: its stream depends on where the
    parent's generator was, and on which fork of the parent it was.
    """
    global _default_generator
    for used in _used_generator.get():
        return used
    if _default_generator is None:
        _default_generator = np.random.Generator(np.random.Philox())
    return _default_generator


def generator_or_default(generator: np.random.Generator | None) -> np.random.Generator:
    """``generator``, or the default one for None.

    >>> generator_or_default(None) is default_generator()
    True

    Raises DtypeError for anything else, as a seed: 0 would otherwise count as none given.
    """
    if generator is None:
        return default_generator()
    rule = "a generator is a numpy.random.Generator, as random_generator(seed) gives"
    given = isinstance(generator, np.random.Generator)
    check(given, DtypeError, "generator", rule, type=type(generator).__name__)
    return generator


def manual_seed(seed: int) -> None:
    """Seed the default generator.

    >>> manual_seed(7)
    >>> first = default_generator().random()
    >>> manual_seed(7)
    >>> first == default_generator().random()
    True
    """
    global _default_generator
    _default_generator = random_generator(seed)


_forks = itertools.count(1)
_fork: ContextVar[int] = ContextVar("fork", default=0)


def _count_fork() -> None:
    _fork.set(next(_forks))  # of this thread: another may fork at the same time


def _draw_apart() -> None:
    """Give this forked child numbers of its own."""
    global _default_generator
    if _default_generator is not None:
        _default_generator = _forked(_default_generator)
    used = _used_generator.get()
    used[:] = map(_forked, used)


def _forked(generator: np.random.Generator) -> np.random.Generator:
    # From its state, not by a draw: a thread that is not in the child may have held its lock.
    state = pickle.dumps((_fork.get(), generator.bit_generator.state))
    return random_generator(int.from_bytes(state, "little"))


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(before=_count_fork, after_in_child=_draw_apart)

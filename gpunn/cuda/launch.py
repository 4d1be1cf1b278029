"""Launch the library's kernels: on CuPy arrays through CUDA, on NumPy arrays through the emulator."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gpunn.backend import Array, device_of, dtype_name, get_array_module, is_array
from gpunn.context import Setting, context
from gpunn.cuda import capture, source
from gpunn.cuda.source import MacroValue
from gpunn.errors import ArgumentError, DeviceError, LaunchError, check, fail
from gpunn.observer import observers

if TYPE_CHECKING:
    from gpunn.cuda.emulator import Count
    from gpunn.cuda.emulator.mode import Check

C_TYPES = {"float32": "float", "float64": "double"}
"""The dtypes that every kernel takes, with their names in CUDA C++."""

HALF_TYPES = {"float16": "float16_bits", "bfloat16": "bfloat16_bits"}
"""The dtypes that some kernels take, with their names in kernels/element.cuh."""


@dataclass(frozen=True)
class Emulation:
    check: Check
    order: str | int
    arch: str


_emulation: Setting[Emulation | None] = Setting("emulation", None)


@context
def emulate(check: Check = False, order: str | int = "forward", arch: str = "sm_90a") -> Iterator[None]:
    """Within this context NumPy arrays go through the CUDA kernels, run by the emulator on the CPU.

    ``check=True`` watches every memory access (see :mod:`gpunn.cuda.emulator`), ``"nan"`` and ``"infinity"`` also what
    operations on floats make; ``order`` is ``"forward"``, ``"reverse"``, or a seed that shuffles the order of threads
    and blocks. ``arch`` is the architecture that kernels are compiled for; those that use tensor maps and ``wgmma`` run
    on ``"sm_90a"`` alone.

    Raises ArgumentError for an architecture that is written otherwise.

    >>> import gpunn, gpunn.functional as F
    >>> x = np.float32([[[[1, 2], [3, 4]]]])
    >>> with gpunn.cuda.emulate():
    ...     F.max_pool2d(x, 2)
    array([[[[4.]]]], dtype=float32)
    """
    if not re.fullmatch(r"sm_\d+[af]?", arch):
        fail(ArgumentError, "emulate", "arch must be written like sm_90", arch=arch)
    with _emulation.using(Emulation(check, order, arch)):
        yield


@context
def count(card: str = "H200") -> Iterator[Count]:
    """Within it the emulator's kernels are counted: see :func:`gpunn.cuda.emulator.count`.

    >>> import gpunn, gpunn.functional as F
    >>> x = np.zeros((1, 1, 4, 4), np.float32)
    >>> with gpunn.cuda.emulate(), gpunn.cuda.count() as c:
    ...     y = F.max_pool2d(x, 2)
    >>> c.kernels[0].written_bytes
    64
    """
    from gpunn.cuda import emulator

    with emulator.count(card) as counted:
        yield counted


Specialisation = tuple[str, tuple[str, ...]]
"""A kernel file and the options that define its macros: what is compiled at a time."""

_recorded: Setting[set[Specialisation] | None] = Setting("recorded", None)


@context
def record_launches() -> Iterator[set[Specialisation]]:
    """Within this context NumPy arrays go to the kernels, which do not run: the set that it gives holds the
    specialisations that were launched. What a kernel should have written keeps whatever bytes it held: where more is
    computed from it, ``np.errstate(all="ignore")`` belongs beside this context.

    >>> import gpunn.functional as F
    >>> with record_launches() as launched:
    ...     y = F.avg_pool2d(np.ones((1, 1, 4, 4), np.float32), 2)
    >>> [file for file, _ in launched]
    ['pool.cu']
    """
    launched: set[Specialisation] = set()
    with _recorded.using(launched):
        yield launched


def takes(x: Array, half: bool = False) -> bool:
    """True if ``x`` goes to the kernels: a CuPy array or a NumPy array under emulation, of a dtype that they take.

    ``half`` says that the kernel in question takes 16-bit elements too.
    """
    if get_array_module(x) is np and _emulation.get() is None and _recorded.get() is None:
        return False
    return dtype_name(x.dtype) in C_TYPES or (half and dtype_name(x.dtype) in HALF_TYPES)


def has_warpgroups(x: Array) -> bool:
    """True if kernels on ``x`` have tensor maps and ``wgmma``: on GPUs of compute capability 9.0.

    >>> with emulate():
    ...     has_warpgroups(np.ones(1))
    True
    """
    xp = get_array_module(x)
    if xp is not np:
        return bool(xp.cuda.Device().compute_capability == "90")
    emulation = _emulation.get()
    return emulation.arch == "sm_90a" if emulation else _recorded.get() is not None


def c_type(x: Array) -> str:
    """The CUDA C++ type of the elements of ``x``."""
    return (C_TYPES | HALF_TYPES)[dtype_name(x.dtype)]


# A grid rounds the work up to whole tiles, so an index may pass the last element by less than this.
_INDEX_MARGIN = 1 << 24


def index_type(*sizes: int) -> str:
    """The integer type that can index arrays of ``sizes`` elements; 64-bit arithmetic is slow on a GPU.

    >>> index_type(1000, 50_000_000), index_type(2**31)
    ('int', 'long long')
    """
    return "int" if max(sizes) < 2**31 - _INDEX_MARGIN else "long long"


def launch(
    file: str,
    kernel: str,
    macros: Mapping[str, MacroValue],
    grid: tuple[int, ...],
    block: tuple[int, ...],
    args: Sequence[Any],
    shared_bytes: int = 0,
) -> None:
    """Run ``kernel`` of ``kernels/<file>``, specialised by ``macros``, over ``grid`` blocks of ``block`` threads.

    ``args`` are contiguous arrays of one module, tensor maps of them (:mod:`gpunn.cuda.tensor_maps`) and NumPy scalars
    of the kernel's parameter types; ``shared_bytes`` the dynamic shared memory.
    """
    if capture.repeating():  # the host's part alone; the graph holds the launch
        return
    options = source.options(macros)
    arrays = [a for a in args if is_array(a)]
    xp = get_array_module(*arrays)
    if any(a.dtype.itemsize == 2 for a in arrays):  # CuPy and the emulator know no type of bfloat16: they see bits
        args = [a.view(np.uint16) if is_array(a) and dtype_name(a.dtype) in HALF_TYPES else a for a in args]
    for a in arrays:
        # A GPU stops the whole context at such an address.
        rule = "arrays must begin at a multiple of their element size"
        check(_aligned(a), LaunchError, kernel, rule, dtype=str(a.dtype), shape=a.shape)
    if xp is np and (recorded := _recorded.get()) is not None:
        recorded.add((file, options))
        return
    if xp is np:
        emulation = _emulation.get()
        assert emulation is not None, "a launch with NumPy arrays outside emulate()"
        function = _emulated(file, kernel, options, emulation, shared_bytes)
    else:
        current = xp.cuda.Device()
        elsewhere = sorted({device_of(a) for a in arrays} - {f"gpu:{current.id}"})
        rule = "arrays must be on the current device; compute inside `with gpunn.backend.use_device(...)`"
        check(not elsewhere, DeviceError, kernel, rule, arrays=elsewhere, current=f"gpu:{current.id}")
        arch = source.only_architecture(_code(file)) or f"sm_{current.compute_capability}"
        function = _compiled(file, kernel, options, arch, current.id, shared_bytes)
    for observer in observers.get():
        function = observer.around_launch(file, kernel, args, function)
    function(grid, block, tuple(args))


def _aligned(x: Array) -> bool:
    return bool(x.flags.aligned if isinstance(x, np.ndarray) else x.data.ptr % x.itemsize == 0)


@functools.cache
def _code(file: str) -> str:
    return source.flatten(file)


@functools.cache
def _emulated(
    file: str, kernel: str, options: tuple[str, ...], emulation: Emulation, shared_bytes: int
) -> Callable[..., None]:
    return _with_shared(_emulated_module(file, options, emulation).get_function(kernel), shared_bytes)


def _with_shared(function: Any, shared_bytes: int) -> Callable[..., None]:
    if not shared_bytes:
        return function  # type: ignore[no-any-return]
    function.max_dynamic_shared_size_bytes = shared_bytes
    return functools.partial(function, shared_mem=shared_bytes)


@functools.cache
def _emulated_module(file: str, options: tuple[str, ...], emulation: Emulation) -> Any:
    from gpunn.cuda.emulator import RawModule

    number = int("".join(filter(str.isdigit, emulation.arch))) * 10
    return RawModule(_code(file), options, filename=file, check=emulation.check, order=emulation.order, arch=number)


@functools.cache
def _compiled(
    file: str, kernel: str, options: tuple[str, ...], arch: str, device: int, shared_bytes: int
) -> Callable[..., None]:
    import cupy

    from gpunn.cuda.compiler import compile_cubin

    cubin = compile_cubin(_code(file), file, options, arch)
    module = cupy.RawModule(path=str(cubin.path))
    return _with_shared(module.get_function(kernel), shared_bytes)

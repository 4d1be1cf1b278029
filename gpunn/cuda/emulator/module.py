"""RawModule and RawKernel: CUDA kernels on NumPy arrays, with the calls of CuPy's classes of the same names."""

from __future__ import annotations

import ctypes
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import index
from typing import Any

import numpy as np

from gpunn.cuda.emulator import build, counting, sass
from gpunn.cuda.emulator.buffers import Buffers, RawBuffer
from gpunn.cuda.emulator.cards import card, card_of
from gpunn.cuda.emulator.mode import Check, Mode
from gpunn.cuda.emulator.report import CheckError, CheckWarning, RawReport, Report, readable
from gpunn.cuda.emulator.symbols import variables
from gpunn.cuda.emulator.tensor_maps import TENSOR_MAP_BYTES, TensorMap
from gpunn.cuda.emulator.texture import TABLE, Bound, SurfaceObject
from gpunn.errors import ArgumentError, CompileError, LaunchError, warn

_DEFAULT_DYNAMIC_SHARED_BYTES = 48 * 1024
_LARGEST_DYNAMIC_SHARED_BYTES = 227 * 1024  # of compute capability 9.0
_LARGEST_GRID = (2**31 - 1, 65535, 65535)
_LARGEST_BLOCK = (1024, 1024, 64)
_LARGEST_BLOCK_THREADS = 1024

# `enum class Outcome` of runtime/launch.h.
_SUSPENDED = -1
_NOT_RUN = {
    -2: "there is no memory for the launch, or a limit on it is reached (ulimit -v, vm.max_map_count)",
    -3: "a signal handler cannot launch a kernel while it interrupts another",
    -4: "the process was forked while a signal handler interrupted the kernel; it goes on in the parent alone",
}

_HINT = "memory that a kernel reaches by pointers in a struct or an array is to be named, see emulator.reachable"

Order = str | int


class RawModule:
    """CUDA C++ source whose kernels run on the CPU; the calls are those of ``cupy.RawModule``.

    Args:
        code: the source. ``extern "C"`` kernels are found by their name.
        options: of NVRTC: ``-D``, ``-I``, ``-std`` and ``--fmad`` are used; those that matter on a GPU only are not.
        name_expressions: templates to instantiate, for instance ``["scale<float>"]``.
        filename: how errors and reports name the source, unless it has ``#line`` directives of its own.
        check: look for mistakes while the kernels run, and raise :class:`CheckError` with what was found. Slow. Where
            they are races that change no result, they are a :class:`CheckWarning` each. ``"nan"`` also reports an
            operation on floats that makes a NaN of numbers (0 / 0, infinity - infinity, the root of -1), ``"infinity"``
            that, and one that makes an infinity of finite numbers; both on x86-64 only.
        order: in which order threads and blocks take turns: ``"forward"``, ``"reverse"``, or a number that seeds a
            shuffle. The result of a right kernel does not depend on it.
        arch: the value of ``__CUDA_ARCH__``.
        count: count what kernels do, see :func:`gpunn.cuda.emulator.count`. Outside of that their attribute ``counts``
            has it, for the card "H200". Slow. Blocks run in their own order then.
        enable_cooperative_groups: launches are cooperative: their blocks are all there at the same time, and
            ``this_grid().sync()`` waits for all of them. More blocks than a card of ``arch`` has room for, by its
            threads, blocks and shared memory, are a LaunchError.

    ``__device__`` variables keep their values as long as the process lives, and modules of the same source share them.
    Threads of a block take turns on one host thread. One that waits for another in a loop is found and interrupted,
    which takes some 50 ms; ``__nanosleep`` in the loop gives the turn away at once. Where all threads of a block wait,
    another block takes its place, as long as a card of ``arch`` has room for both; where all threads of all blocks wait
    in loops, for what nobody brings, that is reported after five seconds.

    >>> code = '''
    ... template <class T> __global__ void scale(T* x, T factor, int n) {
    ...     int i = blockIdx.x * blockDim.x + threadIdx.x;
    ...     if (i < n) x[i] *= factor;
    ... }'''
    >>> scale = RawModule(code, name_expressions=["scale<float>"]).get_function("scale<float>")
    >>> x = np.arange(3, dtype=np.float32)
    >>> scale((1,), (32,), (x, np.float32(2), np.int32(3)))
    >>> x
    array([0., 2., 4.], dtype=float32)
    """

    def __init__(
        self,
        code: str,
        options: tuple[str, ...] = (),
        name_expressions: Sequence[str] | None = None,
        *,
        filename: str = "kernel.cu",
        check: Check = False,
        order: Order = "forward",
        arch: int = 900,
        count: bool = False,
        enable_cooperative_groups: bool = False,
    ) -> None:
        names, mode = tuple(name_expressions or ()), Mode.of(check, count)
        self._source = _Source(code, tuple(options), names, filename, mode, arch, enable_cooperative_groups)
        self._library = self._source.load()
        self._order = _order_code(order)

    def get_function(self, name: str) -> RawKernel:
        """The kernel ``name``, which is an ``extern "C"`` function or one of the name expressions."""
        wanted = " ".join(name.split())
        if wanted not in self._library.kernels:
            raise CompileError(
                f'{self._source.filename}: no kernel {name!r}: it must be extern "C", or among name_expressions;'
                f" found {sorted(self._library.kernels)}"
            )
        kernel = RawKernel.__new__(RawKernel)
        kernel._bind(self._library, wanted, self._order, self._source)
        return kernel

    def get_global(self, name: str) -> np.ndarray[Any, Any]:
        """The bytes of the ``__device__`` or ``__constant__`` variable ``name``, to read and to write, uint8.

        With CuPy this is memory on the device; both go where an array of any type is made of memory:

        >>> code = '''__constant__ float factor[2];
        ... extern "C" __global__ void scale(float* x) { x[threadIdx.x] *= factor[threadIdx.x]; }'''
        >>> module = RawModule(code)
        >>> factor = np.ndarray((2,), np.float32, module.get_global("factor"))
        >>> factor[:] = 3, 5
        >>> x = np.ones(2, np.float32)
        >>> module.get_function("scale")((1,), (2,), (x,))
        >>> x
        array([3., 5.], dtype=float32)

        Raises CompileError where the source has no such variable; those of functions and templates are not found.
        """
        known = {found: (start, size) for found, start, size in variables(self._library.path, shared=False)}
        if name not in known:
            raise CompileError(
                f"{self._source.filename}: no __device__ or __constant__ variable {name!r}; found {sorted(known)}"
            )
        start, size = known[name]
        place = _place_of(self._library, ctypes.cast(self._library.code.gpunn_kernel_names, ctypes.c_void_p))
        address = place.base + start
        memory = np.ctypeslib.as_array((ctypes.c_ubyte * size).from_address(address))
        memory.flags.writeable = place.data_begin <= address < place.data_end
        return memory


class RawKernel:
    """One CUDA kernel that runs on the CPU; the calls are those of ``cupy.RawKernel``.

    Calling it, ``kernel(grid, block, args, shared_mem=0)``, runs it on NumPy arrays, in place. Scalars are passed as
    their NumPy type; a Python ``float`` or ``bool`` counts as ``float64`` or ``bool``, as in CuPy, which passes 8 bytes
    of an ``int``: here it may be given for any integer, or ``bool``, that holds it. Textures and surfaces are passed as
    :class:`TextureObject` and :class:`SurfaceObject`.

    Args: as of :class:`RawModule`, and ``name``, which must be ``extern "C"``.

    >>> code = 'extern "C" __global__ void add_one(float* x) { x[threadIdx.x] += 1; }'
    >>> x = np.zeros(4, np.float32)
    >>> RawKernel(code, "add_one")((1,), (4,), (x,))
    >>> x
    array([1., 1., 1., 1.], dtype=float32)
    """

    def __init__(
        self,
        code: str,
        name: str,
        options: tuple[str, ...] = (),
        *,
        filename: str = "kernel.cu",
        check: Check = False,
        order: Order = "forward",
        count: bool = False,
        enable_cooperative_groups: bool = False,
    ) -> None:
        module = RawModule(
            code,
            options,
            filename=filename,
            check=check,
            order=order,
            count=count,
            enable_cooperative_groups=enable_cooperative_groups,
        )
        found = module.get_function(name)
        self._bind(found._library, name, found._order, module._source)

    def _bind(self, library: build.Library, name: str, order: tuple[int, int], source: _Source) -> None:
        self.name = name
        self.counts = counting.Count(card("H200")) if source.mode is Mode.COUNT else None
        self._source = source
        self._counted: RawKernel | None = self if source.mode is Mode.COUNT else None
        self._library = library
        self._order = order
        self._launch, self._end = library.runtime.gpunn_emulator_launch, library.runtime.gpunn_emulator_end
        number = library.kernels[name]
        self._entry = ctypes.cast(library.code[f"gpunn_call_{number}"], ctypes.c_void_p)
        self._place = _place_of(library, self._entry)
        self._card = card_of(source.arch)
        self._rooms: dict[tuple[tuple[int, int, int], int], int] = {}
        # Of the only kernel that may use it; which of several do is not known.
        self._static_shared = self._place.shared_bytes if len(library.kernels) == 1 else 0
        self._parameters = _parameters(library.code[f"gpunn_describe_{number}"])
        self._cluster = _cluster_of(library.code[f"gpunn_cluster_{number}"])
        self._pack = struct.Struct(_packing(self._parameters)).pack
        self._alignment = max((parameter.alignment for parameter in self._parameters), default=1)
        self._max_dynamic_shared_size_bytes = _DEFAULT_DYNAMIC_SHARED_BYTES
        self.non_portable_cluster_size_allowed = False

    @property
    def max_dynamic_shared_size_bytes(self) -> int:
        """How much dynamic shared memory a launch may ask for; up to 227 KiB may be set, as on the hardware."""
        return self._max_dynamic_shared_size_bytes

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, limit: int) -> None:
        if not 0 <= limit <= _LARGEST_DYNAMIC_SHARED_BYTES:
            raise LaunchError(
                f"{self.name}: max_dynamic_shared_size_bytes must be from 0 to {_LARGEST_DYNAMIC_SHARED_BYTES},"
                f" got {limit}"
            )
        self._max_dynamic_shared_size_bytes = limit

    def __call__(
        self,
        grid: int | Sequence[int],
        block: int | Sequence[int],
        args: Sequence[Any],
        *,
        shared_mem: int = 0,
        cluster: int | Sequence[int] | None = None,
    ) -> None:
        """Run the kernel: ``grid`` blocks of ``block`` threads, with ``shared_mem`` bytes of dynamic shared memory.

        ``cluster`` says how many blocks are in a cluster, where the kernel has no ``__cluster_dims__``: 8 at most, or
        16 if the attribute ``non_portable_cluster_size_allowed`` was set. It must divide the grid.
        """
        grid3, block3 = self._sizes("grid", grid, _LARGEST_GRID), self._sizes("block", block, _LARGEST_BLOCK)
        if block3[0] * block3[1] * block3[2] > _LARGEST_BLOCK_THREADS:
            raise LaunchError(f"{self.name}: a block may have at most 1024 threads, got {block3}")
        self._check_shared(shared_mem)
        cluster3 = self._cluster_sizes(grid3, cluster)
        into = counting.counting() or self.counts
        if into and self._counted is not self:
            self._counted_twin()(grid3, block3, args, shared_mem=shared_mem, cluster=cluster)
            return
        parameters = self._parameters
        if len(args) != len(parameters):
            raise LaunchError(f"{self.name}: takes {len(parameters)} arguments, got {len(args)}")
        values = [
            parameter.convert(self.name, i, value)
            for i, (parameter, value) in enumerate(zip(parameters, args, strict=True))
        ]
        buffers = self._checked_copies(args, values) if self._source.mode.checks or into else None
        packed = _aligned(self._pack(*values), self._alignment)
        order, seed = self._order
        place = ctypes.pointer(self._place)
        floats = self._source.mode.floats
        request = _Request(self._entry, packed, grid3, block3, shared_mem, order, floats, seed, place)
        request.textures = TABLE
        request.blocks_at_once = self._blocks_at_once(grid3, block3, shared_mem)
        request.cooperative = self._source.cooperative
        request.cluster = cluster3
        if buffers:
            request.buffers, request.buffer_count = buffers.raw, len(buffers.raw)
        request.handles_signals = threading.current_thread() is threading.main_thread()
        if into:
            shape = counting.Shape(grid3, block3, shared_mem)
            program = self._source.program(into)
            with counting.collecting(into, self._library, self._place.base, self.name, shape, program):
                self._run_and_tell(request, buffers)
        else:
            self._run_and_tell(request, buffers)

    def _run_and_tell(self, request: _Request, buffers: Buffers | None) -> None:
        reports = self._run(request)
        if buffers:
            buffers.copy_back()
        if reports:
            found = readable(reports, self.name, self._library.path, self._place.base, build.HEADERS)
            self._tell([self._hinted(report) for report in found])

    def _counted_twin(self) -> RawKernel:
        """This kernel, compiled for counts."""
        if self._source.mode.checks:
            raise LaunchError(f"{self.name}: a kernel made with check=True is not counted; make it without")
        if self._counted is None:
            source = replace(self._source, mode=Mode.COUNT)
            library = source.load()
            twin = RawKernel.__new__(RawKernel)
            twin._bind(library, self.name, self._order, source)
            for name, start, _ in variables(library.path, shared=False):
                if twin._place.data_begin <= twin._place.base + start < twin._place.data_end:
                    raise LaunchError(
                        f"{self.name}: within count() the variable {name!r} of its source would be another one: make "
                        "the kernel with count=True"
                    )
            self._counted = twin
        self._counted._max_dynamic_shared_size_bytes = self._max_dynamic_shared_size_bytes
        self._counted.non_portable_cluster_size_allowed = self.non_portable_cluster_size_allowed
        return self._counted

    def _run(self, request: _Request) -> list[RawReport]:
        """Run it to its end; return what it reported.

        A launch that lasts comes back here now and then: Python's signal handlers are called, and what one of them
        raises, as KeyboardInterrupt, gives the launch up.
        """
        runtime, end, run = self._library.runtime, self._end, ctypes.c_void_p()
        reports: list[RawReport] = []
        try:
            count = self._launch(ctypes.byref(request), ctypes.byref(run))
            while count == _SUSPENDED:
                count = runtime.gpunn_emulator_resume(ctypes.byref(run))
            for i in range(count):
                reports.append(RawReport())
                runtime.gpunn_emulator_report(run, i, ctypes.byref(reports[-1]))
        finally:
            end(run)  # nothing before it, where Python might call another handler
        if count < 0:
            raise LaunchError(f"{self.name}: {_NOT_RUN[count]}")
        return reports

    def _sizes(self, what: str, sizes: int | Sequence[int], largest: tuple[int, int, int]) -> tuple[int, int, int]:
        try:
            given = tuple(index(size) for size in sizes) if np.iterable(sizes) else (index(sizes),)
        except TypeError:
            raise LaunchError(f"{self.name}: {what} must be 1 to 3 integers, got {sizes!r}") from None
        x, y, z = (*given, 1, 1)[:3] if 1 <= len(given) <= 3 else (0, 0, 0)
        if not (1 <= x <= largest[0] and 1 <= y <= largest[1] and 1 <= z <= largest[2]):
            raise LaunchError(f"{self.name}: {what} must be 1 to 3 sizes from 1 to {largest}, got {sizes}")
        return x, y, z

    def _check_shared(self, shared_mem: int) -> None:
        total = shared_mem
        if 0 <= total <= self._max_dynamic_shared_size_bytes:
            return
        raise LaunchError(
            f"{self.name}: dynamic shared memory must be at most max_dynamic_shared_size_bytes,"
            f" got shared_mem={shared_mem}, max_dynamic_shared_size_bytes={self._max_dynamic_shared_size_bytes}"
        )

    def _cluster_sizes(self, grid: tuple[int, int, int], given: int | Sequence[int] | None) -> tuple[int, int, int]:
        """Of the clusters of a launch; zeros where there are none."""
        cluster = self._cluster or (0, 0, 0)
        if given is not None:
            cluster = self._sizes("cluster", given, grid)
            if self._cluster and cluster != self._cluster:
                raise LaunchError(f"{self.name}: its __cluster_dims__ are {self._cluster}, got cluster={given}")
        if not any(cluster):
            return cluster
        if self._source.arch < 900:
            raise LaunchError(
                f"{self.name}: clusters of blocks need compute capability 9.0, got cluster={given} for"
                f" arch={self._source.arch}"
            )
        blocks, most = cluster[0] * cluster[1] * cluster[2], 16 if self.non_portable_cluster_size_allowed else 8
        if not 1 <= blocks <= most:
            why = "" if most == 16 else ", or 16 with non_portable_cluster_size_allowed = True"
            raise LaunchError(f"{self.name}: a cluster has at most {most} blocks{why}, got {cluster}")
        if any(size % of for size, of in zip(grid, cluster, strict=True)):
            raise LaunchError(f"{self.name}: the grid must be a multiple of the cluster {cluster}, got {grid}")
        if self._source.cooperative and blocks > 1:
            raise LaunchError(f"{self.name}: clusters in a cooperative launch are not emulated, got {cluster}")
        return cluster

    def _blocks_at_once(self, grid: tuple[int, int, int], block: tuple[int, int, int], shared_mem: int) -> int:
        room = self._rooms.get((block, shared_mem))
        threads, shared = block[0] * block[1] * block[2], self._static_shared + shared_mem
        if room is None:
            room = self._rooms[block, shared_mem] = self._card.blocks_at_once(threads, shared)
        if self._source.cooperative and (blocks := grid[0] * grid[1] * grid[2]) > room:
            each = self._card.blocks_of_multiprocessor(threads, shared)
            raise LaunchError(
                f"{self.name}: the blocks of a cooperative launch must be there at once, of {threads} threads and"
                f" {shared} bytes of shared memory at most {room} on the {self._card.name}, {each} on each of its"
                f" {self._card.multiprocessors} multiprocessors, got {blocks}"
            )
        return room

    def _checked_copies(self, args: Sequence[Any], values: list[Any]) -> Buffers:
        """Replace the addresses of arrays by those of copies that stand alone in memory; not those behind handles."""
        arrays = {
            i: (args[i], parameter.writes)
            for i, parameter in enumerate(self._parameters)
            if parameter.is_pointer and args[i] is not None
        }
        behind_handles = {
            i: (value.array, not isinstance(value, Bound) or isinstance(value, SurfaceObject))
            for i, value in enumerate(args)
            if isinstance(value, (Bound, TensorMap))
        }
        buffers = Buffers(arrays, behind_handles)
        for i, address in buffers.addresses.items():
            values[i] = address
        return buffers

    def _hinted(self, report: Report) -> Report:
        unnamed = report.kind == "out-of-bounds" and not report.harmless
        if unnamed and any(parameter.may_hold_pointers for parameter in self._parameters):
            return replace(report, message=f"{report.message}; {_HINT}")
        return report

    def _tell(self, reports: list[Report]) -> None:
        if all(report.harmless for report in reports):
            for report in reports:
                warn(str(report), CheckWarning)
            return
        if all(report.kind == "resources" for report in reports):
            raise LaunchError(str(reports[0]))
        if self._source.mode.checks:
            raise CheckError(reports)
        raise LaunchError(f"{reports[0]}; run it with check=True to find where it begins")


@dataclass(frozen=True)
class _Source:
    """What a module was made of: it may be compiled again, to be counted."""

    code: str
    options: tuple[str, ...]
    names: tuple[str, ...]
    filename: str
    mode: Mode
    arch: int
    cooperative: bool

    def load(self) -> build.Library:
        return build.load(self.code, self.options, self.names, self.filename, self.mode, self.arch)

    def program(self, into: counting.Count) -> sass.Program:
        return sass.program(self.code, self.options, self.names, self.filename, into.card.arch)


# --- orders -----------------------------------------------------------------------------------------------------------


def _order_code(order: Order) -> tuple[int, int]:
    """`enum class Order` of runtime/launch.h, and the seed."""
    if order == "forward":
        return 0, 0
    if order == "reverse":
        return 1, 0
    if isinstance(order, int) and not isinstance(order, bool) and 0 <= order < 2**64:
        return 2, order
    raise ArgumentError(f'emulator: order must be "forward", "reverse" or a seed, got order={order!r}')


# --- parameters -------------------------------------------------------------------------------------------------------

_WORDS = {
    "b": "boolean", "i": "integer", "u": "integer", "f": "floating-point number", "a": "pointer", "s": "struct",
    "c": "character",
}  # fmt: skip
_INTEGERS = "iub"


class _Parameter:
    """A parameter of a kernel, as `describe_kernel` (include/gpunn_emulator/kernel_call.h) tells it."""

    def __init__(self, text: str) -> None:
        described, size, offset, alignment = text.split(",")
        self.is_pointer = described[0] in "pP"
        self.writes = described[0] == "p"
        self.kind = described[1]
        self.size = int(size)
        self.offset = int(offset)
        self.alignment = int(alignment)
        self.convert: Callable[[str, int, Any], Any] = self._address if self.is_pointer else self._scalar()

    @property
    def may_hold_pointers(self) -> bool:
        """Whether it is a struct, or points to addresses."""
        return self.kind == "a" or (self.kind == "s" and not self.is_pointer)

    @property
    def format(self) -> str:
        """How :mod:`struct` packs it."""
        if self.is_pointer:
            return "Q"
        if self.kind == "s":
            return f"{self.size}s"
        codes = {"b": {1: "?"}, "f": {4: "f", 8: "d"}, "u": {1: "B", 2: "H", 4: "I", 8: "Q"}}
        return codes.get(self.kind, {1: "b", 2: "h", 4: "i", 8: "q"})[self.size]

    @property
    def bytes(self) -> int:
        """The room it takes among the arguments."""
        return 8 if self.is_pointer else self.size

    def _address(self, kernel: str, i: int, value: Any) -> int:
        if not isinstance(value, np.ndarray):
            if value is None:
                return 0
            raise LaunchError(f"{kernel}: argument {i} must be an array, got {_named(value)}")
        flags = value.flags
        if not flags.c_contiguous:
            raise LaunchError(
                f"{kernel}: argument {i} must be C-contiguous, got strides {value.strides} for shape {value.shape}"
            )
        if self.writes and not flags.writeable:
            raise LaunchError(f"{kernel}: argument {i} must be writeable, for its parameter is not a pointer to const")
        if not self._takes(value.dtype):
            raise LaunchError(
                f"{kernel}: argument {i} must be an array of {self.size}-byte {_WORDS[self.kind]}s, got {value.dtype}"
            )
        return value.ctypes.data

    def _takes(self, dtype: np.dtype[Any]) -> bool:
        """Whether the elements of an array can be what the pointer points to."""
        if dtype.hasobject or not dtype.isnative:
            return False
        if self.kind in "sc":  # nothing is known of a struct, and char and void may be anything
            return True
        same_kind = dtype.kind in _INTEGERS if self.kind in _INTEGERS + "a" else dtype.kind == self.kind
        return same_kind and dtype.itemsize == self.size

    def _scalar(self) -> Callable[[str, int, Any], Any]:
        size, word = self.size, _WORDS[self.kind]
        kinds = _INTEGERS if self.kind in _INTEGERS + "c" else self.kind
        any_kind = self.kind == "s"
        as_python = _bytes_of if any_kind else float if self.kind == "f" else self._same_bits

        def convert(kernel: str, i: int, value: Any) -> Any:
            if isinstance(value, TensorMap) and any_kind and size == TENSOR_MAP_BYTES:
                return value.content
            if type(value) is int and self._holds(value):
                return self._same_bits(value)
            scalar = value if isinstance(value, np.generic) else _as_cupy_passes(value)
            if scalar is None or scalar.itemsize != size or not (any_kind or scalar.dtype.kind in kinds):
                raise LaunchError(f"{kernel}: argument {i} must be a {size}-byte {word}, got {_named(value)}")
            return as_python(scalar)

        return convert

    def _holds(self, number: int) -> bool:
        """Whether the bytes that CUDA takes of a number are that number, or an unsigned one of the same bits."""
        if self.kind == "b":
            return number in (0, 1)
        return self.kind in _INTEGERS + "c" and -(1 << 8 * self.size - 1) <= number < 1 << 8 * self.size

    def _same_bits(self, scalar: np.generic | int) -> int:
        """The integer that has the scalar's bits in the type of the parameter: CUDA takes int for unsigned."""
        number = int(scalar)
        if self.kind == "u" and number < 0:
            return number + (1 << 8 * self.size)
        if self.kind in "ic" and number >= 1 << 8 * self.size - 1:
            return number - (1 << 8 * self.size)
        return number


def _bytes_of(scalar: np.generic) -> bytes:
    return scalar.tobytes()


def _as_cupy_passes(value: object) -> np.generic | None:
    if isinstance(value, Bound):
        return np.uint64(value.ptr)
    if isinstance(value, bool):
        return np.bool_(value)
    if isinstance(value, int):
        return np.int64(value) if -(2**63) <= value < 2**63 else None
    if isinstance(value, float):
        return np.float64(value)
    return np.complex128(value) if isinstance(value, complex) else None


def _named(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}"
    if isinstance(value, np.generic):
        return str(value.dtype)
    name = f"a Python {type(value).__name__}"
    if type(value) is int:
        return f"{name}, {value}"
    passed = _as_cupy_passes(value)
    return name if passed is None else f"{name}, which counts as {passed.dtype}"


def _parameters(describe: Callable[[Any, int], int]) -> list[_Parameter]:
    text = ctypes.create_string_buffer(8192)
    while describe(text, len(text)) >= len(text):
        text = ctypes.create_string_buffer(2 * len(text))
    return [_Parameter(word) for word in text.value.decode().split()]


def _cluster_of(sizes: Any) -> tuple[int, int, int] | None:
    """The ``__cluster_dims__`` of a kernel."""
    sizes.restype = ctypes.POINTER(ctypes.c_uint)
    found = sizes()
    return (found[0], found[1], found[2]) if found else None


def _packing(parameters: Sequence[_Parameter]) -> str:
    """The format of the argument buffer."""
    packing, at = "=", 0
    for parameter in parameters:
        packing += f"{parameter.offset - at}x{parameter.format}"
        at = parameter.offset + parameter.bytes
    return packing


_BYTES_ALIGNMENT = 16  # where the content of a `bytes` lies, at least


def _aligned(packed: bytes, alignment: int) -> Any:
    """The arguments where their types may lie: host code moves a struct of 32 bytes' alignment as one."""
    if alignment <= _BYTES_ALIGNMENT:
        return packed
    room = ctypes.create_string_buffer(len(packed) + alignment)
    place = (ctypes.c_char * len(packed)).from_buffer(room, -ctypes.addressof(room) % alignment)
    ctypes.memmove(place, packed, len(packed))
    return ctypes.cast(place, ctypes.c_char_p)


# --- what the runtime takes -------------------------------------------------------------------------------------------


class _LibraryPlace(ctypes.Structure):
    """`struct Library` of runtime/launch.h."""

    _fields_ = (
        ("base", ctypes.c_void_p),
        ("shared_module", ctypes.c_size_t),
        ("shared_bytes", ctypes.c_size_t),
        ("data_begin", ctypes.c_void_p),
        ("data_end", ctypes.c_void_p),
        ("image_begin", ctypes.c_void_p),
        ("image_end", ctypes.c_void_p),
    )


def _place_of(library: build.Library, symbol: ctypes.c_void_p) -> _LibraryPlace:
    place = _LibraryPlace()
    library.runtime.gpunn_emulator_find_library(symbol, ctypes.byref(place))
    return place


class _Request(ctypes.Structure):
    """`struct Request` of runtime/launch.h."""

    _fields_ = (
        ("entry", ctypes.c_void_p),
        ("arguments", ctypes.c_char_p),
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("dynamic_shared_bytes", ctypes.c_size_t),
        ("order", ctypes.c_int),
        ("floats", ctypes.c_int),
        ("seed", ctypes.c_uint64),
        ("library", ctypes.POINTER(_LibraryPlace)),
        ("buffers", ctypes.POINTER(RawBuffer)),
        ("buffer_count", ctypes.c_int),
        ("handles_signals", ctypes.c_int),
        ("textures", ctypes.c_void_p),
        ("blocks_at_once", ctypes.c_uint64),
        ("cooperative", ctypes.c_int),
        ("cluster", ctypes.c_uint * 3),
    )

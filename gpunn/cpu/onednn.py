"""Jobs of oneDNN on NumPy arrays: a primitive, the copies into and out of its formats, and its scratch memory.

A primitive chooses the formats that it computes fastest in; callers see plain arrays alone. What an array has to be
copied into lies in one arena for each thread, which the primitive's scratchpad shares. Jobs are kept by their keys,
for each thread apart, so that no two threads meet in one; the least recently used is given up.
"""

from __future__ import annotations

import ctypes
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import numpy as np

from gpunn.backend import Array
from gpunn.context import Setting, context
from gpunn.cpu.library import Library, NotServed, found
from gpunn.cpu.stack import Placed
from gpunn.errors import ArgumentError, PackageError, ShapeError, check, fail

FORWARD, BACKWARD = 64, 128
"""Kinds of propagation: of training, both."""

ACCUMULATE = 0
"""A step of a Description: add what is there."""

_ANY = 1
_FLOAT32, _UINT8, _INT32 = 3, 6, 4
_DTYPE = np.dtype(np.float32)
_TYPES = {_DTYPE: _FLOAT32, np.dtype(np.uint8): _UINT8, np.dtype(np.int32): _INT32}
_KEPT = 512  # jobs of a thread
_WORTH_THREADS = 50_000  # nanoseconds; to wake threads that wait, and to wait for them, takes tens of microseconds
_ALIGNMENT = 64
_KEPT_BYTES = 32 << 20  # of a thread's arena; what needs more has it for one call
_SCRATCHPAD_OF_CALLER = 1
_SCRATCHPAD = 80
_LAYOUT_OF_ARGUMENT = 255
_IMPLEMENTATION = 8
_STEP = 1 << 15
_MOST_AXES = 12

_choice: Setting[str] = Setting("cpu engine", "auto")


@context
def engine(name: str) -> Iterator[None]:
    """Within this context NumPy arrays are computed with by ``"numpy"`` alone, by ``"onednn"`` wherever it can, or, the
    default, by ``"auto"``: oneDNN where it is installed and pays.

    >>> import gpunn
    >>> with engine("numpy"):
    ...     gpunn.functional.relu(np.float32([-1, 2])).tolist()
    [0.0, 2.0]

    Raises ArgumentError for another name, PackageError for ``"onednn"`` where that cannot be loaded.
    """
    op = "engine"
    check(name in ("auto", "numpy", "onednn"), ArgumentError, op, 'name is "auto", "numpy" or "onednn"', name=name)
    if name == "onednn":
        library, why = found()
        if library is None:
            fail(PackageError, op, "oneDNN cannot be loaded", why=why)
    with _choice.using(name):
        yield


def takes(x: Array, pays: bool = True) -> bool:
    """Whether oneDNN is here, and asked for, and ``x`` is a NumPy array of float32 that holds something.

    ``pays`` says whether it is faster here.

    >>> takes(np.ones(3))
    False
    """
    choice = _choice.get()
    if choice != "onednn" and (choice == "numpy" or not pays or found()[0] is None):
        return False
    return type(x) is np.ndarray and x.dtype == _DTYPE and x.size > 0


# ---- descriptions ---------------------------------------------------------------------------------------------------


class Layout:
    """How an array lies in memory: its shape, its dtype, and ``strides`` in elements (of a contiguous array if left
    out) or, with ``free``, what the primitive chooses."""

    def __init__(
        self, shape: Sequence[int], dtype: Any = np.float32, free: bool = False, strides: Sequence[int] | None = None
    ) -> None:
        library = loaded()
        name, kind = "memory_desc_create_with_tag", ctypes.c_int(_TYPES[np.dtype(dtype)])
        last: Any = ctypes.c_int(_ANY)
        if not free:
            name, last = "memory_desc_create_with_strides", dims(strides_of(shape) if strides is None else strides)
        self.handle = library.new(name, ctypes.c_int(len(shape)), dims(shape), kind, last)
        self._destroy = library.c.dnnl_memory_desc_destroy

    def __del__(self) -> None:
        if hasattr(self, "_destroy"):
            self._destroy(self.handle)


def dims(values: Sequence[int]) -> Any:
    """``values`` as the array of sizes that the C API takes."""
    return (ctypes.c_int64 * _MOST_AXES)(*values)


def strides_of(shape: Sequence[int]) -> list[int]:
    """Those of a contiguous array, in elements."""
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    return strides


class Description:
    """A primitive's description: of ``dnnl_<name>_primitive_desc_create`` with ``arguments``, a Layout among them.

    ``then`` is done to each result: operations, as oneDNN numbers them, with an array of that Layout, or, with None,
    functions of one argument, or ``ACCUMULATE``, which adds what the result's array held before. With ``narrow`` it is
    an implementation without the widest vectors, if there is one. Raises NotServed if oneDNN has no implementation, or
    nothing but that for reference.
    """

    def __init__(
        self, name: str, *arguments: Any, then: Sequence[tuple[int, Layout | None]] = (), narrow: bool = False
    ) -> None:
        library = loaded()
        attributes = library.new("primitive_attr_create")
        try:
            if then:
                _append(library, attributes, then)
            mode = ctypes.c_int(_SCRATCHPAD_OF_CALLER)
            library.check(name, library.c.dnnl_primitive_attr_set_scratchpad_mode(attributes, mode))
            engine = () if name == "reorder" else (library.engine,)  # that one has an engine beside each layout
            raw = [_raw(a) for a in (*engine, *arguments, attributes)]
            self.handle = library.new(f"{name}_primitive_desc_create", *raw)
        finally:
            library.c.dnnl_primitive_attr_destroy(attributes)
        self._library = library
        while narrow and b"avx512" in self._implementation():
            library.check(name, library.c.dnnl_primitive_desc_next_impl(self.handle))
        if then and self._implementation().startswith(b"ref"):  # a hundred times slower
            raise NotServed(name)

    def _implementation(self) -> bytes:
        text = ctypes.c_char_p()
        query = self._library.c.dnnl_primitive_desc_query
        query(self.handle, ctypes.c_int(_IMPLEMENTATION), ctypes.c_int(0), ctypes.byref(text))
        return text.value or b""

    def __del__(self) -> None:
        if hasattr(self, "_library"):
            self._library.c.dnnl_primitive_desc_destroy(self.handle)

    def layout(self, number: int) -> ctypes.c_void_p:
        """The layout of an argument; it lives as long as this description."""
        query = self._library.c.dnnl_primitive_desc_query_md
        return ctypes.c_void_p(query(self.handle, _LAYOUT_OF_ARGUMENT, number))

    def bytes_of(self, number: int) -> int:
        """The size of an argument; 0 if the primitive has no such argument."""
        layout = self.layout(number)
        return int(self._library.c.dnnl_memory_desc_get_size(layout)) if layout else 0

    def has(self, number: int, layout: Layout) -> bool:
        """Whether the argument is laid out so."""
        return bool(self._library.c.dnnl_memory_desc_equal(layout.handle, self.layout(number)))


def _append(library: Library, attributes: Any, then: Sequence[tuple[int, Layout | None]]) -> None:
    operations = library.new("post_ops_create")
    try:
        for kind, layout in then:
            if kind == ACCUMULATE:
                add = library.c.dnnl_post_ops_append_sum
                status = add(operations, ctypes.c_float(1), ctypes.c_int(0), ctypes.c_int(0))
            elif layout is None:
                zero = ctypes.c_float(0)
                status = library.c.dnnl_post_ops_append_eltwise(operations, ctypes.c_int(kind), zero, zero)
            else:
                status = library.c.dnnl_post_ops_append_binary(operations, ctypes.c_int(kind), layout.handle)
            library.check("post_ops_append", status)
        library.check("set_post_ops", library.c.dnnl_primitive_attr_set_post_ops(attributes, operations))
    finally:
        library.c.dnnl_post_ops_destroy(operations)


def argument_of_step(number: int) -> int:
    """The number of the array of a step of ``then``."""
    return _STEP * (number + 1) | 2


def _raw(argument: Any) -> Any:
    if isinstance(argument, Layout | Description):
        return argument.handle
    if isinstance(argument, float):
        return ctypes.c_float(argument)
    return ctypes.c_int(argument) if isinstance(argument, int) else argument


# ---- jobs -----------------------------------------------------------------------------------------------------------


Argument = tuple[int, "Layout | None", bool]
"""An argument of a primitive: its number, the layout of the caller's array (None: as the primitive has it), and whether
the primitive writes it."""


class _Pair(ctypes.Structure):
    _fields_ = [("number", ctypes.c_int), ("memory", ctypes.c_void_p)]


class Job:
    """A primitive that takes arrays, one for each of ``arguments`` and in their order."""

    threads = 1

    def __init__(self, description: Description, arguments: Sequence[Argument]) -> None:
        library = loaded()
        self._library, self._owned = library, _Owned(library)
        self._description = description
        self.written = [written for _, _, written in arguments]
        self._stream = library.new("stream_create", library.engine, ctypes.c_int(1))
        self._owned.append("stream", self._stream)
        self._outer: list[tuple[Any, int]] = []
        self._inner: list[tuple[Any, int]] = []
        self._bytes = 0
        before: list[Any] = []
        after: list[Any] = []
        pairs = []
        for number, layout, written in arguments:
            wanted = description.layout(number)
            own = wanted if layout is None else layout.handle
            memory = self._memory(own)
            self._outer.append((memory, int(library.c.dnnl_memory_desc_get_size(own))))
            if layout is not None and not description.has(number, layout):
                inner = self._memory(wanted)
                self._inner.append((inner, self._reserve(description.bytes_of(number))))
                if written:
                    after.append((self._copy(wanted, own), [(1, inner), (17, memory)]))
                else:
                    before.append((self._copy(own, wanted), [(1, memory), (17, inner)]))
                memory = inner
            pairs.append((number, memory))
        self._steps = [self._step(*step) for step in (*before, (description, pairs), *after)]

    def _copy(self, source: Any, target: Any) -> Description:
        engine = self._library.engine
        return Description("reorder", source, engine, target, engine)

    def _memory(self, layout: Any) -> ctypes.c_void_p:
        memory = self._library.new("memory_create", layout, self._library.engine, None)
        self._owned.append("memory", memory)
        return memory

    def _reserve(self, size: int) -> int:
        start = self._bytes
        self._bytes += -(-size // _ALIGNMENT) * _ALIGNMENT
        return start

    def _step(self, description: Description, pairs: list[tuple[int, Any]]) -> tuple[Any, Any, Any, int]:
        primitive = self._library.new("primitive_create", description.handle)
        self._owned.append("primitive", primitive)
        size = description.bytes_of(_SCRATCHPAD)
        if size:
            scratchpad = self._memory(description.layout(_SCRATCHPAD))
            self._inner.append((scratchpad, self._reserve(size)))
            pairs = [*pairs, (_SCRATCHPAD, scratchpad)]
        execute: Any = self._library.c.dnnl_primitive_execute
        if description is self._description and self._library.threads() == 1:  # others' stacks stay where they are
            execute = Placed(execute)
        given = (_Pair * len(pairs))(*[_Pair(number, memory) for number, memory in pairs])
        return execute, primitive, given, len(pairs)

    def bytes_of(self, number: int) -> int:
        """The size of an argument as the primitive has it."""
        return self._description.bytes_of(number)

    def __call__(self, *arrays: Array) -> None:
        """Run on contiguous arrays of the layouts."""
        library = self._library
        most = library.threads()
        if self.threads == most:
            self._run(arrays)
            return
        try:
            library.set_threads(self.threads)
            self._run(arrays)
        finally:
            library.set_threads(most)

    def _run(self, arrays: Sequence[Array]) -> None:
        c = self._library.c
        set_handle, stream = c.dnnl_memory_set_data_handle, self._stream
        for (memory, size), array, written in zip(self._outer, arrays, self.written, strict=True):
            if array.nbytes != size:
                fail(ShapeError, "oneDNN", f"an array must have {size} bytes", bytes=array.nbytes, shape=array.shape)
            set_handle(memory, _address(array, written))
        if self._bytes:
            start, _keeping = _here.memory(self._bytes)
            for memory, offset in self._inner:
                set_handle(memory, start + offset)
        for execute, primitive, pairs, count in self._steps:
            status = execute(primitive, stream, count, pairs)
            if status:
                self._library.check("primitive_execute", status)
        c.dnnl_stream_wait(stream)


def _address(array: Array, written: bool) -> int:
    """Where the array's memory begins: as ``array.ctypes.data`` says, in a quarter of its time."""
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(array))
    except (TypeError, ValueError):  # read-only, or empty
        allowed = array.flags.writeable or not written
        check(allowed, ArgumentError, "oneDNN", "an array that is written must not be read-only", shape=array.shape)
        return int(array.ctypes.data)


class _Owned:
    """What is given back to oneDNN with this object."""

    def __init__(self, library: Library) -> None:
        self._library, self._all = library, list[tuple[str, Any]]()

    def append(self, kind: str, handle: Any) -> None:
        self._all.append((kind, handle))

    def __del__(self) -> None:
        for kind, handle in reversed(self._all):
            getattr(self._library.c, f"dnnl_{kind}_destroy")(handle)


_NO_MEMORY = 0, np.empty(0, np.uint8)


class _Thread(threading.local):
    """What a thread keeps: its jobs, and its arena."""

    def __init__(self) -> None:
        self.jobs: OrderedDict[Hashable, Job | None] = OrderedDict()
        self.arena = _NO_MEMORY

    def memory(self, size: int) -> tuple[int, Array]:
        """Where memory of ``size`` bytes at least starts, at a multiple of the alignment; the array holds it."""
        if self.arena[1].size >= size:
            return self.arena
        whole = np.empty(size + _ALIGNMENT, np.uint8)
        start = -whole.ctypes.data % _ALIGNMENT
        new = whole.ctypes.data + start, whole[start : start + size]
        if size <= _KEPT_BYTES:
            self.arena = new
        return new


_here = _Thread()


def job(work: float, make: Callable[..., Job], *settings: Hashable) -> Job | None:
    """``make(*settings)``, kept for this thread; None if oneDNN has no implementation.

    ``work`` is the time that one thread takes, in nanoseconds, about: what is short has one thread only, unless the
    engine is ``"onednn"``; 0 always has.
    """
    library = loaded()
    most = library.threads()
    threads = most if work > _WORTH_THREADS or (work and _choice.get() == "onednn") else 1
    jobs, key = _here.jobs, (make, threads, settings)
    try:
        kept = jobs[key]
    except KeyError:
        try:
            with library.limited(threads):
                kept = make(*settings)
            kept.threads = threads
        except NotServed:
            kept = None
        jobs[key] = kept
        if len(jobs) > _KEPT:
            jobs.popitem(last=False)
        return kept
    jobs.move_to_end(key)
    return kept


def run(work: float, make: Callable[..., Job], settings: Sequence[Hashable], *arrays: Array) -> None:
    """Run the job, which :func:`job` gives, on the arrays; of those that are not contiguous it reads a copy."""
    kept = job(work, make, *settings)
    assert kept is not None, "asked for before"
    kept(*[a if a.flags.c_contiguous else _copied(a, written) for a, written in zip(arrays, kept.written, strict=True)])


def _copied(a: Array, written: bool) -> Array:
    check(not written, ArgumentError, "oneDNN", "an array that is written must be contiguous", strides=a.strides)
    return np.ascontiguousarray(a)


def loaded() -> Library:
    """The library, where :func:`takes` said that it is there."""
    library, _ = found()
    assert library is not None
    return library


def about() -> str:
    """What is used: the version, threads and file; or why nothing is."""
    library, why = found()
    if library is None:
        return f"none: {why}"
    return f"{library.version_text}  {library.threading}, threads: {library.threads()}  {library.path}"


def release() -> None:
    """Give back what this thread keeps: jobs, and the memory that they compute in.

    >>> release()
    """
    _here.jobs.clear()
    _here.arena = _NO_MEMORY

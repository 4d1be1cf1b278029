"""A stand-in for CuPy on the CPU, as far as captured steps go: streams, CUDA graphs, pools of memory, and refusals.

Arrays compute with NumPy, kernels run on the emulator. While a stream captures, nothing is computed: what would have
been launched is taken down, and done when the graph is launched. As CuPy does, it then refuses transfers, waiting,
cuBLAS and, which CUDA itself may refuse, compiling and loading a kernel; arrays of NumPy and of it are never mixed.
Memory that nobody holds any more is overwritten, and a graph that uses such memory fails, unless it is of a pool of its
own that is still alive.
"""

import functools
import gc
import importlib
import importlib.machinery
import sys
import types
import weakref
from contextlib import contextmanager

import numpy as np

launching = importlib.import_module("gpunn.cuda.launch")

BLAS = {"matmul", "dot", "tensordot", "einsum", "inner", "vdot"}


class CUDARuntimeError(RuntimeError):
    pass


class Machine:
    def __init__(self):
        self.nodes = None  # of the capture under way
        self.default_pool = MemoryPool(lambda size: MemoryPointer(None, 0))  # which never runs out
        self.allocator = self.default_pool.malloc
        self.stream = Stream(null=True)
        self.room = 1 << 40
        self.loaded, self.launches = set(), []

    def refuse(self, what, kind=RuntimeError):
        if self.nodes is not None:
            raise kind(what)


machine = None  # made by `installed`

H2D = "the current stream is capturing, so H2D transfers are disallowed"
D2H = "the current stream is capturing, so D2H transfers are disallowed"
SYNC = "the current stream is capturing, so synchronous API calls are disallowed"
CUBLAS = "calling cuBLAS API during stream capture is currently unsupported"


# ---- memory ---------------------------------------------------------------------------------------------------------


class Memory:
    def __init__(self, size):
        self.size, self.machine = 0, machine
        if machine.room < size:
            raise CUDARuntimeError("cudaErrorMemoryAllocation: out of memory")
        self.size = size
        machine.room -= size

    def __del__(self):
        self.machine.room += self.size


class MemoryPointer:
    def __init__(self, memory, offset):
        self.memory, self.pool = memory, None


class MemoryPool:
    used_bytes = staticmethod(lambda: 0)

    def __init__(self, allocator):
        self.allocator, self.cached, self.memories = allocator, 0, []

    def malloc(self, size):
        pointer = self.allocator(size)
        self.memories.append(pointer.memory)
        pointer.pool = weakref.ref(self)
        return pointer

    def set_limit(self, size):
        assert size == 0

    def free_all_blocks(self):
        machine.room, self.cached = machine.room + self.cached, 0


class Block:
    """The memory of an array and its views."""

    def __init__(self, raw):
        self.raw = raw
        self.pool = machine.allocator(raw.nbytes).pool

    def __del__(self):
        if self.raw.flags.writeable:
            self.raw.reshape(-1).view(np.uint8)[:] = 0xFF


@contextmanager
def using_allocator(allocator):
    before, machine.allocator = machine.allocator, allocator
    try:
        yield
    finally:
        machine.allocator = before


# ---- streams and graphs ---------------------------------------------------------------------------------------------


class Event:
    def record(self):
        machine.refuse("an event of a capture has no time")

    def synchronize(self):
        machine.refuse(SYNC)


class MemoryHook:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class Stream:
    def __init__(self, null=False, non_blocking=False):
        self.null = null

    def __enter__(self):
        self.before, machine.stream = machine.stream, self
        return self

    def __exit__(self, *_):
        machine.stream = self.before

    def record(self):
        return Event()

    def wait_event(self, event):
        assert isinstance(event, Event)

    def synchronize(self):
        machine.refuse(SYNC)

    def begin_capture(self):
        assert not self.null, "cannot capture on the default (legacy) stream"
        assert machine.stream is self
        machine.nodes = []

    def end_capture(self):
        nodes, machine.nodes = machine.nodes, None
        gc.collect()  # what only cycles hold is free
        return Graph(nodes)


class Graph:
    def __init__(self, nodes):
        self.nodes = nodes

    def launch(self):
        assert machine.nodes is None
        for action, blocks in self.nodes:
            for block, pool in blocks:
                held = block() is not None or (pool() is not None and pool() is not machine.default_pool)
                assert held, "a graph uses memory that was freed"
            with np.errstate(all="ignore"):
                action()


def do(action, arrays):
    """Do it now, or when the graph is launched."""
    if machine.nodes is None:
        action()
    else:
        machine.nodes.append((action, [(weakref.ref(a.block), a.block.pool) for a in arrays]))


# ---- arrays ---------------------------------------------------------------------------------------------------------


class Device:
    compute_capability = "90"

    def __init__(self, number=0):
        self.id, self.attributes = number, {"MultiProcessorCount": 4}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def synchronize(self):
        machine.refuse(SYNC)


class ndarray:
    __array_ufunc__ = None
    __hash__ = None

    def __init__(self, raw, block=None):
        self.raw = raw
        self.block = Block(raw) if block is None else block

    shape = property(lambda self: self.raw.shape)
    dtype = property(lambda self: self.raw.dtype)
    ndim = property(lambda self: self.raw.ndim)
    size = property(lambda self: self.raw.size)
    nbytes = property(lambda self: self.raw.nbytes)
    itemsize = property(lambda self: self.raw.itemsize)
    strides = property(lambda self: self.raw.strides)
    flags = property(lambda self: self.raw.flags)
    device = property(lambda self: Device())
    data = property(lambda self: types.SimpleNamespace(ptr=self.raw.ctypes.data))
    T = property(lambda self: ndarray(self.raw.T, self.block))

    def __len__(self):
        return len(self.raw)

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def get(self):
        machine.refuse(D2H)
        return self.raw.copy()

    def item(self):
        return self.get().item()

    def tolist(self):
        return self.get().tolist()

    def __bool__(self):
        return bool(self.get())

    def __float__(self):
        return float(self.get())

    def __int__(self):
        return int(self.get())

    def set(self, values):
        machine.refuse(H2D)
        assert isinstance(values, np.ndarray)
        assert (values.shape, values.dtype) == (self.shape, self.dtype)
        self.raw[...] = values

    def view(self, dtype):
        return ndarray(self.raw.view(dtype), self.block)

    def fill(self, value):
        do(functools.partial(self.raw.fill, value), [self])

    def __getitem__(self, index):
        for part in index if isinstance(index, tuple) else (index,):
            if isinstance(part, np.ndarray | list):
                machine.refuse(H2D)
            if isinstance(part, ndarray) and part.dtype == bool:
                machine.refuse(SYNC)
        return run(lambda a, i: a[wrapped(a, i)], self, index)

    def __setitem__(self, index, value):
        if isinstance(value, np.ndarray):
            raise TypeError("Unsupported type <class 'numpy.ndarray'>")
        arrays = []
        index, value = unwrapped(index, arrays), unwrapped(value, arrays)
        raw = self.raw

        def action():
            raw[wrapped(raw, index)] = value

        needs("setitem", raw, value)
        do(action, [self, *arrays])


def wrapped(a, index):
    """``index`` with its arrays of integers taken modulo the size of their axis, as CuPy does."""
    parts = index if isinstance(index, tuple) else (index,)
    if any(part is Ellipsis or part is None or getattr(part, "dtype", None) == np.bool_ for part in parts):
        return index
    return tuple(
        part % size if isinstance(part, np.ndarray) and part.dtype.kind in "iu" else part
        for part, size in zip(parts, a.shape, strict=False)
    )


def needs(name, *values):
    """CuPy compiles an element-wise kernel for each combination of dtypes, when it is used first."""
    dtypes = tuple(str(v.dtype) if isinstance(v, np.ndarray) else type(v).__name__ for v in values)
    if (name, dtypes) not in machine.loaded:
        machine.refuse(f"{name} of {dtypes} was compiled while the stream is capturing")
        machine.loaded.add((name, dtypes))


def unwrapped(value, arrays):
    """``value`` with NumPy's arrays in place of this module's, which are added to ``arrays``."""
    if isinstance(value, ndarray):
        arrays.append(value)
        return value.raw
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(value, tuple | list):
        return type(value)(unwrapped(part, arrays) for part in value)
    return value


def run(function, *args, out=None, **settings):
    """What ``function`` of NumPy gives for this module's arrays."""
    arrays = []
    args, settings = unwrapped(args, arrays), {k: unwrapped(v, arrays) for k, v in settings.items()}
    if out is not None:
        needs(function.__name__, *args, out.raw)
        do(lambda: function(*args, out=out.raw, **settings), [*arrays, out])
        return out
    with np.errstate(all="ignore"):
        result = function(*args, **settings)  # in a capture only to know its shape
    if isinstance(result, tuple):
        return tuple(kept(function, args, settings, arrays, part, n) for n, part in enumerate(result))
    return kept(function, args, settings, arrays, result)


def kept(function, args, settings, arrays, result, part=None):
    if isinstance(result, np.ndarray):
        for a in arrays:
            if np.shares_memory(a.raw, result):
                return ndarray(result, a.block)
    y = ndarray(np.array(result))
    raw = y.raw
    if arrays:
        needs(function.__name__, *args, raw)
    if machine.nodes is not None:
        raw.reshape(-1).view(np.uint8)[:] = 0xFF

        def action():
            value = function(*args, **settings)
            np.copyto(raw, value if part is None else value[part])

        do(action, [*arrays, y])
    return y


def method(name):
    return lambda self, *args, **settings: getattr(module(), name)(self, *args, **settings)


def own_method(name):
    def apply(a, *rest, **settings):
        return getattr(a, name)(*rest, **settings)

    apply.__name__ = name
    return lambda self, *args, **settings: run(apply, self, *args, **settings)


def operator(name, reflected=False, in_place=False):
    f = getattr(np, name)

    def apply(self, *other):
        operands = (*other, self) if reflected else (self, *other)
        return run(f, *operands, out=self if in_place else None)

    return apply


BINARY = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "pow": "power", "mod": "remainder",
    "floordiv": "floor_divide", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
}  # fmt: skip
OTHERS = {
    "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal",
    "neg": "negative", "abs": "absolute", "invert": "invert",
}  # fmt: skip
for name in ("sum", "mean", "max", "min", "any", "all", "argmax", "prod", "var", "ravel", "swapaxes", "clip", "dot"):
    setattr(ndarray, name, method(name))
for name in ("reshape", "transpose", "astype", "copy", "repeat"):
    setattr(ndarray, name, own_method(name))
for name, ufunc in BINARY.items():
    setattr(ndarray, f"__{name}__", operator(ufunc))
    setattr(ndarray, f"__r{name}__", operator(ufunc, reflected=True))
    setattr(ndarray, f"__i{name}__", operator(ufunc, in_place=True))
for name, ufunc in OTHERS.items():
    setattr(ndarray, f"__{name}__", operator(ufunc))
ndarray.__matmul__ = lambda self, other: module().matmul(self, other)


# ---- the modules ----------------------------------------------------------------------------------------------------


def empty(shape, dtype=float):
    y = ndarray(np.empty(shape, dtype))
    y.raw.reshape(-1).view(np.uint8)[:] = 0xFF
    return y


def asarray(a, dtype=None):
    if isinstance(a, ndarray):
        return a if dtype is None or a.dtype == dtype else a.astype(dtype)
    machine.refuse(H2D)
    return ndarray(np.array(a, dtype))


def array(a):
    return a.copy() if isinstance(a, ndarray) else asarray(a)


def ascontiguousarray(a, dtype=None):
    a = asarray(a, dtype)
    return a if a.flags.c_contiguous else a.copy()


def joined(name):
    def join(arrays, *args, **settings):
        if len(arrays) > 8:
            machine.refuse(H2D)  # their addresses
        return run(getattr(np, name), list(arrays), *args, **settings)

    return join


def sign(x):
    """CuPy's, of which NaN has the sign 0."""
    return np.where(x == x, np.sign(x), np.zeros_like(x))


class Module(types.ModuleType):
    def __getattr__(self, name):
        function = {"sign": sign}.get(name) or getattr(np, name)
        if not callable(function) or isinstance(function, type):
            return function

        def call(*args, **settings):
            if name in BLAS:
                machine.refuse(CUBLAS, NotImplementedError)
            if settings.get("out", 0) is None:
                del settings["out"]
            return run(function, *args, **settings)

        return call


def module():
    return sys.modules["cupy"]


def load(file, kernel, options, arch, device):
    """In place of compiling a kernel and loading it to the GPU."""
    if (file, kernel, options) not in machine.loaded:
        machine.refuse(f"{kernel} was loaded while the stream is capturing")
        machine.loaded.add((file, kernel, options))
    emulated = launching._emulated(file, kernel, options, launching.Emulation(False, "forward"))

    def launch(grid, block, args):
        arrays = []
        raws = unwrapped(tuple(args), arrays)
        machine.launches.append((kernel, tuple(a.data.ptr for a in arrays), machine.nodes is not None))
        do(lambda: emulated(grid, block, raws), arrays)

    return launch


def installed(monkeypatch):
    """``sys.modules["cupy"]`` is this stand-in for the rest of a test."""
    global machine
    monkeypatch.setattr(sys.modules[__name__], "machine", None)
    cupy, cupyx = Module("cupy"), types.ModuleType("cupyx")
    cupy.__spec__ = importlib.machinery.ModuleSpec("cupy", None)
    runtime = types.SimpleNamespace(getDeviceCount=lambda: 1, CUDARuntimeError=CUDARuntimeError)
    cupy.cuda = types.SimpleNamespace(
        Device=Device, Stream=Stream, Memory=Memory, MemoryPointer=MemoryPointer, MemoryPool=MemoryPool,
        using_allocator=using_allocator, runtime=runtime, get_current_stream=lambda: machine.stream,
        Event=Event, MemoryHook=MemoryHook, get_elapsed_time=lambda before, after: 1e-3,
    )  # fmt: skip
    cupy.ndarray, cupy.empty, cupy.asarray, cupy.ascontiguousarray = ndarray, empty, asarray, ascontiguousarray
    cupy.array = array
    cupy.asnumpy = lambda a: a.get() if isinstance(a, ndarray) else np.asarray(a)
    cupy.empty_like = lambda a: empty(a.shape, a.dtype)
    cupy.concatenate, cupy.stack = joined("concatenate"), joined("stack")
    cupy.get_default_memory_pool = lambda: machine.default_pool
    cupy.may_share_memory = lambda a, b: np.shares_memory(a.raw, b.raw)
    cupyx.zeros_pinned = np.zeros
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "cupyx", cupyx)
    machine = Machine()
    monkeypatch.setattr(launching, "_compiled", load)
    return machine

"""PyTorch's files, read without running what is in them: of the pickle inside only what makes tensors is understood.

A file that ``torch.save`` wrote (version 1.6 and newer) is a zip archive: ``data.pkl``, a pickle in which tensors stand
as calls of a few functions, and for each storage a member of raw numbers, ``data/0`` and so on. A pickle is a program.
Here none is run: its opcodes are listed by :mod:`pickletools`, and dicts, lists, tuples, texts, numbers and tensors are
built from them. Anything else, any other function above all, is an error that names it.

Source: https://docs.pytorch.org/docs/stable/notes/serialization.html and the module ``pickletools`` of Python.
"""

from __future__ import annotations

import pickletools
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import IO, Any, Literal, NoReturn

import numpy as np

from gpunn.backend import half_dtype
from gpunn.data.reading import PathLike, bad_file

_LONGEST, _MOST = 2 << 20, 600_000
"""Bytes and opcodes of a pickle: over ten thousand tensors, and however it is made it takes no more than 2 s."""

_MOST_REPEATED = 64 << 20
"""Bytes that the tensors of a file may have beyond those of their storages, by strides of 0."""

_DTYPES = {
    "DoubleStorage": "f8", "FloatStorage": "f4", "HalfStorage": "f2", "LongStorage": "i8", "IntStorage": "i4",
    "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1", "BoolStorage": "?", "ComplexFloatStorage": "c8",
    "ComplexDoubleStorage": "c16", "BFloat16Storage": "bfloat16", "uint16": "u2", "uint32": "u4", "uint64": "u8",
}  # fmt: skip
_STORAGES = {f"torch.{name}" for name in _DTYPES if name.endswith("Storage")} | {"torch.storage.UntypedStorage"}
_BUILDERS = {
    "collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor_v3",
    "torch._utils._rebuild_parameter",
}  # fmt: skip
_ADMITTED = _BUILDERS | _STORAGES | {"torch.uint16", "torch.uint32", "torch.uint64"}

_DAMAGE = (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, struct.error, LookupError,
           OverflowError)  # fmt: skip
"""What zipfile raises for a damaged archive, by experience."""


@dataclass(frozen=True)
class _Global:
    """A function or class that the pickle names."""

    name: str


@dataclass(frozen=True)
class _Storage:
    kind: str
    key: str
    size: int


@dataclass(frozen=True)
class Stored:
    """Where a tensor's numbers lie: in which storage, from which element on, how many elements apart on each axis."""

    storage: _Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Archive:
    """A file of PyTorch's, open: ``content`` is what it holds, with a :class:`Stored` for each tensor.

    Raises FileError for what no ``torch.save`` writes, with the reason.
    """

    def __init__(self, path: PathLike, file: IO[bytes], size: int) -> None:
        self.path, self._memory, self._repeated = path, dict[str, bytes](), 0
        try:
            self._zip = zipfile.ZipFile(file)
            self._members = self._found(size)
            folder = next((name[: -len("data.pkl")] for name in self._members if name.endswith("/data.pkl")), None)
            if folder is None:
                bad_file(path, "a zip archive without a data.pkl: torch.save did not write it")
            self._folder = folder
            order = self._read("byteorder") if f"{folder}byteorder" in self._members else b"little"
            self._order: Literal["<", ">"] = ">" if order == b"big" else "<"
            if self._members[f"{folder}data.pkl"].file_size > _LONGEST:
                bad_file(path, f"the pickle is longer than {_LONGEST} bytes")
            self.content = _Pickle(path).load(self._read("data.pkl"))
        except _DAMAGE as error:
            bad_file(path, f"no whole file of PyTorch's: {type(error).__name__}: {error}")

    def _found(self, size: int) -> dict[str, zipfile.ZipInfo]:
        members = {info.filename: info for info in self._zip.infolist()}
        if any(name.endswith("/constants.pkl") for name in members):
            bad_file(self.path, "a TorchScript file, which holds code: save model.state_dict() with torch.save")
        packed = any(info.compress_type != zipfile.ZIP_STORED for info in members.values())
        declared = sum(info.file_size for info in self._zip.infolist())
        if packed or declared > size:
            how = "packed members, which PyTorch does not write" if packed else f"declares {declared} bytes of {size}"
            bad_file(self.path, f"no file of PyTorch's: {how}")
        return members

    def _read(self, name: str) -> bytes:
        try:
            return self._zip.read(self._members[self._folder + name])
        except KeyError:
            bad_file(self.path, f"it lacks {name!r}")
        except _DAMAGE as error:
            bad_file(self.path, f"{name!r} is damaged: {type(error).__name__}: {error}")

    def array(self, tensor: Stored) -> np.ndarray[Any, Any]:
        """The tensor as a view of its storage, which is read once; nothing outside of it can be reached."""
        key, kind = tensor.storage.key, tensor.dtype
        half = half_dtype("load_state", "bf16") if kind == "bfloat16" else None
        dtype = np.dtype(np.uint8 if kind == "?" else kind).newbyteorder(self._order) if half is None else half
        declared = tensor.storage.size * (1 if tensor.storage.kind == "UntypedStorage" else dtype.itemsize)
        member = f"data/{key}"
        if self._folder + member not in self._members:
            bad_file(self.path, f"it lacks the storage {key!r}")
        present = self._members[self._folder + member].file_size
        last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))
        count = present // dtype.itemsize
        if declared != present or (prod(tensor.shape) > 0 and last >= count) or tensor.offset > count:
            cause = f"a tensor {tensor.shape} ends at element {last}; its storage {key!r}"
            bad_file(self.path, f"{cause} declares {declared} bytes and has {present}")
        self._repeated += max(0, prod(tensor.shape) * dtype.itemsize - present)
        if self._repeated > _MOST_REPEATED:
            bad_file(self.path, f"a tensor {tensor.shape} repeats a storage of {present} bytes too often")
        if member not in self._memory:
            self._memory[member] = self._read(member)
        flat = np.frombuffer(self._memory[member], dtype, count)
        if half is not None and self._order == ">":
            flat = flat.view("u2").byteswap().view(half)
        try:
            steps = [step * dtype.itemsize for step in tensor.strides]
            view = np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, steps, writeable=False)
        except (ValueError, OverflowError) as error:
            bad_file(self.path, f"NumPy has no array of shape {tensor.shape}: {error}")
        return view.view(bool) if kind == "?" else view


class _Pickle:
    """Opcodes to values, on a stack, as the module ``pickletools`` documents them."""

    def __init__(self, path: PathLike) -> None:
        self.path, self.place = path, 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def load(self, content: bytes) -> Any:
        try:
            for number, (code, argument, place) in enumerate(pickletools.genops(content)):
                self.place = place or 0
                if number == _MOST:
                    self._bad(f"has more than {_MOST} opcodes")
                if code.name == "STOP":
                    return self.stack.pop()
                self._step(code.name, argument)
        except (IndexError, KeyError, TypeError, ValueError, UnicodeError, OverflowError) as error:
            self._bad(f"cannot be read: {type(error).__name__}: {error}")
        return self._bad("has no end")

    def _bad(self, cause: str) -> NoReturn:
        bad_file(self.path, f"the pickle {cause}, at its byte {self.place}")

    def _step(self, name: str, argument: Any) -> None:
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _LITERALS:
            self.stack.append(argument)
        elif name in _STEPS:
            _STEPS[name](self, argument)
        elif name not in ("PROTO", "FRAME"):
            self._bad(f"holds more than tensors: {name}")

    def _marked(self) -> list[Any]:
        """What was pushed since the last mark."""
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _popped(self, count: int) -> tuple[Any, ...]:
        if count > len(self.stack) - (self.marks[-1] if self.marks else 0):
            raise IndexError("nothing on the stack")
        items = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        return items

    def _remember(self, place: int | None) -> None:
        self.memo[len(self.memo) if place is None else int(place)] = self.stack[-1]

    def _put(self, pairs: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(pairs) % 2:
            self._bad("puts an item into what is no dict")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if not isinstance(key, str | int | float | None):
                self._bad(f"has a key that is no text or number: {type(key).__name__}")
            target[key] = value

    def _dict(self, _: Any) -> None:
        pairs = self._marked()
        self.stack.append({})
        self._put(pairs)

    def _append(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            self._bad("appends to what is no list")
        self.stack[-1].extend(items)

    def _global(self, module: Any, name: Any) -> None:
        found = f"{module}.{name}"
        if found not in _ADMITTED:
            self._bad(f"holds code, {found[:120]!r}, which is not run: save model.state_dict() alone")
        self.stack.append(_Global(found))

    def _reduce(self) -> None:
        function, arguments = self._popped(2)
        called = function.name if isinstance(function, _Global) else type(function).__name__
        if called not in _BUILDERS or not isinstance(arguments, tuple):
            self._bad(f"holds code, a call of {called!r}, which is not run")
        if called == "collections.OrderedDict" and not arguments:
            self.stack.append({})
        elif called == "torch._utils._rebuild_parameter" and isinstance(arguments[0], Stored):
            self.stack.append(arguments[0])
        elif called.startswith("torch._utils._rebuild_tensor"):
            self.stack.append(self._tensor(called.endswith("v3"), *arguments))
        else:
            self._bad(f"calls {called!r} with other arguments than PyTorch does")

    def _tensor(self, untyped: bool, storage: Any, offset: Any, shape: Any, strides: Any, *others: Any) -> Stored:
        """A call of ``_rebuild_tensor_v2``, or of v3, which names the dtype behind two more arguments."""
        numbers = [offset, *shape, *strides] if isinstance(shape, tuple) and isinstance(strides, tuple) else []
        whole = numbers and all(type(number) is int and 0 <= number < 2**63 for number in numbers)
        if not whole or not isinstance(storage, _Storage) or len(shape) != len(strides) or len(shape) > 64:
            self._bad("describes a tensor in another way than PyTorch does")
        kind = storage.kind
        if untyped:
            kind = others[2].name.removeprefix("torch.") if isinstance(others[2], _Global) else ""
        if kind not in _DTYPES:
            self._bad(f"holds a tensor of a dtype that NumPy lacks: {kind or type(others[2]).__name__}")
        if any(others[3 if untyped else 2 :]):
            self._bad("holds a tensor with metadata (a conjugate or negative view): save tensor.resolve_conj()")
        return Stored(storage, _DTYPES[kind], offset, shape, strides)

    def _storage(self) -> None:
        (description,) = self._popped(1)
        known = isinstance(description, tuple) and len(description) == 5 and description[0] == "storage"
        if not known or not isinstance(description[1], _Global) or description[1].name not in _STORAGES:
            self._bad("refers to what is no storage of numbers")
        _, kind, key, _, size = description
        if not isinstance(key, str) or type(size) is not int or size < 0:
            self._bad("describes a storage in another way than PyTorch does")
        self.stack.append(_Storage(kind.name.rpartition(".")[2], key, size))

    def _build(self) -> None:
        """The attributes of an OrderedDict, which a ``state_dict()`` has (versions of its layers): left out."""
        target, state = self.stack[-2], self._popped(1)[0]
        if not isinstance(target, dict) or not isinstance(state, dict):
            self._bad("holds code, an object with a state (BUILD), which is not run: save model.state_dict() alone")


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_LITERALS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING",
}  # fmt: skip
_STEPS: dict[str, Callable[[_Pickle, Any], object]] = {
    "MARK": lambda p, _: p.marks.append(len(p.stack)),
    "POP": lambda p, _: p._popped(1),
    "POP_MARK": lambda p, _: p._marked(),
    "EMPTY_DICT": lambda p, _: p.stack.append({}),
    "EMPTY_LIST": lambda p, _: p.stack.append([]),
    "LIST": lambda p, _: p.stack.append(p._marked()),
    "TUPLE": lambda p, _: p.stack.append(tuple(p._marked())),
    "TUPLE1": lambda p, _: p.stack.append(p._popped(1)),
    "TUPLE2": lambda p, _: p.stack.append(p._popped(2)),
    "TUPLE3": lambda p, _: p.stack.append(p._popped(3)),
    "DICT": _Pickle._dict,
    "SETITEM": lambda p, _: p._put(list(p._popped(2))),
    "SETITEMS": lambda p, _: p._put(p._marked()),
    "APPEND": lambda p, _: p._append(list(p._popped(1))),
    "APPENDS": lambda p, _: p._append(p._marked()),
    "PUT": _Pickle._remember,
    "BINPUT": _Pickle._remember,
    "LONG_BINPUT": _Pickle._remember,
    "MEMOIZE": _Pickle._remember,
    "GET": lambda p, place: p.stack.append(p.memo[int(place)]),
    "BINGET": lambda p, place: p.stack.append(p.memo[place]),
    "LONG_BINGET": lambda p, place: p.stack.append(p.memo[place]),
    "GLOBAL": lambda p, names: p._global(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda p, _: p._global(*p._popped(2)),
    "REDUCE": lambda p, _: p._reduce(),
    "BINPERSID": lambda p, _: p._storage(),
    "BUILD": lambda p, _: p._build(),
}

"""Weights and checkpoints on disk, as safetensors: a header of names, dtypes and shapes, then the raw numbers.

Nothing is unpickled. Weights are the arrays of a model and nothing else. A checkpoint is all that training needs to go
on: arrays, and beside them, in the header, what is no array as JSON, after a checksum of the whole file.

Source of the format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gpunn.backend import Array, check_not_masked, half_dtype, is_array, to_cpu
from gpunn.errors import (
    ArgumentError,
    FileError,
    GpunnError,
    PackageError,
    check,
    check_sizes,
    fail,
    install_command,
    warn,
)
from gpunn.files import read_file, within, write_atomically
from gpunn.nn import Module
from gpunn.nn.module import IncompatibleKeys

State = dict[str, Any]
"""Names with arrays, numbers, texts, None, and lists and dicts of them: what a ``state_dict()`` gives."""


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise PackageError(f"weights are kept as safetensors ({error}): {install_command('train')}") from error
    return safetensors


_DTYPES = {
    "BOOL": "?", "C64": "<c8", "F16": "<f2", "F32": "<f4", "F64": "<f8", "I8": "i1", "I16": "<i2", "I32": "<i4",
    "I64": "<i8", "U8": "u1", "U16": "<u2", "U32": "<u4", "U64": "<u8",
}  # fmt: skip


def pack(op: str, arrays: Mapping[str, Array], metadata: dict[str, str] | None = None) -> bytes:
    """The bytes of a safetensors file of ``arrays``, of any layout and byte order.

    >>> import numpy as np
    >>> unpack(pack("example", {"x": np.arange(3.0)[::-1]}))
    {'x': array([2., 1., 0.])}

    Raises ArgumentError for a dtype that safetensors has no word for.
    """
    laid_out = {}
    for name, given in arrays.items():
        check_not_masked(given)
        array = to_cpu(given)
        known = array.dtype.name == "bfloat16" or array.dtype.newbyteorder("<") in _DTYPES.values()
        check(known, ArgumentError, op, "safetensors has no such dtype", name=name, dtype=str(array.dtype))
        # It copies memory from the first element on, whatever strides there are.
        laid_out[name] = np.asarray(array, array.dtype.newbyteorder("="), order="C")
    return _safetensors().numpy.save(laid_out, metadata)  # type: ignore[no-any-return]


def unpack(content: bytes) -> dict[str, Array]:
    """The arrays of a safetensors file; not by safetensors.numpy, which writes bfloat16, but does not read it.

    :func:`pack` shows how. Raises ValueError, which says what is wrong, for what is no such file or holds what NumPy
    cannot.
    """
    safetensors = _safetensors()
    arrays = {}
    try:
        for name, entry in safetensors.deserialize(content):
            bfloat16, dtype = entry["dtype"] == "BF16", _DTYPES.get(entry["dtype"])
            if dtype is None and not bfloat16:
                raise ValueError(f"{name!r} is of a dtype that NumPy lacks: {entry['dtype']}")
            arrays[name] = np.frombuffer(entry["data"], half_dtype("safetensors", "bf16") if bfloat16 else dtype)
            arrays[name] = arrays[name].reshape(entry["shape"])
    except safetensors.SafetensorError as error:
        raise ValueError(str(error)) from error
    return arrays


# ---- weights -------------------------------------------------------------------------------------------------------


def save_weights(module: Module, path: str | os.PathLike[str]) -> None:
    """Write the parameters and buffers of ``module`` to ``path``, by the names of its ``state_dict``.

    The file appears whole or not at all, and equal weights give equal bytes. (So no metadata: safetensors writes
    several keys in a random order.)

    >>> import tempfile, gpunn.nn
    >>> path = Path(tempfile.mkdtemp(), "w.safetensors")
    >>> save_weights(gpunn.nn.Linear(3, 2), path)
    >>> load_weights(gpunn.nn.Linear(3, 2), path)
    IncompatibleKeys(missing_keys=[], unexpected_keys=[])

    Raises FileError if ``path`` cannot be written.
    """
    content = pack("save_weights", module.state_dict())
    target = Path(path)
    if not target.parent.is_dir():
        raise FileError(f"{target}: the weights cannot be written: No such folder: {target.parent}")
    _write(target, content, "weights")


def load_weights(module: Module, path: str | os.PathLike[str], strict: bool = True) -> IncompatibleKeys:
    """Read the parameters and buffers of ``module`` from ``path``; names, shapes and dtypes must be the module's.

    ``path`` is a file of :func:`save_weights`, or a checkpoint, of which the model's are taken. With ``strict=False``
    names may differ, as in :meth:`gpunn.nn.Module.load_state_dict`: the result has those that the file lacks, and those
    that the module does not have.

    >>> import tempfile
    >>> from gpunn.nn import Linear
    >>> path = Path(tempfile.mkdtemp(), "weights.safetensors")
    >>> save_weights(Linear(2, 1, bias=False), path)
    >>> load_weights(Linear(2, 1), path, strict=False)
    IncompatibleKeys(missing_keys=['bias'], unexpected_keys=[])

    Raises FileError, which names the path and what is wrong: no such file, no safetensors, cut short, a checkpoint
    without a model, or made for another network, with all that differs. The module is then as it was.
    """
    content = _read(path, "weights")
    if _mark(content) >= 0:
        state = _unpacked(Path(path), content)
        if "model" not in state:
            raise FileError(f"{path}: a checkpoint without a model; its parts are {', '.join(state)}")
        weights = state["model"]
    else:
        try:
            weights = unpack(content)
        except ValueError as error:
            packed = content.startswith((b"PK\x03\x04", b"\x89HDF"))  # zip, as of PyTorch, or HDF5
            hint = "; gpunn.interop.load_state reads weights of other libraries" if packed else ""
            raise FileError(f"{path}: not a whole safetensors file: {error}{hint}") from error
    own, read = module.state_dict(), weights
    if not strict:
        own, read = ({name: each[name] for name in own.keys() & weights.keys()} for each in (own, weights))
    if differing := differences(own, read):
        raise FileError(f"{path}: made for another network: {'; '.join(differing)}")
    try:
        return module.load_state_dict(weights, strict)
    except GpunnError as error:
        raise FileError(f"{path}: {error}") from error


def differences(own: Mapping[str, Any], read: Mapping[str, Any]) -> list[str]:
    """What keeps the arrays ``read`` from a file from taking the place of a network's ``own``, by name and shape.

    >>> import numpy as np
    >>> differences({"w": np.ones((2, 3))}, {"w": np.ones((2, 4)), "b": np.ones(2)})
    ["its 'b', float64[2], is unknown here", "'w' is float64[2, 4], where float64[2, 3] is needed"]
    """
    found = []
    for name in sorted(own.keys() | read.keys()):
        if name not in read:
            found.append(f"it lacks {name!r}, {_kind(own[name])}")
        elif name not in own:
            found.append(f"its {name!r}, {_kind(read[name])}, is unknown here")
        elif _kind(read[name]) != _kind(own[name]):
            found.append(f"{name!r} is {_kind(read[name])}, where {_kind(own[name])} is needed")
    return found


def _kind(value: Any) -> str:
    return f"{value.dtype}{list(value.shape)}" if is_array(value) else type(value).__name__


# ---- one checkpoint ------------------------------------------------------------------------------------------------

_DIGEST = 64  # hexadecimal digits of SHA-256
_MARK = b'"gpunn":"'


def save_checkpoint(state: Mapping[str, State], path: str | os.PathLike[str]) -> None:
    """Write ``state``, a few named states as :meth:`gpunn.train.Trainer.state_dict` gives them, to ``path``.

    The file is written under another name, and takes ``path`` when all of it is on the disk: whatever happens
    meanwhile, ``path`` is what it was, or whole. Any safetensors reader opens it; array ``name`` of ``part`` is called
    ``part/name``.

    >>> import tempfile, numpy as np
    >>> path = Path(tempfile.mkdtemp(), "c.safetensors")
    >>> save_checkpoint({"model": {"w": np.ones(2)}, "schedule": {"steps": 3}}, path)
    >>> load_checkpoint(path)
    {'model': {'w': array([1., 1.])}, 'schedule': {'steps': 3}}

    Raises FileError if it cannot be written, ArgumentError for a value that JSON does not have.
    """
    _write(Path(path), _packed(state), "checkpoint")


def _packed(state: Mapping[str, State]) -> bytearray:
    """The bytes of a checkpoint."""
    arrays: State = {}
    others: dict[str, State] = {}
    for part, values in state.items():
        check("/" not in part, ArgumentError, "save_checkpoint", "the name of a part must have no '/'", part=part)
        arrays |= {f"{part}/{name}": value for name, value in values.items() if is_array(value)}
        others[part] = {name: _to_json(value) for name, value in values.items() if not is_array(value)}
    text = json.dumps(others, allow_nan=False, separators=(",", ":"))
    content = bytearray(pack("save_checkpoint", arrays, {"gpunn": "0" * _DIGEST + text}))
    at = content.index(_MARK) + len(_MARK)  # in the header: the first one
    content[at : at + _DIGEST] = _digest(content, at).encode()
    return content


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, State]:
    """Read what :func:`save_checkpoint` wrote; arrays are NumPy's.

    Raises FileError, which names the path, for a file that is missing, no checkpoint, or damaged in any byte.
    """
    return _loaded(Path(path))


def _loaded(path: Path, folder: Path | None = None) -> dict[str, State]:
    """:func:`load_checkpoint`, of a file that must lie in ``folder`` if one is given."""
    return _unpacked(path, _read(path, "checkpoint", folder))


def _mark(content: bytes) -> int:
    """Where the mark of a checkpoint begins, in the header of a safetensors file; -1 if there is none."""
    return content.find(_MARK, 8, min(8 + int.from_bytes(content[:8], "little"), len(content)))


def _unpacked(path: Path, content: bytes) -> dict[str, State]:
    """The checkpoint that was read from ``path``."""
    end = 8 + int.from_bytes(content[:8], "little")
    at = _mark(content) + len(_MARK)
    if at < len(_MARK) or at + _DIGEST > len(content):
        raise FileError(f"{path}: no whole checkpoint: it has no header of one")
    if content[at : at + _DIGEST] != _digest(content, at).encode():
        raise FileError(f"{path}: a damaged checkpoint: its checksum is not that of its {len(content)} bytes")
    try:
        others = json.loads(json.loads(content[8:end])["__metadata__"]["gpunn"][_DIGEST:])
        return _state(others, unpack(content))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise FileError(f"{path}: no checkpoint of this version of gpunn: {error}") from error


def _state(others: Any, arrays: dict[str, Array]) -> dict[str, State]:
    """The parts with what is no array, and the arrays put into them; ValueError if they do not go together."""
    if not (isinstance(others, dict) and all(isinstance(values, dict) for values in others.values())):
        raise ValueError("the states must be objects of JSON by the names of their parts")
    state = {part: {name: _from_json(value) for name, value in values.items()} for part, values in others.items()}
    for name, array in arrays.items():
        part, slash, own = name.partition("/")
        if not slash or part not in state:
            raise ValueError(f"the array {name!r} belongs to no part")
        state[part][own] = array
    return state


def _digest(content: bytes | bytearray, at: int) -> str:
    """SHA-256 of the file, its own place filled with zeros."""
    view = memoryview(content)
    digest = hashlib.sha256(view[:at])
    digest.update(b"0" * _DIGEST)
    digest.update(view[at + _DIGEST :])
    return digest.hexdigest()


def _to_json(value: Any) -> Any:
    """What JSON has no word for, infinity and NaN, as an object that names it."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if isinstance(value, bool | int | float | str | None):
        return value
    if isinstance(value, list | tuple):
        return [_to_json(item) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _to_json(item) for key, item in value.items()}
    return fail(ArgumentError, "save_checkpoint", "a state holds arrays, numbers and texts", value=value)


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    if isinstance(value, dict):
        if value.keys() == {"float"} and isinstance(value["float"], str):
            return float(value["float"])
        return {key: _from_json(item) for key, item in value.items()}
    return value


def _read(path: str | os.PathLike[str], what: str, folder: Path | None = None) -> bytes:
    try:
        return read_file(path, folder)
    except OSError as error:
        raise FileError(f"{path}: the {what} cannot be read: {error.strerror or error}") from error


def _write(path: Path, content: bytes | bytearray, what: str, folder: Path | None = None) -> None:
    try:
        write_atomically(path if folder is None else within(folder, path), content, durable=True)
    except OSError as error:
        raise FileError(f"{path}: the {what} cannot be written: {error.strerror or error}") from error


# ---- a folder of them ----------------------------------------------------------------------------------------------


class Checkpoints:
    """The checkpoints of a run in a folder: ``step-<number>.safetensors``, of which the last ``keep`` stay.

    >>> import tempfile
    >>> kept = Checkpoints(tempfile.mkdtemp(), keep=2)
    >>> for step in (5, 10, 15, 20):
    ...     kept.save(step, {"trainer": {"step": step}}, best=5)
    >>> kept.steps()
    [5, 15, 20]
    >>> kept.load_newest()
    {'trainer': {'step': 20}}

    Raises ArgumentError unless ``keep`` is at least 1; with 2, the default, one stays if the newest is damaged.
    """

    def __init__(self, folder: str | os.PathLike[str], keep: int = 2) -> None:
        check_sizes("Checkpoints", keep=keep)
        self.folder, self.keep = Path(folder), keep

    def path(self, step: int) -> Path:
        """The file of the checkpoint after ``step`` steps."""
        return self.folder / f"step-{step:09d}.safetensors"

    def steps(self) -> list[int]:
        """After how many steps there are checkpoints, whole or not."""
        matches = (re.fullmatch(r"step-(\d{9,})\.safetensors", path.name) for path in self.folder.glob("step-*"))
        return sorted(int(match[1]) for match in matches if match)

    def save(self, step: int, state: Mapping[str, State], best: int | None = None) -> None:
        """Write a checkpoint, then remove those that are old; that of the step ``best`` stays.

        Those of later steps go too: they are of a run that was left, or damaged. Raises FileError if the checkpoint
        cannot be written; the ones before are then as they were.
        """
        _write(self.path(step), _packed(state), "checkpoint", self.folder)
        staying = {*[s for s in self.steps() if s <= step][-self.keep :], best}
        for old in self.steps():
            if old not in staying:
                self.path(old).unlink(missing_ok=True)
        for part in self.folder.glob("step-*.part"):  # of a process that was killed while it wrote
            part.unlink(missing_ok=True)

    def load_newest(self) -> dict[str, State] | None:
        """The newest checkpoint that is whole, or None where there is none at all.

        A damaged one is passed over with a warning. Raises FileError if all are damaged.
        """
        damaged = []
        for step in reversed(self.steps()):
            try:
                state = _loaded(self.path(step), self.folder)
            except FileError as error:
                damaged.append(str(error))
                continue
            for text in damaged:
                warn(f"{text}; going back to {self.path(step).name}")
            return state
        if damaged:
            raise FileError(f"{self.folder}: no checkpoint is whole: {'; '.join(damaged)}")
        return None

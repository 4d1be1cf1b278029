"""Files of weights, as names with arrays, whatever wrote them; see :func:`gpunn.interop.load_state` for the formats."""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from typing import IO, Any

import numpy as np

from gpunn.backend import half_dtype, is_array
from gpunn.checkpoint import unpack
from gpunn.data.npy import read_npz
from gpunn.data.reading import MAX_DEFLATE_RATIO, PathLike, bad_file, opened
from gpunn.errors import PackageError
from gpunn.interop.weights_torch import Archive, Stored

_SUFFIXES = {
    ".safetensors": "safetensors", ".npz": "npz", ".pt": "torch", ".pth": "torch", ".h5": "hdf5", ".hdf5": "hdf5",
    ".keras": "keras", ".msgpack": "msgpack",
}  # fmt: skip
_DEEPEST = 64
"""How many dicts or groups lie in one another at most."""


def read_arrays(path: PathLike, key: str | None = None) -> dict[str, Any]:
    """The arrays of a file by their names; with ``key`` those of the entry, group or prefix of that name.

    The format is that of the content, which must be the one that the name's suffix promises, if it promises one.

    >>> import tempfile
    >>> file = os.path.join(tempfile.mkdtemp(), "w.npz")
    >>> np.savez(file, **{"l1/W": np.zeros((2, 3)), "l1/b": np.zeros(2)})
    >>> sorted(read_arrays(file)), sorted(read_arrays(file, "l1"))
    (['l1/W', 'l1/b'], ['W', 'b'])

    Raises FileError, which names the path, for what is no such file, whole and of numbers alone; PackageError without
    the package that a format needs.
    """
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        kind = _kind(path, file)
        file.seek(0)
        with _in_words(path):
            return _READERS[kind](path, file, size, key)


@contextmanager
def _in_words(path: PathLike) -> Iterator[None]:
    """What NumPy and the packages raise for a damaged file as a FileError."""
    try:
        yield
    except PackageError:
        raise
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError, EOFError) as error:
        bad_file(path, f"cannot be read: {type(error).__name__}: {error}")


def _kind(path: PathLike, file: IO[bytes]) -> str:
    promised = next((kind for suffix, kind in _SUFFIXES.items() if os.fspath(path).lower().endswith(suffix)), None)
    start = file.read(16)
    found = None
    if start.startswith(b"PK\3\4"):
        found = _kind_of_zip(path, file)
    elif start.startswith(b"\x89HDF\r\n\x1a\n"):
        found = "hdf5"
    elif start[8:9] == b"{" and not any(start[5:8]):
        found = "safetensors"
    elif start.startswith(b"\x80") and promised != "msgpack":
        cause = (
            "a pickle outside of a zip archive, PyTorch's format before 1.6 or no weights at all: nothing is unpickled"
        )
        bad_file(path, f"{cause}; save it anew with torch.save(torch.load(file, weights_only=True), file)")
    if promised is not None and found not in (None, promised):
        bad_file(path, f"not what its name says, but {found}")
    if found is None and promised is None:
        bad_file(path, "neither safetensors nor a file of PyTorch's, an .npz, .keras, .h5 or .msgpack file")
    return found or promised or ""


def _kind_of_zip(path: PathLike, file: IO[bytes]) -> str | None:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except Exception as error:  # zipfile raises all sorts of them
        bad_file(path, f"no whole zip archive: {type(error).__name__}: {error}")
    if any(name.endswith("/data.pkl") for name in names):
        return "torch"
    if "model.weights.h5" in names:
        return "keras"
    return "npz" if names and all(name.endswith(".npy") for name in names) else None


# ---- what a file holds ---------------------------------------------------------------------------------------------


def flat(tree: Any, cause: str, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """The arrays of dicts in dicts by their paths; ValueError for anything else.

    >>> dict(flat({"params": {"Dense_0": {"bias": np.zeros(2)}}}, "example"))
    {'params/Dense_0/bias': array([0., 0.])}
    """
    if isinstance(tree, Mapping) and depth < _DEEPEST:
        for name, branch in tree.items():
            yield from flat(branch, cause, f"{prefix}/{name}" if prefix else str(name), depth + 1)
    elif is_array(tree) or isinstance(tree, np.generic):
        yield prefix, np.asarray(tree) if isinstance(tree, np.generic) else tree
    else:
        raise ValueError(f"{cause}: {prefix!r} is of the type {type(tree).__name__}")


def below(arrays: Mapping[str, Any], key: str | None) -> dict[str, Any]:
    """What lies below ``key``, a first part of names, by the rest of the names.

    >>> below({"a/b": 1, "a.c": 2, "ab": 3}, "a")
    {'b': 1, 'c': 2}

    Raises ValueError if there is no such name.
    """
    if key is None:
        return dict(arrays)
    cut = len(key) + 1
    found = {name[cut:]: value for name, value in arrays.items() if name[:cut] in (f"{key}/", f"{key}.")}
    if not found:
        tops = sorted({re.split(r"[/.]", name)[0] for name in arrays})
        raise ValueError(f"nothing is called {key!r}; it holds {', '.join(tops[:20])}")
    return found


def _safetensors(path: PathLike, file: IO[bytes], size: int, key: str | None) -> dict[str, Any]:
    return below(unpack(file.read()), key)


def _npz(path: PathLike, file: IO[bytes], size: int, key: str | None) -> dict[str, Any]:
    return below(read_npz(path), key)


def _torch(path: PathLike, file: IO[bytes], size: int, key: str | None) -> dict[str, Any]:
    archive = Archive(path, file, size)
    content = archive.content
    if key is not None:
        if not isinstance(content, dict) or not isinstance(content.get(key), dict):
            raise ValueError(f"it has no dict {key!r}: {_listed(content)}")
        content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, Stored) for value in content.values()):
        raise ValueError(f"it is no dict of tensors, but {_listed(content)}; key= names the entry with the weights")
    return {str(name): archive.array(tensor) for name, tensor in content.items()}


def _listed(content: Any) -> str:
    if not isinstance(content, dict):
        return f"a {_called(content)}"
    entries = [f"{str(name)[:60]!r} ({_called(value)})" for name, value in list(content.items())[:20]]
    return f"it holds {', '.join(entries) or 'nothing'}"


def _called(value: Any) -> str:
    return "tensor" if isinstance(value, Stored) else type(value).__name__


# ---- formats that need a package -----------------------------------------------------------------------------------


def _hdf5(path: PathLike, file: IO[bytes], size: int, key: str | None) -> dict[str, Any]:
    """Keras's ``.weights.h5``, and the ``.h5`` of Keras 2, whose layers stand in an attribute in order."""
    try:
        import h5py
    except ImportError as error:
        raise PackageError(f'load_state: HDF5 needs h5py ({error}): pip install "gpunn[weights]"') from error
    arrays: dict[str, Any] = {}
    try:
        with h5py.File(file, "r") as store:
            own = isinstance(store.get("model_weights", getlink=True), h5py.HardLink)
            root = store["model_weights"] if own else store
            for name in _in_order(root):
                _collect(h5py, path, root, name, name, size, arrays, 0)
    except (OSError, RuntimeError) as error:
        bad_file(path, f"no whole HDF5 file: {error}")
    return below(arrays, key)


def _in_order(group: Any) -> list[str]:
    """The names in a group: the layers of a Keras 2 file in the model's order."""
    names = list(group)
    given = [name.decode() if isinstance(name, bytes) else str(name) for name in group.attrs.get("layer_names", ())]
    return [name for name in given if name in names] or names


def _collect(
    h5py: Any, path: PathLike, group: Any, name: str, place: str, size: int, arrays: dict[str, Any], depth: int
) -> None:
    """Add the data sets below ``name``; links out of the file, and sizes that it cannot hold, are refused."""
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        bad_file(path, f"{place!r} is a link, which is not followed")
    held = group[name]
    if isinstance(held, h5py.Group):
        if depth >= _DEEPEST:
            bad_file(path, f"groups lie more than {_DEEPEST} deep")
        for inner in held:
            _collect(h5py, path, held, inner, f"{place}/{inner}", size, arrays, depth + 1)
        return
    if not isinstance(held, h5py.Dataset) or held.dtype.kind not in "fiubc":
        bad_file(path, f"{place!r} is no array of numbers")
    if held.external or held.is_virtual:
        bad_file(path, f"{place!r} lies in another file")
    stored = held.id.get_storage_size()
    if prod(held.shape) * held.dtype.itemsize > min(stored, size) * MAX_DEFLATE_RATIO:
        bad_file(path, f"{place!r} declares {held.shape}, which {stored} bytes cannot hold")
    array = held[()]
    if held.attrs.get("dtype") in ("bfloat16", b"bfloat16"):
        array = array.astype(half_dtype("load_state", "bf16"))
    arrays[place] = np.asarray(array)


def _keras(path: PathLike, file: IO[bytes], size: int, key: str | None) -> dict[str, Any]:
    """A zip archive with the weights as HDF5 and a description of the model, which is not read."""
    member = "model.weights.h5"
    try:
        with zipfile.ZipFile(file) as archive:
            info = archive.getinfo(member)
            known = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            if not known or info.file_size > size * MAX_DEFLATE_RATIO:
                bad_file(path, f"{member} declares {info.file_size} bytes; the file has {size}")
            content = archive.read(info)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        bad_file(path, f"no whole .keras file: {error}")
    return _hdf5(path, io.BytesIO(content), len(content), key)


def _msgpack(path: PathLike, file: IO[bytes], size: int, key: str | None) -> dict[str, Any]:
    """Flax's ``to_bytes``: dicts, in which an array is an extension of type 1: (shape, name of the dtype, bytes)."""
    try:
        import msgpack
    except ImportError as error:
        raise PackageError(f'load_state: msgpack needs its package ({error}): pip install "gpunn[weights]"') from error

    def array(code: int, content: bytes) -> Any:
        if code not in (1, 3):
            raise ValueError(f"an extension of type {code}, which is no array")
        shape, name, numbers = msgpack.unpackb(content, raw=True)
        kind = name.decode("ascii")
        if kind != "bfloat16" and not re.fullmatch(r"bool|(u?int(8|16|32|64))|float(16|32|64)|complex(64|128)", kind):
            raise ValueError(f"an array of the dtype {kind[:40]!r}")
        dtype = half_dtype("load_state", "bf16") if kind == "bfloat16" else np.dtype(kind)
        return np.frombuffer(numbers, dtype).reshape(tuple(shape))

    try:
        tree = msgpack.unpackb(file.read(), ext_hook=array, raw=False, strict_map_key=True)
    except (msgpack.UnpackException, UnicodeError) as error:
        bad_file(path, f"no whole msgpack file: {type(error).__name__}: {error}")
    return below(dict(flat(_whole(tree, 0), "it holds more than arrays")), key)


def _whole(tree: Any, depth: int) -> Any:
    """The tree with arrays beyond 1 GB, which Flax cuts into pieces, put together."""
    if not isinstance(tree, dict) or depth > _DEEPEST:
        return tree
    if "__msgpack_chunked_array__" in tree:
        shape, pieces = (list(tree[name].values()) for name in ("shape", "chunks"))
        return np.concatenate(pieces).reshape(shape)
    return {name: _whole(branch, depth + 1) for name, branch in tree.items()}


_READERS: dict[str, Callable[[PathLike, IO[bytes], int, str | None], dict[str, Any]]] = {
    "safetensors": _safetensors, "npz": _npz, "torch": _torch, "hdf5": _hdf5, "keras": _keras, "msgpack": _msgpack,
}  # fmt: skip

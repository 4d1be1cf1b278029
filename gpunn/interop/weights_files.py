"""Files of weights, as names with arrays, whatever wrote them; see :func:`gpunn.interop.load_state` for the formats."""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from typing import IO, Any

import numpy as np

from gpunn.backend import half_dtype, is_array
from gpunn.checkpoint import unpack
from gpunn.data.npy import read_npz
from gpunn.data.reading import MAX_DEFLATE_RATIO, PathLike, bad_file, opened
from gpunn.errors import FileError, PackageError, install_command
from gpunn.interop.weights_torch import Archive, Stored

_SUFFIXES = {
    ".safetensors": "safetensors", ".npz": "npz", ".pt": "torch", ".pth": "torch", ".h5": "hdf5", ".hdf5": "hdf5",
    ".keras": "keras", ".msgpack": "msgpack",
}  # fmt: skip
_LEAST_UNPACKED = 128 << 20
_MOST_UNPACKED = 16
"""How many times its own size a packed file may hold, from 128 MiB on: weights hardly get smaller by packing."""
_LONGEST_HEADER = 100_000_000
"""Bytes that the package safetensors reads."""
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
    except MemoryError:
        bad_file(path, "does not fit into memory")
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
    length = int.from_bytes(file.read(8), "little")
    if length > min(size - 8, _LONGEST_HEADER):
        bad_file(path, f"no safetensors: its header declares {length} bytes, the file has {size}")
    header = json.loads(file.read(length))  # before the numbers, which may be many
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    if max(ends, default=0) != size - 8 - length:
        bad_file(path, f"its arrays end at byte {8 + length + max(ends, default=0)}, the file at byte {size}")
    file.seek(0)
    return below(unpack(file.read()), key)


def _npz(path: PathLike, file: IO[bytes], size: int, key: str | None) -> dict[str, Any]:
    return below(read_npz(path, _most_unpacked(size)), key)


def _most_unpacked(size: int) -> int:
    return max(_LEAST_UNPACKED, size * _MOST_UNPACKED)


def _check_unpacked(path: PathLike, declared: int, size: int) -> None:
    if declared > _most_unpacked(size):
        bad_file(path, f"declares {declared} bytes, far more than weights in a packed file of {size}")


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
        raise PackageError(f"load_state: HDF5 needs h5py ({error}): {install_command('weights')}") from error
    try:
        with h5py.File(file, "r") as store:
            own = isinstance(store.get("model_weights", getlink=True), h5py.HardLink)
            root = store["model_weights"] if own else store
            reader = _Hdf5(h5py, path, size, {root})
            for name in _in_order(root):
                reader.collect(root, name, name, 0)
    except FileError:
        raise
    except (OSError, RuntimeError, zlib.error) as error:
        bad_file(path, f"no whole HDF5 file: {error}")
    return below(reader.arrays, key)


def _in_order(group: Any) -> list[str]:
    """The names in a group: the layers of a Keras 2 file in the model's order."""
    names = list(group)
    given = [name.decode() if isinstance(name, bytes) else str(name) for name in group.attrs.get("layer_names", ())]
    return [name for name in dict.fromkeys(given) if name in names] or names


class _Hdf5:
    """The data sets of a file, collected; links out of it, and sizes that it cannot hold, are refused."""

    def __init__(self, h5py: Any, path: PathLike, size: int, found: set[Any]) -> None:
        self.h5py, self.path, self.size, self.found = h5py, path, size, found
        self.arrays: dict[str, Any] = {}
        self.declared = 0

    def collect(self, group: Any, name: str, place: str, depth: int) -> None:
        """Add the data sets below ``name``."""
        h5py, path = self.h5py, self.path
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            bad_file(path, f"{place!r} is a link, which is not followed")
        held = group[name]
        if held in self.found:
            bad_file(path, f"{place!r} is there by another name, too")
        self.found.add(held)
        if isinstance(held, h5py.Group):
            if depth >= _DEEPEST:
                bad_file(path, f"groups lie more than {_DEEPEST} deep")
            for inner in held:
                self.collect(held, inner, f"{place}/{inner}", depth + 1)
            return
        if not isinstance(held, h5py.Dataset) or held.dtype.kind not in "fiubc":
            bad_file(path, f"{place!r} is no array of numbers")
        if held.external or held.is_virtual:
            bad_file(path, f"{place!r} lies in another file")
        self._check_size(held, place)
        array = held[()]
        if held.attrs.get("dtype") in ("bfloat16", b"bfloat16"):
            array = array.astype(half_dtype("load_state", "bf16"))
        self.arrays[place] = np.asarray(array)

    def _check_size(self, held: Any, place: str) -> None:
        filters, stored = held.id.get_create_plist(), held.id.get_storage_size()
        packed = filters.get_nfilters() > 0
        count = prod(held.shape) * held.dtype.itemsize
        if count > min(stored, self.size) * (MAX_DEFLATE_RATIO if packed else 1):
            bad_file(self.path, f"{place!r} declares {held.shape}, which {stored} bytes cannot hold")
        if packed:
            chunk = prod(held.chunks) * held.dtype.itemsize
            self.declared += max(count, chunk)
            _check_unpacked(self.path, self.declared, self.size)
            self._check_chunks(held, place, [filters.get_filter(n)[0] for n in range(filters.get_nfilters())], chunk)

    def _check_chunks(self, held: Any, place: str, filters: list[int], size: int) -> None:
        """Unpack each chunk, for HDF5 would to any number of bytes."""
        kinds = self.h5py.h5z
        if filters not in ([kinds.FILTER_DEFLATE], [kinds.FILTER_SHUFFLE, kinds.FILTER_DEFLATE]):
            bad_file(self.path, f"{place!r} is packed by another method than gzip")
        for number in range(held.id.get_num_chunks()):
            skipped, content = held.id.read_direct_chunk(held.id.get_chunk_info(number).chunk_offset)
            found = len(content) if skipped else len(zlib.decompressobj().decompress(content, size + 1))
            if found != size:
                bad_file(self.path, f"a chunk of {place!r} does not unpack to {size} bytes")


def _keras(path: PathLike, file: IO[bytes], size: int, key: str | None) -> dict[str, Any]:
    """A zip archive with the weights as HDF5 and a description of the model, which is not read."""
    member = "model.weights.h5"
    try:
        with zipfile.ZipFile(file) as archive:
            info = archive.getinfo(member)
            known = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            if not known:
                bad_file(path, f"{member} is packed by another method than Keras uses")
            _check_unpacked(path, info.file_size, size)
            content = archive.read(info)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        bad_file(path, f"no whole .keras file: {error}")
    return _hdf5(path, io.BytesIO(content), len(content), key)


def _msgpack(path: PathLike, file: IO[bytes], size: int, key: str | None) -> dict[str, Any]:
    """Flax's ``to_bytes``: dicts, in which an array is an extension of type 1: (shape, name of the dtype, bytes)."""
    try:
        import msgpack
    except ImportError as error:
        raise PackageError(f"load_state: msgpack needs its package ({error}): {install_command('weights')}") from error

    first = file.read(1)
    if not first or not (0x80 <= first[0] <= 0x8F or first[0] in (0xDE, 0xDF)):
        bad_file(path, "no msgpack file of Flax's: it does not begin with a dict")
    file.seek(0)

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

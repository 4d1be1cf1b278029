"""Hostile files of every format that is read, made by rule: gpunn's own errors alone, in little memory and time.

Each format has files that are right, of which damaged ones are drawn from a seed, and files that no writer makes.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import math
import struct
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import weights_case
from data_case import damaged
from test_weights import BAD

from gpunn import nn, plot
from gpunn.backend import random_generator
from gpunn.checkpoint import Checkpoints, load_checkpoint, load_weights, save_checkpoint, save_weights
from gpunn.data import NpyDataset, read_cifar10, read_cifar100, read_csv, read_idx, read_npy, read_npz
from gpunn.data.image_files import ImageFiles
from gpunn.errors import GpunnError
from gpunn.interop import load_state
from gpunn.recipes import digits
from gpunn.recipes.catalogue import begun
from gpunn.recipes.inputs import digit_images, points
from gpunn.recipes.options import read_options
from gpunn.report import page, redraw
from gpunn.report.watch import Figures, Follower
from gpunn.runs import comparison

MEMORY = 300  # MiB
SECONDS = 2.0  # of the processor: the machine may be busy
STATUS = Path("/proc/self/status")

Files = dict[str, bytes]
Read = Callable[[Path], object]


class Trial:
    """Calls a reader with one file after the other; ``faults`` says which of them did what none may do."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.seconds, self.faults, self._count = folder, SECONDS, list[str](), 0

    def __call__(self, kind: str, files: Files, read: Read, suffix: str = "") -> None:
        for name, content in files.items():
            self._count += 1
            path = self.folder / f"{self._count}{suffix}"
            path.write_bytes(content)
            self._try(f"{kind}: {name}", read, path)
            path.unlink()

    def _try(self, what: str, read: Read, path: Path) -> None:
        before = self._memory()
        seconds = min(self._times(what, read, path))
        if seconds > self.seconds:
            self.faults.append(f"{what}: {seconds:.1f} s")
        if (taken := self._memory("VmHWM") - before) > MEMORY:
            self.faults.append(f"{what}: {taken:.0f} MiB")

    def _times(self, what: str, read: Read, path: Path) -> Iterator[float]:
        """The times of one try, or of three: what else runs takes from a core's caches."""
        for _ in range(3):
            begin = time.process_time()
            self._call(what, read, path)
            yield (seconds := time.process_time() - begin)
            if seconds <= self.seconds:
                return

    def _call(self, what: str, read: Read, path: Path) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # of a checkpoint that is passed over
                warnings.simplefilter("ignore", UserWarning)  # of what is taken for names
                read(path)
        except GpunnError:
            pass
        except Exception as error:
            self.faults.append(f"{what}: {type(error).__name__}: {str(error)[:100]}")

    def _memory(self, name: str = "VmRSS") -> float:
        """Memory in MiB; the peak is that since it was asked for without a name."""
        if not STATUS.exists():
            return 0.0
        if name == "VmRSS":
            Path("/proc/self/clear_refs").write_text("5")
        return int(STATUS.read_text().split(f"{name}:")[1].split()[0]) / 1024


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    found = Trial(tmp_path)
    yield found
    assert found._count > 0
    assert found.faults == []


def some(content: bytes, count: int, header: int = 0) -> Files:
    """Damaged copies of a file, always the same ones; most of the damage is in its first ``header`` bytes."""
    generator = random_generator(zlib.crc32(content))
    return {
        f"damaged {number}": damaged(content, generator, min(header or len(content), len(content)))
        for number in range(count)
    }


# ---- data ----------------------------------------------------------------------------------------------------------


def npy(shape: str = "(2, 3)", body: bytes = bytes(24), descr: str = "'<f4'", order: str = "False") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + body


ONES = "1," * 64
NPY: Files = {
    "64 axes": npy(f"({ONES})", bytes(4)),
    "65 axes": npy(f"({ONES}1)", bytes(4)),
    "20,000 axes": npy("(" + "1," * 20_000 + ")", bytes(4)),
    "an axis of 0, one beyond 64 bits": npy("(0, 9999999999999999999)", b""),
    "an axis of 0, two whose product is": npy("(0, 4000000000, 4000000000)", b""),
    "an axis of 0, a large one": npy("(0, 999999999999)", b""),
    "larger than the file": npy("(999999999999999999,)"),
    "below 0": npy("(-1,)"),
    "nested": npy("((((2))))"),
    "no axes": npy("()", bytes(4)),
    "objects": npy(descr="'|O'"),
    "a pickle": npy("(1,)", b"cos\nsystem\n(S'true'\ntR.", "'O'"),
    "records": npy(descr="[('a', '<f4')]"),
    "texts": npy(descr="'<U4'"),
    "dates": npy(descr="'<M8[s]'"),
    "big-endian, Fortran order": npy(descr="'>f4'", order="True"),
    "truths of 2 and 5": npy("(1, 2)", b"\2\5", "'|b1'"),
    "complex": npy("(1, 2)", bytes(16), "'<c8'"),
    "NaN": npy("(1, 2)", b"\0\x7e" * 2, "'<f2'"),
    "version 9": b"\x93NUMPY\x09\0" + npy()[8:],
    "a header of 4 GB": b"\x93NUMPY\2\0" + b"\xff" * 4 + b"{",
    "a header of blanks": b"\x93NUMPY\1\0" + struct.pack("<H", 60_000) + b" " * 60_000,
}


def rows(path: Path) -> None:
    data = NpyDataset(path)
    if len(data):
        data[0]


@pytest.mark.parametrize("read", [read_npy, rows, digit_images, points], ids=lambda read: read.__name__)
def test_npy(read: Read, trial: Trial) -> None:
    trial("npy", NPY | some(npy(), 40, 80), read, ".npy")


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a name that stands twice
        for name, member in members:
            archive.writestr(name, member)
    return content.getvalue()


def test_npz(trial: Trial) -> None:
    files = {f"{name}, packed": zipped(("x.npy", content)) for name, content in NPY.items()}
    files |= {
        "150 MB of zeros": zipped(("x.npy", npy("(37500000,)", bytes(150_000_000)))),
        "more than it declares": zipped(("x.npy", npy("(2,)", bytes(100_000_000)))),
        "a name twice": zipped(("x.npy", npy()), ("x.npy", npy())),
        "a path": zipped(("../../x.npy", npy())),
        "bzip2": zipped(("x.npy", npy()), method=zipfile.ZIP_BZIP2),
        "lzma": zipped(("x.npy", npy()), method=zipfile.ZIP_LZMA),
        "another file": zipped(("x.txt", b"hello")),
        "a folder": zipped(("d/", b"")),
        "nothing": zipped(),
        "3,000 empty ones": zipped(*((f"{number}.npy", b"") for number in range(3000))),
        "encrypted": zipped(("x.npy", npy())).replace(b"PK\3\4\x14\0\0", b"PK\3\4\x14\0\1"),
    }
    trial("npz", files | some(zipped(("x.npy", npy()), ("y.npy", npy())), 60), read_npz, ".npz")


def idx(code: int, *sizes: int, body: bytes = b"") -> bytes:
    return bytes([0, 0, code, len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes) + body


def test_idx(trial: Trial) -> None:
    most = 2**32 - 1
    right = idx(8, 2, 3, 4, body=bytes(24))
    files = {
        "an axis of 0, two large ones": idx(8, 0, most, most),
        "an axis of 0, 31 large ones": idx(14, 0, *[most] * 31),
        "32 axes": idx(8, *[1] * 32, body=b"\0"),
        "255 axes": idx(8, *[1] * 255, body=b"\0"),
        "100 MB of zeros": gzip.compress(idx(8, 100_000_000, body=bytes(100_000_000)), 1),
        "packed twice": gzip.compress(gzip.compress(right)),
        "packed, declares 4 GB": gzip.compress(idx(8, most)),
        "in two parts": gzip.compress(right[:10]) + gzip.compress(right[10:]),
        "zeros behind": gzip.compress(right) + bytes(100),
        "a text behind": gzip.compress(right) + b"text",
        "gzip's first bytes": b"\x1f\x8b",
        "nothing": b"",
        "a byte": b"\0",
    }
    trial(
        "idx",
        files | some(right, 40, 16) | {f"{n}, packed": c for n, c in some(gzip.compress(right), 25).items()},
        read_idx,
    )


def test_cifar(trial: Trial) -> None:
    trial("cifar10", some(bytes([3]) + bytes(3072), 20, 8), read_cifar10)
    trial("cifar100", some(bytes([3, 50]) + bytes(3072), 20, 8), read_cifar100)


def table(path: Path) -> None:
    read_csv(path, target="kind")


def test_csv(trial: Trial) -> None:
    files = {
        "30 MB of digits": b"a\n" + b"1" * 30_000_000,
        "a field of 200 KB": b"a,kind\n" + b"x" * 200_000 + b",1\n",
        "a zero byte": b"a,kind\n1\0,2\n",
        "a quote that stays open": b'a,kind\n"1,2\n' * 1000,
        "a byte order mark": b"\xef\xbb\xbfa,kind\n1,2\n",
        "UTF-16": "a,kind\n1,2\n".encode("utf-16"),
        "NaN": b"a,kind\nnan,1\n",
        "1e999": b"a,kind\n1e999,1\n",
        "Arabic digits": "a,kind\n\u0661,1\n".encode(),
        "carriage returns": b"a,kind\r1,2\r",
        "a target of 20,000 digits": b"a,kind\n1," + b"9" * 20_000 + b"\n",
        "a name twice": b"kind,kind\n1,2\n",
        "nothing": b"",
        "blank lines": b"\n\n\n",
    }
    trial("csv", files | some(b"a,b,kind\n1,2,x\n3,4.5,y\n", 40), table, ".csv")
    trial("points", files | some(b"x,y\n1,2\n3,4\n", 20), points, ".csv")


# ---- images --------------------------------------------------------------------------------------------------------


def png(width: int, height: int, declared: tuple[int, int] | None = None) -> bytes:
    """A black image; one row more costs a file next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", *(declared or (width, height)), 8, 0, 0, 0, 0)
    body = zlib.compress(bytes((width + 1) * height), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def picture(path: Path) -> None:
    ImageFiles([path], 64)[0]


@pytest.mark.parametrize("read", [picture, digit_images], ids=lambda read: read.__name__)
def test_images(read: Read, trial: Trial) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8))
    files = {
        "a pixel": png(1, 1),
        "16 million pixels": png(4000, 4000),
        "declares 60000 x 60000": png(3, 3, (60_000, 60_000)),
        "declares nothing": png(3, 3, (0, 5)),
        "PGM without pixels": b"P5 99999 99999 255\n",
        "PGM of 16 bits": b"P5 4 4 65535\n" + bytes(32),
        "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
        "BMP of zeros": b"BM" + bytes(60),
        "a text": b"hello",
        "nothing": b"",
    }
    for kind in ("PNG", "JPEG", "GIF", "TIFF"):
        content = io.BytesIO()
        pixels.save(content, kind)
        files |= {f"{kind}, {name}": damage for name, damage in some(content.getvalue(), 12, 100).items()}
    trial("image", files, read, ".png")


@pytest.mark.parametrize("size", [(5000, 1), (1, 20_000), (200_000, 1), (39_000_000, 1)])
def test_long_images(size: tuple[int, int], trial: Trial) -> None:
    trial("image", {"long": png(*size)}, picture, ".png")


def test_a_long_line(trial: Trial) -> None:
    trial("csv", {"25 million columns": b"a," * 25_000_000}, table, ".csv")


# ---- weights and checkpoints ---------------------------------------------------------------------------------------


def safetensors(header: Any, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text)) + text + body


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


NAMES = ("weight", "bias")
TENSORS: Files = {
    "a header of 2^63 bytes": b"\xff" * 8,
    "a header of 100 MB, cut": struct.pack("<Q", 100_000_000) + b"{",
    "nothing": b"",
    "eight zeros": bytes(8),
    "a list": safetensors(b"[]"),
    "lists in lists": safetensors(b"[" * 100_000),
    "objects in objects": safetensors(b'{"a":' * 50_000),
    "bfloat16": safetensors({"weight": entry("BF16", [2, 3], 0, 12), "bias": entry("F32", [2], 12, 20)}, bytes(20)),
    "float8": safetensors({"weight": entry("F8_E4M3", [2, 3], 0, 6)}, bytes(6)),
    "an unknown dtype": safetensors({"w": entry("F99", [2], 0, 8)}, bytes(8)),
    "two that overlap": safetensors({"a": entry("F32", [2], 0, 8), "b": entry("F32", [2], 4, 12)}, bytes(12)),
    "a hole": safetensors({"a": entry("F32", [2], 4, 12)}, bytes(12)),
    "before the file": safetensors({"a": entry("F32", [2], -8, 0)}),
    "larger than the file": safetensors({"a": entry("F32", [2**40, 2**40], 0, 8)}, bytes(8)),
    "an axis of 0, a large one": safetensors({"a": entry("F32", [0, 2**62], 0, 0)}),
    "an axis of 0, two large ones": safetensors({"a": entry("F32", [0, 2**62, 2**62], 0, 0)}),
    "70 axes": safetensors({"a": entry("F32", [1] * 70, 0, 4)}, bytes(4)),
    "complex": safetensors({"a": entry("C64", [1], 0, 8)}, bytes(8)),
    "right names, other dtypes": safetensors(
        {"weight": entry("I64", [2, 3], 0, 48), "bias": entry("F32", [2], 48, 56)}, bytes(56)
    ),
    "right names, NaN": safetensors(
        {"weight": entry("F32", [2, 3], 0, 24), "bias": entry("F32", [2], 24, 32)}, b"\xff" * 32
    ),
    "10,000 arrays": safetensors({f"t{number}": entry("F32", [0], 0, 0) for number in range(10_000)}),
    "a name of 1 MB": safetensors({"x" * 1_000_000: entry("F32", [0], 0, 0)}),
}


def weights(path: Path) -> None:
    load_weights(nn.Linear(3, 2), path)


def test_weights(trial: Trial, tmp_path: Path) -> None:
    save_weights(nn.Linear(3, 2), tmp_path / "right")
    right = (tmp_path / "right").read_bytes()
    trial("weights", TENSORS | some(right, 70, 120), weights)


def test_weights_of_others(trial: Trial, tmp_path: Path) -> None:
    """safetensors, and PyTorch's files with damage to the archive, to the pickle alone, and code in it."""

    def load(path: Path) -> None:
        load_state(nn.Linear(3, 2), path)

    save_weights(nn.Linear(3, 2), tmp_path / "right")
    trial("safetensors", TENSORS | some((tmp_path / "right").read_bytes(), 300, 120), load, ".safetensors")
    arrays = {"weight": np.ones((2, 3), np.float32), "bias": np.zeros(2, np.float32)}
    right = weights_case.pt(arrays)
    trial("pt", some(right, 150), load, ".pt")
    entries = {name: weights_case.tensor(str(key), "FloatStorage", array.size, array.shape, (3, 1)[-array.ndim :])
               for key, (name, array) in enumerate(arrays.items())}  # fmt: skip
    storages = {"0": bytes(24), "1": bytes(8)}
    pickles = some(weights_case.pickled(entries), 150)
    pickles |= {
        "2 million dicts": b"}" * (2 << 20),
        "tuples in tuples": b")" + b"\x85" * 200_000 + b".",
        "a list of itself": b"]q\0h\0a.",
        "a tensor in a list of itself": b"}X\1\0\0\0a]q\0h\0as.",
        "2^40 tuples": b")" + b"2\x86" * 40 + b".",
        "2^40 tuples as a key": b"})" + b"q\0h\0\x86" * 40 + b"K\1s.",
        "2^40 tuples as a size": b"ctorch._utils\n_rebuild_tensor_v2\n(K\0K\0)" + b"q\0h\0\x86" * 40 + b"NNtR.",
        "a number of 1 MB": b"\x8b\0\0\x10\0" + b"\xff" * (1 << 20) + b".",
        "digits": b"L" + b"9" * 100_000 + b"L\n.",
        "a text of 2^60 bytes": b"\x8d" + struct.pack("<Q", 2**60) + b"x",
        "a memo beyond": b"Nr\xff\xff\xff\xffh\0.",
        "marks": b"(" * 200_000 + b"t" * 200_000 + b".",
    }
    trial("pickle", {n: weights_case.archive(p, storages) for n, p in pickles.items()}, load, ".pt")
    trial("no weights", {name: content for name, (content, _) in BAD.items()}, load, ".pt")


@pytest.mark.skipif(not all(map(find_spec, ("h5py", "msgpack"))), reason="needs h5py and msgpack")
def test_weights_of_packages(trial: Trial) -> None:
    """HDF5 of Keras, and the msgpack of Flax."""
    import h5py
    import msgpack

    arrays = {"kernel": np.ones((3, 2), np.float32), "bias": np.zeros(2, np.float32)}
    content = io.BytesIO()
    with h5py.File(content, "w") as store:
        for number, array in enumerate(arrays.values()):
            store.create_dataset(f"layers/dense/vars/{number}", data=array, compression="gzip")
    trial("h5", some(content.getvalue(), 100, 2000), lambda path: load_state(nn.Linear(3, 2), path, "keras"), ".h5")
    packed = {name: msgpack.ExtType(1, msgpack.packb((array.shape, array.dtype.name, array.tobytes())))
              for name, array in arrays.items()}  # fmt: skip
    files = some(msgpack.packb({"params": {"Dense_0": packed}}), 100) | {"arrays in arrays": b"\x91" * 100_000}
    trial("msgpack", files, lambda path: load_state(nn.Linear(3, 2), path, "flax"), ".msgpack")


def signed(text: str, arrays: dict[str, Any] | None = None, body: bytes = b"") -> bytes:
    """A checkpoint whose checksum is right, whatever it holds."""
    content = bytearray(safetensors({"__metadata__": {"gpunn": "0" * 64 + text}} | (arrays or {}), body))
    place = content.index(b'"gpunn":"') + 9
    content[place : place + 64] = hashlib.sha256(content).hexdigest().encode()
    return bytes(content)


def newest(path: Path) -> None:
    """As :func:`load_checkpoint`, and a whole one before it is gone back to."""
    kept = Checkpoints(path.parent / "kept")
    kept.save(1, {"trainer": {"step": 1}})
    kept.path(2).write_bytes(path.read_bytes())
    try:
        load_checkpoint(path)
    except GpunnError:
        assert kept.load_newest() == {"trainer": {"step": 1}}
    else:
        kept.load_newest()


@pytest.mark.parametrize("read", [load_checkpoint, newest], ids=lambda read: read.__name__)
def test_checkpoints(read: Read, trial: Trial, tmp_path: Path) -> None:
    state = {"model": {"w": np.ones(5), "v": np.arange(4)}, "trainer": {"step": 3, "loss": math.nan}}
    save_checkpoint(state, tmp_path / "right")
    right = (tmp_path / "right").read_bytes()
    one = {"model/w": entry("F32", [1], 0, 4)}
    files = TENSORS | {
        **{
            f"the state {text[:20]}": signed(text)
            for text in ("[1, 2]", "3", "null", '{"model": [1]}', '{"model": null}')
        },
        "no JSON": signed("{{"),
        "NaN": signed('{"t": {"a": NaN}}'),
        "no float": signed('{"t": {"a": {"float": "abc"}}}'),
        "a float of 100,000 digits": signed(json.dumps({"t": {"a": {"float": "1" * 100_000}}})),
        "a number of 5,000 digits": signed('{"t": {"a": ' + "9" * 5000 + "}}"),
        "100,000 lists": signed("[" * 100_000),
        "900 lists": signed('{"t": {"a": ' + "[" * 900 + "]" * 900 + "}}"),
        "an array of no part": signed("{}", one, bytes(4)),
        "an array without a part": signed('{"model": {}}', {"w": one["model/w"]}, bytes(4)),
        "float8, signed": signed('{"model": {}}', {"model/w": entry("F8_E4M3", [1], 0, 1)}, bytes(1)),
        "70 axes, signed": signed('{"model": {}}', {"model/w": entry("F32", [1] * 70, 0, 4)}, bytes(4)),
        "too large, signed": signed('{"model": {}}', {"model/w": entry("F32", [0, 2**62, 2**62], 0, 0)}),
        "another's metadata": safetensors({"__metadata__": {"gpunn": "0" * 64}}),
        "no header": safetensors(b'{"gpunn":"'),
    }
    trial("checkpoint", files | some(right, 40), read)


# ---- options and runs ----------------------------------------------------------------------------------------------


def test_options(trial: Trial) -> None:
    files = {
        "a dunder": b"__class__ = 1\n",
        "8,000 lists": b"a = " + b"[" * 8000,
        "a key of 4,000 parts": b".".join([b"a"] * 4000) + b" = 1",
        "a date": b"epochs = 2020-01-01\n",
        "a truth": b"epochs = true\n",
        "infinity": b"lr = inf\n",
        "NaN": b"lr = nan\n",
        "8,000 digits": b"epochs = " + b"9" * 8000,
        "6,000 hexadecimal digits": b"epochs = 0x" + b"f" * 6000,
        "1e99999": b"lr = 1e99999\n",
        "below 0": b"seed = -1\n",
        "a zero byte": b'device = "a\\u0000b"\n',
        "half a character": b'device = "\\ud800"\n',
        "over 8 KiB": b"#" * 9000,
        "a name twice": b"batch-size = 1\nbatch_size = 2\n",
        "UTF-16": "epochs = 3".encode("utf-16"),
        "a control character": b"epochs = 3\x07\n",
        "tables": b"[[epochs]]\n",
    }
    right = b"epochs = 3\nlr = 0.01\nseed = 5\n"
    trial("options", files | some(right, 70), lambda path: read_options(path, digits.Options), ".toml")


CONFIG = {"recipe": "digits", "epochs": 3, "batch_size": 32, "lr": 0.005, "seed": 0, "device": "cpu"}
METRICS = b'{"epoch": 1, "seconds": 1, "train_loss": 0.5, "test_accuracy": 0.9}\n'
SUMMARY = {"status": "finished", "epochs": 3, "seconds": 1.5, "test_accuracy": 0.9, "test_loss": 0.3, "steps": 10}
JSON: Files = {
    "100,000 lists": b"[" * 100_000,
    "5,000 objects": b'{"recipe": "digits", "a": ' + b'{"a":' * 5000 + b"1" + b"}" * 5001,
    "500 objects": b'{"recipe": "digits", "a": ' + b'{"a":' * 500 + b"1" + b"}" * 501,
    "5,000 digits": b'{"recipe": "digits", "epoch": 1, "epochs": ' + b"9" * 5000 + b"}",
    "400 digits": b'{"recipe": "digits", "epoch": 1, "seconds": 1, "train_loss": ' + b"9" * 400 + b"}\n",
    "not finite": b'{"recipe": "digits", "lr": NaN, "epochs": 1e999, "epoch": 1e999}',
    "other types": b'{"recipe": ["digits"], "epoch": true, "train_loss": {"a": 1}, "status": {"a": 1}, "error": [1]}',
    "a recipe of null": b'{"recipe": null}',
    "a script": b'{"recipe": "digits", "epochs": "</script><script>", "epoch": 1, "seconds": 1, "train_loss": "x"}\n',
    "half a character": b'{"recipe": "digits", "device": "\\ud800", "error": "\\udfff", "\\ud800": 1}\n',
    "a zero byte": b'{"recipe": "digits", "device": "\\u0000"}',
    "a list": b"[]",
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"recipe": "digits"}'.encode("utf-16"),
    "a name twice": b'{"recipe": "digits", "recipe": "text", "epoch": 1, "epoch": 2}',
    "values of another version": b'{"status": "finished", "epochs": "x", "seconds": [], "test_accuracy": "a"}',
    "2 MB of lists": b"[" + b"[]," * 700_000 + b"[]]",
    "2 MB of lines": b"1\n" * 1_000_000,
}
LOSSES: Files = {
    f"a loss of {loss}, epoch {epoch}": f'{{"epoch": {epoch}, "seconds": 1, "train_loss": {loss}}}\n'.encode()
    for loss, epoch in (("1e19", 1), ("1e308", 2), ("-1", -5), ("1e-320", 1e300), ("0", 0.5), (10**300, 10**18))
}


def readings(folder: Path) -> None:
    """All that reads a run: the page, the live page, the comparison, and what would open it again."""
    faults = []
    for read in (
        lambda: page.static_page(page.state_of(folder)),
        lambda: [json.dumps(data, allow_nan=False) for _, data in Follower(folder, Figures(folder)).news()],
        lambda: comparison.compare({"a": comparison.read_run(folder)}, True),
        lambda: begun(folder),
    ):
        try:
            read()
        except GpunnError as error:
            faults.append(error)
    for each in faults:
        raise each


def run_with(name: str, read: Read) -> Read:
    """Has ``read`` see a file as the file ``name`` of a run whose others are right."""

    def seen(path: Path) -> None:
        folder = path.parent / f"run {path.name}"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(CONFIG))
        (folder / "summary.json").write_text(json.dumps(SUMMARY))
        (folder / "metrics.jsonl").write_bytes(METRICS)
        (folder / name).write_bytes(path.read_bytes())
        read(folder)

    return seen


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("config.json", json.dumps(CONFIG).encode()),
        ("summary.json", json.dumps(SUMMARY).encode()),
        ("metrics.jsonl", 2 * METRICS),
    ],
)
def test_runs(name: str, right: bytes, trial: Trial) -> None:
    trial(name, JSON | LOSSES | some(right, 40), run_with(name, readings))


@pytest.mark.slow
def test_curves(trial: Trial) -> None:
    trial("curves", LOSSES, run_with("metrics.jsonl", redraw))


def test_texts_and_images_of_a_run(trial: Trial) -> None:
    files = {
        "nothing": b"",
        "all bytes": bytes(range(256)),
        "a script": b"</script><script>alert(1)</script>",
        "a script in a PNG": b"\x89PNG\r\n\x1a\n<script>" + b"IEND\xaeB`\x82",
        "a GIF of nothing": b"GIF89a;",
        "half a character": b"\xed\xa0\x80",
        "20 MB": b"a" * 20_000_000,
    }
    for name in ("sample.txt", "confusion.png", "surface.gif"):
        trial(name, files, run_with(name, readings))


@pytest.mark.slow
def test_filters_of_a_run(trial: Trial, tmp_path: Path) -> None:
    """25 MB of them took half a minute and 1.6 GB."""
    files = TENSORS | {
        "NaN": safetensors({"a": entry("F32", [2, 2, 3, 3], 0, 144)}, b"\xff" * 144),
        "bfloat16, four axes": safetensors({"a": entry("BF16", [2, 2, 3, 3], 0, 72)}, bytes(72)),
        "float8, four axes": safetensors({"a": entry("F8_E4M3", [2, 2, 3, 3], 0, 36)}, bytes(36)),
        "truths": safetensors({"a": entry("BOOL", [2, 2, 3, 3], 0, 36)}, bytes(36)),
        "5000 x 5000 bytes": safetensors({"a": entry("U8", [1, 1, 5000, 5000], 0, 25_000_000)}, bytes(25_000_000)),
        "2048 x 2048": safetensors({"a": entry("F32", [1, 1, 2048, 2048], 0, 2**24)}, bytes(2**24)),
        "64 of 256 x 256": safetensors({"a": entry("F32", [64, 1, 256, 256], 0, 2**24)}, bytes(2**24)),
        "2 x 10,000,000": safetensors({"a": entry("F16", [1, 1, 2, 10**7], 0, 4 * 10**7)}, bytes(4 * 10**7)),
        "20,000": safetensors({"a": entry("F32", [20_000, 1, 3, 3], 0, 720_000)}, bytes(720_000)),
        "20,000 in colour": safetensors({"a": entry("F32", [20_000, 3, 3, 3], 0, 2_160_000)}, bytes(2_160_000)),
        "five axes": safetensors({"a": entry("F32", [1] * 5, 0, 4)}, bytes(4)),
    }
    begin = time.process_time()
    plot.filters(np.ones((96, 3, 11, 11)), tmp_path / "filters.png")
    trial.seconds = max(SECONDS, 2 * (time.process_time() - begin))  # those of AlexNet take their time, too
    trial("filters", files, run_with("model.safetensors", lambda folder: page.state_of(folder)))

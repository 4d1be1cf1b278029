"""Readers of files: right values, and for thousands of damaged files a clear error or what the file says."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import re
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_case import IDX_CODES, damaged, idx_bytes

from gpunn.backend import random_generator
from gpunn.data import DataLoader, NpyDataset, read_cifar10, read_cifar100, read_csv, read_idx, read_npy, read_npz
from gpunn.errors import ArgumentError, FileError, ShapeError

# ---- files, and what they hold, written and read in the plainest way -----------------------------------------------


def idx_value(content: bytes) -> np.ndarray:
    assert content[:2] == b"\0\0"
    dtype, axes = IDX_CODES[content[2]], content[3]
    shape = [int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(axes)]
    return np.frombuffer(content[4 + 4 * axes :], dtype).reshape(shape)


def cifar_value(content: bytes, labels: int) -> list[np.ndarray]:
    records = [content[i : i + 3072 + labels] for i in range(0, len(content), 3072 + labels)]
    images = [[r[labels + 1024 * c : labels + 1024 * (c + 1)] for c in range(3)] for r in records]
    pixels = np.array([[list(plane) for plane in image] for image in images], np.uint8).reshape(-1, 3, 32, 32)
    return [pixels, *(np.array([r[i] for r in records]) for i in reversed(range(labels)))]


def npy_bytes(a: np.ndarray, **settings: object) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, a, allow_pickle=True, **settings)
    return stream.getvalue()


def npz_bytes(compressed: bool = True, **arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(stream, **arrays)
    return stream.getvalue()


def csv_value(content: bytes) -> list[np.ndarray]:
    """The test's tables: a header, then four numbers and a class."""
    lines = [row for row in csv.reader(io.StringIO(content.decode(), newline="")) if row]
    assert all(len(row) == len(lines[0]) for row in lines)
    names = [name.strip() for name in lines[0]]
    column = names.index("kind")
    x = np.array([[float(v) for i, v in enumerate(row) if i != column] for row in lines[1:]], np.float32)
    kinds = [row[column].strip() for row in lines[1:]]
    return [x.reshape(len(kinds), -1), target_value(kinds)]


def target_value(kinds: list[str]) -> np.ndarray:
    try:
        return np.array([int(k) for k in kinds])
    except ValueError:
        pass
    try:
        numbers = np.array([float(k) for k in kinds], np.float32)
        if np.isfinite(numbers).all():
            return numbers
    except ValueError:
        pass
    order = sorted(set(kinds))
    return np.array([order.index(k) for k in kinds])


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes], Path]:
    """Puts bytes into a file."""

    def to_file(content: bytes, name: str = "file") -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return to_file


# ---- right values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", IDX_CODES)
@pytest.mark.parametrize("shape", [(5,), (0,), (1, 1), (3, 4, 5), (2, 0, 3)])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_idx(write, code: int, shape: tuple[int, ...], pack) -> None:
    a = random_generator(0).integers(-100 if code != 8 else 0, 100, shape)
    got = read_idx(write(pack(idx_bytes(a, code))))
    assert (got.shape, got.dtype) == (shape, np.dtype(IDX_CODES[code]).newbyteorder("="))
    np.testing.assert_array_equal(got, a)
    assert got.flags.writeable


@pytest.mark.parametrize("n", [1, 7])
def test_cifar(write, n: int) -> None:
    rng = random_generator(0)
    pixels = rng.integers(256, size=(n, 3072), dtype=np.uint8)
    fine, coarse = rng.integers(100, size=n), rng.integers(20, size=n)
    images, labels = read_cifar10(write(np.column_stack([fine % 10, pixels]).astype(np.uint8).tobytes()))
    np.testing.assert_array_equal(images, pixels.reshape(n, 3, 32, 32))
    assert (images.dtype, labels.dtype, labels.tolist()) == (np.uint8, np.int64, (fine % 10).tolist())
    images, first, second = read_cifar100(write(np.column_stack([coarse, fine, pixels]).astype(np.uint8).tobytes()))
    np.testing.assert_array_equal(images, pixels.reshape(n, 3, 32, 32))
    assert (first.tolist(), second.tolist()) == (fine.tolist(), coarse.tolist())


DTYPES = ["?", "u1", "i8", "<f2", "<f4", ">f4", ">i2", "<c16", "f8"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (0, 2), (2, 3, 4)])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_npy(write, dtype: str, shape: tuple[int, ...], order: str, version: tuple[int, int]) -> None:
    a = np.asarray(random_generator(0).integers(0, 2, shape).astype(dtype), order=order)
    got = read_npy(write(npy_bytes(a, version=version)))
    assert (got.shape, got.dtype) == (shape, np.dtype(dtype).newbyteorder("="))
    np.testing.assert_array_equal(got, a)


@pytest.mark.parametrize("compressed", [True, False])
def test_npz(write, compressed: bool) -> None:
    arrays = {"x": np.arange(6.0).reshape(2, 3).T, "y": np.arange(3), "empty": np.zeros((0, 2), np.float32)}
    got = read_npz(write(npz_bytes(compressed, **arrays)))
    assert got.keys() == arrays.keys()
    for name, a in arrays.items():
        np.testing.assert_array_equal(got[name], a)
        assert got[name].dtype == a.dtype


def test_csv(write) -> None:
    path = write(b'\xef\xbb\xbfa, b,kind\r\n1,2.5, x\r\n\r\n-3e2, 4 ,"w, z"\r\n')
    table = read_csv(path, target="kind")
    assert table.columns == ("a", "b")
    assert (table.x.tolist(), table.x.dtype) == ([[1, 2.5], [-300, 4]], np.float32)
    assert (table.y.tolist(), table.classes) == ([1, 0], ("w, z", "x"))


@pytest.mark.parametrize(
    ("targets", "values", "dtype", "classes"),
    [
        ("3 -1 +2", [3, -1, 2], np.int64, ()),
        ("1.5 2 3", [1.5, 2, 3], np.float32, ()),
        ("b a b", [1, 0, 1], np.int64, ("a", "b")),
        ("+ - +", [0, 1, 0], np.int64, ("+", "-")),
        ("9223372036854775807 -9223372036854775808 16777217", [2**63 - 1, -(2**63), 2**24 + 1], np.int64, ()),
    ],
)
@pytest.mark.parametrize("target", [1, -2])
def test_csv_targets_without_a_header(write, targets: str, values: list, dtype, classes, target: int) -> None:
    lines = [f"{i};{t};{i / 2}" for i, t in enumerate(targets.split())]
    table = read_csv(write("\n".join(lines).encode()), target=target, header=False, delimiter=";")
    assert table.columns == ("0", "2")
    np.testing.assert_array_equal(table.x, [[0, 0], [1, 0.5], [2, 1]])
    assert (table.y.tolist(), table.y.dtype, table.classes) == (values, dtype, classes)


def test_csv_without_a_target(write) -> None:
    table = read_csv(write(b"1,2\n3,4"), header=False)
    assert table.x.tolist() == [[1, 2], [3, 4]]
    assert table.y is None
    only_target = read_csv(write(b"y\n1\n2\n"), target="y")
    assert (only_target.x.shape, only_target.y.tolist()) == ((2, 0), [1, 2])


@pytest.mark.parametrize("mark", ["NA", "n/a", "nan", "NULL", "?", "None", "a", "1_0", "2,5", "5%", "1 000", "0x10"])
@pytest.mark.parametrize("others", ["1.5 2.5", "1 2", "cat dog"])
def test_targets_that_may_be_numbers_or_classes(write, mark: str, others: str) -> None:
    """One such value must not make classes of a column of numbers, nor be a class without a word."""
    first, last = others.split()
    texts = sorted({first, mark, last})
    path = write(f"x;y\n1;{first}\n\n2;{mark}\n3;{last}\n".encode())
    table = read_csv(path, "y", delimiter=";", classes=True)
    assert (table.classes, [table.classes[i] for i in table.y]) == (tuple(texts), [first, mark, last])
    assert table.guessed == ()
    if others == "cat dog" and mark in ("a", "0x10"):
        return
    with pytest.raises(
        FileError, match=rf"line 4: column 'y': {re.escape(repr(mark))} .* or (be )?the name of a class"
    ):
        read_csv(path, "y", delimiter=";")
    with pytest.raises(FileError, match=r"line \d: column 'y': a finite float32 number is needed, got "):
        read_csv(path, "y", delimiter=";", classes=False)


@pytest.mark.parametrize(
    ("content", "columns", "samples", "guess"),
    [
        (b"1,2\n3,4\n5,6\n", ("0",), 3, "line 1 is the first sample, as it has numbers"),
        (b"\n1.5,cat\n2.5,dog\n", ("0",), 2, "line 2 is the first sample, as it has numbers"),
        (b"a,b\n1,2\n", ("a",), 1, "line 1 names the columns, as it has no number"),
        (b",Mg\n1,2\n", ("",), 1, "line 1 names the columns, as it has no number"),
        (b"2019,2020\n1,2\n", ("0",), 2, "line 1 is the first sample, as it has numbers"),
    ],
)
def test_the_first_line_of_a_csv_is_guessed_and_said(write, content, columns, samples, guess) -> None:
    path = write(content)
    table = read_csv(path, target=-1)
    assert (table.columns, len(table.x), len(table.y), table.guessed[0]) == (columns, samples, samples, guess)
    assert len(table.guessed) == 2
    assert table.guessed[1].startswith("the targets are ")
    told = read_csv(path, target=-1, header=True, classes=True)
    assert (len(told.x), told.guessed) == (len(content.split()) - 1, ())


@pytest.mark.parametrize(
    ("content", "target", "message"),
    [
        (b"0,1,2\n1.5,2.5,3.5\n", None, "line 1: 0 to 2 may be the numbers of the columns, or the first sample: pass"),
        (b"cat\ndog\n", 0, "line 1: column '0': 'cat' may be the name of the column, or the first target: pass header"),
        (b"150,4,setosa\n5.1,3.5,0\n", -1, "line 1: column '2': 'setosa' among numbers such as '0'"),
        (b"150,setosa,4\n5.1,3.5,0\n", -1, "line 1: column '1': .* got 'setosa'; if this line names the columns, .*"),
        (b"NA,NA\n1,2\n", None, "line 1: column '0': a finite float32 number is needed, got 'NA'"),
    ],
)
def test_a_first_line_that_can_be_read_in_two_ways(write, content: bytes, target: int | None, message: str) -> None:
    path = write(content)
    with pytest.raises(FileError, match=message):
        read_csv(path, target)
    assert len(read_csv(path, target, header=True).x) == 1


@pytest.mark.parametrize(
    ("integer", "nearest"),
    [("16777217", "16777216"), ("-33554433", "33554432"), ("+00123456789", "123456792"), ("9" * 30, "1" + "0" * 5)],
)
def test_integers_that_float32_cannot_hold(write, integer: str, nearest: str) -> None:
    said = rf"line 3: column 'b': float32 has no {re.escape(integer)}, the nearest is -?{nearest}\d*: .* one that was"
    for other, target in (("2", None), ("2.5", "b")):
        with pytest.raises(FileError, match=said):
            read_csv(write(f"a,b\n1,{other}\n1,{integer}\n".encode()), target)
    measured = read_csv(write(f"a,b\n16777216,2\n1,{integer}.0\n".encode()))
    np.testing.assert_allclose(measured.x, [[2**24, 2], [1, float(integer)]], rtol=1e-7)
    assert read_csv(write(b"a,b\n33554432,-16777218\n")).x.tolist() == [[33554432, -16777218]]


def test_integers_that_are_labels(write) -> None:
    labels = read_csv(write(b"x,y\n1,16777217\n2,16777216\n"), target="y").y
    assert labels.tolist() == [2**24 + 1, 2**24]
    path = write(b"x,y\n1,9223372036854775808\n2,9223372036854775809\n")
    with pytest.raises(FileError, match="line 2: column 'y': the integer 9223372036854775808 is beyond int64"):
        read_csv(path, target="y")
    assert read_csv(path, target="y", classes=True).y.tolist() == [0, 1]


def test_csv_arguments(write) -> None:
    path = write(b"a,b\n1,2\n")
    for target in (True, 1.0):
        with pytest.raises(ArgumentError, match="target must be the name or the number of a column, got target="):
            read_csv(path, target)
    for delimiter in ("||", "", None):
        with pytest.raises(ArgumentError, match="delimiter must be one character, got delimiter="):
            read_csv(path, delimiter=delimiter)


# ---- clear errors --------------------------------------------------------------------------------------------------

ONE_IDX = idx_bytes(np.zeros((2, 3)))
ONE_NPY = npy_bytes(np.zeros((2, 3), np.float32))


def _npy(shape: str, body: bytes = b"") -> bytes:
    """An ``.npy`` file of float32 numbers that says any shape."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + body


@pytest.mark.parametrize(
    ("reader", "content", "message"),
    [
        (read_idx, b"", "byte 0: cut short: the magic number end at byte 4"),
        (read_idx, b"\0\1\x08\1", "byte 0: no IDX file: its magic number is 0x00010801"),
        (read_idx, b"\0\0\7\1", "byte 0: no IDX file: its magic number is 0x00000701"),
        (read_idx, b"\0\0\x08\0", "byte 3: an IDX file has 1 to 32 axes here, got 0"),
        (
            read_idx,
            b"\0\0\x08\x03" + bytes(4) + b"\xff" * 8,
            r"byte 4: NumPy has no array of 3 axes \(0, 4294967295, 4294967295\): array is too big",
        ),
        (read_idx, ONE_IDX[:9], "byte 9: cut short: the sizes end at byte 12"),
        (read_idx, ONE_IDX[:-1], r"byte 17: cut short: uint8 numbers of shape \(2, 3\) end at byte 18"),
        (read_idx, ONE_IDX + b"x", "byte 18: has bytes left over"),
        (read_idx, gzip.compress(ONE_IDX + b"x", mtime=0), "byte 18: has bytes left over"),
        (read_idx, gzip.compress(ONE_IDX[:-1], mtime=0), "byte 17: cut short: the numbers end at byte 18"),
        (read_idx, gzip.compress(ONE_IDX, mtime=0)[:-9], "byte .*: not whole gzip data"),
        (read_idx, gzip.compress(ONE_IDX[:4] + b"\xff" * 8, mtime=0), "4294967295.* bytes of gzip cannot hold them"),
        (read_idx, ONE_IDX[:4] + b"\xff" * 8, r"cut short: uint8 numbers of shape \(4294967295, 4294967295\) end at"),
        (read_cifar10, b"", "byte 0: the file is empty"),
        (read_cifar10, bytes(3073 + 5), "byte 3078: cut short: a record takes 3073 bytes, the last one has 5"),
        (read_cifar10, bytes(3073) + b"\x0b" + bytes(3072), "byte 3073: a label must be from 0 to 9, got 11 in record"),
        (read_cifar100, b"\x14" + bytes(3073), "byte 0: a label must be from 0 to 19, got 20 in record 0"),
        (read_cifar100, b"\0\x64" + bytes(3072), "byte 1: a label must be from 0 to 99, got 100 in record 0"),
        (read_npy, b"PK\3\4 more", "byte 0: no .npy file"),
        (read_npy, ONE_NPY[:6] + b"\7\0" + ONE_NPY[8:], "byte 6: the version must be .* got 7.0"),
        (read_npy, ONE_NPY[:8] + b"\xff\xff" + ONE_NPY[10:], "byte 8: the header declares 65535 bytes, the file has"),
        (read_npy, ONE_NPY[:-4], r"byte 148: cut short: float32 numbers of shape \(2, 3\) end at byte 152"),
        (read_npy, ONE_NPY + b"xx", "byte 152: has bytes left over"),
        (read_npy, ONE_NPY.replace(b"(2, 3)", b"(-, 3)"), "the header cannot be read: \"'shape'"),
        (read_npy, ONE_NPY.replace(b"(2, 3)", b"(2 3) "), "byte .*: shape must be a tuple"),
        (read_npy, _npy("(" + "1," * 64 + "1)", bytes(4)), r"byte 10: NumPy has no array of 65 axes \(1, 1, .*"),
        (
            read_npy,
            _npy("(0, 9999999999999999999)"),
            r"byte 10: NumPy has no array of 2 axes \(0, 9999999999999999999\)",
        ),
        (NpyDataset, _npy("(0, 4000000000, 4000000000)"), "byte 10: NumPy has no array of 3 axes .*: array is too big"),
        (read_npy, ONE_NPY.replace(b"'shape'", b"'shapy'"), "must have descr, fortran_order and shape, got"),
        (read_npy, ONE_NPY.replace(b"'<f4'", b"'|O8'"), r"byte .*: only arrays of numbers .* got descr '\|O8'"),
        (read_npy, ONE_NPY.replace(b"(2, 3)", b"(2**3)"), "the header cannot be read"),
        (read_npy, npy_bytes(np.array([{}], object)), "only arrays of numbers are read .*unpickled"),
        (read_npy, npy_bytes(np.array(["a"])), r"only arrays of numbers are read .* got descr '<U1'"),
        (read_npz, b"no zip file", "no whole .npz file: BadZipFile"),
        (read_npz, npz_bytes(x=np.array([None])), r"\[x.npy\]: byte .*only arrays of numbers"),
        (read_csv, b"", "byte 0: the file is empty"),
        (read_csv, b"a,b\n", "there is no line of values"),
        (read_csv, b"a,b\n1,2\n3,\n", "line 3: column 'b': the value is missing"),
        (read_csv, b"a,b\n1,2\n\n3,n/a\n", "line 4: column 'b': a finite float32 number is needed, got 'n/a'"),
        (read_csv, b"a,b\n1,nan\n", "line 2: column 'b': a finite float32 number is needed, got 'nan'"),
        (read_csv, b"a,b\n1,1e39\n", "line 2: column 'b': a finite float32 .* got '1e39'"),
        (read_csv, b"a,b\n1,1_0\n", "line 2: column 'b': a finite float32 .* got '1_0'"),
        (read_csv, b"a,b\n1,2,3\n", "line 2: 2 columns are needed, got 3"),
        (read_csv, b'a,b\n1,"2\n', "line 2: unexpected end of data"),
        (read_csv, b"a,b\n1,\xff\n", "byte 6: no UTF-8: invalid start byte"),
    ],
)
def test_errors_name_file_place_and_cause(write, reader, content: bytes, message: str) -> None:
    path = write(content)
    with pytest.raises(FileError, match=message) as caught:
        reader(path)
    assert str(caught.value).startswith(str(path))


def test_csv_target_errors(write) -> None:
    path = write(b"a,b,b\n1,2,3\n4,5,\n")
    with pytest.raises(FileError, match="one column must be called 'c', got the columns"):
        read_csv(path, target="c")
    with pytest.raises(FileError, match="one column must be called 'b'"):
        read_csv(path, target="b")
    with pytest.raises(FileError, match="from -3 to 2, got target=3"):
        read_csv(path, target=3)
    with pytest.raises(FileError, match="line 3: column 'b': the value is missing"):
        read_csv(path, target=2)


@pytest.mark.parametrize("reader", [read_idx, read_cifar10, read_cifar100, read_npy, read_npz, read_csv, NpyDataset])
def test_missing_files(reader, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="nowhere: cannot be read: No such file"):
        reader(tmp_path / "nowhere")
    with pytest.raises(FileError, match="cannot be read: Is a directory"):
        reader(tmp_path)


def test_npz_with_overlapping_members_is_refused(write) -> None:
    """A small zip file whose members share one packed stream declares far more than it holds."""
    content = bytearray(npz_bytes(x=np.zeros(1 << 20)))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        start, info = archive.start_dir, archive.infolist()[0]
    entry, end = bytes(content[start:-22]), bytearray(content[-22:])
    assert info.file_size > 500 * info.compress_size
    entries = [entry.replace(b"x.npy", b"%c.npy" % (97 + i)) for i in range(3)]
    end[8:12], end[12:16] = struct.pack("<HH", 3, 3), struct.pack("<I", 3 * len(entry))
    with pytest.raises(FileError, match=r"declares \d+ bytes; there may be at most \d+"):
        read_npz(write(bytes(content[:start]) + b"".join(entries) + bytes(end)))


# ---- damaged files -------------------------------------------------------------------------------------------------


def listed(value: object) -> list[np.ndarray]:
    if isinstance(value, dict):
        return [value[k] for k in sorted(value)]
    return list(value) if isinstance(value, tuple | list) else [value]


_RNG = random_generator(8)
_TABLE = "a,b,c,d,kind\n" + "".join(
    ",".join(f"{v:.3g}" for v in _RNG.normal(0, 100, 4)) + f",{'xyz'[i % 3]}\n" for i in range(12)
)
IDX = idx_bytes(_RNG.integers(256, size=(5, 4, 3)))
NPZ = npz_bytes(x=_RNG.normal(size=(5, 4)).astype(np.float32), y=np.arange(5))
PLAIN_NPZ = npz_bytes(False, x=_RNG.normal(size=(5, 4)).astype(np.float32), y=np.arange(5))


def npz_value(content: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


CASES = {
    "idx": (read_idx, IDX, 16, idx_value),
    "idx.gz": (read_idx, gzip.compress(IDX, mtime=0), 24, lambda c: idx_value(gzip.decompress(c))),
    "cifar10": (read_cifar10, b"\3" + _RNG.bytes(3072) + b"\1" + _RNG.bytes(3072), 2, lambda c: cifar_value(c, 1)),
    "cifar100": (read_cifar100, b"\3\x40" + _RNG.bytes(3072), 2, lambda c: cifar_value(c, 2)),
    "npy": (read_npy, npy_bytes(_RNG.normal(size=(5, 4))), 80, lambda c: np.load(io.BytesIO(c), allow_pickle=False)),
    "npz": (read_npz, NPZ, len(NPZ), npz_value),
    "npz, not packed": (read_npz, PLAIN_NPZ, len(PLAIN_NPZ), npz_value),
    "csv": (lambda path: read_csv(path, "kind")[:2], _TABLE.encode(), len(_TABLE), csv_value),
    "npy, rows": (
        lambda path: NpyDataset(path).batch(np.arange(len(NpyDataset(path)))),
        npy_bytes(_RNG.normal(size=(5, 4))),
        80,
        lambda c: np.load(io.BytesIO(c), allow_pickle=False),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_thousand_damaged_files(case: str, tmp_path: Path) -> None:
    reader, content, header, plainly = CASES[case]
    path, rng = tmp_path / "damaged", random_generator(0)
    read, peak = 0, 0
    for number in range(2000):
        changed = damaged(content, rng, header)
        path.unlink(missing_ok=True)  # one that is cut to nothing and written anew goes to the disk at once
        path.write_bytes(changed)
        tracemalloc.start()
        start = time.thread_time()  # the machine may be busy with something else
        try:
            value = reader(path)
        except FileError as error:
            value, message = None, str(error)
        except Exception as error:
            raise AssertionError(f"file {number}: {changed[:300]!r}") from error
        finally:
            seconds = time.thread_time() - start
            peak = max(peak, tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert seconds < 1, (number, changed[:200])
        if value is None:
            assert message.startswith(str(path)), (number, message)
        else:
            read += 1
            for a, b in zip(listed(value), listed(plainly(changed)), strict=True):
                np.testing.assert_array_equal(a, b, err_msg=f"{number}: {changed[:300]!r}")
    assert peak < 50e6
    assert 10 < read < 1700  # the test sees both
    tracemalloc.start()
    try:
        for _ in range(200):
            path.unlink()
            path.write_bytes(damaged(content, rng, header))
            with contextlib.suppress(FileError):
                reader(path)
        assert tracemalloc.get_traced_memory()[0] < 5e6  # nothing is kept
    finally:
        tracemalloc.stop()


# ---- larger than memory --------------------------------------------------------------------------------------------


def test_npy_dataset_reads_rows(tmp_path: Path) -> None:
    rng = random_generator(0)
    x, y = rng.normal(size=(50, 3, 2)).astype(">f4"), rng.integers(10, size=50)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    data = NpyDataset(tmp_path / "x.npy", tmp_path / "y.npy")
    assert len(data) == 50
    for indices in ([3], [0, 1, 2, 9, 8, 7, 7, 49], [], list(range(50))):
        a, b = data.batch(np.array(indices, np.int64))
        np.testing.assert_array_equal(a, x[indices])
        assert b.tolist() == y[indices].tolist()
        assert a.dtype == np.float32
    np.testing.assert_array_equal(data[-1][0], x[-1])
    assert data[-1][1] == y[-1]
    settings = {"shuffle": True, "seed": 0}
    plain = list(DataLoader(data, 7, **settings))
    for kind in ("thread", "process"):
        for (a, b), (c, d) in zip(DataLoader(data, 7, workers=2, worker_kind=kind, **settings), plain, strict=True):
            np.testing.assert_array_equal(a, c)
            np.testing.assert_array_equal(b, d)


def test_npy_dataset_errors(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.asfortranarray(np.zeros((4, 3))))
    with pytest.raises(FileError, match="Fortran order: rows lie scattered"):
        NpyDataset(path)
    np.save(path, np.array(3.0))
    with pytest.raises(FileError, match="an axis of rows is needed"):
        NpyDataset(path)
    np.save(path, np.zeros((4, 3)))
    np.save(tmp_path / "y.npy", np.zeros(3))
    with pytest.raises(ShapeError, match=r"one length, got lengths=\[4, 3\]"):
        NpyDataset(path, tmp_path / "y.npy")
    with pytest.raises(ArgumentError, match="there must be a file"):
        NpyDataset()
    data = NpyDataset(path)
    with pytest.raises(ArgumentError, match="indices must be from 0"):
        data.batch(np.array([4]))
    with pytest.raises(IndexError, match="4 samples, got index=4"):
        data[4]
    with open(path, "r+b") as file:
        file.truncate(128 + 30)
    assert data[0].tolist() == [0, 0, 0]
    with pytest.raises(FileError, match="byte 158: cut short since it was opened"):
        data[1]


# Not getrusage: its maximum is at first that of the process that started this one.
STREAM = r"""
import re, sys
from gpunn.data import DataLoader, NpyDataset
loader = DataLoader(NpyDataset(sys.argv[1]), 16, shuffle=True, seed=0, workers=2)
rows = [row for batch in loader for row in batch[:, 0].tolist()]
peak = re.search(r"VmHWM:\s+(\d+) kB", open("/proc/self/status").read())[1]
print(len(rows), sum(rows), peak)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the peak")
def test_four_gigabytes_stream_in_little_memory(tmp_path: Path) -> None:
    """A file with holes: 4 GiB to read, in random order, and almost nothing on the disk."""
    rows, width = 4096, 1 << 18
    path = tmp_path / "large.npy"
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (rows, width)})
        start = file.tell()
        file.truncate(start + rows * width * 4)
        file.seek(start + 4095 * width * 4)
        file.write(np.float32(7).tobytes())
    assert path.stat().st_size > 4 << 30
    done = subprocess.run([sys.executable, "-c", STREAM, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    count, total, kilobytes = map(float, done.stdout.split())
    assert (count, total) == (rows, 7)
    assert kilobytes < 400e3  # of the whole process: Python, NumPy, and a few batches of 17 MB

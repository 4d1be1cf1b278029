"""Downloads from a server of our own, and the public data sets from files of their format."""

from __future__ import annotations

import gzip
import hashlib
import io
import sys
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from data_case import idx_bytes

from gpunn.data import cifar10, cifar100, fashion_mnist, mnist
from gpunn.data.download import Remote, cache_folder, fetch
from gpunn.errors import FileError, PackageError

CONTENT = bytes(range(256)) * 40


class Site:
    """What the server has, what it was asked, and how it fails."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.cut: int | None = None  # the next answer ends after so many bytes
        self.ranges = True
        self.url = ""


class Handler(BaseHTTPRequestHandler):
    def __init__(self, site: Site, *args: object) -> None:
        self.site = site
        super().__init__(*args)

    def do_GET(self) -> None:
        name, wanted = self.path.lstrip("/"), self.headers.get("Range")
        self.site.asked.append((name, wanted))
        if name not in self.site.files:
            self.send_error(404)
            return
        content, first = self.site.files[name], 0
        if wanted and self.site.ranges:
            first = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if first >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        cut, self.site.cut = self.site.cut, None
        self.wfile.write(content[first:] if cut is None else content[first : first + cut])

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def site() -> Iterator[Site]:
    pytest.importorskip("pooch")
    site = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, site))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_address[1]}/"
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


def remote(site: Site, content: bytes = CONTENT, name: str = "file.bin") -> Remote:
    return Remote(name, site.url + name, hashlib.sha256(content).hexdigest())


def test_a_file_is_downloaded_once(site: Site, tmp_path: Path) -> None:
    site.files["file.bin"] = CONTENT
    folder = tmp_path / "new" / "cache"
    path = fetch(remote(site), folder)
    assert path.read_bytes() == CONTENT
    assert fetch(remote(site), folder, download=False) == path
    assert fetch(remote(site), folder) == path
    assert len(site.asked) == 1
    assert [p.name for p in folder.iterdir()] == ["file.bin"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_broke_off_goes_on(site: Site, tmp_path: Path, ranges: bool) -> None:
    site.files["file.bin"], site.cut, site.ranges = CONTENT, 3000, ranges
    with pytest.raises(FileError, match=r"cannot be downloaded from http.*ended after 3000 of 10240.*run it again"):
        fetch(remote(site), tmp_path)
    assert not (tmp_path / "file.bin").exists()
    assert fetch(remote(site), tmp_path).read_bytes() == CONTENT
    assert site.asked == [("file.bin", None), ("file.bin", "bytes=3000-")]
    assert [p.name for p in tmp_path.iterdir()] == ["file.bin"]


def test_a_part_that_is_all_of_it_is_taken(site: Site, tmp_path: Path) -> None:
    site.files["file.bin"] = CONTENT
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    assert fetch(remote(site), tmp_path).read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing_and_can_be_mended(site: Site, tmp_path: Path) -> None:
    site.files["file.bin"] = CONTENT[:-1] + b"x"
    with pytest.raises(FileError, match="file.bin: not kept: what http.* gives has another SHA-256 than"):
        fetch(remote(site), tmp_path)
    assert list(tmp_path.iterdir()) == []
    site.files["file.bin"] = CONTENT
    assert fetch(remote(site), tmp_path).read_bytes() == CONTENT
    (tmp_path / "file.bin").write_bytes(b"other")
    with pytest.raises(FileError, match="file.bin: damaged or another file: its SHA-256 is .* not .*; remove it"):
        fetch(remote(site), tmp_path)
    assert (tmp_path / "file.bin").read_bytes() == b"other"  # a user's file is never written over


def test_servers_that_have_nothing_or_are_not_there(site: Site, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="file.bin: cannot be downloaded from http.*: the server answers 404"):
        fetch(remote(site), tmp_path)
    nowhere = Remote("file.bin", "http://127.0.0.1:1/file.bin", "0" * 64)
    with pytest.raises(FileError, match="cannot be downloaded from http://127.0.0.1:1/file.bin: .*refused"):
        fetch(nowhere, tmp_path)


def test_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for load in (mnist, fashion_mnist, cifar10, cifar100):
        with pytest.raises(FileError, match="gz: no such file, and download=False: get it from http"):
            load(tmp_path, download=False)
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(PackageError, match=r"pooch downloads it .*pip install .*\[train\]"):
        mnist(tmp_path)


def test_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GPUNN_DATA", str(tmp_path))
    assert cache_folder("mnist") == tmp_path / "mnist"
    monkeypatch.delenv("GPUNN_DATA")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("mnist") == tmp_path / "gpunn" / "data" / "mnist"


# ---- the data sets -------------------------------------------------------------------------------------------------


def images_and_labels(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(256, size=(n, 28, 28), dtype=np.uint8), rng.integers(10, size=n)


def write_mnist(folder: Path) -> None:
    for seed, (part, n) in enumerate({"train": 6, "t10k": 3}.items()):
        x, y = images_and_labels(n, seed)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx_bytes(x))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(y))


@pytest.mark.parametrize("load", [mnist, fashion_mnist])
def test_mnist_from_a_folder(load, tmp_path: Path) -> None:
    write_mnist(tmp_path)
    for seed, (x, y) in enumerate(load(tmp_path, download=False)):
        images, labels = images_and_labels(len(y), seed)
        assert (x.shape, x.dtype, y.dtype) == ((len(y), 1, 28, 28), np.float32, np.int64)
        np.testing.assert_array_equal(x[:, 0], np.float32(images) / np.float32(255))
        np.testing.assert_array_equal(y, labels)


def test_mnist_of_other_sizes_is_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    labels = tmp_path / "train-labels-idx1-ubyte"
    good = labels.read_bytes()
    labels.write_bytes(idx_bytes(np.zeros(5)))
    with pytest.raises(FileError, match=r"train-labels-idx1-ubyte: .*6 labels of a byte are needed, got uint8 \(5,\)"):
        mnist(tmp_path)
    labels.write_bytes(good[:-1] + b"\x0c")
    with pytest.raises(FileError, match="a label must be from 0 to 9, got 12 of image 5"):
        mnist(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros((6, 28, 27))))
    with pytest.raises(FileError, match=r"images of 28×28 bytes are needed, got uint8 \(6, 28, 27\)"):
        mnist(tmp_path)


def test_mnist_is_downloaded(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["gpunn.data.mnist"]  # gpunn.data.mnist is the function
    write_mnist(tmp_path)
    for name in module._FILES:
        site.files[name] = gzip.compress((tmp_path / name.removesuffix(".gz")).read_bytes())
    sums = tuple(hashlib.sha256(site.files[name]).hexdigest() for name in module._FILES)
    monkeypatch.setattr(module, "_MNIST", site.url)
    monkeypatch.setattr(module, "_MNIST_SHA256", sums)
    monkeypatch.setenv("GPUNN_DATA", str(tmp_path / "cache"))
    (x, y), (x_test, y_test) = mnist()
    assert (x.shape, y.shape, x_test.shape, y_test.shape) == ((6, 1, 28, 28), (6,), (3, 1, 28, 28), (3,))
    assert sorted(name for name, _ in site.asked) == sorted(module._FILES)
    again = mnist(download=False)
    np.testing.assert_array_equal(again[0][0], x)
    assert len(site.asked) == 4


def records(n: int, labels: list[np.ndarray], seed: int) -> tuple[np.ndarray, bytes]:
    pixels = np.random.default_rng(seed).integers(256, size=(n, 3072), dtype=np.uint8)
    return pixels, np.column_stack([*labels, pixels]).astype(np.uint8).tobytes()


def archive(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"folder/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def test_cifar_is_downloaded_and_unpacked(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["gpunn.data.cifar"]
    names = (*module._TRAIN10, *module._TEST10)
    made = {name: records(2, [np.arange(2) + i], i) for i, name in enumerate(names)}
    content = archive({name: raw for name, (_, raw) in made.items()})
    site.files["cifar-10-binary.tar.gz"] = content
    monkeypatch.setattr(module, "_CIFAR10", remote(site, content, "cifar-10-binary.tar.gz"))
    for _ in range(2):
        (x, y), (x_test, y_test) = cifar10(tmp_path)
        pixels = np.concatenate([made[name][0] for name in names]).reshape(12, 3, 32, 32)
        np.testing.assert_array_equal(np.concatenate([x, x_test]), np.float32(pixels) / np.float32(255))
        assert (x.shape, x.dtype) == ((10, 3, 32, 32), np.float32)
        assert y.tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
        assert y_test.tolist() == [5, 6]
        assert y.dtype == np.int64
    assert len(site.asked) == 1
    monkeypatch.setattr(module, "_CIFAR10", remote(site, b"", "cifar-10-binary.tar.gz"))
    assert len(cifar10(tmp_path, download=False)[0][0]) == 10  # the files are there: the archive is not looked at


def test_cifar100_labels(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["gpunn.data.cifar"]
    made = {name: records(3, [np.arange(3), np.arange(3) * 40], 0)[1] for name in ("train.bin", "test.bin")}
    content = archive(made)
    site.files["cifar-100-binary.tar.gz"] = content
    monkeypatch.setattr(module, "_CIFAR100", remote(site, content, "cifar-100-binary.tar.gz"))
    assert cifar100(tmp_path)[0][1].tolist() == [0, 40, 80]
    assert cifar100(tmp_path, coarse=True)[1][1].tolist() == [0, 1, 2]
    for bad, message in [
        (archive({"train.bin": made["train.bin"]}), "the archive lacks the file 'test.bin'"),
        (content[:2000], "cannot be unpacked into"),
    ]:
        (tmp_path / "test.bin").unlink()
        (tmp_path / "cifar-100-binary.tar.gz").write_bytes(bad)
        monkeypatch.setattr(module, "_CIFAR100", remote(site, bad, "cifar-100-binary.tar.gz"))
        with pytest.raises(FileError, match=message):
            cifar100(tmp_path)
        (tmp_path / "test.bin").write_bytes(made["test.bin"])

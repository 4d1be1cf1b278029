"""Writing and opening files: links, modes, special files, and the umask."""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpunn import files, nn, plot
from gpunn.checkpoint import load_checkpoint, load_weights, save_checkpoint, save_weights
from gpunn.data import read_csv, read_npy
from gpunn.errors import FileError
from gpunn.files import open_file, read_file, within, write_atomically
from gpunn.interop.onnx import export
from gpunn.train import JsonLines

posix = pytest.mark.skipif(os.name != "posix", reason="links, modes and FIFOs are POSIX's")
PATIENCE = 30  # seconds, for a busy machine


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@posix
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o027, 0o077])
def test_a_new_file_has_the_mode_that_the_umask_leaves(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "new", b"x")
        write_atomically(tmp_path / "mine", b"x", private=True)
    finally:
        assert os.umask(before) == umask
    assert mode_of(tmp_path / "new") == 0o666 & ~umask
    assert mode_of(tmp_path / "mine") == 0o600


def test_the_umask_is_never_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the process's: a file that another thread made meanwhile got another mode, and two could leave it so."""

    def changed(mask: int) -> int:
        raise AssertionError(f"umask({mask:o})")

    monkeypatch.setattr(os, "umask", changed)
    write_atomically(tmp_path / "file", b"x")
    assert (tmp_path / "file").read_bytes() == b"x"


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o666, 0o755])
def test_a_file_that_was_there_hands_on_its_mode(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(mode)
    write_atomically(path, b"new")
    assert (path.read_bytes(), mode_of(path)) == (b"new", mode)


@posix
def test_what_was_hidden_is_hidden_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen = tmp_path / "file", []
    path.touch(mode=0o600)
    fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: (seen.append(stat.S_IMODE(os.fstat(handle).st_mode)), fsync(handle))
    )
    write_atomically(path, b"secret", durable=True)
    assert seen[0] == 0o600


@posix
def test_the_owner_is_kept_where_the_system_allows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o664)
    if os.geteuid() == 0:
        os.chown(path, 1234, 1234)
        write_atomically(path, b"new")
        assert (path.stat().st_uid, path.stat().st_gid, mode_of(path)) == (1234, 1234, 0o664)

    def refuse(*_: Any) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "chown", refuse)
    path.chmod(0o664)
    before = path.stat()
    files._hand_on(os.stat_result((*before[:5], before.st_gid + 1, *before[6:])), path)
    assert mode_of(path) == 0o644  # another group gets what everybody gets


@posix
@pytest.mark.parametrize("dangling", [False, True])
def test_links_are_followed(dangling: bool, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "target", tmp_path / "link"
    if not dangling:
        target.write_text("old")
    link.symlink_to(Path("there", "target"))
    (tmp_path / "second").symlink_to(link)
    write_atomically(tmp_path / "second", b"new")
    assert target.read_bytes() == b"new"
    assert link.is_symlink()
    assert (tmp_path / "second").is_symlink()
    assert sorted(os.listdir(tmp_path / "there")) == ["target"]


@posix
def test_a_link_to_itself(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("link")
    with pytest.raises(OSError, match="symbolic links"):
        write_atomically(tmp_path / "link", b"x")
    assert os.listdir(tmp_path) == ["link"]


@posix
def test_a_link_into_a_folder_that_is_missing_makes_none(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(Path("no", "such", "file"))
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "link", b"x")
    assert os.listdir(tmp_path) == ["link"]


def special_files(folder: Path) -> dict[str, Path]:
    """One of each kind; the device is a node of our own, if we may make it, and never one of the system."""
    made = {name: folder / name for name in ("FIFO", "socket")}
    os.mkfifo(made["FIFO"])
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(made["socket"]))  # a longer path is too long for a socket
    try:
        os.mknod(folder / "device", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        made["device"] = folder / "device"
    except PermissionError:
        pass
    return made


WRITERS: dict[str, Callable[[Path], object]] = {
    "bytes": lambda path: write_atomically(path, b"x"),
    "weights": lambda path: save_weights(nn.Linear(2, 2), path),
    "checkpoint": lambda path: save_checkpoint({"a": {"x": np.ones(2)}}, path),
    "figure": lambda path: plot.lines({"y": ([0, 1], [0, 1])}, path, "x", "y"),
    "film": lambda path: plot.animate_decision_surface(
        [("a", plot.surface(lambda p: p[:, 0], np.eye(2), 5))], np.eye(2), np.arange(2), path
    ),
    "onnx": lambda path: export(nn.Linear(2, 2), np.zeros((1, 2), np.float32), path),
    "records": lambda path: JsonLines(path)._write([{"epoch": 1}]),
}


@posix
@pytest.mark.parametrize("writer", WRITERS)
def test_every_writer_refuses_special_files_and_follows_links(
    writer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write = WRITERS[writer]
    for name, path in special_files(tmp_path).items():
        kind = stat.S_IFMT(path.lstat().st_mode)
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to(path)
        for given in (path, tmp_path / "link"):
            with pytest.raises(OSError, match=f"not a regular file, but a {name}"):
                write(given)
        assert stat.S_IFMT(path.lstat().st_mode) == kind
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        write(tmp_path / "folder")
    (tmp_path / "whole").symlink_to("target")
    write(tmp_path / "whole")
    assert (tmp_path / "target").stat().st_size > 0
    assert (tmp_path / "whole").is_symlink()
    assert [name for name in os.listdir(tmp_path) if name.endswith(".part")] == []


READERS: dict[str, Callable[[Path], object]] = {
    "npy": read_npy,
    "csv": read_csv,
    "weights": lambda path: load_weights(nn.Linear(2, 2), path),
    "checkpoint": load_checkpoint,
}


@posix
@pytest.mark.parametrize("reader", READERS)
def test_readers_refuse_special_files_at_once(reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, path in special_files(tmp_path).items():
        said: list[str] = []

        def read(path: Path = path, said: list[str] = said) -> None:
            with pytest.raises(FileError) as caught:
                READERS[reader](path)
            said.append(str(caught.value))

        thread = threading.Thread(target=read, daemon=True)  # one that hangs is left
        thread.start()
        thread.join(PATIENCE)
        assert [f"not a regular file, but a {name}" in text for text in said] == [True]


@posix
def test_within(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (folder / "file").write_text("mine")
    for name, target in {"up": "../secret", "absolute": tmp_path / "secret", "sub/up": "../../secret"}.items():
        (folder / name).symlink_to(target)
    (folder / "away").symlink_to(tmp_path)
    (folder / "own").symlink_to("sub/../file")
    (folder / "nowhere").symlink_to("../none")
    (tmp_path / "name").symlink_to(folder)
    for name in ("up", "absolute", "sub/up", "away/secret", "nowhere", "../secret", "away"):
        for base in (folder, tmp_path / "name"):
            with pytest.raises(PermissionError, match="a link that leads out of its folder"):
                within(base, base / name)
            with pytest.raises(PermissionError), open_file(base / name, base):
                pass
    assert within(folder, folder / "own") == (folder / "file").resolve()
    assert read_file(tmp_path / "name" / "own", tmp_path / "name") == b"mine"
    assert within(folder, folder / "none") == folder.resolve() / "none"
    with pytest.raises(FileNotFoundError):
        read_file(folder / "none", folder)


def test_a_file_larger_than_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(2 << 20))
    assert len(read_file(tmp_path / "file", most=2 << 20)) == 2 << 20
    with pytest.raises(OSError, match="larger than 1 MiB"):
        read_file(tmp_path / "file", most=1 << 20)

"""Weights on disk: exact, deterministic, atomic, and refused in words when they do not fit."""

from __future__ import annotations

import hashlib
import json
import math
import os
import pickle
import re
import shutil
import subprocess
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpunn import functional as F
from gpunn import nn, optim, tensor
from gpunn.backend import gpu_count, half_dtype, manual_seed, random_generator, to_cpu, use_device
from gpunn.checkpoint import Checkpoints, load_checkpoint, load_weights, save_checkpoint, save_weights
from gpunn.data import ArrayDataset, DataLoader
from gpunn.errors import ArgumentError, FileError, GpunnError
from gpunn.train import Trainer

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]


def network(seed: int = 0, hidden: int = 5) -> nn.Sequential:
    generator = random_generator(seed)
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, generator=generator), nn.Flatten(), nn.Linear(8, hidden, generator=generator)
    )


def weights(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in module.state_dict().items()}


def assert_refused(module: nn.Module, path: Path, message: str) -> None:
    """The weights of ``path`` are refused, and the module is as it was."""
    before = weights(module)
    with pytest.raises(FileError, match=message):
        load_weights(module, path)
    for name, array in module.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_weights(network(), path)
    return path


def test_round_trip_is_exact(saved: Path) -> None:
    other = network(seed=1)
    load_weights(other, saved)
    for name, array in network().state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name], array)
        assert other.state_dict()[name].dtype == array.dtype


def test_loaded_weights_train_on(saved: Path) -> None:
    """The arrays of a safetensors file are read-only; a module must own writable ones."""
    other = network(seed=1)
    load_weights(other, saved)
    for parameter in other.parameters():
        parameter.data += 1


def test_equal_weights_give_equal_bytes(saved: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.safetensors"
    for _ in range(5):
        save_weights(network(), again)
        assert again.read_bytes() == saved.read_bytes()


def test_the_format_is_safetensors(saved: Path) -> None:
    content = saved.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    model = network()
    assert set(header) == set(model.state_dict())
    for name, array in model.state_dict().items():
        start, end = header[name]["data_offsets"]
        read = np.frombuffer(content[8 + length :][start:end], "<f4").reshape(header[name]["shape"])
        np.testing.assert_array_equal(read, array)


def test_a_failed_write_keeps_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match=r"model\.safetensors: .*No space left on device"):
        save_weights(network(seed=1), saved)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_unwritable_folder(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"nowhere.*No such folder"):
        save_weights(network(), tmp_path / "nowhere" / "model.safetensors")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"gone\.safetensors: .*No such file"):
        load_weights(network(), tmp_path / "gone.safetensors")


def test_folder_in_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"Is a directory|Permission denied"):
        load_weights(network(), tmp_path)


@pytest.mark.parametrize("kept", [0, 4, 8, 40, -1])  # nothing, in the length, no header, in the header, in the numbers
def test_truncated_file(saved: Path, kept: int) -> None:
    saved.write_bytes(saved.read_bytes()[:kept])
    assert_refused(network(seed=1), saved, r"model\.safetensors: not a whole safetensors file")


class Trap:
    """Unpickling one of these makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.path,)


def test_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(FileError, match="not a whole safetensors file"):
        load_weights(network(), path)
    assert not (tmp_path / "sprung").exists()


def test_weights_of_another_library_are_known_as_such(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", x=np.ones(3))
    with pytest.raises(FileError, match="w.npz: not a whole .*; gpunn.interop.load_state reads weights of other lib"):
        load_weights(network(), tmp_path / "w.npz")


def test_unknown_dtype(tmp_path: Path) -> None:
    """One that is legal in the format, and nothing that NumPy knows."""
    header = json.dumps({"w": {"dtype": "F8_E5M2", "shape": [2], "data_offsets": [0, 2]}}).encode()
    path = tmp_path / "eighth.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
    with pytest.raises(FileError, match=r"eighth\.safetensors"):
        load_weights(network(), path)


@pytest.mark.parametrize(
    "dtype", ["?", "c8", "f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", half_dtype("test", "bf16")]
)
def test_every_dtype_of_the_format_comes_back(dtype: Any, tmp_path: Path) -> None:
    state = {"part": {"x": np.arange(6).reshape(2, 3).astype(dtype), "empty": np.zeros((0, 2), dtype)}}
    save_checkpoint(state, tmp_path / "c.safetensors")
    back = load_checkpoint(tmp_path / "c.safetensors")["part"]
    for name, x in state["part"].items():
        assert (back[name].dtype, back[name].shape) == (x.dtype, x.shape)
        assert back[name].tobytes() == x.tobytes()
        assert back[name].flags.writeable


def test_bfloat16_weights_come_back(tmp_path: Path) -> None:
    module, other = network(), network()
    for each in (module, other):
        for parameter in each.parameters():
            parameter.data = parameter.data.astype(half_dtype("test", "bf16"))
    other.load_state_dict({name: 0 * a for name, a in other.state_dict().items()})
    save_weights(module, tmp_path / "w.safetensors")
    load_weights(other, tmp_path / "w.safetensors")
    for name, a in module.state_dict().items():
        np.testing.assert_array_equal(a, other.state_dict()[name])
    with pytest.raises(FileError, match=r"is bfloat16\[5\], where float32\[5\] is needed"):
        load_weights(network(), tmp_path / "w.safetensors")


def test_weights_of_another_network(saved: Path) -> None:
    lacking = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 5))
    with pytest.raises(FileError, match=r"another network: it lacks '4\.bias'"):
        load_weights(lacking, saved)
    with pytest.raises(
        FileError, match=r"another network: its '2\.bias', float32\[5\], is unknown here; its '2\.weight'"
    ):
        load_weights(nn.Sequential(nn.Conv2d(1, 2, 3)), saved)


def test_weights_with_other_names_where_that_is_allowed(saved: Path) -> None:
    wider, before = nn.Sequential(*network(seed=1).children(), nn.Linear(5, 2)), network(seed=1)
    own = weights(wider)
    keys = load_weights(wider, saved, strict=False)
    assert keys == (["3.bias", "3.weight"], [])
    for name, array in wider.state_dict().items():
        np.testing.assert_array_equal(array, network().state_dict()[name] if name[0] != "3" else own[name])
    assert load_weights(before[:1], saved, strict=False).unexpected_keys == ["2.bias", "2.weight"]
    other = network(hidden=6)
    with pytest.raises(FileError, match=r"'2\.bias' is float32\[5\], where float32\[6\] is needed"):
        load_weights(other, saved, strict=False)


def test_weights_of_a_checkpoint(tmp_path: Path) -> None:
    path, module = tmp_path / "c.safetensors", network(seed=1)
    save_checkpoint({"model": network().state_dict(), "trainer": {"step": 3}}, path)
    assert load_weights(module, path) == ([], [])
    np.testing.assert_array_equal(module[0].weight.data, network()[0].weight.data)
    assert_refused(network(hidden=6), path, "made for another network")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert_refused(network(), path, "a damaged checkpoint")
    save_checkpoint({"optimizer": {"x": np.ones(2)}, "trainer": {}}, path)
    assert_refused(network(), path, "a checkpoint without a model; its parts are optimizer, trainer")


def test_another_shape_leaves_the_module_as_it_was(saved: Path) -> None:
    assert_refused(network(hidden=6), saved, r"'2\.bias' is float32\[5\], where float32\[6\] is needed")


def test_another_dtype(saved: Path) -> None:
    import safetensors.numpy

    doubled = {name: a.astype(np.float64) for name, a in network().state_dict().items()}
    safetensors.numpy.save_file(doubled, saved)
    with pytest.raises(FileError, match=r"is float64.*where float32"):
        load_weights(network(), saved)


def test_without_safetensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "safetensors.numpy", None)
    with pytest.raises(GpunnError, match=r"pip install .*\[train\]"):
        save_weights(network(), tmp_path / "model.safetensors")


# ---- checkpoints ---------------------------------------------------------------------------------------------------

STATE: dict[str, dict[str, object]] = {
    "model": {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "empty": np.zeros((0, 2)), "scalar": np.array(2.5)},
    "schedule": {"steps": 3, "base": [0.1, 1e-300], "best": math.inf, "name": "naïve", "on": True, "none": None},
    "random": {"default": {"state": {"key": [2**64 - 1, 0]}, "pos": 4}},
    "nothing": {},
}


def same(a: object, b: object) -> bool:
    """Equal to the bit, in type too."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return type(a) is type(b) and a == b


def test_a_checkpoint_is_read_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(STATE, path)
    assert same(load_checkpoint(path), STATE)
    first = path.read_bytes()
    save_checkpoint(STATE, path)
    assert path.read_bytes() == first
    header = json.loads(first[8 : 8 + int.from_bytes(first[:8], "little")])
    assert header["model/w"]["shape"] == [2, 3]  # any reader of safetensors finds it


def test_nan_and_what_json_does_not_have(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint({"a": {"x": math.nan, "y": (1, -math.inf)}}, path)
    read = load_checkpoint(path)["a"]
    assert math.isnan(read["x"])
    assert read["y"] == [1, -math.inf]
    for value in (object(), {1: 2}, np.float32(1)):
        with pytest.raises(ArgumentError, match="a state holds arrays, numbers and texts, got value="):
            save_checkpoint({"a": {"x": value}}, path)
    with pytest.raises(ArgumentError, match="the name of a part must have no '/', got part='a/b'"):
        save_checkpoint({"a/b": {}}, path)


def mutated(content: bytes, g: np.random.Generator) -> bytes:
    """Cut, with bits turned, with bytes put in, or with a header of another length, mostly a huge one."""
    kind = g.integers(4)
    at = int(g.integers(len(content)))
    if kind == 0:
        return content[:at]
    if kind == 1:
        changed = bytearray(content)
        for where in (at, *g.integers(len(content), size=g.integers(3)).tolist()):
            changed[where] ^= 1 << int(g.integers(8))
        return bytes(changed)
    if kind == 2:
        return content[:at] + g.bytes(int(g.integers(1, 9))) + content[at:]
    return int(g.integers(2**63) >> int(g.integers(63))).to_bytes(8, "little") + content[8:]


@pytest.mark.slow
def test_2000_damaged_checkpoints(tmp_path: Path) -> None:
    """Each is refused in words, or read as it was: within a second, and without memory that it only claims to need."""
    path, g = tmp_path / "c.safetensors", random_generator(0)
    save_checkpoint(STATE, path)
    content = path.read_bytes()
    refused, unchanged, slowest = 0, 0, 0.0
    tracemalloc.start()
    for number in range(2000):
        damaged = mutated(content, g)
        path.unlink()  # one that is cut to nothing and written anew goes to the disk at once
        path.write_bytes(damaged)
        start = time.perf_counter()
        try:
            assert same(load_checkpoint(path), STATE), number
            unchanged += 1
            assert damaged == content, number
        except FileError as error:
            refused += bool(re.match(rf"{re.escape(str(path))}: (no whole|a damaged) checkpoint", str(error)))
        slowest = max(slowest, time.perf_counter() - start)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert refused == 2000 - unchanged > 1900
    assert peak < 20e6
    assert slowest < 1


def test_sizes_that_lie_under_a_right_checksum(tmp_path: Path) -> None:
    """Made on purpose: what safetensors itself refuses."""
    path = tmp_path / "c.safetensors"
    save_checkpoint(STATE, path)
    content = path.read_bytes()
    for old, new in ((b"[2,3]", b"[2,4]"), (b"F32", b"X32"), (b"[2,3]", b"[9999999999999,99]")):
        end = 8 + int.from_bytes(content[:8], "little")
        header = content[8:end].replace(old, new)
        changed = bytearray(len(header).to_bytes(8, "little") + header + content[end:])
        at = changed.index(b'"gpunn":"') + 9
        changed[at : at + 64] = b"0" * 64
        changed[at : at + 64] = hashlib.sha256(changed).hexdigest().encode()
        path.write_bytes(changed)
        with pytest.raises(FileError, match="no checkpoint of this version of gpunn"):
            load_checkpoint(path)


def test_the_last_ones_and_the_best_are_kept(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path / "deep" / "run", keep=2)
    assert kept.load_newest() is None
    for step in (1, 2, 3, 4):
        kept.save(step, {"a": {"step": step}}, best=2)
    assert kept.steps() == [2, 3, 4]
    assert kept.load_newest() == {"a": {"step": 4}}
    (kept.folder / "step-0.safetensorsx.part").write_text("left by a process that was killed")
    kept.save(3, {"a": {"step": 3}})  # a run that was taken up at 2
    assert sorted(os.listdir(kept.folder)) == ["step-000000002.safetensors", "step-000000003.safetensors"]


def test_a_damaged_one_is_passed_over(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, keep=3)
    for step in (1, 2, 3):
        kept.save(step, {"a": {"step": step}})
    kept.path(3).write_bytes(kept.path(3).read_bytes()[:-1] + b"x")
    kept.path(2).write_bytes(b"")
    with pytest.warns(RuntimeWarning, match="going back to step-000000001") as told:
        assert kept.load_newest() == {"a": {"step": 1}}
    assert len(told) == 2
    kept.path(1).write_bytes(b"")
    with pytest.raises(FileError, match="no checkpoint is whole: .*3.*2.*1"):
        kept.load_newest()


@pytest.mark.parametrize("call", ["fsync", "replace", "fdopen"])
def test_a_full_disk(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Checkpoints(tmp_path)
    kept.save(1, {"a": {"step": 1}})

    def full(handle: object, *_: object) -> None:
        if call == "fdopen":
            os.close(handle)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(FileError, match=r"step-000000002.*the checkpoint cannot be written: No space left on dev"):
            kept.save(2, {"a": {"step": 2}})
    assert os.listdir(tmp_path) == ["step-000000001.safetensors"]
    assert kept.load_newest() == {"a": {"step": 1}}


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The system refuses every byte of a file from ``size`` on, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.skipif(resource is None, reason="the system has no limits of files")
def test_a_disk_that_is_full_at_any_byte(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    kept.save(1, {"a": {"step": 1, "w": np.zeros(40)}})
    names, before = os.listdir(tmp_path), kept.path(1).read_bytes()
    for size in range(len(before)):
        with (
            files_of_at_most(size),
            pytest.raises(FileError, match="step-000000002.*the checkpoint cannot be written: File too large"),
        ):
            kept.save(2, {"a": {"step": 2, "w": np.ones(40)}})
        assert os.listdir(tmp_path) == names
    assert kept.path(1).read_bytes() == before
    with files_of_at_most(len(before)):
        kept.save(2, {"a": {"step": 2, "w": np.ones(40)}})
    assert kept.load_newest()["a"]["step"] == 2


def test_a_full_file_system(tmp_path: Path) -> None:
    """A real one, of 64 KiB, on which the second checkpoint finds no room beside the first."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    try:
        kept = Checkpoints(tmp_path)
        kept.save(1, {"a": {"step": 1, "w": np.zeros(4000)}})
        for _ in range(3):
            with pytest.raises(FileError, match="step-000000002.*cannot be written: No space left on device"):
                kept.save(2, {"a": {"step": 2, "w": np.zeros(6000)}})
            assert os.listdir(tmp_path) == ["step-000000001.safetensors"]
        assert kept.load_newest()["a"]["step"] == 1
        kept.save(2, {"a": {"step": 2, "w": np.zeros(1000)}})  # as soon as there is room
        assert kept.load_newest()["a"]["step"] == 2
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_all_that_differs_is_listed(saved: Path) -> None:
    other = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(8, 5))
    bias = "'0.bias' is float32[2], where float32[3] is needed"
    weight = "'0.weight' is float32[2, 1, 3, 3], where float32[3, 1, 3, 3] is needed"
    with pytest.raises(FileError, match=re.escape(f"{bias}; {weight}") + "$"):
        load_weights(other, saved)


LAYOUTS = {
    "a view behind the start": lambda x: np.concatenate([x, x])[len(x) :],
    "transposed": lambda x: np.ascontiguousarray(x.T).T,
    "every other": lambda x: np.repeat(x, 2, 0)[::2],
    "backwards": lambda x: np.ascontiguousarray(x[::-1, ::-1, ::-1])[::-1, ::-1, ::-1],
    "Fortran order": np.asfortranarray,
    "broadcast": lambda x: np.broadcast_to(x[:1], x.shape),
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "big-endian, backwards": lambda x: x.astype(x.dtype.newbyteorder(">"))[::-1],
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
    "not aligned": lambda x: np.frombuffer(b"\0" + x.tobytes(), x.dtype, offset=1).reshape(x.shape),
    "no axes": lambda x: np.array(x[1, 1, 1]),
    "empty": lambda x: x[:, ::-1, :0],
    "one row": lambda x: x[1:2, :, ::-1],
}
"""Arrays that hold the numbers of a (3, 4, 5) in every way that an array can lie in memory."""


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["?", "c8", "f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "bf16"])
def test_arrays_of_any_layout_come_back(dtype: str, layout: str, tmp_path: Path) -> None:
    """A checkpoint once held the memory behind an array's first element, and its checksum was right."""
    if dtype == "bf16" and layout.startswith("big-endian"):
        pytest.skip("NumPy has no big-endian bfloat16")
    rows = np.arange(60).reshape(3, 4, 5) % 7 % (2 if dtype == "?" else 7)
    x = LAYOUTS[layout](rows.astype(half_dtype("test", "bf16") if dtype == "bf16" else dtype))
    expected = np.array(x.tolist(), x.dtype.newbyteorder("=")).reshape(x.shape)
    save_checkpoint({"part": {"x": x, "beside": np.arange(3)}}, tmp_path / "c.safetensors")
    back = load_checkpoint(tmp_path / "c.safetensors")["part"]
    assert (back["x"].dtype, back["x"].shape) == (expected.dtype, expected.shape)
    assert back["x"].tobytes() == expected.tobytes()
    assert back["beside"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name not in ("no axes", "empty", "one row")])
def test_weights_of_any_layout_come_back(layout: str, tmp_path: Path) -> None:
    class Held(nn.Module):
        def __init__(self, x: np.ndarray[Any, Any]) -> None:
            self.x = nn.Parameter(np.zeros(x.shape, np.float32))
            self.x.data = x

    x = LAYOUTS[layout](np.arange(60, dtype=np.float32).reshape(3, 4, 5))
    save_weights(Held(x), tmp_path / "w.safetensors")
    other = Held(np.zeros(x.shape, np.float32))
    load_weights(other, tmp_path / "w.safetensors")
    assert other.x.data.tolist() == x.tolist()


@pytest.mark.parametrize("dtype", ["c16", "U3", "S3", "M8[s]", "O", "V4", "g"])
def test_arrays_that_the_format_has_no_word_for(dtype: str, tmp_path: Path) -> None:
    state = {"part": {"x": np.zeros(2, dtype)}}
    with pytest.raises(
        ArgumentError, match="save_checkpoint: safetensors has no such dtype, got name='part/x', dtype="
    ):
        save_checkpoint(state, tmp_path / "c.safetensors")
    assert os.listdir(tmp_path) == []


def _signed(text: str, arrays: dict[str, Any] | None = None, body: bytes = b"") -> bytes:
    """A checkpoint with a right checksum, of whatever contents."""
    header = json.dumps({"__metadata__": {"gpunn": "0" * 64 + text}} | (arrays or {}), separators=(",", ":")).encode()
    content = bytearray(len(header).to_bytes(8, "little") + header + body)
    at = content.index(b'"gpunn":"') + 9
    content[at : at + 64] = hashlib.sha256(content).hexdigest().encode()
    return bytes(content)


_ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (_signed("[1, 2]"), "objects of JSON by the names of their parts"),
        (_signed("3"), "objects of JSON"),
        (_signed("null"), "objects of JSON"),
        (_signed('{"model": [1]}'), "objects of JSON"),
        (_signed('{"model": null}'), "objects of JSON"),
        (_signed("{{"), "Expecting property name"),
        (_signed("[" * 100_000), "recursion"),
        (_signed('{"t": {"a": ' + "[" * 900 + "]" * 900 + "}}"), "recursion"),
        (_signed('{"t": {"a": ' + "9" * 5000 + "}}"), "5000 digits"),
        (_signed('{"t": {"a": {"float": "abc"}}}'), "could not convert string to float"),
        (_signed("{}", {"model/w": _ONE}, bytes(4)), "the array 'model/w' belongs to no part"),
        (_signed('{"w": {}}', {"w": _ONE}, bytes(4)), "the array 'w' belongs to no part"),
        (_signed('{"m": {}}', {"m/w": _ONE | {"shape": [1] * 70}}, bytes(4)), "70"),
        (
            _signed('{"m": {}}', {"m/w": {"dtype": "F32", "shape": [0, 2**62], "data_offsets": [0, 0]}}),
            "array is too big",
        ),
        (
            _signed('{"m": {}}', {"m/w": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}, b"1"),
            "'m/w' is of a dtype that NumPy lacks: F8_E4M3",
        ),
    ],
)
def test_a_checkpoint_of_wrong_contents_is_passed_over(content: bytes, said: str, tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    kept.save(1, {"trainer": {"step": 1}})
    kept.path(2).write_bytes(content)
    with pytest.raises(
        FileError, match=rf"step-000000002\.safetensors: no checkpoint of this version of gpunn: .*{said}"
    ):
        load_checkpoint(kept.path(2))
    with pytest.warns(RuntimeWarning, match="going back to step-000000001") as told:
        assert kept.load_newest() == {"trainer": {"step": 1}}
    assert told[0].filename == __file__


@pytest.mark.parametrize(
    ("entry", "body", "said"),
    [
        (_ONE | {"shape": [1] * 70}, bytes(4), "70"),
        ({"dtype": "F32", "shape": [0, 2**62], "data_offsets": [0, 0]}, b"", "array is too big"),
        (
            {"dtype": "F8_E5M2", "shape": [1], "data_offsets": [0, 1]},
            b"1",
            "'w' is of a dtype that NumPy lacks: F8_E5M2",
        ),
    ],
)
def test_weights_that_numpy_cannot_hold(entry: dict[str, Any], body: bytes, said: str, tmp_path: Path) -> None:
    header = json.dumps({"w": entry}).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + body)
    with pytest.raises(FileError, match=rf"w\.safetensors: not a whole safetensors file: .*{said}"):
        load_weights(network(), path)


# ---- between devices -----------------------------------------------------------------------------------------------


def trained(device: str, state: Any = None) -> Trainer:
    """Two steps with momentum, averages and dropout on ``device``, after those of ``state``."""
    model = nn.Sequential(*network(), nn.Dropout(0.5), nn.Linear(5, 3, generator=random_generator(1))).to(device)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    rng = np.random.default_rng(0)
    examples = ArrayDataset(rng.standard_normal((8, 1, 4, 4)).astype(np.float32), rng.integers(3, size=8))
    loader = DataLoader(examples, 4, shuffle=True, seed=2, device=device)

    def loss(batch: Any) -> Any:
        return F.cross_entropy(model(tensor(batch[0])), batch[1]), 4

    ema = optim.EMA(model.named_parameters(), 0.5)
    trainer = Trainer(model, optimizer, loader, loss, ema=ema)
    manual_seed(3)
    if state is not None:
        trainer.load_state_dict(state)
    with use_device(device):
        trainer.run(1 if state is None else 2)
    return trainer


@pytest.mark.gpu
@pytest.mark.parametrize("way", [("cpu", "gpu:0"), ("gpu:0", "cpu"), ("gpu:0", "gpu:1")], ids=" to ".join)
def test_a_run_goes_on_on_another_device(way: tuple[str, str], tmp_path: Path) -> None:
    if max(int(device.partition(":")[2] or -1) for device in way) >= gpu_count():
        pytest.skip("needs two GPUs")
    path = tmp_path / "c.safetensors"
    save_checkpoint(trained(way[0]).state_dict(), path)
    here, there = (trained(device, load_checkpoint(path)) for device in way)
    assert {p.device for p in there.model.parameters()} == {way[1]}
    a, b = (pack_and_unpack(each.state_dict(), tmp_path) for each in (here, there))
    assert a.keys() == b.keys()
    for part, state in a.items():
        assert state.keys() == b[part].keys()
        for name, value in state.items():
            if isinstance(value, np.ndarray) and value.dtype.kind == "f":
                np.testing.assert_allclose(b[part][name], value, rtol=1e-3, atol=1e-5, err_msg=f"{part} {name}")


def pack_and_unpack(state: Any, folder: Path) -> Any:
    save_checkpoint(state, folder / "again.safetensors")
    return load_checkpoint(folder / "again.safetensors")


@pytest.mark.gpu
def test_weights_are_the_same_bytes_from_wherever_they_are(tmp_path: Path) -> None:
    contents = []
    for device in ("cpu", "gpu:0", f"gpu:{gpu_count() - 1}"):
        save_weights(network().to(device), tmp_path / "w.safetensors")
        contents.append((tmp_path / "w.safetensors").read_bytes())
        read = network(seed=1).to(device)
        load_weights(read, tmp_path / "w.safetensors")
        assert {p.device for p in read.parameters()} == {device}
        for name, array in network().state_dict().items():
            np.testing.assert_array_equal(to_cpu(read.state_dict()[name]), array)
    assert contents[0] == contents[1] == contents[2]

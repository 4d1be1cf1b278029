"""Weights on disk: exact, deterministic, atomic, and refused in words when they do not fit."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from gpunn import nn
from gpunn.backend import random_generator
from gpunn.checkpoint import load_weights, save_weights
from gpunn.errors import FileError, GpunnError


def network(seed: int = 0, hidden: int = 5) -> nn.Sequential:
    generator = random_generator(seed)
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, generator=generator), nn.Flatten(), nn.Linear(8, hidden, generator=generator)
    )


def weights(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in module.state_dict().items()}


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
    module = network(seed=1)
    before = weights(module)
    with pytest.raises(FileError, match=r"model\.safetensors: not a whole safetensors file"):
        load_weights(module, saved)
    for name, array in module.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


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


def test_unknown_dtype(tmp_path: Path) -> None:
    """bfloat16 is legal in the format, and nothing that NumPy knows."""
    header = json.dumps({"w": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}).encode()
    path = tmp_path / "half.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
    with pytest.raises(FileError, match=r"half\.safetensors"):
        load_weights(network(), path)


def test_weights_of_another_network(saved: Path) -> None:
    lacking = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 5))
    with pytest.raises(FileError, match=r"another network: it lacks '4\.bias'"):
        load_weights(lacking, saved)
    with pytest.raises(FileError, match=r"another network: its '2\.bias' is unknown"):
        load_weights(nn.Sequential(nn.Conv2d(1, 2, 3)), saved)


def test_another_shape_leaves_the_module_as_it_was(saved: Path) -> None:
    module = network(hidden=6)
    before = weights(module)
    with pytest.raises(FileError, match=r"'2\.bias' is float32\[5\], where float32\[6\] is needed"):
        load_weights(module, saved)
    for name, array in module.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_another_dtype(saved: Path) -> None:
    import safetensors.numpy

    doubled = {name: a.astype(np.float64) for name, a in network().state_dict().items()}
    safetensors.numpy.save_file(doubled, saved)
    with pytest.raises(FileError, match=r"is float64.*where float32"):
        load_weights(network(), saved)


def test_without_safetensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "safetensors.numpy", None)
    with pytest.raises(GpunnError, match=r'pip install "gpunn\[train\]"'):
        save_weights(network(), tmp_path / "model.safetensors")

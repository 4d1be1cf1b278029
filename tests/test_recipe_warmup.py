"""Which kernels the recipes need, and compiling them ahead of time with no GPU."""

import dataclasses
import importlib
import importlib.util

import numpy as np
import pytest

from gpunn import backend, cuda
from gpunn import functional as F
from gpunn.cuda import cache, compiler, source
from gpunn.errors import ArgumentError, CompileError, FileError
from gpunn.models import lenet
from gpunn.optim import Adam
from gpunn.recipes import warmup
from gpunn.recipes.catalogue import RECIPES
from gpunn.tensor import tensor

launch = importlib.import_module("gpunn.cuda.launch")  # gpunn.cuda.launch is the function
needs_nvrtc = pytest.mark.skipif(importlib.util.find_spec("cuda") is None, reason="no NVRTC for this system")
SMALL = [("lrn.cu", source.options(macros)) for macros in source.example_macros(source.flatten("lrn.cu"))[:2]]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_spares", {})
    monkeypatch.setenv("GPUNN_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_recording_runs_nothing_and_ends():
    x = np.ones((1, 1, 4, 4), np.float32)
    with cuda.record_launches() as launched, np.errstate(all="ignore"):
        assert cuda.takes(x)
        assert not cuda.takes(x.astype(np.float16))
        F.avg_pool2d(x, 2)
        F.avg_pool2d(x, 2)
        F.avg_pool2d(x, 3)
    assert [file for file, _ in launched] == ["pool.cu"] * 2
    assert not cuda.takes(x)
    with cuda.emulate(), cuda.record_launches() as launched, np.errstate(all="ignore"):
        F.avg_pool2d(x, 2)
    assert len(launched) == 1


@pytest.mark.slow
def test_what_a_training_step_launches_is_among_what_is_needed(monkeypatch):
    launched, emulated = set(), launch._emulated
    monkeypatch.setattr(
        launch,
        "_emulated",
        lambda file, kernel, options, *how: (launched.add((file, options)), emulated(file, kernel, options, *how))[1],
    )
    monkeypatch.delenv("GPUNN_CACHE_DIR")
    model = lenet(generator=backend.random_generator(0))
    adam = Adam(model.parameters())
    x = backend.random_generator(1).standard_normal((2, 1, 8, 8)).astype(np.float32)
    with cuda.emulate():
        F.cross_entropy(model(tensor(x)), np.array([3, 4])).backward()
        adam.step()
    assert {file for file, _ in launched} >= {"conv.cu", "pool.cu", "lrn.cu"}
    # A batch of two may get other tiles than one of 32: compare what else is fixed.
    fixed = lambda wanted: {(file, *(o for o in options if "DTYPE" in o or "KH" in o)) for file, options in wanted}  # noqa: E731
    assert fixed(launched) <= fixed(warmup.needed())


def test_what_is_needed_is_in_every_dtype_of_the_kernels():
    needed = warmup.needed()
    for name in launch.C_TYPES.values():
        assert ("conv.cu", f"-DDTYPE={name}") in {(file, o) for file, options in needed for o in options}
    assert len(needed) == len(set(needed))


@needs_nvrtc
def test_a_second_call_compiles_nothing(monkeypatch, folder):
    monkeypatch.setattr(warmup, "needed", lambda: SMALL)
    seen = []
    told = lambda *call: seen.append(call)  # noqa: E731
    assert warmup.warmup(["sm_80"], told) == (2, 0)
    assert seen == [(0, 2, "lrn.cu sm_80"), (1, 2, "lrn.cu sm_80")]
    assert warmup.warmup(["sm_80", "sm_90"], told) == (2, 2)
    monkeypatch.setattr(compiler, "_nvrtc", None)  # calling it would fail
    assert warmup.warmup(["sm_80", "sm_90"], told) == (0, 4)
    assert len(seen) == 4
    assert len(list(folder.rglob("*.cubin"))) == 4


@needs_nvrtc
def test_a_launch_finds_what_was_compiled_ahead(monkeypatch):
    monkeypatch.setattr(warmup, "needed", lambda: SMALL[:1])
    warmup.warmup(["sm_90"])
    file, options = SMALL[0]
    monkeypatch.setattr(compiler, "_nvrtc", None)
    assert compiler.compile_cubin(launch._code(file), file, options, "sm_90").path.exists()


@needs_nvrtc
def test_a_spoilt_file_is_compiled_again(monkeypatch, folder):
    monkeypatch.setattr(warmup, "needed", lambda: SMALL[:1])
    warmup.warmup(["sm_90"])
    next(folder.rglob("*.cubin")).write_bytes(b"spoilt")
    assert warmup.warmup(["sm_90"]) == (1, 0)
    assert warmup.warmup(["sm_90"]) == (0, 1)


@needs_nvrtc
def test_a_wrong_architecture_is_known_before_anything_is_compiled(folder):
    with pytest.raises(CompileError, match=r"compiles for .*sm_90.*, got 'sm_12'"):
        warmup.warmup(["sm_90", "sm_12"])
    assert not folder.exists()


@needs_nvrtc
def test_a_cache_that_cannot_be_written_is_an_error(monkeypatch, folder):
    folder.write_text("a file")
    monkeypatch.setattr(warmup, "needed", lambda: SMALL)
    with pytest.raises(FileError, match=f"warmup: the kernel cache {folder} cannot be written"), pytest.warns():
        warmup.warmup(["sm_90"])


@pytest.mark.skipif(backend.gpu_count() > 0, reason="there is a GPU")
def test_the_architectures_of_no_gpu():
    with pytest.raises(
        ArgumentError, match=r"warmup: name an architecture, as in --arch sm_90: there is no GPU \(.+\)"
    ):
        warmup.present_architectures()


@pytest.mark.gpu
def test_the_architectures_of_the_gpus():
    assert set(warmup.present_architectures()) <= set(compiler.supported_architectures())


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_every_recipe_is_warmed_up(recipe):
    with cuda.record_launches() as launched, np.errstate(all="ignore"):
        warmup.rehearse(recipe, np.dtype(np.float32))
    assert "optimizer.cu" in {file for file, _ in launched}


@pytest.mark.parametrize("recipe", [r for r in RECIPES if hasattr(r.options_type(), "lr")], ids=lambda r: r.name)
def test_the_learning_rate_of_the_options_is_the_optimizers(recipe):
    run = recipe(dataclasses.replace(recipe.options_type(), lr=0.125), "cpu")
    for network in run.networks():
        assert run.optimizer(network).lr == 0.125

"""Every recipe on a GPU, to its end: it tells what the run on the CPU tells."""

import dataclasses

import numpy as np
import pytest
from finished import prepare
from recipe_cases import CASES

from gpunn import backend
from gpunn.recipes.catalogue import find

pytestmark = pytest.mark.gpu

SHORTER = {
    "circles": {"epochs": 1},
    "digits": {"epochs": 1, "batch_size": 512},
    "digits-rows": {"epochs": 1, "batch_size": 512},
    "spell": {"epochs": 1, "batch_size": 512},
    "text": {"epochs": 1, "batch_size": 16, "sequence_length": 8, "hidden_size": 8},
}

LONGER = ("digits", "spell", "text")
RUNS = [
    *(pytest.param(name, "gpu:0", marks=[pytest.mark.slow] if name in LONGER else []) for name in CASES),
    ("circles", "gpu:1"), ("digits-rows", "gpu:1"),
]  # fmt: skip


def numbers(summary):
    """What was computed, without how long it took."""
    told = {k: v for k, v in summary.items() if "second" not in k and k not in ("device", "emulate", "versions")}
    flat = {f"{k} {part}": v for k, value in told.items() if isinstance(value, dict) for part, v in value.items()}
    return {k: v for k, v in (told | flat).items() if isinstance(v, int | float)}


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("name", "device"), RUNS)
def test_a_run_tells_what_it_tells_on_the_cpu(name, device, tmp_path):
    if int(device[-1]) >= backend.gpu_count():
        pytest.skip("needs two GPUs")
    options, recipe = dataclasses.replace(prepare(name, tmp_path / "data"), **SHORTER.get(name, {})), find(name)
    told = []
    for place in ("cpu", device):
        _, summary = recipe.run(dataclasses.replace(options, device=place), tmp_path / place)
        told.append(numbers(summary))
    assert summary["device"] == device
    assert told[0].keys() == told[1].keys()
    for key, value in told[0].items():
        # Some steps of training in float32, whose sums are formed in another order.
        np.testing.assert_allclose(told[1][key], value, rtol=1e-3, atol=1e-6, err_msg=key)


@pytest.mark.usefixtures("undrawn")
def test_the_command_takes_the_device(command):
    ended = command("train", "learning-rates", "--steps", 2, "--device", "gpu", "--out", "run")
    assert ended.code == 0, ended

"""``gpunn plan``: a small network really measured, the numbers against the model's, and what is mistyped."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_case import Command

from gpunn import plot
from gpunn.distributed.cost import Layer, Link, Network, Step, plan
from gpunn.errors import ArgumentError, FileError
from gpunn.plot import figure as page
from gpunn.recipes import scaling

MILLION = 1_000_000
HALF = Step(8, 0.3, (Layer("0", MILLION, 0.1), Layer("1", 9 * MILLION, 0.1)), update=0.1, activations=9e6)
WHOLE = Step(16, 0.5, (Layer("0", MILLION, 0.2), Layer("1", 9 * MILLION, 0.2)), update=0.1, activations=17e6)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """A made-up network is what is measured; gives what it was asked for."""
    asked = []

    def measure(*given: Any) -> list[Step]:
        asked.append(given[:-1])
        return [HALF, WHOLE]

    monkeypatch.setattr(scaling, "measure", measure)
    return asked


def test_a_small_network_is_measured(command: Command) -> None:
    code, out, err = command("plan", "lenet", "--ranks", "1,2,4", "--link", "1GB/s", "--png", "lenet.png")
    assert (code, err) == (0, "")
    head, _, columns, *rows = out.splitlines()
    assert head == "lenet, scikit-learn's digits: 53,002 parameters, 32 samples a rank"
    assert columns.split("  ")[0] == "ranks"
    assert [row.split()[0] for row in rows[:3]] == ["1", "2", "4"]
    assert rows[0].endswith("100.0 %")
    assert "- measured here: " in out
    assert out.splitlines()[-1] == "plot: lenet.png"
    assert Path("lenet.png").read_bytes().startswith(b"\x89PNG")


def test_the_figures_are_those_of_the_model(command: Command, measured: list[tuple[Any, ...]]) -> None:
    line = "plan vgg16 --ranks 8..100 --link 8Gbit/s --latency 20us --batch 24 --json"
    code, out, err = command(*line.split())
    assert (code, err) == (0, "")
    assert measured == [("vgg16", 24, "cpu", "fp32", "adam")]
    said = json.loads(out)
    assert (said["model"], said["batch"], said["parameters"], said["plot"]) == ("vgg16", 24, 10 * MILLION, None)
    assert said["step_seconds"] == pytest.approx(0.7 + 0.6 + 0.1)
    step = Step(24, 0.7, (Layer("0", MILLION, 0.3), Layer("1", 9 * MILLION, 0.3)), update=0.1, activations=25e6)
    for found, ranks in zip(said["plans"], (8, 16, 32, 64, 100), strict=True):
        expected = plan(step, ranks, Network(Link(1e9, 20e-6)), spread=0.02).as_dict()
        assert {name: found[name] for name in expected if name != "memory"} == {
            name: pytest.approx(value) for name, value in expected.items() if name != "memory"
        }
        assert found["memory"] == pytest.approx(expected["memory"])
    assert said["assumptions"][0] == "a step alone takes 1.40 s: forward 700.0 ms, backward 600.0 ms, update 100.0 ms"


def test_every_setting_counts(command: Command, measured: list[tuple[Any, ...]]) -> None:
    line = "plan resnet50 --ranks 4,16 --link 1GB/s --batch 16 --step 2s --per-node 4 --inner-link 10GB/s --sharded"
    line += " --optimizer sgd --algorithm ring --bucket 1MB --no-overlap --spread 0 --precision bf16 --json"
    said = json.loads(command(*line.split()).out)
    assert measured == [("resnet50", 16, "cpu", "bf16", "sgd")]
    network = Network(Link(1e9, 5e-6), 4, Link(10e9, 5e-6), "ring")
    for found, ranks in zip(said["plans"], (4, 16), strict=True):
        settings: dict[str, Any] = {"bucket": MILLION, "overlap": False, "sharded": True, "states": 1}
        expected = plan(WHOLE.lasting(2.0), ranks, network, **settings)
        assert found["seconds"] == pytest.approx(expected.seconds)
        assert found["memory"]["states"] == 40e6 / ranks
    assumed = "\n".join(said["assumptions"])
    for words in (
        "the shares of its parts and layers are as measured here: 1.00 s for 16 samples on cpu in bf16, sgd",
        "a node of 4 ranks sends 1 GB/s and receives as much at once; 5.0 us a message",
        "in a node each rank sends 10 GB/s",
        "ring all-reduce: 2 (n-1)/n bytes/rate + 2 (n-1) latencies",
        "float32 gradients, 40.0 MB in buckets of 1.0 MB, reduced when backward is done",
        "rings reduce-scatter the gradients",
        "memory a rank is float32 parameters, as many gradients, 1/n of 1 array of the optimizer's, and what a",
        "standard deviation of 0 %",
    ):
        assert words in assumed


def test_the_table(command: Command, measured: list[tuple[Any, ...]]) -> None:
    line = "plan alexnet --ranks 2 --link 100MB/s --latency 0s --batch 16 --spread 0"
    row = command(*line.split()).out.splitlines()[3]
    # 36 MB after 0.7 s take 0.36 s, 4 MB 0.04 s; backward ends at 0.9 s: 0.2 s hidden, 0.2 s exposed
    times = ["1.20 s", "0", "400.0 ms", "200.0 ms", "200.0 ms"]
    assert re.split(" {2,}", row.strip()) == ["2", *times, "177.0 MB", "27", "83.3 %"]


BOTH = "plan: --inner-link goes with a --per-node of at least 2, and that with it, got "
NUMBERS = "plan: --ranks must be numbers from 1 to 1048576 that grow, like 8..4096 or 1,2,4, got "


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("resnet51 --link 1GB/s", "plan: there is no network 'resnet51'; did you mean 'resnet50'?"),
        ("mlp", "gpunn plan: missing option '--link' (gpunn plan --help says more)"),
        *(
            (f"mlp --link {text}", f"plan: --link must be a rate above 0 like 50GB/s or 25Gbit/s, got --link={text!r}")
            for text in ("50", "50Gb/s", "0GB/s", "1e400GB/s", "fast", "GB/s", "١GB/s")
        ),
        *(
            (f"mlp --link 1GB/s --ranks {text}", f"{NUMBERS}--ranks={text!r}")
            for text in ("0", "8..4", "8...16", "1,1", "4,2", "two", "8..", "1..2..4", "1048577", "9999999999", "8..8")
        ),
        ("mlp --link 1GB/s --latency 5", "plan: --latency must be a time like 120ms or 5us, got --latency='5'"),
        ("mlp --link 1GB/s --step 0ms", "plan: --step must be above 0, got step='0ms'"),
        ("mlp --link 1GB/s --bucket 0B", "plan: --bucket must be a size above 0 like 25MiB or 1MB, got --bucket='0B'"),
        ("mlp --link 1GB/s --spread nan", "plan: --spread must be at least 0 and below 1, got spread=nan"),
        ("mlp --link 1GB/s --per-node 4", f"{BOTH}per_node=4, inner_link=None"),
        ("mlp --link 1GB/s --inner-link 1GB/s", f"{BOTH}per_node=1, inner_link='1GB/s'"),
        (
            "mlp --link 1GB/s --ranks 8,12 --per-node 8 --inner-link 9GB/s",
            "plan: --per-node must divide --ranks, got ranks=12, per_node=8",
        ),
    ],
)
def test_mistakes(line: str, message: str, command: Command, measured: list[tuple[Any, ...]]) -> None:
    assert command("plan", *line.split()) == (2, "", f"error: {message}\n")
    assert not measured  # before anything takes long


def test_a_plot_that_cannot_be_written(command: Command, measured: list[tuple[Any, ...]]) -> None:
    code, out, err = command("plan", "mlp", "--link", "1GB/s", "--png", "nowhere/a.png")
    assert (code, out) == (2, "")
    assert err == "error: nowhere/a.png: the figure cannot be written: No such folder: nowhere\n"
    assert not measured


# ---- measuring ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", scaling.OPTIMIZERS)
def test_a_measured_step(optimizer: str) -> None:
    half, step = scaling.measure("lenet5", batch=8, optimizer=optimizer)
    assert (half.batch, step.batch) == (4, 8)
    assert step.parameters == 61_706
    assert [layer.name for layer in half.layers] == [layer.name for layer in step.layers]
    assert step.forward > 0 < step.update
    assert sum(layer.backward > 0 for layer in step.layers) >= 5
    assert 0 < half.activations < step.activations


def test_one_sample_has_no_half() -> None:
    assert [step.batch for step in scaling.measure("mlp", batch=1)] == [1]


def test_optimizers_keep_as_many_arrays_as_is_said() -> None:
    for make, count in scaling.OPTIMIZERS.values():
        parameters = scaling.find("mlp").make(np.random.default_rng(0)).parameters()
        kept = sum(np.size(value) for value in make(parameters).state_dict().values())
        assert kept // sum(p.size for p in parameters) == count


@pytest.mark.slow
@pytest.mark.parametrize("name", scaling.NETWORKS)
def test_every_network_is_measured(name: str) -> None:
    steps = scaling.measure(name, batch=2)
    assert [step.batch for step in steps] == [1, 2]
    network = scaling.find(name).make(np.random.default_rng(0))
    assert steps[1].parameters == sum(p.size for p in network.parameters())


# ---- the plot -------------------------------------------------------------------------------------------------------


def test_the_plot_shows_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(page, "save", lambda sheet, path: drawn.append(sheet))
    plans = [plan(WHOLE, ranks, Network(Link(1e8, 1e-4)), spread=0.05) for ranks in (1, 2, 4, 8)]
    plot.scaling(plans, "a.png", "a title")
    left, right = drawn[0].axes
    (line,) = left.lines
    np.testing.assert_array_equal(line.get_xdata(), [1, 2, 4, 8])
    np.testing.assert_allclose(line.get_ydata(), [100 * each.efficiency for each in plans])
    np.testing.assert_allclose([bar.get_height() for bar in right.containers[0]], [1e3 * p.compute for p in plans])
    tops = [bar.get_y() + bar.get_height() for bar in right.containers[2]]
    np.testing.assert_allclose(tops, [1e3 * each.seconds for each in plans])
    np.testing.assert_allclose(right.lines[0].get_ydata(), [1e3 * each.hidden for each in plans])
    assert drawn[0].get_suptitle() == "a title"


def test_a_plot_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="scaling: there must be at least one plan"):
        plot.scaling([], tmp_path / "a.png")
    with pytest.raises(FileError, match="cannot be written"):
        plot.scaling([plan(WHOLE, 1, Network(Link(1.0)))], tmp_path / "none" / "a.png")

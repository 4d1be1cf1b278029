"""How time and memory of a training step grow: ``python bench/scaling.py bench/results/scaling-MACHINE``.

A step is a forward and a backward pass and a step of Adam. Along each axis of ``AXES`` a size is doubled again and
again, while the others stay; the exponent e is that of the power ``size ** e`` that fits best (by least squares of the
logarithms). The steps of bench_step.py are measured in the same way, each at its size.

Every measurement has a process of its own, with one thread: the median processor time of a step, and the peak of the
resident memory. From the peak is taken what the process had before the model was made, with the library loaded and used
once. So what counts is parameters, gradients, moments, activations and scratch memory. Needs Linux.

Beside scaling-MACHINE.md, the tables, goes a .json, what they were made of, and a .png, the curves.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cpuinfo
import numpy as np
import peer
import report
from bench_step import STEPS, adam, cross_entropy, images, step_of_gpunn, step_of_pytorch

from gpunn import nn
from gpunn.files import write_atomically

_SECONDS = 0.5  # of measuring a step


class Axis(NamedTuple):
    """What grows, in what; its sizes; and the layers (of either library's ``nn``) and the images of a size."""

    model: str
    sizes: Sequence[int]
    layers: Callable[[Any, int], Any]
    images: Callable[[int], Sequence[int]]


def convolutions(nn: Any, channels: int, depth: int) -> Any:
    """``depth`` convolutions of 3×3 with ReLU, then a linear layer on the mean of each channel."""
    sizes = [3, *[channels] * depth]
    inside = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Conv2d(a, b, 3, padding=1), nn.ReLU())]
    pool = nn.GlobalAvgPool2d() if hasattr(nn, "GlobalAvgPool2d") else nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(*inside, pool, nn.Flatten(), nn.Linear(channels, 10))


def sequence(nn: Any) -> Any:
    """An LSTM of 128 units over rows of 32 numbers, then a linear layer on its last output."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.linear = nn.LSTM(32, 128, batch_first=True), nn.Linear(128, 10)

        def forward(self, x: Any) -> Any:
            return self.linear(self.lstm(x)[0][:, -1])

    return Model()


AXES = {
    "batch": Axis(
        "4 convolutions of 32 channels, images of 32×32", (8, 16, 32, 64, 128),
        lambda nn, size: convolutions(nn, 32, 4), lambda size: (size, 3, 32, 32),
    ),
    "channels": Axis(
        "4 convolutions, 8 images of 32×32", (16, 32, 64, 128, 256),
        lambda nn, size: convolutions(nn, size, 4), lambda size: (8, 3, 32, 32),
    ),
    "image": Axis(
        "4 convolutions of 32 channels, 8 images", (16, 32, 64, 128),
        lambda nn, size: convolutions(nn, 32, 4), lambda size: (8, 3, size, size),
    ),
    "depth": Axis(
        "convolutions of 32 channels, 16 images of 32×32", (2, 4, 8, 16, 32),
        lambda nn, size: convolutions(nn, 32, size), lambda size: (16, 3, 32, 32),
    ),
    "sequence": Axis(
        "an LSTM of 128 units, 32 sequences", (16, 32, 64, 128, 256),
        lambda nn, size: sequence(nn), lambda size: (32, size, 32),
    ),
}  # fmt: skip


# ---- in a process of its own ----------------------------------------------------------------------------------------


def measure(side: str, axis: str, size: str) -> dict[str, float]:
    """The seconds of a step of one library and the bytes that it takes, here and now."""
    if side == "peer":
        peer.torch.set_num_threads(peer.threads())
    once(side, lambda nn: convolutions(nn, 4, 1), adam, images(1, 3, 8, 8))()
    Path("/proc/self/clear_refs").write_text(FORGET_THE_PEAK)
    before = resident("VmRSS")
    if axis == "step":
        ours, theirs, loss_of, optimizer_of, batch = STEPS[size]
        inputs = batch(peer.Bench(lambda: None, "cpu", side))
        layers = (lambda nn: ours()) if side == "gpunn" else theirs
    else:
        chosen, loss_of, optimizer_of = AXES[axis], cross_entropy, adam
        inputs = images(*chosen.images(int(size)))
        layers = lambda nn: chosen.layers(nn, int(size))  # noqa: E731
    step = once(side, layers, optimizer_of, inputs, loss_of)
    times = peer.time_in_turn({side: step}, peer.clock()[0], _SECONDS)[side]
    taken = resident("VmHWM") - before
    return {"seconds": float(np.median(times)), "bytes": taken}


FORGET_THE_PEAK = "5"  # proc(5)


def once(side: str, layers: Any, optimizer_of: Any, inputs: Sequence[Any], loss_of: Any = cross_entropy) -> peer.Run:
    """A training step of one library."""
    if side == "gpunn":
        return step_of_gpunn(lambda: layers(nn), loss_of, optimizer_of)(*inputs)
    return step_of_pytorch(layers, loss_of, optimizer_of)(*(peer.torch.from_numpy(a) for a in inputs))


def resident(name: str) -> int:
    """Bytes of memory that this process has, ``"VmRSS"``, or at most had, ``"VmHWM"``."""
    found = re.search(rf"^{name}:\s*(\d+) kB$", Path("/proc/self/status").read_text(encoding="utf-8"), re.M)
    assert found, "Linux tells it"
    return int(found[1]) << 10


# ---- all of them ----------------------------------------------------------------------------------------------------


def measured(side: str, axis: str, size: str | int) -> dict[str, float]:
    """:func:`measure` in a new process."""
    command = [sys.executable, __file__, "--measure", side, axis, str(size)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    """The e with which ``size ** e`` fits ``values`` best, up to a factor."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def tables(result: dict[str, Any]) -> Iterator[str]:
    """``result`` has the measures by axis, size and side, and those of the steps as axis ``"step"``."""
    for axis, (model, *_) in AXES.items():
        points = result[axis]
        yield from ["", f"## {axis}", "", f"{model[0].upper()}{model[1:]}.", ""]
        rows = [[size, *cells(point)] for size, point in points.items()]
        rows.append(["exponent", *exponents(points)])
        yield from report.table([axis, *HEAD], rows)
    yield from ["", "## Steps", ""]
    yield from report.table(["step", *HEAD], [[name, *cells(point)] for name, point in result["step"].items()])


HEAD = ["gpunn, ms", "PyTorch, ms", "ratio", "gpunn, MiB", "PyTorch, MiB", "ratio"]
FORMS = {"seconds": (1e3, "{:.3f}"), "bytes": (2.0**-20, "{:.1f}")}


def cells(point: dict[str, dict[str, float]]) -> Iterator[str]:
    """The measures of both sides at one size, and their ratios."""
    for measure, (factor, form) in FORMS.items():
        values = [point[side][measure] for side in peer.SIDES if side in point]
        yield from (form.format(value * factor) for value in values)
        yield from [f"{values[0] / values[1]:.2f}"] if len(values) == 2 else [report.NOT_MEASURED] * 2


def exponents(points: dict[str, dict[str, dict[str, float]]]) -> Iterator[str]:
    sizes = [int(size) for size in points]
    for measure in FORMS:
        for side in peer.SIDES:
            values = [point[side][measure] for point in points.values() if side in point]
            yield f"{exponent(sizes, values):.2f}" if values else report.NOT_MEASURED
        yield ""


def draw(result: dict[str, Any], path: Path) -> None:
    """Time and memory over each axis, both sides, on logarithmic scales."""
    from gpunn.plot.figure import COLOURS, STYLES, figure, save

    page = figure(3 * len(AXES), 6)
    grid = page.subplots(len(FORMS), len(AXES), squeeze=False)
    for column, axis in enumerate(AXES):
        sizes = [int(size) for size in result[axis]]
        for axes, (measure, (factor, _)) in zip(grid[:, column], FORMS.items(), strict=True):
            for side, colour, style in zip(peer.SIDES, COLOURS, STYLES, strict=False):
                values = [point[side][measure] * factor for point in result[axis].values() if side in point]
                if values:
                    name = f"{'gpunn' if side == 'gpunn' else 'PyTorch'}: {exponent(sizes, values):.2f}"
                    axes.loglog(sizes, values, color=colour, linestyle=style, marker="o", markersize=3, label=name)
            axes.set_xticks(sizes, [str(size) for size in sizes])
            axes.minorticks_off()
            axes.set_xlabel(axis)
            axes.legend(fontsize=8)
        grid[0, column].set_title(axis)
    for row, unit in enumerate(("time of a step, ms", "peak memory of a step, MiB")):
        grid[row, 0].set_ylabel(unit)
    save(page, path)


def main(prefix: str) -> None:
    sides = [side for side in peer.SIDES if not peer.why_not("cpu", side)]
    jobs = {axis: chosen.sizes for axis, chosen in AXES.items()} | {"step": [*STEPS]}
    result = {
        axis: {str(size): {side: measured(side, axis, size) for side in sides} for size in sizes}
        for axis, sizes in jobs.items()
    }
    machine = peer.measured_by() | {"cpu": cpuinfo.get_cpu_info(), "python_version": platform.python_version()}
    what = f"{date.today()}: {report.headline({'machine_info': machine})}."
    text = "\n".join([what, "", "bench/scaling.py tells what is measured.", *tables(result), ""])
    write_atomically(Path(f"{prefix}.md"), text.encode())
    write_atomically(Path(f"{prefix}.json"), (json.dumps(result, indent=1) + "\n").encode())
    draw(result, Path(f"{prefix}.png"))


if __name__ == "__main__":
    if sys.argv[1] == "--measure":
        print(json.dumps(measure(*sys.argv[2:])))
    else:
        main(sys.argv[1])

"""Gradient descent with a learning rate that is too small, one that is right, and one that is too large.

A network of one hidden layer on scikit-learn's digits, from the same weights each time. The folder holds
``config.json``, ``summary.json`` and ``learning_rates.png``: the loss of every step, three curves.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from gpunn import functional as F
from gpunn import nn, optim, plot
from gpunn.backend import asarray, random_generator
from gpunn.data import ArrayDataset, DataLoader, digits
from gpunn.recipes import options as base
from gpunn.recipes import run
from gpunn.recipes.options import option
from gpunn.recipes.run import OnEpoch, OnStep
from gpunn.runs.folder import write_json
from gpunn.tensor import tensor

FILES = ("config.json", "summary.json", "learning_rates.png")
_NEEDS = ("sklearn", "matplotlib")
BATCH = 64


@dataclass(frozen=True)
class Options(base.Options):
    """The options of a run; ``seed`` draws the split, the weights and the order of the batches."""

    command: ClassVar[str] = "train learning-rates"
    steps: int = option(300, "Training steps with each rate.", least=1)
    small: float = option(0.002, "A learning rate that is too small.", positive=True)
    right: float = option(0.3, "One that is right.", positive=True)
    large: float = option(12.0, "One that is too large.", positive=True)


def compare_learning_rates(
    options: Options,
    out: str | os.PathLike[str] | None = None,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Run the recipe; arguments and errors are those of :func:`gpunn.recipes.digits.train_digits`.

    There are no epochs, so ``on_epoch`` is never called. The summary holds the mean loss of the last tenth of the
    steps for each rate, None where a loss was not finite: that training ends there.
    """
    run.check_packages("train learning-rates", _NEEDS)
    device = run.choose_device("train learning-rates", options.device, options.emulate)
    with run.begin("learning-rates", options, device, out, FILES) as (folder, _):
        curves: dict[str, tuple[list[int], list[float]]] = {}
        last: dict[str, float | None] = {}
        done = 0
        with run.computing(device, options.emulate, threads=1):
            for name in ("small", "right", "large"):
                rate = getattr(options, name)
                losses = []
                for loss in _descend(rate, options, device):
                    losses.append(loss)
                    done += 1
                    if on_step is not None:
                        on_step(done, 3 * options.steps, loss)
                curves[f"too {name}, {rate:g}" if name != "right" else f"right, {rate:g}"] = (
                    list(range(1, len(losses) + 1)),
                    losses,
                )
                whole = len(losses) == options.steps
                last[name] = float(np.mean(losses[-math.ceil(options.steps / 10) :])) if whole else None
        about = {"device": device, "emulate": options.emulate, "versions": run.versions("scikit-learn")}
        summary = {"status": "finished", "last_losses": last} | about
        write_json(folder / "summary.json", summary)
        title = "Gradient descent with three learning rates"
        plot.lines(curves, folder / "learning_rates.png", "step", "cross entropy", title, log=True)
        return folder, summary


def network(generator: np.random.Generator) -> nn.Sequential:
    """Images (N, 1, 8, 8) to logits, through one hidden layer of 64 units."""
    layers = nn.Linear(64, 64, generator=generator), nn.Tanh(), nn.Linear(64, 10, generator=generator)
    return nn.Sequential(nn.Flatten(), *layers)


def _descend(rate: float, options: Options, device: str) -> Iterator[float]:
    """The loss of each step; ends early at one that is not finite."""
    generator = random_generator(options.seed)
    train = [asarray(a, device) for a in digits(options.seed)[0]]
    model = network(generator).to(device)
    sgd = optim.SGD(model.parameters(), lr=rate)
    data = DataLoader(ArrayDataset(*train), BATCH, shuffle=True, seed=options.seed)
    for x, y in islice(chain.from_iterable(repeat(data)), options.steps):
        with np.errstate(over="ignore", invalid="ignore"):
            loss = F.cross_entropy(model(tensor(x)), y)
            if not math.isfinite(loss.item()):
                return
            sgd.zero_grad()
            loss.backward()
            sgd.step()
        yield float(loss.item())


def headline(summary: dict[str, Any]) -> str:
    """What the command line prints.

    >>> headline({"last_losses": {"small": 2.0, "right": 0.125, "large": None}})
    'loss at the end: too small 2.000, right 0.125, too large not finite'
    """
    names = {"small": "too small", "right": "right", "large": "too large"}
    said = {name: "not finite" if loss is None else f"{loss:.3f}" for name, loss in summary["last_losses"].items()}
    return "loss at the end: " + ", ".join(f"{names[name]} {loss}" for name, loss in said.items())

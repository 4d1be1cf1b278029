"""Train five dense layers to tell two rings of points apart, and film the decision surface as it forms.

ReLU inside, a sigmoid at the end, binary cross entropy. The folder holds ``config.json``, ``metrics.jsonl``,
``summary.json`` and ``model.safetensors`` as every run, ``curves.png``, ``surface.png`` (at the end), ``surface.gif``
(while training), ``activations.png`` (of each layer, for the test points) and ``gradients.png`` (of the last step).
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from gpunn import nn, optim, plot
from gpunn.backend import Array, asarray, get_array_module, random_generator, to_cpu
from gpunn.data import circles
from gpunn.recipes import options as base
from gpunn.recipes import run
from gpunn.recipes.classifier import load_classifier, train_classifier
from gpunn.recipes.inputs import points
from gpunn.recipes.options import option
from gpunn.recipes.run import OnEpoch, OnStep
from gpunn.runs.folder import write_json
from gpunn.runs.loaded import Loaded
from gpunn.tensor import no_grad, tensor
from gpunn.train import BINARY, Record

FILES = (
    *("config.json", "metrics.jsonl", "checkpoints", "summary.json", "model.safetensors"),
    *("curves.png", "surface.png", "surface.gif", "activations.png", "gradients.png"),
)
_NEEDS = ("matplotlib", "PIL", "safetensors")
_FRAMES = 40
CLASSES = ("outer", "inner")


@dataclass(frozen=True)
class Options(base.TrainingOptions):
    """The options of a run; ``seed`` draws the points, the weights and the order of the batches."""

    command: ClassVar[str] = "train circles"
    epochs: int = option(60, "Passes over the 1,000 training points.", least=1)
    batch_size: int = option(50, "Points per training step.", least=1)
    lr: float = option(0.01, "Highest learning rate, above 0.", positive=True)
    hidden: int = option(16, "Units in each of the four hidden layers.", least=1)


def network(hidden: int, generator: Any = None) -> nn.Sequential:
    """Points (N, 2) to the probability of class 1, (N, 1), through five dense layers.

    >>> sum(p.data.size for p in network(16).parameters())
    881
    """
    sizes = (2, hidden, hidden, hidden, hidden)
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs, generator=generator), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, 1, generator=generator), nn.Sigmoid())


def train_circles(
    options: Options,
    out: str | os.PathLike[str] | None = None,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Run the recipe; arguments, result and errors are those of :func:`gpunn.recipes.digits.train_digits`."""
    run.check_packages("train circles", _NEEDS)
    device = run.choose_device("train circles", options.device, options.emulate)
    with (
        run.begin("circles", options, device, out, FILES) as (folder, config),
        run.computing(device, options.emulate, threads=1),
    ):
        return _run(options, config, folder, on_step, on_epoch)


def data(options: Options, device: str) -> list[tuple[Array, Array]]:
    """Training and test data, on ``device``."""
    return [(asarray(x, device), asarray(y, device)) for x, y in circles(options.seed)]


def load(options: Options, folder: Path) -> Loaded:
    """Open a run; raises FileError if ``folder`` holds no weights of it."""
    device = run.choose_device(options.command, options.device, options.emulate)
    return load_classifier(
        network(options.hidden, random_generator(options.seed)).to(device),
        folder,
        CLASSES,
        asarray(np.zeros((1, 2), np.float32), device),
        lambda: data(options, device)[1],
        points,
        run.computing(device, options.emulate, threads=1),
        objective=BINARY,
        probabilities=lambda p: get_array_module(p).concatenate([1 - p, p], axis=1),
    )


def _run(
    options: Options, config: dict[str, Any], folder: Path, on_step: OnStep | None, on_epoch: OnEpoch | None
) -> tuple[Path, dict[str, Any]]:
    device = config["device"]
    train, test = data(options, device)
    model = network(options.hidden, random_generator(options.seed)).to(device)
    on_plane, labels = to_cpu(test[0]), to_cpu(test[1])

    def probability(at: Array) -> Array:
        with no_grad(), model.evaluating():
            return to_cpu(model(tensor(at, device=device)).data)[:, 0]

    frames = [("before training", plot.surface(probability, on_plane))]
    every = -(-options.epochs // _FRAMES)

    def film(record: Record) -> None:
        if record["epoch"] % every == 0 or record["epoch"] == options.epochs:
            title = f"epoch {record['epoch']}, test accuracy {record['test_accuracy']:.1%}"
            frames.append((title, plot.surface(probability, on_plane)))
        if on_epoch is not None:
            on_epoch(record)

    outcome, records, _, summary = train_classifier(
        model,
        optim.Adam(model.parameters(), lr=options.lr),
        train,
        test,
        folder,
        epochs=options.epochs,
        batch_size=options.batch_size,
        seed=options.seed,
        config=config,
        precision=options.precision,
        objective=BINARY,
        on_step=on_step,
        on_epoch=film,
    )
    about = {"device": device, "emulate": options.emulate, "versions": run.versions()}
    accuracy = f"test accuracy {summary['test_accuracy']:.1%}"
    plot.decision_surface(plot.surface(probability, on_plane), on_plane, labels, folder / "surface.png", accuracy)
    plot.animate_decision_surface(frames, on_plane, labels, folder / "surface.gif")
    layers = {name: type(module).__name__ for name, module in model.named_modules()}
    activations = {f"{name} {layers[name]}": to_cpu(y) for name, y in model.activations(test[0]).items()}
    plot.activation_statistics(activations, folder / "activations.png")
    gradients = {name: to_cpu(p.grad) for name, p in model.named_parameters() if p.grad is not None}
    if gradients:
        plot.gradient_flow(gradients, folder / "gradients.png")
    if records:
        plot.curves(records, folder / "curves.png")
    write_json(folder / "summary.json", summary | about)
    run.raise_if_diverged(outcome, folder)
    return folder, summary | about

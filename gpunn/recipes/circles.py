"""Train five dense layers to tell two rings of points apart, and film the decision surface as it forms.

ReLU inside, a sigmoid at the end, binary cross entropy. The folder holds ``config.json``, ``metrics.jsonl``,
``summary.json`` and ``model.safetensors`` as every run, ``curves.png``, ``surface.png`` (at the end), ``surface.gif``
(while training), ``activations.png`` (of each layer, for the test points) and ``gradients.png`` (of the loss of all
training points, at the end).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from gpunn import nn, plot
from gpunn.backend import Array, asarray, get_array_module, random_generator, to_cpu
from gpunn.data import circles
from gpunn.recipes import options as base
from gpunn.recipes.inputs import points
from gpunn.recipes.options import option
from gpunn.recipes.training import Classifier
from gpunn.tensor import no_grad, tensor
from gpunn.train import BINARY, Callback, Evaluation, Record, Trainer

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


class Filming(Callback):
    """Keeps the weights before training, every so many epochs and at the end: a film of a resumed run is whole."""

    def __init__(self, every: int) -> None:
        self.every, self.titles, self.weights = every, list[str](), list[Array]()

    def take(self, title: str, trainer: Trainer) -> None:
        """Keep the weights."""
        self.titles.append(title)
        self.weights.append(to_cpu(nn.utils.parameters_to_vector(trainer.model.parameters()).data).copy())

    def on_start(self, trainer: Trainer) -> None:
        if not self.titles:
            self.take("before training", trainer)

    def on_epoch(self, trainer: Trainer, record: Record) -> None:
        if trainer.epoch % self.every == 0 or trainer.epoch == trainer.epochs:
            self.take(f"epoch {trainer.epoch}, test accuracy {record['test_accuracy']:.1%}", trainer)

    def state_dict(self) -> dict[str, Any]:
        return {"titles": self.titles, "weights": np.array(self.weights)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.titles, self.weights = list(state["titles"]), list(state["weights"])


class Circles(Classifier):
    """The probability of the inner ring from points (N, 2)."""

    name = "circles"
    text = "Five dense layers tell two rings of points apart; films the decision surface."
    options: Options
    options_type = Options
    needs = ("matplotlib", "PIL", "safetensors")
    figures: ClassVar = {
        "surface.png": "Decision surface",
        "surface.gif": "The decision surface as it formed",
        "activations.png": "Activations by layer",
        "gradients.png": "Gradients by parameter",
    }
    classes = CLASSES
    shape = (2,)
    objective = BINARY

    @cached_property
    def data(self) -> list[tuple[Array, Array]]:
        return [(asarray(x, self.device), asarray(y, self.device)) for x, y in circles(self.options.seed)]

    def network(self) -> nn.Sequential:
        return network(self.options.hidden, random_generator(self.options.seed)).to(self.device)

    def trainer(self, network: nn.Module, data: Any, callbacks: Sequence[Callback], part: str = "") -> Trainer:
        self.filming = Filming(-(-self.options.epochs // _FRAMES))
        return super().trainer(network, data, [*callbacks, self.filming], part)

    def surface(self, model: nn.Module) -> Any:
        """The probability on a grid round the test points."""

        def probability(at: Array) -> Array:
            with no_grad(), model.evaluating():
                return to_cpu(model(tensor(at, device=self.device)).data)[:, 0]

        return plot.surface(probability, to_cpu(self.data[1][0]))

    def frames(self) -> Iterator[tuple[str, Any]]:
        """The titles and surfaces of the film."""
        model = self.network()
        for title, weights in zip(self.filming.titles, self.filming.weights, strict=True):
            nn.utils.vector_to_parameters(tensor(weights, device=self.device), model.parameters())
            yield title, self.surface(model)

    def keep(self, model: nn.Module, result: Evaluation) -> None:
        on_plane, labels = map(to_cpu, self.data[1])
        accuracy = f"test accuracy {result.accuracy:.1%}"
        plot.decision_surface(self.surface(model), on_plane, labels, self.folder / "surface.png", accuracy)
        plot.animate_decision_surface(self.frames(), on_plane, labels, self.folder / "surface.gif")
        layers = {name: type(module).__name__ for name, module in model.named_modules()}
        activations = {f"{name} {layers[name]}": to_cpu(y) for name, y in model.activations(self.data[1][0]).items()}
        plot.activation_statistics(activations, self.folder / "activations.png")
        model.zero_grad()
        self.loss(model, self.data[0])[0].backward()
        gradients = {name: to_cpu(p.grad) for name, p in model.named_parameters()}
        plot.gradient_flow(gradients, self.folder / "gradients.png")

    def read(self, path: Path) -> tuple[Array, bool]:
        return points(path)

    def probabilities(self, output: Array) -> Array:
        return get_array_module(output).concatenate([1 - output, output], axis=1)


train_circles = Circles.run

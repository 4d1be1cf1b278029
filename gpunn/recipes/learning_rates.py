"""Gradient descent with a learning rate that is too small, one that is right, and one that is too large.

A network of one hidden layer on scikit-learn's digits, from the same weights each time. The folder holds
``config.json``, ``summary.json`` and ``learning_rates.png``: the loss of every step, three curves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice, repeat
from typing import Any, ClassVar

import numpy as np

from gpunn import nn, optim, plot
from gpunn.backend import asarray, random_generator
from gpunn.data import ArrayDataset, DataLoader, digits
from gpunn.recipes import options as base
from gpunn.recipes.options import option
from gpunn.recipes.training import Labelled


@dataclass(frozen=True)
class Options(base.Options):
    """The options of a run; ``seed`` draws the split, the weights and the order of the batches."""

    command: ClassVar[str] = "train learning-rates"
    steps: int = option(300, "Training steps with each rate.", least=1)
    small: float = option(0.002, "A learning rate that is too small.", positive=True)
    right: float = option(0.3, "One that is right.", positive=True)
    large: float = option(12.0, "One that is too large.", positive=True)


class LearningRates(Labelled):
    """A training with each rate, from the same weights; there are no epochs, so ``on_epoch`` is never called.

    The summary holds the mean loss of the last tenth of the steps for each rate, None where a loss was not finite: that
    training ends there.
    """

    name = "learning-rates"
    text = "Gradient descent with a learning rate too small, right, and too large."
    options: Options
    options_type = Options
    needs = ("sklearn", "matplotlib")
    versions = ("scikit-learn",)
    batch_size = 64
    shape = (1, 8, 8)
    figures: ClassVar = {"learning_rates.png": "Losses with three learning rates"}

    def network(self) -> nn.Sequential:
        """Images (N, 1, 8, 8) to logits, through one hidden layer of 64 units."""
        generator = random_generator(self.options.seed)
        layers = nn.Linear(64, 64, generator=generator), nn.Tanh(), nn.Linear(64, 10, generator=generator)
        return nn.Sequential(nn.Flatten(), *layers).to(self.device)

    def networks(self) -> Iterator[nn.Module]:
        yield self.network()

    def optimizer(self, network: nn.Module, rate: float = 1.0) -> optim.SGD:
        return optim.SGD(network.parameters(), lr=rate)

    def descend(self, rate: float) -> Iterator[float]:
        """The loss of each step, from the same weights for every rate; ends early at one that is not finite."""
        network = self.network()
        sgd = self.optimizer(network, rate)
        train = [asarray(a, self.device) for a in digits(self.options.seed)[0]]
        data = DataLoader(ArrayDataset(*train), self.batch_size, shuffle=True, seed=self.options.seed)
        for batch in islice(chain.from_iterable(repeat(data)), self.options.steps):
            with np.errstate(over="ignore", invalid="ignore"):
                loss, _ = self.loss(network, batch)
                if not math.isfinite(loss.item()):
                    return
                sgd.zero_grad()
                loss.backward()
                sgd.step()
            yield float(loss.item())

    def work(self) -> dict[str, Any]:
        steps = self.options.steps
        curves, last, done = {}, {}, 0
        for name in ("small", "right", "large"):
            rate, losses = getattr(self.options, name), []
            for loss in self.descend(rate):
                losses.append(loss)
                done += 1
                if self.on_step is not None:
                    self.on_step(done, 3 * steps, loss)
            label = f"too {name}, {rate:g}" if name != "right" else f"right, {rate:g}"
            curves[label] = list(range(1, len(losses) + 1)), losses
            last[name] = float(np.mean(losses[-math.ceil(steps / 10) :])) if len(losses) == steps else None
        title = "Gradient descent with three learning rates"
        ended = [label for label, (_, losses) in curves.items() if len(losses) < steps]
        file = self.folder / "learning_rates.png"
        plot.lines(curves, file, "step", "cross entropy", title, log=True, diverged=ended)
        return {"status": "finished", "last_losses": last}

    @classmethod
    def headline(cls, summary: dict[str, Any]) -> str:
        """The loss at the end of each.

        >>> LearningRates.headline({"last_losses": {"small": 2.0, "right": 0.125, "large": None}})
        'loss at the end: too small 2.000, right 0.125, too large not finite'
        """
        names = {"small": "too small", "right": "right", "large": "too large"}
        said = {name: "not finite" if loss is None else f"{loss:.3f}" for name, loss in summary["last_losses"].items()}
        return "loss at the end: " + ", ".join(f"{names[name]} {loss}" for name, loss in said.items())


compare_learning_rates = LearningRates.run

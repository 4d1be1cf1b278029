"""How gradients vanish and explode on their way back through time, and what clipping does about it.

A digit of scikit-learn is read pixel by pixel, 64 steps, by an RNN, an LSTM and a GRU. The folder holds

- ``config.json`` and ``summary.json``;
- ``through_time.png``: the norm of the gradient of the loss, which is taken after the last pixel, with respect to the
  state h after each pixel, for each cell before training, and for an RNN with ReLU and large recurrent weights; the
  LSTM begins with an open forget gate and the GRU with an open update gate, without which they forget as the RNN does;
- ``clipping.png``: the loss of every step when an RNN with ReLU is trained with and without clipping;
- ``norms.png``: the norm of the whole gradient in those steps, before it is clipped.

Sources: Y. Bengio et al., "Learning long-term dependencies with gradient descent is difficult", 1994; R. Pascanu et
al., "On the difficulty of training recurrent neural networks", 2013 (clipping); R. Jozefowicz et al., "An empirical
exploration of recurrent network architectures", 2015 (the open forget gate).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from gpunn import functional as F
from gpunn import nn, optim, plot
from gpunn.backend import Array, asarray, random_generator, to_cpu
from gpunn.data import digits
from gpunn.recipes import options as base
from gpunn.recipes.options import option
from gpunn.recipes.training import Labelled
from gpunn.tensor import Tensor, tensor

KINDS = ("RNN", "LSTM", "GRU", "large RNN")
# The recurrent weights of the RNN with ReLU, as a multiple of an orthogonal matrix. Above sqrt(2) gradients explode
# from the start, as ReLU passes half of the units; a little below, they do so now and then while it is trained.
_LARGE, _TRAINED = 1.45, 1.3
# Added to the biases of the LSTM's forget gate and of the GRU's update gate: open, they pass the state on.
_OPEN = 3.0


@dataclass(frozen=True)
class Options(base.Options):
    """The options of a run; ``seed`` draws the split, the weights and the order of the batches."""

    command: ClassVar[str] = "train gradients"
    steps: int = option(200, "Training steps, with and without clipping.", least=1)
    hidden: int = option(32, "Units of the recurrent layer.", least=1)
    lr: float = option(0.2, "Learning rate, above 0.", positive=True)
    max_norm: float = option(1.0, "The norm to which gradients are clipped, above 0.", positive=True)


class Reader(nn.Module):
    """A recurrent cell that reads a sequence, and a dense layer on its last state.

    ``forward`` takes x (N, T, 1) and adds the rows of ``nudges`` (T, N, H) to the states: their gradients are those of
    the states.
    """

    def __init__(self, kind: str, hidden: int, generator: np.random.Generator, gain: float = _LARGE) -> None:
        gates = {"LSTM": 4, "GRU": 3}.get(kind, 1)
        self.kind, self.hidden = kind, hidden
        self.w_hh = nn.init.uniform_fan_in((gates * hidden, hidden), hidden, generator)
        if kind == "large RNN":
            nn.init.orthogonal_(self.w_hh, gain, generator)
        self.w_ih = nn.init.uniform_fan_in((gates * hidden, 1), hidden, generator)
        self.b_ih = nn.init.uniform_fan_in((gates * hidden,), hidden, generator)
        if gates > 1:
            self.b_ih.data[hidden : 2 * hidden] += _OPEN
        self.head = nn.Linear(hidden, 10, generator=generator)

    def forward(self, x: Tensor, nudges: Tensor | None = None) -> Tensor:
        h: Any = tensor(np.zeros((len(x), self.hidden), x.dtype), device=x.device)
        c = h
        weights = self.w_ih, self.w_hh, self.b_ih
        for t in range(x.shape[1]):
            if self.kind == "LSTM":
                h, c = F.lstm_cell(x[:, t], (h, c), *weights)
            elif self.kind == "GRU":
                h = F.gru_cell(x[:, t], h, *weights)
            else:
                h = F.rnn_cell(x[:, t], h, *weights, nonlinearity="tanh" if self.kind == "RNN" else "relu")
            if nudges is not None:
                h = h + nudges[t]
        return self.head(h)


def norms_through_time(model: Reader, x: Array, labels: Array) -> list[float]:
    """The norm of the loss's gradient with respect to the state after each step of x (N, T, 1)."""
    nudges = tensor(np.zeros((x.shape[1], len(x), model.hidden), x.dtype), requires_grad=True, device=model.w_hh.device)
    F.cross_entropy(model(tensor(x), nudges), labels).backward()
    assert nudges.grad is not None
    norms: list[float] = np.sqrt((to_cpu(nudges.grad).astype(np.float64) ** 2).sum((1, 2))).tolist()
    return norms


class Gradients(Labelled):
    """The norms through time of each cell, and two trainings; there are no epochs, so ``on_epoch`` is never called.

    The summary holds, for each cell, the norm at the first pixel over the norm at the last, and for the two trainings
    the last loss, None if it was not finite, and the largest norm of the gradient. One that is finite, but large,
    throws the weights so far that no unit is ever active again.
    """

    name = "gradients"
    text = "How gradients vanish and explode through time, and what clipping does about it."
    options: Options
    options_type = Options
    needs = ("sklearn", "matplotlib")
    versions = ("scikit-learn",)
    batch_size = 64
    shape = (64, 1)
    figures: ClassVar = {
        "through_time.png": "The gradient on its way back through time",
        "clipping.png": "Losses, clipped and not",
        "norms.png": "Norms of the gradient",
    }

    @cached_property
    def data(self) -> tuple[Array, Array]:
        """Pixel after pixel of the training images, (N, 64, 1), and their labels."""
        images, labels = (asarray(a, self.device) for a in digits(self.options.seed)[0])
        return images.reshape(len(images), -1, 1), labels

    def network(self, kind: str, gain: float = _LARGE) -> Reader:
        return Reader(kind, self.options.hidden, random_generator(self.options.seed), gain).to(self.device)

    def networks(self) -> Iterator[nn.Module]:
        return map(self.network, KINDS)

    def optimizer(self, network: nn.Module) -> optim.SGD:
        return optim.SGD(network.parameters(), lr=self.options.lr)

    def train(self, clip: bool) -> Iterator[tuple[float, float]]:
        """Loss and gradient norm of each step of the network with large weights; ends at one that is not finite."""
        network = self.network("large RNN", _TRAINED)
        sgd = self.optimizer(network)
        generator = random_generator(self.options.seed)
        limit, steps = self.options.max_norm if clip else math.inf, self.options.steps
        x, labels = self.data
        for step in range(1, steps + 1):
            chosen = asarray(generator.integers(0, len(x), self.batch_size), self.device)
            with np.errstate(over="ignore", invalid="ignore"):  # what explodes is seen below
                loss, _ = self.loss(network, (x[chosen], labels[chosen]))
                sgd.zero_grad()
                loss.backward()
                norm = float(optim.clip_grad_norm(network.parameters(), limit))
            if not (math.isfinite(loss.item()) and math.isfinite(norm)):
                return
            sgd.step()
            if self.on_step is not None:
                self.on_step(step + clip * steps, 2 * steps, float(loss.item()))
            yield float(loss.item()), norm

    def work(self) -> dict[str, Any]:
        x, labels = (array[: self.batch_size] for array in self.data)
        norms = {kind: norms_through_time(self.network(kind), x, labels) for kind in KINDS}
        trainings = {name: list(self.train(clip)) for name, clip in (("not clipped", False), ("clipped", True))}
        times = list(range(1, 65))
        labelled = {kind.replace("large RNN", "RNN, large weights"): (times, norm) for kind, norm in norms.items()}
        title = "The gradient on its way back through time"
        plot.lines(labelled, self.folder / "through_time.png", "pixel", "norm of the gradient of h", title, log=True)
        whole = self.options.steps
        ended = [name for name, steps in trainings.items() if len(steps) < whole]
        title = "Training the RNN with ReLU, gradients clipped and not"
        for number, (file, what) in enumerate((("clipping", "cross entropy"), ("norms", "norm of the gradient"))):
            series = {name: (range(1, len(steps) + 1), [s[number] for s in steps]) for name, steps in trainings.items()}
            plot.lines(series, self.folder / f"{file}.png", "step", what, title, log=True, diverged=ended)
        return {
            "status": "finished",
            "first_over_last": {kind: float(norm[0] / norm[-1]) for kind, norm in norms.items()},
            "last_loss": {name: s[-1][0] if len(s) == whole else None for name, s in trainings.items()},
            "largest_norm": {name: max((norm for _, norm in s), default=None) for name, s in trainings.items()},
        }

    @classmethod
    def headline(cls, summary: dict[str, Any]) -> str:
        """How much of each gradient is left.

        >>> Gradients.headline({"first_over_last": {"RNN": 1e-9, "GRU": 0.25}})
        'norm of the gradient at the first pixel over the last: RNN 1e-09, GRU 0.25'
        """
        said = ", ".join(f"{kind} {ratio:.2g}" for kind, ratio in summary["first_over_last"].items())
        return f"norm of the gradient at the first pixel over the last: {said}"


show_gradients = Gradients.run

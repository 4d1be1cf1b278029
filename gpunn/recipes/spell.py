"""One to many: from the image of a handwritten digit to its English name, letter by letter.

The run folder holds

- ``config.json``: the options of the run;
- ``metrics.jsonl``: a line an epoch, written as the epoch ends; the accuracy is the share of names that are exact;
- ``checkpoints/``: from which ``gpunn resume`` goes on;
- ``summary.json``: what the run came to, with ``status`` ``"finished"``, ``"interrupted"`` or ``"diverged"``;
- ``model.safetensors``: the weights at the end of the last whole epoch;
- ``names.json``: what was spelled for each test image, beside its true name;
- ``curves.png``, once there is an epoch to draw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from gpunn import functional as F
from gpunn import nn
from gpunn.backend import Array, asarray, device_of, random_generator, to_cpu
from gpunn.data import digits, jitter
from gpunn.models import SequenceDecoder
from gpunn.recipes import options as base
from gpunn.recipes.inputs import digit_images
from gpunn.recipes.options import option
from gpunn.recipes.training import Labelled, Training
from gpunn.runs.folder import write_json
from gpunn.runs.loaded import Answer, Confusion, ranked, tally
from gpunn.tensor import Tensor, no_grad, tensor

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LETTERS = "." + "".join(sorted(set("".join(NAMES))))
"""The symbols; the full stop ends a name."""

_LONGEST = max(map(len, NAMES)) + 1
_IGNORED = -100


@dataclass(frozen=True)
class Options(base.TrainingOptions):
    """The options of a run; ``seed`` draws the split, the weights, the order of the batches and the jitter."""

    command: ClassVar[str] = "train spell"
    epochs: int = option(60, "Passes over the training images.", least=1)
    batch_size: int = option(32, "Images per training step.", least=1)
    lr: float = option(0.005, "Highest learning rate, above 0.", positive=True)
    hidden_size: int = option(64, "Hidden units of the recurrent layer.", least=1)
    workers: int = option(0, "Threads that make batches ahead; the same batches with any number.", least=0)


class Speller(nn.Module):
    """64 pixels → linear, ReLU → 128 features → a decoder of letters; images (N, 1, 8, 8).

    >>> Speller(16, random_generator(0)).spell(np.zeros((2, 1, 8, 8), np.float32))[0].isalpha()
    True
    """

    def __init__(self, hidden_size: int, generator: np.random.Generator) -> None:
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(64, 128, generator=generator), nn.ReLU())
        self.decoder = SequenceDecoder(128, hidden_size, len(LETTERS), generator=generator)

    def forward(self, x: Any, symbols: Any) -> Any:
        return self.decoder(self.features(x), symbols)

    def spell(self, x: Any) -> list[str]:
        """The names that are read in the images, without their end signs."""
        with self.evaluating(), no_grad():
            symbols = to_cpu(self.decoder.decode(self.features(tensor(x)), _LONGEST))
        return ["".join(LETTERS[s] for s in row if s) for row in symbols.tolist()]

    def probabilities(self, x: Any, names: Sequence[str]) -> list[float]:
        """The probability of each of ``names`` for the image x (1, 1, 8, 8): that of its letters and its end sign.

        >>> speller = Speller(16, random_generator(0))
        >>> x = np.zeros((1, 1, 8, 8), np.float32)
        >>> one, other = speller.probabilities(x, ["one", speller.spell(x)[0]])
        >>> 0 < one < other < 1
        True
        """
        symbols = asarray(as_symbols(names), device_of(x))
        with self.evaluating(), no_grad():
            features = self.features(tensor(x)).data.repeat(len(names), 0)
            logarithms = to_cpu(F.log_softmax(self.decoder(tensor(features), symbols).data))
        each = np.take_along_axis(logarithms, to_cpu(symbols)[..., np.newaxis], -1)[..., 0]
        sums = [float(row[: len(name) + 1].sum()) for name, row in zip(names, each, strict=True)]
        return [math.exp(total) for total in sums]


def as_symbols(names: Sequence[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The letters of each name, then the end sign, to the length of the longest name of a digit.

    >>> as_symbols(["one"]).tolist() == [[*(LETTERS.index(c) for c in "one"), 0, 0, 0]]
    True
    """
    return np.array([[LETTERS.index(c) for c in name.ljust(_LONGEST, ".")] for name in names], np.int64)


class Spelled(NamedTuple):
    """The loss of a letter, the share of exact names, and what was spelled."""

    loss: float
    exact: float
    names: list[str]


class Spell(Labelled, Training):
    """An answer is the name that is spelled, letter by letter, then the other names of digits, the likeliest first."""

    name = "spell"
    text = "One to many: the name of a digit, letter by letter, from its image."
    options: Options
    options_type = Options
    needs = ("sklearn", "matplotlib", "safetensors")
    versions = ("scikit-learn",)
    keeps = ("names.json",)
    classes = NAMES
    shape = (1, 8, 8)

    @cached_property
    def data(self) -> list[tuple[Array, Array]]:
        return [(asarray(x, self.device), asarray(y, self.device)) for x, y in digits(self.options.seed)]

    @cached_property
    def symbols(self) -> Array:
        """The letters of each digit's name."""
        return asarray(as_symbols(NAMES), self.device)

    @cached_property
    def targets(self) -> Array:
        """The letters to be learned: behind the end sign there is nothing."""
        symbols = as_symbols(NAMES)
        return asarray(np.where(np.roll(symbols == 0, 1, 1) & (symbols == 0), _IGNORED, symbols), self.device)

    def network(self) -> Speller:
        return Speller(self.options.hidden_size, random_generator(self.options.seed)).to(self.device)

    def augment(self, batch: tuple[Array, Array], generator: np.random.Generator) -> tuple[Array, Array]:
        return jitter(batch[0], generator), batch[1]

    def inputs(self, batch: tuple[Array, Array]) -> tuple[Array, Array]:
        x, labels = batch
        return x, self.symbols[labels]

    def loss(self, network: Speller, batch: tuple[Array, Array]) -> tuple[Tensor, int]:
        """The mean loss of a letter."""
        x, symbols = self.inputs(batch)
        logits = network(tensor(x), symbols).reshape(-1, len(LETTERS))
        return F.cross_entropy(logits, self.targets[batch[1]].reshape(-1)), len(x)

    def evaluate(self, network: Speller, test: tuple[Array, Array]) -> Spelled:
        x, labels = test
        with network.evaluating(), no_grad(), np.errstate(over="ignore", invalid="ignore"):
            loss = float(self.loss(network, test)[0].item())
            spelled = network.spell(x)
        return Spelled(loss, sum(a == b for a, b in zip(spelled, _names(labels), strict=True)) / len(labels), spelled)

    def measures(self, result: Spelled) -> dict[str, float]:
        return {"test_loss": result.loss, "test_accuracy": result.exact}

    def results(self, result: Spelled) -> dict[str, float]:
        return {"exact_names": result.exact, "test_loss": result.loss}

    def confusion(self, result: Spelled) -> dict[str, Confusion]:
        return {"": tally(NAMES, self.data[1][1], result.names)}

    def keep(self, model: Speller, result: Spelled) -> None:
        write_json(self.folder / "names.json", {"spelled": result.names, "true": _names(self.data[1][1])})

    def predict(self, model: Speller, path: Path) -> list[Answer]:
        images, several = digit_images(path)
        found = []
        for number, image in enumerate(images):
            x = asarray(image[np.newaxis], self.device)
            (spelled,) = model.spell(x)
            others = [name for name in NAMES if name != spelled]
            probabilities = model.probabilities(x, [spelled, *others])
            likely = [(spelled, probabilities[0]), *ranked(others, probabilities[1:])]
            found.append(Answer(likely, number if several else None))
        return found

    @classmethod
    def measured(cls, summary: dict[str, Any]) -> str:
        return f"exact test names {summary['exact_names']:.2%}"


def _names(labels: Array) -> list[str]:
    return [NAMES[label] for label in to_cpu(labels).tolist()]


train_spell = Spell.run

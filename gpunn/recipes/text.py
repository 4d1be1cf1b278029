"""Many to many: a model of the characters of a text file, which then writes text of its own.

The first 90 % of the text are learned, the end is held out as the test. The run folder holds

- ``config.json``: the options of the run;
- ``metrics.jsonl``: a line an epoch, written as the epoch ends; losses are in nats a character;
- ``checkpoints/``: from which ``gpunn resume`` goes on;
- ``summary.json``: what the run came to, with ``status`` ``"finished"``, ``"interrupted"`` or ``"diverged"``, and
  ``test_bits_per_character``, of the held-out text;
- ``alphabet.json`` and ``model.safetensors``: the characters, and the weights at the end of the last whole epoch;
- ``sample.txt``: text that the model wrote;
- ``curves.png``, once there is an epoch to draw.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np

from gpunn import functional as F
from gpunn import nn
from gpunn.backend import Array, asarray, device_of, random_generator
from gpunn.errors import FileError
from gpunn.functional.record import raw
from gpunn.models import CELLS, CharacterModel
from gpunn.recipes import options as base
from gpunn.recipes.options import option
from gpunn.recipes.training import Trained, Training
from gpunn.runs.folder import SAMPLE, read_json, write_json, write_text
from gpunn.runs.loaded import Written
from gpunn.tensor import Tensor, no_grad
from gpunn.train import Trainer

TRAINING_TENTHS = 9
SAMPLE_LENGTH = 400
_PROMPT = 1000  # characters that a continuation has seen


@dataclass(frozen=True)
class Options(base.TrainingOptions):
    """The options of a run; ``seed`` draws the weights and the sample. The state goes on from step to step."""

    command: ClassVar[str] = "train text"
    file: str | None = option(None, "A text in UTF-8.", shown="the topics of Python's own help", path=True)
    cell: str = option("gru", "The recurrent cell.", choices=tuple(CELLS))
    hidden_size: int = option(256, "Hidden units of a recurrent layer.", least=1)
    num_layers: int = option(1, "Recurrent layers.", least=1)
    epochs: int = option(4, "Passes over the text.", least=1)
    batch_size: int = option(32, "Parts of the text that are read side by side.", least=1)
    sequence_length: int = option(64, "Characters of each part per training step.", least=1)
    lr: float = option(0.005, "Highest learning rate, above 0.", positive=True)
    temperature: float = option(0.7, "Of the sample, above 0: below 1 it is tamer.", positive=True)


class Reading:
    """An epoch of text: windows of ``length`` over ``parts`` (B, T), one after the other, and where the model is.

    ``state`` is that of its recurrent layers behind the last window, None at the start of each epoch.
    """

    def __init__(self, parts: Array, length: int) -> None:
        self.parts, self._windows = parts, _windows(parts, length)
        self._next, self.state = 0, cast(Any, None)

    def __len__(self) -> int:
        return len(self._windows)

    def __iter__(self) -> Iterator[Window]:
        while self._next < len(self):
            at = self._windows[self._next]
            self._next += 1
            yield Window(self, self.parts[:, at], self.parts[:, at.start + 1 : at.stop + 1])
        self._next, self.state = 0, None

    def state_dict(self) -> dict[str, Any]:
        arrays = self.state if isinstance(self.state, tuple) else (self.state,)
        named = {f"state.{number}": array.copy() for number, array in enumerate(arrays) if array is not None}
        return {"next": self._next, "several": isinstance(self.state, tuple)} | named

    def load_state_dict(self, state: dict[str, Any]) -> None:
        names = sorted(name for name in state if name.startswith("state."))
        arrays = [asarray(state[name], device_of(self.parts)) for name in names]
        self._next = state["next"]
        self.state = tuple(arrays) if state["several"] else arrays[0] if arrays else None


class Window(NamedTuple):
    """The characters that are read (B, T), and those that are to be guessed: the next of each."""

    reading: Reading
    inputs: Array
    targets: Array


class Guessed(NamedTuple):
    """The nats that a next character costs, and the share that is guessed right."""

    nats: float
    right: float


def read_text(file: str | os.PathLike[str] | None) -> str:
    """The text of ``file``, or of Python's help topics; raises FileError that names the file and what is wrong."""
    if file is None:
        from pydoc_data.topics import topics

        return "\n".join(topics[name] for name in sorted(topics))
    try:
        text = Path(file).read_bytes().decode("utf-8")
    except OSError as error:
        raise FileError(f"{file}: the text cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise FileError(f"{file}: not a text in UTF-8: {error.reason} at byte {error.start}") from error
    if not text:
        raise FileError(f"{file}: the text is empty")
    return text.replace("\r\n", "\n")


class Text(Training):
    """A text is continued in the way of the sample. The file of a run is needed to measure it."""

    name = "text"
    text = "Many to many: a text character by character, then writing some of its kind."
    options: Options
    options_type = Options
    needs = ("matplotlib", "safetensors")
    keeps = ("alphabet.json", SAMPLE)
    distributes = False  # each part of the text is read on by the state that read it so far

    @cached_property
    def content(self) -> str:
        return read_text(self.options.file)

    @property
    def source(self) -> str:
        return self.options.file or "the topics"

    def check(self) -> None:
        batch_size, length = self.options.batch_size, self.options.sequence_length
        # Inputs and targets, one further: a whole step for each part of the training text, and one for the test.
        in_training = -(-10 * batch_size * (length + 1) // TRAINING_TENTHS)
        needed = max(in_training, 10 * length // (10 - TRAINING_TENTHS) + 1)
        if len(self.content) < needed:
            raise FileError(
                f"{self.source}: the text is too short: {len(self.content)} characters, where {needed} are needed "
                f"for batch_size={batch_size}, sequence_length={length}"
            )

    def data_digest(self) -> str:
        return hashlib.sha256(self.content.encode()).hexdigest()[:16]

    def work(self) -> dict[str, Any]:
        self.alphabet = _alphabet(self.content)
        write_json(self.folder / "alphabet.json", {"alphabet": self.alphabet})
        return super().work()

    def reopen(self) -> None:
        alphabet = read_json(self.folder / "alphabet.json").get("alphabet")
        if not (isinstance(alphabet, str) and alphabet and alphabet == _alphabet(alphabet)):
            rule = "it must hold the characters of the run, each once, in order"
            raise FileError(f"{self.folder / 'alphabet.json'}: {rule}")
        self.alphabet = alphabet

    @cached_property
    def data(self) -> list[Array]:
        """The training and the test part of the text, each (B, T): parts that are read side by side."""
        if unknown := set(self.content) - set(self.alphabet):
            raise FileError(f"{self.source}: not the text of the run: {min(unknown)!r} is not in its alphabet")
        number = {character: index for index, character in enumerate(self.alphabet)}
        indices = np.array([number[character] for character in self.content], np.int64)
        border = len(indices) * TRAINING_TENTHS // 10
        test_parts = min(self.options.batch_size, (len(indices) - border) // (self.options.sequence_length + 1))
        parts = (indices[:border], self.options.batch_size), (indices[border:], test_parts)
        return [asarray(_side_by_side(text, count), self.device) for text, count in parts]

    def network(self) -> CharacterModel:
        self.generator = random_generator(self.options.seed)  # the sample is drawn from it, too
        settings: dict[str, Any] = {"num_layers": self.options.num_layers, "generator": self.generator}
        hidden_size, cell = self.options.hidden_size, self.options.cell
        return CharacterModel(self.alphabet, hidden_size=hidden_size, cell=cell, **settings).to(self.device)

    def networks(self) -> Iterator[nn.Module]:
        """One of each cell; any alphabet and any length launch the same kernels."""
        self.alphabet = "ab"
        for cell in CELLS:
            self.options = replace(self.options, cell=cell, sequence_length=2)
            yield self.network()

    def batches(self) -> Reading:
        return Reading(self.data[0], self.options.sequence_length)

    def zeros(self, size: int, dtype: np.dtype[Any]) -> Window:
        length = self.options.sequence_length
        return next(iter(Reading(asarray(np.zeros((size, length + 1), int), self.device), length)))

    def test_zeros(self, dtype: np.dtype[Any]) -> Array:
        return self.zeros(self.batch_size, dtype).reading.parts

    def inputs(self, batch: Window) -> Array:
        return batch.inputs

    def exporting(self) -> tuple[Any, dict[str, Any]]:
        """With the state before as input and that after as output: a program writes text with it step by step."""
        h = asarray(np.zeros((self.options.num_layers, 1, self.options.hidden_size), np.float32), self.device)
        states = (h, h) if self.options.cell == "lstm" else (h,)
        names = {f"input_{number}": {1: "batch"} for number, _ in enumerate(states, 1)}
        axes = {"dynamic_batch": False, "dynamic_axes": {"input": {0: "batch", 1: "length"}} | names}
        indices, _ = super().exporting()
        state = states if len(states) > 1 else h
        return (indices, state), axes | {"metadata": {"alphabet": self.alphabet}}

    def loss(self, network: CharacterModel, batch: Window) -> tuple[Tensor, int]:
        value, count, _ = _guess(network, batch)
        return value, count

    def train(self, model: nn.Module) -> Trained:
        outcome, records, facts = super().train(model)
        return Trained(outcome, records, {"characters": len(self.content), "alphabet_size": len(self.alphabet)} | facts)

    def speed(self, trainer: Trainer) -> dict[str, float | None]:
        in_epochs = sum(record["seconds"] for record in trainer.records)
        windows = trainer.epoch * len(self.batches()) * self.options.batch_size
        characters = windows * self.options.sequence_length
        return {"characters_per_second": characters / in_epochs if trainer.records else None}

    def evaluate(self, network: CharacterModel, test: Array) -> Guessed:
        total, right, count = 0.0, 0.0, 0
        with network.evaluating(), no_grad(), np.errstate(over="ignore", invalid="ignore"):
            for window in Reading(test, self.options.sequence_length):
                value, size, correct = _guess(network, window)
                total, right, count = total + float(value.item()) * size, right + correct, count + size
        return Guessed(total / count, right / count)

    def measures(self, result: Guessed) -> dict[str, float]:
        nats, right = result
        return {"test_loss": nats, "test_bits_per_character": nats / math.log(2), "test_accuracy": right}

    def results(self, result: Guessed) -> dict[str, float]:
        nats, right = result
        return {"test_bits_per_character": nats / math.log(2), "test_accuracy": right, "test_loss": nats}

    def keep(self, model: CharacterModel, result: Guessed) -> None:
        sample = model.generate(self.content[:1], SAMPLE_LENGTH, self.options.temperature, self.generator)
        write_text(self.folder / SAMPLE, sample + "\n")
        self.told = {"sample": sample}

    def predict(self, model: CharacterModel, path: Path, length: int = SAMPLE_LENGTH) -> list[Written]:
        text = read_text(path)
        if unknown := "".join(sorted(set(text) - set(self.alphabet)))[:20]:
            raise FileError(f"{path}: it has characters that the run did not learn: {unknown!r}")
        indices = asarray(model.encode(text)[np.newaxis], self.device)
        bits = self.evaluate(model, indices).nats / math.log(2) if len(text) > 1 else None
        generator = random_generator(self.options.seed)
        written = model.generate(text[-_PROMPT:], length, self.options.temperature, generator)
        return [Written(written, len(text), bits)]

    @classmethod
    def measured(cls, summary: dict[str, Any]) -> str:
        return f"test bits/character {summary['test_bits_per_character']:.3f}"

    @classmethod
    def headline(cls, summary: dict[str, Any]) -> str:
        """The sample, where it is told, then the measure.

        >>> summary = {"status": "finished", "test_bits_per_character": 2.0, "epochs": 2, "seconds": 1.25}
        >>> print(Text.headline({"sample": "Once"} | summary))
        Once
        <BLANKLINE>
        test bits/character 2.000 after 2 epochs, 1.2 s
        """
        said = super().headline(summary)
        return f"{summary['sample']}\n\n{said}" if "sample" in summary else said


def _alphabet(text: str) -> str:
    return "".join(sorted(set(text)))


def _guess(model: CharacterModel, window: Window) -> tuple[Tensor, int, float]:
    """The mean loss of the next characters of a window, how many they are, and how many are right."""
    targets = window.targets.reshape(-1)
    logits, state = model(window.inputs, window.reading.state)
    window.reading.state = _detached(state)
    logits = logits.reshape(-1, len(model.alphabet))
    right = float((raw(logits).argmax(1) == targets).sum())
    return F.cross_entropy(logits, targets), len(targets), right


def _side_by_side(indices: np.ndarray[Any, Any], parts: int) -> np.ndarray[Any, Any]:
    """The text as ``parts`` rows of one length, one going on where the other ends; what is left over is dropped."""
    length = len(indices) // parts
    return indices[: parts * length].reshape(parts, length)


def _windows(parts: Array, length: int) -> list[slice]:
    """The inputs of each step; the targets are one character further. The last step may be shorter."""
    last = parts.shape[1] - 1
    return [slice(start, min(start + length, last)) for start in range(0, last, length)]


def _detached(state: Any) -> Any:
    """The arrays of a state: the gradient stops there."""
    return tuple(raw(part) for part in state) if isinstance(state, tuple) else raw(state)


train_text = Text.run

"""Many to many: a model of the characters of a text file, which then writes text of its own.

The first 90 % of the text are learned, the end is held out as the test. The run folder holds

- ``config.json``: the options of the run;
- ``metrics.jsonl``: a line an epoch, written as the epoch ends; losses are in nats a character;
- ``checkpoints/``: from which ``gpunn resume`` goes on;
- ``summary.json``: what the run came to, with ``status`` ``"finished"``, ``"interrupted"`` or ``"diverged"``, and
  ``test_bits``, the bits a character of the held-out text;
- ``alphabet.json`` and ``model.safetensors``: the characters, and the weights at the end of the last whole epoch;
- ``sample.txt``: text that the model wrote;
- ``curves.png``, once there is an epoch to draw.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np

from gpunn import functional as F
from gpunn import optim, plot
from gpunn.backend import Array, asarray, device_of, random_generator
from gpunn.checkpoint import save_weights
from gpunn.errors import FileError
from gpunn.functional.record import raw
from gpunn.models import CharacterModel
from gpunn.models.sequence import CELLS
from gpunn.recipes import options as base
from gpunn.recipes import run
from gpunn.recipes.options import option
from gpunn.recipes.run import Follow, OnEpoch, OnStep
from gpunn.runs.folder import read_json, write_json, write_text
from gpunn.runs.loaded import Loaded, Measured, Written, read_weights
from gpunn.tensor import Tensor, no_grad
from gpunn.train import Checkpoint, JsonLines, Trainer

FILES = (
    *("config.json", "metrics.jsonl", "checkpoints", "summary.json", "model.safetensors"),
    *("alphabet.json", "sample.txt", "curves.png"),
)
TRAINING_TENTHS = 9
SAMPLE_LENGTH = 400
_PROMPT = 1000  # characters that a continuation has seen

_NEEDS = ("matplotlib", "safetensors")


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

    def __iter__(self) -> Iterator[slice]:
        while self._next < len(self):
            self._next += 1
            yield self._windows[self._next - 1]
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


def train_text(
    options: Options,
    out: str | os.PathLike[str] | None = None,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
    resume: bool = False,
) -> tuple[Path, dict[str, Any]]:
    """Run the recipe; return the run folder, and what its summary.json holds.

    Arguments, Ctrl-C and errors are those of :func:`gpunn.recipes.digits.train_digits`; FileError also for a text that
    is missing, empty, not UTF-8, or too short. The same options give the same weights, byte for byte, on one machine.
    """
    run.check_packages(Options.command, _NEEDS)
    device = run.choose_device(Options.command, options.device, options.emulate)
    text = read_text(options.file)
    # Inputs and targets, one further: a whole step for each part of the training text, and one for the test.
    in_training = -(-10 * options.batch_size * (options.sequence_length + 1) // TRAINING_TENTHS)
    needed = max(in_training, 10 * options.sequence_length // (10 - TRAINING_TENTHS) + 1)
    if len(text) < needed:
        raise FileError(
            f"{options.file or 'the topics'}: the text is too short: {len(text)} characters, where {needed} are needed "
            f"for batch_size={options.batch_size}, sequence_length={options.sequence_length}"
        )
    # One BLAS thread: a second one would gain a third with 256 units, and lose more where another process is busy.
    with (
        run.begin("text", options, device, out, FILES, resume) as (folder, config),
        run.computing(device, options.emulate, threads=1),
    ):
        return _run(options, text, config, folder, on_step, on_epoch)


def _alphabet(text: str) -> str:
    return "".join(sorted(set(text)))


def network(options: Options, alphabet: str, generator: np.random.Generator) -> CharacterModel:
    """The model before training."""
    settings: dict[str, Any] = {"num_layers": options.num_layers, "cell": options.cell, "generator": generator}
    return CharacterModel(alphabet, hidden_size=options.hidden_size, **settings)


def data(options: Options, indices: np.ndarray[Any, Any], device: str) -> tuple[Array, Array]:
    """The training and the test part of a text, each (B, T): parts that are read side by side, on ``device``."""
    border = len(indices) * TRAINING_TENTHS // 10
    test_parts = min(options.batch_size, (len(indices) - border) // (options.sequence_length + 1))
    return (
        _side_by_side(indices[:border], options.batch_size, device),
        _side_by_side(indices[border:], test_parts, device),
    )


def _loss(model: CharacterModel, window: slice, parts: Array, state: Any) -> tuple[Tensor, int, Any, float]:
    """The mean loss of the next characters of a window, how many they are, the state behind it, how many are right."""
    inputs, targets = parts[:, window], parts[:, window.start + 1 : window.stop + 1].reshape(-1)
    logits, state = model(inputs, state)
    logits = logits.reshape(-1, len(model.alphabet))
    right = float((raw(logits).argmax(1) == targets).sum())
    return F.cross_entropy(logits, targets), len(targets), _detached(state), right


def _measure(model: CharacterModel, parts: Array, length: int) -> tuple[float, float]:
    """The nats that a next character of parts (B, T) costs, and the share that is guessed right."""
    total, right, count, state = 0.0, 0.0, 0, None
    with model.evaluating(), no_grad(), np.errstate(over="ignore", invalid="ignore"):
        for window in _windows(parts, length):
            value, size, state, correct = _loss(model, window, parts, state)
            total, right, count = total + float(value.item()) * size, right + correct, count + size
    return total / count, right / count


def _measures(model: CharacterModel, held_out: Array, options: Options) -> dict[str, float]:
    """The measures of a summary."""
    nats, right = _measure(model, held_out, options.sequence_length)
    return {"test_bits": nats / math.log(2), "test_accuracy": right, "test_loss": nats}


def load(options: Options, folder: Path) -> Loaded:
    """Open a run; raises FileError if ``folder`` holds no weights of it.

    A text is gone on with in the way of the sample. The file of the run is needed to measure it.
    """
    device = run.choose_device(options.command, options.device, options.emulate)
    alphabet = read_json(folder / "alphabet.json").get("alphabet")
    if not (isinstance(alphabet, str) and alphabet and alphabet == _alphabet(alphabet)):
        raise FileError(f"{folder / 'alphabet.json'}: it must hold the characters of the run, each once, in order")
    model = network(options, alphabet, random_generator(options.seed)).to(device)
    weights = read_weights(model, folder)
    computing = run.computing(device, options.emulate, threads=1)

    @computing
    def measured() -> Measured:
        text = read_text(options.file)
        known = read_json(folder / "summary.json").get("characters", len(text))
        if _alphabet(text) != alphabet or len(text) != known:
            raise FileError(f"{options.file or 'the topics'}: not the text of the run any more: it has changed")
        return Measured(_measures(model, data(options, model.encode(text), device)[1], options), {})

    @computing
    def predict(path: Path, length: int = SAMPLE_LENGTH) -> list[Written]:
        text = read_text(path)
        if unknown := "".join(sorted(set(text) - set(alphabet)))[:20]:
            raise FileError(f"{path}: it has characters that the run did not learn: {unknown!r}")
        indices = asarray(model.encode(text)[np.newaxis], device)
        bits = _measure(model, indices, options.sequence_length)[0] / math.log(2) if len(text) > 1 else None
        generator = random_generator(options.seed)
        return [Written(model.generate(text[-_PROMPT:], length, options.temperature, generator), len(text), bits)]

    example = asarray(np.zeros((1, options.sequence_length), np.int64), device)
    return Loaded(model, weights, example, None, measured, predict)


def _run(
    options: Options, text: str, config: dict[str, Any], folder: Path, on_step: OnStep | None, on_epoch: OnEpoch | None
) -> tuple[Path, dict[str, Any]]:
    device = config["device"]
    generator = random_generator(options.seed)
    alphabet = _alphabet(text)
    write_json(folder / "alphabet.json", {"alphabet": alphabet})
    model = network(options, alphabet, generator).to(device)
    learned, held_out = data(options, model.encode(text), device)
    train = Reading(learned, options.sequence_length)
    steps = options.epochs * len(train)
    adam = optim.Adam(model.parameters(), lr=options.lr)

    def loss(window: slice) -> tuple[Tensor, int]:
        value, count, train.state, _ = _loss(model, window, train.parts, train.state)
        return value, count

    def test() -> dict[str, float]:
        nats, right = _measure(model, held_out, options.sequence_length)
        return {"test_loss": nats, "test_bits_per_character": nats / math.log(2), "test_accuracy": right}

    saving = Checkpoint(folder / "checkpoints", about=config)
    trainer = Trainer(
        model,
        adam,
        train,
        loss,
        measure=test,
        schedule=run.WarmupCosine(adam, steps),
        precision=options.precision,
        callbacks=[JsonLines(folder / "metrics.jsonl"), Follow(steps, on_step, on_epoch), saving],
    )
    saving.resume(trainer)
    outcome = run.finish(lambda: trainer.run(options.epochs))
    save_weights(model, folder / "model.safetensors")  # first: it cannot be computed again
    measured = _measures(model, held_out, options)
    sample = model.generate(text[:1], SAMPLE_LENGTH, options.temperature, generator)
    write_text(folder / "sample.txt", sample + "\n")
    in_epochs = sum(record["seconds"] for record in trainer.records)
    windows = trainer.epoch * len(train) * options.batch_size
    summary = outcome.summary | {
        **measured,
        "characters": len(text),
        "alphabet_size": len(alphabet),
        "parameters": sum(p.size for p in model.parameters()),
        "seconds": trainer.seconds,
        "characters_per_second": windows * options.sequence_length / in_epochs if trainer.records else None,
        "epochs": trainer.epoch,
        "steps": trainer.step,
        "device": device,
        "emulate": options.emulate,
        "versions": run.versions(),
    }
    if trainer.records:
        plot.curves(trainer.records, folder / "curves.png")
    write_json(folder / "summary.json", summary)  # last: a run whose status is "finished" is complete
    run.raise_if_diverged(outcome, folder)
    return folder, summary | {"sample": sample}


def _side_by_side(indices: np.ndarray[Any, Any], parts: int, device: str) -> Array:
    """The text as ``parts`` rows of one length, one going on where the other ends; what is left over is dropped."""
    length = len(indices) // parts
    return asarray(indices[: parts * length].reshape(parts, length), device)


def _windows(parts: Array, length: int) -> list[slice]:
    """The inputs of each step; the targets are one character further. The last step may be shorter."""
    last = parts.shape[1] - 1
    return [slice(start, min(start + length, last)) for start in range(0, last, length)]


def _detached(state: Any) -> Any:
    """The arrays of a state: the gradient stops there."""
    return tuple(raw(part) for part in state) if isinstance(state, tuple) else raw(state)


def headline(summary: dict[str, Any]) -> str:
    """What the command line prints: the sample, then the measure.

    >>> print(headline({"sample": "Once", "status": "finished", "test_bits": 2.0, "epochs": 2, "seconds": 1.25}))
    Once
    <BLANKLINE>
    test bits/character 2.000 after 2 epochs, 1.2 s
    """
    return f"{summary['sample']}\n\n" + run.headline(f"test bits/character {summary['test_bits']:.3f}", summary)

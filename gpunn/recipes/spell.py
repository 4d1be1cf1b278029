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
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from gpunn import functional as F
from gpunn import nn, optim, plot
from gpunn.backend import Array, asarray, device_of, random_generator, to_cpu
from gpunn.checkpoint import save_weights
from gpunn.data import ArrayDataset, DataLoader, digits, jitter
from gpunn.models import SequenceDecoder
from gpunn.recipes import options as base
from gpunn.recipes import run
from gpunn.recipes.inputs import digit_images
from gpunn.recipes.options import option
from gpunn.recipes.run import Follow, OnEpoch, OnStep
from gpunn.runs.folder import write_json
from gpunn.runs.loaded import Answer, Loaded, Measured, ranked, read_weights, tally
from gpunn.tensor import Tensor, no_grad, tensor
from gpunn.train import Checkpoint, JsonLines, Trainer

FILES = (
    *("config.json", "metrics.jsonl", "checkpoints", "summary.json", "model.safetensors"),
    *("names.json", "curves.png"),
)
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LETTERS = "." + "".join(sorted(set("".join(NAMES))))
"""The symbols; the full stop ends a name."""

_LONGEST = max(map(len, NAMES)) + 1
_IGNORED = -100
_NEEDS = ("sklearn", "matplotlib", "safetensors")


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


def train_spell(
    options: Options,
    out: str | os.PathLike[str] | None = None,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
    resume: bool = False,
) -> tuple[Path, dict[str, Any]]:
    """Run the recipe; return the run folder, and what its summary.json holds.

    Arguments, Ctrl-C and errors are those of :func:`gpunn.recipes.digits.train_digits`. The same options give the
    same weights, byte for byte, on one machine.
    """
    run.check_packages(Options.command, _NEEDS)
    device = run.choose_device(Options.command, options.device, options.emulate)
    # Products of this size gain nothing from more.
    with (
        run.begin("spell", options, device, out, FILES, resume) as (folder, config),
        run.computing(device, options.emulate, threads=1),
    ):
        return _run(options, config, folder, on_step, on_epoch)


def network(options: Options, device: str) -> Speller:
    """The network before training, on ``device``."""
    return Speller(options.hidden_size, random_generator(options.seed)).to(device)


def data(options: Options, device: str) -> list[tuple[Array, Array]]:
    """Training and test data, on ``device``."""
    return [(asarray(x, device), asarray(y, device)) for x, y in digits(options.seed)]


def _loss(model: Speller, device: str) -> Callable[[Array, Array], Tensor]:
    """The mean loss of a letter, from images and labels."""
    symbols = as_symbols(NAMES)
    # Behind the end sign there is nothing to learn.
    targets = asarray(np.where(np.roll(symbols == 0, 1, 1) & (symbols == 0), _IGNORED, symbols), device)
    symbols = asarray(symbols, device)

    def loss(x: Array, labels: Array) -> Tensor:
        logits = model(tensor(x), symbols[labels])
        return F.cross_entropy(logits.reshape(-1, len(LETTERS)), targets[labels].reshape(-1))  # type: ignore[no-any-return]

    return loss


def _names(labels: Array) -> list[str]:
    return [NAMES[label] for label in to_cpu(labels).tolist()]


def _measure(model: Speller, x: Array, labels: Array) -> tuple[float, float, list[str]]:
    """The loss, the share of exact names, and what was spelled."""
    with model.evaluating(), no_grad(), np.errstate(over="ignore", invalid="ignore"):
        loss = float(_loss(model, device_of(x))(x, labels).item())
        spelled = model.spell(x)
    return loss, sum(a == b for a, b in zip(spelled, _names(labels), strict=True)) / len(labels), spelled


def load(options: Options, folder: Path) -> Loaded:
    """Open a run; raises FileError if ``folder`` holds no weights of it.

    An answer is the name that is spelled, letter by letter, then the other names of digits, the likeliest first.
    """
    device = run.choose_device(options.command, options.device, options.emulate)
    model = network(options, device)
    weights = read_weights(model, folder)
    example = asarray(np.zeros((1, 1, 8, 8), np.float32), device), asarray(as_symbols(NAMES[:1]), device)
    computing = run.computing(device, options.emulate, threads=1)

    @computing
    def measured() -> Measured:
        x, labels = data(options, device)[1]
        loss, exact, spelled = _measure(model, x, labels)
        return Measured({"exact_names": exact, "test_loss": loss}, {"": tally(NAMES, labels, spelled)})

    @computing
    def predict(path: Path) -> list[Answer]:
        images, several = digit_images(path)
        found = []
        for number, image in enumerate(images):
            x = asarray(image[np.newaxis], device)
            (spelled,) = model.spell(x)
            others = [name for name in NAMES if name != spelled]
            probabilities = model.probabilities(x, [spelled, *others])
            likely = [(spelled, probabilities[0]), *ranked(others, probabilities[1:])]
            found.append(Answer(likely, number if several else None))
        return found

    return Loaded(model, weights, example, NAMES, measured, predict)


def _run(
    options: Options, config: dict[str, Any], folder: Path, on_step: OnStep | None, on_epoch: OnEpoch | None
) -> tuple[Path, dict[str, Any]]:
    device = config["device"]
    train, (x_test, y_test) = data(options, device)
    names = _names(y_test)
    model = network(options, device)
    loss_of = _loss(model, device)
    adam = optim.Adam(model.parameters(), lr=options.lr)

    def moved(batch: tuple[Array, Array], generator: np.random.Generator) -> tuple[Array, Array]:
        return jitter(batch[0], generator), batch[1]

    loader = DataLoader(
        ArrayDataset(*train),
        options.batch_size,
        shuffle=True,
        seed=options.seed,
        augment=moved,
        workers=options.workers,
    )
    steps = options.epochs * len(loader)

    def test() -> dict[str, float]:
        loss, exact, _ = _measure(model, x_test, y_test)
        return {"test_loss": loss, "test_accuracy": exact}

    saving = Checkpoint(folder / "checkpoints", about=config)
    trainer = Trainer(
        model,
        adam,
        loader,
        lambda batch: (loss_of(*batch), len(batch[1])),
        measure=test,
        schedule=run.WarmupCosine(adam, steps),
        precision=options.precision,
        callbacks=[JsonLines(folder / "metrics.jsonl"), Follow(steps, on_step, on_epoch), saving],
    )
    saving.resume(trainer)
    outcome = run.finish(lambda: trainer.run(options.epochs))
    save_weights(model, folder / "model.safetensors")  # first: it cannot be computed again
    test_loss, exact, spelled = _measure(model, x_test, y_test)
    summary = outcome.summary | {
        "exact_names": exact,
        "test_loss": test_loss,
        "parameters": sum(p.size for p in model.parameters()),
        "seconds": trainer.seconds,
        "epochs": trainer.epoch,
        "steps": trainer.step,
        "device": device,
        "emulate": options.emulate,
        "versions": run.versions("scikit-learn"),
    }
    write_json(folder / "names.json", {"spelled": spelled, "true": names})
    if trainer.records:
        plot.curves(trainer.records, folder / "curves.png")
    write_json(folder / "summary.json", summary)  # last: a run whose status is "finished" is complete
    run.raise_if_diverged(outcome, folder)
    return folder, summary


def headline(summary: dict[str, Any]) -> str:
    """What the command line prints.

    >>> headline({"status": "finished", "exact_names": 0.5, "epochs": 2, "seconds": 1.25})
    'exact test names 50.00% after 2 epochs, 1.2 s'
    """
    return run.headline(f"exact test names {summary['exact_names']:.2%}", summary)

"""Train a LeNet-style network on scikit-learn's handwritten digits, and keep the run in a folder.

The folder holds

- ``config.json``: the options of the run;
- ``metrics.jsonl``: a line an epoch, written as the epoch ends;
- ``checkpoints/``: from which ``gpunn resume`` goes on, after each epoch, and where the run was interrupted;
- ``summary.json``: what the run came to, with ``status`` ``"finished"``, ``"interrupted"`` or ``"diverged"``;
- ``model.safetensors``: the weights at the end of the last whole epoch;
- ``curves.png`` (once there is an epoch to draw), and ``confusion.png`` and ``misclassified.png`` (on the test images).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from gpunn import nn, optim, plot
from gpunn.backend import Array, asarray, random_generator, to_cpu
from gpunn.data import digits, jitter
from gpunn.data.digits import CLASSES
from gpunn.models import lenet
from gpunn.recipes import options as base
from gpunn.recipes.inputs import digit_images
from gpunn.recipes.options import option
from gpunn.recipes.training import Classifier
from gpunn.train import Evaluation, confusion_matrix

WEIGHT_DECAY = 1e-4  # against over-fitting 1,347 images: as good or better on each of five splits where it was tried


@dataclass(frozen=True)
class Options(base.TrainingOptions):
    """The options of a run.

    ``seed`` draws the split into training and test images, the weights, the order of the batches and the jitter.
    ``device`` is ``"cpu"``, ``"gpu"`` or ``"gpu:N"``, or None for the default device; with ``emulate`` the arrays stay
    on the CPU and go through the CUDA kernels there.
    """

    command: ClassVar[str] = "train digits"
    epochs: int = option(80, "Passes over the training images.", least=1)
    batch_size: int = option(32, "Images per training step.", least=1)
    lr: float = option(0.005, "Highest learning rate, above 0.", positive=True)
    workers: int = option(0, "Threads that make batches ahead; the same batches with any number.", least=0)


class Digits(Classifier):
    """LeNet on images (N, 1, 8, 8), each moved a little in every epoch."""

    name = "digits"
    text = "A LeNet-style network on scikit-learn's handwritten digits."
    options: Options
    options_type = Options
    needs = ("sklearn", "matplotlib", "safetensors")
    versions = ("scikit-learn",)
    figures: ClassVar = {"confusion.png": "Confusion matrix", "misclassified.png": "Misclassified images"}
    classes = CLASSES
    shape = (1, 8, 8)

    @cached_property
    def data(self) -> list[tuple[Array, Array]]:
        return [(asarray(x, self.device), asarray(y, self.device)) for x, y in digits(self.options.seed)]

    def network(self) -> nn.Module:
        return lenet(generator=random_generator(self.options.seed)).to(self.device)

    def optimizer(self, network: nn.Module) -> optim.Adam:
        return optim.Adam(network.parameters(), lr=self.options.lr, weight_decay=WEIGHT_DECAY)

    def augment(self, batch: tuple[Array, Array], generator: np.random.Generator) -> tuple[Array, Array]:
        return jitter(batch[0], generator), batch[1]

    def keep(self, model: nn.Module, result: Evaluation) -> None:
        images, labels = map(to_cpu, self.data[1])
        matrix = confusion_matrix(labels, result.predictions, len(CLASSES))
        plot.confusion(matrix, self.folder / "confusion.png", CLASSES)
        plot.misclassified(images, labels, result.predictions, self.folder / "misclassified.png", CLASSES)

    def read(self, path: Path) -> tuple[Array, bool]:
        return digit_images(path)


train_digits = Digits.run

"""Train AlexNet on a folder of images, a folder for each class; without one, on digits drawn large.

The folder of the run holds ``config.json``, ``metrics.jsonl``, ``summary.json`` and ``model.safetensors`` as every run,
``curves.png``, ``confusion.png``, ``filters.png`` (the first convolution's), ``feature_maps.png`` (of the first
block, for one test image), and, if no images were given, ``images/``: scikit-learn's digits as PNG files.

The defaults show the whole on a CPU in a minute: few images, a quarter of the channels. For photographs take
``--width 1 --augment``, more epochs and the paper's settings: ``--batch-size 128 --lr 0.01``, 90 epochs of ImageNet.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from gpunn import nn, optim, plot
from gpunn.backend import Array, asarray, manual_seed, random_generator, to_cpu
from gpunn.data import (
    ImageFiles,
    ImageFolder,
    colour_components,
    colour_jitter,
    digits,
    image_folder,
    random_crop,
    random_flip,
)
from gpunn.data.digits import CLASSES
from gpunn.models import alexnet
from gpunn.recipes import options as base
from gpunn.recipes.options import option
from gpunn.recipes.training import Classifier, Trained
from gpunn.runs.folder import SUMMARY, check_own, read_json
from gpunn.tensor import no_grad, tensor
from gpunn.train import Evaluation, confusion_matrix

SIZE = 227
_LARGER = 256  # what the paper's crops are cut from
_CHANNELS, _HIDDEN = (96, 256, 384, 384, 256), 4096
_COLOUR_SAMPLE = 200  # images from which the colour components are taken


@dataclass(frozen=True)
class Options(base.TrainingOptions):
    """The options of a run; ``seed`` draws the split, the weights, the order of the batches and the augmentation."""

    command: ClassVar[str] = "train alexnet"
    images: str | None = option(
        None, "A folder with a folder of images for each class.", shown="digits drawn large", path=True
    )
    epochs: int = option(12, "Passes over the training images.", least=1)
    batch_size: int = option(16, "Images per training step.", least=1)
    lr: float = option(0.005, "Highest learning rate, above 0.", positive=True)
    width: float = option(0.25, "Share of the paper's channels and hidden units, above 0.", positive=True)
    towers: int = option(2, "1, or 2: the halves of the paper's network.", least=1)
    norm_before_pool: bool = option(False, "The paper's order, LRN before pooling.")
    augment: bool = option(False, "The paper's random crops, flips and colours.")
    workers: int = option(0, "Threads that make batches ahead; the same batches with any number.", least=0)


class AlexNet(Classifier):
    """AlexNet on images (N, 3, 227, 227), with He's initial weights.

    With the paper's deviation of 0.01 the loss rests for hundreds of steps before it falls. To open a run, the folder
    of its images is needed where it is measured, and for the names of the classes while it has no summary.
    """

    name = "alexnet"
    text = "AlexNet on a folder of images, a folder for each class; by default digits drawn large."
    options: Options
    options_type = Options
    needs = ("sklearn", "matplotlib", "PIL", "safetensors")
    versions = ("Pillow",)
    figures: ClassVar = {
        "confusion.png": "Confusion matrix",
        "filters.png": "Filters of the first convolution",
        "feature_maps.png": "Feature maps",
    }
    keeps = ("images",)
    threads = os.cpu_count() or 1
    shape = (3, SIZE, SIZE)
    test_batch_size = 32

    def check(self) -> None:
        if self.options.images is not None:  # what is wrong with them is said before there is a run folder
            self.classes = self.images.classes

    def data_digest(self) -> str | None:
        """Of the names and sizes of the images, in their folder."""
        if self.options.images is None:
            return None
        paths = sorted(path for x, _ in (self.images.train, self.images.test) for path in x.paths)
        digest = hashlib.sha256()
        for path in paths:
            digest.update(f"{path.relative_to(self.options.images).as_posix()}\0{path.stat().st_size}\0".encode())
        return digest.hexdigest()[:16]

    def work(self) -> dict[str, Any]:
        if self.options.images is None:
            self.on_first(lambda: large_digits(self.folder / "images"))
        self.classes = self.images.classes
        return super().work()

    def reopen(self) -> None:
        classes = read_json(self.folder / SUMMARY).get("classes")
        if not (isinstance(classes, list) and classes and all(isinstance(name, str) for name in classes)):
            self.check_data(self.folder)
            classes = self.images.classes
        self.classes = classes

    @cached_property
    def images(self) -> ImageFolder:
        """The images of the run; arrays of them are on the device."""
        if self.options.images is None:
            check_own(self.folder, ("images",))
        images = Path(self.options.images) if self.options.images is not None else self.folder / "images"
        return image_folder(images, SIZE, self.options.seed, self.device, _LARGER if self.options.augment else None)

    @cached_property
    def data(self) -> list[tuple[ImageFiles, Array]]:
        return [(x, asarray(labels, self.device)) for x, labels in (self.images.train, self.images.test)]

    def network(self) -> Any:
        generator = random_generator(self.options.seed)
        model = alexnet(
            len(self.classes),
            towers=self.options.towers,
            norm_before_pool=self.options.norm_before_pool,
            size=SIZE,
            channels=tuple(map(self.wide, _CHANNELS)),
            hidden=self.wide(_HIDDEN),
            generator=generator,
        )
        for name, parameter in model.named_parameters():
            if name.endswith("weight"):
                nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)
            else:
                nn.init.constant_(parameter, 0)
        return model.to(self.device)

    def wide(self, count: int) -> int:
        """The share of ``count`` channels, so that two towers can share them."""
        return max(4, round(self.options.width * count / 4) * 4)

    def networks(self) -> Iterator[nn.Module]:
        self.classes = CLASSES  # the run would find them in its images
        yield self.network()

    def optimizer(self, network: nn.Module) -> optim.SGD:
        """The paper's momentum and weight decay."""
        return optim.SGD(network.parameters(), lr=self.options.lr, momentum=0.9, weight_decay=5e-4)

    def train(self, model: nn.Module) -> Trained:
        manual_seed(self.options.seed)  # for dropout
        return super().train(model)

    @cached_property
    def components(self) -> Any:
        """The colours that differ most between the training images."""
        return colour_components(self.data[0][0][:_COLOUR_SAMPLE])

    def augment(self, batch: tuple[Array, Array], generator: np.random.Generator) -> tuple[Array, Array]:
        if not self.options.augment:
            return batch
        cropped = random_crop(batch[0], SIZE, generator)
        return colour_jitter(random_flip(cropped, generator), self.components, generator), batch[1]

    def keep(self, model: Any, result: Evaluation) -> None:
        x, labels = self.images.test
        matrix = confusion_matrix(labels, result.predictions, len(self.classes))
        plot.confusion(matrix, self.folder / "confusion.png", self.classes)
        plot.filters(to_cpu(model.conv1.weight.data), self.folder / "filters.png")
        with no_grad(), model.evaluating():
            maps = model.response1(model.conv1(tensor(x[:1])))
        plot.feature_maps(to_cpu(maps.data)[0], self.folder / "feature_maps.png")

    def about(self) -> dict[str, Any]:
        return {"classes": self.classes} | super().about()

    def read(self, path: Path) -> tuple[Array, bool]:
        return ImageFiles([path], SIZE, self.device)[:], False


def large_digits(folder: Path, each: int = 30) -> Path:
    """Write ``each`` of scikit-learn's digits of every class as PNG files of 227×227 pixels; return ``folder``."""
    from PIL import Image

    (images, labels), _ = digits(0)
    for digit in CLASSES:
        (folder / digit).mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(images[labels == int(digit)][:each, 0]):
            small = Image.fromarray(np.round(255 * image).astype(np.uint8))
            small.resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(folder / digit / f"{number:03d}.png")
    return folder


train_alexnet = AlexNet.run

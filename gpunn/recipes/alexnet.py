"""Train AlexNet on a folder of images, a folder for each class; without one, on digits drawn large.

The folder of the run holds ``config.json``, ``metrics.jsonl``, ``summary.json`` and ``model.safetensors`` as every run,
``curves.png``, ``confusion.png``, ``filters.png`` (the first convolution's), ``feature_maps.png`` (of the first
block, for one test image), and, if no images were given, ``images/``: scikit-learn's digits as PNG files.

The defaults show the whole on a CPU in a minute: few images, a quarter of the channels. For photographs take
``--width 1 --augment``, more epochs and the paper's settings: ``--batch-size 128 --lr 0.01``, 90 epochs of ImageNet.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from gpunn import nn, optim, plot
from gpunn.backend import Array, asarray, manual_seed, random_generator, to_cpu
from gpunn.data import colour_components, colour_jitter, digits, image_folder, random_crop, random_flip
from gpunn.data.digits import CLASSES
from gpunn.data.folder import ImageFiles, ImageFolder
from gpunn.models import alexnet
from gpunn.models.alexnet import LAYERS
from gpunn.recipes import options as base
from gpunn.recipes import run
from gpunn.recipes.classifier import load_classifier, train_classifier
from gpunn.recipes.options import option
from gpunn.recipes.run import OnEpoch, OnStep
from gpunn.runs.folder import check_own, read_json, write_json
from gpunn.runs.loaded import Loaded
from gpunn.tensor import no_grad, tensor
from gpunn.train import confusion_matrix

FILES = (
    *("config.json", "metrics.jsonl", "checkpoints", "summary.json", "model.safetensors"),
    *("curves.png", "confusion.png", "filters.png", "feature_maps.png", "images"),
)
_NEEDS = ("sklearn", "matplotlib", "PIL", "safetensors")
SIZE = 227
TEST_BATCH = 32
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


def train_alexnet(
    options: Options,
    out: str | os.PathLike[str] | None = None,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
    resume: bool = False,
) -> tuple[Path, dict[str, Any]]:
    """Run the recipe; arguments, result and errors are those of :func:`gpunn.recipes.digits.train_digits`.

    Raises FileError too, with the path and the cause, for a folder or an image that cannot be used.
    """
    run.check_packages("train alexnet", _NEEDS)
    device = run.choose_device("train alexnet", options.device, options.emulate)
    if options.images is not None:  # what is wrong with them is said before there is a run folder
        data(options, Path(), device)
    with run.begin("alexnet", options, device, out, FILES, resume) as (folder, config):
        if options.images is None:
            large_digits(folder / "images")
        with run.computing(device, options.emulate, threads=os.cpu_count() or 1):
            return _run(options, config, folder, on_step, on_epoch)


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


def data(options: Options, folder: Path, device: str) -> ImageFolder:
    """The images of the run in ``folder``; arrays of them go to ``device``."""
    if options.images is None:
        check_own(folder, ("images",))
    images = Path(options.images) if options.images is not None else folder / "images"
    return image_folder(images, SIZE, options.seed, device, _LARGER if options.augment else None)


def load(options: Options, folder: Path) -> Loaded:
    """Open a run; raises FileError if ``folder`` holds no weights of it.

    The folder of the images is needed to measure the run, and for the names of the classes while it has no summary.
    """
    device = run.choose_device(options.command, options.device, options.emulate)
    classes = read_json(folder / "summary.json").get("classes")
    if not (isinstance(classes, list) and classes and all(isinstance(name, str) for name in classes)):
        classes = data(options, folder, device).classes

    def test() -> tuple[ImageFiles, Array]:
        images, labels = data(options, folder, device).test
        return images, asarray(labels, device)

    return load_classifier(
        network(options, len(classes), random_generator(options.seed)).to(device),
        folder,
        classes,
        asarray(np.zeros((1, 3, SIZE, SIZE), np.float32), device),
        test,
        lambda path: (ImageFiles([path], SIZE, device)[:], False),
        run.computing(device, options.emulate, threads=os.cpu_count() or 1),
        test_batch_size=TEST_BATCH,
    )


def _run(
    options: Options, config: dict[str, Any], folder: Path, on_step: OnStep | None, on_epoch: OnEpoch | None
) -> tuple[Path, dict[str, Any]]:
    device = config["device"]
    (x, labels), (x_test, labels_test), classes = data(options, folder, device)
    generator = random_generator(options.seed)
    manual_seed(options.seed)  # for dropout

    model = network(options, len(classes), generator).to(device)
    outcome, records, result, summary = train_classifier(
        model,
        optimizer(model.parameters()),
        (x, asarray(labels, device)),
        (x_test, asarray(labels_test, device)),
        folder,
        epochs=options.epochs,
        batch_size=options.batch_size,
        seed=options.seed,
        config=config,
        workers=options.workers,
        precision=options.precision,
        augment=_augmentation(x) if options.augment else None,
        test_batch_size=TEST_BATCH,
        on_step=on_step,
        on_epoch=on_epoch,
    )
    about = {"classes": classes, "device": device, "emulate": options.emulate, "versions": run.versions("Pillow")}
    matrix = confusion_matrix(labels_test, result.predictions, len(classes))
    plot.confusion(matrix, folder / "confusion.png", classes)
    plot.filters(to_cpu(model.conv1.weight.data), folder / "filters.png")
    with no_grad(), model.evaluating():
        maps = model.response1(model.conv1(tensor(x_test[:1])))
    plot.feature_maps(to_cpu(maps.data)[0], folder / "feature_maps.png")
    if records:
        plot.curves(records, folder / "curves.png")
    write_json(folder / "summary.json", summary | about)
    run.raise_if_diverged(outcome, folder)
    return folder, summary | about


def optimizer(parameters: Any) -> optim.SGD:
    """The paper's, but for the learning rate, which the run sets."""
    return optim.SGD(parameters, momentum=0.9, weight_decay=5e-4)


def network(options: Options, classes: int, generator: np.random.Generator) -> Any:
    """AlexNet as the options have it, with He's initial weights.

    With the paper's deviation of 0.01 the loss rests for hundreds of steps before it falls.
    """

    def wide(count: int) -> int:
        return max(4, round(options.width * count / 4) * 4)  # so that two towers can share it

    model = alexnet(
        classes,
        towers=options.towers,
        norm_before_pool=options.norm_before_pool,
        size=SIZE,
        channels=tuple(map(wide, _CHANNELS)),
        hidden=wide(_HIDDEN),
        generator=generator,
    )
    for name in LAYERS:
        layer = getattr(model, name)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
        nn.init.constant_(layer.bias, 0)
    return model


def _augmentation(x: ImageFiles) -> Any:
    components = colour_components(x[:_COLOUR_SAMPLE])

    def augment(images: Array, generator: np.random.Generator) -> Array:
        cropped = random_crop(images, SIZE, generator)
        return colour_jitter(random_flip(cropped, generator), components, generator)

    return augment

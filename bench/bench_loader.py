"""How long a training step waits for a loader with two workers: the share of the time that ``next`` takes.

``cd bench && python -m pytest bench_loader.py``. In the report's row stand the time that a step waits and, as what it
is compared with, the whole step, waiting included: both are means over an epoch, the median of several epochs. The
first epoch is left out, in which worker processes are started. Waiting begins with an epoch's first batch, for which
nothing could be made ahead.
"""

import time
from functools import cache

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from gpunn import functional as F
from gpunn import optim, tensor
from gpunn.backend import random_generator
from gpunn.data import ArrayDataset, DataLoader, NpyDataset, digits, image_folder, jitter
from gpunn.models import lenet

WORKERS, BATCH = 2, 32


def moved(batch, generator):
    return jitter(batch[0], generator), batch[1]


def jittered_digits(folder):
    """1,347 images of 8×8 in memory, each moved a little."""
    return ArrayDataset(*digits(0)[0]), moved, lenet(generator=random_generator(0)), 5


def decoded_images(folder):
    """320 JPEG files of 96×96, brought to 64×64."""
    from PIL import Image

    g = random_generator(0)
    for number in range(400):
        path = folder / f"class {number % 2}" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        pixels = g.integers(256, size=(12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((96, 96)).save(path)
    images, labels = image_folder(folder, size=64).train
    return ArrayDataset(images, labels), None, lenet(3, 64, 2, generator=random_generator(0)), 4


def streamed_rows(folder):
    """1,024 rows of 3×32×32 float32 numbers in an .npy file."""
    np.save(folder / "x.npy", random_generator(0).random((1024, 3, 32, 32), np.float32))
    np.save(folder / "y.npy", np.arange(1024) % 10)
    return NpyDataset(folder / "x.npy", folder / "y.npy"), None, lenet(3, 32, generator=random_generator(0)), 3


DATA = {"jittered digits": jittered_digits, "decoded images": decoded_images, "rows of a file": streamed_rows}


@pytest.fixture(scope="session")
def seconds_of_a_step(tmp_path_factory):
    """The seconds that a step waits, as "gpunn", and those that it takes with that, as "peer"."""

    @cache
    def measured(data: str, kind: str) -> dict[str, float]:
        dataset, augment, model, epochs = DATA[data](tmp_path_factory.mktemp("data"))
        adam = optim.Adam(model.parameters())
        loader = DataLoader(
            dataset, BATCH, shuffle=True, seed=0, augment=augment, workers=WORKERS, worker_kind=kind
        )  # fmt: skip
        found = []
        with threadpool_limits(1, "blas"):
            for _ in range(epochs + 1):
                waited, begin = 0.0, time.perf_counter()
                batches = iter(loader)
                asked = begin
                while (batch := next(batches, None)) is not None:
                    waited += time.perf_counter() - asked
                    adam.zero_grad()
                    F.cross_entropy(model(tensor(batch[0])), batch[1]).backward()
                    adam.step()
                    asked = time.perf_counter()
                end = time.perf_counter()
                found.append(((waited + end - asked) / len(loader), (end - begin) / len(loader)))
        waiting, step = np.median(found[1:], axis=0).tolist()
        return {"gpunn": waiting, "peer": step}

    return measured


@pytest.mark.parametrize("kind", ["thread", "process"])
@pytest.mark.parametrize("data", DATA)
def bench_loader(bench, data, kind, seconds_of_a_step):
    if bench.device == "gpu":
        pytest.skip("measured on the CPU")
    bench.record(
        f"own: waiting for {WORKERS} {kind} workers", f"{data}, batches of {BATCH}",
        lambda: [seconds_of_a_step(data, kind)[bench.side]], "the whole step",
    )  # fmt: skip

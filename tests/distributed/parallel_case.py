"""What several ranks check of data parallel training, each function by all ranks together; see test_data_parallel."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpunn import distributed, nn, optim, profiler, tensor
from gpunn import functional as F
from gpunn.backend import random_generator, use_device
from gpunn.data import ArrayDataset, DataLoader, digits
from gpunn.errors import ArgumentError, DistributedError, TrainingError
from gpunn.models import lenet
from gpunn.observer import Observer
from gpunn.tensor import Tensor
from gpunn.train import Callback, Checkpoint, EarlyStopping, TimeLimit, Trainer
from gpunn.train.trainer import Record

world = distributed.init(os.environ.get("DEVICE_OF_RANKS", "cpu"))


class Net(nn.Module):
    """A network with a parameter that few examples use, one that none does, and one that does not learn."""

    def __init__(self, norm: bool = False, dropout: float = 0.0) -> None:
        generator = random_generator(world.rank)  # which rank 0 is to decide
        self.first = nn.Linear(6, 12, generator=generator)
        self.norm = nn.BatchNorm1d(12) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout, generator=random_generator(3)) if dropout else nn.Identity()
        self.last = nn.Linear(12, 3, generator=generator)
        self.seldom = nn.Parameter(np.ones(3))
        self.unused = nn.Parameter(np.ones(2))
        self.frozen = nn.Parameter(np.ones(2))
        self.frozen.requires_grad = False

    def forward(self, x: Any, numbers: Any) -> Any:
        y = self.last(self.dropout(F.tanh(self.norm(self.first(x)))))
        rare = numbers % 7 == 3
        return y + self.seldom * tensor(rare[:, None].astype(y.dtype)) if rare.any() else y


class Seen(Callback):
    """The samples of each step and rank."""

    every_rank = True

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.shares: list[list[int]] = []

    def on_step(self, trainer: Trainer, loss: float) -> None:
        self.losses.append(loss)


def trainer(
    ranks: Any, samples: int = 37, batch: int = 12, dtype: Any = np.float64, net: Any = None, callbacks: Any = (),
    poison: Any = None, optimizer: Any = None, seed: int = 5, **settings: Any,
) -> tuple[Trainer, Seen]:  # fmt: skip
    """A small training, of ``samples``; ``poison(number of the step, numbers of the samples)`` may spoil a share."""
    x = random_generator(1).normal(size=(samples, 6)).astype(dtype)
    model = Net() if net is None else net
    model.to(dtype)
    make = optimizer or (lambda parameters: optim.Adam(parameters, lr=0.01))
    data = DataLoader(ArrayDataset(x, np.arange(samples)), batch, shuffle=True, seed=seed)
    seen = Seen()

    def loss(given: Any) -> tuple[Tensor, int]:
        rows, numbers = given
        seen.shares.append(numbers.tolist())
        if poison is not None:
            rows = rows * poison(made.step + 1, numbers)
        return F.cross_entropy(model(tensor(rows.astype(dtype)), numbers), numbers % 3), len(numbers)

    made = Trainer(
        model, make(model.parameters()), data, loss, distributed=ranks, callbacks=[seen, *callbacks], bucket_bytes=256,
        **settings,
    )  # fmt: skip
    return made, seen


def digest(model: nn.Module) -> str:
    return hashlib.sha256(b"".join(x.tobytes() for x in model.state_dict().values())).hexdigest()


def equal_on_all(value: Any) -> None:
    world.agree("what a rank has", value)


# ---- equal to one process -------------------------------------------------------------------------------------------


def equals_one_process() -> None:
    """Weights, losses and the order of the samples; of even and odd shares, and of empty ones."""
    for settings in (
        {}, {"samples": 33}, {"accumulate": 3}, {"accumulate": 3, "samples": 33},
        {"clip_norm": 0.1, "clip_value": 0.03},
        {"optimizer": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1)},
    ):  # fmt: skip
        alone, own = trainer(None, **settings)
        together, seen = trainer(world, **settings)
        alone.model.load_state_dict(distributed.share_state(world, {"m": together.model.state_dict()})["m"])
        one, all_of_them = alone.run(3), together.run(3)
        equal_on_all(digest(together.model))
        for name, w in alone.model.state_dict().items():
            found = together.model.state_dict()[name]
            np.testing.assert_allclose(found, w, rtol=1e-10, atol=1e-13, err_msg=f"{name} {settings}")
        np.testing.assert_allclose(seen.losses, own.losses, rtol=1e-10)
        assert [r["train_loss"] for r in all_of_them] == pytest.approx([r["train_loss"] for r in one], rel=1e-10)
        assert together.model.unused.grad is None
        every = world.broadcast_object(world.gather_objects(seen.shares))
        whole, left = own.shares, [list(shares) for shares in every]
        for batch in whole:  # a rank has no call where its share is empty
            shares = np.array_split(batch, world.size)
            for rank, share in enumerate(shares):
                assert share.size == 0 or left[rank].pop(0) == share.tolist()
        assert not any(left)


def repeats() -> None:
    """Two runs of one number of ranks have equal bits, with dropout too, whose masks differ from rank to rank."""
    found = []
    for _ in range(2):
        net = Net(norm=True, dropout=0.5)
        made, _ = trainer(world, samples=40, batch=24, dtype=np.float32, net=net)
        made.run(2)
        equal_on_all(digest(made.model))
        found.append(digest(made.model))
        masks = world.all_gather(net.dropout(tensor(np.ones(64))).data)
        assert (masks[0] != masks[1]).any()
    assert found[0] == found[1]


def mixed_precision() -> None:
    """What is not finite on one rank is skipped by all, and scale and weights stay equal."""

    def spoils(step: int, numbers: Any) -> float:
        return 2.0 if step in (2, 5) and world.rank == world.size - 1 else 1.0

    for precision, poison in (("bf16", None), ("fp16", None), ("fp16", spoils)):
        made, _ = trainer(world, dtype=np.float32, precision=precision)
        if poison is not None:
            made.loss = _with_infinite_gradient(made, spoils)
        records = made.run(2)
        equal_on_all((digest(made.model), made.scaler and made.scaler.get_scale(), made.step))
        if precision == "fp16":
            skipped = sum(r["skipped_steps"] for r in records)
            assert skipped >= 2 if poison else skipped < made.step


def _with_infinite_gradient(made: Trainer, spoils: Any) -> Any:
    usual = made.loss

    def loss(batch: Any) -> tuple[Tensor, int]:
        y, count = usual(batch)
        factor = spoils(made.step + 1, batch[1])
        return (y + (made.model.seldom * 0.0).sqrt().sum() if factor > 1 else y), count  # 0, whose slope is infinite

    return loss


class Collectives(Observer):
    """What is called of which all ranks take part."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def around_collective(self, text: str, run: Any) -> Any:
        self.texts.append(text)
        return run


def reduces_once_a_step() -> None:
    """Each bucket, from the last parameters to the first, and before them the losses; however many batches."""
    for accumulate in (1, 4):
        made, _ = trainer(world, accumulate=accumulate)
        made.run(1)
        with Collectives() as seen:
            made._go_back_together([next(iter(made.data)) for _ in range(accumulate)], [])
        sizes = [int(text.split("(")[1].split(",")[0]) for text in seen.texts]
        learning = [p.size for p in made.model.parameters() if p.requires_grad]
        assert all(text.startswith("all_reduce sum of NumPy float64") for text in seen.texts)
        assert sizes[0] == 3
        assert len(sizes) > 3
        assert sum(sizes[1:]) == sum(learning) + len(learning)  # beside each gradient whether there is one
        assert len(learning) == 6


# ---- stopping and failing ------------------------------------------------------------------------------------------


class Asks(Callback):
    """One rank asks to leave, in the way of that name, at a step."""

    every_rank = True

    def __init__(self, rank: int, step: int, way: str) -> None:
        self.rank, self.step, self.way = rank, step, way

    def on_step(self, trainer: Trainer, loss: float) -> None:
        if world.rank == self.rank and trainer.step == self.step:
            if self.way == "signal":
                os.kill(os.getpid(), signal.SIGTERM)
            elif self.way == "stop":
                trainer.stop()
            else:
                trainer.interrupt("enough")


class Notes(Callback):
    """Which events rank 0 alone sees."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_start(self, trainer: Trainer) -> None:
        self.seen.append("start")

    def on_epoch(self, trainer: Trainer, record: Record) -> None:
        self.seen.append("epoch")

    def on_interrupt(self, trainer: Trainer) -> None:
        self.seen.append("interrupt")

    def on_end(self, trainer: Trainer) -> None:
        self.seen.append("end")


def leaves_together() -> None:
    """Who asks on one rank has all leave after the same step; and a measure decides alike on all."""
    last = world.size - 1
    for rank, way in ((last, "signal"), (0, "interrupt"), (last, "stop")):
        notes = Notes()
        made, _ = trainer(world, callbacks=[Asks(rank, 2, way), notes])
        if way == "stop":
            made.run(9)
            assert (made.epoch, made.step) == (1, 4)
        else:
            with pytest.raises(KeyboardInterrupt):
                made.run(9)
            assert (made.epoch, made.step) == (0, 3)
        ended = ["start", "epoch", "end"] if way == "stop" else ["start", "interrupt", "end"]
        assert notes.seen == ([] if world.rank else ended)
        equal_on_all(digest(made.model))
    made, _ = trainer(world, callbacks=[TimeLimit(1e-9)])
    with pytest.raises(KeyboardInterrupt):
        made.run(9)
    assert made.step == 2

    measured: list[int] = []

    def measure() -> dict[str, float]:
        measured.append(1)
        return {"test_loss": 1.0 + world.rank}

    plateau = optim.schedule.ReduceLROnPlateau
    made, _ = trainer(world, callbacks=[EarlyStopping("test_loss", patience=2)], measure=measure)
    made.schedule, made._schedule_measure = plateau(made.optimizer, patience=0), "test_loss"
    records = made.run(9)
    assert [record["test_loss"] for record in records] == [1.0] * 3
    assert len(measured) == (0 if world.rank else 4)  # once beforehand, as its name is asked for
    equal_on_all((made.optimizer.lr, digest(made.model)))
    assert made.optimizer.lr < 0.01


def not_finite() -> None:
    """All ranks raise, and say on which it began."""

    def spoils(step: int, numbers: Any) -> float:
        return np.inf if step == 3 and world.rank == world.size - 1 else 1.0

    made, _ = trainer(world, poison=spoils)
    said = rf"^Trainer: the training loss is nan at step 3 \(epoch 1\); first .*\(rank {world.size - 1}\); "
    with pytest.raises(TrainingError, match=said):
        made.run(2)
    equal_on_all(digest(made.model))


def disagrees() -> None:
    """All ranks are told what differs."""
    last = world.rank == world.size - 1
    for settings, said in (
        ({"seed": 6}, "the seed of the data must be the same on all ranks, got rank 0: 5, rank 1: 6"),
        ({"samples": 45}, "the number of samples, and of batches"),
        ({"clip_norm": 1.0}, "the settings of the trainer"),
        ({"optimizer": lambda p: optim.Adam(p, lr=0.02)}, "the optimizer"),
        ({"net": nn.Sequential(Net())}, "the arrays of the model"),
    ):
        made, _ = trainer(world, **(settings if last else {}))
        with pytest.raises(DistributedError, match=f"agree: {said}"):
            made.run(1)
    made, _ = trainer(world)
    if last:
        made.data.dataset.arrays[0][0, 0] += 1
    with pytest.raises(DistributedError, match="the samples, as far as they were looked at"):
        made.run(1)


def refuses() -> None:
    with pytest.raises(ArgumentError, match=f"the ranks must divide batch_size, got batch_size=9, ranks={world.size}"):
        trainer(world, batch=9)
    with pytest.raises(ArgumentError, match="each rank must have a sample, got samples=1"):
        trainer(world, samples=1)
    made, _ = trainer(world)
    with pytest.raises(ArgumentError, match="must be a DataLoader"):
        Trainer(made.model, made.optimizer, [1, 2], made.loss, distributed=world)
    with pytest.raises(ArgumentError, match="cannot be captured"):
        Trainer(made.model, made.optimizer, made.data, made.loss, distributed=world, cuda_graph=True)
    with pytest.raises(ArgumentError, match="cannot be copied"):
        made.__getstate__()


# ---- checkpoints ----------------------------------------------------------------------------------------------------


def resumes(folder: str) -> None:
    """From a folder that only rank 0 sees, in mid-epoch, on whatever number of ranks: as one process throughout."""
    own = Path(folder) if world.rank == 0 else Path(folder, "unseen", str(world.rank))
    made, _ = trainer(world)
    saving = Checkpoint(own / "checkpoints", every_epochs=None, every_steps=3)
    made.callbacks = (*made.callbacks, saving)
    if saving.resume(made):
        assert made.step == 7
        made.run(4)
        if world.rank == 0:
            alone, _ = trainer(None)
            start = np.load(Path(folder, "start.npz"))
            alone.model.load_state_dict(dict(start))
            alone.run(4)
            for name, w in alone.model.state_dict().items():
                np.testing.assert_allclose(made.model.state_dict()[name], w, rtol=1e-9, atol=1e-12, err_msg=name)
    else:
        if world.rank == 0:
            np.savez(Path(folder, "start.npz"), **made.model.state_dict())
        made.callbacks = (*made.callbacks, Asks(0, 6, "interrupt"))
        with pytest.raises(KeyboardInterrupt):
            made.run(4)
        assert made.step == 7
    assert world.rank == 0 or not own.exists()


# ---- digits ----------------------------------------------------------------------------------------------------------


def train_digits(ranks: Any, kind: str, epochs: int = 3, device: str = "cpu", count: int | None = None) -> nn.Module:
    (x, y), _ = digits(0)
    x, y = x[:count], y[:count]
    model = lenet(generator=random_generator(0)).to(device)
    make = {"sgd": lambda p: optim.SGD(p, lr=0.05, momentum=0.9), "adam": lambda p: optim.Adam(p, lr=0.005)}[kind]
    data = DataLoader(ArrayDataset(x, y), 32, shuffle=True, seed=0, device=device)

    def loss(batch: Any) -> tuple[Tensor, int]:
        return F.cross_entropy(model(tensor(batch[0])), batch[1]), len(batch[1])

    made = Trainer(model, make(model.parameters()), data, loss, distributed=ranks, bucket_bytes=1 << 15)
    made.losses = [record["train_loss"] for record in made.run(epochs)]
    model.losses = made.losses
    return model


def digits_equal_one_process() -> None:
    for kind in ("sgd", "adam"):
        alone = train_digits(None, kind)
        together, again = train_digits(world, kind), train_digits(world, kind)
        equal_on_all(digest(together))
        assert digest(again) == digest(together)
        print(kind, digest(together))
        for name, w in alone.state_dict().items():
            relative = np.linalg.norm(together.state_dict()[name] - w) / np.linalg.norm(w)
            assert relative < 1e-5, (name, kind, relative)


def on_devices() -> None:
    """Each rank on a device of its own: the losses of the CPU."""
    print(world.device)
    with use_device(world.device):
        found = train_digits(world, "sgd", 1, world.device, 70).losses
    np.testing.assert_allclose(found, train_digits(None, "sgd", 1, "cpu", 70).losses, rtol=1e-5)


# ---- overlap --------------------------------------------------------------------------------------------------------


def overlaps(folder: str) -> None:
    """On a slow link much of the communication is hidden behind backward: print the median and the best of steps.

    Once in buckets and once as a whole, as the traces have it. On a busy machine sums wait for the slower rank.
    """
    shares = []
    for bucket_bytes in (1 << 18, 1 << 30):
        model = nn.Sequential(*[nn.Linear(256, 256) for _ in range(12)])
        data = DataLoader(ArrayDataset(random_generator(0).normal(size=(16384, 256)).astype(np.float32)), 4096, seed=0)

        def loss(batch: Any, model: Any = model) -> tuple[Tensor, int]:
            return (model(tensor(batch)) ** 2).mean(), len(batch)

        made = Trainer(
            model, optim.SGD(model.parameters(), lr=1e-3), data, loss, distributed=world, bucket_bytes=bucket_bytes
        )
        made.run(1)
        with profiler.profile(model) as seen:
            made.run(3)
        path = Path(folder, f"trace-{world.rank}-{bucket_bytes}.json")
        seen.chrome_trace(path)
        shares.append(hidden_behind_backward(json.loads(path.read_text())["traceEvents"]))
    if world.rank == 0:
        print("hidden", *(f"{np.median(steps):.3f} {max(steps):.3f}" for steps in shares))


def hidden_behind_backward(events: list[dict[str, Any]]) -> list[float]:
    """Of each step the share of the time in sums of gradients in which backward ran."""

    def spans(kind: str, name: str) -> list[tuple[float, float]]:
        chosen = (e for e in events if e.get("cat") == kind and name in e["name"])
        return sorted((e["ts"], e["ts"] + e["dur"]) for e in chosen)

    back, sums = spans("autograd", ""), spans("communication", "all_reduce sum of NumPy float32")
    ends = [begin for begin, _ in back[1:]] + [np.inf]
    shares = []
    for (begin, end), until in zip(back, ends, strict=True):
        own = [(b, e) for b, e in sums if begin <= b < until]
        shares.append(sum(max(0.0, min(end, e) - b) for b, e in own) / sum(e - b for b, e in own))
    return shares


def run(*names: str) -> None:
    for name in names:
        function, _, argument = name.partition(" ")
        globals()[function](*filter(None, [argument]))
    sys.stdout.flush()
    if world.rank == 0:
        print("done")

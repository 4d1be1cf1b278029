"""Odd data, optimizers and callbacks of data parallel training, each function by all ranks; see test_edges."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from parallel_case import Net, digest, equal_on_all, trainer, world

from gpunn import distributed, nn, optim, tensor
from gpunn import functional as F
from gpunn.backend import default_generator, manual_seed, random_generator
from gpunn.data import ArrayDataset, DataLoader, RandomSampler
from gpunn.errors import ArgumentError, DistributedError
from gpunn.train import Callback, Trainer
from gpunn.train.trainer import Record


class Adds(Callback):
    """Adds a group within the run, to what it is given or else to the trainer's optimizer."""

    every_rank = True

    def __init__(self, optimizer: Any = None) -> None:
        self.optimizer = optimizer

    def on_step(self, trainer: Trainer, loss: float) -> None:
        if trainer.step == 2:
            (self.optimizer or trainer.optimizer).add_param_group({"params": [cast(Any, trainer.model).last.weight]})


def groups_are_added() -> None:
    """What is added within a run, by whatever handle, is trained as in one process."""

    def some(model: Any) -> Any:
        return optim.Adam([p for p in model.parameters() if p is not model.last.weight], lr=0.01)

    start = distributed.share_state(world, {"m": Net().state_dict()})["m"]
    found = []
    for ranks, shards in ((None, False), (world, False), (world, True)):
        model = Net().to(np.float64)
        model.load_state_dict({name: w.astype(np.float64) for name, w in start.items()})
        optimizer = some(model)
        settings = {"shard_optimizer": True} if shards else {}
        made, _ = trainer(
            ranks, net=model, optimizer=lambda _, own=optimizer: own, callbacks=[Adds(optimizer)], **settings
        )
        made.run(2)
        found.append(model.state_dict())
        equal_on_all(digest(model))
    for together in found[1:]:
        for name, w in found[0].items():
            np.testing.assert_allclose(together[name], w, rtol=1e-10, atol=1e-13, err_msg=name)


class Noise:
    """Samples that draw from global generators."""

    def __len__(self) -> int:
        return 24

    def __getitem__(self, number: int) -> Any:
        noise = np.random.normal(size=6) + default_generator().normal(size=6)  # noqa: NPY002
        return noise, number


def data_sets_draw() -> None:
    """From the global generators, which ranks need not have seeded alike, and which a look leaves where they were."""
    manual_seed(world.rank)
    made, _ = trainer(None)
    data = DataLoader(Noise(), 12, seed=0)
    made = Trainer(made.model, made.optimizer, data, made.loss, distributed=world)
    assert made._ranks is not None
    legacy, own = np.random.get_state(), default_generator().bit_generator.state  # noqa: NPY002
    made._ranks.agree({})
    np.testing.assert_equal(np.random.get_state(), legacy)  # noqa: NPY002
    np.testing.assert_equal(default_generator().bit_generator.state, own)
    made.run(2)
    equal_on_all(digest(made.model))


def normalised(number: int, **settings: Any) -> Trainer:
    """A training of ``number`` drawn samples, of 16, that all ranks normalise together."""
    model = nn.Sequential(nn.Linear(6, 5, generator=random_generator(0)), nn.BatchNorm1d(5))
    data = ArrayDataset(random_generator(1).normal(size=(16, 6)).astype(np.float32))
    loader = DataLoader(data, 8, sampler=RandomSampler(data, True, number), seed=0)
    sgd = optim.SGD(model.parameters(), lr=0.1)

    def loss(batch: Any) -> Any:
        return (model(tensor(batch)) ** 3).mean(), len(batch)

    return Trainer(model, sgd, loader, loss, distributed=world, sync_batch_norm=True, **settings)


def samplers_leave_tails() -> None:
    """The last batch is that of what a sampler draws, not of the data set."""
    normalised(8).run(1)
    normalised(8 + world.size).run(1)
    with pytest.raises(ArgumentError, match="each rank must have samples of each batch for sync_batch_norm"):
        normalised(17)


class Parts:
    """Batches of sizes that differ, of one's own."""

    drop_last = False

    def __len__(self) -> int:
        return 3

    def batches(self, generator: np.random.Generator) -> list[Any]:
        order = generator.permutation(20)
        return [order[:7], order[7:8], order[8:].tolist()]


def batches_differ_in_size() -> None:
    """Each rank has its share of those that a batch sampler of one's own gives."""
    start = distributed.share_state(world, {"m": Net().state_dict()})["m"]
    found = []
    for ranks in (None, world):
        model = Net()
        model.load_state_dict(start)
        made, _ = trainer(None, samples=20, net=model)
        data = DataLoader(cast(Any, made.data).dataset, batch_sampler=Parts(), seed=0)
        made = Trainer(made.model, made.optimizer, data, made.loss, distributed=ranks)
        made.run(2)
        found.append(model.state_dict())
    for name, w in found[0].items():
        np.testing.assert_allclose(found[1][name], w, rtol=1e-10, atol=1e-13, err_msg=name)


def measures_in_training() -> None:
    """Rank 0 measures alone, though the model normalises by the batches of all in training."""
    made = normalised(16)

    def measure() -> dict[str, float]:
        y = made.model(tensor(np.eye(6, dtype=np.float32)))  # of a mean that is that of the bias
        return {"mean": float((y - cast(Any, made.model)[1].bias).mean().item())}

    made.measure = measure
    records = made.run(2)
    equal_on_all([record["mean"] for record in records])
    assert abs(records[0]["mean"]) < 1e-6


class Changes(Callback):
    """Changes something on rank 0 alone."""

    def __init__(self, what: str) -> None:
        self.what = what

    def on_epoch(self, trainer: Trainer, record: Record) -> None:
        if self.what == "lr":
            trainer.optimizer.lr = 0.5
        else:
            cast(Any, trainer.model).first.weight.requires_grad = False


def tells_what_was_changed() -> None:
    """By a callback or a measure of rank 0: instead of a training that goes apart."""
    for what, said in (("lr", "the optimizer's settings"), ("frozen", "the parameters that learn")):
        made, _ = trainer(world, callbacks=[Changes(what)])
        with pytest.raises(DistributedError, match=f"agree: {said} .*every_rank.* must be the same on all ranks"):
            made.run(3)
    made, _ = trainer(world)
    made.measure = lambda: {"batches": float(len(list(made.data)))}
    with pytest.raises(DistributedError, match=r"agree: where the data are \(a measure that loops over them needs"):
        made.run(3)


def float16_skips_no_more() -> None:
    """Than one process: what ranks sum is of the size of means."""
    x = random_generator(1).normal(size=(256, 4)).astype(np.float32)
    for settings in ({}, {"distributed": world}, {"distributed": world, "shard_optimizer": True}):
        model = nn.Linear(4, 2, generator=random_generator(0))
        data = DataLoader(ArrayDataset(x, np.arange(256) % 2), 64, seed=0)

        def loss(batch: Any, model: Any = model) -> Any:
            return F.cross_entropy(model(tensor(batch[0])), batch[1]), len(batch[1])

        made = Trainer(model, optim.SGD(model.parameters(), lr=0.1), data, loss, precision="fp16", **settings)
        assert made.run(1)[0]["skipped_steps"] == 0


def shares_weigh_nothing() -> None:
    """A share whose examples have no weight, and so no mean, adds nothing; all of them must not be so."""
    start = distributed.share_state(world, {"m": Net().state_dict()})["m"]

    def trained(ranks: Any, weights: Any, **settings: Any) -> Any:
        model = Net()
        model.load_state_dict(start)
        made, _ = trainer(ranks, samples=24, net=model, **settings)
        made.data = DataLoader(cast(Any, made.data).dataset, 12, seed=0)
        if ranks is not None:
            made = Trainer(model, made.optimizer, made.data, made.loss, distributed=ranks, **settings)

        def loss(batch: Any) -> Any:
            x, numbers = batch
            w = weights(numbers).astype(np.float64)
            each = F.cross_entropy(model(tensor(x), numbers), numbers % 3, reduction="none")
            return (each * tensor(w)).sum() / w.sum(), w.sum()

        made.loss = loss
        made.run(2)
        return model.state_dict()

    for settings in ({}, {"accumulate": 2}):
        expected = trained(None, lambda numbers: numbers % 12 < 3, **settings)
        found = trained(world, lambda numbers: numbers % 12 < 3, **settings)  # the first rank's
        for name, w in expected.items():
            np.testing.assert_allclose(found[name], w, rtol=1e-10, atol=1e-13, err_msg=name)
    with pytest.raises(ArgumentError, match="Trainer: a loss must be the mean of at least one example, got examples=0"):
        trained(world, np.zeros_like)


def run(*names: str) -> None:
    for name in names:
        globals()[name]()
    if world.rank == 0:
        print("done")

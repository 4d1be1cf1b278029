"""What a recipe is: a class that says what it is called, takes and makes; an object of it is one run."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from gpunn import nn
from gpunn.distributed import World, on_first
from gpunn.errors import ArgumentError, FileError, TrainingError, check
from gpunn.optim import Optimizer
from gpunn.recipes import run
from gpunn.recipes.options import Options, as_config, paths_of
from gpunn.recipes.run import OnEpoch, OnStep
from gpunn.runs.folder import CONFIG, SUMMARY, begin, read_config, write_json
from gpunn.tensor import Tensor

DATA_DIGEST = "data_digest"
"""What config.json has of the user's own data: :meth:`Recipe.data_digest`."""

NOT_RESUMED = "such a run keeps no model and no checkpoint, and is begun again if it was stopped"
"""Of the runs of a recipe that cannot be resumed."""


class Recipe(ABC):
    """A run: its options, the device, and from its beginning on its folder and its config.json.

    A recipe gives the names below, :meth:`work`, :meth:`headline`, and what is rehearsed of it ahead of time
    (:mod:`gpunn.recipes.warmup`): its networks, a batch of zeros, the loss of a batch, and the optimizer.
    """

    name: ClassVar[str]
    """Its name on the command line."""
    text: ClassVar[str]
    """A line about it."""
    options_type: ClassVar[type[Options]]
    needs: ClassVar[tuple[str, ...]]
    """What must be installed, as it is imported."""
    versions: ClassVar[tuple[str, ...]] = ()
    """Distributions whose versions the summary has, beside those of :func:`gpunn.recipes.run.versions`."""
    makes: ClassVar[tuple[str, ...]] = (CONFIG, SUMMARY)
    figures: ClassVar[dict[str, str]] = {}
    """The captions of the pictures that it makes, but for the curves, by file."""
    keeps: ClassVar[tuple[str, ...]] = ()
    """The other files that it makes."""
    resumes: ClassVar[bool] = False
    """Whether a run can be resumed."""
    distributes: ClassVar[bool] = False
    """Whether several ranks can share a run."""
    # BLAS threads. Products of this size gain nothing from more, which on a busy machine only wait for each other.
    threads: ClassVar[int] = 1

    folder: Path
    config: dict[str, Any]

    def __init__(self, options: Any, device: str) -> None:
        self.options, self.device = options, device
        self.on_step: OnStep | None = None
        self.on_epoch: OnEpoch | None = None
        self.error: TrainingError | None = None  # that ended the training
        self.told: dict[str, Any] = {}  # what the command tells beside the summary
        self.world: World | None = None
        self.shard_optimizer = False

    @classmethod
    def run(
        cls,
        options: Any,
        out: str | os.PathLike[str] | None = None,
        on_step: OnStep | None = None,
        on_epoch: OnEpoch | None = None,
        resume: bool = False,
        world: World | None = None,
        shard_optimizer: bool = False,
    ) -> tuple[Path, dict[str, Any]]:
        """Run the recipe; return the run folder, and what its summary.json holds.

        ``out`` is the run folder, by default ``runs/<name>-<date>-<time>``. ``on_step(step, steps, loss)`` and
        ``on_epoch(record)`` follow the training. The same options give the same weights, byte for byte, on one machine.

        Ctrl-C ends a training early: the folder is completed, with status ``"interrupted"``. With ``resume``, ``out``
        is the folder of such a run, or of one that was killed, and the result that of a run that was never stopped.
        The ranks of ``world`` share the training; rank 0 alone has the folder and the whole summary. With
        ``shard_optimizer`` each of them has a part of the optimizer's states alone.

        Raises FileError, before anything is computed, if the folder cannot be written, is in use, holds a run, or one
        with other options to be resumed; TrainingError, after the folder is completed, if the loss became infinite or
        NaN.
        """
        run.check_packages(options.command, cls.needs)
        if resume and world is None:
            device = run.choose_again(Path(out or ""), options)
        else:
            chosen = options.device if world is None else world.device
            device = run.choose_device(options.command, chosen, options.emulate)
        self = cls(options, device)
        rule = "without several ranks an optimizer has all of its states: --shard-optimizer needs --distributed"
        check(world is not None or not shard_optimizer, ArgumentError, options.command, rule)
        self.shard_optimizer = shard_optimizer
        if world is not None:
            self.check_distributes(world)
            self.world = world
        self.on_step, self.on_epoch = on_step, on_epoch
        if resume:
            cls.check_resumes(Path(out or ""))
            self.on_first(lambda: self.check_data(Path(out or "")))
        self.check()
        digest = self.data_digest()
        found = {} if digest is None else {DATA_DIGEST: digest}
        self.config = {"recipe": cls.name} | as_config(options) | {"device": self.device} | found
        paths = paths_of(type(options))
        with ExitStack() as stack:
            self.folder = self.on_first(
                lambda: stack.enter_context(begin(self.config, out, cls.files(), resume, paths))
            )
            with self.computing():
                summary = self.work() | self.about()
            if self.first:
                write_json(self.folder / SUMMARY, summary)  # last: a run whose status is "finished" is complete
            if self.error is not None:
                raise TrainingError(f"{self.error}; the run is in {self.folder}") from self.error
            return self.folder, summary | self.told

    @classmethod
    def files(cls) -> tuple[str, ...]:
        """The files and folders that it makes in the run folder."""
        return (*cls.makes, *cls.keeps, *cls.figures)

    @classmethod
    def check_resumes(cls, folder: Path) -> None:
        """Raise FileError if a run in ``folder`` cannot be resumed."""
        if not cls.resumes:
            raise FileError(f"{folder}: a run of {cls.options_type.command}: {NOT_RESUMED}")

    def data_digest(self) -> str | None:
        """What tells the data of this run from others, wherever they lie; None where there are no data but gpunn's."""
        return None

    def check_data(self, folder: Path) -> None:
        """Raise FileError if the data with which the run in ``folder`` was begun are not there, or have changed."""
        given = [path for name in paths_of(type(self.options)) if (path := getattr(self.options, name)) is not None]
        for path in given:
            if not os.path.exists(path):
                raise FileError(
                    f"{folder}: {path}: there is no such file or folder; if it was moved, --data says where"
                )
        begun = read_config(folder).get(DATA_DIGEST)
        if begun not in (None, self.data_digest()):
            where = given[0] if given else "the data"
            raise FileError(f"{folder}: {where}: not the data of the run any more: they have changed")

    def check_distributes(self, world: World) -> None:
        """Raise ArgumentError if the ranks of ``world`` cannot share a run."""
        command = self.options.command
        check(self.distributes, ArgumentError, command, "several ranks cannot share such a run", ranks=world.size)
        size, rule = self.batch_size, "the ranks must divide the batch size"
        check(size % world.size == 0, ArgumentError, command, rule, batch_size=size, ranks=world.size)

    @property
    def first(self) -> bool:
        """Whether this is rank 0, or the only one: the rank that writes."""
        return self.world is None or self.world.rank == 0

    def on_first(self, job: Callable[[], Any]) -> Any:
        """What ``job()`` gives on rank 0."""
        return job() if self.world is None else on_first(self.world, job)

    @property
    def batch_size(self) -> int:
        """Examples of a training step."""
        return self.options.batch_size  # type: ignore[no-any-return]

    def computing(self) -> AbstractContextManager[None]:
        """The context, or decorator, in which it computes."""
        return run.computing(self.device, self.options.emulate, self.threads)

    def about(self) -> dict[str, Any]:
        """The end of the summary: where it was computed, and with what."""
        return {"device": self.device, "emulate": self.options.emulate, "versions": run.versions(*self.versions)}

    # ---- what a recipe gives -----------------------------------------------------------------------------------------

    def check(self) -> None:  # noqa: B027  # most recipes need no more than their options
        """Raise an error for data that cannot be used; there is no folder yet."""

    @abstractmethod
    def work(self) -> dict[str, Any]:
        """Compute, write the files but for config.json and summary.json, and return what the summary begins with."""

    @classmethod
    @abstractmethod
    def headline(cls, summary: dict[str, Any]) -> str:
        """What the command line prints."""

    @abstractmethod
    def networks(self) -> Iterator[nn.Module]:
        """Every network that may be trained, before training."""

    @abstractmethod
    def zeros(self, size: int, dtype: np.dtype[Any]) -> Any:
        """A batch of ``size`` examples, all zeros."""

    @abstractmethod
    def loss(self, network: Any, batch: Any) -> tuple[Tensor, int]:
        """The mean loss of a batch, and of how many examples it is the mean."""

    @abstractmethod
    def optimizer(self, network: nn.Module) -> Optimizer:
        """The optimizer of a network."""

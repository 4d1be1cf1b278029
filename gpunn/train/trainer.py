"""The training loop, which can be stopped after any step and resumed, bit for bit, in another process.

The base of the callbacks is here too: it is given the trainer, and the trainer calls it.
"""

from __future__ import annotations

import dis
import math
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from itertools import islice
from numbers import Real
from types import CellType, FrameType, FunctionType
from typing import Any, ClassVar, Protocol, cast

import numpy as np

from gpunn.backend import Array, get_array_module, half_dtype, is_array
from gpunn.casting import autocast
from gpunn.checkpoint import State, differences
from gpunn.cuda.compilation import compiled
from gpunn.data import ArrayDataset, DataLoader
from gpunn.distributed import Sharded, World, apart, convert, init
from gpunn.distributed.buckets import BUCKET_BYTES
from gpunn.errors import ArgumentError, TrainingError, check, check_sizes, fail
from gpunn.nn import Module
from gpunn.optim import EMA, GradScaler, Optimizer, clip_grad_norm, clip_grad_value
from gpunn.optim.schedule import ReduceLROnPlateau
from gpunn.tensor import Tensor
from gpunn.train.captured import CapturedStep, check_capturable
from gpunn.train.diagnosis import NOWHERE, first_not_finite
from gpunn.train.loss import Loss, OfOutputs, mean_and_count, of_batches
from gpunn.train.random_state import RandomStreams
from gpunn.train.ranks import NO_EXAMPLE, Ranks
from gpunn.train.validation import Metric, Validation, check_data, is_arrays

Record = dict[str, Any]
"""What an epoch came to: ``epoch`` (from 1), ``train_loss`` (mean over the examples), the measures, ``seconds``.

Those are of the wall clock, without the time in which kernels were compiled.
"""

PRECISIONS = ("fp32", "bf16", "fp16")
"""In which :class:`Trainer` computes the loss; parameters are float32 in each."""


class Stateful(Protocol):
    """What can be saved and resumed."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any], /) -> None: ...


class SteppedSchedule(Stateful, Protocol):
    """What moves the learning rate after each step; see :mod:`gpunn.optim.schedule`."""

    def step(self) -> None: ...


class Callback:
    """The base of the callbacks: a subclass has the methods that it needs. Each is called between two steps.

    ``trainer.step``, ``trainer.epoch``, ``trainer.records`` and ``trainer.model`` may be read;
    ``trainer.stop()`` ends the run after the epoch, ``trainer.interrupt()`` after the step, as Ctrl-C does. What a
    callback must remember over a resumption is its :meth:`state_dict`.

    Of several ranks rank 0 alone calls it, unless it has ``every_rank``: for what decides from the measures, which are
    equal, or computes together with the others, and for what changes the model or the optimizer. Any rank may ask to
    stop or to leave: all do then, at the same step.

    >>> class Losses(Callback):
    ...     def __init__(self):
    ...         self.seen = []
    ...     def on_step(self, trainer, loss):
    ...         self.seen.append(loss)
    """

    every_rank: ClassVar[bool] = False
    monitored: str | None = None
    """The measure that it waits for: a trainer without such a one refuses to begin."""

    def on_start(self, trainer: Trainer) -> None:
        """A run begins; ``trainer.step`` is above 0 if it is resumed from a checkpoint."""

    def on_step(self, trainer: Trainer, loss: float) -> None:
        """A step is whole; ``loss`` is the mean over its examples, before it."""

    def on_epoch(self, trainer: Trainer, record: Record) -> None:
        """An epoch is whole and measured."""

    def on_interrupt(self, trainer: Trainer) -> None:
        """The run is left after a step; the weights are still those of this step."""

    def on_end(self, trainer: Trainer) -> None:
        """The run is over, however it ended."""

    def state_dict(self) -> State:
        """What must be saved: nothing, here."""
        return {}

    def load_state_dict(self, state: State) -> None:
        """Resume from a :meth:`state_dict`."""


class Trainer:
    """Trains ``model`` with ``loss`` on the batches of ``data``, and measures it after each epoch.

    A loop over ``data`` is an epoch. To be saved, it needs ``state_dict()`` and ``load_state_dict(state)``, after which
    a loop goes through the rest of an epoch: :class:`gpunn.data.DataLoader` has them. Arrays ``(x, y)`` become one,
    shuffled, with ``batch_size`` examples a batch (32).

    ``loss`` is a function of the outputs and targets of a batch ``(x, y)``, as :func:`gpunn.functional.cross_entropy`
    is, or of the whole batch: ``loss(batch)``. It gives the mean over the examples, a Tensor; the second may give
    ``(mean, count)`` where that is not the mean over as many as the batch's first array has rows.

    After each epoch the mean loss of ``validation``, arrays ``(x, y)`` or a loader, is the measure ``validation_loss``,
    and each of ``metrics`` is ``validation_<name>``: names of :data:`gpunn.train.validation.METRICS`, or
    ``{name: function(targets, outputs)}`` on the NumPy arrays of all examples. ``measure()`` gives more measures by
    name, such as ``test_loss``. With ``ema`` both measure the averaged weights. Where a callback or
    ``schedule_measure`` waits for a measure that only ``measure()`` can have, that is called once before the first
    epoch, so that a wrong name is an error then.

    A step is ``accumulate`` batches (at the end of an epoch perhaps fewer), with the gradient of the mean over their
    examples; then ``clip_norm`` and ``clip_value`` limit it, the optimizer moves, and ``schedule`` and ``ema`` follow.
    With ``record_gradient_norm`` the record has the mean over the steps, ``gradient_norm``, and the ``largest_norm`` of
    the gradient of all parameters together, before it is limited.
    A :class:`gpunn.optim.schedule.ReduceLROnPlateau` follows each epoch instead, and judges the measure that
    ``schedule_measure`` names: one of ``measure``'s, or ``"train_loss"``.
    ``callbacks`` see each step and epoch. ``generators``, by name, are random generators to be saved beside the default
    one and those that modules hold. ``cuda_graph=True``, on a GPU, captures a step as CUDA graphs and replays them:
    :mod:`gpunn.train.captured` says what a step must be like for it.

    Modules that are in evaluation, as after ``model.norm.eval()``, stay so in a run. A model that as a whole is in
    evaluation is put into training, but for the modules that were not when it trained last.

    ``precision`` is ``"fp32"``, or ``"bf16"`` or ``"fp16"``: then ``loss`` is computed under :func:`gpunn.autocast`.
    Parameters, gradients and the optimizer's states stay float32, and ``measure`` is called outside: it measures the
    weights as who loads them will. With ``"fp16"`` the loss is scaled by ``scaler``, a
    :class:`gpunn.optim.GradScaler`. A step whose gradient is then not finite is no error: the optimizer and ``ema``
    skip it, and the record counts it under ``skipped_steps``; unless the scale can go no lower.

    ``distributed``, a :class:`gpunn.distributed.World` (True: that of :func:`gpunn.distributed.init`), trains one model
    on all its ranks, started by ``mpirun -n 4``. ``data`` must be a DataLoader: each rank takes its share of every
    batch, whose size they divide, and the sums of gradients, over buckets of ``bucket_bytes``, run while backward does.
    A step is that of one process up to rounding, and the bits of all ranks are equal. They begin with what rank 0 has;
    the ranks' own are the running statistics of normalisation until the end of an epoch, when all take those of rank 0,
    which measures, and the streams of dropout, which follow from those of rank 0 when a run begins. With
    ``sync_batch_norm`` batch normalisation is by the batches of all ranks (:func:`gpunn.distributed.convert`), as that
    of one process. Rank 0 alone calls callbacks, writes and saves. Its states are those of one process, and any number
    of ranks can go on from them. With ``shard_optimizer`` each keeps a part of the optimizer's states alone:
    ``optimizer`` is then a :class:`gpunn.distributed.Sharded`, and gradients are reduced when backward has ended, a
    part by each rank.

    >>> from gpunn import functional as F, nn, optim, tensor
    >>> from gpunn.backend import random_generator
    >>> from gpunn.data import ArrayDataset, DataLoader
    >>> from gpunn.train import Trainer
    >>> model = nn.Linear(3, 3, generator=random_generator(0))
    >>> data = DataLoader(ArrayDataset(np.eye(3, dtype=np.float32), np.arange(3)), batch_size=2, shuffle=True, seed=0)
    >>> def loss(batch):
    ...     x, y = batch
    ...     return F.cross_entropy(model(tensor(x)), y), len(y)
    >>> trainer = Trainer(model, optim.SGD(model.parameters(), lr=1.0), data, loss)
    >>> records = trainer.run(epochs=30)
    >>> trainer.step, len(records), records[-1]["train_loss"] < 0.2
    (60, 30, True)

    Between steps a trainer can be copied by ``copy.deepcopy`` or pickled, and the copy trains as this one would. Its
    ``loss`` and ``measure`` must then be objects that hold the model: a function would keep the old one.

    ``step`` and ``epoch`` are the numbers of whole ones so far, ``records`` those of the epochs; ``epochs`` is how many
    :meth:`run` was asked for.
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        data: Iterable[Any],
        loss: Loss,
        *,
        batch_size: int | None = None,
        validation: Iterable[Any] | None = None,
        metrics: Mapping[str, Metric] | Sequence[str] = (),
        measure: Callable[[], Mapping[str, float]] | None = None,
        schedule: SteppedSchedule | ReduceLROnPlateau | None = None,
        schedule_measure: str | None = None,
        ema: EMA | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        record_gradient_norm: bool = False,
        accumulate: int = 1,
        callbacks: Sequence[Callback] = (),
        generators: Mapping[str, np.random.Generator] | None = None,
        precision: str = "fp32",
        cuda_graph: bool = False,
        distributed: World | bool | None = None,
        bucket_bytes: int = BUCKET_BYTES,
        sync_batch_norm: bool = False,
        shard_optimizer: bool = False,
    ) -> None:
        rule = f"precision must be one of {', '.join(PRECISIONS)}"
        check(precision in PRECISIONS, ArgumentError, "Trainer", rule, precision=precision)
        self.precision = precision
        self._half = None if precision == "fp32" else precision
        if self._half is not None:
            half_dtype("Trainer", self._half)  # raises PackageError if a package is missing
        self.scaler = GradScaler() if precision == "fp16" else None
        check_sizes("Trainer", accumulate=accumulate)
        fits = isinstance(schedule, ReduceLROnPlateau) == (schedule_measure is not None)
        rule = "schedule_measure names the measure that a ReduceLROnPlateau judges: give both or neither"
        given = {"schedule": type(schedule).__name__, "schedule_measure": schedule_measure}
        check(fits, ArgumentError, "Trainer", rule, **given)
        check_data("data", data)
        rule = "batch_size is of data that are arrays (x, y): a loader has its own"
        check(batch_size is None or is_arrays(data), ArgumentError, "Trainer", rule, data=type(data).__name__)
        if is_arrays(data):
            data = DataLoader(ArrayDataset(*cast(Any, data)), _BATCH_SIZE if batch_size is None else batch_size, True)
        self.model, self.optimizer, self.data, self.measure = model, optimizer, data, measure
        self.loss = of_batches(loss, model)
        rule = "metrics are of the data of validation, which is not given"
        check(validation is not None or not metrics, ArgumentError, "Trainer", rule, metrics=list(metrics))
        self.validation = None if validation is None else Validation(model, self.loss, validation, metrics)
        listed = isinstance(callbacks, Sequence) and all(isinstance(callback, Callback) for callback in callbacks)
        check(listed, ArgumentError, "Trainer", "callbacks must be a list, as [Progress()]", callbacks=callbacks)
        self.schedule, self.ema, self.accumulate, self.callbacks = schedule, ema, accumulate, tuple(callbacks)
        self._schedule_measure, self._clip_norm, self._clip_value = schedule_measure, clip_norm, clip_value
        self._random = RandomStreams(model, generators or {})
        self.world = init() if distributed is True else distributed or None
        check_sizes("Trainer", bucket_bytes=bucket_bytes)
        if sync_batch_norm:
            rule = "sync_batch_norm is of the ranks of distributed, and of layers inside the model"
            fits = self.world is not None and convert(model, self.world) is model
            check(fits, ArgumentError, "Trainer", rule, distributed=distributed, model=type(model).__name__)
        if cuda_graph:
            ranks = 1 if self.world is None else self.world.size
            rule = "a step that ranks take together cannot be captured"
            check(ranks == 1, ArgumentError, "Trainer", rule, cuda_graph=cuda_graph, ranks=ranks)
            rule = "a step that is captured computes in fp32"
            check(precision == "fp32", ArgumentError, "Trainer", rule, precision=precision, cuda_graph=cuda_graph)
            rule = "the norm of gradients that a graph computes is not recorded"
            check(not record_gradient_norm, ArgumentError, "Trainer", rule, cuda_graph=cuda_graph)
            check_capturable(optimizer, accumulate)
        self._cuda_graph, self._captured = cuda_graph, cast(CapturedStep | None, None)
        sharded = shard_optimizer or isinstance(optimizer, Sharded)
        rule = "an optimizer whose states are shared out among ranks needs distributed=True"
        check(self.world is not None or not sharded, ArgumentError, "Trainer", rule, shard_optimizer=shard_optimizer)
        self._ranks: Ranks | None = None
        if self.world is not None and self.world.size > 1:
            if shard_optimizer and not isinstance(optimizer, Sharded):
                self.optimizer = Sharded(optimizer, self.world)
            self._ranks = Ranks(self.world, model, self.optimizer, data, bucket_bytes)
        self.epoch = self.step = 0
        self.epochs: int | None = None
        self.records: list[Record] = []
        self.stopped = False
        self._total, self._drained = 0.0, False  # of the epoch under way
        self._examples: float = 0
        self._skipped = 0
        self._norms: list[float] | None = [] if record_gradient_norm else None
        self._seconds = {"run": 0.0, "epoch": 0.0}
        self._asked: str | None = None
        self._whole = True  # no step, and no end of an epoch, is half done
        self._frozen: list[Module] = []

    # ---- the loop -------------------------------------------------------------------------------------------------

    def run(self, epochs: int) -> list[Record]:
        """Train until ``epochs`` epochs are whole, those of the runs before included; return the records of all.

        Ctrl-C, SIGTERM and :meth:`interrupt` take effect when the step under way is whole: callbacks may save, and
        KeyboardInterrupt is raised; a second Ctrl-C is not waited for. Raises TrainingError, which says at which step
        and in which module, when a loss, a gradient or a measure is not finite. Whatever stops an epoch, the model
        then has the weights of the end of the last whole epoch, or those with which the run began; load a
        checkpoint to resume.
        """
        check_sizes("Trainer", epochs=epochs)
        rule = "a run was stopped within an epoch, and the model is not where the data are: load a checkpoint first"
        check(self._whole, ArgumentError, "Trainer", rule, epoch=self.epoch, step=self.step)
        if self._ranks is not None:
            self._begin_together(self._ranks)
        self._check_monitored()
        good = self.model.state_dict()  # a copy
        self.epochs = epochs
        self.stopped, self._asked = False, None
        if self._cuda_graph:
            self._captured = CapturedStep(self.model, self.optimizer, self._loss, self._update, self._random, self.ema)
        with self._taking_signals():
            try:
                self._call("on_start")
                self._agree_to_end()
                while self.epoch < epochs and not self.stopped:
                    with self._timed("run"):
                        self._train_epoch()
                        self._close_epoch()
                        good = self.model.state_dict()
                        self._call("on_epoch", self.records[-1])
                        self._agree_to_end()
                    if self.epoch < epochs:
                        self._leave_if_asked()
            except BaseException as error:
                try:
                    if isinstance(error, KeyboardInterrupt) and self._whole:
                        self._call("on_interrupt")
                finally:
                    self.model.load_state_dict(good)
                    self._whole = False
                raise
            finally:
                self._captured = None
                with ExitStack() as ends:  # each is called, whatever those before it raise
                    for callback in reversed(self._called()):
                        ends.callback(callback.on_end, self)
        return self.records

    def _train_epoch(self) -> None:
        """The batches that are left of the epoch; afterwards, until it is closed, nothing can be saved."""
        self._set_modes()
        generators = list(self._random.generators().values())
        batches = iter(() if self._drained else self.data)
        while not self._drained:
            self._whole, start = False, _working_time()
            group = list(islice(batches, self.accumulate))
            self._drained = len(group) < self.accumulate  # data are at the next epoch then
            loss = self._take_step(group, generators) if group else math.nan
            self._seconds["epoch"] += _working_time() - start
            if group:
                self._whole = True
                self._call("on_step", loss)
                self._leave_if_asked()
        self._whole = False

    def _set_modes(self) -> None:
        """Train all modules but those that were put into evaluation while the model as a whole was in training."""
        if self.model.training:
            self._frozen = [module for module in self.model.modules() if not module.training]
        else:
            self.model.train()
            self._freeze()

    def _freeze(self) -> None:
        for module in self._frozen:
            module.training = False

    def _take_step(self, group: list[Any], generators: list[np.random.Generator]) -> float:
        random = [(generator, generator.bit_generator.state) for generator in generators]
        if self._captured is not None:
            value, count = self._captured.take(group[0], lambda what: self._fail(what, group, random))
            return self._count_step(value * count, count)
        self.optimizer.zero_grad()
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):  # what is not finite is reported by _fail
            go_back = self._go_back if self._ranks is None else self._go_back_together
            total, examples = go_back(group, random)
            self._learned()
            finite = self.scaler.unscale_(self.optimizer) if self.scaler else self.optimizer.gradients_are_finite()
            if not finite and (self.scaler is None or self.scaler.at_floor):
                self._fail("the gradient is not finite", group, random)
            if finite:
                self._update()
            if self.scaler is not None:
                self.scaler.update()
            self._skipped += not finite
        return self._count_step(total, examples)

    def _go_back(self, group: list[Any], random: list[Any]) -> tuple[float, float]:
        """Give the parameters the gradient of the mean over the examples; return the sum of losses, and how many."""
        total, examples = 0.0, 0
        for batch in group:
            y, count = self._loss(batch)
            value = float(y.item())
            if not math.isfinite(value):
                self._fail(f"the training loss is {value}", group, random)
            if self.scaler is not None:
                y = self.scaler.scale(y)
            if self.accumulate == 1:
                y.backward()
            else:
                y.backward(get_array_module(y.data).full_like(y.data, count))
            total, examples = total + value * count, examples + count
        if self.accumulate > 1:
            for p in self._learned():
                p.grad = get_array_module(p.data).asarray(cast(Array, p.grad) / examples)  # () gives a number
        return total, examples

    def _go_back_together(self, group: list[Any], random: list[Any]) -> tuple[float, float]:
        """:meth:`_go_back` on all ranks: what is not finite on one is not finite in the sums of all."""
        ranks = cast(Ranks, self._ranks)
        total, examples, whole = 0.0, 0.0, None
        for number, batch in enumerate(group, 1):
            y, count = (None, 0) if batch is None else self._loss(batch)
            if count == 0:  # of one that weighs nothing the mean is no number
                y = None
            ranks.check_share(y is not None)
            if y is not None:
                total, examples = total + float(y.item()) * float(count), examples + float(count)
            if number == len(group):
                whole = ranks.begin(total, examples, self._asked is not None)
            if y is not None:
                if self.scaler is not None:
                    y = self.scaler.scale(y)
                y.backward(get_array_module(y.data).full_like(y.data, float(count) / ranks.unit), whole=whole)
        total, examples = ranks.finish()
        if not math.isfinite(total):
            self._fail(f"the training loss is {total / examples}", group, random)
        return total, examples

    def _learned(self) -> list[Tensor]:
        learned = self.optimizer.learned()
        rule = "the loss gave no gradient to any of the optimizer's parameters: is it of the trainer's model?"
        check(bool(learned), ArgumentError, "Trainer", rule)
        return learned

    def _update(self) -> None:
        """Move the weights, and their averages, by the gradients."""
        learned = self._learned()
        sharded = self.optimizer if isinstance(self.optimizer, Sharded) else None
        if self._clip_norm is not None or self._norms is not None:
            most = math.inf if self._clip_norm is None else self._clip_norm
            norm = clip_grad_norm(learned, most) if sharded is None else sharded.clip_grad_norm(most)
            if self._norms is not None:
                self._norms.append(float(norm))
        if self._clip_value is not None:
            clip_grad_value(learned, self._clip_value) if sharded is None else sharded.clip_grad_value(self._clip_value)
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update()

    def _count_step(self, total: float, examples: float) -> float:
        if self.schedule is not None and not isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step()
        self._total, self._examples, self.step = self._total + total, self._examples + examples, self.step + 1
        return total / examples

    def _loss(self, batch: Any) -> tuple[Tensor, int]:
        with autocast(self._half):
            given = self.loss(batch)
        y, count = mean_and_count(given, batch)
        counted = (isinstance(count, Real) or is_array(count)) and bool(count > 0)
        counted = counted or (self._ranks is not None and count == 0)  # all ranks together must have one
        check(counted, ArgumentError, "Trainer", NO_EXAMPLE, examples=count)
        return y, count

    def _measures(self) -> dict[str, float]:
        measures = self._taken()
        if self.model.training:
            self._freeze()  # a measure that ends with model.train() has thawed them
        for name, value in measures.items():
            if not math.isfinite(value):
                self._fail(f"the {name.replace('_', ' ')} is {value}", [], None)
        return measures

    def _taken(self) -> dict[str, float]:
        """The measures, as they come."""
        take = [each for each in (self.validation, self.measure) if each is not None]
        if not take:
            return {}

        def all_of_them() -> dict[str, float]:
            return {name: value for each in take for name, value in each().items()}

        with self.ema.averages() if self.ema is not None else nullcontext():
            return all_of_them() if self._ranks is None else self._ranks.measured(all_of_them)

    def _close_epoch(self) -> None:
        rule = "an epoch must have at least one batch"
        check(self._examples > 0, ArgumentError, "Trainer", rule, epoch=self.epoch + 1)
        if self._ranks is not None:
            self._ranks.share_buffers()
        with self._timed("epoch"):
            measures = self._measures()
        self.epoch += 1
        loss, seconds = self._total / self._examples, self._seconds["epoch"]
        more: Record = {} if self.scaler is None else {"skipped_steps": self._skipped}
        if self._norms:
            more |= {"gradient_norm": math.fsum(self._norms) / len(self._norms), "largest_norm": max(self._norms)}
            self._norms = []
        self.records.append({"epoch": self.epoch, "train_loss": loss, **measures, **more, "seconds": seconds})
        self._total, self._examples, self._drained, self._seconds["epoch"] = 0.0, 0, False, 0.0
        self._skipped = 0
        if isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step(self.measured("Trainer", cast(str, self._schedule_measure)))
        self._whole = True

    def measured(self, op: str, name: str) -> float:
        """The measure of that name of the last epoch; ArgumentError, of ``op``, if there is none."""
        record = self.records[-1]
        _check_known(op, name, list(record))
        return float(record[name])

    def _check_monitored(self) -> None:
        """Raise ArgumentError for the name of a measure that epochs do not have."""
        named = [(type(each).__name__, each.monitored) for each in self.callbacks]
        monitored = [(op, name) for op, name in [("Trainer", self._schedule_measure), *named] if name is not None]
        if self.records:
            known = list(self.records[-1])
        else:
            known = ["train_loss", *(self.validation.names if self.validation is not None else [])]
            if self._norms is not None:
                known += ["gradient_norm", "largest_norm"]
            if self.measure is not None and any(name not in known for _, name in monitored):
                known += self._rehearsed_measures()
        for op, name in monitored:
            _check_known(op, name, known)

    def _rehearsed_measures(self) -> list[str]:
        """The names of all measures: they are taken once, and what draws random numbers is put back."""
        random = self._random.state_dict()
        modes = [(module, module.training) for module in self.model.modules()]
        try:
            return list(self._taken())
        finally:
            self._random.load_state_dict(random)
            for module, training in modes:
                module.training = training

    def _fail(self, what: str, group: list[Any], random: list[Any] | None) -> None:
        at = self.step + bool(group)
        where = ""
        if random is not None:
            for generator, state in random:  # the same masks of dropout
                generator.bit_generator.state = state
            with apart(self.model):
                found = first_not_finite(self.model, self._loss, (batch for batch in group if batch is not None))
            where = f"; first {found if self._ranks is None else self._ranks.first(found, NOWHERE)}"
        raise TrainingError(
            f"Trainer: {what} at step {at} (epoch {self.epoch + 1}){where}; "
            "the model is back in its last good state: try a smaller learning rate"
        )

    # ---- callbacks and signals ------------------------------------------------------------------------------------

    def stop(self) -> None:
        """End the run when the epoch under way is whole."""
        self.stopped = True

    def interrupt(self, reason: str = "") -> None:
        """End the run as Ctrl-C does, when the step under way is whole."""
        self._asked = reason

    @property
    def seconds(self) -> float:
        """The wall time of training, over all processes."""
        return self._seconds["run"]

    def _call(self, event: str, *arguments: Any) -> None:
        for callback in self.callbacks if self._ranks is None else self._called():
            getattr(callback, event)(self, *arguments)

    def _called(self) -> Sequence[Callback]:
        """The callbacks that this rank calls."""
        if self.first:
            return self.callbacks
        return [callback for callback in self.callbacks if callback.every_rank]

    def _leave_if_asked(self) -> None:
        if self._asked is not None if self._ranks is None else self._ranks.leaving:
            raise KeyboardInterrupt(self._asked or "")

    # ---- several ranks --------------------------------------------------------------------------------------------

    @property
    def first(self) -> bool:
        """Whether this is rank 0, or the only one: the rank that writes."""
        return self.world is None or self.world.rank == 0

    def busy(self, what: str) -> AbstractContextManager[None]:
        """A context in which other ranks wait for this one without a limit; see :meth:`gpunn.distributed.World.busy`.

        >>> from gpunn import nn, optim
        >>> layer = nn.Linear(2, 1)
        >>> trainer = Trainer(layer, optim.SGD(layer.parameters(), lr=0.1), [], lambda batch: (layer(batch).sum(), 1))
        >>> with trainer.busy("drawing"):
        ...     pass
        """
        return nullcontext() if self.world is None else self.world.busy(what)

    def _begin_together(self, ranks: Ranks) -> None:
        """Have all that rank 0 has, but for the streams of random numbers."""
        ranks.agree(self._settings())
        state = ranks.share_state(self.state_dict())
        # Callbacks may be rank 0's alone. It loads, too, as all ranks together have the states of a sharded optimizer.
        own = {name: part for name, part in self._state().items() if name.startswith("callback ")}
        self.load_state_dict(own | {n: part for n, part in state.items() if n in own or n[:9] != "callback "})
        self._random.part(ranks.world.rank)

    def _agree_to_end(self) -> None:
        if self._ranks is not None:
            self.stopped = self._ranks.agree_to_end(self.stopped, self._asked is not None)

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        clock = _working_time if what == "epoch" else time.perf_counter
        before, start = self._seconds[what], clock()
        try:
            yield
        finally:
            self._seconds[what] = before + clock() - start

    @contextmanager
    def _taking_signals(self) -> Iterator[None]:
        """A context in which the first Ctrl-C or SIGTERM only asks to leave; other handlers than Python's stay."""

        def ask(number: int, frame: FrameType | None) -> None:
            if self._asked is not None:
                raise KeyboardInterrupt
            self.interrupt(signal.Signals(number).name)

        usual: dict[signal.Signals, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
        taken = []
        if threading.current_thread() is threading.main_thread():  # no other may set handlers
            taken = [number for number, handler in usual.items() if signal.getsignal(number) is handler]
        for number in taken:
            signal.signal(number, ask)
        try:
            yield
        finally:
            for number in taken:
                signal.signal(number, usual[number])

    # ---- copies ---------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        check(self._whole, ArgumentError, "Trainer", _UNDER_WAY, step=self.step)
        rule = "a trainer that is one of several ranks cannot be copied: save its state_dict"
        check(self._ranks is None, ArgumentError, "Trainer", rule, ranks=self.world and self.world.size)
        own = {id(self.optimizer), id(self.ema), *map(id, self.model.modules())}
        loss = self.loss.loss if isinstance(self.loss, OfOutputs) else self.loss
        metrics = {} if self.validation is None else self.validation.metrics
        for name, function in {"loss": loss, "measure": self.measure, **metrics}.items():
            bound = any(id(value) in own for value in _read_by(function))
            rule = f"to be copied, {name} must be an object that holds the model: a function keeps the old one"
            check(not bound, ArgumentError, "Trainer", rule)
        return vars(self) | {"_captured": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if hasattr(self.data, "state_dict"):  # the next loop gives the rest of the epoch
            cast(Stateful, self.data).load_state_dict(cast(Stateful, self.data).state_dict())

    def __copy__(self) -> Trainer:
        fail(ArgumentError, "Trainer", "a shallow copy would train the same model, and count alone: use copy.deepcopy")

    # ---- saving and resuming --------------------------------------------------------------------------------------

    def _parts(self) -> dict[str, Stateful]:
        """What is saved, by name."""
        rule = "data must have state_dict and load_state_dict to be saved"
        check(hasattr(self.data, "state_dict"), ArgumentError, "Trainer", rule, data=type(self.data).__name__)
        parts: dict[str, Any] = {"model": self.model, "data": self.data, "random": self._random}
        # In the order of loading: a schedule sets the rates, which may have been set by hand since.
        parts |= {"schedule": self.schedule, "optimizer": self.optimizer, "ema": self.ema, "scaler": self.scaler}
        seen: Counter[str] = Counter()
        for each in self.callbacks:
            if each.state_dict():
                kind = type(each).__name__
                parts[f"callback {kind} {seen[kind]}"] = each
                seen[kind] += 1
        return {name: part for name, part in parts.items() if part is not None}

    def state_dict(self) -> dict[str, State]:
        """All that the rest of the training depends on, as :func:`gpunn.checkpoint.save_checkpoint` takes it.

        Between steps only: when callbacks are called, and outside of :meth:`run`.
        """
        check(self._whole, ArgumentError, "Trainer", _UNDER_WAY, step=self.step)
        return self._state()

    def _state(self) -> dict[str, State]:
        position = {"epoch": self.epoch, "step": self.step, "records": [dict(record) for record in self.records]}
        running = {"total": self._total, "examples": self._examples, "drained": self._drained, "skipped": self._skipped}
        norms: State = {} if self._norms is None else {"norms": list(self._norms)}
        optimizer = self.optimizer.optimizer if isinstance(self.optimizer, Sharded) else self.optimizer
        made: State = {"settings": self._settings(), "optimizer": type(optimizer).__name__}
        own: State = position | running | norms | {"seconds": dict(self._seconds)} | made
        return {"trainer": own} | {name: part.state_dict() for name, part in self._parts().items()}

    def _settings(self) -> State:
        limits = {"clip_norm": self._clip_norm, "clip_value": self._clip_value}
        return {"precision": self.precision, "accumulate": self.accumulate} | limits

    def load_state_dict(self, state: Mapping[str, State]) -> None:
        """Resume from a :meth:`state_dict` of a trainer that was made alike, bit for bit.

        Raises a GpunnError that names what differs: the network by names and shapes, the data, the settings. Nothing
        is changed then.
        """
        parts, before = self._parts(), self._state()
        if before.keys() != state.keys():
            only = [", ".join(sorted(a.keys() - b.keys())) or "no more" for a, b in ((state, before), (before, state))]
            fail(ArgumentError, "Trainer", f"other parts: the state has {only[0]}, the trainer {only[1]}")
        if differing := differences(before["model"], state["model"]):
            raise ArgumentError(f"Trainer: the state is of another network: {'; '.join(differing)}")
        own, read = before["trainer"], state["trainer"]
        _check_position(read)
        rule = "the state is of a trainer with other settings"
        same = own["settings"] == read["settings"]
        check(same, ArgumentError, "Trainer", rule, state=read["settings"], own=own["settings"])
        saved = read.get("optimizer", own["optimizer"])  # which older states do not have
        rule = "the state is of a trainer with another optimizer"
        check(saved == own["optimizer"], ArgumentError, "Trainer", rule, state=saved, own=own["optimizer"])
        try:
            for name, part in parts.items():
                part.load_state_dict(state[name])
        except BaseException:
            for name, part in parts.items():
                part.load_state_dict(before[name])
            raise
        self.epoch, self.step, self.records = read["epoch"], read["step"], [dict(r) for r in read["records"]]
        self._total, self._examples, self._drained = read["total"], read["examples"], read["drained"]
        self._skipped = read["skipped"]
        if self._norms is not None:
            self._norms = list(read.get("norms", []))
        self._seconds = dict(read["seconds"])
        self._whole = True


_BATCH_SIZE = 32
_UNDER_WAY = "a step is under way, or was when the run was stopped: there is no state to save"


def _check_position(read: Mapping[str, Any]) -> None:
    """Check what a state says of where the training is: it may come from a file."""

    def is_number(value: object) -> bool:
        return isinstance(value, Real) and not isinstance(value, bool)

    for name in ("epoch", "step", "skipped"):
        rule = f"{name} of the state must be an integer of at least 0"
        whole = isinstance(read[name], int) and not isinstance(read[name], bool) and read[name] >= 0
        check(whole, ArgumentError, "Trainer", rule, **{name: read[name]})
    numbers = {"total": read["total"], "examples": read["examples"]}
    numbers |= {f"seconds of the {part}": dict(read["seconds"]).get(part) for part in ("run", "epoch")}
    numbers |= {f"norm {number}": norm for number, norm in enumerate(read.get("norms", []))}
    for name, value in numbers.items():
        check(is_number(value), ArgumentError, "Trainer", f"{name} of the state must be a number", value=value)
    told = isinstance(read["drained"], bool)
    check(told, ArgumentError, "Trainer", "drained of the state must be true or false", drained=read["drained"])
    records = read["records"]
    records_fit = isinstance(records, list) and all(isinstance(each, Mapping) for each in records)
    check(records_fit, ArgumentError, "Trainer", "records of the state must be a list of objects", records=records)


def _check_known(op: str, name: str, known: list[str]) -> None:
    check(name in known, ArgumentError, op, f"the measures of an epoch are {', '.join(known)}", measure=name)


def _read_by(function: object) -> Iterator[object]:
    """What the body of a function takes from outside of itself: globals, and what it closes over."""
    body = getattr(function, "__func__", function)
    if isinstance(body, FunctionType):
        named = [each.argval for each in dis.get_instructions(body) if each.opname == "LOAD_GLOBAL"]
        yield from (body.__globals__[name] for name in named if name in body.__globals__)
        yield from (cell.cell_contents for cell in body.__closure__ or () if cell != CellType())  # not the empty ones


def _working_time() -> float:
    """A clock in seconds that stands still while kernels are compiled: the first epoch alone has to wait for that."""
    return time.perf_counter() - compiled().seconds

"""A training step as CUDA graphs, for ``Trainer(cuda_graph=True)``: the host launches two graphs and reads one array.

The first graph holds the forward and the backward pass, the second limits the gradients and moves the weights and their
averages. Between them the host reads the loss and whether all is finite, as without graphs, so that a step that is not
finite changes no weight. Before each replay it draws the keys of dropout and computes the numbers of the optimizer,
which the graphs read from memory: masks, learning rates, schedules and the state of every generator are those of a run
without graphs. Batches are copied to where the graph reads them. The first :data:`WARM_UP` batches of a shape, and all
batches of other shapes, such as a last short one, run outside of a graph, by the same kernels.

What a step must be like:

- the parameters are on one GPU, and every array of a batch is there when it comes from the loader; what is no array
  in a batch is the same in all that a graph serves;
- ``loss`` does the same for each batch of a shape: what Python decides or draws in it is decided for good. It copies
  nothing to the GPU and reads nothing back, so it gives a count of examples that it knows from shapes;
- products are of two matrices of float32 or float64, as in linear, convolution and recurrent layers: others are
  cuBLAS's, which CuPy cannot capture. These have other kernels than without graphs, and so the last bits of a linear
  layer differ from those of such a run; those of a run that is resumed do not;
- the optimizer has a kernel: SGD, Adam and its kin, RMSprop, Adagrad, Adadelta, but for ``amsgrad`` and ``dampening``,
  for parameters of float32 or float64.

What cannot be captured raises CaptureError with the place and the reason. As :mod:`gpunn.cuda.capture`, this is
tested with CuPy on the emulated device, and has not yet run on a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from gpunn.backend import Array, accumulation_dtype, device_of, get_array_module, is_array, to_cpu
from gpunn.cuda.capture import Arena, Captured, Report, alarms
from gpunn.data.staging import map_arrays
from gpunn.errors import ArgumentError, CaptureError, DeviceError, check
from gpunn.nn import Module
from gpunn.optim import EMA, Optimizer
from gpunn.tensor import Tensor
from gpunn.train.random_state import RandomStreams

WARM_UP = 3
"""Batches of a shape before its graph is captured."""

_KINDS = 16  # of batches that are remembered


def check_capturable(optimizer: Optimizer, accumulate: int) -> None:
    """Raise ArgumentError if no step of this optimizer could be captured."""
    devices = sorted({p.device for p in _parameters(optimizer)})
    rule = "cuda_graph needs parameters on one GPU: move the model there before the optimizer is made"
    check(len(devices) == 1 and devices != ["cpu"], ArgumentError, "Trainer", rule, devices=devices)
    rule = "cuda_graph captures a step of one batch: take larger batches, or no graph"
    check(accumulate == 1, ArgumentError, "Trainer", rule, accumulate=accumulate)


class CapturedStep:
    """Steps of a run, captured when a shape of batches has come :data:`WARM_UP` times, and then replayed.

    ``update()`` moves the weights by the gradients, with ``optimizer.step()`` in it, and their averages ``ema``.
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        loss: Callable[[Any], tuple[Tensor, int]],
        update: Callable[[], None],
        random: RandomStreams,
        ema: EMA | None = None,
    ) -> None:
        self._model, self._optimizer, self._loss, self._update, self._random = model, optimizer, loss, update, random
        self._ema = ema
        self._arena = Arena(_parameters(optimizer)[0].device)
        self._forget()

    def _forget(self) -> None:
        self._seen: list[tuple[Any, int]] = []  # the kinds of batches, how often each came
        self._made: Any = None  # for which kind of batch, and which settings, the graphs are
        self._gradients: _Gradients | None = None
        self._moves: Captured | None = None

    def take(self, batch: Any, stop: Callable[[str], None]) -> tuple[float, int]:
        """Take a step; return the mean loss, and of how many examples. ``stop(what)`` raises for what is not finite."""
        kind, fixed = self._kind(batch), self._fixed()
        if self._made is not None and self._made[1] != fixed:
            self._forget()
        if self._made is not None and self._made[0] == kind:
            return self._replayed(batch, stop)
        times = next((n for known, n in self._seen if known == kind), 0)
        self._seen = [*[(known, n) for known, n in self._seen if known != kind][-_KINDS:], (kind, times + 1)]
        if self._made is None and times >= WARM_UP:
            return self._captured(batch, stop, kind, fixed)
        return self._rehearsed(batch, stop)

    # ---- the three ways ---------------------------------------------------------------------------------------------

    def _rehearsed(self, batch: Any, stop: Callable[[str], None]) -> tuple[float, int]:
        # A copy, as what the graph will read is one: kernels differ by where an array begins.
        passed = self._arena.rehearse(lambda: self._work(map_arrays(lambda x: x.copy(), batch)))
        value = self._checked(passed, stop)
        self._arena.rehearse(self._limited)
        return value, passed.examples

    def _captured(self, batch: Any, stop: Callable[[str], None], kind: Any, fixed: Any) -> tuple[float, int]:
        self._gradients = gradients = _Gradients(self._arena, self._optimizer, batch, self._work, self._random)
        self._check_held(fixed)
        value = self._checked(gradients.replay(batch, first=True), stop)
        self._moves, _ = self._arena.capture(self._limited)
        parts = sum(len(list(group.parts())) for group in self._optimizer.groups)
        rule = "the optimizer must compute by kernels of this library, or its settings would stay as they are"
        counted = self._moves.counted_values >= parts
        check(counted, CaptureError, "cuda graph", rule, optimizer=type(self._optimizer).__name__)
        self._clipped = [p.grad for p in _parameters(self._optimizer)]
        self._moves.replay(first=True)
        self._made = kind, self._fixed()
        self._held = [t.data for t in self._tensors()]  # kept, so that no other array is known by the id of one
        return value, gradients.passed.examples

    def _replayed(self, batch: Any, stop: Callable[[str], None]) -> tuple[float, int]:
        gradients, moves = self._gradients, self._moves
        assert gradients is not None
        assert moves is not None
        value = self._checked(gradients.replay(batch), stop)
        moves.replay(self._optimizer.repeat_step)
        for p, g in zip(_parameters(self._optimizer), self._clipped, strict=True):
            p.grad = g
        return value, gradients.passed.examples

    # ---- the work ---------------------------------------------------------------------------------------------------

    def _work(self, batch: Any) -> _Passed:
        """The gradients, and what is to be read of them."""
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            self._optimizer.zero_grad()
            y, examples = self._loss(batch)
            y.backward()
            set_off = alarms()
            results = get_array_module(y.data).zeros(2 + len(set_off), np.float64)
            results[:1] = y.data.reshape(1)
            total = results[1:2]
            for p in _parameters(self._optimizer):
                if p.grad is not None:
                    total += p.grad.sum(dtype=accumulation_dtype(p.grad.dtype))
            for place, (wrong, _) in enumerate(set_off):
                results[2 + place] = wrong
        return _Passed(results, examples, [report for _, report in set_off])

    def _limited(self) -> None:
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            self._update()

    def _checked(self, passed: _Passed, stop: Callable[[str], None]) -> float:
        loss, total, *set_off = to_cpu(passed.results).tolist()
        for alarm, report in zip(set_off, passed.reports, strict=True):
            if alarm:
                report()
        if not math.isfinite(loss):
            stop(f"the training loss is {loss}")
        if not math.isfinite(total):
            given = [p.grad for p in _parameters(self._optimizer) if p.grad is not None]
            if not all(bool(get_array_module(g).isfinite(g).all()) for g in given):
                stop("the gradient is not finite")
        return float(loss)

    # ---- what a graph is good for -----------------------------------------------------------------------------------

    def _kind(self, batch: Any) -> Any:
        """Equal for batches that one graph serves: arrays by shape and dtype, all else by itself."""

        def described(x: Array) -> tuple[Any, ...]:
            place, rule = device_of(x), "cuda_graph needs every array of a batch on the GPU: DataLoader(device=...)"
            check(place == self._arena.device, DeviceError, "Trainer", rule, batch=place, model=self._arena.device)
            return x.shape, str(x.dtype)

        return map_arrays(described, batch)

    def _fixed(self) -> Any:
        """What a graph holds for good: addresses of arrays, settings, and which layers train."""
        modules = [module.training for _, module in self._model.named_modules()]
        held = [(id(t.data), t.requires_grad) for t in self._tensors()]
        return self._optimizer.captured_settings(), modules, held, self._ema and self._ema.decay

    def _tensors(self) -> Iterable[Tensor]:
        yield from (p for _, p in self._model.named_parameters())
        yield from (b for _, b in self._model.named_buffers())

    def _check_held(self, before: Any) -> None:
        rule = "a forward pass must change the buffers of its modules in place, and switch none of them"
        check(self._fixed() == before, CaptureError, "cuda graph", rule, model=type(self._model).__name__)


class _Passed(NamedTuple):
    """What a forward and backward pass gave beside the gradients.

    ``results``, float64, are the loss, a number that is finite only if the gradients are, and whether each of the
    ``reports`` is due.
    """

    results: Array
    examples: int
    reports: list[Report]


class _Gradients:
    """The captured forward and backward pass, with the batch that it reads."""

    def __init__(
        self, arena: Arena, optimizer: Optimizer, batch: Any, work: Callable[[Any], _Passed], random: RandomStreams
    ) -> None:
        self._arena, self._parameters = arena, _parameters(optimizer)
        with arena.entered():
            self._batch = map_arrays(lambda x: x.copy(), batch)  # where the graph reads it
        generators = list(random.generators().values())
        before = [generator.bit_generator.state for generator in generators]
        self._graph, self.passed = arena.capture(lambda: work(self._batch))
        self._grads = [p.grad for p in self._parameters]
        after = [generator.bit_generator.state for generator in generators]
        for generator, state in zip(generators, before, strict=True):
            generator.bit_generator.state = state
        rule = (
            "dropout must draw from the default generator, one that a module holds, or one of Trainer(generators=...)"
        )
        check(self._graph.drawn_again(), CaptureError, "cuda graph", rule)
        now = [generator.bit_generator.state for generator in generators]
        rule = "a step may draw random numbers for dropout alone: others would be the same in each replay"
        check(_equal(after, now), CaptureError, "cuda graph", rule)

    def replay(self, batch: Any, first: bool = False) -> _Passed:
        """What the work gives, with the gradients where the parameters have them."""
        with self._arena.entered():
            _copy(self._batch, batch)
        self._graph.replay(first=first)
        for p, g in zip(self._parameters, self._grads, strict=True):
            p.grad = g
        return self.passed


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [p for group in optimizer.groups for p in group.parameters]


def _copy(to: Any, batch: Any) -> None:
    """Copy the arrays of ``batch`` into those of ``to``, which has the same form."""
    given: list[Array] = []
    map_arrays(given.append, batch)
    places: list[Array] = []
    map_arrays(places.append, to)
    for place, x in zip(places, given, strict=True):
        place[...] = x


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    return bool(np.array_equal(a, b)) if is_array(a) else bool(a == b)

"""Optimizer states shared out: each rank keeps, and moves, its own piece of the parameters' flat buffer.

    g[piece] = mean over the ranks of their gradients                                  reduce_gradients: reduce-scatter
    p[piece], states[piece] = the optimizer's rule for p[piece], g[piece], states[piece]         step: by each rank
    p = the pieces of all ranks, one behind the other                                            step: all-gather

So n ranks keep 1/n of the states each, and together send as much as to reduce the gradients on every rank. Source:
Rajbhandari et al. 2020, "ZeRO: Memory optimizations toward training trillion parameter models" (stages 1 and 2: states
and gradients).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import groupby, pairwise
from typing import Any, NoReturn, cast, overload

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, get_array_module
from gpunn.distributed.world import World
from gpunn.errors import ArgumentError, CaptureError, check, check_number, fail
from gpunn.optim import Optimizer, clip_grad_norm, clip_grad_value
from gpunn.optim.clip import norm_and_factor
from gpunn.optim.group import Group, Part, Settings, Shape, all_finite
from gpunn.optim.optimizer import Loss, check_range
from gpunn.tensor import Tensor


class Sharded(Optimizer):
    """``optimizer``, with its states shared out among the ranks of ``world``.

    It is used as ``optimizer`` is, whose groups it takes over; that one takes no more steps by itself. All ranks call
    the same methods, :meth:`state_dict` too. Parameters begin as those of rank 0.

    A step begins with the gradients of a rank's own examples, and :meth:`reduce_gradients`; then, if asked for,
    ``GradScaler.unscale_`` and :meth:`clip_grad_norm`, which look at the gradients of all ranks; then :meth:`step`.
    Without :meth:`reduce_gradients`, gradients must have been reduced already, and are the same on all ranks: then the
    functions of :mod:`gpunn.optim` clip them.

    The pieces are equal, and end within parameters, for rules that move each element by itself: SGD, Adam, AdamW,
    NAdam, RAdam, Adamax, RMSprop, Adagrad, Adadelta, ASGD and Rprop. LAMB, Muon and Adafactor look at whole parameters,
    as optimizers of one's own may (without ``elementwise = True``): there a piece ends with a parameter, and so the
    pieces differ in length. L-BFGS, which looks at all of them, is refused.

    The parameters become what they would without sharding: bit for bit where the gradients are, but for what is rounded
    otherwise in other places (the norm to clip by, which is a sum over pieces; long SGD steps of oneDNN).

    >>> import gpunn
    >>> from gpunn import distributed, optim
    >>> p = gpunn.tensor([1.0, 2.0], requires_grad=True)
    >>> adam = distributed.Sharded(optim.Adam([p], lr=0.5), distributed.init())
    >>> (p * p).sum().backward()
    >>> adam.reduce_gradients()
    >>> float(adam.clip_grad_norm(1.0))
    4.4721360206604
    >>> adam.step()
    >>> p.round(3).tolist()
    [0.5, 1.5]

    :meth:`state_dict` is that of ``optimizer`` without sharding, gathered on all ranks: it resumes with another number
    of ranks, and without :class:`Sharded`. ``copy.deepcopy`` of a model together with it gives both, in the same world;
    it cannot be pickled. A step of it cannot be captured in a CUDA graph.

    Raises ArgumentError for what is no such optimizer, DistributedError for parameters or settings that differ between
    ranks.
    """

    def __init__(self, optimizer: Optimizer, world: World) -> None:
        fits = isinstance(optimizer, Optimizer) and not isinstance(optimizer, Sharded)
        rule = "the optimizer must be one of gpunn.optim, not yet sharded"
        check(fits, ArgumentError, "Sharded", rule, type=type(optimizer).__name__)
        check(isinstance(world, World), ArgumentError, "Sharded", "world must be a World", type=type(world).__name__)
        rule = "an optimizer with a step of its own, over all parameters, cannot be shared out"
        check(type(optimizer).step is Optimizer.step, ArgumentError, "Sharded", rule, type=type(optimizer).__name__)
        self.optimizer = optimizer
        self.elementwise = optimizer.elementwise
        self.defaults, self.groups = optimizer.defaults, optimizer.groups
        self._ranks = _Ranks(world)
        self._reduced = False
        self._share_out()

    def _share_out(self) -> None:
        """Share out the groups that are not yet."""
        for number, group in enumerate(self.groups):
            if not isinstance(group, _Share):
                world, kind = self._ranks.world, type(self.optimizer).__name__
                parameters = [(n, p.shape, str(p.dtype)) for n, p in zip(group.names, group.parameters, strict=True)]
                world.agree(f"group {number} of the optimizer", (kind, group.settings, parameters))
                self.groups[number] = _Share(group, self._ranks, self.elementwise)

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        self.optimizer.add_param_group(param_group)
        self._share_out()

    # ---- what the optimizer says ------------------------------------------------------------------------------------

    def states(self, settings: Settings) -> dict[str, float]:
        return self.optimizer.states(settings)

    def state_shape(self, kind: str, shape: Shape) -> Shape | None:
        return self.optimizer.state_shape(kind, shape)

    def update(self, part: Part, settings: Settings) -> None:
        self.optimizer.update(part, settings)

    def check_settings(self, settings: Settings) -> None:
        self.optimizer.check_settings(settings)

    # ---- a step -----------------------------------------------------------------------------------------------------

    def zero_grad(self, set_to_none: bool = True) -> None:
        self._forget()
        super().zero_grad(set_to_none)

    def reduce_gradients(self, divisor: float | None = None) -> None:
        """Make of the gradients their sum over the ranks by ``divisor``, if it is None their mean.

        Each rank keeps its own piece. The divisor is the number of all ranks' examples where gradients are of sums.
        A parameter without a gradient on some ranks has 0 there; one without on all ranks stays as it is. Afterwards
        ``parameter.grad`` is None for all: their memory is free.

        Raises ArgumentError where the last ones have not had their step yet, or were not given up by :meth:`zero_grad`.
        """
        rule = "it comes once in a step: call step, or zero_grad, before"
        check(not self._reduced, ArgumentError, "reduce_gradients", rule)
        divisor = self._ranks.world.size if divisor is None else divisor
        check_number("reduce_gradients", divisor=divisor)
        check(divisor > 0, ArgumentError, "reduce_gradients", "divisor must be above 0", divisor=divisor)
        self._check_step()
        found = self._everywhere(self._found())
        for share, moves in zip(self._shares(), found, strict=True):
            with share.device():
                share.reduce(divisor, moves)
        self._reduced = True
        super().zero_grad()

    def learned(self) -> list[Tensor]:
        if not self._reduced:
            return super().learned()
        return [p for share in self._shares() for p, moves in zip(share.parameters, share.moves, strict=True) if moves]

    def scale_gradients(self, factor: float) -> bool:
        if not self._reduced:
            return super().scale_gradients(factor)
        self._multiply(factor)
        return self.gradients_are_finite()

    def gradients_are_finite(self) -> bool:
        if not self._reduced:
            return super().gradients_are_finite()
        finite = all_finite(share.piece for share in self._shares())
        return not self._ranks.world.all_reduce(np.array(not finite), "max")

    def clip_grad_norm(self, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False) -> Array:
        """:func:`gpunn.optim.clip_grad_norm` by the norm of the gradients of all parameters, the same on all ranks."""
        if not self._reduced:
            return clip_grad_norm(self.learned(), max_norm, norm_type, error_if_nonfinite)
        pieces = [share.piece for share in self._shares()]

        def gathered(numbers: Array) -> Array:
            return self._ranks.world.all_gather(numbers).reshape(-1)

        total, factor = norm_and_factor(pieces, max_norm, norm_type, error_if_nonfinite, gathered)
        if factor is not None:
            self._multiply(factor)
        return total

    def clip_grad_value(self, clip_value: float) -> None:
        """:func:`gpunn.optim.clip_grad_value` of the gradients of all parameters."""
        if not self._reduced:
            clip_grad_value(self.learned(), clip_value)
            return
        check_range("clip_grad_value", "clip_value", clip_value)
        for share in self._shares():
            with share.device():
                get_array_module(share.piece).clip(share.piece, -clip_value, clip_value, out=share.piece)

    def _multiply(self, factor: float | Array) -> None:
        for share in self._shares():
            piece = share.piece
            with share.device(), np.errstate(over="ignore", invalid="ignore"):
                piece *= factor

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], Loss]) -> Loss: ...
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        cuda.refuse_capture("Sharded", _NO_GRAPH)
        loss = None if closure is None else closure()
        if not self._reduced:
            self._share_out()
            own = self._found()
            found = self._everywhere([flag for has in own for flag in (has, [not each for each in has])])
            for share, moves, lacks in zip(self._shares(), found[::2], found[1::2], strict=True):
                for name, here, not_there in zip(share.names, moves, lacks, strict=True):
                    rule = "a parameter has a gradient on some ranks only: call reduce_gradients before step"
                    check(not (here and not_there), ArgumentError, "Sharded", rule, parameter=name)
                share.moves = moves
        super().step()
        for share in self._shares():
            with share.device():
                share.spread()
        self._forget()
        return loss

    def captured_settings(self) -> NoReturn:
        raise CaptureError(f"Sharded: it cannot be captured in a CUDA graph: {_NO_GRAPH}")

    def _check_step(self) -> None:
        self._share_out()  # what was added to the optimizer that this was made of
        if not self._reduced:
            super()._check_step()
        for group in self.groups:
            group.check_views()

    def _shares(self) -> list[_Share]:
        return [group for group in self.groups if isinstance(group, _Share)]

    def _forget(self) -> None:
        self._reduced = False
        for share in self._shares():
            share.forget()

    def _found(self) -> list[list[bool]]:
        return [[p.grad is not None for p in group.parameters] for group in self.groups]

    def _everywhere(self, found: list[list[bool]]) -> list[list[bool]]:
        """What is true on any rank."""
        flags = np.array([flag for each in found for flag in each], np.uint8)
        every = iter(self._ranks.world.all_reduce(flags, "max").astype(bool).tolist())
        return [[next(every) for _ in each] for each in found]

    def __getstate__(self) -> dict[str, Any]:
        rule = "it cannot be copied between reduce_gradients and step"
        check(not self._reduced, ArgumentError, "Sharded", rule)
        return vars(self)


_BLOCK = 1 << 24
"""The bytes of gradients that are reduced at once: there is room for no more of them beside those of the parameters."""
_NO_GRAPH = "the ranks exchange their parameters in a step"


class _Ranks:
    """The world, which copies of an optimizer have in common."""

    def __init__(self, world: World) -> None:
        self.world = world

    def __deepcopy__(self, memo: dict[int, Any]) -> _Ranks:
        return self

    def __reduce__(self) -> NoReturn:
        fail(ArgumentError, "Sharded", "it cannot be pickled, as the ranks cannot: save its state_dict()")


class _Share(Group):
    """A group of which this rank has a piece: a range of the buffer, with its part of the states and gradients."""

    def __init__(self, group: Group, ranks: _Ranks, elementwise: bool) -> None:
        vars(self).update(vars(group))  # the buffers, which the parameters are views of
        self._ranks, self._elementwise = ranks, elementwise
        with self.device():
            ranks.world.broadcast(self._flat)
            for parameter in self.parameters:
                parameter.mark_changed()
            self._cut()
            rank = ranks.world.rank
            self.states = {name: state[self._range(name, rank)].copy() for name, state in group.states.items()}

    def gather(self) -> None:
        super().gather()
        self._cut()

    def _cut(self) -> None:
        """Share out the buffer."""
        size, ranks = self._flat.size, self._ranks.world.size
        if self._elementwise:
            ends = [min(rank * -(-size // ranks), size) for rank in range(ranks + 1)]
        else:
            borders = np.array([0, *(where.stop for where in self.slices)])
            ends = [int(borders[abs(borders - size * rank / ranks).argmin()]) for rank in range(ranks + 1)]
        self._ranges = [slice(start, stop) for start, stop in pairwise(ends)]
        self._numbers = [self._within(where) for where in self._ranges]
        self._own = self._ranges[self._ranks.world.rank]
        self._gradient = get_array_module(self._flat).zeros(_length(self._own), self.state_dtype)
        self._reduced = False
        self.moves: list[bool] = []  # of each parameter, within a step

    def _within(self, own: slice) -> range:
        """The numbers of the parameters that lie in a range of the buffer, wholly or in part."""
        reaches = [s.start < own.stop and own.start < s.stop for s in self.slices]
        empty = [s.start == s.stop and own.start <= s.start <= own.stop for s in self.slices]
        found = [number for number, lies in enumerate(zip(reaches, empty, strict=True)) if any(lies)]
        return range(found[0], found[-1] + 1) if found else range(0)

    def _cuts(self, rank: int) -> Iterator[tuple[int, slice, slice]]:
        """The parameters of a rank: their numbers, where their elements are within the range, and in the parameter."""
        own = self._ranges[rank]
        for number in self._numbers[rank]:
            where = self.slices[number]
            start, stop = max(own.start, where.start), min(own.stop, where.stop)
            yield number, _moved(start, stop, own.start), _moved(start, stop, where.start)

    # ---- a step -----------------------------------------------------------------------------------------------------

    @property
    def piece(self) -> Array:
        """The gradients of this rank's elements."""
        return self._gradient

    def reduce(self, divisor: float, moves: list[bool]) -> None:
        """Add the gradients of all ranks up, and divide; those of this rank's elements are then its piece."""
        world = self._ranks.world
        length = max(map(_length, self._ranges))
        step = max(1, _BLOCK // world.size // self.state_dtype.itemsize)
        for begin in range(0, length, step):
            end = min(begin + step, length)
            rows = get_array_module(self._flat).zeros((world.size, end - begin), self.state_dtype)
            for rank in range(world.size):
                for number, here, there in self._cuts(rank):
                    start, stop, g = max(here.start, begin), min(here.stop, end), self.parameters[number].grad
                    if g is not None and start < stop:
                        elements = g.reshape(-1)[_moved(start, stop, here.start - there.start)]
                        rows[rank, _moved(start, stop, begin)] = elements
            own = self._gradient[begin:end]
            own[...] = world.reduce_scatter(rows.reshape(-1))[: own.size]
        if divisor != 1:
            self._gradient /= divisor
        self.moves, self._reduced = moves, True

    def take_gradients(self) -> None:
        rule = "the optimizer was given to Sharded, which takes the steps"
        check(bool(self.moves), ArgumentError, self._op, rule)
        taken = []
        for number, here, there in self._cuts(self._ranks.world.rank):
            if not self.moves[number]:
                continue
            g, parameter = self._gradient[here], self.parameters[number]
            if not self._reduced:
                g[...] = cast(Array, parameter.grad).reshape(-1)[there]
            taken.append((number, _moved(here.start, here.stop, -self._own.start), g))
        self._add_terms(taken)

    def count_step(self) -> None:
        for number, parameter in enumerate(self.parameters):
            if self.moves[number]:
                self.steps[number] += 1
                parameter.mark_changed()

    def parts(self) -> Iterator[Part]:
        def key(cut: tuple[int, slice, slice]) -> tuple[bool, int]:
            return self.moves[cut[0]], self.steps[cut[0]]

        for (moves, steps), neighbours in groupby(self._cuts(self._ranks.world.rank), key):
            if moves:
                yield self._part_of(list(neighbours), steps)

    def _part_of(self, cuts: list[tuple[int, slice, slice]], steps: int) -> Part:
        where = slice(cuts[0][1].start, cuts[-1][1].stop)
        states = {name: state[where] for name, state in self.states.items()}
        for name, places in self._layouts.items():
            if name in states:
                own = self._range(name, self._ranks.world.rank).start
                states[name] = self.states[name][_moved(places[cuts[0][0]].start, places[cuts[-1][0]].stop, own)]
        shapes: list[Shape] = []
        for number, here, _ in cuts:
            parameter = self.parameters[number]
            shapes.append(parameter.shape if _length(here) == parameter.size else (_length(here),))
        return Part(self._flat[self._own][where], self._gradient[where], states, steps, shapes)

    def spread(self) -> None:
        """Give the elements that have moved to the other ranks."""
        if any(self.moves):
            self._gather(self._flat[self._own], self._ranges, self._flat)

    def forget(self) -> None:
        """The step is over, or is not taken."""
        self.moves, self._reduced = [], False

    # ---- states -----------------------------------------------------------------------------------------------------

    def _range(self, name: str, rank: int) -> slice:
        """What of a state a rank has."""
        if name not in self._layouts:
            return self._ranges[rank]
        numbers, places = self._numbers[rank], self._layouts[name]
        return slice(places[numbers[0]].start, places[numbers[-1]].stop) if numbers else slice(0, 0)

    def _new_state(self, name: str, value: float) -> Array:
        state = super()._new_state(name, value)
        return state[self._range(name, self._ranks.world.rank)].copy() if name in self._layouts else state

    def whole_states(self, wanted: dict[str, float]) -> dict[str, Array]:
        whole = {}
        for name, state in self.states_for(wanted).items():
            ranges = [self._range(name, rank) for rank in range(self._ranks.world.size)]
            whole[name] = get_array_module(state).empty(max(where.stop for where in ranges), state.dtype)
            self._gather(state, ranges, whole[name])
        return whole

    def put_state(self, name: str, place: slice, values: Array) -> None:
        own = self._range(name, self._ranks.world.rank)
        start, stop = max(own.start, place.start), min(own.stop, place.stop)
        if start < stop:
            self.states[name][_moved(start, stop, own.start)] = values[_moved(start, stop, place.start)]

    def _gather(self, own: Array, ranges: list[slice], whole: Array) -> None:
        """Fill the ``ranges`` of ``whole`` with what is each rank's ``own``."""
        padded = get_array_module(own).zeros(max(map(_length, ranges)), own.dtype)
        padded[: own.size] = own
        for where, piece in zip(ranges, self._ranks.world.all_gather(padded), strict=True):
            whole[where] = piece[: _length(where)]


def _length(where: slice) -> int:
    return int(where.stop - where.start)


def _moved(start: int, stop: int, origin: int) -> slice:
    return slice(start - origin, stop - origin)

"""L-BFGS: steps along the gradient, straightened by what the last steps showed of its change."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, overload

import numpy as np

from gpunn.backend import Array, asarray, check_holds_array, get_array_module
from gpunn.errors import ArgumentError, check, check_number, check_sizes, fail
from gpunn.optim.group import Settings, plain
from gpunn.optim.optimizer import Loss, Optimizer, Parameters, check_dict, check_names
from gpunn.optim.search import Point, strong_wolfe

_INTEGERS = ("max_iter", "max_eval", "history_size")
_ARRAYS = ("direction", "gradient")
_LISTS = ("changes", "moves")
_NUMBERS = ("iterations", "evaluations", "length", "loss", "scale")


class LBFGS(Optimizer):
    """``p += t d``, with d minus an estimate of the inverse Hessian times the gradient, from the last steps.

    ``step(closure)`` takes up to ``max_iter`` such steps, and calls ``closure``, which gives the loss and computes the
    gradients anew, up to ``max_eval`` times (5/4 of ``max_iter`` if not given). t is ``lr``, in the very first step at
    most ``lr / sum(|g|)``; ``line_search_fn="strong_wolfe"`` looks for a t that fulfils the strong Wolfe conditions. It
    ends when no gradient is above ``tolerance_grad``, or when loss and parameters change by less than
    ``tolerance_change``. Of the last ``history_size`` steps the changes of p and of the gradient are kept. All
    parameters are one group. Source: Liu and Nocedal 1989; Nocedal and Wright 2006, algorithms 7.4, 3.5 and 3.6.

    >>> import gpunn
    >>> p = gpunn.tensor([3.0, -2.0], requires_grad=True)
    >>> optimizer = LBFGS([p], line_search_fn="strong_wolfe")
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = ((p - gpunn.tensor([1.0, 1.0])) ** 4).sum()
    ...     loss.backward()
    ...     return loss
    >>> first = optimizer.step(closure)
    >>> first.item(), closure().item() < 1e-6
    (97.0, True)
    """

    def __init__(
        self, params: Parameters, lr: float = 1.0, max_iter: int = 20, max_eval: int | None = None,
        tolerance_grad: float = 1e-7, tolerance_change: float = 1e-9, history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:  # fmt: skip
        check_sizes("LBFGS", max_iter=max_iter)
        settings = {
            "lr": lr,
            "max_iter": max_iter,
            "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad,
            "tolerance_change": tolerance_change,
            "history_size": history_size,
            "line_search_fn": line_search_fn,
        }
        super().__init__(params, settings)
        check(len(self.groups) == 1, ArgumentError, "LBFGS", "there must be one group", groups=len(self.groups))
        self._memory = _Memory()

    def check_settings(self, settings: Settings) -> None:
        check_sizes("LBFGS", **{name: settings[name] for name in _INTEGERS})
        check_number("LBFGS", tolerance_grad=settings["tolerance_grad"], tolerance_change=settings["tolerance_change"])
        search = settings["line_search_fn"]
        rule = 'line_search_fn must be None or "strong_wolfe"'
        check(search in (None, "strong_wolfe"), ArgumentError, "LBFGS", rule, line_search_fn=search)
        super().check_settings({name: settings[name] for name in ("lr", "l1", "l2", "maximize")})
        plainly = not (settings["l1"] or settings["l2"] or settings["maximize"])
        rule = "l1, l2 and maximize belong into the loss that the closure gives"
        check(plainly, ArgumentError, "LBFGS", rule, l1=settings["l1"], l2=settings["l2"])

    def states(self, settings: Settings) -> dict[str, float]:
        return {}

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        fail(ArgumentError, "LBFGS", "there must be one group", groups=2)

    # ---- a step ---------------------------------------------------------------------------------------------------

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], Loss]) -> Loss: ...
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take up to ``max_iter`` steps; return what ``closure`` gave at first."""
        if closure is None:
            fail(ArgumentError, "LBFGS", "step needs a closure, which computes the loss and the gradients anew")
        first = closure()
        self._check_step()
        with self.groups[0].device(), np.errstate(all="ignore"):  # what is not finite is told by the loss
            self._go(closure, _number(first))
        self.groups[0].count_step()
        return first

    def _go(self, closure: Callable[[], Any], loss: float) -> None:
        group, memory = self.groups[0], self._memory
        settings, xp = group.settings, get_array_module(group.vector())
        most, least = settings["max_eval"], settings["tolerance_change"]

        def evaluate(start: Array, d: Array, t: float) -> Point:
            group.move_to(start + t * d)
            found = _number(closure())
            g = group.gradient_vector()
            return Point(t, found, float(g @ d), g)

        memory.evaluations += 1
        evaluations, g = 1, group.gradient_vector()
        if float(xp.abs(g).max()) <= settings["tolerance_grad"]:
            return
        for left in range(settings["max_iter"] - 1, -1, -1):
            d, before = memory.next_direction(g, settings["history_size"]), loss
            t = settings["lr"] * (min(1.0, 1 / float(xp.abs(g).sum())) if memory.iterations == 1 else 1.0)
            slope = float(g @ d)
            memory.gradient, memory.loss, memory.length = g, loss, t
            if slope > -least:
                break
            start, used = group.vector(), 0
            if settings["line_search_fn"] is not None:
                along, first = functools.partial(evaluate, start, d), Point(0.0, loss, slope, g)
                longest = float(xp.abs(d).max())
                found, used = strong_wolfe(along, first, t, longest, least, most - evaluations)
                t, loss, g = found.t, found.loss, found.gradient
                group.move_to(start + t * d)
            elif left:
                found, used = evaluate(start, d, t), 1
                loss, g = found.loss, found.gradient
            else:
                group.move_to(start + t * d)
            memory.length = t
            evaluations += used
            memory.evaluations += used
            if left == 0 or evaluations >= most or float(xp.abs(g).max()) <= settings["tolerance_grad"]:
                break
            if float(xp.abs(d * t).max()) <= least or abs(loss - before) < least:
                break

    # ---- saving and resuming --------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The settings, and ``history.<name>``: numbers, and arrays over all parameters one behind the other."""
        return super().state_dict() | {f"history.{name}": value for name, value in self._memory.state().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_dict("LBFGS", state)
        own = {name: value for name, value in state.items() if not name.startswith("history.")}
        history = {name.removeprefix("history."): v for name, v in state.items() if name.startswith("history.")}
        device, size = self.groups[0].parameters[0].device, self.groups[0].vector().size
        memory = _Memory.read(history, device, size, self.groups[0].state_dtype)
        super().load_state_dict(own)
        self._memory = memory


class _Memory:
    """What the steps so far have shown: the changes of the gradient, the moves of p, and the last of all."""

    def __init__(self) -> None:
        self.iterations, self.evaluations = 0, 0
        self.length, self.loss, self.scale = 0.0, 0.0, 1.0
        self.direction: Any = None
        self.gradient: Any = None
        self.changes: list[Array] = []
        self.moves: list[Array] = []

    def next_direction(self, g: Array, size: int) -> Array:
        """The direction of the next step, at the gradient g; the last step is remembered, if it shows anything."""
        self.iterations += 1
        if self.iterations > 1:
            change, move = g - self.gradient, self.direction * self.length
            along = float(change @ move)
            if along > 1e-10:
                self.changes = [*self.changes, change][-size:]
                self.moves = [*self.moves, move][-size:]
                self.scale = along / float(change @ change)
        weights, q = [], -g
        pairs = list(zip(self.changes, self.moves, strict=True))
        products = [float(change @ move) for change, move in pairs]
        for (change, move), product in zip(reversed(pairs), reversed(products), strict=True):
            weights.append(float(move @ q) / product)
            q = q - weights[-1] * change
        q = q * self.scale
        for (change, move), product in zip(pairs, products, strict=True):
            q = q + move * (weights.pop() - float(change @ q) / product)
        self.direction = q
        return q

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = {name: getattr(self, name) for name in _NUMBERS}
        if self.gradient is not None:
            found |= {name: getattr(self, name).copy() for name in _ARRAYS}
        if self.moves:
            xp = get_array_module(self.moves[0])
            found |= {name: xp.stack(getattr(self, name)) for name in _LISTS}
        return found

    @classmethod
    def read(cls, state: Mapping[str, Any], device: str, size: int, dtype: Any) -> _Memory:
        memory, op = cls(), "LBFGS"
        arrays = [names for names in (_ARRAYS, _LISTS) if any(name in state for name in names)]
        check_names(op, (*_NUMBERS, *sum(arrays, ())), state)
        for name in _NUMBERS:
            value = plain(state[name])
            counts = isinstance(value, int) and value >= 0 if name in ("iterations", "evaluations") else True
            check(counts and isinstance(value, int | float), ArgumentError, op, f"{name} must be a number", value=value)
            setattr(memory, name, value)
        for name in sum(arrays, ()):
            array = state[name]
            check_holds_array(op, name, array)
            fits = array.shape[-1:] == (size,) and array.ndim == (2 if name in _LISTS else 1) and array.dtype == dtype
            rule = f"{name} must be {dtype} over all {size} elements"
            check(fits, ArgumentError, op, rule, shape=array.shape, dtype=str(array.dtype))
            own = asarray(array, device=device).copy()
            setattr(memory, name, list(own) if name in _LISTS else own)
        rule = "what has taken steps must have a direction and a gradient"
        check(memory.iterations == 0 or memory.gradient is not None, ArgumentError, op, rule, steps=memory.iterations)
        rule = "there must be as many moves as changes"
        check(len(memory.moves) == len(memory.changes), ArgumentError, op, rule, moves=len(memory.moves))
        return memory


def _number(loss: Any) -> float:
    """The loss as a number."""
    value = loss.item() if hasattr(loss, "item") else loss
    rule = "closure must return the loss, one number"
    fits = isinstance(value, int | float) and not isinstance(value, bool)
    check(fits, ArgumentError, "LBFGS", rule, loss=value if isinstance(value, str) else type(value).__name__)
    return float(value)

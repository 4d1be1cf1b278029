"""Loss scaling, which keeps small gradients from vanishing in float16."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gpunn.backend import accumulation_dtype
from gpunn.errors import ArgumentError, check, check_sizes
from gpunn.optim.group import plain
from gpunn.optim.optimizer import Optimizer, check_names
from gpunn.tensor import Tensor

LEAST_SCALE, MOST_SCALE = 1.0, 2.0**24
"""Where the scale stays: below, float16 has the gradients as they are; above, nothing more is to be gained."""


class GradScaler:
    """Multiplies the loss, so that gradients of float16 do not vanish, and divides the gradients again.

    The scale is multiplied by ``backoff_factor`` after a step whose gradients are not all finite, which is skipped, and
    by ``growth_factor`` after ``growth_interval`` good steps in a row; it stays from 1 to 2^24. Between ``backward``
    and ``step``, :meth:`unscale_` gives the gradients their true size, to clip them. With bfloat16, which has the range
    of float32, there is nothing to scale. Source: Micikevicius et al. 2018, "Mixed precision training".

    >>> import gpunn
    >>> p = gpunn.tensor([2.0], requires_grad=True)
    >>> sgd, scaler = gpunn.optim.SGD([p], lr=0.5), GradScaler()
    >>> scaler.scale((p * p).sum()).backward()
    >>> scaler.step(sgd)
    True
    >>> scaler.update()
    >>> p.item()
    0.0

    Raises ArgumentError for a setting outside its range, and where the calls are in another order.
    """

    def __init__(
        self,
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
    ) -> None:
        self._take(init_scale, growth_factor, backoff_factor, growth_interval, 0)
        self._finite: dict[int, bool] = {}  # by the id of each optimizer whose gradients have their true size
        self._stepped: set[int] = set()

    def _take(self, scale: float, growth: float, backoff: float, interval: int, tracker: int) -> None:
        op = "GradScaler"
        rule = f"the scale must lie in {LEAST_SCALE:g} to {MOST_SCALE:g}"
        check(_is_number(scale) and LEAST_SCALE <= scale <= MOST_SCALE, ArgumentError, op, rule, scale=scale)
        rule = "growth_factor must be above 1, and finite"
        check(_is_number(growth) and 1 < growth < math.inf, ArgumentError, op, rule, growth_factor=growth)
        rule = "backoff_factor must lie between 0 and 1"
        check(_is_number(backoff) and 0 < backoff < 1, ArgumentError, op, rule, backoff_factor=backoff)
        check_sizes(op, growth_interval=interval)
        rule = "growth_tracker must be an integer of at least 0"
        check(isinstance(tracker, int) and tracker >= 0, ArgumentError, op, rule, growth_tracker=tracker)
        self._scale, self._growth, self._backoff = float(scale), float(growth), float(backoff)
        self._interval, self._tracker = int(interval), tracker

    @property
    def at_floor(self) -> bool:
        """True if the scale can go no lower."""
        return self._scale == LEAST_SCALE

    def get_scale(self) -> float:
        """What the loss is multiplied by now."""
        return self._scale

    def scale(self, loss: Tensor) -> Tensor:
        """``loss`` times the scale, at least in float32."""
        check(isinstance(loss, Tensor), ArgumentError, "GradScaler", "loss must be a Tensor", type=type(loss).__name__)
        return loss.astype(accumulation_dtype(loss.dtype)) * self._scale

    def unscale_(self, optimizer: Optimizer) -> bool:
        """Divide the gradients of the optimizer's parameters by the scale; return whether all of them are finite.

        Gradients of half parameters become float32.
        """
        rule = "unscale_ comes once in a step, before step"
        check(id(optimizer) not in self._finite, ArgumentError, "GradScaler", rule)
        rule = "there must be a gradient: call scale(loss).backward() first"
        check(bool(optimizer.learned()), ArgumentError, "GradScaler", rule)
        finite = optimizer.scale_gradients(1 / self._scale)
        self._finite[id(optimizer)] = finite
        return finite

    def step(self, optimizer: Optimizer) -> bool:
        """Call ``optimizer.step()`` if all gradients are finite, and return whether they are.

        :meth:`unscale_` is called first, unless it was called in this step already.
        """
        key = id(optimizer)
        rule = "step was called already since the last update"
        check(key not in self._stepped, ArgumentError, "GradScaler", rule)
        finite = self._finite[key] if key in self._finite else self.unscale_(optimizer)
        if finite:
            optimizer.step()
        self._stepped.add(key)
        return finite

    def update(self) -> None:
        """Find the scale of the next step; once a step, after :meth:`step` of every optimizer."""
        check(bool(self._finite), ArgumentError, "GradScaler", "update comes after step")
        if not all(self._finite.values()):
            self._scale, self._tracker = max(LEAST_SCALE, self._scale * self._backoff), 0
        else:
            self._tracker += 1
            if self._tracker == self._interval:
                self._scale, self._tracker = min(MOST_SCALE, self._scale * self._growth), 0
        self._finite, self._stepped = {}, set()

    def __getstate__(self) -> dict[str, Any]:
        rule = "it cannot be copied or pickled between unscale_ or step and update"
        check(not self._finite, ArgumentError, "GradScaler", rule)
        return vars(self)

    def state_dict(self) -> dict[str, Any]:
        """The scale, how many good steps it has been kept for, and the settings."""
        return {
            "scale": self._scale,
            "growth_factor": self._growth,
            "backoff_factor": self._backoff,
            "growth_interval": self._interval,
            "growth_tracker": self._tracker,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a :meth:`state_dict`; if a name or a number does not fit, change nothing and raise."""
        own = self.state_dict()
        check_names("GradScaler", own, state)
        self._take(*(plain(state[name]) for name in own))
        self._finite, self._stepped = {}, set()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

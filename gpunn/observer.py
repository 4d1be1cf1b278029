"""The hooks of what watches from above: module calls, gradients, backward passes, kernel launches, collectives.

Each of those places asks for the observers of its context, of which there are none as a rule: a look at an empty tuple.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, Self

Run = Callable[..., Any]


class Observer:
    """Within ``with observer:`` each method is given what is about to run, and returns what runs in its place.

    A subclass has the methods that it needs. Observers may be entered and left in any order; of several, the last one
    entered is outermost.

    >>> from gpunn import nn
    >>> class Calls(Observer):
    ...     def around_module(self, module, run):
    ...         print(type(module).__name__)
    ...         return run
    >>> with Calls():
    ...     y = nn.Sequential(nn.Identity())(3)
    Sequential
    Identity
    """

    def __enter__(self) -> Self:
        observers.set((*observers.get(), self))
        return self

    def __exit__(self, *raised: object) -> None:
        entered = observers.get()
        last = max(number for number, each in enumerate(entered) if each is self)
        observers.set(entered[:last] + entered[last + 1 :])

    def around_module(self, module: Any, run: Run) -> Run:
        """``run(*args, **settings)`` is the forward of an :class:`gpunn.nn.Module`."""
        return run

    def around_gradient(self, run: Run) -> Run:
        """``run(gy, needs)`` is the backward of a node that is recorded now; it may be called after this context."""
        return run

    def around_backward(self, run: Run) -> Run:
        """``run(...)`` is a whole backward pass, through all of a graph."""
        return run

    def around_launch(self, file: str, kernel: str, args: Sequence[Any], run: Run) -> Run:
        """``run(grid, block, args)`` launches ``kernel`` of ``kernels/<file>``."""
        return run

    def around_collective(self, text: str, run: Run) -> Run:
        """``run()`` is a collective of several ranks, which ``text`` names; it may be called in another thread."""
        return run

    def around_wait(self, text: str, run: Run) -> Run:
        """``run()`` waits for a collective."""
        return run


observers: ContextVar[tuple[Observer, ...]] = ContextVar("observers", default=())
"""Those entered, the first one first."""

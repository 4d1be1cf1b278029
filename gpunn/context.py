"""What the contexts of this library share: settings that they change, and how often and where they may be entered.

A context, such as ``no_grad()``, may be entered many times, within itself too, and in any thread. It also decorates
functions, which then run within it: those that yield as long as they run, and not while they wait, so that it does not
leak into their caller. A ``with`` inside of a generator does: Python has no way to end it at a ``yield``, so it holds
for whoever resumes the generator, until the block is left. Contexts may be left in any order, and leave nothing behind.

>>> from gpunn import graph, no_grad
>>> @no_grad()
... def recording():
...     while True:
...         yield graph.is_recording()
>>> next(recording()), graph.is_recording()
(False, True)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import partial, wraps
from typing import Any, Generic, ParamSpec, TypeVar

from gpunn.errors import ArgumentError, check

P = ParamSpec("P")
R = TypeVar("R")
V = TypeVar("V")


class Setting(Generic[V]):
    """A value of this thread or task, changed by contexts: the one entered last, of those not left, decides.

    >>> colour = Setting("colour", "red")
    >>> with colour.using("blue"):
    ...     colour.get()
    'blue'
    >>> colour.get()
    'red'
    """

    def __init__(self, name: str, default: V) -> None:
        self._uses: ContextVar[tuple[_Use[V], ...]] = ContextVar(f"{name}, entered", default=(_Use(self, default),))
        self._value: ContextVar[V] = ContextVar(name, default=default)
        self.get: Callable[[], V] = self._value.get  # asked many times in a step: no call of Python's in between

    def using(self, value: V) -> AbstractContextManager[None]:
        """A context in which the value is this one; it is entered once."""
        return _Use(self, value)


class _Use(AbstractContextManager[None], Generic[V]):
    def __init__(self, setting: Setting[V], value: V) -> None:
        self._setting, self._value = setting, value

    def __enter__(self) -> None:
        self._among((*self._setting._uses.get(), self))

    def __exit__(self, *raised: object) -> None:
        # Not back to what was there before: a generator may have entered others, or left them, in between.
        self._among(tuple(use for use in self._setting._uses.get() if use is not self))

    def _among(self, uses: tuple[_Use[V], ...]) -> None:
        """Have ``uses`` be those that were entered and not left: the last one decides."""
        self._setting._uses.set(uses)
        self._setting._value.set(uses[-1]._value)


_Entered = tuple[tuple["Context[Any]", AbstractContextManager[Any]], ...]
_entered: ContextVar[_Entered] = ContextVar("entered", default=())


class Context(AbstractContextManager[R]):
    """What a function under :func:`context` returns."""

    def __init__(self, make: Callable[[], AbstractContextManager[R]]) -> None:
        self._make = make
        self._made = [make()]  # wrong arguments are an error at once, as of `@no_grad` without its parentheses

    def __enter__(self) -> R:
        try:
            once = self._made.pop()
        except IndexError:
            once = self._make()
        given = once.__enter__()
        _entered.set((*_entered.get(), (self, once)))
        return given

    def __exit__(self, *raised: Any) -> bool | None:
        entered = _entered.get()
        own = [number for number, (context, _) in enumerate(entered) if context is self]
        check(bool(own), ArgumentError, "context", "it must be left in the thread or task in which it was entered")
        _entered.set(entered[: own[-1]] + entered[own[-1] + 1 :])
        return entered[own[-1]][1].__exit__(*raised)

    def __call__(self, function: Callable[P, Any]) -> Callable[P, Any]:
        """``function``, which runs within this context."""
        asynchronous = inspect.isasyncgenfunction(function)
        check(not asynchronous, ArgumentError, "context", "an asynchronous generator cannot run within it")
        if inspect.isgeneratorfunction(function):
            return wraps(function)(lambda *args, **kwargs: self._resuming(function(*args, **kwargs)))
        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def awaited(*args: P.args, **kwargs: P.kwargs) -> Any:
                with self:
                    return await function(*args, **kwargs)

            return awaited

        @wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> Any:
            with self:
                return function(*args, **kwargs)

        return called

    def _resuming(self, generator: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """``generator``, within this context wherever it runs."""
        resume: Callable[[], Any] = partial(next, generator)
        try:
            while True:
                with self:
                    given = resume()
                try:
                    sent = yield given
                    resume = partial(generator.send, sent)
                except GeneratorExit:
                    with self:
                        generator.close()
                    raise
                except BaseException as error:
                    resume = partial(generator.throw, error)
        except StopIteration as end:
            return end.value


def context(function: Callable[P, Iterator[R]]) -> Callable[P, Context[R]]:
    """:func:`contextlib.contextmanager`, for contexts as the head of this page describes them."""
    once = contextmanager(function)

    @wraps(function)
    def make(*args: P.args, **kwargs: P.kwargs) -> Context[R]:
        return Context(lambda: once(*args, **kwargs))

    return make

"""A thread that runs one job after another, behind who gives them to it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from gpunn.observer import observers


def communicating(text: str, job: Callable[[], Any]) -> Callable[[], Any]:
    """``job``, a collective, as those see it who observe now; it may run later and in another thread."""
    for observer in observers.get():
        job = observer.around_collective(text, job)
    return job


def waiting(text: str, wait: Callable[[], Any]) -> Any:
    """``wait()``, for a collective, as those see it who observe."""
    for observer in observers.get():
        wait = observer.around_wait(text, wait)
    return wait()


class Pending:
    """A collective that was started; ``wait`` ends when it has.

    >>> import numpy as np
    >>> from gpunn import distributed
    >>> pending = distributed.init().start_all_reduce(np.ones(2, np.float32))
    >>> pending.wait()
    array([1., 1.], dtype=float32)
    """

    def __init__(self, text: str, job: Callable[[], Any]) -> None:
        self._text, self._job = text, communicating(text, job)
        self._ended = threading.Event()
        self._result: Any = None
        self._error: BaseException | None = None
        self.untold: BaseException | None = None
        """What went wrong, until ``wait`` raises it."""

    @property
    def done(self) -> bool:
        """Whether ``wait`` would not wait."""
        return self._ended.is_set()

    def wait(self) -> Any:
        """The reduced array, when it is; raises what went wrong meanwhile."""
        if not self.done:
            waiting(self._text, self._ended.wait)
        if self._error is not None:
            self.untold = None
            raise self._error
        return self._result

    def run(self) -> None:
        """Do it now, in this thread."""
        try:
            self._result = self._job()
        except BaseException as error:
            self._error = self.untold = error
        finally:
            del self._job  # with the arrays it holds
            self._ended.set()


class Line:
    """Jobs run in the order in which they were put; the thread is started by the first of them, and a daemon."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: SimpleQueue[Pending | None] = SimpleQueue()
        self._last: Pending | None = None
        self._failed: Pending | None = None
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        return self._last is not None and not self._last.done

    def put(self, text: str, job: Callable[[], Any]) -> Pending:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        self._last = pending = Pending(text, job)
        self._jobs.put(pending)
        return pending

    def close(self) -> BaseException | None:
        """Run what is in the line, then end the thread; gives the first error, if nobody has waited for that job."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None
        return None if self._failed is None else self._failed.untold

    def _work(self) -> None:
        while (pending := self._jobs.get()) is not None:
            pending.run()
            if pending.untold is not None and (self._failed is None or self._failed.untold is None):
                self._failed = pending

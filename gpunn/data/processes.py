"""Processes that make batches for a loader, which talks with each of them through a pipe of its own.

``concurrent.futures`` does as much, but through two threads of the caller, for whose turns a training step has to wait.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import threading
import traceback
import weakref
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from gpunn.errors import DataError


class Processes:
    """``number`` processes, of which each unpickles ``job`` and calls its ``make_apart(*task)``.

    ``together`` tasks are sent at once, to each process in turn: a process that is woken may take the caller's core.
    Raises DataError when one of them is no longer there.
    """

    def __init__(self, number: int, together: int, job: bytes) -> None:
        # Not "fork": a copy of a process with threads may hang on a lock that one of them held.
        kind = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        context: Any = multiprocessing.get_context(kind)
        self._whole = True  # no message is half sent or read
        self._left = context.RawValue("b", 0)
        self._together, self._unsent = together, list[Any]()
        self._due: deque[Any] = deque()  # for each task that was sent, the end of the pipe where its result comes
        self._ends: deque[Any] = deque()
        for _ in range(number):
            own, other = context.Pipe()
            # Ended with this process if it does not end by itself before.
            process = context.Process(target=_work, args=(other, self._left, job), name="gpunn-data", daemon=True)
            process.start()
            other.close()
            self._ends.append(own)
        self._close = weakref.finalize(self, _close, [*self._ends])  # upon which they end

    def submit(self, *task: Any) -> None:
        """Have a batch made."""
        self._unsent.append(task)
        if len(self._unsent) == self._together:
            self._send()

    def result(self) -> Any:
        """The first batch that was not asked for yet; raises what its making raised."""
        if not self._due:
            self._send()
        value, error, trace = self._receive()
        if error is not None:
            raise error from RuntimeError(f"in a worker process:\n{trace}")
        return value

    def forget(self) -> bool:
        """Leave the tasks that are under way: what has not begun never does, what has is waited for.

        False if the processes cannot be used again; they end then.
        """
        self._left.value = 1
        self._unsent.clear()
        try:
            while self._whole and self._due:
                self._receive()
        except DataError:
            pass  # whoever leaves has no use for what is missing
        self._left.value = 0
        if not self._whole:
            self._close()
        return self._whole

    def _send(self) -> None:
        end = self._ends[0]
        self._ends.rotate(-1)
        self._talk(end.send, self._unsent)
        self._due.extend([end] * len(self._unsent))
        self._unsent = []

    def _receive(self) -> Any:
        answer = self._talk(self._due[0].recv)
        self._due.popleft()
        return answer

    def _talk(self, function: Callable[..., Any], *message: Any) -> Any:
        self._whole = False
        try:
            answer = function(*message)
        except (EOFError, OSError) as error:
            raise DataError(
                "DataLoader: a worker process ended; it was killed, perhaps for memory, or could not start: "
                'see its message above, and keep the start of a script under if __name__ == "__main__":'
            ) from error
        self._whole = True
        return answer


def _close(ends: list[Any]) -> None:
    for end in ends:
        end.close()


def _work(end: Connection, left: Any, job: bytes) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's affair, who then ends this process
    results: SimpleQueue[bytes] = SimpleQueue()

    def send() -> None:  # beside the making of the next, as a pipe holds less than a batch
        while True:
            end.send_bytes(results.get())

    threading.Thread(target=_until_closed, args=(send,), daemon=True).start()
    make = pickle.loads(job).make_apart  # made by the caller in this run, never read from a file

    def work() -> None:
        while True:
            for task in end.recv():
                try:
                    results.put(_pickled((None if left.value else make(*task), None, "")))
                except Exception as error:
                    results.put(_pickled((None, error, traceback.format_exc())))

    _until_closed(work)


def _pickled(answer: Any) -> bytes:
    try:
        return pickle.dumps(answer, protocol=5)
    except Exception as error:  # whatever an object's __reduce__ raises
        if isinstance(answer[1], Exception):
            return pickle.dumps((None, DataError(f"DataLoader: {answer[1]}"), answer[2]))
        raise DataError(
            f"DataLoader: a batch cannot be sent from a worker process ({type(error).__name__}: {error})"
        ) from error


def _until_closed(function: Any) -> None:
    try:
        function()
    except (EOFError, OSError):  # the loader is gone
        return

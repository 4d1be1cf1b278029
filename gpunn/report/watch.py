"""A live page of a run on this machine: a small server that only reads, and tells browsers what is new.

``/`` is the page, ``/events`` what it follows, ``/report`` the page as one file.

The events, each an object of JSON, are told when a browser connects, and again when they change:

- ``about``: what :func:`gpunn.report.about.about` says of the run;
- ``reset``: the lines told so far are not those of the file, as the run was resumed or begun again;
- ``lines``: whole lines of metrics.jsonl, and how old the file is in seconds;
- ``figures``: the figures, as they are on a page;
- ``lost``: why the run cannot be read; when it can be again, everything is told again.

Source of the format: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import errno
import io
import ipaddress
import json
import os
import selectors
import socket
import socketserver
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import gpunn
from gpunn.errors import ArgumentError, FileError, check
from gpunn.report import about as run
from gpunn.report import figures, page
from gpunn.runs import lock, records
from gpunn.runs.folder import CONFIG, METRICS, SAMPLE, SUMMARY, WEIGHTS, name_of

_LOOK = 0.25  # seconds between two looks at the files
_HEARTBEAT = 10.0  # seconds of silence after which a comment is sent, for what lies between here and the browser
_TIMEOUT = 20.0  # seconds that a client may keep a thread waiting, for its whole request or for taking an answer


class Watch:
    """A server of the live page of the run in ``folder``, at ``url`` from the moment that it is made.

    With ``port`` 0 it takes any that is free. At a loopback address only requests to a host of such a name are
    answered: a page from elsewhere whose name is made to point here (DNS rebinding) reads nothing.

    >>> with Watch("runs/digits") as watch:  # doctest: +SKIP
    ...     print(watch.url)
    ...     watch.serve()

    Raises FileError if the folder holds no run, ArgumentError for an address that cannot be listened at.
    """

    def __init__(self, folder: str | os.PathLike[str], host: str = "127.0.0.1", port: int = 0) -> None:
        self.folder = Path(folder)
        run.about(self.folder)  # an error if it is no run
        self._server = _listen(self.folder, host, port)
        address = self._server.address
        named = socket.gethostname() if address.is_unspecified else host
        self.url = f"http://{f'[{named}]' if ':' in named else named}:{self._server.server_address[1]}/"

    def serve(self) -> None:
        """Answer until :meth:`stop` is called by another thread."""
        self._server.serve_forever(poll_interval=0.1)

    def stop(self) -> None:
        """Let :meth:`serve` return."""
        self._server.shutdown()

    def close(self) -> None:
        """End the answers under way, and give the port back."""
        self._server.ending.set()
        self._server.server_close()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# ---- what is new ---------------------------------------------------------------------------------------------------

Event = tuple[str, Any]
_Mark = tuple[tuple[int, int, int] | None, ...]


class Follower:
    """What a client was told of a run, and so what is new to it."""

    def __init__(self, folder: Path, drawn: Figures) -> None:
        self._folder, self._drawn = folder, drawn
        self._forget()
        self._lost: str | None = None

    def _forget(self) -> None:
        self._about_mark: tuple[Any, ...] = ()
        self._about: run.Json | None = None
        self._metrics_mark: _Mark = ()
        self._told: bytes | None = None  # of metrics.jsonl
        self._next = 1  # the number of the line after those
        self._figures_mark: _Mark = ()

    def news(self) -> Iterator[Event]:
        """The events since the last call."""
        try:
            yield from self._changes()
        except FileError as error:
            if self._lost != str(error):
                self._lost = str(error)
                self._forget()
                yield "lost", str(error)
        else:
            self._lost = None

    def _changes(self) -> Iterator[Event]:
        mark = (*_mark(self._folder, (CONFIG, SUMMARY, SAMPLE, METRICS)), lock.state(self._folder))
        if mark != self._about_mark:
            about = run.about(self._folder)
            self._about_mark = mark
            if about != self._about:
                self._about = about
                yield "about", about
        mark = _mark(self._folder, (METRICS,))
        if mark != self._metrics_mark:
            self._metrics_mark = mark
            yield from self._lines()
        mark = self._drawn.mark()
        if mark != self._figures_mark:
            self._figures_mark = mark
            yield "figures", self._drawn.get(mark)

    def _lines(self) -> Iterator[Event]:
        whole = records.whole_lines(records.content(self._folder))
        # A resumed run writes the file again: with the same beginning, or another.
        if self._told is None or not whole.startswith(self._told):
            self._told, self._next = b"", 1
            yield "reset", None
        new = whole[len(self._told) :]
        self._told = whole
        if new:
            written = self._metrics_mark[0]
            age = max(0.0, time.time() - written[2] / 1e9) if written else 0.0
            yield "lines", {"lines": [line._asdict() for line in records.parse(new, self._next)], "age": age}
        self._next += new.count(b"\n")


class Figures:
    """The figures of a run, drawn once for all clients."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._of: _Mark | None = None
        self._figures: list[run.Json] = []

    def mark(self) -> _Mark:
        """Another one when the files have changed."""
        return _mark(self._folder, (*figures.CAPTIONS, WEIGHTS))

    def get(self, mark: _Mark) -> list[run.Json]:
        """The figures, drawn again unless they were drawn at this ``mark``."""
        with self._lock:
            if self._of != mark:
                self._of, self._figures = mark, list(figures.embedded(self._folder))
            return self._figures


def _mark(folder: Path, names: Sequence[str]) -> _Mark:
    """What differs when one of the files was written."""

    def of(path: Path) -> tuple[int, int, int] | None:
        try:
            state = path.stat()
        except OSError:
            return None
        return state.st_ino, state.st_size, state.st_mtime_ns

    return tuple(of(folder / name) for name in names)


# ---- the server ----------------------------------------------------------------------------------------------------


def _listen(folder: Path, host: str, port: int) -> _Server:
    check(0 <= port <= 65535, ArgumentError, "watch", "port must be from 0 to 65535", port=port)
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return _Server(family, address, folder)
    except (OSError, UnicodeError) as error:
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            why = f"port {port} of {host} is in use: choose another --port, or --port 0 for any that is free"
        else:
            why = f"cannot listen at port {port} of {host!r}: {getattr(error, 'strerror', None) or error}"
        raise ArgumentError(f"watch: {why}") from error


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = os.name == "posix"  # elsewhere it would share a port that is in use
    request_queue_size = 64

    def __init__(self, family: int, address: Any, folder: Path) -> None:
        self.address_family = family
        self.folder, self.drawn, self.ending = folder, Figures(folder), threading.Event()
        super().__init__(address, _Handler)
        self.address = ipaddress.ip_address(self.server_address[0])  # type: ignore[arg-type]  # of TCP: a text

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):  # that a client left is no fault
            super().handle_error(request, client_address)


class _Request(socket.SocketIO):
    """What a client sends, all of it within ``seconds``, however it drips."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        super().__init__(connection, "r")
        self._connection, self._seconds, self._end = connection, seconds, time.monotonic() + seconds

    def readinto(self, buffer: Any) -> int | None:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        try:
            return super().readinto(buffer)
        finally:
            self._connection.settimeout(self._seconds)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _TIMEOUT
    server_version, sys_version = f"gpunn/{gpunn.__version__}", ""

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(_Request(self.connection, self.timeout))

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if self.server.address.is_loopback and not _names_loopback(self.headers.get("Host", "")):
            self._say(HTTPStatus.FORBIDDEN, "this host is not known here: go to 127.0.0.1 or localhost")
        elif path == "/":
            self._page(page.live_page(name_of(self.server.folder)))
        elif path == "/report":
            try:
                content = page.static_page(page.state_of(self.server.folder))
            except FileError as error:
                self._say(HTTPStatus.NOT_FOUND, str(error))
            else:
                self._page(content)
        elif path == "/events":
            self._events()
        else:
            self._say(HTTPStatus.NOT_FOUND, "there is /, /events and /report")

    do_HEAD = do_GET

    def _refuse(self) -> None:
        self._say(HTTPStatus.METHOD_NOT_ALLOWED, "this page only reads", {"Allow": "GET, HEAD"})

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _refuse

    def log_message(self, *_: object) -> None:
        """Nothing: what browsers ask for is of no interest."""

    def _page(self, content: str) -> None:
        self._headers(HTTPStatus.OK, "text/html; charset=utf-8", {"Content-Security-Policy": "frame-ancestors 'none'"})
        self._send(content.encode())

    def _say(self, status: HTTPStatus, text: str, headers: dict[str, str] | None = None) -> None:
        self._headers(status, "text/plain; charset=utf-8", headers or {})
        self._send(f"{text}\n".encode(errors="replace"))

    def _headers(self, status: HTTPStatus, kind: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        always = {
            "Content-Type": kind,
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        for name, value in (always | headers).items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, content: bytes) -> None:
        if self.command != "HEAD":
            self.wfile.write(content)

    def _events(self) -> None:
        self._headers(HTTPStatus.OK, "text/event-stream", {})
        if self.command == "HEAD":
            return
        follower = Follower(self.server.folder, self.server.drawn)
        self._send(b"retry: 1000\n\n")
        said = time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(self.connection, selectors.EVENT_READ)
            while not self.server.ending.is_set():
                for name, data in follower.news():
                    self._send(f"event: {name}\ndata: {json.dumps(data, allow_nan=False)}\n\n".encode())
                    said = time.monotonic()
                if time.monotonic() - said > _HEARTBEAT:
                    self._send(b": still here\n\n")
                    said = time.monotonic()
                if selector.select(_LOOK):  # the client has left: it has nothing more to say
                    return


def _names_loopback(host: str) -> bool:
    """Whether the value of a Host header names this machine as only itself does.

    >>> [_names_loopback(host) for host in ("localhost:8470", "127.0.0.1", "[::1]:80", "evil.example", "")]
    [True, True, True, False, False]
    """
    try:
        name = urllib.parse.urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False

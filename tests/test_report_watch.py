"""The live page's server: what it tells, when, and to whom."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from report_case import SUMMARY, lines, make_run, record, serving

from gpunn import plot
from gpunn.errors import ArgumentError, FileError
from gpunn.report import Watch, watch
from gpunn.report.watch import Figures, Follower
from gpunn.runs import lock

PATIENCE = 60  # seconds, for a busy machine
RECORDS = [record(epoch) for epoch in range(1, 6)]


# ---- what is told --------------------------------------------------------------------------------------------------


@pytest.fixture
def news(tmp_path: Path) -> Callable[[], list[tuple[str, Any]]]:
    """What is new of the run in ``tmp_path / "run"``; of lines their numbers and first values."""
    follower = Follower(tmp_path / "run", Figures(tmp_path / "run"))

    def news() -> list[tuple[str, Any]]:
        told = []
        for name, data in follower.news():
            json.dumps(data, allow_nan=False)
            if name == "lines":
                assert 0 <= data["age"] < 60
                told.append(
                    (name, [(line["number"], line["problem"] or line["fields"][0][2]) for line in data["lines"]])
                )
            elif name == "about":
                told.append((name, data["status"]))
            elif name == "figures":
                told.append((name, [figure["name"] for figure in data]))
            else:
                told.append((name, data))
        return told

    return news


def test_lines_are_told_once_and_whole(news: Callable[[], Any], tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    assert news() == [("about", "unfinished"), ("reset", None), ("figures", [])]
    assert news() == []
    written = lines(*RECORDS[:3])
    with (folder / "metrics.jsonl").open("w") as file:
        for end in (10, len(lines(RECORDS[0])) - 1):  # within the first line, and before its end
            file.write(written[file.tell() : end])
            file.flush()
            assert [event for event in news() if event[0] == "lines"] == []
        file.write(written[file.tell() : len(lines(RECORDS[0])) + 5])
        file.flush()
        assert news() == [("lines", [(1, 1)])]
        file.write(written[file.tell() :])
        file.flush()
        assert news() == [("lines", [(2, 2), (3, 3)])]
    assert news() == []
    (folder / "summary.json").write_text(json.dumps(SUMMARY))
    assert news() == [("about", "finished")]


def test_a_file_written_again(news: Callable[[], Any], tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", lines(*RECORDS[:3]))
    assert ("lines", [(1, 1), (2, 2), (3, 3)]) in news()

    def rewrite(*records: dict[str, Any]) -> None:  # as a resumed run does
        (folder / "new").write_text(lines(*records))
        os.replace(folder / "new", folder / "metrics.jsonl")

    rewrite(*RECORDS[:3])  # as it was
    assert news() == []
    rewrite(*RECORDS[:4])  # and more
    assert news() == [("lines", [(4, 4)])]
    rewrite(*RECORDS[:2])  # shorter
    assert news() == [("reset", None), ("lines", [(1, 1), (2, 2)])]
    rewrite(RECORDS[0], RECORDS[1] | {"epoch": 7}, RECORDS[2])  # another
    assert news() == [("reset", None), ("lines", [(1, 1), (2, 7), (3, 3)])]
    with (folder / "metrics.jsonl").open("r+") as file:  # in place
        file.truncate(0)
    assert news() == [("reset", None)]
    (folder / "metrics.jsonl").unlink()
    assert news() == []


def test_damaged_lines_are_told_by_their_number(news: Callable[[], Any], tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", lines(RECORDS[0]) + "\n{\n")
    ((number, problem),) = dict(news())["lines"][1:]
    assert (number, problem[:39]) == (3, "metrics.jsonl, line 3: not JSON: Expect")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(lines(RECORDS[1]))
    assert news() == [("lines", [(4, 2)])]


def test_a_run_that_is_resumed_or_begun_again(news: Callable[[], Any], tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", lines(*RECORDS[:2]), SUMMARY | {"status": "interrupted"})
    assert news()[0] == ("about", "interrupted")
    (folder / "metrics.jsonl").write_text(lines(*RECORDS[:3]))
    later = time.time() + 5
    os.utime(folder / "metrics.jsonl", (later, later))
    assert news() == [("about", "unfinished"), ("lines", [(3, 3)])]
    shutil.rmtree(folder)
    ((name, why),) = news()
    assert name == "lost"
    assert str(folder) in why
    assert news() == []  # once
    make_run(folder, lines(RECORDS[4]))
    assert news() == [("about", "unfinished"), ("reset", None), ("lines", [(1, 5)]), ("figures", [])]


def test_a_run_that_is_killed_is_told_from_one_that_trains(news: Callable[[], Any], tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", lines(*RECORDS[:2]), SUMMARY | {"status": "interrupted"})
    assert news()[0] == ("about", "interrupted")
    with lock.locked(folder):  # it is resumed
        assert news() == [("about", "running")]
        assert news() == []
    assert news() == [("about", "interrupted")]
    (folder / "lock").write_text("process 7 on here")  # as a process leaves it that is killed
    assert news() == [("about", "killed")]


def test_a_file_nested_without_end_is_told(news: Callable[[], Any], tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", lines(RECORDS[0]))
    (folder / "config.json").write_text("[" * 100_000)
    ((name, why),) = news()
    assert (name, "config.json: not JSON: " in why) == ("lost", True)


def test_figures_are_told_when_they_are_made(news: Callable[[], Any], tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", "")
    assert news()[-1] == ("figures", [])
    plot.lines({"a": ([1, 2], [1, 2])}, folder / "norms.png", "x", "y")
    assert news() == [("figures", ["norms.png"])]
    assert news() == []


def test_figures_are_read_once_for_all_clients(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    reads = []
    monkeypatch.setattr(watch.figures, "embedded", lambda folder: reads.append(folder) or iter(()))
    drawn = Figures(make_run(tmp_path))
    for _ in range(3):
        list(Follower(tmp_path, drawn).news())
    assert len(reads) == 1


# ---- to whom -------------------------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Watch]:
    before = set(threading.enumerate())
    with serving(make_run(tmp_path / "run", lines(*RECORDS[:2]))) as server:
        yield server
    wait_for(lambda: set(threading.enumerate()) <= before)  # no thread is left


def wait_for(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < until, f"waited for {PATIENCE} s"
        time.sleep(0.01)


def ask(server: Watch, path: str = "/", method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
    port = int(server.url.rstrip("/").rsplit(":", 1)[1])
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()


class Stream:
    """A client of the events."""

    def __init__(self, server: Watch, path: str = "/events") -> None:
        self.socket = socket.create_connection(("127.0.0.1", int(server.url.rstrip("/").rsplit(":", 1)[1])), PATIENCE)
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        self.file = self.socket.makefile("r", encoding="utf-8")
        head = list(iter(self.file.readline, "\n"))
        assert head[0].split()[1] == "200"
        assert "Content-Type: text/event-stream\n" in head

    def event(self) -> tuple[str, Any]:
        """The next event; comments and the time to wait before trying again are passed over."""
        while True:
            fields = dict(line.rstrip("\n").split(": ", 1) for line in iter(self.file.readline, "\n"))
            if "event" in fields:
                return fields["event"], json.loads(fields["data"])

    def until(self, name: str) -> Any:
        while True:
            event, data = self.event()
            if event == name:
                return data

    def close(self) -> None:
        self.file.close()
        self.socket.close()


def test_the_paths(server: Watch) -> None:
    for path, kind, text in (("/", "text/html", "<h1"), ("/?a=b", "text/html", "<h1"), ("/report", "text/html", "2.3")):
        status, headers, body = ask(server, path)
        assert (status, headers["Content-Type"].split(";")[0]) == (200, kind)
        assert text in body
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        again = ask(server, path, "HEAD")
        assert (again[0], again[1] | {"Date": ""}, again[2]) == (status, headers | {"Date": ""}, "")
    assert ask(server, "/events", "HEAD")[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/config.json", "/run/config.json", "/../config.json", "/..%2fconfig.json", "//etc/passwd", "/events/",
        "/report/../config.json", "/%2e%2e/config.json", "http://127.0.0.1/", "*", "/favicon.ico", "/report.html",
    ],
)  # fmt: skip
def test_there_is_nothing_else(path: str, server: Watch) -> None:
    assert ask(server, path)[0::2] == (404, "there is /, /events and /report\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_it_only_reads(method: str, server: Watch) -> None:
    before = {path: path.read_bytes() for path in server.folder.iterdir()}
    status, headers, _ = ask(server, "/", method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")
    assert {path: path.read_bytes() for path in server.folder.iterdir()} == before


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("localhost:1234", 200), ("127.0.0.1:80", 200), ("127.1.2.3", 200), ("[::1]:80", 200),
        ("evil.example", 403), ("evil.example:80", 403), ("localhost.evil.example", 403), ("", 403), ("[", 403),
        ("127.0.0.1.evil.example", 403), ("192.0.2.1", 403), ("evil.example@localhost.evil", 403),
    ],
)  # fmt: skip
def test_hosts_that_are_not_this_machine_are_refused(host: str, status: int, server: Watch) -> None:
    for path in ("/", "/events", "/report", "/none"):
        got = ask(server, path, "HEAD", Host=host)[0]
        assert got == (status if path != "/none" or status == 403 else 404)


def test_any_host_where_others_may_read(tmp_path: Path) -> None:
    with serving(make_run(tmp_path), host="0.0.0.0") as server:
        assert ask(server, Host="workstation.example")[0] == 200
        assert "0.0.0.0" not in server.url


def test_the_address_of_ipv6(tmp_path: Path) -> None:
    try:
        with Watch(make_run(tmp_path), host="::1") as server:
            assert server.url.startswith("http://[::1]:")
    except ArgumentError as error:
        pytest.skip(str(error))


def test_events_over_a_connection(server: Watch) -> None:
    stream = Stream(server)
    try:
        assert [stream.event()[0] for _ in range(4)] == ["about", "reset", "lines", "figures"]
        with (server.folder / "metrics.jsonl").open("a") as file:
            file.write(lines(RECORDS[2]))
        name, data = stream.event()
        assert (name, data["lines"][0]["number"]) == ("lines", 3)
        (server.folder / "summary.json").write_text(json.dumps(SUMMARY))
        name, about = stream.event()
        assert (name, about["status"]) == ("about", "finished")
    finally:
        stream.close()


def test_many_clients_are_told_the_same(server: Watch) -> None:
    streams = [Stream(server) for _ in range(20)]
    try:
        told = [stream.until("lines")["lines"] for stream in streams]
        assert all(each == told[0] for each in told)
        with (server.folder / "metrics.jsonl").open("a") as file:
            file.write(lines(RECORDS[2]))
        assert {stream.until("lines")["lines"][0]["number"] for stream in streams} == {3}
    finally:
        for stream in streams:
            stream.close()


def test_a_client_that_leaves_takes_its_thread_along(server: Watch) -> None:
    before = threading.active_count()
    streams = [Stream(server) for _ in range(8)]
    for stream in streams:
        stream.until("figures")
    assert threading.active_count() == before + 8
    for number, stream in enumerate(streams):
        if number % 2:  # at once, with a reset
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        stream.close()
    wait_for(lambda: threading.active_count() == before)


def test_silence_is_broken_by_a_comment(monkeypatch: pytest.MonkeyPatch, server: Watch) -> None:
    monkeypatch.setattr(watch, "_HEARTBEAT", 0.1)
    stream = Stream(server)
    try:
        stream.until("figures")
        assert stream.file.readline() == ": still here\n"
    finally:
        stream.close()


def test_a_client_that_says_nothing_is_left(monkeypatch: pytest.MonkeyPatch, server: Watch) -> None:
    monkeypatch.setattr(watch._Handler, "timeout", 0.1)
    before = threading.active_count()
    with socket.create_connection(("127.0.0.1", int(server.url.rstrip("/").rsplit(":", 1)[1]))) as connection:
        connection.settimeout(PATIENCE)
        assert connection.recv(1) == b""
    wait_for(lambda: threading.active_count() == before)


def test_a_client_that_drips_is_left(monkeypatch: pytest.MonkeyPatch, server: Watch) -> None:
    """Its thread was kept for as long as a byte came every twenty seconds."""
    monkeypatch.setattr(watch._Handler, "timeout", 0.5)
    before, sent = threading.active_count(), 0
    begin = time.monotonic()
    port = int(server.url.rstrip("/").rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port)) as connection, contextlib.suppress(ConnectionError):
        for part in (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", *[b"a"] * 10 * PATIENCE):
            connection.sendall(part)
            sent += 1
            time.sleep(0.1)
    assert 1 < sent < 10 * PATIENCE
    assert time.monotonic() - begin >= 0.5
    wait_for(lambda: threading.active_count() == before)


def test_a_run_whose_folder_goes(server: Watch, capsys: pytest.CaptureFixture[str]) -> None:
    stream = Stream(server)
    try:
        shutil.rmtree(server.folder)
        assert "lacks a config.json" in stream.until("lost")
        status, _, text = ask(server, "/report")
        assert (status, "lacks a config.json" in text) == (404, True)
        assert ask(server, "/")[0] == 200
    finally:
        stream.close()
    assert capsys.readouterr() == ("", "")


# ---- where ---------------------------------------------------------------------------------------------------------


def test_a_port_in_use(tmp_path: Path) -> None:
    with Watch(make_run(tmp_path)) as first:
        port = int(first.url.rstrip("/").rsplit(":", 1)[1])
        told = f"port {port} of 127.0.0.1 is in use: choose another --port, or --port 0 for any that is free"
        with pytest.raises(ArgumentError, match=f"watch: {told}"):
            Watch(tmp_path, port=port)
    with Watch(tmp_path, port=port):  # it was given back
        pass


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="holds no run that was begun"):
        Watch(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="SIGINT is sent otherwise")
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_the_command_prints_where_and_ends_at_ctrl_c(options: tuple[str, ...], tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", lines(*RECORDS))
    arguments = [sys.executable, "-m", "gpunn", "watch", str(folder), "--port", "0", *options]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            url = json.loads(line)["url"] if options else line.split()[-1]
            if not options:
                assert line == f"{folder} live, until Ctrl-C: {url}\n"
            with contextlib.closing(http.client.HTTPConnection(url.split("/")[2], timeout=PATIENCE)) as connection:
                connection.request("GET", "/events")  # a client that stays does not hold it up
                assert connection.getresponse().read(5) == b"retry"
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=PATIENCE)
            assert (process.returncode, out, err) == (0, "", "")
        finally:
            process.kill()

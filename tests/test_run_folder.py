"""A run folder that somebody else made, and one that two processes want: nothing outside is read or written."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from once import once
from report_case import lines, make_run, record, save_arrays

from gpunn.checkpoint import Checkpoints, save_weights
from gpunn.errors import FileError
from gpunn.recipes import alexnet, catalogue, digits
from gpunn.recipes.catalogue import load, resumable
from gpunn.recipes.recipe import Recipe
from gpunn.report import redraw, write_page
from gpunn.report.figures import CAPTIONS
from gpunn.report.watch import Figures, Follower
from gpunn.runs import comparison, lock

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links and FIFOs are POSIX's")

SECRET = "TOP-SECRET"
PATIENCE = 60  # seconds, for a busy machine
QUICK = digits.Options(epochs=2, batch_size=128)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file outside of the run, which every reader would take for its own."""
    path = tmp_path / "secret"
    path.write_text(json.dumps({"recipe": "digits", "epoch": 1, "seconds": 1, "train_loss": 0.5, "key": SECRET}) + "\n")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", lines(record(1, seconds=1.0)))


def at_once(function: Callable[[], Any]) -> Any:
    """What ``function`` gives or raises; one that hangs, on a FIFO, fails."""
    found: list[Any] = []

    def call() -> None:
        try:
            found.append(function())
        except FileError as error:
            found.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert found, "it hangs"
    return found[0]


def put(how: str, path: Path, secret: Path) -> None:
    """Put something in the place of a run's file that does not belong there."""
    path.unlink(missing_ok=True)
    if how == "FIFO":
        os.mkfifo(path)
    else:
        path.symlink_to(
            {"link": secret, "relative link": os.path.relpath(secret, path.parent), "zeros": Path("/dev/zero")}[how]
        )


HOW = ("link", "relative link", "zeros", "FIFO")


# ---- reading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl"])
def test_a_run_of_which_such_a_file_is_needed_is_refused(name: str, how: str, folder: Path, secret: Path) -> None:
    put(how, folder / name, secret)
    said = rf"{name}: .*(a link that leads out of its folder|not a regular file, but a FIFO)"
    for read in (
        lambda: write_page(folder, folder.parent / "page.html"),
        lambda: comparison.read_run(folder),
        lambda: redraw(folder),
    ):
        error = at_once(read)
        with pytest.raises(FileError, match=said):
            raise error
    told = at_once(lambda: list(Follower(folder, Figures(folder)).news()))
    assert SECRET not in str(told)
    assert "lost" in dict(told)
    assert not (folder.parent / "page.html").exists()


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", ["summary.json", "sample.txt", "model.safetensors", *list(CAPTIONS)[:2]])
def test_such_a_file_is_left_out_with_words(name: str, how: str, folder: Path, secret: Path) -> None:
    put(how, folder / name, secret)
    page = folder.parent / "page.html"
    problems = at_once(lambda: write_page(folder, page))
    words = {"a link that leads out of its folder", "neither a file nor a folder", "not a regular file, but a FIFO"}
    assert [f"{folder / name}: " in text for text in problems] == [True]
    assert any(text in problems[0] for text in words)
    assert SECRET not in page.read_text()
    told = at_once(lambda: list(Follower(folder, Figures(folder)).news()))
    assert SECRET not in str(told)


def test_a_link_within_the_run_is_read(folder: Path) -> None:
    (folder / "metrics.jsonl").rename(folder / "kept.jsonl")
    (folder / "metrics.jsonl").symlink_to("kept.jsonl")
    (folder.parent / "newest").symlink_to(folder)
    for path in (folder, folder.parent / "newest"):
        assert [each["epoch"] for each in comparison.read_run(path).records] == [1]
        assert write_page(path, folder.parent / "page.html") == []


def test_a_file_that_is_too_large(folder: Path) -> None:
    for name, megabytes in (("sample.txt", 1), ("summary.json", 1), ("metrics.jsonl", 32)):
        with (folder / name).open("wb") as file:  # one with a hole takes no room on the disk
            file.truncate(1 << 40)
        said = f"{folder / name}: cannot be read: larger than {megabytes} MiB"
        if name == "metrics.jsonl":
            with pytest.raises(FileError, match=said):
                write_page(folder, folder.parent / "page.html")
        else:
            assert write_page(folder, folder.parent / "page.html") == [said]
        (folder / name).unlink()


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", ["model.safetensors", "checkpoints", "checkpoints/step-000000001.safetensors"])
def test_weights_from_elsewhere_are_not_loaded(name: str, how: str, folder: Path, secret: Path) -> None:
    model = digits.Digits(digits.Options(), "cpu").network()
    save_weights(model, secret)
    if "/" in name:
        (folder / "checkpoints").mkdir()
    put(how, folder / name, secret)
    error = at_once(lambda: load(folder))
    with pytest.raises(FileError, match=rf"{name}: (a link that leads out of its folder|neither a file nor a folder)"):
        raise error


def test_checkpoints_are_those_of_their_folder(tmp_path: Path) -> None:
    away, kept = Checkpoints(tmp_path / "away"), Checkpoints(tmp_path / "kept")
    kept.save(1, {"trainer": {"step": 1}})
    away.save(2, {"trainer": {"step": 2}})
    kept.path(2).symlink_to(away.path(2))
    os.mkfifo(kept.path(3))
    with pytest.warns(RuntimeWarning, match=r"(leads out of its folder|a FIFO)"):
        assert at_once(kept.load_newest) == {"trainer": {"step": 1}}
    before = away.path(2).read_bytes()
    with pytest.raises(FileError, match="step-000000002.*cannot be written: a link that leads out of its folder"):
        kept.save(2, {"trainer": {"step": 7}})
    assert away.path(2).read_bytes() == before


def test_images_from_elsewhere_are_not_taken(tmp_path: Path) -> None:
    (tmp_path / "images" / "cat").mkdir(parents=True)
    (tmp_path / "images" / "cat" / "1.png").symlink_to("/dev/zero")
    recipe = alexnet.AlexNet(alexnet.Options(), "cpu")
    recipe.folder = tmp_path
    with pytest.raises(FileError, match="images/cat/1.png: a link that leads out of its folder"):
        recipe.images  # noqa: B018  # they are looked for when they are asked for


# ---- writing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["link", "dangling", "folder", "FIFO"])
@pytest.mark.parametrize("name", ["report.html", "curves.png", "filters.png"])
def test_plot_writes_nothing_outside(name: str, how: str, folder: Path, tmp_path: Path) -> None:
    save_arrays(folder, conv=np.ones((2, 1, 3, 3), np.float32))
    victim = tmp_path / "victim"
    if how == "FIFO":
        os.mkfifo(folder / name)
    elif how == "folder":
        victim.mkdir()
        (folder / "away").symlink_to(victim)
        (folder / name).symlink_to(Path("away", "new"))
    else:
        if how == "link":
            victim.write_text("mine")
        (folder / name).symlink_to(victim)
    draw = (lambda: write_page(folder, folder / name)) if name == "report.html" else (lambda: redraw(folder))
    error = at_once(draw)
    with pytest.raises(FileError, match=rf"{name}: (a link that leads out of its folder|neither a file nor a folder)"):
        raise error
    assert {"link": lambda: victim.read_text() == "mine", "folder": lambda: os.listdir(victim) == []}.get(
        how, lambda: not victim.exists()
    )()


def test_a_page_that_the_user_names_goes_where_its_link_leads(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link.html").symlink_to(tmp_path / "page.html")
    write_page(folder, tmp_path / "link.html")
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def stop(step: int, steps: int, loss: float) -> None:
        raise KeyboardInterrupt

    return once(tmp_path_factory, "interrupted", lambda folder: digits.train_digits(QUICK, folder, on_step=stop))


@pytest.mark.parametrize("name", [*digits.Digits.files(), "checkpoints/step-000000002.safetensors"])
def test_a_run_with_links_that_lead_out_is_not_resumed(name: str, interrupted: Path, tmp_path: Path) -> None:
    run, away = tmp_path / "run", tmp_path / "away"
    shutil.copytree(interrupted, run)
    if (run / name).exists():
        (run / name).rename(away)
    (run / name).symlink_to(away)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.exists()}
    with pytest.raises(FileError, match=rf"{name}: .*a link that leads out of its folder"):
        resumable(run)[0].run(QUICK, run, resume=True)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.exists()} == before


def test_a_new_run_is_not_begun_among_links(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "summary.json").symlink_to(tmp_path / "none")  # which leads nowhere yet
    with pytest.raises(FileError, match=r"holds a run already \(summary.json\)"):
        digits.train_digits(QUICK, tmp_path / "run")
    assert os.listdir(tmp_path / "run") == ["summary.json"]


@pytest.mark.parametrize("recipe", catalogue.RECIPES, ids=lambda recipe: recipe.name)
def test_every_recipe_names_its_files(recipe: type[Recipe]) -> None:
    """Those are what is looked at before a run is resumed."""
    assert {"config.json", "summary.json"} <= set(recipe.files())
    source = Path(sys.modules[recipe.__module__].__file__ or "").read_text()
    written = {part.split('"')[0] for part in source.split('folder / "')[1:]}
    assert written <= set(recipe.files())


# ---- two at once ---------------------------------------------------------------------------------------------------

HOLD = """
import os, sys, time
from pathlib import Path
from gpunn.runs.lock import locked
with locked(Path(sys.argv[1])):
    if not sys.argv[2:]:
        print(os.getpid(), 0, flush=True)
    elif not os.fork():  # the child tells, which has left the lock to its parent by then
        print(os.getppid(), os.getpid(), flush=True)
    time.sleep(600)
"""


def holding(folder: Path, *arguments: str) -> tuple[subprocess.Popen[str], int, int]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, folder, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pid, child = map(int, process.stdout.readline().split())
    return process, pid, child


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_a_folder_in_use_says_by_whom_and_is_free_when_that_process_is_killed(tmp_path: Path) -> None:
    process, pid, _ = holding(tmp_path)
    try:
        with (
            pytest.raises(
                FileError, match=rf"{tmp_path}: in use by process {pid} on \S+ since \d{{4}}-\S+ \S+: two at"
            ),
            lock.locked(tmp_path),
        ):
            pass
        assert lock.state(tmp_path) == "running"
    finally:
        end(process)
    assert lock.state(tmp_path) == "killed"
    assert os.listdir(tmp_path) == ["lock"]
    with lock.locked(tmp_path):
        assert (tmp_path / "lock").read_text().startswith(f"process {os.getpid()} on ")
    assert os.listdir(tmp_path) == []
    assert lock.state(tmp_path) is None


def test_who_only_asks_keeps_no_one_from_a_folder(tmp_path: Path) -> None:
    """Nor does a run that goes on take one that asks for another that trains."""
    asked, done = [], threading.Event()

    def ask() -> None:
        while not done.is_set():
            asked.append(lock.state(tmp_path))
            time.sleep(0.001)

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            for _ in range(50):
                with lock.locked(tmp_path):
                    pass
        finally:
            done.set()
        asking.result()
    assert set(asked) <= {None, "running"}


def test_the_children_of_a_killed_process_do_not_keep_its_lock(tmp_path: Path) -> None:
    process, _, child = holding(tmp_path, "fork")
    try:
        with pytest.raises(FileError, match="in use"), lock.locked(tmp_path):
            pass
        end(process)
        with lock.locked(tmp_path):
            os.kill(child, 0)  # it is still there
    finally:
        os.kill(child, signal.SIGKILL)


FORK = """
import os, sys
from pathlib import Path
from gpunn.runs.lock import locked
with locked(Path(sys.argv[1])):
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        print((Path(sys.argv[1]) / "lock").exists())
"""


def test_a_child_that_ends_leaves_the_lock_of_its_parent_alone(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FORK, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["link", "FIFO", "folder"])
def test_a_lock_that_is_no_file(kind: str, tmp_path: Path) -> None:
    folder, victim = tmp_path / "run", tmp_path / "victim"
    folder.mkdir()
    victim.write_text("mine")
    if kind == "link":
        (folder / "lock").symlink_to(victim)
    elif kind == "FIFO":
        os.mkfifo(folder / "lock")
    else:
        (folder / "lock").mkdir()

    def take() -> None:
        with lock.locked(folder):
            pass

    error = at_once(take)
    with pytest.raises(FileError, match=r"lock: the run cannot be written there"):
        raise error
    assert victim.read_text() == "mine"


@pytest.mark.slow
def test_two_trainings_of_one_run(tmp_path: Path) -> None:
    """The second is refused, whether it begins or resumes; whoever only reads is not; the first is as if alone."""
    run, seen = tmp_path / "run", []

    def look(step: int, steps: int, loss: float) -> None:
        for resume in (False, True):
            with pytest.raises(FileError, match=rf"in use by process {os.getpid()} "):
                digits.train_digits(QUICK, run, resume=resume)
        if step == steps:
            seen.append((comparison.read_run(run).status, write_page(run, tmp_path / "page.html"), redraw(run)))

    digits.train_digits(QUICK, run, on_step=look)
    assert seen == [("running", [], [run / "curves.png"])]
    assert not (run / "lock").exists()
    alone, _ = digits.train_digits(QUICK, tmp_path / "alone")
    assert (run / "model.safetensors").read_bytes() == (alone / "model.safetensors").read_bytes()


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def refuse(*_: Any) -> None:
        raise OSError(38, "Function not implemented")

    (tmp_path / "lock").write_text("process 7")
    monkeypatch.setattr(fcntl, "flock", refuse)
    assert lock.state(tmp_path) is None
    with pytest.warns(RuntimeWarning, match=f"{tmp_path}: not kept from other processes"), lock.locked(tmp_path):
        pass

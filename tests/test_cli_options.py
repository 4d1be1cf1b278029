"""Options from TOML files: what wins, what is refused and how, and files that are damaged in every way."""

from __future__ import annotations

import json
import os
import time
import tomllib
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from cli_case import Command

from gpunn.backend import random_generator
from gpunn.errors import ArgumentError, FileError
from gpunn.recipes import catalogue
from gpunn.recipes.catalogue import RECIPES
from gpunn.recipes.options import LARGEST, Options, as_toml, option, read_options


@dataclass(frozen=True)
class Mine(Options):
    """An option of every kind."""

    command: ClassVar[str] = "train mine"
    epochs: int = option(3, "Passes.", least=1)
    batch_size: int = option(32, "Samples.", least=1)
    lr: float = option(0.01, "Rate, above 0.", positive=True)
    cell: str = option("gru", "Cell.", choices=("rnn", "gru"))
    file: str | None = option(None, "A text.", shown="none")
    limit: int | None = option(None, "Steps.", least=1, shown="no limit")


def read(path: Path, content: str | bytes) -> Mine:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return Mine(**read_options(path, Mine))


# ---- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The options with which train digits was begun; nothing is trained."""
    seen: list[Any] = []

    def run(options: Any, out: Path, **_: object) -> tuple[Path, dict[str, Any]]:
        seen.append(options)
        return out, {"status": "finished"}

    digits = catalogue.find("digits")
    monkeypatch.setattr(catalogue, "RECIPES", (digits,))
    monkeypatch.setattr(digits, "run", run)
    monkeypatch.setattr(digits, "headline", lambda summary: "done")
    return seen


def test_the_line_wins_over_the_file_and_the_file_over_the_defaults(command: Command, given: list[Any]) -> None:
    Path("run.toml").write_text("epochs = 1\nbatch-size = 256\nseed = 3\nlr = 1\nemulate = true\n")
    line = ("train", "digits", "--config", "run.toml", "--seed", 4, "--no-emulate", "--out", "here")
    assert command(*line) == (0, "done: here\n", "")
    expected = {"epochs": 1, "batch_size": 256, "lr": 1.0, "seed": 4, "device": None, "emulate": False}
    assert asdict(given[0]) == asdict(catalogue.find("digits").options_type()) | expected
    assert isinstance(given[0].lr, float)  # as by --lr 1
    assert command("train", "digits", "--config", "run.toml", "--epochs", 80).code == 0
    assert (given[1].epochs, given[1].seed, given[1].emulate) == (80, 3, True)  # also a default, if it is typed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("batch_sise = 4", "train digits has no option 'batch_sise'; did you mean 'batch_size'?"),
        ("cats = 4", "train digits has no option 'cats'; there are epochs, batch_size, lr, "),
        ("[digits]\nepochs = 3", "train digits has no option 'digits'; there are epochs, "),
        ("batch-size = 4\nbatch_size = 4", "batch_size is given twice, also as batch_size"),
        ("epochs = 0", "epochs must be at least 1, got epochs=0"),
        ("epochs = 3.0", "epochs must be an integer, got epochs=3.0"),
        ("epochs = true", "epochs must be an integer, got epochs=True"),
        ("epochs = '3'", "epochs must be an integer, got epochs='3'"),
        ("epochs = []", "epochs must be an integer, got epochs=a list"),
        ("epochs = {a = 1}", "epochs must be an integer, got epochs=a table"),
        ("epochs = 1979-05-27", "epochs must be an integer, got epochs=datetime.date(1979, 5, 27)"),
        ("epochs = 9223372036854775808", "epochs must be of at most 63 bits, got epochs=an integer of 64 bits"),
        ("lr = 0", "lr must be above 0 and finite, got lr=0.0"),
        ("lr = nan", "lr must be above 0 and finite, got lr=nan"),
        ("lr = 1e400", "lr must be above 0 and finite, got lr=inf"),
        ("lr = 'fast'", "lr must be a number, got lr='fast'"),
        ("device = 1", "device must be text, got device=1"),
        ('device = "\\u0000"', "device must be text without a null character, got device='\\x00'"),
        ("emulate = 1", "emulate must be true or false, got emulate=1"),
    ],
)
def test_what_a_file_must_not_say(content: str, message: str, command: Command) -> None:
    Path("run.toml").write_text(content)
    code, out, err = command("train", "digits", "--config", "run.toml", "--epochs", 1)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: run.toml: {message}")
    assert err.count("\n") == 1
    assert os.listdir() == ["run.toml"]


def test_words_that_are_not_among_the_choices(command: Command) -> None:
    Path("run.toml").write_text("cell = 'cnn'")
    message = "error: run.toml: cell must be one of rnn, lstm, gru, got cell='cnn'\n"
    assert command("train", "text", "--config", "run.toml") == (2, "", message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"seed = 1\nlr 3", ", line 2, column 4: not TOML: Expected '=' after a key in a key/value pair"),
        (b"seed =", ", line 1, column 7: not TOML: Invalid value"),
        (b"file = 'a\nseed = 3", ', line 2, column 9: not TOML: Expected "'),
        (b'seed = 3\nfile = """a\nb', ", line 3, column 2: not TOML: Unterminated string"),
        (b"seed = 1\nseed = 2", ", line 2, column 9: not TOML: Cannot overwrite a value"),
        (b"seed = " + b"9" * 5000, ": not TOML: Exceeds the limit (4300"),
        (b"file = " + b"[" * 5000, ": not options in TOML: nested too deeply"),
        (b"seed = 1\xff", ": not text in UTF-8: invalid start byte at byte 8"),
        (b"# " * LARGEST, f": a file of options has at most {LARGEST} bytes"),
    ],
)
def test_damaged_files(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    with pytest.raises(FileError) as caught:
        read(path, content)
    assert str(caught.value).startswith(f"{path}{message}")


def test_what_is_no_file(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("folder").mkdir()
    missing = "error: none.toml: the options cannot be read: No such file or directory\n"
    assert command("train", "digits", "--config", "none.toml") == (2, "", missing)
    code, out, err = command("train", "digits", "--config", "folder")
    assert (code, out) == (2, "")
    assert err.startswith("error: folder: the options cannot be read: ")  # Windows has another cause
    if Path("/dev/zero").exists():
        with pytest.raises(FileError, match=f"at most {LARGEST} bytes"):
            read_options("/dev/zero", Mine)

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", denied)  # chmod keeps nothing from root
    with pytest.raises(FileError, match="mine.toml: the options cannot be read: Permission denied$"):
        read_options("mine.toml", Mine)


def test_files_of_windows(tmp_path: Path) -> None:
    assert read(tmp_path / "run.toml", b"\xef\xbb\xbfseed = 3\r\nepochs = 4\r\n") == Mine(seed=3, epochs=4)


# ---- as TOML -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_printed_options_are_taken_back(recipe: Any, command: Command) -> None:
    code, out, err = command("recipes", recipe.name)
    assert (code, err) == (0, "")
    Path("run.toml").write_text(out)
    assert recipe.options_type(**read_options("run.toml", recipe.options_type)) == recipe.options_type()
    lines = out.replace("\n# ", "\n").splitlines()  # every option has its line, if only in a comment
    assert {each.name for each in fields(recipe.options_type)} <= {line.split(" = ")[0] for line in lines}
    assert {"text", "recipe"} < json.loads(command("recipes", recipe.name, "--json").out).keys()


@pytest.mark.parametrize(
    "options",
    [
        Mine(file='é\t"quoted" \\ \x01\x7f 😀\n', limit=5),
        Mine(epochs=2**63 - 1, lr=1e-300, seed=7, cell="rnn", emulate=True, device="gpu:1"),
        Mine(lr=1e22),
    ],
)
def test_other_values_are_taken_back(options: Mine, tmp_path: Path) -> None:
    content = as_toml(options)
    assert read(tmp_path / "run.toml", content) == options
    assert tomllib.loads(content)["epochs"] == options.epochs


def test_the_dataclass_checks_types() -> None:
    assert Mine(epochs=np.int64(4), lr=np.float32(0.5)) == Mine(epochs=4, lr=0.5)  # type: ignore[arg-type]
    assert type(Mine(epochs=np.int64(4)).epochs) is int  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="train mine: limit must be an integer, got limit=0.5"):
        Mine(limit=0.5)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="train mine: epochs must be an integer, got epochs=None"):
        Mine(epochs=None)  # type: ignore[arg-type]


# ---- damage --------------------------------------------------------------------------------------------------------

WHOLE = as_toml(Mine(file="story.txt", limit=5)).encode()
INSERTED = (
    b"[", b"]", b"{", b"}", b'"', b"'", b"\0", b"\n", b"=", b"0x", b"nan", b"-", b".", b'"""', b"1e999", b"\r", b"\\u",
    b"9" * 30, b"9" * 5000, b"0x" + b"f" * 9000, b"[" * 3000, b"{a=" * 3000, b"a." * 5000 + b"a=1\n", b"\xff\xfe",
)  # fmt: skip


def mutated(generator: np.random.Generator) -> bytes:
    content = bytearray(WHOLE)
    for _ in range(generator.integers(1, 4)):
        place = int(generator.integers(len(content) + 1))
        match generator.integers(4):
            case 0:
                del content[place:]
            case 1:
                if place < len(content):
                    content[place] ^= 1 << int(generator.integers(8))
            case 2:
                content[place:place] = INSERTED[generator.integers(len(INSERTED))]
            case 3:
                del content[place : place + int(generator.integers(1, 20))]
    return bytes(content)


@pytest.mark.slow
def test_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    generator, path, taken = random_generator(0), tmp_path / "run.toml", 0
    for _ in range(2_000):
        content = mutated(generator)
        begin = time.process_time()
        try:
            options = read(path, content)
        except (FileError, ArgumentError) as error:
            message = str(error)
        else:
            message = str(path)
            assert options == Mine(**{k.replace("-", "_"): v for k, v in tomllib.loads(content.decode()).items()})
            taken += 1
        assert message.startswith(str(path))
        assert len(message) < 400 + len(str(path))
        assert time.process_time() - begin < 1
    assert 100 < taken < 1900


LARGE: dict[str, Callable[[int], bytes]] = {
    "lists": lambda size: b"file = " + b"[" * (size - 7),
    "many lists": lambda size: b"a = [" + b"[]," * (size // 3 - 2),
    "closed lists": lambda size: b"file = " + b"[" * 400 + b"]" * 400,
    "tables": lambda size: b"file = " + b"{a=" * (size // 3 - 3),
    "dotted key": lambda size: b"a." * (size // 2 - 4) + b"a = 1",
    "dotted heads": lambda size: b"\n".join(b"[%d.a.b]" % n for n in range(size // 14)),
    "same heads": lambda size: b"[[a]]\n" * (size // 6),
    "keys": lambda size: b"".join(b"k%d=1\n" % n for n in range(size // 10)),
    "long key": lambda size: b"a" * (size - 8) + b" = 1",
    "digits": lambda size: b"seed = " + b"9" * (size - 8),
    "hexadecimal": lambda size: b"seed = 0x" + b"f" * (size - 10),
    "fraction": lambda size: b"lr = 0." + b"1" * (size - 10),
    "underlines": lambda size: b"seed = 1" + b"_1" * ((size - 10) // 2),
    "text": lambda size: b'file = "' + b"\\t" * ((size - 10) // 2) + b'"',
    "open text": lambda size: b'file = """' + b"\\\n " * ((size - 10) // 3),
    "comments": lambda size: b"#\n" * (size // 2),
}


@pytest.mark.parametrize("name", LARGE)
def test_the_largest_files_cost_little(name: str, tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(LARGE[name](LARGEST))
    assert path.stat().st_size <= LARGEST
    begin = time.process_time()
    message = message_of(path)
    assert time.process_time() - begin < 1
    assert len(message) < 400 + len(str(path))
    tracemalloc.start()
    message_of(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100e6


def message_of(path: Path) -> str:
    try:
        Mine(**read_options(path, Mine))
    except FileError as error:
        return str(error)
    return ""

"""Help with examples that hold, what is mistyped, JSON and nothing else, exit codes, completion in a shell."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from cli_case import Command, Terminal

import gpunn
from gpunn import backend
from gpunn.cli import command as command_module
from gpunn.cli import help as cli_help
from gpunn.recipes.catalogue import RECIPES

ROOT = Path(gpunn.__file__).parents[1]


pytestmark = pytest.mark.usefixtures("undrawn")


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, group
    for name, below in getattr(group, "commands", {}).items():
        yield from commands(below, (*path, name))


WHOLE = command_module._app()
COMMANDS = dict(commands(WHOLE))
each_command = pytest.mark.parametrize("path", COMMANDS, ids=" ".join)


def examples(path: tuple[str, ...]) -> list[list[str]]:
    lines = (COMMANDS[path].epilog or "").splitlines()
    lines = [line.partition(" > ")[0] for line in lines if line.startswith("gpunn ")]
    return [shlex.split(line, comments=True) for line in lines]


def words(text: str) -> str:
    return " ".join(re.sub(r"[│╭╰─╮╯]", " ", text).split())


# ---- help ----------------------------------------------------------------------------------------------------------


@each_command
def test_every_help_has_examples_of_its_command(path: tuple[str, ...], command: Command) -> None:
    code, out, err = command(*path, "--help")
    assert (code, err) == (0, "")
    told = words(out).partition(" Examples: ")[2]
    assert examples(path)
    for example in examples(path):
        assert " ".join(example) in told
        assert tuple(example[1 : 1 + len(path)]) == path


@each_command
def test_examples_are_understood(path: tuple[str, ...], command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(typer.core.TyperCommand, "invoke", lambda self, context: seen.append(self.name))
    for example in examples(path):
        ended = command(*example[1:])
        assert ended.code == 0, ended.err
    assert len(seen) + sum("--help" in example for example in examples(path)) == len(examples(path))


@pytest.mark.parametrize(
    ("path", "usage"),
    [("recipes", "[NAME]"), ("draw skeleton", "[IMAGE]"), ("compare", "{RUN}..."), ("predict", "{RUN} {FILE}...")],
)
def test_usage_marks_an_argument_once(path: str, usage: str, command: Command) -> None:
    (line,) = re.findall(r"Usage: .*", command(*path.split(), "--help").out)
    assert line.split(maxsplit=1)[1].strip() == f"gpunn {path} [OPTIONS] {usage}"


@each_command
def test_help_has_a_line_for_each_paragraph(path: tuple[str, ...]) -> None:
    assert all(COMMANDS[path].help.split("\n\n"))
    assert "\n" not in COMMANDS[path].help.replace("\n\n", "")


def test_commands_by_panel(command: Command) -> None:
    out = command("--help").out
    panels = re.findall(r"─ ([A-Z][\w ]+) ─", out)
    assert panels == ["Options", *cli_help.PANELS]
    named = [line.split()[1] for line in out.splitlines() if re.match(r"│ \w", line)]
    assert named[:4] == ["train", "resume", "recipes", "new"]
    assert set(named) == set(WHOLE.commands)


def test_help_says_the_exit_codes(command: Command) -> None:
    assert command_module.EXIT_CODES in words(command("--help").out)


@pytest.mark.parametrize("group", [(), ("train",), ("draw",)])
def test_a_group_alone_shows_its_help(group: tuple[str, ...], command: Command) -> None:
    code, out, err = command(*group)
    assert (code, err) == (2, "")
    assert out.strip() == command(*group, "--help").out.strip()


# ---- what is mistyped ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("tarin", "gpunn: no such command 'tarin'. Did you mean 'train'? (gpunn --help says more)"),
        ("train digit", "gpunn train: no such command 'digit'. Did you mean 'digits', 'digits-rows'? (gpunn train"),
        ("cats", "gpunn: no such command 'cats' (gpunn --help says more)"),
        ("--jsn info", "gpunn: no such option: --jsn. Did you mean --json? (gpunn --help says more)"),
        ("train digits --epoch 3", "gpunn train digits: no such option: --epoch. Did you mean --epochs? (gpunn train"),
        ("train digits --batch_size 3", "gpunn train digits: no such option: --batch_size. Did you mean --batch-size?"),
        ("train digits --cats", "gpunn train digits: no such option: --cats (gpunn train digits --help says more)"),
        ("train text --cell cnn", "gpunn train text: invalid value for '--cell'"),
        ("resume", "gpunn resume: missing argument 'RUN' (gpunn resume --help says more)"),
        ("resume a b", "gpunn resume: got unexpected extra argument"),
        ("train digits --epochs 0", "gpunn train digits: invalid value for '--epochs'"),
    ],
)
def test_what_is_mistyped(line: str, message: str, command: Command) -> None:
    code, out, err = command(*line.split())
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1
    code, out, told = command(*line.split(), "--json")
    assert (code, out) == (2, "")
    assert json.loads(told) == {"error": err.removeprefix("error: ").rstrip("\n")}


# ---- JSON and exit codes -------------------------------------------------------------------------------------------


QUICK = ("train", "digits", "--epochs", 1, "--batch-size", 256)


def test_training_as_json(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, complaints = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", complaints)  # where there would be a progress bar
    assert command(*QUICK, "--json", "--out", "here").code == 0
    assert complaints.getvalue() == ""
    summary = json.loads(terminal.getvalue())
    assert terminal.getvalue().count("\n") == 1
    assert summary == json.loads(Path("here/summary.json").read_text()) | {"folder": "here"}


def test_every_error_as_json(command: Command) -> None:
    for line, message in (
        ((*QUICK, "--lr", 0), "train digits: lr must be above 0 and finite, got lr=0.0"),
        (("resume", "nowhere"), "nowhere: holds no run that was begun: it lacks a config.json that names a recipe"),
        (("resume", __file__), f"{__file__}: a file, where the folder of a run is wanted"),
        (("--json",), "gpunn: missing command (gpunn --help says more)"),
        (("train",), "gpunn train: missing command (gpunn train --help says more)"),
    ):
        code, out, err = command(*line, "--json")
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        assert json.loads(err) == {"error": message}


def test_the_version_as_json(command: Command) -> None:
    assert json.loads(command("--version", "--json").out) == {"version": gpunn.__version__}


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--json",)], ids=["words", "json"])
def test_ctrl_c(flags: tuple[str, ...], command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(gpunn.recipes.run.Follow, "on_step", stop)
    code, out, err = command(*QUICK, "--out", "here", *flags)
    assert code == 130
    if flags:
        assert err == ""
        assert json.loads(out)["status"] == "interrupted"
    else:
        assert out.startswith("interrupted, test accuracy")
        assert out.endswith(": here; to go on: gpunn resume here\n")
    monkeypatch.setattr(gpunn.cli.machine, "_facts", stop)  # outside a training
    assert command("info", *flags) == (130, "", "")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_an_output_that_cannot_be_written() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "gpunn", "recipes"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
    assert done.stderr == "error: the standard output cannot be written: No space left on device\n"
    assert done.returncode == 2


# ---- letters that the output lacks ---------------------------------------------------------------------------------


@pytest.fixture
def ascii_streams(command: Command, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Run the command where standard output and error take ASCII only."""

    def run(*arguments: str) -> tuple[int, str, str]:
        streams = [io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True) for _ in range(2)]
        with monkeypatch.context() as patch:
            patch.setenv("COLUMNS", "80")
            patch.setattr(sys, "stdout", streams[0])
            patch.setattr(sys, "stderr", streams[1])
            code = command(*arguments).code
        return code, *(stream.buffer.getvalue().decode() for stream in streams)

    return run


@each_command
def test_every_help_in_ascii(path: tuple[str, ...], ascii_streams: Any) -> None:
    code, out, err = ascii_streams(*path, "--help")
    assert (code, err) == (0, "")
    assert "Usage: " in out
    assert "\\u" not in out


@each_command
def test_every_help_on_a_narrow_terminal(
    path: tuple[str, ...], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    code, out, err = command(*path, "--help")
    assert (code, err) == (0, "")
    options = [name for each in COMMANDS[path].params for name in each.opts if name.startswith("--")]
    assert [name for name in options if not re.search(rf"{name}\b", out)] == []
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= 40


@pytest.mark.slow
@pytest.mark.filterwarnings("default:p.csv")
def test_a_run_with_an_umlaut_in_ascii(ascii_streams: Any, tmp_path: Path) -> None:
    code, out, err = ascii_streams("train", "circles", "--epochs", "1", "--out", "rün")
    assert (code, out.count("\n")) == (0, 1)
    assert out.endswith(r": r\xfcn" + "\n")
    assert "epoch 1/1" in err
    (tmp_path / "p.csv").write_text("ä,b\n1,2\n", encoding="utf-8")
    code, out, err = ascii_streams("predict", "rün", "p.csv")
    assert (code, err) == (0, "warning: p.csv: its first line is no point, but names the columns: \\xe4, b\n")
    assert ascii_streams("draw", "activations", "--out", "ä.png")[:2] == (
        0, "10 activations and their derivatives: \\xe4.png\n",
    )  # fmt: skip
    code, out, err = ascii_streams("eval", "nirgendwö")
    assert (code, out, err.partition(":")[0]) == (2, "", "error")
    assert err.startswith("error: nirgendw\\xf6: ")


TWICE = """
import sys
from gpunn.cli import main
for name in sys.argv[1:]:
    for line in ["train", "circles", "--epochs", "1", "--out", name], ["compare", name, "--out", name + ".png"]:
        sys.argv = ["gpunn", *line]
        try:
            main()
        except SystemExit as ended:
            assert not ended.code, ended.code
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes there")
def test_runs_whose_names_the_system_cannot_decode(tmp_path: Path) -> None:
    bare = {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    names = ["rün".encode(), b"r\xfcn"]
    done = subprocess.run(
        [sys.executable.encode(), b"-c", TWICE.encode(), *names],
        env={**os.environ, **bare, "LC_ALL": "C"},
        cwd=tmp_path,
        check=True,
        stdout=subprocess.PIPE,
    ).stdout
    lines = done.splitlines()
    for name in names:
        escaped = b"".join(b"\\udc%02x" % byte if byte > 127 else b"%c" % byte for byte in name)
        assert any(line.startswith(b"test accuracy ") and line.endswith(b": " + escaped) for line in lines)
        assert b"curves: %s.png" % escaped in lines
        assert (tmp_path / os.fsdecode(name) / "model.safetensors").exists()
        assert (tmp_path / os.fsdecode(name + b".png")).stat().st_size > 0


def test_a_fault(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise LookupError("a bug")

    monkeypatch.setattr(gpunn.cli.machine, "_facts", broken)
    code, out, err = command("info")
    assert (code, out) == (1, "")
    assert err.startswith("Traceback (most recent call last):")
    assert err.endswith(
        "LookupError: a bug\nerror: a fault of gpunn's, not yours; a report of it needs the lines above\n"
    )
    code, out, err = command("info", "--json")
    assert (code, out) == (1, "")
    told = json.loads(err)
    assert told["error"] == "a fault of gpunn's: LookupError('a bug')"
    assert told["traceback"].endswith("LookupError: a bug\n")


def test_warnings_are_lines(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def warning() -> dict[str, str]:
        warnings.simplefilter("always")
        warnings.warn("mind", RuntimeWarning, stacklevel=1)
        return {}

    monkeypatch.setattr(gpunn.cli.machine, "_facts", warning)
    monkeypatch.setattr(gpunn.cli.machine, "_words", lambda facts: facts.items())
    assert command("info") == (0, "\n", "warning: mind\n")
    assert command("info", "--json") == (0, "{}\n", '{"warning": "mind"}\n')


# ---- completion ----------------------------------------------------------------------------------------------------


def run_of(name: str) -> None:
    Path("runs", name).mkdir(parents=True)
    Path("runs", name, "config.json").write_text("{}")


OFFERED = [
    ("gpunn tr", {"train"}),
    ("gpunn re", {"resume", "recipes"}),
    ("gpunn train digi", {"digits", "digits-rows"}),
    ("gpunn train digits --ba", {"--batch-size"}),
    ("gpunn train text --cell ", {"rnn", "lstm", "gru"}),
    ("gpunn train digits --device c", {"cpu"}),
    ("gpunn recipes ", {recipe.name for recipe in RECIPES}),
    ("gpunn new cir", {"circles"}),
    ("gpunn resume runs/", {"runs/a run", "runs/b"}),
    ("gpunn resume runs/b", {"runs/b"}),
]


@pytest.mark.parametrize(("line", "offered"), OFFERED, ids=lambda value: value if isinstance(value, str) else "")
def test_what_bash_is_offered(line: str, offered: set[str], command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    run_of("a run")
    run_of("b")
    Path("runs/empty").mkdir()
    monkeypatch.setenv("_GPUNN_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))
    code, out, err = command()
    assert (code, err) == (0, "")
    assert set(out.splitlines()) == offered


@pytest.mark.parametrize(
    ("shell", "shown"), [("zsh", '"digits-rows":"Many to one'), ("fish", "digits-rows\tMany to one")]
)
def test_zsh_and_fish(shell: str, shown: str, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_GPUNN_COMPLETE", f"source_{shell}")
    assert "_GPUNN_COMPLETE=complete_" + shell in command().out
    monkeypatch.setenv("_GPUNN_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "gpunn train digi")
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    assert shown in command().out


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "gpu_count", lambda: 2)
    assert cli_help.devices() == ["cpu", "gpu", "gpu:0", "gpu:1"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_a_real_bash(tmp_path: Path) -> None:
    shim = tmp_path / "bin" / "gpunn"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m gpunn "$@"\n')
    shim.chmod(0o755)
    (tmp_path / "runs" / "a run").mkdir(parents=True)
    (tmp_path / "runs" / "a run" / "config.json").write_text("{}")
    script = """
        gpunn --show-completion | head -n 1
        gpunn --install-completion
        source ~/.bashrc
        complete -p gpunn
        offered() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _gpunn_completion gpunn; }
        offered gpunn train digi; printf '<%s>' "${COMPREPLY[@]}"; echo
        offered gpunn resume runs/; printf '<%s>' "${COMPREPLY[@]}"; echo
    """
    environment = {
        "HOME": str(tmp_path),
        "PATH": f"{shim.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "NO_COLOR": "1",
    }
    ended = subprocess.run(
        ["bash", "--norc", "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    )
    assert ended.stderr == ""
    assert ended.stdout.splitlines() == [
        "_gpunn_completion() {",
        f"bash completion installed in {tmp_path}/.bash_completions/gpunn.sh",
        "Completion will take effect once you restart the terminal",
        "complete -o default -F _gpunn_completion gpunn",
        "<digits><digits-rows>",
        "<runs/a run>",
    ]

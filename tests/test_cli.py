"""The command line: what it prints and where, its exit codes, its errors without tracebacks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_case import Command, Terminal

import gpunn
from gpunn import backend
from gpunn.cuda import cache, device, source
from gpunn.recipes import warmup

QUICK = ("train", "digits", "--epochs", 1, "--batch-size", 256)


pytestmark = pytest.mark.usefixtures("undrawn")


def test_version(command: Command) -> None:
    assert command("--version") == (0, f"gpunn {gpunn.__version__}\n", "")


def test_help_shows_every_option_with_its_default(command: Command) -> None:
    code, out, _ = command("train", "digits", "--help")
    assert code == 0
    text = " ".join(re.sub(r"[│╭╰─╮╯]", " ", out).split())
    for option, default in (
        ("--epochs", "80"),
        ("--batch-size", "32"),
        ("--lr", "0.005"),
        ("--seed", "0"),
        ("--device", "(the environment variable GPUNN_DEVICE, or cpu)"),
        ("--out", "(runs/digits-<date>-<time>)"),
    ):
        assert re.search(rf"{option} .*?\[default: {re.escape(default)}\]", text), option
    assert "--emulate" in text
    assert "--debug" in command("--help").out


def test_info(command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GPUNN_CACHE_DIR", str(tmp_path / "kernels"))
    for name in ("conv-sm_80-1f.cubin", "conv-sm_90a-2f.cubin", "lrn-sm_80-3f.cubin"):
        cache.write_atomically(tmp_path / "kernels" / "cubin" / name, bytes(1 << 20))
    cache.write_atomically(tmp_path / "kernels" / "emulator" / "b.so", bytes(1 << 19))
    cache.write_atomically(tmp_path / "kernels" / "tuned" / "conv2d_forward-1.json", b"{}")
    code, out, err = command("info")
    assert (code, err) == (0, "")
    facts: dict[str, list[str]] = {}
    for line in out.splitlines():
        facts.setdefault(line[:13].strip(), []).append(line[14:])
    assert facts["gpunn"][0].startswith(gpunn.__version__)
    assert facts["Python"][0].startswith(".".join(map(str, sys.version_info[:3])))
    assert facts["NumPy"] == [__import__("numpy").__version__]
    assert {"CuPy", "cuda-core", "NVRTC", "nvdisasm", "C++ compiler"} <= facts.keys()
    assert facts["kernel cache"] == [f"{tmp_path / 'kernels'}  5 files, 3.5 MiB"]
    assert facts["compiled"] == ["sm_80 2, sm_90a 1"]
    assert facts["autotuned"] == ["choices 1"]
    assert facts["emulated"] == ["libraries 1"]
    assert facts["device"][0].startswith("cpu")
    assert len(facts["device"]) == 1 + backend.gpu_count()
    fields = json.loads(command("info", "--json").out)
    assert fields["gpunn"]["version"] == gpunn.__version__
    assert fields["cache"] == {
        "folder": str(tmp_path / "kernels"), "files": 5, "bytes": (7 << 19) + 2, "compiled": {"sm_80": 2, "sm_90a": 1},
        "autotuned": 1, "emulated": 1,
    }  # fmt: skip
    assert [device["name"] for device in fields["devices"]][:1] == ["cpu"]
    assert fields["compiler"]["command"] or fields["compiler"]["reason"]
    assert facts.get("no GPU", [""]) == [backend.why_no_gpu()]


@pytest.mark.gpu
def test_info_tells_an_emulated_device(command: Command) -> None:
    told = "gpu:0  gpunn emulated device, " in command("info").out
    assert told == (device.running() is not None)


def test_info_with_an_empty_cache(command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GPUNN_CACHE_DIR", str(tmp_path / "none"))
    out = command("info").out
    assert f"{tmp_path / 'none'}  0 files, 0.0 MiB" in out
    assert "nothing: gpunn warmup" in out


def test_warmup(command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("cuda.core", reason="NVIDIA has no NVRTC for this system")
    folder = tmp_path / "kernels"
    first = source.example_macros(source.flatten("lrn.cu"))[0]
    monkeypatch.setenv("GPUNN_CACHE_DIR", str(folder))
    monkeypatch.setattr(warmup, "needed", lambda: [("lrn.cu", source.options(first))])
    code, out, err = command("warmup", "--arch", "sm_90")
    assert (code, err) == (0, "")
    assert re.fullmatch(rf"compiled 1 specialised kernel files for sm_90 in \d+\.\d s: {folder}\n", out)
    nothing = f"nothing to do: all 1 specialised kernel files for sm_90 are in {folder}\n"
    assert command("warmup", "--arch", "sm_90") == (0, nothing, "")
    _, out, _ = command("warmup", "--arch", "sm_90", "--arch", "sm_120", "--arch", "sm_120")
    assert re.fullmatch(rf"compiled 1 .* for sm_90, sm_120 in \d+\.\d s, 1 were there: {folder}\n", out)
    assert "compiled      sm_120 1, sm_90 1\n" in command("info").out

    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", terminal)
    command("warmup", "--arch", "sm_80")
    assert re.search(
        r"1/1 .*done.*\s+compiled 1 specialised", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue()), re.S
    )


def test_warmup_for_an_unknown_architecture(command: Command) -> None:
    pytest.importorskip("cuda.core", reason="NVIDIA has no NVRTC for this system")
    code, out, err = command("warmup", "--arch", "sm_31")
    assert (code, out) == (2, "")
    assert re.fullmatch(r"error: NVRTC \S+ compiles for .*sm_90.*, got 'sm_31'\n", err)


@pytest.mark.skipif(backend.gpu_count() > 0, reason="there is a GPU")
def test_warmup_where_there_is_no_gpu(command: Command) -> None:
    code, out, err = command("warmup")
    assert (code, out) == (2, "")
    assert re.fullmatch(r"error: warmup: name an architecture, as in --arch sm_90: .*\n", err)


LINE = r"epoch \d/\d  [ -~]* s  \d:\d\d left\n"
"""What is written an epoch where there is no terminal: no control characters."""


@pytest.mark.slow
def test_training_where_there_is_no_terminal(command: Command) -> None:
    code, out, err = command(*QUICK, "--out", "here")
    assert code == 0
    assert re.fullmatch(LINE, err)
    assert "  test accuracy " in err
    summary = json.loads(Path("here/summary.json").read_text())
    line = f"test accuracy {summary['test_accuracy']:.2%} after 1 epochs, {summary['seconds']:.1f} s: here\n"
    assert out == line


def test_digits_rows(command: Command) -> None:
    code, out, err = command(
        "train", "digits-rows", "--epochs", 1, "--batch-size", 256, "--hidden-size", 8, "--out", "o"
    )
    assert code == 0
    assert re.fullmatch(f"({LINE}){{3}}", err)
    assert [line.split("  ")[1] for line in err.splitlines()] == ["RNN", "LSTM", "GRU"]
    percent = r"\d+\.\d\d%"
    line = rf"test accuracy RNN {percent}, LSTM {percent}, GRU {percent} after 1 epochs, \d+\.\d s: o\n"
    assert re.fullmatch(line, out)
    assert json.loads(Path("o/config.json").read_text())["hidden_size"] == 8


def test_spell(command: Command) -> None:
    code, out, err = command("train", "spell", "--epochs", 1, "--batch-size", 256, "--lr", "0.02", "--out", "here")
    assert code == 0
    assert re.fullmatch(LINE, err)
    assert re.fullmatch(r"exact test names \d+\.\d\d% after 1 epochs, \d+\.\d s: here\n", out)
    assert json.loads(Path("here/config.json").read_text())["lr"] == 0.02


SMALL_TEXT = ("--hidden-size", 8, "--epochs", 1, "--batch-size", 2, "--sequence-length", 8)


def test_text(command: Command) -> None:
    Path("story.txt").write_text("a word and " * 40)
    code, out, err = command("train", "text", "--file", "story.txt", *SMALL_TEXT, "--cell", "rnn", "--out", "here")
    assert code == 0
    assert re.fullmatch(LINE, err)
    sample = Path("here/sample.txt").read_text()
    line = r"\ntest bits/character \d+\.\d{3} after 1 epochs, \d+\.\d s: here\n"
    assert out.startswith(sample)
    assert re.fullmatch(line, out[len(sample) :])
    config = json.loads(Path("here/config.json").read_text())
    assert (config["file"], config["cell"], config["num_layers"]) == (str(Path("story.txt").absolute()), "rnn", 1)


def test_texts_that_cannot_be_read(command: Command) -> None:
    Path("empty").write_text("")
    Path("bytes").write_bytes(b"\xff\xfe")
    Path("short").write_text("abc")
    for name, cause in (
        ("none", "the text cannot be read: No such file or directory"),
        ("empty", "the text is empty"),
        ("bytes", "not a text in UTF-8: invalid start byte at byte 0"),
        ("short", "the text is too short: 3 characters, where 2312 are needed for batch_size=32, sequence_length=64"),
    ):
        assert command("train", "text", "--file", name) == (2, "", f"error: {name}: {cause}\n")
    code, _, err = command("train", "text", "--cell", "cnn")
    assert code == 2
    assert "'cnn' is not one of 'rnn', 'lstm', 'gru'" in " ".join(err.split())
    assert sorted(os.listdir()) == ["bytes", "empty", "short"]


@pytest.mark.slow
def test_progress_of_a_text_on_a_terminal(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("story.txt").write_text("a word and " * 40)
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    assert command("train", "text", "--file", "story.txt", *SMALL_TEXT, "--out", "here").code == 0
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())
    last = [line for line in re.split(r"[\r\n]+", shown) if " epoch " in line][-1]
    assert re.search(r"━ epoch 1/1 .*loss \d\.\d+ .*test bits/character \d\.\d{3} .*\d steps/s", last), last


def test_options_reach_the_run(command: Command) -> None:
    options = ("--lr", "0.02", "--seed", 7, "--device", "cpu", "--out", "here")
    assert command(*QUICK, *options).code == 0
    config = json.loads(Path("here/config.json").read_text())
    assert config == {
        "recipe": "digits", "epochs": 1, "batch_size": 256, "lr": 0.02, "seed": 7, "device": "cpu", "emulate": False,
        "workers": 0,
        "precision": "fp32",
    }  # fmt: skip


@pytest.mark.slow
def test_progress_on_a_terminal(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    assert command("train", "digits", "--epochs", 2, "--batch-size", 256, "--out", "here").code == 0
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())
    last = [line for line in re.split(r"[\r\n]+", shown) if " epoch " in line][-1]
    accuracy = json.loads(Path("here/metrics.jsonl").read_text().splitlines()[-1])["test_accuracy"]
    assert re.search(rf"━ epoch 2/2 .*loss \d\.\d+ .*test accuracy {accuracy:.2%} .*\d steps/s .*0:00", last), last


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--epochs", "0"), "--epochs"),
        (("--batch-size", "-3"), "--batch-size"),
        (("--seed", "-1"), "--seed"),
        (("--lr", "-1"), "lr must be above 0 and finite, got lr=-1.0"),
        (("--lr", "fast"), "--lr"),
        (("--lr", "0"), "lr must be above 0 and finite, got lr=0.0"),
        (("--lr", "nan"), "lr must be above 0 and finite, got lr=nan"),
        (("--device", "tpu"), 'a device is "cpu", "gpu" or "gpu:N", got device=\'tpu\''),
        (("--device", ""), "device=''"),
        (("--unknown",), "--unknown"),
        (("--out", "file"), "file: the run cannot be written there"),
    ],
)
def test_the_users_mistakes(arguments: tuple[str, ...], message: str, command: Command) -> None:
    Path("file").write_text("mine")
    code, out, err = command(*QUICK, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
    assert os.listdir() == ["file"]  # no run folder was begun
    if "got" in message:
        assert err.startswith("error: ")
        assert err.count("\n") == 1


def test_emulating_without_a_compiler(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    code, out, err = command(*QUICK, "--emulate", "--out", "here")
    assert (code, out) == (2, "")
    assert re.match(r"error: .*no-such-compiler", err)
    assert "Traceback" not in err
    assert os.listdir() == []
    assert "no-such-compiler" in command("info").out


@pytest.mark.skipif(backend.gpu_count() > 0, reason="there is a GPU")
def test_a_gpu_where_there_is_none(command: Command) -> None:
    assert command(*QUICK, "--device", "gpu") == (2, "", f"error: device 'gpu': {backend.why_no_gpu()}\n")


@pytest.mark.slow
def test_a_folder_that_holds_a_run(command: Command) -> None:
    assert command(*QUICK, "--out", "here").code == 0
    code, _, err = command(*QUICK, "--out", "here")
    assert code == 2
    assert re.fullmatch(r"error: here: holds a run already .*\n", err)


def test_a_loss_that_is_not_finite(command: Command) -> None:
    code, out, err = command("train", "digits", "--epochs", 1, "--lr", "1e30", "--out", "here")
    assert (code, out) == (2, "")
    assert re.fullmatch(r"error: Trainer: the training loss is \S+ at step \d+ \(epoch 1\).*the run is in here\n", err)
    assert json.loads(Path("here/summary.json").read_text())["status"] == "diverged"


@pytest.mark.parametrize("place", [0, 2, 6])  # before the command, inside it, at the end
def test_debug_shows_the_traceback(place: int, command: Command) -> None:
    arguments = [*map(str, QUICK), "--lr", "0"]
    arguments.insert(place, "--debug")
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("Traceback (most recent call last):")
    assert err.endswith("\nerror: train digits: lr must be above 0 and finite, got lr=0.0\n")


def test_without_typer(tmp_path: Path) -> None:
    code = "import sys; sys.modules['typer'] = None; from gpunn.cli import main; main()"
    ended = subprocess.run([sys.executable, "-c", code, "info"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.fullmatch(r"error: the command gpunn needs .*typer.*: pip install .*\[train\].\n", ended.stderr)


def test_json(command: Command) -> None:
    facts = json.loads(command("draw", "activations", "--out", "a.png", "--json").out)
    assert facts["file"] == "a.png"
    assert "ReLU" in facts["activations"]
    assert json.loads(command("--json", "info").out)["numpy"] == {"version": np.__version__}


def test_a_drawing_is_not_written_over_another(command: Command) -> None:
    for which in ("activations", "skeleton"):
        name = f"mein bild ü {which}.png"
        assert command("draw", which, "--out", name)[0] == 0
        before = Path(name).read_bytes()
        Path(name).write_bytes(b"mine")
        told = f"error: {name}: there is such a file already; --force writes over it\n"
        assert command("draw", which, "--out", name) == (2, "", told)
        assert Path(name).read_bytes() == b"mine"
        assert command("draw", which, "--out", name, "--force")[0] == 0
        assert Path(name).read_bytes() == before

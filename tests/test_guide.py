"""The guide: its blocks run and print what they say, its commands are understood, a terminal shows it."""

from __future__ import annotations

import io
import json
import re
import shlex
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from cli_case import Command, Terminal

import gpunn
from gpunn.guide import PARTS, contents, page
from gpunn.guide.site import REFERENCE, build

ROOT = Path(gpunn.__file__).parents[1]
PAGES = [name for names in contents().values() for name in names]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXTS = {"README": README} | {name: page(name) for name in PAGES}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.S | re.M)


# ---- what stands in it ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in PAGES if blocks(page(name), "python")])
def test_the_program_of_a_page_prints_what_it_says(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is printed stands behind each print, or below."""
    monkeypatch.chdir(tmp_path)
    code = "\n".join(blocks(TEXTS[name], "python"))
    exec(compile(code, f"{name}.md", "exec"), {"__name__": name})
    assert capsys.readouterr().out.splitlines() == re.findall(r"print\(.*\)\s+# (.*)", code)


def commands(text: str) -> list[list[str]]:
    """The words behind ``gpunn`` of each command in sh blocks and, where the whole is code, in the text."""
    lines = [line for block in blocks(text, "sh") for line in block.replace("\\\n", " ").splitlines()]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    lines += [line for line in re.findall(r"`([^`]+)`", prose) if line.startswith("gpunn ")]
    found = []
    for line in lines:
        for part in re.split(r"&&|;|\||>", line):
            words = shlex.split(part, comments=True)
            starts = [place for place, word in enumerate(words) if word == "gpunn" and place + 1 < len(words)]
            if starts and words[0] not in ("git", "docker", "cd"):
                found.append(words[starts[-1] + 1 :])
    return found


@pytest.mark.parametrize("name", TEXTS)
def test_commands_are_understood(name: str, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typer.core.TyperCommand, "invoke", lambda self, context: None)
    for words in commands(TEXTS[name]):
        ended = command(*words)
        assert ended.code == 0 or words[-1] == "..." or len(words) == 1, (words, ended.err)


@pytest.mark.parametrize("name", TEXTS)
def test_extras_that_are_named_are_there(name: str) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for named in re.findall(r"(?:gpunn|\.)\[([\w,]+)\]", TEXTS[name]):
        assert set(named.split(",")) <= set(extras)


def test_install_names_every_extra_and_only_those() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", page("install").partition("## Operating")[0], re.M)
    assert {name for row in rows for name in re.findall(r"\w+", row)} | {"count"} == set(extras)


def test_links_lead_to_pages() -> None:
    for name in PAGES:
        for to in re.findall(r"\]\(([^):]+)\)", TEXTS[name]):
            assert to.partition("#")[0].removesuffix(".md") in PAGES, (name, to)
    for to in re.findall(r"\]\(gpunn/guide/([\w-]+)\.md\)", README):
        assert to in PAGES


def test_every_page_has_its_part() -> None:
    assert list(contents()) == list(PARTS)


# ---- in the terminal -----------------------------------------------------------------------------------------------


def test_pages_are_listed_and_shown(command: Command) -> None:
    assert [line.split()[0] for line in command("guide").out.splitlines()] == PAGES
    code, out, err = command("guide", "weights")
    assert (code, out.strip(), err) == (0, page("weights").strip(), "")
    listed = json.loads(command("guide", "--json").out)["pages"]
    assert listed["Come from elsewhere"]["cudnn"] == "Code written for cupy.cudnn"
    shown = json.loads(command("guide", "weights", "--json").out)
    assert shown == {"page": "weights", "text": page("weights")}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trainning"], "guide: there is no page 'trainning'; did you mean 'training'?"),
        (["../cudnn"], "guide: there is no page '../cudnn'; did you mean 'cudnn'?"),
        (["xyz"], f"guide: there is no page 'xyz'; there are {', '.join(PAGES)}"),
        (["data", "--html", "x"], "guide: --html writes all pages, so it takes no PAGE"),
    ],
)
def test_what_is_mistyped(words: list[str], message: str, command: Command) -> None:
    assert command("guide", *words) == (2, "", f"error: {message}\n")


class AsciiTerminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def test_a_terminal_of_40_ascii_columns_shows_every_page(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    for name in ([], *([name] for name in PAGES)):
        terminal: Any = AsciiTerminal(io.BytesIO(), encoding="ascii", write_through=True)
        monkeypatch.setattr(sys, "stdout", terminal)
        assert command("guide", *name).code == 0
        shown = re.sub("\x1b\\[[\\d;]*m", "", terminal.buffer.getvalue().decode("ascii"))
        assert max(map(len, shown.splitlines())) <= 40, name
        assert not re.search(r"\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\.md\)", shown), name


def test_every_page_goes_into_a_file_in_ascii(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PAGES:
        file = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
        monkeypatch.setattr(sys, "stdout", file)
        assert command("guide", name).code == 0
        assert not re.search(rb"\\x[0-9a-f]{2}|\\u[0-9a-f]{4}", file.buffer.getvalue()), name  # type: ignore[attr-defined]


def test_a_wide_terminal(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert command("guide", "large-batches").code == 0
    shown = sys.stdout.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[" in shown
    assert "√" in shown
    assert 80 < max(map(len, re.sub("\x1b\\[[\\d;]*m", "", shown).splitlines())) <= 100


# ---- as web pages --------------------------------------------------------------------------------------------------


def test_the_reference_has_every_room() -> None:
    rooms = {path.parent.name for path in (Path(gpunn.__file__).parent / "ops").glob("*/__init__.py")}
    assert {name.rpartition(".")[2] for name in REFERENCE if ".ops." in name} == rooms - {"shared"}


def test_a_fault_is_told_and_nothing_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("pdoc", reason="pdoc is not installed")
    texts = {"one": "# One\n\n[two](two.md) and [lost](lost.md)\n", "two": "# Two\n"}
    monkeypatch.setattr("gpunn.guide.site.contents", lambda: {"Begin": list(texts)})
    monkeypatch.setattr("gpunn.guide.site.page", texts.__getitem__)
    monkeypatch.setattr("gpunn.guide.site.REFERENCE", ("gpunn.errors",))
    with pytest.raises(gpunn.errors.DataError) as caught:
        build(tmp_path / "site")
    assert str(caught.value) == "guide: 1 faults in the pages\nguide/one.html: leads to lost.html, which there is not"
    assert not (tmp_path / "site").exists()
    texts["one"] = "# One\n\n[two](two.md), `gpunn.errors.ShapeError`\n\n```python\nf().two\n```\n"
    assert [path.name for path in build(tmp_path / "a site ü")][:2] == ["index.html", "guide.html"]
    written = (tmp_path / "a site ü" / "guide" / "one.html").read_text()
    assert 'href="../gpunn/errors.html#ShapeError"' in written
    assert '<span class="p">()</span><span class="o">.</span><span class="n">two</span>' in written  # not the page

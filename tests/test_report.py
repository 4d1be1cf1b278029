"""The page of a run, as the file says; a browser's view of it is in test_report_browser.py."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from report_case import CONFIG, SUMMARY, lines, make_run, record, save_arrays

from gpunn import cli, plot
from gpunn.errors import FileError
from gpunn.plot import figure
from gpunn.recipes.catalogue import RECIPES
from gpunn.recipes.digits import Options, train_digits
from gpunn.report import about as run
from gpunn.report import redraw, write_page
from gpunn.report.figures import CAPTIONS
from gpunn.runs import records

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u2028\u2029&lt;\"'"


class Page(HTMLParser):
    """A page as a parser sees it: its elements, and the text in some of them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._open = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = f"{tag} {dict(attrs).get('id', '')}".strip()

    def handle_data(self, data: str) -> None:
        self.texts[self._open] = self.texts.get(self._open, "") + data

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    @property
    def state(self) -> Any:
        return json.loads(self.texts["script state"])


def write(folder: Path) -> Page:
    write_page(folder, folder / "page.html")
    return Page(folder / "page.html")


# ---- the records ---------------------------------------------------------------------------------------------------


def test_every_number_is_on_the_page_as_it_is_written(tmp_path: Path) -> None:
    metrics = lines(record(1), record(2, lr=1e-05), record(3, test_accuracy=1.0, train_loss=1e22))
    state = write(make_run(tmp_path, metrics)).state
    for line, told in zip(metrics.splitlines(), state["lines"], strict=True):
        fields = {name: (text, number) for name, text, number in told["fields"]}
        assert {name: number for name, (_, number) in fields.items()} == json.loads(line)
        assert "{" + ", ".join(f'"{name}": {text}' for name, (text, _) in fields.items()) + "}" == line
    assert [line["number"] for line in state["lines"]] == [1, 2, 3]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"epoch": 2, "train_lo', "not JSON: Unterminated string"),
        (b"[1, 2]", "an object is needed, not [1, 2]"),
        (b"3.5", "an object is needed, not 3.5"),
        (b"\xff\xfe\xfa", "can't decode"),
        (b'{"epoch": 2, "train_loss": NaN}', "train_loss is not finite: NaN"),
        (b'{"epoch": 2, "train_loss": 1e999}', "train_loss is not finite: 1e999"),
        (b'{"epoch": ' + b"9" * 400 + b"}", "too large"),
        (b'{"epoch": ' + b"9" * 5000 + b"}", "limit"),
        (b"[" * 60_000, "recursion"),
        (b"[" * 100_000, "longer than 64 KiB"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_damaged_line_is_named_and_the_others_are_shown(line: bytes, reason: str, tmp_path: Path) -> None:
    make_run(tmp_path, "")
    whole = [lines(record(n)).encode() for n in (1, 2)]
    (tmp_path / "metrics.jsonl").write_bytes(whole[0] + line + b"\n" + whole[1])
    problems = write_page(tmp_path, tmp_path / "page.html")
    state = Page(tmp_path / "page.html").state
    assert len(problems) == 1
    assert problems[0].startswith("metrics.jsonl, line 2: ")
    assert reason in problems[0]
    assert [told["problem"] for told in state["lines"]] == [None, problems[0], None]
    assert [told["fields"][0][2] for told in state["lines"] if told["fields"]] == [1, 2]


def test_values_that_are_no_numbers(tmp_path: Path) -> None:
    (line,) = records.parse(b'{"epoch": 1, "cell": "12", "flag": true, "none": null, "list": [0.5, {"a": 1}]}')
    assert [(name, text, number) for name, text, number in line.fields] == [
        ("epoch", "1", 1), ("cell", "12", None), ("flag", "true", None), ("none", "none", None),
        ("list", '[0.5, {"a": 1}]', None),
    ]  # fmt: skip


# ---- the rest of the state -----------------------------------------------------------------------------------------


def test_what_the_files_say_is_on_the_page(tmp_path: Path) -> None:
    about = write(make_run(tmp_path / "mine", lines(record(1)), SUMMARY)).state["about"]
    assert (about["name"], about["recipe"], about["status"], about["epochs"]) == ("mine", "digits", "finished", 5)
    assert about["headline"] == "test accuracy 90.00% after 5 epochs, 1.5 s"
    assert dict(about["config"]) == {name: str(v).replace("F", "f") for name, v in CONFIG.items() if name != "recipe"}
    assert dict(about["summary"]) == {
        "test_accuracy": "0.9", "test_loss": "0.25", "parameters": "1234", "seconds": "1.5", "epochs": "5",
        "steps": "10",
    }  # fmt: skip
    assert dict(about["environment"]) == {
        "versions gpunn": "0.1.0", "versions numpy": "2.4.6", "device": "cpu", "emulate": "false",
    }  # fmt: skip
    assert about["problems"] == []


def test_a_run_that_has_just_begun(tmp_path: Path) -> None:
    page = write(make_run(tmp_path))
    assert (page.state["about"]["status"], page.state["about"]["headline"]) == ("unfinished", None)
    assert (page.state["lines"], page.state["figures"]) == ([], [])


def test_the_old_summary_of_a_resumed_run_is_not_believed(tmp_path: Path) -> None:
    make_run(tmp_path, lines(record(1)), SUMMARY | {"status": "interrupted"})
    assert run.about(tmp_path)["status"] == "interrupted"
    later = (tmp_path / "summary.json").stat().st_mtime + 2
    os.utime(tmp_path / "metrics.jsonl", (later, later))
    assert run.about(tmp_path)["status"] == "unfinished"
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY))  # finished: it cannot have gone on
    os.utime(tmp_path / "metrics.jsonl", (later + 2, later + 2))
    assert run.about(tmp_path)["status"] == "finished"


@pytest.mark.parametrize("summary", ["{", "[]", '{"status": 3, "test_accuracy": "high"}', '{"status": "finished"}'])
def test_a_summary_that_is_no_summary(summary: str, tmp_path: Path) -> None:
    make_run(tmp_path, lines(record(1)))
    (tmp_path / "summary.json").write_text(summary)
    problems = write_page(tmp_path, tmp_path / "page.html")
    assert Page(tmp_path / "page.html").state["about"]["headline"] is None
    assert [str(tmp_path / "summary.json") in problem for problem in problems] == [True] * ("status" not in summary)


def test_a_recipe_that_is_not_known(tmp_path: Path) -> None:
    about = write(make_run(tmp_path, lines(record(1)), SUMMARY, recipe="my-own")).state["about"]
    assert (about["recipe"], about["status"], about["headline"]) == ("my-own", "finished", None)


def test_the_sample_of_a_text(tmp_path: Path) -> None:
    folder = make_run(tmp_path, lines(record(1)), SUMMARY | {"test_bits_per_character": 2.0}, recipe="text")
    (folder / "sample.txt").write_text("Once\n")
    about = write(folder).state["about"]
    assert (about["sample"], about["headline"]) == ("Once\n", "test bits/character 2.000 after 5 epochs, 1.5 s")


@pytest.mark.parametrize("name", ["none", "empty", "file"])
def test_what_is_no_run(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for act in (redraw, lambda folder: write_page(folder, tmp_path / "page.html")):
        with pytest.raises(FileError, match=re.escape(str(tmp_path / name))):
            act(tmp_path / name)
    assert not (tmp_path / "page.html").exists()


def test_a_page_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot be written"):
        write_page(make_run(tmp_path / "run"), tmp_path / "file" / "page.html")


# ---- nothing but this file -----------------------------------------------------------------------------------------


def test_the_page_asks_for_nothing_and_runs_nothing_else(tmp_path: Path) -> None:
    page = write(make_run(tmp_path, lines(record(1)), SUMMARY))
    for tag, attributes in page.elements:
        assert not set(attributes) & {"src", "srcset", "action", "onload", "onclick", "style"}, (tag, attributes)
        assert attributes.get("href", "data:").startswith("data:"), (tag, attributes)
    policy = next(a["content"] for t, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["connect-src"] == rules["base-uri"] == "'none'"
    assert rules["img-src"] == "data:"
    for tag in ("style", "script"):  # the hash is that of the text between the tags
        digest = base64.b64encode(hashlib.sha256(page.texts[tag].encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    assert "http" not in re.sub(r"http://www.w3.org/2000/svg|http-equiv", "", (tmp_path / "page.html").read_text())


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    innocent = write(make_run(tmp_path / "innocent", lines(record(1)), SUMMARY))
    folder = make_run(
        tmp_path / "<script>alert(3)<", lines(record(1, cell=HOSTILE) | {HOSTILE: 1}),
        SUMMARY | {"status": HOSTILE, "error": HOSTILE, "classes": [HOSTILE], HOSTILE: HOSTILE},
        images=HOSTILE, recipe=HOSTILE,
    )  # fmt: skip
    (folder / "sample.txt").write_text(HOSTILE, encoding="utf-8")
    page = write(folder)
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in innocent.elements]
    assert not set("<>&\u2028\u2029") & set(page.texts["script state"])  # not even the beginning of a tag
    about = page.state["about"]
    assert dict(about["config"])["images"] == about["error"] == about["sample"] == about["recipe"] == HOSTILE
    assert page.texts["title"] == page.texts["h1 name"] == "<script>alert(3)<"


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    try:
        folder = make_run(tmp_path / "run-\udcff", "")
    except (OSError, UnicodeError):
        pytest.skip("this file system has no such names")
    assert write(folder).state["about"]["name"] == "run-�"


# ---- figures -------------------------------------------------------------------------------------------------------


def test_every_figure_of_the_recipes_has_its_caption() -> None:
    made = {name for recipe in RECIPES for name in recipe.files() if name.endswith((".png", ".gif"))}
    assert made - {"curves.png"} == set(CAPTIONS)


def test_the_figures_are_in_the_page(tmp_path: Path) -> None:
    folder, _ = train_digits(Options(epochs=1, batch_size=256), tmp_path / "run")
    figures = {figure["name"]: figure for figure in write(folder).state["figures"]}
    assert list(figures) == ["confusion.png", "misclassified.png", "filters.png"]
    for name in ("confusion.png", "misclassified.png"):
        kind, content = figures[name]["src"].split(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(content) == (folder / name).read_bytes()
    assert base64.b64decode(figures["filters.png"]["src"].split(",")[1]).startswith(b"\x89PNG")


def test_only_whole_images_that_the_run_made_are_taken(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", "")
    plot.confusion(np.eye(2, dtype=int), folder / "whole.png", ["a", "b"])
    whole = (folder / "whole.png").read_bytes()
    (folder / "confusion.png").write_bytes(whole[:-20])
    (folder / "misclassified.png").write_bytes(b"<svg onload='alert(1)'>")
    (folder / "surface.png").symlink_to(folder / "whole.png")
    (folder / "norms.png").mkdir()
    (folder / "clipping.png").touch()
    with (folder / "gradients.png").open("wb") as file:
        file.truncate(17 * 2**20)
    (folder / "other.png").write_bytes(whole)
    figures = {figure["name"]: figure.get("problem") for figure in write(folder).state["figures"]}
    assert figures == {
        "confusion.png": f"{folder / 'confusion.png'}: the image is cut short",
        "misclassified.png": f"{folder / 'misclassified.png'}: not a PNG image",
        "clipping.png": f"{folder / 'clipping.png'}: not a PNG image",
        "gradients.png": f"{folder / 'gradients.png'}: an image of over 16 MiB",
    }
    assert len(write_page(folder, tmp_path / "page.html")) == 4


@pytest.mark.parametrize(
    ("weight", "kind"),
    [
        (np.zeros((1, 1, 5000, 2), np.float32), "F32[1, 1, 5000, 2]"),
        (np.zeros((300, 300, 8, 8), np.float16), "F16[300, 300, 8, 8]"),
        (np.zeros((1, 1, 3, 3), np.uint8), "U8[1, 1, 3, 3]"),
    ],
)
def test_what_is_not_drawn_as_filters(weight: np.ndarray[Any, Any], kind: str, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", "")
    save_arrays(folder, conv_weight=weight)
    said = f"{folder / 'model.safetensors'}: 'conv.weight' is {kind}, which is not drawn as filters"
    assert write_page(folder, tmp_path / "page.html") == [said]


def test_after_a_hundred_lines_that_cannot_be_read_the_rest_is_left(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", "1\n" * 5000 + "{}\n")
    problems = write_page(folder, tmp_path / "page.html")
    assert problems[0] == "metrics.jsonl, line 1: an object is needed, not 1"
    assert problems[100:] == ["metrics.jsonl, line 101: not read, after 100 that cannot be"]


def test_filters_are_those_of_the_first_convolution(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    drawn = []
    monkeypatch.setattr(plot, "filters", lambda weight, path: (drawn.append(weight), Path(path).write_bytes(b"")))
    second, tenth = (np.full((2, 1, 3, 3), value, np.float32) for value in (2, 10))
    save_arrays(
        make_run(tmp_path), **{"10_weight": tenth, "2_weight": second, "1_weight": np.ones((4, 4)),
        "0_weight": np.ones((3, 3, 1, 1), np.float32)},
    )  # fmt: skip
    assert redraw(tmp_path) == [tmp_path / "filters.png"]
    np.testing.assert_array_equal(drawn[0], second)


def test_weights_that_cannot_be_read_are_a_problem_of_the_page(tmp_path: Path) -> None:
    make_run(tmp_path, lines(record(1)))
    (tmp_path / "model.safetensors").write_bytes(b"\x10\x00")
    (problem,) = write_page(tmp_path, tmp_path / "page.html")
    assert problem.startswith(f"{tmp_path / 'model.safetensors'}: not a whole safetensors file")
    with pytest.raises(FileError, match="not a whole safetensors file"):
        redraw(tmp_path)


# ---- figures drawn again -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_redrawn_figures_are_those_of_the_run(tmp_path: Path) -> None:
    folder, _ = train_digits(Options(epochs=2, batch_size=256), tmp_path / "run")
    before = {name: (folder / name).read_bytes() for name in ("curves.png", "confusion.png", "misclassified.png")}
    (folder / "curves.png").unlink()
    assert redraw(folder) == [folder / "curves.png", folder / "filters.png"]
    assert {name: (folder / name).read_bytes() for name in before} == before
    with Image.open(folder / "filters.png") as image:
        image.load()


def test_curves_of_several_cells_and_of_damaged_lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sheets: list[Any] = []
    monkeypatch.setattr(figure, "save", lambda sheet, path: sheets.append(sheet))
    both = [record(epoch, cell=cell) for epoch in (1, 2, 3) for cell in ("rnn", "gru")]
    make_run(tmp_path, lines(*both[:3]) + '{"epoch"\n' + lines(*both[3:], {"cell": "gru", "epoch": 4}, {"note": 1}))
    with pytest.warns(RuntimeWarning, match=r"metrics.jsonl, line 4: not JSON: .*; the rest is drawn"):
        assert redraw(tmp_path) == [tmp_path / "curves.png"]
    loss = {line.get_label(): line.get_xydata().tolist() for line in sheets[0].axes[0].lines}
    for cell in ("rnn", "gru"):
        own = [r for r in both if r["cell"] == cell]
        assert loss[f"{cell.upper()}, training"] == [[r["epoch"], r["train_loss"]] for r in own]


@pytest.mark.parametrize("metrics", [None, "", "{}\n", '{"epoch": 1}\n', '{"train_loss": 1.0}\n', '{"epoch": "a"}\n'])
def test_nothing_to_draw_from(metrics: str | None, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="nothing to draw from: metrics.jsonl has no epoch, and"):
        redraw(make_run(tmp_path, metrics))
    assert write(tmp_path).state["about"]["name"] == tmp_path.name  # the page is not in want of epochs


# ---- the command ---------------------------------------------------------------------------------------------------


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["gpunn", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


@pytest.mark.filterwarnings("default:.*the rest is drawn")
def test_plot(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", lines(record(1)) + "{\n", SUMMARY)
    assert command(monkeypatch, "plot", folder) == 0
    drawn = capsys.readouterr()
    assert drawn.out == f"drawn: {folder / 'curves.png'}\n"
    assert drawn.err.startswith(f"warning: {folder}: metrics.jsonl, line 2: not JSON")
    assert command(monkeypatch, "plot", folder, "--html") == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"the page of {folder}: {folder / 'report.html'}"
    assert told[1].startswith("not readable: metrics.jsonl, line 2: not JSON")
    assert len(told) == 2
    assert Page(folder / "report.html").state["about"]["name"] == "run"
    assert command(monkeypatch, "plot", folder, "--html", "--out", tmp_path / "a" / "b.html", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["file"] == str(tmp_path / "a" / "b.html")
    assert len(facts["problems"]) == 1
    assert (tmp_path / "a" / "b.html").read_bytes() == (folder / "report.html").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("plot", "none"), "none: holds no run that was begun"),
        (("plot", "none", "--html"), "none: holds no run that was begun"),
        (("plot", "run", "--out", "a.html"), "plot: --out names the file of the page, so it needs --html"),
        (("plot", "run"), "run: nothing to draw from"),
        (("watch", "none"), "none: holds no run that was begun"),
        (("watch", "run", "--port", "70000"), "watch: port must be from 0 to 65535, got port=70000"),
        (("watch", "run", "--host", "no such host"), "watch: cannot listen at port 8470 of 'no such host': "),
        (("watch", "run", "--host", "192.0.2.1"), "watch: cannot listen at port 8470 of '192.0.2.1': "),
    ],
)
def test_the_users_mistakes(
    arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    make_run(Path("run"))
    assert command(monkeypatch, *arguments) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"error: {message}")

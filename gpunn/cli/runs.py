"""Runs that are opened again: ``gpunn eval``, ``gpunn predict``, ``gpunn compare`` and ``gpunn export``."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gpunn.cli import help
from gpunn.cli.output import check_new, complain, table, tell
from gpunn.errors import ArgumentError, FileError

_FOLDER = "runs/digits-20260101-120000"
_Run = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.", autocompletion=help.runs)]
_Device = Annotated[
    str | None,
    typer.Option(
        help="cpu, gpu or gpu:N.",
        show_default="where the run was trained, emulated if it was",
        autocompletion=help.devices,
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add the commands to ``app``."""

    @app.command("eval", rich_help_panel=help.LOOK, epilog=help.examples(f"gpunn eval {_FOLDER}"))
    def evaluate(run: _Run, device: _Device = None, data: help.Data = None) -> None:
        """Measure a run on its test data, and what it takes for what."""
        from gpunn.recipes.catalogue import load

        recipe, loaded = load(run, device, data)
        measures, confusion = loaded.evaluate()
        words = [f"{', '.join(map(_measure, measures, measures.values()))}: {run} ({loaded.weights})"]
        words += [_confusion_table(counts, reader) for reader, counts in confusion.items()]
        facts = {"recipe": recipe.name} | measures
        if confusion:
            facts["confusion"] = confusion.get("", confusion)
        tell("\n\n".join(words), facts | {"weights": loaded.weights, "folder": run})

    @app.command(
        rich_help_panel=help.LOOK,
        epilog=help.examples(
            f"gpunn predict {_FOLDER} scan.png --top 3",
            "gpunn predict runs/text-20260101-120000 letter.txt --length 80",
        ),
    )
    def predict(
        run: _Run,
        files: Annotated[
            list[Path],
            typer.Argument(
                metavar="FILE",
                help="Images, .npy arrays, tables of points or texts, as the run takes them, or folders of them.",
            ),
        ],
        top: Annotated[int | None, typer.Option(min=1, help="How many classes to name.", show_default="2")] = None,
        length: Annotated[
            int | None, typer.Option(min=0, help="Of a run of text: how many characters to write.", show_default="400")
        ] = None,
        device: _Device = None,
        data: help.Data = None,
    ) -> None:
        """Ask a run about files: a line for each input, with its classes and their probabilities.

        Of a folder it is all files in it and below, but for those whose names begin with a dot. An image of a digit may
        have any size, dark on light or light on dark. A file that cannot be used is named on standard error, and the
        exit code is then 2; the others are done.
        """
        from gpunn.recipes.catalogue import load

        recipe, loaded = load(run, device, data)
        writes = loaded.classes is None
        for name, given, fits in (("--top", top, not writes), ("--length", length, writes)):
            if given is not None and not fits:
                raise ArgumentError(f"predict: {name} is not for a run of train {recipe.name}: {run}")
        settings = {} if length is None else {"length": length}
        bad = 0
        for path in _files(files):
            try:
                if path.is_dir():
                    raise FileError(f"{path}: a folder without a file")
                found = loaded.predict(path, **settings)
            except FileError as error:
                bad += 1
                complain("error", str(error))
                continue
            for each in found:
                (_tell_written if writes else _tell_answer)(path, each, top or 2)
        if bad:
            raise typer.Exit(2)

    @app.command(rich_help_panel=help.LOOK, epilog=help.examples("gpunn compare runs/* --out curves.png"))
    def compare(
        runs: Annotated[
            list[Path],
            typer.Argument(metavar="RUN", help="The folders of runs, done or not.", autocompletion=help.runs),
        ],
        out: Annotated[
            Path | None,
            typer.Option(
                help="A file for the curves of all: .png, .svg, .pdf, .jpg or .webp.", show_default="no figure"
            ),
        ] = None,
        every: Annotated[bool, typer.Option("--all", help="Show options that do not differ, too.")] = False,
    ) -> None:
        """Set runs side by side: the options in which they differ, and what they came to; * marks the best.

        Runs may be of different recipes, of which each has its best, and may still be going on. A folder that cannot be
        read is named on standard error, and the exit code is then 2; the others are compared.
        """
        from gpunn.runs import comparison

        read, bad = {}, 0
        for label, folder in zip(comparison.labels(runs), runs, strict=True):
            try:
                read[label] = comparison.read_run(folder)
            except FileError as error:
                bad += 1
                complain("error", str(error))
        if not read:
            raise typer.Exit(2)
        rows = comparison.compare(read, every)
        words = _comparison_table(rows, read)
        facts: dict[str, Any] = {
            "runs": {label: run.folder for label, run in read.items()},
            "rows": [row._asdict() for row in rows],
        }
        if out is not None:
            comparison.draw(read, out)
            words, facts["file"] = f"{words}\n\ncurves: {out}", out
        tell(words, facts)
        if bad:
            raise typer.Exit(2)

    @app.command(rich_help_panel=help.LOOK, epilog=help.examples(f"gpunn export {_FOLDER} digits.onnx"))
    def export(
        run: _Run,
        file: Annotated[Path, typer.Argument(metavar="FILE", help="The ONNX file to write.")],
        force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
        data: help.Data = None,
    ) -> None:
        """Write the model of a run as ONNX, with its options and the names of its classes.

        A model of text has the recurrent state before its input as another input, zeros at first, gives back the state
        after it, takes texts of any length, and has its alphabet in the file: a program writes text with it letter by
        letter.
        """
        from gpunn.interop.onnx import export as write
        from gpunn.recipes.catalogue import load
        from gpunn.runs.folder import read_config

        check_new(file, force)
        recipe, loaded = load(run, "cpu", data)
        metadata = {"recipe": recipe.name, "config": read_config(run), "classes": loaded.classes}
        settings = dict(loaded.exporting)
        metadata |= settings.pop("metadata", {})
        write(loaded.model, loaded.example, file, metadata=metadata, **settings)
        size = file.stat().st_size
        tell(f"{size:,} bytes of ONNX: {file}", {"file": file, "bytes": size} | metadata)


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    """The paths, and instead of a folder the files in it and below, by name; an empty folder stays."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        found = False
        for place, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                if not name.startswith("."):
                    found = True
                    yield Path(place, name)
        if not found:
            yield path


def _tell_answer(path: Path, answer: Any, top: int) -> None:
    ranked, place, reader = answer.ranked[:top], answer.place, answer.reader
    where = f"{path}{'' if place is None else f'[{place}]'}{'' if reader is None else f' {reader.upper()}'}"
    facts: dict[str, Any] = {"file": path}
    facts |= {} if place is None else {"place": place}
    facts |= {} if reader is None else {"reader": reader}
    facts |= {"class": ranked[0][0], "probability": ranked[0][1]}
    facts["top"] = [{"class": name, "probability": probability} for name, probability in ranked]
    tell(f"{where}: {', '.join(f'{name} {probability:.2%}' for name, probability in ranked)}", facts)


def _tell_written(path: Path, written: Any, _: int) -> None:
    bits = written.bits_per_character
    cost = "" if bits is None else f"{bits:.3f} bits/character, "
    text = json.dumps(written.continuation, ensure_ascii=False)  # in a line
    tell(f"{path}: {cost}goes on {text}", {"file": path} | written._asdict())


def _measure(name: str, value: Any) -> str:
    """A measure in words, those of several networks side by side.

    >>> _measure("test_accuracy", 0.5), _measure("test_loss", {"rnn": 1.0, "gru": 0.25})
    ('test accuracy 50.00%', 'test loss RNN 1.0000, GRU 0.2500')
    """
    form = "{:.2%}" if "accuracy" in name or "exact" in name else "{:.4f}"
    values = value if isinstance(value, Mapping) else {"": value}
    told = ", ".join(f"{key.upper()} {form.format(each)}".strip() for key, each in values.items())
    return f"{name.replace('_per_', '/').replace('_', ' ')} {told}"


def _confusion_table(counts: Mapping[str, Mapping[str, int]], reader: str) -> str:
    """A line for each class: how many there are, how many are right, and what the others were taken for."""
    lines: list[list[str]] = [[reader.upper() or "class", "examples", "right", "taken for"]]
    for name, given in counts.items():
        total = sum(given.values())
        wrong = sorted(((count, other) for other, count in given.items() if other != name), reverse=True)
        errors = ", ".join(f"{other or '(nothing)'} {count}" for count, other in wrong)
        lines.append([name, str(total), f"{given.get(name, 0) / total:.1%}", errors])
    return table(lines, "<>><")


def _comparison_table(rows: Sequence[Any], runs: Iterable[str]) -> str:
    """A line a row, but for the epochs of the best values, which stand behind them."""
    mark = "epoch of "
    epochs = {row.name.removeprefix(mark): row.values for row in rows if row.name.startswith(mark)}
    lines = [["", *runs]]
    for row in rows:
        if not row.name.startswith(mark):
            at = {run: f" ({epoch})" for run, epoch in epochs.get(row.name, {}).items()}
            cells = {
                run: f"{_value(row.name, value)}{'*' * (run in row.best)}{at.get(run, '')}"
                for run, value in row.values.items()
            }
            lines.append([f"{row.name} (epoch)" if at else row.name, *(cells.get(run, "-") for run in runs)])
    return table(lines, "<" + ">" * (len(lines[0]) - 1))


def _value(name: str, value: Any) -> str:
    if not isinstance(value, float):
        return "none" if value is None else value if isinstance(value, str) else json.dumps(value)
    if "accuracy" in name or "exact" in name:
        return f"{value:.2%}"
    return f"{value:.1f}" if name == "seconds" else f"{value:.5g}"

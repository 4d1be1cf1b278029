"""A run folder as one page of HTML that needs nothing else: no network, no server, no other file."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import gpunn
from gpunn.report import about as run
from gpunn.report import figures
from gpunn.runs import records
from gpunn.runs.folder import check_own, write_text


def write_page(folder: Path, path: Path) -> list[str]:
    """Write the page of the run in ``folder`` to ``path``; return what could not be read of the run.

    The page has the curves, the figures, every number of metrics.jsonl as it is written there, the configuration and
    the environment.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "config.json").write_text('{"recipe": "digits"}')
    >>> _ = (folder / "metrics.jsonl").write_text('{"epoch": 1, "train_loss": 0.5}')
    >>> write_page(folder, folder / "report.html")
    []

    Raises FileError if ``folder`` is no run, or ``path`` cannot be written.
    """
    state = state_of(folder)
    if path.absolute().is_relative_to(folder.absolute()):
        check_own(folder, [os.path.relpath(path, folder)])
    write_text(path, static_page(state))
    problems = [*state["about"]["problems"], *(figure.get("problem") for figure in state["figures"])]
    return [text for text in [*problems, *(line["problem"] for line in state["lines"])] if text is not None]


def state_of(folder: Path) -> dict[str, Any]:
    """All that the page shows of a run."""
    return {
        "about": run.about(folder),
        "lines": [line._asdict() for line in records.parse(records.content(folder))],
        "figures": list(figures.embedded(folder)),
    }


def static_page(state: dict[str, Any]) -> str:
    """The page of a :func:`state_of` a run."""
    return _page(state["about"]["name"], state, connect="'none'")


def live_page(name: str) -> str:
    """The page that is told the state by the server that it comes from."""
    return _page(name, None, connect="'self'")


def _page(title: str, state: dict[str, Any] | None, connect: str) -> str:
    parts = files("gpunn.report")
    shell, style, script = ((parts / f"page.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))
    # Inline style and script are allowed by their hashes, so that nothing else inline would run if it got in.
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:; "
        f"connect-src {connect}; base-uri 'none'; form-action 'none'"
    )
    return Template(shell).substitute(
        title=html.escape(title),
        version=html.escape(gpunn.__version__),
        policy=policy,
        style=style,
        script=script,
        state=script_json(state),
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def script_json(value: Any) -> str:
    """``value`` as JSON that may stand inside of a script element, whatever its texts hold.

    >>> script_json("</script>&")
    '"\\\\u003c/script\\\\u003e\\\\u0026"'
    """
    text = json.dumps(value, allow_nan=False)  # in ASCII: the separators U+2028 and U+2029 are escaped too
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")

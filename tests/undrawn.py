"""Runs whose pictures no test looks at: to draw them takes longer than most of the trainings here."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from gpunn.plot import figure

_write = figure.write


def undraw(patch: pytest.MonkeyPatch) -> None:
    """Let a picture be put together as ever, but not drawn: the file has a single pixel."""
    stream = io.BytesIO()
    Image.new("RGB", (1, 1)).save(stream, "PNG")
    pixel = stream.getvalue()
    patch.setattr(figure, "write", lambda draw, path: _write(lambda file: file.write(pixel), path))


def draw(patch: pytest.MonkeyPatch) -> None:
    """Draw, whatever was done by :func:`undraw`."""
    patch.setattr(figure, "write", _write)

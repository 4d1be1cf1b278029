"""Runs whose pictures no test looks at: drawing them takes longer than most of the trainings here."""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gpunn import plot

_DRAWN = {name: getattr(plot, name) for name in plot.__all__}


def undraw(patch: pytest.MonkeyPatch) -> None:
    """Let each function of :mod:`gpunn.plot` that writes a picture write one of a single pixel."""
    stream = io.BytesIO()
    Image.new("RGB", (1, 1)).save(stream, "PNG")
    for name, function in _DRAWN.items():
        signature = inspect.signature(function)
        if "path" in signature.parameters:
            patch.setattr(plot, name, _writes(signature, stream.getvalue()))


def draw(patch: pytest.MonkeyPatch) -> None:
    """Let them draw, whatever was done by :func:`undraw`."""
    for name, function in _DRAWN.items():
        patch.setattr(plot, name, function)


def _writes(signature: inspect.Signature, picture: bytes) -> Callable[..., None]:
    def write(*arguments: Any, **settings: Any) -> None:
        Path(signature.bind(*arguments, **settings).arguments["path"]).write_bytes(picture)

    return write

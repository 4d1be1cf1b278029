"""The exception types of gpunn, and the checks that raise them in one voice.

Every message says the operation, the rule and the values that break it::

    conv2d: groups must divide in_channels, got groups=3, in_channels=8
"""

from __future__ import annotations

import os
import sys
import warnings
from numbers import Integral, Real
from typing import NoReturn

_PACKAGE = os.path.join(os.path.dirname(__file__), "")


class GpunnError(Exception):
    """Base of every error that gpunn raises on purpose."""


class ShapeError(GpunnError, ValueError):
    """An array has the wrong rank, or sizes that do not fit together."""


class ArgumentError(GpunnError, ValueError):
    """An argument has a value outside its range."""


class IndexRangeError(GpunnError, IndexError):
    """An index lies outside of its axis."""


class DtypeError(GpunnError, TypeError):
    """An array has a dtype, or an object is of a type, that is not taken."""


class PackageError(GpunnError, ImportError):
    """An optional package is not installed."""


class DeviceError(GpunnError, RuntimeError):
    """A device is missing, or arrays of different devices were mixed."""


class ExportError(GpunnError, BufferError):
    """An array cannot be handed to another library, or taken from it, as it is."""


class GraphError(GpunnError, RuntimeError):
    """The recorded graph cannot give the gradient that was asked for."""


class GradientError(GpunnError, AssertionError):
    """A gradient is not the slope of its function, or the function has no slope there."""


class BackendError(GpunnError, AssertionError):
    """A function gives other results on one backend than on another."""


class KernelError(GpunnError, RuntimeError):
    """Base of the errors about a CUDA kernel."""


class CompileError(KernelError):
    """A kernel source does not compile, or there is no compiler for it."""


class LaunchError(KernelError):
    """A kernel was called with a grid, a block or arguments that do not fit it."""


class CaptureError(GpunnError, RuntimeError):
    """A computation cannot be captured as a CUDA graph."""


class FileError(GpunnError, OSError):
    """A file or folder cannot be read or written, or holds something else than it should."""


class DataError(GpunnError, RuntimeError):
    """A sample or a batch of a data set cannot be made; the cause is chained to it."""


class DistributedError(GpunnError, RuntimeError):
    """The ranks of a distributed run do not fit together; every one of them raises it."""


class TrainingError(GpunnError, ArithmeticError):
    """Training cannot continue, for instance because the loss is not a number."""


def fail(kind: type[GpunnError], op: str, rule: str, **values: object) -> NoReturn:
    """Raise ``kind`` with the message ``op: rule, got name=value, ...``.

    >>> fail(ShapeError, "conv2d", "groups must divide in_channels", groups=3, in_channels=8)
    Traceback (most recent call last):
    gpunn.errors.ShapeError: conv2d: groups must divide in_channels, got groups=3, in_channels=8
    """
    got = ", ".join(f"{name}={value!r}" for name, value in values.items())
    raise kind(f"{op}: {rule}, got {got}" if got else f"{op}: {rule}")


def check(holds: bool, kind: type[GpunnError], op: str, rule: str, **values: object) -> None:
    """Raise ``kind`` unless ``holds``; see :func:`fail` for the message."""
    if not holds:
        fail(kind, op, rule, **values)


def check_number(op: str, **named: object) -> None:
    """Check that each of the named settings is a real number, of Python or NumPy.

    >>> check_number("dropout", p="0.5")
    Traceback (most recent call last):
    gpunn.errors.ArgumentError: dropout: p must be a number, got p='0.5'
    """
    for name, value in named.items():
        if type(value) is not float and not isinstance(value, Real):  # the second takes ten times as long
            fail(ArgumentError, op, f"{name} must be a number", **{name: value})


def check_sizes(op: str, least: int = 1, /, **named: object) -> None:
    """Check that each of the named settings is an integer of at least ``least``, of Python or NumPy; a bool is none.

    >>> check_sizes("Linear", in_features=3, out_features=0)
    Traceback (most recent call last):
    gpunn.errors.ArgumentError: Linear: out_features must be an integer of at least 1, got out_features=0
    """
    for name, value in named.items():
        valid = isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least
        check(valid, ArgumentError, op, f"{name} must be an integer of at least {least}", **{name: value})


def warn(message: str, category: type[Warning] = RuntimeWarning) -> None:
    """Warn at the innermost line of code that is not gpunn's own: the user's, who called gpunn."""
    level, frame = 1, sys._getframe()
    while frame.f_code.co_filename.startswith(_PACKAGE) and frame.f_back is not None:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def install_command(extras: str, *options: str) -> str:
    """The command that adds ``extras`` of gpunn from where this one came: its checkout, what pip noted, or an index.

    >>> print(install_command("train,cpu"))  # doctest: +ELLIPSIS
    pip install ...[train,cpu]...

    Source: PEP 610, for what pip notes of an installation that is from no index.
    """
    from shlex import quote

    checkout = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    wanted = _from_folder(checkout, extras) or _from_note(extras) or f"gpunn[{extras}]"
    return " ".join(["pip install", *options, quote(wanted) if os.name == "posix" else f'"{wanted}"'])


def _from_folder(folder: str, extras: str) -> str | None:
    """What pip is to be told of a checkout; None if the folder is none."""
    try:
        with open(os.path.join(folder, "pyproject.toml"), encoding="utf-8") as file:
            if 'name = "gpunn"' not in file.read():
                return None
        here = os.path.samefile(folder, ".")
    except OSError:
        return None
    return f"{'.' if here else folder}[{extras}]"


def _from_note(extras: str) -> str | None:
    """What pip is to be told again, if it noted a folder, a file or a repository; None for an index."""
    import json
    from importlib.metadata import PackageNotFoundError, distribution
    from urllib.parse import urlparse
    from urllib.request import url2pathname

    try:
        note = json.loads(distribution("gpunn").read_text("direct_url.json") or "null")
        url = str(note["url"])
        if "dir_info" in note:
            return _from_folder(url2pathname(urlparse(url).path), extras)
        version = note.get("vcs_info", {})
        url = f"{version['vcs']}+{url}@{version['commit_id']}" if version else url
    except (PackageNotFoundError, ValueError, TypeError, KeyError):  # it was never installed, or not by pip
        return None
    return f"gpunn[{extras}] @ {url}"

"""The exception types of gpunn, and the checks that raise them in one voice.

Every message says the operation, the rule and the values that break it::

    conv2d: groups must divide in_channels, got groups=3, in_channels=8
"""

from __future__ import annotations

from numbers import Integral, Real
from typing import NoReturn


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

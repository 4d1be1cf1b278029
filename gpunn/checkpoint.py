"""Weights on disk, as safetensors: a header of names, dtypes and shapes, then the raw numbers. Nothing is unpickled.

Source of the format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from gpunn.backend import to_cpu
from gpunn.errors import FileError, GpunnError, PackageError
from gpunn.files import write_atomically
from gpunn.nn import Module


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise PackageError(f'weights are kept as safetensors ({error}): pip install "gpunn[train]"') from error
    return safetensors


def save_weights(module: Module, path: str | os.PathLike[str]) -> None:
    """Write the parameters and buffers of ``module`` to ``path``, by the names of its ``state_dict``.

    The file appears whole or not at all, and equal weights give equal bytes. (So no metadata: safetensors writes
    several keys in a random order.)

    >>> import tempfile, gpunn.nn
    >>> path = Path(tempfile.mkdtemp(), "w.safetensors")
    >>> save_weights(gpunn.nn.Linear(3, 2), path)
    >>> load_weights(gpunn.nn.Linear(3, 2), path)

    Raises FileError if ``path`` cannot be written.
    """
    content = _safetensors().numpy.save({name: to_cpu(a) for name, a in module.state_dict().items()})
    target = Path(path)
    if not target.parent.is_dir():
        raise FileError(f"{target}: the weights cannot be written: No such folder: {target.parent}")
    try:
        write_atomically(target, content, durable=True)
    except OSError as error:
        raise FileError(f"{target}: the weights cannot be written: {error.strerror or error}") from error


def load_weights(module: Module, path: str | os.PathLike[str]) -> None:
    """Read the parameters and buffers of ``module`` from ``path``; names, shapes and dtypes must be the module's.

    Raises FileError, which names the path and what is wrong: no such file, no safetensors, cut short, or made for
    another network. The module is then as it was.
    """
    safetensors = _safetensors()
    try:
        weights = safetensors.numpy.load(Path(path).read_bytes())
    except OSError as error:
        raise FileError(f"{path}: the weights cannot be read: {error.strerror or error}") from error
    except (safetensors.SafetensorError, KeyError) as error:  # KeyError: a dtype that NumPy does not have
        raise FileError(f"{path}: not a whole safetensors file: {error}") from error
    own = {name: (a.shape, a.dtype) for name, a in module.state_dict().items()}
    for name in sorted(own.keys() | weights.keys()):
        if name not in weights:
            raise FileError(f"{path}: made for another network: it lacks {name!r}")
        if name not in own:
            raise FileError(f"{path}: made for another network: its {name!r} is unknown here")
        shape, dtype = own[name]
        read = weights[name]
        if (read.shape, read.dtype) != (shape, dtype):
            raise FileError(
                f"{path}: made for another network: {name!r} is {read.dtype}{list(read.shape)}, "
                f"where {dtype}{list(shape)} is needed"
            )
    try:
        module.load_state_dict(weights)
    except GpunnError as error:
        raise FileError(f"{path}: {error}") from error

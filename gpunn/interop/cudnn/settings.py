"""Handles and the size of the workspace, which cuDNN needs, and nothing here."""

from __future__ import annotations

from gpunn.ops.shared.checks import integer

_workspace = [8 * 1024 * 1024]


def get_handle() -> int:
    """0, for the arguments called ``handle``, which nothing here reads.

    >>> get_handle()
    0
    """
    return 0


def get_max_workspace_size() -> int:
    """What :func:`set_max_workspace_size` set last, 8 MiB at first."""
    return _workspace[0]


def set_max_workspace_size(size: int) -> None:
    """Keep a number of bytes for :func:`get_max_workspace_size`: it limits cuDNN's memory, and changes nothing here.

    >>> before = get_max_workspace_size()
    >>> set_max_workspace_size(2**20)
    >>> get_max_workspace_size()
    1048576
    >>> set_max_workspace_size(before)
    """
    _workspace[0] = integer("cudnn.set_max_workspace_size", "size", size, 0)

"""Differentiable transfer between devices."""

from __future__ import annotations

from gpunn.backend import asarray, check_array, check_device, device_of
from gpunn.functional.record import X, differentiable, raw


def to_device(x: X, device: str) -> X:
    """``x`` on ``device`` (``"cpu"``, ``"gpu"`` or ``"gpu:N"``); ``x`` itself if it is there already.

    The gradient goes back to the device of ``x``. Raises DeviceError for a GPU that cannot be reached.

    >>> import numpy as np
    >>> x = np.ones(2)
    >>> to_device(x, "cpu") is x
    True
    """
    xd, device = raw(x), check_device(device)
    check_array("to_device", x=xd)
    home = device_of(xd)
    if device == home:
        return x
    return differentiable(asarray(xd, device=device), (x,), lambda gy, _: (asarray(gy, device=home),))

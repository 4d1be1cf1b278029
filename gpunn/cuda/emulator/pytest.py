"""A fixture for tests of kernels: ``pytest -p gpunn.cuda.emulator.pytest``, or in ``conftest.py``
``pytest_plugins = ["gpunn.cuda.emulator.pytest"]``.

A test that asks for ``cuda_module`` runs four times: under checks, and with the threads in three orders, on which the
result of a right kernel does not depend.

    def test_scale(cuda_module):
        x = np.ones(4, np.float32)
        cuda_module(Path("scale.cu").read_text()).get_function("scale")((1,), (4,), (x, np.float32(3)))
        assert (x == 3).all()
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from gpunn.cuda.emulator.module import RawModule

_MODES: dict[str, dict[str, Any]] = {
    "check": {"check": True},
    "forward": {"order": "forward"},
    "reverse": {"order": "reverse"},
    "shuffled": {"order": 1},
}


@pytest.fixture(params=list(_MODES))
def cuda_module(request: Any) -> Callable[..., RawModule]:
    """:class:`gpunn.cuda.emulator.RawModule` in one of its modes; sources are compiled once for all tests."""
    return functools.partial(_compiled, request.param)


def _compiled(mode: str, code: str, *args: Any, **settings: Any) -> RawModule:
    return RawModule(code, *args, **{**settings, **_MODES[mode]})

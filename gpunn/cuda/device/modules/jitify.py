"""In place of cupy.cuda.jitify, which has the CUDA runtime linked into it: it refuses."""

from __future__ import annotations

from typing import NoReturn

_REFUSED = "the emulated device does not serve Jitify: compile without jitify=True"


def get_build_version() -> str:
    return "<unknown>"


def get_cuda_version() -> str:
    from cupy_backends.cuda.api import driver

    return str(driver.get_build_version())


def _init_module() -> NoReturn:
    raise NotImplementedError(_REFUSED)


def _add_sources(sources: dict[str, str], is_str: bool = False) -> NoReturn:
    raise NotImplementedError(_REFUSED)


def jitify(code: str, opt: tuple[str, ...]) -> NoReturn:
    raise NotImplementedError(_REFUSED)

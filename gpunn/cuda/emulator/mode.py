"""What a kernel is compiled for: to run fast, to be checked or to be counted."""

from __future__ import annotations

import enum
import platform
from typing import Literal

from gpunn.errors import ArgumentError

Check = bool | Literal["nan", "infinity"]


class Mode(enum.Enum):
    """The last two checks also watch operations on floats."""

    FAST, COUNT, CHECK, CHECK_NAN, CHECK_INFINITY = range(5)

    @classmethod
    def of(cls, check: Check, count: bool = False) -> Mode:
        """The mode that the arguments of a kernel ask for.

        >>> Mode.of(check=True), Mode.of(check=False, count=True)
        (<Mode.CHECK: 2>, <Mode.COUNT: 1>)

        Raises ArgumentError for both at once, another check, and one of floats where the processor cannot stop at them.
        """
        if check and count:
            raise ArgumentError("emulator: a kernel is checked or counted, got check=True and count=True")
        if isinstance(check, bool):
            return cls.CHECK if check else cls.COUNT if count else cls.FAST
        if check not in ("nan", "infinity"):
            raise ArgumentError(f'emulator: check must be True, False, "nan" or "infinity", got check={check!r}')
        if platform.machine() not in ("x86_64", "AMD64"):
            raise ArgumentError(
                f"emulator: check={check!r} needs an x86-64 processor, which can stop at an operation; this one is"
                f" {platform.machine()}: use check=True"
            )
        return cls.CHECK_NAN if check == "nan" else cls.CHECK_INFINITY

    @property
    def checks(self) -> bool:
        return self not in (Mode.FAST, Mode.COUNT)

    @property
    def floats(self) -> int:
        """Bits of runtime/floats.h."""
        return {Mode.CHECK_NAN: 1, Mode.CHECK_INFINITY: 3}.get(self, 0)

"""How the emulated device is to be, and how that travels to the processes of a program: as an environment variable."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gpunn.errors import ArgumentError, check

VARIABLE = "GPUNN_EMULATED_DEVICE"

CARDS = (75, 80, 86, 89, 90, 100, 120)
"""Compute capabilities, as ``sm_90`` is written; native/attributes.cpp has a card of each."""

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True)
class Settings:
    """What is emulated.

    Attributes:
        devices: how many.
        memory: bytes of each.
        late: let each stream run as late as CUDA allows, so that a missing wait shows.
        check: watch every access of a kernel to memory.
        card: the compute capability: 90 stands for ``sm_90``.

    >>> Settings(devices=2, late=True).text()
    'devices=2 memory=8589934592 card=90 late'
    >>> Settings.parse("devices=2 memory=4G check")
    Settings(devices=2, memory=4294967296, late=False, check=True, card=90)
    """

    devices: int = 1
    memory: int = 8 << 30
    late: bool = False
    check: bool = False
    card: int = 90

    def __post_init__(self) -> None:
        check(1 <= self.devices <= 64, ArgumentError, "device", "there can be 1 to 64 devices", devices=self.devices)
        check(self.memory > 0, ArgumentError, "device", "memory must be positive", memory=self.memory)
        check(self.card in CARDS, ArgumentError, "device", f"card must be one of {CARDS}", card=self.card)

    def text(self) -> str:
        """These settings as one line, which :meth:`parse` reads."""
        words = [f"devices={self.devices}", f"memory={self.memory}", f"card={self.card}"]
        return " ".join([*words, *(["late"] if self.late else []), *(["check"] if self.check else [])])

    @classmethod
    def parse(cls, text: str) -> Settings:
        """The settings that a line describes. Raises ArgumentError that names the word that is wrong."""
        found: dict[str, int | bool] = {}
        for word in text.split():
            name, _, value = word.partition("=")
            if name in ("late", "check") and not value:
                found[name] = True
            elif name == "memory":
                found[name] = parse_bytes(value)
            elif name == "card":
                found[name] = parse_card(value)
            elif name == "devices" and value.isdigit():
                found[name] = int(value)
            else:
                raise ArgumentError(f"{VARIABLE}: unknown setting {word!r} in {text!r}")
        return cls(**found)  # type: ignore[arg-type]


def parse_card(text: str) -> int:
    """A compute capability, written as ``sm_90`` or ``90``.

    >>> parse_card("sm_90")
    90
    """
    cards = {str(card): card for card in CARDS}
    check(text.removeprefix("sm_") in cards, ArgumentError, "device", f"card must be one of {CARDS}", card=text)
    return cards[text.removeprefix("sm_")]


def parse_bytes(text: str) -> int:
    """A number of bytes, written as ``8G`` or ``512M`` (powers of 1024).

    >>> parse_bytes("8G")
    8589934592
    """
    match = re.fullmatch(r"(\d+)([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not match:
        raise ArgumentError(f"device: memory must be a number of bytes as 8G or 512M, got {text!r}")
    return int(match[1]) * _UNITS[match[2].upper()]

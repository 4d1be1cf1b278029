"""Options of recipes: fields of a frozen dataclass that carry their help and bounds.

The command line makes its options from them, and the dataclass checks them, so that both say the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from gpunn.errors import ArgumentError, check


def option(
    default: Any,
    text: str,
    least: int | None = None,
    positive: bool = False,
    choices: tuple[str, ...] = (),
    shown: str | None = None,
) -> Any:
    """A field with a default, a line of help, and what values it takes.

    ``least`` bounds a number from below, ``positive`` asks for a finite number above 0, ``choices`` lists words;
    ``shown`` says in words what the default of None stands for.
    """
    rules = {"text": text, "least": least, "positive": positive, "choices": choices, "shown": shown}
    return field(default=default, metadata=rules)


@dataclass(frozen=True)
class Options:
    """The options of every recipe; a recipe's own come on top.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Mine(Options):
    ...     epochs: int = option(3, "Passes over the data.", least=1)
    >>> Mine(epochs=0)
    Traceback (most recent call last):
    gpunn.errors.ArgumentError: options: epochs must be at least 1, got epochs=0
    """

    command: ClassVar[str] = "options"  # the name that errors begin with
    seed: int = option(0, "Draws every random number of the run.", least=0)
    device: str | None = option(None, "cpu, gpu or gpu:N.", shown="the environment variable GPUNN_DEVICE, or cpu")
    emulate: bool = option(False, "Run the CUDA kernels on the CPU (slow; needs g++ or clang++).")

    def __post_init__(self) -> None:
        for each in fields(self):
            name, value, rules = each.name, getattr(self, each.name), each.metadata
            if rules["least"] is not None:
                rule = f"{name} must be at least {rules['least']}"
                check(value >= rules["least"], ArgumentError, self.command, rule, **{name: value})
            if rules["positive"]:
                rule = f"{name} must be above 0 and finite"
                check(0 < value < math.inf, ArgumentError, self.command, rule, **{name: value})
            if rules["choices"]:
                rule = f"{name} must be one of {', '.join(rules['choices'])}"
                check(value in rules["choices"], ArgumentError, self.command, rule, **{name: value})

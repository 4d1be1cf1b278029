"""Quantities as people write them on a command line: rates, times, sizes, numbers of ranks."""

import re
from collections.abc import Mapping
from itertools import pairwise

from gpunn.errors import ArgumentError, check

_TIMES = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
_SIZES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_RATES = {f"{unit}/s": float(factor) for unit, factor in _SIZES.items()}
_RATES |= {f"{prefix}bit/s": factor / 8 for prefix, factor in {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}.items()}
_MOST_RANKS = 2**20


def rate(name: str, text: str) -> float:
    """Bytes a second; ``name`` is that of the option.

    >>> rate("--link", "50GB/s"), rate("--link", "25 Gbit/s")
    (50000000000.0, 3125000000.0)
    >>> rate("--link", "50Gb/s")
    Traceback (most recent call last):
    gpunn.errors.ArgumentError: plan: --link must be a rate above 0 like 50GB/s or 25Gbit/s, got --link='50Gb/s'
    """
    found = _parsed(text, _RATES)
    check(found > 0, ArgumentError, "plan", f"{name} must be a rate above 0 like 50GB/s or 25Gbit/s", **{name: text})
    return found


def seconds(name: str, text: str) -> float:
    """Seconds of a time of at least 0.

    >>> round(seconds("--step", "120ms"), 3)
    0.12
    """
    found = _parsed(text, _TIMES)
    check(found >= 0, ArgumentError, "plan", f"{name} must be a time like 120ms or 5us", **{name: text})
    return found


def size(name: str, text: str) -> int:
    """Bytes of a size above 0.

    >>> size("--bucket", "25MiB")
    26214400
    """
    found = _parsed(text, _SIZES)
    check(found >= 1, ArgumentError, "plan", f"{name} must be a size above 0 like 25MiB or 1MB", **{name: text})
    return int(found)


def ranks(name: str, text: str) -> list[int]:
    """Numbers of ranks: each twice the one before, ``8..4096``, or a list, ``1,2,4``.

    >>> ranks("--ranks", "8..100"), ranks("--ranks", "1,2,4")
    ([8, 16, 32, 64, 100], [1, 2, 4])
    """
    rule = f"{name} must be numbers from 1 to {_MOST_RANKS} that grow, like 8..4096 or 1,2,4"
    valid = re.fullmatch(r"\d{1,7}\.\.\d{1,7}|\d{1,7}( *, *\d{1,7})*", text.strip(), re.ASCII) is not None
    check(valid, ArgumentError, "plan", rule, **{name: text})
    found = [int(word) for word in re.findall(r"\d+", text)]
    grow = all(before < after for before, after in pairwise(found))
    check(found[0] >= 1 and found[-1] <= _MOST_RANKS and grow, ArgumentError, "plan", rule, **{name: text})
    if ".." in text:
        first, last = found
        found = [first << times for times in range((last // first).bit_length())]
        found += [last] if found[-1] < last else []
    return found


def _parsed(text: str, units: Mapping[str, float]) -> float:
    """The number and its unit; -1 if it is none."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,15})?) *(\D+)", text.strip(), re.ASCII)
    return float(match[1]) * units[match[2]] if match and match[2] in units else -1.0

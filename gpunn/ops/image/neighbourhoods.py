"""Which pixels thinning removes, by their eight neighbours; see :mod:`gpunn.ops.image.skeleton` for the conditions."""

from __future__ import annotations

from typing import Any

import numpy as np

PLACES = {
    "NW": (-1, -1),
    "N": (-1, 0),
    "NE": (-1, 1),
    "W": (0, -1),
    "E": (0, 1),
    "SW": (1, -1),
    "S": (1, 0),
    "SE": (1, 1),
}
"""The neighbours, in the order of their bits in the number of a neighbourhood, with their rows and columns."""

_CIRCLE = ["N", "NE", "E", "SE", "S", "SW", "W", "NW"]

_NEVER, FIRST, SECOND, _BOTH = 0, 1, 2, 3
"""The sub-iterations in which a pixel goes: bit 0 is the first, bit 1 the second."""

_DEPARTURES = {
    _NEVER: ["SE S", "W NW"],
    FIRST: ["N NW", "N NE", "NE E", "N NE E", "N W NW", "N E NW", "N NE W", "S W NW", "N SW W", "N NE SW W"],
    SECOND: ["E SE", "S SW", "SW W", "E SE S", "S SW W", "N E SE", "E S SW", "SE S W", "NE E S SW"],
    _BOTH: ["N E", "E S", "S W", "N W"],
}
"""Where scikit-image decides otherwise than the published conditions."""


def _removal_table() -> np.ndarray[Any, Any]:
    """For each neighbourhood the sub-iterations in which the pixel in its middle goes."""
    table = np.zeros(256, np.uint8)
    for number in range(256):
        there = {name for bit, name in enumerate(PLACES) if number >> bit & 1}
        steps = sum(a not in there and b in there for a, b in zip(_CIRCLE, _CIRCLE[1:] + _CIRCLE[:1], strict=True))
        if 2 <= len(there) <= 6 and steps == 1:
            first = not {"N", "E", "S"} <= there and not {"E", "S", "W"} <= there
            second = not {"N", "E", "W"} <= there and not {"N", "S", "W"} <= there
            table[number] = first * FIRST + second * SECOND
    places = list(PLACES)
    for decision, neighbourhoods in _DEPARTURES.items():
        for names in neighbourhoods:
            table[sum(1 << places.index(name) for name in names.split())] = decision
    return table


REMOVAL = _removal_table()
"""The sub-iterations in which a pixel goes, by the number of its neighbourhood."""

"""The line search of L-BFGS: how far to go along a direction."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gpunn.backend import Array


class Point(NamedTuple):
    """A place on the line: how far it is, the loss there, its slope along the line, and its gradient."""

    t: float
    loss: float
    slope: float
    gradient: Array


_ENOUGH = 1e-4  # of the decrease that the first slope promises
_FLAT = 0.9  # of the first slope


def strong_wolfe(
    evaluate: Callable[[float], Point], start: Point, t: float, longest: float, tolerance: float, most: int
) -> tuple[Point, int]:
    """A point whose loss is low enough and whose slope is flat enough, looked for from t on; and how many were tried.

    ``longest`` is the largest element of the direction: intervals that move no parameter by ``tolerance`` are not
    divided any more. After ``most`` points it is the lowest end of the interval in which one lies. The conditions are
    ``loss <= loss(0) + 1e-4 t slope(0)`` and ``|slope| <= 0.9 |slope(0)|``. Source: Nocedal and Wright 2006,
    algorithms 3.5 and 3.6, with the cubic interpolation of (3.59).

    >>> def parabola(t):
    ...     return Point(t, (t - 3) ** 2, 2 * (t - 3), np.zeros(1))
    >>> found, tried = strong_wolfe(parabola, parabola(0.0), 0.1, 1.0, 1e-9, 25)
    >>> round(float(found.t), 6), tried
    (1.0, 2)
    """

    def too_high(point: Point) -> bool:
        return point.loss > start.loss + _ENOUGH * point.t * start.slope

    def flat(point: Point) -> bool:
        return abs(point.slope) <= -_FLAT * start.slope

    before, new = start, evaluate(t)
    evaluations, tried = 1, 0
    ends = [start, new]
    while tried < most:
        ends = [before, new]
        if too_high(new) or (tried > 1 and new.loss >= before.loss):
            break
        if flat(new):
            return new, evaluations
        if new.slope >= 0:
            break
        further = _lowest(before, new, new.t + 0.01 * (new.t - before.t), 10 * new.t)
        before, new = new, evaluate(further)
        evaluations, tried = evaluations + 1, tried + 1
        ends = [start, new]
    low, high = ends if ends[0].loss <= ends[1].loss else ends[::-1]
    stuck = False
    while tried < most and abs(high.t - low.t) * longest >= tolerance:
        near, far = sorted((low.t, high.t))
        t, margin = _lowest(low, high, near, far), 0.1 * (far - near)
        close = min(far - t, t - near) < margin
        if close and (stuck or t >= far or t <= near):
            t = far - margin if abs(t - far) < abs(t - near) else near + margin
            close = False
        stuck = close
        new = evaluate(t)
        evaluations, tried = evaluations + 1, tried + 1
        if too_high(new) or new.loss >= low.loss:
            high = new
            if high.loss < low.loss:
                low, high = high, low
            continue
        if flat(new):
            return new, evaluations
        low, high = new, (low if new.slope * (high.t - low.t) >= 0 else high)
    return low, evaluations


def _lowest(a: Point, b: Point, least: float, most: float) -> float:
    """Where the cubic through both points, with their slopes, is lowest, within ``[least, most]``."""
    if a.t > b.t:
        a, b = b, a
    gap = np.float64(b.t - a.t)
    bend = a.slope + b.slope - 3 * (b.loss - a.loss) / gap
    square = bend * bend - a.slope * b.slope
    if not square >= 0:
        return (least + most) / 2
    root = np.sqrt(square)
    return float(min(max(b.t - gap * ((b.slope + root - bend) / (b.slope - a.slope + 2 * root)), least), most))

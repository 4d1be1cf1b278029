"""Sums of products over named axes, forward and backward.

    einsum("ij,jk->ik", a, b)[i, k] = sum_j a[i, j] b[j, k]

Letters that the result lacks are summed over. A letter that comes twice in one operand names its diagonal; ``...``
stands for the axes that have no letter, which broadcast; an axis of size 1 broadcasts to another of its letter. The
gradient of an operand is the einsum of the result's gradient and the other operands to the operand's letters; over a
letter that only this operand has, it is constant, and beside a diagonal 0. Half types are computed in float32.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.errors import ArgumentError, ShapeError, check


class Terms(NamedTuple):
    """What an equation means for arrays of given shapes: the letters of their axes, and of the result's."""

    of: list[str]
    """Of each array, without its axes of size 1 that broadcast."""
    shapes: list[tuple[int, ...]]
    """Of each array without those axes."""
    result: str


def einsum(equation: str, *arrays: Array) -> Array:
    """
    >>> import numpy as np
    >>> einsum("ij,j->i", np.ones((2, 3)), np.ones(3)).tolist(), einsum("ii->i", np.eye(2)).tolist()
    ([3.0, 3.0], [1.0, 1.0])

    Raises ArgumentError for an equation that is none, ShapeError for arrays that do not fit it.
    """
    check(isinstance(equation, str), ArgumentError, "einsum", "the equation must be a string", equation=equation)
    xp = operands("einsum", **{f"operand {number}": a for number, a in enumerate(arrays)})
    terms = _terms(equation, tuple(a.shape for a in arrays))
    return _summed(
        xp, [a.reshape(shape) for a, shape in zip(arrays, terms.shapes, strict=True)], terms.of, terms.result
    )


def einsum_backward(gy: Array, equation: str, arrays: Sequence[Array], needs: Sequence[bool]) -> list[Array | None]:
    """The gradient of each of ``arrays``, None where it is not needed."""
    terms = _terms(equation, tuple(a.shape for a in arrays))
    plain = [a.reshape(shape) for a, shape in zip(arrays, terms.shapes, strict=True)]
    return [
        _gradient(gy, terms, plain, number).reshape(arrays[number].shape) if need else None
        for number, need in enumerate(needs)
    ]


def _summed(xp: Any, arrays: Sequence[Array], terms: Sequence[str], result: str) -> Array:
    dtype = accumulation_dtype(arrays[0].dtype)
    wide = [a.astype(dtype, copy=False) for a in arrays]
    return xp.asarray(xp.einsum(f"{','.join(terms)}->{result}", *wide)).astype(arrays[0].dtype, copy=False)


def _gradient(gy: Array, terms: Terms, arrays: Sequence[Array], number: int) -> Array:
    xp: Any = operands("einsum", gy=gy)
    term, shape = terms.of[number], terms.shapes[number]
    own = "".join(dict.fromkeys(term))  # each letter once: the axes of the diagonal, if there is one
    other_terms, others = ([*each[:number], *each[number + 1 :]] for each in (terms.of, arrays))
    met = "".join(letter for letter in own if letter in terms.result or any(letter in each for each in other_terms))
    g = _summed(xp, [gy, *others], [terms.result, *other_terms], met)
    alone = tuple(place for place, letter in enumerate(own) if letter not in met)
    g = xp.broadcast_to(xp.expand_dims(g, alone), [shape[term.index(letter)] for letter in own])
    if own == term:
        return g
    gx = xp.zeros(shape, gy.dtype)
    places = [xp.arange(size).reshape([-1 if a == b else 1 for b in range(g.ndim)]) for a, size in enumerate(g.shape)]
    gx[tuple(places[own.index(letter)] for letter in term)] = g
    return gx


@lru_cache(256)
def _terms(equation: str, shapes: tuple[tuple[int, ...], ...]) -> Terms:
    given, result = parts(equation, len(shapes))
    free = [letter for letter in string.ascii_letters if letter not in equation]
    rests = []
    for term, shape in zip(given, shapes, strict=True):
        letters, rest = term.replace("...", ""), 0
        if "..." in term:
            rest = len(shape) - len(letters)
            check(rest >= 0, ShapeError, "einsum", "each letter needs an axis", letters=term, shape=shape)
            check(rest <= len(free), ShapeError, "einsum", "there are too many axes", letters=term, shape=shape)
        else:
            fits = len(letters) == len(shape)
            check(fits, ShapeError, "einsum", "each axis needs a letter", letters=term, shape=shape)
        rests.append(rest)
    most = max(rests, default=0)
    whole = [term.replace("...", "".join(free[most - rest : most])) for term, rest in zip(given, rests, strict=True)]
    sizes: dict[str, int] = {}
    for term, shape in zip(whole, shapes, strict=True):
        for letter, size in zip(term, shape, strict=True):
            known = sizes.setdefault(letter, size)
            rule = f"axes of one letter must have one size, {letter!r}"
            own = shape[term.index(letter)]
            check(own == size, ShapeError, "einsum", rule, sizes=(own, size), equation=equation)
            fits = known == size or 1 in (known, size)
            check(fits, ShapeError, "einsum", rule, sizes=(known, size), equation=equation)
            sizes[letter] = size if known == 1 else known
    kept = [
        [(letter, size) for letter, size in zip(term, shape, strict=True) if size == sizes[letter]]
        for term, shape in zip(whole, shapes, strict=True)
    ]
    return Terms(
        ["".join(letter for letter, _ in each) for each in kept],
        [tuple(size for _, size in each) for each in kept],
        result.replace("...", "".join(free[:most])),
    )


def parts(equation: str, count: int) -> tuple[list[str], str]:
    """The letters of each of ``count`` operands, and of the result.

    Without ``->`` those are the ellipsis and the letters that occur once, in alphabetic order.

    >>> parts("ij, jk", 2)
    (['ij', 'jk'], 'ik')
    """
    left, arrow, result = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    rule = "each operand needs its letters"
    check(len(terms) == count, ArgumentError, "einsum", rule, equation=equation, operands=count)
    letters = "".join(terms).replace("...", "")
    if not arrow:
        result = ("..." if "..." in left else "") + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    plain = all(
        each.count("...") <= 1 and (rest := each.replace("...", "")).isascii() and (not rest or rest.isalpha())
        for each in [*terms, result]
    )
    rule = "axes are named by letters, as in 'ij,jk->ik', and '...' once for the others"
    check(plain, ArgumentError, "einsum", rule, equation=equation)
    own = result.replace("...", "")
    once = len(set(own)) == len(own)
    check(once, ArgumentError, "einsum", "a letter may occur once in the result", equation=equation)
    known = set(own) <= set(letters) and ("..." in left or "..." not in result)
    check(known, ArgumentError, "einsum", "the result's letters must be the operands'", equation=equation)
    return terms, result

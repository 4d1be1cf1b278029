"""Sums of products over named axes, forward and backward.

    einsum("ij,jk->ik", a, b)[i, k] = sum_j a[i, j] b[j, k]

Letters that the result lacks are summed over. The gradient of an operand is the einsum of the result's gradient and the
other operands to the operand's letters; over a letter that only this operand has, it is constant. float16 is
computed in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.errors import ArgumentError, ShapeError, check


def einsum(equation: str, *arrays: Array) -> Array:
    """
    >>> import numpy as np
    >>> einsum("ij,j->i", np.ones((2, 3)), np.ones(3)).tolist()
    [3.0, 3.0]

    Raises ArgumentError for an equation that is none, or that names a letter twice in one operand (a diagonal).
    """
    terms, result = parts(equation)
    xp = operands("einsum", **{f"operand {number}": a for number, a in enumerate(arrays)})
    check(len(terms) == len(arrays), ArgumentError, "einsum", "each operand needs its letters",
          equation=equation, operands=len(arrays))  # fmt: skip
    sizes: dict[str, int] = {}
    for term, a in zip(terms, arrays, strict=True):
        check(len(term) == a.ndim, ShapeError, "einsum", "each axis needs a letter", letters=term, shape=a.shape)
        for letter, size in zip(term, a.shape, strict=True):
            rule = f"axes of one letter must have one size, {letter!r}"
            known = sizes.setdefault(letter, size)
            check(known == size, ShapeError, "einsum", rule, sizes=(known, size), equation=equation)
    dtype = accumulation_dtype(arrays[0].dtype)
    wide = [a.astype(dtype, copy=False) for a in arrays]
    return xp.asarray(xp.einsum(f"{','.join(terms)}->{result}", *wide)).astype(arrays[0].dtype, copy=False)


def einsum_backward(gy: Array, equation: str, arrays: Sequence[Array], needs: Sequence[bool]) -> list[Array | None]:
    """The gradient of each of ``arrays``, None where it is not needed."""
    terms, result = parts(equation)
    return [_gradient(gy, result, terms, arrays, number) if need else None for number, need in enumerate(needs)]


def _gradient(gy: Array, result: str, terms: list[str], arrays: Sequence[Array], number: int) -> Array:
    term, shape = terms[number], arrays[number].shape
    other_terms, others = [*terms[:number], *terms[number + 1 :]], [*arrays[:number], *arrays[number + 1 :]]
    met = "".join(letter for letter in term if letter in result or any(letter in other for other in other_terms))
    g = einsum(f"{','.join([result, *other_terms])}->{met}", gy, *others)
    alone = tuple(place for place, letter in enumerate(term) if letter not in met)
    xp: Any = operands("einsum", gy=gy)
    return xp.broadcast_to(xp.expand_dims(g, alone), shape)


def parts(equation: str) -> tuple[list[str], str]:
    """The letters of each operand, and of the result: without ``->``, those that occur once, in alphabetic order.

    >>> parts("ij, jk")
    (['ij', 'jk'], 'ik')
    """
    check(isinstance(equation, str), ArgumentError, "einsum", "the equation must be a string", equation=equation)
    left, arrow, result = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if not arrow:
        result = "".join(sorted(letter for letter in set(left) - {","} if left.count(letter) == 1))
    letters = all(not term or (term.isascii() and term.isalpha()) for term in [*terms, result])
    check(letters, ArgumentError, "einsum", "axes are named by letters, as in 'ij,jk->ik'", equation=equation)
    distinct = all(len(set(term)) == len(term) for term in [*terms, result])
    check(distinct, ArgumentError, "einsum", "a letter may occur once in each operand and result", equation=equation)
    known = set(result) <= set(left)
    check(known, ArgumentError, "einsum", "the result's letters must be the operands'", equation=equation)
    return terms, result

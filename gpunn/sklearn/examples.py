"""What an estimator learns from: distinct examples with their weights, and a part of them kept for validation."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np

from gpunn.backend import Array, asarray
from gpunn.errors import ArgumentError, check


class Examples(NamedTuple):
    """Inputs (N, features), targets (N, ...), and weights (N,), of which the loss is a weighted mean."""

    x: Array
    target: Array
    weight: Array

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: Array) -> Examples:
        """The examples of these rows."""
        return Examples(self.x[rows], self.target[rows], self.weight[rows])

    def normalised(self, device: str) -> Examples:
        """On ``device``, with float32 weights whose mean is 1: any batch's mean loss then expects that of all."""
        weight = (self.weight / self.weight.mean()).astype(np.float32)
        return Examples(*(asarray(a, device=device) for a in (self.x, self.target, weight)))


def distinct(x: Any, target: Any, weight: Any) -> Examples:
    """Each different pair of input and target once, with the sum of its weights, in an order that only they decide.

    So an example that comes twice is the same, bit for bit, as one of weight 2.

    >>> x, target = np.array([[2.0], [1.0], [2.0]], np.float32), np.array([0, 1, 0])
    >>> distinct(x, target, np.ones(3)).weight.tolist() in ([1.0, 2.0], [2.0, 1.0])
    True
    """
    x = x + x.dtype.type(0)  # -0.0 becomes 0.0: equal numbers then have equal bytes
    if target.dtype.kind == "f":
        target = target + target.dtype.type(0)
    parts = [np.ascontiguousarray(a.reshape(len(x), -1)).view(np.uint8) for a in (x, target)]
    # Digests of 128 bits stand for the rows, which can be long: sorting those would take longer than reading them.
    digests = b"".join(blake2b(row, digest_size=16).digest() for row in np.concatenate(parts, axis=1))
    _, first, inverse = np.unique(np.frombuffer(digests, "V16"), return_index=True, return_inverse=True)
    return Examples(x[first], target[first], np.bincount(inverse, weights=weight, minlength=len(first)))


def split(
    op: str, examples: Examples, fraction: float, stratify: bool, generator: np.random.Generator
) -> tuple[Examples, Examples]:
    """Examples to train on, and ``fraction`` of them, rounded down, to validate with.

    With ``stratify``, examples of each target in the same proportion, as far as whole examples allow.

    >>> examples = distinct(np.arange(20.0)[:, None], np.arange(20) % 2, np.ones(20))
    >>> train, validation = split("example", examples, 0.3, True, np.random.default_rng(0))
    >>> len(train), sorted(validation.target.tolist())
    (14, [0, 0, 0, 1, 1, 1])
    """
    n = len(examples)
    order = generator.permutation(n)
    if stratify:
        order = order[np.argsort(examples.target[order], kind="stable")]
    reached = np.floor(np.arange(n + 1) * fraction)
    chosen = reached[1:] > reached[:-1]
    rule = "validation_fraction must leave an example on each side"
    check(0 < chosen.sum() < n, ArgumentError, op, rule, validation_fraction=fraction, examples=n)
    return examples.take(order[~chosen]), examples.take(order[chosen])

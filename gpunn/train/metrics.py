"""Measures of predictions: plain numbers in, plain numbers out, on NumPy and CuPy arrays alike.

Names and conventions are those of scikit-learn's ``metrics``: the true labels come first.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpunn.backend import Array, get_array_module, to_cpu
from gpunn.errors import ArgumentError, ShapeError, check, check_sizes


def accuracy(labels: Array, predictions: Array) -> float:
    """The share of ``predictions`` (N,) that equal the ``labels`` (N,).

    >>> accuracy(np.array([0, 1, 2, 2]), np.array([0, 1, 1, 2]))
    0.75
    """
    _check_pair("accuracy", labels, predictions)
    return float((labels == predictions).mean())


def top_k_accuracy(labels: Array, scores: Array, k: int = 5) -> float:
    """The share of ``labels`` (N,) that are among the ``k`` highest of their ``scores`` (N, C).

    A label whose score is equal to others counts as if it came behind them; NaN counts as no answer.

    >>> scores = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
    >>> top_k_accuracy(np.array([1, 0]), scores, k=2)
    0.5
    """
    op, xp = "top_k_accuracy", get_array_module(labels, scores)
    fits = scores.ndim == 2 and labels.ndim == 1 and len(labels) == len(scores) and len(labels) > 0
    rule = "labels must be (N,) and scores (N, C), of one N above 0"
    check(fits, ShapeError, op, rule, labels=labels.shape, scores=scores.shape)
    check(1 <= k <= scores.shape[1], ArgumentError, op, "k must be from 1 to C", k=k, C=scores.shape[1])
    _check_classes(op, scores.shape[1], labels=labels)
    own = xp.take_along_axis(scores, labels[:, None], axis=1)
    at_least = (scores >= own).sum(axis=1)  # itself among them; none if it is NaN
    return float(((at_least >= 1) & (at_least <= k)).mean())


def confusion_matrix(labels: Array, predictions: Array, classes: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """How many examples of class i were taken for class j: (C, C), on the CPU.

    >>> confusion_matrix(np.array([0, 1, 1]), np.array([0, 0, 1]), classes=2).tolist()
    [[1, 0], [1, 1]]
    """
    op = "confusion_matrix"
    _check_pair(op, labels, predictions)
    check_sizes(op, classes=classes)
    _check_classes(op, classes, labels=labels, predictions=predictions)
    cells = to_cpu(labels).astype(np.int64) * classes + to_cpu(predictions)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def f1_score(labels: Array, predictions: Array, classes: int, average: str = "macro") -> float:
    """``2 TP / (2 TP + FP + FN)``, the harmonic mean of precision and recall.

    ``"macro"`` is the mean over the classes, ``"weighted"`` that by their number of examples, ``"micro"`` takes the
    counts of all together (with one label an example, the accuracy), ``"binary"`` is class 1 alone. A class that is in
    neither labels nor predictions has 0.

    >>> round(f1_score(np.array([0, 1, 1]), np.array([0, 0, 1]), classes=2), 3)
    0.667
    """
    op, kinds = "f1_score", ("macro", "weighted", "micro", "binary")
    check(average in kinds, ArgumentError, op, f"average must be one of {', '.join(kinds)}", average=average)
    rule = 'average="binary" is for 2 classes'
    check(average != "binary" or classes == 2, ArgumentError, op, rule, classes=classes)
    matrix = confusion_matrix(labels, predictions, classes)
    right, sizes, answers = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    if average == "micro":
        return float(right.sum() / sizes.sum())
    each = 2 * right / np.maximum(sizes + answers, 1)
    if average == "binary":
        return float(each[1])
    return float(each.mean() if average == "macro" else (each * sizes).sum() / sizes.sum())


def perplexity(loss: float) -> float:
    """``exp(loss)`` of a mean cross entropy in nats: among how many equal choices a model hesitates.

    >>> round(perplexity(math.log(8)), 6)
    8.0
    """
    return math.inf if loss >= 709 else math.exp(loss)


def _check_pair(op: str, labels: Array, predictions: Array) -> None:
    fits = labels.ndim == 1 and labels.shape == predictions.shape and len(labels) > 0
    rule = "labels and predictions must be (N,), of one N above 0"
    check(fits, ShapeError, op, rule, labels=labels.shape, predictions=predictions.shape)


def _check_classes(op: str, classes: int, **given: Array) -> None:
    for name, array in given.items():
        check(array.dtype.kind in "iu", ArgumentError, op, f"{name} must be integers", dtype=str(array.dtype))
        least, most = int(array.min()), int(array.max())
        fits = least >= 0 and most < classes
        check(fits, ArgumentError, op, f"{name} must be from 0 to {classes - 1}", least=least, most=most)

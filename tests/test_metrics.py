"""Metrics: against plain counts, and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from gpunn.backend import random_generator
from gpunn.errors import GpunnError
from gpunn.train import accuracy, confusion_matrix, f1_score, perplexity, top_k_accuracy


def draw(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Labels, predictions that are right half of the time, scores without ties, and the number of classes."""
    g = random_generator(seed)
    classes, n = int(g.integers(2, 7)), int(g.integers(1, 30))
    labels = g.integers(classes, size=n)
    predictions = np.where(g.random(n) < 0.5, labels, g.integers(classes, size=n))
    return labels, predictions, g.permuted(np.arange(n * classes).reshape(n, classes), axis=1) / 7, classes


@pytest.mark.parametrize("seed", range(50))
def test_against_plain_counts(seed: int) -> None:
    labels, predictions, scores, classes = draw(seed)
    pairs = list(zip(labels.tolist(), predictions.tolist(), strict=True))
    assert accuracy(labels, predictions) == sum(a == b for a, b in pairs) / len(pairs)
    matrix = confusion_matrix(labels, predictions, classes)
    assert matrix.tolist() == [[pairs.count((i, j)) for j in range(classes)] for i in range(classes)]
    for k in range(1, classes + 1):
        right = sum(label in np.argsort(-row)[:k] for label, row in zip(labels, scores, strict=True))
        assert top_k_accuracy(labels, scores, k) == right / len(pairs)
    assert top_k_accuracy(labels, scores, classes) == 1


@pytest.mark.parametrize("seed", range(50))
def test_against_scikit_learn(seed: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    labels, predictions, scores, classes = draw(seed)
    assert accuracy(labels, predictions) == pytest.approx(metrics.accuracy_score(labels, predictions))
    own = confusion_matrix(labels, predictions, classes)
    assert own.tolist() == metrics.confusion_matrix(labels, predictions, labels=range(classes)).tolist()
    for average in ("macro", "weighted", "micro", *(["binary"] if classes == 2 else [])):
        found = f1_score(labels, predictions, classes, average)
        wanted = metrics.f1_score(
            labels, predictions, labels=None if average == "binary" else range(classes), average=average,
            zero_division=0.0,
        )  # fmt: skip
        assert found == pytest.approx(wanted), (average, classes)
    if classes > 2:
        wanted = metrics.top_k_accuracy_score(labels, scores, k=2, labels=range(classes))
        assert top_k_accuracy(labels, scores, 2) == pytest.approx(wanted)


def test_ties_and_nan_are_no_right_answers() -> None:
    """A network that gives all classes one score knows nothing."""
    labels = np.array([0, 1])
    assert top_k_accuracy(labels, np.zeros((2, 3)), 2) == 0
    assert top_k_accuracy(labels, np.full((2, 3), np.nan), 3) == 0


def test_perplexity() -> None:
    assert perplexity(0.0) == 1
    assert perplexity(1e6) == perplexity(np.inf) == np.inf
    assert np.isnan(perplexity(np.nan))


def test_errors() -> None:
    ones = np.ones(3, np.int64)
    for call, message in (
        (lambda: accuracy(ones, ones[:2]), r"accuracy: labels and predictions must be \(N,\), of one N above 0, got"),
        (lambda: accuracy(ones[:0], ones[:0]), r"of one N above 0, got labels=\(0,\)"),
        (lambda: confusion_matrix(ones, ones, 1), "labels must be from 0 to 0, got least=1, most=1"),
        (lambda: confusion_matrix(ones, -ones, 2), "predictions must be from 0 to 1, got least=-1"),
        (lambda: confusion_matrix(ones, ones, 0), "classes must be an integer of at least 1"),
        (lambda: confusion_matrix(ones * 1.0, ones, 2), "labels must be integers, got dtype='float64'"),
        (lambda: f1_score(ones, ones, 2, "mean"), "average must be one of macro, weighted, micro, binary"),
        (lambda: f1_score(ones, ones, 3, "binary"), "is for 2 classes, got classes=3"),
        (lambda: top_k_accuracy(ones, np.ones((3, 2)), 3), "k must be from 1 to C, got k=3, C=2"),
        (lambda: top_k_accuracy(ones, np.ones(3)), r"scores \(N, C\)"),
    ):
        with pytest.raises(GpunnError, match=message):
            call()

"""The classifier for scikit-learn."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets

from gpunn import functional as F
from gpunn.backend import Array
from gpunn.errors import ArgumentError, check
from gpunn.sklearn.base import NeuralEstimator
from gpunn.tensor import Tensor


class NeuralClassifier(ClassifierMixin, NeuralEstimator):  # type: ignore[misc]
    """A network that tells classes apart, trained with cross entropy; :class:`NeuralEstimator` says the settings.

    Fitted, it has ``classes_``, sorted, with an output of the network for each; ``module_``, the network;
    ``n_iter_``, the epochs it was trained; ``loss_curve_``, the mean loss of each, and ``validation_loss_curve_``
    where it stopped early; ``n_features_in_`` and, for data frames, ``feature_names_in_``.

    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> X, y = load_iris(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), NeuralClassifier((16,), lr=0.01, epochs=30, random_state=0))
    >>> bool(cross_val_score(model, X, y, cv=3).mean() > 0.9)
    True

    A convolutional net, by ``module``:

    >>> from gpunn import nn
    >>> from sklearn.datasets import load_digits
    >>> def net(n_features, n_outputs):
    ...     images = nn.Unflatten(1, (1, 8, 8))
    ...     return nn.Sequential(images, nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 6 * 6, n_outputs))
    >>> X, y = load_digits(n_class=3, return_X_y=True)
    >>> classifier = NeuralClassifier(module=net, epochs=3, random_state=0).fit(X / 16, y)
    >>> bool(classifier.score(X / 16, y) > 0.95)
    True
    """

    _classifies = True

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train one more epoch, on these examples alone; the first call begins a network.

        It needs ``classes``, all that any call will bring. :meth:`fit` counts as a first call. Weights count within a
        call. Raises ArgumentError for other classes, and with ``early_stopping``.

        >>> X, y = np.array([[0.0], [1.0]]), np.array(["no", "yes"])
        >>> classifier = NeuralClassifier(random_state=0)
        >>> classifier.partial_fit(X, y, classes=["yes", "maybe", "no"]).partial_fit(X, y).n_iter_
        2
        >>> classifier.classes_.tolist()
        ['maybe', 'no', 'yes']
        """
        return self._partial_fit(X, y, classes, sample_weight)

    def predict_proba(self, X: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
        """The probability of each of ``classes_``, (N, classes): the softmax of the network's outputs."""
        return np.asarray(F.softmax(self._outputs(X), axis=1))

    def predict(self, X: Any) -> np.ndarray[Any, Any]:
        """The most probable of ``classes_`` for each example, (N,)."""
        rows = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[rows])

    def _read_target(self, y: Any, classes: Any, first: bool) -> tuple[Array, int]:
        op = type(self).__name__
        check_classification_targets(y)
        if first:
            self.classes_ = np.unique(y if classes is None else np.asarray(classes))
        elif classes is not None:
            same = np.array_equal(np.unique(np.asarray(classes)), self.classes_)
            rule = f"classes must be those of the first call, {self.classes_.tolist()}"
            check(same, ArgumentError, op, rule, classes=list(classes))
        unknown = np.setdiff1d(y, self.classes_).tolist()
        check(not unknown, ArgumentError, op, f"y must hold the classes {self.classes_.tolist()}", unknown=unknown)
        return np.searchsorted(self.classes_, y), len(self.classes_)

    def _row_losses(self, output: Any, target: Array) -> Tensor:
        losses: Tensor = F.cross_entropy(output, target, reduction="none")
        return losses

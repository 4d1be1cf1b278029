"""The regressor for scikit-learn."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin

from gpunn import functional as F
from gpunn.backend import Array
from gpunn.errors import ArgumentError, ShapeError, check, fail
from gpunn.sklearn.base import NeuralEstimator
from gpunn.sklearn.examples import Examples
from gpunn.tensor import Tensor


class NeuralRegressor(RegressorMixin, NeuralEstimator):  # type: ignore[misc]
    """A network that gives numbers, trained with the mean square error; :class:`NeuralEstimator` says the settings.

    y is (N,), or (N, outputs) for several numbers at once. It is not scaled: for targets far from the size of 1 put
    the regressor into a ``TransformedTargetRegressor``. Fitted, it has the attributes of :class:`NeuralClassifier`,
    except ``classes_``.

    >>> X = np.linspace(-1, 1, 200)[:, None]
    >>> y = np.hstack([X**2, np.sin(3 * X)])
    >>> regressor = NeuralRegressor((32,), lr=0.01, random_state=0).fit(X, y)
    >>> regressor.predict(X[:3]).shape, regressor.score(X, y) > 0.95
    ((3, 2), True)
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train one more epoch, on these examples alone; the first call begins a network, as does :meth:`fit`.

        Weights count within a call. Raises ShapeError for y of another shape, and ArgumentError with
        ``early_stopping``.

        >>> X, y = np.array([[0.0], [1.0]]), np.array([0.0, 2.0])
        >>> NeuralRegressor(random_state=0).partial_fit(X, y).partial_fit(X, y).n_iter_
        2
        """
        return self._partial_fit(X, y, None, sample_weight)

    def predict(self, X: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
        """The numbers for each example, (N,) or (N, outputs) as y was."""
        found = self._outputs(X)
        return found.reshape(len(found), *self._target_shape)

    def _read(self, X: Any, y: Any, sample_weight: Any, classes: Any, first: bool) -> tuple[Examples, int]:
        given = np.asarray(y)
        kinds = {type(each) for each in given.flat} if given.dtype == object else {given.dtype.type}
        if any(issubclass(kind, str | bytes) for kind in kinds):
            fail(ArgumentError, type(self).__name__, "y must be numbers, not texts", first=given.flat[0])
        return super()._read(X, y, sample_weight, classes, first)

    def _read_target(self, y: Any, classes: Any, first: bool) -> tuple[Array, int]:
        op = type(self).__name__
        check(y.dtype.kind in "biuf", ArgumentError, op, "y must be numbers", dtype=str(y.dtype))
        if first:
            self._target_shape = y.shape[1:]
        wanted = f"y must have shape {(len(y), *self._target_shape)}, as at the first call"
        check(y.shape[1:] == self._target_shape, ShapeError, op, wanted, shape=y.shape)
        with np.errstate(over="ignore"):
            target = y.astype(np.float32).reshape(len(y), -1)
        finite = bool(np.isfinite(target).all())
        check(finite, ArgumentError, op, "y must fit into float32", largest=float(np.abs(y).max()))
        return target, target.shape[1]

    def _row_losses(self, output: Any, target: Array) -> Tensor:
        losses: Tensor = F.mse_loss(output, target, reduction="none")
        return losses.mean(axis=1)

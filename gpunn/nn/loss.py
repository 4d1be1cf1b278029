"""Losses as modules; see :mod:`gpunn.ops.loss` for the formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gpunn import functional as F
from gpunn.backend import asarray
from gpunn.functional.record import raw
from gpunn.nn.calls import Pair
from gpunn.nn.module import Buffer, Module
from gpunn.ops.loss.likelihood import BatchReduction
from gpunn.ops.loss.reduction import Reduction

if TYPE_CHECKING:
    from gpunn.functional.record import Input, Y


def weight_buffer(weight: Any) -> Buffer | None:
    """``weight`` (array, list, tensor) as a buffer that moves with its module; None stays None."""
    return None if weight is None else Buffer(asarray(raw(weight)))


class CrossEntropyLoss(Pair):
    """:func:`gpunn.functional.cross_entropy` of logits (N, C) or (N, C, d1, ...) and classes or probabilities.

    Buffer: ``weight`` (C,), if given.

    >>> import numpy as np
    >>> loss = CrossEntropyLoss(weight=[1.0, 3.0])
    >>> round(float(loss(np.float32([[0, 0], [0, 0]]), np.array([0, 1]))), 4)
    0.6931
    """

    def __init__(
        self, weight: Any = None, ignore_index: int = -100, reduction: Reduction = "mean", label_smoothing: float = 0.0
    ) -> None:
        self.weight = weight_buffer(weight)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing
        self.reduction: Reduction = reduction

    def forward(self, x: Any, target: Any) -> Any:
        return F.cross_entropy(x, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing)


class BCELoss(Pair):
    """Binary cross entropy of probabilities; after a Sigmoid, :class:`BCEWithLogitsLoss` without it is more exact.

    Buffer: ``weight``, if given, which broadcasts to the probabilities.

    >>> import numpy as np
    >>> round(float(BCELoss()(np.array([0.9]), np.array([1.0]))), 4)
    0.1054
    """

    def __init__(self, weight: Any = None, reduction: Reduction = "mean") -> None:
        self.weight = weight_buffer(weight)
        self.reduction: Reduction = reduction

    def forward(self, p: Any, target: Any) -> Any:
        return F.binary_cross_entropy(p, target, self.weight, self.reduction)


class BCEWithLogitsLoss(Pair):
    """Binary cross entropy of logits.

    Buffers: ``weight`` and ``pos_weight`` (of the positive answers), if given, which broadcast to the logits.

    >>> import numpy as np
    >>> float(BCEWithLogitsLoss()(np.array([-1000.0]), np.array([1.0])))
    1000.0
    """

    def __init__(self, weight: Any = None, reduction: Reduction = "mean", pos_weight: Any = None) -> None:
        self.weight, self.pos_weight = weight_buffer(weight), weight_buffer(pos_weight)
        self.reduction: Reduction = reduction

    def forward(self, x: Any, target: Any) -> Any:
        return F.binary_cross_entropy_with_logits(x, target, self.weight, self.reduction, self.pos_weight)


class NLLLoss(Pair):
    """The negative log-likelihood of classes, after a :class:`gpunn.nn.LogSoftmax`.

    Buffer: ``weight`` (C,), if given.

    >>> import numpy as np
    >>> round(float(NLLLoss()(np.log([[0.1, 0.9]]), np.array([1]))), 4)
    0.1054
    """

    def __init__(self, weight: Any = None, ignore_index: int = -100, reduction: Reduction = "mean") -> None:
        self.weight = weight_buffer(weight)
        self.ignore_index = ignore_index
        self.reduction: Reduction = reduction

    def forward(self, x: Any, target: Any) -> Any:
        return F.nll_loss(x, target, self.weight, self.ignore_index, self.reduction)


class KLDivLoss(Pair):
    """The divergence of distributions, given by their logarithms, from target.

    >>> import numpy as np
    >>> round(float(KLDivLoss("batchmean")(np.log([[0.25, 0.75]]), np.array([[0.5, 0.5]]))), 4)
    0.1438
    """

    def __init__(self, reduction: BatchReduction = "mean", log_target: bool = False) -> None:
        self.reduction: BatchReduction = reduction
        self.log_target = log_target

    def forward(self, x: Any, target: Any) -> Any:
        return F.kl_div(x, target, self.reduction, self.log_target)


class HingeEmbeddingLoss(Pair):
    """x where target is 1, ``max(0, margin - x)`` where it is -1, averaged.

    >>> import numpy as np
    >>> HingeEmbeddingLoss(reduction="none")(np.array([0.5, 0.5, 3.0]), np.array([1, -1, -1])).tolist()
    [0.5, 0.5, 0.0]
    """

    def __init__(self, margin: float = 1.0, reduction: Reduction = "mean") -> None:
        self.margin = margin
        self.reduction: Reduction = reduction

    def forward(self, x: Any, target: Any) -> Any:
        return F.hinge_embedding_loss(x, target, self.margin, self.reduction)


class MultiMarginLoss(Pair):
    """``sum_{c != t} max(0, margin - x[n, t] + x[n, c])^p / C`` with t = target[n], averaged.

    Buffer: ``weight`` (C,), if given.

    >>> import numpy as np
    >>> round(float(MultiMarginLoss()(np.array([[0.1, 0.2, 0.4, 0.8]]), np.array([3]))), 4)
    0.325
    """

    def __init__(self, p: int = 1, margin: float = 1.0, weight: Any = None, reduction: Reduction = "mean") -> None:
        self.p, self.margin = p, margin
        self.weight = weight_buffer(weight)
        self.reduction: Reduction = reduction

    def forward(self, x: Any, target: Any) -> Any:
        return F.multi_margin_loss(x, target, self.p, self.margin, self.weight, self.reduction)


class CosineEmbeddingLoss(Module):
    """``1 - cos(x1, x2)`` where target is 1, ``max(0, cos(x1, x2) - margin)`` where it is -1, averaged.

    >>> import numpy as np
    >>> float(CosineEmbeddingLoss()(np.array([[1.0, 0.0]]), np.array([[0.0, 2.0]]), np.array([1])))
    1.0
    """

    if TYPE_CHECKING:

        def __call__(self, x1: Input[Y], x2: Input[Y], target: Any) -> Y: ...

    def __init__(self, margin: float = 0.0, reduction: Reduction = "mean") -> None:
        self.margin = margin
        self.reduction: Reduction = reduction

    def forward(self, x1: Any, x2: Any, target: Any) -> Any:
        return F.cosine_embedding_loss(x1, x2, target, self.margin, self.reduction)


class MSELoss(Pair):
    """``(x - target)^2``, averaged.

    >>> import numpy as np
    >>> float(MSELoss()(np.array([2.0]), np.array([3.0])))
    1.0
    """

    def __init__(self, reduction: Reduction = "mean") -> None:
        self.reduction: Reduction = reduction

    def forward(self, x: Any, target: Any) -> Any:
        return F.mse_loss(x, target, self.reduction)


class L1Loss(Pair):
    """``|x - target|``, averaged.

    >>> import numpy as np
    >>> float(L1Loss()(np.array([2.0]), np.array([5.0])))
    3.0
    """

    def __init__(self, reduction: Reduction = "mean") -> None:
        self.reduction: Reduction = reduction

    def forward(self, x: Any, target: Any) -> Any:
        return F.l1_loss(x, target, self.reduction)


class HuberLoss(Pair):
    """``d^2 / 2`` where ``|d| < delta``, else ``delta (|d| - delta / 2)``, averaged; d = x - target.

    >>> import numpy as np
    >>> float(HuberLoss(delta=2.0)(np.array([5.0]), np.array([0.0])))
    8.0
    """

    def __init__(self, reduction: Reduction = "mean", delta: float = 1.0) -> None:
        self.reduction: Reduction = reduction
        self.delta = delta

    def forward(self, x: Any, target: Any) -> Any:
        return F.huber_loss(x, target, self.reduction, self.delta)


class SmoothL1Loss(Pair):
    """``d^2 / (2 beta)`` where ``|d| < beta``, else ``|d| - beta / 2``, averaged; d = x - target.

    >>> import numpy as np
    >>> float(SmoothL1Loss(beta=2.0)(np.array([5.0]), np.array([0.0])))
    4.0
    """

    def __init__(self, reduction: Reduction = "mean", beta: float = 1.0) -> None:
        self.reduction: Reduction = reduction
        self.beta = beta

    def forward(self, x: Any, target: Any) -> Any:
        return F.smooth_l1_loss(x, target, self.reduction, self.beta)


class MarginRankingLoss(Module):
    """``max(0, margin - target (x1 - x2))``, averaged: target is 1 where x1 should be the larger, -1 where x2.

    >>> import numpy as np
    >>> float(MarginRankingLoss(0.5)(np.array([1.0]), np.array([2.0]), np.array([1])))
    1.5
    """

    if TYPE_CHECKING:

        def __call__(self, x1: Input[Y], x2: Input[Y], target: Any) -> Y: ...

    def __init__(self, margin: float = 0.0, reduction: Reduction = "mean") -> None:
        self.margin = margin
        self.reduction: Reduction = reduction

    def forward(self, x1: Any, x2: Any, target: Any) -> Any:
        return F.margin_ranking_loss(x1, x2, target, self.margin, self.reduction)


class TripletMarginLoss(Module):
    """``max(0, d(anchor, positive) - d(anchor, negative) + margin)``, averaged, with the p-distance d of vectors.

    With ``swap`` the second distance is the smaller one of anchor and positive from negative.

    >>> import numpy as np
    >>> float(TripletMarginLoss(3.0, p=1)(np.zeros((1, 2)), np.ones((1, 2)), 2 * np.ones((1, 2))).round(4))
    1.0
    """

    if TYPE_CHECKING:

        def __call__(self, anchor: Input[Y], positive: Input[Y], negative: Input[Y]) -> Y: ...

    def __init__(
        self, margin: float = 1.0, p: float = 2.0, eps: float = 1e-6, swap: bool = False, reduction: Reduction = "mean"
    ) -> None:
        self.margin, self.p, self.eps, self.swap = margin, p, eps, swap
        self.reduction: Reduction = reduction

    def forward(self, anchor: Any, positive: Any, negative: Any) -> Any:
        return F.triplet_margin_loss(
            anchor, positive, negative, self.margin, self.p, self.eps, self.swap, self.reduction
        )


class TripletMarginWithDistanceLoss(Module):
    """:class:`TripletMarginLoss` with another distance of two arrays; None is the 2-distance.

    >>> import numpy as np
    >>> loss = TripletMarginWithDistanceLoss(lambda a, b: abs(a - b).max(-1), margin=3.0)
    >>> float(loss(np.zeros((1, 1)), np.ones((1, 1)), np.full((1, 1), 2.0)))
    2.0
    """

    if TYPE_CHECKING:

        def __call__(self, anchor: Input[Y], positive: Input[Y], negative: Input[Y]) -> Y: ...

    def __init__(
        self,
        distance_function: Callable[[Any, Any], Any] | None = None,
        margin: float = 1.0,
        swap: bool = False,
        reduction: Reduction = "mean",
    ) -> None:
        self.distance_function, self.margin, self.swap = distance_function, margin, swap
        self.reduction: Reduction = reduction

    def forward(self, anchor: Any, positive: Any, negative: Any) -> Any:
        return F.triplet_margin_with_distance_loss(
            anchor, positive, negative, self.distance_function, self.margin, self.swap, self.reduction
        )


class SoftMarginLoss(Pair):
    """``log(1 + exp(-target x))``, averaged; target is 1 or -1.

    >>> import numpy as np
    >>> round(float(SoftMarginLoss()(np.array([0.0]), np.array([1]))), 4)
    0.6931
    """

    def __init__(self, reduction: Reduction = "mean") -> None:
        self.reduction: Reduction = reduction

    def forward(self, x: Any, target: Any) -> Any:
        return F.soft_margin_loss(x, target, self.reduction)


class MultiLabelMarginLoss(Pair):
    """``sum_{j in labels, i not} max(0, 1 - x[n, j] + x[n, i]) / C``, averaged; target lists labels up to its first -1.

    >>> import numpy as np
    >>> round(float(MultiLabelMarginLoss()(np.array([0.1, 0.2, 0.4, 0.8]), np.array([3, 0, -1, 1]))), 4)
    0.85
    """

    def __init__(self, reduction: Reduction = "mean") -> None:
        self.reduction: Reduction = reduction

    def forward(self, x: Any, target: Any) -> Any:
        return F.multilabel_margin_loss(x, target, self.reduction)


class MultiLabelSoftMarginLoss(Pair):
    """The binary cross entropy of logits (N, C), averaged over the classes and then over the examples.

    Buffer: ``weight`` (C,), if given.

    >>> import numpy as np
    >>> float(MultiLabelSoftMarginLoss()(np.array([[1000.0, -1000.0]]), np.array([[1, 1]])))
    500.0
    """

    def __init__(self, weight: Any = None, reduction: Reduction = "mean") -> None:
        self.weight = weight_buffer(weight)
        self.reduction: Reduction = reduction

    def forward(self, x: Any, target: Any) -> Any:
        return F.multilabel_soft_margin_loss(x, target, self.weight, self.reduction)


class PoissonNLLLoss(Pair):
    """The negative log-likelihood of counts, averaged, from the logarithms of their rates, or the rates themselves.

    >>> import numpy as np
    >>> float(PoissonNLLLoss()(np.array([0.0]), np.array([2.0])))
    1.0
    """

    def __init__(
        self, log_input: bool = True, full: bool = False, eps: float = 1e-8, reduction: Reduction = "mean"
    ) -> None:
        self.log_input, self.full, self.eps = log_input, full, eps
        self.reduction: Reduction = reduction

    def forward(self, x: Any, target: Any) -> Any:
        return F.poisson_nll_loss(x, target, self.log_input, self.full, self.eps, self.reduction)


class GaussianNLLLoss(Module):
    """The negative log-likelihood of numbers under normal distributions of mean x and variance ``var``, averaged.

    >>> import numpy as np
    >>> float(GaussianNLLLoss()(np.array([3.0]), np.array([0.0]), np.array([1.0])))
    4.5
    """

    if TYPE_CHECKING:

        def __call__(self, x: Input[Y], target: Input[Y], var: Any) -> Y: ...

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: Reduction = "mean") -> None:
        self.full, self.eps = full, eps
        self.reduction: Reduction = reduction

    def forward(self, x: Any, target: Any, var: Any) -> Any:
        return F.gaussian_nll_loss(x, target, var, self.full, self.eps, self.reduction)


class CTCLoss(Module):
    """``-log`` of the probability of a sequence of labels over all alignments: :func:`gpunn.functional.ctc_loss`.

    It follows a :class:`gpunn.nn.LogSoftmax` over the last axis of (T, N, C), or (T, C).

    >>> import numpy as np
    >>> float(CTCLoss()(np.log(np.full((1, 1, 2), 0.5)), np.array([[1]]), [1], [1]).round(4))
    0.6931
    """

    if TYPE_CHECKING:

        def __call__(self, log_probs: Input[Y], targets: Any, input_lengths: Any, target_lengths: Any) -> Y: ...

    def __init__(self, blank: int = 0, reduction: Reduction = "mean", zero_infinity: bool = False) -> None:
        self.blank, self.zero_infinity = blank, zero_infinity
        self.reduction: Reduction = reduction

    def forward(self, log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any) -> Any:
        return F.ctc_loss(
            log_probs, targets, input_lengths, target_lengths, self.blank, self.reduction, self.zero_infinity
        )

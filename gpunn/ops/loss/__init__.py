"""Losses, forward and backward: the loss of each element or row, then its mean or sum.

    cross_entropy    -log softmax(x)[target]                    likelihood    -x[target], Kullback-Leibler divergence
    binary           -t log p - (1 - t) log(1 - p)              regression    |d|, d^2, Huber's, d = x - target
    margin           hinges on distances, class scores, angles
    ctc              a sequence of labels, however aligned
    ranking          an order, several labels at once           distribution  Poisson's, the normal one, of numbers

Each file has the formulas, the shapes and the sources.
"""

from gpunn.ops.loss.binary import (
    binary_cross_entropy,
    binary_cross_entropy_backward,
    binary_cross_entropy_backward_target,
    binary_cross_entropy_with_logits,
    binary_cross_entropy_with_logits_backward,
    binary_cross_entropy_with_logits_backward_target,
)
from gpunn.ops.loss.cross_entropy import (
    cross_entropy,
    cross_entropy_backward,
    cross_entropy_backward_target,
    cross_entropy_kept,
)
from gpunn.ops.loss.ctc import ctc_loss, ctc_loss_backward, ctc_loss_kept
from gpunn.ops.loss.distribution import (
    gaussian_nll_loss,
    gaussian_nll_loss_backward,
    poisson_nll_loss,
    poisson_nll_loss_backward,
    poisson_nll_loss_backward_target,
)
from gpunn.ops.loss.likelihood import (
    BatchReduction,
    kl_div,
    kl_div_backward,
    kl_div_backward_target,
    nll_loss,
    nll_loss_backward,
)
from gpunn.ops.loss.margin import (
    cosine_embedding_loss,
    cosine_embedding_loss_backward_x1,
    hinge_embedding_loss,
    hinge_embedding_loss_backward,
    multi_margin_loss,
    multi_margin_loss_backward,
)
from gpunn.ops.loss.ranking import (
    margin_ranking_loss,
    margin_ranking_loss_backward,
    multilabel_margin_loss,
    multilabel_margin_loss_backward,
    multilabel_soft_margin_loss,
    multilabel_soft_margin_loss_backward,
    multilabel_soft_margin_loss_backward_target,
    soft_margin_loss,
    soft_margin_loss_backward,
)
from gpunn.ops.loss.regression import (
    huber_loss,
    huber_loss_backward,
    l1_loss,
    l1_loss_backward,
    mse_loss,
    mse_loss_backward,
    smooth_l1_loss,
    smooth_l1_loss_backward,
)

__all__ = [
    "BatchReduction",
    "binary_cross_entropy",
    "binary_cross_entropy_backward",
    "binary_cross_entropy_backward_target",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy_with_logits_backward",
    "binary_cross_entropy_with_logits_backward_target",
    "cosine_embedding_loss",
    "cosine_embedding_loss_backward_x1",
    "cross_entropy",
    "cross_entropy_backward",
    "cross_entropy_backward_target",
    "cross_entropy_kept",
    "ctc_loss",
    "ctc_loss_backward",
    "ctc_loss_kept",
    "gaussian_nll_loss",
    "gaussian_nll_loss_backward",
    "hinge_embedding_loss",
    "hinge_embedding_loss_backward",
    "huber_loss",
    "huber_loss_backward",
    "kl_div",
    "kl_div_backward",
    "kl_div_backward_target",
    "l1_loss",
    "l1_loss_backward",
    "margin_ranking_loss",
    "margin_ranking_loss_backward",
    "mse_loss",
    "mse_loss_backward",
    "multi_margin_loss",
    "multi_margin_loss_backward",
    "multilabel_margin_loss",
    "multilabel_margin_loss_backward",
    "multilabel_soft_margin_loss",
    "multilabel_soft_margin_loss_backward",
    "multilabel_soft_margin_loss_backward_target",
    "nll_loss",
    "nll_loss_backward",
    "poisson_nll_loss",
    "poisson_nll_loss_backward",
    "poisson_nll_loss_backward_target",
    "smooth_l1_loss",
    "smooth_l1_loss_backward",
    "soft_margin_loss",
    "soft_margin_loss_backward",
]

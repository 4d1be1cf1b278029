"""One step of an optimizer on flat arrays, in place: p of parameters, g of their gradients, and the running states.

:mod:`gpunn.ops.optimizer.rules` has gradient descent, RMSprop, Adagrad and Adadelta, :mod:`gpunn.ops.optimizer.adam`
Adam and its kin: formulas, shapes and sources stand there.
"""

from gpunn.ops.optimizer.adam import adam_step, lamb_step, nadam_step, radam_step
from gpunn.ops.optimizer.rules import adadelta_step, adagrad_step, rmsprop_step, sgd_step

__all__ = [
    "adadelta_step",
    "adagrad_step",
    "adam_step",
    "lamb_step",
    "nadam_step",
    "radam_step",
    "rmsprop_step",
    "sgd_step",
]

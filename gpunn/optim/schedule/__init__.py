"""Learning rates that change from step to step, with the names, arguments and values of PyTorch's ``lr_scheduler``.

A schedule is made after the optimizer, and its ``step()`` is called after each step of the optimizer, or each epoch:
it counts these calls. t is their number so far; L, for each group of the optimizer, the learning rate that the user
set. Each value is computed from t alone, except by :class:`ReduceLROnPlateau`.

Several schedules of one optimizer form a chain, in the order in which they were made: the L of each is the rate that
those before it give, so that their factors multiply, as in PyTorch. The chain owns the learning rate: what is set by
hand is overwritten by the next step of a schedule, and is the L of those made afterwards, which form a new chain.
"""

from gpunn.optim.schedule.base import Schedule
from gpunn.optim.schedule.cycles import CosineAnnealingLR, CosineAnnealingWarmRestarts, CyclicLR, OneCycleLR
from gpunn.optim.schedule.factors import (
    ConstantLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    MultiStepLR,
    PolynomialLR,
    StepLR,
)
from gpunn.optim.schedule.plateau import ReduceLROnPlateau
from gpunn.optim.schedule.several import ChainedScheduler, SequentialLR

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "Schedule",
    "SequentialLR",
    "StepLR",
]

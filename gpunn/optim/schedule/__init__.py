"""Learning rates that change from step to step, with the names, arguments and values of PyTorch's ``lr_scheduler``.

A schedule is made after the optimizer, and its ``step()`` is called after each step of the optimizer, or each epoch:
it counts these calls. t is their number so far; L, for each group of the optimizer, the learning rate that the user
set. Each value is computed from t alone, except by :class:`ReduceLROnPlateau`.

Several schedules of one optimizer form a chain, which is stepped as in PyTorch: each step changes the rate that there
is. Most multiply it by the quotient of what they are at t and at t - 1, so that their factors multiply in any order. A
:class:`LambdaLR`, :class:`CosineAnnealingWarmRestarts`, :class:`CyclicLR` or :class:`OneCycleLR` sets it, whatever the
others made of it; a :class:`CosineAnnealingLR` goes a part of the way to its least rate. The chain owns the learning
rate: what is set by hand is overwritten by the next step of a schedule, and is the L of those made afterwards, which
form a new chain. A rate below 0, which a chain may come to, is an ArgumentError.
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

"""Optimizers over one flat buffer of parameters."""

from gpunn.optim.adam import Adam
from gpunn.optim.optimizer import Optimizer
from gpunn.optim.rmsprop import RMSprop
from gpunn.optim.sgd import SGD

__all__ = ["SGD", "Adam", "Optimizer", "RMSprop"]

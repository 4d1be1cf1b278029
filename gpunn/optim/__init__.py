"""Optimizers over flat buffers of parameters; schedules of the learning rate, clipping, averages of weights.

>>> import gpunn
>>> p = gpunn.tensor([3.0, -2.0], requires_grad=True)
>>> optimizer = gpunn.optim.SGD([p], lr=0.25)
>>> for _ in range(2):
...     optimizer.zero_grad()
...     (p * p).sum().backward()
...     optimizer.step()
>>> p.data.tolist()
[0.75, -0.5]
"""

from gpunn.optim import lr_scheduler, schedule
from gpunn.optim.adadelta import Adadelta
from gpunn.optim.adafactor import Adafactor
from gpunn.optim.adagrad import Adagrad
from gpunn.optim.adam import Adam, AdamW
from gpunn.optim.adamax import Adamax
from gpunn.optim.asgd import ASGD
from gpunn.optim.clip import clip_grad_norm, clip_grad_value
from gpunn.optim.ema import EMA
from gpunn.optim.lamb import LAMB
from gpunn.optim.lbfgs import LBFGS
from gpunn.optim.muon import Muon
from gpunn.optim.nadam import NAdam
from gpunn.optim.optimizer import Optimizer
from gpunn.optim.radam import RAdam
from gpunn.optim.rmsprop import RMSprop
from gpunn.optim.rprop import Rprop
from gpunn.optim.scaler import GradScaler
from gpunn.optim.sgd import SGD

__all__ = [
    "ASGD",
    "EMA",
    "LAMB",
    "LBFGS",
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "GradScaler",
    "Muon",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "clip_grad_norm",
    "clip_grad_value",
    "lr_scheduler",
    "schedule",
]

"""Layers and containers: modules that hold parameters and call :mod:`gpunn.functional`."""

from gpunn.nn.activation import ReLU, Sigmoid, Tanh
from gpunn.nn.container import Sequential
from gpunn.nn.conv import Conv2d
from gpunn.nn.linear import Flatten, Linear
from gpunn.nn.lrn import LocalResponseNorm
from gpunn.nn.module import Module, Parameter
from gpunn.nn.pool import AvgPool2d, MaxPool2d

__all__ = [
    "AvgPool2d",
    "Conv2d",
    "Flatten",
    "Linear",
    "LocalResponseNorm",
    "MaxPool2d",
    "Module",
    "Parameter",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Tanh",
]

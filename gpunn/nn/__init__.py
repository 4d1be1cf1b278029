"""Layers and containers: modules that hold parameters and call :mod:`gpunn.functional`."""

from gpunn.nn.activation import ReLU, Sigmoid, Tanh
from gpunn.nn.batch_norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from gpunn.nn.container import ModuleList, Sequential
from gpunn.nn.conv import Conv2d
from gpunn.nn.dropout import Dropout, Dropout2d
from gpunn.nn.global_pool import GlobalAvgPool2d, GlobalMaxPool2d
from gpunn.nn.linear import Flatten, Linear
from gpunn.nn.lrn import LocalResponseNorm
from gpunn.nn.module import Buffer, Module, Parameter
from gpunn.nn.pool import AvgPool2d, MaxPool2d

__all__ = [
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Buffer",
    "Conv2d",
    "Dropout",
    "Dropout2d",
    "Flatten",
    "GlobalAvgPool2d",
    "GlobalMaxPool2d",
    "Linear",
    "LocalResponseNorm",
    "MaxPool2d",
    "Module",
    "ModuleList",
    "Parameter",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Tanh",
]

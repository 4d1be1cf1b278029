"""Every public name shows how it is used."""

import re
from types import FunctionType

import pytest

from gpunn import checkpoint, data, distributed, functional, interop, models, nn, optim, plot, profiler, report, train
from gpunn.distributed import cost
from gpunn.interop import cudnn, onnx, torch

PLACES = [
    functional, nn, nn.init, optim, optim.schedule, models, data, train, checkpoint, distributed, interop, cudnn, onnx,
    torch, profiler, plot, report, cost,
]  # fmt: skip


def public(place):
    names = getattr(place, "__all__", None) or [
        name for name, held in vars(place).items()
        if name[0] != "_" and isinstance(held, FunctionType | type) and held.__module__ == place.__name__
    ]  # fmt: skip
    return [name for name in names if isinstance(getattr(place, name), FunctionType | type)]  # not modules, constants


NAMES = [(place, name) for place in PLACES for name in public(place)]


def has_example(place, name):
    return ">>>" in (vars(place)[name].__doc__ or "")


@pytest.mark.parametrize(("place", "name"), NAMES, ids=[f"{place.__name__}.{name}" for place, name in NAMES])
def test_every_public_name_has_an_example_or_names_one_that_has(place, name):
    text = vars(place)[name].__doc__ or ""
    named = [other for other in re.findall(r":(?:class|func):`(\w+)`", text) if other in vars(place)]
    assert has_example(place, name) or any(has_example(place, other) for other in named), text
    sentence = text.strip().split("\n\n")[0]
    assert sentence, "no first sentence"
    assert not sentence.startswith(">>>"), "an example without a sentence before it"


def test_the_table_is_whole():
    assert {(functional, "conv2d"), (nn, "LSTM"), (nn.init, "orthogonal_"), (optim, "Adam")} < set(NAMES)
    assert {(optim.schedule, "OneCycleLR"), (models, "resnet50"), (data, "image_folder")} < set(NAMES)
    assert {(train, "Trainer"), (onnx, "export"), (profiler, "profile"), (report, "Watch")} < set(NAMES)

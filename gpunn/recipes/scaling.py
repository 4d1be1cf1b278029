"""A training step of a known network, measured on one device: what :func:`gpunn.distributed.cost.plan` goes by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gpunn import functional as F
from gpunn import models, nn, optim
from gpunn.backend import asarray, random_generator, use_device
from gpunn.casting import autocast
from gpunn.distributed.cost import Layer, Step
from gpunn.errors import ArgumentError, fail
from gpunn.profiler import Profile, profile
from gpunn.recipes.options import nearest
from gpunn.tensor import tensor

_LONG_ENOUGH = 0.2  # seconds of a step: then the batch is not made larger
_ROUNDS = 3
CLASSES = 1000


class Known(NamedTuple):
    """How a network is made (from a generator), and the shape of one sample."""

    make: Callable[[np.random.Generator], nn.Module]
    shape: tuple[int, ...]
    text: str


def _of_images(make: Callable[..., nn.Module], size: int = 224) -> Known:
    text = f"photographs of {size}×{size}, {CLASSES} classes"
    return Known(lambda generator: make(CLASSES, generator=generator), (3, size, size), text)


NETWORKS: dict[str, Known] = {
    "mlp": Known(lambda g: models.mlp((784, 512, 10), generator=g), (784,), "784, 512 and 10 units"),
    "lenet": Known(lambda g: models.lenet(generator=g), (1, 8, 8), "scikit-learn's digits"),
    "lenet5": Known(lambda g: models.lenet5(generator=g), (1, 28, 28), "MNIST"),
    "alexnet": _of_images(models.alexnet, 227),
    "vgg11": _of_images(models.vgg11),
    "vgg16": _of_images(models.vgg16),
    "resnet18": _of_images(models.resnet18),
    "resnet50": _of_images(models.resnet50),
    "squeezenet": _of_images(models.squeezenet),
}
"""The networks of :mod:`gpunn.models` that classify, in the size that their papers or recipes have."""

OPTIMIZERS: dict[str, tuple[Callable[[Any], optim.Optimizer], int]] = {
    "adam": (lambda parameters: optim.Adam(parameters, lr=1e-3), 2),
    "sgd": (lambda parameters: optim.SGD(parameters, lr=1e-3, momentum=0.9), 1),
}
"""How they are made, and how many arrays like the parameters they keep."""


def find(name: str) -> Known:
    """The network of that name; ArgumentError, with the nearest, if there is none.

    >>> find("resnet05")
    Traceback (most recent call last):
    gpunn.errors.ArgumentError: plan: there is no network 'resnet05'; did you mean 'resnet50'?
    """
    if name not in NETWORKS:
        fail(ArgumentError, "plan", f"there is no network {name!r}; {nearest(name, NETWORKS)}")
    return NETWORKS[name]


def measure(
    name: str,
    batch: int,
    device: str = "cpu",
    precision: str = "fp32",
    optimizer: str = "adam",
    on_progress: Callable[[float, str], None] = lambda part, what: None,
) -> list[Step]:
    """Steps of the network ``name`` on random samples: one with the most, at most ``batch``, behind one with half.

    The most are two, doubled until a step takes 0.2 s or has ``batch`` samples; with one there is no half. A step is
    the one of median time of three. The backward of a layer is the time in the gradients of what was recorded in it,
    and not in a layer inside; all that is no layer's backward, the loss and its gradient too, counts as forward, which
    comes before it. Activations are the most that a step has in use beyond parameters, gradients and the optimizer's
    states, as :func:`gpunn.profile` measures it. ``precision`` is the trainer's, ``optimizer`` a name in
    :data:`OPTIMIZERS`.

    >>> half, step = measure("lenet", batch=4)
    >>> half.batch, step.batch, step.parameters, [layer.name for layer in step.layers if layer.parameters]
    (2, 4, 53002, ['0', '4', '8', '10'])

    Raises ArgumentError for another network, DeviceError where there is no such device.
    """
    known = find(name)
    with use_device(device):
        network = known.make(random_generator(0)).to(device)
        training = _Training(network, OPTIMIZERS[optimizer][0](network.parameters()), known.shape, device, precision)
        count = min(2, batch)
        while True:
            on_progress(0.1, f"{name}, {count} samples")
            training.step(count)  # what is done once is done: buffers, kernels, states
            with profile() as whole:
                training.step(count)
            if count == batch or whole.seconds >= _LONG_ENOUGH:
                break
            count = min(2 * count, batch)
        on_progress(0.5, f"{name}, {count} samples")
        most = training.measured(count)
        on_progress(0.8, f"{name}, {count // 2} samples")
        return [training.measured(count // 2), most] if count > 1 else [most]


class _Training:
    """A network that is trained on random samples."""

    def __init__(
        self, network: nn.Module, optimizer: optim.Optimizer, shape: tuple[int, ...], device: str, precision: str
    ) -> None:
        self._network, self._optimizer, self._shape, self._device = network, optimizer, shape, device
        self._half = None if precision == "fp32" else precision

    def _samples(self, count: int) -> tuple[Any, Any]:
        x = random_generator(count).standard_normal((count, *self._shape), dtype=np.float32)
        return tensor(asarray(x, self._device)), asarray(np.zeros(count, np.int64), self._device)

    def _gradients(self, x: Any, labels: Any) -> None:
        self._optimizer.zero_grad()
        with autocast(self._half):
            loss = F.cross_entropy(self._network(x), labels)
        loss.backward()

    def step(self, count: int) -> None:
        self._gradients(*self._samples(count))
        self._optimizer.step()

    def measured(self, count: int) -> Step:
        given = self._samples(count)
        self._gradients(*given)
        rounds: list[tuple[float, float, Profile]] = []
        for _ in range(_ROUNDS):
            with profile(self._network) as gradients:
                self._gradients(*given)
            with profile() as update:
                self._optimizer.step()
            rounds.append((gradients.seconds + update.seconds, update.seconds, gradients))
        with profile(self._network, memory=True) as used:
            self._gradients(*given)
        _, update_seconds, gradients = sorted(rounds, key=lambda each: each[0])[_ROUNDS // 2]
        layers = _layers(self._network, gradients)
        before = max(0.0, gradients.seconds - sum(layer.backward for layer in layers))
        return Step(count, before, layers, update_seconds, float(used.peak_bytes or 0))


def _layers(network: nn.Module, profiled: Profile) -> tuple[Layer, ...]:
    """The layers with their own backward and their own parameters, in the order of forward.

    A parameter that several layers hold is the first one's: its gradient is whole when backward has passed that.
    """
    sums = {layer.name: layer for layer in profiled.layers}
    names = [path for path, _ in network.named_modules()]
    modules = dict(network.named_modules())
    found: list[Layer] = []
    counted: set[int] = set()
    for each in profiled.layers:
        path = each.name if each.name in modules else ""  # the whole network is called by its type
        inside = [other for other in names if other and other.rpartition(".")[0] == path]
        own = each.backward_seconds - sum(sums[other].backward_seconds for other in inside if other in sums)
        new = [p for p in modules[path].parameters(recurse=False) if id(p) not in counted]
        counted |= {id(p) for p in new}
        found.append(Layer(each.name, sum(p.size for p in new), max(0.0, own)))
    return tuple(found)

"""AlexNet, in one piece or as two towers that share the work of two GPUs."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from zlib import crc32

import numpy as np

from gpunn import functional as F
from gpunn import nn
from gpunn.backend import (
    Array,
    check_device,
    default_generator,
    device_context,
    device_of,
    get_array_module,
    is_array,
    random_generator,
    to_cpu,
    use_device,
)
from gpunn.distributed import World
from gpunn.distributed import functional as exchange
from gpunn.errors import ArgumentError, ShapeError, check
from gpunn.functional.record import raw
from gpunn.nn import init
from gpunn.tensor import Tensor

LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
_TORCHVISION = (
    "features.0", "features.3", "features.6", "features.8", "features.10",
    "classifier.1", "classifier.4", "classifier.6",
)  # fmt: skip
# Their biases start at 1: ReLU then sees positive inputs from the first step.
_BIAS_ONE = {"conv2", "conv4", "conv5", "fc6", "fc7"}
_LOOK = 16
"""Of how many calls in training one compares the random numbers of the ranks."""


class Response(nn.Module):
    """ReLU, max pooling 3/2 and local response normalisation (n 5, k 2, alpha 1e-4, beta 0.75) in one kernel.

    Each of ``towers`` equal runs of channels is normalised by itself. ``norm_before_pool`` is the paper's order.
    Without ``normalize`` it is ReLU and pooling alone.

    >>> Response(towers=2)(np.ones((1, 96, 55, 55), np.float32)).shape
    (1, 96, 27, 27)
    """

    def __init__(self, towers: int = 1, norm_before_pool: bool = False, normalize: bool = True) -> None:
        self.towers, self.norm_before_pool, self.normalize = towers, norm_before_pool, normalize

    def forward(self, x: Any) -> Tensor:
        if not self.normalize:
            return F.max_pool2d(F.relu(x), 3, 2)
        n, c, h, w = x.shape
        own = x.reshape(n * self.towers, c // self.towers, h, w)
        # The convolution before it has added the bias: the towers' biases differ.
        zero = get_array_module(raw(x)).zeros(own.shape[1], x.dtype)
        y = (F.bias_relu_lrn_pool if self.norm_before_pool else F.bias_relu_pool_lrn)(own, zero)
        return y.reshape(n, c, *y.shape[2:])


class _Layers(nn.Module):
    """The layers of AlexNet in ``groups``, or those of one of ``share`` towers; without ``classes`` it has no fc8."""

    def __init__(
        self,
        classes: int | None,
        groups: int,
        share: int,
        *,
        norm_before_pool: bool = False,
        normalize: bool = True,
        in_channels: int = 3,
        size: int = 227,
        padding: int = 0,
        channels: Sequence[int] = (96, 256, 384, 384, 256),
        hidden: int = 4096,
        generator: np.random.Generator | None = None,
    ) -> None:
        last = (size + 2 * padding - 11) // 4 + 1
        for _ in range(3):
            last = (last - 3) // 2 + 1
        check(last >= 1, ArgumentError, "alexnet", "size must be at least 67", size=size)
        rule = "there must be the channels of five convolutions"
        check(len(channels) == 5, ArgumentError, "alexnet", rule, channels=tuple(channels))
        towers, counts = groups * share, (*channels, hidden)
        rule = "channels and hidden must divide into the towers"
        check(not any(c % towers for c in counts), ArgumentError, "alexnet", rule, counts=counts, towers=towers)
        c1, c2, c3, c4, c5, c6 = (count // share for count in counts)
        drawn: Any = {"generator": generator}
        self.conv1 = nn.Conv2d(in_channels, c1, 11, stride=4, padding=padding, **drawn)
        self.response1 = Response(groups, norm_before_pool, normalize)
        self.conv2 = nn.Conv2d(c1, c2, 5, padding=2, groups=groups, **drawn)
        self.response2 = Response(groups, norm_before_pool, normalize)
        self.conv3 = nn.Conv2d(share * c2, c3, 3, padding=1, **drawn)
        self.conv4 = nn.Conv2d(c3, c4, 3, padding=1, groups=groups, **drawn)
        self.conv5 = nn.Conv2d(c4, c5, 3, padding=1, groups=groups, **drawn)
        self.pool = nn.MaxPool2d(3, stride=2)
        self.fc6 = nn.Linear(share * c5 * last**2, c6, **drawn)
        self.fc7 = nn.Linear(share * c6, c6, **drawn)
        self.fc8 = None if classes is None else nn.Linear(share * c6, classes, **drawn)

    @property
    def _torch_names(self) -> dict[str, str]:
        """What torchvision calls the layers of the network without normalisation, for ``load_state``."""
        return {} if self.response1.normalize else dict(zip(_TORCHVISION, LAYERS, strict=True))

    def first_maps(self, x: Any) -> Tensor:
        """Blocks 1 and 2."""
        return self.response2(self.conv2(self.response1(self.conv1(x))))

    def last_maps(self, x: Any) -> Tensor:
        """Blocks 3, 4 and 5, flattened."""
        maps = F.relu(self.conv4(F.relu(self.conv3(x))))
        maps = self.pool(F.relu(self.conv5(maps)))
        return maps.reshape(maps.shape[0], -1)

    def hidden6(self, x: Any) -> Tensor:
        return F.relu(self.fc6(x))

    def hidden7(self, x: Any) -> Tensor:
        return F.relu(self.fc7(x))

    def logits(self, x: Any) -> Tensor:
        assert self.fc8 is not None, "the tower without fc8 gives no logits"
        return self.fc8(x)


def _initialise(towers: Sequence[_Layers], generator: np.random.Generator | None) -> None:
    """The paper's values; two towers get those of the one network, whose first half of the outputs is the first's."""
    for name in LAYERS:
        for tower in towers:
            layer = getattr(tower, name)
            if layer is not None:
                init.normal_(layer.weight, 0, 0.01, generator)
                layer.bias.data[...] = float(name in _BIAS_ONE)


class _Network(_Layers):
    """The layers one after another, all of them or those of one tower."""

    dropout: float

    def forward(self, x: Any) -> Tensor:
        h = self.last_maps(self._joined(self.first_maps(x)))
        h = self.hidden6(self._joined(h))
        h = self.hidden7(F.dropout(self._joined(h), self.dropout, self.training))
        return self.logits(F.dropout(self._joined(h, last=True), self.dropout, self.training))

    def _joined(self, x: Any, last: bool = False) -> Any:
        """What all towers have where this one has x; of the ``last`` layer, which all towers hold whole."""
        return x


class AlexNet(_Network):
    """AlexNet on one device; images (N, in_channels, size, size) to logits (N, classes). See :func:`alexnet`.

    >>> net = AlexNet(10, size=67, channels=(4, 8, 8, 8, 4), hidden=16)
    >>> net(np.zeros((2, 3, 67, 67), np.float32)).shape
    (2, 10)
    """

    def __init__(self, classes: int = 1000, towers: int = 1, dropout: float = 0.5, **settings: Any) -> None:
        super().__init__(classes, towers, 1, **settings)
        self.dropout = dropout
        _initialise([self], settings.get("generator"))


class AlexNetTower(_Network):
    """One of the two towers of AlexNet, the rank's own; see :func:`alexnet`.

    It has the layers and names of :class:`AlexNet` with ``towers=2``, with the rank's half of the outputs of each, the
    first half on the first rank. It sends its maps before ``conv3``, and what it has hidden before ``fc6``, ``fc7`` and
    ``fc8``: four exchanges forward, and as many backward. ``fc8`` is whole on both ranks, and so are the logits and the
    loss, equal bit for bit on devices of the same kind. They count once (:mod:`gpunn.distributed.functional`): each
    rank goes backward from its own loss, and has whole gradients for ``fc8`` and for its half of the other layers. A
    norm of all gradients is that of both ranks' halves, and of one ``fc8``.

    Equal generators draw the weights of the whole network, of which each rank keeps its own, and the masks of dropout:
    :func:`gpunn.manual_seed` must be given the same on both, and what draws on one must draw on both.

    >>> from gpunn import distributed
    >>> net = AlexNetTower(10, distributed.init(), size=67, channels=(4, 8, 8, 8, 4), hidden=16)
    >>> net(np.zeros((2, 3, 67, 67), np.float32)).shape  # the same logits on each of 2 ranks
    (2, 10)

    One rank holds both towers. Raises DistributedError where the ranks have other settings, weights or random numbers.
    """

    def __init__(self, classes: int, world: World, dropout: float = 0.5, **settings: Any) -> None:
        rule = "a network is shared by two ranks: world.split(world.rank // 2, world.rank) makes pairs"
        check(world.size <= 2, ArgumentError, "alexnet", rule, ranks=world.size)
        whole = AlexNet(classes, 2, dropout, **settings)  # all ranks draw all numbers
        shared = settings | {"generator": None}
        world.agree("alexnet's settings", {"classes": classes, "dropout": dropout} | shared)
        world.agree("alexnet's first weights, from equal seeds,", crc32(whole.conv1.weight.data))
        super().__init__(classes, 2 // world.size, world.size, **shared | {"generator": random_generator(0)})
        self.dropout, self.world, self._calls = dropout, world, 0
        self.load_state_dict(tower_state(whole.state_dict(), world))
        self.to(world.device)

    @property
    def device(self) -> str:
        """Where the tower is."""
        return self.conv1.weight.device

    def forward(self, x: Any) -> Tensor:
        if self.training and self.dropout:
            if self._calls % _LOOK == 0:
                drawn = copy.deepcopy(default_generator()).integers(1 << 63)
                self.world.agree("the next random number, for dropout (manual_seed),", int(drawn))
            self._calls += 1
        with use_device(self.device):
            return super().forward(exchange.copy(F.to_device(x, self.device), self.world))

    def _joined(self, x: Any, last: bool = False) -> Any:
        return exchange.all_gather(x, self.world, axis=1, replicated=last)


class Exchange(nn.Module):
    """What each tower holds, joined along axis 1, on the devices of all towers: the only way from one to another.

    >>> a, b = Exchange()([np.zeros((1, 2)), np.ones((1, 2))])
    >>> a.tolist() == b.tolist() == [[0.0, 0.0, 1.0, 1.0]]
    True
    """

    def forward(self, xs: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(self.to_one(xs, tower) for tower in range(len(xs)))

    def to_one(self, xs: Sequence[Any], tower: int) -> Any:
        """What both hold, on the device of one of them."""
        target = raw(xs[tower])
        with device_context(target):
            return F.concatenate([F.to_device(x, device_of(target)) for x in xs], axis=1)


class TwoTowerAlexNet(nn.Module):
    """AlexNet with each tower on a device of its own; see :func:`alexnet`.

    ``tower0`` and ``tower1`` hold the layers ``conv1`` to ``fc7`` with half of the outputs each; ``fc8`` is in
    ``tower0``. They exchange before ``conv3``, ``fc6`` and ``fc7``, and the second sends its half to ``fc8``: seven
    transfers, beside the image. The logits are on the first device. Equal generators draw the weights of an
    :class:`AlexNet` with ``towers=2``.

    >>> net = TwoTowerAlexNet(10, ("cpu", "cpu"), size=67, channels=(4, 8, 8, 8, 4), hidden=16)
    >>> net(np.zeros((2, 3, 67, 67), np.float32)).shape
    (2, 10)
    """

    def __init__(self, classes: int, devices: tuple[str, str], dropout: float = 0.5, **settings: Any) -> None:
        check(len(devices) == 2, ArgumentError, "alexnet", "there must be two devices", devices=devices)
        where = [check_device(device) for device in devices]
        self.tower0 = _Layers(classes, 1, 2, **settings)
        self.tower1 = _Layers(None, 1, 2, **settings)
        self.exchange = Exchange()
        self.dropout = dropout
        _initialise(self.towers, settings.get("generator"))
        for tower, device in zip(self.towers, where, strict=True):
            tower.to(device)

    @property
    def towers(self) -> tuple[_Layers, _Layers]:
        """Both towers."""
        return self.tower0, self.tower1

    @property
    def devices(self) -> tuple[str, ...]:
        """Where the towers are."""
        return tuple(tower.conv1.weight.device for tower in self.towers)

    def forward(self, x: Any) -> Tensor:
        maps = self._each(_Layers.first_maps, [F.to_device(x, device) for device in self.devices])
        h = self._each(_Layers.last_maps, self.exchange(maps))
        h = self._each(_Layers.hidden6, self.exchange(h))
        h = self._each(_Layers.hidden7, self._dropped(self.exchange(h)))
        (h0,) = self._dropped([self.exchange.to_one(h, 0)])
        with use_device(self.devices[0]):
            return self.tower0.logits(h0)

    def _each(self, part: Callable[[_Layers, Any], Any], xs: Sequence[Any]) -> list[Any]:
        """``part`` of each tower, computed on its device."""
        results = []
        for tower, device, x in zip(self.towers, self.devices, xs, strict=True):
            with use_device(device):
                results.append(part(tower, x))
        return results

    def _dropped(self, xs: Sequence[Any]) -> list[Any]:
        """Dropout with one mask on all devices: the copies of the generator draw the key that it draws."""
        generators = [*(copy.deepcopy(default_generator()) for _ in xs[1:]), default_generator()]
        results = []
        for x, generator in zip(xs, generators, strict=True):
            with device_context(raw(x)):
                results.append(F.dropout(x, self.dropout, self.training, generator=generator))
        return results


def split_towers(state: Mapping[str, Array]) -> dict[str, Array]:
    """The ``state_dict`` of a :class:`TwoTowerAlexNet`, in NumPy, from that of an :class:`AlexNet` with ``towers=2``.

    The first half of the outputs of every layer but fc8 is the first tower's.

    >>> split = split_towers({"conv1.bias": np.arange(4.0), "fc8.bias": np.arange(3.0)})
    >>> {name: array.tolist() for name, array in split.items()}
    {'tower0.conv1.bias': [0.0, 1.0], 'tower1.conv1.bias': [2.0, 3.0], 'tower0.fc8.bias': [0.0, 1.0, 2.0]}
    """
    split = {}
    for name, array in state.items():
        halves = [to_cpu(array)] if _is_whole(name) else np.split(to_cpu(array), 2)
        split.update({f"tower{tower}.{name}": half for tower, half in enumerate(halves)})
    return split


def merge_towers(state: Mapping[str, Array]) -> dict[str, Array]:
    """The inverse of :func:`split_towers`.

    >>> state = {"conv1.bias": np.arange(4.0), "fc8.bias": np.arange(3.0)}
    >>> merged = merge_towers(split_towers(state))
    >>> {name: array.tolist() for name, array in merged.items()}
    {'conv1.bias': [0.0, 1.0, 2.0, 3.0], 'fc8.bias': [0.0, 1.0, 2.0]}
    """
    names = [name.removeprefix("tower0.") for name in state if name.startswith("tower0.")]
    halves = {
        name: [to_cpu(state[f"tower{t}.{name}"]) for t in (0, 1) if f"tower{t}.{name}" in state] for name in names
    }
    return {name: np.concatenate(arrays) for name, arrays in halves.items()}


def tower_state(state: Mapping[str, Any], world: World) -> dict[str, Any]:
    """The ``state_dict`` of the rank's own :class:`AlexNetTower`, from that of an :class:`AlexNet` with ``towers=2``.

    And that of its optimizer, if the parameters have names there (``optim.SGD(net.named_parameters())``) and the states
    their shapes. Arrays are in NumPy.

    >>> from gpunn import distributed
    >>> state = tower_state({"conv1.bias": np.arange(4.0), "fc8.bias": np.arange(3.0)}, distributed.init())
    >>> {name: array.tolist() for name, array in state.items()}  # of 2 ranks the first has [0.0, 1.0] and all of fc8
    {'conv1.bias': [0.0, 1.0, 2.0, 3.0], 'fc8.bias': [0.0, 1.0, 2.0]}

    Raises ArgumentError for an optimizer's state whose parameters are numbered, ShapeError for arrays without halves.
    """
    own = {}
    for name, value in _on_host("tower_state", state).items():
        if _is_cut(name, value):
            rule = f"{name} must have outputs for each tower"
            check(len(value) % world.size == 0, ShapeError, "tower_state", rule, shape=value.shape, ranks=world.size)
            value = np.split(value, world.size)[world.rank]
        own[name] = value
    return own


def gather_towers(state: Mapping[str, Any], world: World) -> dict[str, Any]:
    """The inverse of :func:`tower_state`, on all ranks, which call it with what each has.

    So a training on two ranks leaves a checkpoint for one, and the other way round.

    >>> from gpunn import distributed
    >>> gather_towers({"conv1.bias": np.arange(2.0)}, distributed.init())  # of 2 ranks: [0., 1., 0., 1.]
    {'conv1.bias': array([0., 1.])}
    """
    return {
        name: np.concatenate(world.all_gather(value)) if _is_cut(name, value) else value
        for name, value in _on_host("gather_towers", state).items()
    }


def _on_host(op: str, state: Mapping[str, Any]) -> dict[str, Any]:
    """``state`` of a module or an optimizer, its arrays in NumPy."""
    for name in state:
        rule = "the optimizer's parameters must have names: give it net.named_parameters()"
        check(not re.match(r"parameters\.\d", name), ArgumentError, op, rule, name=name)
    return {name: to_cpu(value) if is_array(value) else value for name, value in state.items()}


def _is_whole(name: str) -> bool:
    return "fc8" in name.split(".")


def _is_cut(name: str, value: Any) -> bool:
    """Whether the towers have halves of this entry of a state, in NumPy."""
    return isinstance(value, np.ndarray) and value.ndim > 0 and not _is_whole(name)


def alexnet(
    classes: int = 1000,
    *,
    towers: int = 1,
    devices: tuple[str, str] | None = None,
    world: World | None = None,
    **settings: Any,
) -> AlexNet | TwoTowerAlexNet | AlexNetTower:
    """AlexNet: images (N, in_channels, size, size) to logits (N, classes).

    ::

        conv1 96 × 11×11, stride 4 → ReLU → max pool 3/2 → LRN    (N, 96, 55, 55), then 27×27
        conv2 256 × 5×5, pad 2 → ReLU → max pool 3/2 → LRN        (N, 256, 27, 27), then 13×13
        conv3 384 × 3×3, pad 1 → ReLU                             (N, 384, 13, 13)
        conv4 384 × 3×3, pad 1 → ReLU                             (N, 384, 13, 13)
        conv5 256 × 3×3, pad 1 → ReLU → max pool 3/2              (N, 256, 13, 13), then 6×6
        fc6 → ReLU → dropout, fc7 → ReLU → dropout                (N, 4096)
        fc8                                                       (N, classes)

    ``norm_before_pool=True`` gives the paper's order, conv → ReLU → LRN → pool. ``towers=2`` cuts the maps in two
    halves, which conv2, conv4, conv5 and both LRN do not look across, the paper's network: 60,965,224 parameters
    (62,378,344 with one tower). On one device these are grouped convolutions. ``devices=("gpu:0", "gpu:1")`` computes
    each half on a GPU of its own (:class:`TwoTowerAlexNet`; :func:`split_towers` and :func:`merge_towers` convert
    weights).

    Other settings: ``dropout=0.5``, ``in_channels=3``, ``size=227``, ``channels=(96, 256, 384, 384, 256)``,
    ``hidden=4096``, ``padding=0`` (of conv1), ``normalize=True`` (LRN), ``generator`` (draws the weights).
    torchvision's network, whose weights :func:`gpunn.interop.load_state` takes, is ``alexnet(size=224, padding=2,
    normalize=False, channels=(64, 192, 384, 256, 256))``. As in the paper, weights have mean 0 and deviation 0.01,
    biases are 1 in conv2, conv4, conv5, fc6 and fc7, else 0. It trains with momentum 0.9, weight decay 0.0005 and
    lr 0.01:

    >>> from gpunn import optim, tensor
    >>> net = alexnet(10, towers=2, size=67, channels=(4, 8, 8, 8, 4), hidden=16)
    >>> optimizer = optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=0.0005)
    >>> loss = F.cross_entropy(net(tensor(np.zeros((2, 3, 67, 67), np.float32))), np.array([3, 7]))
    >>> loss.backward()
    >>> optimizer.step()

    On two GPUs each tower has its optimizer: ``with use_device(device): optim.SGD(tower.parameters(), ...)`` for each
    of ``zip(net.devices, net.towers)``, and so with its steps.

    ``world`` has two ranks compute a tower each (:class:`AlexNetTower`), on the same images: each trains what it holds,
    and has the logits and the loss. Of 2 n ranks, n pairs may each have other images; those with the same tower then
    take the mean of their gradients. :func:`tower_state` and :func:`gather_towers` convert weights. With ``mpirun -n 4
    python train.py``::

        world = distributed.init("gpu")
        pair = world.split(world.rank // 2, world.rank)  # ranks 0 and 1, and 2 and 3, share a network
        same = world.split(world.rank % 2, world.rank)  # ranks 0 and 2, and 1 and 3, hold the same tower
        backend.manual_seed(0)
        net = models.alexnet(towers=2, world=pair)
        optimizer = optim.SGD(net.named_parameters(), lr=0.01, momentum=0.9, weight_decay=0.0005)
        buckets = distributed.Buckets(same, net.parameters())
        for images, labels in batches(world.rank // 2):  # a pair's own
            optimizer.zero_grad()
            loss = F.cross_entropy(net(images), backend.asarray(labels, net.device))
            buckets.begin()
            loss.backward(whole=buckets.add)  # exchanges with the other tower, and sums over equal ones meanwhile
            buckets.finish(divisor=same.size)
            optimizer.step()
        state = models.gather_towers(net.state_dict(), pair)  # that of models.alexnet(towers=2)

    Raises ArgumentError for settings that do not fit together. Source: A. Krizhevsky et al., "ImageNet classification
    with deep convolutional neural networks", 2012.
    """
    check(towers in (1, 2), ArgumentError, "alexnet", "there must be 1 or 2 towers", towers=towers)
    if world is not None:
        fits = towers == 2 and devices is None
        check(fits, ArgumentError, "alexnet", "world needs towers=2 and no devices", towers=towers, devices=devices)
        return AlexNetTower(classes, world, **settings)
    if devices is None:
        return AlexNet(classes, towers, **settings)
    check(towers == 2, ArgumentError, "alexnet", "devices need towers=2", towers=towers, devices=devices)
    return TwoTowerAlexNet(classes, devices, **settings)

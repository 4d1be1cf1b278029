"""What data-parallel training costs on paper: all-reduce, what of it backward hides, waiting, memory a rank.

Formulas alone: nothing is measured and no process is started here. A :class:`Step` on one device and a
:class:`Network` give a :class:`Plan` for each number of ranks, by :func:`plan`.

The model, and so what it takes for granted:

- A message of ``size`` bytes takes ``latency + size / bandwidth`` (Hockney 1994), however many are on the way; adding
  numbers up costs nothing, and an all-reduce takes nothing from the computation beside it.
- Weak scaling: each rank computes a batch of the same size, as fast as one device alone. Efficiency is the time of
  that step alone over the time of a step of all.
- Backward goes through the layers from the last to the first. Their gradients fill buckets in that order; a bucket is
  reduced when it is full and the one before is done (Li et al. 2020, "PyTorch Distributed"; Sergeev and Del Balso
  2018, "Horovod"). What of it lies within backward is hidden, the rest exposed.
- Data are there in time; batch norms are not synchronised.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import Any

from gpunn.distributed.buckets import BUCKET_BYTES
from gpunn.errors import ArgumentError, check, check_number, check_sizes

ALGORITHMS = ("auto", "ring", "tree")
"""Ways of an all-reduce; ``auto`` is the faster one for the size, which MPI and NCCL choose, too."""

FLOAT = 4
"""Bytes of a parameter, of its gradient and of each of the optimizer's states: they are float32 in all precisions."""


# ---- links and collectives ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Link:
    """What a rank sends over: ``bandwidth`` in bytes a second, in each direction at once, ``latency`` in seconds.

    >>> Link(50e9, 5e-6)
    Link(bandwidth=50000000000.0, latency=5e-06)

    Raises ArgumentError unless the bandwidth is above 0 and the latency at least 0.
    """

    bandwidth: float
    latency: float = 0.0

    def __post_init__(self) -> None:
        check_number("Link", bandwidth=self.bandwidth, latency=self.latency)
        valid = 0 < self.bandwidth < math.inf
        check(valid, ArgumentError, "Link", "bandwidth must be above 0 and finite", bandwidth=self.bandwidth)
        valid = 0 <= self.latency < math.inf
        check(valid, ArgumentError, "Link", "latency must be at least 0 and finite", latency=self.latency)


def ring(size: float, ranks: int, link: Link) -> float:
    """Seconds of an all-reduce of ``size`` bytes in a ring: ``2 (n-1)/n · size/bandwidth + 2 (n-1) · latency``.

    The array is cut into n pieces, which go round twice: once to be added up, once to be handed out.

    >>> ring(100e6, 4, Link(10e9))
    0.015
    >>> ring(100e6, 1, Link(10e9))
    0.0

    Source: Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce algorithms for clusters of workstations"; the times
    of messages as in Thakur, Rabenseifner and Gropp 2005, "Optimization of collective communication operations in
    MPICH".
    """
    return 2 * half_ring(size, ranks, link)


def half_ring(size: float, ranks: int, link: Link) -> float:
    """Seconds of a reduce-scatter, or of an all-gather, of ``size`` bytes in all: half of :func:`ring`.

    >>> half_ring(100e6, 4, Link(10e9))
    0.0075
    """
    _check_message(size, ranks)
    return (ranks - 1) / ranks * size / link.bandwidth + (ranks - 1) * link.latency


def tree(size: float, ranks: int, link: Link) -> float:
    """Seconds of an all-reduce up and down two trees at once: ``2 · size/bandwidth + 2 ⌈log2 n⌉ · latency``.

    The array goes in small pieces, one behind the other, so that its size counts once for each direction; a rank is a
    leaf in one tree and has children in the other, so that it sends and receives all the time.

    >>> tree(100e6, 4, Link(10e9, 1e-3))
    0.024

    Source: Sanders, Speck and Träff 2009, "Two-tree algorithms for full bandwidth broadcast, reduction and scan".
    """
    _check_message(size, ranks)
    if ranks == 1:
        return 0.0
    return 2 * size / link.bandwidth + 2 * math.ceil(math.log2(ranks)) * link.latency


def _check_message(size: float, ranks: int) -> None:
    check(size >= 0, ArgumentError, "all_reduce", "size must be at least 0", size=size)
    check_sizes("all_reduce", ranks=ranks)


@dataclass(frozen=True)
class Network:
    """How ranks are joined: one ``link`` a rank or, with ``per_node`` ranks in a node, one a node and ``inner`` in it.

    With nodes an all-reduce has three parts: a reduce-scatter within each node, an all-reduce between nodes of the
    pieces, all of which share the node's link, and an all-gather within each node. ``algorithm``, one of
    :data:`ALGORITHMS`, is that between nodes; within them it is a ring.

    >>> network = Network(Link(10e9), per_node=4, inner=Link(100e9))
    >>> network.all_reduce(100e6, 4), network.all_reduce(100e6, 8)
    (0.0015, 0.0115)

    Raises ArgumentError for nodes without ``inner``, or for another ``algorithm``. Source of the parts: Jia et al.
    2018, "Highly scalable deep learning training system with mixed-precision".
    """

    link: Link
    per_node: int = 1
    inner: Link | None = None
    algorithm: str = "auto"

    def __post_init__(self) -> None:
        check_sizes("Network", per_node=self.per_node)
        given = (self.per_node > 1) == (self.inner is not None)
        rule = "nodes of several ranks, and only they, have an inner link"
        check(given, ArgumentError, "Network", rule, per_node=self.per_node, inner=self.inner)
        rule = f"algorithm must be one of {', '.join(ALGORITHMS)}"
        check(self.algorithm in ALGORITHMS, ArgumentError, "Network", rule, algorithm=self.algorithm)

    def all_reduce(self, size: float, ranks: int) -> float:
        """Seconds of an all-reduce of ``size`` bytes; ArgumentError if ``ranks`` fill no nodes."""
        within, nodes = self._within(size, ranks), self._nodes(ranks)
        ways = {"ring": ring(size, nodes, self.link), "tree": tree(size, nodes, self.link)}
        return 2 * within + (min(ways.values()) if self.algorithm == "auto" else ways[self.algorithm])

    def reduce_scatter(self, size: float, ranks: int) -> float:
        """Seconds of a reduce-scatter, and of an all-gather, of ``size`` bytes in all; they are rings."""
        return self._within(size, ranks) + half_ring(size, self._nodes(ranks), self.link)

    def _within(self, size: float, ranks: int) -> float:
        return 0.0 if self.inner is None else half_ring(size, min(ranks, self.per_node), self.inner)

    def _nodes(self, ranks: int) -> int:
        whole = ranks <= self.per_node or ranks % self.per_node == 0
        rule = "ranks must fill their nodes, or fit into one"
        check(whole, ArgumentError, "Network", rule, ranks=ranks, per_node=self.per_node)
        return max(1, ranks // self.per_node)


def fit(ranks: int, measured: Iterable[tuple[float, float]], algorithm: str = "ring") -> Link:
    """The link with which :func:`ring` or :func:`tree` comes nearest to measured ``(bytes, seconds)`` of all-reduces.

    The sum of squares of relative errors is least; a latency that would be negative is 0.

    >>> link = Link(2e9, 1e-5)
    >>> found = fit(4, [(size, ring(size, 4, link)) for size in (1e3, 1e5, 1e7)])
    >>> round(found.bandwidth), round(found.latency, 9)
    (2000000000, 1e-05)

    Raises ArgumentError with fewer than two ranks or two sizes, or if larger messages take no longer.
    """
    check(algorithm in ("ring", "tree"), ArgumentError, "fit", "algorithm must be ring or tree", algorithm=algorithm)
    check_sizes("fit", 2, ranks=ranks)
    times = list(measured)
    several = len({size for size, _ in times}) >= 2 and all(size >= 0 and seconds > 0 for size, seconds in times)
    check(several, ArgumentError, "fit", "there must be two sizes or more, and times above 0", measured=times)
    way = {"ring": ring, "tree": tree}[algorithm]
    # a · latency + b / bandwidth is the time; each equation is divided by its time, so that its right side is 1.
    a = [way(0, ranks, Link(1.0, 1.0)) / seconds for _, seconds in times]
    b = [way(size, ranks, Link(1.0)) / seconds for size, seconds in times]
    aa, ab, bb = _dot(a, a), _dot(a, b), _dot(b, b)
    determinant = aa * bb - ab * ab
    latency, slope = (bb * sum(a) - ab * sum(b)) / determinant, (aa * sum(b) - ab * sum(a)) / determinant
    if latency < 0:
        latency, slope = 0.0, sum(b) / bb
    check(slope > 0, ArgumentError, "fit", "larger messages must take longer", measured=times)
    return Link(1 / slope, latency)


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def slowest(ranks: int) -> float:
    """By how many standard deviations the slowest of ``ranks`` is expected to be behind the mean, of a normal law.

    >>> [round(slowest(ranks), 2) for ranks in (1, 2, 8, 1024)]
    [0.0, 0.59, 1.43, 3.23]

    Source: Blom 1958, "Statistical estimates and transformed beta-variables": the quantile at (n - 3/8) / (n + 1/4).
    """
    check_sizes("slowest", ranks=ranks)
    return NormalDist().inv_cdf((ranks - 0.375) / (ranks + 0.25))


# ---- a step ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """A layer of a :class:`Step`: how many numbers its parameters have, and the seconds of its backward."""

    name: str
    parameters: int
    backward: float


@dataclass(frozen=True)
class Step:
    """A training step on one device: what :func:`plan` goes by.

    ``layers`` are in the order of forward. ``forward``, ``update`` (of the optimizer) and each layer's backward are in
    seconds, ``activations`` in bytes: what is in use beyond parameters, gradients and the optimizer's states.

    >>> step = Step(32, 0.1, (Layer("0", 10, 0.15), Layer("1", 20, 0.05)), update=0.1)
    >>> round(step.seconds, 6), step.parameters
    (0.4, 30)
    """

    batch: int
    forward: float
    layers: tuple[Layer, ...]
    update: float = 0.0
    activations: float = 0.0

    def __post_init__(self) -> None:
        check_sizes("Step", batch=self.batch)
        times = {"forward": self.forward, "update": self.update, "backward": self.backward}
        for name, value in times.items():
            check(0 <= value < math.inf, ArgumentError, "Step", f"{name} must be at least 0", **{name: value})
        check(self.seconds > 0, ArgumentError, "Step", "a step must take some time", **times)

    @property
    def backward(self) -> float:
        """Seconds of the backward of all layers."""
        return sum(layer.backward for layer in self.layers)

    @property
    def seconds(self) -> float:
        """Forward, backward and update."""
        return self.forward + self.backward + self.update

    @property
    def parameters(self) -> int:
        """How many numbers there are to train."""
        return sum(layer.parameters for layer in self.layers)

    def lasting(self, seconds: float) -> Step:
        """The step on a device where it takes ``seconds``, each part with the share that it has here.

        >>> Step(8, 0.1, (Layer("0", 10, 0.2),), update=0.1).lasting(4.0).forward
        1.0
        """
        valid = 0 < seconds < math.inf
        check(valid, ArgumentError, "Step", "the time of a step must be above 0 and finite", seconds=seconds)
        factor = seconds / self.seconds
        layers = tuple(replace(layer, backward=factor * layer.backward) for layer in self.layers)
        return replace(self, forward=factor * self.forward, layers=layers, update=factor * self.update)


def at_batch(fewer: Step, more: Step, batch: int) -> Step:
    """The step of ``batch`` samples, from one of ``fewer`` and one of ``more``: each time and the memory on a line.

    ``a + b · samples`` goes through both, where that leaves a and b at least 0; else only through that of ``more``, in
    proportion to the batch, or without growing. The update is as it is.

    >>> fewer = Step(2, 0.3, (Layer("0", 10, 0.2),), update=0.1)
    >>> more = Step(4, 0.5, (Layer("0", 10, 0.4),), update=0.1)
    >>> step = at_batch(fewer, more, 8)
    >>> round(step.forward, 3), round(step.backward, 3), step.update
    (0.9, 0.8, 0.1)

    Raises ArgumentError unless ``more`` has more samples than ``fewer``, and both have the same layers.
    """
    check_sizes("at_batch", batch=batch)
    rule = "more must have more samples than fewer"
    check(fewer.batch < more.batch, ArgumentError, "at_batch", rule, fewer=fewer.batch, more=more.batch)
    same = [layer.name for layer in fewer.layers] == [layer.name for layer in more.layers]
    check(same, ArgumentError, "at_batch", "both must be steps of the same layers")

    def line(few: float, many: float) -> float:
        fixed = (more.batch * few - fewer.batch * many) / (more.batch - fewer.batch)
        fixed = min(max(fixed, 0.0), many)
        return fixed + (many - fixed) * batch / more.batch

    layers = tuple(
        replace(many, backward=line(few.backward, many.backward))
        for few, many in zip(fewer.layers, more.layers, strict=True)
    )
    return Step(
        batch, line(fewer.forward, more.forward), layers, more.update, line(fewer.activations, more.activations)
    )


@dataclass(frozen=True)
class Bucket:
    """Gradients reduced at once, ``ready`` that many seconds after a step begins, and their bytes: :func:`buckets`."""

    ready: float
    size: int


def buckets(step: Step, size: int = BUCKET_BYTES) -> list[Bucket]:
    """The buckets of a step, in the order in which backward fills them.

    A bucket is full when it has ``size`` bytes or more: the gradients of a layer are in one. A last one has the rest.

    >>> step = Step(1, 1.0, (Layer("0", 10, 1.0), Layer("1", 100, 1.0), Layer("2", 10, 1.0)))
    >>> buckets(step, 400)
    [Bucket(ready=3.0, size=440), Bucket(ready=4.0, size=40)]
    """
    check_sizes("buckets", size=size)
    full: list[Bucket] = []
    now, pending = step.forward, 0
    for layer in reversed(step.layers):
        now += layer.backward
        pending += FLOAT * layer.parameters
        if pending >= size:
            full.append(Bucket(now, pending))
            pending = 0
    return [*full, Bucket(now, pending)] if pending else full


# ---- a plan ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Memory:
    """Bytes a rank, of what :func:`plan` finds."""

    parameters: float
    gradients: float
    states: float
    activations: float

    @property
    def total(self) -> float:
        return self.parameters + self.gradients + self.states + self.activations


@dataclass(frozen=True)
class Plan:
    """A step of ``ranks`` ranks, as :func:`plan` finds it: seconds, bytes, samples a second of all, efficiency.

    ``seconds`` is compute, ``waiting`` for the slowest rank, and ``exposed``; ``communication`` is ``hidden`` and
    ``exposed``.
    """

    ranks: int
    seconds: float
    compute: float
    waiting: float
    communication: float
    exposed: float
    samples_per_second: float
    efficiency: float
    memory: Memory = field(repr=False)

    @property
    def hidden(self) -> float:
        """What of the communication lies within backward."""
        return self.communication - self.exposed

    def as_dict(self) -> dict[str, Any]:
        """All figures, as JSON takes them."""
        names = ("ranks", "seconds", "compute", "waiting", "communication", "hidden", "exposed")
        own = {name: getattr(self, name) for name in (*names, "samples_per_second", "efficiency")}
        parts = {name: getattr(self.memory, name) for name in ("parameters", "gradients", "states", "activations")}
        return own | {"memory_bytes": self.memory.total, "memory": parts}


def plan(
    step: Step,
    ranks: int,
    network: Network,
    *,
    bucket: int = BUCKET_BYTES,
    overlap: bool = True,
    sharded: bool = False,
    states: int = 2,
    spread: float = 0.0,
) -> Plan:
    """The step of ``step`` on ``ranks`` ranks joined by ``network``.

    Without ``overlap`` buckets wait for the end of backward. ``states`` arrays like the parameters belong to the
    optimizer: 2 of Adam, 1 of SGD with momentum, 0 without. ``sharded``: each rank keeps 1/n of them (Rajbhandari et
    al. 2020, "ZeRO"), as :class:`gpunn.distributed.Sharded` has it: gradients are reduce-scattered at the end of
    backward, each rank updates its piece in 1/n of the time, and an all-gather of the parameters ends the step; nothing
    hides either. ``spread`` is the standard deviation of the time that forward and backward take on a rank, as a part
    of it: all wait for :func:`slowest`.

    >>> step = Step(32, 0.1, (Layer("first", 1_000_000, 0.1), Layer("last", 9_000_000, 0.1)))
    >>> four = plan(step, 4, Network(Link(0.5e9)))
    >>> round(four.communication, 3), round(four.hidden, 3), round(four.exposed, 3)
    (0.12, 0.1, 0.02)
    >>> round(four.seconds, 3), round(four.efficiency, 4), round(four.samples_per_second)
    (0.32, 0.9375, 400)

    Raises ArgumentError for numbers out of their ranges.
    """
    check_sizes("plan", ranks=ranks)
    check_sizes("plan", 0, states=states)
    check(0 <= spread < 1, ArgumentError, "plan", "spread must be at least 0 and below 1", spread=spread)
    late = 1 + spread * slowest(ranks)
    collective = network.reduce_scatter if sharded else network.all_reduce
    backward_done = step.forward + step.backward
    sent = communication = 0.0
    for each in buckets(step, bucket):
        ready = late * (each.ready if overlap and not sharded else backward_done)
        lasts = collective(each.size, ranks)
        communication += lasts
        sent = max(sent, ready) + lasts
    exposed = min(communication, max(0.0, sent - late * backward_done))  # rounded sums may be a bit apart
    parameters = FLOAT * step.parameters
    if sharded:
        gathering = network.reduce_scatter(parameters, ranks)
        communication, exposed = communication + gathering, exposed + gathering
    compute = backward_done + (step.update / ranks if sharded else step.update)
    waiting = (late - 1) * backward_done
    seconds = compute + waiting + exposed
    kept = states * parameters / (ranks if sharded else 1)
    return Plan(
        ranks=ranks,
        seconds=seconds,
        compute=compute,
        waiting=waiting,
        communication=communication,
        exposed=exposed,
        samples_per_second=ranks * step.batch / seconds,
        efficiency=step.seconds / seconds,
        memory=Memory(parameters, parameters, kept, step.activations),
    )

"""A training beside the plain record of what it should hold, and both moved by the same operations.

What can be known to the bit (copies, files, modes, numbers of steps, random streams) is compared to the bit. What is
computed is compared with :mod:`plain_training` within the rounding of its dtype, and the record then goes on from the
bits that were found, so that rounding does not add up from one operation to the next.
"""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import plain_training as plain
import pytest
from optimizers import ROWS

from gpunn import functional as F
from gpunn import nn, optim, tensor
from gpunn.backend import random_generator
from gpunn.checkpoint import save_checkpoint
from gpunn.data import ArrayDataset, DataLoader
from gpunn.errors import ArgumentError, GraphError
from gpunn.optim import schedule
from gpunn.tensor import record
from gpunn.train import Callback, Trainer

# ---- networks -------------------------------------------------------------------------------------------------------


class Fuse(nn.Module):
    """Passes on what it gets, unless it is to blow on the way there or on the way back."""

    def __init__(self):
        self.blows = None

    def forward(self, x):
        if self.blows == "forward":
            raise plain.Interruption
        return record(x.data, (x,), self._back) if self.blows == "backward" else x

    def _back(self, gy, needs):
        raise plain.Interruption


class Last(nn.Module):
    """The output of a recurrent layer at the last step."""

    def forward(self, results):
        return results[0][:, -1]


FUSE = ("fuse", lambda how: Fuse(), {})
TANH = ("tanh", lambda how: nn.Tanh(), {})
FLATTEN = ("flatten", lambda how: nn.Flatten(), {})
LAST = ("last", lambda how: Last(), {})


def linear(inputs, outputs, bias=True, weight=None):
    return "linear", lambda how: nn.Linear(inputs, outputs, bias, **how), {"weight": weight}


def conv(inputs, outputs, size):
    return "conv", lambda how: nn.Conv2d(inputs, outputs, size, **how), {}


def batch_norm(kind, width, momentum):
    return "batch_norm", lambda how: kind(width, momentum=momentum, dtype=how["dtype"]), {"momentum": momentum}


def dropout(p, stream):
    def make(how):
        return nn.Dropout(p, generator=how["generator"] if stream == "own" else None)

    return "dropout", make, {"p": p, "stream": stream}


def embedding(count, width):
    return "embedding", lambda how: nn.Embedding(count, width, **how), {}


def rnn(inputs, width):
    return "rnn", lambda how: nn.RNN(inputs, width, batch_first=True, **how), {}


# From a width to what is fed in, and the layers: lists are Sequentials, a number is the layer of that place again.
ARCHITECTURES: dict[str, Callable[[int], tuple[str, list[Any]]]] = {
    "deep": lambda w: ("vectors", [linear(3, w), TANH, linear(w, w), FUSE, TANH, linear(w, 2)]),
    "nested": lambda w: (
        "vectors",
        [
            linear(3, w),
            [batch_norm(nn.BatchNorm1d, w, 0.1), TANH, [dropout(0.3, "own"), linear(w, w, bias=False)]],
            FUSE,
            batch_norm(nn.BatchNorm1d, w, None),
            dropout(0.2, "own"),
            linear(w, 2),
        ],
    ),
    "convolution": lambda w: (
        "images",
        [
            conv(1, w, 2),
            batch_norm(nn.BatchNorm2d, w, 0.3),
            TANH,
            FUSE,
            dropout(0.5, "default"),
            FLATTEN,
            linear(4 * w, 2),
        ],
    ),
    "repeated": lambda w: ("vectors", [linear(3, 3), TANH, 0, FUSE, TANH, 0, linear(3, w)]),
    "tied": lambda w: (
        "words",
        [embedding(5, w), rnn(w, w), LAST, FUSE, dropout(0.4, "default"), linear(w, 5, weight="0.weight")],
    ),
    "recurrent": lambda w: ("words", [embedding(5, 2), rnn(2, w), LAST, FUSE, dropout(0.4, "own"), linear(w, 3)]),
}


@dataclass(frozen=True)
class Recipe:
    """How a network is made, and what it is fed."""

    architecture: str
    width: int
    dtype: Any

    def model(self, seed):
        """The network, with weights that ``seed`` decides."""
        _, tree = ARCHITECTURES[self.architecture](self.width)
        model = self._built(tree, {"generator": random_generator(seed), "dtype": self.dtype})
        modules = dict(model.named_modules())
        for kind, path, settings in self.layers():
            if kind == "linear" and settings["weight"]:
                modules[path].weight = modules[settings["weight"].rpartition(".")[0]].weight
        return model

    def _built(self, tree, how):
        layers = []
        for node in tree:
            if isinstance(node, list):
                layers.append(self._built(node, how))
            else:
                layers.append(layers[node] if isinstance(node, int) else node[1](how))
        return nn.Sequential(*layers)

    def layers(self):
        """(kind, path, settings) of each layer in the order in which they run."""
        return list(_flat(ARCHITECTURES[self.architecture](self.width)[1], ""))

    def batch(self, seed, n=5):
        """Inputs and labels."""
        rng, fed = np.random.default_rng(seed), ARCHITECTURES[self.architecture](self.width)[0]
        if fed == "words":
            x = rng.integers(0, 5, (n, 3))
        else:
            x = rng.standard_normal((n, 3) if fed == "vectors" else (n, 1, 3, 3)).astype(self.dtype)
        classes = {"tied": 5, "recurrent": 3, "repeated": self.width}.get(self.architecture, 2)
        return x, rng.integers(0, classes, n)


def _flat(tree, prefix):
    for place, node in enumerate(tree):
        if isinstance(node, list):
            yield from _flat(node, f"{prefix}{place}.")
        elif isinstance(node, int):
            kind, _, settings = tree[node]
            yield kind, f"{prefix}{node}", settings
        else:
            yield node[0], f"{prefix}{place}", node[2]


def output(model, x):
    """What the network makes of a batch: words go in as an array."""
    return model(x if x.dtype.kind == "i" else tensor(x))


# ---- optimizers -----------------------------------------------------------------------------------------------------

OPTIMIZERS = {name: (row.make, settings) for row in ROWS for name, settings in row.training.items()}


def new_optimizer(name, model, grouped):
    """An optimizer of the table; ``grouped`` gives what has one axis a group of its own."""
    kind, settings = OPTIMIZERS[name]
    named = list(model.named_parameters())
    named = [(name, p) for name, p in named if p.requires_grad]
    wide, narrow = ([pair for pair in named if (pair[1].ndim > 1) is side] for side in (True, False))
    if not (grouped and wide and narrow):
        return kind(named, **settings)
    return kind([{"params": wide}, {"params": narrow} | narrow_settings(settings)], **settings)


def narrow_settings(settings):
    """What is set for the group of the parameters of one axis alone."""
    return {"lr": settings["lr"] / 2, "weight_decay": 0.02}


# ---- schedules ------------------------------------------------------------------------------------------------------

TOTAL = 9  # steps of the one cycle
SCHEDULES: dict[str, Callable[[optim.Optimizer], Any]] = {
    "step": lambda o: schedule.StepLR(o, 2, 0.5),
    "milestones": lambda o: schedule.MultiStepLR(o, [1, 4], 0.5),
    "exponential": lambda o: schedule.ExponentialLR(o, 0.9),
    "linear": lambda o: schedule.LinearLR(o, 0.25, total_iters=4),
    "cosine": lambda o: schedule.CosineAnnealingLR(o, 5, 0.001),
    "one cycle": lambda o: schedule.OneCycleLR(o, 0.1, TOTAL),
    "sequential": lambda o: schedule.SequentialLR(
        o, [schedule.LinearLR(o, 0.5, total_iters=3), schedule.ExponentialLR(o, 0.5)], [3]
    ),
    "plateau": lambda o: schedule.ReduceLROnPlateau(o, factor=0.5, patience=1, cooldown=1, threshold=0.1),
}


# ---- the training and its record ------------------------------------------------------------------------------------


@dataclass
class Training:
    """What is tried: all of it objects of gpunn."""

    model: nn.Module
    optimizer: optim.Optimizer | None = None
    average: optim.EMA | None = None
    scaler: optim.GradScaler | None = None
    schedules: list[Any] = field(default_factory=list)

    def copied(self, how):
        """Another training: ``how`` copies all of it, as one tuple."""
        return Training(*how((self.model, self.optimizer, self.average, self.scaler, self.schedules)))


@dataclass
class Record:
    """What should hold, as numbers and NumPy arrays."""

    arrays: dict[str, np.ndarray]
    gradients: dict[str, np.ndarray]
    learning: set[str]
    modes: dict[str, bool]
    own: Any
    kind: str = ""
    groups: list[dict[str, Any]] = field(default_factory=list)
    states: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    average: dict[str, np.ndarray] | None = None
    scaler: dict[str, Any] | None = None
    schedules: list[dict[str, Any]] = field(default_factory=list)
    chains: list[dict[str, Any]] = field(default_factory=list)  # of schedules by number, each on the rate before it


# Other layouts in memory of equal arrays.
LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "contiguous": np.copy,
    "fortran": lambda a: np.copy(a, "F"),
    "strided": lambda a: np.repeat(a[..., None], 3, -1)[..., 1],
    "backward": lambda a: np.asarray(np.flip(np.copy(np.flip(a)))),
    "swapped": lambda a: np.copy(a.T).T,
}
DECAY = 0.75  # of the averages
GROWTH = 3  # good steps after which the scaler doubles its scale
LIMITS = {"float32": 2e-4, "float64": 1e-9}  # of a pass through all layers, for gradients around 1
STEP_LIMITS = {"float32": 1e-5, "float64": 1e-13}  # of a few operations on each element


class Loss:
    """The loss of a trainer; it notes its batches, and raises at call number ``fails_at``."""

    def __init__(self, model, fails_at=None):
        self.model, self.fails_at, self.calls, self.batches = model, fails_at, 0, []

    def __call__(self, batch):
        self.calls += 1
        if self.calls == self.fails_at:
            raise plain.Interruption
        self.batches.append(batch)
        return F.cross_entropy(output(self.model, batch[0]), batch[1]), len(batch[1])


class Follow(Callback):
    """Moves the record as the trainer moves; ``good`` is what the network goes back to if the run breaks."""

    def __init__(self, pair, clip_norm=None, clip_value=None):
        self.pair, self.clip = pair, (clip_norm, clip_value)
        self.good = copy.deepcopy(pair.record.arrays)

    def on_step(self, trainer, loss):
        batches, trainer.loss.batches = trainer.loss.batches, []
        self.pair.take_trainer_step(batches, *self.clip)
        self.pair.check()

    def on_epoch(self, trainer, record):
        self.good = copy.deepcopy(self.pair.record.arrays)


class Saver(Callback):
    """Writes a checkpoint after one step."""

    def __init__(self, step, path):
        self.step, self.path = step, path

    def on_step(self, trainer, loss):
        if trainer.step == self.step:
            save_checkpoint(trainer.state_dict(), self.path)


@dataclass
class Default:
    """Where gpunn's default generator should be, as :func:`plain.stream` says it."""

    place: Any


class Pair:
    """A training and its record; ``fresh`` is a copy whose optimizer has not moved anything yet."""

    fresh = False

    def __init__(self, recipe: Recipe, training: Training, record: Record, default: Default):
        self.recipe, self.training, self.record, self.default = recipe, training, record, default

    @classmethod
    def begun(cls, recipe, default, seed, optimizer, grouped):
        """A new training; its record is read off it, once."""
        model = recipe.model(seed)
        arrays = {name: held.data.copy() for name, held in (*model.named_parameters(), *model.named_buffers())}
        names = {name for name, _ in model.named_parameters()}
        modes = {path: True for path, _ in model.named_modules()}
        self = cls(recipe, Training(model), Record(arrays, {}, names, modes, own_state(model)), default)
        self.renew(optimizer, grouped)
        self.renew_scaler()
        return self

    def copied(self, how):
        """Another pair, whose training ``how`` copies."""
        return self.beside(self.training.copied(how))

    def beside(self, training):
        """Another pair, whose training is a copy."""
        other = Pair(self.recipe, training, copy.deepcopy(self.record), self.default)
        other.made, other.fresh = self.made, True
        return other

    def with_model(self, model, optimizer):
        """Another pair, with a copy of the network and the rest new."""
        other = Pair(self.recipe, Training(model), copy.deepcopy(self.record), self.default)
        other.record.average = None
        other.renew(optimizer, grouped=False)
        other.renew_scaler()
        return other

    # ---- what is new ------------------------------------------------------------------------------------------------

    def renew(self, name, grouped):
        """Another optimizer, which knows of no step."""
        optimizer = self.training.optimizer = new_optimizer(name, self.training.model, grouped)
        self.made, self.fresh = (name, grouped), False
        record, kind = self.record, OPTIMIZERS[name][0].__name__
        record.kind, record.groups, record.states, record.steps = kind, [], {}, {}
        schedules = [own["name"] for own in record.schedules]
        self.training.schedules, record.schedules, record.chains = [], [], []
        dtype = self.recipe.dtype
        given = OPTIMIZERS[name][1]
        for group, own in zip(optimizer.groups, ({}, narrow_settings(given)), strict=False):
            settings = dict(group.settings)
            assert settings == settings | given | own
            names = list(group.names)
            record.groups.append({"settings": settings, "initial_lr": settings["lr"], "names": names, "chain": None})
            for each in group.names:
                kinds = plain.kept(kind, settings)
                first = settings.get("initial_accumulator_value", 0.0)
                record.states[each] = {state: np.full(record.arrays[each].shape, first, dtype) for state in kinds}
                record.steps[each] = 0
        for name in schedules:
            self.schedule(name)

    def renew_average(self):
        named = [(name, p) for name, p in self.training.model.named_parameters() if p.requires_grad]
        self.training.average = optim.EMA(named, DECAY)
        self.record.average = {name: self.record.arrays[name].copy() for name, _ in named}

    def renew_scaler(self):
        self.training.scaler = optim.GradScaler(2.0**8, growth_interval=GROWTH)
        self.record.scaler = {"scale": 2.0**8, "tracker": 0}

    # ---- comparison -------------------------------------------------------------------------------------------------

    def check(self):
        """Everything that the training holds is what the record says, to the bit."""
        training, record = self.training, self.record
        parameters, buffers = dict(training.model.named_parameters()), dict(training.model.named_buffers())
        same_arrays({name: held.data for name, held in (parameters | buffers).items()}, record.arrays)
        same_arrays(training.model.state_dict(), record.arrays)
        same_arrays({name: p.grad for name, p in parameters.items() if p.grad is not None}, record.gradients)
        assert {name for name, p in parameters.items() if p.requires_grad} == record.learning
        assert {path: module.training for path, module in training.model.named_modules()} == record.modes
        assert own_state(training.model) == record.own
        same_state(training.optimizer.state_dict(), self.optimizer_state())
        if training.average is not None:
            averages = {f"averages.{name}": a for name, a in record.average.items()}
            same_state(training.average.state_dict(), averages | {"decay": DECAY})
        for held, own in zip(training.schedules, record.schedules, strict=True):
            state = held.state_dict()
            if own["name"] == "plateau":
                assert state == {name: own[name] for name in ("best", "bad_steps", "cooldown_steps")}
            else:
                assert held.steps == state["steps"] == own["steps"]
                if own["name"] != "one cycle":
                    np.testing.assert_allclose(state["base"], own["bases"], rtol=1e-12)
        if training.scaler is not None:
            state = training.scaler.state_dict()
            assert {"scale": state["scale"], "tracker": state["growth_tracker"]} == record.scaler

    def optimizer_state(self):
        """What the state_dict of the optimizer should be."""
        record, state = self.record, {}
        for number, group in enumerate(record.groups):
            settings = group["settings"] | {"initial_lr": group["initial_lr"]}
            state |= {f"groups.{number}.{name}": value for name, value in settings.items()}
            for name in group["names"]:
                state[f"parameters.{name}.steps"] = record.steps[name]
                states = self.states_for(name, group["settings"])
                state |= {f"parameters.{name}.{kind}": a for kind, a in states.items()}
        return state

    def states_for(self, name, settings):
        """The states that these settings need: those that are missing begin with zeros."""
        own, zeros = self.record.states[name], np.zeros_like(self.record.arrays[name])
        return {kind: own.get(kind, zeros) for kind in plain.kept(self.record.kind, settings)}

    def adopt(self, kept, name, found, expected, limit):
        """Keep the bits found, if they are the expected numbers within ``limit``, an absolute distance."""
        dtype = self.record.arrays[name].dtype if name in self.record.arrays else found.dtype
        assert found.dtype == dtype, (name, found.dtype)
        assert found.shape == np.shape(expected), (name, found.shape)
        distance = np.abs(np.float64(found) - expected)
        assert (distance <= limit).all(), f"{name}: off by {distance.max()}, allowed {limit}"
        kept[name] = found.copy()

    # ---- passes and gradients ---------------------------------------------------------------------------------------

    def limit(self, limits=LIMITS):
        return limits[str(self.recipe.dtype)]

    def passed(self):
        """A plain pass through the network as it is now."""
        streams = {"own": self.record.own, "default": self.default.place}
        return plain.Pass(self.recipe.layers(), self.record.arrays, self.record.modes, streams)

    def take_pass(self, way):
        """Take over what a pass leaves: running statistics and random streams."""
        buffers = dict(self.training.model.named_buffers())
        for name, expected in way.buffers.items():
            limit = self.limit() * max(1.0, np.abs(expected).max())
            self.adopt(self.record.arrays, name, buffers[name].data, expected, limit)
        self.record.own, self.default.place = way.streams["own"], way.streams["default"]

    def backward(self, batch, refill=False, scaler=None):
        """A loss and its gradients, added to those that are there; ``refill`` overwrites the labels in between."""
        x, labels = batch
        given, scale = labels.copy(), scaler.get_scale() if scaler else 1.0
        loss = F.cross_entropy(output(self.training.model, x), given)
        if refill:
            given[:] = 0
        way = self.passed()
        expected = way.backward(way.forward(x), labels)
        assert abs(loss.item() - expected) <= self.limit() * max(1.0, expected)
        self.take_pass(way)
        loss = loss if scaler is None else scaler.scale(loss)
        if not self.record.learning:
            with pytest.raises(GraphError):
                loss.backward()
            return
        loss.backward()
        self.take_gradients({name: scale * g for name, g in way.gradients.items()}, scale)

    def interrupted(self, batch, blows):
        """A pass that ends at the fuse, on the way there or back; the user then forgets the gradients."""
        (fuse,) = (module for module in self.training.model.modules() if isinstance(module, Fuse))
        fuse.blows = blows
        with pytest.raises(plain.Interruption):
            F.cross_entropy(output(self.training.model, batch[0]), batch[1]).backward()
        fuse.blows = None
        way = self.passed()
        try:
            way.forward(batch[0], fused=blows == "forward")
        except plain.Interruption:
            assert blows == "forward"
        self.take_pass(way)
        if blows == "backward":
            self.forget()

    def fuse_learns(self):
        """Whether a gradient passes the fuse on the way back."""
        kinds = [kind for kind, _, _ in self.recipe.layers()]
        before = {path for _, path, _ in self.recipe.layers()[: kinds.index("fuse")]}
        return any(name.rpartition(".")[0] in before for name in self.record.learning)

    def take_gradients(self, new, scale=1.0):
        """Take over the gradients, which should be those of the record and the ``new`` ones."""
        record = self.record
        expected = {name: g + np.float64(record.gradients.get(name, 0)) for name, g in new.items()}
        limit = self.limit() * max(scale, *(np.abs(g).max() for g in expected.values()))
        for name, p in self.training.model.named_parameters():
            if name in record.learning and name in new:
                self.adopt(record.gradients, name, p.grad, expected[name], limit)

    def known(self):
        """The names of the parameters that the optimizer moves."""
        return {name for group in self.record.groups for name in group["names"]}

    def forget(self, how="model"):
        """Forget the gradients, of all parameters or of those of the optimizer."""
        getattr(self.training, how).zero_grad()
        for name in list(self.record.gradients):
            if how == "model" or name in self.known():
                del self.record.gradients[name]

    def scale_gradients(self, factor):
        """Multiply all gradients, as a loss that explodes does."""
        for name, p in self.with_gradients():
            p.grad = p.grad * p.dtype.type(factor)
            self.record.gradients[name] = p.grad.copy()

    def with_gradients(self):
        return [(name, p) for name, p in self.training.model.named_parameters() if name in self.record.gradients]

    def clip_norm(self, most, kind):
        """Clip all gradients by their norm."""
        gradients, named = self.record.gradients, self.with_gradients()
        found = optim.clip_grad_norm(named, most, kind)
        norm, clipped = plain.clipped_norm(gradients, most, kind)
        assert abs(float(found) - norm) <= 10 * self.limit(STEP_LIMITS) * norm
        for name, p in named:
            self.adopt(gradients, name, p.grad, clipped[name], 10 * self.limit(STEP_LIMITS) * min(norm, most))

    def clip_value(self, most):
        """Clip each element of the gradients."""
        optim.clip_grad_value(self.with_gradients(), most)
        for name, g in self.record.gradients.items():
            self.record.gradients[name] = np.clip(g, -most, most).astype(g.dtype)

    # ---- steps ------------------------------------------------------------------------------------------------------

    def step(self, optimizer):
        """A step of the optimizer, or of a shallow copy of it, by the gradients that are there."""
        if (self.fresh or optimizer is not self.training.optimizer) and not self.known() & self.record.gradients.keys():
            with pytest.raises(ArgumentError, match="no parameter of this copy has a gradient"):
                optimizer.step()
            return
        optimizer.step()
        self.take_step()

    def take_step(self):
        """Take over the weights and states after a step."""
        self.fresh = False
        record, state = self.record, self.training.optimizer.state_dict()
        parameters, share = dict(self.training.model.named_parameters()), self.limit(STEP_LIMITS)
        for group in record.groups:
            settings = group["settings"]
            for name in group["names"]:
                record.states[name] = self.states_for(name, settings)
                if name not in record.gradients:
                    continue
                record.steps[name] += 1
                before, g, old = record.arrays[name], record.gradients[name], record.states[name]
                p, states = plain.moved(record.kind, before, g, old, record.steps[name], settings)
                self.adopt(record.arrays, name, parameters[name].data, p, share * max(1.0, np.abs(p).max()))
                for kind, expected in states.items():
                    found, limit = state[f"parameters.{name}.{kind}"], share * np.abs([expected, old[kind]]).max()
                    self.adopt(record.states[name], kind, found, expected, limit)

    def take_average(self):
        """Take over the averages after an update."""
        state = self.training.average.state_dict()
        for name, old in self.record.average.items():
            expected = DECAY * np.float64(old) + (1 - DECAY) * np.float64(self.record.arrays[name])
            limit = self.limit(STEP_LIMITS) * max(1.0, np.abs(expected).max())
            self.adopt(self.record.average, name, state[f"averages.{name}"], expected, limit)

    def whole_step(self, batch):
        """What a loop of one's own does with a batch."""
        self.forget("optimizer")
        self.backward(batch)
        self.step(self.training.optimizer)
        for number in range(len(self.record.schedules)):
            self.step_schedule(number, 1.0)
        if self.training.average is not None:
            self.training.average.update()
            self.take_average()

    def scaled_step(self, batch, unscale, spoil, how):
        """A step with the scaler; ``spoil`` makes a gradient infinite, ``how`` copies all in the midst of it."""
        self.forget()
        self.backward(batch, scaler=self.training.scaler)
        record, scale = self.record, self.record.scaler["scale"]
        moving = self.known() & record.gradients.keys()
        if spoil:
            name = min(moving)
            dict(self.training.model.named_parameters())[name].grad[...] = np.inf
            record.gradients[name] = np.full_like(record.gradients[name], np.inf)
        if how is not None:
            self.training, self.fresh = self.training.copied(how), True
        model, optimizer, scaler = self.training.model, self.training.optimizer, self.training.scaler
        for name in moving:
            record.gradients[name] = record.gradients[name] * record.gradients[name].dtype.type(1 / scale)
        if unscale:
            assert scaler.unscale_(optimizer) is not spoil
            same_arrays({name: p.grad for name, p in model.named_parameters() if p.grad is not None}, record.gradients)
            for way in (copy.deepcopy, pickle.dumps):  # it would be unscaled again
                with pytest.raises(ArgumentError):
                    way(self.training)
        assert scaler.step(optimizer) is not spoil
        scaler.update()
        if spoil:
            record.scaler = {"scale": max(1.0, scale / 2), "tracker": 0}
        else:
            self.take_step()
            tracker = record.scaler["tracker"] + 1
            grown = {"scale": min(2.0**24, 2 * scale), "tracker": 0}
            record.scaler = grown if tracker == GROWTH else {"scale": scale, "tracker": tracker}
        self.forget()

    # ---- schedules --------------------------------------------------------------------------------------------------

    def schedule(self, name):
        """Another schedule, on top of those made since the user set the rate."""
        record, optimizer = self.record, self.training.optimizer
        if name == "one cycle":  # which has rates of its own
            self.set_rate(record.groups, 0.1)
            if not record.groups[0]["settings"].keys() & {"momentum", "betas"}:
                with pytest.raises(ArgumentError):
                    SCHEDULES[name](optimizer)
                return
        self.training.schedules.append(SCHEDULES[name](optimizer))
        if name == "plateau":
            record.schedules.append({"name": name, "best": math.inf, "bad_steps": 0, "cooldown_steps": 0})
            return
        chains = [self.chain_of(group) for group in record.groups]
        bases = [record.chains[chain]["base"] for chain in chains]
        record.schedules.append({"name": name, "steps": 0, "chains": chains, "bases": bases})
        self.take_rates(record.schedules[-1], self.rates_at(record.schedules[-1], 0))
        for chain in chains:
            record.chains[chain]["links"] = True
        self.pass_on(record.schedules[-1])

    def chain_of(self, group):
        """The chain of a group; without one it begins at the rate that the user set."""
        if group["chain"] is None:
            group["chain"] = len(self.record.chains)
            self.record.chains.append({"base": group["initial_lr"], "rate": group["initial_lr"], "links": False})
        return group["chain"]

    def pass_on(self, own):
        """Have the schedules that are made after this one begin with its L."""
        for chain, base in zip(own["chains"], own["bases"], strict=True):
            self.record.chains[chain]["base"] = 0.1 / 25 if own["name"] == "one cycle" else base

    def set_rate(self, groups, rate):
        """Set the rate of some groups by hand."""
        for own, group in zip(self.record.groups, self.training.optimizer.groups, strict=True):
            if any(own is each for each in groups):
                group["lr"] = own["settings"]["lr"] = own["initial_lr"] = rate
                own["chain"] = None

    def step_schedule(self, number, metric):
        """A step of one of the schedules."""
        held, own = self.training.schedules[number], self.record.schedules[number]
        if own["name"] == "plateau":
            held.step(metric)
            self.take_plateau(own, metric)
        elif own["name"] == "one cycle" and own["steps"] == TOTAL:
            with pytest.raises(ArgumentError):
                held.step()
        elif min(rates := self.rates_at(own, own["steps"] + 1)) < 0:
            with pytest.raises(ArgumentError, match="lr must be at least 0"):
                held.step()
        else:
            held.step()
            own["steps"] += 1
            self.take_rates(own, rates)

    def rates_at(self, own, t):
        """The rates of the groups when a schedule goes to t."""
        both = zip(own["chains"], own["bases"], strict=True)
        return [plain.onward(own["name"], t, self.record.chains[chain]["rate"], base) for chain, base in both]

    def own_rates(self):
        """Whether the schedules alone decide the rates, none of them being on a chain that was left."""
        groups = self.record.groups
        chains = [group["chain"] for group in groups]
        if any(own["name"] != "plateau" and own["chains"] != chains for own in self.record.schedules):
            return False
        rates = [
            group["initial_lr"] if chain is None else self.record.chains[chain]["rate"]
            for group, chain in zip(groups, chains, strict=True)
        ]
        return all(math.isclose(group["settings"]["lr"], rate) for group, rate in zip(groups, rates, strict=True))

    def take_rates(self, own, rates):
        """Take over the rates, and the momentum of one cycle, after a step of a schedule."""
        record, optimizer = self.record, self.training.optimizer
        for group, settings, chain, rate in zip(record.groups, optimizer.groups, own["chains"], rates, strict=True):
            assert math.isclose(settings["lr"], rate, rel_tol=1e-9, abs_tol=1e-15), (settings["lr"], rate)
            group["settings"]["lr"] = record.chains[chain]["rate"] = settings["lr"]
            if own["name"] == "one cycle":
                name = "betas" if "betas" in group["settings"] else "momentum"
                momentum, *rest = settings[name] if name == "betas" else (settings[name],)
                assert math.isclose(momentum, plain.one_cycle(own["steps"], 0.95, 0.85, 0.95), rel_tol=1e-9)
                group["settings"][name] = (momentum, *group["settings"]["betas"][1:]) if rest else momentum

    def take_plateau(self, own, metric):
        """Take over what a plateau makes of a metric."""
        if metric < own["best"] - (0.1 * abs(own["best"]) if math.isfinite(own["best"]) else 0):
            own["best"], own["bad_steps"] = metric, 0
        else:
            own["bad_steps"] += 1
        if own["cooldown_steps"]:
            own["cooldown_steps"], own["bad_steps"] = own["cooldown_steps"] - 1, 0
        if own["bad_steps"] <= 1:
            return
        own["cooldown_steps"], own["bad_steps"] = 1, 0
        for group, found in zip(self.record.groups, self.training.optimizer.groups, strict=True):
            rate = group["settings"]["lr"]
            if rate / 2 > 1e-8:
                assert found["lr"] == rate / 2
                group["settings"]["lr"] = rate / 2
                chain = self.record.chains[self.chain_of(group)]
                chain["rate"] = rate / 2
                if not chain["links"]:
                    chain["base"] = rate / 2

    # ---- the trainer ------------------------------------------------------------------------------------------------

    def trainer(self, seed, batch_size, callbacks=(), fails_at=None, **settings):
        """A trainer of this training on a few examples, eight steps or fewer."""
        training, (x, labels) = self.training, self.recipe.batch(seed, n=6)
        data = DataLoader(ArrayDataset(x, labels), batch_size, shuffle=True, seed=seed)
        loss = Loss(training.model, fails_at)
        if not self.record.modes[""]:  # a run trains all, unless a part alone was put into evaluation
            self.record.modes = dict.fromkeys(self.record.modes, True)
        how = {"ema": training.average, "callbacks": callbacks, "schedule": self.steady_schedule()} | settings
        return Trainer(training.model, training.optimizer, data, loss, **how)

    def steady_schedule(self):
        """The only schedule, if it has steps enough and wants no metric."""
        names = [own["name"] for own in self.record.schedules]
        steady = len(names) == 1 and names[0] not in ("one cycle", "plateau") and self.own_rates()
        return self.training.schedules[0] if steady else None

    def take_trainer_step(self, batches, clip_norm, clip_value):
        """Take over a whole step of a trainer, which looked at ``batches``."""
        way, record, known = self.passed(), self.record, self.known()
        for x, labels in batches:
            way.backward(way.forward(x), labels, 1 if len(batches) == 1 else len(labels))
        examples = 1 if len(batches) == 1 else sum(len(labels) for _, labels in batches)
        new = {name: g / examples for name, g in way.gradients.items() if name in known & record.learning}
        if clip_norm is not None:
            new = plain.clipped_norm(new, clip_norm, 2)[1]
        if clip_value is not None:
            new = {name: np.clip(g, -clip_value, clip_value) for name, g in new.items()}
        record.gradients = {name: g for name, g in record.gradients.items() if name not in known}
        self.take_pass(way)
        self.take_gradients({name: new.get(name, g) for name, g in way.gradients.items()})
        self.take_step()
        if record.average is not None:
            self.take_average()
        if self.steady_schedule() is not None:
            own = record.schedules[0]
            rates = self.rates_at(own, own["steps"] + 1)
            own["steps"] += 1
            self.take_rates(own, rates)

    # ---- assignment -------------------------------------------------------------------------------------------------

    def held(self, place):
        """One of the parameters and buffers, with its name."""
        held = [*self.training.model.named_parameters(), *self.training.model.named_buffers()]
        return held[place % len(held)]

    def module(self, place):
        """One of the modules, the whole network among them."""
        modules = list(self.training.model.modules())
        return modules[place % len(modules)]

    def holders(self, held):
        """The modules that hold a parameter or buffer, and the attribute."""
        modules = self.training.model.modules()
        return [(module, key) for module in modules for key, value in vars(module).items() if value is held]

    def replace(self, name, held, value):
        """A new parameter in the place of another, and what is made of the parameters made anew."""
        new = type(held)(value)
        for module, key in self.holders(held):
            setattr(module, key, new)
        self.record.arrays[name] = value.copy()
        if isinstance(held, nn.Parameter):
            self.record.learning.add(name)
            self.record.gradients.pop(name, None)
            self.renew(self.made[0], grouped=False)
            if self.training.average is not None:
                self.renew_average()

    def value(self, name, seed):
        """Another value for a parameter or buffer."""
        old, rng = self.record.arrays[name], np.random.default_rng(seed)
        if old.dtype.kind == "i":
            return np.asarray(rng.integers(0, 9), old.dtype)
        values = rng.standard_normal(old.shape) / 2
        return (np.abs(values) + 0.1 if name.endswith("running_var") else values).astype(old.dtype)

    # ---- states -----------------------------------------------------------------------------------------------------

    def parts(self):
        """What has a state_dict, by name."""
        training = self.training
        parts = {"model": training.model, "optimizer": training.optimizer, "scaler": training.scaler}
        parts |= {f"schedule {number}": held for number, held in enumerate(training.schedules)}
        return parts if training.average is None else parts | {"average": training.average}

    def states(self, layout):
        """The states of all parts, with arrays of another layout."""
        states = {part: held.state_dict() for part, held in self.parts().items()}
        for state in states.values():
            state |= {name: LAYOUTS[layout](value) for name, value in state.items() if isinstance(value, np.ndarray)}
        return states

    def load(self, states, given):
        """Load the states of a training with the record ``given``, part by part; what does not fit changes nothing."""
        given, record = copy.deepcopy(given), self.record
        for part, held in self.parts().items():
            if part.startswith("schedule"):
                self.load_schedule(int(part.split()[1]), held, states.get(part), given)
                continue
            fits = part in states and getattr(self, f"fits_{part}", lambda _: True)(given)
            if not fits:
                with pytest.raises(ArgumentError):
                    held.load_state_dict(states.get(part, {}))
                continue
            held.load_state_dict(states[part])
            if part == "model":
                record.arrays = given.arrays
            elif part == "optimizer":
                for own, group in zip(record.groups, given.groups, strict=True):
                    own |= group | {"chain": own["chain"]}
                record.states, record.steps = given.states, given.steps
                for own in record.groups:
                    record.states |= {name: self.states_for(name, own["settings"]) for name in own["names"]}
            elif part == "scaler":
                record.scaler = given.scaler
            else:
                record.average = given.average

    def load_schedule(self, number, held, state, given):
        """Load the state of a schedule, if it is of one of its kind and of as many groups."""
        own = self.record.schedules[number]
        if number >= len(given.schedules) or given.schedules[number]["name"] != own["name"]:
            return
        theirs = given.schedules[number]
        if own["name"] == "plateau":
            held.load_state_dict(state)
            own |= theirs
        elif len(given.groups) == len(self.record.groups):
            try:
                held.load_state_dict(state)
            except ArgumentError as error:  # beside schedules that are not yet where they were
                if "lr must be at least 0" not in str(error):
                    raise
                return
            own["steps"], own["bases"] = theirs["steps"], list(theirs["bases"])
            self.pass_on(own)
            self.take_rates(own, [group["lr"] for group in self.training.optimizer.groups])

    def fits_average(self, given):
        return given.average.keys() == self.record.average.keys()

    def fits_optimizer(self, given):
        """Whether the groups have the same parameters and settings, and the states are those that this kind needs."""
        if len(given.groups) != len(self.record.groups):
            return False
        for own, group in zip(self.record.groups, given.groups, strict=True):
            if own["names"] != group["names"] or own["settings"].keys() != group["settings"].keys():
                return False
            if plain.kept(self.record.kind, group["settings"]) != plain.kept(given.kind, group["settings"]):
                return False
        return True

    def rebuilt(self, seed):
        """Another pair with another network, which takes over all that there is to take over."""
        record, model = self.record, self.recipe.model(seed)
        other = Pair(self.recipe, Training(model), copy.deepcopy(record), self.default)
        other.record.schedules = []
        named = dict(model.named_parameters())
        for renew, names in ((lambda: other.renew(*self.made), self.known()), (other.renew_average, record.average)):
            if names is not None:
                _let_learn(named, names)
                renew()
        _let_learn(named, record.learning)
        other.renew_scaler()
        other.record.gradients = {}
        if self.own_rates():
            for own in record.schedules:
                other.schedule(own["name"])
        for path, module in model.named_modules():
            module.training = record.modes[path]
        for module in model.modules():
            for generator in vars(module).values():
                if isinstance(generator, np.random.Generator):
                    generator.bit_generator.state = plain.generator_at(record.own).bit_generator.state
        other.load(self.states("contiguous"), record)
        if self.own_rates():
            assert other.own_rates()
        return other

    def take_record(self, record):
        """Take over the record of a training that did the same, but for schedules that only that one has."""
        own, self.record = self.record, copy.deepcopy(record)
        if len(own.schedules) < len(record.schedules):
            self.record.schedules, self.record.chains = own.schedules, own.chains
            for group, before in zip(self.record.groups, own.groups, strict=True):
                group["chain"] = before["chain"]

    def same(self, other):
        """Both records are equal to the bit."""
        for name in ("arrays", "gradients", "average"):
            own, its = getattr(self.record, name), getattr(other.record, name)
            assert (own is None) == (its is None)
            same_arrays(its or {}, own or {})
        same_state(other.optimizer_state(), self.optimizer_state())


def _let_learn(named, names):
    for name, p in named.items():
        p.requires_grad = name in names


def own_state(model):
    """The state of the generator that the modules share, as text; they must share it."""
    generators = {id(g): g for m in model.modules() for g in vars(m).values() if isinstance(g, np.random.Generator)}
    assert len(generators) < 2
    return next((plain.stream(generator) for generator in generators.values()), None)


def same_arrays(found, expected):
    assert list(found) == list(expected) or set(found) == set(expected), (sorted(found), sorted(expected))
    for name, array in expected.items():
        own = found[name]
        assert own.dtype == array.dtype, (name, own.dtype, array.dtype)
        assert own.shape == array.shape, (name, own.shape, array.shape)
        assert np.array_equal(own, array, equal_nan=True), f"{name}: {own.tolist()} instead of {array.tolist()}"


def same_state(found, expected):
    arrays = {name: value for name, value in expected.items() if isinstance(value, np.ndarray)}
    assert found.keys() == expected.keys(), sorted(found.keys() ^ expected.keys())
    same_arrays({name: found[name] for name in arrays}, arrays)
    for name in expected.keys() - arrays.keys():
        assert found[name] == expected[name], (name, found[name], expected[name])

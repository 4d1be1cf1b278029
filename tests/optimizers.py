"""The optimizers, a row each: the rule as plain Python, one number at a time, and the settings that tests train with.

What tests of every optimizer need is here: a new one is a rule and its row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from gpunn import optim

# ---- the rules ------------------------------------------------------------------------------------------------------


def sgd_step(p, g, v=0.0, lr=0.0, momentum=0.0, nesterov=False, weight_decay=0.0, dampening=0.0):
    g += weight_decay * p
    velocity = momentum * v + (1 - dampening) * g
    p -= lr * (g + momentum * velocity if nesterov else velocity)
    return (p, velocity) if momentum else (p,)


def moments(g, m, v, steps, betas):
    """The new m and v, and both corrected for their bias."""
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g**2
    return m, v, m / (1 - betas[0] ** steps), v / (1 - betas[1] ** steps)


def decayed(p, g, lr, weight_decay, decoupled):
    """p and the gradient before a step."""
    return (p - lr * weight_decay * p, g) if decoupled else (p, g + weight_decay * p)


def adam_step(
    p, g, m, v, *largest, steps, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled=False,
    amsgrad=False, decoupled_weight_decay=False,
):  # fmt: skip
    p, g = decayed(p, g, lr, weight_decay, decoupled or decoupled_weight_decay)
    m, v, mean, square = moments(g, m, v, steps, betas)
    if amsgrad:
        largest = [max(*largest, v)]
        square = largest[0] / (1 - betas[1] ** steps)
    return p - lr * mean / (math.sqrt(square) + eps), m, v, *largest


def nadam_step(
    p, g, m, v, steps, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, momentum_decay=4e-3,
    decoupled_weight_decay=False,
):  # fmt: skip
    p, g = decayed(p, g, lr, weight_decay, decoupled_weight_decay)
    m, v, _, square = moments(g, m, v, steps, betas)
    mus = [betas[0] * (1 - 0.5 * 0.96 ** (t * momentum_decay)) for t in range(1, steps + 2)]
    mean = mus[-1] * m / (1 - math.prod(mus)) + (1 - mus[-2]) * g / (1 - math.prod(mus[:-1]))
    return p - lr * mean / (math.sqrt(square) + eps), m, v


def radam_step(
    p, g, m, v, steps, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled_weight_decay=False
):
    p, g = decayed(p, g, lr, weight_decay, decoupled_weight_decay)
    m, v, mean, _ = moments(g, m, v, steps, betas)
    most = 2 / (1 - betas[1]) - 1
    length = most - 2 * steps * betas[1] ** steps / (1 - betas[1] ** steps)
    if length > 5:
        mean *= math.sqrt((length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length))
        mean *= math.sqrt(1 - betas[1] ** steps) / (math.sqrt(v) + eps)
    return p - lr * mean, m, v


def adamax_step(p, g, m, u, steps, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    g += weight_decay * p
    m, u = betas[0] * m + (1 - betas[0]) * g, max(betas[1] * u, abs(g) + eps)
    return p - lr / (1 - betas[0] ** steps) * m / u, m, u


def asgd_step(p, g, eta, average, steps, lr=1e-2, lambd=1e-4, alpha=0.75, t0=1e6, weight_decay=0.0):
    eta, g = (lr if steps == 1 else eta), g + weight_decay * p
    p = (1 - lambd * eta) * p - eta * g
    average += (p - average) / max(1, steps - 1 - t0)
    return p, lr / (1 + lambd * lr * steps) ** alpha, average


def lamb_step(p, g, m, v, steps, lr=1e-3, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.01):
    """One parameter, all of its elements."""
    p, results = np.float64(p).tolist(), []
    for values in zip(p, np.float64(g).tolist(), np.float64(m).tolist(), np.float64(v).tolist(), strict=True):
        new_m, new_v, mean, square = moments(*values[1:], steps, betas)
        results.append((mean / (math.sqrt(square) + eps) + weight_decay * values[0], new_m, new_v))
    length, change = math.hypot(*p), math.hypot(*(d for d, _, _ in results))
    ratio = length / change if length > 0 and change > 0 else 1.0
    return tuple(np.array([(x - lr * ratio * d, m, v) for x, (d, m, v) in zip(p, results, strict=True)]).T)


def adagrad_step(p, g, s, steps, lr=1e-2, lr_decay=0.0, eps=1e-10, weight_decay=0.0):
    g += weight_decay * p
    s += g**2
    return p - lr / (1 + (steps - 1) * lr_decay) * g / (math.sqrt(s) + eps), s


def adadelta_step(p, g, s, u, lr=1.0, rho=0.9, eps=1e-6, weight_decay=0.0):
    g += weight_decay * p
    s = rho * s + (1 - rho) * g**2
    d = math.sqrt(u + eps) / math.sqrt(s + eps) * g
    return p - lr * d, s, rho * u + (1 - rho) * d**2


def rmsprop_step(p, g, s, *rest, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0, centered=False):
    g += weight_decay * p
    s = alpha * s + (1 - alpha) * g**2
    m = alpha * rest[0] + (1 - alpha) * g if centered else 0.0
    d = g / (math.sqrt(s - m**2) + eps)
    v = momentum * rest[-1] + d if momentum else d
    return p - lr * v, s, *([m] if centered else []), *([v] if momentum else [])


# ---- the table ------------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    make: Callable[..., optim.Optimizer]
    rule: Callable[..., Any]
    states: tuple[str, ...]
    """What the optimizer calls its states, in the order in which the rule takes them."""
    fifty: Mapping[str, dict[str, Any]]
    """The settings of tests that take fifty steps, by a name."""
    training: Mapping[str, dict[str, Any]]
    """Those of the drawn trainings of tests/state_machine.py."""
    counts: bool = False
    """Whether the rule is told the number of the step."""
    told: Mapping[str, Any] = {}
    """What the rule is told besides."""
    needed_by: Mapping[str, str] = {}
    """The states that only some settings need, and the setting that does."""
    whole: bool = False
    """Whether the rule takes all elements of a parameter at once."""
    in_pytorch: bool = True
    captured: dict[str, Any] | None = None
    """Settings of a step that is captured as a CUDA graph, of the test that goes through all of them."""
    half: Mapping[str, Any] = {}
    """What a test of half parameters sets besides lr and l2."""


ROWS = [
    Row(
        optim.SGD, sgd_step, ("velocity",),
        {
            "sgd": {"lr": 0.05},
            "momentum": {"lr": 0.05, "momentum": 0.9},
            "nesterov": {"lr": 0.05, "momentum": 0.9, "nesterov": True},
            "sgd with weight decay": {"lr": 0.05, "momentum": 0.5, "weight_decay": 0.1},
        },
        {
            "plain": {"lr": 0.1},
            "momentum": {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01},
            "nesterov": {"lr": 0.05, "momentum": 0.5, "nesterov": True, "l1": 0.01},
        },
        needed_by={"velocity": "momentum"}, half={"momentum": 0.9},
    ),
    Row(
        optim.Adam, adam_step, ("mean", "square", "largest"),
        {
            "adam": {"lr": 0.05},
            "adam with weight decay": {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1},
            "amsgrad": {"lr": 0.05, "betas": (0.8, 0.9), "weight_decay": 0.1, "amsgrad": True},
        },
        {"adam": {"lr": 0.02, "l2": 0.01}, "amsgrad": {"lr": 0.02, "amsgrad": True}}, counts=True,
        needed_by={"largest": "amsgrad"},
    ),
    Row(
        optim.RMSprop, rmsprop_step, ("square", "mean", "velocity"),
        {
            "rmsprop": {"lr": 0.01},
            "rmsprop with momentum": {"lr": 0.01, "alpha": 0.9, "momentum": 0.8, "weight_decay": 0.1},
            "rmsprop centered": {"lr": 0.01, "alpha": 0.95, "eps": 1e-4, "centered": True},
            "rmsprop centered with momentum": {"lr": 0.01, "momentum": 0.5, "eps": 1e-4, "centered": True},
        },
        {
            "rmsprop": {"lr": 0.01, "momentum": 0.5},
            "centered": {"lr": 0.01, "centered": True, "alpha": 0.9, "eps": 1e-3},
        },
        needed_by={"mean": "centered", "velocity": "momentum"},
    ),
    Row(
        optim.AdamW, adam_step, ("mean", "square"), {"adamw": {"lr": 0.05, "weight_decay": 0.3}},
        {"adamw": {"lr": 0.02, "betas": (0.8, 0.95)}}, counts=True, told={"decoupled": True},
    ),
    Row(
        optim.NAdam, nadam_step, ("mean", "square"),
        {
            "nadam": {"lr": 0.05},
            "nadam with weight decay": {"lr": 0.05, "betas": (0.85, 0.99), "weight_decay": 0.1},
            "nadam with another momentum decay": {"lr": 0.05, "eps": 1e-4, "momentum_decay": 0.1},
            "nadam decoupled": {"lr": 0.05, "weight_decay": 0.3, "decoupled_weight_decay": True},
        },
        {"nadam": {"lr": 0.01}}, counts=True, captured={"lr": 0.05},
    ),
    Row(
        optim.RAdam, radam_step, ("mean", "square"),
        {
            "radam": {"lr": 0.05},
            "radam with weight decay": {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.1},
            "radam, never rectified": {"lr": 0.05, "betas": (0.8, 0.6)},
            "radam decoupled": {"lr": 0.05, "weight_decay": 0.3, "decoupled_weight_decay": True},
        },
        {"radam": {"lr": 0.01, "betas": (0.9, 0.9)}}, counts=True, captured={"lr": 0.05},
    ),
    Row(
        optim.Adagrad, adagrad_step, ("sum",),
        {
            "adagrad": {"lr": 0.1},
            "adagrad with decay": {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1},
            "adagrad from a sum": {"lr": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-4},
        },
        {"adagrad": {"lr": 0.05, "lr_decay": 0.1, "initial_accumulator_value": 0.1}}, counts=True,
        captured={"lr": 0.05, "lr_decay": 0.1},
    ),
    Row(
        optim.Adadelta, adadelta_step, ("square", "change"),
        {
            "adadelta": {"lr": 0.7},
            "adadelta with weight decay": {"lr": 0.7, "rho": 0.8, "eps": 1e-4, "weight_decay": 0.1},
        },
        {"adadelta": {"lr": 0.5}}, captured={"lr": 0.5},
    ),
    Row(
        optim.Adamax, adamax_step, ("mean", "largest"),
        {"adamax": {"lr": 0.05}, "adamax with weight decay": {"lr": 0.05, "betas": (0.8, 0.9), "weight_decay": 0.1}},
        {"adamax": {"lr": 0.01}}, counts=True,
    ),
    Row(
        optim.ASGD, asgd_step, ("eta", "average"),
        {
            "asgd": {"lr": 0.05},
            "asgd with decays": {"lr": 0.05, "lambd": 0.1, "alpha": 0.5, "t0": 10, "weight_decay": 0.1},
        },
        {}, counts=True,
    ),
    Row(
        optim.LAMB, lamb_step, ("mean", "square"),
        {
            "lamb": {"lr": 0.05},
            "lamb without weight decay": {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.0},
        },
        {"lamb": {"lr": 0.01}}, counts=True, whole=True, in_pytorch=False,
    ),
]  # fmt: skip
BY_NAME = {row.make.__name__: row for row in ROWS}
FIFTY = {name: (row.make, settings) for row in ROWS for name, settings in row.fifty.items()}


def element_rule(step: Callable[..., Any], arrays: Any, **settings: Any) -> tuple[np.ndarray[Any, Any], ...]:
    """The changed arrays after ``step``, a rule for one number at a time."""
    given = [np.float64(a) for a in arrays if a is not None]
    results = [step(*values, **settings) for values in zip(*given, strict=True)]
    return tuple(np.array(results).reshape(-1, len(given) - 1).T)

"""How other libraries name, order and lay out the weights of a layer, and how they become gpunn's.

Sources: the documentation of Keras 3, Flax (linen), MLX and Chainer 7; the formulas stand at the functions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gpunn.nn import Module

Arrays = dict[str, Any]

# ---- the places of a model -----------------------------------------------------------------------------------------

_KINDS = {
    "Linear": "linear", "Embedding": "embedding", "Conv1d": "conv1", "Conv2d": "conv2", "Conv3d": "conv3",
    "ConvTranspose1d": "conv_transpose1", "ConvTranspose2d": "conv_transpose2", "ConvTranspose3d": "conv_transpose3",
    "ChannelNorm": "batch_norm", "LayerNorm": "norm", "GroupNorm": "norm", "RMSNorm": "norm", "PReLU": "prelu",
    "RNN": "rnn", "RNNCell": "rnn", "LSTM": "lstm", "LSTMCell": "lstm", "GRU": "gru", "GRUCell": "gru",
}  # fmt: skip
_ROLES = ("weight", "bias", "running_mean", "running_var")
_GATES = {"rnn": 1, "gru": 3, "lstm": 4}


@dataclass(frozen=True)
class Slot:
    """A layer of the model with weights, or one direction of one layer of a recurrent one, and their names."""

    path: str
    kind: str
    module: Module
    names: dict[str, str]  # what each weight does there, to its name in the state_dict

    @property
    def depthwise(self) -> bool:
        """Whether each input channel has filters of its own."""
        groups = getattr(self.module, "groups", 1)
        return self.kind.startswith("conv") and groups > 1 and self.module.weight.shape[1] == 1  # type: ignore[attr-defined]


def slots(model: Module) -> list[Slot]:
    """The places for weights, in the order in which the model defines them.

    >>> from gpunn import nn
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.LSTM(3, 2, bidirectional=True))
    >>> [(slot.path, slot.kind) for slot in slots(model)]
    [('0', 'linear'), ('2.l0', 'lstm'), ('2.l0_reverse', 'lstm')]
    """
    found = []
    for path, module in model.named_modules():
        kind = next((_KINDS[base.__name__] for base in type(module).__mro__ if base.__name__ in _KINDS), None)
        if kind is None:
            continue
        held = {name for name, value in vars(module).items() if getattr(value, "shape", None) is not None}
        dot = f"{path}." if path else ""
        if kind in _GATES:
            endings = [name.removeprefix("weight_ih") for name in held if name.startswith("weight_ih")]
            order = sorted(endings, key=lambda ending: (int("0" + re.sub(r"\D", "", ending)), ending))
            for ending in order:
                own = {name.removesuffix(ending): dot + name for name in sorted(held) if name.endswith(ending)}
                own = {role: name for role, name in own.items() if role in _RECURRENT}
                found.append(Slot((dot + ending.strip("_")).rstrip(".") if len(order) > 1 else path, kind, module, own))
        elif own := {role: dot + role for role in _ROLES if role in held}:
            if kind == "batch_norm" and "running_mean" not in held:
                kind = "norm"
            found.append(Slot(path, kind, module, own))
    return found


_RECURRENT = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")

# ---- groups of their arrays ----------------------------------------------------------------------------------------


@dataclass
class Group:
    """The arrays of one layer of theirs by what they are called in it, and the names that they have in the file."""

    path: str
    leaves: Arrays = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    kind: str = ""


def _grouped(arrays: Mapping[str, Any], split: Callable[[str], tuple[str, str] | None]) -> list[Group]:
    """Arrays that belong to one layer together, in the order of the first of each; ``split`` tells layer and leaf."""
    groups: dict[str, Group] = {}
    for name, array in arrays.items():
        if (parts := split(name)) is not None:
            group = groups.setdefault(parts[0], Group(parts[0]))
            group.leaves[parts[1]], group.names[parts[1]] = array, name
    return list(groups.values())


def _rank(array: Any) -> int:
    return len(array.shape)


def _spatial(group: Group, leaf: str, transposed: str) -> str:
    """``linear``, or the kind of convolution that an array of that many axes belongs to."""
    rank = _rank(group.leaves[leaf])
    if rank < 3:
        return "linear"
    return ("conv_transpose" if re.search(transposed, group.path.lower()) else "conv") + str(rank - 2)


# ---- arrays turned -------------------------------------------------------------------------------------------------


def _moved(array: Any, last: int, spatial_from: int, flip: bool = False) -> Any:
    """``(out, in, *kernel)`` from an array whose axes ``last`` come first, then the other, then the kernel's."""
    rank = _rank(array)
    if rank < 3:
        return array
    kernel = range(spatial_from, spatial_from + rank - 2)
    others = [axis for axis in range(rank) if axis not in kernel]
    first = others[last]
    moved = array.transpose(first, *(axis for axis in others if axis != first), *kernel)
    return moved[(slice(None), slice(None), *(slice(None, None, -1),) * (rank - 2))] if flip else moved


def _turned(array: Any) -> Any:
    """The transpose of a matrix; anything else as it is, to be told of as of another shape."""
    return array.T if _rank(array) == 2 else array


def _reordered(array: Any, order: tuple[int, ...], negative: tuple[int, ...] = ()) -> Any:
    """Blocks of rows, one for each gate, in another order; those of ``negative`` with the other sign."""
    blocks = np.split(array, len(order))
    return np.concatenate([-blocks[gate] if gate in negative else blocks[gate] for gate in order])


def _check_reset(slot: Slot, after: bool) -> None:
    """Refuse a GRU that resets its state at another place than the model's."""
    if slot.kind == "gru" and slot.module.reset_after != after:  # type: ignore[attr-defined]
        raise ValueError(f"the file's GRU is of the form reset_after={after}, the model's is not")


def _rows(array: Any, wide: bool) -> Any:
    return _turned(array) if wide else array


def flattened(weight: Any, channels: int) -> Any:
    """Weights (..., inputs) for maps flattened channels first, from those for maps with the channels last.

    >>> flattened(np.arange(6)[None], 2).tolist()  # three places of two channels each
    [[0, 2, 4, 1, 3, 5]]
    """
    places = weight.reshape(*weight.shape[:-1], -1, channels)
    return places.swapaxes(-1, -2).reshape(weight.shape)


# ---- Keras ---------------------------------------------------------------------------------------------------------

_KERAS_LEAVES = {
    "kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance", "embeddings", "alpha", "recurrent_kernel",
    "depthwise_kernel", "pointwise_kernel",
}  # fmt: skip
_KERAS_CELL = re.compile(r"/(cell|\w*_cell(_\d+)?)$")
_KERAS_ORDER = {
    "linear": ("kernel", "bias"), "embedding": ("embeddings",), "norm": ("gamma", "beta"), "prelu": ("alpha",),
    "batch_norm": ("gamma", "beta", "moving_mean", "moving_variance"),
    "recurrent": ("kernel", "recurrent_kernel", "bias"), "separable": ("depthwise_kernel", "pointwise_kernel", "bias"),
}  # fmt: skip
_KERAS_CLASSES = (
    ("separable", "separable"), ("conv", "linear"), ("dense", "linear"), ("embedding", "embedding"),
    ("batch_normalization", "batch_norm"), ("normalization", "norm"), ("p_re_lu", "prelu"),
    ("lstm|gru|rnn|bidirectional", "recurrent"),
)  # fmt: skip


def _keras_leaf(name: str) -> tuple[str, str] | None:
    """Layer and leaf of ``layers/dense/vars/0`` (Keras 3), ``dense/dense/kernel:0`` (2), ``model/dense/kernel``."""
    if re.match(r"(optimizer|metrics?|compile_metrics)/", name) or "seed_generator" in name:
        return None
    path, _, leaf = re.sub(r":\d+$", "", name).rpartition("/")
    path = path.removesuffix("/vars").removeprefix("_layer_checkpoint_dependencies/").removeprefix("layers/")
    path = _KERAS_CELL.sub("", path).replace("/layers/", "/")
    half, _, other = path.partition("/")
    path = half if half == other else path
    if leaf == "depthwise_kernel":
        return f"{path}/depthwise", "kernel"
    if leaf == "pointwise_kernel":
        return f"{path}/pointwise", "kernel"
    return path, leaf


def _keras_groups(arrays: Mapping[str, Any]) -> list[Group]:
    named: Arrays = {}
    sources = {}
    for group in _grouped(arrays, _keras_leaf):
        numbered = all(leaf.isdecimal() for leaf in group.leaves)
        leaves = _keras_numbered(group) if numbered else {leaf: leaf for leaf in group.leaves}
        for leaf, real in leaves.items():
            path, own = _keras_leaf(f"{group.path}/{real}") or (group.path, real)
            named[f"{path}/{own}"], sources[f"{path}/{own}"] = group.leaves[leaf], group.names[leaf]
    pointwise = [name.removesuffix("/pointwise/kernel") for name in named if name.endswith("/pointwise/kernel")]
    for path in pointwise:  # the bias is behind both convolutions
        if f"{path}/bias" in named:
            named[f"{path}/pointwise/bias"], sources[f"{path}/pointwise/bias"] = (
                named.pop(f"{path}/bias"), sources[f"{path}/bias"])  # fmt: skip
    groups = _grouped(named, lambda name: (name.rpartition("/")[0], name.rpartition("/")[2]))
    for group in groups:
        group.names = {leaf: sources[f"{group.path}/{leaf}"] for leaf in group.leaves}
        group.kind = _keras_kind(group)
    return groups


def _keras_numbered(group: Group) -> dict[str, str]:
    """What the variables of a Keras 3 file are, which it only counts."""
    last = group.path.rpartition("/")[2]
    kind = next((kind for pattern, kind in _KERAS_CLASSES if re.search(pattern, last)), None)
    if re.search("(forward|backward)_layer", group.path):
        kind = "recurrent"
    count = len(group.leaves)
    if kind is None:  # the file does not name the class: by the shapes
        first = group.leaves.get("0")
        kind = "batch_norm" if count == 4 else "linear" if first is not None and _rank(first) > 1 else "norm"
    order = _KERAS_ORDER[kind]
    if kind == "batch_norm" and count == 2:
        order = order[2:]
    numbers = sorted(group.leaves, key=int)
    return {number: order[int(number)] if int(number) < len(order) else number for number in numbers}


def _keras_kind(group: Group) -> str:
    leaves = group.leaves
    if "recurrent_kernel" in leaves:
        shape = leaves["recurrent_kernel"].shape
        return {1: "rnn", 3: "gru", 4: "lstm"}.get(shape[-1] // max(1, shape[0]), "")
    if "moving_mean" in leaves:
        return "batch_norm"
    if "gamma" in leaves or "beta" in leaves:
        return "norm"
    if "embeddings" in leaves:
        return "embedding"
    if "alpha" in leaves:
        return "prelu"
    if "kernel" not in leaves:
        return ""
    kind = _spatial(group, "kernel", "transpose")
    return kind.replace("conv", "depthwise") if re.search("depthwise", group.path) and kind != "linear" else kind


def _keras(slot: Slot, leaves: Arrays) -> Arrays:
    if slot.kind in _GATES:
        return _keras_recurrent(slot, leaves)
    names = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var",
             "embeddings": "weight", "kernel": "weight"}  # fmt: skip
    made = {names.get(leaf, leaf): array for leaf, array in leaves.items()}
    if slot.kind == "linear" and "kernel" in leaves:
        made["weight"] = _turned(made["weight"])
    elif slot.kind.startswith("conv") and "kernel" in leaves:
        kernel = made["weight"]
        spread = slot.depthwise and _rank(kernel) > 2 and kernel.shape[-2] > 1
        made["weight"] = _depthwise(kernel) if spread else _moved(kernel, 1, 0)
    elif slot.kind == "prelu" and "alpha" in leaves:
        made["weight"] = made.pop("alpha").reshape(-1)
    elif slot.kind == "norm":
        made = {role: np.moveaxis(array, -1, 0) if _rank(array) > 1 else array for role, array in made.items()}
    return made


def _depthwise(kernel: Any) -> Any:
    """``(*kernel, in, multiplier)`` to (in * multiplier, 1, *kernel): the filters of a channel follow one another."""
    rank = _rank(kernel)
    filters = kernel.transpose(rank - 2, rank - 1, *range(rank - 2))
    return filters.reshape(-1, 1, *filters.shape[2:])


def _keras_recurrent(slot: Slot, leaves: Arrays) -> Arrays:
    """``x kernel + h recurrent_kernel + bias``; gates i, f, c, o, and z, r, h, whose bias is (2, 3H) if reset after."""
    made = {"weight_ih": _turned(leaves["kernel"]), "weight_hh": _turned(leaves["recurrent_kernel"])}
    if "bias" in leaves:
        both = _rank(leaves["bias"]) == 2
        _check_reset(slot, after=both)
        made["bias_ih"] = leaves["bias"][0] if both else leaves["bias"]
        made["bias_hh"] = leaves["bias"][1] if both else np.zeros_like(leaves["bias"])
    order = {"lstm": (0, 1, 2, 3), "gru": (1, 0, 2), "rnn": (0,)}[slot.kind]
    return {role: _reordered(array, order) for role, array in made.items()}


# ---- Flax ----------------------------------------------------------------------------------------------------------

_FLAX_GATES = {
    "lstm": ("ii", "if", "ig", "io", "hi", "hf", "hg", "ho"), "gru": ("ir", "iz", "in", "hr", "hz", "hn"),
    "rnn": ("i", "h"),
}  # fmt: skip
_COLLECTIONS = ("params", "batch_stats")


def _flax_groups(arrays: Mapping[str, Any]) -> list[Group]:
    """Collections, ``params`` and ``batch_stats``, together; the gates of a cell, each a layer there, too."""
    parts = {}
    for name in arrays:
        path = name.split("/")
        parts[name] = path[1:] if path[0] in _COLLECTIONS else path
    children: dict[str, set[str]] = {}
    for path in parts.values():
        if len(path) > 1:
            children.setdefault("/".join(path[:-2]), set()).add(path[-2])
    cells = {
        parent: kind for parent, held in children.items() for kind, gates in _FLAX_GATES.items() if held == set(gates)
    }

    def split(name: str) -> tuple[str, str]:
        path = parts[name]
        at = 2 if len(path) > 1 and "/".join(path[:-2]) in cells else 1
        return "/".join(path[:-at]), "/".join(path[-at:])

    groups = _grouped(arrays, split)
    for group in groups:
        group.kind = cells.get(group.path) or _flax_kind(group)
    return groups


def _flax_kind(group: Group) -> str:
    leaves = group.leaves
    if "kernel" in leaves:
        return _spatial(group, "kernel", "transpose")
    if "mean" in leaves:
        return "batch_norm"
    if "embedding" in leaves:
        return "embedding"
    if "negative_slope" in leaves:
        return "prelu"
    return "norm" if "scale" in leaves or "bias" in leaves else ""


def _flax(slot: Slot, leaves: Arrays) -> Arrays:
    if slot.kind in _GATES:
        return _flax_recurrent(slot, leaves)
    names = {"kernel": "weight", "scale": "weight", "embedding": "weight", "negative_slope": "weight",
             "mean": "running_mean", "var": "running_var"}  # fmt: skip
    made = {names.get(leaf, leaf): array for leaf, array in leaves.items()}
    if slot.kind == "linear" and "kernel" in leaves:
        made["weight"] = _turned(made["weight"])
    elif slot.kind.startswith("conv_transpose") and "kernel" in leaves:
        made["weight"] = _moved(made["weight"], 0, 0, flip=True)  # (*kernel, in, out), of a correlation
    elif slot.kind.startswith("conv") and "kernel" in leaves:
        made["weight"] = _moved(made["weight"], 1, 0)
    elif slot.kind == "prelu":
        made = {role: array.reshape(-1) for role, array in made.items()}
    return made


def _flax_recurrent(slot: Slot, leaves: Arrays) -> Arrays:
    """Dense layers for each gate of x (``ii``) and of h (``hi``): gates i, f, g, o, and r, z, n; reset after."""
    _check_reset(slot, after=True)
    gates = _FLAX_GATES[slot.kind]
    half = len(gates) // 2
    made: Arrays = {}
    for ending, each in (("ih", gates[:half]), ("hh", gates[half:])):
        kernels = [_turned(leaves[f"{gate}/kernel"]) for gate in each]
        made[f"weight_{ending}"] = np.concatenate(kernels)
        zeros = np.zeros(len(kernels[0]), kernels[0].dtype)
        made[f"bias_{ending}"] = np.concatenate([leaves.get(f"{gate}/bias", zeros) for gate in each])
    return made


# ---- MLX -----------------------------------------------------------------------------------------------------------


def _last_dot(name: str) -> tuple[str, str]:
    path, _, leaf = name.rpartition(".")
    return ".".join(part for part in path.split(".") if part != "layers"), leaf


def _mlx_groups(arrays: Mapping[str, Any]) -> list[Group]:
    groups = _grouped(arrays, _last_dot)
    for group in groups:
        leaves = group.leaves
        if "Whh" in leaves:
            group.kind = "rnn"
        elif "Wh" in leaves and _rank(leaves["Wh"]) == 2:
            shape = leaves["Wh"].shape
            group.kind = {3: "gru", 4: "lstm"}.get(max(shape) // max(1, min(shape)), "")
        elif "running_mean" in leaves:
            group.kind = "batch_norm"
        elif "weight" in leaves and _rank(leaves["weight"]) > 1:
            group.kind = _spatial(group, "weight", "transpose|deconv|upconv")
            table = group.kind == "linear" and "bias" not in leaves and "embed" in group.path.lower()
            group.kind = "embedding" if table else group.kind
        elif "weight" in leaves:
            group.kind = "norm"
    return groups


def _mlx(slot: Slot, leaves: Arrays) -> Arrays:
    if slot.kind in _GATES:
        return _mlx_recurrent(slot, leaves)
    made = dict(leaves)
    if slot.kind.startswith("conv") and "weight" in leaves:  # (out, *kernel, in)
        made["weight"] = _moved(made["weight"], 1 if slot.kind.startswith("conv_transpose") else 0, 1)
    elif slot.kind == "norm":
        made = {role: np.moveaxis(array, -1, 0) if _rank(array) > 1 else array for role, array in made.items()}
    return made


def _mlx_recurrent(slot: Slot, leaves: Arrays) -> Arrays:
    """gpunn's gates; ``x Wx^T + h Wh^T + bias``, in old versions ``x Wx + h Wh``; GRU: ``r * (h Whn + bhn)``."""
    _check_reset(slot, after=True)
    ih, hh = (leaves[f"W{end}h"] if slot.kind == "rnn" else leaves[f"W{end}"] for end in (("x", "h")))
    rows = slot.module.hidden_size * _GATES[slot.kind]  # type: ignore[attr-defined]
    wide = ih.shape[-1] == rows if slot.kind == "rnn" else hh.shape[0] != rows
    if slot.kind == "rnn" and ih.shape[0] == rows and ih.shape[-1] == rows:
        raise ValueError("Wxh may be for x Wxh or x Wxh^T: sizes of input and state are equal")
    made = {"weight_ih": _rows(ih, wide), "weight_hh": _rows(hh, wide)}
    bias = leaves.get("b" if slot.kind == "gru" else "bias")
    if bias is not None:
        made["bias_ih"], made["bias_hh"] = bias, np.zeros_like(bias)
        if "bhn" in leaves:
            made["bias_hh"][-len(leaves["bhn"]) :] = leaves["bhn"]
    return made


# ---- Chainer -------------------------------------------------------------------------------------------------------

_CHAINER_GRU = ("W_r", "W_z", "W", "U_r", "U_z", "U")


def _chainer_groups(arrays: Mapping[str, Any]) -> list[Group]:
    """Links; those of an LSTM (``upward``, ``lateral``) and of a GRU (``W_r``, ``U_r`` ...) each as one."""
    parents = {name.rpartition("/")[0].rpartition("/")[0] for name in arrays if re.search(r"(^|/)U_r/W$", name)}

    def split(name: str) -> tuple[str, str]:
        path, _, leaf = name.rpartition("/")
        parent, _, own = path.rpartition("/")
        joined = own in ("upward", "lateral") or (own in _CHAINER_GRU and parent in parents)
        return (parent, f"{own}/{leaf}") if joined else (path, leaf)

    groups = _grouped(arrays, split)
    for group in groups:
        group.kind = _chainer_kind(group)
    return groups


def _chainer_kind(group: Group) -> str:
    leaves = group.leaves
    if "lateral/W" in leaves:
        return "lstm"
    if "U_r/W" in leaves:
        return "gru"
    if "w0" in leaves:
        return {2: "rnn", 6: "gru", 8: "lstm"}.get(sum(leaf.startswith("w") for leaf in leaves), "")
    if "avg_mean" in leaves:
        return "batch_norm"
    if "gamma" in leaves or "beta" in leaves:
        return "norm"
    if "W" not in leaves:
        return ""
    if _rank(leaves["W"]) < 2:
        return "prelu"
    kind = _spatial(group, "W", "deconv|transpose")
    return "embedding" if kind == "linear" and "b" not in leaves and "embed" in group.path.lower() else kind


def _chainer(slot: Slot, leaves: Arrays) -> Arrays:
    if slot.kind in _GATES:
        return _chainer_recurrent(slot, leaves)
    names = {"W": "weight", "b": "bias", "gamma": "weight", "beta": "bias", "avg_mean": "running_mean",
             "avg_var": "running_var"}  # fmt: skip
    made = {names.get(leaf, leaf): array for leaf, array in leaves.items() if leaf != "N"}
    if slot.kind == "prelu":
        made = {role: array.reshape(-1) for role, array in made.items()}
    return made


def _chainer_recurrent(slot: Slot, leaves: Arrays) -> Arrays:
    """An LSTM's rows go a, i, f, o for the first unit, then for the next, a being g; the state has no bias.

    NStepLSTM: ``w0`` to ``w3`` of x for i, f, o, a, ``w4`` to ``w7`` of h; NStepGRU: r, z, n, reset after, as here.
    GRU: reset before, and ``h' = (1 - z) h + z n``: the other sign before the sigmoid gives z's complement.
    """
    _check_reset(slot, after="w0" in leaves)
    if "w0" in leaves:
        order = {"lstm": (0, 1, 3, 2), "gru": (0, 1, 2), "rnn": (0,)}[slot.kind]
        half = len(order)
        return {
            f"{role}_{ending}": np.concatenate([leaves[f"{letter}{first + gate}"] for gate in order])
            for role, letter in (("weight", "w"), ("bias", "b"))
            for ending, first in (("ih", 0), ("hh", half))
        }
    if slot.kind == "lstm":
        made = {"weight_ih": leaves["upward/W"], "weight_hh": leaves["lateral/W"]}
        if "upward/b" in leaves:
            made["bias_ih"] = leaves["upward/b"]
        made = {role: _apart(array) for role, array in made.items()}
    else:
        made = {
            f"{role}_{ending}": _reordered(np.concatenate([leaves[f"{gate}/{leaf}"] for gate in each]), (0, 1, 2), (1,))
            for ending, each in (("ih", _CHAINER_GRU[:3]), ("hh", _CHAINER_GRU[3:]))
            for role, leaf in (("weight", "W"), ("bias", "b"))
            if f"{each[0]}/{leaf}" in leaves
        }
    if "bias_ih" in made and "bias_hh" not in made:
        made["bias_hh"] = np.zeros_like(made["bias_ih"])
    return made


def _apart(array: Any) -> Any:
    """Rows a, i, f, o of each unit in turn, to all of i, then f, then g (their a), then o."""
    units = array.reshape(-1, 4, *array.shape[1:])
    return np.concatenate([units[:, gate] for gate in (1, 2, 0, 3)])


# ---- all of them ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Library:
    """How a library's arrays are grouped by layer, and how those of a layer become gpunn's."""

    groups: Callable[[Mapping[str, Any]], list[Group]]
    convert: Callable[[Slot, Arrays], Arrays]
    channels_last: bool = False


LIBRARIES = {
    "keras": Library(_keras_groups, _keras, channels_last=True),
    "flax": Library(_flax_groups, _flax, channels_last=True),
    "mlx": Library(_mlx_groups, _mlx, channels_last=True),
    "chainer": Library(_chainer_groups, _chainer),
}


def kind_of(slot: Slot, library: str) -> str:
    """The kind of a place, as the groups of that library call it."""
    if slot.depthwise and library == "keras":
        return slot.kind.replace("conv", "depthwise")
    return slot.kind


def numbers_in(path: str) -> tuple[str, list[int]]:
    """A name without its numbers, and these: equal names but for numbers tell an order.

    >>> numbers_in("ResBlock_10/Conv_2")
    ('ResBlock/Conv', [10, 2])
    """
    turned = re.sub("forward", "0", re.sub("backward", "1", path))
    return re.sub(r"[_.]?\d+", "", turned), [int(number) for number in re.findall(r"\d+", turned)]


def each_kind(slots: list[Slot], groups: list[Group], library: str) -> Iterator[tuple[list[Slot], list[Group]]]:
    """The places and the groups of each kind."""
    kinds = dict.fromkeys(kind_of(slot, library) for slot in slots)
    for kind in kinds:
        yield ([s for s in slots if kind_of(s, library) == kind], [g for g in groups if g.kind == kind])

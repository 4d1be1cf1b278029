"""Which layers read maps that were flattened: where channels are last, their weights come in another order.

gpunn flattens (C, H, W), a library with the channels last (H, W, C). A dense layer behind that, and a normalisation of
the single features, has its inputs in that order; layers behind these have not.
"""

from __future__ import annotations

import inspect
from typing import Any

from gpunn.errors import ArgumentError, GraphError
from gpunn.functional import activation
from gpunn.interop.onnx_nodes import TRANSLATIONS
from gpunn.interop.trace import Call, Value, leaves, trace
from gpunn.interop.weights_layers import Slot, slots
from gpunn.nn import Flatten, Module, Sequential

Channels = dict[str, int]
"""By the name of a weight how many channels the maps have whose flattened elements it is for; 0 if it is for none."""

_MAPS = ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
_ROWS = (
    "linear", "bilinear", "embedding", "rnn", "lstm", "gru", "rnn_cell", "lstm_cell", "gru_cell", "matmul",
    "Tensor.__matmul__",
)  # fmt: skip
_TURNS = ("Tensor.transpose", "Tensor.swapaxes", "einsum")
_EACH = {name for name, held in vars(activation).items() if inspect.isfunction(held)} | {
    "batch_norm", "clip", "exp", "log", "sqrt", "abs", "maximum", "minimum", "where", "dropout", "to_device",
    "Tensor.copy", "Tensor.clip", "Tensor.astype", "Tensor.__abs__", "Tensor.__neg__", "Tensor.__add__",
    "Tensor.__mul__", "Tensor.__sub__", "Tensor.__rsub__", "Tensor.__truediv__", "Tensor.__rtruediv__",
    "Tensor.__pow__",
}  # fmt: skip
"""Functions of the single elements, and what leaves them where they are."""


def dense_names(slot: Slot) -> list[str]:
    """The weights of a layer that may read flattened maps, one number for each element of them."""
    if slot.kind == "linear":
        return [slot.names["weight"]] if "weight" in slot.names else []
    return list(slot.names.values()) if slot.kind in ("batch_norm", "norm") else []


def in_sequence(model: Module) -> Channels:
    """What the Sequentials of a model tell: convolutions, then Flatten, then what reads it.

    >>> from gpunn import nn
    >>> model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, 5), nn.Linear(5, 2))
    >>> in_sequence(model)
    {'3.weight': 6, '4.weight': 0}
    """
    found: Channels = {}
    for path, module in model.named_modules():
        channels: int | None = None  # of the maps, or of what was flattened; None where that is not known
        flat = False
        for name, layer in module.named_children() if isinstance(module, Sequential) else ():
            own = slots(layer)
            dot = f"{path}.{name}." if path else f"{name}."
            if any(layer.named_children()):
                channels = None
            elif isinstance(layer, Flatten):
                flat = True
            elif own and own[0].kind.startswith("conv"):
                channels, flat = _out_channels(own[0]), False
            elif flat and channels is not None and own:
                found |= {dot + name: channels for name in dense_names(own[0])}
            if own and own[0].kind == "linear":
                channels, flat = 0, True
    return found


def _out_channels(slot: Slot) -> int:
    weight: Any = slot.module.weight  # type: ignore[attr-defined]
    transposed = slot.kind.startswith("conv_transpose")
    return int(weight.shape[1] * slot.module.groups if transposed else weight.shape[0])  # type: ignore[attr-defined]


def traced(model: Module, example: Any) -> Channels:
    """What the model does with an input tells; ArgumentError where that cannot be followed."""
    inputs = example if isinstance(example, tuple | list) else [example]
    try:
        calls = trace(model, inputs, TRANSLATIONS).calls
    except GraphError as error:
        raise ArgumentError(f"load_state: what the model does with the example cannot be followed: {error}") from error
    makers = {id(value): call for call in calls for value in call.results}
    found: Channels = {}
    for call in calls:
        x = call.arguments.get("x")
        if (
            call.function in ("linear", "batch_norm", "layer_norm", "group_norm")
            and isinstance(x, Value)
            and x.ndim == 2
        ):
            named = [value.name for value in leaves(call.arguments) if isinstance(value, Value) and value.name]
            found |= dict.fromkeys(named, _channels(x, makers))
        elif call.function == "linear":
            found[call.arguments["w"].name] = 0
    return found


def _channels(value: Value, makers: dict[int, Call]) -> int:
    """Of the maps that the rows of a matrix were flattened from, 0 if they were not."""
    call = makers.get(id(value))
    if call is None or call.function in _ROWS:
        return 0
    given = [leaf for leaf in leaves(call.arguments) if isinstance(leaf, Value) and leaf.follows_input]
    deep = [each for each in given if each.ndim > 2]
    if call.function == "Tensor.reshape" and deep:
        x = deep[0]
        rows = x.shape[-1] == value.shape[-1] or value.shape[1] == x.shape[1] or not _are_maps(x, makers, call.layer)
        return 0 if rows else x.shape[1]
    if deep:
        return 0
    counts = {_channels(each, makers) for each in given}
    if counts <= {0}:
        return 0
    if len(counts) > 1 or call.function not in _EACH or any(each.shape != value.shape for each in given):
        raise ArgumentError(
            f"load_state: flattened maps are mixed by {call.function} in {call.layer}: no order is known"
        )
    return counts.pop()


def _are_maps(value: Value, makers: dict[int, Call], where: str) -> bool:
    """Whether axis 1 counts channels, which another library has last: images, and what convolutions make."""
    while (call := makers.get(id(value))) is not None:
        if call.function in _MAPS or call.function in _ROWS:
            return call.function in _MAPS
        if call.function in _TURNS:
            raise ArgumentError(
                f"load_state: what is flattened in {where} was turned by {call.function}: no order is known"
            )
        given = [leaf for leaf in leaves(call.arguments) if isinstance(leaf, Value) and leaf.follows_input]
        value = max(given, key=lambda each: each.ndim)
    return value.ndim > 3

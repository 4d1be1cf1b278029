"""PyTorch's own sample data run through gpunn: what a sample gives there it gives here, gradients included.

``python tests/torch_samples.py [functions|layers|errors] [NAME...]`` prints the share that agrees, and what does not.
A *case* is one call; its outcome is None, or a text on what is wrong.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from functools import cache, partial, wraps

import numpy as np

from gpunn import Tensor, backend, functional, nn, tensor
from gpunn.backend import half_dtype

MEANT_AS_NUMPY_DOES = {
    "argsort": "of one axis, in ascending order; the function takes the rest",
    "fill": "in place",
    "item": "a Python number, as in NumPy; the sample's is of one element anyway",
    "max": "with an axis the maxima alone, without their places",
    "min": "with an axis the minima alone, without their places",
    "nonzero": "a tuple, an array for each axis",
    "repeat": "NumPy's: each element, not the array as a tile",
    "searchsorted": "the sorted array's method, with the argument side",
    "sort": "in place",
    "split": "NumPy's: a number of parts, or places to cut at; not the sizes of the parts",
    "std": "ddof is 0 unless given",
    "take": "NumPy's: along an axis, and all of the array without one",
    "transpose": "NumPy's: all axes in a new order; swapaxes exchanges two",
    "var": "ddof is 0 unless given",
}
"""Methods of both libraries with one name for different things; the page for those who come from PyTorch lists them."""

ORDERS = {
    "embedding": lambda w, indices, **settings: functional.embedding(indices, w, **settings),
    "embedding_bag": lambda w, indices, **settings: functional.embedding_bag(indices, w, **settings),
    "einsum": lambda operands, equation: functional.einsum(equation, *operands),
    "where": lambda a, condition, b: functional.where(condition, a, b),
}
"""What takes a sample's arguments where their order is not the function's."""

METHODS = {"unfold"}
"""PyTorch's methods of tensors with the name of another function, of ``torch.nn.functional``."""

DRAWN = {
    "alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout", "rand_like",
    "randn_like", "rrelu",
}  # fmt: skip
"""Functions that draw random numbers, which are others in PyTorch."""


def _steps(torch, x, rank):
    batch = x.shape[0] if x.ndim == rank + 2 else 1
    return {"_random_samples": torch.rand(batch, x.shape[-rank - 1], rank, dtype=x.dtype)}


UNDRAWN = {
    "scaled_dot_product_attention": lambda torch, x: {"dropout_p": 0.0},
    "fractional_max_pool2d": lambda torch, x: _steps(torch, x, 2),
    "fractional_max_pool3d": lambda torch, x: _steps(torch, x, 3),
}
"""Settings that leave nothing to be drawn."""

DRAWN_IN_TRAINING = {"AlphaDropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "FeatureAlphaDropout", "RReLU"}


class _Twins:
    """Copies of a sample's values for either library; ``leaves`` are the pairs that a gradient is asked of."""

    def __init__(self, torch) -> None:
        self.torch = torch
        self.leaves: list[tuple[str, object, Tensor]] = []

    def of(self, value):
        torch = self.torch
        if isinstance(value, torch.Tensor):
            theirs = value.detach().clone().requires_grad_(value.requires_grad)
            ours = tensor(theirs.detach().numpy().copy(), requires_grad=value.requires_grad)
            if value.requires_grad:
                self.leaves.append((f"input {len(self.leaves)}", theirs, ours))
            return theirs, ours
        if isinstance(value, torch.dtype):
            return value, np.dtype(str(value).removeprefix("torch."))
        if isinstance(value, torch.Size):
            return value, tuple(value)
        if isinstance(value, torch.nn.Module):
            return value, self.layer(value)
        if isinstance(value, dict):
            both = {key: self.of(item) for key, item in value.items()}
            return {key: a for key, (a, _) in both.items()}, {key: b for key, (_, b) in both.items()}
        if isinstance(value, tuple | list):
            both = [self.of(item) for item in value]
            build = type(value) if type(value) in (tuple, list) else tuple
            return build(a for a, _ in both), build(b for _, b in both)
        if callable(value) and hasattr(functional, getattr(value, "__name__", "")):
            return value, getattr(functional, value.__name__)
        return value, value

    def layer(self, theirs) -> nn.Module:
        """gpunn's layer with the settings and the state of PyTorch's, in float64."""
        args, settings = theirs._built
        _, (args, settings) = _Twins(self.torch).of((args, settings))
        settings.pop("device", None)
        ours = getattr(nn, type(theirs).__name__)(*args, **settings)
        own = {**dict(ours.named_parameters()), **dict(ours.named_buffers())}
        state = theirs.state_dict()
        assert own.keys() == state.keys(), f"its state is {sorted(own)}, not {sorted(state)}"
        for name, held in own.items():
            held.hold(state[name].numpy().copy())
        return ours


@cache
def torch_samples():
    """PyTorch; its layers remember from now on how they were built."""
    import torch

    for name in nn.__all__:
        kind = getattr(torch.nn, name, None)
        if isinstance(kind, type) and issubclass(kind, torch.nn.Module) and kind is not torch.nn.Module:
            kind.__init__ = _remembering(kind.__init__)
    return torch


def _remembering(build):
    @wraps(build)
    def built(self, *args, **settings):
        vars(self).setdefault("_built", (args, settings))
        build(self, *args, **settings)

    return built


def _flat(y) -> list:
    if isinstance(y, tuple | list):
        return [part for item in y for part in _flat(item)]
    return [] if y is None else [y]


def _array(torch, value):
    """PyTorch's tensor as an array; NumPy has bfloat16 from ml_dtypes, of which PyTorch does not know."""
    if not isinstance(value, torch.Tensor):
        return value
    value = value.detach()
    return (
        value.float().numpy().astype(half_dtype("sample", "bf16")) if value.dtype == torch.bfloat16 else value.numpy()
    )


def _difference(what: str, ours, theirs) -> str | None:
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if ours.shape != theirs.shape:
        return f"{what} has shape {ours.shape}, not {theirs.shape}"
    if ours.dtype.kind != theirs.dtype.kind or (theirs.dtype.kind == "f" and ours.dtype != theirs.dtype):
        return f"{what} is {ours.dtype}, not {theirs.dtype}"
    if ours.dtype.itemsize == 2:
        ours, theirs = ours.astype(np.float32), theirs.astype(np.float32)
    close = np.isclose(ours, theirs, rtol=1e-6, atol=1e-8, equal_nan=True)
    return None if close.all() else f"{what} differs by up to {np.nanmax(np.abs(ours - theirs), initial=0):.3g}"


def _compared(torch, leaves, ours, theirs) -> str | None:
    """What is wrong with results, and with the gradients of leaves, at a random gradient of all results."""
    ours, theirs = _flat(ours), _flat(theirs)
    if len(ours) != len(theirs):
        return f"gives {len(ours)} results, not {len(theirs)}"
    for n, (own, right) in enumerate(zip(ours, theirs, strict=True)):
        if wrong := _difference(f"result {n}", getattr(own, "data", own), _array(torch, right)):
            return wrong
    pairs = [
        (own, right)
        for own, right in zip(ours, theirs, strict=True)
        if isinstance(right, torch.Tensor) and right.requires_grad and right.is_floating_point()
    ]
    if not (pairs and leaves):
        return None
    if not all(isinstance(own, Tensor) and own.requires_grad for own, _ in pairs):
        return "has no gradient"
    rng = np.random.default_rng(0)
    weights = [np.asarray(rng.standard_normal(right.shape)).astype(own.dtype) for own, right in pairs]
    wanted = torch.autograd.grad(
        [right for _, right in pairs],
        [x for _, x, _ in leaves],
        [torch.tensor(w.astype(np.float64)).to(right.dtype) for w, (_, right) in zip(weights, pairs, strict=True)],
        allow_unused=True,
    )
    for (own, _), weight in zip(pairs, weights, strict=True):
        own.backward(weight, retain_graph=True)
    for (name, x, own), right in zip(leaves, wanted, strict=True):
        none = np.zeros(x.shape)
        found = none if own.grad is None else own.grad
        if wrong := _difference(f"gradient of {name}", found, none if right is None else right.numpy()):
            return wrong
    return None


def _outcome(run) -> str | None:
    try:
        return run()
    except Exception as error:
        return f"raises {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


# ---- functions and methods ------------------------------------------------------------------------------------------


def _ways(op) -> Iterator[tuple[str, object]]:
    """The names under which gpunn has an operation, with what takes its arguments."""
    for name in {op.name: None, **{alias.name: None for alias in op.aliases}}:
        short = name.rsplit(".", 1)[-1]
        if short in DRAWN or "." in name.removeprefix("nn.functional."):
            continue
        if short in functional.__all__ and name not in METHODS:
            yield short, ORDERS.get(short, getattr(functional, short))
        if name == short and callable(getattr(Tensor, name, None)) and name not in MEANT_AS_NUMPY_DOES:
            yield f"Tensor.{name}", partial(_call_method, name)


def _call_method(name: str, x, *args, **settings):
    if not isinstance(x, Tensor):
        raise TypeError(f"{type(x).__name__} is no Tensor")
    return getattr(x, name)(*args, **settings)


def _operations():
    torch_samples()
    from torch.testing._internal.common_methods_invocations import op_db

    return [(op, ways) for op in op_db if (ways := list(_ways(op)))]


def function_cases() -> Iterator[tuple[str, str | None]]:
    """The name and the outcome of every sample of an operation, for every name that gpunn has for it."""
    torch = torch_samples()
    for op, ways in _operations():
        dtype = next((dtype for dtype in (torch.float64, torch.int64) if dtype in op.dtypes), None)
        if dtype is None:
            continue
        for sample in op.sample_inputs("cpu", dtype, requires_grad=op.supports_autograd and dtype.is_floating_point):
            for name, ours in ways:
                twins = _Twins(torch)
                given = sample.kwargs | (UNDRAWN[name](torch, sample.input) if name in UNDRAWN else {})
                (args, settings), (own_args, own_settings) = twins.of(((sample.input, *sample.args), given))
                expected = op(*args, **settings)
                yield (
                    name,
                    _outcome(
                        lambda: _compared(torch, twins.leaves, ours(*own_args, **own_settings), expected)  # noqa: B023
                    ),
                )


def function_errors() -> Iterator[tuple[str, str | None]]:
    """The name of an operation and, where gpunn takes what PyTorch refuses, PyTorch's reason."""
    torch = torch_samples()
    for op, ways in _operations():
        if op.error_inputs_func is None:
            continue
        for wrong in op.error_inputs("cpu"):
            sample = wrong.sample_input
            for name, ours in ways:
                yield name, _refused(torch, ours, ((sample.input, *sample.args), sample.kwargs), wrong.error_regex)


def _refused(torch, ours, call, reason: str) -> str | None:
    try:
        _, (args, settings) = _Twins(torch).of(call)
        ours(*args, **settings)
    except Exception:
        return None
    return f"takes what PyTorch refuses: {reason}"


# ---- layers ---------------------------------------------------------------------------------------------------------


def _layers():
    torch_samples()
    from torch.testing._internal.common_modules import module_db

    return [info for info in module_db if info.module_cls.__name__ in nn.__all__]


def layer_cases() -> Iterator[tuple[str, str | None]]:
    """The name and the outcome of every sample of a layer, in training and in evaluation."""
    torch = torch_samples()
    for info in _layers():
        name = info.module_cls.__name__
        for training in (False, True):
            if training and name in DRAWN_IN_TRAINING:
                continue
            samples = info.module_inputs_func(
                info, device="cpu", dtype=torch.float64, requires_grad=True, training=training
            )
            for sample in samples:
                built, given = sample.constructor_input, sample.forward_input
                if given is not None:
                    theirs = info.module_cls(*built.args, **built.kwargs).double().train(training)
                    yield name, _outcome(lambda: _run_layer(torch, theirs, given))  # noqa: B023


def _run_layer(torch, theirs, given) -> str | None:
    twins = _Twins(torch)
    ours = twins.layer(theirs).train(theirs.training)
    (args, settings), (own_args, own_settings) = twins.of((given.args, given.kwargs))
    own = dict(ours.named_parameters())
    twins.leaves += [(name, p, own[name]) for name, p in theirs.named_parameters() if p.requires_grad]
    expected = theirs(*args, **settings)
    wrong = _compared(torch, twins.leaves, ours(*own_args, **own_settings), expected)
    buffers = dict(ours.named_buffers())
    state = ((name, buffers[name].data, held.numpy()) for name, held in theirs.named_buffers())
    return wrong or next((text for part in state if (text := _difference(*part))), None)


def layer_errors() -> Iterator[tuple[str, str | None]]:
    """The name of a layer and, where gpunn takes what PyTorch refuses, PyTorch's reason."""
    torch = torch_samples()
    for info in _layers():
        if info.module_error_inputs_func is None:
            continue
        for training in (False, True):
            for wrong in info.module_error_inputs_func(
                info, device="cpu", dtype=torch.float64, requires_grad=False, training=training
            ):
                yield info.module_cls.__name__, _refused(torch, *_layer_call(info, wrong), wrong.error_regex)


def _layer_call(info, wrong):
    built, given = wrong.module_error_input.constructor_input, wrong.module_error_input.forward_input
    kind = getattr(nn, info.module_cls.__name__)

    def ours(build, call):
        layer = kind(*build[0], **build[1])
        for held in (*layer.parameters(), *dict(layer.named_buffers()).values()):
            held.hold(held.data.astype(np.float64) if held.dtype.kind == "f" else held.data)
        return layer(*call[0], **call[1])

    return ours, (((built.args, built.kwargs), (given.args, given.kwargs) if given else ((), {})), {})


KINDS = {
    "functions": function_cases,
    "layers": layer_cases,
    "errors of functions": function_errors,
    "errors of layers": layer_errors,
}


def outcomes(kind: str) -> tuple[int, dict[str, list[str]]]:
    """How many cases there are of a kind, and the texts of those that are wrong, by name."""
    wrong: dict[str, list[str]] = {}
    count = 0
    backend.manual_seed(0)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for name, text in KINDS[kind]():
            count += 1
            if text is not None:
                wrong.setdefault(name, []).append(text)
    return count, wrong


if __name__ == "__main__":
    kinds = [kind for kind in KINDS if not sys.argv[1:] or kind.split()[0] in sys.argv[1:]]
    for kind in kinds:
        count, wrong = outcomes(kind)
        failed = sum(map(len, wrong.values()))
        print(f"{kind}: {count - failed} of {count} agree ({1 - failed / count:.4f})")
        for name, texts in wrong.items():
            print(f"  {name}: {len(texts)}")
            for text in sorted(set(texts))[:6]:
                print(f"    {texts.count(text)} × {text[:200]}")

"""Weights of other libraries' models put into gpunn's: names found, gates reordered, kernels turned."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, NoReturn

import numpy as np

from gpunn.backend import is_array, is_floating, to_cpu
from gpunn.checkpoint import differences
from gpunn.errors import ArgumentError, FileError, check
from gpunn.functional.record import raw
from gpunn.interop.torch import from_torch
from gpunn.interop.weights_files import below, flat, read_arrays
from gpunn.interop.weights_layers import LIBRARIES, Group, Slot, each_kind, flattened, numbers_in, slots
from gpunn.interop.weights_maps import dense_names, in_sequence, traced
from gpunn.nn import Module

Source = Literal["torch", "keras", "flax", "mlx", "chainer"]


class Loaded(NamedTuple):
    """What did not go from a file into a model: names that the file lacks, that it has beside, of another shape."""

    missing: list[str]
    unexpected: list[str]
    mismatched: list[str]


def load_state(
    model: Module,
    file: str | os.PathLike[str] | Mapping[str, Any],
    from_: Source = "torch",
    *,
    strict: bool = True,
    key: str | None = None,
    names: Mapping[str, str] | None = None,
    example: Any = None,
) -> Loaded:
    """Put the weights that another library saved into ``model``, whose layers must be those of the other model.

    ``file`` is a path, or a mapping of names (or of dicts of them) to arrays. The library that made the weights decides
    how they are turned:

    - ``"torch"``: PyTorch, torchvision: nothing. ``.pt`` and ``.pth`` of ``torch.save(model.state_dict(), path)``, read
      without running the pickle inside, or safetensors.
    - ``"keras"``: kernels (in, out) and HWIO (a transposed convolution's HWOI), depthwise ones; gates i, f, c, o and
      z, r, h; gamma, beta. ``.weights.h5``, ``.keras``, ``.h5`` (needs h5py).
    - ``"flax"``: linen; kernels as Keras's, a transposed convolution's HWIO and mirrored; a dense layer for each gate.
      The msgpack of ``flax.serialization.to_bytes`` (needs msgpack).
    - ``"mlx"``: kernels OHWI; ``Wx``, ``Wh``, ``bhn``. safetensors or ``.npz``.
    - ``"chainer"``: the rows of an LSTM a, i, f, o unit by unit; NStepLSTM and kin. ``.npz`` of ``save_npz``.

    A layer of theirs goes to the one of the same name (``/`` as ``.``) or that ``names`` gives it, a dict of their
    names to gpunn's (``{"module": ""}`` drops a first part, which alone may be given of PyTorch's names, too). Of
    PyTorch's, that is all, but that torchvision's AlexNet is known; of the other libraries', the other layers of a kind
    go to the model's of that kind in order, if there are as many and their names tell the order (``Conv_0``,
    ``Conv_1``; a mapping of Keras's is in order). What the model holds by several names needs one of them.
    ``key`` names the part of the file that holds the weights: an entry of a dict (``"state_dict"``), or the first part
    of names.

    Where channels are last, a dense layer behind flattened maps has its inputs in another order. It is found in a
    Sequential; for other models with convolutions pass ``example``, an input to run on. Floats become the model's
    floats. What a file does not hold is the model's affair: eps (1e-3 in Keras), momentum, and of local response
    normalisation alpha (``alpha_mode="sum"`` in TensorFlow and Chainer, which do not divide it by the size), bias (here
    k) and beta.

    All names that are missing, unknown or of another shape are listed in one error, and the model is as it was. With
    ``strict=False`` what fits is loaded, and the lists are returned.

    >>> from gpunn import nn
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> theirs = {"dense/kernel": np.ones((2, 3)), "dense/bias": np.zeros(3), "dense_1/kernel": np.ones((3, 1))}
    >>> load_state(model, theirs, "keras", strict=False)
    Loaded(missing=['2.bias'], unexpected=[], mismatched=[])
    >>> model[0].weight.shape, float(model[2].weight.data.sum())
    ((3, 2), 3.0)

    Raises FileError, which names the path, for a file that cannot be read, is damaged, holds code, or is of another
    network; ArgumentError in the place of it for a mapping, and for layers whose order is not known; PackageError
    without the package that a format needs.
    """
    known = from_ == "torch" or from_ in LIBRARIES
    check(known, ArgumentError, "load_state", f"from_ must be torch, {', '.join(LIBRARIES)}", from_=from_)
    load = _Load(model, file if isinstance(file, str | os.PathLike) else None, from_, dict(names or {}))
    arrays = load.read(file, key)
    found = load.by_name(arrays) if from_ == "torch" else load.by_layer(arrays, example)
    return load.put(found, strict)


class _Load:
    """One call of :func:`load_state`."""

    def __init__(self, model: Module, path: str | os.PathLike[str] | None, library: str, names: dict[str, str]) -> None:
        self.model, self.path, self.library = model, path, library
        self.names = {_dotted(theirs): ours for theirs, ours in names.items()}
        self.own = model.state_dict()
        self.known_order = False
        self.refused: list[str] = []

    def fail(self, cause: str) -> NoReturn:
        if self.path is not None:
            raise FileError(f"{os.fspath(self.path)}: {cause}")
        raise ArgumentError(f"load_state: {cause}")

    def read(self, file: Any, key: str | None) -> dict[str, Any]:
        if self.path is not None:
            arrays = read_arrays(self.path, key)
        else:
            is_mapping = isinstance(file, Mapping)
            check(is_mapping, ArgumentError, "load_state", "file must be a path or a mapping", type=type(file).__name__)
            try:
                arrays = below(dict(flat(_host(file), "a mapping must hold arrays")), key)
            except ValueError as error:
                self.fail(str(error))
        keras_3 = any("vars/" in name for name in arrays)
        self.known_order = self.library == "keras" and not keras_3
        return arrays

    # ---- PyTorch: by name --------------------------------------------------------------------------------------

    def by_name(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """The arrays by gpunn's names: theirs, but for a first part that the call or the model calls otherwise."""
        given = {**getattr(self.model, "_torch_names", {}), **self.names}
        found = {}
        for name, array in arrays.items():
            parts = name.split(".")
            heads = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
            head = next((head for head in heads if head in given), None)
            found[name if head is None else (given[head] + name[len(head) :]).removeprefix(".")] = array
        return found

    # ---- the others: layer by layer ----------------------------------------------------------------------------

    def by_layer(self, arrays: Mapping[str, Any], example: Any) -> dict[str, Any]:
        library = LIBRARIES[self.library]
        found: dict[str, Any] = {}
        rest = {}
        for name, array in arrays.items():
            target = self.names.get(_dotted(name))
            if target in self.own:
                found[target] = array
            else:
                rest[name] = array
        places = [slot for slot in slots(self.model) if not set(slot.names.values()) & found.keys()]
        groups = library.groups(rest)
        pairs = self._matched(places, groups)
        for slot, group in pairs:
            found |= self._converted(slot, group)
        if library.channels_last:
            self._unflatten(found, places, example)
        taken = {id(group) for _, group in pairs}
        for group in groups:
            if id(group) not in taken:
                found |= {group.names[leaf]: array for leaf, array in group.leaves.items()}
        return found

    def _matched(self, places: list[Slot], groups: list[Group]) -> list[tuple[Slot, Group]]:
        """Each place with its group: by given names, by equal names, then of each kind in order."""
        pairs: list[tuple[Slot, Group]] = []
        common = _common([_dotted(group.path) for group in groups])
        for group in groups:
            path = _dotted(group.path)
            wanted = self.names.get(path)
            for name in (wanted,) if wanted is not None else (path, path[common:]):
                slot = next((slot for slot in places if name in (slot.path, _dotted(slot.path))), None)
                if slot is not None and all(slot is not other for other, _ in pairs):
                    pairs.append((slot, group))
                    break
            else:
                if wanted is not None:
                    self.fail(f"names says {wanted!r} for {group.path!r}, which is no layer with weights")
        left = [slot for slot in places if all(slot is not other for other, _ in pairs)]
        spare = [group for group in groups if all(group is not other for _, other in pairs)]
        for same, theirs in each_kind(left, spare, self.library):
            if len(same) == len(theirs):
                pairs += zip(same, self._in_order(theirs), strict=True)
        return pairs

    def _in_order(self, groups: list[Group]) -> list[Group]:
        numbered = [numbers_in(group.path) for group in groups]
        if len({stem for stem, _ in numbered}) == 1:
            return [group for _, group in sorted(zip(numbered, groups, strict=True), key=lambda pair: pair[0])]
        if not self.known_order:
            listed = ", ".join(repr(group.path) for group in groups)
            self.fail(f"in which order {listed} follow one another is not known: pass names={{theirs: gpunn's, ...}}")
        return groups

    def _converted(self, slot: Slot, group: Group) -> dict[str, Any]:
        """The arrays of a layer by gpunn's names; those that the layer has no place for by theirs."""
        try:
            made = LIBRARIES[self.library].convert(slot, group.leaves)
        except (ValueError, KeyError, IndexError) as error:
            self.refused.append(f"{group.path!r} does not fit {slot.path!r}: {error}")
            return {name: self.own[name] for name in slot.names.values()}
        return {slot.names.get(role) or group.names.get(role) or f"{group.path}/{role}": array
                for role, array in made.items()}  # fmt: skip

    # ---- maps that are flattened -------------------------------------------------------------------------------

    def _unflatten(self, found: dict[str, Any], places: list[Slot], example: Any) -> None:
        """Put the inputs of layers that read flattened maps in gpunn's order, channels first."""
        if not any(slot.kind.startswith("conv") for slot in places):
            return
        channels = in_sequence(self.model) if example is None else traced(self.model, example)
        for slot in places:
            for name in dense_names(slot):
                if slot.kind == "linear" and name in found and name not in channels:
                    how = "pass example=, an input of the model" if example is None else "the example does not reach it"
                    self.fail(f"whether the layer of {name!r} reads flattened maps, and of what shape, is open: {how}")
                if channels.get(name) and name in found and found[name].shape == self.own[name].shape:
                    found[name] = flattened(found[name], channels[name])

    # ---- into the model ----------------------------------------------------------------------------------------

    def _untied(self, found: dict[str, Any]) -> dict[str, Any]:
        """The arrays by the first name of what the model holds by several: a file has all of them, or any one."""
        model = self.model
        held = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
        first = {id(one): name for name, one in reversed(held)}
        others = {name: first[id(one)] for name, one in held if first[id(one)] != name and name in found}
        found = dict(found)
        for name, own in others.items():
            array = found.pop(name)
            if not _equal(found.setdefault(own, array), array):
                self.refused.append(f"{name!r} and {own!r} are one here, and differ")
        return found

    def put(self, found: dict[str, Any], strict: bool) -> Loaded:
        """Copy what fits; with ``strict`` all must."""
        found = self._untied(found)
        for name, own in self.own.items():
            if name.endswith("num_batches_tracked") and name not in found:
                found[name] = own  # other libraries, and old files of PyTorch's, do not count them
        fitting = {name: _as(array, self.own[name]) for name, array in found.items()
                   if name in self.own and array.shape == self.own[name].shape}  # fmt: skip
        found = {**found, **fitting}
        differing = [*self.refused, *differences(self.own, found)]
        if strict and differing:
            self.fail(f"made for another network: {'; '.join(differing)}")
        same = {name: array for name, array in fitting.items() if array.dtype == self.own[name].dtype}
        self.model.load_state_dict({**self.own, **same})
        return Loaded(
            sorted(self.own.keys() - found.keys()),
            sorted(found.keys() - self.own.keys()),
            sorted((self.own.keys() & found.keys()) - same.keys()) + self.refused,
        )


def _equal(a: Any, b: Any) -> bool:
    return a is b or (a.dtype == b.dtype and np.array_equal(a, b, equal_nan=is_floating(a.dtype)))


def _dotted(name: str) -> str:
    parts = re.split(r"[/.]", name)
    return ".".join(part for part in parts if part != "layers")


def _common(paths: list[str]) -> int:
    """The length of the first parts that all names share, with the dot behind them; each keeps its last part."""
    split = [path.split(".")[:-1] for path in paths]
    shared = 0
    for parts in zip(*split, strict=False) if len(paths) > 1 else ():
        if len(set(parts)) > 1:
            break
        shared += len(parts[0]) + 1
    return shared


def _host(tree: Any) -> Any:
    """Dicts of arrays with every array in NumPy."""
    if isinstance(tree, Mapping):
        return {str(name): _host(branch) for name, branch in tree.items()}
    array = raw(tree)
    torch = sys.modules.get("torch")  # whoever has tensors of it has imported it
    if torch is not None and isinstance(array, torch.Tensor):
        array = from_torch(array.detach()).data
    if is_array(array):
        return to_cpu(array)
    return np.asarray(array) if hasattr(array, "__array__") else array


def _as(array: Any, own: Any) -> Any:
    """A float array in the float type of the model's, an integer one in its integers if they hold the values."""
    floats = [dtype.kind == "f" or dtype.name == "bfloat16" for dtype in (array.dtype, own.dtype)]
    if all(floats):
        with np.errstate(over="ignore", invalid="ignore"):
            return array.astype(own.dtype, copy=False)
    if array.dtype.kind in "iu" and own.dtype.kind in "iu" and (array == array.astype(own.dtype)).all():
        return array.astype(own.dtype)
    return array

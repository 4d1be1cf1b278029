"""ONNX files as modules: the operators by the cases of the package onnx, whole models, and files that are not right."""

from __future__ import annotations

import functools
import itertools
import os
import pickle
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx_case import Of, drawn
from test_onnx import IMAGES

from gpunn import cuda, models, nn, optim, tensor
from gpunn import functional as F
from gpunn.backend import is_floating, random_generator
from gpunn.errors import ArgumentError, DtypeError, FileError, GraphError, ShapeError
from gpunn.functional.record import raw
from gpunn.interop import onnx as interop
from gpunn.interop.onnx import export, load
from gpunn.interop.onnx_import_file import DTYPES
from gpunn.interop.onnx_import_operators import OPERATORS
from gpunn.interop.trace import leaves
from gpunn.testing import check_gradients

F32 = TensorProto.FLOAT
_node = helper.make_node


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


# ---- the cases of the package onnx ----------------------------------------------------------------------------------

FAIL = {
    **dict.fromkeys(
        ("test_training_dropout", "test_training_dropout_default", "test_training_dropout_default_mask",
         "test_training_dropout_mask"),
        "random numbers of another generator",
    ),
    "test_col2im_5d": "of images of three axes",
    "test_if": "a node with graphs inside, other than PyTorch's for squeeze",
    **dict.fromkeys(("test_not_2d", "test_not_3d", "test_not_4d"), "of version 1 of the operators, older than 7"),
}  # fmt: skip
"""The cases that do not pass, with the reasons."""

EMULATED = {"AveragePool", "BatchNormalization", "Conv", "GRU", "GlobalAveragePool", "GlobalMaxPool", "LRN", "LSTM",
            "MaxPool", "RNN"}  # fmt: skip


@functools.cache
def cases() -> list[Any]:
    """Those whose operators and dtypes are known, and what ONNX writes for them in simpler operators."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    known = {case.name for case in found if _operators(case) <= OPERATORS.keys()}
    return [
        case for case in found
        if case.name in known and case.name.split("_expanded")[0] in known and _dtypes(case) <= DTYPES
    ]  # fmt: skip


def _operators(case: Any) -> set[str]:
    return {node.op_type for node in case.model.graph.node}


def _dtypes(case: Any) -> set[str]:
    ends = [end.type.tensor_type.elem_type for end in (*case.model.graph.input, *case.model.graph.output)]
    return {str(helper.tensor_dtype_to_np_dtype(end)) if end else "none" for end in ends}


def _passes(case: Any, device: str = "CPU") -> bool:
    given, expected = ([_array(x) for x in arrays] for arrays in case.data_sets[0])
    try:
        with np.errstate(all="ignore"):
            results = interop.Backend.run_model(case.model, given, device)
    except (FileError, GraphError, ArgumentError, DtypeError, ShapeError):
        return False
    assert [(y.dtype, y.shape) for y in results] == [(y.dtype, y.shape) for y in expected], case.name
    pairs = zip(results, expected, strict=True)
    return all(np.allclose(*(_wide(y) for y in pair), case.rtol, case.atol, equal_nan=True) for pair in pairs)


def _array(x: Any) -> np.ndarray:
    return numpy_helper.to_array(x) if isinstance(x, TensorProto) else np.asarray(x)


def _wide(y: np.ndarray) -> np.ndarray:
    return y.astype(np.float64) if is_floating(y.dtype) else y


@pytest.mark.slow
def test_the_cases_of_onnx() -> None:
    found = cases()
    assert {case.name for case in found if not _passes(case)} == FAIL.keys()
    assert len(FAIL) < 0.02 * len(found)
    missing = OPERATORS.keys() - {op for case in found for op in _operators(case)}
    assert missing == {"GlobalLpPool"}  # onnx has no case of it


@pytest.mark.gpu
def test_the_cases_of_layers_on_a_gpu() -> None:
    found = [case for case in cases() if _operators(case) & EMULATED and case.name not in FAIL]
    assert [case.name for case in found if not _passes(case, "CUDA")] == []


@pytest.mark.slow
def test_the_cases_of_layers_on_the_emulator() -> None:
    found = [case for case in cases() if _operators(case) & EMULATED and case.name not in FAIL]
    with cuda.emulate():
        assert [case.name for case in found if not _passes(case)] == []


# ---- models of gpunn ------------------------------------------------------------------------------------------------


def _sequences(cell: str) -> Iterator[tuple[nn.Module, list[np.ndarray]]]:
    yield models.CharacterModel("abcde", 8, 7, 2, cell), [drawn((3, 6), 0, np.int64)]
    yield models.SequenceClassifier(4, 7, 3, 2, cell), [drawn((3, 5, 4), 0)]
    yield models.SequenceDecoder(4, 7, 5, cell=cell), [drawn((3, 4), 0), drawn((3, 3), 1, np.int64)]


def _models() -> Iterator[tuple[nn.Module, list[np.ndarray]]]:
    for make, shape in IMAGES.values():
        yield make(generator=random_generator(0)), [drawn((2, *shape), 0)]
    yield models.mlp((4, 5, 3), nn.SELU, dropout=0.5).append(nn.Sigmoid()), [drawn((3, 4), 0)]
    for cell in ("rnn", "lstm", "gru"):
        yield from _sequences(cell)


def _outputs(model: nn.Module, given: Sequence[Any]) -> list[np.ndarray]:
    with model.evaluating():
        return [raw(y) for y in leaves(model(*given))]


def _assert_close(results: Sequence[np.ndarray], expected: Sequence[np.ndarray], tolerance: float = 1e-5) -> None:
    assert len(results) == len(expected)
    for y, other in zip(results, expected, strict=True):
        np.testing.assert_allclose(y, other, rtol=tolerance, atol=tolerance * max(1, float(np.abs(other).max())))


def _runtime(path: Path, given: Sequence[np.ndarray]) -> list[np.ndarray]:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {end.name: x for end, x in zip(session.get_inputs(), given, strict=True)})


def _check_that_it_trains(model: nn.Module, given: Sequence[np.ndarray]) -> None:
    optimizer = optim.SGD(model.parameters(), lr=1e-3)

    def loss() -> Any:
        return sum((y * y).mean() for y in leaves(model(*given)))

    before = loss()
    before.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    optimizer.step()
    assert float(loss()) != float(before)


def check_import(path: Path, model: nn.Module, given: Sequence[np.ndarray], trains: bool = True) -> None:
    """Export, check and run by onnxruntime; import, run, export again and run that; train."""
    export(model, given, path)
    onnx.checker.check_model(str(path), full_check=True)
    back = load(path)
    expected = _outputs(model, given)
    _assert_close(_runtime(path, given), expected)
    _assert_close(_outputs(back, given), expected)
    export(back, given, path.with_name("again.onnx"))
    _assert_close(_runtime(path.with_name("again.onnx"), given), expected)
    if trains:
        _check_that_it_trains(back.train(), given)


@pytest.mark.slow
def test_models_come_back(path: Path) -> None:
    for model, given in _models():
        check_import(path, model, given)


def test_a_network_comes_back_with_the_names_of_its_weights(path: Path) -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 3)
    )
    x = drawn((2, 1, 6, 6), 0)
    check_import(path, net, [x])
    back = load(path)
    assert not back.training
    assert (back.input_names, back.output_names) == (["input"], ["output"])
    state, own = back.state_dict(), net.state_dict()
    assert state.keys() == own.keys() - {"1.num_batches_tracked"}
    for name, array in state.items():
        np.testing.assert_array_equal(array, own[name])
    assert [name for name, _ in back.named_buffers()] == ["1.running_mean", "1.running_var"]
    _assert_close(_outputs(pickle.loads(pickle.dumps(back)), [x]), _outputs(net, [x]))
    with pytest.raises(ShapeError, match=r"model.onnx: input 'input': its shape must be \('N', 1, 6, 6\)"):
        back(x[:, :, 1:])
    with pytest.raises(DtypeError, match=r"model.onnx: input 'input': it must be float32, got dtype='float64'"):
        back(x.astype(np.float64))
    with pytest.raises(ArgumentError, match="as many inputs as its file names, got inputs=2"):
        back(x, x)


def test_every_operator_that_is_exported_comes_back(path: Path) -> None:
    check_import(path, nn.Sequential(nn.Conv2d(1, 4, 1), nn.Flatten(2), nn.Fold((4, 5), (2, 2), padding=(1, 0))),
                 [drawn((2, 1, 4, 5), 0)])  # fmt: skip
    x, arrays = drawn((2, 6, 12), 1), {"image": np.array([3, 4]), "block": np.array([2, 3])}
    write(path, [_node("Col2Im", ["x", *arrays], ["y"], pads=[1, 0, 0, 2])], {"x": ("N", 6, 12)}, ["y"], arrays)
    _assert_close(_outputs(load(path), [x]), ReferenceEvaluator(str(path)).run(None, {"x": x}))
    sample = Of(lambda x, grid: F.grid_sample(x, grid, "bicubic", "reflection", align_corners=True))
    check_import(path, sample, [drawn((2, 3, 4, 5), 2), drawn((2, 3, 2, 2), 3)], trains=False)


def test_its_mode_decides_on_statistics_and_dropout(path: Path) -> None:
    """As for layers: batch normalisation as written in training, and dropout."""
    x = drawn((8, 3), 0)
    weights = {"scale": np.ones(3), "bias": np.zeros(3), "mean": np.zeros(3), "var": np.ones(3)}
    write(
        path,
        [
            helper.make_node("BatchNormalization", ["x", *weights], ["b", "m", "v"], training_mode=1),
            helper.make_node("Dropout", ["b", "ratio"], ["y"]),
        ],
        {"x": ("N", 3)}, ["y"], {**weights, "ratio": np.array(0.25)},
    )  # fmt: skip
    model, layer = load(path), nn.BatchNorm1d(3)
    np.testing.assert_allclose(_outputs(model, [x])[0], x / np.sqrt(np.float32(1 + 1e-5)), rtol=1e-5)
    y, z = model.train()(x).data, layer(tensor(x)).data
    np.testing.assert_allclose(y[y != 0], (z / 0.75)[y != 0], rtol=1e-5)
    assert 0 < (y == 0).sum() < y.size
    for own, other in (("mean", layer.running_mean), ("var", layer.running_var)):
        np.testing.assert_allclose(model.state_dict()[own], other.data, rtol=1e-5)


# ---- models of PyTorch ----------------------------------------------------------------------------------------------


def _of_pytorch(torch: Any) -> Iterator[tuple[Any, Any]]:
    t = torch.nn

    class Classifier(t.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = t.Embedding(20, 8)
            self.lstm = t.LSTM(8, 12, 2, batch_first=True, bidirectional=True)
            self.linear = t.Linear(24, 3)

        def forward(self, x: Any) -> Any:
            return self.linear(self.lstm(self.embedding(x))[0][:, -1])

    class Block(t.Module):
        def __init__(self, channels: int, out: int, stride: int) -> None:
            super().__init__()
            self.conv1, self.bn1 = t.Conv2d(channels, out, 3, stride, 1, bias=False), t.BatchNorm2d(out)
            self.conv2, self.bn2 = t.Conv2d(out, out, 3, 1, 1, bias=False), t.BatchNorm2d(out)
            short = t.Sequential(t.Conv2d(channels, out, 1, stride, bias=False), t.BatchNorm2d(out))
            self.downsample = short if stride > 1 else t.Identity()

        def forward(self, x: Any) -> Any:
            y = torch.relu(self.bn1(self.conv1(x)))
            return torch.relu(self.bn2(self.conv2(y)) + self.downsample(x))

    class AlexNet(t.Module):
        """torchvision's layout, with fewer channels."""

        def __init__(self) -> None:
            super().__init__()
            self.features = t.Sequential(
                t.Conv2d(3, 8, 11, 4, 2), t.ReLU(inplace=True), t.MaxPool2d(3, 2), t.Conv2d(8, 12, 5, padding=2),
                t.ReLU(inplace=True), t.MaxPool2d(3, 2), t.Conv2d(12, 16, 3, padding=1), t.ReLU(inplace=True),
                t.Conv2d(16, 8, 3, padding=1), t.ReLU(inplace=True), t.Conv2d(8, 8, 3, padding=1), t.ReLU(inplace=True),
                t.MaxPool2d(3, 2),
            )  # fmt: skip
            self.avgpool = t.AdaptiveAvgPool2d((6, 6))
            self.classifier = t.Sequential(
                t.Dropout(), t.Linear(8 * 36, 32), t.ReLU(inplace=True), t.Dropout(), t.Linear(32, 32),
                t.ReLU(inplace=True), t.Linear(32, 10),
            )  # fmt: skip

        def forward(self, x: Any) -> Any:
            return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))

    yield t.Sequential(
        t.Conv2d(1, 6, 5, padding=2), t.Tanh(), t.AvgPool2d(2), t.Conv2d(6, 16, 5), t.Tanh(), t.AvgPool2d(2),
        t.Flatten(), t.Linear(400, 120), t.Tanh(), t.Linear(120, 84), t.Tanh(), t.Linear(84, 10),
    ), torch.randn(2, 1, 28, 28)  # fmt: skip
    yield AlexNet(), torch.randn(2, 3, 224, 224)
    yield t.Sequential(
        t.Conv2d(3, 8, 7, 2, 3, bias=False), t.BatchNorm2d(8), t.ReLU(), t.MaxPool2d(3, 2, 1), Block(8, 8, 1),
        Block(8, 16, 2), t.AdaptiveAvgPool2d(1), t.Flatten(), t.Linear(16, 5),
    ), torch.randn(2, 3, 64, 64)  # fmt: skip
    yield Classifier(), torch.randint(0, 20, (2, 7))


@pytest.mark.peer("load")
def test_models_that_pytorch_wrote(path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    for model, x in _of_pytorch(torch):
        for opset, mode in ((17, "TRAINING"), (20, "EVAL")):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.train(mode == "TRAINING")
                torch.onnx.export(
                    model, x, str(path), dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "N"}},
                    opset_version=opset, training=getattr(torch.onnx.TrainingMode, mode),
                )  # fmt: skip
            model.eval()
            back, more = load(path), torch.cat([x, x[:1]])
            expected = [model(more).detach().numpy()]
            _assert_close(_outputs(back, [more.numpy()]), expected, 1e-4)
            export(back, x.numpy(), path.with_name("again.onnx"))
            _assert_close(_runtime(path.with_name("again.onnx"), [more.numpy()]), expected, 1e-4)
            _check_that_it_trains(back.train(), [more.numpy()])


# ---- graphs written here --------------------------------------------------------------------------------------------


def graph(
    nodes: Sequence[Any], inputs: dict[str, Any], outputs: Sequence[str], arrays: dict[str, Any], opset: int = 18,
    **settings: Any,
) -> Any:  # fmt: skip
    """A model; arrays of float64 are written in float32."""
    written = {name: np.asarray(a) for name, a in arrays.items()}
    initialisers = [
        numpy_helper.from_array(a.astype(np.float32) if a.dtype == np.float64 else a, name)
        for name, a in written.items()
    ]
    ends = [
        helper.make_tensor_value_info(name, *(shape if shape and isinstance(shape[0], int)
                                              and isinstance(shape[-1], tuple | list) else (F32, shape)))
        for name, shape in inputs.items()
    ]  # fmt: skip
    made = helper.make_graph(
        nodes, "graph", ends, [helper.make_tensor_value_info(name, F32, None) for name in outputs], initialisers
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=10, **settings)


def write(path: Path, *content: Any, **settings: Any) -> None:
    path.write_bytes(graph(*content, **settings).SerializeToString())


def test_what_follows_from_the_input_is_not_exported_as_a_constant(path: Path) -> None:
    """Places of maxima stay where they are if numbers grow alike, as in the runs of an export."""
    for nodes, arrays, words in (
        ([_node("Hardmax", ["x"], ["y"])], {}, ""),
        ([_node("MaxPool", ["x"], ["z", "i"], kernel_shape=[2]), _node("Cast", ["i"], ["y"], to=F32)], {}, "computed"),
        ([_node("NonZero", ["x"], ["i"]), _node("Cast", ["i"], ["y"], to=F32)], {}, "untranslated in OnnxModel"),
        ([_node("ArgMax", ["x"], ["i"], axis=2), _node("OneHot", ["i", "n", "levels"], ["y"])],
         {"n": np.array(4), "levels": np.array([0.0, 2.0])}, ""),
        ([_node("ArgMax", ["x"], ["i"], axis=2), _node("GatherND", ["x", "i"], ["y"], batch_dims=2)], {}, "computed"),
        ([_node("ReduceMax", ["x"], ["m"], keepdims=0), _node("Cast", ["m"], ["i"], to=TensorProto.INT64),
          _node("Reshape", ["i", "one"], ["k"]), _node("TopK", ["x", "k"], ["y", "z"])],
         {"one": np.array([1])}, "values of its input, as it does in OnnxModel"),
    ):  # fmt: skip
        write(path, nodes, {"x": ("N", 3, 4)}, ["y"], arrays)
        model, x, again = load(path), np.abs(drawn((2, 3, 4), 6)) + 1, path.with_name("again.onnx")
        if words:
            with pytest.raises(GraphError, match=words):
                export(model, x, again)
            continue
        export(model, x, again)
        other = drawn((3, 3, 4), 7)
        _assert_close(_runtime(again, [other]), _outputs(model, [other]))


def test_a_large_constant_is_taken_often(path: Path) -> None:
    links = ["x", *(f"t{number}" for number in range(200)), "y"]
    constant = _node("Constant", [], ["c"], value=numpy_helper.from_array(np.zeros(1 << 21, np.float32)))
    nodes = [_node("Add", [link, "c"], [then]) for link, then in itertools.pairwise(links)]
    write(path, [constant, *nodes], {"x": (1,)}, ["y"], {})
    begin = time.process_time()
    load(path)
    assert time.process_time() - begin < 1


def _squeezing(last: str = "x", axis: int = 1) -> list[Any]:
    """As PyTorch writes ``x.squeeze(1)`` for a size that it does not know."""
    axes = numpy_helper.from_array(np.array([axis]))
    ends = [helper.make_tensor_value_info(name, F32, None) for name in ("s", "i")]
    then = helper.make_graph(
        [_node("Constant", [], ["a"], value=axes), _node("Squeeze", ["x", "a"], ["s"])], "then", [], ends[:1]
    )
    other = helper.make_graph([_node("Identity", [last], ["i"])], "else", [], ends[1:])
    return [
        _node("Shape", ["x"], ["shape"]),
        _node("Gather", ["shape", "one"], ["n"]),
        _node("Equal", ["n", "one"], ["c"]),
        _node("If", ["c"], ["q"], name="choice", then_branch=then, else_branch=other),
        _node("Mul", ["q", "w"], ["y"]),
    ]


def test_squeeze_of_a_size_that_is_open(path: Path) -> None:
    arrays = {"one": np.array(1), "w": np.full(3, 2.0)}
    write(path, _squeezing(), {"x": ("N", "C", 3)}, ["y"], arrays)
    for x in (drawn((2, 1, 3), 0), drawn((2, 4, 3), 0)):
        model = load(path)
        _assert_close(_outputs(model, [x]), _runtime(path, [x]))
        _check_that_it_trains(model.train(), [x])
        export(model.eval(), x, path.with_name("again.onnx"))
        _assert_close(_runtime(path.with_name("again.onnx"), [x]), _outputs(model, [x]))
    write(path, _squeezing("shape"), {"x": ("N", "C", 3)}, ["y"], arrays)
    with pytest.raises(FileError, match=r"node 'choice' \(If\): nodes with graphs inside"):
        load(path)


@pytest.mark.peer("load")
def test_local_response_norm_of_pytorch(path: Path) -> None:
    torch = pytest.importorskip("torch")
    model, x = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 1), torch.nn.LocalResponseNorm(3)), torch.randn(2, 3, 4, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, x, str(path), dynamo=False, dynamic_axes={"x": {0: "N"}}, input_names=["x"])
    _assert_close(_outputs(load(path), [x.numpy()]), [model(x).detach().numpy()])
    _check_that_it_trains(load(path).train(), [x.numpy()])


def test_images_of_any_size(path: Path) -> None:
    """Sizes that the graph computes from its input's shape, as programs write them for models of any image."""
    node = helper.make_node
    write(
        path,
        [
            node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
            node("Resize", ["c", "", "scales"], ["r"], mode="linear"),
            node("Shape", ["x"], ["shape"]),
            node("Gather", ["shape", "two"], ["h"]),
            node("Gather", ["shape", "three"], ["w_"]),
            node("Mul", ["h", "two"], ["h2"]),
            node("Mul", ["w_", "two"], ["w2"]),
            node("Mul", ["h2", "w2"], ["hw"]),
            node("Gather", ["shape", "zero"], ["n"]),
            node("Unsqueeze", ["n", "axes"], ["n1"]),
            node("Unsqueeze", ["hw", "axes"], ["hw1"]),
            node("Concat", ["n1", "minus", "hw1"], ["sizes"], axis=0),
            node("Reshape", ["r", "sizes"], ["flat"]),
            node("ReduceMean", ["flat", "last"], ["y"], keepdims=0),
        ],
        {"x": ("N", 1, "H", "W")}, ["y"],
        {"w": drawn((2, 1, 3, 3), 0), "scales": np.array([1, 1, 2, 2], np.float32), "two": np.array(2),
         "three": np.array(3), "zero": np.array(0), "axes": np.array([0]), "minus": np.array([-1]),
         "last": np.array([2])},
    )  # fmt: skip
    model = load(path)
    assert [name for name, _ in model.named_parameters()] == ["w"]
    for n, h, w in ((1, 4, 5), (3, 7, 2)):
        x = drawn((n, 1, h, w), h)
        _assert_close(_outputs(model, [x]), _runtime(path, [x]))
    _check_that_it_trains(model, [x])
    export(model, drawn((2, 1, 4, 4), 0), path.with_name("again.onnx"))
    _assert_close(_runtime(path.with_name("again.onnx"), [drawn((5, 1, 4, 4), 1)]),
                  _outputs(model, [drawn((5, 1, 4, 4), 1)]))  # fmt: skip


def _one(op: str, arrays: dict[str, Any], opset: int, outputs: int = 1, **attributes: Any) -> Any:
    made = ["y", "z", "u"][:outputs]
    return graph([helper.make_node(op, ["x", *arrays], made, **attributes)], {"x": (2, 3, 4)}, made, arrays, opset)


X = drawn((2, 3, 4), 5)


def _softmax(axes: Any) -> np.ndarray:
    return np.exp(X) / np.exp(X).sum(axes, keepdims=True)


PADS = [0, 0, 1, 0, 0, 2]
TWICE: dict[str, tuple[str, np.ndarray, list[tuple[int, dict[str, Any], dict[str, Any]]]]] = {
    "Unsqueeze": ("Unsqueeze", X[:, None], [(11, {}, {"axes": [1]}), (13, {"axes": np.array([1])}, {})]),
    "Clip": (
        "Clip", X.clip(-0.5, 0.5),
        [(7, {}, {"min": -0.5, "max": 0.5}), (13, {"min": np.array(-0.5), "max": np.array(0.5)}, {})],
    ),
    "Pad": (
        "Pad", np.pad(X, ((0, 0), (0, 0), (1, 2)), constant_values=3),
        [(7, {}, {"pads": PADS, "value": 3.0}), (13, {"pads": np.array(PADS), "value": np.array(3.0)}, {})],
    ),
    "Slice": (
        "Slice", X[:, 1:],
        [(7, {}, {"starts": [1], "ends": [9], "axes": [1]}),
         (13, {"starts": np.array([1]), "ends": np.array([9]), "axes": np.array([1])}, {})],
    ),
    "TopK": ("TopK", -np.sort(-X)[..., :2], [(7, {}, {"k": 2}), (11, {"k": np.array([2])}, {})]),
    "Split": (
        "Split", X[..., :1],
        [(7, {}, {"split": [1, 3], "axis": 2}), (13, {"split": np.array([1, 3])}, {"axis": 2})],
    ),
    "ReduceSum": (
        "ReduceSum", X.sum(1),
        [(7, {}, {"axes": [1], "keepdims": 0}), (13, {"axes": np.array([1])}, {"keepdims": 0})],
    ),
    "ReduceMax": (
        "ReduceMax", X.max(1),
        [(13, {}, {"axes": [1], "keepdims": 0}), (20, {"axes": np.array([1])}, {"keepdims": 0})],
    ),
    "Dropout": ("Dropout", X, [(7, {}, {"ratio": 0.3}), (13, {"ratio": np.array(0.3)}, {})]),
    "Upsample": (
        "Upsample", X.repeat(2, 2),
        [(7, {}, {"scales": [1.0, 1.0, 2.0]}), (9, {"scales": np.array([1.0, 1.0, 2.0])}, {})],
    ),
    "Resize": ("Resize", X.repeat(2, 2), [(10, {"scales": np.array([1.0, 1.0, 2.0])}, {})]),
    "Softmax of all axes behind one": ("Softmax", _softmax((1, 2)), [(11, {}, {})]),
    "Softmax": ("Softmax", _softmax(2), [(13, {}, {})]),
}  # fmt: skip


@pytest.mark.parametrize("name", TWICE)
def test_what_was_an_attribute_and_is_an_input(name: str) -> None:
    op, expected, ways = TWICE[name]
    for opset, inputs, attributes in ways:
        model = _one(op, inputs, opset, 2 if op in ("TopK", "Split") else 1, **attributes)
        if op == "TopK":
            model.graph.output[1].type.tensor_type.elem_type = TensorProto.INT64
        np.testing.assert_allclose(interop.Backend.run_model(model, [X])[0], expected, rtol=1e-6)


GRADIENTS: dict[str, tuple[str, dict[str, Any], list[tuple[int, ...]], dict[str, Any]]] = {
    "Mod": ("Mod", {"fmod": 1}, [(2, 3), (3,)], {}),
    "ScatterElements": ("ScatterElements", {"axis": 1}, [(2, 3), (2, 1)], {1: np.array([[0], [2]])}),
    "ScatterND, added": ("ScatterND", {"reduction": "add"}, [(3, 2), (2, 2)], {1: np.array([[1], [1]])}),
    "GatherElements": ("GatherElements", {"axis": 1}, [(2, 3)], {1: np.array([[0, 0], [2, -1]])}),
    "GatherND": ("GatherND", {}, [(2, 3)], {1: np.array([[0, 0], [1, 2]])}),
    "TopK": ("TopK", {}, [(2, 3)], {1: np.array([2])}),
    "Resize": ("Resize", {"mode": "cubic"}, [(1, 1, 4)], {1: None, 2: np.array([1, 1, 1.7], np.float32)}),
    "MaxUnpool": ("MaxUnpool", {"kernel_shape": [2], "strides": [2]}, [(1, 1, 2)], {1: np.array([[[1, 2]]])}),
    "LpPool": ("LpPool", {"kernel_shape": [2], "p": 3}, [(1, 2, 4)], {}),
    "LRN": ("LRN", {"size": 2, "alpha": 0.5}, [(1, 4, 2)], {}),
    "AveragePool": ("AveragePool", {"kernel_shape": [2], "pads": [0, 1], "dilations": [2]}, [(1, 2, 4)], {}),
    "MaxPool": ("MaxPool", {"kernel_shape": [2], "pads": [0, 1]}, [(1, 2, 4)], {}),
    "LpNormalization": ("LpNormalization", {"p": 1}, [(2, 3)], {}),
    "CumSum": ("CumSum", {"exclusive": 1, "reverse": 1}, [(2, 3)], {1: np.array(1)}),
    "LSTM with peepholes": ("LSTM", {"hidden_size": 2}, [(2, 1, 2), (1, 8, 2), (1, 8, 2), (1, 6)],
                            {3: None, 4: None, 5: None, 6: None}),
}  # fmt: skip


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients(name: str) -> None:
    op, attributes, shapes, settings = GRADIENTS[name]
    arrays = [drawn(shape, place, np.float64) for place, shape in enumerate(shapes)]
    names = iter("abcdefg"[: len(arrays)])
    count = len(arrays) + len(settings)
    inputs = [("" if settings[p] is None else f"s{p}") if p in settings else next(names) for p in range(count)]
    node = helper.make_node(op, inputs, ["y", "places"] if op == "TopK" else ["y"], **attributes)
    ends = [
        helper.make_tensor_value_info(name, TensorProto.DOUBLE, a.shape)
        for name, a in zip("abcdefg", arrays, strict=False)
    ]
    fixed = [numpy_helper.from_array(a, f"s{p}") for p, a in settings.items() if a is not None]
    made = helper.make_graph([node], "g", ends, [helper.make_tensor_value_info("y", TensorProto.DOUBLE, None)], fixed)
    model = interop.Backend.prepare(
        helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    ).model
    check_gradients(model, arrays)


# ---- external data, functions, the backend --------------------------------------------------------------------------


def _outside(path: Path, location: str, length: int = 16, offset: int = 0) -> None:
    model = graph([helper.make_node("Add", ["x", "w"], ["y"])], {"x": (4,)}, ["y"], {"w": np.zeros(4)})
    (weight,) = model.graph.initializer
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        weight.external_data.add(key=key, value=str(value))
    path.write_bytes(model.SerializeToString())


def test_data_in_other_files_of_the_folder(path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (path.parent / "inside").mkdir()
    w = np.arange(6, dtype=np.float32)
    (path.parent / "inside" / "w.bin").write_bytes(w.tobytes())
    _outside(path, "inside/w.bin", offset=8)
    np.testing.assert_array_equal(load(path)(np.zeros(4, np.float32)).data, w[2:])
    _outside(path, "inside/w.bin", offset=4)
    model = onnx.load(path, load_external_data=False)
    model.graph.node.insert(0, _node("Constant", [], ["w"], value=model.graph.initializer[0]))
    del model.graph.initializer[:]
    path.write_bytes(model.SerializeToString())
    np.testing.assert_array_equal(load(path)(np.zeros(4, np.float32)).data, w[1:5])
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "w.bin"
    elsewhere.write_bytes(w.tobytes())
    (path.parent / "link.bin").symlink_to(elsewhere)
    where = r"model\.onnx: the initialiser 'w': "
    relative = os.path.relpath(elsewhere, path.parent)
    for location in (str(elsewhere), relative, "inside/../../" + elsewhere.parent.name, "C:\\w.bin", "..\\w.bin", ""):
        _outside(path, location)
        with pytest.raises(FileError, match=where + "its data must lie in a file in the model's folder"):
            load(path)
    for location, words in (
        ("link.bin", "a link that leads out"),
        ("none.bin", "No such file"),
        ("inside", "directory"),
    ):
        _outside(path, location)
        with pytest.raises(FileError, match=where + ".*" + words):
            load(path)
    for settings, words in (({"offset": 12}, "has no 16 bytes there"), ({"length": 12}, "its sizes need 16 bytes")):
        _outside(path, "inside/w.bin", **settings)
        with pytest.raises(FileError, match=where + ".*" + words):
            load(path)


def test_arrays_in_other_files_take_no_more_than_these_have(path: Path) -> None:
    (path.parent / "w.bin").write_bytes(bytes(16))
    (path.parent / "same.bin").symlink_to("w.bin")
    for count in (2, 3):
        _outside(path, "w.bin")
        model = onnx.load(path, load_external_data=False)
        for number in range(1, count):
            again = model.graph.initializer.add()
            again.CopyFrom(model.graph.initializer[0])
            again.name, again.external_data[0].value = f"w{number}", "same.bin"
        path.write_bytes(model.SerializeToString())
        if count == 2:
            assert load(path)(np.ones(4, np.float32)).data.tolist() == [1] * 4
    with pytest.raises(FileError, match=r"model\.onnx: the initialiser 'w2': .*not take more than twice its bytes"):
        load(path)


NAMES = ("_plan", "_torch_names", "__class__", "input_names", "forward", "forward_", "training", "_a.b", "_", "\u00e9")


def test_weights_may_have_any_name(path: Path) -> None:
    """Also those of the module's own attributes, and of weights renamed for them; thousands do not take long."""
    for names in ([*NAMES], [f"w{number}" for number in range(4000)]):
        links = ["x", *(f"{len(names)}:{number}" for number in range(1, len(names))), "y"]
        nodes = [_node("Add", [link, name], [then])
                 for (link, then), name in zip(itertools.pairwise(links), names, strict=True)]  # fmt: skip
        write(path, nodes, {"x": ("N", 2)}, ["y"], {name: np.full(2, 2.0) for name in names})
        begin = time.process_time()
        model = load(path)
        assert time.process_time() - begin < 3
        x = drawn((3, 2), 0)
        _assert_close(_outputs(model.train(), [x]), [x + 2 * len(names)])
        own = [name for name, _ in model.named_parameters()]
        assert len(own) == len(names)
        assert "_a.b" in own or names[0] == "w0"
    write(path, [_node("Add", ["x", name], ["y"]) for name in NAMES[:1]], {"x": ("N", 2)}, ["y"], {"_plan": np.ones(2)})
    check_import(path, load(path), [x])


def _with_functions(*bodies: tuple[str, str, int]) -> Any:
    """A model that calls the first of its functions, each of a name, what it calls, and how often."""
    ops = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    functions = []
    for name, inner, count in bodies:
        links = ["a", *(f"t{k}" for k in range(1, count)), "b"]
        nodes = [helper.make_node(inner, [links[k]], [links[k + 1]], domain="own" if inner[0] == "F" else "")
                 for k in range(count)]  # fmt: skip
        functions.append(helper.make_function("own", name, ["a"], ["b"], nodes, ops))
    made = graph([helper.make_node("F0", ["x"], ["y"], domain="own")], {"x": (2,)}, ["y"], {}, functions=functions)
    made.opset_import.append(ops[1])
    return made


def test_functions_of_the_model(path: Path) -> None:
    path.write_bytes(_with_functions(("F0", "F1", 2), ("F1", "Neg", 3)).SerializeToString())
    np.testing.assert_array_equal(load(path)(np.ones(2, np.float32)).data, [1, 1])
    path.write_bytes(_with_functions(("F0", "F1", 1), ("F1", "F0", 1)).SerializeToString())
    with pytest.raises(FileError, match="model.onnx: the function 'F0' may not call itself"):
        load(path)
    path.write_bytes(
        _with_functions(*((f"F{k}", f"F{k + 1}", 10) for k in range(9)), ("F9", "Neg", 10)).SerializeToString()
    )
    with pytest.raises(FileError, match=r"model.onnx: there must be at most .* nodes, got nodes=10000000000"):
        load(path)


def test_the_backend() -> None:
    backend = interop.Backend
    import onnx.backend.base

    assert issubclass(backend, onnx.backend.base.Backend)
    assert backend.supports_device("CPU")
    assert not backend.supports_device("TPU")
    model = graph([helper.make_node("Sub", ["x", "w"], ["y"])], {"x": (2,)}, ["y"], {"w": np.ones(2)})
    before = model.SerializeToString()
    x = np.array([3, 4], np.float32)
    assert backend.is_compatible(model)
    assert [y.tolist() for y in backend.prepare(model).run({"x": x})] == [[2, 3]]
    assert [y.tolist() for y in backend.run_model(model, [x])] == [[2, 3]]
    assert model.SerializeToString() == before
    (y,) = backend.run_node(helper.make_node("Clip", ["x", "", "max"], ["y"]), [x, np.float32(3.5)], opset_version=13)
    assert y.tolist() == [3, 3.5]
    assert not backend.is_compatible(graph([helper.make_node("Det", ["x"], ["y"])], {"x": (2, 2)}, ["y"], {}))
    with pytest.raises(ArgumentError, match="prepare: there must be such a device, got device='TPU'"):
        backend.prepare(model, "TPU")


def test_onnx_is_imported_when_it_is_used() -> None:
    code = "import sys, gpunn.interop.onnx; assert 'onnx' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- files that are not right ---------------------------------------------------------------------------------------


def _if() -> Any:
    made = helper.make_tensor_value_info("b", F32, [])
    branch = helper.make_graph([_node("Constant", [], ["b"], value_float=1.0)], "b", [], [made])
    node = _node("If", ["c"], ["y"], name="choice", then_branch=branch, else_branch=branch)
    return graph([node], {}, ["y"], {"c": np.array(True)})


def _changed(model: Any, change: Callable[[Any], object]) -> Any:
    change(model)
    return model


def _small(*nodes: Any, arrays: dict[str, Any] | None = None, **settings: Any) -> Any:
    return graph(nodes or [_node("Neg", ["x"], ["y"])], {"x": (2, 3)}, ["y"], arrays or {}, **settings)


def _weighted(dtype: Any = np.float32) -> Any:
    return _small(_node("Add", ["x", "w"], ["y"], name="sum"), arrays={"w": np.ones(3, dtype)})


def _first(model: Any) -> Any:
    return model.graph.initializer[0]


def _circle() -> Any:
    add = _node("Add", ["x", "b"], ["a"], name="first")
    return _small(add, _node("Neg", ["a"], ["b"]), _node("Neg", ["b"], ["y"]))


def _sized(size: int) -> Any:
    return _changed(_weighted(), lambda m: _first(m).dims.__setitem__(0, size))


def _lacking(model: Any) -> None:
    _first(model).ClearField("raw_data")
    _first(model).float_data.append(1.0)


def _sequence(model: Any) -> None:
    model.graph.input[0].CopyFrom(helper.make_tensor_sequence_value_info("x", F32, None))


def _doubled(op: str, axes: int, count: int = 40) -> Any:
    """A chain of nodes, each of which makes an array of more axes, twice as many by Gather."""
    links = ["x", *(f"t{number}" for number in range(count))]
    nodes = [_node(op, [link, "axes" if op == "Unsqueeze" else link], [then])
             for link, then in itertools.pairwise(links)]  # fmt: skip
    made = graph([*nodes, _node("Cast", [links[-1]], ["y"], to=F32)], {"x": (TensorProto.INT64, (2, 3))}, ["y"], {})
    made.graph.initializer.append(numpy_helper.from_array(np.arange(axes), "axes"))
    return made


def _sized_by_an_input() -> Any:
    made = [_node("ConstantOfShape", ["s"], ["z"]), _node("Add", ["x", "z"], ["y"])]
    return graph(made, {"x": (2,), "s": (TensorProto.INT64, (2**40,))}, ["y"], {})


def _calls(second: bool) -> Any:
    """Functions that each call the next ten times, and, if asked for, a second form of each that calls nothing."""
    model = _with_functions(*((f"F{k}", f"F{k + 1}", 10) for k in range(9)), ("F9", "Neg", 10))
    for each in list(model.functions) if second else ():
        model.functions.append(each)
        model.functions[-1].overload = "short"
        del model.functions[-1].node[1:]
        model.functions[-1].node[0].CopyFrom(_node("Neg", ["a"], ["b"]))
    return model


def _choosing() -> Any:
    """Functions that call the next in both branches of an If."""
    model = _with_functions(*((f"F{k}", f"F{k + 1}", 1) for k in range(30)), ("F30", "Neg", 1))
    for each in model.functions:
        inner = each.node[0]
        inner.output[0] = "c"
        branch = helper.make_graph([inner], "branch", [], [helper.make_tensor_value_info("c", F32, None)])
        true = _node("Constant", [], ["t"], value=numpy_helper.from_array(np.array(True)))
        del each.node[:]
        each.node.extend([true, _node("If", ["t"], ["b"], name="if", then_branch=branch, else_branch=branch)])
    return model


def _filled() -> Any:
    """A function with an array of 1 MB, called a thousand times."""
    model = _with_functions(("F0", "F1", 1000), ("F1", "Neg", 1))
    array = numpy_helper.from_array(np.zeros(1 << 18, np.float32))
    model.functions[1].node.append(_node("Constant", [], ["k"], value=array))
    return model


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "a text": (lambda: b"hello, world, this is no model", "this is not an ONNX file"),
    "nothing": (lambda: b"", "this is not an ONNX model"),
    "an old opset": (lambda: _small(opset=6), r"\(opset\) must be one, from 7 to \d+, got opset=\[6\]"),
    "a future opset": (lambda: _small(opset=99), r"\(opset\) must be one, from 7 to \d+, got opset=\[99\]"),
    "a future format": (lambda: _changed(_small(), lambda m: setattr(m, "ir_version", 99)), "version of the format"),
    "a cycle": (_circle, r"node 'first' \(Add\): its input 'b' is made only behind it: .* without cycles"),
    "no input": (lambda: _small(_node("Add", ["x", "w"], ["y"])), r"number 0 \(Add\): its input 'w' is missing"),
    "a missing output": (lambda: _small(_node("Neg", ["x"], ["z"])), r"outputs of the graph .* got missing=\['y'\]"),
    "twice": (lambda: _small(*[_node("Neg", ["x"], ["y"])] * 2), r"node number 1 \(Neg\): each array must be"),
    "unknown": (lambda: _small(_node("Gone", ["x"], ["y"])), r"\(Gone\): there is no such operator in version 18"),
    "not imported": (lambda: _small(_node("Det", ["x"], ["y"])), r"\(Det\): this operator cannot be imported"),
    "taken out": (lambda: _small(_node("Upsample", ["x", "x"], ["y"])), r"\(Upsample\): .* taken out before"),
    "another domain": (lambda: _small(_node("Neg", ["x"], ["y"], domain="own")), r"\(Neg\): .* domain 'own'"),
    "a graph inside": (_if, r"node 'choice' \(If\): nodes with graphs inside \(If, Loop, Scan\) cannot be imported"),
    "an attribute": (lambda: _small(_node("Neg", ["x"], ["y"], speed=3)), r"\(Neg\): .* attributes=\['speed'\]"),
    "too many inputs": (lambda: _small(_node("Neg", ["x", "x"], ["y"])), r"node number 0 \(Neg\): .*input size 2"),
    "mixed dtypes": (lambda: _weighted(np.int64), r"node 'sum' \(Add\): .*inconsistent type"),
    "mixed shapes": (
        lambda: _small(_node("Gemm", ["x", "w"], ["y"], name="gemm"), arrays={"w": np.ones((4, 5))}),
        r"node 'gemm' \(Gemm\): ",
    ),
    "sizes that lie": (lambda: _sized(2**40), r"'w': its bytes must be those of 1099511627776 elements of float32"),
    "a size below 0": (lambda: _sized(-3), "the initialiser 'w': sizes must be at least 0"),
    "numbers that lack": (lambda: _changed(_weighted(), _lacking), "'w': it must hold as many numbers as"),
    "texts": (
        lambda: _changed(_weighted(), lambda m: setattr(_first(m), "data_type", TensorProto.STRING)),
        "the initialiser 'w': its dtype is not supported",
    ),
    "a name twice": (
        lambda: _changed(_weighted(), lambda m: m.graph.initializer.append(_first(m))), "a name of its own",
    ),
    "an input twice": (
        lambda: _changed(_small(), lambda m: m.graph.input.append(m.graph.input[0])),
        r"each input must have a name of its own, got inputs=\['x', 'x'\]",
    ),
    "axes that double": (lambda: _doubled("Gather", 1), r"number 5 \(Gather\): its result has too many axes"),
    "axes that add up": (lambda: _doubled("Unsqueeze", 20), r"number 3 \(Unsqueeze\): its result has too many axes"),
    "many axes at once": (lambda: _doubled("Unsqueeze", 500), r"number 0 \(Unsqueeze\): .* at most 64 axes"),
    "axes by an input": (_sized_by_an_input, r"number 0 \(ConstantOfShape\): there may be at most 64 axes"),
    "an input of many axes": (
        lambda: _changed(_small(), lambda m: [m.graph.input[0].type.tensor_type.shape.dim.add() for _ in range(10**5)]),
        "'x' may have at most 64 axes, got axes=100002",
    ),
    "a result that lies": (
        lambda: _changed(_small(), lambda m: m.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", F32, [3]))),
        r"number 0 \(Neg\): its result is not what the model says, got result='y', made='FLOAT \[2, 3\]', declared=",
    ),
    "a result of another kind": (
        lambda: _changed(
            _small(), lambda m: m.graph.output[0].CopyFrom(helper.make_tensor_sequence_value_info("y", F32, None))
        ),
        r"number 0 \(Neg\): its result is not what the model says, .* declared='sequence_type'",
    ),
    "functions with a second form": (lambda: _calls(True), "at most 1000000 nodes, got nodes=10000000000"),
    "functions in branches": (_choosing, r"node 'if' \(If\): nodes with graphs inside"),
    "functions with arrays": (_filled, "its functions, put in place, must take at most 256 MiB more"),
    "parts": (
        lambda: _small(_node("Split", ["x"], ["z", "u", "y"], num_outputs=2)),
        r"\(Split\): num_outputs must be the number of its results, got results=3",
    ),
    **{
        f"an axis beyond, {op}": (
            lambda op=op: _small(_node(op, ["x", "w"], ["y"], axis=2**31), arrays={"w": np.ones(3)}, opset=23),
            rf"\({op}\): its axis must be one of its input, got axis=2147483648, axes=2",
        )
        for op in ("LayerNormalization", "RMSNormalization")
    },
    "a long name": (
        lambda: _small(_node("Det", ["x"], ["y"], name="n" * 10**6)), r"node 'n{200}' \(Det\): this operator cannot"
    ),
    "a sequence": (lambda: _changed(_small(), _sequence), "the input 'x' must be an array, got value='sequence_type'"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused_before_anything_runs(name: str, path: Path) -> None:
    make, words = BAD[name]
    content = make()
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    with pytest.raises(FileError, match=words) as found:
        load(path)
    assert str(path) in str(found.value)


def test_a_file_that_is_none(path: Path) -> None:
    with pytest.raises(FileError, match=r"model\.onnx: the model cannot be read: No such file"):
        load(path)
    with pytest.raises(FileError, match="the model cannot be read: Is a directory"):
        load(path.parent)
    path.write_bytes(b"")
    for first, words in (
        (b"\0", "this is not an ONNX file, got first="),
        (b"\x08", "it must have at most 2147483647 bytes"),
    ):
        path.write_bytes(first)
        os.truncate(path, 3 << 30)  # holds nothing, and must not be read
        begin = time.process_time()
        with pytest.raises(FileError, match=rf"model\.onnx: {words}"):
            load(path)
        assert time.process_time() - begin < 1


def test_errors_while_it_runs_name_the_node(path: Path) -> None:
    write(
        path,
        [_node("Reshape", ["x", "s"], ["y"], name="shape")],
        {"x": ("N",), "s": (TensorProto.INT64, (2,))},
        ["y"],
        {},
    )
    with pytest.raises(ShapeError, match=r"model.onnx: node 'shape' \(Reshape\): reshape: the number of elements"):
        load(path)(np.ones(3, np.float32), np.array([2, 2]))
    assert load(path)(np.ones(4, np.float32), np.array([2, -1])).shape == (2, 2)
    write(path, [_node("OneHot", ["i", "n", "x"], ["y"], axis=2**63 - 1)], {"x": None}, ["y"],
          {"i": np.array([0]), "n": np.array(2)})  # fmt: skip
    with pytest.raises(GraphError, match=r"node number 0 \(OneHot\): axes must differ, and lie in the result"):
        load(path)(np.ones(2, np.float32))


MUTATED = """
import random, resource, sys, time
from pathlib import Path
import numpy as np
from gpunn import models
from gpunn.errors import GpunnError
from gpunn.interop.onnx import export, load

folder, count = Path(sys.argv[1]), int(sys.argv[2])
export(models.lenet(), np.zeros((1, 1, 8, 8), np.float32), folder / "lenet")
export(models.SequenceClassifier(4, 7, 3, 1, "lstm"), np.zeros((1, 5, 4), np.float32), folder / "lstm")
files = [(folder / name).read_bytes() for name in ("lenet", "lstm")]
load(folder / "lenet")
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rng, path, loaded = random.Random(0), folder / "mutated.onnx", 0
for number in range(count):
    content = bytearray(rng.choice(files))
    head = min(len(content), 1500)
    if number % 4 == 0:
        del content[rng.randrange(len(content)) :]
    elif number % 4 == 1:
        for _ in range(rng.choice([1, 2, 8])):
            content[rng.randrange(head)] ^= 1 << rng.randrange(8)
    elif number % 4 == 2:
        content[rng.randrange(len(content))] = rng.randrange(256)
    else:  # a number, perhaps a size, that is larger than anything
        at = rng.randrange(head)
        content[at : at + rng.randrange(9)] = bytes([255]) * rng.randrange(1, 9) + b"\\x7f"
    path.write_bytes(content)
    begin = time.process_time()
    try:
        load(path)
        loaded += 1
    except GpunnError as error:
        assert str(path) in str(error), error
    assert time.process_time() - begin < 2, number
taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
assert taken < 500, taken
assert 0 < loaded < count, loaded
"""


def test_mutated_files(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    done = subprocess.run(
        [sys.executable, "-c", MUTATED, str(tmp_path), "400"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]

"""ONNX files of whole models, what stands in them, and what cannot be written."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_case import RUN_BY, Of, check_export, drawn

from gpunn import functional as F
from gpunn import models, nn, tensor
from gpunn.backend import random_generator
from gpunn.errors import ArgumentError, FileError, GraphError, PackageError
from gpunn.functional.record import differentiable, raw
from gpunn.interop import onnx as interop
from gpunn.interop.onnx import export
from gpunn.interop.trace import leaves, trace
from gpunn.observer import observers
from gpunn.tensor import no_grad

SMALL = {"size": 67, "channels": (4, 8, 8, 8, 4), "hidden": 16}

IMAGES = {
    "lenet": (models.lenet, (1, 8, 8)),
    "lenet5": (models.lenet5, (1, 28, 28)),
    "alexnet": (lambda **how: models.alexnet(10, **SMALL, **how), (3, 67, 67)),
    "alexnet of the paper": (lambda **how: models.alexnet(10, norm_before_pool=True, **SMALL, **how), (3, 67, 67)),
    "alexnet, two towers": (lambda **how: models.alexnet(10, towers=2, **SMALL, **how), (3, 67, 67)),
    "alexnet, two devices": (
        lambda **how: models.alexnet(10, towers=2, devices=("cpu", "cpu"), **SMALL, **how), (3, 67, 67),
    ),
    "vgg11": (lambda **how: models.vgg11(10, size=32, width=4, hidden=16, **how), (3, 32, 32)),
    "vgg16": (lambda **how: models.vgg16(10, size=32, width=4, hidden=16, **how), (3, 32, 32)),
    "resnet18": (lambda **how: models.resnet18(10, width=4, **how), (3, 33, 33)),
    "resnet50": (lambda **how: models.resnet50(10, width=4, **how), (3, 33, 33)),
    "squeezenet 1.0": (lambda **how: models.squeezenet(10, "1.0", **how), (3, 33, 33)),
    "squeezenet 1.1": (lambda **how: models.squeezenet(10, **how), (3, 33, 33)),
}  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


@pytest.mark.parametrize("name", IMAGES)
def test_models_of_images(name, path):
    make, shape = IMAGES[name]
    model = make(generator=random_generator(0))
    if "alexnet" in name or "squeezenet" in name:
        for parameter in model.parameters():  # their own values give logits that hardly depend on the image
            parameter.data[...] *= 3
    check_export(path, model, [shape])


def test_mlp(path):
    check_export(path, models.mlp((4, 5, 3), nn.SELU, dropout=0.5).append(nn.Sigmoid()), [(4,)])


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_models_of_sequences(cell, path):
    check_export(path, models.CharacterModel("abcde", 8, 7, 2, cell), [(6,)], [np.int64])
    check_export(path, models.SequenceClassifier(4, 7, 3, 2, cell), [(5, 4)])
    check_export(path, models.SequenceDecoder(4, 7, 5, cell=cell), [(4,), (3,)], [np.float32, np.int64])


# ---- the file -------------------------------------------------------------------------------------------------------


def test_what_stands_in_the_file(path):
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3))
    export(net, np.zeros((2, 1, 4, 4), np.float32), path, input_name="image", output_name="logits",
           metadata={"classes": ["cat", "dog", "ö"], "task": "pets", "step": 3})  # fmt: skip
    model = onnx.load(path)
    assert (model.producer_name, model.opset_import[0].version, model.ir_version) == ("gpunn", 18, 8)
    props = {each.key: each.value for each in model.metadata_props}
    assert (json.loads(props["classes"]), props["task"], props["step"]) == (["cat", "dog", "ö"], "pets", "3")
    (image,), (logits,) = model.graph.input, model.graph.output
    sizes = [[d.dim_param or d.dim_value for d in end.type.tensor_type.shape.dim] for end in (image, logits)]
    assert (image.name, logits.name, sizes) == ("image", "logits", [["N", 1, 4, 4], ["N", 3]])
    weights = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(weights[name], array)
    assert [node.op_type for node in model.graph.node] == ["Conv", "Reshape", "Gemm", "Identity"]


def test_a_fixed_number_of_examples(path):
    written = check_export(path, models.resnet18(3, width=2), [(3, 33, 33)], batches=(2,), dynamic_batch=False)
    assert [d.dim_value for d in written.graph.input[0].type.tensor_type.shape.dim] == [2, 3, 33, 33]
    assert [d.dim_value for d in written.graph.output[0].type.tensor_type.shape.dim] == [2, 3]


def test_several_inputs_and_outputs_are_numbered(path):
    export(Of(lambda a, b: {"sum": a + b, "both": (a, [b])}), [np.ones((2, 3)), np.ones((2, 3))], path)
    graph = onnx.load(path).graph
    assert [each.name for each in graph.input] == ["input", "input_1"]
    assert [each.name for each in graph.output] == ["output", "output_1", "output_2"]


def test_equal_models_give_equal_bytes(path, tmp_path):
    for target in (path, tmp_path / "again"):
        export(models.lenet(generator=random_generator(0)), np.ones((1, 1, 8, 8), np.float32), target,
               metadata={"a": "1", "b": "2"})  # fmt: skip
    assert path.read_bytes() == (tmp_path / "again").read_bytes()


def test_a_profiler_that_cannot_be_put_back_is_not_taken_away(path, monkeypatch):
    profiler = object()  # cProfile's of Python 3.11: not to be set by sys.setprofile
    monkeypatch.setattr(sys, "getprofile", lambda: profiler)
    with pytest.raises(ArgumentError, match=r"export: .* export while none is on, got profiler='object'"):
        export(nn.Linear(3, 2), np.ones((1, 3), np.float32), path)
    assert not path.exists()


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"mean": np.ones(2)}, "export: metadata 'mean' must be a text, or what JSON has: .*ndarray"),
        ({3: "a"}, "export: names in metadata must be texts, got name=3"),
    ],
)
def test_metadata_that_is_not_json(metadata, message, path):
    with pytest.raises(ArgumentError, match=message):
        export(nn.Linear(3, 2), np.ones((1, 3), np.float32), path, metadata=metadata)
    assert not path.exists()


class Falls(nn.Module):
    def forward(self, x):
        raise LookupError


class Catches(nn.Module):
    def __init__(self):
        self.falls, self.linear = Falls(), nn.Linear(6, 2)

    def forward(self, x):
        with contextlib.suppress(LookupError):
            self.falls(x)
        return self.linear(x)


def test_a_layer_that_raises_is_left_and_so_are_the_hooks():
    assert [(call.function, call.layer) for call in trace(Catches(), [X], {"linear"}).calls] == [
        ("linear", "linear (Linear)")
    ]
    with pytest.raises(LookupError):
        trace(nn.Sequential(Falls()), [X], ())
    assert sys.getprofile() is None
    assert observers.get() == ()


def test_the_model_and_the_hook_stay_as_they_were(path):
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Sequential(nn.Dropout(0.5)).eval())
    before = {name: array.copy() for name, array in net.state_dict().items()}
    calls = []
    sys.setprofile(lambda frame, event, argument: calls.append(event))
    hook = sys.getprofile()
    try:
        export(net, np.ones((2, 3), np.float32), path)
        assert sys.getprofile() is hook
    finally:
        sys.setprofile(None)
    assert [module.training for module in net.modules()] == [True, True, False, False]
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_what_the_outputs_do_not_need_is_left_out(path):
    def forward(x):
        F.dropout(x, 0.5)  # no translation
        return F.relu(x)

    export(Of(forward), np.ones((2, 3), np.float32), path)
    assert [node.op_type for node in onnx.load(path).graph.node] == ["Relu", "Identity"]


def test_a_weight_used_twice_is_stored_once(path):
    layer = nn.Linear(3, 3)
    check_export(path, nn.Sequential(layer, layer), [(3,)])
    assert len(onnx.load(path).graph.initializer) == 2


def test_names_that_meet_are_kept_apart(path):
    class Model(nn.Module):
        def __init__(self):
            self.input, self.output, self.constant = (nn.Parameter(drawn((3,), seed)) for seed in range(3))

        def forward(self, x):
            return x * self.input + self.output * 2 + self.constant

    check_export(path, Model(), [(3,)])


def test_the_result_may_be_the_input_or_a_weight(path):
    class Model(nn.Module):
        def __init__(self):
            self.weight = nn.Parameter(np.ones(2, np.float32))

        def forward(self, x):
            return x, self.weight

    check_export(path, Model(), [(3,)])


def test_plain_arrays_inside_a_model_are_followed_through_functions(path):
    check_export(path, Of(lambda x: F.relu(raw(F.linear(x, drawn((4, 3), 0))))), [(3,)])


# ---- sizes that stay open -------------------------------------------------------------------------------------------

OPEN = {"input": {2: "H", 3: "W"}}


class Halves(nn.Module):
    """Down by a pooling, up by a transposed convolution, and beside what was before: two maps of one size."""

    def __init__(self):
        self.first, self.up = nn.Conv2d(2, 3, 3, padding=1), nn.ConvTranspose2d(3, 3, 2, 2)
        self.norm = nn.GroupNorm(3, 3)

    def forward(self, x):
        maps = F.relu(self.norm(self.first(x)))
        both = F.concatenate([maps, self.up(F.max_pool2d(maps, 2))], 1)
        n, c, h, w = both.shape
        scores = F.softmax(both.reshape(n, c, h * w), -1)
        return scores.transpose(0, 2, 1).reshape(n, h, w, c) + np.ones((h, w, 1), np.float32), both.mean((2, 3))


IMAGES_OF_ANY_SIZE = {
    "resnet18": (lambda: models.resnet18(5, width=4), (3, 35, 40), (1, 7, 30)),
    "squeezenet": (lambda: models.squeezenet(5), (3, 33, 40), (2, 5, 31)),
    "pixels": (lambda: nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.PixelShuffle(2), nn.PixelUnshuffle(4),
        nn.Upsample(scale_factor=3, mode="bilinear"), nn.ChannelShuffle(4)), (1, 8, 4), (2, 4)),
    "halves": (Halves, (2, 8, 8), (2, 4, 10)),
    "signals of channels": (lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, 2, padding="valid"), nn.LocalResponseNorm(3), nn.AvgPool2d(3, 2, 1), nn.BatchNorm2d(4),
        nn.ReflectionPad2d(1), nn.AdaptiveAvgPool2d((1, None))), (2, 12, 12), (3, 9)),
}  # fmt: skip


@pytest.mark.parametrize("name", IMAGES_OF_ANY_SIZE)
def test_images_of_any_size(name, path):
    make, (channels, *size), more = IMAGES_OF_ANY_SIZE[name]
    model = make()
    export(model, drawn((2, channels, *size), 0), path, dynamic_axes=OPEN)
    onnx.checker.check_model(str(path), full_check=True)
    sizes = [d.dim_param or d.dim_value for d in onnx.load(path).graph.input[0].type.tensor_type.shape.dim]
    assert sizes == ["N", channels, "H", "W"]
    for n, h in enumerate(more, 1):
        x = drawn((n, channels, size[0] + h // 2 * 2, size[1] + 2 * h), n)
        with no_grad(), model.evaluating():
            expected = [raw(y) for y in leaves(model(x))]
        for got, y in zip(RUN_BY[-1](path, {"input": x}), expected, strict=True):
            np.testing.assert_allclose(got, y, rtol=2e-5, atol=1e-5 * float(np.abs(y).max()))


def test_names_of_open_sizes(path):
    export(Halves(), drawn((2, 2, 8, 8), 0), path, dynamic_axes=OPEN)
    ends = [[d.dim_param or d.dim_value for d in y.type.tensor_type.shape.dim] for y in onnx.load(path).graph.output]
    assert ends == [["N", "H", "W", 6], ["N", 6]]
    steps = nn.LSTM(4, 3, batch_first=True)
    export(steps, drawn((2, 5, 4), 0), path, dynamic_axes={"input": {1: "T"}})
    for got, y in zip(
        RUN_BY[-1](path, {"input": drawn((3, 9, 4), 1)}), leaves(steps(drawn((3, 9, 4), 1))), strict=True
    ):
        np.testing.assert_allclose(got, raw(y), rtol=2e-5, atol=1e-6)
    export(Of(lambda a, b: a @ b), (drawn((3, 4), 0), drawn((4, 5), 1)), path, dynamic_batch=False,
           dynamic_axes={"input": {0: "A", 1: "B"}, "input_1": {0: "B"}})  # fmt: skip
    ends = [[d.dim_param or d.dim_value for d in y.type.tensor_type.shape.dim] for y in onnx.load(path).graph.output]
    assert ends == [["A", 5]]


def test_sizes_that_cannot_stay_open(path):
    images = drawn((2, 2, 8, 8), 0)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(128, 3))
    refused(path, flat, images, r"the model does not take inputs of the shapes \[\(2, 2, 40, 72\)\]", dynamic_axes=OPEN)
    bins = nn.AdaptiveAvgPool2d(3)
    refused(
        path, bins, images, "adaptive_avg_pool2d in Adapt.*it needs sizes that dynamic_axes leaves", dynamic_axes=OPEN
    )
    windows = nn.AvgPool2d(3, 2, 1, ceil_mode=True)
    refused(path, windows, images, "it needs sizes that dynamic_axes leaves", dynamic_axes=OPEN)
    whole = Of(lambda x: F.avg_pool2d(x, x.shape[2:]))
    refused(
        path, whole, images, "sizes along dynamic axes may not decide the settings of avg_pool2d", dynamic_axes=OPEN
    )
    for axes, words in (
        ({"image": {2: "H"}}, r"dynamic_axes is for the inputs \['input'\], got unknown=\['image'\]"),
        ({"input": {0: "H"}}, "must be axes from 1 to 3 with their names, got axis=0"),
        ({"input": {4: "H"}}, "must be axes from 1 to 3 with their names, got axis=4"),
        ({"input": {1: "H", 2: "H"}}, r"axes of one name must have one size, got name='H', sizes=\(2, 8\)"),
    ):
        refused(path, bins, images, words, ArgumentError, dynamic_axes=axes)


# ---- what is refused ------------------------------------------------------------------------------------------------


def refused(path, model, example, words, kind=GraphError, **settings):
    with pytest.raises(kind, match=words):
        export(model, example, path, **settings)
    assert list(path.parent.iterdir()) == []
    assert sys.getprofile() is None


X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(2, 6)


def test_a_function_without_translation_is_named_with_its_layer(path):
    net = nn.Sequential(nn.Linear(6, 4), nn.Sequential(Of(lambda x: F.skeletonize(x.reshape(-1, 2, 2)))))
    refused(path, net, X, r"export: skeletonize in 1\.0 \(Of\): it has no translation")
    drops = Of(lambda x: F.dropout(x, 0.5))
    refused(path, drops, X, "dropout in Of: it has no translation")
    norm = nn.BatchNorm1d(6)
    by_batch = Of(lambda x: F.batch_norm(x, norm.running_mean, norm.running_var, training=True))
    refused(path, nn.Sequential(norm, by_batch), X, r"batch_norm in 1 \(Of\): running statistics that change")
    refused(path, Of(lambda x: x[x.data > 0].sum()), X, "(settings|sizes|computed from the input)")
    refused(path, Of(lambda x: x[:, tensor(X[0] > 0) & (x[0] > -9)]), X, "a mask, which gives a size, must be a const")


def test_a_function_of_the_users_own_is_named(path):
    def cube(x):
        return differentiable(raw(x) ** 3, (x,), lambda gy, _: (3 * gy * raw(x) ** 2,))

    refused(path, nn.Sequential(nn.ReLU(), Of(cube)), X, r"cube in 1 \(Of\): it has no translation")


def test_values_of_the_input_may_not_decide(path):
    refused(path, Of(lambda x: x if x.sum() > 0 else -x), X, r"values of its input, as it does in Of, got .*__bool__")
    refused(path, Of(lambda x: x * x.max().item()), X, "values of its input.*item")
    refused(path, Of(lambda x: F.relu(x) if raw(x).min() < -0.5 else x), X, "how many functions are called")
    refused(path, Of(lambda x: F.relu(x) if raw(x).min() < -0.5 else F.tanh(x)), X, "decide what Of calls.*relu.*tanh")
    refused(path, Of(lambda x: x * float(raw(x).max())), X, r"settings of Tensor\.__mul__ in Of")
    refused(path, Of(lambda x: x * np.sqrt(np.abs(raw(x)))), X, r"Tensor\.__mul__ in Of uses was computed from the in")
    refused(path, Of(lambda x: x - raw(x).mean(0)), X, r"Tensor\.__sub__ in Of uses was computed from the input")
    assert trace(Of(lambda x: x * tensor([2.0]).item()), [X], {"Tensor.__mul__"}).outputs[0].shape == (2, 6)


def test_the_number_of_examples_may_not_decide(path):
    refused(path, Of(lambda x: x / len(x)), X, r"settings of Tensor\.__truediv__ in Of, got settings=\(2, 3\)")
    refused(path, Of(lambda x: x + np.arange(len(x), dtype=np.float32)[:, None]), X, r"Tensor\.__add__ in Of uses was")
    refused(path, Of(lambda x: F.concatenate(list(x))), X, "may not decide")
    maps = nn.Sequential(Of(lambda x: x.T[None, None]), nn.MaxPool2d(2))
    refused(path, maps, X, r"max_pool2d in 1 \(MaxPool2d\): sizes may not depend on the number of examples")
    export(Of(lambda x: x / len(x)), X, path, dynamic_batch=False)


def test_the_way_of_the_arrays_is_compared(path):
    weights = nn.Parameter(drawn((6,), 0)), nn.Parameter(drawn((6,), 1))

    class Model(nn.Module):
        def __init__(self):
            self.a, self.b = weights

        def forward(self, x):
            return F.relu(x) * (self.a if len(x) == 2 else self.b)

    refused(path, Model(), X, r"decide which array Tensor\.__mul__ in Model takes")
    other = Of(lambda x: (F.relu(x), F.tanh(x))[len(x) == 2] - x)
    refused(path, other, X, r"decide which array Tensor\.__sub__ in Of takes")


def test_one_array_for_two_inputs(path):
    export(Of(lambda a, b: a - 2 * b), (X, X), path)
    (y,) = RUN_BY[0](path, {"input": X, "input_1": 3 * X})
    np.testing.assert_allclose(y, -5 * X, rtol=1e-6)


def test_changes_in_place_are_refused(path):
    def forward(x):
        y = x * 2
        y[:, 0] = 0.0
        return y

    refused(path, Of(forward), X, "a change in place cannot be followed, made in Of")


def test_recurrent_weights_may_be_computed(path):
    w, b = drawn((6, 6), 0), drawn((6,), 2)
    for b_ih, b_hh in ((None, None), (b, None), (b, F.relu(tensor(b)))):
        gru = Of(lambda x, *b: F.gru_cell(x, x[:, :2], F.relu(tensor(w)), drawn((6, 2), 1), *b))
        check_export(path, Of(lambda x, b=(b_ih, b_hh), gru=gru: gru(x, *b)), [(6,)])


def test_settings_are_checked(path):
    net, newest = nn.Linear(6, 2), onnx.defs.onnx_opset_version()
    refused(path, net, X, f"opset must be from 18 to {newest}, got opset=17", ArgumentError, opset=17)
    refused(path, net, X, "opset must be", ArgumentError, opset=newest + 1)
    refused(path, net, X, "must have different names, got name='x'", ArgumentError, input_name="x", output_name="x")
    refused(path, net, (), "there must be an example of the input", ArgumentError)
    refused(path, net, X[:0], "axis 0 of each input must count the examples", ArgumentError)
    two = Of(lambda a, b: a @ b)
    refused(path, two, (X, X.T), r"pass dynamic_batch=False, got shapes=\[\(2, 6\), \(6, 2\)\]", ArgumentError)
    refused(path, Of(lambda x: "text"), X, "must return an array", ArgumentError)
    packed = nn.pack_sequence([np.ones((3, 6), np.float32), np.ones((2, 6), np.float32)])
    refused(path, nn.LSTM(6, 2), packed, "one length, not packed", ArgumentError)


def test_more_than_protobuf_can_hold_is_refused(path, monkeypatch):
    monkeypatch.setattr(interop, "LARGEST", 1000)
    refused(path, nn.Linear(6, 100), X, "cannot be larger than 2 GB, weights included, got bytes=", ArgumentError)


def test_the_largest_size_is_counted_before_it_is_built(path, monkeypatch):
    export(nn.Linear(6, 100), X, path)
    size = path.stat().st_size
    path.unlink()
    monkeypatch.setattr(interop, "LARGEST", size - 1)
    refused(path, nn.Linear(6, 100), X, "2 GB", ArgumentError)


def test_a_file_that_cannot_be_written_is_named(path, tmp_path):
    with pytest.raises(FileError, match=r"missing/m.onnx: the model cannot be written: No such folder"):
        export(nn.Linear(6, 2), X, tmp_path / "missing" / "m.onnx")
    with pytest.raises(FileError, match=r"the model cannot be written"):
        export(nn.Linear(6, 2), X, tmp_path)


def test_without_the_package_the_command_is_given(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    refused(path, nn.Linear(6, 2), X, r"pip install .*\[onnx\]", PackageError)

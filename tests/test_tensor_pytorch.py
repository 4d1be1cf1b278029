"""What PyTorch's users write of a Tensor: taken where it means the same, refused where it does not."""

import re

import numpy as np
import pytest

from gpunn import backend, tensor
from gpunn.errors import ArgumentError, DeviceError, DtypeError, GraphError, ShapeError

X = np.arange(6.0, dtype=np.float32).reshape(2, 3)


def test_shapes():
    x = tensor(X)
    assert (x.size, x.size(), x.size(-1), x.dim(), x.numel()) == (6, (2, 3), 3, 2, 6)
    assert x.view(x.size(0), -1).shape == x.view((2, 3)).shape == (2, 3)
    assert x.unsqueeze(0).shape == (1, 2, 3)
    assert x.unsqueeze(-1).squeeze(dim=2).shape == (2, 3)
    assert x.permute(1, 0).tolist() == x.t().tolist() == x.T.tolist() == X.T.tolist()
    assert x.unsqueeze(0).flatten(start_dim=1).shape == (1, 6)
    assert x[0].expand(4, -1).tolist() == [[0, 1, 2]] * 4
    assert tensor(np.float32(3)).flatten().shape == (1,)


def test_an_exchange_of_two_axes_is_no_transpose():
    x = tensor(X)
    for axes in ((0, 1), (-2, -1), (0, -1), (-2, 1)):
        message = f"to exchange two: swapaxes{axes}, .T or permute, got axes={axes}, shape=(2, 3)"
        with pytest.raises(ArgumentError, match=re.escape(message)):
            x.transpose(*axes)
    with pytest.raises(ArgumentError, match=r"to exchange two: swapaxes\(1, 2\), .T or permute"):
        x.unsqueeze(0).transpose(1, 2)
    assert x.transpose(1, 0).shape == x.transpose(-1, -2).shape == x.transpose().shape == (3, 2)
    assert x.transpose((0, 1)).shape == x.permute(0, 1).shape == (2, 3)


@pytest.mark.parametrize("name", ["max", "min", "var", "std"])
def test_methods_that_give_something_else_there_do_not_take_dim(name):
    with pytest.raises(ArgumentError, match=rf"{name}: PyTorch's {name}\(dim\) .*: here {name}\(axis.*, got dim=1"):
        getattr(tensor(X), name)(dim=1)
    assert getattr(tensor(X), name)(axis=1).shape == (2,)


def test_sorting_by_the_name_dim_leaves_the_elements_where_they_are():
    x = tensor([3.0, 1.0])
    with pytest.raises(ArgumentError, match=r"sort: PyTorch's sort\(dim\) gives values and indices: here functional"):
        x.sort(dim=0)
    assert x.tolist() == [3, 1]


def test_numbers_of_one_element():
    for loss in (tensor(np.float32(0.125)), tensor([[0.125]])):
        assert (f"{loss:.2f}", round(loss, 1), round(loss), float(loss), int(loss)) == ("0.12", 0.1, 0, 0.125, 0)
        assert loss < 0.5
        assert not loss > 0.5
        assert bool(loss)
        assert f"{loss}" == repr(loss)
    assert f"{tensor([3]):03d}" == "003"
    for what in (float, int, bool, round, "{:.3f}".format):
        with pytest.raises(ShapeError, match=r": there must be one element, got shape=\(2, 3\)"):
            what(tensor(X))


def test_dtypes_and_devices():
    x = tensor(X, requires_grad=True)
    assert x.float() is x.to("cpu") is x.cpu() is x.to(np.float32) is x.to("float32")
    assert x.to(device="cpu", dtype=np.float64, non_blocking=True).dtype == np.float64
    assert x.to("cpu", False, True) is not x
    assert x.to("cpu", True, False) is x
    with pytest.raises(ArgumentError, match=r"to: there is no such setting, got named=\['layout'\]"):
        x.to("cpu", layout=None)
    assert x.double().dtype == x.to("cpu", np.float64).dtype == x.to(tensor(np.ones(1))).dtype == np.float64
    assert (x.half().dtype, x.long().dtype, x.int().dtype) == (np.float16, np.int64, np.int32)
    assert (x.bfloat16().dtype.name, x.bool().tolist()) == ("bfloat16", [[False, True, True], [True] * 3])
    x.double().sum().backward()
    assert x.grad.dtype == np.float32
    assert x.contiguous() is x
    assert x.T.contiguous().data.flags.c_contiguous
    with pytest.raises(
        ArgumentError, match="to: a target is a device, a dtype of NumPy or a Tensor, got target='cuda:x'"
    ):
        x.to("cuda:x")


def test_cuda_is_gpu(monkeypatch):
    names = {"cuda": "gpu:0", "cuda:0": "gpu:0", "gpu": "gpu:0"}
    if backend.gpu_count():
        assert {name: backend.check_device(name) for name in names} == names
        assert tensor(X).cuda().device == tensor(X).to("cuda:0").device == "gpu:0"
    else:
        for call in (lambda: tensor(X).cuda(), lambda: tensor(X, device="cuda:1"), lambda: tensor(X).to("cuda")):
            with pytest.raises(DeviceError, match="device '(gpu|cuda).*': "):
                call()
    for name in ("cuda:", "cuda:-1", "cuda0"):
        with pytest.raises(ArgumentError, match='a device is "cpu", "gpu" or "gpu:N"'):
            backend.check_device(name)


def test_changes_in_place_are_those_of_an_ndarray():
    x = tensor(np.float32([3, 1, 2]))
    assert x.sort() is None
    assert x.tolist() == [1, 2, 3]
    x.fill(7)
    assert x.tolist() == [7, 7, 7]
    with pytest.raises(GraphError, match="cannot be changed in place"):
        tensor(X, requires_grad=True).sort()


def test_places_are_found():
    x = tensor(np.float32([[0, 2], [3, 0]]))
    assert [i.tolist() for i in x.nonzero()] == [[0, 1], [1, 0]]
    assert x.argsort(0).tolist() == [[0, 1], [1, 0]]
    assert tensor([1.0, 2.0, 2.0, 3.0]).searchsorted(tensor([2.0, 9.0])).tolist() == [1, 4]
    assert tensor([1.0, 2.0, 2.0]).searchsorted(2, "right").item() == 3


def test_errors_name_rule_and_values():
    x = tensor(X)
    for call, kind, message in (
        (lambda: x.permute(0), ShapeError, r"permute: each axis must be given, got dims=\(0,\), shape=\(2, 3\)"),
        (lambda: x.unsqueeze(3), ShapeError, "unsqueeze: dim must be an axis, -3 to 2, got dim=3"),
        (lambda: x.flatten(1, 0), ShapeError, "flatten: start_dim must not come after end_dim, got start_dim=1"),
        (lambda: x.expand(4, 3), ShapeError, r"expand: only axes of size 1 grow, .* got shape=\(2, 3\), sizes="),
        (lambda: x.expand(3), ShapeError, "expand: only axes of size 1 grow"),
        (lambda: x.unsqueeze(0).t(), ShapeError, r"t: there must be two axes at most, got shape=\(1, 2, 3\)"),
        (lambda: x.diagonal(0, 1, 1), ShapeError, "diagonal: each axis must be given once"),
        (lambda: x[0].trace(), ShapeError, "diagonal: there must be two axes at least"),
        (lambda: x.masked_fill(X, 0), DtypeError, "masked_fill: mask must hold booleans, got dtype='float32'"),
        (lambda: x.masked_fill(X[:, :2] > 0, 0), ShapeError, r"shapes must broadcast, got condition=\(2, 2\)"),
        (lambda: x.dot(x.unsqueeze(0)), ShapeError, "dot: other must have two axes at most; use einsum, got shape="),
        (lambda: x.searchsorted(1), ShapeError, "searchsorted: x must be a vector, or have rows"),
        (lambda: tensor(1.0).nonzero(), ShapeError, "nonzero: there must be dimensions"),
        (lambda: x.round(0.5), ArgumentError, "round: decimals must be an integer, got decimals=0.5"),
    ):
        with pytest.raises(kind, match=message):
            call()

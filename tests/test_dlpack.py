"""Arrays that go to other libraries and come from them: in the same memory, or refused in words."""

import numpy as np
import pytest

import gpunn
from gpunn import backend, from_dlpack, tensor
from gpunn import functional as F
from gpunn.errors import DeviceError, DtypeError, ExportError, GraphError

DTYPES = ["float32", "float64", "float16", "int64", "int32", "uint8", "bool"]


def address(x):
    return x.__array_interface__["data"][0]


def read_only(x):
    x.flags.writeable = False
    return x


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "view",
    [lambda x: x, lambda x: x[:, ::2], lambda x: x.T, lambda x: x[:0], lambda x: x[1, 2]],
    ids=["all", "gaps", "transposed", "empty", "one"],
)
def test_numpys_arrays_keep_their_memory_both_ways(dtype, view):
    x = np.asarray(view(np.arange(12).reshape(3, 4).astype(dtype)))
    t = from_dlpack(x)
    assert t.dtype == dtype
    assert t.data.strides == x.strides
    back = np.from_dlpack(t)
    for y in (t.data, back):
        assert address(y) == address(x)
        np.testing.assert_array_equal(y, x)


@pytest.mark.peer("from_dlpack")
@pytest.mark.parametrize("dtype", DTYPES)
def test_pytorchs_tensors_keep_their_memory_both_ways(dtype):
    torch = pytest.importorskip("torch")
    theirs = torch.arange(12).reshape(3, 4).to(getattr(torch, dtype))[:, 1:]
    t = from_dlpack(theirs)
    back = torch.from_dlpack(t)
    assert address(t.data) == theirs.data_ptr() == back.data_ptr()
    assert back.dtype == theirs.dtype
    theirs[0, 0] = 0
    assert t.data[0, 0] == 0
    ours = tensor(np.arange(6.0).reshape(2, 3))
    assert torch.from_dlpack(ours).data_ptr() == address(ours.data)
    assert gpunn.tensor(theirs).dtype == dtype
    assert address(gpunn.tensor(theirs).data) == theirs.data_ptr()


def test_what_is_exported_may_be_filled_anew_before_the_backward_pass():
    x, w = tensor([[1.0, 2.0]]) * 1, tensor([[2.0, 3.0]], requires_grad=True)
    theirs = np.from_dlpack(x)
    y = F.linear(x, w)
    theirs[...] = 7
    y.sum().backward()
    assert w.grad.tolist() == [[1.0, 2.0]]
    z = F.linear(from_dlpack(theirs), w)
    theirs[...] = 9
    w.grad = None
    z.sum().backward()
    assert w.grad.tolist() == [[7.0, 7.0]]


def test_copies():
    x = np.arange(3.0)
    t = from_dlpack(x, copy=True)
    assert not np.shares_memory(t.data, x)
    assert np.shares_memory(from_dlpack(x, device="cpu", copy=False).data, x)
    assert not np.shares_memory(np.from_dlpack(t, copy=True), t.data)
    backwards = tensor(x)[::-1]
    assert np.from_dlpack(backwards, copy=True).tolist() == [2.0, 1.0, 0.0]
    fixed = from_dlpack(read_only(np.arange(3.0)))
    assert not fixed.data.flags.writeable


REFUSED = {
    "a list": (lambda: from_dlpack([1.0]), DtypeError, "x must have __dlpack__ and __dlpack_device__, got type='list'"),
    "masked": (lambda: from_dlpack(np.ma.masked_array([1.0])), DtypeError, "a masked array must be filled first"),
    "byte order": (lambda: from_dlpack(np.ones(2, ">f4")), ExportError, "cannot be taken as it is: .*byte order"),
    "texts": (lambda: from_dlpack(np.array(["a"])), ExportError, "ndarray cannot be taken as it is"),
    "a gradient": (
        lambda: np.from_dlpack(tensor([1.0], requires_grad=True)), ExportError,
        r"__dlpack__: what requires a gradient is not handed to other libraries: detach\(\) it first, got shape=\(1,\)",
    ),
    "a gradient, ours": (lambda: from_dlpack(tensor([1.0], requires_grad=True) * 2), ExportError, r"detach\(\) it"),
    "negative strides": (
        lambda: np.from_dlpack(tensor(np.arange(3.0))[::-1]), ExportError,
        r"__dlpack__: other libraries do not take negative strides: export a copy\(\), got strides=\(-8,\)",
    ),
    "another device": (lambda: from_dlpack(On((4, 0))), DeviceError, r"CPU or of a CUDA device, got device=\(4, 0\)"),
}  # fmt: skip


class On:
    """An array of another library on a device."""

    def __init__(self, device):
        self.device = device

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, **settings):
        raise AssertionError


@pytest.mark.parametrize("take", [from_dlpack, tensor])
def test_a_device_that_is_none(take):
    with pytest.raises(DeviceError, match="the device of On is not known: "):
        take(On(None))


@pytest.mark.parametrize(("take", "kind", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(take, kind, words):
    with pytest.raises(kind, match=words):
        take()


@pytest.mark.peer("from_dlpack")
def test_pytorchs_refusals_are_passed_on():
    torch = pytest.importorskip("torch")
    x = torch.ones(2, requires_grad=True)
    with pytest.raises(ExportError, match="from_dlpack: Tensor cannot be taken as it is: .*detach"):
        from_dlpack(x)
    with pytest.raises(DtypeError, match=r"asarray: data must be what NumPy takes, got type='Tensor', error=.*detach"):
        tensor(x)
    with pytest.raises(ExportError, match="Unsupported dtype"):
        from_dlpack(torch.ones(2, dtype=torch.bfloat16))
    with pytest.raises(ExportError, match="layout"):
        from_dlpack(torch.ones(2, 2).to_sparse())
    for take, op in ((from_dlpack, "from_dlpack"), (tensor, "asarray")):
        with pytest.raises(DeviceError, match=f"{op}: the device of Tensor is not known: .*meta"):
            take(torch.ones(2, device="meta"))


def test_functions_name_the_library_of_arrays_that_they_do_not_take():
    named = r"; gpunn.from_dlpack takes those of other libraries, got type='\w+.On'"
    with pytest.raises(DtypeError, match=f"relu: x must be a NumPy or CuPy array{named}"):
        F.relu(On((1, 0)))
    with pytest.raises(DtypeError, match=f"multiply: operands must be arrays or numbers{named}"):
        tensor([1.0]) * On((1, 0))
    with pytest.raises(DtypeError, match="relu: x must be a NumPy or CuPy array, got type='Tensor'"):
        gpunn.ops.activation.relu(tensor([1.0]))


@pytest.mark.skipif(not backend.why_no_gpu(), reason="a GPU is here")
def test_memory_of_a_gpu_that_is_not_here():
    with pytest.raises(DeviceError, match="from_dlpack: x lies on a GPU: "):
        from_dlpack(On((2, 0)))
    with pytest.raises(DeviceError, match="from_dlpack: x lies on a GPU: "):
        tensor(On((2, 0)))


def test_only_arrays_of_cupy_have_its_interface():
    assert not hasattr(tensor([1.0]), "__cuda_array_interface__")


@pytest.mark.gpu
@pytest.mark.parametrize("device", ["gpu:0", "gpu:1"])
def test_cupys_arrays_keep_their_memory_both_ways(device):
    import cupy

    if device == "gpu:1" and backend.gpu_count() < 2:
        pytest.skip("there is one GPU")
    for x in (
        backend.asarray(np.arange(6.0).reshape(2, 3), device=device),
        backend.asarray(np.ones((0, 2)), device=device),
    ):
        t = from_dlpack(x)
        assert t.device == device
        with cupy.cuda.Device(int(device[-1])), cupy.cuda.Stream(non_blocking=True):
            assert t.__dlpack_device__() == (2, int(device[-1]))
            for y in (t.data, cupy.from_dlpack(t), cupy.asarray(t)):
                assert y.data.ptr == x.data.ptr
                assert y.shape == x.shape
            assert tensor(Foreign(x)).data.data.ptr == x.data.ptr
        assert t.__cuda_array_interface__["data"][0] == x.data.ptr
        copy = from_dlpack(t, copy=True)
        assert copy.device == device
        assert x.size == 0 or copy.data.data.ptr != x.data.ptr
        np.testing.assert_array_equal(from_dlpack(x, device="cpu").data, backend.to_cpu(x))
        assert np.from_dlpack(t, device="cpu").shape == x.shape
        with pytest.raises(ExportError, match="from_dlpack: another device can be reached only by a copy"):
            from_dlpack(x, device="cpu", copy=False)
    with pytest.raises(ExportError, match=r"__cuda_array_interface__: what requires a gradient .* detach\(\) it first"):
        cupy.asarray(tensor(x, requires_grad=True))
    with pytest.raises(ExportError, match="negative strides"):
        cupy.from_dlpack(tensor(cupy.arange(3.0))[::-1])


class Foreign:
    """An array of a library that is not known here."""

    def __init__(self, array):
        self.__dlpack__, self.__dlpack_device__ = array.__dlpack__, array.__dlpack_device__


def test_a_backward_pass_still_refuses_arrays_that_were_changed():
    x = tensor([1.0, 2.0], requires_grad=True)
    y = x * 3
    z = y * y
    y.detach()[0] = 5
    with pytest.raises(GraphError, match="changed in place"):
        z.sum().backward()

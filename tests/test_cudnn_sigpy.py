"""sigpy, which computes convolutions of CuPy arrays by ``cupy.cudnn``, with one line changed.

Its module of convolutions is read as it is installed, and only ``from cupy import cudnn`` changed in its text. What it
asks of the rest of sigpy is loaded without that, which needs compilers, wavelets and progress bars; its settings say
that there is a cuDNN. Its functions for NumPy arrays, which call SciPy, say what is right.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from gpunn import backend

MODES = ["full", "valid"]
# sizes of data and filter (of channels before them where there are several), and strides
CASES = {
    "signals": ((3, 9), (4,), None, False),
    "signals, strided": ((9,), (4,), (2,), False),
    "images": ((2, 2, 8, 7), (3, 2), None, False),
    "images, strided": ((2, 8, 7), (3, 2), (2, 3), False),
    "several channels": ((2, 3, 8, 7), (4, 3, 3, 2), None, True),
    "several channels, strided": ((3, 8, 7), (4, 3, 3, 2), (2, 1), True),
    "volumes": ((5, 6, 4), (2, 3, 2), (1, 2, 1), False),
    "volumes, several channels": ((2, 5, 6, 4), (3, 2, 2, 3, 2), None, True),
}


@pytest.fixture(scope="module")
def conv():
    """sigpy's module ``conv``."""
    found = importlib.util.find_spec("sigpy")
    if found is None:
        pytest.skip("sigpy is not installed")
    (folder,) = map(Path, found.submodule_search_locations)
    package = ModuleType("sigpy")
    package.__path__ = [str(folder)]
    settings = {"cupy_enabled": not backend.why_no_gpu(), "cudnn_enabled": True, "mpi4py_enabled": False}
    package.config = SimpleNamespace(**settings, nccl_enabled=False, pytorch_enabled=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "sigpy", package)
        patch.setitem(sys.modules, "sigpy.config", package.config)
        text = (folder / "conv.py").read_text(encoding="utf-8")
        assert text.count("from cupy import cudnn") == 1
        module = ModuleType("sigpy.conv")
        exec(compile(text.replace("from cupy import cudnn", "from gpunn.interop import cudnn"), "conv.py", "exec"),
             vars(module))  # fmt: skip
        yield module
        for name in [name for name in sys.modules if name.startswith("sigpy.")]:
            patch.delitem(sys.modules, name)


def drawn(case, mode, dtype, conv):
    """Data, filter, an output and the settings of a case."""
    rng = np.random.default_rng(1)
    data_shape, filter_shape, strides, several = CASES[case]
    data, filt = (rng.standard_normal(s).astype(dtype) for s in (data_shape, filter_shape))
    if dtype == "complex64":
        data, filt = data + 1j * data[::-1], filt - 1j * filt[..., ::-1]
    settings = {"mode": mode, "strides": strides, "multi_channel": several}
    output = conv._convolve(data, filt, **settings)
    return data, filt, output * rng.random(output.shape).astype("f4"), settings


def assert_is_its_own(results, expected):
    for actual, right in zip(results, expected, strict=True):
        assert actual.shape == right.shape
        assert actual.dtype == right.dtype
        tolerance = 200 * np.finfo(right.dtype).eps * max(1, abs(right).max())
        np.testing.assert_allclose(backend.to_cpu(actual), right, rtol=0, atol=tolerance)


def computed(functions, x, w, y, settings):
    """Forward, the adjoint in the data and that in the filter, by three functions of these names."""
    return (
        functions.convolve(x, w, **settings),
        functions.convolve_data_adjoint(y, w, x.shape, **settings),
        functions.convolve_filter_adjoint(y, x, w.shape, **settings),
    )


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES)
def test_its_functions_for_cudnn_agree_with_scipy_on_numpy_arrays(conv, case, mode, dtype):
    *arrays, settings = drawn(case, mode, dtype, conv)
    of_cudnn = {name: getattr(conv, f"_{name}_cuda") for name in conv.__all__}
    assert_is_its_own(computed(SimpleNamespace(**of_cudnn), *arrays, settings), computed(conv, *arrays, settings))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES)
def test_its_functions_agree_with_scipy_on_cupy_arrays(conv, case, mode, dtype):
    *arrays, settings = drawn(case, mode, dtype, conv)
    assert_is_its_own(computed(conv, *map(backend.to_gpu, arrays), settings), computed(conv, *arrays, settings))

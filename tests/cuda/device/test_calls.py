"""Calls of CuPy by the hundred, against NumPy: tables in calls.py and own_calls.py, one test for each name.

On a GPU, and on the emulated device, every call has to give what NumPy gives. What the emulated device does not serve
is named in ``REFUSED``: there a call may end with an exception that says so, and must not end in any other way.
"""

import calls
import own_calls
import pytest

pytestmark = pytest.mark.gpu

REFUSED: dict[str, str] = {}

_QUICK = """
add sin divmod maximum where clip sum mean argmax median cumsum percentile histogram concatenate pad reshape tile
nonzero put sort argsort unique searchsorted dot matmul einsum linalg.norm linalg.solve linalg.svd fft.fft fft.rfft
array2string save take ndarray.__getitem__ ndarray.astype raw_kernel raw_kernel_dynamic_shared_memory
raw_module_templates raw_module_globals raw_kernel_cooperative raw_kernel_texture raw_kernel_cub_headers
elementwise_kernel reduction_kernel fuse jit_rawkernel streams events graphs memory_pool memory_async_pool
pinned_memory two_devices random.normal random.randint default_rng.random
"""
QUICK = set(_QUICK.split())


def named(names):
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in names]


def emulated() -> bool:
    from gpunn.cuda import device

    return device.running() is not None


@pytest.mark.parametrize("name", named(calls.TABLE))
def test_as_numpy_has_it(name):
    outcomes = {case.label: calls.tried(name, case) for case in calls.TABLE[name]}
    may = ("right", "refused") if name in REFUSED and emulated() else ("right",)
    assert {label: outcome for label, outcome in outcomes.items() if outcome.verdict not in may} == {}


@pytest.mark.parametrize("name", named(own_calls.TABLE))
def test_of_cupy_alone(name):
    outcome = own_calls.tried(name)
    assert outcome.verdict == ("refused" if name in REFUSED and emulated() else "right"), outcome.why


def test_the_table_is_complete():
    assert [name for name in calls.names_of_both() if name not in calls.TABLE] == []
    names = {*calls.TABLE, *own_calls.TABLE}
    assert len(names) >= 400
    assert {*QUICK, *REFUSED} <= names
    assert len(REFUSED) <= len(names) / 10

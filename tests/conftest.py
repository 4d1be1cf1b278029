import numpy as np
import pytest
from runners import WITH_KERNEL, WITHOUT_KERNEL, Runner

from gpunn import backend


@pytest.fixture(params=WITH_KERNEL)
def run(request) -> Runner:
    """Every way to run an operation that has a kernel."""
    return Runner(request.param)


@pytest.fixture(params=WITHOUT_KERNEL)
def run_xp(request) -> Runner:
    """Every way to run an operation that has none."""
    return Runner(request.param)


@pytest.fixture
def rng() -> np.random.Generator:
    return backend.random_generator(0)


def pytest_collection_modifyitems(items):
    reason = backend.why_no_gpu()
    if reason:
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason=reason))

"""Every function is compared with PyTorch's, in at least 50 random configurations.

A test marked ``@pytest.mark.peer("conv1d", "conv3d")`` compares these functions; how many configurations it draws is
read from its parametrisation by ``seed``, or from its loop ``for seed in range(60)``.
"""

import importlib
import inspect
import re
from pathlib import Path

import array_case
import pytest
import test_methods
from optimizers import ROWS

import gpunn.functional as F
from gpunn import optim
from gpunn.optim import schedule

TESTS = Path(__file__).parent
LOOP = re.compile(r"for (?:seed|draw) in range\((\d+)\):")
COMPARES = re.compile(r"@pytest\.mark\.peer\(|array_case\.tests_of\(")
NOT_IN_PYTORCH = {
    "rand_like": "other numbers",
    "randn_like": "other numbers",
    "skeletonize": "compared with scikit-image in ops/image/test_skeleton.py",
    "to_device": "a copy; test_device.py has the copies and their gradients",
}


def draws(test):
    """How many random configurations a test compares."""
    seeds = [mark.args[1] for mark in test.pytestmark if mark.name == "parametrize" and mark.args[0] == "seed"]
    source = inspect.getsource(test)
    if "assert_is_pytorch(" in source:
        return array_case.DRAWS
    return len(seeds[0]) if seeds else max(map(int, LOOP.findall(source)), default=0)


@pytest.fixture(scope="module")
def compared():
    """The largest number of configurations in which a test compares each function."""
    found = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        if not COMPARES.search(path.read_text()) or path.name == Path(__file__).name:
            continue
        module = importlib.import_module(".".join(path.relative_to(TESTS).with_suffix("").parts))
        for test in vars(module).values():
            for mark in getattr(test, "pytestmark", ()) if inspect.isfunction(test) else ():
                if mark.name == "peer":
                    found |= {name: max(draws(test), found.get(name, 0)) for name in mark.args}
    return found


@pytest.mark.parametrize("name", F.__all__)
def test_every_function_is_compared_with_pytorch(compared, name):
    assert (name in NOT_IN_PYTORCH) != (compared.get(name, 0) >= 50), compared.get(name)


OPERATORS = {
    "__add__": "add", "__sub__": "subtract", "__mul__": "multiply", "__truediv__": "divide", "__neg__": "negative",
    "__pow__": "power of a tensor", "__pow__ a number": "power of a number", "__rpow__": "number to a power",
    "__matmul__": "matmul", "__abs__": "abs as a builtin", "__getitem__": "getitem",
}  # fmt: skip
# The others are these in another form: reflected, in place, row by row.
METHODS = [name for name in test_methods.METHODS if "," not in name and name[0] != "_" and name != "astype"]


@pytest.mark.parametrize("name", [*OPERATORS.values(), *METHODS])
def test_every_method_is_compared_with_pytorch(compared, name):
    assert compared[name] >= 50


def test_every_operator_is_a_method():
    assert OPERATORS.keys() < test_methods.METHODS.keys()


def classes(module, base):
    return [name for name, kind in vars(module).items() if inspect.isclass(kind) and issubclass(kind, base)]


@pytest.mark.parametrize(
    "name", [*classes(schedule, schedule.Schedule), "ReduceLROnPlateau", "clip_grad_norm", "clip_grad_value", "EMA"]
)
def test_what_accompanies_an_optimizer_is_compared_with_pytorch(compared, name):
    assert (name == "Schedule") != (compared.get(name, 0) >= 50)  # the base class


def test_every_optimizer_is_compared_with_pytorch(compared):
    told = {row.make.__name__ for row in ROWS if row.in_pytorch}  # each follows PyTorch's over fifty steps
    # PyTorch has no LAMB: ops/optimizer/test_optimizer.py and test_optim.py compare it with its formula.
    alone = {row.make.__name__ for row in ROWS if not row.in_pytorch}
    # What the table cannot hold, a state for several elements for instance, has PyTorch's samples.
    by_samples = {"Adafactor", "LBFGS", "Muon", "Rprop"}
    assert set(classes(optim, optim.Optimizer)) - told == {"Optimizer"} | alone | by_samples
    assert by_samples < compared.keys()


@pytest.mark.peer
def test_the_optimizers_that_pytorch_has_are_compared_with_it():
    torch = pytest.importorskip("torch")
    assert {row.make.__name__: hasattr(torch.optim, row.make.__name__) for row in ROWS} == {
        row.make.__name__: row.in_pytorch for row in ROWS
    }

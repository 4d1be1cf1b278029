import itertools

import array_case
import numpy as np
import pytest
from array_case import Case

from gpunn import functional as F
from gpunn import tensor
from gpunn.errors import ArgumentError, DtypeError, ShapeError
from gpunn.ops import array as ops
from gpunn.testing import check_gradients

EQUATIONS = [
    "ij,jk->ik", "ij,jk", "bij,bjk->bik", "i,i->", "i,j->ij", "ij->ji", "ij->", "ij->j", "ijk,k,j->i", "ij,kl->il",
    "bhqd,bhkd->bhqk", "ij,ij,ij->i", "ba", "ii->i", "ii", "iji,ik->kj", "jj,jkj->k",
]  # fmt: skip


def draw(rng):
    equation = EQUATIONS[rng.integers(len(EQUATIONS))]
    sizes = dict(zip("abdhijklq", map(int, rng.integers(1, 5, 9)), strict=True))
    shapes = [[sizes[letter] for letter in term] for term in equation.split("->")[0].split(",")]
    return [array_case.distinct(rng, shape) for shape in shapes], {"equation": equation}


def einsum_loop(*arrays, equation):
    terms, result = ops.parts(equation, len(arrays))
    sizes = {letter: n for term, a in zip(terms, arrays, strict=True) for letter, n in zip(term, a.shape, strict=True)}
    y = np.zeros([sizes[letter] for letter in result])
    for values in itertools.product(*map(range, sizes.values())):
        place = dict(zip(sizes, values, strict=True))
        product = 1.0
        for term, a in zip(terms, arrays, strict=True):
            product *= float(a[tuple(place[letter] for letter in term)])
        y[tuple(place[letter] for letter in result)] += product
    return y


CASE = Case(
    draw, lambda *x, equation: F.einsum(equation, *x), einsum_loop, lambda t, *x, equation: t.einsum(equation, *x)
)


def test_forward_is_the_naive_loop(run_xp, rng):
    array_case.assert_is_the_loop(run_xp, CASE, rng)


@pytest.mark.parametrize("seed", range(4))
def test_backward_is_the_directional_difference(seed):
    array_case.assert_gradients(CASE, np.random.default_rng(seed))


def test_gradients_keep_the_dtype(rng):
    array_case.assert_gradients_keep_the_dtype(CASE, rng)


@pytest.mark.peer("einsum")
def test_matches_pytorch():
    array_case.assert_is_pytorch(CASE)


# (equation, shapes, the same with letters alone, the shapes to broadcast to)
SPELT_OUT = [
    ("...ij,...jk->...ik", [(2, 3, 4), (4, 5)], "nij,jk->nik", [(2, 3, 4), (4, 5)]),
    ("...ij,...jk", [(2, 1, 3, 4), (3, 4, 5)], "nmij,mjk->nmik", [(2, 3, 3, 4), (3, 4, 5)]),
    ("i...,...->i", [(2, 3, 4), (4,)], "inm,m->i", [(2, 3, 4), (4,)]),
    ("...ii->...", [(2, 3, 3)], "nii->n", [(2, 3, 3)]),
    ("ij,jk->ik", [(2, 1), (3, 4)], "ij,jk->ik", [(2, 3), (3, 4)]),
    ("ij,ij->j", [(1, 3), (2, 1)], "ij,ij->j", [(2, 3), (2, 3)]),
    ("ii,i->i", [(1, 1), (3,)], "i,i->i", [(3,), (3,)]),
]


@pytest.mark.parametrize(("equation", "shapes", "plain", "wide"), SPELT_OUT)
def test_ellipses_and_sizes_of_1_broadcast(run_xp, rng, equation, shapes, plain, wide):
    arrays = [rng.standard_normal(shape) for shape in shapes]
    spread = [
        np.broadcast_to(a.reshape(1) if b == (3,) and a.ndim == 2 else a, b) for a, b in zip(arrays, wide, strict=True)
    ]
    y = run_xp(lambda *a: F.einsum(equation, *a), *arrays)
    np.testing.assert_allclose(y, np.einsum(plain, *spread), rtol=1e-12)
    check_gradients(lambda *a: F.einsum(equation, *a), arrays)


@pytest.mark.peer("einsum")
@pytest.mark.parametrize(("equation", "shapes"), [row[:2] for row in SPELT_OUT])
def test_ellipses_match_pytorch(equation, shapes):
    case = Case(
        lambda rng: ([rng.standard_normal(shape) for shape in shapes], {}),
        lambda *x: F.einsum(equation, *x), None, lambda t, *x: t.einsum(equation, *x),
    )  # fmt: skip
    array_case.assert_is_pytorch(case)


def test_an_empty_axis_sums_to_0(run_xp):
    assert run_xp(lambda a, b: F.einsum("ij,jk->ik", a, b), np.ones((2, 0)), np.ones((0, 1))).tolist() == [[0], [0]]


def test_only_what_needs_a_gradient_gets_one():
    a, b = tensor([[1.0, 2.0]], requires_grad=True), tensor([3.0, 4.0])
    F.einsum("ij,j->i", a, b).sum().backward()
    assert (a.grad.tolist(), b.grad) == ([[3, 4]], None)


def test_errors_name_rule_and_values():
    x = np.ones((2, 3))
    for equation in ("i..->i", "ij->i1", "i j;->i", "...i...->i"):
        with pytest.raises(ArgumentError, match="axes are named by letters, as in .*, and '...' once .*got equation="):
            F.einsum(equation, x)
    with pytest.raises(ArgumentError, match="a letter may occur once in the result, got equation='ij->ii'"):
        F.einsum("ij->ii", x)
    with pytest.raises(ArgumentError, match="the result's letters must be the operands', got equation='ij->...'"):
        F.einsum("ij->...", x)
    with pytest.raises(ShapeError, match=r"axes of one letter must have one size, 'i', got sizes=\(2, 3\)"):
        F.einsum("ii->i", x)
    with pytest.raises(ShapeError, match=r"each letter needs an axis, got letters='...ijk', shape=\(2, 3\)"):
        F.einsum("...ijk->i", x)
    with pytest.raises(ArgumentError, match="the result's letters must be the operands', got equation='ij->k'"):
        F.einsum("ij->k", x)
    with pytest.raises(ArgumentError, match="each operand needs its letters, got equation='ij->i', operands=2"):
        F.einsum("ij->i", x, x)
    with pytest.raises(ShapeError, match=r"each axis needs a letter, got letters='ijk', shape=\(2, 3\)"):
        F.einsum("ijk->i", x)
    with pytest.raises(ShapeError, match=r"axes of one letter must have one size, 'j', got sizes=\(3, 2\)"):
        F.einsum("ij,jk->ik", x, x)
    with pytest.raises(DtypeError, match="einsum: operand 0 must be a floating array, got dtype='int64'"):
        F.einsum("i->", np.array([1]))

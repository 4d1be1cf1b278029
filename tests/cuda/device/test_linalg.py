"""CuPy's linear algebra has the properties that define it, on a GPU and on the emulated device."""

import numpy as np
import pytest
import scipy.linalg

from gpunn.cuda import device

cupy = pytest.importorskip("cupy")

pytestmark = pytest.mark.gpu

emulated = pytest.mark.skipif(device._running is None, reason="looks into the emulated device")

DTYPES = "fdFD"
SQUARE = [(1, 1), (6, 6), (40, 40), (3, 4, 4), (2, 2, 35, 35)]
ANY = [(1, 1), (7, 4), (4, 7), (40, 33), (3, 5, 2), (3, 2, 5), (2, 40, 35), (2, 35, 40)]


def numbers(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    found = rng.normal(size=shape)
    if dtype in "FD":
        found = found + 1j * rng.normal(size=shape)
    return found.astype(dtype)


def regular(shape, dtype):
    return numbers(shape, dtype) + (shape[-1] ** 0.5 * 3 * np.eye(shape[-1])).astype(dtype)


def definite(shape, dtype):
    a = numbers(shape, dtype)
    return a @ a.conj().swapaxes(-1, -2) / shape[-1] + np.eye(shape[-1], dtype=dtype)


def hermitian(shape, dtype):
    a = numbers(shape, dtype)
    return (a + a.conj().swapaxes(-1, -2)) / 2


def tolerance(dtype, *sizes):
    return 40 * max(sizes) * np.finfo(dtype).eps


def close(got, want, tol):
    got, want = cupy.asnumpy(got), cupy.asnumpy(want)
    assert got.shape == want.shape
    scale = max(1.0, float(np.abs(want).max(initial=0)))
    np.testing.assert_allclose(got, want, rtol=0, atol=tol * scale)


def adjoint(a):
    return a.conj().swapaxes(-1, -2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SQUARE)
@pytest.mark.parametrize("columns", [1, 3])
def test_solve(shape, columns, dtype):
    a, b = regular(shape, dtype), numbers((*shape[:-1], columns), dtype, 1)
    x = cupy.linalg.solve(cupy.asarray(a), cupy.asarray(b))
    assert x.dtype == dtype
    close(a @ x.get(), b, tolerance(dtype, shape[-1]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_solve_for_a_vector_takes_the_matrix_as_it_lies(dtype):
    a, b = regular((6, 6), dtype), numbers(6, dtype, 1)
    for order in "CF":
        on_device = cupy.asarray(a, order=order)
        close(a @ cupy.linalg.solve(on_device, cupy.asarray(b)).get(), b, tolerance(dtype, 6))
        assert (on_device.get() == a).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SQUARE)
@pytest.mark.parametrize("order", "CF")
def test_inv(shape, order, dtype):
    a = regular(shape, dtype)
    close(cupy.linalg.inv(cupy.asarray(a, order=order)), np.linalg.inv(a), tolerance(dtype, shape[-1]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_stack_with_singular_matrices(dtype):
    a = np.arange(16, dtype=dtype).reshape(4, 2, 2)
    a[0] = a[3] = 0
    inverse = cupy.linalg.inv(cupy.asarray(a)).get()
    close(inverse[1:3], np.linalg.inv(a[1:3]), tolerance(dtype, 2))
    assert not np.isfinite(inverse[[0, 3]]).any()
    np.testing.assert_allclose(cupy.linalg.cond(cupy.asarray(a), 1).get(), np.linalg.cond(a, 1), rtol=1e-3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [*SQUARE, (300, 300)])
def test_determinants(shape, dtype):
    a = regular(shape, dtype) / 8
    sign, logarithm = cupy.linalg.slogdet(cupy.asarray(a))
    want_sign, want_logarithm = np.linalg.slogdet(a.astype(np.result_type(dtype, "d")))
    close(sign, want_sign, tolerance(dtype, shape[-1]))
    close(logarithm, want_logarithm, tolerance(dtype, shape[-1]))
    if shape[-1] < 40:
        close(cupy.linalg.det(cupy.asarray(a)), np.linalg.det(a), tolerance(dtype, shape[-1]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_determinant_of_a_singular_matrix(dtype):
    a = cupy.asarray(np.array([[1, 2], [2, 4]], dtype))
    assert cupy.linalg.det(a) == 0
    sign, logarithm = cupy.linalg.slogdet(a)
    assert sign == 0
    assert logarithm == -np.inf


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SQUARE)
def test_cholesky(shape, dtype):
    a = definite(shape, dtype)
    lower = cupy.linalg.cholesky(cupy.asarray(a)).get()
    assert (np.triu(lower, 1) == 0).all()
    assert (np.diagonal(lower, axis1=-2, axis2=-1).real > 0).all()
    close(lower @ adjoint(lower), a, tolerance(dtype, shape[-1]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_cholesky_reads_one_triangle(dtype):
    a = definite((5, 5), dtype)
    spoilt = np.tril(a) + np.triu(numbers((5, 5), dtype, 9), 1)
    close(cupy.linalg.cholesky(cupy.asarray(spoilt)), np.linalg.cholesky(a), tolerance(dtype, 5))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", ANY)
@pytest.mark.parametrize("mode", ["reduced", "complete"])
def test_qr(shape, mode, dtype):
    a = numbers(shape, dtype)
    q, r = (part.get() for part in cupy.linalg.qr(cupy.asarray(a), mode))
    rows, columns = shape[-2:]
    inner = rows if mode == "complete" else min(rows, columns)
    assert q.shape[-2:] == (rows, inner)
    assert r.shape[-2:] == (inner, columns)
    assert q.dtype == r.dtype == dtype
    tol = tolerance(dtype, rows, columns)
    close(q @ r, a, tol)
    close(adjoint(q) @ q, np.broadcast_to(np.eye(inner), (*shape[:-2], inner, inner)), tol)
    assert (np.tril(r, -1) == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(7, 4), (4, 7), (3, 5, 2), (3, 2, 5)])
def test_qr_without_q_and_raw(shape, dtype):
    a = numbers(shape, dtype)
    tol = tolerance(dtype, *shape[-2:])
    r = cupy.linalg.qr(cupy.asarray(a), "r").get()
    assert (np.tril(r, -1) == 0).all()
    close(adjoint(r) @ r, adjoint(a) @ a, tol)
    h, tau = (part.get() for part in cupy.linalg.qr(cupy.asarray(a), "raw"))
    rows, columns = shape[-2:]
    k = min(rows, columns)
    assert h.shape[-2:] == (columns, rows)
    assert tau.shape[-1] == k
    reflectors = np.swapaxes(h, -1, -2)
    for index in np.ndindex(shape[:-2]):
        q = np.eye(rows, dtype=dtype)
        for j in range(k):
            v = np.tril(reflectors[index], -1)[:, j].copy()
            v[j] = 1
            q = q @ (np.eye(rows, dtype=dtype) - tau[index][j] * np.outer(v, v.conj()))
        close(q @ np.triu(reflectors[index]), a[index], tol)


def check_svd(a, u, s, vh, full, dtype):
    rows, columns = a.shape[-2:]
    k, tol = min(rows, columns), tolerance(dtype, rows, columns)
    assert u.shape[-2:] == (rows, rows if full else k)
    assert vh.shape[-2:] == (columns if full else k, columns)
    assert (np.diff(s) <= 0).all()
    close(s, np.linalg.svd(a, compute_uv=False), tol)
    close((u[..., :k] * s[..., None, :]) @ vh[..., :k, :], a, tol)
    for vectors in (u, adjoint(vh)):
        product = adjoint(vectors) @ vectors
        close(product, np.broadcast_to(np.eye(product.shape[-1]), product.shape), tol)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", ANY)
@pytest.mark.parametrize("full", [True, False])
def test_svd(shape, full, dtype):
    a = numbers(shape, dtype)
    u, s, vh = cupy.linalg.svd(cupy.asarray(a), full_matrices=full)
    assert s.dtype == dtype.lower()
    check_svd(a, u.get(), s.get(), vh.get(), full, dtype)
    close(cupy.linalg.svd(cupy.asarray(a), compute_uv=False), s, tolerance(dtype, *shape))


@pytest.mark.parametrize("dtype", DTYPES)
def test_svd_of_a_matrix_without_full_rank(dtype):
    a = numbers((6, 2), dtype) @ numbers((2, 5), dtype, 1)
    u, s, vh = cupy.linalg.svd(cupy.asarray(a))
    check_svd(a, u.get(), s.get(), vh.get(), True, dtype)
    assert (s.get()[2:] < tolerance(dtype, 6) * s.get()[0]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SQUARE)
@pytest.mark.parametrize("triangle", "LU")
def test_eigh(shape, triangle, dtype):
    a = hermitian(shape, dtype)
    other = np.triu if triangle == "L" else np.tril
    spoilt = a + other(numbers(shape, dtype, 7), 1 if triangle == "L" else -1)
    w, v = (part.get() for part in cupy.linalg.eigh(cupy.asarray(spoilt), triangle))
    tol = tolerance(dtype, shape[-1])
    assert w.dtype == dtype.lower()
    close(w, np.linalg.eigvalsh(a), tol)
    close(a @ v, v * w[..., None, :], tol)
    close(adjoint(v) @ v, np.broadcast_to(np.eye(shape[-1]), shape), tol)
    close(cupy.linalg.eigvalsh(cupy.asarray(spoilt), triangle), w, tol)


def has_geev():
    from cupyx.cusolver import check_availability

    return check_availability("geev")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (7, 7), (3, 4, 4)])
def test_eig(shape, dtype):
    if not has_geev():
        pytest.skip("this cuSOLVER has no geev")
    a = numbers(shape, dtype)
    w, v = (part.get() for part in cupy.linalg.eig(cupy.asarray(a)))
    tol = tolerance(dtype, shape[-1])
    close(a @ v, v * w[..., None, :], 10 * tol)
    close(np.linalg.norm(v, axis=-2), np.ones(w.shape), tol)
    alone = cupy.linalg.eigvals(cupy.asarray(a)).get()
    close(np.sort_complex(alone.round(2)), np.sort_complex(np.linalg.eigvals(a).round(2)), 0.05)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(7, 4), (4, 7), (5, 5)])
@pytest.mark.parametrize("columns", [None, 3])
def test_lstsq(shape, columns, dtype):
    a = numbers(shape, dtype)
    b = numbers(shape[:1] if columns is None else (shape[0], columns), dtype, 1)
    x, _, rank, s = cupy.linalg.lstsq(cupy.asarray(a), cupy.asarray(b))
    want, _, want_rank, want_s = np.linalg.lstsq(a, b)
    close(x, want, 30 * tolerance(dtype, *shape))
    assert rank == want_rank
    close(s, want_s, tolerance(dtype, *shape))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(7, 4), (4, 7), (3, 5, 5)])
def test_pinv_norm_and_rank(shape, dtype):
    a = numbers(shape, dtype)
    tol = 10 * tolerance(dtype, *shape)
    inverse = cupy.linalg.pinv(cupy.asarray(a)).get()
    close(a @ inverse @ a, a, tol)
    close(inverse @ a @ inverse, inverse, tol)
    close(adjoint(a @ inverse), a @ inverse, tol)
    assert (cupy.linalg.matrix_rank(cupy.asarray(a)).get() == min(shape[-2:])).all()
    for order in (None, "fro", "nuc", 2, -2, 1, np.inf):
        axis = (-2, -1)
        got, want = cupy.linalg.norm(cupy.asarray(a), order, axis), np.linalg.norm(a, order, axis)
        close(got, want, tol)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rank_of_a_matrix_without_full_rank(dtype):
    a = numbers((6, 2), dtype) @ numbers((2, 5), dtype, 1)
    assert cupy.linalg.matrix_rank(cupy.asarray(a)) == 2


@pytest.mark.parametrize("dtype", DTYPES)
def test_tensorsolve_and_tensorinv(dtype):
    a = regular((6, 6), dtype).reshape(2, 3, 6)
    b = numbers((2, 3), dtype, 1)
    x = cupy.linalg.tensorsolve(cupy.asarray(a), cupy.asarray(b))
    close(np.tensordot(a, x.get(), 1), b, tolerance(dtype, 6))
    close(np.tensordot(cupy.linalg.tensorinv(cupy.asarray(a)).get(), b, 2), x, tolerance(dtype, 6))


EMPTY = [(0, 0), (3, 0, 0), (0, 4, 4)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", EMPTY)
def test_nothing_to_compute(shape, dtype):
    a, on_device = np.zeros(shape, dtype), cupy.zeros(shape, dtype)
    for name in ("inv", "cholesky", "pinv", "eigvalsh", "det"):
        got, want = getattr(cupy.linalg, name)(on_device), getattr(np.linalg, name)(a)
        assert (got.shape, got.dtype) == (want.shape, want.dtype), name
        np.testing.assert_array_equal(got.get(), want)
    for name in ("qr", "eigh"):
        got, want = getattr(cupy.linalg, name)(on_device), getattr(np.linalg, name)(a)
        assert [part.shape for part in got] == [part.shape for part in want], name
    u, s, vh = cupy.linalg.svd(on_device)
    assert (u.shape, s.shape, vh.shape) == (shape, shape[:-1], shape)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 0, 3), (2, 3, 0)])
def test_nothing_to_decompose(shape, dtype):
    for full in (True, False):
        got = cupy.linalg.svd(cupy.zeros(shape, dtype), full_matrices=full)
        want = np.linalg.svd(np.zeros(shape, dtype), full_matrices=full)
        for part, wanted in zip(got, want, strict=True):
            np.testing.assert_array_equal(part.get(), wanted)
    for mode in ("reduced", "complete"):
        got = cupy.linalg.qr(cupy.zeros(shape, dtype), mode)
        want = np.linalg.qr(np.zeros(shape, dtype), mode)
        for part, wanted in zip(got, want, strict=True):
            np.testing.assert_array_equal(part.get(), wanted)


SINGULAR = {
    "solve": lambda a: cupy.linalg.solve(a, a[..., 0]),
    "solve many": lambda a: cupy.linalg.solve(a, a),
    "inv": cupy.linalg.inv,
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("how", "shape"),
    [("solve", (2, 2)), ("solve many", (2, 2)), ("solve many", (3, 2, 2)), ("inv", (2, 2)), ("inv", (3, 2, 2))],
)
def test_a_singular_matrix_is_told_of_when_asked(how, shape, dtype):
    import cupyx

    a = cupy.asarray(np.broadcast_to(np.array([[1, 2], [2, 4]], dtype), shape))
    with cupyx.errstate(linalg="raise"), pytest.raises(np.linalg.LinAlgError):
        SINGULAR[how](a)
    with cupyx.errstate(linalg="ignore"):
        assert SINGULAR[how](a).shape


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 3), (2, 3, 3)])
def test_a_matrix_that_is_not_positive_definite_is_told_of(shape, dtype):
    import cupyx

    a = definite(shape, dtype)
    a[..., 2, 2] = -1
    with cupyx.errstate(linalg="raise"), pytest.raises(np.linalg.LinAlgError, match=r"devInfo = .*3"):
        cupy.linalg.cholesky(cupy.asarray(a))


@pytest.mark.parametrize("dtype", DTYPES)
def test_lu_solve(dtype):
    import cupyx.scipy.linalg as linalg

    a = regular((6, 6), dtype)
    factored = linalg.lu_factor(cupy.asarray(a))
    want, want_pivots = scipy.linalg.lu_factor(a)
    close(factored[0], want, tolerance(dtype, 6))
    assert (factored[1].get() == want_pivots).all()
    for trans, operated in enumerate((a, a.T, a.conj().T)):
        for shape in ((6,), (6, 3)):
            b = numbers(shape, dtype, 1)
            x = linalg.lu_solve(factored, cupy.asarray(b), trans=trans).get()
            close(operated @ x, b, tolerance(dtype, 6))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 5), (7, 4), (4, 7)])
def test_lu(shape, dtype):
    import cupyx.scipy.linalg as linalg

    a = numbers(shape, dtype)
    p, lower, upper = (part.get() for part in linalg.lu(cupy.asarray(a)))
    assert (np.triu(lower, 1) == 0).all()
    assert (np.diagonal(lower) == 1).all()
    assert (np.tril(upper, -1) == 0).all()
    close(p @ lower @ upper, a, tolerance(dtype, *shape))
    for got, want in zip((p, lower, upper), scipy.linalg.lu(a), strict=True):
        close(got, want, tolerance(dtype, *shape))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("trans", [0, 1, 2])
def test_solve_triangular(trans, lower, dtype):
    import cupyx.scipy.linalg as linalg

    a, b = regular((6, 6), dtype), numbers((6, 3), dtype, 1)
    for unit in (False, True):
        settings = {"trans": trans, "lower": lower, "unit_diagonal": unit}
        got = linalg.solve_triangular(cupy.asarray(a), cupy.asarray(b), **settings)
        close(got, scipy.linalg.solve_triangular(a, b, **settings), 10 * tolerance(dtype, 6))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (4, 9)])
def test_lapack_gels(shape, dtype):
    from cupyx import lapack

    a, b = numbers(shape, dtype), numbers((shape[0], 2), dtype, 1)
    close(lapack.gels(cupy.asarray(a), cupy.asarray(b)), np.linalg.lstsq(a, b)[0], 100 * tolerance(dtype, *shape))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 5), (3, 5, 5)])
@pytest.mark.parametrize("columns", [1, 2])
def test_lapack_posv_and_potrs(shape, columns, dtype):
    from cupyx import lapack

    a, b = definite(shape, dtype), numbers((*shape[:-1], columns), dtype, 1)
    x = lapack.posv(cupy.asarray(a), cupy.asarray(b)).get()
    close(a @ x, b, tolerance(dtype, 5))
    factor = cupy.linalg.cholesky(cupy.asarray(a))
    close(lapack.potrs(factor, cupy.asarray(b), True), x, tolerance(dtype, 5))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(6, 6), (7, 4), (4, 7)])
def test_jacobi_svd(shape, dtype):
    from cupyx import cusolver

    a = numbers(shape, dtype)
    for full in (True, False):
        u, s, v = (part.get() for part in cusolver.gesvdj(cupy.asarray(a), full_matrices=full))
        check_svd(a, u, s, adjoint(v), full, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(6, 6), (3, 7, 4)])
def test_approximate_svd(shape, dtype):
    from cupyx import cusolver

    a = numbers(shape, dtype)
    u, s, v = (part.get() for part in cusolver.gesvda(cupy.asarray(a)))
    close((u * s[..., None, :]) @ adjoint(v), a, 100 * tolerance(dtype, *shape))


@pytest.mark.parametrize("dtype", DTYPES)
def test_solvers_of_mixed_precision(dtype):
    from cupyx import cusolver

    a, b = regular((6, 6), dtype), numbers((6, 2), dtype, 1)
    close(a @ cusolver.gesv(cupy.asarray(a), cupy.asarray(b)).get(), b, tolerance(dtype, 6))
    a, b = numbers((8, 5), dtype), numbers((8, 2), dtype, 1)
    close(cusolver.gels(cupy.asarray(a), cupy.asarray(b)), np.linalg.lstsq(a, b)[0], 30 * tolerance(dtype, 8))


def test_work_is_in_the_order_of_its_stream():
    a = definite((8, 8), "d")
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        on_device = cupy.asarray(a)
        lower = cupy.linalg.cholesky(on_device)
        on_device[...] = 0
        product = lower @ lower.T
    stream.synchronize()
    close(product, a, tolerance("d", 8))


@emulated
@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_that_are_not_finite_stay_so(dtype):
    a = numbers((4, 4), dtype)
    a[2, 1] = a[1, 2] = np.nan
    assert np.isnan(cupy.linalg.svd(cupy.asarray(a), compute_uv=False).get()).all()
    assert np.isnan(cupy.linalg.eigvalsh(cupy.asarray(a)).get()).all()


@emulated
def test_what_is_not_served_is_refused_by_name():
    from cupy_backends.cuda.libs import cusolver

    for name in ("sgebrd", "zsytrf", "dcsreigvsi", "xsyevjGetSweeps"):
        with pytest.raises(NotImplementedError, match=f"cuSOLVER: {name} is not served by the emulated device"):
            getattr(cusolver, name)(1, 2, 3)


@emulated
def test_wrong_arguments_are_refused():
    from cupy_backends.cuda.libs import cusolver

    handle = cusolver.create()
    with pytest.raises(cusolver.CUSOLVERError, match="INVALID_VALUE"):
        cusolver.spotrf(handle, 0, 4, 0, 3, 0, 0, 0)
    if not device.running().late:  # then it is told when the device is broken by it
        with pytest.raises(RuntimeError, match="null pointer"):
            cusolver.spotrf(handle, 0, 4, 0, 4, 0, 0, 0)
    cusolver.destroy(handle)
    with pytest.raises(cusolver.CUSOLVERError, match="NOT_INITIALIZED"):
        cusolver.spotrf(handle, 0, 4, 0, 4, 0, 0, 0)


@emulated
def test_a_capture_is_refused():
    a = cupy.eye(3)
    cupy.linalg.cholesky(a)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        try:
            with pytest.raises(NotImplementedError, match="capture"):
                cupy.linalg.cholesky(a)
        finally:
            stream.end_capture()


@emulated
def test_without_scipy_it_is_refused(monkeypatch):
    import sys

    from cupy_backends.cuda.libs import cusolver

    a = cupy.eye(3)
    monkeypatch.setitem(sys.modules, "scipy.linalg.lapack", None)
    with pytest.raises(RuntimeError, match="cuSOLVER: dpotrf: .* SciPy, which is not installed"):
        cupy.linalg.cholesky(a)
    # The loops over batches of QR are the wheel's own, in C.
    with pytest.raises(cusolver.CUSOLVERError, match="cuSOLVER: dgeqrf: .* SciPy, which is not installed"):
        cupy.linalg.qr(cupy.stack([a, a]))

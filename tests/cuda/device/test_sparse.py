"""CuPy's sparse matrices against SciPy's, on a GPU and on the emulated device."""

import importlib
import importlib.util

import numpy as np
import pytest
import scipy.sparse

from gpunn.cuda import device

cupy = pytest.importorskip("cupy")

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore:.*format is required:Warning")]

emulated = pytest.mark.skipif(device._running is None, reason="looks into the emulated device")

DTYPES = "fdFD"
FORMATS = ["csr", "csc", "coo"]
SHAPES = [(1, 1), (5, 5), (7, 3), (3, 8)]
DENSITIES = [0, 0.4, 1]


@pytest.fixture(scope="module")
def sparse():
    return importlib.import_module("cupyx.scipy.sparse")


def numbers(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    found = rng.normal(size=shape)
    if dtype in "FD":
        found = found + 1j * rng.normal(size=shape)
    return found.astype(dtype)


def thinned(shape, dtype, density=0.4, seed=0):
    found = numbers(shape, dtype, seed)
    found[np.random.default_rng(seed + 100).random(shape) >= density] = 0
    return found


def regular(n, dtype):
    return thinned((n, n), dtype) + (4 * np.eye(n)).astype(dtype)


def plain(a):
    a = a.toarray() if hasattr(a, "toarray") else a
    return cupy.asnumpy(a)


def close(got, want, dtype, factor=100):
    got, want = plain(got), plain(want)
    assert got.shape == want.shape
    scale = max(1.0, float(np.abs(want).max(initial=0)))
    np.testing.assert_allclose(got, want, rtol=0, atol=factor * np.finfo(dtype).eps * scale)


def both(sparse, dense, form):
    """The same matrix for SciPy and for CuPy."""
    ours = getattr(scipy.sparse, f"{form}_matrix")(dense)
    return ours, getattr(sparse, f"{form}_matrix")(ours)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("shape", SHAPES)
def test_conversions(sparse, shape, density, form, dtype):
    dense = thinned(shape, dtype, density)
    ours, theirs = both(sparse, dense, form)
    of_dense = getattr(sparse, f"{form}_matrix")(cupy.asarray(dense))
    assert of_dense.nnz == np.count_nonzero(dense)
    for found in (theirs, of_dense):
        assert found.dtype == dtype
        np.testing.assert_array_equal(plain(found), dense)
        np.testing.assert_array_equal(plain(found.T), dense.T)
        for other in FORMATS:
            converted = found.asformat(other)
            assert converted.format == other
            np.testing.assert_array_equal(plain(converted), dense)
            back = converted.get()
            np.testing.assert_array_equal(back.toarray(), dense)
            assert back.nnz == ours.nnz


PRODUCTS = {
    "a vector": lambda s, x: s @ x(s.shape[1]),
    "a matrix": lambda s, x: s @ x(s.shape[1], 3),
    "a transposed one": lambda s, x: s.T @ x(s.shape[0], 2),
    "from the left": lambda s, x: x(3, s.shape[0]) @ s,
    "a sparse one": lambda s, x: s @ s.T,
    "a sparse one transposed": lambda s, x: s.T @ s,
    "a conjugate": lambda s, x: s.conj().T @ s,
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("shape", SHAPES)
def test_products(sparse, shape, density, form, dtype):
    ours, theirs = both(sparse, thinned(shape, dtype, density), form)
    for name, product in PRODUCTS.items():
        want = product(ours, lambda *sizes: numbers(sizes, dtype, 1))
        got = product(theirs, lambda *sizes: cupy.asarray(numbers(sizes, dtype, 1)))
        assert got.dtype == want.dtype, name
        close(got, want, dtype)


ARITHMETIC = {
    "a sum": lambda s: s + s.T.T * 2,
    "a difference": lambda s: s - (s * 3).tocsr(),
    "the same taken away": lambda s: s - s,
    "places multiplied": lambda s: s.multiply(s),
    "scaled": lambda s: s * 3,
    "all summed": lambda s: s.sum(),
    "rows summed": lambda s: s.sum(axis=0),
    "columns summed": lambda s: s.sum(axis=1),
    "mean": lambda s: s.mean(),
    "diagonal": lambda s: s.diagonal(),
    "a row": lambda s: s.tocsr()[0],
    "a slice": lambda s: s.tocsr()[0:2, 0:1],
    "rows picked": lambda s: s.tocsr()[[0, 0]],
    "columns picked": lambda s: s.tocsc()[:, [0]],
    "power": lambda s: s.power(2),
    "size": lambda s: abs(s),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("shape", SHAPES)
def test_arithmetic(sparse, shape, density, form, dtype):
    ours, theirs = both(sparse, thinned(shape, dtype, density), form)
    for compute in ARITHMETIC.values():
        close(compute(theirs), np.asarray(plain(compute(ours))), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_matrices_are_put_together(sparse, dtype):
    ours, theirs = both(sparse, thinned((4, 4), dtype), "csr")
    for name in ("hstack", "vstack"):
        close(getattr(sparse, name)([theirs, theirs]), getattr(scipy.sparse, name)([ours, ours]), dtype)
    close(sparse.kron(theirs, theirs), scipy.sparse.kron(ours, ours), dtype)
    for name in ("tril", "triu"):
        close(getattr(sparse, name)(theirs), getattr(scipy.sparse, name)(ours), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", ["csr", "csc"])
def test_indices_are_sorted(sparse, form, dtype):
    data, indices, starts = numbers(5, dtype), np.array([3, 0, 2, 1, 0]), np.array([0, 3, 3, 5])
    shape = (3, 4) if form == "csr" else (4, 3)
    ours = getattr(scipy.sparse, f"{form}_matrix")((data, indices, starts), shape)
    arguments = cupy.asarray(data), cupy.asarray(indices), cupy.asarray(starts)
    theirs = getattr(sparse, f"{form}_matrix")(arguments, shape)
    assert not theirs.has_sorted_indices
    theirs.sort_indices()
    want = ours.sorted_indices()
    np.testing.assert_array_equal(theirs.indices.get(), want.indices)
    np.testing.assert_array_equal(theirs.data.get(), want.data)
    np.testing.assert_array_equal(plain(theirs), ours.toarray())


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_for_the_same_place_are_added(sparse, dtype):
    data, rows, columns = numbers(6, dtype), np.array([2, 0, 2, 1, 2, 0]), np.array([1, 0, 1, 3, 0, 0])
    theirs = sparse.coo_matrix((cupy.asarray(data), (cupy.asarray(rows), cupy.asarray(columns))), (3, 4))
    ours = scipy.sparse.coo_matrix((data, (rows, columns)), (3, 4))
    for form in FORMATS:
        close(theirs.asformat(form), ours, dtype)
    summed = theirs.copy()
    summed.sum_duplicates()
    assert summed.nnz == 4
    close(summed, ours, dtype)
    compressed = theirs.tocsr()
    compressed.sum_duplicates()
    assert compressed.nnz == 4
    close(compressed, ours, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_zeros_are_removed(sparse, dtype):
    dense = thinned((5, 6), dtype)
    theirs = sparse.csr_matrix(cupy.asarray(dense))
    theirs.data[::2] = 0
    want = plain(theirs)
    theirs.eliminate_zeros()
    assert theirs.nnz == np.count_nonzero(want)
    np.testing.assert_array_equal(plain(theirs), want)


@pytest.mark.parametrize("dtype", DTYPES)
def test_places_of_a_sum_and_of_a_product_do_not_look_at_numbers(sparse, dtype):
    from cupyx import cusparse

    a = sparse.csr_matrix(cupy.asarray(np.array([[1, 1], [0, 2]], dtype)))
    b = sparse.csr_matrix(cupy.asarray(np.array([[1, 0], [-1, 0]], dtype)))
    product = cusparse.spgemm(a, b)
    assert product.nnz == 2
    np.testing.assert_array_equal(plain(product), [[0, 0], [-2, 0]])
    total = cusparse.csrgeam2(a, a, 1, -1)
    assert total.nnz == 3
    assert not plain(total).any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMATS)
def test_products_are_scaled_and_added(sparse, form, dtype):
    from cupyx import cusparse

    dense, x, y = thinned((5, 3), dtype), numbers(3, dtype, 1), numbers(5, dtype, 2)
    theirs = getattr(sparse, f"{form}_matrix")(sparse.csr_matrix(cupy.asarray(dense)))
    theirs.sum_duplicates()
    out = cupy.asarray(y)
    close(cusparse.spmv(theirs, cupy.asarray(x), out, 2, 3), 2 * dense @ x + 3 * y, dtype)
    back = cusparse.spmv(theirs, cupy.asarray(y), transa=True)
    close(back, dense.T @ y, dtype)
    b, c = numbers((2, 3), dtype, 3), numbers((5, 2), dtype, 4)
    out = cupy.asarray(c, order="F")
    cusparse.spmm(theirs, cupy.asarray(b, order="F"), out, 2, 3, transb=True)
    close(out, 2 * dense @ b.T + 3 * c, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_not_added_is_not_read(sparse, dtype):
    from cupyx import cusparse

    dense, x = thinned((5, 3), dtype), numbers(3, dtype, 1)
    out = cupy.full(5, np.nan, dtype)
    cusparse.spmv(sparse.csr_matrix(cupy.asarray(dense)), cupy.asarray(x), out)
    close(out, dense @ x, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("trans", ["N", "T", "H"])
def test_triangular_systems(sparse, trans, lower, form, dtype):
    from cupyx import cusparse

    a = regular(6, dtype)
    ours, theirs = both(sparse, np.tril(a) if lower else np.triu(a), form)
    theirs.sum_duplicates()
    operated = {"N": ours.toarray(), "T": ours.toarray().T, "H": ours.toarray().conj().T}[trans]
    for shape in ((6,), (6, 2)):
        for order in "CF":
            b = numbers(shape, dtype, 1)
            x = cusparse.spsm(theirs, cupy.asarray(b, order=order), 2, lower, transa=trans).get()
            close(operated @ x, 2 * b, dtype)
    unit = cusparse.spsm(theirs, cupy.asarray(b, order="F"), 1, lower, unit_diag=True, transa=trans).get()
    close((operated - np.diag(np.diagonal(operated)) + np.eye(6)) @ unit, b, dtype, 1000)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", ["csr", "csc"])
def test_spsolve(sparse, form, dtype):
    linalg = importlib.import_module("cupyx.scipy.sparse.linalg")
    a = regular(8, dtype)
    _, theirs = both(sparse, a, form)
    for shape in ((8,), (8, 2)):
        b = numbers(shape, dtype, 1)
        close(a @ linalg.spsolve(theirs, cupy.asarray(b)).get(), b, dtype)


@pytest.mark.parametrize("dtype", "fd")
def test_systems_by_qr_and_by_cholesky(sparse, dtype):
    linalg = importlib.import_module("cupyx.scipy.sparse.linalg")
    from cupyx.linalg.sparse import lschol

    a, b = regular(8, dtype), numbers(8, dtype, 1)
    close(a @ linalg.lsqr(sparse.csr_matrix(cupy.asarray(a)), cupy.asarray(b))[0].get(), b, dtype)
    a = a @ a.T
    close(a @ lschol(sparse.csr_matrix(cupy.asarray(a)), cupy.asarray(b)).get(), b, dtype, 1000)


@pytest.mark.parametrize("dtype", DTYPES)
def test_incomplete_lu(sparse, dtype):
    """Within a pattern that the factors do not leave, the factorization is the whole one."""
    from cupyx import cusparse

    a = np.diag(numbers(6, dtype) + 4) + np.diag(numbers(5, dtype, 1), 1) + np.diag(numbers(5, dtype, 2), -1)
    factored = sparse.csr_matrix(cupy.asarray(a.astype(dtype)))
    cusparse.csrilu02(factored)
    found = plain(factored)
    close((np.tril(found, -1) + np.eye(6)) @ np.triu(found), a, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_incomplete_lu_tells_of_pivots(sparse, dtype):
    from cupyx import cusparse

    missing = sparse.csr_matrix(cupy.asarray(np.array([[1, 1], [1, 0]], dtype)))
    with pytest.raises(ValueError, match=r"a\(1,1\) is missing"):
        cusparse.csrilu02(missing)
    zero = sparse.csr_matrix(cupy.asarray(np.array([[1, 1], [1, 1]], dtype)))
    with pytest.raises(ValueError, match=r"u\(1,1\) is zero"):
        cusparse.csrilu02(zero)


@pytest.mark.parametrize("dtype", "fd")
def test_iterations(sparse, dtype):
    linalg = importlib.import_module("cupyx.scipy.sparse.linalg")
    a = regular(20, dtype)
    a = a @ a.T
    _, theirs = both(sparse, a, "csr")
    b = cupy.asarray(numbers(20, dtype, 1))
    x, status = linalg.cg(theirs, b, **{"rtol": 1e-5} if _has(linalg.cg, "rtol") else {"tol": 1e-5})
    assert status == 0
    close(a @ x.get(), b, dtype, 1e-4 / np.finfo(dtype).eps)
    x, status = linalg.gmres(theirs, b, **{"rtol": 1e-5} if _has(linalg.gmres, "rtol") else {"tol": 1e-5})
    assert status == 0
    close(a @ x.get(), b, dtype, 1e-4 / np.finfo(dtype).eps)
    values = linalg.eigsh(theirs, k=3, return_eigenvectors=False)
    close(np.sort(values.get()), np.linalg.eigvalsh(a)[-3:], dtype, 1000)
    close(np.sort(linalg.svds(theirs, k=2)[1].get()), np.linalg.svd(a, compute_uv=False)[1::-1], dtype, 1000)


def _has(function, name):
    import inspect

    return name in inspect.signature(function).parameters


LINE, PICTURE = numbers(12, "d"), np.abs(numbers((8, 9), "d"))
PLACES = np.cumsum(PICTURE[:, 0] + 0.1)
USES = {
    "signal": lambda module, array: module.fftconvolve(array(LINE), array(LINE[:5])),
    "ndimage": lambda module, array: module.fourier_gaussian(array(PICTURE), 1),
    "interpolate": lambda module, array: module.CubicSpline(array(PLACES), array(LINE[:8]))(array(PLACES[:7] + 0.05)),
    "special": lambda module, array: module.gammaln(array(PICTURE)),
    "stats": lambda module, array: module.entropy(array(PICTURE[0])),
    "fft": lambda module, array: module.fht(array(LINE), 0.1, 1.0),
    "fftpack": lambda module, array: module.fft(array(LINE)),
    "spatial": lambda module, array: module.KDTree(array(PICTURE)).query(array(PICTURE + 0.01))[0],
    "linalg": lambda module, array: module.toeplitz(array(LINE)),
}


@pytest.mark.parametrize("name", USES)
@pytest.mark.filterwarnings("ignore:cupyx.jit.rawkernel is experimental:FutureWarning")
def test_modules_that_need_such_libraries(name):
    modules = (importlib.import_module(f"{package}.{name}") for package in ("scipy", "cupyx.scipy"))
    want, got = (USES[name](module, array) for module, array in zip(modules, (np.asarray, cupy.asarray), strict=True))
    np.testing.assert_allclose(cupy.asnumpy(got), want, rtol=1e-9, atol=1e-9)


def test_what_needs_a_package_that_is_not_there_says_so(sparse):
    csgraph = importlib.import_module("cupyx.scipy.sparse.csgraph")
    if importlib.util.find_spec("pylibcugraph"):
        pytest.skip("the package is there")
    with pytest.raises(RuntimeError, match="pylibcugraph"):
        csgraph.connected_components(sparse.csr_matrix(cupy.eye(3)))


def test_work_is_in_the_order_of_its_stream(sparse):
    dense, x = thinned((6, 6), "d"), numbers(6, "d")
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        a, b = sparse.csr_matrix(cupy.asarray(dense)), cupy.asarray(x)
        found = a @ b
        b[...] = 0
        found = a @ found
    stream.synchronize()
    close(found, dense @ (dense @ x), "d")


@emulated
def test_indices_outside_of_a_matrix_are_refused(sparse):
    if device._running.settings.late:
        pytest.skip("what goes wrong late is told of late")
    a = sparse.csr_matrix(cupy.asarray(thinned((4, 4), "d")))
    a.indices[0] = 4
    with pytest.raises(RuntimeError, match="an index is not one of the 4 of a matrix"):
        a @ cupy.ones(4)
    with pytest.raises(RuntimeError, match="an index is not one of the 4 of a matrix"):
        importlib.import_module("cupyx.cusolver").csrlsvqr(a, cupy.ones(4))
    a = sparse.csr_matrix(cupy.asarray(thinned((4, 4), "d")))
    a.indptr[2] = 100
    with pytest.raises(RuntimeError, match="offsets"):
        a @ cupy.ones(4)
    with pytest.raises(RuntimeError, match="offsets"):
        importlib.import_module("cupyx.cusolver").csrlsvqr(a, cupy.ones(4))


@emulated
def test_what_is_not_served_is_refused_by_name():
    from cupy_backends.cuda.libs import cusparse

    for name in ("sgtsv2", "zcsric02", "dbsrilu02_analysis", "spGEAM", "createBsric02Info"):
        with pytest.raises(NotImplementedError, match=f"cuSPARSE: {name} is not served by the emulated device"):
            getattr(cusparse, name)(1, 2)
    with pytest.raises(NotImplementedError, match="of the type 1"):
        cusparse.createCsr(1, 1, 0, 0, 0, 0, cusparse.CUSPARSE_INDEX_16U, cusparse.CUSPARSE_INDEX_16U, 0, 1)
    with pytest.raises(ImportError, match=r"Failure finding .libnccl"):  # as on a machine without it
        importlib.import_module("cupy_backends.cuda.libs").__getattr__("nccl")


@emulated
def test_wrong_arguments_are_refused():
    from cupy_backends.cuda.libs import cusparse

    with pytest.raises(cusparse.CuSparseError, match="INVALID_VALUE"):
        cusparse.destroySpMat(1)
    with pytest.raises(cusparse.CuSparseError, match="NOT_INITIALIZED"):
        cusparse.xcoo2csr(1, 0, 0, 0, 0, 0)
    with pytest.raises(cusparse.CuSparseError, match="INVALID_VALUE"):
        cusparse.createDnMat(4, 4, 3, 0, 1, cusparse.CUSPARSE_ORDER_COL)

"""Programs of others on the emulated device: what they make of CuPy's arrays against what they make of NumPy's.

``python others.py [name ...]`` prints one line for each use that is not right, and the totals. Packages that are not
installed are said not to be there. The tests of this project do not need them, and do not run this.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import calls
import numpy as np

TABLE: dict[str, Callable[[], tuple[Any, Any]]] = {}
"""By name a function that returns what was computed on the device, and what it has to be."""

Function = Callable[[], tuple[Any, Any]]


def use(function: Function) -> Function:
    TABLE[function.__name__] = function
    return function


rng = np.random.default_rng(0)
PICTURE = rng.random((24, 31))
BLOBS = rng.random((24, 31)) > 0.6
SIGNAL = rng.standard_normal(200)
MATRIX = rng.random((6, 6)) + 6 * np.eye(6)


def both(
    module: str, name: str, *arguments: Any, pick: Callable[[Any], Any] = lambda x: x, **keywords: Any
) -> Function:
    """A function that SciPy and CuPy have under one name."""

    def compute() -> tuple[Any, Any]:
        import importlib

        import cupy

        ours, theirs = importlib.import_module(f"cupyx.scipy.{module}"), importlib.import_module(f"scipy.{module}")
        arrays = [calls.deep(cupy.asarray, a) for a in arguments]
        named = {key: calls.deep(cupy.asarray, value) for key, value in keywords.items()}
        return pick(getattr(ours, name)(*arrays, **named)), pick(getattr(theirs, name)(*arguments, **keywords))

    return compute


def scipy_uses() -> None:
    for name, arguments in {
        "gaussian_filter": (PICTURE, 1.5),
        "median_filter": (PICTURE, 3),
        "convolve": (PICTURE, rng.random((3, 5))),
        "correlate1d": (PICTURE, np.array([1.0, 2, -1])),
        "label": (BLOBS,),
        "rotate": (PICTURE, 30),
        "zoom": (PICTURE, 1.7),
        "affine_transform": (PICTURE, np.array([[1.1, 0.2], [-0.1, 0.9]])),
        "map_coordinates": (PICTURE, rng.random((2, 40)) * 20),
        "shift": (PICTURE, (1.5, -2.25)),
        "sobel": (PICTURE,),
        "maximum_filter": (PICTURE, (3, 5)),
        "percentile_filter": (PICTURE, 30, 5),
        "uniform_filter": (PICTURE, 4),
        "gaussian_laplace": (PICTURE, 1.0),
        "binary_dilation": (BLOBS,),
        "binary_fill_holes": (BLOBS,),
        "grey_opening": (PICTURE, (3, 3)),
        "distance_transform_edt": (BLOBS,),
        "spline_filter": (PICTURE,),
        "center_of_mass": (PICTURE,),
        "fourier_gaussian": (np.fft.fft2(PICTURE), 2.0),
    }.items():
        TABLE[f"ndimage.{name}"] = both("ndimage", name, *arguments)
    labels = rng.integers(0, 4, PICTURE.shape)
    TABLE["ndimage.mean"] = both("ndimage", "mean", PICTURE, labels, np.arange(4))
    TABLE["ndimage.maximum"] = both("ndimage", "maximum", PICTURE, labels, np.arange(4))

    x = np.linspace(0.05, 5, 60)
    for name, arguments in {
        "erf": (x,),
        "erfcx": (x,),
        "erfinv": (x / 6,),
        "gamma": (x,),
        "gammaln": (x,),
        "digamma": (x,),
        "loggamma": (x,),
        "j0": (x,),
        "y1": (x,),
        "i0e": (x,),
        "i1": (x,),
        "k0": (x,),
        "yn": (3, x),
        "zeta": (x + 1, x),
        "gammainc": (x, x),
        "gammaincinv": (x, x / 6),
        "betainc": (x, x, x / 6),
        "betaincinv": (x, x, x / 6),
        "ellipk": (x / 6,),
        "ellipkinc": (x, x / 6),
        "expn": (np.arange(60) % 5 + 1, x),
        "exp1": (x,),
        "expi": (x,),
        "lambertw": (x,),
        "sici": (x,),
        "ndtr": (x,),
        "ndtri": (x / 6,),
        "log_ndtr": (-x,),
        "logsumexp": (x,),
        "softmax": (x,),
        "log_softmax": (x,),
        "expit": (x,),
        "xlogy": (x, x),
        "rel_entr": (x, x + 1),
        "binom": (x, x),
        "bdtr": (x, 7, x / 6),
        "chdtri": (x, x / 6),
        "fdtr": (x, x, x),
        "wright_bessel": (x, x, x / 5),
        "lpmv": (1, np.ones(60), x / 6),
        "sph_harm_y": (3, 2, x, x),
        "boxcox": (x, x),
        "polygamma": (np.full(60, 2), x),
        "cosm1": (x,),
    }.items():
        TABLE[f"special.{name}"] = both("special", name, *arguments)

    taps = np.array([0.1, 0.3, 0.4, 0.2])
    for name, arguments, keywords in [
        ("fftconvolve", (SIGNAL, taps), {}),
        ("convolve2d", (PICTURE, rng.random((3, 3))), {}),
        ("oaconvolve", (SIGNAL, taps), {}),
        ("correlate", (SIGNAL, taps), {}),
        ("wiener", (PICTURE,), {}),
        ("medfilt", (SIGNAL, 5), {}),
        ("medfilt2d", (PICTURE, 3), {}),
        ("lfilter", (taps, np.array([1.0, -0.5]), SIGNAL), {}),
        ("filtfilt", (taps, np.array([1.0, -0.5]), SIGNAL), {}),
        ("savgol_filter", (SIGNAL, 7, 2), {}),
        ("hilbert", (SIGNAL,), {}),
        ("detrend", (SIGNAL,), {}),
        ("resample_poly", (SIGNAL, 3, 2), {}),
        ("resample", (SIGNAL, 150), {}),
        ("upfirdn", (taps, SIGNAL, 3, 2), {}),
        ("decimate", (SIGNAL, 3), {}),
        ("welch", (SIGNAL,), {"nperseg": 64}),
        ("stft", (SIGNAL,), {"nperseg": 32}),
        ("spectrogram", (SIGNAL,), {"nperseg": 32}),
        ("find_peaks", (SIGNAL,), {"height": 0.5, "distance": 3}),
        ("sosfilt", (np.array([[0.1, 0.2, 0.1, 1, -0.5, 0.2]]), SIGNAL), {}),
        ("firwin", (15, 0.3), {}),
        ("butter", (3, 0.2), {}),
        ("freqz", (taps,), {}),
        ("chirp", (np.linspace(0, 1, 50), 1.0, 1.0, 9.0), {}),
        ("argrelmax", (SIGNAL,), {}),
        ("czt", (SIGNAL,), {}),
        ("lombscargle", (np.linspace(0, 9, 50), rng.random(50), np.array([1.0, 2.0])), {}),
    ]:
        pick = (lambda r: (r[0], r[1]["peak_heights"])) if name == "find_peaks" else (lambda r: r)
        TABLE[f"signal.{name}"] = both("signal", name, *arguments, pick=pick, **keywords)
    TABLE["signal.windows.hann"] = both("signal.windows", "hann", 16)

    for name, arguments in {
        "lu": (MATRIX,),
        "lu_factor": (MATRIX,),
        "solve_triangular": (np.triu(MATRIX), SIGNAL[:6]),
        "expm": (MATRIX / 9,),
        "block_diag": (MATRIX, np.ones((2, 3))),
        "toeplitz": (SIGNAL[:5], SIGNAL[5:9]),
        "hadamard": (8,),
        "dft": (6,),
        "khatri_rao": (MATRIX, MATRIX[:4]),
    }.items():
        TABLE[f"linalg.{name}"] = both("linalg", name, *arguments)
    for name in ("dct", "idst", "fft", "rfft2", "dctn", "hfft"):
        TABLE[f"fft.{name}"] = both("fft", name, PICTURE)
    TABLE["stats.entropy"] = both("stats", "entropy", np.abs(SIGNAL))
    TABLE["stats.zscore"] = both("stats", "zscore", SIGNAL)
    TABLE["stats.trim_mean"] = both("stats", "trim_mean", SIGNAL, 0.1)


scipy_uses()


def _sparse() -> tuple[Any, Any]:
    import scipy.sparse

    matrix = scipy.sparse.random(30, 30, 0.2, random_state=1, format="csr") + 10 * scipy.sparse.eye(30, format="csr")
    return matrix.tocsr(), scipy.sparse


@use
def sparse_products() -> tuple[Any, Any]:
    import cupy
    import cupyx.scipy.sparse

    a, _ = _sparse()
    b = cupyx.scipy.sparse.csr_matrix(a)
    x = np.arange(30.0)
    ours = [
        b @ cupy.asarray(x),
        (b @ b).toarray(),
        (b.T + b).toarray(),
        b.tocsc().toarray(),
        b.sum(0),
        b[3:7].toarray(),
    ]
    return ours, [a @ x, (a @ a).toarray(), (a.T + a).toarray(), a.toarray(), np.asarray(a.sum(0)), a[3:7].toarray()]


@use
def sparse_conversions() -> tuple[Any, Any]:
    import cupy
    import cupyx.scipy.sparse as sparse

    rows, columns, values = (*rng.integers(0, 9, (2, 40)), rng.random(40))
    from scipy.sparse import coo_matrix

    ours = sparse.coo_matrix((cupy.asarray(values), (cupy.asarray(rows), cupy.asarray(columns))), (9, 9))
    theirs = coo_matrix((values, (rows, columns)), (9, 9))
    return (
        [ours.tocsr().toarray(), ours.tocsc().toarray(), ours.tocsr().indptr],
        [theirs.toarray(), theirs.toarray(), theirs.tocsr().indptr],
    )


def _solved(name: str, *more: Any) -> Function:
    def compute() -> tuple[Any, Any]:
        import cupy
        import cupyx.scipy.sparse as sparse
        import cupyx.scipy.sparse.linalg as linalg

        a, _ = _sparse()
        a = (a + a.T).tocsr()
        x = np.arange(30.0)
        found = getattr(linalg, name)(sparse.csr_matrix(a), cupy.asarray(a @ x), *more)
        found = found[0] if isinstance(found, tuple) else found
        return cupy.linalg.norm(cupy.asarray(a @ cupy.asnumpy(found) - a @ x)) < 1e-3 * np.linalg.norm(a @ x), True

    return compute


for _name in ("spsolve", "cg", "gmres", "minres", "lsqr"):
    TABLE[f"sparse.linalg.{_name}"] = _solved(_name)


@use
def sparse_eigenvalues() -> tuple[Any, Any]:
    import cupyx.scipy.sparse as sparse
    import cupyx.scipy.sparse.linalg as linalg

    a, _ = _sparse()
    a = (a + a.T).tocsr()
    values = np.sort(np.linalg.eigvalsh(a.toarray()))[-3:]
    singular = np.linalg.svd(a.toarray())[1][:3]
    import cupy

    return (
        [
            cupy.sort(linalg.eigsh(sparse.csr_matrix(a), k=3)[0]),
            cupy.sort(linalg.svds(sparse.csr_matrix(a), k=3)[1])[::-1],
        ],
        [values, singular],
    )


PLACES = rng.random(20) * 8 + 0.5


def _interpolated(make: Callable[[Any, Any, Any], Any], at: np.ndarray = PLACES) -> Function:
    def compute() -> tuple[Any, Any]:
        import cupy
        import cupyx.scipy.interpolate
        import scipy.interpolate

        x, y = np.arange(10.0), np.sin(np.arange(10.0))
        ours = make(cupyx.scipy.interpolate, cupy.asarray(x), cupy.asarray(y))(cupy.asarray(at))
        return ours, make(scipy.interpolate, x, y)(at)

    return compute


TABLE["interpolate.CubicSpline"] = _interpolated(lambda m, x, y: m.CubicSpline(x, y))
TABLE["interpolate.PchipInterpolator"] = _interpolated(lambda m, x, y: m.PchipInterpolator(x, y))
TABLE["interpolate.Akima1DInterpolator"] = _interpolated(lambda m, x, y: m.Akima1DInterpolator(x, y))
TABLE["interpolate.make_interp_spline"] = _interpolated(lambda m, x, y: m.make_interp_spline(x, y, 3))
TABLE["interpolate.interp1d"] = _interpolated(lambda m, x, y: m.interp1d(x, y))
TABLE["interpolate.BarycentricInterpolator"] = _interpolated(lambda m, x, y: m.BarycentricInterpolator(x, y))
TABLE["interpolate.RBFInterpolator"] = _interpolated(
    lambda m, x, y: m.RBFInterpolator(x[:, None], y), rng.random((20, 1)) * 8
)
TABLE["interpolate.RegularGridInterpolator"] = _interpolated(
    lambda m, x, y: m.RegularGridInterpolator((x, x), x[:, None] * y), rng.random((20, 2)) * 8
)


@use
def spatial_nearest() -> tuple[Any, Any]:
    import cupy
    import cupyx.scipy.spatial
    import scipy.spatial

    points = rng.random((40, 2))
    tree, theirs = cupyx.scipy.spatial.KDTree(cupy.asarray(points)), scipy.spatial.KDTree(points)
    return list(tree.query(cupy.asarray(points[:9] + 0.01), 3)), list(theirs.query(points[:9] + 0.01, 3))


# --- packages of others -----------------------------------------------------------------------------------------------


def _thinc(name: str, *arguments: Any, **keywords: Any) -> Function:
    def compute() -> tuple[Any, Any]:
        import cupy
        from thinc.api import CupyOps, NumpyOps

        ours = getattr(CupyOps(), name)(*[calls.deep(cupy.asarray, a) for a in arguments], **keywords)
        return ours, getattr(NumpyOps(), name)(*[calls.deep(np.copy, a) for a in arguments], **keywords)

    return compute


X = rng.standard_normal((12, 6)).astype(np.float32)
LENGTHS = np.array([4, 1, 7], np.int32)
for _name, _arguments in {
    "gemm": (X, X.T.copy()),
    "softmax": (X,),
    "sigmoid": (X,),
    "relu": (X,),
    "mish": (X,),
    "gelu": (X,),
    "swish": (X,),
    "clipped_linear": (X,),
    "maxout": (X.reshape(12, 2, 3),),
    "seq2col": (X, 1),
    "reduce_sum": (X, LENGTHS),
    "reduce_mean": (X, LENGTHS),
    "reduce_max": (X, LENGTHS),
    "hash": (np.arange(6, dtype=np.uint64), 3),
    "gather_add": (X, rng.integers(0, 12, (5, 3)).astype(np.int32)),
    "backprop_mish": (X, X),
    "backprop_seq2col": (rng.random((12, 18)).astype(np.float32), 1),
    "backprop_reduce_mean": (X[:3].copy(), LENGTHS),
}.items():
    TABLE[f"thinc.{_name}"] = _thinc(_name, *_arguments)


@use
def thinc_adam() -> tuple[Any, Any]:
    import cupy
    from thinc.api import CupyOps, NumpyOps

    def step(ops: Any, xp: Any) -> Any:
        w, g, m, v = (xp.asarray(X.ravel() * k) for k in (1, 0.5, 0, 0))
        return ops.adam(w, g, m, v, 0.9, 0.999, 1e-8, 0.01)

    return list(step(CupyOps(), cupy)), list(step(NumpyOps(), np))


@use
def thinc_model() -> tuple[Any, Any]:
    import cupy
    from thinc.api import CupyOps, NumpyOps, Relu, Softmax, chain, use_ops

    def run(name: str, ops: Any, x: Any) -> Any:
        with use_ops(name):
            model = chain(Relu(8, 6), Softmax(3, 8))
            model.initialize(X=x)
            for i, layer in enumerate(model.layers):
                layer.ops = ops
                layer.set_param(
                    "W", ops.asarray(np.random.default_rng(i).random(layer.get_param("W").shape, np.float32))
                )
            y, back = model(x, is_train=True)
            dx = back(y * 0.5)
        return [y, dx, model.layers[0].get_grad("W")]

    return run("cupy", CupyOps(), cupy.asarray(X)), run("numpy", NumpyOps(), X.copy())


def _on_both(function: Callable[[Any, Callable[[Any], Any]], Any]) -> Function:
    """What ``function(xp, array)`` returns, where ``array`` makes an array of ``xp`` of NumPy's."""

    def compute() -> tuple[Any, Any]:
        import cupy

        return function(cupy, cupy.asarray), function(np, np.copy)

    return compute


@use
def sigpy_fft() -> tuple[Any, Any]:
    import sigpy

    return _on_both(lambda xp, array: [sigpy.fft(array(PICTURE)), sigpy.ifft(array(PICTURE), axes=[0])])()


@use
def sigpy_thresholds() -> tuple[Any, Any]:
    import sigpy

    return _on_both(
        lambda xp, array: [
            sigpy.soft_thresh(0.5, array(SIGNAL)),
            sigpy.hard_thresh(0.5, array(SIGNAL)),
            sigpy.thresh.l1_proj(3.0, array(SIGNAL)),
        ]
    )()


@use
def sigpy_interpolation() -> tuple[Any, Any]:
    import sigpy

    places = (rng.random((50, 2)) - 0.5) * 20
    values = rng.standard_normal(50) + 1j * rng.standard_normal(50)
    return _on_both(
        lambda xp, array: [
            sigpy.interpolate(array(PICTURE + 0j), array(places), "spline", 2, 1),
            sigpy.gridding(array(values), array(places), (24, 31), "kaiser_bessel", 4, 5.0),
        ]
    )()


@use
def sigpy_nufft() -> tuple[Any, Any]:
    import sigpy

    places = (rng.random((50, 2)) - 0.5) * 20
    return _on_both(lambda xp, array: sigpy.nufft(array(PICTURE + 0j), array(places)))()


@use
def sigpy_least_squares() -> tuple[Any, Any]:
    import sigpy

    def solve(xp: Any, array: Any) -> Any:
        operator = sigpy.linop.MatMul((6, 1), array(MATRIX))
        app = sigpy.app.LinearLeastSquares(operator, array(MATRIX @ np.ones((6, 1))), max_iter=60, show_pbar=False)
        return abs(app.run() - 1).max() < 1e-6

    return _on_both(solve)()


@use
def sigpy_linops() -> tuple[Any, Any]:
    import sigpy

    def run(xp: Any, array: Any) -> Any:
        difference = sigpy.linop.FiniteDifference((24, 31))
        resize = sigpy.linop.Resize((30, 40), (24, 31))
        return [difference(array(PICTURE)), difference.H(difference(array(PICTURE))), resize(array(PICTURE))]

    return _on_both(run)()


def _tensorly(function: Callable[[Any, Any], Any]) -> Function:
    def compute() -> tuple[Any, Any]:
        import tensorly

        def run(backend: str) -> Any:
            with tensorly.backend_context(backend):
                return function(tensorly, tensorly.tensor(TENSOR))

        return run("cupy"), run("numpy")

    return compute


TENSOR = np.einsum("ir,jr,kr->ijk", rng.random((4, 2)), rng.random((5, 2)), rng.random((6, 2)))


def _parafac(tl: Any, x: Any) -> Any:
    from tensorly.decomposition import parafac

    weights = parafac(x, rank=2, init="svd", n_iter_max=200, tol=1e-12)
    return tl.norm(tl.cp_to_tensor(weights) - x) < 1e-2


def _tucker(tl: Any, x: Any) -> Any:
    from tensorly.decomposition import tucker

    return tl.tucker_to_tensor(tucker(x, rank=[2, 2, 2]))


TABLE["tensorly.parafac"] = _tensorly(_parafac)
TABLE["tensorly.tucker"] = _tensorly(_tucker)
TABLE["tensorly.mode_dot"] = _tensorly(lambda tl, x: tl.tenalg.mode_dot(x, tl.ones((3, 5)), 1))
TABLE["tensorly.unfold"] = _tensorly(lambda tl, x: [tl.unfold(x, i) for i in range(3)])


@use
def opt_einsum_contract() -> tuple[Any, Any]:
    import opt_einsum

    a, b, c = rng.random((5, 6)), rng.random((6, 7)), rng.random((7, 5))
    return _on_both(lambda xp, array: opt_einsum.contract("ij,jk,kl->il", array(a), array(b), array(c)))()


@use
def opt_einsum_expression() -> tuple[Any, Any]:
    import opt_einsum

    expression = opt_einsum.contract_expression("bij,bjk,k->bi", (3, 4, 5), (3, 5, 6), (6,))
    a, b, c = rng.random((3, 4, 5)), rng.random((3, 5, 6)), rng.random(6)
    return _on_both(lambda xp, array: expression(array(a), array(b), array(c)))()


@use
def array_api_compat_functions() -> tuple[Any, Any]:
    import array_api_compat

    def run(xp: Any, array: Any) -> Any:
        x = array(PICTURE)
        standard = array_api_compat.array_namespace(x)
        return [
            standard.std(x, correction=1),
            standard.permute_dims(x, (1, 0)),
            standard.unique_counts(array(BLOBS)),
            standard.linalg.vector_norm(x),
            standard.argsort(x, descending=True, axis=1),
        ]

    return _on_both(run)()


@use
def array_api_extra_functions() -> tuple[Any, Any]:
    import array_api_extra as extra

    return _on_both(
        lambda xp, array: [
            extra.atleast_nd(array(SIGNAL), ndim=2),
            extra.cov(array(PICTURE)),
            extra.kron(array(MATRIX), array(MATRIX)),
            extra.sinc(array(SIGNAL)),
            extra.at(array(SIGNAL), slice(3, 9)).set(2.0),
        ]
    )()


@use
def dask_reductions() -> tuple[Any, Any]:
    import dask
    import dask.array

    def run(xp: Any, array: Any) -> Any:
        x = dask.array.from_array(array(PICTURE), chunks=(7, 10), asarray=False)
        with dask.config.set(scheduler="synchronous"):
            return [(x + x.T.sum()).sum(0).compute(), x.std().compute(), (x @ x.T).compute()]

    return _on_both(run)()


@use
def dask_in_threads() -> tuple[Any, Any]:
    import dask
    import dask.array

    def run(xp: Any, array: Any) -> Any:
        x = dask.array.from_array(array(PICTURE), chunks=(7, 10), asarray=False)
        with dask.config.set(scheduler="threads", num_workers=4):
            return dask.array.sqrt(x * 2 + 1).mean(axis=1).compute()

    return _on_both(run)()


@use
def xarray_computations() -> tuple[Any, Any]:
    import xarray

    def run(xp: Any, array: Any) -> Any:
        x = xarray.DataArray(array(PICTURE), dims=("y", "x"))
        return [
            (x - x.mean("y")).std("x").data,
            x.isel(x=slice(2, 9)).sum().data,
            x.rolling(x=3).construct("w").shape,
            x.where(x > 0.5, 0.0).data,
            (x * xarray.DataArray(array(SIGNAL[:31]), dims="x")).max("y").data,
        ]

    return _on_both(run)()


@use
def cupy_xarray_accessor() -> tuple[Any, Any]:
    import cupy_xarray
    import xarray

    x = xarray.DataArray(PICTURE, dims=("y", "x"))
    assert cupy_xarray
    device = x.cupy.as_cupy()
    return [device.cupy.is_cupy, device.mean("x").data, device.as_numpy().data], [True, PICTURE.mean(1), PICTURE]


@use
def einops_rearranged() -> tuple[Any, Any]:
    import einops

    return _on_both(
        lambda xp, array: [
            einops.rearrange(array(TENSOR), "a b c -> c (a b)"),
            einops.reduce(array(TENSOR), "a (b 1) c -> a c", "max"),
            einops.repeat(array(SIGNAL[:5]), "a -> a b", b=3),
            einops.einsum(array(TENSOR), array(MATRIX), "a b c, c d -> a b d"),
        ]
    )()


@use
def pylops_operators() -> tuple[Any, Any]:
    import pylops

    def run(xp: Any, array: Any) -> Any:
        derivative = pylops.FirstDerivative((24, 31), axis=0)
        smooth = pylops.Smoothing1D(5, 200)
        return [derivative @ array(PICTURE), derivative.H @ array(PICTURE), smooth @ array(SIGNAL)]

    return _on_both(run)()


@use
def pylops_solvers() -> tuple[Any, Any]:
    import pylops

    def run(xp: Any, array: Any) -> Any:
        operator = pylops.MatrixMult(array(MATRIX))
        return pylops.optimization.basic.cgls(operator, array(MATRIX @ np.arange(6.0)), niter=30)[0].round(6)

    return _on_both(run)()


@use
def autoray_functions() -> tuple[Any, Any]:
    import autoray

    def run(xp: Any, array: Any) -> Any:
        x = array(MATRIX)
        return [
            autoray.do("linalg.svd", x)[1],
            autoray.do("tensordot", x, x, 1),
            autoray.do("exp", x),
            autoray.do("trace", x),
        ]

    return _on_both(run)()


SCALES = {"sigpy_interpolation": 1e5}  # its kernels for GPUs take an absolute value in float32
EASY = 100  # times the tolerance of one function: these are made of many


def tried(name: str) -> tuple[str, str]:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            got, expected = TABLE[name]()
            found = [*calls.differences(got, expected, SCALES.get(name, EASY), any_type=True)]
        except ModuleNotFoundError as error:
            return "not there", str(error)
        except Exception as error:
            text = calls.said(error)
            return ("refused" if any(words in text for words in calls.REFUSALS) else "wrong"), text
    return ("wrong", "; ".join(found)) if found else ("right", "")


def main(names: list[str]) -> int:
    verbose, names = "-v" in names, [name for name in names if name != "-v"]
    totals = {"right": 0, "refused": 0, "wrong": 0, "not there": 0}
    start = time.monotonic()
    for name in names or TABLE:
        verdict, why = tried(name)
        totals[verdict] += 1
        if verbose:
            print(name, verdict, f"{time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)
        if verdict != "right":
            print(f"{name}: {verdict}: {' '.join(why.split())[:600]}", flush=True)
    print(f"{sum(totals.values())} uses: " + ", ".join(f"{count} {verdict}" for verdict, count in totals.items()))
    return totals["wrong"]


if __name__ == "__main__":
    from gpunn.cuda import device

    device.start()
    sys.exit(main(sys.argv[1:]) != 0)

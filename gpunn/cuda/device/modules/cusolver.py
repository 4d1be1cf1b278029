"""``cupy_backends.cuda.libs.cusolver``: cuSOLVER's functions, by SciPy's LAPACK on the host.

Served are the factorizations, solvers and decompositions that ``cupy.linalg``, ``cupyx.scipy.linalg``,
``cupyx.lapack``, ``cupyx.cusolver`` and ``cupyx.scipy.sparse.linalg`` call, for the four types of LAPACK. The same
holds for them as for cuSOLVER's: matrices lie column by column, factors take the place of what is factored, and what
went wrong is a number in ``devInfo``. Vectors and bits may differ where an algorithm other than LAPACK's is asked for
(Jacobi's method for ``syevj`` and ``gesvdj``, the approximate one of ``gesvda``). All else is refused by name.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpunn.cuda.device import host

CUSOLVER_EIG_TYPE_1, CUSOLVER_EIG_TYPE_2, CUSOLVER_EIG_TYPE_3 = 1, 2, 3
CUSOLVER_EIG_MODE_NOVECTOR, CUSOLVER_EIG_MODE_VECTOR = 0, 1

_SUCCESS, _NOT_INITIALIZED, _INVALID_VALUE, _INTERNAL_ERROR = 0, 1, 3, 7
_STATUS = {
    0: "SUCCESS",
    1: "NOT_INITIALIZED",
    2: "ALLOC_FAILED",
    3: "INVALID_VALUE",
    4: "ARCH_MISMATCH",
    5: "MAPPING_ERROR",
    6: "EXECUTION_FAILED",
    7: "INTERNAL_ERROR",
    8: "MATRIX_TYPE_NOT_SUPPORTED",
    9: "NOT_SUPPORTED",
    10: "ZERO_PIVOT",
    11: "INVALID_LICENSE",
}

_TRANSPOSED = ("N", "T", "C")  # as LAPACK's letters; the numbers are cuBLAS's
_LOWER, _UPPER = 0, 1
_LEFT = 0

_told: list[BaseException] = []  # what a call from C could not raise


class CUSOLVERError(RuntimeError):
    """What a function of cuSOLVER returned instead of success."""

    def __init__(self, status: int) -> None:
        self.status = status
        text = f"CUSOLVER_STATUS_{_STATUS.get(status, status)}"
        if _told:
            self.__cause__ = _told.pop()
            text += f": {self.__cause__}"
        super().__init__(text)

    def __reduce__(self) -> Any:
        return type(self), (self.status,)


def check_status(status: int) -> None:
    """Raise CUSOLVERError unless ``status`` is success."""
    if status:
        raise CUSOLVERError(status)


# ---- versions, handles and settings ---------------------------------------------------------------------------------


def getProperty(type: int) -> int:
    """The major, minor or patch number of the version."""
    return _getVersion()[type]


def _getVersion() -> tuple[int, int, int]:
    from cupy_backends.cuda.api import runtime

    return (11, 7, 5) if runtime.runtimeGetVersion() < 13000 else (12, 0, 3)


def _getVersionNumber() -> int:
    major, minor, patch = _getVersion()
    return major * 1000 + minor * 100 + patch


@dataclass
class _Info:
    """Settings of a Jacobi method, kept and without effect: LAPACK's results are sorted and as exact as they can be."""

    tolerance: float = 0.0
    sweeps: int = 100
    sort: int = 1


_numbers = itertools.count(0x50_0000, 16)
_handles: dict[int, int] = {}  # their streams
_sparse_handles: dict[int, int] = {}
_infos: dict[int, _Info] = {}
_params: set[int] = set()


def create() -> int:
    """A handle for the functions on dense matrices."""
    handle = next(_numbers)
    _handles[handle] = 0
    return handle


def spCreate() -> int:
    """A handle for the functions on sparse matrices."""
    handle = next(_numbers)
    _sparse_handles[handle] = 0
    return handle


def _destroyer(handles: dict[int, int]) -> Callable[[int], None]:
    # CuPy gives handles back when Python ends, and neither this module nor Python's has any names left.
    def destroy(handle: int) -> None:
        """Give a handle back."""
        if handles.pop(handle, None) is None:
            raise CUSOLVERError(_NOT_INITIALIZED)

    return destroy


destroy, spDestroy = _destroyer(_handles), _destroyer(_sparse_handles)


def setStream(handle: int, stream: int) -> None:
    """Set the stream of a handle. As in the wheel, each call sets it to the current one again."""
    _of(_handles, handle)
    _handles[handle] = stream


def getStream(handle: int) -> int:
    """The stream of a handle."""
    return int(_of(_handles, handle))


def spSetStream(handle: int, stream: int) -> None:
    """Set the stream of a handle for sparse matrices."""
    _of(_sparse_handles, handle)
    _sparse_handles[handle] = stream


def spGetStream(handle: int) -> int:
    """The stream of a handle for sparse matrices."""
    return int(_of(_sparse_handles, handle))


def _of(table: dict[int, Any], key: int) -> Any:
    if key not in table:
        raise CUSOLVERError(_NOT_INITIALIZED)
    return table[key]


def createParams() -> int:
    """Parameters of the functions whose names begin with an X."""
    params = next(_numbers)
    _params.add(params)
    return params


def destroyParams(params: int) -> None:
    """Give parameters back."""
    if params not in _params:
        raise CUSOLVERError(_INVALID_VALUE)
    _params.remove(params)


def createSyevjInfo() -> int:
    """Settings of syevj."""
    info = next(_numbers)
    _infos[info] = _Info()
    return info


def destroySyevjInfo(info: int) -> None:
    """Give settings of syevj back."""
    _of(_infos, info)
    del _infos[info]


def xsyevjSetTolerance(info: int, tolerance: float) -> None:
    """Set the tolerance, which LAPACK has no use for."""
    _of(_infos, info).tolerance = tolerance


def xsyevjSetMaxSweeps(info: int, max_sweeps: int) -> None:
    """Set the number of sweeps, which LAPACK has no use for."""
    _of(_infos, info).sweeps = max_sweeps


def xsyevjSetSortEig(info: int, sort_eig: int) -> None:
    """Set whether eigenvalues are sorted; here they always are."""
    _of(_infos, info).sort = sort_eig


createGesvdjInfo, destroyGesvdjInfo = createSyevjInfo, destroySyevjInfo
xgesvdjSetTolerance, xgesvdjSetMaxSweeps = xsyevjSetTolerance, xsyevjSetMaxSweeps
xgesvdjSetSortEig = xsyevjSetSortEig


# ---- how a function is made for each type ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Type:
    letter: str  # LAPACK's
    dtype: np.dtype

    @property
    def real(self) -> np.dtype:
        return np.dtype(self.dtype.char.lower())

    @property
    def complex(self) -> bool:
        return self.letter in "cz"

    def lapack(self, name: str) -> Any:
        """LAPACK's function."""
        return getattr(host.scipy("linalg.lapack", f"cuSOLVER: {self.letter}{name}"), self.letter + name)


_TYPES = tuple(_Type(letter, np.dtype(char)) for letter, char in zip("sdcz", "fdFD", strict=True))


def _plain(number: Any) -> Any:
    """Python's number for NumPy's, which CuPy passes on as well."""
    return number.item() if isinstance(number, np.generic) else number


def _begin(handle: int, handles: dict[int, int]) -> None:
    if host.capturing():
        raise NotImplementedError("calling cuSOLVER API during stream capture is currently unsupported")
    _of(handles, handle)
    handles[handle] = host.current_stream()


def _each(real: str, complex: str = "", handles: dict[int, int] | None = None) -> Callable[[Callable[..., Any]], Any]:
    """Make a function for each type, with the type's letter before its name."""

    def make(function: Callable[..., Any]) -> Callable[..., Any]:
        for kind in _TYPES:
            name = kind.letter + (complex if complex and kind.complex else real)

            def call(handle: int, *arguments: Any, _kind: _Type = kind, **named: Any) -> Any:
                _begin(handle, _handles if handles is None else handles)
                return function(_kind, *map(_plain, arguments), **{key: _plain(it) for key, it in named.items()})

            call.__name__ = call.__qualname__ = name
            call.__doc__ = function.__doc__
            globals()[name] = call
        return function

    return make


def _each_size(*names: str) -> None:
    """For functions that need no memory to work in: the size to set apart, 1."""

    def size(handle: int, *arguments: Any, **named: Any) -> int:
        _of(_handles, handle)
        return 1

    for name in names:
        globals()[name] = size


def _require(*conditions: bool) -> None:
    if not all(conditions):
        raise CUSOLVERError(_INVALID_VALUE)


def _put(info: int, value: int) -> None:
    host.array(info, 1, np.int32, write=True)[0] = value


# ---- Cholesky -------------------------------------------------------------------------------------------------------

_each_size(*(kind.letter + "potrf_bufferSize" for kind in _TYPES))


def _factor(kind: _Type, uplo: int, a: np.ndarray) -> int:
    """Cholesky's factor in the place of ``a``; the other half of it stays. The number of the first bad minor, or 0."""
    if not a.size:
        return 0
    half = np.tril if uplo == _LOWER else np.triu
    factor, info = kind.lapack("potrf")(half(a), lower=uplo == _LOWER, clean=0)
    mask = half(np.ones(a.shape, np.bool_))
    a[mask] = factor[mask]
    return int(info)


@_each("potrf")
def _potrf(kind: _Type, uplo: int, n: int, A: int, lda: int, work: int, lwork: int, devInfo: int) -> None:
    """Cholesky's factor of a matrix; ``devInfo`` is the first minor that is not positive definite, or 0."""
    kind.lapack("potrf")
    _require(uplo in (_LOWER, _UPPER), n >= 0, lda >= max(1, n))
    host.enqueue(lambda: _put(devInfo, _factor(kind, uplo, host.matrix(A, n, n, lda, kind.dtype, write=True))))


@_each("potrfBatched")
def _potrf_batched(kind: _Type, uplo: int, n: int, Aarray: int, lda: int, infoArray: int, batchSize: int) -> None:
    """Cholesky's factors of matrices whose places ``Aarray`` has."""
    kind.lapack("potrf")
    _require(uplo in (_LOWER, _UPPER), n >= 0, lda >= max(1, n), batchSize >= 0)

    def work() -> None:
        infos = host.array(infoArray, batchSize, np.int32, write=True)
        for i, place in enumerate(host.array(Aarray, batchSize, np.uintp)):
            infos[i] = _factor(kind, uplo, host.matrix(int(place), n, n, lda, kind.dtype, write=True))

    host.enqueue(work)


def _solve_factored(kind: _Type, uplo: int, a: np.ndarray, b: np.ndarray) -> None:
    if b.size:
        b[...], _ = kind.lapack("potrs")(a, b, lower=uplo == _LOWER)


@_each("potrs")
def _potrs(kind: _Type, uplo: int, n: int, nrhs: int, A: int, lda: int, B: int, ldb: int, devInfo: int) -> None:
    """Solve by Cholesky's factor; the solution takes the place of the right-hand sides."""
    kind.lapack("potrs")
    _require(uplo in (_LOWER, _UPPER), n >= 0, nrhs >= 0, lda >= max(1, n), ldb >= max(1, n))

    def work() -> None:
        a, b = host.matrix(A, n, n, lda, kind.dtype), host.matrix(B, n, nrhs, ldb, kind.dtype, write=True)
        _solve_factored(kind, uplo, a, b)
        _put(devInfo, 0)

    host.enqueue(work)


@_each("potrsBatched")
def _potrs_batched(
    kind: _Type,
    uplo: int,
    n: int,
    nrhs: int,
    Aarray: int,
    lda: int,
    Barray: int,
    ldb: int,
    devInfo: int,
    batchSize: int,
) -> None:
    """Solve by Cholesky's factors, with one right-hand side each, as cuSOLVER."""
    kind.lapack("potrs")
    _require(uplo in (_LOWER, _UPPER), n >= 0, nrhs == 1, lda >= max(1, n), ldb >= max(1, n), batchSize >= 0)

    def work() -> None:
        places = host.array(Aarray, batchSize, np.uintp), host.array(Barray, batchSize, np.uintp)
        for left, right in zip(*places, strict=True):
            a = host.matrix(int(left), n, n, lda, kind.dtype)
            _solve_factored(kind, uplo, a, host.matrix(int(right), n, nrhs, ldb, kind.dtype, write=True))
        _put(devInfo, 0)

    host.enqueue(work)


# ---- LU -------------------------------------------------------------------------------------------------------------

_each_size(*(kind.letter + "getrf_bufferSize" for kind in _TYPES))


@_each("getrf")
def _getrf(kind: _Type, m: int, n: int, A: int, lda: int, work: int, devIpiv: int, devInfo: int) -> None:
    """LU with partial pivoting in the place of the matrix; ``devInfo`` is the first zero on U's diagonal, or 0."""
    getrf = kind.lapack("getrf")
    _require(m >= 0, n >= 0, lda >= max(1, m))
    if not devIpiv and min(m, n):
        raise NotImplementedError("cuSOLVER: getrf without pivots is not served by the emulated device")

    def factor() -> None:
        a, info = host.matrix(A, m, n, lda, kind.dtype, write=True), 0
        if a.size:
            a[...], found, info = getrf(a)
            host.array(devIpiv, min(m, n), np.int32, write=True)[...] = found + 1
        _put(devInfo, info)

    host.enqueue(factor)


@_each("getrs")
def _getrs(
    kind: _Type, trans: int, n: int, nrhs: int, A: int, lda: int, devIpiv: int, B: int, ldb: int, devInfo: int
) -> None:
    """Solve by LU; the solution takes the place of the right-hand sides."""
    getrs = kind.lapack("getrs")
    _require(trans in (0, 1, 2), n >= 0, nrhs >= 0, lda >= max(1, n), ldb >= max(1, n))

    def work() -> None:
        a, b = host.matrix(A, n, n, lda, kind.dtype), host.matrix(B, n, nrhs, ldb, kind.dtype, write=True)
        pivots = host.array(devIpiv, n, np.int32)
        if b.size:
            if pivots.min() < 1 or pivots.max() > n:
                raise RuntimeError(f"cuSOLVER: {kind.letter}getrs: a pivot is not between 1 and {n}")
            b[...], _ = getrs(a, pivots - 1, b, trans=trans)
        _put(devInfo, 0)

    host.enqueue(work)


# ---- QR -------------------------------------------------------------------------------------------------------------

for _kind in _TYPES:
    _q = "un" if _kind.complex else "or"
    _each_size(*(_kind.letter + name for name in ("geqrf_bufferSize", _q + "gqr_bufferSize", _q + "mqr_bufferSize")))


@_each("geqrf")
def _geqrf(kind: _Type, m: int, n: int, A: int, lda: int, tau: int, work: int, lwork: int, devInfo: int) -> None:
    """QR in the place of the matrix: R, and the reflectors below it."""
    geqrf = kind.lapack("geqrf")
    _require(m >= 0, n >= 0, lda >= max(1, m))

    def factor() -> None:
        a = host.matrix(A, m, n, lda, kind.dtype, write=True)
        if a.size:
            a[...], host.array(tau, min(m, n), kind.dtype, write=True)[...], *_ = geqrf(a)
        _put(devInfo, 0)

    host.enqueue(factor)


@_each("orgqr", "ungqr")
def _orgqr(
    kind: _Type, m: int, n: int, k: int, A: int, lda: int, tau: int, work: int, lwork: int, devInfo: int
) -> None:
    """The first ``n`` columns of Q, of ``k`` reflectors."""
    generate = kind.lapack("ungqr" if kind.complex else "orgqr")
    _require(0 <= n <= m, 0 <= k <= n, lda >= max(1, m))

    def make() -> None:
        a = host.matrix(A, m, n, lda, kind.dtype, write=True)
        if k:
            a[...], *_ = generate(a, host.array(tau, k, kind.dtype))
        else:
            a[...] = np.eye(m, n, dtype=kind.dtype)
        _put(devInfo, 0)

    host.enqueue(make)


@_each("ormqr", "unmqr")
def _ormqr(
    kind: _Type,
    side: int,
    trans: int,
    m: int,
    n: int,
    k: int,
    A: int,
    lda: int,
    tau: int,
    C: int,
    ldc: int,
    work: int,
    lwork: int,
    devInfo: int,
) -> None:
    """The product of Q, or its transpose, with C, in the place of C."""
    multiply = kind.lapack("unmqr" if kind.complex else "ormqr")
    order = m if side == _LEFT else n
    _require(side in (0, 1), trans in (0, 1, 2), m >= 0, n >= 0, 0 <= k <= order)
    _require(lda >= max(1, order), ldc >= max(1, m), not (kind.complex and trans == 1))
    letter = _TRANSPOSED[trans] if kind.complex else _TRANSPOSED[min(trans, 1)]

    def product() -> None:
        a, factors = host.matrix(A, order, k, lda, kind.dtype), host.array(tau, k, kind.dtype)
        c = host.matrix(C, m, n, ldc, kind.dtype, write=True)
        if k and c.size:
            c[...], *_ = multiply("L" if side == _LEFT else "R", letter, a, factors, c, 64 * max(1, m, n))
        _put(devInfo, 0)

    host.enqueue(product)


# The wheel has these names for unmqr as well.
cormqr, zormqr = globals()["cunmqr"], globals()["zunmqr"]


# ---- singular values ------------------------------------------------------------------------------------------------

_each_size(*(kind.letter + name for kind in _TYPES for name in ("gesvd_bufferSize", "gesvdj_bufferSize")))
_each_size(*(kind.letter + "gesvdjBatched_bufferSize" for kind in _TYPES))
_each_size(*(kind.letter + "gesvdaStridedBatched_bufferSize" for kind in _TYPES))


def _decompose(kind: _Type, a: np.ndarray, full: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """U, the singular values and V's conjugate transpose; with numbers that are not finite, all are NaN."""
    m, n = a.shape
    k = min(m, n)
    if not np.isfinite(a).all():
        shapes = (m, m if full else k), (n if full else k, n)
        u, vt = (np.full(shape, np.nan, kind.dtype) for shape in shapes)
        return u, np.full(k, np.nan, kind.real), vt, k
    u, s, vt, info = kind.lapack("gesvd")(a, compute_uv=1, full_matrices=int(full))
    return u, s, vt, int(info)


@_each("gesvd")
def _gesvd(
    kind: _Type,
    jobu: int,
    jobvt: int,
    m: int,
    n: int,
    A: int,
    lda: int,
    S: int,
    U: int,
    ldu: int,
    VT: int,
    ldvt: int,
    Work: int,
    lwork: int,
    rwork: int,
    devInfo: int,
) -> None:
    """Singular values, and vectors as the jobs say: all, some, in the place of the matrix or none."""
    kind.lapack("gesvd")
    left, right = chr(jobu), chr(jobvt)
    _require(left in "ASON", right in "ASON", (left, right) != ("O", "O"), 0 <= n <= m, lda >= max(1, m))
    _require(left not in "AS" or ldu >= max(1, m), right not in "AS" or ldvt >= max(1, n))
    columns = {"A": m, "S": n}.get(left, 0)

    def decompose() -> None:
        info = 0
        a = host.matrix(A, m, n, lda, kind.dtype, write=True)  # cuSOLVER leaves nothing of it, whatever the jobs are
        u = host.matrix(U, m, columns, ldu, kind.dtype, write=True)
        vt = host.matrix(VT, n if right in "AS" else 0, n, ldvt, kind.dtype, write=True)
        if a.size:
            values = host.array(S, n, kind.real, write=True)
            found_u, values[...], found_vt, info = _decompose(kind, a, left == "A")
            u[...], vt[...] = found_u[:, :columns], found_vt[: len(vt), :n]
            if left == "O":
                a[...] = found_u[:, :n]
            if right == "O":
                a[:n] = found_vt[:n]
        elif left == "A":
            u[...] = np.eye(m, dtype=kind.dtype)
        _put(devInfo, info)

    host.enqueue(decompose)


def _jacobi(kind: _Type, econ: bool, a: np.ndarray, s: np.ndarray, u: np.ndarray | None, v: np.ndarray | None) -> int:
    if not a.size:
        for vectors in (u, v):
            if vectors is not None:
                vectors[...] = np.eye(*vectors.shape, dtype=kind.dtype)
        return 0
    found_u, s[...], found_vt, info = _decompose(kind, a, not econ)
    if u is not None and v is not None:
        u[...], v[...] = found_u, found_vt.conj().T
    return min(a.shape) + 1 if info else 0


def _check_jacobi(jobz: int, m: int, n: int, lda: int, ldu: int, ldv: int, info: int) -> None:
    _require(jobz in (0, 1), m >= 0, n >= 0, lda >= max(1, m))
    _require(jobz == CUSOLVER_EIG_MODE_NOVECTOR or (ldu >= max(1, m) and ldv >= max(1, n)))
    _of(_infos, info)


@_each("gesvdj")
def _gesvdj(
    kind: _Type,
    jobz: int,
    econ: int,
    m: int,
    n: int,
    A: int,
    lda: int,
    S: int,
    U: int,
    ldu: int,
    V: int,
    ldv: int,
    work: int,
    lwork: int,
    info: int,
    params: int,
) -> None:
    """Singular values, and U and V if asked for."""
    kind.lapack("gesvd")
    _check_jacobi(jobz, m, n, lda, ldu, ldv, params)

    def decompose() -> None:
        k = min(m, n)
        a, s = host.matrix(A, m, n, lda, kind.dtype, write=True), host.array(S, k, kind.real, write=True)
        u = v = None
        if jobz == CUSOLVER_EIG_MODE_VECTOR:
            u = host.matrix(U, m, k if econ else m, ldu, kind.dtype, write=True)
            v = host.matrix(V, n, k if econ else n, ldv, kind.dtype, write=True)
        _put(info, _jacobi(kind, bool(econ), a, s, u, v))

    host.enqueue(decompose)


@_each("gesvdjBatched")
def _gesvdj_batched(
    kind: _Type,
    jobz: int,
    m: int,
    n: int,
    A: int,
    lda: int,
    S: int,
    U: int,
    ldu: int,
    V: int,
    ldv: int,
    work: int,
    lwork: int,
    info: int,
    params: int,
    batchSize: int,
) -> None:
    """The same for matrices of up to 32 rows and columns that follow each other."""
    kind.lapack("gesvd")
    _check_jacobi(jobz, m, n, lda, ldu, ldv, params)
    _require(m <= 32, n <= 32, batchSize >= 0)
    size, real = kind.dtype.itemsize, kind.real.itemsize
    vectors = jobz == CUSOLVER_EIG_MODE_VECTOR

    def decompose() -> None:
        infos = host.array(info, batchSize, np.int32, write=True)
        for i in range(batchSize):
            a = host.matrix(A + i * lda * n * size, m, n, lda, kind.dtype, write=True)
            s = host.array(S + i * min(m, n) * real, min(m, n), kind.real, write=True)
            u = host.matrix(U + i * ldu * m * size, m, m, ldu, kind.dtype, write=True) if vectors else None
            v = host.matrix(V + i * ldv * n * size, n, n, ldv, kind.dtype, write=True) if vectors else None
            infos[i] = _jacobi(kind, False, a, s, u, v)

    host.enqueue(decompose)


@_each("gesvdaStridedBatched")
def _gesvda(
    kind: _Type,
    jobz: int,
    rank: int,
    m: int,
    n: int,
    d_A: int,
    lda: int,
    strideA: int,
    d_S: int,
    strideS: int,
    d_U: int,
    ldu: int,
    strideU: int,
    d_V: int,
    ldv: int,
    strideV: int,
    d_work: int,
    lwork: int,
    d_info: int,
    h_R_nrmF: int,
    batchSize: int,
) -> None:
    """The ``rank`` greatest singular values of tall matrices, and vectors; norms of what is left go to the host."""
    kind.lapack("gesvd")
    _require(jobz in (0, 1), 0 <= n <= m, 0 <= rank <= n, lda >= max(1, m), batchSize >= 0)
    vectors = jobz == CUSOLVER_EIG_MODE_VECTOR
    _require(not vectors or (ldu >= max(1, m) and ldv >= max(1, n)))
    size, real = kind.dtype.itemsize, kind.real.itemsize

    def decompose() -> None:
        infos = host.array(d_info, batchSize, np.int32, write=True)
        for i in range(batchSize):
            a = host.matrix(d_A + i * strideA * size, m, n, lda, kind.dtype)
            if not a.size:
                infos[i] = 0
                continue
            u, s, vt, info = _decompose(kind, a, False)
            host.array(d_S + i * strideS * real, rank, kind.real, write=True)[...] = s[:rank]
            if vectors:
                host.matrix(d_U + i * strideU * size, m, rank, ldu, kind.dtype, write=True)[...] = u[:, :rank]
                right = host.matrix(d_V + i * strideV * size, n, rank, ldv, kind.dtype, write=True)
                right[...] = vt[:rank].conj().T
            infos[i] = min(m, n) + 1 if info else 0
            if h_R_nrmF and vectors:
                left = a - (u[:, :rank] * s[:rank]) @ vt[:rank]
                host.of_host(h_R_nrmF, batchSize, np.float64)[i] = np.linalg.norm(left)

    (host.now if h_R_nrmF else host.enqueue)(decompose)


# ---- eigenvalues ----------------------------------------------------------------------------------------------------

for _kind in _TYPES:
    _s = _kind.letter + ("hee" if _kind.complex else "sye")
    _each_size(*(_s + name for name in ("vd_bufferSize", "vj_bufferSize", "vjBatched_bufferSize")))


def _symmetric(kind: _Type, jobz: int, uplo: int, a: np.ndarray, values: np.ndarray) -> int:
    """Eigenvalues, ascending; if asked for, the vectors in the place of the matrix."""
    if not a.size:
        return 0
    if not np.isfinite(np.tril(a) if uplo == _LOWER else np.triu(a)).all():
        values[...] = np.nan
        a[...] = np.nan
        return len(a)
    function = kind.lapack("heevd" if kind.complex else "syevd")
    vectors = jobz == CUSOLVER_EIG_MODE_VECTOR
    values[...], found, info = function(a, compute_v=int(vectors), lower=uplo == _LOWER)
    if vectors:
        a[...] = found
    return int(info)


def _eigen(kind: _Type, jobz: int, uplo: int, n: int, A: int, lda: int, W: int, info: int) -> None:
    kind.lapack("heevd" if kind.complex else "syevd")
    _require(jobz in (0, 1), uplo in (_LOWER, _UPPER), n >= 0, lda >= max(1, n))

    def decompose() -> None:
        a, values = host.matrix(A, n, n, lda, kind.dtype, write=True), host.array(W, n, kind.real, write=True)
        _put(info, _symmetric(kind, jobz, uplo, a, values))

    host.enqueue(decompose)


@_each("syevd", "heevd")
def _syevd(
    kind: _Type, jobz: int, uplo: int, n: int, A: int, lda: int, W: int, work: int, lwork: int, info: int
) -> None:
    """Eigenvalues of a symmetric or Hermitian matrix, and vectors if asked for."""
    _eigen(kind, jobz, uplo, n, A, lda, W, info)


@_each("syevj", "heevj")
def _syevj(
    kind: _Type, jobz: int, uplo: int, n: int, A: int, lda: int, W: int, work: int, lwork: int, info: int, params: int
) -> None:
    """The same; cuSOLVER takes Jacobi's method for it."""
    _of(_infos, params)
    _eigen(kind, jobz, uplo, n, A, lda, W, info)


@_each("syevjBatched", "heevjBatched")
def _syevj_batched(
    kind: _Type,
    jobz: int,
    uplo: int,
    n: int,
    A: int,
    lda: int,
    W: int,
    work: int,
    lwork: int,
    info: int,
    params: int,
    batchSize: int,
) -> None:
    """The same for matrices that follow each other."""
    kind.lapack("heevd" if kind.complex else "syevd")
    _of(_infos, params)
    _require(jobz in (0, 1), uplo in (_LOWER, _UPPER), n >= 0, lda >= max(1, n), batchSize >= 0)

    def decompose() -> None:
        infos = host.array(info, batchSize, np.int32, write=True)
        for i in range(batchSize):
            a = host.matrix(A + i * lda * n * kind.dtype.itemsize, n, n, lda, kind.dtype, write=True)
            values = host.array(W + i * n * kind.real.itemsize, n, kind.real, write=True)
            infos[i] = _symmetric(kind, jobz, uplo, a, values)

    host.enqueue(decompose)


_BY_NUMBER = {0: _TYPES[0], 1: _TYPES[1], 4: _TYPES[2], 5: _TYPES[3]}  # of cudaDataType


def _typed(number: int, params: int) -> _Type:
    if params not in _params:
        raise CUSOLVERError(_INVALID_VALUE)
    if number not in _BY_NUMBER:
        raise NotImplementedError(f"cuSOLVER: numbers of cudaDataType {number} are not served by the emulated device")
    return _BY_NUMBER[number]


def xsyevd_bufferSize(
    handle: int,
    params: int,
    jobz: int,
    uplo: int,
    n: int,
    dataTypeA: int,
    A: int,
    lda: int,
    dataTypeW: int,
    W: int,
    computeType: int,
) -> tuple[int, int]:
    """The bytes to set apart on the device and on the host."""
    _of(_handles, handle)
    _typed(dataTypeA, params)
    return 1, 1


def xsyevd(
    handle: int,
    params: int,
    jobz: int,
    uplo: int,
    n: int,
    dataTypeA: int,
    A: int,
    lda: int,
    dataTypeW: int,
    W: int,
    computeType: int,
    bufferOnDevice: int,
    workspaceInBytesOnDevice: int,
    bufferOnHost: int,
    workspaceInBytesOnHost: int,
    info: int,
) -> None:
    """syevd and heevd by a number for the type."""
    _begin(handle, _handles)
    kind = _typed(dataTypeA, params)
    _require(_typed(dataTypeW, params).dtype == kind.real, computeType == dataTypeA)
    _eigen(kind, jobz, uplo, n, A, lda, W, info)


def xgeev_bufferSize(
    handle: int,
    params: int,
    jobvl: int,
    jobvr: int,
    n: int,
    dataTypeA: int,
    A: int,
    lda: int,
    dataTypeW: int,
    W: int,
    dataTypeVL: int,
    VL: int,
    ldvl: int,
    dataTypeVR: int,
    VR: int,
    ldvr: int,
    computeType: int,
) -> tuple[int, int]:
    """The bytes to set apart on the device and on the host."""
    _of(_handles, handle)
    _typed(dataTypeA, params)
    return 1, 1


def xgeev(
    handle: int,
    params: int,
    jobvl: int,
    jobvr: int,
    n: int,
    dataTypeA: int,
    A: int,
    lda: int,
    dataTypeW: int,
    W: int,
    dataTypeVL: int,
    VL: int,
    ldvl: int,
    dataTypeVR: int,
    VR: int,
    ldvr: int,
    computeType: int,
    bufferOnDevice: int,
    workspaceInBytesOnDevice: int,
    bufferOnHost: int,
    workspaceInBytesOnHost: int,
    info: int,
) -> None:
    """Eigenvalues of any square matrix, and right vectors if asked for; left ones cuSOLVER does not compute either."""
    _begin(handle, _handles)
    kind, vectors = _typed(dataTypeA, params), jobvr == CUSOLVER_EIG_MODE_VECTOR
    geev = kind.lapack("geev")
    complex = np.dtype(kind.dtype.char.upper())
    _require(jobvl == CUSOLVER_EIG_MODE_NOVECTOR, jobvr in (0, 1), n >= 0, lda >= max(1, n))
    _require(not vectors or (ldvr >= max(1, n) and dataTypeVR == dataTypeA), computeType == dataTypeA)
    _require(_typed(dataTypeW, params).dtype in (complex, kind.dtype))
    if _typed(dataTypeW, params).dtype != complex:
        raise NotImplementedError("cuSOLVER: xgeev with real eigenvalues is not served by the emulated device")

    def decompose() -> None:
        a, values = host.matrix(A, n, n, lda, kind.dtype, write=True), host.array(W, n, complex, write=True)
        right = host.matrix(VR, n, n, ldvr, kind.dtype, write=True) if vectors else None
        found = 0
        if a.size and not np.isfinite(a).all():
            values[...], found = np.nan, n
            if right is not None:
                right[...] = np.nan
        elif a.size:
            *parts, _, vectors_found, found = geev(a, compute_vl=0, compute_vr=int(vectors))
            values[...] = parts[0] if kind.complex else parts[0] + np.dtype(complex).type(1j) * parts[1]
            if right is not None:
                right[...] = vectors_found
        _put(info, found)

    host.enqueue(decompose)


# ---- mixed precision ------------------------------------------------------------------------------------------------

_LOWER_TYPES = {"z": "zcky", "c": "cky", "d": "dshx", "s": "shx"}


def _mixed() -> Iterator[tuple[_Type, str]]:
    for kind in _TYPES:
        for low in _LOWER_TYPES[kind.letter]:
            yield kind, kind.letter + low


def _mixed_gesv(kind: _Type, name: str) -> Callable[..., int]:
    def gesv(
        handle: int,
        n: int,
        nrhs: int,
        dA: int,
        ldda: int,
        dipiv: int,
        dB: int,
        lddb: int,
        dX: int,
        lddx: int,
        dwork: int,
        lwork: int,
        dInfo: int,
    ) -> int:
        """Solve in full precision at once, so that there is nothing to refine; the number of refinements, 0."""
        _begin(handle, _handles)
        solve = kind.lapack("gesv")
        _require(n >= 0, nrhs >= 0, min(ldda, lddb, lddx) >= max(1, n))

        def work() -> None:
            a, b = host.matrix(dA, n, n, ldda, kind.dtype, write=True), host.matrix(dB, n, nrhs, lddb, kind.dtype)
            x = host.matrix(dX, n, nrhs, lddx, kind.dtype, write=True)
            info = 0
            if x.size:
                _, pivots, found, info = solve(a, b)
                x[...] = np.nan if info else found
                if dipiv:
                    host.array(dipiv, n, np.int32, write=True)[...] = pivots + 1
            _put(dInfo, info)

        host.now(work)
        return 0

    gesv.__name__ = gesv.__qualname__ = name
    return gesv


def _mixed_gels(kind: _Type, name: str) -> Callable[..., int]:
    def gels(
        handle: int,
        m: int,
        n: int,
        nrhs: int,
        dA: int,
        ldda: int,
        dB: int,
        lddb: int,
        dX: int,
        lddx: int,
        dwork: int,
        lwork: int,
        dInfo: int,
    ) -> int:
        """Least squares in full precision at once; the number of refinements, 0."""
        _begin(handle, _handles)
        solve = kind.lapack("gels")
        _require(0 <= n <= m, nrhs >= 0, min(ldda, lddb) >= max(1, m), lddx >= max(1, n))

        def work() -> None:
            a, b = host.matrix(dA, m, n, ldda, kind.dtype, write=True), host.matrix(dB, m, nrhs, lddb, kind.dtype)
            x = host.matrix(dX, n, nrhs, lddx, kind.dtype, write=True)
            info = 0
            if x.size:
                _, found, info = solve(a, b)
                x[...] = np.nan if info else found[:n]
            _put(dInfo, info)

        host.now(work)
        return 0

    gels.__name__ = gels.__qualname__ = name
    return gels


for _kind, _name in _mixed():
    globals()[_name + "gesv"] = _mixed_gesv(_kind, _name + "gesv")
    globals()[_name + "gels"] = _mixed_gels(_kind, _name + "gels")
    _each_size(_name + "gesv_bufferSize", _name + "gels_bufferSize")


# ---- sparse matrices ------------------------------------------------------------------------------------------------

_DENSE = 4096  # rows up to which a sparse system is solved as a dense one


def _sparse_solve(by_cholesky: bool) -> Callable[..., None]:
    def solve(
        kind: _Type,
        m: int,
        nnz: int,
        descrA: int,
        csrValA: int,
        csrRowPtrA: int,
        csrColIndA: int,
        b: int,
        tol: float,
        reorder: int,
        x: int,
        singularity: int,
    ) -> None:
        """Solve a sparse system; ``singularity``, on the host, is where a pivot is below ``tol``, or -1."""
        from cupy_backends.cuda.libs import cusparse

        linalg = host.scipy("linalg", f"cuSOLVER: {kind.letter}csrlsv")
        sparse = host.scipy("sparse", f"cuSOLVER: {kind.letter}csrlsv")
        base = cusparse._base(descrA)
        _require(m >= 0, nnz >= 0)
        if m > _DENSE:
            raise NotImplementedError(
                f"cuSOLVER: a sparse system of more than {_DENSE} rows is not served by the emulated device"
            )

        def work() -> None:
            starts = cusparse._offsets(csrRowPtrA, m, nnz, np.int32, base)
            columns = cusparse._within(host.array(csrColIndA, nnz, np.int32)[: starts[-1]], m, base)
            values = host.array(csrValA, nnz, kind.dtype)[: starts[-1]]
            found = -1
            if m:
                a = sparse.csr_matrix((values, columns, starts), shape=(m, m)).toarray()
                right = host.array(b, m, kind.dtype)
                if by_cholesky:
                    lower, info = kind.lapack("potrf")(a, lower=1, clean=1)
                    if info:
                        found, result = info - 1, np.full(m, np.nan)
                    else:
                        small = np.flatnonzero(np.abs(np.diagonal(lower)) < tol)
                        found = int(small[0]) if len(small) else -1
                        result = kind.lapack("potrs")(lower, right, lower=1)[0]
                else:
                    q, r = linalg.qr(a)
                    pivots = np.abs(np.diagonal(r))
                    small = np.flatnonzero((pivots < tol) | (pivots == 0))
                    found = int(small[0]) if len(small) else -1
                    result, info = kind.lapack("trtrs")(r, q.conj().T @ right)
                    if info:
                        result = np.full(m, np.nan)
                host.array(x, m, kind.dtype, write=True)[...] = result
            host.of_host(singularity, 1, np.int32)[0] = found

        host.now(work)

    return solve


_each("csrlsvqr", handles=_sparse_handles)(_sparse_solve(False))
_each("csrlsvchol", handles=_sparse_handles)(_sparse_solve(True))


# ---- what the wheel calls in C --------------------------------------------------------------------------------------

_P, _I = ctypes.c_void_p, ctypes.c_int
_GESVD = ctypes.CFUNCTYPE(_I, _P, ctypes.c_byte, ctypes.c_byte, _I, _I, _P, _I, _P, _P, _I, _P, _I, _P, _I, _P, _P)
_GEQRF = ctypes.CFUNCTYPE(_I, _P, _I, _I, _P, _I, _P, _P, _I, _P)
_ORGQR = ctypes.CFUNCTYPE(_I, _P, _I, _I, _I, _P, _I, _P, _P, _I, _P)


def _called(function: Callable[..., Any]) -> Callable[..., int]:
    def call(*arguments: int | None) -> int:
        try:
            function(*(argument or 0 for argument in arguments))
        except CUSOLVERError as error:
            return error.status
        except BaseException as error:
            _told[:] = [error]
            return _INTERNAL_ERROR
        return _SUCCESS

    return call


def _connected() -> list[Any]:
    """Connect the calls in C to the functions here; what is returned has to be kept."""

    kept: list[Any] = []
    for i, kind in enumerate(_TYPES):
        names = "gesvd", "geqrf", "ungqr" if kind.complex else "orgqr"
        calls = zip((_GESVD, _GEQRF, _ORGQR), names, strict=True)
        made = [form(_called(globals()[kind.letter + name])) for form, name in calls]
        ctypes.CDLL(None).gpunn_cusolver_connect(i, *made)
        kept += made
    return kept


_kept = _connected()


def _published() -> dict[str, object]:
    """The functions that other modules of the wheel bind to when they are imported, by Cython's way to publish them."""
    capsule = ctypes.pythonapi.PyCapsule_New
    capsule.restype, capsule.argtypes = ctypes.py_object, (_P, ctypes.c_char_p, _P)
    size_t, intptr_t, dispatch = (ctypes.c_size_t, "size_t"), (ctypes.c_ssize_t, "intptr_t"), (_I, "int")
    forms = {"gesvd_bufferSize": "hii", "geqrf_bufferSize": "hiiai", "gqr_bufferSize": "hiiiaia"}
    of_letter = {"h": intptr_t, "i": (_I, "int"), "a": size_t}

    def published(name: str, form: str) -> object:
        kinds = [*(of_letter[letter] for letter in form), dispatch]
        function = globals()[name]
        call = ctypes.PYFUNCTYPE(_I, *(kind for kind, _ in kinds))(lambda *arguments: function(*arguments[:-1]))
        text = ", ".join(name for _, name in kinds)
        signature = f"int ({text} __pyx_skip_dispatch)".encode()
        _kept.extend((call, signature))
        return capsule(ctypes.cast(call, _P), signature, None)

    names = {"_getVersionNumber": ""}
    for kind in _TYPES:
        for name, form in forms.items():
            q = "un" if kind.complex else "or"
            names[kind.letter + (q if name.startswith("gqr") else "") + name] = form
    return {name: published(name, form) for name, form in names.items()}


__pyx_capi__ = _published()


# ---- what is refused ------------------------------------------------------------------------------------------------

_NOT_SERVED = (
    *(letter + name for letter in "sdcz" for name in ("gebrd", "gebrd_bufferSize", "sytrf", "sytrf_bufferSize")),
    *(letter + "csreigvsi" for letter in "sdcz"),
    *(f"x{name}Get{what}" for name in ("syevj", "gesvdj") for what in ("Residual", "Sweeps")),
)

for _name in _NOT_SERVED:
    globals()[_name] = host.refusing("cuSOLVER", _name)

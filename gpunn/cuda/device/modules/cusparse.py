"""``cupy_backends.cuda.libs.cusparse``: cuSPARSE's functions, by NumPy and SciPy on the host.

Served is what ``cupyx.cusparse`` and ``cupyx.scipy.sparse`` call with a cuSPARSE of CUDA 12 and 13: descriptors of the
generic API, products with vectors and matrices, dense and sparse, triangular systems, sums, conversions between the
formats, sorting, the removal of small numbers, and incomplete LU. All else is refused by name. Indices that lie outside
of a matrix are an error here, where a device would touch memory of others.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from gpunn.cuda.device import host

CUSPARSE_POINTER_MODE_HOST, CUSPARSE_POINTER_MODE_DEVICE = 0, 1
CUSPARSE_ACTION_SYMBOLIC, CUSPARSE_ACTION_NUMERIC = 0, 1
CUSPARSE_MATRIX_TYPE_GENERAL, CUSPARSE_MATRIX_TYPE_SYMMETRIC = 0, 1
CUSPARSE_MATRIX_TYPE_HERMITIAN, CUSPARSE_MATRIX_TYPE_TRIANGULAR = 2, 3
CUSPARSE_FILL_MODE_LOWER, CUSPARSE_FILL_MODE_UPPER = 0, 1
CUSPARSE_DIAG_TYPE_NON_UNIT, CUSPARSE_DIAG_TYPE_UNIT = 0, 1
CUSPARSE_INDEX_BASE_ZERO, CUSPARSE_INDEX_BASE_ONE = 0, 1
CUSPARSE_OPERATION_NON_TRANSPOSE, CUSPARSE_OPERATION_TRANSPOSE, CUSPARSE_OPERATION_CONJUGATE_TRANSPOSE = range(3)
CUSPARSE_DIRECTION_ROW, CUSPARSE_DIRECTION_COLUMN = 0, 1
CUSPARSE_SOLVE_POLICY_NO_LEVEL, CUSPARSE_SOLVE_POLICY_USE_LEVEL = 0, 1
CUSPARSE_INDEX_16U, CUSPARSE_INDEX_32I, CUSPARSE_INDEX_64I = 1, 2, 3
CUSPARSE_FORMAT_CSR, CUSPARSE_FORMAT_CSC, CUSPARSE_FORMAT_COO, CUSPARSE_FORMAT_COO_AOS = 1, 2, 3, 4
CUSPARSE_FORMAT_BLOCKED_ELL, CUSPARSE_FORMAT_BSR, CUSPARSE_FORMAT_SLICED_ELLPACK = 5, 6, 7
CUSPARSE_ORDER_COL, CUSPARSE_ORDER_ROW = 1, 2
CUSPARSE_MV_ALG_DEFAULT, CUSPARSE_COOMV_ALG, CUSPARSE_CSRMV_ALG1, CUSPARSE_CSRMV_ALG2 = range(4)
CUSPARSE_SPMV_ALG_DEFAULT, CUSPARSE_SPMV_COO_ALG1, CUSPARSE_SPMV_CSR_ALG1, CUSPARSE_SPMV_CSR_ALG2 = range(4)
CUSPARSE_SPMV_COO_ALG2, CUSPARSE_SPMV_SELL_ALG1 = 4, 5
CUSPARSE_MM_ALG_DEFAULT, CUSPARSE_COOMM_ALG1, CUSPARSE_COOMM_ALG2, CUSPARSE_COOMM_ALG3 = range(4)
CUSPARSE_CSRMM_ALG1 = 4
CUSPARSE_SPMM_ALG_DEFAULT, CUSPARSE_SPMM_COO_ALG1, CUSPARSE_SPMM_COO_ALG2, CUSPARSE_SPMM_COO_ALG3 = range(4)
CUSPARSE_SPMM_CSR_ALG1, CUSPARSE_SPMM_COO_ALG4, CUSPARSE_SPMM_CSR_ALG2 = 4, 5, 6
CUSPARSE_SPMM_CSR_ALG3, CUSPARSE_SPMM_BLOCKED_ELL_ALG1, CUSPARSE_SPMM_BSR_ALG1 = 12, 13, 14
CUSPARSE_SPGEMM_DEFAULT = 0
CUSPARSE_SPGEMM_CSR_ALG_DETERMINITIC, CUSPARSE_SPGEMM_CSR_ALG_NONDETERMINITIC = 1, 2  # the wheel's names
CUSPARSE_SPGEMM_ALG1, CUSPARSE_SPGEMM_ALG2, CUSPARSE_SPGEMM_ALG3 = 3, 4, 5
CUSPARSE_SPGEAM_ALG_DEFAULT, CUSPARSE_SPGEAM_ALG1 = 0, 1
CUSPARSE_SPMAT_FILL_MODE, CUSPARSE_SPMAT_DIAG_TYPE = 0, 1
CUSPARSE_SPSM_ALG_DEFAULT = CUSPARSE_DENSETOSPARSE_ALG_DEFAULT = CUSPARSE_SPARSETODENSE_ALG_DEFAULT = 0
CUSPARSE_CSR2CSC_ALG_DEFAULT, CUSPARSE_CSR2CSC_ALG1, CUSPARSE_CSR2CSC_ALG2 = 1, 1, 2

_STATUS = (
    "SUCCESS",
    "NOT_INITIALIZED",
    "ALLOC_FAILED",
    "INVALID_VALUE",
    "ARCH_MISMATCH",
    "MAPPING_ERROR",
    "EXECUTION_FAILED",
    "INTERNAL_ERROR",
    "MATRIX_TYPE_NOT_SUPPORTED",
    "ZERO_PIVOT",
    "NOT_SUPPORTED",
    "INSUFFICIENT_RESOURCES",
)
_NOT_INITIALIZED, _INVALID_VALUE, _ZERO_PIVOT, _NOT_SUPPORTED_STATUS = 1, 3, 9, 10


class CuSparseError(RuntimeError):
    """What a function of cuSPARSE returned instead of success."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"CUSPARSE_STATUS_{_STATUS[status]}")

    def __reduce__(self) -> Any:
        return type(self), (self.status,)


def check_status(status: int) -> None:
    """Raise CuSparseError unless ``status`` is success."""
    if status:
        raise CuSparseError(status)


def _require(*conditions: bool) -> None:
    if not all(conditions):
        raise CuSparseError(_INVALID_VALUE)


# ---- handles and descriptors ----------------------------------------------------------------------------------------


@dataclass
class _Handle:
    stream: int = 0
    device_scalars: bool = False


@dataclass
class _Legacy:
    """Of a matrix of the API that is not generic."""

    kind: int = CUSPARSE_MATRIX_TYPE_GENERAL
    base: int = CUSPARSE_INDEX_BASE_ZERO
    fill: int = CUSPARSE_FILL_MODE_LOWER
    diagonal: int = CUSPARSE_DIAG_TYPE_NON_UNIT


@dataclass
class _Sparse:
    """A sparse matrix: ``first`` and ``second`` are rows and columns, of which the compressed one is offsets."""

    format: int
    rows: int
    columns: int
    count: int
    first: int
    second: int
    values: int
    first_type: np.dtype
    second_type: np.dtype
    base: int
    number: int  # of cudaDataType
    attributes: dict[int, int] = field(default_factory=dict)


@dataclass
class _SparseVector:
    size: int
    count: int
    indices: int
    values: int
    index_type: np.dtype
    base: int
    number: int


@dataclass
class _Vector:
    size: int
    values: int
    number: int


@dataclass
class _Dense:
    rows: int
    columns: int
    leading: int
    values: int
    number: int
    order: int


@dataclass
class _Product:
    """What is between the steps of a product of sparse matrices."""

    indices: np.ndarray | None = None
    offsets: np.ndarray | None = None
    values: np.ndarray | None = None


@dataclass
class _Factor:
    """The first pivot of an incomplete factorization that is missing, or zero, or -1."""

    position: int = -1


class CooAttributes(NamedTuple):
    """What a descriptor of a matrix in COO was made of."""

    rows: int
    cols: int
    nnz: int
    rowIdx: int
    colIdx: int
    values: int
    idxType: int
    idxBase: int
    valueType: int


class CooAoSAttributes(NamedTuple):
    """What a descriptor of a matrix in COO, its indices in pairs, is made of."""

    rows: int
    cols: int
    nnz: int
    ind: int
    values: int
    idxType: int
    idxBase: int
    valueType: int


@dataclass(frozen=True)
class DnMatBatchAttributes:
    """How many dense matrices there are, and how far apart they lie."""

    count: int
    stride: int


class CsrAttributes(NamedTuple):
    """What a descriptor of a matrix in CSR was made of."""

    rows: int
    cols: int
    nnz: int
    rowOffsets: int
    colIdx: int
    values: int
    rowOffsetType: int
    colIdxType: int
    idxBase: int
    valueType: int


class SpVecAttributes(NamedTuple):
    """What a descriptor of a sparse vector was made of."""

    size: int
    nnz: int
    idx: int
    values: int
    idxType: int
    idxBase: int
    valueType: int


class DnVecAttributes(NamedTuple):
    """What a descriptor of a vector was made of."""

    size: int
    values: int
    valueType: int


class DnMatAttributes(NamedTuple):
    """What a descriptor of a dense matrix was made of."""

    rows: int
    cols: int
    ld: int
    values: int
    valueType: int
    order: int


_INDEX_TYPES: dict[int, np.dtype[Any]] = {
    CUSPARSE_INDEX_32I: np.dtype(np.int32),
    CUSPARSE_INDEX_64I: np.dtype(np.int64),
}
_INDEX_NUMBERS = {dtype: number for number, dtype in _INDEX_TYPES.items()}
_DTYPES: dict[int, str] = {0: "f", 1: "d", 2: "e", 3: "b", 4: "F", 5: "D", 8: "B", 10: "i", 24: "q"}  # of cudaDataType
_LETTERS = {"s": "f", "d": "d", "c": "F", "z": "D"}

_numbers = itertools.count(0x60_0000, 16)
_objects: dict[int, Any] = {}


def _new(made: object) -> int:
    number = next(_numbers)
    _objects[number] = made
    return number


def _get(number: int, *kinds: type) -> Any:
    found = _objects.get(number)
    if not isinstance(found, kinds):
        raise CuSparseError(_INVALID_VALUE)
    return found


def _copy(number: int, kind: type) -> Any:
    """A descriptor as it is now, for work that is done when it may be another."""
    return replace(_get(number, kind))


def _begin(handle: int) -> _Handle:
    if host.capturing():
        raise NotImplementedError("calling cuSPARSE API during stream capture is currently unsupported")
    found = _objects.get(handle)
    if not isinstance(found, _Handle):
        raise CuSparseError(_NOT_INITIALIZED)
    found.stream = host.current_stream()
    return found


def get_build_version() -> int:
    """The version of cuSPARSE that the wheel was built for."""
    from cupy_backends.cuda.api import runtime

    return 12510 if runtime.runtimeGetVersion() < 13000 else 12603


def is_cuda_python_build() -> bool:
    """Whether the wheel goes through CUDA's own bindings to Python."""
    return False


def getVersion(handle: int) -> int:
    """The version of cuSPARSE that stands with this version of CUDA."""
    _begin(handle)
    return get_build_version()


def create() -> int:
    """A handle."""
    return _new(_Handle())


def _destroyer(*kinds: type) -> Callable[[int], None]:
    objects = _objects

    # CuPy gives handles back when Python ends, and neither this module nor Python's has any names left.
    def destroy(number: int) -> None:
        """Give it back."""
        if objects.get(number).__class__ not in kinds:
            raise CuSparseError(_INVALID_VALUE)
        del objects[number]

    return destroy


destroy = _destroyer(_Handle)
destroyMatDescr = _destroyer(_Legacy)
destroySpMat, destroySpVec = _destroyer(_Sparse), _destroyer(_SparseVector)
destroyDnVec, destroyDnMat = _destroyer(_Vector), _destroyer(_Dense)
spGEMM_destroyDescr = spSM_destroyDescr = _destroyer(_Product)
destroyCsrilu02Info = _destroyer(_Factor)


def setStream(handle: int, stream: int) -> None:
    """Set the stream of a handle. As in the wheel, each call sets it to the current one again."""
    _get(handle, _Handle).stream = stream


def getStream(handle: int) -> int:
    """The stream of a handle."""
    return int(_get(handle, _Handle).stream)


def setPointerMode(handle: int, mode: int) -> None:
    """Set whether numbers that scale a result lie on the host or on the device."""
    _require(mode in (CUSPARSE_POINTER_MODE_HOST, CUSPARSE_POINTER_MODE_DEVICE))
    _get(handle, _Handle).device_scalars = mode == CUSPARSE_POINTER_MODE_DEVICE


def createMatDescr() -> int:
    """A descriptor of the API that is not generic."""
    return _new(_Legacy())


def setMatType(descr: int, typ: int) -> None:
    """Set the kind of a matrix."""
    _get(descr, _Legacy).kind = typ


def setMatIndexBase(descr: int, base: int) -> None:
    """Set whether indices begin with 0 or 1."""
    _require(base in (0, 1))
    _get(descr, _Legacy).base = base


def setMatFillMode(descrA: int, fillMode: int) -> None:
    """Set which triangle of a matrix counts."""
    _get(descrA, _Legacy).fill = fillMode


def setMatDiagType(descrA: int, diagType: int) -> None:
    """Set whether the diagonal is taken to be ones."""
    _get(descrA, _Legacy).diagonal = diagType


def _base(descr: int) -> int:
    """The base of a matrix's indices; what is not a general matrix is refused."""
    found = _get(descr, _Legacy)
    if found.kind != CUSPARSE_MATRIX_TYPE_GENERAL:
        raise NotImplementedError("cuSPARSE: matrices that are not general are not served by the emulated device")
    return int(found.base)


def _index(number: int) -> np.dtype:
    if number not in _INDEX_TYPES:
        raise NotImplementedError(f"cuSPARSE: indices of the type {number} are not served by the emulated device")
    return _INDEX_TYPES[number]


def _dtype(number: int) -> np.dtype[Any]:
    if number not in _DTYPES:
        raise NotImplementedError(f"cuSPARSE: numbers of cudaDataType {number} are not served by the emulated device")
    dtype: np.dtype[Any] = np.dtype(_DTYPES[number])
    return dtype


def createCsr(
    rows: int,
    cols: int,
    nnz: int,
    csrRowOffsets: int,
    csrColind: int,
    csrValues: int,
    csrRowOffsetsType: int,
    csrColIndType: int,
    idxBase: int,
    valueType: int,
) -> int:
    """A descriptor of a matrix in CSR."""
    _require(min(rows, cols, nnz) >= 0, idxBase in (0, 1))
    types = _index(csrRowOffsetsType), _index(csrColIndType)
    places = csrRowOffsets, csrColind, csrValues
    _dtype(valueType)
    return _new(_Sparse(CUSPARSE_FORMAT_CSR, rows, cols, nnz, *places, *types, idxBase, valueType))


def createCsc(
    rows: int,
    cols: int,
    nnz: int,
    cscColOffsets: int,
    cscRowInd: int,
    cscValues: int,
    cscColOffsetsType: int,
    cscRowIndType: int,
    idxBase: int,
    valueType: int,
) -> int:
    """A descriptor of a matrix in CSC."""
    number = createCsr(
        rows, cols, nnz, cscColOffsets, cscRowInd, cscValues, cscColOffsetsType, cscRowIndType, idxBase, valueType
    )
    _objects[number].format = CUSPARSE_FORMAT_CSC
    return number


def createCoo(
    rows: int,
    cols: int,
    nnz: int,
    cooRowInd: int,
    cooColInd: int,
    cooValues: int,
    cooIdxType: int,
    idxBase: int,
    valueType: int,
) -> int:
    """A descriptor of a matrix in COO."""
    number = createCsr(rows, cols, nnz, cooRowInd, cooColInd, cooValues, cooIdxType, cooIdxType, idxBase, valueType)
    _objects[number].format = CUSPARSE_FORMAT_COO
    return number


def createSpVec(size: int, nnz: int, indices: int, values: int, idxType: int, idxBase: int, valueType: int) -> int:
    """A descriptor of a sparse vector."""
    _dtype(valueType)
    return _new(_SparseVector(size, nnz, indices, values, _index(idxType), idxBase, valueType))


def createDnVec(size: int, values: int, valueType: int) -> int:
    """A descriptor of a vector."""
    _dtype(valueType)
    return _new(_Vector(size, values, valueType))


def createDnMat(rows: int, cols: int, ld: int, values: int, valueType: int, order: int) -> int:
    """A descriptor of a dense matrix."""
    _require(order in (CUSPARSE_ORDER_COL, CUSPARSE_ORDER_ROW), ld >= (rows if order == CUSPARSE_ORDER_COL else cols))
    _dtype(valueType)
    return _new(_Dense(rows, cols, ld, values, valueType, order))


def csrGet(desc: int) -> CsrAttributes:
    """What a descriptor of a matrix in CSR has."""
    a = _get(desc, _Sparse)
    _require(a.format == CUSPARSE_FORMAT_CSR)
    types = _INDEX_NUMBERS[a.first_type], _INDEX_NUMBERS[a.second_type]
    return CsrAttributes(a.rows, a.columns, a.count, a.first, a.second, a.values, *types, a.base, a.number)


def cooGet(desc: int) -> CooAttributes:
    """What a descriptor of a matrix in COO has."""
    a = _get(desc, _Sparse)
    _require(a.format == CUSPARSE_FORMAT_COO)
    kind = _INDEX_NUMBERS[a.first_type]
    return CooAttributes(a.rows, a.columns, a.count, a.first, a.second, a.values, kind, a.base, a.number)


def spVecGet(desc: int) -> SpVecAttributes:
    """What a descriptor of a sparse vector has."""
    x = _get(desc, _SparseVector)
    return SpVecAttributes(x.size, x.count, x.indices, x.values, _INDEX_NUMBERS[x.index_type], x.base, x.number)


def dnVecGet(desc: int) -> DnVecAttributes:
    """What a descriptor of a vector has."""
    x = _get(desc, _Vector)
    return DnVecAttributes(x.size, x.values, x.number)


def dnMatGet(desc: int) -> DnMatAttributes:
    """What a descriptor of a dense matrix has."""
    a = _get(desc, _Dense)
    return DnMatAttributes(a.rows, a.columns, a.leading, a.values, a.number, a.order)


def csrSetPointers(desc: int, csrRowOffsets: int, csrColInd: int, csrValues: int) -> None:
    """Set where the arrays of a matrix lie."""
    a = _get(desc, _Sparse)
    a.first, a.second, a.values = csrRowOffsets, csrColInd, csrValues


cscSetPointers = cooSetPointers = csrSetPointers


def spMatGetSize(desc: int, rows: int, cols: int, nnz: int) -> None:
    """Write rows, columns and the count of numbers to the host."""
    a = _get(desc, _Sparse)
    for place, value in zip((rows, cols, nnz), (a.rows, a.columns, a.count), strict=True):
        host.of_host(place, 1, np.int64)[0] = value


def spMatGetFormat(desc: int) -> int:
    """The format of a matrix."""
    return int(_get(desc, _Sparse).format)


def spMatGetIndexBase(desc: int) -> int:
    """The base of a matrix's indices."""
    return int(_get(desc, _Sparse).base)


def spMatGetValues(desc: int) -> int:
    """Where the numbers of a matrix, or of a sparse vector or a dense one, lie."""
    return int(_get(desc, _Sparse, _SparseVector, _Vector, _Dense).values)


def spMatSetValues(desc: int, values: int) -> None:
    """Set where the numbers lie."""
    _get(desc, _Sparse, _SparseVector, _Vector, _Dense).values = values


spVecGetValues = dnVecGetValues = dnMatGetValues = spMatGetValues
spVecSetValues = dnVecSetValues = dnMatSetValues = spMatSetValues


def spVecGetIndexBase(desc: int) -> int:
    """The base of a sparse vector's indices."""
    return int(_get(desc, _SparseVector).base)


def spMatSetAttribute(spMatDescr: int, attribute: int, data: int) -> None:
    """Set which triangle of a matrix counts, or whether its diagonal is taken to be ones."""
    _require(attribute in (CUSPARSE_SPMAT_FILL_MODE, CUSPARSE_SPMAT_DIAG_TYPE), data in (0, 1))
    _get(spMatDescr, _Sparse).attributes[attribute] = data


# ---- what lies in memory --------------------------------------------------------------------------------------------


def _offsets(pointer: int, lines: int, count: int, dtype: Any, base: int) -> np.ndarray:
    """The offsets of ``lines`` rows or columns, from 0, after a look at whether they are some."""
    found = host.array(pointer, lines + 1, dtype).astype(np.int64) - base
    if found[0] != 0 or found[-1] > count or (np.diff(found) < 0).any():
        raise RuntimeError("cuSPARSE: the offsets of a matrix do not ascend from its base to its count of numbers")
    return found


def _within(indices: np.ndarray, size: int, base: int) -> np.ndarray:
    found = indices.astype(np.int64) - base
    if found.size and (found.min() < 0 or found.max() >= size):
        raise RuntimeError(f"cuSPARSE: an index is not one of the {size} of a matrix")
    return found


def _expanded(offsets: np.ndarray) -> np.ndarray:
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def _triples(a: _Sparse) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns and numbers."""
    values = host.array(a.values, a.count, _dtype(a.number))
    second = host.array(a.second, a.count, a.second_type)
    if a.format == CUSPARSE_FORMAT_COO:
        first = _within(host.array(a.first, a.count, a.first_type), a.rows, a.base)
        return first, _within(second, a.columns, a.base), values
    lines, across = (a.rows, a.columns) if a.format == CUSPARSE_FORMAT_CSR else (a.columns, a.rows)
    first = _expanded(_offsets(a.first, lines, a.count, a.first_type, a.base))
    second, values = _within(second[: len(first)], across, a.base), values[: len(first)]
    return (first, second, values) if a.format == CUSPARSE_FORMAT_CSR else (second, first, values)


def _dense(a: _Dense, write: bool = False) -> np.ndarray:
    dtype = _dtype(a.number)
    if a.order == CUSPARSE_ORDER_COL:
        return host.matrix(a.values, a.rows, a.columns, a.leading, dtype, write=write)
    return host.matrix(a.values, a.columns, a.rows, a.leading, dtype, write=write).T


def _operated(a: _Sparse, operation: int) -> Any:
    """op(A) as a matrix of SciPy in CSR."""
    sparse = host.scipy("sparse", "cuSPARSE: a product")
    rows, columns, values = _triples(a)
    shape = a.rows, a.columns
    if operation != CUSPARSE_OPERATION_NON_TRANSPOSE:
        rows, columns, shape = columns, rows, shape[::-1]
    if operation == CUSPARSE_OPERATION_CONJUGATE_TRANSPOSE:
        values = values.conj()
    return sparse.csr_matrix((values, (rows, columns)), shape=shape)


def _arithmetic(number: int, *others: int) -> np.dtype:
    """The dtype of a computation, which has to be the one of all that takes part."""
    if number not in (0, 1, 4, 5) or any(other != number for other in others):
        raise NotImplementedError(
            f"cuSPARSE: a computation in cudaDataType {number} with {others} is not served by the emulated device"
        )
    return _dtype(number)


def _scalar(handle: _Handle, pointer: int, dtype: np.dtype) -> Callable[[], Any]:
    """A number that scales a result: of the host it is read now, of the device when the stream comes to it."""
    if handle.device_scalars:
        return lambda: host.array(pointer, 1, dtype)[0]
    value = host.of_host(pointer, 1, dtype)[0].copy()
    return lambda: value


def _accumulate(out: np.ndarray, product: np.ndarray, alpha: Any, beta: Any) -> None:
    out[...] = alpha * product if beta == 0 else alpha * product + beta * out


def _sized(*names: str) -> None:
    """For functions that need no memory to work in: the size to set apart, 1."""

    def size(handle: int, *arguments: Any) -> int:
        _begin(handle)
        return 1

    for name in names:
        globals()[name] = size


# ---- products -------------------------------------------------------------------------------------------------------

_sized("spMV_bufferSize", "spMM_bufferSize", "spSM_bufferSize", "spVV_bufferSize")


def spMV(
    handle: int,
    opA: int,
    alpha: int,
    matA: int,
    vecX: int,
    beta: int,
    vecY: int,
    computeType: int,
    alg: int,
    externalBuffer: int,
) -> None:
    """The product of a sparse matrix and a vector."""
    state = _begin(handle)
    a, x, y = _copy(matA, _Sparse), _copy(vecX, _Vector), _copy(vecY, _Vector)
    dtype = _arithmetic(computeType, a.number, x.number, y.number)
    shape = (a.rows, a.columns) if opA == CUSPARSE_OPERATION_NON_TRANSPOSE else (a.columns, a.rows)
    _require(shape == (y.size, x.size))
    host.scipy("sparse", "cuSPARSE: spMV")
    scales = _scalar(state, alpha, dtype), _scalar(state, beta, dtype)

    def work() -> None:
        product = _operated(a, opA) @ host.array(x.values, x.size, dtype)
        _accumulate(host.array(y.values, y.size, dtype, write=True), product, *(scale() for scale in scales))

    host.enqueue(work)


def spMM(
    handle: int,
    opA: int,
    opB: int,
    alpha: int,
    matA: int,
    matB: int,
    beta: int,
    matC: int,
    computeType: int,
    alg: int,
    externalBuffer: int,
) -> None:
    """The product of a sparse matrix and a dense one."""
    state = _begin(handle)
    a, b, c = _copy(matA, _Sparse), _copy(matB, _Dense), _copy(matC, _Dense)
    dtype = _arithmetic(computeType, a.number, b.number, c.number)
    left, right = (a.rows, a.columns), (b.rows, b.columns)
    if opA != CUSPARSE_OPERATION_NON_TRANSPOSE:
        left = left[::-1]
    if opB != CUSPARSE_OPERATION_NON_TRANSPOSE:
        right = right[::-1]
    _require(left[1] == right[0], (c.rows, c.columns) == (left[0], right[1]))
    host.scipy("sparse", "cuSPARSE: spMM")
    scales = _scalar(state, alpha, dtype), _scalar(state, beta, dtype)

    def work() -> None:
        product = _operated(a, opA) @ _operated_dense(b, opB)
        _accumulate(_dense(c, write=True), product, *(scale() for scale in scales))

    host.enqueue(work)


def _operated_dense(b: _Dense, operation: int) -> np.ndarray:
    found = _dense(b)
    if operation == CUSPARSE_OPERATION_CONJUGATE_TRANSPOSE:
        found = found.conj()
    return found if operation == CUSPARSE_OPERATION_NON_TRANSPOSE else found.T


def spVV(handle: int, opX: int, vecX: int, vecY: int, result: int, computeType: int, externalBuffer: int) -> None:
    """The product of a sparse vector and a dense one."""
    state = _begin(handle)
    x, y = _copy(vecX, _SparseVector), _copy(vecY, _Vector)
    dtype, on_device = _arithmetic(computeType, x.number, y.number), state.device_scalars

    def work() -> None:
        values, at = _vector(x, y)
        if opX == CUSPARSE_OPERATION_CONJUGATE_TRANSPOSE:
            values = values.conj()
        product = values @ host.array(y.values, y.size, dtype)[at]
        (host.array(result, 1, dtype, write=True) if on_device else host.of_host(result, 1, dtype))[0] = product

    (host.enqueue if on_device else host.now)(work)


def _vector(x: _SparseVector, y: _Vector, write: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of a sparse vector, and where they are in a dense one."""
    _require(x.number == y.number)
    at = _within(host.array(x.indices, x.count, x.index_type), y.size, x.base)
    return host.array(x.values, x.count, _dtype(x.number), write=write), at


def gather(handle: int, vecY: int, vecX: int) -> None:
    """Take the numbers of a sparse vector from a dense one."""
    _begin(handle)
    x, y = _copy(vecX, _SparseVector), _copy(vecY, _Vector)
    _require(x.number == y.number)

    def work() -> None:
        values, at = _vector(x, y, write=True)
        values[...] = host.array(y.values, y.size, _dtype(y.number))[at]

    host.enqueue(work)


def spGEMM_createDescr() -> int:
    """What is between the steps of a product of sparse matrices."""
    return _new(_Product())


spSM_createDescr = spGEMM_createDescr


def spGEMM_workEstimation(
    handle: int,
    opA: int,
    opB: int,
    alpha: int,
    matA: int,
    matB: int,
    beta: int,
    matC: int,
    computeType: int,
    alg: int,
    spgemmDescr: int,
    bufferSize: int,
    externalBuffer1: int,
) -> int:
    """The first step of a product of sparse matrices: the size to set apart, 1."""
    _begin(handle)
    _get(spgemmDescr, _Product)
    return 1


def spGEMM_compute(
    handle: int,
    opA: int,
    opB: int,
    alpha: int,
    matA: int,
    matB: int,
    beta: int,
    matC: int,
    computeType: int,
    alg: int,
    spgemmDescr: int,
    bufferSize: int,
    externalBuffer2: int,
) -> int:
    """The second step: the product, whose count of numbers is known afterwards."""
    state = _begin(handle)
    made = _get(spgemmDescr, _Product)
    if not externalBuffer2:
        return 1
    a, b, c = (_get(matrix, _Sparse) for matrix in (matA, matB, matC))
    dtype = _arithmetic(computeType, a.number, b.number, c.number)
    _require(opA == opB == CUSPARSE_OPERATION_NON_TRANSPOSE, a.columns == b.rows)
    _require((c.rows, c.columns) == (a.rows, b.columns), a.format == b.format == c.format == CUSPARSE_FORMAT_CSR)
    scales = _scalar(state, alpha, dtype), _scalar(state, beta, dtype)

    def work() -> None:
        scale, keep = (scale() for scale in scales)
        if keep != 0:
            raise NotImplementedError("cuSPARSE: spGEMM with beta is not served by the emulated device")
        left, right = _operated(a, opA), _operated(b, opB)
        product = left @ right
        # As cuSPARSE, which does not look at numbers, all places that may differ from 0 are kept.
        ones = [matrix.astype(np.bool_).astype(np.float64) for matrix in (left, right)]
        for matrix in ones:
            matrix.data[...] = 1
        places = (ones[0] @ ones[1]).tocsr()
        for matrix in (product, places):
            matrix.sort_indices()
        keys = [_expanded(matrix.indptr) * b.columns + matrix.indices for matrix in (places, product)]
        values = np.zeros(len(keys[0]), dtype)
        values[np.searchsorted(keys[0], keys[1])] = product.data
        made.indices, made.offsets, made.values = places.indices, places.indptr, scale * values

    host.now(work)
    c.count = len(made.values) if made.values is not None else 0
    return 1


def spGEMM_copy(
    handle: int,
    opA: int,
    opB: int,
    alpha: int,
    matA: int,
    matB: int,
    beta: int,
    matC: int,
    computeType: int,
    alg: int,
    spgemmDescr: int,
) -> None:
    """The third step: the product goes to where it shall lie."""
    _begin(handle)
    made, c = _get(spgemmDescr, _Product), _get(matC, _Sparse)
    _require(made.values is not None)
    parts = (c.first, made.offsets, c.first_type), (c.second, made.indices, c.second_type)
    base, values, place = c.base, made.values, c.values

    def work() -> None:
        for pointer, numbers, dtype in parts:
            host.array(pointer, len(numbers), dtype, write=True)[...] = numbers + base
        host.array(place, len(values), values.dtype, write=True)[...] = values

    host.enqueue(work)


# ---- triangular systems ---------------------------------------------------------------------------------------------


def spSM_analysis(
    handle: int,
    opA: int,
    opB: int,
    alpha: int,
    matA: int,
    matB: int,
    matC: int,
    computeType: int,
    alg: int,
    spsmDescr: int,
    externalBuffer: int,
) -> None:
    """The step before a triangular system is solved: nothing is to be done."""
    _begin(handle)
    _get(spsmDescr, _Product)


def spSM_solve(
    handle: int,
    opA: int,
    opB: int,
    alpha: int,
    matA: int,
    matB: int,
    matC: int,
    computeType: int,
    alg: int,
    spsmDescr: int,
    externalBuffer: int = 0,
) -> None:
    """Solve a triangular system for the columns of a dense matrix, row by row."""
    state = _begin(handle)
    a, b, c = _copy(matA, _Sparse), _copy(matB, _Dense), _copy(matC, _Dense)
    dtype = _arithmetic(computeType, a.number, b.number, c.number)
    scale = _scalar(state, alpha, dtype)
    right = (b.rows, b.columns) if opB == CUSPARSE_OPERATION_NON_TRANSPOSE else (b.columns, b.rows)
    _require(a.rows == a.columns, right == (c.rows, c.columns), a.rows == right[0])
    upper = a.attributes.get(CUSPARSE_SPMAT_FILL_MODE, CUSPARSE_FILL_MODE_LOWER) == CUSPARSE_FILL_MODE_UPPER
    unit = a.attributes.get(CUSPARSE_SPMAT_DIAG_TYPE, CUSPARSE_DIAG_TYPE_NON_UNIT) == CUSPARSE_DIAG_TYPE_UNIT
    if opA != CUSPARSE_OPERATION_NON_TRANSPOSE:
        upper = not upper
    host.scipy("sparse", "cuSPARSE: spSM")

    def work() -> None:
        matrix = _operated(a, opA)
        x = scale() * _operated_dense(b, opB)
        order = range(a.rows - 1, -1, -1) if upper else range(a.rows)
        with np.errstate(all="ignore"):
            for i in order:
                part = slice(matrix.indptr[i], matrix.indptr[i + 1])
                columns, values = matrix.indices[part], matrix.data[part]
                known = columns > i if upper else columns < i
                x[i] -= values[known] @ x[columns[known]]
                if not unit:
                    x[i] /= values[columns == i].sum(dtype=dtype)
        _dense(c, write=True)[...] = x

    host.enqueue(work)


# ---- incomplete LU --------------------------------------------------------------------------------------------------


def createCsrilu02Info() -> int:
    """What is known of an incomplete LU."""
    return _new(_Factor())


def _csrilu02(letter: str) -> dict[str, Callable[..., Any]]:
    dtype = np.dtype(_LETTERS[letter])

    def analysis(
        handle: int,
        m: int,
        nnz: int,
        descrA: int,
        csrSortedValA: int,
        csrSortedRowPtrA: int,
        csrSortedColIndA: int,
        info: int,
        policy: int,
        pBuffer: int,
    ) -> None:
        """Look for a row that has nothing on the diagonal."""
        _begin(handle)
        base, found = _base(descrA), _get(info, _Factor)

        def work() -> None:
            rows = _expanded(_offsets(csrSortedRowPtrA, m, nnz, np.int32, base))
            columns = _within(host.array(csrSortedColIndA, nnz, np.int32), m, base)
            missing = np.setdiff1d(np.arange(m), rows[rows == columns[: len(rows)]])
            found.position = int(missing[0]) + base if len(missing) else -1

        host.enqueue(work)

    def factor(
        handle: int,
        m: int,
        nnz: int,
        descrA: int,
        csrSortedValA_valM: int,
        csrSortedRowPtrA: int,
        csrSortedColIndA: int,
        info: int,
        policy: int,
        pBuffer: int,
    ) -> None:
        """L and U in the place of the matrix, with numbers where it had some alone."""
        _begin(handle)
        base, found = _base(descrA), _get(info, _Factor)

        def work() -> None:
            offsets = _offsets(csrSortedRowPtrA, m, nnz, np.int32, base)
            columns = _within(host.array(csrSortedColIndA, nnz, np.int32), m, base)
            values = host.array(csrSortedValA_valM, nnz, dtype, write=True)
            places: list[dict[int, int]] = []
            found.position = -1
            with np.errstate(all="ignore"):
                for i in range(m):
                    own = {int(columns[at]): at for at in range(offsets[i], offsets[i + 1])}
                    for k in sorted(column for column in own if column < i):
                        values[own[k]] /= values[places[k][k]] if k in places[k] else dtype.type(0)
                        for j, at in places[k].items():
                            if j > k and j in own:
                                values[own[j]] -= values[own[k]] * values[at]
                    if found.position < 0 and (i not in own or values[own[i]] == 0):
                        found.position = i + base
                    places.append(own)

        host.enqueue(work)

    return {"csrilu02_analysis": analysis, "csrilu02": factor}


for _letter in _LETTERS:
    _sized(_letter + "csrilu02_bufferSize")
    for _name, _function in _csrilu02(_letter).items():
        _function.__name__ = _function.__qualname__ = _letter + _name
        globals()[_letter + _name] = _function


def xcsrilu02_zeroPivot(handle: int, info: int, position: int) -> None:
    """Write the first bad pivot to the host, or -1; raise CuSparseError if there is one."""
    _begin(handle)
    found = _get(info, _Factor)
    host.now(lambda: None)
    host.of_host(position, 1, np.int32)[0] = found.position
    if found.position >= 0:
        raise CuSparseError(_ZERO_PIVOT)


# ---- sums -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Csr:
    """A matrix in CSR as the API that is not generic has it."""

    rows: int
    columns: int
    count: int
    base: int
    offsets: int
    indices: int

    def keys(self) -> np.ndarray:
        """A number for each place, row by row."""
        offsets = _offsets(self.offsets, self.rows, self.count, np.int32, self.base)
        indices = host.array(self.indices, self.count, np.int32)[: offsets[-1]]
        keys: np.ndarray = _expanded(offsets) * self.columns + _within(indices, self.columns, self.base)
        return keys


def _written(out: _Csr, keys: np.ndarray) -> None:
    lines = np.arange(out.rows + 1) * out.columns
    host.array(out.offsets, out.rows + 1, np.int32, write=True)[...] = np.searchsorted(keys, lines) + out.base


def xcsrgeam2Nnz(
    handle: int,
    m: int,
    n: int,
    descrA: int,
    nnzA: int,
    csrRowPtrA: int,
    csrColIndA: int,
    descrB: int,
    nnzB: int,
    csrRowPtrB: int,
    csrColIndB: int,
    descrC: int,
    csrRowPtrC: int,
    nnzTotalDevHostPtr: int,
    workspace: int,
) -> None:
    """The offsets of a sum, and how many numbers it has."""
    state = _begin(handle)
    a = _Csr(m, n, nnzA, _base(descrA), csrRowPtrA, csrColIndA)
    b = _Csr(m, n, nnzB, _base(descrB), csrRowPtrB, csrColIndB)
    c = _Csr(m, n, 0, _base(descrC), csrRowPtrC, 0)
    on_device = state.device_scalars

    def work() -> None:
        keys = np.union1d(a.keys(), b.keys())
        _written(c, keys)
        place = nnzTotalDevHostPtr, 1, np.int32
        (host.array(*place, write=True) if on_device else host.of_host(*place))[0] = len(keys)

    (host.enqueue if on_device else host.now)(work)


def _csrgeam2(letter: str) -> Callable[..., None]:
    dtype = np.dtype(_LETTERS[letter])

    def add(
        handle: int,
        m: int,
        n: int,
        alpha: int,
        descrA: int,
        nnzA: int,
        csrValA: int,
        csrRowPtrA: int,
        csrColIndA: int,
        beta: int,
        descrB: int,
        nnzB: int,
        csrValB: int,
        csrRowPtrB: int,
        csrColIndB: int,
        descrC: int,
        csrValC: int,
        csrRowPtrC: int,
        csrColIndC: int,
        buffer: int,
    ) -> None:
        """The sum of two matrices, each scaled; places of either are places of the sum."""
        state = _begin(handle)
        a = _Csr(m, n, nnzA, _base(descrA), csrRowPtrA, csrColIndA)
        b = _Csr(m, n, nnzB, _base(descrB), csrRowPtrB, csrColIndB)
        c = _Csr(m, n, 0, _base(descrC), csrRowPtrC, csrColIndC)
        scales = _scalar(state, alpha, dtype), _scalar(state, beta, dtype)

        def work() -> None:
            parts = a.keys(), b.keys()
            keys = np.union1d(*parts)
            values = np.zeros(len(keys), dtype)
            for part, pointer, scale in zip(parts, (csrValA, csrValB), scales, strict=True):
                np.add.at(values, np.searchsorted(keys, part), scale() * host.array(pointer, len(part), dtype))
            _written(c, keys)
            host.array(csrColIndC, len(keys), np.int32, write=True)[...] = keys % max(n, 1) + c.base
            host.array(csrValC, len(keys), dtype, write=True)[...] = values

        host.enqueue(work)

    add.__name__ = add.__qualname__ = letter + "csrgeam2"
    return add


for _letter in _LETTERS:
    _sized(_letter + "csrgeam2_bufferSizeExt")
    globals()[_letter + "csrgeam2"] = _csrgeam2(_letter)


# ---- conversions ----------------------------------------------------------------------------------------------------

_sized("csr2cscEx2_bufferSize", "denseToSparse_bufferSize", "sparseToDense_bufferSize")
_sized("xcsrsort_bufferSizeExt", "xcscsort_bufferSizeExt", "xcoosort_bufferSizeExt")


def xcsr2coo(handle: int, csrRowPtr: int, nnz: int, m: int, cooRowInd: int, idxBase: int) -> None:
    """Rows of offsets."""
    _begin(handle)

    def work() -> None:
        rows = _expanded(_offsets(csrRowPtr, m, nnz, np.int32, idxBase))
        host.array(cooRowInd, len(rows), np.int32, write=True)[...] = rows + idxBase

    host.enqueue(work)


def xcoo2csr(handle: int, cooRowInd: int, nnz: int, m: int, csrRowPtr: int, idxBase: int) -> None:
    """Offsets of rows, which ascend."""
    _begin(handle)

    def work() -> None:
        rows = _within(host.array(cooRowInd, nnz, np.int32), m, idxBase)
        offsets = host.array(csrRowPtr, m + 1, np.int32, write=True)
        offsets[0] = idxBase
        offsets[1:] = np.cumsum(np.bincount(rows, minlength=m)) + idxBase

    host.enqueue(work)


def csr2cscEx2(
    handle: int,
    m: int,
    n: int,
    nnz: int,
    csrVal: int,
    csrRowPtr: int,
    csrColInd: int,
    cscVal: int,
    cscColPtr: int,
    cscRowInd: int,
    valType: int,
    copyValues: int,
    idxBase: int,
    alg: int,
    buffer: int,
) -> None:
    """CSC of CSR, or the transpose of a matrix."""
    _begin(handle)
    dtype = _dtype(valType)

    def work() -> None:
        rows = _expanded(_offsets(csrRowPtr, m, nnz, np.int32, idxBase))
        columns = _within(host.array(csrColInd, len(rows), np.int32), n, idxBase)
        order = np.argsort(columns, kind="stable")
        offsets = host.array(cscColPtr, n + 1, np.int32, write=True)
        offsets[0] = idxBase
        offsets[1:] = np.cumsum(np.bincount(columns, minlength=n)) + idxBase
        host.array(cscRowInd, len(rows), np.int32, write=True)[...] = rows[order] + idxBase
        if copyValues == CUSPARSE_ACTION_NUMERIC:
            values = host.array(csrVal, len(rows), dtype)[order]
            host.array(cscVal, len(rows), dtype, write=True)[...] = values

    host.enqueue(work)


def denseToSparse_analysis(handle: int, matA: int, matB: int, alg: int, buffer: int) -> None:
    """Count the numbers of a dense matrix that are not 0, and write the offsets if there are some."""
    _begin(handle)
    a, b = _get(matA, _Dense), _get(matB, _Sparse)
    _require(a.number == b.number, (a.rows, a.columns) == (b.rows, b.columns))

    def work() -> None:
        dense = _dense(a)
        b.count = int(np.count_nonzero(dense))
        if b.format != CUSPARSE_FORMAT_COO:
            _write_offsets(b, dense)

    host.now(work)


def _write_offsets(b: _Sparse, dense: np.ndarray) -> None:
    counts = np.count_nonzero(dense, axis=1 if b.format == CUSPARSE_FORMAT_CSR else 0)
    offsets = host.array(b.first, len(counts) + 1, b.first_type, write=True)
    offsets[0] = b.base
    offsets[1:] = np.cumsum(counts) + b.base


def denseToSparse_convert(handle: int, matA: int, matB: int, alg: int, buffer: int) -> None:
    """The numbers of a dense matrix that are not 0."""
    _begin(handle)
    a, b = _copy(matA, _Dense), _copy(matB, _Sparse)
    _require(a.number == b.number, (a.rows, a.columns) == (b.rows, b.columns))

    def work() -> None:
        dense = _dense(a)
        by_column = b.format == CUSPARSE_FORMAT_CSC
        first, second = np.nonzero(dense.T if by_column else dense)
        if len(first) != b.count:
            raise RuntimeError("cuSPARSE: denseToSparse_convert finds other numbers than the analysis found")
        if b.format == CUSPARSE_FORMAT_COO:
            host.array(b.first, b.count, b.first_type, write=True)[...] = first + b.base
        else:
            _write_offsets(b, dense)
        host.array(b.second, b.count, b.second_type, write=True)[...] = second + b.base
        values = dense[second, first] if by_column else dense[first, second]
        host.array(b.values, b.count, dense.dtype, write=True)[...] = values

    host.enqueue(work)


def sparseToDense(handle: int, matA: int, matB: int, alg: int, buffer: int) -> None:
    """A dense matrix of a sparse one; numbers for the same place are added."""
    _begin(handle)
    a, b = _copy(matA, _Sparse), _copy(matB, _Dense)
    _require(a.number == b.number, (a.rows, a.columns) == (b.rows, b.columns))

    def work() -> None:
        rows, columns, values = _triples(a)
        out = _dense(b, write=True)
        out[...] = 0
        np.add.at(out, (rows, columns), values)

    host.enqueue(work)


# ---- sorting --------------------------------------------------------------------------------------------------------


def createIdentityPermutation(handle: int, n: int, p: int) -> None:
    """0, 1, 2, ..."""
    _begin(handle)

    def work() -> None:
        host.array(p, n, np.int32, write=True)[...] = np.arange(n)

    host.enqueue(work)


def _sort(first: np.ndarray, second: np.ndarray, P: int, *sorted_too: np.ndarray) -> None:
    """Sort ``second`` within equal numbers of ``first``, and with it what is in ``sorted_too`` and at P."""
    order = np.lexsort((second, first))
    for numbers in (second, *sorted_too, *([host.array(P, len(order), np.int32, write=True)] if P else [])):
        numbers[...] = numbers[order]


def xcsrsort(
    handle: int, m: int, n: int, nnz: int, descrA: int, csrRowPtr: int, csrColInd: int, P: int, pBuffer: int
) -> None:
    """Sort the columns of each row."""
    _begin(handle)
    base = _base(descrA)

    def work() -> None:
        rows = _expanded(_offsets(csrRowPtr, m, nnz, np.int32, base))
        _sort(rows, host.array(csrColInd, len(rows), np.int32, write=True), P)

    host.enqueue(work)


def xcscsort(
    handle: int, m: int, n: int, nnz: int, descrA: int, cscColPtr: int, cscRowInd: int, P: int, pBuffer: int
) -> None:
    """Sort the rows of each column."""
    xcsrsort(handle, n, m, nnz, descrA, cscColPtr, cscRowInd, P, pBuffer)


def xcoosortByRow(handle: int, m: int, n: int, nnz: int, cooRows: int, cooCols: int, P: int, pBuffer: int) -> None:
    """Sort by rows, and by columns within them."""
    _begin(handle)

    def work() -> None:
        rows, columns = (host.array(pointer, nnz, np.int32, write=True) for pointer in (cooRows, cooCols))
        _sort(rows.copy(), columns, P, rows)

    host.enqueue(work)


def xcoosortByColumn(handle: int, m: int, n: int, nnz: int, cooRows: int, cooCols: int, P: int, pBuffer: int) -> None:
    """Sort by columns, and by rows within them."""
    xcoosortByRow(handle, n, m, nnz, cooCols, cooRows, P, pBuffer)


# ---- small numbers --------------------------------------------------------------------------------------------------


def _compress(letter: str) -> dict[str, Callable[..., Any]]:
    dtype = np.dtype(_LETTERS[letter])

    def kept(values: np.ndarray, tol: complex) -> np.ndarray:
        return np.asarray(~(np.abs(values) <= np.real(tol)))

    def count(handle: int, m: int, descr: int, values: int, rowPtr: int, nnzPerRow: int, tol: complex) -> int:
        """How many numbers of each row are greater than ``tol``; the sum of that is returned."""
        _begin(handle)
        base, total = _base(descr), 0

        def work() -> None:
            nonlocal total
            nnz = int(host.array(rowPtr, m + 1, np.int32)[-1]) - base
            rows = _expanded(_offsets(rowPtr, m, nnz, np.int32, base))
            counts = np.bincount(rows[kept(host.array(values, nnz, dtype), tol)], minlength=m)
            host.array(nnzPerRow, m, np.int32, write=True)[...] = counts
            total = int(counts.sum())

        host.now(work)
        return total

    def compress(
        handle: int,
        m: int,
        n: int,
        descrA: int,
        inVal: int,
        inColInd: int,
        inRowPtr: int,
        inNnz: int,
        nnzPerRow: int,
        outVal: int,
        outColInd: int,
        outRowPtr: int,
        tol: complex,
    ) -> None:
        """The numbers that are greater than ``tol``."""
        _begin(handle)
        base = _base(descrA)

        def work() -> None:
            offsets = _offsets(inRowPtr, m, inNnz, np.int32, base)
            values = host.array(inVal, inNnz, dtype)[: offsets[-1]]
            mask = kept(values, tol)
            counts = np.bincount(_expanded(offsets)[mask], minlength=m)
            found = host.array(outRowPtr, m + 1, np.int32, write=True)
            found[0] = base
            found[1:] = np.cumsum(counts) + base
            columns = host.array(inColInd, inNnz, np.int32)[: offsets[-1]][mask]
            host.array(outVal, len(columns), dtype, write=True)[...] = values[mask]
            host.array(outColInd, len(columns), np.int32, write=True)[...] = columns

        host.enqueue(work)

    return {"nnz_compress": count, "csr2csr_compress": compress}


for _letter in _LETTERS:
    for _name, _function in _compress(_letter).items():
        _function.__name__ = _function.__qualname__ = _letter + _name
        globals()[_letter + _name] = _function


# ---- what is refused ------------------------------------------------------------------------------------------------

_OF_EACH_TYPE = (
    "nnz",
    *(f"csrilu02_{what}" for what in ("numericBoost",)),
    *(f"csric02{step}" for step in ("", "_analysis", "_bufferSize")),
    *(f"bsric02{step}" for step in ("", "_analysis", "_bufferSize")),
    *(f"bsrilu02{step}" for step in ("", "_analysis", "_bufferSize", "_numericBoost")),
    *(f"gtsv2{kind}{size}" for kind in ("", "_nopivot", "StridedBatch") for size in ("", "_bufferSizeExt")),
    *(f"{name}InterleavedBatch{size}" for name in ("gtsv", "gpsv") for size in ("", "_bufferSizeExt")),
)
_NOT_SERVED = (
    *(letter + name for letter in _LETTERS for name in _OF_EACH_TYPE),
    *(f"create{name}Info" for name in ("Bsric02", "Bsrilu02", "Csric02")),
    *(f"destroy{name}Info" for name in ("Bsric02", "Bsrilu02", "Csric02")),
    *(f"x{name}_zeroPivot" for name in ("bsric02", "bsrilu02", "csric02")),
    *(f"spGEAM{step}" for step in ("", "_bufferSize", "_createDescr", "_destroyDescr", "_nnz")),
    *(f"{name}{what}StridedBatch" for name in ("spMat", "dnMat") for what in ("Get", "Set")),
)

for _name in _NOT_SERVED:
    globals()[_name] = host.refusing("cuSPARSE", _name)

import numpy as np
import pytest

from gpunn.ops.shared import rows

SHAPES = [(0, 3), (1, 1), (7, 1), (5, 3), (3, 64), (4, 300), (2, 5000)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_sums_of_rows_and_columns(shape, dtype, rng):
    a, b = rng.standard_normal((2, *shape)).astype(dtype)
    of_rows, of_columns = (rng.standard_normal(size).astype(dtype) for size in shape)
    wide = a.astype(np.float64)
    expected = {
        "row_sums": (rows.row_sums(np, a), wide.sum(1)),
        "weighted": (rows.row_sums(np, a, of_columns), (wide * of_columns).sum(1)),
        "row_dots": (rows.row_dots(np, a, b), (wide * b).sum(1)),
        "column_sums": (rows.column_sums(np, a, of_rows), (wide * of_rows[:, None]).sum(0)),
    }
    tolerance = 4 * np.finfo(dtype).eps * np.sqrt(max(shape)) * 4
    for name, (actual, wanted) in expected.items():
        assert (actual.dtype, actual.shape) == (dtype, wanted.shape), name
        np.testing.assert_allclose(actual, wanted, rtol=tolerance, atol=tolerance, err_msg=name)
    np.testing.assert_array_equal(rows.outer(np, of_rows, of_columns), of_rows[:, None] * of_columns)
    np.testing.assert_array_equal(rows.repeated(np, of_columns, 3), [of_columns] * 3)


def test_long_rows_are_added_by_halves():
    a = np.full((1, 1_000_000), 0.1, np.float32)
    assert abs(rows.row_sums(np, a)[0] / (a[0].astype(np.float64).sum()) - 1) < 1e-6


@pytest.mark.parametrize("size", [10, 100_000])
def test_the_buffer_is_what_it_was_afterwards(size):
    before, seen = np.getbufsize(), []

    @rows.unbuffered
    def fails(a):
        seen.append(np.getbufsize())
        raise ValueError

    with pytest.raises(ValueError, match="^$"):
        fails(np.zeros(size))
    assert np.getbufsize() == before
    assert (seen[0] == before) == (size == 10)

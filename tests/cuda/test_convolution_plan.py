"""The choice of a convolution's tiles: a function of shapes alone."""

import dataclasses

import numpy as np
import pytest

from gpunn.cuda import source
from gpunn.ops import conv
from gpunn.ops.conv.tiles import DOUBLE, FLOAT, JOBS, TILE_K, Configuration, choose, configurations, estimate, product

H200 = 132


def layer(n, c, size, k, f, stride=1, padding=0, groups=1):
    return conv.plan(2, (n, c, size, size), (k, c // groups, f, f), stride, padding, 1, groups)


CONV3 = layer(128, 256, 13, 384, 3, padding=1)
DIGITS = layer(64, 1, 8, 32, 3, padding=1)
LAYERS = [CONV3, DIGITS, layer(128, 3, 227, 96, 11, 4), layer(32, 512, 7, 512, 3, padding=1), layer(1, 1, 1, 1, 1)]


@pytest.mark.parametrize("job", JOBS)
def test_large_layers_get_the_largest_tile_and_small_ones_fill_theirs(job):
    assert (choose(job, CONV3, H200).rows, choose(job, CONV3, H200).columns) == (128, 128)
    assert choose(job, DIGITS, H200).rows <= 32


def test_few_tiles_are_split_and_many_are_not():
    assert choose("backward_w", DIGITS, H200).splits >= 16
    one_wave = choose("backward_w", CONV3, H200)
    across, down, deep = one_wave.blocks(product(CONV3, "backward_w"))
    assert one_wave.splits > 1
    assert across * down * deep >= H200
    wide = layer(1, 4096, 8, 4096, 3, padding=1)
    assert choose("backward_w", wide, H200).splits == 1


@pytest.mark.parametrize("shape", LAYERS)
@pytest.mark.parametrize("multiprocessors", [1, 4, 20, H200])
def test_splits_cover_every_term_and_none_is_empty(shape, multiprocessors):
    size = product(shape, "backward_w")
    for candidate in configurations("backward_w", size, 4, False):
        chunk = candidate.chunk(size)
        assert chunk % TILE_K == 0
        assert (candidate.splits - 1) * chunk < size.terms <= candidate.splits * chunk
    chosen = choose("backward_w", shape, multiprocessors)
    best = min(estimate(c, size, multiprocessors) for c in configurations("backward_w", size, 4, False))
    assert estimate(chosen, size, multiprocessors) == best


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("itemsize", [4, 8])
@pytest.mark.parametrize("wide", [False, True])
def test_only_compiled_configurations_are_chosen(job, itemsize, wide):
    """CI compiles the specialisations that the kernel file lists, and checks their resources."""
    listed = source.example_macros(source.flatten("conv.cu"))
    for shape in LAYERS:
        plan = choose(job, shape, H200, itemsize, wide)
        assert dataclasses.replace(plan, splits=1) in (FLOAT if itemsize == 4 else DOUBLE)
        assert plan.splits == 1 or job == "backward_w"
        assert not wide or plan.reg == 4
    for tile in FLOAT if itemsize == 4 else DOUBLE:
        macros = {name: str(value) for name, value in tile.macros().items()}
        dtype = "float" if itemsize == 4 else "double"
        assert {"DTYPE": dtype, "INDEX": "int", **macros} in listed


def test_products_of_a_strided_grouped_convolution():
    shape = layer(2, 6, 11, 9, 3, stride=2, padding=1, groups=3)
    assert product(shape, "forward") == (3, 2 * 36, 2 * 9, 3)
    assert product(shape, "backward_w") == (3, 2 * 9, 2 * 36, 3)
    # Four sub-lattices of at most 6 x 6 pixels, each met by at most 2 x 2 of the taps.
    assert product(shape, "backward_x") == (2, 2 * 36, 3 * 4, 3 * 4)


def test_a_grid_never_exceeds_what_cuda_takes():
    size = product(layer(512, 40_000, 30, 40_000, 3, groups=40_000), "backward_w")
    assert {candidate.splits for candidate in configurations("backward_w", size, 4, False)} == {1}


def test_no_image_has_a_plan():
    assert choose("backward_w", layer(0, 2, 5, 3, 3), H200).splits == 1


def test_grid_and_chunk_of_a_configuration():
    plan = Configuration(32, 64, 4, 3, splits=3)
    shape = layer(1, 3, 10, 33, 3)
    assert plan.threads == 128
    assert plan.blocks(product(shape, "backward_w")) == (1, 2, 3)
    assert plan.chunk(product(shape, "backward_w")) == 32
    assert np.prod(shape.integers[:2]) == 1

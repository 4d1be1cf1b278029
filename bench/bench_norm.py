import pytest

LAYER = {"layer norm": ((32, 64), 512), "layer norm, wide": ((16, 64), 1024)}


@pytest.mark.parametrize("name", LAYER)
def bench_training_layer_norm(bench, name):
    (batch, length), size = LAYER[name]
    shape = (bench.batch(batch, 16 * batch), length, size)
    bench.training(
        "normalisation", name, [shape, (size,), (size,)], shape, lambda F, x, w, b: F.layer_norm(x, (size,), w, b)
    )


def bench_training_group_norm(bench):
    shape = (bench.batch(8, 64), 64, 56, 56)
    bench.training(
        "normalisation", "group norm, 8 groups", [shape, (64,), (64,)], shape,
        lambda F, x, w, b: F.group_norm(x, 8, w, b),
    )  # fmt: skip

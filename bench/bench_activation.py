import pytest

BATCH, SHAPE = (32, 256), (64, 32, 32)


@pytest.mark.parametrize("name", ["relu", "gelu", "sigmoid", "tanh", "silu"])
def bench_training(bench, name):
    shape = (bench.batch(*BATCH), *SHAPE)
    bench.training("activations", name, [shape], shape, lambda F, x: getattr(F, name)(x))


@pytest.mark.parametrize("classes", [1000])
def bench_training_softmax(bench, classes):
    shape = (bench.batch(128, 8192), classes)
    bench.training("losses, embedding, dropout", "softmax", [shape], shape, lambda F, x: F.softmax(x, -1))

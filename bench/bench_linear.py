import numpy as np

ROWS, SIZE = 10000, 128


def bench_training_embedding(bench):
    index = np.random.default_rng(1).integers(0, ROWS, (bench.batch(32, 1024), 64))
    bench.training(
        "losses, embedding, dropout", "embedding", [(ROWS, SIZE)], (*index.shape, SIZE),
        lambda F, weight, index: F.embedding(index, weight), theirs=lambda F, weight, index: F.embedding(index, weight),
        data=[index], read_again=False,
    )  # fmt: skip

"""A user's script: layers of one's own, data, training, plain arrays. It runs, and type checkers find nothing in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import gpunn
import gpunn.functional as F
from gpunn import Tensor, nn, optim, tensor
from gpunn.data import ArrayDataset, DataLoader
from gpunn.train import Checkpoint, EarlyStopping, Record, Trainer, evaluate

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


class Residual(nn.Module):
    def __init__(self, width: int, p: float = 0.1) -> None:
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)
        self.drop = nn.Dropout(p)

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        h = self.drop(F.relu(self.first(x)))
        return x + scale * self.second(h)


class Reader(nn.Module):
    """Reads the rows of an image, and tells its class."""

    def __init__(self, rows: int, classes: int) -> None:
        self.norm = nn.LayerNorm(rows)
        self.lstm = nn.LSTM(rows, 16, batch_first=True)
        self.head = nn.Sequential(Residual(16), nn.ReLU(), nn.Linear(16, classes))

    def forward(self, images: Tensor) -> Tensor:
        rows = self.norm(images.reshape(len(images), *images.shape[-2:]))
        output, (last, _) = self.lstm(rows)
        mean = (output.mean(axis=1) + last[0]) / 2
        return self.head(mean)


def by_hand(model: Reader, images: Floats, labels: Labels) -> list[float]:
    optimizer = optim.AdamW(model.parameters(), lr=0.01)
    losses: list[float] = []
    for start in range(0, len(images), 50):
        x, y = images[start : start + 50], labels[start : start + 50]
        optimizer.zero_grad()
        loss = F.cross_entropy(model(tensor(x)), y)
        loss.backward()
        optim.clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


def edges(images: Floats) -> npt.NDArray[Any]:
    """Of plain arrays, with no Tensor."""
    sobel = np.array([[[[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]]], np.float32)
    return F.abs(F.max_pool2d(F.conv2d(images, sobel, padding=1), 2))


def main(folder: Path) -> dict[str, float]:
    gpunn.manual_seed(0)
    (images, labels), test = gpunn.data.digits(seed=0)
    model = Reader(8, 10)
    losses = by_hand(model, images[:200], labels[:200])
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def loss(batch: tuple[Floats, Labels]) -> tuple[Tensor, int]:
        x, y = batch
        return F.cross_entropy(model(tensor(x)), y), len(y)

    loader = DataLoader(ArrayDataset(images[:300], labels[:300]), batch_size=50, shuffle=True)
    callbacks = [Checkpoint(folder / "kept"), EarlyStopping("train_loss", patience=2)]
    records: list[Record] = Trainer(model, optimizer, loader, loss, callbacks=callbacks).run(epochs=2)
    held_out = images[300:400], labels[300:400]
    again = Trainer(model, optimizer, loader, F.cross_entropy, validation=held_out, metrics=["accuracy"])
    losses.append(again.run(epochs=1)[-1]["validation_loss"])
    weights: dict[str, npt.NDArray[Any]] = model.state_dict()
    with gpunn.no_grad(), model.evaluating():
        certain = F.softmax(model(tensor(test[0])), axis=1).max(axis=1)
    print(f"{len(weights)} weights, certain to {certain.mean().item():.0%}, edges to {edges(images[:2]).max():.1f}")
    return {"first": losses[0], "last": records[-1]["train_loss"], "accuracy": evaluate(model, *test).accuracy}


if __name__ == "__main__":
    print(main(Path("runs")))

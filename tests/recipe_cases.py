"""A row for each recipe: options for a run of about a second, and what it keeps."""

from __future__ import annotations

from typing import Any, NamedTuple


class Case(NamedTuple):
    """What the tests of all recipes need to know of one.

    ``measures`` are those of a run that is opened again, none where no model is kept; ``parts`` the networks that
    answer, ``""`` a single one; ``tested`` how many test examples are told apart, none of a model that writes text.
    """

    options: dict[str, Any]
    measures: tuple[str, ...] = ("test_accuracy", "test_loss")
    parts: tuple[str, ...] = ("",)
    tested: int | None = 450
    resumes: bool = True


CASES: dict[str, Case] = {
    "alexnet": Case({"epochs": 1, "width": 0.02, "batch_size": 8, "towers": 1}, tested=2),
    "circles": Case({"epochs": 6, "lr": 0.02}, tested=500),
    "digits": Case({"epochs": 2, "batch_size": 64, "seed": 3}),
    "digits-rows": Case({"epochs": 2, "hidden_size": 16, "batch_size": 64}, parts=("rnn", "lstm", "gru")),
    "gradients": Case({"steps": 2, "hidden": 4}, measures=(), resumes=False),
    "learning-rates": Case({"steps": 3}, measures=(), resumes=False),
    "spell": Case(
        {"epochs": 2, "hidden_size": 16, "batch_size": 64, "lr": 0.01}, measures=("exact_names", "test_loss")
    ),
    "text": Case(
        {"epochs": 2, "hidden_size": 16, "batch_size": 8, "sequence_length": 16, "cell": "lstm"},
        measures=("test_accuracy", "test_bits_per_character", "test_loss"),
        tested=None,
    ),
}

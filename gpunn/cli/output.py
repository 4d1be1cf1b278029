"""What a command says when it is done: words for people or, with ``--json``, an object for programs."""

import json
from collections.abc import Mapping
from typing import Any

_as_json = False


def use_json(wanted: bool) -> None:
    """Let :func:`tell` print JSON from now on, or words."""
    global _as_json
    _as_json = wanted


def tell(words: str, facts: Mapping[str, Any]) -> None:
    """Print ``words`` or, with ``--json``, ``facts`` as one line of JSON.

    >>> use_json(False)
    >>> tell("accuracy 50.00%", {"accuracy": 0.5})
    accuracy 50.00%
    >>> use_json(True)
    >>> tell("accuracy 50.00%", {"accuracy": 0.5})
    {"accuracy": 0.5}
    >>> use_json(False)
    """
    print(json.dumps(facts, default=str) if _as_json else words)

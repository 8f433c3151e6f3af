"""What it costs to make bytes of a value and a value of bytes: plain data as Dicts store it, and as the C pickler would."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from time import perf_counter
from typing import Any

from holdall import values

CONVERSIONS = 1_000
SMALL = os.urandom(100)
"""What the rows of get and put store."""
DOCUMENT = {"id": 4711, "name": "a name", "scores": [0.5, 1.5, 2.5], "tags": ["a", "b"], "of": {"x": 1, "y": [None, True]}}
PAIRS = [(number, f"name {number}") for number in range(20)]


def plain(value: object) -> Any:
    """There and back as plain data."""
    return values.load(values.dump(value))


def pickled(value: object) -> Any:
    """There and back by the C pickler."""
    return pickle.loads(pickle.dumps(value, values.PICKLE_PROTOCOL))


def microseconds(convert: Callable[[object], Any], value: object) -> float:
    """How long one conversion takes."""
    began = perf_counter()
    for _ in range(CONVERSIONS):
        convert(value)
    return (perf_counter() - began) * 1e6 / CONVERSIONS

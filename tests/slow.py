"""Parameters of which `make test` tries a few: the others are run by `make slow`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def slow_but(quick: Iterable[Any], every: Iterable[Any]) -> list[Any]:
    """The parameters `every`, each a tuple where there are several names, marked as slow but for those among `quick`."""
    few = [*quick]
    return [each if each in few else _slow(each) for each in every]


def _slow(each: Any) -> Any:
    return pytest.param(*(each if isinstance(each, tuple) else [each]), marks=pytest.mark.slow)

"""What type checkers must infer: read by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, ItemsView, KeysView, MutableMapping
from typing import Any

from typing_extensions import assert_type

from holdall import Client, Dict


def of_the_plain_form() -> None:
    d = Dict.from_name("kv", create_if_missing=True)
    assert_type(d, "Dict[Any, Any]")
    d["key"] = 1

"""The engines that can be used here: without plyvel LevelDB is none of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from holdall.errors import StorageError
from holdall.worker.store.engines import ENGINES, store_of

Kind = Callable[..., Any]
"""A kind of store on disk."""


def _is_usable(engine: str) -> bool:
    try:
        store_of(engine)
    except StorageError:
        return False
    return True


USABLE = [engine for engine in ENGINES if _is_usable(engine)]
on_each_engine = pytest.mark.parametrize("kind", [store_of(engine) for engine in USABLE], ids=USABLE)
needs_leveldb = pytest.mark.skipif("leveldb" not in USABLE, reason="needs plyvel")

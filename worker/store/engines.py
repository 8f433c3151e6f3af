"""What stores can be kept in: LevelDB, where its binding is installed; else SQLite, which is a part of Python."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from holdall.errors import InvalidError, StorageError

from .store import Store

ENGINES = {
    "leveldb": "the package plyvel: pip install plyvel (compiled, from Python 3.13 on: apt-get install libleveldb-dev g++)",
    "sqlite": "a Python with the module sqlite3",
}
"""Their names, and what to install where one cannot be loaded."""


def store_of(engine: str) -> Callable[..., Store]:
    """The kind of store that this engine keeps. Raises StorageError, saying what to install, if it cannot be used here."""
    try:
        if engine == "leveldb":
            from .leveldb import LevelDBStore

            return LevelDBStore
        from .sqlite import SQLiteStore

        return SQLiteStore
    except ImportError:
        raise StorageError(f"the stores are kept in {engine}, which needs {ENGINES[engine]}") from None


def default_engine() -> str:
    """What a new directory is kept in: as HOLDALL_ENGINE says (InvalidError if it is none), or the first that is usable."""
    wanted = os.environ.get("HOLDALL_ENGINE", "")
    if wanted not in ("", *ENGINES):
        raise InvalidError(f"HOLDALL_ENGINE must be one of {', '.join(ENGINES)}, not {wanted!r}")
    with contextlib.suppress(StorageError):
        store_of(wanted or "leveldb")
        return wanted or "leveldb"
    store_of(wanted or "sqlite")
    return "sqlite"

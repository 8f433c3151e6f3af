"""The store on disk where LevelDB's binding is not installed: SQLite, and the only place where its errors are translated.

1. One connection writes, and alone moves into the table what the log (`-wal`) holds. Each scan and each snapshot has one of its
   own, in a transaction: it sees the rows as they were when that began, and the log grows meanwhile.
2. SQLite has no checksums of its pages: each row has one here, of its name and value, which every read compares.
3. The commit that deletes gives back the pages (`auto_vacuum`). No other process may open the files (`unix-excl`).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Generator
from functools import partial
from pathlib import Path
from sqlite3 import Connection
from urllib.parse import quote

from holdall.disk import crc32, sync_file, sync_folder
from holdall.errors import StorageError

from .store import Changes, Scan, Snapshot

FILE, LOG = "rows.sqlite", "rows.sqlite-wal"
LOG_BYTES = 4 * 1024 * 1024
"""A log that has grown beyond is cut to this when it begins anew."""
_MADE = "PRAGMA auto_vacuum = FULL", "CREATE TABLE rows (row BLOB PRIMARY KEY, crc INT, value BLOB) WITHOUT ROWID"
_OPENED = "PRAGMA journal_mode = WAL", f"PRAGMA journal_size_limit = {LOG_BYTES}", "SELECT 1 FROM rows"


class SQLiteStore:
    """A store in the directory `path`, which `create` makes; errors call it `name`, or else by its path."""

    def __init__(self, path: Path, *, create: bool = False, name: Path | None = None) -> None:
        self._path = path
        self._name = name or path
        self._connections: list[Connection] = []
        self._idle: list[Connection] = []
        with contextlib.ExitStack() as failed:
            failed.callback(self.close)
            with self._translated("be opened"):
                if create:
                    path.mkdir(mode=0o700)
                elif not (path / FILE).stat().st_size:  # it would be taken for a new one, and its log removed
                    raise sqlite3.DatabaseError(f"{FILE} is empty")
                self._writer = self._connected("rwc" if create else "rw")
                for statement in (*_MADE, *_OPENED) if create else _OPENED:
                    self._writer.execute(statement).fetchone()
                self._reader = self._connected()
            failed.pop_all()

    def get(self, row: bytes) -> bytes | None:
        with self._translated("be read"):
            found = self._reader.execute("SELECT crc, value FROM rows WHERE row = ?", (row,)).fetchone()
        return None if found is None else self._checked(row, *found)

    def write(self, changes: Changes, sync: bool) -> None:
        written = [(row, crc32(value, crc32(row)), value) for row, value in changes.items() if value is not None]
        deleted = [(row,) for row, value in changes.items() if value is None]
        with self._translated("be written"):
            self._writer.execute(f"PRAGMA synchronous = {'FULL' if sync else 'NORMAL'}")
            with self._writer:
                self._writer.execute("BEGIN IMMEDIATE")
                self._writer.executemany("REPLACE INTO rows VALUES (?, ?, ?)", written)
                self._writer.executemany("DELETE FROM rows WHERE row = ?", deleted)

    def sync(self) -> None:
        with self._translated("be synced"):
            sync_file(self._path / LOG)
            sync_folder(self._path)

    def scan(self, start: bytes) -> Scan:
        snapshot = self.snapshot()
        try:
            yield from snapshot.scan(start)
        finally:
            snapshot.close()

    def snapshot(self) -> Snapshot:
        with self._translated("be read"):
            connection = self._idle.pop() if self._idle else self._connected()
            for statement in ("BEGIN", _OPENED[-1]):
                connection.execute(statement).fetchone()
        return Snapshot(partial(self._scan, connection), partial(self._let_go, connection))

    def compact(self, first: bytes, last: bytes) -> bool:
        return first <= last  # the space was given back with the rows

    def damages(self) -> list[str]:
        with self._translated("be checked"):
            return [text for (text,) in self._reader.execute("PRAGMA integrity_check") if text != "ok"]

    def close(self) -> None:
        while self._connections:  # the writer, which empties the log, is the last one
            self._connections.pop().close()

    def _connected(self, mode: str = "rw") -> Connection:
        uri = f"file:{quote(os.fsencode(self._path / FILE))}?mode={mode}&vfs=unix-excl"
        self._connections.append(sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False))
        return self._connections[-1]

    def _let_go(self, connection: Connection) -> None:
        """Its transaction, which only read, ends: it is idle again."""
        connection.rollback()
        self._idle.append(connection)

    def _scan(self, connection: Connection, start: bytes) -> Scan:
        with self._translated("be scanned"):
            for row, crc, value in connection.execute("SELECT * FROM rows WHERE row >= ? ORDER BY row", (start,)):
                yield row, self._checked(row, crc, value)

    def _checked(self, row: object, crc: object, value: object) -> bytes:
        """The value. Damage may have made anything of all three."""
        if not isinstance(row, bytes) or not isinstance(value, bytes) or crc32(value, crc32(row)) != crc:
            raise StorageError(f"the row {row!r} of the store {self._name} is damaged: its checksum does not match")
        return value

    @contextlib.contextmanager
    def _translated(self, what: str) -> Generator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise StorageError(f"the store {self._name} cannot {what}: {reason}") from None

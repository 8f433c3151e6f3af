"""The format of what is kept on disk, checksums, and syncs. CRC-32 is zlib's; isal gives the same number sooner."""

from __future__ import annotations

import fcntl
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from holdall.private import open_own

try:
    from isal import isal_zlib as _library
except ImportError:  # no wheel for this Python, or this machine
    import zlib as _library  # type: ignore[no-redef]

FORMAT = 5
"""Of a data directory's layout, the rows of its stores, and backups. `worker/store/rows.py` says what to do to change it."""

_found: Any = _library
crc32: Callable[..., int] = _found.crc32
"""The CRC of some bytes, or, with what it was before as a second argument, of those and these."""


def sync(descriptor: int) -> None:
    """Have what was written to this file survive a power cut. Raises OSError."""
    if sys.platform == "darwin":  # where fsync leaves it in the disk's own memory
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(descriptor)


def sync_file(path: Path | str) -> None:
    """Have what any process has written to this file survive a power cut. Raises OSError."""
    DiskFile(os.fspath(path), os.O_RDONLY).sync()


def sync_folder(path: Path) -> None:
    """Have the names in this folder survive a power cut. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(file: Path, data: bytes | memoryview) -> None:
    """Have this file, which is this user's own, hold these bytes, all of them or what it held before. Raises OSError."""
    scratch = file.with_name(f"{file.name}.{os.getpid()}")
    with open(scratch, "wb", opener=open_own) as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    os.rename(scratch, file)
    sync_folder(file.parent)


class DiskFile:
    """A file that is open as long as something refers to this: when a call is given up, a thread may still write to it.

    It is opened by its path, or is an open descriptor that came from another process. Raises OSError.
    """

    def __init__(self, of: str | int, flags: int = 0) -> None:
        self.descriptor = -1
        self.descriptor = os.open(of, flags | os.O_CLOEXEC, 0o600) if isinstance(of, str) else of

    @property
    def size(self) -> int | None:
        """In bytes; None of what is no regular file: who reads or writes that may wait for ever."""
        found = os.fstat(self.descriptor)
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def write(self, data: Any) -> int:
        """Write some of this; how many bytes."""
        return os.write(self.descriptor, data)

    def read(self, into: memoryview) -> int:
        """Read some bytes; how many, 0 at the end."""
        return os.readv(self.descriptor, [into])

    def sync(self) -> None:
        """Have what was written survive a power cut."""
        sync(self.descriptor)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # `os` may have gone before
        if self.descriptor >= 0:
            close(self.descriptor)


def refusal(what: str, found: int) -> str:
    """Why this, which has another format, is refused."""
    if found > FORMAT:
        return f"{what} has format {found}, this version of holdall reads format {FORMAT}: use a later version"
    return (
        f"{what} has format {found}, of a holdall before 0.2, this version of holdall reads format {FORMAT}: "
        "take the entries out with the older version, or begin anew in another directory"
    )

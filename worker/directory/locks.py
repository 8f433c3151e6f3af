"""That only one process at a time uses a data directory, or one worker's part of it.

A lock is an `flock` on a file of our own, of the real path: LevelDB's own lock is dropped when any descriptor of its file is
closed, and is passed by with a symlink. Such a file has one line: process id, holdall's version and its protocol's version of
the process that holds it, or held it last, and of a service the URL where it listens: what clients have in their environment
may lead elsewhere. Older versions of holdall write only the process id.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from pathlib import Path
from typing import IO, NamedTuple

from holdall import __version__
from holdall.errors import StorageError
from holdall.private import open_own
from holdall.process.listen import locked
from holdall.protocol import VERSION

LOCK_RETRY_SECONDS = 0.05
HOLDER_BYTES_MAX = 400
"""More than any holder's line has: of a file that holds something else, no more is read."""
_HOLDER = re.compile(rb"([1-9]\d{0,8})(?: ([!-~]+) (\d{1,3})(?: (ipc:///[^\n]+))?)?\n")


class Holder(NamedTuple):
    """A process that holds a lock, its versions of holdall and of the protocol, and where it listens; None: it does not say."""

    pid: int
    version: str | None = None
    protocol: int | None = None
    url: str | None = None

    def __str__(self) -> str:
        return f"process {self.pid} of {f'holdall {self.version}' if self.version else 'an older version of holdall'}"


def read_holder(file: Path) -> Holder | None:
    """The process that holds this lock file, or held it last; None if it is missing, or does not say."""
    try:
        with open(file, "rb", opener=open_own) as lock:
            line = _HOLDER.fullmatch(lock.read(HOLDER_BYTES_MAX))
    except OSError:
        return None
    if line is None:
        return None
    pid, version, protocol, url = line.groups()
    if version is None:
        return Holder(int(pid))
    return Holder(int(pid), version.decode(), int(protocol), None if url is None else os.fsdecode(url))


def is_locked(file: Path) -> bool:
    try:
        with open(file, opener=open_own) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is none yet
        pass
    return False


class Lock:
    """An exclusive lock on a file until `release` or this process ends; the file names that, and the URL where it listens."""

    def __init__(self, file: Path, what: str, wait_seconds: float = 0.0, url: str = "") -> None:
        until = time.monotonic() + wait_seconds
        self._file = self._opened(file, what)
        while not (is_taken := self._taken()) or not self.is_in_place():
            if is_taken:  # of a directory that has been replaced meanwhile
                self._file.close()
                self._file = self._opened(file, what)
            elif time.monotonic() >= until:
                self._file.close()
                holder = read_holder(file) or "an unknown process"
                raise StorageError(f"{what} is in use by {holder}: end that first (`holdall stop`), or use another directory")
            else:
                time.sleep(LOCK_RETRY_SECONDS)
        self._file.truncate(0)
        self._file.write(f"{os.getpid()} {__version__} {VERSION}{url and f' {url}'}\n")
        self._file.flush()

    def _opened(self, file: Path, what: str) -> IO[str]:
        try:
            return open(file, "a+", errors="surrogateescape", opener=open_own)
        except OSError as error:
            raise StorageError(f"{what} cannot be used: {error.strerror}: {file}") from None

    def is_in_place(self, name: str | None = None) -> bool:
        """Whether the file that is locked is still the one of that name: what it is in may be removed, moved, or replaced."""
        try:
            return os.path.samestat(os.stat(name or self._file.name), os.fstat(self._file.fileno()))
        except OSError:
            return False

    def _taken(self) -> bool:
        try:
            return locked(self._file)
        except OSError as error:
            raise StorageError(f"{self._file.name} cannot be locked: {error.strerror}; use a local disk") from None

    def release(self) -> None:
        self._file.close()

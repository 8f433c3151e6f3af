"""Making files survive a power cut, and telling them apart."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path


def sync(descriptor: int) -> None:
    """What was written to this file. Raises OSError."""
    if sys.platform == "darwin":  # where fsync leaves it in the disk's own memory
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(descriptor)


def sync_file(path: Path | str) -> None:
    """What anybody has written to this file. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def keeps_name(descriptor: int, path: Path | str) -> bool:
    """Whether the file of this name is still the one that is open."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except OSError:
        return False


def sync_folder(path: Path) -> None:
    """The names in this folder. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Making files survive a power cut."""

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


def sync_folder(path: Path) -> None:
    """The names in this folder. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

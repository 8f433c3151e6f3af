"""A small disk of its own for a directory, to be filled."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[None]:
    """Mount one there. Raises PermissionError where that is not allowed: as root it is, and under `unshare -rm`."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "holdall-test", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        raise PermissionError(f"needs the right to mount a small disk: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, left_mib: int = 0) -> Path:
    """Leave so much room."""
    ballast = disk / "ballast"
    with open(ballast, "wb") as file:
        found = os.statvfs(disk)
        os.posix_fallocate(file.fileno(), 0, found.f_bavail * found.f_frsize - (left_mib << 20))
    return ballast

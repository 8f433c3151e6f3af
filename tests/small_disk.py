"""A small disk of its own for a directory, to be filled."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STEP_BYTES = 16 * 1024 * 1024
"""Taken at once: little is given back when another was faster."""


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
    """Leave so much room, whoever else takes or gives some meanwhile; what is filled stays so."""
    ballast = disk / "ballast"
    with open(ballast, "ab") as file:
        taken = file.tell()
        while (more := min(_free_bytes(disk) - (left_mib << 20), STEP_BYTES)) > 0:
            try:
                os.posix_fallocate(file.fileno(), taken, more)
                taken += more
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
    return ballast


def _free_bytes(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize

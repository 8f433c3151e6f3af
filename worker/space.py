"""The room on a worker's disk: a store on a full disk must still be read and emptied, and work again once there is room.

LevelDB that has met a full disk fails every write until it is opened again, and opening writes what its log holds into
tables: without a byte of room it cannot even be read. So a worker stops taking what needs room while LOW_BYTES are left,
and keeps a file of RESERVE_BYTES that it gives up when others have used the rest.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

LOW_BYTES = 64 * 1024 * 1024
"""With less room than this, values are refused. What is left is for pops, whose outcomes are remembered, and for LevelDB."""
ENOUGH_BYTES = 2 * LOW_BYTES
"""With this much they are taken again."""
RESERVE_BYTES = 32 * 1024 * 1024
"""More than LevelDB's log holds, unless a tick was full of large values."""

log = logging.getLogger("holdall.worker")


class Space:
    """The room on the disk where `folder` is."""

    def __init__(self, folder: Path) -> None:
        self.is_short = False
        """Whether only what frees room may be written."""
        self._folder = folder
        self._reserve = folder / "reserve"

    def look(self) -> None:
        """See how much room there is, and keep the reserve if there is enough."""
        free = self._free_bytes()
        if free < LOW_BYTES and not self.is_short:
            self.is_short = True
            log.error("the disk of %s has %d MiB left: values are refused until there is more room", self._folder, free >> 20)
        wanted = 0 if self._reserve.exists() else RESERVE_BYTES
        if free >= ENOUGH_BYTES + wanted:
            if wanted:
                self._keep_reserve()
            if self.is_short:
                self.is_short = False
                log.warning("the disk of %s has %d MiB left: values are taken again", self._folder, free >> 20)

    def give_up_reserve(self) -> bool:
        """Let LevelDB have the reserve. Returns whether there was one."""
        try:
            self._reserve.unlink()
        except OSError:
            return False
        log.warning("%s: the reserve of %d MiB is given up", self._folder, RESERVE_BYTES >> 20)
        return True

    @property
    def why(self) -> str:
        """What a refusal says."""
        return (
            f"the disk of the service has {self._free_bytes() >> 20} MiB left, and values are refused; "
            f"pop, delete, or make room there: with {ENOUGH_BYTES + RESERVE_BYTES >> 20} MiB they are taken again"
        )

    def _free_bytes(self) -> int:
        found = os.statvfs(self._folder)
        return found.f_bavail * found.f_frsize

    def _keep_reserve(self) -> None:
        if not hasattr(os, "posix_fallocate"):  # macOS: LOW_BYTES alone must do
            return
        file = os.open(self._reserve, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(file, 0, RESERVE_BYTES)
        except OSError:  # somebody was faster
            self.give_up_reserve()
        finally:
            os.close(file)

"""The room on a worker's disk: a store on a full disk must still be read and emptied, and work again once there is room.

LevelDB that has met a full disk fails every write until it is opened again, and opening writes what its log holds into
tables: without a byte of room it cannot even be read. So a worker stops taking what needs room while LOW_BYTES are left, and
keeps a file of RESERVE_BYTES, of which it gives up a step whenever it cannot open its store because others have used the
rest. What a compaction had begun to write when the room ended goes when the store is opened, and becomes reserve again.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

LOW_BYTES = 64 * 1024 * 1024
"""With less room than this, values are refused. What is left is for pops, whose outcomes are remembered, and for LevelDB."""
ENOUGH_BYTES = 2 * LOW_BYTES
"""With this much they are taken again."""
STEP_BYTES = 16 * 1024 * 1024
"""The reserve is given up and taken back in such steps. LevelDB's log holds less, unless a tick was full of large values."""
RESERVE_BYTES = 2 * STEP_BYTES

log = logging.getLogger("holdall.worker")


class Space:
    """The room on the disk where `folder` is; log lines call it `name`, or else by its path."""

    def __init__(self, folder: Path, name: Path | None = None) -> None:
        self.is_short = False
        """Whether only what frees room may be written."""
        self._folder = folder
        self._name = name or folder
        self._reserve = folder / "reserve"

    def look(self) -> None:
        """See how much room there is, and take as much of it for the reserve as may be spared."""
        free = self._free_bytes()
        if free < LOW_BYTES and not self.is_short:
            self.is_short = True
            log.error("the disk of %s has %d MiB left: values are refused until there is more room", self._name, free >> 20)
        reserve = self._reserve_bytes()
        if free >= ENOUGH_BYTES + RESERVE_BYTES - reserve:
            self._take_reserve(RESERVE_BYTES)
            if self.is_short:
                self.is_short = False
                log.warning("the disk of %s has %d MiB left: values are taken again", self._name, free >> 20)
        elif reserve < STEP_BYTES and free >= STEP_BYTES + STEP_BYTES // 2:
            self._take_reserve(STEP_BYTES)  # what opening freed: compacting would use it up, and fail again

    def give_up_reserve(self) -> bool:
        """Let LevelDB have a step of the reserve. Returns whether there was one."""
        reserve = self._reserve_bytes()
        if reserve == 0:
            return False
        os.truncate(self._reserve, max(0, reserve - STEP_BYTES))
        log.warning("%s: %d MiB of its reserve are given up", self._name, STEP_BYTES >> 20)
        return True

    def why_no_room(self) -> str:
        """What the refusal of a value says; empty if there is room for it. It looks first."""
        self.look()
        if not self.is_short:
            return ""
        return (
            f"the disk of the service has {self._free_bytes() >> 20} MiB left, and values are refused; "
            f"pop, delete, or make room there: with {ENOUGH_BYTES + RESERVE_BYTES >> 20} MiB they are taken again"
        )

    def _free_bytes(self) -> int:
        found = os.statvfs(self._folder)
        return found.f_bavail * found.f_frsize

    def _reserve_bytes(self) -> int:
        try:
            return self._reserve.stat().st_size
        except FileNotFoundError:
            return 0

    def _take_reserve(self, size: int) -> None:
        if not hasattr(os, "posix_fallocate") or self._reserve_bytes() >= size:  # macOS: LOW_BYTES alone must do
            return
        file = os.open(self._reserve, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(file, 0, size)
        except OSError:  # another process was faster
            os.truncate(self._reserve, 0)
        finally:
            os.close(file)

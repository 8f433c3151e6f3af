"""That a part of a data directory has one owner: it records where it is, and is opened nowhere else.

A copy that is served beside its original goes its own way, and clients read now from one and now from the other. So the folder
of a part must have the device and the inode that its file `place` says; after a reboot, which may number devices otherwise, the
inode, on the same machine. Who renames it changes neither. A copy has others, one of hard links and one from an archive too:
then only the user knows which is to be used from now on, and says `holdall serve --adopt`.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from holdall.errors import StorageError

PLACE = "place"
_IDS = Path("/etc/machine-id"), Path("/proc/sys/kernel/random/boot_id")
"""Of this machine, and of the time since it was started; not all systems, and containers, have them."""


class Location(msgspec.Struct, frozen=True):
    """Where a folder is."""

    device: int
    inode: int
    machine: str
    boot: str

    def is_that_of(self, now: Location) -> bool:
        if self.boot and self.boot == now.boot:
            return (self.device, self.inode) == (now.device, now.inode)
        return self.inode == now.inode and (self.machine == now.machine or not self.machine or not now.machine)


def packed(folder: Path) -> bytes:
    """What a part that is in this folder records. Raises OSError."""
    return msgspec.json.encode(_found(folder)) + b"\n"


def require(folder: Path, name: Path) -> None:
    """Raises StorageError if the part in this folder, which is called `name`, belongs elsewhere."""
    try:
        if msgspec.json.decode((folder / PLACE).read_bytes(), type=Location).is_that_of(_found(folder)):
            return
        why = "is a copy, or was moved to another file system or machine"
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        why = f"does not say where it belongs ({error})"
    raise StorageError(
        f"{name} {why}: if this directory, and no other copy of it, is the one to be used from now on, say so once: "
        f"`holdall serve --adopt --data {name.parent}`"
    )


def machine() -> str:
    """An id of this machine, or of the time since it was started; empty if the system has none."""
    return next((found for found in map(_read, _IDS) if found), "")


def _found(folder: Path) -> Location:
    found = folder.stat()
    return Location(found.st_dev, found.st_ino, *map(_read, _IDS))


def _read(file: Path) -> str:
    return file.read_text().strip() if os.access(file, os.R_OK) else ""

"""What is this user's alone: folders and files that nobody else on the machine can change, replace, or have put there.

Root can do everything, and is trusted. A group that has the user's own name and no other member is the user alone.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import stat
from collections.abc import Iterator
from functools import cache
from pathlib import Path

OTHERS_WRITE, OTHERS = 0o022, 0o077
"""Bits of a mode: what lets others change what is in a folder, and what lets them do anything with it."""


def fault(folder: Path, forbidden: int = OTHERS_WRITE) -> str:
    """What lets another user replace this folder, or make it, or do what is `forbidden`. Empty: nothing. Raises OSError."""
    if not os.path.lexists(folder):
        return fault(folder.parent)
    last = folder.stat()
    for each in _passed(folder.absolute()):
        found = each.stat()
        if {found.st_uid, each.lstat().st_uid} - {0, os.getuid()} or not stat.S_ISDIR(found.st_mode):
            return f"{each} is another user's, or no directory"
        bits = OTHERS_WRITE if not found.st_mode & stat.S_ISVTX else 0
        if _of_others(found) & (forbidden if os.path.samestat(found, last) else bits):
            return f"others may enter or change {each} (see chmod)"
    return ""


def planted(place: Path) -> str:
    """What there is here, or below, but directories and files that are this user's alone. Empty: nothing. Raises OSError."""
    for each in (place, *place.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # who uses it has just removed it
            found = each.lstat()
            is_plain = stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)
            if not is_plain or found.st_uid != os.getuid() or _of_others(found) & OTHERS_WRITE:
                return f"{each} is a link, or others can change it"
    return ""


def open_own(path: str | os.PathLike[str], flags: int) -> int:
    """An `opener` for files of this user's own alone, and no links. Raises OSError before anything is changed."""
    descriptor = os.open(path, flags & ~os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    found = os.fstat(descriptor)
    if found.st_uid != os.getuid() or not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise PermissionError(errno.EPERM, "it is no file of this user's own", os.fspath(path))
    if flags & os.O_TRUNC:
        os.ftruncate(descriptor, 0)
    return descriptor


def _passed(path: Path) -> Iterator[Path]:
    """The folders and links on the way to this path, itself included, and to what the links name."""
    for each in (*reversed(path.parents), path):
        yield each
        if each.is_symlink():
            yield from _passed(each.parent / os.readlink(each))


def _of_others(found: os.stat_result) -> int:
    """What its mode lets others do."""
    bits = found.st_mode & OTHERS
    return bits & ~stat.S_IRWXG if bits & stat.S_IRWXG and _is_own(found.st_gid, os.getuid()) else bits


@cache
def _is_own(group_id: int, user_id: int) -> bool:
    """Whether this group is one user alone."""
    with contextlib.suppress(KeyError):
        group, user = grp.getgrgid(group_id), pwd.getpwuid(user_id).pw_name
        return group.gr_name == user and set(group.gr_mem) <= {user}
    return False

"""Admits no more clients than there are file descriptors for.

Each connection takes one. When there is none left, LevelDB, which opens files now and then, can write no more, and a loop is
woken by nothing but the connections that it cannot accept. So a process that serves takes as many descriptors as it may have,
and keeps some: when only those are left it accepts nothing (see `SystemPoller`), and renames its Unix socket. Clients that are
connected stay connected, others find no socket and try again until the name is back. Ports are closed by the broker's gate.

The broker's socket for workers keeps its name, and is polled all the while, so that a worker that was started again can
connect.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource

DESCRIPTORS_MAX = 1 << 20
"""Taken where the system sets no limit."""
LATE_MAX = 100
"""Connections that ZeroMQ accepts between two checks, though there is no room for them any more; our own are counted."""
LEVELDB_SHARE = 4
"""LevelDB keeps up to a fifth of all descriptors for its tables: a fourth is kept for it."""
ARRIVALS_PER_SECOND_MAX = 20_000
"""Faster than clients can arrive: the room is checked again before it can have been taken."""
ADMISSION_CHECK_SECONDS = (0.01, 0.5)
"""The shortest and the longest time between two checks."""
COMPLAINT_SECONDS = 60.0

log = logging.getLogger("holdall.service")


def raise_descriptor_limit() -> None:
    """Let this process have as many descriptors as it may: systems give 1,024 to begin with, for the sake of select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_MAX if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_MAX)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    with contextlib.suppress(OSError, ValueError):  # a system that allows less than it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def closed_url(url: str) -> str:
    """Where the Unix socket of this URL is while admission is closed."""
    return f"{url}.closed"


class Admission:
    """Of clients, at the Unix sockets at these URLs; URLs of other kinds are left alone."""

    def __init__(self, *urls: str) -> None:
        self._paths = {url[len("ipc://") :]: closed_url(url)[len("ipc://") :] for url in urls if url.startswith("ipc://")}
        for closed in self._paths.values():  # of one that was killed while it was closed
            with contextlib.suppress(OSError):
                os.unlink(closed)
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._limit = DESCRIPTORS_MAX if limit == resource.RLIM_INFINITY else limit
        self._kept = min(self._limit // LEVELDB_SHARE + LATE_MAX, self._limit // 2)
        self.is_open = True
        """Whether there is room for more."""
        self.room = LATE_MAX
        """For how many there is still, as far as is known since the last check."""
        self._complaint_due = 0.0

    def check(self, now: float) -> float:
        """Close or open it as there is room. Returns when to check again, by the same clock."""
        room = self.room = self._limit - self._kept - self._taken()
        if self.is_open and room <= 0:
            self._close(now)
        elif not self.is_open and room > self._kept // 4:
            self._move({closed: path for path, closed in self._paths.items()})
            self.is_open = True
        shortest, longest = ADMISSION_CHECK_SECONDS
        return now + (min(max(room / ARRIVALS_PER_SECOND_MAX, shortest), longest) if self.is_open else longest / 5)

    def _taken(self) -> int:
        try:
            return len(os.listdir("/dev/fd"))
        except OSError:  # there is none left to list them with
            return self._limit

    def _close(self, now: float) -> None:
        self._move(self._paths)
        self.is_open = False
        if now >= self._complaint_due:
            self._complaint_due = now + COMPLAINT_SECONDS
            log.warning(
                "of %d file descriptors only %d are left: no more clients are accepted until some leave; raise the limit "
                "(ulimit -Hn, or LimitNOFILE= of systemd)",
                self._limit,
                self._kept,
            )

    def _move(self, names: dict[str, str]) -> None:
        for old, new in names.items():
            with contextlib.suppress(OSError):  # it was removed
                os.rename(old, new)

"""A server of another project, as a child of this process."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from socket import AF_UNIX, create_server, socket
from urllib.request import urlopen

from holdall.bench.peers.peer import Missing

START_SECONDS_MAX = 30.0
LOOK_SECONDS = 0.02


@contextmanager
def folder() -> Generator[Path, None, None]:
    """A place for its data, on the same disk for all peers."""
    with tempfile.TemporaryDirectory(prefix="holdall-bench-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@contextmanager
def server(argv: list[str], answers: Callable[[], bool]) -> Generator[int, None, None]:
    """Run it until the end of the block; it can be used when `answers`. Its process id."""
    running = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        give_up_at = time.monotonic() + START_SECONDS_MAX
        while not answers():
            if running.poll() is not None or time.monotonic() > give_up_at:
                raise Missing(f"a {Path(argv[0]).name} that starts: this one does not (status {running.poll()})")
            time.sleep(LOOK_SECONDS)
        yield running.pid
    finally:
        running.terminate()
        running.wait()


def accepts(path: Path) -> bool:
    """Whether somebody listens at this Unix socket."""
    with socket(AF_UNIX) as tried:
        return tried.connect_ex(str(path)) == 0


def is_healthy(url: str) -> bool:
    """Whether a server says so at this URL."""
    try:
        with urlopen(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def free_port() -> int:
    """A port of this machine's own that nobody uses now."""
    with create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port

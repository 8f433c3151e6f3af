"""Hosts, as network namespaces with mounts of their own, and cables between them; for root, on Linux.

Namespaces share the file system, so a client would find a service's Unix sockets by their paths: each host has an empty file
system of its own where these, and the data, are. Connection files are on one that all hosts see.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import PIPE
from typing import IO, Any

import msgspec
import pytest

from holdall.connection_file import read
from tests.processes import free_port, new_key, until

ROOT = Path(__file__).resolve().parents[2]
OWN = Path("/mnt")
"""Where each host has its own file system."""


def require() -> None:
    """Skip a test where no hosts can be made."""
    if os.getuid() != 0 or not os.path.exists("/dev/net/tun") or not shutil.which("ip") or not shutil.which("unshare"):
        pytest.skip("only root can make network namespaces and TUN devices, with iproute2 and util-linux")
    name = f"holdall-{os.getpid()}-try"
    try:
        ip("netns", "add", name)
        ip("netns", "exec", name, "unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", str(OWN))
        ip("netns", "del", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no hosts can be made here: {error.stderr.decode()}")


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Cable:
    """Between two hosts: the first one, or if there is none this machine, has the address 10.99.NUMBER.1, the other one .2."""

    def __init__(self, number: int, first: Host | None, second: Host, seconds: float, loss: float) -> None:
        self.number = number
        self.addresses = f"10.99.{number}.1", f"10.99.{number}.2"
        self.devices = f"h{os.getpid() % 10_000}c{number}a", f"h{os.getpid() % 10_000}c{number}b"
        argv = [sys.executable, "-m", "tests.network.cable", *self.devices, str(seconds), str(loss)]
        self._process = subprocess.Popen(argv, cwd=ROOT, stdin=PIPE, stdout=PIPE, text=True)
        self._heard("ready")
        for host, device, address in zip((first, second), self.devices, self.addresses, strict=True):
            there = [] if host is None else ["-n", host.name]
            if host is not None:
                ip("link", "set", device, "netns", host.name)
            ip(*there, "addr", "add", f"{address}/30", "dev", device)
            ip(*there, "link", "set", device, "up")

    def cut(self) -> None:
        self._say("cut")

    def plug(self) -> None:
        self._say("plug")

    def end(self) -> None:
        self._stdin.close()
        self._process.wait(10)
        self._stdout.close()

    def _say(self, word: str) -> None:
        self._stdin.write(f"{word}\n")
        self._stdin.flush()
        self._heard(word)

    def _heard(self, word: str) -> None:
        assert self._stdout.readline().strip() == word

    @property
    def _stdin(self) -> IO[str]:
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def _stdout(self) -> IO[str]:
        assert self._process.stdout is not None
        return self._process.stdout


class Host:
    """One machine."""

    def __init__(self, number: int) -> None:
        self.name = f"holdall-{os.getpid()}-{number}"
        ip("netns", "add", self.name)
        ip("-n", self.name, "link", "set", "lo", "up")

    def command(self, *argv: str) -> list[str]:
        """What runs this here, with an empty file system of this host's own at OWN."""
        prepare = f'mount -t tmpfs -o mode=700 tmpfs {OWN} && mkdir -m 700 {OWN}/run && exec "$@"'
        return ["ip", "netns", "exec", self.name, "unshare", "--mount", "sh", "-c", prepare, "sh", *argv]

    def start(self, *argv: str, **variables: str) -> subprocess.Popen[str]:
        """Run this here."""
        home = {"HOLDALL_DATA": str(OWN / "data"), "XDG_RUNTIME_DIR": str(OWN / "run"), "PYTHONPATH": str(ROOT)}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HOLDALL_")}
        return subprocess.Popen(self.command(*argv), cwd=ROOT, stdout=PIPE, text=True, env={**kept, **home, **variables})

    def python(self, program: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        return self.start(sys.executable, "-c", program, *arguments, **variables)

    def end(self) -> None:
        ip("netns", "del", self.name)


class Network:
    """A host that serves, and others, each with a cable to it."""

    def __init__(self, clients: int, seconds: float, loss: float, stack: ExitStack) -> None:
        self.shared = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="holdall-shared-")))
        self.server, *self.clients = (self._host(number, stack) for number in range(clients + 1))
        self.cables: list[Cable] = []
        for number, client in enumerate(self.clients, 1):
            cable = Cable(number, self.server, client, seconds, loss)
            stack.callback(cable.end)
            self.cables.append(cable)
        self._stack = stack

    def _host(self, number: int, stack: ExitStack) -> Host:
        host = Host(number)
        stack.callback(host.end)
        return host

    def serve(self, *more: str) -> list[Path]:
        """Have the server serve. Returns a connection file for each client."""
        made = self.shared / "connection"
        argv = [sys.executable, "-m", "holdall", "serve", "--listen", "tcp://0.0.0.0:4255", "--write-connection", str(made)]
        serving = self.server.start(*argv, "--temporary-keys", *more)
        self._stack.callback(end, serving)
        until(made.exists)
        found = read(made)
        files: list[Path] = []
        for cable in self.cables:
            file = self.shared / f"connection-{cable.number}"
            msgspec.structs.replace(found, url=f"tcp://{cable.addresses[0]}:4255").write(file)
            files.append(file)
        return files


def end(process: subprocess.Popen[Any]) -> None:
    """Have it end, as Ctrl-C would."""
    process.terminate()
    process.wait(20)
    if process.stdout is not None:
        process.stdout.close()


class Around:
    """Hosts around this machine, each with a cable to it. A service of this machine listens for them at `listen`."""

    def __init__(self, hosts: int, data: Path, stack: ExitStack, *, seconds: float = 0.002, loss: float = 0.01) -> None:
        require()
        self.port = free_port()
        self.listen = f"tcp://0.0.0.0:{self.port}"
        self._data = data
        self.hosts = [Host(number) for number in range(1, hosts + 1)]
        self.cables: list[Cable] = []
        for number, host in enumerate(self.hosts, 1):
            stack.callback(host.end)
            cable = Cable(number, None, host, seconds, loss)
            stack.callback(cable.end)
            self.cables.append(cable)

    def connection(self, number: int) -> Path:
        """A new key for a process on this host."""
        return new_key(self._data, url=f"tcp://{self.cables[number].addresses[0]}:{self.port}")


@contextmanager
def network(clients: int, *, seconds: float = 0.002, loss: float = 0.01) -> Iterator[Network]:
    """Hosts and cables, which delay by so many seconds each way and lose this share of packets."""
    require()
    with ExitStack() as stack:
        yield Network(clients, seconds, loss, stack)

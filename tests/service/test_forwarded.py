"""A service of another machine, by a Unix socket that is forwarded there, as ssh -L does."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdall import Client, Dict, LocalService
from holdall.framing import path_of


@contextlib.contextmanager
def forwarded(local: Path, to: str) -> Iterator[str]:
    """A URL of this user's, whose connections are carried to another socket; what travels is bytes alone, as through ssh."""

    def carry(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                here, there = listening.accept()[0], socket.socket(socket.AF_UNIX)
                there.connect(path_of(to))
                ends.extend((here, there))
                for pair in ((here, there), (there, here)):
                    threads.append(threading.Thread(target=carry, args=pair))
                    threads[-1].start()

    ends: list[socket.socket] = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(local))
        listening.listen()
        threads = [threading.Thread(target=accept)]
        threads[0].start()
        yield f"ipc://{local}"
        for each in (listening, *ends):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        for end in ends:
            end.close()


def test_a_forwarded_socket_is_one_of_this_users(service: LocalService, name: str, tmp_path: Path) -> None:
    async def calls(url: str) -> list[int]:
        async with Client(url) as client:
            d: Dict[int, int] = Dict.from_name(name, client=client)
            return await asyncio.gather(*(d.get.aio(key, -1) for key in range(3)))

    with forwarded(tmp_path / "kv.sock", service.url) as url, Client(url) as client:
        d: Dict[object, object] = Dict.from_name(name, create_if_missing=True, client=client)
        d[0], d[1] = 0, 1
        d["large"] = bytes(1_000_000)
        assert d["large"] == bytes(1_000_000)
        assert len(d) == 3
        assert asyncio.run(calls(url)) == [0, 1, -1]
        assert not any(link.address for link in client._idle[-1]._session.links)  # its workers' lanes are elsewhere


def test_a_socket_forwarded_into_what_all_may_enter_is_refused(service: LocalService, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with forwarded(tmp_path / "kv.sock", service.url) as url, Client(url) as client, pytest.raises(Exception, match="only you"):
        len(Dict.from_name("kv", client=client))

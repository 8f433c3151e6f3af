"""etcd through etcd3gw, which speaks to its HTTP gateway."""

from __future__ import annotations

import pickle
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from holdall.bench.peers import server
from holdall.bench.peers.peer import Client, Instance, Peer, require_package, require_program

VALUE_BYTES_MAX = 1_000_000
"""It refuses requests above 1.5 MiB by default, and the gateway's base64 takes a third of that."""


@dataclass(frozen=True)
class EtcdConnector:
    """Values are pickled, and the gateway adds base64. None that is kept up speaks gRPC, which would be faster."""

    port: int

    @contextmanager
    def client(self) -> Generator[Client, None, None]:
        """An HTTP connection of its own, kept open."""
        client: Any = import_module("etcd3gw").Etcd3Client(host="127.0.0.1", port=self.port)

        def get(key: str) -> Any:
            return pickle.loads(client.get(key)[0])

        def put(key: str, value: Any) -> None:
            client.put(key, pickle.dumps(value, 5))

        yield Client(get, put)
        client.session.close()

    def answers(self) -> bool:
        """Whether the server can be used."""
        try:
            import_module("etcd3gw").Etcd3Client(host="127.0.0.1", port=self.port).status()
        except Exception:  # of whatever library the client stands on
            return False
        return True


@contextmanager
def _start() -> Generator[Instance, None, None]:
    program = require_program("etcd", "etcd-server")
    require_package("etcd3gw", "etcd3gw")
    port, peer_port = server.free_port(), server.free_port()
    urls = f"http://127.0.0.1:{port}"
    connector = EtcdConnector(port)
    with server.folder() as place:
        argv = [program, "--data-dir", str(place), "--listen-client-urls", urls, "--advertise-client-urls", urls]
        alone = ["--listen-peer-urls", f"http://127.0.0.1:{peer_port}", "--log-level", "error"]
        with server.server([*argv, *alone], connector.answers) as pid:
            yield Instance(connector, (pid,))


def etcd() -> Peer:
    """A cluster of one member, on loopback. Each write is fsynced before it is answered, as with our "always"."""
    return Peer("etcd", _start, offers=("mixed",), value_bytes_max=VALUE_BYTES_MAX)

"""A service that clients of other machines reach, for the tests of keys and of connection files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdall import Client, Dict
from holdall.process.config import ServiceSettings
from holdall.roles import Role
from holdall.settings import service_url
from tests.processes import free_port, new_key, service_process


class Served:
    """A service with a port."""

    def __init__(self, data: Path, port: int) -> None:
        self.data, self.port = data, port
        self.url = f"tcp://127.0.0.1:{port}"

    def client(self, role: Role = Role.CLIENT, **more: Any) -> Client:
        return Client(connection=new_key(self.data, role), **more)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    data = tmp_path_factory.mktemp("served") / "data"
    found = Served(data, free_port())
    with service_process(ServiceSettings(str(data), listen=[found.url], workers=2, sync="off")):
        with Client(service_url(data)) as near:
            d = Dict.from_name("kv", create_if_missing=True, client=near)
            d.update({number: number for number in range(100)})
            d["large"] = bytes(2_000_000)
        yield found

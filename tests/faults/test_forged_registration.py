"""A client that registers others' Dicts with a ttl, or a lease, of its own, before their workers have met them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from holdall import Client, Dict, LocalService, ProtocolError, protocol
from holdall.bodies import Registration, encode
from holdall.client.connection.query import Operation, Query
from holdall.client.operations import catalog

ENTRIES = 50


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with LocalService(tmp_path_factory.mktemp("data"), workers=2, sync="off") as service, Client(service.url) as client:
        yield client


def registering(client: Client, dict_id: bytes, body: bytes) -> list[str]:
    """Register this Dict at every worker; what each of them says to that."""

    def asked() -> Operation[list[str]]:
        said: list[str] = []
        for worker in client.roster.workers:
            try:
                query = Query(protocol.REGISTER, worker.hash, "register", "it", dict_id=dict_id, value=body)
                yield from catalog._done([query])
            except ProtocolError as error:
                said.append(str(error))
        return said

    return client.run(asked())


FORGED = {
    "a ttl": Registration(0.05),
    "a lease": Registration(None, 0.05, "main", "x"),
    "a ttl and a higher version": Registration(0.05, ttl_version=2**60, seal=bytes(16)),
}


@pytest.mark.parametrize("forged", FORGED)
def test_what_is_stored_afterwards_stays(client: Client, forged: str) -> None:
    d: Dict[Any, Any] = Dict.from_name(forged.replace(" ", "-"), create_if_missing=True, client=client).hydrate()
    said = registering(client, bytes.fromhex(d.object_id[3:]), encode(FORGED[forged]))
    assert len(said) == 2
    assert all("what the catalog says of it" in each for each in said)
    d.update(dict.fromkeys(range(ENTRIES), "value"))
    time.sleep(0.2)  # four times what the forger wanted to leave them
    assert len(d.get_many(range(ENTRIES))) == ENTRIES

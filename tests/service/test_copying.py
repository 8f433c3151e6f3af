"""`holdall copy`: Dicts go from service to service, and to a cluster and back, as they are stored."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdall import AlreadyExistsError, Client, Dict, LocalService, NotFoundError, StorageError
from holdall.client import copying
from holdall.client.copying import Copied
from holdall.roles import Role
from tests import clusters
from tests.processes import new_key


class OfThisProcess:
    """A value that cannot be unpickled where nobody knows this module."""


VALUES: dict[Any, Any] = {
    "plain": [1, 2.5, None, {"a": b"b"}],
    ("tuple", 1): "a key object",
    "large": bytes(range(256)) * 20_000,
    b"bytes": OfThisProcess,
    "x" * 3_000: 1,
    **dict.fromkeys(range(2500), "x" * 1000),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    data = tmp_path_factory.mktemp("source") / "data"
    with LocalService(data, workers=2, sync="off") as service, Client(service.url) as client:
        d: Dict[Any, Any] = Dict.from_name("kv", create_if_missing=True, ttl=1234.5, client=client)
        d.update(VALUES)
        Dict[Any, Any].from_name("empty", create_if_missing=True, ttl=None, client=client).hydrate()
        Dict[Any, Any].from_name("kv", environment_name="other", create_if_missing=True, client=client)["key"] = 1
        yield client


@pytest.fixture(params=["a service", pytest.param("a server", marks=pytest.mark.slow)])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Client]:
    if request.param == "a service":
        with LocalService(tmp_path / "data", workers=3, sync="off") as service, Client(service.url) as client:
            yield client
    else:
        with clusters.running("redis") as server, Client(clusters.url_of(server)) as client:
            yield client


def nothing(_done: Copied) -> None:
    pass


def assert_same(source: Client, target: Client, name: str = "kv") -> None:
    here, there = (Dict[Any, Any].from_name(name, client=each) for each in (source, target))
    assert here.copy() == there.copy()
    assert here.object_id == there.object_id
    assert here.info().ttl == there.info().ttl


def test_all_of_an_environment_there_and_back(source: Client, target: Client, tmp_path: Path) -> None:
    shown: list[int] = []
    done = copying.copy(source, target, "main", [], lambda done: shown.append(done.entries))
    assert (done.dicts, done.entries, done.checked) == (2, len(VALUES), len(VALUES))
    assert shown == sorted(shown)
    assert_same(source, target)
    assert_same(source, target, "empty")
    assert {each.name for each in Dict.objects.list(client=target)} == {"empty", "kv"}
    with LocalService(tmp_path / "back", workers=1, sync="off") as service, Client(service.url) as back:
        copying.copy(target, back, "main", ["kv"], nothing)
        assert_same(source, back)
        d: Dict[Any, Any] = Dict.from_name("kv", client=back)
        d["more"] = 1
        assert d.pop("large") == VALUES["large"]


class Stopped(Exception):
    pass


def test_what_was_interrupted_goes_on_where_it_stopped(source: Client, target: Client) -> None:
    def stop(done: Copied) -> None:
        if done.entries > 1_000:
            raise Stopped

    with pytest.raises(Stopped):
        copying.copy(source, target, "main", ["kv"], stop)
    there: Dict[Any, Any] = Dict.from_name("kv", client=target)
    before = len(there)
    assert 1_000 < before < len(VALUES)
    done = copying.copy(source, target, "main", ["kv"], nothing)
    assert done.entries == len(VALUES) - before
    assert done.checked == len(VALUES)
    assert_same(source, target)
    assert not Dict[Any, Any].from_name("copies", environment_name=copying.MARKS, client=target).copy()


def test_what_is_written_meanwhile_is_told(source: Client, target: Client) -> None:
    d: Dict[Any, Any] = Dict.from_name("changing", create_if_missing=True, client=source)
    d.update(dict.fromkeys(range(3000), 0))

    def change(done: Copied) -> None:
        if done.entries == 3_000 and not done.checked:
            d[0] = 1

    with pytest.raises(StorageError, match="was written to; copy it again"):
        copying.copy(source, target, "main", ["changing"], change)
    copying.copy(source, target, "main", ["changing"], nothing)
    assert_same(source, target, "changing")
    Dict.objects.delete("changing", client=source)


def test_what_is_missing_or_there_already(source: Client, target: Client) -> None:
    with pytest.raises(NotFoundError, match="no Dict 'missing'"):
        copying.copy(source, target, "main", ["missing"], nothing)
    Dict[Any, Any].from_name("kv", create_if_missing=True, client=target)["own"] = 1
    with pytest.raises(AlreadyExistsError, match="has another Dict 'kv'"):
        copying.copy(source, target, "main", ["kv"], nothing)
    assert Dict[Any, Any].from_name("kv", client=target).copy() == {"own": 1}


def test_who_may_say_which_id_a_dict_has(source: Client, tmp_path: Path) -> None:
    with LocalService(tmp_path / "data", workers=1, sync="off", listen="tcp://127.0.0.1:0") as service:
        assert service.url
        client = new_key(tmp_path / "data", Role.CLIENT)
        admin = new_key(tmp_path / "data", Role.ADMIN)
        with Client(connection=client) as weak, pytest.raises(Exception, match="does not allow it"):
            copying.copy(source, weak, "main", ["kv"], nothing)
        with Client(connection=admin) as strong:
            copying.copy(source, strong, "main", ["kv"], nothing)
            assert_same(source, strong)


def test_the_command(source: Client, target: Client) -> None:
    argv = [sys.executable, "-m", "holdall", "copy", source.address, target.address]
    done = subprocess.run([*argv, "--environment", "other", "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"name": "kv", "dicts": 1, "entries": 1, "bytes": 2, "checked": 1}
    done = subprocess.run([*argv, "empty", "kv"], capture_output=True, text=True, check=True)
    assert f"2 Dicts, {len(VALUES):,} entries" in done.stdout
    assert_same(source, target)
    done = subprocess.run([*argv, "missing"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no Dict 'missing'" in done.stderr

"""A cluster whose nodes fail and whose slots move, under load: every call ends in a result or a typed error."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import holdall
from holdall import Client, Dict
from holdall.errors import Error
from tests import clusters
from tests.clusters import Cluster, Server
from tests.engine.load import Load
from tests.processes import stopped, until

LARGE_BYTES = 20 * 1024 * 1024
LARGE_VALUES = int(os.environ.get("HOLDALL_TEST_LARGE_VALUES", "2"))
"""Of so many bytes, in slots that move; with 50 it is a GiB, and nearly all slots of a primary move."""


@contextlib.contextmanager
def cluster(kind: str = "redis-cluster", *options: str, replicas: int = 1) -> Iterator[Cluster]:
    with clusters.running(kind, *options, replicas=replicas) as found:
        assert isinstance(found, Cluster)
        yield found


def primaries(of: Cluster) -> list[Server]:
    return [each for each in of.servers if is_up(each) and each.call("ROLE").startswith("master")]


def is_up(server: Server) -> bool:
    return clusters.answers(server.port)


def is_whole(of: Cluster) -> bool:
    """Whether all nodes that are up agree that all slots are served."""
    return all("cluster_state:ok" in each.call("CLUSTER", "INFO") for each in of.servers if is_up(each))


def replica_of(of: Cluster, primary: Server) -> Server:
    return next(
        each
        for each in of.servers
        if is_up(each) and (told := each.call("ROLE").split())[0] == "slave" and told[2] == str(primary.port)
    )


def killed(of: Cluster, primary: Server) -> None:
    primary.end()
    until(lambda: len(primaries(of)) == 3 and is_whole(of))
    assert primary.start()


def killed_with_its_replica_stopped_before(of: Cluster, primary: Server) -> None:
    replica = replica_of(of, primary)
    with stopped(replica.pid):
        time.sleep(1)  # so much of what is acknowledged meanwhile is at the primary alone
        primary.end()
    until(lambda: len(primaries(of)) == 3 and is_whole(of))
    assert primary.start()


def stands_still(of: Cluster, primary: Server) -> None:
    with stopped(primary.pid):
        others = [each for each in of.servers if each is not primary]
        until(lambda: sum(each.call("ROLE").startswith("master") for each in others) == 3)
    until(lambda: primary.call("ROLE").startswith("slave") and is_whole(of))


def hands_over(of: Cluster, primary: Server) -> None:
    replica_of(of, primary).call("CLUSTER", "FAILOVER")
    until(lambda: primary.call("ROLE").startswith("slave") and is_whole(of))


def replica_killed(of: Cluster, primary: Server) -> None:
    replica = replica_of(of, primary)
    replica.end()
    time.sleep(1)
    assert replica.start()
    until(lambda: is_whole(of))


@pytest.mark.slow
@pytest.mark.parametrize("fault", [killed, stands_still, hands_over, replica_killed])
def test_a_node_fails_under_load(fault: Callable[[Cluster, Server], None]) -> None:
    with cluster() as found:
        with Load(found.url) as load:
            for _ in range(2):
                until(lambda: load.calls > 500)
                fault(found, primaries(found)[0])
                before = load.calls
                until(lambda before=before: load.calls > before + 500)  # type: ignore[misc]
        lost, risen = load.settle()
        print(f"{fault.__name__}: {load.calls} calls, {len(load.errors)} errors, {len(lost)} lost, {len(risen)} risen")
        assert load.wrong == []
        if fault in (hands_over, replica_killed):
            assert not lost
            assert not risen
            assert not load.errors
        assert len(lost) + len(risen) < 50  # the last moments of a primary, which no replica has: counted, and stated


@pytest.mark.slow
def test_what_no_replica_has_is_lost_with_its_primary() -> None:
    """The loss that docs/engine.md states, seen: without `?wait` a write is acknowledged before it is anywhere else."""
    with cluster() as found:
        with Load(found.url, size=20_000) as load:
            until(lambda: load.calls > 500)
            killed_with_its_replica_stopped_before(found, primaries(found)[0])
            before = load.calls
            until(lambda: load.calls > before + 500)
        lost, risen = load.settle()
        print(f"with no replica in reach: {load.calls} calls, {len(lost)} lost, {len(risen)} risen")
        assert load.wrong == []
        assert lost


@pytest.mark.slow
def test_with_a_replica_waited_for_nothing_is_lost() -> None:
    rounds = int(os.environ.get("HOLDALL_TEST_KILLS", "2"))
    with cluster(replicas=2) as found:
        with Load(f"{found.url}?wait=1", timeout=60) as load:
            for number in range(rounds):
                before = load.calls
                until(lambda before=before: load.calls > before + 300)  # type: ignore[misc]
                killed(found, primaries(found)[number % 3])
        lost, risen = load.settle()
        print(f"wait=1: {rounds} kills, {load.calls} calls, {len(load.errors)} errors, {len(lost)} lost, {len(risen)} risen")
        assert load.wrong == []
        assert not lost
        assert not risen


def _reshard(of: Cluster, slots: int) -> None:
    source, target = (each.call("CLUSTER", "MYID") for each in primaries(of)[:2])
    argv = [
        "redis-cli",
        "--cluster",
        "reshard",
        f"127.0.0.1:{of.servers[0].port}",
        "--cluster-from",
        source,
        "--cluster-to",
        target,
    ]
    subprocess.run([*argv, "--cluster-slots", str(slots), "--cluster-yes"], check=True, stdout=subprocess.DEVNULL, timeout=300)


def _migrate(of: Cluster, slots: int) -> None:
    """All at once, as Valkey 9 can."""
    source, target = primaries(of)[:2]
    first = _first_slot(source)
    source.call(
        "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", str(first), str(first + slots - 1), "NODE", target.call("CLUSTER", "MYID")
    )
    until(lambda: _first_slot(source) == first + slots)


def _first_slot(server: Server) -> int:
    own = next(line for line in server.call("CLUSTER", "NODES").splitlines() if "myself" in line)
    return int(own.split()[8].partition("-")[0])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["redis-cluster", "valkey-cluster"])
def test_slots_move_under_load(kind: str) -> None:
    with cluster(kind) as found:
        with Client(found.url) as client:
            d: Dict[Any, Any] = Dict.from_name("kept", create_if_missing=True, client=client)
            d.update({number: bytes(1_000) for number in range(3_000)})
            for number in range(LARGE_VALUES):
                d[f"large {number}"] = bytes([number % 256]) * LARGE_BYTES
        with Load(found.url) as load:
            until(lambda: load.calls > 300)
            (_reshard if kind == "redis-cluster" else _migrate)(found, 1_500 if LARGE_VALUES < 10 else 5_000)
            before = load.calls
            until(lambda: load.calls > before + 300)
        lost, risen = load.settle()
        print(f"{kind}: {load.calls} calls, {len(load.errors)} errors while slots moved")
        assert (load.wrong, load.errors, lost, risen) == ([], [], set(), set())
        with Client(found.url) as client:
            d = Dict.from_name("kept", client=client)
            assert len(d) == 3_000 + LARGE_VALUES
            assert d.get_many(range(3_000)) == {number: bytes(1_000) for number in range(3_000)}
            for number in range(LARGE_VALUES):
                assert d[f"large {number}"] == bytes([number % 256]) * LARGE_BYTES


@pytest.mark.slow
def test_a_part_too_large_to_move_is_a_stated_error_and_goes_on_where_it_is() -> None:
    """As with one of more than 512 MiB: a node takes no larger value than `proto-max-bulk-len`, which is least 1 MiB."""
    with (
        cluster("redis-cluster", "--proto-max-bulk-len", "1048576") as found,
        Client(f"{found.url}?parts=1", timeout=2) as client,
    ):
        d: Dict[Any, Any] = Dict.from_name("kept", create_if_missing=True, client=client)
        for start in range(0, 5_000, 500):
            d.update({number: os.urandom(1_000) for number in range(start, start + 500)})
        before = d[1]
        slot = _slot_of_all(found)
        source = next(each for each in primaries(found) if each.call("CLUSTER", "COUNTKEYSINSLOT", str(slot)) != "0")
        target = next(each for each in primaries(found) if each is not source)
        target.call("CLUSTER", "SETSLOT", str(slot), "IMPORTING", source.call("CLUSTER", "MYID"))
        source.call("CLUSTER", "SETSLOT", str(slot), "MIGRATING", target.call("CLUSTER", "MYID"))
        keys = source.call("CLUSTER", "GETKEYSINSLOT", str(slot), "100").splitlines()
        moved = {key: source.call("MIGRATE", "127.0.0.1", str(target.port), key, "0", "5000") for key in keys}
        assert any("IOERR" in said or "ERR" in said for said in moved.values()), moved
        assert any(said == "OK" for said in moved.values()), moved

        with pytest.raises(holdall.TimeoutError, match="TRYAGAIN"):
            d["new"] = 1
        assert d[1] == before  # which is one key's
        source.call("CLUSTER", "SETSLOT", str(slot), "STABLE")
        for key, said in moved.items():
            if said == "OK":
                assert target.call("MIGRATE", "127.0.0.1", str(source.port), key, "0", "5000", "REPLACE") == "OK"
        target.call("CLUSTER", "SETSLOT", str(slot), "STABLE")
        d["new"] = 1
        assert len(d) == 5_001


def _slot_of_all(of: Cluster) -> int:
    """The slot in which most keys are."""
    counted = {
        slot: int(each.call("CLUSTER", "COUNTKEYSINSLOT", str(slot)))
        for each in primaries(of)
        for key in each.call("--scan", "--pattern", "holdall:*d:*").splitlines()
        for slot in [int(each.call("CLUSTER", "KEYSLOT", key))]
    }
    return max(counted, key=counted.__getitem__)


@pytest.mark.slow
def test_a_cluster_that_is_gone_is_a_typed_error_and_comes_back() -> None:
    with cluster() as found, Client(found.url, timeout=3) as client:
        d: Dict[Any, Any] = Dict.from_name("kv", create_if_missing=True, client=client)
        d["key"] = 1
        for server in found.servers:
            os.kill(server.pid, signal.SIGSTOP)
        with pytest.raises(Error, match="nothing was changed"):
            d.get("key")
        for server in found.servers:
            os.kill(server.pid, signal.SIGCONT)
        until(lambda: _value(d) == 1)


def _value(d: Dict[Any, Any]) -> Any:
    try:
        return d["key"]
    except Error:
        return None


@pytest.mark.slow
def test_the_demo_gives_its_answers_though_a_primary_is_killed() -> None:
    argv = [sys.executable, "-m", "holdall", "demo", "--json", "--files", "150", "--processes", "2"]
    with cluster() as found, Client(found.url) as client:
        pipe, variables = subprocess.PIPE, {**os.environ, "HOLDALL_URL": found.url}
        with subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True, env=variables) as demo:
            until(lambda: _entries(client) > 60)
            primaries(found)[0].end()
            summary = json.loads(demo.communicate(timeout=90)[0])
        assert demo.returncode == 0
        assert (summary["files"], summary["claimed_once"], summary["missing"]) == (150, True, [])
        assert summary["same_after_restart"] is True
        assert all(each["misread"] == 0 for each in summary["processes"].values())


def _entries(client: Client) -> int:
    try:
        return len(Dict[Any, Any].from_name("survey", client=client))
    except Error:
        return 0

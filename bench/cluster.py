"""A Dict on a Redis cluster beside redis-py's own cluster client on the same one: six servers on loopback, in turns."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import random
import subprocess
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib import import_module
from socket import create_connection
from time import perf_counter
from typing import Any

from holdall import Client, Dict
from holdall.bench.peers import server
from holdall.bench.peers.peer import Missing, require_package, require_program
from holdall.bench.rounds import in_turns, median_figure, median_ratio

SERVERS = 6
KEYS = 1_000
GOALS = {"get": 0.5, "put": 1.1, "gather of 1,000 gets": 0.3, "put_many of 100": 1.2, "server's time of a put": 30.0}
"""What a ratio to redis-py is to be at most; the last one's to a SET."""
OURS, PEER = "holdall", "redis-py"


@contextmanager
def _cluster() -> Generator[list[int], None, None]:
    """The ports of its servers."""
    program, cli = require_program("redis-server", "redis-server"), require_program("redis-cli", "redis-tools")
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(server.folder())
        ports = [server.free_port() for _ in range(SERVERS)]
        for port in ports:
            (place / str(port)).mkdir()
            options = ["--port", str(port), "--dir", str(place / str(port)), "--save", "", "--bind", "127.0.0.1"]
            argv = [program, *options, "--cluster-enabled", "yes", "--cluster-port", str(server.free_port())]
            stack.enter_context(server.server(argv, lambda port=port: _accepts(port)))  # type: ignore[misc]
        addresses = [f"127.0.0.1:{port}" for port in ports]
        argv = [cli, "--cluster", "create", *addresses, "--cluster-replicas", "1", "--cluster-yes"]
        if subprocess.run(argv, stdout=subprocess.DEVNULL, check=False).returncode:
            raise Missing("a redis-cli that makes a cluster: this one does not")
        yield ports


def _accepts(port: int) -> bool:
    try:
        create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def measure(rounds: int, seconds: float, advance: Callable[[], None]) -> list[tuple[str, float, float, float]]:
    """For each workload: microseconds of a call here and there, and the median of the rounds' ratios."""
    require_package("redis", "redis[hiredis]")
    with _cluster() as ports, Client(f"redis://127.0.0.1:{ports[0]}") as client:
        peer = import_module("redis").RedisCluster(host="127.0.0.1", port=ports[0])
        d: Dict[str, Any] = Dict.from_name("kv", create_if_missing=True, client=client)
        values = {f"key-{number}": random.randbytes(100) for number in range(KEYS)}
        d.update(values)
        for key, value in values.items():
            peer.set(key, pickle.dumps(value, 5))
        sides = _workloads(d, peer, ports[0], values)
        share = seconds / len(sides)
        rows: list[tuple[str, float, float, float]] = []
        for name, (ours, theirs, calls) in sides.items():
            both = {OURS: _timed(ours, share, calls), PEER: _timed(theirs, share, calls)}
            taken = in_turns(both, rounds, advance)
            figures = median_figure(taken, OURS), median_figure(taken, PEER)
            rows.append((name, *figures, median_ratio(taken, OURS, PEER)))
        script, plain = (_server_time(peer, each) for each in ("evalsha", "set"))
        rows.append(("server's time of a put", script, plain, script / plain))
        peer.close()
    return rows


def _workloads(
    d: Dict[str, Any], peer: Any, port: int, values: dict[str, bytes]
) -> dict[str, tuple[Callable[[], Any], Callable[[], Any], int]]:
    """What ours does, what redis-py does, and how many calls that is. The last one's servers count what a put costs."""
    keys = list(values)
    hundred = {key: values[key] for key in keys[:100]}

    def any_key() -> str:
        return random.choice(keys)

    def put_many() -> None:
        with peer.pipeline() as pipeline:
            for key, value in hundred.items():
                pipeline.set(key, pickle.dumps(value, 5))
            pipeline.execute()

    def ours_at_once() -> None:
        async def main() -> None:
            for _ in range(3):
                await asyncio.gather(*(d.get.aio(key) for key in keys))

        asyncio.run(main())

    def theirs_at_once() -> None:
        async def main() -> None:
            where = {"host": "127.0.0.1", "port": port, "max_connections": 10_000}
            async with import_module("redis.asyncio").RedisCluster(**where) as awaited:

                async def get(key: str) -> Any:
                    return pickle.loads(await awaited.get(key))

                for _ in range(3):
                    await asyncio.gather(*(get(key) for key in keys))

        asyncio.run(main())

    value = values[keys[0]]
    return {
        "get": (lambda: d[any_key()], lambda: pickle.loads(peer.get(any_key())), 1),
        "gather of 1,000 gets": (ours_at_once, theirs_at_once, 3 * KEYS),
        "put_many of 100": (lambda: d.put_many(hundred), put_many, 1),
        "put": (_reset(d, peer, any_key, value), lambda: peer.set(any_key(), pickle.dumps(value, 5)), 1),
    }


def _reset(d: Dict[str, Any], peer: Any, any_key: Callable[[], str], value: bytes) -> Callable[[], Any]:
    """A put; before the first one servers begin to count anew."""
    is_first = [True]

    def put() -> None:
        if is_first.pop() if is_first else False:
            peer.config_resetstat(target_nodes=import_module("redis").RedisCluster.ALL_NODES)
        d[any_key()] = value

    return put


def _timed(call: Callable[[], Any], seconds: float, calls: int) -> Callable[[], float]:
    """How long one call takes, in microseconds: the mean of a turn."""

    def turn() -> float:
        began, count = perf_counter(), 0
        while perf_counter() < began + seconds or not count:
            call()
            count += calls
        return (perf_counter() - began) / count * 1e6

    return turn


def _server_time(peer: Any, command: str) -> float:
    """Microseconds of a server's own for one of these commands, on average."""
    told = peer.info("commandstats", target_nodes=import_module("redis").RedisCluster.PRIMARIES)
    stats = [each[f"cmdstat_{command}"] for each in told.values() if f"cmdstat_{command}" in each]
    return float(sum(each["usec"] for each in stats) / max(1, sum(each["calls"] for each in stats)))

"""A dict in an actor, as users of Dask and Ray share state."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from holdall.bench.peers import server
from holdall.bench.peers.peer import Client, Instance, Peer, require_package

NAME = "bench"


class Store:
    """The actor."""

    def __init__(self) -> None:
        self._entries: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        """The value."""
        return self._entries[key]

    def put(self, key: str, value: Any) -> None:
        """Keep it."""
        self._entries[key] = value

    def get_many(self, keys: list[str]) -> list[Any]:
        """The values."""
        return [self._entries[key] for key in keys]

    def put_many(self, entries: dict[str, Any]) -> None:
        """Keep them."""
        self._entries.update(entries)

    def process_id(self) -> int:
        """Of the process that the actor lives in."""
        return os.getpid()


@dataclass(frozen=True)
class DaskConnector:
    """The actor's methods, each waited for; its handle is found in a Variable."""

    address: str

    @contextmanager
    def client(self) -> Generator[Client, None, None]:
        """A client of the scheduler for each thread: calls go straight to the worker."""
        distributed: Any = import_module("distributed")
        with distributed.Client(self.address, set_as_default=True) as client:
            actor = distributed.Variable(NAME, client=client).get().result()
            yield Client(
                lambda key: actor.get(key).result(),
                lambda key, value: actor.put(key, value).result(),
                lambda keys: actor.get_many(keys).result(),
                lambda entries: actor.put_many(entries).result(),
            )


@contextmanager
def _start_dask() -> Generator[Instance, None, None]:
    require_package("distributed", "distributed")
    distributed: Any = import_module("distributed")
    with server.folder() as place:
        options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None, "local_directory": str(place)}
        with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
            future = client.submit(Store, actor=True)
            distributed.Variable(NAME, client=client).set(future)
            yield Instance(DaskConnector(cluster.scheduler_address), (future.result().process_id().result(),))


def dask_actor() -> Peer:
    """A local cluster of one worker process with one thread, over loopback. In memory: nothing survives its worker."""
    return Peer("Dask actor", _start_dask)


@dataclass(frozen=True)
class RayConnector:
    """The actor's methods, each waited for; the actor has a name."""

    address: str

    @contextmanager
    def client(self) -> Generator[Client, None, None]:
        """The connection of this process to the cluster, and the actor's handle."""
        ray: Any = import_module("ray")
        ray.init(address=self.address, namespace=NAME, ignore_reinit_error=True, log_to_driver=False, logging_level="error")
        actor = ray.get_actor(NAME)
        fetch = ray.get
        yield Client(
            lambda key: fetch(actor.get.remote(key)),
            lambda key, value: fetch(actor.put.remote(key, value)),
            lambda keys: fetch(actor.get_many.remote(keys)),
            lambda entries: fetch(actor.put_many.remote(entries)),
        )


@contextmanager
def _start_ray() -> Generator[Instance, None, None]:
    require_package("ray", "ray")
    ray: Any = import_module("ray")
    with server.folder() as place:
        options = {"include_dashboard": False, "log_to_driver": False, "logging_level": "error", "_temp_dir": str(place)}
        context = ray.init(num_cpus=2, namespace=NAME, **options)
        try:
            actor = ray.remote(Store).options(name=NAME, lifetime="detached").remote()
            process_id: int = ray.get(actor.process_id.remote())
            yield Instance(RayConnector(context.address_info["address"]), (process_id,))
        finally:
            ray.shutdown()


def ray_actor() -> Peer:
    """A local cluster without a dashboard. In memory: nothing survives the actor's process."""
    return Peer("Ray actor", _start_ray)

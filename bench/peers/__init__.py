"""The peers, by name: this project, what users would pick instead, and the physical limits."""

from __future__ import annotations

from holdall.bench.peers.actors import dask_actor, ray_actor
from holdall.bench.peers.diskcache import diskcache
from holdall.bench.peers.etcd import etcd
from holdall.bench.peers.limits import plyvel, zmq_echo
from holdall.bench.peers.memcached import memcached
from holdall.bench.peers.nats import nats
from holdall.bench.peers.ours import holdall_dict
from holdall.bench.peers.peer import Peer
from holdall.bench.peers.redis import redis
from holdall.bench.peers.standard import manager_dict

_ALL = (
    holdall_dict("interval"),
    holdall_dict("always"),
    holdall_dict("interval", relayed=True),
    holdall_dict("always", relayed=True),
    holdall_dict("interval", by_port=True),
    redis("everysec"),
    redis("always"),
    redis("everysec", by_tls=True),
    manager_dict(),
    diskcache(),
    memcached(),
    nats(),
    etcd(),
    dask_actor(),
    ray_actor(),
    zmq_echo(),
    plyvel(sync=False),
    plyvel(sync=True),
)
PEERS: dict[str, Peer] = {peer.name: peer for peer in _ALL}


def chosen(pattern: str) -> list[Peer]:
    """The peers that are named by any of these words, separated by commas: in full, or else by a part of the name.

    >>> [peer.name for peer in chosen("Redis,holdall interval")]
    ['holdall interval', 'Redis everysec', 'Redis always', 'Redis everysec by TLS']
    """
    words = {word.strip().lower() for word in pattern.split(",") if word.strip()}
    full = words & {name.lower() for name in PEERS}
    parts = words - full
    return [peer for name, peer in PEERS.items() if name.lower() in full or any(part in name.lower() for part in parts)]

"""Operations on a snapshot of all workers, from which a backup is made; worker/snapshots.py says why it is consistent."""

from __future__ import annotations

from typing import NamedTuple

from holdall import protocol
from holdall.blob import Reference
from holdall.bodies import RowsPage, RowsRequest, decode, encode
from holdall.client import transfer
from holdall.client.ask import Ask, Operation
from holdall.client.catalog import error_of
from holdall.client.client import Client
from holdall.client.transfer import Place
from holdall.protocol import Reply


class Position(NamedTuple):
    """How far the rows of one worker have been read: the last row, and the CRC of all pages up to there."""

    after: bytes = b""
    crc: int = 0


class SnapshotLost(Exception):
    """A worker has no such snapshot any more, or did not hold its writes long enough: another one is to be taken."""


def take(client: Client, snapshot_id: bytes) -> Operation[int]:
    """Take a snapshot of all workers. Returns about how many rows it has. Raises SnapshotLost."""
    replies = yield from _answers(_to_all(client, protocol.SNAPSHOT, "take a snapshot of", snapshot_id))
    estimate = sum(decode(int, reply.payload) for reply in replies)
    yield from _answers(_to_all(client, protocol.RELEASE, "release", snapshot_id))  # after all snapshots: so they are one
    return estimate


def read(client: Client, snapshot_id: bytes, positions: dict[int, Position]) -> Operation[dict[int, RowsPage]]:
    """The next rows of each of these workers. Raises SnapshotLost."""
    asks = [
        Ask(
            protocol.ROWS,
            client.roster.workers[index].hash,
            "read the rows of",
            f"worker {index} for a backup",
            data=snapshot_id,
            value=encode(RowsRequest(*position)),
        )
        for index, position in positions.items()
    ]
    pages = [decode(RowsPage, reply.payload) for reply in (yield from _answers(asks))]
    return dict(zip(positions, pages, strict=True))


def read_blob(client: Client, index: int, reference: Reference) -> Operation[bytearray]:
    """A blob that the snapshot's rows own. Raises SnapshotLost: a worker keeps such files while it has a snapshot."""
    hash_, of = client.roster.workers[index].hash, f"worker {index} for a backup"
    place = Place(hash_, protocol.NO_DICT, "read a blob of", of, None, client.near)
    data = yield from transfer.download(place, reference, None)
    if data is None:
        raise SnapshotLost(f"worker {index} was restarted")
    return data


def discard(client: Client, snapshot_id: bytes) -> Operation[None]:
    """Let the workers give it up, whatever has become of it."""
    yield _to_all(client, protocol.DISCARD, "discard the snapshot of", snapshot_id)


def _answers(asks: list[Ask]) -> Operation[list[Reply]]:
    replies: list[Reply] = yield asks
    for ask, reply in zip(asks, replies, strict=True):
        if reply.status == protocol.MISSING:
            raise SnapshotLost(f"cannot {ask}: it was restarted, or had to go on before all workers had theirs")
        if reply.status != protocol.OK:
            raise error_of(ask, reply)
    return replies


def _to_all(client: Client, opcode: int, verb: str, snapshot_id: bytes) -> list[Ask]:
    return [Ask(opcode, each.hash, verb, f"worker {each.index}", data=snapshot_id) for each in client.roster.workers]

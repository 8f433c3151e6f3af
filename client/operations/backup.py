"""Makes a backup of a running service, whose rows it asks for as any client may; holdall/backup.py has the file's format.

It reads a snapshot of all workers; worker/handlers/snapshots.py says why that is consistent.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from holdall import backup, protocol
from holdall.backup import End, Head, Tally
from holdall.blob import Reference, reference_of
from holdall.bodies import Count, RowsPage, RowsRequest, decode, encode
from holdall.client.connection.query import Operation, Queries, Query
from holdall.disk import FORMAT, crc32, sync_folder
from holdall.errors import Error, InvalidError, ProtocolError, StorageError, TimeoutError
from holdall.private import open_own
from holdall.protocol import Reply

from .exchange import ServiceClient
from .large import Place, download
from .refusals import error_of

if TYPE_CHECKING:
    from holdall.client.client import Client

BACKUP_TRIES_MAX = 5
"""A try fails when a worker is restarted meanwhile, or one answers too late."""
PAUSE_SECONDS = 0.2
"""Between two tries, times their number."""


class SnapshotLost(Exception):
    """A worker has no such snapshot any more, or did not hold its writes long enough: another one is to be taken."""


class Backup(msgspec.Struct):
    """A backup, made or being made: its file, workers, what it has so far, about how many rows it will have, and tries."""

    file: str
    workers: int = 0
    rows: int = 0
    bytes: int = 0
    rows_expected: int = 0
    tries: int = 0


def back_up(client: Client, file: Path, progressed: Callable[[Backup], None]) -> Backup:
    """Write a consistent copy of the service to a new file, which is there when it is whole; calls `progressed` now and then.

    What was acknowledged before this is called is in it. Of two writes, one of them sent after the other was acknowledged, it
    never has the later one alone.

    Raises:
        InvalidError: the file exists, or four backups are being made already.
        StorageError: the file cannot be written, or the service cannot read its data.
        TimeoutError: the service did not answer, or it was restarted too often.
    """
    if file.exists():
        raise InvalidError(f"{file} exists: choose another name for the backup")
    scratch = file.with_name(f"{file.name}.{os.getpid()}.part")
    made = Backup(str(file))
    try:
        with open(scratch, "xb", opener=open_own) as out:
            _tried(client, out, made, progressed)
            out.flush()
            os.fsync(out.fileno())
        os.rename(scratch, file)
        sync_folder(file.parent)
    except OSError as error:
        if isinstance(error, Error):
            raise
        raise StorageError(f"the backup {file} cannot be written: {error.strerror}") from None
    finally:
        scratch.unlink(missing_ok=True)
    return made


def _tried(client: Client, out: BinaryIO, made: Backup, progressed: Callable[[Backup], None]) -> None:
    while True:
        snapshot_id = os.urandom(16)
        made.tries += 1
        answers = True
        try:
            made.rows_expected = client.run(_take(client, snapshot_id))
            _write(client, snapshot_id, out, made, progressed)
            return
        except SnapshotLost as lost:
            if made.tries == BACKUP_TRIES_MAX:
                raise TimeoutError(
                    f"no backup of {client.address} could be made in {BACKUP_TRIES_MAX} tries, nothing is left of it: {lost}; "
                    "try again when the service is not being restarted"
                ) from None
        except Error:
            answers = False  # it is given up by itself in a minute
            raise
        finally:
            if answers:
                with contextlib.suppress(Error):
                    client.run(_discard(client, snapshot_id))
        time.sleep(PAUSE_SECONDS * made.tries)


def _write(client: Client, snapshot_id: bytes, out: BinaryIO, made: Backup, progressed: Callable[[Backup], None]) -> None:
    out.seek(0)
    out.truncate()
    roster = client.roster
    made.workers, made.rows, made.bytes = len(roster.workers), 0, 0
    backup.write_head(out, Head(FORMAT, roster.layout_id, made.workers, time.time()))
    left = {worker.index: RowsRequest(b"", 0) for worker in roster.workers}
    tallies = [Tally()] * made.workers
    while left:
        for index, page in client.run(_read(client, snapshot_id, left)).items():
            _check(page, index, tallies[index], left[index].after)
            backup.write_rows(out, index, page.rows)
            for each in page.blobs:
                reference = reference_of(each)
                backup.write_blob(out, index, reference, client.run(_read_blob(client, index, reference)))
            tally = tallies[index]
            tallies[index] = Tally(tally.rows + page.count, page.crc, tally.blobs + len(page.blobs))
            made.rows += page.count
            if page.more:
                left[index] = RowsRequest(page.last, page.crc)
            else:
                del left[index]
        made.bytes = out.tell()
        progressed(made)
    backup.write_end(out, End(tallies))
    made.bytes = out.tell()


def _check(page: RowsPage, index: int, before: Tally, after: bytes) -> None:
    if crc32(page.rows, before.crc) != page.crc or (page.more and page.last <= after):
        raise ProtocolError(f"the rows that worker {index} sent for a backup are not those that it counted")


def _take(client: ServiceClient, snapshot_id: bytes) -> Operation[int]:
    """Take a snapshot of all workers. Returns about how many rows it has. Raises SnapshotLost."""
    replies = yield from _answers(_to_all(client, protocol.SNAPSHOT, "take a snapshot of", snapshot_id))
    estimate: int = sum(decode(Count, reply.payload) for reply in replies)
    yield from _answers(_to_all(client, protocol.RELEASE, "release", snapshot_id))  # after all snapshots: so they are one
    return estimate


def _read(client: ServiceClient, snapshot_id: bytes, left: dict[int, RowsRequest]) -> Operation[dict[int, RowsPage]]:
    """The next rows of each of these workers. Raises SnapshotLost."""
    queries = [
        Query(
            protocol.ROWS,
            client.roster.workers[index].hash,
            "read the rows of",
            f"worker {index} for a backup",
            key=snapshot_id,
            value=encode(wanted),
        )
        for index, wanted in left.items()
    ]
    pages = [decode(RowsPage, reply.payload) for reply in (yield from _answers(queries))]
    return dict(zip(left, pages, strict=True))


def _read_blob(client: ServiceClient, index: int, reference: Reference) -> Operation[bytearray]:
    """A blob that the snapshot's rows own. Raises SnapshotLost: a worker keeps such files while it has a snapshot."""
    hash_, of = client.roster.workers[index].hash, f"worker {index} for a backup"
    place = Place(hash_, protocol.NO_DICT, "read a blob of", of, None, client.passes_files)
    data = yield from download(place, reference, None)
    if data is None:
        raise SnapshotLost(f"worker {index} was restarted")
    return data


def _discard(client: ServiceClient, snapshot_id: bytes) -> Operation[None]:
    """Let the workers give it up, whatever has become of it."""
    yield Queries(_to_all(client, protocol.DISCARD, "discard the snapshot of", snapshot_id))


def _answers(queries: list[Query]) -> Operation[list[Reply]]:
    replies: list[Reply] = yield Queries(queries)
    for query, reply in zip(queries, replies, strict=True):
        if reply.status == protocol.MISSING:
            raise SnapshotLost(f"cannot {query}: it was restarted, or had to go on before all workers had theirs")
        if reply.status != protocol.OK:
            raise error_of(query, reply)
    return replies


def _to_all(client: ServiceClient, opcode: int, verb: str, snapshot_id: bytes) -> list[Query]:
    return [Query(opcode, each.hash, verb, f"worker {each.index}", key=snapshot_id) for each in client.roster.workers]

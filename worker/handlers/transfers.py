"""What a worker does with blobs, in chunks or in files that its client writes and reads, one function per opcode. None of it
needs to know the Dict.

All may be repeated: a chunk lands where it landed before, a sealed blob stays sealed.
"""

from __future__ import annotations

import os

from holdall import protocol
from holdall.blob import NO_BLOB, chunk_of, reference_of
from holdall.bodies import encode
from holdall.protocol import Reply, Request
from holdall.worker.state.refused import Refused
from holdall.worker.state.transaction import Transaction


class Later(Exception):
    """The request is answered when a thread has done something for this blob."""

    def __init__(self, blob_id: bytes) -> None:
        super().__init__(blob_id)
        self.blob_id = blob_id


def write_chunk(transaction: Transaction, request: Request) -> Reply:
    if transaction.no_room:
        raise Refused(protocol.NO_ROOM, transaction.no_room)
    transaction.blobs.write(request.session, chunk_of(request.key), request.value, transaction.elapsed)
    return Reply(protocol.OK, request.sequence, 0, b"")


def make_file(transaction: Transaction, request: Request) -> Reply:
    """A file for a new blob; or how far it is filled."""
    chunk = chunk_of(request.key)
    if transaction.no_room:
        raise Refused(protocol.NO_ROOM, transaction.no_room)
    if chunk.id != NO_BLOB:
        transaction.blobs.fill_file(chunk, transaction.elapsed)
        return Reply(protocol.OK, request.sequence, 0, b"")
    blob_id = transaction.blobs.begin_file(request.session, chunk, transaction.elapsed)
    file = transaction.blobs.give_file(blob_id, transaction.elapsed)
    if file is None:
        raise Later(blob_id)
    return Reply(protocol.OK, request.sequence, 0, encode(file))


def find_file(transaction: Transaction, request: Request) -> Reply:
    path = transaction.blobs.find_file(chunk_of(request.key).id, transaction.elapsed)
    return Reply(protocol.OK, request.sequence, 0, os.fsencode(path))


def seal(transaction: Transaction, request: Request) -> Reply:
    """All chunks have come. Answered when the blob is as durable as promised."""
    reference = reference_of(request.value)
    if not transaction.blobs.seal(reference):
        raise Later(reference.id)
    return Reply(protocol.OK, request.sequence, 0, b"")


def read_chunk(transaction: Transaction, request: Request) -> Reply:
    data = transaction.blobs.read(chunk_of(request.key), transaction.elapsed)
    return Reply(protocol.OK, request.sequence, 0, data)


def drop_blob(transaction: Transaction, request: Request) -> Reply:
    transaction.blobs.release(request.session, chunk_of(request.key).id)
    return Reply(protocol.OK, request.sequence, 0, b"")

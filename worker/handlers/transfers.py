"""What a worker does with blobs, in chunks or in files that its client writes and reads, one function per opcode. None of it
needs to know the Dict.

All may be repeated: a chunk lands where it landed before, a sealed blob stays sealed. A file travels with the reply, as an open
descriptor, by a lane; what comes by any other way `Worker` answers with MISSING.
"""

from __future__ import annotations

from holdall import protocol
from holdall.blob import Chunk, chunk_of, reference_of
from holdall.protocol import Reply, Request
from holdall.worker.state.transaction import Transaction

from .entries import full


class Later(Exception):
    """The request is answered when a thread has done something for this blob."""

    def __init__(self, blob_id: bytes) -> None:
        super().__init__(blob_id)
        self.blob_id = blob_id


def write_chunk(transaction: Transaction, request: Request) -> Reply:
    transaction.blobs.write(request.session, _with_room(transaction, request), request.value, transaction.elapsed)
    return Reply(protocol.OK, request.sequence, 0, b"")


def make_file(transaction: Transaction, request: Request) -> Reply:
    file = transaction.blobs.make_file(request.session, _with_room(transaction, request), transaction.elapsed)
    syncs = b"\x01" if transaction.blobs.syncs else b"\x00"
    return Reply(protocol.OK, request.sequence, 0, syncs, file)


def seal(transaction: Transaction, request: Request) -> Reply:
    """All of it has come. Answered when the blob is as durable as promised."""
    reference = reference_of(request.value)
    if not transaction.blobs.seal(reference):
        raise Later(reference.id)
    return Reply(protocol.OK, request.sequence, 0, b"")


def read_chunk(transaction: Transaction, request: Request) -> Reply:
    data = transaction.blobs.read(chunk_of(request.key), transaction.elapsed, lends=transaction.notes_use)
    return Reply(protocol.OK, request.sequence, 0, data)


def open_file(transaction: Transaction, request: Request) -> Reply:
    file = transaction.blobs.open_file(chunk_of(request.key).id, transaction.elapsed)
    return Reply(protocol.OK, request.sequence, 0, b"", file)


def drop_blob(transaction: Transaction, request: Request) -> Reply:
    transaction.blobs.release(request.session, chunk_of(request.key).id, transaction.elapsed)
    return Reply(protocol.OK, request.sequence, 0, b"")


def _with_room(transaction: Transaction, request: Request) -> Chunk:
    """The chunk that this request is about, if there is room for any."""
    chunk = chunk_of(request.key)
    if transaction.no_room:
        raise full(transaction)
    return chunk

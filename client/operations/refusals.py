"""The error that a reply is, if it refuses its request."""

from __future__ import annotations

from holdall import errors, protocol
from holdall.client.connection.query import Query
from holdall.errors import Error, printable
from holdall.protocol import Reply

SENTENCE_BYTES_MAX = 2_000
"""More than any sentence of ours has."""
_ERRORS: dict[int, type[Error]] = {
    protocol.DICT_NOT_FOUND: errors.NotFoundError,
    protocol.ALREADY_EXISTS: errors.AlreadyExistsError,
    protocol.INVALID: errors.InvalidError,
    protocol.TOO_LARGE: errors.RequestSizeError,
    protocol.MALFORMED: errors.ProtocolError,
    protocol.STORAGE: errors.StorageError,
    protocol.NO_ROOM: errors.StorageError,
    protocol.FORGOTTEN: errors.OutcomeUnknown,
    protocol.WRONG_WORKER: errors.ConnectionError,
    protocol.DENIED: errors.AuthError,
}


def error_of(query: Query, reply: Reply) -> Error:
    text = printable(bytes(reply.payload[:SENTENCE_BYTES_MAX]).decode("utf-8", "replace"))
    if reply.status == protocol.WRONG_WORKER:
        text = "the service at this address is another one than before: make a new Client"
    return _ERRORS.get(reply.status, errors.ProtocolError)(f"cannot {query}: {text or f'status {reply.status}'}")

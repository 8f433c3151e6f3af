"""The error that a reply is, if it refuses its request."""

from __future__ import annotations

from holdall import protocol
from holdall.client.connection.query import Query
from holdall.errors import (
    AlreadyExistsError,
    ConnectionError,
    Error,
    InvalidError,
    NotFoundError,
    OutcomeUnknown,
    ProtocolError,
    RequestSizeError,
    StorageError,
    TimeoutError,
)
from holdall.protocol import Reply

_ERRORS: dict[int, type[Error]] = {
    protocol.DICT_NOT_FOUND: NotFoundError,
    protocol.ALREADY_EXISTS: AlreadyExistsError,
    protocol.INVALID: InvalidError,
    protocol.TOO_LARGE: RequestSizeError,
    protocol.MALFORMED: ProtocolError,
    protocol.STORAGE: StorageError,
    protocol.NO_ROOM: StorageError,
    protocol.FORGOTTEN: OutcomeUnknown,
    protocol.UNAVAILABLE: TimeoutError,
    protocol.WRONG_WORKER: ConnectionError,
}


def error_of(query: Query, reply: Reply) -> Error:
    """The error that this reply is."""
    text = bytes(reply.payload).decode("utf-8", "replace")
    if reply.status == protocol.WRONG_WORKER:
        text = "the service at this address is another one than before: make a new Client"
    return _ERRORS.get(reply.status, ProtocolError)(f"cannot {query}: {text or f'status {reply.status}'}")

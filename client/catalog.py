"""Operations on which Dicts exist: make, look up, list, delete; and how a worker learns of a Dict it has not met."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from holdall import protocol
from holdall.bodies import CatalogEntry, CatalogPage, CatalogPageRequest, Lifetime, Registration, decode, encode
from holdall.client.ask import Ask, Operation
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
from holdall.slots import key_hash

if TYPE_CHECKING:
    from holdall.client.client import Client

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
_LIST_PAGE_ENTRIES = 1_000


def described(environment: str, name: str) -> str:
    """A Dict as messages name it."""
    return f"Dict {name!r}" if environment == "main" else f"Dict {name!r} of environment {environment!r}"


def error_of(ask: Ask, reply: Reply) -> Error:
    """The error that this reply is."""
    text = bytes(reply.payload).decode("utf-8", "replace")
    if reply.status == protocol.WRONG_WORKER:
        text = "the service at this address is another one than before: make a new Client"
    return _ERRORS.get(reply.status, ProtocolError)(f"cannot {ask}: {text or f'status {reply.status}'}")


def lookup(client: Client, environment: str, name: str) -> Operation[CatalogEntry | None]:
    """The entry of this name, None if there is none; a deletion that was interrupted is finished first."""
    ask = _ask(protocol.LOOKUP, "look up", environment, name)
    entry = _entry(ask, (yield ask))
    if entry is not None and entry.deleting:
        yield from _finish_deleting(client, entry)
        return None
    return entry


def create(client: Client, environment: str, name: str, ttl: float | None, *, allow_existing: bool) -> Operation[CatalogEntry]:
    """Make a Dict of this name. Raises AlreadyExistsError if there is one and that is not allowed."""
    wanted = CatalogEntry(environment, name, os.urandom(16), 0.0, _creator(), ttl)
    flags = protocol.SKIP_IF_EXISTS if allow_existing else 0
    ask = _ask(protocol.CREATE, "create", environment, name, value=encode(wanted), flags=flags)
    while True:
        entry = _entry(ask, (yield ask))
        assert entry is not None
        if not entry.deleting:
            return entry
        yield from _finish_deleting(client, entry)


def delete(client: Client, environment: str, name: str) -> Operation[bool]:
    """Delete the Dict of this name and all its entries. Returns whether there was one."""
    ask = _ask(protocol.MARK_DELETED, "delete", environment, name)
    entry = _entry(ask, (yield ask))
    if entry is None:
        return False
    yield from _finish_deleting(client, entry)
    return True


def list_entries(client: Client, environment: str) -> Operation[list[CatalogEntry]]:
    """All entries of an environment, in no order."""
    entries: list[CatalogEntry] = []
    for worker in client.roster.workers:
        after, more = b"", True
        while more:
            body = encode(CatalogPageRequest(environment, after, _LIST_PAGE_ENTRIES))
            ask = Ask(protocol.LIST, worker.hash, "list the Dicts of", f"environment {environment!r}", value=body)
            reply = yield ask
            if reply.status != protocol.OK:
                raise error_of(ask, reply)
            page = decode(CatalogPage, reply.payload)
            entries += [entry for entry in page.entries if not entry.deleting]
            more = page.more
            after = _key(environment, page.entries[-1].name) if page.entries else b""
    return entries


def register(client: Client, environment: str, name: str, dict_id: bytes, refused: Ask) -> Operation[None]:
    """Tell the worker that refused this request of the Dict, which it has not met. Raises NotFoundError if the Dict is gone."""
    entry = (yield from lookup(client, environment, name)) if name else None
    if entry is None or entry.dict_id != dict_id:
        raise NotFoundError(f"cannot {refused}: this {refused.of} was deleted; look it up again with Dict.from_name")
    body = encode(Registration(entry.ttl, ttl_version=entry.ttl_version))
    yield from _done([Ask(protocol.REGISTER, refused.hash, "register", refused.of, dict_id=dict_id, value=body)])


def find(client: Client, dict_id: bytes, of: str) -> Operation[CatalogEntry | None]:
    """The entry of the Dict with this id, None if there is none."""
    asks = _to_all(client, protocol.FIND, "look up", of, dict_id)
    for ask, reply in zip(asks, (yield asks), strict=True):
        entry = _entry(ask, reply)
        if entry is not None and not entry.deleting:
            return entry
    return None


def change_ttl(client: Client, dict_id: bytes, of: str, ttl: float | None) -> Operation[Lifetime]:
    """Have the catalog say how long entries of this Dict live. Returns what is to be told to every worker."""
    entry = yield from find(client, dict_id, of)
    if entry is not None and not entry.name:  # it is ephemeral, and in no catalog
        return Lifetime(ttl, entry.ttl_version + 1)
    if entry is not None:
        body = encode(Lifetime(ttl, 0))
        ask = _ask(protocol.CHANGE_TTL, "set the ttl of", entry.environment, entry.name, dict_id=dict_id, value=body)
        entry = _entry(ask, (yield ask))
    if entry is None:
        raise NotFoundError(f"cannot set the ttl of {of}: it was deleted, or never made at {client.address}")
    return Lifetime(ttl, entry.ttl_version)


def begin_lease(client: Client, environment: str, dict_id: bytes, of: str, lease_seconds: float) -> Operation[None]:
    """Make an ephemeral Dict."""
    body = encode(Registration(protocol.TTL_SECONDS, lease_seconds, environment, _creator()))
    yield from _done(_to_all(client, protocol.REGISTER, "make", of, dict_id, body))


def renew(client: Client, dict_id: bytes, of: str) -> Operation[None]:
    """Let every worker know that the owner of this ephemeral Dict is alive."""
    yield from _done(_to_all(client, protocol.RENEW, "renew the lease of", of, dict_id))


def drop(client: Client, dict_id: bytes, of: str) -> Operation[None]:
    """Delete all entries of a Dict, and refuse further ones."""
    yield from _done(_to_all(client, protocol.DROP, "delete", of, dict_id))


def _finish_deleting(client: Client, entry: CatalogEntry) -> Operation[None]:
    yield from drop(client, entry.dict_id, described(entry.environment, entry.name))
    yield from _done([_ask(protocol.REMOVE, "delete", entry.environment, entry.name, dict_id=entry.dict_id)])


def _to_all(client: Client, opcode: int, verb: str, of: str, dict_id: bytes, value: bytes = b"") -> list[Ask]:
    hashes = [worker.hash for worker in client.roster.workers]
    return [Ask(opcode, hash_, verb, of, dict_id=dict_id, value=value) for hash_ in hashes]


def _done(asks: list[Ask]) -> Operation[None]:
    for ask, reply in zip(asks, (yield asks), strict=True):
        if reply.status != protocol.OK:
            raise error_of(ask, reply)


def _ask(opcode: int, verb: str, environment: str, name: str, **more: Any) -> Ask:
    key = _key(environment, name)
    return Ask(opcode, key_hash(0, key), verb, described(environment, name), data=key, **more)


def _key(environment: str, name: str) -> bytes:
    return f"{environment}/{name}".encode()


def _entry(ask: Ask, reply: Reply) -> CatalogEntry | None:
    if reply.status == protocol.MISSING:
        return None
    if reply.status != protocol.OK:
        raise error_of(ask, reply)
    return decode(CatalogEntry, reply.payload)


def _creator() -> str:
    import getpass  # with socket 10 ms, which only those who make a Dict pay
    import socket

    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # no name for this user id
        user = "unknown"
    return f"{user}@{socket.gethostname()}"

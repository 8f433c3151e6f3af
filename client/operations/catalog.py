"""Which Dicts exist: make, look up, list, delete, tell a worker of one it has not met; and what the workers have counted."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from holdall import protocol
from holdall.bodies import CatalogEntry, CatalogPage, CatalogPageRequest, Lifetime, Registration, decode, encode
from holdall.client.connection.query import Operation, Queries, Query
from holdall.errors import NotFoundError, ProtocolError, printable
from holdall.protocol import Reply
from holdall.settings import CREATOR_CHARACTERS_MAX
from holdall.slots import key_hash

from .exchange import ServiceClient, to_each
from .refusals import error_of

if TYPE_CHECKING:
    from datetime import datetime

_LIST_PAGE_ENTRIES = 1_000


class DictInfo(NamedTuple):
    """Name (None: it is ephemeral), time it was made (with a time zone), who made it (user@host), and how many seconds an
    entry lives that nobody uses (None: for ever).
    """

    name: str | None
    created_at: datetime
    created_by: str
    ttl: float | None

    @classmethod
    def of_entry(cls, entry: CatalogEntry) -> DictInfo:
        return cls(entry.name or None, created_at(entry), printable(entry.created_by), entry.ttl)


def created_at(entry: CatalogEntry) -> datetime:
    """When its Dict was made, to the microsecond."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(entry.created_at, UTC)


def described(environment: str, name: str) -> str:
    return f"Dict {name!r}" if environment == "main" else f"Dict {name!r} of environment {environment!r}"


def lookup(client: ServiceClient, environment: str, name: str) -> Operation[CatalogEntry | None]:
    """The entry of this name, None if there is none; a deletion that was interrupted is finished first."""
    query = _query(protocol.LOOKUP, "look up", environment, name)
    entry = _entry(query, (yield query))
    if entry is not None and entry.deleting:
        if client.reads_only:
            return None
        yield from _finish_deleting(client, entry)
        return None
    return entry


def create(
    client: ServiceClient,
    environment: str,
    name: str,
    ttl: float | None,
    *,
    allow_existing: bool,
    dict_id: bytes = protocol.NO_DICT,
) -> Operation[CatalogEntry]:
    """Make a Dict of this name, and of this id if there is one. Raises AlreadyExistsError if one exists and may not."""
    wanted = CatalogEntry(environment, name, os.urandom(16), 0.0, this_user(), ttl)
    flags = protocol.SKIP_IF_EXISTS if allow_existing else 0
    query = _query(protocol.CREATE, "create", environment, name, value=encode(wanted), flags=flags, dict_id=dict_id)
    while True:
        reply = yield query
        if reply.status == protocol.FORGOTTEN and allow_existing:  # sent again across a restore: there is one now, or none
            continue
        entry = _entry(query, reply)
        if entry is None:
            raise ProtocolError(f"cannot {query}: the service says neither that it was made nor why not")
        if not entry.deleting:
            return entry
        yield from _finish_deleting(client, entry)


def delete(client: ServiceClient, environment: str, name: str) -> Operation[bool]:
    """Delete the Dict of this name and all its entries. Returns whether there was one."""
    query = _query(protocol.MARK_DELETED, "delete", environment, name)
    entry = _entry(query, (yield query))
    if entry is None:
        return False
    yield from _finish_deleting(client, entry)
    return True


def list_entries(client: ServiceClient, environment: str) -> Operation[list[CatalogEntry]]:
    entries: list[CatalogEntry] = []
    for worker in client.roster.workers:
        after, more = b"", True
        while more:
            body = encode(CatalogPageRequest(environment, after, _LIST_PAGE_ENTRIES))
            query = Query(protocol.LIST, worker.hash, "list the Dicts of", f"environment {environment!r}", value=body)
            [reply] = yield from _done([query])
            page = decode(CatalogPage, reply.payload)
            entries += [entry for entry in page.entries if not entry.deleting]
            last = _key(environment, page.entries[-1].name) if page.entries else b""
            more = page.more
            if more and last <= after:
                raise ProtocolError(f"cannot {query}: a page of them does not go on after the one before")
            after = last
    return entries


def register(client: ServiceClient, environment: str, name: str, dict_id: bytes, refused: Query) -> Operation[None]:
    """Tell the worker that refused this request of the Dict, which it has not met. Raises NotFoundError if the Dict is gone."""
    entry = (yield from lookup(client, environment, name)) if name else None
    if entry is None or entry.dict_id != dict_id:
        raise NotFoundError(f"cannot {refused}: it was deleted, or the data directory replaced; look it up with Dict.from_name")
    if client.reads_only:
        return
    body = encode(Registration(entry.ttl, ttl_version=entry.ttl_version, seal=entry.seal))
    yield from _done([Query(protocol.REGISTER, refused.hash, "register", refused.of, dict_id=dict_id, value=body)])


def find(client: ServiceClient, dict_id: bytes, of: str) -> Operation[CatalogEntry | None]:
    """The entry of the Dict with this id, None if there is none."""
    queries = to_each(client.roster, protocol.FIND, "look up", of, dict_id=dict_id)
    for query, reply in zip(queries, (yield Queries(queries)), strict=True):
        entry = _entry(query, reply)
        if entry is not None and not entry.deleting:
            return entry
    return None


def change_ttl(client: ServiceClient, dict_id: bytes, of: str, ttl: float | None) -> Operation[Lifetime]:
    """Have the catalog say how long entries of this Dict live. Returns what is to be told to every worker."""
    entry = yield from find(client, dict_id, of)
    if entry is not None and not entry.name:  # it is ephemeral, and in no catalog
        return Lifetime(ttl, entry.ttl_version + 1)
    if entry is not None:
        body = encode(Lifetime(ttl, 0))
        query = _query(protocol.CHANGE_TTL, "set the ttl of", entry.environment, entry.name, dict_id=dict_id, value=body)
        entry = _entry(query, (yield query))
    if entry is None:
        raise NotFoundError(f"cannot set the ttl of {of}: it was deleted, or never made at {client.address}")
    return Lifetime(ttl, entry.ttl_version, entry.seal)


def begin_lease(client: ServiceClient, environment: str, dict_id: bytes, of: str, lease_seconds: float) -> Operation[None]:
    body = encode(Registration(protocol.TTL_SECONDS, lease_seconds, environment, this_user()))
    yield from _done(to_each(client.roster, protocol.REGISTER, "make", of, dict_id=dict_id, value=body))


def renew(client: ServiceClient, dict_id: bytes, of: str) -> Operation[None]:
    """Let every worker know that the owner of this ephemeral Dict is alive."""
    yield from _done(to_each(client.roster, protocol.RENEW, "renew the lease of", of, dict_id=dict_id))


def drop(client: ServiceClient, dict_id: bytes, of: str) -> Operation[None]:
    """Delete all entries of a Dict, and refuse further ones."""
    yield from _done(to_each(client.roster, protocol.DROP, "delete", of, dict_id=dict_id))


def statistics(client: ServiceClient) -> Operation[list[dict[str, int]]]:
    """The counters of each worker, in the order of the roster; docs/protocol.md says what they count."""
    replies = yield from _done(to_each(client.roster, protocol.STATISTICS, "count", "what the workers did"))
    return [decode(dict[str, int], reply.payload) for reply in replies]


def _finish_deleting(client: ServiceClient, entry: CatalogEntry) -> Operation[None]:
    yield from drop(client, entry.dict_id, described(entry.environment, entry.name))
    yield from _done([_query(protocol.REMOVE, "delete", entry.environment, entry.name, dict_id=entry.dict_id)])


def _done(queries: list[Query]) -> Operation[list[Reply]]:
    """The replies to these requests, all of them OK; any other is raised as the error it is."""
    replies: list[Reply] = yield Queries(queries)
    for query, reply in zip(queries, replies, strict=True):
        if reply.status != protocol.OK:
            raise error_of(query, reply)
    return replies


def _query(opcode: int, verb: str, environment: str, name: str, **more: Any) -> Query:
    key = _key(environment, name)
    return Query(opcode, key_hash(0, key), verb, described(environment, name), key=key, **more)


def _key(environment: str, name: str) -> bytes:
    return f"{environment}/{name}".encode()


def _entry(query: Query, reply: Reply) -> CatalogEntry | None:
    if reply.status == protocol.MISSING:
        return None
    if reply.status != protocol.OK:
        raise error_of(query, reply)
    return decode(CatalogEntry, reply.payload)


def this_user() -> str:
    import getpass  # slow to load, as socket is: only making a Dict needs them
    import socket

    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # no name for this user id
        user = "unknown"
    told = "".join(filter(str.isprintable, f"{user}@{socket.gethostname()}"))  # LOGNAME may hold anything
    return told[:CREATOR_CHARACTERS_MAX]

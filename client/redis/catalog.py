"""What the catalog's scripts take, and an entry as they store it as the one that a client knows: see `scripts/catalog.lua`."""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any

from holdall import protocol
from holdall.bodies import CatalogEntry, Lifetime, Roster, RosterWorker, decode, encode
from holdall.protocol import Reply, Request
from holdall.slots import slot_range

from .command import Answered

KEYS_FORMAT = 1
"""Of what is stored. A client that reads another one's refuses."""
_ENTRY = Struct("<ddd?16s")


def entry_of(name: bytes, data: bytes) -> CatalogEntry:
    """The entry of the Dict "environment/name"."""
    environment, _, own = name.decode().partition("/")
    created_at, ttl, ttl_version, deleting, dict_id = _ENTRY.unpack_from(data)
    created_by = data[_ENTRY.size :].decode()
    return CatalogEntry(environment, own, dict_id, created_at, created_by, None if ttl < 0 else ttl, deleting, int(ttl_version))


def entry_reply(request: Request, name: bytes, data: bytes, version: int = 0) -> Reply:
    return Reply(protocol.OK, request.sequence, version, encode(entry_of(name, data)))


def found(request: Request, name: bytes, data: bytes | None) -> Answered:
    missing = Reply(protocol.MISSING, request.sequence, 0, b"")
    return missing if data is None else entry_reply(request, name, data), []


def found_ephemeral(request: Request, raw: Any) -> Answered:
    """What a part says of an ephemeral Dict, which is in no catalog."""
    ttl, lease, environment, created_by, created_at, ttl_version = raw
    if ttl is None or ttl == b"x" or lease is None:
        return Reply(protocol.MISSING, request.sequence, 0, b""), []
    seconds = None if int(ttl) == 0 else int(ttl) / 1000
    made = float(created_at) / 1e6, created_by.decode(), seconds, False, int(float(ttl_version))
    return Reply(protocol.OK, request.sequence, 0, encode(CatalogEntry(environment.decode(), "", request.dict_id, *made))), []


def laid_out(parts: int, request: Request, raw: Any) -> Answered:
    """The roster, of Dicts that are laid out as this client expects."""
    found, of, layout_id = int(raw[0]), int(raw[1]), raw[2]
    if found != KEYS_FORMAT or of != parts:
        text = f"the Dicts there have {of} parts: say ?parts={of}, or take another ?namespace="
        if found != KEYS_FORMAT:
            text = f"what is stored there has format {found}, and this version of holdall reads {KEYS_FORMAT}"
        return Reply(protocol.INVALID, request.sequence, 0, text.encode()), []
    workers = [RosterWorker(index, *slot_range(index, parts), []) for index in range(parts)]
    return Reply(protocol.OK, request.sequence, 0, encode(Roster(layout_id, workers))), []


def _created(request: Request) -> list[bytes]:
    wanted = decode(CatalogEntry, request.value)
    is_named = request.dict_id != protocol.NO_DICT
    dict_id = request.dict_id if is_named else protocol.dict_id_of(wanted.dict_id, ephemeral=False)
    return [dict_id, _seconds(wanted.ttl), wanted.created_by.encode(), b"x" if request.flags & protocol.SKIP_IF_EXISTS else b""]


def _seconds(ttl: float | None) -> bytes:
    return b"-1" if ttl is None else repr(float(ttl)).encode()


TAKES: dict[int, tuple[str, Callable[[Request], list[bytes]]]] = {
    protocol.CREATE: ("create", _created),
    protocol.CHANGE_TTL: ("change_ttl", lambda request: [request.dict_id, _seconds(decode(Lifetime, request.value).ttl)]),
    protocol.MARK_DELETED: ("mark_deleted", lambda _request: []),
    protocol.REMOVE: ("remove", lambda request: [request.dict_id]),
}
"""The script of each write to the catalog, and what it takes besides numbers and name."""

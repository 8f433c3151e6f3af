"""What the catalog's scripts take, and an entry as they store it as the one that a client knows: see `scripts/catalog.lua`."""

from __future__ import annotations

from struct import Struct
from typing import Any

from holdall import protocol
from holdall.bodies import CatalogEntry, CatalogPage, CatalogPageRequest, Lifetime, Roster, RosterWorker, decode, encode
from holdall.protocol import Reply, Request
from holdall.slots import slot_range

from .command import Answered, Step
from .payloads import split

KEYS_FORMAT = 1
"""Of what is stored. A client that reads another one's refuses."""
PAGE_ENTRIES_MAX = 1_000
_ENTRY = Struct("<ddd?16sI")


def entry_of(data: bytes) -> CatalogEntry:
    created_at, ttl, ttl_version, deleting, dict_id, length = _ENTRY.unpack_from(data)
    end = _ENTRY.size + length
    environment, _, own = data[_ENTRY.size : end].decode().partition("/")
    made = created_at, data[end:].decode(), None if ttl < 0 else ttl, deleting, int(ttl_version)
    return CatalogEntry(environment, own, dict_id, *made)


def _entry(payload: bytes) -> bytes:
    return encode(entry_of(payload)) if payload else b""


def _page(payload: bytes) -> bytes:
    """The first byte says whether there is more."""
    return encode(CatalogPage([entry_of(each or b"") for each in split(payload[1:])], payload[:1] == b"x"))


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
    may_exist = b"x" if request.flags & protocol.SKIP_IF_EXISTS else b""
    return [request.key, dict_id, _seconds(wanted.ttl), wanted.created_by.encode(), may_exist]


def _changed(request: Request) -> list[bytes]:
    return [request.key, request.dict_id, _seconds(decode(Lifetime, request.value).ttl)]


def _seconds(ttl: float | None) -> bytes:
    return b"-1" if ttl is None else repr(float(ttl)).encode()


def _wanted(request: Request) -> list[bytes]:
    of = decode(CatalogPageRequest, request.value)
    return [of.after, of.environment.encode() + b"/", str(min(max(of.entries_max, 1), PAGE_ENTRIES_MAX)).encode()]


FIND = Step("lookup", lambda request: [b"", request.dict_id], writes=False, convert=_entry)
LIST = Step("list", _wanted, writes=False, convert=_page)
STEPS = {
    protocol.CREATE: Step("create", _created, once=True, convert=_entry),
    protocol.LOOKUP: Step("lookup", lambda request: [request.key, b""], writes=False, convert=_entry),
    protocol.CHANGE_TTL: Step("change_ttl", _changed, once=True, convert=_entry),
    protocol.MARK_DELETED: Step("mark_deleted", lambda request: [request.key], once=True, convert=_entry),
    protocol.REMOVE: Step("remove", lambda request: [request.key, request.dict_id], once=True),
}

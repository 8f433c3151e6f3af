"""Which Dicts exist: the rows kept by the worker that owns the slot of "environment/name", one function per opcode.

A Dict is deleted in three steps, each of which any client may repeat: mark it here, drop its entries at every worker,
remove it here. A client that finds one that is marked finishes it.
"""

from __future__ import annotations

import msgspec

from holdall import protocol
from holdall.bodies import CatalogEntry, CatalogPage, CatalogPageRequest, Lifetime, decode, encode
from holdall.protocol import Reply, Request
from holdall.settings import is_creator, is_name
from holdall.worker.state.refused import Refused
from holdall.worker.state.transaction import Transaction
from holdall.worker.store.rows import ID_PREFIX, NAME_PREFIX

from .entries import check_ttl, full

CATALOG_PAGE_ENTRIES_MAX = 1_000


def create(transaction: Transaction, request: Request) -> Reply:
    """Make a Dict of this name, or with SKIP_IF_EXISTS give the one there is. One that names the id of the Dict gets that."""
    wanted = decode(CatalogEntry, request.value)
    if f"{wanted.environment}/{wanted.name}".encode() != request.key:
        raise Refused(protocol.MALFORMED, "the key of this request is not the name in its body")
    check_ttl(wanted.ttl)
    if not (is_name(wanted.environment) and is_name(wanted.name) and is_creator(wanted.created_by)):
        raise Refused(protocol.INVALID, "no Dict has such a name, or is in such an environment, or was made by such a user")
    found = _entry(transaction, request.key)
    if found is not None:
        if request.flags & protocol.SKIP_IF_EXISTS or found.deleting:
            return _answer(transaction, request, found)
        raise Refused(protocol.ALREADY_EXISTS, "a Dict of this name exists")
    if transaction.no_room:
        raise full(transaction)
    named = request.dict_id != protocol.NO_DICT
    dict_id = request.dict_id if named else transaction.dicts.id_for(request.key, wanted.dict_id)
    if named and not transaction.names_ids:
        raise Refused(protocol.DENIED, "the key of this client does not allow it to say which id a Dict is to have")
    if named and (protocol.is_ephemeral(dict_id) or transaction.get(ID_PREFIX + dict_id) is not None):
        raise Refused(protocol.INVALID, "no Dict with a name has such an id, or another one has it")
    entry = CatalogEntry(wanted.environment, wanted.name, dict_id, transaction.wall, wanted.created_by, wanted.ttl)
    transaction.write(NAME_PREFIX + request.key, encode(entry))
    transaction.write(ID_PREFIX + entry.dict_id, request.key)
    return Reply(protocol.OK, request.sequence, transaction.next_version(), encode(transaction.dicts.sealed(entry)))


def lookup(transaction: Transaction, request: Request) -> Reply:
    return _answer(transaction, request, _entry(transaction, request.key))


def find(transaction: Transaction, request: Request) -> Reply:
    """The entry of the Dict with this id, if this worker keeps it; an ephemeral one has no name."""
    key = transaction.get(ID_PREFIX + request.dict_id)
    if key is not None:
        return _answer(transaction, request, _entry(transaction, key))
    opened = transaction.dicts.get(request.dict_id)
    if opened is None or opened.row.lease_seconds is None or opened.row.deleted_at is not None:
        return _answer(transaction, request, None)
    row = opened.row
    made = row.created_at, row.created_by, row.ttl, False, row.ttl_version
    return _answer(transaction, request, CatalogEntry(row.environment, "", request.dict_id, *made))


def change_ttl(transaction: Transaction, request: Request) -> Reply:
    """Note the `ttl` in the body for the Dict of this name and id. The reply's entry has the version to tell workers of."""
    wanted = decode(Lifetime, request.value)
    check_ttl(wanted.ttl)
    entry = _entry(transaction, request.key)
    if entry is None or entry.deleting or entry.dict_id != request.dict_id:
        return _answer(transaction, request, None)
    entry = msgspec.structs.replace(entry, ttl=wanted.ttl, ttl_version=transaction.next_version())
    transaction.write(NAME_PREFIX + request.key, encode(entry))
    return _answer(transaction, request, entry)


def mark_deleted(transaction: Transaction, request: Request) -> Reply:
    """Deleting, step 1."""
    entry = _entry(transaction, request.key)
    if entry is not None and not entry.deleting:
        entry = msgspec.structs.replace(entry, deleting=True)
        transaction.write(NAME_PREFIX + request.key, encode(entry))
    return _answer(transaction, request, entry)


def remove(transaction: Transaction, request: Request) -> Reply:
    """Deleting, step 3; the Dict with this id and no newer one of the same name."""
    entry = _entry(transaction, request.key)
    if entry is not None and entry.deleting and entry.dict_id == request.dict_id:
        transaction.delete(NAME_PREFIX + request.key)
        transaction.delete(ID_PREFIX + request.dict_id)
    return Reply(protocol.OK, request.sequence, 0, b"")


def list_page(transaction: Transaction, request: Request) -> Reply:
    """Some of the environment's entries that this worker keeps, in the order of their names."""
    wanted = decode(CatalogPageRequest, request.value)
    most = min(max(wanted.entries_max, 1), CATALOG_PAGE_ENTRIES_MAX)
    prefix = NAME_PREFIX + wanted.environment.encode("utf-8", "surrogatepass") + b"/"
    start = NAME_PREFIX + wanted.after + b"\x00" if wanted.after else prefix
    entries: list[CatalogEntry] = []
    for _row, data in transaction.scan(max(start, prefix), prefix):
        if len(entries) == most:
            return Reply(protocol.OK, request.sequence, 0, encode(CatalogPage(entries, True)))
        entries.append(decode(CatalogEntry, data))
    return Reply(protocol.OK, request.sequence, 0, encode(CatalogPage(entries, False)))


def _entry(transaction: Transaction, key: bytes) -> CatalogEntry | None:
    data = transaction.get(NAME_PREFIX + key)
    return None if data is None else decode(CatalogEntry, data)


def _answer(transaction: Transaction, request: Request, entry: CatalogEntry | None) -> Reply:
    if entry is None:
        return Reply(protocol.MISSING, request.sequence, 0, b"")
    return Reply(protocol.OK, request.sequence, 0, encode(transaction.dicts.sealed(entry)))

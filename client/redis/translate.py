"""A request as the command that carries it out, and that command's answer as the reply: pure functions, one for each opcode."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from functools import partial
from random import random
from struct import Struct
from typing import Any, Union

from holdall import protocol
from holdall.blob import chunk_of, is_reference, reference_of
from holdall.bodies import (
    CatalogEntry,
    CatalogPage,
    CatalogPageRequest,
    Lifetime,
    Page,
    PageEntry,
    PageRequest,
    Registration,
    Roster,
    RosterWorker,
    Update,
    decode,
    encode,
)
from holdall.protocol import Buffer, Reply, Request
from holdall.slots import slot_range

from .command import Command, ignored
from .keyspace import Keyspace, Part
from .scripts import scripts

FORMAT = 1
"""Of what is stored. A client that reads another one's refuses."""
LEASES = 4
"""An ephemeral Dict is kept for so many leases: its owner may not be heard while a replica takes over."""
FRESH_TTL_MS = 100_000
"""With a shorter time to live it is the server's clock alone that says what has expired."""
SWEEPS_PER_WRITE = 1 / 64
"""How often a write has some entries looked at, whether they have expired."""
LIST_ENTRIES_MAX = 1_000
PAGE_ENTRIES_MAX = 1_000
_VERSION = Struct("<d")
_RECORD = Struct("<ddI")
_CATALOG = Struct("<ddd")
_LENGTHS = Struct("<II")
_LENGTH = Struct("<i")
_TEXTS = {protocol.DICT_NOT_FOUND: b"it was deleted"}
_ELSEWHERE = b"a service of holdall's own does that, and not this server: use its own tools"

Answered = tuple[Union[Reply, Command, None], list[Command]]


class Translator:
    """For the Dicts of this keyspace."""

    def __init__(self, keyspace: Keyspace) -> None:
        self._keyspace = keyspace
        self._scripts = scripts()

    def command(self, request: Request) -> Reply | Command:
        """What carries this request out, or the reply if nothing has to. Raises ProtocolError."""
        if request.opcode == protocol.ROSTER:
            return self._layout(request.sequence)
        handler = _HANDLERS.get(request.opcode)
        if handler is None:
            return Reply(protocol.INVALID, request.sequence, 0, _ELSEWHERE)
        return handler(self, request, self._keyspace.of(request.dict_id, request.hash))

    def _layout(self, sequence: int) -> Command:
        """What asks how this namespace is laid out; the reply is the roster."""
        keyspace = self._keyspace
        args = [str(FORMAT).encode(), str(keyspace.parts).encode(), os.urandom(16)]
        answer = partial(_layout, keyspace, sequence)
        return self._script("layout", keyspace.catalog_slot, [keyspace.layout], args, answer, sequence)

    # Entries

    def _get(self, request: Request, part: Part) -> Command:
        words = [b"HMGET", part.keys[0], b"t", b"d", b"e" + request.key]
        return Command(part.slot, words, partial(self._got, request, part), request.sequence)

    def _got(self, request: Request, part: Part, raw: Any) -> Answered:
        ttl, dead, record = raw
        if ttl is None or ttl == b"x":
            return _refused(request, protocol.UNKNOWN_DICT if ttl is None else protocol.DICT_NOT_FOUND), []
        if record is None:
            return Reply(protocol.MISSING, request.sequence, 0, b""), []
        used, version, length = _RECORD.unpack_from(record)
        if _is_fresh(used, ttl, dead):
            return Reply(protocol.OK, request.sequence, int(version), record[_RECORD.size + length :]), []
        return self._of_dict("get", request, part, [request.key]), []

    def _contains(self, request: Request, part: Part) -> Command:
        return self._of_dict("contains", request, part, [request.key])

    def _put(self, request: Request, part: Part) -> Command:
        key_object, value = b"", request.value
        if request.flags & protocol.KEY_OBJECT:
            key_object, value = protocol.split_key_object(value)
        mode = b"d" if request.opcode == protocol.SET_DEFAULT else b"x" if request.flags & protocol.SKIP_IF_EXISTS else b""
        blobs = [part.blob(reference_of(value).id)] if is_reference(value) else []
        if blobs or mode:
            return self._write("put_if", request, part, [request.key, key_object, bytes(value), mode], blobs=blobs)
        return self._write("put", request, part, [request.key, key_object, bytes(value)])

    def _pop(self, request: Request, part: Part) -> Command:
        unwanted = b"x" if request.flags & protocol.WITHOUT_VALUE else b""
        return self._write("pop", request, part, [request.key, unwanted])

    def _pop_any(self, request: Request, part: Part) -> Command:
        return self._write("pop_any", request, part, [], _popped)

    def _put_many(self, request: Request, part: Part) -> Command | Reply:
        update = decode(Update, request.value)
        if len(update.keys) != len(update.values) or len(update.key_objects) not in (0, len(update.keys)):
            return Reply(protocol.MALFORMED, request.sequence, 0, b"an update has as many values as keys")
        args = [b"x" if request.flags & protocol.SKIP_IF_EXISTS else b""]
        blobs: list[bytes] = []
        objects = update.key_objects or [None] * len(update.keys)
        for key, key_object, value in zip(update.keys, objects, update.values, strict=True):
            where = b""
            if is_reference(value):
                blobs.append(part.blob(reference_of(value).id))
                where = str(5 + len(blobs)).encode()
            args += (key, key_object or b"", value, where)
        return self._write("put_many", request, part, args, _counted, blobs)

    def _get_many(self, request: Request, part: Part) -> Command:
        keys = decode(list[bytes], request.value)[: protocol.UPDATE_ENTRIES_MAX]
        words = [b"HMGET", part.keys[0], b"t", b"d", *[b"e" + key for key in keys]]
        return Command(part.slot, words, partial(self._got_many, request, part, keys), request.sequence)

    def _got_many(self, request: Request, part: Part, keys: list[bytes], raw: Any) -> Answered:
        ttl, dead, *records = raw
        if ttl is None or ttl == b"x":
            return _refused(request, protocol.UNKNOWN_DICT if ttl is None else protocol.DICT_NOT_FOUND), []
        values: list[bytes | None] = []
        for record in records:
            if record is None:
                values.append(None)
                continue
            used, _of, length = _RECORD.unpack_from(record)
            if not _is_fresh(used, ttl, dead):
                return self._of_dict("get_many", request, part, keys, partial(self._listed, request, part, _values)), []
            values.append(record[_RECORD.size + length :])
        return Reply(protocol.OK, request.sequence, 0, encode(values)), []

    def _pop_many(self, request: Request, part: Part) -> Command:
        return self._write("pop_many", request, part, decode(list[bytes], request.value), _all_popped)

    # Parts

    def _length(self, request: Request, part: Part) -> Command:
        return self._of_dict("length", request, part, [], partial(self._outcome, request, part, convert=_counted))

    def _page(self, request: Request, part: Part) -> Command:
        wanted = decode(PageRequest, request.value)
        most = min(max(wanted.entries_max, 1), PAGE_ENTRIES_MAX)
        with_values = bool(request.flags & protocol.WITH_VALUES)
        args = [wanted.after, str(most).encode(), b"x" if with_values else b""]
        convert = partial(_page_of, with_values=with_values)
        return self._of_dict("page", request, part, args, partial(self._listed, request, part, convert))

    def _clear(self, request: Request, part: Part) -> Command:
        return self._write("clear", request, part, [])

    def _register(self, request: Request, part: Part) -> Command:
        of = decode(Registration, request.value)
        lease = b"" if of.lease_seconds is None else _milliseconds(of.lease_seconds * LEASES)
        args = [_milliseconds(of.ttl), str(of.ttl_version).encode(), lease, of.environment.encode(), of.created_by.encode()]
        return self._of_dict("register", request, part, args, writes=True)

    def _drop(self, request: Request, part: Part) -> Command:
        return self._of_dict("drop", request, part, [], writes=True)

    def _renew(self, request: Request, part: Part) -> Command:
        return self._of_dict("renew", request, part, [], writes=True)

    def _set_ttl(self, request: Request, part: Part) -> Command:
        of = decode(Lifetime, request.value)
        args = [_milliseconds(of.ttl), str(of.ttl_version).encode()]
        return self._of_dict("set_ttl", request, part, args, writes=True)

    # Blobs

    def _write_chunk(self, request: Request, part: Part) -> Command | Reply:
        chunk = chunk_of(request.key)
        if chunk.offset + len(request.value) > chunk.size or chunk.size > protocol.OBJECT_BYTES_MAX:
            return Reply(protocol.TOO_LARGE, request.sequence, 0, b"a chunk that is not in its value")
        args = [str(chunk.offset).encode(), bytes(request.value)]
        return self._of_blob("write_chunk", request, part, [part.blob(chunk.id)], args)

    def _seal(self, request: Request, part: Part) -> Command:
        reference = reference_of(request.value)
        return self._of_blob("seal", request, part, [part.blob(reference.id)], [str(reference.size).encode()])

    def _read_chunk(self, request: Request, part: Part) -> Command:
        chunk = chunk_of(request.key)

        def answer(raw: Any) -> Answered:
            status = protocol.UNKNOWN_BLOB if raw is None else protocol.OK
            return Reply(status, request.sequence, 0, raw or b""), []

        words = [b"HGET", part.blob(chunk.id), str(chunk.offset).encode()]
        return Command(part.slot, words, answer, request.sequence)

    def _drop_blob(self, request: Request, part: Part) -> Command:
        blob_id = chunk_of(request.key).id
        return self._of_blob("drop_blob", request, part, [part.blob(blob_id), part.keys[2]], [blob_id])

    # The catalog

    def _create(self, request: Request, part: Part) -> Command:
        wanted = decode(CatalogEntry, request.value)
        named = request.dict_id != protocol.NO_DICT
        dict_id = request.dict_id if named else protocol.dict_id_of(wanted.dict_id, ephemeral=False)
        exists = b"x" if request.flags & protocol.SKIP_IF_EXISTS else b""
        args = [request.key, dict_id, _seconds(wanted.ttl), wanted.created_by.encode(), exists]
        return self._of_catalog("create", request, args)

    def _lookup(self, request: Request, part: Part) -> Command:
        def answer(raw: Any) -> Answered:
            return (_no_entry(request) if raw is None else _entry_reply(request, request.key, raw)), []

        words = [b"HGET", self._keyspace.catalog[0], request.key]
        return Command(self._keyspace.catalog_slot, words, answer, request.sequence)

    def _find(self, request: Request, part: Part) -> Command | Reply:
        if protocol.is_ephemeral(request.dict_id):
            words = [b"HMGET", part.keys[0], b"t", b"l", b"n", b"b", b"a", b"w"]
            return Command(part.slot, words, partial(_found_ephemeral, request), request.sequence)
        if self._keyspace.index(request.hash):
            return _no_entry(request)

        def answer(raw: Any) -> Answered:
            return (_no_entry(request) if len(raw) == 1 else _entry_reply(request, raw[1], raw[0][1 + _VERSION.size :])), []

        keyspace = self._keyspace
        return self._script("find", keyspace.catalog_slot, [*keyspace.catalog], [request.dict_id], answer, request.sequence)

    def _list(self, request: Request, part: Part) -> Command | Reply:
        if self._keyspace.index(request.hash):
            return Reply(protocol.OK, request.sequence, 0, encode(CatalogPage([], False)))
        wanted = decode(CatalogPageRequest, request.value)
        most = min(max(wanted.entries_max, 1), LIST_ENTRIES_MAX)

        def answer(raw: Any) -> Answered:
            entries = [_entry_of(name, data) for name, data in zip(raw[1::2], raw[2::2], strict=True)]
            return Reply(protocol.OK, request.sequence, 0, encode(CatalogPage(entries, len(entries) == most))), []

        args = [wanted.after, wanted.environment.encode() + b"/", str(most).encode()]
        keyspace = self._keyspace
        return self._script("list", keyspace.catalog_slot, [*keyspace.catalog], args, answer, request.sequence)

    def _change_ttl(self, request: Request, part: Part) -> Command:
        wanted = decode(Lifetime, request.value)
        return self._of_catalog("change_ttl", request, [request.key, request.dict_id, _seconds(wanted.ttl)])

    def _mark_deleted(self, request: Request, part: Part) -> Command:
        return self._of_catalog("mark_deleted", request, [request.key])

    def _remove(self, request: Request, part: Part) -> Command:
        return self._of_catalog("remove", request, [request.key, request.dict_id])

    # What these have in common

    def _script(
        self, name: str, slot: int, keys: list[bytes], args: list[bytes], answer: Any, sequence: int, *, writes: bool = False
    ) -> Command:
        script = self._scripts[name]
        words = [b"EVALSHA", script.digest, str(len(keys)).encode(), *keys, *args]
        return Command(slot, words, answer, sequence, writes, script.source)

    def _of_dict(
        self, name: str, request: Request, part: Part, args: list[bytes], answer: Any = None, *, writes: bool = False
    ) -> Command:
        answer = answer or partial(self._outcome, request, part)
        return self._script(name, part.slot, [*part.keys], args, answer, request.sequence, writes=writes)

    def _write(
        self,
        name: str,
        request: Request,
        part: Part,
        args: list[bytes],
        convert: Callable[[bytes], Buffer] | None = None,
        blobs: list[bytes] | None = None,
    ) -> Command:
        """A script whose outcome is remembered under the session and the number of the request."""
        keys = [*part.keys, part.session(request.session), *(blobs or ())]
        numbers = [str(request.sequence).encode(), str(request.lowest).encode()]
        answer = partial(self._outcome, request, part, convert=convert)
        return self._script(name, part.slot, keys, [*numbers, *args], answer, request.sequence, writes=True)

    def _of_blob(self, name: str, request: Request, part: Part, keys: list[bytes], args: list[bytes]) -> Command:
        return self._script(name, part.slot, keys, args, partial(self._outcome, request, part), request.sequence, writes=True)

    def _of_catalog(self, name: str, request: Request, args: list[bytes]) -> Command:
        keyspace = self._keyspace
        session = keyspace.catalog_sessions + request.session.hex().encode()
        keys = [*keyspace.catalog, b"%s-" % keyspace.catalog[0], session]
        numbers = [str(request.sequence).encode(), str(request.lowest).encode()]

        def answer(raw: Any) -> Answered:
            reply = _reply(request, raw)
            if reply.status == protocol.OK and reply.payload:
                return _entry_reply(request, request.key, bytes(reply.payload), reply.version), []
            return reply, []

        return self._script(name, keyspace.catalog_slot, keys, [*numbers, *args], answer, request.sequence, writes=True)

    def _outcome(self, request: Request, part: Part, raw: Any, convert: Callable[[bytes], Buffer] | None = None) -> Answered:
        after: list[Command] = []
        if _is_list(raw):
            after = self._after(part, raw[1:])
            raw = raw[0]
        if request.opcode in (protocol.PUT, protocol.PUT_MANY) and random() < SWEEPS_PER_WRITE:
            after.append(self._script("sweep", part.slot, [*part.keys], [], partial(self._collected, part), -1, writes=True))
        return _reply(request, raw, convert), after

    def _listed(self, request: Request, part: Part, convert: Callable[[list[Any]], Any], raw: Any) -> Answered:
        """The reply that a list makes, whose first member is the outcome."""
        if len(raw) == 1:
            return _reply(request, raw[0]), []
        (outcome, *listed), todo = raw
        return _reply(request, outcome, lambda _: encode(convert(listed))), self._after(part, todo)

    def _after(self, part: Part, todo: list[bytes]) -> list[Command]:
        """What is to be done with blobs, whose keys a script had not declared: they stay for so long."""
        commands: list[Command] = []
        let_go: list[bytes] = []
        for each in todo:
            kind, blob_id, milliseconds = each[:1], each[1:17], each[17:]
            commands.append(Command(part.slot, [b"PEXPIRE", part.blob(blob_id), milliseconds], ignored))
            if kind == b"g":
                let_go.append(blob_id)
        if let_go:
            more = partial(self._collected, part)
            commands.append(self._script("collect", part.slot, [*part.keys], let_go, more, -1, writes=True))
        return commands

    def _collected(self, part: Part, raw: Any) -> Answered:
        return None, self._after(part, raw[1:]) if _is_list(raw) else []


_HANDLERS: dict[int, Callable[[Translator, Request, Part], Reply | Command]] = {
    getattr(protocol, name): getattr(Translator, f"_{'put' if name == 'SET_DEFAULT' else name.lower()}")
    for name in (
        *("GET", "PUT", "SET_DEFAULT", "POP", "CONTAINS", "PUT_MANY", "GET_MANY", "POP_MANY", "POP_ANY"),
        *("LENGTH", "PAGE", "CLEAR", "REGISTER", "DROP", "RENEW", "SET_TTL"),
        *("WRITE_CHUNK", "SEAL", "READ_CHUNK", "DROP_BLOB"),
        *("CREATE", "LOOKUP", "FIND", "LIST", "CHANGE_TTL", "MARK_DELETED", "REMOVE"),
    )
}


def _reply(request: Request, raw: Any, convert: Callable[[bytes], Buffer] | None = None) -> Reply:
    """The reply that an outcome says."""
    status, payload = raw[0], raw[1 + _VERSION.size :]
    if status == protocol.OK and convert is not None:
        payload = convert(payload)
    return Reply(status, request.sequence, int(_VERSION.unpack_from(raw, 1)[0]), payload or _TEXTS.get(status, b""))


def _refused(request: Request, status: int) -> Reply:
    return Reply(status, request.sequence, 0, _TEXTS.get(status, b""))


def _is_fresh(used: float, ttl: bytes, dead: bytes | None) -> bool:
    """Whether an entry that was last used then is there, and need not be noted as used now."""
    milliseconds = int(ttl)
    if dead is not None and used < float(dead):
        return False
    return milliseconds == 0 or (milliseconds >= FRESH_TTL_MS and 0 <= time.time() * 1000 - used < milliseconds // 100)


def _is_list(raw: Any) -> bool:
    return type(raw) is list


def _counted(payload: bytes) -> bytes:
    return encode(int(payload))


def _popped(payload: bytes) -> bytes:
    key_length, object_length = _LENGTHS.unpack_from(payload)
    key_end = _LENGTHS.size + key_length
    end = key_end + object_length
    return encode(PageEntry(payload[_LENGTHS.size : key_end], payload[key_end:end] or None, payload[end:]))


def _all_popped(payload: bytes) -> bytes:
    values: list[bytes | None] = []
    at = 0
    while at < len(payload):
        (length,) = _LENGTH.unpack_from(payload, at)
        at += _LENGTH.size
        values.append(None if length < 0 else payload[at : at + length])
        at += max(length, 0)
    return encode(values)


def _values(listed: list[Any]) -> list[bytes | None]:
    return listed


def _page_of(listed: list[Any], *, with_values: bool) -> Page:
    more, *rest = listed
    entries = [
        PageEntry(key, key_object or None, value if with_values else None)
        for key, key_object, value in zip(rest[::3], rest[1::3], rest[2::3], strict=True)
    ]
    return Page(entries, more)


def _entry_of(name: bytes, data: bytes) -> CatalogEntry:
    """The entry of the Dict "environment/name"."""
    environment, _, own = name.decode().partition("/")
    created_at, ttl, ttl_version = _CATALOG.unpack_from(data)
    at = _CATALOG.size
    deleting, dict_id, created_by = data[at] == 1, data[at + 1 : at + 17], data[at + 17 :].decode()
    return CatalogEntry(environment, own, dict_id, created_at, created_by, None if ttl < 0 else ttl, deleting, int(ttl_version))


def _entry_reply(request: Request, name: bytes, data: bytes, version: int = 0) -> Reply:
    return Reply(protocol.OK, request.sequence, version, encode(_entry_of(name, data)))


def _no_entry(request: Request) -> Reply:
    return Reply(protocol.MISSING, request.sequence, 0, b"")


def _found_ephemeral(request: Request, raw: Any) -> Answered:
    ttl, lease, environment, created_by, created_at, ttl_version = raw
    if ttl is None or ttl == b"x" or lease is None:
        return _no_entry(request), []
    seconds = None if int(ttl) == 0 else int(ttl) / 1000
    made = float(created_at) / 1e6, created_by.decode(), seconds, False, int(float(ttl_version))
    entry = CatalogEntry(environment.decode(), "", request.dict_id, *made)
    return Reply(protocol.OK, request.sequence, 0, encode(entry)), []


def _layout(keyspace: Keyspace, sequence: int, raw: Any) -> Answered:
    format_, parts, layout_id = raw
    if format_ != str(FORMAT).encode():
        text = f"what is stored there has format {format_!r}, and this version of holdall reads {FORMAT}"
        return Reply(protocol.INVALID, sequence, 0, text.encode()), []
    if int(parts) != keyspace.parts:
        text = f"the Dicts there have {int(parts)} parts: say ?parts={int(parts)}, or take another ?namespace="
        return Reply(protocol.INVALID, sequence, 0, text.encode()), []
    workers = [RosterWorker(index, *slot_range(index, keyspace.parts), []) for index in range(keyspace.parts)]
    return Reply(protocol.OK, sequence, 0, encode(Roster(layout_id, workers))), []


def _milliseconds(seconds: float | None) -> bytes:
    return b"0" if seconds is None else str(math.ceil(seconds * 1000)).encode()


def _seconds(ttl: float | None) -> bytes:
    return b"-1" if ttl is None else repr(float(ttl)).encode()

"""A request as the command that carries it out, and that command's answer as the reply: pure functions, by opcode."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable
from functools import partial
from random import random
from struct import Struct
from typing import Any

from holdall import protocol
from holdall.blob import chunk_of, is_reference, reference_of
from holdall.bodies import CatalogPage, Lifetime, PageRequest, Registration, Update, decode, encode
from holdall.errors import ProtocolError
from holdall.protocol import Reply, Request

from . import catalog, payloads
from .command import Answered, Command, Convert, Step, ignored
from .keyspace import Keyspace, PartKeys
from .scripts import scripts

LEASES = 4
"""An ephemeral Dict is kept for so many leases: its owner may not be heard while a replica takes over."""
FRESH_TTL_MS = 100_000
"""With a shorter time to live it is the server's clock alone that says what has expired."""
SWEEPS_PER_WRITE = 1 / 64
"""How often a write has some entries looked at, whether they have expired."""
_VERSION = Struct("<d")
_RECORD = Struct("<ddI")
_TEXTS = {protocol.DICT_NOT_FOUND: b"it was deleted"}
_ELSEWHERE = b"a service of holdall's own does that, and not this server: use its own tools"


class Translator:
    """For the Dicts of this keyspace."""

    def __init__(self, keyspace: Keyspace) -> None:
        self._keyspace = keyspace
        self._scripts = scripts()
        self._handlers: dict[int, Callable[[Request, PartKeys], Reply | Command]] = {
            protocol.GET: self._get,
            protocol.PUT: self._put,
            protocol.SET_DEFAULT: self._put,
            protocol.PUT_MANY: self._put_many,
            protocol.READ_CHUNK: self._read_chunk,
            protocol.FIND: self._find,
            protocol.LIST: self._list,
            protocol.ROSTER: self._roster,
        }

    def command(self, request: Request) -> Reply | Command:
        """What carries this request out, or the reply if nothing has to. Raises ProtocolError."""
        part = self._keyspace.of(request.dict_id, request.hash)
        if step := _STEPS.get(request.opcode):
            return self._step(step, request, part)
        if step := catalog.STEPS.get(request.opcode):
            return self._step(step, request, self._keyspace.catalog)
        handler = self._handlers.get(request.opcode)
        return Reply(protocol.INVALID, request.sequence, 0, _ELSEWHERE) if handler is None else handler(request, part)

    def _step(
        self, step: Step, request: Request, part: PartKeys, args: list[bytes] | None = None, blobs: Iterable[bytes] = ()
    ) -> Command:
        """The script of this step, which may take the keys of some blobs besides."""
        args = step.takes(request) if args is None else args
        keys = part.keys
        if step.once:  # its outcome is remembered under the session and the number of the request
            keys, args = (*keys, part.session(request.session)), [*_numbers(request), *args]
        elif step.of_blob:
            keys = (*keys, part.blob(request.key[:16]))
        answer = partial(self._outcome, request, part, step.convert)
        return self._script(step.name, part.slot, (*keys, *blobs), args, answer, request.sequence, step.writes)

    # Entries

    def _get(self, request: Request, part: PartKeys) -> Command:
        words = [b"HMGET", part.keys[0], b"t", b"d", b"e" + request.key]
        return Command(part.slot, words, partial(self._got, request, part), request.sequence)

    def _got(self, request: Request, part: PartKeys, raw: Any) -> Answered:
        """Most entries need no script to be read."""
        ttl, dead, record = raw
        if record is None and ttl and ttl != b"x":
            return Reply(protocol.MISSING, request.sequence, 0, b""), []
        used, version, length = _RECORD.unpack_from(record or bytes(_RECORD.size))
        if record and _is_fresh(used, raw[0], dead):
            return Reply(protocol.OK, request.sequence, int(version), record[_RECORD.size + length :]), []
        return self._step(_GET, request, part), []

    def _put(self, request: Request, part: PartKeys) -> Command:
        key_object, value = b"", request.value
        if request.flags & protocol.KEY_OBJECT:
            key_object, value = protocol.split_key_object(value)
        mode = b"d" if request.opcode == protocol.SET_DEFAULT else b"x" if request.flags & protocol.SKIP_IF_EXISTS else b""
        blobs = [part.blob(reference_of(value).id)] if is_reference(value) else []
        return self._step(_PUT, request, part, [request.key, key_object, bytes(value), mode], blobs)

    def _put_many(self, request: Request, part: PartKeys) -> Command:
        update = decode(Update, request.value)
        if len(update.keys) != len(update.values) or len(update.key_objects) not in (0, len(update.keys)):
            raise ProtocolError("an update has as many values as keys")
        args = [b"x" if request.flags & protocol.SKIP_IF_EXISTS else b""]
        blobs: list[bytes] = []
        objects = update.key_objects or [None] * len(update.keys)
        for key, key_object, value in zip(update.keys, objects, update.values, strict=True):
            if is_reference(value):
                blobs.append(part.blob(reference_of(value).id))
            args += (key, key_object or b"", value, str(5 + len(blobs)).encode() if is_reference(value) else b"")
        return self._step(_PUT_MANY, request, part, args, blobs)

    # Blobs

    def _read_chunk(self, request: Request, part: PartKeys) -> Command:
        def answer(raw: Any) -> Answered:
            return Reply(protocol.UNKNOWN_BLOB if raw is None else protocol.OK, request.sequence, 0, raw or b""), []

        chunk = chunk_of(request.key)
        words = [b"HGET", part.blob(chunk.id), str(chunk.offset).encode()]
        return Command(part.slot, words, answer, request.sequence)

    # The catalog, and the layout

    def _find(self, request: Request, part: PartKeys) -> Command | Reply:
        if protocol.is_ephemeral(request.dict_id):
            words = [b"HMGET", part.keys[0], b"t", b"l", b"n", b"b", b"a", b"w"]
            return Command(part.slot, words, partial(catalog.found_ephemeral, request), request.sequence)
        if self._keyspace.index(request.hash):
            return Reply(protocol.MISSING, request.sequence, 0, b"")
        return self._step(catalog.FIND, request, self._keyspace.catalog)

    def _list(self, request: Request, _part: PartKeys) -> Command | Reply:
        if self._keyspace.index(request.hash):
            return Reply(protocol.OK, request.sequence, 0, encode(CatalogPage([], False)))
        return self._step(catalog.LIST, request, self._keyspace.catalog)

    def _roster(self, request: Request, _part: PartKeys) -> Command:
        """What asks how this namespace is laid out; the reply is the roster."""
        keyspace = self._keyspace
        args = [str(catalog.KEYS_FORMAT).encode(), str(keyspace.parts).encode(), os.urandom(16)]
        answer = partial(catalog.laid_out, keyspace.parts, request)
        return self._script("layout", keyspace.catalog.slot, (keyspace.layout,), args, answer, request.sequence, False)

    # What these have in common

    def _script(
        self, name: str, slot: int, keys: tuple[bytes, ...], args: list[bytes], answer: Any, number: int, writes: bool
    ) -> Command:
        script = self._scripts[name]
        words = [b"EVALSHA", script.digest, str(len(keys)).encode(), *keys, *args]
        return Command(slot, words, answer, number, writes, script.source)

    def _outcome(self, request: Request, part: PartKeys, convert: Convert, raw: Any) -> Answered:
        after: list[Command] = []
        if not isinstance(raw, bytes):
            after = self._after(part, raw[1:])
            raw = raw[0]
        if request.opcode in (protocol.PUT, protocol.PUT_MANY) and random() < SWEEPS_PER_WRITE:
            after.append(self._script("sweep", part.slot, part.keys, [], partial(self._collected, part), -1, True))
        return _reply(request, raw, convert), after

    def _after(self, part: PartKeys, todo: list[bytes]) -> list[Command]:
        """What is to be done with blobs, whose keys a script had not declared: they stay for so long."""
        commands = [Command(part.slot, [b"PEXPIRE", part.blob(each[1:17]), each[17:]], ignored) for each in todo]
        if let_go := [each[1:17] for each in todo if each[:1] == b"g"]:
            more = partial(self._collected, part)
            commands.append(self._script("collect", part.slot, part.keys, let_go, more, -1, True))
        return commands

    def _collected(self, part: PartKeys, raw: Any) -> Answered:
        return None, self._after(part, raw[1:]) if not isinstance(raw, bytes) else []


def _reply(request: Request, raw: Any, convert: Convert = None) -> Reply:
    """The reply that an outcome says."""
    status, payload = raw[0], raw[1 + _VERSION.size :]
    if status == protocol.OK and convert is not None:
        payload = convert(payload)
    return Reply(status, request.sequence, int(_VERSION.unpack_from(raw, 1)[0]), payload or _TEXTS.get(status, b""))


def _numbers(request: Request) -> list[bytes]:
    return [str(request.sequence).encode(), str(request.lowest).encode()]


def _is_fresh(used: float, ttl: bytes, dead: bytes | None) -> bool:
    """Whether an entry that was last used then is there, and need not be noted as used now."""
    milliseconds = int(ttl)
    if dead is not None and used < float(dead):
        return False
    return milliseconds == 0 or (milliseconds >= FRESH_TTL_MS and 0 <= time.time() * 1000 - used < milliseconds // 100)


def _milliseconds(seconds: float | None) -> bytes:
    return b"0" if seconds is None else str(math.ceil(seconds * 1000)).encode()


def _registered(request: Request) -> list[bytes]:
    of = decode(Registration, request.value)
    lease = b"" if of.lease_seconds is None else _milliseconds(of.lease_seconds * LEASES)
    return [_milliseconds(of.ttl), str(of.ttl_version).encode(), lease, of.environment.encode(), of.created_by.encode()]


def _lives(request: Request) -> list[bytes]:
    of = decode(Lifetime, request.value)
    return [_milliseconds(of.ttl), str(of.ttl_version).encode()]


def _chunk(request: Request) -> list[bytes]:
    chunk = chunk_of(request.key)
    if chunk.offset + len(request.value) > chunk.size or chunk.size > protocol.OBJECT_BYTES_MAX:
        raise ProtocolError("a chunk that is not in its value")
    return [str(chunk.offset).encode(), bytes(request.value)]


def _page_wanted(request: Request) -> list[bytes]:
    wanted = decode(PageRequest, request.value)
    most = min(max(wanted.entries_max, 1), catalog.PAGE_ENTRIES_MAX)
    return [wanted.after, str(most).encode(), b"x" if request.flags & protocol.WITH_VALUES else b""]


def _key_to_pop(request: Request) -> list[bytes]:
    return [request.key, b"x" if request.flags & protocol.WITHOUT_VALUE else b""]


def _keys(request: Request) -> list[bytes]:
    return decode(list[bytes], request.value)


_PUT, _PUT_MANY = Step("put", once=True), Step("put_many", once=True, convert=payloads.counted)
_GET = Step("get", lambda request: [request.key, b"x"], writes=False)
_STEPS = {
    protocol.CONTAINS: Step("get", lambda request: [request.key, b""], writes=False),
    protocol.GET_MANY: Step(
        "get_many", lambda request: _keys(request)[: protocol.UPDATE_ENTRIES_MAX], writes=False, convert=payloads.values_of
    ),
    protocol.POP: Step("pop", _key_to_pop, once=True),
    protocol.POP_ANY: Step("pop_any", once=True, convert=payloads.popped),
    protocol.POP_MANY: Step("pop_many", _keys, once=True, convert=payloads.values_of),
    protocol.PAGE: Step("page", _page_wanted, writes=False, convert=payloads.page_of),
    protocol.LENGTH: Step("length", writes=False, convert=payloads.counted),
    protocol.CLEAR: Step("clear", once=True),
    protocol.WRITE_CHUNK: Step("write_chunk", _chunk, of_blob=True),
    protocol.SEAL: Step("seal", lambda request: [str(reference_of(request.value).size).encode()], of_blob=True),
    protocol.DROP_BLOB: Step("drop_blob", lambda request: [chunk_of(request.key).id], of_blob=True),
    protocol.REGISTER: Step("register", _registered),
    protocol.DROP: Step("drop"),
    protocol.RENEW: Step("renew"),
    protocol.SET_TTL: Step("set_ttl", _lives),
}

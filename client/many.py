"""Many keys at once: while workers read one part of them, the client encodes the next one, and decodes what has come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import is_
from typing import TYPE_CHECKING, Any, Union

import msgspec

from holdall import protocol
from holdall.bodies import decode, encode
from holdall.client.ask import Ask, Flow, Operation
from holdall.client.exchange import place_of, settled
from holdall.client.operations import ABSENT, read_blob, taken_over
from holdall.client.serialization import decode_value, decode_values, keys_data
from holdall.slots import owners

if TYPE_CHECKING:
    from holdall.client.handle import Handle
    from holdall.protocol import Reply

KEYS_PER_MESSAGE = 250
"""About as many: a message costs as much as the reading of some 20 keys, and the first and the last are waited for."""


class _Group(msgspec.Struct, frozen=True):
    """Keys of one worker's part, and their encodings."""

    part: int
    keys: list[object]
    data: list[bytes]


class _Blob(msgspec.Struct, frozen=True):
    """A key whose value is a blob, its encoding, and the reference to it."""

    key: object
    data: bytes
    reference: bytes


def get_many(handle: Handle, keys: Iterable[object]) -> Operation[dict[Any, Any]]:
    asked = list(keys)
    many = _Many(handle, protocol.GET_MANY, "get many of", handle.id or (yield from handle.hydration()))
    yield from many.ask(_grouped(handle, asked))
    for each in many.blobs:
        value = yield from read_blob(handle, each.key, each.data, each.reference, ABSENT)
        if value is not ABSENT:
            many.found[each.key] = value
    return many.in_order_of(asked)


def pop_many(handle: Handle, keys: Iterable[object]) -> Operation[dict[Any, Any]]:
    asked = list(keys)
    many = _Many(handle, protocol.POP_MANY, "pop many of", handle.id or (yield from handle.hydration()))
    yield from many.ask(list(_grouped(handle, asked)))  # nothing is removed before all keys are known to be good
    for each in many.blobs:
        whole = yield from taken_over(place_of(handle, many.verb, each.key, each.data), each.reference)
        many.found[each.key] = decode_value(handle.label, each.key, whole)
    return many.in_order_of(asked)


class _Many:
    """What has been asked, and what has come: values that were found, and references to those that are still to be read."""

    def __init__(self, handle: Handle, opcode: int, verb: str, dict_id: bytes) -> None:
        self.verb = verb
        self.found: dict[Any, Any] = {}
        self.blobs: list[_Blob] = []
        self._handle = handle
        self._opcode = opcode
        self._dict_id = dict_id
        self._sent: list[tuple[_Group, Ask]] = []
        self._left: list[_Group] = []
        self._refused: list[tuple[_Group, Ask, Reply]] = []

    def ask(self, groups: Iterable[_Group]) -> Operation[None]:
        """Ask for these keys, until there is an answer for each."""
        while groups:
            self._left, self._sent, self._refused = [], [], []
            yield Flow(self._asks(groups), self._take)
            for group, ask, reply in self._refused:
                self._keep(group, (yield from settled(self._handle, ask, reply)))
            groups = self._left

    def in_order_of(self, keys: list[object]) -> dict[Any, Any]:
        """What was found, in this order, whichever worker answered first."""
        found = self.found
        if len(found) == len(keys) and all(map(is_, found, keys)):
            return found
        return {key: found[key] for key in keys if key in found}

    def _asks(self, groups: Iterable[_Group]) -> Iterator[Ask]:
        for group in groups:
            body = encode(group.data)
            ask = Ask(self._opcode, group.part, self.verb, self._handle.label, dict_id=self._dict_id, value=body)
            self._sent.append((group, ask))
            yield ask

    def _take(self, at: int, reply: Reply) -> None:
        group, ask = self._sent[at]
        if reply.status > protocol.EXISTS:
            self._refused.append((group, ask, reply))
        else:
            self._keep(group, reply)

    def _keep(self, group: _Group, reply: Reply) -> None:
        values = decode(list[Union[bytes, None]], reply.payload)
        for at in decode_values(self._handle.label, group.keys, values, self.found):
            self.blobs.append(_Blob(group.keys[at], group.data[at], values[at] or b""))
        if len(values) < len(group.keys):
            self._left.append(_Group(group.part, group.keys[len(values) :], group.data[len(values) :]))


def _grouped(handle: Handle, keys: list[object]) -> Iterator[_Group]:
    """The keys in groups, each for one worker, as they are needed."""
    roster, crc = handle.connected().roster, handle.crc
    parts, count = roster.part_of_slot(), len(roster.workers)
    for start in range(0, len(keys), KEYS_PER_MESSAGE * count):
        some = keys[start : start + KEYS_PER_MESSAGE * count]
        data = keys_data(handle.label, some)
        if count == 1:
            yield _Group(parts[0], some, data)
            continue
        of = owners(crc, data, parts)
        for part in sorted(set(of)):
            mine = [at for at, owner in enumerate(of) if owner == part]
            yield _Group(part, [some[at] for at in mine], [data[at] for at in mine])

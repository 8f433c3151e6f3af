"""The msgpack bodies of the messages that have one: batches, pages, the catalog, the roster.

Each is an array in the order of the fields below; it may grow at its end, and what its reader does not know there is ignored.
A `history_id` is room for what tells a restored directory from the one before, and empty so far. `decode` turns whatever is
wrong with a body into ProtocolError.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, NamedTuple, TypeVar, Union

import msgspec
from msgspec import Meta

from holdall.errors import ProtocolError
from holdall.protocol import Buffer
from holdall.slots import SLOTS, part_hash, slot_range

T = TypeVar("T")

NAME = r"^[A-Za-z0-9._-]{0,64}\Z"
"""What a Dict, or an environment, may be called; an ephemeral Dict has no name."""
Count: Any = Annotated[int, Meta(ge=0, lt=2**53)]
"""A number of entries: the sum of what all workers have is still one that `len` may return."""


class CatalogEntry(msgspec.Struct, array_like=True, frozen=True):
    """What the catalog knows of a Dict; times in seconds since 1970, UTC, `ttl` as in Lifetime, `seal` as in Registration."""

    environment: Annotated[str, Meta(pattern=NAME)]
    name: Annotated[str, Meta(pattern=NAME)]
    dict_id: Annotated[bytes, Meta(min_length=16, max_length=16)]
    created_at: Annotated[float, Meta(ge=0, lt=2**37)]  # there are datetimes until 2**37
    created_by: str
    ttl: Union[float, None] = None
    deleting: bool = False
    ttl_version: int = 0
    seal: bytes = b""


class Registration(msgspec.Struct, array_like=True, frozen=True):
    """What a worker is told of a Dict that it holds entries of; of an ephemeral one, with a lease, it is told all, and needs
    no `seal`. That of a Dict with a name comes from the catalog: see `holdall.worker.state.dicts`.
    """

    ttl: Union[float, None] = None
    lease_seconds: Union[float, None] = None
    environment: str = ""
    created_by: str = ""
    ttl_version: int = 0
    seal: bytes = b""


class Lifetime(msgspec.Struct, array_like=True, frozen=True):
    """A Dict's `ttl` in seconds, None: for ever; of two the one with the higher version counts; `seal` as in Registration."""

    ttl: Union[float, None]
    ttl_version: int
    seal: bytes = b""


class PageEntry(NamedTuple):
    """An entry as stored: the key object if the key alone does not give it back, the value if it was asked for."""

    key: bytes
    key_object: Union[bytes, None]
    value: Union[bytes, None]


class Update(msgspec.Struct, array_like=True, frozen=True):
    """Entries to be stored together, as a list of each kind of thing: to make a list takes less than to make its entries.

    Key objects, where the keys alone do not give them back; no list of them if all do.
    """

    keys: list[bytes]
    values: list[bytes]
    key_objects: list[Union[bytes, None]] = []


class Page(msgspec.Struct, array_like=True, frozen=True):
    """Some entries of a Dict in key order; those that follow come after the key `more`, none if it is empty."""

    entries: list[PageEntry]
    more: bytes = b""


class PageRequest(msgspec.Struct, array_like=True, frozen=True):
    """At most `entries_max` entries after the key `after` (from the first one when it is empty)."""

    after: bytes
    entries_max: int


class CatalogPage(msgspec.Struct, array_like=True, frozen=True):
    """Some rows of one worker's part of the catalog; `more` if others follow."""

    entries: list[CatalogEntry]
    more: bool


class CatalogPageRequest(msgspec.Struct, array_like=True, frozen=True):
    """Rows of the environment, after the catalog key `after`."""

    environment: str
    after: bytes
    entries_max: int


class RowsRequest(msgspec.Struct, array_like=True, frozen=True):
    """Rows of a snapshot after the row `after` (from the first one when it is empty); `crc` is that of the pages before."""

    after: bytes
    crc: int


class RowsPage(msgspec.Struct, array_like=True, frozen=True):
    """Some rows of a snapshot, in order: a msgpack array of [row, value], how many they are, the last row, whether others
    follow, and the CRC-32 of the `rows` of all pages so far, one after another. `blobs` are references to those that the rows
    own: a backup reads them too.
    """

    rows: bytes
    count: int
    last: bytes
    more: bool
    crc: int
    blobs: list[bytes] = []


class RosterWorker(msgspec.Struct, array_like=True, frozen=True):
    """One worker: it owns the slots from `first_slot` up to, but not including, `end_slot`."""

    index: int
    first_slot: int
    end_slot: int
    addresses: list[str]

    @property
    def hash(self) -> int:
        """The hash of requests that concern all of this worker's part: it leads there, and says which part is meant."""
        return part_hash(self.first_slot, self.end_slot)


class Roster(msgspec.Struct, array_like=True, frozen=True):
    """The workers of a service, in slot order. `layout_id` names the data directory they were made for."""

    layout_id: bytes
    workers: list[RosterWorker]
    history_id: bytes = b""

    def __post_init__(self) -> None:
        count = len(self.workers)
        parts = [(each.index, each.first_slot, each.end_slot) for each in self.workers]
        if not 1 <= count <= SLOTS or parts != [(index, *slot_range(index, count)) for index in range(count)]:
            raise ValueError("a roster in which not every slot has one worker")

    def part_of_slot(self) -> list[int]:
        """For each slot, the hash of the part it is in."""
        return _part_of_slot(len(self.workers))


@lru_cache(16)
def _part_of_slot(parts: int) -> list[int]:
    ranges = [slot_range(index, parts) for index in range(parts)]
    return [part_hash(first, end) for first, end in ranges for _ in range(first, end)]


class Identity(msgspec.Struct, array_like=True, frozen=True):
    """What a worker answers to a PROBE."""

    layout_id: bytes
    index: int
    history_id: bytes = b""


class Hello(msgspec.Struct, array_like=True, frozen=True):
    """A worker's registration, sent again and again as its sign of life.

    `instance` is random per process, `workers` the number of workers in the layout, `handled` counts requests so far.
    """

    layout_id: bytes
    instance: bytes
    workers: int
    worker: RosterWorker
    handled: int
    history_id: bytes = b""


_encoder = msgspec.msgpack.Encoder()
_decoders: dict[Any, msgspec.msgpack.Decoder[Any]] = {
    kind: msgspec.msgpack.Decoder(kind) for kind in (CatalogEntry, CatalogPage, Page, PageEntry, Roster)
}
"""Those of all that clients read are made here, before there are threads: while one thread makes the first decoder of a type,
msgspec lets others have that type half made, and reading with it is a segmentation fault.
"""


def encode(body: object) -> bytes:
    return _encoder.encode(body)


def decode(kind: type[T], body: Buffer) -> T:
    """The body of this kind in these bytes. Raises ProtocolError if they are anything else."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.msgpack.Decoder(kind)
    try:
        return decoder.decode(body)  # type: ignore[no-any-return]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"a body that should be {kind} is not: {error}") from None

"""Dicts copied from one service to another, whatever engine each is on: by pages, resumed where it stopped, and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from holdall import protocol
from holdall.blob import is_reference, reference_of
from holdall.bodies import CatalogEntry, PageEntry
from holdall.errors import AlreadyExistsError, NotFoundError, StorageError

from .dict import Dict
from .operations import catalog, raw

if TYPE_CHECKING:
    from .client import Client
    from .operations.pages import After

MARKS = "holdall-copies"
"""The environment, at the target, of the Dict that says how far a copy has come."""
TOGETHER_BYTES_MAX = 4 * 1024 * 1024


class Copied(msgspec.Struct):
    """How far a copy has come: the Dict at hand, and counts of all so far."""

    name: str = ""
    dicts: int = 0
    entries: int = 0
    bytes: int = 0
    checked: int = 0


def copy(source: Client, target: Client, environment: str, names: Iterable[str], show: Callable[[Copied], object]) -> Copied:
    """Copy the Dicts of an environment, or those of these names, with ids and times to live; `show` is told how far it is.

    Raises:
        NotFoundError: there is none of one of the names at the source.
        AlreadyExistsError: the target has another Dict of that name, with another id.
        StorageError: the target has something else in the end: the source was written to meanwhile. Copy again.
    """
    found = {each.name: each for each in source.run(catalog.list_entries(source, environment))}
    wanted = list(names) or list(found)
    missing = [name for name in wanted if name not in found]
    if missing:
        raise NotFoundError(f"there is no {catalog.described(environment, missing[0])} at {source.address}")
    done = Copied()
    for name in wanted:
        done.name = name
        for _ in _copied(found[name], source, target, done):
            show(done)
        done.dicts += 1
    show(done)
    return done


def _copied(entry: CatalogEntry, source: Client, target: Client, done: Copied) -> Iterator[None]:
    """Copy a Dict, and check it, page by page."""
    create = catalog.create(target, entry.environment, entry.name, entry.ttl, allow_existing=True, dict_id=entry.dict_id)
    made = target.run(create)
    if made.dict_id != entry.dict_id:
        what = catalog.described(entry.environment, entry.name)
        raise AlreadyExistsError(f"{target.address} has another {what}: delete it first, if it is not needed")
    here = Dict[Any, Any].of_entry(entry, source)
    there = Dict[Any, Any].of_entry(entry, target)
    marks = Dict[Any, Any].from_name("copies", environment_name=MARKS, create_if_missing=True, client=target)
    mark = f"{source.layout_id.hex()} {entry.dict_id.hex()}"
    after: After | None = marks.get(mark)
    while after is None or after:
        entries, after = source.run(raw.read(here, after))
        for some in _in_bounds(source, here, entries):
            target.run(raw.store(there, some))
            done.bytes += sum(len(value) for _key, _object, value in some)
        done.entries += len(entries)
        marks[mark] = after
        yield
    after = None
    while after is None or after:
        entries, after = source.run(raw.read(here, after))
        stored = target.run(raw.values_of(there, [each.key for each in entries]))
        for each in entries:
            if _said(each.value) != _said(stored[each.key]):
                del marks[mark]
                what = catalog.described(entry.environment, entry.name)
                raise StorageError(
                    f"{what} at {target.address} is not what is at {source.address}: it was written to; copy it again"
                )
        done.checked += len(entries)
        yield
    del marks[mark]


def _in_bounds(source: Client, here: Dict[Any, Any], entries: list[PageEntry]) -> Iterator[list[Any]]:
    """The entries with their whole values, so many together as memory is meant for."""
    some: list[Any] = []
    size = 0
    for each in entries:
        value = source.run(raw.fetch(here, each))
        if value is None:  # it was removed meanwhile
            continue
        some.append((each.key, each.key_object, value))
        size += len(value)
        if size > TOGETHER_BYTES_MAX or len(some) == protocol.UPDATE_ENTRIES_MAX:
            yield some
            some, size = [], 0
    if some:
        yield some


def _said(value: bytes | None) -> Any:
    """What a stored value says: of a large one its size and checksum."""
    if value is None or not is_reference(value):
        return value
    reference = reference_of(value)
    return reference.size, reference.crc

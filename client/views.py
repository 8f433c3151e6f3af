"""`d.keys()`, `d.values()`, `d.items()`: views that stream a Dict page by page, and their awaitable twins."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, ItemsView, Iterator, KeysView, ValuesView
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast, overload

from holdall.client.operations.pages import After, pages

from .twin import Bound

if TYPE_CHECKING:
    from .handle import Handle

K = TypeVar("K")
V = TypeVar("V")
Item = TypeVar("Item", covariant=True)
View = TypeVar("View")


def stream(handle: Handle, *, with_values: bool) -> Iterator[Any]:
    """Keys, or pairs of key and value. Each entry that is there all the while comes once."""
    after: After | None = None
    while after is None or after:
        items, after = handle.connected().run(pages(handle, after, with_values))
        yield from items


async def stream_awaiting(handle: Handle, *, with_values: bool) -> AsyncIterator[Any]:
    """The same, awaitable."""
    after: After | None = None
    while after is None or after:
        items, after = await handle.connected().run_awaiting(pages(handle, after, with_values))
        for item in items:
            yield item


class Keys(KeysView[K]):
    """The keys, as a view in no order: iterating it streams page by page. `async for key in d.keys.aio()` awaits.

    >>> d = Dict.from_name("kv", create_if_missing=True)
    >>> d["key"] = 1
    >>> list(d.keys())
    ['key']
    """

    _mapping: Any

    def __iter__(self) -> Iterator[K]:
        return stream(self._mapping, with_values=False)

    def __aiter__(self) -> AsyncIterator[K]:
        return stream_awaiting(self._mapping, with_values=False)


class Values(ValuesView[V]):
    """The values, as a view in no order: iterating it streams page by page. `async for value in d.values.aio()` awaits.

    >>> d = Dict.from_name("kv", create_if_missing=True)
    >>> d["key"] = 1
    >>> list(d.values())
    [1]
    """

    _mapping: Any

    def __iter__(self) -> Iterator[V]:
        return (value for _key, value in stream(self._mapping, with_values=True))

    def __aiter__(self) -> AsyncIterator[V]:
        return (value async for _key, value in stream_awaiting(self._mapping, with_values=True))

    def __contains__(self, value: object) -> bool:
        return any(each is value or each == value for each in self)


class Items(ItemsView[K, V]):
    """The pairs of key and value, as a view in no order: iterating it streams page by page.
    `async for key, value in d.items.aio()` awaits.

    >>> d = Dict.from_name("kv", create_if_missing=True)
    >>> d["key"] = 1
    >>> list(d.items())
    [('key', 1)]
    """

    _mapping: Any

    def __iter__(self) -> Iterator[tuple[K, V]]:
        return stream(self._mapping, with_values=True)

    def __aiter__(self) -> AsyncIterator[tuple[K, V]]:
        return stream_awaiting(self._mapping, with_values=True)

    def __contains__(self, item: object) -> bool:
        pair: Any = item
        return isinstance(pair, tuple) and len(pair) == 2 and super().__contains__(pair)  # pyright: ignore[reportUnknownArgumentType]


class BoundViewTwin(Bound, Generic[View, Item]):
    """A view of one Dict: call it for the view, iterate over its `aio()` with `async for`."""

    __slots__ = ()

    def __call__(self) -> View:
        return cast(View, self._written(self._owner))

    def aio(self) -> AsyncIterator[Item]:
        """The same, to iterate over with `async for`."""
        return cast("AsyncIterator[Item]", self._written(self._owner).__aiter__())


class ViewTwin(Generic[View, Item]):
    """The method that gives a view, in both ways."""

    def __init__(self, view: type[Any]) -> None:
        def written(self: Handle) -> View:
            return cast(View, view(self))

        name = view.__name__.lower()
        written.__name__, written.__qualname__, written.__doc__ = name, f"Dict.{name}", view.__doc__
        written.__annotations__["return"] = view.__name__
        self._written = written
        functools.update_wrapper(self, written)

    def __call__(self, handle: Handle) -> View:
        return self._written(handle)

    @overload
    def __get__(self, handle: None, kind: type) -> Self: ...
    @overload
    def __get__(self, handle: Handle, kind: type) -> BoundViewTwin[View, Item]: ...
    def __get__(self, handle: Handle | None, kind: type) -> Self | BoundViewTwin[View, Item]:
        return self if handle is None else BoundViewTwin(handle, self._written)

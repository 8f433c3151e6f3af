"""The forms of a dict that are written with operators. All of them block; the methods of `Dict` have awaitable twins."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, TypeVar

from holdall.client import operations, update
from holdall.client.handle import Handle
from holdall.client.pairs import pairs_of
from holdall.client.serialization import key_data
from holdall.client.views import stream, stream_awaiting

if TYPE_CHECKING:
    from typing_extensions import Self

K = TypeVar("K")
V = TypeVar("V")

_MISSING: Any = object()


class Operators(Handle, MutableMapping[K, V]):
    """Brackets, `in`, `del`, `len`, iteration, `==` and `|`."""

    def __getitem__(self, key: K) -> V:
        value: V = self.connected().run(operations.get(self, key, key_data(self.label, key), _MISSING))
        if value is _MISSING:
            raise KeyError(key)
        return value

    def __setitem__(self, key: K, value: V) -> None:
        self.connected().run(operations.put(self, key, value, False))

    def __delitem__(self, key: K) -> None:
        if not self.connected().run(operations.remove(self, key)):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return self.connected().run(operations.contains(self, key))

    def __len__(self) -> int:
        return self.connected().run(operations.length(self))

    def __iter__(self) -> Iterator[K]:
        return stream(self, with_values=False)

    def __aiter__(self) -> AsyncIterator[K]:
        return stream_awaiting(self, with_values=False)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Handle):
            return self._same(other)
        return self._copied() == _plain(other) if isinstance(other, Mapping) else NotImplemented

    __hash__ = Handle.__hash__

    def __or__(self, other: Any) -> dict[Any, Any]:
        return self._copied() | _plain(other) if isinstance(other, Mapping) else NotImplemented

    def __ror__(self, other: Any) -> dict[Any, Any]:
        return _plain(other) | self._copied() if isinstance(other, Mapping) else NotImplemented

    def _copied(self) -> dict[Any, Any]:
        return self.connected().run(operations.copy(self))

    def __ior__(  # type: ignore[misc]
        self, other: Mapping[K, V] | Iterable[tuple[K, V]]
    ) -> Self:
        self.connected().run(update.put_many(self, pairs_of(other, {}), False))
        return self


def _plain(mapping: Any) -> dict[Any, Any]:
    return dict(mapping.items())

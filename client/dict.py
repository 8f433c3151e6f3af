"""The Dict: what users hold in their hands."""

from __future__ import annotations

from collections.abc import AsyncIterator, ItemsView, Iterable, Iterator, KeysView, Mapping, MutableMapping, ValuesView
from typing import TYPE_CHECKING, Any, ClassVar, Self, Union

from holdall import keys, settings
from holdall.client.connection.query import Operation
from holdall.client.operations import entries, many
from holdall.client.operations.catalog import DictInfo
from holdall.client.operations.encoding import key_data
from holdall.client.operations.large import Progress
from holdall.client.operations.pages import copy, has_any

from .ephemeral import Ephemeral
from .handle import Handle, default_client
from .objects import DictObjects
from .twin import GetTwin, HasKeys, PopTwin, Twin
from .views import Items, Keys, Values, ViewTwin, stream, stream_awaiting

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # type checkers have it; nothing is installed for it

    from .client import Client

    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)
else:
    from typing import TypeVar

    K = TypeVar("K")
    V = TypeVar("V")

_MISSING: Any = object()
_NONE: Any = None


class Dict(Handle, MutableMapping[K, V]):
    """A dict that every process can reach.

    Made with `Dict.from_name`, `Dict.from_id` or `Dict.ephemeral`. Keys are any hashable objects and values any that
    cloudpickle can pickle; changing a value in place changes nothing here until it is put back. Every method that talks to
    the service has an awaitable twin `.aio`.
    A handle may be used by any number of threads, event loops and forked children at once, and may be pickled.

    Reading a Dict can run what a writer pickled, but with a `serializer` that takes no pickles (see `from_name`), or with
    HOLDALL_PICKLE=off: share a service only with those you would let run code.

    Any call can raise NotFoundError (the Dict is missing, or was deleted), ConnectionError (no service answers) and
    TimeoutError (no answer in the client's `timeout`); any that takes a key TypeError (it is unhashable) and
    SerializationError (it cannot be pickled).

    >>> d = Dict.from_name("kv", create_if_missing=True)
    >>> d["key"] = "value"
    >>> d["key"]
    'value'
    """

    objects: ClassVar[DictObjects[Dict[Any, Any]]]
    """Make, list and delete Dicts."""

    def __init__(self, *_arguments: Any, **_more: Any) -> None:
        raise TypeError("a Dict has a place in a service: use Dict.from_name(name, create_if_missing=True)")

    @classmethod
    def ephemeral(
        cls, *, client: Client | None = None, environment_name: str | None = None, serializer: settings.Serializer = "auto"
    ) -> Ephemeral[Dict[K, V]]:
        """An anonymous Dict for a `with` or `async with` block: gone when it ends, and by itself soon after its process dies.

        The handle may be passed to other processes; what they do with it after the end of the block gets NotFoundError.

        Args:
            client: through which service; `Client.from_env()` by default.
            environment_name: in which environment; HOLDALL_ENVIRONMENT, or else "main".
            serializer: as with `from_name`.

        >>> with Dict.ephemeral() as d:
        ...     d["key"] = "value"
        ...     len(d)
        1
        """
        settings.check_serializer(serializer)
        return Ephemeral(client or default_client(), settings.environment(environment_name), cls, serializer)

    @Twin
    def hydrate(self, *, client: Client | None = None) -> Operation[Dict[K, V]]:
        """Look the Dict up now (and make it, with `create_if_missing`) instead of at its first use. Returns the handle.

        Args:
            client: use this one from now on.

        Raises:
            NotFoundError: there is no such Dict.

        >>> Dict.from_name("kv", create_if_missing=True).hydrate().name
        'kv'
        """
        yield from self._hydrated()
        return self

    @Twin
    def info(self) -> Operation[DictInfo]:
        """Name, time and maker of the Dict, and how long its entries live.

        >>> info = Dict.from_name("kv", create_if_missing=True, ttl=60).info()
        >>> info.name, info.ttl
        ('kv', 60.0)
        """
        return entries.info(self)

    @Twin
    def set_ttl(self, ttl: float | None) -> Operation[None]:
        """Have entries live for another time after their last use, those that are there too. What has expired stays so.

        An entry is used by being written, by its value being read (`get`, `get_many`, `values`, `items`, `copy`), and by being
        asked for: `contains`, a `put` that finds it. Listing keys and counting are no use. An entry lives for its `ttl` and at
        most a hundredth of it longer.

        Args:
            ttl: how many seconds an entry lives that nobody uses; None for ever.

        Raises:
            InvalidError: no such ttl is possible.
            TimeoutError: some worker did not answer, and may still have the old one: repeat the call.

        >>> d = Dict.from_name("kv", create_if_missing=True)
        >>> d.set_ttl(None)
        >>> d.info().ttl is None
        True
        """
        settings.check_ttl(ttl)
        return entries.set_ttl(self, ttl)

    @GetTwin
    def get(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, key: K, default: V | None = None, *, progress: Progress | None = None
    ) -> Operation[Union[V, None]]:
        """The value of a key, or `default` if the key is missing, as `dict.get`.

        Args:
            key: which.
            default: what to return if it is missing.
            progress: called with the bytes that have come and with all there are, now and then while a value of more than
                256 KiB comes. What it raises ends the call.

        Raises:
            DeserializationError: the value cannot be read in this process.

        >>> d = Dict.from_name("kv", create_if_missing=True)
        >>> d.get("missing"), d.get("missing", 0)
        (None, 0)
        """
        return entries.get(self, key, key_data(self, key), default, progress)

    @Twin
    def put(self, key: K, value: V, *, skip_if_exists: bool = False, progress: Progress | None = None) -> Operation[bool]:
        """Store a value. Returns whether it was stored.

        Args:
            key: under which key.
            value: of more than 5 MiB as encoded, it gives a `LargeValueWarning`, once per process. The memory of numpy
                arrays is sent as it is: do not change it before the call has ended.
            skip_if_exists: store it only if the key is missing: of any number of callers at once exactly one gets True.
            progress: called with the bytes that have been sent and with all there are, now and then while a value of more
                than 256 KiB is sent. What it raises ends the call, and nothing is stored.

        Raises:
            SerializationError: the value cannot be pickled, or the serializer takes no pickles; nothing was sent.
            RequestSizeError: key and value have more than 100 MiB as encoded; nothing was stored.

        >>> d = Dict.from_name("kv", create_if_missing=True)
        >>> d.put("key", 1), d.put("key", 2, skip_if_exists=True), d["key"]
        (True, False, 1)
        """
        return entries.put(self, key, value, skip_if_exists, progress)

    @PopTwin
    def pop(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, key: K, default: V = _MISSING
    ) -> Operation[V]:
        """Remove a key and return its value, as `dict.pop`; of any number of callers at once exactly one gets it.

        Raises:
            KeyError: the key is missing and there is no default.
            DeserializationError: the value cannot be read in this process; it is put back.

        >>> d = Dict.from_name("kv", create_if_missing=True)
        >>> d["key"] = 1
        >>> d.pop("key"), d.pop("key", None)
        (1, None)
        """
        value: V = yield from entries.pop(self, key, default)
        if value is _MISSING:
            raise KeyError(key)
        return value

    @Twin
    def popitem(self) -> Operation[tuple[K, V]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Remove some entry and return it, as `dict.popitem`, but in no order; of any number of callers exactly one gets it.

        Raises:
            KeyError: the Dict is empty.
            DeserializationError: the entry cannot be read in this process; it is put back.

        >>> d = Dict.from_name("kv", create_if_missing=True)
        >>> d["key"] = 1
        >>> d.popitem()
        ('key', 1)
        """
        return entries.pop_any(self)

    @Twin
    def setdefault(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, key: K, default: V = _NONE
    ) -> Operation[V]:
        """The value of a key, which is stored first if the key is missing, as `dict.setdefault`, and atomic.

        Raises:
            SerializationError: the default cannot be pickled; nothing was sent.
            RequestSizeError: key and default have more than 100 MiB as encoded; nothing was stored.
            DeserializationError: the value there is cannot be read in this process.

        >>> d = Dict.from_name("kv", create_if_missing=True)
        >>> d.setdefault("key", 1), d.setdefault("key", 2)
        (1, 1)
        """
        return entries.set_default(self, key, default)

    @Twin
    def get_many(self, keys: Iterable[K]) -> Operation[dict[K, V]]:
        """The values of many keys: those that are there, in the order of `keys`. While workers read some, others are decoded.

        Raises:
            DeserializationError: a value cannot be read in this process.

        >>> d = Dict.from_name("kv", create_if_missing=True)
        >>> d["a"] = 1
        >>> d.get_many(["a", "b"])
        {'a': 1}
        """
        return many.get_many(self, keys)

    @Twin
    def pop_many(self, keys: Iterable[K]) -> Operation[dict[K, V]]:
        """Remove many keys and return the values of those that were there, in the order of `keys`. Each value goes to exactly
        one caller.

        Raises:
            DeserializationError: a value cannot be read in this process; all are put back, as far as there is room.
            TimeoutError: some worker did not answer; what others have removed is lost with the call.

        >>> d = Dict.from_name("kv", create_if_missing=True)
        >>> d["a"] = 1
        >>> d.pop_many(["a", "b"]), len(d)
        ({'a': 1}, 0)
        """
        return many.pop_many(self, keys)

    @Twin
    def put_many(
        self, items: Mapping[K, V] | HasKeys[K, V] | Iterable[tuple[K, V]], *, skip_if_exists: bool = False
    ) -> Operation[int]:
        """Store many entries, as `update` does; with `skip_if_exists` only those whose keys are missing. Returns how many.

        Raises what `update` raises.

        >>> d = Dict.from_name("kv", create_if_missing=True)
        >>> d.put_many({"a": 1, "b": 2}), d.put_many({"b": 3, "c": 4}, skip_if_exists=True)
        (2, 1)
        """
        return many.put_many(self, many.pairs_of(items, {}), skip_if_exists)

    @Twin
    def copy(self) -> Operation[dict[K, V]]:
        """All items in a plain dict, as `dict.copy`.

        >>> d = Dict.from_name("kv", create_if_missing=True)
        >>> d["a"] = 1
        >>> d.copy()
        {'a': 1}
        """
        return copy(self)

    @Twin
    def contains(self, key: K) -> Operation[bool]:
        """Whether the key is there, as `key in d`.

        >>> d = Dict.from_name("kv", create_if_missing=True)
        >>> d.contains("missing")
        False
        """
        return entries.contains(self, key)

    @Twin
    def len(self) -> Operation[int]:
        """The number of entries, as `len(d)`: exact, and cheap at any size. What has expired counts until it is swept: soon.

        >>> d = Dict.from_name("kv", create_if_missing=True)
        >>> d.len()
        0
        """
        return entries.length(self)

    @Twin
    def clear(self) -> Operation[None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Remove all entries, in constant time.

        >>> d = Dict.from_name("kv", create_if_missing=True)
        >>> d.clear()
        """
        return entries.clear(self)

    @Twin
    def update(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, other: Mapping[K, V] | HasKeys[K, V] | Iterable[tuple[K, V]] = (), /, **kwargs: V
    ) -> Operation[None]:
        """Store many entries, as `dict.update`: from a mapping, an object with `keys()`, or pairs; and from keywords.

        At most 10,000 entries. If the iterator raises, what it gave before is stored, as with `dict`. Atomic at each worker (up
        to 16 MiB), not across workers: a reader may for a moment see some entries and not others.

        Raises:
            SerializationError: a value cannot be pickled; nothing was sent.
            RequestSizeError: too many entries, or one of more than 100 MiB; nothing was stored.

        >>> d = Dict.from_name("kv", create_if_missing=True)
        >>> d.update({"a": 1}, b=2)
        >>> sorted(d.items())
        [('a', 1), ('b', 2)]
        """
        yield from many.put_many(self, many.pairs_of(other, kwargs), False)

    keys: ViewTwin[KeysView[K], K] = ViewTwin(Keys)  # pyright: ignore[reportIncompatibleMethodOverride]
    values: ViewTwin[ValuesView[V], V] = ViewTwin(Values)  # pyright: ignore[reportIncompatibleMethodOverride]
    items: ViewTwin[ItemsView[K, V], tuple[K, V]] = ViewTwin(Items)  # pyright: ignore[reportIncompatibleMethodOverride]

    def __getitem__(self, key: K) -> V:
        value: V = self.connected().run(entries.get(self, key, key_data(self, key), _MISSING))
        if value is _MISSING:
            raise KeyError(key)
        return value

    def __setitem__(self, key: K, value: V) -> None:
        self.connected().run(entries.put(self, key, value, False))

    def __delitem__(self, key: K) -> None:
        if not self.connected().run(entries.remove(self, key)):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return self.connected().run(entries.contains(self, key))

    def __len__(self) -> int:
        return self.connected().run(entries.length(self))

    def __bool__(self) -> bool:
        return self.connected().run(has_any(self))

    def __iter__(self) -> Iterator[K]:
        return stream(self, with_values=False)

    def __aiter__(self) -> AsyncIterator[K]:
        return stream_awaiting(self, with_values=False)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Handle):
            return self._same(other)
        return self.copy() == _plain(other) if isinstance(other, Mapping) else NotImplemented

    __hash__ = Handle.__hash__

    def __or__(self, other: Any) -> dict[Any, Any]:
        return self.copy() | _plain(other) if isinstance(other, Mapping) else NotImplemented

    def __ror__(self, other: Any) -> dict[Any, Any]:
        return _plain(other) | self.copy() if isinstance(other, Mapping) else NotImplemented

    def __ior__(  # type: ignore[misc]
        self, other: Mapping[K, V] | Iterable[tuple[K, V]]
    ) -> Self:
        self.update(other)
        return self


def _plain(mapping: Any) -> dict[Any, Any]:
    return dict(mapping.items())


Dict.objects = DictObjects(Dict)


def _encode_handle(handle: Dict[Any, Any], _dump: keys.Dump) -> keys.EncodedKey:
    return keys.EncodedKey(b"D" + bytes.fromhex(handle.object_id[3:]), False)


keys.add_type(Dict, _encode_handle)

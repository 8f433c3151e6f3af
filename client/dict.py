"""The Dict: what users hold in their hands."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, KeysView, Mapping, ValuesView
from typing import TYPE_CHECKING, Any, Union

from holdall import keys, protocol, settings
from holdall.client import many, operations, update
from holdall.client.ask import Operation
from holdall.client.default import default_client
from holdall.client.ephemeral import Ephemeral
from holdall.client.info import DictInfo
from holdall.client.objects import DictObjects
from holdall.client.operators import Operators
from holdall.client.pairs import pairs_of
from holdall.client.serialization import key_data
from holdall.client.signatures import GetTwin, HasKeys, PopTwin
from holdall.client.transfer import Progress
from holdall.client.twin import twin
from holdall.client.views import Items, Keys, Values, ViewTwin

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # type checkers have them; nothing is installed for it

    from holdall.client.client import Client

    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)
else:
    from typing import TypeVar

    K = TypeVar("K")
    V = TypeVar("V")

_MISSING: Any = object()
_NONE: Any = None


class Dict(Operators[K, V]):
    """A dict that every process can reach.

    Made with `Dict.from_name`, `Dict.from_id` or `Dict.ephemeral`. Keys are any hashable objects and values any that
    cloudpickle can pickle; changing a value in place changes nothing here until it is put back. Every method that talks to
    the service has an awaitable twin `.aio`.
    A handle may be used by any number of threads, event loops and forked children at once, and may be pickled.

    Reading a Dict can run what a writer pickled: share a service only with those you would let run code.

    Any call can raise NotFoundError (the Dict is missing, or was deleted), ConnectionError (no service answers) and
    TimeoutError (no answer in the client's `timeout`); any that takes a key TypeError (it is unhashable) and
    SerializationError (it cannot be pickled).

    >>> d = Dict.from_name("kv", create_if_missing=True)
    >>> d["key"] = "value"
    >>> d["key"]
    'value'
    """

    objects = DictObjects()
    """Make, list and delete Dicts."""

    def __init__(self) -> None:
        raise TypeError("a Dict has a place in a service: use Dict.from_name(name, create_if_missing=True)")

    @classmethod
    def from_name(
        cls,
        name: str,
        *,
        environment_name: str | None = None,
        create_if_missing: bool = False,
        client: Client | None = None,
        ttl: float | None = protocol.TTL_SECONDS,
    ) -> Dict[K, V]:
        """The Dict of this name. Nothing is sent before it is first used.

        Args:
            name: 1 to 64 characters: letters, digits, `-`, `_`, `.`.
            environment_name: in which environment; HOLDALL_ENVIRONMENT, or else "main".
            create_if_missing: make it at its first use if there is none; otherwise that use raises NotFoundError.
            client: through which service; `Client.from_env()` by default.
            ttl: how many seconds an entry lives that nobody reads or writes; None for ever, 7 days by default. It counts only
                when this makes the Dict; see `set_ttl` for one that is there.

        Raises:
            InvalidError: no such name, or ttl, is possible.

        >>> d = Dict.from_name("kv", create_if_missing=True)
        >>> d.name
        'kv'
        """
        settings.check_name(name)
        settings.check_ttl(ttl)
        return cls._make(name, settings.environment(environment_name), create_if_missing, ttl, client=client)

    @classmethod
    def from_id(cls, dict_id: str, client: Client | None = None) -> Dict[K, V]:
        """The Dict of this id (see `object_id`). Nothing is sent before it is first used.

        Args:
            dict_id: `di-` and 32 hexadecimal digits.
            client: through which service; `Client.from_env()` by default.

        Raises:
            InvalidError: no such id is possible.

        >>> d = Dict.from_name("kv", create_if_missing=True)
        >>> Dict.from_id(d.object_id).name
        'kv'
        """
        return cls.of_object_id(dict_id, client)

    @classmethod
    def ephemeral(cls, *, client: Client | None = None, environment_name: str | None = None) -> Ephemeral[K, V]:
        """An anonymous Dict for a `with` or `async with` block: gone when it ends, and by itself soon after its process dies.

        The handle may be passed to other processes; what they do with it after the end of the block gets NotFoundError.

        Args:
            client: through which service; `Client.from_env()` by default.
            environment_name: in which environment; HOLDALL_ENVIRONMENT, or else "main".

        >>> with Dict.ephemeral() as d:
        ...     d["key"] = "value"
        ...     len(d)
        1
        """
        return Ephemeral(client or default_client(), settings.environment(environment_name), cls)

    @twin
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

    @twin
    def info(self) -> Operation[DictInfo]:
        """Name, time and maker of the Dict, and how long its entries live.

        >>> info = Dict.from_name("kv", create_if_missing=True, ttl=60).info()
        >>> info.name, info.ttl
        ('kv', 60.0)
        """
        return operations.info(self)

    @twin
    def set_ttl(self, ttl: float | None) -> Operation[None]:
        """Have entries live for another time after their last use, those that are there too. What has expired stays so.

        Entries are used by being written, or asked for by their key: `get`, `contains`, `setdefault`, a `put` that finds them.
        Iterating and counting are no use. An entry lives for its `ttl` and at most a hundredth of it longer.

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
        return operations.set_ttl(self, ttl)

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
        return operations.get(self, key, key_data(self.label, key), default, progress)

    @twin
    def put(self, key: K, value: V, *, skip_if_exists: bool = False, progress: Progress | None = None) -> Operation[bool]:
        """Store a value. Returns whether it was stored.

        Args:
            key: under which key.
            value: of more than 5 MiB as pickled, it gives a `LargeValueWarning`, once per process. The memory of numpy
                arrays is sent as it is: do not change it before the call has ended.
            skip_if_exists: store it only if the key is missing: of any number of callers at once exactly one gets True.
            progress: called with the bytes that have been sent and with all there are, now and then while a value of more
                than 256 KiB is sent. What it raises ends the call, and nothing is stored.

        Raises:
            SerializationError: the value cannot be pickled; nothing was sent.
            RequestSizeError: key and value have more than 100 MiB as pickled; nothing was stored.

        >>> d = Dict.from_name("kv", create_if_missing=True)
        >>> d.put("key", 1), d.put("key", 2, skip_if_exists=True), d["key"]
        (True, False, 1)
        """
        return operations.put(self, key, value, skip_if_exists, progress)

    @PopTwin
    def pop(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, key: K, default: V = _MISSING
    ) -> Operation[V]:
        """Remove a key and return its value, as `dict.pop`; of any number of callers at once exactly one gets it.

        Raises:
            KeyError: the key is missing and there is no default.
            DeserializationError: the value cannot be read in this process; it is removed all the same.

        >>> d = Dict.from_name("kv", create_if_missing=True)
        >>> d["key"] = 1
        >>> d.pop("key"), d.pop("key", None)
        (1, None)
        """
        value: V = yield from operations.pop(self, key, default)
        if value is _MISSING:
            raise KeyError(key)
        return value

    @twin
    def popitem(self) -> Operation[tuple[K, V]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Remove some entry and return it, as `dict.popitem`, but in no order; of any number of callers exactly one gets it.

        Raises:
            KeyError: the Dict is empty.
            DeserializationError: the entry cannot be read in this process; it is removed all the same.

        >>> d = Dict.from_name("kv", create_if_missing=True)
        >>> d["key"] = 1
        >>> d.popitem()
        ('key', 1)
        """
        return operations.pop_any(self)

    @twin
    def setdefault(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, key: K, default: V = _NONE
    ) -> Operation[V]:
        """The value of a key, which is stored first if the key is missing, as `dict.setdefault`, and atomic.

        Raises:
            SerializationError: the default cannot be pickled; nothing was sent.
            RequestSizeError: key and default have more than 100 MiB as pickled; nothing was stored.
            DeserializationError: the value there is cannot be read in this process.

        >>> d = Dict.from_name("kv", create_if_missing=True)
        >>> d.setdefault("key", 1), d.setdefault("key", 2)
        (1, 1)
        """
        return operations.set_default(self, key, default)

    @twin
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

    @twin
    def pop_many(self, keys: Iterable[K]) -> Operation[dict[K, V]]:
        """Remove many keys and return the values of those that were there, in the order of `keys`. Each value goes to exactly
        one caller.

        Raises:
            DeserializationError: a value cannot be read in this process; it and those that were asked for along with it, some
                hundreds to thousands of keys, are removed all the same.
            TimeoutError: some worker did not answer; what others have removed is lost with the call.

        >>> d = Dict.from_name("kv", create_if_missing=True)
        >>> d["a"] = 1
        >>> d.pop_many(["a", "b"]), len(d)
        ({'a': 1}, 0)
        """
        return many.pop_many(self, keys)

    @twin
    def put_many(
        self, items: Mapping[K, V] | HasKeys[K, V] | Iterable[tuple[K, V]], *, skip_if_exists: bool = False
    ) -> Operation[int]:
        """Store many entries, as `update` does; with `skip_if_exists` only those whose keys are missing. Returns how many.

        Raises what `update` raises.

        >>> d = Dict.from_name("kv", create_if_missing=True)
        >>> d.put_many({"a": 1, "b": 2}), d.put_many({"b": 3, "c": 4}, skip_if_exists=True)
        (2, 1)
        """
        return update.put_many(self, pairs_of(items, {}), skip_if_exists)

    @twin
    def copy(self) -> Operation[dict[K, V]]:
        """All items in a plain dict, as `dict.copy`.

        >>> d = Dict.from_name("kv", create_if_missing=True)
        >>> d["a"] = 1
        >>> d.copy()
        {'a': 1}
        """
        return operations.copy(self)

    @twin
    def contains(self, key: K) -> Operation[bool]:
        """Whether the key is there, as `key in d`.

        >>> Dict.from_name("kv", create_if_missing=True).contains("missing")
        False
        """
        return operations.contains(self, key)

    @twin
    def len(self) -> Operation[int]:
        """The number of entries, as `len(d)`: exact, and cheap at any size. What has expired counts until it is swept: soon.

        >>> Dict.from_name("kv", create_if_missing=True).len()
        0
        """
        return operations.length(self)

    @twin
    def clear(self) -> Operation[None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Remove all entries, in constant time.

        >>> Dict.from_name("kv", create_if_missing=True).clear()
        """
        return operations.clear(self)

    @twin
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
        yield from update.put_many(self, pairs_of(other, kwargs), False)

    keys: ViewTwin[KeysView[K], K] = ViewTwin(  # pyright: ignore[reportIncompatibleMethodOverride]
        Keys,
        """The keys, as a view in no order: iterating it streams page by page. `async for key in d.keys.aio()` awaits.

        >>> d = Dict.from_name("kv", create_if_missing=True)
        >>> d["key"] = 1
        >>> list(d.keys())
        ['key']
        """,
    )
    values: ViewTwin[ValuesView[V], V] = ViewTwin(  # pyright: ignore[reportIncompatibleMethodOverride]
        Values,
        """The values, as a view in no order: iterating it streams page by page. `async for value in d.values.aio()` awaits.

        >>> d = Dict.from_name("kv", create_if_missing=True)
        >>> d["key"] = 1
        >>> list(d.values())
        [1]
        """,
    )
    items: ViewTwin[ItemsView[K, V], tuple[K, V]] = ViewTwin(  # pyright: ignore[reportIncompatibleMethodOverride]
        Items,
        """The pairs of key and value, as a view in no order: iterating it streams page by page.
        `async for key, value in d.items.aio()` awaits.

        >>> d = Dict.from_name("kv", create_if_missing=True)
        >>> d["key"] = 1
        >>> list(d.items())
        [('key', 1)]
        """,
    )


def _encode_handle(handle: Dict[Any, Any]) -> keys.EncodedKey:
    return keys.EncodedKey(b"D" + bytes.fromhex(handle.object_id[3:]), False)


keys.add_type(Dict, _encode_handle)

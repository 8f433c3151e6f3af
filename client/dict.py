"""The Dict: what users hold in their hands."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, MutableMapping, ValuesView
from typing import TYPE_CHECKING, Any, Union
from zlib import crc32

from holdall import settings
from holdall.client import catalog, operations
from holdall.client.ask import Operation
from holdall.client.client import Client
from holdall.client.objects import DictObjects
from holdall.client.signatures import GetTwin, HasKeys, PopTwin
from holdall.client.twin import twin
from holdall.client.views import Items, Keys, Values, ViewTwin, stream
from holdall.errors import NotFoundError

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # type checkers have it; nothing is installed for it

    from holdall.bodies import CatalogEntry

    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)
else:
    from typing import TypeVar

    K = TypeVar("K")
    V = TypeVar("V")

_MISSING: Any = object()


class Dict(MutableMapping[K, V]):
    """A dict that every process can reach.

    Made with `Dict.from_name`. Keys are any hashable objects and values any that cloudpickle can pickle; changing a value in
    place changes nothing here until it is put back. Every method that talks to the service has an awaitable twin `.aio`.
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
    ) -> Dict[K, V]:
        """The Dict of this name. Nothing is sent before it is first used.

        Args:
            name: 1 to 64 characters: letters, digits, `-`, `_`, `.`.
            environment_name: in which environment; HOLDALL_ENVIRONMENT, or else "main".
            create_if_missing: make it at its first use if there is none; otherwise that use raises NotFoundError.
            client: through which service; `Client.from_env()` by default.

        Raises:
            InvalidError: no such name is possible.

        >>> d = Dict.from_name("kv", create_if_missing=True)
        >>> d.name
        'kv'
        """
        settings.check_name(name)
        return cls._make(name, settings.environment(environment_name), create_if_missing, client)

    @classmethod
    def of_entry(cls, entry: CatalogEntry, client: Client | None) -> Dict[K, V]:
        """The Dict that a catalog entry names."""
        handle = cls._make(entry.name, entry.environment, False, client)
        handle._found(entry)
        return handle

    @classmethod
    def travelled(cls, name: str, environment: str, create_if_missing: bool, url: str | None) -> Dict[K, V]:
        """A handle that was pickled: a service configured here wins over the address that came with it."""
        handle = cls._make(name, environment, create_if_missing, None)
        handle._url = url
        return handle

    @classmethod
    def _make(cls, name: str, environment: str, create_if_missing: bool, client: Client | None) -> Dict[K, V]:
        handle: Dict[K, V] = object.__new__(cls)
        handle._name = name
        handle._environment = environment
        handle._create_if_missing = create_if_missing
        handle._client = client
        handle._url = None
        handle.label = catalog.described(environment, name)
        handle.id = None
        return handle

    @property
    def name(self) -> str:
        """The name it was made with."""
        return self._name

    @property
    def environment(self) -> str:
        """The environment its name is in."""
        return self._environment

    @property
    def object_id(self) -> str:
        """Its id, `di-` and 32 hexadecimal digits: another one if the Dict is deleted and made again. Looked up if need be."""
        if self.id is None:
            self.hydrate()
        assert self.id is not None
        return f"di-{self.id.hex()}"

    @twin
    def hydrate(self, client: Client | None = None) -> Operation[Dict[K, V]]:
        """Look the Dict up now (and make it, with `create_if_missing`) instead of at its first use. Returns the handle.

        Args:
            client: use this one from now on.

        Raises:
            NotFoundError: there is none of this name.

        >>> Dict.from_name("kv", create_if_missing=True).hydrate().name
        'kv'
        """
        if client is not None:
            self._client, self.id = client, None
        return self._hydrated()

    @GetTwin
    def get(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, key: K, default: V | None = None
    ) -> Operation[Union[V, None]]:
        """The value of a key, or `default` if the key is missing, as `dict.get`.

        Raises:
            DeserializationError: the value cannot be read in this process.

        >>> d = Dict.from_name("kv", create_if_missing=True)
        >>> d.get("missing"), d.get("missing", 0)
        (None, 0)
        """
        return operations.get(self, key, default)

    @twin
    def put(self, key: K, value: V, *, skip_if_exists: bool = False) -> Operation[bool]:
        """Store a value. Returns whether it was stored.

        With `skip_if_exists` it is stored only if the key is missing: of any number of callers at once exactly one gets True.

        Raises:
            SerializationError: the value cannot be pickled; nothing was sent.
            RequestSizeError: key and value have more than 100 MiB as pickled; nothing was stored.

        >>> d = Dict.from_name("kv", create_if_missing=True)
        >>> d.put("key", 1), d.put("key", 2, skip_if_exists=True), d["key"]
        (True, False, 1)
        """
        return operations.put(self, key, value, skip_if_exists)

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
    def contains(self, key: K) -> Operation[bool]:
        """Whether the key is there, as `key in d`.

        >>> Dict.from_name("kv", create_if_missing=True).contains("missing")
        False
        """
        return operations.contains(self, key)

    @twin
    def len(self) -> Operation[int]:
        """The number of entries, as `len(d)`: exact, and cheap at any size.

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

        At most 10,000 entries. Atomic at each worker (up to 64 MiB), not across workers: a reader may for a moment see some
        entries and not others.

        Raises:
            SerializationError: a value cannot be pickled; nothing was sent.
            RequestSizeError: too many entries, or one of more than 100 MiB; nothing was stored.

        >>> d = Dict.from_name("kv", create_if_missing=True)
        >>> d.update({"a": 1}, b=2)
        >>> sorted(d.items())
        [('a', 1), ('b', 2)]
        """
        yield from operations.put_many(self, _pairs(other, kwargs), False)

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

    def __getitem__(self, key: K) -> V:
        value: V = self.connected().run(operations.get(self, key, _MISSING))
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

    def __repr__(self) -> str:
        return f"<holdall.{self.label}>"

    def __reduce__(self) -> tuple[Any, ...]:
        url = self._url if self._client is None or self._client.is_local else self._client.address
        return Dict.travelled, (self._name, self._environment, self._create_if_missing, url)

    # What operations need of a handle, and users do not:

    def connected(self, given: Client | None = None) -> Client:
        """The client this handle uses: the one it was given, or else the default one, from its first use on."""
        if self._client is None:
            self._client = Client.from_env(self._url)
        return self._client

    def hydration(self) -> Operation[bytes]:
        """Look the id up, and make the Dict if it is missing and may be made. Returns the id."""
        client = self.connected()
        if self._create_if_missing:
            entry = yield from catalog.create(client, self._environment, self._name, allow_existing=True)
        else:
            found = yield from catalog.lookup(client, self._environment, self._name)
            if found is None:
                raise NotFoundError(
                    f"there is no {self.label} at {client.address}: correct the name, or make it with create_if_missing=True"
                )
            entry = found
        self._found(entry)
        return entry.dict_id

    def _hydrated(self) -> Operation[Dict[K, V]]:
        if self.id is None:
            yield from self.hydration()
        return self

    def _found(self, entry: CatalogEntry) -> None:
        self.crc = crc32(entry.dict_id)
        self.id = entry.dict_id

    _name: str
    _environment: str
    _create_if_missing: bool
    _client: Client | None
    _url: str | None
    label: str
    """What messages call it."""
    id: bytes | None
    """Its id, once it was looked up."""
    crc: int
    """The CRC-32 of its id, from which the hash of each key goes on."""


def _pairs(other: Any, more: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    if isinstance(other, Mapping):
        yield from other.items()
    elif hasattr(other, "keys"):
        for key in other.keys():  # noqa: SIM118 - as dict.update does it: `other` need not be iterable
            yield key, other[key]
    else:
        for key, value in other:
            yield key, value
    yield from more.items()

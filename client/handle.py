"""A handle: which Dict, at which service, and how its id is found. Pickled, it finds its service in any process."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

from holdall import protocol, settings
from holdall.client.connection.query import Operation, Query
from holdall.client.operations import catalog
from holdall.errors import ConnectionError, InvalidError, NotFoundError
from holdall.settings import Serializer
from holdall.slots import dict_crc
from holdall.worker.directory import place

from .twin import Offering
from .views import stream

if TYPE_CHECKING:
    from holdall.bodies import CatalogEntry

    from .client import Client

COMPLETIONS_MAX = 1000
"""Keys that a prompt offers after `d["`."""
_OBJECT_ID = r"di-([0-9a-f]{32})"


class Handle(Offering):
    """What every operation needs to know of a Dict.

    Looked up lazily: threads and tasks that are the first to need it at once each look for themselves. Two handles are equal
    when they name the same Dict: the same id, or as long as one has not been looked up, the same name at the same address.
    """

    label: str
    """What messages call it."""
    id: bytes | None
    """Its id, once it is known."""
    crc: int
    """The CRC-32 of its id, from which the hash of each key goes on."""
    serializer: Serializer
    """How this handle writes and reads values, and keys that have no encoding of their own."""
    _name: str | None  # None: not known yet; "": it is ephemeral, and has none
    _environment: str
    _create_if_missing: bool
    _ttl: float | None  # if it is made
    _client: Client | None
    _is_default: bool  # whether the client is the one for calls that are given none
    _url: str | None  # of the service it was pickled at; a service configured here wins
    _machine: str  # where it was pickled, if its service listens there alone
    _layout: bytes  # the id of that service's data, if it was known

    @classmethod
    def from_name(
        cls,
        name: str,
        *,
        environment_name: str | None = None,
        create_if_missing: bool = False,
        client: Client | None = None,
        ttl: float | None = protocol.TTL_SECONDS,
        serializer: Serializer = "auto",
    ) -> Self:
        """The Dict of this name. Nothing is sent before it is first used.

        Args:
            name: 1 to 64 characters: letters, digits, `-`, `_`, `.`.
            environment_name: in which environment; HOLDALL_ENVIRONMENT, or else "main".
            create_if_missing: make it at its first use if there is none; otherwise that use raises NotFoundError.
            client: through which service; `Client.from_env()` by default.
            ttl: how many seconds an entry lives that nobody reads or writes; None for ever, 7 days by default. It counts only
                when this makes the Dict; see `set_ttl` for one that is there.
            serializer: how this handle and its copies write and read. "auto": plain data (None, bool, int, float, str, bytes,
                list, tuple, dict, set, frozenset) as such, all else as pickles, which run code when they are read. "plain":
                plain data alone. "json", "bytes": values as these, and no other. All but "auto" take no pickle, in keys too.

        Raises:
            InvalidError: no such name, ttl or serializer is possible.

        >>> d = Dict.from_name("kv", create_if_missing=True)
        >>> d.name
        'kv'
        """
        settings.check_name(name)
        settings.check_ttl(ttl)
        settings.check_serializer(serializer)
        environment = settings.environment(environment_name)
        return cls._make(name, environment, create_if_missing, ttl, client=client, serializer=serializer)

    @classmethod
    def from_id(cls, dict_id: str, client: Client | None = None, *, serializer: Serializer = "auto") -> Self:
        """The Dict of this id (see `object_id`). Nothing is sent before it is first used.

        Args:
            dict_id: `di-` and 32 hexadecimal digits.
            client: through which service; `Client.from_env()` by default.
            serializer: as with `from_name`.

        Raises:
            InvalidError: no such id, or serializer, is possible.

        >>> d = Dict.from_name("kv", create_if_missing=True)
        >>> Dict.from_id(d.object_id).name
        'kv'
        """
        matched = re.fullmatch(_OBJECT_ID, dict_id) if isinstance(dict_id, str) else None
        if matched is None:
            raise InvalidError(f"Invalid Dict id {dict_id!r}: an id is 'di-' and 32 hexadecimal digits")
        settings.check_serializer(serializer)
        return cls._make(None, "", client=client, dict_id=bytes.fromhex(matched[1]), serializer=serializer)

    @classmethod
    def _make(
        cls,
        name: str | None,
        environment: str,
        create_if_missing: bool = False,
        ttl: float | None = protocol.TTL_SECONDS,
        url: str | None = None,
        dict_id: bytes | None = None,
        serializer: Serializer = "auto",
        client: Client | None = None,
        machine: str = "",
        layout: bytes = b"",
    ) -> Self:
        handle = object.__new__(cls)
        handle._name = name
        handle._environment = environment
        handle._create_if_missing = create_if_missing
        handle._ttl = ttl
        handle._client = client
        handle._is_default = False
        handle._url = url
        handle._machine, handle._layout = machine, layout
        handle.serializer = serializer
        handle.id = dict_id
        handle.crc = dict_crc(dict_id or b"")
        handle.label = catalog.described(environment, name) if name else f"Dict di-{(dict_id or b'').hex()}"
        return handle

    @classmethod
    def of_entry(cls, entry: CatalogEntry, client: Client | None, serializer: Serializer = "auto") -> Self:
        return cls._make(entry.name, entry.environment, client=client, dict_id=entry.dict_id, serializer=serializer)

    @property
    def name(self) -> str | None:
        """The name it was made with; None if it is ephemeral. Looked up for a handle that was made by id.

        >>> Dict.from_name("kv", create_if_missing=True).name
        'kv'
        """
        if self._name is None:
            self._found(self.connected().run(self._find()))
        return self._name or None

    @property
    def environment(self) -> str:
        """The environment it is in.

        >>> Dict.from_name("kv", create_if_missing=True).environment
        'main'
        """
        if self._name is None:
            self._found(self.connected().run(self._find()))
        return self._environment

    @property
    def object_id(self) -> str:
        """Its id, `di-` and 32 hexadecimal digits: another one if the Dict is deleted and made again. Looked up if need be.

        >>> Dict.from_name("kv", create_if_missing=True).object_id[:3]
        'di-'
        """
        if self.id is None:
            self.connected().run(self._hydrated())
        assert self.id is not None
        return f"di-{self.id.hex()}"

    def connected(self, given: Client | None = None) -> Client:
        """The client this handle uses: the one it was given, or else the default one, from first use until that is closed."""
        if given is not None and given is not self._client:
            self._use(given, is_default=False)
        elif self._client is None or (self._is_default and self._client.is_closed):
            client = default_client(self._url)
            if self._machine and client.is_local and self._machine != place.machine():
                raise ConnectionError(
                    f"this handle of {self.label} is of a service on another machine, which listens there alone: set "
                    "HOLDALL_CONNECTION, or HOLDALL_URL, to where it can be reached from here"
                )
            self._use(client, is_default=True)
        assert self._client is not None
        return self._client

    def _use(self, client: Client, *, is_default: bool) -> None:
        """Another client than before may be another service's, where the Dict of this name has another id."""
        if self._client is not None and self._name:
            self.id = None
        self._client = client
        self._is_default = is_default

    def hydration(self) -> Operation[bytes]:
        """Look the id up, and make the Dict if it is missing and may be made. Returns the id."""
        if self.id is None:
            self._found((yield from self._lookup()))
        assert self.id is not None
        return self.id

    def register(self, refused: Query) -> Operation[None]:
        """Tell of the Dict the worker that refused this request, which has not met it. Raises NotFoundError if it is gone."""
        self._check_layout(self.connected())
        if self._name is None:
            self._found((yield from self._find()))
        assert self.id is not None
        assert self._name is not None
        yield from catalog.register(self.connected(), self._environment, self._name, self.id, refused)

    def _hydrated(self) -> Operation[None]:
        yield from self.hydration()
        if self._name is None:
            self._found((yield from self._find()))

    def _lookup(self) -> Operation[CatalogEntry]:
        client = self.connected()
        self._check_layout(client)
        assert self._name
        if self._create_if_missing:
            return (yield from catalog.create(client, self._environment, self._name, self._ttl, allow_existing=True))
        entry = yield from catalog.lookup(client, self._environment, self._name)
        if entry is None:
            raise NotFoundError(
                f"there is no {self.label} at {client.address}: correct the name, or make it with create_if_missing=True"
            )
        return entry

    def _find(self) -> Operation[CatalogEntry]:
        assert self.id is not None
        self._check_layout(self.connected())
        entry = yield from catalog.find(self.connected(), self.id, self.label)
        if entry is None:
            raise NotFoundError(f"{self.label} was deleted, or never made in the data directory of {self.connected().address}")
        return entry

    def _check_layout(self, client: Client) -> None:
        """Raise ConnectionError if the service that was found is not the one that this handle was made with, elsewhere."""
        if self._layout and client.is_local and self._layout != client.layout_id:
            raise ConnectionError(
                f"the service at {client.address} is not the one that this handle of {self.label} is of: set "
                "HOLDALL_CONNECTION, or HOLDALL_URL, to where that one can be reached from here, or make the handle here"
            )

    def _found(self, entry: CatalogEntry) -> None:
        self._name, self._environment = entry.name, entry.environment
        if entry.name:
            self.label = catalog.described(entry.environment, entry.name)
        self.crc = dict_crc(entry.dict_id)
        self.id = entry.dict_id

    def _same(self, other: Handle) -> bool:
        if self.id is not None and other.id is not None:
            return self.id == other.id
        if self._name and other._name and self.connected().address == other.connected().address:
            return (self._environment, self._name) == (other._environment, other._name)
        return self.object_id == other.object_id

    def __hash__(self) -> int:
        return hash((self.environment, self.name) if self.name else self.id)

    def __repr__(self) -> str:
        place = "" if self._client is None or self._is_default else f" at {self._client.address}"
        return f"<holdall.{self.label}{place}>"

    def _ipython_key_completions_(self) -> list[Any]:
        return list(islice(stream(self, with_values=False), COMPLETIONS_MAX))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        client = self._client
        url = self._url if client is None or client.is_local else client.url
        machine = self._machine if client is None else place.machine() if client.is_local else ""
        layout = self._layout if client is None else client.layout_id
        told = (self._name, self._environment, self._create_if_missing, self._ttl, url, self.id, self.serializer)
        return type(self)._make, (*told, None, machine, layout)


def default_client(fallback_url: str | None = None) -> Client:
    """The client of calls that are given none: see `Client.from_env`."""
    from .client import Client  # an import of holdall need not wait for sockets and threads

    return Client.from_env(fallback_url)

"""`Dict.objects`: make, list and delete Dicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from holdall import protocol, settings
from holdall.client.connection.query import Operation
from holdall.client.operations import catalog
from holdall.errors import InvalidError, NotFoundError

from .handle import Handle, default_client
from .twin import Offering, Twin

if TYPE_CHECKING:
    from datetime import datetime

    from .client import Client

H = TypeVar("H", bound=Handle)


class DictObjects(Offering, Generic[H]):
    """The Dicts of a service. Each method has an awaitable twin `.aio`; `client` defaults to `Client.from_env()`."""

    def __init__(self, kind: type[H]) -> None:
        self._kind = kind

    def __repr__(self) -> str:
        return f"<the objects of holdall.{self._kind.__name__}>"

    def connected(self, given: Client | None = None) -> Client:
        return given or default_client()

    @Twin
    def create(
        self,
        name: str,
        *,
        allow_existing: bool = False,
        ttl: float | None = protocol.TTL_SECONDS,
        environment_name: str | None = None,
        client: Client | None = None,
    ) -> Operation[None]:
        """Make a Dict.

        Args:
            name: 1 to 64 characters: letters, digits, `-`, `_`, `.`.
            allow_existing: do nothing if there is one of this name.
            ttl: how many seconds an entry lives that nobody reads or writes; None for ever, 7 days by default.
            environment_name: where; HOLDALL_ENVIRONMENT, or else "main".
            client: through which service.

        Raises:
            AlreadyExistsError: there is one, and `allow_existing` is false.
            InvalidError: no such name, or ttl, is possible.

        >>> Dict.objects.create("kv")
        """
        settings.check_name(name)
        settings.check_ttl(ttl)
        environment = settings.environment(environment_name)
        yield from catalog.create(self.connected(client), environment, name, ttl, allow_existing=allow_existing)

    @Twin
    def list(
        self,
        *,
        max_objects: int | None = None,
        created_before: datetime | str | None = None,
        environment_name: str | None = None,
        client: Client | None = None,
    ) -> Operation[list[H]]:
        """The Dicts of an environment, the newest first.

        Args:
            max_objects: at most so many; None for all.
            created_before: only those made before this time: a datetime (without a zone: local time), or one in ISO 8601.
            environment_name: which environment; HOLDALL_ENVIRONMENT, or else "main".
            client: through which service.

        Raises:
            InvalidError: `max_objects` is negative, or `created_before` is no time.

        >>> Dict.objects.create("kv")
        >>> [d.name for d in Dict.objects.list()]
        ['kv']
        """
        if max_objects is not None and (not isinstance(max_objects, int) or max_objects < 0):
            raise InvalidError(f"max_objects must be 0 or more, not {max_objects!r}")
        before = _moment(created_before)
        environment = settings.environment(environment_name)
        connected = self.connected(client)
        entries = yield from catalog.list_entries(connected, environment)
        if before is not None:
            entries = [entry for entry in entries if catalog.created_at(entry) < before]
        entries.sort(key=lambda entry: entry.created_at, reverse=True)
        return [self._kind.of_entry(entry, client) for entry in entries[:max_objects]]

    @Twin
    def delete(
        self,
        name: str,
        *,
        allow_missing: bool = False,
        environment_name: str | None = None,
        client: Client | None = None,
    ) -> Operation[None]:
        """Delete a Dict and all that is in it. Handles of it get NotFoundError from then on.

        Args:
            name: which.
            allow_missing: do nothing if there is none of this name.
            environment_name: where; HOLDALL_ENVIRONMENT, or else "main".
            client: through which service.

        Raises:
            NotFoundError: there is none, and `allow_missing` is false.
            InvalidError: no such name is possible.

        >>> Dict.objects.create("kv")
        >>> Dict.objects.delete("kv")
        """
        settings.check_name(name)
        environment = settings.environment(environment_name)
        existed = yield from catalog.delete(self.connected(client), environment, name)
        if not existed and not allow_missing:
            raise NotFoundError(f"cannot delete {catalog.described(environment, name)}: there is none of this name")


def _moment(moment: datetime | str | None) -> datetime | None:
    if moment is None:
        return None
    from datetime import UTC, datetime

    try:
        parsed = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
        return parsed.astimezone(UTC)
    except (ValueError, AttributeError, OverflowError) as error:
        raise InvalidError(f"created_before must be a datetime or one in ISO 8601, not {moment!r}: {error}") from None

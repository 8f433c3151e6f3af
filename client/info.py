"""What is known of a Dict as an object."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime

    from holdall.bodies import CatalogEntry


class DictInfo(NamedTuple):
    """Name (None: it is ephemeral), time it was made (with a time zone), who made it (user@host), and how many seconds an
    entry lives that nobody uses (None: for ever).
    """

    name: str | None
    created_at: datetime
    created_by: str
    ttl: float | None

    @classmethod
    def of_entry(cls, entry: CatalogEntry) -> DictInfo:
        """The information in a catalog entry."""
        from datetime import datetime, timezone

        return cls(entry.name or None, datetime.fromtimestamp(entry.created_at, timezone.utc), entry.created_by, entry.ttl)

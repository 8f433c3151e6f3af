"""What is known of a Dict as an object."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdall.bodies import CatalogEntry


@dataclass(frozen=True)
class DictInfo:
    """Name (None: it is ephemeral), time it was made (with a time zone), and who made it: user@host."""

    name: str | None
    created_at: datetime
    created_by: str

    @classmethod
    def of_entry(cls, entry: CatalogEntry) -> DictInfo:
        """The information in a catalog entry."""
        return cls(entry.name or None, datetime.fromtimestamp(entry.created_at, timezone.utc), entry.created_by)

"""The client of calls that are given none. It is loaded by the first of them: pyzmq takes longer to load than all the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdall.client.client import Client


def default_client(fallback_url: str | None = None) -> Client:
    """See `Client.from_env`."""
    from holdall.client.client import Client

    return Client.from_env(fallback_url)

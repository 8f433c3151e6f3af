"""The client of calls that are given none, loaded by the first of them: an import need not wait for sockets and threads."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdall.client.client import Client


def default_client(fallback_url: str | None = None) -> Client:
    """See `Client.from_env`."""
    from holdall.client.client import Client

    return Client.from_env(fallback_url)

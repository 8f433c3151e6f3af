"""Registrations as the catalog's worker seals them, for tests that have no catalog."""

from __future__ import annotations

from holdall.bodies import CatalogEntry, Lifetime, Registration, encode
from holdall.protocol import TTL_SECONDS
from holdall.worker.state.dicts import Dicts


def registration(dict_id: bytes, ttl: float | None = None, *, secret: bytes = b"", ttl_version: int = 0) -> bytes:
    """The body of a REGISTER of this Dict, under this secret of a layout."""
    return encode(Registration(ttl, ttl_version=ttl_version, seal=_seal(dict_id, ttl, secret, ttl_version)))


def lifetime(dict_id: bytes, ttl: float | None, ttl_version: int, *, secret: bytes = b"") -> bytes:
    """The body of a SET_TTL."""
    return encode(Lifetime(ttl, ttl_version, _seal(dict_id, ttl, secret, ttl_version)))


def _seal(dict_id: bytes, ttl: float | None, secret: bytes, ttl_version: int) -> bytes:
    entry = CatalogEntry("main", "name", dict_id, 0.0, "", ttl, ttl_version=ttl_version)
    return Dicts(secret).sealed(entry).seal


def leased(ttl: float | None = TTL_SECONDS, seconds: float | None = 15.0) -> bytes:
    """The body of a REGISTER of an ephemeral Dict."""
    return encode(Registration(ttl, seconds, "main", "user@host"))

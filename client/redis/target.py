"""What a URL of this engine says: `redis://[USER[:PASSWORD]@]HOST[:PORT][,HOST[:PORT]…][/0][?OPTIONS]`."""

from __future__ import annotations

import re
import warnings
from typing import Annotated, Any, Literal, NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
from msgspec import Meta

from holdall.errors import InvalidError
from holdall.settings import CLUSTER_SCHEMES
from holdall.slots import SLOTS

PORT = 6379
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:@/?#\s]+))(?::(\d{1,5}))?")


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many replicas must have a write before it is acknowledged; whose Dicts these are; in how many parts each is (fewer
    would lie unevenly, more would make all that asks each part slower); certificates, and whether to verify a server's.
    """

    wait: Annotated[int, Meta(ge=0, le=5)] = 0
    namespace: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,64}\Z")] = "holdall"
    parts: Annotated[int, Meta(ge=1, le=SLOTS)] = 16
    ca: str = ""
    cert: str = ""
    key: str = ""
    verify: Literal["full", "none"] = "full"


class Target(msgspec.Struct, frozen=True):
    """A server or a cluster, and how to speak to it; `shown` is the URL without its password, which no repr or pickle has."""

    shown: str
    is_encrypted: bool
    seeds: tuple[tuple[str, int], ...]
    user: str
    password: str
    database: int
    options: Options

    def __repr__(self) -> str:
        return f"<{self.shown}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a password is not to be pickled: pass the URL without it, and set HOLDALL_URL")

    def tls(self) -> Any:
        """The context of encrypted connections; None if they are not encrypted. Raises InvalidError."""
        if not self.is_encrypted:
            return None
        import ssl  # which takes longer to load than all the rest

        try:
            context = ssl.create_default_context(cafile=self.options.ca or None)
            if self.options.cert:
                context.load_cert_chain(self.options.cert, self.options.key or None)
        except (OSError, ssl.SSLError) as error:
            raise InvalidError(f"the certificates of {self.shown} cannot be used: {error}") from None
        if self.options.verify == "none":
            warnings.warn(f"whoever answers at {self.shown} is believed: verify=none", stacklevel=2)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context


def target_of(url: str) -> Target:
    """What this URL says. Raises InvalidError.

    >>> target_of("redis://h1,h2:7000/?wait=1").seeds
    (('h1', 6379), ('h2', 7000))
    """
    try:
        parts = urlsplit(url)
        told = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        options = msgspec.convert(told, Options, strict=False)
        before, at, hosts = parts.netloc.rpartition("@")
        seeds = [_HOST.fullmatch(each) for each in hosts.split(",")]
        database = int(parts.path.strip("/") or 0)
    except ValueError as error:
        raise _invalid(url, str(error)) from None
    if not all(found and 0 < int(found[3] or PORT) < 1 << 16 for found in seeds) or parts.fragment or database < 0:
        raise _invalid(url, "a host, a port, or a database is none")
    if options.parts & (options.parts - 1):
        raise _invalid(url, f"parts is a power of two, up to {SLOTS:,}")
    user, _, password = before.partition(":")
    shown = url.replace(before + at, f"{user}@" if user else "", 1) if at else url
    addresses = tuple((found[1] or found[2], int(found[3] or PORT)) for found in seeds if found)
    return Target(shown, CLUSTER_SCHEMES[parts.scheme], addresses, unquote(user), unquote(password), database, options)


def _invalid(url: str, why: str) -> InvalidError:
    shown = re.sub(r"//.*@", "//…@", url)
    return InvalidError(f"Invalid URL {shown!r}: {why}; use redis://HOST:PORT, or redis://HOST:PORT,HOST:PORT for a cluster")

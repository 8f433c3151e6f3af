"""What a URL of this engine says: `redis://[USER[:PASSWORD]@]HOST[:PORT][,HOST[:PORT]…][/0][?OPTIONS]`."""

from __future__ import annotations

import re
import warnings
from typing import Any, NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from holdall.errors import InvalidError
from holdall.settings import CLUSTER_SCHEMES, is_name
from holdall.slots import SLOTS

PORT = 6379
PARTS = 16
"""Of each Dict: fewer would lie unevenly over nodes, more would make all that asks every part slower."""
WAIT_MAX = 5
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:@/?#\s]+))(?::(\d{1,5}))?")
_OPTIONS = ("wait", "namespace", "parts", "ca", "cert", "key", "verify")


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A server or a cluster, and how it is spoken to. Neither its repr nor a pickle has the password."""

    scheme: str
    seeds: tuple[tuple[str, int], ...]
    user: str = ""
    password: str = ""
    database: int = 0
    wait: int = 0
    """How many replicas must have a write before it is acknowledged."""
    namespace: str = "holdall"
    parts: int = PARTS
    ca: str = ""
    cert: str = ""
    key: str = ""
    verify: bool = True
    shown: str = ""
    """The URL without its password."""

    def __repr__(self) -> str:
        return f"<{self.shown}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a password is not to be pickled: pass the URL without it, and set HOLDALL_URL")

    def tls(self) -> Any:
        """The context of encrypted connections; None if they are not encrypted. Raises InvalidError."""
        if not CLUSTER_SCHEMES[self.scheme]:
            return None
        import ssl  # which takes longer to load than all the rest

        try:
            context = ssl.create_default_context(cafile=self.ca or None)
            if self.cert:
                context.load_cert_chain(self.cert, self.key or None)
        except (OSError, ssl.SSLError) as error:
            raise InvalidError(f"the certificates of {self.shown} cannot be used: {error}") from None
        if not self.verify:
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
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise _invalid(url, "it is none") from None
    before, at, hosts = parts.netloc.rpartition("@")
    user, _, password = before.partition(":")
    seeds: list[tuple[str, int]] = []
    for each in hosts.split(","):
        found = _HOST.fullmatch(each)
        if found is None or not 0 < int(found[3] or PORT) < 1 << 16:
            raise _invalid(url, f"{each!r} is no HOST:PORT")
        seeds.append((found[1] or found[2], int(found[3] or PORT)))
    database = parts.path.strip("/") or "0"
    unknown = [name for name in options if name not in _OPTIONS]
    if unknown or not database.isdecimal() or parts.fragment:
        raise _invalid(url, f"there is no option {unknown[0]!r}" if unknown else "a database is a number")
    wait, count = _number(url, options, "wait", 0), _number(url, options, "parts", PARTS)
    if not 0 <= wait <= WAIT_MAX:
        raise _invalid(url, f"wait is the number of replicas that must have a write, 0 to {WAIT_MAX}")
    if not 1 <= count <= SLOTS or count & (count - 1):
        raise _invalid(url, f"parts is a power of two, up to {SLOTS:,}")
    namespace = options.get("namespace", "holdall")
    if not is_name(namespace):
        raise _invalid(url, "a namespace has 1 to 64 letters, digits, '-', '_' and '.'")
    if options.get("verify", "full") not in ("full", "none"):
        raise _invalid(url, "verify is full, or none")
    return Target(
        scheme=parts.scheme,
        seeds=tuple(seeds),
        user=unquote(user),
        password=unquote(password),
        database=int(database),
        wait=wait,
        namespace=namespace,
        parts=count,
        ca=options.get("ca", ""),
        cert=options.get("cert", ""),
        key=options.get("key", ""),
        verify=options.get("verify") != "none",
        shown=url.replace(before + at, f"{user}@" if user else "", 1) if at else url,
    )


def _number(url: str, options: dict[str, str], name: str, default: int) -> int:
    value = options.get(name, str(default))
    if not value.isdecimal() or len(value) > 9:
        raise _invalid(url, f"{name} is a number")
    return int(value)


def _invalid(url: str, why: str) -> InvalidError:
    shown = re.sub(r"//.*@", "//…@", url)
    return InvalidError(f"Invalid URL {shown!r}: {why}; use redis://HOST:PORT, or redis://HOST:PORT,HOST:PORT for a cluster")

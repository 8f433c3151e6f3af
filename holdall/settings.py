"""Settings: an argument, else an environment variable, else a default.

HOLDALL_URL           the service: ipc:///path; unset: this user's local service
HOLDALL_CONNECTION    the connection file of a service elsewhere: its URL, and a key that comes in there
HOLDALL_CONNECTION_WAIT  how many seconds such a file, which a job's first rank may still have to write, is waited for; 60
HOLDALL_LANES         off: everything goes through the broker; on (the default): also by lanes to the workers of this machine
HOLDALL_DATA          the data directory of the local service and of `holdall serve`
HOLDALL_ENGINE        what a new data directory is kept in: leveldb (the default, where its binding is installed) or sqlite
HOLDALL_ENVIRONMENT   the environment in which names are looked up
HOLDALL_PICKLE        off: this process writes and reads no pickles; on (the default): a Dict with serializer="auto" does
HOLDALL_LOG           what a service writes its log lines as: text (the default) or json
HOLDALL_LOG_LEVEL     from which level on: info, warning (the default) or error
"""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from typing import Literal, get_args

from holdall.errors import AuthError, InvalidError
from holdall.protocol import TTL_SECONDS_MAX, VERSION, is_ttl

CLUSTER_SCHEMES = {"redis": False, "valkey": False, "rediss": True, "valkeys": True}
"""Each with whether it is encrypted."""
Serializer = Literal["auto", "plain", "json", "bytes"]
"""How a Dict's handle writes and reads: see `holdall.values`."""
DEFAULT_PORT = 4255
DEFAULT_TIMEOUT_SECONDS = 30.0
IDLE_SECONDS = 300.0
"""After how long without a request a service that a client started ends by itself."""
SOCKET_NAME_BYTES_MAX = 24
"""Of the names of sockets in a runtime directory, with what is added to them while admission is closed."""
CONNECTION_WAIT_SECONDS = 60.0
IPC_PATH_BYTES_MAX = 107
"""The kernel's limit for the path of a Unix socket."""

CREATOR_CHARACTERS_MAX = 320
"""Of who made a Dict: printable ones."""

_HOST = r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+(%[A-Za-z0-9]+)?"
_NAME = r"[A-Za-z0-9._-]{1,64}"


def check_name(name: object, what: str = "Dict") -> str:
    """The name, if it is one. Raises InvalidError."""
    if not isinstance(name, str) or not is_name(name):
        raise InvalidError(f"Invalid {what} name {name!r}: a name has 1 to 64 characters: letters, digits, '-', '_' and '.'")
    return name


def is_name(text: str) -> bool:
    return bool(re.fullmatch(_NAME, text))


def is_creator(text: str) -> bool:
    return len(text) <= CREATOR_CHARACTERS_MAX and text.isprintable()


def check_ttl(seconds: object) -> float | None:
    """The time to live of a Dict's entries, if it is one; None: for ever. Raises InvalidError."""
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not is_ttl(seconds)):
        raise InvalidError(
            f"Invalid ttl {seconds!r}: a ttl is a number of seconds, above 0 and at most {TTL_SECONDS_MAX:.0f} (a century), or "
            "None for entries that never expire"
        )
    return seconds


def check_serializer(name: object) -> None:
    """Raise InvalidError if there is no such serializer."""
    if name not in get_args(Serializer):
        raise InvalidError(f"Invalid serializer {name!r}: use 'auto', 'plain', 'json' or 'bytes'")


def lanes(wanted: bool | None = None) -> bool:
    """Whether a client may have lanes. Raises InvalidError."""
    return is_on("HOLDALL_LANES") if wanted is None else wanted


def is_on(variable: str) -> bool:
    """Whether this variable is on, or unset. Raises InvalidError."""
    value = os.environ.get(variable) or "on"
    if value not in ("on", "off"):
        raise InvalidError(f"{variable} must be on or off, not {value!r}")
    return value == "on"


def environment(name: str | None = None) -> str:
    """The environment to look names up in."""
    return check_name(name or os.environ.get("HOLDALL_ENVIRONMENT") or "main", "environment")


def is_cluster(value: str | None) -> bool:
    """Whether this URL is that of a server, or a cluster, of another engine: clients alone reach it."""
    return value is not None and value.partition("://")[0] in CLUSTER_SCHEMES


def url(value: str) -> str:
    """A service's URL in full. Raises InvalidError for anything that is none.

    >>> url("tcp://localhost")
    'tcp://localhost:4255'
    """
    hint = f"use tcp://HOST:PORT or ipc:///PATH, not {value!r}"
    if value.startswith("ipc:///") and len(value) > len("ipc:///") and value.isprintable():
        if len(os.fsencode(value)) - len("ipc://") > IPC_PATH_BYTES_MAX:
            raise InvalidError(f"Invalid URL: the path has more than {IPC_PATH_BYTES_MAX} bytes, {hint}")
        return value
    from urllib.parse import urlsplit  # each of these takes milliseconds to load, and a local client needs none of them

    try:
        parts = urlsplit(value)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise InvalidError(f"Invalid URL: {error}; {hint}") from None
    more = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
    if parts.scheme != "tcp" or not re.fullmatch(_HOST, host) or more or port == 0:
        raise InvalidError(f"Invalid URL: {hint}")
    return f"tcp://[{host}]:{port or DEFAULT_PORT}" if ":" in host else f"tcp://{host}:{port or DEFAULT_PORT}"


def ipc_url(value: str) -> str:
    """A URL that is the path of a Unix socket: workers listen there, for the broker and for lanes. Raises InvalidError."""
    checked = url(value)
    if not checked.startswith("ipc://"):
        raise InvalidError(f"{value!r} is not on this machine alone: use ipc:///PATH; other machines are served by the broker")
    return checked


def listen_url(value: str) -> str:
    """A URL to listen at; port 0 is any that is free. Raises InvalidError."""
    return url(f"{value[:-1]}1")[:-1] + "0" if value.endswith(":0") else url(value)


def connection_wait() -> float:
    """How many seconds a connection file is waited for. Raises InvalidError."""
    value = os.environ.get("HOLDALL_CONNECTION_WAIT") or CONNECTION_WAIT_SECONDS
    try:
        return float(value)
    except ValueError:
        raise InvalidError(f"HOLDALL_CONNECTION_WAIT must be a number of seconds, not {value!r}") from None


def data_directory() -> Path:
    """Where this user's service keeps its data."""
    configured = os.environ.get("HOLDALL_DATA")
    if configured:
        return data_path(configured)
    import platformdirs

    try:
        found = platformdirs.user_data_path("holdall", appauthor=False)
    except (OSError, RuntimeError) as error:  # there is no home directory, for example
        raise InvalidError(f"no place is known for this user's data: {error}; set HOLDALL_DATA") from None
    return Path(os.path.realpath(found))


def data_path(path: str | os.PathLike[str]) -> Path:
    """The real path of a data directory. Raises InvalidError if it cannot be told to other processes."""
    found = os.path.realpath(path)
    try:
        found.encode()
    except UnicodeEncodeError:
        raise InvalidError(f"the data directory {found!r} has a name that is no UTF-8: use another one") from None
    return Path(found)


def runtime_directory(data: Path) -> Path:
    """Where the sockets of the service on this data directory are: short, on this machine, gone after a reboot."""
    import hashlib

    import platformdirs

    tag = hashlib.blake2b(os.fsencode(os.path.realpath(data)), digest_size=6).hexdigest()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it falls back to /tmp: the service checks whose directory it is
            found = Path(platformdirs.user_runtime_path("holdall", appauthor=False)) / tag
    except (OSError, RuntimeError) as error:  # anybody may have made one of its name
        raise AuthError(f"there is no directory for sockets that is this user's alone: {error}") from None
    if len(os.fsencode(found)) + SOCKET_NAME_BYTES_MAX > IPC_PATH_BYTES_MAX:
        return Path(f"/tmp/holdall-{os.getuid()}") / tag
    return found


def socket_url(data: Path, name: str) -> str:
    """The URL of one of the sockets of the service on this data directory.

    The protocol's version is a part of it: a service and a client of different versions never meet on one socket.
    """
    return url(f"ipc://{runtime_directory(data)}/{name}.v{VERSION}")


def service_url(data: Path) -> str:
    """Where the service on this data directory always listens, whatever else it listens at."""
    return socket_url(data, "service")

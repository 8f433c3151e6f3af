"""The connection file: all that a process elsewhere needs to reach a service, in one file that only its user can read.

    {"url": "tcp://host:4255", "server_key": …, "role": "client", "name": "laptop", "public_key": …, "secret_key": …,
     "layout": the id of the service's data, "expires": seconds since 1970 or null}

Keys are those of CurveZMQ, in Z85. The secret one is in this file, and in the memory of a process that has read it: in no
argument, variable, URL, log, repr, traceback or pickle. Source: rfc.zeromq.org/spec/26 (CurveZMQ).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NoReturn, Union

import msgspec

from holdall import settings
from holdall.disk import write_durably
from holdall.errors import AuthError, ConnectionError, InvalidError
from holdall.private import OTHERS, open_own
from holdall.settings import is_name

FILE_BYTES_MAX = 4_096
KEY = re.compile(r"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
"""In Z85. Source: rfc.zeromq.org/spec/32."""
FILE_LOOK_SECONDS = 0.1
RoleName = Literal["client", "reader", "admin"]


class ConnectionFile(msgspec.Struct, frozen=True, kw_only=True):
    """What such a file says."""

    url: str
    server_key: str
    role: RoleName
    name: str
    public_key: str
    secret_key: str
    layout: str
    expires: Union[float, None] = None

    def __repr__(self) -> str:
        return f"<connection file of {self.name}, {self.role} at {self.url}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("name", self.name), ("role", self.role), ("url", self.url)]

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is not to be pickled: pass the path of its connection file")

    def write(self, path: Path) -> None:
        """Make the file, for this user alone, in one step. Raises OSError."""
        write_durably(path, msgspec.json.encode(self) + b"\n")


def read(path: Path, url: str | None = None) -> ConnectionFile:
    """What the file says. Raises FileNotFoundError, AuthError if others can read it, InvalidError if it is none for `url`."""
    try:
        with open(path, "rb", opener=open_own) as file:
            mode = os.fstat(file.fileno()).st_mode
            found = _parsed(file.read(FILE_BYTES_MAX + 1))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise AuthError(f"the connection file {path} cannot be read: {error.strerror}: it must be a file of your own") from None
    if mode & OTHERS:
        raise AuthError(f"the connection file {path} can be read by others: chmod 600 {path}, and take a new key if they have")
    if found is None:
        raise InvalidError(f"{path} is no connection file: `holdall keys new` makes one")
    if url is not None and url != found.url:
        raise InvalidError(f"the connection file {path} is for {found.url}, and not for {url}: give one of the two")
    return found


def _parsed(text: bytes) -> ConnectionFile | None:
    """What this says, if it is a connection file. Nothing of the text is in what is raised, nor in a frame of that."""
    try:
        found = msgspec.json.decode(text, type=ConnectionFile)
        keys_are_good = all(KEY.fullmatch(key) for key in (found.server_key, found.public_key, found.secret_key))
        return msgspec.structs.replace(found, url=settings.url(found.url)) if keys_are_good and is_name(found.name) else None
    except (msgspec.MsgspecError, InvalidError, ValueError):
        return None


def looks(path: Path, url: str | None, seconds: float) -> Iterator[ConnectionFile | None]:
    """Look for the file until it is there, and give what it says: a job's ranks may start before its service. None: not yet.
    Raises what `read` does, or ConnectionError if it does not come in so many seconds.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            yield read(path, url)
        except FileNotFoundError:
            if time.monotonic() >= until:
                raise ConnectionError(
                    f"there is no connection file {path}, and none came within {seconds:g} s: correct HOLDALL_CONNECTION, or "
                    "start the service that writes it (`holdall serve --write-connection`)"
                ) from None
            yield None

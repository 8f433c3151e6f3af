"""Which service a client is for: an argument wins over the environment, and that over this user's own service."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from holdall import settings
from holdall.errors import AuthError, InvalidError

if TYPE_CHECKING:
    from holdall.connection_file import ConnectionFile


def chosen(url: str | None, connection: str | os.PathLike[str] | None) -> tuple[str | None, Path | None, ConnectionFile | None]:
    """A URL of this machine; or a connection file, and what it says if it is there; or nothing: this user's own service. A URL
    beside a file is the one that the file is to be for.

    Raises InvalidError, AuthError.
    """
    is_argument = url is not None or connection is not None
    url = url or (None if is_argument else os.environ.get("HOLDALL_URL") or None)
    if settings.is_cluster(url):
        if connection is not None or (not is_argument and os.environ.get("HOLDALL_CONNECTION")):
            raise InvalidError("a connection file is for a service of holdall's own: unset HOLDALL_CONNECTION, or HOLDALL_URL")
        return url, None, None
    wanted = None if url is None else settings.url(url)
    if wanted is not None and wanted.startswith("ipc://") and connection is None and is_argument:
        return wanted, None, None
    named = connection or os.environ.get("HOLDALL_CONNECTION") or None
    if named is None:
        if wanted is not None and not wanted.startswith("ipc://"):
            raise AuthError(
                f"{wanted} is reached over a network, which takes a key: set HOLDALL_CONNECTION to a connection file for it "
                "(`holdall keys new NAME > FILE`, where the service is, makes one)"
            )
        return wanted, None, None
    from holdall.connection_file import read

    file = Path(named).absolute()
    try:
        return wanted, file, read(file, wanted)
    except FileNotFoundError:
        return wanted, file, None

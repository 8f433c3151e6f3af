"""What a service has for clients elsewhere: the URLs where it listens for them, its keys, and a connection file."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from pathlib import Path
from urllib.parse import urlsplit

from holdall import settings as defaults
from holdall.connection_file import ConnectionFile
from holdall.errors import Error, InvalidError, StorageError
from holdall.framing import SCHEME
from holdall.process.config import ServiceSettings
from holdall.process.keyring import Keyring
from holdall.roles import Role

ANYWHERE = ("0.0.0.0", "::")


def keyring(data: Path) -> Keyring:
    """The keys of the service on this data directory."""
    return Keyring(data / "keys")


class Ports:
    """Those of one service, whose data has this id; temporary keys are kept with its sockets."""

    def __init__(self, settings: ServiceSettings, data: Path, runtime: Path, layout_id: str) -> None:
        self.urls = [_with_port(defaults.listen_url(each)) for each in settings.listen]
        self._layout_id = layout_id
        self._temporary = runtime / "keys" if settings.temporary_keys else None
        self._file = Path(settings.write_connection) if settings.write_connection else None
        self.keys = str(self._temporary or data / "keys")
        self._elsewhere = [each for each in self.urls if not each.startswith(SCHEME)]
        if self._file is not None and not self._elsewhere:
            raise InvalidError(
                "a connection file is for clients elsewhere: say where they find this service, --listen tcp://HOST:PORT"
            )
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)  # of one that was killed
        self._ring = Keyring(Path(self.keys))
        if self._elsewhere:
            self._ring.note_address(reachable(self._elsewhere[0]))

    def open(self) -> None:
        """The service can be used: write the connection file."""
        if self._file is not None:
            name = f"service-{os.getpid()}"
            with contextlib.suppress(Error):  # a key of an earlier process of this number, that was killed
                self._ring.remove(name)
            try:
                made(self._ring, Role.CLIENT, name, self._layout_id).write(self._file)
            except OSError as error:
                raise StorageError(f"the connection file {self._file} cannot be written: {error.strerror}") from None

    def close(self) -> None:
        """Remove what is for this run alone."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)
            with contextlib.suppress(Error, OSError):  # its data directory has gone, or its keys
                self._ring.remove(f"service-{os.getpid()}")
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)


def made(
    ring: Keyring, role: Role, name: str, layout_id: str, url: str | None = None, expires: float | None = None
) -> ConnectionFile:
    """A connection file for a new key of this name. Raises AlreadyExistsError, InvalidError."""
    where = url or ring.address()
    if where is None:
        raise InvalidError(
            "where do clients find this service? Say --url tcp://HOST:PORT, or serve it first: --listen tcp://HOST:PORT"
        )
    server_key, _secret = ring.server_keys()
    public, secret = ring.add(role, name, expires)
    role_name = role.name.lower()
    return ConnectionFile(
        url=where, server_key=server_key, role=role_name, name=name, public_key=public, secret_key=secret,  # type: ignore[arg-type]
        layout=layout_id, expires=expires,
    )  # fmt: skip


def reachable(url: str) -> str:
    """The URL by which other machines reach who listens at this one."""
    parts = urlsplit(url)
    return defaults.url(f"tcp://{socket.getfqdn()}:{parts.port}") if parts.hostname in ANYWHERE else url


def _with_port(url: str) -> str:
    """The same with a port that is free, if it has none: one that the next broker listens at too."""
    if not url.endswith(":0"):
        return url
    host = urlsplit(url).hostname or ""
    try:
        family, _kind, _protocol, _name, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind(address)
            return f"{url.removesuffix(':0')}:{probe.getsockname()[1]}"
    except OSError as error:
        raise InvalidError(f"cannot listen at {url}: {error.strerror or error}") from None

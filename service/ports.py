"""What a service has for clients elsewhere: the URLs where it listens for them, its keys, and a connection file."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from pathlib import Path
from urllib.parse import urlsplit

from holdall import settings as defaults
from holdall.connection_file import ConnectionFile, read
from holdall.errors import ConnectionError, Error, InvalidError, StorageError
from holdall.framing import SCHEME
from holdall.process.config import ServiceSettings
from holdall.process.keyring import Keyring
from holdall.roles import Role

ANYWHERE = ("0.0.0.0", "::")
OF_SERVICES = "service-"
"""The names of keys that a service makes for its own time begin so."""


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
        shutil.rmtree(runtime / "keys", ignore_errors=True)  # of a service that was killed
        self._ring, self._made = Keyring(Path(self.keys)), ""
        for each in self._elsewhere:
            _probe(each)
        if self._elsewhere:
            self._ring.note_address(reachable(self._elsewhere[0]))
            self._ring.remove_all(OF_SERVICES)

    def open(self) -> None:
        """The service can be used: write the connection file."""
        if self._file is not None:
            file = made(self._ring, Role.CLIENT, f"{OF_SERVICES}{os.getpid()}", self._layout_id)
            try:
                file.write(self._file)
                self._made = file.public_key
            except OSError as error:
                raise StorageError(f"the connection file {self._file} cannot be written: {error.strerror}") from None

    def close(self) -> None:
        """Remove what is for this run alone."""
        with contextlib.suppress(Error, OSError):  # its data directory has gone, or its keys, or the file
            if self._made and self._file is not None:
                self._ring.remove_all(OF_SERVICES)
                if read(self._file).public_key == self._made:  # else another service has made it
                    self._file.unlink()
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
    return ConnectionFile(
        url=where, server_key=server_key, role=role.name.lower(), name=name, public_key=public, secret_key=secret,  # type: ignore[arg-type]
        layout=layout_id, expires=expires,
    )  # fmt: skip


def reachable(url: str) -> str:
    """The URL by which other machines reach who listens at this one."""
    parts = urlsplit(url)
    if parts.hostname not in ANYWHERE:
        return url
    full = socket.getfqdn()
    return defaults.url(f"tcp://{socket.gethostname() if full.startswith('localhost') else full}:{parts.port}")


def _with_port(url: str) -> str:
    """The same with a port that is free, if it has none: one that the next broker listens at too."""
    return f"{url.removesuffix(':0')}:{_probe(url)}" if url.endswith(":0") else url


def _probe(url: str) -> int:
    """The port at which one can listen there. Raises ConnectionError if none can: later the broker tries again by itself."""
    parts = urlsplit(url)
    family = socket.AF_INET6 if ":" in (parts.hostname or "") else socket.AF_INET
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port, family, socket.SOCK_STREAM)[0][4]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(found)
            return int(probe.getsockname()[1])
    except OSError as error:
        raise ConnectionError(f"cannot listen at {url}: {error.strerror or error}") from None

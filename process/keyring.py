"""The keys of a service: its own, and those that it lets in, in the folder `keys` of its data directory.

    server.key    its public key and its secret one, a line each
    address       the URL by which clients elsewhere reach it, as far as it knows
    allowed       a line for each key that may come in:  role name key created expires
                  the key in Z85, times in seconds since 1970, "-": never; what follows a # is a comment

Both are files of this user alone, and are replaced by rename. A broker looks at `allowed` twice a second; one that it cannot
read, or that has a line that is none, changes nothing, and is complained of.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import zmq

from holdall.connection_file import KEY
from holdall.disk import write_durably
from holdall.errors import AlreadyExistsError, AuthError, InvalidError, NotFoundError
from holdall.private import OTHERS, fault, open_own
from holdall.roles import Role
from holdall.settings import is_name

_NEVER = "-"


class Allowed(NamedTuple):
    """A key that may come in: what it may do, what it is called, when it was made, and until when it counts."""

    role: Role
    name: str
    key: str
    created: float
    expires: float | None

    @classmethod
    def of(cls, line: str) -> Allowed:
        """What a line says. Raises ValueError."""
        role, name, key, created, expires = line.split()
        if not is_name(name) or not KEY.fullmatch(key):
            raise ValueError("a name, or a key, that is none")
        return cls(Role[role.upper()], name, key, float(created), None if expires == _NEVER else float(expires))

    @property
    def line(self) -> str:
        expires = _NEVER if self.expires is None else f"{self.expires:.3f}"
        return f"{self.role.name.lower()} {self.name} {self.key} {self.created:.0f} {expires}\n"

    @property
    def has_expired(self) -> bool:
        return self.expires is not None and self.expires <= time.time()


class Keyring:
    """The keys in this folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "allowed"

    def server_keys(self) -> tuple[str, str]:
        """The service's public and secret key; they are made the first time. Raises AuthError."""
        file = self._folder / "server.key"
        with self._locked():
            if not file.exists():
                write_durably(file, b"\n".join(zmq.curve_keypair()) + b"\n")
            try:
                public, secret = self._text(file).split()
            except ValueError:
                raise AuthError(f"{file} is not the service's key: restore it, or remove it and all connection files") from None
            return public, secret

    def note_address(self, url: str) -> None:
        """Clients elsewhere reach the service at this URL."""
        with self._locked():
            write_durably(self._folder / "address", url.encode())

    def address(self) -> str | None:
        """The URL that was noted last."""
        file = self._folder / "address"
        return self._text(file) if file.exists() else None

    def allowed(self) -> list[Allowed]:
        """The keys that may come in, in the order in which they were made. Raises AuthError, InvalidError."""
        found: list[Allowed] = []
        for number, line in enumerate(self._text(self._file).splitlines() if os.path.lexists(self._file) else [], 1):
            if line.strip() and not line.startswith("#"):
                try:
                    found.append(Allowed.of(line.partition(" #")[0]))
                except (ValueError, KeyError):
                    raise InvalidError(f"line {number} of {self._file} is no key: role name key created expires") from None
        return found

    def stamp(self) -> object:
        """Another one after each change of what is allowed, and of who may read it."""
        try:
            found = os.stat(self._file)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size

    def add(self, role: Role, name: str, expires: float | None = None) -> tuple[str, str]:
        """Let a new key in. Returns its public and its secret half, which is kept nowhere. Raises AlreadyExistsError."""
        if not is_name(name):
            raise InvalidError(f"Invalid name {name!r} of a key: 1 to 64 letters, digits, '-', '_' and '.'")
        public, secret = (each.decode() for each in zmq.curve_keypair())
        with self._locked():
            allowed = self.allowed()
            if any(each.name == name for each in allowed):
                raise AlreadyExistsError(f"there is a key {name!r} already: remove it first, or take another name")
            self._write([*allowed, Allowed(role, name, public, time.time(), expires)])
        return public, secret

    def remove(self, name: str) -> None:
        """Let this key in no more; its connections end within a second. Raises NotFoundError."""
        with self._locked() if self._file.exists() else contextlib.nullcontext():
            allowed = self.allowed()
            if all(each.name != name for each in allowed):
                raise NotFoundError(f"there is no key {name!r}: `holdall keys list` shows which there are")
            self._write([each for each in allowed if each.name != name])

    def remove_all(self, beginning: str) -> None:
        """Let no key in any more whose name begins so."""
        with self._locked():
            self._write([each for each in self.allowed() if not each.name.startswith(beginning)])

    def _write(self, allowed: list[Allowed]) -> None:
        write_durably(self._file, "".join(each.line for each in allowed).encode())

    def _text(self, file: Path) -> str:
        try:
            with open(file, opener=open_own) as opened:
                if os.fstat(opened.fileno()).st_mode & OTHERS:
                    raise AuthError(f"{file} can be read or changed by others: chmod 600 {file}")
                return opened.read()
        except (OSError, ValueError) as error:  # it is no text, for example
            raise AuthError(f"{file} cannot be used: {error}") from None

    @contextmanager
    def _locked(self) -> Generator[None, None, None]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if why := fault(self._folder, OTHERS):
            raise AuthError(f"keys cannot be kept in {self._folder}: {why}")
        with open(self._folder / "lock", "w", opener=open_own) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

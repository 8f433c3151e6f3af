"""`holdall keys …`: who may come in from elsewhere."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from holdall import settings
from holdall.errors import InvalidError
from holdall.private import OTHERS
from holdall.process.child import be_private
from holdall.roles import Role
from holdall.service.ports import OF_SERVICES, keyring, made
from holdall.worker.directory.opening import DataDirectory

from .storage import data_option

_ROLES = [each.name.lower() for each in Role]


@click.group("keys", epilog="Example: holdall keys new laptop > laptop.holdall")
def keys_group() -> None:
    """Keys of clients on other machines."""


@keys_group.command(epilog="Example: holdall keys new laptop --role reader > laptop.holdall")
@click.argument("name")
@data_option
@click.option("--role", type=click.Choice(_ROLES), default=_ROLES[0], show_default=True, help="Use Dicts, read them, or all.")
@click.option("--url", metavar="URL", help="Where clients find the service.  [default: where it listened last]")
@click.option("--days", type=click.IntRange(1, 36_500), help="For how long.  [default: until it is removed]")
def new(name: str, data: Path, role: str, url: str | None, days: int | None) -> None:
    """Let a new key in, and print its connection file.

    It is kept nowhere else: send it to a file that only its user can read. There, HOLDALL_CONNECTION names it, and that is all.
    """
    directory = DataDirectory(data)
    directory.make()
    layout_id = directory.layout().id if (directory.path / "layout.json").exists() else ""
    expires = None if days is None else time.time() + days * 86_400
    where = None if url is None else settings.url(url)
    if name.startswith(OF_SERVICES):
        raise InvalidError(f"names that begin with {OF_SERVICES} are those of keys that a service makes for its own time")
    if where is not None and where.startswith("ipc://"):
        raise InvalidError(f"{where} is on this machine, where no key is asked for: say tcp://HOST:PORT")
    be_private()
    shared = _shared_output()
    ring = keyring(directory.path)
    made_file = made(ring, Role[role.upper()], name, layout_id, where, expires)
    try:
        if shared is not None:
            made_file.write(shared)
        else:
            click.echo(msgspec.json.encode(made_file).decode())
            sys.stdout.flush()
    except BaseException:
        ring.remove(name)  # nobody has it
        raise
    if sys.stdout.isatty():
        click.echo("this is a secret: `holdall keys new … > FILE`, and chmod 600 FILE", err=True)


def _shared_output() -> Path | None:
    """The file that the shell has made for what is printed, if others may have opened it: to be replaced by one of this user's
    alone. Raises InvalidError if it cannot be.
    """
    with contextlib.suppress(OSError):  # there is no output
        found = os.fstat(sys.stdout.fileno())
        if stat.S_ISREG(found.st_mode) and found.st_mode & OTHERS:
            with contextlib.suppress(OSError):
                path = Path(os.readlink(f"/proc/self/fd/{sys.stdout.fileno()}"))
                if found.st_size == 0 and os.path.samestat(found, os.lstat(path)):
                    return path
            raise InvalidError("others can read the file that this is written to: `umask 077` first, and then to a new file")
    return None


@keys_group.command("list", epilog="Example: holdall keys list --json")
@data_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a line each.")
def list_keys(data: Path, as_json: bool) -> None:
    """Show who may come in."""
    found = keyring(DataDirectory(data).path).allowed()
    if as_json:
        for each in found:
            click.echo(json.dumps({**each._asdict(), "role": each.role.name.lower()}))
        return
    table = Table("name", "role", "key", "created", "expires")
    for each in found:
        created, until = (str(datetime.fromtimestamp(at, UTC).astimezone())[:16] for at in (each.created, each.expires or 0))
        expires = "never" if each.expires is None else f"{until} (over)" if each.has_expired else until
        table.add_row(each.name, each.role.name.lower(), each.key, created, expires)
    Console().print(table)


@keys_group.command(epilog="Example: holdall keys remove laptop")
@click.argument("name")
@data_option
def remove(name: str, data: Path) -> None:
    """Let a key in no more; its connections end within a second."""
    keyring(DataDirectory(data).path).remove(name)

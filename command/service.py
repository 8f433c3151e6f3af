"""`holdall status` and `holdall stop`: which service there is, and its end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import click
from msgspec import to_builtins
from rich.console import Console
from rich.table import Table

from holdall import Client, Dict, settings
from holdall.client.operations.catalog import statistics
from holdall.errors import StorageError
from holdall.service.keeper import STOP_SECONDS
from holdall.worker.directory.locks import LOCK_RETRY_SECONDS, Holder
from holdall.worker.directory.opening import DataDirectory

from .storage import data_option, running_client


class _Own(NamedTuple):
    """The service of this user: its data directory and engine, its process, since when, how much is on the disk."""

    data: Path
    engine: str
    holder: Holder
    since: datetime
    bytes: int

    @classmethod
    def of(cls, client: Client) -> _Own | None:
        """None: the service is another one, at a URL."""
        directory = DataDirectory(settings.data_directory())
        holder = directory.holder()
        if holder is None or not client.is_local:
            return None
        since = datetime.fromtimestamp((directory.path / "lock").stat().st_mtime)
        engine = directory.layout().engine
        return cls(directory.path, engine, holder, since, sum(map(_bytes_on_disk, directory.path.rglob("*"))))

    def __str__(self) -> str:
        size = f"{self.bytes / 2**20:,.1f} MiB in {self.data} ({self.engine})"
        return f"{self.holder}, since {self.since:%Y-%m-%d %H:%M:%S}, with {size}"


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(as_json: bool) -> None:
    """Show the service that clients here use: HOLDALL_URL, or this user's own. It is not started for this."""
    client = running_client()
    dicts = Dict.objects.list()
    workers = client.roster.workers
    counted = client.run(statistics(client))
    own = _Own.of(client)
    if as_json:
        told = {"dicts": len(dicts), "workers": to_builtins(workers), "statistics": counted}
        if own is not None:
            about = {"data": str(own.data), "log": str(own.data / "service.log"), "engine": own.engine, "bytes": own.bytes}
            told |= {"pid": own.holder.pid, "version": own.holder.version, "since": own.since.isoformat(), **about}
        click.echo(json.dumps({"url": client.address, **told}))
        return
    console = Console()
    what = f"{_count(len(workers), 'worker')}, {_count(len(dicts), 'Dict')}"
    console.print(f"{client.address}: {what}", soft_wrap=True, highlight=False)
    if own is not None:
        console.print(f"{own}; its log is {own.data / 'service.log'}; `holdall stop` ends it", soft_wrap=True, highlight=False)
    table = Table("worker", "slots", "entries", "requests", "expired", "swept")
    for column in table.columns[2:]:
        column.justify = "right"
    for each, counters in zip(workers, counted, strict=True):
        counts = (f"{counters.get(name, 0):,}" for name in ("entries", "handled", "expired_entries", "swept_rows"))
        table.add_row(str(each.index), f"{each.first_slot} to {each.end_slot - 1}", *counts)
    console.print(table)


@click.command()
@data_option
def stop(data: Path) -> None:
    """End the service on a data directory. The data stays; the next call of a client starts another service.

    Calls that are under way end in order. What was acknowledged survives a power cut then, whatever the sync mode.
    """
    directory = DataDirectory(data)
    holder = directory.holder()
    if holder is None or not directory.is_held:
        click.echo(f"no service runs on {directory.path}")
        sys.exit(1)
    if holder.url is None and holder.version is not None:
        raise StorageError(f"the data directory {directory.path} is in use by {holder}, which is no service")
    with contextlib.suppress(ProcessLookupError):  # it has just ended
        os.kill(holder.pid, signal.SIGTERM)
    until = time.monotonic() + 2 * STOP_SECONDS
    while directory.is_held and directory.holder() == holder:
        if time.monotonic() > until:
            raise StorageError(f"{holder} on {directory.path} does not end: see {directory.path / 'service.log'}")
        time.sleep(LOCK_RETRY_SECONDS)
    click.echo(f"{holder} has ended; its data stays in {directory.path}")


def _bytes_on_disk(file: Path) -> int:
    try:
        return file.lstat().st_blocks * 512
    except OSError:  # it was removed meanwhile
        return 0


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' if number != 1 else ''}"

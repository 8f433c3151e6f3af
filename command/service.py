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
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from holdall import Dict, settings
from holdall.client.operations.catalog import statistics, this_user
from holdall.errors import StorageError
from holdall.process.config import BrokerSettings, WorkerSettings
from holdall.service.keeper import STOP_SECONDS
from holdall.worker.directory.locks import LOCK_RETRY_SECONDS
from holdall.worker.directory.opening import DataDirectory

from .storage import count, data_option, running_client


@click.command(epilog="Example: holdall status --json | jq .pid")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(as_json: bool) -> None:
    """Show the service at HOLDALL_URL, or this user's own if it runs."""
    client = running_client()
    dicts = Dict.objects.list()
    workers = client.roster.workers
    counted = client.run(statistics(client))
    told = {"url": client.address, "user": this_user(), "lanes": client.passes_files, "dicts": len(dicts)}
    own = _own() if client.is_local else {}
    if as_json:
        click.echo(json.dumps({**told, "workers": msgspec.to_builtins(workers), "statistics": counted, **own}))
        return
    console = Console()
    what = f"{count(len(workers), 'worker')}, {count(len(dicts), 'Dict')}"
    ways = f"you are {told['user']}, and reach it {'by lanes, and' if client.passes_files else 'only'} by its broker"
    console.print(f"{client.address}: {what}; {ways}", soft_wrap=True, highlight=False)
    pids = own.get("processes", {})
    if own:
        until = f"ends {own['idle_seconds']:.0f} s after the last request" if own["idle_seconds"] else "runs till it is stopped"
        size = f"{own['bytes'] / 2**20:,.1f} MiB ({own['engine']})"
        kept = f"{size} in {own['data']}, sync {own['sync']}; its log is {own['log']}"
        what = f"process {own['pid']} of holdall {own['version']}, broker {pids.get('broker')}, since {own['since']}"
        console.print(f"{what}; it {until}, or by `holdall stop`\n{kept}", soft_wrap=True, highlight=False)
    table = Table("worker", "process", "slots", "entries", "requests", "expired", "swept")
    for column in table.columns[3:]:
        column.justify = "right"
    for each, counters in zip(workers, counted, strict=True):
        counts = (f"{counters.get(name, 0):,}" for name in ("entries", "handled", "expired_entries", "swept_rows"))
        pid = str(pids.get(f"worker {each.index}", ""))
        table.add_row(str(each.index), pid, f"{each.first_slot} to {each.end_slot - 1}", *counts)
    console.print(table)


@click.command(epilog="Example: holdall stop")
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


def processes(directory: DataDirectory) -> dict[str, tuple[int, BrokerSettings | WorkerSettings]]:
    """The broker and the workers of a service, where the system lists children: their ids, and how they were started."""
    found: dict[str, tuple[int, BrokerSettings | WorkerSettings]] = {}
    holder = directory.holder()
    for children in Path("/proc").glob(f"{holder.pid if holder else 0}/task/*/children"):
        for pid in children.read_text().split():
            with contextlib.suppress(OSError, ValueError, msgspec.MsgspecError):  # it has just ended, or is another one
                _, _, module, given, *_ = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
                settings = msgspec.json.decode(given, type=BrokerSettings if module == "holdall.broker" else WorkerSettings)
                found[settings.process] = int(pid), settings
    return dict(sorted(found.items()))


def _own() -> dict[str, Any]:
    """What is known of this user's own service."""
    directory = DataDirectory(settings.data_directory())
    holder = directory.holder()
    if holder is None:
        return {}
    running = processes(directory)
    broker, worker = (running.get(name, (0, None))[1] for name in ("broker", "worker 0"))
    return {
        "pid": holder.pid,
        "version": holder.version,
        "since": datetime.fromtimestamp((directory.path / "lock").stat().st_mtime).isoformat(" ", "seconds"),
        "idle_seconds": broker.idle_seconds if isinstance(broker, BrokerSettings) else None,
        "engine": directory.layout().engine,
        "sync": worker.sync if isinstance(worker, WorkerSettings) else None,
        "data": str(directory.path),
        "bytes": sum(map(_bytes_on_disk, directory.path.rglob("*"))),
        "log": str(directory.path / "service.log"),
        "processes": {name: pid for name, (pid, _settings) in running.items()},
    }


def _bytes_on_disk(file: Path) -> int:
    try:
        return file.lstat().st_blocks * 512
    except OSError:  # it was removed meanwhile
        return 0

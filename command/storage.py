"""`holdall check`, `backup` and `restore`: what is on disk, looked at and kept safe."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec import to_builtins
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from holdall import Client, settings
from holdall.errors import ConnectionError, StorageError
from holdall.worker.directory.opening import DataDirectory

if TYPE_CHECKING:
    from holdall.worker.directory.check import Finding, Part  # other commands need not load it

data_option = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=settings.data_directory,
    show_default="HOLDALL_DATA, or this user's data directory",
    help="The data directory.",
)
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(epilog="Example: holdall check /var/lib/me/kv --json")
@click.argument("data", type=click.Path(file_okay=False, path_type=Path), default=settings.data_directory)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(data: Path, as_json: bool) -> None:
    """Read a whole data directory and say what is damaged.

    That is DATA, or HOLDALL_DATA, or this user's. No service may run on it (holdall stop). Nothing is repaired. Exit status 1
    if there is damage.
    """
    from holdall.worker.directory.check import check_directory

    directory = DataDirectory(data)
    try:
        engine = directory.layout().engine  # a directory that is none is not made one by locking it
        lock = directory.lock()
        try:
            parts = _shown(check_directory(directory), as_json)
        finally:
            lock.release()
    except StorageError as error:
        if as_json:
            click.echo(json.dumps({"data": str(directory.path), "refused": str(error)}))
        raise
    findings = [(part, finding) for part in parts for finding in part.findings]
    if as_json:
        told = {"data": str(directory.path), "engine": engine, "workers": [_as_json(part) for part in parts]}
        click.echo(json.dumps(told, indent=2))
    else:
        _print(f"{directory.path} ({engine})", parts, findings)
    if findings:
        sys.exit(1)


@click.command(epilog="Example: holdall backup kv-monday.backup")
@click.argument("file", type=_FILE)
@click.option("--url", metavar="URL", help="The service.  [default: HOLDALL_URL, or this user's own]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def backup(file: Path, url: str | None, as_json: bool) -> None:
    """Write a consistent copy of a running service to FILE, a new file. Writes wait for some milliseconds when it begins."""
    from holdall.client.operations.backup import Backup, back_up

    with _bar(as_json) as progress:
        task = progress.add_task("backup", total=None)

        def show(made: Backup) -> None:
            expected = max(made.rows_expected, made.rows) or None
            progress.update(task, completed=made.rows, total=expected, description=_size(made.rows, made.bytes))

        made = back_up(running_client(url), file, show)
    if as_json:
        click.echo(json.dumps(to_builtins(made)))
    else:
        click.echo(f"{file}: {count(made.workers, 'worker')}, {_size(made.rows, made.bytes)}")


@click.command(epilog="Example: holdall restore kv-monday.backup --data /var/lib/me/kv")
@click.argument("file", metavar="BACKUP", type=_FILE)
@data_option
@click.option("--workers", type=click.IntRange(1), help="For how many.  [default: as many as the backup is of]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def restore(file: Path, data: Path, workers: int | None, as_json: bool) -> None:
    """Make a data directory of a backup, in a place that has none."""
    from holdall.worker.directory.restore import Restored
    from holdall.worker.directory.restore import restore as run

    directory = DataDirectory(data)
    with _bar(as_json) as progress:
        task = progress.add_task("restore", total=None)

        def show(done: Restored) -> None:
            what = f"{count(done.rows, 'row')} written" if done.rows else "verifying"
            progress.update(task, completed=done.bytes, total=done.bytes_in_all, description=what)

        done = run(file, directory, show, workers)
    if as_json:
        click.echo(json.dumps({"data": str(directory.path), **to_builtins(done)}))
    else:
        made_at = datetime.fromtimestamp(done.made_at).isoformat(" ", "seconds")
        click.echo(f"{directory.path}: {count(done.workers, 'worker')}, {count(done.rows, 'row')}, as of {made_at}")


def running_client(url: str | None = None) -> Client:
    """A client of the service at this URL, or of the one that clients here use, which is not started for this."""
    client = Client(url) if url else Client.from_env()
    if client.is_local and not client.finds_service():
        raise ConnectionError(f"no service runs at {client.address}: the first call of a client starts it, or `holdall serve`")
    return client


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun if number == 1 else f'{noun[:-1]}ies' if noun.endswith('y') else f'{noun}s'}"


def _bar(as_json: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=as_json)


def _size(rows: int, size: int) -> str:
    return f"{count(rows, 'row')}, {size / 2**20:,.1f} MiB"


def _shown(read: Iterator[Part], as_json: bool) -> list[Part]:
    parts: dict[int, Part] = {}
    columns = (SpinnerColumn(), TextColumn("worker {task.fields[worker]}: {task.completed:,.0f} rows"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=as_json) as progress:
        task = progress.add_task("", worker=0, total=None)
        for part in read:
            parts[part.index] = part
            progress.update(task, worker=part.index, completed=part.rows)
    return list(parts.values())


def _as_json(part: Part) -> dict[str, object]:
    counts = {name: getattr(part, name) for name in ("rows", "bytes", "dicts", "entries")}
    return {"worker": part.index, **counts, "findings": [finding._asdict() for finding in part.findings]}


def _print(title: str, parts: list[Part], findings: list[tuple[Part, Finding]]) -> None:
    console = Console()
    table = Table("worker", "rows", "MiB", "Dicts", "entries", "findings", title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    for part in parts:
        mib = f"{part.bytes / 2**20:,.1f}"
        counts = (f"{part.rows:,}", mib, f"{part.dicts:,}", f"{part.entries:,}", str(len(part.findings)))
        table.add_row(str(part.index), *counts)
    console.print(table)
    for part, finding in findings:
        console.print(f"worker {part.index}: {finding.place}: {finding.what}", markup=False, highlight=False, soft_wrap=True)
    if findings:
        console.print("Restore a backup. Until then: a worker refuses what is damaged, and serves the rest.")

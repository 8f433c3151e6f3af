"""`holdall check`, and soon `backup` and `restore`: what is on disk, looked at and kept safe."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from holdall import settings
from holdall.worker.directory import DataDirectory

if TYPE_CHECKING:
    from holdall.worker.check import Finding, Part  # it loads LevelDB, which other commands need not have

DAMAGED = 1


@click.command()
@click.argument("data", type=click.Path(file_okay=False, path_type=Path), default=settings.data_directory)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(data: Path, as_json: bool) -> None:
    """Read everything in the data directory DATA (by default HOLDALL_DATA, or this user's) and say what is damaged.

    No service may run on it. Nothing is repaired. Exit status 1 if there is damage.
    """
    from holdall.worker.check import check_directory

    directory = DataDirectory(data)
    directory.layout()  # a directory that is none is not made one by locking it
    lock = directory.lock()
    try:
        parts = _shown(check_directory(directory), as_json)
    finally:
        lock.release()
    findings = [(part, finding) for part in parts for finding in part.findings]
    if as_json:
        click.echo(json.dumps({"data": str(directory.path), "workers": [_as_json(part) for part in parts]}, indent=2))
    else:
        _print(directory, parts, findings)
    if findings:
        sys.exit(DAMAGED)


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


def _print(directory: DataDirectory, parts: list[Part], findings: list[tuple[Part, Finding]]) -> None:
    console = Console()
    table = Table("worker", "rows", "MiB", "Dicts", "entries", "findings", title=str(directory.path))
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

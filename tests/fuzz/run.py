"""Attack the sockets of a service, each with so many hostile messages, and report.

python -m tests.fuzz.run --frames 10000000 [--seed N] [--socket all|broker|workers|worker]
"""

from __future__ import annotations

import sys
from functools import partial

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from tests.fuzz.attack import SOCKETS, Report, attack


@click.command()
@click.option("--frames", type=click.IntRange(1), default=100_000, show_default=True, help="Messages to each socket.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--socket", "at", type=click.Choice(["all", *SOCKETS]), default="all", show_default=True)
def main(frames: int, seed: int, at: str) -> None:
    """Flood a service with hostile messages while others use it: nothing dies, nothing grows, nobody gets a wrong value."""
    console = Console()
    reports: list[Report] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        for each in SOCKETS if at == "all" else (at,):
            task = progress.add_task(each, total=frames)
            reports.append(attack(each, frames, seed, partial(_advance, progress, task)))
    for report in reports:
        _show(console, report)
    if any(report.faults for report in reports):
        sys.exit("not withstood")


def _advance(progress: Progress, task: TaskID, sent: int) -> None:
    progress.update(task, completed=sent)


def _show(console: Console, report: Report) -> None:
    rate = report.messages / report.seconds
    console.print(
        f"\n[bold]{report.at}[/bold]: {report.messages:,} messages of {report.frames:,} frames "
        f"and {report.strangers:,} strangers in {report.seconds:.0f} s, {rate:,.0f} messages/s; "
        f"{report.log_bytes:,} bytes of log"
    )
    table = Table("process", "before", "warm, most", "later, most", "at the end", title="resident MiB", title_justify="left")
    for growth in report.growths:
        table.add_row(growth.process, *(f"{size >> 20}" for size in growth[1:]))
    console.print(table)
    for each in report.testimonies:
        console.print(f"{each.kind}: {each.calls:,} calls, the slowest {each.slowest_seconds:.2f} s, {each.timeouts} timed out")
    for fault in report.faults:
        console.print(fault, style="red", markup=False)


if __name__ == "__main__":
    main()

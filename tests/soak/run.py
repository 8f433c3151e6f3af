"""Check real processes while they fail, as a seed decides. The exit status is 1 when something promised was broken.

python -m tests.soak.run --seed 7 --operations 100000 --clients 8 --faults 200
python -m tests.soak.run --seconds 3600
python -m tests.soak.run --no-lanes

A seed decides which calls are made and which faults come in which order; the machine decides when exactly.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from holdall import settings
from tests.simulation.simulation import Violation
from tests.small_disk import small_disk
from tests.soak import report
from tests.soak.soak import Plan, Soak

DISK_MIB = 512
"""Room for the data, for each worker's reserve, and for what a worker leaves free."""
TOLD_EVERY_SECONDS = 15.0
"""Where progress is written line by line, not drawn."""


@click.command()
@click.option("--seed", type=int, default=lambda: int(time.time()), show_default="the time", help="Decides calls and faults.")
@click.option("--operations", type=click.IntRange(1), default=100_000, show_default=True, help="Answered calls, at least.")
@click.option(
    "--faults", type=click.IntRange(1), default=200, show_default=True, help="Faults, at least, spread over the calls."
)
@click.option("--seconds", type=click.FloatRange(1), help="Run so long, whatever the number of calls and faults.")
@click.option("--clients", type=click.IntRange(1), default=8, show_default=True, help="Client processes.")
@click.option("--workers", type=click.IntRange(1, 8), default=3, show_default=True, help="Of the service.")
@click.option("--sync", type=click.Choice(["always", "interval", "off"]), default="always", show_default=True)
@click.option(
    "--lanes/--no-lanes",
    default=settings.lanes,
    show_default="HOLDALL_LANES, or else lanes",
    help="Whether clients have lanes, or everything goes through the broker.",
)
@click.option(
    "--hosts", type=click.IntRange(0), default=0, help="Clients are on so many other hosts, behind cables.  [default: 0]"
)
@click.option("--stop-seconds", type=float, default=5.0, show_default=True, help="How long a process is stopped at most.")
@click.option("--late-seconds", type=float, default=1.0, show_default=True, help="By how much a call may overrun its timeout.")
@click.option("--directory", type=click.Path(exists=True, path_type=Path), help="For the data; a small disk by default.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def main(directory: Path | None, as_json: bool, **options: object) -> None:
    """Check a service under kill -9, SIGSTOP, restarts and a full disk, with clients in processes of their own."""
    plan = Plan(**options)  # type: ignore[arg-type]
    console = Console(stderr=as_json)
    scratch = Path(tempfile.mkdtemp(prefix="soak-"))
    os.environ["XDG_RUNTIME_DIR"] = str(scratch / "run")
    data = Path(tempfile.mkdtemp(prefix="data-", dir=directory or scratch))
    (scratch / "run").mkdir(mode=0o700)
    violation = ""
    with ExitStack() as stack:
        can_be_full = directory is None
        if can_be_full:
            try:
                stack.enter_context(small_disk(data, DISK_MIB))
            except PermissionError as error:
                can_be_full = False
                console.print(f"the disk will not be full: {error}", style="yellow")
        told = _Told(console, plan)
        soak = Soak(plan, data, scratch, can_be_full=can_be_full, tell=told.tell)
        with told.progress:
            try:
                soak.run()
            except Violation as found:
                violation = str(found)
                shutil.copytree(data, scratch / "found", ignore=shutil.ignore_patterns("reserve", "ballast"))
    if as_json:
        click.echo(report.as_json(soak, violation))
    else:
        report.print_tables(console, soak, violation)
    if violation:
        console.print(f"the logs, and the data as it was then: {scratch}", highlight=False)
        sys.exit(1)
    for folder in (data, scratch):
        shutil.rmtree(folder)


class _Told:
    """The progress of a run, drawn on a terminal, line by line elsewhere."""

    def __init__(self, console: Console, plan: Plan) -> None:
        self.progress = Progress(
            TextColumn(f"seed {plan.seed}"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console
        )
        self._task = self.progress.add_task("", total=plan.seconds or plan.operations)
        self._console = console
        self._told_at = time.monotonic()

    def tell(self, soak: Soak) -> None:
        """How far it is."""
        ledger = soak.ledger
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(soak.faults.counts.items()))
        faults = f"{soak.faults.counts.total()} faults ({kinds})"
        text = f"{ledger.answered:,} answered, {ledger.unknown:,} unknown, {len(ledger.values)} generations judged, {faults}"
        self.progress.update(self._task, description=text, completed=ledger.seconds() if soak.plan.seconds else ledger.answered)
        if not self._console.is_terminal and time.monotonic() > self._told_at + TOLD_EVERY_SECONDS:
            self._told_at = time.monotonic()
            self._console.print(f"{ledger.seconds():6.0f} s: {text}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    main()

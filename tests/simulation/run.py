"""Run the simulator: one seed with its history, or many with a summary.

python -m tests.simulation.run --seed 7 [--trace]
python -m tests.simulation.run --seeds 0:10000
"""

from __future__ import annotations

import sys
import time
from collections import Counter

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.simulation.simulation import Simulation, Violation

SHOWN_MAX = 20
"""Failing seeds named one by one in a summary."""


@click.command()
@click.option("--seed", type=int, help="Run this seed alone, and tell its whole history.")
@click.option("--seeds", help="Run many: FIRST:END.")
@click.option("--trace", is_flag=True, help="With --seed: tell of every message too.")
def main(seed: int | None, seeds: str | None, trace: bool) -> None:
    """Simulate the service and its clients, and check what they promise."""
    console = Console()
    if seed is not None:
        simulation = Simulation(seed, traced=trace)
        try:
            simulation.run()
        except Violation as violation:
            sys.exit(str(violation))
        print(f"{simulation.scenario}\n\n{simulation.history}\n\nseed {seed} holds")
        return
    first, end = _range(seeds or "0:1000")
    failed, calls, seconds = _run(first, end, console)
    rate = f"{(end - first) / seconds:.0f} seeds/s" if seconds else ""
    console.print(f"{end - first} seeds, {sum(calls.values())} calls, {seconds:.1f} s, {rate}")
    console.print(", ".join(f"{count} {what}" for what, count in calls.most_common()))
    for number, text in failed[:SHOWN_MAX]:
        console.print(f"seed {number}: {text}", style="red", markup=False)
    if failed:
        sys.exit(f"{len(failed)} seeds failed: run one with --seed N")


def _run(first: int, end: int, console: Console) -> tuple[list[tuple[int, str]], Counter[str], float]:
    failed: list[tuple[int, str]] = []
    calls: Counter[str] = Counter()
    columns = (
        TextColumn("seeds"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]}"),
    )
    started = time.perf_counter()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=end - first, failed="")
        for seed in range(first, end):
            simulation = Simulation(seed)
            try:
                simulation.run()
            except Violation as violation:
                failed.append((seed, str(violation).split("\n", 1)[0].removeprefix(f"seed {seed}: ")))
            calls.update(call.why.split(":")[0] or "answered" for call in simulation.history.calls)
            progress.update(task, advance=1, failed=f"{len(failed)} failed" if failed else "")
    return failed, calls, time.perf_counter() - started


def _range(text: str) -> tuple[int, int]:
    try:
        first, end = map(int, text.split(":"))
    except ValueError:
        raise click.BadParameter(f"--seeds takes FIRST:END, not {text!r}") from None
    return first, end


if __name__ == "__main__":
    main()

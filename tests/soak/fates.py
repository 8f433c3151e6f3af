"""A data directory is removed, moved, replaced, restored over, at many random moments of a service under load.

python -m tests.soak.fates [--times 100] [--seed 0]
"""

from __future__ import annotations

import os
import traceback
from random import Random

import click
from rich.console import Console
from rich.progress import track

from tests.faults.fates import FATES, befalls, filled_place

SECONDS_MAX = 2.0


@click.command()
@click.option("--times", type=click.IntRange(min=1), default=100, show_default=True, help="Of each fate.")
@click.option("--seed", default=0, show_default=True)
@click.option("--fate", "named", type=click.Choice([fate.__name__ for fate in FATES]), multiple=True, help="Only this one.")
def main(times: int, seed: int, named: tuple[str, ...]) -> None:
    """Nothing acknowledged is lost, nothing is written into what takes the place, every call ends in time with the reason."""
    os.environ.pop("HOLDALL_URL", None)
    random = Random(f"fates {seed}")
    console = Console()
    fates = [fate for fate in FATES if not named or fate.__name__ in named]
    failures: list[str] = []
    for number in track(range(times * len(fates)), "fates", console=console):
        fate, seconds = fates[number % len(fates)], random.uniform(0, SECONDS_MAX)
        try:
            with filled_place() as place:
                befalls(place, fate, seconds)
        except Exception as error:
            failures.append(f"{fate.__name__} after {seconds:.3f} s (number {number + 1}): {error!r}")
            console.print(failures[-1], traceback.format_exc(), markup=False)
    console.print(f"{times} times each: {', '.join(fate.__name__ for fate in fates)}; {len(failures)} violations")
    raise SystemExit(bool(failures))


if __name__ == "__main__":
    main()

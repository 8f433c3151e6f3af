"""How long clients notice that a process of the service was killed: the longest pause between two answers of each client.

python -m tests.soak.recovery [--gibibytes 1]

Each client gets and puts without pause, by lanes or relayed. The broker is killed, and a worker with so much in its store.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import tempfile
import time
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table

from holdall import Client, Dict, LocalService
from tests.processes import process_ids, until

CLIENTS = 8
WORKERS = 2
VALUE_BYTES = 100_000
ENTRIES_PER_UPDATE = 100
LOAD_SECONDS = 3.0
"""How long clients work before the kill, and after the new process is there."""
GOAL_SECONDS = {"broker": 2.0, "worker": 3.0}


def work(url: str, lanes: bool, number: int, begun: Any, stop: Any, pauses: Any) -> None:
    """Call until told to stop; say how long the longest pause was, and how many calls there were."""
    random = Random(number)
    with Client(url, lanes=lanes) as client:
        d: Dict[Any, Any] = Dict.from_name("kv", client=client)
        d[number, 0] = 0
        begun.release()
        longest, calls, last = 0.0, 0, time.monotonic()
        while not stop.is_set():
            key = (number, random.randrange(1_000))
            d[key] = calls
            assert d[key] == calls
            now = time.monotonic()
            longest, last, calls = max(longest, now - last), now, calls + 1
    pauses.put((longest, calls))


def name_of(pid: str) -> str:
    """What this process of a service is."""
    argv = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return argv[2].removeprefix("holdall.") if argv[1:2] == ["-m"] else ""


def kill(data: Path, victim: str) -> None:
    """Kill the broker, or the first worker, and wait for another one."""
    before = process_ids(data)
    os.kill(int(next(pid for pid in before[1:] if name_of(pid) == victim)), signal.SIGKILL)
    until(lambda: len({*process_ids(data)} - {*before}) == 1)


def pauses_when_killed(service: LocalService, data: Path, victim: str, *, lanes: bool) -> list[float]:
    """The longest pause of each client."""
    spawn = multiprocessing.get_context("spawn")
    begun, stop, pauses = spawn.Semaphore(0), spawn.Event(), spawn.Queue()
    clients = [spawn.Process(target=work, args=(service.url, lanes, number, begun, stop, pauses)) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    for _ in clients:
        begun.acquire()
    time.sleep(LOAD_SECONDS)
    kill(data, victim)
    time.sleep(LOAD_SECONDS)
    stop.set()
    found = [pauses.get()[0] for _ in clients]
    for client in clients:
        client.join()
    return found


@click.command()
@click.option("--gibibytes", type=float, default=1.0, show_default=True, help="In the store of each worker.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def main(gibibytes: float, rounds: int, as_json: bool) -> None:
    """Kill, and see how long clients notice."""
    console = Console(stderr=as_json)
    updates = int(gibibytes * 2**30 * WORKERS / VALUE_BYTES / ENTRIES_PER_UPDATE)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="holdall-recovery-") as folder:
        data = Path(folder) / "data"
        with LocalService(data, workers=WORKERS) as service, Client(service.url) as client:
            d: Dict[Any, Any] = Dict.from_name("kv", create_if_missing=True, client=client)
            for update in track(range(updates), f"storing {gibibytes:g} GiB in each worker", console=console):
                d.update({("filler", update, entry): os.urandom(VALUE_BYTES) for entry in range(ENTRIES_PER_UPDATE)})
            for victim, lanes in (("broker", True), ("broker", False), ("worker", True), ("worker", False)):
                found = [pauses_when_killed(service, data, victim, lanes=lanes) for _ in range(rounds)]
                medians, longest = [median(each) for each in found], max(map(max, found))
                row: dict[str, Any] = {
                    "killed": victim,
                    "route": "by lane" if lanes else "relayed",
                    "goal": GOAL_SECONDS[victim],
                }
                rows.append({**row, "median": median(medians), "longest": longest})
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    table = Table("killed", "clients are", "median client's longest pause, s", "longest of all, s", "goal, s")
    for row in rows:
        table.add_row(row["killed"], row["route"], f"{row['median']:.2f}", f"{row['longest']:.2f}", f"< {row['goal']:g}")
    console.print(table)


if __name__ == "__main__":
    main()

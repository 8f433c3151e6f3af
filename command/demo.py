"""`holdall demo`: a private service, a pool of processes on one Dict, the answer; the service anew, and the same answer."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from multiprocessing.process import BaseProcess
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from holdall import Dict, LocalService
from holdall.command.survey import Facts, Fared, source_files, survey

LOOK_SECONDS = 0.1
"""How often the progress bar looks at the Dict."""
TOP = 8


class Summary(msgspec.Struct):
    """What the demo found out, all of it read back from the Dict."""

    files: int
    claimed_once: bool
    missing: list[str]
    processes: dict[int, Fared]
    calls: int
    seconds: float
    functions: int
    classes: int
    imports: Counter[str]
    names: Counter[str]
    digest: str
    same_after_restart: bool = False

    @property
    def holds(self) -> bool:
        """Whether everything that the demo claims is so."""
        return self.claimed_once and not self.missing and self.same_after_restart


def run_demo(processes: int, most: int | None, as_json: bool) -> int:
    """Run the demo. Returns the exit status: 0 if all it claims holds."""
    console = Console(stderr=as_json)
    files = source_files()[:most]
    with tempfile.TemporaryDirectory(prefix="holdall-demo-") as directory:
        with LocalService(directory) as service:
            console.print(f"service  {service.url}", soft_wrap=True, highlight=False)
            console.print("try this while it runs:  pkill -9 -f holdall.worker;  pkill -9 -f holdall.broker\n", highlight=False)
            seconds = _work(console, processes, files)
            summary = _summary(files, seconds)
        with LocalService(directory):
            summary.same_after_restart = _summary(files, seconds).digest == summary.digest
    if as_json:
        print(json.dumps(msgspec.to_builtins(summary, str_keys=True), indent=2))
    else:
        _show(console, summary)
    return 0 if summary.holds else 1


def _work(console: Console, processes: int, files: list[str]) -> float:
    """Let a pool of processes, started in both ways, survey the files. Returns the seconds it took."""
    dict_: Dict[Any, Any] = Dict.from_name("survey", create_if_missing=True)
    pool: list[BaseProcess] = []
    for number in range(processes):
        started_by = ("fork", "spawn")[number % 2]
        context: Any = multiprocessing.get_context(started_by)
        pool.append(context.Process(target=survey, args=(dict_, number, started_by, files)))
    started = time.monotonic()
    for process in pool:
        process.start()
    entries = 2 * len(files) + processes  # a claim and facts for each file, a report of each process
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(f"{processes} processes, {len(files)} files, one Dict: entries", total=entries)
        while any(process.is_alive() for process in pool):
            time.sleep(LOOK_SECONDS)
            progress.update(task, completed=dict_.len())
        progress.update(task, completed=dict_.len())
    for process in pool:
        process.join()
    return time.monotonic() - started


def _summary(files: list[str], seconds: float) -> Summary:
    """Read everything back."""
    claims: dict[str, int] = {}
    facts: dict[str, Facts] = {}
    fared: dict[int, Fared] = {}
    of: dict[str, dict[Any, Any]] = {"claim": claims, "facts": facts, "process": fared}
    for (kind, what), value in Dict[Any, Any].from_name("survey").items():
        of[kind][what] = value
    digest = hashlib.sha256()
    for file in sorted(facts):
        digest.update(f"{file} {facts[file]}\n".encode())
    by_process = Counter(claims.values())
    return Summary(
        files=len(files),
        claimed_once=sorted(claims) == sorted(files) and all(by_process[n] == each.files for n, each in fared.items()),
        missing=[file for file in files if file not in facts],
        processes=dict(sorted(fared.items())),
        calls=sum(each.calls for each in fared.values()),
        seconds=seconds,
        functions=sum(each.functions for each in facts.values()),
        classes=sum(each.classes for each in facts.values()),
        imports=_total(each.imports for each in facts.values()),
        names=_total(each.names for each in facts.values()),
        digest=digest.hexdigest(),
    )


def _total(counters: Iterable[Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for counter in counters:
        total.update(counter)
    return total


def _show(console: Console, summary: Summary) -> None:
    top = Table("most imported", "times", "most used names", "times", title="Python's standard library")
    for (module, count), (name, times) in zip(summary.imports.most_common(TOP), summary.names.most_common(TOP), strict=False):
        top.add_row(module, f"{count:,}", name, f"{times:,}")
    pool = Table("process", "started by", "files", "calls", "seconds in calls", "calls/s", title="Who did it")
    for number, fared in summary.processes.items():
        rate = f"{fared.calls / fared.seconds:,.0f}"
        pool.add_row(str(number), fared.started_by, str(fared.files), f"{fared.calls:,}", f"{fared.seconds:.2f}", rate)
    for table in (top, pool):
        for column in table.columns[1:]:
            column.justify = "right" if column.header not in ("started by", "most used names") else "left"
        console.print(table)
    console.print(f"{summary.functions:,} functions and {summary.classes:,} classes in {summary.files:,} files")
    console.print(f"{summary.calls:,} calls, and all that parsing, in {summary.seconds:.1f} s")
    claims = {
        "each file was claimed by exactly one process": summary.claimed_once,
        "no file is missing": not summary.missing,
        "the same facts after the service was stopped and started": summary.same_after_restart,
    }
    for claim, holds in claims.items():
        console.print(f"[{'green' if holds else 'bold red'}]{'yes' if holds else 'NO':>3}[/]  {claim}", highlight=False)

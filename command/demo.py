"""`holdall demo`: a private service, a pool of processes on one Dict, the answer; the service anew, and the same answer. Where
HOLDALL_URL names a cluster, it is on that.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from math import ceil
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from holdall import Client, Dict, LocalService, settings
from holdall.client.operations.catalog import statistics
from holdall.errors import InvalidError
from holdall.worker.directory.opening import DataDirectory

from .service import processes
from .survey import Facts, Fared, source_files, survey

PROGRESS_SECONDS = 0.1
"""How often the progress bar counts the entries of the Dict."""
TOP = 8


class Latency(msgspec.Struct):
    """Of all calls of one operation: how many, and percentiles of how long they took, in microseconds."""

    calls: int
    p50: float
    p99: float
    max: float

    @classmethod
    def of(cls, seconds: list[float]) -> Latency:
        ordered = [each * 1e6 for each in sorted(seconds)]
        p50, p99 = (ordered[ceil(len(ordered) * part) - 1] for part in (0.5, 0.99))
        return cls(len(ordered), p50, p99, ordered[-1])


class Summary(msgspec.Struct):
    """What the demo found out, all of it read back from the Dict."""

    files: int
    claimed_once: bool
    missing: list[str]
    processes: dict[int, Fared]
    latencies: dict[str, Latency]
    entries_by_worker: list[int]
    functions: int
    classes: int
    imports: Counter[str]
    names: Counter[str]
    digest: str
    same_after_restart: bool = False

    @property
    def holds(self) -> bool:
        """Whether everything that the demo claims is so."""
        return self.claimed_once and not self.missing and self.read_as_put and self.same_after_restart

    @property
    def read_as_put(self) -> bool:
        """Whether each process read the facts that it had put."""
        return not any(each.misread for each in self.processes.values())


def run_demo(processes: int, most: int | None, as_json: bool) -> int:
    """Run the demo. Returns the exit status: 0 if all it claims holds."""
    signal.signal(signal.SIGINT, _interrupt_once)
    console = Console(stderr=as_json)
    files = source_files()[:most]
    on = _on_cluster if settings.is_cluster(os.environ.get("HOLDALL_URL")) else _on_service
    summary = on(console, processes, files)
    if as_json:
        print(json.dumps(msgspec.to_builtins(summary, str_keys=True), indent=2))
    else:
        _show(console, summary)
    return 0 if summary.holds else 1


def _on_service(console: Console, processes: int, files: list[str]) -> Summary:
    """On a private service, which is stopped and started in the end."""
    with tempfile.TemporaryDirectory(prefix="holdall-demo-") as directory:
        with _service(directory) as service:
            console.print(f"service  {service.url}", soft_wrap=True, highlight=False)
            _invite_to_kill(console, DataDirectory(directory))
            _work(console, processes, files)
            summary = _summary(files)
        with _service(directory):
            summary.same_after_restart = _summary(files).digest == summary.digest
    return summary


def _on_cluster(console: Console, processes: int, files: list[str]) -> Summary:
    """On the one that HOLDALL_URL names. Nobody stops it here: in the end all is read once more."""
    client = Client.from_env()
    console.print(f"service  {client.address}\n", soft_wrap=True, highlight=False)
    Dict.objects.delete("survey", allow_missing=True)
    try:
        _work(console, processes, files)
        summary = _summary(files)
        client.disconnect()
        summary.same_after_restart = _summary(files).digest == summary.digest
        return summary
    finally:
        Dict.objects.delete("survey", allow_missing=True)


def _interrupt_once(*_signal: object) -> None:
    """End what runs in order, at the first Ctrl-C; those after it would interrupt the ending."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextmanager
def _held_interrupts() -> Generator[None, None, None]:
    """Let Ctrl-C wait until the end of the block. It never reaches what is started there, though a terminal sends it to all."""
    resource_tracker.ensure_running()  # to start it lets interrupts through, and `multiprocessing` would start it in the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _service(directory: str) -> Generator[LocalService, None, None]:
    """A service for a block, which Ctrl-C ends in order."""
    stack = ExitStack()
    try:
        with _held_interrupts():
            service = stack.enter_context(LocalService(directory))
        yield service
    finally:
        with _held_interrupts():
            stack.close()


def _invite_to_kill(console: Console, directory: DataDirectory) -> None:
    console.print("kill any of these while it runs; each is started again, as another process:", highlight=False)
    for name, (pid, _settings) in processes(directory).items():
        console.print(f"  kill -9 {pid}  # {name}", highlight=False)
    console.print()


def _work(console: Console, processes: int, files: list[str]) -> None:
    """Let a pool of processes, started in both ways, survey the files."""
    dict_: Dict[Any, Any] = Dict.from_name("survey", create_if_missing=True)
    pool: list[BaseProcess] = []
    entries = 2 * len(files) + 2 * processes  # a claim and facts for each file, two reports of each process
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    try:
        with _held_interrupts():
            for number in range(processes):
                started_by = ("fork", "spawn")[number % 2]
                context: Any = multiprocessing.get_context(started_by)
                process = context.Process(target=survey, args=(dict_, number, started_by, files), daemon=True)
                process.start()
                pool.append(process)
        with Progress(*columns, console=console) as progress:
            task = progress.add_task(f"{processes} processes, {len(files)} files, one Dict: entries", total=entries)
            while any(process.is_alive() for process in pool):
                time.sleep(PROGRESS_SECONDS)
                progress.update(task, completed=dict_.len())
            progress.update(task, completed=dict_.len())
    finally:
        with _held_interrupts():
            for process in pool:
                process.terminate()
            for process in pool:
                process.join()


def _summary(files: list[str]) -> Summary:
    claims: dict[str, int] = {}
    facts: dict[str, Facts] = {}
    fared: dict[int, Fared] = {}
    latencies: dict[int, dict[str, list[float]]] = {}
    of: dict[str, dict[Any, Any]] = {"claim": claims, "facts": facts, "process": fared, "latencies": latencies}
    for (kind, what), value in Dict[Any, Any].from_name("survey").items():
        of[kind][what] = value
    digest = hashlib.sha256()
    imports: Counter[str] = Counter()
    names: Counter[str] = Counter()
    for file in sorted(facts):
        digest.update(f"{file} {facts[file]}\n".encode())
        imports.update(facts[file].imports)
        names.update(facts[file].names)
    by_process = Counter(claims.values())
    by_operation: dict[str, list[float]] = {}
    for operation, seconds in (each for of_process in latencies.values() for each in of_process.items()):
        by_operation.setdefault(operation, []).extend(seconds)
    return Summary(
        files=len(files),
        claimed_once=sorted(claims) == sorted(files) and all(by_process[n] == each.files for n, each in fared.items()),
        missing=[file for file in files if file not in facts],
        processes=dict(sorted(fared.items())),
        latencies={operation: Latency.of(seconds) for operation, seconds in by_operation.items()},
        entries_by_worker=_entries_by_worker(Client.from_env()),
        functions=sum(each.functions for each in facts.values()),
        classes=sum(each.classes for each in facts.values()),
        imports=imports,
        names=names,
        digest=digest.hexdigest(),
    )


def _entries_by_worker(client: Client) -> list[int]:
    try:
        return [counted["entries"] for counted in client.run(statistics(client))]
    except InvalidError:  # a cluster counts them in its own way
        return []


def _show(console: Console, summary: Summary) -> None:
    top = Table("most imported", "times", "most used names", "times", title="Python's standard library")
    for (module, count), (name, times) in zip(summary.imports.most_common(TOP), summary.names.most_common(TOP), strict=False):
        top.add_row(module, f"{count:,}", name, f"{times:,}")
    pool = Table("process", "started by", "files", "calls", title="What each process did")
    for number, fared in summary.processes.items():
        pool.add_row(str(number), fared.started_by, str(fared.files), f"{fared.calls:,}")
    calls = Table("operation", "calls", "p50", "p99", "max", title="Latency in microseconds")
    for operation, latency in summary.latencies.items():
        percentiles = (f"{each:,.0f}" for each in (latency.p50, latency.p99, latency.max))
        calls.add_row(operation, f"{latency.calls:,}", *percentiles)
    spread = Table("worker", "entries", title="Entries by worker")
    for index, entries in enumerate(summary.entries_by_worker):
        spread.add_row(str(index), f"{entries:,}")
    for table in (top, pool, calls, spread):
        for column in table.columns[1:]:
            column.justify = "right" if column.header not in ("started by", "most used names") else "left"
        console.print(table)
    console.print(f"{summary.functions:,} functions and {summary.classes:,} classes in {summary.files:,} files")
    claims = {
        "each file was claimed by exactly one process": summary.claimed_once,
        "no file is missing": not summary.missing,
        "each process read what it had put": summary.read_as_put,
        "the same facts after the service was stopped and started": summary.same_after_restart,
    }
    for claim, holds in claims.items():
        console.print(f"[{'green' if holds else 'bold red'}]{'yes' if holds else 'NO':>3}[/]  {claim}", highlight=False)

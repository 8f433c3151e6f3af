"""`holdall bench`: latency, throughput and scaling beside the peers that are installed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from importlib.util import find_spec
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import click
from msgspec import structs
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from holdall.bench.peers.peer import Peer
    from holdall.bench.results import Report

MISSED = 1
QUICK_SECONDS = 0.05
SCALINGS = ("clients", "workers", "storm", "entries")
SCALING_PEERS = "holdall interval,Redis everysec"
LIBRARIES = ("hdrh", "psutil")


class Measuring(NamedTuple):
    """How long to measure, and where the results go."""

    rounds: int
    seconds: float
    json: IO[bytes] | None
    html: IO[str] | None


def _measured(command: Callable[..., None]) -> Callable[..., None]:
    """Let this command have the options of all that measures, as a `Measuring`, its first argument."""

    @wraps(command)
    def measured(
        rounds: int, seconds: float, quick: bool, json: IO[bytes] | None, html: IO[str] | None, **options: Any
    ) -> None:
        command(Measuring(*((1, QUICK_SECONDS) if quick else (rounds, seconds)), json, html), **options)

    for option in (
        click.option("--html", type=click.File("w", lazy=True), metavar="FILE", help="Write a page that needs nothing else."),
        click.option("--json", type=click.File("wb", lazy=True), metavar="FILE", help="Write JSON; - is standard output."),
        click.option("--quick", is_flag=True, help="One short round: whether it works, not how fast it is."),
        click.option("--seconds", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True, help="Of a turn."),
        click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Turns of each side."),
    ):
        measured = option(measured)
    return measured


@click.group("bench", invoke_without_command=True, epilog="Example: holdall bench compare get --quick")
@click.option("--list", "lists", is_flag=True, help="List the named workloads.")
@click.pass_context
def bench_group(context: click.Context, lists: bool) -> None:
    """Measure latency and throughput beside installed peers."""
    if not all(find_spec(library) for library in LIBRARIES):
        raise click.ClickException("this needs some packages more; in a checkout: pip install '.[bench]'")
    if lists:
        from holdall.bench.report import print_names

        print_names(Console())
    elif context.invoked_subcommand is None:
        click.echo(context.get_help())


@bench_group.command(epilog="Example: holdall bench goals --rounds 3")
@_measured
@click.option("--only", metavar="PATTERN", default="", help="Only rows whose name contains this.")
@click.option("--strict", is_flag=True, help="Exit with 1 when a goal is missed or left out.")
def goals(measuring: Measuring, only: str, strict: bool) -> None:
    """Measure every goal, and say whether it is met.

    Each is a ratio, the median of rounds in which both sides take turns.
    """
    from holdall.bench import machine
    from holdall.bench.goals import GOALS, measure, redis_get
    from holdall.bench.peers.peer import Missing
    from holdall.bench.results import SLOW_MICROSECONDS, GoalResult

    wanted = [goal for goal in GOALS if only.lower() in goal.name.lower()]
    if not wanted:
        raise click.BadParameter(f"no goal has {only!r} in its name", param_hint="--only")
    results: list[GoalResult] = []
    left_out: dict[str, str] = {}
    turns = sum(measuring.rounds * len(goal.sides) for goal in wanted)
    phase = redis_get(measuring.seconds)
    slow = phase is not None and phase > SLOW_MICROSECONDS
    with _Bar("turns", turns) as bar:
        for goal in wanted:
            bar.update(bar.task, description=goal.name)
            try:
                results.append(measure(goal, measuring.rounds, measuring.seconds, bar.step, slow=slow))
            except Missing as missing:
                left_out[goal.name] = str(missing)
    _give(structs.replace(machine.report(), goals=results, left_out=left_out, redis_get=phase), measuring)
    if strict and (left_out or not all(result.met for result in results)):
        sys.exit(MISSED)


@bench_group.command(epilog="Example: holdall bench compare get")
@click.argument("workload", metavar="WORKLOAD")
@_measured
@click.option("--peers", metavar="NAMES", default="", help="Only these, by parts of their names: redis,holdall")
@click.option("--open", "rate", type=click.FloatRange(0, min_open=True), help="An open loop of so many calls a second in all.")
def compare(measuring: Measuring, workload: str, peers: str, rate: float | None) -> None:
    """Measure one named workload at all peers."""
    from holdall.bench import machine
    from holdall.bench.compare import compare as compare_peers
    from holdall.bench.turn import Length
    from holdall.bench.workload import NAMED

    if workload not in NAMED:
        raise click.BadParameter(f"there is no workload {workload!r}: see holdall bench --list", param_hint="WORKLOAD")
    if rate is not None and NAMED[workload].operation == "gather":
        raise click.BadParameter("a gather has no open loop", param_hint="--open")
    chosen = _chosen(peers)
    taking_part = [peer for peer in chosen if peer.refusal(NAMED[workload]) is None]
    with _Bar("turns", measuring.rounds * len(taking_part)) as bar:
        comparison = compare_peers(NAMED[workload], chosen, measuring.rounds, Length(measuring.seconds, rate), bar.step)
    _give(structs.replace(machine.report(), comparisons=[comparison]), measuring)


@bench_group.command(epilog="Example: holdall bench scaling clients workers")
@click.argument("what", nargs=-1, type=click.Choice(SCALINGS))
@_measured
@click.option("--peers", metavar="NAMES", default=SCALING_PEERS, show_default=True, help="Of clients and storm.")
@click.option("--clients", type=click.IntRange(1), default=1_000, show_default=True, help="Of a storm.")
@click.option("--entries", type=click.IntRange(1), default=10_000_000, show_default=True, help="How many are loaded.")
def scaling(measuring: Measuring, what: tuple[str, ...], peers: str, clients: int, entries: int) -> None:
    """Measure how throughput grows, with all or what is named.

    Clients, workers, a storm of new clients, many entries.
    """
    from holdall.bench import machine, scaling
    from holdall.bench.many_entries import many_entries
    from holdall.bench.storm import storm

    rounds, seconds = measuring.rounds, measuring.seconds
    chosen = _chosen(peers)
    report = machine.report()
    for each in what or SCALINGS:
        if each == "entries":
            with _Bar("entries", entries) as bar:
                curve, comparison = many_entries(entries, seconds, bar.step)
            report = structs.replace(report, comparisons=[*report.comparisons, comparison])
        elif each == "clients":
            with _Bar("clients", rounds * len(chosen) * len(scaling.CLIENTS)) as bar:
                curve = scaling.against_clients(chosen, scaling.CLIENTS, rounds, seconds, bar.step)
        elif each == "workers":
            with _Bar("workers", rounds * len(scaling.SYNC_MODES) * len(scaling.WORKERS)) as bar:
                curve = scaling.against_workers(scaling.WORKERS, rounds, seconds, bar.step)
        else:
            with _Bar("storms", rounds * len(chosen)) as bar:
                curve = storm(chosen, clients, rounds, bar.step)
        report = structs.replace(report, scalings=[*report.scalings, curve])
    _give(report, measuring)


@bench_group.command(epilog="Example: holdall bench encryption --rounds 9")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Turns of each side.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True, help="Of a turn.")
def encryption(rounds: int, seconds: float) -> None:
    """Measure what keys cost at a port: an echo on loopback."""
    from rich.table import Table

    from holdall.bench.encryption import SIZES, measure

    with Progress(TextColumn("an echo"), BarColumn(), MofNCompleteColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=2 * rounds * len(SIZES))
        rows = measure(rounds, seconds, lambda: progress.advance(task))
    table = Table("bytes", "without, µs", "CurveZMQ, µs", "ratio", title="A round trip on loopback: p50")
    for size, plain, curve, ratio in rows:
        table.add_row(f"{size:,}", f"{plain:,.0f}", f"{curve:,.0f}", f"{ratio:.2f}")
    Console().print(table)


@bench_group.command(epilog="Example: holdall bench cluster --rounds 7")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Turns of each side.")
@click.option(
    "--seconds", type=click.FloatRange(0, min_open=True), default=4.0, show_default=True, help="Of a turn of them all."
)
def cluster(rounds: int, seconds: float) -> None:
    """Compare a Dict on a Redis cluster with redis-py."""
    from rich.table import Table

    from holdall.bench.cluster import GOALS, measure

    with Progress(TextColumn("a cluster"), BarColumn(), MofNCompleteColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=2 * rounds * (len(GOALS) - 1))
        rows = measure(rounds, seconds, lambda: progress.advance(task))
    table = Table("", "holdall, µs", "redis-py, µs", "ratio", "at most", title="On a cluster of six servers on loopback")
    for name, ours, theirs, ratio in rows:
        table.add_row(name, f"{ours:,.1f}", f"{theirs:,.1f}", f"{ratio:.2f}", f"{GOALS[name]:g}")
    Console().print(table)


@bench_group.command(epilog="Example: holdall bench page get.json put.json --html page.html")
@click.argument("files", nargs=-1, required=True, type=click.File("rb"))
@click.option("--html", type=click.File("w", lazy=True), metavar="FILE", required=True, help="Where it goes.")
def page(files: tuple[IO[bytes], ...], html: IO[str]) -> None:
    """Make one page of what several commands have written with --json."""
    from holdall.bench import results
    from holdall.bench.page import page as page_of

    html.write(page_of(results.joined([results.decode(file.read()) for file in files])))


def _chosen(names: str) -> list[Peer]:
    from holdall.bench.peers import PEERS, chosen

    found = chosen(names) if names else [*PEERS.values()]
    if not found:
        raise click.BadParameter(f"no peer is named by {names!r}: there are {', '.join(PEERS)}", param_hint="--peers")
    return found


class _Bar(Progress):
    """A progress bar on standard error, for as long as a `with` block lasts."""

    def __init__(self, label: str, total: int) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        super().__init__(*columns, console=Console(stderr=True), transient=True)
        self.task = self.add_task(label, total=total)

    def step(self, steps: int = 1) -> None:
        self.advance(self.task, steps)


def _give(report: Report, to: Measuring) -> None:
    """Print the tables, on standard error if the JSON goes to standard output; write what is asked for."""
    from holdall.bench import results
    from holdall.bench.page import page as page_of
    from holdall.bench.report import print_report

    if to.json is not None:
        to.json.write(results.encode(report) + b"\n")
    if to.html is not None:
        to.html.write(page_of(report))
    print_report(Console(stderr=to.json is not None and to.json.name == "-"), report)


@bench_group.command(epilog="Example: holdall bench profile")
@click.option("--calls", type=click.IntRange(10), default=20_000, show_default=True, help="Of each kind.")
@click.option("--value-bytes", type=click.IntRange(0), default=100, show_default=True)
@click.option("--sync", type=click.Choice(["always", "interval", "off"]), default="interval", show_default=True)
def profile(calls: int, value_bytes: int, sync: Any) -> None:
    """Show where the microseconds of a get and a put go, hop by hop."""
    from holdall.bench.profile import steps
    from holdall.bench.report import print_profile

    medians = [steps(operation, calls, value_bytes, sync) for operation in ("get", "put")]
    title = f"One client, one worker, values of {value_bytes} bytes, sync {sync}: medians of {calls:,} calls, µs"
    print_profile(Console(), title, ("get", "put"), medians)

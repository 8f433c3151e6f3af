"""What was measured, as tables in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from holdall.bench.compare import AGAINST
from holdall.bench.profile import STEPS
from holdall.bench.results import SLOW_MICROSECONDS, Comparison, GoalResult, Report
from holdall.bench.workload import NAMED

FIGURES = {
    "p50": "p50 µs",
    "p90": "p90 µs",
    "p99": "p99 µs",
    "p99.9": "p99.9 µs",
    "max": "max µs",
    "rate": "ops/s",
    "client µs": "client CPU µs/op",
    "server µs": "server CPU µs/op",
    "server MiB": "server MiB",
}
"""The figures of a turn, and the heads of their columns."""
WIDTH_IN_A_FILE = 160
"""Columns, where a report is not printed on a terminal."""
GOAL_COLUMNS = ("goal", "holdall", "figure", "against", "figure", "ratio", "wanted", "met")


def number(value: float | None) -> str:
    """Three digits that count.

    >>> [number(value) for value in (0.1234, 12.34, 1234.5, None)]
    ['0.123', '12.3', '1,234', '–']
    """
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def goal_cells(goal: GoalResult) -> list[str]:
    """A row of the table of goals."""
    sides = [goal.ours, f"{number(goal.figure)} {goal.unit}", goal.against or "–"]
    peer = "–" if goal.peer_figure is None else f"{number(goal.peer_figure)} {goal.unit}"
    ratio = number(goal.ratio) if goal.against else "–"
    return [goal.name, *sides, peer, ratio, f"{goal.relation} {goal.bound:g}", "✓" if goal.met else "✗"]


def phase(report: Report) -> str:
    """In which phase the goals were measured, and how that is known."""
    if report.redis_get is None:
        return "Goals"
    kind = "slow" if report.redis_get > SLOW_MICROSECONDS else "fast"
    return f"Goals, in a {kind} phase of the machine: a get of Redis takes {number(report.redis_get)} µs"


def comparison_columns() -> list[str]:
    """The heads of a comparison."""
    return ["peer", *FIGURES.values(), f"p50 : {AGAINST}", f"ops/s : {AGAINST}"]


def comparison_rows(comparison: Comparison) -> list[list[str]]:
    """A row for each peer, the fastest first."""
    peers = sorted(comparison.peers, key=lambda peer: peer.figures["p50"])
    return [
        [peer.peer, *(number(peer.figures[name]) for name in FIGURES), number(peer.latency_ratio), number(peer.rate_ratio)]
        for peer in peers
    ]


def comparison_title(comparison: Comparison) -> str:
    """What it is, and how it was measured."""
    asked = f", an open loop of {number(comparison.asked_rate)} calls a second" if comparison.asked_rate else ""
    return f"{comparison.workload}: {comparison.description} Medians of {comparison.rounds} rounds{asked}"


def print_report(console: Console, report: Report) -> None:
    """All tables."""
    if report.goals:
        goals = [_narrow(goal_cells(goal)) for goal in report.goals]
        _print_table(console, phase(report), [name for name in GOAL_COLUMNS if name != "figure"], goals)
    _print_left_out(console, report.left_out)
    for comparison in report.comparisons:
        _print_table(console, comparison_title(comparison), comparison_columns(), comparison_rows(comparison))
        _print_left_out(console, comparison.left_out)
    for scaling in report.scalings:
        _print_table(console, scaling.title, scaling.columns, scaling.rows)
        _print_left_out(console, scaling.left_out)


def print_profile(console: Console, title: str, columns: Sequence[str], medians: list[list[float]]) -> None:
    """The steps of a call, one after the other."""
    rows = [[who, step, *(f"{each[at]:.1f}" for each in medians)] for at, (who, step) in enumerate(STEPS)]
    _print_table(console, title, ("where", "what", *columns), rows, left=2)


def print_names(console: Console) -> None:
    """The named workloads."""
    rows = [[name, workload.description] for name, workload in NAMED.items()]
    _print_table(console, "Workloads", ("name", "what it does"), rows, left=2)


def _narrow(cells: list[str]) -> list[str]:
    """A row of the table of goals, each figure above the side whose it is: a terminal may have but 80 columns."""
    goal, ours, figure, against, peer_figure, *rest = cells
    return [goal, f"{figure}\n{ours}", f"{peer_figure}\n{against}", *rest]


def _print_left_out(console: Console, left_out: dict[str, str]) -> None:
    for name, reason in left_out.items():
        console.print(f"{name} is left out: {reason}", soft_wrap=True, highlight=False, markup=False)


def _print_table(console: Console, title: str, columns: Sequence[str], rows: list[list[str]], left: int = 1) -> None:
    """The first `left` columns are text, the others figures. What is no terminal has no width."""
    table = Table(title=title, box=SIMPLE_HEAD)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    if not console.is_terminal:
        console = Console(file=console.file, width=WIDTH_IN_A_FILE)
    console.print(table)

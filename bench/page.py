"""What was measured, as one page that needs nothing else: no script, no font, no picture from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from holdall.bench import chart, report
from holdall.bench.results import Comparison, Machine, Report, Scaling

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; display: block; overflow-x: auto }
th, td { padding: .2rem .6rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left }
svg { width: 100%; height: auto }
"""


def page(measured: Report) -> str:
    """The HTML."""
    parts = [
        f"<h1>holdall beside its peers</h1><p>{escape(measured.date)}</p>",
        _machine(measured.machine),
        _goals(measured),
        *map(_comparison, measured.comparisons),
        *map(_scaling, measured.scalings),
    ]
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>holdall: benchmarks</title><style>{_STYLE}</style>'
    return head + "\n".join(parts) + "</html>\n"


def _machine(machine: Machine) -> str:
    cores = f"{machine.cpu}, {machine.cores} cores, {machine.memory_gib:g} GiB"
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    lines = (cores, f"{machine.kernel}, data on {machine.disk}", machine.python, versions)
    return f"<p>{'<br>'.join(map(escape, lines))}</p>"


def _goals(measured: Report) -> str:
    if not measured.goals:
        return ""
    rows = _table(report.GOAL_COLUMNS, map(report.goal_cells, measured.goals))
    return f"<h2>{escape(report.phase(measured))}</h2>{rows}{_left_out(measured.left_out)}"


def _left_out(left_out: dict[str, str]) -> str:
    lines = "".join(f"<li>{escape(name)}: {escape(reason)}</li>" for name, reason in left_out.items())
    return f"<p>Left out:</p><ul>{lines}</ul>" if lines else ""


def _comparison(comparison: Comparison) -> str:
    curves = {peer.peer: peer.curve for peer in comparison.peers}
    return (
        f"<h2>{escape(comparison.workload)}</h2><p>{escape(report.comparison_title(comparison))}</p>"
        + _table(report.comparison_columns(), report.comparison_rows(comparison))
        + chart.latency_curves(curves)
        + _left_out(comparison.left_out)
    )


def _scaling(scaling: Scaling) -> str:
    drawn = chart.lines(scaling.lines, scaling.x, scaling.y)
    return f"<h2>{escape(scaling.title)}</h2>" + _table(scaling.columns, scaling.rows) + drawn + _left_out(scaling.left_out)


def _table(columns: Iterable[str], rows: Iterable[list[str]]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"

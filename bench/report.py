"""What was measured, as a table or as JSON."""

from __future__ import annotations

import json

from rich.console import Console
from rich.table import Table

from holdall.bench.latency import Row

AGAINST = "Redis, everysec"


def print_table(console: Console, rows: list[Row]) -> None:
    """One line for each peer and operation, with its ratio to Redis."""
    base = {row.operation: row.p50 for row in rows if row.peer == AGAINST}
    table = Table(
        "peer", "operation", "p50 µs", "p99 µs", f"p50 against {AGAINST}", title="One client, blocking, 100-byte values"
    )
    for column in table.columns[2:]:
        column.justify = "right"
    for row in sorted(rows, key=lambda row: (row.operation, row.p50)):
        ratio = f"{row.p50 / base[row.operation]:.2f} ×" if row.operation in base else "–"
        table.add_row(row.peer, row.operation, f"{row.p50:,.0f}", f"{row.p99:,.0f}", ratio)
    console.print(table)


def as_json(rows: list[Row]) -> str:
    """The same for scripts."""
    return json.dumps([row._asdict() for row in rows], indent=2)

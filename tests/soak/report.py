"""What a run was, as tables and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.soak.soak import Soak


def summary(soak: Soak, violation: str) -> dict[str, Any]:
    """The figures."""
    ledger = soak.ledger
    kinds: dict[str, Counter[str]] = {}
    for (kind, outcome), count in sorted(ledger.outcomes.items()):
        kinds.setdefault(kind, Counter())[outcome] += count
    return {
        "plan": soak.plan._asdict(),
        "seconds": round(ledger.seconds(), 1),
        "operations": ledger.answered,
        "refused": ledger.refused,
        "unknown": ledger.unknown,
        "generations": len(ledger.values),
        "by kind": kinds,
        "faults": dict(sorted(soak.faults.counts.items())),
        "longest call": [round(ledger.longest_call.seconds, 3), ledger.longest_call.what],
        "longest pause": [round(ledger.longest_pause.seconds, 3), ledger.longest_pause.what],
        "violation": violation,
    }


def as_json(soak: Soak, violation: str) -> str:
    """The figures as JSON."""
    return json.dumps(summary(soak, violation), indent=2)


def print_tables(console: Console, soak: Soak, violation: str) -> None:
    """The figures for people."""
    figures, ledger = summary(soak, violation), soak.ledger
    outcomes = sorted({outcome for kind in figures["by kind"].values() for outcome in kind})
    counts = f"{ledger.answered:,} answered, {ledger.refused:,} refused, {ledger.unknown:,} of unknown outcome"
    calls = Table("operation", *outcomes, title=counts)
    for column in calls.columns[1:]:
        column.justify = "right"
    for kind, ended in figures["by kind"].items():
        calls.add_row(kind, *(f"{ended[outcome]:,}" for outcome in outcomes))
    faults = Table("fault", "times", title=f"{soak.faults.counts.total()} faults in {figures['seconds']:.0f} s")
    faults.columns[1].justify = "right"
    for kind, count in figures["faults"].items():
        faults.add_row(kind, str(count))
    console.print(calls, faults)
    for what in ("longest call", "longest pause"):
        console.print(f"{what}: {figures[what][0]:.3f} s, {figures[what][1]}", highlight=False, markup=False)
    console.print(f"violations: {1 if violation else 0}", style="red" if violation else "green")
    if violation:
        console.print(violation, markup=False, highlight=False, soft_wrap=True)

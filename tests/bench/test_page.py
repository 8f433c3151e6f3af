"""What is kept of a run, and the page that is made of it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import msgspec
import pytest

from holdall.bench import results
from holdall.bench.page import page
from holdall.bench.results import ComparedPeer, Comparison, GoalResult, Machine, Report, Scaling

FIGURES = dict.fromkeys(("p50", "p90", "p99", "p99.9", "max", "rate", "client µs", "server µs", "server MiB"), 12.5)
MACHINE = Machine("CPU <of> this", 2, 4.0, "Linux 6", "ext4", "CPython 3.11", {"redis": "8.1"})
REPORT = Report(
    MACHINE,
    "2024-01-01 00:00+00:00",
    [
        GoalResult("get & put", "holdall", "Redis", "µs", 20.0, 25.0, 0.8, "≤", 1.0, True),
        GoalResult("start", "holdall", "", "ms", 900.0, None, 900.0, "≤", 500.0, False),
    ],
    [
        Comparison(
            "get",
            "One client gets.",
            5,
            None,
            [ComparedPeer(name, FIGURES, 1.0, None, [(0.0, 10.0), (50.0, 20.0), (99.9, 400.0)]) for name in ("one", "two <2>")],
            {"etcd": "apt-get install etcd-server"},
        )
    ],
    [Scaling("Throughput", "clients", "ops/s", {"one": [(1, 5.0), (16, 50.0)]}, ["clients"], [["1"], ["16"]])],
    {"gather": "pip install 'redis[hiredis]'"},
)


class Parts(HTMLParser):
    """The text of a page, its tags, and whatever an attribute loads."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.feed(html)

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data")]


def test_a_page_needs_nothing_from_elsewhere() -> None:
    html = page(REPORT)
    parts = Parts(html)
    assert [load for load in parts.loads if not load.startswith("#")] == []
    assert not {"script", "link", "img", "iframe", "object"} & {*parts.tags}
    assert not re.search(r"@import|url\(|https?:", html)


def test_a_page_has_every_row_and_every_curve() -> None:
    parts = Parts(page(REPORT))
    text = "\n".join(parts.text)
    rows = ("get & put", "start", "one", "two <2>")
    for told in (*rows, "etcd", "apt-get install", "redis[hiredis]", "Throughput", "CPU <of> this"):
        assert told in text
    assert ("✓" in text, "✗" in text) == (True, True)
    assert parts.tags.count("svg") == 2
    assert parts.tags.count("tr") == (1 + 2) + (1 + 2) + (1 + 2)


def test_a_page_of_nothing_is_a_page() -> None:
    assert "<h1>" in page(Report(MACHINE, "today", comparisons=[Comparison("get", "", 1, None, [], {})]))


def test_a_report_survives_json_and_what_is_none_is_refused() -> None:
    assert results.decode(results.encode(REPORT)) == REPORT
    with pytest.raises(msgspec.ValidationError):
        results.decode(b'{"date": "today"}')


def test_reports_can_be_joined() -> None:
    empty = Report(MACHINE, "later")
    assert results.joined([REPORT, empty]) == msgspec.structs.replace(REPORT, date="later")

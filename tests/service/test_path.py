"""The path of a get and of a put, as docs/architecture.md tells it, against traces of real calls."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import holdall
from tests.processes import until, wait_for_lanes

ROOT = Path(__file__).parents[2]
TRACER = """
import json, pathlib, sys

armed, told = pathlib.Path({armed!r}), pathlib.Path({told!r})

if "holdall.worker" in sys.orig_argv:
    from holdall.worker.lanes import Lane

    take, send = Lane.take, Lane.send
    entered = []

    def trace(frame, event, _argument):
        if event == "call" and frame.f_code.co_filename != __file__:
            entered.append((frame.f_code.co_filename, frame.f_code.co_qualname))

    def tracing_take(self):
        if armed.exists():
            armed.unlink()
            entered.clear()
            sys.setprofile(trace)
        return take(self)

    def tracing_send(self, *answer):
        is_taken = send(self, *answer)
        if sys.getprofile() is not None:
            sys.setprofile(None)
            told.with_suffix(".part").write_text(json.dumps(entered))
            told.with_suffix(".part").rename(told)
        return is_taken

    Lane.take, Lane.send = tracing_take, tracing_send
"""
Entered = list[tuple[str, str]]
"""The functions of a call in the order in which they were entered: file and name."""
pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="names of functions are qualified since then")


def shortened(entered: list[Any]) -> Entered:
    found = [(str(Path(file).resolve()), name) for file, name in entered if not file.startswith("<")]
    return [(file[len(str(ROOT)) + 1 :], name) for file, name in found if file.startswith(str(ROOT)) and "tests/" not in file]


@pytest.fixture
def traced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Calls something once, and returns what it entered in the client and in the worker."""
    armed, told = tmp_path / "armed", tmp_path / "told"
    (tmp_path / "sitecustomize.py").write_text(TRACER.format(armed=str(armed), told=str(told)))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")

    def call(once: Callable[[], object]) -> tuple[Entered, Entered]:
        entered: list[Any] = []

        def trace(frame: Any, event: str, _argument: object) -> None:
            if event == "call":
                entered.append((frame.f_code.co_filename, frame.f_code.co_qualname))

        armed.touch()
        sys.setprofile(trace)
        try:
            once()
        finally:
            sys.setprofile(None)
        until(told.exists)
        in_worker = json.loads(told.read_text())
        told.unlink()
        return shortened(entered), shortened(in_worker)

    return call


def path_in_the_page(heading: str) -> list[tuple[str, str]]:
    """File and name of each step under this heading of the page."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    section = page.split(f"\n## {heading}")[1].split("\n## ")[0]
    steps = [line for line in section.splitlines() if re.match(r"\d+\. ", line)]
    return [(file, name) for step in steps for name, file in re.findall(r"\*\*`([\w.]+)`\*\* \(`([\w/.]+)`\)", step)]


def is_in_order(steps: list[tuple[str, str]], entered: Entered) -> bool:
    left = iter(entered)
    return all(step in left for step in steps)


@pytest.fixture
def d(traced: Any) -> Any:
    with holdall.LocalService(workers=1):
        d: holdall.Dict[str, int] = holdall.Dict.from_name("kv", create_if_missing=True)
        d["k"] = 1
        wait_for_lanes(d)
        assert d["k"] == 1
        yield d


def test_a_get_enters_what_the_page_says_in_this_order_and_little_else(d: Any, traced: Any) -> None:
    in_client, in_worker = traced(lambda: d["k"])
    steps = path_in_the_page("A `get`")
    assert len(steps) >= 15
    before = [step for step in steps if step[0].startswith("client")][:-2]
    after = [step for step in steps if step[0].startswith("client")][-2:]
    assert is_in_order([*before, *after], in_client)
    assert is_in_order([step for step in steps if step[0].startswith("worker")], in_worker)
    entered = {*in_client, *in_worker}
    assert len({step for step in entered if step[0].startswith(("client", "worker"))}) <= 30
    assert len(entered) <= 41  # with packing, framing and hashing, which both ends share


def test_a_put_enters_what_the_page_says_in_this_order_and_little_else(d: Any, traced: Any) -> None:
    def put() -> None:
        d["k"] = 2

    steps = path_in_the_page("A `put`")
    assert len(steps) >= 7
    until(lambda: "worker/commit.py" not in {file for file, _name in traced(put)[1]})  # once one client alone is heard
    _in_client, in_worker = traced(put)
    assert is_in_order(steps, in_worker)
    assert len({*in_worker}) <= 45

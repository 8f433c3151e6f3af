"""`holdall demo`: it holds what it claims, says which processes may be killed, and ends in order at Ctrl-C."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

import holdall
from holdall import Dict
from holdall.command.demo import Latency
from holdall.process.child import environment
from tests.processes import WAIT_SECONDS, children, until


@contextlib.contextmanager
def running_demo(*options: str, **more: str) -> Iterator[subprocess.Popen[str]]:
    """The demo, as a shell would start it from a terminal: in a process group of its own."""
    argv, pipe = [sys.executable, "-m", "holdall", "demo", "--json", *options], subprocess.PIPE
    env = {**environment(), **more}
    with subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True, env=env, start_new_session=True) as demo:
        try:
            yield demo
        finally:
            demo.kill()


def announced(stderr: IO[str] | None) -> tuple[str, dict[str, int]]:
    """The URL of its service, and the processes that it invites to kill, by name."""
    assert stderr is not None
    url = stderr.readline().split()[1]
    assert "kill" in stderr.readline()
    found: dict[str, int] = {}
    while line := stderr.readline().strip():
        command, _, name = line.partition("  # ")
        assert command.startswith("kill -9 ")
        found[name] = int(command.split()[2])
    return url, found


def test_the_demo_holds_what_it_claims() -> None:
    with running_demo("--files", "40", "--processes", "2") as demo:
        summary = json.loads(demo.communicate(timeout=60)[0])
    assert demo.returncode == 0
    assert summary["files"] == 40
    assert (summary["claimed_once"], summary["missing"], summary["same_after_restart"]) == (True, [], True)
    assert {name: latency["calls"] for name, latency in summary["latencies"].items()} == {"claim": 80, "put": 40, "get": 40}
    assert all(0 < each["p50"] <= each["p99"] <= each["max"] for each in summary["latencies"].values())
    assert len(summary["entries_by_worker"]) >= 2
    assert sum(summary["entries_by_worker"]) == 2 * 40 + 2 * 2
    assert min(summary["entries_by_worker"]) > 0


@pytest.mark.slow
def test_the_tables_show_latency_and_where_the_entries_are() -> None:
    argv = [sys.executable, "-m", "holdall", "demo", "--files", "5", "--processes", "1"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, env=environment(), check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for shown in ("p50", "p99", "claim", "Entries by worker", "yes"):
        assert shown in done.stdout


def test_percentiles_are_those_of_the_nearest_rank() -> None:
    assert Latency.of([number / 1e6 for number in range(100, 0, -1)]) == Latency(100, 50, 99, 100)
    assert Latency.of([0.5]) == Latency(1, 500_000, 500_000, 500_000)


@pytest.mark.slow
def test_the_processes_that_it_invites_to_kill_are_its_broker_and_its_workers() -> None:
    with running_demo("--files", "100", "--processes", "2") as demo:
        url, invited = announced(demo.stderr)
        assert invited == children(children(demo.pid)["service"])
        assert [*invited][:3] == ["broker", "worker 0", "worker 1"]
        with holdall.Client(url) as client:
            survey: Dict[str, int] = Dict.from_name("survey", create_if_missing=True, client=client)
            until(lambda: len(survey) > 20)
        for pid in invited.values():
            os.kill(pid, signal.SIGKILL)
        summary = json.loads(demo.communicate(timeout=60)[0])
    assert demo.returncode == 0
    assert (summary["claimed_once"], summary["missing"], summary["same_after_restart"]) == (True, [], True)
    assert sum(summary["entries_by_worker"]) == 2 * 100 + 2 * 2


def group(leader: int) -> list[str]:
    """The processes of this group that have not ended, each with what it runs."""
    found: list[str] = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            state, _, group = file.read_text().rpartition(")")[2].split()[:3]
            if int(group) == leader and state != "Z":
                found.append((file.parent / "cmdline").read_text())
    return found


@pytest.mark.slow
@pytest.mark.parametrize("pressed", ["once", "twice", "until it ends"])
@pytest.mark.parametrize("entries", [0, 20], ids=["in the beginning", "in the middle"])
def test_control_c_ends_all_of_it_without_a_traceback(tmp_path: Path, entries: int, pressed: str) -> None:
    (tmp_path / "temporary").mkdir()
    with running_demo("--processes", "4", TMPDIR=str(tmp_path / "temporary")) as demo:
        url, _ = announced(demo.stderr)
        if entries:
            with holdall.Client(url) as client:
                survey: Dict[str, int] = Dict.from_name("survey", create_if_missing=True, client=client)
                until(lambda: len(survey) > entries)
        assert len(group(demo.pid)) >= 4
        presses = {"once": range(1), "twice": range(2)}.get(pressed, itertools.count())
        for _ in itertools.takewhile(lambda _press: demo.poll() is None, presses):
            os.killpg(demo.pid, signal.SIGINT)  # as a terminal does: to all processes of the group
            time.sleep(random.uniform(0, 0.01))
        written, complained = demo.communicate(timeout=WAIT_SECONDS)
        assert (demo.returncode, written) == (1, "")
        assert complained.endswith("\nAborted!\n")
        assert "Traceback" not in complained
        until(lambda: not group(demo.pid))
    assert [*(tmp_path / "temporary").iterdir()] == []

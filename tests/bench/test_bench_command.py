"""`holdall bench …`, as a user would call it; never how fast it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from holdall.bench import many_entries, results, scaling
from holdall.bench.peers import PEERS, peer
from holdall.bench.workload import NAMED
from holdall.command.cli import cli


def bench(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "250"}).invoke(cli, ["bench", *arguments], catch_exceptions=False)


def without_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "which", lambda _: None)


def test_the_named_workloads_are_listed() -> None:
    listed = bench("--list").stdout
    for name, workload in NAMED.items():
        assert name in listed
        assert workload.description in listed


def test_a_goal_is_printed_with_its_figures_and_kept_as_json_and_as_a_page(tmp_path: Path) -> None:
    done = bench("goals", "--quick", "--only", "import", "--json", str(tmp_path / "j"), "--html", str(tmp_path / "h"))
    assert done.exit_code == 0
    assert "import zmq" in done.stdout
    kept = results.decode((tmp_path / "j").read_bytes())
    assert [goal.name for goal in kept.goals] == ["import"]
    assert kept.machine.cores > 0
    assert "import zmq" in (tmp_path / "h").read_text()


@pytest.mark.slow
def test_a_goal_that_is_missed_fails_only_when_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    without_programs(monkeypatch)
    arguments = ("goals", "--quick", "--only", "put_many")
    done = bench(*arguments)
    assert (done.exit_code, bench(*arguments, "--strict").exit_code) == (0, 1)
    assert "apt-get install redis-server" in done.stdout


@pytest.mark.slow
def test_a_workload_at_some_peers(tmp_path: Path) -> None:
    done = bench("compare", "get", "--quick", "--peers", "holdall always,echo", "--json", "-", "--html", str(tmp_path / "h"))
    assert done.exit_code == 0
    kept = results.decode(done.stdout.encode())
    assert [each.peer for each in kept.comparisons[0].peers] == ["holdall always", "pyzmq echo"]
    for each in kept.comparisons[0].peers:
        assert each.figures["server MiB"] > 0
        assert each.curve
    assert "pyzmq echo" in done.stderr


def test_peers_that_cannot_take_part_are_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    without_programs(monkeypatch)
    shown = bench("compare", "get-many", "--quick", "--peers", "redis always,memcached,etcd,manager").stdout
    assert "Redis always is left out: apt-get install redis-server" in shown
    assert "memcached is left out: apt-get install memcached" in shown
    assert "etcd is left out: it has no get_many" in shown
    assert "Manager.dict is left out: it has no get_many" in shown


@pytest.mark.slow
def test_many_entries_are_loaded_and_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(many_entries, "BATCH", 100)
    done = bench("scaling", "entries", "--quick", "--entries", "250", "--json", str(tmp_path / "j"))
    assert done.exit_code == 0
    kept = results.decode((tmp_path / "j").read_bytes())
    assert [x for x, _ in kept.scalings[0].lines["put_many of 10,000"]][-1] == 250
    assert [each.peer for each in kept.comparisons[0].peers] == ["holdall interval, cold", "holdall interval, warm"]


@pytest.mark.slow
def test_a_storm_has_an_answer_for_each_client() -> None:
    done = bench("scaling", "storm", "--quick", "--clients", "5", "--peers", "holdall interval", "--json", "-")
    row = json.loads(done.stdout)["scalings"][0]["rows"][0]
    assert row[:3] == ["holdall interval", "5", "5"]


@pytest.mark.slow
def test_throughput_is_measured_against_the_clients_of_those_who_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "CLIENTS", (1, 2))
    without_programs(monkeypatch)
    done = bench("scaling", "clients", "--quick", "--peers", "manager,redis always", "--json", "-")
    kept = results.decode(done.stdout.encode()).scalings[0]
    assert [x for x, _ in kept.lines["Manager.dict"]] == [1, 2]
    assert kept.left_out == {"Redis always": "apt-get install redis-server"}


@pytest.mark.slow
def test_the_reports_of_several_commands_make_one_page(tmp_path: Path) -> None:
    for name in ("0", "1"):
        bench("goals", "--quick", "--only", "import", "--json", str(tmp_path / name))
    done = bench("page", str(tmp_path / "0"), str(tmp_path / "1"), "--html", str(tmp_path / "page"))
    assert done.exit_code == 0
    assert (tmp_path / "page").read_text().count("import zmq") == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["compare", "no-such"],
        ["compare", "gather-100", "--open", "10"],
        ["compare", "get", "--peers", "no-such"],
        ["goals", "--only", "no-such"],
        ["scaling", "no-such"],
        ["page", "--html", "x"],
    ],
)
def test_wrong_use_of_the_bench_exits_with_2(arguments: list[str]) -> None:
    assert bench(*arguments).exit_code == 2


def test_every_peer_takes_part_in_the_simplest_workload() -> None:
    assert [peer.refusal(NAMED["get"]) for peer in PEERS.values()] == [None] * len(PEERS)

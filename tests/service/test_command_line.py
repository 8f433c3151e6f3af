"""`holdall dict …` and `holdall status`, as a user and as a script would call them; and that nothing else loads click."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import holdall
from holdall import Dict
from holdall.command.cli import cli
from holdall.process.child import environment
from holdall.worker.directory.opening import DataDirectory
from tests.processes import end_service


def call(*arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(cli, ["dict", *arguments], input=answer, prog_name="holdall", catch_exceptions=False)


def done(*arguments: str, answer: str | None = None) -> str:
    result = call(*arguments, answer=answer)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def failed(*arguments: str, answer: str | None = None) -> str:
    result = call(*arguments, answer=answer)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_a_dict_is_made_listed_described_and_deleted(name: str) -> None:
    done("create", name)
    assert "is there already" in done("create", name, "--ttl", "5")
    assert Dict.from_name(name).info().ttl == 7 * 86_400
    done("put", name, "key", "value")
    listed = [json.loads(line) for line in done("list", "--json").splitlines()]
    mine = next(each for each in listed if each["name"] == name)
    assert mine["entries"] == 1
    assert name in done("list")
    assert json.loads(done("info", name, "--json"))["id"] == Dict.from_name(name).object_id
    assert "created_by" in done("info", name)
    done("delete", name, "--yes")
    assert f"Dict '{name}'" in failed("info", name)
    assert "there is none" in failed("delete", name, "--yes")
    done("delete", name, "--yes", "--allow-missing")


def test_keys_are_strings_and_on_request_literals(d: Dict[Any, Any], name: str) -> None:
    done("put", name, "1", "text")
    done("put", name, "-l", "(1, None)", "{'a': [2.5]}")
    assert d == {"1": "text", (1, None): {"a": [2.5]}}
    assert done("get", name, "1") == "text\n"
    assert done("get", name, "(1, None)", "-l") == "{'a': [2.5]}\n"
    assert done("get", name, "(1, None)", "-l", "--json") == '{"a": [2.5]}\n'
    assert "'2'" in failed("get", name, "2")
    assert "literal" in failed("get", name, "-l", "no literal")
    assert "exists" in failed("put", name, "1", "other", "--skip-if-exists")
    assert d["1"] == "text"


def test_a_file_is_stored_and_written_whatever_its_size(d: Dict[Any, Any], name: str, tmp_path: Path) -> None:
    stored, written = tmp_path / "stored", tmp_path / "written"
    stored.write_bytes(random.Random(1).randbytes(3 * 1024 * 1024))
    done("put", name, "file", "--input", str(stored))
    assert d["file"] == stored.read_bytes()
    done("get", name, "file", "--output", str(written))
    assert written.read_bytes() == stored.read_bytes()
    done("put", name, "piped", "-i", "-", answer="text")
    assert (d["piped"], done("get", name, "piped", "-o", "-")) == (b"text", "text")


def test_what_is_no_content_of_a_file_is_refused(d: Dict[Any, Any], name: str, tmp_path: Path) -> None:
    d["number"] = 1
    assert "bytes and strings" in failed("get", name, "number", "-o", str(tmp_path / "written"))
    assert not (tmp_path / "written").exists()
    for arguments in ((), ("value", "--input", __file__)):
        result = call("put", name, "key", *arguments)
        assert (result.exit_code, "either" in result.stderr) == (2, True)
    assert "key" not in d
    assert call("get", name, "number", "--json", "-o", "-").exit_code == 2


def test_items_come_as_a_table_as_lines_and_as_json(d: Dict[Any, Any], name: str) -> None:
    d.update({number: {number} for number in range(250)})
    shown = done("items", name)
    assert "key" in shown
    assert "and 230 more" in shown
    assert "and 240 more" in done("items", name, "10")
    assert "more" not in done("items", name, "250")
    as_json = call("items", name, "--json")
    assert (len(as_json.stdout.splitlines()), "and 230 more" in as_json.stderr) == (20, True)
    assert len(done("items", name, "--all").splitlines()) == 250
    lines = done("items", name, "--all", "--json").splitlines()
    assert sorted(json.loads(line) for line in lines)[:2] == [[0, "{0}"], [1, "{1}"]]
    assert len(call("items", name, "3", "--json").stdout.splitlines()) == 3


@pytest.mark.parametrize("value", [{(1, 2): 3}, float("nan"), 10**5000, object], ids=["tuple as key", "NaN", "huge", "class"])
def test_what_json_has_no_form_for_is_printed_as_its_repr(d: Dict[Any, Any], name: str, value: object) -> None:
    d["key"] = value
    assert isinstance(json.loads(done("get", name, "key", "--json")), str)


def test_what_destroys_asks_first(d: Dict[Any, Any], name: str) -> None:
    d["key"] = 1
    refused = call("clear", name, answer="n\n")
    assert refused.exit_code == 1
    assert d == {"key": 1}
    assert "1 entry of" in done("clear", name, answer="y\n")
    assert len(d) == 0
    assert call("delete", name, answer="n\n").exit_code == 1
    assert d.info().name == name


@pytest.mark.parametrize("arguments", [["info"], ["get", "kv"], ["no-such"], ["items", "kv", "-1"]])
def test_wrong_use_exits_with_2(arguments: list[str]) -> None:
    assert call(*arguments).exit_code == 2


def test_the_shell_completes_names(name: str, d: Dict[Any, Any]) -> None:
    environment = {"_HOLDALL_COMPLETE": "bash_complete", "COMP_WORDS": f"holdall dict get {name[:9]}", "COMP_CWORD": "3"}
    completed = CliRunner().invoke(cli, [], env=environment, prog_name="holdall")
    assert f"plain,{name}" in completed.stdout


def test_status_shows_the_workers(d: Dict[Any, Any], service: holdall.LocalService) -> None:
    shown = CliRunner().invoke(cli, ["status", "--json"], catch_exceptions=False)
    status = json.loads(shown.stdout)
    assert status["url"] == service.url
    assert status["dicts"] >= 1
    assert len(status["workers"]) == 2
    assert [counted["entries"] >= 0 and counted["handled"] > 0 for counted in status["statistics"]] == [True, True]
    assert "512 to 1023" in CliRunner().invoke(cli, ["status"], catch_exceptions=False).stdout


def test_status_of_a_service_that_does_not_run_says_so_and_starts_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HOLDALL_URL", raising=False)
    monkeypatch.setenv("HOLDALL_DATA", str(tmp_path))
    failed = CliRunner().invoke(cli, ["status"], catch_exceptions=False)
    assert failed.exit_code == 1
    assert "no service runs" in failed.stderr
    assert list(tmp_path.iterdir()) == []


def test_status_says_which_service_it_is_and_stop_ends_it_and_leaves_the_data(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    monkeypatch.delenv("HOLDALL_URL", raising=False)
    monkeypatch.setenv("HOLDALL_DATA", str(data))
    told_by("dict", "put", "kept", "key", "value", "--create")
    told = json.loads(told_by("status", "--json"))
    holder = DataDirectory(data).holder()
    assert holder is not None
    assert (told["pid"], told["version"], told["data"]) == (holder.pid, holdall.__version__, str(data))
    assert told["bytes"] > 0
    assert datetime.fromisoformat(told["since"]) <= datetime.now()
    assert told["engine"] == DataDirectory(data).layout().engine
    table = told_by("status")
    for shown in (str(holder.pid), f"({told['engine']}) in {data}", "1 Dict", "service.log", "holdall stop"):
        assert shown in table
    assert str(holder.pid) in told_by("stop")
    assert not DataDirectory(data).is_held
    again = CliRunner().invoke(cli, ["stop"], catch_exceptions=False)
    assert (again.exit_code, "no service runs" in again.stdout) == (1, True)
    try:
        assert "value" in told_by("dict", "get", "kept", "key")  # another one is started
    finally:
        told_by("stop")


def told_by(*arguments: str) -> str:
    """What a command that succeeds prints, in a process of its own."""
    argv = [sys.executable, "-m", "holdall", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"})
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_stop_ends_nothing_that_is_no_service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As a restore, or a check, which hold the lock too."""
    monkeypatch.setenv("HOLDALL_DATA", str(tmp_path / "data"))
    lock = DataDirectory(tmp_path / "data").lock()
    refused = CliRunner().invoke(cli, ["stop"], catch_exceptions=False)
    assert refused.exit_code == 1
    assert f"process {os.getpid()}" in refused.stderr
    assert "is no service" in refused.stderr
    lock.release()


WITHOUT = """
import sys

sys.modules["click"] = sys.modules["rich"] = None
"""
PROGRAM = """
import holdall

with holdall.LocalService(workers=2):
    print(holdall.Dict.from_name("kv", create_if_missing=True).len())
d = holdall.Dict.from_name("kv", create_if_missing=True)
d["key"] = "value"
print(d["key"])
"""


def test_neither_a_client_nor_a_process_of_a_service_loads_click_or_rich(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here a process that tries to ends, as the command line does."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path), environment()["PYTHONPATH"])))
    monkeypatch.setenv("HOLDALL_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("HOLDALL_URL", raising=False)
    try:
        assert run_python("-c", PROGRAM) == ("0\nvalue\n", "")
    finally:
        end_service(tmp_path / "data")
    assert "import of click halted" in run_python("-m", "holdall", "--help")[1]


def run_python(*arguments: str) -> tuple[str, str]:
    """What Python writes to its standard output and to its standard error."""
    argv = [sys.executable, *arguments]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    return ran.stdout, ran.stderr

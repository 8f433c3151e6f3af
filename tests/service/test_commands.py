"""Commands at a prompt and in a script: one key removed, asked for, listed; help, completion, and what errors advise."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from click.testing import CliRunner

import holdall
from holdall import Dict
from holdall.command.cli import cli
from holdall.process.child import environment
from holdall.process.config import ServiceSettings
from holdall.worker.directory.opening import DataDirectory
from tests.processes import children, service_process
from tests.service.test_command_line import call, done, failed
from tests.slow import slow_but


def test_one_key_is_removed_and_printed(d: Dict[Any, Any], name: str) -> None:
    d.update({"key": "value", "data": [1, None], (1, None): b"raw"})
    assert done("pop", name, "key") == "value\n"
    assert done("pop", name, "data", "--json") == "[1, null]\n"
    assert done("pop", name, "(1, None)", "-l") == "b'raw'\n"
    assert len(d) == 0
    assert f"no key 'key' in Dict {name!r}" in failed("pop", name, "key")


def test_a_value_that_cannot_be_printed_is_put_back(d: Dict[Any, Any], name: str) -> None:
    d["key"] = "x" * 1_000_000
    with open("/dev/full", "wb") as full:
        argv = [sys.executable, "-m", "holdall", "dict", "pop", name, "key"]
        ran = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=environment())
    assert (ran.returncode, "No space left" in ran.stderr) == (1, True)
    assert len(d["key"]) == 1_000_000


def test_a_key_is_asked_for_by_the_exit_status(d: Dict[Any, Any], name: str) -> None:
    d.update({"key": 1, 2: "two"})
    assert done("contains", name, "key") == "yes\n"
    assert done("contains", name, "2", "--literal") == "yes\n"
    missing = call("contains", name, "2")
    assert (missing.exit_code, missing.stdout, missing.stderr) == (1, "no\n", "")
    assert done("len", name) == "2\n"


def test_keys_come_a_line_each_as_a_script_gives_them_back(d: Dict[Any, Any], name: str) -> None:
    d.update({"plain": 1, "2": 2, 2: 3, ("claim", None): 4})
    assert sorted(done("keys", name).splitlines()) == ["('claim', None)", "2", "2", "plain"]
    for key in done("keys", name, "-l").splitlines():
        assert done("contains", name, "-l", key) == "yes\n"
    as_json = [json.loads(line) for line in done("keys", name, "--json").splitlines()]
    assert sorted(as_json, key=repr) == ["2", "plain", 2, ["claim", None]]


def test_put_makes_the_dict_only_when_told_to(name: str) -> None:
    assert f"holdall dict create {name}" in failed("put", name, "key", "value")
    done("put", name, "key", "value", "--create")
    done("put", name, "key", "other", "--create", "--environment", "elsewhere")
    assert done("get", name, "key") == "value\n"
    assert done("get", name, "key", "--environment", "elsewhere") == "other\n"
    done("delete", name, "--yes", "--environment", "elsewhere")


MISSING = {
    "get": ("key",),
    "put": ("key", "value"),
    "pop": ("key",),
    "contains": ("key",),
    "keys": (),
    "len": (),
    "items": (),
    "info": (),
    "ttl": ("5",),
    "clear": ("--yes",),
}


@pytest.mark.parametrize("command", MISSING)
@pytest.mark.parametrize("where", [(), ("--environment", "elsewhere")], ids=["", "elsewhere"])
def test_an_error_about_a_missing_dict_advises_a_command(
    service: holdall.LocalService, command: str, where: tuple[str, ...]
) -> None:
    told = failed(command, "no-such", *MISSING[command], *where)
    advice = "holdall dict create --environment elsewhere no-such" if where else "holdall dict create no-such"
    assert told.endswith(f"correct the name, or make it: {advice}\n")
    assert "create_if_missing" not in told


def commands(group: click.Group, *path: str) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)
        else:
            yield (*path, name)


@pytest.mark.parametrize("path", list(commands(cli)), ids=" ".join)
def test_each_command_has_help_with_an_example_and_whole_sentences(path: tuple[str, ...]) -> None:
    asked = [CliRunner().invoke(cli, arguments, prog_name="holdall") for arguments in ((*path, "--help"), ("help", *path))]
    assert asked[0].stdout == asked[1].stdout
    assert (asked[0].exit_code, asked[1].exit_code) == (0, 0)
    assert "Example: holdall" in asked[0].stdout
    listed = asked[0].stdout.partition("Commands:")[2]
    assert "..." not in listed


def test_what_is_no_command_is_called_wrongly_also_in_help() -> None:
    for arguments in (["no-such"], ["help", "no-such"], ["help", "dict", "no-such"]):
        assert CliRunner().invoke(cli, arguments, prog_name="holdall").exit_code == 2


def test_the_version_says_where_it_is_from() -> None:
    assert str(Path(holdall.__file__).parent) in CliRunner().invoke(cli, ["--version"], prog_name="holdall").stdout


@pytest.mark.parametrize("begun", ["pop", "contains", "keys", "len", "items", "put", "clear"])
def test_the_shell_completes_commands_and_names(name: str, d: Dict[Any, Any], begun: str) -> None:
    def completed(words: str) -> str:
        environment = {"_HOLDALL_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        return CliRunner().invoke(cli, [], env=environment, prog_name="holdall").stdout

    assert f"plain,{begun}\n" in completed(f"holdall dict {begun[:-1]}")
    assert f"plain,{name}" in completed(f"holdall dict {begun} {name[:9]}")


@pytest.mark.parametrize("sync", slow_but(["interval"], ["interval", "off"]))
def test_status_says_how_the_service_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: Any) -> None:
    data = tmp_path / "data"
    monkeypatch.delenv("HOLDALL_URL", raising=False)
    monkeypatch.setenv("HOLDALL_DATA", str(data))
    idle = None if sync == "off" else 1234.0
    with service_process(ServiceSettings(str(data), workers=2, sync=sync, idle_seconds=idle)) as pid:
        status = json.loads(CliRunner().invoke(cli, ["status", "--json"], catch_exceptions=False).stdout)
        assert (status["pid"], status["sync"], status["idle_seconds"]) == (pid, sync, idle)
        assert status["processes"] == children(pid)
        assert (status["user"].partition("@")[1], status["lanes"]) == ("@", True)
        shown = CliRunner().invoke(cli, ["status"], catch_exceptions=False, terminal_width=200).stdout
        until = "runs till it is stopped" if idle is None else "ends 1234 s after the last request"
        for each in (until, f"sync {sync}", status["user"], "by lanes", *map(str, status["processes"].values())):
            assert each in shown


@pytest.mark.parametrize("other", [1, 4, 6, 10**6])
def test_check_says_first_which_format_a_directory_has(tmp_path: Path, other: int) -> None:
    data = tmp_path / "data"
    directory = DataDirectory(data)
    directory.lock().release()
    directory.prepare(2)
    (data / "layout.json").write_bytes(msgspec.json.encode({"format": other, "id": "of another time"}))
    shutil.rmtree(data / "worker-1")  # nothing else is looked at
    told = CliRunner().invoke(cli, ["check", str(data)])
    assert (told.exit_code, told.stdout) == (1, "")
    assert f"has format {other}" in told.stderr
    as_json = CliRunner().invoke(cli, ["check", str(data), "--json"])
    assert (as_json.exit_code, as_json.stderr) == (1, told.stderr)
    assert json.loads(as_json.stdout) == {"data": str(data), "refused": told.stderr.removeprefix("holdall: ").strip()}


@pytest.mark.slow
def test_the_whole_command_as_a_shell_runs_it(name: str, service: holdall.LocalService) -> None:
    script = f"""
        set -e
        holdall() {{ "{sys.executable}" -m holdall "$@"; }}
        holdall dict put {name} key value --create
        if holdall dict contains {name} other >&2; then exit 9; fi
        holdall dict keys {name}
        holdall dict pop {name} key
        holdall dict len {name}
        holdall dict get {name} key
    """
    ran = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False, env={**os.environ, **environment()})
    assert (ran.returncode, ran.stdout) == (1, "key\nvalue\n0\n")
    assert ran.stderr == f"no\nholdall: there is no key 'key' in Dict {name!r}\n"

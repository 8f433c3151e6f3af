"""A service is found wherever its sockets are: the environment of a client may lead elsewhere, and clean-ups remove sockets."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import holdall
from holdall.service.own import LEAVING_SECONDS
from holdall.settings import runtime_directory, service_url
from holdall.worker.directory.opening import DataDirectory
from tests.processes import WAIT_SECONDS, end_service, until
from tests.slow import slow_but

PROGRAM = """
import json, os, holdall
d = holdall.Dict.from_name("kv", create_if_missing=True)
d[str(os.getpid())] = 1
print(json.dumps([sorted(d), d.pop("shared", None)]))
"""


def environment(data: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("XDG_RUNTIME_DIR", "TMPDIR", "HOLDALL_URL")}
    return {**kept, "HOLDALL_DATA": str(data), **more}


def use(environment: dict[str, str]) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False, timeout=WAIT_SECONDS
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.fixture
def places() -> Any:
    """A data directory, whose service is ended afterwards, and three places for sockets."""
    with tempfile.TemporaryDirectory(prefix="holdall-test-") as name:
        home = Path(name)
        made = [home / each for each in ("a", "b", "c")]
        for each in made:
            each.mkdir(mode=0o700)
        yield home / "data", made
        end_service(home / "data")


WAYS = {
    "temporary directories of two jobs": [{"TMPDIR": "a"}, {"TMPDIR": "b"}],
    "a login and a job of cron": [{"XDG_RUNTIME_DIR": "a"}, {"TMPDIR": "b"}],
    "a job of cron and a login": [{"TMPDIR": "b"}, {"XDG_RUNTIME_DIR": "a"}],
    "three runtime directories": [{"XDG_RUNTIME_DIR": "a"}, {"XDG_RUNTIME_DIR": "b"}, {"XDG_RUNTIME_DIR": "c"}],
}


@pytest.mark.parametrize("way", slow_but([*WAYS][:1], WAYS))
def test_processes_of_different_environments_share_one_service(places: Any, way: str) -> None:
    data, made = places
    for count, of in enumerate(WAYS[way], 1):
        variables = {name: str(made["abc".index(place)]) for name, place in of.items()}
        keys, _ = use(environment(data, **variables))
        assert len(keys) == count


@pytest.mark.slow
def test_of_first_callers_of_two_environments_one_starts_the_service(places: Any) -> None:
    data, (a, b, _) = places
    argv = [sys.executable, "-c", PROGRAM]
    pipe = subprocess.PIPE
    started = [
        subprocess.Popen(argv, env=environment(data, XDG_RUNTIME_DIR=str(each)), stdout=pipe, stderr=pipe, text=True)
        for each in (a, b, a, b, b, a)
    ]
    began = time.monotonic()
    said = [each.communicate(timeout=WAIT_SECONDS) for each in started]
    assert [errors for _, errors in said] == [""] * len(said)
    assert max(len(json.loads(out)[0]) for out, _ in said) == len(said)
    assert time.monotonic() - began < LEAVING_SECONDS


def test_the_next_service_is_found_by_clients_of_the_last_one(places: Any) -> None:
    data, (a, b, _) = places
    here = environment(data, XDG_RUNTIME_DIR=str(a))
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM + "input()\nd['again'] = 1\nprint(sorted(d))"],
        env=here,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        assert len(json.loads(child.stdout.readline())[0]) == 1
        end_service(data)
        keys, _ = use(environment(data, XDG_RUNTIME_DIR=str(b)))  # it is started there
        assert len(keys) == 2
        out, _ = child.communicate("\n", WAIT_SECONDS)
        assert len(eval(out)) == 3


REMOVED: dict[str, Callable[[Path], object]] = {
    "the directory of the sockets": lambda runtime: shutil.rmtree(runtime),
    "the socket of the service": lambda runtime: next(runtime.glob("service.*")).unlink(),
    "the socket of the workers": lambda runtime: next(runtime.glob("workers.*")).unlink(),
    "all sockets": lambda runtime: list(map(os.unlink, runtime.iterdir())),
}


@pytest.mark.parametrize("removed", slow_but(["the directory of the sockets"], REMOVED))
def test_sockets_that_are_removed_are_made_again(places: Any, monkeypatch: pytest.MonkeyPatch, removed: str) -> None:
    data, (a, _, _) = places
    here = environment(data, XDG_RUNTIME_DIR=str(a))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(a))
    use(here)
    pid = DataDirectory(data).holder()
    REMOVED[removed](runtime_directory(data))
    until(lambda: Path(service_url(data).removeprefix("ipc://")).exists())
    keys, _ = use(here)
    assert len(keys) == 2
    assert DataDirectory(data).holder() == pid


def test_an_address_that_others_could_have_written_is_not_believed(places: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock names a place that anybody can enter."""
    from holdall.service import own

    data, (a, b, _) = places
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(a))
    its_own, another = b / runtime_directory(data).name, b / runtime_directory(data / "another").name
    for place in (its_own, another):
        place.mkdir(mode=0o700)
    monkeypatch.setattr(own, "is_listening", lambda url: str(b) in url)

    def found(line: str) -> str | None:
        lock = DataDirectory(data).lock(url=line)
        try:
            return own.found(data)
        finally:
            lock.release()

    assert found(f"ipc://{its_own}/service") == f"ipc://{its_own}/service"
    for line in (f"ipc://{another}/service", f"ipc://{b}/nowhere/service", "ipc:///", "ipc:///\0", f"ipc:///{'x' * 300}"):
        assert found(line) is None
    b.chmod(0o777)
    assert found(f"ipc://{its_own}/service") is None


def test_where_temporary_directories_have_long_names_a_shorter_one_is_used(places: Any) -> None:
    data, (a, _, _) = places
    long = a / ("long" * 25)
    long.mkdir(mode=0o700)
    for number, variable in enumerate(("TMPDIR", "XDG_RUNTIME_DIR"), 1):
        keys, _ = use(environment(data, **{variable: str(long)}))
        assert len(keys) == number


def test_the_commands_find_it_too(places: Any) -> None:
    data, (a, b, _) = places
    use(environment(data, XDG_RUNTIME_DIR=str(a)))
    argv = [sys.executable, "-m", "holdall", "status", "--json"]
    told = subprocess.run(argv, env=environment(data, XDG_RUNTIME_DIR=str(b)), capture_output=True, text=True, check=True)
    assert str(a) in json.loads(told.stdout)["url"]
    assert holdall.__version__

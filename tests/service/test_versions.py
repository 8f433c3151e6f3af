"""A service of another version has the data directory: who needs it is told at once who has it, and what to do."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import holdall
from holdall import Dict, LocalService
from holdall.protocol import VERSION
from holdall.service import own
from tests.processes import end_service

HOLD = """
import fcntl, os, sys

lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
lock.write(sys.argv[2].format(pid=os.getpid()))
lock.flush()
print("held", flush=True)
sys.stdin.read()
"""
OTHER = VERSION + 1
LINES = [
    (f"{{pid}} 99.1 {OTHER}\n", "holdall 99.1", f"protocol version {OTHER}"),
    ("{pid}\n", "an older version of holdall", "an older protocol version"),
]


@contextlib.contextmanager
def held(data: Path, line: str) -> Iterator[int]:
    """A process that holds the lock of this data directory, as another version would, and has written this line; its id."""
    data.mkdir(exist_ok=True)
    argv, pipe = [sys.executable, "-c", HOLD, str(data / "lock"), line], subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        yield holder.pid


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the service of a user keeps its data who has never used it."""
    with tempfile.TemporaryDirectory(prefix="holdall-run-") as runtime:
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
        monkeypatch.setenv("HOLDALL_DATA", str(tmp_path / "data"))
        monkeypatch.delenv("HOLDALL_URL", raising=False)
        yield tmp_path / "data"
        end_service(tmp_path / "data")


@pytest.mark.parametrize(("line", "version", "protocol"), LINES, ids=["newer", "older"])
def test_a_service_of_another_version_is_not_waited_for(
    data: Path, monkeypatch: pytest.MonkeyPatch, line: str, version: str, protocol: str
) -> None:
    monkeypatch.setattr(own, "sleep", lambda _seconds: pytest.fail("this waits"))
    with held(data, line) as pid, holdall.Client() as client:
        for _ in range(2):
            with pytest.raises(holdall.StorageError, match=f"{data} is in use by process {pid} of {version}") as caught:
                Dict.from_name("kv", create_if_missing=True, client=client).get("key")
            for told in (protocol, f"this is holdall {holdall.__version__}", f"version {VERSION}:", f"(kill {pid})"):
                assert told in str(caught.value)
    with holdall.Client() as client:
        assert Dict.from_name("kv", create_if_missing=True, client=client).put("key", 1)


def test_another_service_on_its_directory_is_refused_and_told_its_version(data: Path) -> None:
    with (
        held(data, f"{{pid}} 99.1 {OTHER}\n") as pid,
        pytest.raises(holdall.StorageError, match=f"process {pid} of holdall 99.1:"),
    ):
        LocalService(data).start()


@pytest.mark.parametrize("line", [f"{{pid}} 0.0 {VERSION}\n", f"999999999 99.1 {OTHER}\n", ""], ids=["same", "ended", "none"])
def test_a_holder_of_this_protocol_or_one_that_is_yet_to_name_itself_is_waited_for(
    data: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    """The line names a process that has ended, or none, for a moment after somebody has taken the lock."""
    waits: list[float] = []
    monkeypatch.setattr(own, "sleep", waits.append)
    monkeypatch.setattr(own, "LEAVING_SECONDS", 0.1)
    with held(data, line), pytest.raises(holdall.StorageError, match="is in use by"):
        own.ensure_running(data)
    assert waits

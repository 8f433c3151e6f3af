"""Odd surroundings end in a typed error that says what to do: no home, a name that is no UTF-8, places that others made."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

import holdall
from holdall.process.listen import make_private
from holdall.worker.directory.opening import DataDirectory

NOBODY = 54_321
"""A user id without a name."""
PROGRAM = """
import holdall

try:
    holdall.Dict.from_name("kv", create_if_missing=True).len()
except holdall.Error as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A directory like /tmp."""
    with tempfile.TemporaryDirectory(prefix="holdall-test-") as name:
        Path(name).chmod(0o1777)
        yield Path(name)


def said(as_user: int | None, **environment: str) -> str:
    """What a first call says; another user's is skipped where that user cannot run this version of Python."""
    whose: Any = {} if as_user is None else {"user": as_user, "group": as_user, "extra_groups": []}
    places = os.pathsep.join(str(Path(each.__path__[0]).resolve().parent) for each in (holdall, zmq))
    whose |= {"cwd": "/", "capture_output": True, "text": True}
    whose["env"] = {"PATH": os.environ["PATH"], "PYTHONPATH": places, **environment}
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            subprocess.run([python, "-c", "import holdall, zmq"], check=True, **whose)
            done = subprocess.run([python, "-c", PROGRAM], check=False, **whose)
            assert done.stderr == ""
            return str(done.stdout)
    pytest.skip("only root can run as another user, who must be able to run this Python")


PLACES: dict[str, Callable[[Path], object]] = {
    "another user's": lambda place: place.mkdir(mode=0o700),
    "another user's, for all": lambda place: os.system(f"mkdir -m 777 {place}"),
    "a link": lambda place: place.symlink_to("/tmp"),
    "a link to nothing": lambda place: place.symlink_to("/nowhere"),
    "a file": lambda place: place.touch(),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_runtime_directory_that_others_have_made_is_refused(temporary: Path, place: str) -> None:
    PLACES[place](temporary / f"runtime-{NOBODY}")
    told = said(NOBODY, TMPDIR=str(temporary), HOLDALL_DATA=str(temporary / "data"))
    assert told.startswith("AuthError ")
    assert "XDG_RUNTIME_DIR" in told


def test_a_user_without_a_home_is_told_to_set_one(temporary: Path) -> None:
    told = said(NOBODY, TMPDIR=str(temporary))
    assert told.startswith("InvalidError ")
    assert "HOLDALL_DATA" in told


@pytest.mark.parametrize("name", [b"\xff", b"d\xe9j\xe0", b"x/\xf0\x9f"])
def test_a_data_directory_whose_name_is_no_utf_8_is_refused(temporary: Path, name: bytes) -> None:
    path = os.fsdecode(os.fsencode(temporary) + b"/" + name)
    assert said(None, HOLDALL_DATA=path, HOME="/root").startswith("InvalidError the data directory")
    for use in (holdall.LocalService(path).start, lambda: DataDirectory(path)):
        with pytest.raises(holdall.InvalidError, match="no UTF-8"):
            use()


@pytest.mark.slow
def test_directories_for_sockets_are_made_while_other_services_remove_what_is_empty(temporary: Path) -> None:
    shared, is_done = temporary / "holdall", threading.Event()

    def remove() -> None:
        while not is_done.is_set():
            with contextlib.suppress(OSError):
                shared.rmdir()

    removing = threading.Thread(target=remove)
    removing.start()
    try:
        for number in range(1_000):
            assert make_private(shared / str(number)).is_dir()
            (shared / str(number)).rmdir()
    finally:
        is_done.set()
        removing.join()

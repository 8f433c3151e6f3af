"""Another user of the machine, who plants folders, links, sockets and locks where this user's are about to be."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import site
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from click.testing import CliRunner

import holdall
from holdall import Client, Dict, LocalService
from holdall.client.connection.connector import ServiceConnector
from holdall.client.operations.backup import back_up
from holdall.command.cli import cli
from holdall.process import child, listen
from holdall.process.listen import listening_socket
from holdall.service import own
from holdall.settings import runtime_directory, service_url
from holdall.worker.directory.opening import DataDirectory
from holdall.worker.uplink import Uplink
from tests.processes import WAIT_SECONDS, children, end_service, service_pid, until

STRANGER = 54_321
"""Another user's id."""


def given_away(path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give a file to another user")
    os.chown(path, STRANGER, STRANGER, follow_symlinks=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a socket, or data, is to be."""
    made = tmp_path / "above" / "folder"
    made.mkdir(parents=True)
    made.chmod(0o700)
    return made


@pytest.fixture
def short() -> Iterator[str]:
    """A directory whose name leaves room for that of a socket."""
    with tempfile.TemporaryDirectory(prefix="holdall-run-") as name:
        yield name


@contextlib.contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """Somebody who listens there, and hears whether anybody comes."""
    with socket.socket(socket.AF_UNIX) as there:
        there.bind(os.path.relpath(path))
        there.listen()
        there.setblocking(False)
        yield there


def moved_behind_a_link(folder: Path) -> None:
    folder.rename(folder.parent / "elsewhere")
    folder.symlink_to(folder.parent / "elsewhere")
    given_away(folder)


OPEN: dict[str, Callable[[Path], object]] = {
    "a folder that all may change": lambda folder: folder.chmod(0o777),
    "a folder like /tmp": lambda folder: folder.chmod(0o1777),
    "a folder that all may enter": lambda folder: folder.chmod(0o755),
    "a folder that all may search": lambda folder: folder.chmod(0o711),
    "a folder of another user": given_away,
    "below a folder of another user": lambda folder: given_away(folder.parent),
    "below a folder that all may change": lambda folder: folder.parent.chmod(0o777),
    "behind a link of another user": moved_behind_a_link,
}


@pytest.mark.parametrize("place", OPEN)
def test_nothing_is_said_to_who_listens_where_others_may(folder: Path, place: str) -> None:
    async def awaiting() -> None:
        async with Client(url, timeout=1) as client:
            await Dict.from_name("kv", client=client).get.aio("key")

    url = f"ipc://{folder}/kv"
    with listening(folder / "kv") as there:
        OPEN[place](folder)
        with (
            Client(url, timeout=1) as client,
            pytest.raises(holdall.AuthError, match=r"others could listen.*only you can enter"),
        ):
            Dict.from_name("kv", client=client)["key"]
        with pytest.raises(holdall.AuthError, match="others could listen"):
            asyncio.run(awaiting())
        with pytest.raises(holdall.AuthError, match="others could listen"):
            Uplink(url, None)  # type: ignore[arg-type]  # where a worker would register
        with pytest.raises(BlockingIOError):
            there.accept()


@pytest.mark.parametrize("place", OPEN)
def test_nobody_listens_where_others_may(folder: Path, place: str) -> None:
    OPEN[place](folder)
    with pytest.raises(holdall.AuthError, match="others could listen"):
        listening_socket(f"ipc://{folder}/kv")
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.linger = 0
        with pytest.raises(holdall.AuthError, match="others could listen"):
            listen.listen(router, f"ipc://{folder}/kv")
    assert not (folder / "kv").exists()


def test_a_socket_that_is_a_link_is_not_gone_through(folder: Path, tmp_path: Path) -> None:
    with listening(tmp_path / "theirs") as there:
        (folder / "kv").symlink_to(tmp_path / "theirs")
        with Client(f"ipc://{folder}/kv", timeout=1) as client, pytest.raises(holdall.AuthError, match="is a link"):
            Dict.from_name("kv", client=client)["key"]
        with pytest.raises(BlockingIOError):
            there.accept()


@pytest.mark.parametrize("place", OPEN)
def test_a_service_planted_where_ones_own_would_be_is_not_believed(
    tmp_path: Path, short: str, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Whatever a library says of the place."""
    monkeypatch.setenv("HOLDALL_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("HOLDALL_URL", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", short)
    runtime = runtime_directory(tmp_path / "data")
    assert str(runtime).startswith(short)
    runtime.mkdir(parents=True)
    runtime.chmod(0o700)
    with listening(Path(service_url(tmp_path / "data").removeprefix("ipc://"))) as there:
        OPEN[place](runtime)
        assert own.found(tmp_path / "data") is None
        with Client(timeout=1) as client, pytest.raises(holdall.AuthError, match="XDG_RUNTIME_DIR"):
            Dict.from_name("kv", client=client)["key"]
        with pytest.raises(BlockingIOError):
            there.accept()


def test_a_lane_of_another_users_process_is_none(folder: Path) -> None:
    if os.getuid() != 0 or not hasattr(socket, "SO_PEERCRED"):
        pytest.skip("only root can listen as another user, and Linux alone tells")
    program = "import os, socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); os.setuid(int(sys.argv[2]))\n"
    program += "s.listen(); print('listening', flush=True); sys.stdin.read()"
    argv, pipe = [sys.executable, "-c", program, str(folder / "worker-0"), str(STRANGER)], subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe) as there:
        assert there.stdout is not None
        assert there.stdout.readline() == b"listening\n"
        connector = ServiceConnector(f"ipc://{folder}/kv", None, has_lanes=True)
        assert connector.open_lane(f"ipc://{folder}/worker-0", 0.1) is None
        there.communicate(timeout=WAIT_SECONDS)


def test_of_many_that_begin_to_listen_at_once_one_does(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_listening(url: str) -> bool:
        found = listen_now(url)
        time.sleep(0.02)  # all have looked before the first of them goes on
        return found

    listen_now = listen.is_listening
    monkeypatch.setattr(listen, "is_listening", is_listening)
    monkeypatch.setattr(listen, "LISTENER_LEAVING_SECONDS", 0.2)
    got: list[Any] = []
    start = threading.Barrier(8)

    def begin() -> None:
        start.wait()
        try:
            got.append(listening_socket(f"ipc://{folder}/kv"))
        except holdall.ConnectionError:
            got.append(None)

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    [only] = filter(None, got)
    with only, socket.socket(socket.AF_UNIX) as asking:
        asking.connect(str(folder / "kv"))
        only.accept()[0].close()
        assert (folder / "kv").stat().st_mode & 0o777 == 0o600


SHARED: dict[str, Callable[[Path], object]] = {
    "another user's": given_away,
    "all may change it": lambda data: data.chmod(0o777),
    "like /tmp": lambda data: data.chmod(0o1777),
    "all may replace it": lambda data: data.parent.chmod(0o777),
    "below another user's": lambda data: given_away(data.parent),
}


def all_refused(data: Path, *, has_part: bool = True) -> None:
    """Whoever comes to this directory, or to the part of its worker, is told that it is not this user's alone."""
    directory = DataDirectory(data)
    part: list[Callable[[], object]] = [lambda: directory.lock_worker(0)] if has_part else []
    for use in (directory.lock, directory.lock_for_restore, *part):
        with pytest.raises(holdall.StorageError, match=f"{data}.* (not this user's alone|cannot be used)"):
            use()
    for command in (["check", str(data)], ["restore", str(data.parent / "backup"), "--data", str(data)]):
        done = CliRunner().invoke(cli, command)
        assert (done.exit_code, done.output.strip().count("\n")) == (1, 0), done.output
        assert str(data) in done.output


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory that a service has made."""
    made = tmp_path / "above" / "data"
    made.parent.mkdir(mode=0o755)
    directory = DataDirectory(made)
    lock = directory.lock()
    directory.prepare(1)
    directory.open_store(0, "leveldb").close()
    lock.release()
    (tmp_path / "above" / "backup").write_bytes(b"holdall backup\n")
    return made


def contents(data: Path) -> dict[str, Any]:
    return {str(each): each.read_bytes() for each in data.rglob("*") if each.is_file() and not each.is_symlink()}


@pytest.mark.parametrize("shared", SHARED)
def test_a_data_directory_that_is_not_ones_own_alone_is_refused_and_left_as_it_is(data: Path, shared: str) -> None:
    SHARED[shared](data)
    before = contents(data)
    all_refused(data)
    if shared == "all may change it":
        with pytest.raises(holdall.StorageError, match="not this user's alone"):
            LocalService(data).start()
    assert contents(data) == before


@pytest.mark.parametrize("shared", [*SHARED][1:3])
def test_a_missing_data_directory_is_not_made_where_others_could_have(tmp_path: Path, shared: str) -> None:
    (tmp_path / "place").mkdir()
    SHARED[shared](tmp_path / "place")
    if shared == "like /tmp":  # there it is made, and nobody replaces it
        DataDirectory(tmp_path / "place" / "data").lock().release()
        return
    with pytest.raises(holdall.StorageError, match="not this user's alone"):
        DataDirectory(tmp_path / "place" / "data").lock()


NAMES = [
    *("lock", "starting", "layout.json", "worker-0", "worker-0/lock", "worker-0/store", "worker-0/complete"),
    *("worker-0/version", "worker-0/reserve", "worker-0/blobs", "worker-0/store/CURRENT", "worker-0/store/MANIFEST-000099"),
    *("worker-0/blobs/" + "ab" * 16, "worker-1"),
]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_reached_through_a_link_in_a_data_directory(data: Path, tmp_path: Path, name: str) -> None:
    """As an archive that was unpacked may have it."""
    target = tmp_path / "target"
    place = data / name
    if place.is_dir():
        place.rename(target)
    elif place.exists():
        target.write_bytes(place.read_bytes() + b"mine")
        place.unlink()
    elif name.endswith("blobs") or name == "worker-1":
        target.mkdir()
    else:
        target.write_bytes(b"mine")
    if target.is_dir():
        (target / ("cd" * 16)).write_bytes(b"mine")
    place.parent.mkdir(exist_ok=True, mode=0o700)
    place.symlink_to(target)
    before = contents(tmp_path)
    if name == "starting":
        with pytest.raises(holdall.StorageError, match="starting"):
            own._open_starting(data)
    elif name == "layout.json":
        with pytest.raises(holdall.StorageError, match=name):
            LocalService(data).start()
    else:
        all_refused(data, has_part=name.startswith("worker-0"))
    changed = {file for file, found in contents(tmp_path).items() if before.get(file) != found}
    assert not {file for file in changed if file.startswith(str(target))}


def test_the_files_that_others_could_lock_or_read_are_ones_own_whatever_the_umask(data: Path) -> None:
    data.chmod(0o755)
    for each in data.rglob("*"):
        if each.is_file() and each.parent == data:
            assert each.stat().st_mode & 0o777 == 0o600, each
        elif each.is_dir() and each.parent == data:
            assert each.stat().st_mode & 0o777 == 0o700, each


def test_a_backup_is_ones_own_and_not_written_through_a_link(service: LocalService, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    before = os.umask(0)
    try:
        with Client(service.url) as client:
            for name in ("backup", "link"):
                back_up(client, tmp_path / name, lambda made: None)
                assert (tmp_path / name).lstat().st_mode & 0o7777 == 0o600
    finally:
        os.umask(before)
    assert not (tmp_path / "target").exists()
    (tmp_path / f"third.{os.getpid()}.part").symlink_to(tmp_path / "target")
    with Client(service.url) as client, pytest.raises(holdall.StorageError, match="third"):
        back_up(client, tmp_path / "third", lambda made: None)
    assert not (tmp_path / "target").exists()


def test_a_service_that_a_client_starts_takes_along_only_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No secrets of other programs, no memory on the disk after a crash, no log through a link."""
    data, target = tmp_path / "data", tmp_path / "target"
    data.mkdir()
    (data / "service.log").symlink_to(target)
    monkeypatch.setenv("SOME_TOKEN", "secret")
    monkeypatch.setenv("HOLDALL_LOG", "json")
    resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
    own._start_detached(data)
    try:
        service = service_pid(data)
        until(lambda: len(children(service)) >= 3)
        for pid in (service, *children(service).values()):
            told = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            assert b"HOLDALL_LOG=json" in told
            assert not [each for each in told if b"secret" in each]
            limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
            assert next(each for each in limits if each.startswith("Max core")).split()[4] == "1"  # nor to a program
            assert "Umask:\t0077" in Path(f"/proc/{pid}/status").read_text()
        assert not target.exists()
    finally:
        end_service(data)


@pytest.mark.parametrize("is_installed", [True, False])
def test_packages_that_are_installed_do_not_come_before_the_standard_library(
    monkeypatch: pytest.MonkeyPatch, is_installed: bool
) -> None:
    """Else one of them could take a standard module's name in the processes of a service."""
    home = str(Path(holdall.__file__).resolve().parents[1])
    monkeypatch.setattr(site, "getsitepackages", lambda: [home] if is_installed else [])
    monkeypatch.setenv("PYTHONPATH", "/some/where")
    assert child.environment()["PYTHONPATH"].split(os.pathsep) == [*([] if is_installed else [home]), "/some/where"]
    monkeypatch.delenv("PYTHONPATH")
    assert is_installed == ("PYTHONPATH" not in child.environment())


def test_a_child_inherits_a_short_list_of_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "PYTHONINSPECT", "PYTHONSTARTUP", "LD_PRELOAD", "HOLDALLX", "XHOLDALL_X", "PATHS"):
        monkeypatch.setenv(name, "x")
        assert name not in child.environment()
    for name in ("PATH", "HOME", "LANG", "LC_TIME", "TZ", "TMPDIR", "XDG_RUNTIME_DIR", "HOLDALL_LOG", "VIRTUAL_ENV"):
        monkeypatch.setenv(name, "x")
        assert child.environment()[name] == "x"

"""A part has one owner: a directory that was copied, or moved elsewhere, is not opened until the user says which to use."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE
from typing import Any

import msgspec
import pytest

from holdall import Client, Dict, LocalService, StorageError
from holdall.client.operations.backup import back_up
from holdall.settings import service_url, socket_url
from holdall.worker.directory.opening import DataDirectory
from holdall.worker.directory.place import Location
from holdall.worker.directory.restore import restore
from tests.processes import until

WORKERS = 2


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data directory that has an entry, and its backup."""
    home = tmp_path_factory.mktemp("made")
    with LocalService(home / "data", workers=WORKERS) as service, Client(service.url) as client:
        kept(client)["key"] = "value"
        back_up(client, home / "backup", lambda _made: None)
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Iterator[Path]:
    """The same, for one test, at the same place."""
    before = tmp_path / "before"
    (made / "data").rename(before)
    before.rename(tmp_path / "data")
    shutil.copy(made / "backup", tmp_path)
    yield tmp_path
    if (tmp_path / "original").exists():
        shutil.rmtree(tmp_path / "data")
        (tmp_path / "original").rename(tmp_path / "data")
    (tmp_path / "data").rename(made / "data")


def kept(client: Client) -> Dict[Any, Any]:
    return Dict.from_name("kv", create_if_missing=True, client=client)


def copied(home: Path) -> None:
    subprocess.run(["cp", "-a", home / "data", home / "copy"], check=True)


def swapped(home: Path) -> None:
    copied(home)
    (home / "data").rename(home / "original")
    (home / "copy").rename(home / "data")


def hard_linked(home: Path) -> None:
    subprocess.run(["cp", "-al", home / "data", home / "copy"], check=True)


def copied_with_the_very_locks(home: Path) -> None:
    copied(home)
    for part in range(WORKERS):
        lock = home / "copy" / f"worker-{part}" / "lock"
        lock.unlink()
        os.link(home / "data" / f"worker-{part}" / "lock", lock)


def archived(home: Path) -> None:
    with tarfile.open(home / "tar", "w") as out:
        out.add(home / "data", "copy")
    with tarfile.open(home / "tar") as back:
        back.extractall(home, filter="fully_trusted")


def one_part_copied(home: Path) -> None:
    (home / "data").rename(home / "original")
    restore(home / "backup", DataDirectory(home / "data"), lambda _done: None)
    shutil.rmtree(home / "data" / "worker-1")
    shutil.copytree(home / "original" / "worker-1", home / "data" / "worker-1")


ELSEWHERE: dict[Callable[[Path], None], str] = {
    copied: "copy",
    swapped: "data",
    hard_linked: "copy",
    copied_with_the_very_locks: "copy",
    archived: "copy",
    one_part_copied: "data",
}


def settled(data: Path, *, adopt: bool = False) -> list[str]:
    """Open each part as its worker does; what is said to that."""
    said: list[str] = []
    for index in range(WORKERS):
        lock = DataDirectory(data).lock_worker(index)
        try:
            DataDirectory(data).settle(index, adopt=adopt)
        except StorageError as error:
            said.append(str(error))
        lock.release()
    return said


@pytest.mark.parametrize("how", ELSEWHERE, ids=lambda how: how.__name__)
def test_a_copy_is_not_opened_until_it_is_adopted(home: Path, how: Callable[[Path], None]) -> None:
    how(home)
    data = home / ELSEWHERE[how]
    said = settled(data)
    assert len(said) == (1 if how is one_part_copied else WORKERS)
    assert all("is a copy, or was moved" in each for each in said)
    assert settled(data, adopt=True) == settled(data) == []


@pytest.mark.slow
def test_a_service_on_a_copy_says_what_to_do_and_does_it(home: Path) -> None:
    copied(home)
    data = home / "copy"
    with pytest.raises(StorageError, match=f"is a copy, or was moved.*holdall serve --adopt --data {data}"):
        LocalService(data).start()
    with subprocess.Popen([sys.executable, "-m", "holdall", "serve", "--adopt", "--data", str(data)], stderr=PIPE) as serving:
        assert serving.stderr is not None
        assert b"serving" in serving.stderr.readline()
        with Client(service_url(data)) as client:
            assert kept(client)["key"] == "value"
        serving.terminate()
    assert settled(data) == []


def renamed(home: Path) -> Path:
    (home / "data").rename(home / "renamed")
    (home / "deeper").mkdir()
    (home / "renamed").rename(home / "deeper" / "still")
    return home / "deeper" / "still"


def locks_removed(home: Path) -> Path:
    for lock in [home / "data" / "lock", *(home / "data").glob("worker-*/lock")]:
        lock.unlink()
    return home / "data"


def restored(home: Path) -> Path:
    restore(home / "backup", DataDirectory(home / "restored"), lambda _done: None)
    return home / "restored"


def linked(home: Path) -> Path:
    (home / "link").symlink_to(home / "data")
    return home / "link"


@pytest.mark.parametrize("how", [renamed, locks_removed, restored, linked], ids=lambda how: how.__name__)
def test_what_is_no_copy_is_opened(home: Path, how: Callable[[Path], Path]) -> None:
    data = how(home)
    assert settled(data) == []
    if how is renamed:
        data.rename(home / "data")


@pytest.mark.slow
def test_a_second_worker_of_a_part_ends_and_says_why_and_no_answer_is_its(home: Path) -> None:
    """The copy was adopted, and is served beside the original."""
    copied(home)
    for index in range(WORKERS):
        DataDirectory(home / "copy").settle(index, adopt=True)
    with LocalService(home / "data") as service, Client(service.url, lanes=False) as client:
        kept(client)["key"] = "newer"
        broker = socket_url(home / "data", "workers")
        argv = [sys.executable, "-m", "holdall", "worker", "--data", str(home / "copy"), "--broker", broker]
        seconds = [
            subprocess.Popen([*argv, "--index", str(index), "--address", f"ipc://{home}/w{index}"], stderr=PIPE, text=True)
            for index in range(WORKERS)
        ]
        until(lambda: kept(client)["key"] == "newer" and all(second.poll() is not None for second in seconds))
        for index, second in enumerate(seconds):
            said = second.communicate()[1]
            assert second.returncode == 1
            assert f"holdall: a second process says that it is worker {index}, and is refused" in said
        assert kept(client)["key"] == "newer"
    shutil.rmtree(home / "copy")


def of_another_boot(place: Location) -> dict[str, Any]:
    return {"boot": "another boot", "device": place.device + 1}


RECORDS: dict[str, tuple[Callable[[Location], dict[str, Any]], bool]] = {
    "another boot, which numbers devices otherwise": (of_another_boot, True),
    "another boot, another inode": (lambda place: {**of_another_boot(place), "inode": place.inode + 1}, False),
    "another boot, another machine": (lambda place: {**of_another_boot(place), "machine": "another machine"}, False),
    "another boot, a machine without an id": (lambda place: {**of_another_boot(place), "machine": ""}, True),
    "no boot's id": (lambda place: {"boot": "", "device": place.device + 1}, True),
    "no id at all, another inode": (lambda place: {"boot": "", "machine": "", "inode": place.inode + 1}, False),
    "another device": (lambda place: {"device": place.device + 1}, False),
    "another inode": (lambda place: {"inode": place.inode + 1}, False),
}


@pytest.mark.parametrize("record", RECORDS)
def test_what_a_part_has_recorded_is_compared_as_far_as_it_can_be(tmp_path: Path, record: str) -> None:
    directory = DataDirectory(tmp_path)
    directory.prepare(1)
    file = tmp_path / "worker-0" / "place"
    now = msgspec.json.decode(file.read_bytes(), type=Location)
    change, opens = RECORDS[record]
    file.write_bytes(msgspec.json.encode(msgspec.structs.replace(now, **change(now))))
    if opens:
        directory.settle(0)
    else:
        with pytest.raises(StorageError, match="is a copy, or was moved"):
            directory.settle(0)
        directory.settle(0, adopt=True)
    assert msgspec.json.decode(file.read_bytes(), type=Location) == now


@pytest.mark.parametrize("damage", [None, b"", b"{}", b"\xff", b'{"device":"x"}', b"[1,2]"])
def test_a_part_that_does_not_say_where_it_belongs_is_not_opened(tmp_path: Path, damage: bytes | None) -> None:
    directory = DataDirectory(tmp_path)
    directory.prepare(1)
    file = tmp_path / "worker-0" / "place"
    file.unlink() if damage is None else file.write_bytes(damage)
    with pytest.raises(StorageError, match=r"does not say where it belongs.*--adopt"):
        directory.settle(0)
    directory.settle(0, adopt=True)
    directory.settle(0)

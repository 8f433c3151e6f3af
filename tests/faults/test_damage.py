"""Each file of a data directory flipped, cut short, missing, while its service does not run: refused, or harmless."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest

from holdall import protocol
from holdall.errors import StorageError
from holdall.protocol import Request
from holdall.slots import SLOTS, dict_crc, key_hash, part_hash
from holdall.worker.core import Worker
from holdall.worker.directory.opening import DataDirectory
from holdall.worker.message import Message
from holdall.worker.serve import close_worker, open_worker
from tests.engines import USABLE
from tests.nowhere import NOWHERE
from tests.registration import registration

DICT = b"d" * 16
VALUES = {b"skey-%d" % number: b"value %d " % number * 200 for number in range(100)}


def ask(worker: Worker, sequence: int, opcode: int, key: bytes, value: bytes = b"") -> protocol.Reply:
    hash_ = part_hash(0, SLOTS) if opcode in protocol.PARTS else key_hash(dict_crc(DICT), key)
    request = Request(opcode, 0, hash_, b"s" * 16, sequence, sequence, DICT, key, value)
    [answer] = worker.tick([Message(NOWHERE, b"\0route", *protocol.pack_request(request))], 1e9)  # type: ignore[arg-type]
    return protocol.parse_reply(*answer.frames)  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=USABLE)
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """What the directories are kept in."""
    with mock.patch.dict(os.environ, HOLDALL_ENGINE=request.param):
        yield request.param


@pytest.fixture(scope="module")
def whole(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory of one worker, closed in order, with data in a table and in the log."""
    directory = DataDirectory(tmp_path_factory.mktemp("whole"))
    layout = directory.prepare(1)
    directory.lock_worker(0).release()
    for half in (0, 1):
        worker = open_worker(directory, 0, layout, sync="always")
        ask(worker, 1 + half * 100, protocol.REGISTER, b"", registration(DICT, secret=bytes.fromhex(layout.secret)))
        for sequence, (key, value) in enumerate(list(VALUES.items())[half::2], 2 + half * 100):
            assert ask(worker, sequence, protocol.PUT, key, value).status == protocol.OK
        close_worker(directory, worker)
    return directory.path


@pytest.fixture(scope="module")
def killed(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory of one worker that was killed: half of its data is in a table, the rest in the log."""
    directory = DataDirectory(tmp_path_factory.mktemp("open"))
    layout = directory.prepare(1)
    directory.lock_worker(0).release()
    pairs = list(VALUES.items())
    for half in (0, 1):
        worker = open_worker(directory, 0, layout, sync="always")
        ask(worker, 1 + half * 100, protocol.REGISTER, b"", registration(DICT, secret=bytes.fromhex(layout.secret)))
        for sequence, (key, value) in enumerate(pairs[half * 50 : half * 50 + 50], 2 + half * 100):
            assert ask(worker, sequence, protocol.PUT, key, value).status == protocol.OK
        if half == 0:
            close_worker(directory, worker)
    copy = shutil.copytree(directory.path, tmp_path_factory.mktemp("killed") / "data")
    close_worker(directory, worker)
    return copy


def values_in(path: Path) -> dict[bytes, bytes] | None:
    """What a worker on this directory answers; None where it, or the directory, is refused."""
    directory = DataDirectory(path)
    try:
        worker = open_worker(directory, 0, directory.layout(), sync="always")
    except StorageError:
        return None
    replies = {key: ask(worker, 1_000 + number, protocol.GET, key) for number, key in enumerate(VALUES)}
    worker.close()
    if any(reply.status not in (protocol.OK, protocol.MISSING) for reply in replies.values()):
        return None
    return {key: bytes(reply.payload) for key, reply in replies.items() if reply.status == protocol.OK}


def middle(file: Path) -> int:
    """Half of what was written to this file."""
    return file.stat().st_size // 2


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[middle(file)] ^= 1
    file.write_bytes(data)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: middle(file)])


HARMLESS = ("lock", "LOCK", "LOG", "LOG.old")
"""Files that hold no data."""


def test_a_whole_directory_has_everything(whole: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(whole, tmp_path / "copy")
    assert values_in(copy) == VALUES


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
def test_damage_to_any_file_is_refused_or_harmless(
    engine: str, whole: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    files = [file.relative_to(whole) for file in sorted(whole.rglob("*")) if file.is_file() and file.stat().st_size]
    assert len([file for file in files if file.name not in HARMLESS]) >= {"leveldb": 6, "sqlite": 3}[engine]
    for number, file in enumerate(files):
        copy = shutil.copytree(whole, tmp_path / str(number))
        damage(copy / file)
        found = values_in(copy)
        assert found in (None, VALUES), f"{damage.__name__} of {file} lost {len(VALUES) - len(found or {})} values in silence"


def test_a_killed_directory_has_everything(killed: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(killed, tmp_path / "copy")
    assert values_in(copy) == VALUES


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
def test_damage_to_any_file_after_a_kill_is_refused_or_harmless_and_to_the_log_at_most_as_a_power_cut(
    killed: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """The engines take the end of a log for the end of what was written, whoever cut it off; SQLite one that is gone, too."""
    files = [file.relative_to(killed) for file in sorted(killed.rglob("*")) if file.is_file() and file.stat().st_size]
    in_order = list(VALUES.items())
    for number, file in enumerate(files):
        copy = shutil.copytree(killed, tmp_path / str(number))
        damage(copy / file)
        found = values_in(copy)
        allowed = range(50, len(VALUES) + 1) if file.name.endswith((".log", "-wal")) else [len(VALUES)]
        assert found is None or found in [dict(in_order[:count]) for count in allowed], f"{damage.__name__} of {file}"

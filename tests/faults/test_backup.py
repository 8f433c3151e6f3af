"""Backups of services that run, are written to, and lose processes meanwhile; and what is restored of them."""

from __future__ import annotations

import contextlib
import itertools
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from click.testing import CliRunner, Result

from holdall import Client, Dict, LocalService, StorageError, TimeoutError, keys, protocol
from holdall import backup as format_
from holdall.client.operations import backup
from holdall.client.operations.backup import Backup, SnapshotLost, _answers, _discard, _to_all, back_up
from holdall.command.cli import cli
from holdall.protocol import Request
from holdall.slots import dict_crc, key_hash, slot_of
from holdall.worker.directory.check import check_directory
from holdall.worker.directory.opening import DataDirectory
from holdall.worker.directory.restore import Restored, restore
from holdall.worker.store import rows
from tests.engines import USABLE
from tests.processes import WAIT_SECONDS, process_ids, until, worker_pid
from tests.streams import StreamClient

WORKERS = 2
WRITERS = 6
CAUSES = 20
"""Enough for a writer to be still at it when the first worker has its snapshot and the other one has not."""
SLOW_SECONDS = 0.1
"""Well below the time for which a worker holds its writes."""


def quietly(_so_far: Backup | Restored) -> None:
    pass


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def client(data: Path) -> Iterator[Client]:
    """Of a service of its own, in the weakest mode: that writes fastest."""
    with LocalService(data, workers=WORKERS, sync="off") as service, Client(service.url) as client:
        yield client


@pytest.fixture(scope="module")
def shared_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared") / "data"


@pytest.fixture(scope="module")
def shared_service(shared_data: Path) -> Iterator[LocalService]:
    with LocalService(shared_data, workers=WORKERS, sync="off") as service:
        yield service


@pytest.fixture
def shared(shared_service: LocalService) -> Iterator[Client]:
    """Of a service that those tests share who kill none of its processes; it has no Dicts."""
    with Client(shared_service.url) as client:
        yield client
        Dict.objects.delete("kv", allow_missing=True, client=client)


def dict_of(client: Client) -> Dict[Any, Any]:
    return Dict[Any, Any].from_name("kv", create_if_missing=True, client=client).hydrate()


def keys_in(file: Path) -> set[Any]:
    """The keys of all entries in a backup."""
    with open(file, "rb") as opened:
        head = format_.read_head(opened, str(file))
        parts = [part for part in format_.read_parts(opened, head, str(file)) if isinstance(part, format_.Rows)]
        found = [row for part in parts for row, _value in part.rows]
    return {keys.decode(row[21:]) for row in found if row[:1] == rows.ENTRY_PREFIX}


def rows_of(data: Path) -> list[dict[bytes, bytes]]:
    """The sentinels, the catalog and the entries of each worker, without the times of these."""
    found: list[dict[bytes, bytes]] = []
    kinds = (rows.FIRST_ROW[:1], rows.LAST_ROW[:1], rows.NAME_PREFIX, rows.ID_PREFIX)
    directory = DataDirectory(data)
    for index in range(directory.layout().workers):
        with closing(directory.open_store(index, directory.layout().engine)) as store:
            entries = {row: value for row, value in store.scan(rows.ENTRY_PREFIX) if row[:1] == rows.ENTRY_PREFIX}
            values = {row: bytes(rows.parse_record(row, value).value) for row, value in entries.items()}
            found.append(values | {row: value for row, value in store.scan(b"") if row[:1] in kinds})
    return found


def sessions_in(data: Path) -> set[bytes]:
    """The ids of the sessions that workers remember."""
    found: set[bytes] = set()
    directory = DataDirectory(data)
    for index in range(directory.layout().workers):
        with closing(directory.open_store(index, directory.layout().engine)) as store:
            found.update(row[1:17] for row, _value in store.scan(b"") if row[:1] in (rows.SESSION_PREFIX, rows.OUTCOME_PREFIX))
    return found


def findings(data: Path) -> list[object]:
    return [finding for part in check_directory(DataDirectory(data)) for finding in part.findings]


def test_a_restored_directory_has_every_row_and_an_id_of_its_own(data: Path, tmp_path: Path) -> None:
    with LocalService(data, workers=WORKERS) as service, Client(service.url) as client:
        d = dict_of(client)
        d.update({number: number for number in range(3_000)})
        d["large"] = b"x" * 3_000_000
        assert d.pop("large") is not None  # the blob stays for a while, and an outcome refers to it
        d["large"] = b"x" * 3_000_000
        d.update({("large", number): b"%d" % number * 1_000_000 for number in range(5)})
        made = back_up(client, tmp_path / "kv.backup", quietly)
    assert (made.tries, made.bytes) == (1, (tmp_path / "kv.backup").stat().st_size)
    done = restore(tmp_path / "kv.backup", DataDirectory(tmp_path / "restored"), quietly)
    assert done.rows == made.rows
    assert sessions_in(tmp_path / "restored") == {protocol.NO_SESSION}
    spoken_for = sessions_in(data)
    assert spoken_for
    kept = (tmp_path / "kv.backup").read_bytes()
    assert not any(session in kept for session in spoken_for)
    assert rows_of(tmp_path / "restored") == rows_of(data)
    assert findings(tmp_path / "restored") == []
    assert_restored_for_others(tmp_path)
    layouts = [DataDirectory(each).layout() for each in (data, tmp_path / "restored")]
    assert layouts[0].workers == layouts[1].workers
    assert layouts[0].id != layouts[1].id
    with LocalService(tmp_path / "restored") as service, Client(service.url) as client:
        d = dict_of(client)
        assert (len(d), d[2_999], len(d["large"])) == (3_006, 2_999, 3_000_000)
        d["new"] = 1


def assert_restored_for_others(home: Path) -> None:
    """From one engine to the other, and to other numbers of workers, all rows come, and what they say of each other holds."""
    expected = dict(itertools.chain.from_iterable(part.items() for part in rows_of(home / "restored")))
    for engine, workers in (("sqlite", 3), (USABLE[0], 1)):
        with mock.patch.dict(os.environ, HOLDALL_ENGINE=engine):
            other = DataDirectory(home / f"{engine} {workers}")
            assert restore(home / "kv.backup", other, quietly, workers).workers == workers
        assert (other.layout().engine, other.layout().workers) == (engine, workers)
        assert findings(other.path) == []
        parts = rows_of(other.path)
        assert all(len(part) > 600 for part in parts)
        assert dict(itertools.chain.from_iterable(part.items() for part in parts)) == expected
        assert len([*other.path.glob("worker-*/blobs/*")]) == 6


def key_at(client: Client, d: Dict[Any, Any], worker: int, *parts: object) -> Any:
    """A key that begins with these parts and that this worker owns."""
    crc = dict_crc(bytes.fromhex(d.object_id.removeprefix("di-")))
    candidates = ((*parts, salt) for salt in itertools.count())
    owners, part = client.roster.part_of_slot(), client.roster.workers[worker].hash
    return next(key for key in candidates if owners[slot_of(key_hash(crc, keys.encode(key).data))] == part)


def write_causes(client: Client, d: Dict[Any, Any], writer: int, stop: threading.Event, put: list[Any]) -> None:
    """Put keys at one worker, and when they are acknowledged a key that names the last of them at the other worker."""
    for number in itertools.count():
        for step in range(CAUSES):
            if stop.is_set():
                return
            cause = key_at(client, d, writer % WORKERS, "cause", writer, number, step)
            d[cause] = True
        effect = key_at(client, d, (writer + 1) % WORKERS, "effect", cause)
        d[effect] = True
        put.append(cause)


@contextmanager
def a_slow_worker(data: Path, index: int) -> Iterator[None]:
    """The worker answers late: meanwhile others have their snapshots, and much waits for this one."""
    pid = worker_pid(data, index)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    timer = threading.Timer(SLOW_SECONDS, os.kill, (pid, signal.SIGCONT))
    timer.start()
    try:
        yield
    finally:
        timer.join()


@pytest.mark.slow
def test_a_backup_of_a_busy_service_has_no_effect_without_its_cause_and_all_that_was_acknowledged(
    client: Client, data: Path, tmp_path: Path
) -> None:
    stop, put = threading.Event(), list[Any]()
    d = dict_of(client)
    with ThreadPoolExecutor(WRITERS) as pool:
        try:
            writers = [pool.submit(write_causes, client, d, writer, stop, put) for writer in range(WRITERS)]
            for number in range(10):
                at_start = len(put) + WRITERS
                until(lambda: len(put) > at_start)  # noqa: B023 - it is called here
                acknowledged, file = [*put], tmp_path / f"{number}.backup"
                with a_slow_worker(data, number % WORKERS):
                    back_up(client, file, quietly)
                found = keys_in(file)
                effects = {key[1] for key in found if key[0] == "effect"}
                assert effects <= found, f"backup {number}: {len(effects - found)} effects without their cause"
                assert {*acknowledged} <= effects
        finally:
            stop.set()
        for writer in writers:
            writer.result(WAIT_SECONDS)
    restore(file, DataDirectory(tmp_path / "restored"), quietly)
    assert findings(tmp_path / "restored") == []
    with LocalService(tmp_path / "restored") as service, Client(service.url) as other:
        assert {*dict_of(other)} == found


def kill_worker(data: Path, index: int) -> None:
    pid = worker_pid(data, index)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: worker_pid(data, index) not in (None, pid))


def test_a_backup_begins_anew_when_a_worker_is_killed(client: Client, data: Path, tmp_path: Path) -> None:
    d = dict_of(client)
    d.update(dict.fromkeys(range(5_000), b"v" * 1_000))
    seen: list[tuple[int, int]] = []

    def progressed(made: Backup) -> None:
        if not seen:
            kill_worker(data, 1)
            d["new"] = 1
        seen.append((made.tries, made.rows))

    made = back_up(client, tmp_path / "kv.backup", progressed)
    assert made.tries == 2
    assert seen[0][0] == 1
    assert keys_in(tmp_path / "kv.backup") == {*range(5_000), "new"}
    assert [each.name for each in tmp_path.glob("*backup*")] == ["kv.backup"]


@pytest.mark.slow
def test_a_backup_that_is_disturbed_too_often_ends_in_an_error_and_leaves_nothing(
    client: Client, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "BACKUP_TRIES_MAX", 1)
    dict_of(client).update(dict.fromkeys(range(5_000), b"v" * 1_000))
    with pytest.raises(TimeoutError, match=r"in 1 tries.* worker 1 for a backup: it was restarted"):
        back_up(client, tmp_path / "kv.backup", lambda _made: kill_worker(data, 1))
    assert list(tmp_path.glob("*backup*")) == []


def test_a_backup_that_cannot_be_written_is_a_storage_error_and_leaves_nothing(shared: Client, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written: No such file"):
        back_up(shared, tmp_path / "missing" / "kv.backup", quietly)
    with pytest.raises(StorageError, match="cannot be written: File too large"):
        back_up(shared, tmp_path / "kv.backup", _no_file_may_grow)
    assert list(tmp_path.glob("*backup*")) == []


def _no_file_may_grow(_made: Backup) -> None:
    raise OSError(27, "File too large")


def test_writes_go_on_when_a_backup_stops_between_snapshot_and_release(shared: Client) -> None:
    d = dict_of(shared)
    snapshot_id = os.urandom(16)
    shared.run(_answers(_to_all(shared, protocol.SNAPSHOT, "take a snapshot of", snapshot_id)))
    d.update(dict.fromkeys(range(100), 1))
    assert len(d) == 100
    with pytest.raises(SnapshotLost):
        shared.run(_answers(_to_all(shared, protocol.RELEASE, "release", snapshot_id)))
    shared.run(_discard(shared, snapshot_id))


def test_a_write_behind_a_snapshot_that_nobody_releases_is_answered_though_nothing_more_comes(shared: Client) -> None:
    dict_of(shared)
    worker = shared.roster.workers[0]
    with StreamClient(worker.addresses[0], timeout=WAIT_SECONDS) as alone:
        for sequence, opcode, status in ((1, protocol.SNAPSHOT, protocol.OK), (2, protocol.PUT, protocol.UNKNOWN_DICT)):
            key = b"a snapshot's id."
            wanted = Request(opcode, 0, worker.hash, b"a lonely session", sequence, 1, b"nobody's dict id", key, b"")
            alone.send_multipart(protocol.pack_request(wanted))
            reply = protocol.parse_reply(*alone.recv_multipart())
            assert (reply.sequence, reply.status) == (sequence, status)


def back_up_forever(url: str, folder: str) -> None:
    with Client(url) as client:
        for number in itertools.count():
            back_up(client, Path(folder) / str(number), quietly)


@pytest.mark.slow
def test_killing_those_who_make_backups_stops_no_writer_and_leaves_no_file_that_is_half(shared: Client, tmp_path: Path) -> None:
    d = dict_of(shared)
    d.update(dict.fromkeys(range(2_000), 1))
    folder = tmp_path / "backups"
    folder.mkdir()
    for _ in range(3):
        process = multiprocessing.get_context("spawn").Process(target=back_up_forever, args=(shared.address, str(folder)))
        process.start()
        until(lambda: any(folder.iterdir()))
        d["during"] = 1
        process.kill()
        process.join()
        d["after"] = 1
        for file in folder.iterdir():
            refused = contextlib.suppress(StorageError) if file.suffix == ".part" else contextlib.nullcontext()
            with refused:  # what is taken for a backup is a whole one, whatever it is called
                assert {*range(2_000)} <= keys_in(file)
            file.unlink()


def test_a_restore_that_was_interrupted_is_refused_by_a_service_and_begun_anew_by_the_next(
    shared: Client, tmp_path: Path
) -> None:
    dict_of(shared).update(dict.fromkeys(range(5_000), b"v" * 1_000))
    file, directory = tmp_path / "kv.backup", DataDirectory(tmp_path / "restored")
    back_up(shared, file, quietly)

    def interrupt(done: Restored) -> None:
        if done.rows > 2_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore(file, directory, interrupt)
    for refused in (directory.layout, LocalService(directory.path).start):
        with pytest.raises(StorageError, match=r"a restore into .* was interrupted"):
            refused()
    restore(file, directory, quietly)
    assert findings(directory.path) == []
    assert {*itertools.chain.from_iterable(rows_of(directory.path))} >= {rows.FIRST_ROW}
    with pytest.raises(StorageError, match="has data already"):
        restore(file, directory, quietly)


@pytest.mark.slow
def test_a_directory_whose_processes_were_all_killed_under_load_has_no_finding(data: Path) -> None:
    service = LocalService(data, workers=WORKERS, sync="off")
    service.start()
    with Client(service.url, timeout=5) as client:
        d, done = dict_of(client), itertools.count()
        d[0] = bytes(5_000)

        def change(writer: int) -> None:
            with contextlib.suppress(TimeoutError):
                for number in done:
                    d[writer, number] = number
                    d.setdefault(0, bytes(5_000))
                    d.pop(0, None)  # a large outcome
                    if number % 200 == 0:
                        d.clear()

        with ThreadPoolExecutor(WRITERS) as pool:
            writers = [pool.submit(change, writer) for writer in range(WRITERS)]
            until(lambda: next(done) > 600)
            kill_worker(data, 0)
            so_far = next(done)
            until(lambda: next(done) > so_far + 300)
            for pid in process_ids(data):
                os.kill(int(pid), signal.SIGKILL)
            for writer in writers:
                writer.result(WAIT_SECONDS)
    service.stop()
    for index in range(WORKERS):
        DataDirectory(data).lock_worker(index, WAIT_SECONDS).release()  # its process is gone
    assert findings(data) == []


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli, [*arguments], prog_name="holdall", catch_exceptions=False)


def told(*arguments: str) -> Any:
    result = call(*arguments, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


def test_the_commands_tell_people_and_scripts_what_they_did(client: Client, data: Path, tmp_path: Path) -> None:
    dict_of(client).update(dict.fromkeys(range(1_000), b"v" * 1_000))
    file, restored = str(tmp_path / "kv.backup"), str(tmp_path / "restored")
    made = told("backup", file, "--url", client.address)
    assert (made["file"], made["workers"], made["tries"]) == (file, WORKERS, 1)
    assert made["bytes"] == Path(file).stat().st_size
    assert made["rows"] > made["rows_expected"] >= 1_000
    assert told("restore", file, "--data", restored, "--workers", "3")["rows"] == made["rows"]
    assert told("check", restored)["engine"] == DataDirectory(restored).layout().engine
    assert sum(each["entries"] for each in told("check", restored)["workers"]) == 1_000
    shown = call("backup", str(tmp_path / "other"), "--url", client.address)
    assert (shown.exit_code, f"{WORKERS} workers, " in shown.stdout) == (0, True)
    shown = call("restore", str(tmp_path / "other"), "--data", str(tmp_path / "other restored"))
    assert (shown.exit_code, " rows, as of 20" in shown.stdout) == (0, True)


Arguments = Callable[[Client, Path, Path], list[str]]
REFUSED: dict[str, tuple[Arguments, str]] = {
    "a file that exists": (lambda client, data, file: ["backup", str(file), "--url", client.address], "exists"),
    "no service": (lambda _client, data, file: ["backup", f"{file}.new", "--url", f"ipc://{data}/none"], "no service answered"),
    "a directory that is in use": (lambda _client, data, file: ["restore", str(file), "--data", str(data)], "is in use"),
    "no backup": (lambda _client, data, file: ["restore", str(data / "layout.json"), "--data", f"{data}.new"], "is no backup"),
    "a directory to check that is in use": (lambda _client, data, file: ["check", str(data)], "is in use by process"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_done_is_one_line_and_exit_status_1(
    shared: Client, shared_data: Path, tmp_path: Path, what: str
) -> None:
    arguments, sentence = REFUSED[what]
    (tmp_path / "kv.backup").write_text("")
    result = call(*arguments(shared, shared_data, tmp_path / "kv.backup"))
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert (result.exit_code, result.stdout, len(lines)) == (1, "", 1)
    assert lines[0].startswith("holdall: ")
    assert sentence in lines[0]

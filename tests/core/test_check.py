"""`check` reads everything: a sound directory has no finding, and each kind of damage is found and named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from holdall import Client, Dict, LocalService, StorageError
from holdall.bodies import CatalogEntry, encode
from holdall.worker.directory.check import Part, check_directory
from holdall.worker.directory.opening import DataDirectory
from holdall.worker.state.transaction import COUNTERS
from holdall.worker.store import rows
from holdall.worker.store.rows import DictRow
from holdall.worker.store.store import Store
from tests.faults.test_damage import HARMLESS, cut, flip
from tests.slow import slow_but

ENTRIES = 500
LARGE = b"v" * 5_000


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a bit of everything: cleared, deleted and ephemeral Dicts, large remembered outcomes."""
    path = tmp_path_factory.mktemp("whole") / "data"
    with LocalService(path, workers=2) as service, Client(service.url) as client:
        d = Dict.from_name("kv", create_if_missing=True, client=client)
        d.update(dict.fromkeys(range(ENTRIES), LARGE))
        d.clear()
        d.update(dict.fromkeys(range(ENTRIES), LARGE))
        assert [d.pop(key) for key in range(10)] == [LARGE] * 10
        Dict.from_name("gone", create_if_missing=True, client=client)["key"] = 1
        Dict.objects.delete("gone", client=client)
        with Dict.ephemeral(client=client) as ephemeral:
            ephemeral["key"] = 1
    for reserve in path.glob("worker-*/reserve"):  # the next start makes it anew
        reserve.unlink()
    return path


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "copy")


def checked(path: Path) -> list[Part]:
    return list({part.index: part for part in check_directory(DataDirectory(path))}.values())


def findings(path: Path) -> list[str]:
    return [f"{finding.place}: {finding.what}" for part in checked(path) for finding in part.findings]


def counters(version: int, elapsed: float) -> bytes:
    return COUNTERS.pack(version, elapsed, 0.0, 0.0)


def change(path: Path, changes: Callable[[Store], dict[bytes, bytes | None]]) -> None:
    """Change rows of the first worker's store."""
    store = DataDirectory(path).open_store(0, DataDirectory(path).layout().engine)
    store.write(changes(store), sync=True)
    store.close()


def first(store: Store, prefix: bytes) -> tuple[bytes, bytes]:
    """The first row of this kind that is not about to be swept."""
    left = [row[1:] for row, _data in store.scan(b"G") if row.startswith(b"G")]
    row, data = next((row, data) for row, data in store.scan(prefix) if row[1:21] not in left)
    assert row.startswith(prefix)
    return row, data


def test_a_sound_directory_has_no_finding_and_every_entry_is_counted(copy: Path) -> None:
    parts = checked(copy)
    assert [part.findings for part in parts] == [[], []]
    assert sum(part.entries for part in parts) == ENTRIES - 10
    assert all(part.is_whole for part in parts)


@pytest.mark.slow
def test_checking_changes_nothing_that_a_service_reads(copy: Path) -> None:
    checked(copy)
    for part in copy.glob("worker-*"):
        DataDirectory(copy).settle(int(part.name.removeprefix("worker-")), adopt=True)
    with LocalService(copy) as service, Client(service.url) as client:
        assert len(dict(Dict.from_name("kv", client=client))) == ENTRIES - 10
    assert findings(copy) == []


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
def test_damage_to_any_file_is_found_or_harmless(whole: Path, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    files = [file.relative_to(whole) for file in sorted(whole.rglob("*")) if file.is_file() and file.stat().st_size]
    for number, file in enumerate(files):
        if file.name in (*HARMLESS, "reserve"):
            continue
        copy = shutil.copytree(whole, tmp_path / str(number), ignore=shutil.ignore_patterns("reserve"))
        damage(copy / file)
        try:
            parts = checked(copy)
        except StorageError:
            continue
        entries = sum(part.entries for part in parts)
        assert any(part.findings for part in parts) or entries == ENTRIES - 10, f"{damage.__name__} of {file}: nothing found"


def _without(prefix: bytes) -> Callable[[Store], dict[bytes, bytes | None]]:
    return lambda store: {first(store, prefix)[0]: None}


def _with_entries(store: Store) -> tuple[bytes, DictRow]:
    """A Dict that has entries."""
    found = ((row, msgspec.msgpack.decode(data, type=DictRow)) for row, data in store.scan(b"D") if row[:1] == b"D")
    return next((row, found) for row, found in found if found.length)


def _wrong_length(store: Store) -> dict[bytes, bytes | None]:
    row, found = _with_entries(store)
    found.length += 1
    return {row: msgspec.msgpack.encode(found)}


def _flipped_record(store: Store) -> dict[bytes, bytes | None]:
    row, data = first(store, b"E")
    return {row: data[:-1] + bytes([data[-1] ^ 1])}


def _elsewhere(store: Store) -> dict[bytes, bytes | None]:
    row, data = first(store, b"E")
    record = rows.parse_record(row, data)
    return {other: rows.pack_record(other, record) for other in (row[:21] + b"i%d" % number for number in range(20))}


def _names_elsewhere(store: Store) -> dict[bytes, bytes | None]:
    names = [f"name-{number}" for number in range(20)]
    entries = {each: CatalogEntry("main", each, b"%016d" % number, 0.0, "") for number, each in enumerate(names)}
    return {b"Nmain/" + name.encode(): encode(entry) for name, entry in entries.items()}


DAMAGES: dict[str, tuple[Callable[[Store], dict[bytes, bytes | None]], str]] = {
    "the first row is missing": (lambda store: {rows.FIRST_ROW: None}, "lacks this row"),
    "the last row is missing": (lambda store: {rows.LAST_ROW: None}, "ends after this row"),
    "a record is changed": (_flipped_record, "checksum does not match"),
    "an entry is missing": (_without(b"E"), "entries, there are"),
    "a length is wrong": (_wrong_length, "entries, there are"),
    "an entry is at the wrong worker": (_elsewhere, "belongs to another worker"),
    "a Dict's row is missing": (lambda store: {_with_entries(store)[0]: None}, "of a Dict that is not held here"),
    "a row is no Dict": (lambda store: {first(store, b"D")[0]: b"?"}, "is damaged"),
    "a row is no session": (lambda store: {first(store, b"S")[0]: b"?"}, "is damaged"),
    "a payload belongs to nothing": (lambda store: {b"O" + b"s" * 24: b"?"}, "belongs to no remembered outcome"),
    "a row is of no kind": (lambda store: {b"?": b"?"}, "no rows of this kind"),
    "the counters are those of an older store": (
        lambda store: {rows.COUNTER_ROW: counters(1, 1e9)},
        "writes are lost",
    ),
    "a Dict was deleted in the future": (
        lambda store: {rows.COUNTER_ROW: counters(1 << 60, -1.0)},
        "was deleted after",
    ),
    "a key is empty": (lambda store: {first(store, b"E")[0][:21]: first(store, b"E")[1]}, "a key has 1 to 1,024 bytes"),
    "the name of a row is cut short": (lambda store: {first(store, b"E")[0][:20]: b""}, "at least 21 bytes"),
    "the id of a Dict is cut short": (
        lambda store: {first(store, b"D")[0][:16]: first(store, b"D")[1]},
        "should have 17 bytes",
    ),
    "a name is at the wrong worker": (_names_elsewhere, "belongs to another worker"),
    "a touch is left behind": (lambda store: {b"T" + bytes(20) + b"s": rows.pack_touch(1)}, "whose use this notes is missing"),
    "a row is no touch": (lambda store: {b"T" + first(store, b"E")[0][1:]: b"?"}, "has 1 bytes"),
    "a name leads nowhere": (lambda store: {b"I" + b"d" * 16: b"main/x"}, "do not lead to each other"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_rows_that_contradict_each_other_are_found(copy: Path, damage: str) -> None:
    changes, what = DAMAGES[damage]
    change(copy, changes)
    found = findings(copy)
    assert found
    assert any(what in each for each in found), found


def test_a_store_that_lost_writes_is_found(copy: Path) -> None:
    (copy / "worker-0" / "version").write_text("1000000\n")
    assert any("has lost writes" in each for each in findings(copy))


def test_a_store_without_its_marker_is_found_and_not_begun_anew(copy: Path) -> None:
    (copy / "worker-0" / "complete").unlink()
    files = len(list((copy / "worker-0" / "store").iterdir()))
    assert any("complete: is missing" in each for each in findings(copy))
    assert len(list((copy / "worker-0" / "store").iterdir())) == files > 0


@pytest.mark.parametrize("index", [0, 1])
def test_a_worker_whose_folder_is_missing_is_found(copy: Path, index: int) -> None:
    shutil.rmtree(copy / f"worker-{index}")
    assert [each for each in findings(copy) if "all that this one held is missing" in each]


@pytest.mark.parametrize("missing", slow_but([[0]], [[0], [1], [0, 1]]))
def test_a_first_start_that_was_interrupted_is_no_damage(tmp_path: Path, missing: list[int]) -> None:
    with LocalService(tmp_path / "data", workers=2):
        pass
    for index in missing:
        shutil.rmtree(tmp_path / "data" / f"worker-{index}")
    assert findings(tmp_path / "data") == []

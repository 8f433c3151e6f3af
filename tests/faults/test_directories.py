"""Data directories that are not what they were: read-only, or of another layout than a client still knows."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import holdall
from holdall import Client, Dict, LocalService
from holdall.settings import service_url
from tests.slow import slow_but
from tests.small_disk import small_disk

ENTRIES = {number: str(number) for number in range(20)}
CALLS: list[Callable[[Any], object]] = [
    lambda d: d[1],
    lambda d: d.pop(2),
    lambda d: d.update(dict.fromkeys(range(30), "new")),
    len,
    sorted,
    lambda d: dict(d.items()),
    lambda d: d.popitem(),
    lambda d: d.clear(),
    lambda d: d.setdefault(40, "default"),
]
"""Which a plain dict has too."""


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A directory in which this user, be it root, cannot write."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.getuid() != 0:
        disk.chmod(0o500)
        yield disk
        disk.chmod(0o700)
        return
    try:
        mounted = small_disk(disk, 1)
        with mounted:
            disk.chmod(0o700)
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            yield disk
    except PermissionError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("below", ["", "data"])
def test_a_read_only_directory_is_a_storage_error_that_names_it(
    read_only: Path, below: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(holdall.StorageError, match=f"^the data directory {read_only / below}.* cannot be .*[^\\n]$"):
        LocalService(read_only / below, workers=1).start()
    assert capfd.readouterr() == ("", "")
    assert [*read_only.iterdir()] == []


@pytest.mark.parametrize(("before", "after"), slow_but([(2, 1)], [(2, 1), (1, 2)]))
def test_a_client_whose_layout_was_changed_gets_a_right_answer_or_an_error(tmp_path: Path, before: int, after: int) -> None:
    """Another directory, of another number of workers, is served at the address that the client knows."""
    data = tmp_path / "data"
    with Client(service_url(data), timeout=10) as old, Client(service_url(data)) as new:
        with LocalService(data, workers=before, sync="off"):
            Dict.from_name("kv", create_if_missing=True, client=old).update(ENTRIES)
        shutil.rmtree(data)
        with LocalService(data, workers=after, sync="off"):
            d: Dict[Any, Any] = Dict.from_name("kv", create_if_missing=True, client=new)
            same: Dict[Any, Any] = Dict.from_name("kv", client=old)
            for call in CALLS:
                d.clear()
                d.update(ENTRIES)
                expected = dict(ENTRIES)
                with contextlib.suppress(holdall.ConnectionError):  # "another one than before: make a new Client"
                    answer = call(same)
                    assert answer == call(expected)
                assert dict(d) == expected

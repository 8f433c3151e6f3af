"""What is ours of the store on disk: syncs that LevelDB leaves to the system."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path

import pytest

from holdall.errors import StorageError
from holdall.worker.store.engines import store_of
from tests.engines import needs_leveldb

pytestmark = needs_leveldb


@pytest.mark.skipif(sys.platform != "linux", reason="/proc shows which file a descriptor is of")
def test_all_logs_are_synced_the_older_ones_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fdatasync = os.fdatasync

    def noting(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fdatasync(descriptor)

    monkeypatch.setattr(os, "fdatasync", noting)
    with closing(store_of("leveldb")(tmp_path / "store", create=True)) as store:
        store.write({b"row": b"value"}, sync=False)
        [present] = (tmp_path / "store").glob("*.log")
        (tmp_path / "store" / "000001.log").touch()  # as one that is full, whose rows are not in a table yet
        store.sync()
    assert synced == ["000001.log", present.name]


def test_a_log_that_has_gone_meanwhile_is_no_error_and_a_folder_that_has_is_one(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    with closing(store_of("leveldb")(folder, create=True)) as store:
        (folder / "000001.log").symlink_to("gone")
        store.sync()
        folder.rename(tmp_path / "elsewhere")
        with pytest.raises(StorageError, match=f"the store {folder} cannot be synced: .*No such file or directory"):
            store.sync()
        (tmp_path / "elsewhere").rename(folder)

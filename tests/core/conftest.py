"""What several tests of the core need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from holdall.worker.journal_file import DirectIOJournalFile, opened_journal


@pytest.fixture
def direct(tmp_path: Path) -> Iterator[DirectIOJournalFile]:
    """A journal's file that is written past the page cache."""
    file = opened_journal(tmp_path / "journal", mostly_synced=True)
    if not isinstance(file, DirectIOJournalFile):
        pytest.skip("this file system, or this system, cannot be written past the page cache")
    yield file
    file.close()

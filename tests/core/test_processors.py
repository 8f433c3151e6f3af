"""How many processors a process may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from holdall import processors


@pytest.mark.parametrize(
    ("quota", "usable"),
    [("max 100000", 8), ("200000 100000", 2), ("250000 100000", 2), ("50000 100000", 1), ("6400000 100000", 8), ("", 8)],
)
def test_a_container_may_use_as_many_as_its_quota(
    quota: str, usable: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False)
    monkeypatch.setattr(processors, "QUOTA", tmp_path / "cpu.max")
    assert processors.usable() == 8
    (tmp_path / "cpu.max").write_text(quota)
    assert processors.usable() == usable

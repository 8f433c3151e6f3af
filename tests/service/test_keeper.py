"""A child that dies is started again; one that dies at once, later each time."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

import pytest

from holdall.process.child import READY
from holdall.service import keeper
from holdall.service.keeper import Keeper

LIVES = 8
CHILD = [sys.executable, "-c", f"print({READY!r}, flush=True)"]


def waits(monkeypatch: pytest.MonkeyPatch, steady_seconds: float) -> list[float]:
    """How long a keeper waits after each of LIVES lives of a child that ends at once, and is steady after so long."""
    found: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float, result: Any = None) -> Any:
        found.append(seconds)
        return await sleep(0, result)

    async def kept() -> None:
        stopping = asyncio.Event()
        ends: list[str] = []

        def counted(record: logging.LogRecord) -> bool:
            if "started again" in record.getMessage():
                ends.append(record.getMessage())
            if len(ends) == LIVES:
                stopping.set()
            return False

        keeper.log.addFilter(counted)
        try:
            await Keeper("child", CHILD, stopping, lambda line: None).run()
        finally:
            keeper.log.removeFilter(counted)

    monkeypatch.setattr(keeper, "STEADY_SECONDS", steady_seconds)
    monkeypatch.setattr(asyncio, "sleep", noted)
    asyncio.run(kept())
    return found


def test_one_that_dies_at_once_is_started_again_later_each_time_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    assert waits(monkeypatch, steady_seconds=600.0) == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


def test_one_that_had_started_well_is_started_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert waits(monkeypatch, steady_seconds=0.0) == []

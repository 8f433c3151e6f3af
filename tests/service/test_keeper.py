"""A child that dies is started again; one that dies at once, later each time."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from holdall.errors import StorageError
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


async def kept(argv: list[str], meanwhile: Any) -> Keeper:
    """A keeper of this child, which is stopped when `meanwhile(keeper)` is done."""
    stopping = asyncio.Event()
    found = Keeper("child", argv, stopping, lambda line: None)
    running = asyncio.ensure_future(found.run())
    try:
        await meanwhile(found)
    finally:
        stopping.set()
        await running
    return found


def test_one_that_cannot_be_spawned_at_first_is_a_reason_not_to_start(tmp_path: Path) -> None:
    async def started(found: Keeper) -> None:
        with pytest.raises(StorageError, match="cannot start child: No such file"):
            await asyncio.wait_for(asyncio.shield(found.started), 30)

    asyncio.run(kept([str(tmp_path / "missing")], started))


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EAGAIN, errno.ENOENT, errno.ENOMEM])
def test_one_that_cannot_be_spawned_later_is_tried_again_and_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    spawn, spawned, refused = asyncio.create_subprocess_exec, asyncio.Event(), 0

    async def refusing(*argv: str, **more: Any) -> Any:
        nonlocal refused
        if spawned.is_set() and refused < 2:
            refused += 1
            raise OSError(number, os.strerror(number))
        if refused == 2:
            again.set()
        return await spawn(*argv, **more)

    async def meanwhile(found: Keeper) -> None:
        await found.started
        spawned.set()
        await asyncio.wait_for(again.wait(), 30)

    again = asyncio.Event()
    monkeypatch.setattr(asyncio, "create_subprocess_exec", refusing)
    monkeypatch.setattr(keeper, "BACKOFF_SECONDS", (0.001, 0.01))
    asyncio.run(kept(CHILD, meanwhile))
    assert len([line for line in caplog.messages if os.strerror(number) in line]) == 2

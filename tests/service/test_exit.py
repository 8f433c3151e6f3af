"""Calls at the end of a process work, whatever was registered first."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import holdall
from tests.slow import slow_but

BEFORE = """
import asyncio, atexit, contextlib, logging, sys, threading, weakref

class Owner: pass
class Closing(logging.Handler):
    def close(self):
        d["bye"] = 1
        super().close()

owner, stack = Owner(), contextlib.ExitStack()
"""
AFTER = """
import holdall
d = holdall.Dict.from_name(sys.argv[1], create_if_missing=True)
d["a"] = 1
"""
WAYS = {
    "atexit": "atexit.register(lambda: d.put('bye', 1))",
    "an awaited call": "atexit.register(lambda: asyncio.run(d.put.aio('bye', 1)))",
    "weakref.finalize": "weakref.finalize(owner, lambda: d.put('bye', 1))",
    "a logging handler": "logging.getLogger().addHandler(Closing())",
    "the end of an ExitStack": "atexit.register(stack.close); stack.callback(lambda: d.update(bye=1))",
    "a thread": "atexit.register(lambda: [t := threading.Thread(target=d.put, args=('bye', 1)), t.start(), t.join()])",
    "several calls": "atexit.register(lambda: [d.put('bye', n) for n in (3, 2, 1)])",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("is_first", slow_but([True], [True, False]), ids=["registered first", "registered last"])
def test_a_call_at_exit_works(service: holdall.LocalService, name: str, way: str, is_first: bool) -> None:
    program = BEFORE + (WAYS[way] + AFTER if is_first else AFTER + WAYS[way])
    argv = [sys.executable, "-X", "dev", "-c", program, name]
    environment = {**os.environ, "HOLDALL_URL": service.url}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    with holdall.Client(service.url) as client:
        d: holdall.Dict[str, int] = holdall.Dict.from_name(name, client=client)
        assert dict(d) == {"a": 1, "bye": 1}

"""What happens once in a process: an import, and the start of a private service."""

from __future__ import annotations

import subprocess
import sys
from time import perf_counter

import holdall
from holdall.service import process

_TIMED = "from time import perf_counter as now; started = now(); {statement}; print((now() - started) * 1000)"


def import_milliseconds(statement: str) -> float:
    """How long this statement takes in a new interpreter."""
    command = [sys.executable, "-c", _TIMED.format(statement=statement)]
    said = subprocess.run(
        command, cwd=process.WORKING_DIRECTORY, env=process.environment(), stdout=subprocess.PIPE, text=True, check=True
    )
    return float(said.stdout)


def start_milliseconds() -> float:
    """From nothing to the first answer of a private service."""
    started = perf_counter()
    service = holdall.LocalService()
    service.start()
    try:
        with holdall.Client(service.url) as client:
            d: holdall.Dict[str, int] = holdall.Dict.from_name("first", create_if_missing=True, client=client)
            d["key"] = 1
            return (perf_counter() - started) * 1000
    finally:
        service.stop()

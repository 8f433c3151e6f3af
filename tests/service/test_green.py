"""Under gevent's and eventlet's monkey patching calls work: each blocks the hub for as long as it takes."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import WAIT_SECONDS, end_service
from tests.slow import slow_but

PATCHES = {
    "gevent: all": "from gevent import monkey; monkey.patch_all()",
    "gevent: sockets": "from gevent import monkey; monkey.patch_socket()",
    "gevent: all but threads and processes": "from gevent import monkey; monkey.patch_all(thread=False, subprocess=False)",
    "gevent: all but sockets": "from gevent import monkey; monkey.patch_all(socket=False)",
    "eventlet: all": "import eventlet; eventlet.monkey_patch()",
    "eventlet: sockets": "import eventlet; eventlet.monkey_patch(socket=True)",
    "eventlet: threads and time": "import eventlet; eventlet.monkey_patch(thread=True, time=True)",
}
PROGRAM = """
import holdall

d = holdall.Dict.from_name("kv", create_if_missing=True)
FIRST
d.update({number: number for number in range(20)})
d["large"] = b"x" * 3_000_000
print([sum(d[number] for number in range(20)), d.pop(3), len(d), len(d["large"]), d.get_many([1, 2, 3])])
"""
FIRST = {
    "gevent": "import gevent; gevent.joinall([gevent.spawn(d.put, 'first', 1) for _ in range(3)]); del d['first']",
    "eventlet": "[each.wait() for each in [eventlet.spawn(d.put, 'first', 1) for _ in range(3)]]; del d['first']",
}
"""Greenlets that make the first call at once."""
UNSAFE = {"gevent: all but threads and processes"}
"""Of these several greenlets at once cannot start a process: gevent's own `fork` with Python's own `subprocess`."""
GREENLETS = """
import gevent

def call(number):
    d.put(number, -number)
    gevent.sleep(0)
    return d[number]

print(sorted(job.value for job in gevent.joinall([gevent.spawn(call, number) for number in range(10)])))
"""


@pytest.mark.parametrize("lanes", slow_but(["on"], ["on", "off"]))
@pytest.mark.parametrize("patch", slow_but(["gevent: all"], PATCHES))
def test_calls_work_and_start_a_service(tmp_path: Path, patch: str, lanes: str) -> None:
    library = patch.split(":")[0]
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"pip install {library}")
    environment = {**os.environ, "HOLDALL_DATA": str(tmp_path / "data"), "HOLDALL_LANES": lanes}
    environment.pop("HOLDALL_URL", None)
    first = "" if patch in UNSAFE else FIRST[library]
    program = f"{PATCHES[patch]}\n{PROGRAM.replace('FIRST', first)}{GREENLETS if library == 'gevent' else ''}"
    try:
        argv = [sys.executable, "-W", "ignore", "-c", program]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=WAIT_SECONDS)
    finally:
        end_service(tmp_path / "data")
    lines = done.stdout.splitlines()
    assert lines[:1] == ["[190, 3, 20, 3000000, {1: 1, 2: 2}]"], done.stderr
    assert lines[1:] == ([str([-number for number in reversed(range(10))])] if library == "gevent" else [])

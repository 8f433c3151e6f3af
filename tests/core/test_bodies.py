"""Bodies of messages, read by many threads."""

from __future__ import annotations

import subprocess
import sys

import pytest

FIRST_READ_IN_MANY_THREADS = """
import threading, time
from holdall.bodies import CatalogEntry, CatalogPage, Page, PageEntry, Roster, RosterWorker, decode, encode

body = encode({body})

def go_slowly(frame, event, argument):
    if event == "call" and "msgspec" in frame.f_code.co_filename:
        time.sleep(0.03)

threading.setprofile(go_slowly)
threads = [threading.Thread(target=decode, args=({kind}, body)) for _ in range(25)]
for thread in threads:
    thread.start()
    time.sleep(0.01)
for thread in threads:
    thread.join()
assert decode({kind}, body) == {body}
"""
ENTRY = "CatalogEntry('main', 'kv', bytes(16), 0.0, 'me')"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("Roster", "Roster(bytes(16), [RosterWorker(0, 0, 1024, ['ipc:///a'])])"),
        ("CatalogPage", f"CatalogPage([{ENTRY}], False)"),
        ("Page", "Page([PageEntry(b'key', None, b'value')])"),
    ],
)
def test_threads_may_be_the_first_to_read_a_body_at_once(kind: str, body: str) -> None:
    script = FIRST_READ_IN_MANY_THREADS.format(kind=kind, body=body)
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")

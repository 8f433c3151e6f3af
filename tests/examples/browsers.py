"""Servers of checkboxes, and browsers that look at them: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.processes import WAIT_SECONDS, until

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium")
OPTIONS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-background-timer-throttling"),
    *("--disable-renderer-backgrounding", "--disable-backgrounding-occluded-windows"),
]
"""Nothing but the pages is loaded, and all pages go on as if somebody looked at them."""
SEEN = """box => { window.seen = new Promise(seen => { const look = () =>
    document.getElementById(`box-${box}`).checked && !document.getElementById(`box-${box}`).matches(".pending")
        ? seen(performance.timeOrigin + performance.now()) : requestAnimationFrame(look); look(); }); }"""
CLICK = """box => { const at = performance.timeOrigin + performance.now();
    document.getElementById(`box-${box}`).click(); return at; }"""
"""How a page is seen to have a box checked, and how it is clicked; each gives the time, in milliseconds."""
CHECKED = """() => [...document.querySelectorAll("main input:checked")].map(input => Number(input.id.slice(4)))"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A server of so many boxes at an address of its own, which is the same after it was killed."""

    def __init__(self, name: str, boxes: int = 100_000) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self._argv = [
            sys.executable,
            "-m",
            "examples.checkboxes",
            "--port",
            str(self.port),
            "--boxes",
            str(boxes),
            "--name",
            name,
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._argv, cwd=ROOT)
        until(self._answers)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(WAIT_SECONDS)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None
        try:
            urlopen(self.url).close()
        except URLError:
            return False
        return True


@contextmanager
def serving(name: str, servers: int = 1, boxes: int = 100_000) -> Iterator[list[Server]]:
    """Servers that share the boxes of one Dict."""
    running = [Server(name, boxes) for _ in range(servers)]
    for each in running:
        each.start()
    try:
        yield running
    finally:
        for each in running:
            each.kill()


@contextmanager
def browser() -> Iterator[Any]:
    """A browser; skipped where there is none."""
    playwright: Any = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield running
        running.close()


def page_at(running: Any, url: str, **options: Any) -> Any:
    """A page in a profile of its own, as of another person, that is live."""
    page = running.new_context(**options).new_page()
    page.goto(url)
    page.wait_for_selector("#state.live")
    return page


def seconds_until_seen(here: Any, there: Any, box: int) -> float:
    """A click on one page until it is seen to be done on another."""
    there.evaluate(SEEN, box)
    clicked = here.evaluate(CLICK, box)
    return float(there.evaluate("window.seen") - clicked) / 1000

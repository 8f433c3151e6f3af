"""The checkboxes in figures: python -m tests.examples.figures. It exits with 1 when a bound is exceeded."""

from __future__ import annotations

import os
import signal
import statistics
import sys
import tempfile
import time
from random import Random
from typing import Any

from rich.console import Console
from rich.table import Table

import holdall
from holdall import Dict
from holdall.command.service import processes
from holdall.worker.directory.opening import DataDirectory
from tests.examples.browsers import CLICK, Server, browser, page_at, seconds_until_seen, serving

BOXES = 100_000
TRIES = 5
SCROLL = """() => new Promise(done => {
    const began = performance.now(), last = document.documentElement.scrollHeight, frames = []; let most = 0, before = began;
    const frame = now => {
        frames.push(now - before); before = now;
        most = Math.max(most, document.getElementsByTagName("*").length);
        window.scrollTo(0, last * Math.min(1, (now - began) / 10_000));
        if (now - began < 10_000) requestAnimationFrame(frame);
        else done([frames.slice(1).sort((a, b) => a - b), most]);
    };
    requestAnimationFrame(frame); })"""


def received(page: Any) -> list[int]:
    """Sizes of what comes to a page from now on, as it is on the wire."""
    sizes: list[int] = []
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    session.on("Network.webSocketFrameReceived", lambda event: sizes.append(len(event["response"]["payloadData"])))
    return sizes


def figures() -> list[tuple[str, float, float, str]]:
    """What was measured, how much it is, how much it may be, in which unit."""
    found: list[tuple[str, float, float, str]] = []
    with (
        tempfile.TemporaryDirectory() as data,
        holdall.LocalService(data, workers=2),
        serving("boxes", 2, BOXES) as servers,
        browser() as running,
    ):
        pages = [page_at(running, each.url) for each in (*servers, servers[0])]
        for name, there in (("at one server", 2), ("at two servers", 1)):
            seconds = [seconds_until_seen(pages[0], pages[there], 10 * there + each) for each in range(TRIES)]
            found.append((f"a click is seen by another, {name}", statistics.median(seconds) * 1000, 300, "ms"))
        found.append(("four browsers and the Dict agree after the last of 1,000 clicks", _agreement(running, servers), 1, "s"))
        found.append(("pause while broker and workers are killed", max(_pauses(pages[0], data)), 3, "s"))
        d = Dict[int, bool].from_name("boxes")
        for first in range(0, BOXES, 10_000):
            d.update(dict.fromkeys(range(first, first + 10000, 2), True))
        for page in pages:
            page.wait_for_function(f"document.getElementById('checked').textContent == '{len(d)}'")
        loads, sizes = [], []
        for _ in range(TRIES):
            page = running.new_context().new_page()
            sizes.append(received(page))
            page.goto(servers[0].url)
            page.wait_for_selector("#state.live")
            loads.append(seconds_until_seen(page, page, 1) and page.evaluate("performance.now()"))
            page.evaluate("box => document.getElementById(`box-${box}`).click()", 1)
            page.wait_for_selector("#state.live")
        found.append(("first click is done, 50,000 of 100,000 checked", statistics.median(loads), 1000, "ms"))
        found.append(("on the wire until then", statistics.median(map(sum, sizes)) / 1000, 200, "KB"))
        for width, height in ((1280, 800), (1920, 1080), (360, 740)):
            page = page_at(running, servers[0].url, viewport={"width": width, "height": height})
            frames, nodes = page.evaluate(SCROLL)
            found.append((f"p95 of frames, {width} × {height}", frames[len(frames) * 95 // 100], 20, "ms"))
            found.append((f"most elements, {width} × {height}", nodes, 5_000, ""))
        servers[0].kill()
        pages[0].wait_for_selector("#state.reconnecting")
        servers[0].start()
        began = time.perf_counter()
        pages[0].wait_for_selector("#state.live")
        found.append(("a page is live after its server has started again", time.perf_counter() - began, 3, "s"))
    return found


def _agreement(running: Any, servers: list[Server]) -> float:
    """How long after the last of many clicks all browsers show as many boxes as are in the Dict, and save nothing any more."""
    pages = [page_at(running, each.url) for each in servers * 2]
    boxes, clicks = pages[0].evaluate("document.querySelectorAll('main input').length"), Random(1)
    for number in range(1_000):
        pages[number % 4].evaluate(CLICK, clicks.randrange(boxes))
    began = time.perf_counter()
    while True:
        shown = [
            each.evaluate("[document.getElementById('checked').textContent, document.getElementById('state').textContent]")
            for each in pages
        ]
        if shown == [[str(len(Dict.from_name("boxes"))), "live"]] * 4:
            return time.perf_counter() - began


def _pauses(page: Any, data: str) -> list[float]:
    """How long clicks took while each process of the service was killed."""
    pauses: list[float] = []
    for role in ("broker", "worker 0", "worker 1"):
        os.kill(processes(DataDirectory(data))[role][0], signal.SIGKILL)
        pauses += [seconds_until_seen(page, page, 100 + len(pauses) + each) for each in range(20)]
    return pauses


def main() -> None:
    table = Table("what", "figure", "at most", "unit", title="Checkboxes")
    rows = figures()
    for what, value, bound, unit in rows:
        table.add_row(what, f"{value:,.2f}", f"{bound:,}", unit, style="red" if value > bound else None)
    Console().print(table)
    sys.exit(any(value > bound for _what, value, bound, _unit in rows))


if __name__ == "__main__":
    main()

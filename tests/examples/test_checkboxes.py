"""Browsers that look at the same boxes agree, whatever is killed, and whoever sends nonsense."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import holdall
from holdall import Dict
from holdall.command.service import processes
from holdall.worker.directory.opening import DataDirectory
from tests.examples import pictures
from tests.examples.browsers import CHECKED, CLICK, browser, page_at, serving
from tests.processes import stopped, until

pytestmark = pytest.mark.slow
BOXES = 900
"""So few that all are in view."""
WIDE = {"viewport": {"width": 1280, "height": 800}}
RECORD = """box => { window.changes = []; let was = null; const look = () => {
    const is = document.getElementById(`box-${box}`).checked;
    if (is !== was) window.changes.push(was = is);
    requestAnimationFrame(look); }; look(); }"""
CLICK_AT = """([box, at]) => { setTimeout(() => document.getElementById(`box-${box}`).click(), at - Date.now()); }"""


@pytest.fixture(scope="module")
def running() -> Iterator[Any]:
    with browser() as found:
        yield found


def looking(running: Any, *urls: str) -> list[Any]:
    return [page_at(running, url, **WIDE) for url in urls]


def settle(pages: list[Any]) -> None:
    for each in pages:
        each.wait_for_selector("#state.live")


def assert_all_agree(pages: list[Any], d: Dict[Any, Any]) -> None:
    """Pages show what is in the Dict, and count it."""
    settle(pages)

    def agree() -> bool:
        there = sorted(d)
        shown = [sorted(each.evaluate(CHECKED)) for each in pages]
        counted = [each.text_content("#checked") for each in pages]
        return all(each == there for each in shown) and all(each == str(len(there)) for each in counted)

    until(agree)


def test_four_browsers_at_two_servers_agree_after_many_clicks(running: Any, name: str) -> None:
    clicks = random.Random(1)
    with serving(name, 2, BOXES) as servers:
        pages = looking(running, *(each.url for each in servers * 2))
        for _ in range(1_000):
            clicks.choice(pages).evaluate(CLICK, clicks.randrange(BOXES))
        d: Dict[Any, Any] = Dict.from_name(name)
        assert_all_agree(pages, d)
        counted = subprocess.run(
            [sys.executable, "-m", "holdall", "dict", "len", name], capture_output=True, text=True, check=True
        )
        assert counted.stdout.strip() == pages[0].text_content("#checked")
        until(lambda: [each.text_content("#here") for each in pages] == ["4"] * 4)
        pages.pop().context.close()
        until(lambda: [each.text_content("#here") for each in pages] == ["3"] * 3)
        if pictures.wanted():
            pages[0].screenshot(
                path=pictures.EXAMPLES / "checkboxes" / "picture.png", clip={"x": 0, "y": 0, "width": 1280, "height": 480}
            )


def test_two_that_click_one_box_at_one_moment_agree_and_nothing_flickers(running: Any, name: str) -> None:
    with serving(name, 2, BOXES) as servers:
        pages = looking(running, *(each.url for each in servers))
        d: Dict[Any, Any] = Dict.from_name(name)
        together = 0
        for box in range(50):
            for each in pages:
                each.evaluate(RECORD, box)
            at = time.time() * 1000 + 50
            for each in pages:
                each.evaluate(CLICK_AT, [box, at])
            time.sleep(max(0.0, at / 1000 - time.time()))
            settle(pages)
            until(lambda: sorted(pages[0].evaluate(CHECKED)) == sorted(pages[1].evaluate(CHECKED)))
            settle(pages)
            changes = [each.evaluate("window.changes") for each in pages]
            if box in d:  # both wanted it checked
                together += 1
                assert changes == [[False, True]] * 2
        assert together > 25
        assert_all_agree(pages, d)


def test_a_click_is_shown_as_done_when_it_is_stored(running: Any, name: str) -> None:
    with serving(name, 1, BOXES) as (server,):
        (page,) = looking(running, server.url)
        with stopped(server.pid):
            for box in (1, 2, 2, 3, 3, 3):  # twice is not at all
                page.evaluate(CLICK, box)
            page.wait_for_selector("#state.saving")
            assert page.evaluate(CHECKED) == []
            assert page.locator("input[aria-busy=true]").count() == 3
        page.wait_for_selector("#state.live")
        assert page.evaluate(CHECKED) == [1, 3] == sorted(Dict.from_name(name))
        assert page.locator("input[aria-busy=true]").count() == 0


def test_what_was_acknowledged_outlives_the_server_and_pages_come_back(running: Any, name: str) -> None:
    with serving(name, 1, BOXES) as (server,):
        here, there = looking(running, server.url, server.url)
        for first in range(0, 300, 100):
            for box in range(first, first + 100):
                here.evaluate(CLICK, box)
            here.wait_for_selector("#state.live")
            server.kill()
            here.wait_for_selector("#state.reconnecting")
            assert set(range(first + 100)) <= set(Dict.from_name(name))
            here.evaluate(CLICK, 500 + first)  # while nobody hears it
            server.start()
            assert_all_agree([here, there], Dict.from_name(name))
            assert 500 + first in Dict.from_name(name)


def test_clicks_are_done_though_the_broker_and_the_workers_are_killed(running: Any) -> None:
    with (
        tempfile.TemporaryDirectory() as data,
        holdall.LocalService(data, workers=2),
        serving("boxes", 2, BOXES) as servers,
    ):
        pages = looking(running, *(each.url for each in servers))
        for number, role in enumerate(("broker", "worker 0", "worker 1")):
            for box in range(100):
                if box == 50:
                    os.kill(processes(DataDirectory(data))[role][0], signal.SIGKILL)
                pages[box % 2].evaluate(CLICK, 100 * number + box)
        assert_all_agree(pages, Dict.from_name("boxes"))
        assert set(Dict.from_name("boxes")) == set(range(300))


def test_all_is_the_same_after_everything_was_stopped(running: Any, tmp_path: Path) -> None:
    shown = []
    for start in range(2):
        with holdall.LocalService(tmp_path / "data"), serving("boxes", 1, BOXES) as (server,):
            (page,) = looking(running, server.url)
            for box in range(0, BOXES if not start else 0, 7):
                page.evaluate(CLICK, box)
            assert_all_agree([page], Dict.from_name("boxes"))
            shown.append(page.evaluate(CHECKED))
            page.context.close()
    assert shown == [[*range(0, BOXES, 7)]] * 2


BAD: dict[str, Callable[[], Iterator[str | bytes]]] = {
    "a box below the first": lambda: iter(["[1, -1, true]"]),
    "a box above the last": lambda: iter([f"[1, {BOXES}, true]"]),
    "a box that is no number": lambda: iter(['[1, "7", true]']),
    "a box that is a fraction": lambda: iter(["[1, 7.5, true]"]),
    "a box that is true": lambda: iter(["[1, true, true]"]),
    "a state that is a number": lambda: iter(["[1, 7, 1]"]),
    "no list": lambda: iter(["7"]),
    "no JSON": lambda: iter(["toggle"]),
    "deep": lambda: iter(["[" * 4_000]),
    "bytes": lambda: iter([b"\0" * 100]),
    "10 MB": lambda: iter(["x" * 10_000_000]),
    "100,000 clicks": lambda: (json.dumps([number, 800, bool(number % 2)]) for number in range(100_000)),
}


@pytest.fixture(scope="module")
def attacked(running: Any, service: holdall.LocalService) -> Iterator[Any]:
    """A server, and a page that somebody looks at."""
    with serving("attacked", 1, BOXES) as (server,):
        yield server, *looking(running, server.url)


@pytest.mark.parametrize("bad", BAD)
def test_nonsense_is_refused_and_others_notice_nothing(attacked: Any, bad: str) -> None:
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    server, page = attacked
    before = set(Dict.from_name("attacked")) - {3, 800}
    url = f"{server.url.replace('http', 'ws')}boxes"
    with connect(url, origin=server.url.rstrip("/"), max_size=None) as hostile:

        def say_all() -> None:
            for each in BAD[bad]():
                hostile.send(each)
            while True:
                hostile.recv(timeout=20)

        with pytest.raises(ConnectionClosed):
            say_all()
    assert set(Dict.from_name("attacked")) - {3, 800} == before
    page.evaluate(CLICK, 3)
    page.wait_for_selector("#state.live")
    until(lambda: (3 in Dict.from_name("attacked")) == page.evaluate("document.getElementById('box-3').checked"))


@pytest.mark.parametrize("origin", [None, "null", "http://evil.example", "http://127.0.0.1:1", "https://127.0.0.1"])
def test_pages_of_other_sites_are_refused(attacked: Any, origin: Any) -> None:
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    server, _page = attacked
    with pytest.raises(InvalidStatus), connect(f"{server.url.replace('http', 'ws')}boxes", origin=origin):
        pass


def test_boxes_are_found_by_address_keyboard_and_name(running: Any, name: str) -> None:
    with serving(name) as (server,):
        page = page_at(running, server.url + "#box-54321", **WIDE)
        focused = "document.activeElement.id"
        assert page.evaluate(focused) == "box-54321"
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Space")
        until(lambda: set(Dict.from_name(name)) == {54_322})
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowUp")
        assert page.evaluate(focused) == "box-54322"
        page.keyboard.press("Control+End")
        assert page.evaluate(focused) == "box-99999"
        page.keyboard.press("ArrowRight")
        assert page.evaluate(focused) == "box-99999"
        page.keyboard.press("Control+Home")
        assert page.evaluate(focused) == "box-0"
        page.get_by_role("checkbox", name="Box 7", exact=True).click()
        until(lambda: set(Dict.from_name(name)) == {7, 54_322})
        page.evaluate("location.hash = '#box-99999'")
        page.wait_for_selector("#box-99999")
        page.mouse.wheel(0, -20_000)  # the focus does not go to another box
        until(lambda: page.evaluate("document.activeElement.id") == "")


def hear_all(hostile: Any) -> None:
    while True:
        hostile.recv(timeout=20)


def test_who_pings_is_no_page_and_is_ended(attacked: Any) -> None:
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    server, page = attacked
    with connect(f"{server.url.replace('http', 'ws')}boxes", origin=server.url.rstrip("/")) as hostile:
        hostile.recv(timeout=20)
        hostile.ping()
        with pytest.raises(ConnectionClosed):
            hear_all(hostile)
    assert page.text_content("#state") == "live"


def test_a_server_that_is_silent_is_given_up_and_found_again(running: Any, name: str) -> None:
    with serving(name, 1, BOXES) as (server,):
        (page,) = looking(running, server.url)
        with stopped(server.pid):
            page.wait_for_selector("#state.reconnecting", timeout=15_000)
            page.evaluate(CLICK, 5)
        page.wait_for_selector("#state.live", timeout=15_000)
        until(lambda: set(Dict.from_name(name)) == {5})


def test_rows_are_in_order_for_who_hears_them_and_the_focus_stays_where_it_was(running: Any, attacked: Any, name: str) -> None:
    with serving(name) as (server,):
        page = page_at(running, server.url, **WIDE)
        for delta in (700, 5_000, -2_000, 300, -40):
            page.mouse.move(600, 400)
            page.mouse.wheel(0, delta)
            page.wait_for_timeout(100)
            shown = page.evaluate("[...document.querySelectorAll('main input')].map(input => Number(input.id.slice(4)))")
            assert shown == sorted(shown)
        page.keyboard.press("Tab")
        box, top = page.evaluate("[document.activeElement.id, document.activeElement.getBoundingClientRect().top]")
        assert top > page.evaluate("document.querySelector('header').getBoundingClientRect().bottom")
        for size in ({"width": 1280, "height": 700}, {"width": 500, "height": 700}):
            page.set_viewport_size(size)
            page.wait_for_timeout(200)
            assert page.evaluate("document.activeElement.id") == box
        page.keyboard.press("PageDown")
        assert int(page.evaluate("document.activeElement.id")[4:]) > int(box[4:])


@pytest.mark.parametrize(("width", "height"), [(2560, 1440), (1920, 2160), (3840, 2160)])
def test_a_large_view_has_no_more_elements_than_may_be(running: Any, name: str, width: int, height: int) -> None:
    with serving(name) as (server,):
        page = page_at(running, server.url, viewport={"width": width, "height": height})
        assert 2_000 < page.evaluate("document.getElementsByTagName('*').length") <= 5_000
        page.context.close()


@pytest.mark.parametrize("width", [360, 768, 1280, 1920])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_every_width_in_both_schemes_and_loads_nothing_from_elsewhere(
    running: Any, attacked: Any, width: int, scheme: str
) -> None:
    server, _page = attacked
    page = running.new_context(viewport={"width": width, "height": 740}, color_scheme=scheme).new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(server.url)
    page.wait_for_selector("#state.live")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(json.loads(ground.replace("rgb(", "[").replace(")", "]"))) < 3 * 128) == (scheme == "dark")
    assert all(url.startswith((server.url, "data:")) for url in asked)
    page.context.close()

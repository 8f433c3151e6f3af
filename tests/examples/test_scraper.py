"""The scraper fetches what can be reached and nothing twice, though crawlers are killed and it is stopped and started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE

import pytest

import holdall
from examples.crawl import Crawl
from examples.scraper import PAGE_BYTES_MAX, progress, summary
from examples.site import HOSTS, Site
from tests.examples import pictures
from tests.processes import WAIT_SECONDS, until

ROOT = Path(__file__).resolve().parents[2]
PAGES = 2_000
pytestmark = pytest.mark.slow


@contextmanager
def scraping(site: Site, name: str, *more: str) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-m", "examples.scraper", site.start, "--name", name, *more]
    with subprocess.Popen(argv, cwd=ROOT, text=True, stdout=PIPE, stderr=subprocess.STDOUT, start_new_session=True) as scraper:
        try:
            yield scraper
        finally:
            scraper.kill()


def finished(scraper: subprocess.Popen[str]) -> str:
    said = scraper.communicate(timeout=120)[0]
    assert scraper.returncode == 0, said
    return said


def assert_all_is_there(site: Site, crawl: Crawl) -> None:
    pages = dict(crawl.pages)
    assert {url for url, page in pages.items() if page.get("error") != "robots.txt forbids it"} == site.reachable()
    assert all("/private/" in url for url, page in pages.items() if page.get("error") == "robots.txt forbids it")
    assert not any("/private/" in url for url in site.requests)
    assert max(page["bytes"] for page in pages.values()) == PAGE_BYTES_MAX
    assert {page["status"] for page in pages.values()} == {200, 302, 404, 500, None}


def test_what_is_stored_is_what_can_be_reached_though_a_crawler_was_killed(service: holdall.LocalService) -> None:
    name = "killed-crawler"
    with Site(PAGES, dawdle_seconds=0.05) as site, scraping(site, name, "--processes", "5") as scraper:
        crawl = Crawl(name)
        until(lambda: len(crawl.pages) > PAGES // 10)
        killed = next(pid for pid, (_count, does, _at) in crawl.crawlers.items() if does.startswith("http"))
        os.kill(killed, signal.SIGKILL)
        midway = progress(crawl)
        said = finished(scraper)
        assert "all is done" in said
        assert_all_is_there(site, crawl)
        again = {url: count for url, count in site.requests.items() if count > 1 and not url.endswith("/robots.txt")}
        assert len(again) <= 1
        assert max(site.most_at_once.values()) <= 2  # that of the killed one may still have been answered
        assert len(site.most_at_once) == HOSTS
        last = [line for line in said.splitlines() if "all is done" in line]
        pictures.terminal("scraper.svg", "python -m examples.scraper", midway, summary(crawl), *last)


def test_a_scraper_that_was_killed_goes_on_where_it_stopped(service: holdall.LocalService) -> None:
    name = "killed-driver"
    with Site(PAGES, dawdle_seconds=0.05) as site:
        crawl = Crawl(name)
        with scraping(site, name) as scraper:
            until(lambda: len(crawl.pages) > PAGES // 2)
            driver = [scraper.pid, *crawl.crawlers]
            for pid in driver:
                os.kill(pid, signal.SIGKILL)
        until(lambda: not any(map(is_alive, driver)))
        before = set(crawl.pages)
        asked = dict(site.requests)
        with scraping(site, name) as scraper:
            finished(scraper)
        assert_all_is_there(site, crawl)
        assert {url for url, count in site.requests.items() if count > asked.get(url, 0)} & before == set()


def test_two_terminals_share_one_crawl_and_ctrl_c_lets_go_at_once(service: holdall.LocalService) -> None:
    name = "two-terminals"
    with Site(PAGES // 4, dawdle_seconds=0.05) as site, scraping(site, name) as first:
        crawl = Crawl(name)
        until(lambda: len(crawl.pages) > 20)
        with scraping(site, name, "--processes", "2") as second:
            until(lambda: len(crawl.crawlers) == 7)
            os.killpg(first.pid, signal.SIGINT)  # as a terminal does
            said = first.communicate(timeout=WAIT_SECONDS)[0]
            assert "the same command goes on" in said
            assert "Traceback" not in said
            finished(second)
        assert max(count for url, count in site.requests.items() if "robots" not in url) == 1
        with scraping(site, name) as third:
            assert "all is done" in finished(third)
        assert_all_is_there(site, crawl)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"

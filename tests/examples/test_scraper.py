"""The scraper fetches what can be reached and nothing twice, though crawlers are killed and it is stopped and started."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import PIPE
from threading import Thread
from urllib.parse import quote, unquote

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
        assert len(asked_again(site)) <= 1
        assert max(site.most_at_once.values()) <= 2  # that of the killed one may still have been answered
        assert len(site.most_at_once) == HOSTS
        last = [line for line in said.splitlines() if "all is done" in line]
        pictures.terminal("scraper.svg", "python -m examples.scraper", midway, summary(crawl), *last)


def test_a_scraper_that_was_killed_goes_on_where_it_stopped(service: holdall.LocalService) -> None:
    name = "killed-driver"
    with Site(PAGES, dawdle_seconds=0.05) as site:
        crawl = Crawl(name)
        with scraping(site, name) as scraper:
            until(lambda: len(crawl.pages) > PAGES // 5)
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
        assert asked_again(site) == set()
        with scraping(site, name) as third:
            assert "all is done" in finished(third)
        assert_all_is_there(site, crawl)


def asked_again(site: Site) -> set[str]:
    """The pages that were asked for more than once, but for those that are broken, which are tried again."""
    several = {url for url, count in site.requests.items() if count > 1 and not url.endswith("/robots.txt")}
    return {url for url in several if site.kind(int(url.rpartition("/")[2])) != "broken"}


ODD = {
    "a link that is none": b'<a href="http://[oops"><a href="http://127.0.0.1:port/"><a href="/a\x01b"><a href="/good">',
    "a charset that is none": b'<a href="/good">',
    "markup that no parser takes": b'<![foo[x]]><!--><a href="/good">',
    "a second title": b'<title>first</title><svg><title>second</title></svg><a href="/good">',
    "a name in other letters": b'<a href="HTTP://u@LOCALHOST:PORT/good#a"><a href="http://localhost:PORT"><a href="/good">',
}


class OddPages(BaseHTTPRequestHandler):
    """Pages of which each has something that is wrong with it."""

    def do_GET(self) -> None:
        name = unquote(self.path[1:])
        if name == "robots.txt":
            return self._say(b"User-agent: *\nCrawl-delay: \xc2\xb2\nDisallow: [\n")
        if name == "dribbling":
            self.send_response(200)
            with suppress(BrokenPipeError, ConnectionResetError):
                for _ in range(100):
                    self.wfile.write(b"X-Y: z\r\n")
                    time.sleep(0.2)
            return None
        if name == "huge when unpacked":
            return self._say(gzip.compress(gzip.compress(bytes(100_000_000))), ("Content-Encoding", "gzip, gzip"))
        if name == "":
            links = "".join(f'<a href="/{quote(each)}">' for each in (*ODD, "dribbling", "huge when unpacked"))
            return self._say(links.encode())
        port = str(self.connection.getsockname()[1]).encode()
        charset = "hex" if "charset" in name else "utf-8"
        return self._say(ODD.get(name, b"").replace(b"PORT", port), ("Content-Type", f"text/html; charset={charset}"))

    def _say(self, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(200)
        for header in headers or [("Content-Type", "text/html")]:
            self.send_header(*header)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Nothing is logged."""


def test_odd_pages_are_stored_as_such_and_the_others_are_fetched(service: holdall.LocalService) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), OddPages) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, daemon=True).start()
        start = f"http://localhost:{server.server_address[1]}"
        argv = [sys.executable, "-m", "examples.scraper", start, "--name", "odd", "--processes", "2"]
        done = subprocess.run(argv, cwd=ROOT, text=True, capture_output=True, check=False, timeout=120)
        server.shutdown()
    assert "Traceback" not in done.stdout + done.stderr
    assert done.returncode == 0
    pages = dict(Crawl("odd").pages)
    expected = {quote(each) for each in (*ODD, "dribbling", "huge when unpacked")} | {"", "good"}
    assert {url.removeprefix(f"{start}/") for url in pages if "%01" not in url} == expected
    assert pages[f"{start}/{quote('a second title')}"]["title"] == "first"
    assert "too slow" in pages[f"{start}/dribbling"]["error"]
    assert pages[f"{start}/{quote('huge when unpacked')}"]["bytes"] < 1_000_000


def test_what_a_killed_crawler_made_known_and_nobody_wants_is_found(service: holdall.LocalService) -> None:
    crawl = Crawl("lost")
    crawl.add(["http://h/1", "http://h/2"], "", 10)
    crawl.known["http://h/3"] = "http://h/1"
    crawl.finish("http://h/1", {"links": []}, 10)
    crawl.find_lost()
    assert dict(crawl.frontier("http://h")) == {"http://h/2": 0, "http://h/3": 0}
    assert not crawl.is_finished
    for url in ("http://h/2", "http://h/3"):
        crawl.finish(url, {"links": [], "is_passing": True}, 10)
    assert dict(crawl.frontier("http://h")) == {"http://h/2": 1, "http://h/3": 1}
    for url in ("http://h/2", "http://h/3", "http://h/2", "http://h/3"):
        crawl.finish(url, {"links": [], "is_passing": True}, 10)
    assert crawl.is_finished


@pytest.mark.parametrize(
    "wrong", [["example.com"], ["ftp://example.com"], ["http://h/", "--name", "a b"], ["http://h/", "--name", "x" * 41]]
)
def test_what_cannot_be_crawled_is_refused_in_a_sentence(wrong: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.scraper", *wrong], cwd=ROOT, text=True, capture_output=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("Error: Invalid value")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"

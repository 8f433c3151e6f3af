"""A web scraper of several processes: which pages are known, which are to be fetched and what was found are in Dicts.

python -m examples.scraper [URL] [--max-pages N] [--processes N] [--name NAME]

What the crawlers share is a Crawl (examples/crawl.py). Ctrl-C, and the same command goes on; in a second terminal it joins in.
A crawler that is killed is replaced by the others: they take its host over when its time is up.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from contextlib import ExitStack
from html.parser import HTMLParser
from itertools import islice
from multiprocessing.connection import Connection
from random import Random
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit
from urllib.robotparser import RobotFileParser

import click
import httpx
from rich.console import Console
from rich.live import Live
from rich.table import Table

from examples.crawl import Crawl
from examples.locks import Lock
from examples.site import Site

AGENT = "holdall-example"
PAGE_BYTES_MAX = 2 * 1024 * 1024
FETCH_SECONDS = 5.0
"""What a page may take to begin, and to come."""
TURN_SECONDS = 2 * FETCH_SECONDS + 1
"""How long a crawler keeps a host without a sign of life."""
PAGES_OF_A_TURN = 20
IDLE_SECONDS = 0.05
LOOK_SECONDS = 0.25
GONE_SECONDS = 3 * TURN_SECONDS
"""A crawler that has said nothing for so long is shown no more."""


class Links(HTMLParser):
    """The title and the links of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.title, self.found, self._is_title = "", list[str](), False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._is_title = tag == "title"
        if tag == "a" and (link := dict(attrs).get("href")):
            self.found.append(link)

    def handle_data(self, data: str) -> None:
        if self._is_title:
            self.title, self._is_title = data.strip()[:200], False


class Crawler:
    """One of the processes."""

    def __init__(self, name: str, start: str, pages_max: int, ends: Connection) -> None:
        self._crawl, self._pages_max, self._ends, self._count = Crawl(name), pages_max, ends, 0
        first = urlsplit(start).hostname or ""
        self._is_ours = (lambda host: host.startswith("127.")) if first.startswith("127.") else first.__eq__
        self._http = httpx.Client(headers={"User-Agent": AGENT}, timeout=FETCH_SECONDS)

    def run(self) -> None:
        """Fetch, host by host, until nothing is left."""
        random = Random(os.getpid())
        while not self._crawl.is_finished and not self._ends.poll():
            hosts = list(self._crawl.hosts)
            turns = [self._turn(host) for host in random.sample(hosts, len(hosts))]
            if not any(turns):
                self._tell("waits")
                time.sleep(IDLE_SECONDS)
        self._tell("is done")

    def _turn(self, host: str) -> int:
        """Take a host, if it is free, and fetch some of its pages. Returns how many."""
        lock = Lock(self._crawl.locks, host, seconds=TURN_SECONDS)
        if not self._crawl.frontier(host) or not lock.try_acquire():
            return 0
        with ExitStack() as stack:
            stack.callback(lock.release)
            robots = self._robots(host)
            urls = list(islice(self._crawl.frontier(host), PAGES_OF_A_TURN))
            for url in urls:
                if self._ends.poll():
                    break
                self._tell(url)
                page = {} if url in self._crawl.pages else self._page(url, robots)
                self._crawl.finish(url, page, self._pages_max)
                self._count += 1
                time.sleep(min(float(robots.crawl_delay(AGENT) or 0), FETCH_SECONDS))
                lock.renew()
        return len(urls)

    def _page(self, url: str, robots: RobotFileParser) -> dict[str, Any]:
        """What there is to say of a page: when and by whom it was fetched, status, size, title and links, or what was wrong."""
        page: dict[str, Any] = {"at": time.time(), "by": os.getpid(), "status": None, "bytes": 0, "title": "", "links": []}
        if not robots.can_fetch(AGENT, url):
            return page | {"error": "robots.txt forbids it"}
        try:
            response, body, error = self._get(url)
        except httpx.HTTPError as failure:
            return page | {"error": str(failure) or type(failure).__name__}
        is_html = response.is_success and "html" in response.headers.get("content-type", "")
        parsed = Links(body.decode(response.encoding or "utf-8", "replace") if is_html else "")
        there = [response.headers.get("location", "")] if response.is_redirect else parsed.found
        links = dict.fromkeys(urldefrag(urljoin(url, each))[0] for each in there)
        ours = [each for each in links if each.startswith(("http:", "https:")) and self._is_ours(urlsplit(each).hostname or "")]
        page |= {"status": response.status_code, "bytes": len(body), "title": parsed.title, "links": ours}
        return page | ({"error": error} if error else {})

    def _get(self, url: str) -> tuple[httpx.Response, bytes, str]:
        """An answer, as much of its body as the bounds allow, and which bound it was that ended it."""
        until, body = time.monotonic() + FETCH_SECONDS, b""
        with self._http.stream("GET", url) as response:
            for part in response.iter_bytes():
                body += part
                if len(body) > PAGE_BYTES_MAX or time.monotonic() > until:
                    return response, body[:PAGE_BYTES_MAX], "too large" if len(body) > PAGE_BYTES_MAX else "too slow"
        return response, body, ""

    def _robots(self, host: str) -> RobotFileParser:
        """What a host allows; where it says nothing, all."""
        text = self._crawl.hosts[host]
        if text is None:
            try:
                response, body, _error = self._get(f"{host}/robots.txt")
                text = body.decode("utf-8", "replace") if response.is_success else ""
            except httpx.HTTPError:
                text = ""
            self._crawl.hosts[host] = text
        robots = RobotFileParser()
        robots.parse(text.splitlines())
        return robots

    def _tell(self, what: str) -> None:
        self._crawl.crawlers[os.getpid()] = (self._count, what, time.time())


def crawl_some(name: str, start: str, pages_max: int, ends: Connection) -> None:
    """What a crawler's process does, until its parent lets go of the other end of `ends`, or is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Crawler(name, start, pages_max, ends).run()


@click.command()
@click.argument("url", required=False)
@click.option("--max-pages", type=click.IntRange(1), default=10_000, show_default=True, help="About as many.")
@click.option("--processes", type=click.IntRange(1), default=5, show_default=True)
@click.option(
    "--name", default="scraper", show_default=True, help="The beginning of the names of the Dicts; another one begins anew."
)
def main(url: str | None, max_pages: int, processes: int, name: str) -> None:
    """Fetch what can be reached from URL on its host; without a URL, a site of 2,000 pages that is served meanwhile."""
    crawl, console, begun = Crawl(name), Console(), time.monotonic()
    with ExitStack() as stack:
        start = url or _own_site(crawl, stack)
        crawl.add([start], "", max_pages)
        spawn = multiprocessing.get_context("spawn")
        ends, held = spawn.Pipe(duplex=False)
        pool = [spawn.Process(target=crawl_some, args=(name, start, max_pages, ends), daemon=True) for _ in range(processes)]
        for each in pool:
            each.start()
        try:
            with Live(console=console, get_renderable=lambda: progress(crawl), refresh_per_second=1 / LOOK_SECONDS):
                while any(each.is_alive() for each in pool):
                    time.sleep(LOOK_SECONDS)
        except KeyboardInterrupt:
            held.close()
            for each in pool:
                each.join()
    console.print(summary(crawl))
    word = "all is done" if crawl.is_finished else "the same command goes on"
    console.print(
        f"{len(crawl.pages):,} pages of {len(crawl.known):,} that are known, {time.monotonic() - begun:.1f} s; {word}"
    )
    console.print(f"they are in the Dict {crawl.pages.name!r}: holdall dict items {crawl.pages.name}", highlight=False)
    sys.exit(not crawl.is_finished)


def _own_site(crawl: Crawl, stack: ExitStack) -> str:
    """Serve the site where it was the last time, unless another terminal does. Returns its first URL."""
    port = urlsplit(crawl.site.get("start", "")).port or 0
    try:
        crawl.site["start"] = stack.enter_context(Site(port=port)).start
    except OSError:
        if not port:
            raise
    return str(crawl.site["start"])


def progress(crawl: Crawl) -> Table:
    """What each crawler does."""
    table = Table("crawler", "pages", "does", title=f"{len(crawl.pages):,} pages of {len(crawl.known):,} that are known")
    for pid, (count, what, at) in sorted(crawl.crawlers.items()):
        silent = time.time() - at
        if silent < GONE_SECONDS:
            table.add_row(str(pid), f"{count:,}", what if silent < FETCH_SECONDS else f"nothing for {silent:.0f} s: {what}")
    return table


def summary(crawl: Crawl) -> Table:
    """How the pages ended."""
    ends: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for page in crawl.pages.values():
        end = str(page["status"] or "none") + (f", {page['error']}" if "error" in page else "")
        ends[end] += 1
        sizes[end] += page["bytes"]
    table = Table("answer", "pages", "MiB")
    for end, count in ends.most_common():
        table.add_row(end, f"{count:,}", f"{sizes[end] / 2**20:.1f}")
    return table


if __name__ == "__main__":
    main()

"""A web scraper of several processes: which pages are known, which are to be fetched and what was found are in Dicts.

python -m examples.scraper [URL] [--max-pages N] [--processes N] [--name NAME]

What the crawlers share is a Crawl (examples/crawl.py). Ctrl-C, and the same command goes on; in a second terminal it joins in.
A crawler that is killed is replaced by the others: they take its host over when its time is up.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
import time
from collections import Counter
from contextlib import ExitStack
from itertools import islice
from multiprocessing.connection import Connection
from random import Random
from typing import Any
from urllib.parse import urlsplit
from urllib.robotparser import RobotFileParser

import click
import httpx
from rich.console import Console
from rich.live import Live
from rich.table import Table

from examples.crawl import Crawl
from examples.links import Links, canonical
from examples.locks import Lock
from examples.site import Site

AGENT = "holdall-example"
PAGE_BYTES_MAX = 2 * 1024 * 1024
FETCH_SECONDS = 5.0
"""What a page may take."""
TURN_SECONDS = 2 * FETCH_SECONDS + 1
"""How long a crawler keeps a host without a sign of life."""
PAGES_OF_A_TURN = 20
IDLE_SECONDS, LOOK_SECONDS, RETRY_SECONDS = 0.05, 0.25, 0.5
GONE_SECONDS = 3 * TURN_SECONDS
"""A crawler that has said nothing for so long is shown no more."""


class Crawler:
    """One of the processes."""

    def __init__(self, name: str, start: str, pages_max: int, ends: Connection) -> None:
        self._crawl, self._pages_max, self._ends, self._count = Crawl(name), pages_max, ends, 0
        first = urlsplit(start).hostname or ""
        self._is_ours = (lambda host: host.startswith("127.")) if first.startswith("127.") else first.__eq__
        headers = {"User-Agent": AGENT, "Accept-Encoding": "identity"}  # else 2 kB might become 2 GiB
        self._http = httpx.Client(headers=headers, timeout=FETCH_SECONDS)

    def run(self) -> None:
        """Fetch, host by host, until nothing is left."""
        random, busy_at = Random(os.getpid()), time.monotonic()
        while not self._crawl.is_finished and not self._ends.poll():
            hosts = list(self._crawl.hosts)
            if any(self._turn(host) for host in random.sample(hosts, len(hosts))):
                busy_at = time.monotonic()
                continue
            self._tell("waits")
            time.sleep(IDLE_SECONDS)
            if time.monotonic() - busy_at > TURN_SECONDS:
                self._crawl.find_lost()
                busy_at = time.monotonic()
        self._tell("is done")

    def _turn(self, host: str) -> int:
        """Take a host, if it is free, and fetch some of its pages. Returns how many."""
        lock = Lock(self._crawl.locks, urlsplit(host).hostname, seconds=TURN_SECONDS)
        if not self._crawl.frontier(host) or not lock.try_acquire():
            return 0
        with ExitStack() as stack:
            stack.callback(lock.release)
            robots = self._robots(host)
            urls = list(islice(self._crawl.frontier(host), PAGES_OF_A_TURN))
            for url in urls:
                if self._ends.poll() or not lock.renew():
                    break
                self._tell(url)
                page = {} if url in self._crawl.pages else self._page(url, robots)
                self._crawl.finish(url, page, self._pages_max)
                self._count += 1
                failed = RETRY_SECONDS if page.get("is_passing") and page["status"] is None else 0.0
                time.sleep(min(float(robots.crawl_delay(AGENT) or failed), FETCH_SECONDS))
        return len(urls)

    def _page(self, url: str, robots: RobotFileParser) -> dict[str, Any]:
        """What there is to say of a page. Whatever it raises is what is wrong with it; what `is_passing` may be right later."""
        page: dict[str, Any] = {"at": time.time(), "by": os.getpid(), "status": None, "bytes": 0, "title": "", "links": []}
        if not robots.can_fetch(AGENT, url):
            return page | {"error": "robots.txt forbids it"}
        try:
            response, body, error = self._get(url)
            page |= {"status": response.status_code, "bytes": len(body)} | ({"error": error} if error else {})
            if response.is_server_error:
                return page | {"is_passing": True}
            is_html = response.is_success and "html" in response.headers.get("content-type", "")
            parsed = Links(body.decode(response.encoding or "utf-8", "replace") if is_html else "")
            there = [response.headers.get("location", "")] if response.is_redirect else parsed.found
            ours = dict.fromkeys(link for each in there if self._is_ours(urlsplit(link := canonical(url, each)).hostname or ""))
            return page | {"title": parsed.title, "links": list(ours)}
        except Exception as failure:
            is_passing = isinstance(failure, (httpx.TransportError, TimeoutError))
            return page | {"error": f"{type(failure).__name__}: {failure}", "is_passing": is_passing}

    def _get(self, url: str) -> tuple[httpx.Response, bytes, str]:
        """An answer, as much of its body as may be, and what was wrong with it. Raises TimeoutError."""
        body = b""
        signal.setitimer(signal.ITIMER_REAL, FETCH_SECONDS)  # a server may say a byte now and then, and never end
        try:
            with self._http.stream("GET", url) as response:
                for part in response.iter_raw():
                    body += part
                    if len(body) > PAGE_BYTES_MAX:
                        return response, body[:PAGE_BYTES_MAX], "too large"
            return response, body, ""
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _robots(self, host: str) -> RobotFileParser:
        """What a host allows; where it says nothing, all."""
        text, robots = self._crawl.hosts[host], RobotFileParser()
        try:
            if text is None:
                response, body, _error = self._get(f"{host}/robots.txt")
                text = self._crawl.hosts[host] = body.decode("utf-8", "replace") if response.is_success else ""
            robots.parse(text.splitlines())
        except (httpx.HTTPError, TimeoutError, ValueError):  # it is asked for again by the next turn, or is none
            robots.parse([])
        return robots

    def _tell(self, what: str) -> None:
        self._crawl.crawlers[os.getpid()] = (self._count, what, time.time())


def crawl_some(name: str, start: str, pages_max: int, ends: Connection) -> None:
    """What a crawler's process does, until its parent lets go of the other end of `ends`, or is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, _too_slow)
    Crawler(name, start, pages_max, ends).run()


def _too_slow(*_signal: object) -> None:
    raise TimeoutError("too slow")


@click.command()
@click.argument("url", required=False)
@click.option("--max-pages", type=click.IntRange(1), default=10_000, show_default=True, help="About as many.")
@click.option("--processes", type=click.IntRange(1), default=5, show_default=True)
@click.option(
    "--name", default="scraper", show_default=True, help="The beginning of the names of the Dicts; another one begins anew."
)
def main(url: str | None, max_pages: int, processes: int, name: str) -> None:
    """Fetch what can be reached from URL on its host; without a URL, a site of 2,000 pages that is served meanwhile."""
    if not re.fullmatch(r"[\w.-]{1,40}", name, re.ASCII):
        raise click.BadParameter(f"{name!r} is no name: 1 to 40 letters, digits, '-', '_' and '.'", param_hint="--name")
    if url is not None and not canonical(url, url):
        raise click.BadParameter(f"{url!r} is no URL: http://…, or https://…")
    crawl, console, begun = Crawl(name), Console(), time.monotonic()
    with ExitStack() as stack:
        start = canonical(url, url) if url else _own_site(crawl, stack)
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
                    start = start if url else _own_site(crawl, stack)  # the terminal that served it may have ended
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

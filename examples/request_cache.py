"""Processes that want the same pages: each page is asked for once, though one of them is killed while it asks.

python -m examples.request_cache [--processes 4] [--pages 12] [--seconds 1]
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from random import Random
from typing import Any
from urllib.request import urlopen

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table

from examples.locks import POLL_SECONDS, cached
from examples.site import Site
from holdall import Dict


def want_all(d: Dict[Any, Any], locks: Dict[Any, Any], urls: list[str], seconds: float, seed: int) -> None:
    """Want every page, in an order of one's own."""

    def fetch(url: str) -> Callable[[], tuple[int, int]]:
        def ask() -> tuple[int, int]:
            d["asks", os.getpid()] = url
            with urlopen(url) as response:
                return len(response.read()), os.getpid()

        return ask

    for url in Random(seed).sample(urls, len(urls)):
        cached(d, url, fetch(url), locks=locks, seconds=seconds)


@click.command()
@click.option("--processes", type=click.IntRange(2), default=4, show_default=True)
@click.option("--pages", type=click.IntRange(1, 40), default=12, show_default=True)
@click.option(
    "--seconds",
    type=click.FloatRange(0.5),
    default=1.0,
    show_default=True,
    help="After which the work of one that was killed is taken over.",
)
def main(processes: int, pages: int, seconds: float) -> None:
    """Show a cache that several processes fill, each page once."""
    sys.exit(show(Console(), processes, pages, seconds))


def show(console: Console, processes: int, pages: int, seconds: float) -> int:
    """Run it. Returns the exit status: 0 if each page was asked for once, and that of the killed process twice."""
    with Site(dawdle_seconds=seconds / 5) as site, Dict.ephemeral() as d, Dict.ephemeral() as locks:
        urls = [site.url(50 * number + 33) for number in range(pages)]  # those that are slow
        spawn = multiprocessing.get_context("spawn")
        pool = [spawn.Process(target=want_all, args=(d, locks, urls, seconds, seed), daemon=True) for seed in range(processes)]
        for each in pool:
            each.start()
        killed, its_page = _kill_one_that_asks(site, pool, d)
        for each in track(pool, "others go on", console=console, transient=True):
            each.join()
        table = Table("page", "asked for", "by", title=f"{processes} processes want {pages} pages; one was killed")
        for url in urls:
            note = f"; {killed} was killed while it asked" if url == its_page else ""
            table.add_row(url, f"{site.requests[url]} ×", f"process {d[url][1]}{note}")
        console.print(table)
        claims = {
            "every page is there": all(url in d for url in urls),
            "each page was asked for once": all(site.requests[url] == 1 for url in urls if url != its_page),
            "that of the killed process once more": site.requests[its_page] == 2 and d[its_page][1] != killed,
        }
        for claim, holds in claims.items():
            console.print(f"{'yes' if holds else 'NO '}  {claim}")
        return 0 if all(claims.values()) else 1


def _kill_one_that_asks(site: Site, pool: list[Any], d: Dict[Any, Any]) -> tuple[int, str]:
    """Kill a process while the site has not answered it; which, and what it asked for."""
    while any(each.is_alive() for each in pool):
        for each in pool:
            url = d.get(("asks", each.pid))
            if url is not None and url not in d and site.requests[url]:
                os.kill(each.pid, signal.SIGKILL)
                each.join()
                if url not in d:
                    return each.pid, url
        time.sleep(POLL_SECONDS)
    raise click.ClickException("all were done before one could be killed: take more --pages, or --seconds")


if __name__ == "__main__":
    main()

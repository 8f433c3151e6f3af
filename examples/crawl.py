"""What the crawlers of examples/scraper.py share: what is known, what is to be fetched, what was found, in Dicts.

1. A URL becomes known by put-if-absent: of all who find it, one adds it to what is to be fetched on its host, the frontier.
2. A page's links are known before the page is stored, and a URL leaves the frontier after that: what a killed crawler had begun
   is fetched again, and nothing else is.
3. So all is done when as many pages are stored as URLs are known. A crawler that was killed may have made a URL known and not
   added it to a frontier: who finds nothing to do for a while looks for such.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from hashlib import blake2b
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from holdall import Dict

AT_ONCE = 500
TRIES_MAX = 3
"""How often a page is asked for that the network, or its server, does not give."""


class Crawl:
    """The Dicts of one crawl; their names begin with its name."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.pages = self._dict("pages")
        """What was found, by URL."""
        self.known = self._dict("known")
        """By which page a URL was found."""
        self.hosts = self._dict("hosts")
        """Their robots.txt, by scheme, host and port; None before it was asked for."""
        self.locks = self._dict("locks")
        """Whose a host is."""
        self.crawlers = self._dict("crawlers")
        """How many pages each has fetched, what it does, and when it said so."""
        self.site = self._dict("site")
        """Where the site is that is served along with the crawl."""
        self.frontier = cache(lambda host: self._dict("frontier-" + blake2b(host.encode(), digest_size=6).hexdigest()))
        """What is to be fetched on a host: URLs, and how often each was tried in vain."""

    def _dict(self, what: str) -> Dict[Any, Any]:
        return Dict.from_name(f"{self._name}-{what}", create_if_missing=True, ttl=None)

    def add(self, urls: list[str], page: str, pages_max: int) -> None:
        """Make URLs known that a page leads to, up to about so many."""
        for some in _chunks(urls):
            known, room = self.known.get_many(some), pages_max - len(self.known)
            new = [url for url in some if url not in known][: max(0, room)]
            self._want([url for url in new if self.known.put(url, page, skip_if_exists=True)])

    def finish(self, url: str, page: dict[str, Any], pages_max: int) -> None:
        """Store a page, unless it is to be tried again; an empty one is there already."""
        frontier = self.frontier(origin(url))
        tried = frontier.get(url, TRIES_MAX) + 1
        if page.get("is_passing") and tried < TRIES_MAX:
            frontier[url] = tried
            return
        if page:
            self.add(page["links"], url, pages_max)
            self.pages[url] = page
        frontier.pop(url, None)

    def find_lost(self) -> None:
        """Add to a frontier what is known, and neither stored nor in one."""
        for some in _chunks(self.known.keys()):
            pages = self.pages.get_many(some)
            self._want([url for url in some if url not in pages])

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to be fetched, by anybody."""
        return len(self.pages) == len(self.known)  # in this order: only pages that are not stored make URLs known

    def _want(self, urls: list[str]) -> None:
        wanted = defaultdict[str, dict[str, int]](dict)
        for url in urls:
            wanted[origin(url)][url] = 0
        for host, found in wanted.items():
            self.hosts.put(host, None, skip_if_exists=True)
            self.frontier(host).put_many(found, skip_if_exists=True)


def origin(url: str) -> str:
    """Scheme, host and port: what is asked politely."""
    return "{}://{}".format(*urlsplit(url))


def _chunks(urls: Iterable[str]) -> Iterator[list[str]]:
    remaining = iter(urls)
    while some := list(islice(remaining, AT_ONCE)):
        yield some

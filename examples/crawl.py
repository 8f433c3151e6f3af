"""What the crawlers of examples/scraper.py share: what is known, what is to be fetched, what was found, in Dicts.

1. A URL becomes known by put-if-absent: of all who find it, one adds it to what is to be fetched on its host, the frontier.
2. A page's links are known before the page is stored, and a URL leaves the frontier after that: what a killed crawler had begun
   is fetched again, and nothing else is.
3. So all is done when as many pages are stored as URLs are known.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from hashlib import blake2b
from typing import Any
from urllib.parse import urlsplit

from holdall import Dict


def origin(url: str) -> str:
    """Scheme, host and port: what is asked politely."""
    return "{}://{}".format(*urlsplit(url))


class Crawl:
    """The Dicts of one crawl; their names begin with its name."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.pages = self._dict("pages")
        """What was found, by URL."""
        self.known = self._dict("known")
        """By which page a URL was found."""
        self.hosts = self._dict("hosts")
        """Their robots.txt, by origin; None before it was asked for."""
        self.locks = self._dict("locks")
        """Whose a host is."""
        self.crawlers = self._dict("crawlers")
        """How many pages each has fetched, what it does, and when it said so."""
        self.site = self._dict("site")
        """Where the site is that is served along with the crawl."""
        self.frontier = cache(lambda host: self._dict("frontier-" + blake2b(host.encode(), digest_size=6).hexdigest()))
        """What is to be fetched on a host: URLs, and by which page each was found."""

    def _dict(self, what: str) -> Dict[Any, Any]:
        return Dict.from_name(f"{self._name}-{what}", create_if_missing=True)

    def add(self, urls: list[str], page: str, pages_max: int) -> None:
        """Make URLs known that a page leads to; again, if that had begun."""
        known, added = self.known.get_many(urls), defaultdict[str, dict[str, str]](dict)
        for url in urls:
            had_begun = known.get(url) == page and url not in self.pages
            if had_begun or (
                url not in known and len(self.known) < pages_max and self.known.put(url, page, skip_if_exists=True)
            ):
                added[origin(url)][url] = page
        for host, found in added.items():
            self.hosts.put(host, None, skip_if_exists=True)
            self.frontier(host).update(found)

    def finish(self, url: str, page: dict[str, Any], pages_max: int) -> None:
        """Store a page; an empty one is there already."""
        if page:
            self.add(page["links"], url, pages_max)
            self.pages[url] = page
        self.frontier(origin(url)).pop(url, None)

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to be fetched, by anybody."""
        return len(self.pages) == len(self.known)  # in this order: only pages that are not stored make URLs known

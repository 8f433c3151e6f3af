"""What a page leads to: its links, each in one form."""

from __future__ import annotations

from html.parser import HTMLParser
from urllib.parse import urldefrag, urljoin

import httpx


class Links(HTMLParser):
    """The title and the links of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.title, self.found, self._is_title = "", list[str](), False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._is_title = tag == "title" and not self.title
        if tag == "a" and (link := dict(attrs).get("href")):
            self.found.append(link)

    def handle_data(self, data: str) -> None:
        if self._is_title:
            self.title, self._is_title = data.strip()[:200], False


def canonical(base: str, link: str) -> str:
    """A link as it is known, or nothing if it is none: one page may have several, and a page may have anything in a link."""
    try:
        url = httpx.URL(urldefrag(urljoin(base, link))[0])
        return str(url.copy_with(userinfo=b"", path=url.path or "/")) if url.scheme in ("http", "https") and url.host else ""
    except (ValueError, httpx.InvalidURL):
        return ""

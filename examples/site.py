"""A web site on loopback addresses, to be crawled: it has circles, redirects, and pages that are broken, slow or huge.

What a page is follows from its number, so that it is known which pages can be reached.
"""

from __future__ import annotations

import socket
import time
from collections import Counter
from contextlib import ExitStack
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from threading import Lock, Thread
from typing import Any, Self
from urllib.parse import urlsplit

HOSTS = 5
"""127.0.0.1, 127.0.0.2, …: as many hosts, to a crawler that is polite to each."""
HUGE_BYTES = 8 * 1024 * 1024
ROBOTS = "User-agent: *\nDisallow: /private/\n"


class Site:
    """So many numbered pages, served while the block lasts.

    Args:
        pages: how many, without those that robots may not read.
        port: 0: any that is free.
        dawdle_seconds: how long a slow page takes.
    """

    def __init__(self, pages: int = 2000, port: int = 0, *, dawdle_seconds: float = 0.3) -> None:
        self._pages, self._dawdle_seconds = pages, dawdle_seconds
        self.requests: Counter[str] = Counter()
        """How often each URL was asked for."""
        self.most_at_once: Counter[str] = Counter()
        """How many requests a host has had at one moment."""
        self._now: Counter[str] = Counter()
        self._lock = Lock()
        self._stack = ExitStack()
        self.port = port

    @property
    def start(self) -> str:
        """The URL of the first page."""
        return self.url(0)

    def url(self, number: int) -> str:
        return f"http://127.0.0.{number % HOSTS + 1}:{self.port}/page/{number}"

    def kind(self, number: int) -> str:
        """What a page is: "page", "redirect", "missing", "broken", "slow" or "huge"."""
        return {7: "redirect", 13: "missing", 21: "broken", 33: "slow", 41: "huge"}.get(number % 50 if number else 0, "page")

    def links(self, number: int) -> list[str]:
        """The URLs that a page leads to."""
        random, kind = Random(number), self.kind(number)
        if kind in ("missing", "broken"):
            return []
        if kind == "redirect":
            return [self.url(random.randrange(self._pages))]
        there = [2 * number + 1, 2 * number + 2, *(random.randrange(self._pages) for _ in range(3)), number, 0]
        found = [self.url(each) for each in there if each < self._pages]
        return [*found, self.url(number).replace("/page/", "/private/")]

    def reachable(self) -> set[str]:
        """The URLs that a polite crawler comes to from the first page."""
        known, todo = {self.start}, [0]
        while todo:
            for url in self.links(todo.pop()):
                if url not in known and "/private/" not in url:
                    known.add(url)
                    todo.append(int(url.rpartition("/")[2]))
        return known

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"site": self})
        for host in range(HOSTS):
            server = self._stack.enter_context(_Server((f"127.0.0.{host + 1}", self.port), handler))
            self.port = server.server_address[1]
            Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            self._stack.callback(server.shutdown)
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def answer(self, host: str, path: str) -> tuple[int, str, bytes]:
        """Status, type or location, and body of what is asked for."""
        url = f"http://{host}{path}"
        name = urlsplit(url).hostname or ""
        with self._lock:
            self.requests[url] += 1
            self._now[name] += 1
            self.most_at_once[name] = max(self.most_at_once[name], self._now[name])
        try:
            return self._answer(path)
        finally:
            with self._lock:
                self._now[name] -= 1

    def _answer(self, path: str) -> tuple[int, str, bytes]:
        if path == "/robots.txt":
            return HTTPStatus.OK, "text/plain", ROBOTS.encode()
        number = int(path.rpartition("/")[2]) if path.startswith("/page/") and path[6:].isdigit() else self._pages
        if number >= self._pages or self.kind(number) == "missing":
            return HTTPStatus.NOT_FOUND, "text/plain", b"there is no such page"
        kind, links = self.kind(number), self.links(number)
        if kind == "broken":
            return HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", b"out of order"
        if kind == "redirect":
            return HTTPStatus.FOUND, links[0], b""
        if kind == "slow":
            time.sleep(self._dawdle_seconds)
        listed = "".join(f'<li><a href="{url}#top">{url}</a>' for url in links)
        body = f"<!doctype html><title>Page {number}</title><h1>Page {number}</h1><ul>{listed}</ul>".encode()
        return HTTPStatus.OK, "text/html; charset=utf-8", body + b" " * (HUGE_BYTES if kind == "huge" else 0)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = socket.SOMAXCONN

    def handle_error(self, *_arguments: Any) -> None:
        """A client that has gone is no error."""


class _Handler(BaseHTTPRequestHandler):
    site: Site
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        status, about, body = self.site.answer(self.headers["Host"], self.path)
        self.send_response(status)
        self.send_header("Location" if status == HTTPStatus.FOUND else "Content-Type", about)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: Any) -> None:
        """Nothing is logged."""

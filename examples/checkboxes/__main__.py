"""python -m examples.checkboxes [--port 8000] [--boxes 100000] [--name checkboxes]."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import click
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from .boxes import Boxes

CLICKS_A_SECOND, CLICKS_AT_ONCE, MESSAGE_BYTES_MAX, UNTOLD_MAX = 200, 1_000, 4_096, 4_000
"""What a page may do; and of more changes than the last it is told all boxes."""


class Page:
    """What one browser is told, all boxes as bits and then those that change, as fast as it takes them; and what it says."""

    def __init__(self, socket: WebSocket, boxes: Boxes) -> None:
        self._socket, self._boxes = socket, boxes
        self._untold, self._is_untold = set[int](), asyncio.Event()
        self._clicked: dict[int, int] = {}  # the number of the last click on a box that is not stored
        self._clicks, self._at = float(CLICKS_AT_ONCE), time.monotonic()

    def changed(self, boxes: Iterable[int]) -> None:
        """Have these boxes be told, and the numbers beside them."""
        self._untold.update(boxes)
        self._is_untold.set()

    async def tell(self) -> None:
        """Tell all boxes, and what changes, until it is cancelled."""
        await self._socket.send_json({"boxes": self._boxes.number})
        await self._socket.send_bytes(self._boxes.bits())
        while True:
            untold, self._untold = self._untold, set()
            stored = [self._clicked.pop(box) for box in untold & self._clicked.keys() - self._boxes.wanted.keys()]
            if len(untold) > UNTOLD_MAX:
                await self._socket.send_bytes(self._boxes.bits())
                untold = set()
            changed = [[box, box in self._boxes.checked] for box in untold if box < self._boxes.number]
            numbers = {"checked": len(self._boxes.checked), "here": self._boxes.browsers(), "stored": stored}
            await self._socket.send_json({"changed": changed, **numbers})
            await self._is_untold.wait()
            self._is_untold.clear()

    async def hear(self) -> None:
        """Take clicks: [its number, box, whether it is to be checked]. Raises for what no page sends."""
        while True:
            number, box, is_checked = json.loads(await self._socket.receive_text())
            now = time.monotonic()
            self._clicks, self._at = min(CLICKS_AT_ONCE, self._clicks + (now - self._at) * CLICKS_A_SECOND) - 1, now
            is_click = [type(number), type(box), type(is_checked)] == [int, int, bool] and 0 <= box < self._boxes.number
            if not is_click or self._clicks < 0:
                raise ValueError("no click, or too many")
            self._clicked[box] = number
            self._boxes.wanted[box] = is_checked
            self._boxes.asked.set()


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True)
@click.option("--boxes", "number", type=click.IntRange(1, 10_000_000), default=100_000, show_default=True)
@click.option("--name", default="checkboxes", show_default=True, help="Of the Dict: servers of one name share their boxes.")
def main(port: int, number: int, name: str) -> None:
    """Serve checkboxes that everybody on this machine shares."""
    pages: set[Page] = set()

    def tell_all(changed: Iterable[int]) -> None:
        for page in pages:
            page.changed(changed)

    @asynccontextmanager
    async def running(_app: Starlette) -> AsyncIterator[None]:
        await boxes.load()
        following = asyncio.create_task(boxes.follow())
        yield
        following.cancel()

    async def connect(socket: WebSocket) -> None:
        if socket.headers.get("origin") in (f"http://localhost:{port}", f"http://127.0.0.1:{port}"):
            await socket.accept()
            page = Page(socket, boxes)
            pages.add(page)
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(page.tell())
                    await page.hear()
            except* (WebSocketDisconnect, ValueError, TypeError, KeyError, RecursionError):
                pass
            finally:
                pages.remove(page)
        with suppress(RuntimeError, WebSocketDisconnect):  # it has gone
            await socket.close()

    boxes = Boxes(name, number, tell_all, lambda: len(pages))
    files = StaticFiles(directory=Path(__file__).parent / "page", html=True)
    app = Starlette(routes=[WebSocketRoute("/boxes", connect), Mount("/", files)], lifespan=running)
    uvicorn.run(app, port=port, log_level="warning", ws_max_size=MESSAGE_BYTES_MAX, ws_ping_interval=5)


if __name__ == "__main__":
    main()

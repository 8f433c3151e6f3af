"""python -m examples.checkboxes [--port 8000] [--boxes 100000] [--name checkboxes]."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import click
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from examples.limits import Allowance, Unpinged

from .boxes import Boxes

CLICKS_A_SECOND, CLICKS_AT_ONCE, MESSAGE_BYTES_MAX, UNTOLD_MAX = 200, 1_000, 4_096, 4_000
"""What a page may do; and of more changes than the last it is told all boxes."""


class Page:
    """What one browser is told, all boxes as bits and then those that change, as fast as it takes them; and what it says."""

    def __init__(self, socket: WebSocket, boxes: Boxes, number: int) -> None:
        self._socket, self._boxes, self._number = socket, boxes, number
        self._untold, self._knows_all, self._is_untold = set[int](), False, asyncio.Event()
        self._clicked: dict[int, int] = {}  # the number of the last click on a box that is not stored
        self._clicks = Allowance(CLICKS_A_SECOND, CLICKS_AT_ONCE)

    def changed(self, boxes: Iterable[int] | None) -> None:
        self._untold.update(boxes or ())
        self._knows_all = self._knows_all and boxes is not None and len(self._untold) <= UNTOLD_MAX
        self._is_untold.set()

    async def tell(self) -> None:
        await self._socket.send_json({"boxes": self._number})
        while True:
            knew_all, self._knows_all = self._knows_all, True
            untold, self._untold = self._untold, set()
            settled = self._clicked.keys() & (untold if knew_all else self._clicked.keys()) - self._boxes.wanted.keys()
            stored = [self._clicked.pop(box) for box in settled]
            changed = [[box, box in self._boxes.checked] for box in untold if box < self._number]
            if not knew_all:
                await self._socket.send_bytes(self._boxes.bits(self._number))
            numbers = {"checked": len(self._boxes.checked), "here": self._boxes.browsers()}
            await self._socket.send_json({"changed": changed if knew_all else [], "stored": stored, **numbers})
            await self._is_untold.wait()
            self._is_untold.clear()

    async def hear(self) -> None:
        """Take clicks: [its number, box, whether it is to be checked]. Raises for what no page sends."""
        while True:
            number, box, is_checked = json.loads(await self._socket.receive_text())
            is_click = [type(number), type(box), type(is_checked)] == [int, int, bool] and 0 <= box < self._number
            if not (is_click and self._clicks.take()):
                raise ValueError("no click, or too many")
            self._clicked[box] = number
            self._boxes.wanted[box] = [is_checked]
            self._boxes.asked.set()


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True)
@click.option("--boxes", "number", type=click.IntRange(1, 1_000_000), default=100_000, show_default=True)
@click.option("--name", default="checkboxes", show_default=True, help="Of the Dict: servers of one name share their boxes.")
def main(port: int, number: int, name: str) -> None:
    """Serve checkboxes that everybody on this machine shares."""
    pages: set[Page] = set()

    origins = [f"http://{host}{'' if port == 80 else f':{port}'}" for host in ("localhost", "127.0.0.1")]

    def tell_all(changed: Iterable[int] | None) -> None:
        for page in pages:
            page.changed(changed)

    @asynccontextmanager
    async def running(_app: Starlette) -> AsyncIterator[None]:
        await boxes.load()
        following = asyncio.create_task(boxes.follow())
        click.echo(f"{number:,} checkboxes at http://127.0.0.1:{port}")
        yield
        following.cancel()

    async def connect(socket: WebSocket) -> None:
        if socket.headers.get("origin") not in origins:
            await socket.close()
            return
        await socket.accept()
        pages.add(page := Page(socket, boxes, number))
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(page.tell())
                await page.hear()
        except* (WebSocketDisconnect, ValueError, TypeError, KeyError, RecursionError):
            pages.remove(page)

    boxes = Boxes(name, tell_all, lambda: len(pages))
    page_files = Mount("/", StaticFiles(directory=Path(__file__).parent / "page", html=True))
    app = Starlette(routes=[WebSocketRoute("/boxes", connect), page_files], lifespan=running)
    uvicorn.run(app, port=port, log_level="warning", ws=Unpinged, ws_max_size=MESSAGE_BYTES_MAX, ws_ping_interval=5)


main()

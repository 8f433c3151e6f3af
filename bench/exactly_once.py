"""What it costs that every write is remembered with its outcome: one worker over its LevelDB, with and without, in turns.

python -m holdall.bench.exactly_once
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from holdall import protocol
from holdall.bodies import Registration, encode
from holdall.protocol import Reply, Request, dict_id_of
from holdall.slots import dict_crc, key_hash
from holdall.worker.core import Worker
from holdall.worker.large.folder import Folder
from holdall.worker.message import Message
from holdall.worker.state.transaction import format_store
from holdall.worker.store.leveldb import LevelDBStore

DICT = dict_id_of(bytes(16), ephemeral=True)
NOWHERE: Any = None
"""The answers are not sent."""
VALUE = os.urandom(100)
CLIENTS = 100
"""Sessions that write in turns."""
TICKS = 200
ROUNDS = 7
WRITES_PER_TICK = (1, 10, 100)


class Forgetful(Worker):
    """Carries every copy of a write out."""

    def _once(self, request: Request) -> Reply:
        return self._carried_out(request)


class Writer:
    """Sends puts to one worker, as many clients would."""

    def __init__(self, kind: type[Worker], folder: Path, *, sync: bool) -> None:
        store = LevelDBStore(folder, create=True)
        format_store(store)
        self.worker = kind(store, 0, 1, sync=sync, files=Folder(folder.with_suffix(".blobs"), sync=sync))
        self._sequence = 0
        self._write([(protocol.REGISTER, b"", encode(Registration(None, 3_600.0, "main", "bench")))])

    def writes_per_second(self, writes: int) -> float:
        """The rate of puts of new keys, so many in a tick."""
        started = perf_counter()
        for tick in range(TICKS):
            self._write([(protocol.PUT, b"s%d.%d.%d" % (self._sequence, tick, number), VALUE) for number in range(writes)])
        return TICKS * writes / (perf_counter() - started)

    def _write(self, puts: list[tuple[int, bytes, bytes]]) -> None:
        messages: list[Message] = []
        for opcode, key, value in puts:
            self._sequence += 1
            session = (self._sequence % CLIENTS).to_bytes(16, "little")
            hash_ = key_hash(dict_crc(DICT), key)
            request = Request(opcode, 0, hash_, session, self._sequence, self._sequence, DICT, key, value)
            messages.append(Message(NOWHERE, b"", bytes(protocol.pack_request(request)[0])))
        self.worker.tick(messages, 1.0)


def main() -> None:
    """Measure and print."""
    console = Console()
    table = Table("fsync", "writes in a tick", "forgotten, writes/s", "remembered, writes/s", "ratio", title="The cost of once")
    for column in table.columns[1:]:
        column.justify = "right"
    with tempfile.TemporaryDirectory(prefix="holdall-once-") as folder:
        for sync in (False, True):
            writers = [Writer(kind, Path(folder) / f"{kind.__name__}-{sync}", sync=sync) for kind in (Forgetful, Worker)]
            for writes in WRITES_PER_TICK:
                rounds = [
                    [writer.writes_per_second(writes) for writer in writers]
                    for _ in track(range(ROUNDS), f"{writes} writes in a tick", console=console, transient=True)
                ]
                forgotten, remembered = (median(rates) for rates in zip(*rounds, strict=True))
                ratio = median(once / plain for plain, once in rounds)
                table.add_row("yes" if sync else "no", str(writes), f"{forgotten:,.0f}", f"{remembered:,.0f}", f"{ratio:.2f}")
    console.print(table)


if __name__ == "__main__":
    main()

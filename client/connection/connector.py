"""Opens the transports to a service of ours: by ZeroMQ to its broker, by Unix streams to its workers."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from holdall import settings
from holdall.errors import ConnectionError, Error
from holdall.framing import Stream, connected, path_of, peer_uid
from holdall.process.listen import refuse_shared
from holdall.protocol import VERSION

from .lane import AwaitingLane, BlockingLane

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

    from holdall.bodies import RosterWorker
    from holdall.connection_file import ConnectionFile

    from .dealer import Dealer

LANES_MAX = 128
"""A driver that begins while so many lanes are open has none: each takes a file descriptor here and at a worker."""

_inherited: list[object] = []
"""What a forked child must neither use nor close."""


class ServiceConnector:
    """For the service at `url`, or that of a connection file; without one for this user's own, whose data is in `data`."""

    _context: Any  # of ZeroMQ, once it is needed
    _dealers: set[Dealer]
    _streams: weakref.WeakSet[Stream]

    def __init__(
        self,
        url: str | None,
        data: Path | None,
        *,
        has_lanes: bool,
        file: Path | None = None,
        keys: ConnectionFile | None = None,
    ) -> None:
        self._url = url
        self._data = data
        self._file, self._keys = file, keys
        self._has_lanes = has_lanes
        self._found: str | None = None
        """Where the service of `data` was found."""
        self._is_closed = False
        self._begin()

    @property
    def is_local(self) -> bool:
        return self._data is not None

    @property
    def reads_only(self) -> bool:
        return self._keys is not None and self._keys.role == "reader"

    @property
    def is_known(self) -> bool:
        return self._file is None or self._keys is not None

    @property
    def layout(self) -> str:
        return "" if self._keys is None else self._keys.layout

    @property
    def url(self) -> str:
        if self._file is not None:
            return f"the address in {self._file}" if self._keys is None else self._keys.url
        return self._url or "" if self._data is None else self._found or settings.service_url(self._data)

    def open_broker(self, wait_seconds: float = 0.0) -> Dealer:
        from holdall import sockets  # ZeroMQ takes longer to load than all the rest: an import need not wait for it

        from .dealer import Dealer

        with self._lock:
            if self._is_closed:
                raise ConnectionError(f"this client of {self.url} is closed: make another one")
            self._read_again()
            if self._context is None:
                self._context = sockets.new_context()
            refuse_shared(self.url)
            dealer: Dealer | None = None
            try:
                dealer = Dealer(self._context, lambda: self.url, wait_seconds, self._keys)
                self._dealers.add(dealer)
            except BaseException:  # Ctrl-C: a socket that is not listed here would keep the context from its end
                if dealer is not None:
                    dealer.close()
                    self._dealers.discard(dealer)
                raise
        return dealer

    def _read_again(self) -> None:
        """A connection file may have another key by now, or another address; one of another service's data is not for us."""
        if self._file is not None and self._keys is not None:
            from holdall.connection_file import read

            with contextlib.suppress(Error, OSError):  # the one that was read is tried
                found = read(self._file, self._url)
                self._keys = found if found.layout == self._keys.layout else self._keys

    def lane_address(self, worker: RosterWorker) -> str | None:
        if not self._has_lanes or len(self._streams) >= LANES_MAX:
            return None
        address = f"{self.url.rpartition('/')[0]}/worker-{worker.index}.v{VERSION}"
        return address if address in worker.addresses and os.path.exists(path_of(address)) else None

    def open_lane(self, address: str, wait_seconds: float) -> BlockingLane | None:
        stream = self._stream(address)
        return None if stream is None else BlockingLane(stream, wait_seconds)

    def open_awaiting_lane(self, address: str, loop: asyncio.AbstractEventLoop) -> AwaitingLane | None:
        stream = self._stream(address)
        return None if stream is None else AwaitingLane(stream, loop)

    def looks(self) -> Iterator[float]:
        if self._file is not None and self._keys is None:
            from holdall.connection_file import FILE_LOOK_SECONDS, looks

            for found in looks(self._file, self._url, settings.connection_wait()):
                if found is not None:
                    self._keys = found
                    break
                yield FILE_LOOK_SECONDS

    def revive(self) -> None:
        for seconds in self.looks():
            time.sleep(seconds)
        if self._data is not None:
            from holdall.service.own import ensure_running

            self._found = ensure_running(self._data)

    def finds_service(self) -> bool:
        from holdall.service.own import found

        self._found = found(self._data) if self._data is not None else None
        return self._found is not None

    def close(self) -> None:
        """Open nothing more."""
        self._is_closed = True
        self.forget_closed()

    def forget_closed(self) -> None:
        """Some transports were closed: after the last one of a connector that opens no more the context ends."""
        with self._lock:
            self._dealers = {each for each in self._dealers if not each.is_closed}
            if self._is_closed and not self._dealers and self._context is not None and not self._context.closed:
                context, self._context = self._context, None
                if self._file is None:
                    context.term()
                else:  # its thread may be looking a name up, which may take long
                    with contextlib.suppress(RuntimeError):  # the process ends
                        threading.Thread(target=context.term, daemon=True).start()

    def inherit(self) -> None:
        """In a forked child: leave everything of the parent alone, and begin anew."""
        _inherited.append((self._lock, self._context, self._dealers))
        for stream in self._streams:
            stream.close()  # the child's copy: the parent's goes on
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.RLock()  # a signal handler may call while its own thread is in here
        self._context = None
        self._dealers = set()
        self._streams = weakref.WeakSet()

    def _stream(self, address: str) -> Stream | None:
        try:
            stream = connected(address)
        except OSError:
            return None
        with self._lock:
            if not self._is_closed and peer_uid(stream) in (None, os.getuid()):
                self._streams.add(stream)
                return stream
        stream.close()
        return None

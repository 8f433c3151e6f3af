"""The gate by itself: read, and asked about handshakes, when the test does that."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import zmq
from zmq.utils.monitor import parse_monitor_message

from holdall.broker import unread
from holdall.broker.gate import Gate
from holdall.process.keyring import Keyring
from holdall.roles import Role
from holdall.service.ports import made
from tests.processes import free_port, keyed, until


@contextlib.contextmanager
def open_gate(data: Path, url: str) -> Iterator[Gate]:
    """A gate that is read, and answers handshakes, when the test does that."""
    poller: Any = SimpleNamespace(add=lambda *_: None, look_again=lambda _: None, is_entered=True)
    with contextlib.closing(Gate([url], Keyring(data / "keys"), poller, None)) as gate:
        yield gate


def outcome(gate: Gate, monitor: Any) -> int:
    """What becomes of the next handshake that this monitor tells of."""

    def has_ended() -> bool:
        gate.admit()
        return bool(monitor.poll(0))

    until(has_ended)
    return int(parse_monitor_message(monitor.recv_multipart())["event"])


@pytest.mark.slow
def test_nobody_comes_in_while_too_much_is_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, shaken = f"tcp://127.0.0.1:{free_port()}", zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
    keys = tmp_path / "some.connection"
    made(Keyring(tmp_path / "keys"), Role.CLIENT, "some", "0" * 32, url).write(keys)
    with open_gate(tmp_path, url) as gate, zmq.Context() as context, context.socket(zmq.DEALER) as first:
        keyed(first, keys).linger = 0
        with first.get_monitor_socket(shaken) as monitor:
            first.connect(url)
            assert outcome(gate, monitor) == zmq.EVENT_HANDSHAKE_SUCCEEDED
        for number in range(3):
            first.send(b"%d" % number)
        read: list[bytes] = []

        def are_read(count: int) -> bool:
            read.extend(bytes(frames[1]) for frames in islice(gate.take(), count - len(read)))
            return len(read) == count

        until(lambda: are_read(1))
        monkeypatch.setattr(unread, "resident_bytes", lambda: 1 << 60)
        with context.socket(zmq.DEALER) as second:
            keyed(second, keys).linger = 0
            with second.get_monitor_socket(shaken) as monitor:
                second.connect(url)
                assert outcome(gate, monitor) == zmq.EVENT_DISCONNECTED
                until(lambda: are_read(3))
                assert not list(gate.take())
                until(lambda: outcome(gate, monitor) == zmq.EVENT_HANDSHAKE_SUCCEEDED)


def test_who_knocks_without_end_hides_no_other_complaint(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "holdall.broker")
    url, keys = f"tcp://127.0.0.1:{free_port()}", tmp_path / "removed.connection"
    ring = Keyring(tmp_path / "keys")
    made(ring, Role.CLIENT, "removed", "0" * 32, url).write(keys)
    ring.remove("removed")

    def has_complained(of: str) -> bool:
        gate.check(0.0)
        return of in caplog.text

    with open_gate(tmp_path, url) as gate, zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        keyed(dealer, keys).linger = 0
        dealer.connect(url)
        until(lambda: has_complained("a key that is not allowed was refused"))
        (tmp_path / "keys" / "allowed").write_text("client\n")
        until(lambda: has_complained("the keys that may come in stay as they were"))

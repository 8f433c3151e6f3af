"""How the gate tries itself: see `holdall.broker.gate`."""

from __future__ import annotations

from typing import Any

import zmq
from zmq.utils.monitor import parse_monitor_message

from holdall import sockets


class Knock:
    """A client that comes to the gate with this key, and goes."""

    def __init__(self, context: Any, url: str, server_key: str, public: str, secret: str) -> None:
        self.key = public
        self._outcome: bool | None = None
        self._dealer = context.socket(zmq.DEALER)
        self._dealer.linger, self._dealer.ipv6 = 0, sockets.is_literal_6(url)
        self._dealer.curve_serverkey = server_key.encode()
        self._dealer.curve_publickey, self._dealer.curve_secretkey = public.encode(), secret.encode()
        self._monitor = self._dealer.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH)
        self._dealer.connect(url)

    def outcome(self) -> bool | None:
        """Whether it came in; None: that is not known yet."""
        while self._outcome is None and sockets.has_message(self._monitor):
            event = parse_monitor_message(self._monitor.recv_multipart(zmq.DONTWAIT))["event"]
            self._outcome = event == zmq.EVENT_HANDSHAKE_SUCCEEDED
        return self._outcome

    def close(self) -> None:
        self._dealer.disable_monitor()
        self._monitor.close(0)
        self._dealer.close(0)

"""Coverage-guided fuzzing of the deciding parts, for whoever has atheris (`pip install atheris`; nothing else here needs it).

python -m tests.fuzz.guided [-atheris_runs=N] [options of libFuzzer]

The bytes choose, and change, one message to a worker and one to a broker: an answer or a counted drop, and no exception.
"""

from __future__ import annotations

import sys
from typing import Any

from tests.memory_files import MemoryFiles
from tests.nowhere import NOWHERE

try:
    import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]  # pyright: ignore[reportMissingImports]
except ImportError:
    sys.exit("coverage-guided fuzzing needs atheris: pip install atheris")

with atheris.instrument_imports(include=["holdall", "msgspec"]):
    from holdall import protocol
    from holdall.broker.core import Broker
    from holdall.protocol import Request
    from holdall.slots import SLOTS, part_hash
    from holdall.worker.core import Worker
    from holdall.worker.message import Message
    from holdall.worker.state.transaction import format_store
    from tests.memory_store import MemoryStore
from tests.registration import registration

DICT = b"d" * 16
INSTANCE = b"instance"
NOW = 1_000_000.0
MESSAGES_PER_WORKER = 1_000
"""Then a new one begins: what it remembers must not slow the fuzzer down."""


class Target:
    """A broker, and a worker that is made anew now and then."""

    def __init__(self) -> None:
        self._broker = Broker(INSTANCE)
        self._worker = self._begin()
        self._messages = 0

    def _begin(self) -> Worker:
        store = MemoryStore()
        format_store(store)
        worker = Worker(store, 0, 1, sync=True, files=MemoryFiles())
        body = registration(DICT)
        register = Request(protocol.REGISTER, 0, part_hash(0, SLOTS), b"s" * 16, 1, 1, DICT, b"", body)
        worker.tick([Message(NOWHERE, b"\0route", bytes(protocol.pack_request(register)[0]))], NOW)
        return worker

    def try_bytes(self, data: bytes) -> None:
        """One input: how the head begins, and all that follows it."""
        self._messages += 1
        if self._messages % MESSAGES_PER_WORKER == 0:
            self._worker, self._broker = self._begin(), Broker(INSTANCE)
        opcode, flags, rest = data[:1], data[1:2], data[2:]
        head = bytes([protocol.VERSION]) + opcode + flags + b"\0" + part_hash(0, SLOTS).to_bytes(4, "little") + b"s" * 16
        known = (head + (2).to_bytes(8, "little") + bytes(8) + DICT + bytes(4) + rest) if len(data) > 2 else data
        for frame in (data, known):
            answers = self._worker.tick([Message(NOWHERE, b"\0route", frame)], NOW)
            for answer in answers:
                protocol.parse_reply(*answer.frames)  # type: ignore[arg-type]
            self._broker.from_client([b"client", frame], NOW)
            for address in (b"", b"client" + INSTANCE, data[:32]):
                self._broker.from_worker([b"stranger", address, frame], NOW)


def main() -> None:
    """Fuzz until told to stop."""
    target: Any = Target().try_bytes
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

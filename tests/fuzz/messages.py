"""Hostile messages: valid ones of every opcode, with their fields changed, their ends cut, their frames miscounted; and noise.

What a server must remember (sessions, Dicts, keys, names) comes from small sets, so that a server that grows without end has
no excuse. The Dicts and names here are nobody else's: what a stranger may do to his own entries, he may do.

A session is spoilt by a high lowest number: all its later writes are forgotten. So those numbers go to sessions of their own,
and the others go on from where the last pool of messages ended.

Where workers register, a stranger who knows the layout's id can pose as a worker; nothing but keys (CURVE) would prevent it,
and docs/reliability.md says so. So a HELLO from here never has the id of a layout that exists, and must always be refused.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random

from msgspec.structs import replace

from holdall import protocol
from holdall.bodies import CatalogEntry, CatalogPageRequest, Hello, PageRequest, Registration, RosterWorker, encode
from holdall.protocol import Reply, Request
from holdall.slots import SLOTS, part_hash, slot_range

FALSE_LAYOUTS = [b"", b"no such layout!!", bytes(16), b"\xff" * 16]
DICT_IDS = [b"fuzz dict %06d" % number for number in range(16)]
NAMES = [f"fuzz-{number}" for number in range(50)]
KEYS = [b"s%d" % number for number in range(100)]
SESSIONS = [b"fuzz session %03d" % number for number in range(400)]
SPOILT_SESSIONS = [b"spoilt session %d" % number for number in range(10)]
SEQUENCES_PER_POOL = 1_000
_ROUTES = [b"nobody", b"", bytes(5), *(b"\0" + struct.pack(">I", number) for number in range(20))]
ADDRESSES = [*_ROUTES, *(route + instance for route in _ROUTES for instance in (bytes(8), b"instance", b"\xff" * 8))]
"""Of clients, as a worker names them. None is of an instance that exists."""
FRAMES_MAX = 5_000
OPCODES = (
    *range(1, 10),
    *range(16, 24),
    *range(32, 39),
    protocol.BATCH,
    protocol.ROSTER,
    protocol.PROBE,
    *range(56, 60),
    protocol.HELLO,
)

Frames = list[bytes]

_INTERESTING = (0, 1, 2, 127, 128, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)
_FIELDS = {"version": (0, 1), "opcode": (1, 1), "flags": (2, 2), "hash": (4, 4), "key length": (56, 4), "lowest": (32, 8)}
_SESSION, _LOWEST = slice(8, 24), slice(32, 40)
_LARGE_BYTES = (protocol.PAYLOAD_INLINE_BYTES_MAX - 1, protocol.PAYLOAD_INLINE_BYTES_MAX + 1, 200_000)


class Messages:
    """A pool of hostile messages that a seed and the pool's number determine."""

    def __init__(self, seed: int, pool: int = 0) -> None:
        self._random = Random(f"{seed} {pool}")
        self._sequence = 1 + pool * SEQUENCES_PER_POOL
        self._mutations: list[Callable[[Frames], Frames]] = [
            self._change_a_field,
            self._change_a_field,
            self._change_bytes,
            self._cut,
            self._extend,
            self._miscount,
        ]

    def to_a_client_socket(self) -> Frames:
        """A message to a broker's or worker's socket for clients."""
        chance = self._random.random()
        if chance < 0.02:
            return self._noise()
        if chance < 0.02002:
            return [b"x"] * FRAMES_MAX
        frames = [bytes(frame) for frame in protocol.pack_request(self._request())]
        return frames if chance < 0.3 else self._random.choice(self._mutations)(frames)

    def to_the_workers_socket(self) -> Frames:
        """A message to the socket where workers register: a HELLO of no real worker, an answer to whoever."""
        chance = self._random.random()
        if chance < 0.02:
            return self._noise()
        if chance < 0.02002:
            return [b""] * FRAMES_MAX
        if chance < 0.5:
            frames = [b"", *map(bytes, protocol.pack_request(self._hello()))]
        else:
            frames = [self._random.choice(ADDRESSES), *map(bytes, protocol.pack_reply(self._reply()))]
        if chance < 0.1 or 0.5 <= chance < 0.6:
            return frames
        return frames[:1] + self._random.choice(self._mutations)(frames[1:])

    def body(self, kind: int) -> bytes:
        """What a request of this opcode has for a value; often broken."""
        if self._random.random() < 0.2:
            return self._broken_body()
        random = self._random
        entries = [random.choice(KEYS) for _ in range(random.randrange(20))]
        bodies: dict[int, Callable[[], object]] = {
            protocol.PUT_MANY: lambda: [list(entries), [b"v" * random.randrange(50) for _ in entries]],
            protocol.GET_MANY: lambda: entries,
            protocol.POP_MANY: lambda: entries,
            protocol.PAGE: lambda: PageRequest(random.choice([b"", *KEYS]), random.choice([-1, 0, 1, 100, 2**40])),
            protocol.REGISTER: lambda: Registration(
                None, random.choice([None, 0.5, -1.0]), "main", "fuzz", 0, random.choice([b"", bytes(16)])
            ),
            protocol.LIST: lambda: CatalogPageRequest(
                "main", random.choice([b"", b"main/fuzz-2"]), random.choice([0, 5, 2**40])
            ),
            protocol.CREATE: lambda: self._catalog_entry(random.choice(NAMES)),
            protocol.BATCH: lambda: [self._single() for _ in range(random.choice([0, 1, 3, 20]))],
        }
        if kind in bodies:
            return encode(bodies[kind]())
        if random.random() < 0.001:
            return bytes(random.choice(_LARGE_BYTES))
        return random.randbytes(random.randrange(100))

    def _request(self) -> Request:
        random = self._random
        opcode = random.choice(OPCODES)
        key = f"main/{random.choice(NAMES)}".encode() if 32 <= opcode <= 35 else random.choice(KEYS)
        return Request(
            opcode,
            random.choice([0, 0, protocol.RETRY, protocol.SKIP_IF_EXISTS, protocol.KEY_OBJECT, protocol.WITH_VALUES, 0xFFFB]),
            self._hash(opcode),
            random.choice(SESSIONS),
            self._sequence + random.randrange(SEQUENCES_PER_POOL),
            self._sequence,
            random.choice(DICT_IDS),
            key,
            self.body(opcode),
        )

    def _hash(self, opcode: int) -> int:
        """Mostly one that leads to a worker of two, or to the only one."""
        workers = self._random.choice([1, 2, 2])
        if opcode in protocol.PARTS and self._random.random() < 0.9:
            return part_hash(*slot_range(self._random.randrange(workers), workers))
        return self._random.getrandbits(32)

    def _single(self) -> bytes:
        """One request of a BATCH, which has no second frame."""
        request = replace(self._request(), opcode=self._random.choice(OPCODES[:9]), value=b"v")
        return bytes(protocol.pack_request(request)[0])

    def _hello(self) -> Request:
        random = self._random
        workers = random.choice([1, 2, 3, 4, SLOTS, SLOTS + 1, 0, -1])
        index = random.randrange(-1, 4)
        first, end = slot_range(index, max(workers, 1)) if random.random() < 0.7 else (random.randrange(-5, 2000), SLOTS)
        worker = RosterWorker(index, first, end, ["ipc:///nowhere"] * random.randrange(3))
        hello = Hello(random.choice(FALSE_LAYOUTS), random.randbytes(16), workers, worker, random.getrandbits(40))
        value = encode(hello) if random.random() < 0.8 else self._broken_body()
        return Request(protocol.HELLO, 0, 0, protocol.NO_SESSION, 0, 0, protocol.NO_DICT, b"", value)

    def _reply(self) -> Reply:
        random = self._random
        return Reply(
            random.randrange(50), random.randrange(1000), random.getrandbits(64), random.randbytes(random.randrange(50))
        )

    def _catalog_entry(self, name: str) -> CatalogEntry:
        return CatalogEntry("main", name, self._random.choice(DICT_IDS), -1.0, "fuzz")

    def _noise(self) -> Frames:
        count = self._random.choice([1, 1, 1, 2, 3, 5])
        return [self._random.randbytes(self._random.choice([0, 1, 19, 20, 59, 60, 61, 300])) for _ in range(count)]

    def _broken_body(self) -> bytes:
        random = self._random
        bodies = [
            b"",
            b"\xc1",
            b"\xdd\xff\xff\xff\xff",  # an array of 4 Gi entries
            b"\x91\xc6\x80\x00\x00\x00",  # bytes of 2 GiB
            b"\xdf\xff\xff\xff\xff",  # a map
            b"\x91" * random.choice([10, 1_000, 60_000]),
            b"\xcb" + struct.pack(">d", float("nan")),
            b"\x92\xa2\xff\xfe\x01",  # text that is no UTF-8
            random.randbytes(random.randrange(60)),
        ]
        return random.choice(bodies)

    def _change_a_field(self, frames: Frames) -> Frames:
        """A header field at some limit, or at random."""
        head = bytearray(frames[0])
        field = self._random.choice([*_FIELDS])
        at, size = _FIELDS[field]
        value = self._random.choice(_INTERESTING) if self._random.random() < 0.7 else self._random.getrandbits(64)
        if field == "lowest":
            head[_SESSION] = self._random.choice(SPOILT_SESSIONS)
        head[at : at + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
        return [bytes(head), *frames[1:]]

    def _change_bytes(self, frames: Frames) -> Frames:
        """Bits of anything but the session, of which each new one is remembered for an hour, and what would spoil it."""
        head = bytearray(frames[0])
        for _ in range(self._random.choice([1, 1, 2, 8])):
            at = self._random.randrange(len(head)) if head else 0
            if head and at not in range(*_SESSION.indices(at + 1)) and at not in range(*_LOWEST.indices(at + 1)):
                head[at] ^= 1 << self._random.randrange(8)
        return [bytes(head), *frames[1:]]

    def _cut(self, frames: Frames) -> Frames:
        return [frames[0][: self._random.randrange(len(frames[0]) + 1)], *frames[1:]]

    def _extend(self, frames: Frames) -> Frames:
        return [frames[0] + self._random.randbytes(self._random.choice([1, 4, 100])), *frames[1:]]

    def _miscount(self, frames: Frames) -> Frames:
        count = self._random.choice([0, 1, 2, 3, 5, 9])
        return (frames + [b"more"] * count)[: max(count, 1)] if count else [b""]

"""The messages between clients, broker and workers; docs/protocol.md is the specification in prose.

    request = head [payload]
    head    = version:u8 opcode:u8 flags:u16 hash:u32 session:16 sequence:u64 lowest:u64 dict_id:16 key_length:u32 key [value]
    reply   = reply_head [payload]
    reply_head = version:u8 status:u8 flags:u16 sequence:u64 entry_version:u64 [payload]

All integers are little-endian. A value or payload of at most PAYLOAD_INLINE_BYTES_MAX bytes stands in the head's frame; a
larger one is a frame of its own and the flag PAYLOAD says so. A frame costs a Python call and a `zmq_msg` on each side of
each hop, so a small message is one frame; a large value in a frame of its own is sent and received without a copy.

Everything that arrives is hostile until parsed here: the parsers raise ProtocolError and nothing else.
"""

from __future__ import annotations

from struct import Struct
from typing import Any, Union

import msgspec

from holdall.errors import ProtocolError

Buffer = Union[bytes, bytearray, memoryview]
"""What may be sent or may arrive as a payload."""

VERSION = 4
"""Both sides of a message have the same; it is a part of the names of a service's sockets."""
PAYLOAD_INLINE_BYTES_MAX = 64 * 1024
"""The largest value that travels in the head's frame; above it a frame of its own is cheaper than the copy."""
HEAD_BYTES_MAX = 128 * 1024
"""A head has at most PAYLOAD_INLINE_BYTES_MAX bytes of value, a key, and its fields."""
KEY_BYTES_MAX = 1024
"""The longest encoded key: LevelDB copies keys freely, so `holdall.keys` gives longer ones a digest instead."""
OBJECT_BYTES_MAX = 100 * 1024 * 1024
"""The most bytes an entry may have, key and value as encoded."""
KEY_OBJECT_BYTES_MAX = 1024 * 1024
"""The most bytes a key object may have as encoded: it travels and is stored beside its digest, in one piece."""
UPDATE_BYTES_MAX = 16 * 1024 * 1024
"""An update larger than this goes to a worker in several messages, each of them atomic."""
FRAME_BYTES_MAX = 2 * UPDATE_BYTES_MAX
"""The largest frame a server's socket accepts: an update and its last entry."""
RETRY_SECONDS_MAX = 1800
"""How long after the first time a request may be sent again: well within the hour for which outcomes are remembered."""
UPDATE_ENTRIES_MAX = 10_000
"""The most entries in one update."""
TTL_SECONDS = 7 * 86_400.0
"""How long an entry that nobody reads or writes is kept, unless its Dict was made with another `ttl`."""
TTL_SECONDS_MAX = 100 * 365 * 86_400.0
"""The longest such time: a century. Beyond it, never is meant."""

# Opcodes. Entries:
GET, PUT, POP, CONTAINS = 1, 2, 3, 4
PUT_MANY, GET_MANY, POP_MANY, POP_ANY, SET_DEFAULT = 5, 6, 7, 8, 9
# Blobs, in chunks; or in files that the client itself writes and reads:
WRITE_CHUNK, SEAL, READ_CHUNK, DROP_BLOB = 10, 11, 12, 13
MAKE_FILE, OPEN_FILE = 14, 15
# One worker's part of a Dict:
LENGTH, CLEAR, PAGE, REGISTER, DROP, RENEW, SET_TTL, STATISTICS = range(16, 24)
# The catalog; the key is "environment/name":
CREATE, LOOKUP, MARK_DELETED, REMOVE, LIST, FIND, CHANGE_TTL = range(32, 39)
# Many requests to one worker in one message; and the one request the broker answers itself:
BATCH, ROSTER = 48, 49
# The identity of a worker, asked for by its lane:
PROBE = 50
# A backup of one worker; the key is the id of a snapshot, chosen by the client:
SNAPSHOT, RELEASE, ROWS, DISCARD = 56, 57, 58, 59
# What a worker tells its broker, twice a second:
HELLO = 64
# Reserved: 72 to 79 for waits, 80 to 87 for claims, 88 to 95 for changes, 96 to 111 for queues.

_ENTRY_WRITES = (PUT, POP, PUT_MANY, POP_MANY, POP_ANY, SET_DEFAULT, CLEAR)
WRITES = frozenset((*_ENTRY_WRITES, REGISTER, DROP, SET_TTL, CREATE, MARK_DELETED, REMOVE, CHANGE_TTL))
"""Opcodes whose outcome a worker remembers under (session, sequence)."""
_PARTS_OF_ENTRIES = (PUT_MANY, GET_MANY, POP_MANY, POP_ANY, LENGTH, CLEAR, PAGE, DROP, RENEW, SET_TTL)
PARTS = frozenset((*_PARTS_OF_ENTRIES, STATISTICS, LIST, FIND, SNAPSHOT, RELEASE, ROWS, DISCARD))
"""Opcodes that concern all of one worker's part, or many keys in it: their hash is that of the part (`slots.part_hash`). A
client that still has the roster of another layout would otherwise count entries twice, or store them at the wrong worker.
"""
FILES = frozenset((MAKE_FILE, OPEN_FILE))
"""Opcodes whose reply brings an open file: by a lane, and not in a batch; otherwise it is MISSING."""

# Flags, of requests and (PAYLOAD, BATCHED) of replies.
RETRY, SKIP_IF_EXISTS, KEY_OBJECT, PAYLOAD, WITH_VALUES, BATCHED, WITHOUT_VALUE = 1, 2, 4, 8, 16, 32, 64
FLAGS_MAX = 127
"""All of these. Reserved: 128, IF_VERSION; 256, IF_CLAIMED. An unknown flag is refused: a condition must not be ignored."""

# Statuses of a reply. Answers (3 is reserved for CHANGED):
OK, MISSING, EXISTS = 0, 1, 2
ANSWERS_MAX = 3
"""A status above this is no answer: its request was refused."""
# Refusals upon which the client asks again by itself, but for WRONG_WORKER:
UNKNOWN_DICT, WRONG_WORKER, UNAVAILABLE, UNKNOWN_BLOB = 16, 17, 18, 19
# Errors; the payload is a sentence in UTF-8:
DICT_NOT_FOUND, ALREADY_EXISTS, INVALID, TOO_LARGE, MALFORMED, STORAGE, FORGOTTEN, NO_ROOM, DENIED = range(32, 41)

NO_SESSION = NO_DICT = bytes(16)

REQUEST = Struct("<BBHI16sQQ16sI")
REPLY = Struct("<BBHQQ")
LARGE_ANSWERS = frozenset((READ_CHUNK, PAGE, GET_MANY, POP_MANY, LIST, STATISTICS))
"""Opcodes of small requests with large answers, or much to look at: never in a BATCH, for many would come all at once."""
_U32 = Struct("<I")
_HASH = Struct("<I")
_HASH_OFFSET = 4
_SEQUENCE_OFFSET = 24
_LOWEST = Struct("<Q")
_LOWEST_OFFSET = 32
_FLAGS = Struct("<H")
FLAGS_OFFSET = 2


def is_ephemeral(dict_id: bytes) -> bool:
    """As the first bit of its id says: so nobody has a Dict with a name end by a lease."""
    return dict_id[0] >= 0x80


def dict_id_of(drawn: bytes, *, ephemeral: bool) -> bytes:
    """These 16 random bytes, but for that bit."""
    return bytes([drawn[0] | 0x80 if ephemeral else drawn[0] & 0x7F]) + drawn[1:]


def is_ttl(seconds: float | None) -> bool:
    """Whether a Dict's entries may be kept for so long after their last use; None: for ever."""
    return seconds is None or 0 < seconds <= TTL_SECONDS_MAX


class Request(msgspec.Struct, frozen=True, gc=False):
    """A parsed request."""

    opcode: int
    flags: int
    hash: int
    session: bytes
    sequence: int
    lowest: int
    dict_id: bytes
    key: bytes
    value: Buffer


class Reply(msgspec.Struct, frozen=True, gc=False):
    """A parsed reply. `file` is an open file that comes along with it: by a lane only."""

    status: int
    sequence: int
    version: int
    payload: Buffer
    file: Any = None


def pack_request(request: Request) -> list[Buffer]:
    """The frames of a request: one, or two when the value is large."""
    return pack_fields(*msgspec.structs.astuple(request))


def pack_fields(
    opcode: int, flags: int, hash_: int, session: bytes, sequence: int, lowest: int, dict_id: bytes, key: bytes, value: Buffer
) -> list[Buffer]:
    if len(value) > PAYLOAD_INLINE_BYTES_MAX:
        head = REQUEST.pack(VERSION, opcode, flags | PAYLOAD, hash_, session, sequence, lowest, dict_id, len(key))
        return [head + key, value]
    return [REQUEST.pack(VERSION, opcode, flags, hash_, session, sequence, lowest, dict_id, len(key)) + key + value]


def parse_request(head: bytes, payload: Buffer | None = None) -> Request:
    """The request in these frames. Raises ProtocolError for anything else."""
    if len(head) < REQUEST.size:
        raise ProtocolError(f"a request has at least {REQUEST.size} bytes, this one {len(head)}")
    version, opcode, flags, hash_, session, sequence, lowest, dict_id, key_length = REQUEST.unpack_from(head)
    if version != VERSION:
        raise ProtocolError(f"this service speaks protocol version {VERSION}, the request has version {version}")
    if flags > FLAGS_MAX:
        raise ProtocolError(f"this service knows the flags {FLAGS_MAX:#x}, the request has {flags:#x}")
    end = REQUEST.size + key_length
    if end > len(head):
        raise ProtocolError(f"the request ends at byte {len(head)}, its key at byte {end}")
    if (payload is not None) != bool(flags & PAYLOAD):
        raise ProtocolError("the flag PAYLOAD and the number of frames contradict each other")
    if payload is None:
        payload = head[end:]
    elif end != len(head):
        raise ProtocolError("a request with a payload frame has a value in its head too")
    return Request(opcode, flags, hash_, session, sequence, lowest, dict_id, head[REQUEST.size : end], payload)


def pack_reply(reply: Reply) -> list[Buffer]:
    """The frames of a reply: one, or two when the payload is large."""
    payload = reply.payload
    if len(payload) > PAYLOAD_INLINE_BYTES_MAX:
        return [REPLY.pack(VERSION, reply.status, PAYLOAD, reply.sequence, reply.version), payload]
    return [REPLY.pack(VERSION, reply.status, 0, reply.sequence, reply.version) + payload]


def parse_reply(head: bytes, payload: Buffer | None = None, file: Any = None) -> Reply:
    """The reply in these frames, and the file that came along. Raises ProtocolError for anything else."""
    if len(head) < REPLY.size:
        raise ProtocolError(f"a reply has at least {REPLY.size} bytes, this one {len(head)}")
    version, status, flags, sequence, entry_version = REPLY.unpack_from(head)
    if version != VERSION:
        raise ProtocolError(f"this client speaks protocol version {VERSION}, the reply has version {version}")
    if (payload is not None) != bool(flags & PAYLOAD):
        raise ProtocolError("the flag PAYLOAD and the number of frames contradict each other")
    if payload is None:
        payload = head[REPLY.size :]
    elif len(head) != REPLY.size:
        raise ProtocolError("a reply with a payload frame has a payload in its head too")
    return Reply(status, sequence, entry_version, payload, file)


def pack_batch_reply(replies: bytes) -> list[Buffer]:
    """The frames of the answer to a BATCH: `replies` is the msgpack array of the single replies' heads."""
    flags = BATCHED | (PAYLOAD if len(replies) > PAYLOAD_INLINE_BYTES_MAX else 0)
    head = REPLY.pack(VERSION, OK, flags, 0, 0)
    return [head, replies] if flags & PAYLOAD else [head + replies]


def routing_hash(head: bytes) -> int:
    """The hash of a request: all that a broker reads of one that it relays. Raises ProtocolError if it is too short."""
    if len(head) < REQUEST.size:
        raise ProtocolError(f"a request has at least {REQUEST.size} bytes, this one {len(head)}")
    return int(_HASH.unpack_from(head, _HASH_OFFSET)[0])


def sequence_of(head: bytes) -> int:
    """The sequence number of a request, to answer what cannot be parsed further; 0 if it is too short."""
    return int.from_bytes(head[_SEQUENCE_OFFSET : _SEQUENCE_OFFSET + 8], "little") if len(head) >= REQUEST.size else 0


def mark_retry(frames: list[Buffer], lowest: int) -> list[Buffer]:
    """The same request, marked as sent before, and with the lowest sequence number still pending."""
    head = bytearray(frames[0])
    _LOWEST.pack_into(head, _LOWEST_OFFSET, lowest)
    _FLAGS.pack_into(head, FLAGS_OFFSET, _FLAGS.unpack_from(head, FLAGS_OFFSET)[0] | RETRY)
    return [bytes(head), *frames[1:]]


def join_key_object(key_object: bytes, value: Buffer) -> bytes:
    """The value field of a request with the flag KEY_OBJECT: the key as its caller built it, then the value."""
    return b"".join((_U32.pack(len(key_object)), key_object, value))


def split_key_object(field: Buffer) -> tuple[bytes, Buffer]:
    """Key object and value of such a field. Raises ProtocolError if its length is wrong."""
    if len(field) < 4:
        raise ProtocolError("a value with a key object has at least 4 bytes")
    end = 4 + int(_U32.unpack_from(field)[0])
    if end > len(field):
        raise ProtocolError("the key object is longer than the value field that holds it")
    return bytes(field[4:end]), field[end:]

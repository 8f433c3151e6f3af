"""Who may ask for what: one table, by opcode. An opcode without a row is for nobody.

A role belongs to a key, and the broker says it of each message that it relays (see `broker/core.py`). A process of the user of
the service, on its own machine, needs no key, and is an admin.
"""

from __future__ import annotations

from enum import IntEnum

from holdall import protocol


class Role(IntEnum):
    """What a key allows: to use Dicts; to read them; all that the service's user may."""

    CLIENT = 1
    READER = 2
    ADMIN = 3


OWNER = 0
"""What the broker says of the service's own user: the same as ADMIN, and it needs no key."""

_READERS = frozenset(
    (
        *(protocol.GET, protocol.CONTAINS, protocol.GET_MANY, protocol.LENGTH, protocol.PAGE, protocol.READ_CHUNK),
        *(protocol.LOOKUP, protocol.FIND, protocol.LIST, protocol.PROBE, protocol.ROSTER, protocol.STATISTICS, protocol.BATCH),
    )
)
_ADMINS = frozenset((protocol.SNAPSHOT, protocol.RELEASE, protocol.ROWS, protocol.DISCARD))
_CLIENTS = _READERS | frozenset(
    (
        *(protocol.PUT, protocol.POP, protocol.PUT_MANY, protocol.POP_MANY, protocol.POP_ANY, protocol.SET_DEFAULT),
        *(protocol.WRITE_CHUNK, protocol.SEAL, protocol.DROP_BLOB, protocol.MAKE_FILE, protocol.OPEN_FILE),
        *(protocol.CLEAR, protocol.REGISTER, protocol.DROP, protocol.RENEW, protocol.SET_TTL),
        *(protocol.CREATE, protocol.MARK_DELETED, protocol.REMOVE, protocol.CHANGE_TTL),
    )
)
OPCODES = {Role.CLIENT: _CLIENTS, Role.READER: _READERS, Role.ADMIN: _CLIENTS | _ADMINS, OWNER: _CLIENTS | _ADMINS}
"""By role; HELLO is a worker's, and comes by another socket."""


def may(role: int, opcode: int) -> bool:
    """Whether this role may ask for this."""
    return opcode in OPCODES.get(role, ())

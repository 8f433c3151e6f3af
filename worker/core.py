"""A worker's decisions, with neither socket nor clock: messages and a time in, answers out.

A tick takes what was found waiting, decides each request in order, writes everything in one batch, and only then gives
out the answers: nothing is answered before it is as durable as promised.

A get, a get_many, a `contains` waits neither for that nor for the disk: before a tick, and while its batch is being written,
`read` answers those that tell of nothing unwritten, and were not sent behind something that has to wait. All else, a count or
a page too, is decided by a tick. Times are those of the wall clock, in seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from holdall import protocol
from holdall.bodies import Identity, encode
from holdall.errors import ProtocolError, StorageError
from holdall.protocol import Buffer, Reply, Request
from holdall.roles import OWNER, Role, may
from holdall.slots import first_hash, part_hash, slot_range
from holdall.worker.handlers import catalog, entries, transfers
from holdall.worker.handlers.snapshots import Snapshots
from holdall.worker.handlers.transfers import Later
from holdall.worker.large.files import Files
from holdall.worker.state.refused import Refused
from holdall.worker.state.sweeper import Sweeper
from holdall.worker.state.transaction import Commit, Transaction, Unwritten
from holdall.worker.store.store import Store

from .message import BATCH_OPCODE, Answer, Connection, Message, Source, batched_heads, heads_of

BATCH_REPLY_BYTES_MAX = 1024 * 1024
"""A BATCH is answered in several messages of about this size, so that memory stays bounded."""

Handler = Callable[[Transaction, Request], Reply]
"""Carries a request out. Raises Refused, StorageError, ProtocolError, or Later."""
HANDLERS: dict[int, Handler] = {
    protocol.GET: entries.get,
    protocol.PUT: entries.put,
    protocol.POP: entries.pop,
    protocol.CONTAINS: entries.contains,
    protocol.PUT_MANY: entries.put_many,
    protocol.GET_MANY: entries.get_many,
    protocol.POP_MANY: entries.pop_many,
    protocol.POP_ANY: entries.pop_any,
    protocol.SET_DEFAULT: entries.set_default,
    protocol.WRITE_CHUNK: transfers.write_chunk,
    protocol.SEAL: transfers.seal,
    protocol.READ_CHUNK: transfers.read_chunk,
    protocol.DROP_BLOB: transfers.drop_blob,
    protocol.MAKE_FILE: transfers.make_file,
    protocol.OPEN_FILE: transfers.open_file,
    protocol.LENGTH: entries.length,
    protocol.CLEAR: entries.clear,
    protocol.PAGE: entries.page,
    protocol.REGISTER: entries.register,
    protocol.DROP: entries.drop,
    protocol.RENEW: entries.renew,
    protocol.SET_TTL: entries.set_ttl,
    protocol.CREATE: catalog.create,
    protocol.LOOKUP: catalog.lookup,
    protocol.MARK_DELETED: catalog.mark_deleted,
    protocol.REMOVE: catalog.remove,
    protocol.LIST: catalog.list_page,
    protocol.FIND: catalog.find,
    protocol.CHANGE_TTL: catalog.change_ttl,
}
_READS = frozenset(bytes([opcode]) for opcode in (protocol.GET, protocol.GET_MANY, protocol.CONTAINS))
"""Opcodes that `read` carries out."""
_WRITTEN_MEANWHILE = _READS.union(
    bytes([opcode]) for opcode in (protocol.PUT, protocol.PUT_MANY, protocol.SET_DEFAULT, protocol.POP, protocol.POP_MANY)
)
"""Opcodes that change entries one by one, and nothing else that a read looks at."""
_WRITES = frozenset(bytes([opcode]) for opcode in protocol.WRITES)
_NOT_REMEMBERED = frozenset((protocol.UNAVAILABLE, protocol.MALFORMED))
"""Statuses after which the same numbers may be decided anew. UNKNOWN_DICT is none of them: its client asks again with new
numbers, and a second copy of the old request that is still on its way must not be carried out besides.
"""


_DENIED = b"the key of this client does not allow it"


class Worker:
    """Worker `index` of `workers` in a layout, over a store and files of its own. With `sync` a tick survives a power cut."""

    def __init__(
        self, store: Store, index: int, workers: int, *, sync: bool, files: Files, layout_id: bytes = b"", secret: bytes = b""
    ) -> None:
        self.index, self.workers = index, workers
        self.first_slot, self.end_slot = slot_range(index, workers)
        self._hashes = range(first_hash(self.first_slot), first_hash(self.end_slot))
        self._part_hash = part_hash(self.first_slot, self.end_slot)
        self._identity = encode(Identity(layout_id, index))
        self.handled = 0
        self.malformed = 0
        self._store = store
        self._sync = sync
        self._transaction = Transaction(store, sync=sync, files=files, secret=secret)
        self._decided: list[Answer] = []
        self.sealing: dict[bytes, dict[tuple[Source, bytes, int], None]] = {}
        """Requests that wait for what a thread does for blobs, as connection and sequence, by the ids of the blobs."""
        self._snapshots = Snapshots(store)
        own = {protocol.PROBE: self._probe, protocol.STATISTICS: self._statistics}
        self._handlers: dict[int, Handler] = {**HANDLERS, **self._snapshots.handlers, **own}
        self._sweeper = Sweeper(store, self._transaction)

    def read(
        self, messages: list[Message], wall: float, blocked: set[Connection] | None = None
    ) -> tuple[list[Answer], list[Message]]:
        """Carry out gets and `contains`. Returns their answers, and the messages that are left for a tick: all others, what
        came behind them on the same connection, and reads that must wait for what is being written, or write themselves.

        `blocked` has the connections of the messages that were left before, and gets those of what is left now.
        """
        if blocked is None:
            blocked = set()
        transaction = self._transaction
        transaction.advance(wall)
        transaction.only_reads = True
        answers: list[Answer] = []
        left: list[Message] = []
        for message in messages:
            if not blocked or (message.source, message.address) not in blocked:
                try:
                    if message.head[1:2] in _READS:
                        reply = self._reply(message, message.head, message.payload)
                        if reply is not None:
                            answers.append(Answer(message.source, message.address, protocol.pack_reply(reply)))
                        self.handled += 1
                        continue
                    if message.head[1:2] == BATCH_OPCODE and {head[1:2] for head in heads_of(message)} <= _READS:
                        answers += self._answer_batch(message)
                        continue
                except Unwritten:
                    pass
            left.append(message)
            blocked.add((message.source, message.address))
        transaction.only_reads = False
        return answers, left

    def tick(self, messages: Iterable[Message], wall: float) -> list[Answer]:
        """Carry out these requests. Raises CommitFailed when the store fails: then only `refuse` may be called."""
        commit = self.begin(messages, wall)
        if commit is not None:
            commit()
        return self.end()

    def begin(self, messages: Iterable[Message], wall: float) -> Commit | None:
        """Decide these requests. Returns what is left to do until they are written; `end` is to follow. Raises CommitFailed."""
        self._transaction.advance(wall)
        if self._snapshots.held:
            messages = self._snapshots.admit(messages, self._transaction.elapsed, _writes)
        for message in messages:
            self._decided += self._answer_batch(message) if message.head[1:2] == BATCH_OPCODE else self._answer(message)
        return self._transaction.begin_commit()

    def end(self) -> list[Answer]:
        """What `begin` has decided is written. Returns the answers."""
        self._transaction.end_commit()
        answers, self._decided = self._decided, []
        return answers

    def may_read_meanwhile(self, messages: list[Message]) -> bool:
        """Whether what these messages write can be written while others are read, by `read` alone."""
        if self._snapshots.held:
            return False
        opcodes = {message.head[1:2] for message in messages}
        if BATCH_OPCODE in opcodes:
            opcodes = {head[1:2] for message in messages for head in heads_of(message)}
        return opcodes <= _WRITTEN_MEANWHILE

    def told(self) -> list[Answer]:
        """The answers that waited for a thread, and can be given now."""
        answers: list[Answer] = []
        for blob_id, status, payload in self._transaction.blobs.told(self._transaction.elapsed):
            for source, address, sequence in self.sealing.pop(blob_id, ()):
                answers.append(Answer(source, address, protocol.pack_reply(Reply(status, sequence, 0, payload))))
        return answers

    def collect_orphans(self) -> None:
        """Remove the files of blobs that nothing owns, once after the store was found to be whole."""
        self._transaction.blobs.collect_orphans()

    def refuse(self, messages: Iterable[Message], reason: str) -> list[Answer]:
        """Answer all of these with a storage error: their tick could not be written."""
        answers: list[Answer] = []
        for message in messages:
            for each in heads_of(message):
                reply = Reply(protocol.STORAGE, protocol.sequence_of(each), 0, reason.encode())
                answers.append(Answer(message.source, message.address, protocol.pack_reply(reply)))
        return answers

    def sweep(self, wall: float) -> bool:
        """One small step of what can wait: see `Sweeper`. Returns whether more is to do right now."""
        transaction = self._transaction
        transaction.advance(wall)
        if self._snapshots.held:
            self._snapshots.look(transaction.elapsed)
            if self._snapshots.holds or self.resumes:
                return self.resumes
        more = self._sweeper.step()
        collecting = transaction.blobs.collect(transaction.elapsed, keep=bool(self._snapshots.held))
        transaction.write_behind()
        return more or collecting

    @property
    def rest_seconds(self) -> float:
        """How long not to sweep after a step, while there are requests."""
        return self._sweeper.rest_seconds

    @property
    def version(self) -> int:
        return self._transaction.version

    @property
    def resumes(self) -> bool:
        """Whether a tick is due though no message came: for those that waited for a backup's RELEASE in vain."""
        return self._snapshots.resumes

    def statistics(self) -> dict[str, int]:
        """What this worker has done since it was started, and what it holds."""
        return {
            "handled": self.handled,
            "malformed": self.malformed,
            "dicts": self._transaction.dicts.count,
            "entries": self._transaction.dicts.entries,
            "touches": self._transaction.touches,
            **self._sweeper.counts,
        }

    def refuse_values(self, because: str) -> None:
        """Store nothing until this is called with an empty reason."""
        self._transaction.no_room = because

    def needs_flush(self, *, for_all: bool) -> bool:
        """Whether a flush is needed soon: for files of blobs, which stay until then, or `for_all` that was written."""
        return self._transaction.blobs.needs_flush or (for_all and self._transaction.is_unflushed)

    def close(self) -> None:
        self._snapshots.close()
        self._transaction.blobs.close()
        self._store.close()

    def flush(self) -> None:
        self._transaction.flush()

    def _answer(self, message: Message) -> list[Answer]:
        reply = self._reply(message, message.head, message.payload)
        self.handled += 1
        return [] if reply is None else [Answer(message.source, message.address, protocol.pack_reply(reply), reply.file)]

    def _answer_batch(self, message: Message) -> list[Answer]:
        """The answers to the requests in a BATCH: in messages of bounded size, large payloads in messages of their own."""
        messages: list[list[Buffer]] = []
        together: list[Buffer] = []
        size = 0
        try:
            heads = batched_heads(message)
        except ProtocolError as error:
            heads = []
            self.malformed += 1
            refusal = Reply(protocol.MALFORMED, protocol.sequence_of(message.head), 0, str(error).encode())
            messages.append(protocol.pack_reply(refusal))
        for head in heads:
            reply = self._reply(message, head, None)
            if reply is None:
                continue
            frames = protocol.pack_reply(reply)
            if len(frames) > 1:
                messages.append(frames)
                continue
            together.append(frames[0])
            size += len(frames[0])
            if size > BATCH_REPLY_BYTES_MAX:
                messages.append(protocol.pack_batch_reply(encode(together)))
                together, size = [], 0
        if together:
            messages.append(protocol.pack_batch_reply(encode(together)))
        self.handled += len(heads)
        return [Answer(message.source, message.address, each) for each in messages]

    def _reply(self, asked: Message, head: bytes, payload: Buffer | None) -> Reply | None:
        """The reply to a request of this message; None if `told` gives it out."""
        try:
            request = protocol.parse_request(head, payload)
            if request.hash not in self._hashes or (request.opcode in protocol.PARTS and request.hash != self._part_hash):
                return Reply(protocol.WRONG_WORKER, request.sequence, 0, b"")
            role = asked.address[0] if asked.address else OWNER
            self._transaction.notes_use, self._transaction.names_ids = role != Role.READER, role in (OWNER, Role.ADMIN)
            if role != OWNER and not may(role, request.opcode) and request.opcode in self._handlers:
                return Reply(protocol.DENIED, request.sequence, 0, _DENIED)
            if request.opcode in protocol.WRITES:
                return self._once(request)
            if request.opcode in protocol.FILES and (head is not asked.head or not asked.source.passes_files):
                return Reply(protocol.MISSING, request.sequence, 0, b"")
            return self._handlers.get(request.opcode, _no_handler)(self._transaction, request)
        except Refused as refused:
            return Reply(refused.status, protocol.sequence_of(head), 0, refused.text.encode())
        except StorageError as error:
            return Reply(protocol.STORAGE, protocol.sequence_of(head), 0, str(error).encode())
        except ProtocolError as error:
            self.malformed += 1
            return Reply(protocol.MALFORMED, protocol.sequence_of(head), 0, str(error).encode())
        except Later as later:
            self.sealing.setdefault(later.blob_id, {})[asked.source, asked.address, protocol.sequence_of(head)] = None
            return None

    def _once(self, request: Request) -> Reply:
        """The reply to a write: the first one, however often it comes."""
        sessions = self._transaction.sessions
        reply = sessions.recall(request)
        if reply is None:
            reply = self._carried_out(request)
            if reply.status not in _NOT_REMEMBERED:
                sessions.remember(request.session, request.lowest, reply, int(self._transaction.elapsed))
        return reply

    def _carried_out(self, request: Request) -> Reply:
        """The reply to a request that is carried out now; a refusal is one, which is remembered of a write."""
        try:
            return self._handlers.get(request.opcode, _no_handler)(self._transaction, request)
        except Refused as refused:
            return Reply(refused.status, request.sequence, 0, refused.text.encode())
        except StorageError as error:
            return Reply(protocol.STORAGE, request.sequence, 0, str(error).encode())

    def _probe(self, _transaction: Transaction, request: Request) -> Reply:
        return Reply(protocol.OK, request.sequence, 0, self._identity)

    def _statistics(self, _transaction: Transaction, request: Request) -> Reply:
        return Reply(protocol.OK, request.sequence, 0, encode(self.statistics()))


def _no_handler(_transaction: Transaction, request: Request) -> Reply:
    raise ProtocolError(f"there is no opcode {request.opcode}")


def _writes(message: Message) -> bool:
    return not _WRITES.isdisjoint(head[1:2] for head in heads_of(message))

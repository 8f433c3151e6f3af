"""The life of blobs at a worker, with neither file nor clock.

    WRITE_CHUNK, MAKE_FILE ─ SEAL ─▶ sealed ─┬─ PUT ─▶ owned ─┬─ POP ─▶ handed over ─ DROP_BLOB ─▶ doomed
                                             │                └─ replaced, deleted, cleared, swept ───────▶ doomed
                                             └─ not stored ───────────────────────────────────────────────▶ dropped

1. A blob is a file of its own, which has the blob's id as its name from the first byte on, and is never used
   for another one.
2. What makes a file a blob is its row "B", written in the batch that holds what owns it: at a start every file that no such
   row names is an orphan, and removed. A blob that was popped has a row "H" too: the entry is gone, and its client still has to
   read the file, perhaps from another process of this worker.
3. A sealed blob has its size, and survives a power cut. Its checksum is its client's word, which readers check.
4. A doomed blob lost its row in a batch. Its file goes when that batch survives a power cut, and when nobody was told of the
   blob for a while. An upload that does not go on is dropped.

Dropped idea: to let a popped blob go with the outcome of its pop. Outcomes are trimmed when the client has the answer, and that
is when it begins to read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from itertools import takewhile
from typing import NamedTuple, TypeVar

import msgspec

from holdall import blob, protocol
from holdall.blob import Chunk, Reference
from holdall.errors import ProtocolError, StorageError
from holdall.protocol import Buffer
from holdall.worker.large.files import Files, OpenFile
from holdall.worker.store.rows import BLOB_PREFIX, HANDED_PREFIX, pack_blob, unpack_blob
from holdall.worker.store.store import Store

from .refused import Refused

UPLOAD_IDLE_SECONDS = 60.0
UPLOAD_BYTES_PER_SECOND_MIN = 1024 * 1024
"""How long an upload without a further chunk, or a sealed blob without an entry, is kept; a file longer, at this speed."""
UPLOADS_MAX = 4_096
UPLOAD_BYTES_MAX = 16 * 1024 * 1024 * 1024
"""Uploads under way at one worker. They are files: this bounds the disk, and what a client that dies can leave there."""
SESSION_UPLOADS_MAX = 1_024
SESSION_UPLOAD_BYTES_MAX = UPLOAD_BYTES_MAX // 4
"""Of one session. Beyond a bound a new upload is refused for now."""
ROOM_BYTES = 64 * 1024 * 1024
"""Left on the disk by uploads."""
LENT_SECONDS = 10.0
"""How long a doomed blob's file stays after a client was told of the blob, or read a chunk of it."""
LENT_MAX = 20_000
"""Blobs of which that is known, about 4 MB; the oldest are forgotten."""
HANDED_SECONDS = 3600.0
"""How long a popped blob is kept for its client: as long as the outcome of the pop."""
COLLECT_MAX = 100
"""Files removed in one step."""
UNFLUSHED_MAX = 16
"""Files that wait for a batch to be durable. When there are so many the next one is, whatever the sync mode: so they go a few
at a time, and large values that are written over again and again take little more room than they need.
"""

Found = TypeVar("Found")

log = logging.getLogger("holdall.worker")


class Told(NamedTuple):
    """What a thread has done for the blob of this id: the status and the payload of a reply."""

    id: bytes
    status: int
    payload: bytes = b""


class Upload(msgspec.Struct):
    """A blob that no entry refers to yet. `reference` is what its client sealed it as."""

    session: bytes
    size: int
    touched: float
    idle_seconds: float = UPLOAD_IDLE_SECONDS
    received: int = 0
    reference: Reference | None = None
    is_sealed: bool = False


class Blobs:
    """The blobs of one worker. Times are in seconds for which the store has been in use."""

    def __init__(self, store: Store, files: Files) -> None:
        self._store = store
        self._files = files
        self.syncs = files.syncs
        """Whether what a client writes itself is to survive a power cut before it is sealed."""
        self._uploads: dict[bytes, Upload] = {}
        self._lent: dict[bytes, float] = {}
        self._handed: dict[bytes, float] = {}
        self._given_up: dict[bytes, float] = {}
        """Uploads, of which another copy of a chunk may be on its way."""
        self.changes: dict[bytes, bytes | None] = {}
        """Rows to write, in the batch of this tick."""
        self.waits_for_commit = False
        """Whether `committed` has something to do."""
        self._dropped: list[bytes] = []
        self._unflushed: list[bytes] = []
        self._doomed: dict[bytes, None] = {}
        self._gone: set[bytes] = set()
        """The ids in the three before: blobs without a row, whose files are still there."""

    def load(self, handed: Iterable[bytes], elapsed: float) -> None:
        """Take over the blobs that were handed over: each has its full time again."""
        self._handed = dict.fromkeys(handed, elapsed)

    def collect_orphans(self) -> None:
        """Remove the files that nothing owns. Only at the start, and only if the store is known to be whole."""
        found = takewhile(lambda each: each[0].startswith(BLOB_PREFIX), self._store.scan(BLOB_PREFIX))
        owned = {row[1:] for row, _data in found}
        self._files.remove([each for each in self._files.names() if each not in owned])

    def write(self, session: bytes, chunk: Chunk, data: Buffer, elapsed: float) -> None:
        """A chunk has come, as they follow each other. One that is late, of a blob that is sealed, changes nothing."""
        if len(data) > blob.CHUNK_BYTES or chunk.offset + len(data) > chunk.size:
            raise ProtocolError("a chunk that is too long, or beyond the end of its blob")
        if chunk.id not in self._uploads and self._stored(chunk.id) is not None:
            return
        upload = self._upload(session, chunk, elapsed)
        if upload.reference is not None:
            return
        if chunk.offset > upload.received:
            raise Refused(protocol.UNKNOWN_BLOB, "a chunk before this one came to a worker that has ended, and is gone")
        upload.received = max(upload.received, chunk.offset + len(data))
        try:
            self._files.write(chunk.id, chunk.offset, data)
        except StorageError:
            self.discard(chunk.id)
            raise

    def make_file(self, session: bytes, chunk: Chunk, elapsed: float) -> OpenFile:
        """The file of a new blob, for its client to fill. Raises StorageError if it cannot be made."""
        if self._stored(chunk.id) is not None:
            raise Refused(protocol.UNKNOWN_BLOB, "this blob is stored already")
        upload = self._upload(session, chunk, elapsed)
        if upload.reference is not None:
            raise Refused(protocol.UNKNOWN_BLOB, "this blob is sealed already")
        upload.idle_seconds = UPLOAD_IDLE_SECONDS + upload.size / UPLOAD_BYTES_PER_SECOND_MIN
        try:
            return self._files.make(chunk.id)
        except StorageError:
            self.discard(chunk.id)
            raise

    def seal(self, reference: Reference) -> bool:
        """All of it has come. Returns whether the blob is sealed already; otherwise `told` will tell."""
        upload = self._uploads.get(reference.id)
        if upload is None:
            if self._stored(reference.id) is not None:
                return True
            raise Refused(protocol.UNKNOWN_BLOB, "this upload is not known here")
        if upload.reference is None and upload.size == reference.size:
            upload.reference = reference
            upload.received = upload.size
            self._files.seal(reference.id, reference.size)
        elif upload.reference != reference:
            raise Refused(protocol.UNKNOWN_BLOB, "this upload has another size or checksum")
        return upload.is_sealed

    def told(self, elapsed: float) -> list[Told]:
        """What has been sealed, or could not be, since the last call."""
        found: list[Told] = []
        for blob_id, torn, error in self._files.sealed():
            upload = self._uploads.get(blob_id)
            if upload is None or torn or error:
                self.discard(blob_id)
            else:
                upload.is_sealed = True
                upload.touched = elapsed
            status = protocol.UNKNOWN_BLOB if torn else protocol.STORAGE if error else protocol.OK
            found.append(Told(blob_id, status, error.encode()))
        return found

    def check(self, reference: Reference) -> None:
        """Refuse to let an entry refer to what is not there whole, or is another entry's."""
        upload = self._uploads.get(reference.id)
        if upload is None or not upload.is_sealed or upload.reference != reference:
            raise Refused(protocol.UNKNOWN_BLOB, "the blob that this value should be is not here")

    def claim(self, reference: Reference) -> None:
        """An entry refers to this blob, which was checked, from now on."""
        del self._uploads[reference.id]
        self.changes[BLOB_PREFIX + reference.id] = pack_blob(reference)

    def let_go(self, blob_id: bytes) -> None:
        """What owned this blob is gone, in this batch."""
        self._gone.add(blob_id)
        self._dropped.append(blob_id)
        self.waits_for_commit = True
        self.changes[BLOB_PREFIX + blob_id] = None
        if self._handed.pop(blob_id, None) is not None:
            self.changes[HANDED_PREFIX + blob_id] = None

    def hand_over(self, blob_id: bytes, elapsed: float) -> None:
        """The entry that owned this blob was popped: it is its client's."""
        self._handed[blob_id] = elapsed
        self.changes[HANDED_PREFIX + blob_id] = b""

    def release(self, session: bytes, blob_id: bytes, elapsed: float) -> None:
        """The client that popped this blob has read it, or gives its upload up."""
        upload = self._uploads.get(blob_id)
        if upload is not None and upload.session == session:
            self.discard(blob_id)
            self._given_up[blob_id] = elapsed
            if len(self._given_up) > LENT_MAX:
                del self._given_up[next(iter(self._given_up))]
        if blob_id in self._handed:
            self._lent.pop(blob_id, None)
            self.let_go(blob_id)

    def lend(self, blob_id: bytes, elapsed: float) -> None:
        """A client is told of this blob, or reads it."""
        self._lent.pop(blob_id, None)
        self._lent[blob_id] = elapsed
        if len(self._lent) > LENT_MAX:
            del self._lent[next(iter(self._lent))]

    def read(self, chunk: Chunk, elapsed: float, *, lends: bool = True) -> bytes:
        """A part of a blob. Refused as UNKNOWN_BLOB if it is gone; raises StorageError if it should be there. Unless it `lends`
        what is about to be removed, that stays no longer.
        """
        if chunk.size > blob.CHUNK_BYTES:
            raise ProtocolError(f"a chunk has at most {blob.CHUNK_BYTES:,} bytes")
        data = self._files.read(chunk.id, chunk.offset, chunk.size) if self._is_there(chunk.id) else None
        return self._lent_if_found(chunk.id, data, elapsed, lends=lends or chunk.id not in self._gone)

    def open_file(self, blob_id: bytes, elapsed: float) -> OpenFile:
        """The file of a blob, for a client to read. Refused or raises as `read` does."""
        file = self._files.open(blob_id) if self._is_there(blob_id) else None
        return self._lent_if_found(blob_id, file, elapsed)

    def committed(self, *, durable: bool) -> None:
        """The batch with those rows is written; `durable`: it and all before it survive a power cut."""
        self._unflushed += self._dropped
        self._dropped.clear()
        if durable:
            self._doomed.update(dict.fromkeys(self._unflushed))
            self._unflushed.clear()
        self.waits_for_commit = bool(self._unflushed)

    @property
    def needs_flush(self) -> bool:
        """Whether files wait for a flush before they can be removed."""
        return bool(self._unflushed)

    @property
    def needs_sync(self) -> bool:
        """Whether so many do that the next batch is to be durable."""
        return len(self._unflushed) >= UNFLUSHED_MAX

    def collect(self, elapsed: float, *, keep: bool) -> bool:
        """One small step of dropping and removing what is due. Returns whether more is to do at once.

        With `keep` no doomed file is removed: a backup may be about to read it.
        """
        for blob_id in _due(self._lent, elapsed - LENT_SECONDS):
            del self._lent[blob_id]
        for blob_id in _due(self._given_up, elapsed - UPLOAD_IDLE_SECONDS):
            del self._given_up[blob_id]
        for blob_id in _due(self._handed, elapsed - HANDED_SECONDS):
            self.let_go(blob_id)
        for blob_id, upload in list(self._uploads.items()):
            is_sealing = upload.reference is not None and not upload.is_sealed
            if upload.touched + upload.idle_seconds < elapsed and not is_sealing:
                self.discard(blob_id)
        if keep:
            return False
        free = [each for each in self._doomed if each not in self._lent][:COLLECT_MAX]
        for blob_id in free:
            del self._doomed[blob_id]
            self._gone.discard(blob_id)
        self._files.remove(free)
        return len(free) == COLLECT_MAX

    def close(self) -> None:
        """Give the files up, and those of uploads: who still brings one begins again."""
        self._files.remove(list(self._uploads))
        self._files.close()

    def _upload(self, session: bytes, chunk: Chunk, elapsed: float) -> Upload:
        """The upload that this chunk belongs to, which may begin with it."""
        upload = self._uploads.get(chunk.id)
        if upload is None:
            if chunk.id in self._gone or chunk.id in self._given_up:
                raise Refused(protocol.UNKNOWN_BLOB, "this blob was removed")
            upload = self._uploads[chunk.id] = self._begun(session, chunk, elapsed)
        elif upload.size != chunk.size:
            raise ProtocolError("the chunks of a blob disagree about its size")
        upload.touched = elapsed
        return upload

    def _begun(self, session: bytes, chunk: Chunk, elapsed: float) -> Upload:
        if chunk.size > protocol.OBJECT_BYTES_MAX:
            raise Refused(protocol.TOO_LARGE, f"an entry has at most {protocol.OBJECT_BYTES_MAX:,} bytes")
        if chunk.offset:
            raise Refused(protocol.UNKNOWN_BLOB, "what was uploaded before is not known here")
        mine = [each.size for each in self._uploads.values() if each.session == session]
        size = sum(each.size for each in self._uploads.values()) + chunk.size
        many = len(self._uploads) >= UPLOADS_MAX or len(mine) >= SESSION_UPLOADS_MAX
        if many or size > UPLOAD_BYTES_MAX or sum(mine) + chunk.size > SESSION_UPLOAD_BYTES_MAX:
            raise Refused(protocol.UNAVAILABLE, "too many uploads are under way")
        coming = sum(each.size - each.received for each in self._uploads.values()) + chunk.size
        free = self._files.free_bytes()
        if free < coming + ROOM_BYTES:
            raise Refused(
                protocol.NO_ROOM,
                f"the disk of the service has {free >> 20} MiB left, and {coming >> 20} MiB are being uploaded",
            )
        return Upload(session, chunk.size, elapsed)

    def discard(self, blob_id: bytes) -> None:
        """This upload failed, is over, or is not needed after all."""
        self._uploads.pop(blob_id, None)
        self._files.remove([blob_id])

    def _lent_if_found(self, blob_id: bytes, found: Found | None, elapsed: float, *, lends: bool = True) -> Found:
        if found is None:
            if self._stored(blob_id) is not None:
                raise StorageError(f"the blob file {self._files.path(blob_id)} is missing: restore it from a backup")
            raise Refused(protocol.UNKNOWN_BLOB, "the blob was removed")
        if lends:
            self.lend(blob_id, elapsed)
        return found

    def _stored(self, blob_id: bytes) -> Reference | None:
        """What something owns by this id."""
        row = BLOB_PREFIX + blob_id
        data = self.changes[row] if row in self.changes else self._store.get(row)
        return None if data is None else unpack_blob(row, data)

    def _is_there(self, blob_id: bytes) -> bool:
        return blob_id in self._gone or self._stored(blob_id) is not None


def _due(times: dict[bytes, float], until: float) -> list[bytes]:
    """Those whose time is before `until`, of a table in the order of its times."""
    return list(takewhile(lambda blob_id: times[blob_id] < until, times))

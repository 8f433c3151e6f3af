"""The life of blobs at a worker, with neither file nor clock.

    WRITE_CHUNK ── SEAL ──▶ sealed ──┬── PUT ──▶ owned by an entry ── POP ──▶ handed over ── DROP_BLOB, or an hour ──▶ doomed
    MAKE_FILE, written by its client ┘                 └── replaced, deleted, cleared, swept ─────────────────────▶ doomed

An owned blob has a row "B", written in the batch that holds what owns it, so that at a start every file that no such row names
is an orphan. A doomed one lost its row in a batch; its file is given back, for another blob or to be removed (`folder.py`),
when that batch survives a power cut, and nobody has read it for a while. A popped blob has a row "H" too: the entry is gone,
and its client still has to read the file, perhaps from another process of this worker. An upload that nobody goes on with is
dropped.

A client that writes a file itself is given the blob's id with it, by this life of the worker: a PUT of that id says that this
very file is written, and it is looked whether it is. The id of one that comes in pieces is its client's.

Dropped idea: to let a popped blob go with the outcome of its pop. Outcomes are trimmed when the client has the answer, and that
is when it begins to read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from itertools import islice, takewhile
from os import fsencode, urandom
from typing import NamedTuple, TypeVar

from holdall import blob, protocol
from holdall.blob import Chunk, Reference
from holdall.bodies import FileToFill, encode
from holdall.errors import ProtocolError, StorageError
from holdall.protocol import Buffer
from holdall.worker.directory.space import LOW_BYTES
from holdall.worker.large.files import Files
from holdall.worker.store.rows import BLOB_PREFIX, StoredBlob, blob_row, handed_row, pack_blob, unpack_blob
from holdall.worker.store.store import Store

from .refused import Refused

UPLOAD_IDLE_SECONDS = 60.0
"""How long an upload without a further chunk is kept, and a sealed blob that no entry refers to."""
UPLOADS_MAX = 4_096
UPLOAD_BYTES_MAX = 16 * 1024 * 1024 * 1024
"""Uploads under way at one worker. They are files: this bounds the disk, and what a client that dies can leave there."""
SESSION_UPLOADS_MAX = 1_024
SESSION_UPLOAD_BYTES_MAX = UPLOAD_BYTES_MAX // 4
"""Of one session. Beyond a bound a new upload is refused for now."""
LENT_SECONDS = 10.0
"""How long a doomed blob's file stays after somebody was told of the blob, or read a chunk of it."""
LENT_MAX = 20_000
"""Blobs of which that is known, about 4 MB; the oldest are forgotten."""
HANDED_SECONDS = 3600.0
"""How long a popped blob is kept for its client: as long as the outcome of the pop."""
COLLECT_MAX = 100
"""Files removed in one step."""
TOGETHER = 4
"""Files that are given back, or removed, as soon as there are so many: a thread that removes them is woken once for all. Those
that are left, or lent, go by a later step.
"""
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


class Upload:
    """A blob that no entry refers to yet. `file` is the one that its client writes, None as long as there is none for it;
    `in_pieces` are those that come otherwise, and `reference` is what its client sealed them as.
    """

    __slots__ = ("file", "in_pieces", "is_sealed", "received", "reference", "session", "size", "touched")

    def __init__(self, session: bytes, size: int, touched: float, *, in_pieces: bool) -> None:
        self.session = session
        self.size = size
        self.touched = touched
        self.in_pieces = in_pieces
        self.file: bytes | None = None
        self.received = 0
        self.reference: Reference | None = None
        self.is_sealed = False

    @property
    def is_with_thread(self) -> bool:
        """Whether a thread is to seal it, or to make its file."""
        return self.reference is not None and not self.is_sealed if self.in_pieces else self.file is None


class Blobs:
    """The blobs of one worker. Times are in seconds for which the store has been in use."""

    def __init__(self, store: Store, files: Files) -> None:
        self._store = store
        self._files = files
        self._uploads: dict[bytes, Upload] = {}
        self._lent: dict[bytes, float] = {}
        self._handed: dict[bytes, float] = {}
        self.changes: dict[bytes, bytes | None] = {}
        """Rows to write, in the batch of this tick."""
        self._awaiting: dict[bytes, None] = {}
        """Uploads that wait for a file."""
        self._gone: dict[bytes, StoredBlob] = {}
        """Blobs without a row, whose files are still there: their ids are in one of the following."""
        self._dropped: list[bytes] = []
        self._unflushed: list[bytes] = []
        self._doomed: dict[bytes, None] = {}

    def load(self, handed: Iterable[bytes], elapsed: float) -> None:
        """Take over the blobs that were handed over: each has its full time again."""
        self._handed = dict.fromkeys(handed, elapsed)

    def collect_orphans(self) -> None:
        """Remove the files that nothing owns. Only at the start, and only if the store is known to be whole."""
        found = takewhile(lambda each: each[0].startswith(BLOB_PREFIX), self._store.scan(BLOB_PREFIX))
        try:
            owned = {unpack_blob(row, data).file for row, data in found}
        except StorageError as error:
            log.error("%s; so no file is removed: the one that it owns is not known", error)
            return
        self._files.remove([each for each in self._files.names() if each not in owned])

    def write(self, session: bytes, chunk: Chunk, data: Buffer, elapsed: float) -> None:
        """A chunk has come. One that is late, of a blob that is sealed, changes nothing."""
        if len(data) > blob.CHUNK_BYTES or chunk.offset + len(data) > chunk.size:
            raise ProtocolError("a chunk that is too long, or beyond the end of its blob")
        upload = self._uploads.get(chunk.id)
        if upload is None:
            if self._stored(chunk.id) is not None:
                return
            if chunk.id in self._gone:  # its file is still there
                raise Refused(protocol.UNKNOWN_BLOB, "this blob was removed")
            upload = self._uploads[chunk.id] = self._begun(session, chunk, elapsed, in_pieces=True)
        if upload.reference is not None:
            return
        self._go_on(upload, chunk, chunk.offset + len(data), elapsed, in_pieces=True)
        try:
            self._files.write(chunk.id, chunk.offset, data)
        except StorageError:
            self._drop_upload(chunk.id)
            raise

    def begin_file(self, session: bytes, chunk: Chunk, elapsed: float) -> bytes:
        """A new blob, whose client shall write a file: its id."""
        blob_id = urandom(16)
        self._uploads[blob_id] = self._begun(session, chunk, elapsed, in_pieces=False)
        self._awaiting[blob_id] = None
        return blob_id

    def give_file(self, blob_id: bytes, elapsed: float) -> FileToFill | None:
        """The file for a blob that waits for one; None if others were first, or none is ready, and `told` will tell. Raises
        StorageError if none can be made.
        """
        if blob_id != next(iter(self._awaiting)):
            return None
        upload = self._uploads[blob_id]
        try:
            upload.file = self._files.take()
        except StorageError:
            self._drop_upload(blob_id)
            raise
        if upload.file is None:
            return None
        del self._awaiting[blob_id]
        upload.touched = elapsed
        return FileToFill(blob_id, fsencode(self._files.path(upload.file)), self._files.syncs)

    def fill_file(self, chunk: Chunk, elapsed: float) -> None:
        """A client has filled its file up to this offset."""
        if chunk.offset > chunk.size:
            raise ProtocolError("a file that is filled beyond the end of its blob")
        upload = self._uploads.get(chunk.id)
        if upload is None:
            raise Refused(protocol.UNKNOWN_BLOB, "this upload is not known here")
        self._go_on(upload, chunk, chunk.offset, elapsed, in_pieces=False)

    def seal(self, reference: Reference) -> bool:
        """All chunks have come. Returns whether the blob is there already; otherwise `told` will tell."""
        upload = self._uploads.get(reference.id)
        if upload is None:
            if self._stored(reference.id) is not None:
                return True
            raise Refused(protocol.UNKNOWN_BLOB, "this upload is not known here")
        if upload.reference is None and upload.size == reference.size and upload.in_pieces:
            upload.reference = reference
            upload.received = upload.size
            self._files.seal(reference)
        elif upload.reference != reference:
            raise Refused(protocol.UNKNOWN_BLOB, "this upload has another size or checksum")
        return upload.is_sealed

    def told(self, elapsed: float) -> list[Told]:
        """What has been sealed or made for a client to write, or could not be, since the last call."""
        found: list[Told] = []
        for blob_id, torn, error in self._files.sealed():
            upload = self._uploads.get(blob_id)
            if upload is None or torn or error:
                self._drop_upload(blob_id)
            else:
                upload.is_sealed = True
                upload.touched = elapsed
            status = protocol.UNKNOWN_BLOB if torn else protocol.STORAGE if error else protocol.OK
            found.append(Told(blob_id, status, error.encode()))
        for blob_id in list(self._awaiting):
            try:
                file = self.give_file(blob_id, elapsed)
            except StorageError as error:
                found.append(Told(blob_id, protocol.STORAGE, str(error).encode()))
                continue
            if file is None:
                break
            found.append(Told(blob_id, protocol.OK, encode(file)))
        return found

    def check(self, reference: Reference) -> None:
        """Refuse to let an entry refer to what is not there whole, or is another entry's. A file that is not written although
        its client says so is not waited for.
        """
        upload = self._uploads.get(reference.id)
        if upload is None or not self._is_whole(upload, reference):
            if upload is not None and not upload.in_pieces:
                self._drop_upload(reference.id)
            raise Refused(protocol.UNKNOWN_BLOB, "the blob that this value should be is not here")

    def claim(self, reference: Reference) -> None:
        """An entry refers to this blob, which was checked, from now on."""
        file = self._uploads.pop(reference.id).file
        self.changes[blob_row(reference.id)] = pack_blob(StoredBlob(reference, file or reference.id))

    def discard(self, reference: Reference) -> None:
        """A blob that was checked is not needed after all."""
        self._drop_upload(reference.id)

    def let_go(self, blob_id: bytes) -> None:
        """What owned this blob is gone, in this batch."""
        try:
            stored = self._stored(blob_id)
        except StorageError as error:
            log.error("%s; its file is removed at the next start", error)
            stored = None
        if stored is not None:
            self._gone[blob_id] = stored
            self._dropped.append(blob_id)
        self.changes[blob_row(blob_id)] = None
        if self._handed.pop(blob_id, None) is not None:
            self.changes[handed_row(blob_id)] = None

    def hand_over(self, blob_id: bytes, elapsed: float) -> None:
        """The entry that owned this blob was popped: it is its client's."""
        self._handed[blob_id] = elapsed
        self.changes[handed_row(blob_id)] = b""

    def release(self, session: bytes, blob_id: bytes) -> None:
        """The client that popped this blob has read it, or gives its upload up."""
        upload = self._uploads.get(blob_id)
        if upload is not None and upload.session == session and upload.reference is None:
            self._drop_upload(blob_id)
        if blob_id in self._handed:
            self._lent.pop(blob_id, None)
            self.let_go(blob_id)

    def lend(self, blob_id: bytes, elapsed: float) -> None:
        """Somebody is told of this blob, or reads it."""
        self._lent.pop(blob_id, None)
        self._lent[blob_id] = elapsed
        if len(self._lent) > LENT_MAX:
            del self._lent[next(iter(self._lent))]

    def read(self, chunk: Chunk, elapsed: float) -> bytes:
        """A part of a blob. Refused as UNKNOWN_BLOB if it is gone; raises StorageError if it should be there."""
        if chunk.size > blob.CHUNK_BYTES:
            raise ProtocolError(f"a chunk has at most {blob.CHUNK_BYTES:,} bytes")
        file = self._file_of(chunk.id)
        data = None if file is None else self._files.read(file, chunk.offset, chunk.size)
        return self._lent_if_there(chunk.id, data, elapsed)

    def find_file(self, blob_id: bytes, elapsed: float) -> str:
        """The path of the file of a blob, which stays for a while. Refused or raises as `read` does."""
        file = self._file_of(blob_id)
        path = self._files.path(file) if file is not None and self._files.exists(file) else None
        return self._lent_if_there(blob_id, path, elapsed)

    def committed(self, *, durable: bool) -> None:
        """The batch with those rows is written; `durable`: it and all before it survive a power cut."""
        self._unflushed += self._dropped
        self._dropped.clear()
        if durable and self._unflushed:
            self._doomed.update(dict.fromkeys(self._unflushed))
            self._unflushed.clear()

    @property
    def has_doomed(self) -> bool:
        """Whether so much is doomed that some of it is worth removing."""
        return len(self._doomed) >= TOGETHER

    def remove_doomed(self) -> None:
        """Remove some of what is doomed. Not while a backup may be about to read it."""
        first = list(islice(self._doomed, 2 * TOGETHER))
        self._remove([each for each in first if each not in self._lent])
        for blob_id in first:
            if blob_id in self._doomed:  # others first, the next time
                self._doomed[blob_id] = self._doomed.pop(blob_id)

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
        for blob_id in _due(self._handed, elapsed - HANDED_SECONDS):
            self.let_go(blob_id)
        idle = [key for key, each in self._uploads.items() if each.touched + UPLOAD_IDLE_SECONDS < elapsed]
        for blob_id in idle:
            if not self._uploads[blob_id].is_with_thread:
                self._drop_upload(blob_id)
        if keep:
            return False
        free = [each for each in self._doomed if each not in self._lent][:COLLECT_MAX]
        self._remove(free)
        return len(free) == COLLECT_MAX

    def close(self) -> None:
        """Give the files up."""
        self._files.close()

    def _remove(self, doomed: list[bytes]) -> None:
        for blob_id in doomed:
            del self._doomed[blob_id]
            reference, file = self._gone.pop(blob_id)
            self._files.give_back(file, reference.size)

    def _go_on(self, upload: Upload, chunk: Chunk, received: int, elapsed: float, *, in_pieces: bool) -> None:
        """More of an upload has come."""
        if upload.in_pieces != in_pieces or upload.size != chunk.size:
            raise ProtocolError("the chunks of a blob disagree about its size, or about how it comes")
        upload.received = max(upload.received, received)
        upload.touched = elapsed

    def _lent_if_there(self, blob_id: bytes, found: Found | None, elapsed: float) -> Found:
        if found is None:
            stored = self._stored(blob_id)
            if stored is not None:
                raise StorageError(f"the blob file {self._files.path(stored.file)} is missing: restore it from a backup")
            raise Refused(protocol.UNKNOWN_BLOB, "the blob was removed")
        self.lend(blob_id, elapsed)
        return found

    def _begun(self, session: bytes, chunk: Chunk, elapsed: float, *, in_pieces: bool) -> Upload:
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
        if free < coming + LOW_BYTES:
            raise Refused(
                protocol.NO_ROOM,
                f"the disk of the service has {free >> 20} MiB left, and {coming >> 20} MiB are being uploaded",
            )
        return Upload(session, chunk.size, elapsed, in_pieces=in_pieces)

    def _drop_upload(self, blob_id: bytes) -> None:
        upload = self._uploads.pop(blob_id, None)
        self._awaiting.pop(blob_id, None)
        if upload is None or upload.in_pieces:
            self._files.remove([blob_id])
        elif upload.file is not None:
            self._files.remove([upload.file])

    def _is_whole(self, upload: Upload, reference: Reference) -> bool:
        """Whether all of a blob has come. For the checksum of a file its client vouches."""
        if upload.in_pieces:
            return upload.is_sealed and upload.reference == reference
        return upload.file is not None and upload.size == reference.size and self._files.is_written(upload.file, upload.size)

    def _stored(self, blob_id: bytes) -> StoredBlob | None:
        """What something owns by this id."""
        row = blob_row(blob_id)
        data = self.changes[row] if row in self.changes else self._store.get(row)
        return None if data is None else unpack_blob(row, data)

    def _file_of(self, blob_id: bytes) -> bytes | None:
        """The name of the file of a blob that is there."""
        stored = self._gone.get(blob_id) or self._stored(blob_id)
        return None if stored is None else stored.file


def _due(times: dict[bytes, float], until: float) -> list[bytes]:
    """Those whose time is before `until`, of a table in the order of its times."""
    return list(takewhile(lambda blob_id: times[blob_id] < until, times))

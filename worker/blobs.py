"""The life of blobs at a worker, with neither file nor clock.

    uploaded ── SEAL ──▶ sealed ── PUT ──▶ owned by an entry ── POP ──▶ handed over ── DROP_BLOB, or an hour ──▶ doomed
                                                          └── replaced, deleted, cleared, swept ─────────────▶ doomed

An owned blob has a row "B", written in the batch that holds what owns it, so that at a start every file without such a row
is an orphan. A doomed one lost its row in a batch; its file is removed, or becomes another blob's (`folder.py`), when that
batch survives a power cut, and nobody has read it for a while. A popped blob has a row "H" too: the entry is gone, and its
client still has to read the file, perhaps from another process of this worker. An upload that nobody goes on with is dropped.

Dropped idea: to let a popped blob go with the outcome of its pop. Outcomes are trimmed when the client has the answer, and that
is when it begins to read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice, takewhile
from typing import TypeVar

from holdall import blob, protocol
from holdall.blob import Chunk, Reference
from holdall.bodies import FileToFill
from holdall.errors import ProtocolError, StorageError
from holdall.protocol import Buffer
from holdall.worker import rows
from holdall.worker.files import Files, Sealed
from holdall.worker.refused import Refused
from holdall.worker.space import LOW_BYTES
from holdall.worker.store import Store

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
"""Files that are removed as soon as there are so many: their thread is woken once for them. Those that are left, or lent, a
later step removes.
"""
UNFLUSHED_MAX = 16
"""Files that wait for a batch to be durable. When there are so many the next one is, whatever the sync mode: so they go a few
at a time, and large values that are written over again and again take little more room than they need.
"""

Done = TypeVar("Done")
Found = TypeVar("Found")


class Upload:
    """A blob that no entry refers to yet. `reference` is what its client sealed it as."""

    __slots__ = ("is_sealed", "received", "reference", "session", "size", "touched")

    def __init__(self, session: bytes, size: int) -> None:
        self.session = session
        self.size = size
        self.received = 0
        self.touched = 0.0
        self.reference: Reference | None = None
        self.is_sealed = False


class Blobs:
    """The blobs of one worker. Times are in seconds for which the store has been in use."""

    def __init__(self, store: Store, files: Files) -> None:
        self._store = store
        self._files = files
        self._uploads: dict[bytes, Upload] = {}
        self._lent: dict[bytes, float] = {}
        self._handed: dict[bytes, float] = {}
        self._changes: dict[bytes, bytes | None] = {}
        self._dropped: list[bytes] = []
        self._unflushed: list[bytes] = []
        self._doomed: dict[bytes, None] = {}

    def load(self, handed: Iterable[bytes], elapsed: float) -> None:
        """Take over the blobs that were handed over: each has its full time again."""
        self._handed = dict.fromkeys(handed, elapsed)

    def collect_orphans(self) -> None:
        """Remove the files that nothing owns. Only at the start, and only if the store is known to be whole."""
        self._files.remove([each for each in self._files.names() if not self._is_owned(each)])

    def write(self, session: bytes, chunk: Chunk, data: Buffer, elapsed: float) -> None:
        """A chunk has come. One that is late, of a blob that is sealed, changes nothing."""
        if len(data) > blob.CHUNK_BYTES or chunk.offset + len(data) > chunk.size:
            raise ProtocolError("a chunk that is too long, or beyond the end of its blob")
        upload = self._uploading(session, chunk, elapsed)
        if upload is not None:
            upload.received = max(upload.received, chunk.offset + len(data))
            self._or_drop(chunk.id, lambda: self._files.write(chunk.id, chunk.offset, data))

    def make_file(self, session: bytes, chunk: Chunk, elapsed: float) -> FileToFill:
        """A file that the client of a blob shall write, or has filled up to this offset. Nothing is made for one that is
        sealed.
        """
        if chunk.offset > chunk.size:
            raise ProtocolError("a file that is filled beyond the end of its blob")
        upload = self._uploading(session, chunk, elapsed)
        if upload is None:
            return FileToFill(b"", False)
        upload.received = max(upload.received, chunk.offset)
        return self._or_drop(chunk.id, lambda: self._files.make(chunk.id))

    def seal(self, reference: Reference) -> bool:
        """All chunks have come. Returns whether the blob is there already; otherwise `sealed` will tell."""
        upload = self._uploads.get(reference.id)
        if upload is None:
            if self._is_owned(reference.id):
                return True
            raise Refused(protocol.UNKNOWN_BLOB, "this upload is not known here")
        if upload.reference is None and upload.size == reference.size:
            upload.reference = reference
            upload.received = upload.size
            self._files.seal(reference)
        elif upload.reference != reference:
            raise Refused(protocol.UNKNOWN_BLOB, "this upload has another size or checksum")
        return upload.is_sealed

    def sealed(self, elapsed: float) -> list[Sealed]:
        """What has been sealed, or could not be, since the last call."""
        ended = self._files.sealed()
        for each in ended:
            upload = self._uploads.get(each.id)
            if upload is None or each.torn or each.error:
                self._drop_upload(each.id)
            else:
                upload.is_sealed = True
                upload.touched = elapsed
        return ended

    def check(self, reference: Reference) -> None:
        """Refuse to let an entry refer to what is no sealed blob, or is another entry's."""
        upload = self._uploads.get(reference.id)
        if upload is None or not upload.is_sealed or upload.reference != reference:
            raise Refused(protocol.UNKNOWN_BLOB, "the blob that this value should be is not here")

    def claim(self, reference: Reference) -> None:
        """An entry refers to this blob, which was checked, from now on."""
        del self._uploads[reference.id]
        self._changes[rows.blob_row(reference.id)] = rows.pack_blob(reference)

    def discard(self, reference: Reference) -> None:
        """A blob that was checked is not needed after all."""
        self._drop_upload(reference.id)

    def let_go(self, blob_id: bytes) -> None:
        """What owned this blob is gone, in this batch."""
        self._changes[rows.blob_row(blob_id)] = None
        if self._handed.pop(blob_id, None) is not None:
            self._changes[rows.handed_row(blob_id)] = None
        self._dropped.append(blob_id)

    def hand_over(self, blob_id: bytes, elapsed: float) -> None:
        """The entry that owned this blob was popped: it is its client's."""
        self._handed[blob_id] = elapsed
        self._changes[rows.handed_row(blob_id)] = b""

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
        data = self._files.read(chunk.id, chunk.offset, chunk.size)
        return self._lent_if_there(chunk.id, data, elapsed)

    def find_file(self, blob_id: bytes, elapsed: float) -> str:
        """The path of the file of a blob, which stays for a while. Refused or raises as `read` does."""
        return self._lent_if_there(blob_id, self._files.path(blob_id), elapsed)

    def add_changes(self, changes: dict[bytes, bytes | None]) -> None:
        """Add the rows to write for what happened since the last call."""
        changes.update(self._changes)
        self._changes.clear()

    def committed(self, *, durable: bool) -> None:
        """The batch with those rows is written; `durable`: it and all before it survive a power cut."""
        self._unflushed += self._dropped
        self._dropped.clear()
        if durable and self._unflushed:
            self._doomed.update(dict.fromkeys(self._unflushed))
            self._unflushed.clear()

    def remove_doomed(self) -> None:
        """Remove some of what is doomed. Not while a backup may be about to read it."""
        if len(self._doomed) >= TOGETHER:
            self._remove([each for each in islice(self._doomed, 2 * TOGETHER) if each not in self._lent])

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
            if self._uploads[blob_id].reference is None or self._uploads[blob_id].is_sealed:
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
        self._files.remove(doomed)

    def _uploading(self, session: bytes, chunk: Chunk, elapsed: float) -> Upload | None:
        """The upload that a chunk belongs to, which may begin with it; None if that blob is sealed."""
        if chunk.size > protocol.OBJECT_BYTES_MAX:
            raise Refused(protocol.TOO_LARGE, f"an entry has at most {protocol.OBJECT_BYTES_MAX:,} bytes")
        upload = self._uploads.get(chunk.id)
        if upload is None:
            if self._is_owned(chunk.id):
                return None
            upload = self._uploads[chunk.id] = self._begun(session, chunk)
        if upload.reference is not None:
            return None
        if chunk.size != upload.size:
            raise ProtocolError("the chunks of a blob disagree about its size")
        upload.touched = elapsed
        return upload

    def _or_drop(self, blob_id: bytes, write: Callable[[], Done]) -> Done:
        """What cannot be written ends an upload."""
        try:
            return write()
        except StorageError:
            self._drop_upload(blob_id)
            raise

    def _lent_if_there(self, blob_id: bytes, found: Found | None, elapsed: float) -> Found:
        if found is None:
            if self._is_owned(blob_id):
                raise StorageError(f"the file of blob {blob_id.hex()} is missing: restore it from a backup")
            raise Refused(protocol.UNKNOWN_BLOB, "the blob was removed")
        self.lend(blob_id, elapsed)
        return found

    def _begun(self, session: bytes, chunk: Chunk) -> Upload:
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
        return Upload(session, chunk.size)

    def _drop_upload(self, blob_id: bytes) -> None:
        self._uploads.pop(blob_id, None)
        self._files.remove([blob_id])

    def _is_owned(self, blob_id: bytes) -> bool:
        row = rows.blob_row(blob_id)
        return (self._changes[row] if row in self._changes else self._store.get(row)) is not None


def _due(times: dict[bytes, float], until: float) -> list[bytes]:
    """Those whose time is before `until`, of a table in the order of its times."""
    return list(takewhile(lambda blob_id: times[blob_id] < until, times))

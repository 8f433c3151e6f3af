"""Records that may be told as they are: plain, and fresh for the whole of the present span.

What is asked for was mostly read or written a moment ago. Whether it has expired, or is to be touched, need not be decided
again for each get: a record that is here has no touch and needs none before the span is over, has no key object, refers to no
blob, was found to be whole, and is written as it is here, unless the transaction has a newer one among its `plain` ones. So the
answer to a get is one look away, and the answers to 1,000 are one call of `map`.

All of it is forgotten at the end of a span, and when there is too much: what is asked for again comes back.
"""

from __future__ import annotations

from collections.abc import Mapping

SPAN_MS = 10_000
"""A Dict whose entries need a touch sooner than that (a `ttl` of less than 1,000 s) has nothing here."""
RECORD_BYTES_MAX = 1024
RECORDS_MAX = 16_384
"""Of at most RECORD_BYTES_MAX bytes each, and their rows: 32 MiB at the very most. To forget them takes a millisecond."""


class FreshRecords(dict[bytes, bytes]):
    """By row."""

    def __init__(self) -> None:
        super().__init__()
        self.until_ms = 0
        """The end of the span, by the store's own clock."""

    def begin_span(self, clock_ms: int) -> None:
        """The span before is over when the clock shows this: all of it is forgotten."""
        self.clear()
        self.until_ms = clock_ms + SPAN_MS

    def keep(self, records: Mapping[bytes, bytes]) -> None:
        """Have these as well, in place of what is here of them; of those that are too large, nothing any more."""
        self.update(records)
        if records and max(map(len, records.values())) > RECORD_BYTES_MAX:
            for row in [row for row, data in records.items() if len(data) > RECORD_BYTES_MAX]:
                del self[row]
        if len(self) > RECORDS_MAX:
            self.clear()

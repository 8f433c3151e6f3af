"""A source of messages for tests that take the answers themselves: as the uplink it passes no files."""

from typing import Any


class _Nowhere:
    passes_files = False


NOWHERE: Any = _Nowhere()

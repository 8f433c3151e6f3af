"""A source of messages for tests that take the answers themselves."""

from typing import Any

NOWHERE: Any = "nowhere"

"""The lines a service writes to its standard error: warnings and errors, each saying what happened and what to do.

HOLDALL_LOG=json makes each a JSON object, for machines; HOLDALL_LOG_LEVEL=info tells of everyday events too. The processes of
a service inherit both from the one that starts them.
"""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime

import msgspec

from holdall.errors import InvalidError

FORMATS = ("text", "json")
LEVELS = ("info", "warning", "error")


def begin(process: str) -> None:
    """Log as the environment says, naming this process ("service", "broker", "worker 0"). Raises InvalidError."""
    handler = logging.StreamHandler()
    text = logging.Formatter(f"%(asctime)s {process} %(levelname)s %(message)s")
    handler.setFormatter(_Json(process) if _setting("HOLDALL_LOG", FORMATS, "text") == "json" else text)
    log = logging.getLogger("holdall")
    log.handlers = [handler]
    log.setLevel(_setting("HOLDALL_LOG_LEVEL", LEVELS, "warning").upper())


def _setting(name: str, known: tuple[str, ...], default: str) -> str:
    value = os.environ.get(name) or default
    if value not in known:
        raise InvalidError(f"{name} must be one of {', '.join(known)}, not {value!r}")
    return value


class _Json(logging.Formatter):
    """One object a line."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "pid": os.getpid(),
            "event": record.msg,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(fields, enc_hook=str).decode()

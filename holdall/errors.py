"""Every error a user can meet, and the warnings.

Rules: one root; the branches differ by what the caller can do about it; each takes one finished sentence
(what was asked, of which Dict and key, what happened, what to do), so that it survives pickling; each is raised once,
at the place that knows.
"""

from __future__ import annotations

import builtins
import sys
import warnings


def printable(text: str, kept: str = "") -> str:
    """A text of others as a terminal may have it: what is no printable character, nor `kept`, stands as its escape sequence."""
    return "".join(each if each.isprintable() or each in kept else ascii(each)[1:-1] for each in text)


class Error(Exception):
    """The root of all errors that holdall raises."""


class NotFoundError(Error):
    """There is no such Dict: never created, or deleted since. Not a `KeyError`: that one is about a key in a Dict."""


class AlreadyExistsError(Error):
    """A Dict of that name exists and the call did not allow it."""


class InvalidError(Error):
    """An argument or a setting cannot be used as it is."""


class RequestSizeError(Error):
    """An object or an update is larger than the limits allow. Nothing was stored."""


class SerializationError(Error):
    """A key or a value cannot be pickled, or its Dict's serializer refuses it. Nothing was sent."""


class DeserializationError(Error):
    """A stored key or value cannot be read back in this process, or by this serializer."""


class ConnectionError(Error, builtins.ConnectionError):
    """No service answers at the address."""


class TimeoutError(Error, builtins.TimeoutError):
    """A call was not answered in its time. A read may be repeated; a write may or may not have happened."""


class OutcomeUnknown(TimeoutError):
    """A write was sent, and whether it happened can no longer be found out: read before you write again."""


class AuthError(Error):
    """The service, or a setting, does not allow this connection."""


class StorageError(Error):
    """A data directory cannot be used, or its service cannot read or write it; of a write it says if its outcome is unknown."""


class ProtocolError(Error):
    """A message broke the protocol: the peer speaks another version, or is not holdall at all."""


class LargeValueWarning(UserWarning):
    """A value is larger than a Dict is meant for, though not too large. Given once per process."""


class KeyTypeWarning(UserWarning):
    """Keys of a type are compared by their pickles, and its `==` may say otherwise. Given once per type and process."""


def warn(warning: Warning) -> None:
    """Give a warning at the line that called this package; in an event loop, at asyncio's."""
    frame, depth = sys._getframe(1), 2  # pyright: ignore[reportPrivateUsage]
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == __name__.partition(".")[0]:
        frame, depth = frame.f_back, depth + 1
    warnings.warn(warning, stacklevel=depth)

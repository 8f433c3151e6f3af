"""holdall: a dict that every process of a parallel job can reach.

>>> import holdall
>>> d = holdall.Dict.from_name("kv", create_if_missing=True)
>>> d["key"] = "value"
>>> d["key"]
'value'

Names are loaded at their first use: a broker never loads cloudpickle, a client never LevelDB.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdall.client.client import Client as Client
    from holdall.client.dict import Dict as Dict
    from holdall.client.operations.catalog import DictInfo as DictInfo
    from holdall.client.private import LocalService as LocalService
    from holdall.errors import AlreadyExistsError as AlreadyExistsError
    from holdall.errors import AuthError as AuthError
    from holdall.errors import ConnectionError as ConnectionError
    from holdall.errors import DeserializationError as DeserializationError
    from holdall.errors import Error as Error
    from holdall.errors import InvalidError as InvalidError
    from holdall.errors import LargeValueWarning as LargeValueWarning
    from holdall.errors import NotFoundError as NotFoundError
    from holdall.errors import OutcomeUnknown as OutcomeUnknown
    from holdall.errors import ProtocolError as ProtocolError
    from holdall.errors import RequestSizeError as RequestSizeError
    from holdall.errors import SerializationError as SerializationError
    from holdall.errors import StorageError as StorageError
    from holdall.errors import TimeoutError as TimeoutError

__version__ = "0.2.0"

_ERRORS = (
    "AlreadyExistsError",
    "AuthError",
    "ConnectionError",
    "DeserializationError",
    "Error",
    "InvalidError",
    "LargeValueWarning",
    "NotFoundError",
    "OutcomeUnknown",
    "ProtocolError",
    "RequestSizeError",
    "SerializationError",
    "StorageError",
    "TimeoutError",
)
_HOMES = {
    "Client": "holdall.client.client",
    "Dict": "holdall.client.dict",
    "DictInfo": "holdall.client.operations.catalog",
    "LocalService": "holdall.client.private",
    **dict.fromkeys(_ERRORS, "holdall.errors"),
}
__all__ = [*_HOMES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'holdall' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})

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

from holdall import errors as _errors

if TYPE_CHECKING:
    from holdall.client.client import Client as Client
    from holdall.client.dict import Dict as Dict
    from holdall.client.local_service import LocalService as LocalService
    from holdall.client.operations.catalog import DictInfo as DictInfo
    from holdall.errors import *  # noqa: F403 - all of it is public

__version__ = "0.2.0"

_HOMES = {
    "Client": "holdall.client.client",
    "Dict": "holdall.client.dict",
    "DictInfo": "holdall.client.operations.catalog",
    "LocalService": "holdall.client.local_service",
    **dict.fromkeys(sorted(name for name, kind in vars(_errors).items() if isinstance(kind, type)), "holdall.errors"),
}
__all__ = [*_HOMES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'holdall' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted([*_HOMES, *(name for name in globals() if name.startswith("__"))])

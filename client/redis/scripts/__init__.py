"""The scripts, by name: what they share, and what each does. A section of a file begins with `--- name: what it shares`."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from importlib import resources
from typing import NamedTuple

from holdall import protocol

COLLECTED_MAX = 16
"""Ids of removed blobs in one answer."""
_NUMBERS = {
    **{name: value for name, value in vars(protocol).items() if name.isupper() and isinstance(value, int)},
    "COLLECTED_MAX": COLLECTED_MAX,
    "OUTCOME_MS": 4_200_000,
    "PAGE_BYTES_MAX": 1024 * 1024,
    "TOMBSTONE_MS": 7_200_000,
    "UPLOAD_MS": 60_000,
}
_FILES = ("shared", "entries", "whole", "blobs", "catalog")
_SECTION = re.compile(r"^--- (\w+)(?:: (.*))?$", re.M)
_COMMENT = re.compile(r"^\s*--.*\n|\s+-- .*$|^\s+", re.M)


class Script(NamedTuple):
    """Its source, and the digest by which a server knows it once it has run."""

    source: bytes
    digest: bytes


@lru_cache(1)
def scripts() -> dict[str, Script]:
    texts = [resources.files(__name__).joinpath(f"{file}.lua").read_text(encoding="utf-8") for file in _FILES]
    _, *pieces = _SECTION.split("".join(texts))
    bodies = [re.sub(r"@([A-Z_]+)", lambda name: str(_NUMBERS[name[1]]), _COMMENT.sub("", body)) for body in pieces[2::3]]
    sections = list(zip(pieces[::3], pieces[1::3], bodies, strict=True))
    shared = {name: body for name, needs, body in sections if needs is None}
    sources = {name: "".join(shared[each] for each in needs.split()) + body for name, needs, body in sections if needs}
    digests = {name: hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest() for name, source in sources.items()}
    return {name: Script(source.encode(), digests[name].encode()) for name, source in sources.items()}

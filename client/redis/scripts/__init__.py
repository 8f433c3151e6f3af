"""The scripts, by name: what they share, and what each does. A section of a file begins with `--- name: what it shares`."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from importlib import resources

import msgspec

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
_FILES = ("entries", "whole", "blobs", "catalog")
_SECTION = re.compile(r"^--- (\w+)(?:: (.*))?$", re.M)
_COMMENT = re.compile(r"^\s*--.*\n|\s+-- .*$|^\s+", re.M)


class Script(msgspec.Struct, frozen=True):
    """Its source, and the digest by which a server knows it once it has run."""

    source: bytes
    digest: bytes


@lru_cache(1)
def scripts() -> dict[str, Script]:
    shared = {name: text for name, _needs, text in _sections("shared")}
    found: dict[str, Script] = {}
    for file in _FILES:
        own = _sections(file)
        shared.update((name, text) for name, needs, text in own if not needs)
        for name, needs, text in own:
            if needs:
                source = "".join(shared[each] for each in needs.split()) + text
                found[name] = Script(source.encode(), hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest().encode())
    return found


def _sections(file: str) -> list[tuple[str, str, str]]:
    """Name, what it needs, and text of each section."""
    text = resources.files(__name__).joinpath(f"{file}.lua").read_text(encoding="utf-8")
    pieces = _SECTION.split(text)[1:]
    return [
        (name, needs or "", re.sub(r"@([A-Z_]+)", lambda name: str(_NUMBERS[name[1]]), _COMMENT.sub("", body)))
        for name, needs, body in zip(pieces[::3], pieces[1::3], pieces[2::3], strict=True)
    ]

"""Writes docs/reference.md from the docstrings: `python docs/reference.py`. A test says when it is out of date."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import holdall
from holdall.client.objects import DictObjects
from holdall.client.twin import INTERNAL, Twin
from holdall.client.views import ViewTwin

FILE = Path(__file__).with_name("reference.md")
HEAD = """# Reference

Made from the docstrings by `python docs/reference.py`. `import holdall` gives all of it. What is marked *and `.aio`* has an
awaitable twin with the same arguments, result and errors: `await d.get.aio(key)`.
"""
OPERATORS = """### Operators

`d[key]`, `d[key] = value`, `del d[key]`, `key in d`, `len(d)`, `iter(d)`, `bool(d)`, `d == other`, `d | other`,
`d |= other`: as with `dict`; a missing key is `KeyError(key)`. They block; `async for key in d` awaits. `|` gives a plain dict.
Two handles are equal, and hash alike, when they name the same Dict; a handle equals a plain mapping with the same items.
There are no `fromkeys` and `reversed`.
"""


def text() -> str:
    """The whole page."""
    parts = [HEAD, _class(holdall.Dict, "Dict"), OPERATORS, _class(DictObjects, "Dict.objects")]
    parts += [_class(kind, kind.__name__) for kind in (holdall.DictInfo, holdall.Client, holdall.LocalService)]
    parts.append("## Errors and warnings\n\n" + "\n".join(_errors()))
    return "\n".join(parts)


def _errors() -> Iterator[str]:
    for name in holdall.__all__:
        kind = getattr(holdall, name)
        if isinstance(kind, type) and issubclass(kind, (holdall.Error, Warning)):
            bases = ", ".join(f"`{base.__name__}`" for base in kind.__bases__ if base is not Exception)
            yield f"- **`{name}`**{f' (is a {bases})' if bases else ''}: {' '.join((kind.__doc__ or '').split())}"


def _class(kind: Any, shown_as: str) -> str:
    parts = [f"## {shown_as}\n", _body(kind.__doc__)]
    members = [
        (name, member) for base in reversed(kind.__mro__) for name, member in vars(base).items() if _is_public(base, name)
    ]
    for name, member in dict(members).items():
        part = _member(name, member)
        if part:
            parts.append(part)
    return "\n".join(parts)


def _is_public(base: type, name: str) -> bool:
    return base.__module__.startswith("holdall.") and not name.startswith("_") and name not in INTERNAL


def _member(name: str, member: Any) -> str | None:
    if isinstance(member, Twin):
        wrapped: Any = vars(member)["__wrapped__"]
        return f"### {name}{_signature(wrapped)} *and `.aio`*\n\n{_body(member.__doc__)}"
    if isinstance(member, ViewTwin):
        return f"### {name}() *and `.aio`*\n\n{_body(member.__doc__)}"
    if isinstance(member, (classmethod, staticmethod)):
        return f"### {name}{_signature(member.__func__)}\n\n{_body(member.__func__.__doc__)}"
    if isinstance(member, property):
        return f"### {name}\n\n{_body(member.__doc__)}"
    if inspect.isfunction(member):
        return f"### {name}{_signature(member)}\n\n{_body(member.__doc__)}"
    return None


def _signature(function: Any) -> str:
    signature = inspect.signature(function)
    parameters = [each for each in signature.parameters.values() if each.name not in ("self", "cls")]
    returned = re.sub(r"^Operation\[(.*)\]$", r"\1", str(signature.return_annotation))
    returned = re.sub(r"\b(Self|H)\b", "Dict", returned)
    shown = str(signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty))
    shown = re.sub(r"<object object at 0x[0-9a-f]+>", "…", shown).replace("'", "")
    return f"{shown} → {returned}"


def _body(doc: str | None) -> str:
    """A docstring as Markdown: sections as bold words, examples as blocks."""
    cleaned = inspect.cleandoc(doc or "")
    cleaned = re.sub(r"^(Args|Raises):\n", r"**\1**\n\n", cleaned, flags=re.MULTILINE)
    cleaned = re.sub(r"^    (\w[\w_]*): ", r"- `\1`: ", cleaned, flags=re.MULTILINE)
    cleaned = re.sub(r"^        (?=\S)", "  ", cleaned, flags=re.MULTILINE)
    return (
        re.sub(r"((?:^(?:>>>|\.\.\.) .*\n?(?:^(?!>>>|\n).+\n?)*)+)", r"```pycon\n\1\n```", cleaned, flags=re.MULTILINE) + "\n"
    )


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")

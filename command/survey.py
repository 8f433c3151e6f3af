"""The demo's job, as a user would write it: processes share one Dict, claim files in it, and store what they find.

The Dict holds, for each file, ("claim", file) → the process that claimed it and ("facts", file) → what is in it; and for each
process ("process", number) → how it fared, and ("latencies", number) → how long each of its calls took.
"""

from __future__ import annotations

import ast
import os
import random
import sysconfig
import time
import tokenize
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from holdall import Dict

LEFT_OUT = ("site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__")
"""Folders that are no part of the library itself."""


@dataclass
class Facts:
    """What one source file holds: how many functions and classes, which modules it imports, which names it uses how often."""

    functions: int = 0
    classes: int = 0
    imports: Counter[str] = field(default_factory=Counter[str])
    names: Counter[str] = field(default_factory=Counter[str])


@dataclass
class Fared:
    """How one process fared: how it was started, files it claimed, calls it made, how often it read other facts than it put."""

    started_by: str
    files: int = 0
    calls: int = 0
    misread: int = 0


class Stopwatch:
    """Measures the calls made inside `with` blocks."""

    def __init__(self) -> None:
        self.latencies: dict[str, list[float]] = {}
        """How long each call took, in seconds, by operation."""

    @contextmanager
    def __call__(self, operation: str) -> Generator[None, None, None]:
        started = time.perf_counter()
        yield
        self.latencies.setdefault(operation, []).append(time.perf_counter() - started)


def source_files() -> list[str]:
    """The source files of the running Python's standard library, relative to its folder."""
    home = sysconfig.get_paths()["stdlib"]
    found: list[str] = []
    for folder, folders, files in os.walk(home):
        folders[:] = [name for name in folders if name not in LEFT_OUT]
        found += [os.path.relpath(os.path.join(folder, file), home) for file in files if file.endswith(".py")]
    return sorted(found)


def survey(dict_: Dict[Any, Any], number: int, started_by: str, files: list[str]) -> None:
    """Claim files until none is left; parse each claimed one, put its facts and get them back."""
    stopwatch = Stopwatch()
    fared = Fared(started_by)
    for file in random.Random(number).sample(files, len(files)):
        with stopwatch("claim"):
            claimed = dict_.put(("claim", file), number, skip_if_exists=True)
        if claimed:
            facts = facts_of(file)
            with stopwatch("put"):
                dict_["facts", file] = facts
            with stopwatch("get"):
                read = dict_["facts", file]
            fared.files += 1
            fared.misread += read != facts
    fared.calls = sum(map(len, stopwatch.latencies.values()))
    dict_["latencies", number] = stopwatch.latencies
    dict_["process", number] = fared


def facts_of(file: str) -> Facts:
    facts = Facts()
    with tokenize.open(Path(sysconfig.get_paths()["stdlib"]) / file) as source:
        tree = ast.parse(source.read())
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            facts.functions += 1
        elif isinstance(node, ast.ClassDef):
            facts.classes += 1
        elif isinstance(node, ast.Import):
            facts.imports.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            facts.imports["." * node.level + (node.module or "")] += 1
        elif isinstance(node, ast.Name):
            facts.names[node.id] += 1
    return facts

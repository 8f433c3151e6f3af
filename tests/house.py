"""The house in figures: python -m tests.house, or make house. It exits with 1 when a bound is exceeded.

It reads the product's Python, without bench and tests: how long it is, that imports go down only and in no circle, and that a
name means one thing.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
FOLDERS = ("holdall", "process", "broker", "worker", "service", "client", "command")
FLOORS = {
    "holdall": 0,
    "process": 1,
    "broker": 2,
    "worker": 2,
    "service": 3,
    "client.connection": 4,
    "client.operations": 5,
    "client": 6,
    "command": 7,
}
"""A folder imports from its own floor and lower ones."""
BENCH = {"holdall.bench.cli"}
"""What the command line adds when it is asked for."""
EXAMPLES = (
    ("lines of the stand-in for the hosted dict", 150, "command/hosted.py"),
    ("lines of the checkboxes' server", 200, "examples/checkboxes/*.py"),
    ("lines of their page", 300, "examples/checkboxes/page/*"),
    ("lines of the scraper", 250, "examples/scraper.py"),
)
TIMING = re.compile(r"\d[\d.,]*\s*(?:µs|us|ms|ns)\b")


class Figure(NamedTuple):
    """What was counted, the most there may be, and where it is."""

    name: str
    bound: int
    places: list[str]
    counted: int | None = None

    @property
    def value(self) -> int:
        return len(self.places) if self.counted is None else self.counted


def modules() -> dict[str, tuple[Path, ast.Module]]:
    """Each module of the product by the name by which it is imported, its file, its syntax."""
    found: dict[str, tuple[Path, ast.Module]] = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            place = path.relative_to(ROOT)
            if any((ROOT / parent).is_symlink() for parent in place.parents):
                continue
            parts = place.with_suffix("").parts if folder == "holdall" else ("holdall", *place.with_suffix("").parts)
            found[".".join(parts).removesuffix(".__init__")] = path, ast.parse(path.read_text(encoding="utf-8"))
    return found


def imported(name: str, path: Path, tree: ast.Module, known: set[str]) -> set[str]:
    """The modules of ours that this one imports, anywhere in it, but for those of type checkers."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    skipped = {id(each) for node in ast.walk(tree) if _is_for_types(node) for each in ast.walk(node)}
    wanted: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            wanted |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = (
                ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])
                if node.level
                else node.module
            )
            wanted |= {base or "", *(f"{base}.{each.name}" for each in node.names)}
    return (wanted & known) - {name}


def figures() -> Iterator[Figure]:
    """All that is counted."""
    found = modules()
    arrows = {name: imported(name, *of, set(found)) for name, of in found.items()}
    lines = {name: path.read_text(encoding="utf-8").count("\n") for name, (path, _tree) in found.items()}
    yield Figure("lines", 19_050, [], sum(lines.values()))
    yield Figure("files over 400 lines", 0, [name for name, count in lines.items() if count > 400])
    nodes = [(name, node) for name, (_path, tree) in found.items() for node in ast.walk(tree)]
    functions = [(name, node) for name, node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    long = [f"{name}.{node.name}" for name, node in functions if (node.end_lineno or 0) - node.lineno >= 70]
    yield Figure("functions over 70 lines", 0, long)
    yield Figure("circles of imports", 0, _circle(arrows))
    yield Figure(
        "imports that go up",
        0,
        [f"{name} → {each}" for name, wanted in arrows.items() for each in wanted - BENCH if _floor(each) > _floor(name)],
    )
    yield Figure("timings in prose", 3, [name for name, (_path, tree) in found.items() for _ in _timings(tree)])
    yield Figure("constants with two values", 0, _twice(found, constants=True))
    yield Figure("class names given twice", 0, _twice(found, constants=False))
    for what, bound, files in EXAMPLES:
        yield Figure(what, bound, [], sum(path.read_text(encoding="utf-8").count("\n") for path in ROOT.glob(files)))
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    yield Figure("lines of docs/architecture.md", 130, [], page.count("\n"))


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _floor(name: str) -> int:
    parts = name.split(".")
    return FLOORS.get(".".join(parts[1:3]), FLOORS.get(parts[1], 0) if len(parts) > 1 else 0)


def _circle(arrows: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter({name: wanted - {"holdall"} for name, wanted in arrows.items()}).prepare()
    except CycleError as error:
        return [" → ".join(error.args[1])]
    return []


def _timings(tree: ast.Module) -> list[str]:
    docs = [node.value.value for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)]
    return [found for doc in docs if isinstance(doc, str) for found in TIMING.findall(doc)]


def _twice(found: dict[str, tuple[Path, ast.Module]], *, constants: bool) -> list[str]:
    """Constants that have several values, or names that several classes have; private ones may."""
    given: defaultdict[str, set[str]] = defaultdict(set)
    for name, (_path, tree) in found.items():
        for node in tree.body:
            if (
                constants
                and isinstance(node, ast.Assign)
                and isinstance(node.targets[0], ast.Name)
                and node.targets[0].id.isupper()
            ):
                given[node.targets[0].id].add(ast.dump(node.value))
            elif not constants and isinstance(node, ast.ClassDef):
                given[node.name].add(name)
    several = {name for name, values in given.items() if len(values) > 1 and not name.startswith("_")}
    return sorted(several - ({"Loop"} if not constants else set()))  # the two ends of one thing


def main() -> None:
    table = Table("what", "figure", "at most", "where", title="The house")
    exceeded = False
    for figure in figures():
        is_over = figure.value > figure.bound
        exceeded = exceeded or is_over
        style = "red" if is_over else None
        table.add_row(figure.name, f"{figure.value:,}", f"{figure.bound:,}", "\n".join(figure.places[:9]), style=style)
    Console().print(table)
    sys.exit(int(exceeded))


if __name__ == "__main__":
    main()

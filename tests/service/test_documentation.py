"""The documentation is complete, up to date, and leads somewhere. That its examples run is for doctest to see."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import holdall

HOME = Path(__file__).parent.parent.parent
PAGES = [HOME / "README.md", HOME / "CONTRIBUTING.md", *sorted((HOME / "docs").glob("*.md"))]


def reference() -> Any:
    spec = importlib.util.spec_from_file_location("reference", HOME / "docs" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_what_the_docstrings_say() -> None:
    page = reference()
    assert page.FILE.read_text(encoding="utf-8") == page.text(), "run: python docs/reference.py"


def test_every_public_member_has_an_example() -> None:
    sections = re.split(r"^### ", reference().text(), flags=re.MULTILINE)[1:]
    lacking = {re.split(r"\W", section)[0] for section in sections if ">>>" not in section}
    assert lacking == {"Operators"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))
def test_links_lead_to_files_that_exist(page: Path) -> None:
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\((?!https?:)([^)#]+)", prose)
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_reference_knows_every_public_name() -> None:
    text = reference().text()
    assert [name for name in holdall.__all__ if name not in text] == []
    assert inspect.getdoc(holdall)


def test_each_fault_on_the_page_on_reliability_has_tests_that_exist() -> None:
    page = (HOME / "docs" / "reliability.md").read_text(encoding="utf-8")
    table = page.split("## Fault by fault")[1].split("\n## ")[0]
    faults = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(faults) >= 48
    for fault, tests in faults:
        named = re.findall(r"`([^`]+)`", tests)
        assert named, fault
        for each in named:
            file, _, test = each.partition("::")
            assert test in _tests_in(HOME / "tests" / file), f"{fault}: there is no {each}"


def _tests_in(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {each.name for each in tree.body if isinstance(each, ast.FunctionDef) and each.name.startswith("test_")}


def test_the_workflow_runs_what_decides_whether_a_change_lands() -> None:
    yaml = pytest.importorskip("yaml", reason="comes with distributed")
    workflows = {file.name: yaml.safe_load(file.read_text()) for file in (HOME / ".github" / "workflows").glob("*.yml")}
    jobs = workflows["test.yml"]["jobs"]
    run = {step["run"] for job in jobs.values() for step in job["steps"] if step.get("run", "").startswith("make ")}
    assert run == set(re.findall(r"^make .*$", (HOME / ".ci" / "run").read_text(), flags=re.MULTILINE))
    assert set(jobs["test"]["strategy"]["matrix"]["python"]) == {"3.11", "3.12", "3.13"}
    assert all(
        step.keys() & {"run", "uses"} for each in workflows.values() for job in each["jobs"].values() for step in job["steps"]
    )

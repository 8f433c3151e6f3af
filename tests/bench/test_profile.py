"""The profile: every call's steps lie between its beginning and its end, and are told for a get and a put."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from holdall.bench.profile import STEPS, steps
from holdall.command.cli import cli


@pytest.mark.slow
@pytest.mark.parametrize("operation", ["get", "put"])
def test_the_steps_of_a_call_are_within_it(operation: str) -> None:
    *parts, whole = steps(operation, 50, 100, "off")
    assert len(parts) == len(STEPS) - 1
    assert all(0 <= part <= whole for part in parts)
    assert all(part > 0 for part, (where, _what) in zip(parts, STEPS, strict=False) if where != "system")


@pytest.mark.slow
def test_the_command_prints_all_steps() -> None:
    done = CliRunner().invoke(cli, ["bench", "profile", "--calls", "50", "--sync", "off"], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    for _where, what in STEPS:
        assert what in done.output

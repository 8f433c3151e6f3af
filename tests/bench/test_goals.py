"""When a goal is met."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from holdall.bench.goals import GOALS, Goal, Relation, measure, verdict
from holdall.bench.sides import Side


def side(label: str, *figures: float) -> Side:
    """One whose turns give these figures."""

    @contextmanager
    def measured(seconds: float) -> Iterator[object]:
        given = iter(figures)
        yield lambda: next(given)

    return Side(label, "µs", measured)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("relation", "bound", "met"),
    [("≤", 2.0, True), ("≤", 1.9, False), ("≥", 2.0, True), ("≥", 2.1, False)],
)
def test_a_goal_is_met_at_its_bound(relation: Relation, bound: float, met: bool) -> None:
    goal = Goal("g", relation, bound, side("ours", 20.0, 90.0, 30.0), side("theirs", 10.0, 30.0, 15.0))
    result = measure(goal, rounds=3, seconds=1.0)
    assert (result.figure, result.peer_figure, result.ratio) == (30.0, 15.0, 2.0)
    assert result.met is met


def test_a_goal_without_a_peer_is_about_the_figure_itself() -> None:
    goal = Goal("g", "≤", 500.0, side("ours"))
    result = verdict(goal, [{"ours": 400.0}, {"ours": 600.0}, {"ours": 450.0}])
    assert (result.ratio, result.peer_figure, result.against, result.met) == (450.0, None, "", True)


def test_the_names_of_the_goals_are_all_different_and_so_are_the_sides_of_each() -> None:
    assert len({goal.name for goal in GOALS}) == len(GOALS)
    for goal in GOALS:
        assert len({side.label for side in goal.sides}) == len(goal.sides)

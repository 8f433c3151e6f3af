"""Turns, medians and ratios."""

from __future__ import annotations

from collections.abc import Callable

from holdall.bench.rounds import in_turns, median_figure, median_ratio


def test_everybody_has_a_turn_in_each_round_and_the_order_is_turned_round() -> None:
    order: list[str] = []

    def turn(name: str) -> Callable[[], int]:
        def taken() -> int:
            order.append(name)
            return len(order)

        return taken

    advanced: list[None] = []
    taken = in_turns({name: turn(name) for name in "abc"}, 2, lambda: advanced.append(None))
    assert "".join(order) == "abccba"
    assert taken == [{"a": 1, "b": 2, "c": 3}, {"a": 6, "b": 5, "c": 4}]
    assert len(advanced) == 6


def test_the_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    noisy = [{"ours": 20.0, "theirs": 10.0}, {"ours": 300.0, "theirs": 200.0}, {"ours": 30.0, "theirs": 10.0}]
    assert median_ratio(noisy, "ours", "theirs") == 2.0
    assert median_figure(noisy, "ours") == 30.0
    assert median_figure(noisy, "theirs") == 10.0

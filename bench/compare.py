"""One named workload at all peers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from holdall.bench import latencies
from holdall.bench.fleet import fleet
from holdall.bench.peers.peer import Missing, Peer
from holdall.bench.results import ComparedPeer, Comparison
from holdall.bench.rounds import in_turns, median_figure, median_ratio
from holdall.bench.turn import Length, Turn
from holdall.bench.workload import Workload

AGAINST = "Redis everysec"

Turns = Callable[[], Turn]


def compare(
    workload: Workload, peers: list[Peer], rounds: int, length: Length, advance: Callable[[], None] = lambda: None
) -> Comparison:
    """Start all that can take part, and let them take turns."""
    left_out: dict[str, str] = {}
    with ExitStack() as stack:
        sides: dict[str, Turns] = {}
        for peer in peers:
            side = _started(peer, workload, length, stack, left_out)
            if side is not None:
                sides[peer.name] = side
        turns = in_turns(sides, rounds, advance)
    compared = [_summary(name, turns) for name in sides]
    return Comparison(workload.name, workload.description, rounds, length.rate, compared, left_out)


def _started(peer: Peer, workload: Workload, length: Length, stack: ExitStack, left_out: dict[str, str]) -> Turns | None:
    refusal = peer.refusal(workload)
    if refusal is not None:
        left_out[peer.name] = refusal
        return None
    try:
        instance = stack.enter_context(peer.start())
    except Missing as missing:
        left_out[peer.name] = str(missing)
        return None
    clients = stack.enter_context(fleet(instance, workload))
    return lambda: clients.turn(length)


def _summary(name: str, turns: list[dict[str, Turn]]) -> ComparedPeer:
    own = [turn[name].figures() for turn in turns]
    together = latencies.histogram()
    for turn in turns:
        together.add(turn[name].histogram)
    has_base = AGAINST in turns[0]

    def ratio(figure: str) -> float | None:
        figures = [{each: turn[each].figures()[figure] for each in (name, AGAINST)} for turn in turns] if has_base else []
        return median_ratio(figures, name, AGAINST) if figures else None

    medians = {figure: median_figure(own, figure) for figure in own[0]}
    return ComparedPeer(name, medians, ratio("p50"), ratio("rate"), latencies.curve(together))

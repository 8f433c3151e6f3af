"""All calls of all clients, by the generation of their keys, and the judgement of each generation that is over.

A generation is over when every caller has begun a call on newer keys: each makes one call at a time, so none of the old
keys' calls is under way. Then its keys are read, and its history is judged and shortened: what was read stands for all that led
to it, beside the writes of unknown outcome, which may still happen.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from math import inf
from typing import Any

from tests.simulation.history import LAST_LOOK, LENGTH, PUT_MANY, Call, operations_of, told_of
from tests.simulation.judgement import what_is_wrong
from tests.simulation.linearizability import ABSENT, GET, POP, PUT, READS, UNSEEN
from tests.simulation.simulation import Violation
from tests.soak.client import ClientSettings
from tests.soak.record import REFUSED, Broken, Ended, Started, now
from tests.soak.workload import SHAPES, key_of

DICT = "soak"
CALLS_PER_KEY = 150
"""Of a generation, about: a history of so many calls is judged in some milliseconds."""
SILENT_SECONDS_MAX = 10.0
"""How much later than a call may end its end may be told: by then it hangs for good."""


@dataclass
class Caller:
    """A thread or task of a client."""

    timeout: float
    generation: int
    call: Call | None = None


@dataclass
class Longest:
    """The longest of some spans of time."""

    seconds: float = 0.0
    what: str = ""

    def see(self, seconds: float, what: str) -> None:
        """Another one."""
        if seconds > self.seconds:
            self.seconds, self.what = seconds, what


class Ledger:
    """What happened, and whether it may have."""

    def __init__(self, late_seconds: float) -> None:
        self.generation = 0
        self.answered = 0
        self.refused = 0
        """Calls that certainly did nothing, because there was no room."""
        self.outcomes: Counter[tuple[str, str]] = Counter()
        """How many calls of each kind ended how."""
        self.longest_call = Longest()
        self.longest_pause = Longest()
        self.values: dict[int, dict[Any, Any]] = {}
        """What the keys of each generation that was judged held then."""
        self._late_seconds = late_seconds
        self._origin = now()
        self._callers: dict[tuple[str, int], Caller] = {}
        self._calls: defaultdict[int, list[Call]] = defaultdict(list)
        self._begun = 0
        self._answered_at = 0.0
        self._looked_at = -1

    def seconds(self, at: int | None = None) -> float:
        """A time of the record, or this one, in seconds since the run began."""
        return ((now() if at is None else at) - self._origin) / 1e9

    def join(self, client: ClientSettings) -> None:
        """A client is there."""
        for number in range(client.callers):
            self._callers[client.name, number] = Caller(client.timeout, client.generation)

    def leave(self, client: ClientSettings) -> None:
        """A client is gone: what became of its calls nobody knows."""
        for number in range(client.callers):
            call = self._callers.pop((client.name, number)).call
            if call is not None:
                call.why = "its client was killed"
                self.outcomes[call.kind, call.why] += 1

    def note(self, client: str, line: Started | Ended | Broken) -> None:
        """A client tells something. Raises Violation if no call may end so."""
        caller = self._callers[client, line.caller]
        if isinstance(line, Started):
            self._begin(client, caller, line)
            return
        call, caller.call = caller.call, None
        assert call is not None
        call.ended = self.seconds(line.at)
        took = call.ended - call.invoked
        self.longest_call.see(took, f"{call} of {client}, timeout {caller.timeout:g} s")
        if isinstance(line, Broken):
            raise Violation(f"{call} of {client} ended in an error that is none of an outage: {line.text}")
        if took > caller.timeout + self._late_seconds:
            raise Violation(f"{call} of {client} hung: it took {took:.3f} s and has a timeout of {caller.timeout:g} s")
        if line.why:
            call.why = f"failed: {line.why}"
            self.outcomes[call.kind, line.why] += 1
            if line.why == REFUSED and call.kind != PUT_MANY:  # of several keys, some may be at another worker
                self._calls[caller.generation].remove(call)
                self.refused += 1
        else:
            self._answer(call, line)

    def begin_generation(self) -> bool:
        """Go on to new keys, if these have been used enough."""
        enough = self._begun >= CALLS_PER_KEY * len(SHAPES)
        if enough:
            self.generation += 1
            self._begun = 0
        return enough

    def is_over(self) -> int | None:
        """A generation that is over, each once."""
        oldest = min((caller.generation for caller in self._callers.values()), default=self.generation)
        if self._looked_at + 1 < oldest:
            self._looked_at += 1
            return self._looked_at
        return None

    def judge(self, generation: int, look: list[Call]) -> None:
        """Judge a generation that is over, whose keys were found to be so. Raises Violation."""
        calls = self._calls[generation] + look
        for place, operations in operations_of(calls).items():
            wrong = what_is_wrong(place, operations)
            if wrong:
                raise Violation(f"{wrong}:\n{told_of(calls, place)}")
        self.values[generation] = {call.keys[0]: call.result for call in look}
        self._calls[generation] = [
            *(Call(LAST_LOOK, PUT, DICT, call.keys, (call.result,), call.invoked, call.ended, call.returned, True)
              for call in look if call.result is not ABSENT),
            *(call for call in calls if call.returned == inf and call.kind not in READS),
        ]  # fmt: skip

    def look(self, generation: int, number: int, value: Any, invoked: float) -> Call:
        """A read of a key, when nobody is to use it any more."""
        key, ended = key_of(generation, number), self.seconds()
        return Call(LAST_LOOK, GET, DICT, (key,), (), invoked, ended, ended, value)

    def check_for_hangs(self) -> None:
        """Raise Violation if a call is under way for much longer than it may take."""
        for (client, _number), caller in self._callers.items():
            if caller.call is not None:
                lasts = self.seconds() - caller.call.invoked
                if lasts > caller.timeout + self._late_seconds + SILENT_SECONDS_MAX:
                    raise Violation(f"{caller.call} of {client} hangs: it has been under way for {lasts:.1f} s")

    def is_calling(self, client: str) -> bool:
        """Whether a call of this client is under way."""
        return any(caller.call is not None for (name, _number), caller in list(self._callers.items()) if name == client)

    @property
    def unknown(self) -> int:
        """How many calls ended without anybody knowing what became of them."""
        return self.outcomes.total() - self.answered - self.refused

    def _begin(self, client: str, caller: Caller, line: Started) -> None:
        keys = tuple(key_of(line.generation, number) for number in line.keys)
        caller.generation = line.generation
        caller.call = Call(client, line.kind, DICT, keys, tuple(line.values), self.seconds(line.at))
        self._calls[line.generation].append(caller.call)
        self._begun += max(1, len(keys))

    def _answer(self, call: Call, line: Ended) -> None:
        call.returned = call.ended
        call.result = _result(call, line.result)
        self.answered += 1
        self.outcomes[call.kind, "answered"] += 1
        self.longest_pause.see(call.ended - self._answered_at, f"until {call.ended:.1f} s")
        self._answered_at = max(self._answered_at, call.ended)
        if call.kind == PUT and call.result is not True:
            raise Violation(f"{call} returned {call.result!r}")
        used = len(SHAPES) * (self.generation + 1)
        if call.kind == LENGTH and not 0 <= call.result <= used:
            raise Violation(f"there are {call.result} entries, of {used} keys that were ever used")


def _result(call: Call, told: Any) -> Any:
    if call.kind == PUT_MANY:
        return UNSEEN
    return ABSENT if told is None and call.kind in (GET, POP) else told

"""Two contenders, in turns: the one way in which everything here is measured."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from time import process_time
from typing import Final, Literal

from attrs import frozen

__all__ = ["ALL_GROUPS", "Fact", "Goal", "Result", "Round", "Row", "Scale", "Spread", "compare", "cpu_per"]

Round = Callable[[], float]
"""Does a fixed amount of work and returns what one piece of it cost."""

ALL_GROUPS: Final = ("polls", "peers", "core", "callbacks", "waiting", "stores", "imports")


@frozen(kw_only=True)
class Scale:
    """How much to measure."""

    rounds: int
    """Turns of each contender."""
    pieces: int
    """Polls, or the like, in one turn."""
    waiting: tuple[int, ...]
    """Numbers of authentications that wait at the same time."""
    starts: int
    """Fresh interpreters for each contender of an import."""

    @classmethod
    def full(cls) -> Scale:
        """Return what the README's figures are made with."""
        return cls(rounds=31, pieces=100, waiting=(1_000, 10_000, 100_000), starts=15)

    @classmethod
    def quick(cls) -> Scale:
        """Return a smoke run: whether everything works, not how fast it is."""
        return cls(rounds=5, pieces=20, waiting=(1_000, 5_000), starts=3)


@frozen
class Spread:
    """The middle half of a sample, and its lowest value: what it costs while nothing else runs."""

    lowest: float
    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the quartiles."""
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(min(values), low, median, high)


@frozen
class Goal:
    """What a row is to stay under."""

    limit: float
    of: Literal["ratio", "subject"] = "ratio"


@frozen(kw_only=True)
class Row:
    """One line of the table: a subject and its reference, measured in turns."""

    group: str
    name: str
    reference_name: str
    unit: str
    """Of `subject` and `reference`."""
    subject: Spread
    reference: Spread
    ratio: Spread
    """Of the two costs of one turn, over all turns."""
    goal: Goal | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal was reached; ``None`` without one."""
        if self.goal is None:
            return None
        return (self.ratio if self.goal.of == "ratio" else self.subject).median <= self.goal.limit


@frozen(kw_only=True)
class Fact:
    """A line that is no ratio: something that holds or not, or a row that could not be measured."""

    group: str
    name: str
    text: str
    met: bool | None = None


Result = Row | Fact


def cpu_per(pieces: int, work: Callable[[int], object]) -> Round:
    """Return a round of `pieces` pieces of synchronous work, in microseconds of CPU time for each."""

    def turn() -> float:
        before = process_time()
        work(pieces)
        return (process_time() - before) / pieces * 1e6

    return turn


def _turns(rounds: int) -> Iterator[bool]:
    # The order changes from turn to turn, so that neither always comes after the other.
    for number in range(rounds):
        yield number % 2 == 0
        yield number % 2 == 1


def compare(
    subject: Round,
    reference: Round,
    *,
    rounds: int,
    group: str,
    name: str,
    reference_name: str,
    unit: str = "µs CPU",
    goal: Goal | None = None,
    note: str = "",
    warm_up: bool = True,
) -> Row:
    """Let the two run in turns, after one turn each that does not count, and return the row."""
    if warm_up:
        subject()
        reference()
    costs: dict[bool, list[float]] = {True: [], False: []}
    for is_subject in _turns(rounds):
        costs[is_subject].append((subject if is_subject else reference)())
    return Row(
        group=group,
        name=name,
        reference_name=reference_name,
        unit=unit,
        subject=Spread.of(costs[True]),
        reference=Spread.of(costs[False]),
        ratio=Spread.of([mine / theirs for mine, theirs in zip(costs[True], costs[False], strict=True)]),
        goal=goal,
        note=note,
    )

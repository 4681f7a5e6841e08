"""The benchmarks run, on a scale at which their figures mean nothing."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest
from rich.console import Console

ROOT: Final = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    monkeypatch.chdir(ROOT)  # where the canned provider is started


def test_rows_have_a_positive_ratio_and_reach_the_report(tmp_path: Path) -> None:
    """The rows that need no peer are measured, printed and written with their conditions."""
    from benchmarks import callbacks, core, provider, report, signatures, waiting
    from benchmarks.measure import Result, Row, Scale, compare
    from benchmarks.polls import SUBJECTS

    scale = Scale(rounds=2, pieces=2, waiting=(4,), starts=1)
    results: list[Result] = [
        *core.rows(scale, many=10),
        *signatures.rows(scale),
        *callbacks.rows(scale),
        *waiting.rows(scale),
    ]
    with provider.running() as canned:
        for stack in ("requests", "aiohttp"):  # one for each kind of loop; the adapters have their own tests
            with SUBJECTS[stack](canned.url, 2) as turn:
                results.append(
                    compare(turn, turn, rounds=2, group="polls", name=stack, reference_name="itself")
                )
    rows = [result for result in results if isinstance(result, Row)]
    assert len(rows) == len(results)
    assert all(0 < row.ratio.low <= row.ratio.median <= row.ratio.high for row in rows)

    printed = io.StringIO()
    report.table(results, Console(file=printed, width=300))
    assert all(row.name in printed.getvalue() for row in rows)
    report.write_json(results, {"date": "today"}, tmp_path / "results.json")
    written = json.loads((tmp_path / "results.json").read_bytes())
    assert [row["name"] for row in written["rows"]] == [row.name for row in rows]
    assert written["conditions"] == {"date": "today"}


@pytest.mark.parametrize(
    ("values", "median", "low", "high"),
    [((1.0, 1.0), 1.0, 1.0, 1.0), ((5.0, 1.0, 4.0, 2.0, 3.0), 3.0, 2.0, 4.0)],
)
def test_spread_is_the_middle_half(values: Sequence[float], median: float, low: float, high: float) -> None:
    """A row shows the quartiles, in whatever order the rounds came."""
    from benchmarks.measure import Spread

    spread = Spread.of(values)
    assert (spread.lowest, spread.low, spread.median, spread.high) == (min(values), low, median, high)


def test_a_waiting_transaction_is_polled_once_in_each_interval() -> None:
    """The heap takes each authentication in its turn, so that rows of many measure what they say."""
    from benchmarks.subject import acknowledgement_body
    from benchmarks.waiting import Heap

    heap = Heap()
    heap.start([acknowledgement_body(f"id-{number}") for number in range(5)])
    heap.poll(15)
    assert [transaction.polls for transaction in heap.transactions] == [3] * 5

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.servers

ROOT = Path(__file__).parents[2]


def test_the_rows_of_the_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmark of the stores runs, on a scale at which its figures mean nothing."""
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    monkeypatch.chdir(ROOT)  # where its workers start
    from benchmarks import stores
    from benchmarks.measure import Row, Scale

    rows = list(stores.rows(Scale(rounds=2, pieces=1, waiting=(), starts=1)))
    assert [isinstance(row, Row) and row.ratio.low > 0 for row in rows] == [True, True]

"""Every adapter passes the check that comes with the library for other people's drivers."""

from __future__ import annotations

from typing import Any

import pytest

from ciba_core import AuthenticationRequest, Step, Transaction
from ciba_core.testing import SCENARIOS, VirtualClock, check_driver

from .clients import ADAPTERS, Adapter


@pytest.mark.parametrize("adapter", ADAPTERS, ids=repr)
def test_adapter_is_a_good_driver(adapter: Adapter) -> None:
    """An adapter does all that the core relies on: polls on time, reports faults, follows no redirect, ..."""

    def drive(
        transaction: Transaction, request: AuthenticationRequest | None, clock: VirtualClock
    ) -> Transaction:
        steps: list[Step] = []

        def use(ciba: Any) -> Any:
            return adapter.each(ciba.steps(request or transaction), steps.append)

        adapter.call(use, transaction.provider, transaction.client, clock)
        return steps[-1].transaction

    report = check_driver(drive)
    report.raise_for_findings()
    assert report.scenarios == tuple(SCENARIOS)

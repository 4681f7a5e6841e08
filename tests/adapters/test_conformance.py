"""Every adapter passes the check that comes with the library for other people's drivers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from ciba_adapters.notification import NotificationEndpoint
from ciba_core import AuthenticationRequest, Step, Transaction
from ciba_core.testing import (
    NOTIFIED_SCENARIOS,
    SCENARIOS,
    Handler,
    Reply,
    VirtualClock,
    check_driver,
    check_notified_driver,
)

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


@pytest.mark.parametrize("adapter", ADAPTERS, ids=repr)
def test_adapter_is_a_good_driver_of_ping_and_push(adapter: Adapter) -> None:
    """An adapter routes callbacks before it asks, wakes for them, and answers before it acts on them."""

    def drive(
        transaction: Transaction,
        request: AuthenticationRequest,
        clock: VirtualClock,
        listen: Callable[[Handler], None],
    ) -> Transaction:
        endpoint = NotificationEndpoint(clock=clock)
        steps: list[Step] = []

        def receive(method: str, _target: str, headers: Iterable[tuple[str, str]], body: bytes) -> Reply:
            answer = endpoint.answer_sync(method, headers, body)
            return Reply(answer.status, answer.headers, answer.body)

        def use(http: Any) -> Any:
            ciba = adapter.adapter(
                transaction.provider, transaction.client, http=http, endpoint=endpoint, clock=clock
            )
            return adapter.each(ciba.steps(request), steps.append)

        listen(receive)
        adapter.with_session(use)
        return steps[-1].transaction

    report = check_notified_driver(drive)
    report.raise_for_findings()
    assert report.scenarios == tuple(NOTIFIED_SCENARIOS)

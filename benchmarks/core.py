"""Rows 3: the core alone, against the same work written by hand without a core."""

from __future__ import annotations

import base64
import json
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote_plus, urlencode

from benchmarks.measure import Goal, Result, Row, Scale, compare, cpu_per
from benchmarks.subject import (
    AUTH_REQ_ID,
    CLIENT,
    CLIENT_ID,
    CLIENT_SECRET,
    EXPIRES_IN,
    FORM,
    INTERVAL,
    PENDING_BODY,
    PROVIDER,
    START,
    pending,
    poll_once,
)
from ciba_core import ClientConfig, Transaction

__all__ = ["compare_cpu", "octets_each", "polls", "rows"]


def polls(count: int, client: ClientConfig = CLIENT) -> None:
    """Go through `count` poll cycles of one authentication."""
    transaction = pending(client=client)
    for _ in range(count):
        transaction = poll_once(transaction)


def _poll_by_hand(count: int) -> None:
    """Build the same request and read the same answer, without any of the checks."""
    next_poll_at = START
    for _ in range(count):
        basic = base64.b64encode(f"{quote_plus(CLIENT_ID)}:{quote_plus(CLIENT_SECRET)}".encode())
        headers = {
            "Accept": "application/json",
            "Content-Type": "application/x-www-form-urlencoded",
            "Authorization": f"Basic {basic.decode()}",
        }
        body = urlencode(FORM).encode()
        answer = json.loads(PENDING_BODY)
        if answer["error"] != "authorization_pending" or not headers or not body:
            raise AssertionError
        next_poll_at += INTERVAL


def octets_each(count: int, make: Callable[[int], object]) -> float:
    """Return the octets that each of `count` objects holds beyond what they share, by tracemalloc."""
    make(-1)  # whatever is made once
    tracemalloc.start()
    try:
        kept: list[Any] = [None] * count
        before, _ = tracemalloc.get_traced_memory()
        for number in range(count):
            kept[number] = make(number)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (after - before) / count


def _auth_req_id(number: int) -> str:
    return f"{AUTH_REQ_ID[:-8]}{number:08}"


def _as_dict(number: int) -> dict[str, object]:
    return {
        "auth_req_id": _auth_req_id(number),
        "expires_at": START + EXPIRES_IN + number,
        "interval": INTERVAL,
        "next_poll_at": START + INTERVAL + number,
        "scope": "openid",
    }


def compare_cpu(
    scale: Scale,
    name: str,
    work: Callable[[int], object],
    reference_name: str,
    reference: Callable[[int], object],
    *,
    goal: Goal | None = None,
    note: str = "",
) -> Row:
    """Compare what two pieces of synchronous work cost, as a row of this group."""
    pieces = scale.pieces * 10
    return compare(
        cpu_per(pieces, work),
        cpu_per(pieces, reference),
        rounds=scale.rounds,
        group="core",
        name=name,
        reference_name=reference_name,
        goal=goal,
        note=note,
    )


def rows(scale: Scale, *, many: int = 10_000) -> Iterator[Result]:
    """Measure the poll cycle, snapshot and restore, and the memory of `many` transactions."""
    yield compare_cpu(
        scale,
        "poll cycle",
        polls,
        "by hand: urlencode, base64, json.loads",
        _poll_by_hand,
        goal=Goal(25.0, of="subject"),
    )
    transaction = pending()
    text = transaction.to_json()
    value = json.loads(text)

    def snapshot(count: int) -> None:
        for _ in range(count):
            transaction.to_json()

    def dumps(count: int) -> None:
        for _ in range(count):
            json.dumps(value)

    def restore(count: int) -> None:
        for _ in range(count):
            Transaction.from_json(text, client=CLIENT, provider=PROVIDER)

    def loads(count: int) -> None:
        for _ in range(count):
            json.loads(text)

    yield compare_cpu(scale, "snapshot", snapshot, "json.dumps of its members", dumps)
    yield compare_cpu(scale, "restore", restore, "json.loads of its text", loads)
    yield compare(
        lambda: octets_each(
            many, lambda number: pending(now=START + number, auth_req_id=_auth_req_id(number))
        ),
        lambda: octets_each(many, _as_dict),
        rounds=2,  # it comes out the same each time
        group="core",
        name="memory of a pending transaction",
        reference_name="a dict of the same five values",
        unit="octets",
        goal=Goal(600.0, of="subject"),
    )

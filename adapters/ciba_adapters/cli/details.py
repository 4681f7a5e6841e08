"""Authorization details for a person who has to decide: the amount, the payee, and the rest."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

from attrs import frozen

from ciba_adapters.cli.text import printable

__all__ = ["Detail", "readable"]

_PAYEES: Final = frozenset(
    {
        "creditor",
        "creditorname",
        "merchant",
        "merchantname",
        "payee",
        "payeename",
        "recipient",
        "recipientname",
    }
)
"""The names of the payee in payment schemes, in lower case and without separators."""
_AMOUNTS: Final = frozenset({"amount", "instructedamount", "paymentamount", "transactionamount"})
_MOST: Final = 40
"""Most rows for one of the details: people do not read more."""
_DEEPEST: Final = 6
_MEMBER: Final = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])|[^\W_]+")


@frozen
class Detail:
    """One of the authorization details (RFC 9396 2): its type, and its members, the most important first."""

    title: str
    rows: list[tuple[str, str]]
    """A name and a value each."""


def readable(details: Sequence[Any] | None) -> list[Detail]:
    """Return the details for people.

    A last row tells how many values are left out. Control and format characters, which could make a text look
    like another one, are written as in Python.
    """
    return [
        _detail(cast("Mapping[str, Any]", detail)) for detail in details or () if isinstance(detail, Mapping)
    ]


def _detail(detail: Mapping[str, Any]) -> Detail:
    members, money = _without_money(detail)
    rows: list[tuple[int, tuple[str, ...], str]] = [] if money is None else [(0, ("amount",), money)]
    rows += [row for name, value in members.items() if name != "type" for row in _rows((name,), value)]
    # Stable: within a rank the order is the client's.
    rows.sort(key=lambda row: row[0])
    ranks = [rank for rank, _, _ in rows]
    shown = [
        # A single amount or payee gets a plain name; several keep their own names.
        (_title(path) if rank == 2 or ranks.count(rank) > 1 else _plainly(rank, path), printable(value))
        for rank, path, value in rows[:_MOST]
    ]
    if len(rows) > _MOST:
        shown.append(("And more", f"{len(rows) - _MOST} further values, which do not fit here"))
    return Detail(_words(str(detail.get("type"))), shown)


def _rows(path: tuple[str, ...], value: Any) -> Iterator[tuple[int, tuple[str, ...], str]]:
    """Yield the rank, the position and the text of each value inside of a member."""
    if isinstance(value, Mapping):
        members, money = _without_money(cast("Mapping[str, Any]", value))
        if money is not None:
            yield 0, path, money
        if len(path) < _DEEPEST:
            for name, each in members.items():
                yield from _rows((*path, name), each)
        elif members:
            yield 2, path, json.dumps(members, default=dict, ensure_ascii=False)
        return
    if isinstance(value, (list, tuple)):
        items = cast("Sequence[Any]", value)
        if any(isinstance(item, (Mapping, list, tuple)) for item in items) and len(path) < _DEEPEST:
            for number, item in enumerate(items, 1):
                yield from _rows((*path, str(number)), item)
            return
        text = ", ".join(_text(item) for item in items)
    else:
        text = _text(value)
    yield _rank(path), path, text


def _without_money(members: Mapping[str, Any]) -> tuple[Mapping[str, Any], str | None]:
    """Take out an amount and its currency, and return them as one text."""
    amount, currency = members.get("amount"), members.get("currency")
    if isinstance(currency, str) and isinstance(amount, (str, int, float)) and not isinstance(amount, bool):
        rest = {name: value for name, value in members.items() if name not in {"amount", "currency"}}
        return rest, f"{amount} {currency}"
    return members, None


def _rank(path: tuple[str, ...]) -> int:
    if _plain(path[-1]) == "amount":
        return 0
    names = {_plain(name) for name in path[-2:]} if _plain(path[-1]) == "name" else {_plain(path[-1])}
    return 1 if names & _PAYEES else 2


def _plainly(rank: int, path: tuple[str, ...]) -> str:
    if rank == 1:
        return "Payee"
    return "Amount" if _plain(path[-1]) in _AMOUNTS else _title(path)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value, default=dict, ensure_ascii=False)


def _title(path: tuple[str, ...]) -> str:
    return printable(
        ", ".join(_words(name) if at == 0 else _words(name).lower() for at, name in enumerate(path))
    )


def _words(name: str) -> str:
    """Turn ``creditorName`` and ``creditor_name`` into "Creditor name"; leave a URL as it is."""
    if not re.fullmatch(r"\w+", name):
        return printable(name)
    words = " ".join(word if word.isupper() else word.lower() for word in _MEMBER.findall(name)) or name
    return printable(words[:1].upper() + words[1:])

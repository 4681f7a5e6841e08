from __future__ import annotations

from typing import Any

import pytest

from ciba_adapters.cli.details import Detail, readable


def rows(**members: Any) -> list[tuple[str, str]]:
    (detail,) = readable([{"type": "t", **members}])
    return detail.rows


def test_no_details() -> None:
    """A request without authorization details has none to show; neither has what is no object."""
    assert readable(None) == readable([]) == readable(["x", 5, None]) == []


def test_payment() -> None:
    """The example of RFC 9396 2: amount and payee come first, in plain words."""
    payment = {
        "type": "payment_initiation",
        "locations": ["https://example.com/payments"],
        "creditorAccount": {"iban": "DE02100100109307118603"},
        "creditorName": "Merchant A",
        "instructedAmount": {"currency": "EUR", "amount": "123.50"},
    }
    assert readable([payment]) == [
        Detail(
            "Payment initiation",
            [
                ("Amount", "123.50 EUR"),
                ("Payee", "Merchant A"),
                ("Locations", "https://example.com/payments"),
                ("Creditor account, iban", "DE02100100109307118603"),
            ],
        )
    ]


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"amount": 5, "currency": "USD"}, [("Amount", "5 USD")]),
        ({"amount": {"amount": 1.5, "currency": "GBP", "note": "x"}}, [("Amount", "1.5 GBP"), ("Amount, note", "x")]),
        ({"max_amount": {"amount": "9", "currency": "CHF"}}, [("Max amount", "9 CHF")]),
        ({"creditor": {"id": "7", "name": "Eve"}}, [("Payee", "Eve"), ("Creditor, id", "7")]),
        ({"payee": "A", "recipient": "B"}, [("Payee", "A"), ("Recipient", "B")]),
        ({"merchantName": "A", "payee": "B"}, [("Merchant name", "A"), ("Payee", "B")]),
        ({"actions": ["read", "write"], "urgent": True, "n": None}, [("Actions", "read, write"), ("Urgent", "yes"), ("N", "none")]),
        ({"parts": [{"sum": 1}, {"sum": 2}]}, [("Parts, 1, sum", "1"), ("Parts, 2, sum", "2")]),
        ({"https://e.example/x": False, "": "e"}, [("https://e.example/x", "no"), ("", "e")]),
        ({"note": "a\u202eb\n"}, [("Note", r"a\u202eb\n")]),
        ({"\u202ex": "v"}, [(r"\u202ex", "v")]),
        ({"amount": {"amount": True, "currency": "EUR"}}, [("Amount", "yes"), ("Amount, currency", "EUR")]),
    ],
)  # fmt: skip
def test_members(members: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    """Every member has a row, named in words; amounts have their currency; nothing hides in a character."""
    assert rows(**members) == expected


def test_two_amounts_keep_their_names() -> None:
    """Where there are several amounts none is "the" amount."""
    amounts = {name: {"amount": "1", "currency": "EUR"} for name in ("instructedAmount", "feeAmount")}
    assert rows(**amounts) == [("Instructed amount", "1 EUR"), ("Fee amount", "1 EUR")]


def test_much_is_told_as_much() -> None:
    """Rows that do not fit are counted; what is nested too deeply is shown as JSON; nothing is dropped silently."""
    shown = rows(**{f"m{number}": number for number in range(50)})
    assert len(shown) == 41
    assert shown[-1] == ("And more", "10 further values, which do not fit here")
    deep: Any = "x"
    for _ in range(10):
        deep = {"a": deep}
    ((_, value),) = rows(deep=deep)
    assert value.startswith('{"a": ') and '"x"' in value  # noqa: PT018

"""The readers of forms that deviate from a standard and leave no doubt."""

from __future__ import annotations

from typing import Any

import pytest

from ciba_core.events import ProviderDeviation
from ciba_core.values.json import JsonFault
from ciba_core.values.lenient import is_absent, number, parse_body, present, space_separated
from tests.samples import NO_NUMBERS


@pytest.mark.parametrize(
    ("members", "there", "message"),
    [
        ({"a": "x"}, True, None),
        ({"a": 0}, True, None),
        ({"a": False}, True, None),
        ({"a": ()}, True, None),
        ({"a": " "}, True, None),
        ({}, False, None),
        ({"a": None}, False, "null; taken as absent"),
        ({"a": ""}, False, "an empty string; taken as absent"),
    ],
)
def test_absent_in_other_words(members: dict[str, Any], there: bool, message: str | None) -> None:
    """Issue of form: ``null`` and ``""`` say no more than a member that is left out, and nothing else does."""
    noted: list[ProviderDeviation] = []
    assert present(members, "a", "RFC 0 1", noted) is there
    assert is_absent(members.get("a")) is not there
    assert noted == ([] if message is None else [ProviderDeviation("RFC 0 1: a", message)])


@pytest.mark.parametrize(
    ("value", "expected", "deviates"),
    [
        (5, 5, False),
        (-5, -5, False),
        (5.0, 5.0, True),
        (5.5, 5.5, True),
        ("0", 0, True),
        ("0005", 5, True),
        ("9999999999", 9999999999, True),
    ],
)
def test_numbers(value: object, expected: float, deviates: bool) -> None:
    """A number is one, a fraction or digits in a string deviate."""
    noted: list[ProviderDeviation] = []
    assert number({"a": value}, "a", "RFC 0 1", noted) == expected
    assert [each.rule for each in noted] == ["RFC 0 1: a"] * deviates


@pytest.mark.parametrize("value", [None, True, False, [5], {}, (), *NO_NUMBERS], ids=ascii)
def test_what_is_no_number(value: object) -> None:
    """Signs, spaces, points, exponents, other scripts and more than ten digits leave a doubt."""
    noted: list[ProviderDeviation] = []
    assert number({"a": value}, "a", "RFC 0 1", noted) is None
    assert noted == []


@pytest.mark.parametrize(
    ("value", "expected", "deviates"),
    [
        ("openid email", "openid email", False),
        (("openid", "email"), "openid email", True),
        (("openid",), "openid", True),
        ((), "", True),
        (("openid email",), None, False),
        (("openid", ""), None, False),
        (("openid", None), None, False),
        (("ünï",), None, False),
        (("a\n",), None, False),
        (5, None, False),
        ({"openid": True}, None, False),
    ],
)
def test_lists(value: object, expected: str | None, deviates: bool) -> None:
    """An array stands for a space-separated list where each of its items is one value."""
    noted: list[ProviderDeviation] = []
    assert space_separated({"a": value}, "a", "RFC 0 1", noted) == expected
    assert len(noted) == deviates


@pytest.mark.parametrize(
    ("body", "result", "deviates"),
    [
        (b"{}", {}, False),
        (b"\xef\xbb\xbf{}", {}, True),
        (b"\xef\xbb\xbf\r\n{} ", {}, True),
        (b"\xef\xbb\xbf\xef\xbb\xbf{}", JsonFault.SYNTAX, True),
        (b" \xef\xbb\xbf{}", JsonFault.SYNTAX, False),
        (b"\xef\xbb\xbf", JsonFault.SYNTAX, True),
        (b"\xef\xbb\xbf<html>", JsonFault.SYNTAX, True),
        (b"\xfe\xff\x00{\x00}", JsonFault.SYNTAX, False),
        (b'\xef\xbb\xbf{"a":1,"a":1}', JsonFault.DUPLICATE, True),
    ],
)
def test_a_byte_order_mark(body: bytes, result: object, deviates: bool) -> None:
    """RFC 8259 8.1: one of UTF-8 is ignored before the JSON; what follows it is read as strictly as ever."""
    noted: list[ProviderDeviation] = []
    assert parse_body(body, depth_limit=4, noted=noted) == result
    assert [each.rule for each in noted] == ["RFC 8259 8.1"] * deviates

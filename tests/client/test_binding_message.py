from __future__ import annotations

import re
from collections import Counter
from typing import Any

import attrs
import pytest

from ciba_core import BindingMessageLimits, binding_code, profiles
from ciba_core.errors import BindingMessageUnfit, LocalProtocolError
from tests.jwt_samples import always, counter

KEYCLOAK = BindingMessageLimits(max_length=50, characters=r"A-Za-z0-9\-._+/!?#")


def broken(limits: BindingMessageLimits, message: str) -> str:
    with pytest.raises(BindingMessageUnfit) as caught:
        limits.check(message)
    assert str(caught.value).startswith("binding_message: ")
    return caught.value.rule


@pytest.mark.parametrize(
    "message",
    [
        "W4SCT",
        "Buy 1 ticket",
        "Überweisung 25,00 €",
        "支払い",
        "שלום 25",
        "Zahlung 👍",
        "e\u0301",
        "x" * 4096,
    ],
)
def test_core_sets_no_limits(message: str) -> None:
    """CIBA-7.1-23: without known limits, whatever shows is taken, in any script."""
    BindingMessageLimits().check(message)


@pytest.mark.parametrize(
    ("message", "rule"),
    [
        ("a\nb", "control character"),
        ("a\tb", "control character"),
        ("a\x7f", "control character"),
        ("a\x85", "control character"),
        ("a\u202e0001", "bidirectional control"),
        ("\u202aa", "bidirectional control"),
        ("a\u2066b\u2069", "bidirectional control"),
        ("a\u200f", "bidirectional control"),
        ("a\u200e", "bidirectional control"),
        ("a\u061c", "bidirectional control"),
        ("a\u200bb", "invisible character"),
        ("a\u200db", "invisible character"),
        ("a\xadb", "invisible character"),
        ("a\xa0b", "invisible character"),
        ("a\u2028b", "invisible character"),
        ("\ufeffa", "invisible character"),
        ("\ue000", "invisible character"),
        ("\u0378", "invisible character"),
        ("\ud800", "invisible character"),
        ("a\u3164", "invisible character"),
        ("\u2800", "invisible character"),
        ("", "empty"),
        ("   ", "empty"),
        ("\u0301a", "combining mark"),
    ],
    ids=ascii,
)
def test_what_does_not_show_is_refused(message: str, rule: str) -> None:
    """CIBA-7.1-22: text that reorders, hides or breaks lines says something else than it shows."""
    assert broken(BindingMessageLimits(), message) == rule


def test_the_rule_is_named() -> None:
    """CIBA-7.1-23, V-KC-04: too long, or a character that is not allowed; which one is said."""
    KEYCLOAK.check("a" * 50)
    assert broken(KEYCLOAK, "a" * 51) == "length"
    assert broken(KEYCLOAK, "a b") == r"characters [A-Za-z0-9\-._+/!?#]"
    with pytest.raises(BindingMessageUnfit, match=r"^binding_message: U\+0020 is not allowed$"):
        KEYCLOAK.check("a b")
    with pytest.raises(BindingMessageUnfit, match=r"^binding_message: 51 characters are more than 50$"):
        KEYCLOAK.check("ä" * 51)
    assert issubclass(BindingMessageUnfit, LocalProtocolError)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"max_length": 0}, ValueError),
        ({"max_length": 4097}, ValueError),
        ({"max_length": "20"}, TypeError),
        ({"max_length": True}, TypeError),
        ({"characters": ""}, ValueError),
        ({"characters": "z-a"}, ValueError),
        ({"characters": 5}, TypeError),
        ({"characters": "\\"}, ValueError),
    ],
)
def test_bad_limits(changes: dict[str, Any], error: type[Exception]) -> None:
    """Limits that cannot be are refused when they are made; an unknown one is a TypeError."""
    with pytest.raises(error, match=rf"^{next(iter(changes))} must be"):
        BindingMessageLimits(**changes)
    unknown: dict[str, Any] = {"length": 5}
    with pytest.raises(TypeError, match="length"):
        BindingMessageLimits(**unknown)


def test_codes_pass_everywhere() -> None:
    """CIBA-7.1-22, V-NOP-03, V-KC-04, V-AUTH0-04: a code of any length is taken by every provider known."""
    entropy = counter()
    known = [getattr(profiles, name).binding_message for name in profiles.__all__]
    for length in range(4, 21):
        code = binding_code(entropy, length=length)
        assert re.fullmatch(f"[BCDFGHJKMNPRTVWX]{{{length}}}", code)
        for limits in known:
            limits.check(code)


def test_codes_are_unbiased() -> None:
    """CIBA-7.1-22: each letter comes from as many octets as any other, and nothing but the source decides."""
    found = Counter(binding_code(always(bytes([octet]) * 6))[0] for octet in range(256))
    assert set(found.values()) == {16}
    assert len(found) == 16
    assert binding_code(bytes) == "BBBBBB"
    assert binding_code(lambda count: bytes(range(count)), length=16) == "BCDFGHJKMNPRTVWX"


@pytest.mark.parametrize(
    ("length", "error"),
    [(3, ValueError), (21, ValueError), ("6", TypeError), (6.0, TypeError), (True, TypeError)],
)
def test_bad_lengths_of_codes(length: Any, error: type[Exception]) -> None:
    """A code too short to tell requests apart, or too long for people and providers, is refused."""
    with pytest.raises(error, match=r"^length must be"):
        binding_code(bytes, length=length)


def test_limits_are_values() -> None:
    """Limits can be changed by `evolve`, and compared."""
    assert attrs.evolve(KEYCLOAK, max_length=20) == profiles.NODE_OIDC_PROVIDER.binding_message
    assert profiles.KEYCLOAK.binding_message == KEYCLOAK

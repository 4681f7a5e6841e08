from __future__ import annotations

import enum
import string
from urllib.parse import parse_qsl

import pytest

from ciba_core.values.form import encode, encode_pairs


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        ("", ""),
        ("s6BhdRkqt3", "s6BhdRkqt3"),
        ("*-._", "*-._"),
        ("a b", "a+b"),
        ("a+b", "a%2Bb"),
        ("~", "%7E"),
        ("a~b c", "a%7Eb+c"),
        ("* ", "*+"),
        ("p@ss:w%rd+1", "p%40ss%3Aw%25rd%2B1"),
        ("/", "%2F"),
        ("£€", "%C2%A3%E2%82%AC"),
        ("tel:+34666666666", "tel%3A%2B34666666666"),
        (
            '{"format":"iss_sub","iss":"https://tenant.example.auth0.com/","sub":"auth0|5f7c8ec7c33c6c004bbafe82"}',
            (
                "%7B%22format%22%3A%22iss_sub%22%2C%22iss%22%3A%22https%3A%2F%2Ftenant.example.auth0.com"
                "%2F%22%2C%22sub%22%3A%22auth0%7C5f7c8ec7c33c6c004bbafe82%22%7D"
            ),
        ),
        ("line\nbreak\0", "line%0Abreak%00"),
    ],
)
def test_encode(value: str, encoded: str) -> None:
    """HTTP-08, VEC-CAM-01, VEC-AUTH0-01: RFC 6749 appendix B, octet by octet."""
    assert encode(value) == encoded


class Prompt(str, enum.Enum):  # noqa: UP042  # the kind whose text is its name
    LOGIN = "login"
    BOTH = "login consent"


def test_members_of_an_enumeration_are_their_values() -> None:
    """CIBA-7.1.1-02: what is said of them is what JSON says, and not their names."""
    assert encode(Prompt.LOGIN) == "login"
    assert type(encode(Prompt.LOGIN)) is str
    assert (
        encode_pairs([("prompt", Prompt.LOGIN), (Prompt.LOGIN, Prompt.BOTH)])
        == "prompt=login&login=login+consent"
    )


def test_only_the_characters_of_the_standard_stay() -> None:
    """AUTH-10: all of ASCII but letters, digits and ``* - . _`` is escaped."""
    stay = {character for character in map(chr, range(128)) if encode(character) == character}
    assert stay == {*string.ascii_letters, *string.digits, *"*-._"}


def test_pairs_survive_a_parser() -> None:
    """HTTP-08: what another implementation reads is what was written, in order, repetitions included."""
    pairs = [("resource", "https://a.example/?x=1&y=2"), ("resource", "b c+d"), ("ü", "=&;%"), ("a", "")]
    assert parse_qsl(encode_pairs(pairs), keep_blank_values=True, strict_parsing=True) == pairs
    assert encode_pairs([]) == ""

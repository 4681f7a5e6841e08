from __future__ import annotations

from typing import Any

import attrs
import pytest

from ciba_core import HttpRequest, HttpResponse, Purpose
from tests.samples import reply


def test_header_names_are_compared_without_case() -> None:
    """HTTP-04: a header is found however it is written; the first of several counts."""
    response = HttpResponse(200, [("retry-AFTER", "1"), ("Retry-After", "2")], b"")
    assert response.header("Retry-After") == "1"
    assert response.header("RETRY-after") == "1"
    assert response.header("Retry") is None


def test_headers_may_be_a_mapping() -> None:
    """A mapping of headers gives the same value as pairs."""
    assert HttpResponse(200, {"Date": "x"}, b"") == HttpResponse(200, (("Date", "x"),), b"")


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/json", "application/json"),
        ("Application/JSON", "application/json"),
        ("application/json;charset=utf-8", "application/json"),
        ("application/json ; charset=UTF-8", "application/json"),
        (" application/json", "application/json"),
        ("text/html", "text/html"),
        ("", ""),
        (None, ""),
    ],
)
def test_media_type(content_type: str | None, expected: str) -> None:
    """HTTP-04: media types without case, their parameters ignored."""
    assert reply(200, media_type=content_type).media_type == expected


def test_requests_and_responses_do_not_show_their_content() -> None:
    """Neither body nor header values nor URL are in the repr: all of them may carry credentials."""
    request = HttpRequest(
        7, Purpose.TOKEN, "POST", "https://op.example/?marker", (("A", "marker"),), b"marker", 1, 2, 3
    )
    assert repr(request) == "<HttpRequest 7 token: POST, 6 octets>"
    assert repr(reply(200, b"marker", ("A", "marker"))) == "<HttpResponse 200, 6 octets>"


def test_they_are_frozen() -> None:
    """Values of one step cannot be changed under another."""
    response: Any = reply(200)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        response.status = 201

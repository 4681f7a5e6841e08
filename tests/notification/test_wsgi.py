"""What is special about WSGI (PEP 3333): how far to read, and what an answer has to look like."""

from __future__ import annotations

import io
from typing import Any
from wsgiref.validate import validator

import pytest

from ciba_adapters.notification.wsgi import NotificationApp
from ciba_core import HttpResponse, Notification

from .callbacks import Callback, World, acknowledged, callback, elsewhere


class Stream(io.BytesIO):
    """A body that counts what is read of it."""

    octets = 0

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        assert size >= 0
        read = super().read(size)
        self.octets += len(read)
        return read


def environ(sent: Callback, stream: io.BytesIO, **changes: Any) -> dict[str, Any]:
    headers = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in sent.headers}
    return {
        "REQUEST_METHOD": sent.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": "/cb",
        "QUERY_STRING": "",
        "SERVER_NAME": "client.example",
        "SERVER_PORT": "443",
        "CONTENT_TYPE": headers.pop("HTTP_CONTENT_TYPE", ""),
        "CONTENT_LENGTH": headers.pop("HTTP_CONTENT_LENGTH"),
        **headers,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https",
        "wsgi.input": stream,
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        **changes,
    }


def call(world: World, request: dict[str, Any], *, valid: bool = True) -> tuple[str, dict[str, str]]:
    """Call the application, under the validator if the server does its part; return status and header."""
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], _error: object = None) -> Any:
        started.append((status, headers))
        return io.BytesIO().write

    app = NotificationApp(world.endpoint)
    result: Any = (validator(app) if valid else app)(request, start_response)
    assert list(result) == [b""]
    if valid:
        result.close()
    [(status, headers)] = started
    return status, dict(headers)


@pytest.fixture
def world() -> World:
    return World()


def test_the_form_of_the_answers(world: World) -> None:
    """A status line with its phrase; a length and a type where, and only where, PEP 3333 wants them."""
    transaction = acknowledged()
    world.hold(transaction)
    sent = callback(transaction)
    assert call(world, environ(sent, Stream(sent.body))) == ("204 No Content", {})
    refused = callback(transaction, authorization=())
    assert call(world, environ(refused, Stream(refused.body))) == (
        "401 Unauthorized",
        {"WWW-Authenticate": "Bearer", "Content-Type": "text/plain", "Content-Length": "0"},
    )


def test_reading_stops_where_the_body_ends(world: World) -> None:
    """What comes after the announced length belongs to another request, or blocks for ever."""
    transaction = acknowledged()
    world.hold(transaction)
    sent = callback(transaction)
    stream = Stream(sent.body + b"POST /cb HTTP/1.1")
    assert call(world, environ(sent, stream))[0] == "204 No Content"
    assert stream.octets == len(sent.body)


@pytest.mark.parametrize("length", ["", "many", "-5", "\xb2"])
def test_without_a_length(world: World, length: str) -> None:
    """Without a length that is one, nothing can be read."""
    transaction = acknowledged()
    world.hold(transaction)
    sent = callback(transaction)
    stream = Stream(sent.body)
    request = environ(sent, stream, CONTENT_LENGTH=length)
    assert call(world, request, valid=not length)[0] == "400 Bad Request"
    assert stream.octets == 0


def test_a_stream_that_ends_by_itself(world: World) -> None:
    """Servers that take chunked bodies say that their stream has an end."""
    transaction = acknowledged()
    world.hold(transaction)
    sent = callback(transaction)
    request = environ(sent, Stream(sent.body), **{"wsgi.input_terminated": True})
    del request["CONTENT_LENGTH"]
    assert call(world, request)[0] == "204 No Content"


def test_a_stream_that_does_not_end() -> None:
    """Of such a body, no more is read than one octet above the limit."""
    world = World(body_limit=20_000)
    transaction = acknowledged()
    world.hold(transaction)
    sent = callback(transaction)
    stream = Stream(bytes(1_000_000))
    request = environ(sent, stream, CONTENT_LENGTH="", **{"wsgi.input_terminated": True})
    assert call(world, request)[0].startswith("413 ")
    assert stream.octets == 20_001


@pytest.mark.parametrize(("status", "line"), [(200, "200 OK"), (299, "299 Other")])
def test_an_answer_of_the_embedder(status: int, line: str) -> None:
    """What `not_held` answers goes out as it is, with a code that has no name too."""
    transaction = acknowledged()

    def not_held(_key: str, _notification: Notification) -> HttpResponse:
        return HttpResponse(status, (("X", "y"),), b"")

    world = World(routes=elsewhere(transaction), not_held=not_held)
    sent = callback(transaction)
    found, headers = call(world, environ(sent, Stream(sent.body)))
    assert (found, headers["X"]) == (line, "y")


def test_two_authorizations_in_one(world: World) -> None:
    """CIBA-9-15: servers join fields of one name by a comma; then there is no token in it."""
    transaction = acknowledged()
    world.hold(transaction)
    sent = callback(transaction)
    [value] = sent.authorization
    joined = environ(sent, Stream(sent.body), HTTP_AUTHORIZATION=f"{value},{value}")
    assert call(world, joined)[0] == "401 Unauthorized"


def test_turned_away_unread(world: World) -> None:
    """CIBA-9-15: without a good token, not one octet of the body is read."""
    sent = callback(acknowledged())
    stream = Stream(sent.body)
    assert call(world, environ(sent, stream))[0] == "401 Unauthorized"
    assert stream.octets == 0

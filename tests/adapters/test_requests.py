"""What is special about the transport for requests."""

from __future__ import annotations

import pytest
import requests

from ciba_adapters.requests import RequestsTransport
from ciba_adapters.transport import SendFailed
from ciba_core.values.http import Delivery

from .server import Server, answering, response
from .test_transport import ANSWER, post

EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"


def test_answer_after_early_hints_is_not_that_of_the_next_request() -> None:
    """The connection of an interim answer that was taken for the final one is not used again."""
    with Server(answering(EARLY), answering(response(ANSWER))) as server, requests.Session() as http:
        transport = RequestsTransport(http)
        with pytest.raises(SendFailed, match="InterimStatus"):
            transport.send(post(server.url()))
        assert transport.send(post(server.url())).body == ANSWER
        assert len(server.connections) == 2


def test_session_keeps_no_cookies() -> None:
    """Cookies of an answer do not get into the caller's session."""
    with (
        Server(answering(response(ANSWER, "Set-Cookie: sid=1; Path=/"))) as server,
        requests.Session() as http,
    ):
        RequestsTransport(http).send(post(server.url()))
        assert not list(http.cookies)


def test_proxy_of_the_session_is_used_and_its_refusal_known() -> None:
    """Where the session's proxy cannot be reached, nothing was sent."""
    with requests.Session() as http:
        http.proxies = {"http": "http://127.0.0.1:1"}
        with pytest.raises(SendFailed, match=r"^proxy: connection refused$") as caught:
            RequestsTransport(http).send(post("http://op.invalid/token"))
    assert caught.value.delivery is Delivery.NOT_SENT

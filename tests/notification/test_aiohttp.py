"""What is special about ``aiohttp.web``: its connections, and its bodies."""

from __future__ import annotations

import pytest

from .callbacks import World, acknowledged, callback
from .receivers import Connection, aiohttp


def test_a_connection_stays() -> None:
    """One callback after the other over one connection."""
    world = World()
    transaction = acknowledged()
    world.hold(transaction)
    with aiohttp(world.endpoint) as port, Connection.to(port) as connection:
        for _ in range(2):
            connection.send(callback(transaction).octets())
            assert connection.answer().status == 204


@pytest.mark.parametrize("right", [True, False], ids=["right token", "unknown token"])
def test_a_connection_with_an_unread_body_does_not(right: bool) -> None:
    """What is left of a body that is turned away is not taken for the next request."""
    world = World(body_limit=100)
    transaction = acknowledged()
    if right:
        world.hold(transaction)
    large = callback(transaction, bytes(101), more_headers=(("Transfer-Encoding", "chunked"),)).octets()
    large = large.replace(b"Content-Length: 101\r\n", b"").replace(bytes(101), b"65\r\n" + bytes(101))
    with aiohttp(world.endpoint) as port, Connection.to(port) as connection:
        connection.send(large)
        answer = connection.answer()
        assert answer.status == (413 if right else 401)
        assert answer.values("Connection") == ["close"]

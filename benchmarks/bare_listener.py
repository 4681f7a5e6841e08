"""The least that answers HTTP/1.1 over anyio: h11 and a handler that reads the request and says 204."""

from __future__ import annotations

import anyio
import h11
from anyio.abc import SocketStream

__all__ = ["answer_everything"]


async def answer_everything(stream: SocketStream) -> None:
    """Answer each request of a connection, however it is."""
    connection = h11.Connection(h11.SERVER)
    async with stream:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                try:
                    connection.receive_data(await stream.receive(4096))
                except anyio.EndOfStream:
                    return
            elif isinstance(event, h11.EndOfMessage):
                head = connection.send(h11.Response(status_code=204, headers=[]))
                end = connection.send(h11.EndOfMessage())
                await stream.send((head or b"") + (end or b""))
                connection.start_next_cycle()
            elif isinstance(event, h11.ConnectionClosed):
                return

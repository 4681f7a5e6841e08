"""The least that answers HTTP/1.1 over anyio: h11 and a handler that sends back what it was sent."""

from __future__ import annotations

import anyio
import h11
from anyio.abc import SocketStream

__all__ = ["echo"]


async def echo(stream: SocketStream) -> None:
    """Answer each request of a connection with its own body."""
    connection = h11.Connection(h11.SERVER)
    body = b""
    async with stream:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                try:
                    connection.receive_data(await stream.receive(4096))
                except anyio.EndOfStream:
                    return
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
                answer = (
                    h11.Response(status_code=200, headers=headers),
                    h11.Data(data=body),
                    h11.EndOfMessage(),
                )
                await stream.send(b"".join(connection.send(part) or b"" for part in answer))
                connection.start_next_cycle()
                body = b""
            elif isinstance(event, h11.ConnectionClosed):
                return

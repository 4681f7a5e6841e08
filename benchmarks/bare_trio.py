"""The least that talks HTTP/1.1 over trio: h11 over a kept-alive stream, written by hand for one POST."""

from __future__ import annotations

import h11
import trio

__all__ = ["BareConnection"]


class BareConnection:
    """One open connection."""

    def __init__(self, stream: trio.SocketStream, host: str) -> None:
        self._stream = stream
        self._host = host
        self._h11 = h11.Connection(h11.CLIENT)

    async def post(self, target: str, headers: list[tuple[str, str]], body: bytes) -> bytes:
        """Send a POST and return the body of the answer."""
        head = [("Host", self._host), *headers, ("Content-Length", str(len(body)))]
        octets = b""
        request = h11.Request(method="POST", target=target, headers=head)
        for part in (request, h11.Data(data=body), h11.EndOfMessage()):
            octets += self._h11.send(part) or b""
        await self._stream.send_all(octets)
        answer = b""
        while not isinstance(event := self._h11.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                self._h11.receive_data(bytes(await self._stream.receive_some(16384)))
            elif isinstance(event, h11.Data):
                answer += event.data
        self._h11.start_next_cycle()
        return answer

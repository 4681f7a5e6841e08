"""The client notification endpoint as an ASGI application: for FastAPI, Starlette, Litestar, Django and more.

Give it a route of its own, so that the framework hands the request on as it is::

    app.router.routes.append(Route("/ciba", NotificationApp(endpoint)))     # Starlette, FastAPI

A mount (``app.mount("/ciba", ...)``) of these two answers ``/ciba`` by a redirect to ``/ciba/``, which a
provider must not follow (CIBA Core 10.2): then register ``/ciba/`` as the endpoint. This module needs only
the standard library.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from ciba_adapters._exchange import Body
from ciba_adapters.notification.endpoint import Admission, NotificationEndpoint
from ciba_core.values.http import HttpResponse

__all__ = ["NotificationApp"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class NotificationApp:
    """An ASGI 3 application that takes callbacks for an endpoint, at any path.

    It reads at most as much of a body as may be valid, and nothing if the header alone is a reason to turn
    the callback away. The server has to limit the time that a slow client may take.
    """

    def __init__(self, endpoint: NotificationEndpoint) -> None:
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection scope: a request, or the lifespan of the server."""
        match scope["type"]:
            case "http":
                await self._serve(scope, receive, send)
            case "lifespan":
                await _live(receive, send)
            case "websocket":
                await receive()
                await send({"type": "websocket.close"})
            case other:
                raise ValueError(f"unknown kind of ASGI scope: {other}")

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        admitted = self._endpoint.check_head(scope["method"], headers)
        whole = False
        if isinstance(admitted, Admission):
            body = Body(self._endpoint.body_limit)
            while not (whole or body.full):
                message = await receive()
                if message["type"] != "http.request":
                    return
                body.add(message.get("body", b""))
                whole = not message.get("more_body", False)
            response = await admitted.answer(bytes(body))
        else:
            response = admitted
        # Do not read the rest of the body. HTTP/1 has no other way to refuse it.
        close = not whole and scope.get("http_version", "1.1").startswith("1")
        await _answer(response, send, close=close)


async def _answer(response: HttpResponse, send: Send, *, close: bool) -> None:
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
    if response.status != 204:
        headers.append((b"content-length", str(len(response.body)).encode("ascii")))
    if close:
        headers.append((b"connection", b"close"))
    with contextlib.suppress(OSError):  # the client left before the answer
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body})


async def _live(receive: Receive, send: Send) -> None:
    """Answer the server's start and stop: there is nothing to set up, and nothing to end."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return

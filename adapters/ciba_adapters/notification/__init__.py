"""The receiving side of ping and push: a client notification endpoint for every kind of web server.

One `NotificationEndpoint` stands between the web server and the clients. It is served by one of

=================================================== ==========================================================
`ciba_adapters.notification.asgi.NotificationApp`   ASGI: FastAPI, Starlette, Litestar, Django
`ciba_adapters.notification.wsgi.NotificationApp`   WSGI: Flask, Django
`ciba_adapters.notification.aiohttp.handler`        ``aiohttp.web``
`ciba_adapters.notification.listener.Listener`      no web server: a port of its own, under asyncio or trio
=================================================== ==========================================================
"""

from __future__ import annotations

from ciba_adapters.notification.endpoint import Admission, Held, NotHeld, NotificationEndpoint, Reply

__all__ = ["Admission", "Held", "NotHeld", "NotificationEndpoint", "Reply"]

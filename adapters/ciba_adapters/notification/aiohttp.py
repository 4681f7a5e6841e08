"""The client notification endpoint as a handler of ``aiohttp.web``.

::

    app.router.add_route("*", "/ciba", handler(endpoint))

Route all methods to it: it also answers methods other than POST.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ciba_adapters._exchange import Body
from ciba_adapters._missing import missing_extra
from ciba_adapters.notification.endpoint import Admission, NotificationEndpoint
from ciba_core.values.http import HttpResponse

try:
    from aiohttp import web
except ImportError as error:
    raise missing_extra("aiohttp", error) from error

__all__ = ["handler"]


def handler(endpoint: NotificationEndpoint) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return a handler that takes callbacks for an endpoint, at any path.

    It reads at most as much of a body as may be valid, and nothing if the header alone is a reason to turn
    the callback away. The server has to limit the time that a slow client may take.
    """

    async def handle(request: web.Request) -> web.StreamResponse:
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers]
        admitted = endpoint.check_head(request.method, headers)
        if not isinstance(admitted, Admission):
            return _response(admitted, close=request.can_read_body)
        body = Body(endpoint.body_limit)
        async for chunk in request.content.iter_any():
            if body.add(chunk):
                break
        return _response(await admitted.answer(bytes(body)), close=body.full)

    return handle


def _response(response: HttpResponse, *, close: bool) -> web.Response:
    answer = web.Response(status=response.status, headers=list(response.headers), body=response.body)
    if close:
        # Do not read the rest of the body.
        answer.force_close()
    return answer

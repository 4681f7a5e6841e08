"""The client notification endpoint as a WSGI application (PEP 3333): for Flask, Django, and others.

Have the server hand the requests for its path on as they are, for instance in Flask by::

    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/ciba": NotificationApp(endpoint)})

A push holds its thread until the tokens are checked: milliseconds, but up to the endpoint's `answer_timeout`
if the provider's keys have to be fetched. This module needs only the standard library.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from http.client import responses
from typing import TYPE_CHECKING, Final

from ciba_adapters._exchange import CHUNK, Body
from ciba_adapters.notification.endpoint import Admission, NotificationEndpoint

if TYPE_CHECKING:
    from _typeshed.wsgi import InputStream, StartResponse, WSGIEnvironment

__all__ = ["NotificationApp"]

_WITHOUT_PREFIX: Final = {"CONTENT_TYPE": "Content-Type", "CONTENT_LENGTH": "Content-Length"}


class NotificationApp:
    """A WSGI application that takes callbacks for an endpoint, at any path.

    It reads at most as much of a body as may be valid, and nothing if the header alone is a reason to turn
    the callback away. The server has to limit the time that a slow client may take.
    """

    def __init__(self, endpoint: NotificationEndpoint) -> None:
        self._endpoint = endpoint

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        admitted = self._endpoint.check_head(environ["REQUEST_METHOD"], _headers(environ))
        if isinstance(admitted, Admission):
            response = admitted.answer_sync(_read(environ, self._endpoint.body_limit))
        else:
            response = admitted
        headers = list(response.headers)
        if response.status != 204:
            headers += [("Content-Type", "text/plain"), ("Content-Length", str(len(response.body)))]
        start_response(f"{response.status} {responses.get(response.status, 'Other')}", headers)
        return [response.body]


def _headers(environ: WSGIEnvironment) -> Iterator[tuple[str, str]]:
    for name, value in environ.items():
        if name.startswith("HTTP_"):
            yield name[5:].replace("_", "-"), value
        elif name in _WITHOUT_PREFIX and value:
            yield _WITHOUT_PREFIX[name], value


def _read(environ: WSGIEnvironment, limit: int) -> bytes:
    # Reading past the end of the body may block for ever, unless the server says that its stream has an end.
    length = environ.get("CONTENT_LENGTH", "")
    if environ.get("wsgi.input_terminated"):
        left = limit + 1
    else:
        left = int(length) if length.isascii() and length.isdigit() else 0
    stream: InputStream = environ["wsgi.input"]
    body = Body(limit)
    while not body.full and left > 0 and (chunk := stream.read(min(CHUNK, left))):
        left -= len(chunk)
        body.add(chunk)
    return bytes(body)

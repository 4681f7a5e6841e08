"""CIBA over `requests <https://requests.readthedocs.io>`_ (sync)."""

from __future__ import annotations

import io
from time import monotonic

from ciba_adapters._exchange import CHUNK, answer, message_headers, read_body, reason_of, require_final
from ciba_adapters._missing import missing_extra
from ciba_adapters._session import of_kind
from ciba_adapters.client import Cancellation, SyncClient
from ciba_adapters.transport import SendFailed
from ciba_core.values.http import Delivery, HttpRequest, HttpResponse

try:
    import requests
    from requests import exceptions
    from urllib3.exceptions import HTTPError, NewConnectionError

    from ciba_adapters._requests_watch import watched
except ImportError as error:
    raise missing_extra("requests", error) from error

__all__ = ["Cancellation", "CibaClient", "RequestsTransport"]

_CONNECTING = (exceptions.ConnectTimeout, exceptions.SSLError, exceptions.ProxyError, ValueError)
"""Raised before anything is sent, if the body was not taken. `ValueError`: invalid URLs, header values."""

_FRAMING = {"content-length", "transfer-encoding"}


class RequestsTransport:
    """Sends requests through a `requests.Session` that the caller owns.

    Of the session it uses the mounted adapters (with their connection pools), the TLS and proxy settings and
    the user agent: no ``auth``, no ``.netrc``, no cookies, no hooks, no redirects. Environment variables
    count as far as the session's ``trust_env`` lets them. ``requests`` has no limit on the whole of an
    exchange: the timeout holds for each wait for octets and is checked again between the parts of the body.
    """

    def __init__(self, http: requests.Session) -> None:
        self._http = of_kind("http", http, requests.Session)

    def send(self, request: HttpRequest) -> HttpResponse:
        """Send the request as it stands and return the answer, or raise `SendFailed`."""
        body = _WatchedBody(request.body)
        try:
            return self._exchange(request, body)
        except (requests.RequestException, HTTPError) as error:
            delivery, reason = _delivery(error, request, body), reason_of(error)
        # Raised here, so that it does not refer to the error, which holds the request.
        raise SendFailed(delivery, reason)

    def _exchange(self, request: HttpRequest, body: _WatchedBody) -> HttpResponse:
        http, started = self._http, monotonic()
        agent = http.headers.get("User-Agent")
        headers = message_headers(request, agent.decode("latin-1") if isinstance(agent, bytes) else agent)
        # Prepared without the session, which would add its headers, cookies and credentials.
        message = requests.Request(
            request.method, request.url, headers=dict(headers), data=body if request.body else None
        ).prepare()
        message.url = request.url  # as it was, without the normalisation of prepare()
        settings = http.merge_environment_settings(request.url, {}, True, http.verify, http.cert)
        # Not by http.send(), which reads a redirect's whole body, however large, and keeps cookies.
        response = watched(http.get_adapter(request.url)).send(
            message,
            stream=True,
            timeout=(request.connect_timeout, request.timeout),
            verify=True if settings["verify"] is None else settings["verify"],
            cert=settings["cert"],
            proxies=settings["proxies"],
        )
        try:
            # http.client takes any 1xx but 100 for the answer; its connection must not be used again then.
            require_final(response.status_code)
            raw = response.raw
            chunks = iter(lambda: raw.read1(CHUNK, decode_content=False), b"")
            octets = read_body(chunks, request, started)
            framed = response.status_code in {204, 304} or _FRAMING & {*map(str.lower, raw.headers)}
            if not octets and not framed:
                # Nor does it tell an answer that was cut in its header from one that ends with it.
                raise SendFailed(Delivery.UNKNOWN, "IncompleteHeader")
            return answer(request, response.status_code, raw.headers.items(), octets)
        finally:
            response.close()


class _WatchedBody(io.BytesIO):
    """A body that knows whether the stack has begun to send it (which it does after the header fields)."""

    taken = False

    def read(self, size: int | None = -1) -> bytes:
        self.taken = True
        return super().read(size)


def _delivery(error: Exception, request: HttpRequest, body: _WatchedBody) -> Delivery:
    # One class of error stands for several moments: a handshake without an answer is a ReadTimeout, a
    # connection reset in it a ConnectionError; an SSLError can come long after the handshake. Whether the
    # body was taken tells them apart.
    if body.taken:
        return Delivery.UNKNOWN
    cause = getattr(error.args[0], "reason", None) if error.args else None
    before = bool(request.body) or isinstance(error, _CONNECTING) or isinstance(cause, NewConnectionError)
    return Delivery.NOT_SENT if before else Delivery.UNKNOWN


class CibaClient(SyncClient[requests.Session]):
    """A CIBA client over a `requests.Session`."""

    @staticmethod
    def make_transport(http: requests.Session) -> RequestsTransport:
        """Return the transport over a session."""
        return RequestsTransport(http)

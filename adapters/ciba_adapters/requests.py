"""CIBA over `requests <https://requests.readthedocs.io>`_ (sync)."""

from __future__ import annotations

from functools import partial

from ciba_adapters._cancellation import Exchange, bounded
from ciba_adapters._exchange import CHUNK, answer, message_headers, read_body, reason_of, require_final
from ciba_adapters._missing import missing_extra
from ciba_adapters._session import of_kind
from ciba_adapters.client import Cancellation, SyncClient
from ciba_adapters.transport import SendFailed
from ciba_core.values.http import Delivery, HttpRequest, HttpResponse

try:
    import requests
    from urllib3.exceptions import HTTPError

    from ciba_adapters._requests_watch import watched
except ImportError as error:
    raise missing_extra("requests", error) from error

__all__ = ["Cancellation", "CibaClient", "RequestsTransport"]

_FRAMING = {"content-length", "transfer-encoding"}


class RequestsTransport:
    """Sends requests through a `requests.Session` that the caller owns.

    Of the session it uses the mounted adapters (with their connection pools), the TLS and proxy settings and
    the user agent: no ``auth``, no ``.netrc``, no cookies, no hooks, no redirects. Environment variables
    count as far as the session's ``trust_env`` lets them. Each request is made in a thread of its own, whose
    connection is shut down when the time is over; the wait for a place in a pool (``pool_block``) is part of
    the time for connecting.
    """

    def __init__(self, http: requests.Session) -> None:
        self._http = of_kind("http", http, requests.Session)

    def send(self, request: HttpRequest) -> HttpResponse:
        """Send the request as it stands and return the answer, or raise `SendFailed`."""
        return bounded(request, partial(self._send, request))

    def _send(self, request: HttpRequest, exchange: Exchange) -> HttpResponse:
        try:
            return self._exchange(request, exchange)
        except (requests.RequestException, HTTPError) as error:
            delivery, reason = exchange.delivery, reason_of(error)
        # Raised here, so that it does not refer to the error, which holds the request.
        raise SendFailed(delivery, reason)

    def _exchange(self, request: HttpRequest, exchange: Exchange) -> HttpResponse:
        http = self._http
        agent = http.headers.get("User-Agent")
        headers = message_headers(request, agent.decode("latin-1") if isinstance(agent, bytes) else agent)
        # Prepare without the session, which would add its headers, cookies and credentials.
        message = requests.Request(
            request.method, request.url, headers=dict(headers), data=request.body or None
        ).prepare()
        message.url = request.url  # the URL as it was, without the normalisation of prepare()
        settings = http.merge_environment_settings(request.url, {}, True, http.verify, http.cert)
        # http.send() would read the whole body of a redirect, of any size, and keep cookies.
        adapter = http.get_adapter(request.url)
        view = watched(adapter, exchange, request.connect_timeout)
        if view is None:
            exchange.begin()  # the request may have left: nothing shows that it did not
        response = (view or adapter).send(
            message,
            stream=True,
            timeout=(request.connect_timeout, request.timeout),
            verify=True if settings["verify"] is None else settings["verify"],
            cert=settings["cert"],
            proxies=settings["proxies"],
        )
        try:
            # http.client takes any 1xx but 100 for the answer. Do not use the connection again then.
            require_final(response.status_code)
            raw = response.raw
            chunks = iter(lambda: raw.read1(CHUNK, decode_content=False), b"")
            octets = read_body(chunks, request, exchange.go_on)
            framed = response.status_code in {204, 304} or _FRAMING & {*map(str.lower, raw.headers)}
            if not octets and not framed:
                # http.client also does not tell an answer cut in its header from one that ends with its
                # header.
                raise SendFailed(Delivery.UNKNOWN, "IncompleteHeader")
            return answer(request, response.status_code, raw.headers.items(), octets)
        finally:
            response.close()


class CibaClient(SyncClient[requests.Session]):
    """A CIBA client over a `requests.Session`."""

    @staticmethod
    def make_transport(http: requests.Session) -> RequestsTransport:
        """Return the transport over a session."""
        return RequestsTransport(http)

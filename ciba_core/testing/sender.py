"""Sends the simulated provider's callbacks over HTTP, where a client listens for real."""

from __future__ import annotations

import http.client
import ssl
from concurrent.futures import Future
from urllib.parse import urlsplit

from attrs import field, frozen

from .callbacks import Callback, in_background

__all__ = ["CallbackSender"]


@frozen
class CallbackSender:
    """A notifier that makes a POST request out of each callback.

    Follows no redirect (CIBA Core 10.2) and keeps no connection. A request that fails, or whose answer does
    not come in time, counts as one without an answer; it is not repeated.
    """

    ssl_context: ssl.SSLContext | None = field(default=None, kw_only=True)
    """For https: trusted authorities and the client's certificate; ``None``: the defaults of this machine."""
    timeout: float = field(default=5.0, kw_only=True)
    """Seconds for each of: connecting, sending, the answer."""
    patience: float = field(default=0.2, kw_only=True)
    """Seconds after which a future is returned: the client's answer may depend on what the caller does
    next."""

    def __call__(self, callback: Callback) -> int | Future[int | None] | None:
        """Send a callback and return the status of the answer; ``None``: there was none."""
        return in_background(lambda: self._send(callback), self.patience)

    def _send(self, callback: Callback) -> int | None:
        url = urlsplit(callback.url)
        host = url.hostname or ""
        connection = (
            http.client.HTTPSConnection(host, url.port, timeout=self.timeout, context=self.ssl_context)
            if url.scheme == "https"
            else http.client.HTTPConnection(host, url.port, timeout=self.timeout)
        )
        try:
            connection.putrequest(callback.method, (url.path or "/") + (url.query and f"?{url.query}"))
            for name, value in (*callback.headers, ("Content-Length", str(len(callback.body)))):
                connection.putheader(name, value)
            connection.endheaders(callback.body)
            with connection.getresponse() as answer:
                return answer.status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

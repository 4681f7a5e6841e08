"""The clients, for an HTTP stack of your own.

The other modules of this package bring a client for each HTTP library. For any other stack, write a
transport, which sends one request (`ciba_adapters.transport` has the rules for it), and a client that makes
the transport. The rest is there already. A complete one, over the standard library::

    import http.client
    import socket
    import threading
    from urllib.parse import urlsplit

    from ciba_adapters.client import SyncClient
    from ciba_adapters.transport import SendFailed
    from ciba_core import Delivery, HttpResponse

    class Transport:
        def __init__(self, connection):
            self.connection = connection

        def send(self, request):
            url, delivery = urlsplit(request.url), Delivery.NOT_SENT
            connection = self.connection(url.netloc, timeout=request.connect_timeout)
            overdue = threading.Event()

            def give_up():
                overdue.set()
                connection.sock.shutdown(socket.SHUT_RDWR)

            # A socket's own timeout bounds each wait for octets; this bounds the whole.
            watchdog = threading.Timer(request.timeout, give_up)
            try:
                connection.connect()
                connection.sock.settimeout(request.timeout)
                watchdog.start()
                delivery = Delivery.UNKNOWN  # from here on the provider may have acted on it
                target = url.path + (f"?{url.query}" if url.query else "")
                connection.request(request.method, target, request.body, dict(request.headers))
                answer = connection.getresponse()
                body = answer.read(request.response_limit + 1)
                if overdue.is_set() or (answer.length and len(body) <= request.response_limit):
                    raise http.client.IncompleteRead(body)  # it was cut short
                return HttpResponse(answer.status, answer.getheaders(), body)
            except (OSError, http.client.HTTPException) as error:
                reason = type(error).__name__
            finally:
                watchdog.cancel()
                connection.close()
            raise SendFailed(delivery, reason)

    class CibaClient(SyncClient):
        @staticmethod
        def make_transport(http):
            return Transport(http)

    ciba = CibaClient.discover("https://op.example", client, http=http.client.HTTPSConnection)
    tokens = ciba.authenticate(request)

The client decides what ``http`` is: here it makes connections; as a rule it is a session with a pool. An
`AsyncClient` is made in the same way, from a transport that can also wait. `Cancellation` ends a call of a
sync client from another thread. Clients of one provider can share a `ProviderKnowledge`.
"""

from __future__ import annotations

from ciba_adapters._async import AsyncClient
from ciba_adapters._cancellation import Cancellation
from ciba_adapters._knowledge import ProviderKnowledge
from ciba_adapters._sync import SyncClient

__all__ = ["AsyncClient", "Cancellation", "ProviderKnowledge", "SyncClient"]

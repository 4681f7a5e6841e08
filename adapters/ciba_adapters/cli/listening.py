"""A client notification endpoint for the time of one command."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Self
from urllib.parse import urlsplit

from anyio.from_thread import start_blocking_portal
from attrs import frozen

from ciba_adapters.cli.arguments import is_loopback
from ciba_adapters.cli.text import Unusable
from ciba_adapters.notification import NotificationEndpoint
from ciba_adapters.notification.listener import Listener
from ciba_core.notification import NotificationRejected

__all__ = ["Listening"]


@frozen
class Listening:
    """The address and certificate to listen for callbacks with.

    Raises:
        Unusable: the files are no certificate with its key.

    """

    host: str
    port: int
    path: str
    cert_file: str | None = None
    """PEM file of the certificate, and of its key if there is no `key_file`; ``None`` for plain HTTP."""
    key_file: str | None = None

    @classmethod
    def at(cls, address: str, url: str, cert_file: str | None, key_file: str | None) -> Self:
        """Read ``HOST:PORT`` and the registered ``backchannel_client_notification_endpoint``.

        Raises:
            Unusable: it is not of that form, or plain HTTP would go over a network (CIBA Core 9).

        """
        host, colon, port = address.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            host = ""  # an IPv6 address stands in brackets
        if not (colon and host and port.isascii() and port.isdigit() and int(port) < 65536):
            raise Unusable(f"--listen {address}: not of the form HOST:PORT")
        if key_file is not None and cert_file is None:
            raise Unusable("--listen-key: there is no --listen-cert that it belongs to")
        if cert_file is None and not is_loopback(host):
            raise Unusable(
                f"--listen {address}: plain HTTP is for loopback addresses, behind a proxy that speaks TLS; "
                "else give --listen-cert"
            )
        listening = cls(host, int(port), urlsplit(url).path or "/", cert_file=cert_file, key_file=key_file)
        listening.context()
        return listening

    def context(self) -> ssl.SSLContext | None:
        """Return the TLS settings, or ``None`` for plain HTTP."""
        if self.cert_file is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            # Give a wrong password, so that OpenSSL does not ask for one on the terminal.
            context.load_cert_chain(self.cert_file, self.key_file, password="")
        except ssl.SSLError:
            problem = "no certificate with its unencrypted key, both in PEM form"
        except OSError as error:
            problem = error.strerror or type(error).__name__
        else:
            return context
        raise Unusable(f"--listen-cert {self.cert_file}: {problem}")

    @contextlib.contextmanager
    def open(
        self, on_rejected: Callable[[NotificationRejected], object]
    ) -> Generator[tuple[NotificationEndpoint, int]]:
        """Listen in a thread of its own, with any HTTP stack of the client; also return the port.

        Raises:
            Unusable: listening at the address is not possible.

        """
        endpoint = NotificationEndpoint(on_rejected=on_rejected)
        with start_blocking_portal() as portal, contextlib.ExitStack() as stack:
            try:
                port = stack.enter_context(portal.wrap_async_context_manager(self._serve(endpoint)))
            except OSError as error:
                problem = error.strerror or type(error).__name__
            else:
                yield endpoint, port
                return
        raise Unusable(f"--listen {self.host}:{self.port}: {problem}")

    @contextlib.asynccontextmanager
    async def _serve(self, endpoint: NotificationEndpoint) -> AsyncGenerator[int]:
        context = self.context()
        async with Listener(
            endpoint, path=self.path, host=self.host, port=self.port, ssl_context=context
        ) as listener:
            yield listener.port

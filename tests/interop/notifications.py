"""Where the providers of the interop tests deliver pings: one endpoint for all clients of all stacks."""

from __future__ import annotations

import ssl
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import anyio.from_thread
import trustme
from attrs import frozen

from ciba_adapters.notification import NotificationEndpoint
from ciba_adapters.notification.listener import Listener

__all__ = ["Notifications", "listening"]


@frozen
class Notifications:
    """A client notification endpoint behind TLS on loopback."""

    endpoint: NotificationEndpoint
    url: str
    authority: Path
    """The certificate of the authority that the listener's certificate is from, in PEM."""


@contextmanager
def listening(directory: Path) -> Generator[Notifications]:
    """Listen in a thread of its own; the certificate goes to `directory`."""
    authority = trustme.CA()
    pem = directory / "authority.pem"
    authority.cert_pem.write_to_path(str(pem))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)  # pyright: ignore[reportUnknownMemberType]  # as trustme has it
    endpoint = NotificationEndpoint()

    async def listener() -> Listener:
        return Listener(endpoint, path="/ciba", host="127.0.0.1", ssl_context=context)

    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(portal.call(listener)) as opened,
    ):
        yield Notifications(endpoint, f"https://127.0.0.1:{opened.port}/ciba", pem)

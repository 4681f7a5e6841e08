"""The HTTP stacks to choose from: opens a session of each, and drives all of them in one way."""
# ruff: noqa: PLC0415  # only the stack that is asked for is loaded

from __future__ import annotations

import contextlib
import importlib
import ssl
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import Any, Final

import anyio
from attrs import frozen

from ciba_adapters.cli.text import Unusable
from ciba_adapters.client import AsyncClient, Cancellation, SyncClient
from ciba_adapters.notification import NotificationEndpoint
from ciba_adapters.transport import SendFailed
from ciba_core import AuthenticationRequest, ClientConfig, MetadataDocument, NoClientAuthentication, Step
from ciba_core.errors import RemoteProtocolError
from ciba_core.provider.requests import ACCEPT_KEYS
from ciba_core.states import Cancelled
from ciba_core.values.http import HttpRequest, HttpResponse, Purpose

__all__ = ["ADAPTERS", "Job", "Network", "TimedOut", "drive", "fetch_metadata"]


class TimedOut(Exception):
    """The caller's time limit was over before the outcome came."""


@frozen
class Network:
    """Settings for connections to providers.

    Raises:
        Unusable: one of the files has the wrong contents.

    """

    ca_file: str | None = None
    """PEM file of the certificate authorities to trust; ``None``: those of the stack or, with a client
    certificate, those of the system."""
    cert_file: str | None = None
    """PEM file of the client's certificate, and of its key if there is no `key_file`."""
    key_file: str | None = None
    proxies: bool = True
    """Whether a proxy that is named in the environment is used."""
    allow_loopback_http: bool = False

    def __attrs_post_init__(self) -> None:
        if self.key_file is not None and self.cert_file is None:
            raise Unusable("--key: there is no --cert that it belongs to")
        if self.ca_file is not None:
            with _about("--cacert", self.ca_file, "no certificate in PEM form in it"):
                ssl.create_default_context(cafile=self.ca_file)
        if self.key_file is not None:
            with _about("--key", self.key_file):
                Path(self.key_file).read_bytes()
        if self.cert_file is not None:
            with _about(
                "--cert", self.cert_file, "no certificate with its unencrypted key, both in PEM form"
            ):
                self._identify(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))

    def context(self) -> ssl.SSLContext | None:
        """Return the TLS settings; ``None``: the stack's own."""
        if self.ca_file is None and self.cert_file is None:
            return None
        context = ssl.create_default_context(cafile=self.ca_file)
        self._identify(context)
        return context

    def _identify(self, context: ssl.SSLContext) -> None:
        if self.cert_file is not None:
            # Give a wrong password, so that OpenSSL does not ask for one on the terminal.
            context.load_cert_chain(self.cert_file, self.key_file, password="")


@contextlib.contextmanager
def _about(option: str, path: str, unusable: str = "") -> Generator[None]:
    """Report a fault of a file in one line; OpenSSL's own text is hard to understand."""
    try:
        yield
    except ssl.SSLError:
        problem = unusable
    except OSError as error:
        problem = error.strerror or type(error).__name__
    else:
        return
    raise Unusable(f"{option} {path}: {problem}")


@frozen
class Job:
    """One authentication to carry out."""

    issuer: str
    client: ClientConfig
    request: AuthenticationRequest
    network: Network
    timeout: float | None = None
    """Seconds for the whole, discovery included."""
    endpoint: NotificationEndpoint | None = None
    """Receives callbacks, in ping and push mode."""
    metadata_url: str | None = None
    expected_issuer: str | None = None


# --- the sessions ----------------------------------------------------------------------------------------

SyncOpening = tuple[type[SyncClient[Any]], AbstractContextManager[Any]]
AsyncOpening = tuple[type[AsyncClient[Any]], AbstractAsyncContextManager[Any]]


def _requests(network: Network) -> SyncOpening:
    import requests

    from ciba_adapters.requests import CibaClient

    session = requests.Session()
    session.verify = network.ca_file or True
    if network.cert_file is not None:
        # A pair of file names; or one name, of a file with both.
        session.cert = (network.cert_file, network.key_file or network.cert_file)
    session.trust_env = network.proxies
    return CibaClient, session


def _httpx(network: Network) -> SyncOpening:
    import httpx

    from ciba_adapters.httpx import CibaClient

    return CibaClient, httpx.Client(verify=network.context() or True, trust_env=network.proxies)


def _httpx2(network: Network) -> SyncOpening:
    import httpx2

    from ciba_adapters.httpx2 import CibaClient

    return CibaClient, httpx2.Client(verify=network.context() or True, trust_env=network.proxies)


def _httpx_async(network: Network) -> AsyncOpening:
    import httpx

    from ciba_adapters.httpx import AsyncCibaClient

    return AsyncCibaClient, httpx.AsyncClient(verify=network.context() or True, trust_env=network.proxies)


def _aiohttp(network: Network) -> AsyncOpening:
    import aiohttp

    from ciba_adapters.aiohttp import AsyncCibaClient

    connector = aiohttp.TCPConnector(ssl=network.context() or True)
    return AsyncCibaClient, aiohttp.ClientSession(connector=connector, trust_env=network.proxies)


def _trio(network: Network) -> AsyncOpening:
    from ciba_adapters.trio import AsyncCibaClient, TrioHttp

    return AsyncCibaClient, TrioHttp(ssl_context=network.context())


_SYNC: Final[dict[str, Callable[[Network], SyncOpening]]] = {
    "requests": _requests,
    "httpx": _httpx,
    "httpx2": _httpx2,
}
_ASYNC: Final[dict[str, tuple[Callable[[Network], AsyncOpening], str]]] = {
    "httpx-async": (_httpx_async, "asyncio"),
    "aiohttp": (_aiohttp, "asyncio"),
    "trio": (_trio, "trio"),
}
ADAPTERS: Final = ("requests", "httpx", "httpx-async", "httpx2", "aiohttp", "trio")
"""Names of the stacks."""


# --- driving them ----------------------------------------------------------------------------------------


def _require(adapter: str) -> None:
    try:
        importlib.import_module(f"ciba_adapters.{adapter.removesuffix('-async')}")
    except ImportError as error:
        raise Unusable(str(error)) from None


def drive(adapter: str, job: Job, watch: Callable[[Step], None]) -> None:
    """Carry out an authentication over one of `ADAPTERS` and hand each step to `watch`.

    Raises:
        Unusable: the stack is not installed.
        TimedOut: the job's timeout is over.
        CibaError: as `SyncClient.discover` and `SyncClient.steps` do; outcomes are in the last step.

    """
    _require(adapter)
    if adapter in _SYNC:
        _drive_sync(_SYNC[adapter], job, watch)
    else:
        opening, backend = _ASYNC[adapter]
        anyio.run(_drive_async, opening, job, watch, backend=backend)


def _drive_sync(opening: Callable[[Network], SyncOpening], job: Job, watch: Callable[[Step], None]) -> None:
    cancellation = Cancellation()
    client, session = opening(job.network)
    with _alarm(job.timeout, cancellation), session as http:
        ciba = cancellation.call(
            lambda: client.discover(
                job.issuer,
                job.client,
                http=http,
                metadata_url=job.metadata_url,
                expected_issuer=job.expected_issuer,
                endpoint=job.endpoint,
                allow_loopback_http=job.network.allow_loopback_http,
            )
        )
        if ciba is None:
            raise TimedOut
        for current in ciba.steps(job.request, cancellation=cancellation):
            watch(current)
            if isinstance(current.transaction.state, Cancelled):
                raise TimedOut


@contextlib.contextmanager
def _alarm(timeout: float | None, cancellation: Cancellation) -> Generator[None]:
    if timeout is None:
        yield
        return
    timer = threading.Timer(timeout, cancellation.cancel)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


async def _drive_async(
    opening: Callable[[Network], AsyncOpening], job: Job, watch: Callable[[Step], None]
) -> None:
    client, session = opening(job.network)
    async with session as http:
        # The time limit ends before the session is closed, so that closing cannot lose an outcome.
        with anyio.move_on_after(job.timeout) as scope:
            ciba = await client.discover(
                job.issuer,
                job.client,
                http=http,
                metadata_url=job.metadata_url,
                expected_issuer=job.expected_issuer,
                endpoint=job.endpoint,
                allow_loopback_http=job.network.allow_loopback_http,
            )
            async with contextlib.aclosing(ciba.steps(job.request)) as steps:
                async for current in steps:
                    watch(current)
    if scope.cancelled_caught:
        raise TimedOut


def fetch_metadata(
    issuer: str, network: Network, metadata_url: str | None = None
) -> tuple[MetadataDocument, HttpResponse | str | None]:
    """Fetch a provider's metadata document, and what lies at its ``jwks_uri``.

    For the key set, return the answer, or the reason why there is none; ``None`` if the metadata has no URL
    for it, or cannot be used at all.

    Raises:
        Unusable: httpx is not installed.
        CibaError: as `SyncClient.fetch_metadata` does.

    """
    _require("httpx")
    nobody = ClientConfig("unregistered", NoClientAuthentication())  # only its limits and timeouts matter
    client, session = _httpx(network)
    with session as http:
        document = client.fetch_metadata(
            issuer,
            nobody,
            http=http,
            metadata_url=metadata_url,
            allow_loopback_http=network.allow_loopback_http,
        )
        try:
            url = document.provider().jwks_uri
        except RemoteProtocolError:  # the report on the metadata names the faults
            return document, None
        if url is None:
            return document, None
        request = HttpRequest(
            id=1,
            purpose=Purpose.KEYS,
            method="GET",
            url=url,
            headers=ACCEPT_KEYS,
            body=b"",
            connect_timeout=nobody.connect_timeout,
            timeout=nobody.timeout,
            response_limit=nobody.limits.body,
        )
        try:
            return document, client.make_transport(http).send(request)
        except SendFailed as failure:
            return document, failure.reason

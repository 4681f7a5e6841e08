"""Mutual TLS (RFC 8705) over every HTTP stack, each session with a certificate as its users configure one."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

import aiohttp
import anyio
import httpx
import httpx2
import pytest
import requests
import trustme
from attrs import frozen
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate

import ciba_adapters.aiohttp
import ciba_adapters.httpx
import ciba_adapters.httpx2
import ciba_adapters.requests
import ciba_adapters.trio
from ciba_adapters.client import AsyncClient, SyncClient
from ciba_core import (
    AuthenticationRequest,
    ClientConfig,
    ClientSecretBasic,
    PollingPolicy,
    ProviderMetadata,
    SelfSignedTlsClientAuth,
    TlsClientAuth,
    TokenResponse,
)
from ciba_core.errors import AcknowledgementLost, RequestNotSent
from tests.self_signed import self_signed

from .server import Peer, Received, Server


@frozen
class Identity:
    """Files as an administrator hands them out."""

    authority: str
    certificate: str | None = None
    """With its key in the same file."""

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.authority)
        if self.certificate is not None:
            context.load_cert_chain(self.certificate)
        return context

    @property
    def shown(self) -> bytes:
        """The certificate that the server has to see, in DER."""
        assert self.certificate is not None
        return load_pem_x509_certificate(Path(self.certificate).read_bytes()).public_bytes(Encoding.DER)


Authenticate = Callable[[Identity, ProviderMetadata, ClientConfig], TokenResponse]
REQUEST: Final = AuthenticationRequest(scope="payments", login_hint="alice", openid=False)


@contextmanager
def requests_session(identity: Identity) -> Generator[requests.Session]:
    with requests.Session() as http:
        http.verify = identity.authority
        http.cert = identity.certificate
        yield http


def httpx_session(identity: Identity) -> httpx.Client:
    return httpx.Client(verify=identity.context())


def async_httpx_session(identity: Identity) -> httpx.AsyncClient:
    return httpx.AsyncClient(verify=identity.context())


def httpx2_session(identity: Identity) -> httpx2.Client:
    return httpx2.Client(verify=identity.context())


@asynccontextmanager
async def aiohttp_session(identity: Identity) -> AsyncGenerator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(ssl=identity.context())
    async with aiohttp.ClientSession(connector=connector) as http:
        yield http


def trio_session(identity: Identity) -> ciba_adapters.trio.TrioHttp:
    return ciba_adapters.trio.TrioHttp(ssl_context=identity.context())


def blocking(
    adapter: type[SyncClient[Any]], session: Callable[[Identity], AbstractContextManager[Any]]
) -> Authenticate:
    def authenticate(identity: Identity, provider: ProviderMetadata, client: ClientConfig) -> TokenResponse:
        with session(identity) as http:
            return adapter(provider, client, http=http).authenticate(REQUEST)

    return authenticate


def asynchronous(
    adapter: type[AsyncClient[Any]],
    session: Callable[[Identity], AbstractAsyncContextManager[Any]],
    backend: str,
) -> Authenticate:
    def authenticate(identity: Identity, provider: ProviderMetadata, client: ClientConfig) -> TokenResponse:
        async def main() -> TokenResponse:
            async with session(identity) as http:
                return await adapter(provider, client, http=http).authenticate(REQUEST)

        return anyio.run(main, backend=backend)

    return authenticate


STACKS: Final[dict[str, Authenticate]] = {
    "requests": blocking(ciba_adapters.requests.CibaClient, requests_session),
    "httpx": blocking(ciba_adapters.httpx.CibaClient, httpx_session),
    "httpx-asyncio": asynchronous(ciba_adapters.httpx.AsyncCibaClient, async_httpx_session, "asyncio"),
    "httpx-trio": asynchronous(ciba_adapters.httpx.AsyncCibaClient, async_httpx_session, "trio"),
    "httpx2": blocking(ciba_adapters.httpx2.CibaClient, httpx2_session),
    "aiohttp": asynchronous(ciba_adapters.aiohttp.AsyncCibaClient, aiohttp_session, "asyncio"),
    "trio": asynchronous(ciba_adapters.trio.AsyncCibaClient, trio_session, "trio"),
}


@pytest.fixture(params=STACKS)
def authenticate(request: pytest.FixtureRequest) -> Authenticate:
    """How to authenticate: each test runs over every stack."""
    return STACKS[request.param]


@pytest.fixture(scope="module")
def known(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """A client with a certificate of the authority that the server knows."""
    return _identity(authority, authority, tmp_path_factory.mktemp("known"))


@pytest.fixture(scope="module")
def registered(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """A client with a certificate of its own making, which the server knows."""
    directory = tmp_path_factory.mktemp("registered")
    authority.cert_pem.write_to_path(directory / "ca.pem")
    (directory / "client.pem").write_bytes(self_signed("client.example"))
    return Identity(str(directory / "ca.pem"), str(directory / "client.pem"))


@pytest.fixture(scope="module")
def stranger(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """A client with a certificate of another authority."""
    return _identity(authority, trustme.CA(), tmp_path_factory.mktemp("stranger"))


def _identity(server_authority: trustme.CA, authority: trustme.CA, directory: Path) -> Identity:
    server_authority.cert_pem.write_to_path(directory / "ca.pem")
    certificate = authority.issue_cert("client.example")
    certificate.private_key_and_cert_chain_pem.write_to_path(directory / "client.pem")
    return Identity(str(directory / "ca.pem"), str(directory / "client.pem"))


@pytest.fixture(scope="module")
def demanding_tls(authority: trustme.CA, registered: Identity) -> ssl.SSLContext:
    """TLS of a server that asks for a client certificate, and checks it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)  # pyright: ignore[reportUnknownMemberType]  # of pyOpenSSL
    authority.configure_trust(context)  # pyright: ignore[reportUnknownMemberType]  # of pyOpenSSL
    context.load_verify_locations(cadata=registered.shown)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def answer(_received: Received, content: dict[str, Any]) -> bytes:
    body = json.dumps(content).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def serve(peer: Peer) -> None:
    """Answer what comes on one connection: an authentication request, polls, or both."""
    try:
        while True:
            received = peer.request()
            if received.target == "/mtls/bc":
                peer.send(answer(received, {"auth_req_id": "1c266114", "expires_in": 60, "interval": 1}))
            else:
                peer.send(answer(received, {"access_token": "a-token", "token_type": "Bearer"}))
    except EOFError:
        return


@pytest.fixture
def server(demanding_tls: ssl.SSLContext) -> Iterator[Server]:
    """A provider whose endpoints for mutual TLS are this server."""
    with Server(serve, serve, tls=demanding_tls) as server:
        yield server


def provider(server: Server) -> ProviderMetadata:
    # Nobody listens where the plain endpoints are, so that a call of one of them fails.
    return ProviderMetadata(
        issuer="https://127.0.0.1:1",
        backchannel_authentication_endpoint="https://127.0.0.1:1/bc",
        token_endpoint="https://127.0.0.1:1/token",
        mtls_endpoint_aliases={
            "backchannel_authentication_endpoint": server.url("/mtls/bc"),
            "token_endpoint": server.url("/mtls/token"),
        },
    )


def client(authentication: Any, **settings: Any) -> ClientConfig:
    return ClientConfig(
        "s6BhdRkqt3",
        authentication,
        polling=PollingPolicy(first_poll_after=0, safety_margin=0),
        **settings,
    )


@pytest.mark.parametrize(
    ("method", "whose"), [(TlsClientAuth, "known"), (SelfSignedTlsClientAuth, "registered")]
)
def test_the_certificate_authenticates(
    authenticate: Authenticate,
    request: pytest.FixtureRequest,
    server: Server,
    method: type[TlsClientAuth],
    whose: str,
) -> None:
    """The aliases are called, with the certificate and with `client_id` in the form (RFC 8705 2, 5)."""
    identity: Identity = request.getfixturevalue(whose)
    tokens = authenticate(identity, provider(server), client(method()))
    assert tokens.access_token.reveal() == "a-token"
    assert [received.target for received in server.requests] == ["/mtls/bc", "/mtls/token"]
    assert {peer.certificate for peer in server.connections} == {identity.shown}
    for received in server.requests:
        assert parse_qs(received.body.decode())["client_id"] == ["s6BhdRkqt3"]
        assert received.values("Authorization") == []


def test_tokens_bound_to_the_certificate(authenticate: Authenticate, known: Identity, server: Server) -> None:
    """Another method of authentication goes over the aliases too, where tokens are to be bound (RFC 8705 3)."""
    settings = client(ClientSecretBasic("secret"), tls_client_certificate_bound_access_tokens=True)
    assert authenticate(known, provider(server), settings).access_token.reveal() == "a-token"
    assert [received.target for received in server.requests] == ["/mtls/bc", "/mtls/token"]
    assert all(received.values("Authorization") for received in server.requests)
    assert {peer.certificate for peer in server.connections} == {known.shown}


@pytest.mark.parametrize("shown", ["none", "of a stranger"])
def test_a_handshake_that_the_server_refuses(
    authenticate: Authenticate, known: Identity, stranger: Identity, server: Server, shown: str
) -> None:
    """Without a certificate that the server accepts nothing comes through, and no secret gets into the error.

    TLS 1.3 lets the client send before it learns of the refusal, so that it may count as sent.
    """
    identity = stranger if shown == "of a stranger" else Identity(known.authority)
    with pytest.raises((RequestNotSent, AcknowledgementLost)) as caught:
        authenticate(identity, provider(server), client(TlsClientAuth()))
    assert server.requests == []
    assert "PRIVATE KEY" not in f"{caught.value} {caught.value!r}"

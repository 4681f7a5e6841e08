"""Refresh, revocation and UserInfo through the clients, over loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any, Final

import aiohttp
import httpx
import pytest
import requests
import trio
from attrs import evolve, frozen

import ciba_adapters.aiohttp
import ciba_adapters.httpx
import ciba_adapters.requests
import ciba_adapters.trio
from ciba_core import (
    ClientConfig,
    ClientSecretBasic,
    Guarded,
    PrivateKeyJwt,
    ProviderMetadata,
    RemoteSigner,
    Secret,
    TokenResponse,
)
from ciba_core.dpop import DpopKey
from ciba_core.errors import InvalidGrant, InvalidToken, LocalProtocolError, RefreshLost, RequestNotSent
from ciba_core.testing import LoopbackServer
from ciba_core.testing.wire import NoReply, Reply

CLIENT: Final = ClientConfig("me", ClientSecretBasic("client secret"))
TOKENS: Final = TokenResponse(
    access_token=Secret("access"),
    token_type="Bearer",
    expires_at=None,
    refresh_token=Secret("refresh"),
    id_token=Secret("a.b.c"),
    id_token_claims={"iss": "https://op.example", "sub": "alice", "aud": "me", "iat": 1},
    scope="openid",
    authorization_details=None,
    extra={},
)
BOUND: Final = evolve(TOKENS, token_type="DPoP", dpop_key=DpopKey.generate(lambda count: b"k" * count))
REFRESHED: Final = {"access_token": "new", "token_type": "Bearer", "refresh_token": "next"}


@frozen
class Call:
    """A request as the server got it."""

    path: str
    headers: Mapping[str, str]
    body: str


class Endpoints:
    """The endpoints that come after the tokens, each with the answers that a test puts there."""

    def __init__(self, url: str) -> None:
        self.answers: list[Reply | NoReply] = []
        self.calls: list[Call] = []
        self.provider = ProviderMetadata(
            issuer=url,
            token_endpoint=f"{url}/token",
            backchannel_authentication_endpoint=f"{url}/bc-authorize",
            revocation_endpoint=f"{url}/revoke",
            userinfo_endpoint=f"{url}/userinfo",
            allow_loopback_http=True,
        )

    def handle(
        self, method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes
    ) -> Reply | NoReply:
        found = {name.lower(): value for name, value in headers}
        self.calls.append(Call(f"{method} {target}", found, body.decode()))
        return self.answers.pop(0)


def reply(status: int, body: Mapping[str, Any], *headers: tuple[str, str]) -> Reply:
    return Reply(status, (("Content-Type", "application/json"), *headers), json.dumps(body).encode())


@pytest.fixture
def endpoints() -> Generator[Endpoints]:
    with LoopbackServer() as server:
        found = Endpoints(server.url)
        server.handler = found.handle
        yield found


# One face for all: a function from the provider, the client and the name of a method to its result.
Do = Callable[..., Any]


def with_requests(
    provider: ProviderMetadata, client: ClientConfig, sign: Any, method: str, *args: Any, **more: Any
) -> Any:
    with requests.Session() as http:
        ciba = ciba_adapters.requests.CibaClient(provider, client, http=http, sign=sign)
        return getattr(ciba, method)(*args, **more)


def with_httpx(
    provider: ProviderMetadata, client: ClientConfig, sign: Any, method: str, *args: Any, **more: Any
) -> Any:
    with httpx.Client() as http:
        ciba = ciba_adapters.httpx.CibaClient(provider, client, http=http, sign=sign)
        return getattr(ciba, method)(*args, **more)


def awaitable(sign: Any) -> Any:
    async def signing(*args: Any) -> Any:
        return sign(*args)

    return None if sign is None else signing


def with_async_httpx(
    provider: ProviderMetadata, client: ClientConfig, sign: Any, method: str, *args: Any, **more: Any
) -> Any:
    async def main() -> Any:
        async with httpx.AsyncClient() as http:
            ciba = ciba_adapters.httpx.AsyncCibaClient(provider, client, http=http, sign=awaitable(sign))
            return await getattr(ciba, method)(*args, **more)

    return asyncio.run(main())


def with_aiohttp(
    provider: ProviderMetadata, client: ClientConfig, sign: Any, method: str, *args: Any, **more: Any
) -> Any:
    async def main() -> Any:
        async with aiohttp.ClientSession() as http:
            ciba = ciba_adapters.aiohttp.AsyncCibaClient(provider, client, http=http, sign=awaitable(sign))
            return await getattr(ciba, method)(*args, **more)

    return asyncio.run(main())


def with_trio(
    provider: ProviderMetadata, client: ClientConfig, sign: Any, method: str, *args: Any, **more: Any
) -> Any:
    async def main() -> Any:
        async with ciba_adapters.trio.TrioHttp() as http:
            ciba = ciba_adapters.trio.AsyncCibaClient(provider, client, http=http, sign=awaitable(sign))
            return await getattr(ciba, method)(*args, **more)

    return trio.run(main)


@pytest.fixture(params=[with_requests, with_httpx, with_async_httpx, with_aiohttp, with_trio])
def do(request: pytest.FixtureRequest, endpoints: Endpoints) -> Do:
    """Call a method of a client, through each kind of stack in turn."""

    def call(method: str, *args: Any, client: ClientConfig = CLIENT, sign: Any = None, **more: Any) -> Any:
        return request.param(endpoints.provider, client, sign, method, *args, **more)

    return call


def test_refresh(do: Do, endpoints: Endpoints) -> None:
    """RT-01, RT-02: the next tokens come back, with the rotated refresh token."""
    endpoints.answers = [reply(200, REFRESHED)]
    tokens = do("refresh", TOKENS, scope="openid")
    assert (tokens.access_token, tokens.refresh_token) == (Secret("new"), Secret("next"))
    assert (tokens.original, tokens.differs_in) == (TOKENS.original_grant, ())
    [call] = endpoints.calls
    assert call.path == "POST /token"
    assert call.body == "grant_type=refresh_token&refresh_token=refresh&scope=openid"


def test_refresh_of_bound_tokens(do: Do, endpoints: Endpoints) -> None:
    """DPOP-14: the nonce that the provider asks for is sent, once."""
    nonce = ("DPoP-Nonce", "n1")
    endpoints.answers = [
        reply(400, {"error": "use_dpop_nonce"}, nonce),
        reply(200, {**REFRESHED, "token_type": "DPoP"}),
    ]
    assert do("refresh", BOUND).dpop_key == BOUND.dpop_key
    first, second = endpoints.calls
    assert first.headers["dpop"] != second.headers["dpop"]


def test_failures_are_raised(do: Do, endpoints: Endpoints) -> None:
    """RT-06, RT-07, UI-06: each failure is an exception of its class, and nothing is sent twice."""
    endpoints.answers = [
        reply(400, {"error": "invalid_grant"}),
        NoReply(acted=True),
        reply(401, {}, ("WWW-Authenticate", 'Bearer error="invalid_token"')),
    ]
    with pytest.raises(InvalidGrant):
        do("refresh", TOKENS)
    with pytest.raises(RefreshLost):
        do("refresh", TOKENS)
    with pytest.raises(InvalidToken):
        do("userinfo", TOKENS)
    with pytest.raises(LocalProtocolError):
        do("refresh", TOKENS, scope="more")
    assert len(endpoints.calls) == 3


def test_revocation(do: Do, endpoints: Endpoints) -> None:
    """REV-01, REV-06: one token, or of tokens the one that ends them all, validated or not."""
    endpoints.answers = [Reply(200)] * 3
    do("revoke", Secret("x"), token_type_hint="access_token")
    do("revoke", TOKENS)
    do("revoke", Guarded(evolve(TOKENS, refresh_token=None)))
    assert [call.body for call in endpoints.calls] == [
        "token=x&token_type_hint=access_token",
        "token=refresh&token_type_hint=refresh_token",
        "token=access&token_type_hint=access_token",
    ]


def test_userinfo(do: Do, endpoints: Endpoints) -> None:
    """UI-01, UI-02, DPOP-10: claims for a token, with the proof of a bound one."""
    endpoints.answers = [reply(200, {"sub": "alice", "name": "Alice"})] * 2
    assert do("userinfo", TOKENS) == do("userinfo", BOUND) == {"sub": "alice", "name": "Alice"}
    bearer, bound = endpoints.calls
    assert (bearer.path, bearer.body) == ("GET /userinfo", "")
    assert bearer.headers["authorization"] == "Bearer access"
    assert "dpop" not in bearer.headers
    assert bound.headers["authorization"] == "DPoP access"
    assert "dpop" in bound.headers


def test_remote_signer(do: Do, endpoints: Endpoints) -> None:
    """A key outside of the process signs; when it cannot, nothing is sent."""
    client = ClientConfig("me", PrivateKeyJwt(RemoteSigner("hsm", alg="ES256", kid="k")))
    endpoints.answers = [Reply(200)]

    def signature(*_args: Any) -> bytes:
        return bytes(64)

    do("revoke", TOKENS, client=client, sign=signature)
    assert "client_assertion=" in endpoints.calls[0].body

    def broken(*_args: Any) -> bytes:
        raise TimeoutError

    with pytest.raises(RequestNotSent, match="TimeoutError"):
        do("revoke", TOKENS, client=client, sign=broken)
    assert len(endpoints.calls) == 1

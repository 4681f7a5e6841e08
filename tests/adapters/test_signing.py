"""Keys that only the driver can reach, against a provider: signed in time, late, wrongly, or never."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Final

import anyio
import anyio.lowlevel
import pytest
from attrs import evolve

from ciba_adapters.client import Cancellation
from ciba_adapters.stores import memory_stores
from ciba_core import (
    AuthenticationRequest,
    ClientConfig,
    PollingPolicy,
    PrivateKeyJwt,
    ProviderMetadata,
    RemoteSigner,
    RequestSigning,
    TokenResponse,
)
from ciba_core.errors import AuthenticationCancelled, AuthenticationExpired, RequestNotSent
from ciba_core.jose import signing
from ciba_core.jose.key_import import derive_p256
from ciba_core.testing import Approve, LoopbackServer, SimulatedClient, SimulatedProvider, VirtualClock

from .clients import ASYNC, SYNC, Adapter, SyncAdapter

KEY: Final = derive_p256(b"the key of the HSM")
HSM: Final = RemoteSigner("the key of the HSM", alg="ES256", kid="elsewhere")
CLIENT: Final = ClientConfig(
    "s6BhdRkqt3", PrivateKeyJwt(HSM), polling=PollingPolicy(first_poll_after=0, safety_margin=0)
)
SIGNED: Final = evolve(CLIENT, request_signing=RequestSigning(HSM))
REQUEST: Final = AuthenticationRequest(scope="profile", openid=False, login_hint="alice")
# One each for asyncio, for anyio under trio, and for trio.
over_some_adapters: Final = pytest.mark.parametrize(
    "adapter",
    [SYNC[0], *(each for each in ASYNC if each.name in {"aiohttp", "httpx-trio", "trio"})],
    ids=repr,
)
over_some_async_adapters: Final = pytest.mark.parametrize(
    "adapter", [each for each in ASYNC if each.name in {"aiohttp", "httpx-trio", "trio"}], ids=repr
)


class World:
    """A simulated provider behind a port, and the HSM of the client."""

    def __init__(self, server: LoopbackServer, alg: str | None = None) -> None:
        self.clock = VirtualClock()
        jwk = {**KEY.public_jwk(), "kid": "elsewhere"}
        self.op = SimulatedProvider(
            self.clock,
            issuer=server.url,
            clients=[
                SimulatedClient(
                    "s6BhdRkqt3",
                    token_endpoint_auth_method="private_key_jwt",
                    jwks={"keys": [jwk]},
                    backchannel_authentication_request_signing_alg=alg,
                )
            ],
            users={"alice": Approve()},
            require_openid=False,
            expires_in=600,
        )
        self.provider = ProviderMetadata(
            issuer=server.url,
            token_endpoint=f"{server.url}/token",
            backchannel_authentication_endpoint=f"{server.url}/bc-authorize",
            jwks_uri=f"{server.url}/jwks",
            allow_loopback_http=True,
        )
        server.handler = self.op.handle
        self.asked = 0
        self.takes: Callable[[int], float] = lambda _asked: 0.0
        """Seconds for a signature; infinity: it never comes."""
        self.result: Callable[[int, bytes], Any] = lambda _asked, signature: signature

    def _sign(self, signer: RemoteSigner, octets: bytes) -> Any:
        assert signer is HSM
        return self.result(self.asked, signing.sign(octets, KEY, "ES256"))

    def sign(self, signer: RemoteSigner, octets: bytes) -> Any:
        self.asked += 1
        self.clock.sleep(self.takes(self.asked))
        return self._sign(signer, octets)

    async def sign_async(self, signer: RemoteSigner, octets: bytes) -> Any:
        self.asked += 1
        await anyio.lowlevel.checkpoint()
        seconds = self.takes(self.asked)
        if seconds == math.inf:
            await anyio.sleep_forever()
        self.clock.sleep(seconds)
        return self._sign(signer, octets)

    def call(self, adapter: Adapter, use: Callable[[Any], Any], client: ClientConfig = CLIENT) -> Any:
        sign: Any = self.sign if isinstance(adapter, SyncAdapter) else self.sign_async

        def with_http(http: Any) -> Any:
            return use(adapter.adapter(self.provider, client, http=http, sign=sign, clock=self.clock))

        return adapter.with_session(with_http)

    @property
    def journal(self) -> list[str]:
        return [entry.outcome for entry in self.op.journal]


@pytest.fixture
def world() -> Iterator[World]:
    with LoopbackServer() as server:
        yield World(server)


def authenticate(ciba: Any) -> Any:
    return ciba.authenticate(REQUEST)


@over_some_adapters
@pytest.mark.parametrize("alg", [None, "ES256"], ids=["assertion", "request and assertion"])
def test_every_request_is_signed_elsewhere(adapter: Adapter, alg: str | None) -> None:
    """AUTH-19, CIBA-7.1.1-01: from the first request to the tokens."""
    with LoopbackServer() as server:
        world = World(server, alg)
        tokens = world.call(adapter, authenticate, CLIENT if alg is None else SIGNED)
    assert isinstance(tokens, TokenResponse)
    assert world.journal == ["acknowledged", "tokens"]
    assert world.asked == (2 if alg is None else 3)


@over_some_adapters
def test_a_login_that_is_signed_elsewhere(world: World, adapter: Adapter) -> None:
    """A login that keeps its state: drafts are no hindrance."""
    stores = memory_stores(time=world.clock.time)
    found = world.call(
        adapter, lambda ciba: ciba.login_backchannel(REQUEST, stores=stores, session_key="session")
    )
    assert isinstance(found.tokens, TokenResponse)
    assert world.journal == ["acknowledged", "tokens"]


@over_some_adapters
@pytest.mark.parametrize("seconds", [59.0, 61.0])
def test_a_slow_signature_at_a_poll(world: World, adapter: Adapter, seconds: float) -> None:
    """AUTH-19, promise 4: what has expired is not sent; the next poll is signed anew."""
    world.takes = lambda asked: seconds if asked == 2 else 0.0
    assert isinstance(world.call(adapter, authenticate), TokenResponse)
    assert world.journal == ["acknowledged", "tokens"]
    assert world.asked == (2 if seconds < 60 else 3)


@over_some_adapters
def test_a_slow_signature_of_the_first_request(world: World, adapter: Adapter) -> None:
    """AUTH-19: nothing is sent, and the error says so."""
    world.takes = lambda _asked: 61.0
    with pytest.raises(RequestNotSent, match="could not be signed"):
        world.call(adapter, authenticate)
    assert world.journal == []


@over_some_adapters
def test_signatures_that_take_until_the_end(world: World, adapter: Adapter) -> None:
    """CIBA-7.4-04, SM-21: however slow the HSM is, the authentication ends when its time is over."""
    world.takes = lambda asked: 0.0 if asked == 1 else 250.0
    with pytest.raises(AuthenticationExpired):
        world.call(adapter, authenticate)
    assert world.journal == ["acknowledged"]


@over_some_adapters
@pytest.mark.parametrize("wrong", [None, b"0" * 70, RuntimeError("pin=1234")], ids=["none", "DER", "raises"])
def test_what_is_no_signature(world: World, adapter: Adapter, wrong: Any) -> None:
    """AUTH-27, promise 4: a fault of the HSM at a poll costs that poll; at first, nothing was sent."""

    def result(asked: int, signature: bytes) -> Any:
        if asked != at:
            return signature
        if isinstance(wrong, Exception):
            raise wrong
        return wrong

    world.result, at = result, 2
    assert isinstance(world.call(adapter, authenticate), TokenResponse)
    assert (world.journal, world.asked) == (["acknowledged", "tokens"], 3)
    at = 4
    with pytest.raises(RequestNotSent) as caught:
        world.call(adapter, authenticate)
    assert "pin" not in str(caught.value)
    assert caught.value.__context__ is None


@over_some_async_adapters
@pytest.mark.parametrize("at", [1, 2])
def test_a_signature_that_never_comes(world: World, adapter: Adapter, at: int) -> None:
    """CIBA-7.4-04, SM-21: the call is given up when the signature would be of no use any more."""
    # A JWT's times are whole seconds: this one lives for a twentieth of one.
    world.clock.sleep(0.95 - world.clock.time() % 1)
    client = evolve(CLIENT, authentication=PrivateKeyJwt(HSM, lifetime=1))
    world.takes = lambda asked: math.inf if asked == at else 0.0
    if at == 1:
        with pytest.raises(RequestNotSent, match="it was not signed in time"):
            world.call(adapter, authenticate, client)
        assert world.journal == []
    else:
        assert isinstance(world.call(adapter, authenticate, client), TokenResponse)
        assert (world.journal, world.asked) == (["acknowledged", "tokens"], 3)


@over_some_async_adapters
def test_a_signature_for_a_refresh_that_never_comes(world: World, adapter: Adapter) -> None:
    """What comes after the tokens is bounded as well."""
    tokens = world.call(adapter, authenticate)
    tokens = evolve(tokens, refresh_token=tokens.access_token)
    world.clock.sleep(0.95 - world.clock.time() % 1)
    world.takes = lambda _asked: math.inf
    client = evolve(CLIENT, authentication=PrivateKeyJwt(HSM, lifetime=1))
    with pytest.raises(RequestNotSent, match="it was not signed in time"):
        world.call(adapter, lambda ciba: ciba.refresh(tokens), client)


def test_cancelled_while_it_is_signed(world: World) -> None:
    """SM-22: a signer that blocks is waited for; what it signed is not sent."""
    cancellation = Cancellation()

    def takes(_asked: int) -> float:
        cancellation.cancel()
        return 1.0

    world.takes = takes
    with pytest.raises(AuthenticationCancelled):
        world.call(SYNC[0], lambda ciba: ciba.authenticate(REQUEST, cancellation=cancellation))
    assert (world.asked, world.journal) == (1, [])

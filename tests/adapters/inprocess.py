"""Clients that speak to a simulated provider without a network, in virtual time."""

from __future__ import annotations

from typing import Final, Protocol

import anyio
import anyio.lowlevel

from ciba_adapters.client import AsyncClient, SyncClient
from ciba_adapters.transport import SendFailed
from ciba_core import ClientConfig, ClientSecretBasic, Delivery, HttpRequest, HttpResponse, ProviderMetadata
from ciba_core.testing import AnswerDropped

CLIENT: Final = ClientConfig("s6BhdRkqt3", ClientSecretBasic("gX1fBat3bV"))
PROVIDER: Final = ProviderMetadata(
    issuer="https://op.example",
    token_endpoint="https://op.example/token",
    backchannel_authentication_endpoint="https://op.example/bc-authorize",
    jwks_uri="https://op.example/jwks",
)


class Exchange(Protocol):
    """A simulated provider, or the way to it."""

    def send(self, request: HttpRequest) -> HttpResponse: ...


class InProcess:
    def __init__(self, http: Exchange) -> None:
        self._http = http

    def send(self, request: HttpRequest) -> HttpResponse:
        try:
            return self._http.send(request)
        except AnswerDropped as dropped:
            delivery = Delivery.UNKNOWN if dropped.acted else Delivery.NOT_SENT
        raise SendFailed(delivery, "AnswerDropped")


class AsyncInProcess:
    def __init__(self, http: Exchange) -> None:
        self._inner = InProcess(http)

    async def send(self, request: HttpRequest) -> HttpResponse:
        await anyio.lowlevel.checkpoint()
        return self._inner.send(request)

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


class SyncCiba(SyncClient[Exchange]):
    @staticmethod
    def make_transport(http: Exchange) -> InProcess:
        return InProcess(http)


class AsyncCiba(AsyncClient[Exchange]):
    @staticmethod
    def make_transport(http: Exchange) -> AsyncInProcess:
        return AsyncInProcess(http)

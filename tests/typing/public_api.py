"""What the type checkers have to see in the public names. Checked by mypy and pyright; never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from typing import assert_never, assert_type

import httpx
import requests

import ciba_adapters.httpx
import ciba_adapters.requests
from ciba_core import (
    AuthenticationRequest,
    Begin,
    ClientConfig,
    ClientSecretBasic,
    Guarded,
    HttpRequest,
    ProviderMetadata,
    Secret,
    Step,
    TokenResponse,
    Transaction,
    step,
)
from ciba_core.errors import AccessDenied, AuthenticationExpired, CibaError, ErrorResponse
from ciba_core.events import Event
from ciba_core.states import (
    Authenticated,
    AwaitingAcknowledgement,
    AwaitingKeys,
    Cancelled,
    Denied,
    Expired,
    Failed,
    FetchingKeys,
    New,
    Pending,
    Polling,
    Refused,
    SigningAuthentication,
    SigningPoll,
)


def core(client: ClientConfig, provider: ProviderMetadata) -> None:
    """A step is typed through and through."""
    request = AuthenticationRequest(scope=["openid", "profile"], login_hint="alice")
    assert_type(request.login_hint, Secret | None)
    current = step(Transaction(client=client, provider=provider), Begin(request), 0.0)
    assert_type(current, Step)
    assert_type(current.request, HttpRequest | None)
    assert_type(current.transaction.deadline, float | None)
    assert_type(current.transaction.tokens, TokenResponse | None)
    assert_type(current.transaction.error, CibaError | None)
    assert_type(current.events, tuple[Event, ...])


def states(transaction: Transaction) -> str:
    """A match over the states is complete, and a state has just its own members."""
    match transaction.state:
        case New() | SigningAuthentication() | AwaitingAcknowledgement():
            return "not yet"
        case (
            Pending(expires_at=expires_at)
            | SigningPoll(expires_at=expires_at)
            | Polling(expires_at=expires_at)
        ):
            assert_type(expires_at, float)
            return "pending"
        case FetchingKeys(untrusted=untrusted) | AwaitingKeys(untrusted=untrusted):
            assert_type(untrusted, Guarded[TokenResponse])
            return "nearly"
        case Authenticated(tokens=tokens):
            assert_type(tokens, TokenResponse)
            return "yes"
        case Denied(error=denied):
            assert_type(denied, AccessDenied)
            return "no"
        case Expired(error=expired):
            assert_type(expired, AuthenticationExpired)
            return "late"
        case Refused(error=refused):
            assert_type(refused, ErrorResponse)
            return "refused"
        case Failed(error=failed):
            assert_type(failed, CibaError)
            return "failed"
        case Cancelled():
            return "cancelled"
        case _:
            assert_never(transaction.state)


def sync_client(http: requests.Session) -> None:
    """The sync client of an adapter takes that library's session."""
    client = ClientConfig("me", ClientSecretBasic("secret"))
    ciba = ciba_adapters.requests.CibaClient.discover("https://op.example", client, http=http)
    assert_type(ciba, ciba_adapters.requests.CibaClient)
    request = AuthenticationRequest(scope="openid", login_hint="alice")
    assert_type(ciba.authenticate(request), TokenResponse)
    assert_type(ciba.initiate(request), Transaction)
    assert_type(ciba.run(request), Iterator[Event])
    ciba_adapters.requests.CibaClient(ciba.provider, client, http=httpx.Client())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def async_client(http: httpx.AsyncClient) -> None:
    """The async client of an adapter takes that library's session."""
    client = ClientConfig("me", ClientSecretBasic("secret"))
    ciba = await ciba_adapters.httpx.AsyncCibaClient.discover("https://op.example", client, http=http)
    request = AuthenticationRequest(scope="openid", login_hint="alice")
    assert_type(await ciba.authenticate(request), TokenResponse)
    assert_type(ciba.run(request), AsyncGenerator[Event, None])
    await ciba.resume(await ciba.initiate(request))

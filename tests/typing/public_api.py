"""What the type checkers have to see in the public names. Checked by mypy and pyright; never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from typing import assert_never, assert_type

import attrs
import httpx
import requests

import ciba_adapters.httpx
import ciba_adapters.requests
from ciba_adapters.stores import memory_stores
from ciba_core import (
    AsyncStores,
    AuthenticationRequest,
    Begin,
    ClientConfig,
    ClientSecretBasic,
    GrantAudit,
    Guarded,
    HttpRequest,
    ProviderMetadata,
    Secret,
    Session,
    Step,
    StoredRecord,
    Stores,
    TokenResponse,
    Transaction,
    UnsignedJwt,
    Verdict,
    binding_code,
    hints,
    profiles,
    step,
)
from ciba_core.errors import AccessDenied, AuthenticationExpired, CibaError, ErrorResponse
from ciba_core.events import Event
from ciba_core.states import (
    Authenticated,
    AwaitingAcknowledgement,
    AwaitingCallback,
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
        case New() | SigningAuthentication() | AwaitingAcknowledgement() | AwaitingCallback():
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


def profile(tokens: TokenResponse, signing: hints.LoginHintSigning) -> None:
    """Profiles, hints and the audit of a grant are typed as well."""
    mine = attrs.evolve(profiles.AUTH0, requested_expiry=(1, 300))
    client = ClientConfig("me", ClientSecretBasic("secret"), profile=mine)
    assert_type(hints.iss_sub("https://op.example/", "auth0|1"), Secret)
    AuthenticationRequest(
        scope=client.profile.scope,
        login_hint=hints.phone("+491701234567"),
        binding_message=binding_code(client.entropy),
    )
    subject = hints.SubjectIdentifier.email("alice@example.com")
    assert_type(signing.token(subject, now=0.0, entropy=client.entropy), UnsignedJwt)
    assert_type(hints.id_token_hint(tokens, policy=client.id_token), Secret)
    assert_type(tokens.grant, GrantAudit)
    assert_type([item.verdict for item in tokens.grant.items], list[Verdict])


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


class TenantStore:
    """A store whose author knows what the options are."""

    def load(self, key: str, *, store_options: str) -> StoredRecord | None:
        return StoredRecord(key, store_options)

    def save(
        self,
        key: str,
        text: str,
        *,
        expected_revision: str | None,
        forget_at: float | None,
        store_options: str,
    ) -> str:
        return f"{key} {text} {expected_revision} {forget_at} {store_options}"

    def remove(self, key: str, *, store_options: str) -> None:
        raise NotImplementedError


class AsyncTenantStore:
    """The same, awaited."""

    async def load(self, key: str, *, store_options: str) -> StoredRecord | None:
        return StoredRecord(key, store_options)

    async def save(
        self,
        key: str,
        text: str,
        *,
        expected_revision: str | None,
        forget_at: float | None,
        store_options: str,
    ) -> str:
        return f"{key} {text} {expected_revision} {forget_at} {store_options}"

    async def remove(self, key: str, *, store_options: str) -> None:
        raise NotImplementedError


def stored_login(ciba: ciba_adapters.requests.CibaClient, request: AuthenticationRequest) -> None:
    """Stores of anybody's making go into the login of a sync client, if they are not awaited."""
    stores = Stores(transactions=TenantStore(), sessions=TenantStore(), secrets=["secret"])
    session = ciba.login_backchannel(request, stores=stores, session_key="key", store_options="tenant")
    assert_type(session, Session)
    assert_type(session.user, tuple[str, str] | None)
    assert_type(ciba.resume_pending(stores=stores, session_key="key"), Session)
    assert_type(ciba.load_session(stores=stores, session_key="key"), Session | None)
    tokens = ciba.refresh(session.tokens)
    assert_type(ciba.renew_session(session, tokens, stores=stores, session_key="key"), Session)
    awaited = AsyncStores(transactions=AsyncTenantStore(), sessions=TenantStore(), secrets=[Secret("secret")])
    ciba.resume_pending(stores=awaited, session_key="key")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def async_stored_login(
    ciba: ciba_adapters.httpx.AsyncCibaClient, request: AuthenticationRequest
) -> None:
    """An async client takes stores of either kind."""
    stores = AsyncStores(transactions=AsyncTenantStore(), sessions=TenantStore(), secrets="secret")
    assert_type(await ciba.login_backchannel(request, stores=stores, session_key="key"), Session)
    assert_type(await ciba.resume_pending(stores=memory_stores(), session_key="key"), Session)
    assert_type(await ciba.load_session(stores=stores, session_key="key"), Session | None)

"""What all rows have in common: one client, one provider, one pending authentication, and a clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from ciba_core import (
    AuthenticationRequest,
    Begin,
    ClientConfig,
    ClientSecretBasic,
    HttpResponse,
    ProviderMetadata,
    ResponseReceived,
    TimerFired,
    Transaction,
    step,
)

CLIENT_ID: Final = "s6BhdRkqt3"
CLIENT_SECRET: Final = "7Fjfp0ZBr1KtDRbnfVdmIw"
AUTH_REQ_ID: Final = "1c266114-a1be-4252-8ad1-04986c5b9ac1"
INTERVAL: Final = 5
EXPIRES_IN: Final = 366 * 86400  # no row polls that often
ANSWER_HEADERS: Final = (
    ("Date", "Thu, 01 Jan 2026 00:00:00 GMT"),
    ("Content-Type", "application/json;charset=UTF-8"),
    ("Cache-Control", "no-store"),
    ("Pragma", "no-cache"),
)
PENDING_BODY: Final = b'{"error":"authorization_pending","error_description":"The user has not decided yet."}'
PENDING: Final = HttpResponse(400, ANSWER_HEADERS, PENDING_BODY)
FORM: Final = {"grant_type": "urn:openid:params:grant-type:ciba", "auth_req_id": AUTH_REQ_ID}
START: Final = 1_700_000_000.0

CLIENT: Final = ClientConfig(CLIENT_ID, ClientSecretBasic(CLIENT_SECRET))


def provider_at(url: str) -> ProviderMetadata:
    """Return the metadata of a provider whose endpoints are below `url`."""
    return ProviderMetadata(
        issuer=url,
        token_endpoint=f"{url}/token",
        backchannel_authentication_endpoint=f"{url}/bc-authorize",
        jwks_uri=f"{url}/jwks",
        allow_loopback_http=True,
    )


PROVIDER: Final = provider_at("https://server.example.com")


def acknowledgement_body(auth_req_id: str = AUTH_REQ_ID) -> bytes:
    """Return the acknowledgement of an authentication that lasts for a year."""
    text = f'{{"auth_req_id":"{auth_req_id}","expires_in":{EXPIRES_IN},"interval":{INTERVAL}}}'
    return text.encode()


def pending(
    provider: ProviderMetadata = PROVIDER,
    *,
    client: ClientConfig = CLIENT,
    now: float = START,
    auth_req_id: str = AUTH_REQ_ID,
) -> Transaction:
    """Return a transaction that waits for its first poll."""
    request = AuthenticationRequest(scope="openid", login_hint="alice")
    begun = step(Transaction(client=client, provider=provider), Begin(request), now).transaction
    response = HttpResponse(200, ANSWER_HEADERS, acknowledgement_body(auth_req_id))
    return step(begun, ResponseReceived(begun.requests, response, 0.1), now).transaction


def poll_once(transaction: Transaction) -> Transaction:
    """One poll cycle of the core: timer, request built, ``authorization_pending`` parsed, next deadline."""
    deadline = transaction.deadline
    assert deadline is not None
    sent = step(transaction, TimerFired(deadline), deadline)
    assert sent.request is not None
    return step(sent.transaction, ResponseReceived(sent.request.id, PENDING, 0.1), deadline).transaction


class VirtualWaits:
    """The clock of the clients: waits take no time, exchanges take the time that they take."""

    monotonic = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self._now = START

    def time(self) -> float:
        """Return the wall clock."""
        return self._now

    def sleep(self, seconds: float, /, until: Callable[[], bool] | None = None) -> None:  # noqa: ARG002  # nothing happens on the way
        """Move it on."""
        self._now += seconds

"""Where the tests of the core start from: the examples of CIBA Core, and a few steps into a transaction."""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import Any, Final

import attrs

from ciba_core import (
    AuthenticationRequest,
    Begin,
    ClientConfig,
    ClientSecretBasic,
    Delivery,
    HttpRequest,
    HttpResponse,
    IdTokenPolicy,
    Notification,
    NotificationReceived,
    PollingPolicy,
    ProviderMetadata,
    RequestFailed,
    ResponseReceived,
    Shared,
    Step,
    TimerFired,
    Transaction,
    step,
)
from ciba_core.client.request import Requested
from ciba_core.errors import Endpoint
from ciba_core.jose.key_import import Key
from ciba_core.jose.keys import KeySet
from ciba_core.jose.signing import compact, sign, signing_input
from ciba_core.notification import read_body
from ciba_core.provider.shared import NOTHING_SHARED
from ciba_core.states import AwaitingKeys, FetchingKeys, Pending, Polling
from ciba_core.tokens.issued import TokenResponse
from ciba_core.tokens.response import parse_token_response
from ciba_core.values.secret import Guarded
from tests.made_keys import import_key

NOW: Final = 1_537_819_486.0
AUTH_REQ_ID: Final = "1c266114-a1be-4252-8ad1-04986c5b9ac1"
Json = Mapping[str, object]

ACKNOWLEDGEMENT: Final[Json] = {"auth_req_id": AUTH_REQ_ID, "expires_in": 120, "interval": 2}
"""VEC-CORE-04."""
PROVIDER_JWK: Final[Json] = {
    "kty": "OKP",
    "crv": "Ed25519",
    "kid": "samples",
    "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
}
"""RFC 8037 A.1. A key on this curve signs the same octets the same way each time, and quickly."""
PROVIDER_KEY: Final = import_key(PROVIDER_JWK)
PUBLIC_JWK: Final[Json] = {name: PROVIDER_JWK[name] for name in ("kty", "crv", "kid", "x")}
JWKS: Final[Json] = {"keys": [PUBLIC_JWK]}
"""What the provider publishes at its ``jwks_uri``."""


def id_token(
    key: Key = PROVIDER_KEY, alg: str = "Ed25519", *, kid: str | None = "samples", **claims: Any
) -> str:
    """An ID Token for the client below, signed; a claim that is ``None`` is left out."""
    content = {
        "iss": "https://server.example.com",
        "sub": "248289761001",
        "aud": "s6BhdRkqt3",
        "iat": int(NOW),
        "exp": int(NOW) + 7200,
        **claims,
    }
    octets = signing_input(
        {name: value for name, value in {"alg": alg, "kid": kid}.items() if value is not None},
        {name: value for name, value in content.items() if value is not None},
    )
    return compact(octets, sign(octets, key, alg))


TOKENS: Final[Json] = {
    "access_token": "G5kXH2wHvUra0sHlDy1iTkDJgsgUO1bN",
    "token_type": "Bearer",
    "refresh_token": "4bwc0ESC_IAhflf-ACC_vjD_ltc11ne-8gFPfA2Kx16",
    "expires_in": 120,
    "id_token": id_token(),
}
"""VEC-CORE-06; the ID Token is one that can be verified, since the key of the standard's is not published."""
SHARED: Final = Shared(
    keys=KeySet(keys=(import_key(PUBLIC_JWK),), fetched_at=NOW - 86_400, fresh_until=NOW + 86_400)
)
"""The provider's keys are known."""


def zeros(count: int) -> bytes:
    """Entropy without any: the shortest back-off."""
    return bytes(count)


def ones(count: int) -> bytes:
    """The other extreme: the longest back-off."""
    return b"\xff" * count


CLIENT: Final = ClientConfig(
    "s6BhdRkqt3",
    ClientSecretBasic("7Fjfp0ZBr1KtDRbnfVdmIw"),
    id_token=IdTokenPolicy(signed_response_alg="Ed25519"),
    polling=PollingPolicy(safety_margin=0),
    entropy=zeros,
)
PROVIDER: Final = ProviderMetadata(
    issuer="https://server.example.com",
    token_endpoint="https://server.example.com/token",
    backchannel_authentication_endpoint="https://server.example.com/bc-authorize",
    jwks_uri="https://server.example.com/jwks",
)
REQUEST: Final = AuthenticationRequest(
    scope="openid email example-scope", login_hint="janedoe@example.com", binding_message="W4SCT"
)


def reply(
    status: int,
    body: Json | str | bytes = b"",
    *headers: tuple[str, str],
    media_type: str | None = "application/json",
) -> HttpResponse:
    """An answer; a mapping becomes JSON, text UTF-8."""
    if isinstance(body, Mapping):
        body = json.dumps(body)
    if isinstance(body, str):
        body = body.encode()
    content_type = () if media_type is None else (("Content-Type", media_type),)
    return HttpResponse(status, (*content_type, *headers), body)


def without(members: Json, *names: str) -> Json:
    """The members but for some."""
    return {name: value for name, value in members.items() if name not in names}


def sent(current: Step) -> HttpRequest:
    """The request of a step that has one."""
    assert current.request is not None
    return current.request


def answer(
    tx: Transaction,
    response: HttpResponse,
    *,
    elapsed: float = 0.0,
    now: float = NOW,
    shared: Shared = SHARED,
) -> Step:
    """The answer to the last request has arrived; the provider's keys are known, unless it is said otherwise."""
    return step(tx, ResponseReceived(tx.requests, response, elapsed), now, shared)


def fail(
    tx: Transaction, delivery: Delivery = Delivery.UNKNOWN, *, elapsed: float = 0.0, now: float = NOW
) -> Step:
    """The last request has failed."""
    return step(tx, RequestFailed(tx.requests, delivery, "ReadTimeout", elapsed), now)


def awaiting(
    request: AuthenticationRequest = REQUEST, *, client: ClientConfig = CLIENT, now: float = NOW
) -> Transaction:
    """A transaction whose authentication request was sent."""
    return step(Transaction(client=client, provider=PROVIDER), Begin(request), now).transaction


def pending(
    acknowledgement: Json = ACKNOWLEDGEMENT, *, client: ClientConfig = CLIENT, now: float = NOW
) -> Transaction:
    """A transaction that was acknowledged."""
    return answer(awaiting(client=client, now=now), reply(200, acknowledgement), now=now).transaction


def fire(tx: Transaction, *, now: float | None = None, shared: Shared = SHARED) -> Step:
    """The wait for the deadline is over; `now` is the deadline unless the wall clock says otherwise."""
    assert tx.deadline is not None
    return step(tx, TimerFired(tx.deadline), tx.deadline if now is None else now, shared)


def polling(
    acknowledgement: Json = ACKNOWLEDGEMENT, *, client: ClientConfig = CLIENT, now: float = NOW
) -> Transaction:
    """A transaction whose first poll was sent, at `now` plus one interval."""
    return fire(pending(acknowledgement, client=client, now=now)).transaction


def fetching(tokens: Json = TOKENS, *, client: ClientConfig = CLIENT, now: float = NOW) -> Transaction:
    """A transaction that has tokens, and asks for the keys to validate them by."""
    tx = answer(
        polling(client=client, now=now), reply(200, tokens), now=now, shared=NOTHING_SHARED
    ).transaction
    assert isinstance(tx.state, FetchingKeys)
    return tx


def awaiting_keys(tokens: Json = TOKENS, *, client: ClientConfig = CLIENT, now: float = NOW) -> Transaction:
    """A transaction that has tokens, and waits for its second try to get the keys."""
    tx = fail(fetching(tokens, client=client, now=now), now=now).transaction
    assert isinstance(tx.state, AwaitingKeys)
    return tx


def untrusted(tokens: Json = TOKENS) -> Guarded[TokenResponse]:
    """The tokens of an answer that nothing has vouched for yet."""
    parsed = parse_token_response(
        tokens,
        endpoint=Endpoint.TOKEN,
        requested_scope="openid",
        dpop_key=None,
        string_limit=65536,
        now=NOW,
        noted=[],
    )
    assert isinstance(parsed, Guarded)
    return parsed


NO_NUMBERS: Final[list[object]] = [
    "", " 5", "5 ", "+5", "-5", "5.0", "5e1", "0x5", "5_0", "five", "12345678901", "\u0665", "\u00b2", "\uff15",
]  # fmt: skip
"""Texts that are not read as a number, though some of them look like one."""
OPENID: Final = Requested(scope="openid")
"""The least that a transaction measures tokens against."""


def pending_state(tx: Transaction) -> Pending:
    """The state of a transaction that is pending."""
    assert isinstance(tx.state, Pending)
    return tx.state


def polling_state(tx: Transaction) -> Polling:
    """The state of a transaction with a poll under way."""
    assert isinstance(tx.state, Polling)
    return tx.state


# ---- ping and push

PING_CLIENT: Final = attrs.evolve(CLIENT, backchannel_token_delivery_mode="ping")
PUSH_CLIENT: Final = attrs.evolve(CLIENT, backchannel_token_delivery_mode="push")
NOTIFICATION_TOKEN: Final = "A" * 43
"""What becomes of 32 octets of `zeros`."""
PING: Final[Json] = {"auth_req_id": AUTH_REQ_ID}
"""VEC-CORE-07."""


def half_hash(token: object) -> str:
    """What ``at_hash`` has to be of a token, in an ID Token signed on the curve of the samples' key."""
    return urlsafe_b64encode(hashlib.sha512(str(token).encode()).digest()[:32]).decode().rstrip("=")


def pushed(*leave_out: str, **claims: Any) -> Json:
    """A push in the form of VEC-CORE-08, without some members and with other claims in its ID Token."""
    bindings: dict[str, Any] = {
        "at_hash": half_hash(TOKENS["access_token"]),
        "rt_hash": half_hash(TOKENS["refresh_token"]),
        "auth_req_id": AUTH_REQ_ID,
        **claims,
    }
    for short in ("rt_hash", "auth_req_id"):
        bindings[f"urn:openid:params:jwt:claim:{short}"] = bindings.pop(short)
    return without({**PING, **TOKENS, "id_token": id_token(**bindings)}, *leave_out)


def notification(members: Json = PING) -> Notification:
    """A callback as it arrives."""
    found = read_body(json.dumps(members).encode())
    assert isinstance(found, Notification)
    return found


def notify(tx: Transaction, members: Json = PING, *, now: float = NOW, shared: Shared = SHARED) -> Step:
    """The provider calls back."""
    return step(tx, NotificationReceived(notification(members)), now, shared)


def status(current: Step) -> int | None:
    """What a callback is answered with."""
    return None if current.answer is None else current.answer.status

"""What comes after the tokens: refresh, revocation, UserInfo, as values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

import pytest
from attrs import evolve
from joserfc import jwe
from joserfc.jwk import ECKey

from ciba_core import (
    AuthenticationRequest,
    Begin,
    Cancel,
    ClientConfig,
    ClientSecretBasic,
    Delivery,
    Guarded,
    HttpRequest,
    HttpResponse,
    Operation,
    OperationInput,
    OperationStep,
    PrivateKeyJwt,
    ProviderMetadata,
    Purpose,
    Refresh,
    RequestFailed,
    ResponseReceived,
    Revocation,
    Secret,
    Shared,
    SignaturesMade,
    SigningFailed,
    TimerFired,
    TlsClientAuth,
    TokenResponse,
    Transaction,
    UserInfo,
    step,
)
from ciba_core.client.registered import IdTokenPolicy, UserInfoPolicy
from ciba_core.errors import (
    CibaError,
    Endpoint,
    ErrorResponse,
    GrantDiffers,
    InsufficientScope,
    InvalidClient,
    InvalidDpopProof,
    InvalidGrant,
    InvalidRequest,
    InvalidToken,
    KeysUnavailable,
    LocalProtocolError,
    ProviderUnavailable,
    RefreshLost,
    RemoteProtocolError,
    RequestNotSent,
    TokensRejected,
    TransportError,
    UnsupportedTokenType,
)
from ciba_core.events import AnswerHeaders
from ciba_core.jose.dpop import DpopKey
from ciba_core.jose.encoding import base64url
from ciba_core.jose.keys import DecryptionKey, KeySet, SigningKey
from ciba_core.jose.signing import compact, half_hash, sign, signing_input
from ciba_core.jose.unsigned_jwt import RemoteSigner
from ciba_core.values.limits import Limits
from tests.jwt_samples import FAPI_JWK, FAPI_SIGNER, counter, opened
from tests.made_keys import hmac_key, import_key

NOW: Final = 1_800_000_000.0
ISSUER: Final = "https://op.example"
PROVIDER: Final = ProviderMetadata(
    issuer=ISSUER,
    token_endpoint=f"{ISSUER}/token",
    backchannel_authentication_endpoint=f"{ISSUER}/bc-authorize",
    jwks_uri=f"{ISSUER}/jwks",
    revocation_endpoint=f"{ISSUER}/revoke",
    userinfo_endpoint="https://resources.example/userinfo?a=b",
    mtls_endpoint_aliases={
        name: f"https://mtls.op.example/{name}" for name in ("token_endpoint", "userinfo_endpoint")
    },
)
CLIENT: Final = ClientConfig(
    "me",
    ClientSecretBasic("client-MARKER"),
    entropy=counter(),
    id_token=IdTokenPolicy(signed_response_alg="ES256"),
)
PUBLIC_JWK: Final = {name: value for name, value in FAPI_JWK.items() if name != "d"}
OTHER_KEY: Final = SigningKey.from_jwk(ECKey.generate_key("P-256").as_dict(private=True), alg="ES256")
CLAIMS: Final[dict[str, Any]] = {
    "iss": ISSUER,
    "sub": "alice",
    "aud": "me",
    "exp": int(NOW) + 300,
    "iat": int(NOW),
    "auth_time": int(NOW) - 50,
}
TOKENS: Final = TokenResponse(
    access_token=Secret("access-MARKER"),
    token_type="Bearer",
    expires_at=NOW,
    refresh_token=Secret("refresh-MARKER"),
    id_token=Secret("old.id.token"),
    id_token_claims={**CLAIMS, "iat": int(NOW) - 60},
    scope="openid email",
    authorization_details=({"type": "old"},),
    extra={},
)
DPOP_KEY: Final = DpopKey.generate(counter())
BOUND: Final = evolve(TOKENS, token_type="DPoP", dpop_key=DPOP_KEY)
NEW: Final = {"access_token": "new-MARKER", "token_type": "Bearer", "expires_in": 60}
REMOVED: Final = object()

ResultT = TypeVar("ResultT")


def jwt(claims: Mapping[str, Any], signer: SigningKey = FAPI_SIGNER) -> str:
    octets = signing_input({"alg": signer.alg, "kid": signer.kid}, claims)
    return compact(octets, signer.sign(octets))


def changed(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in {**CLAIMS, **changes}.items() if value is not REMOVED}


def reply(
    status: int,
    body: Mapping[str, Any] | str | bytes = b"",
    *headers: tuple[str, str],
    kind: str = "application/json",
) -> HttpResponse:
    octets = (
        body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
    )
    return HttpResponse(status, (("Content-Type", kind), *headers), octets)


JWKS: Final = reply(200, {"keys": [PUBLIC_JWK]})
KEYS: Final = Shared(keys=KeySet(keys=(import_key(PUBLIC_JWK),), fetched_at=NOW, fresh_until=NOW + 300))
KEYS_OLD_ENOUGH: Final = Shared(
    keys=KeySet(keys=(import_key(PUBLIC_JWK),), fetched_at=NOW - 100, fresh_until=NOW + 200)
)


def begun(operation: Operation[ResultT], shared: Shared = KEYS) -> OperationStep[ResultT]:
    return operation.start(NOW, shared)


def sent(current: OperationStep[Any]) -> HttpRequest:
    assert current.request is not None
    assert not current.is_finished
    return current.request


def feed(current: OperationStep[ResultT], *outcomes: HttpResponse | Delivery) -> OperationStep[ResultT]:
    """Answer one request after the other, and wait between them where that is asked for."""
    for outcome in outcomes:
        if current.deadline is not None:
            current = waited(current)
        number = sent(current).id
        happened: OperationInput
        if isinstance(outcome, HttpResponse):
            happened = ResponseReceived(number, outcome, 0.1)
        else:
            happened = RequestFailed(number, outcome, "ReadTimeout", 0.1)
        current = current.operation.proceed(happened, NOW, current.shared)
    return current


def waited(current: OperationStep[ResultT], shared: Shared | None = None) -> OperationStep[ResultT]:
    """The wait is over."""
    deadline = current.deadline
    assert deadline is not None
    assert not current.is_finished
    assert current.request is None
    assert current.draft is None
    known = current.shared if shared is None else shared
    return current.operation.proceed(TimerFired(deadline), deadline, known)


def form(request: HttpRequest) -> dict[str, str]:
    return dict(parse_qsl(request.body.decode(), strict_parsing=True))


def headers(request: HttpRequest) -> dict[str, str]:
    return dict(request.headers)


def outcome(
    operation: Operation[ResultT], *answers: HttpResponse | Delivery, shared: Shared = KEYS
) -> ResultT:
    finished = feed(begun(operation, shared), *answers)
    assert finished.is_finished
    assert finished.error is None
    late = finished.operation.proceed(ResponseReceived(1, reply(200), 0.0), NOW)
    assert (late.operation, late.request, late.is_finished) == (finished.operation, None, True)
    return finished.result  # type: ignore[return-value]


def failure(operation: Operation[Any], *answers: HttpResponse | Delivery, shared: Shared = KEYS) -> CibaError:
    finished = feed(begun(operation, shared), *answers)
    assert finished.is_finished
    assert finished.result is None
    assert finished.error is not None
    assert "MARKER" not in f"{finished!r} {finished.error} {finished.error!r}"
    return finished.error


def refresh(tokens: TokenResponse = TOKENS, *, client: ClientConfig = CLIENT, **more: Any) -> Refresh:
    return Refresh(tokens, client=client, provider=PROVIDER, **more)


def revocation(**more: Any) -> Revocation:
    return Revocation(Secret("token-MARKER"), client=CLIENT, provider=PROVIDER, **more)


def userinfo(tokens: TokenResponse = TOKENS, *, client: ClientConfig = CLIENT) -> UserInfo:
    return UserInfo(tokens, client=client, provider=PROVIDER)


# --- the steps of all operations


def test_operations_are_values_that_show_nothing() -> None:
    """Operations, steps and progress compare by content, and no token is in their repr."""
    operations: list[Operation[Any]] = [refresh(BOUND), revocation(), userinfo(BOUND)]
    for operation in operations:
        current = begun(operation)
        assert operation == evolve(operation)
        assert current.operation != operation
        assert "MARKER" not in f"{operation!r} {current!r} {current.operation.progress!r}"


def test_an_operation_is_started_once() -> None:
    """A second start, which would send the refresh token twice (RT-07), is refused."""
    with pytest.raises(LocalProtocolError, match="already"):
        begun(begun(refresh()).operation)


@pytest.mark.parametrize(
    "stray",
    [
        ResponseReceived(2, reply(200), 0.0),
        RequestFailed(0, Delivery.UNKNOWN, "Reset", 0.0),
        SignaturesMade(1, (b"",)),
        SigningFailed(1, "Timeout"),
    ],
)
def test_strays_are_refused(stray: OperationInput) -> None:
    """What was never issued is the driver's mistake and changes nothing."""
    for operation in (refresh(), begun(refresh()).operation):
        with pytest.raises(LocalProtocolError, match=r"no (request|draft) \d was"):
            operation.proceed(stray, NOW)


@pytest.mark.parametrize("elapsed", [-0.1, float("nan"), -float("inf")])
def test_elapsed_time_is_not_negative(elapsed: float) -> None:
    """As in `step`: an exchange that ended before it began is the driver's mistake."""
    lost = RequestFailed(1, Delivery.UNKNOWN, "Reset", elapsed)
    for happened in (ResponseReceived(1, reply(200), elapsed), lost):
        with pytest.raises(LocalProtocolError, match="elapsed"):
            begun(refresh()).operation.proceed(happened, NOW)


@pytest.mark.parametrize("now", [float("nan"), float("inf"), -float("inf")])
def test_times_that_are_none(now: float) -> None:
    """As in `step`: what is no instant is the driver's mistake and changes nothing."""
    operations: list[Operation[Any]] = [refresh(BOUND), revocation(), userinfo()]
    for operation in operations:
        with pytest.raises(LocalProtocolError, match="finite"):
            operation.start(now)
        with pytest.raises(LocalProtocolError, match="finite"):
            begun(operation).operation.proceed(ResponseReceived(1, reply(200), 0.0), now)


@pytest.mark.parametrize("operation", [refresh(), revocation(), userinfo()], ids=lambda o: type(o).__name__)
def test_what_was_not_sent(operation: Operation[Any]) -> None:
    """A request that never left can be sent again: the error says so."""
    assert isinstance(failure(operation, Delivery.NOT_SENT), RequestNotSent)


def test_remote_signer() -> None:
    """A client assertion by a key outside of the process makes the request a draft first."""
    client = evolve(CLIENT, authentication=PrivateKeyJwt(RemoteSigner("hsm", alg="ES256", kid="k")))
    current = begun(refresh(client=client))
    assert current.draft is not None
    assert not current.is_finished
    assert current.draft.purpose is Purpose.REFRESH
    with pytest.raises(LocalProtocolError, match="signatures"):
        current.operation.proceed(SignaturesMade(1, ()), NOW)
    signed = current.operation.proceed(SignaturesMade(1, (bytes(64),)), NOW, current.shared)
    assert form(sent(signed))["grant_type"] == "refresh_token"
    assert opened(form(sent(signed))["client_assertion"])[1]["aud"] == ISSUER
    assert feed(signed, reply(200, NEW)).result is not None
    failed = current.operation.proceed(SigningFailed(1, "Timeout"), NOW, current.shared)
    assert isinstance(failed.error, RequestNotSent)
    assert failed.is_finished
    for signature, now, reason in (
        (None, NOW, "a signature must be bytes"),
        (bytes(70), NOW, "a signature with ES256 has 64 octets (R and S of equal length, not DER), not 70"),
        (bytes(64), NOW + 60, "it was signed too late"),
    ):
        given: Any = SignaturesMade(1, (signature,))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        failed = current.operation.proceed(given, now, current.shared)
        assert isinstance(failed.error, RequestNotSent)
        assert (failed.is_finished, failed.error.reason, failed.error.__context__) == (True, reason, None)
        assert failed.shared is current.shared
    with pytest.raises(LocalProtocolError):
        current.operation.proceed(ResponseReceived(1, reply(200), 0.0), NOW)


def test_a_local_signer_that_raises() -> None:
    """Promise 6: the request is not sent, and nothing of the text shows."""

    class Token:
        alg = "ES256"
        kid = None

        def sign(self, _octets: bytes, /) -> bytes:
            raise RuntimeError("pin=1234")

    current = begun(refresh(client=evolve(CLIENT, authentication=PrivateKeyJwt(Token()))))
    assert isinstance(current.error, RequestNotSent)
    assert str(current.error) == "the request could not be signed (RuntimeError)"
    assert (current.is_finished, current.error.__cause__, current.error.__context__) == (True, None, None)


def test_local_signer() -> None:
    """RT-01, REV-01: a client assertion by a key of the process, a new one for each request."""
    client = evolve(CLIENT, authentication=PrivateKeyJwt(FAPI_SIGNER))
    first, second = (form(sent(begun(evolve(revocation(), client=client)))) for _ in range(2))
    assert opened(first["client_assertion"])[1]["sub"] == "me"
    assert first["client_assertion"] != second["client_assertion"]


def test_aliases_for_mutual_tls() -> None:
    """MTLS-05, RT-10: with a client certificate, the aliases are called where there are any."""
    client = evolve(CLIENT, authentication=TlsClientAuth())
    assert sent(begun(refresh(client=client))).url == "https://mtls.op.example/token_endpoint"
    assert form(sent(begun(refresh(client=client))))["client_id"] == "me"
    assert sent(begun(userinfo(client=client))).url == "https://mtls.op.example/userinfo_endpoint"
    revoke = evolve(revocation(), client=client)
    assert sent(begun(revoke)).url == f"{ISSUER}/revoke"


# --- refresh


def test_refresh_request() -> None:
    """RT-01: an authenticated form with grant type and refresh token; a scope when less is asked for."""
    request = sent(begun(refresh()))
    assert (request.method, request.url, request.purpose) == ("POST", f"{ISSUER}/token", Purpose.REFRESH)
    assert form(request) == {"grant_type": "refresh_token", "refresh_token": "refresh-MARKER"}
    assert headers(request)["Authorization"].startswith("Basic ")
    assert "DPoP" not in headers(request)
    assert form(sent(begun(refresh(scope="email"))))["scope"] == "email"


@pytest.mark.parametrize("scope", ["phone", "openid phone", "openid  email"])
def test_scope_beyond_the_grant(scope: str) -> None:
    """RT-01: more than was granted is not asked for."""
    with pytest.raises(LocalProtocolError, match="scope"):
        begun(refresh(scope=scope))


def test_tokens_that_cannot_be_refreshed() -> None:
    """RT-01, RT-10: without refresh token, or without the key of bound tokens, nothing is sent."""
    with pytest.raises(LocalProtocolError, match="refresh token"):
        begun(refresh(evolve(TOKENS, refresh_token=None)))
    with pytest.raises(LocalProtocolError, match="dpop_key"):
        begun(refresh(evolve(BOUND, dpop_key=None)))


def test_rotation() -> None:
    """RT-02: a new refresh token replaces the old one; without one the old one stays."""
    assert outcome(refresh(), reply(200, {**NEW, "refresh_token": "next"})).refresh_token == Secret("next")
    assert outcome(refresh(), reply(200, NEW)).refresh_token == TOKENS.refresh_token


def test_refresh_without_id_token() -> None:
    """RT-03: ID Token, claims, scope and details stay as they were where the answer has none."""
    tokens = outcome(refresh(), reply(200, NEW))
    assert tokens == evolve(
        TOKENS,
        access_token=Secret("new-MARKER"),
        expires_at=NOW + 60,
        grant=tokens.grant,
        original=TOKENS.original_grant,
    )
    assert [item.name for item in tokens.grant.items] == ["scope", "token_type", "authorization_details"]
    assert tokens.differs_in == ()


def test_narrower_scope() -> None:
    """RT-01, TOK-06: what was asked for holds where the answer names no scope; else the answer does."""
    assert outcome(refresh(scope="email"), reply(200, NEW)).scope == "email"
    assert outcome(refresh(), reply(200, {**NEW, "scope": "openid"})).scope == "openid"
    details = outcome(refresh(), reply(200, {**NEW, "authorization_details": [{"type": "new"}]}))
    assert details.authorization_details == ({"type": "new"},)
    assert details.differs_in == ("authorization_details",)


@pytest.mark.parametrize(
    "changes",
    [
        {"refresh_token": None},
        {"refresh_token": ""},
        {"id_token": None},
        {"id_token": ""},
        {"expires_in": "3600"},
        {"scope": ["openid", "email"]},
        {"error": None},
    ],
)
def test_refreshed_tokens_in_other_words(changes: dict[str, Any]) -> None:
    """RT-01, RT-05: a refresh is read as leniently as the first answer; the old refresh token stays."""
    tokens = outcome(refresh(), reply(201, {**NEW, **changes}, kind=""))
    assert tokens.access_token == Secret(str(NEW["access_token"]))
    assert tokens.refresh_token == Secret("refresh-MARKER")
    assert tokens.scope == "openid email"


def test_a_scope_that_is_not_told_after_a_refresh() -> None:
    """RT-01, TOK-06: nobody knows what all of it is; whoever asks for a part lets the provider decide."""
    untold = outcome(refresh(), reply(200, {**NEW, "scope": None}))
    assert untold.differs_in == ("scope",)
    first = evolve(untold, original=None)
    assert outcome(refresh(first), reply(200, NEW)).differs_in == ("scope",)
    asked = begun(refresh(first, scope="phone"))
    assert form(sent(asked))["scope"] == "phone"


def test_scope_that_was_granted_at_first() -> None:
    """RT-01, RFC 6749 6: after a narrower refresh, all of it may be asked for again, and no more."""
    narrow = outcome(refresh(scope="email"), reply(200, NEW))
    assert form(sent(begun(refresh(narrow, scope="email openid"))))["scope"] == "email openid"
    assert outcome(refresh(narrow), reply(200, NEW)).scope == "openid email"
    wide = outcome(refresh(narrow, scope="openid email"), reply(200, NEW))
    assert (wide.scope, wide.differs_in) == ("openid email", ())
    with pytest.raises(LocalProtocolError, match="scope"):
        begun(refresh(wide, scope="openid phone"))
    wider = outcome(refresh(), reply(200, {**NEW, "scope": "openid email phone"}))
    with pytest.raises(LocalProtocolError, match="scope"):
        begun(refresh(wider, scope="phone"))


@pytest.mark.parametrize(
    ("asked", "granted", "added", "missing"),
    [
        (None, "openid email phone", ("phone",), ()),
        (None, "openid", (), ("email",)),
        ("openid", "openid email", ("email",), ()),
        ("openid", "email", ("email",), ("openid",)),
        ("openid", "", (), ("openid",)),
    ],
)
def test_refreshed_tokens_bring_an_audit_along(
    asked: str | None, granted: str, added: tuple[str, ...], missing: tuple[str, ...]
) -> None:
    """TOK-06, RT-01: what a refresh asked for is compared with what it got, and who insists gets an error."""
    tokens = outcome(refresh(scope=asked), reply(200, {**NEW, "scope": granted}))
    item = tokens.grant.item("scope")
    assert item is not None
    assert (item.added, item.missing) == (added, missing)
    with pytest.raises(GrantDiffers, match="scope"):
        tokens.require_as_requested("scope")


def test_push_clients_refresh_like_others() -> None:
    """RT-11: the CIBA grant is closed to push clients, the token endpoint is not."""
    push = evolve(CLIENT, backchannel_token_delivery_mode="push")
    request = sent(begun(refresh(client=push)))
    assert (request.method, request.url) == ("POST", PROVIDER.token_endpoint)
    assert form(request) == {"grant_type": "refresh_token", "refresh_token": "refresh-MARKER"}
    # CIBA's own claims, which a push has to have, are not demanded (RT-09).
    tokens = outcome(refresh(client=push), reply(200, {**NEW, "id_token": jwt(CLAIMS)}))
    assert (tokens.access_token, tokens.id_token_claims) == (Secret("new-MARKER"), CLAIMS)


def test_claims_are_those_of_the_first_id_token() -> None:
    """RT-04, RT-05: a refreshed ID Token that has fewer claims is no measure of the ones after it."""
    tokens = evolve(TOKENS, id_token_claims=changed(nonce="n", iat=int(NOW) - 60))
    less = {**NEW, "id_token": jwt(changed(auth_time=REMOVED))}
    second = outcome(refresh(tokens), reply(200, less))
    assert second.id_token_claims == changed(auth_time=REMOVED)
    same = {**NEW, "id_token": jwt(changed(nonce="n"))}
    third = outcome(refresh(second), reply(200, same))
    assert third.id_token_claims == changed(nonce="n")
    other = {**NEW, "id_token": jwt(changed(auth_time=int(NOW) - 1))}
    error = failure(refresh(outcome(refresh(second), reply(200, NEW))), reply(200, other))
    assert isinstance(error, TokensRejected)
    assert error.rule == "OpenID Connect Core 12.2: auth_time"


@pytest.mark.parametrize(
    ("changes", "claim"),
    [
        *(({name: REMOVED}, name) for name in ("iss", "sub", "aud", "iat")),
        ({"sub": 1}, "sub"),
        ({"aud": [5]}, "aud"),
        ({"aud": 5}, "aud"),
        ({"iat": True}, "iat"),
        ({"iat": "1"}, "iat"),
    ],
)
def test_claims_that_nothing_can_be_compared_with(changes: dict[str, Any], claim: str) -> None:
    """RT-04: tokens made by hand, without claims that every ID Token has, are not sent."""
    with pytest.raises(LocalProtocolError, match=f"no usable {claim}$"):
        begun(refresh(evolve(TOKENS, id_token_claims=changed(**changes))))


def test_new_id_token() -> None:
    """RT-04, RT-05, RT-09: a new ID Token that goes with the first one replaces it, without CIBA's claims."""
    text = jwt(changed(at_hash=half_hash("ES256", "new-MARKER")))
    tokens = outcome(refresh(), reply(200, {**NEW, "id_token": text}))
    assert tokens.id_token == Secret(text)
    assert tokens.id_token_claims is not None
    assert tokens.id_token_claims["iat"] == int(NOW)


@pytest.mark.parametrize(
    ("original", "changes"),
    [
        ({}, {"auth_time": REMOVED}),
        ({"auth_time": REMOVED}, {}),
        ({"nonce": "n"}, {"nonce": "n"}),
        ({"nonce": "n"}, {}),
        ({"azp": "me"}, {"azp": "me"}),
        ({"aud": ["me"]}, {"aud": "me"}),
    ],
)
def test_what_may_differ_in_a_new_id_token(original: dict[str, Any], changes: dict[str, Any]) -> None:
    """RT-04, RT-05: absent ``auth_time`` and ``nonce`` are fine, and so is the same ``nonce``, strictly read."""
    client = evolve(CLIENT, id_token=evolve(CLIENT.id_token, forbid_unexpected_nonce=True))
    tokens = evolve(TOKENS, id_token_claims=changed(**original))
    text = jwt(changed(**changes))
    refreshed = outcome(refresh(tokens, client=client), reply(200, {**NEW, "id_token": text}))
    assert refreshed.id_token == Secret(text)


SOFT: list[tuple[dict[str, Any], str]] = [
    ({"auth_time": int(NOW) - 1}, "auth_time"),
    ({"azp": "me"}, "azp"),
    ({"nonce": "n"}, "nonce"),
]


@pytest.mark.parametrize(("changes", "claim"), SOFT)
def test_claims_that_a_policy_lets_differ(changes: dict[str, Any], claim: str) -> None:
    """RT-04, RT-05: some providers set them anew; the first ID Token stays what later ones are compared with."""
    lax = evolve(CLIENT, id_token=evolve(CLIENT.id_token, may_differ_after_refresh=(claim,)))
    answer = reply(200, {**NEW, "id_token": jwt(changed(**changes))})
    tokens = outcome(refresh(client=lax), answer)
    assert tokens.id_token_claims == changed(**changes)
    assert tokens.original_grant.id_token_claims == TOKENS.id_token_claims
    others = tuple({"auth_time", "azp", "nonce"} - {claim})
    other = evolve(CLIENT, id_token=evolve(CLIENT.id_token, may_differ_after_refresh=others))
    error = failure(refresh(client=other), answer)
    assert isinstance(error, TokensRejected)
    assert error.rule == f"OpenID Connect Core 12.2: {claim}"
    both = reply(200, {**NEW, "id_token": jwt(changed(**changes, sub="mallory"))})
    assert isinstance(failure(refresh(client=lax), both), TokensRejected)


@pytest.mark.parametrize("claim", ["iss", "sub", "aud", "iat", "exp", "x"])
def test_claims_that_no_policy_lets_differ(claim: str) -> None:
    """RT-04: whose the tokens are is no matter of policy."""
    with pytest.raises(ValueError, match="may_differ_after_refresh must be of auth_time, azp, nonce"):
        evolve(CLIENT.id_token, may_differ_after_refresh=(claim,))


@pytest.mark.parametrize(
    "answer",
    [
        *({"id_token": jwt(changed(**changes))} for changes, _ in SOFT),
        {"id_token": jwt(changed(exp=int(NOW) - 100))},
        {"id_token": "x"},
        {"token_type": "mac"},
        {"expires_in": "soon"},
    ],
)
def test_a_rotated_refresh_token_outlives_the_refusal(answer: dict[str, Any]) -> None:
    """RT-02: the provider takes the old one for used up; the next refresh goes by the new one."""
    error = failure(refresh(), reply(200, {**NEW, "refresh_token": "next", **answer}))
    assert isinstance(error, TokensRejected)
    kept = error.kept(TOKENS)
    assert kept == evolve(TOKENS, refresh_token=Secret("next"))
    assert form(sent(begun(refresh(kept))))["refresh_token"] == "next"
    without = failure(refresh(), reply(200, {**NEW, **answer}))
    assert isinstance(without, TokensRejected)
    assert without.kept(TOKENS) == TOKENS


def test_a_rotated_refresh_token_outlives_keys_that_cannot_be_had() -> None:
    """RT-02: an ID Token that nobody can validate now says nothing against the refresh token."""
    awaited = feed(
        begun(refresh(), Shared()), reply(200, {**NEW, "refresh_token": "next", "id_token": jwt(CLAIMS)})
    )
    error = awaited.operation.proceed(Cancel(), NOW, awaited.shared).error
    assert isinstance(error, KeysUnavailable)
    assert error.kept(TOKENS) == evolve(TOKENS, refresh_token=Secret("next"))


@pytest.mark.parametrize(
    "changes", [{"sub": "mallory"}, {"iss": "https://other.example"}, {"aud": "other"}, {"sub": 7}]
)
def test_the_refresh_token_of_somebody_else(changes: dict[str, Any]) -> None:
    """RT-04: what comes with another's ID Token is not kept in the place of one's own."""
    error = failure(refresh(), reply(200, {**NEW, "refresh_token": "x", "id_token": jwt(changed(**changes))}))
    assert isinstance(error, TokensRejected)
    with pytest.raises(LocalProtocolError, match="another user's"):
        error.kept(TOKENS)


@pytest.mark.parametrize(
    ("changes", "member"),
    [
        ({"sub": "mallory"}, "sub"),
        ({"iss": "https://other.example"}, "iss"),
        ({"aud": "other"}, "aud"),
        ({"aud": ["me", "friend"]}, "aud"),
        ({"azp": "me"}, "azp"),
        ({"iat": int(NOW) - 61}, "iat"),
        ({"auth_time": int(NOW) - 1}, "auth_time"),
        ({"nonce": "n"}, "nonce"),
        ({"exp": int(NOW) - 100}, "exp"),
        ({"at_hash": "x"}, "at_hash"),
        ({"urn:openid:params:jwt:claim:rt_hash": "x"}, "rt_hash"),
    ],
)
def test_new_id_token_that_does_not_go_with_the_first(changes: dict[str, Any], member: str) -> None:
    """RT-04, RT-05: another user, audience or login is refused, and the answer kept under guard."""
    policy = evolve(CLIENT.id_token, trusted_audiences=("friend",))
    operation = refresh(client=evolve(CLIENT, id_token=policy))
    body = {**NEW, "refresh_token": "next", "id_token": jwt(changed(**changes))}
    error = failure(operation, reply(200, body))
    assert isinstance(error, TokensRejected)
    assert error.rule.endswith(f": {member}")
    assert error.untrusted.reveal_untrusted().refresh_token == Secret("next")


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("iss", "https://old.example"),
        ("sub", "mallory"),
        ("aud", ["me", "friend"]),
        ("azp", "me"),
        ("iat", int(NOW) + 1),
        ("auth_time", int(NOW) - 51),
        ("nonce", "another"),
    ],
)
def test_the_first_id_token_is_the_measure(claim: str, value: object) -> None:
    """RT-04, RT-05: a new ID Token that would pass by itself has to go with the first one in each claim."""
    new = jwt(changed(nonce="n"))
    first = evolve(TOKENS, id_token_claims=changed(**{"iat": int(NOW) - 60, "nonce": "n", claim: value}))
    error = failure(refresh(first), reply(200, {**NEW, "id_token": new}))
    assert isinstance(error, TokensRejected)
    assert error.rule == f"OpenID Connect Core 12.2: {claim}"
    unchanged = evolve(first, id_token_claims=changed(nonce="n", iat=int(NOW)))
    assert outcome(refresh(unchanged), reply(200, {**NEW, "id_token": new})).id_token == Secret(new)


def test_new_id_token_under_the_client_secret() -> None:
    """RT-04, IDT-09: with HS* the secret verifies a new ID Token like the first one; no keys are needed."""
    secret = "client-MARKER-" + "0" * 32
    policy = IdTokenPolicy(signed_response_alg="HS256")
    client = evolve(CLIENT, authentication=ClientSecretBasic(secret), id_token=policy)
    octets = signing_input({"alg": "HS256"}, CLAIMS)
    text = compact(octets, sign(octets, hmac_key(secret, "HS256"), "HS256"))
    tokens = outcome(refresh(client=client), reply(200, {**NEW, "id_token": text}), shared=Shared())
    assert tokens.id_token_claims == CLAIMS


def test_first_id_token() -> None:
    """RT-04: tokens that came without ID Token may get one; there is nothing to compare it with."""
    tokens = evolve(TOKENS, id_token=None, id_token_claims=None, scope="email")
    refreshed = outcome(refresh(tokens), reply(200, {**NEW, "id_token": jwt(CLAIMS)}))
    assert refreshed.id_token_claims == CLAIMS
    # From then on it is the first one.
    other = reply(200, {**NEW, "id_token": jwt(changed(sub="mallory"))})
    assert isinstance(failure(refresh(refreshed), other), TokensRejected)


def test_keys_are_fetched_for_a_new_id_token() -> None:
    """RT-04: the key set is asked for where it is not known, again when that fails, and remembered."""
    answer = reply(200, {**NEW, "id_token": jwt(CLAIMS)})
    current = feed(begun(refresh(), Shared()), answer)
    assert (sent(current).purpose, sent(current).url, sent(current).id) == (Purpose.KEYS, f"{ISSUER}/jwks", 2)
    with pytest.raises(LocalProtocolError, match="already"):
        begun(current.operation)
    done = feed(current, Delivery.UNKNOWN, reply(503), JWKS)
    assert done.result is not None
    assert done.shared.keys is not None


def test_keys_that_cannot_be_had() -> None:
    """RT-07: after a minute of tries the answer, and the next refresh token in it, is in the error."""
    answer = reply(200, {**NEW, "refresh_token": "next", "id_token": jwt(CLAIMS)})
    client = evolve(CLIENT, entropy=bytes)
    current = feed(begun(refresh(client=client), Shared()), answer)
    now, waits = NOW, list[float]()
    while True:
        failed = RequestFailed(sent(current).id, Delivery.UNKNOWN, "ReadTimeout", 0.0)
        happened = ResponseReceived(sent(current).id, reply(404), 0.0) if len(waits) == 7 else failed
        current = current.operation.proceed(happened, now, current.shared)
        if current.is_finished:
            break
        assert current.deadline is not None
        assert "MARKER" not in f"{current!r} {current.operation!r} {current.operation.progress!r}"
        waits.append(current.deadline - now)
        now = current.deadline
        current = waited(current)
        assert sent(current).purpose is Purpose.KEYS
    assert waits == [1, 2, 4, 8, 15, 15, 15]
    error = current.error
    assert isinstance(error, KeysUnavailable)
    assert error.reason == "key set: status 404 [OpenID Connect Discovery 3: jwks_uri]"
    assert error.untrusted.reveal_untrusted().refresh_token == Secret("next")


def test_retry_after_of_the_key_set() -> None:
    """RFC 9110 10.2.3: a provider that is busy says when to come again."""
    answer = reply(200, {**NEW, "id_token": jwt(CLAIMS)})
    current = feed(begun(refresh(), Shared()), answer, reply(503, "", ("Retry-After", "25")))
    assert current.deadline == NOW + 25


def cancelled(current: OperationStep[Any]) -> TransportError:
    """Give an operation up, and return the error, whose class says how far it had come."""
    ended = current.operation.proceed(Cancel(), NOW, current.shared)
    assert ended.is_finished
    assert ended.result is None
    assert ended.shared is current.shared
    assert ended.operation.proceed(Cancel(), NOW, current.shared) == ended
    assert isinstance(ended.error, TransportError)
    assert ended.error.reason == "cancelled"
    return ended.error


def test_cancelled_refresh() -> None:
    """RT-07: whether the refresh token is good after a refresh that was given up is what the error says."""
    client = evolve(CLIENT, authentication=PrivateKeyJwt(RemoteSigner("hsm", alg="ES256", kid="k")))
    assert type(cancelled(begun(refresh(client=client)))) is RequestNotSent
    assert type(cancelled(begun(refresh()))) is RefreshLost
    answer = reply(200, {**NEW, "refresh_token": "next", "id_token": jwt(CLAIMS)})
    fetching = feed(begun(refresh(), Shared()), answer)
    for current in fetching, feed(fetching, Delivery.UNKNOWN):
        error = cancelled(current)
        assert isinstance(error, KeysUnavailable)
        assert error.untrusted.reveal_untrusted().refresh_token == Secret("next")


def test_cancelled_operations_that_can_be_repeated() -> None:
    """UI-04, REV-06: of what is lost when it is given up, claims can be asked for and tokens revoked again."""
    operations: list[Operation[Any]] = [revocation(), userinfo(), userinfo(client=SIGNED)]
    for operation in operations:
        assert type(cancelled(begun(operation))) is TransportError
    claims = feed(begun(userinfo(client=SIGNED), Shared()), as_jwt(jwt(BASIC_CLAIMS)))
    assert type(cancelled(claims)) is TransportError


def test_nothing_to_cancel() -> None:
    """An operation that was not begun is given up without a request; and not begun after that."""
    ended = refresh().proceed(Cancel(), NOW)
    assert isinstance(ended.error, RequestNotSent)
    assert ended.is_finished
    with pytest.raises(LocalProtocolError, match="already"):
        ended.operation.start(NOW)


def test_keys_that_others_fetch_meanwhile() -> None:
    """JWKS-02: at the end of a wait, and when the request fails, keys at hand are used."""
    answer = reply(200, {**NEW, "id_token": jwt(CLAIMS)})
    current = feed(begun(refresh(), Shared()), answer)
    lost = RequestFailed(sent(current).id, Delivery.UNKNOWN, "Reset", 0.1)
    assert current.operation.proceed(lost, NOW, KEYS).result is not None
    waiting = current.operation.proceed(lost, NOW, Shared())
    for found in (waited(waiting, KEYS), waited(waiting, KEYS_OLD_ENOUGH)):
        assert found.is_finished
        assert found.result is not None
        assert found.operation.deadline is None


def test_only_the_timer_that_is_due() -> None:
    """A timer of another time, or an answer that nobody waits for any more, changes nothing."""
    answer = reply(200, {**NEW, "id_token": jwt(CLAIMS)})
    waiting = feed(begun(refresh(), Shared()), answer, Delivery.UNKNOWN)
    deadline = waiting.operation.deadline
    assert deadline is not None
    fetching = waited(waiting)
    for operation, stray in (
        (waiting.operation, TimerFired(deadline + 1)),
        (waiting.operation, ResponseReceived(2, JWKS, 0.0)),
        (fetching.operation, TimerFired(deadline)),
        (refresh(), TimerFired(NOW)),
    ):
        after = operation.proceed(stray, NOW)
        assert (after.operation, after.request, after.draft) == (operation, None, None)


def test_keys_that_do_not_fit() -> None:
    """RT-04: an unknown key is looked for once, and not at all where there is no place for it."""
    stranger = SigningKey.from_jwk({**ECKey.generate_key("P-256").as_dict(private=True), "kid": "unknown"})
    answer = reply(200, {**NEW, "id_token": jwt(CLAIMS, stranger)})
    without = evolve(refresh(), provider=evolve(PROVIDER, jwks_uri=None))
    for error in (
        failure(refresh(), answer, JWKS, shared=KEYS_OLD_ENOUGH),
        failure(without, answer, shared=Shared()),
    ):
        assert isinstance(error, TokensRejected)
        assert error.rule == "OpenID Connect Core 10.1.1"


def test_every_key_that_fits() -> None:
    """JWKS-02: by the setting, a kid that is in no key set costs one fetch, at a refresh and at UserInfo too."""
    unnamed = SigningKey.from_jwk({**FAPI_JWK, "kid": "nobody"})
    every = IdTokenPolicy(signed_response_alg="ES256", try_every_key=True)
    lax = evolve(CLIENT, id_token=every, userinfo=UserInfoPolicy(signed_response_alg="ES256"))
    strict = evolve(lax, id_token=evolve(every, try_every_key=False))
    tokens = reply(200, {**NEW, "id_token": jwt(CLAIMS, unnamed)})
    claims = reply(200, jwt({"iss": ISSUER, "aud": "me", "sub": "alice"}, unnamed), kind="application/jwt")
    assert outcome(refresh(client=lax), tokens, JWKS, shared=KEYS_OLD_ENOUGH).id_token_claims == CLAIMS
    assert outcome(userinfo(client=lax), claims, JWKS, shared=KEYS_OLD_ENOUGH)["sub"] == "alice"
    for answer, operation in ((tokens, refresh(client=strict)), (claims, userinfo(client=strict))):
        error = failure(operation, answer, JWKS, shared=KEYS_OLD_ENOUGH)
        assert isinstance(error, RemoteProtocolError)
        assert error.rule == "OpenID Connect Core 10.1.1"


def test_a_rotation_a_moment_after_the_keys_were_fetched() -> None:
    """RT-04, JWKS-02, JWKS-03: new tokens by a new key wait until the set may be fetched again."""
    answer = reply(200, {**NEW, "refresh_token": "next", "id_token": jwt(CLAIMS)})
    young = Shared(keys=KeySet((), NOW - 3, NOW + 300))
    held = feed(begun(refresh(), young), answer)
    assert held.operation.deadline == NOW + 7
    assert not held.is_finished
    fetched = feed(held, JWKS)
    assert fetched.result is not None
    assert fetched.result.refresh_token == Secret("next")
    rejected = feed(held, reply(200, {"keys": []})).error
    assert isinstance(rejected, TokensRejected)
    assert rejected.untrusted.reveal_untrusted().refresh_token == Secret("next")


def test_forged_id_token() -> None:
    """RT-04: the signature of a new ID Token counts like that of the first."""
    forged = SigningKey.from_jwk(
        {**ECKey.generate_key("P-256").as_dict(private=True), "kid": FAPI_JWK["kid"]}
    )
    error = failure(refresh(), reply(200, {**NEW, "id_token": jwt(CLAIMS, forged)}))
    assert isinstance(error, TokensRejected)
    assert "(6)" in error.rule


@pytest.mark.parametrize(
    "lost",
    [
        Delivery.UNKNOWN,
        reply(500),
        reply(502, "<html>"),
        reply(504),
        reply(504, {"error": "Gateway Timeout"}),
        reply(500, {"error": "server_error"}),
        reply(200, '{"access_token": "cut'),
        reply(200, b" " * ((1 << 20) + 1)),
        reply(200, NEW, ("X", "x" * (64 << 10))),
    ],
    ids=[
        "timeout",
        "500",
        "502",
        "504",
        "504 with an error",
        "500 with an error",
        "cut",
        "too large",
        "header fields too large",
    ],
)
def test_lost_refresh(lost: HttpResponse | Delivery) -> None:
    """RT-07: when the answer is lost the refresh token may be used up: never repeated, and said so."""
    assert isinstance(failure(refresh(), lost), RefreshLost)


@pytest.mark.parametrize("status", [408, 425, 429, 503])
def test_busy_provider(status: int) -> None:
    """RT-06: a provider that did not act on the request is unavailable; the refresh token lives on."""
    for body in (b"", b'{"error": "rate limited"}', b'{"error": "too_many_requests"}'):
        error = failure(refresh(), reply(status, body, ("Retry-After", "7")))
        assert isinstance(error, ProviderUnavailable)
        assert (error.status, error.retry_after) == (status, 7.0)


@pytest.mark.parametrize(
    ("code", "cls"),
    [
        ("invalid_grant", InvalidGrant),
        ("invalid_client", InvalidClient),
        ("invalid_dpop_proof", InvalidDpopProof),
        ("use_dpop_nonce", ErrorResponse),
        ("whatever", ErrorResponse),
    ],
)
def test_refresh_errors(code: str, cls: type[CibaError]) -> None:
    """RT-06: error codes have their classes; a nonce is of no use to who sends no proof."""
    error = failure(refresh(), reply(400, {"error": code}, ("DPoP-Nonce", "n")))
    assert type(error) is cls
    assert isinstance(error, ErrorResponse)
    assert (error.error, error.endpoint) == (code, Endpoint.TOKEN)


@pytest.mark.parametrize(
    "answer",
    [
        reply(302, {"error": "invalid_grant"}),
        reply(200, "[]"),
        reply(400, "{}"),
        reply(400, {"error": 7}),
    ],
)
def test_refresh_answers_that_break_the_protocol(answer: HttpResponse) -> None:
    """RT-06, TOK-04: what is no token response and no error response is a violation."""
    assert type(failure(refresh(), answer)) is RemoteProtocolError


@pytest.mark.parametrize(
    "changes",
    [
        {"token_type": "mac"},
        {"token_type": "DPoP"},
        {"token_type": None},
        {"expires_in": "soon"},
        {"scope": 5},
        {"id_token": 5},
    ],
)
def test_refresh_token_of_a_broken_answer(changes: dict[str, Any]) -> None:
    """RT-07, TOK-04: where refresh tokens are rotated, a broken rule does not lose the new one."""
    error = failure(refresh(), reply(200, {**NEW, "refresh_token": "next-MARKER", **changes}))
    assert isinstance(error, TokensRejected)
    assert error.untrusted.reveal_untrusted().refresh_token == Secret("next-MARKER")
    revoke = Revocation.of(error.untrusted, client=CLIENT, provider=PROVIDER)
    assert form(sent(begun(revoke)))["token"] == "next-MARKER"


# --- DPoP


def proof(request: HttpRequest) -> dict[str, Any]:
    header, claims = opened(headers(request)["DPoP"])
    assert (
        header["jwk"]
        == opened(DPOP_KEY.proof(method="GET", url="https://a", now=NOW, jti=bytes(12)))[0]["jwk"]
    )
    return claims


def test_refresh_of_bound_tokens() -> None:
    """RT-10, DPOP-08, DPOP-11, DPOP-15: proof by the same key; the result is bound to it as well."""
    request = sent(begun(refresh(BOUND), KEYS.with_dpop_nonce(ISSUER, "known")))
    claims = proof(request)
    assert (claims["htm"], claims["htu"], claims["nonce"]) == ("POST", f"{ISSUER}/token", "known")
    assert "ath" not in claims
    done = feed(begun(refresh(BOUND)), reply(200, {**NEW, "token_type": "dpop"}, ("DPoP-Nonce", "next")))
    assert done.result is not None
    assert done.result.dpop_key == DPOP_KEY
    assert done.shared.dpop_nonces[ISSUER] == "next"


def test_tokens_of_a_transaction_carry_their_key() -> None:
    """DPOP-22: what a transaction got can be used as it is, and after it was stored; the key stays secret."""
    client = evolve(CLIENT, dpop_bound_access_tokens=True)
    current = step(
        Transaction(client=client, provider=PROVIDER),
        Begin(AuthenticationRequest(scope="a", login_hint="b", openid=False)),
        NOW,
    )
    for answer in ({"auth_req_id": "x", "expires_in": 60}, {**NEW, "token_type": "DPoP"}):
        transaction = current.transaction
        current = step(transaction, ResponseReceived(transaction.requests, reply(200, answer), 0.0), NOW)
        if current.transaction.deadline is not None:
            current = step(current.transaction, TimerFired(current.transaction.deadline), NOW)
    done = current.transaction
    assert done.tokens is not None
    assert done.tokens.dpop_key is not None
    assert done.tokens.dpop_key == done.dpop_key
    assert Transaction.from_json(done.to_json(), client=client, provider=PROVIDER) == done
    private = json.loads(done.tokens.dpop_key.to_secret().reveal())["d"]
    assert private not in done.to_json_parts()[0] + repr(done)


def test_bound_tokens_stay_bound() -> None:
    """DPOP-09: a Bearer token for a proof is discarded."""
    error = failure(refresh(BOUND), reply(200, NEW))
    assert isinstance(error, TokensRejected)
    assert error.rule == "RFC 6749 7.1, RFC 9449 5"


def test_nonce_at_the_token_endpoint() -> None:
    """DPOP-13, DPOP-14, DPOP-04: one repeat with the nonce and a new proof; then it is an error."""
    challenge = reply(400, {"error": "use_dpop_nonce"}, ("DPoP-Nonce", "n1"))
    first = begun(refresh(BOUND))
    second = feed(first, challenge)
    before, after = proof(sent(first)), proof(sent(second))
    assert "nonce" not in before
    assert after["nonce"] == "n1"
    assert before["jti"] != after["jti"]
    assert sent(second).id == 2
    assert feed(second, reply(200, {**NEW, "token_type": "DPoP"})).result is not None
    error = feed(second, challenge).error
    assert isinstance(error, ErrorResponse)
    assert error.error == "use_dpop_nonce"


@pytest.mark.parametrize("nonce", [(), (("DPoP-Nonce", "a b"),)])
def test_nonce_that_is_none(nonce: tuple[tuple[str, str], ...]) -> None:
    """DPOP-14, DPOP-18: a challenge without a usable nonce breaks the protocol."""
    error = failure(refresh(BOUND), reply(400, {"error": "use_dpop_nonce"}, *nonce))
    assert isinstance(error, RemoteProtocolError)
    assert error.rule == "RFC 9449 8"


def test_userinfo_with_a_bound_token() -> None:
    """DPOP-05, DPOP-07, DPOP-10, DPOP-16: scheme DPoP, proof with ``ath``, the nonce of that server alone."""
    shared = KEYS.with_dpop_nonce(ISSUER, "of the provider").with_dpop_nonce(
        "https://resources.example", "own"
    )
    request = sent(begun(userinfo(BOUND), shared))
    assert headers(request)["Authorization"] == "DPoP access-MARKER"
    claims = proof(request)
    assert (claims["htm"], claims["htu"]) == ("GET", "https://resources.example/userinfo")
    assert claims["nonce"] == "own"
    assert claims["ath"] == base64url(hashlib.sha256(b"access-MARKER").digest())


def test_nonce_at_the_resource() -> None:
    """DPOP-17: the challenge of a resource server is met once."""
    challenge = reply(
        401, b"", ("WWW-Authenticate", 'DPoP error="use_dpop_nonce", algs="ES256"'), ("DPoP-Nonce", "n1")
    )
    second = feed(begun(userinfo(BOUND)), challenge)
    assert proof(sent(second))["nonce"] == "n1"
    assert feed(second, reply(200, {"sub": "alice"})).result == {"sub": "alice"}
    assert type(feed(second, challenge).error) is ErrorResponse


@pytest.mark.parametrize(
    "answer",
    [
        reply(401, b"", ("WWW-Authenticate", 'Bearer error="invalid_token", DPoP error="use_dpop_nonce"')),
        reply(
            401,
            b"",
            ("WWW-Authenticate", 'Bearer error="invalid_token"'),
            ("WWW-Authenticate", 'DPoP error="use_dpop_nonce"'),
        ),
        reply(401, {"error": "use_dpop_nonce"}),
        reply(400, {"error": "use_dpop_nonce"}),
    ],
)
def test_nonce_at_the_resource_among_other_things(answer: HttpResponse) -> None:
    """DPOP-17: the challenge of the scheme in use counts, wherever it stands."""
    asked = evolve(answer, headers=(*answer.headers, ("DPoP-Nonce", "n1")))
    assert proof(sent(feed(begun(userinfo(BOUND)), asked)))["nonce"] == "n1"


def test_nonce_of_an_answer_to_a_request_without_proof() -> None:
    """DPOP-15: the nonce that came with a revocation is the one for the next request to that server."""
    revoked = feed(begun(revocation()), reply(200, b"", ("DPoP-Nonce", "n1")))
    assert proof(sent(begun(refresh(BOUND), revoked.shared)))["nonce"] == "n1"


def test_key_of_bound_tokens_is_needed() -> None:
    """DPOP-10: a bound token without its key is not sent."""
    with pytest.raises(LocalProtocolError, match="dpop_key"):
        begun(userinfo(evolve(BOUND, dpop_key=None)))


# --- revocation


def test_revocation_request() -> None:
    """REV-01, REV-03: an authenticated form with the token and, if wanted, what kind it is."""
    request = sent(begun(revocation(token_type_hint="access_token")))
    assert (request.method, request.url, request.purpose) == ("POST", f"{ISSUER}/revoke", Purpose.REVOCATION)
    assert form(request) == {"token": "token-MARKER", "token_type_hint": "access_token"}
    assert headers(request)["Authorization"].startswith("Basic ")
    assert form(sent(begun(revocation()))) == {"token": "token-MARKER"}


def test_hint_that_is_none() -> None:
    """REV-01: there are two hints."""
    with pytest.raises(ValueError, match="token_type_hint"):
        revocation(token_type_hint="id_token")


def test_provider_without_the_endpoint() -> None:
    """REV-01, UI-01: what the provider does not offer is not asked for."""
    bare = evolve(PROVIDER, revocation_endpoint=None, userinfo_endpoint=None)
    with pytest.raises(LocalProtocolError, match="revocation_endpoint"):
        begun(evolve(revocation(), provider=bare))
    with pytest.raises(LocalProtocolError, match="userinfo_endpoint"):
        begun(evolve(userinfo(), provider=bare))


@pytest.mark.parametrize("tokens", [TOKENS, Guarded(TOKENS)])
def test_revocation_of_tokens(tokens: TokenResponse | Guarded[TokenResponse]) -> None:
    """REV-06: of tokens, validated or not, the refresh token goes and takes the others along."""
    request = sent(begun(Revocation.of(tokens, client=CLIENT, provider=PROVIDER)))
    assert form(request) == {"token": "refresh-MARKER", "token_type_hint": "refresh_token"}


def test_the_revocation_endpoint_has_a_list_of_its_own() -> None:
    """REV-03: a method that it does not take is refused before any I/O; where it lists none, any is tried."""

    def revocation(methods: tuple[str, ...] | None) -> Revocation:
        provider = evolve(PROVIDER, revocation_endpoint_auth_methods_supported=methods)
        return Revocation(Secret("x"), client=CLIENT, provider=provider)

    for good in (None, ("private_key_jwt", "client_secret_basic")):
        assert revocation(good).start(NOW).request is not None
    with pytest.raises(
        LocalProtocolError, match=r"^authentication: .*revocation_endpoint_auth_methods_supported"
    ):
        revocation(("private_key_jwt",)).start(NOW)


def test_revocation_of_an_access_token() -> None:
    """REV-06: without refresh token the access token goes."""
    tokens = evolve(TOKENS, refresh_token=None)
    request = sent(begun(Revocation.of(tokens, client=CLIENT, provider=PROVIDER)))
    assert form(request) == {"token": "access-MARKER", "token_type_hint": "access_token"}


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"<html>", b'{"error": "invalid_token"}', b" " * ((1 << 20) + 1)]
)
def test_revoked(body: bytes) -> None:
    """REV-02: 200 is done, whatever the body; so is 204, which has none."""
    assert outcome(revocation(), reply(200, body, kind="text/html")) is None
    assert outcome(revocation(), reply(204)) is None


@pytest.mark.parametrize(
    ("answer", "cls"),
    [
        (reply(400, {"error": "unsupported_token_type"}), UnsupportedTokenType),
        (reply(401, {"error": "invalid_client"}), InvalidClient),
        (reply(400, {"error": "invalid_request"}), InvalidRequest),
        (reply(400, {"error": "whatever"}), ErrorResponse),
        (reply(503, {"error": "whatever"}), ProviderUnavailable),
        (reply(500), ProviderUnavailable),
        (reply(202), RemoteProtocolError),
        (reply(404, "<html>"), RemoteProtocolError),
        (reply(302, {"error": "invalid_client"}), RemoteProtocolError),
        (reply(400, b" " * ((1 << 20) + 1)), RemoteProtocolError),
        (Delivery.UNKNOWN, TransportError),
    ],
)
def test_revocation_errors(answer: HttpResponse | Delivery, cls: type[CibaError]) -> None:
    """REV-04, REV-05: each failure has its class."""
    assert type(failure(revocation(), answer)) is cls


def test_revocation_at_a_busy_provider() -> None:
    """REV-05: with 503 the token lives on, and the provider says when to come back."""
    error = failure(revocation(), reply(503, b"", ("Retry-After", "120")))
    assert isinstance(error, ProviderUnavailable)
    assert error.retry_after == 120.0


# --- UserInfo


def test_userinfo_request() -> None:
    """UI-01: a GET with the access token in its header and no client authentication."""
    request = sent(begun(userinfo()))
    assert (request.method, request.url, request.body) == ("GET", PROVIDER.userinfo_endpoint, b"")
    assert request.purpose is Purpose.USERINFO
    assert headers(request) == {"Accept": "application/json", "Authorization": "Bearer access-MARKER"}


def test_plain_claims() -> None:
    """UI-03, UI-07: a JSON object, read-only."""
    claims = outcome(userinfo(), reply(200, {"sub": "alice", "address": {"country": "Österreich"}}))
    assert claims == {"sub": "alice", "address": {"country": "Österreich"}}
    with pytest.raises(TypeError):
        claims["sub"] = "mallory"  # type: ignore[index]


@pytest.mark.parametrize(
    "claims", [{}, {"sub": "Alice"}, {"sub": "alice "}, {"sub": ["alice"]}, {"sub": None}]
)
def test_claims_of_somebody_else(claims: dict[str, Any]) -> None:
    """UI-02: without exactly the ID Token's ``sub`` there are no claims."""
    error = failure(userinfo(), reply(200, claims))
    assert isinstance(error, RemoteProtocolError)
    assert error.rule == "OpenID Connect Core 5.3.2: sub"


def test_nobody_to_compare_with() -> None:
    """UI-02: tokens without ID Token, or without its ``sub``, cannot be used for it."""
    for claims in (None, {}, {"iss": ISSUER}, {"sub": 1}):
        with pytest.raises(LocalProtocolError, match="ID Token"):
            begun(userinfo(evolve(TOKENS, id_token_claims=claims)))


@pytest.mark.parametrize("token", ["", "a b", "a ", "a\r\nX-Evil: 1", "a\0", "é"])
def test_token_that_no_header_field_can_carry(token: str) -> None:
    """UI-01, RFC 6750 2.1: tokens made by hand, or refused ones, do not get as far as the HTTP stack."""
    with pytest.raises(LocalProtocolError, match=r"^tokens: access_token cannot .* \(RFC 6750 2\.1\)$"):
        begun(userinfo(evolve(TOKENS, access_token=Secret(token))))


@pytest.mark.parametrize(
    ("status", "challenge", "cls", "description"),
    [
        (
            401,
            'Bearer realm="x", error="invalid_token", error_description="\\"old\\""',
            InvalidToken,
            '"old"',
        ),
        (403, "Bearer error=insufficient_scope", InsufficientScope, None),
        (400, 'bearer error = "invalid_request" ,', InvalidRequest, None),
        (401, 'Basic realm="a, error=b", Bearer error="invalid_token"', InvalidToken, None),
        (401, 'Bearer, DPoP error="invalid_dpop_proof"', InvalidDpopProof, None),
        (401, 'Bearer error="other', ErrorResponse, None),
        (401, "Bearer", InvalidToken, None),
        (401, 'DPoP algs="ES256"', InvalidToken, None),
    ],
)
def test_userinfo_errors(status: int, challenge: str, cls: type[CibaError], description: str | None) -> None:
    """UI-06: the code stands in the challenge, among others perhaps."""
    error = failure(userinfo(), reply(status, b"", ("X", "error=x"), ("www-authenticate", challenge)))
    assert type(error) is cls
    assert isinstance(error, ErrorResponse)
    assert (error.status, error.endpoint, error.error_description) == (status, Endpoint.USERINFO, description)


@pytest.mark.parametrize(
    ("answer", "cls"),
    [
        (reply(401), InvalidToken),
        (reply(401, {"error": "invalid_token"}), InvalidToken),
        (reply(401, {"error": "Unauthorized", "status": 401}), InvalidToken),
        (reply(401, {"error": ["invalid_token"]}), InvalidToken),
        (reply(401, {"message": "no"}), InvalidToken),
        (reply(401, "<html>", kind="text/html"), InvalidToken),
        (reply(403, {"error": "insufficient_scope"}), InsufficientScope),
        (reply(403), RemoteProtocolError),
        (reply(403, {"error": "Forbidden"}), RemoteProtocolError),
        (reply(302), RemoteProtocolError),
        (reply(302, {"error": "invalid_token"}), RemoteProtocolError),
        (reply(200, "[]"), RemoteProtocolError),
        (reply(200, "<html>", kind="text/html"), RemoteProtocolError),
        (reply(204), RemoteProtocolError),
        (reply(200, jwt(CLAIMS), kind="application/jwt"), RemoteProtocolError),
        (reply(200, b" " * ((1 << 20) + 1)), RemoteProtocolError),
        (reply(503), ProviderUnavailable),
        (Delivery.UNKNOWN, TransportError),
    ],
)
def test_answers_without_claims(answer: HttpResponse | Delivery, cls: type[CibaError]) -> None:
    """UI-03, UI-06: each failure has its class."""
    assert type(failure(userinfo(), answer)) is cls


@pytest.mark.parametrize("kind", ["text/plain", "text/html", "application/jwt", "text/json", ""])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_plain_claims_of_any_media_type(kind: str, mark: str) -> None:
    """UI-01: the body decides; where signed claims were registered, plain ones are refused all the same."""
    answer = reply(200, mark + json.dumps({"sub": "alice"}), kind=kind)
    assert outcome(userinfo(), answer) == {"sub": "alice"}
    refused = failure(userinfo(client=SIGNED), answer)
    assert isinstance(refused, RemoteProtocolError)


SIGNED: Final = evolve(CLIENT, userinfo=UserInfoPolicy(signed_response_alg="ES256"))
BASIC_CLAIMS: Final = {"iss": ISSUER, "aud": "me", "sub": "alice", "name": "Älice"}


def as_jwt(text: str) -> HttpResponse:
    return reply(200, text, kind="application/jwt")


@pytest.mark.parametrize("aud", ["me", ["me"], ["other", "me"]])
def test_signed_claims(aud: object) -> None:
    """UI-03, UI-04: a JWT by the registered algorithm, from the issuer, to the client."""
    operation = userinfo(client=SIGNED)
    assert headers(sent(begun(operation)))["Accept"] == "application/jwt"
    assert outcome(operation, as_jwt(jwt({**BASIC_CLAIMS, "aud": aud})))["name"] == "Älice"


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"iss": "https://other.example"}, "OpenID Connect Core 5.3.2: iss"),
        ({"aud": "other"}, "OpenID Connect Core 5.3.2: aud"),
        ({"aud": ["other"]}, "OpenID Connect Core 5.3.2: aud"),
        ({"aud": None}, "OpenID Connect Core 5.3.2: aud"),
        ({"sub": "mallory"}, "OpenID Connect Core 5.3.2: sub"),
    ],
)
def test_signed_claims_that_are_wrong(changes: dict[str, Any], rule: str) -> None:
    """UI-02, UI-04: issuer, audience and user are checked."""
    error = failure(userinfo(client=SIGNED), as_jwt(jwt({**BASIC_CLAIMS, **changes})))
    assert isinstance(error, RemoteProtocolError)
    assert error.rule == rule


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"exp": int(NOW) - 59, "nbf": int(NOW) + 60}, None),
        ({"exp": int(NOW) - 60}, "RFC 7519 4.1.4: exp"),
        ({"exp": "soon"}, "RFC 7519 4.1.4: exp"),
        ({"exp": True}, "RFC 7519 4.1.4: exp"),
        ({"nbf": int(NOW) + 61}, "RFC 7519 4.1.5: nbf"),
        ({"nbf": "0"}, "RFC 7519 4.1.5: nbf"),
        ({"nbf": None}, None),
        ({"exp": None}, "RFC 7519 4.1.4: exp"),
    ],
)
def test_times_of_signed_claims(changes: dict[str, Any], rule: str | None) -> None:
    """UI-04, RFC 7519 4.1.4, 4.1.5: neither has to be there; where one is, it holds, give or take a minute."""
    current = feed(begun(userinfo(client=SIGNED)), as_jwt(jwt({**BASIC_CLAIMS, **changes})))
    assert (current.result is not None) == (rule is None)
    assert getattr(current.error, "rule", None) == rule


@pytest.mark.parametrize(
    "answer",
    [
        reply(200, BASIC_CLAIMS),
        as_jwt("a.b"),
        as_jwt("ä.ä.ä"),
        as_jwt(jwt(BASIC_CLAIMS)[:-6] + "AAAAAA"),
        as_jwt("a" * ((64 << 10) + 1)),
    ],
)
def test_what_is_not_signed(answer: HttpResponse) -> None:
    """UI-04, UI-05: once signing is registered nothing else is taken."""
    assert type(failure(userinfo(client=SIGNED), answer)) is RemoteProtocolError


def test_keys_are_fetched_for_signed_claims() -> None:
    """UI-04: the key set is asked for; without it there are no claims."""
    answer = as_jwt(jwt(BASIC_CLAIMS))
    operation = userinfo(client=SIGNED)
    assert outcome(operation, answer, JWKS, shared=Shared())["sub"] == "alice"
    begin = feed(begun(operation, Shared()), answer)
    lost = RequestFailed(sent(begin).id, Delivery.UNKNOWN, "ReadTimeout", 100.0)
    assert type(begin.operation.proceed(lost, NOW + 100).error) is TransportError
    unknown = failure(operation, answer, reply(200, {"keys": []}), shared=Shared())
    assert isinstance(unknown, RemoteProtocolError)
    assert unknown.rule == "OpenID Connect Core 10.1.1"


def test_another_issuer_that_is_expected() -> None:
    """UI-04, IDT-03: what was set by hand is the measure, exactly, and the issuer of the metadata no more."""
    provider = evolve(PROVIDER, expected_issuer="https://old.example")
    operation = UserInfo(TOKENS, client=SIGNED, provider=provider)
    told = as_jwt(jwt({**BASIC_CLAIMS, "iss": "https://old.example"}))
    assert outcome(operation, told)["sub"] == "alice"
    error = failure(operation, as_jwt(jwt(BASIC_CLAIMS)))
    assert isinstance(error, RemoteProtocolError)
    assert error.rule == "OpenID Connect Core 5.3.2: iss"


ENCRYPTION_KEY: Final = ECKey.generate_key("P-256")
ENCRYPTION: Final[dict[str, Any]] = {
    "encrypted_response_alg": "ECDH-ES",
    "decryption_keys": (DecryptionKey.from_jwk(ENCRYPTION_KEY.as_dict(private=True)),),
}


def encrypted(text: str) -> HttpResponse:
    header = {"alg": "ECDH-ES", "enc": "A128CBC-HS256"}
    return as_jwt(jwe.encrypt_compact(header, text, ENCRYPTION_KEY, algorithms=list(header.values())))


def test_encrypted_claims() -> None:
    """UI-03, UI-05: encrypted claims, and signed ones inside, as was registered."""
    client = evolve(CLIENT, userinfo=UserInfoPolicy(**ENCRYPTION))
    text = json.dumps(BASIC_CLAIMS, ensure_ascii=False)
    assert outcome(userinfo(client=client), encrypted(text)) == BASIC_CLAIMS
    both = evolve(CLIENT, userinfo=UserInfoPolicy(**ENCRYPTION, signed_response_alg="ES256"))
    assert outcome(userinfo(client=both), encrypted(jwt(BASIC_CLAIMS))) == BASIC_CLAIMS
    for broken, refusing in (
        (encrypted("[]"), client),
        (encrypted(text), both),
        (as_jwt(jwt(BASIC_CLAIMS)), both),
        (reply(200, BASIC_CLAIMS), client),
    ):
        assert type(failure(userinfo(client=refusing), broken)) is RemoteProtocolError


@pytest.mark.parametrize("alg", [None, "ES256"])
def test_the_length_of_encrypted_claims_is_bounded(alg: str | None) -> None:
    """HTTP-05, UI-05: by the client's limit for strings, whether the claims are signed besides or not."""
    policy = UserInfoPolicy(**ENCRYPTION, signed_response_alg=alg)
    answer = encrypted(json.dumps(BASIC_CLAIMS) if alg is None else jwt(BASIC_CLAIMS))
    for string, accepted in ((len(answer.body), True), (len(answer.body) - 1, False)):
        client = evolve(CLIENT, userinfo=policy, limits=Limits(string=string))
        if accepted:
            assert outcome(userinfo(client=client), answer) == BASIC_CLAIMS
        else:
            error = failure(userinfo(client=client), answer)
            assert isinstance(error, RemoteProtocolError)
            assert error.rule == "size limit"


def test_policy_needs_its_secret() -> None:
    """UI-04: HMAC and symmetric encryption need a client secret in the configuration."""
    assert not UserInfoPolicy().needs_client_secret
    assert not UserInfoPolicy(**ENCRYPTION).needs_client_secret
    for policy in (UserInfoPolicy(signed_response_alg="HS256"), UserInfoPolicy(encrypted_response_alg="dir")):
        assert policy.needs_client_secret
        with pytest.raises(ValueError, match="userinfo"):
            evolve(CLIENT, authentication=TlsClientAuth(), userinfo=policy)


ECHOED = ("x-fapi-interaction-id", "c770aef3")


def test_header_fields_of_answers() -> None:
    """FAPI: on events and on errors, as a transaction has them."""
    kept = {ECHOED[0]: ECHOED[1]}
    good = feed(begun(refresh()), reply(200, NEW, ECHOED))
    assert good.error is None
    assert good.events[-1] == AnswerHeaders(kept)
    bad = feed(begun(revocation()), HttpResponse(503, [ECHOED], b""))
    assert bad.error is not None
    assert bad.error.answer_headers == kept
    assert bad.events == (AnswerHeaders(kept),)


def test_header_fields_of_the_clients_own() -> None:
    """A gateway wants its key with each request, whatever it is for."""
    client = evolve(CLIENT, headers={"X-Key": "hush"}, headers_to=["resources.example"])
    for operation in (
        refresh(client=client),
        userinfo(client=client),
        evolve(revocation(), client=client),
    ):
        assert headers(sent(begun(operation)))["X-Key"] == "hush"

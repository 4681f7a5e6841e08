"""Promise 6: no secret shows, whatever value of the library it is in, whichever way that is shown."""

from __future__ import annotations

import json
import pickle
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest

from ciba_core import (
    AuthenticationRequest,
    Begin,
    Cancel,
    ClientConfig,
    ClientSecretBasic,
    ClientSecretJwt,
    ClientSecretPost,
    CredentialsContext,
    Delivery,
    Discovery,
    Draft,
    Guarded,
    HttpResponse,
    MetadataDocument,
    Notification,
    NotificationReceived,
    PrivateKeyJwt,
    Received,
    RemoteSigner,
    RequestFailed,
    RequestSigning,
    ResponseReceived,
    Routes,
    Secret,
    Shared,
    SignaturesMade,
    SigningFailed,
    SigningKey,
    Step,
    TimerFired,
    Transaction,
    UnsignedJwt,
    receive,
    step,
)
from ciba_core.client.request import Requested
from ciba_core.errors import (
    CibaError,
    Endpoint,
    ErrorResponse,
    KeysUnavailable,
    RemoteProtocolError,
    TokensRejected,
)
from ciba_core.jose.dpop import DpopKey
from ciba_core.notification import NotificationRejected, token_hash
from ciba_core.states import AwaitingKeys, FetchingKeys, SigningPoll

from .samples import (
    CLIENT,
    JWKS,
    NOW,
    PROVIDER,
    SHARED,
    answer,
    awaiting,
    fail,
    fire,
    id_token,
    notification,
    notify,
    reply,
)

MARK = "zQ7marker"
"""Part of everything secret below, in a form that no encoding changes."""
BASE64 = ("elE3bWFya2Vy", "pRN21hcmtlc", "6UTdtYXJrZX")
"""The same in base64, at each of the three offsets."""

AUTHENTICATIONS = (
    ClientSecretBasic(f"secret-{MARK}"),
    ClientSecretPost(f"secret-{MARK}"),
    ClientSecretJwt(f"secret-{MARK}-that-is-long-enough-for-HS256"),
)
CONTEXT = CredentialsContext(
    client_id="id",
    issuer="https://op.example",
    token_endpoint="https://op.example/t",
    endpoint_url="https://op.example/t",
    now=NOW,
    entropy=CLIENT.entropy,
)
REQUESTS = tuple(
    AuthenticationRequest(
        scope="openid",
        user_code=f"code-{MARK}",
        authorization_details=[{"type": "a", "iban": MARK}],
        claims={"userinfo": {"sub": {"value": MARK}}, "id_token": {"sub": {"value": MARK}}},
        extra={"request_context": MARK},
        **{hint: f"hint-{MARK}"},  # type: ignore[arg-type]
    )
    for hint in ("login_hint", "login_hint_token", "id_token_hint")
)
NONCE = AuthenticationRequest(
    scope="openid", id_token_hint=id_token(sub=MARK), extra={"nonce": f"nonce-{MARK}", "max_age": 60}
)
"""A request whose answer is compared with secrets."""
ACKNOWLEDGED = {"auth_req_id": f"id-{MARK}", "expires_in": 120, "x": MARK}
TOKENS = {
    "access_token": f"access-{MARK}",
    "token_type": "Bearer",
    "id_token": id_token(sub=MARK),
    "refresh_token": f"refresh-{MARK}",
    "device_secret": MARK,
    "authorization_details": [{"type": "a", "iban": MARK}],
}
ANSWERS: list[HttpResponse] = [
    reply(200, ACKNOWLEDGED, ("X-Trace", MARK), ("Set-Cookie", MARK)),
    reply(200, {**ACKNOWLEDGED, "auth_req_id": f"ü {MARK}", "interval": 0}),
    reply(200, {**ACKNOWLEDGED, "expires_in": MARK}),
    reply(200, {**ACKNOWLEDGED, "interval": MARK}),
    reply(200, TOKENS),
    reply(200, {**TOKENS, "id_token": id_token(sub=MARK, iss=f"https://{MARK}.example")}),
    reply(200, {**TOKENS, "id_token": id_token(sub=MARK, kid=MARK)}),
    reply(200, {**TOKENS, "id_token": id_token(sub=MARK, nonce=MARK)}),
    reply(200, {**TOKENS, "id_token": f"eyJ.{MARK}.x"}),
    reply(200, {**TOKENS, "token_type": MARK}),
    reply(200, {**TOKENS, "expires_in": MARK}),
    reply(200, {**TOKENS, "scope": [MARK, 5]}),
    reply(200, {**TOKENS, "id_token": [MARK]}),
    reply(200, TOKENS, media_type=MARK),
    reply(200, json.dumps(TOKENS)[:-1]),
    reply(200, json.dumps(TOKENS).encode() + b"\xff"),
    reply(200, f'{{"a":"{MARK}","a":1}}'),
    reply(200, f'{{"a":"{MARK}","b":NaN}}'),
    reply(200, f'{{"a":"{MARK}","b":"\\ud800"}}'),
    reply(200, f'["{MARK}"]'),
    reply(200, f'{{"{MARK}":' * 40 + "1" + "}" * 40),
    reply(302, b"", ("Location", f"https://evil.example/{MARK}")),
    reply(400, MARK),
    reply(503, MARK, ("Retry-After", MARK)),
    *(
        reply(status, {"error": code, "error_description": MARK, "error_uri": f"https://op.example/{MARK}"})
        for status in (400, 503)
        for code in (
            "authorization_pending",
            "slow_down",
            "access_denied",
            "invalid_grant",
            "expired_token",
            MARK,
        )
    ),
    reply(400, {"error": [MARK]}),
]


REMOTE = RemoteSigner("hsm", alg="ES256")
KEY_SETS: list[HttpResponse] = [
    reply(200, JWKS, ("X-Trace", MARK)),
    reply(200, {"keys": [{**JWKS["keys"][0], "kid": MARK, "d": MARK}, MARK]}),  # type: ignore[index]
    reply(200, MARK, media_type="text/html"),
    reply(200, f'{{"{MARK}":1,"{MARK}":2}}'),
    reply(503, MARK),
]


def clients() -> Iterator[ClientConfig]:
    for method in AUTHENTICATIONS:
        yield attrs.evolve(CLIENT, authentication=method)
    yield attrs.evolve(CLIENT, authentication=AUTHENTICATIONS[0], dpop_bound_access_tokens=True)


def values() -> Iterator[object]:
    """Everything that the library makes of secrets, on every way through a transaction."""
    yield from AUTHENTICATIONS
    yield from REQUESTS
    yield from (Secret(MARK), {"a": [Secret(MARK)]}, Guarded(MARK))
    yield from ANSWERS
    for client in clients():
        yield client
        yield client.authentication.credentials(CONTEXT)
        for request in (*REQUESTS, NONCE):
            yield Begin(request)
            begun = step(Transaction(client=client, provider=PROVIDER), Begin(request), NOW)
            yield begun
            for response in ANSWERS:
                yield ResponseReceived(1, response, 0.0)
                acknowledged = answer(begun.transaction, response)
                yield acknowledged
                if acknowledged.transaction.deadline is None:
                    continue
                polled = fire(acknowledged.transaction)
                yield polled
                lost = fire(fail(polled.transaction).transaction)
                for second in ANSWERS:
                    yield answer(polled.transaction, second)
                    yield answer(lost.transaction, second)
            yield fail(begun.transaction, Delivery.NOT_SENT)
    yield from waiting_for_keys()
    yield from waiting_for_signatures()
    yield from called_back()
    yield MetadataDocument("https://op.example", {"x": MARK}, allow_loopback_http=False)


def waiting_for_keys() -> Iterator[Step]:
    """Tokens that came, with every way in which their key may or may not come."""
    tx = answer(awaiting(REQUESTS[0]), ANSWERS[0]).transaction
    received = answer(fire(tx).transaction, reply(200, TOKENS), shared=Shared())
    yield received
    for key_set in KEY_SETS:
        found = answer(received.transaction, key_set, shared=Shared())
        yield found
        if not found.transaction.is_finished:
            again = fire(found.transaction, shared=Shared())
            yield again
            yield answer(again.transaction, reply(200, JWKS))
            yield fail(again.transaction, elapsed=500)
            yield step(again.transaction, Cancel(), NOW)


def called_back() -> Iterator[object]:
    """Callbacks with secrets in them and in their header: early, in time, late, and under a wrong identifier."""
    tokens = {**TOKENS, "auth_req_id": ACKNOWLEDGED["auth_req_id"]}
    bodies = (
        {"auth_req_id": ACKNOWLEDGED["auth_req_id"], MARK: MARK},
        tokens,
        {**tokens, "auth_req_id": MARK},
        {**tokens, "error": "access_denied", "error_description": MARK},
        {"auth_req_id": ACKNOWLEDGED["auth_req_id"], "error": MARK, "error_description": MARK},
    )

    def entropy(count: int) -> bytes:
        return MARK.encode().ljust(32, b"x")[:count]

    for mode in ("ping", "push"):
        client = attrs.evolve(CLIENT, backchannel_token_delivery_mode=mode, entropy=entropy)
        begun = awaiting(REQUESTS[0], client=client)
        yield step(Transaction(client=client, provider=PROVIDER), Begin(REQUESTS[0]), NOW)
        for members in bodies:
            held = notify(begun, members)
            yield NotificationReceived(notification(members))
            yield held
            yield notify(held.transaction, members)
            yield answer(held.transaction, ANSWERS[0])
            acknowledged = answer(begun, ANSWERS[0]).transaction
            for shared in (Shared(), SHARED):
                called = notify(acknowledged, members, shared=shared)
                yield called
                yield notify(called.transaction, members)
                yield notify(fail(called.transaction).transaction, members)
                yield notify(step(called.transaction, Cancel(), NOW).transaction, members)
    bearer = [("Authorization", f"Bearer {MARK}"), ("Content-Type", "application/json")]
    for headers in (bearer, bearer[:1], bearer * 2, [("Authorization", f"Basic {MARK}")]):
        for octets in (json.dumps(tokens).encode(), MARK.encode(), f'{{"{MARK}":1,"{MARK}":2}}'.encode()):
            routes = Routes()
            yield receive("POST", headers, octets, routes=routes, now=NOW)
            routes.add(token_hash(Secret(MARK)), "key", forget_at=NOW + 1, now=NOW)
            yield receive("POST", headers, octets, routes=routes, now=NOW)
            yield routes


class Faulty:
    """A key store whose PIN is in what it raises; or that returns something else."""

    alg = "ES256"
    kid = None

    def __init__(self, returns: Any = None) -> None:
        self.returns = returns

    def sign(self, _octets: bytes, /) -> Any:
        if self.returns is None:
            raise RuntimeError(MARK)
        return self.returns + MARK


def waiting_for_signatures() -> Iterator[Step]:
    """Requests that are signed outside of the process: personal data and identifiers are in what is signed."""
    client = attrs.evolve(
        CLIENT, authentication=PrivateKeyJwt(REMOTE), request_signing=RequestSigning(REMOTE)
    )
    begun = step(Transaction(client=client, provider=PROVIDER), Begin(NONCE), NOW)
    signatures = (f"signature-{MARK}".ljust(64, "x").encode(),) * 2
    yield begun
    asked = step(begun.transaction, SignaturesMade(1, signatures), NOW)
    yield asked
    drafted = fire(answer(asked.transaction, ANSWERS[0]).transaction)
    yield drafted
    yield step(drafted.transaction, SigningFailed(2, "the HSM is busy"), NOW)
    yield step(drafted.transaction, SignaturesMade(2, signatures[:1]), NOW)
    for wrong in (signatures[0] * 2, MARK, None, [MARK]):
        yield step(begun.transaction, SignaturesMade(1, (wrong, wrong)), NOW)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for signer in (Faulty(), Faulty("no signature")):
        failing = attrs.evolve(client, authentication=PrivateKeyJwt(signer), request_signing=None)
        yield step(Transaction(client=failing, provider=PROVIDER), Begin(NONCE), NOW)
        yield fire(attrs.evolve(answer(asked.transaction, ANSWERS[0]).transaction, client=failing))


def parts(value: object) -> Iterator[object]:
    """A value and what it is made of."""
    yield value
    if isinstance(value, Step):
        yield from (value.transaction, value.transaction.state, value.request, *value.events)
        yield from (value.transaction.tokens, value.transaction.error, value.shared, value.draft)
        yield from () if value.draft is None else (value.draft.jwts, *value.draft.jwts)
        yield from (value.transaction.dpop_key, getattr(value.transaction.state, "requested", None))
        yield from (value.answer, getattr(value.transaction.state, "held", None))
        yield value.transaction.client_notification_token
    if isinstance(value, ResponseReceived):
        yield value.response
    if isinstance(value, Received):
        yield from (value.answer, value.notification, value.event)


SHOWS: list[Callable[[Any], str]] = [repr, str, format, "{!s:.999}".format, "%r".__mod__, ascii]


def assert_hidden(text: str) -> None:
    for mark in (MARK, *BASE64):
        assert mark not in text


def test_the_marker_would_be_noticed() -> None:
    """The check below is able to fail: in plain text and in an Authorization header."""
    credentials = AUTHENTICATIONS[0].credentials(CONTEXT)
    for text in (repr(Secret(MARK).reveal()), str(credentials.headers)):
        with pytest.raises(AssertionError):
            assert_hidden(text)


def test_no_value_shows_a_secret() -> None:
    """Promise 6: requests, answers, states, events, transactions and steps, shown in every way."""
    kinds: set[type] = set()
    for value in values():
        for part in parts(value):
            kinds.add(type(part))
            for show in SHOWS:
                assert_hidden(show((part,) if show == "%r".__mod__ else part))
    assert len(kinds) > 45
    assert {Draft, UnsignedJwt, DpopKey, Requested, FetchingKeys, AwaitingKeys, SigningPoll} <= kinds
    assert {Notification, NotificationReceived, NotificationRejected, Received, Routes} <= kinds


def test_no_exception_shows_a_secret() -> None:
    """Promise 6: every error of an end, raised, shows nothing in its traceback, its causes or its arguments."""
    seen: set[type] = set()
    for value in values():
        error = value.transaction.error if isinstance(value, Step) else None
        if error is None:
            continue
        seen.add(type(error))
        with pytest.raises(CibaError) as caught:
            raise error
        assert_hidden("".join(traceback.format_exception(caught.value)))
        assert_hidden(repr(caught.value.args))
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None
        error.__traceback__ = None
    assert {ErrorResponse, RemoteProtocolError, TokensRejected, KeysUnavailable} < seen


def refusals() -> list[Callable[[], object]]:
    """Misuse with secrets in hand."""
    begun = awaiting(REQUESTS[0])
    tx = answer(begun, ANSWERS[0]).transaction
    public, secrets = tx.to_json_parts()
    answered = HttpResponse(200, (), MARK.encode())
    remote = attrs.evolve(CLIENT, authentication=PrivateKeyJwt(REMOTE))
    signing = step(Transaction(client=remote, provider=PROVIDER), Begin(NONCE), NOW).transaction

    def request(**changes: Any) -> Callable[[], object]:
        arguments: dict[str, Any] = {"scope": "openid"} | changes
        return lambda: AuthenticationRequest(**arguments)

    def restore(text: str, hidden: str | None = None) -> Callable[[], object]:
        return lambda: Transaction.from_json(text, client=CLIENT, provider=PROVIDER, secrets=hidden)

    def discovered(document: object, status: int = 200) -> Callable[[], object]:
        def looked_up() -> object:
            current = Discovery("https://op.example").start(NOW)
            while not current.is_finished:
                assert current.request is not None
                answer = ResponseReceived(current.request.id, reply(status, json.dumps(document)), 0.1)
                current = current.operation.proceed(answer, NOW)
            assert current.error is not None
            raise current.error

        return looked_up

    return [
        lambda: ClientSecretBasic(f"{MARK}\n"),
        lambda: ClientSecretPost(f"{MARK}\ud800"),
        lambda: ClientSecretPost([MARK]),  # type: ignore[arg-type]
        lambda: ClientSecretBasic("x", raw=MARK),  # type: ignore[arg-type]
        lambda: ClientConfig("id", MARK),  # type: ignore[arg-type]
        lambda: Secret(MARK.encode()),  # type: ignore[arg-type]
        *(request(**{hint: f"{MARK}\0"}) for hint in ("login_hint", "login_hint_token", "id_token_hint")),
        *(request(login_hint="x", **{name: [MARK]}) for name in ("user_code", "claims", "binding_message")),
        request(login_hint=MARK, id_token_hint=MARK),
        request(login_hint="x", authorization_details=[{"type": MARK}, {"x": MARK}]),
        request(login_hint="x", claims={"a": f"{MARK}\ud800"}),
        request(login_hint="x", extra={"a": f"{MARK}\ud800"}),
        request(login_hint="x", extra={"a": MARK.encode()}),
        request(login_hint="x", extra={"client_secret": MARK}),
        request(login_hint="x", user_code=f"{MARK}\ud800"),
        request(login_hint="x", resource=f"https://[{MARK}]/#"),
        lambda: step(begun, Begin(REQUESTS[0]), NOW),
        lambda: step(begun, ResponseReceived(9, answered, 0.0), NOW),
        lambda: step(begun, ResponseReceived(1, answered, -1.0), NOW),
        lambda: step(begun, RequestFailed(9, Delivery.UNKNOWN, MARK, 0.0), NOW),
        lambda: step(begun, TimerFired(0.0), float("nan")),
        lambda: step(signing, SignaturesMade(1, (MARK.encode(),) * 2), NOW),
        lambda: SignaturesMade(1, MARK.encode()),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        lambda: RequestFailed(1, MARK, "", 0.0),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        lambda: step(signing, SignaturesMade(9, (MARK.encode(),)), NOW),
        lambda: step(signing, SigningFailed(9, MARK), NOW),
        lambda: ClientSecretJwt(MARK),
        lambda: SigningKey.from_jwk({"kty": MARK, "d": MARK}),
        lambda: SigningKey.from_pem(f"-----BEGIN PRIVATE KEY-----{MARK}", alg="ES256"),
        lambda: DpopKey.from_secret(Secret(MARK)),
        restore(public),
        restore(public, json.dumps({**json.loads(secrets), "nonce": [MARK]})),
        restore(public, json.dumps({**json.loads(secrets), "dpop_key": MARK})),
        restore(public, secrets[:-1]),
        restore(public, json.dumps({"version": 1, "auth_req_id": [MARK]})),
        restore(tx.to_json()[:-1]),
        restore(tx.to_json().replace('"version":2', '"version":3')),
        restore(tx.to_json().replace("s6BhdRkqt3", MARK)),
        restore(tx.to_json().replace("https://server", f"https://{MARK}")),
        restore(tx.to_json().replace('"pending"', f'"{MARK}"')),
        restore(json.dumps(MARK)),
        discovered({"issuer": MARK}),
        discovered([MARK]),
        discovered(MARK, 500),
        discovered(MARK, 200),
        lambda: pickle.dumps(Secret(MARK)),
        lambda: pickle.dumps(tx),
        lambda: pickle.dumps(REQUESTS[0]),
        lambda: pickle.dumps(AUTHENTICATIONS[0]),
    ]


@pytest.mark.parametrize("refusal", refusals())
def test_no_refusal_shows_a_secret(refusal: Callable[[], object]) -> None:
    """Promise 6: an exception for misuse names the parameter, and its whole chain is without values."""
    with pytest.raises((CibaError, TypeError, ValueError)) as caught:
        refusal()
    error: BaseException | None = caught.value
    # Lines of this file and of the library may be shown in a traceback; the values in them may not.
    assert_hidden("".join(traceback.format_exception_only(caught.value)))
    while error is not None:
        for shown in (str(error), repr(error), repr(error.args), repr(vars(error))):
            assert_hidden(shown)
        error = error.__cause__ or error.__context__


def test_texts_of_the_provider_are_attributes_only() -> None:
    """CIBA-11: what a provider wrote may echo a secret; it can be read, and does not show."""
    error = ErrorResponse(MARK, endpoint=Endpoint.TOKEN, status=400, error_description=MARK, error_uri=MARK)
    assert (error.error, error.error_description, error.error_uri) == (MARK, MARK, MARK)
    for show in (repr, str):
        assert_hidden(show(error))

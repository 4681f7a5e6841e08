"""Push mode: tokens and errors come in the callback, and the ID Token vouches for all of it (CIBA Core 10.3.1)."""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64encode
from typing import Any, Final
from urllib.parse import parse_qs

import attrs
import pytest

from ciba_core import (
    AuthenticationRequest,
    Begin,
    Cancel,
    Delivery,
    HttpResponse,
    IdTokenPolicy,
    NotificationReceived,
    PollingPolicy,
    PrivateKeyJwt,
    Purpose,
    RemoteSigner,
    RequestSigning,
    ResponseReceived,
    Resumed,
    Secret,
    Shared,
    SignaturesMade,
    SigningFailed,
    SigningKey,
    Step,
    TimerFired,
    Transaction,
    step,
)
from ciba_core.errors import (
    AccessDenied,
    AcknowledgementLost,
    AuthenticationCancelled,
    AuthenticationExpired,
    CibaError,
    Endpoint,
    ErrorResponse,
    ExpiredToken,
    KeysUnavailable,
    LocalProtocolError,
    RemoteProtocolError,
    RequestNotSent,
    TokensRejected,
    TransactionFailed,
)
from ciba_core.events import (
    AuthenticationRefused,
    AuthenticationRequestFailed,
    AuthReqIdExpired,
    AuthReqIdIssued,
    AuthReqIdRecovered,
    CallbackAwaited,
    CancelRequested,
    ErrorPushed,
    Event,
    KeyRequestFailed,
    KeyRequestSent,
    NotificationHeld,
    NotificationIgnored,
    ProviderDeviation,
    PushRejected,
    TokensHeld,
    TokensIssued,
    TokensReceived,
    TokensUntrusted,
    UserDenied,
)
from ciba_core.jose.keys import KeySet
from ciba_core.jose.signing import compact, sign, signing_input
from ciba_core.notification import ACCEPTED, UNKNOWN_TOKEN, NotificationRejected
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
    Refused,
    SigningAuthentication,
)
from ciba_core.values.json import freeze
from tests.jwt_samples import FAPI_JWK, FAPI_KEY, counter, opened
from tests.made_keys import import_key
from tests.samples import (
    ACKNOWLEDGEMENT,
    AUTH_REQ_ID,
    JWKS,
    NOTIFICATION_TOKEN,
    NOW,
    PING,
    PROVIDER,
    PUBLIC_JWK,
    PUSH_CLIENT,
    REQUEST,
    SHARED,
    TOKENS,
    Json,
    answer,
    awaiting,
    fail,
    fire,
    half_hash,
    id_token,
    notification,
    notify,
    pending,
    pending_state,
    pushed,
    reply,
    sent,
    status,
)

from .test_states import ENDED, STATES

UNKNOWN: Final = Shared()
LATE: Final = NotificationIgnored("the transaction has ended")
EARLY: Final = NotificationIgnored("another one waits for the acknowledgement")
TWICE: Final = NotificationIgnored("another one came before")
WRONG_ID: Final = NotificationRejected("CIBA Core 10.2: auth_req_id", "the token of another auth_req_id")
BAD_PUSH: Final = pushed(at_hash="x")
ROTATED: Final = pushed(kid="new")
"""Signed with a key under a name that the key set does not have."""
NEW_JWKS: Final[Json] = {"keys": [PUBLIC_JWK, {**PUBLIC_JWK, "kid": "new"}]}


def waiting() -> Transaction:
    """A transaction that waits for its push."""
    return pending(client=PUSH_CLIENT)


def in_state(state: Any) -> Transaction:
    return Transaction(client=PUSH_CLIENT, provider=PROVIDER, state=state, requests=3)


def validating(members: Json | None = None, *, now: float = NOW) -> Step:
    """A push has come, and the keys to validate it by are asked for."""
    found = notify(waiting(), pushed() if members is None else members, shared=UNKNOWN, now=now)
    assert isinstance(found.transaction.state, FetchingKeys)
    assert found.answer is None
    return found


def keys_awaited() -> Transaction:
    """The keys could not be had; the provider was asked to come again."""
    tx = fail(validating().transaction).transaction
    assert isinstance(tx.state, AwaitingKeys)
    return tx


def rejection(current: Step, expected: int | None = 400) -> RemoteProtocolError:
    (event,) = current.events
    assert isinstance(event, PushRejected)
    assert status(current) == expected
    assert current.answer is None or (current.answer.headers, current.answer.body) == ((), b"")
    assert current.request is None
    assert current.transaction.tokens is None
    assert not current.transaction.is_finished
    assert event.error.endpoint is Endpoint.CLIENT_NOTIFICATION
    return event.error


# ---- the way through


def test_the_published_push() -> None:
    """VEC-CORE-08, CIBA-10.3-01, -03..06: the published members and hashes, signed with a key that is published."""
    claims = {
        "iss": "https://server.example.com",
        "sub": "248289761001",
        "aud": "s6BhdRkqt3",
        "email": "janedoe@example.com",
        "exp": 1537819803,
        "iat": 1537819503,
        "at_hash": "Wt0kVFXMacqvnHeyU0001w",
        "urn:openid:params:jwt:claim:rt_hash": "sHahCuSpXCRg5mkDDvvr4w",
        "urn:openid:params:jwt:claim:auth_req_id": "1c266114-a1be-4252-8ad1-04986c5b9ac1",
    }
    octets = signing_input({"alg": "ES256", "kid": "thrwqnuer"}, claims)
    members = {
        "auth_req_id": "1c266114-a1be-4252-8ad1-04986c5b9ac1",
        "access_token": "G5kXH2wHvUra0sHlDy1iTkDJgsgUO1bN",
        "token_type": "Bearer",
        "refresh_token": "4bwc0ESC_IAhflf-ACC_vjD_ltc11ne-8gFPfA2Kx16",
        "expires_in": 120,
        "id_token": compact(octets, sign(octets, FAPI_KEY, "ES256")),
    }
    client = attrs.evolve(PUSH_CLIENT, id_token=IdTokenPolicy(signed_response_alg="ES256"))
    public = {name: value for name, value in FAPI_JWK.items() if name != "d"}
    shared = Shared(keys=KeySet(keys=(import_key(public),), fetched_at=NOW, fresh_until=NOW + 600))
    found = notify(pending(client=client), members, shared=shared, now=NOW + 20)
    assert found.answer == ACCEPTED
    tokens = found.transaction.tokens
    assert tokens is not None
    assert found.events == (TokensIssued(tokens),)
    assert tokens.access_token == Secret("G5kXH2wHvUra0sHlDy1iTkDJgsgUO1bN")
    assert tokens.refresh_token == Secret("4bwc0ESC_IAhflf-ACC_vjD_ltc11ne-8gFPfA2Kx16")
    assert (tokens.token_type, tokens.expires_at) == ("Bearer", NOW + 140)
    assert tokens.id_token_claims == claims
    assert not tokens.extra


def test_the_whole_way() -> None:
    """SM-01, -02, -19, CIBA-10.3-12: nothing is polled, the tokens are validated, and only then there is a 204."""
    first = step(Transaction(client=PUSH_CLIENT, provider=PROVIDER), Begin(REQUEST), NOW)
    assert sent(first).body.endswith(b"&client_notification_token=" + NOTIFICATION_TOKEN.encode())
    second = answer(first.transaction, reply(200, ACKNOWLEDGEMENT))
    assert second.events == (AuthReqIdIssued(Secret(AUTH_REQ_ID), NOW + 120, 2.0, None),)
    assert second.transaction.deadline == NOW + 120
    last = notify(second.transaction, pushed(), now=NOW + 5)
    assert status(last) == 204
    assert isinstance(last.transaction.state, Authenticated)
    assert last.request is None
    assert last.transaction.polls == 0
    assert last.transaction.requests == 1
    assert last.transaction.tokens is not None
    assert last.transaction.tokens.expires_at == NOW + 125


@pytest.mark.parametrize(
    "policy",
    [
        PollingPolicy(first_poll_after=0),
        PollingPolicy(beside_ping=True),
        PollingPolicy(ping_fallback=1.0),
        PollingPolicy(ping_fallback=None),
    ],
)
def test_a_push_client_never_polls(policy: PollingPolicy) -> None:
    """CIBA-10.1-01: whatever is set for the other modes, there is nothing to wait for but the end."""
    tx = pending(client=attrs.evolve(PUSH_CLIENT, polling=policy))
    assert pending_state(tx).next_poll_at is None
    assert tx.deadline == NOW + 120
    over = fire(tx)
    assert over.request is None
    assert isinstance(over.transaction.state, Expired)
    assert [type(event) for event in over.events] == [AuthReqIdExpired]


def test_without_openid_there_is_no_push() -> None:
    """CIBA-10.3-03: without an ID Token nothing would vouch for the tokens; nothing is sent."""
    request = AuthenticationRequest(scope="email", login_hint="x", openid=False)
    with pytest.raises(LocalProtocolError, match=r"^openid: in push mode"):
        step(Transaction(client=PUSH_CLIENT, provider=PROVIDER), Begin(request), NOW)


def test_unknown_members_are_kept_apart() -> None:
    """CIBA-9-09, CIBA-10.3-02, TOK-06: what is not known is there to read, and ``auth_req_id`` is no part of the tokens."""
    tokens = notify(waiting(), {**pushed(), "device_secret": "d", "x": [1]}).transaction.tokens
    assert tokens is not None
    assert tokens.extra == {"device_secret": "d", "x": (1,)}


def test_without_a_refresh_token() -> None:
    """CIBA-10.3-06: ``rt_hash`` is for a refresh token; without one neither is there."""
    tokens = notify(waiting(), pushed("refresh_token", rt_hash=None)).transaction.tokens
    assert tokens is not None
    assert tokens.refresh_token is None


# ---- what does not pass


@pytest.mark.parametrize(
    ("members", "message", "rule"),
    [
        (pushed(at_hash=None), "at_hash is missing or wrong", "OpenID Connect Core 3.1.3.6: at_hash"),
        (pushed(at_hash=half_hash("x")), "at_hash is missing or wrong", "OpenID Connect Core 3.1.3.6: at_hash"),
        ({**pushed(), "access_token": "x"}, "at_hash is missing or wrong", "OpenID Connect Core 3.1.3.6: at_hash"),
        (pushed(rt_hash=None), "rt_hash is missing or wrong", "CIBA Core 10.3.1: rt_hash"),
        (pushed(rt_hash=half_hash("x")), "rt_hash is missing or wrong", "CIBA Core 10.3.1: rt_hash"),
        ({**pushed(), "refresh_token": "x"}, "rt_hash is missing or wrong", "CIBA Core 10.3.1: rt_hash"),
        (pushed("refresh_token"), "rt_hash is there, but no refresh token", "CIBA Core 10.3.1: rt_hash"),
        (pushed(auth_req_id=None), "auth_req_id is missing or wrong", "CIBA Core 10.3.1: auth_req_id"),
        (pushed(auth_req_id="x"), "auth_req_id is missing or wrong", "CIBA Core 10.3.1: auth_req_id"),
        (pushed(auth_req_id=5), "auth_req_id is missing or wrong", "CIBA Core 10.3.1: auth_req_id"),
        ({**PING, **TOKENS}, "auth_req_id is missing or wrong", "CIBA Core 10.3.1: auth_req_id"),
    ],
)  # fmt: skip
def test_bindings(members: Json, message: str, rule: str) -> None:
    """CIBA-10.3-04..09: each claim that binds the tokens is demanded; 400 without a word, and still pending."""
    tx = waiting()
    found = notify(tx, members)
    error = rejection(found)
    assert isinstance(error, TokensRejected)
    assert (error.args, error.rule) == ((message,), rule)
    assert str(error) == f"client notification: {message} [{rule}]"
    assert found.transaction == tx
    untrusted = error.untrusted.reveal_untrusted()
    assert untrusted.access_token.reveal() == members["access_token"]


def test_the_bindings_are_of_push_only() -> None:
    """CIBA-10.3-04: the same tokens pass where they come from the token endpoint."""
    ping = attrs.evolve(PUSH_CLIENT, backchannel_token_delivery_mode="ping")
    polled = fire(pending(client=ping)).transaction
    assert answer(polled, reply(200, TOKENS)).transaction.tokens is not None
    assert isinstance(rejection(notify(waiting(), {**PING, **TOKENS})), TokensRejected)


OTHER_JWK: Final = {**FAPI_JWK, "kid": "samples"}


@pytest.mark.parametrize(
    "members",
    [
        pushed(iss="https://evil.example"),
        pushed(aud="other"),
        pushed(exp=int(NOW) - 3600),
        pushed(nonce="unasked", iat=int(NOW) + 3600),
        {**pushed(), "id_token": str(pushed()["id_token"])[:-8] + "AAAAAAAA"},
        {**pushed(), "id_token": "eyJhbGciOiJub25lIn0.e30."},
        {**pushed(), "id_token": id_token(import_key(OTHER_JWK), "ES256")},
    ],
    ids=["iss", "aud", "exp", "iat", "signature", "none", "another key"],
)
def test_the_id_token_is_validated(members: Json) -> None:
    """CIBA-10.3-03: all rules hold that hold for one of the token endpoint, and the signature always."""
    tx = waiting()
    found = notify(tx, members)
    assert isinstance(rejection(found), TokensRejected)
    assert found.transaction == tx


@pytest.mark.parametrize(
    ("members", "rule"),
    [
        (pushed("id_token"), "id_token"),
        (pushed("access_token"), "access_token"),
        (pushed("token_type"), "token_type"),
        ({**pushed(), "token_type": "DPoP"}, "token_type"),
        ({**pushed(), "expires_in": "soon"}, "expires_in"),
        ({**pushed(), "access_token": 5}, "access_token"),
        ({**PING, "id_token": "a.b.c"}, "access_token"),
        ({**PING, "refresh_token": "only"}, "access_token"),
    ],
)
def test_members_are_those_of_a_token_response(members: Json, rule: str) -> None:
    """CIBA-10.3-01, TOK-01..05: a callback is read as strictly as an answer of the token endpoint."""
    tx = waiting()
    found = notify(tx, members)
    error = rejection(found)
    issued = {"access_token", "refresh_token"} & {name for name in members if isinstance(members[name], str)}
    assert isinstance(error, TokensRejected) == bool(issued)
    assert rule in str(error)
    assert found.transaction == tx


def test_a_good_push_after_bad_ones() -> None:
    """CIBA-10.3-09: whatever was pushed in between, a valid push completes it."""
    tx = waiting()
    for members in (BAD_PUSH, pushed("id_token"), {**pushed(), "error": "access_denied"}):
        tx = notify(tx, members).transaction
    assert notify(tx, PING).transaction is tx
    assert notify(tx, {**pushed(), "auth_req_id": "x"}).transaction is tx
    assert notify(tx, pushed()).transaction.tokens is not None


# ---- errors


@pytest.mark.parametrize(
    ("members", "state", "error", "event"),
    [
        ({"error": "access_denied"}, Denied, AccessDenied, UserDenied),
        (
            {"error": "expired_token", "error_description": "too late"},
            Expired,
            ExpiredToken,
            AuthReqIdExpired,
        ),
        ({"error": "transaction_failed"}, Failed, TransactionFailed, ErrorPushed),
        ({"error": "other_code", "x": True}, Failed, ErrorResponse, ErrorPushed),
        # Codes of the token endpoint mean nothing here.
        ({"error": "authorization_pending"}, Failed, ErrorResponse, ErrorPushed),
        ({"error": "invalid_grant"}, Failed, ErrorResponse, ErrorPushed),
    ],
    ids=str,
)
def test_pushed_errors(members: Json, state: type[Any], error: type[CibaError], event: type[Any]) -> None:
    """VEC-DER-05, CIBA-12-01..05, -07, SM-20: the end, with the code as it came, and a 204."""
    found = notify(waiting(), {**PING, **members})
    assert found.answer == ACCEPTED
    assert found.request is None
    assert type(found.transaction.state) is state
    happened: Any = found.events[0]
    assert [type(one) for one in found.events] == [event]
    ended = found.transaction.error
    assert type(ended) is error
    assert isinstance(ended, ErrorResponse)
    assert happened.error is ended
    assert (ended.error, ended.error_description) == (members["error"], members.get("error_description"))
    assert (ended.endpoint, ended.status) == (Endpoint.CLIENT_NOTIFICATION, None)
    assert (ended.error_uri, ended.retry_after) == (None, None)
    assert str(ended).startswith("client notification brought ")


@pytest.mark.parametrize("name", ["access_token", "id_token", "refresh_token"])
@pytest.mark.parametrize("code", ["access_denied", "x", 5, False])
def test_an_error_and_tokens_together(name: str, code: object) -> None:
    """CIBA-12-06: 400; which of the two is meant cannot be known, so that neither counts."""
    tx = waiting()
    found = notify(tx, {**PING, "error": code, name: "token"})
    error = rejection(found)
    assert str(error) == "client notification: an error and tokens together [CIBA Core 12]"
    assert found.transaction == tx


def test_an_error_beside_good_tokens() -> None:
    """CIBA-12-06: tokens that would pass do not pass beside an error."""
    rejection(notify(waiting(), {**pushed(), "error": "access_denied"}))


@pytest.mark.parametrize("code", [5, True, ["access_denied"], {"code": "access_denied"}])
def test_an_error_that_is_no_code(code: object) -> None:
    """CIBA-12-01: a malformed error ends nothing."""
    tx = waiting()
    found = notify(tx, {**PING, "error": code})
    assert isinstance(rejection(found), RemoteProtocolError)
    assert found.transaction == tx


@pytest.mark.parametrize("fetched", [False, True])
def test_the_end_tells_that_a_push_was_turned_away(*, fetched: bool) -> None:
    """Promise 10: the tokens came and were no good, which is not that the user did not decide."""
    tx = waiting()
    if fetched:
        found = answer(validating().transaction, reply(200, {"keys": []}))
    else:
        found = notify(tx, {**PING, "error": 5})
    why = str(rejection(found))
    # A restored transaction tells the same.
    stored = found.transaction.to_json()
    restored = Transaction.from_json(stored, client=found.transaction.client, provider=PROVIDER)
    error = fire(restored).transaction.error
    assert isinstance(error, AuthenticationExpired)
    assert error.push_rejected == why
    assert str(error) == f"no decision came in time; a push was turned away: {why}"


# ---- keys


def test_keys_are_fetched_for_a_push() -> None:
    """CIBA-10.3-14, -12: the callback waits for its answer until the tokens are validated."""
    found = validating()
    (event,) = found.events
    assert isinstance(event, TokensReceived)
    assert event.search.give_up_at == NOW + 120
    assert sent(found).purpose is Purpose.KEYS
    assert found.transaction.tokens is None
    assert found.transaction.deadline is None
    assert found.transaction.polls == 0
    done = answer(found.transaction, reply(200, JWKS), shared=UNKNOWN)
    assert done.answer == ACCEPTED
    assert [type(one) for one in done.events] == [TokensIssued]
    assert done.transaction.tokens is not None
    assert done.shared.keys is not None


@pytest.mark.parametrize(
    ("members", "keys"),
    [
        (BAD_PUSH, JWKS),
        (pushed(at_hash=None), JWKS),
        (pushed(), {"keys": []}),
        (ROTATED, JWKS),
    ],
    ids=["bad claims", "missing claim", "no key", "another kid"],
)
def test_rejected_after_a_fetch(members: Json, keys: Json) -> None:
    """CIBA-10.3-09, SM-19: back to what it was before, with 400; a good push still completes it."""
    tx = waiting()
    found = answer(validating(members).transaction, reply(200, keys), shared=UNKNOWN, now=NOW + 1)
    assert isinstance(rejection(found), TokensRejected)
    assert found.transaction.state == tx.state
    assert found.transaction.deadline == NOW + 120
    assert notify(found.transaction, pushed(), now=NOW + 1).transaction.tokens is not None


def test_keys_that_another_transaction_fetched() -> None:
    """CIBA-10.3-14, JWKS-03: a failed fetch is no reason to overlook keys that are there by now."""
    for tx, heard in (
        (validating().transaction, 204),
        (fire(keys_awaited(), shared=UNKNOWN).transaction, None),
    ):
        found = answer(tx, reply(500), now=NOW + 3)
        assert [type(event) for event in found.events] == [TokensIssued]
        assert (found.answer and found.answer.status) == heard


def test_details_that_were_granted() -> None:
    """CIBA-10.3-01, RAR-10: what is pushed has all the members that a token response can have."""
    details = [{"type": "payment", "amount": {"value": "5", "of": ["EUR"]}}]
    found = notify(waiting(), {**pushed(), "authorization_details": details})
    assert status(found) == 204
    assert found.transaction.tokens is not None
    assert found.transaction.tokens.authorization_details == freeze(details)
    restored = Transaction.from_json(found.transaction.to_json(), client=PUSH_CLIENT, provider=PROVIDER)
    assert restored == found.transaction
    for wrong in ("[1]", "{}", '"x"'):
        bad = notify(waiting(), {**pushed(), "authorization_details": json.loads(wrong)})
        assert status(bad) == 400


@pytest.mark.parametrize("interval", [None, "5", True, -1])
def test_an_interval_means_nothing(interval: object) -> None:
    """CIBA-7.3-06: it is for those who poll; the user is being asked, whatever it is."""
    acknowledgement = {**ACKNOWLEDGEMENT, "interval": interval}
    found = answer(awaiting(client=PUSH_CLIENT), reply(200, acknowledgement))
    assert [type(event) for event in found.events] == [AuthReqIdIssued, ProviderDeviation]
    assert found.transaction.deadline == NOW + 120


@pytest.mark.parametrize(
    ("jwks", "events"),
    [(NEW_JWKS, [TokensIssued]), (JWKS, [PushRejected])],
    ids=["published by now", "never published"],
)
def test_a_young_key_set(jwks: Json, events: list[type[Event]]) -> None:
    """CIBA-10.3-14, JWKS-02: what was pushed under a new name is kept until the key set may be fetched again."""
    keys = SHARED.keys.keys if SHARED.keys else ()
    young = Shared(keys=KeySet(keys=keys, fetched_at=NOW - 3, fresh_until=NOW + 300))
    tx = waiting()
    found = notify(tx, ROTATED, shared=young)
    # The provider is not kept waiting for so long. If it comes again, it hears what has become of it.
    assert status(found) == 503
    assert [type(event) for event in found.events] == [TokensHeld]
    assert found.request is None
    assert found.transaction.deadline == NOW + 7
    assert status(notify(found.transaction, ROTATED, shared=young)) == 503
    restored = Transaction.from_json(found.transaction.to_json(), client=PUSH_CLIENT, provider=PROVIDER)
    again = fire(restored, shared=young)
    assert sent(again).purpose is Purpose.KEYS
    done = answer(again.transaction, reply(200, jwks), shared=young, now=NOW + 8)
    assert [type(event) for event in done.events] == events
    assert done.answer is None
    if done.transaction.tokens is None:
        assert done.transaction.state == tx.state
        # A good one may follow.
        assert status(notify(done.transaction, pushed(), now=NOW + 8)) == 204


def test_a_push_whose_key_comes_by_another_way() -> None:
    """JWKS-02: what another transaction has fetched by the end of the wait decides, either way."""
    tx, others = waiting(), Shared(keys=keys_of(NOW + 0.5))
    for members, events in ((pushed(), [TokensIssued]), (ROTATED, [PushRejected])):
        held = fail(validating(members).transaction, now=NOW).transaction
        for found in (fire(held, shared=others), step(held, Resumed(), NOW + 1, others)):
            assert [type(event) for event in found.events] == events
            assert found.answer is None
            assert found.transaction.is_finished or found.transaction.state == tx.state


def keys_of(fetched_at: float) -> KeySet:
    """The provider's keys, as somebody fetched them."""
    assert SHARED.keys is not None
    return KeySet(SHARED.keys.keys, fetched_at, fetched_at + 300)


def test_a_push_that_expires_while_the_keys_are_fetched() -> None:
    """SM-21: tokens that do not pass lead back to a transaction whose time is over."""
    found = answer(validating(BAD_PUSH).transaction, reply(200, JWKS), now=NOW + 500).transaction
    assert found.deadline == NOW + 120
    assert isinstance(fire(found, now=NOW + 500).transaction.state, Expired)


def test_keys_that_cannot_be_had_just_now() -> None:
    """CIBA-10.3-14, JWKS-09: 503 for the callback, which has waited long enough; the tokens are kept and tried again."""
    failed = fail(validating().transaction, now=NOW + 1)
    assert [type(event) for event in failed.events] == [KeyRequestFailed]
    assert failed.answer is not None
    assert (failed.answer.status, failed.answer.headers, failed.answer.body) == (503, (), b"")
    assert failed.transaction.deadline == NOW + 2
    again = fire(failed.transaction, shared=UNKNOWN)
    assert [type(event) for event in again.events] == [KeyRequestSent]
    assert again.answer is None
    # Nobody waits for an answer any more.
    once_more = answer(again.transaction, reply(500), now=NOW + 3, shared=UNKNOWN)
    assert once_more.answer is None
    assert [type(event) for event in once_more.events] == [KeyRequestFailed]
    done = answer(fire(once_more.transaction, shared=UNKNOWN).transaction, reply(200, JWKS), now=NOW + 5)
    assert done.answer is None
    assert [type(event) for event in done.events] == [TokensIssued]
    assert done.transaction.tokens is not None


def test_rejected_after_the_answer() -> None:
    """CIBA-10.3-09: the callback was answered before; the transaction goes back all the same."""
    tx = fire(keys_awaited(), shared=UNKNOWN).transaction
    found = answer(tx, reply(200, {"keys": []}), shared=UNKNOWN)
    assert isinstance(rejection(found, None), TokensRejected)
    assert found.transaction.state == waiting().state


def test_a_garbled_key_set_is_none() -> None:
    """CIBA-10.3-14: the same for an answer that is no key set."""
    page = reply(200, "<html>", media_type="text/html")
    found = answer(validating().transaction, page, shared=UNKNOWN)
    assert status(found) == 503
    assert isinstance(found.transaction.state, AwaitingKeys)


@pytest.mark.parametrize(
    ("tx", "heard"),
    [(validating().transaction, 503), (fire(keys_awaited(), shared=UNKNOWN).transaction, None)],
)
def test_giving_up(tx: Transaction, heard: int | None) -> None:
    """CIBA-10.3-14: in the end the tokens are in the error; push or poll."""
    over = fail(tx, elapsed=500, now=NOW + 500)
    assert isinstance(over.transaction.error, KeysUnavailable)
    assert [type(event) for event in over.events] == [TokensUntrusted]
    assert status(over) == heard


@pytest.mark.parametrize("tx", [validating().transaction, keys_awaited()], ids=["fetching", "waiting"])
@pytest.mark.parametrize("members", [pushed(), {**PING, "error": "access_denied"}], ids=["tokens", "error"])
def test_a_second_push_during_validation(tx: Transaction, members: Json) -> None:
    """Bad input: 503, so that it is sent again if the first one does not pass; nothing is forgotten meanwhile."""
    found = notify(tx, members)
    assert found.events == (TWICE,)
    assert found.answer is not None
    assert found.answer.status == 503
    assert found.transaction is tx


# ---- before the acknowledgement


def test_a_push_that_overtakes_the_acknowledgement() -> None:
    """SM-05, CIBA-7.3-01: it is kept without an answer until the identifier can be compared."""
    held = notify(awaiting(client=PUSH_CLIENT), pushed())
    assert held.events == (NotificationHeld(notification(pushed())),)
    assert held.answer is None
    assert held.transaction.tokens is None
    used = answer(held.transaction, reply(200, ACKNOWLEDGEMENT))
    assert [type(event) for event in used.events] == [AuthReqIdIssued, TokensIssued]
    assert used.answer == ACCEPTED
    assert used.request is None
    assert used.transaction.tokens is not None


def test_a_held_push_that_needs_keys() -> None:
    """CIBA-10.3-14: the acknowledgement, then the keys, and then the answer."""
    held = notify(awaiting(client=PUSH_CLIENT), pushed()).transaction
    used = answer(held, reply(200, ACKNOWLEDGEMENT), shared=UNKNOWN)
    assert [type(event) for event in used.events] == [AuthReqIdIssued, TokensReceived]
    assert used.answer is None
    assert sent(used).purpose is Purpose.KEYS
    assert sent(used).id == used.transaction.requests == 2
    done = answer(used.transaction, reply(200, JWKS))
    assert status(done) == 204
    assert done.transaction.tokens is not None


@pytest.mark.parametrize(
    ("members", "event", "expected"),
    [
        (BAD_PUSH, PushRejected, 400),
        ({**PING, "error": "access_denied"}, UserDenied, 204),
        ({**pushed(), "error": "x"}, PushRejected, 400),
        ({**pushed(), "auth_req_id": "other"}, NotificationRejected, 401),
        ({"auth_req_id": "other", "error": "access_denied"}, NotificationRejected, 401),
    ],
)
def test_a_held_push_that_is_not_good(members: Json, event: type[Any], expected: int) -> None:
    """CIBA-9-04, CIBA-10.3-09: it gets the answer that it would have got after the acknowledgement."""
    held = notify(awaiting(client=PUSH_CLIENT), members).transaction
    used = answer(held, reply(200, ACKNOWLEDGEMENT))
    assert [type(one) for one in used.events] == [AuthReqIdIssued, event]
    assert status(used) == expected
    if expected != 204:
        assert used.transaction == waiting()


def test_the_deviations_of_an_acknowledgement_come_first() -> None:
    """CIBA-7.3-09: what the acknowledgement brought is told in order, before what was held."""
    held = notify(awaiting(client=PUSH_CLIENT), pushed()).transaction
    used = answer(held, reply(200, {**ACKNOWLEDGEMENT, "interval": 0}))
    assert [type(event).__name__ for event in used.events] == [
        "AuthReqIdIssued",
        "ProviderDeviation",
        "TokensIssued",
    ]


def test_two_pushes_that_overtake_the_acknowledgement() -> None:
    """CIBA-10.2-06: the first one is kept; the second one is asked for once more."""
    held = notify(awaiting(client=PUSH_CLIENT), pushed()).transaction
    second = notify(held, {**PING, "error": "access_denied"})
    assert second.events == (EARLY,)
    assert status(second) == 503
    assert second.transaction is held


@pytest.mark.parametrize(
    ("refused", "state", "event"),
    [(True, Refused, AuthenticationRefused), (False, Failed, AuthenticationRequestFailed)],
)
def test_a_held_push_without_an_acknowledgement(refused: bool, state: type[Any], event: type[Any]) -> None:
    """SM-03, -04: there is nothing to compare it with; it is answered like everything after the end."""
    held = notify(awaiting(client=PUSH_CLIENT), pushed()).transaction
    ended = answer(held, reply(400, {"error": "invalid_scope"})) if refused else fail(held, Delivery.NOT_SENT)
    assert isinstance(ended.transaction.state, state)
    assert [type(one) for one in ended.events] == [event, NotificationIgnored]
    assert ended.answer == ACCEPTED
    assert ended.transaction.tokens is None


# ---- every state


RESULTS: dict[type[Any], tuple[type[Any], int | None]] = {
    New: (NotificationRejected, 401),
    SigningAuthentication: (NotificationRejected, 401),
    AwaitingAcknowledgement: (NotificationHeld, None),
    Pending: (PushRejected, 400),
    FetchingKeys: (NotificationIgnored, 503),
    AwaitingKeys: (NotificationIgnored, 503),
    **dict.fromkeys((type(state) for state in ENDED), (NotificationIgnored, 204)),
}


@pytest.mark.parametrize("state", STATES, ids=lambda state: type(state).__name__)
def test_a_push_in_every_state(state: Any) -> None:
    """SM-19, -23, promise 8: one result each; polls are no states of a push client."""
    if type(state) not in RESULTS:
        # Of the last one, see `test_healing`.
        assert type(state).__name__ in ("SigningPoll", "Polling", "AwaitingCallback")
        return
    event, expected = RESULTS[type(state)]
    tx = in_state(state)
    found = notify(tx, {**pushed(), "auth_req_id": "id"})
    assert [type(one) for one in found.events] == [event]
    assert status(found) == expected
    assert found.request is None
    assert type(found.transaction.state) is type(state)
    if event in (NotificationIgnored, NotificationRejected):
        assert found.transaction is tx
    if state in ENDED:
        assert found.events == (LATE,)


@pytest.mark.parametrize("state", STATES[:9], ids=lambda state: type(state).__name__)
def test_a_ping_to_a_push_client(state: Any) -> None:
    """CIBA-9-18, bad input: 400 in every state, and no token request is made for it."""
    tx = in_state(state)
    found = notify(tx)
    warning = NotificationRejected("CIBA Core 5: token delivery mode", "a ping to a client in push mode")
    assert found.events == (warning,)
    assert found.answer is not None
    assert (found.answer.status, found.answer.headers, found.answer.body) == (400, (), b"")
    assert found.transaction is tx


@pytest.mark.parametrize("tx", [waiting(), validating().transaction, keys_awaited()])
@pytest.mark.parametrize("members", [pushed(), {**PING, "error": "access_denied"}], ids=["tokens", "error"])
def test_a_wrong_identifier_under_the_right_token(tx: Transaction, members: Json) -> None:
    """CIBA-9-04, CIBA-10.3-02, VEC-DER-06: 401 as for an unknown token, whatever is pushed."""
    found = notify(tx, {**members, "auth_req_id": "hush"})
    assert found == Step(tx, (WRONG_ID,), shared=SHARED, answer=UNKNOWN_TOKEN.answer)
    assert found.transaction is tx


def test_twice() -> None:
    """CIBA-9-16: the second copy of a push is thanked for, and changes nothing."""
    done = notify(waiting(), pushed()).transaction
    again = notify(done, pushed())
    assert again == Step(done, (LATE,), shared=SHARED, answer=ACCEPTED)


def test_a_push_after_the_expiry() -> None:
    """CIBA-10.3-11: tokens that come late are still tokens; after the end they are not."""
    tx = waiting()
    assert notify(tx, pushed(), now=NOW + 130).transaction.tokens is not None
    over = fire(tx).transaction
    late = notify(over, pushed(), now=NOW + 130)
    assert late == Step(over, (LATE,), shared=SHARED, answer=ACCEPTED)


def test_the_end_of_the_wait_while_validating() -> None:
    """Promise 2: the timer that was set for the expiry is stray once tokens have come."""
    found = validating().transaction
    assert step(found, TimerFired(NOW + 120), NOW + 120) == Step(found)


# ---- cancelling


@pytest.mark.parametrize(
    ("tx", "expected"),
    [
        (awaiting(client=PUSH_CLIENT), None),
        (notify(awaiting(client=PUSH_CLIENT), pushed()).transaction, 204),
        (waiting(), None),
        (validating().transaction, 204),
        (keys_awaited(), None),
        (fire(keys_awaited(), shared=UNKNOWN).transaction, None),
    ],
    ids=["awaiting", "held", "pending", "validating", "keys awaited", "keys asked for again"],
)
def test_cancelling(tx: Transaction, expected: int | None) -> None:
    """SM-22, CIBA-10.3-12: a callback that waits for its answer gets the one that it would get from now on."""
    found = step(tx, Cancel(), NOW)
    assert found.events == (CancelRequested(),)
    assert isinstance(found.transaction.state, Cancelled)
    assert isinstance(found.transaction.error, AuthenticationCancelled)
    assert status(found) == expected
    assert found.request is None
    assert notify(found.transaction, pushed()).answer == ACCEPTED


# ---- restarts


def restored(tx: Transaction) -> Transaction:
    return Transaction.from_json(tx.to_json(), client=tx.client, provider=PROVIDER)


@pytest.mark.parametrize(
    "tx",
    [
        notify(awaiting(client=PUSH_CLIENT), {**pushed(), "x": {"y": [1, None]}}).transaction,
        waiting(),
        validating().transaction,
        keys_awaited(),
        fire(keys_awaited(), shared=UNKNOWN).transaction,
    ],
    ids=["held", "pending", "validating", "keys awaited", "keys asked for again"],
)
def test_through_a_snapshot(tx: Transaction) -> None:
    """Promise 5: what waits is stored, tokens and all, and the rest of the run is the same."""
    again = restored(tx)
    assert again == tx
    for moved in (Resumed(), Cancel(), NotificationReceived(notification(pushed()))):
        assert step(again, moved, NOW + 1, SHARED) == step(tx, moved, NOW + 1, SHARED)
    if tx.deadline is None:
        for response in (reply(200, ACKNOWLEDGEMENT), reply(200, JWKS), reply(200, {"keys": []})):
            first, second = answer(again, response), answer(tx, response)
            # Keys that are parsed anew are other objects.
            assert attrs.evolve(first, shared=second.shared) == second


def test_resumed_while_validating() -> None:
    """CIBA-10.3-14: the keys are asked for again, and tokens that do not pass lead back to waiting."""
    resumed = step(restored(validating(BAD_PUSH).transaction), Resumed(), NOW + 1)
    assert [type(event) for event in resumed.events] == [KeyRequestFailed]
    again = fire(resumed.transaction, shared=UNKNOWN)
    found = answer(again.transaction, reply(200, JWKS), now=NOW + 3)
    assert isinstance(rejection(found, None), TokensRejected)
    assert found.transaction.state == waiting().state


def test_resumed_with_a_held_push() -> None:
    """Promise 5: what was pushed is stored, and its ID Token names what the lost acknowledgement would have."""
    tx = restored(notify(awaiting(client=PUSH_CLIENT), pushed()).transaction)
    resumed = step(tx, Resumed(), NOW, SHARED)
    assert [type(event) for event in resumed.events] == [CallbackAwaited, AuthReqIdRecovered, TokensIssued]
    assert resumed.transaction.tokens is not None
    at_once = attrs.evolve(PUSH_CLIENT, polling=PollingPolicy(callback_after_loss=None))
    given_up = step(attrs.evolve(tx, client=at_once), Resumed(), NOW, SHARED)
    assert isinstance(given_up.transaction.error, AcknowledgementLost)
    assert given_up.transaction.tokens is None


# ---- DPoP, and keys elsewhere


def proof(current: Step) -> list[str]:
    return [value for name, value in sent(current).headers if name == "DPoP"]


def test_pushed_tokens_are_bound_to_the_key_of_the_request() -> None:
    """CIBA-10.3-13, DPOP-21: the one request of a push client shows the key that the tokens get bound to."""
    client = attrs.evolve(PUSH_CLIENT, dpop_bound_access_tokens=True, entropy=counter())
    begun = step(Transaction(client=client, provider=PROVIDER), Begin(REQUEST), NOW)
    (shown,) = proof(begun)
    header, claims = opened(shown)
    assert (claims["htm"], claims["htu"]) == ("POST", "https://server.example.com/bc-authorize")
    key = begun.transaction.dpop_key
    assert key is not None
    x = header["jwk"]["x"]
    canonical = json.dumps(
        {"crv": "P-256", "kty": "EC", "x": x, "y": header["jwk"]["y"]}, separators=(",", ":"), sort_keys=True
    )
    digest = hashlib.sha256(canonical.encode()).digest()
    assert key.thumbprint == urlsafe_b64encode(digest).decode().rstrip("=")
    tx = answer(begun.transaction, reply(200, ACKNOWLEDGEMENT)).transaction
    found = notify(tx, {**pushed(), "token_type": "DPoP"})
    assert found.transaction.tokens is not None
    assert found.transaction.tokens.dpop_key is key
    assert isinstance(rejection(notify(tx, pushed())), RemoteProtocolError)


BOUND_PUSH: Final = attrs.evolve(PUSH_CLIENT, dpop_bound_access_tokens=True)
NONCE_WANTED: Final = reply(400, {"error": "use_dpop_nonce"}, ("DPoP-Nonce", "n1"))


def bound_push(**changes: Any) -> Step:
    client = attrs.evolve(BOUND_PUSH, entropy=counter(), **changes)
    return step(Transaction(client=client, provider=PROVIDER), Begin(REQUEST), NOW)


def claims_of(jws: str) -> dict[str, Any]:
    return opened(jws)[1]


def test_a_nonce_that_is_asked_for_first() -> None:
    """DPOP-14, CIBA-7.1.1-13, promise 3: a definite refusal is repeated, once, with new proof and JWTs."""
    key = SigningKey.from_jwk(FAPI_JWK)
    begun = bound_push(authentication=PrivateKeyJwt(key), request_signing=RequestSigning(key))
    again = answer(begun.transaction, NONCE_WANTED, now=NOW + 1)
    assert again.events == begun.events
    assert isinstance(again.transaction.state, AwaitingAcknowledgement)
    assert [sent(found).id for found in (begun, again)] == [1, 2]
    assert "nonce" not in claims_of(proof(begun)[0])
    assert claims_of(proof(again)[0])["nonce"] == "n1"
    first, second = (
        {
            name: claims_of(values[0])
            for name, values in parse_qs(sent(found).body.decode()).items()
            if name != "client_assertion_type"
        }
        for found in (begun, again)
    )
    for name in ("request", "client_assertion"):
        assert first[name].pop("jti") != second[name].pop("jti")
        assert first[name].pop("iat") + 1 == second[name].pop("iat")
        for member in ("exp", "nbf"):
            first[name].pop(member, None)
            second[name].pop(member, None)
    # Whoever calls back is known by the same token, and the tokens get bound to the same key.
    assert first == second
    assert again.transaction.dpop_key is begun.transaction.dpop_key
    assert again.transaction.client_notification_token == begun.transaction.client_notification_token
    # An answer to the first one is late; a second refusal is the end.
    late = ResponseReceived(1, reply(200, ACKNOWLEDGEMENT), 0.0)
    assert step(again.transaction, late, NOW, again.shared) == Step(again.transaction, shared=again.shared)
    refused = answer(again.transaction, NONCE_WANTED)
    assert isinstance(refused.transaction.state, Refused)
    assert refused.request is None
    found = notify(
        answer(again.transaction, reply(200, ACKNOWLEDGEMENT)).transaction, {**pushed(), "token_type": "DPoP"}
    )
    assert found.transaction.tokens is not None


@pytest.mark.parametrize(
    "response",
    [
        reply(400, {"error": "use_dpop_nonce"}),
        reply(400, {"error": "use_dpop_nonce"}, ("DPoP-Nonce", "no\u00a0nonce")),
        reply(503, {"error": "use_dpop_nonce"}, ("DPoP-Nonce", "n1")),
        reply(400, {"error": "invalid_dpop_proof"}, ("DPoP-Nonce", "n1")),
    ],
    ids=["no nonce", "bad nonce", "no definite refusal", "another error"],
)
def test_what_does_not_repeat_the_request(response: HttpResponse) -> None:
    """Promise 3: nothing else does."""
    found = answer(bound_push().transaction, response)
    assert found.request is None
    assert found.transaction.is_finished


@pytest.mark.parametrize(
    "tx",
    [
        step(Transaction(client=PUSH_CLIENT, provider=PROVIDER), Begin(REQUEST), NOW).transaction,
        step(
            Transaction(
                client=attrs.evolve(BOUND_PUSH, backchannel_token_delivery_mode="ping"), provider=PROVIDER
            ),
            Begin(REQUEST),
            NOW,
        ).transaction,
        notify(bound_push().transaction, pushed()).transaction,
        restored(bound_push().transaction),
    ],
    ids=["not bound", "ping", "a push is held", "restored"],
)
def test_who_does_not_repeat_the_request(tx: Transaction) -> None:
    """DPOP-14, promise 3: who showed no proof, has heard of the request otherwise, or does not know it."""
    found = answer(tx, NONCE_WANTED)
    assert found.request is None
    assert isinstance(found.transaction.state, Refused)


def test_a_repeated_request_that_is_signed_elsewhere() -> None:
    """DPOP-14: the nonce is asked for after the first signature, and a second one is needed."""
    begun = bound_push(authentication=PrivateKeyJwt(RemoteSigner("hsm", alg="ES256")))
    asked = step(begun.transaction, SignaturesMade(1, (b"s" * 64,)), NOW)
    again = answer(asked.transaction, NONCE_WANTED)
    assert isinstance(again.transaction.state, SigningAuthentication)
    assert again.draft is not None
    signed = step(again.transaction, SignaturesMade(2, (b"s" * 64,)), NOW)
    assert claims_of(proof(signed)[0])["nonce"] == "n1"
    assert isinstance(answer(signed.transaction, NONCE_WANTED).transaction.state, Refused)
    failed = step(again.transaction, SigningFailed(2, "busy"), NOW)
    assert isinstance(failed.transaction.error, RequestNotSent)


@pytest.mark.parametrize("mode", ["poll", "ping"])
def test_other_modes_show_the_key_where_they_fetch_the_tokens(mode: str) -> None:
    """DPOP-21: at the token endpoint, and nowhere else."""
    client: Any = attrs.evolve(
        PUSH_CLIENT,
        backchannel_token_delivery_mode=mode,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        dpop_bound_access_tokens=True,
        entropy=counter(),
    )
    begun = step(Transaction(client=client, provider=PROVIDER), Begin(REQUEST), NOW)
    assert proof(begun) == []
    polled = fire(answer(begun.transaction, reply(200, ACKNOWLEDGEMENT)).transaction)
    assert len(proof(polled)) == 1


def test_a_remote_signer() -> None:
    """CIBA-10.3-01: the one request is signed elsewhere; everything after that needs no signature."""
    remote = RemoteSigner("hsm", alg="ES256")
    client = attrs.evolve(PUSH_CLIENT, authentication=PrivateKeyJwt(remote))
    begun = step(Transaction(client=client, provider=PROVIDER), Begin(REQUEST), NOW)
    assert begun.draft is not None
    assert begun.transaction.client_notification_token == Secret(NOTIFICATION_TOKEN)
    assert status(notify(begun.transaction, pushed())) == 401
    tx = step(begun.transaction, SignaturesMade(1, (b"s" * 64,)), NOW)
    assert NOTIFICATION_TOKEN.encode() in sent(tx).body
    assert notify(answer(tx.transaction, reply(200, ACKNOWLEDGEMENT)).transaction, pushed()).draft is None


# ---- secrets


def test_no_secret_shows() -> None:
    """Promise 6: nothing of a push shows, whatever becomes of it."""
    texts = [str(value) for name, value in pushed().items() if name not in ("token_type", "expires_in")]
    for members in (pushed(), BAD_PUSH, {**PING, "error": "access_denied", "error_description": "hush"}):
        held = notify(awaiting(client=PUSH_CLIENT), members)
        for found in (
            held,
            answer(held.transaction, reply(200, ACKNOWLEDGEMENT)),
            notify(waiting(), members),
            notify(waiting(), members, shared=UNKNOWN),
        ):
            state = found.transaction.state
            shown = repr(found) + repr(state) + repr(found.events) + repr(found.answer) + repr(found.request)
            assert not any(text in shown for text in (*texts, "hush", NOTIFICATION_TOKEN, AUTH_REQ_ID))
            error = next((event.error for event in found.events if isinstance(event, PushRejected)), None)
            assert error is None or not any(text in str(error) + repr(vars(error)) for text in texts)
            assert error is None or (error.__cause__, error.__context__) == (None, None)

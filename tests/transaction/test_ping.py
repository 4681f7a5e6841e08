"""Ping mode: the provider says that the result is ready, and the client fetches it (CIBA Core 10.2)."""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import parse_qs

import attrs
import pytest

from ciba_core import (
    AuthenticationRequest,
    Begin,
    Cancel,
    ClientConfig,
    Delivery,
    NotificationReceived,
    PollingPolicy,
    PrivateKeyJwt,
    Purpose,
    RemoteSigner,
    RequestSigning,
    Resumed,
    Secret,
    SignaturesMade,
    SigningFailed,
    Step,
    TimerFired,
    Transaction,
    step,
)
from ciba_core.errors import AcknowledgementLost, AuthenticationExpired, LocalProtocolError
from ciba_core.events import (
    AuthenticationRefused,
    AuthenticationRequestFailed,
    AuthenticationRequestSent,
    AuthorizationPending,
    AuthReqIdExpired,
    AuthReqIdIssued,
    AuthReqIdRecovered,
    CallbackAwaited,
    NotificationHeld,
    NotificationIgnored,
    PingReceived,
    PollFailed,
    PollSent,
    SlowDown,
    TokensIssued,
)
from ciba_core.notification import ACCEPTED, UNKNOWN_TOKEN, NotificationRejected
from ciba_core.states import (
    Authenticated,
    AwaitingAcknowledgement,
    AwaitingCallback,
    AwaitingKeys,
    Expired,
    Failed,
    FetchingKeys,
    New,
    Pending,
    Polling,
    Refused,
    SigningAuthentication,
    SigningPoll,
    State,
)
from tests.jwt_samples import FAPI_SIGNER, counter, opened
from tests.samples import (
    ACKNOWLEDGEMENT,
    AUTH_REQ_ID,
    CLIENT,
    NOTIFICATION_TOKEN,
    NOW,
    PING,
    PING_CLIENT,
    PROVIDER,
    PUSH_CLIENT,
    REQUEST,
    SHARED,
    TOKENS,
    answer,
    awaiting,
    fail,
    fire,
    notification,
    notify,
    pending,
    pending_state,
    polling,
    polling_state,
    pushed,
    reply,
    sent,
    status,
)

from .test_states import ENDED, STATES

PENDING = reply(400, {"error": "authorization_pending"})
SLOW = reply(400, {"error": "slow_down"})
TWICE = NotificationIgnored("another one came before")
EARLY = NotificationIgnored("another one waits for the acknowledgement")
LATE = NotificationIgnored("the transaction has ended")
REMOTE = RemoteSigner("hsm", alg="ES256")


def policy(**changes: Any) -> ClientConfig:
    return attrs.evolve(PING_CLIENT, polling=PollingPolicy(safety_margin=0, **changes))


def in_state(state: Any, client: ClientConfig = PING_CLIENT) -> Transaction:
    return Transaction(client=client, provider=PROVIDER, state=state, requests=3, polls=1)


# ---- the token


@pytest.mark.parametrize("client", [PING_CLIENT, PUSH_CLIENT], ids=["ping", "push"])
def test_the_request_has_a_token(client: ClientConfig) -> None:
    """CIBA-7.1-09: a ``client_notification_token`` goes with the request, and the transaction knows it."""
    begun = step(Transaction(client=client, provider=PROVIDER), Begin(REQUEST), NOW)
    assert sent(begun).body == (
        b"scope=openid+email+example-scope&binding_message=W4SCT&login_hint=janedoe%40example.com"
        b"&client_notification_token=" + NOTIFICATION_TOKEN.encode()
    )
    assert begun.transaction.client_notification_token == Secret(NOTIFICATION_TOKEN)
    assert begun.answer is None


def test_a_poll_client_has_none() -> None:
    """CIBA-7.1-09: in poll mode there is nobody to call back."""
    begun = step(Transaction(client=CLIENT, provider=PROVIDER), Begin(REQUEST), NOW)
    assert b"client_notification_token" not in sent(begun).body
    assert begun.transaction.client_notification_token is None


def test_tokens_are_new_and_cannot_be_guessed() -> None:
    """CIBA-7.1-09, -10: 256 bits of the source, in the alphabet of a bearer token, for each request anew."""
    asked: list[int] = []
    octets = counter()

    def entropy(count: int) -> bytes:
        asked.append(count)
        return octets(count)

    client = attrs.evolve(PING_CLIENT, entropy=entropy)
    tokens = {awaiting(client=client).client_notification_token for _ in range(10)}
    assert asked == [32] * 10
    assert len(tokens) == 10
    assert all(token is not None and len(token.reveal()) == 43 for token in tokens)
    assert {*"".join(token.reveal() for token in tokens if token)} <= {
        *"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    }


def test_the_token_stays() -> None:
    """CIBA-9-04: one token for the life of a transaction, polls and callbacks included."""
    tx = pending(client=PING_CLIENT)
    for moved in (
        notify(tx),
        fire(tx),
        answer(fire(tx).transaction, PENDING),
        step(tx, Cancel(), NOW),
        answer(fire(tx).transaction, reply(200, TOKENS)),
    ):
        assert moved.transaction != tx
        assert moved.transaction.client_notification_token == Secret(NOTIFICATION_TOKEN)


def test_a_signed_request_has_the_token_inside() -> None:
    """CIBA-7.1.1-02: every parameter is a claim, this one too; nothing stands beside the request object."""
    client = attrs.evolve(PING_CLIENT, request_signing=RequestSigning(FAPI_SIGNER), entropy=counter())
    begun = step(Transaction(client=client, provider=PROVIDER), Begin(REQUEST), NOW)
    form = parse_qs(sent(begun).body.decode())
    assert set(form) == {"request"}
    token = begun.transaction.client_notification_token
    assert token is not None
    _, claims = opened(form["request"][0])
    assert claims["client_notification_token"] == token.reveal()
    assert claims["login_hint"] == "janedoe@example.com"


def test_a_callers_own_token_is_refused() -> None:
    """CIBA-7.1-09: there is one source of the token, so that it is never a weak or an old one."""
    with pytest.raises(ValueError, match="client_notification_token"):
        AuthenticationRequest(scope="openid", login_hint="x", extra={"client_notification_token": "mine"})


# ---- the way through


def test_the_whole_way() -> None:
    """SM-01, -02, -18, CIBA-10.2-05: acknowledgement, ping, answer, and then at once the token request."""
    begun = step(Transaction(client=PING_CLIENT, provider=PROVIDER), Begin(REQUEST), NOW)
    assert [type(event) for event in begun.events] == [AuthenticationRequestSent]

    acknowledged = answer(begun.transaction, reply(200, ACKNOWLEDGEMENT))
    assert acknowledged.events == (AuthReqIdIssued(Secret(AUTH_REQ_ID), NOW + 120, 2.0, NOW + 90),)
    assert acknowledged.transaction.deadline == NOW + 90

    pinged = notify(acknowledged.transaction, now=NOW + 0.5)
    assert pinged.events == (PingReceived(NOW + 0.5),)
    assert pinged.answer == ACCEPTED
    # The answer goes out before anything is asked for.
    assert pinged.request is None
    assert pinged.transaction.deadline == NOW + 0.5
    assert pending_state(pinged.transaction).pinged

    polled = fire(pinged.transaction)
    assert polled.events == (PollSent(1),)
    assert sent(polled).purpose is Purpose.TOKEN
    assert sent(polled).body.endswith(b"&auth_req_id=" + AUTH_REQ_ID.encode())
    assert polled.answer is None

    last = answer(polled.transaction, reply(200, TOKENS), now=NOW + 1)
    assert [type(event) for event in last.events] == [TokensIssued]
    assert last.transaction.tokens is not None
    assert last.answer is None


def test_whatever_the_interval_says() -> None:
    """CIBA-10.1-16: the token request after a ping comes at once, however long the interval is."""
    tx = pending({**ACKNOWLEDGEMENT, "interval": 60}, client=PING_CLIENT)
    assert notify(tx, now=NOW + 1).transaction.deadline == NOW + 1
    beside = pending({**ACKNOWLEDGEMENT, "interval": 60}, client=policy(beside_ping=True))
    beside = answer(fire(beside).transaction, SLOW, now=NOW + 60).transaction
    assert beside.deadline == NOW + 120
    assert notify(beside, now=NOW + 61).transaction.deadline == NOW + 61


def test_still_pending_after_the_ping() -> None:
    """CIBA-10.1-16: from then on as a client in poll mode, at the interval and with ``slow_down``."""
    tx = fire(notify(pending(client=PING_CLIENT)).transaction).transaction
    later = answer(tx, PENDING, elapsed=0.5, now=NOW + 0.5)
    assert later.events == (AuthorizationPending(2.0, NOW + 2.5, 0, False),)
    slower = answer(fire(later.transaction).transaction, SLOW, now=NOW + 2.5)
    assert slower.events == (SlowDown(7.0, NOW + 9.5, 0, False),)
    assert pending_state(slower.transaction).pinged
    failed = fail(fire(slower.transaction).transaction, now=NOW + 9.5)
    assert [type(event) for event in failed.events] == [PollFailed]
    assert failed.transaction.deadline == NOW + 16.5


def test_members_beside_the_identifier_do_not_matter() -> None:
    """CIBA-9-09, CIBA-10.2-04: a ping is no result, whatever else is in it."""
    found = notify(pending(client=PING_CLIENT), {**PING, "status": "approved", "scope": "all"})
    assert found == notify(pending(client=PING_CLIENT))
    assert found.transaction.tokens is None


def test_a_ping_of_a_denied_request() -> None:
    """CIBA-9-03, CIBA-10.2-04: after a ping the token endpoint says that it was a no."""
    tx = fire(notify(pending(client=PING_CLIENT)).transaction).transaction
    assert answer(tx, reply(400, {"error": "access_denied"})).transaction.is_finished


# ---- polls for want of a ping


@pytest.mark.parametrize(
    ("expires_in", "changes", "deadline"),
    [
        (120, {}, 90),
        (600, {}, 570),
        (60, {}, 30),
        (59, {}, 29.5),
        (40, {}, 20),
        (120, {"ping_fallback": 10.0}, 110),
        (120, {"ping_fallback": 0.5}, 119.5),
        (120, {"ping_fallback": 500.0}, 60),
        (120, {"ping_fallback": None}, 120),
        (120, {"beside_ping": True}, 2),
        (120, {"beside_ping": True, "ping_fallback": None}, 2),
        (120, {"beside_ping": True, "first_poll_after": 0.0}, 0),
        # What is said of the first poll is said of polling, not of the poll for want of a ping.
        (120, {"first_poll_after": 7.0}, 90),
    ],
)
def test_the_first_poll_without_a_ping(expires_in: int, changes: dict[str, Any], deadline: float) -> None:
    """CIBA-10.1-15, CIBA-10.2-07: shortly before the end, or beside the ping, or never."""
    tx = pending({**ACKNOWLEDGEMENT, "expires_in": expires_in}, client=policy(**changes))
    assert tx.deadline == NOW + deadline


def test_one_poll_for_want_of_a_ping() -> None:
    """CIBA-10.2-07: it is made once; after "pending" only a ping or the end is waited for."""
    polled = fire(pending(client=PING_CLIENT))
    assert sent(polled).purpose is Purpose.TOKEN
    for response, interval in (
        (PENDING, 2),
        (SLOW, 7),
        (reply(400, {"error": "slow_down", "interval": 9}), 7),
    ):
        waiting = answer(polled.transaction, response, now=NOW + 91).transaction
        state = pending_state(waiting)
        assert (state.next_poll_at, state.interval, state.pinged) == (None, interval, False)
        assert waiting.deadline == NOW + 120
    late = notify(waiting, now=NOW + 100).transaction
    assert late.deadline == NOW + 100
    assert isinstance(fire(late).transaction.state, Polling)
    over = fire(waiting)
    assert isinstance(over.transaction.state, Expired)
    assert over.request is None


def test_the_poll_for_want_of_a_ping_may_bring_the_tokens() -> None:
    """CIBA-10.2-07: the ping was lost, the authentication is not."""
    found = answer(fire(pending(client=PING_CLIENT)).transaction, reply(200, TOKENS), now=NOW + 91)
    assert found.transaction.tokens is not None


@pytest.mark.parametrize("response", [reply(503), None])
def test_a_fault_of_that_poll_does_not_use_it_up(response: Any) -> None:
    """CIBA-10.1-12: it is tried again until there is an answer."""
    tx = fire(pending(client=PING_CLIENT)).transaction
    found = fail(tx, now=NOW + 91) if response is None else answer(tx, response, now=NOW + 91)
    assert [type(event) for event in found.events] == [PollFailed]
    assert found.transaction.deadline == NOW + 93
    again = answer(fire(found.transaction).transaction, PENDING, now=NOW + 94).transaction
    assert again.deadline == NOW + 120


def test_polls_beside_the_ping() -> None:
    """CIBA-10.1-15: where callbacks get lost, a ping client polls like any other."""
    tx = pending(client=policy(beside_ping=True))
    for number in range(1, 4):
        polled = fire(tx)
        assert polled.events == (PollSent(number),)
        tx = answer(polled.transaction, PENDING, now=NOW + 2 * number).transaction
        assert tx.deadline == NOW + 2 * number + 2
        assert not pending_state(tx).pinged


def test_without_any_poll_it_expires() -> None:
    """CIBA-10.2-02: no ping is sent for what expired; the client has a timer of its own."""
    found = fire(pending(client=policy(ping_fallback=None)))
    assert found.request is None
    assert isinstance(found.transaction.error, AuthenticationExpired)
    assert [type(event) for event in found.events] == [AuthReqIdExpired]


def test_a_nonce_is_no_answer() -> None:
    """DPOP-14: the poll for want of a ping is repeated with the nonce, and does not count as made."""
    client = attrs.evolve(PING_CLIENT, dpop_bound_access_tokens=True, entropy=counter())
    tx = fire(pending(client=client)).transaction
    found = answer(tx, reply(400, {"error": "use_dpop_nonce"}, ("DPoP-Nonce", "n1")), now=NOW + 90)
    assert found.transaction.deadline == NOW + 92
    assert isinstance(fire(found.transaction).transaction.state, Polling)


# ---- while a poll is under way


def test_a_ping_during_a_poll() -> None:
    """CIBA-10.1-06, -16: never two requests at once; the answer may be older than the ping, so it is asked again."""
    tx = fire(pending(client=PING_CLIENT)).transaction
    pinged = notify(tx, now=NOW + 90.2)
    assert pinged.events == (PingReceived(NOW + 90.2),)
    assert status(pinged) == 204
    assert pinged.request is None
    assert pinged.transaction.deadline is None
    assert pinged.transaction.requests == tx.requests
    state = polling_state(pinged.transaction)
    assert (state.pinged, state.poll_again) == (True, True)
    for response, interval in ((PENDING, 2), (SLOW, 7)):
        again = answer(pinged.transaction, response, elapsed=0.3, now=NOW + 90.5).transaction
        assert again.deadline == NOW + 90.5
        assert pending_state(again).interval == interval
        polled = fire(again).transaction
        assert polling_state(polled).poll_again is False
        # From then on at the interval.
        assert answer(polled, PENDING, now=NOW + 91).transaction.deadline == NOW + 91 + interval


@pytest.mark.parametrize(("error", "retry_after"), [("slow_down", "15"), ("authorization_pending", "20")])
def test_a_ping_during_a_poll_that_is_told_to_wait(error: str, retry_after: str) -> None:
    """CIBA-10.1-11: what the ping lifts is the interval, and not Retry-After."""
    pinged = notify(fire(pending(client=PING_CLIENT)).transaction).transaction
    told = reply(400, {"error": error}, ("Retry-After", retry_after))
    assert answer(pinged, told, now=NOW + 91).transaction.deadline == NOW + 91 + int(retry_after)


def test_a_ping_during_a_poll_that_wants_a_nonce() -> None:
    """CIBA-10.1-17, DPOP-15: the poll that shows the nonce is the one that the ping asks for: at once."""
    bound = attrs.evolve(PING_CLIENT, dpop_bound_access_tokens=True, entropy=counter())
    wanted = reply(400, {"error": "use_dpop_nonce"}, ("DPoP-Nonce", "n1"))
    tx = fire(pending(client=bound)).transaction
    assert answer(notify(tx).transaction, wanted, now=NOW + 91).transaction.deadline == NOW + 91
    # Without the ping it is a retry like any other.
    assert answer(tx, wanted, now=NOW + 91).transaction.deadline == NOW + 93


def test_a_ping_during_the_poll_that_brings_the_tokens() -> None:
    """CIBA-10.2-06: nothing more is asked for."""
    pinged = notify(fire(pending(client=PING_CLIENT)).transaction).transaction
    found = answer(pinged, reply(200, TOKENS))
    assert isinstance(found.transaction.state, Authenticated)
    assert found.request is None


def test_a_ping_during_a_poll_that_fails() -> None:
    """CIBA-10.1-12: a fault is backed off from, ping or no ping."""
    pinged = notify(fire(pending(client=PING_CLIENT)).transaction, now=NOW + 90).transaction
    failed = fail(pinged, now=NOW + 91).transaction
    assert failed.deadline == NOW + 93
    assert pending_state(failed).pinged


def test_a_ping_while_a_poll_waits_for_its_signature() -> None:
    """CIBA-10.2-06: the poll that is being signed is the one that the ping asks for."""
    client = attrs.evolve(PING_CLIENT, authentication=PrivateKeyJwt(REMOTE))
    begun = step(Transaction(client=client, provider=PROVIDER), Begin(REQUEST), NOW)
    assert status(notify(begun.transaction)) == 401
    signed = step(begun.transaction, SignaturesMade(1, (b"s" * 64,)), NOW)
    assert isinstance(signed.transaction.state, AwaitingAcknowledgement)
    assert b"client_notification_token=AAAA" in sent(signed).body
    drafted = fire(answer(signed.transaction, reply(200, ACKNOWLEDGEMENT)).transaction).transaction
    assert isinstance(drafted.state, SigningPoll)

    pinged = notify(drafted)
    assert pinged.events == (PingReceived(NOW),)
    assert status(pinged) == 204
    assert pinged.draft is None
    assert isinstance(pinged.transaction.state, SigningPoll)
    assert notify(pinged.transaction).events == (TWICE,)

    polled = step(pinged.transaction, SignaturesMade(drafted.requests, (b"s" * 64,)), NOW + 91)
    assert polling_state(polled.transaction).pinged
    assert not polling_state(polled.transaction).poll_again
    # As a client in poll mode from now on.
    assert answer(polled.transaction, PENDING, now=NOW + 92).transaction.deadline == NOW + 94
    unsigned = step(pinged.transaction, SigningFailed(drafted.requests, "busy"), NOW + 91).transaction
    assert unsigned.deadline == NOW + 93
    assert pending_state(unsigned).pinged


# ---- before the acknowledgement


def test_a_ping_that_overtakes_the_acknowledgement() -> None:
    """SM-05, CIBA-7.3-01: it is answered, kept, and used as soon as the acknowledgement is there."""
    held = notify(awaiting(client=PING_CLIENT))
    assert held.events == (NotificationHeld(notification()),)
    assert status(held) == 204
    assert held.transaction.deadline is None
    assert isinstance(held.transaction.state, AwaitingAcknowledgement)
    assert held.transaction.state.held == notification()

    used = answer(held.transaction, reply(200, ACKNOWLEDGEMENT), now=NOW + 1)
    assert used.events == (
        AuthReqIdIssued(Secret(AUTH_REQ_ID), NOW + 121, 2.0, NOW + 91),
        PingReceived(NOW + 1),
    )
    # It has had its answer.
    assert used.answer is None
    assert used.request is None
    assert used.transaction.deadline == NOW + 1
    assert isinstance(fire(used.transaction).transaction.state, Polling)


def test_two_pings_that_overtake_the_acknowledgement() -> None:
    """CIBA-10.2-06: the first one is kept, the second one is thanked for."""
    held = notify(awaiting(client=PING_CLIENT)).transaction
    second = notify(held, {**PING, "second": True})
    assert second == Step(held, (EARLY,), shared=SHARED, answer=ACCEPTED)
    assert second.transaction is held


def test_a_held_ping_for_another_identifier() -> None:
    """CIBA-9-04: what is kept is measured by the acknowledgement, and leads to nothing if it does not fit."""
    held = notify(awaiting(client=PING_CLIENT), {"auth_req_id": "other"}).transaction
    used = answer(held, reply(200, ACKNOWLEDGEMENT))
    assert [type(event) for event in used.events] == [AuthReqIdIssued, NotificationRejected]
    assert used.answer is None
    assert used.transaction == pending(client=PING_CLIENT)
    assert used.transaction.deadline == NOW + 90


@pytest.mark.parametrize(
    ("state", "event"),
    [(Refused, AuthenticationRefused), (Failed, AuthenticationRequestFailed)],
)
def test_a_held_ping_without_an_acknowledgement(state: type[Any], event: type[Any]) -> None:
    """SM-03, -04: no acknowledgement, no authentication; the ping came for nothing."""
    held = notify(awaiting(client=PING_CLIENT)).transaction
    refusal = reply(400, {"error": "invalid_scope"})
    ended = answer(held, refusal) if state is Refused else fail(held, Delivery.NOT_SENT)
    assert isinstance(ended.transaction.state, state)
    assert [type(found) for found in ended.events] == [event, NotificationIgnored]
    assert ended.answer is None
    assert ended.request is None


def test_a_held_ping_and_the_end_of_the_process() -> None:
    """Promise 5: the ping is stored; it stands in for the lost acknowledgement, unless that is turned off."""
    held = notify(awaiting(client=PING_CLIENT)).transaction
    stored = Transaction.from_json(held.to_json(), client=PING_CLIENT, provider=PROVIDER)
    assert stored == held
    used = answer(stored, reply(200, ACKNOWLEDGEMENT))
    assert used == answer(held, reply(200, ACKNOWLEDGEMENT))
    resumed = step(stored, Resumed(), NOW)
    assert [type(event) for event in resumed.events] == [CallbackAwaited, AuthReqIdRecovered, PingReceived]
    assert resumed.answer is None
    assert isinstance(fire(resumed.transaction).transaction.state, Polling)
    at_once = attrs.evolve(PING_CLIENT, polling=PollingPolicy(callback_after_loss=None))
    given_up = step(attrs.evolve(stored, client=at_once), Resumed(), NOW)
    assert isinstance(given_up.transaction.error, AcknowledgementLost)


# ---- twice, late, for somebody else


def test_a_ping_that_comes_twice() -> None:
    """CIBA-10.2-06: one token request for any number of pings; each is answered alike."""
    first = notify(pending(client=PING_CLIENT)).transaction
    for now in (NOW, NOW + 50):
        again = notify(first, now=now)
        assert again == Step(first, (TWICE,), shared=SHARED, answer=ACCEPTED)
        assert again.transaction is first
    polled = fire(first).transaction
    assert notify(polled) == Step(polled, (TWICE,), shared=SHARED, answer=ACCEPTED)
    waiting = answer(polled, PENDING, now=NOW + 1).transaction
    assert notify(waiting, now=NOW + 1.5).transaction.deadline == NOW + 3


def test_a_ping_after_expiry() -> None:
    """SM-21, CIBA-7.4-04: it is accepted, and nothing is sent any more."""
    tx = pending(client=PING_CLIENT)
    late = notify(tx, now=NOW + 120)
    assert status(late) == 204
    assert late.transaction.deadline == NOW + 120
    over = fire(late.transaction)
    assert isinstance(over.transaction.state, Expired)
    assert over.request is None
    assert notify(over.transaction).events == (LATE,)


def test_a_timer_from_before_the_ping_is_stray() -> None:
    """Promise 2: the deadline is another one now; the old one leads to nothing, also when it fires late."""
    tx = pending(client=PING_CLIENT)
    deadline = tx.deadline
    assert deadline is not None
    pinged = notify(tx).transaction
    assert step(pinged, TimerFired(deadline), NOW + 90, SHARED) == Step(pinged, shared=SHARED)


@pytest.mark.parametrize("auth_req_id", ["hush", AUTH_REQ_ID.upper(), AUTH_REQ_ID + " ", AUTH_REQ_ID[:-1]])
@pytest.mark.parametrize("state", STATES[4:9], ids=lambda state: type(state).__name__)
def test_a_wrong_identifier_under_the_right_token(state: Any, auth_req_id: str) -> None:
    """CIBA-9-04, VEC-DER-06: 401, a warning, and the transaction goes on as if nothing had come."""
    tx = in_state(attrs.evolve(state, auth_req_id=Secret(AUTH_REQ_ID)))
    found = notify(tx, {"auth_req_id": auth_req_id})
    warning = NotificationRejected("CIBA Core 10.2: auth_req_id", "the token of another auth_req_id")
    assert found == Step(tx, (warning,), shared=SHARED, answer=UNKNOWN_TOKEN.answer)
    assert found.transaction is tx
    assert auth_req_id not in repr(found)


@pytest.mark.parametrize(
    "members",
    [pushed(), {**PING, "error": "access_denied"}, {**PING, "access_token": "a"}, {**PING, "error": 5}],
    ids=["tokens", "error", "token", "no code"],
)
@pytest.mark.parametrize("state", STATES[:9], ids=lambda state: type(state).__name__)
def test_a_push_to_a_ping_client(state: Any, members: dict[str, object]) -> None:
    """CIBA-9-18, bad input: 400 in every state, nothing of it is used, and the operator is told."""
    tx = in_state(state)
    found = notify(tx, members)
    warning = NotificationRejected("CIBA Core 5: token delivery mode", "a push to one in ping mode")
    assert found.events == (warning,)
    assert found.answer is not None
    assert (found.answer.status, found.answer.headers, found.answer.body) == (400, (), b"")
    assert found.transaction is tx
    assert found.request is None


def test_a_poll_client_has_no_endpoint() -> None:
    """Misuse: a callback for a transaction in poll mode is a mistake of the embedder."""
    for state in STATES:
        tx = in_state(state, CLIENT)
        with pytest.raises(LocalProtocolError, match="poll mode has no client notification endpoint"):
            notify(tx)


RESULTS: dict[type[Any], tuple[type[Any], int]] = {
    New: (NotificationRejected, 401),
    SigningAuthentication: (NotificationRejected, 401),
    AwaitingAcknowledgement: (NotificationHeld, 204),
    Pending: (PingReceived, 204),
    SigningPoll: (PingReceived, 204),
    Polling: (PingReceived, 204),
    FetchingKeys: (NotificationIgnored, 204),
    AwaitingKeys: (NotificationIgnored, 204),
}


@pytest.mark.parametrize("state", STATES, ids=lambda state: type(state).__name__)
def test_a_ping_in_every_state(state: State) -> None:
    """SM-18, -23, promise 8: one result each; no ping ever makes a request in the same step."""
    if isinstance(state, AwaitingCallback):
        return  # two results; see `test_healing`
    tx = in_state(state)
    found = notify(tx, {"auth_req_id": "id"}, now=NOW + 1)
    event, expected = RESULTS.get(type(state), (NotificationIgnored, 204))
    assert [type(one) for one in found.events] == [event]
    assert status(found) == expected
    assert found.request is None
    assert found.draft is None
    assert found.shared is SHARED
    assert type(found.transaction.state) is type(state)
    assert (found.transaction.requests, found.transaction.polls) == (3, 1)
    if event in (NotificationIgnored, NotificationRejected):
        assert found.transaction is tx
    if state in ENDED:
        assert found.events == (LATE,)
    if isinstance(state, (New, SigningAuthentication)):
        assert found.events == (UNKNOWN_TOKEN.event,)
        assert found.answer == UNKNOWN_TOKEN.answer
    if isinstance(state, (FetchingKeys, AwaitingKeys)):
        assert found.events == (TWICE,)


def test_after_the_end_everything_is_accepted() -> None:
    """CIBA-9-16: also what would have been wrong before: there is nothing to protect any more."""
    for state in ENDED:
        for members in (PING, {"auth_req_id": "other"}, pushed()):
            found = notify(in_state(state), members)
            assert found == Step(in_state(state), (LATE,), shared=SHARED, answer=ACCEPTED)


@pytest.mark.parametrize("now", [math.nan, math.inf])
def test_time_has_to_be_a_number(now: float) -> None:
    """Misuse: without a time nothing can be decided."""
    with pytest.raises(LocalProtocolError, match="now must be a finite number"):
        step(pending(client=PING_CLIENT), NotificationReceived(notification()), now)


@pytest.mark.parametrize("now", [-1e300, -1.0, 1e12, 1e300])
def test_absurd_times_are_survived(now: float) -> None:
    """A clock that is far off leads to documented results only, and the deadline is never beyond the expiry."""
    for tx in (awaiting(client=PING_CLIENT), pending(client=PING_CLIENT), polling(client=PING_CLIENT)):
        found = notify(tx, now=now)
        assert status(found) == 204
        if found.transaction.deadline is not None:
            assert found.transaction.deadline <= NOW + 120
            assert isinstance(fire(found.transaction), Step)


# ---- cancelling


@pytest.mark.parametrize(
    "tx",
    [
        awaiting(client=PING_CLIENT),
        notify(awaiting(client=PING_CLIENT)).transaction,
        pending(client=PING_CLIENT),
        notify(pending(client=PING_CLIENT)).transaction,
        notify(polling(client=PING_CLIENT)).transaction,
    ],
    ids=["awaiting", "held", "pending", "pinged", "pinged during a poll"],
)
def test_cancelling(tx: Transaction) -> None:
    """SM-22: nobody waits for an answer; a ping had its own at once. A ping after that is late."""
    found = step(tx, Cancel(), NOW)
    assert found.answer is None
    assert found.request is None
    assert notify(found.transaction).events == (LATE,)


def test_no_secret_shows() -> None:
    """Promise 6: neither the token nor the identifier, before, while and after a ping waits."""
    tx = awaiting(client=PING_CLIENT)
    for found in (
        notify(tx),
        answer(notify(tx).transaction, reply(200, ACKNOWLEDGEMENT)),
        notify(pending(client=PING_CLIENT)),
        notify(pending(client=PING_CLIENT), {"auth_req_id": "hush"}),
    ):
        shown = repr(found) + repr(found.transaction.state) + repr(found.events) + repr(found.answer)
        assert AUTH_REQ_ID not in shown
        assert "hush" not in shown
        assert NOTIFICATION_TOKEN not in shown

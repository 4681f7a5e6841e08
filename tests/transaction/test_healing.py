"""A callback heals a lost acknowledgement in ping and push mode.

The callback comes under a token that was stored before the request left, and it names the ``auth_req_id``: all
that the acknowledgement would have told, but for the times.
"""

from __future__ import annotations

from typing import Final

import attrs
import pytest

from ciba_core import (
    AuthenticationRequest,
    Cancel,
    ClientConfig,
    Delivery,
    HttpResponse,
    Limits,
    PollingPolicy,
    Resumed,
    Secret,
    Step,
    TimerFired,
    Transaction,
    step,
)
from ciba_core.errors import AccessDenied, AcknowledgementLost, RequestNotSent
from ciba_core.events import (
    AuthenticationRequestFailed,
    AuthReqIdRecovered,
    CallbackAwaited,
    CancelRequested,
    PingReceived,
    PushRejected,
    TokensIssued,
    UserDenied,
)
from ciba_core.notification import NotificationRejected
from ciba_core.states import Authenticated, AwaitingCallback, Cancelled, Failed, Pending, Polling
from tests.samples import (
    ACKNOWLEDGEMENT,
    AUTH_REQ_ID,
    CLIENT,
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
    notify,
    pushed,
    reply,
    status,
)

CALLED_BACK: Final = [PING_CLIENT, PUSH_CLIENT]
IN_VAIN: Final = (
    "the acknowledgement was lost, and no callback came; the user may have been asked (ReadTimeout)"
)


def lost(client: ClientConfig = PING_CLIENT, request: AuthenticationRequest = REQUEST) -> Transaction:
    """A transaction whose acknowledgement was lost."""
    tx = fail(awaiting(request, client=client)).transaction
    assert isinstance(tx.state, AwaitingCallback)
    return tx


def restored(tx: Transaction) -> Transaction:
    return Transaction.from_json(tx.to_json(), client=tx.client, provider=PROVIDER)


def with_policy(client: ClientConfig, seconds: float | None) -> ClientConfig:
    return attrs.evolve(client, polling=PollingPolicy(callback_after_loss=seconds))


# ---- into the wait, and out of it again


@pytest.mark.parametrize("client", CALLED_BACK, ids=["ping", "push"])
@pytest.mark.parametrize("happened", ["failed", "resumed", "status 502"])
def test_a_lost_acknowledgement_is_waited_for(client: ClientConfig, happened: str) -> None:
    """Promise 3: nothing is sent again; a callback is waited for, for 120 seconds, and an event says so."""
    tx = awaiting(client=client)
    found, reason = {
        "failed": (fail(tx), "ReadTimeout"),
        "resumed": (step(restored(tx), Resumed(), NOW), "interrupted before the answer came"),
        "status 502": (answer(tx, reply(502)), "status 502"),
    }[happened]
    assert found.events == (CallbackAwaited(reason, NOW + 120),)
    assert (found.request, found.draft, found.answer) == (None, None, None)
    waiting = found.transaction
    assert isinstance(waiting.state, AwaitingCallback)
    assert waiting.deadline == waiting.callbacks_until == waiting.expires_at == NOW + 120
    assert (waiting.is_finished, waiting.auth_req_id, waiting.error) == (False, None, None)
    assert step(restored(waiting), Resumed(), NOW + 60) == Step(waiting)


@pytest.mark.parametrize("client", CALLED_BACK, ids=["ping", "push"])
def test_the_wait_in_vain(client: ClientConfig) -> None:
    """Promise 3: without a callback it ends as `AcknowledgementLost`, and says why."""
    over = fire(lost(client))
    error = over.transaction.error
    assert isinstance(error, AcknowledgementLost)
    assert (str(error), error.reason) == (IN_VAIN, "ReadTimeout")
    assert over.events == (AuthenticationRequestFailed(error),)
    assert over.request is None


def test_how_long_the_wait_is() -> None:
    """The time that the request asked for counts where there is one, or else the policy's."""
    short = AuthenticationRequest(scope="openid", login_hint="janedoe", requested_expiry=45)
    assert lost(request=short).deadline == NOW + 45
    assert lost(with_policy(PING_CLIENT, 7.5)).deadline == NOW + 7.5
    assert lost(with_policy(PING_CLIENT, 7.5), short).deadline == NOW + 45
    # Through a restart, which loses the request.
    stored = restored(awaiting(short, client=PING_CLIENT))
    assert step(stored, Resumed(), NOW + 10).transaction.deadline == NOW + 55
    # A year at most, as all spans.
    ever = AuthenticationRequest(scope="openid", login_hint="janedoe", requested_expiry=2**31 - 1)
    assert lost(request=ever).deadline == NOW + 366 * 86400


@pytest.mark.parametrize(
    "client",
    [CLIENT, with_policy(PING_CLIENT, None), with_policy(PUSH_CLIENT, None)],
    ids=["poll", "ping", "push"],
)
def test_where_no_callback_is_waited_for(client: ClientConfig) -> None:
    """Promise 3: in poll mode nobody calls back, and a setting ends it at once in the other modes."""
    short = AuthenticationRequest(scope="openid", login_hint="janedoe", requested_expiry=45)
    tx = awaiting(short, client=client)
    for found in (fail(tx), step(restored(tx), Resumed(), NOW), answer(tx, reply(502))):
        assert isinstance(found.transaction.error, AcknowledgementLost)


@pytest.mark.parametrize("client", CALLED_BACK, ids=["ping", "push"])
def test_what_is_no_loss(client: ClientConfig) -> None:
    """The provider never saw the request, or gave an answer that is none: there is nothing to wait for."""
    tx = awaiting(client=client)
    assert isinstance(fail(tx, Delivery.NOT_SENT).transaction.error, RequestNotSent)
    for response in (reply(200, {"auth_req_id": "id"}), reply(503), reply(400, {"error": "invalid_scope"})):
        found = answer(tx, response)
        assert found.transaction.is_finished
        assert not isinstance(found.transaction.error, AcknowledgementLost)


def test_not_while_an_acknowledgement_may_come() -> None:
    """CIBA-7.3-01: as long as the exchange is under way, a callback is held and binds nothing."""
    held = notify(awaiting(client=PING_CLIENT), {"auth_req_id": "other"}).transaction
    acknowledged = answer(held, reply(200, ACKNOWLEDGEMENT)).transaction
    assert acknowledged.auth_req_id == Secret(AUTH_REQ_ID)


def test_a_late_timer_and_a_stray_one() -> None:
    """Promise 2: a timer for another deadline leads to nothing; cancelling ends the wait."""
    tx = lost()
    assert step(tx, TimerFired(NOW + 119), NOW + 500) == Step(tx)
    cancelled = step(tx, Cancel(), NOW)
    assert isinstance(cancelled.transaction.state, Cancelled)
    assert cancelled.events == (CancelRequested(),)


# ---- ping


def test_a_ping_heals() -> None:
    """CIBA-10.2-06: the ping names the identifier; its one token request follows at once."""
    found = notify(lost(), now=NOW + 20)
    assert found.events == (AuthReqIdRecovered(Secret(AUTH_REQ_ID), NOW + 120, 5.0), PingReceived(NOW + 20))
    assert status(found) == 204
    assert found.request is None
    pinged = found.transaction
    assert pinged.state == Pending(
        Secret(AUTH_REQ_ID), REQUEST.requested(), NOW + 120, 5.0, NOW + 20, pinged=True
    )
    assert restored(pinged) == pinged
    polled = fire(pinged)
    assert polled.request is not None
    assert AUTH_REQ_ID in polled.request.body.decode()
    assert isinstance(answer(polled.transaction, reply(200, TOKENS)).transaction.state, Authenticated)


def test_pending_after_a_ping_that_heals() -> None:
    """CIBA-7.3: the interval is that of a provider that names none."""
    polled = fire(notify(lost(), now=NOW + 20).transaction).transaction
    again = answer(polled, reply(400, {"error": "authorization_pending"}), now=NOW + 20).transaction
    assert again.deadline == NOW + 25 + CLIENT.polling.safety_margin


def test_a_callback_at_the_last_moment() -> None:
    """Whoever calls back has the result: it is asked for, for a minute at least."""
    for late in (119.9, 120.5):
        found = notify(lost(), now=NOW + late)
        assert found.transaction.expires_at == NOW + late + 60
        assert isinstance(fire(found.transaction, now=NOW + late + 1).transaction.state, Polling)


def test_the_first_callback_binds() -> None:
    """CIBA-9-04: from then on another identifier is turned away, in a callback and in a late acknowledgement."""
    bound = notify(lost()).transaction
    other = notify(bound, {"auth_req_id": "other"})
    assert [type(event) for event in other.events] == [NotificationRejected]
    assert status(other) == 401
    assert other.transaction is bound
    late = answer(bound, reply(200, {**ACKNOWLEDGEMENT, "auth_req_id": "other"}))
    assert late == Step(bound, shared=SHARED)


def test_an_acknowledgement_after_it_was_given_up() -> None:
    """Its exchange is over, so what calls itself its answer is none."""
    tx = lost()
    assert answer(tx, reply(200, {**ACKNOWLEDGEMENT, "auth_req_id": "other"})) == Step(tx, shared=SHARED)


def test_what_binds_nothing() -> None:
    """Bad input: a callback of the wrong mode, and an identifier without end, leave the wait as it is."""
    tx = lost(attrs.evolve(PING_CLIENT, limits=Limits(string=256)))
    for found, rule in (
        (notify(tx, pushed()), "CIBA Core 5: token delivery mode"),
        (notify(tx, {"auth_req_id": "a" * 257}), "size limit"),
    ):
        assert found.transaction is tx
        assert status(found) == 400
        (event,) = found.events
        assert isinstance(event, NotificationRejected)
        assert event.rule == rule
    assert notify(tx, {"auth_req_id": "a" * 256}).transaction.auth_req_id == Secret("a" * 256)


# ---- push


def test_a_push_heals() -> None:
    """CIBA-10.3-02: tokens are handed out whose ID Token names the identifier that they were pushed for."""
    found = notify(lost(PUSH_CLIENT), pushed())
    assert [type(event) for event in found.events] == [AuthReqIdRecovered, TokensIssued]
    assert status(found) == 204
    assert found.transaction.tokens is not None


@pytest.mark.parametrize("named", ["other", None])
def test_a_push_whose_id_token_names_another(named: str | None) -> None:
    """CIBA-10.3-02: turned away; a good push for the same identifier may follow."""
    found = notify(lost(PUSH_CLIENT), pushed(auth_req_id=named))
    assert [type(event) for event in found.events] == [AuthReqIdRecovered, PushRejected]
    assert status(found) == 400
    assert found.transaction.tokens is None
    assert notify(found.transaction, pushed()).transaction.tokens is not None
    assert status(notify(found.transaction, {**pushed(), "auth_req_id": "other"})) == 401


def test_a_push_without_an_id_token() -> None:
    """CIBA-10.3-02: nothing else vouches for the identifier; a client in push mode always asks for one."""
    found = notify(lost(PUSH_CLIENT), pushed("id_token"))
    assert [type(event) for event in found.events] == [AuthReqIdRecovered, PushRejected]
    assert status(found) == 400
    assert found.transaction.tokens is None


def test_a_pushed_error_heals() -> None:
    """CIBA Core 12: the user's no is one, whether the acknowledgement came or not."""
    found = notify(lost(PUSH_CLIENT), {**PING, "error": "access_denied"})
    assert [type(event) for event in found.events] == [AuthReqIdRecovered, UserDenied]
    assert isinstance(found.transaction.error, AccessDenied)
    assert status(found) == 204


def test_a_held_push_whose_acknowledgement_is_lost() -> None:
    """Promise 8: what came before the loss stands in for it, and has its answer in that step."""
    held = notify(awaiting(client=PUSH_CLIENT), pushed()).transaction
    for found in (step(held, Resumed(), NOW, SHARED), answer(held, HttpResponse(502, (), b""))):
        assert [type(event) for event in found.events] == [CallbackAwaited, AuthReqIdRecovered, TokensIssued]
        assert status(found) == 204


def test_after_the_wait_everything_is_too_late() -> None:
    """CIBA-9-16: a callback after the end is thanked for, and changes nothing."""
    for client, members in ((PING_CLIENT, PING), (PUSH_CLIENT, pushed())):
        over = fire(lost(client)).transaction
        assert isinstance(over.state, Failed)
        assert notify(over, members).transaction is over

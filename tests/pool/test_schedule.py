"""What a schedule says, case by case."""

from __future__ import annotations

from typing import Any, Final

import attrs
import pytest

from ciba_core import (
    Begin,
    Cancel,
    Delivery,
    DpopKey,
    HttpResponse,
    NotificationReceived,
    Purpose,
    Refresh,
    RemoteSigner,
    RequestFailed,
    ResponseReceived,
    Resumed,
    Revocation,
    SignaturesMade,
    SigningFailed,
    TimerFired,
    Transaction,
    step,
)
from ciba_core.client.authentication import PrivateKeyJwt
from ciba_core.errors import LocalProtocolError
from ciba_core.pool.limits import ProviderLimits, TokenBucket
from ciba_core.pool.schedule import Action, Broken, Ended, Handle, Moved, Reply, Schedule, Send, Sign
from ciba_core.states import Authenticated, Denied, Expired
from ciba_core.values.secret import Secret
from tests.samples import (
    ACKNOWLEDGEMENT,
    CLIENT,
    JWKS,
    NOW,
    PING_CLIENT,
    PROVIDER,
    PUSH_CLIENT,
    REQUEST,
    SHARED,
    TOKENS,
    fetching,
    notification,
    pending,
    pushed,
    reply,
    zeros,
)

START: Final = 50.0
"""The monotonic clock at the beginning."""
PENDING: Final = reply(400, {"error": "authorization_pending"})
DENIED: Final = reply(400, {"error": "access_denied"})
ACCEPTED: Final = reply(200, ACKNOWLEDGEMENT)


SIGNER: Final = RemoteSigner("k", alg="ES256")
REMOTE: Final = attrs.evolve(CLIENT, authentication=PrivateKeyJwt(SIGNER))


class Driver:
    """A schedule with a clock, and what it said last."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.at = 0.0

    def wake_at(self) -> float | None:
        return self.schedule.wake_at

    def tick(self, at: float | None = None) -> list[Action]:
        self.at = self.at if at is None else at
        return self.schedule.tick(NOW + self.at, START + self.at)

    def feed(self, handle: Handle, happened: Any) -> list[Action]:
        return self.schedule.feed(handle, happened, NOW + self.at, START + self.at)

    def answer(self, send: Send, response: HttpResponse, elapsed: float = 0.0) -> list[Action]:
        return self.feed(send.handle, ResponseReceived(send.request.id, response, elapsed))


def begin(driver: Driver, number: int = 1, **changes: Any) -> list[Handle]:
    new = Transaction(client=CLIENT, provider=attrs.evolve(PROVIDER, **changes))
    return [driver.schedule.begin(new, REQUEST) for _ in range(number)]


def sends(actions: list[Action]) -> list[Send]:
    return [action for action in actions if isinstance(action, Send)]


def one(actions: list[Action]) -> Send:
    (found,) = sends(actions)
    return found


def ended(actions: list[Action]) -> Ended:
    (found,) = (action for action in actions if isinstance(action, Ended))
    return found


def test_one_login_from_start_to_end() -> None:
    """The pool says what to send, what moved and what ended, in this order."""
    driver = Driver(Schedule())
    (handle,) = begin(driver)
    assert driver.schedule.wake_at is not None
    actions = driver.tick()
    assert [type(action) for action in actions] == [Moved, Send]
    assert one(actions).request.purpose is Purpose.AUTHENTICATION
    assert driver.wake_at() is None
    driver.answer(one(actions), ACCEPTED)
    assert driver.wake_at() == pytest.approx(START + 2, abs=1e-5)
    assert driver.tick(1.9) == []
    actions = driver.tick(2.1)
    actions = driver.answer(one(actions), DENIED)
    assert [type(action) for action in actions] == [Moved, Ended]
    outcome = ended(actions).outcome
    assert isinstance(outcome, Transaction)
    assert isinstance(outcome.state, Denied)
    assert len(driver.schedule) == 0
    with pytest.raises(KeyError):
        driver.schedule[handle]


def test_limits_hold_and_the_rest_waits() -> None:
    """A burst of starts queues: no more than the burst leaves, and no more are under way than may be."""
    driver = Driver(Schedule(ProviderLimits(in_flight=3, rate=1.0, burst=2)))
    begin(driver, 5)
    first = sends(driver.tick())
    assert len(first) == 2
    assert driver.schedule.wake_at == pytest.approx(START + 1)
    assert len(sends(driver.tick(1.0))) == 1
    assert sends(driver.tick(10.0)) == []
    assert driver.schedule.wake_at is None
    assert len(sends(driver.answer(first[0], ACCEPTED))) == 1


def test_each_provider_has_its_own_limits() -> None:
    """One provider's line does not hold up another one."""
    other = "https://other.example.com"
    schedule = Schedule(ProviderLimits(in_flight=1), limits_of={other: ProviderLimits(in_flight=2)})
    driver = Driver(schedule)
    begin(driver, 3)
    begin(driver, 3, issuer=other)
    assert len(sends(driver.tick())) == 3


def test_polls_and_starts_take_turns() -> None:
    """Neither starves the other."""
    driver = Driver(Schedule(ProviderLimits(in_flight=1)))
    for _ in range(2):
        driver.schedule.resume(pending(), NOW, START)
    begin(driver, 2)
    purposes: list[Purpose] = []
    actions = driver.tick(3.0)
    for _ in range(4):
        send = one(actions)
        purposes.append(send.request.purpose)
        actions = driver.answer(send, DENIED)
    assert purposes == [Purpose.TOKEN, Purpose.AUTHENTICATION] * 2


def test_who_waits_in_line_ends_at_its_own_expiry() -> None:
    """When more is due than may be sent, the end of a login does not come later for that."""
    driver = Driver(Schedule(ProviderLimits(in_flight=1)))
    begin(driver)
    driver.tick()
    handle = driver.schedule.resume(pending(), NOW, START)
    assert driver.tick(5.0) == []
    assert driver.schedule.wake_at == pytest.approx(START + 120, abs=1e-5)
    outcome = ended(driver.tick(120.1))
    assert outcome.handle == handle
    assert isinstance(outcome.outcome, Transaction)
    assert isinstance(outcome.outcome.state, Expired)


def test_without_a_poll_to_come_the_end_needs_no_turn() -> None:
    """What sends nothing waits for nobody."""
    driver = Driver(Schedule(ProviderLimits(in_flight=1)))
    driver.schedule.resume(pending(client=PUSH_CLIENT), NOW, START)
    assert isinstance(ended(driver.tick(121.0)).outcome, Transaction)


def test_retry_after_holds_for_the_provider() -> None:
    """RFC 9110 10.2.3: what a provider says to one is meant for all."""
    driver = Driver(Schedule())
    begin(driver)
    send = one(driver.tick())
    begin(driver)
    actions = driver.answer(send, reply(503, "", ("Retry-After", "7")))
    assert sends(actions) == []
    assert driver.schedule.wake_at == START + 7
    assert sends(driver.tick(6.9)) == []
    again = one(driver.tick(7.0))
    begin(driver)
    assert len(sends(driver.answer(again, reply(503)))) == 1


def key_seekers(driver: Driver, number: int) -> tuple[Send, list[Handle]]:
    """Members with tokens whose key is unknown: one asks for the key set, for all."""
    handles = [driver.schedule.resume(pending(), NOW, START) for _ in range(number)]
    polls = sends(driver.tick(2.1))
    keys = [send for poll in polls for send in sends(driver.answer(poll, reply(200, TOKENS)))]
    (fetch,) = keys
    assert fetch.request.purpose is Purpose.KEYS
    return fetch, handles


def test_one_fetch_of_the_keys_serves_all() -> None:
    """A hundred who approve at once cost one request for the key set."""
    driver = Driver(Schedule(ProviderLimits(in_flight=100, burst=200)))
    fetch, handles = key_seekers(driver, 100)
    actions = driver.answer(fetch, reply(200, JWKS))
    outcomes = [action for action in actions if isinstance(action, Ended)]
    assert {outcome.handle for outcome in outcomes} == {*handles}
    assert all(
        isinstance(each.outcome, Transaction) and isinstance(each.outcome.state, Authenticated)
        for each in outcomes
    )
    assert driver.schedule.shared(PROVIDER.issuer).keys is not None


def test_a_fetch_that_fails_fails_for_all_and_is_made_again_once() -> None:
    """They wait and ask again: still with one request at a time."""
    driver = Driver(Schedule())
    fetch, handles = key_seekers(driver, 5)
    driver.feed(fetch.handle, RequestFailed(fetch.request.id, Delivery.UNKNOWN, "ReadTimeout", 1.0))
    assert len(driver.schedule) == len(handles)
    again = one(driver.tick(60.0))
    assert (
        len([action for action in driver.answer(again, reply(200, JWKS)) if isinstance(action, Ended)]) == 5
    )


def test_the_one_who_fetched_is_cancelled() -> None:
    """The answer serves the others all the same."""
    driver = Driver(Schedule())
    fetch, _handles = key_seekers(driver, 3)
    driver.feed(fetch.handle, Cancel())
    actions = driver.answer(fetch, reply(200, JWKS))
    assert len([action for action in actions if isinstance(action, Ended)]) == 2


def test_the_one_whose_fetch_is_in_line_is_cancelled() -> None:
    """The next one asks in its place."""
    driver = Driver(Schedule(ProviderLimits(in_flight=3)))
    handles = [driver.schedule.resume(pending(), NOW, START) for _ in range(3)]
    polls = sends(driver.tick(2.1))
    driver.answer(polls[2], reply(503, "", ("Retry-After", "7")))
    assert driver.answer(polls[0], reply(200, TOKENS)) != []
    assert sends(driver.answer(polls[1], reply(200, TOKENS))) == []
    driver.feed(handles[0], Cancel())
    fetch, poll = sends(driver.tick(9.2))
    assert (fetch.handle, fetch.request.purpose) == (handles[1], Purpose.KEYS)
    assert poll.handle == handles[2]


def test_all_whose_fetch_is_in_line_are_cancelled() -> None:
    """Then nobody asks."""
    driver = Driver(Schedule(ProviderLimits(in_flight=3)))
    handles = [driver.schedule.resume(pending(), NOW, START) for _ in range(2)]
    polls = sends(driver.tick(2.1))
    driver.answer(polls[1], reply(503, "", ("Retry-After", "7")))
    driver.answer(polls[0], reply(200, TOKENS))
    for handle in handles:
        driver.feed(handle, Cancel())
    assert sends(driver.tick(9.2)) == []
    assert driver.schedule.wake_at is None


def test_a_request_that_is_made_and_waits_in_line_expires_unsent() -> None:
    """The poll that a signature has completed waits no longer than its login lasts."""
    driver = Driver(Schedule())
    remote = attrs.evolve(pending(), client=REMOTE)
    handle = driver.schedule.resume(remote, NOW, START)
    (sign,) = (action for action in driver.tick(2.1) if isinstance(action, Sign))
    begin(driver)
    send = one(driver.tick())
    driver.answer(send, reply(503, "", ("Retry-After", "500")))
    assert sends(driver.feed(handle, SignaturesMade(sign.draft.id, (bytes(64),)))) == []
    outcome = ended(driver.tick(120.1)).outcome
    assert isinstance(outcome, Transaction)
    assert isinstance(outcome.state, Expired)


def test_operations_are_members_too() -> None:
    """A revocation and a refresh take their turn like polls."""
    driver = Driver(Schedule())
    provider = attrs.evolve(PROVIDER, revocation_endpoint="https://server.example.com/revoke")
    handle = driver.schedule.start(Revocation(Secret("t"), client=CLIENT, provider=provider))
    send = one(driver.tick())
    assert send.handle == handle
    outcome = ended(driver.answer(send, reply(200))).outcome
    assert not isinstance(outcome, Transaction)
    assert outcome.error is None
    assert outcome.is_finished


def test_an_operation_waits_for_keys_like_a_transaction() -> None:
    """The wait ends in a turn, since a request follows it."""
    driver = Driver(Schedule())
    driver.schedule.share(PROVIDER.issuer, SHARED)
    driver.schedule.resume(fetching(), NOW, START)
    authenticated = ended(driver.tick()).outcome
    assert isinstance(authenticated, Transaction)
    assert authenticated.tokens is not None
    driver = Driver(Schedule())
    driver.schedule.start(Refresh(authenticated.tokens, client=CLIENT, provider=PROVIDER))
    fetch = one(driver.answer(one(driver.tick()), reply(200, TOKENS)))
    assert driver.feed(fetch.handle, RequestFailed(fetch.request.id, Delivery.UNKNOWN, "x", 0.0)) == []
    again = one(driver.tick(31.0))
    outcome = ended(driver.answer(again, reply(200, JWKS))).outcome
    assert not isinstance(outcome, Transaction)
    assert outcome.error is None


def test_an_operation_is_no_transaction() -> None:
    """A callback for an operation is a wrong call."""
    driver = Driver(Schedule())
    provider = attrs.evolve(PROVIDER, revocation_endpoint="https://server.example.com/revoke")
    operation = Revocation(Secret("t"), client=CLIENT, provider=provider)
    handle = driver.schedule.start(operation)
    driver.tick()
    with pytest.raises(LocalProtocolError, match="NotificationReceived"):
        driver.feed(handle, NotificationReceived(notification()))
    started = driver.schedule[handle]
    assert not isinstance(started, Transaction)
    with pytest.raises(LocalProtocolError, match="started already"):
        driver.schedule.start(started)


def test_drafts_count_as_under_way() -> None:
    """What is being signed has its place already, and leaves it when the signature does not come."""
    driver = Driver(Schedule(ProviderLimits(in_flight=1)))
    remote = Transaction(client=REMOTE, provider=PROVIDER)
    handles = [driver.schedule.begin(remote, REQUEST) for _ in range(4)]
    (sign,) = (action for action in driver.tick() if isinstance(action, Sign))
    assert sign.handle == handles[0]
    actions = driver.feed(handles[0], SignaturesMade(sign.draft.id, (bytes(64),)))
    send = one(actions)
    assert not any(isinstance(action, Sign) for action in actions)
    (sign,) = (action for action in driver.answer(send, ACCEPTED) if isinstance(action, Sign))
    actions = driver.feed(sign.handle, SigningFailed(sign.draft.id, "the HSM is away"))
    assert isinstance(ended(actions).outcome, Transaction)
    (sign,) = (action for action in actions if isinstance(action, Sign))
    # A signature that never comes ends at the deadline of the draft.
    actions = driver.tick(driver.at + 3600)
    assert any(isinstance(action, Sign) for action in actions)


def test_callbacks_are_answered() -> None:
    """A push is judged by the keys that are shared."""
    driver = Driver(Schedule())
    driver.schedule.share(PROVIDER.issuer, SHARED)
    handle = driver.schedule.resume(pending(client=PUSH_CLIENT), NOW, START)
    actions = driver.feed(handle, NotificationReceived(notification(pushed())))
    assert [type(action) for action in actions] == [Moved, Reply, Ended]


def test_a_request_that_does_not_fit_harms_nobody_else() -> None:
    """It is handed back with the error."""
    driver = Driver(Schedule())
    wrong = Transaction(client=CLIENT, provider=PROVIDER, dpop_key=DpopKey.generate(zeros))
    broken = driver.schedule.begin(wrong, REQUEST)
    begin(driver)
    first, *rest = driver.tick()
    assert isinstance(first, Broken)
    assert first.handle == broken
    assert isinstance(first.error, LocalProtocolError)
    assert len(sends(rest)) == 1


def test_removed_members_can_be_resumed_elsewhere() -> None:
    """Shutting down loses nothing: what was under way comes back as lost."""
    driver = Driver(Schedule())
    (handle,) = begin(driver)
    send = one(driver.tick())
    tx = driver.schedule.remove(handle)
    assert driver.answer(send, ACCEPTED) == []
    assert isinstance(tx, Transaction)
    other = Driver(Schedule())
    other.schedule.resume(tx, NOW, START)
    assert isinstance(ended(other.tick()).outcome, Transaction)
    finished = other.schedule.resume(step(tx, Cancel(), NOW).transaction, NOW, START)
    assert ended(other.tick()).handle == finished


def test_a_queued_start_can_be_cancelled() -> None:
    """Nothing is sent for it."""
    driver = Driver(Schedule(ProviderLimits(in_flight=1)))
    first, second = begin(driver, 2)
    send = one(driver.tick())
    assert ended(driver.feed(second, Cancel())).handle == second
    assert sends(driver.answer(send, ACCEPTED)) == []
    assert driver.schedule.handles() == [first]


def test_late_input_is_ignored_and_wrong_input_is_named() -> None:
    """As `step` has it."""
    driver = Driver(Schedule())
    (handle,) = begin(driver)
    send = one(driver.tick())
    driver.answer(send, ACCEPTED)
    assert driver.answer(send, ACCEPTED) == []
    with pytest.raises(LocalProtocolError, match="no request 9"):
        driver.feed(handle, RequestFailed(9, Delivery.UNKNOWN, "x", 0.0))
    driver.feed(handle, Cancel())
    assert driver.answer(send, ACCEPTED) == []
    with pytest.raises(LocalProtocolError, match="no such member"):
        driver.feed(Handle(77), Cancel())
    for own in (Begin(REQUEST), TimerFired(NOW), Resumed()):
        with pytest.raises(LocalProtocolError, match="schedule itself"):
            driver.feed(handle, own)
    with pytest.raises(LocalProtocolError, match="monotonic"):
        driver.schedule.tick(NOW, float("nan"))
    with pytest.raises(LocalProtocolError, match="begun already"):
        driver.schedule.begin(pending(), REQUEST)


def test_a_stray_callback_changes_no_wait() -> None:
    """Neither does a wall clock that was set."""
    driver = Driver(Schedule())
    handle = driver.schedule.resume(pending(client=PING_CLIENT), NOW, START)
    before = driver.schedule.wake_at
    stray = NotificationReceived(notification({"auth_req_id": "someone-else"}))
    driver.schedule.feed(handle, stray, NOW + 100, START + 0.5)
    assert driver.schedule.wake_at == before


def test_known_keys_need_no_fetch() -> None:
    """What others have learnt serves the members too."""
    driver = Driver(Schedule())
    assert driver.schedule.shared(PROVIDER.issuer).keys is None
    driver.schedule.share(PROVIDER.issuer, SHARED)
    driver.schedule.resume(fetching(), NOW, START)
    actions = driver.tick()
    outcome = ended(actions).outcome
    assert isinstance(outcome, Transaction)
    assert isinstance(outcome.state, Authenticated)


def test_the_bucket() -> None:
    """Tokens come back with time, and never more than the burst."""
    bucket = TokenBucket(rate=2.0, burst=2)
    assert bucket.available_at() == float("-inf")
    bucket.take(10.0)
    assert bucket.available_at() == 10.0
    bucket.take(10.0)
    assert bucket.available_at() == 10.5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("in_flight", 0),
        ("in_flight", 1.5),
        ("rate", 0.0),
        ("rate", "9"),
        ("burst", 0),
        ("rate", float("nan")),
    ],
)
def test_bad_limits_are_named(name: str, value: Any) -> None:
    """A limit that cannot be is an error of its parameter."""
    with pytest.raises((TypeError, ValueError), match=name):
        ProviderLimits(**{name: value})

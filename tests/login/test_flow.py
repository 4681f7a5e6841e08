"""The decisions of a login, as wishes: without client, thread, event loop or store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar, assert_never

import pytest
from attrs import define, evolve, field

from ciba_core import (
    Act,
    Advance,
    Answer,
    AuthenticationRequest,
    Begin,
    Claimed,
    ClientConfig,
    Flow,
    HttpRequest,
    Input,
    Left,
    Load,
    LoginFlow,
    LoginRecords,
    Now,
    Pause,
    PrivateKeyJwt,
    Purpose,
    Release,
    RemoteSigner,
    ResponseReceived,
    Save,
    Sealer,
    Session,
    StoredCallback,
    StoredRecord,
    StoreFailed,
    TimerFired,
    Transaction,
    Waiting,
    callback_key,
    session_key_of,
    step,
)
from ciba_core.errors import (
    AcknowledgementLost,
    LoginUnderWay,
    NoPendingLogin,
    RequestNotSent,
    StoreConflict,
    StoredContentAltered,
    StoreError,
    StoreUnavailable,
)
from ciba_core.login.flow import LISTEN, PATIENCE
from ciba_core.login.records import MARGIN
from tests.samples import (
    ACKNOWLEDGEMENT,
    CLIENT,
    JWKS,
    NOW,
    PROVIDER,
    REQUEST,
    notification,
    pushed,
    reply,
)

ResultT = TypeVar("ResultT")
SECRET: Final = "a secret of at least thirty-two octets"
PLAIN: Final = evolve(REQUEST, openid=False, scope="profile")
TOKENS: Final = {"access_token": "at", "token_type": "Bearer", "expires_in": 300, "scope": "profile"}
PENDING: Final = {"error": "authorization_pending"}


@define
class Driver:
    """Does what flows wish, by the book, in time that passes when it is told to."""

    answers: list[Any] = field(factory=list[Any])
    """What the token endpoint answers, one after the other; then the user has not decided."""
    now: float = NOW
    records: dict[str, tuple[Save, float]] = field(factory=dict[str, tuple[Save, float]])
    """What is stored in each place, and since when."""
    sent: list[str] = field(factory=list[str])
    wishes: list[Any] = field(factory=list[Any])
    failing: Iterator[Exception | None] = field(factory=lambda: iter(()))
    """What the next saves raise."""
    lose_answers: bool = False
    """Whether a save that fails has taken place."""
    can_claim: bool = True
    leaves: bool = False
    before_act: Callable[[], object] = field(default=lambda: None)
    on_pause: Callable[[Pause], object] = field(default=lambda _wish: None)
    slow: Iterator[float] = field(factory=lambda: iter(()))
    """How long the next saves take."""
    failing_loads: Iterator[Exception | None] = field(factory=lambda: iter(()))
    client: ClientConfig = CLIENT
    callbacks: tuple[StoredCallback, ...] = ()

    @property
    def flow(self) -> LoginFlow:
        records = LoginRecords(
            client=self.client, provider=PROVIDER, sealer=Sealer([SECRET]), session_key="key"
        )
        return LoginFlow(records=records, can_claim=self.can_claim)

    def run(self, flow: Flow[ResultT]) -> ResultT:
        answer: Answer = None
        while True:
            try:
                wish = flow.send(answer)
            except StopIteration as end:
                result: ResultT = end.value
                return result
            self.wishes.append(wish)
            match wish:
                case Load():
                    error = next(self.failing_loads, None)
                    answer = self.load(wish.place) if error is None else StoreFailed(error)
                case Save():
                    answer = self.save(wish)
                case Release():
                    answer = True
                case Advance():
                    answer = step(wish.transaction, wish.happened, self.now)
                case Act():
                    answer = self.act(wish)
                case Pause():
                    self.now += wish.seconds
                    self.on_pause(wish)
                    answer = Left() if self.leaves and wish.may_leave else None
                case Now():
                    answer = self.now
                case _:
                    assert_never(wish)

    def load(self, place: str) -> StoredRecord | None:
        if place not in self.records:
            return None
        wish, saved_at = self.records[place]
        callbacks = self.callbacks if place == "transactions" else ()
        return StoredRecord(wish.text, wish.revision, self.now - saved_at, callbacks)

    def save(self, wish: Save) -> str | StoreFailed:
        error = next(self.failing, None)
        self.now += next(self.slow, 0.0)
        if error is None or self.lose_answers:
            found = self.load(wish.place)
            if found is not None and found.revision == wish.revision and self.can_claim:
                return wish.revision
            if (None if found is None else found.revision) != wish.expected_revision:
                return StoreFailed(StoreConflict("changed"))
            self.records[wish.place] = wish, self.now
            self.callbacks = tuple(one for one in self.callbacks if one.id not in wish.taken)
        return wish.revision if error is None else StoreFailed(error)

    def act(self, wish: Act) -> Input | Left | None:
        self.before_act()
        request = wish.step.request
        if request is not None:
            return self.answer(request)
        if self.leaves:
            return Left()
        assert wish.seconds is not None
        assert wish.step.transaction.deadline is not None
        self.now += wish.seconds
        if wish.is_part:
            return None
        return TimerFired(wish.step.transaction.deadline)

    def answer(self, request: HttpRequest) -> ResponseReceived:
        name = request.url.rpartition("/")[2]
        self.sent.append(name)
        if request.purpose is Purpose.KEYS:
            return ResponseReceived(request.id, reply(200, JWKS), 0.0)
        if name != "token":
            return ResponseReceived(request.id, reply(200, ACKNOWLEDGEMENT), 0.0)
        answer = self.answers.pop(0) if self.answers else PENDING
        return ResponseReceived(request.id, reply(400 if "error" in answer else 200, answer), 0.0)

    @property
    def saved(self) -> Save:
        return self.records["transactions"][0]

    def claimed(self) -> Claimed:
        record = self.load("transactions")
        assert record is not None
        return Claimed("key", record)


def waiting(found: object) -> Waiting:
    assert isinstance(found, Waiting)
    return found


def test_a_login_in_one_piece() -> None:
    """Whatever is sent was saved before; the session is saved before the login lets go of the tokens."""
    driver = Driver([PENDING, TOKENS])
    session = driver.run(driver.flow.login(PLAIN))
    assert isinstance(session, Session)
    acts = [wish for wish in driver.wishes if isinstance(wish, (Save, Act))]
    assert all(isinstance(acts[at - 1], Save) for at, wish in enumerate(acts) if isinstance(wish, Act))
    assert [wish.place for wish in acts if isinstance(wish, Save)][-3:] == [
        "transactions", "sessions", "transactions",
    ]  # fmt: skip
    assert driver.run(driver.flow.load_session()) == session
    assert driver.saved.wake_after is None


def test_slices() -> None:
    """Started, and gone on with slice by slice: nothing before its time, one poll in each, in any process."""
    driver = Driver([PENDING, TOKENS])
    first = waiting(driver.run(driver.flow.start(PLAIN)))
    assert driver.sent == ["bc-authorize"]
    assert first.seconds == driver.saved.wake_after
    assert first.wake_at == driver.now + first.seconds
    before = driver.saved
    driver.now += first.seconds / 2
    assert waiting(driver.run(driver.flow.advance())).seconds == first.seconds / 2
    assert driver.saved == before
    driver.now += first.seconds / 2
    second = waiting(driver.run(driver.flow.advance()))
    assert driver.sent == ["bc-authorize", "token"]
    driver.now += second.seconds
    session = driver.run(driver.flow.advance(driver.claimed()))
    assert isinstance(session, Session)
    assert driver.run(driver.flow.advance()) == session


def test_clocks_that_differ_by_hours_poll_in_time() -> None:
    """The store says how long ago a login was saved: the clock of the next process counts for nothing."""
    for skew in (-7200.0, 7200.0):
        driver = Driver([PENDING, TOKENS])
        first = waiting(driver.run(driver.flow.start(PLAIN)))
        wish, saved_at = driver.records["transactions"]
        driver.now += skew
        driver.records["transactions"] = wish, saved_at + skew
        assert waiting(driver.run(driver.flow.advance())).seconds == pytest.approx(first.seconds)
        driver.now += first.seconds
        second = waiting(driver.run(driver.flow.advance()))
        assert driver.sent == ["bc-authorize", "token"]
        driver.now += second.seconds
        assert isinstance(driver.run(driver.flow.resume()), Session)


def test_what_was_claimed_too_early_is_given_back() -> None:
    """A store that hands a login out before its time makes nobody poll early."""
    driver = Driver()
    first = waiting(driver.run(driver.flow.start(PLAIN)))
    claimed = driver.claimed()
    assert waiting(driver.run(driver.flow.advance(claimed))).seconds == first.seconds
    (release,) = [wish for wish in driver.wishes if isinstance(wish, Release)]
    assert release == Release(key="key", revision=claimed.record.revision, wake_after=first.seconds)


def test_a_request_under_way_is_not_disturbed() -> None:
    """While another process may wait for an answer, a slice does nothing, and says when to come again."""
    driver = Driver()
    driver.run(driver.flow.start(PLAIN))
    seen: list[Waiting] = []

    def look() -> None:
        driver.before_act = lambda: None
        assert (
            driver.saved.lease == driver.saved.wake_after == CLIENT.connect_timeout + CLIENT.timeout + MARGIN
        )
        seen.append(waiting(driver.run(driver.flow.advance())))

    driver.now += 10
    driver.before_act = look
    driver.run(driver.flow.advance())
    assert seen[0].seconds == CLIENT.connect_timeout + CLIENT.timeout + MARGIN
    assert driver.sent == ["bc-authorize", "token"]


def test_a_wait_that_is_left() -> None:
    """Who leaves gives the login back, due at its time."""
    driver = Driver(leaves=True)
    left = waiting(driver.run(driver.flow.login(PLAIN)))
    assert driver.wishes[-1] == Release(key="key", revision=driver.saved.revision, wake_after=left.seconds)
    assert driver.saved.wake_after == left.seconds + PATIENCE
    plain = Driver(leaves=True, can_claim=False)
    assert waiting(plain.run(plain.flow.login(PLAIN))).seconds == left.seconds
    assert not any(isinstance(wish, Release) for wish in plain.wishes)


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("can_claim", [False, True])
@pytest.mark.parametrize("at", range(8))
def test_a_save_that_fails_for_a_moment(at: int, can_claim: bool, lost: bool) -> None:
    """Each save may fail, or have its answer lost, and is tried again: nothing is sent twice, nothing is lost."""
    driver = Driver([PENDING, TOKENS], can_claim=can_claim, lose_answers=lost)
    driver.failing = iter([*[None] * at, OSError("locked"), OSError("locked")])
    assert isinstance(driver.run(driver.flow.login(PLAIN)), Session)
    assert driver.sent == ["bc-authorize", "token", "token"]
    assert sum(isinstance(wish, Pause) for wish in driver.wishes) == (1 if lost else 2)


def test_a_store_that_is_away_for_good() -> None:
    """When the login has no more time, the error has what was not saved; the store's own error is its cause."""
    driver = Driver([TOKENS])
    cause = OSError("disk full")
    driver.failing = iter([*[None] * 4, *[cause] * 1000])
    with pytest.raises(StoreUnavailable) as caught:
        driver.run(driver.flow.login(PLAIN))
    assert caught.value.__cause__ is cause
    assert caught.value.snapshot is not None
    assert '"at"' in caught.value.snapshot.reveal()
    assert '"at"' not in repr(caught.value)


def test_a_request_that_waited_for_the_store_is_made_anew() -> None:
    """Where a save took so long that others may have taken over, the request is not sent after it."""
    driver = Driver([TOKENS])
    driver.run(driver.flow.start(PLAIN))
    driver.now += 10
    driver.failing = iter([OSError("locked")] * 7)
    waiting(driver.run(driver.flow.advance()))
    assert driver.sent == ["bc-authorize"]


def test_a_store_that_is_away_from_the_start() -> None:
    """Before anybody was asked, a store that is away is told within seconds, and nothing is sent."""
    driver = Driver(failing=iter([OSError("read-only")] * 1000))
    before = driver.now
    with pytest.raises(StoreUnavailable):
        driver.run(driver.flow.login(PLAIN))
    assert driver.now - before == MARGIN
    assert driver.sent == []


@pytest.mark.parametrize("error", [TypeError("save()"), StoreConflict("changed")])
def test_what_does_not_pass_is_not_tried_again(error: Exception) -> None:
    """A mistake in a store, and a conflict, are told at once."""
    driver = Driver(failing=iter([error]))
    with pytest.raises(type(error)):
        driver.run(driver.flow.login(PLAIN))
    assert driver.sent == []


def test_one_login_for_all() -> None:
    """Who ensures a session gets the one that is there, or begins a login once and for all."""
    driver = Driver([TOKENS])
    session = driver.run(driver.flow.ensure(PLAIN))
    assert isinstance(session, Session)
    assert driver.run(driver.flow.ensure(PLAIN)) == session
    assert driver.sent == ["bc-authorize", "token"]
    with pytest.raises(NoPendingLogin):
        Driver().run(driver.flow.advance())


def test_who_comes_to_a_login_waits_beside_it() -> None:
    """A login that another process waits for is left to it, and its session is for both."""
    driver = Driver([PENDING, TOKENS])
    first = waiting(driver.run(driver.flow.start(PLAIN)))
    with pytest.raises(LoginUnderWay):
        driver.run(driver.flow.start(PLAIN))
    driver.leaves = True
    assert waiting(driver.run(driver.flow.ensure(PLAIN))).seconds == first.seconds
    driver.leaves = False
    assert isinstance(driver.run(driver.flow.ensure(PLAIN)), Session)
    assert driver.sent == ["bc-authorize", "token", "token"]


def test_who_leaves_while_another_process_is_at_it() -> None:
    """Who waits for another process's request can leave, too."""
    driver = Driver()
    driver.run(driver.flow.start(PLAIN))
    driver.now += 10
    seen: list[object] = []

    def leave() -> None:
        driver.before_act, driver.leaves = (lambda: None), True
        seen.append(driver.run(driver.flow.resume()))

    driver.before_act = leave
    driver.run(driver.flow.advance())
    assert waiting(seen[0]).seconds == CLIENT.connect_timeout + CLIENT.timeout + MARGIN


def test_who_joins_a_login_that_is_removed() -> None:
    """A login that vanishes while one waits beside it is followed by a new one."""
    driver = Driver([TOKENS])
    driver.run(driver.flow.start(PLAIN))
    pauses: list[float] = []

    def pause(wish: Pause) -> None:
        pauses.append(wish.seconds)
        if len(pauses) == 1:
            del driver.records["transactions"]

    driver.on_pause = pause
    assert isinstance(driver.run(driver.flow.ensure(PLAIN)), Session)
    assert driver.sent == ["bc-authorize", "bc-authorize", "token"]


def test_who_joins_sees_the_others_go_on() -> None:
    """Whoever waits beside a login gives the one who is at it its time anew with each thing that it does."""
    driver = Driver([PENDING, PENDING, TOKENS])
    driver.run(driver.flow.start(PLAIN))
    steps: list[object] = []

    def pause(_wish: Pause) -> None:
        if len(steps) < 20:
            steps.append(driver.run(driver.flow.advance()))

    driver.on_pause = pause
    session = driver.run(driver.flow.ensure(PLAIN))
    assert isinstance(session, Session)
    assert session in steps
    assert driver.sent == ["bc-authorize", "token", "token", "token"]


def test_a_conflict_after_a_failed_save() -> None:
    """Where a save failed and somebody else was quicker meanwhile, that is a conflict."""
    for can_claim in (False, True):
        driver = Driver(can_claim=can_claim)
        driver.run(driver.flow.start(PLAIN))
        driver.now += 10
        driver.failing = iter([OSError("away")])
        other = evolve(driver.saved, text=driver.saved.text + "x", revision="other")

        def pause(_wish: Pause, driver: Driver = driver, other: Save = other) -> None:
            driver.records["transactions"] = other, driver.now

        driver.on_pause = pause
        with pytest.raises(StoreError):
            driver.run(driver.flow.advance())
        assert driver.sent == ["bc-authorize"]


def test_a_save_that_was_claimed_before_its_answer_came() -> None:
    """A save that got through, and was claimed by another process since, is not ours to go on with."""
    driver = Driver(lose_answers=True)
    driver.run(driver.flow.start(PLAIN))
    driver.now += 10
    driver.failing = iter([OSError("the answer was lost")])

    def claim(_wish: Pause) -> None:
        wish, saved_at = driver.records["transactions"]
        driver.records["transactions"] = evolve(wish, revision="claimed"), saved_at

    driver.on_pause = claim
    with pytest.raises(StoreConflict):
        driver.run(driver.flow.advance())
    assert driver.sent == ["bc-authorize"]


def test_a_load_that_fails_after_a_failed_save() -> None:
    """Whether a save took place is found out as soon as the store is there again."""
    driver = Driver(can_claim=False, lose_answers=True)
    driver.run(driver.flow.start(PLAIN))
    driver.now += 10
    driver.failing = iter([OSError("away")])
    driver.failing_loads = iter([None, OSError("away")])
    waiting(driver.run(driver.flow.advance()))
    assert driver.sent == ["bc-authorize", "token"]


def test_signatures_that_waited_for_the_store_are_made_anew() -> None:
    """A draft that could not be stored in time is not signed."""
    signer = evolve(CLIENT, authentication=PrivateKeyJwt(RemoteSigner("hsm", alg="ES256")))
    driver = Driver(client=signer, slow=iter([MARGIN + 1]))
    with pytest.raises(RequestNotSent):
        driver.run(driver.flow.login(PLAIN))
    assert driver.sent == []


def test_callbacks_are_sealed_for_their_login() -> None:
    """A callback that was kept comes back whole, for its session key and no other."""
    records = Driver().flow.records
    kept = StoredCallback("1", records.seal_callback(notification()))
    assert records.unseal_callback(kept) == notification()
    with pytest.raises(StoredContentAltered):
        evolve(records, session_key="another").unseal_callback(kept)
    assert session_key_of(callback_key("abc", "a:b")) == "a:b"


# Callbacks that come to another process


def in_ping_mode(**settings: Any) -> Driver:
    return Driver(client=evolve(CLIENT, backchannel_token_delivery_mode="ping"), **settings)


def call_back(driver: Driver) -> None:
    """Keep a ping for the login, as another process would."""
    text = driver.flow.records.seal_callback(notification({"auth_req_id": ACKNOWLEDGEMENT["auth_req_id"]}))
    driver.callbacks = (StoredCallback("1", text),)


def test_who_waits_looks_for_callbacks_that_came_elsewhere() -> None:
    """In ping mode a callback can come to any process: the one that waits finds it in the store."""
    driver = in_ping_mode(answers=[TOKENS])
    acts: list[Act] = []

    def look() -> None:
        acts.append(driver.wishes[-1])
        if len(acts) == 5:
            call_back(driver)
            driver.failing_loads = iter([OSError("away for a moment")])

    driver.before_act = look
    before = driver.now
    assert isinstance(driver.run(driver.flow.login(PLAIN)), Session)
    assert driver.sent == ["bc-authorize", "token"]
    assert driver.now - before == 5 * LISTEN
    assert driver.callbacks == ()


def test_who_waits_sees_that_another_process_goes_on() -> None:
    """Who waits for a callback, and finds that a worker has it, stops."""
    driver = in_ping_mode()
    acts: list[Act] = []

    def look() -> None:
        acts.append(driver.wishes[-1])
        if len(acts) == 5:
            wish, saved_at = driver.records["transactions"]
            driver.records["transactions"] = evolve(wish, revision="claimed"), saved_at

    driver.before_act = look
    with pytest.raises(StoreConflict):
        driver.run(driver.flow.login(PLAIN))
    assert driver.sent == ["bc-authorize"]


def test_a_slice_takes_the_callbacks() -> None:
    """A login that was called back is due, and the callback is taken with the save that knows of it."""
    driver = in_ping_mode(answers=[TOKENS])
    waiting(driver.run(driver.flow.start(PLAIN)))
    call_back(driver)
    assert isinstance(driver.run(driver.flow.advance()), Session)
    assert driver.sent == ["bc-authorize", "token"]
    assert driver.callbacks == ()


class Killed(Exception):  # nothing is wrong
    """The process ended."""


def killed_after_sending(driver: Driver, request: AuthenticationRequest = PLAIN) -> None:
    """Begin a login whose process ends while the authentication request is on its way."""

    def end() -> None:
        raise Killed

    driver.before_act = end
    with pytest.raises(Killed):
        driver.run(driver.flow.login(request))
    driver.before_act = lambda: None
    driver.now += 100


@pytest.mark.parametrize("seen_before", [False, True], ids=["at once", "waiting"])
def test_a_callback_heals_a_login_that_was_killed(seen_before: bool) -> None:
    """Killed after sending: the callback in the store names the rest, and nobody is asked again."""
    driver = in_ping_mode(answers=[TOKENS])
    killed_after_sending(driver)
    if seen_before:
        found = waiting(driver.run(driver.flow.advance()))
        assert found.seconds == 120
        assert driver.saved.wake_after == 120
        driver.now += 119
        assert waiting(driver.run(driver.flow.advance())).seconds == 1
        with pytest.raises(LoginUnderWay):
            driver.run(driver.flow.login(PLAIN))
    call_back(driver)
    assert isinstance(driver.run(driver.flow.advance()), Session)
    assert driver.sent == ["token"]
    assert driver.callbacks == ()


def test_a_login_that_was_killed_and_is_not_called_back() -> None:
    """Killed after sending, and no callback: it is waited for, and then the acknowledgement is lost."""
    driver = in_ping_mode()
    killed_after_sending(driver)
    before = driver.now
    with pytest.raises(AcknowledgementLost):
        driver.run(driver.flow.resume())
    assert driver.now - before == 120
    assert driver.sent == []


def test_who_waits_for_a_lost_acknowledgement_finds_the_callback() -> None:
    """The process that waits looks for callbacks that came elsewhere."""
    driver = in_ping_mode(answers=[TOKENS])
    killed_after_sending(driver)
    before, acts = driver.now, iter(range(3))

    def look() -> None:
        if next(acts, None) == 2:
            call_back(driver)

    driver.before_act = look
    assert isinstance(driver.run(driver.flow.resume()), Session)
    assert driver.now - before == 3 * LISTEN


def test_an_acknowledgement_that_came_after_all() -> None:
    """A process that was thought dead has its acknowledgement, while another one waits for a callback."""
    driver = in_ping_mode(answers=[TOKENS])

    def meanwhile() -> None:
        driver.before_act = lambda: None
        driver.now += 100
        assert waiting(driver.run(driver.flow.advance())).seconds == 120

    driver.before_act = meanwhile
    waiting(driver.run(driver.flow.start(PLAIN)))
    call_back(driver)
    assert isinstance(driver.run(driver.flow.advance()), Session)
    assert driver.sent == ["bc-authorize", "token"]


def test_an_acknowledgement_that_came_after_a_callback() -> None:
    """Once a callback has bound the identifier, a late acknowledgement is a conflict, and changes nothing."""
    driver = in_ping_mode(answers=[TOKENS])

    def meanwhile() -> None:
        driver.before_act = lambda: None
        driver.now += 100
        call_back(driver)
        assert isinstance(driver.run(driver.flow.advance()), Session)

    driver.before_act = meanwhile
    with pytest.raises(StoreConflict):
        driver.run(driver.flow.start(PLAIN))
    assert isinstance(driver.run(driver.flow.resume()), Session)


def test_a_push_heals_and_the_next_callback_waits() -> None:
    """What a callback makes due is sent before the next one in the store is looked at."""
    driver = Driver(client=evolve(CLIENT, backchannel_token_delivery_mode="push"))
    killed_after_sending(driver, REQUEST)
    seal = driver.flow.records.seal_callback
    driver.callbacks = tuple(
        StoredCallback(str(number), seal(notification(members)))
        for number, members in enumerate([pushed(), {**pushed(), "auth_req_id": "other"}])
    )
    assert isinstance(driver.run(driver.flow.advance()), Session)
    assert driver.sent == ["jwks"]
    assert [callback.id for callback in driver.callbacks] == ["1"]


# Snapshots


def test_a_snapshot_is_adopted_once() -> None:
    """Of several who have one snapshot, one stores it as a login; the others are told."""
    begun = step(Transaction(client=CLIENT, provider=PROVIDER), Begin(PLAIN), NOW)
    pending = step(begun.transaction, ResponseReceived(1, reply(200, ACKNOWLEDGEMENT), 0.0), NOW).transaction
    driver = Driver([TOKENS])
    waiting(driver.run(driver.flow.adopt(pending)))
    with pytest.raises(LoginUnderWay):
        driver.run(driver.flow.adopt(pending))
    driver.now += 10
    assert isinstance(driver.run(driver.flow.advance()), Session)
    assert driver.sent == ["token"]
    with pytest.raises(LoginUnderWay, match="before"):
        driver.run(driver.flow.adopt(pending))
    with pytest.raises(AcknowledgementLost):
        Driver().run(Driver().flow.adopt(begun.transaction))
    other = step(
        begun.transaction, ResponseReceived(1, reply(200, {**ACKNOWLEDGEMENT, "auth_req_id": "2"}), 0.0), NOW
    )
    waiting(driver.run(driver.flow.adopt(other.transaction)))


def test_a_store_that_cannot_be_read() -> None:
    """What a store raises when it is asked first is raised as it is; nothing was sent."""
    error = StoreUnavailable("away")
    for start in (LoginFlow.resume, LoginFlow.advance, LoginFlow.load_session):
        driver = Driver(failing_loads=iter([error]))
        with pytest.raises(StoreUnavailable) as caught:
            driver.run(start(driver.flow))
        assert caught.value is error
        assert driver.sent == []

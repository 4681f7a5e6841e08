"""The promises of a transaction in ping and push mode, each as an invariant of one machine that tries to break them.

The rules are a provider, a network and a driver between which everything can overtake everything else: the
acknowledgement, callbacks, answers, timers, the end of the process, and callbacks that somebody made up. The
model beside it knows who may be answered what, and when a token request is due.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from typing import Any, Final, Literal, get_args

from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ciba_core import (
    AuthenticationRequest,
    Begin,
    Cancel,
    ClientConfig,
    ClientSecretBasic,
    Delivery,
    HttpRequest,
    HttpResponse,
    Input,
    NotificationReceived,
    PollingPolicy,
    ProviderMetadata,
    Purpose,
    RequestFailed,
    ResponseReceived,
    Resumed,
    Routes,
    Secret,
    Shared,
    Step,
    TimerFired,
    Transaction,
    receive,
    step,
)
from ciba_core.errors import AcknowledgementLost, RequestNotSent
from ciba_core.events import (
    AnswerHeaders,
    AuthReqIdRecovered,
    Event,
    NotificationHeld,
    NotificationIgnored,
    PingReceived,
    ProviderDeviation,
    PushRejected,
    TokensHeld,
    TokensReceived,
)
from ciba_core.notification import NotificationRejected, token_hash
from ciba_core.states import (
    TRANSITIONS,
    Authenticated,
    AwaitingAcknowledgement,
    AwaitingCallback,
    AwaitingKeys,
    Failed,
    FetchingKeys,
    Pending,
    Polling,
    State,
)
from ciba_core.testing import (
    Approve,
    Callback,
    Deny,
    Ignore,
    SimulatedClient,
    SimulatedProvider,
    VirtualClock,
)

ISSUER: Final = "https://op.example"
SECRET: Final = "client-secret-MARKER"
HINT: Final = "alice-MARKER"
FORGED: Final = "forged-MARKER"
# Floats of POSIX size are exact to a quarter of a microsecond.
TINY: Final = 1e-5
JSON: Final = ("Content-Type", "application/json")

seen: Counter[tuple[type[State], type[Event]]] = Counter()
"""Transitions that any run has taken."""

FAULTY_ANSWERS: Final = [
    HttpResponse(500, (), b""),
    HttpResponse(503, (), b'{"error":"temporarily_unavailable"}'),
    HttpResponse(200, {"Content-Type": "text/html"}, b"<html>Please log in</html>"),
]
"""Answers to a poll or a key request after which it goes on (promise 4)."""

Forgery = Literal[
    "no token", "two tokens", "unknown token", "foreign token", "GET", "text", "garbage", "number",
    "other identifier", "other mode", "altered tokens", "error and tokens",
]  # fmt: skip
FORGERIES: Final[tuple[Forgery, ...]] = get_args(Forgery)
PLAUSIBLE: Final = {"other identifier", "altered tokens", "error and tokens"}
"""Forgeries that only the transaction can tell from what is good."""
TURNED_AWAY: Final[dict[Forgery, int]] = {
    "no token": 401,
    "two tokens": 401,
    "unknown token": 401,
    "GET": 405,
    "text": 415,
    "garbage": 400,
    "number": 400,
}
"""Forgeries that no transaction gets to see."""


class Callbacks(RuleBasedStateMachine):
    """One transaction, its driver, its provider, and everything that can happen between them."""

    @initialize(
        push=st.booleans(),
        polling=st.builds(
            PollingPolicy,
            safety_margin=st.just(0.0),
            beside_ping=st.booleans(),
            ping_fallback=st.sampled_from([None, 5.0, 30.0]),
        ),
        interval=st.sampled_from([None, 1, 5]),
        expires_in=st.sampled_from([10, 60, 600]),
        user=st.sampled_from([Approve(), Approve(after=3), Deny(after=3), Ignore(), Ignore()]),
    )
    def start(
        self,
        push: bool,
        polling: PollingPolicy,
        interval: int | None,
        expires_in: int,
        user: Approve | Deny | Ignore,
    ) -> None:
        """Set up both sides, and another transaction of the same client; the request is under way."""
        self.push = push
        mode: Literal["push", "ping"] = "push" if push else "ping"
        self.clock = VirtualClock()
        # What the provider has sent, and what may arrive at any time, in any order, any number of times.
        self.wire: list[Callback] = []
        self.op = SimulatedProvider(
            self.clock,
            issuer=ISSUER,
            clients=[
                SimulatedClient(
                    "s6BhdRkqt3",
                    SECRET,
                    backchannel_token_delivery_mode=mode,
                    backchannel_client_notification_endpoint="https://client.example/cb",
                )
            ],
            users={HINT: user},
            deliver=self.wire.append,
            interval=interval,
            expires_in=expires_in,
        )
        entropy = iter(range(1, 1 << 60))
        self.client = ClientConfig(
            "s6BhdRkqt3",
            ClientSecretBasic(SECRET),
            backchannel_token_delivery_mode=mode,
            polling=polling,
            entropy=lambda size: (next(entropy) * 0x9E3779B97F4A7C15).to_bytes(32, "big")[-size:],
        )
        self.provider = ProviderMetadata(
            issuer=ISSUER,
            token_endpoint=f"{ISSUER}/token",
            backchannel_authentication_endpoint=f"{ISSUER}/bc-authorize",
            jwks_uri=f"{ISSUER}/jwks",
        )
        self.shared = Shared()
        self.routes = Routes()
        self.tx = Transaction(client=self.client, provider=self.provider)
        self.other = self.another_transaction()
        # The driver: what is on its way to and fro, until when (monotonic) it waits, and who waits for it.
        self.in_flight: HttpRequest | None = None
        self.response: HttpResponse | None = None
        self.sent_at = 0.0
        self.wait_over_at: float | None = None
        self.waiting = False
        self.orphaned = False
        # The model.
        self.interval = 0.0
        self.earliest_poll = 0.0
        self.ping_wants_a_poll = False
        self.unasked_answers = 0
        self.begun = 0
        self.issued: set[str] = set()
        self.before_push: State | None = None
        self.keys_delivered = False
        self.wall_moved_while_waiting = False
        self.events: list[Event] = []
        self.settling = False
        self.begin()

    def another_transaction(self) -> Transaction:
        begun = step(
            Transaction(client=self.client, provider=self.provider),
            Begin(AuthenticationRequest(scope="openid", login_hint="bob")),
            self.clock.time(),
        )
        body = b'{"auth_req_id":"of-the-other","expires_in":600}'
        answer = HttpResponse(200, {"Content-Type": "application/json"}, body)
        return step(begun.transaction, ResponseReceived(1, answer, 0.0), self.clock.time()).transaction

    # --- the driver ------------------------------------------------------------------------------------

    def feed(self, given: Input) -> Step:
        """Feed one input as a driver does, and check what holds for every step."""
        before, now = self.tx, self.clock.time()
        result = step(before, given, now, self.shared)
        # Promise 5, the pure half: from a restored state the same input gives the same step.
        if not isinstance(given, Begin):
            restored = Transaction.from_json(before.to_json(), client=self.client, provider=self.provider)
            again = step(restored, given, now, self.shared)
            assert type(again.transaction.state) is type(result.transaction.state)
            assert [type(event) for event in again.events] == [type(event) for event in result.events]
            assert again.answer == result.answer
        if not self.settling:
            note(f"{given!r} -> {result!r}")
        self.tx, self.shared = result.transaction, result.shared
        self.events += result.events
        self.follow(before, result)
        if self.tx.deadline != before.deadline or (
            self.tx.deadline is not None and type(self.tx.state) is not type(before.state)
        ):
            self.wait_over_at = None
            if self.tx.deadline is not None:
                self.wait_over_at = self.clock.monotonic() + max(self.tx.deadline - now, 0.0)
                self.wall_moved_while_waiting = False
        if result.request is not None:
            self.check_request(result, now)
            self.in_flight = result.request
            self.sent_at = self.clock.monotonic()
        return result

    def follow(self, before: Transaction, result: Step) -> None:
        """Follow the transitions through the table; without one nothing moves."""
        state = type(before.state)
        moved = False
        for event in result.events:
            match event:
                case ProviderDeviation() | NotificationIgnored() | NotificationRejected() | AnswerHeaders():
                    continue
                case AuthReqIdRecovered():
                    # What a lost acknowledgement would have told: the default of CIBA Core 7.3.
                    self.interval = 5.0
                case PingReceived():
                    self.ping_wants_a_poll = True
                case TokensReceived() | TokensHeld() if self.push:
                    self.before_push = before.state if isinstance(before.state, Pending) else None
                case PushRejected():
                    # Promise 7, CIBA-10.3-09: as if nothing had come.
                    was = before.state if type(before.state) is state else None
                    expected = self.before_push if state in {FetchingKeys, AwaitingKeys} else was
                    assert expected is None or self.tx.state == expected
                    assert self.tx.tokens is None
                case _:
                    pass
            seen[state, type(event)] += 1
            state = TRANSITIONS[state, type(event)]
            moved = True
        assert state is type(self.tx.state)
        if not moved:
            assert self.tx == before
            assert result.request is None

    def check_request(self, result: Step, now: float) -> None:
        """Promises 1, 2 and 3, at the moment something is sent."""
        request = result.request
        assert request is not None
        assert self.in_flight is None, "two requests at once"
        match request.purpose:
            case Purpose.AUTHENTICATION:
                self.begun += 1
                assert self.begun == 1, "the authentication request was repeated"
            case Purpose.KEYS:
                assert isinstance(self.tx.state, FetchingKeys)
            case _:
                assert not self.push, "a push client sent a token request"
                assert isinstance(self.tx.state, Polling)
                assert now < self.tx.state.expires_at, "polled after expiry"
                if not self.ping_wants_a_poll and not self.wall_moved_while_waiting:
                    assert self.clock.monotonic() >= self.earliest_poll - TINY, "polled early"
                if not self.tx.state.pinged and not self.client.polling.beside_ping:
                    assert self.client.polling.ping_fallback is not None, "polled without a ping"
                    assert self.unasked_answers == 0, "polled again without a ping"
                self.ping_wants_a_poll = False

    def answered(self, status: int | None) -> None:
        """A step that was no callback had an answer for one, or none."""
        if status is not None:
            assert self.waiting or self.orphaned, "nobody waits for an answer"
            assert status in {204, 400, 401, 503}
            self.waiting = self.orphaned = False

    def feed_request(self, given: Input) -> Step:
        result = self.feed(given)
        self.answered(None if result.answer is None else result.answer.status)
        return result

    def called(self, method: str, headers: Any, body: bytes) -> tuple[int | None, Step | None]:
        """A callback arrives: the status of its answer, and what it did to the transaction."""
        found = receive(method, headers, body, routes=self.routes, now=self.clock.time())
        if found.notification is None:
            assert found.answer is not None
            return found.answer.status, None
        if found.key == "other":
            result = step(self.other, NotificationReceived(found.notification), self.clock.time())
            assert result.transaction is self.other
            assert result.answer is not None
            return result.answer.status, None
        assert found.key == "mine"
        result = self.feed(NotificationReceived(found.notification))
        if result.answer is None:
            # Promise 8: one callback waits at most, and only a push does.
            assert self.push
            assert not self.waiting, "two callbacks wait for an answer"
            self.waiting = True
            return None, result
        return result.answer.status, result

    # --- rules: the course of events ---------------------------------------------------------------------

    def begin(self) -> None:
        """The application asks for an authentication; the route is laid before the request leaves."""
        begun = self.feed(Begin(AuthenticationRequest(scope="openid", login_hint=HINT)))
        assert begun.transaction.client_notification_token != self.other.client_notification_token
        for key, tx in (("mine", begun.transaction), ("other", self.other)):
            assert tx.client_notification_token is not None
            hashed = token_hash(tx.client_notification_token)
            self.routes.add(hashed, key, forget_at=1e12, now=self.clock.time())

    @precondition(lambda self: self.in_flight is not None and self.response is None)
    @rule()
    def provider_acts(self) -> None:
        """The request arrives at the provider; its answer is on the way back."""
        assert self.in_flight is not None
        self.response = self.op.send(self.in_flight)

    @precondition(lambda self: self.response is not None)
    @rule(takes=st.sampled_from([0.0, 0.1, 2.0, 5.0]))
    def answer_arrives(self, takes: float) -> None:
        """The answer has come, and perhaps took its time."""
        self.clock.sleep(takes)
        self.deliver()

    def answered_poll(self, *, slow_down: bool = False) -> None:
        """The interval runs from the answer, and is over where the provider held the poll for longer."""
        now = self.clock.monotonic()
        held_longer = now - self.sent_at > self.interval and not slow_down
        self.earliest_poll = (self.sent_at if held_longer else now) + self.interval

    def deliver(self) -> None:
        request, response = self.in_flight, self.response
        assert request is not None
        assert response is not None
        self.in_flight = self.response = None
        before = self.tx.state
        members: dict[str, Any] = json.loads(response.body) if response.body.startswith(b"{") else {}
        code = members.get("error")
        if isinstance(before, Polling):
            self.interval += 5 if code == "slow_down" else 0
            self.answered_poll(slow_down=code == "slow_down")
            if code in {"authorization_pending", "slow_down"}:
                self.unasked_answers += not before.pinged
        if request.purpose is Purpose.AUTHENTICATION:
            self.interval = float(members.get("interval", 5))
            self.earliest_poll = self.clock.monotonic() + self.interval
        if "access_token" in members:
            self.issued.add(members["access_token"])
        self.keys_delivered = self.keys_delivered or "keys" in members
        self.feed_request(ResponseReceived(request.id, response, self.clock.monotonic() - self.sent_at))
        if (
            isinstance(before, AwaitingAcknowledgement)
            and before.held is not None
            and isinstance(self.tx.state, Pending)
            and before.held.is_ping
            and before.held.auth_req_id == self.tx.state.auth_req_id
        ):
            # Promise 8: a ping that overtook the acknowledgement is used now.
            assert self.tx.deadline is not None
            assert self.tx.deadline <= self.clock.time()
        if isinstance(before, Polling) and before.poll_again and isinstance(self.tx.state, Pending):
            assert code == "use_dpop_nonce" or self.tx.deadline == min(
                self.clock.time(), before.expires_at
            ), "a ping during a poll was forgotten"

    @precondition(lambda self: self.wait_over_at is not None)
    @rule(late=st.sampled_from([0.0, 0.0, 0.3, 10.0]))
    def wait(self, late: float) -> None:
        """The driver waits for the deadline, on its monotonic clock, and perhaps oversleeps."""
        assert self.wait_over_at is not None
        deadline = self.tx.deadline
        assert deadline is not None
        self.clock.sleep(max(self.wait_over_at - self.clock.monotonic(), 0.0) + late)
        result = self.feed_request(TimerFired(deadline))
        assert result.request is not None or self.tx.is_finished

    @rule(seconds=st.sampled_from([0.0, 0.5, 3.0]))
    def time_passes(self, seconds: float) -> None:
        """Nothing happens for a while, but for callbacks that leave the provider."""
        self.clock.sleep(seconds)

    @precondition(lambda self: self.op.pending)
    @rule(approved=st.booleans())
    def user_decides(self, approved: bool) -> None:
        """The user takes the phone in hand; the provider calls back."""
        decide = self.op.approve if approved else self.op.deny
        decide(self.op.pending[0].auth_req_id)
        self.clock.sleep(0.0)

    @precondition(lambda self: self.wire)
    @rule(data=st.data(), again=st.booleans())
    def callback_arrives(self, data: st.DataObject, again: bool) -> None:
        """A callback of the provider arrives, for the first time or once more."""
        number = data.draw(st.integers(0, len(self.wire) - 1))
        callback = self.wire[number] if again else self.wire.pop(number)
        self.real_callback(callback)

    def real_callback(self, callback: Callback) -> None:
        members = json.loads(callback.body)
        if "access_token" in members:
            self.issued.add(members["access_token"])
        before = self.tx
        status, result = self.called("POST", callback.headers, callback.body)
        assert result is not None
        if before.is_finished:
            assert status == 204
            assert self.tx is before
        elif not self.push:
            assert status == 204
            if isinstance(before.state, AwaitingCallback):
                # The ping stands in for the acknowledgement, and is used at once.
                assert isinstance(self.tx.state, Pending)
                assert self.tx.state.auth_req_id.reveal() == members["auth_req_id"]
                assert self.tx.deadline == self.clock.time()
            if isinstance(before.state, Pending) and not before.state.pinged:
                assert self.tx.deadline == min(self.clock.time(), before.state.expires_at)
            if isinstance(before.state, AwaitingAcknowledgement) and before.state.held is None:
                assert [type(event) for event in result.events] == [NotificationHeld]
        elif isinstance(before.state, Pending | AwaitingCallback):
            # Good tokens are handed out or wait for keys; there is no third thing, unless the wall clock was set
            # so far that their ID Token has expired or is from the future.
            expected: dict[type[State], int | None] = {FetchingKeys: None, AwaitingKeys: 503}
            if not self.timely(members):
                expected[Pending] = 400
            assert self.tx.is_finished or type(self.tx.state) in expected
            assert status == expected.get(type(self.tx.state), 204)
        else:
            assert status in {503, None}

    def timely(self, pushed: dict[str, Any]) -> bool:
        """Whether the ID Token that was pushed is of now, by the wall clock and the leeway of the default policy."""
        if "id_token" not in pushed:
            return True
        part = pushed["id_token"].split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        now: float = self.clock.time()
        fits: bool = claims["iat"] - 60 <= now < claims["exp"] + 60
        return fits

    @precondition(lambda self: not self.push and isinstance(self.tx.state, Pending))
    @rule()
    def ping_before_the_user_decides(self) -> None:
        """A ping with everything right in it, for no reason."""
        assert isinstance(self.tx.state, Pending)
        body = json.dumps({"auth_req_id": self.tx.state.auth_req_id.reveal()}).encode()
        status, _ = self.called("POST", [self.bearer(), JSON], body)
        assert status == 204

    @precondition(lambda self: self.wire)
    @rule()
    def application_cancels(self) -> None:
        """The application gives up; what is on its way is the driver's to close."""
        self.feed_request(Cancel())
        self.in_flight = self.response = None

    # --- rules: bad luck -----------------------------------------------------------------------------------

    @precondition(
        lambda self: self.in_flight is not None and (self.tx.requests > 1 or self.response is not None)
    )
    @rule()
    def answer_is_lost(self) -> None:
        """The connection cannot be made, or breaks."""
        request = self.in_flight
        assert request is not None
        delivery = Delivery.NOT_SENT if self.response is None else Delivery.UNKNOWN
        before = self.tx.state
        self.in_flight = self.response = None
        if isinstance(before, Polling):
            self.answered_poll()
        elapsed = self.clock.monotonic() - self.sent_at
        self.feed_request(RequestFailed(request.id, delivery, "ConnectionResetError", elapsed))
        self.after_fault(before, lost=delivery is Delivery.UNKNOWN)

    def after_fault(self, before: State, *, lost: bool) -> None:
        match before:
            case Polling():
                assert isinstance(self.tx.state, Pending), "a fault ended the polling"
                assert self.tx.state.next_poll_at is not None
            case FetchingKeys():
                assert isinstance(self.tx.state, AwaitingKeys), "a fault lost the tokens"
            case _:
                assert isinstance(before, AwaitingAcknowledgement)
                if before.held is not None:
                    # What came before the loss stands in for the acknowledgement.
                    assert not isinstance(self.tx.state, AwaitingCallback)
                    assert not isinstance(self.tx.error, AcknowledgementLost | RequestNotSent)
                else:
                    assert lost
                    assert isinstance(self.tx.state, AwaitingCallback), "an acknowledgement was given up"

    @precondition(
        lambda self: self.in_flight is not None and isinstance(self.tx.state, Polling | FetchingKeys)
    )
    @rule(response=st.sampled_from(FAULTY_ANSWERS))
    def middlebox_answers(self, response: HttpResponse) -> None:
        """Something between the two answers in the provider's place."""
        request = self.in_flight
        assert request is not None
        before = self.tx.state
        self.in_flight = self.response = None
        self.answered_poll()
        self.feed_request(ResponseReceived(request.id, response, self.clock.monotonic() - self.sent_at))
        self.after_fault(before, lost=False)

    @precondition(lambda self: self.in_flight is not None and isinstance(self.tx.state, FetchingKeys))
    @rule()
    def key_set_lacks_the_key(self) -> None:
        """The key set is one, but not the one that the tokens need."""
        request = self.in_flight
        assert request is not None
        self.in_flight = self.response = None
        response = HttpResponse(200, {"Content-Type": "application/json"}, b'{"keys":[]}')
        self.feed_request(ResponseReceived(request.id, response, 0.0))
        assert isinstance(self.tx.state, Pending if self.push else Failed)

    @rule()
    def process_dies(self) -> None:
        """The process ends at any point, and with it every connection; the next one has the last snapshot."""
        text = self.tx.to_json()
        before = self.tx.state
        self.tx = Transaction.from_json(text, client=self.client, provider=self.provider)
        self.shared = Shared()
        self.in_flight = self.response = None
        self.waiting = self.orphaned = False
        self.before_push = None
        if isinstance(before, Polling):
            self.earliest_poll = self.clock.monotonic() + self.interval
            self.sent_at = self.clock.monotonic()
        waited_for = self.wait_over_at
        # An answer that comes now is for nobody.
        self.feed(Resumed())
        # A push that was held has its answer once it is judged; whoever pushed it is gone.
        self.orphaned = self.tx.owes_answer
        if isinstance(before, Polling | FetchingKeys | AwaitingAcknowledgement):
            self.after_fault(before, lost=True)
        elif waited_for is not None and self.tx.deadline is not None:
            # The new process can only go by the wall clock.
            self.wait_over_at = self.clock.monotonic() + max(self.tx.deadline - self.clock.time(), 0.0)

    @precondition(lambda self: self.tx.requests > 1)
    @rule(seconds=st.sampled_from([-3600.0, -10.0, 10.0, 3600.0]))
    def wall_clock_is_set(self, seconds: float) -> None:
        """Somebody sets the wall clock; the monotonic one does not care."""
        self.clock.step_wall(seconds)
        self.wall_moved_while_waiting = self.wait_over_at is not None

    # --- rules: callbacks that somebody made up --------------------------------------------------------------

    def bearer(self, token: Secret | None = None) -> tuple[str, str]:
        token = token or self.tx.client_notification_token
        assert token is not None
        return "Authorization", f"Bearer {token.reveal()}"

    def forge(self, what: Forgery, auth_req_id: str) -> tuple[str, Any, bytes]:
        members: dict[str, Any] = {"auth_req_id": auth_req_id}
        headers: list[tuple[str, str]] = [self.bearer(), JSON]
        method = "POST"
        if self.push != (what == "other mode"):
            members |= {"access_token": FORGED, "token_type": "Bearer", "id_token": "x.y.z"}
        match what:
            case "no token":
                headers = [JSON]
            case "two tokens":
                headers += [self.bearer()]
            case "unknown token":
                headers[0] = self.bearer(Secret("unknown"))
            case "foreign token":
                headers[0] = self.bearer(self.other.client_notification_token)
            case "GET":
                method = "GET"
            case "text":
                headers[1] = ("Content-Type", "text/plain")
            case "number":
                members["auth_req_id"] = 1701
            case "other identifier":
                members["auth_req_id"] = "of-the-other"
            case "altered tokens":
                for callback in self.wire:
                    members = json.loads(callback.body) | {"access_token": FORGED}
            case "error and tokens":
                members |= {"error": "access_denied", "access_token": FORGED}
            case _:
                pass
        body = json.dumps(members).encode()
        return method, headers, body[:-1] if what == "garbage" else body

    @rule(what=st.sampled_from(FORGERIES))
    def somebody_forges(self, what: Forgery) -> None:
        """Promise 8: a forged callback never changes the state, and no answer says more than a status."""
        before = self.tx
        awaiting = isinstance(before.state, AwaitingAcknowledgement | AwaitingCallback)
        if what in PLAUSIBLE and (awaiting or (what != "other identifier" and not self.push)):
            # Before the acknowledgement, or without one, what has the right token and form is the provider's.
            return
        known = getattr(before.state, "auth_req_id", Secret("unknown")).reveal()
        status, result = self.called(*self.forge(what, known))
        if what in TURNED_AWAY:
            assert (status, result) == (TURNED_AWAY[what], None)
        elif what == "foreign token":
            assert (status, result) == (401, None)
        elif before.is_finished:
            assert status == 204
        elif what == "other identifier":
            assert status == 401
        elif what == "other mode":
            assert status == 400
        elif isinstance(before.state, Pending):
            assert status in {400, None} or isinstance(self.tx.state, AwaitingKeys)
        else:
            assert status == 503
        if self.tx != before:
            # What looks right has to be validated, and comes back as if nothing had been (see `follow`).
            assert isinstance(self.tx.state, FetchingKeys | AwaitingKeys)
            assert self.tx.state.back_to == before.state
        else:
            assert status is not None

    # --- rules: noise ---------------------------------------------------------------------------------------

    @rule(difference=st.sampled_from([-5.0, 0.001, 100.0]))
    def stray_timer(self, difference: float) -> None:
        """A timer fires that was set for another deadline, as one from before a ping is."""
        deadline = self.tx.deadline
        self.unmoved(TimerFired((self.clock.time() if deadline is None else deadline) + difference))

    @rule(data=st.data(), response=st.sampled_from(FAULTY_ANSWERS))
    def stray_answer(self, data: st.DataObject, response: HttpResponse) -> None:
        """An answer arrives for a request that is not the one on its way."""
        newest = self.tx.requests - (1 if self.in_flight is not None else 0)
        if newest == 0:
            return
        number = data.draw(st.integers(1, newest))
        self.unmoved(ResponseReceived(number, response, 0.0))

    def unmoved(self, given: Input) -> None:
        before = self.tx
        assert step(before, given, self.clock.time(), self.shared) == Step(before, shared=self.shared)

    # --- invariants ---------------------------------------------------------------------------------------

    @invariant()
    def as_the_provider_saw_it(self) -> None:
        """Promises 1 to 3: one request at a time, one prompt, and no token request of a push client."""
        journal = self.op.journal
        assert not any(entry.overlapping for entry in journal)
        assert sum(entry.endpoint == "backchannel_authentication" for entry in journal) <= 1
        assert not (self.push and any(entry.endpoint == "token" for entry in journal))

    @invariant()
    def deadline_is_state(self) -> None:
        """A deadline exists exactly while the transaction waits; it never lies beyond the expiry."""
        state = self.tx.state
        assert (self.tx.deadline is None) == (
            not isinstance(state, Pending | AwaitingKeys | AwaitingCallback)
        )
        if isinstance(state, Pending):
            assert self.tx.deadline is not None
            assert self.tx.deadline <= state.expires_at
            assert state.interval == self.interval
            assert not (self.push and (state.pinged or state.next_poll_at is not None))

    @invariant()
    def callbacks_get_their_answer(self) -> None:
        """Promise 8: a callback waits only for what can still come, and for nothing after the end."""
        if self.waiting:
            assert self.in_flight is not None
            assert isinstance(self.tx.state, AwaitingAcknowledgement | FetchingKeys)

    @invariant()
    def snapshot_is_whole(self) -> None:
        """Promise 5: what is restored is equal, and the public part of it has no secret."""
        public, secrets = self.tx.to_json_parts()
        assert (
            Transaction.from_json(public, client=self.client, provider=self.provider, secrets=secrets)
            == self.tx
        )
        assert FORGED not in public
        for hidden in self.hidden():
            assert hidden not in public

    def hidden(self) -> set[str]:
        token = self.tx.client_notification_token
        ids = {entry.auth_req_id for entry in self.op.journal if entry.auth_req_id is not None}
        return ids | self.issued | (set() if token is None else {token.reveal()})

    @invariant()
    def nothing_secret_shows(self) -> None:
        """Promise 6: no credential, identifier or token in any repr."""
        shown = repr(self.tx) + repr(self.events[-3:]) + repr(self.in_flight) + str(self.tx.error)
        assert "MARKER" not in shown
        for hidden in self.hidden():
            assert hidden not in shown

    @invariant()
    def tokens_come_from_the_provider(self) -> None:
        """Promise 7: tokens are handed out when the provider issued them and its keys vouch for them."""
        assert (self.tx.tokens is not None) == isinstance(self.tx.state, Authenticated)
        if self.tx.tokens is not None:
            assert self.tx.tokens.access_token.reveal() in self.issued
            assert self.keys_delivered
            assert self.tx.tokens.id_token_claims is not None
            assert self.tx.tokens.id_token_claims["iss"] == ISSUER

    def teardown(self) -> None:
        """A run that is only waited for settles in a bounded number of steps."""
        if not hasattr(self, "tx"):
            return
        self.settling = True
        for _ in range(3000):
            if self.tx.is_finished:
                assert not self.waiting
                return
            if self.in_flight is not None:
                self.response = self.response or self.op.send(self.in_flight)
                self.deliver()
            else:
                assert self.wait_over_at is not None
                assert self.tx.deadline is not None
                self.clock.sleep(max(self.wait_over_at - self.clock.monotonic(), 0.0))
                self.feed_request(TimerFired(self.tx.deadline))
        raise AssertionError("the transaction did not settle")


TestCallbacks = Callbacks.TestCase
TestCallbacks.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    # Without the phase that explains: on long runs it takes minutes and says little.
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

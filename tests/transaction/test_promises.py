"""The promises of a transaction, each as an invariant of one machine that tries to break them.

The rules are a driver that is as unlucky as the network, the provider, the clock and the process can make it.
The model beside it knows the protocol in its simplest form only: how long to wait after which answer.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Final

import attrs
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
    Draft,
    HttpRequest,
    HttpResponse,
    Input,
    Limits,
    PollingPolicy,
    PrivateKeyJwt,
    ProviderMetadata,
    Purpose,
    RemoteSigner,
    RequestFailed,
    ResponseReceived,
    Resumed,
    Shared,
    SignaturesMade,
    SigningFailed,
    Step,
    TimerFired,
    Transaction,
    step,
)
from ciba_core.errors import (
    AcknowledgementLost,
    KeysUnavailable,
    RequestNotSent,
    TokenResponseLost,
    TokensRejected,
)
from ciba_core.events import Event, PollSent, Transition
from ciba_core.jose import signing
from ciba_core.jose.key_import import derive_p256
from ciba_core.jose.keys import KeySet, parse_key_set
from ciba_core.states import (
    TRANSITIONS,
    Authenticated,
    AwaitingAcknowledgement,
    AwaitingKeys,
    Cancelled,
    Denied,
    Expired,
    Failed,
    FetchingKeys,
    Pending,
    Polling,
    SigningAuthentication,
    SigningPoll,
    State,
)
from ciba_core.testing import (
    Approve,
    BadIdToken,
    Deny,
    Ignore,
    Reply,
    SimulatedClient,
    SimulatedProvider,
    VirtualClock,
)
from ciba_core.transaction.key_search import KEYS_AT_LEAST, REFETCH_COOLDOWN

ISSUER: Final = "https://op.example"
SECRET: Final = "client-secret-MARKER"
HINT: Final = "alice-MARKER"
CODE: Final = "user-code-MARKER"
# Floats of POSIX size are exact to a quarter of a microsecond.
TINY: Final = 1e-5

KEY: Final = derive_p256(b"the key of the machine")
REMOTE: Final = PrivateKeyJwt(RemoteSigner("the key of the machine", alg="ES256", kid="elsewhere"))

seen: Counter[tuple[type[State], type[Event]]] = Counter()
"""Transitions that any run has taken."""

FAULTY_ANSWERS: Final = [
    HttpResponse(500, (), b""),
    HttpResponse(502, {"Content-Type": "text/html"}, b"<html>Bad Gateway</html>"),
    HttpResponse(503, {"Retry-After": "20"}, b""),
    HttpResponse(503, (), b'{"error":"temporarily_unavailable"}'),
    HttpResponse(504, {"Retry-After": "not a time"}, b""),
    HttpResponse(429, {"Retry-After": "7"}, b"{}"),
    HttpResponse(429, (), b'{"error":"too_many_requests"}'),
    HttpResponse(408, (), b""),
    HttpResponse(200, {"Content-Type": "text/html"}, b"<html>Please log in</html>"),
    HttpResponse(200, {"Content-Type": "application/json"}, b'{"access_token": "tok'),
    HttpResponse(200, {"Content-Type": "application/json"}, b""),
    HttpResponse(200, {"Content-Type": "application/json"}, b"x" * (4096 + 1)),
    HttpResponse(302, {"Location": "https://elsewhere.example/"}, b""),
    HttpResponse(400, {"Content-Type": "text/html"}, b"<html>"),
    HttpResponse(403, {"Content-Type": "application/json"}, b'{"error":"Forbidden"}'),
    HttpResponse(204, (), b""),
    HttpResponse(200, {"Content-Type": "application/json"}, b"[]"),
]
"""Answers to a poll after which it goes on (promise 4)."""
RETRY_AFTER: Final = {id(FAULTY_ANSWERS[2]): 20.0, id(FAULTY_ANSWERS[5]): 7.0}

FATAL_ANSWERS: Final = [
    HttpResponse(400, (), b'{"error":"invalid_request"}'),
    HttpResponse(401, (), b'{"error":"invalid_client"}'),
    HttpResponse(400, (), b'{"error":"something_new"}'),
    HttpResponse(200, {"Content-Type": "application/json"}, b'{"token_type":"Bearer","id_token":"x.y.z"}'),
    HttpResponse(200, {"Content-Type": "application/json"}, b'{"access_token":"a","access_token":"b"}'),
]
"""Answers to a poll that end the transaction with an error."""


def without_proof(request: HttpRequest | None) -> HttpRequest | None:
    """The request but for its DPoP proof, no two of which are the same."""
    if request is None:
        return None
    headers = tuple((name, value) for name, value in request.headers if name != "DPoP")
    return attrs.evolve(request, headers=headers)


class Promises(RuleBasedStateMachine):
    """One transaction, its driver, and everything that can happen to them."""

    @initialize(
        polling=st.builds(
            PollingPolicy,
            first_poll_after=st.sampled_from([None, 0.0, 0.5, 7.0]),
            safety_margin=st.sampled_from([0.0, 0.5, 3.0]),
        ),
        interval=st.sampled_from([None, 1, 2, 5, 30]),
        user=st.sampled_from(
            [
                Ignore(user_code=CODE),
                Approve(user_code=CODE),
                Approve(user_code=CODE, after=20.0),
                Deny(user_code=CODE, after=20.0),
            ]
        ),
        expires_in=st.sampled_from([10, 60, 120]),
        kind=st.sampled_from(["secret", "secret, bound", "key elsewhere", "key elsewhere, bound"]),
    )
    def start(
        self,
        polling: PollingPolicy,
        interval: int | None,
        user: Approve | Deny | Ignore,
        expires_in: int,
        kind: str,
    ) -> None:
        """Set up both sides; the client has a secret, or a key that only the driver can reach."""
        bound, remote = "bound" in kind, "elsewhere" in kind
        registered: dict[str, Any] = {"client_secret": SECRET}
        if remote:
            jwk = {**KEY.public_jwk(), "kid": "elsewhere"}
            registered = {"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [jwk]}}
        self.clock = VirtualClock()
        self.op = SimulatedProvider(
            self.clock,
            issuer=ISSUER,
            clients=[SimulatedClient("s6BhdRkqt3", dpop_bound_access_tokens=bound, **registered)],
            require_dpop_nonce=bound,
            users={HINT: user},
            interval=interval,
            expires_in=expires_in,
            throttle_first_poll=polling.first_poll_after is None,
        )
        entropy = iter(range(1, 1 << 60))
        self.client = ClientConfig(
            "s6BhdRkqt3",
            REMOTE if remote else ClientSecretBasic(SECRET),
            polling=polling,
            limits=Limits(body=4096),
            dpop_bound_access_tokens=bound,
            entropy=lambda size: (next(entropy) * 0x9E3779B97F4A7C15).to_bytes(16, "big")[-size:],
        )
        self.provider = ProviderMetadata(
            issuer=ISSUER,
            token_endpoint=f"{ISSUER}/token",
            backchannel_authentication_endpoint=f"{ISSUER}/bc-authorize",
            jwks_uri=f"{ISSUER}/jwks",
        )
        self.shared = Shared()
        self.tx = Transaction(client=self.client, provider=self.provider)
        # The driver: what is being signed or on its way, and until when (monotonic) it waits.
        self.draft: Draft | None = None
        self.in_flight: HttpRequest | None = None
        self.sent_at = 0.0
        self.wait_over_at: float | None = None
        # The model.
        self.interval = 5.0 if interval is None else float(interval)
        self.earliest_poll = 0.0
        self.begun = 0
        self.tokens_delivered = False
        self.keys_delivered = False
        self.tokens_came_at = 0.0
        # Whether there may be no key for the tokens; and when (monotonic) the last key set came, as far as the
        # wall clock has told the time since.
        self.misled = False
        self.key_set_at: float | None = None
        self.proofs: set[str] = set()
        self.answer_lost = False
        self.wall_moved_while_waiting = False
        self.events: list[Event] = []
        self.rotations = 0
        self.settling = False
        self.begin()

    # --- the driver ------------------------------------------------------------------------------------

    def feed(self, given: Input) -> Step:
        """Feed one input as a driver does, and check what holds for every step."""
        before, now = self.tx, self.clock.time()
        result = step(before, given, now, self.shared)
        # Promise 5, the pure half: the same input at the same state gives the same step, from a restored
        # state too (the entropy of the configuration moves on, and it only spreads back-off).
        # A draft is not stored, and so no signatures are for a restored one.
        if not isinstance(given, Begin | SignaturesMade):
            restored = Transaction.from_json(before.to_json(), client=self.client, provider=self.provider)
            again = step(restored, given, now, self.shared)
            assert type(again.transaction.state) is type(result.transaction.state)
            assert without_proof(again.request) == without_proof(result.request)
        if not self.settling:
            note(f"{given!r} -> {result!r}")
        if result.shared.keys is not self.shared.keys:
            self.key_set_at = self.clock.monotonic()
        self.tx, self.shared = result.transaction, result.shared
        transitions = [event for event in result.events if isinstance(event, Transition)]
        assert len(transitions) <= 1
        for event in transitions:
            seen[type(before.state), type(event)] += 1
            assert TRANSITIONS[type(before.state), type(event)] is type(self.tx.state)  # pyright: ignore[reportArgumentType]
        if not transitions:
            assert self.tx == before
            assert result.request is None
        self.events += result.events
        if transitions:
            self.wait_over_at = None
            if self.tx.deadline is not None:
                self.wait_over_at = self.clock.monotonic() + max(self.tx.deadline - now, 0.0)
                self.wall_moved_while_waiting = False
        if transitions:
            self.draft = result.draft
        if result.draft is not None:
            assert self.in_flight is None, "a request is made beside another"
            assert isinstance(self.tx.state, SigningAuthentication | SigningPoll)
        if result.request is not None:
            self.check_request(result, now)
            self.in_flight = result.request
            self.sent_at = self.clock.monotonic()
        return result

    def check_request(self, result: Step, now: float) -> None:
        """Promises 1, 2 and 3, at the moment something is sent."""
        request = result.request
        assert request is not None
        assert self.in_flight is None, "two requests at once"
        assert request.timeout > 30  # CIBA-10.1-08
        if request.purpose is Purpose.AUTHENTICATION:
            self.begun += 1
            assert self.begun == 1, "the authentication request was repeated"
            return
        if request.purpose is Purpose.KEYS:
            assert isinstance(self.tx.state, FetchingKeys)
            assert request.body == b""
            if self.key_set_at is not None:
                since = self.clock.monotonic() - self.key_set_at
                assert since >= REFETCH_COOLDOWN - TINY, "hammered the provider"
            return
        assert isinstance(self.tx.state, Polling)
        proofs = [value for name, value in request.headers if name == "DPoP"]
        assert len(proofs) == self.client.dpop_bound_access_tokens
        assert self.proofs.isdisjoint(proofs), "a proof was used twice"
        self.proofs.update(proofs)
        assert now < self.tx.state.expires_at, "polled after expiry"
        assert any(isinstance(event, PollSent) for event in result.events)
        if not self.wall_moved_while_waiting:
            assert self.clock.monotonic() >= self.earliest_poll - TINY, "polled early"

    @property
    def may_fail(self) -> bool:
        """Whether what is under way may go wrong; most runs get beyond the first request."""
        return self.tx.requests > 1 or self.interval == 1

    def elapsed(self) -> float:
        return self.clock.monotonic() - self.sent_at

    def not_before(self, *instants: float, slow_down: bool = False) -> None:
        """The interval runs from the answer, and is over where the provider held the poll for longer."""
        held_longer = self.elapsed() > self.interval and not slow_down
        since = self.sent_at if held_longer else self.clock.monotonic()
        self.earliest_poll = max([since + self.interval, *instants])

    # --- rules: the course of events ---------------------------------------------------------------------

    def begin(self) -> None:
        """The application asks for an authentication."""
        self.feed(
            Begin(
                AuthenticationRequest(
                    scope="openid", login_hint=HINT, user_code=CODE, binding_message="W4SCT"
                )
            )
        )

    @precondition(lambda self: self.in_flight is not None)
    @rule(takes=st.sampled_from([0.0, 0.1, 2.0, 5.0, 31.0]))
    def provider_answers(self, takes: float) -> None:
        """The request arrives, and its answer does too."""
        request = self.in_flight
        assert request is not None
        response = self.op.send(request)
        self.clock.sleep(takes)
        self.deliver(request, response)
        if request.purpose is Purpose.KEYS:
            # Whatever the clocks do, a whole key set decides.
            assert self.tx.is_finished

    def deliver(self, request: HttpRequest, response: HttpResponse) -> None:
        was_pending = isinstance(self.tx.state, Polling)
        self.in_flight = None
        members: dict[str, Any] = json.loads(response.body) if response.body.startswith(b"{") else {}
        slow_down = was_pending and members.get("error") == "slow_down"
        if slow_down:
            self.interval += 5
        self.not_before(self.clock.monotonic() if response.status == 429 else 0.0, slow_down=slow_down)
        if request.purpose is Purpose.AUTHENTICATION:
            first = self.client.polling.first_poll_after
            self.earliest_poll = self.clock.monotonic() + (self.interval if first is None else first)
        if "access_token" in members:
            self.tokens_delivered, self.tokens_came_at = True, self.clock.monotonic()
        self.keys_delivered = self.keys_delivered or "keys" in members
        self.feed(ResponseReceived(request.id, response, self.elapsed()))
        if was_pending and members.get("error") == "authorization_pending":
            # A provider may tell a client to slow down before it looks at the authentication.
            self.answer_lost = False
            assert isinstance(self.tx.state, Pending)
        if was_pending and members.get("error") == "use_dpop_nonce":
            assert isinstance(self.tx.state, Pending)
            assert self.tx.state.answer_lost == self.answer_lost
        if was_pending and members.get("error") == "invalid_grant":
            assert isinstance(self.tx.state, Failed)
            assert isinstance(self.tx.state.error, TokenResponseLost) == self.answer_lost

    @precondition(lambda self: self.wait_over_at is not None and (self.may_fail or self.draft is None))
    @rule(late=st.sampled_from([0.0, 0.0, 0.0, 0.3, 10.0, 4000.0]))
    def wait(self, late: float) -> None:
        """The driver waits for the deadline, on its monotonic clock, and perhaps oversleeps."""
        assert self.wait_over_at is not None
        deadline, before = self.tx.deadline, self.tx.state
        assert deadline is not None
        self.clock.sleep(max(self.wait_over_at - self.clock.monotonic(), 0.0) + late)
        result = self.feed(TimerFired(deadline))
        # A due timer makes progress.
        if isinstance(before, SigningAuthentication | SigningPoll):
            self.gave_up_signing(before)
            return
        sends = result.request is not None or result.draft is not None
        assert sends or isinstance(self.tx.state, Expired | Failed | Authenticated)

    def gave_up_signing(self, before: SigningAuthentication | SigningPoll) -> None:
        """Nothing was sent: the end before anybody was asked, or a poll that is tried again in time."""
        if not isinstance(self.tx.state, Expired):
            self.after_fault(polling=isinstance(before, SigningPoll), lost=False)

    @precondition(lambda self: self.draft is not None)
    @rule(takes=st.sampled_from([0.0, 0.0, 0.1, 5.0, 41.0, 61.0]))
    def signatures_come(self, takes: float) -> None:
        """Whoever has the key has signed, and took its time; the driver did not look at the clock."""
        if not self.may_fail:
            takes = min(takes, 41.0)
        before, draft = self.tx.state, self.draft
        assert isinstance(before, SigningAuthentication | SigningPoll)
        assert draft is not None
        assert draft.expires_at is not None
        self.clock.sleep(takes)
        result = self.sign()
        in_time = self.clock.time() < draft.expires_at
        assert (result.request is not None) == (in_time and not isinstance(self.tx.state, Expired))
        if result.request is None:
            self.gave_up_signing(before)

    def sign(self) -> Step:
        assert self.draft is not None
        signatures = tuple(signing.sign(jwt.octets, KEY, "ES256") for jwt in self.draft.jwts)
        return self.feed(SignaturesMade(self.draft.id, signatures))

    @precondition(lambda self: self.op.pending)
    @rule(approved=st.booleans())
    def user_decides(self, approved: bool) -> None:
        """The user takes the phone in hand."""
        decide = self.op.approve if approved else self.op.deny
        decide(self.op.pending[0].auth_req_id)

    @precondition(lambda self: self.tx.requests > 2)
    @rule()
    def application_cancels(self) -> None:
        """The application gives up; what is on its way is the driver's to close."""
        finished = self.tx.is_finished
        self.feed(Cancel())
        assert finished or isinstance(self.tx.state, Cancelled)
        self.in_flight = self.draft = None

    # --- rules: bad luck -----------------------------------------------------------------------------------

    @precondition(lambda self: self.in_flight is not None and self.may_fail)
    @rule(acted=st.booleans(), takes=st.sampled_from([0.0, 1.0, 41.0]))
    def answer_is_lost(self, acted: bool, takes: float) -> None:
        """The connection breaks, before or after the provider acted; the driver cannot tell."""
        request = self.in_flight
        assert request is not None
        if acted:
            self.op.send(request)
        self.clock.sleep(takes)
        self.fail(request, Delivery.UNKNOWN)

    @precondition(lambda self: self.in_flight is not None and self.may_fail)
    @rule()
    def request_is_not_sent(self) -> None:
        """The connection cannot be made."""
        request = self.in_flight
        assert request is not None
        self.fail(request, Delivery.NOT_SENT)

    @precondition(lambda self: self.draft is not None and self.may_fail)
    @rule()
    def signing_fails(self) -> None:
        """Whoever has the key does not sign."""
        assert self.draft is not None
        before = self.tx.state
        self.feed(SigningFailed(self.draft.id, "the key is out of reach"))
        if isinstance(before, SigningPoll) and self.clock.time() >= before.expires_at:
            # By then there is no time left for a poll, signed or not.
            assert isinstance(self.tx.state, Expired)
        else:
            self.after_fault(polling=isinstance(before, SigningPoll), lost=False)

    def fail(self, request: HttpRequest, delivery: Delivery) -> None:
        self.in_flight = None
        polling = isinstance(self.tx.state, Polling)
        self.not_before()
        self.feed(RequestFailed(request.id, delivery, "ConnectionResetError", self.elapsed()))
        if request.purpose is Purpose.KEYS:
            self.keys_were_not_had()
            return
        self.after_fault(polling=polling, lost=delivery is Delivery.UNKNOWN)

    def after_fault(self, *, polling: bool, lost: bool) -> None:
        if polling:
            assert isinstance(self.tx.state, Pending), "a fault ended the polling"
            self.answer_lost = self.answer_lost or lost
            assert self.tx.state.answer_lost == self.answer_lost
            # Back-off is bounded: the interval, or a minute, or what the provider asked for.
            longest = max(self.interval, 60.0) + self.client.polling.safety_margin
            assert self.tx.state.next_poll_at is not None
            assert self.tx.state.next_poll_at - self.clock.time() <= longest + TINY
        elif isinstance(self.tx.state, Failed):
            error = self.tx.state.error
            assert isinstance(error, AcknowledgementLost if lost else RequestNotSent)

    @precondition(lambda self: self.in_flight is not None and isinstance(self.tx.state, Polling))
    @rule(response=st.sampled_from(FAULTY_ANSWERS))
    def middlebox_answers(self, response: HttpResponse) -> None:
        """Something between the two answers in the provider's place."""
        request = self.in_flight
        assert request is not None
        self.in_flight = None
        self.not_before(self.clock.monotonic() + RETRY_AFTER.get(id(response), 0.0))
        lost = response.status not in {408, 425, 429, 503}
        self.feed(ResponseReceived(request.id, response, self.elapsed()))
        self.after_fault(polling=True, lost=lost)

    def keys_were_not_had(self) -> None:
        """The tokens wait for the next try, which comes soon, unless others had the keys or time is over."""
        if isinstance(self.tx.state, Failed) and isinstance(self.tx.state.error, KeysUnavailable):
            assert self.clock.monotonic() - self.tokens_came_at >= KEYS_AT_LEAST - TINY, "gave up early"
        elif not self.tx.is_finished:
            assert isinstance(self.tx.state, AwaitingKeys), "a fault lost the tokens"
            assert 0 < self.tx.state.next_try_at - self.clock.time() <= 30 + TINY

    @precondition(lambda self: self.in_flight is not None and isinstance(self.tx.state, FetchingKeys))
    @rule(response=st.sampled_from(FAULTY_ANSWERS + FATAL_ANSWERS))
    def key_set_is_garbage(self, response: HttpResponse) -> None:
        """What comes in the place of the key set is none."""
        request = self.in_flight
        assert request is not None
        self.in_flight = None
        self.feed(ResponseReceived(request.id, response, self.elapsed()))
        self.keys_were_not_had()

    @precondition(lambda self: self.in_flight is not None and isinstance(self.tx.state, FetchingKeys))
    @rule(keys=st.sampled_from([b'{"keys":[]}', b'{"keys":[{"kty":"oct","k":"AAAA"}]}']))
    def key_set_lacks_the_key(self, keys: bytes) -> None:
        """The key set is one, but not the one that the tokens need."""
        request = self.in_flight
        assert request is not None
        self.in_flight = None
        response = HttpResponse(200, {"Content-Type": "application/json"}, keys)
        self.misled = True
        self.feed(ResponseReceived(request.id, response, self.elapsed()))
        if isinstance(self.tx.state, Failed):
            assert isinstance(self.tx.state.error, TokensRejected)
        else:
            # What others have is newer, as it seems.
            assert isinstance(self.tx.state, Authenticated)

    @precondition(lambda self: self.rotations < 3)
    @rule()
    def provider_rotates_its_keys(self) -> None:
        """The provider signs with another key from now on, which it publishes at the same time."""
        self.rotations += 1
        self.op.rotate_keys()

    @precondition(lambda self: not self.tokens_delivered and not self.misled)
    @rule()
    def provider_signs_with_an_unpublished_key(self) -> None:
        """The next tokens are signed with a key that nobody will ever see."""
        self.misled = True
        self.op.inject("token", BadIdToken(signature="wrong_key", header={"kid": "nobody"}))

    @rule(takes=st.sampled_from([0.1, 3.0]))
    def another_transaction_fetches_the_keys(self, takes: float) -> None:
        """Somebody else needs them, and shares what came."""
        # A moment after the last thing that happened: a set of the very instant at which a search began does
        # not decide it, since it may be the one that the search began with.
        self.clock.sleep(0.001)
        response = self.op.handle("GET", "/jwks", [], b"")
        assert isinstance(response, Reply)
        self.clock.sleep(takes)
        now = self.clock.time()
        keys = parse_key_set(
            HttpResponse(response.status, response.headers, response.body),
            limits=self.client.limits,
            now=now,
            noted=[],
            elapsed=takes,
        )
        assert isinstance(keys, KeySet)
        self.shared, self.keys_delivered = self.shared.with_keys(keys), True
        # A search that the wall clock was set in cannot tell that this set is newer than what it waits for.
        self.key_set_at = None if self.wall_moved_while_waiting else self.clock.monotonic()

    @precondition(
        lambda self: self.in_flight is not None and self.tx.polls > 2 and isinstance(self.tx.state, Polling)
    )
    @rule(response=st.sampled_from(FATAL_ANSWERS))
    def provider_breaks_the_protocol(self, response: HttpResponse) -> None:
        """The provider, or what speaks for it, ends the matter with an answer that makes no sense."""
        request = self.in_flight
        assert request is not None
        self.in_flight = None
        self.feed(ResponseReceived(request.id, response, self.elapsed()))
        assert isinstance(self.tx.state, Failed)

    @precondition(lambda self: self.may_fail)
    @rule()
    def process_dies(self) -> None:
        """The process ends at any point; the next one has the last stored snapshot."""
        text = self.tx.to_json()
        was = self.tx.state
        self.tx = Transaction.from_json(text, client=self.client, provider=self.provider)
        self.shared, self.key_set_at = Shared(), None
        self.in_flight = self.draft = None
        lost = isinstance(was, Polling)
        if lost:
            self.sent_at = self.clock.monotonic()
            self.not_before()
        waited_for = self.wait_over_at
        self.feed(Resumed())
        if lost:
            self.after_fault(polling=True, lost=True)
        elif isinstance(was, SigningAuthentication | SigningPoll):
            self.after_fault(polling=isinstance(was, SigningPoll), lost=False)
        elif isinstance(was, FetchingKeys):
            self.keys_were_not_had()
        elif isinstance(was, AwaitingAcknowledgement):
            assert isinstance(self.tx.state, Failed)
            assert isinstance(self.tx.state.error, AcknowledgementLost)
        elif waited_for is not None and self.tx.deadline is not None:
            # The new process can only go by the wall clock.
            self.wait_over_at = self.clock.monotonic() + max(self.tx.deadline - self.clock.time(), 0.0)

    @rule(seconds=st.sampled_from([-3600.0, -10.0, 10.0, 3600.0]))
    def wall_clock_is_set(self, seconds: float) -> None:
        """Somebody sets the wall clock; the monotonic one does not care."""
        self.clock.step_wall(seconds)
        self.key_set_at = None
        self.wall_moved_while_waiting = self.wait_over_at is not None

    # --- rules: noise ---------------------------------------------------------------------------------------

    @rule(difference=st.sampled_from([-5.0, -0.001, 0.001, 5.0, 100.0]))
    def stray_timer(self, difference: float) -> None:
        """A timer fires that was set for another deadline, early or late."""
        deadline = self.tx.deadline
        self.unmoved(TimerFired((self.clock.time() if deadline is None else deadline) + difference))

    @rule(data=st.data(), response=st.sampled_from(FAULTY_ANSWERS + FATAL_ANSWERS))
    def stray_answer(self, data: st.DataObject, response: HttpResponse) -> None:
        """An answer arrives for a request that is not the one on its way."""
        newest = self.tx.requests - (self.in_flight is not None or self.draft is not None)
        if newest == 0:
            return
        number = data.draw(st.integers(1, newest))
        self.unmoved(ResponseReceived(number, response, 0.0))
        self.unmoved(RequestFailed(number, Delivery.UNKNOWN, "late", 0.0))
        self.unmoved(SignaturesMade(number, (bytes(64),)))
        self.unmoved(SigningFailed(number, "late"))

    @precondition(lambda self: self.tx.is_finished)
    @rule(given=st.sampled_from([Cancel(), Resumed()]))
    def after_the_end(self, given: Input) -> None:
        """Nothing moves a finished transaction."""
        self.unmoved(given)

    def unmoved(self, given: Input) -> None:
        before = self.tx
        result = step(before, given, self.clock.time(), self.shared)
        assert result == Step(before, shared=self.shared)

    # --- invariants ---------------------------------------------------------------------------------------

    @invariant()
    def one_request_at_a_time_and_on_time(self) -> None:
        """Promises 1 to 3, as the provider saw them."""
        journal = self.op.journal
        assert not any(entry.overlapping for entry in journal)
        assert sum(entry.endpoint == "backchannel_authentication" for entry in journal) <= 1

    @invariant()
    def deadline_is_state(self) -> None:
        """A deadline exists exactly while the transaction waits; it never lies beyond the expiry."""
        waits = isinstance(self.tx.state, Pending | AwaitingKeys | SigningAuthentication | SigningPoll)
        assert (self.tx.deadline is not None) == waits
        if isinstance(self.tx.state, AwaitingKeys):
            assert self.tx.deadline is not None
            assert self.tx.deadline <= self.tx.state.search.give_up_at + TINY
        if isinstance(self.tx.state, Pending):
            assert self.tx.deadline is not None
            assert self.tx.deadline <= self.tx.state.expires_at
            assert self.tx.state.interval == self.interval

    @invariant()
    def snapshot_is_whole(self) -> None:
        """Promise 5: what is restored is equal, and the public part of it has no secret."""
        public, secrets = self.tx.to_json_parts()
        assert (
            Transaction.from_json(public, client=self.client, provider=self.provider, secrets=secrets)
            == self.tx
        )
        for entry in self.op.journal:
            assert entry.auth_req_id is None or entry.auth_req_id not in public

    @invariant()
    def nothing_secret_shows(self) -> None:
        """Promise 6: no credential, identifier or token in any repr."""
        shown = repr(self.tx) + repr(self.events) + repr(self.in_flight) + str(self.tx.error)
        assert "MARKER" not in shown
        for entry in self.op.journal:
            assert entry.auth_req_id is None or entry.auth_req_id not in shown
        if self.tx.tokens is not None:
            assert self.tx.tokens.access_token.reveal() not in shown

    @invariant()
    def tokens_come_from_the_provider(self) -> None:
        """Promise 7: tokens are handed out when they arrived whole and passed validation, and never before.

        Once they have arrived, they are handed out, wait for keys, or are in the error that says why not.
        """
        state = self.tx.state
        assert (self.tx.tokens is not None) == isinstance(state, Authenticated)
        if self.tx.tokens is not None:
            assert self.tokens_delivered
            assert self.keys_delivered
            assert self.tx.tokens.id_token_claims is not None
            assert self.tx.tokens.id_token_claims["iss"] == ISSUER
        if self.tokens_delivered:
            assert isinstance(state, Authenticated | FetchingKeys | AwaitingKeys | Failed | Cancelled)
        if self.tokens_delivered and isinstance(state, Failed):
            assert isinstance(state.error, TokensRejected | KeysUnavailable)
            assert state.error.untrusted.reveal_untrusted().access_token.reveal() not in repr(self.tx)
            if isinstance(state.error, TokensRejected) and state.error.rule == "OpenID Connect Core 10.1.1":
                assert self.misled, "good tokens were rejected, whose key is published"
        if isinstance(state, FetchingKeys | AwaitingKeys):
            assert self.tokens_delivered
            assert state.untrusted.reveal_untrusted().access_token.reveal() not in repr(self.tx) + repr(
                self.events
            )
        if isinstance(self.tx.state, Denied | Expired | Failed | Cancelled):
            assert self.tx.tokens is None
            assert self.tx.error is not None

    def teardown(self) -> None:
        """A run that is only waited for settles in a bounded number of steps."""
        if not hasattr(self, "tx"):
            return
        self.settling = True
        for _ in range(3000):
            if self.tx.is_finished:
                return
            if self.in_flight is not None:
                self.settle_answer()
            elif self.draft is not None:
                self.sign()
            else:
                self.settle_timer()
        raise AssertionError("the transaction did not settle")

    def settle_answer(self) -> None:
        request = self.in_flight
        assert request is not None
        self.deliver(request, self.op.send(request))

    def settle_timer(self) -> None:
        assert self.wait_over_at is not None
        assert self.tx.deadline is not None
        self.clock.sleep(max(self.wait_over_at - self.clock.monotonic(), 0.0))
        self.feed(TimerFired(self.tx.deadline))


TestPromises = Promises.TestCase
TestPromises.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    # Without the phase that explains: on long runs it takes minutes and says little.
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

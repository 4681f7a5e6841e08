"""The promises of the pool, tried on sequences of starts, answers, faults, callbacks and clocks that are set."""

from __future__ import annotations

import json
from typing import Any, Final

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ciba_core import (
    Cancel,
    Delivery,
    HttpRequest,
    HttpResponse,
    NotificationReceived,
    Purpose,
    RequestFailed,
    ResponseReceived,
    Transaction,
)
from ciba_core.pool.limits import ProviderLimits
from ciba_core.pool.schedule import Action, Broken, Ended, Handle, Moved, Reply, Schedule, Send, Sign
from ciba_core.states import Expired
from tests.samples import (
    CLIENT,
    JWKS,
    NOW,
    PING_CLIENT,
    PROVIDER,
    REQUEST,
    TOKENS,
    id_token,
    notification,
    reply,
)

LIMITS: Final = ProviderLimits(in_flight=2, rate=1.0, burst=3)
OTHER: Final = attrs.evolve(PROVIDER, issuer="https://other.example.com")
INTERVAL: Final = 2.0
EXPIRES_IN: Final = 60


def accepted(number: int) -> HttpResponse:
    return reply(200, {"auth_req_id": f"id-{number}", "expires_in": EXPIRES_IN, "interval": int(INTERVAL)})


ANSWERS: Final = {
    "pending": reply(400, {"error": "authorization_pending"}),
    "slow_down": reply(400, {"error": "slow_down"}),
    "busy": reply(503, "", ("Retry-After", "7")),
    "page": reply(502, "<html>", media_type="text/html"),
    "denied": reply(400, {"error": "access_denied"}),
    "tokens": reply(200, TOKENS),
    "unknown key": reply(200, {**TOKENS, "id_token": id_token(kid="another")}),
}


@attrs.define
class Member:
    """What the model knows of one transaction."""

    issuer: str
    is_ping: bool
    under_way: HttpRequest | None = None
    is_acknowledged: bool = False
    was_pinged: bool = False
    expires: float | None = None
    last_answer: float | None = None
    ended: bool = False


class PoolMachine(RuleBasedStateMachine):
    """Time is virtual; the driver is obedient; the provider answers whatever it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.schedule = Schedule(LIMITS)
        self.monotonic = 1000.0
        self.wall = NOW
        self.wall_was_set = False
        self.members: dict[Handle, Member] = {}
        self.out: list[Send] = []
        self.sent_at: dict[str, list[float]] = {}
        self.not_before: dict[str, float] = {}

    # --- what the driver does

    def do(self, actions: list[Action]) -> None:
        for action in actions:
            member = self.members[action.handle]
            match action:
                case Send():
                    self.sends(action, member)
                case Moved():
                    assert not member.ended
                    assert self.schedule_has(action.handle) or action.transaction.is_finished
                case Ended():
                    assert not member.ended
                    member.ended = True
                    assert isinstance(action.outcome, Transaction)
                    if isinstance(action.outcome.state, Expired) and member.expires is not None:
                        # Whoever waits in line expires when it is due, and nobody before.
                        assert self.wall_was_set or self.monotonic >= member.expires - 1e-3
                case Reply():
                    assert member.is_ping
                case Sign() | Broken():
                    raise AssertionError(action)

    def schedule_has(self, handle: Handle) -> bool:
        return handle in self.schedule.handles()

    def sends(self, action: Send, member: Member) -> None:
        request, issuer = action.request, member.issuer
        assert not member.ended
        assert member.under_way is None, "two requests at once"
        member.under_way = request
        self.out.append(action)
        flying = [send for send in self.out if self.members[send.handle].issuer == issuer]
        assert len(flying) <= LIMITS.in_flight
        if request.purpose is Purpose.KEYS:
            assert sum(send.request.purpose is Purpose.KEYS for send in flying) == 1
        if request.purpose is Purpose.TOKEN:
            # The expiry of a transaction is an instant of the wall clock, so that it outlives the process.
            assert self.wall_was_set or member.expires is None or self.monotonic <= member.expires + 1e-3
            if member.last_answer is not None and not member.was_pinged:
                assert self.monotonic >= member.last_answer + INTERVAL - 1e-3
        assert self.monotonic >= self.not_before.get(issuer, 0.0)
        times = self.sent_at.setdefault(issuer, [])
        times.append(self.monotonic)
        for position, since in enumerate(times):
            number, seconds = len(times) - position, self.monotonic - since
            assert number <= LIMITS.burst + LIMITS.rate * seconds + 1e-6

    def tick(self) -> None:
        self.do(self.schedule.tick(self.wall, self.monotonic))

    def pass_time(self, seconds: float) -> None:
        """Let time pass as a driver does: it wakes at each instant that the pool names."""
        until = self.monotonic + seconds
        for _ in range(10_000):
            self.tick()
            wake = self.schedule.wake_at
            if wake is None or wake > until:
                break
            assert wake >= self.monotonic - 1e-3 or self.out, "due already, and nothing was done"
            forward = max(wake - self.monotonic, 0.0)
            self.monotonic += forward
            self.wall += forward
        else:
            raise AssertionError("the pool does not settle")
        self.wall += until - self.monotonic
        self.monotonic = until
        self.tick()

    # --- what happens

    @rule(issuer=st.sampled_from([PROVIDER, OTHER]), ping=st.booleans(), number=st.integers(1, 4))
    def begin(self, issuer: Any, ping: bool, number: int) -> None:
        for _ in range(number):
            tx = Transaction(client=PING_CLIENT if ping else CLIENT, provider=issuer)
            handle = self.schedule.begin(tx, REQUEST)
            assert handle not in self.members, "a handle came twice"
            self.members[handle] = Member(issuer.issuer, ping)
        self.tick()

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.pass_time(seconds)

    @precondition(lambda self: self.out)
    @rule(data=st.data(), what=st.sampled_from(sorted(ANSWERS)), took=st.sampled_from([0.0, 4.0]))
    def answer(self, data: st.DataObject, what: str, took: float) -> None:
        send = data.draw(st.sampled_from(self.out), label="which")
        self.pass_time(took)
        member = self.members[send.handle]
        self.out.remove(send)
        member.under_way = None
        match send.request.purpose:
            case Purpose.AUTHENTICATION:
                response = ANSWERS["busy"] if what == "busy" else accepted(len(self.sent_at))
                if what != "busy":
                    member.is_acknowledged = True
                    member.expires = self.monotonic + EXPIRES_IN
            case Purpose.KEYS:
                response = ANSWERS["busy"] if what == "busy" else reply(200, JWKS)
            case _:
                response = ANSWERS[what]
        if what == "busy" and send.request.purpose is not Purpose.KEYS:
            until = self.monotonic + 7
            self.not_before[member.issuer] = max(self.not_before.get(member.issuer, 0.0), until)
        # Whoever held the request for the interval was long polled (CIBA Core 10.1).
        member.last_answer = self.monotonic if took < INTERVAL else None
        self.do(
            self.schedule.feed(
                send.handle,
                ResponseReceived(send.request.id, response, took),
                self.wall,
                self.monotonic,
            )
        )

    @precondition(lambda self: self.out)
    @rule(data=st.data(), delivery=st.sampled_from(Delivery))
    def fail(self, data: st.DataObject, delivery: Delivery) -> None:
        send = data.draw(st.sampled_from(self.out), label="which")
        member = self.members[send.handle]
        self.out.remove(send)
        member.under_way = None
        member.last_answer = self.monotonic
        failed = RequestFailed(send.request.id, delivery, "ReadTimeout", 0.0)
        self.do(self.schedule.feed(send.handle, failed, self.wall, self.monotonic))

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        handle = data.draw(st.sampled_from(sorted(self.members)), label="which")
        self.do(self.schedule.feed(handle, Cancel(), self.wall, self.monotonic))
        assert self.members[handle].ended

    @precondition(lambda self: any(member.is_ping and not member.ended for member in self.members.values()))
    @rule(data=st.data())
    def ping(self, data: st.DataObject) -> None:
        handles = [handle for handle, each in self.members.items() if each.is_ping and not each.ended]
        handle = data.draw(st.sampled_from(handles), label="which")
        tx = self.schedule[handle]
        assert isinstance(tx, Transaction)
        if tx.requests == 0:
            return
        auth_req_id = "early" if tx.auth_req_id is None else tx.auth_req_id.reveal()
        self.members[handle].was_pinged = True
        happened = NotificationReceived(notification({"auth_req_id": auth_req_id}))
        self.do(self.schedule.feed(handle, happened, self.wall, self.monotonic))

    @rule(seconds=st.sampled_from([-3600.0, -3.0, 3.0]))
    def set_the_wall_clock(self, seconds: float) -> None:
        self.wall += seconds
        self.wall_was_set = True

    @precondition(lambda self: self.schedule.handles())
    @rule(data=st.data())
    def remove_and_resume(self, data: st.DataObject) -> None:
        """A member that is taken out is the same elsewhere; what was under way is lost."""
        handle = data.draw(st.sampled_from(self.schedule.handles()), label="which")
        tx = self.schedule.remove(handle)
        assert isinstance(tx, Transaction)
        member = self.members[handle]
        member.ended = True
        if tx.requests == 0:
            return
        again = self.schedule.resume(tx, self.wall, self.monotonic)
        assert again != handle
        self.members[again] = attrs.evolve(
            member, ended=False, under_way=None, last_answer=None, expires=None, was_pinged=True
        )
        if not self.schedule_has(again):
            assert json.loads(tx.to_json())
        self.tick()

    # --- what always holds

    @invariant()
    def nothing_is_lost(self) -> None:
        assert {*self.schedule.handles()} == {
            handle for handle, each in self.members.items() if not each.ended
        }
        assert len(self.schedule) == len(self.schedule.handles())

    def teardown(self) -> None:
        """Nobody starves: if every request is answered, all come to an end."""
        for _ in range(2000):
            if not self.schedule.handles():
                break
            for send in [*self.out]:
                self.out.remove(send)
                self.members[send.handle].under_way = None
                self.members[send.handle].last_answer = self.monotonic
                response = {
                    Purpose.AUTHENTICATION: accepted(1),
                    Purpose.KEYS: reply(200, JWKS),
                }.get(send.request.purpose, ANSWERS["denied"])
                if send.request.purpose is Purpose.AUTHENTICATION:
                    self.members[send.handle].expires = self.monotonic + EXPIRES_IN
                happened = ResponseReceived(send.request.id, response, 0.0)
                self.do(self.schedule.feed(send.handle, happened, self.wall, self.monotonic))
            # Whoever was resumed when the wall clock was behind waits for longer.
            self.pass_time(30.0)
        assert not self.schedule.handles()


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

"""The check for drivers that take callbacks, held against a good driver and many bad ones."""

from __future__ import annotations

import re
import textwrap
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future

import pytest

from ciba_core import (
    AuthenticationRequest,
    Begin,
    HttpRequest,
    HttpResponse,
    Input,
    NotificationReceived,
    Step,
    TimerFired,
    Transaction,
    step,
)
from ciba_core.callbacks.routing import Received, Routes, receive
from ciba_core.notification import Notification, token_hash
from ciba_core.testing import (
    NOTIFIED_SCENARIOS,
    Duty,
    Handler,
    NoReply,
    Reply,
    VirtualClock,
    check_driver,
    check_notified_driver,
)
from ciba_core.testing.scenarios import CLIENT_SECRET, USER

from .test_conformance import FLAWS, Driver

Pairs = Iterable[tuple[str, str]]


class NotifiedDriver(Driver):
    """A good driver, in small parts so that each of them can be spoilt."""

    def __init__(self) -> None:
        self.routes = Routes()
        self.inbox: deque[tuple[Notification, Future[HttpResponse]]] = deque()
        self.waiting = Future[HttpResponse]()

    def drive(
        self,
        transaction: Transaction,
        request: AuthenticationRequest,
        clock: VirtualClock,
        listen: Callable[[Handler], None],
    ) -> Transaction:
        self.clock = clock
        self.deadline: float | None = None
        self.over_at = 0.0
        current = self.begin(step(transaction, Begin(request), self.now()), listen)
        while not current.transaction.is_finished:
            current = self.act(current)
        self.answer(current)
        return current.transaction

    def begin(self, current: Step, listen: Callable[[Handler], None]) -> Step:
        listen(self.endpoint)
        self.route(current)
        return current

    def route(self, current: Step) -> None:
        token = current.transaction.client_notification_token
        assert token is not None
        self.routes.add(token_hash(token), "x", forget_at=self.now() + 3600, now=self.now())

    def act(self, current: Step) -> Step:
        self.answer(current)
        if current.request is not None:
            happened = self.exchange(current.request)
        else:
            happened = self.notified() or self.wait_for_callback(current.transaction)
        now = self.now()
        after = step(current.transaction, happened, now)
        deadline = after.transaction.deadline
        if not isinstance(happened, NotificationReceived) or deadline != self.deadline:
            self.deadline = deadline
            self.over_at = self.clock.monotonic() + (0 if deadline is None else max(deadline - now, 0))
        return after

    def answer(self, current: Step) -> None:
        if current.answer is not None:
            self.waiting.set_result(current.answer)

    def notified(self) -> Input | None:
        if not self.inbox:
            return None
        notification, self.waiting = self.inbox.popleft()
        return NotificationReceived(notification)

    def wait_for_callback(self, transaction: Transaction) -> Input:
        deadline = transaction.deadline
        self.clock.sleep(max(self.over_at - self.clock.monotonic(), 0), until=lambda: bool(self.inbox))
        found = self.notified()
        if found is None:
            assert deadline is not None
            found = TimerFired(deadline)
        return found

    def receive(self, method: str, headers: Pairs, body: bytes) -> Received:
        return receive(method, headers, body, routes=self.routes, now=self.now())

    def endpoint(self, method: str, target: str, headers: Pairs, body: bytes) -> Reply | NoReply:
        assert target == "/cb?x=1"
        received = self.receive(method, headers, body)
        answer = received.answer
        if answer is None:
            assert received.notification is not None
            answer = self.hand_in(received.notification)
        return Reply(answer.status, answer.headers, answer.body)

    def hand_in(self, notification: Notification) -> HttpResponse:
        promise = Future[HttpResponse]()
        self.inbox.append((notification, promise))
        return promise.result(5)


# Bad drivers. Each has one flaw.


class ListensLate(NotifiedDriver):
    def begin(self, current: Step, listen: Callable[[Handler], None]) -> Step:
        self.route(current)
        assert current.request is not None
        happened = self.exchange(current.request)
        listen(self.endpoint)
        return step(current.transaction, happened, self.now())


class RoutesLate(NotifiedDriver):
    def begin(self, current: Step, listen: Callable[[Handler], None]) -> Step:
        listen(self.endpoint)
        assert current.request is not None
        happened = self.exchange(current.request)
        self.route(current)
        return step(current.transaction, happened, self.now())


class CountsAnew(NotifiedDriver):
    """Counts the rest of a wait by the wall clock, after each callback."""

    def wait_for_callback(self, transaction: Transaction) -> Input:
        assert transaction.deadline is not None
        self.over_at = self.clock.monotonic() + max(transaction.deadline - self.now(), 0)
        return super().wait_for_callback(transaction)


class Sleeps(NotifiedDriver):
    """Looks for notifications when the deadline has come."""

    def wait_for_callback(self, transaction: Transaction) -> Input:
        assert transaction.deadline is not None
        self.clock.sleep(max(transaction.deadline - self.now(), 0))
        return self.notified() or TimerFired(transaction.deadline)


class HasNoDeadline(NotifiedDriver):
    """Waits for notifications and for nothing else."""

    def wait_for_callback(self, transaction: Transaction) -> Input:
        self.clock.sleep(3600, until=lambda: bool(self.inbox))
        assert transaction.deadline is not None
        return self.notified() or TimerFired(transaction.deadline)


class AnswersLast(NotifiedDriver):
    """Answers when the poll is done."""

    kept: HttpResponse | None = None

    def answer(self, current: Step) -> None:
        self.kept = self.kept or current.answer

    def exchange(self, request: HttpRequest) -> Input:
        happened = super().exchange(request)
        if self.kept is not None:
            self.waiting.set_result(self.kept)
            self.kept = None
        return happened


class NeverAnswers(NotifiedDriver):
    def answer(self, current: Step) -> None:
        if current.transaction.is_finished:
            self.release = threading.Timer(1, self.waiting.cancel)
            self.release.daemon = True
            self.release.start()


class ClosesConnections(NotifiedDriver):
    def endpoint(self, method: str, target: str, headers: Pairs, body: bytes) -> Reply | NoReply:
        super().endpoint(method, target, headers, body)
        return NoReply(acted=True)


class Redirects(NotifiedDriver):
    def endpoint(self, method: str, target: str, headers: Pairs, body: bytes) -> Reply | NoReply:
        super().endpoint(method, target, headers, body)
        return Reply(303, (("Location", "/thanks"),))


class AlwaysContent(NotifiedDriver):
    """Says that all is well, whatever comes."""

    def endpoint(self, method: str, target: str, headers: Pairs, body: bytes) -> Reply | NoReply:
        super().endpoint(method, target, headers, body)
        return Reply(204)


class Raises(NotifiedDriver):
    def receive(self, method: str, headers: Pairs, body: bytes) -> Received:
        received = super().receive(method, headers, body)
        if received.answer is not None:
            raise RuntimeError
        return received


class TakesOne(NotifiedDriver):
    """Forgets the token once it was used."""

    def receive(self, method: str, headers: Pairs, body: bytes) -> Received:
        received = super().receive(method, headers, body)
        if received.notification is not None:
            self.routes = Routes()
        return received


NOTIFIED_FLAWS = [
    (ListensLate, "ping_ahead", Duty.ROUTE, "it did not listen when a callback came"),
    (RoutesLate, "push_ahead", Duty.CALLBACKS, "it answered callback 1 with 401, not 204"),
    (RoutesLate, "push_ahead", Duty.ROUTE, "it ended with AuthenticationExpired, not with Authenticated"),
    (Sleeps, "ping", Duty.WAKE, "poll 1 came 570 s after what was before it, not 42"),
    (Sleeps, "ping_denied", Duty.WAKE, "poll 1 came 570 s after what was before it, not 42"),
    (Sleeps, "push", Duty.WAKE, "it ended with AuthenticationExpired, not with Authenticated"),
    (CountsAnew, "ping_twice_clock_forward", Duty.WAIT, "poll 2 came 5 s after what was before it, not 20"),
    (CountsAnew, "ping_twice_clock_back", Duty.WAIT, "poll 2 came 120 s after what was before it, not 20"),
    (HasNoDeadline, "ping_lost", Duty.WAIT, "it ended with AuthenticationExpired, not with"),
    (HasNoDeadline, "push_expired", Duty.WAIT, "it took 3600 s, not 60"),
    (AnswersLast, "ping", Duty.ANSWER_FIRST, "it polled while a ping waited for its answer"),
    (NeverAnswers, "push", Duty.CALLBACKS, "it did not answer callback 1"),
    (ClosesConnections, "push", Duty.CALLBACKS, "it did not answer callback 1"),
    (Redirects, "push_denied", Duty.CALLBACKS, "it answered callback 1 with 303, not 204"),
    (AlwaysContent, "ping_forged", Duty.CALLBACKS, "it answered callback 1 with 204, not 400"),
    (AlwaysContent, "push_forged", Duty.CALLBACKS, "it answered callback 3 with 204, not 401"),
    (AlwaysContent, "push_without_keys", Duty.CALLBACKS, "it answered callback 1 with 204, not 503"),
    (Raises, "push_forged", Duty.CALLBACKS, "its endpoint raised RuntimeError"),
    (TakesOne, "ping_twice", Duty.CALLBACKS, "it answered callback 2 with 401, not 204"),
    (TakesOne, "push_forged", Duty.CALLBACKS, "it ended with AuthenticationExpired, not with Authenticated"),
]


def test_good_notified_driver() -> None:
    """A driver that does what it has to passes."""
    report = check_notified_driver(NotifiedDriver().drive)
    report.raise_for_findings()
    assert report.scenarios == tuple(NOTIFIED_SCENARIOS)


@pytest.mark.parametrize(
    ("driver", "scenario", "duty", "message"),
    [pytest.param(*flaw, id=f"{flaw[0].__name__}-{flaw[1]}") for flaw in NOTIFIED_FLAWS],
)
def test_bad_notified_driver(
    driver: Callable[[], NotifiedDriver], scenario: str, duty: Duty, message: str
) -> None:
    """A driver with one flaw is found out, in words without a secret."""
    report = check_notified_driver(driver().drive, only=[scenario])
    assert any(
        finding.scenario == scenario and finding.duty is duty and finding.message.startswith(message)
        for finding in report.findings
    ), str(report)
    assert CLIENT_SECRET not in repr(report) + str(report)
    assert USER not in repr(report) + str(report)


def test_each_notified_scenario_can_fail() -> None:
    """There is no scenario that every driver passes, and no duty that is never looked at."""
    assert {scenario for _, scenario, _, _ in NOTIFIED_FLAWS} == set(NOTIFIED_SCENARIOS)
    assert {duty for _, _, duty, _ in (*FLAWS, *NOTIFIED_FLAWS)} == set(Duty)


def test_unknown_notified_scenario() -> None:
    """A scenario that does not exist is refused before anything is run."""
    with pytest.raises(ValueError, match="unknown scenarios: approved"):
        check_notified_driver(NotifiedDriver().drive, only=["approved", "ping"])


def test_example_for_notified_drivers() -> None:
    """The driver in the docstring passes the check, with the `send` of the other one."""
    assert check_driver.__doc__ is not None
    assert check_notified_driver.__doc__ is not None
    first = re.search(r"A complete one::\n\n(.*?)\n        def drive", check_driver.__doc__, re.DOTALL)
    second = re.search(r"`check_driver`::\n\n(.*?)\n    A callback", check_notified_driver.__doc__, re.DOTALL)
    assert first is not None
    assert second is not None
    exec(textwrap.dedent(first[1]) + textwrap.dedent(second[1]), {})

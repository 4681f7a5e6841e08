"""The check for drivers: a good one passes, and each kind of bad one is found out."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import textwrap
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import pytest
from attrs import evolve

from ciba_core import (
    AuthenticationRequest,
    Begin,
    Delivery,
    HttpRequest,
    HttpResponse,
    Input,
    RequestFailed,
    ResponseReceived,
    Resumed,
    Secret,
    TimerFired,
    Transaction,
    step,
)
from ciba_core.client.request import Requested
from ciba_core.states import Pending
from ciba_core.testing import SCENARIOS, Duty, Finding, Report, VirtualClock, check_driver
from ciba_core.testing.scenarios import CLIENT_SECRET, USER

TRUST: Final = ssl.create_default_context()


class Driver:
    """A good driver over `http.client`, in small parts so that each of them can be spoilt."""

    clock: VirtualClock
    refused: tuple[type[Exception], ...] = (ConnectionRefusedError,)
    broken: tuple[type[Exception], ...] = (OSError, http.client.HTTPException)

    def __call__(
        self, transaction: Transaction, request: AuthenticationRequest | None, clock: VirtualClock
    ) -> Transaction:
        self.clock = clock
        now = self.now()
        current = step(transaction, Begin(request) if request else Resumed(), now)
        while not current.transaction.is_finished:
            if current.request is not None:
                happened = self.exchange(current.request)
            else:
                happened = self.wait(current.transaction, now)
            now = self.now()
            current = step(current.transaction, happened, now)
        return current.transaction

    def now(self) -> float:
        return self.clock.time()

    def ticks(self) -> float:
        return self.clock.monotonic()

    def wait(self, transaction: Transaction, now: float) -> Input:
        deadline = transaction.deadline
        assert deadline is not None
        self.clock.sleep(max(deadline - now, 0.0))
        return TimerFired(deadline)

    def exchange(self, request: HttpRequest) -> Input:
        self.left_at = self.ticks()
        try:
            response = self.send(request)
        except self.refused:
            return RequestFailed(request.id, Delivery.NOT_SENT, "refused")
        except self.broken as error:
            elapsed = self.ticks() - self.left_at
            return RequestFailed(request.id, Delivery.UNKNOWN, type(error).__name__, elapsed)
        return ResponseReceived(request.id, response, self.ticks() - self.left_at)

    def send(self, request: HttpRequest) -> HttpResponse:
        url = urlsplit(request.url)
        with closing(self.connect(url.scheme, url.netloc, request)) as connection:
            connection.connect()
            self.connected()
            with self.limit(connection, request.timeout):
                return self.exchange_over(connection, request, url)

    @contextmanager
    def limit(self, connection: http.client.HTTPConnection, seconds: float) -> Generator[None]:
        overdue, sock = threading.Event(), connection.sock

        def give_up() -> None:
            overdue.set()
            sock.shutdown(socket.SHUT_RDWR)

        watchdog = threading.Timer(seconds, give_up)
        watchdog.start()
        try:
            yield
        finally:
            watchdog.cancel()
        if overdue.is_set():
            raise TimeoutError

    def exchange_over(
        self, connection: http.client.HTTPConnection, request: HttpRequest, url: SplitResult
    ) -> HttpResponse:
        target = url.path + (f"?{url.query}" if url.query else "")
        connection.putrequest(request.method, target, skip_accept_encoding=True)
        for name, value in (*request.headers, ("Content-Length", str(len(request.body)))):
            connection.putheader(name, value)
        connection.endheaders(request.body)
        return self.read(connection.getresponse(), request)

    def connected(self) -> None:
        self.left_at = self.ticks()

    def connect(self, scheme: str, host: str, request: HttpRequest) -> http.client.HTTPConnection:
        if scheme == "https":
            return http.client.HTTPSConnection(host, timeout=request.timeout, context=TRUST)
        return http.client.HTTPConnection(host, timeout=request.timeout)

    def read(self, response: http.client.HTTPResponse, request: HttpRequest) -> HttpResponse:
        body = response.read(request.response_limit + 1)
        if response.length and len(body) <= request.response_limit:
            raise http.client.IncompleteRead(body)
        return HttpResponse(response.status, response.getheaders(), body)


class CannotTell(Driver):
    """Another good one, whose stack does not tell when a request left."""

    def exchange(self, request: HttpRequest) -> Input:
        happened = super().exchange(request)
        assert isinstance(happened, RequestFailed | ResponseReceived)
        return evolve(happened, elapsed=None)


# Bad drivers. Each has one flaw.


class Impatient(Driver):
    def wait(self, transaction: Transaction, now: float) -> Input:
        assert transaction.deadline is not None
        return TimerFired(transaction.deadline)


class Dawdling(Driver):
    def wait(self, transaction: Transaction, now: float) -> Input:
        self.clock.sleep(2)
        return super().wait(transaction, now)


class FixedInterval(Driver):
    def wait(self, transaction: Transaction, now: float) -> Input:
        assert transaction.deadline is not None
        self.clock.sleep(5)
        return TimerFired(transaction.deadline)


class WaitsForThePoll(Driver):
    """Waits for the next poll, even if the authentication ends before."""

    def wait(self, transaction: Transaction, now: float) -> Input:
        assert isinstance(transaction.state, Pending)
        assert transaction.deadline is not None
        assert transaction.state.next_poll_at is not None
        self.clock.sleep(transaction.state.next_poll_at - now)
        return TimerFired(transaction.deadline)


class WaitsByWallClock(Driver):
    def wait(self, transaction: Transaction, now: float) -> Input:
        assert transaction.deadline is not None
        while self.clock.time() < transaction.deadline:
            self.clock.sleep(0.5)
        return TimerFired(transaction.deadline)


class SleepsNegativeTime(Driver):
    def wait(self, transaction: Transaction, now: float) -> Input:
        assert transaction.deadline is not None
        self.clock.sleep(transaction.deadline - now)
        return TimerFired(transaction.deadline)


class ElapsedFromHandingOver(Driver):
    """Takes the wait for a connection for long polling."""

    def connected(self) -> None:
        pass


class ElapsedInMilliseconds(Driver):
    def ticks(self) -> float:
        return self.clock.monotonic() * 1000


class ElapsedByWallClock(Driver):
    def ticks(self) -> float:
        return self.clock.time()


class OtherClock(Driver):
    def now(self) -> float:
        return time.time()


class FollowsRedirects(Driver):
    def send(self, request: HttpRequest) -> HttpResponse:
        response = super().send(request)
        if 300 <= response.status < 400:
            return super().send(evolve(request, url=request.url.rpartition("/")[0] + "/elsewhere"))
        return response


class Repeats(Driver):
    def send(self, request: HttpRequest) -> HttpResponse:
        try:
            return super().send(request)
        except OSError:
            return super().send(request)


class RepeatsAfterRestart(Driver):
    def __call__(
        self, transaction: Transaction, request: AuthenticationRequest | None, clock: VirtualClock
    ) -> Transaction:
        if request is None:
            request = AuthenticationRequest(scope="profile", openid=False, login_hint=USER)
            transaction = Transaction(client=transaction.client, provider=transaction.provider)
        return super().__call__(transaction, request, clock)


class ForgetsResumed(Driver):
    def __call__(
        self, transaction: Transaction, request: AuthenticationRequest | None, clock: VirtualClock
    ) -> Transaction:
        self.clock = clock
        if request is None:
            transaction = step(transaction, self.wait(transaction, clock.time()), clock.time()).transaction
        return super().__call__(transaction, request, clock)


class PollsAfterTheEnd(Driver):
    def __call__(
        self, transaction: Transaction, request: AuthenticationRequest | None, clock: VirtualClock
    ) -> Transaction:
        last = super().__call__(transaction, request, clock)
        pending = evolve(last, state=Pending(Secret("x"), Requested(scope="openid"), 2e9, 5.0, 0.0))
        poll = step(pending, TimerFired(0.0), 0.0).request
        assert poll is not None
        self.send(poll)
        return last


class FetchesMore(Driver):
    def send(self, request: HttpRequest) -> HttpResponse:
        url = request.url.rpartition("/")[0] + "/.well-known/openid-configuration"
        super().send(evolve(request, method="GET", url=url, body=b""))
        return super().send(request)


class TwoAtOnce(Driver):
    def send(self, request: HttpRequest) -> HttpResponse:
        other = threading.Thread(target=super().send, args=[request])
        other.start()
        try:
            return super().send(request)
        finally:
            other.join()


class LetsErrorsThrough(Driver):
    refused = ()
    broken = ()


class RaisesForStatus(Driver):
    def send(self, request: HttpRequest) -> HttpResponse:
        response = super().send(request)
        if response.status >= 400:
            raise RuntimeError(f"status {response.status} of {request.url} with {request.body!r}")
        return response


class FailsForStatus(Driver):
    def send(self, request: HttpRequest) -> HttpResponse:
        response = super().send(request)
        if response.status >= 400:
            raise OSError(response.status)
        return response


class DropsHeaders(Driver):
    def send(self, request: HttpRequest) -> HttpResponse:
        response = super().send(request)
        return HttpResponse(response.status, {"Content-Type": response.media_type}, response.body)


class NeverSent(Driver):
    def exchange(self, request: HttpRequest) -> Input:
        happened = super().exchange(request)
        if isinstance(happened, RequestFailed):
            return evolve(happened, delivery=Delivery.NOT_SENT)
        return happened


class TakesShortBodies(Driver):
    def read(self, response: http.client.HTTPResponse, request: HttpRequest) -> HttpResponse:
        try:
            body = response.read()
        except http.client.IncompleteRead as error:
            body = error.partial
        except ConnectionResetError:
            body = b""
        return HttpResponse(response.status, response.getheaders(), body)


class ReadsAll(Driver):
    def read(self, response: http.client.HTTPResponse, request: HttpRequest) -> HttpResponse:
        return HttpResponse(response.status, response.getheaders(), response.read())


class CutsAtTheLimit(Driver):
    def read(self, response: http.client.HTTPResponse, request: HttpRequest) -> HttpResponse:
        answer = super().read(response, request)
        return HttpResponse(answer.status, answer.headers, answer.body[: request.response_limit])


class LimitsEachWait(Driver):
    """Has a time limit for each wait for octets, and none for the whole."""

    @contextmanager
    def limit(self, connection: http.client.HTTPConnection, seconds: float) -> Generator[None]:
        yield


class NoTimeout(LimitsEachWait):
    def connect(self, scheme: str, host: str, request: HttpRequest) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(host)


class TrustsAnybody(Driver):
    def connect(self, scheme: str, host: str, request: HttpRequest) -> http.client.HTTPConnection:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return http.client.HTTPSConnection(host, timeout=request.timeout, context=context)


class LeavesCoding(Driver):
    def send(self, request: HttpRequest) -> HttpResponse:
        asking = evolve(request, headers=(*request.headers, ("Accept-Encoding", "gzip")))
        return super().send(asking)


class LeavesChunks(Driver):
    def read(self, response: http.client.HTTPResponse, request: HttpRequest) -> HttpResponse:
        answer = super().read(response, request)
        chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(answer.body), answer.body)
        return HttpResponse(answer.status, answer.headers, chunks if response.chunked else answer.body)


class KeepsCookies(Driver):
    def __init__(self) -> None:
        self.cookie: str | None = None

    def send(self, request: HttpRequest) -> HttpResponse:
        headers = request.headers if self.cookie is None else (*request.headers, ("Cookie", self.cookie))
        response = super().send(evolve(request, headers=headers))
        self.cookie = response.header("Set-Cookie")
        return response


class AltersRequests(Driver):
    def __init__(self, alter: Callable[[HttpRequest], dict[str, Any]]) -> None:
        self.alter = alter

    def send(self, request: HttpRequest) -> HttpResponse:
        return super().send(evolve(request, **self.alter(request)))


class StopsHalfWay(Driver):
    def __call__(
        self, transaction: Transaction, request: AuthenticationRequest | None, clock: VirtualClock
    ) -> Transaction:
        assert request is not None
        return step(transaction, Begin(request), clock.time()).transaction


class ReturnsNothing(Driver):
    def __call__(
        self, transaction: Transaction, request: AuthenticationRequest | None, clock: VirtualClock
    ) -> Transaction:
        super().__call__(transaction, request, clock)
        return None  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


class NeverReturns(Driver):
    def wait(self, transaction: Transaction, now: float) -> Input:
        while True:
            self.clock.sleep(1)


def altering(alter: Callable[[HttpRequest], dict[str, Any]]) -> Callable[[], Driver]:
    return lambda: AltersRequests(alter)


FLAWS: Final[list[tuple[Callable[[], Driver], str, Duty, str]]] = [
    (Impatient, "approved", Duty.WAIT, "poll 1 came 0 s after what was before it, not 5"),
    (Dawdling, "approved", Duty.WAIT, "poll 1 came 7 s after what was before it, not 5"),
    (FixedInterval, "slow_down", Duty.WAIT, "poll 2 came 5 s after what was before it, not 10"),
    (WaitsForThePoll, "expired", Duty.WAIT, "it took 15 s, not 12"),
    (WaitsByWallClock, "wall_clock_while_waiting", Duty.WAIT, "poll 1 came 3 s"),
    (SleepsNegativeTime, "resumed_overdue", Duty.FINISH, "it raised ValueError"),
    (ElapsedInMilliseconds, "long_poll", Duty.ELAPSED, "poll 3 came 3 s after what was before it, not 8"),
    (ElapsedFromHandingOver, "slow_connection", Duty.ELAPSED, "poll 2 came 0 s"),
    (ElapsedByWallClock, "wall_clock_forward", Duty.ELAPSED, "poll 2 came 3 s"),
    (ElapsedByWallClock, "wall_clock_back", Duty.ELAPSED, "it raised LocalProtocolError"),
    (OtherClock, "approved", Duty.NOW, "the tokens do not expire when they should"),
    (FollowsRedirects, "redirected_poll", Duty.NO_REDIRECT, "it followed a redirect"),
    (FollowsRedirects, "redirected_poll_302", Duty.NO_REDIRECT, "it followed a redirect"),
    (FollowsRedirects, "redirected_authentication", Duty.NO_REDIRECT, "it followed a redirect"),
    (Repeats, "acknowledgement_lost", Duty.ONCE, "it sent the authentication request 2 times"),
    (Repeats, "connection_lost", Duty.ONCE, "it sent more polls than the transaction asked for"),
    (Repeats, "tokens_lost", Duty.FAILURES, "it ended with InvalidGrant, not with TokenResponseLost"),
    (RepeatsAfterRestart, "resumed_unacknowledged", Duty.ONCE, "it repeated the authentication request"),
    (ForgetsResumed, "resumed_in_flight", Duty.FINISH, "it raised AssertionError"),
    (PollsAfterTheEnd, "approved", Duty.ONCE, "it sent more polls than the transaction asked for"),
    (PollsAfterTheEnd, "resumed_in_flight", Duty.ONCE, "it sent more polls than the transaction asked for"),
    (PollsAfterTheEnd, "approved", Duty.WAIT, "it sent 4 polls, not 3"),
    (FetchesMore, "approved", Duty.ONCE, "it sent a request to a URL that no step named"),
    (TwoAtOnce, "one_at_a_time", Duty.ONE_AT_A_TIME, "two requests were under way at the same time"),
    (LetsErrorsThrough, "connection_refused", Duty.FAILURES, "it raised ConnectionRefusedError"),
    (LetsErrorsThrough, "connection_lost", Duty.FAILURES, "it raised RemoteDisconnected"),
    (LetsErrorsThrough, "answer_cut", Duty.FAILURES, "it raised"),
    (TakesShortBodies, "answer_short", Duty.FAILURES, "it ended with RemoteProtocolError, not with"),
    (TakesShortBodies, "acknowledgement_short", Duty.FAILURES, "it ended with RemoteProtocolError, not"),
    (NeverSent, "acknowledgement_lost", Duty.FAILURES, "it ended with RequestNotSent, not with"),
    (NeverSent, "tokens_lost", Duty.FAILURES, "it ended with InvalidGrant, not with TokenResponseLost"),
    (LimitsEachWait, "dripping_head", Duty.TIMEOUT, "it did not come back"),
    (LimitsEachWait, "dripping_body", Duty.TIMEOUT, "it did not come back"),
    (LimitsEachWait, "endless_interim", Duty.TIMEOUT, "it did not come back"),
    (NoTimeout, "answer_late", Duty.TIMEOUT, "it did not come back"),
    (RaisesForStatus, "denied", Duty.ANSWERS, "it raised RuntimeError"),
    (RaisesForStatus, "denied_403", Duty.ANSWERS, "it raised RuntimeError"),
    (RaisesForStatus, "refused", Duty.ANSWERS, "it raised RuntimeError"),
    (RaisesForStatus, "refused_403", Duty.ANSWERS, "it raised RuntimeError"),
    (RaisesForStatus, "busy", Duty.ANSWERS, "it raised RuntimeError"),
    (FailsForStatus, "client_refused", Duty.ANSWERS, "it ended with Authenticated, not with InvalidClient"),
    (DropsHeaders, "retry_after", Duty.ANSWERS, "poll 2 came 5 s after what was before it, not 30"),
    (DropsHeaders, "retry_after_date", Duty.ANSWERS, "poll 2 came 5 s after what was before it, not 30"),
    (DropsHeaders, "retry_after_pending", Duty.ANSWERS, "poll 2 came 5 s after what was before it, not 40"),
    (ReadsAll, "endless_answer", Duty.LIMIT, "it read on and on"),
    (CutsAtTheLimit, "endless_answer", Duty.LIMIT, "it sent 1 polls, not 2"),
    (TrustsAnybody, "untrusted_certificate", Duty.CERTIFICATE, "it sent a request to a server that nobody"),
    (LeavesCoding, "compressed", Duty.ANSWERS, "it ended with RemoteProtocolError, not with Authenticated"),
    (LeavesChunks, "chunked", Duty.ANSWERS, "it ended with RemoteProtocolError, not with Authenticated"),
    (KeepsCookies, "cookies", Duty.AS_IT_STANDS, "a poll: a header field cookie of its own"),
    (
        altering(lambda request: {"headers": (*request.headers, ("Authorization", "Basic eDp5"))}),
        "credentials_in_form",
        Duty.AS_IT_STANDS,
        "the authentication request: a header field authorization of its own",
    ),
    (
        altering(lambda request: {"headers": (*request.headers, ("Authorization", "Basic eDp5"))}),
        "approved",
        Duty.AS_IT_STANDS,
        "the authentication request: header field Authorization with another value, or twice",
    ),
    (
        altering(lambda request: {"headers": request.headers[1:]}),
        "approved",
        Duty.AS_IT_STANDS,
        "a poll: no header field Accept",
    ),
    (
        altering(lambda request: {"url": f"{request.url}?session=1"}),
        "approved",
        Duty.AS_IT_STANDS,
        "the authentication request: another URL",
    ),
    (
        altering(lambda request: {"body": request.body.replace(b"+", b"%20")}),
        "approved",
        Duty.AS_IT_STANDS,
        "the authentication request: another body",
    ),
    (
        altering(lambda _request: {"method": "PUT"}),
        "approved",
        Duty.AS_IT_STANDS,
        "the authentication request: another method",
    ),
    (StopsHalfWay, "approved", Duty.FINISH, "it returned a transaction that is not finished"),
    (ReturnsNothing, "approved", Duty.FINISH, "it did not return a Transaction"),
    (NeverReturns, "approved", Duty.FINISH, "it did not come back"),
]


@pytest.mark.parametrize("driver", [Driver, CannotTell])
def test_good_driver(driver: type[Driver]) -> None:
    """A driver that does what it has to passes, and the report says so."""
    report = check_driver(driver())
    report.raise_for_findings()
    assert report.ok
    assert report.scenarios == tuple(SCENARIOS)
    assert str(report) == f"{len(SCENARIOS)} scenarios, 0 findings"


@pytest.mark.parametrize(
    ("driver", "scenario", "duty", "message"),
    [pytest.param(*flaw, id=f"{getattr(flaw[0], '__name__', '')}-{flaw[1]}") for flaw in FLAWS],
)
def test_bad_driver(driver: Callable[[], Driver], scenario: str, duty: Duty, message: str) -> None:
    """A driver with one flaw is found out, in words without a secret."""
    # Those that do not come back are waited for in real time, as short as it can be.
    patience = 0.5 if message == "it did not come back" else 10.0
    report = check_driver(driver(), only=[scenario], patience=patience)
    assert not report.ok
    assert any(
        finding.scenario == scenario and finding.duty is duty and finding.message.startswith(message)
        for finding in report.findings
    ), str(report)
    assert f"- {scenario}: {message}" in str(report)
    assert len(set(report.findings)) == len(report.findings)
    assert CLIENT_SECRET not in repr(report) + str(report)
    assert USER not in repr(report) + str(report)


def test_each_scenario_can_fail() -> None:
    """There is no scenario that every driver passes."""
    assert {scenario for _, scenario, _, _ in FLAWS} == set(SCENARIOS)


def test_driver_that_does_not_come_back() -> None:
    """A driver that is given up on is stopped where it next sleeps, and does not go on beside the tests."""
    report = check_driver(NeverReturns(), only=["approved"], patience=0.1)
    assert [finding.error for finding in report.findings] == [None]
    for thread in threading.enumerate():
        if thread.name == "driver: approved":
            thread.join(10)
            assert not thread.is_alive()


def test_findings_are_raised() -> None:
    """The exception has the report as its message, and what the driver raised as its cause."""
    with pytest.raises(AssertionError, match="1 scenarios, 1 findings\n- refused: it raised") as caught:
        check_driver(RaisesForStatus(), only=["refused"]).raise_for_findings()
    assert isinstance(caught.value.__cause__, RuntimeError)
    with pytest.raises(AssertionError) as caught:
        Report(("approved",), (Finding("approved", Duty.WAIT, "it did not wait"),)).raise_for_findings()
    assert caught.value.__cause__ is None


def test_unknown_scenario() -> None:
    """A scenario that does not exist is refused before anything is run."""
    with pytest.raises(ValueError, match="unknown scenarios: nonsense"):
        check_driver(Driver(), only=["nonsense", "approved"])


def test_example_of_the_documentation() -> None:
    """The driver in the docstring passes the check."""
    assert check_driver.__doc__ is not None
    example = re.search(r"A complete one::\n\n(.*?)\n    Nothing waits", check_driver.__doc__, re.DOTALL)
    assert example is not None
    exec(textwrap.dedent(example[1]), {})

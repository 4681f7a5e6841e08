"""A check for authors of drivers: whether a driver does what the core relies on.

A driver stands between the core and an HTTP stack. `check_driver` runs it against a provider on a loopback
port, in virtual time, with and without faults, and reports what the driver got wrong.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import ipaddress
import itertools
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, wait
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from attrs import evolve, field, frozen

from ciba_core import (
    AuthenticationRequest,
    Begin,
    ClientConfig,
    HttpRequest,
    Limits,
    PollingPolicy,
    ProviderMetadata,
    ResponseReceived,
    Secret,
    Step,
    TimerFired,
    Transaction,
    step,
)
from ciba_core.client.request import Requested
from ciba_core.states import Pending

from .callback_scenarios import CALLBACK_SCENARIOS
from .callbacks import Callback, in_background, never
from .clock import VirtualClock
from .provider import SimulatedProvider
from .report import CheckReport
from .scenarios import (
    ALL_SCENARIOS,
    BACKCHANNEL,
    CLIENT_ID,
    CLIENT_SECRET,
    ELSEWHERE,
    NEVER_ANSWERED,
    TOKEN,
    USER,
    Duty,
    Scenario,
)
from .script import (
    SimulatedClient,
)
from .server import LoopbackServer
from .wire import Handler, Headers, NoReply, Reply

__all__ = [
    "NOTIFIED_SCENARIOS",
    "SCENARIOS",
    "Drive",
    "Duty",
    "Finding",
    "NotifiedDrive",
    "Report",
    "check_driver",
    "check_notified_driver",
]

Drive = Callable[[Transaction, AuthenticationRequest | None, VirtualClock], Transaction]
"""A driver, in the form that `check_driver` describes."""

NotifiedDrive = Callable[
    [Transaction, AuthenticationRequest, VirtualClock, Callable[[Handler], None]], Transaction
]
"""A driver, in the form that `check_notified_driver` describes."""


@frozen
class Finding:
    """Something that a driver got wrong. It contains nothing of the requests and answers."""

    scenario: str
    """A key of `SCENARIOS` or of `NOTIFIED_SCENARIOS`."""
    duty: Duty
    message: str
    """What happened instead."""
    error: BaseException | None = field(default=None, eq=False, repr=False)
    """The exception that the driver raised, if any. Its text is the driver's own and may contain secrets."""

    def __str__(self) -> str:
        return f"{self.scenario}: {self.message}. A driver has to {self.duty.value}."


@frozen
class Report(CheckReport[Finding]):
    """The outcome of a check. ``str(report)`` is for people."""


def check_driver(drive: Drive, *, only: Iterable[str] | None = None, patience: float = 10.0) -> Report:
    """Run a driver through the scenarios, over real HTTP on loopback and in virtual time.

    ``drive(transaction, request, clock)`` is called in a thread of its own, once for each scenario. It
    begins the transaction with the request. If the request is ``None``, it goes on with the transaction,
    which was restored from a snapshot. It takes the time from ``clock.time()`` and ``clock.monotonic()``,
    waits by ``clock.sleep()``, and returns the last value of the transaction. An async driver goes into
    ``asyncio.run()`` or ``trio.run()``. A complete one::

        import asyncio
        import ssl
        import httpx
        from ciba_core import Begin, Delivery, HttpResponse, RequestFailed, ResponseReceived, Resumed
        from ciba_core import TimerFired, step
        from ciba_core.testing import check_driver

        trust = ssl.create_default_context()

        async def send(request):
            timeout = httpx.Timeout(request.timeout, connect=request.connect_timeout)
            # httpx bounds each wait for octets; this bounds the whole.
            async with (
                asyncio.timeout(request.timeout),
                httpx.AsyncClient(verify=trust, timeout=timeout) as http,
                http.stream(
                    request.method, request.url, headers=request.headers, content=request.body
                ) as answer,
            ):
                body = bytearray()
                async for chunk in answer.aiter_bytes():
                    body += chunk
                    if len(body) > request.response_limit:
                        break
                kept = bytes(body[: request.response_limit + 1])
                return HttpResponse(answer.status_code, answer.headers.multi_items(), kept)

        def drive(transaction, request, clock):
            now = clock.time()
            current = step(transaction, Begin(request) if request else Resumed(), now)
            while not current.transaction.is_finished:
                if current.request is None:
                    deadline = current.transaction.deadline
                    clock.sleep(max(deadline - now, 0))
                    happened = TimerFired(deadline)
                else:
                    # httpx does not tell when a request leaves, and so `elapsed` is left out.
                    number = current.request.id
                    try:
                        happened = ResponseReceived(number, asyncio.run(send(current.request)))
                    except (httpx.HTTPError, TimeoutError) as error:
                        unsent = isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))
                        delivery = Delivery.NOT_SENT if unsent else Delivery.UNKNOWN
                        happened = RequestFailed(number, delivery, type(error).__name__)
                now = clock.time()
                current = step(current.transaction, happened, now)
            return current.transaction

        check_driver(drive).raise_for_findings()

    Nothing waits in real time except for a few scenarios, for a second at most: those whose answer never
    comes, one that looks for simultaneous requests, and one whose connection hangs. Any exception of the
    driver is a finding, and so is a driver that does not return.

    Args:
        drive: the driver.
        only: the scenarios to run, as keys of `SCENARIOS`; all of them if ``None``.
        patience: real seconds after which a scenario is given up. The driver's thread is left behind then.

    Raises:
        ValueError: `only` names an unknown scenario.

    """

    def call(stage: _Stage) -> Transaction:
        request = None if stage.scenario.resumed else stage.scenario.request
        return drive(stage.transaction, request, stage.clock)

    return _check(ALL_SCENARIOS, call, only, patience)


def check_notified_driver(
    drive: NotifiedDrive, *, only: Iterable[str] | None = None, patience: float = 10.0
) -> Report:
    """Run a driver for ping and push mode through the scenarios that are about callbacks.

    ``drive(transaction, request, clock, listen)`` is called as by `check_driver`, whose checks are not
    repeated here. Before it sends the request, the driver calls ``listen(endpoint)`` with the function that
    its web server calls for a callback: ``endpoint(method, target, headers, body)`` returns a `Reply`, and is
    called in another thread. The driver waits by ``clock.sleep(seconds, until=...)``, which returns early
    when the condition is true, which says that a notification is there. With `send` as in `check_driver`::

        from concurrent.futures import Future
        from ciba_core import Begin, NotificationReceived, ResponseReceived, TimerFired, step
        from ciba_core.notification import token_hash
        from ciba_core.callbacks.routing import Routes, receive
        from ciba_core.testing import Reply, check_notified_driver

        def drive(transaction, request, clock, listen):
            routes, inbox, waiting = Routes(), [], None

            def endpoint(method, target, headers, body):
                received = receive(method, headers, body, routes=routes, now=clock.time())
                answer = received.answer
                if answer is None:
                    promise = Future()
                    inbox.append((received.notification, promise))
                    answer = promise.result()
                return Reply(answer.status, answer.headers, answer.body)

            listen(endpoint)
            now, deadline, over_at = clock.time(), None, 0.0
            current = step(transaction, Begin(request), now)
            token = current.transaction.client_notification_token
            routes.add(token_hash(token), "the only one", forget_at=now + 3600, now=now)
            while True:
                if current.answer is not None:
                    waiting.set_result(current.answer)
                if current.transaction.is_finished:
                    return current.transaction
                if current.request is not None:
                    response = asyncio.run(send(current.request))
                    happened, deadline = ResponseReceived(current.request.id, response), None
                else:
                    # A notification that changes nothing leaves the wait as it is.
                    if deadline != current.transaction.deadline:
                        deadline = current.transaction.deadline
                        over_at = clock.monotonic() + max(deadline - now, 0)
                    left = max(over_at - clock.monotonic(), 0)
                    clock.sleep(left, until=lambda: bool(inbox))
                    if inbox:
                        notification, waiting = inbox.pop(0)
                        happened = NotificationReceived(notification)
                    else:
                        happened, deadline = TimerFired(deadline), None
                now = clock.time()
                current = step(current.transaction, happened, now)

        check_notified_driver(drive).raise_for_findings()

    A callback takes a fraction of a second of real time at most.

    Args:
        drive: the driver.
        only: the scenarios to run, as keys of `NOTIFIED_SCENARIOS`; all of them if ``None``.
        patience: as for `check_driver`.

    Raises:
        ValueError: `only` names an unknown scenario.

    """

    def call(stage: _Stage) -> Transaction:
        return drive(stage.transaction, stage.scenario.request, stage.clock, stage.listen)

    return _check(CALLBACK_SCENARIOS, call, only, patience)


def _check(
    scenarios: Iterable[Scenario],
    call: Callable[[_Stage], Transaction],
    only: Iterable[str] | None,
    patience: float,
) -> Report:
    by_name = {scenario.name: scenario for scenario in scenarios}
    names = set(by_name if only is None else only)
    if unknown := names - by_name.keys():
        raise ValueError(f"unknown scenarios: {', '.join(sorted(unknown))}")
    chosen = [scenario for name, scenario in by_name.items() if name in names]
    findings = (finding for scenario in chosen for finding in _run(scenario, call, patience))
    return Report(tuple(scenario.name for scenario in chosen), tuple(findings))


SCENARIOS: Final[Mapping[str, str]] = MappingProxyType({s.name: s.about for s in ALL_SCENARIOS})
"""The scenarios of `check_driver` by name, and what happens in each."""
NOTIFIED_SCENARIOS: Final[Mapping[str, str]] = MappingProxyType({s.name: s.about for s in CALLBACK_SCENARIOS})
"""The scenarios of `check_notified_driver` by name, and what happens in each."""


_NAMES: Final = {BACKCHANNEL: "the authentication request", TOKEN: "a poll"}
_PRIVATE: Final = frozenset({"authorization", "cookie", "proxy-authorization"})
_LIMIT: Final = 16 * 1024
_TOKEN_LIFETIME: Final = 3600  # of the simulated provider

_KEYS: Final = "/jwks"
_NOTIFICATION_ENDPOINT: Final = "https://client.example/cb?x=1"
_FIRST_POLL: Final = 5.0  # virtual seconds
_DRIP: Final = 0.02  # real seconds, like the next
_AT_ONCE: Final = 0.3  # real seconds, for what happens in another thread

# Allows for drivers that wait in ticks, or are woken a little late.
_LATE: Final = 1.0
# Virtual instants are sums of floats.
_EARLY: Final = 0.001


# --- one scenario ----------------------------------------------------------------------------------------


@frozen
class _Received:
    """A request as it arrived; names of header fields in lower case, `at` in virtual seconds."""

    method: str
    target: str
    headers: Headers
    body: bytes
    at: float

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


class _Clock(VirtualClock):
    """A virtual clock whose `sleep` raises once the scenario is over."""

    def __init__(self) -> None:
        super().__init__()
        self.abandoned = False
        self.until: Callable[[], bool] = never
        """The condition that ends the present sleep."""

    def sleep(self, seconds: float, /, until: Callable[[], bool] | None = None) -> None:
        """Move on, unless the scenario is over."""
        if self.abandoned:
            raise TimeoutError("the scenario is over")
        self.until = until or never
        super().sleep(seconds, until)
        self.until = never


class _DidNotReturn(Exception):
    """The outcome of a driver that did not return."""


class _Stage:
    """What one scenario needs, and the requests that have arrived in it."""

    def __init__(self, scenario: Scenario, server: LoopbackServer, token_server: LoopbackServer) -> None:
        self.scenario = scenario
        self.closing = server.closing
        self.clock = _Clock()
        self.received: list[_Received] = []
        self.overlapped = threading.Event()
        self.flooded = False
        self.statuses: list[int | Future[int | None] | None] = []
        """Statuses of the answers to callbacks; ``None``: no answer came."""
        self.unheard = False
        self.endpoint_errors: list[Exception] = []
        self.polled_first = False
        self._endpoint: Handler | None = None
        self._in_flight = 0
        self._lock = threading.Lock()
        self._simulation = SimulatedProvider(
            self.clock,
            issuer=server.url,
            clients=[
                SimulatedClient(
                    CLIENT_ID,
                    CLIENT_SECRET,
                    token_endpoint_auth_method=scenario.authentication.method,
                    backchannel_token_delivery_mode=scenario.mode,
                    backchannel_client_notification_endpoint=(
                        None if scenario.mode == "poll" else _NOTIFICATION_ENDPOINT
                    ),
                )
            ],
            deliver=self._call_back,
            users={} if scenario.user is None else {USER: scenario.user},
            expires_in=scenario.expires_in,
            # A poll that comes too early is a finding of its own. It must not delay the next polls.
            throttle_early_polls=False,
            require_openid=False,
        )
        for endpoint, fault in scenario.faults:
            self._simulation.inject(endpoint, fault)
        if scenario.callback_faults:
            self._simulation.inject_callback(*scenario.callback_faults)
        self._new = Transaction(
            client=ClientConfig(
                CLIENT_ID,
                scenario.authentication,
                # A redirect, or an answer without its body, ends the transaction at once, so that its end
                # shows the fault.
                polling=PollingPolicy(safety_margin=0, intercepted_limit=1),
                limits=Limits(body=_LIMIT),
                timeout=scenario.timeout,
                entropy=bytes,  # zeros: the shortest back-off, the same in every run
                backchannel_token_delivery_mode=scenario.mode,
            ),
            provider=ProviderMetadata(
                issuer=server.url,
                token_endpoint=token_server.url + TOKEN,
                backchannel_authentication_endpoint=server.url + BACKCHANNEL,
                jwks_uri=server.url + _KEYS if scenario.mode == "push" else None,
                allow_loopback_http=True,
            ),
        )
        self.transaction = self._restored() if scenario.resumed else self._new
        self.begun = self.ended = self.clock.monotonic()
        for instant, seconds in scenario.wall_clock:
            self.clock.call_at(instant, functools.partial(self.clock.step_wall, seconds))
        self._connecting = threading.Thread(target=self._connect, args=[token_server], name="connecting")
        if scenario.refused_until:
            self.clock.call_at(scenario.refused_until, token_server.listen)
        if scenario.connecting:
            token_server.clog()
            self.clock.call_at(_FIRST_POLL, self._connecting.start)
        server.handler = token_server.handler = self._handle

    def _restored(self) -> Transaction:
        """Return a transaction that has come through a snapshot."""
        new, clock, send = self._new, self.clock, self._simulation.send
        current = step(new, Begin(self.scenario.request), clock.time())
        if self.scenario.resumed != "unacknowledged":
            answer = ResponseReceived(1, send(_request(current)), 0.0)
            current = step(current.transaction, answer, clock.time())
            clock.sleep(5 if self.scenario.resumed == "in flight" else 60)
        if self.scenario.resumed == "in flight":
            current = step(current.transaction, TimerFired(clock.time()), clock.time())
            send(_request(current))
        return Transaction.from_json(current.transaction.to_json(), client=new.client, provider=new.provider)

    def expected(self, path: str) -> HttpRequest:
        """Return a request as the core issues it in this scenario."""
        now = self.clock.time()
        if path == BACKCHANNEL:
            return _request(step(self._new, Begin(self.scenario.request), now))
        issued = (entry for entry in self._simulation.journal if entry.outcome == "acknowledged")
        identifier = next((entry.auth_req_id or "" for entry in issued), "")
        pending = Pending(
            Secret(identifier), Requested(scope=""), expires_at=now + 1, interval=5, next_poll_at=now
        )
        return _request(step(evolve(self._new, state=pending), TimerFired(now), now))

    def perform(self, call: Callable[[_Stage], Transaction], patience: float) -> Transaction | BaseException:
        """Call the driver and return what it returned or raised."""
        outcome: list[Transaction | BaseException] = []

        def work() -> None:
            try:
                outcome.append(call(self))
            except BaseException as error:  # noqa: BLE001  # becomes a finding
                outcome.append(error)

        thread = threading.Thread(target=work, name=f"driver: {self.scenario.name}", daemon=True)
        thread.start()
        thread.join(patience)
        self.ended = self.clock.monotonic()
        self.clock.abandoned = True
        return outcome[0] if outcome else _DidNotReturn()

    def _connect(self, token_server: LoopbackServer) -> None:
        """Accept the hanging connection later."""
        self.closing.wait(_AT_ONCE)
        VirtualClock.sleep(self.clock, self.scenario.connecting)
        token_server.listen()

    def clear_away(self) -> None:
        """Wait for the threads that run beside the driver."""
        if self._connecting.ident is not None:
            self._connecting.join()

    def listen(self, endpoint: Handler) -> None:
        """Take the function to call when a callback comes."""
        self._endpoint = endpoint

    def _call_back(self, callback: Callback) -> int | Future[int | None] | None:
        endpoint = self._endpoint
        if endpoint is None:
            self.unheard = True
            return None

        def call() -> int | None:
            target = urlsplit(callback.url)._replace(scheme="", netloc="").geturl()
            try:
                reply = endpoint(callback.method, target, callback.headers, callback.body)
            except Exception as error:  # noqa: BLE001  # becomes a finding
                self.endpoint_errors.append(error)
                return None
            return reply.status if isinstance(reply, Reply) else None

        status = in_background(call, _AT_ONCE, enough=self.clock.until)
        self.statuses.append(status)
        return status

    def answered_first(self) -> bool:
        """Tell whether all callbacks have their answers; wait for answers that are on their way."""
        calls = [status for status in self.statuses if isinstance(status, Future)]
        return not wait(calls, _AT_ONCE).not_done

    def flood(self) -> Iterator[bytes]:
        """Yield so much that only a driver which ignores the limit reads all of it."""
        yield from itertools.repeat(b" " * (1 << 16), 1 << 10)
        self.flooded = True

    def drip(self, octets: bytes) -> Iterator[bytes]:
        """Yield the octets again and again, slowly, until the end."""
        while not self.closing.wait(_DRIP):
            yield octets

    def _handle(
        self, method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes
    ) -> Reply | NoReply:
        fields = tuple((name.lower(), value) for name, value in headers)
        with self._lock:
            received = _Received(method, target, fields, body, self.clock.monotonic())
            self.received.append(received)
            poll = sum(one.path == TOKEN for one in self.received) if received.path == TOKEN else 0
            self._in_flight += 1
            if self._in_flight > 1:
                self.overlapped.set()
        try:
            if poll and not self.answered_first():
                self.polled_first = True
            reply = self._simulation.handle(method, target, fields, body)
            if self.scenario.twist is not None and isinstance(reply, Reply):
                reply = self.scenario.twist(self, poll, fields, reply)
            return reply
        finally:
            with self._lock:
                self._in_flight -= 1


def _request(current: Step) -> HttpRequest:
    assert current.request is not None  # noqa: S101  # for the type checker
    return current.request


def _run(scenario: Scenario, call: Callable[[_Stage], Transaction], patience: float) -> list[Finding]:
    with contextlib.ExitStack() as stack:
        tls = _untrusted() if scenario.tls else None
        server = stack.enter_context(LoopbackServer(ssl_context=tls))
        token_server = server
        if scenario.refused_until or scenario.connecting:
            token_server = stack.enter_context(LoopbackServer(listening=False))
        stage = _Stage(scenario, server, token_server)
        outcome = stage.perform(call, patience)
        stage.clear_away()
    raised = None if isinstance(outcome, (Transaction, _DidNotReturn)) else outcome
    found = (
        Finding(scenario.name, duty, message, raised)
        for duty, message in itertools.chain(
            _judge_end(stage, outcome), _judge_callbacks(stage), _judge_requests(stage, outcome)
        )
    )
    # Report a fault once, even if each poll has it.
    return list(dict.fromkeys(found))


def _untrusted() -> ssl.SSLContext:
    """Return TLS for a server on loopback whose certificate is signed by itself."""
    from cryptography import x509  # noqa: PLC0415  # comes with joserfc; loaded only when it is used
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as directory:  # `ssl` takes files only
        file = Path(directory, "server.pem")
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context.load_cert_chain(file)
    return context


# --- verdicts --------------------------------------------------------------------------------------------

_Verdicts = Iterator[tuple[Duty, str]]


def _judge_end(stage: _Stage, outcome: object) -> _Verdicts:
    """Say what is wrong with what the driver returned."""
    scenario = stage.scenario
    match outcome:
        case _DidNotReturn():
            duty = Duty.TIMEOUT if scenario.twist in NEVER_ANSWERED else Duty.FINISH
            yield duty, "it did not come back"
        case BaseException():
            yield scenario.duty, f"it raised {type(outcome).__name__}"
        case Transaction(is_finished=True):
            end = outcome.error or outcome.state
            if isinstance(end, scenario.ends):
                yield from _judge_time(stage, outcome)
            else:
                yield scenario.duty, f"it ended with {type(end).__name__}, not with {scenario.ends.__name__}"
        case Transaction():
            yield Duty.FINISH, "it returned a transaction that is not finished"
        case _:
            yield Duty.FINISH, "it did not return a Transaction"


def _judge_time(stage: _Stage, transaction: Transaction) -> _Verdicts:
    """Say what is wrong with the times of a transaction that came to the right end."""
    scenario = stage.scenario
    polls = sum(received.path == TOKEN for received in stage.received)
    if polls != len(scenario.waits):
        yield scenario.waits_duty, f"it sent {polls} polls, not {len(scenario.waits)}"
    took = stage.ended - stage.begun
    if scenario.ends_after is not None and not _in_time(took, scenario.ends_after):
        yield Duty.WAIT, f"it took {took:g} s, not {scenario.ends_after:g}"
    expires_at = None if transaction.tokens is None else transaction.tokens.expires_at
    if expires_at is not None and abs(expires_at - _TOKEN_LIFETIME - stage.clock.time()) > _LATE:
        yield Duty.NOW, "the tokens do not expire when they should by the clock that was handed in"


def _in_time(actual: float, right: float) -> bool:
    return right - _EARLY <= actual <= right + _LATE


def _judge_callbacks(stage: _Stage) -> _Verdicts:
    """Say what is wrong with the answers to callbacks."""
    if stage.unheard:
        yield Duty.ROUTE, "it did not listen when a callback came"
    if stage.polled_first:
        yield Duty.ANSWER_FIRST, "it polled while a ping waited for its answer"
    for error in stage.endpoint_errors:
        yield Duty.CALLBACKS, f"its endpoint raised {type(error).__name__}"
    stage.answered_first()
    right = stage.scenario.answers
    if len(stage.statuses) != len(right):
        yield Duty.WAKE, f"it waited for {len(stage.statuses)} callbacks, not {len(right)}"
    for number, (status, expected) in enumerate(zip(stage.statuses, right, strict=False), start=1):
        found = status.result() if isinstance(status, Future) and status.done() else status
        if not isinstance(found, int):
            yield Duty.CALLBACKS, f"it did not answer callback {number}"
        elif found != expected:
            yield Duty.CALLBACKS, f"it answered callback {number} with {found}, not {expected}"


def _judge_requests(stage: _Stage, outcome: object) -> _Verdicts:
    """Say what is wrong with what arrived."""
    scenario = stage.scenario
    if stage.flooded:
        yield Duty.LIMIT, "it read on and on"
    # The server still handles the poll without an answer when the next one comes.
    if stage.overlapped.is_set() and scenario.twist not in NEVER_ANSWERED:
        yield Duty.ONE_AT_A_TIME, "two requests were under way at the same time"
    for received in stage.received:
        if scenario.tls:
            yield Duty.CERTIFICATE, "it sent a request to a server that nobody vouches for"
        if received.path in {BACKCHANNEL, TOKEN}:
            for problem in _differences(received, stage.expected(received.path)):
                yield Duty.AS_IT_STANDS, f"{_NAMES[received.path]}: {problem}"
        elif received.path == _KEYS and scenario.mode == "push":
            pass
        elif received.path == ELSEWHERE:
            yield Duty.NO_REDIRECT, "it followed a redirect"
        else:
            yield Duty.ONCE, "it sent a request to a URL that no step named"
    begun = sum(received.path == BACKCHANNEL for received in stage.received)
    if scenario.resumed and begun:
        yield Duty.ONCE, "it repeated the authentication request after the restart"
    elif begun > 1:
        yield Duty.ONCE, f"it sent the authentication request {begun} times"
    polls = [received.at for received in stage.received if received.path == TOKEN]
    if isinstance(outcome, Transaction) and len(polls) > outcome.polls - stage.transaction.polls:
        yield Duty.ONCE, "it sent more polls than the transaction asked for"
    gaps = (at - before for before, at in itertools.pairwise((stage.begun, *polls)))
    for number, (gap, right) in enumerate(zip(gaps, scenario.waits, strict=False), start=1):
        choices = right if isinstance(right, tuple) else (right,)
        if not any(_in_time(gap, choice) for choice in choices):
            expected = " or ".join(f"{choice:g}" for choice in choices)
            yield (
                scenario.waits_duty,
                f"poll {number} came {gap:g} s after what was before it, not {expected}",
            )


def _differences(received: _Received, expected: HttpRequest) -> Iterator[str]:
    """Say in which parts a request differs from the one that the core issued."""
    if received.method != expected.method:
        yield "another method"
    if received.target != urlsplit(expected.url).path:
        yield "another URL"
    if received.body != expected.body:
        yield "another body"
    names = {name.lower() for name, _ in expected.headers}
    for name, value in expected.headers:
        values = [other for key, other in received.headers if key == name.lower()]
        if not values:
            yield f"no header field {name}"
        elif values != [value]:
            yield f"header field {name} with another value, or twice"
    for name in sorted(_PRIVATE.difference(names).intersection(name for name, _ in received.headers)):
        yield f"a header field {name} of its own"

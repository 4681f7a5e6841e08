from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from ciba_core import (
    AuthenticationRequest,
    Begin,
    Cancel,
    ClientConfig,
    ClientSecretPost,
    Credentials,
    CredentialsContext,
    Delivery,
    Input,
    Limits,
    NoClientAuthentication,
    NotificationReceived,
    PollingPolicy,
    Purpose,
    RequestFailed,
    ResponseReceived,
    Resumed,
    Secret,
    SignaturesMade,
    SigningFailed,
    Step,
    TimerFired,
    Transaction,
    step,
)
from ciba_core.client.request import Requested
from ciba_core.errors import (
    AccessDenied,
    AcknowledgementLost,
    AuthenticationCancelled,
    AuthenticationExpired,
    AuthenticationRequestDenied,
    CibaError,
    ExpiredToken,
    InvalidGrant,
    LocalProtocolError,
    ProviderUnavailable,
    RemoteProtocolError,
    RequestNotSent,
    TokenResponseLost,
    TokensRejected,
)
from ciba_core.events import (
    AuthenticationRefused,
    AuthenticationRequestFailed,
    AuthenticationRequestSent,
    AuthorizationPending,
    AuthReqIdExpired,
    AuthReqIdIssued,
    CancelRequested,
    Event,
    PollFailed,
    PollSent,
    ProviderDeviation,
    SlowDown,
    TokenRequestFailed,
    TokensIssued,
    TokensUntrusted,
    UserDenied,
)
from ciba_core.provider.shared import NOTHING_SHARED
from ciba_core.states import (
    Authenticated,
    AwaitingAcknowledgement,
    AwaitingCallback,
    AwaitingKeys,
    Cancelled,
    Denied,
    Expired,
    Failed,
    FetchingKeys,
    New,
    Pending,
    Polling,
    Refused,
    SigningAuthentication,
    SigningPoll,
)
from tests.jwt_samples import opened
from tests.samples import (
    ACKNOWLEDGEMENT,
    AUTH_REQ_ID,
    CLIENT,
    JWKS,
    NOW,
    PROVIDER,
    REQUEST,
    SHARED,
    TOKENS,
    answer,
    awaiting,
    awaiting_keys,
    fail,
    fetching,
    fire,
    pending,
    pending_state,
    polling,
    polling_state,
    reply,
    sent,
)

from .test_states import ENDED, STATES

PENDING = reply(400, {"error": "authorization_pending"})
SLOW = reply(400, {"error": "slow_down"})
NEW = Transaction(client=CLIENT, provider=PROVIDER)
HOUR = 3600.0
ASKED = Requested(scope="openid email example-scope")


def begin(client: ClientConfig = CLIENT, request: AuthenticationRequest = REQUEST, now: float = NOW) -> Step:
    return step(Transaction(client=client, provider=PROVIDER), Begin(request), now)


# ---- the requests


@attrs.frozen
class Assertion:
    """A method of a test: the assertions of the standard's examples, one for each endpoint."""

    method = "private_key_jwt"
    signing_alg = None
    mutual_tls = False
    seen: list[CredentialsContext] = attrs.field(factory=list[CredentialsContext])

    def credentials(self, context: CredentialsContext, /) -> Credentials:
        self.seen.append(context)
        return Credentials(
            parameters=(
                ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
                ("client_assertion", f"eyJ.{len(self.seen)}.sig"),
            )
        )


ASSERTED = "client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion=eyJ."


def test_authentication_request() -> None:
    """VEC-CORE-02, CIBA-7.1-01, HTTP-01: a POST to the backchannel authentication endpoint, in every detail."""
    request = sent(begin())
    assert request.id == 1
    assert request.purpose is Purpose.AUTHENTICATION
    assert request.method == "POST"
    assert request.url == "https://server.example.com/bc-authorize"
    assert request.headers == (
        ("Accept", "application/json"),
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Authorization", "Basic czZCaGRSa3F0Mzo3RmpmcDBaQnIxS3REUmJuZlZkbUl3"),
    )
    assert request.body == (
        b"scope=openid+email+example-scope&binding_message=W4SCT&login_hint=janedoe%40example.com"
    )
    assert (request.connect_timeout, request.timeout, request.response_limit) == (10, 40, 1 << 20)


def test_token_request() -> None:
    """VEC-CORE-05, CIBA-10.1-01, -02: a POST to the token endpoint with grant type, identifier and credentials."""
    client = attrs.evolve(CLIENT, authentication=Assertion())
    request = sent(fire(pending(client=client)))
    assert request.id == 2
    assert request.purpose is Purpose.TOKEN
    assert request.method == "POST"
    assert request.url == "https://server.example.com/token"
    assert request.headers == sent(begin(client)).headers[:2]
    assert request.body.decode() == (
        "grant_type=urn%3Aopenid%3Aparams%3Agrant-type%3Aciba"
        f"&auth_req_id=1c266114-a1be-4252-8ad1-04986c5b9ac1&{ASSERTED}2.sig"
    )


def test_configuration_reaches_the_requests() -> None:
    """CIBA-10.1-08: time-outs and limits are those of the configuration."""
    client = attrs.evolve(CLIENT, connect_timeout=1, timeout=2, limits=Limits(body=3000))
    for request in (sent(begin(client)), sent(fire(pending(client=client)))):
        assert (request.connect_timeout, request.timeout, request.response_limit) == (1, 2, 3000)


def test_an_unusual_identifier_is_form_encoded() -> None:
    """CIBA-7.3-11: what is in an identifier cannot change the request."""
    tx = pending({**ACKNOWLEDGEMENT, "auth_req_id": "a&b=c d+é"})
    assert sent(fire(tx)).body.endswith(b"&auth_req_id=a%26b%3Dc+d%2B%C3%A9")


def test_query_of_a_published_url_is_kept() -> None:
    """CIBA-7.1-32, HTTP-02: parameters go into the body, the URL stays as published."""
    provider = attrs.evolve(
        PROVIDER,
        backchannel_authentication_endpoint="https://server.example.com/bc?tenant=a",
        token_endpoint="https://server.example.com/token?tenant=b",
    )
    first = step(Transaction(client=CLIENT, provider=provider), Begin(REQUEST), NOW)
    assert sent(first).url == "https://server.example.com/bc?tenant=a"
    tx = answer(first.transaction, reply(200, ACKNOWLEDGEMENT)).transaction
    assert sent(fire(tx)).url == "https://server.example.com/token?tenant=b"


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        (ClientSecretPost("a b"), b"&client_id=s6BhdRkqt3&client_secret=a+b"),
        (NoClientAuthentication(), b"&client_id=s6BhdRkqt3"),
    ],
)
def test_one_method_at_both_endpoints(method: Any, parameters: bytes) -> None:
    """AUTH-01, -02, -13, CIBA-7.1-28: the same method everywhere, and only one."""
    client = attrs.evolve(CLIENT, authentication=method)
    for request in (sent(begin(client)), sent(fire(pending(client=client)))):
        assert request.body.endswith(parameters)
        assert request.body.count(b"client_id=") == 1
        assert [name for name, _ in request.headers] == ["Accept", "Content-Type"]


def test_credentials_are_made_anew_for_each_request() -> None:
    """CIBA-10.1-03: each poll has credentials of its own, made for its endpoint and its time."""
    method = Assertion()
    client = attrs.evolve(CLIENT, authentication=method)
    tx = pending(client=client)
    bodies: list[bytes] = []
    for _ in range(3):
        polled = fire(tx)
        bodies.append(sent(polled).body)
        tx = answer(polled.transaction, PENDING, now=polled.transaction.polls + NOW).transaction
    assert [body.rpartition(b"eyJ.")[2] for body in bodies] == [b"2.sig", b"3.sig", b"4.sig"]
    assert [(context.endpoint_url, context.now - NOW) for context in method.seen] == [
        ("https://server.example.com/bc-authorize", 0),
        *(("https://server.example.com/token", seconds) for seconds in (2, 3, 4)),
    ]
    for context in method.seen:
        assert (context.client_id, context.issuer) == ("s6BhdRkqt3", "https://server.example.com")
        assert context.entropy is client.entropy


def test_what_the_provider_cannot_do_is_not_sent() -> None:
    """OPM-07: the metadata is looked at before anything is sent; the transaction can be used again."""
    provider = attrs.evolve(PROVIDER, backchannel_token_delivery_modes_supported=["push"])
    tx = Transaction(client=CLIENT, provider=provider)
    with pytest.raises(LocalProtocolError, match="backchannel_token_delivery_mode"):
        step(tx, Begin(REQUEST), NOW)
    assert tx == Transaction(client=CLIENT, provider=provider)


# ---- from the beginning to the end


def test_the_whole_way() -> None:
    """SM-01, -02, -06, -07, -08, -13: request, acknowledgement, pending, slower, tokens; every value on the way."""
    first = begin()
    assert first.events == (AuthenticationRequestSent(ASKED),)
    assert first.transaction.state == AwaitingAcknowledgement(ASKED)
    assert (first.transaction.requests, first.transaction.polls) == (1, 0)

    second = answer(first.transaction, reply(200, ACKNOWLEDGEMENT))
    assert second.request is None
    assert second.events == (AuthReqIdIssued(Secret(AUTH_REQ_ID), NOW + 120, 2.0, NOW + 2),)
    assert second.transaction.deadline == NOW + 2

    third = fire(second.transaction)
    assert third.events == (PollSent(1),)
    assert third.transaction.deadline is None
    assert (third.transaction.requests, third.transaction.polls) == (2, 1)

    fourth = answer(third.transaction, PENDING, elapsed=0.5, now=NOW + 2.5)
    assert fourth.events == (AuthorizationPending(2.0, NOW + 4.5, 0, False),)
    fifth = answer(fire(fourth.transaction).transaction, SLOW, elapsed=0.5, now=NOW + 5)
    assert fifth.events == (SlowDown(7.0, NOW + 12, 0, False),)

    sixth = fire(fifth.transaction)
    assert sixth.events == (PollSent(3),)
    assert sent(sixth).id == 4
    last = answer(sixth.transaction, reply(200, TOKENS), now=NOW + 13)
    assert isinstance(last.transaction.state, Authenticated)
    tokens = last.transaction.tokens
    assert tokens is not None
    assert last.events == (TokensIssued(tokens),)
    assert tokens.id_token_claims == opened(str(TOKENS["id_token"]))[1]
    assert (tokens.scope, tokens.expires_at) == ("openid email example-scope", NOW + 133)
    assert last.request is None
    assert last.transaction.error is None
    assert last.transaction.is_finished


def test_slow_down_stays_and_adds_up() -> None:
    """CIBA-11-02: each ``slow_down`` adds 5 s for good; pending, faults and time-outs take nothing back."""
    tx = pending()
    intervals: list[float] = []
    for response in (SLOW, PENDING, SLOW, reply(503), PENDING, reply(500), SLOW, PENDING):
        tx = answer(fire(tx).transaction, response).transaction
        intervals.append(pending_state(tx).interval)
    tx = fail(fire(tx).transaction).transaction
    assert [*intervals, pending_state(tx).interval] == [7, 7, 12, 12, 12, 12, 17, 17, 17]


@pytest.mark.parametrize("openid", [True, False])
def test_id_token_is_expected_with_openid_only(openid: bool) -> None:
    """TOK-03, CIBA-7.1-06: whoever opted out of ``openid`` gets tokens without an ID Token."""
    request = AuthenticationRequest(scope="openid" if openid else "email", login_hint="x", openid=openid)
    tx = answer(awaiting(request), reply(200, ACKNOWLEDGEMENT)).transaction
    tx = answer(fire(tx).transaction, reply(200, {"access_token": "a", "token_type": "Bearer"})).transaction
    assert isinstance(tx.state, Failed if openid else Authenticated)


def test_deviations_are_told_with_the_acknowledgement() -> None:
    """CIBA-7.3-09, -11: a rule that was bent shows as an event of its own and changes nothing."""
    got = answer(awaiting(), reply(200, {"auth_req_id": "~", "expires_in": 60, "interval": 0}))
    assert [type(event) for event in got.events] == [AuthReqIdIssued, ProviderDeviation, ProviderDeviation]
    assert isinstance(got.transaction.state, Pending)


@pytest.mark.parametrize(
    ("current", "state", "error", "event"),
    [
        (answer(awaiting(), reply(403, {"error": "access_denied"})), Refused, AuthenticationRequestDenied, AuthenticationRefused),
        (answer(awaiting(), reply(200, {})), Failed, RemoteProtocolError, AuthenticationRequestFailed),
        (answer(awaiting(), reply(503)), Failed, ProviderUnavailable, AuthenticationRequestFailed),
        (fail(awaiting(), Delivery.NOT_SENT), Failed, RequestNotSent, AuthenticationRequestFailed),
        (fail(awaiting(), Delivery.UNKNOWN), Failed, AcknowledgementLost, AuthenticationRequestFailed),
        (step(awaiting(), Resumed(), NOW), Failed, AcknowledgementLost, AuthenticationRequestFailed),
        (answer(polling(), reply(400, {"error": "access_denied"})), Denied, AccessDenied, UserDenied),
        (answer(polling(), reply(400, {"error": "expired_token"})), Expired, ExpiredToken, AuthReqIdExpired),
        (answer(polling(), reply(400, {"error": "invalid_grant"})), Failed, InvalidGrant, TokenRequestFailed),
        (answer(polling(), reply(404, TOKENS)), Failed, TokensRejected, TokensUntrusted),
        (step(polling(), Cancel(), NOW), Cancelled, AuthenticationCancelled, CancelRequested),
    ],
)  # fmt: skip
def test_ends(current: Step, state: type[Any], error: type[CibaError], event: type[Event]) -> None:
    """SM-03, -04, -14..17, -22, CIBA-13-17: each end has its state, error and event, and sends nothing."""
    assert type(current.transaction.state) is state
    assert type(current.transaction.error) is error
    assert [type(found) for found in current.events] == [event]
    assert current.request is None
    assert current.transaction.is_finished
    assert current.transaction.deadline is None
    assert current.transaction.tokens is None


@pytest.mark.parametrize(
    ("delivery", "message"),
    [
        (Delivery.NOT_SENT, "the authentication request could not be sent (ReadTimeout)"),
        (Delivery.UNKNOWN, "the acknowledgement was lost; the user may have been asked (ReadTimeout)"),
    ],
)
def test_failure_says_whether_the_user_may_have_been_asked(delivery: Delivery, message: str) -> None:
    """CIBA-13-17: an unknown outcome is told apart from a request that never left."""
    assert str(fail(awaiting(), delivery).transaction.error) == message


# ---- every state, every input

INPUTS: dict[str, Callable[[Transaction], Input]] = {
    "begin": lambda _: Begin(REQUEST),
    "tokens": lambda tx: ResponseReceived(tx.requests, reply(200, TOKENS), 1.0),
    "acknowledgement": lambda tx: ResponseReceived(tx.requests, reply(200, ACKNOWLEDGEMENT), 1.0),
    "pending": lambda tx: ResponseReceived(tx.requests, PENDING, 1.0),
    "garbage": lambda tx: ResponseReceived(tx.requests, reply(404, b"\xff\xfe"), math.inf),
    "busy": lambda tx: ResponseReceived(tx.requests, reply(503), 0.0),
    "old answer": lambda tx: ResponseReceived(tx.requests - 1, reply(200, TOKENS), 1.0),
    "future answer": lambda tx: ResponseReceived(tx.requests + 1, reply(200, TOKENS), 1.0),
    "backwards": lambda tx: ResponseReceived(tx.requests, reply(200, TOKENS), -0.1),
    "no time": lambda tx: ResponseReceived(tx.requests, reply(200, TOKENS), math.nan),
    "not sent": lambda tx: RequestFailed(tx.requests, Delivery.NOT_SENT, "ConnectTimeout", 1.0),
    "unknown": lambda tx: RequestFailed(tx.requests, Delivery.UNKNOWN, "ReadTimeout", 1.0),
    "old failure": lambda tx: RequestFailed(tx.requests - 1, Delivery.UNKNOWN, "ReadTimeout", 1.0),
    "future failure": lambda tx: RequestFailed(tx.requests + 1, Delivery.UNKNOWN, "ReadTimeout", 1.0),
    "failure backwards": lambda tx: RequestFailed(tx.requests, Delivery.UNKNOWN, "ReadTimeout", -0.1),
    "timer": lambda tx: TimerFired(NOW if tx.deadline is None else tx.deadline),
    "other timer": lambda _: TimerFired(NOW + 1e6),
    "timer of nothing": lambda _: TimerFired(math.nan),
    "keys": lambda tx: ResponseReceived(tx.requests, reply(200, JWKS), 1.0),
    "no keys": lambda tx: ResponseReceived(tx.requests, reply(200, {"keys": []}), 1.0),
    "signed": lambda tx: SignaturesMade(tx.requests, (b"s" * 64,)),
    "too many signatures": lambda tx: SignaturesMade(tx.requests, (b"s" * 64,) * 2),
    "signature in DER": lambda tx: SignaturesMade(tx.requests, (b"s" * 70,)),
    "old signature": lambda tx: SignaturesMade(tx.requests - 1, (b"s" * 64,)),
    "signing failed": lambda tx: SigningFailed(tx.requests, "the HSM is busy"),
    "future signature": lambda tx: SignaturesMade(tx.requests + 1, (b"s" * 64,)),
    "future signing failed": lambda tx: SigningFailed(tx.requests + 1, "the HSM is busy"),
    "old signing failed": lambda tx: SigningFailed(tx.requests - 1, "the HSM is busy"),
    "resumed": lambda _: Resumed(),
    "cancel": lambda _: Cancel(),
}
MISUSE = {
    "future answer",
    "backwards",
    "no time",
    "future failure",
    "failure backwards",
    "future signature",
    "future signing failed",
}
SIGNING_MISUSE = {"too many signatures"}


def names_nothing(given: Input) -> bool:
    """Whether an input names a request or a draft by a number that none can have."""
    match given:
        case ResponseReceived() | RequestFailed():
            return given.request_id < 1
        case SignaturesMade() | SigningFailed():
            return given.draft_id < 1
        case _:
            return False


MOVES: dict[type[Any], dict[str, type[Any]]] = {
    New: {"begin": AwaitingAcknowledgement, "cancel": Cancelled},
    SigningAuthentication: {
        "signed": AwaitingAcknowledgement,
        "signature in DER": Failed,
        "signing failed": Failed,
        "resumed": Failed,
        "cancel": Cancelled,
    },
    AwaitingAcknowledgement: {
        "tokens": Failed,
        "acknowledgement": Pending,
        "pending": Refused,
        "garbage": Failed,
        "busy": Failed,
        "keys": Failed,
        "no keys": Failed,
        "not sent": Failed,
        "unknown": Failed,
        "resumed": Failed,
        "cancel": Cancelled,
    },
    AwaitingCallback: {"timer": Failed, "cancel": Cancelled},
    Pending: {"timer": Polling, "cancel": Cancelled},
    SigningPoll: {
        "signed": Polling,
        "signature in DER": Pending,
        "signing failed": Pending,
        "timer": Expired,
        "resumed": Pending,
        "cancel": Cancelled,
    },
    Polling: {
        "tokens": Authenticated,
        "acknowledgement": Pending,
        "pending": Pending,
        "garbage": Pending,
        "busy": Pending,
        "keys": Pending,
        "no keys": Pending,
        "not sent": Pending,
        "unknown": Pending,
        "resumed": Pending,
        "cancel": Cancelled,
    },
    FetchingKeys: {
        "keys": Authenticated,
        "no keys": Failed,
        **dict.fromkeys(
            ("tokens", "acknowledgement", "pending", "busy", "not sent", "unknown", "resumed"),
            AwaitingKeys,
        ),
        # It took so long that no time is left.
        "garbage": Failed,
        "cancel": Cancelled,
    },
    AwaitingKeys: {"timer": FetchingKeys, "cancel": Cancelled},
}
SENDING = (AwaitingAcknowledgement, Polling, FetchingKeys)


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("state", STATES, ids=lambda state: type(state).__name__)
def test_every_input_in_every_state(state: Any, name: str) -> None:
    """Promise 2, SM-23, -24: a move of the table, LocalProtocolError for misuse, or nothing at all."""
    fresh = state == New()
    requests = 0 if fresh else 3
    tx = Transaction(client=CLIENT, provider=PROVIDER, state=state, requests=requests, polls=requests)
    given = INPUTS[name](tx)
    signing = isinstance(state, (SigningAuthentication, SigningPoll))
    if (
        name in MISUSE
        or names_nothing(given)
        or (name == "begin" and not fresh)
        or (name in SIGNING_MISUSE and signing)
    ):
        with pytest.raises(LocalProtocolError):
            step(tx, given, NOW, SHARED)
        return
    # Keys that are there already would do.
    shared = NOTHING_SHARED if isinstance(state, (FetchingKeys, AwaitingKeys)) else SHARED
    found = step(tx, given, NOW, shared)
    assert found.shared is shared or name in ("keys", "no keys")
    assert found.draft is None
    target = next((row.get(name) for kind, row in MOVES.items() if isinstance(state, kind)), None)
    if target is None:
        assert found == Step(tx, shared=shared)
        assert found.transaction is tx
    else:
        assert type(found.transaction.state) is target
        assert found.events
        assert (found.request is not None) == (target in SENDING)
        assert found.transaction.requests == requests + (found.request is not None)


@pytest.mark.parametrize("now", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", INPUTS)
def test_time_has_to_be_a_number(name: str, now: float) -> None:
    """Misuse: without a time nothing can be decided."""
    tx = pending()
    with pytest.raises(LocalProtocolError, match="now must be a finite number"):
        step(tx, INPUTS[name](tx), now)


@pytest.mark.parametrize("now", [-1e300, -1.0, 0, 1e12, 1e300])
@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize(
    "tx",
    [NEW, awaiting(), pending(), polling(), fetching(), awaiting_keys()],
    ids=lambda tx: type(tx.state).__name__,
)
def test_absurd_times_are_survived(tx: Transaction, name: str, now: float) -> None:
    """A clock that is far off leads to documented results only, dates in headers included."""
    given = INPUTS[name](tx)
    if isinstance(given, ResponseReceived):
        headers = [*given.response.headers, ("Retry-After", "Sunday, 06-Nov-94 08:49:37 GMT")]
        given = attrs.evolve(given, response=attrs.evolve(given.response, headers=headers))
    try:
        found = step(tx, given, now)
    except LocalProtocolError:
        assert name in MISUSE or name == "begin" or names_nothing(given)
    else:
        assert isinstance(found, Step)


@pytest.mark.parametrize(
    ("kind", "arguments", "name"),
    [
        (Begin, ("openid",), "request"),
        (RequestFailed, (2, "unknown", "ReadTimeout", 0.0), "delivery"),
        (ResponseReceived, (2, None, 0.0), "response"),
        (NotificationReceived, ({"auth_req_id": "x"},), "notification"),
    ],
)
def test_inputs_of_the_wrong_type(kind: Any, arguments: tuple[Any, ...], name: str) -> None:
    """Misuse: found where the input is made, before a fault is taken for another (`answer_lost`)."""
    with pytest.raises(TypeError, match=f"^{name} must be "):
        kind(*arguments)


def test_properties_that_some_states_have() -> None:
    """What embedders need to know of a transaction does not take a look into its state."""
    for state in STATES:
        tx = Transaction(client=CLIENT, provider=PROVIDER, state=state)
        assert tx.auth_req_id == getattr(state, "auth_req_id", None)
        end = "give_up_at" if isinstance(state, AwaitingCallback) else "expires_at"
        assert tx.expires_at == getattr(state, end, None)
    assert pending().auth_req_id == Secret(AUTH_REQ_ID)
    assert polling().expires_at == NOW + 120


# ---- late and stray


def test_an_answer_that_comes_twice_counts_once() -> None:
    """Promise 2: the second copy of an answer changes nothing."""
    first = awaiting()
    tx = answer(first, reply(200, ACKNOWLEDGEMENT)).transaction
    assert answer(tx, reply(200, ACKNOWLEDGEMENT)) == Step(tx, shared=SHARED)
    assert fail(tx) == Step(tx)


def test_an_answer_to_an_older_request_is_ignored() -> None:
    """CIBA-10.1-06: an answer to the poll before is not taken for one to the poll under way."""
    tx = fire(fail(polling()).transaction).transaction
    late = ResponseReceived(tx.requests - 1, reply(200, TOKENS), 1.0)
    assert step(tx, late, NOW) == Step(tx)
    assert isinstance(answer(tx, reply(200, TOKENS)).transaction.state, Authenticated)


def test_a_timer_that_fires_twice_polls_once() -> None:
    """CIBA-10.1-06: there is never a second poll beside the first."""
    tx = pending()
    deadline = tx.deadline
    assert deadline is not None
    polled = step(tx, TimerFired(deadline), NOW + 2).transaction
    assert step(polled, TimerFired(deadline), NOW + 2) == Step(polled)
    again = answer(polled, PENDING, now=NOW + 2).transaction
    assert step(again, TimerFired(deadline), NOW + 100) == Step(again)


def test_an_answer_after_cancelling_is_ignored() -> None:
    """SM-22: the application gave up; tokens that come now are not taken."""
    tx = step(polling(), Cancel(), NOW).transaction
    assert answer(tx, reply(200, TOKENS)) == Step(tx, shared=SHARED)
    assert step(tx, Cancel(), NOW) == Step(tx)


def test_a_request_is_begun_once() -> None:
    """Promise 3: the library never sends the authentication request a second time."""
    for tx in (awaiting(), pending(), polling(), fail(awaiting(), Delivery.NOT_SENT).transaction):
        with pytest.raises(LocalProtocolError, match="sent already"):
            step(tx, Begin(REQUEST), NOW)


# ---- expiry


def test_expiry_comes_at_the_instant() -> None:
    """CIBA-10.1-20, SM-21: no poll at or after the deadline; one just before it is sent."""
    state = attrs.evolve(pending_state(pending()), expires_at=NOW + 10, next_poll_at=NOW + 9)
    tx = attrs.evolve(pending(), state=state)
    assert isinstance(fire(tx, now=NOW + 9.999).transaction.state, Polling)
    for now in (NOW + 10, NOW + 11):
        expired = fire(tx, now=now)
        assert expired.request is None
        assert type(expired.transaction.error) is AuthenticationExpired
        assert [type(event) for event in expired.events] == [AuthReqIdExpired]


@pytest.mark.parametrize(("expires_in", "state"), [(1, Expired), (2, Expired), (3, Polling)])
def test_deadline_is_poll_or_expiry(expires_in: int, state: type[Any]) -> None:
    """CIBA-10.1-20: whichever comes first is waited for; at the same instant it is over."""
    tx = pending({**ACKNOWLEDGEMENT, "expires_in": expires_in})
    assert tx.deadline == NOW + min(expires_in, 2)
    assert type(fire(tx).transaction.state) is state


def test_an_answer_to_a_poll_from_before_the_deadline_counts() -> None:
    """CIBA-10.1-20: tokens that come late are still tokens; a late "pending" leads to the end."""
    tx = polling()
    assert isinstance(answer(tx, reply(200, TOKENS), now=NOW + 500).transaction.state, Authenticated)
    late = answer(tx, PENDING, now=NOW + 500).transaction
    assert late.deadline == NOW + 120
    assert isinstance(fire(late, now=NOW + 500).transaction.state, Expired)


def test_retry_after_beyond_the_end() -> None:
    """CIBA-10.1-11: a provider that asks for more time than it grants is not polled again."""
    tx = answer(polling(), reply(503, b"", ("Retry-After", "9999999999"))).transaction
    assert tx.deadline == NOW + 120
    assert isinstance(fire(tx).transaction.state, Expired)


# ---- a wall clock that is set


@pytest.mark.parametrize(
    ("response", "jump", "wait"),
    [
        *((PENDING, jump, 2) for jump in (-HOUR, HOUR)),
        *((SLOW, jump, 7) for jump in (-HOUR, HOUR)),
        *((reply(503, b"", ("Retry-After", "30")), jump, 30) for jump in (-HOUR, HOUR)),
        (reply(503), -HOUR, 2),
        # Past the expiry nothing is backed off for; the interval is kept all the same.
        (reply(503), HOUR, 2),
    ],
)
def test_clock_is_set_during_an_exchange(response: Any, jump: float, wait: float) -> None:
    """Promise 1: the wait counts from the answer by a monotonic measure, whatever the wall clock says."""
    tx = polling()
    now = NOW + 2.5 + jump
    after = answer(tx, response, elapsed=0.5, now=now).transaction
    assert pending_state(after).next_poll_at == now + wait
    assert pending_state(after).expires_at == NOW + 120


@pytest.mark.parametrize("jump", [-HOUR, -1.0, -0.001, 0.0, 60.0])
def test_timer_is_trusted_for_the_wait(jump: float) -> None:
    """Promise 1: a timer that fired is over; a clock that was set back does not make it wait again."""
    tx = pending()
    polled = fire(tx, now=NOW + 2 + jump)
    assert isinstance(polled.transaction.state, Polling)


def test_clock_set_back_does_not_stall() -> None:
    """Promise 1: after a step back by an hour polls go on at the interval, from the clock as it is now."""
    tx = fire(pending(), now=NOW - HOUR).transaction
    tx = answer(tx, PENDING, now=NOW - HOUR).transaction
    assert tx.deadline == NOW - HOUR + 2
    assert isinstance(fire(tx).transaction.state, Polling)


def test_clock_set_forward_ends_it_by_the_absolute_expiry() -> None:
    """CIBA-7.4-04: expiry is an instant; a clock beyond it ends the authentication, without a poll."""
    found = fire(pending(), now=NOW + HOUR)
    assert found.request is None
    assert isinstance(found.transaction.state, Expired)


def test_clock_set_forward_during_an_exchange() -> None:
    """CIBA-10.1-20: the answer counts; the next deadline has passed and is due at once."""
    tx = answer(polling(), PENDING, now=NOW + HOUR).transaction
    assert tx.deadline == NOW + 120
    assert isinstance(fire(tx, now=NOW + HOUR).transaction.state, Expired)


def test_expiry_that_was_waited_for_is_over() -> None:
    """CIBA-7.4-04: when the wait for the expiry is over, so is the authentication, whatever the clock says."""
    tx = pending({**ACKNOWLEDGEMENT, "expires_in": 1})
    assert isinstance(fire(tx, now=NOW - HOUR).transaction.state, Expired)


def test_tokens_expire_by_the_clock_of_their_answer() -> None:
    """TOK-05: the lifetime counts from the arrival, by the wall clock of that moment."""
    tokens = answer(polling(), reply(200, TOKENS), now=NOW + HOUR).transaction.tokens
    assert tokens is not None
    assert tokens.expires_at == NOW + HOUR + 120


# ---- faults and losses


@pytest.mark.parametrize(("delivery", "lost"), [(Delivery.NOT_SENT, False), (Delivery.UNKNOWN, True)])
def test_a_poll_that_failed(delivery: Delivery, lost: bool) -> None:
    """CIBA-10.1-12, -13, SM-10: a network fault is survived; whether tokens may be lost is remembered."""
    found = fail(polling(), delivery, elapsed=10)
    assert found.events == (PollFailed(2.0, NOW + 2, 1, lost, "ReadTimeout"),)
    assert pending_state(found.transaction).answer_lost is lost


def test_faults_count_until_an_answer_comes() -> None:
    """CIBA-10.1-13: any answer of the provider itself ends a run of faults."""
    tx = fail(fire(fail(polling()).transaction).transaction).transaction
    assert (pending_state(tx).faults, pending_state(tx).answer_lost) == (2, True)
    again = fire(tx).transaction
    assert polling_state(again).faults == 2
    tx = answer(again, PENDING).transaction
    assert (pending_state(tx).faults, pending_state(tx).answer_lost) == (0, False)


def test_tokens_lost_and_reported() -> None:
    """Promise 4, CIBA-10.1.1-05: ``invalid_grant`` after a lost answer, also when faults lie in between."""
    tx = fire(fail(polling()).transaction).transaction
    tx = fire(fail(tx, Delivery.NOT_SENT).transaction).transaction
    assert type(answer(tx, reply(400, {"error": "invalid_grant"})).transaction.error) is TokenResponseLost


def test_after_pending_nothing_is_lost() -> None:
    """CIBA-11-05: whoever was pending after the fault cannot have had tokens before."""
    tx = fire(answer(fire(fail(polling()).transaction).transaction, PENDING).transaction).transaction
    assert type(answer(tx, reply(400, {"error": "invalid_grant"})).transaction.error) is InvalidGrant


def test_resumed_in_the_middle_of_a_poll() -> None:
    """Promise 5: a poll that was under way when the process ended is a lost answer."""
    found = step(polling(), Resumed(), NOW + 50)
    (event,) = found.events
    assert event == PollFailed(2.0, NOW + 52, 1, True, "interrupted before the answer came")
    tx = fire(found.transaction).transaction
    assert type(answer(tx, reply(400, {"error": "invalid_grant"})).transaction.error) is TokenResponseLost


def expired_after(*responses: Any) -> AuthenticationExpired:
    """Return what the end tells when the polls went so, through a snapshot each time."""
    last = polling()
    for response in responses:
        tx = last if isinstance(last.state, Polling) else fire(last).transaction
        found = fail(tx, response) if isinstance(response, Delivery) else answer(tx, response)
        last = Transaction.from_json(found.transaction.to_json(), client=tx.client, provider=tx.provider)
    error = fire(last, now=NOW + 120).transaction.error
    assert isinstance(error, AuthenticationExpired)
    return error


def test_the_end_tells_that_no_answer_came() -> None:
    """Promise 10: it is not said that the user did not decide where the provider never answered."""
    error = expired_after(reply(502), Delivery.UNKNOWN, reply(502), reply(503))
    assert error.faults == 4
    assert error.last_polls == ("ReadTimeout", "status 502", "status 503")
    assert error.push_rejected is None
    assert str(error) == ("no decision came in time; the last polls brought no answer to go by (status 503)")


def test_the_end_tells_that_the_user_did_not_decide() -> None:
    """Promise 10: faults in between are counted, and the provider's own answers are named."""
    error = expired_after(PENDING, reply(502), SLOW, PENDING)
    assert (error.faults, error.last_polls) == (
        1,
        ("status 502", "slow_down", "authorization_pending"),
    )
    assert str(error) == "the user did not decide in the time that was granted"


def test_the_provider_says_that_it_is_over() -> None:
    """Promise 10: ``expired_token`` tells how the polls before it went, too."""
    tx = fire(fail(polling()).transaction).transaction
    error = answer(tx, reply(400, {"error": "expired_token"})).transaction.error
    assert isinstance(error, ExpiredToken)
    assert (error.error, error.status, error.faults, error.last_polls) == (
        "expired_token",
        400,
        1,
        ("ReadTimeout",),
    )


def test_chance_comes_from_the_configuration() -> None:
    """Every run is the same with the same source of randomness, which is asked for 4 octets per fault."""
    asked: list[int] = []

    def entropy(count: int) -> bytes:
        asked.append(count)
        return b"\x80\0\0\0"

    tx = fail(polling(client=attrs.evolve(CLIENT, entropy=entropy))).transaction
    assert asked == [4]
    assert pending_state(tx).next_poll_at == pytest.approx(NOW + 3)


def test_safety_margin_by_default() -> None:
    """CIBA-10.1-24: without a setting half a second goes on top of the interval."""
    client = attrs.evolve(CLIENT, polling=PollingPolicy())
    tx = answer(polling(client=client), PENDING, elapsed=0.5, now=NOW).transaction
    assert pending_state(tx).next_poll_at == NOW + 2.5


# ---- the value


@pytest.mark.parametrize(
    ("tx", "finished"),
    [(NEW, False), (awaiting(), False), (pending(), False), (polling(), False)]
    + [(attrs.evolve(NEW, state=state), state in ENDED) for state in STATES],
)
def test_is_finished(tx: Transaction, finished: bool) -> None:
    """Just the terminal states are the end; either tokens or an error are there then, and never before."""
    assert tx.is_finished is finished
    assert ((tx.tokens is None) != (tx.error is None)) is finished


@pytest.mark.parametrize(("name", "value"), [("client", None), ("client", PROVIDER), ("provider", CLIENT)])
def test_arguments_of_a_transaction(name: str, value: Any) -> None:
    """A transaction is made of a configuration and metadata; anything else is refused by name."""
    arguments: dict[str, Any] = {"client": CLIENT, "provider": PROVIDER}
    with pytest.raises(TypeError, match=f"^{name} must be"):
        Transaction(**(arguments | {name: value}))


def test_steps_leave_the_old_value_alone() -> None:
    """Transactions are values: the same input on the same value gives the same result."""
    tx = polling()
    first, second = answer(tx, reply(200, TOKENS)), answer(tx, reply(200, TOKENS))
    assert first == second
    assert tx == polling()
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        tx.polls = 5  # type: ignore[misc]


def test_a_timer_for_nothing() -> None:
    """A driver without type checks may fire a timer where there is no deadline: nothing comes of it."""
    tx = Transaction(client=CLIENT, provider=PROVIDER)
    assert tx.deadline is None
    assert step(tx, TimerFired(tx.deadline), NOW) == Step(tx)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

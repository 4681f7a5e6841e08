"""The strategies, and what holds for the core whatever they come up with."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from typing import Any, Final, cast, get_args

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from ciba_core import (
    AuthenticationRequest,
    Begin,
    ClientConfig,
    ClientSecretBasic,
    Delivery,
    HttpResponse,
    ProviderMetadata,
    RequestFailed,
    ResponseReceived,
    Resumed,
    TimerFired,
    Transaction,
    step,
)
from ciba_core.client.request import Requested
from ciba_core.errors import LocalProtocolError, SnapshotError
from ciba_core.events import AnswerHeaders, NotificationIgnored, ProviderDeviation
from ciba_core.notification import NotificationRejected
from ciba_core.states import TRANSITIONS, AwaitingAcknowledgement, AwaitingCallback, Polling, State
from ciba_core.testing import AnswerDropped, Fault, SimulatedClient, SimulatedProvider, User, VirtualClock
from ciba_core.testing.strategies import (
    acknowledgements,
    authentication_requests,
    faults,
    inputs,
    token_answers,
    transactions,
    users,
)
from ciba_core.transaction.decoding import decode_acknowledgement, decode_token_answer
from ciba_core.values.secret import Guarded, Secret

CLIENT: Final = ClientConfig("s6BhdRkqt3", ClientSecretBasic("gX1fBat3bV"), entropy=bytes)
PROVIDER: Final = ProviderMetadata(
    issuer="https://op.example",
    token_endpoint="https://op.example/token",
    backchannel_authentication_endpoint="https://op.example/bc-authorize",
    jwks_uri="https://op.example/jwks",
)
# The same examples in every run; the longer search is for the machine tests.
DETERMINISTIC: Final = settings(
    derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
OCTETS: Final = st.builds(
    HttpResponse,
    st.integers(100, 999),
    st.lists(st.tuples(st.text(st.characters()), st.text(st.characters())), max_size=3)
    | st.just([("Content-Type", "application/json")]),
    st.binary(max_size=200),
)
NOW: Final = st.floats(allow_nan=False, allow_infinity=False)


@settings(DETERMINISTIC, max_examples=250)
@given(st.data())
def test_step_takes_any_input_in_any_state(data: st.DataObject) -> None:
    """`step` raises `LocalProtocolError` and nothing else, and takes declared transitions only (10 states)."""
    before = data.draw(transactions())
    given_input = data.draw(inputs(before))
    now = data.draw(st.floats())
    try:
        result = step(before, given_input, now)
    except LocalProtocolError:
        return
    still = (ProviderDeviation, NotificationIgnored, NotificationRejected, AnswerHeaders)
    moves = [event for event in result.events if not isinstance(event, still)]
    assert bool(moves) == (result.transaction != before)
    # One move, unless a callback that was held, or that heals a lost acknowledgement, is used in the same step.
    assert len(moves) <= 1 or isinstance(before.state, (AwaitingAcknowledgement, AwaitingCallback))
    state = type(before.state)
    for event in moves:
        state = TRANSITIONS[state, type(event)]
    assert state is type(result.transaction.state)


@pytest.mark.parametrize("state", get_args(State))
def test_every_state_is_generated(state: type[State]) -> None:
    """`transactions` comes to each state of the table."""
    search = settings(DETERMINISTIC, max_examples=5000, phases=[Phase.generate])
    find(transactions(), lambda transaction: type(transaction.state) is state, settings=search)


@settings(DETERMINISTIC, max_examples=250)
@given(acknowledgements() | token_answers() | OCTETS, NOW)
def test_any_answer_to_the_authentication_request_is_one_transition(
    response: HttpResponse, now: float
) -> None:
    """Whatever octets come back, the decoder names one declared transition (CIBA-7.3-09 to -12, CIBA-13-14)."""
    event, _ = decode_acknowledgement(response, client=CLIENT, now=now)
    assert (AwaitingAcknowledgement, type(event)) in TRANSITIONS


@settings(DETERMINISTIC, max_examples=250)
@given(acknowledgements() | token_answers() | OCTETS, st.floats(min_value=0), NOW)
def test_any_answer_to_a_poll_is_one_transition(response: HttpResponse, elapsed: float, now: float) -> None:
    """Whatever octets come back, the decoder names one declared transition (CIBA-11-11, CIBA-11-16 to -18)."""
    state = Polling(Secret("1c266114"), Requested(scope="openid"), 1.7e9, 5.0, 0, answer_lost=False)
    event = decode_token_answer(
        response, state, client=CLIENT, dpop_key=None, elapsed=elapsed, now=now, noted=[]
    )
    assert isinstance(event, Guarded) or (Polling, type(event)) in TRANSITIONS


@DETERMINISTIC
@given(transactions())
def test_snapshots_round_trip(transaction: Transaction) -> None:
    """A transaction comes back from its snapshot as it was, from one text and from two."""
    client, provider = transaction.client, transaction.provider
    text = transaction.to_json()
    assert Transaction.from_json(text, client=client, provider=provider) == transaction
    public, secrets = transaction.to_json_parts()
    assert Transaction.from_json(public, secrets=secrets, client=client, provider=provider) == transaction


JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=8), inner, max_size=2),
    max_leaves=4,
)


def damaged(draw: st.DrawFn, value: Any) -> Any:
    """Take away or replace a part of a JSON value."""
    if not isinstance(value, dict) or not value or draw(st.booleans()):
        return draw(JSON)
    members = cast("dict[str, Any]", value).copy()
    name = draw(st.sampled_from(sorted(members)))
    replaced = members.pop(name)
    return members if draw(st.booleans()) else {**members, name: damaged(draw, replaced)}


@st.composite
def damaged_snapshots(draw: st.DrawFn) -> tuple[Transaction, str]:
    transaction = draw(transactions())
    text = transaction.to_json()
    if draw(st.booleans()):
        return transaction, json.dumps(damaged(draw, json.loads(text)))
    begin = draw(st.integers(0, len(text)))
    end = draw(st.integers(begin, len(text)))
    return transaction, text[:begin] + draw(st.text(st.characters(), max_size=3)) + text[end:]


@settings(DETERMINISTIC, max_examples=300)
@given(damaged_snapshots())
def test_damaged_snapshots(case: tuple[Transaction, str]) -> None:
    """A damaged snapshot is refused with `SnapshotError`, or it is one that can be gone on with."""
    transaction, text = case
    try:
        restored = Transaction.from_json(text, client=transaction.client, provider=transaction.provider)
    except SnapshotError:
        return
    current = step(restored, Resumed(), 1.7e9).transaction
    assert (
        Transaction.from_json(current.to_json(), client=current.client, provider=current.provider) == current
    )


@DETERMINISTIC
@given(authentication_requests())
def test_authentication_requests_are_understood(request: AuthenticationRequest) -> None:
    """What the client encodes, the simulated provider decodes by code of its own (HTTP-08, CIBA-7.1-01)."""
    provider = SimulatedProvider(
        VirtualClock(), clients=[SimulatedClient("s6BhdRkqt3", "gX1fBat3bV")], require_openid=False
    )
    sent = step(Transaction(client=CLIENT, provider=PROVIDER), Begin(request), 1.7e9).request
    assert sent is not None
    provider.send(sent)
    [entry] = provider.journal
    assert entry.outcome == "unknown_user_id"


@settings(DETERMINISTIC, max_examples=100)
@given(users(), st.lists(faults(), max_size=5), st.lists(faults(), max_size=1))
def test_faults_do_no_harm(user: User, at_token: list[Fault], at_authentication: list[Fault]) -> None:
    """With any faults on the way a transaction ends in time, and no poll comes early (CIBA-10.1-04, -13)."""
    clock = VirtualClock()
    provider = SimulatedProvider(
        clock, clients=[SimulatedClient("s6BhdRkqt3", "gX1fBat3bV")], users={"alice": user}
    )
    for fault in at_authentication:
        provider.inject("backchannel_authentication", fault)
    for fault in at_token:
        provider.inject("token", fault)
    now = clock.time()
    request = AuthenticationRequest(scope="openid", login_hint="alice")
    current = step(Transaction(client=CLIENT, provider=PROVIDER), Begin(request), now)
    happened: ResponseReceived | RequestFailed | TimerFired
    while not current.transaction.is_finished:
        if current.request is None:
            assert current.transaction.deadline is not None
            clock.sleep(max(current.transaction.deadline - now, 0))
            happened = TimerFired(current.transaction.deadline)
        else:
            begun = clock.monotonic()
            number = current.request.id
            try:
                response = provider.send(current.request)
            except AnswerDropped as dropped:
                delivery = Delivery.UNKNOWN if dropped.acted else Delivery.NOT_SENT
                happened = RequestFailed(number, delivery, "dropped", clock.monotonic() - begun)
            else:
                happened = ResponseReceived(number, response, clock.monotonic() - begun)
        now = clock.time()
        current = step(current.transaction, happened, now)
    assert not any(entry.overlapping for entry in provider.journal)
    assert not any(entry.too_early for entry in provider.journal)
    assert sum(entry.endpoint == "backchannel_authentication" for entry in provider.journal) == 1


def test_hypothesis_is_needed_here_only() -> None:
    """The package does not load Hypothesis."""
    script = "import sys, ciba_core.testing; sys.exit('hypothesis' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_without_hypothesis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Hypothesis is missing, the error names the extra to install."""
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    monkeypatch.delitem(sys.modules, "ciba_core.testing.strategies")
    with pytest.raises(ImportError, match=r"pip install 'ciba-core\[testing\]'"):
        importlib.import_module("ciba_core.testing.strategies")

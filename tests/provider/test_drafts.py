"""Signed requests, and keys that only the driver can reach."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

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
    Draft,
    HttpRequest,
    PrivateKeyJwt,
    Purpose,
    RemoteSigner,
    RequestFailed,
    RequestSigning,
    ResponseReceived,
    Resumed,
    SignaturesMade,
    SigningFailed,
    Step,
    TimerFired,
    TlsClientAuth,
    Transaction,
    UnsignedJwt,
    step,
)
from ciba_core.errors import AuthenticationExpired, LocalProtocolError, RequestNotSent
from ciba_core.events import (
    AuthenticationRequestDrafted,
    AuthenticationRequestFailed,
    AuthenticationRequestSent,
    AuthReqIdExpired,
    PollDrafted,
    PollFailed,
    PollSent,
)
from ciba_core.states import (
    AwaitingAcknowledgement,
    Cancelled,
    Expired,
    Failed,
    Pending,
    Polling,
    SigningAuthentication,
    SigningPoll,
)
from tests.jwt_samples import FAPI_KEY, FAPI_SIGNER, counter, opened, verified
from tests.samples import (
    ACKNOWLEDGEMENT,
    AUTH_REQ_ID,
    CLIENT,
    NOW,
    PROVIDER,
    SHARED,
    TOKENS,
    answer,
    fire,
    reply,
    sent,
)

HSM = RemoteSigner("projects/1/keys/2", alg="ES256", kid="thrwqnuer")
"""The same key as that of `FAPI_SIGNER`, but out of reach."""
REQUEST = AuthenticationRequest(
    scope="openid payments",
    login_hint="janedoe@example.com",
    binding_message="W4SCT",
    requested_expiry=120,
    resource="https://api.example.com/",
    claims={"id_token": {"acr": None}},
    extra={"request_context": {"location": {"lat": 51.17}}},
)
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def config(**changes: Any) -> ClientConfig:
    return attrs.evolve(CLIENT, entropy=counter(), **changes)


LOCAL = config(authentication=PrivateKeyJwt(FAPI_SIGNER), request_signing=RequestSigning(FAPI_SIGNER))
REMOTE = config(authentication=PrivateKeyJwt(HSM))
BOTH = config(authentication=PrivateKeyJwt(HSM), request_signing=RequestSigning(HSM))


def begin(client: ClientConfig, request: AuthenticationRequest = REQUEST) -> Step:
    return step(Transaction(client=client, provider=PROVIDER), Begin(request), NOW, SHARED)


def form(request: HttpRequest) -> dict[str, str]:
    """The form of a request, in which nothing comes twice."""
    fields = parse_qs(request.body.decode(), strict_parsing=True)
    assert all(len(values) == 1 for values in fields.values())
    return {name: values[0] for name, values in fields.items()}


def drafted(current: Step) -> Draft:
    """The draft of a step that has one; such a step sends nothing."""
    assert current.request is None
    assert current.draft is not None
    assert len(current.events) == 1
    return current.draft


def signatures(draft: Draft) -> tuple[bytes, ...]:
    """What the HSM does."""
    return tuple(FAPI_SIGNER.sign(jwt.octets) for jwt in draft.jwts)


def signed(current: Step, *, now: float = NOW) -> Step:
    draft = drafted(current)
    return step(current.transaction, SignaturesMade(draft.id, signatures(draft)), now, SHARED)


def pending(client: ClientConfig = REMOTE) -> Transaction:
    """A transaction that was acknowledged, and whose requests are signed elsewhere."""
    return answer(signed(begin(client)).transaction, reply(200, ACKNOWLEDGEMENT)).transaction


def signing_poll(client: ClientConfig = REMOTE) -> Step:
    return fire(pending(client))


# ---- signed authentication requests


def test_nothing_but_client_authentication_beside_the_request() -> None:
    """CIBA-7.1.1-01, -04, -05: parameters are claims, and only claims; credentials are parameters, and only that."""
    fields = form(sent(begin(LOCAL)))
    assert {*fields} == {"request", "client_assertion", "client_assertion_type"}
    assert fields["client_assertion_type"] == ASSERTION
    header, claims = opened(fields["request"])
    assert verified(fields["request"], FAPI_KEY, "ES256")
    assert header["alg"] == "ES256"
    assert claims["iss"] == "s6BhdRkqt3"
    assert {name: claims[name] for name in ("scope", "login_hint", "requested_expiry", "resource")} == {
        "scope": "openid payments",
        "login_hint": "janedoe@example.com",
        "requested_expiry": 120,
        "resource": "https://api.example.com/",
    }
    assert claims["request_context"] == {"location": {"lat": 51.17}}
    assert claims["claims"] == {"id_token": {"acr": None}}
    assert claims["jti"] != opened(fields["client_assertion"])[1]["jti"]


@pytest.mark.parametrize(
    ("authentication", "beside"),
    [
        (CLIENT.authentication, set[str]()),
        (ClientSecretPost("hush"), {"client_id", "client_secret"}),
        (TlsClientAuth(), {"client_id"}),
    ],
)
def test_each_method_beside_the_request(authentication: Any, beside: set[str]) -> None:
    """CIBA-7.1.1-05, MTLS-02: client authentication stays outside of the JWT, whatever the method."""
    client = config(authentication=authentication, request_signing=RequestSigning(FAPI_SIGNER))
    assert {*form(sent(begin(client)))} == {"request"} | beside


def test_polls_are_authenticated_anew() -> None:
    """CIBA-10.1-03, AUTH-18: each poll has an assertion of its own, and no signed request."""
    tx = answer(begin(LOCAL).transaction, reply(200, ACKNOWLEDGEMENT)).transaction
    first = fire(tx)
    again = fire(answer(first.transaction, reply(400, {"error": "authorization_pending"})).transaction)
    identifiers: set[str] = set()
    for request in (sent(first), sent(again)):
        fields = form(request)
        assert {*fields} == {"grant_type", "auth_req_id", "client_assertion", "client_assertion_type"}
        identifiers.add(opened(fields["client_assertion"])[1]["jti"])
    assert len(identifiers) == 2


def test_algorithms_are_looked_at_before_anything_is_signed() -> None:
    """CIBA-7.1.1-10, OPM-03: what the provider does not list is neither signed nor sent."""
    provider = attrs.evolve(
        PROVIDER, backchannel_authentication_request_signing_alg_values_supported=("PS256",)
    )
    with pytest.raises(LocalProtocolError, match=r"^request_signing: the provider does not support ES256"):
        step(Transaction(client=BOTH, provider=provider), Begin(REQUEST), NOW)


# ---- drafts


def test_the_whole_way_with_a_remote_key() -> None:
    """Every request is drafted, signed elsewhere and sent; ids, events and states on the way."""
    first = begin(REMOTE)
    draft = drafted(first)
    assert first.events == (AuthenticationRequestDrafted(REQUEST.requested(), draft),)
    assert isinstance(first.transaction.state, SigningAuthentication)
    assert (first.transaction.requests, first.transaction.polls) == (1, 0)
    # A minute is what an assertion lives.
    assert (draft.expires_at, first.transaction.deadline) == (NOW + 60, NOW + 60)
    assert (draft.id, draft.purpose, len(draft.jwts)) == (1, Purpose.AUTHENTICATION, 1)
    assert draft.jwts[0].signer is HSM

    second = signed(first)
    assert second.events == (AuthenticationRequestSent(REQUEST.requested()),)
    assert second.draft is None
    assert second.shared is SHARED
    request = sent(second)
    assert (request.id, request.url) == (1, PROVIDER.backchannel_authentication_endpoint)
    fields = form(request)
    assert verified(fields["client_assertion"], FAPI_KEY, "ES256")
    assert fields["client_assertion_type"] == ASSERTION
    assert fields["login_hint"] == "janedoe@example.com"

    third = fire(answer(second.transaction, reply(200, ACKNOWLEDGEMENT)).transaction)
    poll = drafted(third)
    assert third.events == (PollDrafted(poll),)
    assert isinstance(third.transaction.state, SigningPoll)
    assert (poll.id, poll.purpose) == (2, Purpose.TOKEN)
    assert (third.transaction.requests, third.transaction.polls) == (2, 0)
    assert third.transaction.deadline == NOW + 2 + 60
    fourth = signed(third)
    assert fourth.events == (PollSent(1),)
    assert isinstance(fourth.transaction.state, Polling)
    assert (fourth.transaction.requests, fourth.transaction.polls) == (2, 1)
    assert form(sent(fourth))["auth_req_id"] == AUTH_REQ_ID
    assert sent(fourth).url == PROVIDER.token_endpoint
    assert answer(fourth.transaction, reply(200, TOKENS)).transaction.tokens is not None


def test_what_is_sent_is_what_a_key_at_hand_would_have_sent() -> None:
    """A remote key makes no difference on the wire, but for chance and the place of what is signed."""
    local = begin(config(authentication=PrivateKeyJwt(FAPI_SIGNER)))
    remote = signed(begin(config(authentication=PrivateKeyJwt(HSM))))
    ours, theirs = sent(local), sent(remote)
    assert attrs.evolve(ours, body=b"") == attrs.evolve(theirs, body=b"")
    ours_form, theirs_form = form(ours), form(theirs)
    mine, other = ours_form.pop("client_assertion"), theirs_form.pop("client_assertion")
    assert opened(mine) == opened(other)
    assert ours_form == theirs_form


def test_two_jwts_in_one_draft() -> None:
    """CIBA-7.1.1-01, AUTH-25: request and assertion are signed at once, each at its place."""
    first = begin(BOTH)
    draft = drafted(first)
    assert [name for name, _ in draft.unsigned] == ["request", "client_assertion"]
    assert [jwt.signer for jwt in draft.jwts] == [HSM, HSM]
    fields = form(sent(signed(first)))
    assert {*fields} == {"request", "client_assertion", "client_assertion_type"}
    assert verified(fields["request"], FAPI_KEY, "ES256")
    assert verified(fields["client_assertion"], FAPI_KEY, "ES256")
    assert opened(fields["request"])[1]["login_hint"] == "janedoe@example.com"
    assert opened(fields["client_assertion"])[1]["sub"] == "s6BhdRkqt3"


def test_a_form_of_signed_jwts_alone() -> None:
    """CIBA-7.1.1-04: with credentials in a header, the signed request is all that the form has."""
    client = config(request_signing=RequestSigning(HSM))
    first = begin(client)
    assert drafted(first).form == ""
    second = signed(first)
    assert {*form(sent(second))} == {"request"}
    # What is not signed need not wait.
    assert fire(answer(second.transaction, reply(200, ACKNOWLEDGEMENT)).transaction).request is not None


EITHER = pytest.mark.parametrize("current", [begin(REMOTE), signing_poll()], ids=["request", "poll"])


def given_up(found: Step, reason: str, *, now: float = NOW) -> None:
    """Check that a request was not sent: an end before anybody was asked, or a poll that is tried again."""
    assert (found.request, found.draft) == (None, None)
    (event,) = found.events
    error = found.transaction.error
    if isinstance(event, PollFailed):
        assert isinstance(found.transaction.state, Pending)
        assert (event.faults, event.answer_lost, event.reason) == (1, False, reason)
        assert event.next_poll_at is not None
        assert event.next_poll_at >= now + 2
    else:
        assert isinstance(found.transaction.state, Failed)
        assert isinstance(error, RequestNotSent)
        assert event == AuthenticationRequestFailed(error)
        assert (error.args, error.reason) == (("the authentication request could not be signed",), reason)
        assert (error.__cause__, error.__context__) == (None, None)


@pytest.mark.parametrize("count", [0, 2])
@EITHER
def test_signatures_of_the_wrong_number(current: Step, count: int) -> None:
    """Misuse by the driver; the transaction waits for the right ones as before."""
    draft = drafted(current)
    with pytest.raises(LocalProtocolError, match=rf"^1 signatures are needed, not {count}$"):
        step(current.transaction, SignaturesMade(draft.id, (b"s" * 64,) * count), NOW, SHARED)
    assert signed(current).request is not None


@pytest.mark.parametrize("given", [None, 64, b"s" * 64, "s" * 64])
def test_no_sequence_of_signatures(given: Any) -> None:
    """Misuse, found where the input is made."""
    with pytest.raises(TypeError, match=r"^signatures must be a tuple, not "):
        SignaturesMade(1, given)


ES256 = "a signature with ES256 has 64 octets (R and S of equal length, not DER), not"
WRONG: dict[str, tuple[Any, str]] = {
    "nothing": (None, "a signature must be bytes"),
    "text": ("s" * 64, "a signature must be bytes"),
    "empty": (b"", "a signature must not be empty"),
    "DER": (b"0" * 70, f"{ES256} 70"),
    "too short": (b"s" * 63, f"{ES256} 63"),
}


@pytest.mark.parametrize(("given", "reason"), WRONG.values(), ids=WRONG)
@EITHER
def test_what_is_no_signature(current: Step, given: Any, reason: str) -> None:
    """AUTH-27, promise 4: the key's service is at fault, once perhaps: as if it had said so itself."""
    draft = drafted(current)
    given_up(step(current.transaction, SignaturesMade(draft.id, (given,)), NOW, SHARED), reason)


class Token:
    """An HSM with a driver of the vendor's, in the process, which is at fault now and then."""

    alg = "ES256"
    kid = "thrwqnuer"

    def __init__(self, *results: Any) -> None:
        self.results = list(results)

    def sign(self, octets: bytes, /) -> Any:
        result: Any = self.results.pop(0) if self.results else FAPI_SIGNER.sign(octets)
        if isinstance(result, BaseException):
            raise result
        return result


FAULTS: dict[str, tuple[Any, str]] = {
    **WRONG,
    "raises": (RuntimeError("CKR_DEVICE_ERROR pin=1234"), "RuntimeError"),
    "raises ours": (LocalProtocolError("pin=1234"), "LocalProtocolError"),
}
del FAULTS["nothing"]


@pytest.mark.parametrize(("fault", "reason"), FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("signing", ["assertion", "request"])
def test_a_signer_in_the_process_fails(fault: Any, reason: str, signing: str) -> None:
    """Promise 4, promise 6: a fault of its own kind, and no more than the name of what was raised."""
    if signing == "request":
        client = config(
            authentication=PrivateKeyJwt(FAPI_SIGNER), request_signing=RequestSigning(Token(fault))
        )
    else:
        client = config(authentication=PrivateKeyJwt(Token(fault)))
    given_up(begin(client), reason)
    # Nothing was sent; the next one is signed.
    assert begin(client).request is not None


@pytest.mark.parametrize(("fault", "reason"), FAULTS.values(), ids=FAULTS)
def test_a_signer_in_the_process_fails_at_a_poll(fault: Any, reason: str) -> None:
    """Promise 4: the poll is tried again, with another assertion."""
    tx = pending_here(fault)
    found = fire(tx)
    assert found.shared is SHARED
    given_up(found, reason, now=NOW + 2)
    assert (found.transaction.requests, found.transaction.polls) == (1, 0)
    again = fire(found.transaction)
    assert form(sent(again))["auth_req_id"] == AUTH_REQ_ID
    assert isinstance(again.transaction.state, Polling)
    assert again.transaction.state.faults == 1


def pending_here(*results: Any) -> Transaction:
    """A transaction that was acknowledged, and whose polls are signed in the process."""
    tx = answer(begin(LOCAL).transaction, reply(200, ACKNOWLEDGEMENT)).transaction
    return attrs.evolve(tx, client=config(authentication=PrivateKeyJwt(Token(*results))))


def test_a_signer_that_is_interrupted() -> None:
    """Ctrl+C is no fault of the signer's."""
    with pytest.raises(KeyboardInterrupt):
        begin(config(authentication=PrivateKeyJwt(Token(KeyboardInterrupt()))))


def test_the_first_request_could_not_be_signed() -> None:
    """Nothing was sent, so that it can be tried again without harm."""
    found = step(begin(REMOTE).transaction, SigningFailed(1, "the HSM is busy"), NOW, SHARED)
    assert isinstance(found.transaction.state, Failed)
    error = found.transaction.error
    assert isinstance(error, RequestNotSent)
    assert found.events == (AuthenticationRequestFailed(error),)
    assert str(error) == "the authentication request could not be signed (the HSM is busy)"


def test_a_poll_could_not_be_signed() -> None:
    """A poll that was not sent is a fault like any other; no tokens can have been lost by it."""
    found = step(signing_poll().transaction, SigningFailed(2, "the HSM is busy"), NOW + 2, SHARED)
    given_up(found, "the HSM is busy", now=NOW + 2)
    again = signed(fire(found.transaction))
    assert isinstance(again.transaction.state, Polling)
    assert again.transaction.state.faults == 1


@EITHER
def test_what_is_signed_must_not_have_expired(current: Step) -> None:
    """AUTH-19, CIBA-7.1.1-13, promise 4: a JWT past its `exp` is not sent; a poll is drafted anew."""
    deadline = current.transaction.deadline
    assert deadline == drafted(current).expires_at
    assert deadline is not None
    assert signed(current, now=deadline - 0.25).request is not None
    for late in (0.0, 1.0, 50.0):
        found = signed(current, now=deadline + late)
        given_up(found, "it was signed too late", now=deadline)
    if isinstance(current.transaction.state, SigningPoll):
        again = signed(fire(found.transaction), now=NOW + 119)
        assert opened(form(sent(again))["client_assertion"])[1]["exp"] > NOW + 119


@EITHER
def test_signatures_that_never_come(current: Step) -> None:
    """AUTH-19, promise 4: when what is signed would be of no use any more, nobody waits for it."""
    deadline = current.transaction.deadline
    assert deadline is not None
    # Trusted for the wait, whatever the wall clock says by now.
    for now in (deadline, deadline + 3, NOW):
        found = fire(current.transaction, now=now)
        given_up(found, "it was not signed in time", now=now)
        draft = drafted(current)
        late = SignaturesMade(draft.id, signatures(draft))
        assert step(found.transaction, late, now, SHARED) == Step(found.transaction, shared=SHARED)
    again = stored(current.transaction)
    assert again.deadline == deadline
    given_up(fire(again), "it was not signed in time", now=deadline)


def test_the_first_of_two_jwts_to_expire_counts() -> None:
    """AUTH-19, CIBA-7.1.1-13: the draft is of no use when one of its JWTs is not."""
    for request, assertion, first in ((30, 60, 30), (300, 60, 60)):
        client = config(
            authentication=PrivateKeyJwt(HSM, lifetime=assertion),
            request_signing=RequestSigning(HSM, lifetime=request),
        )
        assert begin(client).transaction.deadline == NOW + first


def test_what_never_expires_is_waited_for() -> None:
    """A method of the embedder's own may sign what has no `exp`: a poll still ends with the authentication."""

    class Eternal:
        method = "private_key_jwt"
        signing_alg = "ES256"
        mutual_tls = False

        def credentials(self, _context: CredentialsContext, /) -> Credentials:
            return Credentials(parameters=(("client_assertion", UnsignedJwt(b"a.b", HSM)),))

    client = config(authentication=Eternal())
    first = begin(client)
    assert (drafted(first).expires_at, first.transaction.deadline) == (None, None)
    assert signed(first, now=NOW + 1e6).request is not None
    current = signing_poll(client)
    assert current.transaction.deadline == NOW + 120
    assert isinstance(fire(current.transaction).transaction.state, Expired)


@pytest.mark.parametrize("late", [119.0, 120.0, 5000.0])
@pytest.mark.parametrize("what", ["signed", "failed", "timer"])
def test_time_runs_out_while_a_poll_is_signed(late: float, what: str) -> None:
    """CIBA-7.4-04, SM-21: what comes after the end is of no use; the poll is not sent."""
    current = signing_poll(config(authentication=PrivateKeyJwt(HSM, lifetime=300)))
    draft = drafted(current)
    assert current.transaction.deadline == NOW + 120
    if what == "timer":
        late = max(late, 120.0)
        found = fire(current.transaction, now=NOW + late)
    elif what == "failed":
        found = step(current.transaction, SigningFailed(draft.id, "busy"), NOW + late, SHARED)
    else:
        found = signed(current, now=NOW + late)
    assert (found.request is not None) == (what == "signed" and late < 120)
    if late < 120:
        assert isinstance(found.transaction.state, Polling if what == "signed" else Pending)
    else:
        assert isinstance(found.transaction.state, Expired)
        error = found.transaction.error
        assert isinstance(error, AuthenticationExpired)
        assert found.events == (AuthReqIdExpired(error),)


def test_resumed_while_the_first_request_is_signed() -> None:
    """Promise 5: a draft ends with its process; nothing was sent."""
    for tx in (begin(REMOTE).transaction, stored(begin(REMOTE).transaction)):
        found = step(tx, Resumed(), NOW, SHARED).transaction
        assert isinstance(found.state, Failed)
        assert isinstance(found.error, RequestNotSent)


def stored(tx: Transaction) -> Transaction:
    """The transaction after its process has ended."""
    return Transaction.from_json(tx.to_json(), client=tx.client, provider=tx.provider)


def test_resumed_while_a_poll_is_signed() -> None:
    """Promise 5: the authentication goes on, with a new draft."""
    for tx in (signing_poll().transaction, stored(signing_poll().transaction)):
        found = step(tx, Resumed(), NOW + 50, SHARED)
        assert isinstance(found.transaction.state, Pending)
        assert not found.transaction.state.answer_lost
        assert signed(fire(found.transaction), now=NOW + 60).request is not None


@pytest.mark.parametrize("name", ["request", "poll"])
def test_signatures_for_a_draft_that_is_gone(name: str) -> None:
    """After a restart nobody knows what was signed: it is as if signing had failed."""
    tx = stored((begin(REMOTE) if name == "request" else signing_poll()).transaction)
    found = step(tx, SignaturesMade(tx.requests, (b"s" * 64,)), NOW + 2, SHARED).transaction
    assert isinstance(found.state, Failed if name == "request" else Pending)
    if name == "request":
        assert str(found.error) == "the authentication request could not be signed (the draft is gone)"


@pytest.mark.parametrize("current", [begin(REMOTE), signing_poll()], ids=["request", "poll"])
def test_stray_inputs_while_signing(current: Step) -> None:
    """Promise 2: late answers and failures of older requests, timers and other drafts change nothing."""
    tx = current.transaction
    for given in (
        ResponseReceived(tx.requests, reply(200, TOKENS), 0.0),
        RequestFailed(tx.requests, Delivery.UNKNOWN, "ReadTimeout", 0.0),
        TimerFired(NOW + 120),
        *((SignaturesMade(1, (b"s" * 64,)), SigningFailed(1, "late")) if tx.requests > 1 else ()),
    ):
        assert step(tx, given, NOW, SHARED) == Step(tx, shared=SHARED)
    with pytest.raises(LocalProtocolError, match="no draft 0 was made"):
        step(tx, SigningFailed(0, "late"), NOW)
    with pytest.raises(LocalProtocolError):
        step(tx, Begin(REQUEST), NOW)


@pytest.mark.parametrize("tx", [begin(REMOTE).transaction, pending(), signing_poll().transaction])
def test_drafts_that_were_never_made(tx: Transaction) -> None:
    """Misuse, as is an answer to a request that was never issued: a number of another transaction."""
    number = tx.requests + 1
    for given in (SignaturesMade(number, (b"s" * 64,)), SigningFailed(number, "busy")):
        with pytest.raises(LocalProtocolError, match=rf"^no draft {number} was made$"):
            step(tx, given, NOW, SHARED)


def test_signatures_count_once() -> None:
    """Promise 2: a second copy of the signatures sends no second request."""
    current = signing_poll()
    draft = drafted(current)
    once = signed(current).transaction
    given = SignaturesMade(draft.id, signatures(draft))
    assert step(once, given, NOW, SHARED) == Step(once, shared=SHARED)
    waiting = pending()
    nothing = SignaturesMade(waiting.requests, (b"s" * 64,))
    assert step(waiting, nothing, NOW, SHARED) == Step(waiting, shared=SHARED)


@pytest.mark.parametrize("current", [begin(REMOTE), signing_poll()], ids=["request", "poll"])
def test_cancel_while_signing(current: Step) -> None:
    """SM-22: signatures that come after that are not used."""
    tx = step(current.transaction, Cancel(), NOW, SHARED).transaction
    assert isinstance(tx.state, Cancelled)
    draft = drafted(current)
    given = SignaturesMade(draft.id, signatures(draft))
    assert step(tx, given, NOW, SHARED) == Step(tx, shared=SHARED)


def test_a_bound_poll_is_drafted_with_its_proof() -> None:
    """DPOP-08: the proof is made with the draft, by the key of the transaction, which is always at hand."""
    first = begin(attrs.evolve(REMOTE, dpop_bound_access_tokens=True))
    key = first.transaction.dpop_key
    assert key is not None
    second = signed(first)
    assert isinstance(second.transaction.state, AwaitingAcknowledgement)
    assert second.transaction.dpop_key is key
    current = fire(answer(second.transaction, reply(200, ACKNOWLEDGEMENT)).transaction)
    request = sent(signed(current))
    assert opened(dict(request.headers)["DPoP"])[1]["htu"] == PROVIDER.token_endpoint
    tokens = answer(
        signed(current).transaction, reply(200, {**TOKENS, "token_type": "DPoP"})
    ).transaction.tokens
    assert tokens is not None
    assert tokens.dpop_key == key

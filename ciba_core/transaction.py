"""One authentication, from the request to its end, as a value; and the one function that moves it on.

A driver holds a `Transaction`, sends the request of each `Step`, waits for `Transaction.deadline`, and tells
`step` what came of it::

    now = time.time()
    current = step(Transaction(client=client, provider=provider), Begin(request), now)
    while not current.transaction.is_finished:
        if current.request is not None:
            input = ...  # send it: ResponseReceived(...) or RequestFailed(...)
        else:
            ...  # wait `current.transaction.deadline - now` seconds
            input = TimerFired(current.transaction.deadline)
        now = time.time()
        current = step(current.transaction, input, now)

What several transactions of one provider share is not hidden in here: the client's configuration and the
provider's metadata are frozen values that the driver hands in and a transaction refers to.

`step` raises `LocalProtocolError` for misuse and for nothing else; whatever a provider sends ends up in the
state. Any other exception is a bug of this library.
"""

from __future__ import annotations

import math
from typing import Final, Self, assert_never

from attrs import field, frozen

from ciba_core import _check, snapshot
from ciba_core._form import encode, encode_pairs
from ciba_core.authentication_request import AuthenticationRequest
from ciba_core.client_auth import CredentialsContext
from ciba_core.codec import decode_acknowledgement, decode_token_answer, poll_failed
from ciba_core.config import ClientConfig
from ciba_core.errors import (
    AcknowledgementLost,
    AuthenticationExpired,
    CibaError,
    LocalProtocolError,
    RequestNotSent,
)
from ciba_core.events import (
    AuthenticationRequestFailed,
    AuthenticationRequestSent,
    AuthReqIdExpired,
    CancelRequested,
    Event,
    PollSent,
    ProviderDeviation,
    Transition,
)
from ciba_core.http import FORM_HEADERS, Delivery, HttpRequest, Purpose
from ciba_core.inputs import Begin, Cancel, Input, RequestFailed, ResponseReceived, Resumed, TimerFired
from ciba_core.metadata import CIBA_GRANT_TYPE, ProviderMetadata
from ciba_core.states import (
    Authenticated,
    AwaitingAcknowledgement,
    Cancelled,
    Denied,
    Expired,
    Failed,
    New,
    Pending,
    Polling,
    Refused,
    State,
    advance,
)
from ciba_core.token_response import TokenResponse

__all__ = ["Step", "Transaction", "step"]

_NEW: Final = New()
_TOKEN_FORM: Final = encode_pairs([("grant_type", CIBA_GRANT_TYPE), ("auth_req_id", "")])


@frozen(kw_only=True, weakref_slot=False)
class Transaction:
    """One authentication of one user. Immutable: `step` returns the next value.

    Compare, copy, store (`to_json`) and drop it freely; it holds no resource.
    """

    client: ClientConfig = field(validator=_check.a(ClientConfig), repr=False)
    provider: ProviderMetadata = field(validator=_check.a(ProviderMetadata), repr=False)
    state: State = _NEW
    requests: int = 0
    """Requests issued so far; the `id` of the last one."""
    polls: int = 0
    """Polls among them."""

    @property
    def deadline(self) -> float | None:
        """POSIX instant at which to feed `TimerFired`, or ``None`` while there is nothing to wait for.

        It may lie in the past; then there is nothing to wait for either, and the timer is due.
        """
        if isinstance(self.state, Pending):
            return min(self.state.next_poll_at, self.state.expires_at)
        return None

    @property
    def is_finished(self) -> bool:
        """Whether the transaction has come to its end, good or bad."""
        return not isinstance(self.state, (Pending, Polling, AwaitingAcknowledgement, New))

    @property
    def tokens(self) -> TokenResponse | None:
        """The tokens, once there are any."""
        return self.state.tokens if isinstance(self.state, Authenticated) else None

    @property
    def error(self) -> CibaError | None:
        """What the transaction ended with, when it ended without tokens."""
        match self.state:
            case Denied() | Expired() | Refused() | Failed() | Cancelled():
                return self.state.error
            case _:
                return None

    def to_json(self) -> str:
        """Return the transaction as a JSON object to store, secrets included.

        Store it like a password: whoever has it, and the client's credentials, can collect the tokens. See
        `to_json_parts` for a form whose secrets can be kept elsewhere.
        """
        return snapshot.join(*self.to_json_parts())

    def to_json_parts(self) -> tuple[str, str]:
        """Return the snapshot as two JSON objects: one without secrets, and one with nothing else.

        Secret are: the ``auth_req_id``, all tokens, unknown members of a token answer, and the texts that
        came with an error code. Configuration, credentials and metadata are in neither.
        """
        return snapshot.dump(
            self.state,
            client_id=self.client.client_id,
            issuer=self.provider.issuer,
            requests=self.requests,
            polls=self.polls,
        )

    @classmethod
    def from_json(
        cls, text: str, *, client: ClientConfig, provider: ProviderMetadata, secrets: str | None = None
    ) -> Self:
        """Restore a transaction; then feed `Resumed` as the first input.

        Args:
            text: what `to_json` returned, or the first of the two parts.
            client: the configuration; has to be that of the same client.
            provider: the metadata; has to be that of the same issuer.
            secrets: the second of the two parts.

        Raises:
            SnapshotError: unknown version, another client or issuer, secrets missing, or not a snapshot.

        """
        restored = snapshot.load(text, secrets, client_id=client.client_id, issuer=provider.issuer)
        return cls(
            client=client,
            provider=provider,
            state=restored.state,
            requests=restored.requests,
            polls=restored.polls,
        )


@frozen(weakref_slot=False)
class Step:
    """What came of an input."""

    transaction: Transaction
    """The next value of the transaction; the old one is of no more use."""
    events: tuple[Event, ...] = ()
    """What happened, in order; empty when the input was late or stray."""
    request: HttpRequest | None = None
    """The one request to send now, if any."""


def step(transaction: Transaction, input: Input, now: float) -> Step:  # noqa: A002  # the word of the design
    """Move a transaction on by one input.

    Args:
        transaction: the current value.
        input: what happened.
        now: the wall clock, in POSIX seconds. It goes into absolute expiry and into the times of tokens;
            waits do not depend on it.

    Raises:
        LocalProtocolError: the input is not possible here; the transaction is unchanged.

    """
    if not math.isfinite(now):
        raise LocalProtocolError("now must be a finite number of POSIX seconds")
    state = transaction.state
    match input:
        case Begin():
            return _begin(transaction, input.request, now)
        case ResponseReceived() | RequestFailed():
            if input.request_id > transaction.requests:
                raise LocalProtocolError(f"no request {input.request_id} was issued")
            if not input.elapsed >= 0:
                raise LocalProtocolError("elapsed must not be negative")
            if input.request_id == transaction.requests:
                return _answered(transaction, input, now)
        case TimerFired():
            if isinstance(state, Pending) and input.deadline == transaction.deadline:
                return _timer(transaction, state, max(now, input.deadline), now)
        case Resumed():
            lost = RequestFailed(transaction.requests, Delivery.UNKNOWN, "the process ended", elapsed=0.0)
            return _answered(transaction, lost, now)
        case Cancel():
            if not transaction.is_finished:
                return _moved(transaction, CancelRequested())
        case _:
            assert_never(input)
    # Late or stray: an answer to an older request, a timer that no longer counts, anything after the end.
    return Step(transaction)


def _moved(transaction: Transaction, event: Transition, *more: ProviderDeviation) -> Step:
    return Step(_next(transaction, event, transaction.requests, transaction.polls), (event, *more))


def _next(transaction: Transaction, event: Transition, requests: int, polls: int) -> Transaction:
    return Transaction(
        client=transaction.client,
        provider=transaction.provider,
        state=advance(transaction.state, event),
        requests=requests,
        polls=polls,
    )


def _sent(transaction: Transaction, event: Transition, *, polls: int, request: HttpRequest) -> Step:
    return Step(_next(transaction, event, request.id, polls), (event,), request)


def _begin(transaction: Transaction, request: AuthenticationRequest, now: float) -> Step:
    if not isinstance(transaction.state, New):
        raise LocalProtocolError("the authentication request was sent already; start a new transaction")
    request.check_against(transaction.client, transaction.provider)
    return _sent(
        transaction,
        AuthenticationRequestSent(request.scope),
        polls=0,
        request=_form_post(
            transaction,
            Purpose.AUTHENTICATION,
            transaction.provider.backchannel_authentication_endpoint,
            encode_pairs(request.parameters()),
            now,
        ),
    )


def _answered(transaction: Transaction, input: ResponseReceived | RequestFailed, now: float) -> Step:  # noqa: A002
    state, client = transaction.state, transaction.client
    match state:
        case AwaitingAcknowledgement():
            if isinstance(input, ResponseReceived):
                event, deviations = decode_acknowledgement(input.response, client=client, now=now)
                return _moved(transaction, event, *deviations)
            return _moved(transaction, AuthenticationRequestFailed(_not_acknowledged(input)))
        case Polling():
            if isinstance(input, ResponseReceived):
                answer = decode_token_answer(
                    input.response, state, client=client, elapsed=input.elapsed, now=now
                )
                return _moved(transaction, answer)
            return _moved(
                transaction,
                poll_failed(
                    state,
                    client=client,
                    reason=input.reason,
                    answer_lost=input.delivery is Delivery.UNKNOWN,
                    elapsed=input.elapsed,
                    now=now,
                ),
            )
        case _:
            # Nothing is in flight: the answer came twice, or after the end.
            return Step(transaction)


def _not_acknowledged(failure: RequestFailed) -> RequestNotSent | AcknowledgementLost:
    if failure.delivery is Delivery.NOT_SENT:
        return RequestNotSent("the authentication request could not be sent", reason=failure.reason)
    return AcknowledgementLost(
        "the acknowledgement was lost; the user may have been asked", reason=failure.reason
    )


def _timer(transaction: Transaction, state: Pending, reached: float, now: float) -> Step:
    if reached >= state.expires_at:
        return _moved(
            transaction,
            AuthReqIdExpired(AuthenticationExpired("the user did not decide in the time that was granted")),
        )
    number = transaction.polls + 1
    return _sent(
        transaction,
        PollSent(number),
        polls=number,
        request=_form_post(
            transaction,
            Purpose.TOKEN,
            transaction.provider.token_endpoint,
            _TOKEN_FORM + encode(state.auth_req_id.reveal()),
            now,
        ),
    )


def _form_post(transaction: Transaction, purpose: Purpose, url: str, form: str, now: float) -> HttpRequest:
    """Build an authenticated request of the form that all endpoints of the provider take (Core 7.1, 10.1)."""
    client = transaction.client
    credentials = client.authentication.credentials(
        CredentialsContext(client.client_id, transaction.provider.issuer, url, now, client.entropy)
    )
    if credentials.parameters:
        form = f"{form}&{encode_pairs(credentials.parameters)}"
    return HttpRequest(
        id=transaction.requests + 1,
        purpose=purpose,
        method="POST",
        url=url,
        headers=FORM_HEADERS + credentials.headers,
        body=form.encode("ascii"),
        connect_timeout=client.connect_timeout,
        timeout=client.timeout,
        response_limit=client.limits.body,
    )
